//! Represents one commit as a value: its actions, and the files that an answer lists.
//!
//! Pure: text in, value out. Paths, partition values, statistics and deletion vectors are exactly as in the log.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, BooleanArray, Int64Array, MapArray, RecordBatch, StringArray, StructArray},
    error::ArrowError,
};
use delta_kernel::{
    DeltaResult, RowVisitor,
    actions::visitors::{ProtocolVisitor, visit_protocol_at},
    engine::arrow_data::ArrowEngineData,
    engine_data::GetData,
    expressions::ColumnName,
    schema::DataType,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    domain::catalog::delta::{Metadata, Protocol},
    lake::{
        actions::decode,
        deletion_vector::DeletionVector,
        files::{
            DeletionVectorRef, FileRef, PartitionPairs, PartitionSource, deletion_vectors, longs, malformed, strings,
        },
        kernel::{metadata_of, protocol_of},
    },
};

/// The number of bytes at the start of a line in which its kind of action is looked for.
const KIND_WITHIN: usize = 64;

/// Selects the files of a commit for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feed {
    /// A query from a starting version: files added and removed with a change of data (Delta Sharing protocol, 2.4).
    Files,
    /// The change data feed: the recorded change files, or without any, the files added and removed with a change of
    /// data (Delta Sharing protocol, 2.8).
    Changes,
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The version that it created.
    pub version: u64,
    /// The commit time in milliseconds since the epoch: the in-commit timestamp if the table has them, else the
    /// modification time of the commit file. In [`super::Changes`], each is at least a millisecond after the one
    /// before.
    pub committed_at: i64,
    /// The new protocol, if it changed.
    pub protocol: Option<Protocol>,
    /// The new metadata, if it changed.
    pub metadata: Option<Metadata>,
    /// The files added, removed and recorded as changes, in the log's order.
    pub files: Vec<FileAction>,
    /// Whether this is a merge that changed no row, according to its own metrics.
    pub is_noop_merge: bool,
}

/// The effect of an action on its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// The file became part of the table.
    Add,
    /// The file left the table.
    Remove,
    /// The file holds rows of the change data feed, and is never part of the table.
    Cdc,
}

/// One file action of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAction {
    /// The kind of action.
    pub kind: ActionKind,
    /// The path exactly as in the log; not yet validated.
    pub path: Box<str>,
    /// The size in bytes. Old writers omit it from removes.
    pub size: Option<u64>,
    /// Partition values by physical name, sorted by name. Old writers omit them from removes.
    pub partition_values: Option<Box<PartitionPairs>>,
    /// The modification time of an add or the deletion time of a remove, in milliseconds since the epoch.
    pub changed_at: Option<i64>,
    /// Whether rows changed, rather than only moved between files.
    pub data_change: bool,
    /// Whether a remove claims to state its size and partition values.
    pub extended_metadata: Option<bool>,
    /// The statistics as JSON text.
    pub stats: Option<Box<str>>,
    vector: Option<Box<DeletionVector>>,
}

impl FileAction {
    /// Returns the deletion vector, if rows of the file are deleted.
    pub fn deletion_vector(&self) -> Option<DeletionVectorRef<'_>> {
        self.vector.as_deref().map(DeletionVector::as_ref)
    }

    /// Returns the file in the form that snapshots use. `None` if the size or partition values are unknown; they are
    /// always known in commits from [`super::Changes`]. A remove's modification time is its deletion time.
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
            self.vector.as_ref().map_or(0, |vector| size_of::<DeletionVector>() + vector.path_or_inline.len() + 17);
        size_of::<Self>() + self.path.len() + pairs + self.stats.as_ref().map_or(0, |stats| stats.len()) + vector
    }
}

impl Commit {
    /// Returns the files that an answer of this kind lists, in the log's order.
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

    /// Returns the memory used, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        let metadata = self.metadata.as_ref().map_or(0, |metadata| {
            let properties = metadata.configuration.iter().map(|(key, value)| key.len() + value.len() + 64);
            metadata.schema_string.len() + properties.sum::<usize>() + 512
        });
        size_of::<Self>() + metadata + self.files.iter().map(FileAction::resident_bytes).sum::<usize>()
    }
}

/// A commit as parsed from its file, without a final commit time.
#[derive(Debug)]
pub(super) struct CommitText {
    pub(super) in_commit_timestamp: Option<i64>,
    pub(super) commit: Commit,
}

/// Why a commit cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub(super) enum MalformedCommit {
    #[error("its actions are not what the protocol asks for")]
    Actions(#[from] ArrowError),
    #[error("its protocol or metadata is not what the protocol asks for")]
    Head(#[from] delta_kernel::Error),
    #[error("its protocol or metadata is not what the protocol asks for")]
    SpeltOut(#[from] serde_json::Error),
}

impl CommitText {
    /// Parses the text of a commit's file. The commit time is left at 0.
    pub(super) fn parse(version: u64, text: &[u8]) -> Result<Self, MalformedCommit> {
        let (mut metadata, mut protocol) = (None, FirstProtocol::default());
        let mut files = Vec::new();
        for batch in decode(text)? {
            take_files(&batch, &mut files)?;
            let data = ArrowEngineData::new(batch);
            if metadata.is_none() {
                metadata = delta_kernel::actions::Metadata::try_new_from_data(&data)?;
            }
            protocol.visit_rows_of(&data)?;
        }
        let info = CommitInfo::find(text).unwrap_or_default();
        let commit = Commit {
            version,
            committed_at: 0,
            protocol: protocol.0.as_ref().map(protocol_of).transpose()?,
            metadata: metadata.as_ref().map(metadata_of).transpose()?,
            files,
            is_noop_merge: info.is_noop_merge(),
        };
        Ok(Self { in_commit_timestamp: info.in_commit_timestamp.as_ref().and_then(whole), commit })
    }
}

/// Finds the first protocol of a commit, in the same way as the kernel.
#[derive(Default)]
struct FirstProtocol(Option<delta_kernel::actions::Protocol>);

impl RowVisitor for FirstProtocol {
    fn selected_column_names_and_types(&self) -> (&'static [ColumnName], &'static [DataType]) {
        ProtocolVisitor::default().selected_column_names_and_types()
    }

    fn visit<'a>(&mut self, row_count: usize, getters: &[&'a dyn GetData<'a>]) -> DeltaResult<()> {
        for row in 0..row_count {
            if self.0.is_none() {
                self.0 = visit_protocol_at(row, getters)?;
            }
        }
        Ok(())
    }
}

/// Reads the in-commit timestamp from the first line of a commit, where writers must put it. `None` if `text` does not
/// contain the whole first line.
pub(super) fn leading_timestamp(text: &[u8], is_whole: bool) -> Option<Result<Option<i64>, MalformedCommit>> {
    let end = text.iter().position(|&byte| byte == b'\n').or_else(|| is_whole.then_some(text.len()))?;
    Some(CommitText::parse(0, &text[..end]).map(|read| read.in_commit_timestamp))
}

/// Appends the file actions of a batch, in order.
fn take_files(batch: &RecordBatch, files: &mut Vec<FileAction>) -> Result<(), ArrowError> {
    let kinds = [("add", ActionKind::Add), ("remove", ActionKind::Remove), ("cdc", ActionKind::Cdc)];
    let mut actions = Vec::with_capacity(kinds.len());
    for (name, kind) in kinds {
        let column = batch.column_by_name(name).and_then(|column| column.as_struct_opt());
        let whole = column.ok_or_else(|| malformed(name))?;
        if whole.null_count() < whole.len() {
            actions.push(FileActions::of(whole, kind)?);
        }
    }
    for row in 0..batch.num_rows() {
        for action in &mut actions {
            files.extend(action.take(row)?);
        }
    }
    Ok(())
}

/// The actions of one kind in a batch, in columns.
struct FileActions<'a> {
    kind: ActionKind,
    whole: &'a StructArray,
    path: &'a StringArray,
    size: &'a Int64Array,
    partition_values: &'a MapArray,
    changed_at: Option<&'a Int64Array>,
    data_change: &'a BooleanArray,
    extended_metadata: Option<&'a BooleanArray>,
    stats: Option<&'a StringArray>,
    /// Sorted by row, without those already taken.
    vectors: std::iter::Peekable<std::vec::IntoIter<(usize, DeletionVector)>>,
}

impl<'a> FileActions<'a> {
    fn of(whole: &'a StructArray, kind: ActionKind) -> Result<Self, ArrowError> {
        let flags = |name: &str| {
            let flags = whole.column_by_name(name).and_then(|column| column.as_boolean_opt());
            flags.ok_or_else(|| malformed(name))
        };
        let values = whole.column_by_name("partitionValues").and_then(|column| column.as_map_opt());
        let vectors = match whole.column_by_name("deletionVector") {
            Some(vectors) => deletion_vectors(vectors.as_struct_opt().ok_or_else(|| malformed("deletionVector"))?)?,
            None => Vec::new(),
        };
        Ok(Self {
            kind,
            whole,
            path: strings(whole, "path")?,
            size: longs(whole, "size")?,
            partition_values: values.ok_or_else(|| malformed("partitionValues"))?,
            changed_at: match kind {
                ActionKind::Add => Some(longs(whole, "modificationTime")?),
                ActionKind::Remove => Some(longs(whole, "deletionTimestamp")?),
                ActionKind::Cdc => None,
            },
            data_change: flags("dataChange")?,
            extended_metadata: (kind == ActionKind::Remove).then(|| flags("extendedFileMetadata")).transpose()?,
            stats: (kind == ActionKind::Add).then(|| strings(whole, "stats")).transpose()?,
            vectors: vectors.into_iter().peekable(),
        })
    }

    /// Returns the action in `row` if it is of this kind. Rows must be requested in ascending order.
    fn take(&mut self, row: usize) -> Result<Option<FileAction>, ArrowError> {
        let vector = self.vectors.next_if(|(at, _)| *at == row).map(|(_, vector)| Box::new(vector));
        if self.whole.is_null(row) || self.path.is_null(row) {
            return Ok(None);
        }
        let number = |column: &Int64Array| column.is_valid(row).then(|| column.value(row));
        let size = number(self.size).map(|size| u64::try_from(size).map_err(|_| malformed("size"))).transpose()?;
        let values = self.partition_values.is_valid(row).then(|| self.partition_values.value(row));
        Ok(Some(FileAction {
            kind: self.kind,
            path: self.path.value(row).into(),
            size,
            partition_values: values.map(|values| pairs(&values)).transpose()?,
            changed_at: self.changed_at.and_then(number),
            data_change: self.kind != ActionKind::Cdc && self.data_change.is_valid(row) && self.data_change.value(row),
            extended_metadata: self.extended_metadata.filter(|said| said.is_valid(row)).map(|said| said.value(row)),
            stats: self.stats.filter(|stats| stats.is_valid(row)).map(|stats| stats.value(row).into()),
            vector,
        }))
    }
}

/// Returns partition values sorted by name; the last one wins if a name occurs twice.
fn pairs(entries: &StructArray) -> Result<Box<PartitionPairs>, ArrowError> {
    let texts = |column: usize| {
        let texts = entries.columns().get(column).and_then(|column| column.as_string_opt::<i32>());
        texts.ok_or_else(|| malformed("partitionValues"))
    };
    let (names, values) = (texts(0)?, texts(1)?);
    let pairs: BTreeMap<Box<str>, Option<Box<str>>> =
        names.iter().flatten().map(Box::from).zip(values.iter().map(|value| value.map(Box::from))).collect();
    Ok(pairs.into_iter().collect())
}

/// Reads a whole number as tolerantly as the reader of actions: also from text, and from a number with a fraction.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        #[allow(clippy::cast_possible_truncation)]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InfoLine {
    commit_info: Option<CommitInfo>,
}

/// The commit's information about itself. Writers put anything here, so no content of it can make a commit malformed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitInfo {
    operation: Option<Value>,
    operation_metrics: Option<Value>,
    in_commit_timestamp: Option<Value>,
}

impl CommitInfo {
    /// Finds the commit information, in whichever line it is.
    fn find(text: &[u8]) -> Option<Self> {
        const KIND: &[u8] = b"\"commitInfo\"";
        let is_info = |line: &&[u8]| line[..line.len().min(KIND_WITHIN)].windows(KIND.len()).any(|part| part == KIND);
        let mut lines = text.split(|&byte| byte == b'\n').filter(is_info);
        lines.find_map(|line| serde_json::from_slice::<InfoLine>(line).ok()?.commit_info)
    }

    /// Returns whether this is a merge that changed no row; false if a metric is missing.
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
    fn what_is_no_commit_is_refused() {
        let lacking = |part: &str| ADD.replace(part, "");
        for text in [
            "x",
            "[]",
            "null\n{}",
            "{\"add\":{}}",
            "{\"add\":{\"path\":[]}}",
            "\u{feff}{}",
            &format!("{ADD}\n{{"),
            &ADD.replace("\"size\":5", "\"size\":-5"),
            &ADD.replace("\"size\":5", "\"size\":\"5x\""),
            &lacking("\"size\":5,"),
            &lacking("\"partitionValues\":{\"p\":null,\"d\":\"x\"},"),
        ] {
            assert!(CommitText::parse(0, text.as_bytes()).is_err(), "{text}");
        }
        assert!(CommitText::parse(0, b"{\"remove\":{\"path\":\"\xff\",\"dataChange\":true}}").is_err());
    }

    #[test]
    fn texts_and_numbers_stand_for_each_other() {
        let text = ADD.replace("\"size\":5", "\"size\":\"5\"").replace("\"d\":\"x\"", "\"d\":1.50,\"b\":true");
        let text = text.replace("\"modificationTime\":3", "\"modificationTime\":3.0");
        let CommitText { commit, .. } = read(&text);
        let file = commit.files[0].as_file().unwrap();
        assert_eq!((file.size, file.modification_time), (5, 3));
        let values: Vec<_> = file.partition_values().collect();
        assert_eq!(values, [("b", Some("true")), ("d", Some("1.50")), ("p", None)]);
        let info = |time: &str| format!("{{\"commitInfo\":{{\"inCommitTimestamp\":{time}}}}}");
        for time in ["12", "\"12\"", "12.0"] {
            assert_eq!(read(&info(time)).in_commit_timestamp, Some(12), "{time}");
        }
    }

    #[test]
    fn metadata_may_leave_out_what_has_a_default() {
        let schema = r#"{\"type\":\"struct\",\"fields\":[]}"#;
        let metadata = |rest: &str| {
            let text = format!(r#"{{"metaData":{{"id":"i","schemaString":"{schema}"{rest}}}}}"#);
            read(&text).commit.metadata.unwrap()
        };
        for rest in [
            "",
            r#","format":null,"partitionColumns":null,"configuration":null"#,
            r#","format":{},"partitionColumns":[],"configuration":{}"#,
            r#","format":{"provider":"parquet","options":{}},"configuration":{"a":null}"#,
        ] {
            let read = metadata(rest);
            assert_eq!((read.format_provider.as_str(), read.partition_columns.len()), ("parquet", 0), "{rest}");
            assert!(read.configuration.is_empty(), "{rest}");
        }
        let read = metadata(r#","name":5,"partitionColumns":["a"],"configuration":{"a":true,"b":7}"#);
        assert_eq!((read.name.as_deref(), read.partition_columns.as_slice()), (Some("5"), &["a".to_owned()][..]));
        assert_eq!((read.configuration["a"].as_str(), read.configuration["b"].as_str()), ("true", "7"));
        assert!(CommitText::parse(0, br#"{"metaData":{"id":"i"}}"#).is_err(), "it has no schema");
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
