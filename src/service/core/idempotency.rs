//! Repeated creations: a caller that never saw the answer may send the request again with the same key.
//!
//! Never here: a secret. A secret is shown only once, whatever key is sent.

use chrono::TimeDelta;
use uuid::Uuid;

use crate::store::{IdempotencyRecord, Tx};

use super::{context::OperatorContext, error::ServiceError};

/// The status of the remembered requests, which are all creations (RFC 9110, 15.3.2).
const CREATED: u16 = 201;

/// How long a request is remembered.
const REMEMBERED: TimeDelta = TimeDelta::days(1);

/// Returns the thing that the same request created before, if any.
pub(in crate::service) async fn replayed(tx: &mut Tx, ctx: &OperatorContext) -> Result<Option<Uuid>, ServiceError> {
    let Some(asked) = &ctx.idempotency else { return Ok(None) };
    match tx.find_idempotency(&ctx.operator_key(), &asked.key).await? {
        None => Ok(None),
        Some(record) if record.request_digest == asked.request_digest => Ok(Some(record.resource_id)),
        Some(_) => Err(ServiceError::invalid(
            "Idempotency-Key",
            "was sent before with another request; use a new key for a new request",
        )),
    }
}

/// Remembers that this request created `resource_id`, and forgets requests that are too old.
pub(in crate::service) async fn remember(
    tx: &mut Tx,
    ctx: &OperatorContext,
    resource_id: Uuid,
) -> Result<(), ServiceError> {
    let Some(asked) = &ctx.idempotency else { return Ok(()) };
    let record = IdempotencyRecord {
        operator: ctx.operator_key(),
        key: asked.key.clone(),
        request_digest: asked.request_digest,
        resource_id,
        status: CREATED,
        created_at: ctx.now,
    };
    tx.delete_idempotency(ctx.now - REMEMBERED).await?;
    Ok(tx.insert_idempotency(&record).await?)
}
