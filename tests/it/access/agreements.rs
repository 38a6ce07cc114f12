//! Agreements: their terms and states, the grants that name them, and what that means for reading.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, fields, on_both_databases};

on_both_databases!(
    an_agreement_is_put_read_changed_listed_and_deleted,
    what_no_agreement_may_be_is_refused,
    an_agreement_goes_through_its_states_and_no_others,
    only_compliance_moves_agreements,
    a_grant_allows_only_while_every_agreement_that_it_names_is_active,
    an_agreement_ends_at_its_second_and_so_does_a_missed_review,
    a_purpose_is_allowed_by_agreement_and_table_or_nothing_is_read,
    a_successor_takes_over_without_a_gap_and_without_a_way_back,
    what_was_closed_is_not_opened_again,
    a_grant_by_a_successor_never_stands_on_the_one_before,
    what_no_grant_may_stand_on_is_refused,
    the_old_form_of_a_grant_makes_an_agreement_that_decides,
    who_could_read_knows_the_states_of_then,
    the_end_of_an_agreement_says_how_many_urls_outlive_it,
);

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn spec(app: &TestApp) -> Value {
    json!({
        "recipient": "acme", "type": "BAA", "document": {"uri": "clm://1", "sha256": "0".repeat(64)},
        "purposes": ["fraud"], "classes": ["PHI"], "valid_from": text(app.now() - TimeDelta::days(1)),
        "valid_until": text(app.now() + TimeDelta::days(100)),
    })
}

fn with(mut spec: Value, changes: Value) -> Value {
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

async fn step(app: &TestApp, name: &str, step: &str) -> Answer {
    app.post(&format!("/agreements/{name}/{step}"), json!({"reason": "a test"})).await
}

/// The recipient `acme`, the purpose `fraud`, the share `insurer`, and the draft `baa`.
async fn parties(app: &TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    app.put("/purposes/fraud", json!({"description": "d"})).await.expect(201);
    app.put("/agreements/baa", spec(app)).await.expect(201);
}

/// What acme is answered; the token's agreements decide.
struct Acme<'a> {
    app: &'a TestApp,
    token: String,
    grant: String,
}

impl<'a> Acme<'a> {
    /// Grants `insurer` to acme under these agreements, for fraud.
    async fn under(app: &'a TestApp, agreements: &[&str]) -> Self {
        let grant = json!({"share": "insurer", "recipient": "acme", "purpose": "fraud", "agreements": agreements});
        let grant = app.post("/grants", grant).await.expect(201);
        assert_eq!(grant["agreements"], json!(agreements));
        let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
        Self { app, token, grant: grant["id"].as_str().unwrap().to_owned() }
    }

    async fn version(&self) -> Answer {
        self.app.shared(&self.token, "/shares/insurer/schemas/claims/tables/claims/version").await
    }

    async fn reads(&self) {
        let answer = self.version().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(self.state().await, "active");
    }

    /// Refused with this code, which the trail has, with the agreement and the purpose.
    async fn is_refused(&self, code: &str) {
        let answer = self.version().await;
        assert_eq!(answer.status, 403, "{}", answer.text);
        assert_eq!(answer.json()["errorCode"], code, "{}", answer.text);
        // The request's id may hold any letters.
        let message = answer.json()["message"].as_str().unwrap().split(" (request").next().unwrap().to_owned();
        assert!(message.contains("ask the data provider") && !message.contains("baa"), "{message}");
        let event = &self.app.events("table.version").await[0];
        assert_eq!((&event["decision"], &event["reason"]), (&json!("deny"), &json!(code)), "{event}");
        assert_eq!((&event["purpose"], &event["grant_id"]), (&json!("fraud"), &json!(self.grant)), "{event}");
        assert!(event["agreement"].as_str().is_some_and(|named| named.contains("baa")), "{event}");
    }

    async fn state(&self) -> String {
        let grant = self.app.get(&format!("/grants/{}", self.grant)).await.expect(200);
        grant["state"].as_str().unwrap().to_owned()
    }
}

async fn an_agreement_is_put_read_changed_listed_and_deleted(app: TestApp) {
    parties(&app).await;
    let put = app.put("/agreements/BAA", spec(&app)).await.expect(200);
    assert_eq!((&put["name"], &put["state"], &put["type"]), (&json!("baa"), &json!("draft"), &json!("BAA")));
    assert_eq!((&put["ends_at"], &put["on_end"]), (&put["valid_until"], &json!("deny")));
    assert_eq!(app.get("/agreements/baa").await.expect(200), put);
    app.put("/agreements/baa", with(spec(&app), json!({"purposes": []}))).await.problem(409, "conflict");
    let changed = app.patch("/agreements/baa", json!({"retention_days": 30})).await.expect(200);
    assert_eq!(changed["retention_days"], 30);
    assert_ne!(changed["etag"], put["etag"]);
    app.put("/agreements/dpa", with(spec(&app), json!({"type": "DPA"}))).await.expect(201);
    let page = app.get("/agreements?max_results=1").await.expect(200);
    assert_eq!(page["items"][0]["name"], "baa");
    let token = page["next_page_token"].as_str().unwrap();
    let page = app.get(&format!("/agreements?max_results=1&page_token={token}")).await.expect(200);
    assert_eq!((&page["items"][0]["name"], page.get("next_page_token")), (&json!("dpa"), None));
    // What it uses stays while it does.
    let used = app.delete("/purposes/fraud").await.problem(409, "conflict");
    assert!(used["detail"].as_str().unwrap().contains("`baa`, `dpa`"), "{used}");
    app.delete("/agreements/dpa").await.expect(204);
    app.get("/agreements/dpa").await.problem(404, "not_found");
    let rehearsed = app.put("/agreements/new?dry_run=true", spec(&app)).await.expect(200);
    assert_eq!(rehearsed["state"], "draft");
    for (action, count) in [("create", 2), ("update", 1), ("delete", 1)] {
        let events = app.events(&format!("agreement.{action}")).await;
        assert_eq!(events.len(), count, "{action}");
        assert_eq!(events[0]["object"]["kind"], "agreement");
    }
}

async fn what_no_agreement_may_be_is_refused(app: TestApp) {
    parties(&app).await;
    let late = text(app.now() + TimeDelta::days(400));
    for (change, field) in [
        (json!({"recipient": "nobody"}), "recipient"),
        (json!({"purposes": ["fraud", "nothing"]}), "purposes[1]"),
        (json!({"classes": ["PHX"]}), "classes[0]"),
        (json!({"valid_until": null}), "valid_until"),
        (json!({"review_at": text(app.now())}), "review_at"),
        (json!({"valid_until": null, "review_at": late}), "review_at"),
        (json!({"valid_until": "2020-01-01T00:00:00Z"}), "valid_until"),
        (json!({"supersedes": "nothing"}), "supersedes"),
        (json!({"supersedes": "new"}), "supersedes"),
    ] {
        let body = with(spec(&app), change.clone());
        let problem = app.put("/agreements/new", body).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [field], "{change}");
    }
    app.put("/recipients/rival", json!({})).await.expect(201);
    let theirs = with(spec(&app), json!({"recipient": "rival", "supersedes": "baa"}));
    let problem = app.put("/agreements/new", theirs).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["supersedes"]);
    for change in [json!({"recipient": "rival"}), json!({"supersedes": "baa"})] {
        let problem = app.patch("/agreements/baa", change).await.problem(422, "invalid_input");
        assert!(problem.to_string().contains("never changes"), "{problem}");
    }
    app.put("/agreements/next", with(spec(&app), json!({"supersedes": "BAA"}))).await.expect(201);
    let twice = with(spec(&app), json!({"supersedes": "baa"}));
    assert_eq!(fields(&app.put("/agreements/new", twice).await.problem(422, "invalid_input")), ["supersedes"]);
    let problem = app.delete("/agreements/baa").await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("superseded"), "{problem}");
}

async fn an_agreement_goes_through_its_states_and_no_others(app: TestApp) {
    parties(&app).await;
    let state = async || app.get("/agreements/baa").await.expect(200)["state"].as_str().unwrap().to_owned();
    for (to, status, then) in [
        ("suspend", 409, "draft"),
        ("resume", 409, "draft"),
        ("submit", 200, "in_review"),
        ("submit", 409, "in_review"),
        ("activate", 200, "active"),
        ("activate", 409, "active"),
        ("resume", 409, "active"),
        ("suspend", 200, "suspended"),
        ("suspend", 409, "suspended"),
        ("activate", 409, "suspended"),
        ("resume", 200, "active"),
    ] {
        let answer = step(&app, "baa", to).await;
        assert_eq!((answer.status.as_u16(), state().await.as_str()), (status, then), "{to}: {}", answer.text);
    }
    app.post("/agreements/baa/suspend", json!({})).await.problem(422, "invalid_input");
    app.pass(75 * 86_400);
    assert_eq!(state().await, "expiring");
    app.patch("/agreements/baa", json!({"notice_days": 5})).await.expect(200);
    assert_eq!(state().await, "active");
    app.pass(30 * 86_400);
    assert_eq!(state().await, "expired");
    for to in ["suspend", "resume", "activate"] {
        step(&app, "baa", to).await.problem(409, "conflict");
    }
    assert_eq!(step(&app, "baa", "terminate").await.expect(200)["state"], "terminated");
    assert_eq!(step(&app, "baa", "terminate").await.expect(200)["state"], "terminated");
    step(&app, "baa", "resume").await.problem(409, "conflict");
    let events = app.events("agreement.terminate").await;
    assert_eq!(events.len(), 1, "terminating again changes nothing");
    let event = &events[0];
    assert_eq!((&event["recipient"], &event["agreement"]), (&json!("acme"), &json!("baa")));
    assert_eq!((&event["effect"], &event["change"]["after"]["state"]), (&json!("tightens"), &json!("terminated")));
    step(&app, "nothing", "activate").await.problem(404, "not_found");
}

async fn only_compliance_moves_agreements(app: TestApp) {
    parties(&app).await;
    let (officer, owner) = (app.operator("ann", "compliance").await, app.operator("bob", "owner").await);
    let reason = json!({"reason": "signed"});
    let refused = app.admin_as(&owner, Method::POST, "/agreements/baa/activate", Some(&reason)).await;
    refused.problem(403, "forbidden");
    app.admin_as(&owner, Method::GET, "/agreements/baa", None).await.expect(200);
    app.admin_as(&officer, Method::POST, "/agreements/baa/activate", Some(&reason)).await.expect(200);
}

async fn a_grant_allows_only_while_every_agreement_that_it_names_is_active(app: TestApp) {
    parties(&app).await;
    app.put("/agreements/dpa-baa", with(spec(&app), json!({"type": "DPA"}))).await.expect(201);
    let acme = Acme::under(&app, &["baa", "dpa-baa"]).await;
    acme.is_refused("AGREEMENT_INACTIVE").await;
    assert_eq!(acme.state().await, "agreement_inactive");
    assert_eq!(app.shared(&acme.token, "/shares").await.expect(200)["items"], json!([]));
    step(&app, "baa", "activate").await.expect(200);
    acme.is_refused("AGREEMENT_INACTIVE").await;
    step(&app, "dpa-baa", "activate").await.expect(200);
    acme.reads().await;
    let event = &app.events("table.version").await[0];
    assert_eq!((&event["agreement"], &event["purpose"]), (&json!("baa, dpa-baa"), &json!("fraud")));
    for name in ["baa", "dpa-baa"] {
        step(&app, name, "suspend").await.expect(200);
        acme.is_refused("AGREEMENT_INACTIVE").await;
        step(&app, name, "resume").await.expect(200);
        acme.reads().await;
    }
    // One that has not begun is not in force yet.
    let later = json!({"valid_from": text(app.now() + TimeDelta::hours(1))});
    app.patch("/agreements/baa", later).await.expect(200);
    acme.is_refused("AGREEMENT_INACTIVE").await;
    app.pass(3600);
    acme.reads().await;
    step(&app, "baa", "terminate").await.expect(200);
    acme.is_refused("AGREEMENT_INACTIVE").await;
    let used = app.delete("/agreements/baa").await.problem(409, "conflict");
    assert!(used["detail"].as_str().unwrap().contains("1 grants"), "{used}");
}

async fn an_agreement_ends_at_its_second_and_so_does_a_missed_review(app: TestApp) {
    parties(&app).await;
    step(&app, "baa", "activate").await.expect(200);
    let acme = Acme::under(&app, &["baa"]).await;
    for field in ["valid_until", "review_at"] {
        let other = if field == "review_at" { "valid_until" } else { "review_at" };
        let end = json!({field: text(app.now() + TimeDelta::seconds(60)), other: null});
        app.patch("/agreements/baa", end).await.expect(200);
        app.pass(59);
        acme.reads().await;
        app.pass(1);
        acme.is_refused("AGREEMENT_ENDED").await;
        assert_eq!(acme.state().await, "agreement_ended");
    }
    // The review is made.
    let next = json!({"review_at": text(app.now() + TimeDelta::days(365))});
    app.patch("/agreements/baa", next).await.expect(200);
    acme.reads().await;
}

async fn a_purpose_is_allowed_by_agreement_and_table_or_nothing_is_read(app: TestApp) {
    parties(&app).await;
    app.put("/purposes/pricing", json!({"description": "d"})).await.expect(201);
    step(&app, "baa", "activate").await.expect(200);
    let acme = Acme::under(&app, &["baa"]).await;
    acme.reads().await;
    app.patch("/agreements/baa", json!({"purposes": ["pricing"]})).await.expect(200);
    acme.is_refused("PURPOSE_NOT_ALLOWED").await;
    assert_eq!(acme.state().await, "purpose_not_allowed");
    app.patch("/agreements/baa", json!({"purposes": ["Fraud", "pricing"]})).await.expect(200);
    acme.reads().await;
    // A table's purposes say nothing of the share.
    let table = "/tables/claims.claims";
    let problem = app.patch(table, json!({"allowed_purposes": ["nothing"]})).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["allowed_purposes[0]"]);
    app.patch(table, json!({"allowed_purposes": ["*"]})).await.problem(422, "invalid_input");
    for (allowed, reads) in
        [(json!(["pricing"]), false), (json!([]), false), (json!(["FRAUD"]), true), (json!(null), true)]
    {
        app.patch(table, json!({"allowed_purposes": allowed})).await.expect(200);
        assert_eq!(acme.version().await.status, if reads { 200 } else { 403 }, "{allowed}");
        assert_eq!(app.shared(&acme.token, "/shares/insurer").await.status, 200);
        if !reads {
            acme.is_refused("PURPOSE_NOT_ALLOWED").await;
        }
    }
    let effects: Vec<Value> = app.events("table.update").await.iter().map(|event| event["effect"].clone()).collect();
    assert_eq!(effects, ["loosens", "loosens", "tightens", "tightens"]);
    app.patch(table, json!({"allowed_purposes": ["pricing"]})).await.expect(200);
    let used = app.delete("/purposes/pricing").await.problem(409, "conflict");
    assert!(used["detail"].as_str().unwrap().contains("for the tables `claims.claims`"), "{used}");
    // A grant for no purpose reads nothing of it, either.
    app.put("/recipients/rival", json!({})).await.expect(201);
    app.post("/grants", json!({"share": "insurer", "recipient": "rival"})).await.expect(201);
    let token = app.post("/recipients/rival/tokens", json!({"reveal": true})).await.expect(201);
    let path = "/shares/insurer/schemas/claims/tables/claims/version";
    let answer = app.shared(token["token"].as_str().unwrap(), path).await;
    assert_eq!(answer.json()["errorCode"], "PURPOSE_NOT_ALLOWED", "{}", answer.text);
}

async fn a_successor_takes_over_without_a_gap_and_without_a_way_back(app: TestApp) {
    parties(&app).await;
    step(&app, "baa", "activate").await.expect(200);
    let acme = Acme::under(&app, &["baa"]).await;
    let next = json!({
        "supersedes": "baa", "valid_from": text(app.now() + TimeDelta::days(90)),
        "valid_until": text(app.now() + TimeDelta::days(300)),
    });
    app.put("/agreements/baa-next", with(spec(&app), next)).await.expect(201);
    app.pass(95 * 86_400);
    let acme = Acme { token: app.token_for_acme().await["token"].as_str().unwrap().to_owned(), ..acme };
    acme.reads().await;
    step(&app, "baa-next", "activate").await.expect(200);
    step(&app, "baa", "terminate").await.expect(200);
    acme.reads().await;
    app.pass(10 * 86_400);
    acme.reads().await;
    step(&app, "baa-next", "suspend").await.expect(200);
    acme.is_refused("AGREEMENT_INACTIVE").await;
    step(&app, "baa-next", "resume").await.expect(200);
    acme.reads().await;
}

async fn what_was_closed_is_not_opened_again(app: TestApp) {
    parties(&app).await;
    step(&app, "baa", "activate").await.expect(200);
    let acme = Acme::under(&app, &["baa"]).await;
    app.put("/agreements/next", with(spec(&app), json!({"supersedes": "baa"}))).await.expect(201);
    step(&app, "next", "activate").await.expect(200);
    acme.reads().await;
    // The one before would decide again.
    let later = json!({"valid_from": text(app.now() + TimeDelta::days(50))});
    let problem = app.patch("/agreements/next", later.clone()).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["valid_from"]);
    step(&app, "next", "suspend").await.expect(200);
    app.patch("/agreements/next", later).await.problem(422, "invalid_input");
    step(&app, "next", "terminate").await.expect(200);
    acme.is_refused("AGREEMENT_INACTIVE").await;
    let problem = app.delete("/agreements/next").await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("taken the place"), "{problem}");
    for change in [json!({"purposes": []}), json!({"valid_until": text(app.now() + TimeDelta::days(500))})] {
        let problem = app.patch("/agreements/next", change).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["state"]);
    }
    app.patch("/agreements/next", json!({"notice_days": 5})).await.expect(200);
    let problem = app.put("/agreements/third", with(spec(&app), json!({"supersedes": "next"}))).await;
    assert_eq!(fields(&problem.problem(422, "invalid_input")), ["supersedes"]);
    // Nor by other words for the same contract.
    for reference in ["next", "NEXT", "clm://1"] {
        let grant = json!({
            "share": "insurer", "recipient": "acme", "purpose": "fraud", "replaces": acme.grant,
            "agreement": {"ref": reference},
        });
        let problem = app.post("/grants", grant).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["agreement.ref"], "{reference}");
    }
    acme.is_refused("AGREEMENT_INACTIVE").await;
}

async fn a_grant_by_a_successor_never_stands_on_the_one_before(app: TestApp) {
    parties(&app).await;
    step(&app, "baa", "activate").await.expect(200);
    app.put("/agreements/next", with(spec(&app), json!({"supersedes": "baa"}))).await.expect(201);
    let acme = Acme::under(&app, &["next"]).await;
    assert_eq!(acme.version().await.json()["errorCode"], "AGREEMENT_INACTIVE");
    let could_read = async || {
        let path = format!("/grants?at={}", text(app.now()));
        app.get(&path).await.expect(200)["items"].as_array().unwrap().len()
    };
    assert_eq!(could_read().await, 0, "the listing agrees");
    step(&app, "next", "activate").await.expect(200);
    acme.reads().await;
    app.pass(1);
    assert_eq!(could_read().await, 1);
}

async fn what_no_grant_may_stand_on_is_refused(app: TestApp) {
    parties(&app).await;
    app.put("/purposes/pricing", json!({"description": "d"})).await.expect(201);
    app.put("/recipients/rival", json!({})).await.expect(201);
    app.put("/agreements/theirs", with(spec(&app), json!({"recipient": "rival"}))).await.expect(201);
    app.put("/agreements/over", spec(&app)).await.expect(201);
    step(&app, "over", "terminate").await.expect(200);
    app.put("/agreements/next", with(spec(&app), json!({"supersedes": "baa"}))).await.expect(201);
    let grant = json!({"share": "insurer", "recipient": "acme", "purpose": "fraud"});
    for (change, field) in [
        (json!({"agreements": ["nothing"]}), "agreements[0]"),
        (json!({"agreements": ["baa", "theirs"]}), "agreements[1]"),
        (json!({"agreements": ["over"]}), "agreements[0]"),
        (json!({"agreements": ["baa", "next"]}), "agreements[1]"),
        (json!({"agreements": ["baa"], "purpose": "pricing"}), "purpose"),
        (json!({"agreements": ["baa"], "purpose": null}), "purpose"),
        (json!({"agreements": ["baa"], "agreement": {"ref": "x"}}), "agreements"),
    ] {
        let problem = app.post("/grants", with(grant.clone(), change.clone())).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [field], "{change}");
    }
    let names: Vec<String> = (0..21).map(|n| format!("a{n}")).collect();
    let problem = app.post("/grants", with(grant, json!({"agreements": names}))).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["agreements"]);
}

async fn the_old_form_of_a_grant_makes_an_agreement_that_decides(app: TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let end = text(app.now() + TimeDelta::days(100));
    let asked = json!({
        "share": "insurer", "recipient": "acme", "purpose": "free text",
        "agreement": {"ref": "DPA-7", "valid_until": end},
    });
    app.post("/grants?dry_run=true", asked.clone()).await.expect(200);
    app.get("/agreements/DPA-7").await.problem(404, "not_found");
    let grant = app.post("/grants", asked).await.expect(201);
    assert_eq!(grant["agreement"], json!({"ref": "DPA-7", "sha256": null, "valid_until": end}));
    assert_eq!((&grant["agreements"], &grant["state"]), (&json!(["DPA-7"]), &json!("active")));
    let made = app.get("/agreements/dpa-7").await.expect(200);
    assert_eq!(
        (&made["state"], &made["type"], &made["valid_until"]),
        (&json!("active"), &json!("custom"), &json!(end))
    );
    assert_eq!((&made["document"]["uri"], &made["purposes"]), (&json!("DPA-7"), &json!(["*"])));
    // The same words mean the same agreement; others another one.
    for (reference, names) in [("DPA-7", "DPA-7"), ("DPA/8", "agreement-")] {
        let share = reference.replace('/', "");
        app.put(&format!("/shares/{share}"), json!({})).await.expect(201);
        let agreement = json!({"ref": reference, "valid_until": end});
        let body = json!({"share": share, "recipient": "acme", "agreement": agreement});
        let grant = app.post("/grants", body).await.expect(201);
        assert!(grant["agreements"][0].as_str().unwrap().starts_with(names), "{grant}");
    }
    assert_eq!(app.events("agreement.create").await.len(), 2);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let version = async || app.shared(&token, "/shares/insurer/schemas/claims/tables/claims/version").await;
    assert_eq!(version().await.status, 200);
    step(&app, "DPA-7", "suspend").await.expect(200);
    assert_eq!(version().await.json()["errorCode"], "AGREEMENT_INACTIVE");
    step(&app, "DPA-7", "resume").await.expect(200);
    app.patch("/agreements/DPA-7", json!({"valid_until": text(app.now() + TimeDelta::days(1))})).await.expect(200);
    app.pass(86_400);
    assert_eq!(version().await.json()["errorCode"], "AGREEMENT_ENDED");
    let shown = app.get(&format!("/grants/{}", grant["id"].as_str().unwrap())).await.expect(200);
    assert_eq!((&shown["agreement"], &shown["state"]), (&grant["agreement"], &json!("agreement_ended")));
}

async fn who_could_read_knows_the_states_of_then(app: TestApp) {
    parties(&app).await;
    Acme::under(&app, &["baa"]).await;
    let mut moments = vec![(app.now(), 0)];
    for (to, allowed) in [("activate", 1), ("suspend", 0), ("resume", 1), ("terminate", 0)] {
        app.pass(60);
        step(&app, "baa", to).await.expect(200);
        moments.push((app.now(), allowed));
    }
    for (at, allowed) in moments {
        for at in [at, at + TimeDelta::seconds(59)] {
            let page = app.get(&format!("/grants?recipient=acme&at={}", text(at))).await.expect(200);
            assert_eq!(page["items"].as_array().unwrap().len(), allowed, "{at}");
        }
    }
    assert_eq!(app.get("/grants?recipient=acme").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

async fn the_end_of_an_agreement_says_how_many_urls_outlive_it(app: TestApp) {
    parties(&app).await;
    step(&app, "baa", "activate").await.expect(200);
    Acme::under(&app, &["baa"]).await;
    for to in ["suspend", "terminate"] {
        let stopped = step(&app, "baa", to).await.expect(200);
        assert_eq!(stopped["outstanding_urls"], 0);
        assert_eq!(stopped["effective_by"], stopped["state_since"]);
    }
}
