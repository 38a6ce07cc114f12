//! Background tasks: no input, idempotent, on a timer. Any number of servers may run them at once.
//!
//! Never here: a rule; each task calls a use case.

pub mod housekeeping;
