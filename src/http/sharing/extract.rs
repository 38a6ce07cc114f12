//! The inputs that every handler of the protocol needs: the caller, and the names in the path.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, MatchedPath, Path, Query};
use http::request::Parts;

use crate::{
    domain::{access::token::BearerToken, audit::action::Action},
    http::client,
    lake::Feed,
    service::{
        Services,
        core::error::ServiceError,
        sharing::{Caller, RequestedNames},
    },
};

use super::Error;

/// What audit events call a request that no route takes.
pub(super) const UNKNOWN_REQUEST: Action = Action::RequestUnknown;

/// The caller of a request, with its path names and query parameters.
#[derive(Debug)]
pub struct CallerOf {
    /// The caller.
    pub caller: Caller,
    /// The names in the path, decoded.
    pub names: HashMap<String, String>,
    /// The query string's parameters; the last value of a repeated one.
    pub parameters: HashMap<String, String>,
}

impl CallerOf {
    /// Returns the path's name `key`, or an empty text.
    pub(super) fn name(&self, key: &str) -> String {
        self.names.get(key).cloned().unwrap_or_default()
    }

    /// Returns a query parameter; an empty one counts as absent.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Refuses a request because of `error`; a caller without access learns only that it has no access.
    pub(super) async fn refuse(
        &self,
        service: &Services,
        action: Action,
        asked: RequestedNames<'_>,
        error: ServiceError,
    ) -> Error {
        self.error(service.sharing.refuse_request(&self.caller, action, asked, error).await)
    }

    /// The same for a request about the table that the path names.
    pub(super) async fn refuse_table(&self, service: &Services, action: Action, error: ServiceError) -> Error {
        self.refuse(service, action, RequestedNames::Table(&self.table_path()), error).await
    }

    /// The same for a request that was found wrong while it was read.
    pub(super) async fn refuse_wrong(&self, service: &Services, action: Action, wrong: Wrong) -> Error {
        let Wrong { error, past } = wrong;
        let path = self.table_path();
        self.error(match service.sharing.admit_to_table(&self.caller, action, &path).await {
            Ok(admitted) => admitted.refuse_about(past, error).await,
            Err(refusal) => refusal,
        })
    }

    /// Converts `error` to the protocol's format.
    pub(super) fn error(&self, error: ServiceError) -> Error {
        Error::new(error, &self.caller.request_id)
    }
}

/// An error in a request about a table.
#[derive(Debug)]
pub struct Wrong {
    /// The error for the caller, if the table shares the requested past.
    pub error: ServiceError,
    /// The kind of past of the table that the request asks for.
    pub past: Option<Feed>,
}

impl Wrong {
    /// Makes an error about a request for a table's past.
    pub(super) fn about(past: Feed) -> impl Fn(ServiceError) -> Self {
        move |error| Self { error, past: Some(past) }
    }
}

impl From<ServiceError> for Wrong {
    fn from(error: ServiceError) -> Self {
        Self { error, past: None }
    }
}

impl FromRequestParts<Services> for CallerOf {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, service: &Services) -> Result<Self, Self::Rejection> {
        let request_id = client::request_id(&parts.extensions);
        let caller = caller(parts, request_id);
        let names = Path::<HashMap<String, String>>::from_request_parts(parts, service).await;
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, service).await;
        let unreadable = match (&names, &pairs) {
            (Err(_), _) => "the path is not valid percent-encoded UTF-8",
            (_, Err(_)) => "the query string is not valid percent-encoded UTF-8",
            (Ok(_), Ok(_)) => "",
        };
        let (Ok(Path(names)), Ok(Query(pairs))) = (names, pairs) else {
            let of = Self { caller, names: HashMap::new(), parameters: HashMap::new() };
            let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
            let error = ServiceError::Parameter(unreadable.to_owned());
            return Err(of.refuse(service, action_of(route), RequestedNames::Own, error).await);
        };
        Ok(Self { caller, names, parameters: pairs.into_iter().collect() })
    }
}

/// What audit events call a request for this route.
fn action_of(route: &str) -> Action {
    match route.rsplit('/').next().unwrap_or_default() {
        "shares" => Action::SharesList,
        "{share}" => Action::ShareGet,
        "schemas" => Action::SchemasList,
        "tables" | "all-tables" => Action::TablesList,
        "{table}" | "version" => Action::TableVersion,
        "metadata" => Action::TableMetadata,
        "query" => Action::TableQuery,
        "changes" => Action::TableChanges,
        "{query_id}" => Action::TableQueryStatus,
        "temporary-table-credentials" => Action::TableCredentials,
        _ => UNKNOWN_REQUEST,
    }
}

/// Makes the caller from the headers and the middleware's findings.
pub fn caller(parts: &Parts, request_id: String) -> Caller {
    Caller {
        token: client::bearer_token(&parts.headers).map(BearerToken::presented),
        address: client::address(&parts.extensions),
        user_agent: client::user_agent(&parts.headers),
        request_id,
        place: client::place(&parts.extensions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_an_action() {
        const TABLE: &str = "/x/shares/{share}/schemas/{schema}/tables/{table}";
        for (route, action) in [
            ("/x/shares".to_owned(), Action::SharesList),
            ("/x/shares/{share}".to_owned(), Action::ShareGet),
            ("/x/shares/{share}/all-tables".to_owned(), Action::TablesList),
            (TABLE.to_owned(), Action::TableVersion),
            (format!("{TABLE}/queries/{{query_id}}"), Action::TableQueryStatus),
            (format!("{TABLE}/query"), Action::TableQuery),
            (String::new(), UNKNOWN_REQUEST),
        ] {
            assert_eq!(action_of(&route), action, "{route}");
        }
    }
}
