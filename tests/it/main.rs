//! The integration tests: one binary, because every further one costs a link of the whole tree.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod arch;
mod config;
mod lake;
mod listen;
mod sharing;
mod storage;
mod store;
mod support;
