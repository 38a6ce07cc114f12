//! Shares.

use axum::{Json, extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    domain::{catalog::share::ShareSpec, operators::Permission},
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
            OpenApiRouter::new().routes(routes!(list_shares)).routes(routes!(get_share)),
        ))
        .merge(requiring(
            Permission::ManageSharing,
            OpenApiRouter::new().routes(routes!(put_share, update_share, delete_share)),
        ))
}

declared! {
    /// A share: a bundle of objects that is granted as a whole. Recipients see its `id`, too.
    ShareView of ShareSpec, tagged "shares", listed at "/shares", each at "/shares/{share}" by "share";
    /// Creates a share, or confirms that it exists as described.
    put_share,
    /// Returns a share.
    get_share,
    /// Lists shares by name.
    list_shares,
    /// Changes a share.
    update_share,
    /// Deletes a share that is empty and not granted to any recipient.
    delete_share
}
