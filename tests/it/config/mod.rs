//! Configuration: layers, problems, secrets and keys.

mod discovery;
mod hooks;
mod identity;
mod keys;
mod layers;
mod notify;
mod problems;
mod secrets;

use std::{collections::BTreeMap, path::PathBuf};

use weir::config::{Problems, Settings, Sources};

/// A folder for a configuration file and the files it names.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file that only its owner can read.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

fn env(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Settings, Problems> {
    let folder = Folder::new();
    Settings::load(Sources { file: Some(folder.file("weir.toml", toml)), env: env(variables) })
}

/// The problems of a configuration, one per line.
fn problems(toml: &str, variables: &[(&str, &str)]) -> String {
    load(toml, variables).unwrap_err().to_string()
}
