//! Which files of a table are mixed with each other: groups, formed once, within what one commit brought and one value of
//! each partition column that is shown, and kept.
//!
//! Never here: how large a group is, which is the domain's to say, or mixing rows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    Entitled,
    served::{MANY, Need, Needs, Partitions, ShownPartitions, Source},
};
use crate::{
    domain::{
        copy::{CopyKind, GroupedFrom, MemberParts, UnitId, UnitKey, mixing_file, mixing_scope},
        mixing::{Groupable, group},
    },
    lake::{ActionKind, FileRef, Snapshot},
    service::{Service, error::ServiceError},
    store::MixedFile,
};

/// How many files one transaction puts into groups.
const GROUPED_AT_ONCE: usize = 4_096;

/// The group of each file of a scope, and the time that is told of it.
pub(super) type Groups = HashMap<Uuid, (Uuid, i64)>;

/// A scope: what groups are kept under, and the physical names of the partition columns that are shown.
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

    /// The values of the partition columns that are shown.
    fn values<'a>(&self, file: &FileRef<'a>) -> Vec<Option<&'a str>> {
        let value = |name: &String| file.partition_values().find(|(own, _)| own == name).and_then(|(_, value)| value);
        self.shown.iter().map(value).collect()
    }

    /// Puts `files`, which were grouped out of `from`, into groups of their own.
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

/// The files of a snapshot that one copy is made of.
struct Members {
    grouped_as_of: i64,
    indices: Vec<usize>,
}

impl Service {
    /// The copies that `view` over `source` needs where rows of several files are mixed; `None` where some of the files are
    /// in no group yet. Of a group, files that the row filter leaves out by their partition values are not read.
    pub(super) async fn needs_mixed(&self, view: &Entitled, source: &Snapshot) -> Result<Option<Needs>, ServiceError> {
        let scope = Scope::of(view, source);
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
            // The same on every server, whatever order its files are in.
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
        self.workshop.0.unit_key.mixed_unit(view.set.rules, group, members)
    }

    /// The groups of those `files` that are in one, and of others of the same scope.
    async fn groups_of(&self, scope: &Scope, files: &[Uuid]) -> Result<Arc<Groups>, ServiceError> {
        let cache = &self.workshop.0.groups;
        let known = cache.get(&scope.id).await.unwrap_or_default();
        let unknown: Vec<Uuid> = files.iter().filter(|file| !known.contains_key(*file)).copied().collect();
        if unknown.is_empty() {
            return Ok(known);
        }
        let found = if unknown.len() > MANY {
            self.db.list_mixed_files(scope.id).await?
        } else {
            self.db.find_mixed_files(scope.id, &unknown).await?
        };
        if found.is_empty() {
            return Ok(known);
        }
        let mut groups = Groups::clone(&known);
        groups.extend(found.into_iter().map(|found| (found.file, (found.group_id, found.grouped_as_of))));
        let groups = Arc::new(groups);
        cache.insert(scope.id, Arc::clone(&groups)).await;
        Ok(groups)
    }

    /// Puts those files of `source` into groups that are in none: those that one commit brought with each other, and with
    /// whatever else it brought; those that the log no longer tells of with each other.
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
        let key = &self.workshop.0.unit_key;
        let mut grouped = Vec::new();
        let history = self.lake.history_until(location, Arc::clone(snapshot)).await;
        let look = history.walk_back(snapshot.version(), |commit| {
            let removed = commit.files.iter().filter(|file| file.kind == ActionKind::Remove);
            let removed: HashSet<&str> = removed.map(|file| &*file.path).collect();
            // What a commit takes away and adds again was there before, and has lost some rows.
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
        // Servers that form the same groups at once take their rows in one order.
        grouped.sort_unstable_by_key(|grouped| grouped.file);
        for grouped in grouped.chunks(GROUPED_AT_ONCE) {
            let mut tx = self.db.begin().await?;
            tx.insert_mixed_files(scope.id, grouped).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
