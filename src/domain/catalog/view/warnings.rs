//! Warns of well-formed views that show more than they seem to.

use super::{
    ViewColumn, ViewDefinition,
    mask::{DateOf, DateUnit, Mask, OLDEST_AGE, Scope, stricter},
    row_filter,
};

/// Something in a view that is well formed and may not be intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub code: WarningCode,
    /// The place, as a path into the request: `columns[2].mask`, `row_filter`.
    pub field: String,
    /// What is shown there, and what to do about it.
    pub message: String,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningCode {
    /// A mask shows more of an age than HIPAA's safe harbor allows.
    Age,
    /// A column that seems to identify a person directly is shown unmasked, or under a weak mask.
    DirectId,
    /// The row filter reads a column that is shown masked.
    FilterOnMasked,
}

impl WarningCode {
    /// The word that the API answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "W_AGE",
            Self::DirectId => "W_DIRECT_ID",
            Self::FilterOnMasked => "W_FILTER_ON_MASKED",
        }
    }
}

/// Substrings that mark a name as a date of birth, in lower case.
const BIRTH: [&str; 5] = ["birth", "geburt", "naissance", "nacimiento", "nascita"];
/// Words that mark a name as a date of birth; words end at characters that are not letters and where camel case starts
/// a new one.
const BIRTH_WORDS: [&str; 4] = ["dob", "born", "bday", "geboren"];

/// Words that mark a name as a direct identifier (45 CFR 164.514(b)(2)(i), except for dates, ages and parts of
/// addresses that do not lead to a door).
const IDENTIFIERS: [&str; 33] = [
    "ssn",
    "ssns",
    "socialsecurity",
    "nino",
    "mrn",
    "mrns",
    "email",
    "emails",
    "mail",
    "phone",
    "phones",
    "telephone",
    "mobile",
    "cellphone",
    "fax",
    "iban",
    "passport",
    "firstname",
    "lastname",
    "fullname",
    "surname",
    "forename",
    "maidenname",
    "middlename",
    "street",
    "ipaddress",
    "ipv4",
    "ipv6",
    "imei",
    "cvv",
    "fingerprint",
    "username",
    "vin",
];
/// Pairs of neighbouring words that mark a name in the same way.
const IDENTIFIER_PAIRS: [(&[&str], &[&str]); 6] = [
    (&["social"], &["security"]),
    (&["first", "last", "full", "middle", "maiden", "given", "family", "patient", "member", "person"], &["name"]),
    (&["member", "patient", "subscriber", "beneficiary", "insured", "insuree", "policyholder"], &NUMBER),
    (&["medical", "health", "national", "personal", "tax", "passport", "license", "licence", "driver"], &NUMBER),
    (&["card", "account", "creditcard", "certificate", "device", "vehicle"], &["number", "no", "nr", "serial"]),
    (&["ip", "mac", "postal", "home", "mailing", "email"], &["address", "addr"]),
];
/// Words for a number that names something.
const NUMBER: [&str; 6] = ["id", "ids", "number", "no", "nr", "record"];
/// Last words that make a name say something about an identifier rather than be one.
const ABOUT: [&str; 26] = [
    "type",
    "kind",
    "flag",
    "verified",
    "valid",
    "status",
    "count",
    "hash",
    "hashed",
    "domain",
    "in",
    "out",
    "at",
    "date",
    "format",
    "consent",
    "preference",
    "provider",
    "country",
    "length",
    "missing",
    "present",
    "changed",
    "enabled",
    "allowed",
    "code",
];

impl ViewDefinition {
    /// Lists what is well formed but may not be intended.
    pub fn warnings(&self) -> Vec<Warning> {
        let filtered = self.row_filter.as_deref().map(row_filter::names).unwrap_or_default();
        let mut warnings = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            let mut warn =
                |code, message| warnings.push(Warning { code, field: format!("columns[{at}].mask"), message });
            if let Some(message) = age(column) {
                warn(WarningCode::Age, message);
            }
            if let Some(message) = direct_id(column) {
                warn(WarningCode::DirectId, message);
            }
        }
        let masked = self.columns.iter().filter(|column| column.mask.is_some());
        for (column, read) in masked.filter_map(|column| {
            let read = filtered.iter().find(|read| overlap(&read.0, &column.from.0))?;
            Some((column, read))
        }) {
            let message = format!(
                "reads `{read}`, which is shown masked as `{}`: that a row is shown tells that the filter holds for its \
                 true value, and comparing what different filters or properties show narrows that down; filter by \
                 another column, or be sure that this much may be known",
                column.name
            );
            let field = "row_filter".to_owned();
            warnings.push(Warning { code: WarningCode::FilterOnMasked, field, message });
        }
        warnings
    }
}

/// Whether one path leads to the other, or both are the same.
fn overlap(one: &[String], other: &[String]) -> bool {
    one.iter().zip(other).all(|(one, other)| one == other)
}

fn age(column: &ViewColumn) -> Option<String> {
    let mask = column.mask.as_ref()?;
    if let Mask::AgeCap { cap } = mask {
        let message = format!("shows ages over {OLDEST_AGE}, which 45 CFR 164.514(b)(2)(i)(C) has aggregated");
        return (*cap > OLDEST_AGE.into()).then_some(message);
    }
    let is_named_so = is_birth(&column.name.0) || is_birth(&column.from.0);
    let (unit, date_of) = match mask {
        Mask::DateTrunc { unit, date_of, .. } => (*unit, *date_of),
        Mask::YearOnly { date_of, .. } => (DateUnit::Year, *date_of),
        Mask::Shift(shift) => {
            let days = shift.max_days;
            return is_named_so.then(|| {
                format!(
                    "shows a date of birth to within {days} days, and with it ages over {OLDEST_AGE}, which 45 CFR \
                     164.514(b)(2)(i)(C) does not let show; use `year_only` with `\"date_of\": \"birth\"`"
                )
            });
        }
        _ => return None,
    };
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

/// Warns if the source column seems to identify a person directly, and less is done about it than to hash it.
fn direct_id(column: &ViewColumn) -> Option<String> {
    let enough = Mask::Hash { domain: String::new(), per: Scope::Global };
    let mask = column.mask.as_ref();
    if !is_identifier(&column.from.0) || stricter(mask, Some(&enough)) == mask {
        return None;
    }
    let shown = match mask {
        None => "is shown as it is".to_owned(),
        Some(mask) => format!("is shown under `{}`, which leaves much of it", mask.name()),
    };
    Some(format!(
        "`{}` seems to identify a person directly and {shown}; use `surrogate`, `hash` or `redact`, or leave it out",
        column.from
    ))
}

/// Whether a column's name says that it identifies a person. Of a path, the last name counts.
fn is_identifier(path: &[String]) -> bool {
    let Some(name) = path.iter().rev().find(|name| !["element", "value"].contains(&name.as_str())) else {
        return false;
    };
    let parts = name.split(|letter: char| !letter.is_alphanumeric()).filter(|part| !part.is_empty());
    let words: Vec<String> = parts.flat_map(words_of).map(str::to_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let is_about = match words.as_slice() {
        [first, .., last] => ABOUT.contains(last) || ["is", "has"].contains(first),
        _ => false,
    };
    let is_pair = |pair: &[&str]| {
        let [one, other] = pair else { return false };
        IDENTIFIER_PAIRS.iter().any(|(first, second)| first.contains(one) && second.contains(other))
    };
    !is_about && (words.iter().any(|word| IDENTIFIERS.contains(word)) || words.windows(2).any(is_pair))
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

    fn of(definition: Value) -> Vec<Warning> {
        let definition: ViewDefinition = serde_json::from_value(definition).unwrap();
        definition.warnings()
    }

    fn warned(name: &str, mask: Value) -> Option<String> {
        let mut warnings = of(json!({"columns": [{"name": "id"}, {"name": name, "mask": mask}]}));
        warnings.retain(|warning| warning.code == WarningCode::Age);
        assert!(warnings.iter().all(|warning| warning.field == "columns[1].mask"));
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
            assert!(warned(name, json!({"shift": {"key": "id"}})).unwrap().contains("182 days"), "{name}");
            assert_eq!(warned(name, json!({"year_only": {"date_of": "birth"}})), None, "{name}");
            assert_eq!(warned(name, json!({"year_only": {"cap_age": 89}})), None, "{name}");
            assert_eq!(warned(name, json!({"year_only": {"date_of": "event"}})), None, "{name}");
            assert_eq!(warned(name, json!("redact")), None, "{name}");
        }
        for name in ["service_date", "reborn", "adobe", "stubborn_since", "Adobe", "ADOBE", "airBorne"] {
            assert_eq!(warned(name, json!("year_only")), None, "{name}");
            assert_eq!(warned(name, truncated("month", json!(null))), None, "{name}");
            assert_eq!(warned(name, json!({"shift": {"key": "id"}})), None, "{name}");
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

    #[test]
    fn direct_identifiers_are_warned_about_unless_they_are_hashed_or_hidden() {
        let warned = |from: &str, mask: Option<Value>| {
            let mut column = json!({"name": "shown", "from": from});
            if let Some(mask) = mask {
                column["mask"] = mask;
            }
            let warnings = of(json!({"columns": [{"name": "id"}, column]}));
            let found = warnings.iter().find(|warning| warning.code == WarningCode::DirectId);
            assert!(found.is_none_or(|warning| warning.field == "columns[1].mask" && warning.message.contains(from)));
            found.is_some()
        };
        for name in [
            "ssn",
            "SSN",
            "patient_ssn",
            "social_security_number",
            "email",
            "contact.Email",
            "EmailAddress",
            "home_phone",
            "mrn",
            "MedicalRecordNo",
            "member_id",
            "memberId",
            "MEMBER_ID",
            "patient_name",
            "first_name",
            "lastName",
            "ip_address",
            "ipv4",
            "iban",
            "card_number",
            "passport_no",
            "emails.element",
            "street",
            "fax",
            "tax_id",
        ] {
            assert!(warned(name, None), "{name}");
            assert!(warned(name, Some(json!({"partial": {"last": 4}}))), "{name}");
            assert!(warned(name, Some(json!({"bucket": {"bounds": [1]}}))), "{name}");
            for mask in [
                json!("null"),
                json!("redact"),
                json!({"constant": {"value": "x", "keep_nulls": true}}),
                json!({"surrogate": {"domain": "m"}}),
                json!({"hash": {"domain": "m", "per": "global"}}),
            ] {
                assert!(!warned(name, Some(mask)), "{name}");
            }
        }
        for name in [
            "id",
            "claim_id",
            "plan",
            "email_opt_in",
            "phone_type",
            "has_email",
            "is_ssn_valid",
            "zip",
            "city",
            "country",
            "provider_npi",
            "paid_amount",
            "product_name",
            "account_type",
            "street_count",
            "order_number",
            "memberships",
            "email_domain",
            "assassin",
            "faxed_at",
            "file_name",
            "card_brand",
            "member_count",
            "card.element.brand",
        ] {
            assert!(!warned(name, None), "{name}");
        }
    }

    #[test]
    fn a_filter_on_a_masked_column_is_warned_about() {
        let warned = |columns: Value, filter: &str| {
            let mut warnings = of(json!({"columns": columns, "row_filter": filter}));
            warnings.retain(|warning| warning.code == WarningCode::FilterOnMasked);
            assert!(warnings.iter().all(|warning| warning.field == "row_filter"));
            warnings.len()
        };
        let masked = json!([{"name": "k"}, {"name": "key", "from": "a.b", "mask": {"hash": {"domain": "m"}}}]);
        for filter in ["a.b = 'x'", "k = 1 AND NOT (`a`.`b` IN recipient_list('x'))", "a.b IS NULL", "1 < a.b"] {
            assert_eq!(warned(masked.clone(), filter), 1, "{filter}");
        }
        for filter in ["k = 'a.b'", "a.c = 1", "b = 1", "recipient('a') = k", "k = DATE '2020-01-01'", "k ="] {
            assert_eq!(warned(masked.clone(), filter), 0, "{filter}");
        }
        // A mask on the whole, and a filter on what is hidden or shown as it is.
        assert_eq!(warned(json!([{"name": "k"}, {"name": "a", "mask": "null"}]), "a.b = 'x' AND a.c = 1"), 1);
        assert_eq!(warned(json!([{"name": "k"}]), "a.b = 'x'"), 0);
        assert_eq!(warned(json!([{"name": "a.b"}]), "a.b = 'x'"), 0);
    }
}
