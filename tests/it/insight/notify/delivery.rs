//! Delivery of messages to receivers that work, or are slow, broken or gone.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{PREVIOUS, SECRET, deliver, kept, telling, webhook};
use crate::support::{
    app::TestApp,
    process::until,
    receiver::{Mood, TestReceiver},
};

async fn freeze(app: &TestApp) {
    app.post("/freeze", json!({"reason": "an incident"})).await.expect(200);
}

/// The only notification.
async fn only(app: &TestApp) -> Value {
    let mut all = kept(app, "").await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test]
async fn a_message_is_signed_and_sent_once() {
    let receiver = TestReceiver::start();
    for (round, app) in TestApp::each(telling(&receiver)).await.into_iter().enumerate() {
        freeze(&app).await;
        assert_eq!(only(&app).await["state"], "pending");
        deliver(&app).await;
        deliver(&app).await;
        let received = receiver.received();
        assert_eq!(received.len(), round + 1, "once for each database");
        let message = received.last().unwrap();
        assert!(message.is_signed_by(SECRET), "{message:?}");
        assert!(!message.is_signed_by(PREVIOUS));
        assert_eq!(message.header("content-type"), "application/json");
        assert_eq!(message.header("webhook-timestamp"), app.now().timestamp().to_string());
        let body = message.json();
        assert_eq!((&body["type"], &body["data"]["reason"]), (&json!("freeze.create"), &json!("an incident")));
        assert_eq!(body["timestamp"], "2026-09-21T14:13:20.000000Z");
        let delivered = only(&app).await;
        assert_eq!((&delivered["state"], &delivered["attempts"]), (&json!("delivered"), &json!(1)));
        assert_eq!(delivered["id"], message.id());
        assert_eq!(delivered["message"], body);
        assert_eq!(delivered["next_attempt_at"], Value::Null);
        let metrics = app.service.core.metrics.encode().unwrap();
        let line = r#"weir_notification_attempts_total{webhook="ops",outcome="delivered"} 1"#;
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn the_secret_before_signs_while_it_is_exchanged() {
    let receiver = TestReceiver::start();
    let mut ops = receiver.webhook("ops", SECRET);
    ops["previous_secret"] = json!(PREVIOUS);
    let app = TestApp::sqlite_set(|settings| settings.notify.webhook.push(webhook(ops))).await;
    freeze(&app).await;
    deliver(&app).await;
    let message = receiver.received().remove(0);
    assert!(message.is_signed_by(SECRET) && message.is_signed_by(PREVIOUS), "{message:?}");
}

#[tokio::test]
async fn a_receiver_that_fails_gets_the_same_message_again_later() {
    for app_index in 0..2 {
        let receiver = TestReceiver::start();
        let Some(app) = TestApp::each(telling(&receiver)).await.into_iter().nth(app_index) else { continue };
        receiver.is(Mood::status(500));
        freeze(&app).await;
        deliver(&app).await;
        deliver(&app).await;
        assert_eq!(receiver.received().len(), 1, "it is not asked again at once");
        let failed = only(&app).await;
        assert_eq!(failed["state"], "pending");
        assert_eq!(failed["failure"], "the receiver answered 500 Internal Server Error");
        app.pass(13);
        deliver(&app).await;
        app.pass(13);
        deliver(&app).await;
        assert_eq!(receiver.received().len(), 2, "the second pause is longer");
        receiver.is(Mood::Well);
        app.pass(13);
        deliver(&app).await;
        let received = receiver.received();
        assert_eq!(received.len(), 3);
        assert!(received.iter().all(|message| message.id() == received[0].id() && message.is_signed_by(SECRET)));
        assert!(received.iter().all(|message| message.body == received[0].body));
        let delivered = only(&app).await;
        assert_eq!((&delivered["state"], &delivered["attempts"]), (&json!("delivered"), &json!(3)));
        assert_eq!(delivered["failure"], Value::Null);
        let metrics = app.service.core.metrics.encode().unwrap();
        assert!(metrics.contains(r#"weir_notification_attempts_total{webhook="ops",outcome="failed"} 2"#), "{metrics}");
    }
}

#[tokio::test]
async fn a_receiver_may_ask_to_be_left_alone_for_some_hours_and_no_longer() {
    let receiver = TestReceiver::start();
    let app = TestApp::sqlite_set(telling(&receiver)).await;
    receiver.is(Mood::Status(503, "retry-after", "3600".to_owned()));
    freeze(&app).await;
    deliver(&app).await;
    app.pass(3500);
    deliver(&app).await;
    assert_eq!(receiver.received().len(), 1);
    receiver.is(Mood::Status(429, "retry-after", "99999999999".to_owned()));
    app.pass(100);
    deliver(&app).await;
    app.pass(6 * 3600);
    receiver.is(Mood::Well);
    deliver(&app).await;
    assert_eq!(receiver.received().len(), 3);
    assert_eq!(only(&app).await["state"], "delivered");
}

#[tokio::test]
async fn a_receiver_that_is_gone_leaves_a_dead_letter_which_an_operator_queues_anew() {
    for app_index in 0..2 {
        let receiver = TestReceiver::start();
        let Some(app) = TestApp::each(telling(&receiver)).await.into_iter().nth(app_index) else { continue };
        receiver.is(Mood::status(410));
        freeze(&app).await;
        deliver(&app).await;
        app.pass(86_400);
        deliver(&app).await;
        assert_eq!(receiver.received().len(), 1, "gone is gone");
        assert!(kept(&app, "?state=pending").await.is_empty());
        let dead = kept(&app, "?state=dead").await.remove(0);
        let recorded = app.events("notification.dead").await.remove(0);
        assert_eq!(recorded["actor"], json!({"kind": "system", "name": "notifier"}));
        assert_eq!(recorded["object"], json!({"kind": "notification", "id": dead["id"], "name": "ops"}));
        assert_eq!(recorded["change"]["type"], "freeze.create");
        assert_eq!(recorded["change"]["failure"], "the receiver answered 410 Gone");
        let metrics = app.service.core.metrics.encode().unwrap();
        assert!(metrics.contains(r#"weir_notification_attempts_total{webhook="ops",outcome="dead"} 1"#), "{metrics}");

        receiver.is(Mood::Well);
        let retry = format!("/notifications/{}/retry", dead["id"].as_str().unwrap());
        let rehearsed = app.post(&format!("{retry}?dry_run=true"), json!({})).await.expect(200);
        assert_eq!(rehearsed["state"], "pending");
        assert_eq!(kept(&app, "?state=dead").await.len(), 1);
        let queued = app.post(&retry, json!({})).await.expect(200);
        assert_eq!((&queued["state"], &queued["attempts"]), (&json!("pending"), &json!(0)));
        deliver(&app).await;
        assert_eq!(receiver.received().len(), 2);
        assert_eq!(receiver.received()[1].id(), dead["id"]);
        assert_eq!(app.events("notification.retry").await[0]["object"]["id"], dead["id"]);
        let refused = app.post(&retry, json!({})).await.problem(409, "conflict");
        assert!(refused["detail"].as_str().unwrap().contains("is delivered"), "{refused}");
        let other = retry.replace(dead["id"].as_str().unwrap(), "00000000-0000-0000-0000-000000000000");
        app.post(&other, json!({})).await.problem(404, "not_found");
        app.get("/notifications?state=lost").await.problem(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn attempts_end_by_number_and_by_age() {
    let receiver = TestReceiver::start();
    receiver.is(Mood::status(500));
    let app = TestApp::sqlite_set(|settings| {
        telling(&receiver)(settings);
        settings.notify.attempts = 3;
    })
    .await;
    freeze(&app).await;
    for _ in 0..5 {
        deliver(&app).await;
        app.pass(3600);
    }
    assert_eq!(receiver.received().len(), 3);
    assert_eq!(only(&app).await["state"], "dead");

    let app = TestApp::sqlite_set(|settings| {
        telling(&receiver)(settings);
        settings.notify.max_age_seconds = 60;
    })
    .await;
    freeze(&app).await;
    for _ in 0..60 {
        deliver(&app).await;
        app.pass(2);
    }
    assert_eq!(only(&app).await["state"], "dead", "it would be too old at the next attempt");
    assert!((4..7).contains(&receiver.received().len()), "{}", receiver.received().len());
}

#[tokio::test]
async fn a_receiver_that_hangs_is_cut_off_and_holds_nobody_up() {
    let (hanging, well) = (TestReceiver::start(), TestReceiver::start());
    hanging.is(Mood::Silent);
    let app = TestApp::sqlite_set(|settings| {
        telling(&hanging)(settings);
        settings.notify.webhook.push(webhook(well.webhook("other", SECRET)));
    })
    .await;
    freeze(&app).await;
    let began = Instant::now();
    let others = async {
        app.service.insight.deliver_due("other").await.unwrap();
        began.elapsed()
    };
    let ((), after) = tokio::join!(deliver(&app), others);
    assert!(after < Duration::from_secs(1), "the other one waited {after:?}");
    assert!(began.elapsed() >= Duration::from_secs(1), "it was given its second");
    let all = kept(&app, "").await;
    let of = |name: &str| all.iter().find(|notification| notification["webhook"] == name).unwrap();
    assert_eq!(of("other")["state"], "delivered");
    assert_eq!(
        (&of("ops")["state"], &of("ops")["failure"]),
        (&json!("pending"), &json!("the receiver did not answer in time"))
    );
}

#[tokio::test]
async fn redirects_are_not_followed_and_bodies_not_read() {
    let (receiver, elsewhere) = (TestReceiver::start(), TestReceiver::start());
    let app = TestApp::sqlite_set(telling(&receiver)).await;
    receiver.is(Mood::Status(307, "location", elsewhere.url.clone()));
    freeze(&app).await;
    deliver(&app).await;
    assert_eq!(only(&app).await["failure"], "the receiver answered 307 Temporary Redirect");
    assert!(elsewhere.received().is_empty());
    receiver.is(Mood::Endless(500));
    app.pass(60);
    deliver(&app).await;
    assert_eq!(only(&app).await["failure"], "the receiver answered 500 Internal Server Error");
    receiver.is(Mood::Endless(200));
    app.pass(60);
    deliver(&app).await;
    assert_eq!(only(&app).await["state"], "delivered");
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_told_of_without_its_address() {
    let receiver = TestReceiver::start();
    let telling = telling(&receiver);
    let url = receiver.url.clone();
    drop(receiver);
    tokio::task::yield_now().await;
    let app = TestApp::sqlite_set(telling).await;
    freeze(&app).await;
    deliver(&app).await;
    let failure = only(&app).await["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("receiver") && !failure.contains("127.0.0.1") && !failure.contains("s3cr3t"), "{failure}");
    assert!(!app.get("/notifications").await.text.contains(&url));
}

#[tokio::test]
async fn a_message_whose_sender_died_is_sent_again_under_the_same_id() {
    for app_index in 0..2 {
        let receiver = TestReceiver::start();
        let Some(app) = TestApp::each(telling(&receiver)).await.into_iter().nth(app_index) else { continue };
        receiver.is(Mood::Silent);
        freeze(&app).await;
        // The receiver has the message, but the server dies before it records that.
        tokio::select! {
            () = deliver(&app) => panic!("it hangs"),
            () = until("message", async || (!receiver.received().is_empty()).then_some(())) => {}
        }
        receiver.is(Mood::Well);
        let other = app.replica_set(telling(&receiver));
        deliver(&other).await;
        assert_eq!(receiver.received().len(), 1, "for now it is left to who took it");
        app.pass(40);
        deliver(&other).await;
        let received = receiver.received();
        assert_eq!(received.len(), 2);
        assert_eq!(received[0].id(), received[1].id());
        assert_eq!(received[0].body, received[1].body);
        assert_eq!(only(&app).await["state"], "delivered");
    }
}

#[tokio::test]
async fn two_replicas_share_the_work() {
    for app_index in 0..2 {
        let receiver = TestReceiver::start();
        let Some(app) = TestApp::each(telling(&receiver)).await.into_iter().nth(app_index) else { continue };
        for _ in 0..20 {
            freeze(&app).await;
            app.post("/unfreeze", json!({"reason": "over"})).await.expect(200);
        }
        let other = app.replica_set(telling(&receiver));
        tokio::join!(deliver(&app), deliver(&other), deliver(&app), deliver(&other));
        let received = receiver.received();
        let ids: HashSet<&str> = received.iter().map(|message| message.id()).collect();
        assert_eq!((received.len(), ids.len()), (40, 40), "each once");
        assert!(kept(&app, "?state=pending").await.is_empty());
    }
}

#[tokio::test]
async fn webhooks_get_what_they_want_and_pages_go_through_all() {
    let receiver = TestReceiver::start();
    let mut lifts = receiver.webhook("ops", SECRET);
    lifts["events"] = json!(["freeze.lift"]);
    let app = TestApp::sqlite_set(|settings| settings.notify.webhook.push(webhook(lifts))).await;
    for _ in 0..3 {
        freeze(&app).await;
        freeze(&app).await;
        app.post("/unfreeze", json!({"reason": "over"})).await.expect(200);
    }
    deliver(&app).await;
    assert_eq!((receiver.told("freeze.create").len(), receiver.told("freeze.lift").len()), (0, 3));
    let first = app.get("/notifications?max_results=2").await.expect(200);
    let token = first["next_page_token"].as_str().unwrap();
    let second = app.get(&format!("/notifications?max_results=2&page_token={token}")).await.expect(200);
    assert_eq!((first["items"].as_array().unwrap().len(), second["items"].as_array().unwrap().len()), (2, 1));
    assert!(second["next_page_token"].is_null());
}

#[tokio::test]
async fn what_ended_is_forgotten_after_a_month_and_what_nobody_sends_is_given_up() {
    for app_index in 0..2 {
        let receiver = TestReceiver::start();
        let Some(app) = TestApp::each(telling(&receiver)).await.into_iter().nth(app_index) else { continue };
        freeze(&app).await;
        deliver(&app).await;
        app.post("/unfreeze", json!({"reason": "over"})).await.expect(200);
        // No settings name its webhook any more.
        let other = app.replica_set(|_| {});
        app.pass(3 * 86_400 + 7 * 3600);
        other.service.insight.tidy_notifications().await.unwrap();
        let dead = kept(&app, "?state=dead").await.remove(0);
        assert_eq!((&dead["type"], &dead["failure"]), (&json!("freeze.lift"), &json!("no server has sent it in time")));
        let retry = format!("/notifications/{}/retry", dead["id"].as_str().unwrap());
        let refused = other.post(&retry, json!({})).await.problem(409, "conflict");
        assert!(refused["detail"].as_str().unwrap().contains("no webhook `ops`"), "{refused}");
        app.pass(29 * 86_400);
        app.service.insight.tidy_notifications().await.unwrap();
        assert_eq!(only(&app).await["type"], "freeze.lift", "the one that was delivered is old enough");
        app.pass(3 * 86_400);
        app.service.insight.tidy_notifications().await.unwrap();
        assert!(kept(&app, "").await.is_empty());
    }
}
