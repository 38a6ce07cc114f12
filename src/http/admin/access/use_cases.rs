//! Use cases.

use crate::{domain::access::use_case::UseCaseSpec, http::admin::core::declared::declared};

declared! {
    /// What a recipient does with data for a purpose.
    UseCaseView of UseCaseSpec, tagged "use-cases", listed at "/use-cases", each at "/use-cases/{use_case}" by "use_case",
    read with ReadRecipients, changed with ManagePurposes;
    /// Creates a use case, or confirms that it exists as described.
    put_use_case as {"example": "weir use-case put triage --recipient acme --purpose fraud_analytics --decision-supported 'Which claims to look at' --sponsor 'head of claims'"},
    /// Returns a use case.
    get_use_case as {"example": "weir use-case get triage"},
    /// Lists use cases by name.
    list_use_cases as {"example": "weir use-case list", "columns": ["name", "recipient", "purpose", "sponsor"]},
    /// Changes a use case.
    update_use_case as {"example": "weir use-case update triage --sponsor 'head of fraud'"},
    /// Deletes a use case.
    delete_use_case as {"example": "weir use-case delete triage", "confirm": "only its past stays on record"}
}
