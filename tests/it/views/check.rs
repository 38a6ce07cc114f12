//! Whether what left the server is what should have left it, and nothing else. Pure: it looks at what it is given, so
//! that a mistake can be made there and has to be found.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use base64::{Engine, engine::GeneralPurpose, prelude::BASE64_STANDARD_NO_PAD, prelude::BASE64_URL_SAFE_NO_PAD};
use md5::Md5;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};
use weir::domain::{
    catalog::schema::{DataType, Field, Primitive},
    core::seal::hex,
};

use super::{
    connector::{FileRead, Received, TableRead},
    parquet_parts::{ParquetParts, take_apart},
    plain::{Expected, bare, schema_of},
    source::Table,
    value::{Named, Row, Value, arrow_type, sorted},
};

/// Texts and numbers that must not be seen.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    texts: HashMap<Vec<u8>, Vec<String>>,
    numbers: BTreeSet<u64>,
    /// The first byte of each text and the low two bytes of each number, to skip most of the input.
    first: BTreeSet<u8>,
    low: BTreeSet<u16>,
}

/// Something that should not have left the server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub kind: Kind,
    pub what: String,
}

/// The rule that a finding breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A secret is in an answer, a header, a URL, an error or a log line.
    SecretInText,
    /// A secret is in a file's bytes, compressed or decompressed.
    SecretInFile,
    /// A line has too much or something wrong.
    Line,
    /// The table's description is not that of the view.
    Description,
    /// A file's footer contains more than it needs.
    Footer,
    /// A file's columns are not those of the view.
    Columns,
    /// A file has bytes that no reader needs.
    Bytes,
    /// Statistics are wrong, or cover what they must not.
    Statistics,
    /// Partition values are not those of the shown partition columns.
    PartitionValues,
    /// The rows are not the expected ones.
    Rows,
    /// A size is not that of what is shown.
    Size,
    /// A URL is neither of this server nor of its copies.
    Url,
    /// Something has the same identity as at the source or for another recipient.
    Identity,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Fails if there are findings.
#[track_caller]
pub fn nothing(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().take(20).map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), lines.join("\n"));
}

/// How many bytes of a text the first search compares.
const KEY: usize = 6;

impl Secrets {
    /// The contents that `table` ever had and `expected` does not show.
    pub fn of<'a>(table: &Table, expected: impl IntoIterator<Item = &'a Expected> + Clone) -> Self {
        let shown = Shown::of(expected.clone());
        let mut names = BTreeSet::new();
        expected.into_iter().for_each(|expected| names.extend(expected.names()));
        let mut secrets = Self::of_cells(table, &shown);
        table.marks.iter().for_each(|mark| secrets.add(mark));
        table.names.difference(&names).filter(|name| !shown.texts.contains(*name)).for_each(|name| secrets.add(name));
        [super::weir_server::TABLE, super::weir_server::VIEW]
            .iter()
            .for_each(|name| secrets.add(name.rsplit('.').next().unwrap()));
        secrets
    }

    /// Only the values: no log line may contain them, whoever reads it.
    pub fn of_values<'a>(table: &Table, expected: impl IntoIterator<Item = &'a Expected>) -> Self {
        Self::of_cells(table, &Shown::of(expected))
    }

    fn of_cells(table: &Table, shown: &Shown) -> Self {
        let mut all = Shown::default();
        table.cells.iter().for_each(|cell| all.see(cell));
        let mut secrets = Self::default();
        all.texts.difference(&shown.texts).for_each(|text| secrets.add(text));
        secrets.numbers = all.numbers.difference(&shown.numbers).copied().collect();
        secrets.low = secrets.numbers.iter().map(|number| *number as u16).collect();
        secrets
    }

    /// Adds a text; very short ones are skipped, since they occur by chance.
    pub fn add(&mut self, text: &str) {
        let text = text.to_lowercase();
        if let Some(key) = text.as_bytes().get(..KEY) {
            self.first.insert(key[0]);
            self.texts.entry(key.to_vec()).or_default().push(text);
        }
    }

    /// The number of secrets.
    pub fn len(&self) -> usize {
        self.texts.values().map(Vec::len).sum::<usize>() + self.numbers.len()
    }

    /// Finds the first secrets in `bytes`.
    fn find(&self, bytes: &[u8]) -> Vec<String> {
        let lower = bytes.to_ascii_lowercase();
        let begins: [bool; 256] = std::array::from_fn(|byte| self.first.contains(&(byte as u8)));
        let mut low = vec![false; 1 << 16];
        self.low.iter().for_each(|two| low[usize::from(*two)] = true);
        let mut found = BTreeSet::new();
        for (at, byte) in lower.iter().enumerate() {
            if begins[usize::from(*byte)]
                && let Some(texts) = lower.get(at..at + KEY).and_then(|key| self.texts.get(key))
            {
                found.extend(texts.iter().filter(|text| lower[at..].starts_with(text.as_bytes())).cloned());
            }
        }
        for eight in bytes.windows(8) {
            let (little, big) = (u16::from_le_bytes([eight[0], eight[1]]), u16::from_be_bytes([eight[6], eight[7]]));
            if !low[usize::from(little)] && !low[usize::from(big)] {
                continue;
            }
            let eight: [u8; 8] = eight.try_into().unwrap();
            let both = [u64::from_le_bytes(eight), u64::from_be_bytes(eight)];
            found.extend(both.iter().filter(|number| self.numbers.contains(number)).map(ToString::to_string));
        }
        found.into_iter().take(5).collect()
    }

    /// Does the same as [`Self::find`] in a text, in the numbers written in it, and in its possible decodings.
    fn find_in_text(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = self.find(bytes);
        let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'e' | b'E' | b'+');
        for number in bytes.split(|byte| !is_part(byte)) {
            // Secret numbers have many digits.
            if number.len() < 12 {
                continue;
            }
            let Ok(text) = std::str::from_utf8(number) else { continue };
            let whole = text.parse::<i64>().ok().map(|value| value as u64);
            let float = text.parse::<f64>().ok().map(f64::to_bits);
            let is_secret = |bits: &u64| self.numbers.contains(bits);
            if whole.filter(is_secret).or(float.filter(is_secret)).is_some() {
                found.push(text.to_owned());
            }
        }
        for decoded in decodings(bytes) {
            found.extend(self.find(&decoded));
        }
        found
    }

    /// Finds secrets in an answer's headers and body.
    pub fn in_answer(&self, answer: &Received) -> Vec<Finding> {
        let mut found = Vec::new();
        for (name, value) in &answer.headers {
            found.extend(self.find_in_text(format!("{name}: {value}").as_bytes()));
        }
        let is_file = answer.body.starts_with(b"PAR1");
        if !is_file {
            found.extend(self.find_in_text(&answer.body));
        }
        found
            .into_iter()
            .map(|what| Kind::SecretInText.found(format!("`{what}` in the answer to {}", answer.asked)))
            .collect()
    }

    /// Finds secrets in a log.
    pub fn in_log(&self, log: &str) -> Vec<Finding> {
        let in_line = |line: &str| {
            let found = self.find_in_text(line.as_bytes());
            found
                .into_iter()
                .map(|what| Kind::SecretInText.found(format!("`{what}` is logged: {line}")))
                .collect::<Vec<_>>()
        };
        // Lines with findings are rare, so the whole log is searched first.
        if self.find_in_text(log.as_bytes()).is_empty() { Vec::new() } else { log.lines().flat_map(in_line).collect() }
    }

    fn in_file(&self, content: &[u8], dissection: &ParquetParts) -> Vec<Finding> {
        let whole = ("the bytes".to_owned(), content.to_vec());
        let mut findings = Vec::new();
        for (place, bytes) in std::iter::once(&whole).chain(&dissection.pages) {
            let found = self.find(bytes);
            findings.extend(found.into_iter().map(|what| Kind::SecretInFile.found(format!("`{what}` in {place}"))));
        }
        findings
    }
}

impl Kind {
    fn found(self, what: impl Into<String>) -> Finding {
        Finding { kind: self, what: what.into() }
    }
}

/// The shown texts and numbers, which are no secrets.
#[derive(Default)]
struct Shown {
    texts: BTreeSet<String>,
    numbers: BTreeSet<u64>,
}

impl Shown {
    fn of<'a>(expected: impl IntoIterator<Item = &'a Expected>) -> Self {
        let mut shown = Self::default();
        for value in expected.into_iter().flat_map(Expected::rows).flatten() {
            shown.see(&value);
        }
        shown
    }

    fn see(&mut self, value: &Value) {
        value.visit(&mut |value| match value {
            Value::Text(text) => drop(self.texts.insert(text.to_lowercase())),
            // Small numbers occur everywhere.
            Value::Integer(number) | Value::Timestamp(number) if number.unsigned_abs() > 1 << 44 => {
                self.numbers.insert(*number as u64);
            }
            Value::Float(number) if number.is_finite() && *number != 0.0 && number.to_bits().trailing_zeros() < 24 => {
                self.numbers.insert(number.to_bits());
            }
            Value::Decimal(digits) if digits.unsigned_abs() > 1 << 44 => drop(self.numbers.insert(*digits as u64)),
            Value::Binary(bytes) => {
                if let Some(first) = bytes.first_chunk::<8>() {
                    self.numbers.insert(u64::from_be_bytes(*first));
                }
            }
            _ => {}
        });
    }
}

/// The possible decodings of parts of a text.
fn decodings(text: &[u8]) -> Vec<Vec<u8>> {
    let mut decoded: Vec<Vec<u8>> = vec![percent_encoding::percent_decode(text).collect()];
    let mut each = |is_part: fn(&u8) -> bool, decode: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
        decoded.extend(text.split(|byte| !is_part(byte)).filter(|part| part.len() >= 2 * KEY).filter_map(decode));
    };
    let base64 = |engine: GeneralPurpose| move |part: &[u8]| engine.decode(&part[..part.len() - part.len() % 4]).ok();
    each(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'), &base64(BASE64_URL_SAFE_NO_PAD));
    each(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'), &base64(BASE64_STANDARD_NO_PAD));
    each(u8::is_ascii_hexdigit, &|part| {
        let pairs = part.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        pairs.collect()
    });
    decoded
}

/// Finds mistakes in the result of one query, including its files.
pub fn read(read: &TableRead, expected: &Expected, secrets: &Secrets) -> Vec<Finding> {
    let mut findings = description(read, expected);
    let mut rows: Vec<Row> = Vec::new();
    for (at, file) in read.files.iter().enumerate() {
        let more = one_file(read, file, expected, secrets, &mut rows);
        findings.extend(more.into_iter().map(|finding| finding.kind.found(format!("file {at}: {}", finding.what))));
    }
    if sorted(&rows) != sorted(&expected.rows()) {
        findings.push(Kind::Rows.found(difference(&sorted(&rows), &sorted(&expected.rows()))));
    }
    let size: u64 = read.files.iter().map(|file| file.bytes.len() as u64).sum();
    let told = if read.way.is_delta { &read.beside_metadata } else { read.metadata.as_object().unwrap() };
    let told = |name| told.get(name).and_then(Json::as_u64);
    if (told("size"), told("numFiles")) != (Some(size), Some(read.files.len() as u64)) {
        findings.push(Kind::Size.found(format!("the table is said to have {:?} bytes, and has {size}", told("size"))));
    }
    let ids: BTreeSet<&String> = read.files.iter().map(|file| &file.id).collect();
    if ids.len() < read.files.len() {
        findings.push(Kind::Identity.found("two files have one id"));
    }
    findings
}

/// The first row that is in only one of the two.
fn difference(one: &[String], other: &[String]) -> String {
    let lacks = |of: &[String], row: &String| of.binary_search(row).is_err();
    let more = one.iter().find(|row| lacks(other, row));
    let less = other.iter().find(|row| lacks(one, row));
    format!("{} rows where {} are due; too many: {more:?}; missing: {less:?}", one.len(), other.len())
}

fn description(read: &TableRead, expected: &Expected) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut unless = |is_right: bool, what: String| {
        if !is_right {
            findings.push(Kind::Description.found(what));
        }
    };
    let metadata = read.metadata.as_object().unwrap();
    let members: &[&str] = match read.way.is_delta {
        true => &["id", "format", "schemaString", "partitionColumns", "configuration", "createdTime"],
        false => &["id", "format", "schemaString", "partitionColumns", "configuration", "size", "numFiles", "version"],
    };
    unless(only(metadata, members), format!("the metadata has more members: {metadata:?}"));
    unless(only(&read.beside_metadata, &["size", "numFiles", "version"]), format!("{:?}", read.beside_metadata));
    let format = metadata["format"].as_object().unwrap();
    let options = format.get("options").is_none_or(|options| options.as_object().unwrap().is_empty());
    unless(format["provider"] == "parquet" && options, format!("the format is {format:?}"));
    unless(metadata["configuration"].as_object().unwrap().is_empty(), "there are table properties".to_owned());
    let is_local = |field: &Field| format!("{:?}", field.data_type).contains("TimestampNtz");
    let versions = read.protocol.get("minReaderVersion").and_then(Json::as_u64);
    let features = read.protocol.get("readerFeatures").cloned().unwrap_or_default();
    let is_plain = !read.way.is_delta || !expected.fields.iter().any(is_local);
    let right = if is_plain { (Some(1), Json::Null) } else { (Some(3), serde_json::json!(["timestampNtz"])) };
    unless((versions, features) == right, format!("the protocol is {}", read.protocol));

    let schema = schema_of(metadata["schemaString"].as_str().unwrap());
    let types = |fields: &[Field]| -> Vec<(String, DataType)> {
        fields.iter().map(|field| (field.name.clone(), bare(&field.data_type))).collect()
    };
    unless(types(&schema.fields) == types(&expected.fields), format!("the schema is {}", metadata["schemaString"]));
    for field in &schema.fields {
        let due = expected.fields.iter().find(|due| due.name == field.name).map(|due| &due.metadata);
        unless(due == Some(&field.metadata), format!("`{}` has {:?}", field.name, field.metadata));
        let text = format!("{:?}", field.data_type);
        unless(!text.contains("metadata: {\""), format!("parts of `{}` have metadata: {text}", field.name));
    }
    let partitioned = serde_json::json!(expected.partition_columns);
    unless(metadata["partitionColumns"] == partitioned, format!("partitioned by {}", metadata["partitionColumns"]));
    let nulls = |field: &&Field| !field.nullable;
    for field in schema.fields.iter().filter(nulls) {
        let at = expected.fields.iter().position(|due| due.name == field.name);
        let holds = at.is_some_and(|at| expected.rows().iter().any(|row| row[at].is_null()));
        unless(!holds, format!("`{}` holds NULL, which its schema denies", field.name));
    }
    findings
}

fn only(members: &Map<String, Json>, allowed: &[&str]) -> bool {
    members.keys().all(|name| allowed.contains(&name.as_str()))
}

fn one_file(
    read: &TableRead,
    file: &FileRead,
    expected: &Expected,
    secrets: &Secrets,
    rows: &mut Vec<Row>,
) -> Vec<Finding> {
    let mut findings = line(read, file);
    let partition: BTreeSet<&String> = file.partition_values.keys().collect();
    if partition != expected.partition_columns.iter().collect() {
        findings.push(Kind::PartitionValues.found(format!("{:?}", file.partition_values)));
    }
    if file.size != file.bytes.len() as u64 {
        findings.push(Kind::Size.found(format!("{} bytes are said, {} came", file.size, file.bytes.len())));
    }
    let dissection = take_apart(&file.bytes);
    findings.extend(secrets.in_file(&file.bytes, &dissection));
    findings.extend(footer(&dissection, expected));
    let own = match with_partition_values(file, &dissection, expected) {
        Ok(own) => own,
        Err(finding) => {
            findings.push(finding);
            return findings;
        }
    };
    findings.extend(statistics(file, &dissection, expected, &own));
    rows.extend(own);
    findings
}

/// Checks the members of a file's line, and its URL.
fn line(read: &TableRead, file: &FileRead) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (around, members): (&[&str], &[&str]) = match read.way.is_delta {
        true => (
            &["id", "version", "timestamp", "expirationTimestamp"],
            &["path", "partitionValues", "size", "modificationTime", "dataChange", "stats"],
        ),
        false => {
            (&[], &["url", "id", "partitionValues", "size", "stats", "version", "timestamp", "expirationTimestamp"])
        }
    };
    if !only(&file.around, around) || !only(&file.line, members) {
        findings.push(Kind::Line.found(format!("more than lines say: {:?} {:?}", file.around, file.line)));
    }
    let length = if read.way.is_delta { 64 } else { 32 };
    if file.id.len() != length || !file.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        findings.push(Kind::Identity.found(format!("an id is `{}`", file.id)));
    }
    if !is_ours(&file.url, read.way.is_presigned) {
        findings.push(Kind::Url.found(file.url.clone()));
    }
    findings
}

/// Whether a URL is sealed, or leads to a copy under a random name.
pub fn is_ours(url: &str, is_presigned: bool) -> bool {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    if !is_presigned {
        let sealed = address.strip_prefix("http://weir.test/files/");
        let is_sealed = |sealed: &str| sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        return sealed.is_some_and(is_sealed) && query == "X-Databricks-Signature=weir";
    }
    let Some((host, key)) = address.split_once("/copies/of/views/m/") else { return false };
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let key = key.split_once('-').is_some_and(|(unit, random)| is_hex(unit, 32) && is_hex(random, 32));
    host.starts_with("http://127.0.0.1:") && key && query.contains("X-Amz-Signature=")
}

/// What a footer says, and what columns it describes.
fn footer(dissection: &ParquetParts, expected: &Expected) -> Vec<Finding> {
    let mut findings = Vec::new();
    let about = dissection.metadata.file_metadata();
    let said = (about.created_by(), about.key_value_metadata().is_none_or(Vec::is_empty));
    if said != (Some("weir"), true) {
        findings.push(Kind::Footer.found(format!("{said:?} {:?}", about.key_value_metadata())));
    }
    let named: Named = |field| (field.name.clone(), None);
    let in_file = expected.fields.iter().filter(|field| !expected.partition_columns.contains(&field.name));
    let due: Vec<_> = in_file.map(|field| (field.name.clone(), arrow_type(&field.data_type, named))).collect();
    let nullable = |data_type: &arrow::datatypes::DataType| all_nullable(data_type);
    let found: Vec<_> =
        dissection.columns.iter().map(|field| (field.name().clone(), nullable(field.data_type()))).collect();
    let due: Vec<_> = due.into_iter().map(|(name, data_type)| (name, nullable(&data_type))).collect();
    if found != due {
        findings.push(Kind::Columns.found(format!("{found:?} where {due:?} are due")));
    }
    let schema = about.schema_descr();
    for leaf in schema.columns() {
        if leaf.self_type().get_basic_info().has_id() {
            findings.push(Kind::Footer.found(format!("`{}` has a field id", leaf.path())));
        }
    }
    for group in dissection.metadata.row_groups() {
        for chunk in group.columns() {
            let path = chunk.column_path();
            let may_speak = expected.spoken_of.contains(path.parts());
            let speaks = chunk.statistics().is_some() || chunk.column_index_offset().is_some();
            if speaks && !may_speak {
                findings.push(Kind::Statistics.found(format!("the footer speaks of `{}`", path.string())));
            }
            if chunk.bloom_filter_offset().is_some() {
                findings.push(Kind::Footer.found(format!("`{}` has a bloom filter", path.string())));
            }
        }
    }
    let unused =
        dissection.unused.iter().map(|(place, value)| format!("a dictionary in {place} holds {value:?} for no row"));
    findings.extend(unused.map(|what| Kind::Bytes.found(what)));
    let unexplained = dissection.unexplained.iter().map(|range| format!("bytes {range:?} are nothing"));
    findings.extend(unexplained.map(|what| Kind::Bytes.found(what)));
    findings
}

fn all_nullable(data_type: &arrow::datatypes::DataType) -> arrow::datatypes::DataType {
    use arrow::datatypes::{DataType, Field, Fields};
    let field = |field: &std::sync::Arc<Field>| Field::new(field.name(), all_nullable(field.data_type()), true);
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        DataType::List(element) => DataType::List(field(element).into()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries).into(), *sorted),
        other => other.clone(),
    }
}

/// A file's rows with the values that its line has for all of them.
fn with_partition_values(file: &FileRead, dissection: &ParquetParts, expected: &Expected) -> Result<Vec<Row>, Finding> {
    let mut read = dissection.rows.iter().map(|row| row.iter());
    let mut rows = Vec::with_capacity(dissection.rows.len());
    for row in &mut read {
        let mut own = row.clone();
        let mut whole = Row::new();
        for field in &expected.fields {
            if expected.partition_columns.contains(&field.name) {
                let text = file.partition_values.get(&field.name).and_then(Json::as_str);
                whole.push(partition_value(text, &field.data_type));
            } else {
                let value = own.next().ok_or_else(|| Kind::Columns.found("a column is missing"))?;
                whole.push(value.clone());
            }
        }
        rows.push(whole);
    }
    Ok(rows)
}

/// Parses a partition value as logs write it.
fn partition_value(text: Option<&str>, data_type: &DataType) -> Value {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Value::Null };
    match data_type.primitive().unwrap() {
        Primitive::String => Value::text(text),
        Primitive::Boolean => Value::Boolean(text.parse().unwrap()),
        Primitive::Date => {
            let date: chrono::NaiveDate = text.parse().unwrap();
            Value::Date((date - chrono::NaiveDate::default()).num_days().try_into().unwrap())
        }
        _ => Value::Integer(text.parse().unwrap()),
    }
}

/// Whether what the line says of a file is true, and of nothing but what may be spoken of.
fn statistics(file: &FileRead, dissection: &ParquetParts, expected: &Expected, rows: &[Row]) -> Vec<Finding> {
    let Some(stats) = &file.stats else { return Vec::new() };
    let mut findings = Vec::new();
    let mut found = |what: String| findings.push(Kind::Statistics.found(what));
    let stats = stats.as_object().unwrap();
    if !only(stats, &["numRecords", "minValues", "maxValues", "nullCount"]) {
        found(format!("{stats:?}"));
    }
    if stats["numRecords"].as_u64() != Some(dissection.rows.len() as u64) {
        found(format!("{} records are said, {} came", stats["numRecords"], dissection.rows.len()));
    }
    for kind in ["minValues", "maxValues", "nullCount"] {
        let mut leaves = BTreeMap::new();
        told(&stats[kind], &mut Vec::new(), &mut leaves);
        for (path, value) in leaves {
            if !expected.spoken_of.contains(&path) {
                found(format!("{kind} speaks of {path:?}"));
                continue;
            }
            let values = column(rows, &expected.fields, &path);
            if kind == "nullCount" {
                if value.as_u64() != Some(values.iter().filter(|value| value.is_null()).count() as u64) {
                    found(format!("{value} nulls are said of {path:?}"));
                }
            } else if let Some(text) = value.as_str() {
                // Long texts are truncated; a prefix of none of the values belongs elsewhere.
                let begins = |own: &Value| match own {
                    Value::Text(own) => own.chars().take(32).eq(text.chars().take(own.chars().count().min(32))),
                    _ => true,
                };
                if !values.iter().filter(|value| !value.is_null()).any(begins) {
                    found(format!("{kind} says {text:?} of {path:?}"));
                }
            } else if let Some(number) = value.as_i64() {
                let is_own = |own: &Value| match own {
                    Value::Integer(own) => *own == number,
                    _ => true,
                };
                if !values.iter().filter(|value| !value.is_null()).any(is_own) {
                    found(format!("{kind} says {number} of {path:?}"));
                }
            }
        }
    }
    findings
}

fn told(stats: &Json, path: &mut Vec<String>, leaves: &mut BTreeMap<Vec<String>, Json>) {
    match stats {
        Json::Object(members) => {
            for (name, inner) in members {
                path.push(name.clone());
                told(inner, path, leaves);
                path.pop();
            }
        }
        value => drop(leaves.insert(path.clone(), value.clone())),
    }
}

/// The values at a path outside lists and maps.
fn column(rows: &[Row], fields: &[Field], path: &[String]) -> Vec<Value> {
    fn at(value: &Value, data_type: &DataType, path: &[String]) -> Value {
        let (Some((first, rest)), DataType::Struct(fields)) = (path.split_first(), data_type) else {
            return value.clone();
        };
        let position = fields.iter().position(|field| field.name == *first).unwrap();
        match value {
            Value::Struct(parts) => at(&parts[position], &fields[position].data_type, rest),
            _ => Value::Null,
        }
    }
    let row_type = DataType::Struct(fields.to_vec());
    rows.iter().map(|row| at(&Value::Struct(row.clone()), &row_type, path)).collect()
}

/// Finds identities that two recipients' reads, or two reads of the source, have in common but must not.
pub fn apart(mine: &[TableRead], theirs: &[TableRead]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let identities = |reads: &[TableRead]| -> BTreeSet<String> {
        // Partners with equal rights read the same objects, so their presigned URLs may be equal.
        let own = |read: &TableRead, file: &FileRead| {
            [Some(file.id.clone()), (!read.way.is_presigned).then(|| file.url.clone())].into_iter().flatten()
        };
        let ids = reads.iter().flat_map(|read| read.files.iter().flat_map(move |file| own(read, file)));
        let tables = reads.iter().map(|read| read.metadata["id"].as_str().unwrap().to_owned());
        ids.chain(tables).collect()
    };
    let both = identities(mine).intersection(&identities(theirs)).cloned().collect::<Vec<_>>();
    findings.extend(both.into_iter().map(|id| Kind::Identity.found(format!("two recipients know `{id}`"))));
    findings
}

/// Finds ids that files have at the source.
pub fn source_ids(reads: &[TableRead], table: &Table) -> Vec<Finding> {
    let paths: BTreeSet<&String> =
        table.versions.iter().flat_map(|version| version.files.iter().map(|file| &file.path)).collect();
    let digests = |path: &&String| [hex(&Md5::digest(path.as_bytes())), hex(&Sha256::digest(path.as_bytes()))];
    let known: BTreeSet<String> = paths.iter().flat_map(digests).collect();
    let ids = reads.iter().flat_map(|read| read.files.iter().map(|file| &file.id));
    ids.filter(|id| known.contains(*id)).map(|id| Kind::Identity.found(format!("`{id}` is a source file's"))).collect()
}
