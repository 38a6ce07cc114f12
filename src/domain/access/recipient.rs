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

use super::{
    ceiling::{RecipientCeiling, allows_fewer, check_purposes},
    delivery::Delivery,
    geography::{are_within, check_country, check_regions},
    identity::Identity,
    limits::RecipientLimits,
};

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
    /// The country where it is established, as two letters (ISO 3166-1). It may read from there alone, unless `regions` says
    /// more. Asked for as the setting `geography.mode` says.
    #[schema(example = "DE")]
    pub country: Option<String>,
    /// The countries (ISO 3166-1) or regions (`EU`, `EEA`) from which it may read; agreements can only narrow them. If empty,
    /// `country` alone, or everywhere where that is null. Asked for as the setting `geography.mode` says.
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
    /// The declared purposes that it may be granted for: a grant for another purpose, or for none, is refused. Null for any
    /// purpose; an empty list for none. Grants that are there already stay.
    #[schema(example = json!(["fraud_analytics"]))]
    pub purposes: Option<Vec<String>>,
    /// The most that it may be granted; null limits nothing. Grants that are there already stay.
    pub ceiling: Option<RecipientCeiling>,
    /// The address of the legal entity. Stored and shown only.
    pub address: Option<String>,
    /// When somebody last assessed whether it handles data as it should. Stored and shown; nothing follows from it yet.
    pub last_assessed_at: Option<DateTime<Utc>>,
    /// Who answers for it at the provider. Stored and shown only: it gives no rights.
    pub owner: Option<String>,
    /// A note for operators.
    pub description: Option<String>,
}

impl RecipientSpec {
    /// The regions from which it may read: those that it states, or else its country; `None` for everywhere.
    pub fn own_regions(&self) -> Option<&[String]> {
        match self.regions.is_empty() {
            true => self.country.as_ref().map(std::slice::from_ref),
            false => Some(&self.regions),
        }
    }
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
        check_purposes("purposes", self.purposes.as_deref(), problems);
        if let Some(ceiling) = &self.ceiling {
            ceiling.check(problems);
        }
        if let Some(country) = &self.country {
            check_country("country", country, problems);
        }
        check_regions("regions", &self.regions, problems);
        if let Some(delivery) = &self.delivery {
            delivery.check("delivery", problems);
        }
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        let tightens = match field {
            "display_name" | "legal_name" | "contacts" | "limits" | "description" | "address" | "last_assessed_at"
            | "owner" => return Some(Effect::Neutral),
            // A country beside regions says nothing of where.
            "country" if !before.regions.is_empty() && !after.regions.is_empty() => return Some(Effect::Neutral),
            "country" | "regions" => is_from_fewer(before, after),
            // What it may be granted from now on; what it was granted stays.
            "purposes" => allows_fewer(after.purposes.as_deref(), before.purposes.as_deref()),
            "ceiling" => {
                let none = RecipientCeiling::default();
                after.ceiling.as_ref().unwrap_or(&none).is_within(before.ceiling.as_ref().unwrap_or(&none))
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

/// Whether the recipient may read from nowhere `after` where it might not `before`.
fn is_from_fewer(before: &RecipientSpec, after: &RecipientSpec) -> bool {
    match (before.own_regions(), after.own_regions()) {
        (Some(before), Some(after)) => are_within(after, before),
        (before, _) => before.is_none(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_where_it_may_read_from_says_whether_it_tightens() {
        let spec = |country: &str, regions: &[&str]| RecipientSpec {
            country: (!country.is_empty()).then(|| country.to_owned()),
            regions: regions.iter().map(|region| (*region).to_owned()).collect(),
            ..RecipientSpec::default()
        };
        use Effect::{Loosens, Neutral, Tightens};
        for (before, after, field, effect) in [
            (spec("", &[]), spec("DE", &[]), "country", Tightens),
            (spec("DE", &[]), spec("FR", &[]), "country", Loosens),
            (spec("DE", &[]), spec("", &[]), "country", Loosens),
            (spec("DE", &["EU"]), spec("FR", &["EU"]), "country", Neutral),
            (spec("", &[]), spec("", &["EU"]), "regions", Tightens),
            (spec("DE", &[]), spec("DE", &["EU"]), "regions", Loosens),
            (spec("DE", &[]), spec("DE", &["DE"]), "regions", Tightens),
            (spec("", &["EU"]), spec("", &["DE", "FR"]), "regions", Tightens),
            (spec("", &["EU"]), spec("", &["EEA"]), "regions", Loosens),
            (spec("DE", &["EU"]), spec("DE", &[]), "regions", Tightens),
            (spec("", &["EU"]), spec("", &[]), "regions", Loosens),
        ] {
            assert_eq!(RecipientSpec::effect(field, &before, &after), Some(effect), "{before:?} {after:?}");
        }
    }
}
