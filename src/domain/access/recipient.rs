//! Recipients: the partners that read shares.

use std::{collections::BTreeMap, net::IpAddr};

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::{
    audit::action::Kind,
    core::{
        declared::{Resource, resource_fields},
        name::Name,
        spec::{Effect, FieldError, Spec},
        word::{AsWritten, Words},
    },
};

use super::{delivery::Delivery, identity::Identity, limits::RecipientLimits};

/// The state of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipientState {
    /// It can read what it is granted.
    Active,
    /// It is refused for now; an operator can resume it.
    Suspended,
    /// It is ended for good; its history is kept.
    Offboarded,
}

impl Words for RecipientState {
    const NOUN: &'static str = "state of a recipient";
    const ALL: &'static [(&'static str, Self)] =
        &[("active", Self::Active), ("suspended", Self::Suspended), ("offboarded", Self::Offboarded)];
}

/// The settings of a recipient.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = RecipientBody)]
pub struct RecipientSpec {
    /// The recipient's name for people.
    pub display_name: Option<String>,
    /// The legal entity that enters into contracts.
    pub legal_name: Option<String>,
    /// The country where it is established, as two letters (ISO 3166-1). Stored and shown; no decision asks for it yet.
    #[schema(example = "DE")]
    pub country: Option<String>,
    /// The countries or regions where it may use data. Stored and shown; no decision asks for them yet.
    #[schema(value_type = Option<Vec<String>>, example = json!(["EU"]))]
    pub regions: Vec<String>,
    /// Contacts by role (`technical`, `security`, …). Stored and shown only; Weir sends them no messages.
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>, example = json!({"security": "soc@acme.example"}))]
    pub contacts: BTreeMap<String, String>,
    /// Values that the row filters of views refer to by name: texts, numbers, booleans, or lists of these.
    #[schema(value_type = Option<BTreeMap<String, Value>>)]
    pub properties: BTreeMap<String, Value>,
    /// The only networks (CIDR) from which the recipient may connect; any address if empty. With networks, files come
    /// through the server instead of by presigned URL, unless the object sets `presigned_despite_networks`.
    #[schema(value_type = Option<Vec<String>>, example = json!(["198.51.100.0/24"]))]
    pub allowed_cidrs: Vec<IpNet>,
    /// `proxied` sends all files of the recipient through the server; `presigned` or null leaves the choice to storage
    /// and object.
    #[schema(value_type = Option<Delivery>)]
    pub delivery: Option<AsWritten<Delivery>>,
    /// The identity at an OpenID Connect issuer with which the recipient signs in instead of with tokens; null if it
    /// has tokens.
    pub oidc: Option<Identity>,
    /// How much the recipient may request.
    #[schema(value_type = Option<RecipientLimits>)]
    pub limits: RecipientLimits,
    /// A note for operators.
    pub description: Option<String>,
}

impl Spec for RecipientSpec {
    const OPAQUE: &'static [&'static str] = &["contacts", "properties"];

    fn check(&self, problems: &mut Vec<FieldError>) {
        for (name, value) in &self.properties {
            let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            if items.iter().any(|item| item.is_null() || item.is_array() || item.is_object()) {
                let message = "must be a text, a number, a boolean or a list of these";
                problems.push(FieldError::new(format!("properties.{name}"), message));
            }
        }
        for (name, limit) in self.limits.each() {
            if limit == Some(0) {
                problems.push(FieldError::new(format!("limits.{name}"), "must be at least 1; null limits nothing"));
            }
        }
        if let Some(identity) = &self.oidc {
            identity.check(problems);
        }
        let is_country = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
        if self.country.as_deref().is_some_and(|country| !is_country(country)) {
            problems.push(FieldError::new("country", "must be two upper-case letters, such as `DE` (ISO 3166-1)"));
        }
        if let Some(delivery) = &self.delivery {
            delivery.check("delivery", problems);
        }
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        let tightens = match field {
            "display_name" | "legal_name" | "country" | "regions" | "contacts" | "limits" | "description" => {
                return Some(Effect::Neutral);
            }
            // Row filters may do anything with properties, so the effect is unknown here.
            "properties" => false,
            "allowed_cidrs" => is_narrower(&before.allowed_cidrs, &after.allowed_cidrs),
            "delivery" => after.delivery.as_ref().is_some_and(|delivery| *delivery == Delivery::Proxied),
            "oidc" => after.oidc.is_none(),
            _ => return None,
        };
        Some(if tightens { Effect::Tightens } else { Effect::Loosens })
    }
}

/// Whether every address that `after` allows was allowed `before`.
fn is_narrower(before: &[IpNet], after: &[IpNet]) -> bool {
    let is_within = |network: &IpNet| before.iter().any(|known| known.contains(network));
    before.is_empty() || (!after.is_empty() && after.iter().all(is_within))
}

/// A partner that reads shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// Its identity, under which events are recorded.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// Its state.
    pub state: AsWritten<RecipientState>,
    /// The fields that operators set.
    pub spec: RecipientSpec,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

impl Resource for Recipient {
    type Spec = RecipientSpec;
    const KIND: Kind = Kind::Recipient;

    resource_fields!();
}

/// Whether `address` lies in one of `networks`. An empty list allows every address; an IPv4 address mapped to IPv6 (RFC
/// 4291, 2.5.5.2) counts as IPv4.
pub fn network_allows(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.is_empty() || networks.iter().any(|network| network.contains(&address))
}
