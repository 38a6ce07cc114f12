//! What tests of several areas need: nothing here asserts anything.

pub mod tables;
pub mod watched_store;
