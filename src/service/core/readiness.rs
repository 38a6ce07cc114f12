//! The condition of this server: whether it can serve, whether its clock can be trusted, and what it releases when it
//! stops.

use std::time::Duration;

use chrono::DateTime;
use tokio::time::timeout;

use crate::store::{AuditFilter, Order};

use super::{Core, error::ServiceError};

/// How long the database may take to answer a ping.
const PATIENCE: Duration = Duration::from_secs(5);

impl Core {
    /// Checks that the database answers in time, and records the result as a metric.
    pub async fn check_database(&self) -> Result<(), ServiceError> {
        let answered = match timeout(PATIENCE, self.db.ping()).await {
            Ok(answered) => answered.map_err(ServiceError::from),
            Err(late) => Err(ServiceError::Unavailable { what: "the database", source: late.into() }),
        };
        self.metrics.database_answers(answered.is_ok());
        answered
    }

    /// Does [`Self::check_database`]. If the trail could not be written, also checks whether it can be written again,
    /// so that this is reported even without requests.
    pub async fn watch_database(&self) -> Result<(), ServiceError> {
        let answered = self.check_database().await;
        if self.audit_writer.was_refused() {
            self.audit_writer.check().await?;
        }
        answered
    }

    /// Checks that requests could be served: all essential tasks run, and an event could be written.
    pub async fn check_ready(&self) -> Result<(), ServiceError> {
        if let Some(name) = self.vitals.ended() {
            let source = format!("`{name}` has ended and is started again").into();
            return Err(ServiceError::Unavailable { what: "the server", source });
        }
        let (answered, written) = tokio::join!(self.check_database(), self.audit_writer.check());
        answered.and(written)
    }

    /// Warns when the clock turns out to have been ahead, while the server ran or before it started. Claims made until
    /// a time in the future are released elsewhere, when they are next looked at.
    pub async fn watch_clock(&self) -> Result<(), ServiceError> {
        if self.clock.is_unseen() {
            let newest = AuditFilter { order: Order::Descending, ..AuditFilter::default() };
            if let Some(event) = self.db.list_audit(&newest, 1).await?.pop() {
                let body: serde_json::Value = serde_json::from_str(&event.body).unwrap_or_default();
                let at = body["at"].as_str().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
                self.clock.see(at.map(|at| at.to_utc()));
            }
        }
        if let Some(back) = self.clock.find_step_back() {
            self.metrics.clock_went_back();
            tracing::warn!(
                seconds = back.num_seconds(),
                "the clock was ahead, and goes back; events of the trail carry times that have yet to come, and claims \
                 that were made until then are let go"
            );
        }
        Ok(())
    }

    /// Releases what this server holds, so that others need not wait: leases, jobs, and the files that it is making.
    pub async fn release_claims(&self) -> Result<(), ServiceError> {
        let mut tx = self.db.begin().await?;
        tx.release_server(self.leases.holder()).await?;
        Ok(tx.commit().await?)
    }
}
