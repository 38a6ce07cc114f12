//! Settings of root keys: the files that hold them. [`super::keys`] reads them.

use std::path::PathBuf;

use serde::Deserialize;

use super::problems::Problems;

/// `[secrets]`.
#[derive(Clone, Debug, Deserialize)]
pub struct SecretSettings {
    /// Files of 32 random bytes each. The first key is active; the others still open what they sealed.
    pub key_files: Vec<PathBuf>,
}

impl SecretSettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.key_files.is_empty() {
            problems.add("secrets.key_files", "is empty; name at least one file of 32 random bytes");
        }
        for (i, file) in self.key_files.iter().enumerate() {
            if file.as_os_str().is_empty() {
                problems.add(format!("secrets.key_files[{i}]"), "is empty; remove it or name a file");
            } else if self.key_files[..i].contains(file) {
                problems.add(format!("secrets.key_files[{i}]"), format!("`{}` is named twice", file.display()));
            }
        }
    }
}
