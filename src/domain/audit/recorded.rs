//! An event of the audit trail as it is read back, with what counting needs of it.
//!
//! Never here: what is counted, which `usage` says, nor whether the event is genuine, which the chain says.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::access::delivery::Delivery;

/// Who acted, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RecordedActor {
    /// What it was; a newer server may have written a kind that this one does not know.
    pub kind: String,
    /// Its name at the time.
    pub name: Option<String>,
    /// An operator's role at the time.
    pub role: Option<String>,
}

/// What was acted upon, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RecordedObject {
    /// Its noun.
    pub kind: String,
    /// Its name at the time.
    pub name: Option<String>,
}

/// An event that was recorded; what it does not say is `None`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Recorded {
    /// Its place in the chain.
    pub seq: i64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Who acted.
    pub actor: RecordedActor,
    /// What was done.
    pub action: String,
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
    /// The table's name in the share.
    pub table: Option<String>,
    /// The shared object.
    pub table_id: Option<Uuid>,
    /// The version that was served.
    pub table_version: Option<u64>,
    /// `presigned` or `proxied`.
    pub delivery: Option<String>,
    /// How many files.
    pub files: Option<u64>,
    /// How many rows, where that is known.
    pub rows: Option<u64>,
    /// How many bytes.
    pub bytes: Option<u64>,
    /// When the last URL handed out dies.
    pub url_expires_at: Option<DateTime<Utc>>,
    /// How long an answer took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What a change, or a sum of events, says.
    pub change: Option<Value>,
    /// The commitment to what is personal about it.
    #[serde(rename = "personal")]
    pub commitment: Option<String>,
    /// The client's address, where that is at hand.
    pub client_address: Option<String>,
}

impl Recorded {
    /// Reads an event from its text and that of its personal part; `None` where the text is no event's.
    pub fn read(body: &str, personal: Option<&str>) -> Option<Self> {
        let mut event: Self = serde_json::from_str(body).ok()?;
        if let Some(personal) = personal {
            let personal: Value = serde_json::from_str(personal).ok()?;
            event.client_address = personal["client_address"].as_str().map(str::to_owned);
        }
        Some(event)
    }

    /// Whether it was allowed.
    pub fn is_allowed(&self) -> bool {
        self.decision == "allow"
    }

    /// Whether bytes come, or came, through the server.
    pub fn is_proxied(&self) -> bool {
        self.delivery.as_deref() == Some(Delivery::Proxied.as_str())
    }

    /// Whether it has an address that is not at hand, because it was erased.
    pub fn lost_its_address(&self) -> bool {
        self.commitment.is_some() && self.client_address.is_none()
    }

    /// A number that its `change` says.
    pub fn told(&self, member: &str) -> u64 {
        self.change.as_ref().and_then(|change| change[member].as_u64()).unwrap_or_default()
    }

    /// The table's name below its share: `schema.table`.
    pub fn dotted_table(&self) -> Option<String> {
        Some(format!("{}.{}", self.schema.as_deref()?, self.table.as_deref()?))
    }
}
