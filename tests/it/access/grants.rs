//! Grants and the end of access.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use weir::domain::audit::{Actor, Event, action::Action};

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(
    a_grant_opens_a_share_for_the_longest_time_allowed,
    windows_of_one_share_and_recipient_never_overlap,
    what_no_grant_may_be_is_refused,
    a_revoked_grant_is_refused_at_once_and_revoking_again_changes_nothing,
    a_revocation_says_when_the_last_presigned_url_dies,
    a_revocation_names_the_renewal_that_stays,
    urls_of_a_replaced_grant_count_for_its_successor,
    revoking_a_share_ends_current_and_future_grants,
    grants_are_found_by_the_moment_in_which_they_allowed,
    a_replayed_grant_answers_the_same_grant,
    of_grants_asked_for_at_the_same_time_one_is_given,
);

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

async fn a_grant_opens_a_share_for_the_longest_time_allowed(app: TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 404);
    let agreement = json!({"ref": "DPA-7", "sha256": "a".repeat(64), "valid_until": null});
    let body = json!({"share": "Insurer", "recipient": "ACME", "purpose": "fraud", "agreement": agreement});
    let grant = app.post("/grants", body).await.expect(201);
    assert_eq!((&grant["share"], &grant["recipient"]), (&json!("insurer"), &json!("acme")));
    assert_eq!((&grant["state"], &grant["granted_by"]), (&json!("active"), &json!("bootstrap")));
    assert_eq!(time(&grant["valid_until"]), app.now() + TimeDelta::days(365));
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 200);
    assert_eq!(app.get(&format!("/grants/{}", grant["id"].as_str().unwrap())).await.expect(200), grant);
    let event = &app.events("grant.create").await[0];
    assert_eq!((&event["purpose"], &event["agreement"]), (&json!("fraud"), &json!("DPA-7")));
    assert_eq!(event["grant_id"], grant["id"]);
}

async fn windows_of_one_share_and_recipient_never_overlap(app: TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let grant = |from: i64, until: i64| {
        json!({
            "share": "insurer", "recipient": "acme",
            "valid_from": text(app.now() + TimeDelta::hours(from)), "valid_until": text(app.now() + TimeDelta::hours(until)),
        })
    };
    let live = app.post("/grants", grant(0, 10)).await.expect(201);
    let problem = app.post("/grants", grant(9, 20)).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains(live["id"].as_str().unwrap()), "{problem}");
    let next = app.post("/grants", grant(10, 20)).await.expect(201);
    assert_eq!(next["state"], "scheduled");

    let mut successor = grant(0, 9);
    successor["replaces"] = live["id"].clone();
    let successor = app.post("/grants", successor).await.expect(201);
    let replaced = app.get(&format!("/grants/{}", live["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(replaced["ending"]["replaced_by"], successor["id"]);
    let revoke = format!("/grants/{}/revoke", live["id"].as_str().unwrap());
    let problem = app.post(&revoke, json!({})).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains(successor["id"].as_str().unwrap()), "{problem}");
    let mut again = grant(0, 9);
    again["replaces"] = live["id"].clone();
    assert_eq!(fields(&app.post("/grants", again).await.problem(422, "invalid_input")), ["replaces"]);
}

async fn what_no_grant_may_be_is_refused(app: TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let past = text(app.now() - TimeDelta::hours(1));
    let far = text(app.now() + TimeDelta::days(366));
    for (more, expected) in [
        (
            json!({"share": "nothing", "recipient": "nobody", "valid_until": past}),
            vec!["recipient", "share", "valid_until"],
        ),
        (json!({"share": 1, "recipient": null, "x": 1}), vec!["recipient", "share", "x"]),
        (json!({"valid_until": past}), vec!["valid_until"]),
        (json!({"valid_until": far}), vec!["valid_until"]),
        (json!({"valid_until": "tomorrow"}), vec!["valid_until"]),
        (json!({"valid_from": "+262142-12-31T23:59:59Z"}), vec!["valid_from"]),
        (json!({"agreement": {"ref": "x", "sha256": "abc"}}), vec!["agreement.sha256"]),
        (json!({"agreement": {"ref": "x", "valid_until": past}}), vec!["agreement.valid_until"]),
        (json!({"agreement": {}}), vec!["agreement"]),
        (json!({"replaces": Uuid::nil()}), vec!["replaces"]),
    ] {
        let mut body = json!({"share": "insurer", "recipient": "acme"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problem = app.post("/grants", body).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), expected, "{more}");
    }
    assert_eq!(fields(&app.post("/grants", json!({})).await.problem(422, "invalid_input")), ["share"]);
    assert!(app.events("grant.create").await.is_empty());
}

async fn a_revoked_grant_is_refused_at_once_and_revoking_again_changes_nothing(app: TestApp) {
    app.share_claims().await;
    let grant = app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 200);
    let revoke = format!("/grants/{grant}/revoke");
    let revoked = app.post(&revoke, json!({"reason": "over"})).await.expect(200);
    assert_eq!(revoked["effective_by"], revoked["revoked_at"]);
    assert_eq!((&revoked["outstanding_urls"], &revoked["still_granted_by"]), (&json!(0), &json!([])));
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 403);
    app.pass(5);
    assert_eq!(app.post(&revoke, json!({})).await.expect(200), revoked);
    let events = app.events("grant.revoke").await;
    assert_eq!((events.len(), &events[0]["change"]["reason"]), (1, &json!("over")));

    let short =
        json!({"share": "insurer", "recipient": "acme", "valid_until": text(app.now() + TimeDelta::seconds(5))});
    let short = app.post("/grants", short).await.expect(201)["id"].as_str().unwrap().to_owned();
    app.pass(5);
    app.post(&format!("/grants/{short}/revoke"), json!({})).await.problem(409, "conflict");
    app.post(&format!("/grants/{}/revoke", Uuid::nil()), json!({})).await.problem(404, "not_found");
}

/// Records that `files` presigned URLs, valid for `seconds`, were handed out under `grant`.
async fn hand_out(app: &TestApp, grant: &str, files: u64, seconds: i64) {
    let event = Event {
        grant_id: Some(Uuid::parse_str(grant).unwrap()),
        delivery: Some("presigned"),
        files: Some(files),
        url_expires_at: Some(app.now() + TimeDelta::seconds(seconds)),
        ..Event::new(Actor::ANONYMOUS, Action::TableQuery)
    };
    app.service.core.audit_writer.record(event).await.unwrap();
}

async fn a_revocation_says_when_the_last_presigned_url_dies(app: TestApp) {
    app.share_claims().await;
    let grant = app.grant_acme().await;
    hand_out(&app, &grant, 5, 100).await;
    hand_out(&app, &grant, 7, 200).await;
    hand_out(&app, &Uuid::nil().to_string(), 1000, 1000).await;
    app.pass(100);
    let revoked = app.post(&format!("/grants/{grant}/revoke"), json!({})).await.expect(200);
    assert_eq!(revoked["outstanding_urls"], 7);
    assert_eq!(time(&revoked["revoked_at"]), app.now());
    assert_eq!(time(&revoked["effective_by"]), app.now() + TimeDelta::seconds(100));
}

async fn a_revocation_names_the_renewal_that_stays(app: TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let until = text(app.now() + TimeDelta::days(1));
    let body = json!({"share": "insurer", "recipient": "acme", "valid_until": until});
    let first = app.post("/grants", body).await.expect(201);
    let body = json!({"share": "insurer", "recipient": "acme", "valid_from": until});
    let renewal = app.post("/grants", body).await.expect(201);
    let revoke = format!("/grants/{}/revoke", first["id"].as_str().unwrap());
    let revoked = app.post(&revoke, json!({})).await.expect(200);
    assert_eq!(revoked["still_granted_by"], json!([renewal["id"]]));
    let revoked = app.post("/shares/insurer/revoke", json!({})).await.expect(200);
    assert_eq!(revoked["still_granted_by"], json!([]));
}

async fn urls_of_a_replaced_grant_count_for_its_successor(app: TestApp) {
    app.share_claims().await;
    let first = app.grant_acme().await;
    hand_out(&app, &first, 3, 100).await;
    app.pass(1);
    let body = json!({"share": "insurer", "recipient": "acme", "replaces": first});
    let second = app.post("/grants", body).await.expect(201)["id"].as_str().unwrap().to_owned();
    let revoked = app.post(&format!("/grants/{second}/revoke"), json!({})).await.expect(200);
    assert_eq!(revoked["outstanding_urls"], 3);
    assert_eq!(time(&revoked["effective_by"]), app.now() + TimeDelta::seconds(99));
}

async fn revoking_a_share_ends_current_and_future_grants(app: TestApp) {
    app.share_claims().await;
    let current = app.grant_acme().await;
    let later = json!({
        "share": "insurer", "recipient": "acme", "valid_from": text(app.now() + TimeDelta::days(365)),
    });
    let future = app.post("/grants", later).await.expect(201)["id"].as_str().unwrap().to_owned();
    app.put("/recipients/other", json!({})).await.expect(201);
    let others = app.post("/grants", json!({"share": "insurer", "recipient": "other"})).await.expect(201);

    let revoked = app.post("/shares/insurer/recipients/acme/revoke", json!({"reason": "r"})).await.expect(200);
    assert_eq!(revoked["grants"], json!([current, future]));
    for id in [&current, &future] {
        assert_eq!(app.get(&format!("/grants/{id}")).await.expect(200)["state"], "revoked");
    }
    let revoked = app.post("/shares/insurer/revoke", json!({})).await.expect(200);
    assert_eq!(revoked["grants"], json!([others["id"]]));
    assert_eq!(app.post("/shares/insurer/revoke", json!({})).await.expect(200)["grants"], json!([]));
    app.post("/shares/nothing/revoke", json!({})).await.problem(404, "not_found");
    app.post("/shares/insurer/recipients/nobody/revoke", json!({})).await.problem(404, "not_found");
    assert_eq!(app.events("grant.revoke").await.len(), 3);
}

async fn grants_are_found_by_the_moment_in_which_they_allowed(app: TestApp) {
    app.share_claims().await;
    let before = text(app.now() - TimeDelta::seconds(1));
    let grant = app.grant_acme().await;
    let during = text(app.now());
    app.pass(10);
    app.post(&format!("/grants/{grant}/revoke"), json!({})).await.expect(200);
    let after = text(app.now());
    for (at, expected) in [(&before, vec![]), (&during, vec![grant.as_str()]), (&after, vec![])] {
        let page = app.get(&format!("/grants?share=insurer&at={at}")).await.expect(200);
        assert_eq!(ids(&page), expected, "{at}");
    }
    assert_eq!(ids(&app.get("/grants?recipient=acme").await.expect(200)), [&grant]);
    for bad in ["share=nothing", "recipient=nobody", "at=yesterday", "shares=insurer", "max_results=0", "page_token=x"]
    {
        app.get(&format!("/grants?{bad}")).await.problem(400, "invalid_parameter");
    }
    let nobody = Uuid::nil();
    assert!(ids(&app.get(&format!("/grants?recipient={nobody}")).await.expect(200)).is_empty());
}

async fn a_replayed_grant_answers_the_same_grant(app: TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let create = async |key: &str, body: &Value| {
        app.admin_with(Method::POST, "/grants", &[("idempotency-key", key)], Some(body)).await
    };
    let body = json!({"share": "insurer", "recipient": "acme"});
    let created = create("k1", &body).await.expect(201);
    app.pass(5);
    assert_eq!(create("k1", &body).await.expect(201), created);
    create("k2", &body).await.problem(409, "conflict");
    let preview = async |key: &str, body: &Value| {
        app.admin_with(Method::POST, "/grants?dry_run=true", &[("idempotency-key", key)], Some(body)).await
    };
    let told = preview("k1", &body).await.expect(200);
    assert_eq!((&told["id"], &told["disclosure"]["recipients"]), (&created["id"], &json!([])));
    preview("k2", &body).await.problem(409, "conflict");
    let other = json!({"share": "insurer", "recipient": "acme", "purpose": "x"});
    assert_eq!(fields(&create("k1", &other).await.problem(422, "invalid_input")), ["Idempotency-Key"]);
    assert_eq!(fields(&preview("k1", &other).await.problem(422, "invalid_input")), ["Idempotency-Key"]);
    // After a day a request is forgotten, and its key may be used for another.
    app.pass(86_401);
    app.post(&format!("/grants/{}/revoke", created["id"].as_str().unwrap()), json!({})).await.expect(200);
    create("k3", &body).await.expect(201);
    app.post("/shares/insurer/revoke", json!({})).await.expect(200);
    create("k1", &other).await.expect(201);
    create("", &body).await.problem(400, "invalid_parameter");
    create(&"k".repeat(256), &body).await.problem(400, "invalid_parameter");
    assert_eq!(app.events("grant.create").await.len(), 3);
}

async fn of_grants_asked_for_at_the_same_time_one_is_given(app: TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let ask = || app.post("/grants", json!({"share": "insurer", "recipient": "acme"}));
    let (a, b, c) = futures::join!(ask(), ask(), ask());
    let mut statuses = [a.status.as_u16(), b.status.as_u16(), c.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409]);
}
