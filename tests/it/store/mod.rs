//! The conformance tests of the store: everything here holds on both databases.

mod access;
mod activations;
mod audit;
mod claims;
mod copies;
mod doubt;
mod grants;
mod names;
mod notifications;
mod opening;
mod operators;
mod reports;
mod samples;
mod surrogates;
mod tokens;
mod usage;
mod values;
mod views;
