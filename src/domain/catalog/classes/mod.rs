//! Proposes what kind of data columns hold, by their names and by a sample of their values.
//!
//! Start at [`propose`]. A name is split into words and compared with phrases ([`words`]); values are matched as a whole,
//! with check digits where there are any ([`checks`]); a detector ([`detectors`]) says which share of the values has to
//! match with such a name and which without. A proposal says how it came about, and never repeats a value.
//!
//! Everything is bounded: the columns, the values of a column, and the length of a value; no check looks back. Never here:
//! where samples come from, and what becomes of proposals.

mod checks;
mod detectors;
mod people;
mod words;

use std::{borrow::Cow, collections::HashSet};

use crate::domain::catalog::column::{Class, IdentifierRole};

use self::{
    detectors::{DETECTORS, Detector, ValueTest},
    people::{Likeness, People},
    words::{Fit, NameWords},
};

/// The most columns, nested ones counted, of a table that is scanned.
pub const MOST_COLUMNS: usize = 10_000;
/// The most values of a column that are looked at.
pub const MOST_VALUES: usize = 1_000;
/// The longest value that can match, in bytes.
pub const LONGEST_VALUE: usize = 128;
/// The version of the detectors; it goes up with every change of what they find.
pub const DETECTORS_VERSION: u32 = 1;

/// The most values of all columns together.
const MOST_VALUES_IN_ALL: usize = 1_000_000;
/// The least values of a column that are looked at, however many columns there are.
const LEAST_VALUES: usize = 50;
/// With fewer values than this, a match says less.
const FEW_VALUES: usize = 5;
/// From this confidence on, a column of health data makes its table one about patients.
const SURE_OF_HEALTH: f64 = 0.7;

/// A value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A text of at most [`LONGEST_VALUE`] bytes.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A date or a time, by its year.
    Year(i32),
    /// A value that nothing matches: a longer text, a fraction, a flag, bytes.
    Opaque,
}

/// What values a column has, as far as detectors tell types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Texts.
    Text,
    /// Whole numbers.
    Whole,
    /// Numbers with a fraction.
    Fraction,
    /// Dates and times.
    Time,
    /// Flags, bytes, and types that nobody looks into.
    Opaque,
}

/// A column with some of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledColumn {
    /// The names that lead to it.
    pub path: Vec<String>,
    /// What values it has.
    pub kind: ValueKind,
    /// Values that are not null.
    pub values: Vec<Sample>,
}

/// What one detector found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The detector.
    pub detector: &'static str,
    /// The share of the values that it matched; `None` if it went by the name alone.
    pub rate: Option<f64>,
    /// The number of values that it looked at.
    pub count: usize,
    /// Whether the column's name speaks for it.
    pub is_named: bool,
}

/// What a column probably holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The kind of data.
    pub class: Class,
    /// How far it tells who somebody is.
    pub role: IdentifierRole,
    /// How sure the detectors are, from 0 to 1.
    pub confidence: f64,
    /// What was found, the best first.
    pub findings: Vec<Finding>,
    /// Whether it counts as health data because of the columns beside it.
    pub is_by_context: bool,
}

/// The most values to read of each of so many columns.
pub fn values_of_each(columns: usize) -> usize {
    (MOST_VALUES_IN_ALL / columns.max(1)).clamp(LEAST_VALUES, MOST_VALUES)
}

/// Proposes what the columns of one table hold; `None` for a column about which nothing was found.
pub fn propose(columns: &[SampledColumn]) -> Vec<Option<Proposal>> {
    let people = People::new();
    let most = values_of_each(columns.len());
    let mut is_about_health = false;
    let mut proposals: Vec<_> = columns
        .iter()
        .map(|column| {
            let name = NameWords::of(&named_steps(&column.path));
            let found = propose_one(column, &name, most, &people);
            let is_health = |(proposal, detector): &(Proposal, &Detector)| {
                detector.is_health && proposal.confidence >= SURE_OF_HEALTH
            };
            is_about_health |= found.as_ref().is_some_and(is_health);
            (found.map(|(proposal, _)| proposal), name)
        })
        .collect();
    if is_about_health {
        for (proposal, name) in &mut proposals {
            let Some(proposal) = proposal else { continue };
            // Who treats patients is no patient.
            if proposal.class == Class::Pii && !name.has_any(detectors::PROVIDERS) {
                proposal.class = Class::Phi;
                proposal.is_by_context = true;
            }
        }
    }
    proposals.into_iter().map(|(proposal, _)| proposal).collect()
}

/// A path without the steps into lists and maps, which are called alike everywhere.
fn named_steps(path: &[String]) -> Vec<String> {
    let is_name = |(at, step): &(usize, &String)| *at == 0 || !matches!(step.as_str(), "element" | "key" | "value");
    path.iter().enumerate().filter(is_name).map(|(_, step)| step.clone()).collect()
}

fn propose_one<'a>(
    column: &SampledColumn,
    name: &NameWords,
    most: usize,
    people: &People,
) -> Option<(Proposal, &'a Detector)> {
    let values = &column.values[..column.values.len().min(most)];
    let mut found: Vec<(f64, Finding, &Detector)> = DETECTORS
        .iter()
        .filter(|detector| detector.kinds.contains(&column.kind))
        .filter_map(|detector| {
            let (confidence, finding) = detect(detector, name, values, people)?;
            Some((confidence, finding, detector))
        })
        .collect();
    found.sort_by(|(one, _, first), (other, _, second)| {
        other.total_cmp(one).then_with(|| second.class.rank().cmp(&first.class.rank()))
    });
    // What must never be kept goes first, however sure another detector is.
    if let Some(at) = found.iter().position(|(_, _, detector)| detector.class == Class::PciSad) {
        found[..=at].rotate_right(1);
    }
    let (confidence, _, best) = found.first()?;
    let (confidence, best) = (*confidence, *best);
    let proposal = Proposal {
        class: best.class,
        role: best.role,
        confidence: (confidence * 100.0).round() / 100.0,
        findings: found.into_iter().take(3).map(|(_, finding, _)| finding).collect(),
        is_by_context: false,
    };
    Some((proposal, best))
}

/// How sure a detector is of a column; `None` if it finds nothing.
fn detect(detector: &Detector, name: &NameWords, values: &[Sample], people: &People) -> Option<(f64, Finding)> {
    let fit = name.fit(detector.phrases, detector.against);
    let named = fit.filter(|fit| *fit != Fit::Negated);
    let finding = |rate: Option<f64>| Finding {
        detector: detector.name,
        rate: rate.map(|rate| (rate * 1000.0).round() / 1000.0),
        count: values.len(),
        is_named: named.is_some(),
    };
    if values.is_empty() || matches!(detector.test, ValueTest::Any) {
        let sure = match named? {
            Fit::Full => detector.blind,
            _ => detector.blind - 0.15,
        };
        let is_enough = named == Some(Fit::Full) || matches!(detector.test, ValueTest::Any) && detector.partial <= 1.0;
        return (is_enough && sure > 0.3).then(|| (sure, finding(None)));
    }
    let is_alone = fit != Some(Fit::Negated) || detector.is_plain;
    let alone = detector.alone.filter(|_| is_alone);
    if named.is_none() && alone.is_none() {
        return None;
    }
    // Few values say less, and nobody is quite sure where some of them do not match.
    let weigh = |base: f64, rate: f64| base * (0.85 + 0.15 * rate) - if values.len() < FEW_VALUES { 0.05 } else { 0.0 };
    let by_name = named.and_then(|fit| {
        let rate = rate(values, |value| detector.test.matches(value, people));
        let (least, base) = if fit == Fit::Full { (detector.full, 0.97) } else { (detector.partial, 0.88) };
        if rate >= least && detector.test.is_plausible(values, people) {
            return Some((weigh(base, rate), finding(Some(rate))));
        }
        // A name that means only one thing counts although its values are hidden or written in another way.
        (fit == Fit::Full && detector.is_sticky).then(|| (0.4, finding(Some(rate))))
    });
    let by_values = alone.and_then(|alone| {
        if name.has_any(alone.unless) {
            return None;
        }
        let rate = rate(values, |value| text_of(value).is_some_and(|text| (alone.matches)(&text, people)));
        let is_varied = || distinct(values, alone.distinct);
        (rate >= alone.rate && is_varied()).then(|| (weigh(0.92, rate), finding(Some(rate))))
    });
    match (by_name, by_values) {
        (Some(one), Some(other)) => Some(if one.0 >= other.0 { one } else { other }),
        (one, other) => one.or(other),
    }
}

fn rate(values: &[Sample], matches: impl Fn(&Sample) -> bool) -> f64 {
    values.iter().filter(|value| matches(value)).count() as f64 / values.len().max(1) as f64
}

/// Whether the values have so many different ones, or are all different if there are fewer.
fn distinct(values: &[Sample], least: usize) -> bool {
    let texts: HashSet<Cow<'_, str>> = values.iter().filter_map(text_of).take(4 * least.max(8)).collect();
    texts.len() >= least
}

/// A value as a text without spaces around it.
fn text_of(value: &Sample) -> Option<Cow<'_, str>> {
    match value {
        Sample::Text(text) => Some(Cow::Borrowed(text.trim())),
        Sample::Whole(number) => Some(Cow::Owned(number.to_string())),
        Sample::Year(_) | Sample::Opaque => None,
    }
}

impl ValueTest {
    fn matches(&self, value: &Sample, people: &People) -> bool {
        match self {
            Self::Any => true,
            Self::Text(matches) => text_of(value).is_some_and(|text| matches(&text)),
            Self::Mark => match value {
                Sample::Whole(number) => *number >= 0,
                value => text_of(value).is_some_and(|text| checks::is_mark(&text)),
            },
            Self::Birth => {
                let year = match value {
                    Sample::Year(year) => Some(*year),
                    value => text_of(value).and_then(|text| checks::year_of(&text)),
                };
                year.is_some_and(|year| (1900..=2035).contains(&year))
            }
            Self::Person { .. } => text_of(value).is_some_and(|text| people.likeness(&text) != Likeness::None),
        }
    }

    /// Whether the values as a whole can be what the test is about.
    fn is_plausible(&self, values: &[Sample], people: &People) -> bool {
        let Self::Person { known } = self else { return true };
        let is_known = |value: &Sample| {
            text_of(value).is_some_and(|text| matches!(people.likeness(&text), Likeness::Known | Likeness::Whole))
        };
        rate(values, is_known) >= *known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, values: &[&str]) -> SampledColumn {
        let values = values.iter().map(|text| Sample::Text((*text).to_owned())).collect();
        SampledColumn { path: vec![name.to_owned()], kind: ValueKind::Text, values }
    }

    fn proposed(column: SampledColumn) -> Option<Proposal> {
        propose(&[column]).remove(0)
    }

    #[test]
    fn a_name_with_fitting_values_is_proposed_with_its_rate() {
        let values = ["123-45-6789", "219-09-9999", "457-55-5462", "078-05-1120", "n/a"];
        let proposal = proposed(column("ssn", &values)).unwrap();
        assert_eq!((proposal.class, proposal.role), (Class::Pii, IdentifierRole::Direct));
        assert!(proposal.confidence >= 0.9, "{proposal:?}");
        let best = &proposal.findings[0];
        assert_eq!((best.detector, best.rate, best.count, best.is_named), ("us_ssn", Some(0.8), 5, true));
    }

    #[test]
    fn a_name_alone_is_proposed_with_less_confidence_and_a_negated_one_is_not() {
        let blind = proposed(column("ssn", &[])).unwrap();
        assert!(blind.confidence < 0.8 && blind.findings[0].rate.is_none(), "{blind:?}");
        assert_eq!(proposed(column("ssn_verified", &["yes", "no"])), None);
        assert_eq!(proposed(column("cvv", &[])).unwrap().class, Class::PciSad);
    }

    #[test]
    fn beside_health_data_personal_data_is_health_data() {
        let table = [
            column("diagnosis_code", &["E11.9", "I10", "J45.909", "E78.5", "Z00.00"]),
            column("email", &["ann@example.org", "bob@example.org"]),
            column("provider_email", &["dr@example.org", "md@example.org"]),
        ];
        let classes: Vec<_> = propose(&table).into_iter().map(|found| found.unwrap().class).collect();
        assert_eq!(classes, [Class::Phi, Class::Phi, Class::Pii]);
    }

    #[test]
    fn hostile_columns_take_a_bounded_time() {
        let long = "a@".repeat(60);
        let values: Vec<Sample> = (0..5_000).map(|_| Sample::Text(long.clone())).collect();
        let names = ["(".repeat(10_000), "aB".repeat(10_000), "ssn_".repeat(1_000)];
        let table: Vec<SampledColumn> = names
            .into_iter()
            .map(|name| SampledColumn { path: vec![name; 32], kind: ValueKind::Text, values: values.clone() })
            .collect();
        propose(&table);
        assert_eq!((values_of_each(1), values_of_each(10_000)), (MOST_VALUES, 100));
    }
}
