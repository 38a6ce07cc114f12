//! Shares.

use crate::{domain::catalog::share::ShareSpec, http::admin::core::declared::declared};

declared! {
    /// A share: a bundle of objects that is granted as a whole. Recipients see its `id`, too.
    ShareView of ShareSpec, tagged "shares", listed at "/shares", each at "/shares/{share}" by "share",
    read with ReadSharing, changed with ManageSharing;
    /// Creates a share, or confirms that it exists as described.
    put_share as {"example": "weir share put insurer --display-name 'Insurer data'"},
    /// Returns a share.
    get_share as {"example": "weir share get insurer"},
    /// Lists shares by name.
    list_shares as {"example": "weir share list", "columns": ["name", "display_name", "updated_at"]},
    /// Changes a share.
    update_share as {"example": "weir share update insurer --description 'Refreshed nightly'"},
    /// Deletes a share that is empty and not granted to any recipient.
    delete_share as {"example": "weir share delete insurer", "confirm": "its name is gone for recipients"}
}
