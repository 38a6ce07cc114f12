//! Reads Delta logs: a table's newest snapshot, its files and their statistics, its history, and the caches for them.
//!
//! Start at [`Lake`], then [`Snapshot`]. The kernel reads a log through a store that sees only that one table. Never
//! here: access decisions, client capabilities, or signing of URLs.

mod actions;
mod cache;
mod checkpoint;
mod deletion_vector;
pub mod demo;
mod disclosed_stats;
mod error;
mod exposure;
mod files;
mod flaw;
mod history;
mod judging;
mod kernel;
mod log_store;
mod path_keys;
mod rows;
mod search;
mod single_flight;
mod skipping;
mod snapshot;
mod statistics;

pub use cache::{Lake, LakeSettings};
pub use deletion_vector::{DeletionVector, VectorError, VectorPlace};
pub use disclosed_stats::StatsShape;
pub use error::{LakeError, LogFault};
pub use exposure::Exposure;
pub use files::{DeletionVectorRef, FileRef, Files, PartitionPairs};
pub use history::{ActionKind, Changes, Commit, Feed, FileAction, History, Outline, TableState};
pub use judging::{GivenUp, Judges};
pub use search::{FoundFolder, Search, SearchLimits, SearchStep};
pub use skipping::Order;
pub use snapshot::{Column, Snapshot};
