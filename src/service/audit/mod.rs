//! The audit trail: written, read, sealed, exported, verified and recovered.

pub mod drills;
pub mod export;
pub mod read;
pub mod recover;
pub mod seal;
pub mod verify;
pub mod write;
