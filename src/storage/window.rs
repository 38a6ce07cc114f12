//! Limits the lifetime of URLs signed by object_store's signers, which read the wall clock themselves.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SubsecRound, TimeDelta, Utc};
use http::Method;
use object_store::{path::Path, signer::Signer};
use url::Url;

use super::StorageError;

/// The longest lifetime of a presigned URL in S3 and GCS (Signature Version 4).
const LONGEST: TimeDelta = TimeDelta::days(7);

/// The number of attempts to sign a URL before the machine counts as overloaded.
const TRIES: usize = 3;

/// Returns the whole seconds from `now` to `expires_at`, which is cut to whole seconds as in signatures.
pub(super) fn seconds_left(expires_at: DateTime<Utc>, now: DateTime<Utc>) -> Result<u64, StorageError> {
    let left = (expires_at.trunc_subsecs(0) - now).min(LONGEST).num_seconds();
    u64::try_from(left).ok().filter(|left| *left > 0).ok_or(StorageError::Expired { expires_at, now })
}

/// Signs one GET URL that states an end no later than `expires_at`.
///
/// The signer dates the signature itself, perhaps a second after the clock was read here. So the date in the URL is
/// read back, and a URL that would live too long, which is rare, is signed again.
pub(super) async fn sign_one(
    signer: &dyn Signer,
    path: &Path,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<String, StorageError> {
    for _ in 0..TRIES {
        let now = now.max(Utc::now());
        let left = Duration::from_secs(seconds_left(expires_at, now)?);
        let url = signer.signed_url(Method::GET, path, left).await?;
        if dies_at(&url).is_some_and(|end| end <= expires_at) {
            return Ok(url.into());
        }
    }
    Err(StorageError::unavailable("signing takes longer than a second; the machine is overloaded"))
}

/// Returns the end stated in a Signature Version 4 URL: `X-…-Date` plus `X-…-Expires`.
fn dies_at(url: &Url) -> Option<DateTime<Utc>> {
    let value = |suffix: &str| {
        let mut pairs = url.query_pairs();
        pairs.find_map(|(name, value)| name.to_ascii_lowercase().ends_with(suffix).then(|| value.into_owned()))
    };
    let date = NaiveDateTime::parse_from_str(&value("-date")?, "%Y%m%dT%H%M%SZ").ok()?.and_utc();
    Some(date + TimeDelta::seconds(value("-expires")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn no_second_is_added_by_rounding() {
        let end = at("2026-01-01T01:00:00.9Z");
        assert_eq!(seconds_left(end, at("2026-01-01T00:00:00Z")).unwrap(), 3600);
        assert_eq!(seconds_left(end, at("2026-01-01T00:00:00.1Z")).unwrap(), 3599);
        assert_eq!(seconds_left(end, at("2026-01-01T00:59:59Z")).unwrap(), 1);
        assert!(matches!(seconds_left(end, at("2026-01-01T00:59:59.5Z")), Err(StorageError::Expired { .. })));
        assert!(matches!(seconds_left(end, at("2026-01-01T02:00:00Z")), Err(StorageError::Expired { .. })));
    }

    #[test]
    fn stated_end_is_read_from_the_url() {
        let url = "https://h/p?X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host";
        assert_eq!(dies_at(&url.parse().unwrap()), Some(at("2026-01-01T00:01:00Z")));
        assert_eq!(dies_at(&"https://h/p".parse().unwrap()), None);
    }
}
