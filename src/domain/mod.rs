//! (being written)

pub mod delta;
