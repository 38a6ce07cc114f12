//! Reads secrets from their own files: `<key>_file` instead of `<key>`.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt, path::Path};

use toml::{Table, Value};

use crate::domain::core::secret::Secret;

use super::{BOOTSTRAP_TOKEN_CHARS, problems::Problems};

/// The fixed keys that are secrets, as section and key.
const SECRETS: [(&str, &str); 4] = [
    ("database", "url"),
    ("database", "migrate_url"),
    ("hooks", "agreement_secret"),
    ("hooks", "previous_agreement_secret"),
];

/// The secrets of one `[[notify.webhook]]`.
const WEBHOOK_SECRETS: [&str; 3] = ["url", "secret", "previous_secret"];

/// The endings of storage options whose values are credentials. Endings are used because `object_store` knows most
/// options under several names. Its own options for files (`aws_web_identity_token_file`, …) must not match.
const SECRET_OPTIONS: [&str; 11] = [
    "access_key",
    "account_key",
    "master_key",
    "sas_key",
    "service_account_key",
    "customer_key_base64",
    "client_secret",
    "session_token",
    "sas_token",
    "bearer_token",
    "storage_token",
];

/// The largest file of a secret, in bytes; a secret is one line of text.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Returns whether the value of a storage option, or of the key at `path`, is a credential.
pub(super) fn is_secret_key(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    matches!(key.as_str(), "token" | "aws_token" | "secret" | "previous_secret")
        || SECRETS.iter().any(|(section, secret)| *section == "hooks" && *secret == key)
        || SECRET_OPTIONS.iter().any(|ending| key.ends_with(ending))
}

/// Returns whether `path` is a `<key>_file` for one of the fixed secrets.
pub(super) fn names_file(path: &[String]) -> bool {
    let [section, key] = path else { return false };
    SECRETS.iter().any(|(s, k)| s == section && key.strip_suffix("_file") == Some(*k))
}

/// Replaces each `<key>_file` of `layer` by `<key>` with the content of the file.
pub(super) fn resolve(layer: &mut Table, problems: &mut Problems, warnings: &mut Vec<String>) {
    for (section, key) in SECRETS {
        if let Some(Value::Table(table)) = layer.get_mut(section) {
            take(table, section, key, problems, warnings);
        }
    }
    let export = layer.get_mut("audit").and_then(|audit| audit.get_mut("export"));
    if let Some(Value::Table(options)) = export.and_then(|export| export.get_mut("options")) {
        take_options(options, "audit.export.options", problems, warnings);
    }
    if let Some(Value::Table(options)) = layer.get_mut("views").and_then(|views| views.get_mut("options")) {
        take_options(options, "views.options", problems, warnings);
    }
    let webhooks = layer.get_mut("notify").and_then(|notify| notify.get_mut("webhook")).and_then(Value::as_array_mut);
    for (i, webhook) in webhooks.into_iter().flatten().enumerate() {
        for key in WEBHOOK_SECRETS {
            if let Value::Table(webhook) = webhook {
                take(webhook, &format!("notify.webhook[{i}]"), key, problems, warnings);
            }
        }
    }
    let storages = layer.get_mut("storage").and_then(Value::as_array_mut).into_iter().flatten();
    for (i, storage) in storages.enumerate() {
        if let Some(Value::Table(options)) = storage.get_mut("options") {
            take_options(options, &format!("storage[{i}].options"), problems, warnings);
        }
    }
}

fn take_options(options: &mut Table, section: &str, problems: &mut Problems, warnings: &mut Vec<String>) {
    let names: Vec<String> = options.keys().filter_map(|key| key.strip_suffix("_file")).map(str::to_owned).collect();
    for name in names.iter().filter(|name| is_secret_key(name)) {
        take(options, section, name, problems, warnings);
    }
}

fn take(table: &mut Table, section: &str, key: &str, problems: &mut Problems, warnings: &mut Vec<String>) {
    let file_key = format!("{key}_file");
    let Some(file) = table.remove(&file_key) else { return };
    let at = format!("{section}.{file_key}");
    if table.contains_key(key) {
        problems.add(at, format!("and `{key}` are both set; keep one of them"));
        return;
    }
    let Value::String(file) = file else {
        problems.add(at, "has the wrong type; write the path of a file as a string");
        return;
    };
    if let Some(secret) = read(&at, Path::new(&file), problems, warnings) {
        table.insert(key.to_owned(), Value::String(secret));
    }
}

/// Returns the bootstrap token from the environment.
pub(super) fn bootstrap_token(
    env: &BTreeMap<String, String>,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) -> Option<Secret> {
    const NAME: &str = "WEIR_BOOTSTRAP_TOKEN";
    const FILE: &str = "WEIR_BOOTSTRAP_TOKEN_FILE";
    let (name, token) = match (env.get(NAME), env.get(FILE)) {
        (Some(_), Some(_)) => {
            problems.add(FILE, format!("and {NAME} are both set; keep one of them"));
            return None;
        }
        (Some(token), None) => (NAME, token.trim().to_owned()),
        (None, Some(file)) => (FILE, read(FILE, Path::new(file), problems, warnings)?),
        (None, None) => return None,
    };
    // Orchestrators and compose files set an empty variable instead of none.
    if token.is_empty() {
        return None;
    }
    if token.chars().count() < BOOTSTRAP_TOKEN_CHARS {
        problems.add(name, format!("is shorter than {BOOTSTRAP_TOKEN_CHARS} characters; use `openssl rand -hex 32`"));
        return None;
    }
    Some(Secret::new(token))
}

/// Reads a file that contains one secret, and trims it.
fn read(key: &str, file: &Path, problems: &mut Problems, warnings: &mut Vec<String>) -> Option<String> {
    let shown = file.display();
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(source) => {
            problems.add(key, format!("`{shown}` cannot be read: {source}"));
            return None;
        }
    };
    if metadata.len() > MAX_SECRET_BYTES {
        problems.add(key, format!("`{shown}` is larger than {MAX_SECRET_BYTES} bytes, and so no secret"));
        return None;
    }
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => {
            problems.add(key, format!("`{shown}` is empty"));
            None
        }
        Ok(text) => {
            // Orchestrators mount secrets that all users in a container may read, so this is only a warning.
            if metadata.mode() & 0o077 != 0 {
                warnings.push(format!("{key}: `{shown}` can be read by other users; use `chmod 600 {shown}`"));
            }
            Some(text.trim().to_owned())
        }
        Err(source) => {
            problems.add(key, format!("`{shown}` cannot be read: {source}"));
            None
        }
    }
}
