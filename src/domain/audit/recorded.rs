//! Reads an event of the audit trail back, with the fields that counting needs.
//!
//! Never here: what an event counts as, which is in `insight::usage`, or whether it is genuine, which is in `chain`.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    ActorKind,
    action::{Action, Kind},
};
use crate::domain::{
    access::delivery::Delivery,
    core::{
        spec::Effect,
        word::{AsWritten, Words},
    },
};

/// The recorded actor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RecordedActor {
    /// What it was.
    pub kind: AsWritten<ActorKind>,
    /// Its name at the time.
    pub name: Option<String>,
    /// An operator's role at the time.
    pub role: Option<String>,
}

/// The recorded object of an action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RecordedObject {
    /// What kind of thing it was.
    pub kind: AsWritten<Kind>,
    /// Its identity, where it existed.
    pub id: Option<Uuid>,
    /// Its name at the time.
    pub name: Option<String>,
}

/// A recorded event; absent fields are `None`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Recorded {
    /// Its place in the chain.
    pub seq: i64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Who acted.
    pub actor: RecordedActor,
    /// What was done.
    pub action: AsWritten<Action>,
    /// What was acted upon.
    pub object: Option<RecordedObject>,
    /// `allow` or `deny`.
    pub decision: String,
    /// The stable code of a refusal.
    pub reason: Option<String>,
    /// The recipient's name at the time.
    pub recipient: Option<String>,
    /// The recipient.
    pub recipient_id: Option<Uuid>,
    /// The token that was used or acted upon.
    pub token_id: Option<Uuid>,
    /// The grant's purpose.
    pub purpose: Option<String>,
    /// The grant's agreement.
    pub agreement: Option<String>,
    /// The share's name.
    pub share: Option<String>,
    /// The share.
    pub share_id: Option<Uuid>,
    /// The schema's name.
    pub schema: Option<String>,
    /// The shared object's name in the share.
    pub table: Option<String>,
    /// The shared object, unless an earlier release wrote the event.
    object_id: Option<Uuid>,
    /// The registered table; the shared object where `registered_table` is absent.
    table_id: Option<Uuid>,
    /// The registered table's name.
    pub registered_table: Option<String>,
    /// The version that was served.
    pub table_version: Option<u64>,
    /// `presigned` or `proxied`.
    pub delivery: Option<String>,
    /// The number of files.
    pub files: Option<u64>,
    /// The number of rows, if known.
    pub rows: Option<u64>,
    /// The number of bytes.
    pub bytes: Option<u64>,
    /// When the last URL handed out expires.
    pub url_expires_at: Option<DateTime<Utc>>,
    /// The duration of an answer, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What a change means for what anybody can read; absent in what earlier releases wrote.
    pub effect: Option<AsWritten<Effect>>,
    /// What a change, or a sum of events, says.
    pub change: Option<Value>,
    /// The commitment to the personal part.
    #[serde(rename = "personal")]
    pub commitment: Option<String>,
    /// The client's address, if available.
    pub client_address: Option<String>,
}

impl Recorded {
    /// Reads an event from its text and the text of its personal part; `None` if either cannot be read.
    pub fn read(body: &str, personal: Option<&str>) -> Option<Self> {
        let mut event: Self = serde_json::from_str(body).ok()?;
        if let Some(personal) = personal {
            let personal: Value = serde_json::from_str(personal).ok()?;
            event.client_address = personal["client_address"].as_str().map(str::to_owned);
        }
        Some(event)
    }

    /// Whether the event was allowed.
    pub fn is_allowed(&self) -> bool {
        self.decision == "allow"
    }

    /// Whether the bytes are delivered through the server.
    pub fn is_proxied(&self) -> bool {
        self.delivery.as_deref() == Some(Delivery::Proxied.as_str())
    }

    /// Whether the event had a personal part but its address is not available, usually because it was erased.
    pub fn lost_its_address(&self) -> bool {
        self.commitment.is_some() && self.client_address.is_none()
    }

    /// Reads a number from the event's `change`; 0 if absent.
    pub fn told(&self, member: &str) -> u64 {
        self.change.as_ref().and_then(|change| change[member].as_u64()).unwrap_or_default()
    }

    /// The shared object that it was about. Earlier releases named it as the table.
    pub fn shared_object(&self) -> Option<Uuid> {
        self.object_id.or_else(|| self.table_id.filter(|_| self.registered_table.is_none()))
    }

    /// Takes out where in a share it was.
    pub fn forget_place(&mut self) {
        (self.share, self.share_id, self.schema, self.table) = (None, None, None, None);
        (self.object_id, self.table_id, self.registered_table) = (None, None, None);
    }

    /// The table's name below its share: `schema.table`.
    pub fn dotted_table(&self) -> Option<String> {
        Some(format!("{}.{}", self.schema.as_deref()?, self.table.as_deref()?))
    }
}
