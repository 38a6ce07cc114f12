//! Refuses requests that can never be answered: malformed ones, and parts of the protocol that this server does not
//! offer.
//!
//! They are still decided and recorded, so that callers without access learn nothing from them.

use crate::{domain::audit::action::Action, service::core::error::ServiceError};

use super::{
    Caller, RequestedNames, Sharing,
    audited_request::{AuditedRequest, Subject},
};

impl Sharing {
    /// Refuses a request that cannot be answered because of `error`: returns the decision's refusal if the caller has
    /// no access, and `error` otherwise.
    pub async fn refuse_request(
        &self,
        caller: &Caller,
        action: Action,
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
