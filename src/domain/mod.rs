//! Pure values and rules: what a share, a token, a grant and a decision are.
//!
//! Lives here: types that mean something to the product and functions from values to values.
//! Never here: async, IO, SQL, HTTP, clocks that are read rather than passed in.

pub mod activation;
pub mod audit;
pub mod chain;
pub mod checkpoint;
pub mod clients;
pub mod copy;
pub mod csv;
pub mod decision;
pub mod declared;
pub mod delivery;
pub mod delta;
pub mod disclosure;
pub mod drill;
pub mod grant;
pub mod html;
pub mod identity;
pub mod limits;
pub mod merkle;
pub mod message;
pub mod mixing;
pub mod name;
pub mod nearest;
pub mod negotiation;
pub mod operator;
pub mod partition;
pub mod predicate;
pub mod profile;
pub mod purpose;
pub mod raw_disclosure;
pub mod recipient;
pub mod recorded;
pub mod report;
pub mod schema;
pub mod seal;
pub mod secret;
pub mod shape;
pub mod share;
pub mod signal;
pub mod spec;
pub mod table;
pub mod token;
pub mod usage;
pub mod view;
pub mod webhook;
