//! Mistakes made in what a well-behaved server gave: each has to be found. They prove the checker of the leak
//! tests, not the server; `tests/mutants` holds mistakes of the server itself.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{Field, Schema as ArrowSchema},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use md5::{Digest, Md5};
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::ArrowWriterOptions,
    },
    basic::{Compression, ZstdLevel},
    file::{
        metadata::{KeyValue, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataWriter},
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    },
    schema::types::ColumnPath,
};
use serde_json::{Value as Json, json};

use super::{
    check::{self, Finding, Kind, Secrets},
    claims_view::{PLANS, reader, shared_claims},
    connector::{FileRead, Received, TableRead},
    parquet_parts::take_apart,
    plain::{Expected, Reader, Visible},
    source::{Mapping, Table},
    value::{Value, from_array, sorted, to_array},
    weir_server::{self, WeirServer},
};

/// The answers to two partners, one way after the other.
#[derive(Clone)]
struct Given<'a> {
    table: &'a Table,
    server: &'a WeirServer,
    visible: &'a Visible,
    reader: Reader,
    mine: Vec<TableRead>,
    theirs: Vec<TableRead>,
    answers: Vec<Received>,
    log: String,
    /// What I should see, and what they should see.
    due: (Expected, Expected),
}

impl Given<'_> {
    fn findings(&self) -> Vec<Finding> {
        let (mine, theirs) = (Secrets::of(self.table, [&self.due.0]), Secrets::of(self.table, [&self.due.1]));
        let mut findings: Vec<Finding> = Vec::new();
        findings.extend(self.mine.iter().flat_map(|read| check::read(read, &self.due.0, &mine)));
        findings.extend(self.theirs.iter().flat_map(|read| check::read(read, &self.due.1, &theirs)));
        findings.extend(check::source_ids(&self.mine, self.table));
        findings.extend(check::apart(&self.mine, &self.theirs));
        findings.extend(self.answers.iter().flat_map(|answer| mine.in_answer(answer)));
        findings.extend(Secrets::of_values(self.table, []).in_log(&self.log));
        findings
    }

    /// The first file of the first way, in the parquet format.
    fn file(&mut self) -> &mut FileRead {
        &mut self.mine[0].files[0]
    }

    /// The first file of the second way, in the delta format.
    fn delta_file(&mut self) -> &mut FileRead {
        &mut self.mine[1].files[0]
    }

    fn metadata(&mut self) -> &mut serde_json::Map<String, Json> {
        self.mine[1].metadata.as_object_mut().unwrap()
    }

    /// A value that only the source has.
    fn secret(&self) -> String {
        let text = |value: &Value| match value {
            Value::Text(text) if text.len() == 13 && text.starts_with('z') => Some(text.clone()),
            _ => None,
        };
        // The second column holds member names.
        self.table.versions[1].rows().iter().find_map(|row| text(&row[1])).unwrap()
    }

    fn number(&self) -> i64 {
        let rows = self.table.versions[1].rows();
        let Value::Integer(number) = rows[0][9] else { panic!("serial numbers stand in the tenth column") };
        number
    }

    fn source_bytes(&self, at: usize) -> Vec<u8> {
        std::fs::read(self.server.app.folder("zsourcefolder").join(&self.table.state.files[at].path)).unwrap()
    }

    /// Replaces my rows by those that another view or version shows.
    fn show(&mut self, expected: &Expected) {
        let columns = self.visible.columns.len();
        let shown: Vec<usize> =
            (0..columns).filter(|at| !expected.partition_columns.contains(&expected.fields[*at].name)).collect();
        for read in &mut self.mine {
            let mut template = read.files[0].clone();
            let rows: Vec<_> = expected.files.concat();
            template.bytes = rewritten(&template.bytes, &self.due.0, |batch| {
                let schema = batch.schema();
                let arrays = shown.iter().zip(schema.fields()).map(|(at, field)| {
                    to_array(&rows.iter().map(|row| &row[*at]).collect::<Vec<_>>(), field.data_type())
                });
                RecordBatch::try_new(Arc::clone(&schema), arrays.collect()).unwrap()
            });
            template.size = template.bytes.len() as u64;
            read.files = vec![template];
        }
    }

    /// Writes the first file again.
    fn rewrite(&mut self, change: impl Fn(RecordBatch) -> RecordBatch) {
        let due = self.due.0.clone();
        let file = self.file();
        file.bytes = rewritten(&file.bytes, &due, change);
    }

    fn rewrite_with(&mut self, change: impl Fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder) {
        let due = self.due.0.clone();
        let file = self.file();
        file.bytes = written(&batch_of(&file.bytes), &due, change);
    }
}

fn batch_of(content: &[u8]) -> RecordBatch {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(Bytes::copy_from_slice(content), options).unwrap();
    let schema = Arc::clone(builder.schema());
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn rewritten(content: &[u8], due: &Expected, change: impl Fn(RecordBatch) -> RecordBatch) -> Vec<u8> {
    written(&change(batch_of(content)), due, |properties| properties)
}

/// A file as the server writes it, apart from `change`.
fn written(
    batch: &RecordBatch,
    due: &Expected,
    change: impl Fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
) -> Vec<u8> {
    let mut properties = WriterProperties::builder()
        .set_created_by("weir".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::None);
    for leaf in &due.spoken_of {
        let leaf = ColumnPath::new(leaf.clone());
        properties = properties.set_column_statistics_enabled(leaf, EnabledStatistics::Page);
    }
    let options = ArrowWriterOptions::new().with_properties(change(properties).build()).with_skip_arrow_metadata(true);
    let mut content = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut content, batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    content
}

fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(name, column.data_type().clone(), true));
    let columns = batch.columns().iter().cloned().chain([column]).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).unwrap()
}

/// A column with changed values.
fn with_values(batch: &RecordBatch, at: usize, change: impl Fn(Value) -> Value) -> RecordBatch {
    let field = batch.schema().field(at).clone();
    let values: Vec<Value> = from_array(batch.column(at)).into_iter().map(change).collect();
    let mut columns = batch.columns().to_vec();
    columns[at] = to_array(&values.iter().collect::<Vec<_>>(), field.data_type());
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn stat(file: &mut FileRead, kind: &str, name: &str, value: Json) {
    file.stats.as_mut().unwrap()[kind][name] = value;
}

/// A mistake: its name, the kind of finding it must cause, and how it is made.
type Mistake = (&'static str, Kind, fn(&mut Given<'_>));

const MISTAKES: &[Mistake] = &[
    ("a source file is handed out itself", Kind::SecretInFile, |given| {
        given.file().bytes = given.source_bytes(0);
    }),
    ("a source file is handed out itself, and has other columns", Kind::Columns, |given| {
        given.file().bytes = given.source_bytes(0);
    }),
    ("statistics of a masked column are kept", Kind::Statistics, |given| {
        stat(given.file(), "minValues", "member_key", json!("h1_aaa"));
    }),
    ("statistics of a hidden column are kept", Kind::Statistics, |given| {
        stat(given.delta_file(), "nullCount", "zmember_name", json!(0));
    }),
    ("statistics are those of the source's rows", Kind::Statistics, |given| {
        stat(given.file(), "maxValues", "claim_id", json!(999_999));
    }),
    ("nulls are counted among hidden rows", Kind::Statistics, |given| {
        stat(given.file(), "nullCount", "claim_id", json!(7));
    }),
    ("records are counted as in the source", Kind::Statistics, |given| {
        given.file().stats.as_mut().unwrap()["numRecords"] = json!(60);
    }),
    ("the footer has statistics of a masked column", Kind::Statistics, |given| {
        given.rewrite_with(|properties| {
            properties.set_column_statistics_enabled(ColumnPath::from("member_key"), EnabledStatistics::Chunk)
        });
    }),
    ("the footer has key-value metadata", Kind::Footer, |given| {
        given.rewrite_with(|properties| {
            properties.set_key_value_metadata(Some(vec![KeyValue::new("ARROW:schema".to_owned(), "x".to_owned())]))
        });
    }),
    ("the footer names who wrote the source", Kind::Footer, |given| {
        given.rewrite_with(|properties| properties.set_created_by("spark on host7".to_owned()));
    }),
    ("a bloom filter is written", Kind::Footer, |given| {
        given.rewrite_with(|properties| properties.set_column_bloom_filter_enabled("member_key".into(), true));
    }),
    ("ids of columns are kept", Kind::Footer, |given| {
        given.rewrite(|batch| {
            let with_id = |field: &Arc<Field>| {
                let id = [("PARQUET:field_id".to_owned(), "4".to_owned())];
                field.as_ref().clone().with_metadata(id.into())
            };
            let fields: Vec<Field> = batch.schema().fields().iter().map(with_id).collect();
            RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), batch.columns().to_vec()).unwrap()
        });
    }),
    ("a hidden partition column has a value in the line", Kind::PartitionValues, |given| {
        given.file().partition_values.insert("zregion_name".to_owned(), json!("x"));
    }),
    ("a shown partition column has none", Kind::PartitionValues, |given| {
        given.file().partition_values.clear();
    }),
    ("the path of the source is in a URL", Kind::Url, |given| {
        given.file().url = "http://weir.test/files/plan_code=x/part-0.parquet".to_owned();
    }),
    ("a source file is presigned", Kind::Url, |given| {
        given.mine[0].way.is_presigned = true;
        given.file().url = "http://127.0.0.1:1/lake/claims/part-0.parquet?X-Amz-Signature=1".to_owned();
    }),
    ("a deletion vector is ignored", Kind::Rows, |given| {
        let mut before = given.table.state.clone();
        before.files = given.table.versions[2].files.clone();
        let due = given.visible.shown(&before, &given.reader);
        given.show(&due);
    }),
    ("a filter takes unknown for true", Kind::Rows, |given| {
        let filter = Some(format!("plan_code = '{}' AND (paid >= 0 OR paid IS NULL)", PLANS[0]));
        let visible = Visible { filter, ..given.visible.clone() };
        given.show(&visible.shown(&given.table.state, &given.reader));
    }),
    ("a missing property shows everything", Kind::Rows, |given| {
        let visible = Visible { filter: None, ..given.visible.clone() };
        given.show(&visible.shown(&given.table.state, &given.reader));
    }),
    ("another connector's rows come along", Kind::SecretInFile, |given| {
        let reader = Reader {
            properties: BTreeMap::from([("plans".to_owned(), json!([PLANS[0], PLANS[1]]))]),
            ..given.reader.clone()
        };
        given.show(&given.visible.shown(&given.table.state, &reader));
    }),
    ("partners share the key of pseudonyms", Kind::Rows, |given| {
        // Their rows are right, but their pseudonyms are made with my key.
        let reader =
            Reader { properties: BTreeMap::from([("plans".to_owned(), json!([PLANS[1]]))]), ..given.reader.clone() };
        let (mine, due) = (given.mine.clone(), given.visible.shown(&given.table.state, &reader));
        given.mine.clone_from(&given.theirs);
        given.show(&due);
        given.theirs = std::mem::replace(&mut given.mine, mine);
    }),
    ("a mask is left out", Kind::Rows, |given| {
        given.rewrite(|batch| with_values(&batch, 2, |_| Value::Integer(1950)));
    }),
    ("a masked text is there as it is", Kind::SecretInFile, |given| {
        let secret = given.secret();
        given.rewrite(|batch| with_values(&batch, 3, |_| Value::Text(secret.clone())));
    }),
    ("a row is there twice", Kind::Rows, |given| {
        given.rewrite(|batch| arrow::compute::concat_batches(&batch.schema(), [&batch, &batch.slice(0, 1)]).unwrap());
    }),
    ("a row is missing", Kind::Rows, |given| {
        given.rewrite(|batch| batch.slice(1, batch.num_rows() - 1));
    }),
    ("a dropped column is still in the file", Kind::Columns, |given| {
        given.rewrite(|batch| with_column(&batch, "dropped", Arc::clone(batch.column(0))));
    }),
    ("a hidden field is still in a struct", Kind::Columns, |given| {
        given.rewrite(|batch| {
            let visits = batch.schema().index_of("address").unwrap();
            let fields: Vec<Field> = batch
                .schema()
                .fields()
                .iter()
                .enumerate()
                .map(|(at, field)| {
                    let more = Field::new("more", arrow::datatypes::DataType::Utf8, true);
                    let arrow::datatypes::DataType::Struct(parts) = field.data_type() else {
                        return field.as_ref().clone();
                    };
                    let mut parts: Vec<_> = parts.iter().cloned().collect();
                    parts.push(Arc::new(more));
                    assert_eq!(at, visits);
                    Field::new(field.name(), arrow::datatypes::DataType::Struct(parts.into()), true)
                })
                .collect();
            let mut columns = batch.columns().to_vec();
            let longer = |value| match value {
                Value::Struct(mut parts) => {
                    parts.push(Value::text("x"));
                    Value::Struct(parts)
                }
                other => other,
            };
            let values: Vec<Value> = from_array(&columns[visits]).into_iter().map(longer).collect();
            columns[visits] = to_array(&values.iter().collect::<Vec<_>>(), fields[visits].data_type());
            RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).unwrap()
        });
    }),
    ("a struct that is NULL comes as a struct of NULLs", Kind::Rows, |given| {
        given.rewrite(|batch| {
            let address = batch.schema().index_of("address").unwrap();
            with_values(&batch, address, |value| match value {
                Value::Null => Value::Struct(vec![Value::Null, Value::Null]),
                other => other,
            })
        });
    }),
    ("there are bytes between the last page and the footer", Kind::Bytes, |given| {
        let file = given.file();
        let length = file.bytes.len();
        let footer = u32::from_le_bytes(file.bytes[length - 8..length - 4].try_into().unwrap()) as usize;
        file.bytes.splice(length - 8 - footer..length - 8 - footer, *b"leftover");
    }),
    ("comments of the source are copied", Kind::Description, |given| {
        let schema = given.metadata()["schemaString"].as_str().unwrap().to_owned();
        let schema = schema.replacen("\"metadata\":{}", "\"metadata\":{\"comment\":\"internal\"}", 1);
        given.metadata().insert("schemaString".to_owned(), schema.into());
    }),
    ("constraints are copied", Kind::Description, |given| {
        given.metadata().insert("configuration".to_owned(), json!({"delta.constraints.c": "paid > 0"}));
    }),
    ("the table's description is copied", Kind::Description, |given| {
        given.metadata().insert("description".to_owned(), json!("internal"));
    }),
    ("a hidden column is in the schema", Kind::Description, |given| {
        let schema = given.metadata()["schemaString"].as_str().unwrap().to_owned();
        let more = r#"{"name":"more","type":"string","nullable":true,"metadata":{}},{"name":"claim_id""#;
        given.metadata().insert("schemaString".to_owned(), schema.replacen(r#"{"name":"claim_id""#, more, 1).into());
    }),
    ("a hidden partition column is named", Kind::Description, |given| {
        given.metadata().insert("partitionColumns".to_owned(), json!(["plan", "region"]));
    }),
    ("the protocol is the source's", Kind::Description, |given| {
        given.mine[1].protocol = json!({"minReaderVersion": 3, "readerFeatures": ["deletionVectors"]});
    }),
    ("NULL is denied where it is", Kind::Description, |given| {
        let schema = given.metadata()["schemaString"].as_str().unwrap().to_owned();
        given
            .metadata()
            .insert("schemaString".to_owned(), schema.replace("\"nullable\":true", "\"nullable\":false").into());
    }),
    ("the table has the id that it has at the source", Kind::SecretInText, |given| {
        let log = std::fs::read_to_string(given.table.commit_path(0)).unwrap();
        let id = log.split("\"id\":\"").find_map(|part| part.split('"').next().filter(|id| id.len() == 36)).unwrap();
        given.answers[0].body.extend(id.as_bytes());
    }),
    ("partners know files by the same id", Kind::Identity, |given| {
        let id = given.theirs[0].files[0].id.clone();
        given.file().id = id;
    }),
    ("partners know the table by the same id", Kind::Identity, |given| {
        let id = given.theirs[1].metadata["id"].clone();
        given.metadata().insert("id".to_owned(), id);
    }),
    ("partners have the same URL", Kind::Identity, |given| {
        let url = given.theirs[0].files[0].url.clone();
        given.file().url = url;
    }),
    ("files have the ids that they have at the source", Kind::Identity, |given| {
        let id = weir::domain::core::seal::hex(&Md5::digest(given.table.state.files[0].path.as_bytes()));
        given.file().id = id;
    }),
    ("the table has the size that it has at the source", Kind::Size, |given| {
        given.mine[0].metadata["size"] = json!(88_120);
    }),
    ("the table has as many files as at the source", Kind::Size, |given| {
        given.mine[1].beside_metadata.insert("numFiles".to_owned(), json!(given.table.state.files.len()));
    }),
    ("a file has the size that it has at the source", Kind::Size, |given| {
        let size = given.source_bytes(0).len() as u64;
        given.file().size = size;
    }),
    ("tags are copied", Kind::Line, |given| {
        given.delta_file().line.insert("tags".to_owned(), json!({"INSERTION_TIME": "1"}));
    }),
    ("a deletion vector is copied", Kind::Line, |given| {
        given.delta_file().line.insert("deletionVector".to_owned(), json!({"storageType": "i"}));
    }),
    ("an error holds a value", Kind::SecretInText, |given| {
        let text = format!("{{\"message\":\"cannot cast '{}'\"}}", given.secret());
        given.answers[0].body = text.into_bytes();
    }),
    ("an error holds a hidden name", Kind::SecretInText, |given| {
        given.answers[0].body = b"there is no `ZMEMBER_NAME`".to_vec();
    }),
    ("a header holds a hidden name", Kind::SecretInText, |given| {
        given.answers[0].headers.push(("x-debug".to_owned(), "zregion_name".to_owned()));
    }),
    ("the source's folder is in an answer", Kind::SecretInText, |given| {
        given.answers[0].body.extend(b"file:///lake/zsourcefolder");
    }),
    ("a token is the base64 of a value", Kind::SecretInText, |given| {
        let token = BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"at\":\"{}\"}}", given.secret()));
        given.answers[0].body = token.into_bytes();
    }),
    ("a name is percent-encoded", Kind::SecretInText, |given| {
        given.answers[0].body = b"https://h/%7A%6d%65%6d%62%65%72%5fname%3Dx".to_vec();
    }),
    ("a secret number is written in decimal", Kind::SecretInText, |given| {
        given.answers[0].body = format!("{{\"maxValues\":{{\"serial\":{}}}}}", given.number()).into_bytes();
    }),
    ("a secret number is in a file as it is", Kind::SecretInFile, |given| {
        let number = given.number();
        given.rewrite(|batch| with_values(&batch, 0, |_| Value::Integer(number)));
    }),
    ("a value is logged", Kind::SecretInText, |given| {
        given.log = format!("WARN cannot parse {}", given.secret());
    }),
];

#[test]
fn every_mistake_in_an_answer_is_found() {
    weir_server::run(weir_server::Kind::Folder, async |server: WeirServer| {
        let (table, visible) = shared_claims(&server, Mapping::None).await;
        let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
        let rival = server.connector("rival", json!({"plans": [PLANS[1]]})).await;
        let (mine, theirs) = (acme.read_in_all_ways(json!({})).await, rival.read_in_all_ways(json!({})).await);
        let reader = (reader(&server, &acme).await, reader(&server, &rival).await);
        let due = (visible.shown(&table.state, &reader.0), visible.shown(&table.state, &reader.1));
        let given = Given {
            table: &table,
            server: &server,
            visible: &visible,
            reader: reader.0,
            mine,
            theirs,
            answers: acme.newly_received(),
            log: server.log.newly_logged(),
            due,
        };
        check::nothing(&given.findings());
        for (mistake, kind, plant) in MISTAKES {
            let mut given = given.clone();
            plant(&mut given);
            let kinds: Vec<Kind> = given.findings().iter().map(|finding| finding.kind).collect();
            assert!(kinds.contains(kind), "{mistake}: {kinds:?} was found, not {kind:?}");
        }
    });
}

/// An uncompressed file with one column of texts.
fn texts(values: [&str; 2]) -> (Vec<u8>, ParquetMetaData) {
    let batch =
        RecordBatch::try_from_iter([("text", Arc::new(StringArray::from(values.to_vec())) as ArrayRef)]).unwrap();
    let mut content = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut content, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let metadata = writer.close().unwrap();
    (content, metadata)
}

#[test]
fn dictionary_entries_of_hidden_rows_are_found() {
    let ((wide, of_wide), (narrow, of_narrow)) = (texts(["shown", "hidden"]), texts(["shown", "shown"]));
    assert!(take_apart(&wide).unused.is_empty() && take_apart(&narrow).unused.is_empty());
    // The pages of the one behind the dictionary of the other.
    let (from, to) = (of_wide.row_group(0).column(0), of_narrow.row_group(0).column(0));
    let at = |offset: i64| usize::try_from(offset).unwrap();
    let dictionary = &wide[4..at(from.data_page_offset())];
    let (start, length) = to.byte_range();
    let pages = &narrow[at(to.data_page_offset())..usize::try_from(start + length).unwrap()];
    let mut content = [b"PAR1", dictionary, pages].concat();
    let size = i64::try_from(dictionary.len() + pages.len()).unwrap();
    let chunk = to
        .clone()
        .into_builder()
        .set_dictionary_page_offset(Some(4))
        .set_data_page_offset(4 + i64::try_from(dictionary.len()).unwrap())
        .set_total_compressed_size(size)
        .set_total_uncompressed_size(size)
        .set_column_index_offset(None)
        .set_column_index_length(None)
        .set_offset_index_offset(None)
        .set_offset_index_length(None)
        .build()
        .unwrap();
    let group = of_narrow.row_group(0).clone().into_builder().set_column_metadata(vec![chunk]).build().unwrap();
    let metadata = ParquetMetaDataBuilder::new(of_narrow.file_metadata().clone()).add_row_group(group).build();
    ParquetMetaDataWriter::new(&mut content, &metadata).finish().unwrap();

    let dissection = take_apart(&content);
    assert_eq!(sorted(&dissection.rows), sorted(&take_apart(&narrow).rows));
    let unused: Vec<&[u8]> = dissection.unused.iter().map(|(_, value)| value.as_slice()).collect();
    assert_eq!(unused, [b"hidden"]);
}
