//! Recipients: the partners that read.

use std::{collections::BTreeMap, net::IpAddr};

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{delivery::Delivery, identity::Identity, limits::RecipientLimits, name::Name};

/// Where a recipient stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipientState {
    /// Reads what it is granted.
    Active,
    /// Refused for now; may be resumed.
    Suspended,
    /// Ended for good; its history is kept.
    Offboarded,
}

impl RecipientState {
    /// The word kept in the database and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Offboarded => "offboarded",
        }
    }

    /// The state that [`Self::as_str`] named.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Offboarded].into_iter().find(|state| state.as_str() == text)
    }
}

/// A partner that reads shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// Its identity; what is recorded is recorded under it.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// Where it stands.
    pub state: RecipientState,
    /// A name for people.
    pub display_name: Option<String>,
    /// Contacts by role (`technical`, `security`, …).
    pub contacts: BTreeMap<String, String>,
    /// Properties that row filters may refer to.
    pub properties: BTreeMap<String, serde_json::Value>,
    /// The networks that it may come from; anywhere where empty.
    pub allowed_cidrs: Vec<IpNet>,
    /// `Proxied` where its files must always come through the server.
    pub delivery: Option<Delivery>,
    /// The identity whose JWTs are its tokens; `None` where it has tokens of this server.
    pub identity: Option<Identity>,
    /// How much it may ask for.
    pub limits: RecipientLimits,
    /// Free text for operators.
    pub description: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

/// Whether `address` lies in one of `networks`; an empty list allows everywhere, and an IPv4 address that arrives in
/// IPv6 clothing (RFC 4291, 2.5.5.2) counts as IPv4.
pub fn network_allows(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.is_empty() || networks.iter().any(|network| network.contains(&address))
}
