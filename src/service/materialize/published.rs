//! Published versions of views, which never change and are therefore kept in memory.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::catalog::{
        delta::{Metadata, Protocol, required_features},
        schema::{DataType, Field, Primitive, Schema},
        share::SharedView,
        view::{
            ViewVersion,
            plan::{PinnedView, References, ViewPlan},
        },
    },
    service::{Service, core::error::ServiceError},
};

/// Schemas of the source whose fit is remembered; a table rarely has more in its life.
const REMEMBERED_SCHEMAS: usize = 64;

/// A published version, ready to be served.
#[derive(Debug)]
pub(in crate::service) struct PublishedView {
    /// Which.
    pub(in crate::service) view: SharedView,
    /// What it comes to.
    pub(in crate::service) plan: Arc<ViewPlan>,
    /// What its copies depend on.
    pub(in crate::service) references: References,
    /// When it was published.
    pub(in crate::service) published_at: DateTime<Utc>,
    fits: Mutex<HashMap<u64, bool>>,
}

impl PublishedView {
    fn new(view: SharedView, version: &ViewVersion) -> Result<Self, ServiceError> {
        let plan = plan_of(version)?;
        Ok(Self {
            view,
            references: plan.references(),
            plan: Arc::new(plan),
            published_at: version.published_at,
            fits: Mutex::default(),
        })
    }

    /// What is not published yet, to be looked at.
    pub(in crate::service) fn draft(view: SharedView, plan: ViewPlan, changed_at: DateTime<Utc>) -> Self {
        let references = plan.references();
        Self { view, references, plan: Arc::new(plan), published_at: changed_at, fits: Mutex::default() }
    }

    /// `name@vN`; a draft has no version.
    pub(in crate::service) fn label(&self) -> String {
        if self.view.version == 0 { self.view.name.to_string() } else { self.view.to_string() }
    }

    /// What keeps the version from being served over a source that is like this, for operators.
    pub(in crate::service) fn misfits(&self, source: &Metadata) -> Vec<String> {
        match Schema::parse(&source.schema_string) {
            Ok(schema) => self.plan.misfits(&schema, &source.partition_columns),
            Err(error) => vec![error.to_string()],
        }
    }

    /// Whether the version can be served over a source that is like this.
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

    /// Whether an older version of the source can be read as the view shows it now: what it lacks is NULL.
    pub(in crate::service) fn reads(&self, source: &Metadata) -> bool {
        self.fits(source)
            || Schema::parse(&source.schema_string)
                .is_ok_and(|schema| self.plan.reads(&schema, &source.partition_columns))
    }

    /// The protocol that readers of the governed table need: the plain one, and what a type asks for.
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

    /// The metadata of the governed table: the view's own, and nothing of its source's. The id is each recipient's own.
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

/// The plan that a published version is.
pub(in crate::service) fn plan_of(version: &ViewVersion) -> Result<ViewPlan, ServiceError> {
    let pinned: PinnedView = serde_json::from_str(&version.definition).map_err(ServiceError::internal)?;
    pinned.plan().map_err(|problems| ServiceError::internal(format!("a published view has problems: {problems:?}")))
}

/// Published versions, by view and number.
pub(in crate::service) type PublishedViews = HashMap<(Uuid, i64), Arc<PublishedView>>;

impl Service {
    /// The published versions that are named. A change reads them before it takes the audit chain's lock, under which
    /// nobody waits for a plan to be read.
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

    /// A published version.
    pub(in crate::service) async fn published_view(
        &self,
        view: &SharedView,
    ) -> Result<Arc<PublishedView>, ServiceError> {
        let published = &self.materializer.0.published;
        let key = (view.id, view.version);
        if let Some(known) = published.get(&key).await {
            return Ok(known);
        }
        let version = self.db.find_view_version(view.id, view.version).await?;
        let version = version.ok_or_else(|| ServiceError::internal(format!("view `{view}` is not there")))?;
        let found = Arc::new(PublishedView::new(view.clone(), &version)?);
        published.insert(key, Arc::clone(&found)).await;
        Ok(found)
    }
}
