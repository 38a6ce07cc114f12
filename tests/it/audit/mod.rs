//! The audit trail proves itself: hidden changes are found, and intended erasure is no fault.

mod checkpoints;
mod command;
mod detachment;
mod drills;
mod export;
mod object_store;
mod read;
mod restore;
mod roles;
mod rotation;
mod searches;
mod tampering;
mod trail;
mod waiting;
mod words;
