//! The things that can be shared: tables and their schemas, shares and their objects, views.

pub mod clients;
pub mod delta;
pub mod disclosure;
pub mod partition;
pub mod raw_disclosure;
pub mod schema;
pub mod shape;
pub mod share;
pub mod table;
pub mod view;
