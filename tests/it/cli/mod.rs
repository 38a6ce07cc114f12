//! The command line as people use it: processes with a server, a database and a lake.

mod discover;
mod doctor;
mod drill;
mod import;
mod jobs;
mod nouns;
mod reach;
mod reading_ahead;
mod report;
mod usage;

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::support::{
    postgres::TestDatabase,
    process::{Installation, OPERATOR_TOKEN, Weir, succeeded},
};

/// A shell with a server's address and an operator's token in a file.
pub struct Shell {
    pub url: String,
    pub token_file: PathBuf,
}

impl Shell {
    /// Creates a shell with `token` in a file in `folder`.
    pub fn new(url: &str, folder: &Path, token: &str) -> Self {
        let token_file = folder.join(format!("{}.token", uuid::Uuid::new_v4()));
        let file = fs::File::options().write(true).create_new(true).mode(0o600).open(&token_file);
        Write::write_all(&mut file.unwrap(), format!("{token}\n").as_bytes()).unwrap();
        Self { url: url.to_owned(), token_file }
    }

    /// Runs `weir` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).env_clear().env("WEIR_URL", &self.url).env("WEIR_TOKEN_FILE", &self.token_file);
        command.output().unwrap()
    }

    /// Runs `weir` on a terminal with `typed` as input. Returns its exit code and the terminal's output.
    pub fn run_on_a_terminal(&self, arguments: &[&str], typed: &str) -> (Option<i32>, String) {
        let quoted = arguments.iter().map(|argument| format!(" '{argument}'")).collect::<String>();
        let command_line = format!("'{}'{quoted}", env!("CARGO_BIN_EXE_weir"));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &command_line, "/dev/null"]);
        command.env("WEIR_URL", &self.url).env("WEIR_TOKEN_FILE", &self.token_file);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // If nothing is asked, the process may have ended before the input is read.
        drop(child.stdin.take().unwrap().write_all(typed.as_bytes()));
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// Runs a command that must succeed and returns its output.
    #[track_caller]
    pub fn run_well(&self, arguments: &[&str]) -> String {
        succeeded(arguments, self.run(arguments))
    }

    /// The same with its output as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run_well(&[arguments, &["--output", "json"]].concat())).unwrap()
    }

    /// Runs a command that must fail with this exit code and returns its message.
    #[track_caller]
    pub fn run_badly(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}{said}");
        assert_eq!(said, "", "{arguments:?}");
        text
    }
}

/// Runs statements on the database at `url`, past the server.
async fn execute(url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite:") {
        let mut db = SqliteConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    } else {
        let mut db = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    }
}

/// Runs `test` on a server on SQLite, and on one on PostgreSQL where it can be had.
async fn on_each_database(test: impl AsyncFn(&Installation, &Weir, &Shell)) {
    on_each_database_set("", test).await;
}

/// Does the same with further settings after the lines of `[database]`.
async fn on_each_database_set(settings: &str, test: impl AsyncFn(&Installation, &Weir, &Shell)) {
    let folder = TempDir::new().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("weir.db").display());
    let database = TestDatabase::postgres().await;
    let urls = [Some(sqlite.as_str()), database.as_ref().map(TestDatabase::url)];
    for url in urls.into_iter().flatten() {
        let installation = Installation::on(url, settings);
        let weir = installation.start().await;
        let shell = Shell::new(&weir.url, installation.folder.path(), OPERATOR_TOKEN);
        test(&installation, &weir, &shell).await;
    }
}
