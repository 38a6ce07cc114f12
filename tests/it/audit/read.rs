//! Reading the audit trail.

use std::time::Duration;

use chrono::TimeDelta;
use http::{Method, Request, header};
use serde_json::{Value, json};
use weir::{
    domain::{
        audit::{Outcome, canonical, link_hash},
        core::seal::hex,
    },
    service::{
        audit::read::{AuditPage, AuditQuery},
        core::page::PageRequest,
    },
    store::{AuditFilter, Order},
};

use crate::support::app::{OPERATOR_TOKEN, TestApp, on_both_databases};

on_both_databases!(
    events_are_filtered_and_paged_in_both_orders,
    the_feed_is_one_event_a_line_and_goes_on_after_a_sequence_number,
    the_chain_verifies_from_what_is_listed,
    bad_filters_are_refused,
    every_use_of_an_operators_token_is_recorded,
    a_search_that_is_broken_off_says_where_it_goes_on,
);

fn seqs(page: &Value) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|item| item["seq"].as_i64().unwrap()).collect()
}

async fn events_are_filtered_and_paged_in_both_orders(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    app.shared(&token, "/shares/insurer").await;
    app.shared(&token, "/shares/other").await;
    let noted = app.get("/audit?recipient=acme&order=asc").await.expect(200);
    let actions: Vec<&str> = noted["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions[..4], ["recipient.create", "grant.create", "token.issue", "token.reveal"]);
    let id = noted["items"][0]["recipient_id"].as_str().unwrap();
    assert_eq!(app.get(&format!("/audit?recipient={id}&order=asc")).await.expect(200), noted);
    let denied = app.get("/audit?recipient=acme&decision=deny").await.expect(200);
    assert_eq!(denied["items"][0]["reason"], "SHARE_NOT_GRANTED");
    let table = app.get("/audit?share=insurer&table=claims.claims").await.expect(200);
    assert_eq!(table["items"][0]["action"], "object.create");
    for (order, expected) in [("asc", [1, 2]), ("desc", [4, 3])] {
        let until = "&after_seq=5";
        let path = if order == "desc" {
            format!("/audit?order={order}&max_results=2{until}")
        } else {
            format!("/audit?order={order}&max_results=2")
        };
        let page = app.get(&path).await.expect(200);
        assert_eq!(seqs(&page), expected);
    }
    let first = app.get("/audit?action=token.issue&max_results=1").await.expect(200);
    assert_eq!(first.get("next_page_token"), None);
    let first = app.get("/audit?recipient=acme&order=asc&max_results=3").await.expect(200);
    let next = first["next_page_token"].as_str().unwrap();
    let second = app.get(&format!("/audit?recipient=acme&order=asc&max_results=3&page_token={next}")).await.expect(200);
    assert_eq!([seqs(&first), seqs(&second)].concat(), seqs(&noted)[..seqs(&first).len() + seqs(&second).len()]);
    app.get(&format!("/audit?order=asc&page_token={next}")).await.problem(400, "invalid_parameter");
}

async fn the_feed_is_one_event_a_line_and_goes_on_after_a_sequence_number(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    app.put("/recipients/other", json!({})).await.expect(201);
    let accept = [("accept", "text/html, application/x-ndjson;q=0.9")];
    let feed = app.admin_with(Method::GET, "/audit?order=asc&after_seq=1", &accept, None).await;
    assert_eq!(feed.headers[header::CONTENT_TYPE], "application/x-ndjson");
    let seqs: Vec<i64> =
        feed.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs[0], 2);
    assert!(seqs.is_sorted() && feed.text.ends_with('\n'));
}

async fn the_chain_verifies_from_what_is_listed(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let page = app.get("/audit?order=asc").await.expect(200);
    let mut before = [0; 32];
    for item in page["items"].as_array().unwrap() {
        let mut body = item.as_object().unwrap().clone();
        for outside in ["hash", "prev_hash", "client_address", "user_agent", "contacts"] {
            body.remove(outside);
        }
        assert_eq!(item["prev_hash"], hex(&before));
        before = link_hash(&before, &canonical(&Value::Object(body)));
        assert_eq!(item["hash"], hex(&before));
    }
}

async fn bad_filters_are_refused(app: TestApp) {
    for query in [
        "recipient=nobody",
        "share=nothing",
        "table=a.b",
        "table=x",
        "decision=maybe",
        "order=up",
        "since=now",
        "after_seq=x",
        "max_results=1001",
        "max_results=-1",
        "limit=5",
        "page_token=abc",
        "action=%00",
        "order=asc&order=desc",
        "after_seq=1&page_token=abc",
    ] {
        app.get(&format!("/audit?{query}")).await.problem(400, "invalid_parameter");
    }
}

async fn every_use_of_an_operators_token_is_recorded(app: TestApp) {
    let count = || async { app.get("/audit?action=share.create").await.expect(200)["items"].as_array().unwrap().len() };
    app.put("/shares/s", json!({"properties": 5})).await.problem(422, "invalid_input");
    app.put("/shares/a%20b", json!({})).await.problem(422, "invalid_input");
    assert_eq!(count().await, 0);
    app.put("/shares/s", json!({})).await.expect(201);
    app.put("/shares/s", json!({})).await.expect(200);
    app.put("/shares/s", json!({"description": "x"})).await.problem(409, "conflict");
    assert_eq!(count().await, 1);
    app.delete("/shares/nothing").await.problem(404, "not_found");
    app.post("/nothing", json!({})).await.problem(404, "not_found");
    app.post(&format!("/{}", "x".repeat(5_000)), json!({})).await.problem(404, "not_found");
    let mut refused = app.events("admin.change").await;
    refused.reverse();
    let told: Vec<(String, String, String)> = refused
        .iter()
        .map(|event| {
            let text = |value: &'_ Value| value.as_str().unwrap().to_owned();
            (text(&event["reason"]), text(&event["change"]["method"]), text(&event["path"]))
        })
        .collect();
    let shown: Vec<(&str, &str, &str)> =
        told.iter().map(|(reason, method, path)| (&**reason, &**method, &**path)).collect();
    assert_eq!(
        shown[..5],
        [
            ("INVALID_INPUT", "PUT", "/api/v1/shares/s"),
            ("INVALID_INPUT", "PUT", "/api/v1/shares/a%20b"),
            ("CONFLICT", "PUT", "/api/v1/shares/s"),
            ("NOT_FOUND", "DELETE", "/api/v1/shares/nothing"),
            ("NOT_FOUND", "POST", "/api/v1/nothing"),
        ]
    );
    assert!(told.len() == 6 && told[5].2.len() == 1_000, "{told:?}");
    assert!(refused.iter().all(|event| event["decision"] == "deny" && event["actor"]["name"] == "bootstrap"));
    assert_eq!(refused[2]["object"]["name"], "/api/v1/shares/{share}");
    // Text that a caller made up is in no text that is kept.
    app.admin_with(Method::from_bytes(b"JANE").unwrap(), "/shares/s", &[], None).await;
    for event in app.service.core.db.list_audit(&AuditFilter::default(), 1_000).await.unwrap() {
        for made_up in ["a%20b", "/api/v1/nothing", "xxxx", "JANE"] {
            assert!(!event.body.contains(made_up), "{}", event.body);
        }
    }
    // A PUT that only confirms what exists is recorded as a read.
    let shown = app.get("/audit?action=admin.read&order=asc").await.expect(200)["items"].as_array().unwrap().clone();
    assert_eq!(shown.iter().filter(|event| event["object"]["name"] == "/api/v1/shares/{share}").count(), 1);
    // Reads are recorded too, by route and never by their parameters.
    let read = &app.events("admin.read").await[0];
    assert_eq!(read["object"]["name"], "/api/v1/audit");
    let request = Request::get("/api/v1/shares").header(header::AUTHORIZATION, format!("bearer  {OPERATOR_TOKEN}"));
    assert_eq!(app.send(request.body(axum::body::Body::empty()).unwrap()).await.status, 200);
}

async fn a_search_that_is_broken_off_says_where_it_goes_on(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    app.service.audit.sealer.seal().await.unwrap();
    app.put("/recipients/other", json!({})).await.expect(201);
    let query = AuditQuery {
        action: Some("recipient.create".to_owned()),
        decision: Some(Outcome::Allow),
        since: Some(app.now() - TimeDelta::hours(1)),
        order: Order::Ascending,
        ..AuditQuery::default()
    };
    let (mut found, mut reached) = (Vec::new(), Vec::new());
    loop {
        let query = AuditQuery { after_seq: reached.last().copied(), ..query.clone() };
        // A search that takes any time at all is cut short.
        let listed = app.service.audit.list_audit_events_within(&query, &PageRequest::default(), Duration::ZERO).await;
        let AuditPage { page, looked_up_to } = listed.unwrap();
        assert_eq!(page.next_page_token.is_some(), looked_up_to.is_some());
        found.extend(page.items.iter().map(|event| event.seq));
        let Some(seq) = looked_up_to else { break };
        assert!(reached.last().is_none_or(|before| *before < seq), "{reached:?} {seq}");
        reached.push(seq);
    }
    let whole = app.service.audit.list_audit_events_within(&query, &PageRequest::default(), Duration::MAX).await;
    let whole = whole.unwrap().page.items;
    assert_eq!(found, whole.iter().map(|event| event.seq).collect::<Vec<_>>());
    assert!(found.len() == 2 && !reached.is_empty(), "{found:?} {reached:?}");
}
