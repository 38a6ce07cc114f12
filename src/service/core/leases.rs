//! Takes turns with other servers: leases of background tasks, and the id under which this server claims work.
//!
//! Never here: what is done, or how long a server holds a job, which `jobs` says.

use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    service::core::clock::Clock,
    store::{Db, StoreError},
};

/// How long a server keeps a background task before others may take it over.
const LEASE: TimeDelta = TimeDelta::seconds(45);

/// Takes leases for one server. Clones are the same server.
#[derive(Clone, Debug)]
pub struct Leases {
    db: Db,
    clock: Clock,
    holder: Uuid,
}

impl Leases {
    /// Makes the leases of a server that has just started, with a new id.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, holder: Uuid::now_v7() }
    }

    /// The id under which this server claims leases, jobs and files that it makes.
    pub(in crate::service) fn holder(&self) -> Uuid {
        self.holder
    }

    /// Takes or keeps the lease of the background task `name`; false where another server has it.
    pub(in crate::service) async fn take(&self, name: &'static str) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let taken = tx.take_lease(name, self.holder, now, now + LEASE).await?;
        tx.commit().await?;
        Ok(taken)
    }
}
