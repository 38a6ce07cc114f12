//! How a table's columns are found in its files: in any case, by ids if the table maps by id. A missing column never
//! counts as NULL if that would show hidden rows.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, StructArray},
    datatypes::{DataType, Field, Schema as ArrowSchema},
};
use serde_json::{Value as Json, json};
use weir::{
    domain::catalog::schema::{ColumnPath, Schema},
    engine::{ColumnMapping, EngineError, SourceFile},
};

use super::sample::{cells, engine, read, rules, source_of, try_make};

const ID: &str = "PARQUET:field_id";

fn column(name: &str, data_type: Json, nullable: bool, metadata: Json) -> Json {
    json!({"name": name, "type": data_type, "nullable": nullable, "metadata": metadata})
}

fn table(columns: &[Json]) -> Schema {
    Schema::from_json(&json!({"type": "struct", "fields": columns})).unwrap()
}

/// People, some of whom have opted out. `names` are the columns' names in the file and `ids` their ids.
fn people(names: [&str; 2], ids: [Option<i32>; 2]) -> RecordBatch {
    let fields = names.iter().zip(ids).zip([DataType::Utf8, DataType::Date32]).map(|((name, id), data_type)| {
        let id = id.map(|id| (ID.to_owned(), id.to_string()));
        Field::new(*name, data_type, true).with_metadata(HashMap::from_iter(id))
    });
    let people: [ArrayRef; 2] = [
        Arc::new(StringArray::from(vec!["ann", "bob", "cyd"])),
        Arc::new(Date32Array::from(vec![None, Some(19_723), None])),
    ];
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())), people.to_vec()).unwrap()
}

fn consents() -> Schema {
    table(&[column("name", json!("string"), true, json!({})), column("opted_out_at", json!("date"), true, json!({}))])
}

const SHOWS_NAMES: &str = "opted_out_at IS NULL";

fn names_of_those_who_stay(schema: &Schema) -> Arc<weir::engine::Rules> {
    rules(schema, &[], json!({"columns": [{"name": "name"}], "row_filter": SHOWS_NAMES}), json!({}))
}

async fn shown(source: &SourceFile, rules: &Arc<weir::engine::Rules>) -> Result<Vec<Option<String>>, EngineError> {
    let (_, content) = try_make(source, rules).await?;
    let rows = content.map_or_else(Vec::new, |content| cells(&read(&content)));
    Ok(rows.into_iter().map(|row| row[0].clone()).collect())
}

fn texts(of: &[&str]) -> Vec<Option<String>> {
    of.iter().map(|text| Some((*text).to_owned())).collect()
}

#[tokio::test]
async fn a_column_is_found_in_another_case_where_one_alone_is_spelt_so() {
    let schema = consents();
    let rules = names_of_those_who_stay(&schema);
    for names in [["name", "opted_out_at"], ["Name", "OPTED_OUT_AT"], ["NAME", "Opted_Out_At"]] {
        let source = source_of(&[people(names, [None; 2])], &schema).await;
        assert_eq!(shown(&source, &rules).await.unwrap(), texts(&["ann", "cyd"]), "{names:?}");
        let counted = engine().count(source, rules.condition.clone()).await.unwrap();
        assert_eq!((counted.live, counted.shown), (3, 2), "{names:?}");
    }
    // An exact name takes precedence over the others.
    let both = people(["name", "opted_out_at"], [None; 2]);
    let mut columns = both.columns().to_vec();
    columns.insert(1, Arc::new(Date32Array::from(vec![None; 3])));
    let fields = ["name", "OPTED_OUT_AT", "opted_out_at"].iter().zip(&columns);
    let both = RecordBatch::try_from_iter(fields.map(|(name, column)| (*name, Arc::clone(column)))).unwrap();
    assert_eq!(
        shown(&source_of(std::slice::from_ref(&both), &schema).await, &rules).await.unwrap(),
        texts(&["ann", "cyd"])
    );
    // Without it the match is ambiguous, whether or not anything depends on the column.
    let unclear = RecordBatch::try_from_iter(
        ["name", "OPTED_OUT_AT", "Opted_Out_At"].iter().zip(both.columns()).map(|(n, c)| (*n, Arc::clone(c))),
    );
    let unclear = source_of(&[unclear.unwrap()], &schema).await;
    let all = weir_rules_of_all(&schema);
    for rules in [&rules, &all] {
        let error = try_make(&unclear, rules).await.unwrap_err();
        assert!(matches!(&error, EngineError::Unclear(path) if path.0 == ["opted_out_at"]), "{error:?}");
    }
}

fn weir_rules_of_all(schema: &Schema) -> Arc<weir::engine::Rules> {
    super::sample::show(schema, &["name", "opted_out_at"])
}

#[tokio::test]
async fn what_is_missing_is_null_only_where_that_hides_nothing() {
    let schema = consents();
    let lacking = people(["name", "opted_out_at"], [None; 2]).project(&[0]).unwrap();
    let mut source = source_of(&[lacking], &schema).await;
    // Shown unmasked.
    assert_eq!(try_make(&source, &weir_rules_of_all(&schema)).await.unwrap().0.rows, 3);
    // Read by a filter or by a mask.
    let masked = json!({"columns": [{"name": "name"}, {"name": "opted_out_at", "mask": "redact"}]});
    let masked = rules(&schema, &[], masked, json!({}));
    let filtered = names_of_those_who_stay(&schema);
    for rules in [&filtered, &masked] {
        let error = try_make(&source, rules).await.unwrap_err();
        assert!(matches!(&error, EngineError::Lacks(path) if path.0 == ["opted_out_at"]), "{error:?}");
        assert!(error.to_string().contains("`opted_out_at`"), "{error}");
    }
    let error = engine().count(source.clone(), filtered.condition.clone()).await.unwrap_err();
    assert!(matches!(error, EngineError::Lacks(_)), "{error:?}");
    let error = engine().preview(source.clone(), filtered.clone(), 10).await.unwrap_err();
    assert!(matches!(error, EngineError::Lacks(_)), "{error:?}");
    // A column masked to NULL is not read at all.
    let hidden = json!({"columns": [{"name": "name"}, {"name": "opted_out_at", "mask": "null"}]});
    assert!(try_make(&source, &rules(&schema, &[], hidden, json!({}))).await.is_ok());
    // The file is older than the column.
    source.added_later = vec![ColumnPath(vec!["opted_out_at".to_owned()])];
    assert_eq!(shown(&source, &filtered).await.unwrap(), texts(&["ann", "bob", "cyd"]));
    assert!(try_make(&source, &masked).await.is_ok());
    // The table says that it is never NULL.
    let strict = table(&[
        column("name", json!("string"), true, json!({})),
        column("opted_out_at", json!("date"), false, json!({})),
    ]);
    let lacking = people(["name", "opted_out_at"], [None; 2]).project(&[0]).unwrap();
    let source = source_of(&[lacking], &strict).await;
    let error = try_make(&source, &weir_rules_of_all(&strict)).await.unwrap_err();
    assert!(matches!(error, EngineError::Lacks(_)), "{error:?}");
    assert!(try_make(&source, &super::sample::show(&strict, &["name"])).await.is_ok());
}

#[tokio::test]
async fn nested_fields_are_found_and_missed_alike() {
    let part = |names: [&str; 2]| {
        let fields: Vec<_> = names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        let values: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(2), None])),
            Arc::new(Int64Array::from(vec![Some(7), None, None])),
        ];
        StructArray::new(fields.into(), values, None)
    };
    let file = |column: &str, names: [&str; 2]| {
        RecordBatch::try_from_iter([(column, Arc::new(part(names)) as ArrayRef)]).unwrap()
    };
    let inner = json!({"type": "struct", "fields": [
        column("x", json!("long"), true, json!({})), column("hidden", json!("long"), true, json!({}))]});
    let schema = table(&[column("s", inner, true, json!({}))]);
    let view = json!({"columns": [{"name": "x", "from": "s.x"}], "row_filter": "s.hidden IS NULL"});
    let rules = rules(&schema, &[], view, json!({}));
    for names in [["x", "hidden"], ["X", "Hidden"]] {
        let source = source_of(&[file(if names[0] == "X" { "S" } else { "s" }, names)], &schema).await;
        assert_eq!(shown(&source, &rules).await.unwrap(), [Some("2".to_owned()), None], "{names:?}");
    }
    for (names, path) in [(["x", "gone"], "s.hidden"), (["x", "hidden"], "s")] {
        let source = source_of(&[file(if path == "s" { "t" } else { "s" }, names)], &schema).await;
        let error = try_make(&source, &rules).await.unwrap_err();
        assert!(matches!(&error, EngineError::Lacks(lacking) if lacking.to_string() == path), "{error:?}");
    }
    let source = source_of(&[file("s", ["HIDDEN", "Hidden"])], &schema).await;
    let error = try_make(&source, &rules).await.unwrap_err();
    assert!(matches!(&error, EngineError::Unclear(path) if path.to_string() == "s.hidden"), "{error:?}");
}

#[tokio::test]
async fn ids_lead_to_columns_and_where_they_are_missing_names_do() {
    let mapped = |name: &str, data_type: &str, id: i32| {
        let metadata = json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{name}")});
        column(name, json!(data_type), true, metadata)
    };
    let schema = table(&[mapped("name", "string", 1), mapped("opted_out_at", "date", 2)]);
    let rules = names_of_those_who_stay(&schema);
    let source = |names, ids| {
        let schema = &schema;
        async move {
            let mut source = source_of(&[people(names, ids)], schema).await;
            source.mapping = ColumnMapping::Id;
            source
        }
    };
    const PHYSICAL: [&str; 2] = ["col-name", "col-opted_out_at"];
    for (names, ids) in [
        (PHYSICAL, [Some(1), Some(2)]),
        (PHYSICAL, [None, None]),
        // A file without its id.
        (PHYSICAL, [Some(1), None]),
        (["col-name", "COL-OPTED_OUT_AT"], [Some(1), None]),
        // Only the id counts.
        (["a", "b"], [Some(1), Some(2)]),
        (["col-opted_out_at", "col-name"], [Some(1), Some(2)]),
    ] {
        let source = source(names, ids).await;
        assert_eq!(shown(&source, &rules).await.unwrap(), texts(&["ann", "cyd"]), "{names:?} {ids:?}");
    }
    // Another column's id under its name, or one id for two columns.
    for (names, ids) in [(PHYSICAL, [Some(1), Some(9)]), (["col-name", "col-opted_out_at"], [Some(2), Some(2)])] {
        let error = try_make(&source(names, ids).await, &rules).await.unwrap_err();
        assert!(matches!(&error, EngineError::Unclear(_)), "{names:?} {ids:?} {error:?}");
    }
    for (names, ids) in [(["col-name", "other"], [Some(1), Some(9)]), (["col-name", "other"], [None, None])] {
        let error = try_make(&source(names, ids).await, &rules).await.unwrap_err();
        assert!(matches!(&error, EngineError::Lacks(_)), "{names:?} {ids:?} {error:?}");
    }
}

#[tokio::test]
async fn a_partition_value_that_the_log_leaves_out_is_null_only_where_that_hides_nothing() {
    let without = |nullable: bool| {
        let schema = table(&[
            column("name", json!("string"), true, json!({})),
            column("opted_out_at", json!("date"), nullable, json!({})),
        ]);
        let people = people(["name", "x"], [None; 2]);
        async move {
            let mut source = source_of(&[people], &schema).await;
            source.unsaid = vec!["opted_out_at".to_owned()];
            (schema, source)
        }
    };
    let partitioned = |schema: &Schema, definition: Json| rules(schema, &["opted_out_at"], definition, json!({}));
    let filtered = json!({"columns": [{"name": "name"}], "row_filter": SHOWS_NAMES});
    let masked = json!({"columns": [{"name": "name"}, {"name": "opted_out_at", "mask": "redact"}]});
    let plain = json!({"columns": [{"name": "name"}, {"name": "opted_out_at"}]});
    let (schema, mut source) = without(true).await;
    for definition in [&filtered, &masked] {
        let rules = partitioned(&schema, definition.clone());
        let error = try_make(&source, &rules).await.unwrap_err();
        assert!(matches!(&error, EngineError::Lacks(path) if path.0 == ["opted_out_at"]), "{error:?}");
    }
    let filter = partitioned(&schema, filtered.clone()).condition.clone();
    let error = engine().count(source.clone(), filter.clone()).await.unwrap_err();
    assert!(matches!(error, EngineError::Lacks(_)), "{error:?}");
    assert_eq!(try_make(&source, &partitioned(&schema, plain.clone())).await.unwrap().0.rows, 3);
    // The log says NULL.
    source.unsaid.clear();
    source.partition_values = vec![("opted_out_at".to_owned(), None)];
    let counted = engine().count(source, filter).await.unwrap();
    assert_eq!((counted.live, counted.shown), (3, 3));
    // The table says that it is never NULL.
    let (strict, source) = without(false).await;
    for definition in [plain, filtered] {
        let error = try_make(&source, &partitioned(&strict, definition)).await.unwrap_err();
        assert!(matches!(error, EngineError::Lacks(_)), "{error:?}");
    }
}
