//! `weir migrate`.

use super::{ConfigFile, print};
use crate::app::migrate_database;

pub(super) async fn run(file: ConfigFile) -> anyhow::Result<()> {
    migrate_database(&file.load()?).await?;
    Ok(print::line("the database is at this weir's schema")?)
}
