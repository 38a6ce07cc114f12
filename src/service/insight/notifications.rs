//! Delivers notifications: at least once, with retries at growing intervals, and finally as dead letters that operators
//! see and can queue again.
//!
//! A server claims a message before it sends it, so that replicas do not both send it. A message whose sender died is
//! claimed again and keeps its id. Never here: what is worth telling, which is in `signals`.

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use rand::RngExt;
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        access::limits::span,
        audit::{
            Actor, Event, Object,
            action::{Action, Kind},
        },
        core::job::{LONGEST_PAUSE, pause},
    },
    notify::Failure,
    service::{
        audit::write,
        core::{
            context::OperatorContext,
            error::ServiceError,
            page::{Page, PageRequest},
        },
    },
    store::{Notification, NotificationState, StoreError, Tx},
};

use super::Insight;

/// The most messages that are in flight to one webhook.
const AT_ONCE: u32 = 4;
/// How much longer than its attempt a claim on a message lasts.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// By how much pauses differ, in percent of them, so that what failed together does not come back together.
const JITTER: std::ops::RangeInclusive<i32> = 80..=120;
/// How long delivered and dead notifications are kept. Longer than any notice of an end, so that none is told twice.
const KEPT: TimeDelta = TimeDelta::days(30);
/// The most stranded messages that are given up at a time.
const STRANDED_AT_ONCE: u32 = 100;

fn object(notification: &Notification) -> Object {
    Object { kind: Kind::Notification, id: Some(notification.id), name: Some(notification.webhook.clone()) }
}

impl Insight {
    /// Sends the messages that are due to `webhook`, a few at a time, until none is left. Every webhook has its own
    /// task, so a receiver that hangs holds up no other.
    pub async fn deliver_due(&self, webhook: &str) -> Result<(), ServiceError> {
        let Some(timeout) = self.core.signals.messenger.timeout(webhook) else { return Ok(()) };
        let lease = span(timeout.as_secs()) + LEASE;
        // Checked before anything is claimed, so that an idle server writes nothing.
        while self.core.db.has_due_notification(webhook, self.core.clock.now()).await? {
            let now = self.core.clock.now();
            let mut tx = self.core.db.begin().await?;
            let claimed = tx.claim_notifications(webhook, now, now + lease, AT_ONCE).await?;
            tx.commit().await?;
            let outcomes = join_all(claimed.iter().map(|notification| self.send_claimed(notification))).await;
            outcomes.into_iter().collect::<Result<(), ServiceError>>()?;
        }
        Ok(())
    }

    async fn send_claimed(&self, claimed: &Notification) -> Result<(), ServiceError> {
        let Notification { webhook, id, body, .. } = claimed;
        let sent = self.core.signals.messenger.send(webhook, *id, body, self.core.clock.now()).await;
        let now = self.core.clock.now();
        let settled = match sent {
            Ok(()) => {
                self.core.metrics.notification_attempted(webhook, "delivered");
                let mut tx = self.core.db.begin().await?;
                let state = NotificationState::Delivered;
                match tx.settle_notification(claimed, state, None, now, now).await {
                    Ok(()) => tx.commit().await,
                    Err(error) => Err(error),
                }
            }
            Err(failure) => self.fail(claimed, &failure, now).await,
        };
        match settled {
            // The attempt took longer than its claim, and another server has the message now.
            Err(StoreError::Stale) => Ok(()),
            settled => Ok(settled?),
        }
    }

    async fn fail(&self, claimed: &Notification, failure: &Failure, now: DateTime<Utc>) -> Result<(), StoreError> {
        let pause = pause(claimed.attempts) * rand::rng().random_range(JITTER) / 100;
        let asked = failure.retry_after.map(|after| span(after.as_secs()).min(LONGEST_PAUSE));
        let next = now + asked.map_or(pause, |asked| asked.max(pause));
        let settings = &self.core.signals.settings;
        let is_last = u64::try_from(claimed.attempts).unwrap_or_default() >= settings.attempts
            || next > claimed.queued_at + span(settings.max_age_seconds);
        let mut tx = self.core.db.begin().await?;
        if failure.is_final || is_last {
            self.core.metrics.notification_attempted(&claimed.webhook, "dead");
            bury(&mut tx, claimed, &failure.why, now).await?;
        } else {
            self.core.metrics.notification_attempted(&claimed.webhook, "failed");
            let state = NotificationState::Pending;
            tx.settle_notification(claimed, state, Some(&failure.why), now, next).await?;
        }
        tx.commit().await
    }

    /// Deletes notifications that ended long ago, and gives up messages to webhooks that no server's settings name any
    /// more.
    pub async fn tidy_notifications(&self) -> Result<(), ServiceError> {
        let now = self.core.clock.now();
        if self.core.db.has_ended_notification(now - KEPT).await? {
            let mut tx = self.core.db.begin().await?;
            tx.delete_ended_notifications(now - KEPT).await?;
            tx.commit().await?;
        }
        let old = now - span(self.core.signals.settings.max_age_seconds) - LONGEST_PAUSE;
        for stranded in self.core.db.list_stranded_notifications(old, STRANDED_AT_ONCE).await? {
            let mut tx = self.core.db.begin().await?;
            match bury(&mut tx, &stranded, "no server has sent it in time", now).await {
                Ok(()) => tx.commit().await?,
                Err(StoreError::Stale) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lists notifications in the order in which they were created.
    pub async fn list_notifications(
        &self,
        state: Option<NotificationState>,
        page: &PageRequest,
    ) -> Result<Page<Notification>, ServiceError> {
        let opened = self.core.begin_page(page, format!("notifications {state:?}"))?;
        let after = opened.after.as_deref().and_then(|after| Uuid::parse_str(after).ok());
        let found = self.core.db.list_notifications(state, after, opened.limit).await?;
        Ok(self.core.end_page(opened, found, |notification: &Notification| notification.id.to_string()))
    }

    /// Queues a dead letter again with a fresh number of attempts.
    pub async fn retry_notification(&self, ctx: &OperatorContext, id: Uuid) -> Result<Notification, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let unknown = || ServiceError::NotFound { kind: "notification", name: id.to_string() };
        let dead = tx.find_notification(id).await?.ok_or_else(unknown)?;
        if dead.state != NotificationState::Dead {
            let message = format!("notification `{id}` is {}; only dead ones are tried again", dead.state.as_str());
            return Err(ServiceError::conflict(message));
        }
        if self.core.signals.messenger.timeout(&dead.webhook).is_none() {
            let message = format!("the settings name no webhook `{}` any more; add it, or let this go", dead.webhook);
            return Err(ServiceError::conflict(message));
        }
        tx.revive_notification(id, ctx.now).await?;
        let change = json!({"type": dead.kind, "failure": dead.failure});
        let event = Event { change: Some(change), ..ctx.event(Action::NotificationRetry, object(&dead)) };
        write::append(tx, event, ctx.now).await?;
        let queued = match ctx.is_dry() {
            true => Notification { state: NotificationState::Pending.into(), attempts: 0, failure: None, ..dead },
            false => tx.find_notification(id).await?.ok_or_else(unknown)?,
        };
        unit.commit().await?;
        Ok(queued)
    }
}

/// Gives up a message and records that it was not delivered.
async fn bury(tx: &mut Tx, notification: &Notification, why: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    tx.lock_audit_head().await?;
    tx.settle_notification(notification, NotificationState::Dead, Some(why), now, now).await?;
    let change = json!({"type": notification.kind, "attempts": notification.attempts, "failure": why});
    let event = Event {
        object: Some(object(notification)),
        change: Some(change),
        ..Event::new(Actor::system("notifier"), Action::NotificationDead)
    };
    write::append(tx, event, now).await
}
