//! The `delta-sharing-capabilities` header: read leniently, answered truthfully.
//!
//! Invalid parts are ignored rather than refused, because connectors of every age send this header
//! (Delta Sharing protocol, "Delta Sharing Capabilities Header"). Never here: choosing a format.

use http::HeaderMap;

use crate::domain::sharing::negotiation::{ClientCapabilities, Format};

/// The header's name, in requests and responses.
pub const HEADER: &str = "delta-sharing-capabilities";

/// The longest header value that is read, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// A client's capabilities and wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Formats and reader features.
    pub declared: ClientCapabilities,
    /// Whether the client wants an EndStreamAction as the last line.
    pub end_stream_action: bool,
}

impl Capabilities {
    /// Reads the header; absent and unreadable parts declare nothing.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut capabilities = Self::default();
        for value in headers.get_all(HEADER) {
            if let Ok(text) = value.to_str()
                && text.len() <= MAX_BYTES
            {
                capabilities.take(&text.to_ascii_lowercase());
            }
        }
        capabilities
    }

    fn take(&mut self, text: &str) {
        for fragment in text.split(';') {
            let Some((key, values)) = fragment.split_once('=') else { continue };
            let mut values = values.split(',').map(str::trim).filter(|value| !value.is_empty());
            match key.trim() {
                "responseformat" => self.declared.formats.extend(values.filter_map(|value| match value {
                    "parquet" => Some(Format::Parquet),
                    "delta" => Some(Format::Delta),
                    _ => None,
                })),
                "readerfeatures" => self.declared.reader_features.extend(values.map(str::to_owned)),
                "includeendstreamaction" => self.end_stream_action = values.next() == Some("true"),
                _ => {}
            }
        }
    }

    /// Returns the response header: it names only the format used, because a second name makes the Python client
    /// misread the answer.
    pub fn answer(&self, format: Format, ends_with_action: bool) -> String {
        let mut answer = format!("responseformat={}", format.as_str());
        if ends_with_action && self.end_stream_action {
            answer.push_str(";includeendstreamaction=true");
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Capabilities {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(text.as_bytes()).unwrap());
        Capabilities::read(&headers)
    }

    #[test]
    fn odd_headers_are_read_leniently() {
        let read = read(
            " ResponseFormat = Delta,parquet ,foo; readerFeatures=deletionVectors,, columnMapping;junk;a=b=c;IncludeEndStreamAction=TRUE",
        );
        assert_eq!(read.declared.formats, [Format::Delta, Format::Parquet]);
        assert!(read.declared.reader_features.contains("deletionvectors"));
        assert!(read.declared.reader_features.contains("columnmapping"));
        assert!(read.end_stream_action);
    }

    #[test]
    fn a_junk_boolean_is_false() {
        assert!(!read("includeendstreamaction=maybe").end_stream_action);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_fail(text in "[ -~]{0,200}") {
            read(&text);
        }
    }
}
