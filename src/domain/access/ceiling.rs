//! Ceilings: the most that a recipient may be granted.
//!
//! Asked when a grant is made; never here: whether somebody may read, which [`super::decision`] says.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::{
    audit::timestamp,
    catalog::column::wrong_class,
    core::{message::quoted, spec::FieldError},
};

use super::{
    agreement::{ANY_PURPOSE, allows_purpose, are_within},
    recipient::RecipientSpec,
};

/// The most that a recipient may be granted; what is null is not limited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct RecipientCeiling {
    /// The classes of data that it may be granted at most; an empty list for none. Columns without a class are not limited.
    #[schema(example = json!(["internal", "PII"]))]
    pub classes: Option<Vec<String>>,
    /// The most days that a grant may last.
    pub max_grant_days: Option<u32>,
    /// The declared purposes that a grant may have; an empty list for none.
    #[schema(example = json!(["fraud_analytics"]))]
    pub purposes: Option<Vec<String>>,
}

impl RecipientCeiling {
    /// Notes what is wrong with it.
    pub fn check(&self, problems: &mut Vec<FieldError>) {
        for (index, class) in self.classes.iter().flatten().enumerate() {
            problems
                .extend(wrong_class(class).map(|wrong| FieldError::new(format!("ceiling.classes[{index}]"), wrong)));
        }
        if self.max_grant_days == Some(0) {
            problems.push(FieldError::new("ceiling.max_grant_days", "must be at least 1; null limits nothing"));
        }
        check_purposes("ceiling.purposes", self.purposes.as_deref(), problems);
    }

    /// Whether it allows nothing that `wider` does not.
    pub fn is_within(&self, wider: &Self) -> bool {
        let is_shorter = match (self.max_grant_days, wider.max_grant_days) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(days), Some(wider)) => days <= wider,
        };
        let has_fewer_classes = match (&self.classes, &wider.classes) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(classes), Some(wider)) => classes.iter().all(|class| wider.contains(class)),
        };
        is_shorter && has_fewer_classes && allows_fewer(self.purposes.as_deref(), wider.purposes.as_deref())
    }
}

/// Notes `*` in a list of purposes, which stands for every purpose elsewhere.
pub(super) fn check_purposes(field: &str, purposes: Option<&[String]>, problems: &mut Vec<FieldError>) {
    if purposes.is_some_and(|purposes| purposes.iter().any(|purpose| purpose == ANY_PURPOSE)) {
        problems.push(FieldError::new(field, "`*` is no purpose; null allows every purpose"));
    }
}

/// Whether a list of purposes, where none means every purpose, allows nothing that `wider` does not.
pub(super) fn allows_fewer(purposes: Option<&[String]>, wider: Option<&[String]>) -> bool {
    match (purposes, wider) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(purposes), Some(wider)) => are_within(purposes, wider),
    }
}

/// A class that is shown and that the recipient may not be granted.
pub fn exceeding_class<'a>(recipient: &RecipientSpec, shown: impl IntoIterator<Item = &'a String>) -> Option<&'a str> {
    let allowed = recipient.ceiling.as_ref()?.classes.as_ref()?;
    shown.into_iter().find(|class| !allowed.contains(class)).map(String::as_str)
}

/// The latest end of a grant that begins at `from`, if the recipient's ceiling limits that.
pub fn latest_end(recipient: &RecipientSpec, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let days = recipient.ceiling.as_ref()?.max_grant_days?;
    from.checked_add_signed(TimeDelta::days(days.into()))
}

/// What of a grant the recipient `name` may not be granted.
pub fn exceeded(
    (name, recipient): (&str, &RecipientSpec),
    purpose: Option<&str>,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let ceiling = recipient.ceiling.as_ref();
    let limits = [
        ("purposes", recipient.purposes.as_deref()),
        ("ceiling.purposes", ceiling.and_then(|ceiling| ceiling.purposes.as_deref())),
    ];
    let exceeded = limits.into_iter().find_map(|(field, allowed)| {
        allowed.filter(|allowed| !allows_purpose(allowed, purpose)).map(|allowed| (field, allowed))
    });
    if let Some((field, allowed)) = exceeded {
        let lacks = if purpose.is_some() { "cannot be this one" } else { "is missing" };
        let most =
            if allowed.is_empty() { "no purpose at all".to_owned() } else { format!("{} alone", quoted(allowed)) };
        let message = format!(
            "{lacks}: recipient `{name}` may be granted for {most}; grant it for that, or change the recipient's `{field}` \
             first"
        );
        wrong.push(FieldError::new("purpose", message));
    }
    if let Some(latest) = latest_end(recipient, from).filter(|latest| until > *latest) {
        let days = ceiling.and_then(|ceiling| ceiling.max_grant_days).unwrap_or_default();
        let message = format!(
            "is longer than recipient `{name}` may be granted, {days} days: at most {}; end it earlier, or raise the \
             recipient's `ceiling.max_grant_days` first",
            timestamp(latest)
        );
        wrong.push(FieldError::new("valid_until", message));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::days(days)
    }

    fn ceiling(value: Value) -> RecipientCeiling {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_grant_exceeds_purposes_and_days_or_nothing() {
        for (spec, purpose, days, fields) in [
            (json!({}), None, 365, &[][..]),
            (json!({"purposes": ["fraud"]}), Some("Fraud"), 365, &[]),
            (json!({"purposes": ["fraud"]}), Some("audit"), 365, &["purpose"]),
            (json!({"purposes": ["fraud"]}), None, 365, &["purpose"]),
            (json!({"purposes": []}), Some("fraud"), 365, &["purpose"]),
            (json!({"ceiling": {"purposes": ["audit"]}, "purposes": ["fraud"]}), Some("fraud"), 1, &["purpose"]),
            (json!({"ceiling": {"max_grant_days": 30}}), None, 30, &[]),
            (json!({"ceiling": {"max_grant_days": 30}}), None, 31, &["valid_until"]),
            (json!({"ceiling": {"max_grant_days": 30, "purposes": []}}), None, 31, &["purpose", "valid_until"]),
            (json!({"ceiling": {}}), None, 365, &[]),
        ] {
            let recipient: RecipientSpec = serde_json::from_value(spec.clone()).unwrap();
            let wrong = exceeded(("acme", &recipient), purpose, (at(0), at(days)));
            let found: Vec<&str> = wrong.iter().map(|wrong| wrong.field.as_str()).collect();
            assert_eq!(found, fields, "{spec} {purpose:?} {days}");
        }
    }

    #[test]
    fn a_ceiling_lies_within_one_that_limits_less() {
        let wide = json!({"max_grant_days": 30, "classes": ["PII", "PHI"], "purposes": ["fraud", "audit"]});
        for (narrow, expected) in [
            (json!({"max_grant_days": 30, "classes": ["PHI"], "purposes": ["Audit"]}), true),
            (json!({"max_grant_days": 31, "classes": [], "purposes": []}), false),
            (json!({"classes": [], "purposes": []}), false),
            (json!({"max_grant_days": 1, "purposes": []}), false),
            (json!({"max_grant_days": 1, "classes": []}), false),
            (json!({"max_grant_days": 1, "classes": ["PCI"], "purposes": []}), false),
        ] {
            assert_eq!(ceiling(narrow.clone()).is_within(&ceiling(wide.clone())), expected, "{narrow}");
            assert!(ceiling(narrow).is_within(&ceiling(json!({}))));
        }
    }
}
