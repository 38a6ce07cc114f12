//! Handles source files without a column because the column was added to the table later; in these files it is NULL.
//! The table's log tells whether that is so; it is read only if the engine misses a column that matters for what is
//! shown. Never here: which columns those are.

use std::{future::Future, sync::Arc};

use crate::{
    domain::catalog::{
        delta::Metadata,
        schema::{Among, ColumnPath, DataType, Field, Schema, Step, find_name},
    },
    engine::{EngineError, SourceFile},
    lake::LakeError,
};

use super::{Materializer, making::source_file, served::Source};

impl Materializer {
    /// Runs `work` on the file at `index` of `source`, whose columns are `schema`.
    ///
    /// If the file lacks a column, consults the log and tries again.
    pub(in crate::service) async fn with_file<T, F: Future<Output = Result<T, EngineError>>>(
        &self,
        source: &Source,
        schema: &Arc<Schema>,
        index: usize,
        work: impl Fn(SourceFile) -> F,
    ) -> Result<T, EngineError> {
        let mut files = vec![source_file(source, Arc::clone(schema), index)?];
        loop {
            let outcome = work(files.first().cloned().ok_or(EngineError::Missing)?).await;
            match &outcome {
                Err(EngineError::Lacks(column))
                    if self.excuse(source, schema, &[index], &mut files, 0, column).await? => {}
                _ => return outcome,
            }
        }
    }

    /// Whether `files` (those at `indices`) can be tried again although the one at place `at` lacks `column`, because
    /// that file is older than the column. Marks all of the files that are older.
    pub(super) async fn excuse(
        &self,
        source: &Source,
        schema: &Schema,
        indices: &[usize],
        files: &mut [SourceFile],
        at: usize,
        column: &ColumnPath,
    ) -> Result<bool, EngineError> {
        if files.get(at).is_none_or(|file| file.added_later.contains(column)) {
            return Ok(false);
        }
        for (index, file) in indices.iter().zip(files.iter_mut()) {
            if !file.added_later.contains(column) && self.is_older(source, schema, *index, column).await? {
                file.added_later.push(column.clone());
            }
        }
        Ok(files.get(at).is_some_and(|file| file.added_later.contains(column)))
    }

    /// Whether the file at `index` was in the table before `column` was.
    async fn is_older(
        &self,
        source: &Source,
        schema: &Schema,
        index: usize,
        column: &ColumnPath,
    ) -> Result<bool, EngineError> {
        let (Some(file), Ok(found)) = (source.snapshot.files().get(index), schema.lookup(column)) else {
            return Ok(false);
        };
        let maps_columns = source.snapshot.metadata().maps_columns();
        let lacks = |past: &Metadata| {
            Schema::parse(&past.schema_string)
                .is_ok_and(|was| !has(&was, past.maps_columns(), &found.steps, maps_columns))
        };
        let history = self.lake.history_until(&source.location, Arc::clone(&source.snapshot)).await;
        match history.was_in_table_when(file.path, lacks).await {
            Ok(was_in_table) => Ok(was_in_table),
            Err(error @ LakeError::Unavailable { .. }) => Err(EngineError::Unavailable(Arc::new(error))),
            // If an old part of the log cannot be read, the answer is no.
            Err(error) => {
                tracing::debug!(table.location = source.location.url(), %error, "a table's past could not be read");
                Ok(false)
            }
        }
    }
}

/// Whether an older schema has the column that `steps` lead to in the newer one. Columns are found as in files: by
/// exact name, else by the only name that differs just by case. If that is ambiguous, the answer is yes.
fn has(schema: &Schema, mapped_then: bool, steps: &[Step<'_>], maps_columns: bool) -> bool {
    let find = |fields: &[Field], wanted: &Field| {
        find_name(fields.iter().map(|field| field.physical_name(mapped_then)), wanted.physical_name(maps_columns))
    };
    let mut fields = Some(&schema.fields);
    let mut here: Option<&DataType> = None;
    for step in steps {
        here = match (step, here, fields.take()) {
            (Step::Field(wanted), None, Some(fields)) | (Step::Field(wanted), Some(DataType::Struct(fields)), _) => {
                match find(fields, wanted) {
                    Among::At(at) => fields.get(at).map(|field| &field.data_type),
                    Among::Nowhere => return false,
                    Among::Somewhere => return true,
                }
            }
            (Step::Element { .. }, Some(DataType::Array { element, .. }), _) => Some(element),
            (Step::Key, Some(DataType::Map { key, .. }), _) => Some(key),
            (Step::Value { .. }, Some(DataType::Map { value, .. }), _) => Some(value),
            // The older schema has another type here, so what its files hold is unknown.
            _ => return true,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn schema(fields: Value) -> Schema {
        Schema::from_json(&json!({"type": "struct", "fields": fields})).unwrap()
    }

    fn field(name: &str, data_type: Value) -> Value {
        json!({"name": name, "type": data_type, "nullable": true, "metadata": {}})
    }

    #[test]
    fn a_column_that_was_spelt_in_another_case_was_there() {
        let inner = |fields: Value| json!({"type": "struct", "fields": fields});
        let was = schema(json!([
            field("Opted_Out_At", json!("date")),
            field("S", inner(json!([field("X", json!("long"))]))),
            field("Both", inner(json!([field("x", json!("long"))]))),
            field("BOTH", json!("long")),
        ]));
        let now = schema(json!([
            field("opted_out_at", json!("date")),
            field("s", inner(json!([field("x", json!("long")), field("y", json!("long"))]))),
            field("both", inner(json!([field("y", json!("long"))]))),
            field("new", json!("long")),
        ]));
        for (path, expected) in
            [("opted_out_at", true), ("s.x", true), ("s.y", false), ("both.y", true), ("new", false)]
        {
            let found = now.lookup(&path.parse().unwrap()).unwrap();
            assert_eq!(has(&was, false, &found.steps, false), expected, "{path}");
        }
    }

    #[test]
    fn columns_are_told_apart_by_their_names_in_files() {
        let inner = |fields: Value| json!({"type": "struct", "fields": fields});
        let list = |element: Value| json!({"type": "array", "elementType": element, "containsNull": true});
        let was = schema(json!([
            field("a", json!("long")),
            field("s", inner(json!([field("x", json!("long"))]))),
            field("l", list(inner(json!([field("x", json!("long"))])))),
        ]));
        let mut now = schema(json!([
            field("a", json!("long")),
            field("b", json!("long")),
            field("s", inner(json!([field("x", json!("long")), field("y", json!("long"))]))),
            field("l", list(inner(json!([field("x", json!("long")), field("y", json!("long"))])))),
        ]));
        let had = |now: &Schema, maps_columns: bool, path: &str| {
            let found = now.lookup(&path.parse().unwrap()).unwrap();
            has(&was, false, &found.steps, maps_columns)
        };
        for (path, expected) in
            [("a", true), ("b", false), ("s.x", true), ("s.y", false), ("l.element.x", true), ("l.element.y", false)]
        {
            assert_eq!(had(&now, false, path), expected, "{path}");
        }
        // A column that was renamed under column mapping is the same column; another column under its old name is not.
        let physical = |name: &str| json!({"delta.columnMapping.physicalName": name}).as_object().unwrap().clone();
        now.fields[1].metadata = physical("a");
        now.fields[0].metadata = physical("col-1");
        assert!(had(&now, true, "b") && !had(&now, true, "a"));
    }
}
