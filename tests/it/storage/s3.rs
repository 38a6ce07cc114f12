//! Presigned S3 URLs and reads, against a server that checks signatures.

use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use weir::storage::{StorageError, TableLocation};

use super::{open, settings};
use crate::support::s3::S3Server;

const BYTES: &[u8] = b"0123456789";

async fn table() -> (S3Server, TableLocation) {
    let server = S3Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("t/x=A%2FA")).unwrap();
    std::fs::write(directory.path().join("t/x=A%2FA/p ö+1.parquet"), BYTES).unwrap();
    std::fs::write(directory.path().join("secret"), "not yours").unwrap();
    server.put_directory(directory.path(), "wh").await;
    let table = locate(&server);
    (server, table)
}

fn locate(server: &S3Server) -> TableLocation {
    open(settings("lake", "s3://lake/wh", server.options())).locate("s3a://lake/wh/t/").unwrap()
}

fn file(table: &TableLocation) -> Path {
    table.resolve("x=A%252FA/p%20%C3%B6+1.parquet").unwrap()
}

async fn sign(table: &TableLocation, ends_at: DateTime<Utc>) -> String {
    table.sign(&[file(table)], ends_at, Utc::now()).await.unwrap().remove(0)
}

async fn status(url: &str) -> u16 {
    reqwest::get(url).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn signed_url_gives_the_bytes_and_ranges_of_them() {
    let (_server, table) = table().await;
    assert!(table.can_sign() && table.url() == "s3://lake/wh/t" && table.storage_name() == "lake");
    assert_eq!(table.signing_until().await.unwrap(), None);
    let url = sign(&table, Utc::now() + TimeDelta::hours(1)).await;
    let all = reqwest::get(&url).await.unwrap();
    assert_eq!((all.status().as_u16(), all.bytes().await.unwrap().as_ref()), (200, BYTES));
    let part = reqwest::Client::new().get(&url).header("range", "bytes=2-4").send().await.unwrap();
    assert_eq!(part.status().as_u16(), 206);
    assert_eq!(part.bytes().await.unwrap().as_ref(), b"234");
}

#[tokio::test]
async fn altered_url_is_refused() {
    let (_server, table) = table().await;
    let url = sign(&table, Utc::now() + TimeDelta::hours(1)).await;
    assert_eq!(status(&url).await, 200);
    let (address, query) = url.split_once('?').unwrap();
    let other_object = format!("{}/wh/secret?{query}", address.split("/wh/").next().unwrap());
    assert_eq!(status(&other_object).await, 403);
    assert_eq!(status(&url.replace("X-Amz-Expires=3", "X-Amz-Expires=4")).await, 403);
    let signature_at = url.find("X-Amz-Signature=").unwrap() + "X-Amz-Signature=".len();
    let digit = if url.as_bytes()[signature_at] == b'0' { "1" } else { "0" };
    let mut forged = url.clone();
    forged.replace_range(signature_at..=signature_at, digit);
    assert_eq!(status(&forged).await, 403);
    assert_eq!(status(address).await, 403);
}

#[tokio::test]
async fn url_dies_when_it_says_and_never_later_than_asked() {
    let (_server, table) = table().await;
    let ends_at = Utc::now() + TimeDelta::milliseconds(2500);
    let url = sign(&table, ends_at).await;
    loop {
        let asked_at = Utc::now();
        match status(&url).await {
            200 => assert!(asked_at <= ends_at, "the URL outlived its end"),
            other => break assert_eq!(other, 403),
        }
    }

    let past = table.sign(&[file(&table)], Utc::now() - TimeDelta::seconds(1), Utc::now()).await;
    assert!(matches!(past, Err(StorageError::Expired { .. })), "{past:?}");
}

#[tokio::test]
async fn chunk_signed_later_ends_at_the_same_second() {
    let (_server, table) = table().await;
    let ends_at = (Utc::now() + TimeDelta::hours(1)).trunc_subsecs(0);
    let paths = vec![file(&table); 50];
    for url in table.sign(&paths, ends_at, Utc::now()).await.unwrap() {
        let url = url::Url::parse(&url).unwrap();
        let value = |name| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let date = chrono::NaiveDateTime::parse_from_str(&value("X-Amz-Date"), "%Y%m%dT%H%M%SZ").unwrap().and_utc();
        let end = date + TimeDelta::seconds(value("X-Amz-Expires").parse().unwrap());
        assert!(end <= ends_at && ends_at - end <= TimeDelta::seconds(1), "{end} for {ends_at}");
    }
}

#[tokio::test]
async fn object_is_read_in_ranges_with_its_size_and_etag() {
    let (_server, table) = table().await;
    let object = table.open(&file(&table)).await.unwrap();
    assert_eq!(object.size(), 10);
    assert!(object.etag().is_some_and(|etag| etag.starts_with('"')), "{:?}", object.etag());
    for (range, expected) in [(0..10, BYTES), (3..5, b"34"), (8..100, b"89"), (4..4, b""), (20..30, b"")] {
        let chunks: Vec<_> = object.read(range).await.unwrap().try_collect().await.unwrap();
        assert_eq!(chunks.concat(), expected);
    }
}

#[tokio::test]
async fn replaced_object_is_not_mixed_with_the_opened_one() {
    let (server, table) = table().await;
    let object = table.open(&file(&table)).await.unwrap();
    server.put("wh/t/x=A%2FA/p ö+1.parquet", &b"quite different"[..]).await;
    let read = object.read(0..10).await.map(drop);
    assert!(matches!(read, Err(StorageError::Changed { .. })), "{read:?}");
}

#[tokio::test]
async fn missing_refused_and_down_are_told_apart_and_the_storage_recovers() {
    let (mut server, table) = table().await;
    let missing = table.open(&Path::from("wh/t/nothing")).await.map(drop);
    assert!(matches!(missing, Err(StorageError::NotFound { .. })), "{missing:?}");

    let mut options = server.options();
    options.insert("aws_secret_access_key".into(), "wrong".into());
    let stranger = open(settings("lake", "s3://lake", options)).locate("s3://lake/wh/t").unwrap();
    let refused = stranger.open(&file(&table)).await.map(drop);
    assert!(matches!(refused, Err(StorageError::Denied { .. })), "{refused:?}");

    server.stop().await;
    let begun = Instant::now();
    let down = table.open(&file(&table)).await.map(drop);
    assert!(down.as_ref().is_err_and(StorageError::is_outage), "{down:?}");
    assert!(begun.elapsed() < Duration::from_secs(12));
    server.resume().await;
    assert_eq!(table.open(&file(&table)).await.unwrap().size(), 10);
}
