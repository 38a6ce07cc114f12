//! Views over HTTP: looked at as a recipient, and compared version by version.

use http::Method;
use serde_json::{Value, json};
use weir::domain::core::canonical;

use crate::support::{
    app::{TestApp, fields, on_both_databases},
    tables::plain_table,
};

on_both_databases!(
    a_preview_shows_what_a_recipient_would_read_under_a_digest,
    a_preview_is_refused_where_there_is_nothing_to_see_as,
    versions_are_compared_by_columns_filter_and_rows,
    rows_that_are_counted_as_a_recipient_are_recorded_before_they_are_told,
    what_a_view_shows_besides_what_it_seems_to_is_warned_of,
);

const VIEW: &str = "/views/claims.some";
const FILTER: &str = "name IN recipient_list('names')";

/// A view of the even ones of six rows, and `acme`, which may see them.
async fn draft(app: &TestApp) {
    plain_table(&app.folder("claims"), 6).await;
    app.put("/tables/claims.claims", json!({"location": app.location("claims")})).await.expect(201);
    app.put("/recipients/acme", json!({"properties": {"names": ["even"]}})).await.expect(201);
    let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}], "row_filter": FILTER});
    app.put(VIEW, view).await.expect(201);
}

async fn publish(app: &TestApp) {
    app.post(&format!("{VIEW}/publish"), json!({})).await.expect(201);
}

async fn a_preview_shows_what_a_recipient_would_read_under_a_digest(app: TestApp) {
    draft(&app).await;
    let path = format!("{VIEW}/preview");
    let preview = app.post(&path, json!({"recipient": "ACME", "limit": 2})).await.expect(200);
    let evidence = &preview["evidence"];
    assert_eq!(evidence["rows"], json!([{"id": 0}, {"id": 2}]));
    assert_eq!((&evidence["rows_visible"], &evidence["rows_total"]), (&json!(3), &json!(6)));
    assert_eq!(evidence["columns"], json!([{"name": "id", "from": "id", "type": "long", "mask": null}]));
    assert_eq!((&evidence["hidden_columns"], &evidence["row_filter"]), (&json!(["name"]), &json!(FILTER)));
    assert_eq!((&evidence["recipient"], &evidence["table"]), (&json!("acme"), &json!("claims.claims")));
    // What is null is a part of it.
    assert!(String::from_utf8(canonical::text(evidence).unwrap()).unwrap().contains("\"mask\":null"));
    assert_eq!(preview["digest"], canonical::digest(evidence).unwrap());
    let recorded = app.events("view.preview").await.remove(0);
    assert_eq!((&recorded["recipient"], &recorded["rows"]), (&json!("acme"), &json!(2)));

    publish(&app).await;
    let published = app.post(&path, json!({"recipient": "acme", "version": 1})).await.expect(200);
    assert_eq!(published["evidence"]["view"], "claims.some@v1");
    assert_eq!(published["evidence"]["rows"].as_array().unwrap().len(), 3);
    assert_ne!(published["digest"], preview["digest"]);
    // Another recipient is shown what it would read.
    app.put("/recipients/other", json!({})).await.expect(201);
    let other = app.post(&path, json!({"recipient": "other"})).await.expect(200);
    assert_eq!((&other["evidence"]["rows"], &other["evidence"]["rows_visible"]), (&json!([]), &json!(0)));
}

async fn a_preview_is_refused_where_there_is_nothing_to_see_as(app: TestApp) {
    draft(&app).await;
    for (body, field) in [
        (json!({"recipient": "nobody"}), "recipient"),
        (json!({"recipient": "acme", "limit": 0}), "limit"),
        (json!({"recipient": "acme", "limit": 1_001}), "limit"),
        (json!({"recipient": "acme", "version": 7}), "version"),
        (json!({"recipient": "acme", "rows": 1}), "rows"),
        (json!({}), "recipient"),
    ] {
        let problem = app.post(&format!("{VIEW}/preview"), body.clone()).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [field], "{body}");
    }
    app.post("/views/claims.none/preview", json!({"recipient": "acme"})).await.problem(404, "not_found");
    assert!(app.events("view.preview").await.is_empty(), "nobody saw anything");
    let auditor = app.operator("ann", "auditor").await;
    let body = json!({"recipient": "acme"});
    let refused = app.admin_as(&auditor, Method::POST, &format!("{VIEW}/preview"), Some(&body)).await;
    refused.problem(403, "forbidden");
}

async fn versions_are_compared_by_columns_filter_and_rows(app: TestApp) {
    draft(&app).await;
    publish(&app).await;
    let who = json!({"name": "who", "from": "name", "mask": "redact"});
    app.patch(VIEW, json!({"columns": [{"name": "id"}, who], "row_filter": null})).await.expect(200);
    publish(&app).await;
    let diff = |query: &str| {
        let (path, app) = (format!("{VIEW}/diff?{query}"), &app);
        async move { app.get(&path).await }
    };
    let forwards = diff("from=1&to=2&recipient=acme").await.expect(200);
    assert_eq!((&forwards["from"], &forwards["to"]), (&json!(1), &json!(2)));
    let shown = json!({"from": "name", "type": "string", "mask": "redact"});
    let column = |before: &Value, after: &Value, effect: &str| json!({"kind": "column", "column": "who", "before": before, "after": after, "effect": effect});
    let filter = |before: Value, after: Value, effect: &str| json!({"kind": "row_filter", "before": before, "after": after, "effect": effect});
    assert_eq!(
        forwards["changes"],
        json!([column(&Value::Null, &shown, "discloses"), filter(json!(FILTER), Value::Null, "discloses")])
    );
    let rows = |before: u64, after: u64, newly: u64, no_longer: u64| {
        json!({"table_version": 1, "total": 6, "before": before, "after": after, "newly_visible": newly,
            "no_longer_visible": no_longer})
    };
    assert_eq!(forwards["rows"], rows(3, 6, 3, 0));
    let backwards = diff("from=2&to=1&recipient=acme").await.expect(200);
    assert_eq!(
        backwards["changes"],
        json!([column(&shown, &Value::Null, "hides"), filter(Value::Null, json!(FILTER), "hides")])
    );
    assert_eq!(backwards["rows"], rows(6, 3, 0, 3));
    let same = diff("from=2&to=2").await.expect(200);
    assert_eq!((&same["changes"], &same["rows"]), (&json!([]), &Value::Null));
    for query in ["from=1&to=3", "from=1&to=2&recipient=nobody"] {
        diff(query).await.problem(422, "invalid_input");
    }
    for query in ["from=1", "from=1&to=x", "from=1&to=2&as=acme"] {
        diff(query).await.problem(400, "invalid_parameter");
    }
}

async fn rows_that_are_counted_as_a_recipient_are_recorded_before_they_are_told(app: TestApp) {
    draft(&app).await;
    publish(&app).await;
    app.patch(VIEW, json!({"row_filter": null})).await.expect(200);
    publish(&app).await;
    let diff = format!("{VIEW}/diff?from=1&to=2");
    app.get(&diff).await.expect(200);
    app.get(&format!("{diff}&recipient=nobody")).await.problem(422, "invalid_input");
    assert_eq!(app.events("view.preview").await, Vec::<Value>::new(), "no rows were counted");
    app.put("/operators/sam", json!({"bindings": [{"role": "steward", "scope": "table:claims.claims"}]}))
        .await
        .expect(201);
    let sam = app.post("/operators/sam/tokens", json!({})).await.expect(201)["token"].as_str().unwrap().to_owned();
    let by_sam = async || app.admin_as(&sam, Method::GET, &format!("{diff}&recipient=acme"), None).await;
    let told = by_sam().await.expect(200);
    assert_eq!(told["rows"]["newly_visible"], 3);
    let recorded = app.events("view.preview").await;
    let views: Vec<&Value> = recorded.iter().map(|event| &event["view"]).collect();
    assert_eq!(views, ["claims.some@v2", "claims.some@v1"]);
    for event in &recorded {
        assert_eq!((&event["recipient"], &event["actor"]["name"]), (&json!("acme"), &json!("sam")));
        assert_eq!((&event["rows"], &event["table_version"]), (&Value::Null, &json!(1)));
        assert_eq!((&event["registered_table"], &event["decision"]), (&json!("claims.claims"), &json!("allow")));
    }
    app.get(&format!("{VIEW}/diff?from=1&to=1&recipient=acme")).await.expect(200);
    assert_eq!(app.events("view.preview").await.len(), 3, "a version that is compared with itself is seen once");
    // What cannot be recorded is not told.
    app.service.core.audit_writer.finish().await;
    app.execute("ALTER TABLE audit_events RENAME TO audit_gone").await;
    let untold = by_sam().await;
    assert!(!untold.text.contains("newly_visible"), "{}", untold.text);
    untold.problem(503, "unavailable");
    app.execute("ALTER TABLE audit_gone RENAME TO audit_events").await;
    by_sam().await.expect(200);
}

async fn what_a_view_shows_besides_what_it_seems_to_is_warned_of(app: TestApp) {
    draft(&app).await;
    let codes = |view: &Value| {
        let warnings = view["warnings"].as_array().cloned().unwrap_or_default();
        let code = |warning: &Value| {
            assert!(!warning["message"].as_str().unwrap().is_empty());
            [&warning["code"], &warning["field"]].map(|text| text.as_str().unwrap().to_owned())
        };
        warnings.iter().map(code).collect::<Vec<_>>()
    };
    assert!(codes(&app.get(VIEW).await.expect(200)).is_empty());
    let columns = json!([{"name": "id"}, {"name": "name", "mask": {"partial": {"first": 1}}}]);
    let filtered = [["W_FILTER_ON_MASKED".to_owned(), "row_filter".to_owned()]];
    let changed = app.patch(VIEW, json!({"columns": columns})).await.expect(200);
    assert_eq!(codes(&changed), filtered);
    assert_eq!(codes(&app.get(VIEW).await.expect(200)), filtered);
    // It is a warning, and no more.
    publish(&app).await;
    let columns = json!([{"name": "id"}, {"name": "email", "from": "name", "mask": {"surrogate": {"domain": "d"}}}]);
    let changed = app.patch(VIEW, json!({"columns": columns, "row_filter": "id > 1"})).await.expect(200);
    assert!(codes(&changed).is_empty(), "{changed}");
}
