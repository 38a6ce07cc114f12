//! Purposes.

use crate::{domain::access::purpose::PurposeSpec, http::admin::core::declared::declared};

declared! {
    /// A purpose for which data may be used.
    PurposeView of PurposeSpec, tagged "purposes", listed at "/purposes", each at "/purposes/{purpose}" by "purpose",
    read with ReadSharing, changed with ManagePurposes;
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
