//! Measures the cost of making governed files: `cargo bench --bench governed`.
//!
//! The engine and DataFusion itself read, filter, project and write the same files, with the same codec and statistics,
//! on one thread and on two. Also measures masks and mixing, for which DataFusion has no counterpart.

use std::{
    error::Error,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
        StringArray, TimestampMicrosecondArray,
    },
    datatypes::Schema as ArrowSchema,
};
use chrono::NaiveDate;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use datafusion::{
    config::TableParquetOptions,
    dataframe::DataFrameWriteOptions,
    prelude::{ParquetReadOptions, SessionConfig, SessionContext, col, lit},
};
use object_store::local::LocalFileSystem;
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;
use weir::{
    domain::{
        catalog::{
            delta::Metadata,
            schema::Schema,
            view::{ViewDefinition, mask::PseudonymKeys, plan::ViewPlan},
        },
        core::seal::RootKey,
        materialize::copy::ShuffleKey,
    },
    engine::{Engine, EngineError, EngineSettings, Rules, SourceFile},
    lake::FileRef,
    storage::TableLocation,
};
use zeroize::Zeroizing;

const FILES: usize = 4;
const ROWS: usize = 250_000;
const PLANS: [&str; 5] = ["HMO", "PPO", "EPO", "POS", "HDHP"];
const SHOWN_PLANS: [&str; 3] = ["HMO", "PPO", "EPO"];
const SHOWN: [&str; 9] =
    ["claim_id", "member_id", "plan", "diagnosis", "note", "paid", "quantity", "service_date", "updated_at"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let files: Vec<PathBuf> = (0..FILES).map(|file| folder.path().join(format!("{file}.parquet"))).collect();
    for (number, file) in files.iter().enumerate() {
        write(file, number)?;
    }
    let bytes = files.iter().map(|file| Ok(fs::metadata(file)?.len())).sum::<Result<u64, std::io::Error>>()?;
    println!("{FILES} files of {ROWS} rows, {} MiB", bytes >> 20);

    let mut criterion = Criterion::default().configure_from_args();
    let one = Builder::new_current_thread().enable_all().build()?;
    let two = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let columns: Vec<_> = SHOWN.iter().map(|name| json!({"name": name})).collect();
    let plain = rules(&json!({"columns": columns, "row_filter": "plan IN ('HMO', 'PPO', 'EPO')"}))?;
    let masks: Vec<_> = SHOWN
        .iter()
        .map(|name| match *name {
            "member_id" => json!({"name": name, "mask": {"hash": {"domain": "member"}}}),
            "note" => json!({"name": name, "mask": {"partial": {"first": 2, "last": 2}}}),
            "service_date" => json!({"name": name, "mask": {"date_trunc": {"unit": "month"}}}),
            _ => json!({"name": name}),
        })
        .collect();
    let masked = rules(&json!({"columns": masks, "row_filter": "plan IN ('HMO', 'PPO', 'EPO')"}))?;

    let mut group = criterion.benchmark_group("governed");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(20));
    group.throughput(Throughput::Elements((FILES * ROWS) as u64));
    for (threads, runtime) in [(1, &one), (2, &two)] {
        engine(&mut group, &format!("engine/{threads}"), runtime, (threads, 1), folder.path(), &plain);
        datafusion(&mut group, &format!("datafusion/{threads}"), runtime, threads, folder.path());
        engine(&mut group, &format!("engine, masked/{threads}"), runtime, (threads, 1), folder.path(), &masked);
        engine(&mut group, &format!("engine, mixed/{threads}"), runtime, (threads, 2), folder.path(), &plain);
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Makes governed files of `FILES` source files with the engine, as many at once as there are threads: one per source
/// file, or one per `together` mixed files.
fn engine(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    runtime: &Runtime,
    (threads, together): (usize, usize),
    folder: &Path,
    rules: &Arc<Rules>,
) {
    let engine = Engine::new(EngineSettings { concurrent_files: threads, ..EngineSettings::default() });
    let store = store(folder);
    let make = async |first: usize| {
        let path = object_store::path::Path::from(format!("out/{first}.parquet"));
        let sources = (first..first + together).map(|file| source(folder, &store, file));
        let mut sources = sources.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        if let Some(source) = sources.pop_if(|_| together == 1) {
            return engine.make(source, rules.clone(), store.clone(), path).await.map_err(|error| error.to_string());
        }
        let mixed = engine.mix(sources, rules.clone(), ShuffleKey([7; 32]), store.clone(), path).await;
        mixed.map_err(|fault| format!("{fault:?}"))
    };
    group.bench_function(name, |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let made = futures::future::try_join_all((0..FILES).step_by(together).map(&make)).await;
            assert!(made.as_ref().is_ok_and(|made| made.iter().all(|made| made.rows > 0)), "{made:?}");
            black_box(made)
        });
    });
}

fn store(folder: &Path) -> Arc<LocalFileSystem> {
    Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap_or_default())
}

fn source(folder: &Path, store: &Arc<LocalFileSystem>, file: usize) -> Result<SourceFile, EngineError> {
    let path = format!("{file}.parquet");
    let location = TableLocation::new(store.clone(), object_store::path::Path::default(), "bench://t");
    let size = fs::metadata(folder.join(&path)).map_or(0, |file| file.len());
    SourceFile::new(&location, &Metadata::default(), &Arc::new(schema()), &FileRef::new(&path, size, 0, None, &[]))
}

/// Reads all files as one table with DataFusion, and writes the rows that the view shows, with one partition per
/// thread.
fn datafusion(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, runtime: &Runtime, threads: usize, folder: &Path) {
    let out = folder.join("out-datafusion");
    group.bench_function(name, |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
            let files: Vec<_> =
                (0..FILES).map(|file| folder.join(format!("{file}.parquet")).display().to_string()).collect();
            let plans = SHOWN_PLANS.iter().map(|plan| lit(*plan)).collect();
            let mut options = TableParquetOptions::default();
            options.global.compression = Some("zstd(1)".to_owned());
            options.global.statistics_enabled = Some("page".to_owned());
            let write = async {
                let rows = session.read_parquet(files, ParquetReadOptions::default()).await?;
                let rows = rows.filter(col("plan").in_list(plans, false))?.select_columns(&SHOWN)?;
                rows.write_parquet(&out.display().to_string(), DataFrameWriteOptions::new(), Some(options)).await
            };
            let written = write.await;
            assert!(written.is_ok(), "{written:?}");
            let _ = fs::remove_dir_all(&out);
        });
    });
}

fn rules(definition: &serde_json::Value) -> Result<Arc<Rules>, Box<dyn Error>> {
    let definition: ViewDefinition = serde_json::from_value(definition.clone())?;
    let plan = ViewPlan::new(&definition, &schema(), &[]).map_err(|problems| format!("{problems:?}"))?;
    let today = NaiveDate::default();
    let condition = plan.filter.as_ref().map(|filter| filter.bind(&Default::default(), today));
    let keys = PseudonymKeys::new(&RootKey::new(Zeroizing::new([7; 32])), 1, Uuid::nil(), Uuid::nil());
    Ok(Arc::new(Rules {
        plan: Arc::new(plan),
        condition,
        keys,
        today,
        zips: Default::default(),
        surrogates: Default::default(),
    }))
}

fn schema() -> Schema {
    let columns = [
        ("claim_id", "long"),
        ("member_id", "string"),
        ("plan", "string"),
        ("diagnosis", "string"),
        ("note", "string"),
        ("paid", "decimal(12,2)"),
        ("quantity", "integer"),
        ("score", "double"),
        ("service_date", "date"),
        ("updated_at", "timestamp"),
        ("ssn", "string"),
        ("is_test", "boolean"),
    ];
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, data_type)| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}}))
        .collect();
    Schema::from_json(&json!({"type": "struct", "fields": fields})).unwrap_or(Schema { fields: Vec::new() })
}

/// Writes a file of claims: wide texts, columns with few and with many distinct values, and numbers. The content
/// depends only on `number`.
fn write(file: &Path, number: usize) -> Result<(), Box<dyn Error>> {
    const WORDS: [&str; 12] = [
        "routine",
        "follow-up",
        "visit",
        "with",
        "laboratory",
        "work",
        "ordered",
        "patient",
        "reports",
        "no",
        "new",
        "symptoms",
    ];
    let mut state = number as u64 + 1;
    // A linear congruential generator is random enough for sizes and distributions.
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut columns: [Vec<u64>; 8] = Default::default();
    for column in &mut columns {
        *column = (0..ROWS).map(|_| next(1 << 31)).collect();
    }
    let [member, plan, diagnosis, words, paid, score, day, time] = &columns;
    let note = |seed: &u64| {
        (0..14)
            .map(|at| WORDS[(seed.wrapping_mul(at * at + 7) >> 5) as usize % WORDS.len()])
            .collect::<Vec<_>>()
            .join(" ")
    };
    let text = |of: &dyn Fn(&u64) -> String, from: &[u64]| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(from.iter().map(of)))
    };
    let batch = RecordBatch::try_from_iter([
        (
            "claim_id",
            Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|row| row * 17 + number as i64))) as ArrayRef,
        ),
        ("member_id", text(&|seed| format!("M-{:012}-{:08x}", seed % 60_000, (seed % 60_000) * 2_654_435), member)),
        ("plan", text(&|seed| PLANS[*seed as usize % PLANS.len()].to_owned(), plan)),
        (
            "diagnosis",
            text(&|seed| format!("{}{:02}.{}", (b'A' + (seed % 26) as u8) as char, seed % 90, seed % 10), diagnosis),
        ),
        ("note", text(&note, words)),
        (
            "paid",
            Arc::new(
                Decimal128Array::from_iter_values(paid.iter().map(|seed| i128::from(seed % 5_000_000)))
                    .with_precision_and_scale(12, 2)?,
            ),
        ),
        ("quantity", Arc::new(Int32Array::from_iter_values(paid.iter().map(|seed| (seed % 30) as i32)))),
        ("score", Arc::new(Float64Array::from_iter_values(score.iter().map(|seed| *seed as f64 / 1e6)))),
        (
            "service_date",
            Arc::new(Date32Array::from_iter_values(day.iter().map(|seed| 18_000 + (seed % 1_500) as i32))),
        ),
        (
            "updated_at",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(
                    time.iter().map(|seed| 1_600_000_000_000_000 + (*seed as i64) * 31_337),
                )
                .with_timezone("UTC"),
            ),
        ),
        ("ssn", text(&|seed| format!("{:03}-{:02}-{:04}", seed % 900, seed % 90, seed % 9_000), member)),
        ("is_test", Arc::new(BooleanArray::from_iter(score.iter().map(|seed| Some(seed % 50 == 0))))),
    ])?;
    let schema: Arc<ArrowSchema> = batch.schema();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(fs::File::create(file)?, schema, Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}
