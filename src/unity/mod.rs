//! Lists the tables of Unity Catalog servers by their open REST API.
//!
//! Only servers of the settings are asked, and a token goes to no other address: redirects are not followed. Every answer,
//! their number and the time for them are bounded. Never here: what is made of the tables, or access to their data.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;
use url::Url;

use crate::{
    config::DiscoverySettings,
    domain::core::secret::Secret,
    identity::{Fetcher, IdentityError, Unfetched},
};

/// The path of the API below a server's address.
const API: [&str; 3] = ["api", "2.1", "unity-catalog"];
/// The longest wait for one answer; shorter than the usual time of a session, so that silence is told from length.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 16 << 20;
/// The most requests of one session.
const MOST_REQUESTS: usize = 500;
/// The most things in one listing, all its pages together.
const MOST_LISTED: usize = 10_000;
/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 8 * 1024;

/// The Unity Catalog servers that may be asked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UnityServers {
    fetcher: Fetcher,
    urls: Arc<[Url]>,
}

/// One operator's questions to one server.
#[derive(Debug)]
pub struct UnitySession {
    fetcher: Fetcher,
    url: Url,
    token: Option<Secret>,
    requests_left: usize,
    until: Instant,
}

/// A table as the server describes it. What a server does not say is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UnityTable {
    /// Its name in its schema.
    pub name: String,
    /// The format of its files, such as `DELTA`.
    pub data_source_format: Option<String>,
    /// The folder of its files.
    pub storage_location: Option<String>,
    /// Its owner.
    pub owner: Option<String>,
    /// What its owner says of it.
    pub comment: Option<String>,
    /// Its columns.
    pub columns: Option<Vec<UnityColumn>>,
    /// Its properties.
    pub properties: Option<BTreeMap<String, Option<String>>>,
}

/// A column as the server describes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UnityColumn {
    /// Its name.
    pub name: String,
    /// What is said of it.
    pub comment: Option<String>,
}

/// Why a server's tables are not listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnityError {
    /// The settings do not name the server.
    #[error("is not allowed: add it to `discovery.unity_urls`; a server that is not named there is sent no request")]
    NotAllowed,
    /// The token could not be sent.
    #[error("is no token: write up to {LONGEST_TOKEN} visible ASCII characters")]
    BadToken,
    /// The session has asked as often as it may.
    #[error("was asked {MOST_REQUESTS} times")]
    AskedEnough,
    /// The session's time is over.
    #[error("was asked for long enough")]
    OutOfTime,
    /// There are too many of something.
    #[error("has more than {MOST_LISTED} {0}")]
    TooMany(&'static str),
    /// It does not answer well.
    #[error("{0}")]
    Unfetched(#[from] Unfetched),
    /// It answers something else.
    #[error("answers what is no page of {0}; check that the URL is that of a Unity Catalog server, without `/api`")]
    Malformed(&'static str),
}

/// A thing that has only a name here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

impl UnityServers {
    /// Takes the servers of the settings. None is asked before somebody wants it.
    pub fn new(settings: &DiscoverySettings) -> Result<Self, IdentityError> {
        let urls: Vec<Url> = settings.unity_urls.iter().filter_map(|url| normal(url)).collect();
        let fetcher = Fetcher::new(PATIENCE, urls.iter().any(|url| url.scheme() == "http"))?;
        Ok(Self { fetcher, urls: urls.into() })
    }

    /// Begins to ask the server at `url` until `until`.
    pub fn session(&self, url: &str, token: Option<Secret>, until: Instant) -> Result<UnitySession, UnityError> {
        let url = normal(url).filter(|url| self.urls.contains(url)).ok_or(UnityError::NotAllowed)?;
        let is_sent = |token: &Secret| {
            (1..=LONGEST_TOKEN).contains(&token.expose().len()) && token.expose().bytes().all(|b| b.is_ascii_graphic())
        };
        if token.as_ref().is_some_and(|token| !is_sent(token)) {
            return Err(UnityError::BadToken);
        }
        Ok(UnitySession { fetcher: self.fetcher.clone(), url, token, requests_left: MOST_REQUESTS, until })
    }
}

/// The one form of a server's address.
fn normal(url: &str) -> Option<Url> {
    Url::parse(url.trim_end_matches('/')).ok().filter(|url| !url.cannot_be_a_base())
}

impl UnitySession {
    /// The server's address.
    pub fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The names of all catalogs, sorted.
    pub async fn catalogs(&mut self) -> Result<Vec<String>, UnityError> {
        self.names("catalogs", &[]).await
    }

    /// The names of a catalog's schemas, sorted.
    pub async fn schemas(&mut self, catalog: &str) -> Result<Vec<String>, UnityError> {
        self.names("schemas", &[("catalog_name", catalog)]).await
    }

    /// The tables of a schema, sorted by name.
    pub async fn tables(&mut self, catalog: &str, schema: &str) -> Result<Vec<UnityTable>, UnityError> {
        let mut tables: Vec<UnityTable> =
            self.list("tables", &[("catalog_name", catalog), ("schema_name", schema)]).await?;
        // A server's pages have no order.
        tables.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(tables)
    }

    async fn names(&mut self, noun: &'static str, query: &[(&str, &str)]) -> Result<Vec<String>, UnityError> {
        let listed: Vec<Named> = self.list(noun, query).await?;
        let mut names: Vec<String> = listed.into_iter().map(|named| named.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// All pages of a listing.
    async fn list<T: DeserializeOwned>(
        &mut self,
        noun: &'static str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, UnityError> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(API).push(noun);
        }
        // The server chooses the length of its pages.
        url.query_pairs_mut().extend_pairs(query).append_pair("max_results", "0");
        let mut listed = Vec::new();
        let mut seen = HashSet::new();
        let mut token: Option<String> = None;
        loop {
            let mut page = url.clone();
            if let Some(token) = &token {
                page.query_pairs_mut().append_pair("page_token", token);
            }
            let (items, next) = self.page(noun, page).await?;
            listed.extend(items);
            if listed.len() > MOST_LISTED {
                return Err(UnityError::TooMany(noun));
            }
            match next.filter(|next| !next.is_empty()) {
                // A server that leads back to where it was would be asked for ever.
                Some(next) if !seen.insert(next.clone()) => return Err(UnityError::Malformed(noun)),
                Some(next) => token = Some(next),
                None => return Ok(listed),
            }
        }
    }

    async fn page<T: DeserializeOwned>(
        &mut self,
        noun: &'static str,
        url: Url,
    ) -> Result<(Vec<T>, Option<String>), UnityError> {
        self.requests_left = self.requests_left.checked_sub(1).ok_or(UnityError::AskedEnough)?;
        let left = self.until.saturating_duration_since(Instant::now());
        let fetch = self.fetcher.get_as(url, self.token.as_ref(), LARGEST_ANSWER);
        let bytes = timeout(left, fetch).await.map_err(|_| UnityError::OutOfTime)??;
        let malformed = |_| UnityError::Malformed(noun);
        let mut page: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes).map_err(malformed)?;
        // Some servers leave out a list that is empty.
        let items = page.remove(noun).filter(|items| !items.is_null()).map(serde_json::from_value).transpose();
        let next = page.remove("next_page_token").and_then(|next| next.as_str().map(str::to_owned));
        Ok((items.map_err(malformed)?.unwrap_or_default(), next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &[&str]) -> UnityServers {
        let unity_urls = urls.iter().map(|url| (*url).to_owned()).collect();
        UnityServers::new(&DiscoverySettings { unity_urls }).unwrap()
    }

    #[test]
    fn only_servers_of_the_settings_are_asked() {
        let named = servers(&["https://uc.example.org/", "http://127.0.0.1:8080/base"]);
        let session = |url: &str| named.session(url, None, Instant::now()).map(|session| session.url().to_owned());
        assert_eq!(session("https://UC.example.org:443"), Ok("https://uc.example.org".to_owned()));
        assert_eq!(session("http://127.0.0.1:8080/base/"), Ok("http://127.0.0.1:8080/base".to_owned()));
        for url in [
            "",
            "uc.example.org",
            "http://uc.example.org",
            "https://uc.example.org:444",
            "https://uc.example.org@evil.example",
            "https://uc.example.org.evil.example",
            "https://uc.example.org/x",
            "https://uc.example.org?x=1",
            "https://user@uc.example.org",
            "http://127.0.0.1:8080",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
        ] {
            assert_eq!(session(url), Err(UnityError::NotAllowed), "{url}");
        }
        assert!(servers(&[]).session("https://uc.example.org", None, Instant::now()).is_err());
    }

    #[test]
    fn a_token_that_would_break_a_header_is_not_sent() {
        let named = servers(&["https://uc.example.org"]);
        for token in ["", "a b", "a\nx-other: 1", "ä", &"x".repeat(LONGEST_TOKEN + 1)] {
            let session = named.session("https://uc.example.org", Some(Secret::new(token)), Instant::now());
            assert_eq!(session.unwrap_err(), UnityError::BadToken);
        }
    }
}
