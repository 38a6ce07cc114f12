//! The audit trail's values: an event, its canonical bytes, and the chain that binds each event to the one before.
//!
//! An event is bytes: what is hashed is exactly the text that is kept. What is personal (address, user agent, contacts) is
//! kept apart under a salted commitment, so that it can be erased while the chain still verifies. Never here: where
//! events are kept, or who decides that one is written.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use hmac::Mac;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    operator::Role,
    seal::{hex, hmac},
};

/// The `prev_hash` of the first event.
pub const GENESIS: [u8; 32] = [0; 32];

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// What it is.
    pub kind: ActorKind,
    /// Its identity, where it has one.
    pub id: Option<Uuid>,
    /// Its name at the time.
    pub name: Option<String>,
    /// An operator's role at the time.
    pub role: Option<Role>,
    /// Which of its tokens an operator used.
    pub token_id: Option<Uuid>,
}

impl Actor {
    /// Somebody who presented no valid credential.
    pub const ANONYMOUS: Self = Self { kind: ActorKind::Anonymous, id: None, name: None, role: None, token_id: None };

    /// The server itself, in this capacity.
    pub fn system(name: &str) -> Self {
        Self { kind: ActorKind::System, name: Some(name.to_owned()), ..Self::ANONYMOUS }
    }
}

/// The kinds of actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// Somebody who presented no valid credential.
    Anonymous,
    /// A recipient.
    Recipient,
    /// An operator.
    Operator,
    /// The server itself.
    System,
}

/// What was acted upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Its noun: `share`, `table`, `recipient`, ….
    pub kind: Cow<'static, str>,
    /// Its identity, where it exists.
    pub id: Option<Uuid>,
    /// Its name at the time.
    pub name: Option<String>,
}

/// How it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was allowed.
    Allow,
    /// It was refused.
    Deny,
}

impl Outcome {
    /// The word kept in the database and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// What is personal about an event; kept apart from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Personal {
    /// The client's address.
    pub client_address: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// Whom a recipient's change names: contacts by role, `before` and `after`.
    pub contacts: Option<Value>,
    /// Whom an issuer says that the caller is: the `sub` of the JWT that was presented.
    pub subject: Option<String>,
}

/// One thing that happened, before it has its place in the chain. Absent fields are left out of the bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Who acted.
    pub actor: Actor,
    /// What was done: dotted, noun first (`table.query`).
    pub action: Cow<'static, str>,
    /// What was acted upon.
    pub object: Option<Object>,
    /// How it was decided.
    pub decision: Outcome,
    /// The stable code of the decision's reason.
    pub reason: Option<Cow<'static, str>>,
    /// The request's id, as the client saw it.
    pub request_id: Option<String>,
    /// The recipient's name at the time.
    pub recipient: Option<String>,
    /// The recipient's identity.
    pub recipient_id: Option<Uuid>,
    /// The token that was used or acted upon; where a JWT was used, the identity that the recipient is bound to.
    pub token_id: Option<Uuid>,
    /// The grant that allowed or was acted upon.
    pub grant_id: Option<Uuid>,
    /// The grant's purpose.
    pub purpose: Option<String>,
    /// The reference of the grant's agreement.
    pub agreement: Option<String>,
    /// The share's name.
    pub share: Option<String>,
    /// The share's identity.
    pub share_id: Option<Uuid>,
    /// The schema's name.
    pub schema: Option<String>,
    /// The table's name in the share.
    pub table: Option<String>,
    /// The shared object's identity.
    pub table_id: Option<Uuid>,
    /// The view that was read, with its version: `claims.claims_fraud@v1`.
    pub view: Option<String>,
    /// The Delta version that was served.
    pub table_version: Option<u64>,
    /// `presigned` or `proxied`.
    pub delivery: Option<&'static str>,
    /// `parquet` or `delta`.
    pub format: Option<&'static str>,
    /// SHA-256 of the request's predicates, in hex; their text may be personal.
    pub predicate_digest: Option<String>,
    /// How many files were disclosed.
    pub files: Option<u64>,
    /// How many rows they hold by their statistics, where all have them.
    pub rows: Option<u64>,
    /// How many bytes: disclosed by a query, delivered by a file read.
    pub bytes: Option<u64>,
    /// When the last URL handed out dies.
    pub url_expires_at: Option<DateTime<Utc>>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// An admin change: what was, what is, without secrets.
    pub change: Option<Value>,
    /// What is personal; not in the event's bytes.
    #[serde(skip)]
    pub personal: Personal,
}

impl Event {
    /// An event of `action` by `actor` that was allowed; the rest is filled in by its fields.
    pub fn new(actor: Actor, action: impl Into<Cow<'static, str>>) -> Self {
        Self {
            actor,
            action: action.into(),
            object: None,
            decision: Outcome::Allow,
            reason: None,
            request_id: None,
            recipient: None,
            recipient_id: None,
            token_id: None,
            grant_id: None,
            purpose: None,
            agreement: None,
            share: None,
            share_id: None,
            schema: None,
            table: None,
            table_id: None,
            view: None,
            table_version: None,
            delivery: None,
            format: None,
            predicate_digest: None,
            files: None,
            rows: None,
            bytes: None,
            url_expires_at: None,
            duration_ms: None,
            change: None,
            personal: Personal::default(),
        }
    }
}

/// The chain's newest link: what the next event is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest event's sequence number; 0 before the first.
    pub seq: i64,
    /// The newest event's hash; [`GENESIS`] before the first.
    pub hash: [u8; 32],
}

/// An event in its place in the chain, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its place; without gaps, from 1.
    pub seq: i64,
    /// When it was written, in whole microseconds.
    pub at: DateTime<Utc>,
    /// The hash of the event before.
    pub prev_hash: [u8; 32],
    /// SHA-256 over [`link_hash`]'s input.
    pub hash: [u8; 32],
    /// The canonical JSON text that is hashed.
    pub body: String,
    /// The salt of the commitment to the personal part.
    pub salt: [u8; 16],
    /// The canonical JSON text of the personal part; `None` where there is nothing personal.
    pub personal: Option<String>,
}

impl Head {
    /// Puts `event` behind this head at the time `at`, and moves the head.
    pub fn append(&mut self, event: &Event, at: DateTime<Utc>) -> Link {
        let mut salt = [0u8; 16];
        rand::rng().fill_bytes(&mut salt);
        let at = at.trunc_subsecs(6);
        let seq = self.seq + 1;
        let personal = (event.personal != Personal::default()).then(|| canonical(&to_value(&event.personal)));
        let mut fields = match to_value(event) {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        fields.insert("seq".into(), seq.into());
        fields.insert("at".into(), timestamp(at).into());
        if let Some(personal) = &personal {
            fields.insert("personal".into(), commitment(&salt, personal).into());
        }
        let body = canonical(&Value::Object(fields));
        let prev_hash = self.hash;
        let hash = link_hash(&prev_hash, &body);
        *self = Self { seq, hash };
        Link { seq, at, prev_hash, hash, body, salt, personal }
    }
}

/// The hash that binds `body` to the event before: SHA-256(0x00 ‖ prev_hash ‖ body), the leaf hash of RFC 6962 over
/// both.
pub fn link_hash(prev_hash: &[u8; 32], body: &str) -> [u8; 32] {
    Sha256::new().chain_update([0u8]).chain_update(prev_hash).chain_update(body.as_bytes()).finalize().into()
}

/// The commitment to an event's personal part that stays in its body when the part itself is erased.
pub fn commitment(salt: &[u8; 16], personal: &str) -> String {
    hex(&hmac(salt).chain_update(personal.as_bytes()).finalize().into_bytes())
}

/// A time as events write it: RFC 3339 in UTC with microseconds.
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// JSON text in canonical form (RFC 8785): sorted keys, no spaces, absent (`null`) members left out. Events hold no
/// fractions, so that number formatting never decides.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            // RFC 8785 sorts keys by UTF-16 code units.
            let mut members: Vec<_> = map.iter().filter(|(_, member)| !member.is_null()).collect();
            members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            out.push('{');
            for (i, (key, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn to_value(value: &impl Serialize) -> Value {
    // Every type here has string keys and no failing Serialize.
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let actor = Actor { kind: ActorKind::Recipient, name: Some("acme".into()), ..Actor::ANONYMOUS };
        let personal = Personal { client_address: Some("198.51.100.7".into()), ..Personal::default() };
        Event { files: Some(3), personal, ..Event::new(actor, "table.query") }
    }

    #[test]
    fn events_chain_without_gaps_and_hide_what_is_personal() {
        let mut head = Head { seq: 0, hash: GENESIS };
        let at = DateTime::from_timestamp(1_790_000_000, 123_456_789).unwrap();
        let (first, second) = (head.append(&event(), at), head.append(&event(), at));
        assert_eq!((first.seq, second.seq), (1, 2));
        assert_eq!(second.prev_hash, first.hash);
        assert_eq!(link_hash(&first.prev_hash, &first.body), first.hash);
        assert!(!first.body.contains("198.51.100.7"));
        assert!(first.body.contains(&commitment(&first.salt, first.personal.as_ref().unwrap())));
        assert!(first.body.contains(r#""at":"2026-09-21T14:13:20.123456Z""#), "{}", first.body);
    }

    #[test]
    fn canonical_text_is_sorted_dense_and_without_nulls() {
        let value = serde_json::json!({"b": 1, "a": {"d": null, "c": [true, "x\u{1}"]}});
        assert_eq!(canonical(&value), r#"{"a":{"c":[true,"x\u0001"]},"b":1}"#);
    }
}
