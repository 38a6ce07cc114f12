//! What is asked of exceptions: their objects by identity, their ends and states. The exceptions themselves are stored like
//! every noun that is a name and a spec.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::{
        access::exception::{ExceptionRule, ExceptionState, ExceptionStatus, ExceptionTarget},
        core::word::{AsWritten, Words},
    },
    store::{
        Result, Tx,
        core::value::{Micros, padded},
        one_row, reads, writes,
    },
};

/// Stands for no version.
const NO_VERSION: i64 = -1;

#[derive(FromRow)]
struct StatusRow {
    exception_id: Uuid,
    rule: String,
    object_kind: String,
    object_id: Uuid,
    object_version: Option<i64>,
    expires_at: Micros,
    state: String,
    state_since: Micros,
    proposer: String,
    proposed_by: String,
    approved_by: Option<String>,
}

impl From<StatusRow> for ExceptionStatus {
    fn from(row: StatusRow) -> Self {
        Self {
            exception_id: row.exception_id,
            rule: AsWritten::new(&row.rule),
            target: ExceptionTarget {
                kind: AsWritten::new(&row.object_kind),
                id: row.object_id,
                version: row.object_version,
            },
            expires_at: row.expires_at.0,
            state: AsWritten::new(&row.state),
            state_since: row.state_since.0,
            proposer: row.proposer,
            proposed_by: row.proposed_by,
            approved_by: row.approved_by,
        }
    }
}

/// An exception that lets something pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveException {
    /// The exception.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it ends by time.
    pub expires_at: DateTime<Utc>,
}

reads! {
    /// Finds the statuses of these exceptions, by exception.
    pub async fn find_exception_statuses(self, db, ids: &[Uuid]) -> Result<HashMap<Uuid, ExceptionStatus>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::new(
            "SELECT exception_id, rule, object_kind, object_id, object_version, expires_at, state, state_since, \
             proposer, proposed_by, approved_by FROM exception_states WHERE exception_id IN (",
        );
        let mut list = query.separated(", ");
        padded(ids).into_iter().for_each(|id| {
            list.push_bind(id);
        });
        query.push(")");
        let rows: Vec<StatusRow> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(|row| (row.exception_id, row.into())).collect())
    }

    /// Finds the exception from a rule that is active at `now` for exactly this thing; of several, the one that lasts
    /// longest.
    pub async fn find_active_exception(
        self, db, rule: ExceptionRule, target: &ExceptionTarget, now: DateTime<Utc>
    ) -> Result<Option<ActiveException>> {
        const SQL: &str = "SELECT e.id, e.name, s.expires_at FROM exception_states s \
            JOIN exceptions e ON e.id = s.exception_id \
            WHERE s.rule = $1 AND s.object_kind = $2 AND s.object_id = $3 AND COALESCE(s.object_version, -1) = $4 \
            AND s.state = $5 AND s.expires_at > $6 ORDER BY s.expires_at DESC, e.id LIMIT 1";
        let row: Option<(Uuid, String, Micros)> = sqlx::query_as(SQL)
            .bind(rule.as_str())
            .bind(target.kind.as_str())
            .bind(target.id)
            .bind(target.version.unwrap_or(NO_VERSION))
            .bind(ExceptionState::Active.as_str())
            .bind(Micros::from(now))
            .fetch_optional(db)
            .await?;
        Ok(row.map(|(id, name, expires_at)| ActiveException { id, name, expires_at: expires_at.0 }))
    }
}

impl Tx {
    /// Stores the status of a new exception, or that of a changed one.
    pub async fn set_exception_status(&mut self, status: &ExceptionStatus) -> Result<()> {
        const SQL: &str = "INSERT INTO exception_states (exception_id, rule, object_kind, object_id, object_version, \
            expires_at, state, state_since, proposer, proposed_by, approved_by) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
            ON CONFLICT (exception_id) DO UPDATE SET rule = excluded.rule, object_kind = excluded.object_kind, \
            object_id = excluded.object_id, object_version = excluded.object_version, \
            expires_at = excluded.expires_at, state = excluded.state, state_since = excluded.state_since, \
            proposer = excluded.proposer, proposed_by = excluded.proposed_by, approved_by = excluded.approved_by";
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(status.exception_id)
            .bind(status.rule.as_str())
            .bind(status.target.kind.as_str())
            .bind(status.target.id)
            .bind(status.target.version)
            .bind(Micros::from(status.expires_at))
            .bind(status.state.as_str())
            .bind(Micros::from(status.state_since))
            .bind(&status.proposer)
            .bind(&status.proposed_by)
            .bind(&status.approved_by)
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)
    }
}
