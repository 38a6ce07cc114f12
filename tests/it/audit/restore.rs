//! A database that is behind its export, as after the restore of a backup: what tightened since is tightened again,
//! whoever did it.

use std::{cell::RefCell, collections::BTreeMap};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;
use weir::{
    domain::{access::recipient::RecipientState, operators::Role},
    service::core::context::OperatorContext,
    store::Db,
};

use crate::support::{
    app::TestApp,
    issuer::{OPERATORS, TestIssuer},
};

/// What a backup keeps of each table that is changed afterwards.
const KEPT: [(&str, &[&str]); 8] = [
    ("recipients", &["spec", "state", "revision"]),
    ("tokens", &["revoked_at", "expires_at"]),
    ("objects", &["spec", "revision"]),
    ("operators", &["spec", "role", "disabled_at", "revision"]),
    ("operator_tokens", &["revoked_at"]),
    ("tables", &["spec", "revision", "allowed_purposes"]),
    ("agreements", &["spec", "revision"]),
    ("exceptions", &["spec", "revision"]),
];

/// What a backup keeps whole, the ones that others refer to first.
const WHOLE: [&str; 3] = ["operator_identities", "operator_groups", "operator_group_members"];

/// Keeps what [`put_back`] brings back.
async fn back_up(app: &TestApp) -> i64 {
    for table in WHOLE {
        app.execute(format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
    }
    for (table, columns) in KEPT {
        app.execute(format!("CREATE TABLE kept_{table} AS SELECT id, {} FROM {table}", columns.join(", "))).await;
    }
    app.service.core.db.find_audit_head().await.unwrap().seq
}

/// The database as it was when it was backed up; its trail ends with the event `seq`.
async fn put_back(app: &TestApp, seq: i64) {
    for table in ["audit_events", "grant_endings"] {
        app.execute(match &app.service.core.db {
            Db::Sqlite { .. } => format!("DROP TRIGGER {table}_no_delete"),
            Db::Postgres { .. } => format!("ALTER TABLE {table} DISABLE TRIGGER USER"),
        })
        .await;
    }
    for sql in [
        format!("DELETE FROM audit_personal WHERE seq > {seq}"),
        format!("DELETE FROM audit_events WHERE seq > {seq}"),
        format!("DELETE FROM audit_checkpoints WHERE seq > {seq}"),
        format!("UPDATE audit_head SET seq = {seq}, hash = (SELECT hash FROM audit_events WHERE seq = {seq})"),
        "DELETE FROM grant_endings".to_owned(),
        "UPDATE agreement_terms SET state = 'active', purposes = '[\"*\"]'".to_owned(),
        "UPDATE exception_states SET state = 'proposed'".to_owned(),
    ] {
        app.execute(sql).await;
    }
    for table in WHOLE {
        app.execute(format!("DELETE FROM {table}")).await;
        app.execute(format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
    }
    for (table, columns) in KEPT {
        for column in columns {
            let kept = format!("(SELECT k.{column} FROM kept_{table} k WHERE k.id = {table}.id)");
            let those = format!("id IN (SELECT id FROM kept_{table})");
            app.execute(format!("UPDATE {table} SET {column} = {kept} WHERE {those}")).await;
        }
    }
}

fn lost(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(action, count)| ((*action).to_owned(), *count)).collect()
}

/// A server on each database that exports its trail into a folder.
async fn exporting(change: impl Fn(&mut weir::config::Settings)) -> Vec<(TestApp, TempDir)> {
    let folders = RefCell::new(Vec::new());
    let apps = TestApp::each(|settings| {
        change(settings);
        let folder = TempDir::new().unwrap();
        settings.audit.export.url = Some(Url::from_directory_path(folder.path()).unwrap().to_string());
        folders.borrow_mut().push(folder);
    });
    apps.await.into_iter().zip(folders.into_inner()).collect()
}

#[tokio::test]
async fn what_tightened_since_a_backup_is_tightened_again_whoever_did_it() {
    for (app, _folder) in exporting(|_| {}).await {
        let id = |answer: &Value| answer["id"].as_str().unwrap().to_owned();
        app.share_claims().await;
        let kept = json!({"source": {"table": "claims.claims"}, "history": true, "cdf": true});
        app.put("/shares/insurer/objects/claims/kept", kept).await.expect(201);
        let grant = app.grant_acme().await;
        for name in ["narrowed", "widened", "suspended", "resumed"] {
            app.put(&format!("/recipients/{name}"), json!({})).await.expect(201);
        }
        let credential = |name: &str| json!({"credential": name, "reveal": true});
        let rotated = id(&app.post("/recipients/acme/tokens", credential("rotated")).await.expect(201));
        let unused = id(&app.post("/recipients/acme/tokens", credential("unused")).await.expect(201));
        let cancelled = id(&app.post("/recipients/acme/tokens", json!({"credential": "cancelled"})).await.expect(201));
        let agreement = json!({
            "recipient": "acme", "type": "custom", "document": {"uri": "u"}, "purposes": ["*"],
            "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2099-01-01T00:00:00Z",
        });
        for name in ["halted", "ended", "back", "less"] {
            app.put(&format!("/agreements/{name}"), agreement.clone()).await.expect(201);
            app.post(&format!("/agreements/{name}/activate"), json!({"reason": "a test"})).await.expect(200);
        }
        let day = |days: i64| (app.now() + chrono::TimeDelta::days(days)).to_rfc3339();
        let exception =
            json!({"rule": "raw_class", "object": "share:insurer", "reason": "an audit", "expires_at": day(90)});
        for name in ["over", "sooner"] {
            app.put(&format!("/exceptions/{name}"), exception.clone()).await.expect(201);
        }
        let ann = app.operator("ann", "admin").await;
        let by_ann =
            async |method: Method, path: &str, body: Value| app.admin_as(&ann, method, path, Some(&body)).await;
        by_ann(Method::PUT, "/operators/bob", json!({"role": "admin"})).await.expect(201);
        by_ann(Method::PUT, "/operators/cid", json!({"role": "support"})).await.expect(201);
        by_ann(Method::PUT, "/operators/dan", json!({"role": "admin"})).await.expect(201);
        let issued = by_ann(Method::POST, "/operators/bob/tokens", json!({})).await.expect(201);
        let bobs = id(&issued);
        app.service.audit.sealer.seal().await.unwrap();
        let backup = back_up(&app).await;

        // By the server itself, and not by an operator.
        let system = &OperatorContext::system("a job", app.now());
        app.service.access.revoke_grant(system, grant.parse().unwrap(), None).await.unwrap();
        app.service.access.revoke_token(system, "acme", unused.parse().unwrap(), Some("never used")).await.unwrap();
        let why = || json!({"reason": "a test"});
        let patch = Method::PATCH;
        let networks = |networks: &[&str]| json!({"allowed_cidrs": networks, "description": "changed"});
        by_ann(patch.clone(), "/recipients/narrowed", networks(&["192.0.2.0/24", "198.51.100.0/24"])).await.expect(200);
        by_ann(patch.clone(), "/recipients/narrowed", networks(&["192.0.2.0/24"])).await.expect(200);
        by_ann(patch.clone(), "/recipients/widened", networks(&["192.0.2.0/24"])).await.expect(200);
        by_ann(patch.clone(), "/recipients/widened", networks(&[])).await.expect(200);
        by_ann(Method::POST, "/recipients/suspended/suspend", why()).await.expect(200);
        by_ann(Method::POST, "/recipients/resumed/suspend", why()).await.expect(200);
        by_ann(Method::POST, "/recipients/resumed/resume", why()).await.expect(200);
        for step in ["halted/suspend", "ended/suspend", "ended/terminate", "back/suspend", "back/resume"] {
            by_ann(Method::POST, &format!("/agreements/{step}"), why()).await.expect(200);
        }
        by_ann(patch.clone(), "/agreements/less", json!({"purposes": []})).await.expect(200);
        by_ann(Method::POST, "/exceptions/over/end", why()).await.expect(200);
        let sooner = by_ann(patch.clone(), "/exceptions/sooner", json!({"expires_at": day(9)})).await.expect(200);
        by_ann(patch.clone(), "/tables/claims.claims", json!({"allowed_purposes": []})).await.expect(200);
        let rotation = json!({"existing_token_expire_in_seconds": 60, "reveal": true});
        by_ann(Method::POST, &format!("/recipients/acme/tokens/{rotated}/rotate"), rotation).await.expect(201);
        by_ann(Method::DELETE, &format!("/recipients/acme/tokens/{cancelled}/activation"), json!({})).await.expect(204);
        let object = "/shares/insurer/objects/claims/kept";
        by_ann(patch.clone(), object, json!({"history": false, "cdf": false, "description": "kept"})).await.expect(200);
        by_ann(patch.clone(), "/operators/bob", json!({"role": "auditor"})).await.expect(200);
        by_ann(Method::POST, "/operators/cid/disable", why()).await.expect(200);
        // Step by step to nothing at all.
        by_ann(patch.clone(), "/operators/dan", json!({"role": "owner"})).await.expect(200);
        by_ann(patch.clone(), "/operators/dan", json!({"role": null, "bindings": []})).await.expect(200);
        by_ann(Method::POST, &format!("/operators/bob/tokens/{bobs}/revoke"), json!({})).await.expect(200);
        by_ann(Method::PUT, "/recipients/later", json!({})).await.expect(201);
        app.service.audit.sealer.seal().await.unwrap();
        put_back(&app, backup).await;
        let token = async |id: &str| app.service.core.db.find_token(id.parse().unwrap()).await.unwrap().unwrap();
        assert!(token(&unused).await.revoked_at.is_none() && token(&cancelled).await.revoked_at.is_none());

        let recovery = app.service.recover().await.unwrap().unwrap();
        assert!(!recovery.is_fork);
        assert_eq!(
            recovery.lost,
            lost(&[
                // Narrowed and widened again: nothing is left to tighten.
                ("recipient.update", 2),
                ("recipient.create", 1),
                ("token.issue", 1),
            ])
        );
        let db = &app.service.core.db;
        assert!(db.find_grant(grant.parse().unwrap()).await.unwrap().unwrap().grant.ending.is_some());
        assert!(token(&unused).await.revoked_at.is_some() && token(&cancelled).await.revoked_at.is_some());
        assert!(token(&rotated).await.revoked_at.is_none());
        assert!(token(&rotated).await.expires_at.unwrap() <= app.now() + chrono::TimeDelta::seconds(60));
        let recipient = async |name: &str| db.find_recipient(name).await.unwrap().unwrap();
        let narrowed = recipient("narrowed").await.spec;
        assert_eq!(json!(narrowed.allowed_cidrs), json!(["192.0.2.0/24"]));
        assert_eq!(narrowed.description, None, "what means nothing is left as it is");
        assert!(recipient("widened").await.spec.allowed_cidrs.is_empty());
        assert_eq!(recipient("suspended").await.state, RecipientState::Suspended);
        assert_eq!(recipient("resumed").await.state, RecipientState::Active);
        let agreement =
            async |name: &str| app.admin_as(&ann, Method::GET, &format!("/agreements/{name}"), None).await.expect(200);
        for (name, state) in [("halted", "suspended"), ("ended", "terminated"), ("back", "active"), ("less", "active")]
        {
            assert_eq!(agreement(name).await["state"], state, "{name}");
        }
        assert_eq!(agreement("less").await["purposes"], json!([]));
        let exception =
            async |name: &str| app.admin_as(&ann, Method::GET, &format!("/exceptions/{name}"), None).await.expect(200);
        assert_eq!(exception("over").await["state"], "ended");
        assert_eq!(exception("sooner").await["expires_at"], sooner["expires_at"]);
        let table = db.find_table("claims.claims").await.unwrap().unwrap();
        assert_eq!(table.spec.allowed_purposes, Some(vec![]));
        let shares = db.list_shares(None, 10).await.unwrap();
        let (object, _) = db.find_object(shares[0].id, "claims", "kept").await.unwrap().unwrap();
        assert!(!object.spec.history && !object.spec.cdf && object.spec.description.is_none());
        let operator = async |name: &str| db.find_operator(name).await.unwrap().unwrap();
        assert_eq!(operator("bob").await.spec.role, Some(Role::Auditor.into()));
        assert_eq!(operator("dan").await.spec.role, None);
        assert!(operator("cid").await.disabled_at.is_some() && operator("ann").await.disabled_at.is_none());
        let bearer = db.find_operator_bearer_by_id(bobs.parse().unwrap()).await.unwrap().unwrap();
        assert!(bearer.token.revoked_at.is_some());
        assert!(db.find_freeze().await.unwrap().is_some());

        // What was done then is in the trail with its effect, so that another restore does it once more.
        let trail = db.list_audit(&weir::store::AuditFilter::default(), 1_000).await.unwrap();
        let again: Vec<Value> = trail.iter().map(|event| serde_json::from_str(&event.body).unwrap()).collect();
        let again = again.iter().filter(|event| event["actor"]["name"] == "recovery" && event["effect"].is_string());
        assert!(again.clone().all(|event| event["effect"] == "tightens"));
        assert_eq!(again.count(), recovery.revoked + 1, "and everything is frozen");
    }
}

#[tokio::test]
async fn groups_roles_and_those_who_sign_in_by_an_issuer_are_tightened_again() {
    let issuer = TestIssuer::start();
    for (app, _folder) in exporting(|settings| issuer.introduce(settings)).await {
        let ann = app.operator("ann", "admin").await;
        let by_ann = async |method: Method, path: &str, body: Value| {
            app.admin_as(&ann, method, path, Some(&body).filter(|body| !body.is_null())).await
        };
        let binding = |role: &str, scope: &str| json!({"role": role, "scope": scope});
        let mut tokens = Vec::new();
        for (name, bindings) in [
            ("bob", json!([])),
            ("cid", json!([])),
            ("dora", json!([binding("owner", "*"), binding("auditor", "share:s")])),
        ] {
            let path = format!("/operators/{name}");
            by_ann(Method::PUT, &path, json!({ "bindings": bindings })).await.expect(201);
            let issued = by_ann(Method::POST, &format!("{path}/tokens"), json!({})).await.expect(201);
            tokens.push(issued["token"].as_str().unwrap().to_owned());
        }
        let [bob, cid, dora] = tokens.try_into().unwrap();
        let auditor_and_owner = json!([binding("auditor", "*"), binding("owner", "share:s")]);
        for (name, members, bindings) in [
            ("exchanged", json!(["bob", "Cid"]), json!([binding("owner", "*")])),
            ("lessened", json!(["bob"]), auditor_and_owner),
            ("gone", json!(["bob"]), json!([binding("support", "*")])),
            ("widened", json!([]), json!([binding("admin", "*")])),
        ] {
            let group = json!({"members": members, "bindings": bindings});
            by_ann(Method::PUT, &format!("/groups/{name}"), group).await.expect(201);
        }
        let token =
            |subject: &str| issuer.token(app.now(), json!({"aud": OPERATORS, "sub": subject, "groups": "weir-owners"}));
        let whoami = async |token: &str| app.admin_as(token, Method::GET, "/whoami", None).await;
        let path_of = async |token: &str| {
            format!("/operator-identities/{}", whoami(token).await.expect(200)["id"].as_str().unwrap())
        };
        let [kim, lee, max] = ["kim", "lee", "max"].map(token);
        let (path_of_kim, path_of_max) = (path_of(&kim).await, path_of(&max).await);
        app.service.audit.sealer.seal().await.unwrap();
        let backup = back_up(&app).await;

        let patch = Method::PATCH;
        let why = || json!({"reason": "a test"});
        by_ann(patch.clone(), "/groups/exchanged", json!({"members": ["Cid", "dora"]})).await.expect(200);
        let owner = json!({"bindings": [binding("owner", "share:s")]});
        by_ann(patch.clone(), "/groups/lessened", owner.clone()).await.expect(200);
        by_ann(Method::DELETE, "/groups/gone", Value::Null).await.expect(204);
        by_ann(patch.clone(), "/groups/widened", json!({"members": ["bob"]})).await.expect(200);
        by_ann(Method::PUT, "/groups/new", json!({"members": ["bob"]})).await.expect(201);
        let auditor = json!({"bindings": [binding("auditor", "share:s")]});
        by_ann(patch.clone(), "/operators/dora", auditor.clone()).await.expect(200);
        // One that the backup knows, one that has never signed in by then, and one that was let in again.
        let path_of_lee = path_of(&lee).await;
        for path in [&path_of_kim, &path_of_lee, &path_of_max] {
            by_ann(Method::POST, &format!("{path}/disable"), why()).await.expect(200);
        }
        by_ann(Method::POST, &format!("{path_of_max}/enable"), why()).await.expect(200);
        app.service.audit.sealer.seal().await.unwrap();
        put_back(&app, backup).await;
        let found = app.service.core.db.list_groups_of("bob").await.unwrap();
        let names: Vec<String> = found.iter().map(|group| group.name.to_string()).collect();
        assert_eq!(names, ["exchanged", "gone", "lessened"], "as they were");

        let recovery = app.service.recover().await.unwrap().unwrap();
        assert!(!recovery.is_fork);
        assert_eq!(recovery.lost, lost(&[("group.create", 1), ("group.update", 2)]));
        assert_eq!(recovery.revoked, 6, "three groups, dora, kim and lee");
        let group = async |name: &str| by_ann(Method::GET, &format!("/groups/{name}"), Value::Null).await;
        assert_eq!(group("exchanged").await.expect(200)["members"], json!(["Cid"]));
        assert_eq!(group("lessened").await.expect(200)["bindings"], owner["bindings"]);
        assert_eq!(group("widened").await.expect(200)["members"], json!([]));
        group("gone").await.problem(404, "not_found");
        let operator = by_ann(Method::GET, "/operators/dora", Value::Null).await.expect(200);
        assert_eq!(operator["bindings"], auditor["bindings"]);
        // And so they count.
        for (token, share, status) in
            [(&bob, "t", 403), (&bob, "s", 201), (&cid, "t", 201), (&dora, "u", 403), (&max, "u", 201)]
        {
            let put = app.admin_as(token, Method::PUT, &format!("/shares/{share}"), Some(&json!({}))).await;
            assert_eq!(put.status, status, "{share}: {}", put.text);
        }
        for token in [&kim, &lee] {
            let refused = whoami(token).await.problem(401, "unauthenticated");
            assert!(refused["detail"].as_str().unwrap().contains("disabled"), "{refused}");
        }
        for path in [&path_of_kim, &path_of_lee] {
            let listed = by_ann(Method::GET, path, Value::Null).await.expect(200);
            assert!(listed["disabled_at"].is_string(), "{listed}");
        }
        // Another restore would do it once more.
        let trail = app.service.core.db.list_audit(&weir::store::AuditFilter::default(), 1_000).await.unwrap();
        let events: Vec<Value> = trail.iter().map(|event| serde_json::from_str(&event.body).unwrap()).collect();
        let again: Vec<(&str, &str)> = events
            .iter()
            .filter(|event| event["actor"]["name"] == "recovery" && event["effect"].is_string())
            .map(|event| (event["action"].as_str().unwrap(), event["effect"].as_str().unwrap()))
            .collect();
        let mut expected: Vec<(&str, &str)> = [
            "freeze.create",
            "group.delete",
            "group.update",
            "group.update",
            "operator.identity.disable",
            "operator.identity.disable",
            "operator.update",
        ]
        .map(|action| (action, "tightens"))
        .to_vec();
        let mut again = again;
        again.sort_unstable();
        expected.sort_unstable();
        assert_eq!(again, expected);
    }
}
