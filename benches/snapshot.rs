//! Measures the cost of a large table: `cargo bench --bench snapshot -- [FILES]…`.
//!
//! Prints, for each size, the time of a cold load, of a repeated request, and of reading one new commit, and the memory
//! used.

mod log_only_table;

use std::{
    error::Error,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use object_store::{local::LocalFileSystem, path::Path};
use weir::{
    lake::{Lake, LakeSettings},
    storage::TableLocation,
};

const WARM_CALLS: u32 = 200;
const COMMITS: u64 = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Cargo passes `--bench`.
    let mut sizes: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![100_000];
    }
    for files in sizes {
        measure(files).await?;
    }
    Ok(())
}

async fn measure(files: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let table = folder.path().join("t");
    let begun = Instant::now();
    log_only_table::write(&table, files)?;
    println!("{files} files, written in {:?}", begun.elapsed());

    let store = Arc::new(LocalFileSystem::new_with_prefix(folder.path())?);
    let location = TableLocation::new(store, Path::from("t"), "bench://t");
    let lake = Lake::new(LakeSettings { cache_bytes: 4 << 30, ..LakeSettings::default() });
    let before = peak_memory();
    let begun = Instant::now();
    let snapshot = lake.latest(&location).await?;
    let cold = begun.elapsed();
    assert_eq!(snapshot.files().len(), files);
    let resident = snapshot.resident_bytes();
    println!("  cold load     {cold:?}");
    println!("  held          {} bytes a file, {resident} in all", resident / files.max(1));
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        println!("  peak memory   {} MiB before, {} MiB after the load", before >> 20, after >> 20);
    }

    let begun = Instant::now();
    for _ in 0..WARM_CALLS {
        lake.latest(&location).await?;
    }
    println!("  warm call     {:?}", begun.elapsed() / WARM_CALLS);

    let begun = Instant::now();
    let bytes = snapshot.files().iter().map(|file| file.path.len() + file.stats.map_or(0, str::len)).sum::<usize>();
    println!("  one iteration {:?} over {bytes} bytes of text", begun.elapsed());

    let mut advancing = Duration::ZERO;
    for commit in 0..COMMITS {
        log_only_table::commit(&table, snapshot.version() + commit + 1, files + commit as usize)?;
        let begun = Instant::now();
        lake.latest(&location).await?;
        advancing += begun.elapsed();
    }
    println!("  one commit    {:?}", advancing / COMMITS as u32);
    Ok(())
}

/// Returns the peak memory of this process, in bytes; available only on Linux.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}
