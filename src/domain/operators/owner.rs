//! Owners: whether somebody of the name that owns something can still answer for it.
//!
//! Never here: what they own, and what follows where nobody can answer.

use chrono::{DateTime, Utc};

/// What is known of those whom a name means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownOwner {
    /// Each operator, group or identity of this name: since when it cannot answer, or `None` if it can.
    pub those: Vec<Option<DateTime<Utc>>>,
    /// When an operator or a group of this name was last deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

impl KnownOwner {
    /// Since when nobody of this name can answer. `None` while somebody can, and for a text that never was a name.
    pub fn gone_since(&self) -> Option<DateTime<Utc>> {
        let answers = self.those.iter().any(Option::is_none);
        if answers { None } else { self.those.iter().flatten().copied().max().or(self.deleted_at) }
    }
}

/// Since when an operator cannot answer: since it is disabled, or since the last of its tokens expired. One that never had a
/// token can answer; it may be named before it signs in.
pub fn operator_gone_since(
    disabled_at: Option<DateTime<Utc>>,
    last_token_ends_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    disabled_at.or(last_token_ends_at.filter(|end| *end <= now))
}

/// Since when a group cannot answer: since the last of its members cannot, or since it was changed if it has none.
pub fn group_gone_since(members: &[Option<DateTime<Utc>>], changed_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if members.iter().any(Option::is_none) {
        return None;
    }
    Some(members.iter().flatten().copied().max().unwrap_or(changed_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn somebody_of_the_name_answers_or_nobody_does() {
        let gone = |those: &[Option<i64>], deleted: Option<i64>| {
            let those = those.iter().map(|since| since.map(at)).collect();
            KnownOwner { those, deleted_at: deleted.map(at) }.gone_since()
        };
        assert_eq!(gone(&[], None), None, "never a name");
        assert_eq!(gone(&[], Some(3)), Some(at(3)));
        assert_eq!(gone(&[Some(1), Some(2)], Some(9)), Some(at(2)));
        assert_eq!(gone(&[Some(1), None], Some(9)), None, "one of two answers");
        assert_eq!(gone(&[None], Some(9)), None, "the name was given to somebody else");
    }

    #[test]
    fn an_operator_is_gone_once_disabled_or_expired_and_a_group_with_its_last_member() {
        assert_eq!(operator_gone_since(None, None, at(5)), None);
        assert_eq!(operator_gone_since(None, Some(at(6)), at(5)), None);
        assert_eq!(operator_gone_since(None, Some(at(5)), at(5)), Some(at(5)));
        assert_eq!(operator_gone_since(Some(at(1)), Some(at(9)), at(5)), Some(at(1)));
        assert_eq!(group_gone_since(&[Some(at(1)), None], at(0)), None);
        assert_eq!(group_gone_since(&[Some(at(1)), Some(at(3))], at(0)), Some(at(3)));
        assert_eq!(group_gone_since(&[], at(7)), Some(at(7)));
    }
}
