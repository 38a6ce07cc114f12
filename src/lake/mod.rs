//! Delta logs: a table's newest snapshot, its file list and statistics, and the cache that holds them.
//!
//! Start at [`Lake`], then [`Snapshot`]. Every read of a log goes through the kernel over a store that sees nothing but
//! one table. Never here: who may read what, what a client understands, or how a file's URL is signed.

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
pub use skipping::Order;
pub use snapshot::{Column, Snapshot};
