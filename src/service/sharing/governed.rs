//! Views on their way to a recipient: the same steps as for a table, over copies in the place of its files.
//!
//! Never here: making copies, or putting a table together from them.

use std::sync::Arc;

use super::{Alias, Stamp, continuation::Pin, query::AsOf, table::FoundTable};
use crate::{
    lake::Snapshot,
    service::{
        Service,
        copies::{Entitled, Source},
        error::ServiceError,
    },
};

impl Service {
    /// The version of the governed table that is asked for. The newest is the newest that is ready; the current view is
    /// laid over every older one.
    pub(super) async fn governed_as_of(
        &self,
        found: &mut FoundTable,
        view: &Entitled,
        as_of: AsOf,
        pinned: Option<Pin>,
    ) -> Result<(Arc<Snapshot>, Stamp), ServiceError> {
        let (served, stamp) = if as_of == AsOf::Latest && pinned.is_none() {
            let source = self.newest_fitting(found).await?;
            (self.serve_newest(view, &source, &found.place).await?, Stamp::default())
        } else {
            let (snapshot, stamp) = self.source_as_of(found, as_of, pinned).await?;
            if !view.published.reads(snapshot.metadata()) {
                return Err(ServiceError::Parameter(
                    "this version of the table cannot be read as it is shared now; ask for a later one".to_owned(),
                ));
            }
            let source = Source { snapshot, location: found.location.clone() };
            (self.serve_version(view, &source, &found.place).await?, stamp)
        };
        found.location = served.location.clone();
        Ok((Arc::clone(&served.snapshot), stamp))
    }

    /// The newest version that a query would be answered with.
    pub(super) async fn newest_version(&self, found: &FoundTable) -> Result<u64, ServiceError> {
        let Some(view) = &found.view else {
            return match found.object.accepted {
                None => Ok(self.lake.latest_version(&found.location).await?),
                Some(_) => Ok(self.newest_of(found).await?.version()),
            };
        };
        let source = self.newest_fitting(found).await?;
        self.version_served(view, &source).await
    }

    async fn newest_fitting(&self, found: &FoundTable) -> Result<Source, ServiceError> {
        Ok(Source { snapshot: self.newest_of(found).await?, location: found.location.clone() })
    }

    /// How the recipient knows the table and its files.
    pub(super) fn alias(&self, view: &Entitled) -> Alias {
        let table_id = view.table_id();
        Alias { table_id: table_id.to_string(), file_key: self.workshop.file_key(table_id) }
    }
}

impl FoundTable {
    /// Refuses what views do not offer.
    pub(super) fn require_raw(&self, what: &str) -> Result<(), ServiceError> {
        if self.view.is_none() {
            return Ok(());
        }
        Err(ServiceError::Parameter(format!(
            "{what} is not offered for this table, which is shared as a governed view; read its versions as a whole"
        )))
    }
}
