//! The API's own document.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::Value;

use crate::support::app::TestApp;

/// The document; it needs no token.
async fn document(app: &TestApp) -> Value {
    app.send(Request::get("/api/v1/openapi.json").body(Body::empty()).unwrap()).await.expect(200)
}

/// An operation of the document.
#[derive(Debug)]
pub struct Described {
    pub method: Method,
    /// The template of its path.
    pub path: String,
    /// Its description in the document.
    pub description: Value,
}

/// Every operation of the document.
pub async fn described(app: &TestApp) -> Vec<Described> {
    let document = document(app).await;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, description) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            let method = method.to_uppercase().parse().unwrap();
            operations.push(Described { method, path: path.clone(), description: description.clone() });
        }
    }
    operations
}

/// The method and path template of every operation in the document.
pub async fn operations(app: &TestApp) -> Vec<(Method, String)> {
    described(app).await.into_iter().map(|operation| (operation.method, operation.path)).collect()
}

#[tokio::test]
async fn the_document_is_the_one_that_was_reviewed() {
    let mut document = document(&TestApp::sqlite().await).await;
    document["info"]["version"] = "[version]".into();
    insta::assert_json_snapshot!(document);
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_names_nothing_that_is_not_there() {
    let document = document(&TestApp::sqlite().await).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline() {
    let app = TestApp::sqlite().await;
    let page = app.send(Request::get("/api/docs").body(Body::empty()).unwrap()).await;
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    assert!(!page.text.contains("style=") && !page.text.contains("<style"));
    let links = ["href=\"", "src=\""].into_iter().flat_map(|name| page.text.split(name).skip(1));
    let links: BTreeSet<&str> = links.map(|rest| rest.split('"').next().unwrap()).collect();
    for link in &links {
        let Some(fragment) = link.strip_prefix('#') else { continue };
        assert_eq!(page.text.matches(&format!(" id=\"{fragment}\"")).count(), 1, "{link}");
    }
    for part in links.into_iter().filter(|link| !link.starts_with('#')) {
        let found = app.send(Request::get(part).body(Body::empty()).unwrap()).await;
        assert_eq!(found.status, 200, "{part}");
    }
    assert_eq!(page.text.matches("<script").count(), page.text.matches("<script src=").count());
    // Without a script, too, every operation is there.
    for operation in described(&app).await {
        let id = operation.description["operationId"].as_str().unwrap();
        assert!(page.text.contains(&format!("<details id=\"{id}\">")), "{id}");
    }
}
