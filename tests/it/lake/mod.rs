//! The lake: logs become snapshots, fresh on every call, and broken logs become errors with a reason.

mod changes;
mod columns;
mod demo;
mod epochs;
mod faults;
mod foreign_tables;
mod freshness;
mod history;
mod increments;
mod skipping;
