//! Queries with predicates and limits over HTTP: which files are skipped, and which never are.

use axum::body::Body;
use http::{Request, header};
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp, on_both_databases},
    tables::{HandWrittenLog, metadata, protocol, protocol_with},
};

on_both_databases!(
    check_085_a_limit_takes_as_many_files_as_hold_the_rows,
    check_086_a_limit_counts_live_rows,
    check_087_a_limit_beside_a_predicate_counts_only_rows_that_match_for_certain,
    check_088_unparsable_sql_keeps_every_file,
    check_089_sql_is_fine_on_tables_with_deletion_vectors_and_mapped_columns,
    check_090_json_predicates_prune_partitions,
    check_091_json_predicates_prune_by_statistics,
    check_092_to_093_negations_keep_what_may_match,
    check_094_nulls_are_found,
    check_095_another_type_prunes_nothing,
    what_statistics_leave_out_may_be_in_the_file,
    statistics_tell_of_nothing_but_the_tables_columns,
    check_096_whatever_is_not_understood_keeps_every_file,
    sql_predicates_prune_and_are_joined_with_json,
    pages_hold_the_selected_files_once_each,
    what_is_recorded_is_what_was_selected,
);

/// Shares a table `t` and returns a token. Files 1 to 4 have as many bytes and one row each; the days are 1, 1, 2 and
/// null, the ids 1 to 4, and file 4 has no statistics.
async fn share_days(app: &TestApp) -> String {
    let columns = [("id", "long"), ("note", "string"), ("day", "date")];
    let mut log = HandWrittenLog::create(&app.folder("t"), protocol(1, 2), metadata("t", &columns, &["day"]));
    let file = |number: i64, day: Option<&str>| {
        let mut add = add(number, json!({"day": day}));
        if day.is_some() {
            let stats = json!({"numRecords": 1, "minValues": {"id": number}, "maxValues": {"id": number},
                "nullCount": {"id": 0, "note": 1 - number % 2}});
            add["add"]["stats"] = stats.to_string().into();
        }
        add
    };
    let (first, second) = (Some("2020-01-01"), Some("2020-01-02"));
    log.commit(&[file(1, first), file(2, first), file(3, second), file(4, None)]);
    share(app).await
}

fn add(number: i64, partition_values: Value) -> Value {
    json!({"add": {"path": format!("{number}.parquet"), "partitionValues": partition_values, "size": number,
        "modificationTime": 1, "dataChange": true}})
}

async fn share(app: &TestApp) -> String {
    app.put("/tables/t", json!({"location": app.location("t")})).await.expect(201);
    app.put("/shares/insurer", json!({})).await.expect(201);
    app.put("/shares/insurer/objects/s/t", json!({"source": {"table": "t"}})).await.expect(201);
    app.grant_acme().await;
    app.token_for_acme().await["token"].as_str().unwrap().to_owned()
}

async fn query(app: &TestApp, token: &str, body: &Value) -> Answer {
    let request = Request::post("/delta-sharing/shares/insurer/schemas/s/tables/t/query")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(
            "delta-sharing-capabilities",
            "responseformat=delta,parquet;readerfeatures=deletionvectors,columnmapping;includeendstreamaction=true",
        );
    app.send(request.body(Body::from(body.to_string())).unwrap()).await
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sizes of an answer's files, sorted.
fn sizes(answer: &Answer) -> Vec<i64> {
    let size = |line: &Value| {
        let file = &line["file"];
        file["size"].as_i64().or(file["deltaSingleAction"]["add"]["size"].as_i64())
    };
    let mut sizes: Vec<_> = lines(answer).iter().filter_map(size).collect();
    sizes.sort_unstable();
    sizes
}

async fn selected(app: &TestApp, token: &str, body: Value) -> Vec<i64> {
    sizes(&query(app, token, &body).await)
}

fn hint(tree: &Value) -> Value {
    json!({"jsonPredicateHints": tree.to_string()})
}

fn column(name: &str, value_type: &str) -> Value {
    json!({"op": "column", "name": name, "valueType": value_type})
}

fn compare(op: &str, name: &str, value_type: &str, value: &str) -> Value {
    let literal = json!({"op": "literal", "value": value, "valueType": value_type});
    json!({"op": op, "children": [column(name, value_type), literal]})
}

fn not(tree: &Value) -> Value {
    json!({"op": "not", "children": [tree]})
}

async fn check_085_a_limit_takes_as_many_files_as_hold_the_rows(app: TestApp) {
    let token = share_days(&app).await;
    assert_eq!(selected(&app, &token, json!({"limitHint": 2})).await.len(), 2);
    assert!(selected(&app, &token, json!({"limitHint": 0})).await.is_empty());
    assert_eq!(selected(&app, &token, json!({"limitHint": "4"})).await, [1, 2, 3, 4]);
    assert_eq!(selected(&app, &token, json!({"limitHint": -1})).await, [1, 2, 3, 4]);
    // The first lines are the same, however few rows are wanted.
    let head = |answer: &Answer| lines(answer)[..2].to_vec();
    let (none, all) = (json!({"limitHint": 0}), json!({}));
    assert_eq!(head(&query(&app, &token, &none).await), head(&query(&app, &token, &all).await));
}

async fn check_086_a_limit_counts_live_rows(app: TestApp) {
    let mut log = HandWrittenLog::create(
        &app.folder("t"),
        protocol_with(&["deletionVectors"]),
        metadata("t", &[("id", "long")], &[]),
    );
    let file = |number: i64| {
        let mut add = add(number, json!({}));
        add["add"]["stats"] = json!({"numRecords": 3}).to_string().into();
        add["add"]["deletionVector"] = json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
            "offset": number, "sizeInBytes": 40, "cardinality": 2});
        add
    };
    log.commit(&[file(1), file(2), file(3), file(4)]);
    let token = share(&app).await;
    assert_eq!(selected(&app, &token, json!({"limitHint": 3})).await.len(), 3);
    assert_eq!(selected(&app, &token, json!({"limitHint": 1})).await.len(), 1);
}

async fn check_087_a_limit_beside_a_predicate_counts_only_rows_that_match_for_certain(app: TestApp) {
    let token = share_days(&app).await;
    let with_limit = |tree: Value| json!({"jsonPredicateHints": tree.to_string(), "limitHint": 1});
    let day = compare("equal", "day", "date", "2020-01-01");
    assert_eq!(selected(&app, &token, with_limit(day)).await.len(), 1);
    // All notes of file 2 are null; the notes of the others are unknown.
    let may = compare("equal", "note", "string", "x");
    assert_eq!(selected(&app, &token, with_limit(may)).await, [1, 3, 4]);
    // A hint that cannot be parsed still means that not every row is wanted.
    let unreadable = json!({"predicateHints": ["note LIKE 'x%'"], "limitHint": 1});
    assert_eq!(selected(&app, &token, unreadable).await, [1, 2, 3, 4]);
}

async fn check_088_unparsable_sql_keeps_every_file(app: TestApp) {
    let token = share_days(&app).await;
    for hint in ["id >", "'", "🐉", "upper(note) = 'X'", "nobody = 1", "day = 'tomorrow'", ""] {
        assert_eq!(selected(&app, &token, json!({"predicateHints": [hint]})).await, [1, 2, 3, 4], "{hint}");
    }
}

async fn check_089_sql_is_fine_on_tables_with_deletion_vectors_and_mapped_columns(app: TestApp) {
    let mut metadata = metadata("t", &[], &[]);
    let id = json!({"name": "id", "type": "long", "nullable": true, "metadata": {
        "delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1",
    }});
    metadata["metaData"]["schemaString"] = json!({"type": "struct", "fields": [id]}).to_string().into();
    metadata["metaData"]["configuration"] =
        json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "1"});
    let features = ["columnMapping", "deletionVectors"];
    let mut log = HandWrittenLog::create(&app.folder("t"), protocol_with(&features), metadata);
    let file = |number: i64| {
        let mut add = add(number, json!({}));
        let bounds = json!({"col-1": number});
        let stats = json!({"numRecords": 2, "tightBounds": false, "minValues": bounds, "maxValues": bounds});
        add["add"]["stats"] = stats.to_string().into();
        add["add"]["deletionVector"] = json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
            "offset": number, "sizeInBytes": 40, "cardinality": 1});
        add
    };
    log.commit(&[file(1), file(2)]);
    let token = share(&app).await;
    assert_eq!(selected(&app, &token, json!({"predicateHints": ["id = 2"]})).await, [2]);
    assert_eq!(selected(&app, &token, json!({"predicateHints": ["`col-1` = 2"]})).await, [1, 2]);
}

async fn what_statistics_leave_out_may_be_in_the_file(app: TestApp) {
    let columns = [("x", "double"), ("at", "timestamp")];
    let mut log = HandWrittenLog::create(&app.folder("t"), protocol(1, 2), metadata("t", &columns, &[]));
    // A NaN that its writer left out beside 1, and a UTC offset that lost its seconds.
    let file = |number: i64, x: f64, at: &str| {
        let mut add = add(number, json!({}));
        let bounds = json!({"x": x, "at": at});
        let stats = json!({"numRecords": 2, "minValues": bounds, "maxValues": bounds, "nullCount": {"x": 0, "at": 0}});
        add["add"]["stats"] = stats.to_string().into();
        add
    };
    log.commit(&[file(1, 1.0, "1850-01-01T01:01:01.000+00:53"), file(2, 10.0, "2020-01-01T00:00:00.000Z")]);
    let token = share(&app).await;
    for sql in ["x > 5.0", "x >= 2.0", "NOT (x <= 5.0)"] {
        assert_eq!(selected(&app, &token, json!({"predicateHints": [sql]})).await, [1, 2], "{sql}");
    }
    for op in ["greaterThan", "greaterThanOrEqual"] {
        assert_eq!(selected(&app, &token, hint(&compare(op, "x", "double", "5.0"))).await, [1, 2], "{op}");
        assert_eq!(selected(&app, &token, hint(&not(&compare(op, "x", "double", "5.0")))).await, [1, 2], "{op}");
    }
    assert_eq!(selected(&app, &token, hint(&compare("lessThan", "x", "double", "5.0"))).await, [1]);
    assert_eq!(selected(&app, &token, hint(&compare("equal", "x", "double", "5.0"))).await, [0; 0]);
    for op in ["equal", "lessThanOrEqual", "greaterThanOrEqual"] {
        let kept = selected(&app, &token, hint(&compare(op, "at", "timestamp", "1850-01-01T00:07:33Z"))).await;
        assert!(kept.contains(&1), "{op}: {kept:?}");
    }
    let sql = json!({"predicateHints": ["at <= TIMESTAMP '1850-01-01T00:07:33Z'"]});
    assert_eq!(selected(&app, &token, sql).await, [1]);
}

async fn statistics_tell_of_nothing_but_the_tables_columns(app: TestApp) {
    let columns = [("id", "long"), ("gone", "string")];
    let mut log = HandWrittenLog::create(&app.folder("t"), protocol(1, 2), metadata("t", &columns, &[]));
    let file = |number: i64| {
        let mut add = add(number, json!({}));
        let bounds = json!({"id": number, "gone": "zsecret", "zforeign": "zsecret", "note": {"zforeign": 1}});
        let stats = json!({"numRecords": 1, "minValues": bounds, "maxValues": bounds, "nullCount": {"id": 0, "zforeign": 0},
            "zforeign": "zsecret"});
        add["add"]["stats"] = stats.to_string().into();
        add
    };
    // Statistics of a current writer are passed on unchanged.
    let clean = r#"{"numRecords":1,"minValues":{"id":3},"maxValues":{"id":3},"nullCount":{"id":0},"tightBounds":true}"#;
    let mut third = add(3, json!({}));
    third["add"]["stats"] = clean.into();
    log.commit(&[file(1)]);
    log.commit(&[metadata("t", &columns[..1], &[]), file(2), third]);
    app.put("/tables/t", json!({"location": app.location("t")})).await.expect(201);
    app.put("/shares/insurer", json!({})).await.expect(201);
    let body = json!({"source": {"table": "t"}, "history": true, "start_version": 0});
    app.put("/shares/insurer/objects/s/t", body).await.expect(201);
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let stats = |answer: &Answer| {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let of = |line: Value| {
            let pointers = ["/file/stats", "/add/stats", "/file/deltaSingleAction/add/stats"];
            pointers.iter().find_map(|at| Some(line.pointer(at)?.as_str()?.to_owned()))
        };
        let mut stats: Vec<String> =
            answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).filter_map(of).collect();
        stats.sort();
        stats
    };
    let of = |id: i64| {
        let bounds = format!(r#"{{"id":{id}}}"#);
        format!(r#"{{"numRecords":1,"minValues":{bounds},"maxValues":{bounds},"nullCount":{{"id":0}}}}"#)
    };
    let bounds = |gone: &str| format!(r#"{{{gone}"id":1}}"#);
    let first = bounds(r#""gone":"zsecret","#);
    let before = format!(r#"{{"numRecords":1,"minValues":{first},"maxValues":{first},"nullCount":{{"id":0}}}}"#);
    assert_eq!(stats(&query(&app, &token, &json!({})).await), [of(1), of(2), clean.to_owned()]);
    // A column of that time is a column in older versions.
    assert_eq!(stats(&query(&app, &token, &json!({"version": 1})).await), std::slice::from_ref(&before));
    let changes = query(&app, &token, &json!({"startingVersion": 1})).await;
    assert_eq!(stats(&changes), [before, of(2), clean.to_owned()]);
    assert!(!changes.text.contains("zforeign"), "{}", changes.text);
}

async fn check_090_json_predicates_prune_partitions(app: TestApp) {
    let token = share_days(&app).await;
    let days = |op, value| hint(&compare(op, "day", "date", value));
    assert_eq!(selected(&app, &token, days("equal", "2020-01-01")).await, [1, 2]);
    assert_eq!(selected(&app, &token, days("greaterThan", "2020-01-01")).await, [3]);
    assert_eq!(selected(&app, &token, days("greaterThanOrEqual", "2020-01-01")).await, [1, 2, 3]);
    assert_eq!(selected(&app, &token, days("lessThan", "2020-01-02")).await, [1, 2]);
    assert_eq!(selected(&app, &token, days("lessThanOrEqual", "2020-01-02")).await, [1, 2, 3]);
    assert!(selected(&app, &token, days("equal", "2020-01-03")).await.is_empty());
}

async fn check_091_json_predicates_prune_by_statistics(app: TestApp) {
    let token = share_days(&app).await;
    let ids = |op, value| hint(&compare(op, "id", "long", value));
    assert_eq!(selected(&app, &token, ids("equal", "2")).await, [2, 4]);
    assert_eq!(selected(&app, &token, ids("lessThan", "2")).await, [1, 4]);
    assert_eq!(selected(&app, &token, ids("greaterThanOrEqual", "2")).await, [2, 3, 4]);
}

async fn check_092_to_093_negations_keep_what_may_match(app: TestApp) {
    let token = share_days(&app).await;
    let equal = compare("equal", "id", "long", "2");
    assert_eq!(selected(&app, &token, hint(&not(&equal))).await, [1, 3, 4]);
    // The notes' values are unknown, and so is everything in file 4.
    let equal = compare("equal", "note", "string", "x");
    assert_eq!(selected(&app, &token, hint(&not(&equal))).await, [1, 2, 3, 4]);
    let is_null = json!({"op": "isNull", "children": [column("note", "string")]});
    assert_eq!(selected(&app, &token, hint(&not(&is_null))).await, [1, 3, 4]);
}

async fn check_094_nulls_are_found(app: TestApp) {
    let token = share_days(&app).await;
    let is_null = |name, value_type| hint(&json!({"op": "isNull", "children": [column(name, value_type)]}));
    assert_eq!(selected(&app, &token, is_null("note", "string")).await, [2, 4]);
    assert_eq!(selected(&app, &token, is_null("day", "date")).await, [4]);
    let not_null = json!({"op": "not", "children": [{"op": "isNull", "children": [column("day", "date")]}]});
    assert_eq!(selected(&app, &token, hint(&not_null)).await, [1, 2, 3]);
}

async fn check_095_another_type_prunes_nothing(app: TestApp) {
    let token = share_days(&app).await;
    for (name, value_type, value) in [("id", "int", "2"), ("id", "string", "2"), ("day", "string", "2020-01-01")] {
        let tree = compare("equal", name, value_type, value);
        assert_eq!(selected(&app, &token, hint(&tree)).await, [1, 2, 3, 4], "{tree}");
        let joined = json!({"op": "and", "children": [tree, compare("equal", "id", "long", "2")]});
        assert_eq!(selected(&app, &token, hint(&joined)).await, [2, 4], "{joined}");
    }
}

async fn check_096_whatever_is_not_understood_keeps_every_file(app: TestApp) {
    let token = share_days(&app).await;
    let known = compare("equal", "id", "long", "2");
    let deep = (0..100).fold(known.clone(), |tree, _| not(&tree)).to_string();
    let joined_with = |other: Value| json!({"op": "and", "children": [known, other]}).to_string();
    let wide = format!("{known}{}", " ".repeat((1 << 20) + 1 - known.to_string().len()));
    for text in [
        String::new(),
        " ".into(),
        "{".into(),
        "null".into(),
        "\u{0}".into(),
        deep,
        wide,
        joined_with(json!({"op": "startsWith", "children": []})),
        joined_with(compare("equal", "nobody", "long", "2")),
        joined_with(compare("equal", "id", "decimal", "2")),
        joined_with(compare("equal", "id", "long", "two")),
    ] {
        let start: String = text.chars().take(80).collect();
        assert_eq!(selected(&app, &token, json!({"jsonPredicateHints": text})).await, [1, 2, 3, 4], "{start}");
    }
}

async fn sql_predicates_prune_and_are_joined_with_json(app: TestApp) {
    let token = share_days(&app).await;
    let date = "(partitionValues.day IS NOT NULL) AND (CAST(partitionValues.day AS DATE) = DATE '2020-01-01')";
    assert_eq!(selected(&app, &token, json!({"predicateHints": [date]})).await, [1, 2]);
    assert_eq!(selected(&app, &token, json!({"predicateHints": [date, "`ID` <> 1", "oops("]})).await, [2]);
    let json = compare("lessThan", "id", "long", "2").to_string();
    assert_eq!(selected(&app, &token, json!({"predicateHints": [date], "jsonPredicateHints": json})).await, [1]);
}

async fn pages_hold_the_selected_files_once_each(app: TestApp) {
    let token = share_days(&app).await;
    let mut body = hint(&compare("lessThanOrEqual", "day", "date", "2020-01-02"));
    body["maxFiles"] = 2.into();
    let first = query(&app, &token, &body).await;
    let end = lines(&first).pop().unwrap();
    body["pageToken"] = end["endStreamAction"]["nextPageToken"].clone();
    let second = query(&app, &token, &body).await;
    assert_eq!((sizes(&first).len(), sizes(&second).len()), (2, 1));
    let mut all = [sizes(&first), sizes(&second)].concat();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
    assert_eq!(lines(&second).pop().unwrap()["endStreamAction"].get("nextPageToken"), None);
}

async fn what_is_recorded_is_what_was_selected(app: TestApp) {
    let token = share_days(&app).await;
    let body = hint(&compare("equal", "day", "date", "2020-01-01"));
    assert_eq!(selected(&app, &token, body).await, [1, 2]);
    let event = &app.events("table.query").await[0];
    assert_eq!((&event["files"], &event["rows"], &event["bytes"]), (&json!(2), &json!(2), &json!(3)));
    assert!(event["predicate_digest"].is_string());
    let none = hint(&compare("equal", "day", "date", "2021-01-01"));
    let answer = query(&app, &token, &none).await;
    assert!(sizes(&answer).is_empty());
    let event = &app.events("table.query").await[0];
    assert_eq!((&event["files"], &event["bytes"], &event["url_expires_at"]), (&json!(0), &json!(0), &Value::Null));
}
