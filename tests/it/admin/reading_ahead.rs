//! What a newer server has stored is read as it is, so that two versions can serve one database; what would let somebody do
//! something is refused.

use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use weir::{
    domain::audit::{Actor, ActorKind, Event, Head, action::Action, link_hash},
    service::audit::verify::{Since, verify_database},
    store::{Db, Derived, StoredEvent},
};

use crate::{
    insight::notify::{deliver, kept, telling},
    support::{
        app::{TestApp, fields, on_both_databases},
        receiver::{Mood, TestReceiver},
    },
};

on_both_databases!(
    an_operator_whose_role_is_unknown_is_listed_and_may_do_nothing,
    an_event_of_an_unknown_kind_of_actor_is_answered_counted_and_verified,
    what_a_newer_server_sets_stays_when_an_older_one_changes_the_rest,
);

/// What an operator's request comes to.
async fn ask(app: &TestApp, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let answer = app.admin_as(token, method, path, Some(&body)).await;
    (answer.status.as_u16(), serde_json::from_str(&answer.text).unwrap_or_default())
}

async fn an_operator_whose_role_is_unknown_is_listed_and_may_do_nothing(app: TestApp) {
    let (ann, root) = (app.operator("ann", "auditor").await, app.operator("root", "admin").await);
    app.execute(
        "UPDATE operators SET role = 'data_steward', spec = replace(spec, '\"auditor\"', '\"data_steward\"') \
         WHERE name = 'ann'",
    )
    .await;
    let by_root = async |method: Method, path: &str, body: Value| ask(&app, &root, method, path, body).await;

    let listed = app.admin_as(&root, Method::GET, "/operators", None).await.expect(200);
    let ann_now = listed["items"].as_array().unwrap().iter().find(|item| item["name"] == "ann").unwrap().clone();
    assert_eq!(ann_now["role"], "data_steward");
    let found = app.admin_as(&root, Method::GET, "/operators/ann", None).await.expect(200);
    assert_eq!(found, ann_now);

    for (method, path) in [(Method::GET, "/whoami"), (Method::GET, "/shares"), (Method::PUT, "/shares/s")] {
        let (status, problem) = ask(&app, &ann, method, path, json!({})).await;
        assert_eq!((status, &problem["code"]), (403, &json!("forbidden")), "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("does not know"), "{problem}");
    }
    let refused = app.admin_as(&root, Method::GET, "/audit?action=auth.failed&decision=deny", None).await.expect(200);
    let refused = refused["items"].as_array().unwrap();
    assert_eq!(refused.len(), 3);
    for event in refused {
        assert_eq!(event["reason"], "ROLE_UNKNOWN");
        assert_eq!((&event["actor"]["name"], &event["actor"]["role"]), (&json!("ann"), &json!("data_steward")));
    }

    // Input stays strict, and an operator that is not understood is not rewritten.
    let (status, problem) = by_root(Method::PUT, "/operators/eve", json!({"role": "data_steward"})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["role".to_owned()]), "{problem}");
    let (status, problem) = by_root(Method::PATCH, "/operators/ann", json!({"description": "x"})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["role".to_owned()]), "{problem}");
    // What tightens keeps the word.
    for verb in ["disable", "enable"] {
        let (status, after) =
            by_root(Method::POST, &format!("/operators/ann/{verb}"), json!({"reason": "a test"})).await;
        assert_eq!((status, &after["role"]), (200, &json!("data_steward")), "{after}");
    }
    assert_eq!(ask(&app, &ann, Method::GET, "/shares", json!({})).await.0, 403);
    // With a role that is known it is let in again.
    let (status, after) = by_root(Method::PATCH, "/operators/ann", json!({"role": "support"})).await;
    assert_eq!((status, &after["role"]), (200, &json!("support")), "{after}");
    assert_eq!(app.admin_as(&ann, Method::GET, "/whoami", None).await.expect(200)["role"], "support");
}

/// Appends `event` as a newer server would have written it, with these words in the place of others.
async fn append_written(app: &TestApp, event: &Event, words: [(&str, &str); 2]) {
    let mut tx = app.service.core.db.begin().await.unwrap();
    let mut head = tx.lock_audit_head().await.unwrap();
    let before = head;
    let link = Head::append(&mut head, event, app.now());
    let body = words.iter().fold(link.body, |body, (word, newer)| {
        assert!(body.contains(word), "{body}");
        body.replace(word, newer)
    });
    let hash = link_hash(&before.hash, &body);
    let stored = StoredEvent { seq: link.seq, prev_hash: before.hash, hash, body, personal: None };
    let derived = Derived {
        at: link.at,
        action: event.action.to_string(),
        decision: event.decision.as_str().to_owned(),
        recipient_id: event.recipient_id,
        share_id: event.share_id,
        object_id: event.object_id,
        table_id: event.table_id,
        token_id: event.token_id,
        grant_id: event.grant_id,
        presigned_files: None,
        presigned_until: None,
    };
    let mut head = before;
    tx.take_over_audit(&mut head, &[(stored, derived)]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn an_event_of_an_unknown_kind_of_actor_is_answered_counted_and_verified(app: TestApp) {
    let acme = app.put("/recipients/acme", json!({})).await.expect(201);
    let of_agent = Event {
        recipient: Some("acme".into()),
        recipient_id: acme["id"].as_str().unwrap().parse().ok(),
        change: Some(json!({"after": {"valid_until": "2027-01-01T00:00:00Z"}})),
        ..Event::new(Actor { kind: ActorKind::Operator, name: None, ..Actor::ANONYMOUS }, Action::GrantCreate)
    };
    let newer = [("\"kind\":\"operator\"", "\"kind\":\"agent\""), ("\"at\":\"", "\"advised_by\":{\"x\":1},\"at\":\"")];
    append_written(&app, &of_agent, newer).await;

    let listed = app.get("/audit?action=grant.create").await.expect(200);
    assert_eq!(listed["items"][0]["actor"], json!({"kind": "agent"}), "{listed}");
    assert_eq!(listed["items"][0]["advised_by"], json!({"x": 1}));
    let accept = [("accept", "application/x-ndjson")];
    let feed = app.admin_with(Method::GET, "/audit?order=asc", &accept, None).await;
    assert!(feed.text.contains("\"kind\":\"agent\""), "{}", feed.text);
    app.service.insight.count_usage().await.unwrap();
    let counted = app.get("/usage?group_by=").await.expect(200);
    assert!(counted["items"][0]["events"].as_i64().unwrap() >= 2, "{counted}");

    app.service.audit.sealer.seal().await.unwrap();
    let keys = app.service.audit.sealer.verifiers();
    let verified = verify_database(&app.service.core.db, &keys, Since::Beginning, None, &mut |_| {}).await.unwrap();
    assert!(verified.head.seq >= 2 && verified.checkpoints == 1, "{verified:?}");

    app.pass(TimeDelta::days(31).num_seconds());
    for asked in [json!({"month": "2026-09"}), json!({"month": "2026-09", "recipient": "acme"})] {
        let report = app.post("/reports", asked).await.expect(201);
        assert_eq!(report["state"], "ready", "{report}");
        let path = format!("/reports/{}", report["id"].as_str().unwrap());
        let said: Value = serde_json::from_str(&app.get(&format!("{path}/report.json")).await.text).unwrap();
        let changes = said["changes"].as_array().unwrap();
        assert!(changes.iter().any(|line| line["by_kind"] == "agent"), "{said}");
        assert!(app.get(&format!("{path}/report.html")).await.text.contains("agent"));
    }
}

#[tokio::test]
async fn a_message_of_an_unknown_kind_is_shown_delivered_and_given_up_like_any_other() {
    let receiver = TestReceiver::start();
    for app in TestApp::each(telling(&receiver)).await {
        let before = receiver.received().len();
        app.post("/freeze", json!({"reason": "an incident"})).await.expect(200);
        app.execute(
            "UPDATE notifications SET kind = 'budget.exceeded', body = replace(body, 'freeze.create', 'budget.exceeded')",
        )
        .await;
        let queued = kept(&app, "?state=pending").await.remove(0);
        assert_eq!(
            (&queued["type"], &queued["message"]["type"]),
            (&json!("budget.exceeded"), &json!("budget.exceeded"))
        );
        receiver.is(Mood::status(410));
        deliver(&app).await;
        assert_eq!(kept(&app, "?state=dead").await[0]["type"], "budget.exceeded");
        assert_eq!(app.events("notification.dead").await[0]["change"]["type"], "budget.exceeded");
        receiver.is(Mood::Well);
        let retry = format!("/notifications/{}/retry", queued["id"].as_str().unwrap());
        app.post(&retry, json!({})).await.expect(200);
        deliver(&app).await;
        let received = receiver.received();
        assert_eq!(received.len(), before + 2);
        assert_eq!(received.last().unwrap().json()["type"], "budget.exceeded");
        assert_eq!(kept(&app, "?state=delivered").await.len(), 1);
    }
}

/// The stored spec of the row `name`.
async fn spec(app: &TestApp, table: &str, name: &str) -> Value {
    let sql = AssertSqlSafe(format!("SELECT spec FROM {table} WHERE name = '{name}'"));
    let text: String = match &app.service.core.db {
        Db::Sqlite { reader, .. } => sqlx::query_scalar(sql).fetch_one(reader).await.unwrap(),
        Db::Postgres { pool, .. } => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
    };
    serde_json::from_str(&text).unwrap()
}

async fn what_a_newer_server_sets_stays_when_an_older_one_changes_the_rest(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    app.operator("ann", "auditor").await;
    app.put("/purposes/fraud", json!({"description": "d"})).await.expect(201);
    let agreement = json!({
        "recipient": "acme", "type": "custom", "document": {"uri": "u"}, "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2099-01-01T00:00:00Z",
    });
    app.put("/agreements/nda", agreement).await.expect(201);
    for table in ["shares", "tables", "objects", "recipients", "operators", "purposes", "agreements"] {
        // Before the end of the text's object.
        app.execute(format!(
            "UPDATE {table} SET spec = substr(spec, 1, length(spec) - 1) || ',\"newer\":{{\"of\":\"{table}\"}}}}'"
        ))
        .await;
    }
    app.execute(
        "UPDATE recipients SET spec = replace(spec, '\"requests_per_minute\":', \
         '\"queries_per_day\":9,\"requests_per_minute\":')",
    )
    .await;
    let changes = [
        ("shares", "insurer", "/shares/insurer"),
        ("tables", "claims.claims", "/tables/claims.claims"),
        ("objects", "claims", "/shares/insurer/objects/claims/claims"),
        ("recipients", "acme", "/recipients/acme"),
        ("operators", "ann", "/operators/ann"),
        ("purposes", "fraud", "/purposes/fraud"),
    ];
    for (table, name, path) in changes {
        let shown = app.get(path).await.expect(200);
        assert!(shown.get("newer").is_none(), "{shown}");
        let changed = app.patch(path, json!({"description": "changed"})).await.expect(200);
        assert_eq!(changed["description"], "changed");
        let kept = spec(&app, table, name).await;
        assert_eq!((&kept["newer"]["of"], &kept["description"]), (&json!(table), &json!("changed")), "{kept}");
        app.patch(path, json!({"newer": {}})).await.problem(422, "invalid_input");
    }
    // A state that changes leaves the spec alone; a field that changes is written as a whole.
    app.post("/recipients/acme/suspend", json!({"reason": "a test"})).await.expect(200);
    assert_eq!(spec(&app, "recipients", "acme").await["limits"]["queries_per_day"], 9);
    app.patch("/recipients/acme", json!({"limits": {"requests_per_minute": 5}})).await.expect(200);
    let kept = spec(&app, "recipients", "acme").await;
    assert_eq!((&kept["limits"]["requests_per_minute"], &kept["newer"]["of"]), (&json!(5), &json!("recipients")));
    // Partners are served all the same.
    app.post("/recipients/acme/resume", json!({"reason": "a test"})).await.expect(200);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 200);
}
