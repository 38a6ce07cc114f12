//! `weir migrate`.

use super::ConfigFile;
use crate::app::migrate_database;

pub(super) async fn run(file: ConfigFile) -> anyhow::Result<()> {
    migrate_database(&file.load()?).await?;
    println!("the database is at this weir's schema");
    Ok(())
}
