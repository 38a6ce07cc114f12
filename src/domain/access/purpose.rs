//! Purposes: the uses of data that contracts and grants name.

use serde::{Deserialize, Serialize};

use crate::domain::{
    audit::action::{Action, Changes, Kind},
    core::{
        declared::{Declared, Plain},
        name::NameKind,
        spec::{Effect, FieldError, Spec},
    },
};

/// The settings of a purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PurposeBody)]
pub struct PurposeSpec {
    /// What the data is used for, in words that both parties to a contract understand. Required for a new purpose.
    #[schema(value_type = Option<String>, example = "Detecting fraud in claims of the insurer's own members")]
    pub description: String,
    /// The law or contract that permits this use. Required where duties are separated (`governance.separation`).
    #[serde(default)]
    #[schema(example = "GDPR Art. 6(1)(f)")]
    pub legal_basis: Option<String>,
    /// The name of the broader purpose to which this one belongs.
    #[serde(default)]
    pub parent: Option<String>,
}

impl Spec for PurposeSpec {
    fn required(_: &str) -> &'static str {
        "say what the data is used for"
    }

    fn check(&self, problems: &mut Vec<FieldError>) {
        if self.description.trim().is_empty() {
            problems.push(FieldError::new("description", "is empty; say what the data is used for"));
        }
    }

    fn effect(field: &str, _: &Self, _: &Self) -> Option<Effect> {
        // Decisions compare purposes by name, and a name is never changed.
        matches!(field, "description" | "legal_basis" | "parent").then_some(Effect::Neutral)
    }
}

impl Plain for PurposeSpec {
    const KIND: Kind = Kind::Purpose;
    const ACTIONS: Changes =
        Changes { create: Action::PurposeCreate, update: Action::PurposeUpdate, delete: Action::PurposeDelete };
    const NAME: NameKind = NameKind::Purpose;
    const TABLE: &'static str = "purposes";
}

/// A permitted use of data.
pub type Purpose = Declared<PurposeSpec>;
