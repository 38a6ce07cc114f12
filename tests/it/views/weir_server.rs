//! A complete server for tests of views, with its stores and its log.

use std::{
    io,
    sync::{Arc, Mutex},
};

use chrono::{SubsecRound, Utc};
use futures::TryStreamExt;
use serde_json::{Value as Json, json};
use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

use super::{
    connector::{Connector, Way},
    source::{Mapping, Table},
};
use crate::support::{
    app::{Setup, TestApp},
    postgres::TestDatabase,
    s3::{COPIES_BUCKET, Key, S3Server},
};

/// The share that all tests use.
pub const SHARE: &str = "insurer";
/// Its schema.
pub const SCHEMA: &str = "s";
/// The object whose delivery depends on storage and recipient.
pub const SHOWN: &str = "shown";
/// The object whose files always pass through the server.
pub const RELAYED: &str = "relayed";
/// The registered name of the source table, which recipients never see.
pub const TABLE: &str = "lake.zsourcetable";
/// The name of the view, which recipients never see.
pub const VIEW: &str = "lake.zviewname";

/// Runs each named test, an `async fn(WeirServer)`, on every [`Kind`].
macro_rules! everywhere {
    ($($name:ident),* $(,)?) => {
        mod folder {
            $(#[test]
            fn $name() {
                crate::views::weir_server::run(crate::views::weir_server::Kind::Folder, super::$name);
            })*
        }
        mod s3 {
            $(#[test]
            fn $name() {
                crate::views::weir_server::run(crate::views::weir_server::Kind::S3, super::$name);
            })*
        }
        mod postgres {
            $(#[test]
            fn $name() {
                crate::views::weir_server::run(crate::views::weir_server::Kind::Postgres, super::$name);
            })*
        }
    };
}
pub(crate) use everywhere;

/// The database and the place of copies of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SQLite, with copies in a folder: files always pass through the server.
    Folder,
    /// SQLite, with copies in S3.
    S3,
    /// PostgreSQL, with copies in S3.
    Postgres,
}

/// A server under test.
pub struct WeirServer {
    pub app: TestApp,
    /// The store of the copies, unless they are in a folder.
    pub s3: Option<S3Server>,
    /// The server's log.
    pub log: Log,
}

/// Runs `test` on a server of this kind; not at all where there is no PostgreSQL server.
pub fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(WeirServer) -> F) {
    run_with(kind, None, test);
}

/// Does the same as [`run`] with changed settings of views.
pub fn run_with<F: Future<Output = ()>>(
    kind: Kind,
    views: Option<fn(&mut weir::config::ViewSettings)>,
    test: impl FnOnce(WeirServer) -> F,
) {
    let log = Log::default();
    // All logs of Weir itself, and those of other crates at the level that the server uses.
    let filter = tracing_subscriber::EnvFilter::new("warn,weir=trace");
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(log.clone()).finish();
    let dispatch = tracing::Dispatch::new(subscriber);
    // With a single subscriber, tracing caches the interest of the thread that logs first, so a second one exists.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::dispatcher::set_default(&dispatch);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Copies are made on separate threads, which log too.
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&dispatch)))
        .build()
        .unwrap();
    runtime.block_on(async {
        let database = match kind {
            Kind::Postgres => TestDatabase::postgres().await,
            Kind::Folder | Kind::S3 => Some(TestDatabase::sqlite().await),
        };
        let Some(database) = database else { return };
        let s3 = if kind == Kind::Folder { None } else { Some(S3Server::start().await) };
        let copies = s3.as_ref().map(|s3| {
            let copies = json!({"name": "views", "url": format!("s3://{COPIES_BUCKET}/of/views"),
                "options": s3.options_of(Key::Copies)});
            serde_json::from_value(copies).unwrap()
        });
        let starts_at = Some(Utc::now().trunc_subsecs(0));
        let app = TestApp::set_up(database, Setup { copies, starts_at, views, ..Setup::default() });
        test(WeirServer { app, s3, log }).await;
    });
}

impl WeirServer {
    /// Every way in which a connector may read: presigned or not, in both formats.
    pub fn ways(&self) -> Vec<Way> {
        let ways = [
            Way { object: SHOWN, is_delta: false, is_presigned: self.s3.is_some() },
            Way { object: SHOWN, is_delta: true, is_presigned: self.s3.is_some() },
            Way { object: RELAYED, is_delta: false, is_presigned: false },
            Way { object: RELAYED, is_delta: true, is_presigned: false },
        ];
        ways.into()
    }

    /// Creates a table in the lake, in a folder whose name must never be seen.
    pub fn table(&self, columns: &Json, partition_columns: &[&str], mapping: Mapping, seed: u64) -> Table {
        Table::create(&self.app.folder("zsourcefolder"), columns, partition_columns, mapping, seed)
    }

    /// Registers the table of [`Self::table`].
    pub async fn register(&self) {
        let location = self.app.location("zsourcefolder");
        self.app.put(&format!("/tables/{TABLE}"), json!({"location": location})).await.expect(201);
    }

    /// Publishes the next version of the view and returns its name with the version.
    pub async fn publish(&self, columns: &Json, row_filter: Option<&str>) -> String {
        self.publish_as(json!({"columns": columns, "row_filter": row_filter}), &[]).await
    }

    /// Does the same as [`Self::publish`] in the layout of the source, acknowledging that it reveals these columns.
    pub async fn publish_as_laid_out(&self, columns: &Json, row_filter: Option<&str>, telling: &[&str]) -> String {
        self.publish_as(json!({"columns": columns, "row_filter": row_filter, "layout": "source"}), telling).await
    }

    async fn publish_as(&self, mut body: Json, acknowledged: &[&str]) -> String {
        let path = format!("/views/{VIEW}");
        if self.app.get(&path).await.status == 404 {
            body["source"] = json!({"table": TABLE});
            self.app.put(&path, body).await.expect(201);
        } else {
            self.app.patch(&path, body).await.expect(200);
        }
        let published = self.app.post(&format!("{path}/publish"), json!({"acknowledge": acknowledged})).await;
        assert!([200, 201].contains(&published.status.as_u16()), "{}", published.text);
        published.json()["view"].as_str().unwrap().to_owned()
    }

    /// Adds the view to the share with its table's full history, or replaces it by another version.
    pub async fn share(&self, view: &str) {
        self.app.put(&format!("/shares/{SHARE}"), json!({})).await;
        for (object, delivery) in [(SHOWN, "presigned"), (RELAYED, "proxied")] {
            let path = object_path(object);
            let source = json!({"view": view});
            if self.app.get(&path).await.status == 404 {
                let body = json!({"source": source, "history": true, "start_version": 0, "delivery": delivery});
                self.app.put(&path, body).await.expect(201);
            } else {
                self.app.patch(&path, json!({"source": source})).await.expect(200);
            }
        }
    }

    /// A recipient with these properties that is granted the share, and has a token.
    pub async fn connector(&self, name: &str, properties: Json) -> Connector<'_> {
        self.partner_of(SHARE, name, properties).await
    }

    /// [`Self::connector`], of another share.
    pub async fn partner_of(&self, share: &str, name: &str, properties: Json) -> Connector<'_> {
        let created = self.app.put(&format!("/recipients/{name}"), json!({"properties": properties})).await.expect(201);
        let id: Uuid = created["id"].as_str().unwrap().parse().unwrap();
        self.app.post("/grants", json!({"share": share, "recipient": name})).await.expect(201);
        let issued = self.app.post(&format!("/recipients/{name}/tokens"), json!({"reveal": true})).await.expect(201);
        Connector::new(self, name, id, issued["token"].as_str().unwrap())
    }

    /// The id of the share.
    pub async fn share_id(&self) -> Uuid {
        let share = self.app.get(&format!("/shares/{SHARE}")).await.expect(200);
        share["id"].as_str().unwrap().parse().unwrap()
    }

    /// The registered copies in a state; without one, all that are not deleted.
    pub async fn copies(&self, state: Option<&str>) -> Vec<Json> {
        let query = state.map(|state| format!("&state={state}")).unwrap_or_default();
        let page = self.app.get(&format!("/copies?max_results=1000{query}")).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }

    /// The keys of all objects in the place of copies, sorted.
    pub async fn objects(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.app.copies.list().map_ok(|(key, _)| key).try_collect().await.unwrap();
        keys.sort();
        keys
    }
}

/// The path of an object in the admin API.
pub fn object_path(object: &str) -> String {
    format!("/shares/{SHARE}/objects/{SCHEMA}/{object}")
}

/// Collects what the server logs.
#[derive(Clone, Default)]
pub struct Log {
    written: Arc<Mutex<Vec<u8>>>,
    looked_at: Arc<Mutex<usize>>,
}

impl Log {
    /// The log since the last call, without the paths of source files, which operators need to see.
    pub fn newly_logged(&self) -> String {
        let mut looked_at = self.looked_at.lock().unwrap();
        let written = self.written.lock().unwrap();
        let text = String::from_utf8_lossy(&written[*looked_at..]);
        *looked_at = written.len();
        let lines = text.lines().map(|line| match line.split_once("copy.source=\"") {
            Some((before, after)) => format!("{before}{}", after.split_once('"').unwrap().1),
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// What went wrong is shown where a test failed.
impl Drop for WeirServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = String::from_utf8_lossy(&self.log.written.lock().unwrap()).into_owned();
            text.lines()
                .filter(|line| line.contains("ERROR") || line.contains("WARN"))
                .for_each(|line| println!("{line}"));
        }
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
