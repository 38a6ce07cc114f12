//! Removes the secrets from the effective configuration.

use toml::{Table, Value};
use url::Url;

use crate::domain::core::secret::REDACTED;

use super::secret_files::is_secret_key;

/// Replaces the secrets of the whole configuration by `***`.
pub(super) fn settings(mut all: Table) -> Table {
    let webhooks = all.get_mut("notify").and_then(|notify| notify.get_mut("webhook")).and_then(Value::as_array_mut);
    for webhook in webhooks.into_iter().flatten() {
        if let Some(Value::String(url)) = webhook.get_mut("url") {
            *url = host_alone(url);
        }
    }
    table(all)
}

/// Returns a receiver's URL without its path and query, which may grant access.
fn host_alone(text: &str) -> String {
    Url::parse(text)
        .map_or_else(|_| REDACTED.to_owned(), |url| format!("{}/{REDACTED}", url.origin().ascii_serialization()))
}

/// Replaces the secrets in a table by `***`.
fn table(mut table: Table) -> Table {
    for (key, value) in table.iter_mut() {
        *value = redacted(key, std::mem::replace(value, Value::Boolean(false)));
    }
    table
}

fn redacted(key: &str, value: Value) -> Value {
    match value {
        Value::Table(inner) => Value::Table(table(inner)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| redacted(key, item)).collect()),
        Value::String(text) if text.is_empty() => Value::String(text),
        _ if is_secret_key(key) => Value::String(REDACTED.to_owned()),
        Value::String(text) => Value::String(without_password(&text)),
        other => other,
    }
}

/// Replaces the passwords in a URL's authority and query; returns other text unchanged.
fn without_password(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    let has_secret = |name: &str| name.to_ascii_lowercase().contains("password");
    let query_has_secret = url.query_pairs().any(|(name, _)| has_secret(&name));
    if url.password().is_none() && !query_has_secret {
        return text.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(REDACTED)).is_err() {
        return REDACTED.to_owned();
    }
    if query_has_secret {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let kept = pairs.iter().map(|(name, value)| (name, if has_secret(name) { REDACTED } else { value }));
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    url.to_string()
}
