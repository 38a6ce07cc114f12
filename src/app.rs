//! Builds the server from the settings; the only module that knows every other.
//!
//! Never here: rules of the product.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::time::timeout;

use crate::{
    config::{
        DatabaseKind, Problems, Settings, StorageSettings,
        keys::{check_keys as check_key_files, load_keys, read_keys},
    },
    domain::core::seal::{RootKey, SealPurpose, Sealer},
    engine::{Engine, EngineSettings},
    geography::{Countries, CountryFile},
    http::{
        Faces,
        admin::Admin,
        listen::{Listener, Listeners, StopSignals, check_tls, most_connections},
        middleware::{Draining, Limits, Proxies, RequestLayer},
    },
    identity::{Identities, IdentityError, Longest},
    lake::{Lake, LakeSettings},
    notify::Messenger,
    service::{
        Core, Dependencies, Services,
        audit::{
            error::AuditError,
            recover::{Recovery, RecoveryError},
            seal::AuditSealer,
            write::AuditWriter,
        },
        catalog::schema_holds::SchemaHolds,
        core::{
            CoreParts,
            clock::Clock,
            keys::{KeyringError, activate_key, check_keys, pseudonym_key},
            lookup_batcher::LookupBatcher,
            places::{PlaceLimits, Places},
            rate_limiter::RateLimiter,
            vitals::Vitals,
        },
        insight::signals::Signals,
        materialize::MaterializerParts,
        operators::sign_in::SignIn,
        sharing::{first_reads::FirstReads, preparers::Preparers},
    },
    storage::{Archive, CopyRoot, StorageError, Storages},
    store::{Db, ServerLock, StoreError, SurrogateStore},
    telemetry::{Metrics, error_chain},
    unity::UnityServers,
    worker::{Tasks, Worker},
};

/// How long a stopping server waits for its database connections to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How many tables are read at a time to compare their locations with that of copies.
const TABLES_CHECKED_AT_ONCE: u32 = 1_000;

/// How long a request waits for a place before it is refused.
const PATIENCE: Duration = Duration::from_secs(2);
/// One in this many connections is reserved for operators if they have an address of their own.
const ADMIN_CONNECTIONS: usize = 8;

/// A server that is built and has its sockets but does not serve yet.
#[derive(Debug)]
pub struct App {
    /// The use cases, for commands that also call them.
    pub service: Services,
    /// The background tasks.
    pub tasks: Tasks,
    listeners: Listeners,
    draining: Draining,
    drain: Duration,
    grace: Duration,
    /// Held as long as the server lives.
    _lock: ServerLock,
}

/// Whether a start applies pending migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// On SQLite only, where no other server is affected.
    IfEmbedded,
    /// On every database.
    Always,
}

impl App {
    /// Builds the server: keys, database, storages, lake, trail, listeners. Storages must not reach `config_file`, the
    /// keys or the database.
    pub async fn build(settings: &Settings, config_file: Option<PathBuf>, migrate: Migrate) -> anyhow::Result<Self> {
        Self::build_by(Clock::system(), settings, config_file, migrate).await
    }

    /// Does the same as [`Self::build`] with the given clock.
    pub async fn build_by(
        clock: Clock,
        settings: &Settings,
        config_file: Option<PathBuf>,
        migrate: Migrate,
    ) -> anyhow::Result<Self> {
        let Foundation { service, keyring, lock } = stand(clock, settings, config_file, migrate).await?;
        let draining = Draining::default();
        let listeners = Listeners::bind(listeners(settings, &faces(settings, &service, &draining)))?;
        recover(&service).await?;
        keyring.activate(&service).await?;
        // Whether that is recorded changes nothing of what is served.
        if let Err(error) = service.core.remember_safeguards(&settings.safeguards()).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the settings that are off could not be recorded"
            );
        }
        // No other server could take over from the only one on a SQLite file.
        let drain =
            if settings.database.kind() == Some(DatabaseKind::Sqlite) { 0 } else { settings.server.drain_seconds };
        let (drain, grace) = (Duration::from_secs(drain), Duration::from_secs(settings.server.shutdown_grace_seconds));
        let tasks = Tasks::of(&service);
        Ok(Self { service, tasks, listeners, draining, drain, grace, _lock: lock })
    }

    /// The addresses that the server listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// Serves until told to stop. Then it reports that it is not ready, keeps answering until load balancers have
    /// noticed or it is told again, and lets running answers finish.
    pub async fn serve(self, mut signals: StopSignals) -> anyhow::Result<()> {
        let worker = Worker::start(&self.tasks);
        let stop = async {
            signals.next().await;
            self.draining.begin();
            if !self.drain.is_zero() {
                tracing::info!(
                    drain_seconds = self.drain.as_secs(),
                    "draining; not ready any more, and still answering"
                );
                tokio::select! {
                    () = tokio::time::sleep(self.drain) => {}
                    () = signals.next() => {}
                }
            }
            tracing::info!("stopping; running answers may finish");
        };
        let outcome = self.listeners.serve(stop, self.grace).await;
        // The last answers' events are written and sealed before the database closes.
        worker.finish().await;
        let close = async {
            self.service.materializer.close().await;
            self.service.core.db.close().await;
        };
        if timeout(CLOSE_WITHIN, close).await.is_err() {
            tracing::warn!("the database does not answer; its connections are left to it");
        }
        Ok(outcome?)
    }
}

/// A server without its sockets.
struct Foundation {
    service: Services,
    keyring: Keyring,
    lock: ServerLock,
}

/// The keys of a server, and the keys that its database knew before the start.
struct Keyring {
    keys: Vec<RootKey>,
    known: Vec<String>,
}

impl Keyring {
    /// Records the active key if it is new. Runs after recovery from the audit export, since an event written before
    /// would fork the trail.
    async fn activate(self, service: &Services) -> anyhow::Result<()> {
        Ok(activate_key(&service.core.db, &service.core.clock, &self.keys, &self.known).await?)
    }
}

/// Builds everything but the sockets. Writes nothing to the audit trail.
async fn stand(
    clock: Clock,
    settings: &Settings,
    config_file: Option<PathBuf>,
    migrate: Migrate,
) -> anyhow::Result<Foundation> {
    let kind = settings.database.kind().context("database.url is neither sqlite:// nor postgres://")?;
    let keys = load_keys(&settings.secrets, kind)?;
    let db = connect(settings, migrate == Migrate::Always || kind == DatabaseKind::Sqlite).await?;
    let lock = db.lock_server()?;
    db.end_claims_of_the_dead().await?;
    let known = check_keys(&db, &keys).await?;
    for fault in db.find_durability_faults().await? {
        tracing::error!("the database may lose what it has confirmed: {fault}");
    }

    let guarded = guarded(settings, config_file);
    let storages = Storages::open(&settings.storage, &guarded).map_err(|problems| unopened("storages", &problems))?;
    check_export_apart(settings, &storages)?;
    let audit_sealer =
        AuditSealer::new(db.clone(), clock.clone(), &keys, open_archive(settings)?, settings.audit.clone())?;
    let metrics = Arc::new(Metrics::new(storages.iter().map(|storage| storage.name())));
    let lake = Lake::new(LakeSettings {
        cache_bytes: settings.lake.cache_bytes,
        max_commit_bytes: settings.lake.max_commit_bytes,
        ..LakeSettings::default()
    })
    .counted_by(Arc::clone(&metrics));
    let signals = Arc::new(Signals::new(settings.notify.clone(), &settings.audit)?);
    metrics.expect_webhooks(signals.webhooks());
    let vitals = Vitals::default();
    let core = Core::from(CoreParts {
        audit_writer: AuditWriter::start(
            db.clone(),
            clock.clone(),
            Arc::clone(&metrics),
            Arc::clone(&signals),
            &vitals,
        ),
        sign_in: Arc::new(SignIn::new(
            settings.bootstrap_token.as_ref(),
            settings.operators.clone(),
            &settings.governance,
        )),
        pages: Sealer::new(&keys, SealPurpose::PageToken),
        leases: audit_sealer.leases().clone(),
        geo_mode: settings.geography.mode,
        countries: settings.geography.database_file.as_deref().map(Countries::open).transpose()?.map(Arc::new),
        db,
        clock,
        signals,
        vitals,
        metrics,
    });
    let service = Services::new(Dependencies {
        materializer: materializer(settings, &core.db, &keys, &known).await?,
        lookups: LookupBatcher::of(&core.db, &core.vitals),
        preparers: Preparers::default(),
        files: Sealer::new(&keys, SealPurpose::FileUrl),
        first_reads: Arc::new(FirstReads::default()),
        rate_limiter: Arc::new(RateLimiter::default()),
        schema_holds: Arc::new(SchemaHolds::default()),
        identities: identities(settings)?,
        settings: Arc::new(settings.sharing.clone()),
        governance: settings.governance,
        hooks: settings.hooks.clone(),
        usage: settings.usage.clone(),
        reports: settings.reports.clone(),
        public_url: settings.server.public_url.trim_end_matches('/').into(),
        storages: Arc::new(storages),
        unity: UnityServers::new(&settings.discovery)?,
        lake,
        audit_sealer,
        core,
    });
    Ok(Foundation { service, keyring: Keyring { keys, known }, lock })
}

/// Adds every fault of `settings` that a start would refuse to `problems`, without network calls and without creating
/// anything. Settings with a known problem are not checked again.
pub fn check(settings: &Settings, config_file: Option<PathBuf>, problems: &mut Problems) {
    let kind = settings.database.kind();
    if let Some(file) = settings.database.sqlite_file().filter(|_| !problems.concern("database")) {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            problems.add("database.url", format!("`{}` is no folder; make it, or name another file", folder.display()));
        }
    }
    if !problems.concern("secrets") {
        for (i, fault) in check_key_files(&settings.secrets, kind) {
            problems.add(format!("secrets.key_files[{i}]"), fault.to_string());
        }
        if let (Some(pinned), Ok(keys)) = (&settings.views.pseudonym_key, read_keys(&settings.secrets))
            && !problems.concern("views.pseudonym_key")
            && keys.iter().all(|key| key.fingerprint() != *pinned)
        {
            problems.add("views.pseudonym_key", KeyringError::NoPseudonymKey(pinned.clone()).to_string());
        }
    }
    if let Some(files) = settings.server.tls().filter(|_| !problems.concern("server.tls"))
        && let Err(error) = check_tls(&files)
    {
        problems.add("server.tls", error.to_string());
    }
    check_places(settings, &guarded(settings, config_file), problems);
    let messenger = Messenger::new(&settings.notify.webhook).map(drop);
    if let Some(error) = messenger.err().filter(|_| !problems.concern("notify")) {
        problems.add("notify.webhook", error.to_string());
    }
    if let Some(file) = settings.geography.database_file.as_deref().filter(|_| !problems.concern("geography"))
        && let Err(error) = CountryFile::read(file)
    {
        problems.add("geography.database_file", error_chain(&error));
    }
    if let Some(error) = identities(settings).err().filter(|_| !problems.concern("identity")) {
        problems.add("identity", error.to_string());
    }
}

/// Builds the issuers whose JWTs are accepted, with the longest lifetimes allowed.
fn identities(settings: &Settings) -> Result<Identities, IdentityError> {
    let (recipients, operators) = (settings.sharing.token_max_seconds, settings.operators.token_max_seconds);
    Identities::new(&settings.identity, Longest { recipients, operators })
}

/// Checks the places of tables, of copies, and of the audit export.
fn check_places(settings: &Settings, guarded: &[PathBuf], problems: &mut Problems) {
    let before = problems.iter().count();
    for (i, storage) in settings.storage.iter().enumerate() {
        let key = format!("storage[{i}]");
        if !problems.concern(&key) {
            let errors = Storages::open(std::slice::from_ref(storage), guarded).err().unwrap_or_default();
            errors.iter().for_each(|error| problems.add(&*key, error.to_string()));
        }
    }
    if problems.iter().count() == before && !problems.concern("storage") {
        match Storages::open(&settings.storage, guarded) {
            Ok(storages) => {
                if let Err(error) = check_export_apart(settings, &storages) {
                    problems.add("audit.export.url", error.to_string());
                }
            }
            Err(errors) => errors.iter().for_each(|error| problems.add("storage", error.to_string())),
        }
    }
    for (key, target, check) in [
        ("views", settings.views.target(), CopyRoot::check as fn(&StorageSettings) -> Result<(), Vec<StorageError>>),
        ("audit.export", settings.audit.export.target(), Archive::check),
    ] {
        if let Some(target) = target.filter(|_| !problems.concern(key)) {
            let errors = check(&target).err().unwrap_or_default();
            errors.iter().for_each(|error| problems.add(key, error.to_string()));
        }
    }
}

/// Recovers a restored copy of the database from its audit export as a start does, without serving it. Returns what a
/// start would have found.
pub async fn recover_copy(settings: &Settings) -> anyhow::Result<(Services, Option<Recovery>)> {
    let Foundation { service, keyring, lock: _lock } =
        stand(Clock::system(), settings, None, Migrate::IfEmbedded).await?;
    let recovery = service.recover().await.context("the copy and the audit export do not fit together")?;
    keyring.activate(&service).await?;
    Ok((service, recovery))
}

/// Recovers a database that is behind its audit export, and freezes everything.
async fn recover(service: &Services) -> anyhow::Result<()> {
    let recovery = match service.recover().await {
        Ok(None) => return Ok(()),
        Ok(Some(recovery)) => recovery,
        Err(RecoveryError::Audit(AuditError::Storage(error))) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                error,
                "the audit export cannot be read, so that nobody knows whether the database is behind it"
            );
            return Ok(());
        }
        Err(error) => return Err(error).context("the database and its audit export do not fit together"),
    };
    let Recovery { after, through, is_fork, revoked, lost } = recovery;
    let next = if is_fork {
        "its trail went on by itself: name another audit.export.url"
    } else {
        "the trail was taken over from the export"
    };
    tracing::error!(
        after,
        through,
        revoked,
        ?lost,
        "the database is behind its audit export; everything is frozen, and what was revoked since is revoked again; \
         {next}; see what else was lost, and unfreeze (docs/operations.md)"
    );
    Ok(())
}

/// Opens the place of copies, if one is configured, and what makes them. No table may lie in it, nor it in a table.
async fn materializer(
    settings: &Settings,
    db: &Db,
    keys: &[RootKey],
    known: &[String],
) -> anyhow::Result<MaterializerParts> {
    let target = settings.views.target();
    let root = target.map(|target| CopyRoot::open(&target).map_err(|problems| unopened("place of copies", &problems)));
    let root = root.transpose()?;
    let mut after: Option<String> = None;
    while let Some(root) = &root {
        let tables = db.list_tables(after.as_deref(), TABLES_CHECKED_AT_ONCE).await?;
        if let Some(table) = tables.iter().find(|table| root.meets(&table.spec.location)) {
            bail!("views.root and the table `{}` lie in each other; give copies a place of their own", table.name);
        }
        let Some(last) = tables.last() else { break };
        after = Some(last.name.key().to_owned());
    }
    let (root_key, key_version) = pseudonym_key(keys, known, settings.views.pseudonym_key.as_deref())?;
    Ok(MaterializerParts {
        root,
        engine: Engine::new(EngineSettings {
            concurrent_files: settings.views.concurrent_files(),
            job_memory_bytes: settings.views.file_memory_bytes,
        }),
        root_key,
        key_version,
        settings: settings.views.clone(),
        cache_bytes: settings.lake.cache_bytes / 4,
        surrogates: SurrogateStore::beside(db),
    })
}

/// Opens the archive that the audit trail is exported to, if one is configured.
pub fn open_archive(settings: &Settings) -> anyhow::Result<Option<Archive>> {
    let target = settings.audit.export.target();
    target.map(|target| Archive::open(&target).map_err(|problems| unopened("audit export", &problems))).transpose()
}

/// Does the same as [`open_archive`] for readers: a folder that does not exist is not created.
pub fn open_existing_archive(settings: &Settings) -> anyhow::Result<Option<Archive>> {
    let target = settings.audit.export.target();
    let opened = |problems: Vec<_>| unopened("audit export", &problems);
    target.map(|target| Archive::open_existing(&target).map_err(opened)).transpose()
}

/// Refuses an export inside a storage of tables, since a table's log could name its files.
fn check_export_apart(settings: &Settings, storages: &Storages) -> anyhow::Result<()> {
    let inside = settings.audit.export.target().and_then(|target| storages.locate(&target.url).ok());
    match inside {
        Some(place) => bail!(
            "audit.export.url lies inside of storage `{}`; export to a bucket or prefix that no storage covers",
            place.storage_name()
        ),
        None => Ok(()),
    }
}

/// Combines all problems of opening `what` into one error.
pub fn unopened(what: &str, problems: &[StorageError]) -> anyhow::Error {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the {what} cannot be opened:\n{}", problems.join("\n"))
}

/// Opens the database; applies pending migrations if `migrate` is set and refuses them otherwise.
pub async fn connect(settings: &Settings, migrate: bool) -> anyhow::Result<Db> {
    let db = Db::connect(settings.database.url.expose(), settings.database.max_connections).await?;
    match db.check_schema().await {
        Ok(()) => {}
        Err(StoreError::PendingMigrations { .. }) if migrate => migrate_database(settings).await?,
        Err(error @ StoreError::PendingMigrations { .. }) => bail!("{error}, or start with `weir serve --migrate`"),
        Err(error) => return Err(error.into()),
    }
    Ok(db)
}

/// Applies pending migrations, with the owner role if one is configured.
pub async fn migrate_database(settings: &Settings) -> anyhow::Result<()> {
    let url = settings.database.migrate_url.as_ref().unwrap_or(&settings.database.url);
    let owner = Db::connect(url.expose(), 1).await?;
    owner.migrate().await?;
    owner.close().await;
    Ok(())
}

/// Lists the files and folders that no storage may hold: keys, the configuration, the database, a local audit export.
pub fn guarded(settings: &Settings, config_file: Option<PathBuf>) -> Vec<PathBuf> {
    let tls = settings.server.tls().map(|tls| tls.key_file);
    let database = settings.database.sqlite_file();
    let surrogates = database.as_deref().map(SurrogateStore::file_of);
    let database = database.into_iter().chain(surrogates);
    let export = settings.audit.export.target().and_then(|target| target.local_root());
    settings.secrets.key_files.iter().cloned().chain(config_file).chain(database).chain(tls).chain(export).collect()
}

fn faces(settings: &Settings, service: &Services, draining: &Draining) -> Faces {
    let server = &settings.server;
    let proxies = Proxies(server.trusted_proxies.iter().map(|network| network.0).collect());
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let limits = |requests, per_address| Limits {
        places: Places::new(PlaceLimits {
            requests: count(requests),
            per_address: count(per_address),
            per_recipient: count(server.max_requests_per_recipient),
            patience: PATIENCE,
        }),
        answer_within: Duration::from_secs(server.request_timeout_seconds),
        body_within: Duration::from_secs(server.body_timeout_seconds),
    };
    let admin_requests = server.max_concurrent_admin_requests;
    Faces {
        service: service.clone(),
        requests: RequestLayer { proxies: Arc::new(proxies), metrics: Arc::clone(&service.core.metrics) },
        limits: limits(server.max_concurrent_requests, server.max_requests_per_address),
        admin_limits: limits(admin_requests, admin_requests.div_ceil(2)),
        draining: draining.clone(),
        max_body_bytes: count(server.max_body_bytes),
        prefix: settings.sharing.prefix.clone(),
        admin: Admin { service: service.clone(), endpoint: service.access.endpoint() },
    }
}

fn listeners(settings: &Settings, faces: &Faces) -> Vec<Listener> {
    let server = &settings.server;
    let connections = most_connections(usize::try_from(settings.database.max_connections).unwrap_or(usize::MAX));
    let patience = settings.sharing.stalled();
    let listener = |addr, router, connections| {
        let metrics = Arc::clone(&faces.service.core.metrics);
        Listener { addr, router, tls: server.tls(), connections, metrics, patience }
    };
    match server.admin_listen {
        None => vec![listener(server.listen, faces.all(), connections)],
        Some(admin) => {
            let admins = (connections / ADMIN_CONNECTIONS).max(1);
            vec![
                listener(server.listen, faces.sharing_only(), connections - admins),
                listener(admin, faces.admin_only(), admins),
            ]
        }
    }
}
