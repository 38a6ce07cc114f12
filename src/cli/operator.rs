//! `weir operator`: the first admin, and a way back in, straight on the database.

use anyhow::Context;

use super::ConfigFile;
use crate::{
    config::{DatabaseKind, Settings},
    domain::operator::Role,
    service::{clock::Clock, operators::create_operator},
    store::{Db, StoreError},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Makes an operator, and prints its token, once; works beside a running server
    Create(Create),
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    file: ConfigFile,
    /// Its name, under which the audit trail records what it does
    name: String,
    /// What it is there for: admin, share_owner, auditor or support
    #[arg(long, value_parser = role)]
    role: Role,
    /// How long the token works: a number of s, m, h or d, as in 30d; operators.token_default_seconds without it
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u64>,
}

fn role(text: &str) -> Result<Role, String> {
    let named = Role::parse(&text.replace('-', "_"));
    named.ok_or_else(|| format!("is no role; use {}", Role::ALL.map(Role::as_str).join(", ")))
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write it as a number of s, m, h or d, as in 30d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(factor).ok_or_else(wrong)
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
            println!("{}", issued.secret.reveal());
            Ok(())
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
    fn times_are_a_number_and_a_unit() {
        for (text, read) in [("30d", 2_592_000), ("12h", 43_200), ("5m", 300), ("90s", 90)] {
            assert_eq!(seconds(text), Ok(read));
        }
        for text in ["", "d", "30", "-1d", "1.5h", "30 d", "30w", "99999999999999999999d", "9999999999999999999d", "3ö"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn roles_are_read_with_either_kind_of_dash() {
        assert_eq!(role("share-owner"), Ok(Role::ShareOwner));
        assert_eq!(role("share_owner"), Ok(Role::ShareOwner));
        assert!(role("root").unwrap_err().contains("auditor"));
    }
}
