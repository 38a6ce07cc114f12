//! Stores which servers are alive, and until when. A server's claims are left to it as long as it counts as alive.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::store::{CLOCKS_APART, Db, Result, Tx, writes};

use super::value::Micros;

/// How long a server counts as alive after it reports. This is longer than the largest difference of clocks plus the
/// longest silence, so that a working server with a slow clock does not look dead to the others.
const ALIVE: TimeDelta = TimeDelta::seconds(14);
/// The longest believable lifetime; a longer one was reported by a clock that was ahead.
pub(in crate::store) const LONGEST_LIFE: TimeDelta =
    TimeDelta::seconds(ALIVE.num_seconds() + CLOCKS_APART.num_seconds());
/// How long a silent server is remembered, and how far in the future a time may be and still be believed.
const KEPT: TimeDelta = TimeDelta::days(1);

impl Tx {
    /// Records that the server `id` is alive; its claims are left to it for a few more seconds.
    pub async fn keep_server_alive(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "INSERT INTO servers (id, alive_until) VALUES ($1, $2) \
            ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until";
        self.forget_servers(now).await?;
        let until = Micros::from(now + ALIVE);
        writes!(self, db => sqlx::query(SQL).bind(id).bind(until).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Writes `filler` for the server `id`. If this commits, the database has room and accepts changes.
    pub async fn write_filler(&mut self, id: Uuid, now: DateTime<Utc>, filler: &[u8]) -> Result<()> {
        const SQL: &str = "INSERT INTO servers (id, alive_until, filler) VALUES ($1, $2, $3) \
            ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until, filler = excluded.filler";
        self.forget_servers(now).await?;
        let at = Micros::from(now);
        writes!(self, db => sqlx::query(SQL).bind(id).bind(at).bind(filler).execute(db).await?.rows_affected());
        Ok(())
    }

    async fn forget_servers(&mut self, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "DELETE FROM servers WHERE alive_until < $1 OR alive_until > $2";
        let (old, ahead) = (Micros::from(now - KEPT), Micros::from(now + KEPT));
        writes!(self, db => sqlx::query(SQL).bind(old).bind(ahead).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Gives back what the server `id` holds: the leases of background tasks, the units that it is at, and its jobs,
    /// whose attempts do not count.
    pub async fn release_server(&mut self, id: Uuid) -> Result<()> {
        const LEASES: &str = "DELETE FROM leases WHERE holder = $1";
        const SERVER: &str = "DELETE FROM servers WHERE id = $1";
        const JOBS: &str = "UPDATE jobs SET state = 'due', attempts = attempts - 1, holder = NULL, held_until = NULL \
            WHERE state = 'running' AND holder = $1";
        writes!(self, db => sqlx::query(LEASES).bind(id).execute(db).await?.rows_affected());
        writes!(self, db => sqlx::query(JOBS).bind(id).execute(db).await?.rows_affected());
        writes!(self, db => sqlx::query(SERVER).bind(id).execute(db).await?.rows_affected());
        Ok(())
    }
}

impl Db {
    /// Ends what servers that died have claimed. Called by the one server of a SQLite file, which knows that there is no
    /// other; on PostgreSQL others may be alive, and nothing is ended.
    pub async fn end_claims_of_the_dead(&self) -> Result<()> {
        let mut tx = match self {
            Self::Sqlite { .. } => self.begin().await?,
            Self::Postgres { .. } => return Ok(()),
        };
        const JOBS: &str = "UPDATE jobs SET state = 'due', holder = NULL, held_until = NULL WHERE state = 'running'";
        writes!(&mut tx, db => sqlx::query("DELETE FROM servers").execute(db).await?.rows_affected());
        writes!(&mut tx, db => sqlx::query("DELETE FROM leases").execute(db).await?.rows_affected());
        writes!(&mut tx, db => sqlx::query(JOBS).execute(db).await?.rows_affected());
        tx.commit().await
    }
}
