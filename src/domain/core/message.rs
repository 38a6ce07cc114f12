//! Prepares texts of systems and callers for messages to people.

use super::name::is_invisible;

/// Removes invisible characters from a caller's text and cuts it to `longest` characters.
pub fn echoed(text: &str, longest: usize) -> String {
    let mut visible = text.chars().filter(|c| !c.is_control() && !is_invisible(*c));
    let mut echoed: String = visible.by_ref().take(longest).collect();
    if visible.next().is_some() {
        echoed.push('…');
    }
    echoed
}

/// Lists names, each in backticks.
pub fn quoted(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Removes the error number from an operating system's message.
pub fn without_number(text: &str) -> String {
    text.split(" (os error").next().unwrap_or(text).to_owned()
}
