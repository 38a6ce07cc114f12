//! Use cases: what a recipient does with data for a purpose, and which columns it needs for that.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::{
    audit::action::{Action, Changes, Kind},
    core::{
        declared::{Declared, Plain},
        name::NameKind,
        spec::{Effect, FieldError, Spec},
    },
};

/// A column, and why it is needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JustifiedColumn {
    /// The column of a registered table, as `table.column`.
    #[schema(example = "claims.claims.paid_amount")]
    pub column: String,
    /// Why the use case cannot do without it.
    #[schema(example = "compared with the amounts of similar claims")]
    pub justification: String,
}

/// The settings of a use case. Stored and shown; no decision asks for them yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = UseCaseBody)]
pub struct UseCaseSpec {
    /// The recipient that uses the data. Required for a new use case.
    #[schema(value_type = Option<String>, example = "acme")]
    pub recipient: String,
    /// The declared purpose. Required for a new use case.
    #[schema(value_type = Option<String>, example = "fraud_analytics")]
    pub purpose: String,
    /// The decision that the recipient makes with the data. Required for a new use case.
    #[schema(value_type = Option<String>, example = "Which claims an investigator looks at")]
    pub decision_supported: String,
    /// Who answers for it at the provider. Required for a new use case.
    #[schema(value_type = Option<String>, example = "head of claims")]
    pub sponsor: String,
    /// The columns that it needs, each with the reason.
    #[serde(default)]
    #[schema(value_type = Option<Vec<JustifiedColumn>>)]
    pub columns: Vec<JustifiedColumn>,
    /// When somebody looks again whether all of this is still so. Weir reminds nobody of it yet.
    #[serde(default)]
    pub review_at: Option<DateTime<Utc>>,
}

impl Spec for UseCaseSpec {
    fn required(field: &str) -> &'static str {
        match field {
            "recipient" => "name the recipient that uses the data",
            "purpose" => "name a declared purpose",
            "decision_supported" => "say which decision the recipient makes with the data",
            "sponsor" => "say who answers for it",
            _ => "give it a value",
        }
    }

    fn check(&self, problems: &mut Vec<FieldError>) {
        for (field, text) in [("decision_supported", &self.decision_supported), ("sponsor", &self.sponsor)] {
            if text.trim().is_empty() {
                problems.push(FieldError::new(field, format!("is empty; {}", Self::required(field))));
            }
        }
        for (index, JustifiedColumn { column, justification }) in self.columns.iter().enumerate() {
            if column.trim().is_empty() {
                problems.push(FieldError::new(format!("columns[{index}].column"), "is empty; name a column"));
            }
            if justification.trim().is_empty() {
                let message = "is empty; say why the use case cannot do without the column";
                problems.push(FieldError::new(format!("columns[{index}].justification"), message));
            }
        }
    }

    fn effect(field: &str, _: &Self, _: &Self) -> Option<Effect> {
        // No decision depends on use cases yet.
        let is_field =
            ["recipient", "purpose", "decision_supported", "sponsor", "columns", "review_at"].contains(&field);
        is_field.then_some(Effect::Neutral)
    }
}

impl Plain for UseCaseSpec {
    const KIND: Kind = Kind::UseCase;
    const ACTIONS: Changes =
        Changes { create: Action::UseCaseCreate, update: Action::UseCaseUpdate, delete: Action::UseCaseDelete };
    const NAME: NameKind = NameKind::UseCase;
    const TABLE: &'static str = "use_cases";
}

/// What a recipient does with data for a purpose.
pub type UseCase = Declared<UseCaseSpec>;
