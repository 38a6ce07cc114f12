//! The lines of the sharing protocol, in both formats (Delta Sharing protocol, section 2).
//!
//! Each line is built field by field from an allow-list; nothing is copied from a log and edited. Key order is fixed
//! by the structs here, so that two answers about one snapshot are the same bytes. Never here: which files there are.

use std::{collections::BTreeMap, io};

use md5::Md5;
use serde::{Serialize, Serializer, ser::SerializeMap};
use sha2::{Digest, Sha256};

use crate::{
    domain::{
        delta::{Metadata, Protocol},
        disclosure::{delta_configuration, parquet_configuration, parquet_schema},
        negotiation::Format,
        seal::hex,
    },
    lake::{DeletionVectorRef, FileRef},
    service::{
        error::ServiceError,
        sharing::{
            TableHead,
            delivery::SignedVector,
            stream::{Answer, Lines, SignedChunk},
        },
    },
};

/// `value` as one line of JSON with its newline.
///
/// The Python client splits lines as Unicode does, so that U+2028, U+2029 and U+0085 must not stand in one raw.
pub fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    write_line(&mut line, value);
    line
}

fn write_line(out: &mut Vec<u8>, value: &impl Serialize) {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, OneLine);
    // Writing to memory does not fail, and every value here has string keys.
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok());
    out.push(b'\n');
}

/// Compact JSON whose strings hold nothing that any client takes for the end of a line.
struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // All three begin with one of two bytes in UTF-8, which most texts do not hold at all.
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

/// The two lines that every answer about a table begins with.
pub fn head_lines(head: &TableHead) -> Result<Vec<u8>, ServiceError> {
    let (snapshot, shares_changes) = (&head.snapshot, head.object.history && head.object.cdf);
    let metadata = snapshot.metadata();
    let size = Size { size: snapshot.size_bytes(), num_files: snapshot.files().len() };
    let version = head.stamp.metadata;
    let mut out = Vec::with_capacity(1024 + metadata.schema_string.len());
    match head.format {
        Format::Parquet => {
            let schema_string = parquet_schema(&metadata.schema_string)
                .ok_or_else(|| ServiceError::Unsupported("the table's schema cannot be understood".to_owned()))?;
            write_line(&mut out, &ParquetHead::Protocol(ParquetProtocol { min_reader_version: 1 }));
            write_line(
                &mut out,
                &ParquetHead::MetaData(ParquetMetadata {
                    id: &metadata.id,
                    name: metadata.name.as_deref(),
                    description: metadata.description.as_deref(),
                    format: ParquetFormat { provider: "parquet" },
                    schema_string: &schema_string,
                    partition_columns: &metadata.partition_columns,
                    configuration: parquet_configuration(&metadata.configuration, shares_changes),
                    version,
                    size,
                }),
            );
        }
        Format::Delta => {
            write_line(
                &mut out,
                &DeltaHead::Protocol(DeltaProtocolLine { delta_protocol: snapshot.protocol().into() }),
            );
            write_line(&mut out, &DeltaHead::MetaData(DeltaMetadataLine { delta_metadata: metadata.into(), size }));
        }
    }
    Ok(out)
}

/// Which digest of a file's path is its id (`fileidhash`, Delta Sharing protocol, 2.5).
pub type IdHash = Format;

/// The lines of `chunk`.
pub fn chunk_lines(answer: &Answer, chunk: &SignedChunk, id_hash: IdHash) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunk.urls.files.len() * 1024);
    let expiration = answer.expires_at.timestamp_millis();
    match &answer.lines {
        Lines::Snapshot(files) => {
            let signed = chunk.urls.files.iter().zip(&chunk.urls.vectors);
            for (file, (url, vector)) in files.get(chunk.range.clone()).zip(signed) {
                let ids = Ids { hash: id_hash, stamp: answer.head.stamp.files, expiration };
                match answer.head.format {
                    Format::Parquet => write_line(&mut out, &FileLine { file: parquet_file(&file, url, ids) }),
                    Format::Delta => {
                        write_line(&mut out, &FileLine { file: delta_file(&file, url, vector.as_ref(), ids) });
                    }
                }
            }
        }
    }
    out
}

/// What every file line says besides the file.
#[derive(Clone, Copy)]
struct Ids {
    hash: IdHash,
    stamp: Option<(u64, i64)>,
    expiration: i64,
}

impl Ids {
    /// The id of the file at `path`, the path as the log writes it: MD5 in parquet answers and SHA-256 in delta ones,
    /// unless the client chose. Ids order files inside Spark's streaming checkpoints, so that providers who move from
    /// the reference server need the same ones.
    fn id(&self, path: &str) -> String {
        match self.hash {
            IdHash::Parquet => hex(&Md5::digest(path.as_bytes())),
            IdHash::Delta => hex(&Sha256::digest(path.as_bytes())),
        }
    }
}

/// The last line of an answer, where the client asked for one.
pub fn end_line(end: &EndStreamAction) -> Vec<u8> {
    to_line(&EndLine { end_stream_action: end })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ParquetHead<'a> {
    Protocol(ParquetProtocol),
    MetaData(ParquetMetadata<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ParquetProtocol {
    min_reader_version: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ParquetMetadata<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    format: ParquetFormat,
    schema_string: &'a str,
    partition_columns: &'a [String],
    configuration: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(flatten)]
    size: Size,
}

#[derive(Serialize)]
struct ParquetFormat {
    provider: &'static str,
}

/// How much there is to read; Spark plans by it, and its delta reader fails without it (3.6).
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Size {
    size: u64,
    num_files: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum DeltaHead<'a> {
    Protocol(DeltaProtocolLine<'a>),
    MetaData(DeltaMetadataLine<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeltaProtocolLine<'a> {
    delta_protocol: DeltaProtocol<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeltaProtocol<'a> {
    min_reader_version: i32,
    min_writer_version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reader_features: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer_features: Option<&'a [String]>,
}

impl<'a> From<&'a Protocol> for DeltaProtocol<'a> {
    fn from(protocol: &'a Protocol) -> Self {
        Self {
            min_reader_version: protocol.min_reader_version,
            min_writer_version: protocol.min_writer_version,
            reader_features: protocol.reader_features.as_deref(),
            writer_features: protocol.writer_features.as_deref(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeltaMetadataLine<'a> {
    delta_metadata: DeltaMetadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(flatten)]
    size: Size,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeltaMetadata<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    format: DeltaFormat<'a>,
    schema_string: &'a str,
    partition_columns: &'a [String],
    configuration: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<i64>,
}

#[derive(Serialize)]
struct DeltaFormat<'a> {
    provider: &'a str,
    options: BTreeMap<String, String>,
}

impl<'a> From<&'a Metadata> for DeltaMetadata<'a> {
    fn from(metadata: &'a Metadata) -> Self {
        Self {
            id: &metadata.id,
            name: metadata.name.as_deref(),
            description: metadata.description.as_deref(),
            format: DeltaFormat { provider: &metadata.format_provider, options: BTreeMap::new() },
            schema_string: &metadata.schema_string,
            partition_columns: &metadata.partition_columns,
            configuration: delta_configuration(&metadata.configuration),
            created_time: metadata.created_time,
        }
    }
}

#[derive(Serialize)]
struct FileLine<F> {
    file: F,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ParquetFile<'a> {
    url: &'a str,
    id: String,
    partition_values: PartitionValues<'a>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    expiration_timestamp: i64,
}

fn parquet_file<'a>(file: &FileRef<'a>, url: &'a str, ids: Ids) -> ParquetFile<'a> {
    ParquetFile {
        url,
        id: ids.id(file.path),
        partition_values: PartitionValues(*file),
        size: file.size,
        stats: file.stats,
        version: ids.stamp.map(|stamp| stamp.0),
        timestamp: ids.stamp.map(|stamp| stamp.1),
        expiration_timestamp: ids.expiration,
    }
}

/// Every partition column with its value; nulls are written, because Spark takes a missing key for an error.
struct PartitionValues<'a>(FileRef<'a>);

impl Serialize for PartitionValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.partition_values() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeltaFile<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_vector_file_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    expiration_timestamp: i64,
    delta_single_action: DeltaAction<'a>,
}

#[derive(Serialize)]
struct DeltaAction<'a> {
    add: Add<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Add<'a> {
    path: &'a str,
    partition_values: PartitionValues<'a>,
    size: u64,
    modification_time: i64,
    data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_vector: Option<DeletionVector<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletionVector<'a> {
    storage_type: &'a str,
    path_or_inline_dv: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i32>,
    size_in_bytes: i32,
    cardinality: i64,
}

fn delta_file<'a>(file: &FileRef<'a>, url: &'a str, vector: Option<&'a SignedVector>, ids: Ids) -> DeltaFile<'a> {
    let add = Add {
        path: url,
        partition_values: PartitionValues(*file),
        size: file.size,
        modification_time: file.modification_time,
        data_change: file.data_change,
        stats: file.stats,
        deletion_vector: file.deletion_vector.map(|descriptor| deletion_vector(descriptor, vector)),
    };
    DeltaFile {
        id: ids.id(file.path),
        // Spark's cache key of the vector's file; it fails without one (2.7).
        deletion_vector_file_id: vector.map(|vector| ids.id(&vector.path)),
        version: ids.stamp.map(|stamp| stamp.0),
        timestamp: ids.stamp.map(|stamp| stamp.1),
        expiration_timestamp: ids.expiration,
        delta_single_action: DeltaAction { add },
    }
}

/// A vector in a file becomes an absolute one whose path is the signed URL; an inline one stays what it is (2.7).
fn deletion_vector<'a>(descriptor: DeletionVectorRef<'a>, vector: Option<&'a SignedVector>) -> DeletionVector<'a> {
    let (storage_type, path_or_inline_dv) = match vector {
        Some(vector) => ("p", vector.url.as_str()),
        None => (descriptor.storage_type, descriptor.path_or_inline),
    };
    DeletionVector {
        storage_type,
        path_or_inline_dv,
        offset: descriptor.offset,
        size_in_bytes: descriptor.size_in_bytes,
        cardinality: descriptor.cardinality,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndLine<'a> {
    end_stream_action: &'a EndStreamAction,
}

/// What the last line says (Delta Sharing protocol, 2.1); what is absent is left out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndStreamAction {
    /// Asks for fresh URLs of the same version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Asks for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
    /// When the first URL of the answer ends, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_url_expiration_timestamp: Option<i64>,
    /// Why the answer is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// What status the fault would have had; Spark tries again on some.
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

    #[test]
    fn ids_are_the_reference_servers() {
        let id = |hash| Ids { hash, stamp: None, expiration: 0 }.id("");
        assert_eq!(id(IdHash::Parquet), "d41d8cd98f00b204e9800998ecf8427e");
        assert!(id(IdHash::Delta).starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
    }
}
