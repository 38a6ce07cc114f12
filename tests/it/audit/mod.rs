//! The audit trail proves itself: what was changed behind the server's back is found, what was erased as agreed is not.

mod command;
mod detachment;
mod export;
mod object_store;
mod restore;
mod roles;
mod rotation;
mod searches;
mod tampering;
mod trail;
mod waiting;
mod words;
