//! Settings of trusted OpenID Connect issuers, and of operators' sign-in through one of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use crate::domain::{
    access::identity::LONGEST_IDENTITY_TEXT,
    core::word::{AsWritten, Words},
    operators::principal::Role,
};

use super::{empty_as_none, is_loopback, problems::Problems};

/// `[identity]`.
#[derive(Clone, Debug, Deserialize)]
pub struct IdentitySettings {
    /// The trusted issuers.
    pub issuer: Vec<IssuerSettings>,
    /// Whether an issuer on this machine may be reached without TLS.
    pub allow_http_loopback: bool,
    /// The tolerated difference to an issuer's clock, in seconds.
    pub clock_skew_seconds: u64,
    /// The longest wait for an issuer's answer, in seconds.
    pub fetch_timeout_seconds: u64,
    /// The settings of operators' sign-in.
    pub operators: OperatorSignInSettings,
}

/// One `[[identity.issuer]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// The issuer's URL, exactly as in the `iss` claim of its tokens; also the base of its discovery document.
    pub url: String,
    /// The audiences accepted in recipients' tokens from this issuer.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The URL of its keys, if it differs from the one in the discovery document.
    #[serde(default, deserialize_with = "empty_as_none")]
    pub jwks_uri: Option<String>,
    /// The token endpoint for its clients, if it differs from the one in the discovery document; written into profiles.
    #[serde(default, deserialize_with = "empty_as_none")]
    pub token_endpoint: Option<String>,
    /// The scope that its clients request; written into profiles.
    #[serde(default, deserialize_with = "empty_as_none")]
    pub scope: Option<String>,
}

/// `[identity.operators]`.
#[derive(Clone, Debug, Deserialize)]
pub struct OperatorSignInSettings {
    /// The issuer of operators' tokens, one of `[[identity.issuer]]`.
    #[serde(deserialize_with = "empty_as_none")]
    pub issuer: Option<String>,
    /// The audience of operators' tokens; never an audience of recipients.
    pub audience: String,
    /// The claim that is mapped to a role.
    pub role_claim: String,
    /// The claim with the name that the audit trail records.
    pub name_claim: String,
    /// The role that each of the claim's values means.
    pub roles: BTreeMap<String, AsWritten<Role>>,
}

impl IdentitySettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.bound(
            "identity.clock_skew_seconds",
            self.clock_skew_seconds,
            0..=300,
            "a token's end must mean something",
        );
        problems.bound("identity.fetch_timeout_seconds", self.fetch_timeout_seconds, 1..=20, "callers wait for it");
        for (i, issuer) in self.issuer.iter().enumerate() {
            let key = |key: &str| format!("identity.issuer[{i}].{key}");
            self.check_url(key("url"), &issuer.url, problems);
            if self.issuer[..i].iter().any(|other| other.url == issuer.url) {
                problems.add(key("url"), format!("`{}` is named twice", issuer.url));
            }
            for (name, url) in [("jwks_uri", &issuer.jwks_uri), ("token_endpoint", &issuer.token_endpoint)] {
                if let Some(url) = url {
                    self.check_url(key(name), url, problems);
                }
            }
            if let Some(audience) = issuer.audiences.iter().find(|audience| !is_text(audience)) {
                let message = format!("`{audience}` is no audience; write 1 to {LONGEST_IDENTITY_TEXT} bytes of text");
                problems.add(key("audiences"), message);
            }
            if issuer.audiences.is_empty() && self.operators.issuer.as_ref() != Some(&issuer.url) {
                problems.add(
                    key("audiences"),
                    "is empty, so that the issuer is good for nobody; name what its tokens are made out to",
                );
            }
        }
        self.check_operators(problems);
    }

    fn check_operators(&self, problems: &mut Problems) {
        let OperatorSignInSettings { issuer, audience, role_claim, name_claim, roles } = &self.operators;
        let Some(issuer) = issuer else {
            if !audience.is_empty() || !role_claim.is_empty() || !roles.is_empty() {
                problems.add(
                    "identity.operators.issuer",
                    "is empty, though operators' sign-in is described; name one of `[[identity.issuer]]`",
                );
            }
            return;
        };
        if !self.issuer.iter().any(|known| known.url == *issuer) {
            problems.add("identity.operators.issuer", format!("`{issuer}` is no `[[identity.issuer]]`; add it there"));
        }
        for (key, text) in [("audience", audience), ("role_claim", role_claim), ("name_claim", name_claim)] {
            if !is_text(text) {
                problems.add(format!("identity.operators.{key}"), "is empty or too long; operators' sign-in needs it");
            }
        }
        for (value, role) in roles.iter().filter(|(_, role)| role.means().is_none()) {
            let message = format!("unknown variant `{}`, expected one of {}", role.as_str(), Role::listed());
            problems.add(format!("identity.operators.roles.{value}"), message);
        }
        if roles.is_empty() {
            problems.add(
                "identity.operators.roles",
                "is empty, so that nobody could sign in; write as in `{ \"weir-admins\" = \"admin\" }`",
            );
        }
        if self.issuer.iter().any(|known| known.audiences.contains(audience)) {
            problems.add(
                "identity.operators.audience",
                format!("`{audience}` is an audience of recipients too; a token of theirs must be worthless here, so use another"),
            );
        }
    }

    fn check_url(&self, key: String, text: &str, problems: &mut Problems) {
        let Ok(url) = Url::parse(text) else {
            problems.add(key, format!("`{text}` is no URL; write it as in `https://login.example.org`"));
            return;
        };
        let plain = url.scheme() == "http" && self.allow_http_loopback && is_loopback(&url);
        if url.scheme() != "https" && !plain {
            problems.add(key, format!("`{text}` is not https; keys that came in the clear prove nothing"));
        } else if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            problems.add(key, "must be without user, query and fragment");
        } else if text.len() > LONGEST_IDENTITY_TEXT {
            problems.add(key, format!("is longer than {LONGEST_IDENTITY_TEXT} bytes"));
        }
    }
}

fn is_text(text: &str) -> bool {
    (1..=LONGEST_IDENTITY_TEXT).contains(&text.len()) && !text.chars().any(char::is_control)
}
