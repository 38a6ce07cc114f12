//! Who may read: tokens, grants, and identifiers that belong to others.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::json;

use super::{Reader, fetch, share, steps, table_path, with_history};
use crate::support::app::{Answer, TestApp, on_both_databases};

on_both_databases!(
    check_001_a_request_without_authorization_is_401_on_every_route,
    check_002_a_wrong_token_is_401_on_every_route,
    check_004_a_share_that_was_never_granted_reads_like_one_that_does_not_exist,
    check_005_expired_tokens_are_401_and_rotated_ones_overlap,
    check_006_no_recipient_sees_anothers_shares,
    every_route_refuses_whoever_lost_its_access,
    below_a_share_that_is_over_or_not_yet_nothing_can_be_told_apart,
    nobody_elses_identifiers_open_anything,
    a_token_for_other_shares_sees_nothing_of_this_one,
    recipients_outside_their_networks_are_told_their_address,
);

/// Every route of the protocol below a share, with a body if it takes one.
pub(super) const ROUTES: [(&str, &str, &str); 13] = [
    ("GET", "/shares/insurer", ""),
    ("GET", "/shares/insurer/schemas", ""),
    ("GET", "/shares/insurer/schemas/s/tables", ""),
    ("GET", "/shares/insurer/all-tables", ""),
    ("HEAD", "/shares/insurer/schemas/s/tables/steps", ""),
    ("GET", "/shares/insurer/schemas/s/tables/steps/version", ""),
    ("GET", "/shares/insurer/schemas/s/tables/steps/metadata", ""),
    ("POST", "/shares/insurer/schemas/s/tables/steps/query", "{}"),
    ("POST", "/shares/insurer/schemas/s/tables/steps/query", "{\"startingVersion\":0}"),
    ("GET", "/shares/insurer/schemas/s/tables/steps/changes?startingVersion=0", ""),
    ("POST", "/shares/insurer/schemas/s/tables/steps/queries/1", "{}"),
    ("POST", "/shares/insurer/schemas/s/tables/steps/temporary-table-credentials", ""),
    // A fault in a request is told only to callers that may send it.
    ("POST", "/shares/insurer/schemas/s/tables/steps/query", "{nonsense"),
];

async fn every_route(reader: &Reader<'_>) -> Vec<(String, Answer)> {
    let mut answers = Vec::new();
    for (method, path, body) in ROUTES {
        let answer = reader.send(method.parse().unwrap(), path, &[], body).await;
        answers.push((format!("{method} {path} {body}"), answer));
    }
    answers
}

#[track_caller]
fn expect_on_every_route(answers: &[(String, Answer)], status: u16, code: &str) {
    for (route, answer) in answers {
        assert_eq!(answer.status, status, "{route}: {}", answer.text);
        if !route.starts_with("HEAD") {
            answer.refusal(status, code);
        }
    }
}

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    let reader = Reader::acme(app).await;
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    reader
}

async fn check_001_a_request_without_authorization_is_401_on_every_route(app: TestApp) {
    acme_with_steps(&app).await;
    for authorization in [None, Some("Basic YWNtZTpzZWNyZXQ="), Some("Bearer"), Some("Bearer "), Some("\u{e9}")] {
        for (method, path, body) in
            ROUTES.into_iter().chain([("GET", "/shares", ""), ("GET", "/shares?maxResults=x", "")])
        {
            let mut request = Request::builder().method(method).uri(format!("/delta-sharing{path}"));
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization.as_bytes());
            }
            let answer = app.send(request.body(Body::from(body)).unwrap()).await;
            assert_eq!(answer.status, 401, "{authorization:?} {method} {path}: {}", answer.text);
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{method} {path}");
            if method != "HEAD" {
                answer.refusal(401, "UNAUTHENTICATED");
            }
        }
    }
}

async fn check_002_a_wrong_token_is_401_on_every_route(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    for token in ["wrong".to_owned(), format!("{}x", acme.token), acme.token.to_uppercase(), "x".repeat(5000)] {
        let stranger = Reader { app: &app, token };
        expect_on_every_route(&every_route(&stranger).await, 401, "UNAUTHENTICATED");
        check_003_the_401_is_the_protocols_json(&stranger.get("/shares").await);
    }
}

/// The reference server answers plain text here.
fn check_003_the_401_is_the_protocols_json(answer: &Answer) {
    answer.refused(401, "UNAUTHENTICATED", "ask the data provider");
}

async fn check_004_a_share_that_was_never_granted_reads_like_one_that_does_not_exist(app: TestApp) {
    acme_with_steps(&app).await;
    let rival = Reader::rival(&app).await;
    let told = |answer: &Answer, name: &str| {
        let text = answer.text.replace(name, "*").replace(answer.header("x-request-id"), "id");
        (answer.status, text, answer.header("content-type").to_owned())
    };
    for (method, path, body) in ROUTES {
        let there = rival.send(method.parse().unwrap(), path, &[], body).await;
        let path = path.replace("insurer", "nowhere");
        let nowhere = rival.send(method.parse().unwrap(), &path, &[], body).await;
        assert_eq!(there.status, 404, "{path}: {}", there.text);
        assert_eq!(told(&there, "insurer"), told(&nowhere, "nowhere"), "{method} {path}");
    }
}

async fn check_005_expired_tokens_are_401_and_rotated_ones_overlap(app: TestApp) {
    let old = acme_with_steps(&app).await;
    let id = app.get("/recipients/acme/tokens").await.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
    let rotation = json!({"existing_token_expire_in_seconds": 10, "reveal": true});
    let new = app.post(&format!("/recipients/acme/tokens/{id}/rotate"), rotation).await.expect(201);
    let new = Reader { app: &app, token: new["token"].as_str().unwrap().to_owned() };
    assert_eq!(old.query("steps", json!({})).await.version(), 3);
    assert_eq!(new.query("steps", json!({})).await.version(), 3);
    app.pass(10);
    expect_on_every_route(&every_route(&old).await, 401, "UNAUTHENTICATED");
    assert_eq!(new.query("steps", json!({})).await.version(), 3);
}

async fn check_006_no_recipient_sees_anothers_shares(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    let rival = Reader::rival(&app).await;
    let names = |answer: Answer| {
        let body = answer.expect(200);
        body["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(acme.get("/shares").await), ["insurer"]);
    assert_eq!(names(rival.get("/shares").await), ["other"]);
}

async fn every_route_refuses_whoever_lost_its_access(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    let mut allowed = every_route(&acme).await;
    allowed.truncate(10);
    for (route, answer) in &allowed {
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
    }

    app.post("/recipients/acme/suspend", json!({"reason": "late"})).await.expect(200);
    expect_on_every_route(&every_route(&acme).await, 403, "PERMISSION_DENIED");
    app.post("/recipients/acme/resume", json!({"reason": "paid"})).await.expect(200);
    assert_eq!(acme.get("/shares").await.status, 200);

    app.post("/freeze", json!({"reason": "incident"})).await.expect(200);
    expect_on_every_route(&every_route(&acme).await, 403, "PERMISSION_DENIED");
    app.post("/unfreeze", json!({"reason": "over"})).await.expect(200);

    app.post("/shares/insurer/recipients/acme/revoke", json!({"reason": "over"})).await.expect(200);
    expect_on_every_route(&every_route(&acme).await, 403, "PERMISSION_DENIED");
    // Below a share whose grant has ended, all answers are alike.
    acme.get("/shares/insurer/schemas/nothing/tables").await.refusal(403, "PERMISSION_DENIED");
    assert_eq!(acme.get("/shares").await.expect(200)["items"], json!([]));
}

/// Below a share that was never granted, is no longer or not yet granted, or is not granted to this token, every route
/// answers alike, whether a table exists or not.
async fn below_a_share_that_is_over_or_not_yet_nothing_can_be_told_apart(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    let id = app.get("/grants").await.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
    let text =
        |seconds| (app.now() + chrono::TimeDelta::seconds(seconds)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let replace = |replaced: &str, more: serde_json::Value| {
        let mut grant = json!({"share": "insurer", "recipient": "acme", "replaces": replaced});
        grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        grant
    };
    let rival = Reader::rival(&app).await;
    all_alike(&rival, 404).await;
    // Not granted to this token.
    app.put("/shares/more", json!({})).await.expect(201);
    let narrow = json!({"reveal": true, "credential": "narrow", "shares": ["more"]});
    let narrow = app.post("/recipients/acme/tokens", narrow).await.expect(201);
    all_alike(&Reader { app: &app, token: narrow["token"].as_str().unwrap().to_owned() }, 404).await;
    // Its agreement ends, then its window, and then its grant.
    let ends = json!({"agreement": {"ref": "A-7", "valid_until": text(5)}});
    let grant = app.post("/grants", replace(&id, ends)).await.expect(201);
    app.pass(5);
    all_alike(&acme, 403).await;
    app.post(&format!("/grants/{}/revoke", grant["id"].as_str().unwrap()), json!({})).await.expect(200);
    all_alike(&acme, 403).await;
    let short = json!({"share": "insurer", "recipient": "acme", "valid_until": text(5)});
    app.post("/grants", short).await.expect(201);
    assert_eq!(acme.get("/shares/insurer").await.status, 200);
    app.pass(5);
    all_alike(&acme, 403).await;
    // A window that has not begun counts as no grant.
    app.put("/recipients/later", json!({})).await.expect(201);
    let later = json!({"share": "insurer", "recipient": "later", "valid_from": text(60)});
    app.post("/grants", later).await.expect(201);
    let token = app.post("/recipients/later/tokens", json!({"reveal": true})).await.expect(201);
    let later = Reader { app: &app, token: token["token"].as_str().unwrap().to_owned() };
    all_alike(&later, 404).await;
    app.pass(60);
    assert_eq!(later.get("/shares/insurer").await.status, 200);
}

/// Asks on every route for existing and for missing names; apart from the names, the answers must be alike.
async fn all_alike(reader: &Reader<'_>, status: u16) {
    for (method, path, body) in ROUTES {
        let mut told = Vec::new();
        for (schema, table) in [("s", "steps"), ("s", "nothing"), ("nothing", "steps"), ("nothing", "nothing")] {
            let path =
                path.replace("/schemas/s/", &format!("/schemas/{schema}/")).replace("/steps", &format!("/{table}"));
            let answer = reader.send(method.parse().unwrap(), &path, &[], body).await;
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
            let mut headers: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
            headers.sort();
            let text = answer.text.replace(answer.header("x-request-id"), "id");
            told.push((text.replace(&format!("{schema}/{table}"), "*"), headers));
        }
        assert!(told.iter().all(|other| *other == told[0]), "{method} {path}: {told:?}");
    }
}

async fn nobody_elses_identifiers_open_anything(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    // The same tables in a share of the rival, so that only the recipient differs.
    let rival = Reader::rival(&app).await;
    app.post("/grants", json!({"share": "insurer", "recipient": "rival"})).await.expect(201);
    app.put("/shares/more", json!({})).await.expect(201);
    app.post("/grants", json!({"share": "more", "recipient": "acme"})).await.expect(201);

    let listing = acme.get("/shares?maxResults=1").await.expect(200);
    let token = listing["nextPageToken"].as_str().unwrap();
    rival.get(&format!("/shares?maxResults=1&pageToken={token}")).await.refused_parameter("invalid 'nextPageToken'");

    let page = acme.query("steps", json!({"maxFiles": 1, "includeRefreshToken": true})).await;
    let end = page.end();
    assert_eq!(rival.query("steps", json!({})).await.status, 200);
    let query = json!({"maxFiles": 1, "pageToken": end["nextPageToken"]});
    rival.query("steps", query).await.refused_parameter("Error decoding the page token");
    let query = json!({"refreshToken": end["refreshToken"]});
    rival.query("steps", query).await.refused_parameter("Error decoding refresh token");

    let changes = acme.ask("steps", "/changes?startingVersion=0&maxFiles=1", "").await.end();
    let token = changes["nextPageToken"].as_str().unwrap();
    let path = format!("/changes?startingVersion=0&maxFiles=1&pageToken={token}");
    rival.ask("steps", &path, "").await.refused_parameter("Error decoding the page token");
    // A token of one kind is not accepted as another kind.
    acme.query("steps", json!({"pageToken": end["refreshToken"]})).await.refused_parameter("Error decoding");
    acme.query("steps", json!({"refreshToken": end["nextPageToken"]})).await.refused_parameter("Error decoding");
    acme.query("steps", json!({"pageToken": token})).await.refused_parameter("mismatch");
    acme.get(&format!("/shares?pageToken={token}")).await.refused_parameter("invalid 'nextPageToken'");

    // A file's URL depends on the token it was issued to and ends with it.
    let url = page.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
    assert_eq!(acme.fetch(&url).await.status, 200);
    app.post("/recipients/rival/suspend", json!({"reason": "test"})).await.expect(200);
    assert_eq!(acme.fetch(&url).await.status, 200);
    app.post("/recipients/acme/suspend", json!({"reason": "test"})).await.expect(200);
    fetch(&app, Method::GET, &url, &[]).await.refusal(403, "PERMISSION_DENIED");
}

async fn a_token_for_other_shares_sees_nothing_of_this_one(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    app.put("/shares/more", json!({})).await.expect(201);
    app.post("/grants", json!({"share": "more", "recipient": "acme"})).await.expect(201);
    let issued = app.post("/recipients/acme/tokens", json!({"reveal": true, "shares": ["more"]})).await.expect(201);
    let narrow = Reader { app: &app, token: issued["token"].as_str().unwrap().to_owned() };
    assert_eq!(acme.get("/shares").await.expect(200)["items"].as_array().unwrap().len(), 2);
    assert_eq!(narrow.get("/shares").await.expect(200)["items"].as_array().unwrap().len(), 1);
    expect_on_every_route(&every_route(&narrow).await, 404, "RESOURCE_DOES_NOT_EXIST");
}

async fn recipients_outside_their_networks_are_told_their_address(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    app.patch("/recipients/acme", json!({"allowed_cidrs": ["192.0.2.0/24"]})).await.expect(200);
    expect_on_every_route(&every_route(&acme).await, 403, "PERMISSION_DENIED");
    acme.get(&table_path("steps", "/version")).await.refused(403, "PERMISSION_DENIED", "127.0.0.1");
}
