//! Reading the audit trail.

pub(super) mod drills;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        audit::{
            Outcome,
            action::{Action, Kind},
        },
        core::{seal::hex, word::AsWritten},
        operators::Permission,
    },
    service::{
        audit::read::{AuditPage, AuditQuery},
        core::{error::ServiceError, page::PageRequest},
    },
    store::{Order, StoredEvent},
};

use super::{
    Admin, accepts,
    core::{auth::requiring, extract::AdminQuery, page::PageView, problem::Problem, text::Text},
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(Permission::ReadAudit, OpenApiRouter::new().routes(routes!(list_audit_events))))
        .merge(drills::routes())
}

/// The media type of a feed with one JSON object per line.
const NDJSON: &str = "application/x-ndjson";

/// The order in which events are listed.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderParameter {
    /// The oldest first.
    Asc,
    /// The newest first.
    #[default]
    Desc,
}

/// How an event was decided.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionParameter {
    /// It was allowed.
    Allow,
    /// It was refused.
    Deny,
}

/// Filters a listing of events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditParameters {
    /// Only events about this recipient, by name or id.
    #[param(value_type = Option<String>)]
    pub recipient: Option<Text>,
    /// Only events about this share, by name or id.
    #[param(value_type = Option<String>)]
    pub share: Option<Text>,
    /// Only those about this registered table, by its name or id, and about what shows it; together with `share`, about the
    /// shared object that is called so, `schema.table`.
    #[param(value_type = Option<String>)]
    pub table: Option<Text>,
    /// Only those about this shared object: `schema.name` together with `share`, or its id.
    #[param(value_type = Option<String>)]
    pub object: Option<Text>,
    /// Only those of this action; any word that the trail may hold.
    #[param(value_type = Option<String>, example = "table.query")]
    pub action: Option<Text>,
    /// Only events with this decision.
    #[param(inline)]
    pub decision: Option<DecisionParameter>,
    /// Only events at this moment or later.
    pub since: Option<DateTime<Utc>>,
    /// Only events before this moment.
    pub until: Option<DateTime<Utc>>,
    /// The order by sequence number: `asc` or `desc` (newest first, the default). `asc` with `after_seq` makes a feed
    /// for a SIEM.
    #[serde(default)]
    #[param(inline, required = false)]
    pub order: OrderParameter,
    /// Only events that come after this sequence number in the chosen order. Not together with `page_token`.
    pub after_seq: Option<i64>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

/// Who acted.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AuditActor {
    /// `recipient`, `operator`, `system`, `hook`, `anonymous`, or a word of another release.
    kind: String,
    /// Its identity.
    id: Option<Uuid>,
    /// Its name at the time.
    name: Option<String>,
    /// An operator's role at the time.
    role: Option<String>,
    /// Which of its tokens an operator used.
    token_id: Option<Uuid>,
}

/// What was acted upon.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AuditObject {
    /// What kind of thing it is.
    #[schema(value_type = Kind)]
    kind: AsWritten<Kind>,
    /// Its identity, where it exists.
    id: Option<Uuid>,
    /// Its name at the time.
    name: Option<String>,
}

/// An event's own members, as the document has them; nothing is read into it, so that events of every release are
/// answered as they were written.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AuditEventMembers {
    /// Its place in the trail.
    seq: i64,
    /// When it was written.
    at: DateTime<Utc>,
    /// Who acted.
    actor: AuditActor,
    /// What was done.
    #[schema(value_type = Action)]
    action: AsWritten<Action>,
    /// What was acted upon.
    object: Option<AuditObject>,
    /// `allow` or `deny`.
    decision: String,
    /// The stable code of a refusal.
    reason: Option<String>,
    /// The shared object that it is about.
    object_id: Option<Uuid>,
    /// The registered table that it is about. Where `registered_table` is absent, the shared object: so wrote earlier releases.
    table_id: Option<Uuid>,
    /// The registered table's name.
    registered_table: Option<String>,
    /// What a change means for what anybody can read: `tightens`, `loosens` or `neutral`.
    effect: Option<String>,
}

/// An event of the audit trail. Absent members are left out.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEventView {
    /// The event's own members.
    #[serde(flatten)]
    #[schema(value_type = AuditEventMembers)]
    pub event: Map<String, Value>,
    /// The client's address, until it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<Value>,
    /// The country of that address (ISO 3166-1), if a country file is named and knows it, until it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<Value>,
    /// The client's `User-Agent`, until it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Value>,
    /// The contacts in a change of a recipient, `before` and `after`, until they are erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<Value>,
    /// The path of an operator's refused request, until it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Value>,
    /// The `sub` of the JWT that was presented, until it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Value>,
    /// The hash of the previous event, in hex.
    pub prev_hash: String,
    /// SHA-256 over a zero byte, the previous hash and the event's canonical text, in hex.
    pub hash: String,
}

impl AuditEventView {
    fn new(stored: &StoredEvent) -> Result<Self, ServiceError> {
        let event = serde_json::from_str(&stored.body).map_err(ServiceError::internal)?;
        let mut personal: Map<String, Value> = match &stored.personal {
            Some(personal) => serde_json::from_str(&personal.text).map_err(ServiceError::internal)?,
            None => Map::new(),
        };
        Ok(Self {
            event,
            client_address: personal.remove("client_address"),
            country: personal.remove("country"),
            user_agent: personal.remove("user_agent"),
            contacts: personal.remove("contacts"),
            path: personal.remove("path"),
            subject: personal.remove("subject"),
            prev_hash: hex(&stored.prev_hash),
            hash: hex(&stored.hash),
        })
    }
}

/// Lists events of the audit trail.
///
/// A page may have fewer items than requested, even none, and still a `next_page_token`: a filter without an index is
/// searched in stretches of the trail. Continue until there is no token.
///
/// With `Accept: application/x-ndjson` the answer has one event per line and no paging members; continue with the `seq`
/// of the last line as `after_seq`. A last line with only a `seq` is not an event: it says how far an unfinished search
/// got. An empty answer means that there are no more events.
#[utoipa::path(
    get, path = "/audit", tag = "audit", params(AuditParameters),
    responses((
        status = 200,
        content((PageView<AuditEventView> = "application/json"), (AuditEventView = "application/x-ndjson"))
    )),
    extensions(("x-weir-cli" = json!({
        "example": "weir audit list --recipient acme --decision deny --since 2026-11-01",
        "columns": ["seq", "at", "actor.name", "action", "decision", "reason", "recipient", "share", "table"],
        "limit": 100,
    })))
)]
pub async fn list_audit_events(
    State(admin): State<Admin>,
    headers: HeaderMap,
    AdminQuery(query): AdminQuery<AuditParameters>,
) -> Result<Response, Problem> {
    let page = PageRequest { max_results: query.max_results, page_token: query.page_token };
    let filter = AuditQuery {
        recipient: query.recipient.map(|text| text.0),
        share: query.share.map(|text| text.0),
        table: query.table.map(|text| text.0),
        object: query.object.map(|text| text.0),
        action: query.action.map(|text| text.0),
        decision: query.decision.map(|decision| match decision {
            DecisionParameter::Allow => Outcome::Allow,
            DecisionParameter::Deny => Outcome::Deny,
        }),
        since: query.since,
        until: query.until,
        after_seq: query.after_seq,
        order: match query.order {
            OrderParameter::Asc => Order::Ascending,
            OrderParameter::Desc => Order::Descending,
        },
    };
    let AuditPage { page, looked_up_to } = admin.service.audit.list_audit_events(&filter, &page).await?;
    let items = page.items.iter().map(AuditEventView::new).collect::<Result<Vec<_>, _>>()?;
    if !accepts(&headers, NDJSON) {
        return Ok(Json(PageView { items, next_page_token: page.next_page_token }).into_response());
    }
    Ok(([(header::CONTENT_TYPE, NDJSON)], feed(&items, looked_up_to)?).into_response())
}

/// Writes the lines of a feed: the events and, if the search did not reach the end, a line with the position to
/// continue from.
fn feed(events: &[AuditEventView], looked_up_to: Option<i64>) -> Result<String, ServiceError> {
    let mut lines = String::new();
    for event in events {
        lines.push_str(&serde_json::to_string(event).map_err(ServiceError::internal)?);
        lines.push('\n');
    }
    // If the last event is at that position, its own line says so.
    let last = events.last().and_then(|event| event.event.get("seq")).and_then(Value::as_i64);
    if let Some(seq) = looked_up_to.filter(|seq| Some(*seq) != last) {
        lines.push_str(&format!("{}\n", json!({"seq": seq})));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_says_how_far_was_looked_where_that_was_not_to_the_end() {
        let event = |seq: i64| AuditEventView {
            event: Map::from_iter([("seq".to_owned(), seq.into())]),
            client_address: None,
            country: None,
            user_agent: None,
            contacts: None,
            path: None,
            subject: None,
            prev_hash: String::new(),
            hash: String::new(),
        };
        let seqs = |events: &[AuditEventView], looked_up_to| -> Vec<i64> {
            let lines = feed(events, looked_up_to).unwrap();
            lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_i64().unwrap()).collect()
        };
        assert_eq!(feed(&[], None).unwrap(), "", "there is no more");
        assert_eq!(feed(&[], Some(7)).unwrap(), "{\"seq\":7}\n");
        assert_eq!(seqs(&[event(2), event(5)], Some(7)), [2, 5, 7]);
        assert_eq!(seqs(&[event(2), event(7)], Some(7)), [2, 7]);
        assert_eq!(seqs(&[event(2), event(5)], None), [2, 5]);
    }
}
