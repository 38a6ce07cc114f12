//! Delivery of files: presigned or proxied, the expiry, and the URLs.

use std::collections::HashMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use object_store::path::Path;

use crate::{
    domain::{
        access::delivery::{Delivery, DeliveryFacts, asked, effective, too_short_to_presign},
        catalog::share::SharedObject,
    },
    lake::{DeletionVectorRef, VectorPlace},
    service::core::error::ServiceError,
    storage::TableLocation,
};

use super::{Sharing, audited_request::Granted, files::SealedFile, table::FoundTable};

/// A deletion vector's file: its path in the table, and its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedVector {
    /// The path in the table, from which the vector's id is made.
    pub path: String,
    /// The URL.
    pub url: String,
}

/// URLs for some files, in the same order.
#[derive(Clone, Debug, Default)]
pub struct SignedUrls {
    /// A URL for each file.
    pub files: Vec<String>,
    /// For each file, the URL of its deletion vector, if that is a file.
    pub vectors: Vec<Option<SignedVector>>,
}

impl SignedUrls {
    /// Gives all actions on the same file one URL; `paths` are in the order of the URLs. The Python client's change
    /// reader uses the URL to pair a file's remove with its add and so find the rows that a deletion vector removed;
    /// unpaired, every row of the file reads as deleted and inserted again.
    pub(super) fn unite<'a>(&mut self, paths: impl Iterator<Item = &'a str>) {
        let mut firsts = HashMap::new();
        for (index, path) in paths.enumerate() {
            let first = *firsts.entry(path).or_insert(index);
            if first != index {
                self.files[index] = self.files[first].clone();
            }
        }
    }
}

impl Sharing {
    /// Chooses how `n_files` are delivered, and the one expiry of all URLs of the answer: never later than the end of
    /// the access, nor of the signing credential.
    pub(super) async fn choose_delivery(
        &self,
        found: &FoundTable,
        n_files: usize,
        now: DateTime<Utc>,
    ) -> Result<(Delivery, DateTime<Utc>), ServiceError> {
        let delivery = effective_delivery(&found.location, &found.object, &found.granted);
        if delivery == Delivery::Presigned && found.location.can_sign_many(n_files) {
            let signing_until = found.location.signing_until().await?;
            let until = [found.granted.until, signing_until].into_iter().flatten().min();
            if until.is_none_or(|until| !too_short_to_presign(until, now)) {
                return Ok((Delivery::Presigned, expiry(now, self.settings.url_ttl_seconds, until)));
            }
        }
        Ok((Delivery::Proxied, expiry(now, self.settings.proxied_url_ttl_seconds, found.granted.until)))
    }
}

/// Returns the delivery that results from storage, recipient and object.
fn effective_delivery(location: &TableLocation, object: &SharedObject, granted: &Granted) -> Delivery {
    let (recipient, token) = (&granted.bearer.recipient, &granted.bearer.token);
    effective(DeliveryFacts {
        storage: location.delivery(),
        storage_can_sign: location.can_sign(),
        recipient: asked(recipient.spec.delivery.as_ref()),
        recipient_has_networks: !recipient.spec.allowed_cidrs.is_empty() || !token.allowed_cidrs.is_empty(),
        object: object.delivery(),
        presigned_despite_networks: object.spec.presigned_despite_networks,
    })
}

/// Returns `now` plus `ttl_seconds`, or `until` if that is earlier, cut to whole seconds, as signatures require.
fn expiry(now: DateTime<Utc>, ttl_seconds: u64, until: Option<DateTime<Utc>>) -> DateTime<Utc> {
    let ttl = i64::try_from(ttl_seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX);
    let end = now.checked_add_signed(ttl).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let end = until.map_or(end, |until| until.min(end));
    end.duration_trunc(TimeDelta::seconds(1)).unwrap_or(end)
}

/// Makes URLs for one answer.
#[derive(Debug)]
pub(super) struct Signer {
    service: Sharing,
    location: TableLocation,
    delivery: Delivery,
    expires_at: DateTime<Utc>,
    /// The contents of a sealed URL besides the path.
    sealed: SealedFile,
}

impl Signer {
    pub(super) fn new(service: &Sharing, found: &FoundTable, delivery: Delivery, expires_at: DateTime<Utc>) -> Self {
        let sealed = SealedFile {
            credential: found.granted.bearer.credential(),
            object_id: found.object.id,
            expires_at,
            path: String::new(),
        };
        Self { service: service.clone(), location: found.location.clone(), delivery, expires_at, sealed }
    }

    /// Makes URLs for files, each given by its path in the log and its deletion vector.
    pub(super) async fn sign<'a>(
        &self,
        files: impl Iterator<Item = (&'a str, Option<DeletionVectorRef<'a>>)> + Clone,
    ) -> Result<SignedUrls, ServiceError> {
        let mut paths = Vec::new();
        for (path, _) in files.clone() {
            paths.push(self.location.resolve(path)?);
        }
        // Deletion vectors follow the data files, so that one call signs both.
        let mut vectors = Vec::with_capacity(paths.len());
        for (_, vector) in files {
            let path = vector.map(vector_path).transpose()?.flatten();
            if let Some(path) = &path {
                paths.push(self.location.resolve(path)?);
            }
            vectors.push(path);
        }
        let mut urls = self.urls(&paths).await?;
        let mut vector_urls = urls.split_off(vectors.len()).into_iter();
        let signed = |path: Option<String>| Some(SignedVector { path: path?, url: vector_urls.next()? });
        let vectors = vectors.into_iter().map(signed).collect();
        Ok(SignedUrls { files: urls, vectors })
    }

    async fn urls(&self, paths: &[Path]) -> Result<Vec<String>, ServiceError> {
        match self.delivery {
            Delivery::Presigned => {
                Ok(self.location.sign(paths, self.expires_at, self.service.core.clock.now()).await?)
            }
            Delivery::Proxied => Ok(self.service.file_urls(&self.sealed, paths)),
        }
    }
}

/// Returns the path of a deletion vector in the table; `None` if it is inline.
fn vector_path(vector: DeletionVectorRef<'_>) -> Result<Option<String>, ServiceError> {
    match vector.place() {
        VectorPlace::Inline => Ok(None),
        VectorPlace::File(path) => Ok(Some(path)),
        VectorPlace::Absolute => Err(ServiceError::Unsupported(
            "Table contains absolute paths, which are never shared; ask the data provider".to_owned(),
        )),
        VectorPlace::Malformed => Err(ServiceError::Unsupported(
            "the table's log holds a deletion vector that cannot be understood; ask the data provider".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_on_one_file_share_its_url() {
        let mut urls = SignedUrls { files: ["1", "2", "3"].map(String::from).to_vec(), vectors: vec![None; 3] };
        urls.unite(["a", "b", "a"].into_iter());
        assert_eq!(urls.files, ["1", "2", "1"]);
    }

    #[test]
    fn urls_end_with_what_they_stand_on_in_whole_seconds() {
        let now = DateTime::from_timestamp(1_790_000_000, 900_000_000).unwrap();
        assert_eq!(expiry(now, 3600, None).timestamp(), 1_790_003_600);
        assert_eq!(expiry(now, 3600, Some(now + TimeDelta::seconds(60))).timestamp(), 1_790_000_060);
        assert_eq!(expiry(now, 3600, None).timestamp_subsec_nanos(), 0);
    }
}
