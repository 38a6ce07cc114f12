//! Groups of principals.

use axum::{Json, extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    domain::operators::{Permission, group::GroupSpec},
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            declared::declared,
            extract::{AdminFields, AdminPath, AdminQuery, IfMatch},
            page::{PageQuery, PageView},
            problem::Problem,
            resource::Resource,
        },
    },
};

/// The operations here, each with the permission that it needs.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadOperators,
            OpenApiRouter::new().routes(routes!(list_groups)).routes(routes!(get_group)),
        ))
        .merge(requiring(
            Permission::ManageOperators,
            OpenApiRouter::new().routes(routes!(put_group, update_group, delete_group)),
        ))
}

declared! {
    /// A group of principals, who have its roles together.
    GroupView of GroupSpec, tagged "operators", listed at "/groups", each at "/groups/{group}" by "group";
    /// Creates a group, or confirms that it is as described. Its members have its roles from then on.
    put_group,
    /// Answers a group.
    get_group,
    /// Lists groups by name.
    list_groups,
    /// Changes a group; for its members that counts from the commit on.
    update_group,
    /// Deletes a group; its members lose its roles.
    delete_group
}
