//! `weir drill`: each drill passes on a healthy server, fails if something is broken, and leaves no access behind.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Json, Router, extract::Request};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Shell, on_each_database, on_each_database_set};
use crate::{
    replicas::cluster::Cluster,
    support::{
        postgres::TestDatabase,
        process::{Installation, OPERATOR_TOKEN, Weir, until},
    },
};

/// Longer than any loaded machine needs; the measured times are checked separately.
const PATIENT: [&str; 2] = ["--within-ms", "60000"];

/// A drill's exit code and JSON output.
fn said(output: &Output) -> (Option<i32>, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = serde_json::from_str(&text);
    let said = said.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

#[track_caller]
fn passes(output: &Output) -> Value {
    let (code, said) = said(output);
    assert_eq!((code, &said["passed"], &said["faults"]), (Some(0), &json!(true), &json!([])), "{said}");
    said["measured"].clone()
}

#[track_caller]
fn fails(output: &Output, fault: &str) -> Value {
    let (code, said) = said(output);
    assert_eq!((code, &said["passed"]), (Some(1), &json!(false)), "{said}");
    let faults = said["faults"].as_array().unwrap();
    assert!(faults.iter().any(|said| said.as_str().unwrap().contains(fault)), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the drill failed"));
    said["measured"].clone()
}

/// Runs a drill with the server's configuration.
fn drill(installation: &Installation, weir: &Weir, shell: &Shell, arguments: &[&str]) -> Output {
    let server = ["--url", &weir.url, "--token-file", shell.token_file.to_str().unwrap(), "--output", "json"];
    installation.run(&[&["drill"], arguments, &server].concat())
}

/// Checks that the drill's recipient has no access left.
async fn has_no_access(weir: &Weir) {
    for path in ["/recipients/weir-drill/tokens?max_results=1000", "/grants?recipient=weir-drill&max_results=1000"] {
        let listed = weir.admin(Method::GET, path, Value::Null).await;
        let items = listed["items"].as_array().unwrap();
        assert!(!items.is_empty() || path.contains("grants"), "{path}");
        assert!(items.iter().all(|item| ["revoked", "expired"].contains(&item["state"].as_str().unwrap())), "{listed}");
    }
}

async fn recorded(weir: &Weir) -> Vec<Value> {
    let events = weir.admin(Method::GET, "/audit?action=drill.record&order=asc", Value::Null).await;
    events["items"].as_array().unwrap().iter().map(|event| event["change"].clone()).collect()
}

/// Every file below a folder, with its content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

/// A server that answers every request as `answer` says.
async fn stub(answer: impl Fn(&Method, &str) -> (u16, Value) + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(async move |request: Request| {
        let (status, body) = answer(request.method(), request.uri().path());
        (StatusCode::from_u16(status).unwrap(), Json(body))
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// A replica with a broken cache: it forwards requests to `server`, and repeats an answer that allowed a caller without
/// asking again, even after the caller's access ended.
async fn with_a_broken_cache(server: &str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (server, client) = (server.to_owned(), reqwest::Client::new());
    let remembered: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let router = Router::new().fallback(async move |request: Request| {
        let (parts, body) = request.into_parts();
        let caller = parts.headers["authorization"].to_str().unwrap().to_owned();
        let key = format!("{} {} {caller}", parts.method, parts.uri);
        if let Some(answer) = remembered.lock().unwrap().get(&key) {
            return (StatusCode::OK, answer.clone());
        }
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let passed_on = client.request(parts.method, format!("{server}{}", parts.uri));
        let answer = passed_on.header("authorization", caller).body(body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        if status.is_success() {
            remembered.lock().unwrap().insert(key, text.clone());
        }
        (status, text)
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn every_drill_passes_on_a_server_that_is_well_is_recorded_and_leaves_nothing() {
    on_each_database(async |installation, weir, shell| {
        let scratch = TempDir::new().unwrap();
        let place = ["--scratch", scratch.path().to_str().unwrap()];
        let run = |arguments: &[&str]| passes(&drill(installation, weir, shell, arguments));

        let measured = run(&[&["revocation"], &PATIENT[..]].concat());
        for time in ["allowed_ms", "grant_revoked_ms", "grant_denied_ms", "token_revoked_ms", "token_denied_ms"] {
            assert!(measured[time].is_u64(), "{time} {measured}");
        }
        has_no_access(weir).await;

        let measured = run(&[&["agreement-end"], &PATIENT[..]].concat());
        for time in
            ["allowed_ms", "ended_denied_ms", "allowed_again_ms", "agreement_terminated_ms", "agreement_denied_ms"]
        {
            assert!(measured[time].is_u64(), "{time} {measured}");
        }
        has_no_access(weir).await;
        for code in ["AGREEMENT_ENDED", "AGREEMENT_INACTIVE"] {
            let events =
                weir.admin(Method::GET, "/audit?recipient=weir-drill&decision=deny&max_results=1000", Value::Null);
            let events = events.await["items"].as_array().unwrap().clone();
            assert!(events.iter().any(|event| event["reason"] == code), "{code}");
        }

        let measured = run(&[&["rotation"], &PATIENT[..]].concat());
        let (both, end) = (measured["both_allowed_until_ms"].as_u64().unwrap(), measured["old_denied_ms"].as_u64());
        assert!((2_000..).contains(&end.unwrap()) && both <= end.unwrap(), "{measured}");
        has_no_access(weir).await;

        installation.run_well(&["audit", "checkpoint"]);
        let before = files(&installation.export());
        let measured = run(&[&["audit-tamper"], &place[..]].concat());
        assert!(measured["events"].as_u64().unwrap() > 0 && measured["cut_checkpoint_found_ms"].is_u64(), "{measured}");
        let after = files(&installation.export());
        assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)), "the export was touched");

        let measured = run(&[&["restore"], &place[..]].concat());
        assert!(measured["events_recovered"].as_u64().unwrap() > 0, "{measured}");
        assert!(measured["backed_up_ms"].is_u64() && measured["recovered_ms"].is_u64(), "{measured}");
        has_no_access(weir).await;
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left of the copies");
        let frozen = weir.ask(Method::POST, "/unfreeze", &json!({"reason": "a test"})).await.unwrap();
        assert_eq!(frozen.0, StatusCode::CONFLICT, "the copy was frozen, the server was not");

        let drills = recorded(weir).await;
        let kinds: Vec<&str> = drills.iter().map(|drill| drill["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["revocation", "agreement_end", "rotation", "audit_tamper", "restore"]);
        assert!(drills.iter().all(|drill| drill["passed"] == true && drill["measured"].is_object()), "{drills:?}");
        installation.run_well(&["audit", "verify"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_pass_with_what_was_measured() {
    let installation = Installation::sqlite();
    let weir = installation.start().await;
    let shell = Shell::new(&weir.url, installation.folder.path(), OPERATOR_TOKEN);
    let text = shell.run_well(&[&["drill", "revocation"], &PATIENT[..]].concat());
    assert!(text.starts_with("PASS  revocation\n") && text.contains("grant_denied_ms"), "{text}");
    let listed = shell.run_well(&["audit", "list", "--action", "drill.record"]);
    assert!(listed.contains("drill.record"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_is_measured() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let installation = Installation::on(database.url(), "");
    let replicas = [installation.start().await, installation.start().await];
    let shell = Shell::new(&replicas[0].url, installation.folder.path(), OPERATOR_TOKEN);
    for kind in ["revocation", "agreement-end", "rotation"] {
        let named = ["--replica", &replicas[0].url, "--replica", &replicas[1].url];
        let arguments = [&[kind], &named[..], &PATIENT[..]].concat();
        let measured = passes(&drill(&installation, &replicas[0], &shell, &arguments));
        let time = match kind {
            "revocation" => "grant_denied_ms",
            "agreement-end" => "agreement_denied_ms",
            _ => "old_denied_ms",
        };
        let each = [1, 2].map(|at| measured[format!("replica_{at}_{time}")].as_u64().unwrap());
        assert_eq!(measured[time].as_u64(), each.into_iter().max(), "{measured}");
        has_no_access(&replicas[1]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_goes_on_answering_fails_the_drills_and_is_named() {
    on_each_database(async |installation, weir, shell| {
        let stale = with_a_broken_cache(&weir.url).await;
        for kind in ["revocation", "agreement-end", "rotation"] {
            let arguments = [kind, "--replica", &weir.url, "--replica", &stale, "--within-ms", "3000"];
            let output = drill(installation, weir, shell, &arguments);
            fails(&output, &format!("{stale}/ goes on allowing the"));
            has_no_access(weir).await;
        }
        let drills = recorded(weir).await;
        assert!(drills.iter().all(|drill| drill["passed"] == false), "{drills:?}");
        assert!(drills[0]["detail"].as_str().unwrap().contains(&stale), "{drills:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drills_pass_where_every_grant_needs_an_agreement() {
    on_each_database_set(
        "[sharing]\nrequire_agreement = true\nrequire_purpose = true",
        async |installation, weir, shell| {
            for kind in ["revocation", "agreement-end", "rotation", "revocation"] {
                passes(&drill(installation, weir, shell, &[&[kind], &PATIENT[..]].concat()));
                has_no_access(weir).await;
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_another_reason_is_not_the_end_of_the_agreement() {
    let installation = Installation::sqlite();
    let weir = installation.start().await;
    let shell = Shell::new(&weir.url, installation.folder.path(), OPERATOR_TOKEN);
    // A replica that names no reason why.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (server, client) = (weir.url.clone(), reqwest::Client::new());
    let router = Router::new().fallback(async move |request: Request| {
        let caller = request.headers()["authorization"].to_str().unwrap().to_owned();
        let asked = client.request(request.method().clone(), format!("{server}{}", request.uri()));
        let status = asked.header("authorization", caller).send().await.unwrap().status();
        (status, Json(json!({"errorCode": "PERMISSION_DENIED"})))
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let output = drill(&installation, &weir, &shell, &["agreement-end", "--replica", &url, "--within-ms", "1000"]);
    fails(&output, "with `PERMISSION_DENIED` instead of `AGREEMENT_ENDED`");
    has_no_access(&weir).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_never_allows_fails_the_drill() {
    let closed = stub(|_, _| (503, json!({}))).await;
    let installation = Installation::sqlite();
    let weir = installation.start().await;
    let shell = Shell::new(&weir.url, installation.folder.path(), OPERATOR_TOKEN);
    let output = drill(&installation, &weir, &shell, &["revocation", "--replica", &closed]);
    fails(&output, "answers 503");
    has_no_access(&weir).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_allows_behind_the_revocation_fails_the_drill() {
    let revoked = Arc::new(AtomicBool::new(false));
    let server = stub(move |method, path| {
        let is_revocation = path.ends_with("/revoke") && !path.contains("/recipients/weir-drill/revoke");
        if *method == Method::POST && is_revocation {
            revoked.store(true, Ordering::SeqCst);
        }
        if *method == Method::POST && path.ends_with("/grants") {
            revoked.store(false, Ordering::SeqCst);
        }
        match path {
            "/delta-sharing/shares/weir_drill" if revoked.load(Ordering::SeqCst) => (403, json!({})),
            "/api/v1/audit" => (200, json!({"items": [{"seq": 7}]})),
            _ if *method == Method::GET => (200, json!({"items": []})),
            _ => {
                let profile = json!({"endpoint": "http://127.0.0.1/delta-sharing"});
                (200, json!({"id": "i", "token": "t", "expires_at": "2030-01-01T00:00:00Z", "profile": profile}))
            }
        }
    })
    .await;
    let folder = TempDir::new().unwrap();
    let shell = Shell::new(&server, folder.path(), OPERATOR_TOKEN);
    let output = shell.run(&["drill", "revocation", "--replica", &server, "--output", "json"]);
    fails(&output, "event 7 allows the canary behind event 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_tampered_with_before_fails_the_drill() {
    let installation = Installation::sqlite();
    let weir = installation.start().await;
    let shell = Shell::new(&weir.url, installation.folder.path(), OPERATOR_TOKEN);
    installation.share(&weir).await;
    installation.run_well(&["audit", "checkpoint"]);
    let copy = installation.folder.path().join("copy");
    assert!(Command::new("cp").arg("-r").arg(installation.export()).arg(&copy).status().unwrap().success());
    let newest = fs::read_dir(copy.join("events")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let text = fs::read_to_string(&newest).unwrap();
    fs::write(&newest, text.replacen("\"allow\"", "\"deny\"", 1)).unwrap();
    let before = files(&copy);
    let output = drill(&installation, &weir, &shell, &["audit-tamper", "--export", copy.to_str().unwrap()]);
    fails(&output, "the export does not verify as it is: first bad sequence");
    assert_eq!(files(&copy), before);
    // The real export passes by itself.
    let export = installation.export();
    passes(&drill(&installation, &weir, &shell, &["audit-tamper", "--export", export.to_str().unwrap()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_another_database_fails_the_restore_drill() {
    on_each_database(async |_, weir, shell| {
        let other = Installation::sqlite();
        other.start().await.stop();
        let output = drill(&other, weir, shell, &["restore"]);
        fails(&output, "does not know the canary's token");
        has_no_access(weir).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_drill_needs_the_right_to_make_a_database_and_says_so() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let weir = installation.start().await;
    let shell = Shell::new(&weir.url, installation.folder.path(), OPERATOR_TOKEN);
    let refused = drill(&installation, &weir, &shell, &["restore"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("CREATEDB") && text.contains("permission denied") && text.lines().count() == 1, "{text}");
    assert!(recorded(&weir).await.is_empty(), "nothing was rehearsed");
    cluster.allow_making_databases("weir_owner").await;
    passes(&drill(&installation, &weir, &shell, &["restore"]));
    has_no_access(&weir).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_is_broken_off_ends_its_canary_and_says_so() {
    let deaf = stub(|_, _| (200, json!({}))).await;
    let installation = Installation::sqlite();
    let weir = installation.start().await;
    let shell = Shell::new(&weir.url, installation.folder.path(), OPERATOR_TOKEN);
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["drill", "revocation", "--replica", &deaf, "--within-ms", "600000", "--output", "json"]);
    command.args(["--url", &weir.url, "--token-file"]).arg(&shell.token_file).env_clear();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("revoked grant", async || {
        let path = "/audit?action=grant.revoke&recipient=weir-drill";
        let (status, events) = weir.ask(Method::GET, path, &Value::Null).await.unwrap();
        (status.is_success() && !events["items"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    fails(&output, "it was broken off");
    has_no_access(&weir).await;
    assert_eq!(recorded(&weir).await[0]["passed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_manage_sharing_is_refused_before_anything_happens() {
    let installation = Installation::sqlite();
    let weir = installation.start().await;
    let shell = Shell::new(&weir.url, installation.folder.path(), OPERATOR_TOKEN);
    shell.run_well(&["operator", "put", "eve", "--role", "auditor"]);
    let token = shell.json(&["operator", "issue-token", "eve"])["token"].as_str().unwrap().to_owned();
    let eve = Shell::new(&weir.url, installation.folder.path(), &token);
    let refused = eve.run_badly(3, &["drill", "revocation"]);
    assert!(refused.contains("share_owner"), "{refused}");
    assert_eq!(shell.json(&["share", "list"])["items"], json!([]));
}
