//! The admin API, over HTTP, on both databases.

mod audit;
mod disclosures;
mod drills;
mod endpoints;
mod grants;
mod identities;
mod objects;
mod openapi;
mod operators;
mod recipients;
mod roles;
mod shares;
mod tables;
mod tokens;
mod unauthorized;
mod usage;
