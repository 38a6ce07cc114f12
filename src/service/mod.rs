//! Use cases: what operators and recipients can do, one file per capability.
//!
//! The only floor that decides, opens a transaction or writes to the audit trail. Never here: HTTP, SQL, how a log is
//! read. Start with [`sharing`], the way of a recipient's request.

pub mod clock;
pub mod error;
pub mod trail;

use std::sync::Arc;

use crate::{config::SharingSettings, domain::seal::Sealer, lake::Lake, storage::Storages, store::Db, telemetry::Metrics};

use self::{clock::Clock, trail::Trail};

/// Everything that use cases work with, built once by `app` and handed down.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is kept.
    pub db: Db,
    /// Delta logs.
    pub lake: Arc<Lake>,
    /// Object stores.
    pub storages: Arc<Storages>,
    /// The audit trail.
    pub trail: Trail,
    /// Seals page tokens.
    pub pages: Sealer,
    /// Seals file URLs.
    pub files: Sealer,
    /// The settings of sharing.
    pub settings: Arc<SharingSettings>,
    /// Tells the time.
    pub clock: Clock,
    /// Counts what happens.
    pub metrics: Metrics,
}
