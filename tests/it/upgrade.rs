//! This release takes over what earlier releases left: the folders in `tests/fixtures/releases`, each made by its
//! release's binary.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    replicas::cluster::{Cluster, GRANTS},
    support::{
        process::{Installation, OPERATOR_TOKEN, Weir},
        s3::{Key, S3Server},
    },
};

/// Members that change by themselves, or are known only once a table was looked at.
const VOLATILE: [&str; 2] = ["last_used_at", "schema_hold"];
/// The times that change a state, and the states that they change.
const ENDS: [&str; 4] = ["valid_until", "review_at", "expires_at", "activation_expires_at"];
const MOVING: [&str; 4] = ["active", "expiring", "scheduled", "pending"];

/// What each release left on one kind of database, oldest first.
fn left_behind(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/releases");
    let mut releases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().join(kind)).collect();
    releases.sort();
    assert!(!releases.is_empty());
    releases
}

/// An installation on what a release left, with the S3 server that holds its tables, copies and export.
struct Left {
    installation: Installation,
    s3: S3Server,
    made: Value,
    /// Whether the release called shared objects tables in its trail.
    calls_objects_tables: bool,
}

impl Left {
    async fn of(release: &Path, installation: Installation) -> Self {
        let s3 = S3Server::start().await;
        for bucket in ["lake", "copies", "audit"] {
            s3.put_files(bucket, &release.join(bucket)).await;
        }
        let options = s3.options_of(Key::Owner);
        let mut installation = installation.exporting_to("s3://audit", &options);
        let key = installation.folder.path().join("weir.key");
        fs::copy(release.join("weir.key"), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        installation.configure(&format!(
            "[operators]\nkeep_bootstrap_token = true\n[views]\nroot = \"s3://copies\"\noptions = {}\n\
             [[storage]]\nname = \"fixture\"\nurl = \"s3://lake\"\noptions = {}\n",
            inline(&options),
            inline(&options)
        ));
        let made = serde_json::from_slice(&fs::read(release.join("made.json")).unwrap()).unwrap();
        let of = release.parent().unwrap().file_name().unwrap().to_str().unwrap();
        Self { installation, s3, made, calls_objects_tables: ["0.1.0", "0.1.1"].contains(&of) }
    }

    /// Checks that a server serves everything under the same ids, etags and tokens, and that the trail is whole.
    async fn goes_on(&self, mut weir: Weir) {
        self.has_every_noun(&weir).await;
        self.knows_every_operator(&weir).await;
        self.has_reports(&weir).await;
        for (read, files) in self.made["reads"].as_object().unwrap() {
            let (who, table) = read.split_once('/').unwrap();
            let answered = self.query(&weir, who, table).await.unwrap();
            let rows = |files: &Value| {
                let rows = files.as_array().unwrap().iter().map(|file| file[1].as_u64().unwrap());
                rows.sum::<u64>()
            };
            assert_eq!(rows(&answered), rows(files), "{read}");
        }
        for (read, code) in self.made["denied"].as_object().into_iter().flatten() {
            let (who, table) = read.split_once('/').unwrap();
            let answer = self.ask(&weir, who, table).await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{read}");
            assert_eq!(answer.json::<Value>().await.unwrap()["errorCode"], *code, "{read}");
        }
        for (who, status) in [("etl", 200), ("rotated", 200), ("revoked", 401), ("suspended", 403), ("gone", 401)] {
            assert_eq!(self.list(&weir, who).await.as_u16(), status, "{who}");
        }
        let grants = weir.admin(Method::GET, "/grants?share=insurer&recipient=acme", Value::Null).await;
        let grant = grants["items"][0]["id"].as_str().unwrap();
        weir.admin(Method::POST, &format!("/grants/{grant}/revoke"), json!({"reason": "a test"})).await;
        assert_eq!(self.query(&weir, "acme", "claims").await.unwrap_err(), StatusCode::FORBIDDEN);

        self.finds_what_was_about_an_object(&weir).await;
        let feed = weir.feed().await;
        assert!(feed.iter().enumerate().all(|(at, event)| event["seq"] == json!(at + 1)));
        weir.stop();
        assert!(self.installation.run_well(&["audit", "verify"]).contains("the same as"));
    }

    /// Sees that events about a shared object are found, those that called it a table and those that do not.
    async fn finds_what_was_about_an_object(&self, weir: &Weir) {
        let object = weir.admin(Method::GET, "/shares/insurer/objects/claims/claims", Value::Null).await["id"].clone();
        let id = object.as_str().unwrap();
        let found = async |about: &str| {
            let path = format!("/audit?{about}&order=asc&max_results=1000");
            weir.admin(Method::GET, &path, Value::Null).await["items"].as_array().unwrap().clone()
        };
        let events = found(&format!("object={id}")).await;
        assert_eq!(events[0]["action"], "object.create");
        assert!(events.is_sorted_by_key(|event| event["seq"].as_i64().unwrap()));
        assert_eq!(found("share=insurer&table=claims.claims").await, events);
        let (new, old): (Vec<_>, Vec<_>) = events.iter().partition(|event| event["registered_table"].is_string());
        assert!(old.iter().all(|event| event["table_id"] == object && event.get("object_id").is_none()));
        assert!(new.iter().all(|event| event["object_id"] == object && event["table_id"] != object));
        assert_eq!(!old.is_empty(), self.calls_objects_tables);
        for (events, kind, is_there) in [(old, "table", self.calls_objects_tables), (new, "object", true)] {
            let reads: Vec<_> = events.iter().filter(|event| event["action"] == "table.query").collect();
            assert!(reads.iter().all(|event| event["object"]["kind"] == kind), "{kind}");
            assert_eq!(!reads.is_empty(), is_there, "{kind}");
        }
    }

    /// What sets a release's database back to a checkpoint before partners were suspended and revoked, as a backup of then
    /// would.
    fn set_back(release: &Path) -> String {
        let mut events = Vec::new();
        let mut checkpoints = Vec::new();
        for entry in fs::read_dir(release.join("audit/events")).unwrap() {
            let path = entry.unwrap().path();
            checkpoints.push(path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap());
            let text = fs::read_to_string(path).unwrap();
            events.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()));
        }
        let suspended = events.iter().map(|event| match event {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            event => event.clone(),
        });
        let suspended = suspended.filter(|event: &Value| event["action"] == "recipient.suspend");
        let suspended = suspended.map(|event| event["seq"].as_i64().unwrap()).min().unwrap();
        let seq = checkpoints.into_iter().filter(|seq| *seq < suspended).max().unwrap();
        format!(
            "UPDATE tokens SET revoked_at = NULL WHERE id IN \
             (SELECT token_id FROM audit_events WHERE action = 'token.revoke' AND seq > {seq}); \
             DELETE FROM audit_personal WHERE seq > {seq}; DELETE FROM audit_events WHERE seq > {seq}; \
             DELETE FROM audit_checkpoints WHERE seq > {seq}; \
             UPDATE audit_head SET seq = {seq}, hash = (SELECT hash FROM audit_events WHERE seq = {seq}); \
             UPDATE recipients SET state = 'active';"
        )
    }

    /// Sees that a server starts frozen on a database that was set back, with everything revoked again that its release
    /// recorded as revoked.
    async fn is_recovered(&self, mut weir: Weir) {
        assert_eq!(self.list(&weir, "acme").await, StatusCode::FORBIDDEN, "everything is frozen");
        weir.admin(Method::POST, "/unfreeze", json!({"reason": "a test"})).await;
        for (who, status) in [("acme", 200), ("revoked", 401), ("suspended", 403), ("gone", 401)] {
            assert_eq!(self.list(&weir, who).await.as_u16(), status, "{who}");
        }
        let recovered = weir.admin(Method::GET, "/audit?action=audit.recover", Value::Null).await;
        assert_eq!(recovered["items"][0]["change"]["is_fork"], false);
        weir.stop();
        assert!(self.installation.run_well(&["audit", "verify"]).contains("the same as"));
    }

    /// Sees that each item of each listing is as the release answered it; what this one adds is no matter.
    async fn has_every_noun(&self, weir: &Weir) {
        for (path, items) in self.made["nouns"].as_object().unwrap() {
            let more = if path.contains('?') { '&' } else { '?' };
            let listed = weir.admin(Method::GET, &format!("{path}{more}max_results=1000"), Value::Null).await;
            let listed = listed["items"].as_array().unwrap();
            for item in items.as_array().unwrap() {
                let found = listed.iter().find(|found| found["id"] == item["id"]);
                let found = found.unwrap_or_else(|| panic!("{path} lacks {item}"));
                // What grants referred to before they named agreements is one of its own now, which decides.
                let refers = path == "/grants" && item["agreement"].is_object() && item.get("agreements").is_none();
                assert!(!refers || found["agreements"].as_array().is_some_and(|named| named.len() == 1), "{found}");
                for (field, value) in item.as_object().unwrap() {
                    if !(VOLATILE.contains(&field.as_str()) || field == "state" && has_moved(item)) {
                        assert!(says(&found[field], value), "{path}: {field} of {item}, now {}", found[field]);
                    }
                }
            }
        }
    }

    /// Sees that each operator's token is still that operator's, with the same roles in the same scopes.
    async fn knows_every_operator(&self, weir: &Weir) {
        for (name, told) in self.made["whoami"].as_object().into_iter().flatten() {
            let token = self.made["operators"][name].as_str().unwrap();
            let answer =
                weir.client.get(format!("{}/api/v1/whoami", weir.url)).bearer_auth(token).send().await.unwrap();
            if told["expires_at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap() <= Utc::now() {
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{name}");
            } else {
                let now: Value = answer.json().await.unwrap();
                assert!(says(&now, told), "{told}, now {now}");
            }
        }
    }

    /// Sees that reports are there byte for byte, with signatures that count.
    async fn has_reports(&self, weir: &Weir) {
        let reports = self.made["nouns"]["/reports"].as_array().into_iter().flatten();
        for report in reports.filter(|report| report["state"] == "ready") {
            let path = format!("/reports/{}", report["id"].as_str().unwrap());
            let folder = self.installation.folder.path().join("report");
            fs::create_dir(&folder).unwrap();
            for file in ["report.html", "report.csv", "report.json", "manifest.json", "manifest.sig"] {
                let url = format!("{}/api/v1{path}/{file}", weir.url);
                let answer = weir.client.get(url).bearer_auth(OPERATOR_TOKEN).send().await.unwrap();
                fs::write(folder.join(file), answer.error_for_status().unwrap().bytes().await.unwrap()).unwrap();
            }
            let key = self.installation.run_well(&["audit", "key"]);
            let verify = ["report", "verify", folder.to_str().unwrap(), "--key", key.trim()];
            assert!(self.installation.run_well(&verify).starts_with("verified the report"));
        }
    }

    fn token(&self, who: &str) -> &str {
        self.made["tokens"][who].as_str().unwrap()
    }

    async fn list(&self, weir: &Weir, who: &str) -> StatusCode {
        let request = weir.client.get(format!("{}/delta-sharing/shares", weir.url)).bearer_auth(self.token(who));
        request.send().await.unwrap().status()
    }

    async fn ask(&self, weir: &Weir, who: &str, table: &str) -> Response {
        let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/{table}/query", weir.url);
        weir.client.post(url).bearer_auth(self.token(who)).json(&json!({})).send().await.unwrap()
    }

    /// The files in a query's answer as `[size, rows]`.
    async fn query(&self, weir: &Weir, who: &str, table: &str) -> Result<Value, StatusCode> {
        let answer = self.ask(weir, who, table).await;
        if !answer.status().is_success() {
            return Err(answer.status());
        }
        let text = answer.text().await.unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let files = lines.filter(|line| line.get("file").is_some()).map(|line| {
            let stats: Value = serde_json::from_str(line["file"]["stats"].as_str().unwrap()).unwrap();
            json!([line["file"]["size"], stats["numRecords"]])
        });
        Ok(files.collect())
    }
}

/// Whether time has changed the state of an item since.
fn has_moved(item: &Value) -> bool {
    let has_passed = |end: &&str| {
        let end = item[*end].as_str().map(|end| end.parse::<DateTime<Utc>>().unwrap());
        end.is_some_and(|end| end <= Utc::now())
    };
    MOVING.iter().any(|state| item["state"] == *state) && ENDS.iter().any(has_passed)
}

#[test]
fn time_alone_moves_a_state_and_never_one_that_has_ended() {
    let (past, later) = ("2026-01-01T00:00:00Z", "9999-01-01T00:00:00Z");
    assert!(has_moved(&json!({"state": "active", "valid_until": past})));
    assert!(has_moved(&json!({"state": "expiring", "valid_until": null, "review_at": past})));
    assert!(has_moved(&json!({"state": "pending", "expires_at": null, "activation_expires_at": past})));
    assert!(!has_moved(&json!({"state": "pending", "expires_at": null, "activation_expires_at": later})));
    assert!(!has_moved(&json!({"state": "revoked", "valid_until": past})));
    assert!(!has_moved(&json!({"state": "suspended"})));
}

/// Whether `now` contains everything that `before` had.
fn says(now: &Value, before: &Value) -> bool {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            before.iter().all(|(member, value)| now.get(member).is_some_and(|now| says(now, value)))
        }
        (Value::Array(now), Value::Array(before)) => {
            now.len() == before.len() && now.iter().zip(before).all(|(now, before)| says(now, before))
        }
        _ => now == before,
    }
}

/// An inline table in TOML.
fn inline(options: &BTreeMap<String, String>) -> String {
    let options: Vec<String> = options.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
    format!("{{ {} }}", options.join(", "))
}

/// Checks that this release leaves a database alone that a newer one has migrated.
fn refuses_a_newer_one(installation: &Installation) {
    for command in ["serve", "migrate"] {
        let refused = installation.run(&[command]);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("9999") && told.contains("newer"), "{told}");
    }
}

/// A release's SQLite database, in an installation, with the file beside it that has the surrogates.
fn copied(release: &Path, installation: &Installation) -> PathBuf {
    let file = installation.folder.path().join("weir.db");
    fs::copy(release.join("weir.db"), &file).unwrap();
    let beside = release.join("weir.db.surrogates");
    if beside.exists() {
        fs::copy(beside, file.with_extension("db.surrogates")).unwrap();
    }
    file
}

/// The digests that have surrogates in the file beside a SQLite database, with their random bytes.
async fn surrogates(file: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let file = file.with_extension("db.surrogates");
    if !file.exists() {
        return Vec::new();
    }
    let mut db = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await.unwrap();
    let kept: Vec<_> =
        sqlx::query_as("SELECT digest, random FROM surrogates ORDER BY digest").fetch_all(&mut db).await.unwrap();
    assert!(!kept.is_empty());
    db.close().await.unwrap();
    kept
}

/// A migration of a future release.
const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
    SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_database_of_each_release_is_migrated_by_serving() {
    for release in left_behind("sqlite") {
        let installation = Installation::sqlite();
        let file = copied(&release, &installation);
        let left = Left::of(&release, installation).await;
        let surrogates = surrogates(&file).await;
        left.goes_on(left.installation.start().await).await;
        assert_eq!(self::surrogates(&file).await, surrogates);

        let mut db = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&file)).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(NEWER.to_owned())).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
        refuses_a_newer_one(&left.installation);
        drop(left.s3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_each_release_is_brought_up_to_its_export() {
    for release in left_behind("sqlite") {
        let installation = Installation::sqlite();
        let file = copied(&release, &installation);
        let mut db = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&file)).await.unwrap();
        let set_back = format!("DROP TRIGGER audit_events_no_delete; {}", Left::set_back(&release));
        sqlx::raw_sql(AssertSqlSafe(set_back)).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
        let left = Left::of(&release, installation).await;
        left.is_recovered(left.installation.start().await).await;
    }
    let Some(cluster) = Cluster::start().await else { return };
    for release in left_behind("postgres") {
        let left = refused(&cluster, &release).await;
        let lifted = "ALTER TABLE audit_events DISABLE TRIGGER USER;";
        cluster.admin_as("weir_owner", "weir", &format!("{lifted} {}", Left::set_back(&release))).await;
        left.installation.run_well(&["migrate"]);
        cluster.admin("weir", GRANTS).await;
        left.is_recovered(left.installation.start().await).await;
    }
}

/// The number of this release's last migration.
fn newest_migration() -> i64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.split('_').next().unwrap().parse().unwrap()).max().unwrap()
}

/// A release's database on a cluster, whose server refuses to serve it as it is, unless there is nothing to migrate.
async fn refused(cluster: &Cluster, release: &Path) -> Left {
    cluster.admin("postgres", "DROP DATABASE weir WITH (FORCE)").await;
    cluster.admin("postgres", "CREATE DATABASE weir OWNER weir_owner").await;
    let dump = fs::read_to_string(release.join("weir.sql")).unwrap();
    cluster.admin_as("weir_owner", "weir", &dump).await;
    cluster.admin("weir", "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO weir_server").await;
    let migrate = format!("migrate_url = \"{}\"", cluster.url("weir_owner"));
    let left = Left::of(release, Installation::on(&cluster.url("weir_server"), &migrate)).await;
    let mut db = PgConnection::connect(&cluster.url("weir_owner")).await.unwrap();
    let migrated: i64 =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut db).await.unwrap();
    db.close().await.unwrap();
    if migrated == newest_migration() {
        return left;
    }
    let refused = left.installation.run(&["serve"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("weir migrate") && told.contains("weir serve --migrate"), "{told}");
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_database_of_each_release_is_migrated_by_its_owner() {
    let Some(cluster) = Cluster::start().await else { return };
    for release in left_behind("postgres") {
        let left = refused(&cluster, &release).await;
        left.installation.run_well(&["migrate"]);
        cluster.admin("weir", GRANTS).await;
        left.goes_on(left.installation.start().await).await;

        cluster.admin("weir", NEWER).await;
        refuses_a_newer_one(&left.installation);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_database_of_each_release_is_migrated_by_a_server_that_is_told_to() {
    let Some(cluster) = Cluster::start().await else { return };
    for release in left_behind("postgres") {
        let left = refused(&cluster, &release).await;
        // The server's role keeps its rights, and gets those on new tables once everything is migrated.
        cluster.admin("weir", "ALTER DEFAULT PRIVILEGES FOR ROLE weir_owner GRANT ALL ON TABLES TO weir_server").await;
        left.goes_on(left.installation.start_with(&["--migrate"]).await).await;
    }
}

/// Every row of the declared nouns, with the columns that a release reads; JSON texts are parsed.
async fn declared(cluster: &Cluster) -> Value {
    let mut db = PgConnection::connect(&cluster.url("weir_owner")).await.unwrap();
    let mut declared = json!({});
    for (noun, key) in [
        ("shares", "id"),
        ("tables", "id"),
        ("columns", "id"),
        ("objects", "id"),
        ("views", "id"),
        ("view_versions", "view_id, version"),
        ("recipients", "id"),
        ("tokens", "id"),
        ("grants", "id"),
        ("grant_agreements", "grant_id, agreement_id"),
        ("agreements", "id"),
        ("agreement_terms", "agreement_id"),
        ("agreement_moves", "id"),
        ("purposes", "id"),
        ("use_cases", "id"),
        ("operators", "id"),
        ("operator_tokens", "id"),
        ("operator_groups", "id"),
        ("operator_group_members", "member, group_id"),
        ("operator_identities", "id"),
        ("surrogate_sets", "id"),
        ("surrogates", "set_id, digest"),
        ("reports", "id"),
        ("jobs", "id"),
    ] {
        let rows = format!("SELECT jsonb_agg(to_jsonb(noun) ORDER BY {key})::text FROM {noun} noun");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(&mut db).await.unwrap();
        declared[noun] = serde_json::from_str(&rows).unwrap();
    }
    db.close().await.unwrap();
    let rows = declared.as_object_mut().unwrap().values_mut().flat_map(|rows| rows.as_array_mut().unwrap());
    for column in rows.flat_map(|row| row.as_object_mut().unwrap().values_mut()) {
        if let Some(json) = column.as_str().and_then(|text| serde_json::from_str(text).ok()) {
            *column = json;
        }
    }
    declared
}

/// Servers of the previous release keep reading while they are replaced.
#[tokio::test]
async fn migrations_leave_all_columns_in_place_that_the_release_before_reads() {
    let Some(cluster) = Cluster::start().await else { return };
    let release = left_behind("postgres").pop().unwrap();
    let left = refused(&cluster, &release).await;
    let before = declared(&cluster).await;
    left.installation.run_well(&["migrate"]);
    let after = declared(&cluster).await;
    for (noun, rows) in before.as_object().unwrap() {
        assert!(says(&after[noun], rows), "{noun}: {rows}, now {}", after[noun]);
    }
}

/// PostgreSQL cannot parse JSON with a NUL, but stores it as text.
#[tokio::test]
async fn a_nul_that_an_earlier_server_took_is_migrated_with_its_text() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut releases = left_behind("postgres").into_iter();
    let release = releases.find(|release| release.parent().unwrap().ends_with("0.1.1")).unwrap();
    let left = refused(&cluster, &release).await;
    let taken = r#"
        UPDATE shares SET properties = '{"\u0000":"a\u0000b"}';
        UPDATE recipients SET properties = '{"plans":["\u0000"]}';
        UPDATE views SET draft = '{"columns":[],"row_filter":"a = ''\u0000''","layout":null}';
    "#;
    cluster.admin("weir", taken).await;
    left.installation.run_well(&["migrate"]);
    let mut db = PgConnection::connect(&cluster.url("weir_owner")).await.unwrap();
    for (noun, member, value) in [
        ("shares", "properties", json!({"\0": "a\0b"})),
        ("recipients", "properties", json!({"plans": ["\0"]})),
        ("views", "row_filter", json!("a = '\0'")),
    ] {
        let specs = format!("SELECT spec FROM {noun}");
        let specs: Vec<String> = sqlx::query_scalar(AssertSqlSafe(specs)).fetch_all(&mut db).await.unwrap();
        assert!(!specs.is_empty(), "{noun}");
        for spec in specs {
            assert_eq!(serde_json::from_str::<Value>(&spec).unwrap()[member], value, "{noun}");
        }
    }
}
