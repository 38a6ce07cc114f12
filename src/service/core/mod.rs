//! What every use case works with: its context, the clock, changes, pages, errors.

pub mod change;
pub mod clock;
pub mod context;
pub mod declared;
pub mod desk;
pub mod error;
pub mod idempotency;
pub mod keys;
pub(super) mod leisure;
pub(super) mod lookup;
pub mod meter;
pub mod page;
pub mod places;
pub mod precondition;
pub(super) mod readiness;
pub mod vitals;
