//! Files behind sealed URLs: byte ranges, and everything that ends the URLs.

use std::fs;

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::json;

use super::{COLUMNS, Reader, fetch, share, steps, with_history};
use crate::support::{
    app::{Answer, TestApp, on_both_databases},
    tables::{HandWrittenLog, add, metadata, protocol},
};

on_both_databases!(
    ranges_are_answered_as_http_says,
    head_tells_the_size_without_the_bytes,
    altered_urls_open_nothing,
    an_expired_url_is_403,
    a_url_dies_with_its_token,
    a_url_dies_with_its_grant,
    a_url_dies_with_its_recipient_and_with_a_freeze,
    a_url_dies_when_its_object_points_elsewhere,
    a_replaced_grant_keeps_urls_alive,
    a_file_that_is_gone_is_a_4xx_that_says_so,
    paths_that_lead_out_of_the_table_are_refused,
    links_are_refused_wherever_they_lead,
    an_entity_tag_is_each_recipients_own_and_says_nothing_of_the_file,
);

/// The content of the only file of the table that [`acme_with_url`] shares.
const TEXT: &str = "c.parquet";

async fn acme_with_url(app: &TestApp) -> (Reader<'_>, String) {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    let reader = Reader::acme(app).await;
    let url = url_of(&reader).await;
    (reader, url)
}

async fn url_of(reader: &Reader<'_>) -> String {
    let answer = reader.query("steps", json!({"startingVersion": 3})).await;
    answer.of_kind("add")[0]["url"].as_str().unwrap().to_owned()
}

async fn get(app: &TestApp, url: &str, headers: &[(&str, &str)]) -> Answer {
    fetch(app, Method::GET, url, headers).await
}

async fn ranges_are_answered_as_http_says(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    let whole = get(&app, &url, &[]).await;
    assert_eq!((whole.status.as_u16(), whole.text.as_str()), (200, TEXT));
    for (name, value) in [
        ("accept-ranges", "bytes"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-length", "9"),
    ] {
        assert_eq!(whole.header(name), value);
    }
    for (range, expected, content_range) in [
        ("bytes=0-0", "c", "bytes 0-0/9"),
        ("bytes=2-8", "parquet", "bytes 2-8/9"),
        ("bytes=2-", "parquet", "bytes 2-8/9"),
        ("bytes=-7", "parquet", "bytes 2-8/9"),
        ("bytes=2-99", "parquet", "bytes 2-8/9"),
    ] {
        let part = get(&app, &url, &[("range", range)]).await;
        assert_eq!((part.status.as_u16(), part.text.as_str()), (206, expected), "{range}");
        assert_eq!(part.header("content-range"), content_range);
        assert_eq!(part.header("content-length"), expected.len().to_string());
    }
    for range in ["bytes=9-", "bytes=99-100", "bytes=-0"] {
        let part = get(&app, &url, &[("range", range)]).await;
        part.refusal(416, "INVALID_PARAMETER_VALUE");
        assert_eq!(part.header("content-range"), "bytes */9");
    }
    for range in ["bytes=3-1", "rows=0-1", "bytes=0-1,3-4", "junk"] {
        let ignored = get(&app, &url, &[("range", range)]).await;
        assert_eq!((ignored.status.as_u16(), ignored.text.as_str()), (200, TEXT), "{range}");
    }
    let etag = whole.header("etag").to_owned();
    let part = get(&app, &url, &[("range", "bytes=0-0"), ("if-range", &etag)]).await;
    assert_eq!(part.status, 206);
    let part = get(&app, &url, &[("range", "bytes=0-0"), ("if-range", "\"another\"")]).await;
    assert_eq!(part.status, 200);
    // A file's bytes are never encoded.
    let plain = get(&app, &url, &[("accept-encoding", "gzip, zstd, br")]).await;
    assert_eq!((plain.header("content-encoding"), plain.text.as_str()), ("", TEXT));
}

async fn head_tells_the_size_without_the_bytes(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    let head = fetch(&app, Method::HEAD, &url, &[]).await;
    assert_eq!((head.status.as_u16(), head.text.as_str(), head.header("content-length")), (200, "", "9"));
    let head = fetch(&app, Method::HEAD, &url, &[("range", "bytes=0-3")]).await;
    assert_eq!((head.status.as_u16(), head.header("content-range")), (206, "bytes 0-3/9"));
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        fetch(&app, method, &url, &[]).await.refusal(405, "METHOD_NOT_ALLOWED");
    }
}

async fn altered_urls_open_nothing(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    let sealed = url.strip_prefix("http://weir.test/files/").unwrap().split('?').next().unwrap();
    for at in (0..sealed.len()).step_by(5) {
        let other = if &sealed[at..=at] == "A" { "B" } else { "A" };
        let altered = format!("http://weir.test/files/{}{other}{}", &sealed[..at], &sealed[at + 1..]);
        get(&app, &altered, &[]).await.refusal(404, "RESOURCE_DOES_NOT_EXIST");
    }
    for junk in ["x", "..", "%2e%2e%2fetc%2fpasswd", "%FF", "%00", &"A".repeat(8000), &sealed[..sealed.len() - 4]] {
        let answer = get(&app, &format!("http://weir.test/files/{junk}"), &[]).await;
        answer.refusal(404, "RESOURCE_DOES_NOT_EXIST");
    }
    // The query is there only for connectors.
    assert_eq!(get(&app, url.split('?').next().unwrap(), &[]).await.text, TEXT);
}

async fn an_expired_url_is_403(app: TestApp) {
    let (reader, url) = acme_with_url(&app).await;
    app.pass(86_399);
    assert_eq!(get(&app, &url, &[]).await.status, 200);
    app.pass(1);
    get(&app, &url, &[]).await.refused(403, "PERMISSION_DENIED", "query the table again");
    assert_eq!(get(&app, &url_of(&reader).await, &[]).await.status, 200);
}

async fn a_url_dies_with_its_token(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    let id = app.get("/recipients/acme/tokens").await.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
    app.post(&format!("/recipients/acme/tokens/{id}/revoke"), json!({"reason": "lost"})).await.expect(200);
    get(&app, &url, &[]).await.refusal(401, "UNAUTHENTICATED");
    get(&app, &url, &[("range", "bytes=0-1")]).await.refusal(401, "UNAUTHENTICATED");
}

async fn a_url_dies_with_its_grant(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    assert_eq!(get(&app, &url, &[]).await.status, 200);
    app.post("/shares/insurer/recipients/acme/revoke", json!({"reason": "over"})).await.expect(200);
    get(&app, &url, &[]).await.refusal(403, "PERMISSION_DENIED");
    assert_eq!(fetch(&app, Method::HEAD, &url, &[]).await.status, 403);
}

async fn a_url_dies_with_its_recipient_and_with_a_freeze(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    for (stop, go_on) in [("/recipients/acme/suspend", "/recipients/acme/resume"), ("/freeze", "/unfreeze")] {
        app.post(stop, json!({"reason": "test"})).await.expect(200);
        get(&app, &url, &[]).await.refusal(403, "PERMISSION_DENIED");
        app.post(go_on, json!({"reason": "test"})).await.expect(200);
        assert_eq!(get(&app, &url, &[]).await.status, 200);
    }
    app.post("/recipients/acme/offboard", json!({"reason": "test"})).await.expect(200);
    assert!(get(&app, &url, &[]).await.status.is_client_error());
}

async fn a_url_dies_when_its_object_points_elsewhere(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    steps(&app, "twin");
    app.put("/tables/t.twin", json!({"location": app.location("twin")})).await.expect(201);
    let elsewhere = json!({"source": {"table": "t.twin"}});
    // An object never changes what it hands out under its id: it is deleted, and a new one takes its name.
    app.patch("/shares/insurer/objects/s/steps", elsewhere.clone()).await.problem(422, "invalid_input");
    assert_eq!(get(&app, &url, &[]).await.status, 200);
    assert!(app.delete("/shares/insurer/objects/s/steps").await.status.is_success());
    assert!(get(&app, &url, &[]).await.status.is_client_error());
    app.put("/shares/insurer/objects/s/steps", elsewhere).await.expect(201);
    assert!(get(&app, &url, &[]).await.status.is_client_error());
}

async fn a_replaced_grant_keeps_urls_alive(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    let grant = app.get("/grants?share=insurer&recipient=acme").await.expect(200)["items"][0]["id"].clone();
    let replacement = json!({"share": "insurer", "recipient": "acme", "replaces": grant});
    app.post("/grants", replacement).await.expect(201);
    assert_eq!(get(&app, &url, &[]).await.status, 200);
}

async fn a_file_that_is_gone_is_a_4xx_that_says_so(app: TestApp) {
    let (_, url) = acme_with_url(&app).await;
    fs::remove_file(app.folder("steps").join(TEXT)).unwrap();
    get(&app, &url, &[]).await.refused(400, "RESOURCE_DOES_NOT_EXIST", "table files missing");
}

async fn paths_that_lead_out_of_the_table_are_refused(app: TestApp) {
    steps(&app, "steps");
    fs::write(app.folder("secret.parquet"), "secret").unwrap();
    let reader = Reader::acme(&app).await;
    let absolute = app.folder("secret.parquet");
    for (at, path) in [
        "../secret.parquet",
        "x/../../secret.parquet",
        "%2e%2e%2fsecret.parquet",
        "..%2Fsecret.parquet",
        "%2E%2E/secret.parquet",
        "./../secret.parquet",
        absolute.to_str().unwrap(),
        &app.location("secret.parquet"),
        "file:///etc/passwd",
        "s3://away/x.parquet",
        "//etc/passwd",
        "_delta_log/00000000000000000000.json",
        "%5Fdelta_log/00000000000000000000.json",
        "a%00.parquet",
        "..\\secret.parquet",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("hostile{at}");
        let mut log = HandWrittenLog::create(&app.folder(&name), protocol(1, 2), metadata("h", &COLUMNS, &[]));
        log.commit(&[add(path, 6)]);
        share(&app, &name, json!({"history": true, "start_version": 0})).await;
        for body in [json!({}), json!({"version": 1}), json!({"startingVersion": 1}), json!({"maxFiles": 1})] {
            let answer = reader.query(&name, body).await;
            assert_eq!(answer.status, 400, "{path}: {}", answer.text);
            assert!(!answer.text.contains("secret") && !answer.text.contains("passwd"), "{}", answer.text);
        }
    }
    // A path is decoded exactly once.
    let mut log = HandWrittenLog::create(&app.folder("twice"), protocol(1, 2), metadata("h", &COLUMNS, &[]));
    log.commit(&[add("%252e%252e%252fsecret.parquet", 6)]);
    share(&app, "twice", json!({})).await;
    let answer = reader.query("twice", json!({})).await;
    if answer.status == 200 {
        let opened = get(&app, answer.of_kind("file")[0]["url"].as_str().unwrap(), &[]).await;
        assert!(opened.status.is_client_error() && !opened.text.contains("secret"), "{}", opened.text);
    }
}

async fn links_are_refused_wherever_they_lead(app: TestApp) {
    let outside = tempfile::TempDir::new().unwrap();
    fs::write(outside.path().join("x.parquet"), "secret").unwrap();
    let reader = Reader::acme(&app).await;
    let mut log = HandWrittenLog::create(&app.folder("linked"), protocol(1, 2), metadata("h", &COLUMNS, &[]));
    let names = ["file.parquet", "folder/x.parquet", "table/b.parquet", "log/00000000000000000000.json", "commit"];
    log.commit(&names.map(|name| add(name, 6)));
    // Another table in the same storage, which is not shared.
    steps(&app, "secret");
    for (link, to) in [
        ("table", "../secret"),
        ("log", "../secret/_delta_log"),
        ("commit", "../secret/_delta_log/00000000000000000001.json"),
    ] {
        std::os::unix::fs::symlink(to, app.folder("linked").join(link)).unwrap();
    }
    std::os::unix::fs::symlink(outside.path().join("x.parquet"), app.folder("linked").join("file.parquet")).unwrap();
    std::os::unix::fs::symlink(outside.path(), app.folder("linked").join("folder")).unwrap();
    share(&app, "linked", json!({})).await;
    let files = reader.query("linked", json!({})).await.of_kind("file");
    assert_eq!(files.len(), names.len());
    for file in files {
        let opened = get(&app, file["url"].as_str().unwrap(), &[]).await;
        assert_eq!(opened.status, 400, "{}", opened.text);
        assert!(!opened.text.contains("secret"), "{}", opened.text);
    }
    // A URL needs no credentials and ignores those that are sent.
    let request = Request::get("/files/x").header(header::AUTHORIZATION, format!("Bearer {}", reader.token));
    app.send(request.body(Body::empty()).unwrap()).await.refusal(404, "RESOURCE_DOES_NOT_EXIST");
}

async fn an_entity_tag_is_each_recipients_own_and_says_nothing_of_the_file(app: TestApp) {
    use std::os::unix::fs::MetadataExt;
    let (acme, url) = acme_with_url(&app).await;
    let rival = Reader::rival(&app).await;
    app.post("/grants", json!({"share": "insurer", "recipient": "rival"})).await.expect(201);
    let tag = async |url: &str| get(&app, url, &[]).await.header("etag").to_owned();
    let (first, again, other) = (tag(&url).await, tag(&url_of(&acme).await).await, tag(&url_of(&rival).await).await);
    assert_eq!(first, again, "the same file under another URL");
    assert_ne!(first, other);
    let file = fs::metadata(app.folder("steps").join("c.parquet")).unwrap();
    for told in [file.ino(), file.mtime().unsigned_abs(), file.mtime_nsec().unsigned_abs()] {
        // A short number is found in a digest by chance.
        let told = format!("{told:x}");
        assert!(told.len() < 8 || !first.contains(&told), "{first}");
    }
    assert!(first.len() == 34 && first.starts_with('"') && first.ends_with('"'), "{first}");
}
