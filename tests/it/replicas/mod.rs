//! Several servers on one database, and the faults they must survive.

pub mod cluster;
mod faults;
mod interleavings;
mod processes;
mod rolling;
mod rotation;
mod streams;
mod tightening;

/// How many rounds a randomised test runs; `WEIR_TEST_ROUNDS` overrides it.
fn rounds(usual: usize) -> usize {
    std::env::var("WEIR_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}
