//! Whether a server can do its work, which takes its database and nothing else.

use std::time::Duration;

use tokio::time::timeout;

use super::{Service, error::ServiceError};

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
}
