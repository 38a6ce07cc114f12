//! Governed views through the whole server: exactly what the view shows leaves it, however it is requested. A number in
//! a test's name is that of the leak test in the design.

mod check;
mod checker_faults;
mod claims_view;
mod connector;
mod copies;
mod generated;
mod leaks;
mod mixed;
mod mutants;
mod parquet_parts;
mod plain;
mod properties;
mod source;
mod surrogates;
mod urls;
mod value;
mod weir_server;
