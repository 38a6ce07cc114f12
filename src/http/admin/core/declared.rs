//! The five operations of a noun that is only a name and a spec, and their routes: written once, and made for each noun
//! by [`declared!`].
//!
//! Never here: parts of a single noun.

/// Makes a noun's answer, its operations (PUT, GET, listing, PATCH, DELETE), each with its doc comment, name and
/// command for the document, and `routes`, with the permissions that reading and changing require. Imports what the operations name.
macro_rules! declared {
    (
        $(#[$about:meta])* $view:ident of $spec:ident, tagged $tag:literal,
        listed at $all:literal, each at $one:literal by $parameter:literal,
        read with $read:ident, changed with $change:ident;
        $(#[$put_about:meta])* $put:ident as $put_cli:tt,
        $(#[$get_about:meta])* $get:ident as $get_cli:tt,
        $(#[$list_about:meta])* $list:ident as $list_cli:tt,
        $(#[$update_about:meta])* $update:ident as $update_cli:tt,
        $(#[$delete_about:meta])* $delete:ident as $delete_cli:tt
    ) => {
        use axum::{Json, extract::State, http::StatusCode};
        use utoipa_axum::{router::OpenApiRouter, routes};

        use $crate::{
            domain::operators::Permission,
            http::admin::{
                Admin,
                core::{
                    auth::{Operator, requiring},
                    extract::{AdminFields, AdminPath, AdminQuery, IfMatch},
                    page::{PageQuery, PageView},
                    problem::Problem,
                    resource::Resource,
                },
            },
        };

        /// Builds the routes of this module, each with the permission that it requires.
        pub(super) fn routes() -> OpenApiRouter<Admin> {
            let reading = OpenApiRouter::new().routes(routes!($list)).routes(routes!($get));
            let changing = OpenApiRouter::new().routes(routes!($put, $update, $delete));
            requiring(Permission::$read, reading).merge(requiring(Permission::$change, changing))
        }

        $(#[$about])*
        #[derive(Debug, serde::Serialize, utoipa::ToSchema)]
        pub struct $view {
            /// Its id.
            pub id: uuid::Uuid,
            /// Its name.
            pub name: String,
            /// Its settings.
            #[serde(flatten)]
            pub spec: $spec,
            /// When it was created.
            pub created_at: chrono::DateTime<chrono::Utc>,
            /// When it was last changed.
            pub updated_at: chrono::DateTime<chrono::Utc>,
            /// Changes with every change; send it as `If-Match` to change only what you have read.
            pub etag: String,
        }

        impl $crate::http::admin::core::resource::Tagged for $view {
            fn etag(&self) -> &str {
                &self.etag
            }
        }

        impl From<$crate::domain::core::declared::Declared<$spec>> for $view {
            fn from(of: $crate::domain::core::declared::Declared<$spec>) -> Self {
                Self {
                    etag: $crate::service::core::precondition::etag(of.id, of.revision),
                    id: of.id,
                    name: of.name.to_string(),
                    spec: of.spec,
                    created_at: of.created_at,
                    updated_at: of.updated_at,
                }
            }
        }

        $(#[$put_about])*
        #[utoipa::path(
            put, path = $one, tag = $tag, params(($parameter = String, Path)), request_body = $spec,
            responses(
                (status = 201, description = "Created", body = $view),
                (status = 200, description = "Exists as described", body = $view)
            ),
            extensions(("x-weir-cli" = json!($put_cli)))
        )]
        pub async fn $put(
            State(admin): State<Admin>,
            Operator(ctx): Operator,
            AdminPath(name): AdminPath<String>,
            AdminFields { named, .. }: AdminFields<$spec>,
        ) -> Result<Resource<$view>, Problem> {
            let put = admin.service.core.put_declared::<$spec>(&ctx, &name, &named).await?;
            Ok(Resource::put(put.map($view::from)))
        }

        $(#[$get_about])*
        #[utoipa::path(
            get, path = $one, tag = $tag, params(($parameter = String, Path)), responses((status = 200, body = $view)),
            extensions(("x-weir-cli" = json!($get_cli)))
        )]
        pub async fn $get(
            State(admin): State<Admin>,
            Operator(ctx): Operator,
            AdminPath(name): AdminPath<String>,
        ) -> Result<Resource<$view>, Problem> {
            Ok(Resource::found(admin.service.core.read_declared::<$spec>(&ctx, &name).await?.into()))
        }

        $(#[$list_about])*
        #[utoipa::path(
            get, path = $all, tag = $tag, params(PageQuery), responses((status = 200, body = PageView<$view>)),
            extensions(("x-weir-cli" = json!($list_cli)))
        )]
        pub async fn $list(
            State(admin): State<Admin>,
            Operator(ctx): Operator,
            AdminQuery(page): AdminQuery<PageQuery>,
        ) -> Result<Json<PageView<$view>>, Problem> {
            let page = admin.service.core.list_declared::<$spec>(&ctx, &page.into()).await?;
            Ok(Json(PageView::new(page, $view::from)))
        }

        $(#[$update_about])*
        #[utoipa::path(
            patch, path = $one, tag = $tag, params(($parameter = String, Path), ("If-Match" = Option<String>, Header)),
            request_body(content(($spec = "application/merge-patch+json"), ($spec = "application/json"))),
            responses((status = 200, body = $view)),
            extensions(("x-weir-cli" = json!($update_cli)))
        )]
        pub async fn $update(
            State(admin): State<Admin>,
            Operator(ctx): Operator,
            AdminPath(name): AdminPath<String>,
            IfMatch(condition): IfMatch,
            AdminFields { named, .. }: AdminFields<$spec>,
        ) -> Result<Resource<$view>, Problem> {
            let changed = admin.service.core.update_declared::<$spec>(&ctx, &name, condition.as_ref(), &named).await?;
            Ok(Resource::found(changed.into()))
        }

        $(#[$delete_about])*
        #[utoipa::path(
            delete, path = $one, tag = $tag, params(($parameter = String, Path), ("If-Match" = Option<String>, Header)),
            responses((status = 204, description = "Deleted")),
            extensions(("x-weir-cli" = json!($delete_cli)))
        )]
        pub async fn $delete(
            State(admin): State<Admin>,
            Operator(ctx): Operator,
            AdminPath(name): AdminPath<String>,
            IfMatch(condition): IfMatch,
        ) -> Result<StatusCode, Problem> {
            admin.service.core.delete_declared::<$spec>(&ctx, &name, condition.as_ref()).await?;
            Ok(StatusCode::NO_CONTENT)
        }
    };
}
pub(in crate::http::admin) use declared;
