//! The integration tests. They are one binary, because each further binary links the whole dependency tree again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod activation;
mod admin;
mod arch;
mod audit;
mod citations;
mod cli;
mod config;
mod conformance;
mod decision;
mod deploy;
mod engine;
mod lake;
mod listen;
mod notify;
mod replicas;
mod sharing;
mod skipping;
mod specs;
mod storage;
mod store;
mod support;
mod upgrade;
mod views;
mod worker;
