//! Chooses how a recipient gets a file's bytes: directly from the object store, or through the server.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::core::word::{AsWritten, Words};

/// How a file reaches a recipient: `presigned`, from the object store under a presigned URL, or `proxied`, through the
/// server, which decides anew on every read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The object store serves the file under a presigned URL.
    #[default]
    Presigned,
    /// The server streams the file, and decides anew on every read.
    Proxied,
}

impl Words for Delivery {
    const NOUN: &'static str = "delivery";
    const ALL: &'static [(&'static str, Self)] = &[("presigned", Self::Presigned), ("proxied", Self::Proxied)];
}

/// What a spec asks for. A word that only a newer server knows means the stricter one here.
pub fn asked(delivery: Option<&AsWritten<Delivery>>) -> Option<Delivery> {
    delivery.map(|word| word.means().unwrap_or(Delivery::Proxied))
}

/// The shortest lifetime of a presigned URL. Spark treats a lifetime of 15 minutes or less as expired (Delta Sharing
/// protocol 2.5), so if a token or grant has less than this left, delivery is proxied.
pub const SHORTEST_PRESIGNED: TimeDelta = TimeDelta::minutes(20);

/// The facts on which the choice of delivery depends.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryFacts {
    /// The delivery in the storage's configuration.
    pub storage: Delivery,
    /// Whether the storage's credential can sign.
    pub storage_can_sign: bool,
    /// The delivery in the recipient's spec.
    pub recipient: Option<Delivery>,
    /// Whether the recipient is bound to networks.
    pub recipient_has_networks: bool,
    /// The delivery in the object's spec.
    pub object: Option<Delivery>,
    /// Whether the object is presigned even for such recipients, although a presigned URL works from any address.
    pub presigned_despite_networks: bool,
}

/// Combines the settings of storage, recipient and object: proxied wins.
pub fn effective(facts: DeliveryFacts) -> Delivery {
    let asked = [Some(facts.storage), facts.recipient, facts.object].contains(&Some(Delivery::Proxied));
    let network_bound = facts.recipient_has_networks && !facts.presigned_despite_networks;
    if asked || network_bound || !facts.storage_can_sign { Delivery::Proxied } else { Delivery::Presigned }
}

/// Whether the time until `until` is too short for a presigned URL.
pub fn too_short_to_presign(until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    until - now < SHORTEST_PRESIGNED
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESIGNED: DeliveryFacts = DeliveryFacts {
        storage: Delivery::Presigned,
        storage_can_sign: true,
        recipient: None,
        recipient_has_networks: false,
        object: None,
        presigned_despite_networks: false,
    };

    #[test]
    fn anything_that_says_proxied_wins() {
        assert_eq!(effective(PRESIGNED), Delivery::Presigned);
        for facts in [
            DeliveryFacts { storage: Delivery::Proxied, ..PRESIGNED },
            DeliveryFacts { storage_can_sign: false, ..PRESIGNED },
            DeliveryFacts { recipient: Some(Delivery::Proxied), ..PRESIGNED },
            DeliveryFacts { object: Some(Delivery::Proxied), ..PRESIGNED },
            DeliveryFacts { recipient_has_networks: true, ..PRESIGNED },
            DeliveryFacts { object: Some(Delivery::Presigned), storage_can_sign: false, ..PRESIGNED },
        ] {
            assert_eq!(effective(facts), Delivery::Proxied, "{facts:?}");
        }
        assert_eq!(asked(Some(&AsWritten::new("relayed"))), Some(Delivery::Proxied));
        assert_eq!((asked(Some(&Delivery::Presigned.into())), asked(None)), (Some(Delivery::Presigned), None));
        let despite = DeliveryFacts { recipient_has_networks: true, presigned_despite_networks: true, ..PRESIGNED };
        assert_eq!(effective(despite), Delivery::Presigned);
    }
}
