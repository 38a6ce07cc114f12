//! Who may read: recipients, tokens, grants, agreements, purposes, freezes.

pub mod activation;
pub mod agreements;
pub mod freezes;
mod grant_agreements;
pub mod grants;
pub(super) mod purposes;
pub mod recipients;
pub mod tokens;
mod use_cases;
