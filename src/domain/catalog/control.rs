//! Controls: what the house asks wherever data of a class is shown.
//!
//! Never here: which columns have the class ([`super::column`]), or what that means for what is shared
//! ([`super::requirements`]).

use std::{cmp::Reverse, collections::BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::{
    access::{agreement::AgreementType, delivery::Delivery, geography::GeoMode},
    audit::action::{Action, Changes, Kind},
    core::{
        declared::{Declared, Plain},
        name::NameKind,
        spec::{Effect, FieldError, Spec},
        word::{AsWritten, Words, words_schema},
    },
};

use super::{
    column::{Class, IdentifierRole},
    view::mask::{self, Mask},
};

/// The most sets of agreements of one control.
const MOST_SETS: usize = 20;
/// The longest grant that a control may name, in days.
const MOST_DAYS: u32 = 3_650;

/// Whether a table that shows the class may be shared file by file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RawSharing {
    /// It may.
    Allow,
    /// It may where the object gives a justification.
    Justify,
    /// It may not; a view can mask or leave out the column.
    Refuse,
}

impl Words for RawSharing {
    const NOUN: &'static str = "rule for raw tables";
    const ALL: &'static [(&'static str, Self)] =
        &[("allow", Self::Allow), ("justify", Self::Justify), ("refuse", Self::Refuse)];
}
words_schema!(
    RawSharing,
    "RawSharing",
    "Whether a table that shows the class may be shared file by file: yes, where its object gives a justification, or no."
);

/// How many people must approve access to the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApprovalTier {
    /// Nobody.
    Low,
    /// The owner.
    Medium,
    /// The owner and compliance.
    High,
}

impl Words for ApprovalTier {
    const NOUN: &'static str = "tier of approval";
    const ALL: &'static [(&'static str, Self)] = &[("low", Self::Low), ("medium", Self::Medium), ("high", Self::High)];
}
words_schema!(ApprovalTier, "ApprovalTier", "How many people must approve access to the class.");

/// The agreements that a class asks for: types that are all needed, or sets of types of which one is needed whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum RequiredAgreements {
    /// Every one of these types.
    #[schema(value_type = Vec<AgreementType>)]
    All(Vec<AsWritten<AgreementType>>),
    /// Every type of one of these sets.
    #[schema(value_type = Vec<Vec<AgreementType>>)]
    AnyOf(Vec<Vec<AsWritten<AgreementType>>>),
}

impl Default for RequiredAgreements {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl RequiredAgreements {
    /// The sets of types of which one is needed whole; none if nothing is.
    pub fn sets(&self) -> Vec<BTreeSet<String>> {
        let words = |set: &[AsWritten<AgreementType>]| set.iter().map(|kind| kind.as_str().to_owned()).collect();
        match self {
            Self::All(types) if types.is_empty() => Vec::new(),
            Self::All(types) => vec![words(types)],
            Self::AnyOf(sets) => sets.iter().map(|set| words(set)).collect(),
        }
    }

    fn check(&self, problems: &mut Vec<FieldError>) {
        match self {
            Self::All(types) => {
                types.iter().enumerate().for_each(|(at, kind)| kind.check(&format!("requires[{at}]"), problems));
            }
            Self::AnyOf(sets) => {
                if sets.len() > MOST_SETS {
                    problems.push(FieldError::new("requires", format!("has more than {MOST_SETS} sets")));
                }
                for (at, set) in sets.iter().enumerate() {
                    if set.is_empty() {
                        let message = "is a set without a type, which asks for nothing; leave it out";
                        problems.push(FieldError::new(format!("requires[{at}]"), message));
                    }
                    for (place, kind) in set.iter().enumerate() {
                        kind.check(&format!("requires[{at}][{place}]"), problems);
                    }
                }
            }
        }
    }

    /// Whether whatever these accept, `other` accepts as well.
    fn is_within(&self, other: &Self) -> bool {
        let (own, other) = (self.sets(), other.sets());
        other.is_empty() || (!own.is_empty() && own.iter().all(|set| other.iter().any(|wider| wider.is_subset(set))))
    }
}

/// Masks by what a column tells about who somebody is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RoleMasks {
    /// For columns that tell it by themselves. A mask as views write it; `hash` and `surrogate` may be named alone, and then
    /// have the class as their domain.
    #[serde(default)]
    #[schema(value_type = Option<Value>, example = "hash")]
    pub direct: Option<Value>,
    /// For columns that tell it together with others.
    #[serde(default)]
    #[schema(value_type = Option<Value>, example = "zip3")]
    pub quasi: Option<Value>,
}

impl RoleMasks {
    /// The mask for columns of this role; a role that this server does not know is a direct one. `Err` for a stored mask
    /// that it does not know, which hides all.
    pub fn mask(&self, class: &str, role: &AsWritten<IdentifierRole>) -> Option<Mask> {
        let written = match role.means() {
            Some(IdentifierRole::Direct) | None => self.direct.as_ref(),
            Some(IdentifierRole::Quasi) => self.quasi.as_ref(),
            Some(IdentifierRole::BusinessKey | IdentifierRole::None) => None,
        };
        written.map(|written| read_mask(class, written).unwrap_or(Mask::Null))
    }

    fn check(&self, field: &str, problems: &mut Vec<FieldError>) {
        for (role, mask) in [("direct", &self.direct), ("quasi", &self.quasi)] {
            let read = mask.as_ref().map(|mask| read_mask("class", mask));
            let wrong = match read {
                Some(Ok(Mask::Constant { .. })) => {
                    Some("`constant` is for columns of one type; use `redact` or `null`".to_owned())
                }
                Some(Ok(Mask::Shift(_))) => {
                    Some("`shift` needs a key column of the table; let views name it".to_owned())
                }
                Some(Ok(_)) | None => None,
                Some(Err(message)) => Some(message),
            };
            problems.extend(wrong.map(|message| FieldError::new(format!("{field}.{role}"), message)));
        }
    }

    fn effect(before: &Self, after: &Self) -> Effect {
        let strength = |masks: &Self, role: IdentifierRole| masks.mask("class", &role.into());
        let is_kept = |role| {
            let (was, is) = (strength(before, role), strength(after, role));
            mask::at_least(is.as_ref(), was.as_ref())
        };
        if is_kept(IdentifierRole::Direct) && is_kept(IdentifierRole::Quasi) {
            Effect::Tightens
        } else {
            Effect::Loosens
        }
    }
}

fn read_mask(class: &str, written: &Value) -> Result<Mask, String> {
    match written.as_str() {
        Some(name @ ("hash" | "surrogate")) => Mask::from_json(&json!({name: {"domain": class.to_lowercase()}})),
        _ => Mask::from_json(written),
    }
}

/// The settings of a control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ControlBody)]
pub struct ControlSpec {
    /// The agreements that a recipient's grant must name, each active and covering the class: a list of types, all of them
    /// needed (`["BAA", "DPA"]`), or a list of sets of which one is needed whole (`[["BAA"], ["DUA"]]`).
    #[serde(default)]
    #[schema(value_type = Option<RequiredAgreements>, example = json!([["BAA"], ["DUA"]]))]
    pub requires: RequiredAgreements,
    /// The masks of columns that a view shows without one.
    #[serde(default)]
    #[schema(value_type = Option<RoleMasks>)]
    pub default_mask: RoleMasks,
    /// The weakest masks: where a view has a weaker one, this one is in effect.
    #[serde(default)]
    #[schema(value_type = Option<RoleMasks>)]
    pub min_mask: RoleMasks,
    /// How many people must approve access: `low`, `medium` or `high`. Stored and shown; nothing asks for it yet.
    #[serde(default)]
    #[schema(value_type = Option<ApprovalTier>)]
    pub approvals: Option<AsWritten<ApprovalTier>>,
    /// How many days a grant may last, from its beginning.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3650)]
    pub max_grant_days: Option<u32>,
    /// `proxied` sends files through the server; null for `PHI`, `PCI` and `PCI_SAD` means `proxied`, too.
    #[serde(default)]
    pub delivery: Option<Delivery>,
    /// How strictly the country of a request is checked: `off`, `known` or `strict`. The server's own setting counts where it
    /// is stricter.
    #[serde(default)]
    #[schema(value_type = Option<GeoMode>)]
    pub geo: Option<AsWritten<GeoMode>>,
    /// How often access is reviewed. Stored and shown; nothing asks for it yet.
    #[serde(default)]
    #[schema(example = "quarterly")]
    pub review: Option<String>,
    /// Whether a table that shows the class may be shared file by file: `allow`, `justify` (the default: its object gives a
    /// `justification`), or `refuse`.
    #[serde(default = "justify")]
    #[schema(value_type = Option<RawSharing>)]
    pub raw: AsWritten<RawSharing>,
    /// A note for operators.
    #[serde(default)]
    pub description: Option<String>,
}

fn justify() -> AsWritten<RawSharing> {
    RawSharing::Justify.into()
}

impl ControlSpec {
    /// Whether files that show the class go through the server.
    pub fn is_proxied(&self, class: &str) -> bool {
        match self.delivery {
            Some(delivery) => delivery == Delivery::Proxied,
            None => matches!(AsWritten::<Class>::new(class).means(), Some(Class::Phi | Class::Pci | Class::PciSad)),
        }
    }

    /// Whether a table that shows the class may be shared file by file; a word that this server does not know refuses.
    pub fn raw_sharing(&self) -> RawSharing {
        self.raw.means().unwrap_or(RawSharing::Refuse)
    }
}

impl Spec for ControlSpec {
    fn check(&self, problems: &mut Vec<FieldError>) {
        self.requires.check(problems);
        self.default_mask.check("default_mask", problems);
        self.min_mask.check("min_mask", problems);
        self.raw.check("raw", problems);
        self.geo.iter().for_each(|geo| geo.check("geo", problems));
        self.approvals.iter().for_each(|tier| tier.check("approvals", problems));
        if self.max_grant_days.is_some_and(|days| !(1..=MOST_DAYS).contains(&days)) {
            problems.push(FieldError::new("max_grant_days", format!("must be between 1 and {MOST_DAYS}")));
        }
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        /// What a word means, where one that is not known is the strictest.
        fn strict<T: Words + Ord>(word: Option<&AsWritten<T>>) -> (bool, Option<T>) {
            (word.is_some_and(|word| word.means().is_none()), word.and_then(AsWritten::means))
        }
        let tightens = match field {
            "description" | "review" => return Some(Effect::Neutral),
            "approvals" => {
                let is_lower = strict(after.approvals.as_ref()) < strict(before.approvals.as_ref());
                return Some(if is_lower { Effect::Loosens } else { Effect::Neutral });
            }
            "requires" => after.requires.is_within(&before.requires),
            "default_mask" => return Some(RoleMasks::effect(&before.default_mask, &after.default_mask)),
            "min_mask" => return Some(RoleMasks::effect(&before.min_mask, &after.min_mask)),
            "max_grant_days" => {
                let days = |spec: &Self| Reverse(spec.max_grant_days.unwrap_or(u32::MAX));
                days(after) >= days(before)
            }
            "delivery" => after.delivery == Some(Delivery::Proxied),
            "geo" => strict(after.geo.as_ref()) >= strict(before.geo.as_ref()),
            "raw" => after.raw_sharing() >= before.raw_sharing(),
            _ => return None,
        };
        Some(if tightens { Effect::Tightens } else { Effect::Loosens })
    }
}

impl Plain for ControlSpec {
    const KIND: Kind = Kind::Control;
    const ACTIONS: Changes =
        Changes { create: Action::ControlCreate, update: Action::ControlUpdate, delete: Action::ControlDelete };
    const NAME: NameKind = NameKind::Control;
    const TABLE: &'static str = "controls";
}

/// What is asked wherever data of a class, which is its name, is shown.
pub type Control = Declared<ControlSpec>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::core::spec::{Mode, change, create};

    fn spec(body: Value) -> ControlSpec {
        create(body.as_object().unwrap()).unwrap()
    }

    #[test]
    fn required_agreements_are_types_or_sets_of_which_one_is_needed() {
        let sets = |body: Value| spec(json!({ "requires": body })).requires.sets();
        let set = |types: &[&str]| types.iter().map(|&kind| kind.to_owned()).collect::<BTreeSet<_>>();
        assert!(sets(json!([])).is_empty());
        assert_eq!(sets(json!(["BAA", "DPA"])), [set(&["BAA", "DPA"])]);
        assert_eq!(sets(json!([["BAA"], ["DUA", "NDA"]])), [set(&["BAA"]), set(&["DUA", "NDA"])]);
    }

    #[test]
    fn what_no_control_may_be_is_refused_by_its_field() {
        for (body, field) in [
            (json!({"requires": ["TREATY"]}), "requires[0]"),
            (json!({"requires": [[]]}), "requires[0]"),
            (json!({"requires": [["BAA"], ["X"]]}), "requires[1][0]"),
            (json!({"requires": ["BAA", ["DUA"]]}), "requires"),
            (json!({"min_mask": {"direct": "blur"}}), "min_mask.direct"),
            (json!({"default_mask": {"quasi": {"constant": {"value": 1}}}}), "default_mask.quasi"),
            (json!({"default_mask": {"quasi": {"shift": {"key": "id"}}}}), "default_mask.quasi"),
            (json!({"min_mask": {"other": "redact"}}), "min_mask.other"),
            (json!({"max_grant_days": 0}), "max_grant_days"),
            (json!({"raw": "maybe"}), "raw"),
            (json!({"geo": "mars"}), "geo"),
            (json!({"approvals": "none"}), "approvals"),
            (json!({"colour": 1}), "colour"),
        ] {
            let problems = create::<ControlSpec>(body.as_object().unwrap()).unwrap_err();
            assert!(problems.iter().any(|problem| problem.field == field), "{body}: {problems:?}");
        }
    }

    #[test]
    fn a_change_says_whether_it_tightens() {
        use Effect::{Loosens, Neutral, Tightens};
        for (before, after, field, effect) in [
            (json!({}), json!({"requires": ["BAA"]}), "requires", Tightens),
            (json!({"requires": ["BAA"]}), json!({"requires": ["BAA", "DPA"]}), "requires", Tightens),
            (json!({"requires": ["BAA"]}), json!({"requires": [["BAA"], ["DUA"]]}), "requires", Loosens),
            (json!({"requires": [["BAA"], ["DUA"]]}), json!({"requires": ["DUA"]}), "requires", Tightens),
            (json!({"requires": ["BAA"]}), json!({"requires": null}), "requires", Loosens),
            (json!({}), json!({"min_mask": {"direct": "hash"}}), "min_mask", Tightens),
            (json!({"min_mask": {"direct": "hash"}}), json!({"min_mask": {"direct": "redact"}}), "min_mask", Tightens),
            (json!({"min_mask": {"direct": "redact"}}), json!({"min_mask": {"direct": "hash"}}), "min_mask", Loosens),
            (
                json!({"default_mask": {"quasi": "zip3"}}),
                json!({"default_mask": {"quasi": null}}),
                "default_mask",
                Loosens,
            ),
            (json!({}), json!({"max_grant_days": 90}), "max_grant_days", Tightens),
            (json!({"max_grant_days": 90}), json!({"max_grant_days": 91}), "max_grant_days", Loosens),
            (json!({}), json!({"delivery": "proxied"}), "delivery", Tightens),
            (json!({}), json!({"delivery": "presigned"}), "delivery", Loosens),
            (json!({"geo": "known"}), json!({"geo": "strict"}), "geo", Tightens),
            (json!({"geo": "known"}), json!({"geo": null}), "geo", Loosens),
            (json!({}), json!({"raw": "refuse"}), "raw", Tightens),
            (json!({}), json!({"raw": "allow"}), "raw", Loosens),
            (json!({"approvals": "low"}), json!({"approvals": "high"}), "approvals", Neutral),
            (json!({"approvals": "high"}), json!({"approvals": "low"}), "approvals", Loosens),
        ] {
            let before = spec(before);
            let changed = change(&before, after.as_object().unwrap(), Mode::Merge).unwrap();
            assert_eq!(ControlSpec::effect(field, &before, &changed), Some(effect), "{before:?} {after}");
        }
    }

    #[test]
    fn a_mask_may_be_named_alone_and_one_that_a_newer_server_wrote_hides_all() {
        let masks = RoleMasks { direct: Some(json!("hash")), quasi: Some(json!("blur")) };
        let hash = Mask::from_json(&json!({"hash": {"domain": "phi"}})).unwrap();
        assert_eq!(masks.mask("PHI", &IdentifierRole::Direct.into()), Some(hash));
        assert_eq!(masks.mask("PHI", &IdentifierRole::Quasi.into()), Some(Mask::Null));
        assert_eq!(masks.mask("PHI", &IdentifierRole::None.into()), None);
        assert!(masks.mask("PHI", &AsWritten::new("oblique")).is_some());
    }

    #[test]
    fn health_and_card_data_go_through_the_server_unless_said_otherwise() {
        let of = |body: Value, class| spec(body).is_proxied(class);
        assert!(of(json!({}), "PHI") && of(json!({}), "PCI") && of(json!({"delivery": "proxied"}), "PII"));
        assert!(!of(json!({}), "PII") && !of(json!({"delivery": "presigned"}), "PHI"));
    }
}
