//! Domains.

use crate::{domain::catalog::domain::DomainSpec, http::admin::core::declared::declared};

declared! {
    /// What tables and shares are about, and who answers for that.
    DomainView of DomainSpec, tagged "domains", listed at "/domains", each at "/domains/{domain}" by "domain",
    read with ReadSharing, changed with ManageSharing;
    /// Creates a domain, or confirms that it exists as described. Tables and shares may carry a domain that nobody has
    /// declared; then it has no owner.
    put_domain as {"example": "weir domain put claims --owner claims-team --compliance-contact privacy@insurer.example"},
    /// Returns a domain.
    get_domain as {"example": "weir domain get claims"},
    /// Lists domains by name.
    list_domains as {"example": "weir domain list", "columns": ["name", "owner", "steward", "compliance_contact"]},
    /// Changes a domain. Its tables have another owner and steward at once, where they name none.
    update_domain as {"example": "weir domain update claims --steward ann"},
    /// Deletes a domain that no table and no share carries.
    delete_domain as {"example": "weir domain delete claims", "confirm": "only its past stays on record"}
}
