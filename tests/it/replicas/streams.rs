//! Answers that are still running when access ends, at the same server or at another.

use std::{
    fs::File,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use twox_hash::XxHash64;

use super::{cluster::Cluster, tightening::Tightening};
use crate::support::{
    mmdb::country_file,
    process::{Installation, Weir, until},
    tables::{HandWrittenLog, add},
};

/// Enough that no buffer between server and client holds the whole answer.
const MANY: usize = 60_000;
/// The size of the only file in bytes; it is sparse. Large enough that no reader finishes it before the cut.
const LARGE: u64 = 1 << 36;
/// The pause of a slow reader after each chunk, which keeps the answer running.
const REST: Duration = Duration::from_millis(5);
/// How soon an answer must stop after access has ended: the promised second, plus the time that a busy machine needs.
const SOON: Duration = Duration::from_secs(3);

/// Creates a table with many files, of which one is large.
fn prepare(installation: &Installation) {
    std::fs::remove_dir_all(installation.table()).unwrap();
    let mut log = HandWrittenLog::plain(&installation.table());
    let names: Vec<_> = (0..MANY).map(|file| format!("part-{file:08}.parquet")).collect();
    log.commit(&names.iter().map(|name| add(name, 100)).collect::<Vec<_>>());
    // The file that comes first on the first page is large.
    let first = names.iter().min_by_key(|name| XxHash64::oneshot(0, name.as_bytes())).unwrap();
    let file = File::create(installation.table().join(first)).unwrap();
    file.set_len(LARGE).unwrap();
}

/// Starts to read the table. Returns the answer and the URLs received so far.
async fn begin(weir: &Weir, token: &str, capabilities: &str) -> (Response, Vec<u8>) {
    let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/claims/query", weir.url);
    let request = weir.client.post(url).bearer_auth(token).header("delta-sharing-capabilities", capabilities);
    let mut answer = request.json(&json!({})).send().await.unwrap().error_for_status().unwrap();
    let first = answer.chunk().await.unwrap().unwrap();
    (answer, first.to_vec())
}

/// Reads the rest. Returns the whole text and whether it ended properly.
async fn rest((mut answer, mut text): (Response, Vec<u8>)) -> (String, bool) {
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => return (String::from_utf8(text).unwrap(), true),
            Err(_) => return (String::from_utf8_lossy(&text).into_owned(), false),
        }
        tokio::time::sleep(REST).await;
    }
}

/// Starts to download the large file through the server.
async fn download(weir: &Weir, token: &str) -> Response {
    let body = json!({"limitHint": 1, "maxFiles": 1});
    let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/claims/query", weir.url);
    let text = weir.client.post(url).bearer_auth(token).json(&body).send().await.unwrap().text().await.unwrap();
    let files = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let url = files.filter_map(|line| line["file"]["url"].as_str().map(str::to_owned)).next().unwrap();
    let mut answer = weir.client.get(url).send().await.unwrap().error_for_status().unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    answer
}

/// Reads until the file is cut off; returns false if it goes on for too long.
async fn is_cut_off(mut answer: Response) -> bool {
    let began = Instant::now();
    while began.elapsed() < SOON {
        match answer.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
    false
}

fn at(event: &Value) -> DateTime<Utc> {
    event["at"].as_str().unwrap().parse().unwrap()
}

fn urls(text: &str) -> usize {
    text.matches("\"url\"").count()
}

/// Streams from `answering` while access ends at `ending`.
async fn stops(answering: &Weir, ending: &Weir, tightening: Tightening, grant_id: &str) {
    let (id, token) = answering.issue(&format!("{tightening:?}")).await;
    let cut = begin(answering, &token, "responseformat=parquet").await;
    let told = begin(answering, &token, "responseformat=parquet;includeendstreamaction=true").await;
    let file = download(answering, &token).await;
    tightening.tighten(ending, &id, grant_id).await;
    let ((cut, is_whole), (told, is_told), is_cut_off) = tokio::join!(rest(cut), rest(told), is_cut_off(file));
    assert!(is_cut_off, "{tightening:?}: the download went on");
    assert!(!is_whole && urls(&cut) < MANY, "{tightening:?}: half a table must not look like a whole one");
    let last = told.lines().next_back().unwrap();
    assert!(is_told, "{last}");
    let end = &serde_json::from_str::<Value>(last).unwrap()["endStreamAction"];
    let message = end["errorMessage"].as_str().unwrap();
    assert!(message.contains("ask the data provider") || message.contains("send the request again"), "{last}");
    assert!(message.contains("(request "), "{last}");
    assert_eq!(end["httpStatusErrorCode"], tightening.status(), "{last}");
    assert!(urls(&told) < MANY);

    let events = ending.feed().await;
    let of = |action: &str| events.iter().filter(|event| event["action"] == action).collect::<Vec<_>>();
    let ended = of(tightening.action()).into_iter().next_back().unwrap();
    let mut aborted = of("table.query.aborted");
    aborted.retain(|event| event["token_id"] == id.as_str());
    assert_eq!(aborted.len(), 2, "{tightening:?}: {aborted:?}");
    for event in &aborted {
        let reason = (event["decision"].as_str(), event["reason"].as_str());
        assert_eq!(reason, (Some("deny"), Some(tightening.reason())), "{event}");
        let after = (at(event) - at(ended)).to_std().unwrap();
        assert!(after < SOON, "{tightening:?}: it went on signing for {after:?}");
    }
    let files: Vec<u64> = aborted.iter().map(|event| event["files"].as_u64().unwrap()).collect();
    assert!(
        files.contains(&u64::try_from(urls(&told)).unwrap()),
        "{files:?} were handed out, {} were received",
        urls(&told)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_answer_stops_signing_within_a_second_of_the_revocation() {
    let installation = Installation::sqlite();
    prepare(&installation);
    let weir = installation.start().await;
    installation.share(&weir).await;
    let grant_id = weir.grant_id().await;
    stops(&weir, &weir, Tightening::RevokeToken, &grant_id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_answer_stops_within_a_second_of_a_revocation_at_another_replica() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    prepare(&installation);
    let replicas = [installation.start().await, installation.start().await];
    installation.share(&replicas[0]).await;
    let grant_id = replicas[0].grant_id().await;
    let some = [Tightening::RevokeToken, Tightening::Freeze, Tightening::RemoveObject, Tightening::RevokeGrant];
    for (round, tightening) in some.into_iter().enumerate() {
        let (answering, ending) = (&replicas[round % 2], &replicas[(round + 1) % 2]);
        stops(answering, ending, tightening, &grant_id).await;
        tightening.loosen(answering, &grant_id).await;
    }
}

/// The number of requests in flight, without this one.
async fn in_flight(weir: &Weir) -> u64 {
    let text = weir.client.get(format!("{}/metrics", weir.url)).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("weir_http_requests_in_flight ")).unwrap();
    line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() - 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_are_in_flight_until_they_end_by_themselves() {
    let mut installation = Installation::sqlite();
    installation.configure("[sharing]\nstalled_seconds = 2");
    prepare(&installation);
    let weir = installation.start().await;
    installation.share(&weir).await;
    let (_, token) = weir.issue("default").await;
    let answer = begin(&weir, &token, "responseformat=parquet").await;
    let file = download(&weir, &token).await;
    assert_eq!(in_flight(&weir).await, 2);
    until("end of what nobody takes", async || (in_flight(&weir).await == 0).then_some(())).await;
    assert!(!rest(answer).await.1, "half a table must not look like a whole one");
    assert!(is_cut_off(file).await);
    let aborted = async || weir.feed().await.into_iter().find(|event| event["action"] == "table.query.aborted");
    until("event of the answer's end", aborted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_nobody_takes_is_given_up_when_its_access_ends() {
    let mut installation = Installation::sqlite();
    installation.configure("[sharing]\nstalled_seconds = 3600\nconcurrent_streams = 2");
    prepare(&installation);
    let weir = installation.start().await;
    installation.share(&weir).await;
    let (id, token) = weir.issue("stalled").await;
    let _answer = begin(&weir, &token, "responseformat=parquet").await;
    let _file = download(&weir, &token).await;
    let (_, other) = weir.issue("other").await;
    assert_eq!(weir.query(&other).await.status, Some(StatusCode::TOO_MANY_REQUESTS));
    let revoke = format!("/recipients/acme/tokens/{id}/revoke");
    weir.admin(Method::POST, &revoke, json!({"reason": "stalled"})).await;
    let answered = async || (weir.query(&other).await.status == Some(StatusCode::OK)).then_some(());
    until("room for another stream", answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_ends_when_its_agreement_is_suspended_or_ends_by_time() {
    for ends_by_time in [false, true] {
        let installation = Installation::sqlite();
        prepare(&installation);
        let weir = installation.start().await;
        installation.share(&weir).await;
        let replaced = weir.admin(Method::GET, "/grants", Value::Null).await["items"][0]["id"].clone();
        let (share, recipient, agreement) = ("insurer", "acme", json!({"ref": "A-7"}));
        let grant = json!({"share": share, "recipient": recipient, "replaces": replaced, "agreement": agreement});
        weir.admin(Method::POST, "/grants", grant).await;
        let (_, token) = weir.issue("default").await;
        let answer = begin(&weir, &token, "responseformat=parquet").await;
        let file = download(&weir, &token).await;
        if ends_by_time {
            let end = (chrono::Utc::now() + chrono::TimeDelta::seconds(1)).to_rfc3339();
            weir.admin(Method::PATCH, "/agreements/A-7", json!({"valid_until": end})).await;
        } else {
            weir.admin(Method::POST, "/agreements/A-7/suspend", json!({"reason": "a test"})).await;
        }
        let ((_, is_whole), is_cut_off) = tokio::join!(rest(answer), is_cut_off(file));
        assert!(is_cut_off && !is_whole, "half a table must not look like a whole one");
        // What ends earlier than it was to is cut off at once, before its time has come.
        let refused = async || (weir.query(&token).await.status == Some(StatusCode::FORBIDDEN)).then_some(());
        until("the agreement's end", refused).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_ends_when_its_address_turns_out_to_be_in_another_country() {
    let mut installation = Installation::sqlite();
    let countries = installation.folder.path().join("countries.mmdb");
    let locate = |country| std::fs::write(&countries, country_file(&[("127.0.0.0/8", country)])).unwrap();
    locate("DE");
    let file = countries.display();
    installation.configure(&format!("[geography]\ndatabase_file = \"{file}\"\nmode = \"strict\""));
    prepare(&installation);
    let weir = installation.start().await;
    installation.share(&weir).await;
    weir.admin(Method::PATCH, "/recipients/acme", json!({"country": "DE"})).await;
    let (_, token) = weir.issue("default").await;
    let answer = begin(&weir, &token, "responseformat=parquet").await;
    let file = download(&weir, &token).await;
    locate("US");
    let refused = async || (weir.query(&token).await.status == Some(StatusCode::FORBIDDEN)).then_some(());
    until("the new country file to count", refused).await;
    let ((_, is_whole), is_cut_off) = tokio::join!(rest(answer), is_cut_off(file));
    assert!(is_cut_off && !is_whole, "half a table must not look like a whole one");
    let aborted = async || weir.feed().await.into_iter().find(|event| event["action"] == "table.query.aborted");
    let aborted = until("event of the answer's end", aborted).await;
    assert_eq!((&aborted["reason"], &aborted["country"]), (&json!("GEO_DENIED"), &json!("US")), "{aborted}");
}

/// A killed server's downloads are known only from what it announced before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_delivered_unannounced_by_a_server_that_is_killed() {
    let installation = Installation::sqlite();
    let mut weir = installation.start().await;
    installation.share(&weir).await;
    let (_, token) = weir.issue("default").await;
    let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/claims/query", weir.url);
    let text = weir.client.post(url).bearer_auth(&token).json(&json!({})).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.contains("\"url\"")).unwrap();
    let file = serde_json::from_str::<Value>(line).unwrap()["file"]["url"].as_str().unwrap().to_owned();
    let mut delivered = 0;
    for range in ["bytes=0-9", "bytes=10-99", "bytes=0-99", "bytes=0-99"] {
        let part = weir.client.get(&file).header("range", range).send().await.unwrap().error_for_status().unwrap();
        delivered += part.bytes().await.unwrap().len() as u64;
    }
    weir.kill();
    weir.start_again().await;
    let events = weir.feed().await;
    let reads = events.iter().filter(|event| event["action"] == "file.read");
    let announced: u64 = reads.map(|event| event["bytes"].as_u64().unwrap()).sum();
    assert_eq!((delivered, announced), (300, 300));
}
