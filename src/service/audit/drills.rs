//! Records the outcome of drills in the audit trail, as evidence that revoking, rotating, verifying and restoring work.
//!
//! Never here: the drills themselves, which go through the ordinary API and commands.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{
    domain::audit::{
        Event, Object,
        action::{Action, Kind},
        drill::DrillKind,
    },
    service::core::{context::OperatorContext, error::ServiceError},
};

use super::{AuditLog, write};

/// The outcome of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// The kind of drill.
    pub kind: DrillKind,
    /// Whether every check held.
    pub passed: bool,
    /// The measurements by name; times in milliseconds.
    pub measured: BTreeMap<String, u64>,
    /// The failure, if any.
    pub detail: Option<String>,
}

impl AuditLog {
    /// Records the outcome of a drill and returns when.
    pub async fn record_drill(&self, ctx: &OperatorContext, drill: &Drill) -> Result<DateTime<Utc>, ServiceError> {
        let Drill { kind, passed, measured, detail } = drill;
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let object = Object { kind: Kind::Drill, id: None, name: Some(kind.as_str().to_owned()) };
        let change = json!({"kind": kind, "passed": passed, "measured": measured, "detail": detail});
        let event = Event { change: Some(change), ..ctx.event(Action::DrillRecord, object) };
        write::append(tx, event, ctx.now).await?;
        let ctx = unit.commit().await?;
        Ok(ctx.now)
    }
}
