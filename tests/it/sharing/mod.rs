//! The sharing protocol, as a connector speaks it.

mod limits;
