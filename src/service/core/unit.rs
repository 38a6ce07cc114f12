//! Opens and closes changes: one transaction, one lock of the audit trail, any number of changes, one commit.
//!
//! Slow work goes before a unit: as long as one is open, every request waits. Never here: what changes.

use crate::store::{StoreError, Tx};

use super::{Core, context::OperatorContext, error::ServiceError};

/// How many times a change is attempted if the facts it rests on keep changing.
const ATTEMPTS: usize = 3;

/// Attempts a change until it is made: `once` returns `None` if the facts that it had read before the chain's lock were
/// others by then.
pub(in crate::service) async fn attempt<T, F>(once: impl Fn() -> F) -> Result<T, ServiceError>
where
    F: Future<Output = Result<Option<T>, ServiceError>>,
{
    for _ in 0..ATTEMPTS {
        if let Some(made) = once().await? {
            return Ok(made);
        }
    }
    Err(ServiceError::conflict("others change what this stands on at the same time; repeat it"))
}

/// An open change. Use cases that end in `_in` work on one, so that any number of them is kept together or not at all.
/// Dropped without a commit, nothing of it is kept. A dry run writes nothing at all, so that what one of
/// its changes makes is not there for the next.
#[derive(Debug)]
pub struct ChangeUnit {
    tx: Tx,
    ctx: OperatorContext,
}

impl ChangeUnit {
    /// The transaction, and who makes the change, with the time at which it was opened.
    pub(in crate::service) fn parts(&mut self) -> (&mut Tx, &OperatorContext) {
        (&mut self.tx, &self.ctx)
    }

    /// Ends the unit before anything is kept, and with it the lock. Returns whose it was.
    pub(in crate::service) fn abandon(self) -> OperatorContext {
        self.ctx
    }

    /// Keeps every change made in this unit; a dry run's are undone. Returns who made them, and when.
    pub async fn commit(self) -> Result<OperatorContext, StoreError> {
        self.tx.commit().await?;
        Ok(self.ctx)
    }
}

impl Core {
    /// Opens an operator's change or dry run. A dry run only reads, and no request waits for it. A change holds the audit
    /// chain's lock from the start, so changes and the decisions of the data plane follow one order, and the facts that a
    /// change rests on stay true. The time is read and the operator is authorized under the lock: times follow that order,
    /// and an operator that lost its rights changes nothing.
    pub async fn begin_change(&self, ctx: &OperatorContext) -> Result<ChangeUnit, ServiceError> {
        let mut tx = if ctx.is_dry() { self.db.rehearse().await? } else { self.begin_locked().await? };
        let now = self.clock.now();
        let (actor, principal) = self.sign_in.admit_again(&mut tx, ctx, now).await?;
        Ok(ChangeUnit { tx, ctx: OperatorContext { actor, principal, now, ..ctx.clone() } })
    }

    /// Opens a transaction that holds the audit chain's lock.
    pub(in crate::service) async fn begin_locked(&self) -> Result<Tx, ServiceError> {
        // The turn is for the lock alone, which SQLite takes with the transaction.
        let early = self.db.locks_at_begin().then(|| self.audit_writer.take_turn());
        let mut tx = self.db.begin_change().await?;
        let turn = early.unwrap_or_else(|| self.audit_writer.take_turn());
        tx.lock_audit_head().await?;
        drop(turn);
        Ok(tx)
    }
}
