//! Runs the built `weir` as processes: an installation with its lake, and servers and commands on it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use super::tables::{HandWrittenLog, add};

/// The operator token of every [`Installation`].
pub const OPERATOR_TOKEN: &str = "test-bootstrap-token-0123456789abcdef";
/// The longest wait for a condition. Tests wait for conditions, never for a fixed time.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of files of the shared table.
pub const FILES: usize = 10;

/// A lake, a root key and a configuration for servers on one database.
pub struct Installation {
    pub folder: TempDir,
    database_url: String,
    settings: String,
    export: String,
    keys: Vec<String>,
    drain_seconds: u64,
    public_url: Option<&'static str>,
}

impl Installation {
    /// An installation on its own SQLite file.
    pub fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("weir.db").display());
        Self::new(folder, url, "")
    }

    /// An installation on the database at `url`, with further lines in its `[database]` section.
    pub fn on(url: &str, settings: &str) -> Self {
        Self::new(TempDir::new().unwrap(), url.to_owned(), settings)
    }

    fn new(folder: TempDir, database_url: String, settings: &str) -> Self {
        let key = fs::File::options().write(true).create_new(true).mode(0o600).open(folder.path().join("weir.key"));
        std::io::Write::write_all(&mut key.unwrap(), &[7; 32]).unwrap();
        let mut log = HandWrittenLog::plain(&folder.path().join("lake/claims"));
        let adds: Vec<Value> = (0..FILES).map(|file| add(&format!("part-{file}.parquet"), 100)).collect();
        log.commit(&adds);
        for file in 0..FILES {
            fs::write(folder.path().join(format!("lake/claims/part-{file}.parquet")), [0; 100]).unwrap();
        }
        let export = format!("url = \"file://{}/export\"\n", folder.path().display());
        let (settings, keys) = (settings.to_owned(), vec!["weir.key".to_owned()]);
        Self { folder, database_url, settings, export, keys, drain_seconds: 0, public_url: None }
    }

    /// Exports the trail to an object store instead.
    pub fn exporting_to(self, url: &str, options: &BTreeMap<String, String>) -> Self {
        let options: Vec<String> = options.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
        let export = format!("url = \"{url}\"\noptions = {{ {} }}\n", options.join(", "));
        Self { export, ..self }
    }

    /// Sets how long servers started from now on drain when they are told to stop.
    pub fn drain_for(&mut self, seconds: u64) {
        self.drain_seconds = seconds;
    }

    /// Sets the public URL of servers started from now on.
    pub fn known_as(&mut self, url: &'static str) {
        self.public_url = Some(url);
    }

    /// Sets the root keys of servers started from now on, as file names in the folder.
    pub fn use_keys(&mut self, names: &[&str]) {
        self.keys = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// Adds lines to the configuration of servers started from now on.
    pub fn configure(&mut self, lines: &str) {
        self.settings = format!("{}\n{lines}", self.settings);
    }

    /// The folder that the trail is exported to.
    pub fn export(&self) -> PathBuf {
        self.folder.path().join("export")
    }

    /// The URL of the database.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The folder of the shared table.
    pub fn table(&self) -> PathBuf {
        self.folder.path().join("lake/claims")
    }

    fn write_config(&self, port: u16) -> PathBuf {
        let folder = self.folder.path().display();
        let Self { database_url, settings, export, drain_seconds, .. } = self;
        let public_url = self.public_url.map_or_else(|| format!("http://127.0.0.1:{port}"), str::to_owned);
        let keys: Vec<String> = self.keys.iter().map(|name| format!("\"{folder}/{name}\"")).collect();
        let keys = keys.join(", ");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"{public_url}\"\n\
             drain_seconds = {drain_seconds}\nshutdown_grace_seconds = 5\n\
             [database]\nurl = \"{database_url}\"\n{settings}\n\
             [secrets]\nkey_files = [{keys}]\n\
             [audit]\ncheckpoint_seconds = 1\ncheckpoint_events = 500\n\
             [audit.export]\n{export}\
             [[storage]]\nname = \"lake\"\nurl = \"file://{folder}/lake\"\n"
        );
        let path = self.folder.path().join(format!("weir-{port}.toml"));
        fs::write(&path, config).unwrap();
        path
    }

    /// Runs a command to its end, with the configuration in `WEIR_CONFIG`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let config = self.write_config(1);
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).env("WEIR_CONFIG", config).env("WEIR_BOOTSTRAP_TOKEN", OPERATOR_TOKEN);
        command.output().unwrap()
    }

    /// Runs a command that must succeed and returns its output.
    #[track_caller]
    pub fn run_well(&self, arguments: &[&str]) -> String {
        succeeded(arguments, self.run(arguments))
    }

    /// Starts a server and waits until it is ready.
    pub async fn start(&self) -> Weir {
        self.start_with(&[]).await
    }

    /// Starts a server with further arguments and waits until it is ready.
    pub async fn start_with(&self, arguments: &[&str]) -> Weir {
        let weir = self.spawn(None, Stdio::null(), Stdio::null(), arguments);
        weir.wait_until_ready().await;
        weir
    }

    /// Starts a server that logs to the file `log`, such as a device, and waits until it is ready.
    pub async fn start_logging_to(&self, log: &str) -> Weir {
        let weir = self.spawn(Some(log), Stdio::null(), Stdio::null(), &[]);
        weir.wait_until_ready().await;
        weir
    }

    /// Starts a server with a simulated clock and waits until it is ready.
    pub async fn start_simulated(&self) -> (Weir, Time) {
        let mut weir = self.spawn(None, Stdio::piped(), Stdio::piped(), &["--simulate"]);
        let time =
            Time { told: weir.child.stdin.take().unwrap(), answers: BufReader::new(weir.child.stdout.take().unwrap()) };
        weir.wait_until_ready().await;
        (weir, time)
    }

    fn spawn(&self, log: Option<&str>, told: Stdio, answers: Stdio, arguments: &[&str]) -> Weir {
        let port = free_port();
        let config = self.write_config(port);
        let log = log.map_or_else(|| self.folder.path().join(format!("weir-{port}.log")), PathBuf::from);
        let child = spawn(&config, &log, arguments, told, answers);
        Weir { child, url: format!("http://127.0.0.1:{port}"), client: client(), config, log }
    }

    /// Registers the table and shares it with the recipient `acme`.
    pub async fn share(&self, weir: &Weir) {
        let location = Url::from_file_path(self.table()).unwrap();
        weir.admin(Method::PUT, "/tables/claims.claims", json!({"location": location.as_str()})).await;
        weir.admin(Method::PUT, "/shares/insurer", json!({})).await;
        weir.share_claims().await;
        weir.admin(Method::PUT, "/recipients/acme", json!({})).await;
        weir.grant().await;
    }
}

/// Finds a free port that no other test of this process uses. The range lies below the ports that the system assigns,
/// so that servers do not take each other's.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `probe` finds something; `what` names it in the failure.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "there is no {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap()
}

fn spawn(config: &Path, log: &Path, arguments: &[&str], told: Stdio, answers: Stdio) -> Child {
    let log = fs::File::options().create(true).append(true).open(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("serve")
        .args(arguments)
        .env("WEIR_CONFIG", config)
        .env("WEIR_BOOTSTRAP_TOKEN", OPERATOR_TOKEN)
        .stdin(told)
        .stdout(answers)
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A running server. Killed when dropped.
pub struct Weir {
    child: Child,
    pub url: String,
    pub client: reqwest::Client,
    config: PathBuf,
    log: PathBuf,
}

/// Controls the simulated clock of a server.
pub struct Time {
    told: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Time {
    /// Sends a line and returns the answer.
    pub fn say(&mut self, line: &str) -> Value {
        writeln!(self.told, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

/// The result of a recipient's query.
#[derive(Debug)]
pub struct Read {
    /// The status; `None` if the connection failed.
    pub status: Option<StatusCode>,
    /// The request's id, if it was received.
    pub request_id: Option<String>,
    /// How many URLs were received, even if the answer was cut off after them.
    pub urls: usize,
}

impl Weir {
    /// Waits until the server reports that it is ready.
    pub async fn wait_until_ready(&self) {
        let began = Instant::now();
        loop {
            let ready = self.client.get(format!("{}/readyz", self.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "weir does not become ready: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the process, like a power cut.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells the process to stop.
    pub fn ask_to_stop(&self) {
        assert!(Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap().success());
    }

    /// Waits until the process has ended and returns how long that took.
    pub async fn wait_for_end(&mut self) -> Duration {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// The server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Tells the process to stop and waits until it has.
    pub fn stop(&mut self) {
        self.ask_to_stop();
        assert!(self.child.wait().unwrap().success(), "{}", fs::read_to_string(&self.log).unwrap());
    }

    /// Starts the process again with the same configuration.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.config, &self.log, &[], Stdio::null(), Stdio::null());
        self.wait_until_ready().await;
    }

    /// Sends an operator's request and returns any answer.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> reqwest::Result<(StatusCode, Value)> {
        let request = self.client.request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(OPERATOR_TOKEN);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await?;
        Ok((answer.status(), answer.json().await.unwrap_or_default()))
    }

    /// Sends an operator's request that must succeed.
    pub async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, &body).await.unwrap();
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    /// Puts the table into the share.
    pub async fn share_claims(&self) {
        let source = json!({"source": {"table": "claims.claims"}});
        self.admin(Method::PUT, "/shares/insurer/objects/claims/claims", source).await;
    }

    /// The id of the grant in force now.
    pub async fn grant_id(&self) -> String {
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let grants = self.admin(Method::GET, &format!("/grants?share=insurer&at={now}"), Value::Null).await;
        grants["items"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Grants the share to `acme` and returns the grant's id.
    pub async fn grant(&self) -> String {
        let grant = json!({"share": "insurer", "recipient": "acme"});
        self.admin(Method::POST, "/grants", grant).await["id"].as_str().unwrap().to_owned()
    }

    /// Issues a token of a credential and returns its id and its text.
    pub async fn issue(&self, credential: &str) -> (String, String) {
        let body = json!({"reveal": true, "credential": credential});
        let issued = self.admin(Method::POST, "/recipients/acme/tokens", body).await;
        (issued["id"].as_str().unwrap().to_owned(), issued["token"].as_str().unwrap().to_owned())
    }

    /// Queries the table with a recipient's token.
    pub async fn query(&self, token: &str) -> Read {
        self.reader().query(token).await
    }

    /// A recipient's client of this server, usable after the process ends.
    pub fn reader(&self) -> Reader {
        let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/claims/query", self.url);
        Reader { url, client: self.client.clone() }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads every event of the trail, oldest first, from the feed for SIEMs.
    pub async fn feed(&self) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event["seq"].as_i64().unwrap());
            let url = format!("{}/api/v1/audit?order=asc&after_seq={after}&max_results=1000", self.url);
            let request = self.client.get(url).bearer_auth(OPERATOR_TOKEN).header("accept", "application/x-ndjson");
            let text = request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
            if text.is_empty() {
                return events;
            }
            events.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            if text.lines().count() < 1000 {
                return events;
            }
        }
    }
}

/// A recipient's client.
#[derive(Clone, Debug)]
pub struct Reader {
    url: String,
    client: reqwest::Client,
}

impl Reader {
    /// Queries the table.
    pub async fn query(&self, token: &str) -> Read {
        let sent = self.client.post(&self.url).bearer_auth(token).json(&json!({})).send().await;
        let Ok(mut answer) = sent else { return Read { status: None, request_id: None, urls: 0 } };
        let status = Some(answer.status());
        let id = answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            body.extend_from_slice(&chunk);
        }
        let urls = String::from_utf8_lossy(&body).matches("\"url\":").count();
        Read { status, request_id: id, urls }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks that a command succeeded and returns its output.
#[track_caller]
pub fn succeeded(arguments: &[&str], output: Output) -> String {
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
