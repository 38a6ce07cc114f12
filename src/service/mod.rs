//! The use cases: what operators and recipients can do, one file per capability.
//!
//! Only this layer decides, opens transactions and writes to the audit trail. Never here: HTTP, SQL, reading Delta
//! logs. Start with [`sharing`], which handles recipients' requests.

pub mod access;
pub mod audit;
pub mod catalog;
pub mod core;
pub mod insight;
pub mod materialize;
pub mod operators;
pub mod sharing;

use std::{ops::Deref, sync::Arc};

use crate::{
    config::{ReportSettings, SharingSettings, UsageSettings},
    domain::core::seal::Sealer,
    identity::Identities,
    lake::Lake,
    storage::Storages,
    store::{Db, Reached, Sought, Tx},
    telemetry::Metrics,
};

use self::{
    audit::{seal::AuditSealer, write::AuditWriter},
    catalog::schema_holds::SchemaHolds,
    core::{
        clock::Clock, context::OperatorContext, error::ServiceError, leases::Leases, lookup_batcher::LookupBatcher,
        rate_limiter::RateLimiter, vitals::Vitals,
    },
    insight::signals::Signals,
    materialize::Materializer,
    operators::sign_in::SignIn,
    sharing::{first_reads::FirstReads, stream::Preparers},
};

/// The use cases. Cheap to clone, since every layer around a request clones them.
#[derive(Clone, Debug)]
pub struct Service(Arc<Parts>);

impl From<Parts> for Service {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Service {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Everything the use cases work with; built once by `app`.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The database.
    pub db: Db,
    /// Reads Delta tables.
    pub lake: Lake,
    /// The object stores.
    pub storages: Arc<Storages>,
    /// Makes and keeps the copies of views.
    pub materializer: Materializer,
    /// Writes the audit trail.
    pub audit_writer: AuditWriter,
    /// Looks up the facts for decisions, for concurrent requests together.
    pub lookups: LookupBatcher<Sought, Reached>,
    /// Prepares the chunks of large answers.
    pub preparers: Preparers,
    /// Seals page tokens.
    pub pages: Sealer,
    /// Seals file URLs.
    pub files: Sealer,
    /// The file URLs whose first read is already recorded.
    pub first_reads: Arc<FirstReads>,
    /// Counts requests and refusals in this server's memory.
    pub rate_limiter: Arc<RateLimiter>,
    /// The objects whose recipients are not served their table's newest version.
    pub schema_holds: Arc<SchemaHolds>,
    /// The trusted OpenID Connect issuers.
    pub identities: Identities,
    /// Authenticates operators.
    pub sign_in: Arc<SignIn>,
    /// Queues signals for the webhooks that want them.
    pub signals: Arc<Signals>,
    /// The sharing settings.
    pub settings: Arc<SharingSettings>,
    /// The usage settings.
    pub usage: UsageSettings,
    /// The report settings.
    pub reports: ReportSettings,
    /// Seals the audit trail and signs reports.
    pub audit_sealer: AuditSealer,
    /// Which tasks and jobs this server has taken.
    pub leases: Leases,
    /// The address that clients know the server by, without a trailing slash.
    pub public_url: Arc<str>,
    /// Tells the time.
    pub clock: Clock,
    /// Watches the tasks that must run as long as the server does.
    pub vitals: Vitals,
    /// Counts events for monitoring.
    pub metrics: Arc<Metrics>,
}

/// How many times a change is attempted if the facts it rests on keep changing.
const ATTEMPTS: usize = 3;

/// The error after that many attempts.
fn unsettled() -> ServiceError {
    ServiceError::conflict("others change what this stands on at the same time; repeat it")
}

impl Service {
    /// The address of the sharing protocol, as written into profiles.
    pub fn endpoint(&self) -> String {
        format!("{}{}", self.public_url, self.settings.prefix)
    }

    /// Opens the transaction of an operator's change or dry run. A dry run only reads, and no request waits for it. A
    /// change holds the audit chain's lock from the start, so changes and the decisions of the data plane follow one
    /// order, and the facts that a change rests on stay true. The time is read and the operator is authorized under the
    /// lock: times follow that order, and an operator that lost its rights changes nothing.
    async fn begin_change(&self, ctx: &OperatorContext) -> Result<(Tx, OperatorContext), ServiceError> {
        if ctx.is_dry() {
            let mut tx = self.db.rehearse().await?;
            let now = self.clock.now();
            let (actor, principal) = self.admit_again(&mut tx, ctx, now).await?;
            return Ok((tx, OperatorContext { actor, principal, now, ..ctx.clone() }));
        }
        let mut tx = self.begin_locked().await?;
        let now = self.clock.now();
        let (actor, principal) = self.admit_again(&mut tx, ctx, now).await?;
        Ok((tx, OperatorContext { actor, principal, now, ..ctx.clone() }))
    }

    /// Opens a transaction that holds the audit chain's lock.
    async fn begin_locked(&self) -> Result<Tx, ServiceError> {
        // The turn is for the lock alone, which SQLite takes with the transaction.
        let early = self.db.locks_at_begin().then(|| self.audit_writer.take_turn());
        let mut tx = self.db.begin_change().await?;
        let turn = early.unwrap_or_else(|| self.audit_writer.take_turn());
        tx.lock_audit_head().await?;
        drop(turn);
        Ok(tx)
    }
}
