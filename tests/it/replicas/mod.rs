//! Several servers on one database, and what befalls them.

pub mod cluster;
mod faults;
mod interleavings;
mod processes;
mod rolling;
mod rotation;
mod streams;
mod tightening;

/// How often a test that is repeated at random is, unless `WEIR_TEST_ROUNDS` says otherwise.
fn rounds(usual: usize) -> usize {
    std::env::var("WEIR_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}
