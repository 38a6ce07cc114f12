//! Where from: the country of a client's address, on every face, and what is recorded of it.

use std::{fs, path::PathBuf};

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};
use tempfile::TempDir;
use weir::{
    config::{GeographySettings, Settings},
    domain::access::{
        decision::Reason,
        geography::{Country, GeoMode},
    },
    worker::Tasks,
};

use crate::support::{
    app::{Answer, TestApp, on_both_databases},
    mmdb::country_file,
};

use super::{Reader, fetch, reasons::is_told, share, steps, with_history};

on_both_databases!(
    a_request_is_answered_from_allowed_countries_alone_on_every_face,
    agreements_narrow_where_their_grants_are_read_from,
    what_an_untrusted_peer_says_of_its_address_counts_for_nothing,
    a_new_country_file_counts_and_a_broken_one_does_not,
    what_no_country_is_is_refused,
);

const GERMAN: &str = "198.51.100.7";
const FRENCH: &str = "192.0.2.7";
const AMERICAN: &str = "203.0.113.7";
/// An address that is in no country that the file knows.
const UNKNOWN: &str = "10.1.2.3";

const NETWORKS: [(&str, &str); 5] = [
    ("198.51.100.0/24", "DE"),
    ("2001:db8:49::/48", "DE"),
    ("192.0.2.0/24", "FR"),
    ("203.0.113.0/24", "US"),
    ("2001:db8:1::/48", "US"),
];

/// A country file on disk.
struct File(TempDir);

impl File {
    fn new() -> Self {
        let file = Self(TempDir::new().unwrap());
        file.write(&country_file(&NETWORKS));
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("countries.mmdb")
    }

    fn write(&self, bytes: &[u8]) {
        let new = self.0.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn asking(&self, mode: GeoMode) -> impl FnOnce(&mut Settings) {
        let database_file = Some(self.path());
        move |settings| settings.geography = GeographySettings { database_file, mode }
    }
}

/// A recipient's connector, with a file and a link of its own.
struct Partner {
    token: String,
    file: String,
    link: String,
}

impl Partner {
    async fn new(app: &TestApp) -> Self {
        steps(app, "steps");
        share(app, "steps", with_history()).await;
        let acme = Reader::acme(app).await;
        let file = acme.query("steps", json!({})).await.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
        let issued = app.post("/recipients/acme/tokens", json!({"credential": "link"})).await.expect(201);
        Self { token: acme.token, file, link: issued["activation_url"].as_str().unwrap().to_owned() }
    }

    fn reader<'a>(&self, app: &'a TestApp) -> Reader<'a> {
        Reader { app, token: self.token.clone() }
    }

    async fn shares(&self, app: &TestApp, address: &str) -> Answer {
        self.reader(app).send(Method::GET, "/shares", &[("x-forwarded-for", address)], "").await
    }

    async fn share(&self, app: &TestApp, address: &str) -> Answer {
        self.reader(app).send(Method::GET, "/shares/insurer", &[("x-forwarded-for", address)], "").await
    }

    /// The answers of each face to a client at `address`: the protocol, a file, a link.
    async fn faces(&self, app: &TestApp, address: &str) -> Vec<Answer> {
        let (acme, from) = (self.reader(app), [("x-forwarded-for", address)]);
        vec![
            self.shares(app, address).await,
            self.share(app, address).await,
            acme.send(Method::POST, "/shares/insurer/schemas/s/tables/steps/query", &from, "{}").await,
            fetch(app, Method::GET, &self.file, &from).await,
            fetch(app, Method::HEAD, &self.file, &from).await,
            fetch(app, Method::GET, &self.link, &from).await,
        ]
    }
}

/// Servers on one database that ask as much as each mode says, behind a trusted proxy.
fn servers(app: &TestApp, file: &File) -> [TestApp; 3] {
    [GeoMode::Off, GeoMode::Known, GeoMode::Strict].map(|mode| app.replica_set(file.asking(mode)).trusting_proxy())
}

async fn newest(app: &TestApp, action: &str) -> Value {
    app.events(action).await.remove(0)
}

async fn a_request_is_answered_from_allowed_countries_alone_on_every_face(app: TestApp) {
    let file = File::new();
    let [off, known, strict] = servers(&app, &file);
    let partner = Partner::new(&app).await;
    // Nobody says where acme may be: it may be everywhere, and the event says where it was.
    for address in [GERMAN, AMERICAN, UNKNOWN] {
        for answer in partner.faces(&strict, address).await {
            assert_eq!(answer.status, 200, "{address}: {}", answer.text);
        }
    }
    assert_eq!(newest(&app, "share.get").await.get("country"), None);
    app.patch("/recipients/acme", json!({"country": "DE"})).await.expect(200);
    for (server, address, country) in [
        (&off, AMERICAN, "US"),
        (&off, UNKNOWN, ""),
        (&known, GERMAN, "DE"),
        (&known, "2001:db8:49::7", "DE"),
        (&known, "::ffff:198.51.100.7", "DE"),
        (&known, UNKNOWN, ""),
        (&strict, GERMAN, "DE"),
    ] {
        for answer in partner.faces(server, address).await {
            assert_eq!(answer.status, 200, "{address}: {}", answer.text);
        }
        for action in ["shares.list", "share.get", "table.query", "activation.view"] {
            let event = newest(&app, action).await;
            assert_eq!(event["decision"], "allow", "{event}");
            assert_eq!(event["country"].as_str().unwrap_or_default(), country, "{event}");
        }
    }
    for (server, address, country) in [
        (&known, AMERICAN, "US"),
        (&known, "2001:db8:1::7", "US"),
        (&strict, AMERICAN, "US"),
        (&strict, UNKNOWN, ""),
        (&strict, "2001:db8:2::7", ""),
        (&strict, "127.0.0.1", ""),
    ] {
        // The first refusals of a minute are recorded one by one.
        app.pass(60);
        let reason = Reason::GeoDenied(Country::parse(country));
        let answers = partner.faces(server, address).await;
        // The link's page has codes of its own.
        for answer in &answers[..3] {
            is_told(answer, reason);
        }
        for answer in &answers[3..] {
            assert_eq!(answer.status, 403, "{address}: {}", answer.text);
        }
        assert!(answers[5].text.contains(if country.is_empty() { "not known" } else { "the country US" }));
        for action in ["shares.list", "share.get", "table.query", "file.read", "activation.view"] {
            let event = newest(&app, action).await;
            assert_eq!((&event["decision"], &event["reason"]), (&json!("deny"), &json!("GEO_DENIED")), "{event}");
            assert_eq!(event["country"].as_str().unwrap_or_default(), country, "{event}");
        }
        assert!(newest(&app, "share.get").await["grant_id"].is_string());
    }
    // What is not granted is not there, wherever one asks from.
    let rival = Reader::rival(&app).await;
    app.patch("/recipients/rival", json!({"regions": ["EU"]})).await.expect(200);
    let rival = Reader { app: &strict, ..rival };
    let from = [("x-forwarded-for", AMERICAN)];
    assert_eq!(rival.send(Method::GET, "/shares/insurer", &from, "").await.status, 404);
    assert_eq!(rival.send(Method::GET, "/shares/other", &from, "").await.status, 403);
    // Regions say more than the country, or something else.
    app.patch("/recipients/acme", json!({"regions": ["EU"]})).await.expect(200);
    for (address, status) in [(GERMAN, 200), (FRENCH, 200), (AMERICAN, 403), (UNKNOWN, 403)] {
        assert_eq!(partner.share(&strict, address).await.status, status, "{address}");
    }
}

async fn agreements_narrow_where_their_grants_are_read_from(app: TestApp) {
    let file = File::new();
    let [off, known, strict] = servers(&app, &file);
    let partner = Partner::new(&app).await;
    let replaced = app.get("/grants").await.expect(200)["items"][0]["id"].clone();
    let grant = json!({"share": "insurer", "recipient": "acme", "replaces": replaced, "agreement": {"ref": "A-7"}});
    app.post("/grants", grant).await.expect(201);
    let regions = async |regions: Value| app.patch("/agreements/A-7", json!({"regions": regions})).await.expect(200);
    for (stated, from) in [
        (json!(null), "DE FR US ?"),
        (json!(["EU"]), "DE FR"),
        (json!(["FR", "US"]), "FR US"),
        (json!(["EEA", "US"]), "DE FR US"),
        (json!([]), ""),
        (json!(["EU"]), "DE FR"),
    ] {
        assert_eq!(regions(stated.clone()).await["regions"], stated);
        for (address, country) in [(GERMAN, "DE"), (FRENCH, "FR"), (AMERICAN, "US"), (UNKNOWN, "?")] {
            let is_allowed = from.contains(country);
            let status = if is_allowed { 200 } else { 403 };
            assert_eq!(partner.share(&strict, address).await.status, status, "{stated} {country}");
            // An unknown country passes, unless no country is allowed.
            let passes = is_allowed || (country == "?" && stated != json!([]));
            assert_eq!(
                partner.share(&known, address).await.status,
                if passes { 200 } else { 403 },
                "{stated} {country}"
            );
            assert_eq!(partner.share(&off, address).await.status, 200);
            // What cannot be read is not listed, either; that its grant has ended is not said.
            let listed = partner.shares(&strict, address).await;
            let items = listed.json()["items"].as_array().map_or(0, Vec::len);
            assert_eq!((listed.status.as_u16(), items), (200, usize::from(is_allowed)), "{stated} {country}");
            assert_eq!(listed.header("x-share-notice"), "");
        }
    }
    let event = newest(&app, "share.get").await;
    assert_eq!(event["agreement"], "A-7", "{event}");
    // The recipient's own settings go on counting, and say where it lists its shares.
    app.patch("/recipients/acme", json!({"country": "DE"})).await.expect(200);
    for (address, status) in [(GERMAN, 200), (FRENCH, 403), (AMERICAN, 403)] {
        assert_eq!(partner.share(&strict, address).await.status, status, "{address}");
        assert_eq!(partner.shares(&strict, address).await.status, status, "{address}");
    }
    let effects: Vec<Value> =
        app.events("agreement.update").await.iter().map(|event| event["effect"].clone()).collect();
    assert_eq!(effects, ["loosens", "tightens", "loosens", "loosens", "tightens"]);
    assert_eq!(newest(&app, "recipient.update").await["effect"], "tightens");
}

async fn what_an_untrusted_peer_says_of_its_address_counts_for_nothing(app: TestApp) {
    let file = File::new();
    let partner = Partner::new(&app).await;
    app.patch("/recipients/acme", json!({"country": "DE"})).await.expect(200);
    let exposed = app.replica_set(file.asking(GeoMode::Strict));
    for answer in partner.faces(&exposed, GERMAN).await {
        assert_eq!(answer.status, 403, "{}", answer.text);
    }
    let event = newest(&app, "share.get").await;
    assert_eq!((&event["reason"], &event["client_address"]), (&json!("GEO_DENIED"), &json!("127.0.0.1")), "{event}");
    assert_eq!(event.get("country"), None, "{event}");
    // An address to the left of one that is no proxy is only a claim.
    let proxied = app.replica_set(file.asking(GeoMode::Known)).trusting_proxy();
    is_told(&partner.share(&proxied, "198.51.100.7, 203.0.113.9").await, Reason::GeoDenied(Country::parse("US")));
    assert_eq!(partner.share(&proxied, "203.0.113.9, 198.51.100.7, 127.0.0.2").await.status, 200);
}

/// The value of a series of `/metrics`.
async fn metric(app: &TestApp, name: &str) -> String {
    let page = app.send(Request::get("/metrics").body(Body::empty()).unwrap()).await.text;
    let line =
        page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {page}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

async fn a_new_country_file_counts_and_a_broken_one_does_not(app: TestApp) {
    let file = File::new();
    let partner = Partner::new(&app).await;
    app.patch("/recipients/acme", json!({"country": "DE"})).await.expect(200);
    let server = app.replica_set(file.asking(GeoMode::Strict)).trusting_proxy();
    let tasks = Tasks::of(&server.service);
    // Why the task failed that looks at the file, if it did.
    let look = async || {
        server.pass(5);
        let ran = tasks.run_due().await;
        ran.into_iter().find(|ran| ran.name == "countries").expect("it is due").failure
    };
    assert_eq!(look().await, None);
    assert_eq!(metric(&server, "weir_geography_database_failing").await, "0");
    assert_eq!(metric(&server, "weir_geography_database_made_timestamp_seconds").await, "1790000000");
    assert_eq!(partner.share(&server, AMERICAN).await.status, 403);
    file.write(&country_file(&[("203.0.113.0/24", "DE")]));
    assert_eq!(look().await, None);
    for (address, status) in [(AMERICAN, 200), (GERMAN, 403)] {
        assert_eq!(partner.share(&server, address).await.status, status, "{address}");
    }
    // Half of the next one, and then something else: the last good one goes on.
    let next = country_file(&NETWORKS);
    for broken in [&next[..next.len() / 2], &b"junk"[..]] {
        file.write(broken);
        assert!(look().await.is_some_and(|said| !said.is_empty()));
        assert_eq!(metric(&server, "weir_geography_database_failing").await, "1");
        assert_eq!(metric(&server, "weir_task_failing{task=\"countries\"}").await, "1");
        for (address, status) in [(AMERICAN, 200), (GERMAN, 403), (UNKNOWN, 403)] {
            assert_eq!(partner.share(&server, address).await.status, status, "{address}");
        }
    }
    file.write(&next);
    assert_eq!(look().await, None);
    assert_eq!(metric(&server, "weir_geography_database_failing").await, "0");
    for (address, status) in [(AMERICAN, 403), (GERMAN, 200)] {
        assert_eq!(partner.share(&server, address).await.status, status, "{address}");
    }
}

async fn what_no_country_is_is_refused(app: TestApp) {
    app.put("/recipients/acme", json!({"country": "DE", "regions": ["EU", "CH"]})).await.expect(201);
    for (wrong, field) in [
        (json!({"country": "UK"}), "country"),
        (json!({"country": "EU"}), "country"),
        (json!({"country": "de"}), "country"),
        (json!({"regions": ["EU", "Europe"]}), "regions[1]"),
        (json!({"regions": ["UK"]}), "regions[0]"),
    ] {
        let problem = app.patch("/recipients/acme", wrong).await.problem(422, "invalid_input");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
}
