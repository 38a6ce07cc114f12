//! How work that follows closely on itself gives way to the requests that are under way: it rests in between.
//!
//! Never here: what is done.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How many events of the trail are read at a time.
pub(in crate::service) const PAGE: u32 = 250;
/// How many times as long as work took is rested after it.
const REST: u32 = 3;
/// For how long is rested at most after a page.
const LONGEST_REST: Duration = Duration::from_millis(25);
/// From this many events on that wait, catching up comes first.
const FAR_BEHIND: i64 = 20_000;

/// Rests after a page of the trail that was begun at `begun`, where only `waiting` events are left.
pub(in crate::service) async fn rest_after_page(begun: Instant, waiting: i64) {
    if (1..FAR_BEHIND).contains(&waiting) {
        rest(begun, LONGEST_REST).await;
    }
}

/// Rests after what was begun at `begun`, for `longest` at most.
pub(in crate::service) async fn rest(begun: Instant, longest: Duration) {
    sleep((begun.elapsed() * REST).min(longest)).await;
}
