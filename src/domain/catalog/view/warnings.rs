//! Warns of well-formed views whose masks show more about an age than they seem to.

use super::{
    Problem, ViewColumn, ViewDefinition,
    mask::{DateOf, DateUnit, Mask, OLDEST_AGE},
};

/// Substrings that mark a name as a date of birth, in lower case.
const BIRTH: [&str; 5] = ["birth", "geburt", "naissance", "nacimiento", "nascita"];
/// Words that mark a name as a date of birth; words end at characters that are not letters and where camel case starts
/// a new one.
const BIRTH_WORDS: [&str; 4] = ["dob", "born", "bday", "geboren"];

impl ViewDefinition {
    /// Lists what is well formed but may not be intended.
    pub fn warnings(&self) -> Vec<Problem> {
        let warnings = self.columns.iter().enumerate().filter_map(|(at, column)| {
            let message = warning(column)?;
            Some(Problem { field: format!("columns[{at}].mask"), message })
        });
        warnings.collect()
    }
}

fn warning(column: &ViewColumn) -> Option<String> {
    let mask = column.mask.as_ref()?;
    if let Mask::AgeCap { cap } = mask {
        let message = format!("shows ages over {OLDEST_AGE}, which 45 CFR 164.514(b)(2)(i)(C) has aggregated");
        return (*cap > OLDEST_AGE.into()).then_some(message);
    }
    let (unit, date_of) = match mask {
        Mask::DateTrunc { unit, date_of, .. } => (*unit, *date_of),
        Mask::YearOnly { date_of, .. } => (DateUnit::Year, *date_of),
        _ => return None,
    };
    let is_named_so = is_birth(&column.name.0) || is_birth(&column.from.0);
    match (mask.oldest_age(), date_of) {
        (_, Some(DateOf::Event)) => None,
        (None, _) if !is_named_so => None,
        (_, _) if unit != DateUnit::Year => Some(
            "shows more of a date of birth than its year, which 45 CFR 164.514(b)(2)(i)(C) does not let show; cut it to \
             `year`"
                .to_owned(),
        ),
        (None, _) => Some(format!(
            "seems to be a date of birth, whose year tells ages over {OLDEST_AGE}; say `\"date_of\": \"birth\"` to have \
             them capped, or `\"date_of\": \"event\"` where it is none"
        )),
        (Some(age), _) => (age > OLDEST_AGE)
            .then(|| format!("shows ages over {OLDEST_AGE}, which 45 CFR 164.514(b)(2)(i)(C) has aggregated")),
    }
}

/// Whether a column's names say that it is a date of birth.
fn is_birth(path: &[String]) -> bool {
    let is_word = |word: &str| BIRTH_WORDS.contains(&word.to_lowercase().as_str());
    let is_birth = |name: &String| {
        let mut parts = name.split(|letter: char| !letter.is_alphabetic());
        let lower = name.to_lowercase();
        BIRTH.iter().any(|part| lower.contains(part))
            || parts.any(|part| is_word(part) || words_of(part).into_iter().any(is_word))
    };
    path.iter().any(is_birth)
}

/// Splits a name in camel case into words: `memberDOB`, `DOBDate` and `PatientDob` have two each.
fn words_of(name: &str) -> Vec<&str> {
    let letters: Vec<(usize, char)> = name.char_indices().collect();
    let begins = letters.windows(2).enumerate().filter_map(|(at, pair)| {
        let [(_, before), (place, letter)] = pair else { return None };
        let ends_capitals = || letters.get(at + 2).is_some_and(|(_, next)| next.is_lowercase());
        (letter.is_uppercase() && (!before.is_uppercase() || ends_capitals())).then_some(*place)
    });
    let mut words = Vec::new();
    let mut rest = 0;
    for begin in begins.chain([name.len()]) {
        words.push(&name[rest..begin]);
        rest = begin;
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn warned(name: &str, mask: Value) -> Option<String> {
        let definition: ViewDefinition =
            serde_json::from_value(json!({"columns": [{"name": "id"}, {"name": name, "mask": mask}]})).unwrap();
        let mut warnings = definition.warnings();
        assert!(warnings.len() <= 1 && warnings.iter().all(|warning| warning.field == "columns[1].mask"));
        warnings.pop().map(|warning| warning.message)
    }

    #[test]
    fn dates_of_birth_that_show_too_much_are_warned_about_and_dates_of_service_never() {
        let truncated = |unit: &str, date_of: Value| json!({"date_trunc": {"unit": unit, "date_of": date_of}});
        let birth = || json!("birth");
        for name in [
            "birth_date",
            "DateOfBirth",
            "member.dob",
            "born",
            "Geburtsdatum",
            "memberDOB",
            "PatientDob",
            "dobDate",
            "DOBDate",
            "bDay",
            "DOB2",
            "member_DOBValue",
        ] {
            assert!(warned(name, json!("year_only")).unwrap().contains("date_of"), "{name}");
            assert!(warned(name, truncated("year", json!(null))).unwrap().contains("date_of"), "{name}");
            assert!(warned(name, truncated("month", json!(null))).unwrap().contains("`year`"), "{name}");
            assert_eq!(warned(name, json!({"year_only": {"date_of": "birth"}})), None, "{name}");
            assert_eq!(warned(name, json!({"year_only": {"cap_age": 89}})), None, "{name}");
            assert_eq!(warned(name, json!({"year_only": {"date_of": "event"}})), None, "{name}");
            assert_eq!(warned(name, json!("redact")), None, "{name}");
        }
        for name in ["service_date", "reborn", "adobe", "stubborn_since", "Adobe", "ADOBE", "airBorne"] {
            assert_eq!(warned(name, json!("year_only")), None, "{name}");
            assert_eq!(warned(name, truncated("month", json!(null))), None, "{name}");
            for unit in ["quarter", "month", "week"] {
                assert!(warned(name, truncated(unit, birth())).unwrap().contains("`year`"), "{name} {unit}");
                assert_eq!(warned(name, truncated(unit, json!("event"))), None, "{name} {unit}");
            }
            assert_eq!(warned(name, truncated("year", birth())), None, "{name}");
        }
        assert!(warned("at", json!({"year_only": {"cap_age": 90}})).unwrap().contains("over 89"));
        assert!(warned("age", json!({"age_cap": {"cap": 90}})).unwrap().contains("over 89"));
        assert_eq!(warned("age", json!("age_cap")), None);
    }
}
