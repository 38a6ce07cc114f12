//! `weir import`: takes over a reference server's configuration.

use std::{collections::BTreeSet, fs, path::Path};

use http::Method;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Shell, on_each_database, on_each_database_set};
use crate::support::{
    process::{FILES, Installation, Weir},
    tables::{HandWrittenLog, add},
};

/// The secret of the reference server's configuration.
const BEARER: &str = "hush-hush-reference-token";

/// Writes a file with two shares and three tables, one of which is in both.
fn reference(installation: &Installation) -> String {
    let plans = installation.folder.path().join("lake/plans");
    if !plans.exists() {
        HandWrittenLog::plain(&plans).commit(&[add("plan.parquet", 100)]);
    }
    let lake = installation.folder.path().join("lake").display().to_string();
    format!(
        "version: 1\nshares:\n- name: insurer\n  schemas:\n  - name: claims\n    tables:\n    - name: claims\n      \
         location: \"file://{lake}/claims\"\n      id: \"00000000-0000-0000-0000-000000000000\"\n      \
         historyShared: true\n      startVersion: 0\n    - name: plans\n      location: \"file://{lake}/plans/\"\n\
         - name: partners\n  schemas:\n  - name: default\n    tables:\n    - name: plans\n      \
         location: \"file://{lake}/plans\"\nauthorization:\n  bearerToken: \"{BEARER}\"\nhost: \"localhost\"\n"
    )
}

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("delta-sharing-server.yaml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Everything that operators see.
async fn everything(weir: &Weir) -> Value {
    let mut all = json!({});
    for noun in ["tables", "shares", "recipients", "grants"] {
        all[noun] = weir.admin(Method::GET, &format!("/{noun}"), Value::Null).await;
    }
    all
}

fn actions(plan: &Value) -> Vec<(&str, &str, &str)> {
    fn text<'a>(step: &'a Value, member: &str) -> &'a str {
        step[member].as_str().unwrap()
    }
    let steps = plan["steps"].as_array().unwrap().iter();
    steps.map(|step| (text(step, "action"), text(step, "kind"), text(step, "name"))).collect()
}

#[tokio::test]
async fn a_configuration_is_taken_over_with_its_names_and_file_ids() {
    on_each_database(async |installation, weir, shell| {
        let file = write(installation.folder.path(), &reference(installation));
        let before = everything(weir).await;
        let planned = shell.json(&["import", &file, "--dry-run", "--recipient", "acme"]);
        assert_eq!(everything(weir).await, before, "a dry run makes nothing");
        assert_eq!(planned["applied"], false);
        assert_eq!(
            actions(&planned),
            [
                ("create", "table", "insurer.claims.claims"),
                ("create", "table", "insurer.claims.plans"),
                ("create", "share", "insurer"),
                ("create", "object", "insurer.claims.claims"),
                ("create", "object", "insurer.claims.plans"),
                ("create", "share", "partners"),
                ("create", "object", "partners.default.plans"),
                ("create", "recipient", "acme"),
                ("create", "grant", "insurer to acme"),
                ("create", "grant", "partners to acme"),
            ]
        );
        let notes: Vec<&Value> = planned["notes"].as_array().unwrap().iter().map(|note| &note["line"]).collect();
        assert_eq!(notes, [7, 20, 22]);
        let made = shell.json(&["import", &file, "--recipient", "acme"]);
        assert_eq!((&made["steps"], &made["applied"]), (&planned["steps"], &json!(true)));
        let object = shell.json(&["object", "get", "insurer", "claims", "claims"]);
        assert_eq!(
            (&object["history"], &object["cdf"], &object["start_version"]),
            (&json!(true), &json!(true), &json!(0))
        );
        let object = shell.json(&["object", "get", "partners", "default", "plans"]);
        assert_eq!((&object["history"], &object["source"]["table"]), (&json!(false), &json!("insurer.claims.plans")));

        // What a connector sees: the same names, and ids derived from paths as the reference server does.
        let (_, token) = weir.issue("default").await;
        let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/claims/query", weir.url);
        let answer = weir.client.post(url).bearer_auth(&token).json(&json!({})).send().await.unwrap();
        let text = answer.error_for_status().unwrap().text().await.unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ids: BTreeSet<String> = lines.filter_map(|line| Some(line["file"]["id"].as_str()?.to_owned())).collect();
        let hex = |path: String| Md5::digest(path).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(ids, (0..FILES).map(|n| hex(format!("part-{n}.parquet"))).collect());

        // Repeated: nothing is new until the file has more.
        let settled = everything(weir).await;
        let again = shell.json(&["import", &file, "--recipient", "acme"]);
        assert!(actions(&again).iter().all(|(action, _, _)| *action == "keep"), "{again}");
        assert_eq!(everything(weir).await, settled);
        let more = reference(installation).replace("authorization:", "- name: later\nauthorization:");
        let more = shell.json(&["import", &write(installation.folder.path(), &more)]);
        let new: Vec<_> = actions(&more).into_iter().filter(|(action, _, _)| *action == "create").collect();
        assert_eq!(new, [("create", "share", "later")]);
    })
    .await;
}

#[tokio::test]
async fn names_that_only_the_reference_server_takes_end_in_a_read() {
    on_each_database(async |installation, weir, shell| {
        let lake = installation.folder.path().join("lake").display().to_string();
        let long = "n".repeat(300);
        let names = ["a.b", "a b", "a/b", "a#b", "50%", "", "A_B", "größe", &long];
        let tables = names.map(|name| format!("    - {{name: '{name}', location: 'file://{lake}/claims'}}\n"));
        let text = format!(
            "version: 1\nshares:\n- name: my.share\n  schemas:\n  - name: raw.claims\n    tables:\n{}",
            tables.concat()
        );
        let file = write(installation.folder.path(), &text);
        let made = shell.json(&["import", &file, "--recipient", "acme"]);
        let notes = made["notes"].to_string();
        assert!(notes.contains("the schema `raw.claims` becomes `raw_claims`"), "{notes}");
        assert!(notes.contains("the share `my.share` becomes `my_share`"), "{notes}");
        let (_, token) = weir.issue("default").await;
        let get = async |path: String| {
            let url = format!("{}/delta-sharing{path}", weir.url);
            weir.client.get(url).bearer_auth(&token).send().await.unwrap().error_for_status().unwrap()
        };
        let listed: Value = get("/shares/my_share/all-tables".to_owned()).await.json().await.unwrap();
        let listed = listed["items"].as_array().unwrap();
        assert_eq!(listed.len(), names.len());
        for table in listed {
            let name = table["name"].as_str().unwrap();
            assert!(!name.contains(['.', '#', '/', ' ', '%', '?']), "{name}");
            get(format!("/shares/my_share/schemas/raw_claims/tables/{name}/version")).await;
        }
        let again = shell.json(&["import", &file, "--recipient", "acme"]);
        assert!(actions(&again).iter().all(|(action, _, _)| *action == "keep"), "{again}");
    })
    .await;
}

#[tokio::test]
async fn on_a_terminal_what_is_newly_disclosed_is_shown_and_asked_for() {
    on_each_database(async |installation, weir, shell| {
        let folder = installation.folder.path();
        let first = write(folder, &reference(installation));
        let before = everything(weir).await;
        let granting = ["import", &first, "--recipient", "acme"];
        // Asked before a grant, with recipient and content; a refusal leaves nothing behind.
        let (code, said) = shell.run_on_a_terminal(&granting, "n\n");
        assert_eq!(code, Some(1), "{said}");
        for part in ["insurer.claims.claims (insurer.claims.claims), with older versions", "acme, from", "Go on?"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(said.contains("nothing was made"), "{said}");
        assert_eq!(everything(weir).await, before);
        let (code, said) = shell.run_on_a_terminal(&granting, "y\n");
        assert_eq!((code, said.matches("Go on?").count()), (Some(0), 1), "{said}");
        // Another table in a granted share.
        let lake = folder.join("lake").display().to_string();
        let more = format!("    - name: more\n      location: \"file://{lake}/plans\"\n- name: partners");
        let more = write(folder, &reference(installation).replace("- name: partners", &more));
        let settled = everything(weir).await;
        let objects = async || weir.admin(Method::GET, "/shares/insurer/objects", Value::Null).await["items"].clone();
        let known = objects().await;
        let (code, said) = shell.run_on_a_terminal(&["import", &more], "\n");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("insurer.claims.more (insurer.claims.plans)") && said.contains("acme, from"), "{said}");
        assert_eq!((everything(weir).await, objects().await), (settled, known));
        let (code, said) = shell.run_on_a_terminal(&["import", &more, "--yes"], "");
        assert_eq!((code, said.contains("Go on?")), (Some(0), false), "{said}");
        assert_eq!(objects().await.as_array().unwrap().len(), 3);
        // Nothing is new, so nothing is asked.
        let (code, said) = shell.run_on_a_terminal(&["import", &more, "--recipient", "acme"], "");
        assert_eq!((code, said.contains("Go on?")), (Some(0), false), "{said}");
    })
    .await;
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_nothing_is_made() {
    on_each_database(async |installation, weir, shell| {
        let folder = installation.folder.path();
        let before = everything(weir).await;
        // Faults in the file are reported before a server is asked.
        let text =
            reference(installation).replace("name: partners", "name: INSURER").replace("version: 1", "version: 7");
        let text = text.replace("historyShared: true", "historyShared: maybe");
        let said = shell.run_badly(1, &["import", &write(folder, &text)]);
        for line in [":1: ", ":10: ", ":14: "] {
            assert!(said.contains(line), "{line}: {said}");
        }
        // Faults that the server finds.
        let text = reference(installation).replace("startVersion: 0", "startVersion: 9");
        let text = text.replace("/plans/\"", "/nowhere\"").replace("/plans\"", "/../../etc\"");
        let text = text.replace(
            "authorization:",
            "  - name: x\n    tables:\n    - {name: t, location: \"s3://away/t\"}\nauthorization:",
        );
        let said = shell.run_badly(1, &["import", &write(folder, &text), "--recipient", "acme"]);
        for line in [":7: ", ":12: ", ":18: ", ":22: "] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(
            said.contains("beyond the table's version") && said.contains("outside every configured storage"),
            "{said}"
        );
        assert!(!said.contains(BEARER), "{said}");
        assert_eq!(everything(weir).await, before);
        // A table that is already shared with other options.
        shell.run_well(&["import", &write(folder, &reference(installation))]);
        let other = reference(installation).replace("historyShared: true", "historyShared: false");
        let said = shell.run_badly(1, &["import", &write(folder, &other)]);
        assert!(said.contains(":7: ") && said.contains("history") && said.contains("weir object update"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn what_a_refused_run_has_made_is_taken_back() {
    on_each_database_set("[sharing]\nrequire_acknowledge = true\n", async |installation, weir, shell| {
        let file = write(installation.folder.path(), &reference(installation));
        let before = everything(weir).await;
        let said = shell.run_badly(3, &["import", &file, "--recipient", "acme"]);
        assert!(said.contains("nothing was made") && said.contains("history"), "{said}");
        assert_eq!(everything(weir).await, before);
        shell.run_well(&["import", &file, "--recipient", "acme", "--acknowledge", "history"]);
        // An operator that may not share imports nothing.
        shell.run_well(&["operator", "put", "eve", "--role", "auditor"]);
        let token = shell.json(&["operator", "issue-token", "eve"]);
        let eve = Shell::new(&weir.url, installation.folder.path(), token["token"].as_str().unwrap());
        let settled = everything(weir).await;
        eve.run_badly(3, &["import", &file]);
        assert_eq!(everything(weir).await, settled);
    })
    .await;
}

#[test]
fn hostile_files_are_refused_before_a_server_is_asked() {
    let folder = TempDir::new().unwrap();
    let shell = Shell::new("http://127.0.0.1:1", folder.path(), "none");
    let refused = |text: &str| shell.run_badly(1, &["import", &write(folder.path(), text)]);
    assert!(refused(&"#".repeat(5 << 20)).contains("larger than"));
    assert!(refused(&"[".repeat(40)).contains("deep"));
    assert!(refused(&"[".repeat(1 << 20)).contains(".yaml:1: "));
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nversion: 1\nshares: *c\n";
    assert!(refused(bomb).contains("alias"));
    assert!(refused("version: 1\nshares: [\n").contains(".yaml:"));
    assert!(refused("\u{1b}[2J: 1\n").lines().all(|line| !line.contains('\u{1b}')));
    assert!(shell.run_badly(1, &["import", "/nowhere.yaml"]).contains("cannot be read"));
    fs::write(folder.path().join("bytes.yaml"), [0xff, 0xfe, 0]).unwrap();
    shell.run_badly(1, &["import", folder.path().join("bytes.yaml").to_str().unwrap()]);
}
