//! Stores the outbox of signals for webhooks, and the networks that recipients read from.

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::{
        core::word::{AsWritten, Words},
        insight::signal::{Signal, SignalKind},
    },
    store::{
        LONGEST_REST, Result, StoreError, Tx,
        core::value::{Micros, time},
        on_tx, one_row, reads, writes,
    },
};

/// The state of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationState {
    /// To be sent, or sent again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// Given up.
    Dead,
}

impl Words for NotificationState {
    const NOUN: &'static str = "state of a notification";
    const ALL: &'static [(&'static str, Self)] =
        &[("pending", Self::Pending), ("delivered", Self::Delivered), ("dead", Self::Dead)];
}

/// A signal for one webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The id, which stays the same for every attempt so that receivers can recognise the message.
    pub id: Uuid,
    /// The webhook's name in the settings.
    pub webhook: String,
    /// What it is about: the word of a [`SignalKind`], of a newer server's where that has queued it.
    pub kind: String,
    /// The message, byte for byte.
    pub body: String,
    /// The state.
    pub state: AsWritten<NotificationState>,
    /// The number of attempts since it was queued.
    pub attempts: i64,
    /// When the signal was found.
    pub created_at: DateTime<Utc>,
    /// When it was queued, by its cause or by an operator.
    pub queued_at: DateTime<Utc>,
    /// When it is sent next, while it is pending.
    pub next_attempt_at: DateTime<Utc>,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
}

#[derive(FromRow)]
struct NotificationRow {
    id: Uuid,
    webhook: String,
    kind: String,
    body: String,
    state: String,
    attempts: i64,
    created_at: Micros,
    queued_at: Micros,
    next_attempt_at: Micros,
    ended_at: Option<Micros>,
    failure: Option<String>,
}

impl TryFrom<NotificationRow> for Notification {
    type Error = StoreError;

    fn try_from(row: NotificationRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            webhook: row.webhook,
            kind: row.kind,
            body: row.body,
            state: AsWritten::new(&row.state),
            attempts: row.attempts,
            created_at: row.created_at.0,
            queued_at: row.queued_at.0,
            next_attempt_at: row.next_attempt_at.0,
            ended_at: time(row.ended_at),
            failure: row.failure,
        })
    }
}

/// What is due, `$1` being the moment and `$2` the end of the longest rest from then on.
macro_rules! is_due {
    () => {
        "state = 'pending' AND (next_attempt_at <= $1 OR next_attempt_at > $2 OR (attempts = 0 AND queued_at > $1))"
    };
}

macro_rules! notification_columns {
    () => {
        "id, webhook, kind, body, state, attempts, created_at, queued_at, next_attempt_at, ended_at, failure"
    };
}

reads! {
    /// Finds the notification with this id.
    pub async fn find_notification(self, db, id: Uuid) -> Result<Option<Notification>> {
        let sql = concat!("SELECT ", notification_columns!(), " FROM notifications WHERE id = $1");
        let row: Option<NotificationRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Lists notifications after `after` by id, which is the order of their creation.
    pub async fn list_notifications(
        self, db, state: Option<NotificationState>, after: Option<Uuid>, limit: u32
    ) -> Result<Vec<Notification>> {
        let mut query =
            QueryBuilder::new(concat!("SELECT ", notification_columns!(), " FROM notifications WHERE id > "));
        query.push_bind(after.unwrap_or(Uuid::nil()));
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        query.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<NotificationRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Whether a webhook has a message that is due at `now`.
    pub async fn has_due_notification(self, db, webhook: &str, now: DateTime<Utc>) -> Result<bool> {
        let sql = concat!("SELECT EXISTS (SELECT 1 FROM notifications WHERE webhook = $3 AND ", is_due!(), ")");
        let (now, ahead) = (Micros::from(now), Micros::from(now + LONGEST_REST));
        Ok(sqlx::query_scalar(sql).bind(now).bind(ahead).bind(webhook).fetch_one(db).await?)
    }

    /// Whether a signal of this kind and subject was queued since `since`.
    pub async fn was_noticed(self, db, kind: SignalKind, subject: &str, since: DateTime<Utc>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM notifications WHERE kind = $1 AND subject = $2 AND created_at > $3)";
        let since = Micros::from(since);
        Ok(sqlx::query_scalar(sql).bind(kind.as_str()).bind(subject).bind(since).fetch_one(db).await?)
    }

    /// Lists pending messages that were queued and due before `before`; at most `limit`.
    pub async fn list_stranded_notifications(
        self, db, before: DateTime<Utc>, limit: u32
    ) -> Result<Vec<Notification>> {
        let sql = concat!(
            "SELECT ", notification_columns!(), " FROM notifications WHERE state = 'pending' AND queued_at < $1 \
             AND next_attempt_at < $1 ORDER BY id LIMIT $2"
        );
        let rows: Vec<NotificationRow> =
            sqlx::query_as(sql).bind(Micros::from(before)).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Whether a notification ended before `before`.
    pub async fn has_ended_notification(self, db, before: DateTime<Utc>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM notifications WHERE ended_at < $1)";
        Ok(sqlx::query_scalar(sql).bind(Micros::from(before)).fetch_one(db).await?)
    }

    /// Counts the networks that a recipient read from, and tells whether this is one of them.
    pub async fn find_networks(self, db, recipient_id: Uuid, network: IpNet) -> Result<(i64, bool)> {
        let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN network = $2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
                   FROM recipient_networks WHERE recipient_id = $1";
        let (known, same): (i64, i64) =
            sqlx::query_as(sql).bind(recipient_id).bind(network.to_string()).fetch_one(db).await?;
        Ok((known, same > 0))
    }

    /// Whether a network, or a message that names one, is older than `before`.
    pub async fn has_old_network(self, db, before: DateTime<Utc>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM recipient_networks WHERE last_seen_at < $1) \
                   OR EXISTS (SELECT 1 FROM notifications WHERE kind = 'network.first_seen' AND created_at < $1)";
        Ok(sqlx::query_scalar(sql).bind(Micros::from(before)).fetch_one(db).await?)
    }
}

impl Tx {
    /// Queues a signal for a webhook; returns false if it was queued before.
    pub async fn insert_notification(&mut self, webhook: &str, signal: &Signal, now: DateTime<Utc>) -> Result<bool> {
        const SQL: &str = "INSERT INTO notifications (id, webhook, kind, subject, mark, body, state, attempts, \
            created_at, queued_at, next_attempt_at) VALUES ($1, $2, $3, $4, $5, $6, 'pending', 0, $7, $7, $7) \
            ON CONFLICT (webhook, kind, subject, mark) DO NOTHING";
        let added = writes!(self, db => sqlx::query(SQL)
            .bind(Uuid::now_v7())
            .bind(webhook)
            .bind(signal.kind.as_str())
            .bind(&signal.subject)
            .bind(&signal.mark)
            .bind(signal.body(now))
            .bind(Micros::from(now))
            .execute(db)
            .await?
            .rows_affected());
        Ok(added == 1)
    }

    /// Claims at most `limit` of a webhook's messages that are due at `now`, and counts an attempt of each. They are
    /// claimed until `until`; if they are not settled by then, another server may claim them.
    pub async fn claim_notifications(
        &mut self,
        webhook: &str,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Notification>> {
        // The condition is repeated so that a transaction that waited for another's claim does not claim the same rows
        // again.
        const SQL: &str = concat!(
            "UPDATE notifications SET attempts = attempts + 1, next_attempt_at = $4 WHERE ",
            is_due!(),
            " AND id IN (SELECT id FROM notifications WHERE webhook = $3 AND ",
            is_due!(),
            " ORDER BY next_attempt_at, id LIMIT $5) RETURNING ",
            notification_columns!()
        );
        let rows: Vec<NotificationRow> = on_tx!(self, db => sqlx::query_as(SQL)
            .bind(Micros::from(now))
            .bind(Micros::from(now + LONGEST_REST))
            .bind(webhook)
            .bind(Micros::from(until))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?);
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Stores the outcome of an attempt: the new state and, if still pending, when to try again. Fails with
    /// [`StoreError::Stale`] if another attempt has begun since.
    pub async fn settle_notification(
        &mut self,
        claimed: &Notification,
        state: NotificationState,
        failure: Option<&str>,
        now: DateTime<Utc>,
        next_attempt_at: DateTime<Utc>,
    ) -> Result<()> {
        const SQL: &str = "UPDATE notifications SET state = $3, failure = $4, ended_at = $5, next_attempt_at = $6 \
            WHERE id = $1 AND attempts = $2 AND state = 'pending'";
        let ended_at = (state != NotificationState::Pending).then(|| Micros::from(now));
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(claimed.id)
            .bind(claimed.attempts)
            .bind(state.as_str())
            .bind(failure)
            .bind(ended_at)
            .bind(Micros::from(next_attempt_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)
    }

    /// Queues a dead letter again. Fails with [`StoreError::Stale`] if it is not dead.
    pub async fn revive_notification(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE notifications SET state = 'pending', attempts = 0, queued_at = $2, \
            next_attempt_at = $2, ended_at = NULL WHERE id = $1 AND state = 'dead'";
        let at = Micros::from(now);
        let changed = writes!(self, db => sqlx::query(SQL).bind(id).bind(at).execute(db).await?.rows_affected());
        one_row(changed)
    }

    /// Deletes notifications that ended before `before`.
    pub async fn delete_ended_notifications(&mut self, before: DateTime<Utc>) -> Result<u64> {
        const SQL: &str = "DELETE FROM notifications WHERE ended_at < $1";
        let at = Micros::from(before);
        Ok(writes!(self, db => sqlx::query(SQL).bind(at).execute(db).await?.rows_affected()))
    }

    /// Stores that a recipient read from a network.
    pub async fn note_network(&mut self, recipient_id: Uuid, network: IpNet, seen_at: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "INSERT INTO recipient_networks (recipient_id, network, last_seen_at) VALUES ($1, $2, $3) \
            ON CONFLICT (recipient_id, network) DO UPDATE SET last_seen_at = excluded.last_seen_at";
        writes!(self, db => sqlx::query(SQL)
            .bind(recipient_id)
            .bind(network.to_string())
            .bind(Micros::from(seen_at))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Erases the networks that were last seen before `before`, and older messages that name one.
    pub async fn delete_old_networks(&mut self, before: DateTime<Utc>) -> Result<u64> {
        const NETWORKS: &str = "DELETE FROM recipient_networks WHERE last_seen_at < $1";
        const MESSAGES: &str = "DELETE FROM notifications WHERE kind = 'network.first_seen' AND created_at < $1";
        let at = Micros::from(before);
        let networks = writes!(self, db => sqlx::query(NETWORKS).bind(at).execute(db).await?.rows_affected());
        let messages = writes!(self, db => sqlx::query(MESSAGES).bind(at).execute(db).await?.rows_affected());
        Ok(networks + messages)
    }
}
