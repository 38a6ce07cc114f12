//! The things that a recipient's request names: response formats and predicates.

pub mod negotiation;
pub mod predicate;
