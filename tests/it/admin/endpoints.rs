//! Rules for every route of the admin API in its document.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::json;

use super::openapi::operations;
use crate::support::app::{OPERATOR_TOKEN, TestApp, on_both_databases};

on_both_databases!(
    every_route_that_reads_a_body_refuses_what_is_none,
    every_listing_refuses_unknown_parameters_and_strange_pages,
    unknown_routes_and_methods_are_problems,
    whoami_names_the_operator,
);

fn filled(path: &str) -> String {
    path.replace("{id}", "00000000-0000-0000-0000-000000000000").replace(['{', '}'], "")
}

async fn every_route_that_reads_a_body_refuses_what_is_none(app: TestApp) {
    let operations = operations(&app).await;
    let compliance = app.operator("cora", "compliance").await;
    let writing = operations.iter().filter(|(method, _)| [Method::PUT, Method::PATCH, Method::POST].contains(method));
    for (method, path) in writing {
        // What is for compliance alone, no admin is asked about.
        let token = if path.ends_with("/approve") { compliance.as_str() } else { OPERATOR_TOKEN };
        let send = async |media_type: Option<&str>, body: String| {
            let mut request = Request::builder()
                .method(method.clone())
                .uri(filled(path))
                .header(header::AUTHORIZATION, format!("Bearer {token}"));
            if let Some(media_type) = media_type {
                request = request.header(header::CONTENT_TYPE, media_type);
            }
            app.send(request.body(Body::from(body)).unwrap()).await
        };
        for body in ["", "{", "[]", "null", "{} {}", "\"x\"", "{\"a\": NaN}"] {
            send(Some("application/json"), body.into()).await.problem(400, "malformed_body");
        }
        send(Some("application/json; charset=utf-8"), "{".into()).await.problem(400, "malformed_body");
        send(None, "{}".into()).await.problem(415, "unsupported_media_type");
        send(Some("text/plain"), "{}".into()).await.problem(415, "unsupported_media_type");
        let merge_patch = send(Some("application/merge-patch+json"), "{".into()).await;
        if method == Method::PATCH {
            merge_patch.problem(400, "malformed_body");
        } else {
            merge_patch.problem(415, "unsupported_media_type");
        }
        send(Some("application/json"), "{\"no_such_field\": 1}".into()).await.problem(422, "invalid_input");
        let large = format!("{{\"description\": \"{}\"}}", "x".repeat(300_000));
        send(Some("application/json"), large).await.problem(413, "body_too_large");
    }
}

async fn every_listing_refuses_unknown_parameters_and_strange_pages(app: TestApp) {
    app.put("/shares/share", json!({})).await.expect(201);
    app.put("/recipients/recipient", json!({})).await.expect(201);
    app.put("/operators/operator", json!({"role": "admin"})).await.expect(201);
    for path in [
        "/tables",
        "/shares",
        "/shares/share/objects",
        "/recipients",
        "/recipients/recipient/tokens",
        "/grants",
        "/audit",
        "/usage",
        "/views",
        "/copies",
        "/jobs",
        "/operators",
        "/operators/operator/tokens",
    ] {
        let page = app.get(path).await.expect(200);
        assert!(page["items"].is_array(), "{path}");
        for query in ["colour=red", "max_results=0", "max_results=1001", "max_results=x", "page_token=x", "page_token="]
        {
            app.get(&format!("{path}?{query}")).await.problem(400, "invalid_parameter");
        }
    }
}

async fn unknown_routes_and_methods_are_problems(app: TestApp) {
    app.get("/nothing").await.problem(404, "not_found");
    app.get("/tables/a/b/c").await.problem(404, "not_found");
    let answer = app.post("/tables", json!({})).await;
    assert!(answer.headers[header::ALLOW].to_str().unwrap().contains("GET"));
    answer.problem(405, "method_not_allowed");
    let request = Request::get("/api").header(header::AUTHORIZATION, format!("Bearer {OPERATOR_TOKEN}"));
    app.send(request.body(Body::empty()).unwrap()).await.problem(404, "not_found");
}

async fn whoami_names_the_operator(app: TestApp) {
    let everywhere = |role: &str| json!([{"role": role, "scope": "*"}]);
    let bootstrap = json!({
        "id": null, "name": "bootstrap", "role": "admin", "bindings": everywhere("admin"), "expires_at": null,
    });
    assert_eq!(app.get("/whoami").await.expect(200), bootstrap);
    let token = app.operator("ann", "support").await;
    let whoami = app.admin_as(&token, Method::GET, "/whoami", None).await.expect(200);
    let id = &app.get("/operators/ann").await.expect(200)["id"];
    let ann = json!({
        "id": id, "name": "ann", "role": "support", "bindings": everywhere("support"),
        "expires_at": "2026-10-21T14:13:20Z",
    });
    assert_eq!(whoami, ann);
}
