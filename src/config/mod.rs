//! Loads the configuration: `default.toml` < file < environment, with one settings struct per concern.
//!
//! Reads, layers and checks settings. Never here: direct access to the environment, which is passed in so that tests
//! and commands are explicit; and the meaning of a storage's options, which the code of the storage knows. Start
//! reading at [`Settings::load`].

mod audit;
mod database;
mod discovery;
mod geography;
mod governance;
mod hooks;
mod identity;
pub mod keys;
mod lake;
mod layers;
mod log;
mod notify;
mod operators;
mod problems;
mod redact;
mod reports;
mod safeguards;
mod secret_files;
mod secrets;
mod server;
mod sharing;
pub mod storage;
mod usage;
mod views;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use crate::domain::core::secret::Secret;

pub use self::{
    audit::{AuditSettings, ExportSettings},
    database::{DatabaseKind, DatabaseSettings},
    discovery::DiscoverySettings,
    geography::GeographySettings,
    governance::GovernanceSettings,
    hooks::HookSettings,
    identity::{IdentitySettings, IssuerSettings, OperatorSignInSettings},
    lake::LakeSettings,
    log::{LogFormat, LogSettings},
    notify::{NotifySettings, WebhookSettings},
    operators::OperatorSettings,
    problems::{Problem, Problems},
    reports::ReportSettings,
    secrets::SecretSettings,
    server::{Network, ServerSettings, TlsFiles},
    sharing::{RawSharing, SharingSettings},
    storage::StorageSettings,
    usage::UsageSettings,
    views::ViewSettings,
};

/// The lowest layer, with each key, its default, and the reason for it.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// The minimum length of a bootstrap token, in characters.
const BOOTSTRAP_TOKEN_CHARS: usize = 32;

/// The sources of settings.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named by `--config`. Without it, the file in `WEIR_CONFIG` is read, if that is set.
    pub file: Option<PathBuf>,
    /// The environment of the process; only names that begin with `WEIR_` are used.
    pub env: BTreeMap<String, String>,
}

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[database]`.
    pub database: DatabaseSettings,
    /// `[secrets]`.
    pub secrets: SecretSettings,
    /// `[sharing]`.
    pub sharing: SharingSettings,
    /// `[operators]`.
    pub operators: OperatorSettings,
    /// `[governance]`.
    pub governance: GovernanceSettings,
    /// `[geography]`.
    pub geography: GeographySettings,
    /// `[hooks]`.
    pub hooks: HookSettings,
    /// `[identity]`.
    pub identity: IdentitySettings,
    /// `[discovery]`.
    pub discovery: DiscoverySettings,
    /// `[[storage]]`, in the order of the file.
    pub storage: Vec<StorageSettings>,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[usage]`.
    pub usage: UsageSettings,
    /// `[reports]`.
    pub reports: ReportSettings,
    /// `[lake]`.
    pub lake: LakeSettings,
    /// `[views]`.
    pub views: ViewSettings,
    /// `[notify]`.
    pub notify: NotifySettings,
    /// `[log]`.
    pub log: LogSettings,
    /// The bootstrap token: `WEIR_BOOTSTRAP_TOKEN`, or the content of the file in `WEIR_BOOTSTRAP_TOKEN_FILE`.
    pub bootstrap_token: Option<Secret>,
    /// Warnings about permitted but risky settings, to be logged once logging is set up.
    pub warnings: Vec<String>,
    redacted: toml::Table,
}

impl Settings {
    /// Reads all layers. Returns either valid settings or all problems.
    pub fn load(sources: Sources) -> Result<Self, Problems> {
        match Self::examine(sources) {
            (Some(settings), problems) if problems.is_empty() => Ok(settings),
            (_, problems) => Err(problems),
        }
    }

    /// Like [`Self::load`], but also returns settings that break rules, so that other checks can use them; `None` if
    /// they cannot be repaired.
    pub fn examine(sources: Sources) -> (Option<Self>, Problems) {
        let mut problems = Problems::default();
        let mut warnings = Vec::new();
        let defaults = layers::defaults(&mut problems);
        let file = sources.file.clone().or_else(|| sources.env.get("WEIR_CONFIG").map(PathBuf::from));

        let mut merged = defaults.clone();
        let from_file = file.as_deref().map(|path| layers::from_file(path, &mut problems)).unwrap_or_default();
        let from_env = layers::from_env(&sources.env, &defaults, &mut problems);
        for mut layer in [from_file, from_env] {
            secret_files::resolve(&mut layer, &mut problems, &mut warnings);
            layers::report_unknown(&layer, &defaults, &mut problems);
            layers::merge(&mut merged, layer);
        }
        let bootstrap_token = secret_files::bootstrap_token(&sources.env, &mut problems, &mut warnings);

        let server = layers::section(&merged, &defaults, "server", &mut problems);
        let database = layers::section(&merged, &defaults, "database", &mut problems);
        let secrets = layers::section(&merged, &defaults, "secrets", &mut problems);
        let sharing = layers::section(&merged, &defaults, "sharing", &mut problems);
        let operators = layers::section(&merged, &defaults, "operators", &mut problems);
        let governance = layers::section(&merged, &defaults, "governance", &mut problems);
        let geography = layers::section(&merged, &defaults, "geography", &mut problems);
        let hooks = layers::section(&merged, &defaults, "hooks", &mut problems);
        let identity = layers::section(&merged, &defaults, "identity", &mut problems);
        let discovery = layers::section(&merged, &defaults, "discovery", &mut problems);
        let storage = layers::storages(&merged, &mut problems);
        let audit = layers::section(&merged, &defaults, "audit", &mut problems);
        let usage = layers::section(&merged, &defaults, "usage", &mut problems);
        let reports = layers::section(&merged, &defaults, "reports", &mut problems);
        let lake = layers::section(&merged, &defaults, "lake", &mut problems);
        let views = layers::section(&merged, &defaults, "views", &mut problems);
        let notify = layers::section(&merged, &defaults, "notify", &mut problems);
        let log = layers::section(&merged, &defaults, "log", &mut problems);
        let (Some(server), Some(database), Some(secrets), Some(sharing)) = (server, database, secrets, sharing) else {
            return (None, problems);
        };
        let (Some(operators), Some(identity), Some(audit), Some(reports)) = (operators, identity, audit, reports)
        else {
            return (None, problems);
        };
        let (Some(governance), Some(geography), Some(hooks), Some(discovery)) =
            (governance, geography, hooks, discovery)
        else {
            return (None, problems);
        };
        let (Some(usage), Some(lake), Some(views), Some(notify), Some(log)) = (usage, lake, views, notify, log) else {
            return (None, problems);
        };
        let redacted = redact::settings(merged);
        let settings = Self {
            server,
            database,
            secrets,
            sharing,
            operators,
            governance,
            geography,
            hooks,
            identity,
            discovery,
            storage,
            audit,
            usage,
            reports,
            lake,
            views,
            notify,
            log,
            bootstrap_token,
            warnings,
            redacted,
        };
        settings.check(file.as_deref(), &mut problems);
        (Some(settings), problems)
    }

    /// Returns the effective configuration as TOML, with each secret as `***`.
    pub fn render_redacted(&self) -> String {
        let token = if self.bootstrap_token.is_some() { "set" } else { "not set" };
        format!("# WEIR_BOOTSTRAP_TOKEN is {token}\n\n{}", self.redacted)
    }

    fn check(&self, file: Option<&Path>, problems: &mut Problems) {
        self.server.check(problems);
        self.database.check(problems);
        self.secrets.check(problems);
        self.sharing.check(problems);
        self.operators.check(problems);
        self.geography.check(problems);
        self.hooks.check(problems);
        self.identity.check(problems);
        self.discovery.check(problems);
        self.audit.check(problems);
        self.usage.check(problems);
        self.reports.check(problems);
        self.lake.check(problems);
        self.views.check(problems);
        self.notify.check(problems);
        self.log.check(problems);
        storage::check(&self.storage, problems);
        self.check_roots(file, problems);
    }

    /// Refuses local storages that contain the configuration, keys, or the database, because they would serve those
    /// files.
    fn check_roots(&self, file: Option<&Path>, problems: &mut Problems) {
        let mut private: Vec<(&str, PathBuf)> = Vec::new();
        private.extend(file.map(|path| ("the configuration", path.to_owned())));
        private.extend(self.secrets.key_files.iter().map(|path| ("a root key", path.clone())));
        private.extend(self.server.tls().map(|files| ("the TLS key", files.key_file)));
        private.extend(self.database.sqlite_file().map(|path| ("the database", path)));
        let export = self.audit.export.target().and_then(|target| target.local_root());
        private.extend(export.map(|path| ("the audit export", path)));
        let copies = self.views.target().and_then(|target| target.local_root());
        private.extend(copies.map(|path| ("the copies of views", path)));
        for (i, storage) in self.storage.iter().enumerate() {
            let Some(root) = storage.local_root().and_then(|root| root.canonicalize().ok()) else { continue };
            for (what, path) in &private {
                if resolved(path).is_some_and(|path| path.starts_with(&root)) {
                    let (root, path) = (root.display(), path.display());
                    problems.add(
                        format!("storage[{i}].url"),
                        format!("`{root}` holds {what} (`{path}`); keep it outside of what is shared"),
                    );
                }
            }
        }
    }
}

/// Returns the real path of a file that may not exist yet; its folder must exist.
fn resolved(path: &Path) -> Option<PathBuf> {
    if let Ok(path) = path.canonicalize() {
        return Some(path);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}

/// Reads an empty string as `None`, so that `default.toml` can show every key.
fn empty_as_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<String>,
{
    let text = String::deserialize(deserializer)?;
    Ok(if text.is_empty() { None } else { Some(T::from(text)) })
}

/// Returns whether a URL's host is this machine, by name or address.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
