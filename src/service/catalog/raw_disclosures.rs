//! Finds what objects over raw tables disclose, in their tables' logs, and checks that an operator has acknowledged it.
//!
//! Never here: what counts as a disclosure, which the domain says.

use std::sync::Arc;

use crate::{
    config::RawSharing,
    domain::{
        catalog::{
            delta::Metadata,
            raw_disclosure::{RawDisclosure, carried_properties, dropped_columns},
            share::SharedObject,
        },
        core::word::Words,
    },
    lake::Snapshot,
    service::core::error::{FieldError, ServiceError},
    storage::TableLocation,
};

use super::Catalog;

/// The disclosures in a table's log, whichever object shares the table.
#[derive(Clone, Debug)]
pub(in crate::service) struct LogDisclosure {
    table: RawDisclosure,
    oldest: u64,
}

impl LogDisclosure {
    /// The disclosures of `object`.
    pub(in crate::service) fn of(&self, object: &SharedObject) -> RawDisclosure {
        self.table.clone().shared_as(object, self.oldest)
    }
}

impl Catalog {
    /// Finds what the files of `served` disclose; `latest` is the table's newest version. Walks the log back as far as
    /// the lake follows it; the lake remembers the result.
    pub(in crate::service) async fn log_disclosure(
        &self,
        location: &TableLocation,
        latest: &Arc<Snapshot>,
        served: &Arc<Snapshot>,
    ) -> Result<LogDisclosure, ServiceError> {
        let exposure = self.lake.exposure(served).await;
        let history = self.lake.history_until(location, Arc::clone(latest)).await;
        let mut past = vec![Arc::new(served.metadata().clone())];
        let all = history.all_metadata().await?;
        past.extend(all.into_iter().filter(|(last, _)| *last < served.version()).map(|(_, metadata)| metadata));
        let (dropped_columns, unnamed_dropped_columns) = dropped_columns(&past);
        let (oldest, _) = history.earliest().await?;
        let table = RawDisclosure {
            deleted_rows: exposure.deleted_rows,
            dropped_columns,
            unnamed_dropped_columns,
            partition_values_in_paths: exposure.partition_columns_in_paths,
            history_from: None,
            properties: carried_properties(served.metadata()),
        };
        Ok(LogDisclosure { table, oldest })
    }

    /// Refuses an object with unacknowledged disclosures, and any raw object if raw tables must not be shared. Objects
    /// over views have none.
    pub(in crate::service) fn require_acknowledged(
        &self,
        object: &SharedObject,
        disclosed: Option<&LogDisclosure>,
    ) -> Result<(), ServiceError> {
        let raw = self.settings.raw_sharing();
        let Some(disclosed) = disclosed.filter(|_| raw != RawSharing::Allow) else { return Ok(()) };
        if raw == RawSharing::Refuse {
            let message = "raw tables are not shared here, nor more of their past (sharing.raw); share a view of it";
            return Err(ServiceError::invalid("source.table", message));
        }
        let missing: Vec<FieldError> = disclosed
            .of(object)
            .applies()
            .into_iter()
            .filter(|(item, _)| !object.spec.acknowledge.iter().any(|named| named == item))
            .map(|(item, told)| FieldError {
                field: "acknowledge".into(),
                message: format!("must name `{}`: {told}", item.as_str()),
            })
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(ServiceError::Unacknowledged(missing)) }
    }
}

/// Whether `after` shows recipients the table's version with the metadata `newest`, which `before` holds back.
pub(in crate::service) fn releases(before: &SharedObject, after: &SharedObject, newest: &Metadata) -> bool {
    let holds = |object: &SharedObject| object.accepted.as_ref().is_some_and(|accepted| !accepted.fits(newest));
    holds(before) && !holds(after)
}

/// Whether `after` lets recipients read more of the table's history than `before`.
pub(in crate::service) fn widens(before: &SharedObject, after: &SharedObject) -> bool {
    let (before, after) = (&before.spec, &after.spec);
    after.history && (!before.history || after.start_version < before.start_version || (after.cdf && !before.cdf))
}
