//! One call of the admin API as a command: reads its arguments, makes the request, and shows the answer.

use std::{
    fs::File,
    io::{BufRead, IsTerminal, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{
    Arg, ArgAction, ArgMatches, Args, FromArgMatches,
    builder::{PossibleValuesParser, TypedValueParser},
    error::ErrorKind,
    value_parser,
};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    api::{Client, Output, Request, Server},
    nouns::Verb,
    operation::{Kind, Operation, Parameter, Place},
    print,
};

/// The largest body that is read from a file, in bytes; the API accepts no larger one.
const MAX_BODY_BYTES: u64 = 256 << 10;
/// Parameters of listings that the command line sets itself.
const PAGING: [&str; 2] = ["max_results", "page_token"];

/// A call as the command line describes it.
#[derive(Debug)]
pub(super) struct Call {
    verb: &'static Verb,
    /// The thing that it concerns, for people: `table claims.claims`.
    subject: String,
    server: Server,
    output: Output,
    request: Request,
    /// Members of the body that the command line gives, by their names.
    members: Vec<(Vec<String>, Value)>,
    file: Option<PathBuf>,
    /// The file for the profile.
    profile: Option<PathBuf>,
    is_listing: bool,
    limit: Option<usize>,
    is_confirmed: bool,
}

impl Verb {
    /// What it does, in one line.
    pub(super) fn about(&self) -> &'static str {
        Operation::find(self.operation).map_or("", |operation| operation.summary.trim_end_matches('.'))
    }

    /// Adds its arguments and their help to `command`.
    pub(super) fn command(&self, command: clap::Command) -> clap::Command {
        let Some(operation) = Operation::find(self.operation) else { return command };
        let about = operation.summary.trim_end_matches('.');
        // [`Server`]'s arguments also set a heading and a description, which must not replace the command's.
        let mut command = Server::augment_args(command)
            .next_help_heading(None::<&str>)
            .about(about)
            .after_help(format!("Example:\n  {}", self.told.example))
            // A parameter may be called `version`.
            .disable_version_flag(true);
        if let Some(description) = operation.description {
            // Lines must break at the terminal's edge, not where the source breaks them.
            let paragraphs: Vec<String> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
            command = command.long_about(format!("{about}\n\n{}", paragraphs.join("\n\n")));
        }
        for parameter in self.parameters(&operation) {
            command = command.arg(self.argument(parameter));
        }
        if operation.has_body {
            let unset = Arg::new("unset").long("unset").value_name("MEMBER").action(ArgAction::Append);
            command = command.arg(
                Arg::new("file")
                    .long("file")
                    .short('f')
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .help("The body as JSON: a file, or - for standard input; flags take precedence over it"),
            );
            if operation.method == Method::PATCH {
                command =
                    command.arg(unset.help("Removes a value, such as description or contacts.sales; may be repeated"));
            }
        }
        if operation.is_listing() {
            let limit =
                Arg::new("limit").long("limit").value_name("NUMBER").value_parser(value_parser!(u32).range(1..));
            let default = self.told.limit.map_or("all".to_owned(), |limit| limit.to_string());
            command = command.arg(limit.help(format!("The most items to list [default: {default}]")));
        }
        if let Some(place) = self.told.profile {
            let implied = if place.is_empty() { "" } else { "; implies --reveal" };
            command = command.arg(
                Arg::new("profile").long("profile").value_name("FILE").value_parser(value_parser!(PathBuf)).help(
                    format!("Saves the profile in a new file that only you can read, instead of showing it{implied}"),
                ),
            );
        }
        if self.told.confirm.is_some() || self.told.discloses {
            let yes = Arg::new("yes").long("yes").short('y').action(ArgAction::SetTrue);
            command = command.arg(yes.help("Does not ask for confirmation; without a terminal it never asks"));
        }
        let output = Arg::new("output").long("output").short('o').value_parser(value_parser!(Output));
        command.arg(output.default_value("table").value_name("OUTPUT").help("The output format"))
    }

    fn parameters<'a>(&self, operation: &'a Operation) -> impl Iterator<Item = &'a Parameter> {
        let is_listing = operation.is_listing();
        operation.parameters.iter().filter(move |parameter| {
            !(is_listing && parameter.place == Place::Query && PAGING.contains(&parameter.names[0]))
        })
    }

    fn argument(&self, parameter: &Parameter) -> Arg {
        let argument = Arg::new(parameter.id()).help(parameter.about.clone());
        let (flag, kind) = (parameter.flag(), parameter.kind.clone());
        if parameter.place == Place::Path || self.told.positional.iter().any(|known| *known == flag) {
            let argument = argument.value_name(flag.to_uppercase()).required(true);
            return argument.value_parser(move |text: &str| kind.parse(text)).allow_negative_numbers(true);
        }
        let argument = argument.long(flag).value_name(kind.placeholder());
        let argument = match (parameter.is_required, parameter.place) {
            (true, Place::Body) => argument.required_unless_present("file"),
            (is_required, _) => argument.required(is_required),
        };
        match kind {
            Kind::Choice(choices) => argument.value_parser(PossibleValuesParser::new(choices).map(Value::from)),
            Kind::List(item) => {
                let argument = argument.action(ArgAction::Append).value_delimiter(',');
                match *item {
                    Kind::Choice(choices) => argument.value_parser(PossibleValuesParser::new(choices).map(Value::from)),
                    item => argument.value_parser(move |text: &str| item.parse(text)),
                }
            }
            Kind::Map { .. } => {
                let argument = argument.action(ArgAction::Append);
                argument
                    .value_parser(move |text: &str| kind.parse_member(text).map(|(name, value)| json!([name, value])))
            }
            Kind::Boolean => {
                let argument = argument.num_args(0..=1).require_equals(true).default_missing_value("true");
                argument.value_parser(move |text: &str| kind.parse(text))
            }
            kind => argument.value_parser(move |text: &str| kind.parse(text)).allow_hyphen_values(true),
        }
    }
}

impl Call {
    /// Reads the call from `matches`.
    pub(super) fn read(noun: &str, verb: &'static Verb, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let unknown = || clap::Error::raw(ErrorKind::InvalidSubcommand, "the API has no such operation\n");
        let operation = Operation::find(verb.operation).ok_or_else(unknown)?;
        let mut request = Request::new(operation.method.clone(), &[]);
        let (mut members, mut names) = (Vec::new(), Vec::new());
        for parameter in verb.parameters(&operation) {
            let Some(values) = matches.get_many::<Value>(&parameter.id()) else { continue };
            let values: Vec<Value> = values.cloned().collect();
            let (first, name) = (values.first().cloned().unwrap_or_default(), parameter.names[0]);
            match parameter.place {
                Place::Path => names.push((name, plain(&first))),
                Place::Query => request.query.push((name.to_owned(), plain(&first))),
                Place::Header => request.headers.push((name.to_owned(), plain(&first))),
                Place::Body => {
                    let names = parameter.names.iter().map(|name| (*name).to_owned());
                    match parameter.kind {
                        Kind::List(_) => members.push((names.collect(), Value::Array(values))),
                        Kind::Map { .. } => members.extend(
                            values
                                .into_iter()
                                .map(|mut pair| (names.clone().chain([plain(&pair[0])]).collect(), pair[1].take())),
                        ),
                        _ => members.push((names.collect(), first)),
                    }
                }
            }
        }
        request.path = operation.path.split('/').map(|segment| filled(segment, &names)).collect();
        if operation.method == Method::PATCH {
            let unset = matches.get_many::<String>("unset").into_iter().flatten();
            members.extend(unset.map(|name| (name.split('.').map(str::to_owned).collect(), Value::Null)));
        }
        if operation.has_body {
            request.body = Some(json!({}));
        }
        let is_listing = operation.is_listing();
        let given = |id: &str, is_there: bool| is_there.then(|| matches.get_one::<PathBuf>(id).cloned()).flatten();
        let profile = given("profile", verb.told.profile.is_some());
        if profile.is_some() && verb.told.profile.is_some_and(|place| !place.is_empty()) {
            members.push((vec!["reveal".to_owned()], true.into()));
        }
        let subject: Vec<&str> = std::iter::once(noun).chain(names.iter().map(|(_, name)| name.as_str())).collect();
        Ok(Self {
            verb,
            subject: subject.join(" "),
            server: Server::from_arg_matches(matches)?,
            output: matches.get_one("output").copied().unwrap_or(Output::Table),
            request,
            members,
            file: given("file", operation.has_body),
            profile,
            is_listing,
            limit: match is_listing {
                true => matches.get_one::<u32>("limit").map(|limit| *limit as usize).or(verb.told.limit),
                false => None,
            },
            is_confirmed: (verb.told.confirm.is_none() && !verb.told.discloses) || matches.get_flag("yes"),
        })
    }

    #[cfg(test)]
    pub(super) fn operation(&self) -> &'static str {
        self.verb.operation
    }

    /// Makes the call and prints the answer.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        self.complete_body()?;
        let client = self.server.client()?;
        let is_agreed = match self.verb.told.discloses {
            _ if self.is_confirmed => true,
            true => self.confirm_disclosure(&client).await?,
            false => self.confirm()?,
        };
        if !is_agreed {
            bail!("nothing was done");
        }
        if self.is_listing {
            let (items, next) = client.list(&self.request, self.limit).await?;
            return self.print_list(items, next);
        }
        // The file is created first, because a profile that cannot be saved is lost.
        let saved = self.profile.as_deref().map(create_private).transpose()?;
        let answer = match (client.call(&self.request).await, &self.profile) {
            (Ok((answer, _)), _) => answer,
            (Err(error), profile) => {
                profile.as_ref().map(std::fs::remove_file);
                return Err(error);
            }
        };
        match saved {
            Some(file) => self.print(save_profile(answer, self.verb.told.profile.unwrap_or_default(), file)?),
            None => self.print(answer),
        }
    }

    /// Completes the body: the file's members, overridden by those of the command line.
    fn complete_body(&mut self) -> anyhow::Result<()> {
        if let Some(path) = &self.file {
            self.request.body = Some(read_body(path)?);
        }
        let Some(body) = &mut self.request.body else { return Ok(()) };
        for (names, value) in self.members.drain(..) {
            let mut place = &mut *body;
            for name in names {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                place = &mut place[name];
            }
            *place = value;
        }
        Ok(())
    }

    /// Shows what the call would newly disclose, and asks the person at the terminal; does not ask if it discloses
    /// nothing.
    async fn confirm_disclosure(&self, client: &Client) -> anyhow::Result<bool> {
        let is_dry = self.request.query.iter().any(|(name, value)| name == "dry_run" && value == "true");
        if is_dry || !is_watched() {
            return Ok(true);
        }
        let mut rehearsal = self.request.clone();
        rehearsal.query.push(("dry_run".to_owned(), "true".to_owned()));
        let (answer, _) = client.call(&rehearsal).await?;
        match told_disclosure(&answer["disclosure"]) {
            Some(told) => asked(&told),
            None => Ok(true),
        }
    }

    /// Asks the person at the terminal. Without a terminal, the author of the script has decided.
    fn confirm(&self) -> anyhow::Result<bool> {
        if !is_watched() {
            return Ok(true);
        }
        let Self { verb, subject, .. } = self;
        asked(&format!("{} {subject}: {}. ", verb.name, verb.told.confirm.unwrap_or_default()))
    }

    fn print_list(&self, items: Vec<Value>, next: Option<String>) -> anyhow::Result<()> {
        let mut out = print::out();
        match self.output {
            Output::Json => {
                let mut page = json!({"items": items});
                if let Some(next) = next {
                    page["next_page_token"] = next.into();
                }
                print::json(&mut out, &page)?;
            }
            Output::Table => {
                print::table(&mut out, &self.verb.told.columns, &items)?;
                if next.is_some() {
                    print::note("there are more; --limit sets how many are shown");
                }
            }
        }
        Ok(())
    }

    fn print(&self, answer: Value) -> anyhow::Result<()> {
        let mut out = print::out();
        match (self.output, answer, self.verb.show()) {
            (_, Value::Null, _) => writeln!(out, "done")?,
            (Output::Json, answer, _) => print::json(&mut out, &answer)?,
            (Output::Table, answer, Some(show)) => show(&mut out, &answer)?,
            (Output::Table, answer, None) => print::fields(&mut out, &answer)?,
        }
        Ok(())
    }
}

/// Whether a person is at the terminal.
pub(super) fn is_watched() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Says what will happen and asks for agreement.
pub(super) fn asked(told: &str) -> anyhow::Result<bool> {
    write!(std::io::stderr(), "{told}Go on? [y/N] ")?;
    agreed()
}

/// Reads whether the answer is yes.
fn agreed() -> anyhow::Result<bool> {
    let mut answer = String::new();
    std::io::stdin().lock().take(16).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Describes a dry run's new disclosures for people; `None` if the change reaches nobody new.
pub(super) fn told_disclosure(disclosure: &Value) -> Option<String> {
    let listed = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| print::clean(value.as_str().unwrap_or_default(), false);
    let recipients = listed(&disclosure["recipients"]);
    if recipients.is_empty() {
        return None;
    }
    let mut told = String::from("This newly shows\n");
    for object in listed(&disclosure["objects"]) {
        let past = match (object["history"] == true, object["cdf"] == true) {
            (_, true) => ", with older versions and changes",
            (true, false) => ", with older versions",
            (false, false) => "",
        };
        told += &format!("  {} ({}){past}\n", text(&object["object"]), text(&object["source"]));
        let column = |column: &Value| match &column["mask"] {
            Value::Null => text(&column["name"]),
            mask => format!("{} [{}]", text(&column["name"]), print::clean(&plain(mask), false)),
        };
        let columns: Vec<String> = listed(&object["columns"]).iter().map(column).collect();
        let columns = if object["columns"].is_null() { "not to be read now".to_owned() } else { columns.join(", ") };
        let rows = if object["rows"].is_null() { "all".to_owned() } else { text(&object["rows"]) };
        told += &format!("    columns: {columns}\n    rows: {rows}\n");
    }
    told += "to\n";
    for reached in recipients {
        let (from, until) = (text(&reached["valid_from"]), text(&reached["valid_until"]));
        told += &format!("  {}, from {from} until {until}\n", text(&reached["recipient"]));
    }
    if disclosure["truncated"] == true {
        told += "  … and more\n";
    }
    Some(told)
}

/// Replaces a `{name}` segment of a path by its value.
fn filled(segment: &str, names: &[(&str, String)]) -> String {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let value = name.and_then(|name| names.iter().find(|(known, _)| *known == name));
    value.map_or_else(|| segment.to_owned(), |(_, value)| value.clone())
}

/// Writes a value for a path, a query or a header.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn read_body(path: &Path) -> anyhow::Result<Value> {
    let mut text = Vec::new();
    let shown = path.display();
    let unreadable = || format!("`{shown}` cannot be read");
    let reader: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(File::open(path).with_context(unreadable)?),
    };
    reader.take(MAX_BODY_BYTES + 1).read_to_end(&mut text).with_context(unreadable)?;
    if text.len() as u64 > MAX_BODY_BYTES {
        bail!("`{shown}` is larger than {MAX_BODY_BYTES} bytes; the API reads no more");
    }
    match serde_json::from_slice(&text) {
        Ok(body @ Value::Object(_)) => Ok(body),
        Ok(_) => bail!("`{shown}` is no JSON object; write {{…}}"),
        Err(error) => bail!("`{shown}` is no JSON: {error}"),
    }
}

fn create_private(path: &Path) -> anyhow::Result<File> {
    let created = File::options().write(true).create_new(true).mode(0o600).open(path);
    created.with_context(|| format!("`{}` cannot be made; name a file that does not exist yet", path.display()))
}

/// Writes the profile at `place` in the answer to `file`, and returns the rest of the answer.
fn save_profile(mut answer: Value, place: &str, mut file: File) -> anyhow::Result<Value> {
    let profile = answer.pointer_mut(place).map(Value::take).unwrap_or_default();
    let mut text = serde_json::to_vec_pretty(&profile)?;
    text.push(b'\n');
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .context("the profile could not be written; rotate the token")?;
    if let Value::Object(members) = &mut answer {
        members.remove("token");
        members.remove("profile");
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newly_disclosed_is_told_with_whom_it_reaches() {
        let columns =
            json!([{"name": "member"}, {"name": "zip", "mask": "zip3"}, {"name": "id", "mask": {"hash": {}}}]);
        let object =
            json!({"object": "s.a.t", "source": "v@v1", "columns": columns, "rows": "plan = 'x'", "history": true});
        let raw = json!({"object": "s.a.u", "source": "t.u", "columns": null, "rows": null, "history": false});
        let reached = json!({"recipient": "acme\u{1b}[2J", "valid_from": "2026-11-01", "valid_until": "2027-11-01"});
        let disclosure = json!({"recipients": [reached], "objects": [object, raw], "truncated": false});
        let told = told_disclosure(&disclosure).unwrap();
        for part in [
            "s.a.t (v@v1), with older versions",
            "columns: member, zip [zip3], id [{\"hash\":{}}]",
            "rows: plan = 'x'",
            "columns: not to be read now\n    rows: all",
            "from 2026-11-01 until 2027-11-01",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains('\u{1b}'), "{told}");
        assert_eq!(told_disclosure(&json!({"recipients": [], "objects": []})), None);
        assert_eq!(told_disclosure(&Value::Null), None);
    }
}
