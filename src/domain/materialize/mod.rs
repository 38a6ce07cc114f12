//! Governed files: what identifies one, who may share it, and which source files are mixed.

pub mod copy;
pub mod mixing;
