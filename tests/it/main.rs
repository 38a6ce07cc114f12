//! The integration tests: one binary, because every further one costs a link of the whole tree.

mod lake;
mod support;
