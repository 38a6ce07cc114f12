//! Writes the log of a large table: `cargo run --example generate -- DIR FILES`.

mod log_only_table;

use std::{error::Error, path::PathBuf, time::Instant};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(files)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return Err("usage: generate DIR FILES".into());
    };
    let files = files.replace('_', "").parse()?;
    let begun = Instant::now();
    log_only_table::write(&folder, files)?;
    println!("{files} files in {:.1} s: {}", begun.elapsed().as_secs_f64(), folder.display());
    Ok(())
}
