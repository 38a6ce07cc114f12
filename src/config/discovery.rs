//! Settings of discovery: which catalogs the server may ask for tables.

use serde::Deserialize;
use url::Url;

use super::{is_loopback, problems::Problems};

/// `[discovery]`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct DiscoverySettings {
    /// The addresses of Unity Catalog servers that operators may have asked for tables; no other is sent a request.
    pub unity_urls: Vec<String>,
}

impl DiscoverySettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        for (i, text) in self.unity_urls.iter().enumerate() {
            let key = format!("discovery.unity_urls[{i}]");
            match Url::parse(text) {
                // Not repeated, since it may hold a credential.
                Err(source) => problems.add(key, format!("is no valid URL: {source}")),
                Ok(url)
                    if !url.username().is_empty()
                        || url.password().is_some()
                        || url.query().is_some()
                        || url.fragment().is_some() =>
                {
                    problems.add(key, "must be without user, query and fragment; operators send the token");
                }
                Ok(url) if url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url) => {}
                Ok(_) => problems.add(key, "is not https; the token would travel in the clear"),
            }
        }
    }
}
