//! The profile file that a recipient's connectors read (Delta Sharing protocol, 3.1).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::identity::Identity;

/// A profile of version 1: an address and a bearer token. Contains the plain token; never logged.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The format's version. Bearer tokens belong to version 1: connectors refuse one in a profile of version 2.
    pub share_credentials_version: u32,
    /// The URL of the sharing protocol.
    pub endpoint: String,
    /// The plain token.
    pub bearer_token: String,
    /// When the token ends, RFC 3339 with milliseconds.
    pub expiration_time: String,
}

impl Profile {
    /// Makes the profile of a token that ends at `expires_at`.
    pub fn new(endpoint: &str, bearer_token: &str, expires_at: DateTime<Utc>) -> Self {
        Self {
            share_credentials_version: 1,
            endpoint: endpoint.to_owned(),
            bearer_token: bearer_token.to_owned(),
            expiration_time: expires_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }
}

/// Claims that issuers use for the client's id (RFC 8693, 4.3; OpenID Connect Core, 2, `azp`).
const CLIENT_CLAIMS: [&str; 4] = ["client_id", "azp", "appid", "cid"];

/// A profile file of version 2, for connectors that get their tokens from an issuer with a client's id and secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthProfile {
    /// The version of the profile format.
    #[schema(example = 2)]
    pub share_credentials_version: u32,
    /// The kind of profile, for connectors.
    #[serde(rename = "type")]
    #[schema(example = "oauth_client_credentials")]
    pub kind: &'static str,
    /// The URL of the sharing protocol.
    pub endpoint: String,
    /// The URL at the issuer where the client gets its tokens.
    pub token_endpoint: String,
    /// The client's id; a placeholder if the recipient is bound by a claim that does not hold it.
    pub client_id: String,
    /// A placeholder for the client's secret, which this server never sees.
    pub client_secret: &'static str,
    /// The scope that the client requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub scope: Option<String>,
}

impl OauthProfile {
    /// Makes the profile of a recipient that is bound to `identity`.
    pub fn new(endpoint: &str, token_endpoint: String, identity: &Identity, scope: Option<String>) -> Self {
        let is_client = CLIENT_CLAIMS.contains(&identity.claim.as_str());
        Self {
            share_credentials_version: 2,
            kind: "oauth_client_credentials",
            endpoint: endpoint.to_owned(),
            token_endpoint,
            client_id: if is_client { identity.value.clone() } else { "<client id>".to_owned() },
            client_secret: "<client secret>",
            scope,
        }
    }
}
