//! Measures the cost of a selective query on a large table: `cargo bench --bench select`.
//!
//! The first predicate on a column reads it for every file; the benchmarks measure later ones.

mod log_only_table;

use std::{error::Error, sync::Arc, time::Instant};

use criterion::Criterion;
use object_store::{local::LocalFileSystem, path::Path};
use tokio::runtime::Runtime;
use weir::{
    domain::sharing::predicate::Filter,
    lake::{Lake, LakeSettings, Order},
    storage::TableLocation,
};

const FILES: usize = 1_000_000;
const HINTS: [(&str, &str); 4] = [
    ("a partition", "day = '2025-03-03'"),
    ("a range of longs", "member_id BETWEEN 500000000 AND 500009999"),
    ("a text", "claim_id = 'C00500000000'"),
    ("three columns", "day >= '2025-11-01' AND member_id < 10000000 AND NOT paid_amount IS NULL"),
];

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let runtime = Runtime::new()?;
    let folder = tempfile::tempdir()?;
    log_only_table::write(&folder.path().join("t"), FILES)?;
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder.path())?);
    let location = TableLocation::new(store, Path::from("t"), "bench://t");
    let lake = Lake::new(LakeSettings { cache_bytes: 4 << 30, ..LakeSettings::default() });
    let snapshot = runtime.block_on(lake.latest(&location))?;
    let before = snapshot.resident_bytes();

    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    for (name, hint) in HINTS {
        let filter = Filter::from_hints(&[hint.to_owned()], None, None);
        let select = || lake.select(&location, &snapshot, &filter, Order::Snapshot);
        let begun = Instant::now();
        let selected = runtime.block_on(select()).map_or(FILES, |selected| selected.len());
        println!("{name}: {selected} of {FILES} files, {:?} the first time", begun.elapsed());
        criterion.bench_function(name, |bencher| bencher.to_async(&runtime).iter(select));
    }
    println!("columns kept: {} bytes a file", (snapshot.resident_bytes() - before) / FILES);
    criterion.final_summary();
    Ok(())
}
