//! Serves views to recipients: the same steps as for a table, over copies instead of its files.
//!
//! Never here: making copies, or assembling a table from them.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    domain::insight::signal::SignalKind,
    lake::Snapshot,
    service::{
        access::recipients::without_rows,
        core::error::ServiceError,
        materialize::{Entitled, Source},
    },
};

use super::{Alias, Sharing, Stamp, as_of::AsOf, continuation::Pin, table::FoundTable};

impl Sharing {
    /// Returns the requested version of the governed table. The newest version is the newest whose copies are ready;
    /// the current view applies to every older version.
    pub(super) async fn governed_as_of(
        &self,
        found: &mut FoundTable,
        view: &Entitled,
        as_of: AsOf,
        pinned: Option<Pin>,
    ) -> Result<(Arc<Snapshot>, Stamp), ServiceError> {
        let (served, stamp) = if as_of == AsOf::Latest && pinned.is_none() {
            let source = self.newest_fitting(found).await?;
            (self.materializer.serve_newest(view, &source, &found.place).await?, Stamp::default())
        } else {
            let (snapshot, stamp) = self.source_as_of(found, as_of, pinned).await?;
            if !view.published.reads(snapshot.metadata()) {
                return Err(ServiceError::Parameter(
                    "this version of the table cannot be read as it is shared now; ask for a later one".to_owned(),
                ));
            }
            let source = Source { snapshot, location: found.location.clone() };
            (self.materializer.serve_version(view, &source, &found.place).await?, stamp)
        };
        found.location = served.location.clone();
        Ok((Arc::clone(&served.snapshot), stamp))
    }

    /// Returns the newest version that a query would get.
    pub(super) async fn newest_version(&self, found: &FoundTable) -> Result<u64, ServiceError> {
        let Some(view) = &found.view else {
            return match found.object.accepted {
                None => Ok(self.lake.latest_version(&found.location).await?),
                Some(_) => Ok(self.newest_of(found).await?.version()),
            };
        };
        let source = self.newest_fitting(found).await?;
        self.materializer.version_served(view, &source).await
    }

    async fn newest_fitting(&self, found: &FoundTable) -> Result<Source, ServiceError> {
        Ok(Source { snapshot: self.newest_of(found).await?, location: found.location.clone() })
    }

    /// Returns whether the caller sees no rows of a view because of its own properties; if so, informs operators
    /// through the log, a metric and webhooks.
    pub(super) async fn lacks_properties(&self, found: &FoundTable, now: DateTime<Utc>) -> bool {
        let Some(view) = &found.view else { return false };
        let (Some(filter), Some(shared)) = (&view.published.plan.filter, &found.object.view) else { return false };
        let recipient = &found.granted.bearer.recipient;
        let unmet = filter.starving(&recipient.spec.properties, view.rules.today);
        if unmet.is_empty() {
            return false;
        }
        let properties: BTreeSet<&str> = unmet.iter().map(|unmet| unmet.property.as_str()).collect();
        tracing::warn!(recipient = %recipient.name, view = %shared, ?properties,
            "a query is answered with no row, because of properties of the recipient");
        self.core.metrics.query_without_rows();
        if self.core.signals.want(SignalKind::ViewWithoutRows)
            && let Ok(share) = found.granted.share()
        {
            let signal = without_rows(recipient, shared, share.name.as_str(), &unmet);
            if let Err(error) = self.core.signals.tell_once(&self.core.db, vec![signal], now).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "nobody could be told of it");
            }
        }
        true
    }

    /// Returns the recipient's own ids for the table and its files.
    pub(super) fn alias(&self, view: &Entitled) -> Alias {
        let table_id = view.table_id();
        Alias { table_id: table_id.to_string(), file_key: self.materializer.file_key(table_id) }
    }
}

impl FoundTable {
    /// Refuses a feature that views do not offer.
    pub(super) fn require_raw(&self, what: &str) -> Result<(), ServiceError> {
        if self.view.is_none() {
            return Ok(());
        }
        Err(ServiceError::Parameter(format!(
            "{what} is not offered for this table, which is shared as a governed view; read its versions as a whole"
        )))
    }
}
