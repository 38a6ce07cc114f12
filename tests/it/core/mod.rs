//! Foundations of every room, over HTTP.

mod jobs;
mod safeguards;
mod units;
