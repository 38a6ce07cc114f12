//! `weir doctor`: each dependency is broken in turn and must be named.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use axum::{Router, extract::RawQuery, http::HeaderMap};
use chrono::{SubsecRound, TimeDelta, Utc};
use http::{StatusCode, header};
use object_store::{ObjectStoreExt, path::Path as ObjectPath};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use uuid::Uuid;
use weir::{
    domain::{
        catalog::table::{Table, TableSpec},
        core::name::{Name, NameKind},
    },
    store::Db,
};

use crate::support::{
    app::{Setup, TestApp},
    mmdb::country_file,
    postgres::TestDatabase,
    s3::{AUDIT_BUCKET, BUCKET, COPIES_BUCKET, Key, S3Server},
};

/// A server's configuration and files, with nothing wrong.
struct Ground {
    folder: TempDir,
    settings: Value,
}

/// The output of doctor.
struct Said {
    code: Option<i32>,
    findings: Vec<Value>,
    output: Output,
}

impl Ground {
    /// Uses the database at `url`, with a key, and a lake in a folder.
    fn new(url: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let key = fs::File::options().write(true).create_new(true).mode(0o600).open(folder.path().join("weir.key"));
        std::io::Write::write_all(&mut key.unwrap(), &[7; 32]).unwrap();
        fs::create_dir_all(folder.path().join("lake/claims")).unwrap();
        fs::write(folder.path().join("lake/claims/file.parquet"), "bytes").unwrap();
        let place = |name: &str| format!("file://{}/{name}", folder.path().display());
        let settings = json!({
            "server": {"listen": "127.0.0.1:0"},
            "database": {"url": url},
            "secrets": {"key_files": [folder.path().join("weir.key")]},
            "storage": [{"name": "lake", "url": place("lake")}],
            "views": {"root": place("views")},
            "audit": {"export": {"url": place("export")}},
        });
        Self { folder, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets the value at one place of the configuration.
    fn with(mut self, place: &str, value: Value) -> Self {
        *self.settings.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value;
        self
    }

    fn examine(&self, arguments: &[&str]) -> Said {
        let config = self.path("weir.toml");
        fs::write(&config, toml::to_string(&self.settings).unwrap()).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["doctor", "--output", "json", "--config"]).arg(config).args(arguments).env_clear();
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let said: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        Said { code: output.status.code(), findings: said["checks"].as_array().unwrap().clone(), output }
    }

    /// Runs doctor and expects only this check to fail, with `detail`.
    #[track_caller]
    fn fails(&self, check: &str, detail: &str) -> Said {
        let said = self.examine(&[]);
        assert_eq!(said.failed(), [check], "{:#?}", said.findings);
        let finding = said.findings.iter().find(|finding| finding["status"] == "failed").unwrap();
        assert!(finding["detail"].as_str().unwrap().contains(detail), "{finding}");
        assert!(finding["remedy"].as_str().is_some_and(|remedy| remedy.len() > 10), "{finding}");
        assert_eq!(said.code, Some(1));
        said
    }
}

impl Said {
    fn failed(&self) -> Vec<&str> {
        let failed = self.findings.iter().filter(|finding| finding["status"] == "failed");
        failed.map(|finding| finding["check"].as_str().unwrap()).collect()
    }

    fn of(&self, check: &str) -> &Value {
        self.findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{check}"))
    }

    #[track_caller]
    fn tells_nothing(&self, secret: &str) {
        let Output { stdout, stderr, .. } = &self.output;
        let text = format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
        assert!(!text.contains(secret), "{text}");
    }
}

fn s3_storage(options: impl serde::Serialize) -> Value {
    json!([{"name": "lake", "url": format!("s3://{BUCKET}"), "options": options}])
}

async fn sqlite() -> (TestDatabase, Ground) {
    let database = TestDatabase::sqlite().await;
    let ground = Ground::new(database.url());
    (database, ground)
}

async fn s3_with_an_object() -> S3Server {
    let server = S3Server::start().await;
    server.store(BUCKET).put(&ObjectPath::from("claims/file.parquet"), "bytes".into()).await.unwrap();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_with_what_is_well() {
    let server = s3_with_an_object().await;
    for database in TestDatabase::each().await {
        let ground = Ground::new(database.url());
        let said = ground.examine(&[]);
        assert_eq!((said.code, said.failed()), (Some(0), vec![]), "{:#?}", said.findings);
        assert!(said.of("storage lake")["detail"].as_str().unwrap().contains("through this server"));
        assert_eq!(fs::read_dir(ground.path("views")).unwrap().count(), 0, "the probe is gone");

        let ground = ground.with("/storage", s3_storage(server.options()));
        let ground = ground.with(
            "/views",
            json!({"root": format!("s3://{COPIES_BUCKET}"), "options": server.options_of(Key::Copies)}),
        );
        let export = json!({"url": format!("s3://{AUDIT_BUCKET}"), "options": server.options_of(Key::Audit)});
        let ground = ground.with("/audit/export", export);
        let said = ground.examine(&[]);
        assert_eq!((said.code, said.failed()), (Some(0), vec![]), "{:#?}", said.findings);
        assert!(said.of("storage lake")["detail"].as_str().unwrap().contains("by a signed URL"));
        assert!(said.of("clock")["detail"].as_str().unwrap().contains("storage lake"));
        assert_eq!(said.of("clock")["detail"].as_str().unwrap().contains("the database"), database.file().is_none());
        said.tells_nothing("test-secret-key");

        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.args(["doctor", "--config"]).arg(ground.path("weir.toml")).env_clear().output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().any(|line| line.starts_with("ok    database")), "{text}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_wrong_is_told_problem_by_problem() {
    let (_database, ground) = sqlite().await;
    let ground = ground.with("/server", json!({"listen": "nowhere", "public_url": "ftp://x"}));
    let said = ground.examine(&[]);
    assert_eq!(said.code, Some(1));
    assert!(!said.failed().is_empty() && said.failed().iter().all(|check| *check == "configuration"));
    assert!(said.findings.iter().any(|finding| finding["detail"].as_str().unwrap().contains("server.listen")));
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_named() {
    let (database, ground) = sqlite().await;
    fs::set_permissions(ground.path("weir.key"), fs::Permissions::from_mode(0o644)).unwrap();
    ground.fails("keys", "open to other users");
    fs::set_permissions(ground.path("weir.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(ground.path("weir.key"), "short").unwrap();
    ground.fails("keys", "5 bytes");
    fs::remove_file(ground.path("weir.key")).unwrap();
    ground.fails("keys", "does not exist");
    assert!(!ground.path("weir.key").exists(), "doctor makes no key");
    drop(database);
}

#[tokio::test]
async fn a_key_that_is_not_the_database_s_is_named() {
    for database in TestDatabase::each().await {
        let mut tx = database.begin().await.unwrap();
        tx.remember_key_fingerprint(&"0".repeat(32), Utc::now()).await.unwrap();
        tx.commit().await.unwrap();
        Ground::new(database.url()).fails("key age", &"0".repeat(32));
    }
}

#[tokio::test]
async fn settings_that_are_off_are_a_warning_that_says_since_when() {
    for database in TestDatabase::each().await {
        let mut ground = Ground::new(database.url());
        let said = ground.examine(&[]);
        let finding = said.of("safeguards");
        assert_eq!((said.code, &finding["status"]), (Some(0), &json!("warning")), "{finding}");
        let detail = finding["detail"].as_str().unwrap();
        assert!(detail.contains("sharing.require_purpose = false (from the next start on)"), "{detail}");
        assert!(detail.contains("governance.separation = off") && detail.contains("sharing.raw = allow"), "{detail}");
        let since = "2026-01-02T03:04:05Z".parse().unwrap();
        let mut tx = database.begin().await.unwrap();
        tx.insert_safeguard("sharing.require_purpose", since, "false", true).await.unwrap();
        tx.commit().await.unwrap();
        let told = ground.examine(&[]).of("safeguards")["detail"].as_str().unwrap().to_owned();
        assert!(told.contains("sharing.require_purpose = false (since 2026-01-02T03:04:05Z)"), "{told}");
        ground.settings["governance"] = json!({"separation": "enforced", "require_classification": true});
        ground.settings["sharing"] = json!({"require_purpose": true, "require_agreement": true, "raw": "refuse"});
        let said = ground.examine(&[]);
        assert_eq!(said.of("safeguards")["status"], "ok", "{:#?}", said.findings);
    }
}

#[tokio::test]
async fn an_old_key_is_a_warning() {
    use weir::domain::core::seal::RootKey;
    for database in TestDatabase::each().await {
        let fingerprint = RootKey::new(zeroize::Zeroizing::new([7; 32])).fingerprint();
        let mut tx = database.begin().await.unwrap();
        tx.remember_key_fingerprint(&fingerprint, Utc::now() - TimeDelta::days(1_000)).await.unwrap();
        tx.commit().await.unwrap();
        let said = Ground::new(database.url()).examine(&[]);
        assert_eq!((said.code, &said.of("key age")["status"]), (Some(0), &json!("warning")));
        assert!(said.of("key age")["detail"].as_str().unwrap().contains("1000 days"));
    }
}

#[tokio::test]
async fn secrets_that_others_can_read_are_named() {
    let (database, ground) = sqlite().await;
    let file = database.file().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    ground.fails("secret files", "weir.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(ground.path("url"), database.url()).unwrap();
    fs::set_permissions(ground.path("url"), fs::Permissions::from_mode(0o644)).unwrap();
    let file = ground.path("url");
    // Orchestrators mount secrets like this; the server only warns too.
    let said = ground.with("/database", json!({"url_file": file})).examine(&[]);
    assert_eq!((said.code, &said.of("secret files")["status"]), (Some(0), &json!("warning")));
    assert!(said.of("secret files")["detail"].as_str().unwrap().contains("url_file"));
}

#[tokio::test]
async fn a_database_that_is_away_or_of_another_schema_is_named() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing.db");
    let ground = Ground::new(&format!("sqlite://{}", missing.display()));
    ground.fails("database", "does not exist");
    assert!(!missing.exists(), "doctor makes no database");

    let empty = folder.path().join("empty.db");
    fs::File::options().write(true).create_new(true).mode(0o600).open(&empty).unwrap();
    Ground::new(&format!("sqlite://{}", empty.display())).fails("database", "this weir needs");

    let away = Ground::new("postgres://weir:hush-hush@127.0.0.1:1/weir").fails("database", "cannot be reached");
    away.tells_nothing("hush-hush");
    assert_eq!(away.of("checkpoint")["status"], "skipped");
}

#[tokio::test]
async fn a_role_that_may_not_write_is_named() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let Db::Postgres { pool: owner, .. } = &*database else { unreachable!("roles are PostgreSQL's") };
    let role = format!("weir_reader_{}", Uuid::new_v4().simple());
    let sql = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'hush-hush'; GRANT USAGE ON SCHEMA public TO {role}; \
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(owner).await.unwrap();
    let options: PgConnectOptions = database.url().parse().unwrap();
    let url = sqlx::ConnectOptions::to_url_lossy(&options.username(&role).password("hush-hush")).to_string();
    let said = Ground::new(&url).examine(&[]);
    let sql = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(owner).await.unwrap();
    assert_eq!((said.code, said.failed()), (Some(1), vec!["database"]), "{:#?}", said.findings);
    assert!(said.of("database")["remedy"].as_str().unwrap().contains("postgres-roles.sql"));
    said.tells_nothing("hush-hush");
}

/// A store that answers every caller, with a clock that is an hour ahead.
async fn store_of_tomorrow() -> String {
    let answer = |RawQuery(query): RawQuery| async move {
        let ahead = (Utc::now() + TimeDelta::hours(1)).to_rfc2822().replace("+0000", "GMT");
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, ahead.parse().unwrap());
        headers.insert(header::CONTENT_TYPE, "application/xml".parse().unwrap());
        let listing = "<?xml version=\"1.0\"?><ListBucketResult><Contents><Key>claims/file</Key>\
            <LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>1</Size></Contents>\
            </ListBucketResult>";
        let is_listing = query.is_some_and(|query| query.contains("list-type=2"));
        (headers, if is_listing { listing } else { "x" })
    };
    serve(Router::new().fallback(answer)).await
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

fn s3_options(address: &str) -> Value {
    json!({
        "aws_endpoint": format!("http://{address}"), "aws_allow_http": "true", "aws_region": "us-east-1",
        "aws_access_key_id": "key", "aws_secret_access_key": "hush-hush",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_differs_is_named() {
    let ((_database, ground), address) = (sqlite().await, store_of_tomorrow().await);
    let said = ground.with("/storage", s3_storage(s3_options(&address))).fails("clock", "behind storage lake");
    assert_eq!(said.of("storage lake")["status"], "ok");
    said.tells_nothing("hush-hush");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_away_refuses_or_hangs_is_named() {
    let (_database, ground) = sqlite().await;
    fs::remove_dir_all(ground.path("lake")).unwrap();
    ground.fails("storage lake", "cannot be opened");

    let mut server = s3_with_an_object().await;
    let mut options = server.options();
    options.insert("aws_secret_access_key".to_owned(), "hush-hush".to_owned());
    let ground = ground.with("/storage", s3_storage(options));
    ground.fails("storage lake", "refuses access").tells_nothing("hush-hush");
    // It may list and read the tables' bucket, but this is another.
    let other = json!([{"name": "lake", "url": format!("s3://{COPIES_BUCKET}"), "options": server.options()}]);
    let ground = ground.with("/storage", other);
    ground.fails("storage lake", "refuses access");

    let ground = ground.with("/storage", s3_storage(server.options()));
    assert_eq!(ground.examine(&[]).code, Some(0));
    server.hold();
    let began = Instant::now();
    ground.fails("storage lake", "no answer within 10 seconds");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    server.release();
    server.stop().await;
    let said = ground.examine(&[]);
    assert_eq!((said.code, said.failed()), (Some(1), vec!["storage lake"]));
}

#[tokio::test]
async fn a_table_whose_log_is_gone_is_named_with_its_storage() {
    for database in TestDatabase::each().await {
        let ground = Ground::new(database.url());
        let at = Utc::now().trunc_subsecs(6);
        let table = Table {
            id: Uuid::now_v7(),
            name: Name::parse(NameKind::RegisteredTable, "claims.gone").unwrap(),
            spec: TableSpec {
                location: format!("file://{}/gone", ground.path("lake").display()),
                description: None,
                owner: None,
                steward: None,
                domain: None,
                allowed_purposes: None,
            },
            delta_id: "d".into(),
            created_at: at,
            updated_at: at,
            revision: 1,
        };
        let mut tx = database.begin().await.unwrap();
        tx.insert_table(&table).await.unwrap();
        tx.commit().await.unwrap();
        ground.fails("storage lake", "_delta_log");
        fs::create_dir_all(ground.path("lake/gone/_delta_log")).unwrap();
        fs::write(ground.path("lake/gone/_delta_log/00000000000000000000.json"), "{}").unwrap();
        assert!(ground.examine(&[]).of("storage lake")["detail"].as_str().unwrap().contains("a table's log"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_copies_that_cannot_be_written_is_named() {
    let ((_database, ground), server) = (sqlite().await, S3Server::start().await);
    fs::write(ground.path("file"), "no folder").unwrap();
    let root = format!("file://{}", ground.path("file").display());
    let ground = ground.with("/views/root", json!(root));
    ground.fails("views", "cannot be opened");
    let views = json!({"root": format!("s3://{COPIES_BUCKET}"), "options": server.options_of(Key::Copies)});
    let ground = ground.with("/views", views);
    server.set_read_only(true);
    ground.fails("views", "cannot be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_cannot_be_reached_is_named() {
    let ((_database, ground), server) = (sqlite().await, S3Server::start().await);
    let export = |key| json!({"url": format!("s3://{AUDIT_BUCKET}"), "options": server.options_of(key)});
    let ground = ground.with("/audit/export", export(Key::Lake));
    ground.fails("export", "refuses access");
    assert_eq!(ground.with("/audit/export", json!({"url": ""})).examine(&[]).of("export")["status"], "warning");
}

#[tokio::test]
async fn a_trail_that_is_not_sealed_is_named() {
    for database in TestDatabase::each().await {
        let ground = Ground::new(database.url());
        let an_hour_ago = Some(Utc::now().trunc_subsecs(0) - TimeDelta::hours(1));
        let app = TestApp::set_up(database, Setup { starts_at: an_hour_ago, ..Setup::default() });
        app.put("/shares/insurer", json!({})).await.expect(201);
        ground.fails("checkpoint", "have no checkpoint");
        let sealed = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["audit", "checkpoint", "--config"])
            .arg(ground.path("weir.toml"))
            .env_clear()
            .output()
            .unwrap();
        assert!(sealed.status.success(), "{}", String::from_utf8_lossy(&sealed.stderr));
        assert!(ground.examine(&[]).of("checkpoint")["detail"].as_str().unwrap().contains("is sealed"));
        // An export that existed and is gone, as when its disk is not mounted.
        assert_eq!(ground.examine(&[]).of("export")["status"], "ok");
        fs::rename(ground.path("export"), ground.path("elsewhere")).unwrap();
        ground.fails("export", "was exported to it");
        assert!(!ground.path("export").exists(), "what examines makes nothing");
        fs::create_dir(ground.path("export")).unwrap();
        ground.fails("export", "lacks checkpoint");
    }
}

#[tokio::test]
async fn a_folder_of_the_servers_own_that_others_may_open_is_told_and_left_as_it_is() {
    let (_database, ground) = sqlite().await;
    let shared = fs::Permissions::from_mode(0o755);
    let folders = ["views", "export"].map(|name| ground.path(name));
    for folder in &folders {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, shared.clone()).unwrap();
    }
    let said = ground.examine(&[]);
    assert_eq!((said.code, said.failed()), (Some(0), vec![]), "{:#?}", said.findings);
    for check in ["views", "export"] {
        let finding = said.of(check);
        assert_eq!(finding["status"], "warning", "{finding}");
        assert!(finding["detail"].as_str().unwrap().contains("open to other users (mode 755)"), "{finding}");
        assert!(finding["remedy"].as_str().unwrap().contains("chmod 700"), "{finding}");
    }
    // A folder named by mistake may not be the server's own, so its mode is not changed.
    let export = folders[1].to_str().unwrap();
    for arguments in [&["config", "check"][..], &["audit", "verify"], &["audit", "verify", "--export", export]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).arg("--config").arg(ground.path("weir.toml")).env_clear().output().unwrap();
        for folder in &folders {
            let mode = fs::metadata(folder).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o755, "{arguments:?} {}", folder.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_task_that_fails_is_named_with_the_class_of_its_last_error() {
    let (_database, ground) = sqlite().await;
    let metrics = "weir_task_failing{task=\"copies\"} 0\nweir_task_failing{task=\"usage\"} 1\n\
        weir_task_last_error_timestamp_seconds{task=\"copies\",error=\"storage\"} 1790000009\n\
        weir_task_last_error_timestamp_seconds{task=\"usage\",error=\"panic\"} 1790000001\n\
        weir_task_last_error_timestamp_seconds{task=\"usage\",error=\"database_full\"} 1790000002\n";
    let listening = serve(Router::new().fallback(move || async move { metrics })).await;
    ground.with("/server/listen", json!(listening)).fails("tasks", "background tasks usage (database_full)");
}

#[tokio::test]
async fn a_country_file_that_cannot_be_used_is_named() {
    let (_database, mut ground) = sqlite().await;
    assert_eq!(ground.examine(&[]).of("countries")["status"], "skipped");
    let file = ground.path("countries.mmdb");
    fs::write(&file, country_file(&[("198.51.100.0/24", "DE")])).unwrap();
    ground.settings["geography"] = json!({"database_file": file, "mode": "known"});
    let said = ground.examine(&[]);
    let detail = said.of("countries")["detail"].as_str().unwrap();
    assert!(said.failed().is_empty() && detail.contains("Test-Country") && detail.contains("\"known\""), "{detail}");
    fs::write(&file, "half").unwrap();
    ground.fails("countries", "another format");
    fs::remove_file(&file).unwrap();
    ground.fails("countries", "cannot be read");
}

#[tokio::test]
async fn a_disk_without_room_is_named() {
    let (_database, ground) = sqlite().await;
    let said = ground.examine(&["--min-free-mib", "1000000000000"]);
    assert_eq!((said.code, said.failed()), (Some(1), vec!["disk database", "disk views", "disk export"]));
}

/// Writes a certificate for the key `tls.key` of a folder, valid between two times (`YYMMDDHHMMSSZ`).
fn certify(folder: &Path, from: &str, until: &str) {
    let openssl = |arguments: &[&str]| {
        let made = Command::new("openssl").current_dir(folder).args(arguments).output();
        let made = made.expect("this test needs the openssl command");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    // A certificate without extensions would be of version 1, which is refused.
    let authority = "[ca]\ndefault_ca = a\n[a]\ndatabase = issued\nnew_certs_dir = .\ndefault_md = sha256\npolicy = p\n\
        rand_serial = yes\nx509_extensions = e\n[p]\ncommonName = supplied\n[e]\nbasicConstraints = critical, CA:FALSE\n";
    fs::write(folder.join("authority"), authority).unwrap();
    fs::write(folder.join("issued"), "").unwrap();
    openssl(&["req", "-new", "-subj", "/CN=localhost", "-key", "tls.key", "-out", "request"]);
    let itself = ["-config", "authority", "-keyfile", "tls.key", "-in", "request", "-notext", "-out", "tls.crt"];
    openssl(&[&["ca", "-batch", "-selfsign", "-startdate", from, "-enddate", until][..], &itself].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_certificates_that_cannot_be_used_are_named() {
    let (_database, ground) = sqlite().await;
    let answers = Router::new().fallback(|| async { StatusCode::NOT_FOUND });
    let taken = serve(answers).await;
    let ground = ground.with("/server/listen", json!(taken));
    ground.fails("server.listen", "is taken");
    let ready = serve(Router::new().fallback(|| async { "ready\n" })).await;
    assert_eq!(ground.with("/server/listen", json!(ready)).examine(&[]).failed(), Vec::<&str>::new());

    let (_database, ground) = sqlite().await;
    let server =
        json!({"listen": "192.0.2.1:8443", "tls_terminated_upstream": true, "public_url": "https://x.example"});
    let ground = ground.with("/server", server);
    ground.fails("server.listen", "192.0.2.1:8443");
    let server = json!({"listen": "127.0.0.1:0", "public_url": "http://share.example.org"});
    let ground = ground.with("/server", server);
    ground.fails("server.public_url", "in the clear");
    let pem = |name: &str| {
        let path = ground.path(name);
        fs::write(&path, "no certificate").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let tls = json!({"cert_file": pem("tls.crt"), "key_file": pem("tls.key")});
    let ground = ground.with("/server", json!({"listen": "127.0.0.1:0", "tls": tls}));
    ground.fails("tls", "tls.");
    let made = |days: &str| {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", days])
            .args(["-subj", "/CN=localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(ground.path("tls.key"))
            .arg("-out")
            .arg(ground.path("tls.crt"))
            .output()
            .expect("this test needs the openssl command");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    made("30");
    assert_eq!(ground.examine(&[]).of("tls expiry")["status"], "ok");
    made("3");
    let soon = ground.examine(&[]);
    assert_eq!(soon.of("tls expiry")["status"], "warning");
    assert!(soon.of("tls expiry")["detail"].as_str().unwrap().contains("ends in"));
    let folder = ground.path("");
    certify(&folder, "260101000000Z", "260201000000Z");
    ground.fails("tls expiry", "at 2026-02-01T00:00:00Z");
    certify(&folder, "260201000000Z", "260101000000Z");
    ground.fails("tls expiry", "good at no time");
    assert_eq!(soon.of("connections")["status"], "ok");
    // A certificate that is its own authority can be served, but most clients refuse it.
    for (authority, statuses) in [("TRUE", &["warning"][..]), ("FALSE", &[])] {
        let (_database, ground) = sqlite().await;
        let (cert_file, key_file) = (ground.path("self.crt"), ground.path("self.key"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext"])
            .args([&format!("basicConstraints=critical,CA:{authority}"), "-keyout"])
            .args([&key_file, Path::new("-out"), &cert_file])
            .output();
        assert!(made.expect("this test needs the openssl command").status.success());
        let tls = json!({"cert_file": cert_file, "key_file": key_file});
        let said = ground.with("/server", json!({"listen": "127.0.0.1:0", "tls": tls})).examine(&[]);
        let found = said.findings.iter().filter(|finding| finding["check"] == "tls authority");
        assert_eq!(found.map(|finding| &finding["status"]).collect::<Vec<_>>(), statuses, "{:#?}", said.findings);
    }
}
