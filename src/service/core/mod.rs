//! The foundations of every use case: context, clock, changes, pages, errors.

pub mod change;
pub mod clock;
pub mod context;
pub mod declared;
pub mod error;
pub mod idempotency;
pub mod jobs;
pub mod keys;
pub mod leases;
pub(super) mod lookup;
pub mod lookup_batcher;
pub(super) mod pacing;
pub mod page;
pub mod places;
pub mod precondition;
pub mod rate_limiter;
pub(super) mod readiness;
pub mod vitals;
