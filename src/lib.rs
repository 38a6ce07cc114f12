//! Weir: a Delta Sharing (OpenSharing) server for data providers.
//!
//! The house is described in `docs/ARCHITECTURE.md`; each module may mention only what stands below it, and
//! `tests/it/arch.rs` holds that picture. Reading starts best at [`service::sharing`], the way of one query.

// Both panic where nobody reads the output any more, as behind `| head`; see `cli::print`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod cli;
pub mod config;
pub mod conformance;
pub mod domain;
pub mod engine;
pub mod http;
pub mod identity;
pub mod lake;
pub mod notify;
pub mod render;
pub mod service;
pub mod storage;
pub mod store;
pub mod telemetry;
pub mod worker;
