//! A copy of a database that is written to meanwhile.

use std::path::Path;

use crate::store::{Db, Result, StoreError};

use super::connect::create_private;

impl Db {
    /// Writes the database as it is at one moment into the new `file`, which only this user can read. For SQLite;
    /// [`StoreError::Url`] on PostgreSQL, which brings programs of its own for this.
    pub async fn copy_into(&self, file: &Path) -> Result<()> {
        let Self::Sqlite { reader, .. } = self else { return Err(StoreError::Url) };
        create_private(file)?;
        sqlx::query("VACUUM INTO ?").bind(file.to_string_lossy()).execute(reader).await?;
        Ok(())
    }
}
