//! Assembles a governed table from materializations: one version of the source, as readers with equal entitlements see
//! it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use object_store::path::Path;
use uuid::Uuid;

use crate::{
    domain::{
        access::recipient::Recipient,
        catalog::{
            partition,
            schema::{ColumnPath, DataType, Field, Schema},
            share::SharedView,
            view::{
                Layout,
                plan::{Output, Today},
                row_filter::Condition,
            },
        },
        materialize::copy::{Copy, CopyKind, CopyState, UnitId, UnitParts},
    },
    lake::{FileRef, PartitionPairs, Snapshot, StatsShape},
    service::core::error::ServiceError,
    storage::TableLocation,
    store::CopySet,
};

use super::{Entitled, Materializer};

/// How much longer than a URL's lifetime materializations are kept after being handed out, so that a write is rarely
/// needed.
const KEPT_LONGER: TimeDelta = TimeDelta::hours(1);

/// From this many unknown materializations on, a set's are read all at once instead of one by one.
const MANY: usize = 256;

/// Identifies a served table: the set that it belongs to, and the mark of the source's version.
pub(super) type Key = (CopySet, String);

/// One version of a view's source, and its location.
#[derive(Clone, Debug)]
pub(in crate::service) struct Source {
    /// The version.
    pub(in crate::service) snapshot: Arc<Snapshot>,
    /// The location of the table.
    pub(in crate::service) location: TableLocation,
}

impl Source {
    /// The key of the served table for this view and version.
    pub(super) fn key(&self, view: &Entitled) -> Key {
        (view.set, self.snapshot.mark())
    }
}

/// A governed table at one version.
#[derive(Debug)]
pub(in crate::service) struct Served {
    /// The table as its readers see it.
    pub(in crate::service) snapshot: Arc<Snapshot>,
    /// The location of its files.
    pub(in crate::service) location: TableLocation,
    known: HashMap<UnitId, KnownCopy>,
    /// The epoch of the serving to which they belong.
    epoch: Uuid,
    /// Until when its materializations are kept.
    kept_until: Mutex<DateTime<Utc>>,
}

/// How long a table's materializations are held, and under which epoch.
struct Held {
    epoch: Uuid,
    /// Until when they are kept.
    until: DateTime<Utc>,
}

/// The facts about a materialization that a table needs.
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
    /// The memory that it uses, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        let texts = self.known.values().map(|copy| copy.object_key.len() + copy.stats.as_ref().map_or(0, |s| s.len()));
        self.snapshot.resident_bytes()
            + self.known.len() * (size_of::<(UnitId, KnownCopy)>() + 32)
            + texts.sum::<usize>()
    }

    /// The number of materializations from which it is assembled.
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

/// One materialization that a version of a table needs.
#[derive(Clone, Debug)]
pub(in crate::service) struct Need {
    /// The index of the source file in its snapshot, or of the first file of a group.
    pub(in crate::service) index: usize,
    /// The indices of the files that are mixed with it.
    pub(super) more: Box<[usize]>,
    /// The modification time shown to readers if rows are mixed: that of the group, not of any file.
    pub(super) grouped_as_of: Option<i64>,
    pub(super) unit: UnitId,
}

/// The materializations that a version of a table needs, and their kind.
#[derive(Clone, Debug)]
pub(in crate::service) struct Needs {
    pub(super) kind: CopyKind,
    pub(in crate::service) all: Vec<Need>,
    /// Whether partition values alone decided the row filter for every file where they should.
    pub(super) is_certain: bool,
}

/// The state of a version of a table.
#[derive(Debug)]
pub(super) enum MaterializationState {
    /// All materializations exist.
    Ready(Arc<Served>),
    /// This many of its files are not in the groups yet in which they will be mixed.
    Ungrouped { files: usize },
    /// Of `total` materializations these are missing; a register row says which server is making one, if any.
    Lacking { kind: CopyKind, total: usize, missing: Vec<(Need, Option<Copy>)> },
}

impl Materializer {
    /// The materializations of `kind` that `view` over `source` needs. Files that the row filter excludes by their
    /// partition values need none.
    pub(in crate::service) fn needs(
        &self,
        view: &Entitled,
        source: &Snapshot,
        kind: CopyKind,
    ) -> Result<Needs, ServiceError> {
        let delta_id = &source.metadata().id;
        let unit_key = &self.inner.unit_key;
        let partitions = Partitions::of(view, source)?;
        let (mut all, mut is_certain) = (Vec::new(), true);
        for (index, file) in source.files().iter().enumerate() {
            match partitions.as_ref().map(|partitions| partitions.may_be_shown(&file)) {
                Some(Some(false)) => continue,
                // The engine will read the file, and say what is wrong with it.
                Some(None) => is_certain = false,
                Some(Some(true)) | None => {}
            }
            let unit = unit_key.unit(UnitParts {
                rules: view.set.rules,
                kind,
                delta_id,
                path: file.path,
                size: file.size,
                modification_time: file.modification_time,
                deletion_vector: file
                    .deletion_vector
                    .map(|vector| (vector.storage_type, vector.path_or_inline, vector.offset)),
            });
            all.push(Need { index, more: Box::default(), grouped_as_of: None, unit });
        }
        Ok(Needs { kind, all, is_certain })
    }

    /// The needs of `view` over `source` if source files may be handed out unchanged, as far as log and view show: all
    /// columns are shown unmasked, the filter shows or hides whole files, and no rows are deleted. File footers are
    /// checked later.
    pub(super) fn needs_through(&self, view: &Entitled, source: &Snapshot) -> Result<Option<Needs>, ServiceError> {
        let plan = &view.published.plan;
        let metadata = source.metadata();
        let Ok(schema) = Schema::parse(&metadata.schema_string) else { return Ok(None) };
        let shows_files = match &view.rules.condition {
            None => true,
            Some(condition) => condition.on_partitions_only(&metadata.partition_columns),
        };
        if !shows_files || metadata.maps_columns() || !plan.is_identity_over(&schema, &metadata.partition_columns) {
            return Ok(None);
        }
        let needs = self.needs(view, source, CopyKind::Source)?;
        // If the log lacks partition values, the engine has to decide.
        let is_whole = |need: &Need| {
            let file = source.files().get(need.index);
            file.is_some_and(|file| file.deletion_vector.is_none() && file.unsaid_partition_columns().next().is_none())
        };
        Ok((needs.is_certain && needs.all.iter().all(is_whole)).then_some(needs))
    }

    /// The state of `view` over `source`; existing materializations are kept as long as URLs to them may live.
    pub(super) async fn state_of(&self, view: &Entitled, from: &Source) -> Result<MaterializationState, ServiceError> {
        let (key, source) = (from.key(view), &from.snapshot);
        if let Some(served) = self.inner.served.get(&key).await {
            // The set may have been ended since, or an object found missing, even within the time for which it was
            // kept.
            let serving = self.core.db.find_serving(view.set).await?;
            if serving.is_some_and(|serving| serving.epoch == served.epoch) && self.keep(&served).await? {
                return Ok(MaterializationState::Ready(served));
            }
            self.inner.served.invalidate(&key).await;
        }
        let before = self.latest(view.set);
        let is_mixed = view.published.plan.layout_over(&source.metadata().partition_columns) == Layout::Mixed;
        let mut needs = if is_mixed {
            match self.needs_mixed(view, source).await? {
                Some(mixed) => mixed,
                None => return Ok(MaterializationState::Ungrouped { files: source.files().len() }),
            }
        } else {
            match self.needs_through(view, source)? {
                Some(through) => through,
                None => self.needs(view, source, CopyKind::File)?,
            }
        };
        let mut rows = self.look_up(view, &needs, before.as_deref()).await?;
        if needs.kind == CopyKind::Source && rows.values().any(|copy| copy.state == CopyState::Failed) {
            needs = self.needs(view, source, CopyKind::File)?;
            rows = self.look_up(view, &needs, before.as_deref()).await?;
        }
        let total = needs.all.len();
        let remembered = |unit: &UnitId| before.as_ref().and_then(|before| before.known.get(unit));
        let is_ready = |need: &Need| match rows.get(&need.unit) {
            Some(copy) => copy.state == CopyState::Ready,
            None => remembered(&need.unit).is_some(),
        };
        let missing: Vec<Need> = needs.all.iter().filter(|need| !is_ready(need)).cloned().collect();
        if !missing.is_empty() {
            let missing = missing.into_iter().map(|need| (need.clone(), rows.remove(&need.unit))).collect();
            return Ok(MaterializationState::Lacking { kind: needs.kind, total, missing });
        }
        let fresh: Vec<Uuid> = rows.values().map(|copy| copy.id).collect();
        let copy = |unit: UnitId| match rows.remove(&unit) {
            Some(copy) => Some((unit, copy.into())),
            None => Some((unit, remembered(&unit)?.clone())),
        };
        let known: HashMap<UnitId, KnownCopy> = needs.all.iter().map(|need| need.unit).filter_map(copy).collect();
        let Some(held) = self.hold_and_advance(view, source, &known, before.as_deref(), &fresh).await? else {
            // Some were deleted between the two lookups.
            self.forget(view.set);
            let missing = needs.all.into_iter().map(|need| (need, None)).collect();
            return Ok(MaterializationState::Lacking { kind: needs.kind, total, missing });
        };
        let served = Arc::new(self.assemble(view, from, &needs, known, held)?);
        self.remember(view.set, &served);
        self.inner.served.insert(key, Arc::clone(&served)).await;
        Ok(MaterializationState::Ready(served))
    }

    /// Looks up the needed materializations in the register, except those that the readers were served `before`.
    async fn look_up(
        &self,
        view: &Entitled,
        needs: &Needs,
        before: Option<&Served>,
    ) -> Result<HashMap<UnitId, Copy>, ServiceError> {
        let is_remembered = |unit: &UnitId| before.is_some_and(|before| before.known.contains_key(unit));
        let unknown: Vec<UnitId> = needs.all.iter().map(|need| need.unit).filter(|unit| !is_remembered(unit)).collect();
        let copies = if unknown.len() > MANY {
            self.core.db.list_copies_of(view.set).await?
        } else {
            self.core.db.list_copies_of_units(view.set, &unknown).await?
        };
        let unknown: HashSet<UnitId> = unknown.into_iter().collect();
        Ok(copies.into_iter().filter(|copy| unknown.contains(&copy.unit)).map(|copy| (copy.unit, copy)).collect())
    }

    /// Keeps the materializations of a served table until its URLs expire; false if some are gone.
    async fn keep(&self, served: &Served) -> Result<bool, ServiceError> {
        let needed = self.core.clock.now() + self.longest_url();
        if served.kept_until() > needed {
            return Ok(true);
        }
        let until = needed + KEPT_LONGER;
        let ids: Vec<Uuid> = served.known.values().map(|copy| copy.id).collect();
        let mut tx = self.core.db.begin().await?;
        let kept = tx.need_copies(&ids, until).await?;
        tx.commit().await?;
        if usize::try_from(kept) != Ok(ids.len()) {
            return Ok(false);
        }
        served.is_kept_until(until);
        Ok(true)
    }

    /// Keeps the `known` materializations until their URLs expire, and makes this the served version; `None` if some
    /// are gone. Those that are not in `fresh` were served `before`, and are kept as long as that table.
    async fn hold_and_advance(
        &self,
        view: &Entitled,
        source: &Snapshot,
        known: &HashMap<UnitId, KnownCopy>,
        before: Option<&Served>,
        fresh: &[Uuid],
    ) -> Result<Option<Held>, ServiceError> {
        let now = self.core.clock.now();
        let needed = now + self.longest_url();
        let all: Vec<Uuid>;
        let (ids, until) = match before.map(Served::kept_until) {
            Some(until) if until > needed => (fresh, until),
            _ => {
                all = known.values().map(|copy| copy.id).collect();
                (&all[..], needed + KEPT_LONGER)
            }
        };
        let version = i64::try_from(source.version()).map_err(ServiceError::internal)?;
        let mut tx = self.core.db.begin().await?;
        // This comes first because ending a set also begins with the serving's row.
        let epoch = tx.advance_serving(view.set, &source.metadata().id, version, now).await?;
        let kept = tx.need_copies(ids, until).await?;
        if before.is_some_and(|before| before.epoch != epoch) || usize::try_from(kept) != Ok(ids.len()) {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(Held { epoch, until }))
    }

    /// Finds the location of the file at `path`, if it is a materialization, or a source file in place of one, that
    /// this recipient may read now. Those handed out yesterday still count.
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
        let root = self.root()?;
        let yesterday = (published.references.today != Today::Unused).then_some(now - TimeDelta::days(1));
        for at in [Some(now), yesterday].into_iter().flatten() {
            let set = self.entitle_to(Arc::clone(&published), recipient, share_id, at).await?.set;
            let key = path.prefix_match(root.location().path()).map(|parts| Path::from_iter(parts).to_string());
            if let Some(key) = key
                && let Some(copy) = self.core.db.find_copy_at(set, &key).await?
                && copy.kind == CopyKind::File
            {
                return Ok(Some(root.location().clone()));
            }
            if let Some(copy) = self.core.db.find_copy_at(set, path.as_ref()).await?
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
        held: Held,
    ) -> Result<Served, ServiceError> {
        let (published, source) = (&view.published, &from.snapshot);
        let (version, committed_at) = (source.version(), source.committed_at());
        let (protocol, metadata) = (published.protocol(), published.metadata());
        let partitions = ShownPartitions::of(view, source);
        let mut files: Vec<(&Need, &KnownCopy, Box<PartitionPairs>)> = Vec::new();
        for need in &needs.all {
            let (Some(copy), Some(file)) = (known.get(&need.unit), source.files().get(need.index)) else { continue };
            // A materialization without rows is not listed.
            if needs.kind == CopyKind::File && copy.rows == 0 {
                continue;
            }
            files.push((need, copy, partitions.values(&file)));
        }
        // Statistics of source files come from the log, and are rebuilt, never passed on unchanged.
        let shape = (needs.kind == CopyKind::Source).then(|| StatsShape::of(source.metadata()));
        let rebuilt = |need: &Need| shape.as_ref()?.rebuilt(source.files().get(need.index)?.stats?);
        let stats: Vec<Option<String>> = files.iter().map(|(need, ..)| rebuilt(need)).collect();
        let listed = files.iter().zip(&stats).filter_map(|((need, copy, values), stats)| {
            let file = source.files().get(need.index)?;
            let values: &PartitionPairs = values;
            Some(match needs.kind {
                CopyKind::Source => {
                    FileRef::new(file.path, file.size, file.modification_time, stats.as_deref(), values)
                }
                CopyKind::File => {
                    let modification_time = need.grouped_as_of.unwrap_or(file.modification_time);
                    FileRef::new(&copy.object_key, copy.bytes, modification_time, copy.stats.as_deref(), values)
                }
            })
        });
        let snapshot = Snapshot::assembled(version, committed_at, protocol, metadata, listed)?;
        let location = match needs.kind {
            CopyKind::Source => from.location.clone(),
            CopyKind::File => self.root()?.location().clone(),
        };
        let Held { epoch, until } = held;
        Ok(Served { snapshot: Arc::new(snapshot), location, known, epoch, kept_until: Mutex::new(until) })
    }
}

/// The partition columns by which a row filter excludes whole files.
pub(super) struct Partitions<'a> {
    condition: &'a Condition,
    fields: Vec<(&'a str, String, DataType)>,
}

impl<'a> Partitions<'a> {
    /// Selects them; `None` if there is no filter, or if it reads columns but no partition columns.
    pub(super) fn of(view: &'a Entitled, source: &'a Snapshot) -> Result<Option<Self>, ServiceError> {
        let Some(condition) = &view.rules.condition else { return Ok(None) };
        let metadata = source.metadata();
        let asked = condition.columns();
        let is_asked = |name: &&String| asked.iter().any(|column| matches!(&column.0[..], [own] if own == *name));
        let partitions: Vec<&String> = metadata.partition_columns.iter().filter(is_asked).collect();
        if partitions.is_empty() && !asked.is_empty() {
            return Ok(None);
        }
        let schema = Schema::parse(&metadata.schema_string).map_err(ServiceError::internal)?;
        let maps_columns = metadata.maps_columns();
        let field = |name: &'a String| {
            let field: &Field = schema.fields.iter().find(|field| field.name == *name)?;
            Some((name.as_str(), field.physical_name(maps_columns).to_owned(), field.data_type.clone()))
        };
        Ok(Some(Self { condition, fields: partitions.into_iter().filter_map(field).collect() }))
    }

    /// Whether some of the file's rows may be shown; `None` if a value cannot be read, or the log has none.
    pub(super) fn may_be_shown(&self, file: &FileRef<'_>) -> Option<bool> {
        let mut values = HashMap::new();
        let find = |physical: &str| self.fields.iter().find(|(_, own, _)| own == physical);
        if file.unsaid_partition_columns().any(|physical| find(physical).is_some()) {
            return None;
        }
        for (physical, text) in file.partition_values() {
            let Some((name, _, data_type)) = find(physical) else { continue };
            let value = partition::parse(data_type.primitive()?, text).ok()?;
            values.insert(*name, value);
        }
        let value = |path: &ColumnPath| match path.0.as_slice() {
            [name] => values.get(name.as_str()).cloned(),
            _ => None,
        };
        Some(self.condition.may_hold(&value))
    }
}

/// The shown partition columns: the shown name and the source's physical name of each.
pub(super) struct ShownPartitions(Vec<(Box<str>, String)>);

impl ShownPartitions {
    pub(super) fn of(view: &Entitled, source: &Snapshot) -> Self {
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

    /// Their names in the source's files.
    pub(super) fn physical(self) -> Vec<String> {
        self.0.into_iter().map(|(_, physical)| physical).collect()
    }

    fn values(&self, file: &FileRef<'_>) -> Box<PartitionPairs> {
        let value = |physical: &str| {
            let found = file.partition_values().find(|(name, _)| *name == physical);
            found.and_then(|(_, value)| value.map(Into::into))
        };
        self.0.iter().map(|(name, physical)| (name.clone(), value(physical))).collect()
    }
}
