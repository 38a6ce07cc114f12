//! What recipients ask for: response formats and predicates.

pub mod negotiation;
pub mod predicate;
