//! The rules that all storages hold together; one storage's own keys are [`super::storage`].

use std::path::{Path, PathBuf};

use url::Url;

use super::{problems::Problems, storage::StorageSettings};

/// The schemes that a storage's URL may have.
const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "abfss", "abfs", "az", "wasbs", "file"];

/// Finds what is wrong with `storages` beyond types.
pub(super) fn check(storages: &[StorageSettings], problems: &mut Problems) {
    for (i, storage) in storages.iter().enumerate() {
        let name = &storage.name;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            problems.add(
                format!("storage[{i}].name"),
                format!("`{name}` is no name; use letters, digits, `-`, `_` and `.`, for it is a metric's label"),
            );
        }
        if storages[..i].iter().any(|other| other.name == *name) {
            problems.add(format!("storage[{i}].name"), format!("`{name}` names two storages; rename one"));
        }
        if let Some(wrong) = wrong_with_url(&storage.url) {
            problems.add(format!("storage[{i}].url"), wrong);
        }
        if let Some(other) = storages[..i].iter().find(|other| place(other) == place(storage)) {
            problems.add(format!("storage[{i}].url"), format!("is the url of `{}` too; remove one of them", other.name));
        }
    }
}

/// Says what is wrong with a storage's URL, without repeating it: it may hold credentials.
fn wrong_with_url(url: &str) -> Option<String> {
    match Url::parse(url) {
        Err(source) => Some(format!("is no valid URL: {source}")),
        Ok(url) if !SCHEMES.contains(&url.scheme()) => {
            Some(format!("has the scheme `{}`; use one of {}", url.scheme(), SCHEMES.join(", ")))
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() || url.password().is_some() => {
            Some("has credentials, a query or a fragment; put credentials into options".to_owned())
        }
        Ok(_) => None,
    }
}

/// Where a storage begins, alike for the spellings of one place.
fn place(storage: &StorageSettings) -> String {
    let (scheme, rest) = storage.url.split_once("://").unwrap_or(("", &storage.url));
    let scheme = match scheme {
        "s3a" => "s3",
        "abfs" => "abfss",
        other => other,
    };
    format!("{scheme}://{}", rest.trim_end_matches('/'))
}

/// Refuses a local storage that holds one of the server's own files, which it would serve. `private` says what each
/// file is.
pub(super) fn check_private_files(
    storages: &[StorageSettings],
    private: &[(&'static str, PathBuf)],
    problems: &mut Problems,
) {
    for (i, storage) in storages.iter().enumerate() {
        let Some(root) = local_root(storage).and_then(|root| root.canonicalize().ok()) else { continue };
        for (what, path) in private {
            if real_path(path).is_some_and(|path| path.starts_with(&root)) {
                let (root, path) = (root.display(), path.display());
                problems.add(
                    format!("storage[{i}].url"),
                    format!("`{root}` holds {what} (`{path}`); keep it outside of what is shared"),
                );
            }
        }
    }
}

fn local_root(storage: &StorageSettings) -> Option<PathBuf> {
    Url::parse(&storage.url).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

/// The real path of a file that need not exist yet: its folder must.
fn real_path(path: &Path) -> Option<PathBuf> {
    if let Ok(path) = path.canonicalize() {
        return Some(path);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}
