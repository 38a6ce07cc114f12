//! The conformance tests of the store: everything here holds on both databases.

mod access;
mod activations;
mod audit;
mod claims;
mod doubt;
mod grants;
mod names;
mod opening;
mod operators;
mod samples;
mod tokens;
mod values;
