//! One JSON object, written member by member: what a large answer consists of, so that it is written without a detour.
//!
//! Texts hold nothing that any client takes for the end of a line. Never here: which members there are.

use super::write_value;
use crate::domain::seal::hex_digits;

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

    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        write_text(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        write_text(self.name(name), value);
    }

    /// Lower-case hex.
    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) {
        let out = self.name(name);
        out.push(b'"');
        out.extend(hex_digits(bytes));
        out.push(b'"');
    }

    pub(super) fn number(&mut self, name: &str, value: impl itoa::Integer) {
        self.name(name).extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.name(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn null(&mut self, name: &str) {
        self.name(name).extend_from_slice(b"null");
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        Object::write(self.name(name), fill);
    }
}

/// Writes a text with its quotes.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // Statistics are JSON inside JSON: many quotes and nothing else. What is rarer is left to the writer of all values.
    let is_usual = bytes.iter().fold(true, |is_usual, &byte| is_usual & (0x20..0x80).contains(&byte));
    if !is_usual {
        write_value(out, &text);
        return;
    }
    let escapes: usize = bytes.iter().map(|&byte| usize::from(matches!(byte, b'"' | b'\\'))).sum();
    out.push(b'"');
    if escapes == 0 {
        out.extend_from_slice(bytes);
    } else {
        let mut at = out.len();
        out.resize(at + bytes.len() + escapes, b'\\');
        for &byte in bytes {
            at += usize::from(matches!(byte, b'"' | b'\\'));
            out[at] = byte;
            at += 1;
        }
    }
    out.push(b'"');
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
            object.object("c", |inner| inner.null("d\""));
            object.object("e", |_| ());
            object.number("f", -7i64);
            object.flag("g", true);
            object.hex("h", &[0x0f, 0xa0]);
        });
        assert_eq!(out, br#"{"a":"\"b\"","c":{"d\"":null},"e":{},"f":-7,"g":true,"h":"0fa0"}"#);
    }
}
