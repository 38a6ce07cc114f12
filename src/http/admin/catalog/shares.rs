//! Shares.

use crate::{domain::catalog::share::ShareSpec, http::admin::core::declared::declared};

declared! {
    /// A share: a bundle of objects that is granted as a whole. Recipients see its `id`, too.
    ShareView of ShareSpec, tagged "shares", listed at "/shares", each at "/shares/{share}" by "share",
    read with ReadSharing, changed with ManageSharing;
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
