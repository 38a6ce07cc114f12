//! Freezes: while one is on, nothing is handed out to anybody.

use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        audit::{
            Event, Object,
            action::{Action, Kind},
            timestamp,
        },
        insight::signal::{Signal, SignalKind},
    },
    service::{
        audit::write,
        core::{context::OperatorContext, error::ServiceError},
    },
    store::{Freeze, Tx},
};

use super::{Access, grants::Effect};

fn object(id: Uuid) -> Object {
    Object { kind: Kind::Freeze, id: Some(id), name: None }
}

/// Builds the signal that a freeze was created or lifted.
fn signal(kind: SignalKind, id: Uuid, reason: Option<&str>, ctx: &OperatorContext) -> Signal {
    Signal {
        kind,
        subject: id.to_string(),
        mark: String::new(),
        data: json!({"freeze_id": id, "reason": reason, "by": ctx.operator_name(), "at": timestamp(ctx.now)}),
    }
}

impl Access {
    /// Freezes everything. If a freeze is on already, it stays as it is.
    pub async fn freeze(&self, ctx: &OperatorContext, reason: &str) -> Result<(Freeze, Effect), ServiceError> {
        let freeze = self.begin_freeze(ctx, reason).await?;
        // Not under the chain's lock, which every request needs: from here on, nothing new is handed out.
        let outstanding = self.core.db.find_outstanding(None, self.core.clock.now()).await?;
        let effect = Effect::new(freeze.frozen_at, outstanding);
        Ok((freeze, effect))
    }

    async fn begin_freeze(&self, ctx: &OperatorContext, reason: &str) -> Result<Freeze, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let freeze = self.freeze_in(tx, ctx, reason).await?;
        unit.commit().await?;
        Ok(freeze)
    }

    /// Freezes everything; the transaction must hold the chain's lock. Returns the freeze that is on already, if any.
    pub(in crate::service) async fn freeze_in(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        reason: &str,
    ) -> Result<Freeze, ServiceError> {
        if let Some(freeze) = tx.find_freeze().await? {
            return Ok(freeze);
        }
        let freeze = Freeze {
            id: Uuid::now_v7(),
            reason: reason.to_owned(),
            frozen_by: ctx.operator_name(),
            frozen_at: ctx.now,
            lifted_by: None,
            lifted_at: None,
        };
        tx.insert_freeze(freeze.id, reason, &freeze.frozen_by, ctx.now).await?;
        let event =
            Event { change: Some(json!({"reason": reason})), ..ctx.event(Action::FreezeCreate, object(freeze.id)) };
        write::append(tx, event, ctx.now).await?;
        let signal = signal(SignalKind::FreezeCreate, freeze.id, Some(reason), ctx);
        self.core.signals.tell(tx, &signal, ctx.now).await?;
        Ok(freeze)
    }

    /// Lifts the current freeze.
    pub async fn unfreeze(&self, ctx: &OperatorContext, reason: Option<&str>) -> Result<Freeze, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let Some(freeze) = tx.find_freeze().await? else {
            return Err(ServiceError::conflict("nothing is frozen"));
        };
        tx.lift_freeze(&ctx.operator_name(), ctx.now).await?;
        let change = reason.map(|reason| json!({"reason": reason}));
        let event = Event { change, ..ctx.event(Action::FreezeLift, object(freeze.id)) };
        write::append(tx, event, ctx.now).await?;
        let signal = signal(SignalKind::FreezeLift, freeze.id, reason, ctx);
        self.core.signals.tell(tx, &signal, ctx.now).await?;
        let ctx = unit.commit().await?;
        Ok(Freeze { lifted_by: Some(ctx.operator_name()), lifted_at: Some(ctx.now), ..freeze })
    }
}
