//! Activation: links, the page behind them, and the token that comes of them.

mod links;
mod page;

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp};

/// Issues a pending token to `acme`, and answers what the operator got.
async fn pending(app: &TestApp, body: Value) -> Value {
    app.post("/recipients/acme/tokens", body).await.expect(201)
}

/// A request of a program to the link that `issued` holds.
async fn ask(app: &TestApp, method: Method, issued: &Value) -> Answer {
    ask_with(app, method, issued, &[]).await
}

/// The same, with headers.
async fn ask_with(app: &TestApp, method: Method, issued: &Value, headers: &[(&str, &str)]) -> Answer {
    let url = issued["activation_url"].as_str().unwrap();
    let mut request = Request::builder().method(method).uri(url.strip_prefix("http://weir.test").unwrap());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

/// A browser's headers.
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// `acme`, with a share granted.
async fn with_acme(app: &TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
}

/// The token of a downloaded profile.
fn token(profile: &Value) -> String {
    assert_eq!(profile["shareCredentialsVersion"], json!(1), "{profile}");
    profile["bearerToken"].as_str().unwrap().to_owned()
}
