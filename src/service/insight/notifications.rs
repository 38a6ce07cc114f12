//! Notifications on their way: sent at least once, tried again at growing intervals, and given up as dead letters that
//! operators see and queue anew.
//!
//! Whoever sends a message takes it first, so that replicas do not both send it; a message whose sender died is taken
//! again, under the same id. Never here: what is worth telling, which is `signals`.

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use rand::RngExt;
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        access::limits::span,
        audit::{Actor, Event, Object},
        core::job::{LONGEST_PAUSE, pause},
    },
    notify::Failure,
    service::{
        Service,
        audit::write,
        core::{
            context::OperatorContext,
            error::ServiceError,
            page::{Page, PageRequest},
        },
    },
    store::{Notification, NotificationState, StoreError, Tx},
};

/// How many messages to one webhook are under way at once.
const AT_ONCE: u32 = 4;
/// How much longer than its attempt a message is left to who sends it.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// By how much pauses differ, in percent of them, so that what failed together does not come back together.
const JITTER: std::ops::RangeInclusive<i32> = 80..=120;
/// How long notifications are kept that were delivered or given up. Longer than any notice of an end, so that none is told
/// twice.
const KEPT: TimeDelta = TimeDelta::days(30);
/// How many stranded messages are given up at a time.
const STRANDED_AT_ONCE: u32 = 100;

fn object(notification: &Notification) -> Object {
    Object { kind: "notification".into(), id: Some(notification.id), name: Some(notification.webhook.clone()) }
}

impl Service {
    /// Sends what is due for `webhook`, a few messages at a time, until nothing is. A receiver that hangs keeps nobody
    /// waiting but itself: every webhook has a task of its own.
    pub async fn deliver_due(&self, webhook: &str) -> Result<(), ServiceError> {
        let Some(timeout) = self.signals.messenger.timeout(webhook) else { return Ok(()) };
        let lease = span(timeout.as_secs()) + LEASE;
        // Asked before anything is taken: an idle server writes nothing.
        while self.db.has_due_notification(webhook, self.clock.now()).await? {
            let now = self.clock.now();
            let mut tx = self.db.begin().await?;
            let claimed = tx.claim_notifications(webhook, now, now + lease, AT_ONCE).await?;
            tx.commit().await?;
            let outcomes = join_all(claimed.iter().map(|notification| self.send_claimed(notification))).await;
            outcomes.into_iter().collect::<Result<(), ServiceError>>()?;
        }
        Ok(())
    }

    async fn send_claimed(&self, claimed: &Notification) -> Result<(), ServiceError> {
        let Notification { webhook, id, body, .. } = claimed;
        let sent = self.signals.messenger.send(webhook, *id, body, self.clock.now()).await;
        let now = self.clock.now();
        let settled = match sent {
            Ok(()) => {
                self.metrics.notification_attempted(webhook, "delivered");
                let mut tx = self.db.begin().await?;
                let state = NotificationState::Delivered;
                match tx.settle_notification(claimed, state, None, now, now).await {
                    Ok(()) => tx.commit().await,
                    Err(error) => Err(error),
                }
            }
            Err(failure) => self.fail(claimed, &failure, now).await,
        };
        match settled {
            // It took longer than its lease, and somebody else has it now.
            Err(StoreError::Stale) => Ok(()),
            settled => Ok(settled?),
        }
    }

    async fn fail(&self, claimed: &Notification, failure: &Failure, now: DateTime<Utc>) -> Result<(), StoreError> {
        let pause = pause(claimed.attempts) * rand::rng().random_range(JITTER) / 100;
        let asked = failure.retry_after.map(|after| span(after.as_secs()).min(LONGEST_PAUSE));
        let next = now + asked.map_or(pause, |asked| asked.max(pause));
        let settings = &self.signals.settings;
        let is_last = u64::try_from(claimed.attempts).unwrap_or_default() >= settings.attempts
            || next > claimed.queued_at + span(settings.max_age_seconds);
        let mut tx = self.db.begin().await?;
        if failure.is_final || is_last {
            self.metrics.notification_attempted(&claimed.webhook, "dead");
            bury(&mut tx, claimed, &failure.why, now).await?;
        } else {
            self.metrics.notification_attempted(&claimed.webhook, "failed");
            let state = NotificationState::Pending;
            tx.settle_notification(claimed, state, Some(&failure.why), now, next).await?;
        }
        tx.commit().await
    }

    /// Forgets what ended long ago, and gives up what nobody sends any more: messages to webhooks that no server's
    /// settings name.
    pub async fn tidy_notifications(&self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        if self.db.has_ended_notification(now - KEPT).await? {
            let mut tx = self.db.begin().await?;
            tx.delete_ended_notifications(now - KEPT).await?;
            tx.commit().await?;
        }
        let old = now - span(self.signals.settings.max_age_seconds) - LONGEST_PAUSE;
        for stranded in self.db.list_stranded_notifications(old, STRANDED_AT_ONCE).await? {
            let mut tx = self.db.begin().await?;
            match bury(&mut tx, &stranded, "no server has sent it in time", now).await {
                Ok(()) => tx.commit().await?,
                Err(StoreError::Stale) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Notifications in the order of their making.
    pub async fn list_notifications(
        &self,
        state: Option<NotificationState>,
        page: &PageRequest,
    ) -> Result<Page<Notification>, ServiceError> {
        let opened = self.begin_page(page, format!("notifications {state:?}"))?;
        let after = opened.after.as_deref().and_then(|after| Uuid::parse_str(after).ok());
        let found = self.db.list_notifications(state, after, opened.limit).await?;
        Ok(self.end_page(opened, found, |notification: &Notification| notification.id.to_string()))
    }

    /// Queues a dead letter anew, with all its attempts before it.
    pub async fn retry_notification(&self, ctx: &OperatorContext, id: Uuid) -> Result<Notification, ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let unknown = || ServiceError::NotFound { kind: "notification", name: id.to_string() };
        let dead = tx.find_notification(id).await?.ok_or_else(unknown)?;
        if dead.state != NotificationState::Dead {
            let message = format!("notification `{id}` is {}; only dead ones are tried again", dead.state.as_str());
            return Err(ServiceError::conflict(message));
        }
        if self.signals.messenger.timeout(&dead.webhook).is_none() {
            let message = format!("the settings name no webhook `{}` any more; add it, or let this go", dead.webhook);
            return Err(ServiceError::conflict(message));
        }
        tx.revive_notification(id, ctx.now).await?;
        let change = json!({"type": dead.kind, "failure": dead.failure});
        let event = Event { change: Some(change), ..ctx.event("notification.retry", object(&dead)) };
        write::append(&mut tx, event, ctx.now).await?;
        let queued = match ctx.is_dry() {
            true => Notification { state: NotificationState::Pending, attempts: 0, failure: None, ..dead },
            false => tx.find_notification(id).await?.ok_or_else(unknown)?,
        };
        tx.commit().await?;
        Ok(queued)
    }
}

/// Gives a message up, and records that nobody was told.
async fn bury(tx: &mut Tx, notification: &Notification, why: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    tx.lock_audit_head().await?;
    tx.settle_notification(notification, NotificationState::Dead, Some(why), now, now).await?;
    let change = json!({"type": notification.kind, "attempts": notification.attempts, "failure": why});
    let event = Event {
        object: Some(object(notification)),
        change: Some(change),
        ..Event::new(Actor::system("notifier"), "notification.dead")
    };
    write::append(tx, event, now).await
}
