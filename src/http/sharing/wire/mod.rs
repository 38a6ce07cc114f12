//! The lines of the sharing protocol, in both formats (Delta Sharing protocol, section 2).
//!
//! Each line is built field by field from an allow-list; nothing is copied from a log and edited. The code here fixes
//! the order of keys, so that two answers about one snapshot are the same bytes. Never here: the choice of files.

mod file;
mod head;
mod object;

use std::io;

use chrono::{DateTime, Utc};
use serde::Serialize;

pub use self::file::IdHash;
use crate::{
    domain::sharing::negotiation::Format,
    lake::{FileAction, FileRef},
    service::{
        core::error::ServiceError,
        sharing::{
            TableHead,
            delivery::SignedVector,
            stream::{Content, SignedChunk},
        },
    },
};

use self::file::{FileLine, Said};

/// Serialises `value` as one line of JSON with its newline.
///
/// U+2028, U+2029 and U+0085 are escaped, because the Python client splits lines at every Unicode line end.
pub fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    write_line(&mut line, value);
    line
}

fn write_line(out: &mut Vec<u8>, value: &impl Serialize) {
    write_value(out, value);
    out.push(b'\n');
}

fn write_value(out: &mut Vec<u8>, value: &impl Serialize) {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, OneLine);
    // Writing to memory does not fail, and every value here has string keys.
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok());
}

/// Formats compact JSON whose strings contain no character that a client could take for a line end.
struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // In UTF-8 all three begin with one of two bytes, which most texts do not contain.
        if !fragment.bytes().any(|byte| byte == 0xC2 || byte == 0xE2) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(['\u{85}', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut following = rest[at..].chars();
            if let Some(breaker) = following.next() {
                write!(writer, "\\u{:04x}", u32::from(breaker))?;
            }
            rest = following.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Returns the first two lines of every answer about a table.
pub fn head_lines(head: &TableHead) -> Result<Vec<u8>, ServiceError> {
    let mut out = Vec::with_capacity(1024 + head.described.metadata().schema_string.len());
    match head.format {
        Format::Parquet => head::write_parquet_protocol(&mut out),
        Format::Delta => head::write_delta_protocol(&mut out, head.described.protocol(), head.stamp.protocol),
    }
    head::write_metadata(&mut out, head, head.described.metadata(), head.stamp.metadata, head.described.size())?;
    Ok(out)
}

/// Returns the lines of `chunk`.
pub fn chunk_lines(
    head: &TableHead,
    chunk: &SignedChunk,
    id_hash: IdHash,
    expires_at: DateTime<Utc>,
) -> Result<Vec<u8>, ServiceError> {
    let mut out = Vec::with_capacity(chunk.urls.files.len() * 1024);
    let key = head.alias.as_ref().map(|alias| &alias.file_key);
    let said = |stamp| Said { hash: id_hash, key, stamp, expiration: expires_at.timestamp_millis() };
    let signed = chunk.urls.files.iter().zip(&chunk.urls.vectors);
    match &chunk.content {
        Content::Files { files, range } => {
            let said = said(head.stamp.files);
            for (file, (url, vector)) in files.get(range.clone()).zip(signed) {
                write_file(&mut out, head.format, None, &file, (url, vector.as_ref()), said);
            }
        }
        Content::Commit(lines) => {
            let version = lines.commit.version;
            if let Some(protocol) = &lines.protocol {
                head::write_delta_protocol(&mut out, protocol, Some(version));
            }
            if let Some(metadata) = &lines.metadata {
                head::write_metadata(&mut out, head, metadata, Some(version), None)?;
            }
            let said = said(Some((version, lines.commit.committed_at)));
            for (action, (url, vector)) in lines.files().zip(signed) {
                // Every action of a range has its size and partition values.
                let file = action.as_file().ok_or_else(|| ServiceError::internal("an action without its size"))?;
                write_file(&mut out, head.format, Some(action), &file, (url, vector.as_ref()), said);
            }
        }
    }
    Ok(out)
}

/// Writes a file of a snapshot, or a commit's action on a file.
fn write_file(
    out: &mut Vec<u8>,
    format: Format,
    action: Option<&FileAction>,
    file: &FileRef<'_>,
    (url, vector): (&str, Option<&SignedVector>),
    said: Said<'_>,
) {
    let kind = action.map(|action| action.kind);
    let extended_metadata = action.and_then(|action| action.extended_metadata);
    let line = FileLine { kind, extended_metadata, file, url, vector, said };
    match format {
        Format::Parquet => line.write_parquet(out),
        Format::Delta => line.write_delta(out),
    }
    out.push(b'\n');
}

/// Returns the EndStreamAction line, for clients that asked for one.
pub fn end_line(end: &EndStreamAction) -> Vec<u8> {
    to_line(&EndLine { end_stream_action: end })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndLine<'a> {
    end_stream_action: &'a EndStreamAction,
}

/// The contents of the last line (Delta Sharing protocol, 2.1); absent members are left out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndStreamAction {
    /// The token for fresh URLs of the same version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// The token for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
    /// When the first URL of the answer expires, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_url_expiration_timestamp: Option<i64>,
    /// Why the answer is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The status that the error would have had; Spark retries some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status_error_code: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_string_ends_a_line_for_any_client() {
        let line = String::from_utf8(to_line(&"a\u{2028}b\u{2029}c\u{85}d\u{e9}€\n")).unwrap();
        assert_eq!(line, "\"a\\u2028b\\u2029c\\u0085dé€\\n\"\n");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), "a\u{2028}b\u{2029}c\u{85}d\u{e9}€\n");
    }
}
