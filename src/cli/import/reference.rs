//! Reads a reference server's configuration: its shares, and notes on the rest.
//!
//! The format is the reference server's `ServerConfig`, version 1. Unknown members are ignored, as the reference server
//! does, but noted.

use std::collections::HashMap;

use crate::domain::core::name::{MAX_CHARACTERS, Name, NameKind, name_key};

use super::yaml::{Content, Mistake, Node};

/// The result of reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reference {
    pub(super) shares: Vec<Share>,
    /// Settings that are not taken over, each with the Weir setting for the same.
    pub(super) notes: Vec<Mistake>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) tables: Vec<SharedTable>,
}

/// A table of a share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SharedTable {
    pub(super) line: usize,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) location: String,
    /// The oldest shared version; `None` if only the newest one is shared.
    pub(super) history_from: Option<i64>,
}

/// Settings of the reference server, each with Weir's own for the same.
const SETTINGS: [(&str, &str); 7] = [
    ("host", "server.listen has the address"),
    ("port", "server.listen has the port"),
    ("endpoint", "sharing.prefix has the path; recipients' profiles name it"),
    ("ssl", "server.tls has certificate and key"),
    ("preSignedUrlTimeoutSeconds", "sharing.url_ttl_seconds has the life of signed URLs"),
    ("requestTimeoutSeconds", "server.request_timeout_seconds has the time of a request"),
    (
        "authorization",
        "its token is not taken over, and is worth nothing here; `weir token issue` makes each recipient one of its own",
    ),
];
/// Settings without a counterpart, because Weir needs none.
const MOOT: [&str; 9] = [
    "temporaryCredentialValiditySeconds",
    "deltaTableCacheSize",
    "stalenessAcceptable",
    "evaluatePredicateHints",
    "evaluateJsonPredicateHints",
    "evaluateJsonPredicateHintsV2",
    "queryTablePageSizeLimit",
    "queryTablePageTokenTtlMs",
    "refreshTokenTtlMs",
];

/// Reads `root`; the error lists everything that is wrong with it.
pub(super) fn read(root: &Node) -> Result<Reference, Vec<Mistake>> {
    let mut reader = Reader::default();
    let mut reference = reader.reference(root);
    reference.notes = std::mem::take(&mut reader.notes);
    reference.notes.sort_by_key(|note| note.line);
    reader.mistakes.sort_by_key(|mistake| mistake.line);
    if reader.mistakes.is_empty() { Ok(reference) } else { Err(reader.mistakes) }
}

/// Turns `text` into an allowed name that connectors can also write in `profile#share.schema.table`, where the parts
/// become URL path segments. Other characters become `_`.
fn usable_name(kind: NameKind, text: &str) -> String {
    let text = if text.is_empty() { "unnamed" } else { text };
    let is_allowed =
        |c: char| !matches!(c, '.' | '#' | '?' | '%') && Name::parse(kind, c.encode_utf8(&mut [0; 4])).is_ok();
    text.chars().take(MAX_CHARACTERS).map(|c| if is_allowed(c) { c } else { '_' }).collect()
}

#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
    notes: Vec<Mistake>,
    ids: Option<(usize, usize)>,
}

/// The members of one object.
struct Members<'a> {
    line: usize,
    members: &'a [(String, usize, Node)],
}

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a Node> {
        let member = self.members.iter().find(|(known, _, node)| known == name && node.value != Content::Null);
        member.map(|(_, _, node)| node)
    }
}

impl Reader {
    fn reference(&mut self, root: &Node) -> Reference {
        let Some(members) = self.members(root, "the configuration") else { return Reference::default() };
        match members.get("version").map(|node| (node.line, &node.value)) {
            Some((_, Content::Scalar(version))) if version == "1" => {}
            Some((line, _)) => self.wrong(line, "`version` must be 1, the only one there is"),
            None => self.wrong(members.line, "`version` is missing; write `version: 1`"),
        }
        let mut shares = Vec::new();
        for (of_share, name) in self.named(&members, "shares", NameKind::Share) {
            let Some(name) = name else { continue };
            let tables = self.schemas(&of_share);
            shares.push(Share { line: of_share.line, name, tables });
        }
        if shares.is_empty() && self.mistakes.is_empty() {
            self.wrong(members.line, "there is no share; is this a Delta Sharing server's configuration?");
        }
        for (name, line, _) in members.members {
            let weirs = SETTINGS.iter().find(|(setting, _)| setting == name).map(|(_, weirs)| *weirs);
            match (weirs, name.as_str()) {
                (_, "version" | "shares") => {}
                (Some(weirs), _) => self.note(*line, format!("`{name}` is not taken over: {weirs}")),
                (None, name) if MOOT.contains(&name) => {
                    self.note(*line, format!("`{name}` is not needed"));
                }
                (None, _) => self.note(*line, format!("`{name}` is unknown, and ignored as the reference server does")),
            }
        }
        if let Some((line, n)) = self.ids {
            let told = "listings show an id of this server's own; ids of files and of the Delta table stay as they are";
            self.note(line, format!("`id` of {n} tables is not taken over: {told}"));
        }
        Reference { shares, notes: Vec::new() }
    }

    fn schemas(&mut self, share: &Members<'_>) -> Vec<SharedTable> {
        let mut tables = Vec::new();
        for (of_schema, schema) in self.named(share, "schemas", NameKind::Schema) {
            let Some(schema) = schema else { continue };
            for (members, name) in self.named(&of_schema, "tables", NameKind::Table) {
                let location = self.text(&members, "location");
                let history = self.boolean(&members, "historyShared") | self.boolean(&members, "cdfEnabled");
                let start = self.number(&members, "startVersion");
                if members.get("id").is_some() {
                    self.ids.get_or_insert((members.line, 0)).1 += 1;
                }
                const KNOWN: [&str; 6] = ["name", "location", "id", "historyShared", "cdfEnabled", "startVersion"];
                for (name, line, _) in members.members.iter().filter(|(name, _, _)| !KNOWN.contains(&name.as_str())) {
                    self.note(
                        *line,
                        format!("`{name}` of a table is unknown, and ignored as the reference server does"),
                    );
                }
                if let (Some(name), Some(location)) = (name, location) {
                    let history_from = history.then_some(start.unwrap_or(0));
                    let (line, schema) = (members.line, schema.clone());
                    tables.push(SharedTable { line, schema, name, location, history_from });
                }
            }
        }
        tables
    }

    fn wrong(&mut self, line: usize, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(line, message));
    }

    fn note(&mut self, line: usize, message: impl Into<String>) {
        self.notes.push(Mistake::new(line, message));
    }

    fn members<'a>(&mut self, node: &'a Node, what: &str) -> Option<Members<'a>> {
        match &node.value {
            Content::Map(members) => Some(Members { line: node.line, members }),
            _ => {
                self.wrong(node.line, format!("{what} must have members, as in `name: …`"));
                None
            }
        }
    }

    /// The items of a list; empty if it is absent.
    fn items<'a>(&mut self, members: &Members<'a>, name: &str) -> &'a [Node] {
        match members.get(name).map(|node| (node.line, &node.value)) {
            Some((_, Content::List(items))) => items,
            Some((line, _)) => {
                self.wrong(line, format!("`{name}` must be a list, as in `- name: …`"));
                &[]
            }
            None => &[],
        }
    }

    fn text(&mut self, members: &Members<'_>, name: &str) -> Option<String> {
        match members.get(name).map(|node| (node.line, &node.value)) {
            Some((_, Content::Scalar(text))) if !text.is_empty() => Some(text.clone()),
            Some((line, _)) => {
                self.wrong(line, format!("`{name}` must be a text"));
                None
            }
            None => {
                self.wrong(members.line, format!("`{name}` is missing"));
                None
            }
        }
    }

    /// The items of a list, each with a unique name that is allowed and that connectors can write; `None` if its name
    /// is wrong. Usable names stay unchanged, wherever they are in the list, because recipients may be using them
    /// today. Names that only the reference server accepts are changed to fit around these, with a note.
    fn named<'a>(&mut self, of: &Members<'a>, list: &str, kind: NameKind) -> Vec<(Members<'a>, Option<String>)> {
        let mut written = Vec::new();
        for node in self.items(of, list) {
            let Some(members) = self.members(node, &format!("a {}", kind.noun())) else { continue };
            let name = self.written_name(&members);
            written.push((members, name));
        }
        // The place in the list of each name that stays.
        let mut taken = HashMap::new();
        for (at, (_, name)) in written.iter().enumerate() {
            if let Some((_, text)) = name
                && usable_name(kind, text) == *text
            {
                taken.entry(name_key(text)).or_insert(at);
            }
        }
        let lines: Vec<usize> = written.iter().map(|(members, _)| members.line).collect();
        let mut named = Vec::new();
        for (at, (members, name)) in written.into_iter().enumerate() {
            let name = name.and_then(|(line, text)| self.free_name(kind, at, line, text, &mut taken, &lines));
            named.push((members, name));
        }
        named
    }

    /// Finds a free name for the item in place `at`, written as `text`. `taken` maps names to places of items, `lines`
    /// places to lines.
    fn free_name(
        &mut self,
        kind: NameKind,
        at: usize,
        line: usize,
        text: &str,
        taken: &mut HashMap<String, usize>,
        lines: &[usize],
    ) -> Option<String> {
        let usable = usable_name(kind, text);
        let first = taken.get(&name_key(&usable)).copied();
        if usable == text && first == Some(at) {
            return Some(usable);
        }
        let first = first.and_then(|at| lines.get(at));
        let why = match first {
            // The reference server does not start with two shares of the same name.
            Some(first) if usable == text && kind == NameKind::Share && text.is_ascii() => {
                let own = lines.get(at).copied().unwrap_or(line);
                self.wrong(own, format!("the share `{text}` is there already, in line {first}"));
                return None;
            }
            Some(first) => format!("the {} in line {first} has this name already", kind.noun()),
            None => match Name::parse(kind, text) {
                Err(error) => error.to_string(),
                Ok(_) => "connectors separate profile, share, schema and table by `#` and `.`".to_owned(),
            },
        };
        let cut: String = usable.chars().take(MAX_CHARACTERS - 8).collect();
        let numbered = (2..).map(|number| format!("{cut}_{number}"));
        let name = std::iter::once(usable).chain(numbered).find(|name| !taken.contains_key(&name_key(name)))?;
        let shown: String = text.chars().take(MAX_CHARACTERS).collect();
        let told = format!("the {} `{shown}` becomes `{name}`: {why}; tell recipients its new name", kind.noun());
        self.note(line, told);
        taken.insert(name_key(&name), at);
        Some(name)
    }

    /// The item's `name` as written, and its line.
    fn written_name<'a>(&mut self, members: &Members<'a>) -> Option<(usize, &'a str)> {
        match members.get("name").map(|node| (node.line, &node.value)) {
            Some((line, Content::Scalar(text))) => Some((line, text.as_str())),
            Some((line, _)) => {
                self.wrong(line, "`name` must be a text");
                None
            }
            None => {
                self.wrong(members.line, "`name` is missing");
                None
            }
        }
    }

    fn boolean(&mut self, members: &Members<'_>, name: &str) -> bool {
        match members.get(name).map(|node| (node.line, &node.value)) {
            Some((_, Content::Scalar(text))) if text.eq_ignore_ascii_case("true") => true,
            Some((_, Content::Scalar(text))) if text.eq_ignore_ascii_case("false") => false,
            Some((line, _)) => {
                self.wrong(line, format!("`{name}` must be true or false"));
                false
            }
            None => false,
        }
    }

    fn number(&mut self, members: &Members<'_>, name: &str) -> Option<i64> {
        let node = members.get(name)?;
        let number = match &node.value {
            Content::Scalar(text) => text.parse::<i64>().ok().filter(|number| *number >= 0),
            _ => None,
        };
        if number.is_none() {
            self.wrong(node.line, format!("`{name}` must be a whole number, 0 or more"));
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::import::yaml::parse;

    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        read(&parse(text).unwrap()).unwrap_err().into_iter().map(|mistake| mistake.line).collect()
    }

    #[test]
    fn shares_schemas_and_tables_are_read_with_their_flags() {
        let text = "version: 1\nshares:\n- name: s\n  schemas:\n  - name: c\n    tables:\n    - name: t\n      \
                    location: s3a://lake/t\n      historyShared: true\n      startVersion: 3\n      id: x\n    - name: u\n      \
                    location: s3a://lake/u\nauthorization:\n  bearerToken: hush\nport: 80\nfoo: 1\n";
        let read = read(&parse(text).unwrap()).unwrap();
        let tables = &read.shares[0].tables;
        assert_eq!((tables[0].history_from, tables[1].history_from), (Some(3), None));
        assert_eq!((tables[0].line, tables[1].line, tables[1].schema.as_str()), (7, 12, "c"));
        assert_eq!(read.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [7, 14, 16, 17]);
        assert!(!format!("{read:?}").contains("hush"));
    }

    #[test]
    fn names_that_only_the_reference_server_takes_are_changed_and_told() {
        let text = "version: 1\nshares:\n- name: my.share\n  schemas:\n  - name: a b\n    tables:\n    - {name: t.x, \
                    location: l}\n    - {name: t/x, location: l}\n    - {name: T_X, location: l}\n    - {name: '', \
                    location: l}\n  - name: a_b\n    tables:\n    - {name: '50%#?', location: l}\n  - name: Größe\n";
        let read = read(&parse(text).unwrap()).unwrap();
        assert_eq!(read.shares[0].name, "my_share");
        let names: Vec<(&str, &str)> =
            read.shares[0].tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).collect();
        assert_eq!(
            names,
            [("a_b_2", "t_x_2"), ("a_b_2", "t_x_3"), ("a_b_2", "T_X"), ("a_b_2", "unnamed"), ("a_b", "50___")]
        );
        assert_eq!(read.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [3, 5, 7, 8, 10, 13]);
        assert!(read.notes[0].message.contains("the share `my.share` becomes `my_share`"), "{:?}", read.notes);
    }

    #[test]
    fn a_name_that_can_stay_keeps_its_location_though_others_come_before_it() {
        let text = "version: 1\nshares:\n- name: my.share\n  schemas: []\n- name: My_Share\n  schemas:\n  - name: a.b\n    \
                    tables:\n    - {name: t, location: x}\n  - name: A_B\n    tables:\n    - {name: c.d, location: x}\n    \
                    - {name: c#d, location: x}\n    - {name: c_d_2, location: y}\n    - {name: C_D, location: y}\n    \
                    - {name: c_d, location: z}\n";
        let read = read(&parse(text).unwrap()).unwrap();
        assert_eq!(read.shares.iter().map(|share| share.name.as_str()).collect::<Vec<_>>(), ["my_share_2", "My_Share"]);
        let tables = read.shares[1].tables.iter();
        let tables: Vec<_> = tables.map(|of| (of.schema.as_str(), of.name.as_str(), of.location.as_str())).collect();
        assert_eq!(
            tables,
            [
                ("a_b_2", "t", "x"),
                ("A_B", "c_d_3", "x"),
                ("A_B", "c_d_4", "x"),
                ("A_B", "c_d_2", "y"),
                ("A_B", "C_D", "y"),
                // The reference server compares names the same way, so there only the table before this one can be
                // reached.
                ("A_B", "c_d_5", "z"),
            ]
        );
        let why = "the table in line 15 has this name already";
        assert!(read.notes.iter().any(|note| note.line == 12 && note.message.contains(why)), "{:?}", read.notes);
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_line() {
        assert_eq!(lines("shares:\n- name: [a]\n- name: s\n- name: S\n- schemas: 1\n"), [1, 2, 4, 5]);
        let text = "version: 2\nshares:\n- name: s\n  schemas:\n  - name: c\n    tables:\n    - name: t\n    - location: x\n      \
                    historyShared: perhaps\n      startVersion: -1\n  - c\n";
        assert_eq!(lines(text), [1, 7, 8, 9, 10, 11]);
        assert_eq!(lines("- a\n"), [1]);
        assert_eq!(lines("version: 1\n"), [1]);
    }
}
