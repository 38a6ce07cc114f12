//! Checks a storage's options, which have object_store's own names.

use std::collections::BTreeMap;

use super::StorageError;
use crate::config::StorageSettings;

/// The options of one storage, with names known to its store.
pub(super) struct Options {
    /// The name of the storage, for messages.
    pub storage: String,
    pub values: BTreeMap<String, String>,
}

impl Options {
    /// Reads the options, and reports all problems at once. `knows` returns whether object_store has an option of that
    /// name.
    pub fn read(settings: &StorageSettings, knows: fn(&str) -> bool) -> Result<Self, Vec<StorageError>> {
        let mut values = BTreeMap::new();
        let mut problems = Vec::new();
        for (written, value) in &settings.options {
            let name = written.to_ascii_lowercase();
            let reason = if !knows(&name) {
                "is not an option of this store; see object_store's names for it"
            } else if values.insert(name, value.clone()).is_some() {
                "is given twice, in different cases"
            } else {
                continue;
            };
            let reason = format!("option `{written}` {reason}");
            problems.push(StorageError::Configuration { name: settings.name.clone(), reason });
        }
        if problems.is_empty() { Ok(Self { storage: settings.name.clone(), values }) } else { Err(problems) }
    }

    /// Builds the error for a problem with this storage.
    pub fn problem(&self, reason: impl Into<String>) -> Vec<StorageError> {
        vec![StorageError::Configuration { name: self.storage.clone(), reason: reason.into() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3;

    #[test]
    fn every_unknown_option_is_reported() {
        let options = [("aws_regoin", "x"), ("AWS_REGION", "x"), ("aws_region", "y"), ("azure_client_id", "x")];
        let settings = StorageSettings {
            name: "lake".into(),
            url: "s3://lake".into(),
            delivery: Default::default(),
            max_staleness_seconds: 0,
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let problems = Options::read(&settings, s3::knows).err().unwrap();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
