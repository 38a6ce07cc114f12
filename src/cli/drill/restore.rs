//! Takes a backup, revokes something, and restores the backup beside the running database.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, bail};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use uuid::Uuid;

use crate::{
    app::recover_copy,
    cli::{ConfigFile, api::Client, audit, failure, print},
    config::{DatabaseKind, Settings},
    domain::{audit::drill::DrillKind, core::secret::Secret},
    service::audit::verify::{Since, verify_database},
    store::Db,
};

use super::{Common, Findings, canary, conclude, scratch::Scratch};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// A folder with room for a copy of the database; by default the machine's folder for temporary files
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = arguments.common.server.client()?;
    let settings = arguments.file.load()?;
    if settings.audit.export.url.is_none() {
        bail!("nobody can say what a restored database has forgotten without audit.export.url; set it, and try again");
    }
    let scratch = Scratch::new(arguments.scratch.as_deref())?;
    canary::prepare(&client).await?;
    let place = match settings.database.kind() {
        Some(DatabaseKind::Postgres) => Place::Postgres(Postgres::create(&settings)?),
        Some(DatabaseKind::Sqlite) | None => Place::Sqlite,
    };
    let output = arguments.common.output;
    conclude(DrillKind::Restore, &client, output, async |findings| {
        rehearse(&client, &settings, &place, &scratch, findings).await
    })
    .await
}

/// The place where the copy is restored.
enum Place {
    /// A file in the scratch folder.
    Sqlite,
    Postgres(Postgres),
}

async fn rehearse(
    client: &Client,
    settings: &Settings,
    place: &Place,
    scratch: &Scratch,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let token = canary::issue(client).await?;
    let token_id: Uuid = token.id.parse().context("the server's answer names no token")?;
    let kept = scratch.path().join("backup");
    let began = Instant::now();
    match place {
        Place::Sqlite => {
            let db = Db::connect_read_only(settings.database.url.expose()).await?;
            db.copy_into(&kept).await?;
            db.close().await;
        }
        Place::Postgres(postgres) => postgres.dump(&kept)?,
    }
    findings.measure("backed_up", began.elapsed());

    // The revocation comes after the backup, which does not contain it.
    canary::revoke_token(client, &token.id).await?;
    let began = Instant::now();
    let (audit_sealer, db) = audit::audit_sealer(settings).await?;
    let sealed = audit_sealer.seal().await;
    db.close().await;
    sealed.context("the trail could not be sealed and exported")?;
    findings.measure("sealed", began.elapsed());

    let began = Instant::now();
    let url = match place {
        Place::Sqlite => Secret::new(format!("sqlite://{}", kept.display())),
        Place::Postgres(postgres) => {
            postgres.restore(&kept)?;
            postgres.url()?
        }
    };
    let mut copy = settings.clone();
    (copy.database.url, copy.database.migrate_url) = (url, None);
    let (service, recovery) = recover_copy(&copy).await?;
    findings.measure("recovered", began.elapsed());
    match recovery {
        None => findings.fault("the restored copy was not found to be behind its audit export"),
        Some(recovery) => {
            let events = u64::try_from(recovery.through - recovery.after).unwrap_or_default();
            findings.count("events_recovered", events);
            if recovery.is_fork {
                findings.fault("the restored copy's trail is not the export's");
            }
        }
    }
    if service.core.db.find_freeze().await?.is_none() {
        findings.fault("the restored copy is not frozen");
    }
    match service.core.db.find_token(token_id).await? {
        None => findings.fault("the restored copy does not know the canary's token; is it this server's database?"),
        Some(token) if token.revoked_at.is_none() => {
            findings.fault("the token that was revoked after the backup works again in the restored copy");
        }
        Some(_) => {}
    }
    let began = Instant::now();
    let keys = audit::own_keys(settings)?;
    if let Err(error) = verify_database(&service.core.db, &keys, Since::Beginning, None, &mut |_| ()).await {
        findings.fault(format!("the restored copy does not verify: {error}"));
    }
    findings.measure("verified", began.elapsed());
    service.core.audit_writer.finish().await;
    service.core.db.close().await;
    Ok(())
}

/// A separate database on the server of the backed-up one; dropped with the value.
struct Postgres {
    /// The backed-up database, with its owner's URL.
    source: Url,
    /// Not part of the URL, because other users can see command lines.
    password: Option<String>,
    name: String,
    is_made: bool,
}

impl Postgres {
    /// Creates it, empty.
    fn create(settings: &Settings) -> anyhow::Result<Self> {
        let url = settings.database.migrate_url.as_ref().unwrap_or(&settings.database.url);
        let mut source = Url::parse(url.expose()).context("database.url is no URL")?;
        let decode = |password: &str| percent_decode_str(password).decode_utf8_lossy().into_owned();
        let password = source.password().map(decode);
        if source.set_password(None).is_err() {
            bail!("database.url names no host; write it as `postgres://USER@HOST/DATABASE`");
        }
        for name in ["pg_dump", "pg_restore", "createdb", "dropdb"] {
            program(name)?;
        }
        let name = format!("weir_drill_{}", Uuid::new_v4().simple());
        let mut postgres = Self { source, password, name, is_made: false };
        let maintenance = format!("--maintenance-db={}", libpq(&postgres.source));
        let made = postgres.run("createdb", &["--template=template0", &maintenance, &postgres.name]);
        made.context(
            "a scratch database cannot be made; give the role of database.migrate_url (or database.url) CREATEDB, or \
             restore by hand as docs/operations.md says",
        )?;
        postgres.is_made = true;
        Ok(postgres)
    }

    fn dump(&self, file: &Path) -> anyhow::Result<()> {
        let file = format!("--file={}", file.display());
        self.run("pg_dump", &["--format=custom", &file, libpq(&self.source).as_str()])
    }

    fn restore(&self, file: &Path) -> anyhow::Result<()> {
        let (target, file) = (format!("--dbname={}", libpq(&self.target())), file.display().to_string());
        self.run("pg_restore", &["--no-owner", "--no-privileges", "--exit-on-error", &target, &file])
    }

    fn target(&self) -> Url {
        let mut url = self.source.clone();
        url.set_path(&self.name);
        url
    }

    fn url(&self) -> anyhow::Result<Secret> {
        let mut url = self.target();
        match url.set_password(self.password.as_deref()) {
            Ok(()) => Ok(Secret::new(url)),
            Err(()) => bail!("database.url takes no password"),
        }
    }

    fn run(&self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(program(name)?);
        command.args(arguments).envs(self.password.as_ref().map(|password| ("PGPASSWORD", password)));
        let output = command.output().with_context(|| format!("`{name}` cannot be run"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.lines().next().unwrap_or("it failed without a word"));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if !self.is_made {
            return;
        }
        let maintenance = format!("--maintenance-db={}", libpq(&self.source));
        if let Err(error) = self.run("dropdb", &["--if-exists", "--force", &maintenance, &self.name]) {
            print::note(format_args!(
                "the database `{}` cannot be dropped: {}; drop it, it is a copy",
                self.name,
                failure::said(&error)
            ));
        }
    }
}

/// Rewrites a URL for PostgreSQL's own programs, which know fewer parameters than the server's driver, and under other
/// names.
fn libpq(url: &Url) -> Url {
    let known = url.query_pairs().filter_map(|(name, value)| match name.as_ref() {
        "statement-cache-capacity" => None,
        name if name.starts_with("options[") => None,
        "ssl-ca" => Some(("sslrootcert".to_owned(), value.into_owned())),
        name => Some((name.replace('-', ""), value.into_owned())),
    });
    let known: Vec<(String, String)> = known.collect();
    let mut url = url.clone();
    url.set_query(None);
    if !known.is_empty() {
        url.query_pairs_mut().extend_pairs(known);
    }
    url
}

/// Finds a program of PostgreSQL, the newest version if several are installed.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    installed.sort();
    installed.reverse();
    let found = on_path.unwrap_or_default().into_iter().chain(installed).map(|folder| folder.join(name));
    found.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "`{name}` is not installed here; install PostgreSQL's client programs, or restore by hand as \
                 docs/operations.md says"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_postgresql_are_told_what_they_know() {
        for (url, told) in [
            ("postgres://weir@db/weir", "postgres://weir@db/weir"),
            (
                "postgres://weir@db/weir?ssl-mode=verify-full&ssl-ca=%2Fca.pem&statement-cache-capacity=100",
                "postgres://weir@db/weir?sslmode=verify-full&sslrootcert=%2Fca.pem",
            ),
            ("postgres://weir@db/weir?options[a]=b", "postgres://weir@db/weir"),
        ] {
            assert_eq!(libpq(&Url::parse(url).unwrap()).as_str(), told);
        }
    }
}
