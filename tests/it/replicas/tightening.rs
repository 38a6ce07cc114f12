//! The ways to end or change access, as an operator does it at any replica.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::process::Weir;

/// A way to end or change access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tightening {
    RevokeToken,
    RotateToken,
    RevokeGrant,
    RevokeShare,
    ReplaceGrant,
    NarrowNetworks,
    Suspend,
    Freeze,
    RemoveObject,
}

impl Tightening {
    /// Every way.
    pub const ALL: [Self; 9] = [
        Self::RevokeToken,
        Self::RotateToken,
        Self::RevokeGrant,
        Self::RevokeShare,
        Self::ReplaceGrant,
        Self::NarrowNetworks,
        Self::Suspend,
        Self::Freeze,
        Self::RemoveObject,
    ];

    /// The action of its event.
    pub fn action(self) -> &'static str {
        match self {
            Self::RevokeToken => "token.revoke",
            Self::RotateToken => "token.rotate",
            Self::RevokeGrant | Self::RevokeShare => "grant.revoke",
            Self::ReplaceGrant => "grant.replace",
            Self::NarrowNetworks => "recipient.update",
            Self::Suspend => "recipient.suspend",
            Self::Freeze => "freeze.create",
            Self::RemoveObject => "object.delete",
        }
    }

    /// The reason recorded for a running answer that it ends.
    pub fn reason(self) -> &'static str {
        match self {
            Self::RevokeToken => "TOKEN_REVOKED",
            Self::RotateToken => "TOKEN_EXPIRED",
            Self::RevokeGrant | Self::RevokeShare => "GRANT_REVOKED",
            Self::ReplaceGrant | Self::RemoveObject => "ACCESS_CHANGED",
            Self::NarrowNetworks => "ADDRESS_NOT_ALLOWED",
            Self::Suspend => "RECIPIENT_SUSPENDED",
            Self::Freeze => "FROZEN",
        }
    }

    /// The status of such an answer.
    pub fn status(self) -> u16 {
        match self {
            Self::RevokeToken | Self::RotateToken => 401,
            Self::ReplaceGrant | Self::RemoveObject => 429,
            _ => 403,
        }
    }

    /// Whether the same token may go on reading, on another basis.
    pub fn goes_on(self) -> bool {
        self == Self::ReplaceGrant
    }

    /// Applies it to a token or grant of `acme`, or to everything.
    pub async fn tighten(self, weir: &Weir, token_id: &str, grant_id: &str) {
        let reason = json!({"reason": "a test"});
        let (method, path, body) = match self {
            Self::RevokeToken => (Method::POST, format!("/recipients/acme/tokens/{token_id}/revoke"), reason),
            Self::RotateToken => (
                Method::POST,
                format!("/recipients/acme/tokens/{token_id}/rotate"),
                json!({"existing_token_expire_in_seconds": 0, "reveal": true}),
            ),
            Self::RevokeGrant => (Method::POST, format!("/grants/{grant_id}/revoke"), reason),
            Self::RevokeShare => (Method::POST, "/shares/insurer/recipients/acme/revoke".to_owned(), reason),
            Self::ReplaceGrant => (
                Method::POST,
                "/grants".to_owned(),
                json!({"share": "insurer", "recipient": "acme", "replaces": grant_id}),
            ),
            Self::NarrowNetworks => {
                (Method::PATCH, "/recipients/acme".to_owned(), json!({"allowed_cidrs": ["198.51.100.0/24"]}))
            }
            Self::Suspend => (Method::POST, "/recipients/acme/suspend".to_owned(), reason),
            Self::Freeze => (Method::POST, "/freeze".to_owned(), reason),
            Self::RemoveObject => (Method::DELETE, "/shares/insurer/objects/claims/claims".to_owned(), Value::Null),
        };
        weir.admin(method, &path, body).await;
    }

    /// Undoes it as far as the next round needs. Returns the grant in force from then on.
    pub async fn loosen(self, weir: &Weir, grant_id: &str) -> String {
        let reason = json!({"reason": "a test"});
        match self {
            Self::RevokeToken | Self::RotateToken => {}
            Self::RevokeGrant | Self::RevokeShare => return weir.grant().await,
            Self::ReplaceGrant => return weir.grant_id().await,
            Self::NarrowNetworks => {
                weir.admin(Method::PATCH, "/recipients/acme", json!({"allowed_cidrs": []})).await;
            }
            Self::Suspend => {
                weir.admin(Method::POST, "/recipients/acme/resume", reason).await;
            }
            Self::Freeze => {
                weir.admin(Method::POST, "/unfreeze", reason).await;
            }
            Self::RemoveObject => weir.share_claims().await,
        }
        grant_id.to_owned()
    }
}
