//! Domains: what tables and shares are about, who answers for that, and where roles may count.

use serde::{Deserialize, Serialize};

use crate::domain::{
    audit::action::{Action, Changes, Kind},
    core::{
        declared::{Declared, Plain},
        name::NameKind,
        spec::{Effect, Spec},
    },
};

/// The settings of a domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = DomainBody)]
pub struct DomainSpec {
    /// A note for operators.
    pub description: Option<String>,
    /// Who answers for its tables: the name of an operator or a group, or the id of somebody who signs in by an issuer. It
    /// gives no rights. Tables that name an owner have their own.
    #[schema(example = "claims-team")]
    pub owner: Option<String>,
    /// Who looks after its tables; named like an owner. It gives no rights. Tables that name a steward have their own.
    pub steward: Option<String>,
    /// Whom to ask about contracts and law. Stored and shown only.
    #[schema(example = "privacy@insurer.example")]
    pub compliance_contact: Option<String>,
}

impl Spec for DomainSpec {
    fn effect(field: &str, _: &Self, _: &Self) -> Option<Effect> {
        // Who answers for a table changes nothing that anybody reads.
        matches!(field, "description" | "owner" | "steward" | "compliance_contact").then_some(Effect::Neutral)
    }
}

impl Plain for DomainSpec {
    const KIND: Kind = Kind::Domain;
    const ACTIONS: Changes =
        Changes { create: Action::DomainCreate, update: Action::DomainUpdate, delete: Action::DomainDelete };
    const NAME: NameKind = NameKind::Domain;
    const TABLE: &'static str = "domains";
}

/// What tables and shares are about.
pub type Domain = Declared<DomainSpec>;
