//! Who may read: recipients, tokens, grants, agreements, purposes, exceptions, and the decision.

pub mod activation;
pub mod agreement;
pub mod ceiling;
pub mod decision;
pub mod delivery;
pub mod exception;
pub mod geography;
pub mod grant;
pub mod hook;
pub mod identity;
pub mod limits;
pub mod profile;
pub mod purpose;
pub mod recipient;
pub mod token;
pub mod use_case;
