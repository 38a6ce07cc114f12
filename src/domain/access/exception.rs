//! Exceptions: what is let pass by a rule that forbids it, for a time, with a reason, by two people.
//!
//! Never here: the rules themselves, and whether somebody may read.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{
    audit::action::{Action, Changes, Kind},
    core::{
        declared::{Declared, Plain},
        message::echoed,
        name::{Name, NameKind},
        spec::{Effect, FieldError, Spec},
        word::{AsWritten, Words, words_schema},
    },
};

/// How far ahead an exception may end.
const LONGEST_DAYS: i64 = 180;

/// A rule from which there are exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionRule {
    /// Data of a class is handed out by presigned URLs, though its class asks for the server in between.
    PresignedClass,
    /// A column is shown with a weaker mask than its class asks for.
    MaskWeaker,
    /// A raw table is shared, though a class of its columns forbids that.
    RawClass,
    /// A column is shown though nobody has confirmed what it holds.
    Classification,
}

impl Words for ExceptionRule {
    const NOUN: &'static str = "rule";
    const ALL: &'static [(&'static str, Self)] = &[
        ("presigned_class", Self::PresignedClass),
        ("mask_weaker", Self::MaskWeaker),
        ("raw_class", Self::RawClass),
        ("classification", Self::Classification),
    ];
}
words_schema!(ExceptionRule, "ExceptionRule", "A rule from which there are exceptions.");

/// What kind of thing an exception is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionObjectKind {
    /// A version of a view.
    View,
    /// A registered table.
    Table,
    /// A share.
    Share,
}

impl Words for ExceptionObjectKind {
    const NOUN: &'static str = "kind of object";
    const ALL: &'static [(&'static str, Self)] =
        &[("view", Self::View), ("table", Self::Table), ("share", Self::Share)];
}

/// What an exception is for, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionObject {
    /// What kind of thing it is.
    pub kind: ExceptionObjectKind,
    /// Its name.
    pub name: Name,
    /// The version, of a view.
    pub version: Option<i64>,
}

impl ExceptionObject {
    /// Reads `view:NAME@vN`, `table:NAME` or `share:NAME`; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || "write `view:NAME@vN`, `table:NAME` or `share:NAME`".to_owned();
        let (kind, rest) = text.split_once(':').ok_or_else(form)?;
        let kind = ExceptionObjectKind::parse(kind).ok_or_else(form)?;
        let (named, name, version) = match kind {
            ExceptionObjectKind::View => {
                let (name, version) = rest.rsplit_once("@v").ok_or_else(form)?;
                let version: i64 = version.parse().ok().filter(|version| *version > 0).ok_or_else(form)?;
                (NameKind::View, name, Some(version))
            }
            ExceptionObjectKind::Table => (NameKind::RegisteredTable, rest, None),
            ExceptionObjectKind::Share => (NameKind::Share, rest, None),
        };
        let name = Name::stored(named, name).map_err(|error| error.to_string())?;
        Ok(Self { kind, name, version })
    }
}

/// The settings of an exception. Nothing asks for exceptions yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ExceptionBody)]
pub struct ExceptionSpec {
    /// The rule from which it is an exception. Required for a new exception.
    #[schema(value_type = Option<ExceptionRule>)]
    pub rule: AsWritten<ExceptionRule>,
    /// What it is for: `view:NAME@vN`, `table:NAME` or `share:NAME`. Required for a new exception.
    #[schema(value_type = Option<String>, example = "table:claims.claims")]
    pub object: String,
    /// Why it is needed. Required for a new exception.
    #[schema(value_type = Option<String>, example = "the regulator's reader cannot go through the server")]
    pub reason: String,
    /// When it ends (exclusive), at most 180 days ahead. Required for a new exception.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub expires_at: DateTime<Utc>,
}

impl ExceptionSpec {
    /// What is wrong with its end at `now`, if anything.
    pub fn wrong_end(&self, now: DateTime<Utc>) -> Option<String> {
        let latest = now + TimeDelta::days(LONGEST_DAYS);
        if self.expires_at <= now {
            Some("must lie in the future".to_owned())
        } else if self.expires_at > latest {
            Some(format!("lies more than {LONGEST_DAYS} days ahead; an exception is no rule"))
        } else {
            None
        }
    }
}

impl Spec for ExceptionSpec {
    fn required(field: &str) -> &'static str {
        match field {
            "rule" => "name the rule from which it is an exception",
            "object" => "say what it is for, as `view:NAME@vN`, `table:NAME` or `share:NAME`",
            "reason" => "say why it is needed",
            _ => "say when it ends, at most 180 days ahead",
        }
    }

    fn check(&self, problems: &mut Vec<FieldError>) {
        self.rule.check("rule", problems);
        if let Err(why) = ExceptionObject::parse(&self.object) {
            let message = format!("`{}` is nothing that has exceptions: {why}", echoed(&self.object, 64));
            problems.push(FieldError::new("object", message));
        }
        if self.reason.trim().is_empty() {
            problems.push(FieldError::new("reason", "is empty; say why it is needed"));
        }
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        match field {
            "rule" | "object" => Some(Effect::Loosens),
            "reason" => Some(Effect::Neutral),
            "expires_at" if after.expires_at <= before.expires_at => Some(Effect::Tightens),
            "expires_at" => Some(Effect::Loosens),
            _ => None,
        }
    }
}

impl Plain for ExceptionSpec {
    const KIND: Kind = Kind::Exception;
    const ACTIONS: Changes =
        Changes { create: Action::ExceptionCreate, update: Action::ExceptionUpdate, delete: Action::ExceptionDelete };
    const NAME: NameKind = NameKind::Exception;
    const TABLE: &'static str = "exceptions";
}

/// What is let pass by a rule that forbids it.
pub type Exception = Declared<ExceptionSpec>;

/// The state that an exception was brought to; time adds `expired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionState {
    /// It waits for a second operator, and allows nothing.
    Proposed,
    /// It is approved, and allows until it expires.
    Active,
    /// It was ended.
    Ended,
}

impl Words for ExceptionState {
    const NOUN: &'static str = "state of an exception";
    const ALL: &'static [(&'static str, Self)] =
        &[("proposed", Self::Proposed), ("active", Self::Active), ("ended", Self::Ended)];
}

/// The identity of what an exception is for: a name that is used again is another thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionTarget {
    /// What kind of thing it is.
    pub kind: AsWritten<ExceptionObjectKind>,
    /// The view, the table or the share.
    pub id: Uuid,
    /// The version, of a view.
    pub version: Option<i64>,
}

/// What is asked of an exception beside its name.
#[derive(Clone, Debug, PartialEq)]
pub struct ExceptionStatus {
    /// The exception.
    pub exception_id: Uuid,
    /// The rule from which it is an exception.
    pub rule: AsWritten<ExceptionRule>,
    /// What it is for.
    pub target: ExceptionTarget,
    /// When it ends by time.
    pub expires_at: DateTime<Utc>,
    /// Its state.
    pub state: AsWritten<ExceptionState>,
    /// Since when it is in this state.
    pub state_since: DateTime<Utc>,
    /// The identity of whoever proposed it, or changed it last so that it allows more; empty if that is not known.
    pub proposer: String,
    /// The name of that operator.
    pub proposed_by: String,
    /// Who approved it, while it is approved.
    pub approved_by: Option<String>,
}

impl ExceptionStatus {
    /// Whether it lets anything pass at `now`.
    pub fn allows(&self, now: DateTime<Utc>) -> bool {
        self.state.means() == Some(ExceptionState::Active) && now < self.expires_at
    }

    /// The state that people are shown: `expired` comes from time.
    pub fn shown_state(&self, now: DateTime<Utc>) -> &str {
        let is_over = self.state.means() != Some(ExceptionState::Ended) && self.expires_at <= now;
        if is_over { "expired" } else { self.state.as_str() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::core::spec::create;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::days(days)
    }

    #[test]
    fn an_exception_names_a_version_of_a_view_a_table_or_a_share() {
        for (text, expected) in [
            ("view:claims.fraud@v2", Some((ExceptionObjectKind::View, "claims.fraud", Some(2)))),
            ("table:claims.claims", Some((ExceptionObjectKind::Table, "claims.claims", None))),
            ("share:insurer@v2", Some((ExceptionObjectKind::Share, "insurer@v2", None))),
            ("view:claims.fraud", None),
            ("view:claims.fraud@v0", None),
            ("view:claims.fraud@vx", None),
            ("recipient:acme", None),
            ("table:", None),
            ("share:a b", None),
            ("insurer", None),
        ] {
            let read = ExceptionObject::parse(text).ok();
            let read = read.as_ref().map(|object| (object.kind, object.name.as_str(), object.version));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn an_end_lies_ahead_and_not_too_far() {
        let spec = |days| {
            let spec = json!({"rule": "raw_class", "object": "table:t", "reason": "r", "expires_at": at(days)});
            create::<ExceptionSpec>(spec.as_object().unwrap()).unwrap()
        };
        assert!(spec(0).wrong_end(at(0)).is_some() && spec(181).wrong_end(at(0)).is_some());
        assert!(spec(1).wrong_end(at(0)).is_none() && spec(180).wrong_end(at(0)).is_none());
        assert_eq!(ExceptionSpec::effect("expires_at", &spec(9), &spec(8)), Some(Effect::Tightens));
        assert_eq!(ExceptionSpec::effect("expires_at", &spec(8), &spec(9)), Some(Effect::Loosens));
    }

    #[test]
    fn only_an_approved_exception_allows_and_only_before_its_end() {
        let status = |state: &str| ExceptionStatus {
            exception_id: Uuid::nil(),
            rule: ExceptionRule::RawClass.into(),
            target: ExceptionTarget { kind: ExceptionObjectKind::Table.into(), id: Uuid::nil(), version: None },
            expires_at: at(9),
            state: AsWritten::new(state),
            state_since: at(0),
            proposer: "ann".into(),
            proposed_by: "ann".into(),
            approved_by: None,
        };
        for (state, day, allows, shown) in [
            ("proposed", 8, false, "proposed"),
            ("proposed", 9, false, "expired"),
            ("active", 8, true, "active"),
            ("active", 9, false, "expired"),
            ("ended", 8, false, "ended"),
            ("ended", 9, false, "ended"),
            ("doubted", 8, false, "doubted"),
        ] {
            let status = status(state);
            assert_eq!((status.allows(at(day)), status.shown_state(at(day))), (allows, shown), "{state} {day}");
        }
    }
}
