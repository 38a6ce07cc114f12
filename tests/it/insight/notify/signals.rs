//! Every kind of signal, raised by its real cause.

use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, Request, header};
use serde_json::{Value, json};
use weir::{
    config::{AuditSettings, Settings, Sources},
    domain::core::seal::RootKey,
    service::audit::seal::AuditSealer,
};
use zeroize::Zeroizing;

use super::{deliver, kept, telling};
use crate::support::{
    app::{Answer, TestApp},
    receiver::TestReceiver,
    tables::{HandWrittenLog, metadata},
};

const DAY: i64 = 86_400;

/// A server on each database, each with its own receiver.
async fn each(change: impl Fn(&mut Settings)) -> Vec<(TestApp, TestReceiver)> {
    let mut all = Vec::new();
    for index in 0..2 {
        let receiver = TestReceiver::start();
        let apps = TestApp::each(|settings| {
            telling(&receiver)(settings);
            change(settings);
        })
        .await;
        all.extend(apps.into_iter().nth(index).map(|app| (app, receiver)));
    }
    all
}

fn days(told: &[Value]) -> Vec<i64> {
    told.iter().map(|data| data["days"].as_i64().unwrap()).collect()
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

#[tokio::test]
async fn ends_are_told_fourteen_seven_and_one_days_before_once_each() {
    for (app, receiver) in each(|_| {}).await {
        app.share_claims().await;
        app.put("/recipients/acme", json!({})).await.expect(201);
        let began = app.now();
        let (grant_end, agreement_end) = (began + TimeDelta::days(60), began + TimeDelta::days(40));
        let grant = json!({
            "share": "insurer", "recipient": "acme", "valid_until": text(grant_end),
            "agreement": {"ref": "DSA-7", "valid_until": text(agreement_end)},
        });
        let grant = app.post("/grants", grant).await.expect(201);
        let token = app.token_for_acme().await;
        // Replicas look too, and so does a server after a restart.
        let other = app.replica_set(telling(&receiver));
        for day in 0..70 {
            for replica in [&app, &other] {
                replica.service.insight.tell_endings().await.unwrap();
            }
            if day % 9 == 0 {
                app.replica_set(telling(&receiver)).service.insight.tell_endings().await.unwrap();
            }
            deliver(&app).await;
            app.pass(DAY);
        }
        let tokens = receiver.told("token.ending");
        assert_eq!(days(&tokens), [14, 7, 1]);
        assert_eq!(
            tokens[0],
            json!({
                "token_id": token["id"], "credential": "default", "recipient": "acme",
                "recipient_id": grant["recipient_id"], "ends_at": text(began + TimeDelta::days(30)), "days": 14,
            })
        );
        let grants = receiver.told("grant.ending");
        assert_eq!(days(&grants), [14, 7, 1]);
        assert_eq!(
            grants[2],
            json!({
                "grant_id": grant["id"], "share": "insurer", "share_id": grant["share_id"], "recipient": "acme",
                "recipient_id": grant["recipient_id"], "ends_at": text(grant_end), "days": 1,
            })
        );
        let agreements = receiver.told("agreement.ending");
        assert_eq!(days(&agreements), [14, 7, 1]);
        assert_eq!(
            agreements[1],
            json!({
                "agreement": "DSA-7", "recipient": "acme", "recipient_id": grant["recipient_id"],
                "ends_at": text(agreement_end), "days": 7,
            })
        );
        assert_eq!(receiver.received().len(), 9);
    }
}

#[tokio::test]
async fn ends_that_matter_to_nobody_are_not_told() {
    for (app, receiver) in each(|_| {}).await {
        app.share_claims().await;
        let grant = app.grant_acme().await;
        let old = app.token_for_acme().await["id"].as_str().unwrap().to_owned();
        let revoked = json!({"reveal": true, "credential": "gone"});
        let revoked = app.post("/recipients/acme/tokens", revoked).await.expect(201)["id"].as_str().unwrap().to_owned();
        app.pass(20 * DAY);
        // The first token is replaced, the second revoked, the third not fetched yet; the grant is revoked.
        let rotation = json!({"existing_token_expire_in_seconds": 5 * DAY, "reveal": true});
        app.post(&format!("/recipients/acme/tokens/{old}/rotate"), rotation).await.expect(201);
        app.post(&format!("/recipients/acme/tokens/{revoked}/revoke"), json!({"reason": "lost"})).await.expect(200);
        app.post("/recipients/acme/tokens", json!({"credential": "pending"})).await.expect(201);
        app.post(&format!("/grants/{grant}/revoke"), json!({"reason": "over"})).await.expect(200);
        // Another recipient's token ends while it is suspended.
        app.put("/recipients/rival", json!({})).await.expect(201);
        app.post("/recipients/rival/tokens", json!({"reveal": true, "expires_in_seconds": 15 * DAY})).await.expect(201);
        app.post("/recipients/rival/suspend", json!({"reason": "audit"})).await.expect(200);
        for _ in 0..20 {
            app.service.insight.tell_endings().await.unwrap();
            app.pass(DAY / 2);
        }
        deliver(&app).await;
        assert_eq!(receiver.received().len(), 0, "{:?}", receiver.received());
    }
}

async fn read_from(app: &TestApp, token: &str, address: &str) -> Answer {
    let request = Request::builder()
        .method(Method::GET)
        .uri("/delta-sharing/shares")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header("x-forwarded-for", address);
    app.send(request.body(axum::body::Body::empty()).unwrap()).await
}

fn audit_sealer(app: &TestApp, settings: AuditSettings) -> AuditSealer {
    let keys = [RootKey::new(Zeroizing::new([7; 32]))];
    AuditSealer::new(app.service.core.db.clone(), app.service.core.clock.clone(), &keys, None, settings).unwrap()
}

fn audit_settings() -> AuditSettings {
    Settings::load(Sources::default()).unwrap().audit
}

#[tokio::test]
async fn a_network_is_told_when_a_recipient_is_first_seen_in_it() {
    for (app, receiver) in each(|_| {}).await {
        let app = app.trusting_proxy();
        app.share_claims().await;
        app.grant_acme().await;
        let issued = app.post("/recipients/acme/tokens", json!({"reveal": true, "expires_in_seconds": 90 * DAY})).await;
        let token = issued.expect(201)["token"].as_str().unwrap().to_owned();
        assert_eq!(read_from(&app, "no-such-token", "192.0.2.1").await.status, 401);
        for address in ["198.51.100.7", "198.51.100.200", "203.0.113.5", "2001:db8:1:2::3", "2001:db8:1:ffff::4"] {
            assert_eq!(read_from(&app, &token, address).await.status, 200);
        }
        // Known networks are remembered after a restart and by replicas.
        let other = app.replica_set(telling(&receiver)).trusting_proxy();
        assert_eq!(read_from(&other, &token, "203.0.113.77").await.status, 200);
        app.pass(2 * DAY);
        assert_eq!(read_from(&app, &token, "203.0.113.77").await.status, 200);
        deliver(&app).await;
        let told = receiver.told("network.first_seen");
        let networks: Vec<&str> = told.iter().map(|data| data["network"].as_str().unwrap()).collect();
        assert_eq!(networks, ["198.51.100.0/24", "203.0.113.0/24", "2001:db8:1::/48"]);
        let known: Vec<i64> = told.iter().map(|data| data["known_networks"].as_i64().unwrap()).collect();
        assert_eq!((known, &told[0]["recipient"]), (vec![0, 1, 2], &json!("acme")));
        // A reader of a URL that was handed out elsewhere is noticed too.
        crate::support::tables::plain_table(&app.folder("files"), 5).await;
        app.put("/tables/claims.files", json!({"location": app.location("files")})).await.expect(201);
        let source = json!({"source": {"table": "claims.files"}});
        app.put("/shares/insurer/objects/claims/files", source).await.expect(201);
        let request = http::Request::post("/delta-sharing/shares/insurer/schemas/claims/tables/files/query")
            .header("authorization", format!("Bearer {token}"))
            .header("x-forwarded-for", "198.51.100.7");
        let answer = app.send(request.body("{}".into()).unwrap()).await;
        let line = answer.text.lines().find(|line| line.contains("\"url\"")).unwrap();
        let file = serde_json::from_str::<serde_json::Value>(line).unwrap()["file"]["url"].as_str().unwrap().to_owned();
        let path = file.strip_prefix("http://weir.test").unwrap();
        for address in ["198.51.100.7", "192.0.2.9"] {
            let request = http::Request::get(path).header("x-forwarded-for", address).header("range", "bytes=0-3");
            assert_eq!(app.send(request.body(axum::body::Body::empty()).unwrap()).await.status, 206);
        }
        deliver(&app).await;
        assert_eq!(receiver.told("network.first_seen").last().unwrap()["network"], "192.0.2.0/24");
        for message in receiver.received() {
            let body = String::from_utf8(message.body.to_vec()).unwrap();
            assert!(
                !["198.51.100.7", "203.0.113.5", ":2::3", &token].iter().any(|text| body.contains(*text)),
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn networks_are_erased_at_the_age_of_what_is_personal() {
    for (app, receiver) in each(|_| {}).await {
        let app = app.trusting_proxy();
        app.share_claims().await;
        app.grant_acme().await;
        let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
        let audit_sealer = audit_sealer(&app, AuditSettings { personal_retention_days: 10, ..audit_settings() });
        read_from(&app, &token, "198.51.100.7").await;
        app.pass(6 * DAY);
        read_from(&app, &token, "198.51.100.7").await;
        read_from(&app, &token, "203.0.113.7").await;
        deliver(&app).await;
        app.pass(5 * DAY);
        audit_sealer.erase_due().await.unwrap();
        let left = kept(&app, "").await;
        assert_eq!(left.len(), 1, "the message of 11 days ago is gone");
        assert_eq!(left[0]["message"]["data"]["network"], "203.0.113.0/24");
        read_from(&app, &token, "198.51.100.9").await;
        deliver(&app).await;
        assert_eq!(receiver.received().len(), 2, "it was seen since");
        app.pass(11 * DAY);
        audit_sealer.erase_due().await.unwrap();
        assert!(kept(&app, "").await.is_empty());
        read_from(&app, &token, "198.51.100.9").await;
        deliver(&app).await;
        assert_eq!(receiver.received().len(), 3, "what was forgotten is new");
    }
}

#[tokio::test]
async fn nothing_is_noted_of_networks_that_nobody_wants_to_be_told_of() {
    for app in TestApp::each(|_| {}).await {
        app.share_claims().await;
        app.grant_acme().await;
        let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
        assert_eq!(app.shared(&token, "/shares").await.status, 200);
        app.pass(DAY);
        assert!(!app.service.core.db.has_old_network(app.now()).await.unwrap());
    }
}

#[tokio::test]
async fn a_burst_of_refusals_is_told_once_a_window() {
    let few = |settings: &mut Settings| settings.notify.denials = 10;
    for (app, receiver) in each(few).await {
        app.share_claims().await;
        app.grant_acme().await;
        let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
        let refused = async |times: usize| {
            for _ in 0..times {
                assert_eq!(app.shared("no-such-token", "/shares").await.status, 401);
            }
        };
        refused(9).await;
        app.service.insight.tell_denials().await.unwrap();
        deliver(&app).await;
        assert!(receiver.received().is_empty(), "that is bearable");
        refused(1).await;
        let other = app.replica_set(|settings| {
            telling(&receiver)(settings);
            few(settings);
        });
        for replica in [&app, &other, &app] {
            replica.service.insight.tell_denials().await.unwrap();
        }
        deliver(&app).await;
        let told = receiver.told("denials.burst");
        assert_eq!(
            told,
            [json!({
                "recipient": null, "recipient_id": null, "denials": 10, "window_seconds": 300,
                "reasons": {"TOKEN_UNKNOWN": 10},
            })]
        );
        // A recipient's refusals are counted separately; a summary counts as many as it stands for.
        for _ in 0..10 {
            assert_eq!(app.shared(&token, "/shares/other").await.status, 404);
        }
        refused(50).await;
        app.pass(301);
        app.service.sharing.record_summaries(true);
        app.service.core.audit_writer.finish().await;
        app.service.insight.tell_denials().await.unwrap();
        deliver(&app).await;
        let told = receiver.told("denials.burst");
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(
            (&told[1]["recipient"], &told[1]["denials"]),
            (&json!(null), &json!(40)),
            "60 less 20 by themselves"
        );
    }
}

#[tokio::test]
async fn refusals_of_one_recipient_are_a_burst_of_its_own() {
    for (app, receiver) in each(|settings| settings.notify.denials = 10).await {
        app.share_claims().await;
        app.grant_acme().await;
        let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
        for share in ["other", "hidden"] {
            for _ in 0..6 {
                assert_eq!(app.shared(&token, &format!("/shares/{share}")).await.status, 404);
            }
        }
        app.service.insight.tell_denials().await.unwrap();
        deliver(&app).await;
        let told = receiver.told("denials.burst");
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0]["recipient"], &told[0]["denials"]), (&json!("acme"), &json!(12)));
        assert_eq!(told[0]["reasons"], json!({"SHARE_NOT_GRANTED": 12}));
    }
}

#[tokio::test]
async fn a_late_checkpoint_is_told_once() {
    let exported = |settings: &mut Settings| settings.audit.export.url = Some("file:///nowhere".to_owned());
    for (app, receiver) in each(exported).await {
        let audit_sealer = audit_sealer(&app, audit_settings());
        app.put("/recipients/acme", json!({})).await.expect(201);
        let look = async || {
            app.service.insight.watch_checkpoints().await.unwrap();
            app.service.insight.watch_checkpoints().await.unwrap();
            deliver(&app).await;
            receiver.told("checkpoint.late")
        };
        app.pass(890);
        assert!(look().await.is_empty(), "300 s and 600 s are not over");
        app.pass(20);
        let told = look().await;
        let began = text(app.now() - TimeDelta::seconds(910));
        assert_eq!(told, [json!({"what": "unsealed", "through_seq": 0, "waiting_since": began})]);
        audit_sealer.seal().await.unwrap();
        let sealed_at = text(app.now());
        let sealed = app.service.core.db.find_last_checkpoint().await.unwrap().unwrap().seq;
        app.pass(590);
        assert_eq!(look().await.len(), 1);
        app.pass(20);
        let told = look().await;
        assert_eq!(told[1], json!({"what": "unexported", "through_seq": 0, "waiting_since": sealed_at}));
        app.put("/recipients/other", json!({})).await.expect(201);
        app.pass(1000);
        let told = look().await;
        assert_eq!(told.len(), 3);
        assert_eq!((&told[2]["what"], &told[2]["through_seq"]), (&json!("unsealed"), &json!(sealed)));
    }
}

#[tokio::test]
async fn a_schema_on_hold_is_told_with_its_changes() {
    for (app, receiver) in each(|_| {}).await {
        let columns = |columns: &[(&str, &str)]| metadata("t", columns, &[]);
        let before = [("id", "long"), ("name", "string")];
        let mut log =
            HandWrittenLog::create(&app.folder("claims"), crate::support::tables::protocol(1, 2), columns(&before));
        app.put("/shares/insurer", json!({})).await.expect(201);
        app.put("/tables/t.claims", json!({"location": app.location("claims")})).await.expect(201);
        let object = json!({"source": {"table": "t.claims"}, "on_schema_change": "hold"});
        let object = app.put("/shares/insurer/objects/s/claims", object).await.expect(201);
        app.service.catalog.watch_schemas().await.unwrap();
        deliver(&app).await;
        assert!(receiver.received().is_empty());
        log.commit(&[columns(&[before[0], before[1], ("salary", "long")])]);
        let other = app.replica_set(telling(&receiver));
        for replica in [&app, &other, &app] {
            replica.service.catalog.watch_schemas().await.unwrap();
        }
        deliver(&app).await;
        let told = receiver.told("schema.hold");
        assert_eq!(told.len(), 1, "{told:?}");
        let changes = told[0]["changes"].as_array().unwrap().clone();
        assert!(changes[0].as_str().unwrap().contains("salary"), "{changes:?}");
        assert_eq!(
            told[0],
            json!({
                "share": "insurer", "object": "s.claims", "object_id": object["id"], "table": "t.claims",
                "serving_version": 0, "newest_version": 1, "changes": changes,
            })
        );
        // Another change of the schema is another signal.
        log.commit(&[columns(&[before[0], ("salary", "long")])]);
        app.service.catalog.watch_schemas().await.unwrap();
        deliver(&app).await;
        assert_eq!(receiver.told("schema.hold").len(), 2);
    }
}

#[tokio::test]
async fn a_recipient_that_its_properties_leave_without_rows_is_told_once_for_each_change() {
    for (app, receiver) in each(|_| {}).await {
        app.share_claims().await;
        let view = json!({
            "source": {"table": "claims.claims"}, "columns": [{"name": "id"}],
            "row_filter": "id IN recipient_list('plans')",
        });
        app.put("/views/v.plans", view).await.expect(201);
        app.post("/views/v.plans/publish", json!({})).await.expect(201);
        let source = json!({"source": {"view": "v.plans@v1"}});
        for object in ["one", "two"] {
            app.put(&format!("/shares/insurer/objects/v/{object}"), source.clone()).await.expect(201);
        }
        let acme = app.put("/recipients/acme", json!({"properties": {"plans": [1]}})).await.expect(201);
        app.post("/grants", json!({"share": "insurer", "recipient": "acme"})).await.expect(201);
        app.patch("/recipients/acme?force=true", json!({"properties": {"plans": "HMO"}})).await.expect(200);
        deliver(&app).await;
        let told = json!({
            "recipient": "acme", "recipient_id": acme["id"], "view": "v.plans@v1", "share": "insurer",
            "properties": ["plans"],
        });
        assert_eq!(receiver.told("view.without_rows"), std::slice::from_ref(&told));
        // Its queries raise the same signal, which is not told again.
        let token = app.token_for_acme().await;
        for _ in 0..2 {
            let query = Request::post("/delta-sharing/shares/insurer/schemas/v/tables/one/query")
                .header(header::AUTHORIZATION, format!("Bearer {}", token["token"].as_str().unwrap()))
                .header(header::CONTENT_TYPE, "application/json")
                .body("{}".into())
                .unwrap();
            let answer = app.respond(query).await;
            assert_eq!(answer.status().as_u16(), 200);
            assert_eq!(answer.headers()["x-weir-no-rows"], "recipient-properties");
        }
        deliver(&app).await;
        assert_eq!(receiver.told("view.without_rows").len(), 1);
        app.patch("/recipients/acme?force=true", json!({"properties": {"plans": null}})).await.expect(200);
        deliver(&app).await;
        assert_eq!(receiver.told("view.without_rows"), [told.clone(), told]);
    }
}

#[tokio::test]
async fn a_freeze_and_its_end_are_told_with_who_and_why() {
    for (app, receiver) in each(|_| {}).await {
        let frozen = app.post("/freeze", json!({"reason": "a leak"})).await.expect(200);
        app.post("/freeze", json!({"reason": "again"})).await.expect(200);
        app.pass(60);
        app.post("/unfreeze", json!({"reason": "found"})).await.expect(200);
        deliver(&app).await;
        let (id, at) = (&frozen["id"], text(app.now() - TimeDelta::seconds(60)));
        assert_eq!(
            receiver.told("freeze.create"),
            [json!({"freeze_id": id, "reason": "a leak", "by": "bootstrap", "at": at})]
        );
        assert_eq!(
            receiver.told("freeze.lift"),
            [json!({"freeze_id": id, "reason": "found", "by": "bootstrap", "at": text(app.now())})]
        );
    }
}
