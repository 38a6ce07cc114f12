//! Everything that is refused, and that all problems are reported at once.

use weir::domain::access::geography::GeoMode;

use super::{Folder, load, problems};

#[test]
fn all_problems_are_reported_at_once() {
    let told = problems(
        r#"
        [server]
        lisen = "127.0.0.1:1"
        listen = "localhost:8080"
        max_body_bytes = "big"
        [sharing]
        url_ttl_seconds = 900
        [lak]
        [log]
        format = "xml"
        [[storage]]
        url = "ftp://lake"
        delivery = 7
        colour = "blue"
        "#,
        &[("WEIR__LOG__LEVL", "info"), ("WEIR_BOOTSTRAP_TOKEN", "short")],
    );
    insta::assert_snapshot!(told, @r#"
    WEIR__LOG__LEVL: is unknown; did you mean `level`?
    lak: is unknown; did you mean `lake`?
    server.lisen: is unknown; did you mean `listen`?
    storage[0].colour: is unknown; remove it, or see `config/default.toml` for every key
    WEIR_BOOTSTRAP_TOKEN: is shorter than 32 characters; use `openssl rand -hex 32`
    server.listen: `localhost:8080` is no address; write an IP address and a port, as in `127.0.0.1:8080`
    server.max_body_bytes: must be of type integer, not string
    storage[0].name: is missing; every storage has a name and a url
    storage[0].delivery: must be of type string, not integer
    log.format: unknown variant `xml`, expected `text` or `json`
    sharing.url_ttl_seconds: `900` is too short; use more than 1200, because connectors misread short lives
    storage[0].url: has the scheme `ftp`; use one of s3, s3a, gs, abfss, abfs, az, wasbs, file
    "#);
}

#[test]
fn plain_listener_beyond_loopback_is_refused() {
    let told = problems("[server]\nlisten = \"0.0.0.0:8080\"\nadmin_listen = \"[::]:8081\"\n", &[]);
    assert!(told.contains("server.listen: `0.0.0.0:8080` is reachable from outside"), "{told}");
    assert!(told.contains("server.admin_listen: `[::]:8081` is reachable from outside"), "{told}");
    let upstream = "[server]\nlisten = \"0.0.0.0:8080\"\ntls_terminated_upstream = true\n";
    assert_eq!(load(upstream, &[]).unwrap().server.listen.port(), 8080);
}

#[test]
fn listener_with_tls_may_be_reachable() {
    let folder = Folder::new();
    let (cert, key) = (folder.file("cert.pem", ""), folder.file("key.pem", ""));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let listen = ("WEIR__SERVER__LISTEN", "0.0.0.0:8443");
    let (cert_file, key_file) = (("WEIR__SERVER__TLS__CERT_FILE", cert), ("WEIR__SERVER__TLS__KEY_FILE", key));
    assert_eq!(load("", &[listen, cert_file, key_file]).unwrap().server.tls().unwrap().cert_file.to_str(), Some(cert));
    let told = problems("", &[listen, cert_file]);
    assert!(told.contains("server.tls.key_file: is missing"), "{told}");
    let told = problems("", &[listen, cert_file, ("WEIR__SERVER__TLS__KEY_FILE", "/nowhere/key.pem")]);
    assert!(told.contains("server.tls.key_file: `/nowhere/key.pem` cannot be read"), "{told}");
}

#[test]
fn url_lives_that_connectors_or_stores_cannot_keep_are_refused() {
    let ttl = |value: &str| load("", &[("WEIR__SHARING__URL_TTL_SECONDS", value)]).map_err(|told| told.to_string());
    assert!(ttl("1200").unwrap_err().contains("connectors misread short lives"));
    assert!(ttl("1201").is_ok());
    assert!(ttl("604800").is_ok());
    assert!(ttl("604801").unwrap_err().contains("the longest that S3 signs for"));
    let told = problems("", &[("WEIR__SHARING__PROXIED_URL_TTL_SECONDS", "0")]);
    assert!(told.contains("sharing.proxied_url_ttl_seconds: `0` is out of bounds"), "{told}");
    assert!(load("", &[("WEIR__SHARING__PROXIED_URL_TTL_SECONDS", "1")]).is_ok());
}

#[test]
fn asking_for_countries_needs_a_file_that_says_them() {
    let told = problems("[geography]\nmode = \"strict\"\n", &[]);
    assert!(told.starts_with("geography.database_file: is not set, and geography.mode is \"strict\""), "{told}");
    let told = problems("[geography]\nmode = \"lenient\"\n", &[]);
    assert!(told.contains("geography.mode: unknown variant `lenient`"), "{told}");
    let known = [("WEIR__GEOGRAPHY__MODE", "known"), ("WEIR__GEOGRAPHY__DATABASE_FILE", "/nowhere/countries.mmdb")];
    assert_eq!(load("", &known).unwrap().geography.mode, GeoMode::Known);
    assert_eq!(load("", &[]).unwrap().geography.mode, GeoMode::Off);
}

#[test]
fn prefix_that_is_no_path_or_is_taken_is_refused() {
    for prefix in ["", "/", "delta", "/delta/", "/a//b", "/a b", "/..", "/{x}", "/api", "/files/x", "/healthz"] {
        let told = problems("", &[("WEIR__SHARING__PREFIX", prefix)]);
        assert!(told.starts_with("sharing.prefix: "), "{prefix}: {told}");
    }
    for prefix in ["/apis", "/a/api", "/delta-sharing/v1"] {
        assert!(load("", &[("WEIR__SHARING__PREFIX", prefix)]).is_ok(), "{prefix}");
    }
}

#[test]
fn public_url_must_be_a_bare_web_address() {
    for url in ["share.example.org", "ftp://x", "https://x/?a=1", "https://x/#a", "https://u:hunter2@x", ""] {
        let told = problems("", &[("WEIR__SERVER__PUBLIC_URL", url)]);
        assert!(told.starts_with("server.public_url: ") && !told.contains("hunter2"), "{url}: {told}");
    }
}

#[test]
fn database_must_be_one_that_weir_runs_on() {
    for url in
        ["mysql://weir:hunter2@db/weir", "weir.db", "sqlite://", "sqlite://:memory:", "postgres://weir:hunter2@[db"]
    {
        let told = problems("", &[("WEIR__DATABASE__URL", url)]);
        assert!(told.starts_with("database.url: ") && !told.contains("hunter2"), "{url}: {told}");
    }
    let told = problems("", &[("WEIR__DATABASE__MIGRATE_URL", "postgres://owner@db/weir")]);
    assert!(told.starts_with("database.migrate_url: is for PostgreSQL only"), "{told}");
}

#[test]
fn storages_must_differ() {
    let told = problems(
        r#"
        storage = [
            {name = "a", url = "s3://lake/x"}, {name = "a", url = "s3a://lake/x/"}, {name = "b c", url = "gs://x?k=1"},
            {name = "nested", url = "s3://lake/x/y"},
        ]
        "#,
        &[],
    );
    insta::assert_snapshot!(told, @r#"
    storage[1].name: `a` names two storages; rename one
    storage[1].url: is the url of `a` too; remove one of them
    storage[2].name: `b c` is no name; use letters, digits, `-`, `_` and `.`, for it is a metric's label
    storage[2].url: has credentials, a query or a fragment; put credentials into options
    "#);
}

#[test]
fn local_storage_that_holds_the_servers_own_files_is_refused() {
    let folder = Folder::new();
    let root = folder.0.path();
    std::fs::create_dir_all(root.join("lake")).unwrap();
    let key = root.join("weir.key");
    let variables = |lake: &std::path::Path| {
        [
            ("WEIR__SECRETS__KEY_FILES", format!("[\"{}\"]", key.display())),
            ("WEIR__STORAGE", format!("[{{name = \"lake\", url = \"file://{}\"}}]", lake.display())),
        ]
    };
    let refused = variables(root).map(|(name, value)| (name, value));
    let told = problems("", &refused.each_ref().map(|(name, value)| (*name, value.as_str())));
    assert!(told.contains("holds a root key"), "{told}");
    let accepted = variables(&root.join("lake"));
    assert!(load("", &accepted.each_ref().map(|(name, value)| (*name, value.as_str()))).is_ok());
}

#[test]
fn log_level_must_be_one() {
    for level in ["loud", "weir=loud", "=info", "info,,debug", ""] {
        assert!(problems("", &[("WEIR__LOG__LEVEL", level)]).starts_with("log.level: "), "{level}");
    }
    assert!(load("", &[("WEIR__LOG__LEVEL", "warn,weir::lake=debug")]).is_ok());
}

#[test]
fn section_of_the_wrong_kind_is_reported_and_the_rest_still_read() {
    let told = problems("server = 3\nstorage = \"lake\"\n[sharing]\nprefix = \"x\"\n", &[]);
    for start in ["server: must be of type table", "storage: is no list", "sharing.prefix: `x`"] {
        assert!(told.lines().any(|line| line.starts_with(start)), "{start}: {told}");
    }
}
