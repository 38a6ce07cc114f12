//! Weir: a Delta Sharing (OpenSharing) server for data providers.
//!
//! `docs/ARCHITECTURE.md` describes the floors. A module may use only the floors below it, which `tests/it/arch.rs`
//! checks. A good place to start reading is [`service::sharing`], which handles a recipient's query.

// Both macros panic when the output is no longer read, as behind `| head`; see `cli::print`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod cli;
pub mod config;
pub mod conformance;
pub mod domain;
pub mod engine;
pub mod geography;
pub mod http;
pub mod identity;
pub mod lake;
pub mod notify;
pub mod render;
pub mod service;
pub mod storage;
pub mod store;
pub mod telemetry;
pub mod unity;
pub mod worker;
