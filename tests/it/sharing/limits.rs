//! Limits and floods, and hints in refusals.

use axum::body::Body;
use http::{Request, header};
use serde_json::{Value, json};
use weir::config::SharingSettings;

use crate::support::{
    app::{Answer, TestApp, on_both_databases},
    tables::plain_table,
};

on_both_databases!(
    failed_authentications_become_one_event_a_minute_and_are_slowed_down,
    a_recipient_sends_no_more_requests_than_it_may,
    a_recipient_is_issued_no_more_bytes_a_day_than_it_may,
    streams_are_limited_while_they_run,
    limits_are_set_merged_and_taken_away,
    shares_say_when_access_ends_and_whom_to_ask,
    ranges_of_one_file_are_summed_after_the_first,
    a_recipients_refusals_are_summed_and_name_only_what_exists,
    what_is_read_again_counts_against_the_bytes_of_a_day,
    what_another_server_delivers_counts_like_what_this_one_does,
    a_cluster_that_shares_a_file_spends_no_more_than_the_file,
    refusals_count_as_requests_and_names_are_looked_for_at_first_alone,
);

async fn query(app: &TestApp, token: &str) -> Answer {
    let request = Request::post("/delta-sharing/shares/insurer/schemas/claims/tables/claims/query")
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    app.send(request.body(Body::from("{}")).unwrap()).await
}

/// Shares a table with one file with `acme` and returns a token.
async fn acme(app: &TestApp) -> String {
    plain_table(&app.folder("claims"), 5).await;
    app.put("/tables/claims.claims", json!({"location": app.location("claims")})).await.expect(201);
    app.put("/shares/insurer", json!({})).await.expect(201);
    let source = json!({"source": {"table": "claims.claims"}});
    app.put("/shares/insurer/objects/claims/claims", source).await.expect(201);
    app.grant_acme().await;
    app.token_for_acme().await["token"].as_str().unwrap().to_owned()
}

fn retry_after(answer: &Answer) -> i64 {
    answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap()
}

/// Waits until an event that is written later appears.
async fn event(app: &TestApp, action: &str) -> Vec<Value> {
    for _ in 0..2000 {
        let events = app.events(action).await;
        if !events.is_empty() {
            return events;
        }
        tokio::task::yield_now().await;
    }
    panic!("no event `{action}` was written");
}

async fn failed_authentications_become_one_event_a_minute_and_are_slowed_down(app: TestApp) {
    let token = acme(&app).await;
    for i in 0..120 {
        assert_eq!(app.shared(&format!("weir_{i}"), "/shares").await.status, 401, "{i}");
    }
    let limited = app.shared("weir_more", "/shares").await;
    assert!((1..=60).contains(&retry_after(&limited)));
    assert_eq!(limited.expect(429)["errorCode"], "REQUEST_LIMIT_EXCEEDED");
    assert_eq!(app.shared(&token, "/shares").await.status, 200, "who knows a token is not in the flood");
    let refused = async || app.get("/audit?action=shares.list&decision=deny").await.expect(200);
    assert_eq!(refused().await["items"].as_array().unwrap().len(), 20);

    app.pass(60);
    app.service.sharing.record_summaries(false);
    let summaries = event(&app, "refusals.summary").await;
    assert_eq!(summaries.len(), 1);
    assert_eq!(summaries[0]["change"]["count"], 101);
    assert_eq!((&summaries[0]["decision"], &summaries[0]["reason"]), (&json!("deny"), &json!("TOKEN_UNKNOWN")));
    assert_eq!(app.shared("weir_other", "/shares").await.status, 401, "another minute");
}

async fn a_recipient_sends_no_more_requests_than_it_may(app: TestApp) {
    let token = acme(&app).await;
    app.patch("/recipients/acme", json!({"limits": {"requests_per_minute": 3}})).await.expect(200);
    for _ in 0..3 {
        assert_eq!(app.shared(&token, "/shares").await.status, 200);
    }
    let limited = app.shared(&token, "/shares/insurer").await;
    let wait = retry_after(&limited);
    assert_eq!(limited.expect(429)["errorCode"], "REQUEST_LIMIT_EXCEEDED");
    let events = app.events("share.get").await;
    assert_eq!((&events[0]["reason"], &events[0]["recipient"]), (&json!("REQUESTS_PER_MINUTE"), &json!("acme")));
    app.pass(wait);
    assert_eq!(app.shared(&token, "/shares").await.status, 200);
}

async fn a_recipient_is_issued_no_more_bytes_a_day_than_it_may(app: TestApp) {
    let token = acme(&app).await;
    assert_eq!(query(&app, &token).await.status, 200);
    let bytes = app.events("table.query").await[0]["bytes"].as_u64().unwrap();
    assert!(bytes > 0);
    app.patch("/recipients/acme", json!({"limits": {"bytes_per_day": 2 * bytes}})).await.expect(200);
    for _ in 0..2 {
        assert_eq!(query(&app, &token).await.status, 200);
    }
    let limited = query(&app, &token).await;
    assert!(!limited.text.contains("/files/"));
    let wait = retry_after(&limited);
    limited.expect(429);
    assert_eq!(app.shared(&token, "/shares").await.status, 200, "only data is counted");
    let event = &app.events("table.query").await[0];
    assert_eq!((&event["reason"], &event["files"]), (&json!("BYTES_PER_DAY"), &Value::Null));
    app.pass(wait - 1);
    assert_eq!(query(&app, &token).await.status, 429);
    app.pass(1);
    assert_eq!(query(&app, &token).await.status, 200);
}

async fn streams_are_limited_while_they_run(app: TestApp) {
    let token = acme(&app).await;
    app.patch("/recipients/acme", json!({"limits": {"concurrent_streams": 1}})).await.expect(200);
    let recipient = app.service.access.get_recipient("acme").await.unwrap();
    let running = app.service.sharing.rate_limiter.begin_stream(recipient.id, 1);
    let limited = query(&app, &token).await;
    assert_eq!(retry_after(&limited), 5);
    limited.expect(429);
    assert_eq!(app.events("table.query").await[0]["reason"], "CONCURRENT_STREAMS");
    drop(running);
    for _ in 0..3 {
        assert_eq!(query(&app, &token).await.status, 200, "an answer that was read to its end runs no more");
    }
}

async fn limits_are_set_merged_and_taken_away(app: TestApp) {
    let limits = json!({"requests_per_minute": 10, "bytes_per_day": 5_000_000_000_u64});
    let made = app.put("/recipients/acme", json!({"limits": limits})).await.expect(201);
    let shown = json!({"requests_per_minute": 10, "concurrent_streams": null, "bytes_per_day": 5_000_000_000_u64});
    assert_eq!(made["limits"], shown);
    app.put("/recipients/acme", json!({"limits": limits})).await.expect(200);
    app.put("/recipients/acme", json!({"limits": {"requests_per_minute": 10}})).await.problem(409, "conflict");
    let merge = json!({"limits": {"requests_per_minute": null, "concurrent_streams": 4}});
    let patched = app.patch("/recipients/acme", merge).await.expect(200);
    let shown = json!({"requests_per_minute": null, "concurrent_streams": 4, "bytes_per_day": 5_000_000_000_u64});
    assert_eq!(patched["limits"], shown);
    let gone = app.patch("/recipients/acme", json!({"limits": null})).await.expect(200);
    assert!(gone["limits"].as_object().unwrap().values().all(Value::is_null), "{gone}");
    for bad in [json!({"requests_per_minute": 0}), json!({"requests": 1}), json!({"bytes_per_day": -1}), json!(7)] {
        app.patch("/recipients/acme", json!({"limits": bad})).await.problem(422, "invalid_input");
    }
}

async fn shares_say_when_access_ends_and_whom_to_ask(app: TestApp) {
    app.share_claims().await;
    app.patch("/shares/insurer", json!({"properties": {"region": "EU"}})).await.expect(200);
    app.grant_acme().await;
    let issued = app.token_for_acme().await;
    let token = issued["token"].as_str().unwrap();
    let one = app.shared(token, "/shares/insurer").await.expect(200)["share"]["properties"].clone();
    let listed = app.shared(token, "/shares").await.expect(200)["items"][0]["properties"].clone();
    assert_eq!(one, listed);
    assert_eq!(one["region"], "EU");
    assert_eq!(one["token_expires_at"], issued["expires_at"]);
    assert_eq!(one["grant_valid_until"], app.get("/grants").await.expect(200)["items"][0]["valid_until"]);
    assert!(one.get("support_contact").is_none(), "nobody is named");
}

#[tokio::test]
async fn every_message_ends_with_the_request_and_whom_to_ask() {
    let contact = "https://insurer.example/help";
    let app = TestApp::sqlite_with(|settings| SharingSettings { support_contact: contact.into(), ..settings }).await;
    let token = acme(&app).await;
    let properties = app.shared(&token, "/shares/insurer").await.expect(200)["share"]["properties"].clone();
    assert_eq!(properties["support_contact"], contact);
    for (token, path) in
        [("no", "/shares"), (&*token, "/shares/nothing"), (&*token, "/nothing"), (&*token, "/shares?maxResults=x")]
    {
        let answer = app.shared(token, path).await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let body = answer.json();
        assert_eq!(body["requestId"], id.as_str());
        let message = body["message"].as_str().unwrap();
        assert!(message.ends_with(&format!(" (request {id}, contact {contact})")), "{message}");
    }
}

async fn ranges_of_one_file_are_summed_after_the_first(app: TestApp) {
    let token = acme(&app).await;
    let answer = query(&app, &token).await;
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let url = lines.iter().find_map(|line| line["file"]["url"].as_str()).unwrap();
    let path = url.strip_prefix("http://weir.test").unwrap();
    for _ in 0..4 {
        let request = Request::get(path).header(header::RANGE, "bytes=0-3").body(Body::empty()).unwrap();
        let part = app.send(request).await;
        assert_eq!((part.status.as_u16(), part.text.as_str()), (206, "PAR1"));
    }
    let reads = app.events("file.read").await;
    let size = app.events("table.query").await[0]["bytes"].clone();
    assert_eq!((reads.len(), &reads[0]["bytes"]), (1, &size), "up to the whole file");
    app.pass(60);
    app.service.sharing.record_summaries(false);
    let summaries = event(&app, "file.read.summary").await;
    let change = &summaries[0]["change"];
    assert_eq!((&change["bytes"], &change["reads"], &summaries[0]["bytes"]), (&json!(12), &json!(3), &Value::Null));
    assert_eq!(summaries[0]["recipient"], "acme");
}

async fn a_recipients_refusals_are_summed_and_name_only_what_exists(app: TestApp) {
    let token = acme(&app).await;
    let personal = "jane.doe@example.org".repeat(12);
    for i in 0..40 {
        let (share, path) = match i % 4 {
            0 => (format!("{personal}{i}"), String::new()),
            1 => ("insurer".to_owned(), format!("/schemas/{personal}{i}/tables")),
            2 => ("insurer".to_owned(), format!("/schemas/claims/tables/{personal}{i}/version")),
            _ => (personal.clone(), format!("/schemas/{personal}/tables/{personal}/metadata")),
        };
        let answer = app.shared(&token, &format!("/shares/{share}{path}")).await;
        assert!(answer.text.len() < 700, "{}", answer.text);
        answer.expect(404);
    }
    let trail = app.get("/audit?decision=deny&max_results=1000").await.expect(200);
    assert_eq!(trail["items"].as_array().unwrap().len(), 20);
    assert!(!trail.to_string().contains("jane"), "{trail}");
    app.pass(60);
    app.service.sharing.record_summaries(false);
    app.service.core.audit_writer.finish().await;
    let summaries = app.events("refusals.summary").await;
    let count = |action: &str| {
        let of = summaries.iter().filter(|event| event["change"]["refused"] == action);
        of.map(|event| event["change"]["count"].as_u64().unwrap()).sum::<u64>()
    };
    let counts = ["share.get", "tables.list", "table.version", "table.metadata"].map(count);
    assert_eq!(counts.iter().sum::<u64>(), 20, "{summaries:?}");
    assert!(summaries.iter().all(|event| event["recipient"] == "acme"), "{summaries:?}");
    // An unknown caller is treated the same way.
    app.shared("nobody", &format!("/shares/{personal}/schemas/{personal}/tables/{personal}/version")).await.expect(401);
    let trail = app.get("/audit?max_results=1000").await.expect(200);
    assert!(!trail.to_string().contains("jane"), "{trail}");
}

async fn what_is_read_again_counts_against_the_bytes_of_a_day(app: TestApp) {
    let token = acme(&app).await;
    let size = {
        query(&app, &token).await;
        app.events("table.query").await[0]["bytes"].as_u64().unwrap()
    };
    app.patch("/recipients/acme", json!({"limits": {"bytes_per_day": 3 * size}})).await.expect(200);
    let answer = query(&app, &token).await;
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let url = lines.iter().find_map(|line| line["file"]["url"].as_str()).unwrap();
    let path = url.strip_prefix("http://weir.test").unwrap();
    // It is announced before the first byte, whether or not the body is read.
    let fetch = async || app.respond(Request::get(path).body(Body::empty()).unwrap()).await;
    for round in 0..3 {
        assert_eq!(fetch().await.status(), 200, "{round}");
    }
    for _ in 0..40 {
        let limited = fetch().await;
        assert_eq!(limited.status(), 429);
        assert!(limited.headers()[header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() > 60);
    }
    let reads = app.events("file.read").await;
    let denied = reads.iter().filter(|event| event["reason"] == "BYTES_PER_DAY").count();
    assert!((1..=21).contains(&denied), "{denied} of 40 are told one by one");
    app.pass(86_400);
    assert_eq!(query(&app, &token).await.status, 200);
}

/// Limits `acme` to the bytes of `answers` answers. Returns the path of a URL and the file's size.
async fn limited_to(app: &TestApp, token: &str, answers: u64) -> (String, u64) {
    query(app, token).await.expect(200);
    let size = app.events("table.query").await[0]["bytes"].as_u64().unwrap();
    app.patch("/recipients/acme", json!({"limits": {"bytes_per_day": answers * size}})).await.expect(200);
    let answer = query(app, token).await;
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let url = lines.iter().find_map(|line| line["file"]["url"].as_str()).unwrap();
    (url.strip_prefix("http://weir.test").unwrap().to_owned(), size)
}

async fn what_another_server_delivers_counts_like_what_this_one_does(app: TestApp) {
    let token = acme(&app).await;
    let (path, _) = limited_to(&app, &token, 2).await;
    // The first read was counted when it was issued; the second uses up the rest. No server has seen another's
    // requests.
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let server = app.replica(None);
        statuses.push(server.respond(Request::get(&path).body(Body::empty()).unwrap()).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429]);
    app.pass(86_400);
    app.service.sharing.forget_ended_urls().await.unwrap();
    assert_eq!(query(&app, &token).await.status, 200);
}

async fn a_cluster_that_shares_a_file_spends_no_more_than_the_file(app: TestApp) {
    let token = acme(&app).await;
    let (path, size) = limited_to(&app, &token, 2).await;
    let (one, other) = (app.replica(None).trusting_proxy(), app.trusting_proxy());
    let fetch = async |server: &TestApp, address: u64, range: String| {
        let request = Request::get(&path).header(header::RANGE, range);
        let request = request.header("x-forwarded-for", format!("192.0.2.{address}"));
        server.respond(request.body(Body::empty()).unwrap()).await.status().as_u16()
    };
    let parts = 8;
    for part in 0..parts {
        let (from, to) = (part * size / parts, (part + 1) * size / parts - 1);
        let server = if part % 2 == 0 { &one } else { &other };
        assert_eq!(fetch(server, part + 1, format!("bytes={from}-{to}")).await, 206, "{part}");
    }
    let reads = other.events("file.read").await;
    assert_eq!(reads.len() as u64, parts, "each address is announced");
    assert!(reads.iter().all(|event| event["bytes"] == size), "{reads:?}");
    // Reads beyond the file's size count as many bytes as they read.
    assert_eq!(fetch(&one, 1, format!("bytes=0-{}", size - 2)).await, 206);
    assert_eq!(fetch(&other, 2, "bytes=0-0".to_owned()).await, 206);
    assert_eq!(fetch(&one, 3, "bytes=0-0".to_owned()).await, 429);
    assert_eq!(other.events("file.read").await[0]["reason"], "BYTES_PER_DAY");
}

async fn refusals_count_as_requests_and_names_are_looked_for_at_first_alone(app: TestApp) {
    let token = acme(&app).await;
    for i in 0..30 {
        for (path, meant) in [("insuer", "insurer"), ("insurer/schemas/claim/tables", "insurer/claims")] {
            let answer = app.shared(&token, &format!("/shares/{path}")).await;
            let is_told = answer.text.contains(&format!("you mean '{meant}'"));
            assert_eq!((answer.status.as_u16(), is_told), (404, i < 10), "{i} {}", answer.text);
        }
    }
    app.patch("/recipients/acme", json!({"limits": {"requests_per_minute": 3}})).await.expect(200);
    app.pass(60);
    for _ in 0..3 {
        assert_eq!(app.shared(&token, "/shares/insuer").await.status, 404);
    }
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 429);
    assert_eq!(app.shared(&token, "/shares/insuer").await.status, 404, "what is told first stays so");
    // A caller that may not ask at all uses up no recipient's limit.
    let stolen = app.token_for_acme().await;
    let path = format!("/recipients/acme/tokens/{}/revoke", stolen["id"].as_str().unwrap());
    app.post(&path, json!({"reason": "stolen"})).await.expect(200);
    app.pass(60);
    for _ in 0..5 {
        assert_eq!(app.shared(stolen["token"].as_str().unwrap(), "/shares/insurer").await.status, 401);
    }
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 200);
}

#[tokio::test]
async fn a_recipient_without_limits_has_those_of_the_settings() {
    let few = |settings| SharingSettings { requests_per_minute: 3, concurrent_streams: 1, ..settings };
    for app in TestApp::each_with(few).await {
        let token = acme(&app).await;
        let recipient = app.service.access.get_recipient("acme").await.unwrap();
        let running = app.service.sharing.rate_limiter.begin_stream(recipient.id, 1);
        query(&app, &token).await.expect(429);
        drop(running);
        let statuses = [query(&app, &token).await, query(&app, &token).await, query(&app, &token).await];
        assert_eq!(statuses.map(|answer| answer.status.as_u16()), [200, 200, 429]);
        app.patch("/recipients/acme", json!({"limits": {"requests_per_minute": 100}})).await.expect(200);
        assert_eq!(query(&app, &token).await.status, 200, "its own count alone");
    }
}
