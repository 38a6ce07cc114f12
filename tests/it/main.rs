//! The integration tests: one binary, because every further one costs a link of the whole tree.

// The configuration of clippy excuses tests only inside of `#[test]` functions, and here everything is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lake;
mod support;
