//! Purposes.

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
use crate::domain::purpose::PurposeSpec;

declared! {
    /// A purpose that data may be used for.
    PurposeView of PurposeSpec, tagged "purposes", listed at "/purposes", each at "/purposes/{purpose}" by "purpose";
    /// Creates a purpose, or confirms that it is as described.
    put_purpose,
    /// Answers a purpose.
    get_purpose,
    /// Lists purposes by name.
    list_purposes,
    /// Changes a purpose.
    update_purpose,
    /// Deletes a purpose that is no other one's parent.
    delete_purpose
}
