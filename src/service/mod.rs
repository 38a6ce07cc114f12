//! Use cases: what operators and recipients can do, one file per capability.
//!
//! The only floor that decides, opens a transaction or writes to the audit trail. Never here: HTTP, SQL, how a log is
//! read. Start with [`sharing`], the way of a recipient's request.

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

/// The use cases. Cheap to clone, as every layer around a request does.
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

/// Everything that use cases work with, built once by `app` and handed down.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What is kept.
    pub db: Db,
    /// Delta logs.
    pub lake: Lake,
    /// Object stores.
    pub storages: Arc<Storages>,
    /// What makes and keeps the copies of views.
    pub materializer: Materializer,
    /// The audit trail.
    pub audit_writer: AuditWriter,
    /// What requests are decided from, looked up together.
    pub lookups: LookupBatcher<Sought, Reached>,
    /// Prepares the chunks of large answers.
    pub preparers: Preparers,
    /// Seals page tokens.
    pub pages: Sealer,
    /// Seals file URLs.
    pub files: Sealer,
    /// The file URLs whose first read is already recorded.
    pub first_reads: Arc<FirstReads>,
    /// What callers did in this minute.
    pub rate_limiter: Arc<RateLimiter>,
    /// The objects whose recipients are not served their table's newest version.
    pub schema_holds: Arc<SchemaHolds>,
    /// Issuers of OpenID Connect that are believed.
    pub identities: Identities,
    /// How operators sign in.
    pub sign_in: Arc<SignIn>,
    /// Who wants to be told what.
    pub signals: Arc<Signals>,
    /// The settings of sharing.
    pub settings: Arc<SharingSettings>,
    /// The settings of usage.
    pub usage: UsageSettings,
    /// The settings of reports.
    pub reports: ReportSettings,
    /// Seals the audit trail, and signs what is made of it.
    pub audit_sealer: AuditSealer,
    /// Which tasks and jobs this server has taken.
    pub leases: Leases,
    /// The address that clients know the server by, without a trailing slash.
    pub public_url: Arc<str>,
    /// Tells the time.
    pub clock: Clock,
    /// What has to run for as long as the server does.
    pub vitals: Vitals,
    /// Counts what happens.
    pub metrics: Arc<Metrics>,
}

/// How often a change is begun that finds what it stands on changed meanwhile.
const ATTEMPTS: usize = 3;

/// What a change comes to that was begun so often.
fn unsettled() -> ServiceError {
    ServiceError::conflict("others change what this stands on at the same time; repeat it")
}

impl Service {
    /// Where recipients find the sharing protocol; written into profiles.
    pub fn endpoint(&self) -> String {
        format!("{}{}", self.public_url, self.settings.prefix)
    }

    /// Opens the transaction of an operator's change, or of its dry run, which reads alone and that nobody waits for. A
    /// change holds the audit chain's lock from its first moment: changes
    /// follow each other and the data plane's decisions in one order, and what a change is made up from stays true. The
    /// change's time is read under the lock, so that times follow that order, too; and so is who the operator is, so that
    /// nothing is changed by one that may not any more.
    async fn begin_change(&self, ctx: &OperatorContext) -> Result<(Tx, OperatorContext), ServiceError> {
        if ctx.is_dry() {
            let mut tx = self.db.rehearse().await?;
            let now = self.clock.now();
            let actor = self.admit_again(&mut tx, ctx, now).await?;
            return Ok((tx, OperatorContext { actor, now, ..ctx.clone() }));
        }
        // The turn is for the lock alone, which SQLite takes with the transaction.
        let early = self.db.locks_at_begin().then(|| self.audit_writer.take_turn());
        let mut tx = self.db.begin_change().await?;
        let turn = early.unwrap_or_else(|| self.audit_writer.take_turn());
        tx.lock_audit_head().await?;
        drop(turn);
        let now = self.clock.now();
        let actor = self.admit_again(&mut tx, ctx, now).await?;
        Ok((tx, OperatorContext { actor, now, ..ctx.clone() }))
    }
}
