//! Answers that still run when access ends, at the server that answers or at another.

use std::{
    fs::File,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use reqwest::Response;
use serde_json::{Value, json};
use twox_hash::XxHash64;

use super::{cluster::Cluster, tightening::Tightening};
use crate::support::{
    process::{Installation, Weir},
    tables::{HandWrittenLog, add},
};

/// Enough that no buffer between server and client holds the whole answer.
const MANY: usize = 60_000;
/// The size of the one file that there is, in bytes; nothing of it is written. Enough that nobody has read it all when
/// it is cut off.
const LARGE: u64 = 1 << 36;
/// A slow reader's rest after each chunk, which keeps the answer running.
const REST: Duration = Duration::from_millis(5);
/// How soon an answer stops after access has ended: within the second that is promised, and what a busy machine takes
/// to notice.
const SOON: Duration = Duration::from_secs(3);

/// A large table, and a large file in it.
fn prepare(installation: &Installation) {
    std::fs::remove_dir_all(installation.table()).unwrap();
    let mut log = HandWrittenLog::plain(&installation.table());
    let names: Vec<_> = (0..MANY).map(|file| format!("part-{file:08}.parquet")).collect();
    log.commit(&names.iter().map(|name| add(name, 100)).collect::<Vec<_>>());
    // The one that the first page begins with is large.
    let first = names.iter().min_by_key(|name| XxHash64::oneshot(0, name.as_bytes())).unwrap();
    let file = File::create(installation.table().join(first)).unwrap();
    file.set_len(LARGE).unwrap();
}

/// Begins to read the table; the answer, and the URLs received so far.
async fn begin(weir: &Weir, token: &str, capabilities: &str) -> (Response, Vec<u8>) {
    let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/claims/query", weir.url);
    let request = weir.client.post(url).bearer_auth(token).header("delta-sharing-capabilities", capabilities);
    let mut answer = request.json(&json!({})).send().await.unwrap().error_for_status().unwrap();
    let first = answer.chunk().await.unwrap().unwrap();
    (answer, first.to_vec())
}

/// Reads the rest; the whole text, and whether it came to a proper end.
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

/// Begins to fetch the large file through the server.
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

/// Reads until the file is cut off; false where it goes on for too long.
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

/// Lets `answering` stream while access ends at `ending`.
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
