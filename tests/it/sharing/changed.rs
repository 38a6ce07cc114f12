//! Facts change after the decision and before its event is written: nothing is handed out on the old facts, whatever
//! changed.
//!
//! The storage holds the request that every answer makes in between, so each race runs in its one bad order.

use std::future::Future;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::Method;
use serde_json::{Value, json};

use weir::domain::access::decision::Reason;

use crate::support::{
    app::{Answer, TestApp},
    postgres::TestDatabase,
    s3::{BUCKET, S3Server},
};

use super::{Reader, fetch, reasons, steps, table_path, with_history};

/// A table in a bucket, shared with `acme`.
struct Stage {
    app: TestApp,
    server: S3Server,
    token: String,
    token_id: String,
    grant_id: String,
}

impl Stage {
    /// Creates one on each database.
    async fn each() -> Vec<Self> {
        let mut stages = Vec::new();
        for database in TestDatabase::each().await {
            let server = S3Server::start().await;
            let app = TestApp::with_bucket(database, &server);
            steps(&app, "steps");
            server.put_directory(&app.folder("steps"), "steps").await;
            let location = format!("s3://{BUCKET}/steps");
            app.put("/tables/t.steps", json!({"location": location})).await.expect(201);
            app.put("/shares/insurer", json!({})).await.expect(201);
            let mut object = with_history();
            object["source"] = json!({"table": "t.steps"});
            app.put("/shares/insurer/objects/s/steps", object).await.expect(201);
            let agreement = json!({"ref": "A-7", "valid_until": text(app.now() + TimeDelta::days(200))});
            app.put("/recipients/acme", json!({})).await.expect(201);
            let grant = json!({"share": "insurer", "recipient": "acme", "purpose": "fraud", "agreement": agreement});
            let grant_id = id(&app.post("/grants", grant).await.expect(201));
            let issued = app.token_for_acme().await;
            let token = issued["token"].as_str().unwrap().to_owned();
            stages.push(Self { app, server, token, token_id: id(&issued), grant_id });
        }
        stages
    }

    fn reader(&self) -> Reader<'_> {
        Reader { app: &self.app, token: self.token.clone() }
    }

    async fn query(&self) -> Answer {
        self.reader().query("steps", json!({})).await
    }

    /// Sends `ask` while `change` is made: after the decision, before the event.
    async fn during(&self, ask: impl Future<Output = Answer>, change: impl Future<Output = ()>) -> Answer {
        self.server.hold();
        let changed = async {
            self.server.is_holding().await;
            change.await;
            self.server.release();
        };
        tokio::join!(ask, changed).0
    }

    /// Sends an operator's request that must succeed.
    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.app.post(path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        answer.json()
    }

    async fn patch_recipient(&self, body: Value) {
        self.app.patch("/recipients/acme", body).await.expect(200);
    }

    /// Replaces the grant by one with another purpose.
    async fn replace_grant(&self) -> String {
        let grant = json!({"share": "insurer", "recipient": "acme", "purpose": "billing", "replaces": self.grant_id});
        id(&self.post("/grants", grant).await)
    }

    /// Changes how the table is shared, under the audit chain's lock like an operator's change. (The admin API would
    /// first ask the storage, which is held.)
    async fn hide_history(&self) {
        let db = &self.app.service.core.db;
        let share = db.find_share("insurer").await.unwrap().unwrap();
        let (object, _) = db.find_object(share.id, "s", "steps").await.unwrap().unwrap();
        let mut tx = db.begin().await.unwrap();
        tx.lock_audit_head().await.unwrap();
        let object = weir::domain::catalog::share::SharedObject {
            spec: weir::domain::catalog::share::ObjectSpec { history: false, cdf: false, ..object.spec },
            ..object
        };
        tx.update_object(object).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn newest(&self, action: &str) -> Value {
        self.app.events(action).await.remove(0)
    }

    /// Checks that the newest event of `action` is a refusal for `reason` that discloses nothing.
    async fn is_refused(&self, action: &str, reason: &str) {
        let event = self.newest(action).await;
        assert_eq!((&event["decision"], &event["reason"]), (&json!("deny"), &json!(reason)), "{event}");
        for disclosed in ["files", "rows", "bytes", "url_expires_at"] {
            assert!(event.get(disclosed).is_none(), "{event}");
        }
    }
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

/// Checks an answer that tells the client to ask again, which connectors do by themselves.
#[track_caller]
fn is_asked_again(answer: &Answer) {
    reasons::is_told(answer, Reason::AccessChanged);
    assert!(!answer.text.contains("/files/") && !answer.text.contains("X-Amz-Signature"), "{}", answer.text);
}

#[tokio::test]
async fn the_end_of_access_says_how_many_urls_outlive_it_and_until_when() {
    for stage in Stage::each().await {
        let app = &stage.app;
        let (token, acme) = (format!("/recipients/acme/tokens/{}", stage.token_id), "/recipients/acme");
        let files = stage.query().await.of_kind("file");
        let until = |files: &[Value]| {
            let ends = files.iter().map(|file| file["expirationTimestamp"].as_i64().unwrap()).max().unwrap();
            text(DateTime::from_timestamp_millis(ends).unwrap())
        };
        let first = until(&files);
        app.pass(600);
        let changes = stage.reader().ask("steps", "/changes?startingVersion=1", "").await;
        let (issued, last) = (files.len() + changes.kinds().len() - 2, changes.of_kind("add"));
        let last = until(&last);
        assert!(first < last);
        for (path, body) in [
            (format!("{acme}/suspend"), json!({"reason": "a test"})),
            ("/freeze".to_owned(), json!({"reason": "a test"})),
            (format!("{token}/revoke"), json!({})),
            (format!("/grants/{}/revoke", stage.grant_id), json!({})),
            (format!("{acme}/offboard"), json!({"reason": "a test"})),
        ] {
            let ended = stage.post(&path, body).await;
            let said = (&ended["effective_by"], &ended["outstanding_urls"]);
            assert_eq!(said, (&json!(last), &json!(issued)), "{path}");
        }
        // When the first URLs expire, the others are left, and then none.
        app.pass(3_000);
        let again = stage.post(&format!("/grants/{}/revoke", stage.grant_id), json!({})).await;
        assert_eq!((&again["effective_by"], &again["outstanding_urls"]), (&json!(last), &json!(issued - files.len())));
        app.pass(600);
        for path in ["/freeze".to_owned(), format!("{acme}/offboard"), format!("{token}/revoke")] {
            let ended = stage.post(&path, json!({"reason": "a test"})).await;
            let at = ["revoked_at", "frozen_at", "updated_at"].into_iter().find_map(|at| ended.get(at));
            assert_eq!((Some(&ended["effective_by"]), &ended["outstanding_urls"]), (at, &json!(0)), "{path}");
        }
    }
}

#[tokio::test]
async fn a_grant_that_was_replaced_meanwhile_allows_nothing_and_its_successor_does() {
    for stage in Stage::each().await {
        let answer = stage.during(stage.query(), async { drop(stage.replace_grant().await) }).await;
        is_asked_again(&answer);
        stage.is_refused("table.query", "ACCESS_CHANGED").await;
        assert_eq!(stage.newest("table.query").await["grant_id"], stage.grant_id.as_str(), "what it would have been");
        assert_eq!(stage.query().await.version(), 3);
        let event = stage.newest("table.query").await;
        assert_eq!((&event["decision"], &event["purpose"]), (&json!("allow"), &json!("billing")));
    }
}

#[tokio::test]
async fn every_kind_of_answer_is_decided_on_again() {
    for stage in Stage::each().await {
        let reader = stage.reader();
        let query = table_path("steps", "/query");
        for (at, (method, path, body, action)) in [
            (Method::GET, table_path("steps", "/version"), "", "table.version"),
            (Method::HEAD, table_path("steps", ""), "", "table.version"),
            (Method::GET, table_path("steps", "/metadata"), "", "table.metadata"),
            (Method::POST, query.clone(), "{}", "table.query"),
            (Method::POST, query.clone(), "{\"version\":1}", "table.query"),
            (Method::POST, query, "{\"startingVersion\":1}", "table.query"),
            (Method::GET, table_path("steps", "/changes?startingVersion=1"), "", "table.changes"),
        ]
        .into_iter()
        .enumerate()
        {
            let note = json!({"description": format!("changed {at} times")});
            let ask = reader.send(method.clone(), &path, &[], body);
            let answer = stage.during(ask, stage.patch_recipient(note)).await;
            assert_eq!(answer.status, 429, "{method} {path}: {}", answer.text);
            stage.is_refused(action, "ACCESS_CHANGED").await;
            assert_eq!(reader.send(method, &path, &[], body).await.status, 200, "{path}");
            assert_eq!(stage.newest(action).await["decision"], "allow");
        }
    }
}

#[tokio::test]
async fn a_recipient_that_was_bound_to_networks_meanwhile_gets_no_presigned_url() {
    for stage in Stage::each().await {
        assert!(stage.query().await.text.contains("X-Amz-Signature"));
        let bound = json!({"allowed_cidrs": ["127.0.0.0/8"]});
        is_asked_again(&stage.during(stage.query(), stage.patch_recipient(bound)).await);
        stage.is_refused("table.query", "ACCESS_CHANGED").await;
        let answer = stage.query().await;
        assert!(answer.text.contains("/files/") && !answer.text.contains("X-Amz-Signature"), "{}", answer.text);
        assert_eq!(stage.newest("table.query").await["delivery"], "proxied");
    }
}

#[tokio::test]
async fn an_object_that_was_narrowed_or_removed_meanwhile_shows_nothing_of_what_it_was() {
    for stage in Stage::each().await {
        let reader = stage.reader();
        let past = json!({"version": 1});
        let answer = stage.during(reader.query("steps", past.clone()), stage.hide_history()).await;
        is_asked_again(&answer);
        stage.is_refused("table.query", "ACCESS_CHANGED").await;
        reader.query("steps", past).await.refused_parameter("history sharing is not enabled");

        let remove = async { assert_eq!(stage.app.delete("/shares/insurer/objects/s/steps").await.status, 204) };
        is_asked_again(&stage.during(stage.query(), remove).await);
        stage.is_refused("table.query", "ACCESS_CHANGED").await;
        stage.query().await.refusal(404, "RESOURCE_DOES_NOT_EXIST");
    }
}

#[tokio::test]
async fn a_token_that_was_shortened_meanwhile_signs_nothing_beyond_its_end() {
    for stage in Stage::each().await {
        let rotate = format!("/recipients/acme/tokens/{}/rotate", stage.token_id);
        let rotated = async {
            let overlap = json!({"existing_token_expire_in_seconds": 1800, "reveal": true});
            stage.post(&rotate, overlap).await;
        };
        is_asked_again(&stage.during(stage.query(), rotated).await);
        stage.is_refused("table.query", "ACCESS_CHANGED").await;
        let answer = stage.query().await;
        let ends = answer.of_kind("file")[0]["expirationTimestamp"].as_i64().unwrap();
        assert_eq!(ends, (stage.app.now() + TimeDelta::seconds(1800)).timestamp_millis());
    }
}

#[tokio::test]
async fn what_ended_access_meanwhile_is_the_reason() {
    let reason = || json!({"reason": "a test"});
    for (end, status, code, why) in [
        ("token", 401, "UNAUTHENTICATED", "TOKEN_REVOKED"),
        ("grant", 403, "PERMISSION_DENIED", "GRANT_REVOKED"),
        ("share", 403, "PERMISSION_DENIED", "GRANT_REVOKED"),
        ("suspend", 403, "PERMISSION_DENIED", "RECIPIENT_SUSPENDED"),
        ("freeze", 403, "PERMISSION_DENIED", "FROZEN"),
        ("offboard", 401, "UNAUTHENTICATED", "TOKEN_REVOKED"),
        ("networks", 403, "PERMISSION_DENIED", "ADDRESS_NOT_ALLOWED"),
        ("agreement suspended", 403, "AGREEMENT_INACTIVE", "AGREEMENT_INACTIVE"),
        ("agreement terminated", 403, "AGREEMENT_INACTIVE", "AGREEMENT_INACTIVE"),
        ("agreement ended", 403, "AGREEMENT_ENDED", "AGREEMENT_ENDED"),
        ("agreement narrowed", 403, "PURPOSE_NOT_ALLOWED", "PURPOSE_NOT_ALLOWED"),
        ("table narrowed", 403, "PURPOSE_NOT_ALLOWED", "PURPOSE_NOT_ALLOWED"),
    ] {
        for stage in Stage::each().await {
            let changed = async {
                let path = match end {
                    "token" => format!("/recipients/acme/tokens/{}/revoke", stage.token_id),
                    "grant" => format!("/grants/{}/revoke", stage.grant_id),
                    "share" => "/shares/insurer/revoke".to_owned(),
                    "freeze" => "/freeze".to_owned(),
                    "agreement suspended" => "/agreements/A-7/suspend".to_owned(),
                    "agreement terminated" => "/agreements/A-7/terminate".to_owned(),
                    "agreement ended" => {
                        let ended = json!({"valid_until": text(stage.app.now()), "valid_from": "2026-01-01T00:00:00Z"});
                        return drop(stage.app.patch("/agreements/A-7", ended).await.expect(200));
                    }
                    "agreement narrowed" => {
                        return drop(stage.app.patch("/agreements/A-7", json!({"purposes": []})).await.expect(200));
                    }
                    "table narrowed" => {
                        let narrowed = json!({"allowed_purposes": []});
                        return drop(stage.app.patch("/tables/t.steps", narrowed).await.expect(200));
                    }
                    "networks" => return stage.patch_recipient(json!({"allowed_cidrs": ["198.51.100.0/24"]})).await,
                    state => format!("/recipients/acme/{state}"),
                };
                stage.post(&path, reason()).await;
            };
            let answer = stage.during(stage.query(), changed).await;
            answer.refusal(status, code);
            assert!(!answer.text.contains("X-Amz-Signature"), "{}", answer.text);
            stage.is_refused("table.query", why).await;
            stage.query().await.refusal(status, code);
        }
    }
}

#[tokio::test]
async fn an_end_that_passes_meanwhile_counts() {
    for stage in Stage::each().await {
        let app = &stage.app;
        let short = json!({"reveal": true, "credential": "short", "expires_in_seconds": 60});
        let short = stage.post("/recipients/acme/tokens", short).await;
        let short = Reader { app, token: short["token"].as_str().unwrap().to_owned() };
        let answer = stage.during(short.query("steps", json!({})), async { app.pass(60) }).await;
        answer.refusal(401, "UNAUTHENTICATED");
        stage.is_refused("table.query", "TOKEN_EXPIRED").await;

        // The last minute of the agreement.
        app.pass(200 * 86_400 - 120);
        let issued = app.token_for_acme().await;
        let reader = Reader { app, token: issued["token"].as_str().unwrap().to_owned() };
        let answer = stage.during(reader.query("steps", json!({})), async { app.pass(60) }).await;
        answer.refusal(403, "AGREEMENT_ENDED");
        stage.is_refused("table.query", "AGREEMENT_ENDED").await;
    }
}

#[tokio::test]
async fn what_does_not_concern_an_answer_leaves_it_be() {
    for stage in Stage::each().await {
        let app = &stage.app;
        let elsewhere = async {
            // A renewal, whose window begins when this one ends.
            let renewal =
                json!({"share": "insurer", "recipient": "acme", "valid_from": text(app.now() + TimeDelta::days(365))});
            stage.post("/grants", renewal).await;
            app.patch("/shares/insurer", json!({"description": "other"})).await.expect(200);
            app.put("/recipients/other", json!({})).await.expect(201);
            stage.post("/grants", json!({"share": "insurer", "recipient": "other"})).await;
            stage.post("/recipients/other/suspend", json!({"reason": "a test"})).await;
            app.token_for_acme().await;
            app.pass(5);
        };
        let answer = stage.during(stage.query(), elsewhere).await;
        assert_eq!(answer.version(), 3);
        let event = stage.newest("table.query").await;
        assert_eq!((&event["decision"], &event["grant_id"]), (&json!("allow"), &json!(stage.grant_id)));
    }
}

#[tokio::test]
async fn a_renewal_that_takes_over_meanwhile_goes_on_allowing() {
    for stage in Stage::each().await {
        let app = &stage.app;
        let short = json!({
            "share": "insurer", "recipient": "acme", "replaces": stage.grant_id,
            "valid_until": text(app.now() + TimeDelta::hours(1)),
        });
        stage.post("/grants", short).await;
        let renewal =
            json!({"share": "insurer", "recipient": "acme", "valid_from": text(app.now() + TimeDelta::hours(1))});
        let renewal = id(&stage.post("/grants", renewal).await);
        app.pass(3_599);
        is_asked_again(&stage.during(stage.query(), async { app.pass(1) }).await);
        assert_eq!(stage.query().await.version(), 3);
        assert_eq!(stage.newest("table.query").await["grant_id"], renewal.as_str());
    }
}

#[tokio::test]
async fn a_file_that_comes_through_the_server_is_decided_on_again() {
    for stage in Stage::each().await {
        stage.patch_recipient(json!({"delivery": "proxied"})).await;
        let url = stage.query().await.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
        let get = || fetch(&stage.app, Method::GET, &url, &[]);
        let replaced = async { drop(stage.replace_grant().await) };
        is_asked_again(&stage.during(get(), replaced).await);
        stage.is_refused("file.read", "ACCESS_CHANGED").await;
        // The URL is valid under the grant's successor.
        assert_eq!(get().await.status, 200);
        assert_eq!(stage.newest("file.read").await["purpose"], "billing");
        // Later reads are decided before the file is opened, and are refused once the grant has ended.
        stage.post("/shares/insurer/revoke", json!({"reason": "a test"})).await;
        get().await.refusal(403, "PERMISSION_DENIED");
    }
}
