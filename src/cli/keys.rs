//! `weir keys`: lists the root keys, and makes a new one. Never shows a key.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::{
    config::{
        DatabaseKind, Settings,
        keys::{make_key, read_keys},
    },
    domain::{audit::checkpoint::SigningKey, core::seal::RootKey},
    service::core::{clock::Clock, keys::record_new_key},
    store::Db,
};

use super::{ConfigFile, api::Output, print};

/// The columns of a listing.
const COLUMNS: [&str; 7] = ["fingerprint", "state", "created_at", "active_since", "audit_key", "purposes", "file"];
/// The number of names that are tried for a new file.
const MOST_FILES: usize = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists the root keys by fingerprint, with the purposes of each
    List(List),
    /// Makes a new root key in a file of its own, and explains how to put it into use
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    file: ConfigFile,
    /// The output format
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    file: ConfigFile,
    /// The file of the new key; by default beside the active one, with the next number in its name
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(arguments) => list(arguments).await,
        Command::Rotate(arguments) => rotate(arguments).await,
    }
}

async fn list(arguments: List) -> anyhow::Result<()> {
    let settings = arguments.file.load()?;
    let keys = read_keys(&settings.secrets)?;
    let db = Db::connect_read_only(settings.database.url.expose()).await?;
    db.check_schema().await?;
    let mut listed = Vec::new();
    for (index, (key, file)) in keys.iter().zip(&settings.secrets.key_files).enumerate() {
        let fingerprint = key.fingerprint();
        let since = db.find_key_first_seen(&fingerprint).await?;
        listed.push(json!({
            "fingerprint": fingerprint,
            "state": if index == 0 { "active" } else { "kept" },
            "created_at": std::fs::metadata(file)?.modified().ok().map(written),
            "active_since": since.map(text),
            "audit_key": SigningKey::derive(key)?.verifier().name(),
            "purposes": purposes(&settings, &fingerprint, index == 0),
            "file": file.display().to_string(),
        }));
    }
    for fingerprint in db.list_key_fingerprints().await? {
        if !keys.iter().any(|key| key.fingerprint() == fingerprint) {
            let since = db.find_key_first_seen(&fingerprint).await?.map(text);
            listed.push(json!({"fingerprint": fingerprint, "state": "missing", "active_since": since, "purposes": []}));
        }
    }
    db.close().await;
    let mut out = print::out();
    match arguments.output {
        Output::Json => print::json(&mut out, &json!({ "items": listed }))?,
        Output::Table => print::table(&mut out, &COLUMNS, &listed)?,
    }
    Ok(())
}

/// What a key is used for: the active key seals and signs, the others only open and verify what they sealed and signed.
fn purposes(settings: &Settings, fingerprint: &str, is_active: bool) -> Value {
    let mut purposes = match is_active {
        true => vec!["seals page tokens", "seals file URLs", "signs checkpoints"],
        false => vec!["opens page tokens", "opens file URLs", "verifies checkpoints"],
    };
    if settings.views.pseudonym_key.as_deref().map_or(is_active, |pinned| pinned == fingerprint) {
        purposes.push("makes pseudonyms");
    }
    json!(purposes)
}

fn written(at: SystemTime) -> String {
    text(at.into())
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

async fn rotate(arguments: Rotate) -> anyhow::Result<()> {
    let settings = arguments.file.load()?;
    let keys = read_keys(&settings.secrets)?;
    let (Some(active), Some(old)) = (keys.first(), settings.secrets.key_files.first()) else {
        bail!("secrets.key_files names no key; name at least one file of 32 random bytes");
    };
    let db = Db::connect(settings.database.url.expose(), 1).await?;
    db.check_schema().await?;
    let file = match arguments.key_file {
        Some(file) if file.exists() => bail!("`{}` is there already; name another file", file.display()),
        Some(file) => file,
        None => next_file(old).context("no name is free beside the active key; name one with --key-file")?,
    };
    let key = make_key(&file)?;
    if let Err(error) = record_new_key(&db, &Clock::system(), &key).await {
        // A key that is not recorded must not stay around.
        let _ = std::fs::remove_file(&file);
        return Err(error).context("the new key could not be recorded, and was not made");
    }
    db.close().await;
    write!(print::out(), "{}", said(&settings, &file, &key, active)?)?;
    Ok(())
}

/// The first free name: `weir-2.key` after `weir.key`, then `weir-3.key`, in the same folder.
fn next_file(old: &Path) -> Option<PathBuf> {
    let stem = old.file_stem()?.to_str()?;
    let (name, number) = match stem.rsplit_once('-') {
        Some((name, number)) => match number.parse::<usize>() {
            Ok(number) => (name, number),
            Err(_) => (stem, 1),
        },
        None => (stem, 1),
    };
    let file = |number: usize| {
        let mut file = old.with_file_name(format!("{name}-{number}"));
        if let Some(extension) = old.extension() {
            file.set_extension(extension);
        }
        file
    };
    (number.saturating_add(1)..=number.saturating_add(MOST_FILES)).map(file).find(|file| !file.exists())
}

/// Says how to put the new key into use.
fn said(settings: &Settings, file: &Path, key: &RootKey, active: &RootKey) -> anyhow::Result<String> {
    let old: Vec<PathBuf> = settings.secrets.key_files.clone();
    let new = vec![file.to_owned()];
    let (behind, before) = (setting([&old[..], &new].concat()), setting([&new[..], &old].concat()));
    let (fingerprint, audit_key) = (key.fingerprint(), SigningKey::derive(key)?.verifier().to_string());
    let mut said = format!(
        "made `{}`\nfingerprint  {fingerprint}\naudit key    {audit_key}\n\n\
         Nothing uses it yet: keys are read from their files when a server starts.\n\n",
        file.display()
    );
    if settings.database.kind() == Some(DatabaseKind::Postgres) {
        said += &format!(
            "1. Give every server the file, and restart one after another with it behind the others, so that each can \
             open what the first to use it seals:\n\n   [secrets]\n   key_files = {behind}\n\n\
             2. When all have restarted, put it in front, and restart one after another again:\n\n"
        );
    } else {
        said += "Put it in front of the others, and restart the server:\n\n";
    }
    said += &format!("   [secrets]\n   key_files = {before}\n\n");
    if settings.views.pseudonym_key.is_none() {
        said += &format!(
            "Pseudonyms in views change with it, and every copy is made anew. To keep them, also set:\n\n   [views]\n   \
             pseudonym_key = \"{}\"\n\n",
            active.fingerprint()
        );
    }
    said += "docs/operations.md says when an old file may go.\n";
    Ok(said)
}

/// Writes a list of files as the settings do.
fn setting(files: Vec<PathBuf>) -> String {
    toml::Value::from(files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_files_are_numbered() {
        let folder = tempfile::TempDir::new().unwrap();
        let next = |name: &str| {
            let file = next_file(&folder.path().join(name)).unwrap();
            file.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(next("weir.key"), "weir-2.key");
        assert_eq!(next("weir-2.key"), "weir-3.key");
        assert_eq!(next("root-key"), "root-key-2");
        std::fs::write(folder.path().join("weir-2.key"), "").unwrap();
        assert_eq!(next("weir.key"), "weir-3.key");
    }
}
