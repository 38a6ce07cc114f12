//! Authentication and authorisation of the admin API: every route below `/api/v1` is behind [`authenticate`].

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, MatchedPath, OriginalUri, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use url::form_urlencoded;
use utoipa::openapi::{
    OpenApi, PathItem, RefOr, Required,
    path::{Operation, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    domain::{
        audit::Personal,
        core::{
            message::{echoed, quoted},
            word::Words,
        },
        operators::Permission,
    },
    http::{
        admin::{Admin, unknown_method},
        client,
    },
    service::{
        core::context::Asked,
        core::{
            context::{OperatorContext, Run},
            error::ServiceError,
        },
    },
    telemetry::known_method,
};

use super::problem::{Problem, ProblemCode};

/// The member of an operation in the document that names the required permission.
const PERMISSION: &str = "x-required-permission";
/// The member that names the roles with that permission.
const ROLES: &str = "x-required-roles";

/// The query parameter for a dry run, of every operation that changes something.
pub const DRY_RUN: &str = "dry_run";
/// Marks the answer of a dry run.
const DRY_RUN_HEADER: HeaderName = HeaderName::from_static("x-weir-dry-run");
/// How much of a parameter's name a message repeats, in characters.
const LONGEST_SHOWN: usize = 64;

/// The context of the authenticated operator, for use cases.
#[derive(Debug)]
pub struct Operator(pub OperatorContext);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let context = parts.extensions.get::<OperatorContext>().cloned();
        context.map(Self).ok_or_else(|| Problem::new(ProblemCode::Unauthenticated, "the operator token is missing"))
    }
}

/// Declares in the document the permission that every operation of `routes` requires; [`Routes`] are read from there.
pub fn requiring(permission: Permission, mut routes: OpenApiRouter<Admin>) -> OpenApiRouter<Admin> {
    let roles: Vec<&str> = permission.role_words().collect();
    for item in routes.get_openapi_mut().paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            let extensions = operation.extensions.get_or_insert_default();
            extensions.insert(PERMISSION.to_owned(), permission.as_str().into());
            extensions.insert(ROLES.to_owned(), roles.clone().into());
        }
    }
    routes
}

/// Adds the parameter for a dry run to an operation that changes something.
pub fn add_dry_run(method: &Method, operation: &mut Operation) {
    if method == Method::GET {
        return;
    }
    let description = "If true, a dry run: every check is made, but nothing is saved. The answer shows what the result \
                       would be, with 200 instead of 201, the header `x-weir-dry-run: true`, and no secret";
    let parameter = ParameterBuilder::new()
        .name(DRY_RUN)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::Boolean)));
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter.build()));
}

/// Returns every operation of a path with its method.
pub fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let operations = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The document's declarations for each operation, by path template and method.
#[derive(Clone, Debug)]
pub struct Routes(Arc<HashMap<String, HashMap<Method, Declared>>>);

/// The document's declarations for one operation.
#[derive(Clone, Debug)]
struct Declared {
    permission: Option<Permission>,
    /// The names of its query parameters.
    parameters: Vec<String>,
}

/// The requirement for admitting a request.
#[derive(Debug)]
enum Needed {
    /// A permission.
    Permission(Permission),
    /// There is no such route; only operators are told so.
    NoRoute,
    /// The route exists, but only with other methods, which are listed; only operators are told so.
    NoMethod(HeaderValue),
    /// The route declares no permission, so nobody may use it.
    Undeclared,
}

impl Routes {
    /// Reads the declarations of `document`.
    pub fn of(document: &mut OpenApi) -> Self {
        let paths = document.paths.paths.iter_mut().map(|(path, item)| {
            let declared = operations(item).map(|(method, operation)| {
                let extension = operation.extensions.as_ref().and_then(|extensions| extensions.get(PERMISSION));
                let permission = extension.and_then(|value| Permission::parse(value.as_str()?));
                let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
                    RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
                    _ => None,
                });
                let parameters = parameters.collect();
                (method, Declared { permission, parameters })
            });
            (path.clone(), declared.collect())
        });
        Self(Arc::new(paths.collect()))
    }

    /// Returns the requirement of `method` on `route`; a route that is not in the document is open to nobody.
    fn needed(&self, route: Option<&str>, method: &Method) -> Needed {
        let Some(route) = route else { return Needed::NoRoute };
        let Some(methods) = self.0.get(route) else { return Needed::Undeclared };
        match methods.get(answering(method)) {
            Some(Declared { permission: Some(permission), .. }) => Needed::Permission(*permission),
            Some(Declared { permission: None, .. }) => Needed::Undeclared,
            None => {
                let mut methods: Vec<&str> = methods.keys().map(Method::as_str).collect();
                methods.sort_unstable();
                Needed::NoMethod(HeaderValue::from_str(&methods.join(",")).unwrap_or(HeaderValue::from_static("")))
            }
        }
    }

    /// Refuses query parameters that the operation does not have; returns whether the request is a dry run.
    fn check_query(&self, route: Option<&str>, method: &Method, query: &str) -> Result<Run, Problem> {
        let declared = route.and_then(|route| self.0.get(route)).and_then(|methods| methods.get(answering(method)));
        let Some(Declared { parameters, .. }) = declared else { return Ok(Run::Real) };
        let mut run = Run::Real;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !parameters.iter().any(|known| *known == name) {
                let known = if parameters.is_empty() { "none".to_owned() } else { quoted(parameters) };
                let detail = format!(
                    "query parameters: `{}` is none of this operation; it has {known}",
                    echoed(&name, LONGEST_SHOWN)
                );
                return Err(Problem::new(ProblemCode::InvalidParameter, detail));
            }
            if name == DRY_RUN {
                run = match &*value {
                    "true" => Run::Dry,
                    "false" => Run::Real,
                    _ => {
                        let detail = format!("query parameters: `{DRY_RUN}` must be `true` or `false`");
                        return Err(Problem::new(ProblemCode::InvalidParameter, detail));
                    }
                };
            }
        }
        Ok(run)
    }
}

/// Returns the method whose operation answers `method`.
fn answering(method: &Method) -> &Method {
    if method == Method::HEAD { &Method::GET } else { method }
}

/// Marks an answer as that of a dry run.
fn marked(mut response: Response) -> Response {
    if *response.status_mut() == StatusCode::CREATED {
        *response.status_mut() = StatusCode::OK;
    }
    response.headers_mut().insert(DRY_RUN_HEADER, HeaderValue::from_static("true"));
    response
}

/// Lets operators pass that hold what they ask for, and records every use of their tokens as well as those who are none:
/// what only reads leaves no event of its own, and neither does a change that was refused or that changed nothing. Whether
/// it holds it of the thing that is asked for, the use case decides.
pub async fn authenticate(
    State((admin, routes)): State<(Admin, Routes)>,
    mut request: Request,
    next: Next,
) -> Response {
    let service = &admin.service;
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let needed = routes.needed(route, request.method());
    if let Needed::Undeclared = needed {
        let cause = "a route of the admin API declares no permission, so that nobody may use it";
        return Problem::from(ServiceError::internal(cause)).into_response();
    }
    // Without the original URI, the path would be relative to where this router is nested.
    let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
    let queried = routes.check_query(route, request.method(), uri.query().unwrap_or_default());
    let asked = Asked {
        route: route.unwrap_or("unknown").to_owned(),
        method: known_method(request.method().as_str()).to_owned(),
        path: uri.path().to_owned(),
        reads: matches!(*request.method(), Method::GET | Method::HEAD),
        run: queried.as_ref().copied().unwrap_or_default(),
        needed: if let Needed::Permission(permission) = needed { permission } else { Permission::SignIn },
        request_id: client::request_id(request.extensions()),
        personal: Personal {
            client_address: Some(client::address(request.extensions()).to_string()),
            user_agent: client::user_agent(request.headers()),
            ..Personal::default()
        },
        place: client::place(request.extensions()),
    };
    let context = match service.operators.admit_operator(client::bearer_token(request.headers()), &asked).await {
        Ok(context) => context,
        Err(error) => return Problem::from(error).into_response(),
    };
    // Of whoever may read a part alone, it is known only afterwards whether that was asked for.
    let is_known = asked.reads && context.sees_everything();
    if is_known && let Err(error) = service.operators.record_reading(&context.actor, &asked).await {
        return Problem::from(error).into_response();
    }
    request.extensions_mut().insert(context.clone());
    let mut response = match (needed, queried) {
        (Needed::NoMethod(allow), _) => {
            let mut response = unknown_method().await.into_response();
            response.headers_mut().insert(header::ALLOW, allow);
            response
        }
        (_, Err(problem)) => problem.into_response(),
        (_, Ok(Run::Dry)) => marked(next.run(request).await),
        (_, Ok(Run::Real)) => next.run(request).await,
    };
    if is_known {
        return response;
    }
    if !context.sees_everything()
        && let Some(problem) = response.extensions_mut().get_mut::<Problem>()
    {
        problem.names_nothing = true;
    }
    let recorded = match response.extensions().get::<Problem>() {
        Some(problem) if asked.reads && problem.code != ProblemCode::Forbidden => {
            service.operators.record_reading(&context.actor, &asked).await
        }
        Some(problem) => service.operators.record_refusal(&context.actor, &asked, problem.reason()).await,
        // What was there already was shown.
        None if !context.event_flag.is_raised() => service.operators.record_reading(&context.actor, &asked).await,
        None => Ok(()),
    };
    recorded.map_or_else(|error| Problem::from(error).into_response(), |()| response)
}

#[cfg(test)]
mod tests {
    use utoipa_axum::routes;

    use super::*;

    #[utoipa::path(get, path = "/declared")]
    async fn declared() {}

    #[utoipa::path(post, path = "/declared")]
    async fn forgotten() {}

    #[test]
    fn what_declares_nothing_is_open_to_nobody() {
        let routes = OpenApiRouter::new()
            .merge(requiring(Permission::ReadAudit, OpenApiRouter::new().routes(routes!(declared))))
            .routes(routes!(forgotten));
        let routes = Routes::of(&mut routes.into_openapi());
        let needed = |route, method| routes.needed(route, &method);
        for method in [Method::GET, Method::HEAD] {
            let needed = needed(Some("/declared"), method);
            assert!(matches!(needed, Needed::Permission(Permission::ReadAudit)), "{needed:?}");
        }
        assert!(matches!(needed(Some("/declared"), Method::POST), Needed::Undeclared));
        assert!(matches!(needed(Some("/elsewhere"), Method::GET), Needed::Undeclared));
        assert!(matches!(needed(Some("/declared"), Method::PUT), Needed::NoMethod(allow) if allow == "GET,POST"));
        assert!(matches!(needed(None, Method::GET), Needed::NoRoute));
    }
}
