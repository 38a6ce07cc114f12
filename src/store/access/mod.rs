//! Recipients, tokens, grants and freezes, kept; and the look-up that decisions are made from.

pub(super) mod activations;
pub(super) mod freezes;
pub(super) mod grants;
pub(super) mod lookup;
pub(super) mod quota;
pub(super) mod recipients;
pub(super) mod tokens;
