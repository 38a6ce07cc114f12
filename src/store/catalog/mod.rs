//! Tables, shares, objects and views, kept.

pub(super) mod objects;
pub(super) mod shares;
pub(super) mod tables;
pub(super) mod views;
