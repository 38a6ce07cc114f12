//! What every handler of the protocol needs from a request: who calls, and the path's names.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;

use super::Error;
use crate::{
    domain::token::BearerToken,
    http::client,
    service::{
        Service,
        error::ServiceError,
        sharing::{Asked, Caller},
    },
};

/// Who calls, with what the path and the query string say.
#[derive(Debug)]
pub struct CallerOf {
    /// Who calls.
    pub caller: Caller,
    /// The names in the path, decoded.
    pub names: HashMap<String, String>,
    /// The query string's parameters; of a repeated one the last.
    pub parameters: HashMap<String, String>,
}

impl CallerOf {
    /// The name `key` of the path.
    pub(super) fn name(&self, key: &str) -> String {
        self.names.get(key).cloned().unwrap_or_default()
    }

    /// A query parameter; an empty one counts as absent.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Refuses a request that cannot be answered because of `error`, or tells a caller who may not ask only that.
    pub(super) async fn refuse(
        &self,
        service: &Service,
        action: &'static str,
        asked: Asked<'_>,
        error: ServiceError,
    ) -> Error {
        self.error(service.refuse_request(&self.caller, action, asked, error).await)
    }

    /// The same for a request about the table that the path names.
    pub(super) async fn refuse_table(&self, service: &Service, action: &'static str, error: ServiceError) -> Error {
        self.refuse(service, action, Asked::Table(&self.table_path()), error).await
    }

    /// `error` in the protocol's manner.
    pub(super) fn error(&self, error: ServiceError) -> Error {
        Error::new(error, &self.caller.request_id)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CallerOf {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let request_id = client::request_id(&parts.extensions);
        let parameter = |message: &str| Error::new(ServiceError::Parameter(message.to_owned()), &request_id);
        let Ok(Path(names)) = Path::<HashMap<String, String>>::from_request_parts(parts, state).await else {
            return Err(parameter("the path is not valid percent-encoded UTF-8"));
        };
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await else {
            return Err(parameter("the query string is not valid percent-encoded UTF-8"));
        };
        Ok(Self { caller: caller(parts, request_id), names, parameters: pairs.into_iter().collect() })
    }
}

/// Who calls, by the headers and by what the middleware found.
pub fn caller(parts: &Parts, request_id: String) -> Caller {
    Caller {
        token: client::bearer_token(&parts.headers).map(BearerToken::presented),
        address: client::address(&parts.extensions),
        user_agent: client::user_agent(&parts.headers),
        request_id,
        place: client::place(&parts.extensions),
    }
}
