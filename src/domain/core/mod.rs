//! The basics for all other rooms: names, specs, secrets, sealed values, messages.

pub mod canonical;
pub mod declared;
pub mod job;
pub mod message;
pub mod name;
pub mod nearest;
pub mod safeguard;
pub mod seal;
pub mod secret;
pub mod spec;
pub mod word;
