//! `weir discover`: shows the Delta tables of a storage or a Unity Catalog server, and writes a draft for each.

use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write as _,
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::domain::core::name::name_key;

use super::{
    api::{Client, Output, Request, Server},
    print,
};

/// The largest file with a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 16 << 10;
/// The longest name of a file, in bytes, without its ending.
const LONGEST_FILE_NAME: usize = 200;
/// The columns of the listing.
const COLUMNS: [&str; 6] = ["name", "version", "size", "columns", "verdict", "state"];

const HELP: &str = "\
The server looks for folders that hold `_delta_log`, reads their logs, and says which connectors could read each table. It
registers nothing, and shares nothing. With --write, each table that is not registered becomes a file:

  kind: table
  name: claims.claims
  spec:
    location: \"s3://lake/warehouse/claims/claims\"

Look through the files, mend names, add owners, and register what you want to share:

  weir table put claims.claims --location s3://lake/warehouse/claims/claims

Examples:
  weir discover --root s3://lake/warehouse
  weir discover --root s3://lake/warehouse --write drafts
  weir discover --unity https://uc.example.org --unity-token-file uc.token --catalog main --output json";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
#[command(group = clap::ArgGroup::new("place").required(true).args(["root", "unity"]))]
pub(super) struct Arguments {
    /// A prefix inside of a storage of the server; the folders below it are looked into
    #[arg(long, value_name = "URL")]
    root: Option<String>,
    /// A Unity Catalog server, which the server's discovery.unity_urls must name
    #[arg(long, value_name = "URL")]
    unity: Option<String>,
    /// A file that holds a token for the Unity Catalog server; --token-file has the one for Weir
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    unity_token_file: Option<PathBuf>,
    /// Only this catalog of the Unity Catalog server
    #[arg(long, value_name = "NAME", conflicts_with = "root")]
    catalog: Option<String>,
    /// Only this schema of the catalog
    #[arg(long, value_name = "NAME", conflicts_with = "root", requires = "catalog")]
    schema: Option<String>,
    /// Writes a draft for each table that is not registered into this folder; never over a file
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Stops after so many tables; without it, all of them are looked for
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// How long each answer of the server may take, in seconds, up to 30; the next one goes on from there
    #[arg(long, value_name = "NUMBER")]
    max_seconds: Option<u64>,
    /// The output format
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// What all answers of the server together say.
#[derive(Default)]
struct Found {
    items: Vec<Value>,
    /// What was left out and cannot be asked for.
    cut: Vec<Value>,
    next_page_token: Option<String>,
}

/// What became of the drafts.
#[derive(Default)]
struct Written {
    files: Vec<String>,
    /// The files that were there.
    kept: Vec<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let body = body(&arguments)?;
    let client = arguments.server.client()?;
    let mut found = find(&client, body, arguments.limit).await?;
    distinguish(&mut found.items);
    let written = arguments.write.as_deref().map(|folder| write(folder, &found.items)).transpose()?;
    show(&arguments, &found, written.as_ref())
}

fn body(arguments: &Arguments) -> anyhow::Result<Value> {
    let mut body = match (&arguments.root, &arguments.unity) {
        (Some(root), _) => json!({"url": root}),
        (None, unity) => {
            let token = arguments.unity_token_file.as_deref().map(token).transpose()?;
            let Arguments { catalog, schema, .. } = arguments;
            let mut place = json!({"url": unity});
            for (member, text) in
                [("token", token.as_ref()), ("catalog", catalog.as_ref()), ("schema", schema.as_ref())]
            {
                if let Some(text) = text {
                    place[member] = json!(text);
                }
            }
            json!({"unity": place})
        }
    };
    if let Some(seconds) = arguments.max_seconds {
        body["max_seconds"] = json!(seconds);
    }
    Ok(body)
}

fn token(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let unread = || format!("the token file `{shown}` cannot be read");
    let mut token = String::new();
    File::open(file).with_context(unread)?.take(MAX_TOKEN_BYTES).read_to_string(&mut token).with_context(unread)?;
    match token.trim() {
        "" => bail!("the token file `{shown}` is empty; write the Unity Catalog server's token into it"),
        token => Ok(token.to_owned()),
    }
}

/// Asks until there is no more, or there are as many tables as wanted.
async fn find(client: &Client, body: Value, limit: Option<u32>) -> anyhow::Result<Found> {
    const PAGE: usize = 1_000;
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut found = Found::default();
    let mut said = BTreeSet::new();
    loop {
        let mut asked = body.clone();
        let wanted = limit.map_or(PAGE, |limit| limit.saturating_sub(found.items.len()).clamp(1, PAGE));
        asked["max_tables"] = json!(wanted);
        if let Some(token) = found.next_page_token.take() {
            asked["page_token"] = json!(token);
        }
        let (mut answer, _) = client.call(&Request::new(Method::POST, &["discover"]).with_body(asked)).await?;
        found.next_page_token = answer["next_page_token"].as_str().map(str::to_owned);
        if let Value::Array(items) = answer["items"].take() {
            found.items.extend(items);
        }
        // What the next answer goes on with is not left out.
        let is_final = |cut: &Value| matches!(cut["limit"].as_str(), Some("depth" | "unreadable"));
        for cut in answer["cut"].as_array().into_iter().flatten().filter(|cut| is_final(cut)) {
            if said.insert(cut.to_string()) {
                found.cut.push(cut.clone());
            }
        }
        if found.next_page_token.is_none() || limit.is_some_and(|limit| found.items.len() >= limit) {
            return Ok(found);
        }
    }
}

/// Gives tables of different answers different names.
fn distinguish(items: &mut [Value]) {
    let mut taken = HashSet::new();
    for item in items.iter_mut().filter(|item| item["draft"].is_object()) {
        let base = text(item, "name").to_owned();
        let mut name = base.clone();
        let mut number = 1usize;
        while !taken.insert(name_key(&name)) {
            number += 1;
            name = format!("{base}_{number}");
        }
        item["draft"]["name"] = json!(name);
        item["name"] = json!(name);
    }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// Writes a file for each draft. What is there already stays.
fn write(folder: &Path, items: &[Value]) -> anyhow::Result<Written> {
    let mut written = Written::default();
    fs::create_dir_all(folder).with_context(|| format!("the folder `{}` cannot be made", folder.display()))?;
    for item in items.iter().filter(|item| item["draft"].is_object()) {
        let path = folder.join(format!("{}.yaml", file_name(text(item, "name"))));
        let shown = path.display().to_string();
        let failed = || format!("the draft `{shown}` cannot be written");
        match File::options().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(document(item).as_bytes()).with_context(failed)?;
                written.files.push(shown);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => written.kept.push(shown),
            Err(error) => return Err(error).with_context(failed),
        }
    }
    Ok(written)
}

/// The name of the file for a table, without its ending. A name that is too long for a file is cut, and told apart by a
/// digest.
fn file_name(name: &str) -> String {
    if name.len() <= LONGEST_FILE_NAME {
        return name.to_owned();
    }
    let digest: String = Sha256::digest(name_key(name)).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let end = name.floor_char_boundary(LONGEST_FILE_NAME - digest.len() - 1);
    format!("{}-{digest}", &name[..end])
}

/// The draft of a table as a YAML document, with what its log says as comments.
fn document(item: &Value) -> String {
    let mut document = String::new();
    let line = |text: String| format!("# {}\n", print::clean(&text, false));
    let version = &item["delta"]["version"];
    document.push_str(&line(format!("Version {version}: {}; {}", size(item), verdict(item))));
    if !item["catalog_entry"].is_null() {
        document.push_str(&line(format!("Found as {}", text(&item["catalog_entry"], "name"))));
    }
    let draft = &item["draft"];
    document.push_str("kind: table\n");
    // Writing to a text does not fail.
    let _ = write!(document, "name: {}\nspec:\n", quoted(text(draft, "name")));
    for member in ["location", "description", "owner"] {
        if let Some(value) = draft["spec"][member].as_str() {
            let _ = writeln!(document, "  {member}: {}", quoted(value));
        }
    }
    document
}

/// A text as YAML: in double quotes as in JSON, which YAML includes, with everything escaped that it does not print.
fn quoted(text: &str) -> String {
    let json = json!(text).to_string();
    let escaped = |c: char| match c {
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    json.chars().map(escaped).collect()
}

/// The size of a table for people.
fn size(item: &Value) -> String {
    let Some(bytes) = item["size_bytes"].as_u64() else { return "-".to_owned() };
    let mut unit = 0;
    let (mut whole, mut rest) = (bytes, 0);
    while whole >= 1024 && unit < 5 {
        (whole, rest) = (whole / 1024, whole % 1024 * 10 / 1024);
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit];
    let number = if unit == 0 { whole.to_string() } else { format!("{whole}.{rest}") };
    format!("{number} {name} in {} files", item["files"])
}

/// Which connectors can read a table, or why its log cannot be read.
fn verdict(item: &Value) -> String {
    if let Some(problem) = item["problem"].as_str() {
        return problem.to_owned();
    }
    let clients = item["delta"]["clients"].as_object();
    let unable: Vec<String> = clients
        .into_iter()
        .flatten()
        .filter(|(_, verdict)| *verdict != "ok")
        .map(|(client, verdict)| format!("{client} {}", verdict.as_str().unwrap_or_default()))
        .collect();
    if unable.is_empty() { "every connector reads it".to_owned() } else { unable.join("; ") }
}

fn state(item: &Value) -> &'static str {
    match (item["registered_as"].as_array().is_some_and(|names| !names.is_empty()), item["problem"].is_null()) {
        (true, _) => "registered",
        (false, true) => "new",
        (false, false) => "unreadable",
    }
}

fn show(arguments: &Arguments, found: &Found, written: Option<&Written>) -> anyhow::Result<()> {
    let mut out = print::out();
    let is_complete = found.cut.is_empty() && found.next_page_token.is_none();
    match arguments.output {
        Output::Json => {
            let mut all = json!({"items": found.items, "complete": is_complete, "cut": found.cut});
            if let Some(token) = &found.next_page_token {
                all["next_page_token"] = json!(token);
            }
            if let Some(Written { files, kept }) = written {
                all["written"] = json!(files);
                all["kept"] = json!(kept);
            }
            print::json(&mut out, &all)?;
        }
        Output::Table => {
            let line = |item: &Value| {
                json!({
                    "name": item["name"], "version": item["delta"]["version"], "size": size(item),
                    "columns": item["delta"]["columns"].as_array().map(Vec::len), "verdict": verdict(item),
                    "state": state(item),
                })
            };
            print::table(&mut out, &COLUMNS, &found.items.iter().map(line).collect::<Vec<_>>())?;
        }
    }
    tell(arguments, found, written);
    Ok(())
}

/// Says what is no part of the listing.
fn tell(arguments: &Arguments, found: &Found, written: Option<&Written>) {
    for cut in &found.cut {
        print::note(print::clean(text(cut, "message"), false));
    }
    if found.next_page_token.is_some() {
        print::note("there may be more tables; raise --limit");
    }
    if let (Some(Written { files, kept }), Output::Table) = (written, arguments.output) {
        let drafts = if files.len() == 1 { "draft" } else { "drafts" };
        print::note(format!("{} {drafts} written; look through them, and register with `weir table put`", files.len()));
        for file in kept {
            print::note(format!("`{}` is there already and stays as it is", print::clean(file, false)));
        }
    }
}

#[cfg(test)]
mod tests {
    use saphyr_parser::{Event, Parser};

    use super::*;

    #[test]
    fn texts_are_the_same_in_yaml() {
        for text in ["claims.claims", "a\"b\\c", "x: # y", "é\u{2028}\u{85}\u{7f}\n\t日本", "", "null", "-"] {
            let document = format!("a: {}\n", quoted(text));
            let mut parser = Parser::new_from_str(&document);
            let mut scalars = Vec::new();
            while let Some(event) = parser.next_event() {
                if let Event::Scalar(scalar, ..) = event.unwrap().0 {
                    scalars.push(scalar.into_owned());
                }
            }
            assert_eq!(scalars, ["a", text]);
        }
    }

    #[test]
    fn files_of_long_names_are_told_apart() {
        let (one, other) = ("ä".repeat(200), format!("{}b", "ä".repeat(199)));
        assert!(file_name(&one).len() <= LONGEST_FILE_NAME && file_name(&one) != file_name(&other));
        assert_eq!(file_name("claims.claims"), "claims.claims");
    }

    #[test]
    fn names_of_two_answers_differ() {
        let item = |name: &str, draft: bool| json!({"name": name, "draft": if draft { json!({"name": name}) } else { Value::Null }});
        let mut items = [item("a", true), item("A", true), item("a", false), item("a", true)];
        distinguish(&mut items);
        let names: Vec<&str> = items.iter().map(|item| text(item, "name")).collect();
        assert_eq!(names, ["a", "A_2", "a", "a_3"]);
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, told) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (u64::MAX, "16383.9 PiB")]
        {
            assert_eq!(size(&json!({"size_bytes": bytes, "files": 1})), format!("{told} in 1 files"));
        }
    }
}
