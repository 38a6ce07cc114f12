//! Writes the log of a large table with `cargo run --example generate -- DIR FILES`, and extends it with `--commit`.

mod log_only_table;

use std::{error::Error, path::PathBuf, time::Instant};

use clap::{ArgGroup, Parser};
use log_only_table::Table;

/// Writes the log of a table without any data.
#[derive(Parser)]
#[command(group(ArgGroup::new("what").required(true).args(["files", "commit"])))]
struct Arguments {
    /// The table's root.
    folder: PathBuf,
    /// The number of files: all but one in a checkpoint, and the last one in a commit.
    #[arg(value_parser = number)]
    files: Option<usize>,
    /// Write fifty columns, 32 of them with statistics, instead of five columns, four of them with statistics.
    #[arg(long)]
    wide: bool,
    /// Write no checkpoint, but all files in this number of commits.
    #[arg(long, value_name = "COMMITS", requires = "files", value_parser = number)]
    commits: Option<usize>,
    /// Instead of creating a table, add a commit to an existing one, which adds the file with this number.
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    commit: Option<usize>,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let Arguments { folder, files, wide: is_wide, commits, commit } = Arguments::parse();
    let begun = Instant::now();
    let table = Table { folder, is_wide };
    match (files, commits, commit) {
        (_, _, Some(number)) => println!("version {}", table.commit_next(number)?),
        (Some(files), Some(commits), _) => table.write_commits(files, commits)?,
        (Some(files), None, _) => table.write(files)?,
        (None, _, None) => {}
    }
    if let Some(files) = files {
        println!("{files} files in {:.1} s: {}", begun.elapsed().as_secs_f64(), table.folder.display());
    }
    Ok(())
}

fn number(text: &str) -> Result<usize, std::num::ParseIntError> {
    text.replace('_', "").parse()
}
