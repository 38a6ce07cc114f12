//! One commit as a value: what it did to the table, and which of its files an answer lists.
//!
//! Pure: text in, value out. Paths, partition values, statistics and deletion vectors are the log's own, verbatim.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    domain::delta::{Metadata, Protocol},
    lake::{
        files::{DeletionVectorRef, FileRef, PartitionPairs, PartitionSource},
        kernel::{MetadataAction, ProtocolAction},
    },
};

/// Which of a commit's files an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feed {
    /// A query from a starting version: files added and removed with a change of data (Delta Sharing protocol, 2.4).
    Files,
    /// The change data feed: what was recorded of the changes, else files added and removed with a change of data
    /// (Delta Sharing protocol, 2.8).
    Changes,
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The version that it made.
    pub version: u64,
    /// When it was committed, in milliseconds since the epoch: the in-commit timestamp where the table keeps one, else
    /// the time of the commit's file, at least a millisecond after the one before.
    pub committed_at: i64,
    /// A new protocol.
    pub protocol: Option<Protocol>,
    /// New metadata.
    pub metadata: Option<Metadata>,
    /// Files added, removed and recorded as changes, in the log's order.
    pub files: Vec<FileAction>,
    /// Whether this is a merge whose own metrics say that it changed no row.
    pub is_noop_merge: bool,
}

/// What an action did with its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// The file became part of the table.
    Add,
    /// The file is no longer part of the table.
    Remove,
    /// The file holds rows of the change data feed, and is never part of the table.
    Cdc,
}

/// One file action of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAction {
    /// What was done.
    pub kind: ActionKind,
    /// The path, verbatim, and not yet to be trusted.
    pub path: Box<str>,
    /// Bytes. Old writers leave it out of removes.
    pub size: Option<u64>,
    /// Values by physical name, sorted by it. Old writers leave them out of removes.
    pub partition_values: Option<Box<PartitionPairs>>,
    /// An add's time of modification or a remove's time of deletion, in milliseconds since the epoch.
    pub changed_at: Option<i64>,
    /// Whether rows were changed, and not only moved between files.
    pub data_change: bool,
    /// Statistics as JSON text.
    pub stats: Option<Box<str>>,
    vector: Option<Box<VectorAction>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VectorAction {
    storage_type: Box<str>,
    path_or_inline_dv: Box<str>,
    offset: Option<i32>,
    size_in_bytes: i32,
    cardinality: i64,
}

impl FileAction {
    /// The rows of the file that are deleted.
    pub fn deletion_vector(&self) -> Option<DeletionVectorRef<'_>> {
        self.vector.as_ref().map(|vector| DeletionVectorRef {
            storage_type: &vector.storage_type,
            path_or_inline: &vector.path_or_inline_dv,
            offset: vector.offset,
            size_in_bytes: vector.size_in_bytes,
            cardinality: vector.cardinality,
        })
    }

    /// The file in the form that a snapshot gives it, for whoever writes both. `None` while the size or the partition
    /// is not known; the commits of [`super::Changes`] know both. The modification time of a remove is its deletion's.
    pub fn as_file(&self) -> Option<FileRef<'_>> {
        Some(FileRef {
            path: &self.path,
            size: self.size?,
            modification_time: self.changed_at.unwrap_or(0),
            data_change: self.data_change,
            stats: self.stats.as_deref(),
            deletion_vector: self.deletion_vector(),
            partition_columns: &[],
            partition_source: PartitionSource::Pairs(self.partition_values.as_deref()?),
        })
    }

    fn resident_bytes(&self) -> usize {
        let pairs: usize = self
            .partition_values
            .iter()
            .flat_map(|pairs| pairs.iter())
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, |value| value.len()) + 48)
            .sum();
        let vector =
            self.vector.as_ref().map_or(0, |vector| size_of::<VectorAction>() + vector.path_or_inline_dv.len() + 17);
        size_of::<Self>() + self.path.len() + pairs + self.stats.as_ref().map_or(0, |stats| stats.len()) + vector
    }
}

impl Commit {
    /// The files that an answer of this kind lists, in the log's order.
    pub fn selected(&self, feed: Feed) -> impl Iterator<Item = &FileAction> + Send {
        let records_changes = || self.files.iter().any(|file| file.kind == ActionKind::Cdc);
        let (is_recorded, is_empty) = match feed {
            Feed::Files => (false, false),
            Feed::Changes => (records_changes(), self.is_noop_merge),
        };
        self.files.iter().filter(move |file| match file.kind {
            ActionKind::Cdc => is_recorded,
            ActionKind::Add | ActionKind::Remove => file.data_change && !is_recorded && !is_empty,
        })
    }

    /// Bytes of memory held.
    pub(super) fn resident_bytes(&self) -> usize {
        let metadata = self.metadata.as_ref().map_or(0, |metadata| {
            let properties = metadata.configuration.iter().map(|(key, value)| key.len() + value.len() + 64);
            metadata.schema_string.len() + properties.sum::<usize>() + 512
        });
        size_of::<Self>() + metadata + self.files.iter().map(FileAction::resident_bytes).sum::<usize>()
    }
}

/// A commit's file, read, before it is known which clock dates it.
#[derive(Debug)]
pub(super) struct CommitText {
    pub(super) in_commit_timestamp: Option<i64>,
    pub(super) commit: Commit,
}

/// Why a commit makes no sense.
#[derive(Debug, thiserror::Error)]
pub(super) enum MalformedCommit {
    #[error("line {line}")]
    Line {
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("line {line}: `{field}` is missing")]
    Missing { line: usize, field: &'static str },
}

impl CommitText {
    /// Reads the text of a commit's file. The version's time is left 0.
    pub(super) fn parse(version: u64, text: &[u8]) -> Result<Self, MalformedCommit> {
        let commit = Commit {
            version,
            committed_at: 0,
            protocol: None,
            metadata: None,
            files: Vec::new(),
            is_noop_merge: false,
        };
        let mut read = Self { in_commit_timestamp: None, commit };
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let line_number = index + 1;
            let action: ActionLine =
                serde_json::from_slice(line).map_err(|source| MalformedCommit::Line { line: line_number, source })?;
            read.take(action, line_number)?;
        }
        Ok(read)
    }

    fn take(&mut self, action: ActionLine, line: usize) -> Result<(), MalformedCommit> {
        if let Some(info) = action.commit_info {
            self.in_commit_timestamp = info.in_commit_timestamp.as_ref().and_then(Value::as_i64);
            self.commit.is_noop_merge = info.is_noop_merge();
        }
        if let Some(protocol) = action.protocol {
            self.commit.protocol = Some(protocol.into());
        }
        if let Some(metadata) = action.meta_data {
            self.commit.metadata = Some(metadata.into());
        }
        let files = [(ActionKind::Add, action.add), (ActionKind::Remove, action.remove), (ActionKind::Cdc, action.cdc)];
        for (kind, file) in files {
            if let Some(file) = file {
                let file = file.into_action(kind).map_err(|field| MalformedCommit::Missing { line, field })?;
                self.commit.files.push(file);
            }
        }
        Ok(())
    }
}

/// The in-commit timestamp at the beginning of a commit's file, where writers must put it. `None` if the first line is
/// not complete in `text`.
pub(super) fn leading_timestamp(text: &[u8], is_whole: bool) -> Option<Result<Option<i64>, MalformedCommit>> {
    let end = text.iter().position(|&byte| byte == b'\n').or_else(|| is_whole.then_some(text.len()))?;
    Some(CommitText::parse(0, &text[..end]).map(|read| read.in_commit_timestamp))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActionLine {
    add: Option<FileLine>,
    remove: Option<FileLine>,
    cdc: Option<FileLine>,
    meta_data: Option<MetadataAction>,
    protocol: Option<ProtocolAction>,
    commit_info: Option<CommitInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileLine {
    path: Box<str>,
    size: Option<u64>,
    partition_values: Option<BTreeMap<Box<str>, Option<Box<str>>>>,
    modification_time: Option<i64>,
    deletion_timestamp: Option<i64>,
    data_change: Option<bool>,
    stats: Option<Box<str>>,
    deletion_vector: Option<Box<VectorAction>>,
}

impl FileLine {
    fn into_action(self, kind: ActionKind) -> Result<FileAction, &'static str> {
        if kind != ActionKind::Remove {
            self.size.ok_or("size")?;
            self.partition_values.as_ref().ok_or("partitionValues")?;
        }
        Ok(FileAction {
            kind,
            path: self.path,
            size: self.size,
            partition_values: self.partition_values.map(|values| values.into_iter().collect()),
            changed_at: if kind == ActionKind::Remove { self.deletion_timestamp } else { self.modification_time },
            data_change: if kind == ActionKind::Cdc { false } else { self.data_change.ok_or("dataChange")? },
            stats: self.stats,
            vector: self.deletion_vector,
        })
    }
}

/// Writers put here what they like, so that nothing in it can make a commit malformed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitInfo {
    operation: Option<Value>,
    operation_metrics: Option<Value>,
    in_commit_timestamp: Option<Value>,
}

impl CommitInfo {
    /// A metric that is missing proves nothing.
    fn is_noop_merge(&self) -> bool {
        let is_zero = |metric: &str| match self.operation_metrics.as_ref().and_then(|metrics| metrics.get(metric)) {
            Some(Value::String(text)) => text == "0",
            Some(Value::Number(number)) => number.as_u64() == Some(0),
            _ => false,
        };
        self.operation.as_ref().and_then(Value::as_str) == Some("MERGE")
            && ["numTargetRowsInserted", "numTargetRowsUpdated", "numTargetRowsDeleted"].into_iter().all(is_zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> CommitText {
        CommitText::parse(7, text.as_bytes()).unwrap()
    }

    fn paths(commit: &Commit, feed: Feed) -> Vec<&str> {
        commit.selected(feed).map(|file| &*file.path).collect()
    }

    const ADD: &str = r#"{"add":{"path":"a%20b","partitionValues":{"p":null,"d":"x"},"size":5,"modificationTime":3,"dataChange":true,"stats":"{}","tags":{"k":"v"}}}"#;
    const REMOVE: &str = r#"{"remove":{"path":"r","dataChange":true,"deletionTimestamp":4,"deletionVector":{"storageType":"u","pathOrInlineDv":"ab","offset":1,"sizeInBytes":2,"cardinality":3}}}"#;
    const MOVED: &str = r#"{"add":{"path":"m","partitionValues":{},"size":5,"modificationTime":3,"dataChange":false}}"#;
    const CDC: &str = r#"{"cdc":{"path":"c","partitionValues":{},"size":5,"dataChange":false}}"#;

    fn merge(metrics: &str) -> String {
        format!("{{\"commitInfo\":{{\"operation\":\"MERGE\",\"operationMetrics\":{metrics}}}}}")
    }

    #[test]
    fn files_are_taken_as_the_log_spells_them() {
        let CommitText { commit, in_commit_timestamp } = read(&format!("{ADD}\n\n{REMOVE}\r\n"));
        assert_eq!((commit.version, in_commit_timestamp), (7, None));
        let [add, remove] = &commit.files[..] else { panic!("{commit:?}") };
        let file = add.as_file().unwrap();
        assert_eq!((file.path, file.size, file.modification_time, file.stats), ("a%20b", 5, 3, Some("{}")));
        assert_eq!(file.partition_values().collect::<Vec<_>>(), [("d", Some("x")), ("p", None)]);
        assert_eq!((remove.kind, remove.size, remove.changed_at), (ActionKind::Remove, None, Some(4)));
        assert!(remove.as_file().is_none(), "its size is not known");
        let vector = remove.deletion_vector().unwrap();
        assert_eq!((vector.path_or_inline, vector.offset, vector.cardinality), ("ab", Some(1), 3));
    }

    #[test]
    fn unknown_actions_and_fields_are_passed_over() {
        let text = "{\"txn\":{\"appId\":\"x\"}}\n{\"fromTheFuture\":[1]}\n{\"commitInfo\":{\"operation\":7}}\n{}";
        let CommitText { commit, .. } = read(text);
        assert!(commit.files.is_empty() && !commit.is_noop_merge);
    }

    #[test]
    fn what_is_no_commit_is_refused_by_line() {
        for text in ["x", "[]", "null\n{}", "{\"add\":{}}", "{\"add\":{\"path\":1}}", "\u{feff}{}"] {
            assert!(CommitText::parse(0, text.as_bytes()).is_err(), "{text}");
        }
        let error = CommitText::parse(0, format!("{ADD}\n{{").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 2");
        assert!(CommitText::parse(0, b"{\"remove\":{\"path\":\"\xff\",\"dataChange\":true}}").is_err());
    }

    #[test]
    fn a_query_lists_changed_data_and_the_feed_prefers_what_was_recorded() {
        let recorded = read(&[ADD, REMOVE, MOVED, CDC].join("\n")).commit;
        assert_eq!(paths(&recorded, Feed::Files), ["a%20b", "r"]);
        assert_eq!(paths(&recorded, Feed::Changes), ["c"]);
        let plain = read(&[ADD, REMOVE, MOVED].join("\n")).commit;
        assert_eq!(paths(&plain, Feed::Changes), ["a%20b", "r"]);
    }

    #[test]
    fn a_merge_that_changed_no_row_has_no_changes_but_its_files() {
        let zero = |value: &str| {
            format!(
                "{{\"numTargetRowsInserted\":{value},\"numTargetRowsUpdated\":{value},\"numTargetRowsDeleted\":{value}}}"
            )
        };
        for metrics in [zero("\"0\""), zero("0")] {
            let CommitText { commit, .. } = read(&format!("{}\n{ADD}", merge(&metrics)));
            assert!(paths(&commit, Feed::Changes).is_empty(), "{metrics}");
            assert_eq!(paths(&commit, Feed::Files), ["a%20b"]);
        }
        let incomplete = "{\"numTargetRowsInserted\":\"0\",\"numTargetRowsUpdated\":\"0\"}".to_owned();
        for metrics in [zero("\"1\""), incomplete, "{}".to_owned(), "null".to_owned(), "[]".to_owned()] {
            let CommitText { commit, .. } = read(&format!("{}\n{ADD}", merge(&metrics)));
            assert_eq!(paths(&commit, Feed::Changes), ["a%20b"], "{metrics}");
        }
        let write = merge(&zero("\"0\"")).replace("MERGE", "WRITE");
        assert_eq!(paths(&read(&format!("{write}\n{ADD}")).commit, Feed::Changes), ["a%20b"]);
    }

    #[test]
    fn the_leading_timestamp_needs_the_first_line_only() {
        let line = r#"{"commitInfo":{"inCommitTimestamp":12,"timestamp":11}}"#;
        let time = |text: &str, is_whole| leading_timestamp(text.as_bytes(), is_whole).map(Result::unwrap);
        assert_eq!(time(&format!("{line}\n{{\"ad"), false), Some(Some(12)));
        assert_eq!(time(line, false), None);
        assert_eq!(time(line, true), Some(Some(12)));
        assert_eq!(time(&format!("{ADD}\n{line}"), true), Some(None));
        assert_eq!(time("", true), Some(None));
    }
}
