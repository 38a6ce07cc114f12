//! Pure values and rules: what a share, a token, a grant and a decision are.
//!
//! Lives here: types that mean something to the product and functions from values to values.
//! Never here: async, IO, SQL, HTTP, clocks that are read rather than passed in.

pub mod access;
pub mod audit;
pub mod catalog;
pub mod core;
pub mod insight;
pub mod materialize;
pub mod operators;
pub mod sharing;
