//! Shares.

use axum::{Json, extract::State, http::StatusCode};

use super::{
    Admin,
    auth::Operator,
    declared::declared,
    extract::{AdminFields, AdminPath, AdminQuery, IfMatch},
    page::{PageQuery, PageView},
    problem::Problem,
    resource::Resource,
};
use crate::domain::share::ShareSpec;

declared! {
    /// A share; recipients see its identity, too.
    ShareView of ShareSpec, tagged "shares", listed at "/shares", each at "/shares/{share}" by "share";
    /// Creates a share, or confirms that it is as described.
    put_share,
    /// Answers a share.
    get_share,
    /// Lists shares by name.
    list_shares,
    /// Changes a share.
    update_share,
    /// Deletes a share that holds nothing and that nobody is granted.
    delete_share
}
