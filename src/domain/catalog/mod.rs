//! The things that can be shared: tables, their schemas and classes, shares and their objects, views.

pub mod classes;
pub mod clients;
pub mod column;
pub mod control;
pub mod delta;
pub mod disclosure;
pub mod discovery;
pub mod domain;
pub mod ownership;
pub mod partition;
pub mod raw_disclosure;
pub mod requirements;
pub mod schema;
pub mod shape;
pub mod share;
pub mod table;
pub mod view;
