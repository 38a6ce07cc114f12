//! What comments and documents name is there: files, and, in the map of the house, items.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// The folders below which files are cited by their whole path.
const FOLDERS: [&str; 9] =
    ["benches/", "config/", "deploy/", "docker/", "docs/", "migrations/", "src/", "tests/", ".ci/"];
/// Where citations are looked for, besides the files at the root.
const READ: [&str; 8] = ["benches", "config", "deploy", "docker", "docs", "src", "tests", ".ci"];
/// What stands for any name in how-tos.
const PLACEHOLDER: &str = "NOUN";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text, by its path from the root.
fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(root(), false, &mut found);
    for folder in READ {
        collect(&root().join(folder), true, &mut found);
    }
    let text = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_str()?.to_owned();
        Some((name, fs::read_to_string(path).ok()?))
    };
    found.into_iter().filter_map(text).collect()
}

fn collect(folder: &Path, is_deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        // What releases and tools left behind speaks of their time.
        if path.is_dir() && is_deep && !["fixtures", "snapshots", "__pycache__"].contains(&name) {
            collect(&path, true, found);
        } else if path.is_file() && name != "CHANGELOG.md" && !name.ends_with(".lock") {
            found.push(path);
        }
    }
}

/// What of a text speaks to readers: of Rust the comments.
fn said(path: &str, text: &str) -> String {
    if !path.ends_with(".rs") {
        return text.lines().filter(|line| !line.starts_with("# syntax=")).collect::<Vec<_>>().join("\n");
    }
    let comment = |line: &'_ str| {
        let at = line.find("//")?;
        let is_comment = line[..at].ends_with(char::is_whitespace) || at == 0;
        is_comment.then(|| line[at..].to_owned())
    };
    text.lines().filter_map(comment).collect::<Vec<_>>().join("\n")
}

/// The paths in `text` that begin with one of [`FOLDERS`].
fn cited(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_./-".contains(c));
    let paths = words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)));
    paths.map(|path| path.trim_end_matches(['.', '/', '-', '_'])).filter(|path| !path.contains(PLACEHOLDER))
}

fn is_there(path: &str) -> bool {
    let is_decision = || {
        let number = path.strip_prefix("docs/adr/").filter(|number| number.len() == 4);
        let mut decisions = fs::read_dir(root().join("docs/adr")).unwrap().map(|entry| entry.unwrap().file_name());
        number.is_some_and(|number| decisions.any(|name| name.to_str().unwrap().starts_with(number)))
    };
    root().join(path).exists() || is_decision()
}

#[test]
fn files_that_are_named_are_there() {
    let (mut count, mut missing) = (0, Vec::new());
    for (path, text) in texts() {
        let said = said(&path, &text);
        for cited in cited(&said) {
            count += 1;
            if !is_there(cited) {
                missing.push(format!("{path} names {cited}"));
            }
        }
    }
    assert!(count > 200, "{count}");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn links_between_documents_lead_somewhere() {
    let (mut count, mut broken) = (0, Vec::new());
    for (path, text) in texts().into_iter().filter(|(path, _)| path.ends_with(".md")) {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.starts_with('/') || target.contains(':') {
                continue;
            }
            count += 1;
            if !root().join(&path).parent().unwrap().join(target).exists() {
                broken.push(format!("{path} leads to {link}"));
            }
        }
    }
    assert!(count > 50, "{count}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn items_and_files_in_the_map_of_the_house_are_there() {
    let texts = texts();
    let rust: Vec<_> = texts.iter().filter(|(path, _)| path.ends_with(".rs")).collect();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: HashSet<&str> = rust
        .iter()
        .flat_map(|(_, text)| text.lines().filter(|line| !line.trim_start().starts_with("//")))
        .flat_map(|line| line.split(|c: char| !is_word(c)))
        .collect();
    let map = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let (mut count, mut missing) = (0, Vec::new());
    for code in map.split('`').skip(1).step_by(2) {
        let names: Vec<&str> = code.split("::").collect();
        let is_known = match code.strip_suffix(".rs") {
            Some(_) => rust.iter().any(|(path, _)| *path == code || path.ends_with(&format!("/{code}"))),
            None if names.len() > 1 && names.iter().all(|name| !name.is_empty() && name.chars().all(is_word)) => {
                names.iter().all(|name| words.contains(name))
            }
            None => continue,
        };
        count += 1;
        if !is_known {
            missing.push(code);
        }
    }
    assert!(count > 50, "{count}");
    assert!(missing.is_empty(), "{missing:?}");
}
