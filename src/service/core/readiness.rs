//! Whether a server can do its work: whether it can write to the audit trail, and runs whole.

use std::time::Duration;

use tokio::time::timeout;

use crate::service::Service;

use super::error::ServiceError;

/// How long the database may take to answer that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

impl Service {
    /// Whether the database answers, in good time; counted, for those who watch.
    pub async fn check_database(&self) -> Result<(), ServiceError> {
        let answered = match timeout(PATIENCE, self.db.ping()).await {
            Ok(answered) => answered.map_err(ServiceError::from),
            Err(late) => Err(ServiceError::Unavailable { what: "the database", source: late.into() }),
        };
        self.metrics.database_answers(answered.is_ok());
        answered
    }

    /// [`Self::check_database`]; where the trail could not be written, whether it can be again, so that this is told although
    /// nobody asks.
    pub async fn watch_database(&self) -> Result<(), ServiceError> {
        let answered = self.check_database().await;
        if self.audit_writer.was_refused() {
            self.audit_writer.check().await?;
        }
        answered
    }

    /// Whether requests could be served: everything that should run does, and an event could be written.
    pub async fn check_ready(&self) -> Result<(), ServiceError> {
        if let Some(name) = self.vitals.ended() {
            let source = format!("`{name}` has ended and is started again").into();
            return Err(ServiceError::Unavailable { what: "the server", source });
        }
        let (answered, written) = tokio::join!(self.check_database(), self.audit_writer.check());
        answered.and(written)
    }
}
