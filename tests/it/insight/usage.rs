//! Usage: the sums of the audit trail, reconciled with it.

use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use weir::{
    domain::{
        audit::{Actor, ActorKind, Event, Outcome, Personal, action::Action},
        insight::usage::hour,
    },
    store::{StoreError, UsageSums},
};

use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(
    usage_is_what_the_trail_says,
    sums_are_paged_and_filtered_and_answered_as_csv,
    distinct_addresses_survive_the_erasure_of_addresses_and_are_never_guessed,
    nothing_is_counted_twice_or_lost_however_many_count,
    a_difference_between_usage_and_trail_is_told,
    hours_are_kept_for_their_time_and_days_for_ever,
    bad_questions_are_refused,
);

/// An allowed query of a partner.
fn query(recipient: u128, table: u128, address: &str) -> Event {
    let id = Some(Uuid::from_u128(recipient));
    let name = Some(format!("partner-{recipient}"));
    let is_new = recipient.is_multiple_of(2);
    Event {
        recipient: name.clone(),
        recipient_id: id,
        share: Some("insurer".into()),
        share_id: Some(Uuid::from_u128(900)),
        schema: Some("claims".into()),
        table: Some(format!("t{table}")),
        // Of every other partner as earlier releases wrote it: those called a shared object a table.
        object_id: is_new.then_some(Uuid::from_u128(table)),
        table_id: Some(Uuid::from_u128(if is_new { 5_000 } else { table })),
        registered_table: is_new.then(|| "lake.claims".to_owned()),
        delivery: Some("presigned"),
        files: Some(2),
        rows: Some(20),
        bytes: Some(200),
        personal: Personal { client_address: Some(address.into()), ..Personal::default() },
        ..Event::new(Actor { kind: ActorKind::Recipient, id, name, ..Actor::ANONYMOUS }, Action::TableQuery)
    }
}

async fn usage(app: &TestApp, parameters: &str) -> Vec<Value> {
    app.service.insight.count_usage().await.unwrap();
    app.get(&format!("/usage?{parameters}")).await.expect(200)["items"].as_array().unwrap().clone()
}

fn numbers(items: &[Value], member: &str) -> Vec<Option<i64>> {
    items.iter().map(|item| item[member].as_i64()).collect()
}

async fn usage_is_what_the_trail_says(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let base = "/shares/insurer/schemas/claims/tables/claims";
    app.shared(&token, "/shares").await.expect(200);
    app.shared(&token, &format!("{base}/metadata")).await.expect(200);
    assert_eq!(app.shared(&token, "/shares/other").await.status, 404);
    assert_eq!(app.shared("nobody", "/shares").await.status, 401);
    app.service.core.audit_writer.finish().await;
    let items = usage(&app, "group_by=recipient").await;
    assert_eq!(numbers(&items, "requests"), [Some(1), Some(3)], "{items:?}");
    assert_eq!(numbers(&items, "denials"), [Some(1), Some(1)]);
    assert_eq!(numbers(&items, "addresses"), [Some(1), Some(1)]);
    assert_eq!((&items[0]["recipient"], &items[1]["recipient"]), (&Value::Null, &json!("acme")));
    assert_eq!(items[1]["recipient_id"], app.get("/recipients/acme").await.expect(200)["id"]);
    assert!(items[1].get("table").is_none() && items[1].get("start").is_none(), "{items:?}");
    assert_eq!(items[1]["bytes_delivered"], Value::Null);
    let by_table = usage(&app, "group_by=table&share=insurer&table=claims.claims").await;
    assert_eq!((by_table.len(), by_table[0]["requests"].as_i64()), (1, Some(1)));
    assert_eq!(by_table[0]["table"], "claims.claims");
    // The sum of everything equals the trail, and the check confirms it.
    let all = usage(&app, "group_by=").await;
    let check = app.get("/usage/check").await.expect(200);
    assert_eq!((&check["agrees"], check["days"].as_array().unwrap().len()), (&json!(true), 1), "{check}");
    assert_eq!(all[0]["events"], check["days"][0]["events_in_trail"]);
}

async fn sums_are_paged_and_filtered_and_answered_as_csv(app: TestApp) {
    let mut events: Vec<Event> = Vec::new();
    for recipient in 1..=3 {
        for table in 11..=13 {
            events.extend(vec![query(recipient, table, &format!("192.0.2.{recipient}")); 2]);
        }
    }
    app.append(&events).await;
    app.pass(3_600);
    let proxied = Event { delivery: Some("proxied"), rows: None, ..query(1, 11, "192.0.2.9") };
    let read = Event { action: Action::FileRead, bytes: Some(50), ..proxied.clone() };
    let took = Event { action: Action::TableQueryCompleted, duration_ms: Some(42), ..proxied.clone() };
    app.append(&[proxied, read, took]).await;
    let whole = usage(&app, "").await;
    let partners: Vec<&Value> = whole.iter().filter(|item| !item["recipient"].is_null()).collect();
    assert_eq!(partners.len(), 9);
    let first = partners[0];
    assert_eq!((&first["recipient"], &first["table"]), (&json!("partner-1"), &json!("claims.t11")));
    assert_eq!((&first["requests"], &first["file_reads"], &first["events"]), (&json!(3), &json!(1), &json!(5)));
    assert_eq!((&first["files"], &first["rows"], &first["answers_without_rows"]), (&json!(6), &json!(40), &json!(1)));
    assert_eq!((&first["bytes_issued"], &first["bytes_delivered"]), (&json!(600), &json!(50)));
    assert_eq!(first["latency"], json!({"answers": 1, "sum_ms": 42, "p50_ms": 100, "p95_ms": 100}));
    assert_eq!(partners[1]["bytes_delivered"], Value::Null, "nobody here saw these");

    let mut paged = Vec::new();
    let mut token = String::new();
    loop {
        let page = app.get(&format!("/usage?max_results=2{token}")).await.expect(200);
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next_page_token"].as_str() {
            Some(next) => token = format!("&page_token={next}"),
            None => break,
        }
    }
    assert_eq!(paged.len(), whole.len());
    assert_eq!(paged[1..], whole[1..]);
    // The same by its own word.
    let by_object = usage(&app, "group_by=recipient,object").await;
    let by_object: Vec<&Value> = by_object.iter().filter(|item| !item["recipient"].is_null()).collect();
    assert_eq!(by_object.len(), 9);
    for (item, by_object) in partners.iter().zip(&by_object) {
        assert_eq!((&item["table_id"], &item["table"]), (&by_object["object_id"], &by_object["object"]));
        assert_eq!((&item["object_id"], &item["requests"]), (&by_object["object_id"], &by_object["requests"]));
        assert!(by_object.get("table_id").is_none() && by_object.get("table").is_none(), "{by_object}");
    }

    let hours = usage(&app, "group_by=hour,recipient&recipient=00000000-0000-0000-0000-000000000001").await;
    assert_eq!(numbers(&hours, "requests"), [Some(6), Some(1)]);
    assert_eq!(numbers(&hours, "addresses"), [Some(1), Some(1)]);
    assert_eq!(hours[0]["start"], "2026-09-21T14:00:00Z");
    let days = usage(&app, "group_by=day,recipient&recipient=00000000-0000-0000-0000-000000000001").await;
    assert_eq!((numbers(&days, "requests"), &days[0]["start"]), (vec![Some(7)], &json!("2026-09-21T00:00:00Z")));
    assert_eq!(numbers(&days, "addresses"), [Some(2)]);
    let later = usage(
        &app,
        "group_by=&since=2026-09-21T15:00:00Z&until=2026-09-21T16:00:00Z&share=00000000-0000-0000-0000-000000000384",
    )
    .await;
    assert_eq!(numbers(&later, "requests"), [Some(1)]);

    let accept = [("accept", "text/csv")];
    let csv = app.admin_with(Method::GET, "/usage?group_by=recipient,table&max_results=3", &accept, None).await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let lines: Vec<&str> = csv.text.lines().collect();
    assert!(lines[0].starts_with("recipient_id,recipient,table_id,table,events,requests,"), "{}", csv.text);
    assert!(
        lines[2].contains(",partner-1,") && lines[2].contains(",claims.t11,5,3,1,0,6,40,1,600,50,"),
        "{}",
        csv.text
    );
    let next = csv.headers["x-next-page-token"].to_str().unwrap();
    let path = format!("/usage?group_by=recipient,table&max_results=3&page_token={next}");
    let second = app.admin_with(Method::GET, &path, &accept, None).await;
    assert_eq!(second.text.lines().count(), 4);
}

async fn distinct_addresses_survive_the_erasure_of_addresses_and_are_never_guessed(app: TestApp) {
    app.append(&[query(1, 11, "192.0.2.1"), query(1, 11, "192.0.2.2"), query(1, 12, "192.0.2.1")]).await;
    let by_table = usage(&app, "group_by=table,recipient&share=00000000-0000-0000-0000-000000000384").await;
    assert_eq!(numbers(&by_table, "addresses"), [Some(2), Some(1)]);
    let together = usage(&app, "group_by=recipient&share=00000000-0000-0000-0000-000000000384").await;
    assert_eq!(numbers(&together, "addresses"), [Some(2)], "an address is counted once");
    let before = hour(app.now()) + 1;
    let mut tx = app.service.core.db.begin().await.unwrap();
    assert!(tx.delete_usage_addresses(before).await.unwrap() > 0);
    tx.commit().await.unwrap();
    let by_table = usage(&app, "group_by=table,recipient&share=00000000-0000-0000-0000-000000000384").await;
    assert_eq!(numbers(&by_table, "addresses"), [Some(2), Some(1)], "each sum by itself still knows");
    let together = usage(&app, "group_by=recipient&share=00000000-0000-0000-0000-000000000384").await;
    assert_eq!(numbers(&together, "addresses"), [None]);
    // An address that was erased before it was counted is unknown, not zero.
    app.append(&[query(2, 11, "192.0.2.7")]).await;
    app.execute("DELETE FROM audit_personal").await;
    let lost = usage(&app, "group_by=recipient&recipient=00000000-0000-0000-0000-000000000002").await;
    assert_eq!((numbers(&lost, "requests"), numbers(&lost, "addresses")), (vec![Some(1)], vec![None]));
}

async fn nothing_is_counted_twice_or_lost_however_many_count(app: TestApp) {
    let replica = app.replica(None);
    for round in 0..5 {
        app.append(&vec![query(1, 11, "192.0.2.1"); 300 + round]).await;
        let (one, two) = tokio::join!(app.service.insight.count_usage(), replica.service.insight.count_usage());
        one.and(two).unwrap();
    }
    // A server that dies before its commit has counted nothing.
    app.append(&[query(1, 11, "192.0.2.1")]).await;
    let progress = app.service.core.db.find_usage_progress().await.unwrap();
    let mut tx = app.service.core.db.begin().await.unwrap();
    tx.add_usage(progress.seq, progress.seq + 1, &UsageSums::default()).await.unwrap();
    drop(tx);
    // A server that started from events that another has counted since adds nothing.
    app.service.insight.count_usage().await.unwrap();
    let mut tx = app.service.core.db.begin().await.unwrap();
    let stale = tx.add_usage(progress.seq, progress.seq + 1, &UsageSums::default()).await;
    assert!(matches!(stale, Err(StoreError::Stale)), "{stale:?}");
    drop(tx);
    let items = usage(&app, "group_by=recipient&recipient=00000000-0000-0000-0000-000000000001").await;
    assert_eq!(numbers(&items, "requests"), [Some(5 * 300 + 10 + 1)]);
    app.service.insight.count_usage().await.unwrap();
    assert_eq!(app.get("/usage/check").await.expect(200)["agrees"], true);
}

async fn a_difference_between_usage_and_trail_is_told(app: TestApp) {
    app.append(&[query(1, 11, "192.0.2.1"), query(2, 11, "192.0.2.1")]).await;
    app.pass(86_400);
    app.append(&[query(1, 11, "192.0.2.1")]).await;
    app.service.insight.count_usage().await.unwrap();
    assert_eq!(app.get("/usage/check").await.expect(200)["agrees"], true);
    app.execute("UPDATE usage_counts SET events = events + 1 WHERE period = 'day' AND start = 497208").await;
    let check = app.get("/usage/check").await.expect(200);
    let agrees: Vec<&Value> = check["days"].as_array().unwrap().iter().map(|day| &day["agrees"]).collect();
    assert_eq!((&check["agrees"], agrees), (&json!(false), vec![&json!(false), &json!(true)]), "{check}");
    let later = app.get("/usage/check?since=2026-09-22T00:00:00Z").await.expect(200);
    assert_eq!((&later["agrees"], later["days"].as_array().unwrap().len()), (&json!(true), 1), "{later}");
    app.get("/usage/check?since=2026-09-22T01:00:00Z").await.problem(400, "invalid_parameter");
    app.get("/usage/check?since=1990-01-01T00:00:00Z&until=2090-01-01T00:00:00Z")
        .await
        .problem(400, "invalid_parameter");
}

async fn hours_are_kept_for_their_time_and_days_for_ever(app: TestApp) {
    app.append(&[query(1, 11, "192.0.2.1")]).await;
    app.service.insight.count_usage().await.unwrap();
    app.pass(402 * 86_400);
    app.append(&[query(1, 11, "192.0.2.1")]).await;
    app.service.insight.count_usage().await.unwrap();
    app.service.insight.erase_usage_hours().await.unwrap();
    let whose = "recipient=00000000-0000-0000-0000-000000000001";
    assert_eq!(usage(&app, &format!("group_by=hour&{whose}")).await.len(), 1);
    assert_eq!(usage(&app, &format!("group_by=day&{whose}")).await.len(), 2);
    assert_eq!(
        app.get("/usage/check?since=2026-09-21T00:00:00Z&until=2026-09-22T00:00:00Z").await.expect(200)["agrees"],
        true
    );
    let problem = app.get("/usage?since=2026-09-21T14:00:00Z").await.problem(400, "invalid_parameter");
    assert!(problem["detail"].as_str().unwrap().contains("whole days"), "{problem}");
}

async fn bad_questions_are_refused(app: TestApp) {
    for query in [
        "group_by=partner",
        "group_by=day,hour",
        "group_by=day,day",
        "recipient=nobody",
        "table=a.b",
        "since=2026-09-21T14:30:00Z",
        "since=yesterday",
        "until=2026-09-21T14:00:00.5Z",
        "until=%00",
    ] {
        app.get(&format!("/usage?{query}")).await.problem(400, "invalid_parameter");
    }
    let denied = Event { decision: Outcome::Deny, ..query(1, 11, "192.0.2.1") };
    app.append(&[denied]).await;
    let items = usage(&app, "group_by=recipient&recipient=00000000-0000-0000-0000-000000000001").await;
    assert_eq!((numbers(&items, "denials"), numbers(&items, "files")), (vec![Some(1)], vec![Some(0)]));
}
