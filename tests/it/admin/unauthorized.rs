//! Nobody without an operator token gets anywhere, whatever the route.

use axum::body::Body;
use http::{Request, header};

use super::openapi::operations;
use crate::support::app::{OPERATOR_TOKEN, TestApp, on_both_databases};

on_both_databases!(every_route_refuses_missing_and_wrong_tokens_and_records_it);

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
        // Within one minute the later ones of many would be summed.
        app.pass(60);
    }
    let failed = app.get("/audit?action=auth.failed&max_results=1000").await.expect(200);
    let failed = failed["items"].as_array().unwrap();
    assert_eq!(failed.len(), operations.len() * credentials.len());
    assert!(failed.iter().all(|event| event["decision"] == "deny" && event["actor"]["kind"] == "anonymous"));
}
