//! The admin API: operators' operations over HTTP, described by an OpenAPI document that is made from the same router.
//!
//! Handlers extract, call a use case, and convert; wire types end in `Body` (in) and `View` (out). Never here: a
//! decision, or a domain type on the wire.

mod access;
mod audit;
mod catalog;
mod core;
mod insight;
mod materialize;
mod operators;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::Response,
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use crate::service::{Services, core::error::ServiceError};

use self::core::{
    auth::{self, Routes},
    docs, jobs,
    problem::{self, Problem, ProblemCode, ProblemView},
};

/// The largest body that is read, in bytes; operators need no longer ones.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The state of the admin API.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The use cases.
    pub service: Services,
    /// The address of the sharing protocol for recipients, written into profiles: the public URL with the protocol's
    /// prefix.
    pub endpoint: String,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Weir admin API",
        description = "Register tables, share them, grant shares to recipients, issue tokens, read the audit trail. \
                       Errors are RFC 9457 problems; `code` tells them apart. Durations are in seconds, times RFC 3339 \
                       in UTC. PUT creates or confirms and never changes; PATCH is an RFC 7396 merge patch.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemView)),
    security(("operator" = [])),
    modifiers(&Conventions)
)]
struct Document;

/// The parts of the document that hold for every operation.
struct Conventions;

impl Modify for Conventions {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An operator's token, a JWT from the operators' issuer, or the bootstrap token"))
            .build();
        document.components.get_or_insert_default().add_security_scheme("operator", SecurityScheme::Http(scheme));
    }
}

/// Builds the routes under `/api`, and the document that describes them.
pub fn router(admin: Admin) -> (Router, openapi::OpenApi) {
    let (api, mut document) = described();
    let routes = Routes::of(&mut document);
    let api = api
        .fallback(unknown_route)
        .layer(middleware::from_fn_with_state((admin.clone(), routes), auth::authenticate))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let routes = Router::new().nest("/api", api).merge(docs::router(&document));
    (routes.layer(middleware::from_fn_with_state(admin.clone(), problem::render)).with_state(admin), document)
}

/// Builds only the document, for clients of a server.
pub fn document() -> openapi::OpenApi {
    described().1
}

fn described() -> (Router<Admin>, openapi::OpenApi) {
    let (api, described) = OpenApiRouter::new().nest("/v1", operations()).split_for_parts();
    let mut document = Document::openapi().nest("/api", described);
    complete(&mut document);
    (api, document)
}

/// Builds the routes of every operation, with the permission that it requires.
fn operations() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(access::routes())
        .merge(audit::routes())
        .merge(catalog::routes())
        .merge(jobs::routes())
        .merge(insight::routes())
        .merge(materialize::routes())
        .merge(operators::routes())
}

/// Answers `error` in this face's format, for errors outside of its routes.
pub fn problem(error: ServiceError, request_id: &str) -> Response {
    Problem::from(error).write(request_id)
}

/// Answers a status that HTTP itself calls for, in this face's format.
pub fn problem_of_status(status: StatusCode, message: &str, request_id: &str) -> Response {
    Problem::new(ProblemCode::of(status), message).write(request_id)
}

/// Completes the document with the common parts of every operation: it can answer a problem, and every answer has a
/// description, because OpenAPI requires one.
fn complete(document: &mut openapi::OpenApi) {
    let schema = Some(RefOr::Ref(Ref::from_schema_name("ProblemView")));
    let content = ContentBuilder::new().schema(schema).build();
    let response = ResponseBuilder::new()
        .description("A problem: `code` says which, `detail` what to do")
        .content("application/problem+json", content)
        .build();
    for item in document.paths.paths.values_mut() {
        for (method, operation) in auth::operations(item) {
            auth::add_dry_run(&method, operation);
            for answer in operation.responses.responses.values_mut() {
                if let RefOr::T(answer) = answer
                    && answer.description.is_empty()
                {
                    answer.description = "Done".into();
                }
            }
            operation.responses.responses.insert("default".into(), RefOr::T(response.clone()));
        }
    }
}

/// Returns whether a caller accepts this media type.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let media_types = accepted.flat_map(|value| value.split(','));
    media_types.map(|value| value.split(';').next().unwrap_or_default().trim()).any(|name| name == media_type)
}

/// The message for a path below the API without a route.
pub const NO_SUCH_OPERATION: &str = "there is nothing here; `/api/docs` shows what there is";

async fn unknown_route() -> Problem {
    Problem::new(ProblemCode::NotFound, NO_SUCH_OPERATION)
}

async fn unknown_method() -> Problem {
    Problem::new(ProblemCode::MethodNotAllowed, "this route has other methods; `Allow` names them")
}
