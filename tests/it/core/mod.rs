//! Foundations of every room, over HTTP.

mod jobs;
mod units;
