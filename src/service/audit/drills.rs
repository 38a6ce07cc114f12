//! What drills found, as events of the audit trail: the evidence that revoking, rotating, verifying and restoring work.
//!
//! Never here: a drill itself, which takes the ways that everybody takes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{
    domain::audit::{
        Event, Object,
        action::{Action, Kind},
        drill::DrillKind,
    },
    service::{
        Service,
        core::{context::OperatorContext, error::ServiceError},
    },
};

use super::write;

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// What was rehearsed.
    pub kind: DrillKind,
    /// Whether everything was as it should be.
    pub passed: bool,
    /// What was measured, by name; times in milliseconds.
    pub measured: BTreeMap<String, u64>,
    /// What was wrong.
    pub detail: Option<String>,
}

impl Service {
    /// Records what came of a drill; answers when.
    pub async fn record_drill(&self, ctx: &OperatorContext, drill: &Drill) -> Result<DateTime<Utc>, ServiceError> {
        let Drill { kind, passed, measured, detail } = drill;
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let object = Object { kind: Kind::Drill, id: None, name: Some(kind.as_str().to_owned()) };
        let change = json!({"kind": kind, "passed": passed, "measured": measured, "detail": detail});
        let event = Event { change: Some(change), ..ctx.event(Action::DrillRecord, object) };
        write::append(&mut tx, event, ctx.now).await?;
        tx.commit().await?;
        Ok(ctx.now)
    }
}
