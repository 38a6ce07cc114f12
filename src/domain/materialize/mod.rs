//! Governed files: what one is made of, who may share it, and which source files are mixed.

pub mod copy;
pub mod mixing;
