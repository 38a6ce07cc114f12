//! Finds the folders below a place that hold a Delta log, one after the other and in a fixed order.
//!
//! A search lists one folder at a time, and looks into no folder of a table that it found. It can be broken off anywhere and
//! go on later after its position. Never here: reading logs.

use std::{sync::Arc, time::Instant};

use futures::{StreamExt, future::join_all};
use object_store::{Error, path::Path};

use crate::storage::TableLocation;

use super::{LakeError, kernel::unavailable, log_store::LOG};

/// How many folders are looked into at once.
const LOOKED_INTO_AT_ONCE: usize = 16;

/// How far one search goes.
#[derive(Clone, Copy, Debug)]
pub struct SearchLimits {
    /// The most folders below each other, counted from the place.
    pub depth: usize,
    /// The most names in all listings together.
    pub listed: usize,
    /// When it stops.
    pub until: Instant,
}

/// The next thing that a search meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchStep {
    /// A folder that holds a log.
    Found(FoundFolder),
    /// All is searched.
    Ended,
    /// Its time is over.
    OutOfTime,
    /// It has listed as much as it may.
    ListedEnough,
}

/// A folder that holds a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFolder {
    /// Its location.
    pub url: String,
    /// Its path below the place; also the position of a search that goes on after it.
    pub path: String,
}

/// A search below one place.
#[derive(Debug)]
pub struct Search {
    place: TableLocation,
    limits: SearchLimits,
    /// Where an earlier search ended: everything up to it is passed over.
    after: Option<String>,
    position: Option<String>,
    /// The folders that are still to be looked into, the next one last.
    pending: Vec<Folder>,
    listed: usize,
    too_deep: usize,
    unreadable: usize,
}

#[derive(Debug)]
struct Folder {
    path: Path,
    depth: usize,
    log: Option<Log>,
}

/// Whether a folder holds a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    There,
    NotThere,
    /// The storage does not say.
    Unreadable,
}

impl Search {
    /// Begins a search below `place`, the place included, after the position of an earlier one.
    pub fn new(place: TableLocation, after: Option<String>, limits: SearchLimits) -> Self {
        let pending = vec![Folder { path: place.path().clone(), depth: 0, log: None }];
        Self { position: after.clone(), place, limits, after, pending, listed: 0, too_deep: 0, unreadable: 0 }
    }

    /// Everything up to this was met; `None` before anything was.
    pub fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    /// Whether nothing is left to search.
    pub fn is_ended(&self) -> bool {
        self.pending.is_empty()
    }

    /// The folders whose own folders lie too deep to be looked into.
    pub fn too_deep(&self) -> usize {
        self.too_deep
    }

    /// The folders that the storage does not list.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Goes on to the next folder that holds a log.
    pub async fn next(&mut self) -> Result<SearchStep, LakeError> {
        while !self.pending.is_empty() {
            if Instant::now() >= self.limits.until {
                return Ok(SearchStep::OutOfTime);
            }
            if self.listed >= self.limits.listed {
                return Ok(SearchStep::ListedEnough);
            }
            self.look_ahead().await?;
            let Some(folder) = self.pending.pop() else { break };
            let path = self.below(&folder.path);
            let is_new = self.after.as_ref().is_none_or(|after| follows(&path, after));
            let holds_log = match folder.log {
                Some(Log::There) => true,
                Some(Log::NotThere) => self.enter(&folder, is_new).await?,
                Some(Log::Unreadable) | None => {
                    self.unreadable += usize::from(is_new);
                    false
                }
            };
            if !is_new {
                continue;
            }
            self.position = Some(path.clone());
            if holds_log && let Some(url) = self.place.url_of(&folder.path) {
                return Ok(SearchStep::Found(FoundFolder { url, path }));
            }
        }
        Ok(SearchStep::Ended)
    }

    /// Looks for logs in the next folders, if it is not known of the first.
    async fn look_ahead(&mut self) -> Result<(), LakeError> {
        let store = Arc::clone(self.place.store());
        let next = self.pending.iter_mut().rev().take(LOOKED_INTO_AT_ONCE).take_while(|folder| folder.log.is_none());
        let looks = next.map(|folder| {
            let mut listing = store.list(Some(&folder.path.clone().join(LOG)));
            async move {
                folder.log = Some(match listing.next().await {
                    Some(Ok(_)) => Log::There,
                    None => Log::NotThere,
                    Some(Err(error)) if concerns_folder(&error) => Log::Unreadable,
                    Some(Err(error)) => return Err(error),
                });
                Ok(())
            }
        });
        let looked = join_all(looks).await;
        looked.into_iter().collect::<Result<(), _>>().map_err(|error| unavailable(&self.place, Arc::new(error)))
    }

    /// Lists a folder, and adds its folders to those that are still to be looked into. Returns whether it has the folder of a
    /// log after all, an empty one. Only what is new counts as listed, so that a search that goes on comes further.
    async fn enter(&mut self, folder: &Folder, is_new: bool) -> Result<bool, LakeError> {
        let listing = match self.place.store().list_with_delimiter(Some(&folder.path)).await {
            Ok(listing) => listing,
            Err(error) if concerns_folder(&error) => {
                self.unreadable += usize::from(is_new);
                return Ok(false);
            }
            Err(error) => return Err(unavailable(&self.place, Arc::new(error))),
        };
        if is_new {
            self.listed += 1 + listing.objects.len() + listing.common_prefixes.len();
        }
        let mut folders = listing.common_prefixes;
        if folders.iter().any(|inner| inner.filename() == Some(LOG)) {
            return Ok(true);
        }
        if folder.depth >= self.limits.depth {
            self.too_deep += usize::from(is_new && !folders.is_empty());
            return Ok(false);
        }
        folders.retain(|inner| {
            let path = self.below(inner);
            self.after.as_ref().is_none_or(|after| follows(&path, after) || leads_to(&path, after))
        });
        folders.sort_unstable_by(|one, other| other.filename().cmp(&one.filename()));
        let depth = folder.depth + 1;
        self.pending.extend(folders.into_iter().map(|path| Folder { path, depth, log: None }));
        Ok(false)
    }

    /// The path of a folder below the place.
    fn below(&self, path: &Path) -> String {
        let below = path.as_ref().strip_prefix(self.place.path().as_ref()).unwrap_or_default();
        below.trim_start_matches('/').to_owned()
    }
}

/// Whether a search meets `path` after `position`: a folder before those below it, and these before the next one beside it.
fn follows(path: &str, position: &str) -> bool {
    let parts = |text: &str| text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    parts(path) > parts(position)
}

/// Whether `position` is at or below `path`.
fn leads_to(path: &str, position: &str) -> bool {
    position.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// Whether an error is about one folder alone. Names that are no paths cannot be listed, and nor can folders without the
/// right to.
fn concerns_folder(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidPath { .. }
            | Error::NotFound { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};

    use super::*;

    async fn lake(keys: &[&str]) -> TableLocation {
        let store = InMemory::new();
        for key in keys {
            store.put(&Path::parse(key).unwrap(), "x".into()).await.unwrap();
        }
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        TableLocation::new(store, Path::parse("lake").unwrap(), "s3://bucket/lake")
    }

    fn limits(depth: usize, listed: usize) -> SearchLimits {
        SearchLimits { depth, listed, until: Instant::now() + Duration::from_secs(60) }
    }

    async fn all(search: &mut Search) -> (Vec<String>, SearchStep) {
        let mut found = Vec::new();
        loop {
            match search.next().await.unwrap() {
                SearchStep::Found(folder) => found.push(folder.path),
                other => return (found, other),
            }
        }
    }

    const KEYS: [&str; 9] = [
        "lake/b/t/_delta_log/0.json",
        "lake/b/t/inner/_delta_log/0.json",
        "lake/b/t/part=1/x",
        "lake/a b/_delta_log/0.json",
        "lake/plain/x",
        "lake/b-t/_delta_log/0.json",
        "lake/c/d/e/_delta_log/0.json",
        "lakehouse/t/_delta_log/0.json",
        "lake/x",
    ];

    #[tokio::test]
    async fn tables_are_found_in_order_and_not_looked_into() {
        let place = lake(&KEYS).await;
        let mut search = Search::new(place.clone(), None, limits(9, 1_000));
        let SearchStep::Found(first) = search.next().await.unwrap() else { panic!("nothing is found") };
        assert_eq!((first.url.as_str(), first.path.as_str()), ("s3://bucket/lake/a%20b", "a b"));
        let (rest, end) = all(&mut search).await;
        assert_eq!((rest, end), (vec!["b/t".into(), "b-t".into(), "c/d/e".into()], SearchStep::Ended));
        let table =
            TableLocation::new(Arc::clone(place.store()), Path::parse("lake/b/t").unwrap(), "s3://bucket/lake/b/t");
        let (found, _) = all(&mut Search::new(table, None, limits(9, 1_000))).await;
        assert_eq!(found, [""]);
    }

    #[tokio::test]
    async fn a_search_goes_on_after_any_position() {
        let place = lake(&KEYS).await;
        let (whole, _) = all(&mut Search::new(place.clone(), None, limits(9, 1_000))).await;
        // Wherever it stops: each page lists one folder at least.
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let mut search = Search::new(place.clone(), after.clone(), limits(9, 1));
            let (page, end) = all(&mut search).await;
            found.extend(page);
            pages += 1;
            if end == SearchStep::Ended {
                break;
            }
            assert_eq!(end, SearchStep::ListedEnough);
            let position = search.position().unwrap().to_owned();
            assert!(after.is_none_or(|after| follows(&position, &after)), "{position}");
            after = Some(position);
        }
        assert_eq!(found, whole);
        assert!(pages > 4, "{pages}");
        for (at, path) in whole.iter().enumerate() {
            let (rest, _) = all(&mut Search::new(place.clone(), Some(path.clone()), limits(9, 1_000))).await;
            assert_eq!(rest, whole[at + 1..]);
        }
    }

    #[tokio::test]
    async fn what_is_too_deep_is_counted_and_time_ends_it() {
        let place = lake(&KEYS).await;
        let mut search = Search::new(place.clone(), None, limits(1, 1_000));
        assert_eq!(all(&mut search).await.0, ["a b", "b-t"]);
        assert_eq!((search.too_deep(), search.unreadable()), (2, 0));
        let over = SearchLimits { until: Instant::now(), ..limits(9, 9) };
        assert_eq!(Search::new(place, None, over).next().await.unwrap(), SearchStep::OutOfTime);
    }
}
