//! Purposes.

use crate::{domain::access::purpose::PurposeSpec, http::admin::core::declared::declared};

declared! {
    /// A purpose for which data may be used.
    PurposeView of PurposeSpec, tagged "purposes", listed at "/purposes", each at "/purposes/{purpose}" by "purpose",
    read with ReadSharing, changed with ManagePurposes;
    /// Creates a purpose, or confirms that it exists as described.
    put_purpose as {
        "example": "weir purpose put fraud_analytics --description 'Detecting fraud in claims' \
                    --legal-basis 'contract 4711'"
    },
    /// Returns a purpose.
    get_purpose as {"example": "weir purpose get fraud_analytics"},
    /// Lists purposes by name.
    list_purposes as {"example": "weir purpose list", "columns": ["name", "description", "legal_basis", "parent"]},
    /// Changes a purpose.
    update_purpose as {"example": "weir purpose update fraud_analytics --parent analytics"},
    /// Deletes a purpose that no other purpose has as its parent.
    delete_purpose as {"example": "weir purpose delete fraud_analytics", "confirm": "only its past stays on record"}
}
