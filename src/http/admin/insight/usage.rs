//! Usage, counted from the audit trail, as JSON and as CSV.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{insight::usage::hour_start, operators::Permission},
    http::admin::{
        Admin, accepts,
        core::{auth::requiring, extract::AdminQuery, problem::Problem, text::Text},
    },
    render::csv,
    service::{
        core::{error::ServiceError, page::PageRequest},
        insight::usage::{CheckedDay, CheckedUsage, UsageQuery},
    },
    store::{UsageGroup, UsageKeys, UsagePeriod},
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().merge(requiring(
        Permission::ReadAudit,
        OpenApiRouter::new().routes(routes!(list_usage)).routes(routes!(check_usage)),
    ))
}

/// The media type of comma-separated values.
const CSV: &str = "text/csv";
/// The header with the `next_page_token` of a CSV answer.
const NEXT_PAGE_TOKEN: HeaderName = HeaderName::from_static("x-next-page-token");
/// The longest list of grouping keys, in characters.
const LONGEST_LIST: usize = 100;

/// Filters and groups usage.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageParameters {
    /// By what it is put together, separated by commas: `recipient`, `share`, `object`, and `hour` or `day`. Empty for one
    /// sum. `table` is `object` with its members' names of before.
    #[param(value_type = Option<String>, default = "recipient,table", example = "recipient,day")]
    pub group_by: Option<Text>,
    /// Only usage of this recipient, by name or id.
    #[param(value_type = Option<String>)]
    pub recipient: Option<Text>,
    /// Only usage of this share, by name or id.
    #[param(value_type = Option<String>)]
    pub share: Option<Text>,
    /// Only that of this shared object: `schema.name` together with `share`, or its id.
    #[param(value_type = Option<String>)]
    pub object: Option<Text>,
    /// The same as `object`, under its former name.
    #[param(value_type = Option<String>)]
    pub table: Option<Text>,
    /// Only usage from this hour on; a whole hour.
    pub since: Option<DateTime<Utc>>,
    /// Only usage before this hour; a whole hour.
    pub until: Option<DateTime<Utc>>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

/// Which days to compare.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CheckParameters {
    /// The beginning (UTC) of the first day.
    pub since: Option<DateTime<Utc>>,
    /// The beginning (UTC) of the day after the last one.
    pub until: Option<DateTime<Utc>>,
}

/// How long requests took to answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct LatencyView {
    /// The number of answers whose duration is known.
    pub answers: i64,
    /// The sum of these durations, in milliseconds.
    pub sum_ms: i64,
    /// The time within which half of the answers ended, in milliseconds, rounded up to 10, 30, 100, 300, … 100,000;
    /// null if there are no answers, or if it is longer.
    pub p50_ms: Option<i64>,
    /// The time within which 95 of 100 answers ended, rounded in the same way.
    pub p95_ms: Option<i64>,
}

/// The usage of one group. Only the keys of `group_by` are present; a key is null if the events name none.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageView {
    /// When the hour or day begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub start: Option<DateTime<Utc>>,
    /// The recipient's id; null for callers that are not recipients, and for events of operators and the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub recipient_id: Option<Option<Uuid>>,
    /// The recipient's last name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub recipient: Option<Option<String>>,
    /// The share's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub share_id: Option<Option<Uuid>>,
    /// The share's last name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub share: Option<Option<String>>,
    /// The id of the shared object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub object_id: Option<Option<Uuid>>,
    /// Its last name, `schema.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub object: Option<Option<String>>,
    /// The same as `object_id`, where it was grouped by `table`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub table_id: Option<Option<Uuid>>,
    /// The same as `object`, where it was grouped by `table`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub table: Option<Option<String>>,
    /// The number of events in the audit trail, of every kind.
    pub events: i64,
    /// The number of requests of the sharing protocol, including refused ones but not file reads.
    pub requests: i64,
    /// How often a file was opened through the server.
    pub file_reads: i64,
    /// The number of refused requests and file reads.
    pub denials: i64,
    /// The number of files whose URLs were handed out.
    pub files: i64,
    /// The number of rows in these files, as far as statistics tell.
    pub rows: i64,
    /// The number of answers with files that have no row statistics, so that `rows` is too low.
    pub answers_without_rows: i64,
    /// The size in bytes of the files whose URLs were handed out.
    pub bytes_issued: i64,
    /// Bytes read through the server, counted by the size of the whole file when a read begins; null if every URL was
    /// presigned, since the server does not see those reads.
    pub bytes_delivered: Option<i64>,
    /// The number of distinct client addresses; null if it can no longer be determined.
    pub addresses: Option<i64>,
    /// How long requests took to answer.
    pub latency: LatencyView,
}

/// A page of usage.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsagePageView {
    /// The sums, ordered by time and then by id.
    pub items: Vec<UsageView>,
    /// The `page_token` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub next_page_token: Option<String>,
    /// The sequence number of the last event that is counted; newer events follow within seconds.
    pub through_seq: i64,
}

/// A day of the audit trail, compared with the sums of usage.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckedDayView {
    /// When the day begins (UTC).
    pub start: DateTime<Utc>,
    /// The day's events in the audit trail, as far as they are counted yet.
    pub events_in_trail: i64,
    /// The day's events according to the sum of the day.
    pub events_in_day: i64,
    /// The day's events according to the sums of its hours; null if those are no longer kept.
    pub events_in_hours: Option<i64>,
    /// Whether these numbers are equal.
    pub agrees: bool,
}

/// The comparison of usage with the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageCheckView {
    /// Whether every day agrees.
    pub agrees: bool,
    /// The first day that was compared. Days with detached events cannot be compared.
    pub since: DateTime<Utc>,
    /// The end of the last day.
    pub until: DateTime<Utc>,
    /// The days, in order.
    pub days: Vec<CheckedDayView>,
}

impl UsageView {
    fn new(group: UsageGroup, GroupedBy { keys, says_table }: GroupedBy) -> Self {
        let named = |id: Option<Uuid>| id.filter(|id| !id.is_nil());
        let usage = group.usage;
        Self {
            start: group.start.map(hour_start),
            recipient_id: keys.recipient.then_some(named(group.recipient_id)),
            recipient: keys.recipient.then_some(group.recipient),
            share_id: keys.share.then_some(named(group.share_id)),
            share: keys.share.then_some(group.share),
            object_id: keys.object.then_some(named(group.object_id)),
            object: keys.object.then_some(group.object.clone()),
            table_id: says_table.then_some(named(group.object_id)),
            table: says_table.then_some(group.object),
            events: usage.events,
            requests: usage.requests,
            file_reads: usage.file_reads,
            denials: usage.denials,
            files: usage.files,
            rows: usage.rows,
            answers_without_rows: usage.answers_without_rows,
            bytes_issued: usage.bytes_issued,
            bytes_delivered: usage.bytes_delivered,
            addresses: group.addresses,
            latency: LatencyView {
                answers: usage.answers,
                sum_ms: usage.answer_ms,
                p50_ms: usage.answered_within_ms(0.5),
                p95_ms: usage.answered_within_ms(0.95),
            },
        }
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = Vec::new();
        cells.extend(self.start.map(|start| start.to_rfc3339_opts(SecondsFormat::Secs, true)));
        // One of both names is enough for a line.
        let object = if self.table_id.is_some() { (None, &None) } else { (self.object_id, &self.object) };
        for (id, name) in
            [(self.recipient_id, &self.recipient), (self.share_id, &self.share), object, (self.table_id, &self.table)]
        {
            cells.extend(id.map(|id| id.map(|id| id.to_string()).unwrap_or_default()));
            cells.extend(name.as_ref().map(|name| csv::optional(name.as_deref())));
        }
        let latency = &self.latency;
        let numbers = [
            Some(self.events),
            Some(self.requests),
            Some(self.file_reads),
            Some(self.denials),
            Some(self.files),
            Some(self.rows),
            Some(self.answers_without_rows),
            Some(self.bytes_issued),
            self.bytes_delivered,
            self.addresses,
            Some(latency.answers),
            Some(latency.sum_ms),
            latency.p50_ms,
            latency.p95_ms,
        ];
        cells.extend(numbers.map(csv::number));
        cells
    }
}

/// The heading of [`UsageView::cells`].
fn heading(GroupedBy { keys, says_table }: GroupedBy) -> Vec<String> {
    let mut names = Vec::new();
    names.extend(keys.period.map(|_| "start"));
    for (is_asked, columns) in [
        (keys.recipient, ["recipient_id", "recipient"]),
        (keys.share, ["share_id", "share"]),
        (keys.object && !says_table, ["object_id", "object"]),
        (says_table, ["table_id", "table"]),
    ] {
        names.extend(columns.into_iter().filter(|_| is_asked));
    }
    names.extend([
        "events",
        "requests",
        "file_reads",
        "denials",
        "files",
        "rows",
        "answers_without_rows",
        "bytes_issued",
        "bytes_delivered",
        "addresses",
        "answers",
        "answers_ms",
        "p50_ms",
        "p95_ms",
    ]);
    names.into_iter().map(str::to_owned).collect()
}

/// By what usage is put together, and how that was said.
#[derive(Clone, Copy, Debug, Default)]
struct GroupedBy {
    keys: UsageKeys,
    /// Whether shared objects are called tables.
    says_table: bool,
}

/// Reads `recipient,object,day`.
fn grouped_by(text: Option<&str>) -> Result<GroupedBy, ServiceError> {
    let text = text.unwrap_or("recipient,table");
    let refused = |message: &str| ServiceError::Parameter(format!("`group_by` {message}"));
    if text.len() > LONGEST_LIST {
        return Err(refused("is too long; name each of recipient, share, object and hour or day once"));
    }
    let mut keys = UsageKeys::default();
    let mut says_table = false;
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let is_new = match name {
            "recipient" => !std::mem::replace(&mut keys.recipient, true),
            "share" => !std::mem::replace(&mut keys.share, true),
            "object" => !std::mem::replace(&mut keys.object, true),
            "table" => {
                says_table = true;
                !std::mem::replace(&mut keys.object, true)
            }
            "hour" => keys.period.replace(UsagePeriod::Hour).is_none(),
            "day" => keys.period.replace(UsagePeriod::Day).is_none(),
            _ => return Err(refused("knows recipient, share, object, table, hour and day, separated by commas")),
        };
        if !is_new {
            return Err(refused("names the same twice, or both hour and day; name one"));
        }
    }
    Ok(GroupedBy { keys, says_table })
}

/// Lists usage: requests, files, rows and bytes, summed from the audit trail.
///
/// With `Accept: text/csv` the answer is CSV with a heading, one sum per line; the token of the next page is in the
/// header `x-next-page-token`.
#[utoipa::path(
    get, path = "/usage", tag = "usage", params(UsageParameters),
    responses((status = 200, content((UsagePageView = "application/json"), (String = "text/csv")))),
    extensions(("x-weir-cli" = json!({"example": "weir usage", "own": true})))
)]
pub async fn list_usage(
    State(admin): State<Admin>,
    headers: HeaderMap,
    AdminQuery(query): AdminQuery<UsageParameters>,
) -> Result<Response, Problem> {
    let page = PageRequest { max_results: query.max_results, page_token: query.page_token };
    let by = grouped_by(query.group_by.as_ref().map(|text| text.0.as_str()))?;
    let object = match (query.object, query.table) {
        (Some(_), Some(_)) => {
            let message = "`object` and `table` say the same; send one of them";
            return Err(ServiceError::Parameter(message.into()).into());
        }
        (object, table) => object.or(table),
    };
    let asked = UsageQuery {
        keys: by.keys,
        recipient: query.recipient.map(|text| text.0),
        share: query.share.map(|text| text.0),
        object: object.map(|text| text.0),
        since: query.since,
        until: query.until,
    };
    let page = admin.service.insight.list_usage(&asked, &page).await?;
    let items: Vec<UsageView> = page.items.into_iter().map(|group| UsageView::new(group, by)).collect();
    if !accepts(&headers, CSV) {
        let view = UsagePageView { items, next_page_token: page.next_page_token, through_seq: page.through_seq };
        return Ok(Json(view).into_response());
    }
    let mut lines = String::new();
    csv::line(&mut lines, &heading(by));
    for item in &items {
        csv::line(&mut lines, &item.cells());
    }
    let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], lines).into_response();
    if let Some(token) = page.next_page_token.and_then(|token| token.parse().ok()) {
        response.headers_mut().insert(NEXT_PAGE_TOKEN, token);
    }
    Ok(response)
}

/// Compares usage with the audit trail, day by day.
///
/// At most 400 days at a time; the newest 400 by default.
#[utoipa::path(
    get, path = "/usage/check", tag = "usage", params(CheckParameters), responses((status = 200, body = UsageCheckView)),
    extensions(("x-weir-cli" = json!({"example": "weir usage verify", "own": true})))
)]
pub async fn check_usage(
    State(admin): State<Admin>,
    AdminQuery(query): AdminQuery<CheckParameters>,
) -> Result<Json<UsageCheckView>, Problem> {
    let CheckedUsage { days, since, until } = admin.service.insight.check_usage(query.since, query.until).await?;
    let agrees = days.iter().all(CheckedDay::agrees);
    let days = days.iter().map(|checked| CheckedDayView {
        start: checked.start,
        events_in_trail: checked.day.in_trail,
        events_in_day: checked.day.in_days,
        events_in_hours: checked.has_hours.then_some(checked.day.in_hours),
        agrees: checked.agrees(),
    });
    Ok(Json(UsageCheckView { agrees, since, until, days: days.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_usage_is_put_together_by_is_a_list_of_known_names() {
        let every = UsageKeys { period: Some(UsagePeriod::Day), recipient: true, share: true, object: true };
        assert_eq!(grouped_by(Some("day, recipient,share ,table")).unwrap().keys, every);
        assert_eq!(grouped_by(Some("day, recipient,share ,object")).unwrap().keys, every);
        assert_eq!(grouped_by(Some("")).unwrap().keys, UsageKeys::default());
        assert_eq!(grouped_by(None).unwrap().keys, UsageKeys { recipient: true, object: true, ..UsageKeys::default() });
        for bad in ["partner", "day,hour", "table,table", "table,object", "hour;day", &"recipient,".repeat(20)] {
            assert!(grouped_by(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_has_as_many_cells_as_the_heading() {
        let group = UsageGroup {
            start: Some(0),
            recipient_id: Some(Uuid::nil()),
            recipient: None,
            share_id: None,
            share: None,
            object_id: Some(Uuid::from_u128(1)),
            object: Some("=1+1".into()),
            usage: Default::default(),
            addresses: None,
        };
        for (list, heads) in
            [("day,recipient,table", ["table_id", "table"]), ("day,recipient,object", ["object_id", "object"])]
        {
            let by = grouped_by(Some(list)).unwrap();
            let (cells, heading) = (UsageView::new(group.clone(), by).cells(), heading(by));
            assert_eq!(cells.len(), heading.len());
            assert_eq!(heading[3..5], heads);
            assert_eq!(cells[..5], ["1970-01-01T00:00:00Z", "", "", &Uuid::from_u128(1).to_string(), "'=1+1"]);
        }
    }
}
