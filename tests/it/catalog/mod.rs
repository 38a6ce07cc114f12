//! The catalog over HTTP: what there is to share, and how it is described. What leaves of a view is in `views`.

mod classification;
mod columns;
mod disclosures;
mod discovery;
mod moved;
mod objects;
mod shares;
mod tables;
mod views;
