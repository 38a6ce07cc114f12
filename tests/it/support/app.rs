//! The whole server without a socket: tests call its router directly. It has its own database, lake and clock.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use url::Url;
use weir::{
    config::{Settings, SharingSettings, Sources, StorageSettings, ViewSettings},
    domain::{
        audit::Event,
        core::{
            seal::{RootKey, SealPurpose, Sealer},
            secret::Secret,
        },
    },
    engine::{Engine, EngineSettings},
    geography::Countries,
    http::{
        Faces,
        admin::Admin,
        middleware::{Draining, Limits, Proxies, RequestLayer},
    },
    identity::{Identities, Longest},
    lake::{Lake, LakeSettings},
    service::{
        Core, Dependencies, Services,
        audit::{seal::AuditSealer, write::AuditWriter},
        catalog::schema_holds::SchemaHolds,
        core::{
            CoreParts,
            clock::Clock,
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
    storage::{Archive, CopyRoot, Storages},
    store::{Db, SurrogateStore},
    telemetry::Metrics,
    unity::UnityServers,
};
use zeroize::Zeroizing;

use super::{
    postgres::TestDatabase,
    s3::{BUCKET, S3Server},
    tables::HandWrittenLog,
};

/// The operator token of every [`TestApp`].
pub const OPERATOR_TOKEN: &str = "test-bootstrap-token-0123456789abcdef";
/// The URL of a storage that never answers.
pub const AWAY: &str = "s3://away";
const PUBLIC_URL: &str = "http://weir.test";
const PREFIX: &str = "/delta-sharing";

/// Runs each named test, an `async fn(TestApp)`, on SQLite and on PostgreSQL.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::support::app::TestApp::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(app) = crate::support::app::TestApp::postgres().await {
                    super::$name(app).await;
                }
            })*
        }
    };
}
pub(crate) use on_both_databases;

/// The server under test.
pub struct TestApp {
    /// The use cases, for what no route offers.
    pub service: Services,
    /// What they were built from.
    parts: Dependencies,
    /// The place of copies.
    pub copies: CopyRoot,
    router: Router,
    ground: Ground,
}

/// The resources that a server under test uses. Several servers may share them.
#[derive(Clone)]
struct Ground {
    database: Arc<TestDatabase>,
    now: Arc<Mutex<DateTime<Utc>>>,
    folder: Arc<TempDir>,
    copies: StorageSettings,
    bucket: Option<StorageSettings>,
}

/// The differences between a server under test and the default one.
#[derive(Default)]
pub struct Setup {
    /// The place of copies; by default a folder beside the lake.
    pub copies: Option<StorageSettings>,
    /// A storage besides the lake.
    pub bucket: Option<StorageSettings>,
    /// The time at which the server's clock starts. Object stores check signatures by their own clock.
    pub starts_at: Option<DateTime<Utc>>,
    /// A change of the settings of views.
    pub views: Option<fn(&mut ViewSettings)>,
}

/// An answer, read completely.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Checks the status and returns the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// Checks the status and the code of a problem and returns it.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text);
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["request_id"].as_str(), self.headers["x-request-id"].to_str().ok(), "{problem}");
        problem
    }
}

/// The fields that a problem names, sorted.
pub fn fields(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().into_iter().flatten();
    let mut fields: Vec<String> = errors.map(|error| error["field"].as_str().unwrap().to_owned()).collect();
    fields.sort();
    fields
}

/// The place limits of every [`TestApp`].
pub const ROOM: PlaceLimits =
    PlaceLimits { requests: 100, per_address: 100, per_recipient: 100, patience: Duration::from_secs(20) };

/// How long an answer or a request's body may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Limits with these places, for requests whose bodies arrive within `body_within`.
fn limits(room: PlaceLimits, body_within: Duration) -> Limits {
    Limits { places: Places::new(room), answer_within: WITHIN, body_within }
}

/// All faces of a server, which trusts `proxies`.
fn router(service: &Services, proxies: Proxies) -> Router {
    router_within(service, proxies, limits(ROOM, WITHIN), limits(ROOM, WITHIN))
}

/// Does the same with other limits for recipients and for operators.
fn router_within(service: &Services, proxies: Proxies, limits: Limits, admin_limits: Limits) -> Router {
    let faces = Faces {
        service: service.clone(),
        requests: RequestLayer { proxies: Arc::new(proxies), metrics: Arc::clone(&service.core.metrics) },
        limits,
        admin_limits,
        draining: Draining::default(),
        max_body_bytes: 4 << 20,
        prefix: PREFIX.into(),
        admin: Admin { service: service.clone(), endpoint: format!("{PUBLIC_URL}{PREFIX}") },
    };
    faces.all()
}

impl Ground {
    fn new(database: TestDatabase, setup: &mut Setup) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("lake")).unwrap();
        let copies = json!({"name": "views", "url": Url::from_file_path(folder.path().join("copies")).unwrap()});
        let starts_at = setup.starts_at.unwrap_or(DateTime::from_timestamp(1_790_000_000, 0).unwrap());
        Self {
            database: Arc::new(database),
            now: Arc::new(Mutex::new(starts_at)),
            folder: Arc::new(folder),
            copies: setup.copies.take().unwrap_or_else(|| serde_json::from_value(copies).unwrap()),
            bucket: setup.bucket.take(),
        }
    }

    fn build(self, change: impl FnOnce(&mut Settings)) -> TestApp {
        let told = Arc::clone(&self.now);
        let clock = Clock::new(move || *told.lock().unwrap());
        let keys = [RootKey::new(Zeroizing::new([7; 32]))];
        let lake = self.folder.path().join("lake");
        let storage: StorageSettings =
            serde_json::from_value(json!({"name": "lake", "url": Url::from_file_path(&lake).unwrap()})).unwrap();
        let away = json!({"name": "away", "url": AWAY, "options": {
            "aws_endpoint": "http://127.0.0.1:1", "aws_allow_http": "true", "aws_region": "us-east-1",
            "aws_access_key_id": "key", "aws_secret_access_key": "secret",
        }});
        let storages = [Some(storage), Some(serde_json::from_value(away).unwrap()), self.bucket.clone()];
        let storages: Vec<StorageSettings> = storages.into_iter().flatten().collect();
        let storages = Storages::open(&storages, &[]).unwrap();
        let metrics = Arc::new(Metrics::new(storages.iter().map(|storage| storage.name())));
        let mut settings = Settings::load(Sources::default()).unwrap();
        settings.sharing.token_max_seconds = 90 * 86_400;
        settings.sharing.token_default_seconds = 30 * 86_400;
        change(&mut settings);
        let longest =
            Longest { recipients: settings.sharing.token_max_seconds, operators: settings.operators.token_max_seconds };
        let bootstrap = Secret::new(OPERATOR_TOKEN);
        let copies = CopyRoot::open(&self.copies).unwrap();
        let materializer = MaterializerParts {
            root: Some(copies.clone()),
            engine: Engine::new(EngineSettings::default()),
            root_key: keys[0].clone(),
            key_version: 1,
            settings: settings.views,
            cache_bytes: 64 << 20,
            surrogates: SurrogateStore::beside(&self.database),
        };
        let archive = settings.audit.export.target().map(|target| Archive::open(&target).unwrap());
        let signals = Arc::new(Signals::new(settings.notify, &settings.audit).unwrap());
        let (vitals, db) = (Vitals::default(), &**self.database);
        let audit_sealer = AuditSealer::new(db.clone(), clock.clone(), &keys, archive, settings.audit.clone()).unwrap();
        let core = Core::from(CoreParts {
            audit_writer: AuditWriter::start(
                db.clone(),
                clock.clone(),
                Arc::clone(&metrics),
                Arc::clone(&signals),
                &vitals,
            ),
            sign_in: Arc::new(SignIn::new(Some(&bootstrap), settings.operators, &settings.governance)),
            pages: Sealer::new(&keys, SealPurpose::PageToken),
            leases: audit_sealer.leases().clone(),
            geo_mode: settings.geography.mode,
            countries: settings.geography.database_file.map(|file| Arc::new(Countries::open(&file).unwrap())),
            db: db.clone(),
            signals,
            vitals,
            clock,
            metrics,
        });
        let parts = Dependencies {
            lookups: LookupBatcher::of(&core.db, &core.vitals),
            core,
            materializer,
            lake: Lake::new(LakeSettings::default()),
            storages: Arc::new(storages),
            unity: UnityServers::new(&settings.discovery).unwrap(),
            preparers: Preparers::default(),
            files: Sealer::new(&keys, SealPurpose::FileUrl),
            first_reads: Arc::new(FirstReads::default()),
            rate_limiter: Arc::new(RateLimiter::default()),
            identities: Identities::new(&settings.identity, longest).unwrap(),
            schema_holds: Arc::new(SchemaHolds::default()),
            settings: Arc::new(settings.sharing),
            governance: settings.governance,
            hooks: settings.hooks,
            usage: settings.usage,
            reports: settings.reports,
            audit_sealer,
            public_url: PUBLIC_URL.into(),
        };
        let service = Services::new(parts.clone());
        TestApp { router: router(&service, Proxies::default()), service, parts, copies, ground: self }
    }
}

fn change_views(change: Option<fn(&mut ViewSettings)>) -> impl FnOnce(&mut Settings) {
    move |settings| {
        if let Some(change) = change {
            change(&mut settings.views);
        }
    }
}

impl TestApp {
    /// A server on SQLite.
    pub async fn sqlite() -> Self {
        Self::set_up(TestDatabase::sqlite().await, Setup::default())
    }

    /// A server on SQLite with changed sharing settings.
    pub async fn sqlite_with(change: impl FnOnce(SharingSettings) -> SharingSettings) -> Self {
        Self::sqlite_set(|settings| settings.sharing = change(settings.sharing.clone())).await
    }

    /// A server on SQLite with changed settings.
    pub async fn sqlite_set(change: impl FnOnce(&mut Settings)) -> Self {
        Ground::new(TestDatabase::sqlite().await, &mut Setup::default()).build(change)
    }

    /// A server on PostgreSQL; `None` if no PostgreSQL server is configured.
    pub async fn postgres() -> Option<Self> {
        Some(Self::set_up(TestDatabase::postgres().await?, Setup::default()))
    }

    /// A server on each available database, with changed sharing settings.
    pub async fn each_with(change: impl Fn(SharingSettings) -> SharingSettings) -> Vec<Self> {
        Self::each(|settings| settings.sharing = change(settings.sharing.clone())).await
    }

    /// A server on each available database, with changed settings.
    pub async fn each(change: impl Fn(&mut Settings)) -> Vec<Self> {
        let ground = |database| Ground::new(database, &mut Setup::default());
        TestDatabase::each().await.into_iter().map(|database| ground(database).build(&change)).collect()
    }

    /// The server after a restart: it keeps what is stored and loses what was in memory.
    pub fn restarted(self) -> Self {
        let parts = Dependencies {
            lake: Lake::new(LakeSettings::default()),
            first_reads: Arc::new(FirstReads::default()),
            rate_limiter: Arc::new(RateLimiter::default()),
            schema_holds: Arc::new(SchemaHolds::default()),
            ..self.parts
        };
        let service = Services::new(parts.clone());
        Self { router: router(&service, Proxies::default()), service, parts, ..self }
    }

    /// A server on `database` with the whole bucket of `server` as a further storage. Its clock starts at the real
    /// time, by which the S3 server checks signatures.
    pub fn with_bucket(database: TestDatabase, server: &S3Server) -> Self {
        let bucket = json!({"name": "bucket", "url": format!("s3://{BUCKET}"), "options": server.options()});
        let bucket = Some(serde_json::from_value(bucket).unwrap());
        Self::set_up(database, Setup { bucket, starts_at: Some(Utc::now().trunc_subsecs(0)), ..Setup::default() })
    }

    /// A server on `database` behind a trusted proxy on this machine.
    pub fn behind_proxy(database: TestDatabase) -> Self {
        Self::set_up(database, Setup::default()).trusting_proxy()
    }

    /// Puts the server behind a trusted proxy on this machine.
    pub fn trusting_proxy(self) -> Self {
        let proxies = Proxies(vec!["127.0.0.0/8".parse().unwrap()]);
        Self { router: router(&self.service, proxies), ..self }
    }

    /// The same server with other place limits for recipients and operators, and `body_within` for bodies. Also returns
    /// the places of recipients.
    pub fn with_room(&self, room: PlaceLimits, admin_room: PlaceLimits, body_within: Duration) -> (Self, Places) {
        let limits = limits(room, body_within);
        let places = limits.places.clone();
        let admin_limits = self::limits(admin_room, body_within);
        let router = router_within(&self.service, Proxies::default(), limits, admin_limits);
        let (service, parts) = (self.service.clone(), self.parts.clone());
        let (copies, ground) = (self.copies.clone(), self.ground.clone());
        (Self { service, parts, copies, router, ground }, places)
    }

    /// A server on `database`, changed by `setup`.
    pub fn set_up(database: TestDatabase, mut setup: Setup) -> Self {
        Ground::new(database, &mut setup).build(change_views(setup.views))
    }

    /// Another server on the same database, lake, copies and clock.
    pub fn replica(&self, views: Option<fn(&mut ViewSettings)>) -> Self {
        self.ground.clone().build(change_views(views))
    }

    /// Another server on the same database, lake, copies and clock, with other settings.
    pub fn replica_set(&self, change: impl FnOnce(&mut Settings)) -> Self {
        self.ground.clone().build(change)
    }

    /// The server's current time.
    pub fn now(&self) -> DateTime<Utc> {
        *self.ground.now.lock().unwrap()
    }

    /// Appends events to the audit trail at the server's time.
    pub async fn append(&self, events: &[Event]) {
        let mut tx = self.service.core.db.begin().await.unwrap();
        let mut head = tx.lock_audit_head().await.unwrap();
        tx.append_audit(&mut head, events, self.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Advances the server's clock by `seconds`.
    pub fn pass(&self, seconds: i64) {
        *self.ground.now.lock().unwrap() += TimeDelta::seconds(seconds);
    }

    /// The path of a folder in the lake.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.ground.folder.path().join("lake").join(name)
    }

    /// The default folder of copies.
    pub fn copies_folder(&self) -> PathBuf {
        self.ground.folder.path().join("copies")
    }

    /// Runs a statement without the store.
    pub async fn execute(&self, sql: impl Into<String>) {
        let sql = sqlx::AssertSqlSafe(sql.into());
        match &self.service.core.db {
            Db::Sqlite { writer, .. } => drop(sqlx::query(sql).execute(writer).await.unwrap()),
            Db::Postgres { pool, .. } => drop(sqlx::query(sql).execute(pool).await.unwrap()),
        }
    }

    /// Sets the location of every registered table, without the store.
    pub async fn move_tables(&self, location: &str) {
        let moved = match &self.service.core.db {
            Db::Sqlite { .. } => format!("json_set(spec, '$.location', '{location}')"),
            Db::Postgres { .. } => format!("jsonb_set(spec::jsonb, '{{location}}', '\"{location}\"')::text"),
        };
        self.execute(format!("UPDATE tables SET spec = {moved}")).await;
    }

    /// The location of a folder in the lake.
    pub fn location(&self, name: &str) -> String {
        Url::from_file_path(self.folder(name)).unwrap().to_string()
    }

    /// Creates the table `name` in the lake with a log of one commit, and returns its location.
    pub fn plain_log(&self, name: &str) -> String {
        HandWrittenLog::plain(&self.folder(name));
        self.location(name)
    }

    /// Sends `request` and returns the answer with its body unread.
    pub async fn respond(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends `request` and reads the answer.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.respond(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// Sends an operator's request under `/api/v1` with further headers.
    pub async fn admin_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        self.admin_by(OPERATOR_TOKEN, method, path, headers, body).await
    }

    /// Sends a request under `/api/v1` with `token`.
    pub async fn admin_as(&self, token: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.admin_by(token, method, path, &[], body).await
    }

    async fn admin_by(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::USER_AGENT, "weir-tests");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).unwrap()).await
    }

    /// Sends a GET as an operator.
    pub async fn get(&self, path: &str) -> Answer {
        self.admin_with(Method::GET, path, &[], None).await
    }

    /// Sends a PUT as an operator.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.admin_with(Method::PUT, path, &[], Some(&body)).await
    }

    /// Sends a PATCH as an operator.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.admin_with(Method::PATCH, path, &[], Some(&body)).await
    }

    /// Sends a POST as an operator.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.admin_with(Method::POST, path, &[], Some(&body)).await
    }

    /// Sends a DELETE as an operator.
    pub async fn delete(&self, path: &str) -> Answer {
        self.admin_with(Method::DELETE, path, &[], None).await
    }

    /// Sends a recipient's GET with `token`.
    pub async fn shared(&self, token: &str, path: &str) -> Answer {
        let request = Request::get(format!("{PREFIX}{path}")).header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Registers the plain table `claims.claims` and shares it as `claims.claims` in the share `insurer`.
    pub async fn share_claims(&self) {
        let location = self.plain_log("claims");
        self.put("/tables/claims.claims", json!({"location": location})).await.expect(201);
        self.put("/shares/insurer", json!({})).await.expect(201);
        let source = json!({"source": {"table": "claims.claims"}});
        self.put("/shares/insurer/objects/claims/claims", source).await.expect(201);
    }

    /// Creates the recipient `acme`, grants it `insurer`, and returns the grant's id.
    pub async fn grant_acme(&self) -> String {
        self.put("/recipients/acme", json!({})).await.expect(201);
        let grant = self.post("/grants", json!({"share": "insurer", "recipient": "acme"})).await.expect(201);
        grant["id"].as_str().unwrap().to_owned()
    }

    /// Issues a token to `acme`.
    pub async fn token_for_acme(&self) -> Value {
        self.post("/recipients/acme/tokens", json!({"reveal": true})).await.expect(201)
    }

    /// Creates an operator and returns a token for it. Once there is an admin, the bootstrap token is refused.
    pub async fn operator(&self, name: &str, role: &str) -> String {
        self.put(&format!("/operators/{name}"), json!({"role": role})).await.expect(201);
        let issued = self.post(&format!("/operators/{name}/tokens"), json!({})).await.expect(201);
        issued["token"].as_str().unwrap().to_owned()
    }

    /// The newest events of `action`, newest first.
    pub async fn events(&self, action: &str) -> Vec<Value> {
        let page = self.get(&format!("/audit?action={action}")).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }
}
