//! What every room stands on: names, specs, secrets, sealed values, messages.

pub mod canonical;
pub mod declared;
pub mod message;
pub mod name;
pub mod nearest;
pub mod seal;
pub mod secret;
pub mod spec;
