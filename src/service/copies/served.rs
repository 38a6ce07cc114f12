//! A governed table put together from copies: one version of the source, as readers with equal entitlements see it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use object_store::path::Path;
use uuid::Uuid;

use super::Entitled;
use crate::{
    domain::{
        copy::{Copy, CopyKind, CopyState, UnitId, UnitParts},
        partition,
        recipient::Recipient,
        schema::{DataType, Field, Schema},
        share::SharedView,
        view::{
            plan::{Output, Today},
            row_filter::Condition,
        },
    },
    lake::{FileRef, PartitionPairs, Snapshot},
    service::{Service, error::ServiceError},
    storage::TableLocation,
    store::{CopySet, Serving},
};

/// For how much longer than a URL lives copies are kept each time they are handed out: one write in so long.
const KEPT_LONGER: TimeDelta = TimeDelta::hours(1);

/// What a served table is known by: whose it is, and the mark of the source's version.
pub(super) type Key = (CopySet, String);

/// One version of a view's source, and where it lies.
#[derive(Clone, Debug)]
pub(in crate::service) struct Source {
    /// The version.
    pub(in crate::service) snapshot: Arc<Snapshot>,
    /// Its place.
    pub(in crate::service) location: TableLocation,
}

impl Source {
    /// What it and its readers' copies are known by.
    pub(super) fn key(&self, view: &Entitled) -> Key {
        (view.set, self.snapshot.mark())
    }
}

/// A governed table at one version.
#[derive(Debug)]
pub(in crate::service) struct Served {
    /// The table as its readers see it.
    pub(in crate::service) snapshot: Arc<Snapshot>,
    /// Where its files are.
    pub(in crate::service) location: TableLocation,
    known: HashMap<UnitId, KnownCopy>,
    /// Until when its copies are kept.
    kept_until: Mutex<DateTime<Utc>>,
}

/// What a table needs to know of a copy.
#[derive(Clone, Debug)]
struct KnownCopy {
    id: Uuid,
    object_key: Arc<str>,
    bytes: u64,
    rows: u64,
    stats: Option<Arc<str>>,
}

impl From<Copy> for KnownCopy {
    fn from(copy: Copy) -> Self {
        Self {
            id: copy.id,
            object_key: copy.object_key.into(),
            bytes: copy.bytes,
            rows: copy.rows,
            stats: copy.stats.map(Into::into),
        }
    }
}

impl Served {
    /// Bytes of memory that it holds.
    pub(super) fn resident_bytes(&self) -> usize {
        let texts = self.known.values().map(|copy| copy.object_key.len() + copy.stats.as_ref().map_or(0, |s| s.len()));
        self.snapshot.resident_bytes()
            + self.known.len() * (size_of::<(UnitId, KnownCopy)>() + 32)
            + texts.sum::<usize>()
    }

    /// How many copies it is put together from.
    pub(super) fn copies(&self) -> usize {
        self.known.len()
    }

    fn kept_until(&self) -> DateTime<Utc> {
        *self.kept_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_kept_until(&self, until: DateTime<Utc>) {
        *self.kept_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// One copy that a version of a table needs.
#[derive(Clone, Debug)]
pub(in crate::service) struct Need {
    /// The source file's place in its snapshot.
    pub(in crate::service) index: usize,
    pub(super) unit: UnitId,
}

/// The copies that a version of a table needs, and of which kind they are.
#[derive(Clone, Debug)]
pub(in crate::service) struct Needs {
    pub(super) kind: CopyKind,
    pub(in crate::service) all: Vec<Need>,
    /// Whether the row filter could be told for every file that it decides by partition values alone.
    is_certain: bool,
}

/// Where a version of a table stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// All copies are there.
    Ready(Arc<Served>),
    /// These are not, of so many; the rest of the row says who is at them, if anybody.
    Lacking { kind: CopyKind, total: usize, missing: Vec<(Need, Option<Copy>)> },
}

impl Service {
    /// The copies that `view` over `source` needs, of `kind`. Files that the row filter leaves out by their partition
    /// values alone need none.
    pub(in crate::service) fn needs(
        &self,
        view: &Entitled,
        source: &Snapshot,
        kind: CopyKind,
    ) -> Result<Needs, ServiceError> {
        let delta_id = &source.metadata().id;
        let unit_key = &self.workshop.0.unit_key;
        let schema = Schema::parse(&source.metadata().schema_string).map_err(ServiceError::internal)?;
        let plan = &view.published.plan;
        let columns = plan.columns_read(&plan.completed(&schema));
        let partitions = Partitions::of(view, source)?;
        let (mut all, mut is_certain) = (Vec::new(), true);
        for (index, file) in source.files().iter().enumerate() {
            match partitions.as_ref().map(|partitions| partitions.are_shown(&file)) {
                Some(Some(false)) => continue,
                // The engine looks at the file, and says what is wrong with it.
                Some(None) => is_certain = false,
                Some(Some(true)) | None => {}
            }
            let unit = unit_key.unit(UnitParts {
                rules: view.set.rules,
                kind,
                delta_id,
                columns: &columns,
                path: file.path,
                size: file.size,
                modification_time: file.modification_time,
                deletion_vector: file
                    .deletion_vector
                    .map(|vector| (vector.storage_type, vector.path_or_inline, vector.offset)),
            });
            all.push(Need { index, unit });
        }
        Ok(Needs { kind, all, is_certain })
    }

    /// Whether source files may be handed out themselves, as far as log and view tell: every column is shown as it is,
    /// whole files are shown or not, and no row of them is deleted (what their footers hold is looked at later).
    pub(super) fn may_pass_through(&self, view: &Entitled, source: &Snapshot, needs: &Needs) -> bool {
        let plan = &view.published.plan;
        let metadata = source.metadata();
        let Ok(schema) = Schema::parse(&metadata.schema_string) else { return false };
        let shows_files = match &view.rules.condition {
            None => true,
            Some(condition) => condition.on_partitions_only(&metadata.partition_columns),
        };
        shows_files
            && needs.is_certain
            && !metadata.maps_columns()
            && plan.is_identity_over(&schema, &metadata.partition_columns)
            && needs
                .all
                .iter()
                .all(|need| source.files().get(need.index).is_some_and(|file| file.deletion_vector.is_none()))
    }

    /// Where `view` over `source` stands; what is there is kept for as long as URLs to it may live.
    pub(super) async fn standing(&self, view: &Entitled, from: &Source) -> Result<Standing, ServiceError> {
        let (key, source) = (from.key(view), &from.snapshot);
        if let Some(served) = self.workshop.0.served.get(&key).await {
            // Another server may have ended the set since, whatever its copies were kept for.
            if self.db.find_serving(view.set).await?.is_some() && self.keep(&served).await? {
                return Ok(Standing::Ready(served));
            }
            self.workshop.0.served.invalidate(&key).await;
        }
        let mut rows: HashMap<UnitId, Copy> =
            self.db.list_copies_of(view.set).await?.into_iter().map(|copy| (copy.unit, copy)).collect();
        let through = self.needs(view, source, CopyKind::Source)?;
        let is_refused = |need: &Need| rows.get(&need.unit).is_some_and(|copy| copy.state == CopyState::Failed);
        let needs = if self.may_pass_through(view, source, &through) && !through.all.iter().any(is_refused) {
            through
        } else {
            self.needs(view, source, CopyKind::File)?
        };
        let total = needs.all.len();
        let is_ready = |need: &Need| rows.get(&need.unit).is_some_and(|copy| copy.state == CopyState::Ready);
        let missing: Vec<Need> = needs.all.iter().filter(|need| !is_ready(need)).cloned().collect();
        if !missing.is_empty() {
            let missing = missing.into_iter().map(|need| (need.clone(), rows.remove(&need.unit))).collect();
            return Ok(Standing::Lacking { kind: needs.kind, total, missing });
        }
        let known = needs.all.iter().filter_map(|need| Some((need.unit, rows.remove(&need.unit)?.into()))).collect();
        let served = Arc::new(self.assemble(view, from, &needs, known)?);
        if !self.keep(&served).await? {
            // Some were deleted between the two looks.
            let missing = needs.all.into_iter().map(|need| (need, None)).collect();
            return Ok(Standing::Lacking { kind: needs.kind, total, missing });
        }
        self.workshop.0.served.insert(key, Arc::clone(&served)).await;
        self.advance(view, source).await?;
        Ok(Standing::Ready(served))
    }

    /// Keeps the copies of a served table until its URLs are dead; false where some are gone.
    async fn keep(&self, served: &Served) -> Result<bool, ServiceError> {
        let needed = self.clock.now() + self.longest_url();
        if served.kept_until() > needed {
            return Ok(true);
        }
        let until = needed + KEPT_LONGER;
        let ids: Vec<Uuid> = served.known.values().map(|copy| copy.id).collect();
        let mut tx = self.db.begin().await?;
        let kept = tx.need_copies(&ids, until).await?;
        tx.commit().await?;
        if usize::try_from(kept) != Ok(ids.len()) {
            return Ok(false);
        }
        served.is_kept_until(until);
        Ok(true)
    }

    /// From now on this version is what the readers get until a newer one is ready.
    async fn advance(&self, view: &Entitled, source: &Snapshot) -> Result<(), ServiceError> {
        let serving = Serving {
            delta_id: source.metadata().id.clone(),
            table_version: i64::try_from(source.version()).map_err(ServiceError::internal)?,
        };
        if self
            .db
            .find_serving(view.set)
            .await?
            .is_some_and(|known| known.delta_id == serving.delta_id && known.table_version >= serving.table_version)
        {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        tx.advance_serving(view.set, &serving, self.clock.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Where the file at `path` lies, if it is a copy, or a source file handed out as one, that this recipient may read
    /// now. What was handed out yesterday is still this recipient's.
    pub(in crate::service) async fn find_copy_place(
        &self,
        view: &SharedView,
        recipient: &Recipient,
        share_id: Uuid,
        source: &TableLocation,
        path: &Path,
        now: DateTime<Utc>,
    ) -> Result<Option<TableLocation>, ServiceError> {
        let published = self.published_view(view).await?;
        let root = self.workshop.root()?;
        let yesterday = (published.references.today != Today::Unused).then_some(now - TimeDelta::days(1));
        for at in [Some(now), yesterday].into_iter().flatten() {
            let set = self.entitle_to(Arc::clone(&published), recipient, share_id, at).set;
            let key = path.prefix_match(root.location().path()).map(|parts| Path::from_iter(parts).to_string());
            if let Some(key) = key
                && let Some(copy) = self.db.find_copy_at(set, &key).await?
                && copy.kind == CopyKind::File
            {
                return Ok(Some(root.location().clone()));
            }
            if let Some(copy) = self.db.find_copy_at(set, path.as_ref()).await?
                && copy.kind == CopyKind::Source
            {
                return Ok(Some(source.clone()));
            }
        }
        Ok(None)
    }

    fn assemble(
        &self,
        view: &Entitled,
        from: &Source,
        needs: &Needs,
        known: HashMap<UnitId, KnownCopy>,
    ) -> Result<Served, ServiceError> {
        let (published, source) = (&view.published, &from.snapshot);
        let (version, committed_at) = (source.version(), source.committed_at());
        let (protocol, metadata) = (published.protocol(), published.metadata());
        let partitions = ShownPartitions::of(view, source);
        let mut files: Vec<(usize, &KnownCopy, Box<PartitionPairs>)> = Vec::new();
        for need in &needs.all {
            let (Some(copy), Some(file)) = (known.get(&need.unit), source.files().get(need.index)) else { continue };
            // What holds no row is not listed.
            if needs.kind == CopyKind::File && copy.rows == 0 {
                continue;
            }
            files.push((need.index, copy, partitions.values(&file)));
        }
        let listed = files.iter().filter_map(|(index, copy, values)| {
            let file = source.files().get(*index)?;
            let values: &PartitionPairs = values;
            Some(match needs.kind {
                CopyKind::Source => FileRef::new(file.path, file.size, file.modification_time, file.stats, values),
                CopyKind::File => {
                    FileRef::new(&copy.object_key, copy.bytes, file.modification_time, copy.stats.as_deref(), values)
                }
            })
        });
        let snapshot = Snapshot::assembled(version, committed_at, protocol, metadata, listed)?;
        let location = match needs.kind {
            CopyKind::Source => from.location.clone(),
            CopyKind::File => self.workshop.root()?.location().clone(),
        };
        Ok(Served { snapshot: Arc::new(snapshot), location, known, kept_until: Mutex::new(DateTime::<Utc>::MIN_UTC) })
    }
}

/// The partition columns that a row filter about nothing else decides by.
struct Partitions<'a> {
    condition: &'a Condition,
    fields: Vec<(&'a str, String, DataType)>,
}

impl<'a> Partitions<'a> {
    /// `None` where the filter asks for more than partition values, or there is none.
    fn of(view: &'a Entitled, source: &'a Snapshot) -> Result<Option<Self>, ServiceError> {
        let Some(condition) = &view.rules.condition else { return Ok(None) };
        let metadata = source.metadata();
        if !condition.on_partitions_only(&metadata.partition_columns) {
            return Ok(None);
        }
        let schema = Schema::parse(&metadata.schema_string).map_err(ServiceError::internal)?;
        let maps_columns = metadata.maps_columns();
        let field = |name: &'a String| {
            let field: &Field = schema.fields.iter().find(|field| field.name == *name)?;
            Some((name.as_str(), field.physical_name(maps_columns).to_owned(), field.data_type.clone()))
        };
        Ok(Some(Self { condition, fields: metadata.partition_columns.iter().filter_map(field).collect() }))
    }

    /// Whether the file's rows are shown; `None` where a value cannot be read.
    fn are_shown(&self, file: &FileRef<'_>) -> Option<bool> {
        let mut values = HashMap::new();
        for (physical, text) in file.partition_values() {
            let Some((name, _, data_type)) = self.fields.iter().find(|(_, own, _)| own == physical) else { continue };
            let value = partition::parse(data_type.primitive()?, text).ok()?;
            values.insert(*name, value);
        }
        let value = |path: &crate::domain::schema::ColumnPath| match path.0.as_slice() {
            [name] => values.get(name.as_str()).cloned().flatten(),
            _ => None,
        };
        Some(self.condition.evaluate(&value) == Some(true))
    }
}

/// Where the shown partition columns' values come from: shown name and the source's physical name.
struct ShownPartitions(Vec<(Box<str>, String)>);

impl ShownPartitions {
    fn of(view: &Entitled, source: &Snapshot) -> Self {
        let metadata = source.metadata();
        let plan = &view.published.plan;
        let schema = Schema::parse(&metadata.schema_string).ok();
        let physical = |name: &str| {
            let fields = schema.as_ref().map(|schema| schema.fields.as_slice()).unwrap_or_default();
            let field = fields.iter().find(|field| field.name == name);
            field.map_or_else(|| name.to_owned(), |field| field.physical_name(metadata.maps_columns()).to_owned())
        };
        let column = |name: &String| {
            let field = plan.outputs.iter().find(|field| field.name == *name)?;
            let Output::Value { from, .. } = &field.output else { return None };
            Some((name.as_str().into(), physical(from.first()?)))
        };
        Self(plan.partition_columns.iter().filter_map(column).collect())
    }

    fn values(&self, file: &FileRef<'_>) -> Box<PartitionPairs> {
        let value = |physical: &str| {
            let found = file.partition_values().find(|(name, _)| *name == physical);
            found.and_then(|(_, value)| value.map(Into::into))
        };
        self.0.iter().map(|(name, physical)| (name.clone(), value(physical))).collect()
    }
}
