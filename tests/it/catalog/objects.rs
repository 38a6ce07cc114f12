//! Objects in shares.

use serde_json::json;

use crate::support::{
    app::{TestApp, fields, on_both_databases},
    tables::HandWrittenLog,
};

on_both_databases!(
    a_table_is_shared_from_its_version_of_the_moment,
    putting_again_confirms_after_the_table_moved_on,
    an_object_is_changed_but_keeps_its_table,
    what_cannot_be_shared_is_refused_with_the_reason,
    objects_are_listed_by_schema_and_name,
);

async fn a_table_is_shared_from_its_version_of_the_moment(app: TestApp) {
    let mut log = HandWrittenLog::plain(&app.folder("claims"));
    log.commit(&[]);
    app.put("/tables/claims.claims", json!({"location": app.location("claims")})).await.expect(201);
    app.put("/shares/insurer", json!({})).await.expect(201);
    let source = json!({"table": "Claims.claims"});
    let object = app.put("/shares/insurer/objects/claims/all", json!({"source": source})).await.expect(201);
    assert_eq!(object["source"], json!({"table": "claims.claims"}));
    assert_eq!(object["start_version"], 1);
    assert_eq!((&object["history"], &object["cdf"]), (&json!(false), &json!(false)));
    assert_eq!(object["on_schema_change"], "follow");
    // Local files always pass through the server.
    assert_eq!(object["delivery"], "proxied");
    // The log was opened for this answer, so it can tell which clients can read the table.
    let mut object = object;
    let clients = object.as_object_mut().unwrap().remove("clients").unwrap();
    assert_eq!(clients["pandas_parquet"], "ok");
    let versions = object.as_object_mut().unwrap().remove("client_versions").unwrap();
    assert_eq!(versions["pandas_delta"], "delta-sharing 1.1.0");
    assert_eq!(app.get("/shares/INSURER/objects/CLAIMS/ALL").await.expect(200), object);
    let event = &app.events("object.create").await[0];
    assert_eq!(
        (&event["schema"], &event["table"], &event["share"]),
        (&json!("claims"), &json!("all"), &json!("insurer"))
    );
}

async fn putting_again_confirms_after_the_table_moved_on(app: TestApp) {
    let mut log = HandWrittenLog::plain(&app.folder("claims"));
    app.put("/tables/c", json!({"location": app.location("claims")})).await.expect(201);
    app.put("/shares/s", json!({})).await.expect(201);
    let body = json!({"source": {"table": "c"}, "history": true});
    let created = app.put("/shares/s/objects/a/t", body.clone()).await.expect(201);
    log.commit(&[]);
    assert_eq!(app.put("/shares/s/objects/A/T", body).await.expect(200), created);
    let other = json!({"source": {"table": "c"}, "start_version": 1, "history": false});
    let problem = app.put("/shares/s/objects/a/t", other).await.problem(409, "conflict");
    assert_eq!(fields(&problem), ["history", "start_version"]);
}

async fn an_object_is_changed_but_keeps_its_table(app: TestApp) {
    app.share_claims().await;
    let path = "/shares/insurer/objects/claims/claims";
    let changed = app.patch(path, json!({"history": true, "cdf": true, "description": "d"})).await.expect(200);
    assert_eq!((&changed["history"], &changed["cdf"]), (&json!(true), &json!(true)));
    let problem = app.patch(path, json!({"history": null})).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["cdf"]);
    app.patch(path, json!({"source": {"table": "claims.claims"}})).await.expect(200);
    app.put("/tables/other", json!({"location": app.location("claims")})).await.expect(201);
    for source in [json!({"table": "other"}), json!(null)] {
        let problem = app.patch(path, json!({"source": source})).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["source"]);
    }
    assert_eq!(app.get(path).await.expect(200), changed);
}

async fn what_cannot_be_shared_is_refused_with_the_reason(app: TestApp) {
    app.share_claims().await;
    let path = "/shares/insurer/objects/claims/new";
    for (body, expected) in [
        (json!({}), vec!["source"]),
        (json!({"source": null}), vec!["source"]),
        (json!({"source": {}}), vec!["source"]),
        (json!({"source": {"view": "v@1"}}), vec!["source.view"]),
        (json!({"source": {"view": "v"}}), vec!["source.view"]),
        (json!({"source": {"view": "v@v1"}}), vec!["source.view"]),
        (json!({"source": {"view": "v@v1", "table": "t"}}), vec!["source"]),
        (json!({"source": {"table": "nothing"}}), vec!["source.table"]),
        (json!({"source": {"table": "a\u{0}"}}), vec!["source.table"]),
        (json!({"source": {"table": "claims.claims"}, "cdf": true, "start_version": 5}), vec!["cdf", "start_version"]),
        (json!({"source": {"table": "claims.claims"}, "start_version": -1}), vec!["start_version"]),
        (json!({"source": {"table": "claims.claims"}, "delivery": "mail"}), vec!["delivery"]),
        (json!({"source": {"table": "claims.claims"}, "x": 1}), vec!["x"]),
    ] {
        let problem = app.put(path, body.clone()).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), expected, "{body}");
    }
    let source = json!({"source": {"table": "claims.claims"}});
    let problem = app.put("/shares/insurer/objects/a.b/c%20d", source.clone()).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["name", "schema"]);
    app.put("/shares/nothing/objects/a/b", source).await.problem(404, "not_found");
    app.get(path).await.problem(404, "not_found");
}

async fn objects_are_listed_by_schema_and_name(app: TestApp) {
    app.share_claims().await;
    let source = json!({"source": {"table": "claims.claims"}});
    for path in ["b/a", "B/c", "a/z"] {
        app.put(&format!("/shares/insurer/objects/{path}"), source.clone()).await.expect(201);
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("/shares/insurer/objects?max_results=3{token}")).await.expect(200);
        for item in page["items"].as_array().unwrap() {
            names.push(format!("{}/{}", item["schema"].as_str().unwrap(), item["name"].as_str().unwrap()));
        }
        let Some(next) = page["next_page_token"].as_str() else { break };
        token = format!("&page_token={next}");
    }
    assert_eq!(names, ["a/z", "b/a", "B/c", "claims/claims"]);
    app.get("/shares/nothing/objects").await.problem(404, "not_found");
}
