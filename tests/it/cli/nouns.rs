//! Commands of the admin API.

use std::{fs, os::unix::fs::MetadataExt, sync::Arc};

use axum::{Json, Router, extract::RawQuery, http::HeaderMap, routing::get};
use http::Method;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use super::{Shell, on_each_database};

#[tokio::test]
async fn a_table_is_shared_read_and_taken_back_by_commands_alone() {
    on_each_database(async |installation, weir, shell| {
        let location = Url::from_file_path(installation.table()).unwrap();
        let said = shell.run_well(&["table", "put", "claims.claims", "--location", location.as_str()]);
        assert!(said.contains("delta.version"), "{said}");
        shell.run_well(&["share", "put", "insurer", "--display-name", "Insurer data"]);
        let object = ["object", "put", "insurer", "claims", "claims", "--source-table", "claims.claims"];
        shell.run_well(&[&object[..], &["--history", "--start-version", "0"]].concat());
        shell.run_well(&["recipient", "put", "acme", "--contacts", "security=soc@acme.example"]);
        let grant = ["grant", "create", "--share", "insurer", "--recipient", "acme", "--purpose", "tests"];
        let grant = shell.json(&grant);
        let profile = installation.folder.path().join("acme.share");
        let issue = ["token", "issue", "acme", "--expires-in", "2h", "--profile", profile.to_str().unwrap()];
        let said = shell.run_well(&issue);

        let saved: Value = serde_json::from_str(&fs::read_to_string(&profile).unwrap()).unwrap();
        let token = saved["bearerToken"].as_str().unwrap();
        assert!(!said.contains(token), "a token that is saved is not shown: {said}");
        assert_eq!(fs::metadata(&profile).unwrap().mode() & 0o777, 0o600);
        assert_eq!(weir.query(token).await.status, Some(StatusCode::OK));

        // The same members as in the API, both ways.
        let object = shell.json(&["object", "get", "insurer", "claims", "claims"]);
        assert_eq!((&object["history"], &object["start_version"]), (&json!(true), &json!(0)));
        let listed = shell.json(&["object", "list", "insurer"]);
        let answered = weir.admin(Method::GET, "/shares/insurer/objects", Value::Null).await;
        assert_eq!(listed, answered);
        let listed = shell.run_well(&["object", "list", "insurer"]);
        let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..3], ["SCHEMA", "NAME", "SOURCE"]);
        assert_eq!(lines[1][..4], ["claims", "claims", "claims.claims", "true"]);

        shell.run_well(&["share", "revoke", "insurer", "acme", "--reason", "tests are over"]);
        assert_eq!(weir.query(token).await.status, Some(StatusCode::FORBIDDEN));
        let ended = shell.json(&["grant", "get", grant["id"].as_str().unwrap()]);
        assert_eq!(ended["ending"]["reason"], "tests are over");
        let denials = shell.json(&["audit", "list", "--recipient", "acme", "--decision", "deny", "--limit", "5"]);
        assert_eq!(denials["items"][0]["reason"], "GRANT_REVOKED");
    })
    .await;
}

#[tokio::test]
async fn values_are_changed_member_by_member_and_taken_back() {
    on_each_database(async |installation, _, shell| {
        let body = installation.folder.path().join("recipient.json");
        fs::write(&body, json!({"display_name": "From the file", "description": "x"}).to_string()).unwrap();
        let put = ["recipient", "put", "acme", "--file", body.to_str().unwrap(), "--display-name", "From the flag"];
        let made =
            shell.json(&[&put[..], &["--contacts", "security=a@b.example", "--contacts", "it=c@b.example"]].concat());
        assert_eq!((&made["display_name"], &made["description"]), (&json!("From the flag"), &json!("x")));
        let change = ["recipient", "update", "acme", "--properties", "plans=[\"gold\"]", "--properties", "region=west"];
        let change = [&change[..], &["--unset", "description", "--unset", "contacts.it"]].concat();
        let change =
            [&change[..], &["--limits-requests-per-minute", "60", "--allowed-cidrs", "10.0.0.0/8,192.0.2.0/24"]];
        let changed = shell.json(&change.concat());
        assert_eq!(changed["properties"], json!({"plans": ["gold"], "region": "west"}));
        assert_eq!(changed["contacts"], json!({"security": "a@b.example"}));
        assert_eq!(changed["description"], Value::Null);
        assert_eq!(changed["limits"]["requests_per_minute"], 60);
        assert_eq!(changed["allowed_cidrs"], json!(["10.0.0.0/8", "192.0.2.0/24"]));
        let stale =
            ["recipient", "update", "acme", "--if-match", made["etag"].as_str().unwrap(), "--delivery", "proxied"];
        shell.run_badly(1, &stale);
        shell.run_well(&["recipient", "suspend", "acme", "--reason", "tests"]);
        assert_eq!(shell.json(&["recipient", "get", "acme"])["state"], "suspended");
        assert_eq!(shell.run_well(&["recipient", "delete", "acme", "--yes"]), "done\n");
    })
    .await;
}

#[tokio::test]
async fn what_goes_wrong_is_told_with_the_next_step_and_its_exit_code() {
    on_each_database(async |installation, weir, shell| {
        let folder = installation.folder.path();
        // Wrong usage exits with 2.
        shell.run_badly(2, &["table", "put"]);
        shell.run_badly(2, &["recipient", "put", "acme", "--delivery", "pigeon"]);
        shell.run_badly(2, &["grant", "create", "--share", "s", "--recipient", "r", "--valid-until", "soon"]);
        shell.run_badly(2, &["recipient", "suspend", "acme"]);
        // A failure exits with 1 and names each field on its own line.
        let said = shell.run_badly(1, &["share", "get", "nowhere"]);
        assert!(said.starts_with("weir: ") && said.contains("nowhere") && said.lines().count() == 1, "{said}");
        let said = shell.run_badly(1, &["table", "put", "a b", "--location", "s3://elsewhere/table"]);
        assert!(said.contains("\n  name: "), "{said}");
        shell.run_well(&["share", "put", "insurer"]);
        let said = shell.run_badly(1, &["share", "put", "insurer", "--description", "other"]);
        assert!(said.contains("\n  description: has another value; change it with `update`"), "{said}");
        let away = Shell { url: "http://127.0.0.1:1".to_owned(), token_file: shell.token_file.clone() };
        assert!(away.run_badly(1, &["whoami"]).contains("--url"));
        // The caller's token is missing or unknown.
        let nobody = Shell { url: weir.url.clone(), token_file: folder.join("missing") };
        assert!(nobody.run_badly(1, &["whoami"]).contains("missing"));
        let unknown = Shell::new(&weir.url, folder, "not-a-token-of-anybody-at-all-0123456789");
        let said = unknown.run_badly(1, &["whoami"]);
        assert!(said.contains("--token-file") && !said.contains("not-a-token"), "{said}");
        // A refusal by a rule exits with 3.
        shell.run_well(&["operator", "put", "eve", "--role", "auditor"]);
        let token = shell.json(&["operator", "issue-token", "eve"]);
        let eve = Shell::new(&weir.url, folder, token["token"].as_str().unwrap());
        assert_eq!(eve.json(&["whoami"])["role"], "auditor");
        let said = eve.run_badly(3, &["share", "delete", "insurer"]);
        assert!(said.contains("admin"), "the roles that may are named: {said}");
        assert_eq!(shell.json(&["share", "get", "insurer"])["name"], "insurer");
    })
    .await;
}

#[tokio::test]
async fn a_profile_is_never_written_over_and_leaves_nothing_when_refused() {
    on_each_database(async |installation, _, shell| {
        let profile = installation.folder.path().join("acme.share");
        let path = profile.to_str().unwrap();
        let said = shell.run_badly(1, &["token", "issue", "acme", "--profile", path]);
        assert!(said.contains("acme") && !profile.exists(), "{said}");
        shell.run_well(&["recipient", "put", "acme"]);
        fs::write(&profile, "mine").unwrap();
        assert!(shell.run_badly(1, &["token", "issue", "acme", "--profile", path]).contains("acme.share"));
        assert_eq!(fs::read_to_string(&profile).unwrap(), "mine");
        assert_eq!(shell.json(&["token", "list", "acme"])["items"], json!([]), "no token was issued for nothing");
    })
    .await;
}

#[tokio::test]
async fn everything_is_frozen_and_let_go_from_the_shell() {
    on_each_database(async |installation, weir, shell| {
        installation.share(weir).await;
        let (_, token) = weir.issue("default").await;
        shell.run_well(&["freeze", "--reason", "incident"]);
        assert_eq!(weir.query(&token).await.status, Some(StatusCode::FORBIDDEN));
        shell.run_well(&["unfreeze", "--reason", "over"]);
        assert_eq!(weir.query(&token).await.status, Some(StatusCode::OK));
    })
    .await;
}

/// A server with 2,500 shares that answers pages as requested and records the requests.
async fn many_shares() -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let handler = move |RawQuery(query): RawQuery, headers: HeaderMap| {
        let query = query.unwrap_or_default();
        seen.lock().unwrap().push(query.clone());
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).map(|n| n.parse().unwrap());
        let (first, size): (usize, usize) = (value("page_token=").unwrap_or(0), value("max_results=").unwrap());
        let last = (first + size).min(2_500);
        let items: Vec<Value> = (first..last).map(|n| json!({"name": format!("share-{n:04}")})).collect();
        let mut page = json!({"items": items});
        if last < 2_500 {
            page["next_page_token"] = last.to_string().into();
        }
        assert_eq!(headers["authorization"], "Bearer the-token");
        async move { Json(page) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/api/v1/shares", get(handler))).await.unwrap();
    });
    (url, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_reads_every_page_and_no_more_than_asked_for() {
    let (folder, (url, asked)) = (TempDir::new().unwrap(), many_shares().await);
    let shell = Shell::new(&url, folder.path(), "the-token");
    let all = shell.json(&["share", "list"]);
    assert_eq!(all["items"].as_array().unwrap().len(), 2_500);
    assert_eq!(all["items"][2_499]["name"], "share-2499");
    assert_eq!(std::mem::take(&mut *asked.lock().unwrap()).len(), 3);
    let some = shell.json(&["share", "list", "--limit", "1200"]);
    assert_eq!(some["items"].as_array().unwrap().len(), 1_200);
    assert_eq!(some["next_page_token"], "1200");
    assert_eq!(*asked.lock().unwrap(), ["max_results=1000", "max_results=200&page_token=1000"]);
    assert_eq!(shell.run_well(&["share", "list"]).lines().count(), 2_501);
}

#[test]
fn completions_know_every_command_and_help_teaches_by_example() {
    let folder = TempDir::new().unwrap();
    let shell = Shell::new("http://127.0.0.1:1", folder.path(), "none");
    for name in ["bash", "zsh", "fish", "powershell"] {
        let script = shell.run_well(&["completions", name]);
        for word in ["accept-schema", "offboard", "verify", "unfreeze", "table"] {
            assert!(script.contains(word), "{name} does not know {word}");
        }
    }
    let help = shell.run_well(&["grant", "create", "--help"]);
    for word in ["Example:", "weir grant create --share", "--agreement-ref", "--valid-until <TIME>", "--token-file"] {
        assert!(help.contains(word), "{word} is missing: {help}");
    }
}
