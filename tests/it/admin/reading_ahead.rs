//! What a newer server has stored is read as it is, so that two versions can serve one database; what would let somebody do
//! something is refused.

use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use weir::{
    domain::{
        audit::{Actor, ActorKind, Event, Head, action::Action, link_hash},
        core::job::JobKind,
    },
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
    a_recipient_in_an_unknown_state_is_shown_and_refused,
    words_of_specs_that_are_unknown_are_shown_and_mean_the_stricter_one,
    jobs_and_reports_in_unknown_states_are_shown_and_left_alone,
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
        // A state that is unknown is shown, and left alone.
        app.execute("UPDATE notifications SET state = 'snoozed'").await;
        assert_eq!(kept(&app, "").await[0]["state"], "snoozed");
        let retry = format!("/notifications/{}/retry", queued["id"].as_str().unwrap());
        app.post(&retry, json!({})).await.problem(409, "conflict");
        deliver(&app).await;
        app.execute("UPDATE notifications SET state = 'dead'").await;
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

async fn a_recipient_in_an_unknown_state_is_shown_and_refused(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    app.execute("UPDATE recipients SET state = 'winding_down'").await;
    assert_eq!(app.get("/recipients/acme").await.expect(200)["state"], "winding_down");
    assert_eq!(app.get("/recipients").await.expect(200)["items"][0]["state"], "winding_down");
    assert_eq!(app.shared(&token, "/shares").await.status, 403);
    let changed = app.patch("/recipients/acme", json!({"description": "x"})).await.expect(200);
    assert_eq!((&changed["state"], &changed["description"]), (&json!("winding_down"), &json!("x")));
    // Whether another state would be less, only a newer server knows; the end is the end.
    for verb in ["resume", "suspend"] {
        let path = format!("/recipients/acme/{verb}");
        let refused = app.post(&path, json!({"reason": "a test"})).await.problem(409, "conflict");
        assert!(refused["detail"].as_str().unwrap().contains("newer server"), "{refused}");
    }
    let ended = app.post("/recipients/acme/offboard", json!({"reason": "a test"})).await.expect(200);
    assert_eq!(ended["state"], "offboarded");
    let change = &app.events("recipient.offboard").await[0]["change"];
    assert_eq!((&change["before"]["state"], &change["after"]["state"]), (&json!("winding_down"), &json!("offboarded")));
}

async fn words_of_specs_that_are_unknown_are_shown_and_mean_the_stricter_one(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    app.execute(
        "UPDATE objects SET on_schema_change = 'ask', spec = replace(replace(replace(spec, \
         '\"delivery\":null', '\"delivery\":\"relayed\"'), '\"follow\"', '\"ask\"'), \
         '\"acknowledge\":[]', '\"acknowledge\":[\"history\",\"lineage\"]')",
    )
    .await;
    app.execute("UPDATE recipients SET spec = replace(spec, '\"delivery\":null', '\"delivery\":\"relayed\"')").await;
    let (object, recipient) = ("/shares/insurer/objects/claims/claims", "/recipients/acme");
    let shown = app.get(object).await.expect(200);
    assert_eq!((&shown["on_schema_change"], &shown["acknowledge"]), (&json!("ask"), &json!(["history", "lineage"])));
    assert_eq!(app.get(recipient).await.expect(200)["delivery"], "relayed");
    for listing in ["/shares/insurer/objects", "/recipients"] {
        assert_eq!(app.get(listing).await.expect(200)["items"].as_array().unwrap().len(), 1, "{listing}");
    }
    assert_eq!(app.shared(&token, "/shares/insurer/all-tables").await.status, 200);
    // What is not understood is not rewritten, and input stays strict.
    let refused = app.patch(object, json!({"description": "x"})).await.problem(422, "invalid_input");
    assert_eq!(fields(&refused), ["acknowledge", "delivery", "on_schema_change"]);
    let refused = app.patch(recipient, json!({"description": "x"})).await.problem(422, "invalid_input");
    assert_eq!(fields(&refused), ["delivery"]);
    let words = json!({"delivery": "presigned", "on_schema_change": "follow", "acknowledge": []});
    let mended = app.patch(object, words).await.expect(200);
    assert_eq!((&mended["on_schema_change"], &mended["acknowledge"]), (&json!("follow"), &json!([])));
    let input = json!({"delivery": "relayed"});
    let refused = app.put("/recipients/other", input).await.problem(422, "invalid_input");
    assert_eq!(fields(&refused), ["delivery"]);
}

async fn jobs_and_reports_in_unknown_states_are_shown_and_left_alone(app: TestApp) {
    app.put("/shares/s", json!({})).await.expect(201);
    app.execute(
        "INSERT INTO jobs (id, kind, key, state, attempts, created_at, due_at) \
         SELECT id, 'report', 'k', 'parked', 3, created_at, created_at FROM shares",
    )
    .await;
    app.execute(
        "INSERT INTO reports (id, month, recipient_id, state, requested_by, requested_at) \
         SELECT id, '2026-08', id, 'sealing', 'ann', created_at FROM shares",
    )
    .await;
    let job = app.get("/jobs").await.expect(200)["items"][0].clone();
    assert_eq!((&job["state"], &job["due_at"]), (&json!("parked"), &Value::Null));
    let id = job["id"].as_str().unwrap();
    let refused = app.post(&format!("/jobs/{id}/retry"), json!({})).await.problem(409, "conflict");
    assert!(refused["detail"].as_str().unwrap().contains("is parked"), "{refused}");
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
    app.service.insight.tend_reports().await.unwrap();
    app.service.jobs.count_jobs().await.unwrap();
    assert_eq!(app.get("/jobs").await.expect(200)["items"][0], job);
    assert_eq!(app.get("/reports").await.expect(200)["items"][0]["state"], "sealing");
    app.get(&format!("/reports/{id}/report.html")).await.problem(503, "unavailable");
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
    // A state that changes leaves the spec alone, and a field that changes leaves what is unknown within it.
    app.post("/recipients/acme/suspend", json!({"reason": "a test"})).await.expect(200);
    assert_eq!(spec(&app, "recipients", "acme").await["limits"]["queries_per_day"], 9);
    for (change, requests) in [(json!({"requests_per_minute": 5}), json!(5)), (json!(null), json!(null))] {
        let changed = app.patch("/recipients/acme", json!({"limits": change})).await.expect(200);
        assert!(changed["limits"].get("queries_per_day").is_none(), "{changed}");
        let kept = spec(&app, "recipients", "acme").await;
        assert_eq!(kept["limits"]["requests_per_minute"], requests);
        assert_eq!((&kept["limits"]["queries_per_day"], &kept["newer"]["of"]), (&json!(9), &json!("recipients")));
    }
    let refused = app.patch("/recipients/acme", json!({"limits": {"queries_per_day": 1}})).await;
    assert_eq!(fields(&refused.problem(422, "invalid_input")), ["limits.queries_per_day"]);
    // Roles that are given stay as they were when others are given or taken.
    let roles = |scopes: &[&str]| {
        let given = scopes.iter().map(|scope| json!({"role": "owner", "scope": scope}));
        json!({"bindings": given.collect::<Vec<_>>()})
    };
    app.put("/groups/team", roles(&["share:insurer", "domain:a"])).await.expect(201);
    app.execute(
        "UPDATE operator_groups SET spec = replace(spec, '\"scope\":\"share:insurer\"', \
         '\"scope\":\"share:insurer\",\"until\":\"2027-01-01\"')",
    )
    .await;
    app.patch("/groups/team", roles(&["domain:b", "share:insurer"])).await.expect(200);
    let kept = spec(&app, "operator_groups", "team").await;
    assert_eq!((&kept["bindings"][0].get("until"), &kept["bindings"][1]["until"]), (&None, &json!("2027-01-01")));
    // Partners are served all the same.
    app.post("/recipients/acme/resume", json!({"reason": "a test"})).await.expect(200);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 200);
}
