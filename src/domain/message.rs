//! What systems say, as people are told it.

/// A system's message without the number behind it.
pub fn without_number(text: &str) -> String {
    text.split(" (os error").next().unwrap_or(text).to_owned()
}
