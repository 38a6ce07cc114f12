//! Which layer takes precedence, and how environment variables are parsed.

use weir::config::{DatabaseKind, LogFormat, Settings, Sources};

use super::{Folder, env, load, problems};

#[test]
fn defaults_alone_are_a_valid_configuration() {
    let settings = Settings::load(Sources::default()).unwrap();
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.server.admin_listen, None);
    assert!(settings.server.tls().is_none());
    assert_eq!(settings.database.kind(), Some(DatabaseKind::Sqlite));
    assert_eq!(settings.database.sqlite_file().unwrap().to_str(), Some("weir.db"));
    assert!(settings.database.migrate_url.is_none());
    assert_eq!(settings.sharing.prefix, "/delta-sharing");
    assert_eq!(settings.sharing.url_ttl_seconds, 3600);
    assert!(settings.storage.is_empty() && settings.bootstrap_token.is_none() && settings.warnings.is_empty());
}

#[test]
fn environment_wins_over_file_and_file_over_defaults() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\npublic_url = \"https://share.example.org/\"\n";
    let settings = load(file, &[("WEIR__SERVER__LISTEN", "127.0.0.1:2")]).unwrap();
    assert_eq!(settings.server.listen.port(), 2);
    assert_eq!(settings.server.public_url, "https://share.example.org");
    assert_eq!(settings.server.max_body_bytes, 4_194_304);
}

#[test]
fn environment_values_are_toml_where_the_key_is_no_string() {
    let settings = load(
        "",
        &[
            ("WEIR__SHARING__REQUIRE_ACKNOWLEDGE", "true"),
            ("WEIR__SHARING__URL_TTL_SECONDS", "7200"),
            ("WEIR__SHARING__PREFIX", "/2026"),
            ("WEIR__LOG__FORMAT", "json"),
            ("WEIR__SERVER__TRUSTED_PROXIES", r#"["10.0.0.0/8", "192.0.2.7"]"#),
            ("WEIR__STORAGE", r#"[{name = "lake", url = "s3://lake", options = {aws_region = "eu-west-1"}}]"#),
            ("WEIR_URL", "http://elsewhere"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert!(settings.sharing.require_acknowledge);
    assert_eq!(settings.sharing.url_ttl_seconds, 7200);
    assert_eq!(settings.sharing.prefix, "/2026");
    assert_eq!(settings.log.format, LogFormat::Json);
    let networks: Vec<_> = settings.server.trusted_proxies.iter().map(|network| network.0.to_string()).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32"]);
    assert_eq!(settings.storage[0].options["aws_region"], "eu-west-1");
}

#[test]
fn environment_value_cannot_smuggle_in_another_key() {
    let told = problems("", &[("WEIR__SHARING__URL_TTL_SECONDS", "7200\nprefix = \"/other\"")]);
    assert!(told.starts_with("sharing.url_ttl_seconds: must be of type integer"), "{told}");
}

#[test]
fn file_may_be_named_by_the_environment_and_the_flag_wins() {
    let folder = Folder::new();
    let flag = folder.file("flag.toml", "[sharing]\nprefix = \"/flag\"\n");
    let variable = folder.file("variable.toml", "[sharing]\nprefix = \"/variable\"\n");
    let env = env(&[("WEIR_CONFIG", variable.to_str().unwrap())]);
    let prefix = |file| Settings::load(Sources { file, env: env.clone() }).unwrap().sharing.prefix;
    assert_eq!(prefix(None), "/variable");
    assert_eq!(prefix(Some(flag)), "/flag");
}

#[test]
fn absent_file_is_a_problem() {
    let file = Some("/nowhere/weir.toml".into());
    let told = Settings::load(Sources { file, ..Sources::default() }).unwrap_err().to_string();
    assert!(told.starts_with("/nowhere/weir.toml: cannot be read: "), "{told}");
}

#[test]
fn syntax_error_names_the_line_and_quotes_nothing() {
    let told = problems("[database]\nurl = \"postgres://weir:hunter2@db/weir\n", &[]);
    assert!(told.contains("is no valid TOML at line 2") && !told.contains("hunter2"), "{told}");
}

#[test]
fn configuration_of_the_compose_file_is_valid() {
    let folder = Folder::new();
    folder.file("database_url", "postgres://weir:password@postgres:5432/weir");
    folder.file("s3_secret_key", "secret");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/weir.toml");
    let secrets = folder.0.path().to_str().unwrap();
    let toml = std::fs::read_to_string(path).unwrap().replace("/run/secrets", secrets);
    let settings = load(&toml, &[]).unwrap();
    assert_eq!(settings.database.kind(), Some(DatabaseKind::Postgres));
    assert_eq!(settings.storage[0].options["aws_secret_access_key"], "secret");
}

/// The entries of lists that `config/default.toml` shows in comments, uncommented.
fn shown_entries() -> Vec<String> {
    let text = include_str!("../../../config/default.toml");
    let mut entries: Vec<String> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        match line.strip_prefix("#   ") {
            Some(header) if header.starts_with("[[") => {
                entries.push(format!("{header}\n"));
                is_inside = true;
            }
            Some(key) if is_inside && !key.starts_with(' ') => {
                entries.last_mut().unwrap().push_str(&format!("{key}\n"));
            }
            Some(_) => {}
            None => is_inside = false,
        }
    }
    entries
}

#[test]
fn every_key_of_an_entry_that_is_shown_is_known() {
    let entries = shown_entries();
    assert!(entries.len() >= 3, "{entries:?}");
    for entry in entries {
        let told = load(&entry, &[]).err().map(|problems| problems.to_string()).unwrap_or_default();
        assert!(!told.contains("is unknown"), "{entry}\n{told}");
    }
}

#[test]
fn a_storage_may_be_looked_at_less_often() {
    let toml = "[[storage]]\nname = \"lake\"\nurl = \"s3://lake\"\nmax_staleness_seconds = 30\n";
    assert_eq!(load(toml, &[]).unwrap().storage[0].max_staleness_seconds, 30);
}
