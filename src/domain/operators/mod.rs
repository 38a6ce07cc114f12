//! Operators: who uses the admin API, in which role, and what each role may do.
//!
//! The rule behind the matrix: whoever works with sharing may tighten at once; widening, and taking off what somebody
//! put on in an emergency, is for fewer. Never here: what a route needs, which the router declares.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::core::{
    declared::{Resource, resource_fields},
    name::Name,
    spec::{Effect, Spec},
};

/// The name under which the bootstrap token acts; no operator has it.
pub const BOOTSTRAP: &str = "bootstrap";

/// An operator's role: `admin` may do everything, including managing operators; `share_owner` manages what is shared
/// and with whom; `auditor` reads everything and changes nothing; `support` sees who may read what, and can end access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May do everything, including managing operators.
    Admin,
    /// Manages what is shared, and with whom.
    ShareOwner,
    /// Reads everything and changes nothing.
    Auditor,
    /// Helps partners: sees who may read what, and can end access.
    Support,
}

impl Role {
    /// Every role, the one that may most first.
    pub const ALL: [Self; 4] = [Self::Admin, Self::ShareOwner, Self::Auditor, Self::Support];

    /// The word kept in the database and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ShareOwner => "share_owner",
            Self::Auditor => "auditor",
            Self::Support => "support",
        }
    }

    /// The role that [`Self::as_str`] named.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether it has a permission.
    pub fn has(self, permission: Permission) -> bool {
        permission.roles().contains(&self)
    }
}

/// What a route of the admin API needs; each route declares one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Being an operator at all.
    SignIn,
    /// Seeing tables, shares, objects, recipients and grants.
    ReadSharing,
    /// Seeing recipients' tokens, without the tokens themselves.
    ReadTokens,
    /// Seeing the audit trail, and what it comes to.
    ReadAudit,
    /// Seeing operators and their tokens, without the tokens themselves.
    ReadOperators,
    /// Ending access, for now or for good.
    Tighten,
    /// Changing what is shared, and with whom; issuing tokens.
    ManageSharing,
    /// Lifting a freeze.
    LiftFreeze,
    /// Changing operators; issuing their tokens.
    ManageOperators,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 9] = [
        Self::SignIn,
        Self::ReadSharing,
        Self::ReadTokens,
        Self::ReadAudit,
        Self::ReadOperators,
        Self::Tighten,
        Self::ManageSharing,
        Self::LiftFreeze,
        Self::ManageOperators,
    ];

    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::ReadSharing => "read_sharing",
            Self::ReadTokens => "read_tokens",
            Self::ReadAudit => "read_audit",
            Self::ReadOperators => "read_operators",
            Self::Tighten => "tighten",
            Self::ManageSharing => "manage_sharing",
            Self::LiftFreeze => "lift_freeze",
            Self::ManageOperators => "manage_operators",
        }
    }

    /// The permission that [`Self::as_str`] named.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text)
    }

    /// The roles that have it.
    pub fn roles(self) -> &'static [Role] {
        use Role::{Admin, Auditor, ShareOwner, Support};
        match self {
            Self::SignIn | Self::ReadSharing => &Role::ALL,
            Self::ReadTokens | Self::ReadAudit => &[Admin, ShareOwner, Auditor],
            Self::ReadOperators => &[Admin, Auditor],
            Self::Tighten => &[Admin, ShareOwner, Support],
            Self::ManageSharing => &[Admin, ShareOwner],
            Self::LiftFreeze | Self::ManageOperators => &[Admin],
        }
    }
}

/// The settings of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = OperatorBody)]
pub struct OperatorSpec {
    /// The operator's role: `admin` may do everything, `share_owner` manages sharing, `auditor` reads everything and
    /// changes nothing, `support` sees who may read what and can end access. Required for a new operator.
    #[schema(value_type = Option<Role>)]
    pub role: Role,
    /// A note for other operators.
    #[serde(default)]
    pub description: Option<String>,
}

impl Spec for OperatorSpec {
    fn required(_: &str) -> &'static str {
        "every operator has one"
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        match field {
            "role" if Permission::ALL.iter().all(|p| before.role.has(*p) || !after.role.has(*p)) => {
                Some(Effect::Tightens)
            }
            "role" => Some(Effect::Loosens),
            "description" => Some(Effect::Neutral),
            _ => None,
        }
    }
}

/// Somebody who uses the admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// Its identity; what it does is recorded under it.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// What was set of it.
    pub spec: OperatorSpec,
    /// Since when it is refused, if it is.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

impl Resource for Operator {
    type Spec = OperatorSpec;
    const KIND: &'static str = "operator";

    resource_fields!();
}

/// An operator's token as it is kept; of the token itself only its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorToken {
    /// Its identity, in answers and audit events.
    pub id: Uuid,
    /// The operator that it authenticates.
    pub operator_id: Uuid,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// When it stops working by itself; exclusive.
    pub expires_at: DateTime<Utc>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Where an operator's token stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorTokenState {
    /// Authenticates requests.
    Active,
    /// Past its end.
    Expired,
    /// Ended by somebody.
    Revoked,
}

impl OperatorToken {
    /// Where the token stands at `now`.
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

/// Why an operator's request is refused. The codes are stable, as those of recipients' requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorReason {
    /// No token, or none that was ever issued to an operator.
    TokenUnknown,
    /// The token is past its end.
    TokenExpired,
    /// The token was revoked.
    TokenRevoked,
    /// The operator is disabled.
    Disabled,
    /// The bootstrap token, though an admin could do what is asked.
    BootstrapRetired,
    /// A JWT that the operators' issuer did not sign, or not for this server's operators.
    IdentityInvalid,
    /// A JWT that names none of the roles that the settings know.
    IdentityWithoutRole,
    /// A JWT whose issuer does not answer, so that nothing can be said of it.
    IssuerUnavailable,
    /// The operator's role lacks this permission.
    RoleLacks(Permission),
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
            Self::RoleLacks(_) => "ROLE_LACKS_PERMISSION",
        }
    }
}

/// Decides who a token's holder is: the first failure wins.
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

/// Decides whether `role` has what a route needs.
pub fn decide_role(role: Role, needed: Permission) -> Result<(), OperatorReason> {
    if role.has(needed) { Ok(()) } else { Err(OperatorReason::RoleLacks(needed)) }
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
            spec: OperatorSpec { role: Role::Auditor, description: None },
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
    fn admins_may_everything_auditors_change_nothing_and_support_only_tightens() {
        let may = |role| Permission::ALL.into_iter().filter(move |needed| decide_role(role, *needed).is_ok());
        assert_eq!(may(Role::Admin).count(), Permission::ALL.len());
        let changing = |permission: &Permission| {
            use Permission::{LiftFreeze, ManageOperators, ManageSharing, Tighten};
            matches!(permission, Tighten | ManageSharing | LiftFreeze | ManageOperators)
        };
        assert_eq!(may(Role::Auditor).filter(changing).count(), 0);
        assert_eq!(may(Role::Support).filter(changing).collect::<Vec<_>>(), [Permission::Tighten]);
        assert_eq!(
            Permission::ALL.into_iter().filter(|permission| !changing(permission)).count(),
            may(Role::Auditor).count(),
            "an auditor reads everything"
        );
    }
}
