//! Operators and their tokens: how they are created and ended, and that an admin always remains.

mod groups;
mod identities;
mod roles;
mod scopes;
mod separation;
mod unauthorized;

use http::Method;
use serde_json::{Value, json};
use weir::{
    domain::{audit::Personal, operators::Permission},
    service::{
        core::context::Asked,
        core::{context::Run, places::Place},
    },
};

use crate::support::{
    app::{OPERATOR_TOKEN, TestApp, fields, on_both_databases},
    process::Installation,
};

/// A request to create the share `s`, as the API sees it before it knows the caller.
fn asked_to_put_a_share() -> Asked {
    Asked {
        route: "/api/v1/shares/{share}".into(),
        method: "PUT".into(),
        path: "/api/v1/shares/s".into(),
        reads: false,
        run: Run::Real,
        needed: Permission::ManageSharing,
        request_id: "r1".into(),
        personal: Personal::default(),
        place: Place::default(),
    }
}

on_both_databases!(
    an_operator_is_put_read_changed_and_deleted,
    what_makes_no_operator_is_refused,
    a_token_is_shown_once_and_ends,
    only_so_many_tokens_of_an_operator_work_at_a_time,
    a_disabled_operator_does_nothing_until_it_is_enabled,
    the_last_enabled_admin_stays,
    the_bootstrap_token_retires_with_the_first_admin,
    what_an_operator_does_is_recorded_under_its_identity_and_role,
    a_change_is_refused_that_had_its_turn_after_its_operator_was_stopped,
    a_flood_of_refusals_is_summed,
);

async fn an_operator_is_put_read_changed_and_deleted(app: TestApp) {
    let body = json!({"role": "auditor", "description": "internal audit"});
    let created = app.put("/operators/ann@example.org", body.clone()).await.expect(201);
    assert_eq!((&created["role"], &created["disabled_at"]), (&json!("auditor"), &Value::Null));
    assert_eq!(app.put("/operators/ANN@example.org", body).await.expect(200), created);
    app.put("/operators/ann@example.org", json!({"role": "support"})).await.problem(409, "conflict");
    let etag = created["etag"].as_str().unwrap();
    let changed = app.patch("/operators/ann@example.org", json!({"role": "support"})).await.expect(200);
    assert_eq!((&changed["role"], &changed["description"]), (&json!("support"), &json!("internal audit")));
    let stale = app.admin_with(Method::DELETE, "/operators/ann@example.org", &[("if-match", etag)], None).await;
    stale.problem(412, "precondition_failed");
    assert_eq!(app.get("/operators").await.expect(200)["items"], json!([changed]));
    assert_eq!(app.get("/operators/ann@example.org").await.expect(200), changed);
    app.delete("/operators/ann@example.org").await.expect(204);
    app.get("/operators/ann@example.org").await.problem(404, "not_found");
    let changes: Vec<Value> = app.events("operator.update").await.into_iter().map(|e| e["change"].clone()).collect();
    assert_eq!(changes, [json!({"before": {"role": "auditor"}, "after": {"role": "support"}})]);
    assert_eq!(app.events("operator.delete").await[0]["object"]["id"], created["id"]);
}

async fn what_makes_no_operator_is_refused(app: TestApp) {
    for (name, body, field) in [
        ("ann", json!({}), "role"),
        ("ann", json!({"role": null}), "role"),
        ("ann", json!({"role": "root"}), "role"),
        ("ann", json!({"role": "admin", "disabled_at": null}), "disabled_at"),
        ("Bootstrap", json!({"role": "admin"}), "operator"),
        ("a%20b", json!({"role": "admin"}), "operator"),
    ] {
        let problem = app.put(&format!("/operators/{name}"), body).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [field], "{problem}");
    }
    app.put("/operators/ann", json!({"role": "support"})).await.expect(201);
    assert_eq!(
        fields(&app.patch("/operators/ann", json!({"role": null})).await.problem(422, "invalid_input")),
        ["role"]
    );
    for seconds in [0, 31_536_001] {
        let body = json!({"expires_in_seconds": seconds});
        let problem = app.post("/operators/ann/tokens", body).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["expires_in_seconds"]);
    }
    app.post("/operators/bob/tokens", json!({})).await.problem(404, "not_found");
    app.post("/operators/bob/disable", json!({"reason": "left"})).await.problem(404, "not_found");
}

async fn a_token_is_shown_once_and_ends(app: TestApp) {
    app.put("/operators/ann", json!({"role": "support"})).await.expect(201);
    app.put("/operators/bob", json!({"role": "support"})).await.expect(201);
    let key = [("idempotency-key", "k1")];
    let body = json!({"expires_in_seconds": 3600});
    let issue = || app.admin_with(Method::POST, "/operators/ann/tokens", &key, Some(&body));
    let issued = issue().await.expect(201);
    let (id, token) = (issued["id"].as_str().unwrap(), issued["token"].as_str().unwrap());
    assert!(token.starts_with("weirop_") && token.len() >= 50, "{token}");
    assert!(issue().await.problem(409, "conflict")["detail"].as_str().unwrap().contains(id));
    let listed = app.get("/operators/ann/tokens").await;
    assert!(!listed.text.contains(token));
    assert_eq!(listed.expect(200)["items"][0]["state"], "active");
    let dump = app.get("/audit?max_results=1000").await;
    assert!(!dump.text.contains(&token["weirop_".len()..]), "no event holds a token");

    let whoami = || app.admin_as(token, Method::GET, "/whoami", None);
    whoami().await.expect(200);
    app.pass(3599);
    whoami().await.expect(200);
    app.pass(1);
    whoami().await.problem(401, "unauthenticated");
    assert_eq!(app.events("auth.failed").await[0]["reason"], "OPERATOR_TOKEN_EXPIRED");
    assert_eq!(app.events("auth.failed").await[0]["actor"]["name"], "ann", "the event tells whose it was");

    let issued = app.post("/operators/ann/tokens", json!({})).await.expect(201);
    let (id, token) = (issued["id"].as_str().unwrap(), issued["token"].as_str().unwrap());
    app.post(&format!("/operators/bob/tokens/{id}/revoke"), json!({})).await.problem(404, "not_found");
    let revoked =
        app.post(&format!("/operators/ann/tokens/{id}/revoke"), json!({"reason": "leaked"})).await.expect(200);
    assert_eq!(revoked["state"], "revoked");
    app.pass(60);
    assert_eq!(app.post(&format!("/operators/ann/tokens/{id}/revoke"), json!({})).await.expect(200), revoked);
    app.admin_as(token, Method::GET, "/whoami", None).await.problem(401, "unauthenticated");
    assert_eq!(app.events("operator.token.revoke").await[0]["change"]["reason"], "leaked");
}

async fn only_so_many_tokens_of_an_operator_work_at_a_time(app: TestApp) {
    app.put("/operators/ann", json!({"role": "support"})).await.expect(201);
    for _ in 0..10 {
        app.post("/operators/ann/tokens", json!({"expires_in_seconds": 60})).await.expect(201);
    }
    app.post("/operators/ann/tokens", json!({})).await.problem(409, "conflict");
    app.pass(60);
    app.post("/operators/ann/tokens", json!({})).await.expect(201);
}

async fn a_disabled_operator_does_nothing_until_it_is_enabled(app: TestApp) {
    let token = app.operator("ann", "support").await;
    app.post("/operators/ann/disable", json!({})).await.problem(422, "invalid_input");
    let disabled = app.post("/operators/ann/disable", json!({"reason": "on leave"})).await.expect(200);
    assert!(disabled["disabled_at"].is_string());
    app.pass(5);
    assert_eq!(app.post("/operators/ann/disable", json!({"reason": "again"})).await.expect(200), disabled);
    let refused = app.admin_as(&token, Method::GET, "/shares", None).await.problem(401, "unauthenticated");
    assert!(refused["detail"].as_str().unwrap().contains("disabled"), "{refused}");
    assert_eq!(app.events("auth.failed").await[0]["reason"], "OPERATOR_DISABLED");
    let enabled = app.post("/operators/ann/enable", json!({"reason": "back"})).await.expect(200);
    assert_eq!(enabled["disabled_at"], Value::Null);
    app.admin_as(&token, Method::GET, "/shares", None).await.expect(200);
}

async fn the_last_enabled_admin_stays(app: TestApp) {
    let ann = app.operator("ann", "admin").await;
    let by_ann = async |method: Method, path: &str, body: Value| {
        app.admin_as(&ann, method, path, Some(&body).filter(|body| !body.is_null())).await
    };
    let end = [
        (Method::POST, "/operators/ann/disable", json!({"reason": "left"})),
        (Method::PATCH, "/operators/ann", json!({"role": "auditor"})),
        (Method::DELETE, "/operators/ann", Value::Null),
    ];
    let stays = async || {
        for (method, path, body) in end.clone() {
            let problem = by_ann(method, path, body).await.problem(409, "conflict");
            assert!(problem["detail"].as_str().unwrap().contains("last enabled admin"), "{problem}");
        }
    };
    stays().await;
    by_ann(Method::PUT, "/operators/bob", json!({"role": "admin"})).await.expect(201);
    stays().await;
    let body = json!({"expires_in_seconds": 60});
    let bob = by_ann(Method::POST, "/operators/bob/tokens", body).await.expect(201);
    by_ann(Method::POST, "/operators/bob/disable", json!({"reason": "not yet"})).await.expect(200);
    stays().await;
    by_ann(Method::POST, "/operators/bob/enable", json!({"reason": "now"})).await.expect(200);
    app.pass(60);
    stays().await;
    let bob = {
        assert!(bob["token"].is_string());
        by_ann(Method::POST, "/operators/bob/tokens", json!({})).await.expect(201)["token"].as_str().unwrap().to_owned()
    };
    by_ann(Method::PATCH, "/operators/ann", json!({"role": "auditor"})).await.expect(200);
    // From then on, only the new role counts.
    by_ann(Method::DELETE, "/operators/bob", Value::Null).await.problem(403, "forbidden");
    app.admin_as(&bob, Method::DELETE, "/operators/bob", None).await.problem(409, "conflict");
    app.admin_as(&bob, Method::DELETE, "/operators/ann", None).await.expect(204);
}

async fn the_bootstrap_token_retires_with_the_first_admin(app: TestApp) {
    app.put("/operators/ann", json!({"role": "admin"})).await.expect(201);
    let issue = json!({"expires_in_seconds": 3600});
    // An admin without a token cannot create operators yet, so the bootstrap token still works.
    let ann = app.post("/operators/ann/tokens", issue.clone()).await.expect(201)["token"].as_str().unwrap().to_owned();
    for path in ["/shares", "/whoami", "/nothing"] {
        let refused = app.get(path).await.problem(401, "unauthenticated");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("retired") && detail.contains("weir operator create"), "{detail}");
    }
    let events = app.admin_as(&ann, Method::GET, "/audit?action=auth.failed", None).await.expect(200);
    let event = &events["items"][0];
    assert_eq!((&event["reason"], &event["actor"]["name"]), (&json!("BOOTSTRAP_RETIRED"), &json!("bootstrap")));
    // When no admin can sign in any more, the bootstrap token works again.
    app.pass(3600);
    app.get("/whoami").await.expect(200);
    app.post("/operators/ann/tokens", issue).await.expect(201);
    app.get("/whoami").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_bootstrap_token_goes_on_where_the_settings_say_so() {
    let app = TestApp::sqlite_set(|settings| settings.operators.keep_bootstrap_token = true).await;
    let ann = app.operator("ann", "admin").await;
    assert_eq!(app.get("/whoami").await.expect(200)["name"], "bootstrap");
    app.put("/shares/s", json!({})).await.expect(201);
    app.admin_as(&ann, Method::GET, "/shares/s", None).await.expect(200);
    assert_eq!(app.events("share.create").await[0]["actor"]["name"], "bootstrap");
}

async fn what_an_operator_does_is_recorded_under_its_identity_and_role(app: TestApp) {
    let token = app.operator("Ann", "share_owner").await;
    let id = app.get("/operators/ann").await.expect(200)["id"].clone();
    let token_id = app.get("/operators/ann/tokens").await.expect(200)["items"][0]["id"].clone();
    app.admin_as(&token, Method::PUT, "/shares/s", Some(&json!({}))).await.expect(201);
    app.admin_as(&token, Method::GET, "/shares/s", None).await.expect(200);
    app.admin_as(&token, Method::PUT, "/shares/s", Some(&json!({"description": "x"}))).await.problem(409, "conflict");
    app.admin_as(&token, Method::PUT, "/operators/bob", Some(&json!({"role": "admin"})))
        .await
        .problem(403, "forbidden");
    app.admin_as(&token, Method::GET, "/operators", None).await.problem(403, "forbidden");
    let actor = json!({"kind": "operator", "id": id, "name": "Ann", "role": "share_owner", "token_id": token_id});
    let by_ann = async |action: &str| {
        let events = app.events(action).await.into_iter().filter(|event| event["actor"] == actor);
        events.map(|event| (event["reason"].clone(), event["object"]["name"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(by_ann("share.create").await, [(Value::Null, json!("s"))]);
    let (operators, one) = (json!("/api/v1/operators"), json!("/api/v1/operators/{operator}"));
    let (denied, share) = (json!("ROLE_LACKS_PERMISSION"), json!("/api/v1/shares/{share}"));
    assert_eq!(by_ann("admin.change").await, [(denied.clone(), one), (json!("CONFLICT"), share.clone())]);
    assert_eq!(by_ann("admin.read").await, [(denied, operators), (Value::Null, share)]);
}

async fn a_change_is_refused_that_had_its_turn_after_its_operator_was_stopped(app: TestApp) {
    use weir::{domain::catalog::share::ShareSpec, service::core::change::named};
    let token = app.operator("ann", "share_owner").await;
    let asked = asked_to_put_a_share();
    // Admitted, then overtaken on the way to its transaction.
    let ctx = app.service.operators.admit_operator(Some(&token), &asked).await.unwrap();
    let spec = &named(json!({"description": "x"}));
    app.service.core.put_declared::<ShareSpec>(&ctx, "before", spec).await.unwrap();
    app.patch("/operators/ann", json!({"role": "auditor"})).await.expect(200);
    let refused = app.service.core.put_declared::<ShareSpec>(&ctx, "s", spec).await.unwrap_err();
    assert!(refused.to_string().contains("`ann` is `auditor`"), "{refused}");
    app.patch("/operators/ann", json!({"role": "share_owner"})).await.expect(200);
    app.service.core.put_declared::<ShareSpec>(&ctx, "again", spec).await.unwrap();
    app.post("/operators/ann/disable", json!({"reason": "left"})).await.expect(200);
    app.service.core.put_declared::<ShareSpec>(&ctx, "s", spec).await.unwrap_err();
    app.post("/operators/ann/enable", json!({"reason": "back"})).await.expect(200);
    app.pass(30 * 86_400);
    app.service.core.put_declared::<ShareSpec>(&ctx, "s", spec).await.unwrap_err();
    app.delete("/operators/ann").await.expect(204);
    app.service.core.put_declared::<ShareSpec>(&ctx, "s", spec).await.unwrap_err();
    app.get("/shares/s").await.problem(404, "not_found");
}

async fn a_flood_of_refusals_is_summed(app: TestApp) {
    let token = app.operator("ann", "auditor").await;
    let other = app.operator("bob", "auditor").await;
    for _ in 0..50 {
        app.admin_as(&token, Method::DELETE, "/shares/s", None).await.problem(403, "forbidden");
    }
    app.admin_as(&other, Method::DELETE, "/shares/s", None).await.problem(403, "forbidden");
    app.service.sharing.record_summaries(true);
    app.service.core.audit_writer.finish().await;
    let refused = app.get("/audit?action=admin.change&max_results=1000").await.expect(200);
    let by = |name: &str| refused["items"].as_array().unwrap().iter().filter(|e| e["actor"]["name"] == name).count();
    assert_eq!((by("ann"), by("bob")), (20, 1));
    let summary = &app.events("refusals.summary").await[0];
    assert_eq!((&summary["change"]["count"], &summary["actor"]["name"]), (&json!(30), &json!("ann")));
}

#[tokio::test]
async fn the_command_line_makes_an_operator_beside_a_running_server() {
    let weir = Installation::sqlite();
    // Before any server runs, on a file that does not exist yet.
    let early = weir.run_well(&["operator", "create", "early", "--role", "auditor", "--expires", "1d"]);
    let server = weir.start().await;
    let whoami = async |token: &str| {
        let answer =
            server.client.get(format!("{}/api/v1/whoami", server.url)).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(whoami(early.trim()).await.1["role"], "auditor");
    assert_eq!(whoami(OPERATOR_TOKEN).await.0, 200);
    let token = weir.run_well(&["operator", "create", "ann", "--role", "admin", "--expires", "30d"]);
    assert!(token.starts_with("weirop_") && token.lines().count() == 1, "{token}");
    let (_, ann) = whoami(token.trim()).await;
    assert_eq!((&ann["name"], &ann["role"]), (&json!("ann"), &json!("admin")));
    assert_eq!(whoami(OPERATOR_TOKEN).await.0, 401, "the bootstrap token retires at once");
    for (arguments, code, told) in [
        (&["operator", "create", "ann", "--role", "admin"][..], 1, "exists already"),
        (&["operator", "create", "bob", "--role", "admin", "--expires", "400d"], 1, "expires_in_seconds"),
        (&["operator", "create", "a b", "--role", "admin"], 1, "space"),
        (&["operator", "create", "bob", "--role", "root"], 2, "auditor"),
        (&["operator", "create", "bob", "--role", "admin", "--expires", "soon"], 2, "30d"),
        (&["operator", "create", "bob"], 2, "--role"),
    ] {
        let output = weir.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{arguments:?} {error}");
        assert!(error.contains(told), "{error}");
    }
    weir.run_well(&["audit", "verify"]);
}
