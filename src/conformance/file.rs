//! Represents the files in an answer, in one form for both formats.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    answer::{Format, Line, Lines},
    check::{Outcome, ensure, fail},
};

/// A file line.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// `file`, `add`, `remove` or `cdf`, even if the format uses another word.
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) url: String,
    /// In bytes.
    pub(super) size: i64,
    pub(super) partition_values: Option<Map<String, Value>>,
    stats: Value,
    /// Milliseconds since 1970.
    pub(super) expires_at: Option<Value>,
    pub(super) version: Option<i64>,
    /// Milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
    pub(super) deletion_vector: Option<Value>,
    pub(super) deletion_vector_file_id: Option<String>,
    /// The missing members of an `add` in the delta format.
    pub(super) missing: Vec<&'static str>,
}

impl File {
    /// Returns the row count from the statistics.
    pub(super) fn rows(&self) -> Option<i64> {
        self.stats["numRecords"].as_i64()
    }

    /// Returns the number of live rows: the row count minus the rows that the deletion vector deletes.
    pub(super) fn live_rows(&self) -> Option<i64> {
        let deleted = self.deletion_vector.as_ref().map_or(Some(0), |vector| vector["cardinality"].as_i64());
        Some(self.rows()? - deleted?)
    }

    /// Returns a statistic of one column: `minValues`, `maxValues` or `nullCount`.
    pub(super) fn stat(&self, kind: &str, column: &str) -> Option<&Value> {
        self.stats.get(kind)?.get(column).filter(|value| !value.is_null())
    }

    pub(super) fn partition(&self, column: &str) -> Option<&Value> {
        self.partition_values.as_ref()?.get(column)
    }
}

impl Lines {
    /// Returns the listed files; fails if a line lacks something that every reader needs.
    pub(super) fn files(&self) -> Outcome<Vec<File>> {
        let lines = self.rest.iter().filter(|line| !matches!(line.kind.as_str(), "metaData" | "protocol"));
        lines.map(|line| self.file(line)).collect()
    }

    /// Returns the ids of the listed files.
    pub(super) fn ids(&self) -> Outcome<BTreeSet<String>> {
        Ok(self.files()?.into_iter().map(|file| file.id).collect())
    }

    fn file(&self, line: &Line) -> Outcome<File> {
        let shown = &self.shown;
        let (outer, mut kind) = (&line.value, line.kind.clone());
        let (action, url_key) = match self.format {
            Format::Parquet => (outer, "url"),
            Format::Delta => {
                let Some((name, action)) =
                    outer["deltaSingleAction"].as_object().and_then(|actions| actions.iter().next())
                else {
                    return fail(format!("{shown}: a file line holds no deltaSingleAction"));
                };
                kind = if name == "cdc" { "cdf".to_owned() } else { name.clone() };
                (action, "path")
            }
        };
        let text = |value: &Value, key: &str| value[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let Some(id) = text(outer, "id") else { return fail(format!("{shown}: a file line has no id")) };
        let Some(url) = text(action, url_key) else { return fail(format!("{shown}: a file line has no {url_key}")) };
        let size = action["size"].as_i64().unwrap_or(-1);
        ensure!(size >= 0, "{shown}: a file line has no size");
        let stats = match &action["stats"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            _ => Value::Null,
        };
        let needed: &[&str] = if self.format == Format::Delta && kind == "add" {
            &["partitionValues", "modificationTime", "dataChange"]
        } else {
            &[]
        };
        Ok(File {
            kind,
            id,
            url,
            size,
            partition_values: action["partitionValues"].as_object().cloned(),
            stats,
            expires_at: outer.get("expirationTimestamp").filter(|value| !value.is_null()).cloned(),
            version: outer["version"].as_i64(),
            timestamp: outer["timestamp"].as_i64(),
            deletion_vector: action.get("deletionVector").filter(|vector| vector.is_object()).cloned(),
            deletion_vector_file_id: text(outer, "deletionVectorFileId"),
            missing: needed.iter().copied().filter(|key| action.get(*key).is_none()).collect(),
        })
    }
}
