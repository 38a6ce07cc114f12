//! `weir operator`: the first admin, and a way back in, straight on the database.

use anyhow::Context;

use crate::{
    config::{DatabaseKind, Settings},
    domain::operators::Role,
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
    /// The operator's role: admin, share_owner, auditor or support
    #[arg(long, value_parser = role)]
    role: Role,
    /// How long the token lives, as in 30d, 12h, 5m or 90s; by default operators.token_default_seconds
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u64>,
}

fn role(text: &str) -> Result<Role, String> {
    let named = Role::parse(&text.replace('-', "_"));
    named.ok_or_else(|| format!("is no role; use {}", Role::ALL.map(Role::as_str).join(", ")))
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

/// Opens the database. A SQLite file that no server has made yet is made, as the server would.
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
        assert_eq!(role("share-owner"), Ok(Role::ShareOwner));
        assert_eq!(role("share_owner"), Ok(Role::ShareOwner));
        assert!(role("root").unwrap_err().contains("auditor"));
    }
}
