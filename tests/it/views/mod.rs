//! Governed views through the whole server: exactly what the view shows leaves it, however it is requested. A number in
//! a test's name is that of the leak test in the design.

mod check;
mod checker_faults;
pub mod claims_view;
pub mod connector;
mod controls;
mod generated;
mod leaks;
mod mutants;
mod parquet_parts;
mod plain;
mod properties;
pub mod source;
mod surrogates;
mod urls;
pub mod value;
pub mod weir_server;
