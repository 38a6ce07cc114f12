//! Shares, schemas and tables (Delta Sharing protocol, 1.1).

use http::Method;
use serde_json::{Value, json};

use super::{Reader, steps};
use crate::support::app::{Answer, TestApp, on_both_databases};

on_both_databases!(
    check_021_shares_are_listed_on_one_line_of_json,
    check_022_pages_of_one_give_every_share_once_and_in_order,
    check_024_a_page_of_nothing_names_the_next_one,
    check_025_impossible_page_sizes_are_refused,
    check_026_page_tokens_that_are_none_are_refused,
    check_027_a_listings_page_token_works_on_no_other,
    check_029_a_recipient_without_shares_gets_an_empty_list,
    an_empty_listing_says_that_every_grant_has_ended,
    a_name_that_is_not_there_comes_with_one_that_the_caller_may_list,
    check_030_a_share_is_answered_under_its_name,
    check_031_a_share_shows_what_its_provider_says_of_it,
    check_032_names_match_without_case_and_are_answered_as_created,
    check_033_unknown_shares_are_404,
    check_034_schemas_name_their_share,
    check_036_a_share_without_tables_is_no_error,
    check_037_tables_carry_their_ids,
    check_039_all_tables_pages_across_schemas,
    check_040_names_that_break_the_rules_are_refused_when_configured,
    check_041_percent_encoded_names_are_decoded,
);

fn names(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// Shares `b`, `A`, `c` and `insurer`, all granted to acme.
async fn four_shares(app: &TestApp) -> Reader<'_> {
    let reader = Reader::acme(app).await;
    for share in ["b", "A", "c"] {
        app.put(&format!("/shares/{share}"), json!({})).await.expect(201);
        app.post("/grants", json!({"share": share, "recipient": "acme"})).await.expect(201);
    }
    reader
}

/// The share `insurer` with the tables `s1.x`, `s1.y` and `S2.x`.
async fn two_schemas(app: &TestApp) -> Reader<'_> {
    let reader = Reader::acme(app).await;
    steps(app, "steps");
    app.put("/tables/t.steps", json!({"location": app.location("steps")})).await.expect(201);
    for object in ["s1/x", "s1/y", "S2/x"] {
        let source = json!({"source": {"table": "t.steps"}});
        app.put(&format!("/shares/insurer/objects/{object}"), source).await.expect(201);
    }
    reader
}

#[track_caller]
fn is_one_line_of_json(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(answer.text.lines().count(), 1, "{}", answer.text);
}

async fn check_021_shares_are_listed_on_one_line_of_json(app: TestApp) {
    let reader = four_shares(&app).await;
    let answer = reader.get("/shares").await;
    is_one_line_of_json(&answer);
    let body = answer.json();
    assert_eq!(names(&body), ["A", "b", "c", "insurer"]);
    assert!(body["items"].as_array().unwrap().iter().all(|share| share["id"].is_string()));
    check_023_the_last_page_names_no_next_one(&body);
}

fn check_023_the_last_page_names_no_next_one(body: &Value) {
    assert!(body.get("nextPageToken").is_none(), "{body}");
}

async fn check_022_pages_of_one_give_every_share_once_and_in_order(app: TestApp) {
    let reader = four_shares(&app).await;
    assert_eq!(walk(&reader, "/shares", 1).await, ["A", "b", "c", "insurer"]);
    assert_eq!(walk(&reader, "/shares", 2).await, ["A", "b", "c", "insurer"]);
    assert_eq!(walk(&reader, "/shares", 3).await, ["A", "b", "c", "insurer"]);
}

/// The names on all pages of `size`.
async fn walk(reader: &Reader<'_>, path: &str, size: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let page = reader.get(&format!("{path}?maxResults={size}{token}")).await.expect(200);
        assert!(names(&page).len() <= size, "{page}");
        found.extend(names(&page).into_iter().map(str::to_owned));
        match page.get("nextPageToken") {
            None => return found,
            Some(next) => token = format!("&pageToken={}", next.as_str().unwrap()),
        }
        assert!(found.len() < 100, "the listing never ends");
    }
}

async fn check_024_a_page_of_nothing_names_the_next_one(app: TestApp) {
    let reader = two_schemas(&app).await;
    for path in
        ["/shares", "/shares/insurer/schemas", "/shares/insurer/schemas/s1/tables", "/shares/insurer/all-tables"]
    {
        let page = reader.get(&format!("{path}?maxResults=0")).await.expect(200);
        assert!(names(&page).is_empty(), "{path}");
        let token = page["nextPageToken"].as_str().unwrap();
        let all = reader.get(&format!("{path}?pageToken={token}")).await.expect(200);
        assert_eq!(names(&all), names(&reader.get(path).await.expect(200)), "{path}");
    }
}

async fn check_025_impossible_page_sizes_are_refused(app: TestApp) {
    let reader = four_shares(&app).await;
    for size in ["-1", "501", "99999999999999999999", "string", "1.5", "0x1"] {
        reader.get(&format!("/shares?maxResults={size}")).await.refusal(400, "INVALID_PARAMETER_VALUE");
    }
    reader.get("/shares?maxResults=-1").await.refused_parameter("Acceptable values of 'maxResults' are 0 to 500");
    reader.get("/shares?maxResults=x").await.refused_parameter("expected a number");
    assert_eq!(reader.get("/shares?maxResults=500").await.status, 200);
}

async fn check_026_page_tokens_that_are_none_are_refused(app: TestApp) {
    let reader = four_shares(&app).await;
    for token in ["x", "%00", "AAAA", "....", "null", &"A".repeat(4000)] {
        reader.get(&format!("/shares?pageToken={token}")).await.refused_parameter("invalid 'nextPageToken'");
    }
    check_028_an_altered_page_token_is_400(&reader).await;
}

async fn check_028_an_altered_page_token_is_400(reader: &Reader<'_>) {
    let page = reader.get("/shares?maxResults=1").await.expect(200);
    let token = page["nextPageToken"].as_str().unwrap();
    for at in 0..token.len() {
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        let altered = format!("{}{other}{}", &token[..at], &token[at + 1..]);
        let answer = reader.get(&format!("/shares?pageToken={altered}")).await;
        answer.refused_parameter("invalid 'nextPageToken'");
    }
}

async fn check_027_a_listings_page_token_works_on_no_other(app: TestApp) {
    let reader = two_schemas(&app).await;
    app.put("/shares/more", json!({})).await.expect(201);
    app.post("/grants", json!({"share": "more", "recipient": "acme"})).await.expect(201);
    let paths =
        ["/shares", "/shares/insurer/schemas", "/shares/insurer/schemas/s1/tables", "/shares/insurer/all-tables"];
    for from in paths {
        let page = reader.get(&format!("{from}?maxResults=1")).await.expect(200);
        let token = page["nextPageToken"].as_str().unwrap();
        for to in paths.iter().chain(&["/shares/insurer/schemas/S2/tables", "/shares/more/schemas"]) {
            let answer = reader.get(&format!("{to}?pageToken={token}")).await;
            if from == *to {
                assert_eq!(answer.status, 200, "{from}");
            } else {
                answer.refused_parameter("invalid 'nextPageToken'");
            }
        }
    }
}

async fn check_029_a_recipient_without_shares_gets_an_empty_list(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let reader = Reader { app: &app, token };
    assert_eq!(reader.get("/shares").await.expect(200), json!({"items": []}));
    assert_eq!(reader.get("/shares?maxResults=0").await.expect(200), json!({"items": []}));
}

/// The notice of a listing of shares.
async fn notice(reader: &Reader<'_>, path: &str) -> Option<String> {
    let answer = reader.get(path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let notice = answer.headers.get("x-share-notice");
    notice.map(|notice| notice.to_str().unwrap().to_owned())
}

async fn an_empty_listing_says_that_every_grant_has_ended(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let reader = Reader { app: &app, token };
    assert_eq!(notice(&reader, "/shares").await, None, "nothing was ever granted");
    app.put("/shares/a", json!({})).await.expect(201);
    app.put("/shares/b", json!({})).await.expect(201);
    let later = json!({"share": "b", "recipient": "acme", "valid_from": app.now() + chrono::TimeDelta::days(2)});
    app.post("/grants", later).await.expect(201);
    assert_eq!(notice(&reader, "/shares").await, None, "what has not begun has not ended");
    let grant = app.post("/grants", json!({"share": "a", "recipient": "acme"})).await.expect(201);
    assert_eq!(notice(&reader, "/shares").await, None);
    app.post(&format!("/grants/{}/revoke", grant["id"].as_str().unwrap()), json!({})).await.expect(200);
    let said = notice(&reader, "/shares").await.expect("it is said why there is nothing");
    assert!(said.contains("access to every share has ended"), "{said}");
    assert_eq!(notice(&reader, "/shares?maxResults=0").await, Some(said));
    let event = &app.events("shares.list").await[0];
    assert_eq!((&event["decision"], &event["reason"]), (&json!("allow"), &json!("GRANTS_ENDED")));
    app.pass(3 * 86_400);
    assert_eq!(notice(&reader, "/shares").await, None, "another grant has begun");
}

async fn a_name_that_is_not_there_comes_with_one_that_the_caller_may_list(app: TestApp) {
    let reader = two_schemas(&app).await;
    // Closer names that were never granted.
    app.put("/shares/insure", json!({})).await.expect(201);
    app.put("/shares/insurerx", json!({})).await.expect(201);
    app.put("/tables/t.secret", json!({"location": app.location("steps")})).await.expect(201);
    let source = json!({"source": {"table": "t.secret"}});
    app.put("/shares/insurerx/objects/s1/ledger", source).await.expect(201);
    for (path, meant) in [
        ("/shares/insuer", "'insurer'"),
        ("/shares/insurery/schemas", "'insurer'"),
        ("/shares/insurerx/schemas", "'insurer'"),
        ("/shares/insurer/schemas/s11/tables", "'insurer/s1'"),
        ("/shares/insuer/schemas/s1/tables/x/version", "'insurer/s1/x'"),
        ("/shares/insurer/schemas/s1/tables/xx/version", "'insurer/s1/x'"),
    ] {
        let message = reader.get(path).await.refusal(404, "RESOURCE_DOES_NOT_EXIST");
        assert!(message.contains(&format!("id you mean {meant}?")), "{path}: {message}");
    }
    for path in ["/shares/payments", "/shares/insurer/schemas/s1/tables/ledge/version"] {
        let message = reader.get(path).await.refusal(404, "RESOURCE_DOES_NOT_EXIST");
        assert!(!message.contains("id you mean") && !message.contains("ledger"), "{path}: {message}");
    }
    // A caller that may read nothing learns no names.
    let nobody = Reader { app: &app, token: "x".repeat(64) };
    let answer = nobody.get("/shares/insuer").await;
    assert!(answer.status == 401 && !answer.text.contains("id you mean"), "{}", answer.text);
}

async fn check_030_a_share_is_answered_under_its_name(app: TestApp) {
    let reader = four_shares(&app).await;
    let answer = reader.get("/shares/insurer").await;
    is_one_line_of_json(&answer);
    assert_eq!(answer.json()["share"]["name"], "insurer");
    let listed = reader.get("/shares").await.expect(200);
    assert!(listed["items"].as_array().unwrap().contains(&answer.json()["share"]));
}

async fn check_031_a_share_shows_what_its_provider_says_of_it(app: TestApp) {
    let said = json!({"display_name": "Claims", "description": "All\u{2028}claims", "properties": {"k": "v"}});
    app.put("/shares/insurer", said).await.expect(201);
    let reader = Reader::acme(&app).await;
    let answer = reader.get("/shares/insurer").await;
    assert!(!answer.text.contains('\u{2028}'), "{}", answer.text);
    let share = &answer.json()["share"];
    assert_eq!((&share["displayName"], &share["comment"]), (&json!("Claims"), &json!("All\u{2028}claims")));
    assert_eq!(share["properties"]["k"], "v");
}

async fn check_032_names_match_without_case_and_are_answered_as_created(app: TestApp) {
    let reader = two_schemas(&app).await;
    assert_eq!(reader.get("/shares/INSURER").await.expect(200)["share"]["name"], "insurer");
    check_035_schemas_answer_the_shares_own_spelling(&reader).await;
    let tables = reader.get("/shares/Insurer/schemas/s2/tables").await.expect(200);
    assert_eq!(tables["items"][0]["schema"], "S2");
    assert_eq!(tables["items"][0]["share"], "insurer");
    let version = reader.get("/shares/INSURER/schemas/S1/tables/X/version").await;
    assert_eq!(version.version(), 3);
}

async fn check_035_schemas_answer_the_shares_own_spelling(reader: &Reader<'_>) {
    let schemas = reader.get("/shares/INSURER/schemas").await.expect(200);
    assert!(schemas["items"].as_array().unwrap().iter().all(|schema| schema["share"] == "insurer"), "{schemas}");
}

async fn check_033_unknown_shares_are_404(app: TestApp) {
    let reader = four_shares(&app).await;
    reader.get("/shares/none").await.refused(404, "RESOURCE_DOES_NOT_EXIST", "share 'none' not found");
    reader.get("/shares/none/schemas").await.refused(404, "RESOURCE_DOES_NOT_EXIST", "share 'none' not found");
    reader.get("/shares/none/all-tables").await.refusal(404, "RESOURCE_DOES_NOT_EXIST");
    reader.get("/shares/none/schemas/s/tables").await.refusal(404, "RESOURCE_DOES_NOT_EXIST");
}

async fn check_034_schemas_name_their_share(app: TestApp) {
    let reader = two_schemas(&app).await;
    let answer = reader.get("/shares/insurer/schemas").await;
    is_one_line_of_json(&answer);
    assert_eq!(answer.json()["items"], json!([{"name": "s1", "share": "insurer"}, {"name": "S2", "share": "insurer"}]));
    assert_eq!(walk(&reader, "/shares/insurer/schemas", 1).await, ["s1", "S2"]);
}

async fn check_036_a_share_without_tables_is_no_error(app: TestApp) {
    let reader = Reader::acme(&app).await;
    assert_eq!(reader.get("/shares/insurer/schemas").await.expect(200), json!({"items": []}));
    assert_eq!(reader.get("/shares/insurer/all-tables").await.expect(200), json!({"items": []}));
}

async fn check_037_tables_carry_their_ids(app: TestApp) {
    let reader = two_schemas(&app).await;
    let answer = reader.get("/shares/insurer/schemas/s1/tables").await;
    is_one_line_of_json(&answer);
    let body = answer.json();
    assert_eq!(names(&body), ["x", "y"]);
    let share = reader.get("/shares/insurer").await.expect(200)["share"]["id"].clone();
    let table = &body["items"][0];
    assert_eq!((&table["schema"], &table["share"], &table["shareId"]), (&json!("s1"), &json!("insurer"), &share));
    assert_ne!(table["id"], body["items"][1]["id"]);
    reader.get("/shares/insurer/schemas/no/tables").await.refused(
        404,
        "RESOURCE_DOES_NOT_EXIST",
        "schema 'insurer/no' not found",
    );
    // Only URLs are offered, which is what absent `accessModes` and `location` mean (check 38).
    assert!(table.get("accessModes").is_none_or(|modes| *modes == json!(["url"])) && table.get("location").is_none());
}

async fn check_039_all_tables_pages_across_schemas(app: TestApp) {
    let reader = two_schemas(&app).await;
    let all = reader.get("/shares/insurer/all-tables").await;
    is_one_line_of_json(&all);
    assert_eq!(names(&all.json()), ["x", "y", "x"]);
    for size in 1..=3 {
        assert_eq!(walk(&reader, "/shares/insurer/all-tables", size).await, ["x", "y", "x"], "{size}");
    }
}

async fn check_040_names_that_break_the_rules_are_refused_when_configured(app: TestApp) {
    let long = "x".repeat(256);
    for name in ["a%20b", "a%2Fb", "a%0Ab", "a%7Fb", &long] {
        app.put(&format!("/shares/{name}"), json!({})).await.problem(422, "invalid_input");
    }
    app.put("/shares/a.b", json!({})).await.expect(201);
    app.plain_log("claims");
    app.put("/tables/t.claims", json!({"location": app.location("claims")})).await.expect(201);
    for object in ["s.x/t", "s/t.x", "s%20x/t", "s/t%2Fx"] {
        let source = json!({"source": {"table": "t.claims"}});
        app.put(&format!("/shares/a.b/objects/{object}"), source).await.problem(422, "invalid_input");
    }
}

async fn check_041_percent_encoded_names_are_decoded(app: TestApp) {
    let reader = Reader::acme(&app).await;
    let name = "%C3%BCber%2B%26";
    app.put(&format!("/shares/{name}"), json!({})).await.expect(201);
    app.post("/grants", json!({"share": "über+&", "recipient": "acme"})).await.expect(201);
    for spelling in [name, "%C3%9CBER%2b%26", "u%CC%88ber%2B&"] {
        assert_eq!(reader.get(&format!("/shares/{spelling}")).await.expect(200)["share"]["name"], "über+&");
    }
    let answer = reader.send(Method::GET, "/shares/%FF", &[], "").await;
    answer.refusal(400, "INVALID_PARAMETER_VALUE");
}
