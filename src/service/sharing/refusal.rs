//! Requests that cannot be answered whatever is found: malformed ones, and what the protocol has and this server has not.
//!
//! They are decided all the same, so that nobody learns anything from them who may not ask, and recorded.

use crate::service::{Service, core::error::ServiceError};

use super::{
    Caller, RequestedNames,
    audited_request::{AuditedRequest, Subject},
};

impl Service {
    /// Answers what the caller of a request that cannot be answered because of `error` is told: the refusal, where the
    /// caller may not ask at all, and `error` otherwise.
    pub async fn refuse_request(
        &self,
        caller: &Caller,
        action: &'static str,
        asked: RequestedNames<'_>,
        error: ServiceError,
    ) -> ServiceError {
        let mut attempt = match AuditedRequest::begin(self, caller, action, asked).await {
            Ok(attempt) => attempt,
            Err(unavailable) => return unavailable,
        };
        let decided = match asked {
            RequestedNames::Own => attempt.decide_own().await.map(drop),
            RequestedNames::Share(share) => attempt.decide_share(&Subject::share(share)).await.map(drop),
            RequestedNames::Table(path) => self.find_table(&mut attempt, path).await.map(drop),
        };
        let outcome: Result<(), ServiceError> = attempt.settle(decided.and(Err(error))).await;
        outcome.err().unwrap_or_else(|| ServiceError::internal("a refusal was no error"))
    }
}
