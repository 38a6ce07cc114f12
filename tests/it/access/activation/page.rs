//! What an activation page shows, to whom, and with which headers.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::json;
use weir::config::SharingSettings;

use super::{BROWSER, ask, ask_with, pending, with_acme};
use crate::support::app::{Answer, TestApp, on_both_databases};

on_both_databases!(an_unknown_link_is_answered_like_a_malformed_one, failures_from_one_address_are_limited,);

fn assert_strict(answer: &Answer) {
    let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(policy.contains("form-action 'self'") && policy.contains("style-src 'sha256-"), "{policy}");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
}

#[tokio::test]
async fn the_page_says_what_a_partner_needs_and_has_one_button() {
    let app = TestApp::sqlite_with(|settings| SharingSettings {
        provider_name: "Insurer & Co".into(),
        support_contact: "data@insurer.example".into(),
        ..settings
    })
    .await;
    with_acme(&app).await;
    app.patch("/recipients/acme", json!({"display_name": "<Acme>"})).await.expect(200);
    let issued = pending(&app, json!({"expires_in_seconds": 3 * 86_400})).await;
    let answer = ask_with(&app, Method::GET, &issued, &[BROWSER]).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_strict(&answer);
    for said in ["Insurer &amp; Co", "&lt;Acme&gt;", "data@insurer.example", "3 days", "24 September 2026"] {
        assert!(answer.text.contains(said), "{said}: {}", answer.text);
    }
    assert_eq!(answer.text.matches("<button").count(), 1);
    assert!(answer.text.contains("<form method=\"post\">") && !answer.text.contains("<script"));
    assert!(!answer.text.contains(issued["activation_url"].as_str().unwrap()), "no code that could be copied from it");

    assert_strict(&ask_with(&app, Method::POST, &issued, &[BROWSER]).await);
    let used = ask_with(&app, Method::POST, &issued, &[BROWSER]).await;
    assert_eq!(
        (used.status.as_u16(), &used.headers[header::CONTENT_TYPE]),
        (410, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert_strict(&used);
    assert!(used.text.contains("<h1>This link has been used</h1>"), "{}", used.text);
    let program = ask(&app, Method::POST, &issued).await;
    assert_strict(&program);
    assert_eq!(program.expect(410)["contact"], "data@insurer.example");
}

async fn look_up(app: &TestApp, path: &str) -> Answer {
    app.send(Request::get(path).body(Body::empty()).unwrap()).await
}

async fn an_unknown_link_is_answered_like_a_malformed_one(app: TestApp) {
    let unknown = "x".repeat(43);
    let told = async |code: &str| {
        let mut body = look_up(&app, &format!("/activate/{code}")).await.expect(404);
        body["requestId"].take();
        body
    };
    let first = told(&unknown).await;
    assert_eq!(first["errorCode"], "RESOURCE_DOES_NOT_EXIST");
    for malformed in ["a", "%F0%9F%92%A9", "..%2F..%2Fetc"] {
        assert_eq!(told(malformed).await, first, "{malformed}");
    }
    let events = app.events("activation.view").await;
    assert_eq!((events.len(), &events[0]["reason"]), (4, &json!("ACTIVATION_UNKNOWN")));
}

async fn failures_from_one_address_are_limited(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    for i in 0..10 {
        assert_eq!(look_up(&app, &format!("/activate/{i}")).await.status, 404);
    }
    let limited = look_up(&app, "/activate/once-more").await;
    assert_eq!(limited.status, 429);
    let wait: i64 = limited.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(ask(&app, Method::POST, &issued).await.status, 429, "a right code is not heard either");
    app.pass(wait);
    ask(&app, Method::POST, &issued).await.expect(200);
}
