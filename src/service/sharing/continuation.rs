//! Tokens that continue a query: with the next page of an answer, or with fresh URLs of the same version.
//!
//! Both are sealed for one recipient and name the object, the versions and the parameters that they continue, so that
//! they cannot be used for another query. The decision is made anew when one comes back (Delta Sharing protocol, 1.9
//! and 2.5). A token issued for a continued query expires with the first token: a pinned version is never renewed.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{domain::core::seal::Sealer, service::core::error::ServiceError};

/// How long an answer's pages may be continued, counted from the first page.
const PAGE_LIFE: TimeDelta = TimeDelta::days(3);

/// The position at which a paged answer continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PageToken {
    /// The object that is read.
    pub(super) object_id: Uuid,
    /// The id of the table that the recipient saw, if the object is a view: other rules show other files in another
    /// order.
    shown: Option<Uuid>,
    /// The first version of the answer, which later commits do not move.
    pub(super) first: u64,
    /// Its last version; the same as the first for a snapshot.
    pub(super) last: u64,
    /// SHA-256 of the parameters that must be repeated, in hex.
    pub(super) parameters: String,
    /// Where the previous page ended: for changes, the number of files so far; for a snapshot, the key of its last
    /// file.
    pub(super) after: u64,
    /// When the token expires, in seconds since the epoch.
    expires_at: i64,
    /// When the version was first pinned, in seconds since the epoch.
    #[serde(default)]
    began_at: Option<i64>,
}

/// A version that stays the same while its URLs are refreshed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RefreshToken {
    /// The object that is read.
    pub(super) object_id: Uuid,
    /// Its version.
    pub(super) version: u64,
    /// When the token expires, in seconds since the epoch.
    expires_at: i64,
    /// When the version was first pinned, in seconds since the epoch.
    #[serde(default)]
    began_at: Option<i64>,
}

/// The version that a token pins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pin {
    pub(super) version: u64,
    /// When it was first pinned, while it was the newest version.
    pub(super) began_at: DateTime<Utc>,
}

impl PageToken {
    /// Returns the pinned snapshot that the pages are cut from.
    pub(super) fn pin(&self) -> Pin {
        Pin { version: self.first, began_at: self.began_at() }
    }

    /// Returns when the version was first pinned; tokens of older servers contain only their expiry.
    pub(super) fn began_at(&self) -> DateTime<Utc> {
        began(self.began_at, self.expires_at, PAGE_LIFE)
    }
}

impl RefreshToken {
    /// Returns the pinned snapshot. Tokens of older servers, which lived for an hour, contain only their expiry.
    pub(super) fn pin(&self) -> Pin {
        Pin { version: self.version, began_at: began(self.began_at, self.expires_at, TimeDelta::hours(1)) }
    }
}

fn began(began_at: Option<i64>, expires_at: i64, life: TimeDelta) -> DateTime<Utc> {
    let at = began_at.unwrap_or_else(|| expires_at.saturating_sub(life.num_seconds()));
    DateTime::from_timestamp(at, 0).unwrap_or_default()
}

/// Seals and opens the tokens of one recipient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Continuations<'a> {
    pub(super) sealer: &'a Sealer,
    pub(super) recipient_id: Uuid,
    pub(super) object_id: Uuid,
    /// The id of the table that the recipient sees in a view.
    pub(super) shown: Option<Uuid>,
    pub(super) now: DateTime<Utc>,
    /// How long a version may be refreshed.
    pub(super) refresh_life: TimeDelta,
}

impl Continuations<'_> {
    /// Seals the token of the page after `after`, for an answer whose versions were pinned at `began_at`.
    pub(super) fn next_page(
        &self,
        versions: (u64, u64),
        parameters: &str,
        after: u64,
        began_at: DateTime<Utc>,
    ) -> String {
        let token = PageToken {
            object_id: self.object_id,
            shown: self.shown,
            first: versions.0,
            last: versions.1,
            parameters: parameters.to_owned(),
            after,
            expires_at: (began_at + PAGE_LIFE).timestamp(),
            began_at: Some(began_at.timestamp()),
        };
        self.seal("page", &token)
    }

    /// Seals a token for `version`, which was first pinned at `began_at`.
    pub(super) fn refresh(&self, version: u64, began_at: DateTime<Utc>) -> String {
        let (expires_at, began_at) = ((began_at + self.refresh_life).timestamp(), Some(began_at.timestamp()));
        self.seal("refresh", &RefreshToken { object_id: self.object_id, version, expires_at, began_at })
    }

    /// Opens a page token; it must come with the same `parameters` as the first page.
    pub(super) fn open_page(&self, text: &str, parameters: &str) -> Result<PageToken, ServiceError> {
        let token: PageToken = self.open("page", text).ok_or_else(|| {
            refused("Error decoding the page token: it is not one of this server's; send the query without pageToken")
        })?;
        self.check("page", token.object_id, token.expires_at)?;
        if token.shown != self.shown {
            return Err(refused(
                "What this table shows you has changed since the first page; send the query without pageToken",
            ));
        }
        if token.parameters != parameters {
            return Err(refused("Query parameter mismatch: repeat the first page's parameters with its pageToken"));
        }
        Ok(token)
    }

    /// Opens a refresh token.
    pub(super) fn open_refresh(&self, text: &str) -> Result<RefreshToken, ServiceError> {
        let token: RefreshToken = self.open("refresh", text).ok_or_else(|| {
            refused("Error decoding refresh token: it is not one of this server's; send the query without refreshToken")
        })?;
        self.check("refresh", token.object_id, token.expires_at)?;
        Ok(token)
    }

    fn check(&self, kind: &str, object_id: Uuid, expires_at: i64) -> Result<(), ServiceError> {
        if object_id != self.object_id {
            return Err(refused(format!("the {kind} token does not match the table being queried; send it without")));
        }
        if expires_at <= self.now.timestamp() {
            return Err(refused(format!("The {kind} token has expired; send the query without it")));
        }
        Ok(())
    }

    fn seal(&self, kind: &str, token: &impl Serialize) -> String {
        // Both tokens serialise to objects with string keys.
        let plain = serde_json::to_vec(token).unwrap_or_default();
        self.sealer.seal(&plain, self.context(kind).as_bytes())
    }

    fn open<T: DeserializeOwned>(&self, kind: &str, text: &str) -> Option<T> {
        let plain = self.sealer.open(text, self.context(kind).as_bytes()).ok()?;
        serde_json::from_slice(&plain).ok()
    }

    fn context(&self, kind: &str) -> String {
        format!("sharing/{kind}/{}", self.recipient_id)
    }
}

fn refused(message: impl Into<String>) -> ServiceError {
    ServiceError::Parameter(message.into())
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use crate::domain::core::seal::{RootKey, SealPurpose};

    use super::*;

    #[test]
    fn tokens_continue_only_what_they_were_made_for() {
        let sealer = Sealer::new(&[RootKey::new(Zeroizing::new([7; 32]))], SealPurpose::PageToken);
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let mine = Continuations {
            sealer: &sealer,
            recipient_id: Uuid::from_u128(1),
            object_id: Uuid::from_u128(2),
            shown: None,
            now,
            refresh_life: TimeDelta::hours(1),
        };
        let page = mine.next_page((3, 3), "p", 10, now);
        assert_eq!(mine.open_page(&page, "p").unwrap().after, 10);
        let says = |result: Result<PageToken, ServiceError>, text: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        };
        says(mine.open_page(&page, "q"), "Query parameter mismatch");
        says(mine.open_page("junk", "p"), "Error decoding the page token");
        says(mine.open_page(&mine.refresh(3, now), "p"), "Error decoding the page token");
        let other = Continuations { recipient_id: Uuid::from_u128(9), ..mine };
        says(other.open_page(&page, "p"), "Error decoding the page token");
        let other = Continuations { object_id: Uuid::from_u128(9), ..mine };
        says(other.open_page(&page, "p"), "does not match the table being queried");
        let other = Continuations { shown: Some(Uuid::from_u128(3)), ..mine };
        says(other.open_page(&page, "p"), "has changed since the first page");
        let later = Continuations { now: now + PAGE_LIFE, ..mine };
        says(later.open_page(&page, "p"), "The page token has expired");
        assert_eq!(mine.open_refresh(&mine.refresh(3, now)).unwrap().version, 3);
        let later = Continuations { now: now + mine.refresh_life, ..mine };
        assert!(later.open_refresh(&mine.refresh(3, now)).is_err());
        assert!(later.open_refresh(&later.refresh(3, now)).is_err(), "a renewed token ends with the first");
        assert!(later.open_refresh(&later.refresh(3, later.now)).is_ok());
        let much_later = Continuations { now: now + PAGE_LIFE, ..mine };
        let renewed = Continuations { now: now + TimeDelta::days(2), ..mine }.next_page((3, 3), "p", 20, now);
        says(much_later.open_page(&renewed, "p"), "The page token has expired");
    }

    #[test]
    fn tokens_of_older_servers_began_when_they_were_given_out() {
        let old = r#"{"object_id":"00000000-0000-0000-0000-000000000002","version":3,"expires_at":1790003600}"#;
        let token: RefreshToken = serde_json::from_str(old).unwrap();
        assert_eq!(token.pin().began_at.timestamp(), 1_790_000_000);
    }
}
