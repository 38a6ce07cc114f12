//! Activation: links, their page, and the tokens they hand out.

mod links;
mod page;

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp};

/// Issues a pending token to `acme` and returns the operator's answer.
async fn pending(app: &TestApp, body: Value) -> Value {
    app.post("/recipients/acme/tokens", body).await.expect(201)
}

/// Sends a program's request to the link in `issued`.
async fn ask(app: &TestApp, method: Method, issued: &Value) -> Answer {
    ask_with(app, method, issued, &[]).await
}

/// Does the same as [`ask`] with headers.
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

/// Creates `acme` with a granted share.
async fn with_acme(app: &TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
}

/// The token of a downloaded profile.
fn token(profile: &Value) -> String {
    assert_eq!(profile["shareCredentialsVersion"], json!(1), "{profile}");
    profile["bearerToken"].as_str().unwrap().to_owned()
}
