//! `weir import`: creates tables, shares and objects of a Weir from a reference server's configuration, over the admin
//! API.
//!
//! Everything is checked before anything is created, and a failed run removes what it created.

mod reference;
mod yaml;

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{Read, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::core::name::{MAX_CHARACTERS, Name, NameKind, name_key};

use self::{
    reference::{Reference, Share, SharedTable},
    yaml::Mistake,
};

use super::{
    api::{Client, Output, Refusal, Request, Server},
    call::{asked, is_watched, told_disclosure},
    operation::moment,
    print,
};

/// The largest file that is read, in bytes; enough for some ten thousand tables.
const MAX_BYTES: u64 = 4 << 20;
/// The number of tables that are checked at a time.
const AT_ONCE: usize = 8;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir import delta-sharing-server.yaml --dry-run")]
pub(super) struct Arguments {
    /// The configuration file of the reference server
    #[arg(value_name = "FILE")]
    yaml: PathBuf,
    /// Shows what would be created, and creates nothing
    #[arg(long)]
    dry_run: bool,
    /// Grants every share of the file to this recipient, which is created if it does not exist
    #[arg(long, value_name = "NAME")]
    recipient: Option<String>,
    /// When these grants end; by default as late as the server allows
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "recipient")]
    valid_until: Option<DateTime<Utc>>,
    /// Disclosures of raw tables to acknowledge, for every table; see docs/sharing-tables.md
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    acknowledge: Vec<String>,
    /// Does not ask before something is newly disclosed; without a terminal it never asks
    #[arg(long, short)]
    yes: bool,
    /// The output format
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// One thing to create, or that already exists.
#[derive(Clone, Debug, Serialize)]
struct Step {
    action: Action,
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// Its line in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip)]
    reach: Reach,
    #[serde(skip)]
    request: Option<Request>,
}

/// Who may see something new because of a step. Steps run in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Nobody,
    /// Recipients that already have a grant of the share.
    Granted,
    /// The recipient of a new grant.
    Recipient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Create,
    Keep,
}

/// The steps to take, in order.
struct Plan {
    steps: Vec<Step>,
    mistakes: Vec<Mistake>,
    /// The refusal, if a rule forbids the import.
    refusal: Option<anyhow::Error>,
}

impl Plan {
    fn add(&mut self, line: Option<usize>, kind: &'static str, name: impl Into<String>, request: Option<Request>) {
        let action = if request.is_some() { Action::Create } else { Action::Keep };
        let (name, detail, reach) = (name.into(), String::new(), Reach::Nobody);
        self.steps.push(Step { action, kind, name, detail, line, reach, request });
    }

    fn reach(&mut self, reach: Reach) {
        if let Some(step) = self.steps.last_mut() {
            step.reach = reach;
        }
    }

    fn detail(&mut self, detail: impl Into<String>) {
        if let Some(step) = self.steps.last_mut() {
            step.detail = detail.into();
        }
    }
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let text = read(&arguments.yaml)?;
    let shown = arguments.yaml.display().to_string();
    let tree = yaml::parse(&text).map_err(|mistake| told(&shown, &[mistake]))?;
    let reference = reference::read(&tree).map_err(|mistakes| told(&shown, &mistakes))?;
    let client = arguments.server.client()?;
    let plan = plan(&client, &arguments, &reference).await?;
    match plan.refusal {
        Some(refusal) => return Err(refusal),
        None if !plan.mistakes.is_empty() => return Err(told(&shown, &plan.mistakes)),
        None => {}
    }
    if !arguments.dry_run {
        apply(&client, &plan.steps, !arguments.yes && is_watched()).await?;
    }
    Ok(show(&arguments, &reference, &plan.steps)?)
}

fn read(path: &std::path::Path) -> anyhow::Result<String> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("`{shown}` cannot be read"))?;
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.with_context(|| format!("`{shown}` cannot be read as a text"))?;
    if text.len() as u64 > MAX_BYTES {
        bail!("`{shown}` is larger than {MAX_BYTES} bytes; split it");
    }
    Ok(text)
}

/// All mistakes with their lines, as one error.
fn told(file: &str, mistakes: &[Mistake]) -> anyhow::Error {
    let lines = mistakes.iter().map(|Mistake { line, message }| format!("\n  {file}:{line}: {message}"));
    let told: String = lines.collect();
    anyhow::anyhow!("nothing was made; mend the file, or what it names:{}", print::clean(&told, true))
}

/// Checks everything that the file names, and finds what is missing. Creates nothing.
async fn plan(client: &Client, arguments: &Arguments, reference: &Reference) -> anyhow::Result<Plan> {
    let mut plan = Plan { steps: Vec::new(), mistakes: Vec::new(), refusal: None };
    let names = plan_tables(client, &mut plan, reference).await?;
    for share in &reference.shares {
        plan_share(client, arguments, &mut plan, share, &names).await?;
    }
    if let Some(recipient) = &arguments.recipient {
        plan_grants(client, arguments, &mut plan, recipient, &reference.shares).await?;
    }
    Ok(plan)
}

/// Finds for each location the name that its table has or will get.
async fn plan_tables(
    client: &Client,
    plan: &mut Plan,
    reference: &Reference,
) -> anyhow::Result<HashMap<String, String>> {
    let (registered, _) = client.list(&Request::new(Method::GET, &["tables"]), None).await?;
    let text = |table: &Value, member: &str| table[member].as_str().unwrap_or_default().to_owned();
    let mut by_location: HashMap<String, String> =
        registered.iter().map(|table| (text(table, "location"), text(table, "name"))).collect();
    let mut seen = BTreeSet::new();
    let tables = reference.shares.iter().flat_map(|share| share.tables.iter().map(move |table| (share, table)));
    let first = tables.filter(|(_, table)| seen.insert(table.location.as_str()));
    let looked_at: Vec<_> = stream::iter(first)
        .map(|(share, table)| async move { (table, look_at(client, share, table).await) })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut names = HashMap::new();
    for (table, found) in looked_at {
        let (name, answer) = match found {
            Ok(found) => found,
            Err(error) => {
                misfit(plan, table.line, error)?;
                continue;
            }
        };
        if let Some(start) = table.history_from
            && answer["delta"]["version"].as_i64().is_some_and(|newest| start > newest)
        {
            let message =
                format!("`startVersion` must not be beyond the table's version, {}", answer["delta"]["version"]);
            plan.mistakes.push(Mistake::new(table.line, message));
        }
        let location = text(&answer, "location");
        let known = by_location.get(&location).cloned();
        let request = Request::new(Method::PUT, &["tables", &name]).with_body(json!({"location": table.location}));
        let (name, request) = match known {
            Some(name) => (name, None),
            None => (name, Some(request)),
        };
        by_location.insert(location.clone(), name.clone());
        names.insert(table.location.clone(), name.clone());
        // Two spellings of one location are one table.
        if !plan.steps.iter().any(|step| step.name == name) {
            plan.add(Some(table.line), "table", name, request);
            plan.detail(location);
        }
    }
    Ok(names)
}

/// Lets the server open a table's log without registering it; returns the name that it would get.
async fn look_at(client: &Client, share: &Share, table: &SharedTable) -> anyhow::Result<(String, Value)> {
    let name = registered_name(share, table);
    Name::parse(NameKind::RegisteredTable, &name)?;
    let request = Request::new(Method::PUT, &["tables", &name]).with_query("dry_run", "true");
    let (answer, _) = client.call(&request.with_body(json!({"location": table.location}))).await?;
    Ok((name, answer))
}

/// The name under which a table is registered. A name that would be too long is built from a part of each name and the
/// line number.
fn registered_name(share: &Share, table: &SharedTable) -> String {
    let name = format!("{}.{}.{}", share.name, table.schema, table.name);
    if name.chars().count() <= MAX_CHARACTERS {
        return name;
    }
    let part = |text: &str| text.chars().take(70).collect::<String>();
    format!("{}.{}.{}_{}", part(&share.name), part(&table.schema), part(&table.name), table.line)
}

/// Notes a refusal by the server. A policy refusal becomes the plan's; any other failure ends the run.
fn misfit(plan: &mut Plan, line: usize, error: anyhow::Error) -> anyhow::Result<()> {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) if refusal.is_policy() => plan.refusal = Some(error),
        Some(_) => plan.mistakes.push(Mistake::new(line, error.to_string())),
        None if error.is::<crate::domain::core::name::NameError>() => {
            plan.mistakes.push(Mistake::new(line, error.to_string()));
        }
        None => return Err(error),
    }
    Ok(())
}

async fn plan_share(
    client: &Client,
    arguments: &Arguments,
    plan: &mut Plan,
    share: &Share,
    names: &HashMap<String, String>,
) -> anyhow::Result<()> {
    let objects = match client.list(&Request::new(Method::GET, &["shares", &share.name, "objects"]), None).await {
        Ok((objects, _)) => Some(objects),
        Err(error) if error.downcast_ref().is_some_and(Refusal::is_not_found) => None,
        Err(error) => return Err(error),
    };
    let create = Request::new(Method::PUT, &["shares", &share.name]).with_body(json!({}));
    plan.add(Some(share.line), "share", &share.name, objects.is_none().then_some(create));
    // A share that does not exist yet has no grants.
    let reach = if objects.is_some() { Reach::Granted } else { Reach::Nobody };
    let objects = objects.unwrap_or_default();
    for table in &share.tables {
        // An unusable location is already noted as a mistake.
        let Some(source) = names.get(&table.location) else { continue };
        let shown = format!("{}.{}.{}", share.name, table.schema, table.name);
        let mut body = json!({"source": {"table": source}, "history": false, "cdf": false});
        if let Some(start) = table.history_from {
            // In the reference server, shared history includes the change data feed.
            body = json!({"source": {"table": source}, "history": true, "cdf": true, "start_version": start});
        }
        let is_alike = |object: &&Value, member: &str, name: &str| {
            object[member].as_str().is_some_and(|known| name_key(known) == name_key(name))
        };
        let known = objects
            .iter()
            .find(|object| is_alike(object, "schema", &table.schema) && is_alike(object, "name", &table.name));
        let differing = known.map(|object| differing(object, &body)).unwrap_or_default();
        if !differing.is_empty() {
            let message = format!(
                "`{shown}` is shared already, with another {}; change it with `weir object update`, or take it out of the file",
                differing.join(", ")
            );
            plan.mistakes.push(Mistake::new(table.line, message));
            continue;
        }
        if !arguments.acknowledge.is_empty() {
            body["acknowledge"] = json!(arguments.acknowledge);
        }
        let path = ["shares", &share.name, "objects", &table.schema, &table.name];
        let create = Request::new(Method::PUT, &path).with_body(body);
        plan.add(Some(table.line), "object", shown, known.is_none().then_some(create));
        plan.reach(reach);
        plan.detail(match table.history_from {
            Some(start) => format!("{source}, history and changes from version {start}"),
            None => source.clone(),
        });
    }
    Ok(())
}

/// The members of `body` that differ in `object`.
fn differing<'a>(object: &Value, body: &'a Value) -> Vec<&'a str> {
    let members = body.as_object().into_iter().flatten();
    let differs = members.filter(|(member, value)| match member.as_str() {
        "source" => {
            let name = |source: &Value| source["table"].as_str().map(name_key);
            name(&object["source"]) != name(value)
        }
        member => object[member] != **value,
    });
    differs.map(|(member, _)| member.as_str()).collect()
}

async fn plan_grants(
    client: &Client,
    arguments: &Arguments,
    plan: &mut Plan,
    recipient: &str,
    shares: &[Share],
) -> anyhow::Result<()> {
    Name::parse(NameKind::Recipient, recipient)?;
    let is_there = match client.call(&Request::new(Method::GET, &["recipients", recipient])).await {
        Ok(_) => true,
        Err(error) if error.downcast_ref().is_some_and(Refusal::is_not_found) => false,
        Err(error) => return Err(error),
    };
    let create = Request::new(Method::PUT, &["recipients", recipient]).with_body(json!({}));
    plan.add(None, "recipient", recipient, (!is_there).then_some(create));
    let granted = if is_there {
        let request = Request::new(Method::GET, &["grants"]).with_query("recipient", recipient);
        let (grants, _) = client.list(&request, None).await?;
        let live = grants.iter().filter(|grant| matches!(grant["state"].as_str(), Some("active" | "scheduled")));
        live.filter_map(|grant| grant["share"].as_str()).map(name_key).collect()
    } else {
        BTreeSet::new()
    };
    for share in shares {
        let mut body = json!({"share": share.name, "recipient": recipient});
        if let Some(until) = arguments.valid_until {
            body["valid_until"] = until.to_rfc3339_opts(SecondsFormat::AutoSi, true).into();
        }
        let create = Request::new(Method::POST, &["grants"]).with_body(body);
        let is_granted = granted.contains(&name_key(&share.name));
        plan.add(Some(share.line), "grant", format!("{} to {recipient}", share.name), (!is_granted).then_some(create));
        plan.reach(Reach::Recipient);
    }
    Ok(())
}

/// Creates what is missing; steps that newly disclose something come last. If `asks`, these are described first and
/// need agreement. A failure before the first grant removes everything that was created.
async fn apply(client: &Client, steps: &[Step], asks: bool) -> anyhow::Result<()> {
    let mut made: Vec<&Request> = Vec::new();
    let mut has_granted = false;
    for reach in [Reach::Nobody, Reach::Granted, Reach::Recipient] {
        let due = steps.iter().filter(|step| step.reach == reach);
        let due: Vec<(&Step, &Request)> = due.filter_map(|step| Some((step, step.request.as_ref()?))).collect();
        if asks && reach != Reach::Nobody {
            match is_agreed(client, &due).await {
                Ok(true) => {}
                Ok(false) => bail!("{}", take_back(client, &made).await),
                Err(error) => return Err(error.context(take_back(client, &made).await)),
            }
        }
        for (step, request) in due {
            match client.call(request).await {
                Ok((_, is_new)) => {
                    has_granted |= reach == Reach::Recipient;
                    if is_new && request.method == Method::PUT {
                        made.push(request);
                    }
                }
                Err(error) if has_granted => {
                    let what = format!(
                        "{} `{}` could not be made, and what comes before it is there; run it again",
                        step.kind, step.name
                    );
                    return Err(error.context(what));
                }
                Err(error) => {
                    let left = take_back(client, &made).await;
                    let what = format!("{} `{}` could not be made; {left}", step.kind, step.name);
                    return Err(error.context(what));
                }
            }
        }
    }
    Ok(())
}

/// Shows what these steps would newly disclose, and asks the person at the terminal; does not ask if they disclose
/// nothing.
async fn is_agreed(client: &Client, steps: &[(&Step, &Request)]) -> anyhow::Result<bool> {
    let rehearsals = steps.iter().map(|(_, request)| (*request).clone().with_query("dry_run", "true"));
    let rehearsed: Vec<_> = stream::iter(rehearsals)
        .map(|rehearsal| async move { client.call(&rehearsal).await })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut disclosures = Vec::new();
    for rehearsed in rehearsed {
        join(&mut disclosures, rehearsed?.0["disclosure"].take());
    }
    let told: String = disclosures.iter().filter_map(told_disclosure).collect();
    if told.is_empty() { Ok(true) } else { asked(&told) }
}

/// Adds the disclosure of one more step; disclosures to the same recipients are merged.
fn join(disclosures: &mut Vec<Value>, mut disclosure: Value) {
    let alike = disclosures.iter_mut().find(|known| known["recipients"] == disclosure["recipients"]);
    match (alike, disclosure["objects"].take()) {
        (Some(known), Value::Array(objects)) => {
            if let Some(known) = known["objects"].as_array_mut() {
                known.extend(objects);
            }
            if disclosure["truncated"] == true {
                known["truncated"] = true.into();
            }
        }
        (_, objects) => {
            disclosure["objects"] = objects;
            disclosures.push(disclosure);
        }
    }
}

/// Deletes what was created, the newest first; says what remains.
async fn take_back(client: &Client, made: &[&Request]) -> String {
    let mut left = Vec::new();
    for request in made.iter().rev() {
        let delete = Request { method: Method::DELETE, body: None, ..(*request).clone() };
        if client.call(&delete).await.is_err() {
            left.push(request.path.join("/"));
        }
    }
    match left.is_empty() {
        true => "nothing was made".to_owned(),
        false => format!("{} are left, and running it again goes on from there", left.join(", ")),
    }
}

fn show(arguments: &Arguments, reference: &Reference, steps: &[Step]) -> std::io::Result<()> {
    let mut out = print::out();
    let notes = reference.notes.iter();
    if arguments.output == Output::Json {
        let notes: Vec<Value> =
            notes.map(|Mistake { line, message }| json!({"line": line, "message": message})).collect();
        return print::json(&mut out, &json!({"applied": !arguments.dry_run, "steps": steps, "notes": notes}));
    }
    let items: Vec<Value> = steps.iter().filter_map(|step| serde_json::to_value(step).ok()).collect();
    print::table(&mut out, &["action", "kind", "name", "detail"], &items)?;
    for Mistake { line, message } in notes {
        writeln!(out, "note, line {line}: {}", print::clean(message, false))?;
    }
    let new = steps.iter().filter(|step| step.action == Action::Create).count();
    let (would, kept) = (if arguments.dry_run { "would be made" } else { "made" }, steps.len() - new);
    writeln!(out, "{new} {would}, {kept} there already")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_the_same_recipients_is_told_together() {
        let disclosure = |recipient: &str, object: &str, truncated: bool| {
            let reached = json!({"recipient": recipient, "valid_from": "a", "valid_until": "b"});
            json!({"recipients": [reached], "objects": [{"object": object}], "truncated": truncated})
        };
        let mut joined = Vec::new();
        join(&mut joined, disclosure("acme", "s.a.t", false));
        join(&mut joined, disclosure("globex", "z.a.t", false));
        join(&mut joined, disclosure("acme", "s.a.u", true));
        let mut both = disclosure("acme", "s.a.t", true);
        both["objects"] = json!([{"object": "s.a.t"}, {"object": "s.a.u"}]);
        assert_eq!(joined, [both, disclosure("globex", "z.a.t", false)]);
    }
}
