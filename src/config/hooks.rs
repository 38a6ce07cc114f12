//! Settings of hooks: the secrets by which other systems sign what they tell this server.

use serde::Deserialize;

use crate::domain::{core::secret::Secret, insight::webhook::WebhookSecret};

use super::{empty_as_none, problems::Problems};

/// `[hooks]`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct HookSettings {
    /// The secret of the contract system, `whsec_…`. Without it, there is no `/hooks/agreements`.
    #[serde(deserialize_with = "empty_as_none")]
    pub agreement_secret: Option<Secret>,
    /// The previous secret, which is also accepted until the contract system has the new one.
    #[serde(deserialize_with = "empty_as_none")]
    pub previous_agreement_secret: Option<Secret>,
}

impl HookSettings {
    /// The secrets by which the contract system may sign; none if it is not heard.
    pub fn agreement_secrets(&self) -> Vec<WebhookSecret> {
        let Some(secret) = &self.agreement_secret else { return Vec::new() };
        let secrets = std::iter::once(secret).chain(&self.previous_agreement_secret);
        secrets.filter_map(|secret| WebhookSecret::parse(secret.expose())).collect()
    }

    /// Checks the values beyond their types. No message repeats a secret.
    pub(super) fn check(&self, problems: &mut Problems) {
        for (key, secret) in [
            ("hooks.agreement_secret", &self.agreement_secret),
            ("hooks.previous_agreement_secret", &self.previous_agreement_secret),
        ] {
            if secret.as_ref().is_some_and(|secret| WebhookSecret::parse(secret.expose()).is_none()) {
                problems.add(
                    key,
                    "is no secret of Standard Webhooks; make one with `echo whsec_$(openssl rand -base64 32)`",
                );
            }
        }
        if self.agreement_secret.is_none() && self.previous_agreement_secret.is_some() {
            problems.add("hooks.previous_agreement_secret", "is set without hooks.agreement_secret; set that one");
        }
    }
}
