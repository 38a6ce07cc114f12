//! Published versions of views, with the masks in effect on them. Either never changes, so they are kept in memory.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::access::recipient::Recipient,
    domain::catalog::{
        delta::{Metadata, Protocol, required_features},
        schema::{DataType, Field, Primitive, Schema},
        share::SharedView,
        view::{
            Problem, ViewVersion,
            plan::{PinnedView, References, ViewPlan},
        },
    },
    service::core::error::ServiceError,
};

use super::Materializer;

/// The number of source schemas whose fit is remembered; few tables ever have more.
const REMEMBERED_SCHEMAS: usize = 64;

/// A published version, ready to be served.
#[derive(Debug)]
pub(in crate::service) struct PublishedView {
    /// The view and its version.
    pub(in crate::service) view: SharedView,
    /// The compiled plan.
    pub(in crate::service) plan: Arc<ViewPlan>,
    /// What its materializations depend on.
    pub(in crate::service) references: References,
    /// When it was published.
    pub(in crate::service) published_at: DateTime<Utc>,
    /// The digest of the masks in effect instead of its own, if there are any.
    pub(super) masks_digest: Option<String>,
    fits: Mutex<HashMap<u64, bool>>,
}

impl PublishedView {
    /// Refuses a view that would show `recipient` no rows because a property is missing; the error is about `field`.
    pub(in crate::service) fn check_properties(
        &self,
        recipient: &Recipient,
        field: &'static str,
    ) -> Result<(), ServiceError> {
        let Some(filter) = &self.plan.filter else { return Ok(()) };
        let view = &self.view;
        let missing = filter.missing(&recipient.spec.properties);
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "recipient `{}` would see no row of view `{view}`: {}; PATCH /recipients/{} sets its properties",
            recipient.name,
            missing.join("; "),
            recipient.name
        );
        Err(ServiceError::invalid(field, message))
    }

    fn new(view: SharedView, version: &ViewVersion) -> Result<Self, ServiceError> {
        let pinned: PinnedView = serde_json::from_str(&version.definition).map_err(ServiceError::internal)?;
        let plan = pinned.plan_under(&view.masks).map_err(unplanned)?;
        Ok(Self {
            masks_digest: view.masks.digest(),
            view,
            references: plan.references(),
            plan: Arc::new(plan),
            published_at: version.published_at,
            fits: Mutex::default(),
        })
    }

    /// Wraps a draft, for previews.
    pub(in crate::service) fn draft(view: SharedView, plan: ViewPlan, changed_at: DateTime<Utc>) -> Self {
        let references = plan.references();
        let masks_digest = view.masks.digest();
        Self { view, references, plan: Arc::new(plan), published_at: changed_at, masks_digest, fits: Mutex::default() }
    }

    /// `name@vN`; a draft has only its name.
    pub(in crate::service) fn label(&self) -> String {
        if self.view.version == 0 { self.view.name.to_string() } else { self.view.to_string() }
    }

    /// Why the version cannot be served over a source with this metadata, for operators; empty if it can.
    pub(in crate::service) fn misfits(&self, source: &Metadata) -> Vec<String> {
        match Schema::parse(&source.schema_string) {
            Ok(schema) => self.plan.misfits(&schema, &source.partition_columns),
            Err(error) => vec![error.to_string()],
        }
    }

    /// Whether the version can be served over a source with this metadata.
    pub(in crate::service) fn fits(&self, source: &Metadata) -> bool {
        let mut hasher = DefaultHasher::new();
        (&source.schema_string, &source.partition_columns).hash(&mut hasher);
        let key = hasher.finish();
        let mut fits = self.fits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fits) = fits.get(&key) {
            return *fits;
        }
        let is_fit = self.misfits(source).is_empty();
        if fits.len() >= REMEMBERED_SCHEMAS {
            fits.clear();
        }
        fits.insert(key, is_fit);
        is_fit
    }

    /// Whether an older version of the source can be read as the view shows it now; missing columns are NULL.
    pub(in crate::service) fn reads(&self, source: &Metadata) -> bool {
        self.fits(source)
            || Schema::parse(&source.schema_string)
                .is_ok_and(|schema| self.plan.reads(&schema, &source.partition_columns))
    }

    /// The protocol for readers of the governed table: the basic one, plus features that a type needs.
    pub(super) fn protocol(&self) -> Protocol {
        const NTZ: &str = "timestampNtz";
        if self.plan.schema.fields.iter().any(has_local_times) {
            let features = Some(vec![NTZ.to_owned()]);
            return Protocol {
                min_reader_version: 3,
                min_writer_version: 7,
                reader_features: features.clone(),
                writer_features: features,
            };
        }
        Protocol { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None }
    }

    /// The reader features that readers of the governed table need.
    pub(in crate::service) fn required_features(&self) -> BTreeSet<String> {
        required_features(&self.protocol(), &self.metadata(), false)
    }

    /// The metadata of the governed table. It comes from the view alone, not from its source; the id is replaced for
    /// each recipient.
    pub(in crate::service) fn metadata(&self) -> Metadata {
        Metadata {
            id: self.view.id.to_string(),
            name: None,
            description: None,
            format_provider: "parquet".to_owned(),
            format_options: Default::default(),
            schema_string: self.plan.schema.schema_string(),
            partition_columns: self.plan.partition_columns.clone(),
            configuration: Default::default(),
            created_time: Some(self.published_at.timestamp_millis()),
        }
    }
}

fn has_local_times(field: &Field) -> bool {
    let leaves = field.data_type.leaves();
    leaves.iter().any(|(_, leaf)| **leaf == DataType::Primitive(Primitive::TimestampNtz))
}

/// Loads the plan of a published version.
pub(in crate::service) fn plan_of(version: &ViewVersion) -> Result<ViewPlan, ServiceError> {
    let pinned: PinnedView = serde_json::from_str(&version.definition).map_err(ServiceError::internal)?;
    pinned.plan().map_err(unplanned)
}

fn unplanned(problems: Vec<Problem>) -> ServiceError {
    ServiceError::internal(format!("a published view has problems: {problems:?}"))
}

/// What a published version is known by: the view, the version, and the digest of masks in effect instead of its own.
pub(super) type PublishedKey = (Uuid, i64, Option<String>);

/// Published versions, by view and number.
pub(in crate::service) type PublishedViews = HashMap<(Uuid, i64), Arc<PublishedView>>;

impl Materializer {
    /// Loads the given published versions. A change does this before it takes the audit chain's lock, so that loading a
    /// plan never happens under the lock.
    pub(in crate::service) async fn published_views<'a>(
        &self,
        views: impl Iterator<Item = &'a SharedView> + Send,
    ) -> Result<PublishedViews, ServiceError> {
        let mut published = PublishedViews::new();
        for view in views {
            if let Entry::Vacant(unknown) = published.entry((view.id, view.version)) {
                unknown.insert(self.published_view(view).await?);
            }
        }
        Ok(published)
    }

    /// Loads a published version.
    pub(in crate::service) async fn published_view(
        &self,
        view: &SharedView,
    ) -> Result<Arc<PublishedView>, ServiceError> {
        let published = &self.inner.published;
        let key = (view.id, view.version, view.masks.digest());
        if let Some(known) = published.get(&key).await {
            return Ok(known);
        }
        let version = self.core.db.find_view_version(view.id, view.version).await?;
        let version = version.ok_or_else(|| ServiceError::internal(format!("view `{view}` is not there")))?;
        let found = Arc::new(PublishedView::new(view.clone(), &version)?);
        published.insert(key, Arc::clone(&found)).await;
        Ok(found)
    }
}
