//! Whatever keeps a command from its server, database or reader is reported once, in one sentence, with the next step.

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use weir::{
    config::TlsFiles,
    http::listen::{Listener, Listeners},
    telemetry::Metrics,
};

use super::{Shell, on_each_database};
use crate::support::postgres::{SERVER_VARIABLE, TestDatabase};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A self-signed certificate for localhost with its key; `authority` is `TRUE` if it may issue others.
fn certificate(folder: &Path, name: &str, authority: &str) -> TlsFiles {
    let (cert_file, key_file) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext"])
        .args([&format!("basicConstraints=critical,CA:{authority}"), "-keyout"])
        .args([&key_file, Path::new("-out"), &cert_file])
        .output()
        .expect("this test needs the openssl command");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    TlsFiles { cert_file, key_file }
}

/// An address that nothing listens on.
fn nobody() -> SocketAddr {
    TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap()
}

/// Serves `GET /api/v1/whoami` and returns the port.
fn serve(tls: Option<TlsFiles>) -> u16 {
    let router = Router::new().route("/api/v1/whoami", get(|| async { Json(json!({"name": "ann"})) }));
    let listeners = Listeners::bind(vec![Listener {
        addr: ANY_PORT,
        router,
        tls,
        connections: 100,
        metrics: Arc::new(Metrics::new([])),
        patience: Duration::from_secs(60),
    }])
    .unwrap();
    let port = listeners.addresses()[0].port();
    tokio::spawn(listeners.serve(std::future::pending(), Duration::from_secs(1)));
    port
}

/// The message, which must be one line that repeats nothing.
#[track_caller]
fn once(said: &str) -> &str {
    let said = said.strip_prefix("weir: ").unwrap_or_else(|| panic!("{said}")).trim_end();
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in ["os error", "at line ", "error sending request", "error returned from database"] {
        assert!(said.matches(word).count() <= 1 && !(word == "at line " && said.contains(word)), "{said}");
    }
    for part in said.split([':', ';', '(']).map(str::trim).filter(|part| part.len() > 12) {
        assert_eq!(said.matches(part).count(), 1, "`{part}` is said twice: {said}");
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let folder = TempDir::new().unwrap();
    let files = certificate(folder.path(), "server", "FALSE");
    let own = certificate(folder.path(), "own", "TRUE");
    let (port, plain, authority) = (serve(Some(files.clone())), serve(None), serve(Some(own.clone())));
    let shell = |url: String| Shell::new(&url, folder.path(), "the-token");
    let pem = files.cert_file.to_str().unwrap();

    let trusting = shell(format!("https://localhost:{port}"));
    assert_eq!(trusting.json(&["whoami", "--cacert", pem])["name"], "ann");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["whoami", "--token", "t", "--url", &trusting.url]).env_clear().env("WEIR_CA_FILE", pem);
    assert!(command.output().unwrap().status.success());

    let said = trusting.run_badly(1, &["whoami"]);
    assert!(once(&said).contains("is not trusted") && said.contains("--cacert or WEIR_CA_FILE"), "{said}");
    let health = format!("https://localhost:{port}/healthz");
    let said = trusting.run_badly(1, &["health", "--url", &health]);
    assert!(once(&said).contains("is not trusted"), "{said}");
    let said = shell(format!("https://127.0.0.1:{port}")).run_badly(1, &["whoami", "--cacert", pem]);
    assert!(once(&said).contains("not made out to `127.0.0.1`"), "{said}");
    let pem = own.cert_file.to_str().unwrap();
    let said = shell(format!("https://localhost:{authority}")).run_badly(1, &["whoami", "--cacert", pem]);
    assert!(once(&said).contains("is its own authority") && said.contains("docs/production.md"), "{said}");
    let said = trusting.run_badly(1, &["whoami", "--cacert", "/nowhere.pem"]);
    assert!(once(&said).contains("`/nowhere.pem`"), "{said}");
    let key = files.key_file.to_str().unwrap();
    let said = trusting.run_badly(1, &["whoami", "--cacert", key]);
    assert!(once(&said).contains("holds no certificate"), "{said}");

    let said = shell(format!("http://localhost:{port}")).run_badly(1, &["whoami"]);
    assert!(once(&said).contains("write https:// in --url"), "{said}");
    let said = shell(format!("https://localhost:{plain}")).run_badly(1, &["whoami"]);
    assert!(once(&said).contains("write http:// in --url"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_admin_api_is_said_to_be_none() {
    let folder = TempDir::new().unwrap();
    let shell = |url: &str| Shell::new(url, folder.path(), "the-token");
    let nowhere = format!("http://{}", nobody());
    let said = shell(&nowhere).run_badly(1, &["whoami"]);
    assert!(once(&said).contains(&format!("{nowhere} cannot be reached (")) && said.contains("--url"), "{said}");
    let said = shell("http://no-such-host.invalid:8080").run_badly(1, &["whoami"]);
    assert!(once(&said).contains("no-such-host.invalid"), "{said}");
    // The answer of a server's public listener, if the admin API has another.
    on_each_database(async |_, weir, shell| {
        let elsewhere = Shell { url: format!("{}/delta-sharing", weir.url), token_file: shell.token_file.clone() };
        let said = elsewhere.run_badly(1, &["whoami"]);
        assert!(once(&said).contains("is not the admin API") && said.contains("server.admin_listen"), "{said}");
        let nowhere = Shell { url: format!("{}/api/v1", weir.url), token_file: shell.token_file.clone() };
        let said = nowhere.run_badly(1, &["whoami"]);
        assert!(once(&said).contains("does not answer the admin API"), "{said}");
    })
    .await;
}

/// Runs `weir` with a configuration for `database` and `listen`.
fn run(folder: &Path, database: &str, listen: &str, arguments: &[&str]) -> Output {
    let config = folder.join("weir.toml");
    let key = folder.join("weir.key");
    let text = format!(
        "[server]\nlisten = \"{listen}\"\n[database]\nurl = \"{database}\"\n[secrets]\nkey_files = [\"{}\"]\n",
        key.display()
    );
    fs::write(&config, text).unwrap();
    if !key.exists() {
        fs::write(&key, [7; 32]).unwrap();
        Command::new("chmod").arg("600").arg(&key).status().unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_clear().env("WEIR_CONFIG", config).output().unwrap()
}

#[track_caller]
fn fails(folder: &Path, database: &str, arguments: &[&str]) -> String {
    let output = run(folder, database, "127.0.0.1:0", arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    once(&said).to_owned()
}

#[test]
fn a_database_that_is_down_is_named_with_host_and_port_at_once() {
    let folder = TempDir::new().unwrap();
    for command in [&["serve"][..], &["migrate"], &["operator", "create", "ann", "--role", "admin"]] {
        let began = Instant::now();
        let place = nobody();
        let said = fails(folder.path(), &format!("postgres://weir:hunter2@{place}/weir"), command);
        assert!(said.contains(&format!("{place} cannot be reached (Connection refused)")), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        // A pool would have retried for five seconds.
        assert!(began.elapsed() < Duration::from_secs(4), "{command:?}");
    }
    let file = folder.path().join("notes.txt");
    fs::write(&file, "no database, and longer than the header of one is.".repeat(20)).unwrap();
    let said = fails(folder.path(), &format!("sqlite://{}", file.display()), &["serve"]);
    assert!(said.contains("notes.txt` is no SQLite database"), "{said}");
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = format!("sqlite://{}", folder.path().join("weir.db").display());
    let output = run(folder.path(), &url, &address, &["serve"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let said = said.lines().find(|line| line.starts_with("weir: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(once(said).contains(&format!("cannot listen on `{address}`")), "{said}");
}

#[tokio::test]
async fn a_database_or_role_that_is_not_there_is_named_with_the_file_that_makes_it() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let folder = TempDir::new().unwrap();
    let options: PgConnectOptions = database.url().parse().unwrap();
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let absent = url::Url::parse(database.url()).unwrap();
    let mut other = absent.clone();
    other.set_path("/no_such_database");
    let said = fails(folder.path(), other.as_str(), &["serve"]);
    assert!(said.contains("there is no database `no_such_database` at"), "{said}");
    assert!(said.contains(&place) && said.contains("docs/postgres-roles.sql"), "{said}");
    let mut other = absent.clone();
    other.set_username("no_such_role").unwrap();
    other.set_password(Some("hunter2")).unwrap();
    let said = fails(folder.path(), other.as_str(), &["serve"]);
    assert!(said.contains("`no_such_role`") && said.contains("docs/postgres-roles.sql"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    // A role that exists but has no rights.
    let name = format!("weir_poor_{}", uuid::Uuid::new_v4().simple());
    let admin = weir::store::Db::connect(&std::env::var(SERVER_VARIABLE).unwrap(), 1).await.unwrap();
    let weir::store::Db::Postgres { pool, .. } = &admin else { unreachable!() };
    let make = sqlx::AssertSqlSafe(format!("CREATE ROLE {name} LOGIN PASSWORD 'x'"));
    sqlx::query(make).execute(pool).await.unwrap();
    let mut poor = absent;
    poor.set_username(&name).unwrap();
    poor.set_password(Some("x")).unwrap();
    let said = fails(folder.path(), poor.as_str(), &["serve"]);
    assert!(said.contains("lacks a right (permission denied") && said.contains("docs/postgres-roles.sql"), "{said}");
    sqlx::query(sqlx::AssertSqlSafe(format!("DROP ROLE {name}"))).execute(pool).await.unwrap();
}

#[test]
fn a_closed_pipe_ends_every_command_quietly() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("weir.db").display());
    assert!(run(folder.path(), &url, "127.0.0.1:0", &["migrate"]).status.success());
    for arguments in [
        &["config", "show"][..],
        &["config", "check"],
        &["completions", "bash"],
        &["audit", "key"],
        &["audit", "export"],
        &["keys", "list"],
        &["doctor"],
        &["operator", "create", "ann", "--role", "admin"],
        &["--help"],
        &["grant", "create", "--help"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).env_clear().env("WEIR_CONFIG", folder.path().join("weir.toml"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert!(!said.contains("panicked") && !said.contains("Broken pipe"), "{arguments:?}: {said}");
        assert!(status.code().is_some_and(|code| code != 101), "{arguments:?}: {status} {said}");
    }
}

#[tokio::test]
async fn errors_are_json_where_json_is_asked_for_and_speak_of_commands() {
    on_each_database(async |_, _, shell| {
        let error = |code, arguments: &[&str]| -> Value {
            let said = shell.run_badly(code, arguments);
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
        };
        shell.run_well(&["share", "put", "insurer"]);
        let missing = error(1, &["share", "get", "insuer", "--output", "json"]);
        assert_eq!(missing["code"], "not_found");
        assert_eq!(missing["detail"], "share `insuer` not found; did you mean `insurer`?");
        assert!(missing["request_id"].is_string(), "{missing}");
        let wrong = ["grant", "create", "--share", "insuer", "--recipient", "acme", "-o", "json"];
        let wrong = error(1, &wrong);
        assert_eq!(wrong["code"], "invalid_input");
        assert_eq!(wrong["errors"][0]["field"], "share");
        assert_eq!(error(2, &["share", "get", "--output=json"])["code"], "usage");
        let unread = error(1, &["whoami", "--url", &format!("http://{}", nobody()), "--output", "json"]);
        assert_eq!(unread["code"], "failed");

        let said = shell.run_badly(1, &["grant", "create", "--share", "insurer", "--recipient", "acme"]);
        assert!(said.contains("create it with `weir recipient put acme`"), "{said}");
        let said = shell.run_badly(1, &["object", "put", "insurer", "a", "b", "--source-table", "x.y"]);
        assert!(said.contains("register it with `weir table put x.y`"), "{said}");
        let said = shell.run_badly(1, &["operator", "get", "ann"]);
        assert!(said.contains("`weir operator list` lists what there is"), "{said}");
        shell.run_well(&["operator", "put", "anna", "--role", "auditor"]);
        let said = shell.run_badly(1, &["operator", "get", "ann"]);
        assert!(said.contains("did you mean `anna`?"), "{said}");
        shell.run_well(&["freeze", "--reason", "tests"]);
        // As printed in docs/operations.md.
        shell.run_well(&["unfreeze"]);
    })
    .await;
}

#[test]
fn a_configuration_is_told_everything_that_a_start_would_refuse() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a-file"), "").unwrap();
    fs::create_dir(path("lake")).unwrap();
    fs::write(path("second.key"), [1; 7]).unwrap();
    Command::new("chmod").arg("600").arg(path("second.key")).status().unwrap();
    let at = folder.path().display();
    let text = format!(
        "[database]\nurl = \"sqlite://{at}/nowhere/weir.db\"\n\
         [secrets]\nkey_files = [\"{at}/weir.key\", \"{at}/second.key\", \"{at}/third.key\"]\n\
         [sharing]\nurl_ttl_seconds = 5\n\
         [geography]\ndatabase_file = \"{at}/a-file\"\nmode = \"known\"\n\
         [views]\nroot = \"file://{at}/a-file/views\"\n\
         [audit.export]\nurl = \"s3://audit\"\noptions = {{ aws_regoin = \"x\" }}\n\
         [[storage]]\nname = \"bucket\"\nurl = \"s3://bucket\"\noptions = {{ aws_regoin = \"eu\", azure_client_id = \"x\" }}\n\
         [[storage]]\nname = \"gone\"\nurl = \"file://{at}/gone\"\n\
         [[storage]]\nname = \"lake\"\nurl = \"file://{at}/lake\"\n"
    );
    fs::write(path("weir.toml"), text).unwrap();
    let before = fs::read_dir(folder.path()).unwrap().count();
    for command in [&["config", "check"][..], &["serve"]] {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = weir.args(command).env_clear().env("WEIR_CONFIG", path("weir.toml")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for (key, word) in [
            ("sharing.url_ttl_seconds", "too short"),
            ("database.url", "no folder"),
            ("secrets.key_files[1]", "exactly 32"),
            ("secrets.key_files[2]", "does not exist"),
            ("geography.database_file", "another format"),
            ("views", "a-file/views"),
            ("audit.export", "aws_regoin"),
            ("storage[0]", "aws_regoin"),
            ("storage[0]", "azure_client_id"),
            ("storage[1]", "gone"),
        ] {
            assert!(
                said.lines().any(|line| line.contains(&format!("{key}: ")) && line.contains(word)),
                "{key} {word}: {said}"
            );
        }
        assert_eq!(said.lines().count(), 10, "{said}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "nothing was made");
}
