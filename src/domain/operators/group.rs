//! Groups of principals: roles that several have together.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{
    audit::action::{Action, Changes, Kind},
    core::{
        declared::{Declared, Plain},
        name::{NameKind, name_key},
        spec::{Effect, FieldError, Spec},
    },
};

use super::principal::{Binding, are_within, check_bindings};

/// What may be set of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = GroupBody)]
pub struct GroupSpec {
    /// Operators by name, and those who sign in by an issuer by the id that they are recorded under.
    #[schema(value_type = Option<Vec<String>>, example = json!(["ann", "0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22"]))]
    pub members: Vec<String>,
    /// The roles that its members have besides their own, and where each counts.
    #[schema(value_type = Option<Vec<Binding>>)]
    pub bindings: Vec<Binding>,
    /// Free text.
    pub description: Option<String>,
}

/// Who may be in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member<'a> {
    /// An operator, by the key of its name.
    Operator(&'a str),
    /// Somebody who signs in by an issuer.
    Identity(Uuid),
}

impl Member<'_> {
    /// The key that it is found by.
    pub fn key(self) -> String {
        match self {
            Self::Operator(key) => key.to_owned(),
            Self::Identity(id) => id.to_string(),
        }
    }
}

/// The id that a member is named by. An operator whose name looks like one is nobody's member, so that nobody takes a name
/// to be taken for somebody else.
pub fn identity_in(member: &str) -> Option<Uuid> {
    Uuid::parse_str(member).ok()
}

impl GroupSpec {
    /// The keys of its members, as [`Member::key`] has them.
    pub fn member_keys(&self) -> BTreeSet<String> {
        self.members
            .iter()
            .map(|member| identity_in(member).map_or_else(|| name_key(member), |id| id.to_string()))
            .collect()
    }

    /// Whether somebody is a member.
    pub fn has(&self, who: Member<'_>) -> bool {
        self.members.iter().any(|member| match (identity_in(member), who) {
            (Some(id), Member::Identity(who)) => id == who,
            (None, Member::Operator(key)) => name_key(member) == key,
            _ => false,
        })
    }
}

impl Spec for GroupSpec {
    fn check(&self, problems: &mut Vec<FieldError>) {
        check_bindings("bindings", &self.bindings, problems);
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        let is_less = match field {
            "members" => after.members.iter().all(|member| before.members.contains(member)),
            "bindings" => are_within(&after.bindings, &before.bindings),
            "description" => return Some(Effect::Neutral),
            _ => return None,
        };
        Some(if is_less { Effect::Tightens } else { Effect::Loosens })
    }
}

impl Plain for GroupSpec {
    const KIND: Kind = Kind::Group;
    const ACTIONS: Changes =
        Changes { create: Action::GroupCreate, update: Action::GroupUpdate, delete: Action::GroupDelete };
    const NAME: NameKind = NameKind::Group;
    const TABLE: &'static str = "operator_groups";
}

/// A group of principals.
pub type Group = Declared<GroupSpec>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_operators_by_name_and_identities_by_id() {
        let id = Uuid::from_u128(7);
        let group = GroupSpec { members: vec!["Ann".into(), id.to_string()], ..GroupSpec::default() };
        assert!(group.has(Member::Operator("ann")));
        assert!(!group.has(Member::Operator("bob")));
        assert!(group.has(Member::Identity(id)));
        assert!(!group.has(Member::Identity(Uuid::from_u128(8))));
        assert!(!group.has(Member::Operator(&id.to_string())), "a name that looks like an id is no id");
    }

    fn of(members: &[&str], bindings: serde_json::Value) -> GroupSpec {
        serde_json::from_value(serde_json::json!({"members": members, "bindings": bindings})).unwrap()
    }

    #[test]
    fn a_group_is_found_by_the_keys_of_its_members() {
        let id = Uuid::from_u128(7);
        let upper = id.to_string().to_uppercase();
        let group = of(&["Ann", "ANN", &upper, "bob"], serde_json::json!([]));
        for member in [Member::Operator("ann"), Member::Operator("bob"), Member::Identity(id)] {
            assert!(group.has(member) && group.member_keys().contains(&member.key()), "{member:?}");
        }
        assert_eq!(group.member_keys().len(), 3);
    }

    #[test]
    fn what_was_taken_away_is_taken_away_again_though_something_came_beside_it() {
        let binding = |role: &str| serde_json::json!({"role": role, "scope": "*"});
        let before = of(&["a", "b"], serde_json::json!([binding("owner"), binding("auditor")]));
        let recorded = serde_json::json!({
            "members": ["c", "a"], "bindings": [binding("auditor"), binding("compliance")], "description": "new",
        });
        let expected = of(&["a"], serde_json::json!([binding("auditor")]));
        assert_eq!(crate::domain::core::spec::tightened(&before, recorded.as_object().unwrap()), expected);
        let later = of(&["a", "b"], serde_json::json!([binding("owner"), binding("curator")]));
        let recorded = serde_json::json!({"members": ["a"], "bindings": [binding("curator")]});
        let expected = of(&["a"], serde_json::json!([binding("curator")]));
        assert_eq!(crate::domain::core::spec::tightened(&later, recorded.as_object().unwrap()), expected);
        let more = serde_json::json!({"members": ["a", "b", "c"]});
        assert_eq!(crate::domain::core::spec::tightened(&before, more.as_object().unwrap()), before);
    }

    #[test]
    fn fewer_members_and_fewer_roles_tighten() {
        let (owner, none) = (serde_json::json!([{"role": "owner", "scope": "*"}]), serde_json::json!([]));
        let (wide, narrow) = (of(&["a", "b"], owner), of(&["b"], none));
        for field in ["members", "bindings"] {
            assert_eq!(GroupSpec::effect(field, &wide, &narrow), Some(Effect::Tightens));
            assert_eq!(GroupSpec::effect(field, &narrow, &wide), Some(Effect::Loosens));
        }
    }
}
