//! Stores tables and their columns, shares, objects and views.

pub(super) mod columns;
mod domains;
pub(super) mod objects;
pub(super) mod requirements;
pub(super) mod shares;
pub(super) mod tables;
pub(super) mod views;
