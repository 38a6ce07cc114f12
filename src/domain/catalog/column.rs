//! Columns of registered tables: what kind of data they hold, as scans propose it and people decide it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::core::{
    message::echoed,
    spec::{Effect, FieldError, Spec},
    word::{AsWritten, Words, words_schema},
};

use super::classes::{DETECTORS_VERSION, Proposal};

/// The longest path of a column that is kept, in bytes.
pub const LONGEST_PATH: usize = 1_000;
/// The longest name of a house's own class, in characters.
const LONGEST_CLASS: usize = 64;

/// What kind of data a column holds. A house may have further words of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// For anybody.
    Public,
    /// For the house.
    Internal,
    /// For few in the house: pay, credentials.
    Confidential,
    /// What the house knows and others do not.
    IpSecret,
    /// Data about a person.
    Pii,
    /// Data about a person's health.
    Phi,
    /// Data of payment cards.
    Pci,
    /// What authenticates a payment: security code, track, PIN. Nobody may keep it.
    PciSad,
}

impl Words for Class {
    const NOUN: &'static str = "class";
    const ALL: &'static [(&'static str, Self)] = &[
        ("public", Self::Public),
        ("internal", Self::Internal),
        ("confidential", Self::Confidential),
        ("ip_secret", Self::IpSecret),
        ("PII", Self::Pii),
        ("PHI", Self::Phi),
        ("PCI", Self::Pci),
        ("PCI_SAD", Self::PciSad),
    ];
}

impl Class {
    /// How strict it is: a higher rank is stricter.
    pub fn rank(self) -> usize {
        Self::ALL.iter().position(|(_, class)| *class == self).unwrap_or_default()
    }
}

/// How far a column tells who somebody is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IdentifierRole {
    /// By itself.
    Direct,
    /// Together with others.
    Quasi,
    /// It stands for somebody or something, and says nothing else.
    BusinessKey,
    /// Not at all.
    #[default]
    None,
}

impl Words for IdentifierRole {
    const NOUN: &'static str = "role of a column";
    const ALL: &'static [(&'static str, Self)] =
        &[("direct", Self::Direct), ("quasi", Self::Quasi), ("business_key", Self::BusinessKey), ("none", Self::None)];
}
words_schema!(
    IdentifierRole,
    "IdentifierRole",
    "Whether a column tells who somebody is: by itself, together with others, as a key that says nothing else, or not at all."
);

/// Who has the last word on a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColumnState {
    /// A scan; nobody has decided yet.
    #[default]
    Proposed,
    /// Somebody said that the class is right.
    Confirmed,
    /// Somebody said that the class is wrong. The column has none.
    Rejected,
}

impl Words for ColumnState {
    const NOUN: &'static str = "state of a column";
    const ALL: &'static [(&'static str, Self)] =
        &[("proposed", Self::Proposed), ("confirmed", Self::Confirmed), ("rejected", Self::Rejected)];
}
words_schema!(ColumnState, "ColumnState", "Whether a scan proposed the class, or somebody confirmed or rejected it.");

/// What operators decide about a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ColumnBody)]
pub struct ColumnSpec {
    /// The kind of data: `public`, `internal`, `confidential`, `ip_secret`, `PII`, `PHI`, `PCI`, `PCI_SAD`, or a word of your
    /// own in small letters. Whoever names it and no state confirms it.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "PII")]
    pub class: Option<AsWritten<Class>>,
    /// Whether the column tells who somebody is: `direct`, `quasi`, `business_key` or `none`.
    #[serde(default = "no_role")]
    #[schema(value_type = Option<IdentifierRole>)]
    pub role: AsWritten<IdentifierRole>,
    /// `confirmed` or `rejected`; `proposed` leaves it to the next scan.
    #[serde(default = "undecided")]
    #[schema(value_type = Option<ColumnState>)]
    pub state: AsWritten<ColumnState>,
}

fn no_role() -> AsWritten<IdentifierRole> {
    IdentifierRole::None.into()
}

fn undecided() -> AsWritten<ColumnState> {
    ColumnState::Proposed.into()
}

impl Default for ColumnSpec {
    fn default() -> Self {
        Self { class: None, role: no_role(), state: undecided() }
    }
}

impl Spec for ColumnSpec {
    fn check(&self, problems: &mut Vec<FieldError>) {
        self.role.check("role", problems);
        self.state.check("state", problems);
        if let Some(class) = &self.class {
            problems.extend(wrong_class(class.as_str()).map(|wrong| FieldError::new("class", wrong)));
        } else if self.state.means() == Some(ColumnState::Confirmed) {
            problems.push(FieldError::new("class", "is missing; nothing was proposed, so say what is confirmed"));
        }
    }

    fn effect(field: &str, _: &Self, _: &Self) -> Option<Effect> {
        match field {
            // What a class means depends on its control; what is shown is never loosened by a column's change alone.
            "class" | "role" | "state" => Some(Effect::Neutral),
            _ => None,
        }
    }
}

/// What is wrong with a word for a class, if anything: a word of the house's own has small letters, so that no known one is
/// misspelt by case.
pub fn wrong_class(text: &str) -> Option<String> {
    let is_small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_own =
        text.len() <= LONGEST_CLASS && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_small);
    let meant = Class::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(text));
    match meant {
        Some((known, _)) if *known == text => None,
        Some((known, _)) => Some(format!("is written `{known}`")),
        None if is_own => None,
        None => Some(format!(
            "`{}` is no class; use {}, or a word of your own in small letters, digits and `_`",
            echoed(text, LONGEST_CLASS),
            Class::listed()
        )),
    }
}

/// What the last scan found in a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ColumnEvidence {
    /// The class that it proposes; absent if nothing was found.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub class: Option<AsWritten<Class>>,
    /// The role that it proposes.
    #[serde(default = "no_role")]
    #[schema(value_type = IdentifierRole)]
    pub role: AsWritten<IdentifierRole>,
    /// How sure the detectors are, from 0 to 1.
    #[serde(default)]
    pub confidence: f64,
    /// The number of values that were looked at.
    #[serde(default)]
    pub sampled: u64,
    /// What single detectors found, the best first.
    #[serde(default)]
    pub findings: Vec<ColumnFinding>,
    /// Whether the class comes from columns beside it: personal data in a table with health data is health data.
    #[serde(default)]
    pub by_context: bool,
    /// Why no value was looked at, if the data could not be read.
    #[serde(default)]
    pub problem: Option<String>,
}

/// What one detector found in a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ColumnFinding {
    /// The detector.
    #[schema(example = "us_ssn")]
    pub detector: String,
    /// The version of the detectors.
    pub version: u32,
    /// The share of the values that matched; absent if the name alone decided.
    #[serde(default)]
    pub rate: Option<f64>,
    /// The number of values that it looked at.
    pub count: u64,
    /// Whether the column's name speaks for it.
    pub named: bool,
}

impl ColumnEvidence {
    /// What a scan found in a column of which it read `sampled` values.
    pub fn of(proposal: Option<&Proposal>, sampled: usize, problem: Option<String>) -> Self {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let findings = proposal.into_iter().flat_map(|proposal| &proposal.findings).map(|finding| ColumnFinding {
            detector: finding.detector.to_owned(),
            version: DETECTORS_VERSION,
            rate: finding.rate,
            count: count(finding.count),
            named: finding.is_named,
        });
        Self {
            class: proposal.map(|proposal| proposal.class.into()),
            role: proposal.map(|proposal| proposal.role).unwrap_or_default().into(),
            confidence: proposal.map(|proposal| proposal.confidence).unwrap_or_default(),
            sampled: count(sampled),
            findings: findings.collect(),
            by_context: proposal.is_some_and(|proposal| proposal.is_by_context),
            problem,
        }
    }
}

/// A column of a registered table, nested ones by dotted path.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifiedColumn {
    /// Its identity.
    pub id: Uuid,
    /// The table.
    pub table_id: Uuid,
    /// The path, as [`ColumnPath`](super::schema::ColumnPath) writes it.
    pub path: String,
    /// The type, as SQL engines write it.
    pub data_type: String,
    /// What was decided about it, or proposed.
    pub spec: ColumnSpec,
    /// What the last scan found.
    pub evidence: Option<ColumnEvidence>,
    /// Who decided, and when; kept while the class of other data that came to lie there is proposed again.
    pub decided: Option<(String, DateTime<Utc>)>,
    /// When a scan no longer found it in the table.
    pub gone_at: Option<DateTime<Utc>>,
    /// When it was found first.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

/// A column as a scan finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScannedColumn {
    /// The path.
    pub path: String,
    /// The type.
    pub data_type: String,
    /// What was found.
    pub evidence: ColumnEvidence,
}

impl ClassifiedColumn {
    /// A column that a scan finds for the first time.
    pub fn new(table_id: Uuid, scanned: ScannedColumn, now: DateTime<Utc>) -> Self {
        let spec = ColumnSpec {
            class: scanned.evidence.class.clone(),
            role: scanned.evidence.role.clone(),
            ..ColumnSpec::default()
        };
        Self {
            id: Uuid::now_v7(),
            table_id,
            path: scanned.path,
            data_type: scanned.data_type,
            spec,
            evidence: Some(scanned.evidence),
            decided: None,
            gone_at: None,
            created_at: now,
            updated_at: now,
            revision: 1,
        }
    }

    /// This column after another scan. What somebody decided stays, unless the column has another type by now or was gone in
    /// between: then it may hold something else, and the stricter of both classes is proposed.
    pub fn rescanned(&self, scanned: ScannedColumn) -> Self {
        let is_decided = self.spec.state.means() != Some(ColumnState::Proposed);
        let is_other = self.gone_at.is_some() || self.data_type != scanned.data_type;
        let found = ColumnSpec {
            class: scanned.evidence.class.clone(),
            role: scanned.evidence.role.clone(),
            ..ColumnSpec::default()
        };
        let spec = match (is_decided, is_other) {
            (true, false) => self.spec.clone(),
            (true, true) if self.spec.state.means() != Some(ColumnState::Rejected) => stricter(&self.spec, found),
            // It was confirmed before, and counts until somebody looks again.
            (false, _) if self.decided.is_some() => stricter(&self.spec, found),
            _ => found,
        };
        // What was confirmed goes on counting until somebody looks again.
        let is_rejected = self.spec.state.means() == Some(ColumnState::Rejected);
        let decided = self.decided.clone().filter(|_| !(is_decided && is_other && is_rejected));
        Self {
            data_type: scanned.data_type,
            spec,
            evidence: Some(scanned.evidence),
            decided,
            gone_at: None,
            ..self.clone()
        }
    }

    /// This column, left to the next decision: what lies there now may be something else.
    pub fn reopened(&self, now: DateTime<Utc>) -> Self {
        let spec = ColumnSpec { state: undecided(), ..self.spec.clone() };
        // What was confirmed goes on counting until somebody looks again.
        let decided = self.decided.clone().filter(|_| self.spec.state.means() != Some(ColumnState::Rejected));
        Self { spec, decided, updated_at: now, revision: self.revision + 1, ..self.clone() }
    }
}

/// What another scan changes in the columns of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rescan {
    /// How many columns are new.
    pub new: usize,
    /// New columns, and those of which something else is proposed now.
    pub proposed: Vec<ClassifiedColumn>,
    /// Columns whose verdict stays, with other evidence.
    pub kept: Vec<ClassifiedColumn>,
    /// Columns that the table no longer has.
    pub gone: Vec<Uuid>,
    /// Every column that is there, as the scan leaves it.
    pub all: Vec<ClassifiedColumn>,
}

impl Rescan {
    /// Compares what is known of a table's columns with what a scan finds at `now`.
    pub fn of(table_id: Uuid, known: Vec<ClassifiedColumn>, scanned: Vec<ScannedColumn>, now: DateTime<Utc>) -> Self {
        let mut known: HashMap<String, ClassifiedColumn> =
            known.into_iter().map(|column| (column.path.clone(), column)).collect();
        let mut rescan = Self::default();
        for scanned in scanned {
            let Some(before) = known.remove(&scanned.path) else {
                let new = ClassifiedColumn::new(table_id, scanned, now);
                rescan.new += 1;
                rescan.proposed.push(new.clone());
                rescan.all.push(new);
                continue;
            };
            let after = before.rescanned(scanned);
            if after == before {
                rescan.all.push(before);
                continue;
            }
            let after = ClassifiedColumn { updated_at: now, revision: before.revision + 1, ..after };
            let is_kept = after.spec == before.spec && after.decided == before.decided;
            let changed = if is_kept { &mut rescan.kept } else { &mut rescan.proposed };
            changed.push(after.clone());
            rescan.all.push(after);
        }
        rescan.gone = known.into_values().filter(|column| column.gone_at.is_none()).map(|column| column.id).collect();
        rescan.gone.sort_unstable();
        rescan
    }
}

/// The stricter of what was decided and what is found, as a proposal. A class that this server does not know goes before
/// others.
fn stricter(decided: &ColumnSpec, found: ColumnSpec) -> ColumnSpec {
    let rank = |spec: &ColumnSpec| spec.class.as_ref().map(|class| class.means().map_or(usize::MAX, Class::rank));
    if rank(decided) >= rank(&found) { ColumnSpec { state: undecided(), ..decided.clone() } } else { found }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::core::spec;

    fn found(class: Option<Class>) -> ScannedColumn {
        let evidence = ColumnEvidence { class: class.map(Into::into), ..ColumnEvidence::of(None, 10, None) };
        ScannedColumn { path: "a".into(), data_type: "string".into(), evidence }
    }

    fn column(class: &str, state: ColumnState) -> ClassifiedColumn {
        let mut column = ClassifiedColumn::new(Uuid::nil(), found(None), DateTime::UNIX_EPOCH);
        column.spec.class = Some(AsWritten::new(class));
        column.spec.state = state.into();
        column.decided = Some(("ann".into(), DateTime::UNIX_EPOCH));
        column
    }

    #[test]
    fn a_verdict_survives_another_scan_and_a_proposal_does_not() {
        for state in [ColumnState::Confirmed, ColumnState::Rejected] {
            let before = column("public", state);
            let after = before.rescanned(found(Some(Class::Pii)));
            assert_eq!((&after.spec, &after.decided), (&before.spec, &before.decided));
            assert_eq!(after.evidence.unwrap().class, Some(Class::Pii.into()));
        }
        let proposed = ClassifiedColumn { decided: None, ..column("public", ColumnState::Proposed) };
        let after = proposed.rescanned(found(Some(Class::Pii)));
        assert_eq!((after.spec.class, after.decided), (Some(Class::Pii.into()), None));
        // What was confirmed once and waits for somebody is not forgotten by further scans.
        let waiting = column("PHI", ColumnState::Proposed);
        let after = waiting.rescanned(found(None)).rescanned(found(Some(Class::Internal)));
        assert_eq!((&after.spec, &after.decided), (&waiting.spec, &waiting.decided));
    }

    #[test]
    fn what_may_be_something_else_is_proposed_again_and_never_looser() {
        for (class, found_class, proposed) in [
            ("public", Some(Class::Pii), "PII"),
            ("PHI", Some(Class::Pii), "PHI"),
            ("PHI", None, "PHI"),
            ("our_own", Some(Class::Pci), "our_own"),
        ] {
            let before =
                ClassifiedColumn { gone_at: Some(DateTime::UNIX_EPOCH), ..column(class, ColumnState::Confirmed) };
            let back = before.rescanned(found(found_class));
            assert_eq!(back.spec.class.as_ref().unwrap().as_str(), proposed);
            assert_eq!(
                (back.spec.state.means(), back.gone_at, back.decided),
                (Some(ColumnState::Proposed), None, before.decided.clone())
            );
        }
        let other = ScannedColumn { data_type: "long".into(), ..found(None) };
        let after = column("public", ColumnState::Rejected).rescanned(other);
        assert_eq!((after.spec.class, after.spec.state.means()), (None, Some(ColumnState::Proposed)));
    }

    #[test]
    fn a_scan_adds_ends_and_leaves_alone() {
        let at = |path: &str| ScannedColumn { path: path.into(), ..found(None) };
        let first = Rescan::of(Uuid::nil(), Vec::new(), vec![at("a"), at("b")], DateTime::UNIX_EPOCH);
        assert_eq!((first.new, first.proposed.len(), first.gone.len()), (2, 2, 0));
        let same = Rescan::of(Uuid::nil(), first.all.clone(), vec![at("a"), at("b")], Utc::now());
        assert_eq!(same, Rescan { all: first.all.clone(), ..Rescan::default() });
        let later = Rescan::of(Uuid::nil(), first.all.clone(), vec![at("b"), at("c")], Utc::now());
        assert_eq!((later.new, later.gone), (1, vec![first.all[0].id]));
        assert_eq!(later.all.iter().map(|column| column.path.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn classes_are_known_words_or_small_ones() {
        let read = |class: &str| {
            let body = json!({"class": class}).as_object().unwrap().clone();
            spec::create::<ColumnSpec>(&body).map_err(|errors| errors[0].message.clone())
        };
        for class in ["PII", "PCI_SAD", "ip_secret", "trade_secret", "tier2"] {
            assert_eq!(read(class).unwrap().class.unwrap().as_str(), class);
        }
        assert_eq!(read("pii").unwrap_err(), "is written `PII`");
        for class in ["Secret", "", "a b", "2x", "_x"] {
            assert!(read(class).unwrap_err().contains("small letters"), "{class}");
        }
        let confirmed = json!({"state": "confirmed"}).as_object().unwrap().clone();
        assert_eq!(spec::create::<ColumnSpec>(&confirmed).unwrap_err()[0].field, "class");
    }
}
