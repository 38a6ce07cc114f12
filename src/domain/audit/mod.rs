//! Defines the audit trail's values: an event, its canonical bytes, and the chain that binds each event to the one
//! before.
//!
//! An event is bytes: the text that is hashed is exactly the text that is stored. Its personal part (address, user
//! agent, contacts) is stored separately under a salted commitment, so that it can be erased while the chain still
//! verifies. Never here: where events are stored, or when one is written.

pub mod action;
pub mod chain;
pub mod checkpoint;
pub mod drill;
pub mod merkle;
pub mod recorded;

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use hmac::Mac;
use rand::Rng;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use self::action::{Action, Kind};
use super::{
    core::{
        seal::{hex, hmac},
        spec::Effect,
        word::AsWritten,
    },
    operators::principal::Role,
};

/// The `prev_hash` of the first event.
pub const GENESIS: [u8; 32] = [0; 32];

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// The kind of actor.
    pub kind: ActorKind,
    /// Its id, if it has one.
    pub id: Option<Uuid>,
    /// Its name at the time.
    pub name: Option<String>,
    /// The operator's role at the time; of several, the highest-ranking one.
    pub role: Option<AsWritten<Role>>,
    /// Which of its tokens an operator used.
    pub token_id: Option<Uuid>,
}

impl Actor {
    /// A caller without a valid credential.
    pub const ANONYMOUS: Self = Self { kind: ActorKind::Anonymous, id: None, name: None, role: None, token_id: None };

    /// The server itself, acting as `name`.
    pub fn system(name: &str) -> Self {
        Self { kind: ActorKind::System, name: Some(name.to_owned()), ..Self::ANONYMOUS }
    }
}

/// The kinds of actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A caller without a valid credential.
    Anonymous,
    /// A recipient.
    Recipient,
    /// An operator.
    Operator,
    /// The server itself.
    System,
    /// Another system, by a message that it has signed.
    Hook,
}

/// The object of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Its identity, where it exists.
    pub id: Option<Uuid>,
    /// Its name at the time.
    pub name: Option<String>,
}

/// The outcome of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Allowed.
    Allow,
    /// Refused.
    Deny,
}

impl Outcome {
    /// The word for the outcome in the database and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The personal part of an event; stored separately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Personal {
    /// The client's address.
    pub client_address: Option<String>,
    /// The country of that address, if one was looked up.
    pub country: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// The people named in a recipient's contacts, by role, `before` and `after` a change.
    pub contacts: Option<Value>,
    /// The path of an operator's refused request, as sent.
    pub path: Option<String>,
    /// The caller's subject at its issuer: the `sub` of the presented JWT.
    pub subject: Option<String>,
}

/// An action or decision before it has its place in the chain. Absent fields are left out of the text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Who acted.
    pub actor: Actor,
    /// What was done.
    pub action: Action,
    /// What was acted upon.
    pub object: Option<Object>,
    /// The outcome.
    pub decision: Outcome,
    /// The stable code of the decision's reason.
    pub reason: Option<Cow<'static, str>>,
    /// The request's id, as the client saw it.
    pub request_id: Option<String>,
    /// The recipient's name at the time.
    pub recipient: Option<String>,
    /// The recipient's id.
    pub recipient_id: Option<Uuid>,
    /// The token that was used or acted upon; for a JWT, the id of the identity that the recipient is bound to.
    pub token_id: Option<Uuid>,
    /// The grant that allowed the request or was acted upon.
    pub grant_id: Option<Uuid>,
    /// The grant's purpose.
    pub purpose: Option<String>,
    /// The reference of the grant's agreement.
    pub agreement: Option<String>,
    /// The share's name.
    pub share: Option<String>,
    /// The share's id.
    pub share_id: Option<Uuid>,
    /// The schema's name.
    pub schema: Option<String>,
    /// The shared object's name in the share, which the protocol calls a table's.
    pub table: Option<String>,
    /// The shared object's identity.
    pub object_id: Option<Uuid>,
    /// The registered table's identity.
    pub table_id: Option<Uuid>,
    /// The registered table's name. Where it is absent, an earlier release wrote the event, and `table_id` is the shared object's
    /// identity.
    pub registered_table: Option<String>,
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
    /// The number of files disclosed.
    pub files: Option<u64>,
    /// The number of rows in these files, if all have statistics.
    pub rows: Option<u64>,
    /// The number of bytes: disclosed by a query, delivered by a file read.
    pub bytes: Option<u64>,
    /// When the last URL handed out expires.
    pub url_expires_at: Option<DateTime<Utc>>,
    /// The duration in milliseconds.
    pub duration_ms: Option<u64>,
    /// What a change means for what anybody can read.
    pub effect: Option<Effect>,
    /// An admin change: what was, what is, without secrets.
    pub change: Option<Value>,
    /// The personal part; not in the event's text.
    #[serde(skip)]
    pub personal: Personal,
}

impl Event {
    /// An event of `action` by `actor` that was allowed; the rest is filled in by its fields.
    pub fn new(actor: Actor, action: Action) -> Self {
        Self {
            actor,
            action,
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
            object_id: None,
            table_id: None,
            registered_table: None,
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
            effect: None,
            change: None,
            personal: Personal::default(),
        }
    }
}

/// The chain's newest link, to which the next event is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest event's sequence number; 0 before the first.
    pub seq: i64,
    /// The newest event's hash; [`GENESIS`] before the first.
    pub hash: [u8; 32],
}

/// An event in its place in the chain, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its place: from 1, without gaps.
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
    /// The canonical JSON text of the personal part; `None` if there is none.
    pub personal: Option<String>,
}

impl Head {
    /// Appends `event` to the chain at the time `at` and moves the head.
    pub fn append(&mut self, event: &Event, at: DateTime<Utc>) -> Link {
        let mut salt = [0u8; 16];
        rand::rng().fill_bytes(&mut salt);
        let at = at.trunc_subsecs(6);
        let seq = self.seq + 1;
        let personal = (event.personal != Personal::default()).then(|| personal_text(&event.personal));
        let body = body(event, seq, at, personal.as_ref().map(|personal| commitment(&salt, personal)));
        let prev_hash = self.hash;
        let hash = link_hash(&prev_hash, &body);
        *self = Self { seq, hash };
        Link { seq, at, prev_hash, hash, body, salt, personal }
    }
}

/// Writes an event's canonical text directly, member by member: this is most of the CPU time of recording a request.
fn body(event: &Event, seq: i64, at: DateTime<Utc>, personal: Option<String>) -> String {
    Members::write(|members| {
        members.add("action", Some(event.action));
        members.object("actor", Some(&event.actor), |actor, members| {
            members.add("id", actor.id);
            members.add("kind", Some(actor.kind));
            members.add("name", actor.name.as_ref());
            members.add("role", actor.role.as_ref());
            members.add("token_id", actor.token_id);
        });
        members.add("agreement", event.agreement.as_ref());
        members.add("at", Some(timestamp(at)));
        members.add("bytes", event.bytes);
        members.value("change", event.change.as_ref());
        members.add("decision", Some(event.decision));
        members.add("delivery", event.delivery);
        members.add("duration_ms", event.duration_ms);
        members.add("effect", event.effect);
        members.add("files", event.files);
        members.add("format", event.format);
        members.add("grant_id", event.grant_id);
        members.object("object", event.object.as_ref(), |object, members| {
            members.add("id", object.id);
            members.add("kind", Some(object.kind));
            members.add("name", object.name.as_ref());
        });
        members.add("object_id", event.object_id);
        members.add("personal", personal);
        members.add("predicate_digest", event.predicate_digest.as_ref());
        members.add("purpose", event.purpose.as_ref());
        members.add("reason", event.reason.as_ref());
        members.add("recipient", event.recipient.as_ref());
        members.add("recipient_id", event.recipient_id);
        members.add("registered_table", event.registered_table.as_ref());
        members.add("request_id", event.request_id.as_ref());
        members.add("rows", event.rows);
        members.add("schema", event.schema.as_ref());
        members.add("seq", Some(seq));
        members.add("share", event.share.as_ref());
        members.add("share_id", event.share_id);
        members.add("table", event.table.as_ref());
        members.add("table_id", event.table_id);
        members.add("table_version", event.table_version);
        members.add("token_id", event.token_id);
        members.add("url_expires_at", event.url_expires_at);
        members.add("view", event.view.as_ref());
    })
}

/// Writes the canonical text of an event's personal part.
fn personal_text(personal: &Personal) -> String {
    Members::write(|members| {
        members.add("client_address", personal.client_address.as_ref());
        members.value("contacts", personal.contacts.as_ref());
        members.add("country", personal.country.as_ref());
        members.add("path", personal.path.as_ref());
        members.add("subject", personal.subject.as_ref());
        members.add("user_agent", personal.user_agent.as_ref());
    })
}

/// Writes the members of a canonical JSON object, which must be added in the order of their names.
struct Members {
    out: Vec<u8>,
    last: &'static str,
}

impl Members {
    fn write(add_all: impl FnOnce(&mut Self)) -> String {
        let mut members = Self { out: Vec::with_capacity(1024), last: "" };
        members.out.push(b'{');
        add_all(&mut members);
        members.out.push(b'}');
        text(members.out)
    }

    fn name(&mut self, name: &'static str) {
        debug_assert!(self.last < name, "{name} stands before {}", self.last);
        self.out.extend_from_slice(if self.last.is_empty() { b"\"" } else { b",\"" });
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.last = name;
    }

    fn add(&mut self, name: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.name(name);
            write_json(&value, &mut self.out);
        }
    }

    /// Adds a value whose own members may be in any order.
    fn value(&mut self, name: &'static str, value: Option<&Value>) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            self.name(name);
            write_canonical(value, &mut self.out);
        }
    }

    fn object<T>(&mut self, name: &'static str, value: Option<&T>, add_all: impl FnOnce(&T, &mut Self)) {
        if let Some(value) = value {
            self.name(name);
            self.out.push(b'{');
            self.last = "";
            add_all(value, self);
            self.last = name;
            self.out.push(b'}');
        }
    }
}

/// Hashes `body` and binds it to the event before: SHA-256(0x00 ‖ prev_hash ‖ body), the leaf hash of RFC 6962 over
/// both.
pub fn link_hash(prev_hash: &[u8; 32], body: &str) -> [u8; 32] {
    Sha256::new().chain_update([0u8]).chain_update(prev_hash).chain_update(body.as_bytes()).finalize().into()
}

/// Commits to an event's personal part. The commitment stays in the event's body when the part is erased.
pub fn commitment(salt: &[u8; 16], personal: &str) -> String {
    hex(&hmac(salt).chain_update(personal.as_bytes()).finalize().into_bytes())
}

/// Writes a time as events do: RFC 3339 in UTC with microseconds.
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Writes JSON in the trail's own form: members in the order of RFC 8785, texts escaped as there, no spaces; but members
/// that are `null` are left out, and numbers stand as they are, whole ones with every digit. Nobody has to write it again
/// to verify the trail, which hashes the text itself. For others to compute there is
/// [`canonical`](super::core::canonical).
pub fn canonical(value: &Value) -> String {
    let mut out = Vec::with_capacity(1024);
    write_canonical(value, &mut out);
    text(out)
}

/// Converts JSON text to a string; serde_json writes only UTF-8.
fn text(written: Vec<u8>) -> String {
    String::from_utf8(written).unwrap_or_default()
}

fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().filter(|(_, member)| !member.is_null()).collect();
            // RFC 8785 sorts keys by UTF-16 code units, which equals byte order if all keys are ASCII.
            if members.iter().all(|(key, _)| key.is_ascii()) {
                members.sort_unstable_by_key(|(key, _)| *key);
            } else {
                members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            }
            out.push(b'{');
            for (i, (key, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_json(key, out);
                out.push(b':');
                write_canonical(member, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_canonical(item, out);
            }
            out.push(b']');
        }
        scalar => write_json(scalar, out),
    }
}

fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    // Writing to memory cannot fail, and these types always serialize.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operators::Role;

    fn to_value(value: &impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }

    fn event() -> Event {
        let actor = Actor { kind: ActorKind::Recipient, name: Some("acme".into()), ..Actor::ANONYMOUS };
        let personal = Personal { client_address: Some("198.51.100.7".into()), ..Personal::default() };
        Event { files: Some(3), personal, ..Event::new(actor, Action::TableQuery) }
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

    /// Sets every field by name, so that a new field cannot be forgotten in the text.
    fn full_event() -> Event {
        let (id, text) = (Some(Uuid::from_u128(7)), || Some("\"ä\\\u{1}".to_owned()));
        Event {
            actor: Actor { kind: ActorKind::Operator, id, name: text(), role: Some(Role::Admin.into()), token_id: id },
            action: Action::TableQuery,
            object: Some(Object { kind: Kind::Object, id, name: text() }),
            decision: Outcome::Deny,
            reason: Some("REASON".into()),
            request_id: text(),
            recipient: text(),
            recipient_id: id,
            token_id: id,
            grant_id: id,
            purpose: text(),
            agreement: text(),
            share: text(),
            share_id: id,
            schema: text(),
            table: text(),
            object_id: id,
            table_id: id,
            registered_table: text(),
            view: text(),
            table_version: Some(1),
            delivery: Some("proxied"),
            format: Some("delta"),
            predicate_digest: text(),
            files: Some(2),
            rows: Some(3),
            bytes: Some(u64::MAX),
            url_expires_at: DateTime::from_timestamp(1_790_000_000, 0),
            duration_ms: Some(4),
            effect: Some(Effect::Tightens),
            change: Some(serde_json::json!({"b": null, "a": {"d": [1, null], "c": 2}})),
            personal: Personal {
                client_address: text(),
                country: text(),
                user_agent: text(),
                contacts: Some(serde_json::json!({"b": [1], "a": null})),
                path: text(),
                subject: text(),
            },
        }
    }

    #[test]
    fn the_text_of_an_event_is_its_canonical_form() {
        for event in [full_event(), event(), Event { change: Some(Value::Null), ..event() }] {
            let mut value = to_value(&event);
            value["seq"] = 1.into();
            value["at"] = timestamp(DateTime::UNIX_EPOCH).into();
            value["personal"] = "digest".into();
            let written = body(&event, 1, DateTime::UNIX_EPOCH, Some("digest".into()));
            assert_eq!(written, canonical(&value));
            assert_eq!(personal_text(&event.personal), canonical(&to_value(&event.personal)));
        }
    }

    #[test]
    fn canonical_text_is_sorted_dense_and_without_nulls() {
        let value = serde_json::json!({"b": 1, "a": {"d": null, "c": [true, "x\u{1}"]}});
        assert_eq!(canonical(&value), r#"{"a":{"c":[true,"x\u0001"]},"b":1}"#);
        // In UTF-16, surrogate pairs sort before the last single units.
        let value = serde_json::json!({"\u{ff5e}": 1, "\u{1f600}": 2, "a": 3});
        assert_eq!(canonical(&value), "{\"a\":3,\"\u{1f600}\":2,\"\u{ff5e}\":1}");
    }
}
