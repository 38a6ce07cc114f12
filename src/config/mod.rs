//! (being written)
pub mod storage;
