//! What systems and callers say, as people are told it.

use super::name::is_invisible;

/// What can be seen of a caller's text, cut to `longest` characters.
pub fn echoed(text: &str, longest: usize) -> String {
    let mut visible = text.chars().filter(|c| !c.is_control() && !is_invisible(*c));
    let mut echoed: String = visible.by_ref().take(longest).collect();
    if visible.next().is_some() {
        echoed.push('…');
    }
    echoed
}

/// Names, each marked as one.
pub fn quoted(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// A system's message without the number behind it.
pub fn without_number(text: &str) -> String {
    text.split(" (os error").next().unwrap_or(text).to_owned()
}
