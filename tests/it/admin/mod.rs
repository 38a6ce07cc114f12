//! What holds for every operation of the admin API, on both databases. What one noun or one rule does is in its room.

pub mod dry_runs;
mod endpoints;
pub mod openapi;
mod reading_ahead;
