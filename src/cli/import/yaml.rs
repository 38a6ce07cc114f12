//! Parses YAML into a bounded tree with line numbers. Aliases are refused, because a few lines of them can expand to
//! gigabytes.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// The deepest nesting of mappings and sequences; a reference server's file needs six.
const MAX_DEPTH: usize = 16;
/// The most values in a file.
const MAX_NODES: usize = 1_000_000;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// The line where it begins, from 1.
    pub(super) line: usize,
    pub(super) value: Content,
}

/// The content of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// Members in the order of the file, with the line of each name.
    Map(Vec<(String, usize, Node)>),
}

/// A mistake in a text, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: usize,
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// A mapping or sequence that has not ended yet.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(String, usize, Node)>, Option<(String, usize)>),
}

/// Parses `text`, which must be a single document.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    let mut parser = Parser::new_from_str(text);
    let (mut open, mut root, mut nodes): (Vec<Open>, Option<Node>, usize) = (Vec::new(), None, 0);
    while let Some(event) = parser.next_event() {
        let (event, Span { start, .. }) = event.map_err(|error| Mistake::new(error.marker().line(), error.info()))?;
        let line = start.line();
        nodes += 1;
        if nodes > MAX_NODES {
            return Err(Mistake::new(line, format!("the file has more than {MAX_NODES} values")));
        }
        let done = match event {
            Event::Scalar(text, style, _, _) => Node { line, value: scalar(text, style) },
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == MAX_DEPTH => {
                return Err(Mistake::new(line, format!("is nested more than {MAX_DEPTH} deep")));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(line, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(line, Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(line, items)) => Node { line, value: Content::List(items) },
                Some(Open::Map(line, members, _)) => Node { line, value: Content::Map(members) },
                None => continue,
            },
            Event::Alias(_) => return Err(Mistake::new(line, "is an alias, which is not read; write the value out")),
            Event::DocumentStart(_) if root.is_some() => {
                return Err(Mistake::new(line, "begins a second document; a configuration is one"));
            }
            Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {
                continue;
            }
        };
        match open.last_mut() {
            None => root = Some(done),
            Some(Open::List(_, items)) => items.push(done),
            Some(Open::Map(_, members, name)) => match (name.take(), done) {
                (Some((name, line)), value) => members.push((name, line, value)),
                (None, Node { line, value: Content::Scalar(text) }) => {
                    if let Some((_, first, _)) = members.iter().find(|(known, _, _)| *known == text) {
                        return Err(Mistake::new(line, format!("`{text}` is there already, in line {first}")));
                    }
                    *name = Some((text, line));
                }
                (None, Node { line, .. }) => return Err(Mistake::new(line, "a name must be a text")),
            },
        }
    }
    root.ok_or_else(|| Mistake::new(1, "the file is empty"))
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Content {
    match (style, text.as_ref()) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Content::Null,
        _ => Content::Scalar(text.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_knows_its_lines() {
        let tree = parse("version: 1\nshares:\n- name: \"a\"\n  id: ~\n").unwrap();
        let Content::Map(members) = tree.value else { panic!("no map") };
        assert_eq!((members[0].0.as_str(), members[0].1), ("version", 1));
        let Content::List(shares) = &members[1].2.value else { panic!("no list") };
        let Content::Map(share) = &shares[0].value else { panic!("no map") };
        assert_eq!((&share[0].2.value, share[0].1), (&Content::Scalar("a".into()), 3));
        assert_eq!((&share[1].2.value, share[1].1), (&Content::Null, 4));
    }

    #[test]
    fn what_is_hostile_is_refused_with_its_line() {
        let refused = |text: &str| parse(text).unwrap_err();
        assert_eq!(refused("a: &x [1]\nb: *x\n").line, 2);
        assert_eq!(refused("a: 1\nb: 2\na: 3\n"), Mistake::new(3, "`a` is there already, in line 1"));
        assert_eq!(refused("a: 1\n---\nb: 2\n").line, 2);
        assert!(refused("a: [1\nb: }").line >= 1);
        assert!(refused(&"[".repeat(40)).message.contains("deep"));
        assert_eq!(refused(&"[".repeat(1 << 20)).line, 1);
        assert!(refused(&"a:\n".to_owned().replace('a', "? [x]\n: 1\nb")).message.contains("text"));
        assert_eq!(refused("").message, "the file is empty");
    }
}
