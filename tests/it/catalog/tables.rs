//! Registered tables.

use http::Method;
use serde_json::json;

use crate::support::{
    app::{AWAY, TestApp, fields, on_both_databases},
    tables::{HandWrittenLog, add, metadata, protocol, protocol_with},
};

on_both_databases!(
    a_table_is_registered_with_what_its_log_says,
    a_dry_run_looks_at_everything_and_registers_nothing,
    putting_again_confirms_and_putting_otherwise_is_a_conflict,
    a_table_is_changed_by_merge_patch,
    an_etag_guards_a_change,
    a_table_in_use_is_neither_deleted_nor_moved,
    connectors_are_named_with_what_they_do_not_read_and_the_version_that_does,
    what_cannot_be_a_table_is_refused_with_the_reason,
    tables_are_listed_in_pages,
    a_deleted_name_may_be_used_again_by_another_table,
);

async fn a_table_is_registered_with_what_its_log_says(app: TestApp) {
    let location = app.plain_log("claims");
    let answer = app.put("/tables/claims.claims", json!({"location": location, "owner": "jo"})).await;
    assert!(answer.headers.contains_key("etag"));
    let table = answer.expect(201);
    assert_eq!(table["name"], "claims.claims");
    assert_eq!(table["location"], location);
    assert_eq!(table["delta"]["id"], "a-table");
    assert_eq!(table["delta"]["version"], 0);
    assert_eq!(table["delta"]["columns"], json!([{"name": "id", "type": "long", "nullable": true}]));
    assert_eq!(table["delta"]["partition_columns"], json!([]));
    assert_eq!(table["delta"]["reader_features"], json!([]));

    let found = app.get("/tables/CLAIMS.Claims").await;
    assert_eq!(found.headers["etag"].to_str().ok(), table["etag"].as_str());
    let found = found.expect(200);
    assert_eq!((&found["id"], &found["name"]), (&table["id"], &table["name"]));

    let event = &app.events("table.create").await[0];
    assert_eq!(event["change"]["after"]["owner"], "jo");
    assert_eq!(event["actor"], json!({"kind": "operator", "name": "bootstrap", "role": "admin"}));
    assert_eq!(event["object"]["id"], table["id"]);
    assert_eq!(event["user_agent"], "weir-tests");
    assert!(event["client_address"].is_string() && event["request_id"].is_string());
}

async fn a_dry_run_looks_at_everything_and_registers_nothing(app: TestApp) {
    let body = json!({"location": app.plain_log("claims"), "owner": "jo"});
    let tried = app.put("/tables/claims.claims?dry_run=true", body.clone()).await.expect(200);
    assert_eq!((&tried["delta"]["version"], &tried["owner"]), (&json!(0), &json!("jo")));
    assert_eq!(app.get("/tables").await.expect(200)["items"], json!([]));
    assert!(app.events("table.create").await.is_empty());
    let nowhere = json!({"location": app.location("nowhere")});
    app.put("/tables/t?dry_run=true", nowhere).await.problem(422, "invalid_input");
    app.put("/tables/claims.claims?dry_run=false", body.clone()).await.expect(201);
    app.put("/tables/claims.claims?dry_run=true", body).await.expect(200);
    let other = json!({"location": app.plain_log("other")});
    app.put("/tables/claims.claims?dry_run=true", other).await.problem(409, "conflict");
    app.put("/tables/t?dry_run=perhaps", json!({})).await.problem(400, "invalid_parameter");
}

async fn putting_again_confirms_and_putting_otherwise_is_a_conflict(app: TestApp) {
    let location = app.plain_log("claims");
    let body = json!({"location": location, "description": "all claims", "owner": "jo"});
    let created = app.put("/tables/c", body.clone()).await.expect(201);
    assert_eq!(app.put("/tables/c", body).await.expect(200)["etag"], created["etag"]);
    assert_eq!(app.put("/tables/c", json!({})).await.expect(200)["etag"], created["etag"]);
    // The same location in another spelling.
    let unusual = location.replace("/lake/", "/lake/./");
    app.put("/tables/c", json!({"location": unusual})).await.expect(200);

    let problem = app.put("/tables/c", json!({"description": "x", "owner": null})).await.problem(409, "conflict");
    assert_eq!(fields(&problem), ["description", "owner"]);
    assert!(problem["detail"].as_str().unwrap().contains("PATCH"), "{problem}");
    assert_eq!(app.events("table.create").await.len(), 1);
}

async fn a_table_is_changed_by_merge_patch(app: TestApp) {
    let location = app.plain_log("claims");
    app.put("/tables/c", json!({"location": location, "description": "old", "owner": "jo"})).await.expect(201);
    app.pass(5);
    let changed = app.patch("/tables/c", json!({"description": null})).await.expect(200);
    assert_eq!((&changed["description"], &changed["owner"]), (&json!(null), &json!("jo")));
    let moved = app.plain_log("elsewhere");
    assert_eq!(app.patch("/tables/c", json!({"location": moved})).await.expect(200)["location"], moved);
    let events = app.events("table.update").await;
    assert_eq!(events[1]["change"], json!({"before": {"description": "old"}, "after": {}}));
    // An update that changes nothing is not recorded.
    let before = app.get("/tables/c").await.expect(200);
    assert_eq!(app.patch("/tables/c", json!({"owner": "jo"})).await.expect(200)["etag"], before["etag"]);
    assert_eq!(app.events("table.update").await.len(), 2);
}

async fn an_etag_guards_a_change(app: TestApp) {
    let location = app.plain_log("claims");
    let first = app.put("/tables/c", json!({"location": location})).await.expect(201)["etag"].clone();
    let first = first.as_str().unwrap();
    let patch = |etag: String, owner: &str| {
        let body = json!({"owner": owner});
        let app = &app;
        async move { app.admin_with(Method::PATCH, "/tables/c", &[("if-match", &etag)], Some(&body)).await }
    };
    let second = patch(format!("\"other\", {first}"), "a").await.expect(200)["etag"].clone();
    patch(first.into(), "b").await.problem(412, "precondition_failed");
    patch("*".into(), "c").await.expect(200);
    let deleted = app.admin_with(Method::DELETE, "/tables/c", &[("if-match", second.as_str().unwrap())], None).await;
    deleted.problem(412, "precondition_failed");
}

async fn a_table_in_use_is_neither_deleted_nor_moved(app: TestApp) {
    app.share_claims().await;
    let problem = app.delete("/tables/claims.claims").await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("insurer.claims.claims"), "{problem}");
    let moved = app.plain_log("elsewhere");
    let problem = app.patch("/tables/claims.claims", json!({"location": moved})).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("insurer.claims.claims"), "{problem}");
    app.put("/tables/claims.claims", json!({"location": moved})).await.problem(409, "conflict");

    app.delete("/shares/insurer/objects/claims/claims").await.expect(204);
    app.delete("/tables/claims.claims").await.expect(204);
    app.get("/tables/claims.claims").await.problem(404, "not_found");
}

async fn connectors_are_named_with_what_they_do_not_read_and_the_version_that_does(app: TestApp) {
    let mut log = HandWrittenLog::create(&app.folder("void"), protocol(1, 2), metadata("v", &[("c", "void")], &[]));
    log.commit(&[add("a.parquet", 1)]);
    let void = app.put("/tables/void", json!({"location": app.location("void")})).await.expect(201);
    let message = "does not read column `c` of type void";
    assert_eq!(
        void["delta"]["clients"],
        json!({"pandas_parquet": message, "pandas_delta": message, "spark_parquet": message, "spark_delta": "ok"})
    );
    assert_eq!(void["delta"]["client_versions"], json!({"spark_delta": "delta-sharing-spark 3.1.0"}));

    let mut log = HandWrittenLog::plain(&app.folder("absolute"));
    log.commit(&[add("a.parquet", 1), add("file:///elsewhere/b.parquet", 1)]);
    let absolute = app.put("/tables/absolute", json!({"location": app.location("absolute")})).await.expect(201);
    for verdict in absolute["delta"]["clients"].as_object().unwrap().values() {
        assert!(verdict.as_str().unwrap().contains("it is absolute"), "{verdict}");
    }
    assert_eq!(absolute["delta"]["client_versions"], json!({}));

    let local = metadata("l", &[("at", "timestamp_ntz")], &[]);
    HandWrittenLog::create(&app.folder("local"), protocol_with(&["timestampNtz"]), local);
    let local = app.put("/tables/local", json!({"location": app.location("local")})).await.expect(201);
    let message = "needs timestampNtz in delta format, which delta-sharing 1.3.2 or newer reads";
    assert_eq!(local["delta"]["clients"]["pandas_parquet"], message);
    assert_eq!(local["delta"]["client_versions"]["pandas_delta"], "delta-sharing 1.3.2");

    // A user-defined type is read as the SQL type behind it.
    let mut udt = metadata("u", &[], &[]);
    let vector = json!({"type": "udt", "class": "org.apache.spark.ml.linalg.VectorUDT", "sqlType":
        {"type": "array", "elementType": "double", "containsNull": false}});
    let field = json!({"name": "v", "type": vector, "nullable": true, "metadata": {}});
    udt["metaData"]["schemaString"] = json!(json!({"type": "struct", "fields": [field]}).to_string());
    HandWrittenLog::create(&app.folder("udt"), protocol(1, 2), udt);
    let udt = app.put("/tables/udt", json!({"location": app.location("udt")})).await.expect(201);
    assert_eq!(udt["delta"]["columns"][0]["type"], "array<double>");
}

async fn what_cannot_be_a_table_is_refused_with_the_reason(app: TestApp) {
    std::fs::create_dir(app.folder("empty")).unwrap();
    for (location, hint) in [
        (app.location("empty"), "_delta_log"),
        (app.location("missing"), "_delta_log"),
        ("file:///etc".to_owned(), "[[storage]]"),
        (app.location("../../etc"), ""),
        ("s3://elsewhere/table".to_owned(), "[[storage]]"),
        ("not a location".to_owned(), ""),
        (String::new(), ""),
    ] {
        let problem = app.put("/tables/t", json!({"location": location})).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["location"], "{location}");
        assert!(problem["detail"].as_str().unwrap().contains(hint), "{location}: {problem}");
    }
    std::fs::create_dir_all(app.folder("broken/_delta_log")).unwrap();
    std::fs::write(app.folder("broken/_delta_log/00000000000000000000.json"), "{").unwrap();
    let broken = json!({"location": app.location("broken")});
    app.put("/tables/t", broken).await.problem(422, "table_not_servable");
    let future = metadata("f", &[("id", "long")], &[]);
    HandWrittenLog::create(&app.folder("future"), protocol_with(&["fromTheFuture"]), future);
    let problem = app.put("/tables/t", json!({"location": app.location("future")})).await;
    let problem = problem.problem(422, "table_not_servable");
    assert!(problem["detail"].as_str().unwrap().contains("fromTheFuture"), "{problem}");

    for (name, data_type) in [("time", "time(6)"), ("geometry", "geography(OGC:CRS84, sideways)")] {
        HandWrittenLog::create(&app.folder(name), protocol(1, 2), metadata(name, &[("vec_col", data_type)], &[]));
        let problem = app.put("/tables/t", json!({"location": app.location(name)})).await;
        let problem = problem.problem(422, "table_not_servable");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("column `vec_col` is of type {data_type}")), "{detail}");
    }

    let problem = app.put("/tables/t", json!({})).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["location"]);
    app.put("/tables/t", json!({"location": null})).await.problem(422, "invalid_input");
    app.get("/tables/t").await.problem(404, "not_found");
    assert!(app.events("table.create").await.is_empty());
}

async fn tables_are_listed_in_pages(app: TestApp) {
    let location = app.plain_log("claims");
    for name in ["b", "C", "a.x", "d", "A.b"] {
        app.put(&format!("/tables/{name}"), json!({"location": location})).await.expect(201);
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("/tables?max_results=2{token}")).await.expect(200);
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_page_token"].as_str() else { break };
        token = format!("&page_token={next}");
        // A page token is only valid for its own listing.
        app.get(&format!("/shares?page_token={next}")).await.problem(400, "invalid_parameter");
    }
    assert_eq!(names, ["A.b", "a.x", "b", "C", "d"]);
}

async fn a_deleted_name_may_be_used_again_by_another_table(app: TestApp) {
    let location = app.plain_log("claims");
    let first = app.put("/tables/c", json!({"location": location})).await.expect(201);
    app.delete("/tables/c").await.expect(204);
    let second = app.put("/tables/c", json!({"location": location})).await.expect(201);
    assert_ne!(first["id"], second["id"]);
    // The first table's etag, with the same revision, does not match the second.
    let etag = first["etag"].as_str().unwrap();
    let body = json!({"owner": "jo"});
    let patched = app.admin_with(Method::PATCH, "/tables/c", &[("if-match", etag)], Some(&body)).await;
    patched.problem(412, "precondition_failed");
}

#[tokio::test]
async fn an_outage_of_the_storage_asks_to_come_back() {
    let app = TestApp::sqlite().await;
    let answer = app.put("/tables/t", json!({"location": format!("{AWAY}/table")})).await;
    assert_eq!(answer.headers["retry-after"], "5");
    let problem = answer.problem(503, "unavailable");
    assert!(!problem.to_string().contains("127.0.0.1"), "{problem}");
    app.get("/tables/t").await.problem(404, "not_found");
}
