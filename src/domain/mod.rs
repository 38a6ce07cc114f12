//! (being written)

pub mod secret;
