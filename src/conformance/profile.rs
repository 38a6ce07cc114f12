//! Reads the profile file of the server to check (protocol, "Profile File Format").

use std::path::Path;

use serde::Deserialize;
use url::Url;

use super::ConformanceError;

/// A recipient's profile. Contains the token in clear text; never printed.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    share_credentials_version: u32,
    pub(super) endpoint: String,
    pub(super) bearer_token: Option<String>,
}

impl Profile {
    /// Reads the profile in the file `path`.
    pub fn read(path: &Path) -> Result<Self, ConformanceError> {
        let bytes = std::fs::read(path)
            .map_err(|error| ConformanceError::Profile(format!("`{}` cannot be read: {error}", path.display())))?;
        Self::parse(&bytes)
    }

    /// Parses a profile from JSON text.
    pub fn parse(json: &[u8]) -> Result<Self, ConformanceError> {
        // The parser's message would quote the invalid part, which may be the token.
        let profile: Self = serde_json::from_slice(json)
            .map_err(|_| ConformanceError::Profile("it is no JSON object with the fields of a profile".to_owned()))?;
        if profile.share_credentials_version > 2 {
            return Err(ConformanceError::Profile(format!(
                "its shareCredentialsVersion is {}; 1 and 2 are known",
                profile.share_credentials_version
            )));
        }
        if profile.bearer_token.as_deref().unwrap_or_default().is_empty() {
            let message = "it holds no bearerToken; only bearer tokens can be used here";
            return Err(ConformanceError::Profile(message.to_owned()));
        }
        let endpoint = Url::parse(&profile.endpoint).ok();
        if endpoint.is_none_or(|url| !matches!(url.scheme(), "http" | "https") || url.host().is_none()) {
            return Err(ConformanceError::Profile("its endpoint is no http or https URL".to_owned()));
        }
        Ok(profile)
    }

    /// Returns the endpoint without any parts that may be secret.
    pub(super) fn shown_endpoint(&self) -> String {
        let Ok(mut url) = Url::parse(&self.endpoint) else { return String::new() };
        // These calls succeed for any URL with a host.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.set_fragment(None);
        url.to_string().trim_end_matches('/').to_owned()
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("endpoint", &self.shown_endpoint()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_profile_is_refused_without_quoting_it() {
        for json in [
            r#"{"shareCredentialsVersion":"sesame","endpoint":"https://x","bearerToken":"sesame"}"#,
            r#"{"shareCredentialsVersion":3,"endpoint":"https://x","bearerToken":"sesame"}"#,
            r#"{"shareCredentialsVersion":1,"endpoint":"sesame","bearerToken":"sesame"}"#,
            r#"{"shareCredentialsVersion":2,"endpoint":"https://x","type":"oauth_client_credentials"}"#,
            "sesame",
        ] {
            let error = Profile::parse(json.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("sesame"), "{error}");
        }
    }

    #[test]
    fn the_shown_endpoint_holds_no_secret() {
        let json =
            r#"{"shareCredentialsVersion":1,"endpoint":"https://u:sesame@h/p/?k=sesame","bearerToken":"sesame"}"#;
        let profile = Profile::parse(json.as_bytes()).unwrap();
        assert_eq!(profile.shown_endpoint(), "https://h/p");
        assert!(!format!("{profile:?}").contains("sesame"));
    }
}
