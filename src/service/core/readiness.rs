//! Readiness of a server: it can write to the audit trail, and all its essential tasks run.

use std::time::Duration;

use tokio::time::timeout;

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
}
