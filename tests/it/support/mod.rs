//! What tests of several areas need: nothing here asserts anything.

pub mod azurite;
pub mod s3;
