//! What operators are told who may not do what they ask for.
//!
//! Never here: who may, which [`crate::domain::operators::principal`] says.

use crate::{
    domain::{
        audit::Actor,
        core::word::Words,
        operators::{OperatorReason, Permission, Role, principal::Lack},
    },
    service::core::error::ServiceError,
};

/// What the caller is told. Unknown, expired and revoked tokens read alike.
pub(in crate::service) fn refusal(reason: OperatorReason, actor: &Actor) -> ServiceError {
    let unauthenticated = |message: &str| ServiceError::Unauthenticated { message: message.to_owned() };
    match reason {
        OperatorReason::TokenUnknown | OperatorReason::TokenExpired | OperatorReason::TokenRevoked => {
            unauthenticated("send `Authorization: Bearer <operator token>` with a token that is valid")
        }
        OperatorReason::Disabled => unauthenticated("this operator is disabled; ask an admin to enable it"),
        OperatorReason::IdentityInvalid => {
            unauthenticated("send a token that the operators' issuer made out to this server's operators")
        }
        OperatorReason::IdentityWithoutRole => ServiceError::Forbidden {
            reason: reason.code(),
            message: "the token names no role that the settings know (`identity.operators.roles`); ask an admin"
                .to_owned(),
        },
        OperatorReason::IdentitiesFull => ServiceError::Forbidden {
            reason: reason.code(),
            message: "as many people have signed in by the issuer as are kept; an admin forgets those who have left \
                      (`weir operator forget-identity`)"
                .to_owned(),
        },
        OperatorReason::IssuerUnavailable => {
            ServiceError::Unavailable { what: "the identity provider", source: "its keys cannot be had".into() }
        }
        OperatorReason::BootstrapRetired => unauthenticated(
            "the bootstrap token has retired, because an admin can sign in; use an operator's token, made with \
             `weir operator create` or by an admin",
        ),
        OperatorReason::RoleUnknown => ServiceError::Forbidden {
            reason: reason.code(),
            message: "your role is one that this server does not know, because a newer server gave it to you; use a \
                      server of the newer version"
                .to_owned(),
        },
        OperatorReason::Lacks(lack) => ServiceError::Forbidden { reason: reason.code(), message: lacking(lack, actor) },
    }
}

/// What is said to somebody who lacks something; nothing of the thing that was asked for, which may be hidden.
fn lacking(lack: Lack, actor: &Actor) -> String {
    let name = actor.name.as_deref().unwrap_or_default();
    let named = |permission: Permission, except: Option<Role>| {
        let words = permission.role_words().filter(|word| except.is_none() || Role::parse(word) != except);
        words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
    };
    match lack {
        Lack::Role(permission) => {
            let has = actor.role.as_ref().map_or("has none".to_owned(), |role| format!("is `{}`", role.as_str()));
            format!("this needs the role {}, and `{name}` {has}; ask somebody who has it", named(permission, None))
        }
        Lack::Scope(permission) => {
            let roles = named(permission, None);
            format!("this needs the role {roles} here, and what `{name}` is counts elsewhere; ask somebody who has it")
        }
        Lack::Separated(permission) => {
            let roles = named(permission, Some(Role::Admin));
            format!(
                "`admin` reads no data here (governance.separation); this needs the role {roles} of what it is about"
            )
        }
    }
}
