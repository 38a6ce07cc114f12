//! The catalog over HTTP: what there is to share, and how it is described. What leaves of a view is in `views`.

mod classification;
mod columns;
pub mod controls;
mod disclosures;
mod discovery;
mod domains;
mod exposure;
mod moved;
mod objects;
mod ownership;
mod shares;
mod tables;
mod views;
