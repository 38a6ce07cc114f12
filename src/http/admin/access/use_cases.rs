//! Use cases.

use crate::{domain::access::use_case::UseCaseSpec, http::admin::core::declared::declared};

declared! {
    /// What a recipient does with data for a purpose.
    UseCaseView of UseCaseSpec, tagged "use-cases", listed at "/use-cases", each at "/use-cases/{use_case}" by "use_case",
    read with ReadRecipients, changed with ManagePurposes;
    /// Creates a use case, or confirms that it exists as described.
    put_use_case,
    /// Returns a use case.
    get_use_case,
    /// Lists use cases by name.
    list_use_cases,
    /// Changes a use case.
    update_use_case,
    /// Deletes a use case.
    delete_use_case
}
