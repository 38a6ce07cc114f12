//! Copies a database while it is being written to.

use std::path::Path;

use crate::store::{Db, Result, StoreError};

use super::connect::create_private;

impl Db {
    /// Writes a consistent copy of the database into the new `file`, which only this user can read. SQLite only;
    /// returns [`StoreError::Url`] on PostgreSQL, which has its own programs for this.
    pub async fn copy_into(&self, file: &Path) -> Result<()> {
        let Self::Sqlite { reader, .. } = self else { return Err(StoreError::Url) };
        create_private(file)?;
        sqlx::query("VACUUM INTO ?").bind(file.to_string_lossy()).execute(reader).await?;
        Ok(())
    }
}
