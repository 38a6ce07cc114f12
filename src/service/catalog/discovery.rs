//! Discovery: lists the Delta tables below a prefix of a storage, or in a Unity Catalog server, as drafts of registrations.
//!
//! Nothing is registered or shared by it. Whoever asks may register tables anywhere, since it shows what lies in storages. A
//! search that takes too long is cut, and goes on after its last table when it is asked for the rest. Never here: what is
//! told of a table's log, which [`super::tables`] says for registered ones, too.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::json;

use crate::{
    domain::{
        audit::{
            Event, Object,
            action::{Action, Kind},
        },
        catalog::discovery::{NameSuggestions, told_properties, told_text},
        core::{secret::Secret, spec::LONGEST_TEXT},
    },
    identity::Unfetched,
    lake::{LakeError, Search, SearchLimits, SearchStep, Snapshot},
    service::{
        catalog::tables::{DeltaSummary, refused_log, refused_place, require_placing},
        core::{context::OperatorContext, error::ServiceError, page::PageRequest},
    },
    storage::StorageError,
    telemetry::error_chain,
    unity::{UnityColumn, UnityError, UnitySession, UnityTable},
};

use super::Catalog;

/// The default number of tables in one answer.
pub const DISCOVERED_TABLES: u32 = 100;
/// The most tables in one answer.
pub const MOST_DISCOVERED_TABLES: u32 = 1_000;
/// How long one answer takes by default, in seconds.
pub const DISCOVERY_SECONDS: u64 = 10;
/// How long one answer takes at most, in seconds.
pub const MOST_DISCOVERY_SECONDS: u64 = 30;
/// The most folders below each other that are looked into.
const DEEPEST: usize = 12;
/// The most names that are listed for one answer.
const MOST_LISTED: usize = 100_000;
/// The most columns in one answer; a few more come with the last tables.
const MOST_COLUMNS: usize = 20_000;
/// How many logs are read at once. Recipients' requests read logs, too.
const OPENED_AT_ONCE: usize = 4;
/// How long the first log of an answer may take, whatever time is left, so that each answer comes further.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
/// How many registered tables are read at a time.
const KNOWN_AT_ONCE: u32 = 1_000;
/// The most properties and comments that are told of a table.
const MOST_TOLD: usize = 1_000;
/// The longest text of a catalog that is told, in characters, except for the description.
const LONGEST_TOLD: usize = 1_024;
/// Sorts behind every name.
const BEHIND: &str = "\u{10ffff}";

/// Where tables are looked for.
#[derive(Clone, Debug)]
pub enum DiscoveryPlace {
    /// Below a prefix inside of a storage.
    Prefix(String),
    /// In a Unity Catalog server.
    Unity(UnityPlace),
}

/// A Unity Catalog server, and what of it is looked at.
#[derive(Clone, Debug)]
pub struct UnityPlace {
    /// The server's address.
    pub url: String,
    /// The token that it wants.
    pub token: Option<Secret>,
    /// This catalog alone.
    pub catalog: Option<String>,
    /// This schema of the catalog alone.
    pub schema: Option<String>,
}

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct DiscoveryRequest {
    /// Where.
    pub place: DiscoveryPlace,
    /// The most tables.
    pub max_tables: Option<u32>,
    /// The longest time, in seconds.
    pub max_seconds: Option<u64>,
    /// The token of the answer before.
    pub page_token: Option<String>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The tables, in the order of their paths or names.
    pub tables: Vec<DiscoveredTable>,
    /// What was left out; nothing, if this is the rest of all that there is.
    pub cuts: Vec<DiscoveryCut>,
    /// The token for what follows; `None` if nothing does, as far as it can be looked at.
    pub next_page_token: Option<String>,
}

/// Something that was left out of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryCut {
    /// The limit that it fell to.
    pub limit: &'static str,
    /// What that means, and what to do.
    pub message: String,
}

/// A Delta table that was found.
#[derive(Clone, Debug)]
pub struct DiscoveredTable {
    /// Its location in normal form; `None` where a catalog names none that could be one.
    pub location: Option<String>,
    /// The name that it is registered under, or one that it could have.
    pub name: String,
    /// All names that the location is registered under.
    pub registered_as: Vec<String>,
    /// What its log says, or why that cannot be read.
    pub log: Result<DeltaFacts, String>,
    /// What the catalog says that it was found in.
    pub entry: Option<CatalogEntry>,
}

/// What the log of a table that was found says.
#[derive(Clone, Debug)]
pub struct DeltaFacts {
    /// What is told of registered tables, too.
    pub summary: DeltaSummary,
    /// The size of its files, in bytes.
    pub size_bytes: u64,
    /// The number of its files.
    pub files: usize,
    /// The number of its rows; `None` where statistics do not say.
    pub rows: Option<u64>,
    /// The properties that matter to whoever shares it.
    pub properties: BTreeMap<String, String>,
    /// What its writer says of it.
    pub description: Option<String>,
}

/// What a catalog says of a table.
#[derive(Clone, Debug, Default)]
pub struct CatalogEntry {
    /// Its name there, with its catalog and schema.
    pub name: String,
    /// Its owner.
    pub owner: Option<String>,
    /// What is said of it.
    pub comment: Option<String>,
    /// What is said of its columns, by column.
    pub column_comments: BTreeMap<String, String>,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
}

impl From<&Snapshot> for DeltaFacts {
    fn from(snapshot: &Snapshot) -> Self {
        let metadata = snapshot.metadata();
        Self {
            summary: snapshot.into(),
            size_bytes: snapshot.size_bytes(),
            files: snapshot.files().len(),
            rows: snapshot.rows(),
            properties: told_properties(&metadata.configuration),
            description: metadata.description.as_deref().and_then(|text| told_text(text, LONGEST_TEXT)),
        }
    }
}

impl CatalogEntry {
    fn of(name: String, table: UnityTable) -> Self {
        let told = |text: Option<String>, longest| text.and_then(|text| told_text(&text, longest));
        let comment =
            |UnityColumn { name, comment }| Some((told_text(&name, LONGEST_TOLD)?, told(comment, LONGEST_TOLD)?));
        let property = |(key, value): (String, _)| Some((told_text(&key, LONGEST_TOLD)?, told(value, LONGEST_TOLD)?));
        Self {
            name,
            owner: told(table.owner, LONGEST_TOLD),
            comment: told(table.comment, LONGEST_TEXT),
            column_comments: table
                .columns
                .unwrap_or_default()
                .into_iter()
                .filter_map(comment)
                .take(MOST_TOLD)
                .collect(),
            properties: table.properties.unwrap_or_default().into_iter().filter_map(property).take(MOST_TOLD).collect(),
        }
    }
}

/// Why a search stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Tables,
    Columns,
    Listed,
    Seconds,
}

impl Bound {
    fn cut(self) -> DiscoveryCut {
        let (limit, reached) = match self {
            Self::Tables => ("max_tables", "as many tables as were asked for are found"),
            Self::Columns => ("columns", "the answer has as many columns as one may have"),
            Self::Listed => ("listed", "as much was listed as is for one answer"),
            Self::Seconds => ("max_seconds", "the time is over"),
        };
        DiscoveryCut { limit, message: format!("{reached}; ask for the rest with `next_page_token`") }
    }
}

/// A table that was found and not looked at.
struct Candidate {
    /// Everything up to it was met when it was found.
    position: String,
    /// Where it lies, as it was found.
    location: Option<String>,
    /// What its name could be made of.
    parts: Vec<String>,
    entry: Option<CatalogEntry>,
}

/// The next thing that a search meets.
enum Next {
    Candidate(Box<Candidate>),
    Ended,
    Stopped(Bound),
}

/// A search for tables.
enum Finder {
    Folders { search: Box<Search>, root: Vec<String> },
    Unity(Box<UnityFinder>),
}

/// A search in a Unity Catalog server, by catalog, schema and table.
struct UnityFinder {
    session: UnitySession,
    catalog: Option<String>,
    schema: Option<String>,
    /// The catalogs that are left; `None` before they are known.
    catalogs: Option<VecDeque<String>>,
    schemas: VecDeque<(String, String)>,
    /// The schema that `tables` are of.
    current: Option<(String, String)>,
    tables: VecDeque<UnityTable>,
    /// Where an earlier search ended.
    after: Option<[String; 3]>,
    position: Option<[String; 3]>,
}

/// The registered tables: their locations, and their names.
#[derive(Default)]
struct Known {
    by_location: HashMap<String, Vec<String>>,
    names: NameSuggestions,
}

impl Catalog {
    /// Lists Delta tables of a place, and what their logs say. The search is recorded before it is answered.
    pub async fn discover(&self, ctx: &OperatorContext, request: DiscoveryRequest) -> Result<Discovery, ServiceError> {
        let started = Instant::now();
        require_placing(ctx)?;
        let most = bounded("max_tables", request.max_tables, DISCOVERED_TABLES, MOST_DISCOVERED_TABLES)?;
        let seconds = bounded("max_seconds", request.max_seconds, DISCOVERY_SECONDS, MOST_DISCOVERY_SECONDS)?;
        let until = started + Duration::from_secs(seconds);
        let page = PageRequest { max_results: Some(most), page_token: request.page_token };
        let (place, opened, mut finder) = match request.place {
            DiscoveryPlace::Prefix(url) => {
                let location = self.storages.locate(&url).map_err(|error| refused_place("url", error))?;
                let place = location.url().to_owned();
                let opened = self.core.begin_page(&page, format!("discover {place}"))?;
                let limits = SearchLimits { depth: DEEPEST, listed: MOST_LISTED, until };
                let root = last_name(&place).into_iter().collect();
                let search = Box::new(Search::new(location, opened.after.clone(), limits));
                (place, opened, Finder::Folders { search, root })
            }
            DiscoveryPlace::Unity(unity) => {
                let UnityPlace { url, token, catalog, schema } = unity;
                if schema.is_some() && catalog.is_none() {
                    return Err(ServiceError::invalid("unity.catalog", "is missing; name the catalog of the schema"));
                }
                let session = self.unity.session(&url, token, until).map_err(refused_server)?;
                let place = session.url().to_owned();
                let opened = self.core.begin_page(&page, format!("discover {place} {catalog:?} {schema:?}"))?;
                let finder = UnityFinder::new(session, catalog, schema, opened.after.as_deref());
                (place, opened, Finder::Unity(Box::new(finder)))
            }
        };
        let found = self.find_tables(&mut finder, opened.after.clone(), most, until).await;
        let Found { tables, stopped, position } = found.inspect_err(|_| {
            self.core.metrics.tables_discovered("failed");
        })?;
        let mut cuts: Vec<DiscoveryCut> = stopped.map(Bound::cut).into_iter().collect();
        cuts.extend(finder.cuts());
        self.core.metrics.tables_discovered(if cuts.is_empty() { "complete" } else { "partial" });
        let problems = tables.iter().filter(|table| table.log.is_err()).count();
        let told = json!({"place": place, "tables": tables.len(), "problems": problems, "complete": cuts.is_empty()});
        let event = Event {
            change: Some(json!({"after": told})),
            duration_ms: Some(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
            ..ctx.event(Action::TableDiscover, Object { kind: Kind::Table, id: None, name: None })
        };
        self.core.audit_writer.record(event).await?;
        let next_page_token = match stopped {
            Some(_) => self.core.break_page(opened, Vec::<()>::new(), &position.unwrap_or_default()).next_page_token,
            None => None,
        };
        Ok(Discovery { tables, cuts, next_page_token })
    }

    /// Finds up to `most` tables and reads their logs.
    async fn find_tables(
        &self,
        finder: &mut Finder,
        after: Option<String>,
        most: u32,
        until: Instant,
    ) -> Result<Found, ServiceError> {
        let most = usize::try_from(most).unwrap_or_default();
        let mut known = self.known_tables().await?;
        let mut found = Found { tables: Vec::new(), stopped: None, position: after.clone() };
        let (mut columns, mut is_ended) = (0, false);
        while !is_ended && found.stopped.is_none() {
            let room = OPENED_AT_ONCE.min(most.saturating_sub(found.tables.len()));
            let mut candidates = Vec::with_capacity(room);
            while candidates.len() < room && !is_ended && found.stopped.is_none() {
                match finder.next().await? {
                    Next::Candidate(candidate) => candidates.push(*candidate),
                    Next::Ended => is_ended = true,
                    Next::Stopped(bound) => found.stopped = Some(bound),
                }
            }
            let is_first = found.tables.is_empty();
            let left = until.saturating_duration_since(Instant::now());
            let patience = if is_first { left.max(LEAST_PATIENCE) } else { left };
            let opened = join_all(candidates.iter().map(|candidate| self.open_candidate(candidate, patience))).await;
            let mut is_whole = true;
            for (candidate, opened) in candidates.into_iter().zip(opened) {
                // What does not fit into the time is the first of the next answer, where it has all the time.
                let late = || "reading its log takes too long; register it to see more".to_owned();
                let (location, log) = match opened {
                    Some(opened) => opened,
                    None if found.tables.is_empty() => (candidate.location.clone(), Err(late())),
                    None => {
                        (found.stopped, is_whole) = (Some(Bound::Seconds), false);
                        break;
                    }
                };
                columns += log.as_ref().map_or(0, |facts| facts.summary.columns.len());
                found.position = Some(candidate.position.clone());
                found.tables.push(known.describe(candidate, location, log));
            }
            if is_whole {
                found.position = finder.position().or(found.position);
            }
            if found.stopped.is_none() && !is_ended {
                is_ended = finder.is_ended();
                found.stopped = match found.tables.len() >= most {
                    _ if is_ended => None,
                    true => Some(Bound::Tables),
                    false => (columns >= MOST_COLUMNS).then_some(Bound::Columns),
                };
            }
        }
        // Whoever asks for the rest would ask for ever.
        if found.stopped.is_some() && found.position == after {
            let message = format!(
                "is too short to come any further; allow more, up to {MOST_DISCOVERY_SECONDS}, or name a smaller place"
            );
            return Err(ServiceError::invalid("max_seconds", message));
        }
        Ok(found)
    }

    /// Finds the place of a candidate in normal form and reads its log; `None` if that takes too long.
    async fn open_candidate(&self, candidate: &Candidate, patience: Duration) -> Option<Opened> {
        let Some(written) = &candidate.location else {
            return Some((None, Err("the catalog names no place of its files".to_owned())));
        };
        let location = match self.storages.locate(written) {
            Ok(located) => Some(located.url().to_owned()),
            Err(StorageError::OutsideStorages { location }) => Some(location),
            // Nobody knows what it holds.
            Err(_) => None,
        };
        let opened = tokio::time::timeout(patience, self.open_log(written)).await.ok()?;
        let opened = opened.inspect_err(|error| {
            tracing::info!(
                table.location = location,
                error = error_chain(error),
                "a table that was found cannot be read"
            );
        });
        Some((location, opened.map(|(_, snapshot)| DeltaFacts::from(&*snapshot)).map_err(problem_of)))
    }

    async fn known_tables(&self) -> Result<Known, ServiceError> {
        let mut known = Known::default();
        let mut after: Option<String> = None;
        loop {
            let tables = self.core.db.list_tables(after.as_deref(), KNOWN_AT_ONCE).await?;
            let Some(last) = tables.last() else { return Ok(known) };
            after = Some(last.name.key().to_owned());
            for table in tables {
                known.names.take(table.name.key());
                known.by_location.entry(table.spec.location).or_default().push(table.name.as_str().to_owned());
            }
        }
    }
}

/// The place of a candidate, and what its log says.
type Opened = (Option<String>, Result<DeltaFacts, String>);

/// The part of an answer that was found.
struct Found {
    tables: Vec<DiscoveredTable>,
    stopped: Option<Bound>,
    /// Everything up to here was met.
    position: Option<String>,
}

impl Known {
    fn describe(
        &mut self,
        candidate: Candidate,
        location: Option<String>,
        log: Result<DeltaFacts, String>,
    ) -> DiscoveredTable {
        let Candidate { parts, entry, .. } = candidate;
        let registered_as = location.as_ref().and_then(|location| self.by_location.get(location)).cloned();
        let registered_as = registered_as.unwrap_or_default();
        let name = match registered_as.first() {
            Some(name) => name.clone(),
            None => self.names.suggest(parts.iter().map(String::as_str)),
        };
        DiscoveredTable { location, name, registered_as, log, entry }
    }
}

impl Finder {
    async fn next(&mut self) -> Result<Next, ServiceError> {
        match self {
            Self::Folders { search, root } => Ok(match search.next().await.map_err(refused_search)? {
                SearchStep::Found(folder) => {
                    let parts: Vec<String> = folder.path.split('/').map(str::to_owned).collect();
                    Next::Candidate(Box::new(Candidate {
                        parts: if folder.path.is_empty() { root.clone() } else { parts },
                        position: folder.path,
                        location: Some(folder.url),
                        entry: None,
                    }))
                }
                SearchStep::Ended => Next::Ended,
                SearchStep::OutOfTime => Next::Stopped(Bound::Seconds),
                SearchStep::ListedEnough => Next::Stopped(Bound::Listed),
            }),
            Self::Unity(finder) => finder.next().await,
        }
    }

    fn position(&self) -> Option<String> {
        match self {
            Self::Folders { search, .. } => search.position().map(str::to_owned),
            Self::Unity(finder) => finder.position.as_ref().map(|position| json!(position).to_string()),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Folders { search, .. } => search.is_ended(),
            Self::Unity(finder) => finder.is_ended(),
        }
    }

    /// What cannot be looked at, whoever asks for the rest.
    fn cuts(&self) -> Vec<DiscoveryCut> {
        let Self::Folders { search, .. } = self else { return Vec::new() };
        let mut cuts = Vec::new();
        if search.too_deep() > 0 {
            let message = format!(
                "{} folders have folders deeper than {DEEPEST} levels below the prefix, which were not looked into; name a \
                 deeper prefix",
                search.too_deep()
            );
            cuts.push(DiscoveryCut { limit: "depth", message });
        }
        if search.unreadable() > 0 {
            let message = format!(
                "{} folders cannot be listed; check the right of the storage's credential to list them, and that no name in \
                 them has an empty part (`//`)",
                search.unreadable()
            );
            cuts.push(DiscoveryCut { limit: "unreadable", message });
        }
        cuts
    }
}

impl UnityFinder {
    fn new(session: UnitySession, catalog: Option<String>, schema: Option<String>, after: Option<&str>) -> Self {
        let after: Option<[String; 3]> = after.and_then(|after| serde_json::from_str(after).ok());
        Self {
            session,
            catalog,
            schema,
            catalogs: None,
            schemas: VecDeque::new(),
            current: None,
            tables: VecDeque::new(),
            position: after.clone(),
            after,
        }
    }

    async fn next(&mut self) -> Result<Next, ServiceError> {
        match self.advance().await {
            Ok(Some(candidate)) => Ok(Next::Candidate(Box::new(candidate))),
            Ok(None) => Ok(Next::Ended),
            Err(UnityError::OutOfTime) => Ok(Next::Stopped(Bound::Seconds)),
            Err(UnityError::AskedEnough) => Ok(Next::Stopped(Bound::Listed)),
            Err(error) => Err(refused_answer(error)),
        }
    }

    /// Goes on to the next Delta table.
    async fn advance(&mut self) -> Result<Option<Candidate>, UnityError> {
        loop {
            if let (Some((catalog, schema)), Some(table)) = (self.current.clone(), self.tables.pop_front()) {
                let position = [catalog, schema, table.name.clone()];
                if self.is_passed(&position) {
                    continue;
                }
                self.position = Some(position.clone());
                let is_delta = |format: &String| format.eq_ignore_ascii_case("DELTA");
                if table.data_source_format.as_ref().is_some_and(is_delta) {
                    return Ok(Some(candidate(position, table)));
                }
                continue;
            }
            if let Some((catalog, schema)) = self.current.take() {
                self.pass([catalog, schema, BEHIND.to_owned()]);
            }
            if let Some((catalog, schema)) = self.schemas.front().cloned() {
                if !self.is_passed(&[catalog.clone(), schema.clone(), BEHIND.to_owned()]) {
                    self.tables = self.session.tables(&catalog, &schema).await?.into();
                    self.current = Some((catalog, schema));
                }
                self.schemas.pop_front();
                continue;
            }
            if self.catalogs.is_none() {
                self.catalogs = Some(match &self.catalog {
                    Some(catalog) => VecDeque::from([catalog.clone()]),
                    None => self.session.catalogs().await?.into(),
                });
            }
            let Some(catalog) = self.catalogs.as_ref().and_then(|catalogs| catalogs.front().cloned()) else {
                return Ok(None);
            };
            if !self.is_passed(&[catalog.clone(), BEHIND.to_owned(), BEHIND.to_owned()]) {
                let schemas = match &self.schema {
                    Some(schema) => vec![schema.clone()],
                    None => self.session.schemas(&catalog).await?,
                };
                self.schemas = schemas.into_iter().map(|schema| (catalog.clone(), schema)).collect();
            }
            self.catalogs.as_mut().and_then(VecDeque::pop_front);
        }
    }

    /// Whether an earlier search met it.
    fn is_passed(&self, position: &[String; 3]) -> bool {
        self.after.as_ref().is_some_and(|after| position <= after)
    }

    fn pass(&mut self, position: [String; 3]) {
        if self.position.as_ref().is_none_or(|known| *known < position) {
            self.position = Some(position);
        }
    }

    fn is_ended(&self) -> bool {
        let are_passed = self.catalogs.as_ref().is_some_and(VecDeque::is_empty);
        are_passed && self.schemas.is_empty() && self.tables.is_empty()
    }
}

fn candidate(position: [String; 3], table: UnityTable) -> Candidate {
    let told = |part: &String| told_text(part, LONGEST_TOLD).unwrap_or_default();
    let name = position.iter().map(told).collect::<Vec<_>>().join(".");
    Candidate {
        location: table.storage_location.clone().filter(|location| !location.is_empty()),
        parts: position.to_vec(),
        position: json!(position).to_string(),
        entry: Some(CatalogEntry::of(name, table)),
    }
}

/// The last name of a location's path; for a whole bucket its own.
fn last_name(location: &str) -> Option<String> {
    let name = location.rsplit('/').find(|name| !name.is_empty())?;
    Some(percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned())
}

/// A number of a request within its bounds.
fn bounded<N: PartialOrd + Copy + From<u8> + std::fmt::Display>(
    field: &str,
    asked: Option<N>,
    default: N,
    most: N,
) -> Result<N, ServiceError> {
    let number = asked.unwrap_or(default);
    if (N::from(1u8)..=most).contains(&number) {
        return Ok(number);
    }
    Err(ServiceError::invalid(field, format!("must be between 1 and {most}")))
}

/// Why a log cannot be read, in a sentence.
fn problem_of(error: ServiceError) -> String {
    match error {
        ServiceError::Invalid(errors) => errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; "),
        error => error.to_string(),
    }
}

fn refused_search(error: LakeError) -> ServiceError {
    match error {
        LakeError::Unavailable { .. } => ServiceError::Unavailable { what: "the storage", source: error.into() },
        error => refused_log(error),
    }
}

fn refused_server(error: UnityError) -> ServiceError {
    let field = if error == UnityError::BadToken { "unity.token" } else { "unity.url" };
    ServiceError::invalid(field, error.to_string())
}

/// Why a server's answer is of no use. What it says itself is not repeated.
fn refused_answer(error: UnityError) -> ServiceError {
    let status = match &error {
        UnityError::Unfetched(Unfetched::Status(status)) => status.as_u16(),
        UnityError::Unfetched(Unfetched::Unreachable(_)) => 503,
        _ => 0,
    };
    match status {
        401 | 403 => ServiceError::invalid("unity.token", format!("is not accepted: the server {error}")),
        404 => ServiceError::invalid("unity.catalog", "there is no such catalog or schema"),
        300..=399 => {
            let message = format!("{error}, a redirect, which is not followed; name the server's own address");
            ServiceError::invalid("unity.url", message)
        }
        500.. => ServiceError::Unavailable { what: "the Unity Catalog server", source: error.into() },
        _ => ServiceError::invalid("unity.url", error.to_string()),
    }
}
