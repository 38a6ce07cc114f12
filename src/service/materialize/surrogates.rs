//! Surrogates: random texts that stand for values in materializations, kept for each recipient until it ends.
//!
//! They are drawn before a file is made, in batches, on connections of their own. Never here: which values need one,
//! which the engine lists, or what a surrogate looks like.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::TryFutureExt;
use rand::RngExt;
use uuid::Uuid;

use crate::{
    domain::{
        access::recipient::RecipientState,
        audit::{
            Actor, Event, Object,
            action::{Action, Kind},
        },
        catalog::schema::Schema,
    },
    engine::{EngineError, Rules, Surrogates},
    service::core::{error::ServiceError, pacing},
    store::{Drawn, GrantFilter, SURROGATE_BATCH, StoreError, SurrogateRequest, SurrogateSet},
};

use super::{Entitled, Materializer, published::PublishedView, served::Source};

/// The most sets whose recipients one round looks at.
const ROUND: u32 = 100_000;
/// The longest rest between two batches, so that requests go first.
const LONGEST_REST: Duration = Duration::from_millis(5);

/// Why a file's surrogates could not be drawn.
#[derive(Debug, thiserror::Error)]
pub(in crate::service) enum SurrogateFault {
    /// The view needs more than it may have.
    #[error(
        "the view needs more than the {most} surrogates that it may have for all recipients together; raise \
         `views.max_surrogates`, or use `hash` for columns with so many values"
    )]
    TooMany {
        /// The most that it may have.
        most: u64,
    },
    /// The recipient's surrogates have been deleted meanwhile; the next request uses new ones.
    #[error("the recipient's surrogates were deleted meanwhile")]
    Ended,
    /// The source file could not be read.
    #[error(transparent)]
    File(EngineError),
    /// The place of surrogates cannot be reached.
    #[error("surrogates cannot be drawn for now: {0}")]
    Store(#[from] StoreError),
}

impl SurrogateFault {
    /// Whether a new attempt may succeed without anybody repairing anything.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::Ended | Self::Store(_))
    }
}

impl Materializer {
    /// The set of a recipient's surrogates on which its materializations of `published` depend; `None` if the view shows
    /// no surrogates. What this server remembers may be some seconds old: a set that has ended since is refused when
    /// something is drawn for it.
    pub(super) async fn surrogate_set(
        &self,
        published: &PublishedView,
        recipient_id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<Uuid>, StoreError> {
        if !published.references.surrogates {
            return Ok(None);
        }
        if let Some(known) = self.inner.surrogate_sets.get(&recipient_id).await {
            return Ok(Some(known));
        }
        let set = self.inner.surrogates.set_of(recipient_id, now).await?;
        self.inner.surrogate_sets.insert(recipient_id, set.id).await;
        Ok(Some(set.id))
    }

    /// Has the next question for a recipient's set answered by the database.
    pub(super) async fn forget_surrogate_set(&self, recipient_id: Uuid) {
        self.inner.surrogate_sets.invalidate(&recipient_id).await;
    }

    /// Closes what it has opened.
    pub async fn close(&self) {
        self.inner.surrogates.close().await;
    }

    /// The rules for the first `limit` shown rows of the file at `index` of `source`, with the surrogates of their values.
    pub(in crate::service) async fn rules_for_file(
        &self,
        view: &Entitled,
        source: &Source,
        schema: &Arc<Schema>,
        index: usize,
        limit: usize,
    ) -> Result<Arc<Rules>, SurrogateFault> {
        if view.surrogates.is_none() {
            return Ok(Arc::clone(&view.rules));
        }
        let engine = self.engine();
        let list = |file| {
            let listed = engine.surrogate_digests(vec![file], Arc::clone(&view.rules), limit);
            listed.map_err(|fault| fault.error)
        };
        let digests = self.with_file(source, schema, index, list).await.map_err(SurrogateFault::File)?;
        self.with_surrogates(view, digests).await
    }

    /// The rules for making a file whose values have these digests; surrogates that are missing are drawn.
    pub(super) async fn with_surrogates(
        &self,
        view: &Entitled,
        mut digests: Vec<Uuid>,
    ) -> Result<Arc<Rules>, SurrogateFault> {
        let Some(set_id) = view.surrogates else { return Ok(Arc::clone(&view.rules)) };
        digests.sort_unstable();
        let inner = &self.inner;
        let (view_id, most) = (view.set.view_id, inner.settings.max_surrogates);
        let mut pairs = Vec::with_capacity(digests.len());
        for digests in digests.chunks(SURROGATE_BATCH) {
            let began = Instant::now();
            let request = SurrogateRequest { set_id, view_id, digests, most };
            match inner.surrogates.draw(request, self.core.clock.now(), random_bytes).await? {
                Drawn::All { pairs: found, new } => {
                    pairs.extend(found);
                    if new > 0 {
                        self.core.metrics.surrogates_drawn(new);
                        pacing::rest(began, LONGEST_REST).await;
                    }
                }
                Drawn::TooMany => return Err(SurrogateFault::TooMany { most }),
                Drawn::Ended => {
                    self.forget_surrogate_set(view.recipient_id).await;
                    return Err(SurrogateFault::Ended);
                }
            }
        }
        Ok(Arc::new(Rules { surrogates: Surrogates::drawn(pairs), ..(*view.rules).clone() }))
    }

    /// Deletes the surrogates of recipients that have ended: that are gone or offboarded, or that no grant gives anything
    /// any more, now or later.
    pub async fn keep_surrogates(&self) -> Result<(), ServiceError> {
        if !self.core.leases.take("surrogates.keep").await? {
            return Ok(());
        }
        let surrogates = &self.inner.surrogates;
        for set in surrogates.list_sets(ROUND).await? {
            let now = self.core.clock.now();
            if !self.has_ended(set, now).await? {
                continue;
            }
            let name =
                self.core.db.find_recipient_by_id(set.recipient_id).await?.map(|recipient| recipient.name.to_string());
            tracing::info!(recipient.id = %set.recipient_id, "a recipient's surrogates are deleted");
            let object = Object { kind: Kind::Recipient, id: Some(set.recipient_id), name: name.clone() };
            let event = Event {
                object: Some(object),
                recipient: name,
                recipient_id: Some(set.recipient_id),
                ..Event::new(Actor::system("weir"), Action::SurrogatesDelete)
            };
            // Recorded first: the sets are stored apart from the trail, and one that has ended is not looked at again.
            self.core.audit_writer.record(event).await?;
            surrogates.end_set(set.id, now).await?;
            self.forget_surrogate_set(set.recipient_id).await;
        }
        loop {
            let began = Instant::now();
            if surrogates.delete_ended().await? == 0 {
                return Ok(());
            }
            pacing::rest(began, LONGEST_REST).await;
        }
    }

    async fn has_ended(&self, set: SurrogateSet, now: DateTime<Utc>) -> Result<bool, ServiceError> {
        let Some(recipient) = self.core.db.find_recipient_by_id(set.recipient_id).await? else { return Ok(true) };
        if recipient.state == RecipientState::Offboarded {
            return Ok(true);
        }
        let open = GrantFilter { recipient_id: Some(set.recipient_id), open_at: Some(now), ..GrantFilter::default() };
        Ok(self.core.db.list_grants(&open, None, 1).await?.is_empty())
    }
}

fn random_bytes() -> Uuid {
    Uuid::from_bytes(rand::rng().random())
}
