//! Root keys: which are read, created and refused.

use std::os::unix::fs::PermissionsExt;

use weir::config::{
    DatabaseKind::{Postgres, Sqlite},
    SecretSettings,
    keys::{KeyError, load_keys},
};

use super::Folder;

fn settings(files: impl IntoIterator<Item = std::path::PathBuf>) -> SecretSettings {
    SecretSettings { key_files: files.into_iter().collect() }
}

#[test]
fn first_key_is_made_once_on_sqlite() {
    let folder = Folder::new();
    let path = folder.0.path().join("weir.key");
    let made = load_keys(&settings([path.clone()]), Sqlite).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.len()), (0o600, 32));
    let read = load_keys(&settings([path]), Sqlite).unwrap();
    assert_eq!(read[0].fingerprint(), made[0].fingerprint());
    let other = load_keys(&settings([folder.0.path().join("other.key")]), Sqlite).unwrap();
    assert_ne!(other[0].fingerprint(), made[0].fingerprint());
}

#[test]
fn no_key_is_ever_made_on_postgres() {
    let folder = Folder::new();
    let path = folder.0.path().join("weir.key");
    let error = load_keys(&settings([path.clone()]), Postgres).unwrap_err();
    assert!(matches!(error, KeyError::Missing { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn further_keys_are_read_in_order_and_never_made() {
    let folder = Folder::new();
    let (first, second) = (folder.file("first", [1; 32]), folder.file("second", [2; 32]));
    let fingerprints = |files: [&std::path::PathBuf; 2]| {
        let keys = load_keys(&settings(files.map(Clone::clone)), Sqlite).unwrap();
        keys.iter().map(|key| key.fingerprint()).collect::<Vec<_>>()
    };
    let (mut ahead, behind) = (fingerprints([&first, &second]), fingerprints([&second, &first]));
    ahead.reverse();
    assert_eq!(ahead, behind);
    let absent = folder.0.path().join("absent");
    let error = load_keys(&settings([first, absent.clone()]), Sqlite).unwrap_err();
    assert!(matches!(&error, KeyError::Missing { path } if *path == absent), "{error}");
}

#[test]
fn key_of_another_length_is_refused() {
    let folder = Folder::new();
    for bytes in [0, 31, 33] {
        let path = folder.file("weir.key", vec![7; bytes]);
        let error = load_keys(&settings([path]), Sqlite).unwrap_err();
        assert!(matches!(error, KeyError::Length { bytes: found, .. } if found == bytes as u64), "{error}");
    }
}

#[test]
fn key_that_others_may_read_is_refused() {
    let folder = Folder::new();
    let path = folder.file("weir.key", [7; 32]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    let error = load_keys(&settings([path]), Postgres).unwrap_err();
    assert!(error.to_string().contains("is open to other users (mode 604); run `chmod 600"), "{error}");
}
