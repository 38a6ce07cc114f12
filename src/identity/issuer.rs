//! Caches an issuer's keys, and looks for them again when they are old or one is missing, but not too often.
//!
//! One look runs at a time, in its own task, so that it completes even if its caller goes away. Callers that do not
//! need its result do not wait for it.

use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::{
    error::{IdentityError, Refused},
    fetch::Fetcher,
    keys::{Key, KeySet},
};
use crate::config::IssuerSettings;

/// The age up to which keys are used without a look.
const FRESH: TimeDelta = TimeDelta::minutes(10);
/// The age up to which keys are used while the issuer does not answer.
const USABLE: TimeDelta = TimeDelta::hours(1);
/// The shortest time between a look and another one for an unknown key.
const UNKNOWN_KEY: TimeDelta = TimeDelta::seconds(30);
/// The shortest time between a failed look and the next one.
const RETRY: TimeDelta = TimeDelta::seconds(5);

/// A trusted issuer.
#[derive(Debug)]
pub struct Issuer {
    /// The issuer's settings.
    pub settings: IssuerSettings,
    fetcher: Fetcher,
    known: RwLock<Option<Arc<Known>>>,
    /// Held during a look.
    looked: Mutex<Option<Look>>,
}

/// The published data of an issuer.
#[derive(Debug)]
struct Known {
    keys: KeySet,
    token_endpoint: Option<String>,
    fetched_at: DateTime<Utc>,
}

/// The last look at an issuer.
#[derive(Clone, Debug)]
struct Look {
    at: DateTime<Utc>,
    outcome: Result<(), String>,
}

/// The relevant parts of a discovery document (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    token_endpoint: Option<String>,
}

impl Issuer {
    pub fn new(settings: IssuerSettings, fetcher: Fetcher) -> Self {
        Self { settings, fetcher, known: RwLock::default(), looked: Mutex::default() }
    }

    /// Returns the key with this id.
    pub async fn key(self: &Arc<Self>, id: Option<&str>, now: DateTime<Utc>) -> Result<Key, IdentityError> {
        let known = self.known();
        let found = known.as_ref().and_then(|known| Some((known.keys.find(id)?.clone(), now - known.fetched_at)));
        match found {
            Some((key, age)) if age < FRESH => Ok(key),
            // Old keys stay in use until newer ones arrive; while another caller looks, this one uses them.
            Some((key, age)) if age < USABLE && self.looked.try_lock().is_err() => Ok(key),
            Some((key, age)) if age < USABLE => match self.look(known, now).await {
                Ok(known) => known.keys.find(id).cloned().ok_or(Refused::KeyUnknown.into()),
                Err(_) => Ok(key),
            },
            Some(_) | None => {
                let known = self.look(known, now).await?;
                known.keys.find(id).cloned().ok_or(Refused::KeyUnknown.into())
            }
        }
    }

    /// Returns the token endpoint for the issuer's clients.
    pub async fn token_endpoint(self: &Arc<Self>, now: DateTime<Utc>) -> Result<String, IdentityError> {
        if let Some(endpoint) = &self.settings.token_endpoint {
            return Ok(endpoint.clone());
        }
        let known = match self.known() {
            Some(known) if (now - known.fetched_at).abs() < USABLE => known,
            known => self.look(known, now).await?,
        };
        let endpoint = known.token_endpoint.clone();
        endpoint.ok_or_else(|| self.unavailable("its discovery document names no token endpoint".to_owned()))
    }

    fn known(&self) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn unavailable(&self, why: String) -> IdentityError {
        IdentityError::Unavailable { issuer: self.settings.url.clone(), why }
    }

    /// Fetches the published keys and token endpoint. Returns the result of the last look instead if that is too
    /// recent. `seen` is the data that the caller already has.
    async fn look(self: &Arc<Self>, seen: Option<Arc<Known>>, now: DateTime<Utc>) -> Result<Arc<Known>, IdentityError> {
        let issuer = Arc::clone(self);
        let looking = tokio::spawn(async move { issuer.look_once(seen, now).await });
        let outcome = looking.await.unwrap_or_else(|_| Err("looking for its keys ended early".to_owned()));
        outcome.map_err(|why| self.unavailable(why))
    }

    async fn look_once(&self, seen: Option<Arc<Known>>, now: DateTime<Utc>) -> Result<Arc<Known>, String> {
        let mut looked = self.looked.lock().await;
        let known = self.known();
        // Another caller has looked meanwhile.
        if let Some(known) = &known
            && seen.is_none_or(|seen| seen.fetched_at != known.fetched_at)
        {
            return Ok(Arc::clone(known));
        }
        if let Some(Look { at, outcome }) = &*looked {
            match (outcome, known) {
                (Err(why), _) if (now - *at).abs() < RETRY => return Err(why.clone()),
                (Ok(()), Some(known)) if (now - *at).abs() < UNKNOWN_KEY => return Ok(known),
                _ => {}
            }
        }
        let fetched = tokio::time::timeout(self.fetcher.timeout, self.fetch(now)).await;
        let fetched = fetched.unwrap_or_else(|_| Err("it took too long to answer".to_owned()));
        if let Err(why) = &fetched {
            tracing::warn!(issuer = self.settings.url, why, "the keys of an issuer cannot be had");
        }
        *looked = Some(Look { at: now, outcome: fetched.as_ref().map(|_| ()).map_err(String::clone) });
        let known = Arc::new(fetched?);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&known));
        Ok(known)
    }

    async fn fetch(&self, now: DateTime<Utc>) -> Result<Known, String> {
        let IssuerSettings { jwks_uri, token_endpoint, .. } = &self.settings;
        let discovery = match (jwks_uri, token_endpoint) {
            (Some(_), Some(_)) => None,
            // Without a discovery document, keys are still available, but profiles are not.
            (Some(_), None) => self.discover().await.ok(),
            (None, _) => Some(self.discover().await?),
        };
        let (discovered_keys, discovered_endpoint) =
            discovery.map_or((None, None), |found| (Some(found.jwks_uri), found.token_endpoint));
        let jwks_uri = jwks_uri.clone().or(discovered_keys).unwrap_or_default();
        let keys = KeySet::parse(&self.fetcher.get(&jwks_uri).await?)?;
        Ok(Known { keys, token_endpoint: token_endpoint.clone().or(discovered_endpoint), fetched_at: now })
    }

    async fn discover(&self) -> Result<Discovery, String> {
        let url = format!("{}/.well-known/openid-configuration", self.settings.url.trim_end_matches('/'));
        let bytes = self.fetcher.get(&url).await?;
        let found: Discovery =
            serde_json::from_slice(&bytes).map_err(|error| format!("`{url}` is no discovery document: {error}"))?;
        if found.issuer != self.settings.url {
            return Err(format!("`{url}` is the discovery document of another issuer"));
        }
        let plain = Url::parse(&self.settings.url).is_ok_and(|url| url.scheme() == "http");
        let is_secure = |url: &str| Url::parse(url).is_ok_and(|url| url.scheme() == "https" || plain);
        if !is_secure(&found.jwks_uri) || !found.token_endpoint.as_deref().is_none_or(is_secure) {
            return Err(format!("`{url}` names places that are not https"));
        }
        Ok(found)
    }
}
