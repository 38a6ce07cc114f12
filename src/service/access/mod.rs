//! Who may read: recipients, tokens, grants, purposes, freezes.

pub mod activation;
pub mod freezes;
pub mod grants;
pub(super) mod purposes;
pub mod recipients;
pub mod tokens;
