//! Settings of operators: whether the bootstrap token stays valid, and the lifetime of tokens.

use serde::Deserialize;

use super::problems::Problems;

/// `[operators]`.
#[derive(Clone, Debug, Deserialize)]
pub struct OperatorSettings {
    /// Whether the bootstrap token stays valid once an admin can sign in.
    pub keep_bootstrap_token: bool,
    /// The longest lifetime of an operator's token, in seconds.
    pub token_max_seconds: u64,
    /// The default lifetime of a token, in seconds.
    pub token_default_seconds: u64,
}

const ONE_YEAR_SECONDS: u64 = 366 * 86_400;

impl OperatorSettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        for (key, value) in
            [("token_max_seconds", self.token_max_seconds), ("token_default_seconds", self.token_default_seconds)]
        {
            problems.bound(&format!("operators.{key}"), value, 60..=ONE_YEAR_SECONDS, "people come and go");
        }
        if self.token_default_seconds > self.token_max_seconds {
            problems.add("operators.token_default_seconds", "is more than operators.token_max_seconds; lower it");
        }
    }
}
