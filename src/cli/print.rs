//! Prints answers on the terminal: tables and fields for people, JSON for programs.
//!
//! Text from other people (a comment, a user agent) never reaches the terminal as a control sequence.

use std::{
    fmt::Display,
    io::{self, Write},
};

use serde_json::Value;

use crate::domain::core::name::is_directional;

/// Standard output. All commands print through it, so that a failure to print can be distinguished from any other
/// broken connection.
pub(super) struct Out(io::Stdout);

/// The output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unwritten(io::Error);

impl Unwritten {
    fn told(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(error))
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(Unwritten::told)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(Unwritten::told)
    }
}

/// Standard output, for writing.
pub(super) fn out() -> Out {
    Out(io::stdout())
}

/// Whether the output was not written because nobody reads it any more, which ends a command quietly.
pub(super) fn is_unread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe && error.get_ref().is_some_and(|cause| cause.is::<Unwritten>())
}

/// Prints `text` as a line on standard output.
///
/// # Errors
/// Fails even if the only reason is that nobody reads the output any more ([`is_unread`]).
pub(super) fn line(text: impl Display) -> io::Result<()> {
    writeln!(out(), "{text}")
}

/// Prints `text` as a line on standard error, for people. Failures are ignored.
pub(super) fn note(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "weir: {text}"));
}

/// Prints `value` as indented JSON.
pub(super) fn json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Prints one line for each of `items`, under a heading. `columns` are members; nested ones are dotted.
pub(super) fn table(out: &mut dyn Write, columns: &[&str], items: &[Value]) -> io::Result<()> {
    let heading = columns.iter().map(|column| column.to_uppercase().replace(['_', '.'], " ")).collect();
    let cells = |item: &Value| columns.iter().map(|column| cell(find(item, column))).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(items.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints one line for each member of `value`; nested ones are dotted.
pub(super) fn fields(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    let mut lines = Vec::new();
    flatten("", value, &mut lines);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, text) in &lines {
        writeln!(out, "{name:<width$}  {text}")?;
    }
    Ok(())
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() || name.is_empty() => {
            for (member, value) in members {
                let member = clean(member, false);
                let name = if name.is_empty() { member } else { format!("{name}.{member}") };
                flatten(&name, value, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                lines.push((format!("{name}[{index}]"), clean(&item.to_string(), false)));
            }
        }
        other => lines.push((name.to_owned(), cell(other))),
    }
}

fn find<'a>(item: &'a Value, column: &str) -> &'a Value {
    column.split('.').fold(item, |value, member| value.get(member).unwrap_or(&Value::Null))
}

/// Writes a value on one line.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text, false),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(members) if members.is_empty() => "-".to_owned(),
        Value::Object(members) if members.len() == 1 => members.values().map(cell).collect(),
        other => clean(&other.to_string(), false),
    }
}

/// Escapes control characters in `text`, except for line breaks if these are `kept`.
pub(super) fn clean(text: &str, kept: bool) -> String {
    let shown = |c: char| match c {
        '\n' if kept => c.to_string(),
        // Directional marks could make a line look like another.
        c if is_directional(c) => c.escape_unicode().to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn output_that_nobody_reads_is_no_other_broken_pipe() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_unread(&Unwritten::told(broken())) && !is_unread(&broken()));
        assert!(!is_unread(&Unwritten::told(io::Error::from(io::ErrorKind::StorageFull))));
        assert_eq!(Unwritten::told(broken()).to_string(), broken().to_string());
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let items = [json!({"name": "a", "source": {"table": "t.t"}}), json!({"name": "längst", "source": null})];
        let text = printed(|out| table(out, &["name", "source"], &items));
        assert_eq!(text, "NAME    SOURCE\na       t.t\nlängst  -\n");
    }

    #[test]
    fn fields_are_dotted_where_nested_and_lists_of_objects_have_a_line_each() {
        let value = json!({"name": "a", "delta": {"version": 1, "columns": [{"name": "x"}], "keys": ["p", "q"]}});
        let text = printed(|out| fields(out, &value));
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["delta.columns[0] {\"name\":\"x\"}", "delta.keys p, q", "delta.version 1", "name a"]);
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let items = [json!({"name": "\u{1b}[2Jx\n\u{202e}y\u{200f}"})];
        let text = printed(|out| table(out, &["name"], &items));
        assert_eq!(text, "NAME\n\\u{1b}[2Jx\\n\\u{202e}y\\u{200f}\n");
    }
}
