//! What is told of tables that were found and are not registered: names that they could have, and texts of others.
//!
//! Never here: finding them.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::core::{
    message::echoed,
    name::{MAX_CHARACTERS, is_invisible, name_key},
};

/// The table properties that matter to whoever shares a table: how it is read, and how long its past is kept. Others may
/// hold anything, secrets included.
const TOLD: [&str; 9] = [
    "delta.appendOnly",
    "delta.checkpointPolicy",
    "delta.columnMapping.mode",
    "delta.deletedFileRetentionDuration",
    "delta.enableChangeDataFeed",
    "delta.enableDeletionVectors",
    "delta.enableInCommitTimestamps",
    "delta.enableTypeWidening",
    "delta.logRetentionDuration",
];
/// The longest value of a property that is told, in characters.
const LONGEST_VALUE: usize = 255;
/// How many characters of a name are left for a number.
const LEFT_FOR_NUMBER: usize = 8;

/// The properties of a table that are told, each cut to a line.
pub fn told_properties(configuration: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let told = configuration.iter().filter(|(key, _)| TOLD.contains(&key.as_str()));
    told.filter_map(|(key, value)| Some((key.clone(), told_text(value, LONGEST_VALUE)?))).collect()
}

/// A text that somebody else wrote, as one line of at most `longest` characters; `None` if nothing of it is visible.
pub fn told_text(text: &str, longest: usize) -> Option<String> {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let told = echoed(line.trim(), longest.saturating_sub(1));
    (!told.is_empty()).then_some(told)
}

/// Suggests names for tables, each of which nothing else has.
#[derive(Clone, Debug, Default)]
pub struct NameSuggestions {
    taken: BTreeSet<String>,
}

impl NameSuggestions {
    /// Keeps a name from being suggested, by its key.
    pub fn take(&mut self, key: &str) {
        self.taken.insert(key.to_owned());
    }

    /// A legal name from the parts of a path. A number follows it where the name is taken.
    pub fn suggest<'a>(&mut self, parts: impl IntoIterator<Item = &'a str>) -> String {
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).map(legal).collect();
        let mut base: String = parts.join(".").chars().take(MAX_CHARACTERS - LEFT_FOR_NUMBER).collect();
        base.truncate(base.trim_end_matches('.').len());
        if base.is_empty() {
            base.push_str("table");
        }
        let mut name = base.clone();
        let mut number = 1usize;
        while !self.taken.insert(name_key(&name)) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }
}

/// A part of a path without the characters that no name has, dots included, and without a hyphen in front, which a command
/// line would take for a flag.
fn legal(part: &str) -> String {
    let is_kept = |c: char| !(matches!(c, '/' | '\\' | '.') || c.is_control() || c.is_whitespace() || is_invisible(c));
    let kept: String = part.chars().map(|c| if is_kept(c) { c } else { '_' }).collect();
    match kept.strip_prefix('-') {
        Some(rest) => format!("_{rest}"),
        None => kept,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::core::name::{Name, NameKind};

    #[test]
    fn names_are_the_paths_with_dots_for_slashes() {
        let mut names = NameSuggestions::default();
        names.take("claims.taken");
        for (path, name) in [
            ("claims", "claims"),
            ("claims/claims", "claims.claims"),
            ("Claims/Claims", "Claims.Claims_2"),
            ("claims/taken", "claims.taken_2"),
            ("a b/c.d", "a_b.c_d"),
            ("a_b/c_d", "a_b.c_d_2"),
            ("-x/../y", "_x.__.y"),
            ("\u{200b}/日本", "_.日本"),
            ("", "table"),
        ] {
            assert_eq!(names.suggest(path.split('/')), name, "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_suggestion_is_a_legal_name_and_stands_once(paths in proptest::collection::vec(".{0,300}", 0..8)) {
            let mut names = NameSuggestions::default();
            let mut seen = BTreeSet::new();
            for path in paths {
                let name = Name::parse(NameKind::RegisteredTable, &names.suggest(path.split('/')));
                prop_assert!(name.is_ok_and(|name| seen.insert(name.key().to_owned())), "{path:?}");
            }
        }
    }

    #[test]
    fn of_properties_only_those_are_told_that_matter_and_texts_are_a_line() {
        let configuration =
            [("delta.enableChangeDataFeed", "true"), ("team.password", "hunter2"), ("delta.appendOnly", "")];
        let configuration = configuration.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let told = told_properties(&configuration);
        assert_eq!(told, BTreeMap::from([("delta.enableChangeDataFeed".to_owned(), "true".to_owned())]));
        assert_eq!(told_text(" a\nb\u{1b}[2J\u{202e}c ", 20).as_deref(), Some("a b [2Jc"));
        assert_eq!(told_text(&"x".repeat(30), 10).unwrap().chars().count(), 10);
        assert_eq!(told_text("\n\u{200b}", 10), None);
    }
}
