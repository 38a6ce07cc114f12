//! The commands of the admin API: nouns, and the operations that are their verbs.
//!
//! What the command of an operation is called, an example of it, and how it asks and shows, stands beside the operation's
//! handler, as `x-weir-cli` in the API's document. Arguments, flags and their help come from the operation itself; see
//! [`super::operation`].

use std::{
    io::{self, Write},
    sync::LazyLock,
};

use clap::{ArgMatches, FromArgMatches, Subcommand, error::ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use super::{audit, call::Call, operation::Operation, operator, view};

/// A command for every operation, and the further commands of the same nouns.
#[derive(Debug)]
pub(super) enum Command {
    /// An operation of the admin API.
    Call(Box<Call>),
    /// A command on the trail itself.
    Audit(audit::Command),
    /// A command on operators that needs no server.
    Operator(operator::Command),
}

/// A kind of thing that operators manage.
struct Noun {
    name: &'static str,
    about: &'static str,
    /// Commands of the noun that are not operations.
    beside: Option<fn(clap::Command) -> clap::Command>,
}

/// A command for one operation.
#[derive(Debug)]
pub(super) struct Verb {
    /// The noun that it belongs to, if it belongs to one.
    noun: Option<&'static str>,
    pub(super) name: &'static str,
    /// The operation's id.
    pub(super) operation: &'static str,
    pub(super) told: Told,
}

/// What the document says of an operation's command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    /// A call of the command, whose first words are its name.
    pub(super) example: &'static str,
    /// The warning before the question at a terminal, if it asks one.
    #[serde(default)]
    pub(super) confirm: Option<&'static str>,
    /// The columns of a listing.
    #[serde(default)]
    pub(super) columns: Vec<&'static str>,
    /// The default number of items of a listing; `None` for all of them.
    #[serde(default)]
    pub(super) limit: Option<usize>,
    /// Parameters that are given by position, after those of the path.
    #[serde(default)]
    pub(super) positional: Vec<&'static str>,
    /// The place in the answer of a profile that can be saved.
    #[serde(default)]
    pub(super) profile: Option<&'static str>,
    /// Whether it may newly disclose something, so that a dry run shows this first.
    #[serde(default)]
    pub(super) discloses: bool,
    /// Whether the command has a file of its own, and does more than this operation.
    #[serde(default)]
    own: bool,
}

/// How an answer is shown to people, if not member by member.
type Show = fn(&mut dyn Write, &Value) -> io::Result<()>;

impl Verb {
    fn of(operation: &'static str, told: &'static Value) -> Option<Self> {
        let told = Told::deserialize(told).ok()?;
        let mut words = told.example.split(' ').skip(1);
        let first = words.next()?;
        let (noun, name) = match noun(first) {
            Some(_) => (Some(first), words.next()?),
            None => (None, first),
        };
        Some(Self { noun, name, operation, told })
    }

    /// What shows its answer, where that has a form of its own.
    pub(super) fn show(&self) -> Option<Show> {
        match self.operation {
            "preview_view" => Some(view::show_preview),
            "diff_view" => Some(view::show_diff),
            _ => None,
        }
    }

    /// The command without arguments.
    fn command_line(&self) -> String {
        match (self.told.own, self.noun) {
            (true, _) => {
                let words = self.told.example.split(' ').take_while(|word| !word.starts_with('-'));
                words.collect::<Vec<_>>().join(" ")
            }
            (false, Some(noun)) => format!("weir {noun} {}", self.name),
            (false, None) => format!("weir {}", self.name),
        }
    }
}

/// The commands of all operations, in the order in which help lists them.
static VERBS: LazyLock<Vec<Verb>> = LazyLock::new(|| {
    let mut verbs: Vec<Verb> =
        Operation::commands().filter_map(|(operation, told)| Verb::of(operation, told)).collect();
    let place = |verb: &Verb| ORDER.iter().position(|known| *known == verb.name).unwrap_or(ORDER.len());
    verbs.sort_by_key(|verb| (place(verb), verb.name));
    verbs
});

/// The verbs in the order in which help lists them; others follow by name.
const ORDER: [&str; 40] = [
    "put",
    "create",
    "issue",
    "get",
    "list",
    "update",
    "delete",
    "scan",
    "columns",
    "classify",
    "classify-all",
    "submit",
    "activate",
    "publish",
    "preview",
    "diff",
    "suspend",
    "resume",
    "terminate",
    "offboard",
    "profile",
    "disable",
    "enable",
    "issue-token",
    "list-tokens",
    "revoke-token",
    "list-identities",
    "get-identity",
    "disable-identity",
    "enable-identity",
    "forget-identity",
    "rotate",
    "revoke",
    "revoke-all",
    "cancel",
    "accept-schema",
    "reconcile",
    "whoami",
    "freeze",
    "unfreeze",
];

/// The commands of a noun; those without one, if it is `None`.
fn verbs(noun: Option<&str>) -> impl Iterator<Item = &'static Verb> {
    VERBS.iter().filter(move |verb| verb.noun == noun && !verb.told.own)
}

fn find_verb(noun: Option<&str>, name: &str) -> Option<&'static Verb> {
    verbs(noun).find(|verb| verb.name == name)
}

const NOUNS: &[Noun] = &[
    Noun { name: "table", about: "Manages registered tables", beside: None },
    Noun { name: "domain", about: "Manages domains: what tables and shares are about, and who answers", beside: None },
    Noun { name: "share", about: "Manages shares", beside: None },
    Noun { name: "object", about: "Puts tables and views into shares", beside: None },
    Noun { name: "view", about: "Drafts, compares, previews and publishes governed views", beside: None },
    Noun { name: "recipient", about: "Manages recipients", beside: None },
    Noun { name: "purpose", about: "Manages purposes: what data may be used for", beside: None },
    Noun { name: "use-case", about: "Manages use cases: what recipients do with data", beside: None },
    Noun { name: "control", about: "Manages controls: what is asked wherever a class of data is shown", beside: None },
    Noun { name: "exposure", about: "Tells who sees which column, and what a recipient sees", beside: None },
    Noun { name: "agreement", about: "Manages agreements: the contracts that grants stand on", beside: None },
    Noun { name: "exception", about: "Proposes, approves and ends exceptions from rules", beside: None },
    Noun { name: "token", about: "Issues, rotates and ends recipients' tokens", beside: None },
    Noun { name: "grant", about: "Grants shares to recipients, and revokes grants", beside: None },
    Noun {
        name: "operator",
        about: "Manages operators and their tokens",
        beside: Some(operator::Command::augment_subcommands),
    },
    Noun { name: "group", about: "Manages groups of principals, who have roles together", beside: None },
    Noun {
        name: "copy",
        about: "Lists the copies that the server made for views, and compares them with their store",
        beside: None,
    },
    Noun { name: "notification", about: "Lists messages to webhooks, and queues undelivered ones again", beside: None },
    Noun { name: "job", about: "Lists background jobs, and retries dead ones", beside: None },
    Noun {
        name: "audit",
        about: "Lists, verifies, exports and seals the audit trail",
        beside: Some(audit::Command::augment_subcommands),
    },
];

/// Replaces the API calls in `text` (`PUT /shares/x`) by the commands for them (`weir share put x`).
pub(super) fn in_commands(text: &str) -> String {
    let mut said = String::new();
    let mut rest = text;
    while let Some(at) = METHODS.iter().filter_map(|method| rest.find(&format!("{method} /"))).min() {
        let (before, call) = rest.split_at(at);
        let end = call.match_indices(char::is_whitespace).nth(1).map_or(call.len(), |(at, _)| at);
        let call = &call[..end];
        let whole = call.trim_end_matches(['`', ',', '.', ';', ':', ')', '?', '\'']);
        rest = &rest[at + whole.len()..];
        match command_of(whole) {
            Some(command) if before.ends_with('`') => said.extend([before, &command]),
            Some(command) => said.extend([before, "`", &command, "`"]),
            None => said.extend([before, whole]),
        }
    }
    said.push_str(rest);
    // Where only the method is named, the command has another name.
    said.replace("change it with PATCH", "change it with `update`")
}

/// The methods of the API.
const METHODS: [&str; 5] = ["GET", "PUT", "PATCH", "POST", "DELETE"];

/// The command for an API call such as `PUT /shares/x`.
fn command_of(call: &str) -> Option<String> {
    let (method, path) = call.split_once(' ')?;
    let path = path.strip_prefix("/api/v1").unwrap_or(path).trim_start_matches('/');
    let segments: Vec<&str> = path.split(['?', '#']).next()?.split('/').collect();
    let arguments = |operation: &str| {
        let operation = Operation::find(operation)?;
        let pattern: Vec<&str> = operation.path.split('/').collect();
        let is_alike = pattern.len() == segments.len()
            && operation.method.as_str() == method
            && pattern.iter().zip(&segments).all(|(known, segment)| known.starts_with('{') || known == segment);
        let named = pattern.iter().zip(&segments).filter(|(known, _)| known.starts_with('{'));
        is_alike.then(|| named.map(|(_, segment)| format!(" {segment}")).collect::<String>())
    };
    VERBS.iter().find_map(|verb| {
        let arguments = arguments(verb.operation)?;
        let own = verb.told.own;
        Some(if own { verb.command_line() } else { verb.command_line() + &arguments })
    })
}

fn noun(name: &str) -> Option<&'static Noun> {
    NOUNS.iter().find(|noun| noun.name == name)
}

/// Builds the commands of one noun. Only the requested noun is built, because this reads the API's document.
fn build_noun(command: clap::Command) -> clap::Command {
    let Some(noun) = noun(command.get_name()) else { return command };
    let verbs = verbs(Some(noun.name)).map(|verb| verb.command(clap::Command::new(verb.name)));
    let command = command.subcommands(verbs);
    noun.beside.map_or(command.clone(), |beside| beside(command))
}

fn build_alone(command: clap::Command) -> clap::Command {
    find_verb(None, command.get_name()).map_or(command.clone(), |verb| verb.command(command))
}

impl Subcommand for Command {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let nouns = NOUNS.iter().map(|noun| {
            let command = clap::Command::new(noun.name).about(noun.about);
            command.subcommand_required(true).arg_required_else_help(true).defer(build_noun)
        });
        let alone = verbs(None).map(|verb| clap::Command::new(verb.name).about(verb.about()).defer(build_alone));
        command.subcommands(nouns).subcommands(alone)
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        noun(name).is_some() || find_verb(None, name).is_some()
    }
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(ErrorKind::MissingSubcommand);
        let (name, arguments) = matches.subcommand().ok_or_else(missing)?;
        if let Some(verb) = find_verb(None, name) {
            return Ok(Self::Call(Box::new(Call::read(name, verb, arguments)?)));
        }
        let noun = noun(name).ok_or_else(missing)?;
        let (verb, of_verb) = arguments.subcommand().ok_or_else(missing)?;
        match (find_verb(Some(noun.name), verb), noun.name) {
            (Some(verb), _) => Ok(Self::Call(Box::new(Call::read(noun.name, verb, of_verb)?))),
            (None, "audit") => audit::Command::from_arg_matches(arguments).map(Self::Audit),
            (None, _) => operator::Command::from_arg_matches(arguments).map(Self::Operator),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli;

    #[test]
    fn every_operation_of_the_api_has_an_example_that_the_command_line_parses() {
        let mut seen = 0;
        for operation in Operation::ids() {
            let verb = VERBS.iter().find(|verb| verb.operation == operation);
            let verb = verb.unwrap_or_else(|| panic!("`{operation}` has no usable `x-weir-cli` beside its handler"));
            let words = shell_words(verb.told.example);
            let parsed = cli::Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
            let called = match &parsed.command {
                cli::Command::Nouns(Command::Call(call)) => Some(call.operation()),
                _ => None,
            };
            assert_eq!(called, (!verb.told.own).then_some(operation), "{}", verb.told.example);
            seen += 1;
        }
        assert_eq!(seen, VERBS.len());
    }

    #[test]
    fn no_two_operations_are_one_command() {
        let generated: Vec<_> = VERBS.iter().filter(|verb| !verb.told.own).map(Verb::command_line).collect();
        for (at, command) in generated.iter().enumerate() {
            assert!(!generated[..at].contains(command), "{command}");
        }
    }

    #[test]
    fn help_lists_the_usual_verbs_first() {
        let listed = |noun| verbs(noun).map(|verb| verb.name).collect::<Vec<_>>();
        assert_eq!(listed(Some("share")), ["put", "get", "list", "update", "delete", "revoke", "revoke-all"]);
        assert_eq!(listed(None), ["whoami", "freeze", "unfreeze"]);
    }

    #[test]
    fn calls_are_told_as_the_commands_that_make_them() {
        for (said, told) in [
            ("register it with PUT /tables/a.b", "register it with `weir table put a.b`"),
            ("`PATCH /recipients/acme` sets it", "`weir recipient update acme` sets it"),
            (
                "POST /views/a.b/publish does that; GET /shares/s/objects lists them",
                "`weir view publish a.b` does that; `weir object list s` lists them",
            ),
            ("differs; change it with PATCH", "differs; change it with `update`"),
            ("GET /api/v1/usage?group_by=table says it.", "`weir usage` says it."),
            ("GET /nowhere, then", "GET /nowhere, then"),
        ] {
            assert_eq!(in_commands(said), told);
        }
    }

    #[test]
    fn every_command_says_what_its_operation_does_and_what_every_argument_is() {
        let mut all = cli::Arguments::command();
        all.build();
        for noun in NOUNS {
            let built = all.find_subcommand(noun.name).unwrap();
            for verb in verbs(Some(noun.name)) {
                let command = built.find_subcommand(verb.name).unwrap();
                let about = command.get_about().unwrap().to_string();
                assert_eq!(about, verb.about(), "{} {}", noun.name, verb.name);
                for argument in command.get_arguments() {
                    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                    assert!(help.len() > 4, "{} {} {}: {help}", noun.name, verb.name, argument.get_id());
                }
            }
        }
    }

    /// Splits a text like a shell, as far as the examples need it.
    fn shell_words(text: &str) -> Vec<String> {
        let (mut words, mut quote, mut is_open) = (vec![String::new()], None, false);
        for c in text.chars() {
            match (quote, c) {
                (Some(mark), c) if c == mark => quote = None,
                (None, '\'' | '"') => (quote, is_open) = (Some(c), true),
                (None, ' ') => {
                    words.push(String::new());
                    is_open = false;
                }
                (_, c) => {
                    words.last_mut().unwrap().push(c);
                    is_open = true;
                }
            }
        }
        assert!(quote.is_none() && is_open, "{text}");
        words
    }

    #[test]
    fn listings_show_members_that_their_items_have() {
        let listings = VERBS.iter().filter(|verb| Operation::find(verb.operation).unwrap().is_listing());
        for verb in listings.filter(|verb| !verb.told.own) {
            assert!(!verb.told.columns.is_empty(), "{}", verb.operation);
        }
    }
}
