//! Secrets are read from files or variables and never printed.

use std::os::unix::fs::PermissionsExt;

use super::{Folder, load, problems};

const TOKEN: &str = "a-bootstrap-token-of-at-least-32-characters";

#[test]
fn secret_may_come_from_a_file() {
    let folder = Folder::new();
    let url = folder.file("url", "postgres://weir:hunter2@db/weir\n");
    let key = folder.file("key", "  s3-secret\n");
    let toml = format!(
        "[database]\nurl_file = \"{}\"\n[[storage]]\nname = \"lake\"\nurl = \"s3://lake\"\n\
         options = {{ aws_secret_access_key_file = \"{}\", aws_web_identity_token_file = \"/var/run/token\" }}\n",
        url.display(),
        key.display()
    );
    let settings = load(&toml, &[]).unwrap();
    assert_eq!(settings.database.url.expose(), "postgres://weir:hunter2@db/weir");
    let options = &settings.storage[0].options;
    assert_eq!(options["aws_secret_access_key"], "s3-secret");
    assert_eq!(options["aws_web_identity_token_file"], "/var/run/token", "object_store's own option is left alone");
    assert_eq!(options.len(), 2);
    assert!(settings.warnings.is_empty());
}

#[test]
fn higher_layer_may_name_a_file_where_a_lower_one_has_the_value() {
    let folder = Folder::new();
    let url = folder.file("url", "postgres://weir@db/weir");
    let variables = [("WEIR__DATABASE__URL_FILE", url.to_str().unwrap())];
    let settings = load("[database]\nurl = \"sqlite://other.db\"\n", &variables).unwrap();
    assert_eq!(settings.database.url.expose(), "postgres://weir@db/weir");
    let both = [variables[0], ("WEIR__DATABASE__URL", "sqlite://other.db")];
    assert_eq!(problems("", &both), "database.url_file: and `url` are both set; keep one of them");
}

#[test]
fn secret_file_that_is_absent_or_empty_is_a_problem() {
    let folder = Folder::new();
    let empty = folder.file("empty", "\n");
    let told = problems(
        "",
        &[("WEIR__DATABASE__URL_FILE", "/nowhere/url"), ("WEIR_BOOTSTRAP_TOKEN_FILE", empty.to_str().unwrap())],
    );
    assert!(told.contains("database.url_file: `/nowhere/url` cannot be read"), "{told}");
    assert!(told.contains("WEIR_BOOTSTRAP_TOKEN_FILE: ") && told.contains("is empty"), "{told}");
}

#[test]
fn secret_file_open_to_others_is_warned_about() {
    let folder = Folder::new();
    let token = folder.file("token", TOKEN);
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let settings = load("", &[("WEIR_BOOTSTRAP_TOKEN_FILE", token.to_str().unwrap())]).unwrap();
    assert_eq!(settings.bootstrap_token.unwrap().expose(), TOKEN);
    assert!(settings.warnings[0].contains("can be read by other users"), "{:?}", settings.warnings);
}

#[test]
fn bootstrap_token_must_be_long_and_come_from_one_place() {
    assert!(load("", &[("WEIR_BOOTSTRAP_TOKEN", "")]).unwrap().bootstrap_token.is_none());
    assert_eq!(load("", &[("WEIR_BOOTSTRAP_TOKEN", TOKEN)]).unwrap().bootstrap_token.unwrap().expose(), TOKEN);
    let told = problems("", &[("WEIR_BOOTSTRAP_TOKEN", &TOKEN[..31])]);
    assert!(told.contains("shorter than 32") && !told.contains(&TOKEN[..31]), "{told}");
    let told = problems("", &[("WEIR_BOOTSTRAP_TOKEN", TOKEN), ("WEIR_BOOTSTRAP_TOKEN_FILE", "/x")]);
    assert!(told.contains("both set"), "{told}");
}

#[test]
fn nothing_secret_is_printed() {
    let toml = r#"
        [database]
        url = "postgres://weir:hunter2@db/weir?sslmode=require&password=hunter2"
        migrate_url = "postgres://owner:hunter2@db/weir"
        [[storage]]
        name = "lake"
        url = "s3://lake"
        [storage.options]
        aws_access_key_id = "AKIA"
        aws_secret_access_key = "hunter2"
        azure_storage_sas_key = "hunter2"
        google_service_account_key = "hunter2"
        token = "hunter2"
    "#;
    let settings = load(toml, &[("WEIR_BOOTSTRAP_TOKEN", "hunter2-hunter2-hunter2-hunter2-hunter2")]).unwrap();
    let shown = settings.render_redacted();
    for printed in [&shown, &format!("{settings:?}"), &format!("{settings:#?}")] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    for kept in ["postgres://weir:***@db/weir?sslmode=require&password=***", "AKIA", "# WEIR_BOOTSTRAP_TOKEN is set"] {
        assert!(shown.contains(kept), "{kept} is missing from {shown}");
    }
    let parsed: toml::Table = toml::from_str(&shown).unwrap();
    assert_eq!(parsed["storage"][0]["options"]["aws_secret_access_key"].as_str(), Some("***"));
}

#[test]
fn type_error_in_a_secret_does_not_repeat_it() {
    let told =
        problems("[[storage]]\nname = \"a\"\nurl = \"s3://a\"\noptions = { aws_secret_access_key = 123456 }\n", &[]);
    assert_eq!(told, "storage[0].options.aws_secret_access_key: must be of type string");
}
