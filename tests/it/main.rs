//! The integration tests: one binary, because every further one costs a link of the whole tree.

mod arch;
mod config;
mod lake;
mod listen;
mod storage;
mod support;
