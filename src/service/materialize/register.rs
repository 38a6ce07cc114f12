//! The register of materializations as operators read it: what the server has made, for which recipients, and its
//! progress.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::view::View,
        core::name::NameKind,
        materialize::copy::{Copy, CopyState},
    },
    service::core::{
        error::ServiceError,
        lookup,
        page::{Page, PageRequest},
    },
    store::{CopyFilter, CopySet},
};

use super::{
    Materializer,
    served::{MaterializationState, Source},
};

/// A filter for listing materializations.
#[derive(Clone, Debug, Default)]
pub struct CopiesQuery {
    /// Only those of the view with this name.
    pub view: Option<String>,
    /// Only those in this state; without one, all except deleted ones.
    pub state: Option<CopyState>,
}

/// A materialization and its readers.
#[derive(Clone, Debug)]
pub struct ListedCopy {
    /// The materialization.
    pub copy: Copy,
    /// The view's name and version; the view's id if the view was deleted.
    pub view: String,
    /// The recipients that it was made for.
    pub recipients: Vec<String>,
    /// When it will be deleted if nobody asks for it again.
    pub expires_at: DateTime<Utc>,
}

/// The progress of the materializations for one set of readers.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// The view's version.
    pub version: i64,
    /// The readers, who have equal entitlements.
    pub recipients: Vec<String>,
    /// The newest version of the source that the view fits.
    pub table_version: u64,
    /// The version that the readers are served; `None` until a first one is ready.
    pub served_version: Option<i64>,
    /// The number of materializations that the newest version needs.
    pub files: usize,
    /// The number of these that are ready.
    pub ready: usize,
    /// The number of these that failed; the register has the reasons.
    pub failed: usize,
}

impl Materializer {
    /// Lists materializations in the order in which they were begun.
    pub async fn list_copies(&self, query: &CopiesQuery, page: &PageRequest) -> Result<Page<ListedCopy>, ServiceError> {
        let view_id = match &query.view {
            None => None,
            Some(name) => Some(self.filtered_view(name).await?),
        };
        let context = format!("copies {view_id:?} {:?}", query.state);
        let opened = self.core.begin_page(page, context)?;
        let after = opened.after.as_deref().and_then(|after| Uuid::parse_str(after).ok());
        let filter = CopyFilter { view_id, state: query.state };
        let copies = self.core.db.list_copies(&filter, after, opened.limit).await?;
        let mut names = Names::default();
        let mut listed = Vec::with_capacity(copies.len());
        for copy in copies {
            listed.push(self.listed(copy, &mut names).await?);
        }
        Ok(self.core.end_page(opened, listed, |listed: &ListedCopy| listed.copy.id.to_string()))
    }

    /// The id of the view that a filter names.
    async fn filtered_view(&self, text: &str) -> Result<Uuid, ServiceError> {
        let found = match lookup::key(NameKind::View, text) {
            Ok(key) => self.core.db.find_view(&key).await?.map(|(view, _)| view.id),
            Err(_) => None,
        };
        found.or_else(|| Uuid::parse_str(text).ok()).ok_or_else(|| lookup::unknown("view"))
    }

    async fn listed(&self, copy: Copy, names: &mut Names) -> Result<ListedCopy, ServiceError> {
        let set = CopySet::of(&copy);
        let idle = i64::try_from(self.settings().idle_seconds).unwrap_or(i64::MAX);
        let idle = chrono::TimeDelta::try_seconds(idle).unwrap_or_default() - self.longest_url();
        let view = match names.views.get(&set.view_id) {
            Some(view) => view.clone(),
            None => {
                let found = self.core.db.find_view_by_id(set.view_id).await?;
                let name = found.map_or_else(|| set.view_id.to_string(), |(view, _)| view.name.to_string());
                names.views.insert(set.view_id, name.clone());
                name
            }
        };
        let recipients = self.reader_names(set, names).await?;
        let expires_at = match copy.state {
            CopyState::Draining => copy.needed_until,
            _ => copy.needed_until + idle.max(chrono::TimeDelta::zero()),
        };
        let expires_at = copy.deleted_at.unwrap_or(expires_at);
        Ok(ListedCopy { view: format!("{view}@v{}", set.view_version), recipients, expires_at, copy })
    }

    async fn reader_names(&self, set: CopySet, names: &mut Names) -> Result<Vec<String>, ServiceError> {
        if let Some(readers) = names.readers.get(&set) {
            return Ok(readers.clone());
        }
        let rows = self.core.db.list_entitlements(set.view_id, set.view_version).await?;
        let mut ids: BTreeSet<Uuid> = BTreeSet::new();
        ids.extend(rows.iter().filter(|row| row.set == set).map(|row| row.recipient_id));
        let mut readers = Vec::with_capacity(ids.len());
        for id in ids {
            let found = self.core.db.find_recipient_by_id(id).await?;
            readers.push(found.map_or_else(|| id.to_string(), |recipient| recipient.name.to_string()));
        }
        names.readers.insert(set, readers.clone());
        Ok(readers)
    }

    /// The progress of the materializations of all versions of a view that are being read.
    pub(in crate::service) async fn preparations(&self, view: &View) -> Result<Vec<Preparation>, ServiceError> {
        let now = self.core.clock.now();
        let mut versions: Vec<i64> = Vec::new();
        for (_, object, _) in self.core.db.list_objects_of_view(view.id, 100).await? {
            versions.extend(object.view.map(|view| view.version));
        }
        versions.sort_unstable();
        versions.dedup();
        let mut preparations: Vec<Preparation> = Vec::new();
        for version in versions {
            let mut seen: HashMap<CopySet, usize> = HashMap::new();
            for (recipient, shared, share_id) in self.readers_of(view.id, version, now).await? {
                let entitled = self.entitle(&shared, &recipient, share_id, now).await?;
                if let Some(known) = seen.get(&entitled.set) {
                    let recipients = &mut preparations[*known].recipients;
                    if !recipients.iter().any(|name| name == recipient.name.as_str()) {
                        recipients.push(recipient.name.to_string());
                    }
                    continue;
                }
                let Some(source) = self.newest_source(&entitled, view.table_id).await? else { continue };
                let (files, ready, failed) = self.counted(&entitled, &source).await?;
                seen.insert(entitled.set, preparations.len());
                preparations.push(Preparation {
                    version,
                    recipients: vec![recipient.name.to_string()],
                    table_version: source.snapshot.version(),
                    served_version: self.core.db.find_serving(entitled.set).await?.map(|serving| serving.table_version),
                    files,
                    ready,
                    failed,
                });
            }
        }
        Ok(preparations)
    }

    async fn counted(&self, view: &super::Entitled, source: &Source) -> Result<(usize, usize, usize), ServiceError> {
        Ok(match self.state_of(view, source).await? {
            MaterializationState::Ready(served) => {
                let files = served.copies();
                (files, files, 0)
            }
            MaterializationState::Ungrouped { files } => (files, 0, 0),
            MaterializationState::Lacking { total, missing, .. } => {
                let failed = missing.iter().filter_map(|(_, copy)| copy.as_ref());
                let failed = failed.filter(|copy| copy.state == CopyState::Failed).count();
                (total, total - missing.len(), failed)
            }
        })
    }

    /// The newest version of a view's source that fits the view; `None` if no such version exists any more.
    pub(in crate::service) async fn newest_source(
        &self,
        view: &super::Entitled,
        table_id: Uuid,
    ) -> Result<Option<Source>, ServiceError> {
        let table = self.core.db.find_table_by_id(table_id).await?;
        let table = table.ok_or_else(|| ServiceError::internal("a view's table is gone"))?;
        let location = self.storages.locate(&table.spec.location)?;
        let latest = self.lake.latest(&location).await?;
        let published = &view.published;
        let fitting = self.lake.newest_that(&location, &latest, |metadata| published.fits(metadata)).await?;
        Ok(fitting.map(|snapshot| Source { snapshot, location }))
    }
}

/// Caches names within one listing.
#[derive(Debug, Default)]
struct Names {
    views: HashMap<Uuid, String>,
    readers: HashMap<CopySet, Vec<String>>,
}
