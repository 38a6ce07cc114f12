//! `weir discover`: shows what lies in a storage or a catalog, and writes drafts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use super::{Shell, on_each_database, on_each_database_set};
use crate::support::{
    process::{FILES, Installation},
    tables::{HandWrittenLog, metadata, protocol},
    unity::{UNITY_TOKEN, UnityServer, unity_table},
};

fn lay(installation: &Installation) -> String {
    let lake = installation.folder.path().join("lake");
    if !lake.join("hr").exists() {
        HandWrittenLog::plain(&lake.join("hr/people"));
        HandWrittenLog::create(&lake.join("void"), protocol(1, 2), metadata("v", &[("c", "void")], &[]));
        HandWrittenLog::plain(&lake.join("z-broken")).commit_text("{");
        fs::create_dir_all(lake.join("plain/er")).unwrap();
    }
    format!("file://{}", lake.display())
}

fn drafts(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_prefix_becomes_a_table_of_tables_and_a_draft_for_each() {
    on_each_database(async |installation, _, shell| {
        let root = lay(installation);
        shell.run_well(&["table", "put", "void", "--location", &format!("{root}/void")]);
        let drafted = installation.folder.path().join("drafts");
        let written = ["discover", "--root", &root, "--write", drafted.to_str().unwrap()];
        let shown = shell.run_well(&written);
        let lines: Vec<String> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "NAME VERSION SIZE COLUMNS VERDICT STATE");
        let size = format!("claims 1 {} B in {FILES} files 1 every connector reads it new", FILES * 100);
        assert_eq!(lines[1], size);
        assert_eq!(lines[2], "hr.people 0 0 B in 0 files 1 every connector reads it new");
        assert!(
            lines[3].starts_with("void 0 0 B in 0 files 1 pandas_delta does not read")
                && lines[3].ends_with("registered")
        );
        assert!(
            lines[4].starts_with("z-broken - - - the table's log cannot be read") && lines[4].ends_with("unreadable")
        );
        assert_eq!(lines.len(), 5, "{shown}");

        let files = drafts(&drafted);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["claims.yaml", "hr.people.yaml"]);
        let (comment, document) = files["hr.people.yaml"].split_once('\n').unwrap();
        assert_eq!(comment, "# Version 0: 0 B in 0 files; every connector reads it");
        assert_eq!(document, format!("kind: table\nname: \"hr.people\"\nspec:\n  location: \"{root}/hr/people\"\n"));
        assert_eq!(shell.json(&["table", "list"])["items"].as_array().unwrap().len(), 1, "nothing is registered");

        // A file that is there stays.
        fs::write(drafted.join("claims.yaml"), "mine").unwrap();
        fs::remove_file(drafted.join("hr.people.yaml")).unwrap();
        let found = shell.json(&written);
        assert_eq!(drafts(&drafted)["claims.yaml"], "mine");
        assert_eq!(drafts(&drafted).len(), 2);
        assert_eq!((&found["complete"], &found["cut"]), (&json!(true), &json!([])));
        let named = |member: &str| {
            let paths = found[member].as_array().unwrap().iter();
            paths.map(|path| path.as_str().unwrap().rsplit('/').next().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((named("written"), named("kept")), (vec!["hr.people.yaml"], vec!["claims.yaml"]));
        assert_eq!(found["items"][1]["draft"]["spec"]["location"], format!("{root}/hr/people"));

        // Each draft registers its table as it stands.
        for item in found["items"].as_array().unwrap().iter().filter(|item| item["draft"].is_object()) {
            let name = item["draft"]["name"].as_str().unwrap();
            let body = installation.folder.path().join("draft.json");
            fs::write(&body, item["draft"]["spec"].to_string()).unwrap();
            shell.run_well(&["table", "put", name, "--file", body.to_str().unwrap()]);
        }
        let found = shell.json(&["discover", "--root", &root]);
        assert!(found["items"].as_array().unwrap().iter().all(|item| item["draft"].is_null()), "{found}");

        let some = shell.json(&["discover", "--root", &root, "--limit", "1"]);
        assert_eq!((some["items"].as_array().unwrap().len(), &some["complete"]), (1, &json!(false)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unity_catalog_becomes_drafts_with_owners_and_comments() {
    let unity = UnityServer::start();
    let settings = format!("[discovery]\nunity_urls = [\"{}\"]\n", unity.url);
    on_each_database_set(&settings, async |installation, _, shell| {
        let root = lay(installation);
        unity.add("main", "hr", vec![unity_table("people", "DELTA", &format!("{root}/hr/people"))]);
        unity.add("main", "far", vec![unity_table("away", "DELTA", "s3://elsewhere/away")]);
        let folder = installation.folder.path();
        let token = folder.join("uc.token");
        fs::write(&token, format!("{UNITY_TOKEN}\n")).unwrap();
        let drafted = folder.join("drafts");
        let asked = ["discover", "--unity", &unity.url, "--unity-token-file", token.to_str().unwrap()];
        let found = shell.json(&[&asked[..], &["--write", drafted.to_str().unwrap()]].concat());
        let names: BTreeSet<&str> =
            found["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(names, BTreeSet::from(["main.far.away", "main.hr.people"]));
        let files = drafts(&drafted);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["main.hr.people.yaml"]);
        let document = &files["main.hr.people.yaml"];
        for line in ["# Found as main.hr.people", "  description: \"the table people\"", "  owner: \"jo@example.org\""]
        {
            assert!(document.lines().any(|known| known == line), "{document}");
        }
        let shown = shell.run_well(&asked);
        assert!(shown.contains("add a [[storage]]") && !shown.contains(UNITY_TOKEN), "{shown}");
        // Without a token the server says no.
        let said = shell.run_badly(1, &["discover", "--unity", &unity.url]);
        assert!(said.contains("\n  unity.token: is not accepted"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_looked_at_is_told_with_its_exit_code() {
    on_each_database(async |installation, weir, shell| {
        let folder = installation.folder.path();
        let root = lay(installation);
        shell.run_badly(2, &["discover"]);
        shell.run_badly(2, &["discover", "--root", &root, "--unity", "https://x"]);
        shell.run_badly(2, &["discover", "--root", &root, "--unity-token-file", "x"]);
        shell.run_badly(2, &["discover", "--root", &root, "--catalog", "x", "--schema", "y"]);
        shell.run_badly(2, &["discover", "--unity", "https://x", "--schema", "y"]);
        shell.run_badly(2, &["discover", "--root", &root, "--limit", "0"]);
        let said = shell.run_badly(1, &["discover", "--root", "s3://elsewhere/x"]);
        assert!(said.contains("\n  url: ") && said.contains("add a [[storage]]"), "{said}");
        let said = shell.run_badly(1, &["discover", "--unity", "https://uc.example.org"]);
        assert!(said.contains("discovery.unity_urls"), "{said}");
        let missing = folder.join("missing");
        let said = shell.run_badly(
            1,
            &["discover", "--unity", "https://uc.example.org", "--unity-token-file", missing.to_str().unwrap()],
        );
        assert!(said.contains("missing"), "{said}");
        shell.run_well(&["share", "put", "insurer"]);
        let bindings = "[{\"role\": \"owner\", \"scope\": \"share:insurer\"}]";
        shell.run_well(&["operator", "put", "eve", "--bindings", bindings]);
        let token = shell.json(&["operator", "issue-token", "eve"]);
        let eve = Shell::new(&weir.url, folder, token["token"].as_str().unwrap());
        let drafted = folder.join("of-eve");
        eve.run_badly(3, &["discover", "--root", &root, "--write", drafted.to_str().unwrap()]);
        assert!(!drafted.exists());
        let said: Value =
            serde_json::from_str(&eve.run_badly(3, &["discover", "--root", &root, "--output", "json"])).unwrap();
        assert_eq!(said["code"], "forbidden");
    })
    .await;
}
