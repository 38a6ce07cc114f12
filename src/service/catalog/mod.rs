//! The things that can be shared: tables, shares, objects, views, their domains and owners, and what sharing them discloses.

pub mod columns;
mod controls;
pub mod disclosures;
pub mod discovery;
mod domains;
pub mod exposure;
pub mod impact;
pub mod objects;
pub(super) mod ownership;
pub(super) mod raw_disclosures;
mod requirements;
pub mod schema_holds;
pub mod shares;
pub mod tables;
pub mod views;

use std::sync::Arc;

use crate::{config::SharingSettings, lake::Lake, storage::Storages, unity::UnityServers};

use super::{core::Core, materialize::Materializer};

use self::schema_holds::SchemaHolds;

/// The use cases about what can be shared.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// What every service works with.
    pub core: Core,
    /// Makes and keeps the copies of views.
    pub materializer: Materializer,
    /// Reads Delta tables.
    pub lake: Lake,
    /// The object stores.
    pub storages: Arc<Storages>,
    /// The Unity Catalog servers that may be asked for tables.
    pub unity: UnityServers,
    /// The objects whose recipients are not served their table's newest version.
    pub schema_holds: Arc<SchemaHolds>,
    /// The sharing settings.
    pub settings: Arc<SharingSettings>,
    /// Whether an object is read only if every column that it shows has a confirmed class.
    pub require_classification: bool,
}
