//! The register of copies over HTTP.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use uuid::Uuid;
use weir::{
    domain::materialize::copy::{Copy, CopyKind, CopyState, RulesId, UnitId},
    store::MadeCopy,
};

use crate::support::{
    app::{TestApp, on_both_databases},
    tables::plain_table,
};

on_both_databases!(copies_are_listed_by_view_and_state, what_register_and_store_do_not_agree_about_is_answered);

/// Registers three copies of a published view: one that is made, one that could not be, and one that is being made.
async fn registered(app: &TestApp) -> [Uuid; 3] {
    plain_table(&app.folder("claims"), 6).await;
    app.put("/tables/claims.claims", json!({"location": app.location("claims")})).await.expect(201);
    let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
    let view = app.put("/views/claims.some", view).await.expect(201);
    app.post("/views/claims.some/publish", json!({})).await.expect(201);
    let (now, holder) = (app.now(), Uuid::now_v7());
    let copies = [1, 2, 3].map(|number| Copy {
        id: Uuid::now_v7(),
        unit: UnitId([number; 32]),
        kind: CopyKind::File,
        view_id: view["id"].as_str().unwrap().parse().unwrap(),
        view_version: 1,
        rules: RulesId([9; 32]),
        source: format!("part-{number}.parquet"),
        object_key: format!("m/{number}"),
        state: CopyState::Making,
        bytes: 7,
        rows: 0,
        stats: None,
        created_at: now,
        needed_until: now + chrono::TimeDelta::hours(1),
        holder,
        held_until: now,
        attempts: 0,
        failure: None,
        deleted_at: None,
    });
    let ids = copies.each_ref().map(|copy| copy.id);
    let mut tx = app.service.core.db.begin().await.unwrap();
    tx.keep_server_alive(holder, now).await.unwrap();
    for copy in &copies {
        assert!(tx.claim_copy(copy, now).await.unwrap());
    }
    let made = MadeCopy { id: ids[0], bytes: 11, rows: 6, stats: None };
    assert!(tx.complete_copy(&made, holder).await.unwrap());
    tx.fail_copy(ids[1], holder, "it is damaged", now + chrono::TimeDelta::hours(1)).await.unwrap();
    tx.commit().await.unwrap();
    ids
}

async fn list(app: &TestApp, query: &str) -> Vec<Value> {
    app.get(&format!("/copies{query}")).await.expect(200)["items"].as_array().unwrap().clone()
}

async fn copies_are_listed_by_view_and_state(app: TestApp) {
    let ids = registered(&app).await.map(|id| json!(id));
    let all = list(&app, "").await;
    assert_eq!(all.iter().map(|copy| &copy["id"]).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    for (copy, (state, bytes)) in all.iter().zip([("ready", 11), ("failed", 0), ("making", 7)]) {
        assert_eq!((&copy["state"], &copy["bytes"]), (&json!(state), &json!(bytes)), "{copy}");
        assert_eq!((&copy["view"], &copy["kind"]), (&json!("claims.some@v1"), &json!("file")));
        assert_eq!(list(&app, &format!("?state={state}&view=claims.SOME")).await, std::slice::from_ref(copy));
    }
    assert_eq!((&all[0]["rows"], &all[0]["source"]), (&json!(6), &json!("part-1.parquet")));
    assert_eq!((&all[1]["failure"], &all[0]["failure"]), (&json!("it is damaged"), &Value::Null));
    let first = app.get("/copies?max_results=2").await.expect(200);
    let token = first["next_page_token"].as_str().unwrap();
    let rest = app.get(&format!("/copies?max_results=2&page_token={token}")).await.expect(200);
    assert_eq!((&rest["items"], &rest["next_page_token"]), (&json!([all[2]]), &Value::Null));
    for query in ["?state=lost", "?view=claims.none", "?of=claims.some"] {
        app.get(&format!("/copies{query}")).await.problem(400, "invalid_parameter");
    }
}

async fn what_register_and_store_do_not_agree_about_is_answered(app: TestApp) {
    let [lost, ..] = registered(&app).await;
    let stray = app.copies_folder().join("m/stray");
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, "x").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    fs::File::options().write(true).open(&stray).unwrap().set_modified(long_ago).unwrap();
    let expected = json!({"copies": 1, "orphans": ["m/stray"], "missing": [lost]});
    assert_eq!(app.post("/copies/reconcile?dry_run=true", json!({})).await.expect(200), expected);
    assert_eq!(list(&app, "?state=ready").await.len(), 1);
    assert_eq!(app.post("/copies/reconcile", json!({})).await.expect(200), expected);
    assert_eq!(list(&app, "?state=draining").await[0]["id"], json!(lost));
    assert!(stray.exists(), "what is nobody's stays for somebody to look at");
    let recorded = app.events("copies.reconcile").await;
    assert_eq!((recorded.len(), &recorded[0]["change"]["after"]), (1, &json!({"orphans": 1, "missing": 1})));
    app.post("/copies/reconcile", json!({"view": "claims.some"})).await.problem(422, "invalid_input");
}
