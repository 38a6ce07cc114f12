//! Shares and the objects in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use uuid::Uuid;

use crate::domain::{
    access::delivery::{Delivery, asked},
    audit::action::{Action, Changes, Kind},
    core::{
        declared::{Declared, Plain},
        name::{Name, NameKind},
        spec::{Effect, FieldError, Spec},
        word::{AsWritten, Words},
    },
    operators::principal::{Thing, check_domain},
};

use super::{
    raw_disclosure::DisclosureItem,
    requirements::{EffectiveMasks, Requirements},
    shape::AcceptedShape,
};

/// The settings of a share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = ShareBody)]
pub struct ShareSpec {
    /// A name for people, which recipients see (the protocol's `displayName`).
    pub display_name: Option<String>,
    /// A description, which recipients see (the protocol's `comment`).
    pub description: Option<String>,
    /// Properties by name, which recipients see (the protocol's `properties`).
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub properties: BTreeMap<String, String>,
    /// The domain that it belongs to: operators whose role counts there may act on it. Recipients never see it.
    pub domain: Option<String>,
}

impl Spec for ShareSpec {
    const OPAQUE: &'static [&'static str] = &["properties"];

    fn check(&self, problems: &mut Vec<FieldError>) {
        check_domain(self.domain.as_deref(), problems);
    }

    fn effect(field: &str, _: &Self, _: &Self) -> Option<Effect> {
        match field {
            "display_name" | "description" | "properties" => Some(Effect::Neutral),
            // Whose roles count for it changes with it.
            "domain" => Some(Effect::Loosens),
            _ => None,
        }
    }
}

impl Plain for ShareSpec {
    const KIND: Kind = Kind::Share;
    const ACTIONS: Changes =
        Changes { create: Action::ShareCreate, update: Action::ShareUpdate, delete: Action::ShareDelete };
    const NAME: NameKind = NameKind::Share;
    const TABLE: &'static str = "shares";
}

/// A bundle of objects that recipients are granted as a whole. Its identity is the protocol's `id`.
pub type Share = Declared<ShareSpec>;

impl Share {
    /// What scopes see of it.
    pub fn thing(&self) -> Thing {
        Thing::share(self.name.as_str(), self.spec.domain.as_deref())
    }
}

/// What a raw object does when its table's schema changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// Serves the new schema at once.
    #[default]
    Follow,
    /// Serves the newest version with the accepted schema.
    Hold,
}

impl Words for OnSchemaChange {
    const NOUN: &'static str = "way to take a new schema";
    const ALL: &'static [(&'static str, Self)] = &[("follow", Self::Follow), ("hold", Self::Hold)];
}

/// A published version of a view, as an object shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedView {
    /// The view.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// The version.
    pub version: i64,
    /// The masks that are in effect instead of the version's own.
    pub masks: Arc<EffectiveMasks>,
}

impl std::fmt::Display for SharedView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@v{}", self.name, self.version)
    }
}

/// The source of an object, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceName {
    /// The registered table of this name, file by file.
    Table(String),
    /// A published version of a view, as `name@vN`.
    View(String),
}

/// What an object shows: either a table or a version of a view.
#[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SourceBody)]
pub struct WrittenSource {
    /// The name of a registered table, whose files are shared as they are.
    #[schema(example = "claims.claims")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    /// A published version of a view, as `name@vN`.
    #[schema(example = "claims.claims_fraud@v1")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    view: Option<String>,
}

impl Serialize for SourceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match self.clone() {
            Self::Table(table) => WrittenSource { table: Some(table), view: None },
            Self::View(view) => WrittenSource { table: None, view: Some(view) },
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SourceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WrittenSource::deserialize(deserializer)? {
            WrittenSource { table: Some(table), view: None } => Ok(Self::Table(table)),
            WrittenSource { table: None, view: Some(view) } => Ok(Self::View(view)),
            WrittenSource { table: Some(_), view: Some(_) } => {
                Err(D::Error::custom("must name a `table` or a `view`, not both"))
            }
            WrittenSource { table: None, view: None } => Err(D::Error::custom("must name a `table` or a `view`")),
        }
    }
}

/// The settings of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ObjectBody)]
pub struct ObjectSpec {
    /// What the object shows: a table or a version of a view. Required for a new object; later only the view's version
    /// can change.
    #[schema(value_type = Option<WrittenSource>)]
    pub source: SourceName,
    /// Whether recipients may read older versions, back to `start_version`. Default: false.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub history: bool,
    /// The oldest table version that recipients may read if `history` is set. Default: the table's newest version when
    /// the object is created.
    #[schema(value_type = Option<i64>, minimum = 0)]
    pub start_version: i64,
    /// Whether recipients may read the change data feed. Needs `history`; not available for views. Default: false.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub cdf: bool,
    /// `proxied` sends the object's files through the server; `presigned` or null leaves the choice to storage and
    /// recipient.
    #[serde(default)]
    #[schema(value_type = Option<Delivery>)]
    pub delivery: Option<AsWritten<Delivery>>,
    /// What to do when the schema of a raw table changes: `follow` (the default) serves the new schema at once, `hold`
    /// serves the newest version with the accepted schema until an operator accepts the new one.
    #[serde(default = "follow")]
    #[schema(value_type = Option<OnSchemaChange>)]
    pub on_schema_change: AsWritten<OnSchemaChange>,
    /// The disclosures of a raw table's files that you acknowledge. With `sharing.require_acknowledge` every one that
    /// applies must be named.
    #[serde(default)]
    #[schema(value_type = Option<Vec<DisclosureItem>>)]
    pub acknowledge: BTreeSet<AsWritten<DisclosureItem>>,
    /// Whether recipients that are restricted to networks get presigned URLs too, which work from any address. By
    /// default they get files through the server.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub presigned_despite_networks: bool,
    /// Why the table is shared file by file, though it shows a class whose control asks for a reason (`raw: justify`).
    #[serde(default)]
    pub justification: Option<String>,
    /// A note for operators.
    #[serde(default)]
    pub description: Option<String>,
}

fn follow() -> AsWritten<OnSchemaChange> {
    OnSchemaChange::Follow.into()
}

impl ObjectSpec {
    /// What it does when the schema changes. A word that only a newer server knows means the stricter one here.
    pub fn schema_change(&self) -> OnSchemaChange {
        self.on_schema_change.means().unwrap_or(OnSchemaChange::Hold)
    }
}

impl Spec for ObjectSpec {
    const OPAQUE: &'static [&'static str] = &["source"];

    fn required(field: &str) -> &'static str {
        if field == "source" { "name a table or view" } else { "give it a value" }
    }

    fn check(&self, problems: &mut Vec<FieldError>) {
        if self.cdf && !self.history {
            problems.push(FieldError::new("cdf", "needs `history: true`: changes tell what older versions held"));
        }
        if self.justification.as_deref().is_some_and(|text| text.trim().is_empty()) {
            problems.push(FieldError::new("justification", "is empty; leave it out, or give the reason"));
        }
        if let Some(delivery) = &self.delivery {
            delivery.check("delivery", problems);
        }
        self.on_schema_change.check("on_schema_change", problems);
        for item in &self.acknowledge {
            item.check("acknowledge", problems);
        }
        if let SourceName::View(_) = self.source {
            if self.justification.is_some() {
                let message = "is for raw tables; a view shows what its masks leave";
                problems.push(FieldError::new("justification", message));
            }
            if self.cdf {
                let message = "is not offered for views yet; share versions as a whole";
                problems.push(FieldError::new("cdf", message));
            }
            if self.on_schema_change == OnSchemaChange::Hold {
                let message = "is for raw tables; a view holds by itself what no longer fits";
                problems.push(FieldError::new("on_schema_change", message));
            }
        }
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        let tightens = match field {
            "description" => return Some(Effect::Neutral),
            // Another version of a view may show anything.
            "source" => false,
            "history" => !after.history,
            "start_version" => after.start_version > before.start_version,
            "cdf" => !after.cdf,
            "delivery" => after.delivery.as_ref().is_some_and(|delivery| *delivery == Delivery::Proxied),
            "on_schema_change" => after.on_schema_change == OnSchemaChange::Hold,
            "acknowledge" => after.acknowledge.is_subset(&before.acknowledge),
            "presigned_despite_networks" => !after.presigned_despite_networks,
            "justification" => after.justification.is_none(),
            _ => return None,
        };
        Some(if tightens { Effect::Tightens } else { Effect::Loosens })
    }
}

/// A table as it appears in a share.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedObject {
    /// Its identity, answered to recipients as the table's `id`.
    pub id: Uuid,
    /// The share that contains it.
    pub share_id: Uuid,
    /// The schema under which it appears.
    pub schema: Name,
    /// The name under which it appears.
    pub name: Name,
    /// The registered table behind it.
    pub table_id: Uuid,
    /// The version of a view that it shows; `None` for a raw object, which shows the table file by file.
    pub view: Option<SharedView>,
    /// What operators set.
    pub spec: ObjectSpec,
    /// The accepted shape, if this is a raw object that holds its schema.
    pub accepted: Option<AcceptedShape>,
    /// What it asks of its readers; `None` where that was not derived yet, as when a server of an earlier release made it.
    pub requirements: Option<Arc<Requirements>>,
    /// When it was shared.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag. A change of what it asks of its readers counts as well.
    pub revision: i64,
}

impl SharedObject {
    /// The delivery that the object itself asks for, by its settings or by a class that it shows.
    pub fn delivery(&self) -> Option<Delivery> {
        match &self.requirements {
            Some(requirements) if requirements.proxied => Some(Delivery::Proxied),
            _ => asked(self.spec.delivery.as_ref()),
        }
    }
}
