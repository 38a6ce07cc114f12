//! Stores recipients, tokens, grants, agreements' terms, exceptions' states, freezes and what hooks took, and looks up the
//! facts for decisions.

pub(super) mod activations;
pub(super) mod agreements;
pub(super) mod exceptions;
pub(super) mod freezes;
pub(super) mod grants;
pub(super) mod hooks;
pub(super) mod lookup;
pub(super) mod quota;
pub(super) mod recipients;
pub(super) mod tokens;
