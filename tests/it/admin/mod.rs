//! The admin API, over HTTP, on both databases.

mod audit;
mod disclosures;
mod endpoints;
mod grants;
mod objects;
mod openapi;
mod recipients;
mod shares;
mod tables;
mod tokens;
mod unauthorized;
