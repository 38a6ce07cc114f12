//! The `protocol` and `metaData` lines, which describe a table (Delta Sharing protocol, 2.2 and 2.3).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    domain::{
        catalog::{
            delta::{Metadata, Protocol},
            disclosure::{delta_configuration, parquet_configuration, parquet_schema},
        },
        sharing::negotiation::Format,
    },
    service::{core::error::ServiceError, sharing::TableHead},
};

use super::write_line;

#[derive(Serialize)]
struct ProtocolLine<P> {
    protocol: P,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetadataLine<M> {
    meta_data: M,
}

/// Writes the protocol of a parquet answer, which requires no reader features.
pub(super) fn write_parquet_protocol(out: &mut Vec<u8>) {
    write_line(out, &ProtocolLine { protocol: ParquetProtocol { min_reader_version: 1 } });
}

/// Writes a protocol as in the log, with its version if one is given.
pub(super) fn write_delta_protocol(out: &mut Vec<u8>, protocol: &Protocol, version: Option<u64>) {
    write_line(out, &ProtocolLine { protocol: DeltaProtocolLine { delta_protocol: protocol.into(), version } });
}

/// Writes the part of a table's metadata that a recipient may see. `size` holds its number of bytes and of files.
pub(super) fn write_metadata(
    out: &mut Vec<u8>,
    head: &TableHead,
    metadata: &Metadata,
    version: Option<u64>,
    size: Option<(u64, usize)>,
) -> Result<(), ServiceError> {
    let size = size.map(|(size, num_files)| Size { size, num_files });
    let id = head.alias.as_ref().map_or(metadata.id.as_str(), |alias| alias.table_id.as_str());
    match head.format {
        Format::Parquet => {
            let schema_string = parquet_schema(&metadata.schema_string)
                .ok_or_else(|| ServiceError::Unsupported("the table's schema cannot be understood".to_owned()))?;
            let shares_changes = head.object.spec.history && head.object.spec.cdf;
            let meta_data = ParquetMetadata {
                id,
                name: metadata.name.as_deref(),
                description: metadata.description.as_deref(),
                format: ParquetFormat { provider: "parquet" },
                schema_string: &schema_string,
                partition_columns: &metadata.partition_columns,
                configuration: parquet_configuration(&metadata.configuration, shares_changes),
                version,
                size,
            };
            write_line(out, &MetadataLine { meta_data });
        }
        Format::Delta => {
            let meta_data =
                DeltaMetadataLine { delta_metadata: DeltaMetadata { id, ..metadata.into() }, version, size };
            write_line(out, &MetadataLine { meta_data });
        }
    }
    Ok(())
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
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
}

#[derive(Serialize)]
struct ParquetFormat {
    provider: &'static str,
}

/// The amount of data; Spark plans by it, and its delta reader fails without it (3.6).
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Size {
    size: u64,
    num_files: usize,
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
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
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
