//! Governed views through the whole server: exactly what the view shows leaves it, however it is requested. A number in
//! a test's name is that of the leak test in the design.

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
