//! Helpers for the tests of several areas. No test is here.

pub mod app;
pub mod azurite;
pub mod issuer;
pub mod mmdb;
pub mod postgres;
pub mod process;
pub mod receiver;
pub mod s3;
pub mod tables;
pub mod unity;
pub mod watched_store;
