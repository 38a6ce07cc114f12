//! The foundations of every use case: context, clock, changes, pages, errors.

pub mod change;
pub mod clock;
pub mod context;
pub mod declared;
pub mod error;
mod geography;
pub mod idempotency;
pub mod jobs;
pub mod keys;
pub mod leases;
pub(super) mod lookup;
pub mod lookup_batcher;
pub(super) mod pacing;
pub mod page;
pub mod places;
pub mod precondition;
pub mod rate_limiter;
pub(super) mod readiness;
mod safeguards;
pub mod unit;
pub mod vitals;

use std::{ops::Deref, sync::Arc};

use crate::{
    domain::{access::geography::GeoMode, core::seal::Sealer},
    geography::Countries,
    store::Db,
    telemetry::Metrics,
};

use self::{clock::Clock, leases::Leases, vitals::Vitals};

use super::{audit::write::AuditWriter, insight::signals::Signals, operators::sign_in::SignIn};

/// What every service works with. Cheap to clone, since every service has one.
#[derive(Clone, Debug)]
pub struct Core(Arc<CoreParts>);

impl From<CoreParts> for Core {
    fn from(parts: CoreParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Core {
    type Target = CoreParts;

    fn deref(&self) -> &CoreParts {
        &self.0
    }
}

/// What a [`Core`] is made of.
#[derive(Debug)]
pub struct CoreParts {
    /// The database.
    pub db: Db,
    /// Tells the time.
    pub clock: Clock,
    /// Writes the audit trail.
    pub audit_writer: AuditWriter,
    /// Authenticates operators.
    pub sign_in: Arc<SignIn>,
    /// Queues signals for the webhooks that want them.
    pub signals: Arc<Signals>,
    /// Seals page tokens.
    pub pages: Sealer,
    /// Which tasks and jobs this server has taken.
    pub leases: Leases,
    /// What every recipient's request is asked of the country of its address.
    pub geo_mode: GeoMode,
    /// Which countries addresses are in, if a file says.
    pub countries: Option<Arc<Countries>>,
    /// Watches the tasks that must run as long as the server does.
    pub vitals: Vitals,
    /// Counts events for monitoring.
    pub metrics: Arc<Metrics>,
}
