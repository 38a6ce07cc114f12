//! The root key is rotated while servers run, one server after another.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::support::process::{FILES, Installation, Weir};

/// The path of the first file's URL in a query's answer.
async fn file_url(weir: &Weir, token: &str) -> String {
    let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/claims/query", weir.url);
    let answer = weir.client.post(url).bearer_auth(token).json(&json!({})).send().await.unwrap();
    let text = answer.error_for_status().unwrap().text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let url = lines.iter().find_map(|line| line["file"]["url"].as_str()).unwrap();
    url[url.find("/files/").unwrap()..].to_owned()
}

async fn fetch(weir: &Weir, path: &str) -> StatusCode {
    weir.client.get(format!("{}{path}", weir.url)).send().await.unwrap().status()
}

/// The token of a listing's second page.
async fn page(weir: &Weir) -> String {
    let listed = weir.admin(Method::GET, "/audit?max_results=1", Value::Null).await;
    listed["next_page_token"].as_str().unwrap().to_owned()
}

async fn turn(weir: &Weir, page: &str) -> StatusCode {
    let path = format!("/audit?max_results=1&page_token={page}");
    weir.ask(Method::GET, &path, &Value::Null).await.unwrap().0
}

fn keys(installation: &Installation) -> Vec<Value> {
    let listed = installation.run_well(&["keys", "list", "--output", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed["items"].as_array().unwrap().clone()
}

/// Checks that `text` contains a key's bytes in no common encoding.
fn holds_no_key(text: &str, file: &Path) {
    let key = fs::read(file).unwrap();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &key);
    assert!(!text.contains(&hex) && !text.contains(&base64), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_key_is_exchanged_without_a_gap() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut installation = cluster.install().await;
    let (mut first, mut second) = (installation.start().await, installation.start().await);
    installation.share(&first).await;
    let (_, token) = first.issue("default").await;
    let (old_url, old_page) = (file_url(&first, &token).await, page(&second).await);
    let old_key = installation.run_well(&["audit", "key"]).trim().to_owned();
    let old = keys(&installation).remove(0);
    assert_eq!((&old["state"], &old["purposes"][2]), (&json!("active"), &json!("signs checkpoints")));

    let said = installation.run_well(&["keys", "rotate"]);
    let file = installation.folder.path().join("weir-2.key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    holds_no_key(&said, &file);
    let folder = installation.folder.path().display().to_string();
    for key_files in [
        format!("key_files = [\"{folder}/weir.key\", \"{folder}/weir-2.key\"]"),
        format!("key_files = [\"{folder}/weir-2.key\", \"{folder}/weir.key\"]"),
        format!("pseudonym_key = \"{}\"", old["fingerprint"].as_str().unwrap()),
    ] {
        assert!(said.contains(&key_files), "`{key_files}` is not in {said}");
    }

    // First every server learns the new key, one after another.
    installation.use_keys(&["weir.key", "weir-2.key"]);
    for weir in [&mut first, &mut second] {
        weir.stop();
        *weir = installation.start().await;
    }
    // Then they begin to use it; each accepts what the other makes meanwhile.
    installation.use_keys(&["weir-2.key", "weir.key"]);
    first.stop();
    first = installation.start().await;
    let (new_url, new_page) = (file_url(&first, &token).await, page(&first).await);
    let (mixed_url, mixed_page) = (file_url(&second, &token).await, page(&second).await);
    let urls = [&old_url, &new_url, &mixed_url];
    for weir in [&first, &second] {
        for url in urls {
            assert_eq!(fetch(weir, url).await, StatusCode::OK);
        }
        for page in [&old_page, &new_page, &mixed_page] {
            assert_eq!(turn(weir, page).await, StatusCode::OK);
        }
    }
    second.stop();
    second = installation.start().await;
    for url in urls {
        assert_eq!(fetch(&second, url).await, StatusCode::OK);
    }
    assert_eq!(second.query(&token).await.urls, FILES);

    let listed = keys(&installation);
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!((&listed[0]["state"], &listed[1]["state"]), (&json!("active"), &json!("kept")));
    assert_eq!(listed[1]["fingerprint"], old["fingerprint"]);
    assert_eq!(listed[1]["purposes"], json!(["opens page tokens", "opens file URLs", "verifies checkpoints"]));
    for key in &listed {
        assert!(key["active_since"].is_string() && key["created_at"].is_string(), "{key}");
    }
    holds_no_key(&json!(listed).to_string(), &file);
    let events = second.feed().await;
    let of = |action: &str| events.iter().filter(|event| event["action"] == action).collect::<Vec<_>>();
    let (created, activated) = (of("key.create"), of("key.activate"));
    assert_eq!((created.len(), activated.len()), (1, 1), "{created:?} {activated:?}");
    assert_eq!(created[0]["actor"], json!({"kind": "system", "name": "command line"}));
    assert_eq!(created[0]["object"], json!({"kind": "key", "name": listed[0]["fingerprint"]}));
    assert_eq!(activated[0]["object"], created[0]["object"]);
    assert_eq!(activated[0]["change"]["replaces"], old["fingerprint"]);

    // A server with only the old key is refused and names what it lacks.
    installation.use_keys(&["weir.key"]);
    let refused = installation.run(&["serve"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    let newest = listed[0]["fingerprint"].as_str().unwrap();
    assert!(told.contains(&format!("have gone on to the key {newest}")), "{told}");
    assert_eq!(
        keys(&installation)[1],
        json!({
            "fingerprint": newest, "state": "missing", "active_since": listed[0]["active_since"], "purposes": []
        })
    );

    // A verifier with only the old public key can verify the whole trail.
    installation.use_keys(&["weir-2.key", "weir.key"]);
    for weir in [&mut first, &mut second] {
        weir.stop();
    }
    let export = installation.export();
    let export = export.to_str().unwrap();
    let verified = installation.run_well(&["audit", "verify", "--export", export, "--key", &old_key]);
    assert!(verified.starts_with("verified events 1 to "), "{verified}");
    assert!(installation.run_well(&["audit", "verify", "--key", &old_key]).contains("the same as"), "{verified}");
    assert!(installation.run_well(&["audit", "verify"]).contains("the same as"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_exchanges_its_key_in_one_step_and_may_keep_its_pseudonyms() {
    let mut installation = Installation::sqlite();
    let mut weir = installation.start().await;
    installation.share(&weir).await;
    let (_, token) = weir.issue("default").await;
    let url = file_url(&weir, &token).await;
    let old = keys(&installation).remove(0)["fingerprint"].as_str().unwrap().to_owned();
    let said = installation.run_well(&["keys", "rotate"]);
    assert!(!said.contains("1. ") && said.contains("restart the server"), "{said}");
    let taken = installation.folder.path().join("weir-2.key");
    let refused = installation.run(&["keys", "rotate", "--key-file", taken.to_str().unwrap()]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("is there already"));
    weir.stop();

    installation.use_keys(&["weir-2.key", "weir.key"]);
    installation.configure(&format!("[views]\npseudonym_key = \"{old}\""));
    weir = installation.start().await;
    assert_eq!(fetch(&weir, &url).await, StatusCode::OK);
    let listed = keys(&installation);
    assert_eq!(listed[1]["purposes"][3], "makes pseudonyms");
    assert_eq!(listed[0]["purposes"].as_array().unwrap().len(), 3);
    weir.stop();
    assert!(installation.run_well(&["audit", "verify"]).contains("the same as"));

    // Without the old key, its pseudonyms cannot be made and its checkpoints cannot be verified.
    installation.use_keys(&["weir-2.key"]);
    let told = String::from_utf8(installation.run(&["serve"]).stderr).unwrap();
    assert!(told.contains("views.pseudonym_key") && told.contains("weir keys list"), "{told}");
    let told = String::from_utf8(installation.run(&["audit", "verify"]).stderr).unwrap();
    assert!(told.contains("no key that is believed has signed it"), "{told}");
}
