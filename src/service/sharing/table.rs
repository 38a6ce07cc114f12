//! A table's version and metadata.

use super::{
    Caller, TableHead, TablePath,
    attempt::{Attempt, Granted, Subject},
};
use crate::{
    domain::{
        negotiation::{Declared, negotiate},
        share::SharedObject,
    },
    service::{Service, error::ServiceError},
    storage::TableLocation,
};

/// The reason code of a client that cannot read the table.
const CLIENT_LACKS_FEATURES: &str = "CLIENT_LACKS_FEATURES";

/// A table that the caller may read, before its log is looked at.
#[derive(Debug)]
pub(super) struct FoundTable {
    pub(super) granted: Granted,
    pub(super) object: SharedObject,
    pub(super) location: TableLocation,
}

impl Service {
    /// The newest version of a table.
    pub async fn table_version(&self, caller: &Caller, path: &TablePath) -> Result<u64, ServiceError> {
        let mut attempt = Attempt::begin(self, caller, "table.version").await?;
        let found = self.find_table(&mut attempt, path).await?;
        let version = self.lake.latest_version(&found.location).await?;
        attempt.event.table_version = Some(version);
        attempt.allow(&found.granted).await?;
        Ok(version)
    }

    /// What a table is: its protocol and metadata.
    pub async fn table_metadata(
        &self,
        caller: &Caller,
        path: &TablePath,
        declared: &Declared,
    ) -> Result<TableHead, ServiceError> {
        let mut attempt = Attempt::begin(self, caller, "table.metadata").await?;
        let found = self.find_table(&mut attempt, path).await?;
        let head = self.open_table(&mut attempt, &found, declared).await?;
        attempt.allow(&found.granted).await?;
        Ok(head)
    }

    /// Decides, and finds the table in its storage.
    pub(super) async fn find_table(
        &self,
        attempt: &mut Attempt<'_>,
        path: &TablePath,
    ) -> Result<FoundTable, ServiceError> {
        let granted = attempt.decide_share(&path.share, &Subject::table(path)).await?;
        let (object, table) = attempt.find_object(&granted, path).await?;
        let location = self.storages.locate(&table.location)?;
        Ok(FoundTable { granted, object, location })
    }

    /// Opens the newest snapshot, and agrees on a format with the client.
    pub(super) async fn open_table(
        &self,
        attempt: &mut Attempt<'_>,
        found: &FoundTable,
        declared: &Declared,
    ) -> Result<TableHead, ServiceError> {
        let snapshot = self.lake.latest(&found.location).await?;
        attempt.event.table_version = Some(snapshot.version());
        match negotiate(&snapshot.required_features(), declared) {
            Ok(format) => {
                attempt.event.format = Some(format.as_str());
                Ok(TableHead { object: found.object.clone(), snapshot, format })
            }
            Err(error) => {
                let error = ServiceError::Unsupported(error.to_string());
                Err(attempt.refuse_with(CLIENT_LACKS_FEATURES, error).await)
            }
        }
    }
}
