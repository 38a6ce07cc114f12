//! Measures basic operations by themselves, to compare with the server: `yardsticks [CHECKPOINT]`; prints JSON.
//!
//! `sha256_ns`: SHA-256 of one KiB. `decode_seconds`: the `parquet` crate decoding the whole `add` column of a
//! checkpoint, on one thread, from the page cache, in batches of 8,192 rows. Both are medians.

use std::{error::Error, fs::File, hint::black_box, path::Path, time::Instant};

use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde_json::json;
use sha2::{Digest, Sha256};

const ROWS_PER_BATCH: usize = 8_192;
const DECODES: usize = 5;
const HASHES: u32 = 2_000;
const HASH_RUNS: usize = 51;

fn main() -> Result<(), Box<dyn Error>> {
    let mut yardsticks = json!({"sha256_ns": hash_nanoseconds()});
    if let Some(checkpoint) = std::env::args().nth(1) {
        // A first run fills the page cache.
        let rows = decode(checkpoint.as_ref())?.1;
        let runs = (0..DECODES).map(|_| Ok(decode(checkpoint.as_ref())?.0)).collect::<Result<_, Box<dyn Error>>>()?;
        yardsticks["decode_seconds"] = json!(median(runs));
        yardsticks["rows"] = json!(rows);
    }
    println!("{yardsticks}");
    Ok(())
}

fn decode(checkpoint: &Path) -> Result<(f64, usize), Box<dyn Error>> {
    let begun = Instant::now();
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(checkpoint)?)?;
    let add = ProjectionMask::columns(builder.parquet_schema(), ["add"]);
    let mut rows = 0;
    for batch in builder.with_projection(add).with_batch_size(ROWS_PER_BATCH).build()? {
        rows += black_box(batch?).num_rows();
    }
    Ok((begun.elapsed().as_secs_f64(), rows))
}

fn hash_nanoseconds() -> f64 {
    let block = [0x5a_u8; 1024];
    let run = |_| {
        let begun = Instant::now();
        for _ in 0..HASHES {
            black_box(Sha256::digest(black_box(&block)));
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(HASHES)
    };
    median((0..HASH_RUNS).map(run).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
