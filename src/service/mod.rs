//! Use cases: what operators and recipients can do, one file per capability.
//!
//! The only floor that decides, opens a transaction or writes to the audit trail. Never here: HTTP, SQL, how a log is
//! read. Start with [`sharing`], the way of a recipient's request.

pub mod clock;
pub mod error;
pub mod first_reads;
pub mod operators;
pub mod sharing;
pub mod trail;

use std::sync::Arc;

use crate::{
    config::SharingSettings, domain::seal::Sealer, lake::Lake, storage::Storages, store::Db, telemetry::Metrics,
};

use self::{clock::Clock, first_reads::FirstReads, trail::Trail};

/// Everything that use cases work with, built once by `app` and handed down.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is kept.
    pub db: Db,
    /// Delta logs.
    pub lake: Lake,
    /// Object stores.
    pub storages: Arc<Storages>,
    /// The audit trail.
    pub trail: Trail,
    /// Seals page tokens.
    pub pages: Sealer,
    /// Seals file URLs.
    pub files: Sealer,
    /// The file URLs whose first read is already recorded.
    pub first_reads: Arc<FirstReads>,
    /// The settings of sharing.
    pub settings: Arc<SharingSettings>,
    /// The address that clients know the server by, without a trailing slash.
    pub public_url: Arc<str>,
    /// Tells the time.
    pub clock: Clock,
    /// Counts what happens.
    pub metrics: Arc<Metrics>,
}
