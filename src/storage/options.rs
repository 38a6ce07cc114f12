//! A storage's options: object_store's own names, checked.

use std::collections::BTreeMap;

use super::StorageError;
use crate::config::StorageSettings;

/// The options of one storage, every name known to its store.
pub(super) struct Options {
    /// The storage they belong to, for messages.
    pub storage: String,
    pub values: BTreeMap<String, String>,
}

impl Options {
    /// Reads them, reporting every problem at once. `knows` tells object_store's names.
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

    /// A problem with this storage, ready to be reported.
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
