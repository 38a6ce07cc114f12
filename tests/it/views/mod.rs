//! Governed views through the whole server: what leaves is what the view shows, and nothing else leaves, whatever way it
//! is asked for. The number in a test's name is the leak test's in the design.

mod check;
mod copies;
mod dissection;
mod generated;
mod leaks;
mod mixed;
mod mutants;
mod partner;
mod plain;
mod planted;
mod properties;
mod scene;
mod source;
mod stage;
mod urls;
mod value;
