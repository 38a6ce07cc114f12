//! The integration tests. They are one binary, because each further binary links the whole dependency tree again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod admin;
mod arch;
mod audit;
mod catalog;
mod citations;
mod cli;
mod config;
mod conformance;
mod core;
mod deploy;
mod engine;
mod geography;
mod insight;
mod lake;
mod listen;
mod materialize;
mod operators;
mod replicas;
mod sharing;
mod specs;
mod storage;
mod store;
mod support;
mod upgrade;
mod views;
mod worker;
