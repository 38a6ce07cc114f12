//! A test's own PostgreSQL server, which the test may stop.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::support::process::Installation;

/// The rights of the role that serves.
pub const GRANTS: &str = include_str!("../../../docs/postgres-roles.sql");

/// A PostgreSQL server with the database `weir`, its owner, and the role that serves.
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    /// Creates and starts a cluster. If PostgreSQL is not installed, the test is skipped with a message, or fails in
    /// CI.
    pub async fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "PostgreSQL must be installed in CI");
            println!("skipped: PostgreSQL's `initdb` is not installed");
            return None;
        };
        let folder = TempDir::new().unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(folder.path()).status().unwrap().success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, programs, port };
        let data = cluster.data();
        cluster.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]);
        cluster.start_again();
        cluster.admin("postgres", "CREATE ROLE weir_owner LOGIN; CREATE ROLE weir_server LOGIN").await;
        cluster.admin("postgres", "CREATE DATABASE weir OWNER weir_owner").await;
        Some(cluster)
    }

    /// An installation on it, migrated by the owner and served by the other role.
    pub async fn install(&self) -> Installation {
        let owner = self.url("weir_owner");
        let weir = Installation::on(&self.url("weir_server"), &format!("migrate_url = \"{owner}\""));
        weir.run_well(&["migrate"]);
        self.admin("weir", GRANTS).await;
        weir
    }

    /// The database's URL for a role.
    pub fn url(&self, role: &str) -> String {
        self.url_of(role, "weir")
    }

    /// The URL of another database for a role.
    pub fn url_of(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Changes a setting for a role's new connections.
    pub async fn set(&self, role: &str, setting: &str, value: &str) {
        self.admin("postgres", &format!("ALTER ROLE {role} SET {setting} = {value}")).await;
    }

    /// Lets a role create databases.
    pub async fn allow_making_databases(&self, role: &str) {
        self.admin("postgres", &format!("ALTER ROLE {role} CREATEDB")).await;
    }

    /// Adds lines to the server's configuration.
    pub async fn configure(&self, lines: &str) {
        for line in lines.lines() {
            self.admin("postgres", &format!("ALTER SYSTEM SET {line}")).await;
        }
        self.admin("postgres", "SELECT pg_reload_conf()").await;
    }

    /// Stops it immediately, like a power cut.
    pub fn crash(&self) {
        self.control(&["-m", "immediate", "stop"]);
    }

    /// Makes it hang: it keeps its connections but does not answer.
    pub fn silence(&self) {
        self.signal("-STOP");
    }

    /// Resumes it.
    pub fn speak_again(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.path().join("data/postmaster.pid")).unwrap();
        let postmaster = pid.lines().next().unwrap();
        // The backends too, but the postmaster first, so that no further one starts.
        let children = || {
            let listed = Command::new("pgrep").args(["-P", postmaster]).output().unwrap();
            String::from_utf8(listed.stdout).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        for id in [vec![postmaster.to_owned()], children()].concat() {
            let _ = Command::new("kill").args([signal, &id]).status();
        }
    }

    /// Starts it and waits until it has recovered. It syncs the whole file system first instead of file by file, which
    /// weakens none of its guarantees.
    pub fn start_again(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c max_connections=100 -c recovery_init_sync_method=syncfs",
            self.port,
            self.path().display()
        );
        let log = self.path().join("server.log").display().to_string();
        self.control(&["-w", "-l", &log, "-o", &options, "start"]);
    }

    fn control(&self, arguments: &[&str]) {
        self.run("pg_ctl", &[&["-D", &self.data()], arguments].concat());
    }

    /// Runs statements as the superuser.
    pub async fn admin(&self, database: &str, sql: &str) {
        self.admin_as("postgres", database, sql).await;
    }

    /// Runs statements as a role.
    pub async fn admin_as(&self, role: &str, database: &str, sql: &str) {
        let mut connection = PgConnection::connect(&self.url_of(role, database)).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> String {
        self.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        // PostgreSQL refuses to run as root.
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let log = fs::File::create(env::temp_dir().join(format!("weir-cluster-{}.log", self.port))).unwrap();
        let status = command.args(arguments).current_dir("/").stdout(Stdio::null()).stderr(log).status().unwrap();
        assert!(status.success(), "{arguments:?} failed; see {}", self.path().display());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may be stopped already.
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.crash()));
        drop(stopped);
        let _ = fs::remove_file(env::temp_dir().join(format!("weir-cluster-{}.log", self.port)));
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let installed = versions.map(|version| version.path().join("bin"));
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    installed.chain(on_path).find(|folder| folder.join("initdb").exists())
}
