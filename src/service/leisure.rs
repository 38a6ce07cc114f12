//! Work that goes through the whole trail behind the requests that wrote it, and gives way to those that are under way.
//!
//! Never here: what is done with the events.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How many events are read at a time.
pub(super) const PAGE: u32 = 250;
/// How many times as long as a page took is rested after it, and for how long at most.
const REST: u32 = 3;
const LONGEST_REST: Duration = Duration::from_millis(25);
/// From this many events on that wait, catching up comes first.
const FAR_BEHIND: i64 = 20_000;

/// Waits after a page that was begun at `begun`, where only `waiting` events are left.
pub(super) async fn rest(begun: Instant, waiting: i64) {
    if (1..FAR_BEHIND).contains(&waiting) {
        sleep((begun.elapsed() * REST).min(LONGEST_REST)).await;
    }
}
