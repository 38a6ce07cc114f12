//! The commands of the admin API, noun by noun: the operation, an example, and the columns of a listing.
//!
//! Everything else (arguments, flags, their help) comes from the operation itself; see [`super::operation`].

use std::io::{self, Write};

use clap::{ArgMatches, FromArgMatches, Subcommand, error::ErrorKind};
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
    verbs: &'static [Verb],
    /// Commands of the noun that are not operations.
    beside: Option<fn(clap::Command) -> clap::Command>,
}

/// A command for one operation.
#[derive(Debug)]
pub(super) struct Verb {
    pub(super) name: &'static str,
    /// The operation's id.
    pub(super) operation: &'static str,
    pub(super) example: &'static str,
    /// The warning before the question at a terminal, if it asks one.
    pub(super) confirm: Option<&'static str>,
    /// The columns of a listing.
    pub(super) columns: &'static [&'static str],
    /// The default number of items of a listing; `None` for all of them.
    pub(super) limit: Option<usize>,
    /// Parameters that are given by position, after those of the path.
    pub(super) positional: &'static [&'static str],
    /// The place in the answer of a profile that can be saved.
    pub(super) profile: Option<&'static str>,
    /// How the answer is shown to people, if not member by member.
    pub(super) show: Option<Show>,
    /// Whether it may newly disclose something, so that a dry run shows this first.
    pub(super) discloses: bool,
}

type Show = fn(&mut dyn Write, &Value) -> io::Result<()>;

const fn verb(name: &'static str, operation: &'static str, example: &'static str) -> Verb {
    Verb {
        name,
        operation,
        example,
        confirm: None,
        columns: &[],
        limit: None,
        positional: &[],
        profile: None,
        show: None,
        discloses: false,
    }
}

impl Verb {
    const fn confirmed(self, confirm: &'static str) -> Self {
        Self { confirm: Some(confirm), ..self }
    }

    const fn disclosing(self) -> Self {
        Self { discloses: true, ..self }
    }

    const fn columns(self, columns: &'static [&'static str]) -> Self {
        Self { columns, ..self }
    }
}

const NOUNS: &[Noun] = &[
    Noun {
        name: "table",
        about: "Manages registered tables",
        verbs: &[
            verb("put", "put_table", "weir table put claims.claims --location s3://lake/warehouse/claims"),
            verb("get", "get_table", "weir table get claims.claims"),
            verb("list", "list_tables", "weir table list").columns(&["name", "location", "owner", "updated_at"]),
            verb("update", "update_table", "weir table update claims.claims --owner data-team --unset description"),
            verb("delete", "delete_table", "weir table delete claims.claims").confirmed("its registration goes"),
            verb("scan", "scan_table", "weir table scan claims.claims"),
            verb("columns", "list_columns", "weir table columns claims.claims --state proposed").columns(&[
                "path",
                "type",
                "class",
                "role",
                "state",
                "evidence.confidence",
            ]),
            verb(
                "classify",
                "update_column",
                "weir table classify claims.claims member_id --class PHI --role direct --state confirmed",
            ),
            verb("classify-all", "update_columns", "weir table classify-all claims.claims --file decided.json"),
        ],
        beside: None,
    },
    Noun {
        name: "share",
        about: "Manages shares",
        verbs: &[
            verb("put", "put_share", "weir share put insurer --display-name 'Insurer data'"),
            verb("get", "get_share", "weir share get insurer"),
            verb("list", "list_shares", "weir share list").columns(&["name", "display_name", "updated_at"]),
            verb("update", "update_share", "weir share update insurer --description 'Refreshed nightly'"),
            verb("delete", "delete_share", "weir share delete insurer").confirmed("its name is gone for recipients"),
            verb("revoke", "revoke_share_from_recipient", "weir share revoke insurer acme --reason 'contract ended'")
                .confirmed("the recipient's access ends at once"),
            verb("revoke-all", "revoke_share", "weir share revoke-all insurer --reason 'withdrawn'")
                .confirmed("every recipient's access ends at once"),
        ],
        beside: None,
    },
    Noun {
        name: "object",
        about: "Puts tables and views into shares",
        verbs: &[
            verb("put", "put_object", "weir object put insurer claims claims --source-table claims.claims --history")
                .disclosing(),
            verb("get", "get_object", "weir object get insurer claims claims"),
            verb("list", "list_objects", "weir object list insurer").columns(&[
                "schema",
                "name",
                "source",
                "history",
                "cdf",
                "delivery",
                "on_schema_change",
            ]),
            verb("update", "update_object", "weir object update insurer claims claims --history=false").disclosing(),
            verb("delete", "delete_object", "weir object delete insurer claims claims")
                .confirmed("recipients no longer see it"),
            verb(
                "accept-schema",
                "accept_schema",
                "weir object accept-schema insurer claims claims --reason 'agreed with acme'",
            )
            .disclosing(),
        ],
        beside: None,
    },
    Noun {
        name: "view",
        about: "Drafts, compares, previews and publishes governed views",
        verbs: &[
            verb("put", "put_view", "weir view put claims.claims_fraud --file view.json"),
            verb("get", "get_view", "weir view get claims.claims_fraud"),
            verb("list", "list_views", "weir view list").columns(&["name", "source", "draft", "updated_at"]),
            verb("update", "update_view", "weir view update claims.claims_fraud --row-filter \"plan = 'gold'\""),
            verb("delete", "delete_view", "weir view delete claims.claims_fraud")
                .confirmed("its versions and their copies go"),
            verb("publish", "publish_view", "weir view publish claims.claims_fraud")
                .confirmed("what is published is never changed"),
            Verb {
                show: Some(view::show_preview),
                ..verb("preview", "preview_view", "weir view preview claims.claims_fraud --recipient acme --limit 5")
            },
            Verb {
                positional: &["from", "to"],
                show: Some(view::show_diff),
                ..verb("diff", "diff_view", "weir view diff claims.claims_fraud 1 2 --recipient acme")
            },
        ],
        beside: None,
    },
    Noun {
        name: "recipient",
        about: "Manages recipients",
        verbs: &[
            verb(
                "put",
                "put_recipient",
                "weir recipient put acme --display-name 'Acme Re' --contacts security=soc@acme.example",
            ),
            verb("get", "get_recipient", "weir recipient get acme"),
            verb("list", "list_recipients", "weir recipient list").columns(&[
                "name",
                "state",
                "display_name",
                "delivery",
                "updated_at",
            ]),
            verb(
                "update",
                "update_recipient",
                "weir recipient update acme --properties 'plans=[\"gold\"]' --unset contacts.sales",
            ),
            verb("delete", "delete_recipient", "weir recipient delete acme").confirmed("only its past stays on record"),
            verb("suspend", "suspend_recipient", "weir recipient suspend acme --reason 'incident 4711'")
                .confirmed("it is refused everything at once"),
            verb("resume", "resume_recipient", "weir recipient resume acme --reason 'incident 4711 closed'")
                .confirmed("it may read again what it is granted"),
            verb("offboard", "offboard_recipient", "weir recipient offboard acme --reason 'contract ended'")
                .confirmed("it ends for good, with its grants and tokens"),
            Verb {
                profile: Some(""),
                ..verb("profile", "get_profile", "weir recipient profile acme --profile acme.share")
            },
        ],
        beside: None,
    },
    Noun {
        name: "purpose",
        about: "Manages purposes: what data may be used for",
        verbs: &[
            verb(
                "put",
                "put_purpose",
                "weir purpose put fraud_analytics --description 'Detecting fraud in claims' --legal-basis 'contract 4711'",
            ),
            verb("get", "get_purpose", "weir purpose get fraud_analytics"),
            verb("list", "list_purposes", "weir purpose list").columns(&[
                "name",
                "description",
                "legal_basis",
                "parent",
            ]),
            verb("update", "update_purpose", "weir purpose update fraud_analytics --parent analytics"),
            verb("delete", "delete_purpose", "weir purpose delete fraud_analytics")
                .confirmed("only its past stays on record"),
        ],
        beside: None,
    },
    Noun {
        name: "use-case",
        about: "Manages use cases: what recipients do with data",
        verbs: &[
            verb(
                "put",
                "put_use_case",
                "weir use-case put triage --recipient acme --purpose fraud_analytics \
                 --decision-supported 'Which claims to look at' --sponsor 'head of claims'",
            ),
            verb("get", "get_use_case", "weir use-case get triage"),
            verb("list", "list_use_cases", "weir use-case list").columns(&["name", "recipient", "purpose", "sponsor"]),
            verb("update", "update_use_case", "weir use-case update triage --sponsor 'head of fraud'"),
            verb("delete", "delete_use_case", "weir use-case delete triage").confirmed("only its past stays on record"),
        ],
        beside: None,
    },
    Noun {
        name: "agreement",
        about: "Manages agreements: the contracts that grants stand on",
        verbs: &[
            verb(
                "put",
                "put_agreement",
                "weir agreement put acme-nda --recipient acme --type custom --document-uri clm://4711 \
                 --purposes fraud_analytics --valid-from 2026-12-01 --valid-until 2027-11-30",
            ),
            verb("get", "get_agreement", "weir agreement get acme-nda"),
            verb("list", "list_agreements", "weir agreement list").columns(&[
                "name",
                "recipient",
                "type",
                "state",
                "ends_at",
                "purposes",
            ]),
            verb("update", "update_agreement", "weir agreement update acme-nda --valid-until 2028-11-30"),
            verb("delete", "delete_agreement", "weir agreement delete acme-nda")
                .confirmed("only its past stays on record"),
            verb("submit", "submit_agreement", "weir agreement submit acme-nda --reason 'sent to legal'"),
            verb("activate", "activate_agreement", "weir agreement activate acme-nda --reason 'signed'"),
            verb("suspend", "suspend_agreement", "weir agreement suspend acme-nda --reason 'audit overdue'")
                .confirmed("grants that name it allow nothing until it is resumed"),
            verb("resume", "resume_agreement", "weir agreement resume acme-nda --reason 'audit passed'"),
            verb("terminate", "terminate_agreement", "weir agreement terminate acme-nda --reason 'cancelled'")
                .confirmed("it ends for good, and grants that name it allow nothing any more"),
        ],
        beside: None,
    },
    Noun {
        name: "token",
        about: "Issues, rotates and ends recipients' tokens",
        verbs: &[
            Verb {
                profile: Some("/profile"),
                ..verb("issue", "issue_token", "weir token issue acme --expires-in 90d --profile acme.share")
            },
            verb("get", "get_token", "weir token get acme 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22"),
            verb("list", "list_tokens", "weir token list acme").columns(&[
                "id",
                "credential",
                "state",
                "expires_at",
                "last_used_at",
            ]),
            Verb {
                profile: Some("/profile"),
                ..verb(
                    "rotate",
                    "rotate_token",
                    "weir token rotate acme 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22 --existing-token-expire-in 7d",
                )
            },
            verb(
                "revoke",
                "revoke_token",
                "weir token revoke acme 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22 --reason 'leaked'",
            )
            .confirmed("it ends at once"),
            verb("cancel", "cancel_activation", "weir token cancel acme 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22")
                .confirmed("the link hands out nothing any more"),
        ],
        beside: None,
    },
    Noun {
        name: "grant",
        about: "Grants shares to recipients, and revokes grants",
        verbs: &[
            verb(
                "create",
                "create_grant",
                "weir grant create --share insurer --recipient acme --purpose fraud_analytics --valid-until 2027-06-30",
            )
            .disclosing(),
            verb("get", "get_grant", "weir grant get 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22"),
            verb("list", "list_grants", "weir grant list --recipient acme --at 2026-11-01").columns(&[
                "id",
                "share",
                "recipient",
                "state",
                "valid_from",
                "valid_until",
                "purpose",
            ]),
            verb(
                "revoke",
                "revoke_grant",
                "weir grant revoke 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22 --reason 'contract ended'",
            )
            .confirmed("access ends at once"),
        ],
        beside: None,
    },
    Noun {
        name: "operator",
        about: "Manages operators and their tokens",
        verbs: &[
            verb("put", "put_operator", "weir operator put ann --role owner"),
            verb("get", "get_operator", "weir operator get ann"),
            verb("list", "list_operators", "weir operator list").columns(&[
                "name",
                "role",
                "disabled_at",
                "updated_at",
            ]),
            verb("update", "update_operator", "weir operator update ann --role auditor"),
            verb("delete", "delete_operator", "weir operator delete ann").confirmed("its tokens end"),
            verb("disable", "disable_operator", "weir operator disable ann --reason 'on leave'")
                .confirmed("it is refused everything at once"),
            verb("enable", "enable_operator", "weir operator enable ann --reason 'back'"),
            verb("issue-token", "issue_operator_token", "weir operator issue-token ann --expires-in 30d"),
            verb("list-tokens", "list_operator_tokens", "weir operator list-tokens ann").columns(&[
                "id",
                "state",
                "created_at",
                "expires_at",
            ]),
            verb(
                "revoke-token",
                "revoke_operator_token",
                "weir operator revoke-token ann 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22 --reason 'lost laptop'",
            )
            .confirmed("it ends at once"),
            verb("list-identities", "list_operator_identities", "weir operator list-identities").columns(&[
                "id",
                "name",
                "issuer",
                "disabled_at",
                "created_at",
            ]),
            verb(
                "get-identity",
                "get_operator_identity",
                "weir operator get-identity 0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22",
            ),
            verb(
                "disable-identity",
                "disable_operator_identity",
                "weir operator disable-identity 0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22 --reason 'left'",
            )
            .confirmed("it is refused everything at once"),
            verb(
                "enable-identity",
                "enable_operator_identity",
                "weir operator enable-identity 0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22 --reason 'back'",
            ),
            verb(
                "forget-identity",
                "delete_operator_identity",
                "weir operator forget-identity 0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22",
            )
            .confirmed("its next sign-in is a first one"),
        ],
        beside: Some(operator::Command::augment_subcommands),
    },
    Noun {
        name: "group",
        about: "Manages groups of principals, who have roles together",
        verbs: &[
            verb(
                "put",
                "put_group",
                r#"weir group put claims-team --members ann --members bob --bindings '[{"role": "owner", "scope": "domain:claims"}]'"#,
            ),
            verb("get", "get_group", "weir group get claims-team"),
            verb("list", "list_groups", "weir group list").columns(&["name", "members", "bindings", "updated_at"]),
            verb("update", "update_group", "weir group update claims-team --members ann"),
            verb("delete", "delete_group", "weir group delete claims-team").confirmed("its members lose its roles"),
        ],
        beside: None,
    },
    Noun {
        name: "copy",
        about: "Lists the copies that the server made for views, and compares them with their store",
        verbs: &[
            verb("list", "list_copies", "weir copy list --state failed").columns(&[
                "id",
                "view",
                "source",
                "state",
                "bytes",
                "rows",
                "recipients",
                "failure",
            ]),
            verb("reconcile", "reconcile_copies", "weir copy reconcile"),
        ],
        beside: None,
    },
    Noun {
        name: "notification",
        about: "Lists messages to webhooks, and queues undelivered ones again",
        verbs: &[
            Verb { limit: Some(100), ..verb("list", "list_notifications", "weir notification list --state dead") }
                .columns(&["id", "webhook", "type", "state", "attempts", "created_at", "failure"]),
            verb("retry", "retry_notification", "weir notification retry 0198c5a2-6f1e-7c3b-9d00-3a1b2c3d4e5f"),
        ],
        beside: None,
    },
    Noun {
        name: "job",
        about: "Lists background jobs, and retries dead ones",
        verbs: &[
            verb("list", "list_jobs", "weir job list --state dead")
                .columns(&["id", "kind", "key", "state", "attempts", "due_at", "failure"]),
            verb("retry", "retry_job", "weir job retry 0198c5a2-6f1e-7c3b-9d00-3a1b2c3d4e5f"),
        ],
        beside: None,
    },
    Noun {
        name: "audit",
        about: "Lists, verifies, exports and seals the audit trail",
        verbs: &[Verb {
            limit: Some(100),
            ..verb("list", "list_audit_events", "weir audit list --recipient acme --decision deny --since 2026-11-01")
                .columns(&["seq", "at", "actor.name", "action", "decision", "reason", "recipient", "share", "table"])
        }],
        beside: Some(audit::Command::augment_subcommands),
    },
];

/// Operations without a noun.
const ALONE: &[Verb] = &[
    verb("whoami", "whoami", "weir whoami"),
    verb("freeze", "freeze", "weir freeze --reason 'incident 4711'").confirmed("every recipient is refused at once"),
    verb("unfreeze", "unfreeze", "weir unfreeze --reason 'incident 4711 closed'")
        .confirmed("recipients may read again what they are granted"),
];

/// Operations whose commands have their own files.
const ELSEWHERE: &[(&str, &str)] = &[
    ("list_usage", "weir usage"),
    ("check_usage", "weir usage verify"),
    ("record_drill", "weir drill"),
    ("create_report", "weir report"),
    ("list_reports", "weir report list"),
    ("get_report", "weir report list"),
    ("get_report_file", "weir report"),
    ("preview_report", "weir report"),
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
    let nouns = NOUNS.iter().flat_map(|noun| noun.verbs.iter().map(|verb| (format!("{} ", noun.name), verb)));
    let verbs = nouns.chain(ALONE.iter().map(|verb| (String::new(), verb)));
    let found =
        verbs.filter_map(|(noun, verb)| Some(format!("weir {noun}{}{}", verb.name, arguments(verb.operation)?)));
    let elsewhere =
        ELSEWHERE.iter().filter_map(|(operation, command)| arguments(operation).map(|_| (*command).to_owned()));
    found.chain(elsewhere).next()
}

fn named<'a>(verbs: &'a [Verb], name: &str) -> Option<&'a Verb> {
    verbs.iter().find(|verb| verb.name == name)
}

fn noun(name: &str) -> Option<&'static Noun> {
    NOUNS.iter().find(|noun| noun.name == name)
}

/// Builds the commands of one noun. Only the requested noun is built, because this reads the API's document.
fn build_noun(command: clap::Command) -> clap::Command {
    let Some(noun) = noun(command.get_name()) else { return command };
    let command = command.subcommands(noun.verbs.iter().map(|verb| verb.command(clap::Command::new(verb.name))));
    noun.beside.map_or(command.clone(), |beside| beside(command))
}

fn build_alone(command: clap::Command) -> clap::Command {
    named(ALONE, command.get_name()).map_or(command.clone(), |verb| verb.command(command))
}

impl Subcommand for Command {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let nouns = NOUNS.iter().map(|noun| {
            let command = clap::Command::new(noun.name).about(noun.about);
            command.subcommand_required(true).arg_required_else_help(true).defer(build_noun)
        });
        let alone = ALONE.iter().map(|verb| clap::Command::new(verb.name).about(verb.about()).defer(build_alone));
        command.subcommands(nouns).subcommands(alone)
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        noun(name).is_some() || named(ALONE, name).is_some()
    }
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(ErrorKind::MissingSubcommand);
        let (name, arguments) = matches.subcommand().ok_or_else(missing)?;
        if let Some(verb) = named(ALONE, name) {
            return Ok(Self::Call(Box::new(Call::read(name, verb, arguments)?)));
        }
        let noun = noun(name).ok_or_else(missing)?;
        let (verb, of_verb) = arguments.subcommand().ok_or_else(missing)?;
        match (named(noun.verbs, verb), noun.name) {
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
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(name = "weir")]
    struct Arguments {
        #[command(subcommand)]
        command: Command,
    }

    fn verbs() -> impl Iterator<Item = &'static Verb> {
        NOUNS.iter().flat_map(|noun| noun.verbs).chain(ALONE)
    }

    #[test]
    fn every_operation_of_the_api_is_one_command() {
        let commands: Vec<&str> =
            verbs().map(|verb| verb.operation).chain(ELSEWHERE.iter().map(|(operation, _)| *operation)).collect();
        let unique: BTreeSet<&str> = commands.iter().copied().collect();
        assert_eq!(unique.len(), commands.len());
        assert_eq!(unique, Operation::ids().into_iter().collect());
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
        let mut all = <Arguments as clap::CommandFactory>::command();
        all.build();
        for noun in NOUNS {
            let built = all.find_subcommand(noun.name).unwrap();
            for verb in noun.verbs {
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

    #[test]
    fn every_example_is_a_command_that_is_understood() {
        for verb in verbs() {
            let words = shell_words(verb.example);
            let with_token = words.iter().map(String::as_str).chain(["--token", "t"]);
            let parsed = Arguments::try_parse_from(with_token).unwrap_or_else(|error| panic!("{error}"));
            let Command::Call(call) = parsed.command else { panic!("{} is no call", verb.example) };
            assert_eq!(call.operation(), verb.operation, "{}", verb.example);
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
        for verb in verbs().filter(|verb| Operation::find(verb.operation).unwrap().is_listing()) {
            assert!(!verb.columns.is_empty(), "{}", verb.operation);
        }
    }
}
