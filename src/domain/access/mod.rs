//! Who may read: recipients, tokens, grants, purposes, and the decision.

pub mod activation;
pub mod decision;
pub mod delivery;
pub mod grant;
pub mod identity;
pub mod limits;
pub mod profile;
pub mod purpose;
pub mod recipient;
pub mod token;
