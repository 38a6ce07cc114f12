//! Refresh tokens: fresh URLs of the same version (Delta Sharing protocol, 2.5).

use serde_json::{Value, json};

use super::{Reader, commit_time_text, share, steps, with_history};
use crate::support::{
    app::{TestApp, on_both_databases},
    tables::add,
};

on_both_databases!(
    check_103_a_refresh_token_keeps_its_version,
    check_104_refresh_tokens_are_for_the_newest_versions_first_page,
    check_105_refresh_tokens_that_are_not_this_tables_are_400,
    what_a_refresh_token_pins_ends_when_it_is_shared_no_more,
    a_renewed_token_ends_with_the_first,
    without_shared_history_no_token_reads_a_version_long_after_it_was_replaced,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

async fn token(reader: &Reader<'_>, table: &str) -> Value {
    reader.query(table, json!({"includeRefreshToken": true})).await.end()["refreshToken"].clone()
}

async fn check_103_a_refresh_token_keeps_its_version(app: TestApp) {
    let mut log = steps(&app, "steps");
    // A refresh needs no history, since it reads nothing older than the first answer.
    share(&app, "steps", json!({})).await;
    let reader = Reader::acme(&app).await;
    let first = reader.query("steps", json!({"includeRefreshToken": true})).await;
    let token = first.end()["refreshToken"].clone();
    log.commit(&[add("d.parquet", 9), super::removed("b.parquet", 9)]);
    assert_eq!(reader.query("steps", json!({})).await.version(), 4);
    app.pass(60);
    let again = reader.query("steps", json!({"refreshToken": token, "includeRefreshToken": true})).await;
    assert_eq!((again.version(), again.file_ids()), (3, first.file_ids()));
    assert_eq!(again.head(), first.head());
    assert!(again.end()["refreshToken"].is_string());
    assert!(
        again.of_kind("file")[0]["expirationTimestamp"].as_i64()
            > first.of_kind("file")[0]["expirationTimestamp"].as_i64()
    );
    // Without asking for another token, there is no last line.
    let plain = reader.query("steps", json!({"refreshToken": token})).await;
    assert_eq!(plain.kinds(), ["protocol", "metaData", "file", "file"]);
}

async fn what_a_refresh_token_pins_ends_when_it_is_shared_no_more(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    let token = token(&reader, "steps").await;
    log.commit(&[add("d.parquet", 9)]);
    app.patch("/shares/insurer/objects/s/steps", json!({"start_version": 4})).await.expect(200);
    let again = reader.query("steps", json!({"refreshToken": token, "includeRefreshToken": true})).await;
    again.refused(400, "INVALID_PARAMETER_VALUE", "You can only query table data since version 4");
}

async fn check_104_refresh_tokens_are_for_the_newest_versions_first_page(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let token = token(&reader, "steps").await;
    let time = commit_time_text(1, 0);
    for body in [
        json!({"includeRefreshToken": true, "version": 1}),
        json!({"includeRefreshToken": true, "timestamp": time}),
        json!({"includeRefreshToken": true, "startingVersion": 1}),
        json!({"includeRefreshToken": true, "pageToken": "x"}),
        json!({"refreshToken": token, "version": 1}),
        json!({"refreshToken": token, "timestamp": time}),
        json!({"refreshToken": token, "startingVersion": 1}),
        json!({"refreshToken": token, "pageToken": "x"}),
    ] {
        reader.query("steps", body).await.refusal(400, "INVALID_PARAMETER_VALUE");
    }
    let body = json!({"includeRefreshToken": false, "version": 1});
    assert_eq!(reader.query("steps", body).await.version(), 1);
}

async fn check_105_refresh_tokens_that_are_not_this_tables_are_400(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    steps(&app, "twin");
    share(&app, "twin", with_history()).await;
    let token = token(&reader, "steps").await;
    let text = token.as_str().unwrap();
    let refresh = async |table: &str, token: &str| reader.query(table, json!({"refreshToken": token})).await;
    refresh("twin", text).await.refused_parameter("does not match the table being queried");
    for junk in ["x", "AAAA", "=", "\u{2028}", &text[1..], &format!("{text}A"), &text.to_lowercase()] {
        refresh("steps", junk).await.refused_parameter("Error decoding refresh token");
    }
    app.pass(86_399);
    assert_eq!(refresh("steps", text).await.status, 200);
    app.pass(1);
    refresh("steps", text).await.refused_parameter("The refresh token has expired");
}

async fn a_renewed_token_ends_with_the_first(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let refresh = async |body: Value| reader.query("steps", body).await;
    let mut token = token(&reader, "steps").await;
    for _ in 0..23 {
        app.pass(3600);
        let again = refresh(json!({"refreshToken": token, "includeRefreshToken": true, "maxFiles": 1})).await.end();
        token = again["refreshToken"].clone();
    }
    app.pass(3599);
    let page = refresh(json!({"refreshToken": token, "maxFiles": 1})).await.end()["nextPageToken"].clone();
    app.pass(1);
    let ended = refresh(json!({"refreshToken": token, "includeRefreshToken": true})).await;
    ended.refused_parameter("The refresh token has expired");
    // Pages of a refreshed version end as if they were of the first query.
    app.pass(2 * 86_400 - 1);
    assert_eq!(refresh(json!({"pageToken": page, "maxFiles": 1})).await.status, 200);
    app.pass(1);
    refresh(json!({"pageToken": page, "maxFiles": 1})).await.refused_parameter("The page token has expired");
}

async fn without_shared_history_no_token_reads_a_version_long_after_it_was_replaced(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", json!({})).await;
    let reader = Reader::acme(&app).await;
    let ask = async |body: Value| reader.query("steps", body).await;
    let first = ask(json!({"includeRefreshToken": true, "maxFiles": 1})).await.end();
    let (refresh, page) = (first["refreshToken"].clone(), first["nextPageToken"].clone());
    let asks = [json!({"refreshToken": refresh}), json!({"pageToken": page, "maxFiles": 1})];
    app.pass(20_000);
    for body in &asks {
        assert_eq!(ask(body.clone()).await.version(), 3, "it is still the newest");
    }
    let version = log.commit(&[super::removed("b.parquet", 9)]);
    log.date(version, app.now().timestamp_millis().unsigned_abs());
    app.pass(14_399);
    for body in &asks {
        assert_eq!(ask(body.clone()).await.version(), 3);
    }
    app.pass(1);
    for body in &asks {
        ask(body.clone()).await.refused_parameter("was replaced too long ago");
    }
    app.patch("/shares/insurer/objects/s/steps", json!({"history": true})).await.expect(200);
    for body in &asks {
        assert_eq!(ask(body.clone()).await.version(), 3, "its history is shared");
    }
}
