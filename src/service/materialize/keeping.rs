//! Keeps materializations no longer than needed: deletes those that nobody may read or that nobody reads, renews old
//! ones, and finds differences between the register and the store.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        access::recipient::{Recipient, RecipientState},
        audit::{
            Actor, Event, Object,
            action::{Action, Kind},
        },
        catalog::{
            share::{SharedObject, SharedView},
            view::plan::Today,
        },
        materialize::copy::{Copy, CopyKind, CopyState, RulesId},
    },
    service::core::{context::OperatorContext, error::ServiceError},
    store::{CopyFilter, CopySet, GrantFilter},
};

use super::Materializer;

/// The most materializations that one round deletes.
const ROUND: u32 = 1_000;
/// The number of failed deletions after which a round gives up: a single failure does not stop the others, but an
/// unreachable store is not asked a thousand times.
const MOST_FAILURES: usize = 8;
/// The most aged materializations that one round renews, few enough that readers can wait for them.
const RENEWED: u32 = 16;
/// How many active readers are looked after.
const REFRESHED: u32 = 10_000;
/// The most objects without a row, and rows without an object, that are named.
const NAMED: usize = 1_000;
/// The age from which an object without a row counts, because the clocks of store and server may differ.
const SETTLED: TimeDelta = TimeDelta::minutes(10);

/// The differences between register and store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// The number of materializations in the register that were checked.
    pub copies: u64,
    /// Objects that no row names, at most a thousand.
    pub orphans: Vec<String>,
    /// Materializations whose object is gone; they are made again when needed.
    pub missing: Vec<Uuid>,
}

impl Materializer {
    /// Runs one round of deleting and renewing.
    pub async fn keep_copies(&self) -> Result<(), ServiceError> {
        let Ok(root) = self.root() else { return Ok(()) };
        let now = self.core.clock.now();
        if !self.core.leases.take("copies.keep").await? {
            return Ok(());
        }
        self.end_unentitled(now).await?;
        let max_age = seconds(self.settings().max_age_seconds);
        for copy in self.core.db.list_aged_copies(now - max_age, RENEWED).await? {
            let mut tx = self.core.db.begin().await?;
            tx.drain_copy(copy.id, None).await?;
            tx.commit().await?;
        }
        // A materialization is needed until its last URL expires, but its idle time is counted from when that URL was
        // handed out.
        let idle = seconds(self.settings().idle_seconds) - self.longest_url();
        let idle_since = now - idle.max(TimeDelta::zero());
        let (mut deleted, mut bytes, mut failures) = (0u64, 0u64, Vec::new());
        for copy in self.core.db.list_idle_copies(now, idle_since, ROUND).await? {
            if copy.state != CopyState::Draining {
                let mut tx = self.core.db.begin().await?;
                tx.drain_copy(copy.id, None).await?;
                tx.commit().await?;
            }
            if copy.kind == CopyKind::File {
                if let Err(error) = root.delete(&copy.object_key).await {
                    failures.push(error);
                    if failures.len() == MOST_FAILURES {
                        break;
                    }
                    continue;
                }
                // An unfinished materialization has the size of its sources, so it does not count.
                if copy.state != CopyState::Making {
                    bytes += copy.bytes;
                    deleted += u64::from(copy.bytes > 0);
                }
            }
            let mut tx = self.core.db.begin().await?;
            tx.forget_copy(copy.id, now).await?;
            tx.commit().await?;
        }
        if deleted > 0 {
            tracing::info!(files = deleted, bytes, "deleted copies");
            self.core.metrics.copies_deleted(deleted, bytes);
            let actor = Actor::system("weir");
            let event = Event { files: Some(deleted), bytes: Some(bytes), ..Event::new(actor, Action::CopiesDelete) };
            self.core.audit_writer.record(event).await?;
        }
        failures.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Ends the sets of copies that nobody may read any more: their URLs die with them.
    async fn end_unentitled(&self, now: DateTime<Utc>) -> Result<(), ServiceError> {
        // Sets are ordered by view and version, so each version's readers are looked up only once.
        let mut known: Option<((Uuid, i64), HashSet<RulesId>)> = None;
        for set in self.core.db.list_copy_sets(now).await? {
            let version = (set.view_id, set.view_version);
            let entitled = match known.take() {
                Some((of, rules)) if of == version => rules,
                _ => self.entitled_rules(set, now).await?,
            };
            let is_entitled = entitled.contains(&set.rules);
            known = Some((version, entitled));
            if is_entitled {
                continue;
            }
            let mut tx = self.core.db.begin().await?;
            let ended = tx.end_copy_set(set, now).await?;
            tx.commit().await?;
            tracing::info!(view.id = %set.view_id, view.version = set.view_version, copies = ended,
                "nobody may read these copies any more");
        }
        Ok(())
    }

    /// The rules of all recipients that may read a version of a view now.
    async fn entitled_rules(&self, set: CopySet, now: DateTime<Utc>) -> Result<HashSet<RulesId>, ServiceError> {
        let mut rules = HashSet::new();
        for (recipient, view, share_id) in self.readers_of(set.view_id, set.view_version, now).await? {
            let published = self.published_view(&view).await?;
            // What another server has begun for a recipient must not be ended here.
            self.forget_surrogate_set(recipient.id).await;
            // Materializations handed out yesterday stay valid for a while.
            let yesterday = (published.references.today != Today::Unused).then_some(now - TimeDelta::days(1));
            for at in [Some(now), yesterday].into_iter().flatten() {
                rules.insert(self.entitle_to(published.clone(), &recipient, share_id, at).await?.set.rules);
            }
        }
        Ok(rules)
    }

    /// The recipients that may read a version of a view now, each with the share through which it may.
    pub(in crate::service) async fn readers_of(
        &self,
        view_id: Uuid,
        view_version: i64,
        now: DateTime<Utc>,
    ) -> Result<Vec<(Recipient, SharedView, Uuid)>, ServiceError> {
        let mut readers = Vec::new();
        let mut seen = HashSet::new();
        for (share, object, _) in self.core.db.list_objects_of_view(view_id, ROUND).await? {
            let Some(view) = object.view.filter(|view| view.version == view_version) else { continue };
            // Objects may show the same version under other masks.
            if !seen.insert((share.id, view.masks.digest())) {
                continue;
            }
            let filter = GrantFilter { share_id: Some(share.id), in_force_at: Some(now), ..GrantFilter::default() };
            for named in self.core.db.list_grants(&filter, None, ROUND).await? {
                let found = self.core.db.find_recipient_by_id(named.grant.recipient_id).await?;
                let Some(recipient) = found else { continue };
                if recipient.state == RecipientState::Active {
                    readers.push((recipient, view.clone(), share.id));
                }
            }
        }
        Ok(readers)
    }

    /// Starts making what the readers of an object lack, in the background.
    pub(in crate::service) fn prepare_object(&self, object: &SharedObject) {
        let Some(view) = object.view.clone() else { return };
        let (service, table_id) = (self.clone(), object.table_id);
        tokio::spawn(async move {
            if let Err(error) = service.prepare_readers(&view, table_id).await {
                tracing::warn!(view = %view, error = &error as &dyn std::error::Error,
                    "copies could not be made ahead; they are made when somebody asks");
            }
        });
    }

    async fn prepare_readers(&self, view: &SharedView, table_id: Uuid) -> Result<(), ServiceError> {
        let now = self.core.clock.now();
        for (recipient, view, share_id) in self.readers_of(view.id, view.version, now).await? {
            let entitled = self.entitle(&view, &recipient, share_id, now).await?;
            self.note_asking(&entitled, now).await?;
            if let Some(source) = self.newest_source(&entitled, table_id).await? {
                self.prepare(&entitled, &source).await?;
            }
        }
        Ok(())
    }

    /// Makes what tables behind views have gained, for active readers.
    pub async fn refresh_copies(&self) -> Result<(), ServiceError> {
        let now = self.core.clock.now();
        if self.root().is_err() || !self.core.leases.take("copies.refresh").await? {
            return Ok(());
        }
        let active_since = now - TimeDelta::days(i64::try_from(self.settings().active_days).unwrap_or(366));
        let mut active: HashMap<(Uuid, i64), HashSet<(Uuid, Uuid)>> = HashMap::new();
        for row in self.core.db.list_active_entitlements(active_since, REFRESHED).await? {
            let readers = active.entry((row.set.view_id, row.set.view_version)).or_default();
            readers.insert((row.recipient_id, row.share_id));
        }
        for ((view_id, version), active) in active {
            let Some((_, table)) = self.core.db.find_view_by_id(view_id).await? else { continue };
            let mut seen = HashSet::new();
            for (recipient, view, share_id) in self.readers_of(view_id, version, now).await? {
                if !active.contains(&(recipient.id, share_id)) {
                    continue;
                }
                let entitled = self.entitle(&view, &recipient, share_id, now).await?;
                if !seen.insert(entitled.set) {
                    continue;
                }
                match self.newest_source(&entitled, table.id).await {
                    Ok(Some(source)) => self.prepare(&entitled, &source).await?,
                    Ok(None) => tracing::warn!(view = %view, "no version of the view's table fits it any more"),
                    // An unreachable table must not stop the others.
                    Err(error) => tracing::warn!(view = %view, error = &error as &dyn std::error::Error,
                        "a view's table could not be looked at"),
                }
            }
        }
        Ok(())
    }

    /// Compares the register with the store, and reports the differences. A materialization without an object is
    /// removed from the register, so that it is made again; an object without a row is left for an operator.
    pub async fn reconcile_copies(&self, ctx: &OperatorContext) -> Result<Reconciled, ServiceError> {
        let root = self.root()?;
        let settled = Utc::now() - SETTLED;
        let mut found = Reconciled::default();
        let mut stored = HashSet::new();
        let mut objects = root.list();
        while let Some((key, modified_at)) = objects.try_next().await? {
            let is_known = self.core.db.has_copy_at(&key).await?;
            if !is_known && modified_at < settled && found.orphans.len() < NAMED {
                found.orphans.push(key.clone());
            }
            stored.insert(key);
        }
        let filter = CopyFilter { state: Some(CopyState::Ready), ..CopyFilter::default() };
        let mut after = None;
        loop {
            let page = self.core.db.list_copies(&filter, after, ROUND).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            found.copies += u64::try_from(page.len()).unwrap_or(u64::MAX);
            let is_gone =
                |copy: &&Copy| copy.kind == CopyKind::File && copy.bytes > 0 && !stored.contains(&copy.object_key);
            for copy in page.iter().filter(is_gone) {
                // It may have been written after the store was listed.
                if root.location().open(&root.path(&copy.object_key)).await.is_ok() {
                    continue;
                }
                if !ctx.is_dry() {
                    let mut tx = self.core.db.begin().await?;
                    tx.drain_copy(copy.id, Some(self.core.clock.now())).await?;
                    tx.forget_serving(CopySet::of(copy)).await?;
                    tx.commit().await?;
                }
                if found.missing.len() < NAMED {
                    found.missing.push(copy.id);
                }
            }
        }
        if ctx.is_dry() {
            return Ok(found);
        }
        let counts = json!({"after": {"orphans": found.orphans.len(), "missing": found.missing.len()}});
        let root = Object { kind: Kind::Copies, id: None, name: None };
        self.core
            .audit_writer
            .record(Event { change: Some(counts), ..ctx.event(Action::CopiesReconcile, root) })
            .await?;
        self.core.metrics.copies_disagree(found.orphans.len(), found.missing.len());
        if !found.orphans.is_empty() || !found.missing.is_empty() {
            tracing::warn!(
                orphans = found.orphans.len(),
                missing = found.missing.len(),
                "the register of copies and their store do not agree; POST /api/v1/copies/reconcile names them"
            );
        }
        Ok(found)
    }
}

fn seconds(seconds: u64) -> TimeDelta {
    i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::days(366))
}
