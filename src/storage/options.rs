//! A storage's options: object_store's own names, values that may come from files.

use std::{collections::BTreeMap, fs};

use super::StorageError;
use crate::config::storage::StorageSettings;

/// No option's file is larger, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The options of one storage, every name known to its store, every `<name>_file` replaced by what the file holds.
pub(super) struct Options {
    /// The storage they belong to, for messages.
    pub storage: String,
    pub values: BTreeMap<String, String>,
}

impl Options {
    /// Reads them, reporting every problem at once. `knows` tells object_store's names, some of which end in `_file`
    /// themselves and are then taken as they are.
    pub fn read(settings: &StorageSettings, knows: fn(&str) -> bool) -> Result<Self, Vec<StorageError>> {
        let mut values = BTreeMap::new();
        let mut problems = Vec::new();
        for (written, value) in &settings.options {
            let name = written.to_ascii_lowercase();
            let read = match name.strip_suffix("_file") {
                _ if knows(&name) => Ok((name, value.clone())),
                Some(option) if knows(option) => read_secret(value).map(|value| (option.to_owned(), value)),
                _ => Err("is not an option of this store; see object_store's names for it".to_owned()),
            };
            let stored = read.and_then(|(name, value)| match values.insert(name, value) {
                None => Ok(()),
                Some(_) => Err("is given twice, once by value and once by file or in another case".to_owned()),
            });
            if let Err(reason) = stored {
                let reason = format!("option `{written}` {reason}");
                problems.push(StorageError::Configuration { name: settings.name.clone(), reason });
            }
        }
        if problems.is_empty() { Ok(Self { storage: settings.name.clone(), values }) } else { Err(problems) }
    }

    /// A problem with this storage, ready to be reported.
    pub fn problem(&self, reason: impl Into<String>) -> Vec<StorageError> {
        vec![StorageError::Configuration { name: self.storage.clone(), reason: reason.into() }]
    }
}

fn read_secret(path: &str) -> Result<String, String> {
    let failed = |error| format!("names the file `{path}`, which cannot be read: {error}");
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(format!("names the file `{path}`, which is larger than {MAX_FILE} bytes"));
    }
    Ok(fs::read_to_string(path).map_err(failed)?.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3;

    fn settings(options: &[(&str, &str)]) -> StorageSettings {
        StorageSettings {
            name: "lake".into(),
            url: "s3://lake".into(),
            delivery: Default::default(),
            options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn secret_comes_from_its_file_without_the_last_line_break() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, "hunter2\n").unwrap();
        let file = file.to_str().unwrap();
        let options = Options::read(
            &settings(&[("aws_secret_access_key_file", file), ("aws_web_identity_token_file", "/var/token")]),
            s3::knows,
        )
        .unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(options.values["aws_secret_access_key"], "hunter2");
        assert_eq!(options.values["aws_web_identity_token_file"], "/var/token");
    }

    #[test]
    fn every_unknown_option_is_reported() {
        let settings = settings(&[("aws_regoin", "x"), ("aws_token_file", "/nowhere"), ("azure_client_id", "x")]);
        let problems = Options::read(&settings, s3::knows).err().unwrap();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
