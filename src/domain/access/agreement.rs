//! Agreements: the contracts that grants stand on, the states that they come to, and what of them a decision asks.
//!
//! Never here: which agreements a grant names, or whether somebody may read, which [`super::grant`] and
//! [`super::decision`] say.

use chrono::{DateTime, Months, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{
    audit::action::{Action, Changes, Kind},
    core::{
        declared::{Declared, Plain},
        message::{echoed, quoted},
        name::{NameKind, name_key},
        spec::{Effect, FieldError, Spec},
        word::{AsWritten, Words, words_schema},
    },
};

/// Stands for every purpose in the list of an agreement that came from a grant's reference.
pub const ANY_PURPOSE: &str = "*";
/// How long before its end an agreement counts as ending soon, unless it says so itself.
const NOTICE_DAYS: u32 = 30;
/// How far ahead a review may lie.
const LONGEST_REVIEW: Months = Months::new(12);
/// The classes that have a meaning of their own; other classes are words in lower case.
const CLASSES: [&str; 8] = ["PII", "PHI", "PCI", "PCI_SAD", "confidential", "ip_secret", "internal", "public"];
/// The longest word for a class.
const LONGEST_CLASS: usize = 64;

/// The type of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgreementType {
    /// A data processing agreement.
    Dpa,
    /// A business associate agreement.
    Baa,
    /// A non-disclosure agreement.
    Nda,
    /// A master services agreement.
    Msa,
    /// A data use agreement.
    Dua,
    /// A PCI DSS attestation of compliance.
    PciAoc,
    /// Another contract.
    Custom,
}

impl Words for AgreementType {
    const NOUN: &'static str = "type of agreement";
    const ALL: &'static [(&'static str, Self)] = &[
        ("DPA", Self::Dpa),
        ("BAA", Self::Baa),
        ("NDA", Self::Nda),
        ("MSA", Self::Msa),
        ("DUA", Self::Dua),
        ("PCI_AOC", Self::PciAoc),
        ("custom", Self::Custom),
    ];
}
words_schema!(AgreementType, "AgreementType", "The type of a contract.");

/// What the end of an agreement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnd {
    /// Requests are denied; grants stay as they are.
    Deny,
}

impl Words for OnEnd {
    const NOUN: &'static str = "effect of an end";
    const ALL: &'static [(&'static str, Self)] = &[("deny", Self::Deny)];
}
words_schema!(
    OnEnd,
    "OnEnd",
    "What the end of an agreement does. `deny`: requests are denied, grants stay as they are."
);

/// Where a contract is kept, and what identifies it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgreementDocument {
    /// The address or reference by which both parties know the contract.
    #[schema(example = "clm://contracts/4711")]
    pub uri: String,
    /// SHA-256 of the document, as 64 lower-case hexadecimal digits; required unless the type is `custom`. Weir neither
    /// fetches nor checks the document.
    #[serde(default)]
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub sha256: Option<String>,
}

/// The settings of an agreement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AgreementSpecBody)]
pub struct AgreementSpec {
    /// The recipient that signed it. Required for a new agreement, and never changed.
    #[schema(value_type = Option<String>, example = "acme")]
    pub recipient: String,
    /// The type of contract. Required for a new agreement.
    #[serde(rename = "type")]
    #[schema(value_type = Option<AgreementType>)]
    pub kind: AsWritten<AgreementType>,
    /// The contract itself. Required for a new agreement.
    #[schema(value_type = Option<AgreementDocument>)]
    pub document: AgreementDocument,
    /// The declared purposes that it allows; none if empty. `["*"]` allows every purpose, which is what agreements say that
    /// were made from a grant's `agreement`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["fraud_analytics"]))]
    pub purposes: Vec<String>,
    /// The classes of data that it covers; none if empty. Stored and shown; no decision asks for them yet.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["PHI"]))]
    pub classes: Vec<String>,
    /// The countries or regions where the data may be used; null leaves that to the recipient's settings. Stored and shown;
    /// no decision asks for them yet.
    #[serde(default)]
    pub regions: Option<Vec<String>>,
    /// For how many days the recipient may keep the data. Stored and shown; Weir cannot see what a recipient keeps.
    #[serde(default)]
    pub retention_days: Option<u32>,
    /// Who else processes the data for the recipient. Stored and shown.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub subprocessors: Vec<String>,
    /// When it begins. Required for a new agreement.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub valid_from: DateTime<Utc>,
    /// When it ends (exclusive); either this or `review_at`.
    #[serde(default)]
    pub valid_until: Option<DateTime<Utc>>,
    /// When it is next reviewed, at most twelve months ahead, if it has no end of its own. A review that nobody has made by
    /// then acts as an end; move the date to confirm the agreement.
    #[serde(default)]
    pub review_at: Option<DateTime<Utc>>,
    /// The name of the recipient's agreement whose place this one takes, as soon as it is active and has begun: grants that
    /// name that one stand on this one from then on. Given when the agreement is created, and never changed.
    #[serde(default)]
    pub supersedes: Option<String>,
    /// How many days before its end it counts as `expiring`; 30 if null.
    #[serde(default)]
    pub notice_days: Option<u32>,
    /// What its end does: `deny` is the only word yet.
    #[serde(default = "deny")]
    #[schema(value_type = Option<OnEnd>)]
    pub on_end: AsWritten<OnEnd>,
}

fn deny() -> AsWritten<OnEnd> {
    OnEnd::Deny.into()
}

impl AgreementSpec {
    /// When it ends by time: its end, or a review that nobody has made by then. A stored spec without either, which no
    /// server writes, has ended.
    pub fn ends_at(&self) -> DateTime<Utc> {
        self.valid_until.or(self.review_at).unwrap_or(self.valid_from)
    }

    /// How long before its end it counts as ending soon.
    pub fn notice(&self) -> TimeDelta {
        TimeDelta::days(self.notice_days.unwrap_or(NOTICE_DAYS).into())
    }

    /// Whether a review at `review_at` lies no further ahead than a review may.
    pub fn is_reviewed_in_time(&self, now: DateTime<Utc>) -> bool {
        match (self.review_at, now.checked_add_months(LONGEST_REVIEW)) {
            (Some(at), Some(latest)) => at <= latest,
            _ => true,
        }
    }

    /// The keys of its purposes, as decisions compare them.
    pub fn purpose_keys(&self) -> Vec<String> {
        self.purposes.iter().map(|purpose| name_key(purpose)).collect()
    }
}

/// What is wrong with a word for a class, if anything.
pub(super) fn wrong_class(class: &str) -> Option<String> {
    let is_own = class.starts_with(|c: char| c.is_ascii_lowercase())
        && class.len() <= LONGEST_CLASS
        && class.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match CLASSES.contains(&class) || (is_own && !CLASSES.iter().any(|known| known.eq_ignore_ascii_case(class))) {
        true => None,
        false => Some(format!(
            "`{}` is no class; use {}, or an own class in lower-case letters, digits and `_`",
            echoed(class, LONGEST_CLASS),
            quoted(CLASSES)
        )),
    }
}

/// Notes each text of a list that is empty.
fn check_filled(field: &str, texts: &[String], problems: &mut Vec<FieldError>) {
    for (index, _) in texts.iter().enumerate().filter(|(_, text)| text.trim().is_empty()) {
        problems.push(FieldError::new(format!("{field}[{index}]"), "is empty; leave it out"));
    }
}

impl Spec for AgreementSpec {
    fn required(field: &str) -> &'static str {
        match field {
            "recipient" => "name the recipient that signed it",
            "type" => "name the type of contract",
            "document" => "name the contract's `uri` and its `sha256`",
            "valid_from" => "say when it begins",
            _ => "give it a value",
        }
    }

    fn check(&self, problems: &mut Vec<FieldError>) {
        self.kind.check("type", problems);
        self.on_end.check("on_end", problems);
        if self.document.uri.trim().is_empty() {
            problems.push(FieldError::new("document.uri", "is empty; say where the contract is kept"));
        }
        let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match &self.document.sha256 {
            None if self.kind.means() != Some(AgreementType::Custom) => {
                problems.push(FieldError::new("document.sha256", "is missing; a contract is known by its digest"));
            }
            // What grants referred to may have another digest.
            Some(digest) if self.kind.means() != Some(AgreementType::Custom) && !is_digest(digest) => {
                problems.push(FieldError::new("document.sha256", "must be 64 lower-case hexadecimal digits"));
            }
            _ => {}
        }
        if self.purposes.len() > 1 && self.purposes.iter().any(|purpose| purpose == ANY_PURPOSE) {
            problems.push(FieldError::new("purposes", "`*` stands for every purpose; name no others beside it"));
        }
        for (index, class) in self.classes.iter().enumerate() {
            problems.extend(wrong_class(class).map(|wrong| FieldError::new(format!("classes[{index}]"), wrong)));
        }
        check_filled("regions", self.regions.as_deref().unwrap_or_default(), problems);
        check_filled("subprocessors", &self.subprocessors, problems);
        let end = match (self.valid_until, self.review_at) {
            (None, None) => {
                let message = "is missing; say when it ends, or when it is reviewed (`review_at`)";
                problems.push(FieldError::new("valid_until", message));
                None
            }
            (Some(_), Some(_)) => {
                let message = "cannot stand beside `valid_until`; an agreement ends, or is reviewed";
                problems.push(FieldError::new("review_at", message));
                None
            }
            (Some(at), None) => Some(("valid_until", at)),
            (None, Some(at)) => Some(("review_at", at)),
        };
        if let Some((field, _)) = end.filter(|(_, at)| *at <= self.valid_from) {
            problems.push(FieldError::new(field, "must lie after `valid_from`, when the agreement begins"));
        }
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        let tightens = match field {
            "document" | "classes" | "regions" | "retention_days" | "subprocessors" | "notice_days" | "on_end" => {
                // No decision depends on them yet.
                return Some(Effect::Neutral);
            }
            "purposes" => are_within(&after.purposes, &before.purposes),
            "valid_from" => after.valid_from >= before.valid_from,
            "valid_until" | "review_at" => after.ends_at() <= before.ends_at(),
            "recipient" | "type" | "supersedes" => false,
            _ => return None,
        };
        Some(if tightens { Effect::Tightens } else { Effect::Loosens })
    }
}

/// Whether `wider` allows every purpose that `purposes` allow.
pub(in crate::domain) fn are_within(purposes: &[String], wider: &[String]) -> bool {
    let allows =
        |purpose: &String| wider.iter().any(|known| known == ANY_PURPOSE || name_key(known) == name_key(purpose));
    purposes.iter().all(allows)
}

impl Plain for AgreementSpec {
    const KIND: Kind = Kind::Agreement;
    const ACTIONS: Changes =
        Changes { create: Action::AgreementCreate, update: Action::AgreementUpdate, delete: Action::AgreementDelete };
    const NAME: NameKind = NameKind::Agreement;
    const TABLE: &'static str = "agreements";
}

/// A contract with a recipient.
pub type DeclaredAgreement = Declared<AgreementSpec>;

/// The state that an agreement was brought to. Time adds to it: see [`AgreementTerms::shown_state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgreementState {
    /// Being written.
    Draft,
    /// Being reviewed or signed.
    InReview,
    /// Signed and in force, while its time lasts.
    Active,
    /// Interrupted; it can be resumed.
    Suspended,
    /// Ended for good.
    Terminated,
}

impl Words for AgreementState {
    const NOUN: &'static str = "state of an agreement";
    const ALL: &'static [(&'static str, Self)] = &[
        ("draft", Self::Draft),
        ("in_review", Self::InReview),
        ("active", Self::Active),
        ("suspended", Self::Suspended),
        ("terminated", Self::Terminated),
    ];
}

/// What is done to an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgreementStep {
    /// It is handed over to be reviewed and signed.
    Submit,
    /// It is signed.
    Activate,
    /// It is interrupted.
    Suspend,
    /// It goes on.
    Resume,
    /// It ends for good.
    Terminate,
}

impl AgreementStep {
    /// What messages call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submitted",
            Self::Activate => "activated",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Terminate => "terminated",
        }
    }

    /// What audit events call it.
    pub fn action(self) -> Action {
        match self {
            Self::Submit => Action::AgreementSubmit,
            Self::Activate => Action::AgreementActivate,
            Self::Suspend => Action::AgreementSuspend,
            Self::Resume => Action::AgreementResume,
            Self::Terminate => Action::AgreementTerminate,
        }
    }
}

impl AgreementState {
    /// The state that a step leads to; `None` where it is not allowed. Once its time is over, an agreement can only be
    /// terminated.
    pub fn after(self, step: AgreementStep, is_over: bool) -> Option<Self> {
        match (step, self) {
            (AgreementStep::Terminate, _) => Some(Self::Terminated),
            (AgreementStep::Submit, Self::Draft) => Some(Self::InReview),
            _ if is_over => None,
            (AgreementStep::Activate, Self::Draft | Self::InReview) => Some(Self::Active),
            (AgreementStep::Suspend, Self::Active) => Some(Self::Suspended),
            (AgreementStep::Resume, Self::Suspended) => Some(Self::Active),
            _ => None,
        }
    }
}

/// What of an agreement a decision asks.
#[derive(Clone, Debug, PartialEq)]
pub struct AgreementTerms {
    /// The agreement.
    pub agreement_id: Uuid,
    /// Its place in the succession, from 0; it takes the place of all before it.
    pub position: i64,
    /// Its state.
    pub state: AsWritten<AgreementState>,
    /// Since when it is in this state.
    pub state_since: DateTime<Utc>,
    /// When it was first activated.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it begins.
    pub valid_from: DateTime<Utc>,
    /// When it ends by time.
    pub ends_at: DateTime<Utc>,
    /// The keys of the purposes that it allows.
    pub purposes: Vec<String>,
}

/// Why a grant that names an agreement does not allow access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgreementLack {
    /// It is over by time.
    Ended,
    /// It is in another state than `active`, or has not begun.
    Inactive,
    /// It does not allow the grant's purpose.
    Purpose,
}

impl AgreementTerms {
    /// The terms of a new agreement.
    pub fn draft(agreement: &DeclaredAgreement, position: i64) -> Self {
        Self {
            agreement_id: agreement.id,
            position,
            state: AgreementState::Draft.into(),
            state_since: agreement.created_at,
            activated_at: None,
            valid_from: agreement.spec.valid_from,
            ends_at: agreement.spec.ends_at(),
            purposes: agreement.spec.purpose_keys(),
        }
    }

    /// The state that people are shown: `expiring` and `expired` come from time.
    pub fn shown_state(&self, notice: TimeDelta, now: DateTime<Utc>) -> String {
        let is_signed = matches!(self.state.means(), Some(AgreementState::Active | AgreementState::Suspended));
        let is_active = self.state.means() == Some(AgreementState::Active);
        if is_signed && self.ends_at <= now {
            "expired".to_owned()
        } else if is_active && self.ends_at.signed_duration_since(now) <= notice {
            "expiring".to_owned()
        } else {
            self.state.as_str().to_owned()
        }
    }

    /// When it takes the place of those before it; `None` while nobody has signed it, and for one that was terminated before
    /// it began.
    pub fn begins(&self) -> Option<DateTime<Utc>> {
        let at = self.activated_at?.max(self.valid_from);
        let is_void = self.state.means() == Some(AgreementState::Terminated) && self.state_since < at;
        (!is_void).then_some(at)
    }

    /// Whether it allows access for a purpose at `now`.
    fn allows(&self, purpose: Option<&str>, now: DateTime<Utc>) -> Result<(), AgreementLack> {
        match self.state.means() {
            Some(AgreementState::Active | AgreementState::Suspended) if self.ends_at <= now => {
                return Err(AgreementLack::Ended);
            }
            Some(AgreementState::Active) if self.valid_from <= now => {}
            _ => return Err(AgreementLack::Inactive),
        }
        match allows_purpose(&self.purposes, purpose) {
            true => Ok(()),
            false => Err(AgreementLack::Purpose),
        }
    }
}

/// Whether a list of purposes allows one. A grant without a purpose is for none of them.
pub fn allows_purpose(allowed: &[String], purpose: Option<&str>) -> bool {
    let key = purpose.map(name_key);
    allowed.iter().any(|known| known == ANY_PURPOSE || key.as_ref() == Some(&name_key(known)))
}

/// Agreements that take each other's place, of which a grant names one. The newest that was ever activated and has begun
/// decides alone, so that there is no gap between two, and no way back to an earlier one.
#[derive(Clone, Debug, PartialEq)]
pub struct AgreementSuccession {
    /// The id of the first.
    pub id: Uuid,
    /// Its members, in any order.
    pub members: Vec<AgreementTerms>,
}

impl AgreementSuccession {
    /// The agreement that decides at `now`; before any has begun, the first.
    fn deciding(&self, now: DateTime<Utc>) -> Option<&AgreementTerms> {
        let begun = self.members.iter().filter(|terms| terms.begins().is_some_and(|at| at <= now));
        begun.max_by_key(|terms| terms.position).or_else(|| self.members.iter().min_by_key(|terms| terms.position))
    }

    /// Whether it allows access for a purpose at `now`.
    pub fn allows(&self, purpose: Option<&str>, now: DateTime<Utc>) -> Result<(), AgreementLack> {
        self.deciding(now).ok_or(AgreementLack::Inactive)?.allows(purpose, now)
    }

    /// When the time of the agreement that decides at `now` is over, or that of those that take its place before.
    pub fn ends_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let deciding = self.deciding(now)?;
        let mut later: Vec<_> = self.members.iter().filter(|terms| terms.position > deciding.position).collect();
        later.sort_by_key(|terms| terms.position);
        let mut end = deciding.ends_at;
        for terms in later {
            if let Some(at) = terms.begins().filter(|at| *at <= end) {
                end = terms.ends_at.max(at);
            }
        }
        Some(end)
    }
}

#[cfg(test)]
pub(in crate::domain) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::core::spec::{Mode, change, create};

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::days(days)
    }

    pub(in crate::domain) fn terms(position: i64, from: i64, until: i64) -> AgreementTerms {
        AgreementTerms {
            agreement_id: Uuid::from_u128(100 + position.unsigned_abs() as u128),
            position,
            state: AgreementState::Active.into(),
            state_since: at(from),
            activated_at: Some(at(from)),
            valid_from: at(from),
            ends_at: at(until),
            purposes: vec!["fraud".into()],
        }
    }

    /// Every step from every state, within its time and after.
    #[test]
    fn a_step_leads_from_the_states_that_the_machine_has_and_from_no_other() {
        use AgreementState::{Active, Draft, InReview, Suspended, Terminated};
        use AgreementStep::{Activate, Resume, Submit, Suspend, Terminate};
        let allowed = [
            (Draft, Submit, InReview, true),
            (Draft, Activate, Active, false),
            (InReview, Activate, Active, false),
            (Active, Suspend, Suspended, false),
            (Suspended, Resume, Active, false),
            (Draft, Terminate, Terminated, true),
            (InReview, Terminate, Terminated, true),
            (Active, Terminate, Terminated, true),
            (Suspended, Terminate, Terminated, true),
            (Terminated, Terminate, Terminated, true),
        ];
        for from in [Draft, InReview, Active, Suspended, Terminated] {
            for step in [Submit, Activate, Suspend, Resume, Terminate] {
                let row = allowed.iter().find(|row| (row.0, row.1) == (from, step));
                assert_eq!(from.after(step, false), row.map(|row| row.2), "{from:?} {step:?}");
                let over = row.filter(|row| row.3).map(|row| row.2);
                assert_eq!(from.after(step, true), over, "{from:?} {step:?} when its time is over");
            }
        }
    }

    #[test]
    fn time_turns_active_into_expiring_and_expired() {
        let notice = TimeDelta::days(30);
        let state = |state: AgreementState, day| {
            AgreementTerms { state: state.into(), ..terms(0, 0, 100) }.shown_state(notice, at(day))
        };
        for (day, shown) in [(0, "active"), (69, "active"), (70, "expiring"), (99, "expiring"), (100, "expired")] {
            assert_eq!(state(AgreementState::Active, day), shown, "{day}");
        }
        assert_eq!(state(AgreementState::Suspended, 99), "suspended");
        assert_eq!(state(AgreementState::Suspended, 100), "expired");
        for (stored, shown) in [(AgreementState::Draft, "draft"), (AgreementState::Terminated, "terminated")] {
            assert_eq!(state(stored, 200), shown);
        }
        let newer = AgreementTerms { state: AsWritten::new("in_dispute"), ..terms(0, 0, 100) };
        assert_eq!(newer.shown_state(notice, at(1)), "in_dispute");
        assert_eq!(newer.allows(Some("fraud"), at(1)), Err(AgreementLack::Inactive));
    }

    fn of(members: Vec<AgreementTerms>) -> AgreementSuccession {
        AgreementSuccession { id: Uuid::from_u128(100), members }
    }

    #[test]
    fn an_agreement_allows_its_purposes_in_its_time_while_it_is_active() {
        let allows = |purpose, day| of(vec![terms(0, 0, 10)]).allows(purpose, at(day));
        assert_eq!(allows(Some("FRAUD"), 0), Ok(()));
        assert_eq!(allows(Some("fraud"), 9), Ok(()));
        assert_eq!(allows(Some("fraud"), 10), Err(AgreementLack::Ended));
        assert_eq!(allows(Some("fraud"), -1), Err(AgreementLack::Inactive));
        assert_eq!(allows(Some("other"), 0), Err(AgreementLack::Purpose));
        assert_eq!(allows(None, 0), Err(AgreementLack::Purpose));
        let any = AgreementTerms { purposes: vec![ANY_PURPOSE.into()], ..terms(0, 0, 10) };
        assert_eq!(of(vec![any.clone()]).allows(None, at(0)), Ok(()));
        assert_eq!(of(vec![any]).allows(Some("other"), at(0)), Ok(()));
        assert_eq!(of(vec![]).allows(Some("fraud"), at(0)), Err(AgreementLack::Inactive));
        let suspended = AgreementTerms { state: AgreementState::Suspended.into(), ..terms(0, 0, 10) };
        assert_eq!(of(vec![suspended.clone()]).allows(Some("fraud"), at(0)), Err(AgreementLack::Inactive));
        assert_eq!(of(vec![suspended]).allows(Some("fraud"), at(10)), Err(AgreementLack::Ended));
    }

    #[test]
    fn a_successor_leaves_no_gap_and_no_way_back() {
        let (old, new) = (terms(0, 0, 10), terms(1, 8, 20));
        let both = of(vec![new.clone(), old.clone()]);
        for day in 0..20 {
            assert_eq!(both.allows(Some("fraud"), at(day)), Ok(()), "{day}");
        }
        assert_eq!((both.ends_at(at(0)), both.ends_at(at(15))), (Some(at(20)), Some(at(20))));
        // Before it is signed, it takes no place.
        let draft = AgreementTerms { state: AgreementState::Draft.into(), activated_at: None, ..new.clone() };
        assert_eq!(of(vec![draft.clone(), old.clone()]).allows(Some("fraud"), at(9)), Ok(()));
        assert_eq!(of(vec![draft.clone(), old.clone()]).allows(Some("fraud"), at(10)), Err(AgreementLack::Ended));
        assert_eq!(of(vec![draft, old.clone()]).ends_at(at(0)), Some(at(10)));
        // The old one may be terminated; when the new one is suspended, nobody falls back to the old one.
        let gone = AgreementTerms { state: AgreementState::Terminated.into(), ..old.clone() };
        assert_eq!(of(vec![new.clone(), gone]).allows(Some("fraud"), at(9)), Ok(()));
        let suspended = AgreementTerms { state: AgreementState::Suspended.into(), ..new };
        assert_eq!(of(vec![suspended, old.clone()]).allows(Some("fraud"), at(9)), Err(AgreementLack::Inactive));
        // A gap that the contracts themselves have stays one.
        let late = of(vec![old, terms(1, 12, 20)]);
        assert_eq!(late.allows(Some("fraud"), at(11)), Err(AgreementLack::Ended));
        assert_eq!((late.ends_at(at(0)), late.ends_at(at(12))), (Some(at(10)), Some(at(20))));
    }

    fn example() -> Value {
        json!({
            "recipient": "acme", "type": "BAA", "document": {"uri": "clm://1", "sha256": "0".repeat(64)},
            "purposes": ["fraud"], "classes": ["PHI", "own_class"], "valid_from": "2026-01-01T00:00:00Z",
            "valid_until": "2027-01-01T00:00:00Z",
        })
    }

    fn problems(change: Value) -> Vec<String> {
        let mut body = example();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let made = create::<AgreementSpec>(body.as_object().unwrap());
        made.err().unwrap_or_default().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn what_no_agreement_may_be_is_refused_by_its_field() {
        assert!(problems(json!({})).is_empty());
        assert!(problems(json!({"type": "custom", "document": {"uri": "A-7"}})).is_empty());
        assert!(problems(json!({"valid_until": null, "review_at": "2026-06-01T00:00:00Z"})).is_empty());
        for (change, field) in [
            (json!({"type": "TREATY"}), "type"),
            (json!({"document": {"uri": ""}}), "document.uri"),
            (json!({"document": {"uri": "x"}}), "document.sha256"),
            (json!({"document": {"uri": "x", "sha256": "abc"}}), "document.sha256"),
            (json!({"classes": ["PHX"]}), "classes[0]"),
            (json!({"classes": ["phi"]}), "classes[0]"),
            (json!({"classes": ["PHI", "own class"]}), "classes[1]"),
            (json!({"purposes": ["*", "fraud"]}), "purposes"),
            (json!({"regions": [" "]}), "regions[0]"),
            (json!({"valid_until": null}), "valid_until"),
            (json!({"review_at": "2026-06-01T00:00:00Z"}), "review_at"),
            (json!({"valid_until": "2026-01-01T00:00:00Z"}), "valid_until"),
            (json!({"valid_until": null, "review_at": "2025-01-01T00:00:00Z"}), "review_at"),
            (json!({"on_end": "revoke"}), "on_end"),
            (json!({"retention_days": -1}), "retention_days"),
            (json!({"colour": 1}), "colour"),
        ] {
            let found = problems(change.clone());
            assert!(found.iter().any(|found| found == field), "{change}: {found:?}");
        }
    }

    #[test]
    fn a_review_lies_twelve_months_ahead_at_most() {
        let spec = |review: &str| {
            let mut body = example();
            (body["valid_until"], body["review_at"]) = (Value::Null, review.into());
            create::<AgreementSpec>(body.as_object().unwrap()).unwrap()
        };
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        assert!(spec("2027-03-01T00:00:00Z").is_reviewed_in_time(now));
        assert!(!spec("2027-03-01T00:00:01Z").is_reviewed_in_time(now));
    }

    #[test]
    fn a_change_says_whether_it_tightens() {
        let before: AgreementSpec = create(example().as_object().unwrap()).unwrap();
        let any = change(&before, json!({"purposes": ["*"]}).as_object().unwrap(), Mode::Merge).unwrap();
        for (from, change_to, field, effect) in [
            (&before, json!({"purposes": []}), "purposes", Effect::Tightens),
            (&before, json!({"purposes": ["fraud", "more"]}), "purposes", Effect::Loosens),
            (&any, json!({"purposes": ["fraud"]}), "purposes", Effect::Tightens),
            (&before, json!({"purposes": ["*"]}), "purposes", Effect::Loosens),
            (&before, json!({"valid_until": "2026-12-01T00:00:00Z"}), "valid_until", Effect::Tightens),
            (&before, json!({"valid_until": "2028-01-01T00:00:00Z"}), "valid_until", Effect::Loosens),
            (&before, json!({"valid_from": "2026-02-01T00:00:00Z"}), "valid_from", Effect::Tightens),
            (&before, json!({"valid_from": "2025-02-01T00:00:00Z"}), "valid_from", Effect::Loosens),
            (&before, json!({"retention_days": 3}), "retention_days", Effect::Neutral),
        ] {
            let after = change(from, change_to.as_object().unwrap(), Mode::Merge).unwrap();
            assert_eq!(AgreementSpec::effect(field, from, &after), Some(effect), "{change_to}");
        }
    }
}
