//! The things that can be shared: tables, shares, objects, views, and what sharing them discloses.

pub mod columns;
pub mod disclosures;
pub mod objects;
pub(super) mod raw_disclosures;
pub mod schema_holds;
pub mod shares;
pub mod tables;
pub mod views;
