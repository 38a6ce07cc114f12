//! The profile file that a recipient's connectors read (Delta Sharing protocol, 3.1).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A profile of version 1: an address and a bearer token. Holds the token in clear; never logged.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The format's version. A bearer token belongs to version 1: connectors refuse one in a profile of version 2.
    pub share_credentials_version: u32,
    /// Where the protocol is served.
    pub endpoint: String,
    /// The token in clear.
    pub bearer_token: String,
    /// When the token ends, RFC 3339 with milliseconds.
    pub expiration_time: String,
}

impl Profile {
    /// The profile of a token that ends at `expires_at`.
    pub fn new(endpoint: &str, bearer_token: &str, expires_at: DateTime<Utc>) -> Self {
        Self {
            share_credentials_version: 1,
            endpoint: endpoint.to_owned(),
            bearer_token: bearer_token.to_owned(),
            expiration_time: expires_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }
}
