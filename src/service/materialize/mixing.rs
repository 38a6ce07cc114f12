//! Decides which files of a table are mixed with each other. Groups are formed once, from files that one commit added
//! and that have the same values in all shown partition columns, and then kept.
//!
//! Never here: mixing rows, or the size of a group, which the domain decides.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::{
    domain::materialize::{
        copy::{CopyKind, GroupedFrom, MemberParts, UnitId, UnitKey, mixing_file, mixing_scope},
        mixing::{Groupable, group},
    },
    lake::{ActionKind, FileRef, Snapshot},
    service::core::error::ServiceError,
    store::{MixedFile, MixedScope},
};

use super::{
    Entitled, Materializer,
    served::{Need, Needs, Partitions, ShownPartitions, Source},
};

/// The most files that one transaction adds to groups, or removes.
const GROUPED_AT_ONCE: usize = 4_096;
/// The number of files that one statement looks up, and the number of such statements that run at a time.
const ASKED_AT_ONCE: usize = 256;
const ASKING_AT_ONCE: usize = 4;
/// How often a scope is checked for files that no version names any more.
const LOOKED_EVERY: TimeDelta = TimeDelta::days(1);
/// The number of scopes that are listed at a time.
const LISTED: u32 = 100;
/// The longest log, in commits, that is read to find the files that it names.
const LONGEST_LOG: u64 = 100_000;

/// The group of each file in a scope, and the time that readers are shown for it.
pub(super) type Groups = HashMap<Uuid, (Uuid, i64)>;

/// A scope: the id under which groups are kept, and the physical names of the shown partition columns.
struct Scope {
    id: Uuid,
    shown: Vec<String>,
}

impl Scope {
    fn of(view: &Entitled, source: &Snapshot) -> Self {
        let mut shown = ShownPartitions::of(view, source).physical();
        shown.sort_unstable();
        let names: Vec<&str> = shown.iter().map(String::as_str).collect();
        Self { id: mixing_scope(&source.metadata().id, &names), shown }
    }

    fn file(&self, path: &str) -> Uuid {
        mixing_file(self.id, path)
    }

    /// The file's values of the shown partition columns.
    fn values<'a>(&self, file: &FileRef<'a>) -> Vec<Option<&'a str>> {
        let value = |name: &String| file.partition_values().find(|(own, _)| own == name).and_then(|(_, value)| value);
        self.shown.iter().map(value).collect()
    }

    /// Forms new groups of `files`, which all come from `from`.
    fn group<'a>(
        &self,
        key: &UnitKey,
        from: GroupedFrom,
        as_of: i64,
        files: impl Iterator<Item = FileRef<'a>>,
        grouped: &mut Vec<MixedFile>,
    ) {
        let mut parts: BTreeMap<Vec<Option<&str>>, Vec<FileRef<'_>>> = BTreeMap::new();
        for file in files {
            parts.entry(self.values(&file)).or_default().push(file);
        }
        for (values, files) in parts {
            let groupable = |file: &FileRef<'a>| Groupable {
                partition: file.partition_values().map(|(_, value)| value).collect(),
                chance: key.chance(self.id, file.path),
                bytes: file.size,
            };
            let groupable: Vec<Groupable<'_>> = files.iter().map(groupable).collect();
            grouped.extend(files.iter().zip(group(&groupable)).map(|(file, index)| MixedFile {
                file: self.file(file.path),
                group_id: key.mixing_group(self.id, from, &values, index as u64),
                grouped_as_of: as_of,
            }));
        }
    }
}

/// The files of a snapshot that make up one materialization.
struct Members {
    grouped_as_of: i64,
    indices: Vec<usize>,
}

impl Materializer {
    /// The materializations that `view` over `source` needs if rows of several files are mixed; `None` if some files
    /// are not in a group yet. Files of a group that the row filter excludes by their partition values are not read.
    pub(super) async fn needs_mixed(&self, view: &Entitled, source: &Snapshot) -> Result<Option<Needs>, ServiceError> {
        let scope = Scope::of(view, source);
        self.note_scope(view, source, &scope).await?;
        let files: Vec<Uuid> = source.files().iter().map(|file| scope.file(file.path)).collect();
        let groups = self.groups_of(&scope, &files).await?;
        let partitions = Partitions::of(view, source)?;
        let (mut members, mut is_certain) = (HashMap::<Uuid, Members>::new(), true);
        for (index, (file, key)) in source.files().iter().zip(&files).enumerate() {
            let Some((group, grouped_as_of)) = groups.get(key).copied() else { return Ok(None) };
            match partitions.as_ref().map(|partitions| partitions.may_be_shown(&file)) {
                Some(Some(false)) => continue,
                Some(None) => is_certain = false,
                Some(Some(true)) | None => {}
            }
            let members = members.entry(group).or_insert(Members { grouped_as_of, indices: Vec::new() });
            members.indices.push(index);
        }
        let path = |index: &usize| source.files().get(*index).map(|file| file.path);
        let mut all: Vec<Need> = Vec::with_capacity(members.len());
        for (group, Members { grouped_as_of, mut indices }) in members {
            // Every server gets the same order, whatever the order of files in its snapshot.
            indices.sort_unstable_by(|one, other| path(one).cmp(&path(other)));
            let unit = self.mixed_unit(view, source, group, &indices);
            let Some((first, more)) = indices.split_first() else { continue };
            all.push(Need { index: *first, more: more.into(), grouped_as_of: Some(grouped_as_of), unit });
        }
        all.sort_unstable_by_key(|need| need.unit);
        Ok(Some(Needs { kind: CopyKind::File, all, is_certain }))
    }

    fn mixed_unit(&self, view: &Entitled, source: &Snapshot, group: Uuid, indices: &[usize]) -> UnitId {
        let files = indices.iter().filter_map(|index| source.files().get(*index));
        let members = files.map(|file| MemberParts {
            path: file.path,
            size: file.size,
            modification_time: file.modification_time,
            deletion_vector: file
                .deletion_vector
                .map(|vector| (vector.storage_type, vector.path_or_inline, vector.offset)),
        });
        self.inner.unit_key.mixed_unit(view.set.rules, group, members)
    }

    /// Records that the view uses the scope; a scope is kept as long as some view does.
    async fn note_scope(&self, view: &Entitled, source: &Snapshot, scope: &Scope) -> Result<(), ServiceError> {
        let (scopes, key) = (&self.inner.scopes, (scope.id, view.set.view_id));
        if scopes.contains_key(&key) {
            return Ok(());
        }
        let mut tx = self.core.db.begin().await?;
        tx.note_mixed_scope(scope.id, view.set.view_id, &source.metadata().id, self.core.clock.now()).await?;
        tx.commit().await?;
        // The scope may have been deleted since it was cached.
        self.inner.groups.invalidate(&scope.id).await;
        scopes.insert(key, ()).await;
        Ok(())
    }

    /// The groups of the given `files` of a version, as far as they are in one; may include other files of the scope.
    async fn groups_of(&self, scope: &Scope, files: &[Uuid]) -> Result<Arc<Groups>, ServiceError> {
        let cache = &self.inner.groups;
        let known = cache.get(&scope.id).await.unwrap_or_default();
        let unknown: Vec<Uuid> = files.iter().filter(|file| !known.contains_key(*file)).copied().collect();
        if unknown.is_empty() {
            return Ok(known);
        }
        let asked = unknown.chunks(ASKED_AT_ONCE).map(|files| self.core.db.find_mixed_files(scope.id, files));
        let asked: Vec<_> = asked.collect();
        let mut asked = stream::iter(asked).buffer_unordered(ASKING_AT_ONCE);
        let mut groups = Groups::new();
        while let Some(found) = asked.try_next().await? {
            groups.extend(found.into_iter().map(|found| (found.file, (found.group_id, found.grouped_as_of))));
        }
        if groups.is_empty() {
            return Ok(known);
        }
        // Only files of this version are remembered.
        groups.extend(files.iter().filter_map(|file| Some((*file, *known.get(file)?))));
        let groups = Arc::new(groups);
        cache.insert(scope.id, Arc::clone(&groups)).await;
        Ok(groups)
    }

    /// Forms groups for the files of `source` that are in none. Files that one commit added are grouped with all other
    /// files that it added; files whose commits are no longer in the log are grouped with each other.
    pub(super) async fn form_groups(&self, view: &Entitled, source: &Source) -> Result<(), ServiceError> {
        let Source { snapshot, location } = source;
        let scope = Scope::of(view, snapshot);
        let files: Vec<Uuid> = snapshot.files().iter().map(|file| scope.file(file.path)).collect();
        let groups = self.groups_of(&scope, &files).await?;
        let ungrouped = snapshot.files().iter().zip(&files).filter(|(_, key)| !groups.contains_key(*key));
        let mut ungrouped: HashSet<&str> = ungrouped.map(|(file, _)| file.path).collect();
        if ungrouped.is_empty() {
            return Ok(());
        }
        let key = &self.inner.unit_key;
        let mut grouped = Vec::new();
        let history = self.lake.history_until(location, Arc::clone(snapshot)).await;
        let look = history.walk_back(snapshot.version(), |commit| {
            let removed = commit.files.iter().filter(|file| file.kind == ActionKind::Remove);
            let removed: HashSet<&str> = removed.map(|file| &*file.path).collect();
            // A file that the commit removes and adds again existed before; it has only lost some rows.
            let is_brought = |file: &FileRef<'_>| !removed.contains(file.path);
            let added = commit.files.iter().filter(|file| file.kind == ActionKind::Add);
            let brought: Vec<FileRef<'_>> =
                added.filter_map(|file| file.as_file()).filter(|file| is_brought(file)).collect();
            if brought.iter().any(|file| ungrouped.contains(file.path)) {
                for file in &brought {
                    ungrouped.remove(file.path);
                }
                let from = GroupedFrom::Commit(commit.version);
                scope.group(key, from, commit.committed_at, brought.into_iter(), &mut grouped);
            }
            !ungrouped.is_empty()
        });
        look.await?;
        let rest = || snapshot.files().iter().filter(|file| ungrouped.contains(file.path));
        let as_of = rest().map(|file| file.modification_time).max().unwrap_or_default();
        scope.group(key, GroupedFrom::Rest(snapshot.version()), as_of, rest(), &mut grouped);
        // Servers that form the same groups at once must lock rows in the same order.
        grouped.sort_unstable_by_key(|grouped| grouped.file);
        for grouped in grouped.chunks(GROUPED_AT_ONCE) {
            let mut tx = self.core.db.begin().await?;
            tx.insert_mixed_files(scope.id, grouped).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Deletes the groups of files that can no longer be served: in scopes that no view uses, and of files that no
    /// readable version of the table names.
    pub async fn forget_groups(&self) -> Result<(), ServiceError> {
        let now = self.core.clock.now();
        if self.root().is_err() || !self.core.leases.take("copies.groups").await? {
            return Ok(());
        }
        for scope in self.core.db.list_unused_scopes(LISTED).await? {
            let files = self.files_of(scope).await?;
            self.forget_files(scope, files.into_iter().collect()).await?;
            let mut tx = self.core.db.begin().await?;
            tx.delete_mixed_scope(scope).await?;
            tx.commit().await?;
        }
        let mut after = Uuid::nil();
        loop {
            let scopes = self.core.db.list_mixed_scopes(now - LOOKED_EVERY, after, LISTED).await?;
            let Some(last) = scopes.last() else { return Ok(()) };
            after = last.scope;
            for scope in &scopes {
                // An unreachable table must not stop the others.
                if let Err(error) = self.forget_unnamed(scope, now).await {
                    tracing::warn!(view.id = %scope.view_id, error = &error as &dyn std::error::Error,
                        "a view's table could not be looked at for the files that its log names");
                }
            }
        }
    }

    /// Deletes the groups of a scope's files that no readable version names.
    async fn forget_unnamed(&self, scope: &MixedScope, now: DateTime<Utc>) -> Result<(), ServiceError> {
        let Some((_, table)) = self.core.db.find_view_by_id(scope.view_id).await? else { return Ok(()) };
        let location = self.storages.locate(&table.spec.location)?;
        let latest = self.lake.latest(&location).await?;
        let (earliest, _) = self.lake.history_until(&location, latest).await.earliest().await?;
        let mut looked_from = i64::try_from(earliest).map_err(ServiceError::internal)?;
        // As long as the log reaches back as far as before, no file has lost its last version.
        if looked_from > scope.earliest {
            // Listed first, so that all of these files were in the log before it is read.
            let mut unnamed = self.files_of(scope.scope).await?;
            let latest = self.lake.latest(&location).await?;
            // If another table took the place of this one, its log says nothing about this one's files.
            let is_same = latest.metadata().id == scope.delta_id;
            let history = self.lake.history_until(&location, latest).await;
            let see = |path: &str| {
                unnamed.remove(&mixing_file(scope.scope, path));
            };
            if is_same && history.name_files(LONGEST_LOG, see).await? {
                let forgotten = unnamed.len();
                self.forget_files(scope.scope, unnamed.into_iter().collect()).await?;
                tracing::info!(view.id = %scope.view_id, forgotten, "forgot the groups of files that no version names");
            } else {
                looked_from = scope.earliest;
            }
        }
        let mut tx = self.core.db.begin().await?;
        tx.update_mixed_scope(scope.scope, looked_from, now).await?;
        Ok(tx.commit().await?)
    }

    async fn files_of(&self, scope: Uuid) -> Result<HashSet<Uuid>, ServiceError> {
        let (mut files, mut after) = (HashSet::new(), Uuid::nil());
        let page = u32::try_from(GROUPED_AT_ONCE).unwrap_or(u32::MAX);
        loop {
            let listed = self.core.db.list_mixed_files(scope, after, page).await?;
            let Some(last) = listed.last() else { return Ok(files) };
            after = *last;
            files.extend(listed);
        }
    }

    async fn forget_files(&self, scope: Uuid, files: Vec<Uuid>) -> Result<(), ServiceError> {
        for files in files.chunks(GROUPED_AT_ONCE) {
            let mut tx = self.core.db.begin().await?;
            tx.delete_mixed_files(scope, files).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
