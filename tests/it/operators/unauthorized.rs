//! No route can be used without an operator token.

use axum::body::Body;
use http::{Request, header};

use crate::{
    admin::openapi::operations,
    support::app::{OPERATOR_TOKEN, TestApp, on_both_databases},
};

on_both_databases!(
    every_route_refuses_missing_and_wrong_tokens_and_records_it,
    whoever_goes_on_guessing_is_slowed_down,
);

async fn every_route_refuses_missing_and_wrong_tokens_and_records_it(app: TestApp) {
    let almost = &OPERATOR_TOKEN[..OPERATOR_TOKEN.len() - 1];
    let operations = operations(&app).await;
    assert!(operations.len() > 30, "{operations:?}");
    let credentials =
        [None, Some(format!("Bearer {almost}")), Some("Bearer ".into()), Some(format!("Basic {OPERATOR_TOKEN}"))];
    for (method, path) in &operations {
        let path = path.replace("{id}", "00000000-0000-0000-0000-000000000000").replace(['{', '}'], "");
        for credential in &credentials {
            let mut request = Request::builder().method(method.clone()).uri(&path);
            if let Some(credential) = credential {
                request = request.header(header::AUTHORIZATION, credential);
            }
            let answer = app.send(request.body(Body::from("{")).unwrap()).await;
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer", "{method} {path}");
            answer.problem(401, "unauthenticated");
        }
        // Within one minute, later refusals would be summed up.
        app.pass(60);
    }
    let failed = app.get("/audit?action=auth.failed&max_results=1000").await.expect(200);
    let failed = failed["items"].as_array().unwrap();
    assert_eq!(failed.len(), operations.len() * credentials.len());
    assert!(failed.iter().all(|event| event["decision"] == "deny" && event["actor"]["kind"] == "anonymous"));
}

async fn whoever_goes_on_guessing_is_slowed_down(app: TestApp) {
    let guess = async || {
        let request = Request::get("/api/v1/shares").header(header::AUTHORIZATION, "Bearer a-guess");
        app.send(request.body(Body::empty()).unwrap()).await
    };
    for _ in 0..120 {
        guess().await.problem(401, "unauthenticated");
    }
    let limited = guess().await;
    let wait: i64 = limited.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    limited.problem(429, "too_many_requests");
    assert_eq!(app.get("/shares").await.status, 200, "who knows a token is not in the flood");
    assert_eq!(
        app.get("/audit?action=auth.failed&max_results=1000").await.expect(200)["items"].as_array().unwrap().len(),
        20
    );
    app.pass(wait);
    guess().await.problem(401, "unauthenticated");
}
