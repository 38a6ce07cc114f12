//! Governed views through the whole server: what leaves is what the view shows, and nothing else leaves, whatever way it
//! is asked for. The number in a test's name is the leak test's in the design.

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
mod urls;
mod value;
mod weir_server;
