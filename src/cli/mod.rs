//! The command line: the clap tree, one file per command. Never holds a rule of its own.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by policy. An error is one line that says what to do next;
//! a configuration with several problems has a line for each. See [`failure`].

mod api;
mod audit;
mod call;
mod config;
mod conformance;
mod demo;
mod discover;
mod doctor;
mod drill;
mod failure;
mod health;
mod import;
mod keys;
mod migrate;
mod notify;
mod nouns;
mod operation;
mod operator;
mod print;
mod report;
mod serve;
mod trust;
mod usage;
mod view;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    app,
    config::{Problems, Settings, Sources},
};

/// Weir shares Delta tables over the Delta Sharing protocol: every access is decided, limited in time, revocable and
/// recorded.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates a demo, the tables of an insurer shared with two recipients, and serves it
    Demo(demo::Arguments),
    /// Runs the server
    Serve(serve::Arguments),
    /// Applies pending database migrations
    Migrate(ConfigFile),
    #[command(flatten)]
    Nouns(nouns::Command),
    /// Shows who read how much, summed from the audit trail
    Usage(Box<usage::Arguments>),
    /// Makes a month's audit report by recipient and dataset, or verifies one without a server
    Report(Box<report::Arguments>),
    /// Lists root keys, or makes a new one
    #[command(subcommand)]
    Keys(keys::Command),
    /// Tests whether webhooks receive messages
    #[command(subcommand)]
    Notify(notify::Command),
    /// Checks or prints the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Imports the shares of a Delta Sharing reference server
    ///
    /// Shares, schemas and tables keep their names, and files keep the ids that running streams know. Nothing is
    /// created unless everything can be, and a repeated run creates only what is new. No recipient is granted anything
    /// without --recipient. On a terminal, the command shows what would be newly disclosed, and to which recipients,
    /// and asks.
    Import(import::Arguments),
    /// Finds Delta tables in a storage or a Unity Catalog server, and drafts their registration
    Discover(Box<discover::Arguments>),
    /// Checks any Delta Sharing server from a recipient's point of view
    Conformance(conformance::Arguments),
    /// Checks everything that a server depends on, and says how to fix each fault
    Doctor(doctor::Arguments),
    /// Rehearses an emergency with a canary recipient, and records the outcome
    #[command(subcommand)]
    Drill(drill::Command),
    /// Checks whether a running server is alive, for container health checks
    Health(health::Arguments),
    /// Prints a completion script for a shell
    #[command(alias = "completion", after_help = "Example:\n  weir completions bash > /etc/bash_completion.d/weir")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The configuration file to use.
#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file; `weir config show` lists every key
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> anyhow::Result<Settings> {
        Ok(self.read()?)
    }

    /// Loads the settings if a server would start with them; otherwise returns everything that prevents it.
    fn check(&self) -> Result<Settings, Problems> {
        let (settings, mut problems) = Settings::examine(self.sources());
        if let Some(settings) = &settings {
            app::check(settings, self.config.clone(), &mut problems);
        }
        match settings.filter(|_| problems.is_empty()) {
            Some(settings) => Ok(settings),
            None => Err(problems),
        }
    }

    fn read(&self) -> Result<Settings, Problems> {
        Settings::load(self.sources())
    }

    /// The file, and the environment variables that concern the configuration.
    fn sources(&self) -> Sources {
        // Only Weir's variables matter; a variable that is not Unicode is not one of them.
        let ours =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        let env = ours.filter(|(key, _)| key.starts_with("WEIR_")).collect();
        Sources { file: self.config.clone(), env }
    }
}

/// Parses the command line, runs the command, and returns its exit code.
pub fn main() -> ExitCode {
    let manner = failure::Manner::of(std::env::args_os());
    match Arguments::try_parse() {
        Ok(arguments) => run(arguments.command).map_or_else(|error| manner.tell(&error), |()| ExitCode::SUCCESS),
        Err(error) => manner.tell_misuse(&error),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(arguments) => block_on(demo::run(arguments)),
        Command::Serve(arguments) => block_on(serve::run(arguments)),
        Command::Migrate(file) => block_on(migrate::run(file)),
        Command::Nouns(nouns::Command::Call(call)) => block_on(call.run()),
        Command::Nouns(nouns::Command::Audit(command)) => block_on(audit::run(command)),
        Command::Nouns(nouns::Command::Operator(command)) => block_on(operator::run(command)),
        Command::Usage(arguments) => block_on(usage::run(*arguments)),
        Command::Report(arguments) => block_on(report::run(*arguments)),
        Command::Keys(command) => block_on(keys::run(command)),
        Command::Notify(command) => block_on(notify::run(command)),
        Command::Config(command) => config::run(command),
        Command::Import(arguments) => block_on(import::run(arguments)),
        Command::Discover(arguments) => block_on(discover::run(*arguments)),
        Command::Conformance(arguments) => block_on(conformance::run(arguments)),
        Command::Doctor(arguments) => block_on(doctor::run(arguments)),
        Command::Drill(command) => block_on(drill::run(command)),
        Command::Health(arguments) => block_on(health::run(arguments)),
        Command::Completions { shell } => {
            // The script is generated in memory first, because writing it directly panics on errors.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "weir", &mut script);
            Ok(print::out().write_all(&script)?)
        }
    }
}

/// How long interrupted calls may delay the end of the process.
const LAST_CALLS: std::time::Duration = std::time::Duration::from_secs(1);

fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("the async runtime cannot be started")?;
    let outcome = runtime.block_on(command);
    // A file system call that never returns must not keep the process alive.
    runtime.shutdown_timeout(LAST_CALLS);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tree_of_commands_is_sound() {
        Arguments::command().debug_assert();
    }
}
