//! What a contract system tells of agreements: signed, once, and by the events' own times.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use axum::body::Body;
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::{Method, Request};
use serde_json::{Value, json};
use weir::domain::{
    core::secret::Secret,
    insight::webhook::{WebhookSecret, signatures},
};

use crate::support::{
    app::{Answer, TestApp},
    process::Installation,
};

const PAGE: &str = include_str!("../../../docs/agreements.md");

/// A secret of bytes of this value.
fn secret(byte: u8) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode([byte; 32]))
}

/// A server on each database that hears a contract system, with the recipient `acme` and the draft `baa`.
async fn each() -> Vec<TestApp> {
    let apps = TestApp::each(|settings| {
        settings.hooks.agreement_secret = Some(Secret::new(secret(1)));
        settings.hooks.previous_agreement_secret = Some(Secret::new(secret(2)));
    })
    .await;
    for app in &apps {
        app.share_claims().await;
        app.put("/recipients/acme", json!({})).await.expect(201);
        app.put("/purposes/fraud", json!({"description": "d"})).await.expect(201);
        agreement(app, "baa").await;
    }
    apps
}

async fn agreement(app: &TestApp, name: &str) {
    let spec = json!({
        "recipient": "acme", "type": "custom", "document": {"uri": format!("clm://{name}")}, "purposes": ["fraud"],
        "valid_from": app.now() - TimeDelta::days(1), "valid_until": app.now() + TimeDelta::days(100),
    });
    app.put(&format!("/agreements/{name}"), spec).await.expect(201);
}

/// An event of an agreement that happened so many seconds before now.
fn event(app: &TestApp, kind: &str, name: &str, ago: i64) -> Value {
    let at: DateTime<Utc> = app.now() - TimeDelta::seconds(ago);
    let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({"type": format!("agreement.{kind}"), "occurred_at": at, "agreement": name})
}

/// Sends a message with these headers.
async fn post(app: &TestApp, id: &str, timestamp: &str, signature: &str, body: &str) -> Answer {
    let request = Request::post("/hooks/agreements")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .header("content-type", "application/json");
    app.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

fn signed_by(bytes: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let secrets: Vec<WebhookSecret> = bytes.iter().map(|byte| WebhookSecret::parse(&secret(*byte)).unwrap()).collect();
    signatures(&secrets, id, timestamp, body)
}

/// Sends a message that is signed now.
async fn tell(app: &TestApp, id: &str, body: &Value) -> Answer {
    let (body, now) = (body.to_string(), app.now().timestamp());
    post(app, id, &now.to_string(), &signed_by(&[1], id, now, &body), &body).await
}

async fn state(app: &TestApp, name: &str) -> String {
    app.get(&format!("/agreements/{name}")).await.expect(200)["state"].as_str().unwrap().to_owned()
}

/// Tells of one thing after the other, each with the answer and the state that it leads to.
async fn tell_each(app: &TestApp, name: &str, told: &[(&str, i64, bool, &str)]) {
    for (at, (kind, ago, applied, then)) in told.iter().enumerate() {
        let answer = tell(app, &format!("{name}-{at}-{kind}"), &event(app, kind, name, *ago)).await.expect(200);
        assert_eq!(answer["applied"], json!(applied), "{kind} {ago}: {answer}");
        assert_eq!(answer["why"].is_string(), !applied, "{kind} {ago}: {answer}");
        assert_eq!((&answer["state"], &answer["agreement"]), (&json!(then), &json!(name)), "{kind} {ago}: {answer}");
        assert_eq!(state(app, name).await, *then, "{kind} {ago}");
    }
}

#[tokio::test]
async fn without_a_secret_the_hook_is_like_any_path_that_is_not_there() {
    for app in TestApp::each(|_| {}).await {
        for method in [Method::POST, Method::GET] {
            let ask = async |path: &str| {
                let request = Request::builder().method(method.clone()).uri(path).body(Body::empty()).unwrap();
                let answer = app.send(request).await;
                let message = answer.json()["message"].as_str().unwrap().split(" (request").next().unwrap().to_owned();
                (answer.status.as_u16(), message, answer.json()["errorCode"].clone())
            };
            let there = ask("/hooks/agreements").await;
            assert_eq!(there, ask("/hooks/nothing").await);
            assert_eq!(there.0, 404);
        }
    }
}

#[tokio::test]
async fn the_next_read_after_a_signed_termination_is_refused() {
    for app in each().await {
        tell_each(&app, "baa", &[("in_review", 60, true, "in_review"), ("activated", 50, true, "active")]).await;
        let grant = json!({"share": "insurer", "recipient": "acme", "purpose": "fraud", "agreements": ["baa"]});
        app.post("/grants", grant).await.expect(201);
        let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
        let read = async || app.shared(&token, "/shares/insurer/schemas/claims/tables/claims/version").await;
        assert_eq!(read().await.status, 200);
        let mut told = event(&app, "terminated", "baa", 10);
        told["reason"] = json!("cancelled");
        tell(&app, "msg_1", &told).await.expect(200);
        let refused = read().await;
        assert_eq!((refused.status.as_u16(), &refused.json()["errorCode"]), (403, &json!("AGREEMENT_INACTIVE")));
        let event = &app.events("agreement.terminate").await[0];
        assert_eq!((&event["actor"]["kind"], &event["actor"]["name"]), (&json!("hook"), &json!("agreements")));
        assert_eq!((&event["decision"], &event["effect"]), (&json!("allow"), &json!("tightens")));
        assert_eq!((&event["recipient"], &event["agreement"]), (&json!("acme"), &json!("baa")));
        let change = &event["change"];
        assert_eq!((&change["before"]["state"], &change["after"]["state"]), (&json!("active"), &json!("terminated")));
        assert_eq!((&change["reason"], &change["event"]["id"]), (&json!("cancelled"), &json!("msg_1")));
        let at = change["event"]["occurred_at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        assert_eq!(at, app.now() - TimeDelta::seconds(10));
        assert!(event["client_address"].is_string(), "{event}");
    }
}

#[tokio::test]
async fn a_message_is_taken_once_and_answered_alike_whenever_it_comes() {
    for app in each().await {
        let activated = event(&app, "activated", "BAA", 60);
        let first = tell(&app, "msg_1", &activated).await.expect(200);
        assert_eq!(first, json!({"applied": true, "agreement": "baa", "state": "active"}));
        app.post("/agreements/baa/suspend", json!({"reason": "a test"})).await.expect(200);
        app.pass(3_600);
        assert_eq!(tell(&app, "msg_1", &activated).await.expect(200), first);
        assert_eq!(state(&app, "baa").await, "suspended");
        assert_eq!(app.events("agreement.activate").await.len(), 1);
        let other = tell(&app, "msg_1", &event(&app, "terminated", "baa", 0)).await;
        assert_eq!((other.status.as_u16(), &other.json()["errorCode"]), (409, &json!("CONFLICT")));
        assert_eq!(state(&app, "baa").await, "suspended");
        // Twice at the same time.
        agreement(&app, "dpa").await;
        let told = event(&app, "activated", "dpa", 0);
        let (one, two) = tokio::join!(tell(&app, "msg_2", &told), tell(&app, "msg_2", &told));
        assert_eq!(one.expect(200), two.expect(200));
        assert_eq!(app.events("agreement.activate").await.len(), 2);
        // Nobody repeats it after a month.
        app.pass(29 * 86_400);
        app.service.access.forget_hook_events().await.unwrap();
        assert_eq!(tell(&app, "msg_2", &told).await.expect(200)["applied"], true);
        app.pass(2 * 86_400);
        app.service.access.forget_hook_events().await.unwrap();
        assert_eq!(tell(&app, "msg_2", &told).await.expect(200)["applied"], false);
    }
}

#[tokio::test]
async fn events_count_by_their_own_time() {
    for app in each().await {
        let told = [
            ("activated", 100, true, "active"),
            ("activated", 100, false, "active"),
            ("resumed", 80, false, "active"),
            // What was lifted before it arrived.
            ("suspended", 90, false, "active"),
            ("suspended", 70, true, "suspended"),
            ("activated", 60, false, "suspended"),
            ("resumed", 75, false, "suspended"),
            ("resumed", 70, false, "suspended"),
            ("resumed", 50, true, "active"),
            ("in_review", 40, false, "active"),
            // A termination counts whenever it happened.
            ("terminated", 99, true, "terminated"),
            ("activated", 10, false, "terminated"),
            ("resumed", 5, false, "terminated"),
            ("terminated", 1, false, "terminated"),
        ];
        tell_each(&app, "baa", &told).await;
        let refused = app.events("agreement.activate").await;
        assert_eq!((&refused[0]["decision"], &refused[0]["reason"]), (&json!("deny"), &json!("STEP_NOT_ALLOWED")));
        assert!(refused[0].get("effect").is_none_or(Value::is_null), "{}", refused[0]);
        assert_eq!(app.events("agreement.suspend").await[1]["reason"], "EVENT_OUTDATED");
        assert_eq!(app.events("agreement.terminate").await.len(), 1);

        agreement(&app, "dpa").await;
        tell_each(&app, "dpa", &[("terminated", 100, true, "terminated"), ("activated", 50, false, "terminated")])
            .await;
        agreement(&app, "nda-1").await;
        let told =
            [("suspended", 50, false, "draft"), ("activated", 100, false, "draft"), ("activated", 20, true, "active")];
        tell_each(&app, "nda-1", &told).await;
    }
}

#[tokio::test]
async fn what_operators_suspend_is_resumed_by_what_happened_later_alone() {
    for app in each().await {
        tell_each(&app, "baa", &[("activated", 100, true, "active")]).await;
        app.post("/agreements/baa/suspend", json!({"reason": "a test"})).await.expect(200);
        app.pass(60);
        tell_each(&app, "baa", &[("resumed", 90, false, "suspended")]).await;
        assert_eq!(tell(&app, "later", &event(&app, "resumed", "baa", 30)).await.expect(200)["applied"], true);
        // And what the contract system has suspended, operators resume.
        assert_eq!(tell(&app, "again", &event(&app, "suspended", "baa", 20)).await.expect(200)["applied"], true);
        app.post("/agreements/baa/resume", json!({"reason": "a test"})).await.expect(200);
        assert_eq!(state(&app, "baa").await, "active");
    }
}

#[tokio::test]
async fn what_is_not_signed_now_is_refused_and_recorded() {
    for app in each().await {
        let body = event(&app, "activated", "baa", 0).to_string();
        let now = app.now().timestamp();
        let of = |bytes: &[u8]| signed_by(bytes, "msg", now, &body);
        for (id, timestamp, signature, sent) in [
            ("msg", now.to_string(), String::new(), body.as_str()),
            ("msg", now.to_string(), of(&[3]), body.as_str()),
            ("msg", now.to_string(), of(&[1]).replace("v1,", "v1a,"), body.as_str()),
            ("other", now.to_string(), of(&[1]), body.as_str()),
            ("", now.to_string(), of(&[1]), body.as_str()),
            ("msg", (now + 1).to_string(), of(&[1]), body.as_str()),
            ("msg", "soon".to_owned(), of(&[1]), body.as_str()),
            ("msg", now.to_string(), of(&[1]), "{}"),
        ] {
            let answer = post(&app, id, &timestamp, &signature, sent).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["errorCode"]), (401, &json!("UNAUTHENTICATED")));
            let event = &app.events("auth.failed").await[0];
            assert_eq!(
                (&event["reason"], &event["decision"]),
                (&json!("SIGNATURE_INVALID"), &json!("deny")),
                "{event}"
            );
            assert_eq!(
                (&event["object"]["name"], &event["actor"]["kind"]),
                (&json!("/hooks/agreements"), &json!("anonymous"))
            );
        }
        for ahead in [-301, 301] {
            let at = now + ahead;
            let answer = post(&app, "msg", &at.to_string(), &signed_by(&[1], "msg", at, &body), &body).await;
            assert_eq!(answer.status, 401);
            assert_eq!(app.events("auth.failed").await[0]["reason"], "SIGNATURE_EXPIRED");
        }
        assert_eq!(state(&app, "baa").await, "draft");
        // With the secret of before, and among others, it is taken.
        for (id, bytes) in [("old", &[2][..]), ("several", &[3, 1])] {
            let answer = post(&app, id, &now.to_string(), &signed_by(bytes, id, now, &body), &body).await;
            answer.expect(200);
        }
        assert_eq!(state(&app, "baa").await, "active");
    }
}

#[tokio::test]
async fn an_address_that_fails_too_often_is_not_heard_for_a_minute() {
    for app in each().await {
        app.pass(60 - app.now().timestamp() % 60);
        let now = app.now().timestamp().to_string();
        let (recorded, answered) = (20, 120);
        for at in 0..answered {
            assert_eq!(post(&app, "msg", &now, "v1,AAAA", "{}").await.status, 401, "{at}");
        }
        let told = event(&app, "activated", "baa", 0);
        let limited = tell(&app, "msg_1", &told).await;
        assert_eq!(limited.status, 429);
        let wait: i64 = limited.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(state(&app, "baa").await, "draft");
        app.pass(60);
        tell(&app, "msg_1", &told).await.expect(200);
        assert_eq!(post(&app, "msg", &now, "v1,AAAA", "{}").await.status, 401);
        app.service.sharing.record_summaries(true);
        let summed = async || app.events("refusals.summary").await;
        crate::support::process::until("summary", async || (!summed().await.is_empty()).then_some(())).await;
        let counts: Vec<Value> = summed().await.iter().map(|event| event["change"]["count"].clone()).collect();
        let all: u64 = counts.iter().filter_map(Value::as_u64).sum();
        assert_eq!(all, answered + 1 - recorded, "{counts:?}");
        assert_eq!(
            app.get("/audit?action=auth.failed&max_results=100").await.expect(200)["items"].as_array().unwrap().len(),
            21
        );
    }
}

#[tokio::test]
async fn what_no_message_may_say_is_refused_and_changes_nothing() {
    for app in each().await {
        let good = event(&app, "activated", "baa", 0);
        for (field, value, named) in [
            ("type", json!("agreement.renewed"), "type"),
            ("occurred_at", json!(app.now() + TimeDelta::minutes(6)), "occurred_at"),
            ("occurred_at", json!("yesterday"), "body"),
            ("reason", json!("x".repeat(5_000)), "reason"),
            ("colour", json!("blue"), "colour"),
        ] {
            let mut body = good.clone();
            body[field] = value;
            let answer = tell(&app, "msg", &body).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["errorCode"]), (422, &json!("INVALID_PARAMETER_VALUE")));
            assert!(answer.text.contains(named) && answer.text.contains("requestId"), "{}", answer.text);
        }
        let mut large = good.clone();
        large["reason"] = json!("x".repeat(70_000));
        assert_eq!(tell(&app, "msg", &large).await.status, 413);
        let unknown = tell(&app, "msg", &event(&app, "terminated", "nothing", 0)).await;
        assert_eq!((unknown.status.as_u16(), &unknown.json()["errorCode"]), (404, &json!("RESOURCE_DOES_NOT_EXIST")));
        let told = &app.events("agreement.terminate").await[0];
        assert_eq!((&told["decision"], &told["reason"]), (&json!("deny"), &json!("AGREEMENT_UNKNOWN")), "{told}");
        assert_eq!(told["actor"]["kind"], "hook");
        // None of these has used the id up.
        tell(&app, "msg", &good).await.expect(200);
        let request = Request::get("/hooks/agreements").body(Body::empty()).unwrap();
        assert_eq!(app.send(request).await.status, 405);
    }
}

/// The shell lines of the documentation, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_the_documentation_tell_of_a_termination() {
    let mut installation = Installation::sqlite();
    let file = installation.folder.path().join("secret");
    fs::write(&file, secret(7)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    installation.configure(&format!("[hooks]\nagreement_secret_file = \"{}\"", file.display()));
    let weir = installation.start().await;
    installation.share(&weir).await;
    let spec = json!({
        "recipient": "acme", "type": "custom", "document": {"uri": "clm://4711"}, "purposes": ["*"],
        "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2099-01-01T00:00:00Z",
    });
    weir.admin(Method::PUT, "/agreements/acme-baa", spec).await;
    let section = PAGE.split_once("### Trying it").unwrap().1;
    let script = section.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
    let script = script.replace("https://share.example.org", &weir.url);
    let script = script.replace("/run/secrets/weir_agreements", file.to_str().unwrap());
    let output = Command::new("bash").arg("-euc").arg(&script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(answer, json!({"applied": true, "agreement": "acme-baa", "state": "terminated"}));
    assert_eq!(weir.admin(Method::GET, "/agreements/acme-baa", Value::Null).await["state"], "terminated");
    assert!(!weir.log().contains("whsec_"));
}
