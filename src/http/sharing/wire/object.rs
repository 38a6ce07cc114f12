//! One JSON object, written directly, member by member, because large answers consist of such objects.
//!
//! Texts contain no character that a client could take for a line end. Never here: the choice of members.

use crate::domain::core::seal::hex_digits;

use super::write_value;

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    /// Writes an object with the members that `fill` adds.
    pub(super) fn write(out: &'o mut Vec<u8>, fill: impl FnOnce(&mut Self)) {
        out.push(b'{');
        let mut object = Object { out, is_empty: true };
        fill(&mut object);
        object.out.push(b'}');
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
    }

    /// Begins a member with a fixed name that needs no escapes.
    fn name(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes a member whose name comes from the table.
    pub(super) fn entry(&mut self, name: &str, value: Option<&str>) {
        self.separate();
        write_text(self.out, name);
        self.out.push(b':');
        match value {
            Some(value) => write_text(self.out, value),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    pub(super) fn text(&mut self, name: &'static str, value: &str) {
        write_text(self.name(name), value);
    }

    /// Writes a member as lower-case hex.
    pub(super) fn hex(&mut self, name: &'static str, bytes: &[u8]) {
        let out = self.name(name);
        out.push(b'"');
        out.extend(hex_digits(bytes));
        out.push(b'"');
    }

    pub(super) fn number(&mut self, name: &'static str, value: impl itoa::Integer) {
        self.name(name).extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(super) fn flag(&mut self, name: &'static str, value: bool) {
        self.name(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn object(&mut self, name: &'static str, fill: impl FnOnce(&mut Object<'_>)) {
        Object::write(self.name(name), fill);
    }
}

/// Writes a text with its quotes.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // Statistics are JSON inside JSON: many quotes and nothing else to escape. The general writer handles other texts.
    let is_usual = bytes.iter().fold(true, |is_usual, &byte| is_usual & (0x20..0x80).contains(&byte));
    if !is_usual {
        write_value(out, &text);
        return;
    }
    out.push(b'"');
    if bytes.iter().fold(true, |is_plain, &byte| is_plain & !is_escaped(byte)) {
        out.extend_from_slice(bytes);
    } else {
        write_escaped(out, bytes);
    }
    out.push(b'"');
}

fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\')
}

/// Writes ASCII with a backslash before each quote and backslash. It reads eight bytes as one number, finds all bytes
/// to escape in it at once, and copies the bytes between them unchanged.
fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    const EIGHT: usize = size_of::<u64>();
    /// Sets a bit for each byte of `word` that equals `byte`; no byte of `word` may have its highest bit set.
    fn places(word: u64, byte: u8) -> u64 {
        !((word ^ u64::from_ne_bytes([byte; EIGHT])) + u64::from_ne_bytes([0x7f; EIGHT]))
            & u64::from_ne_bytes([0x80; EIGHT])
    }
    let begin = out.len();
    // All bytes may need an escape, and the last number may be written beyond its bytes.
    out.resize(begin + 2 * bytes.len() + EIGHT, 0);
    let room = &mut out[begin..];
    let mut at = 0;
    let (words, rest) = bytes.as_chunks::<EIGHT>();
    for word in words {
        let mut word = u64::from_le_bytes(*word);
        let mut escaped = places(word, b'"') | places(word, b'\\');
        let mut left = EIGHT;
        while escaped != 0 {
            let before = escaped.trailing_zeros() / u8::BITS;
            room[at..at + EIGHT].copy_from_slice(&word.to_le_bytes());
            at += before as usize;
            let [byte, ..] = (word >> (before * u8::BITS)).to_le_bytes();
            room[at..at + 2].copy_from_slice(&[b'\\', byte]);
            at += 2;
            left -= before as usize + 1;
            let behind = (before + 1) * u8::BITS;
            (word, escaped) =
                (word.checked_shr(behind).unwrap_or_default(), escaped.checked_shr(behind).unwrap_or_default());
        }
        room[at..at + EIGHT].copy_from_slice(&word.to_le_bytes());
        at += left;
    }
    for &byte in rest {
        if is_escaped(byte) {
            room[at] = b'\\';
            at += 1;
        }
        room[at] = byte;
        at += 1;
    }
    out.truncate(begin + at);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_what_serde_writes(text in r#"([ -~]|["\\]|[\x00-\x1f]|ä|€|\u{85}|\u{2028}){0,40}"#) {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            write_text(&mut ours, &text);
            write_value(&mut theirs, &text);
            prop_assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
        }
    }

    #[test]
    fn members_are_written_in_their_order() {
        let mut out = Vec::new();
        Object::write(&mut out, |object| {
            object.text("a", "\"b\"");
            object.object("c", |inner| {
                inner.entry("d\"", None);
                inner.entry("d", Some("\\"));
            });
            object.object("e", |_| ());
            object.number("f", -7i64);
            object.flag("g", true);
            object.hex("h", &[0x0f, 0xa0]);
        });
        assert_eq!(out, br#"{"a":"\"b\"","c":{"d\"":null,"d":"\\"},"e":{},"f":-7,"g":true,"h":"0fa0"}"#);
    }
}
