//! Pacing: long work rests between its steps, so that requests go first.
//!
//! Never here: the work itself.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How many events of the trail are read at a time.
pub(in crate::service) const PAGE: u32 = 250;
/// The length of a rest, as a multiple of the work before it.
const REST: u32 = 3;
/// The longest rest after a page.
const LONGEST_REST: Duration = Duration::from_millis(25);
/// With this many waiting events or more, catching up goes first.
const FAR_BEHIND: i64 = 20_000;

/// Rests after a page of the trail that was begun at `begun`, unless none or too many events are `waiting`.
pub(in crate::service) async fn rest_after_page(begun: Instant, waiting: i64) {
    if (1..FAR_BEHIND).contains(&waiting) {
        rest(begun, LONGEST_REST).await;
    }
}

/// Rests after work that was begun at `begun`, for at most `longest`.
pub(in crate::service) async fn rest(begun: Instant, longest: Duration) {
    sleep((begun.elapsed() * REST).min(longest)).await;
}
