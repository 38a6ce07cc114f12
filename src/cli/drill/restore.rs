//! A backup is taken, something is revoked, and the backup restored: beside the database, which goes on.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, bail};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use uuid::Uuid;

use super::{
    super::{ConfigFile, api::Client, audit},
    Common, Findings, canary, conclude,
    scratch::Scratch,
};
use crate::{
    app::recover_copy,
    config::{DatabaseKind, Settings},
    domain::{drill::DrillKind, secret::Secret},
    service::verification::{Since, verify_database},
    store::Db,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// A folder with room for a copy of the database; where this machine has its temporary files without it
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
    let place = match settings.database.kind() {
        Some(DatabaseKind::Postgres) => Place::Postgres(Postgres::create(&settings)?),
        Some(DatabaseKind::Sqlite) | None => Place::Sqlite,
    };
    canary::prepare(&client).await?;
    let output = arguments.common.output;
    conclude(DrillKind::Restore, &client, output, async |findings| {
        rehearse(&client, &settings, &place, &scratch, findings).await
    })
    .await
}

/// Where the copy is restored.
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

    // Tightened after the backup, which knows nothing of it.
    canary::revoke_token(client, &token.id).await?;
    let began = Instant::now();
    let (notary, db) = audit::notary(settings).await?;
    let sealed = notary.seal().await;
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
    if service.db.find_freeze().await?.is_none() {
        findings.fault("the restored copy is not frozen");
    }
    match service.db.find_token(token_id).await? {
        None => findings.fault("the restored copy does not know the canary's token; is it this server's database?"),
        Some(token) if token.revoked_at.is_none() => {
            findings.fault("the token that was revoked after the backup works again in the restored copy");
        }
        Some(_) => {}
    }
    let began = Instant::now();
    let keys = audit::own_keys(settings)?;
    if let Err(error) = verify_database(&service.db, &keys, Since::Beginning, None, &mut |_| ()).await {
        findings.fault(format!("the restored copy does not verify: {error}"));
    }
    findings.measure("verified", began.elapsed());
    service.trail.finish().await;
    service.db.close().await;
    Ok(())
}

/// A database of its own on the server of the one that is backed up; dropped with the value.
struct Postgres {
    /// The database that is backed up, as its owner reaches it.
    source: Url,
    /// Kept off command lines, which others can see.
    password: Option<String>,
    name: String,
}

impl Postgres {
    /// Makes it, empty.
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
        let postgres = Self { source, password, name };
        let maintenance = format!("--maintenance-db={}", postgres.source);
        let made =
            postgres.run("createdb", &[maintenance.as_ref(), "--template=template0".as_ref(), postgres.name.as_ref()]);
        made.context(
            "a scratch database cannot be made; give the role of database.migrate_url (or database.url) CREATEDB, or \
             restore by hand as docs/operations.md says",
        )?;
        Ok(postgres)
    }

    fn dump(&self, file: &Path) -> anyhow::Result<()> {
        let file = format!("--file={}", file.display());
        self.run("pg_dump", &["--format=custom".as_ref(), file.as_ref(), self.source.as_str().as_ref()])
    }

    fn restore(&self, file: &Path) -> anyhow::Result<()> {
        let target = format!("--dbname={}", self.target());
        let flags = ["--no-owner", "--no-privileges", "--exit-on-error", target.as_str()];
        let arguments: Vec<&OsStr> = flags.iter().map(OsStr::new).chain([file.as_os_str()]).collect();
        self.run("pg_restore", &arguments)
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

    fn run(&self, name: &str, arguments: &[&OsStr]) -> anyhow::Result<()> {
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
        let maintenance = format!("--maintenance-db={}", self.source);
        let arguments = ["--if-exists", "--force", maintenance.as_str(), self.name.as_str()].map(OsStr::new);
        if let Err(error) = self.run("dropdb", &arguments) {
            eprintln!("weir: the database `{}` cannot be dropped: {error:#}; drop it, it is a copy", self.name);
        }
    }
}

/// A program of PostgreSQL, of the newest version where several are installed.
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
