//! `weir operator`: creates the first admin, or restores access, directly in the database.

use anyhow::Context;

use crate::{
    config::{DatabaseKind, Settings},
    domain::{
        core::word::{AsWritten, Words},
        operators::principal::Role,
    },
    service::{core::clock::Clock, operators::create_operator},
    store::{Db, StoreError},
};

use super::{ConfigFile, operation::seconds, print};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Creates an operator directly in the database and prints its token, once; the server may be running
    #[command(after_help = "Example:\n  weir operator create ann --role admin --expires 30d")]
    Create(Create),
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    file: ConfigFile,
    /// The operator's name, under which the audit trail records its actions
    name: String,
    /// Its role: admin, owner, steward, compliance, policy_author, auditor, support or agent
    #[arg(long, value_parser = role)]
    role: AsWritten<Role>,
    /// How long the token works: a number of s, m, h or d, as in 30d; operators.token_default_seconds without it
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u64>,
}

fn role(text: &str) -> Result<AsWritten<Role>, String> {
    let role = AsWritten::new(&text.replace('-', "_"));
    match role.means() {
        Some(_) => Ok(role),
        None => Err(format!("is no role; use {}", Role::RANKED.map(Role::as_str).join(", "))),
    }
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => {
            let settings = create.file.load()?;
            let db = connect(&settings).await?;
            let (clock, name) = (Clock::system(), &create.name);
            let issued = create_operator(&db, &clock, &settings.operators, name, create.role, create.expires).await;
            db.close().await;
            let issued = issued.with_context(|| format!("operator `{name}` was not made"))?;
            Ok(print::line(issued.secret.reveal())?)
        }
    }
}

/// Opens the database. A missing SQLite file is created, as the server would do.
async fn connect(settings: &Settings) -> anyhow::Result<Db> {
    let db = Db::connect(settings.database.url.expose(), 1).await?;
    match db.check_schema().await {
        Err(StoreError::PendingMigrations { .. }) if settings.database.kind() == Some(DatabaseKind::Sqlite) => {
            let _no_server = db.lock_server()?;
            db.migrate().await?;
        }
        checked => checked?,
    }
    Ok(db)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_with_either_kind_of_dash() {
        for text in ["share-owner", "share_owner", "owner"] {
            assert_eq!(role(text), Ok(Role::Owner.into()));
        }
        assert!(role("root").unwrap_err().contains("auditor"));
    }
}
