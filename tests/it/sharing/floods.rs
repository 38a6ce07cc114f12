//! What one client cannot do to others: take all places with half-sent requests, or with too many at once.

use std::{io, net::IpAddr, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures::{StreamExt, future::join_all, stream};
use http::{Method, Request, StatusCode, header};
use serde_json::json;
use weir::service::core::places::PlaceLimits;

use crate::support::app::{OPERATOR_TOKEN, ROOM, TestApp, on_both_databases};

use super::{Reader, share, steps, table_path, with_history};

on_both_databases!(
    nobody_is_waited_for_who_may_not_ask,
    half_sent_bodies_keep_nobody_out,
    a_body_that_stalls_ends,
    operators_and_health_checks_need_no_place_of_recipients,
);

const NEVER: Duration = Duration::from_secs(3_600);
/// The address of every request to a [`TestApp`].
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The start of a body whose rest never arrives.
fn beginning() -> Body {
    let begins = stream::once(async { Ok::<_, io::Error>(Bytes::from_static(b"{\"predicateHints\": [")) });
    Body::from_stream(begins.chain(stream::pending()))
}

fn half(method: Method, path: &str, token: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    request.header(header::CONTENT_TYPE, "application/json").body(beginning()).unwrap()
}

/// A query of `insurer.s.{table}` whose body is half sent.
pub(super) async fn half_sent(reader: &Reader<'_>, table: &str) -> Response {
    let path = format!("/delta-sharing{}", table_path(table, "/query"));
    reader.app.respond(half(Method::POST, &path, &reader.token)).await
}

/// A reader of the table `insurer.s.steps`.
async fn acme(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

async fn nobody_is_waited_for_who_may_not_ask(app: TestApp) {
    let (app, _) = app.with_room(ROOM, ROOM, NEVER);
    let acme = acme(&app).await;
    let unknown = Reader { app: &app, token: "weir_unknown".into() };
    assert_eq!(half_sent(&unknown, "steps").await.status(), 401);
    assert_eq!(half_sent(&acme, "nothing").await.status(), 404);
    app.post("/shares/insurer/revoke", json!({})).await.expect(200);
    assert_eq!(half_sent(&acme, "steps").await.status(), 403);
    let freeze = app.respond(half(Method::POST, "/api/v1/freeze", "weirop_unknown")).await;
    assert_eq!(freeze.status(), 401);
    let auditor = app.operator("ann", "auditor").await;
    let put = app.respond(half(Method::PUT, "/api/v1/shares/more", &auditor)).await;
    assert_eq!(put.status(), 403);
}

/// More requests than there are places, by recipients and an operator, each up to its own limit.
async fn half_sent_bodies_keep_nobody_out(app: TestApp) {
    let room = PlaceLimits { requests: 2, per_address: 2, per_recipient: 20, ..ROOM };
    let (app, _) = app.with_room(room, room, NEVER);
    let acme = acme(&app).await;
    let rival = Reader::rival(&app).await;
    let stalled = join_all((0..60).map(|_| half_sent(&acme, "steps")));
    let operators = join_all((0..60).map(|_| app.respond(half(Method::PUT, "/api/v1/shares/x", OPERATOR_TOKEN))));
    let others = async {
        // Once acme has reached its limit it is told so; by then all its requests have started.
        while acme.get("/shares").await.status != StatusCode::TOO_MANY_REQUESTS {}
        for _ in 0..5 {
            assert_eq!(rival.get("/shares").await.status, 200);
            assert_eq!(app.send(Request::get("/healthz").body(Body::empty()).unwrap()).await.status, 200);
            app.post("/freeze", json!({"reason": "drill"})).await.expect(200);
            rival.get("/shares").await.refused(403, "PERMISSION_DENIED", "paused");
            app.post("/unfreeze", json!({"reason": "over"})).await.expect(200);
        }
    };
    tokio::select! {
        () = others => {}
        _ = stalled => unreachable!("the rest of their bodies never comes"),
        _ = operators => unreachable!("the rest of their bodies never comes"),
    }
    let refused = app.get("/audit?decision=deny&max_results=1000").await.expect(200);
    let reasons: Vec<&str> = refused["items"].as_array().unwrap().iter().filter_map(|e| e["reason"].as_str()).collect();
    assert!(reasons.contains(&"CONCURRENT_REQUESTS"), "{reasons:?}");
}

async fn a_body_that_stalls_ends(app: TestApp) {
    let (app, _) = app.with_room(ROOM, ROOM, Duration::from_millis(50));
    let acme = acme(&app).await;
    let path = format!("/delta-sharing{}", table_path("steps", "/query"));
    let answer = app.send(half(Method::POST, &path, &acme.token)).await;
    answer.refused(408, "REQUEST_TIMEOUT", "did not arrive in time");
    let event = &app.events("table.query").await[0];
    assert_eq!((&event["decision"], &event["reason"]), (&json!("deny"), &json!("REQUEST_INVALID")));
    let answer = app.send(half(Method::PUT, "/api/v1/shares/more", OPERATOR_TOKEN)).await;
    answer.problem(408, "body_too_slow");
}

async fn operators_and_health_checks_need_no_place_of_recipients(app: TestApp) {
    let patience = Duration::from_millis(50);
    let room = PlaceLimits { requests: 2, per_address: 1, per_recipient: 1, patience };
    let (app, places) = app.with_room(room, ROOM, NEVER);
    let acme = acme(&app).await;
    let here = places.enter(HERE).await.unwrap();
    let answer = acme.get("/shares").await;
    answer.refused(429, "REQUEST_LIMIT_EXCEEDED", "too many requests from this address");
    assert_eq!(answer.header("retry-after"), "5");
    here.leave();
    let others =
        [places.enter([192, 0, 2, 1].into()).await.unwrap(), places.enter([192, 0, 2, 2].into()).await.unwrap()];
    acme.get("/shares").await.refused(503, "UNAVAILABLE", "not reachable at the moment");
    app.post("/freeze", json!({"reason": "drill"})).await.expect(200);
    app.post("/unfreeze", json!({"reason": "over"})).await.expect(200);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(app.send(Request::get(path).body(Body::empty()).unwrap()).await.status, 200, "{path}");
    }
    drop(others);
    assert_eq!(acme.get("/shares").await.status, 200);
}
