//! Azure signatures: against Azurite with an account key, and against a stand-in for the service with a delegation key.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::Query, http::StatusCode, response::IntoResponse};
use chrono::{SecondsFormat, TimeDelta, Utc};
use futures::future::join_all;
use object_store::path::Path;
use tokio::net::TcpListener;
use weir::storage::StorageError;

use super::{open, options, settings};
use crate::support::azurite::Azurite;

#[tokio::test]
async fn account_key_url_gives_the_bytes_until_it_is_altered_or_ends() {
    let Some(azurite) = Azurite::start().await else { return };
    azurite.put("t/x=A%2FA/p ö+1.parquet", b"0123456789").await;
    azurite.put("t/secret", b"not yours").await;
    let storages = open(settings("lake", "az://lake", azurite.options()));
    let table = storages.locate("abfss://lake@weirtest.dfs.core.windows.net/t").unwrap();
    let path = table.resolve("x=A%252FA/p%20%C3%B6+1.parquet").unwrap();
    assert_eq!(table.open(&path).await.unwrap().size(), 10);

    let url =
        table.sign(std::slice::from_ref(&path), Utc::now() + TimeDelta::hours(1), Utc::now()).await.unwrap().remove(0);
    let http = reqwest::Client::new();
    let all = http.get(&url).send().await.unwrap();
    let status = all.status();
    assert_eq!((status.as_u16(), all.bytes().await.unwrap().as_ref()), (200, &b"0123456789"[..]));
    let part = http.get(&url).header("range", "bytes=2-4").send().await.unwrap();
    assert_eq!(part.status().as_u16(), 206);

    let (address, query) = url.split_once('?').unwrap();
    let other_object = format!("{}/t/secret?{query}", address.split("/t/").next().unwrap());
    assert_eq!(reqwest::get(other_object).await.unwrap().status().as_u16(), 403);
    assert_eq!(reqwest::get(url.replace("sp=r", "sp=rd")).await.unwrap().status().as_u16(), 403);

    // Azure URLs contain their expiry, so an expired one can be made with an earlier time.
    let past = Utc::now() - TimeDelta::hours(2);
    let ended = table.sign(&[path], past + TimeDelta::hours(1), past).await.unwrap().remove(0);
    assert_eq!(reqwest::get(ended).await.unwrap().status().as_u16(), 403);
}

/// Stands in for the one Azure request that Azurite answers only over TLS: a user-delegation key, or a refusal.
async fn delegation_service(is_allowed: bool) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let answer = move |Query(query): Query<Vec<(String, String)>>, headers: axum::http::HeaderMap, body: String| async move {
        counter.fetch_add(1, Ordering::SeqCst);
        let is_asked_for = query.contains(&("comp".into(), "userdelegationkey".into()))
            && headers["authorization"] == "Bearer identity"
            && body.contains("<Expiry>");
        if !is_asked_for || !is_allowed {
            return StatusCode::FORBIDDEN.into_response();
        }
        let expiry = body.split_once("<Expiry>").unwrap().1.split('<').next().unwrap().to_owned();
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid>\
             <SignedStart>2026-01-01T00:00:00Z</SignedStart><SignedExpiry>{expiry}</SignedExpiry><SignedService>b\
             </SignedService><SignedVersion>2022-11-02</SignedVersion><Value>c2VjcmV0</Value></UserDelegationKey>"
        )
        .into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/acct", listener.local_addr().unwrap());
    let router = Router::new().route("/acct/", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (endpoint, asked)
}

fn by_identity(endpoint: &str) -> super::Storages {
    let options = options(&[
        ("azure_storage_endpoint", endpoint),
        ("azure_storage_token", "identity"),
        ("azure_allow_http", "true"),
    ]);
    open(settings("lake", "abfss://lake@acct.dfs.core.windows.net", options))
}

#[tokio::test]
async fn delegation_key_is_fetched_once_however_many_sign() {
    let (endpoint, asked) = delegation_service(true).await;
    let table = by_identity(&endpoint).locate("abfss://lake@acct.dfs.core.windows.net/t").unwrap();
    assert!(table.can_sign());
    let (now, path) = (Utc::now(), [Path::from("t/p")]);
    let ends_at = now + TimeDelta::hours(1);
    let signed = join_all((0..20).map(|_| table.sign(&path, ends_at, now))).await;
    let se = format!("se={}", ends_at.to_rfc3339_opts(SecondsFormat::Secs, true).replace(':', "%3A"));
    for urls in signed {
        let url = urls.unwrap().remove(0);
        assert!(url.contains(&se) && url.contains("skoid=o") && url.contains("sig="), "{url}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    // A URL that would outlive the key gets a new key.
    table.sign(&path, now + TimeDelta::days(3), now).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    table.sign(&path, ends_at, now).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn refused_delegation_key_names_the_missing_role() {
    let (endpoint, _) = delegation_service(false).await;
    let table = by_identity(&endpoint).locate("az://lake/t").unwrap();
    let refused = table.sign(&[Path::from("t/p")], Utc::now() + TimeDelta::hours(1), Utc::now()).await;
    assert!(matches!(&refused, Err(StorageError::Denied { path, .. }) if path.contains("Delegator")), "{refused:?}");
}

#[test]
fn sas_token_cannot_sign() {
    let options =
        options(&[("azure_storage_account_name", "acct"), ("azure_storage_sas_token", "sv=2022&sp=rl&sig=x")]);
    let table = open(settings("lake", "az://lake", options)).locate("az://lake/t").unwrap();
    assert!(!table.can_sign());
    assert_eq!(table.url(), "abfss://lake@acct.dfs.core.windows.net/t");
}
