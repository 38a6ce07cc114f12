//! Operators: who uses the admin API, and whether a token that somebody presents is good.
//!
//! Never here: what each role may do, which [`principal`] says, nor what a route needs, which stands beside its handler.

pub mod group;
pub mod identity;
pub mod owner;
pub mod principal;

pub use self::principal::{Permission, Role};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::principal::{Binding, Lack, PrincipalKind, RoleScope, are_within, check_bindings};
use super::{
    audit::action::Kind,
    core::{
        declared::{Resource, resource_fields},
        name::Name,
        spec::{Effect, FieldError, Spec},
        word::AsWritten,
    },
};

/// The name that the bootstrap token acts under; no operator may have it.
pub const BOOTSTRAP: &str = "bootstrap";

/// What may be set of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = OperatorBody)]
pub struct OperatorSpec {
    /// Its role everywhere; a new operator needs this or `bindings`.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    pub role: Option<AsWritten<Role>>,
    /// Further roles, and where each counts.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Binding>>)]
    pub bindings: Vec<Binding>,
    /// What kind of principal it is; a person where nothing is said.
    #[serde(default = "staff")]
    #[schema(value_type = Option<PrincipalKind>)]
    pub kind: AsWritten<PrincipalKind>,
    /// Free text.
    #[serde(default)]
    pub description: Option<String>,
}

fn staff() -> AsWritten<PrincipalKind> {
    PrincipalKind::Staff.into()
}

impl OperatorSpec {
    /// A person with one role everywhere.
    pub fn of(role: AsWritten<Role>) -> Self {
        Self { role: Some(role), bindings: Vec::new(), kind: staff(), description: None }
    }

    /// Its roles, and where each counts: a plain role counts everywhere.
    pub fn all_bindings(&self) -> Vec<Binding> {
        self.role.iter().cloned().map(Binding::everywhere).chain(self.bindings.iter().cloned()).collect()
    }

    /// Whether it is an admin, by itself and everywhere.
    pub fn is_admin(&self) -> bool {
        let is_admin =
            |binding: &Binding| binding.scope == RoleScope::Everything && binding.role.means() == Some(Role::Admin);
        self.all_bindings().iter().any(is_admin)
    }

    /// The same with the words of `before` where they mean the same, so that a word for what is there already changes
    /// nothing.
    #[must_use]
    pub fn in_words_of(self, before: &Self) -> Self {
        Self {
            role: if self.role == before.role { before.role.clone() } else { self.role },
            bindings: if self.bindings == before.bindings { before.bindings.clone() } else { self.bindings },
            ..self
        }
    }
}

impl Spec for OperatorSpec {
    fn check(&self, problems: &mut Vec<FieldError>) {
        if let Some(role) = &self.role {
            role.check("role", problems);
        }
        check_bindings("bindings", &self.bindings, problems);
        self.kind.check("kind", problems);
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        let meant = |after: &[Binding], before: &[Binding]| {
            if are_within(after, before) { Effect::Tightens } else { Effect::Loosens }
        };
        let everywhere = |spec: &Self| spec.role.iter().cloned().map(Binding::everywhere).collect::<Vec<_>>();
        match field {
            "role" => Some(meant(&everywhere(after), &everywhere(before))),
            "bindings" => Some(meant(&after.bindings, &before.bindings)),
            "kind" | "description" => Some(Effect::Neutral),
            _ => None,
        }
    }
}

/// A user of the admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// Its id, under which its actions are recorded.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// Its spec.
    pub spec: OperatorSpec,
    /// Since when it is disabled, if it is.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes from 1; used as the etag.
    pub revision: i64,
}

impl Resource for Operator {
    type Spec = OperatorSpec;
    const KIND: Kind = Kind::Operator;

    resource_fields!();
}

/// The stored record of an operator's token; of the token itself only a hash is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorToken {
    /// Its id, in answers and audit events.
    pub id: Uuid,
    /// The operator that it authenticates.
    pub operator_id: Uuid,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// When it expires; exclusive.
    pub expires_at: DateTime<Utc>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The state of an operator's token at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorTokenState {
    /// Authenticates requests.
    Active,
    /// Past its end.
    Expired,
    /// Revoked by an operator.
    Revoked,
}

impl OperatorToken {
    /// The state of the token at `now`.
    pub fn state(&self, now: DateTime<Utc>) -> OperatorTokenState {
        if self.revoked_at.is_some_and(|at| at <= now) {
            OperatorTokenState::Revoked
        } else if self.expires_at <= now {
            OperatorTokenState::Expired
        } else {
            OperatorTokenState::Active
        }
    }
}

/// A presented token that was found, with its operator.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorBearer {
    /// The token.
    pub token: OperatorToken,
    /// Its operator.
    pub operator: Operator,
}

/// Why an operator's request is refused. The codes are stable, like those for recipients' requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorReason {
    /// No token, or one that was never issued to an operator.
    TokenUnknown,
    /// The token has expired.
    TokenExpired,
    /// The token was revoked.
    TokenRevoked,
    /// The operator is disabled.
    Disabled,
    /// The bootstrap token, although an admin can sign in.
    BootstrapRetired,
    /// A JWT that the operators' issuer did not sign, or that is not meant for this server's operators.
    IdentityInvalid,
    /// A JWT without any role that the settings know.
    IdentityWithoutRole,
    /// A JWT whose issuer does not answer, so that it cannot be verified.
    IssuerUnavailable,
    /// The operator's roles are all of a newer server.
    RoleUnknown,
    /// As many have signed in by the issuer as are kept.
    IdentitiesFull,
    /// What the operator may is not enough for this.
    Lacks(Lack),
}

impl OperatorReason {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::TokenUnknown => "OPERATOR_TOKEN_UNKNOWN",
            Self::TokenExpired => "OPERATOR_TOKEN_EXPIRED",
            Self::TokenRevoked => "OPERATOR_TOKEN_REVOKED",
            Self::Disabled => "OPERATOR_DISABLED",
            Self::BootstrapRetired => "BOOTSTRAP_RETIRED",
            Self::IdentityInvalid => "IDENTITY_INVALID",
            Self::IdentityWithoutRole => "IDENTITY_WITHOUT_ROLE",
            Self::IssuerUnavailable => "ISSUER_UNAVAILABLE",
            Self::RoleUnknown => "ROLE_UNKNOWN",
            Self::IdentitiesFull => "IDENTITIES_FULL",
            Self::Lacks(Lack::Role(_)) => "ROLE_LACKS_PERMISSION",
            Self::Lacks(Lack::Scope(_)) => "SCOPE_LACKS_PERMISSION",
            Self::Lacks(Lack::Separated(_)) => "SEPARATION",
        }
    }
}

/// Decides who the holder of a token is; the first failure counts.
pub fn decide_operator(bearer: Option<&OperatorBearer>, now: DateTime<Utc>) -> Result<&Operator, OperatorReason> {
    let bearer = bearer.ok_or(OperatorReason::TokenUnknown)?;
    match bearer.token.state(now) {
        OperatorTokenState::Active => {}
        OperatorTokenState::Expired => return Err(OperatorReason::TokenExpired),
        OperatorTokenState::Revoked => return Err(OperatorReason::TokenRevoked),
    }
    if bearer.operator.disabled_at.is_some() {
        return Err(OperatorReason::Disabled);
    }
    Ok(&bearer.operator)
}

#[cfg(test)]
mod tests {
    use crate::domain::core::name::NameKind;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn bearer() -> OperatorBearer {
        let operator = Operator {
            id: Uuid::from_u128(1),
            name: Name::parse(NameKind::Operator, "ann").unwrap(),
            spec: OperatorSpec::of(Role::Auditor.into()),
            disabled_at: None,
            created_at: at(0),
            updated_at: at(0),
            revision: 1,
        };
        let token = OperatorToken {
            id: Uuid::from_u128(2),
            operator_id: operator.id,
            created_at: at(0),
            expires_at: at(60),
            revoked_at: None,
        };
        OperatorBearer { token, operator }
    }

    #[test]
    fn a_token_ends_by_its_time_by_revocation_and_with_its_operator() {
        let decide = |bearer: &OperatorBearer, seconds| decide_operator(Some(bearer), at(seconds)).map(|who| who.id);
        let found = bearer();
        assert_eq!(decide(&found, 59), Ok(Uuid::from_u128(1)));
        assert_eq!(decide(&found, 60), Err(OperatorReason::TokenExpired));
        let mut revoked = found.clone();
        revoked.token.revoked_at = Some(at(10));
        assert_eq!(decide(&revoked, 9), Ok(Uuid::from_u128(1)));
        assert_eq!(decide(&revoked, 10), Err(OperatorReason::TokenRevoked));
        let mut disabled = found.clone();
        disabled.operator.disabled_at = Some(at(5));
        assert_eq!(decide(&disabled, 9), Err(OperatorReason::Disabled));
        assert_eq!(decide_operator(None, at(0)), Err(OperatorReason::TokenUnknown));
    }

    #[test]
    fn a_plain_role_is_a_binding_everywhere_and_only_such_an_admin_is_one() {
        let spec = |value: serde_json::Value| serde_json::from_value::<OperatorSpec>(value).unwrap();
        let plain = spec(serde_json::json!({"role": "auditor"}));
        assert_eq!(plain.all_bindings(), [Binding::everywhere(Role::Auditor.into())]);
        assert_eq!(plain.kind.means(), Some(PrincipalKind::Staff));
        for (value, is_admin) in [
            (serde_json::json!({"role": "admin"}), true),
            (serde_json::json!({"bindings": [{"role": "admin", "scope": "*"}]}), true),
            (serde_json::json!({"bindings": [{"role": "admin", "scope": "share:s"}]}), false),
            (serde_json::json!({"role": "owner"}), false),
        ] {
            assert_eq!(spec(value.clone()).is_admin(), is_admin, "{value}");
        }
    }

    #[test]
    fn an_earlier_word_for_a_role_is_no_change_and_stays() {
        let spec = |role: &str| OperatorSpec::of(AsWritten::new(role));
        assert_eq!(spec("owner").in_words_of(&spec("share_owner")).role.unwrap().as_str(), "share_owner");
        assert_eq!(spec("support").in_words_of(&spec("share_owner")).role.unwrap().as_str(), "support");
        assert_eq!(OperatorSpec::effect("role", &spec("admin"), &spec("owner")), Some(Effect::Tightens));
        assert_eq!(OperatorSpec::effect("role", &spec("owner"), &spec("auditor")), Some(Effect::Loosens));
    }
}
