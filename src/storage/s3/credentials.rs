//! Provides an AWS credential with a known expiry.
//!
//! object_store renews session credentials too, but does not reveal the expiry. A URL ends with the session that signed
//! it, so the server must know the expiry that it can promise a recipient. One credential serves requests and
//! signatures.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use object_store::{CredentialProvider, aws::AwsCredential};
use tokio::sync::Mutex;

use super::source::{CredentialSource, SourceError};

/// Returns the current time.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// A session with less time left is renewed. Sessions often last one hour, and connectors mishandle URLs that live for
/// less than twenty minutes, so renewal must come well before that.
const RENEW_BEFORE: TimeDelta = TimeDelta::minutes(30);
/// A session with less time left is not used.
const TOO_LATE: TimeDelta = TimeDelta::minutes(1);
/// Metadata services return the same session until they have a newer one, so they are asked at most this often.
const ASK_AGAIN_AFTER: TimeDelta = TimeDelta::minutes(1);
/// The longest wait for a credential.
const PATIENCE: Duration = Duration::from_secs(5);

/// The credential of one storage, renewed in time, with one request for all concurrent callers.
pub struct S3Credentials {
    source: CredentialSource,
    clock: Clock,
    http: reqwest::Client,
    held: Mutex<Option<Held>>,
}

struct Held {
    session: Session,
    ask_again_at: DateTime<Utc>,
}

/// A credential and its expiry.
#[derive(Clone, Debug)]
pub struct Session {
    /// The credential that signs.
    pub credential: Arc<AwsCredential>,
    /// The expiry; `None` for keys that do not expire.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Session {
    fn has_more_than(&self, margin: TimeDelta, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|end| end - now > margin)
    }
}

impl S3Credentials {
    /// Creates a credential from `source`, without a request yet.
    pub fn new(source: CredentialSource, clock: Clock) -> Result<Self, SourceError> {
        let mut http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(Duration::from_secs(2))
            // A genuine metadata service does not redirect.
            .redirect(reqwest::redirect::Policy::none());
        if matches!(source, CredentialSource::Container { .. } | CredentialSource::Instance { .. }) {
            // These endpoints exist only for this machine; a proxy would reach its own.
            http = http.no_proxy();
        }
        Ok(Self { source, clock, http: http.build()?, held: Mutex::new(None) })
    }

    /// Returns the current session, renewed if it ends soon. If the renewal fails, the old session is used as long as
    /// possible.
    pub async fn session(&self) -> Result<Session, SourceError> {
        if let CredentialSource::Static(credential) = &self.source {
            return Ok(Session { credential: Arc::clone(credential), expires_at: None });
        }
        // Held during the request, so that concurrent callers wait for its result.
        let mut held = self.held.lock().await;
        let now = (self.clock)();
        if let Some(Held { session, ask_again_at }) = held.as_ref() {
            let is_fresh = session.has_more_than(RENEW_BEFORE, now);
            if is_fresh || (session.has_more_than(TOO_LATE, now) && now < *ask_again_at) {
                return Ok(session.clone());
            }
        }
        let ask_again_at = now + ASK_AGAIN_AFTER;
        match (self.source.fetch(&self.http).await, held.as_mut()) {
            (Ok(session), _) if !session.has_more_than(TimeDelta::zero(), now) => Err(SourceError::Ended),
            (Ok(session), _) => {
                *held = Some(Held { session: session.clone(), ask_again_at });
                Ok(session)
            }
            (Err(error), Some(old)) if old.session.has_more_than(TOO_LATE, now) => {
                tracing::warn!(%error, expires_at = ?old.session.expires_at, "session credential was not renewed");
                old.ask_again_at = ask_again_at;
                Ok(old.session.clone())
            }
            (Err(error), _) => Err(error),
        }
    }
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials").field("source", &self.source).finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for S3Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let session = self.session().await;
        session
            .map(|session| session.credential)
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })
    }
}
