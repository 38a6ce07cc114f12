//! Queries since a version (Delta Sharing protocol, 2.4 and 2.9).

use serde_json::{Value, json};

use super::{
    COLUMNS, DELTA, Reader, commit_time, date_commits, deletion_vectors, mapped_columns, query::redacted, removed,
    share, steps, stored_vector, with_history, with_properties,
};
use crate::support::{
    app::{TestApp, on_both_databases},
    tables::{HandWrittenLog, add, metadata, protocol},
};

on_both_databases!(
    check_116_changes_since_a_version_are_added_and_removed_files,
    check_117_a_range_without_files_is_two_lines,
    check_118_later_metadata_is_told_where_it_changed,
    check_119_ranges_that_cannot_be_are_400,
    removes_say_what_the_log_says,
    values_of_other_json_types_are_read_alike_by_every_question,
    check_120_features_are_told_in_delta_format,
    check_121_historical_protocols_are_told_in_delta_format_when_asked,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

fn with_change_feed(columns: &[(&str, &str)]) -> Value {
    with_properties(metadata("steps-id", columns, &[]), json!({"delta.enableChangeDataFeed": "true"}))
}

async fn check_116_changes_since_a_version_are_added_and_removed_files(app: TestApp) {
    let mut log = steps(&app, "steps");
    // OPTIMIZE changes no data, and change files are not data files of the table.
    let (mut compacted, mut dropped) = (add("bc.parquet", 18), removed("b.parquet", 9));
    compacted["add"]["dataChange"] = json!(false);
    dropped["remove"]["dataChange"] = json!(false);
    let change =
        json!({"cdc": {"path": "_change_data/x.parquet", "partitionValues": {}, "size": 9, "dataChange": false}});
    log.commit(&[compacted, dropped, change]);
    date_commits(&log, 5);
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    let answer = reader.query("steps", json!({"startingVersion": 0})).await;
    assert_eq!(answer.version(), 0);
    assert_eq!(answer.of_kind("metaData")[0]["version"], 0);
    assert_eq!(answer.of_kind("add").len(), 3);
    let removed = answer.of_kind("remove");
    assert_eq!(removed.len(), 1);
    assert_eq!((&removed[0]["version"], &removed[0]["timestamp"]), (&json!(3), &json!(commit_time(3))));
    assert_eq!(removed[0]["id"], answer.of_kind("add")[0]["id"]);
    insta::assert_snapshot!("since_parquet", redacted(&answer));
    let answer = reader.query_as("steps", DELTA, json!({"startingVersion": 0, "endingVersion": 3})).await;
    insta::assert_snapshot!("since_delta", redacted(&answer));
    let answer = reader.query("steps", json!({"startingVersion": 1, "endingVersion": 1})).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "add"]);
}

async fn check_117_a_range_without_files_is_two_lines(app: TestApp) {
    let mut log = steps(&app, "steps");
    log.commit(&[with_change_feed(&COLUMNS)]);
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    for version in [0, 4] {
        let body = json!({"startingVersion": version, "endingVersion": version});
        let answer = reader.query("steps", body).await;
        assert_eq!(answer.kinds(), ["protocol", "metaData"]);
        assert_eq!(answer.of_kind("metaData")[0]["version"], version);
    }
}

async fn check_118_later_metadata_is_told_where_it_changed(app: TestApp) {
    let mut log = steps(&app, "steps");
    log.commit(&[with_change_feed(&[COLUMNS[0], COLUMNS[1], ("more", "string")]), add("d.parquet", 9)]);
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    let answer = reader.query("steps", json!({"startingVersion": 3})).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "add", "remove", "metaData", "add"]);
    let told = answer.of_kind("metaData");
    assert_eq!((&told[0]["version"], &told[1]["version"]), (&json!(3), &json!(4)));
    assert!(!told[0]["schemaString"].as_str().unwrap().contains("more"));
    assert!(told[1]["schemaString"].as_str().unwrap().contains("more"));
    let answer = reader.query("steps", json!({"startingVersion": 4})).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "add"]);
}

async fn check_119_ranges_that_cannot_be_are_400(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let query = async |body: Value| reader.query("steps", body).await;
    query(json!({"startingVersion": 3, "endingVersion": 2})).await.refusal(400, "INVALID_PARAMETER_VALUE");
    query(json!({"startingVersion": 0, "endingVersion": 4}))
        .await
        .refused_parameter("Provided end version(4) is invalid");
    query(json!({"startingVersion": 4})).await.refused_parameter("Start version cannot be greater than the latest");
    query(json!({"startingVersion": i64::MAX})).await.refusal(400, "INVALID_PARAMETER_VALUE");
    query(json!({"startingVersion": -1})).await.refused_parameter("cannot be negative");
    steps(&app, "late");
    share(&app, "late", json!({"history": true, "start_version": 2})).await;
    let answer = reader.query("late", json!({"startingVersion": 1})).await;
    answer.refused_parameter("You can only query table data since version 2");
    steps(&app, "closed");
    share(&app, "closed", json!({})).await;
    let answer = reader.query("closed", json!({"startingVersion": 3})).await;
    answer.refused_parameter("history sharing is not enabled");
}

/// A remove has what the log says about it; what the log omits comes from the file's own add.
async fn removes_say_what_the_log_says(app: TestApp) {
    let columns = [("id", "long"), ("name", "string")];
    let mut log = HandWrittenLog::create(&app.folder("removes"), protocol(1, 4), metadata("r", &columns, &["name"]));
    let named = |path: &str, size: u64, name: Value| {
        let mut action = add(path, size);
        action["add"]["partitionValues"] = json!({"name": name});
        action
    };
    let names = [("a", json!("x")), ("b", Value::Null), ("c", json!("z")), ("d", json!("u"))];
    log.commit(
        &names
            .iter()
            .enumerate()
            .map(|(at, (path, name))| named(path, 10 + at as u64, name.clone()))
            .collect::<Vec<_>>(),
    );
    let remove = |path: &str, said: Value| {
        let mut action = removed(path, 0);
        let action_said = action["remove"].as_object_mut().unwrap();
        for key in ["size", "partitionValues", "extendedFileMetadata"] {
            action_said.remove(key);
        }
        action_said.extend(said.as_object().unwrap().clone());
        action
    };
    let said = [
        ("a", json!({"size": 10, "partitionValues": {"name": "x"}, "extendedFileMetadata": true})),
        ("b", json!({"size": 11, "partitionValues": {"name": null}, "extendedFileMetadata": false})),
        ("c", json!({"size": 12, "partitionValues": {"name": "z"}})),
        ("d", json!({"extendedFileMetadata": false})),
    ];
    log.commit(&said.clone().map(|(path, said)| remove(path, said)));
    share(&app, "removes", with_history()).await;
    let reader = Reader::acme(&app).await;
    let answer = reader.query_as("removes", DELTA, json!({"startingVersion": 2})).await;
    let lines = answer.of_kind("file");
    assert_eq!(lines.len(), 4);
    for (line, (path, said)) in lines.iter().zip(&said) {
        let told = &line["deltaSingleAction"]["remove"];
        for (key, default) in
            [("size", json!(13)), ("partitionValues", json!({"name": "u"})), ("extendedFileMetadata", json!(true))]
        {
            let expected = said.get(key).unwrap_or(&default);
            assert_eq!(&told[key], expected, "{path} {key}");
        }
    }
}

/// One reader with one set of limits reads snapshots and commits.
async fn values_of_other_json_types_are_read_alike_by_every_question(app: TestApp) {
    let reader = Reader::acme(&app).await;
    let columns = [("id", "long"), ("p", "integer")];
    let change = |kind: &str, path: &str, value: Value| {
        let properties = json!({"delta.enableChangeDataFeed": "true"});
        let mut action = add("a.parquet", 9);
        action["add"]["partitionValues"] = json!({"p": "1"});
        let mut actions = [with_properties(metadata("odd", &columns, &["p"]), properties), action, protocol(1, 4)];
        let action = actions.iter_mut().find(|action| action.get(kind).is_some()).unwrap();
        *action.pointer_mut(&format!("/{kind}/{path}")).unwrap() = value;
        actions
    };
    for (index, (kind, path, value)) in [
        ("add", "partitionValues/p", json!(1)),
        ("add", "partitionValues/p", json!(true)),
        ("add", "size", json!("9")),
        ("add", "size", json!(9.0)),
        ("add", "modificationTime", json!("1700000000000")),
        ("metaData", "configuration", json!({"delta.enableChangeDataFeed": true})),
        ("metaData", "id", json!(5)),
        ("metaData", "createdTime", json!("1700000000000")),
        ("metaData", "format", Value::Null),
        ("metaData", "format", json!({"provider": "parquet"})),
        ("protocol", "minReaderVersion", json!("1")),
        // Values that neither accepts.
        ("add", "size", json!("nine")),
        ("add", "partitionValues", Value::Null),
        ("add", "dataChange", json!("true")),
        ("metaData", "partitionColumns", json!("p")),
        ("protocol", "minReaderVersion", json!([1])),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("odd{index}");
        let actions = change(kind, path, value.clone());
        let mut log = HandWrittenLog::plain(&app.folder(&name));
        std::fs::remove_file(log.commit_path(0)).unwrap();
        log = HandWrittenLog::create(&app.folder(&name), actions[2].clone(), actions[0].clone());
        log.commit(&[actions[1].clone()]);
        let is_read = index < 11;
        app.put("/shares/insurer", json!({})).await;
        let registered = app.put(&format!("/tables/t.{name}"), json!({"location": app.location(&name)})).await;
        assert_eq!(registered.status, if is_read { 201 } else { 422 }, "{kind} {path} {value}: {}", registered.text);
        if !is_read {
            continue;
        }
        let object =
            json!({"source": {"table": format!("t.{name}")}, "history": true, "cdf": true, "start_version": 0});
        app.put(&format!("/shares/insurer/objects/s/{name}"), object).await.expect(201);
        for answer in [
            reader.query(&name, json!({})).await,
            reader.query(&name, json!({"startingVersion": 0})).await,
            reader.ask(&name, "/changes?startingVersion=0", "").await,
        ] {
            assert_eq!(answer.status, 200, "{kind} {path} {value}: {}", answer.text);
            let file = answer.lines().pop().unwrap();
            let file = file.as_object().unwrap().values().next().unwrap().clone();
            let expected = if path == "partitionValues/p" && value == json!(true) { "true" } else { "1" };
            assert_eq!((&file["size"], &file["partitionValues"]), (&json!(9), &json!({"p": expected})));
        }
    }
}

async fn check_120_features_are_told_in_delta_format(app: TestApp) {
    let mut log = deletion_vectors(&app, "dv");
    let mut remove = removed("a.parquet", 9);
    remove["remove"]["deletionVector"] = stored_vector();
    log.commit(&[remove]);
    mapped_columns(&app, "cm");
    let reader = Reader::acme(&app).await;
    for table in ["dv", "cm"] {
        share(&app, table, with_history()).await;
    }
    let answer = reader.query_as("dv", DELTA, json!({"startingVersion": 0})).await;
    insta::assert_snapshot!("since_deletion_vectors", without_times(&answer.lines()));
    let removed = &answer.lines()[4]["file"]["deltaSingleAction"]["remove"];
    assert_eq!(removed["deletionVector"]["storageType"], "p");
    let answer = reader.query_as("cm", DELTA, json!({"startingVersion": 0})).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "file"]);
    assert_eq!(answer.lines()[2]["file"]["deltaSingleAction"]["add"]["partitionValues"], json!({"col-2": "x"}));
}

/// The keys of the lines and of the actions in them.
fn without_times(lines: &[Value]) -> String {
    let mut text = String::new();
    for line in lines {
        let (kind, said) = line.as_object().unwrap().iter().next().unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("{kind}: {}\n", keys(said)));
        for (action, fields) in said["deltaSingleAction"].as_object().into_iter().flatten() {
            text.push_str(&format!("  {action}: {}\n", keys(fields)));
        }
    }
    text
}

async fn check_121_historical_protocols_are_told_in_delta_format_when_asked(app: TestApp) {
    let mut log = HandWrittenLog::create(&app.folder("t"), protocol(1, 2), with_change_feed(&COLUMNS));
    log.commit(&[add("a.parquet", 9)]);
    log.commit(&[protocol(1, 4)]);
    log.commit(&[add("b.parquet", 9)]);
    share(&app, "t", with_history()).await;
    let reader = Reader::acme(&app).await;
    let asked = json!({"startingVersion": 1, "includeHistoricalProtocol": true});
    let answer = reader.query_as("t", DELTA, asked.clone()).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "file", "protocol", "file"]);
    let told = answer.of_kind("protocol");
    assert_eq!((&told[0]["version"], &told[1]["version"]), (&json!(1), &json!(2)));
    assert_eq!(told[1]["deltaProtocol"]["minWriterVersion"], 4);
    let answer = reader.query_as("t", DELTA, json!({"startingVersion": 1})).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "file", "file"]);
    assert!(answer.of_kind("protocol")[0].get("version").is_none());
    let answer = reader.query("t", asked).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "add", "add"]);
}
