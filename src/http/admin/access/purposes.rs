//! Purposes.

use axum::{Json, extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    domain::{access::purpose::PurposeSpec, operators::Permission},
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

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadSharing,
            OpenApiRouter::new().routes(routes!(list_purposes)).routes(routes!(get_purpose)),
        ))
        .merge(requiring(
            Permission::ManagePurposes,
            OpenApiRouter::new().routes(routes!(put_purpose, update_purpose, delete_purpose)),
        ))
}

declared! {
    /// A purpose for which data may be used.
    PurposeView of PurposeSpec, tagged "purposes", listed at "/purposes", each at "/purposes/{purpose}" by "purpose";
    /// Creates a purpose, or confirms that it exists as described.
    put_purpose,
    /// Returns a purpose.
    get_purpose,
    /// Lists purposes by name.
    list_purposes,
    /// Changes a purpose.
    update_purpose,
    /// Deletes a purpose that no other purpose has as its parent.
    delete_purpose
}
