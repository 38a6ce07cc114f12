//! Discovers the shared tables and the features of each, once, before the first check.
//!
//! Wrong answers do not count here, because the checks repeat the questions.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    ConformanceError,
    answer::{Answer, Lines},
    check::Verdict,
    client::{Client, encode},
    context::{Context, EVERYTHING, Kind, Subject, TableName, Window, attempt},
};

/// The most tables that are examined.
const MAX_SUBJECTS: usize = 16;
/// The most tables that are listed. The next constants are the most pages and shares read for this.
const MAX_TABLES: usize = 400;
const MAX_PAGES: usize = 20;
const MAX_SHARES: usize = 20;
/// The largest table that is examined with its files, in files.
const MAX_FILES: i64 = 20_000;
/// The number of versions before the newest that are examined.
const MAX_VERSIONS: i64 = 20;

/// Parses the name of a table.
pub(super) fn table_name(text: &str) -> Result<TableName, ConformanceError> {
    // A share's name may contain dots; the names of schemas and tables may not.
    let mut parts = text.rsplitn(3, '.').filter(|part| !part.is_empty()).map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(table), Some(schema), Some(share)) => Ok(TableName { share, schema, table }),
        _ => Err(ConformanceError::TableName(text.to_owned())),
    }
}

pub(super) async fn discover(
    client: Client,
    wanted: Option<TableName>,
    progress: impl Fn(&str),
) -> Result<Context, ConformanceError> {
    let shares = client.get("/shares").send().await.map_err(|verdict| match verdict {
        Verdict::Fail(why) | Verdict::NotApplicable(why) => ConformanceError::Unreachable(why),
    })?;
    if shares.status != 200 {
        return Err(ConformanceError::Unreachable(shares.what()));
    }
    let shares = shares.page().map(|page| page.items).unwrap_or_default();
    let tables = list_tables(&client, &shares).await;
    let candidates = match &wanted {
        Some(table) => vec![table.clone()],
        None => tables.iter().take(MAX_SUBJECTS).cloned().collect(),
    };
    let (mut subjects, mut unreadable) = (Vec::new(), Vec::new());
    for table in candidates {
        progress(&format!("looking at {table}"));
        match look_at(&client, table).await {
            Ok(subject) => subjects.push(subject),
            Err(why) => unreadable.push(why),
        }
    }
    if let (Some(table), Some(why)) = (&wanted, unreadable.first()) {
        return Err(ConformanceError::Unreachable(format!("{table} cannot be looked at: {why}")));
    }
    subjects.sort_by_key(|subject| std::cmp::Reverse(worth(subject)));
    Ok(Context { client, shares, tables, subjects, unreadable })
}

/// Rates how much a table allows to be checked.
fn worth(subject: &Subject) -> usize {
    let plain = usize::from(subject.kind == Kind::Plain) * 16;
    let history = usize::from(subject.window.is_some()) * 8 + usize::from(subject.commits().len() > 1) * 2;
    plain + history + usize::from(subject.n_files() > 1) * 4 + usize::from(subject.changes.is_some())
}

/// Returns the tables of all shares, in the server's order.
async fn list_tables(client: &Client, shares: &[Value]) -> Vec<TableName> {
    let mut tables: Vec<TableName> = Vec::new();
    for share in shares.iter().filter_map(|share| share["name"].as_str()).take(MAX_SHARES) {
        let share_path = format!("/shares/{}", encode(share));
        let mut items = walk(client, &format!("{share_path}/all-tables")).await;
        if items.is_empty() {
            for schema in walk(client, &format!("{share_path}/schemas")).await {
                let Some(schema) = schema["name"].as_str() else { continue };
                items.extend(walk(client, &format!("{share_path}/schemas/{}/tables", encode(schema))).await);
            }
        }
        let named = items.iter().filter_map(|item| {
            let name = |key: &str| item[key].as_str().map(str::to_owned);
            Some(TableName { share: share.to_owned(), schema: name("schema")?, table: name("name")? })
        });
        tables.extend(named);
        tables.truncate(MAX_TABLES);
    }
    tables
}

/// Returns the items of a listing, as far as it can be read.
async fn walk(client: &Client, path: &str) -> Vec<Value> {
    let (mut items, mut token, mut seen) = (Vec::new(), None::<String>, BTreeSet::new());
    for _ in 0..MAX_PAGES {
        let call = client.get(path);
        let call = match &token {
            Some(token) => call.query("pageToken", token),
            None => call,
        };
        let Some(page) = attempt(call).await.ok().and_then(|answer| answer.page().ok()) else { break };
        let next = page.next_token().map(str::to_owned);
        items.extend(page.items);
        match next {
            Some(next) if items.len() < MAX_TABLES && seen.insert(next.clone()) => token = Some(next),
            _ => break,
        }
    }
    items
}

fn lines(answer: Result<Answer, String>) -> Result<Lines, String> {
    answer?.lines().map_err(|verdict| match verdict {
        Verdict::Fail(why) | Verdict::NotApplicable(why) => why,
    })
}

async fn look_at(client: &Client, table: TableName) -> Result<Subject, String> {
    let path = table.path();
    let metadata = format!("{path}/metadata");
    let plain = lines(attempt(client.get(&metadata)).await);
    let delta = lines(attempt(client.get(&metadata).capabilities(EVERYTHING)).await);
    let (kind, metadata, delta) = match (plain, delta) {
        (Ok(plain), delta) => (Kind::Plain, plain, delta.ok()),
        (Err(_), Ok(delta)) => {
            let again = lines(attempt(client.get(&metadata).capabilities(EVERYTHING)).await).ok();
            (Kind::Advanced, delta, again)
        }
        (Err(why), Err(_)) => return Err(why),
    };
    let mut subject = Subject {
        table,
        kind,
        metadata,
        delta,
        snapshot: Err("it has too many files".to_owned()),
        delta_snapshot: None,
        history: None,
        window: None,
        changes: None,
        pages: None,
    };
    if subject.metadata.metadata["numFiles"].as_i64().is_none_or(|n| n <= MAX_FILES) {
        look_at_files(client, &mut subject).await;
        look_at_history(client, &mut subject).await;
    }
    Ok(subject)
}

async fn look_at_files(client: &Client, subject: &mut Subject) {
    subject.snapshot = lines(attempt(subject.query(client, &json!({}))).await);
    let features = subject.delta.as_ref().map(|lines| lines.delta_protocol("readerFeatures").to_string());
    if features.is_some_and(|features| features.contains("deletionVectors")) {
        let call = client.post(subject.path("/query"), &json!({})).capabilities(EVERYTHING);
        subject.delta_snapshot = lines(attempt(call).await).ok();
    }
    let n_files = subject.n_files();
    if n_files > 1 {
        let page = lines(attempt(subject.query(client, &json!({ "maxFiles": 1 }))).await);
        subject.pages = page.ok().map(|page| page.end_token("nextPageToken").is_some() || page.rest.len() < n_files);
    }
}

async fn look_at_history(client: &Client, subject: &mut Subject) {
    let latest = subject.version();
    // With a limit, because only the status matters.
    let probe = subject.query(client, &json!({ "version": latest, "limitHint": 1 }));
    subject.history = match probe.send().await.map(|answer| answer.status) {
        Ok(200) => Some(true),
        // For a table that needs features, these may be the reason.
        Ok(400) if subject.kind == Kind::Plain => Some(false),
        _ => None,
    };
    let history = subject.history == Some(true);
    let changes = subject.path("/changes");
    let earliest = if history { first_version(client, subject).await.unwrap_or(0) } else { 0 };
    for start in BTreeSet::from([earliest.max(latest - MAX_VERSIONS), latest]) {
        if history && subject.window.is_none() {
            let body = json!({ "startingVersion": start, "endingVersion": latest });
            let found = lines(attempt(subject.query(client, &body)).await).ok();
            subject.window = found.map(|lines| Window { start, lines });
        }
        if subject.changes.is_none() {
            let call = client.get(&changes).query("startingVersion", start).query("endingVersion", latest);
            let found = lines(attempt(call.capabilities(subject.capabilities())).await).ok();
            subject.changes = found.map(|lines| Window { start, lines });
        }
    }
}

/// Returns the first version that the server has, if it can be found.
async fn first_version(client: &Client, subject: &Subject) -> Option<i64> {
    let call = client.get(subject.path("/version")).query("startingTimestamp", "1970-01-01T00:00:00Z");
    attempt(call).await.ok()?.version().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_by_three_parts_of_which_only_the_share_may_hold_dots() {
        let name = table_name("my.share.schema.table").unwrap();
        assert_eq!((name.share.as_str(), name.schema.as_str(), name.table.as_str()), ("my.share", "schema", "table"));
        for text in ["", "table", "schema.table", ".schema.table", "a..b"] {
            assert!(table_name(text).is_err(), "{text}");
        }
    }
}
