//! Holds the knowledge of a run about the server. Each check gets its subjects here, or the reason why there is none.

use std::{collections::BTreeMap, fmt};

use serde_json::{Value, json};

use super::{
    answer::{Answer, Lines},
    check::{Outcome, Verdict, fail, skip},
    client::{Call, Client, encode},
    file::File,
};

/// The capabilities of a client that supports everything, in the delta format. Only listings of files are read, not
/// their contents.
pub(super) const EVERYTHING: &str = "responseformat=delta;readerfeatures=deletionvectors,columnmapping,timestampntz,\
                                     typewidening,typewidening-preview,varianttype,varianttype-preview,v2checkpoint,\
                                     vacuumprotocolcheck,catalogmanaged";

/// The name of a table, as written by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableName {
    pub(super) share: String,
    pub(super) schema: String,
    pub(super) table: String,
}

impl TableName {
    pub(super) fn path(&self) -> String {
        let (share, schema, table) = (encode(&self.share), encode(&self.schema), encode(&self.table));
        format!("/shares/{share}/schemas/{schema}/tables/{table}")
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.share, self.schema, self.table)
    }
}

/// The requirements for reading a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Readable in the parquet format, without declared capabilities.
    Plain,
    /// Readable only in the delta format, with declared reader features.
    Advanced,
}

/// A part of a table's history.
pub(super) struct Window {
    pub(super) start: i64,
    pub(super) lines: Lines,
}

/// A table for use in checks.
pub(super) struct Subject {
    pub(super) table: TableName,
    pub(super) kind: Kind,
    /// The metadata, in the format for `kind`.
    pub(super) metadata: Lines,
    /// The metadata in the delta format, if the server supports it.
    pub(super) delta: Option<Lines>,
    /// The files of the newest version, or why they cannot be read.
    pub(super) snapshot: Result<Lines, String>,
    /// The files in the delta format, if the table may have deletion vectors.
    pub(super) delta_snapshot: Option<Lines>,
    /// Whether versions can be requested; `None` if the answer may have another reason.
    pub(super) history: Option<bool>,
    /// A query from a starting version, if it was answered.
    pub(super) window: Option<Window>,
    /// A change data feed, if it was answered.
    pub(super) changes: Option<Window>,
    /// Whether `maxFiles` splits answers into pages; `None` with fewer than two files.
    pub(super) pages: Option<bool>,
}

impl Subject {
    pub(super) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.table.path())
    }

    /// Returns the capabilities that a client must send to read the table.
    pub(super) fn capabilities(&self) -> &'static str {
        match self.kind {
            Kind::Plain => "",
            Kind::Advanced => EVERYTHING,
        }
    }

    pub(super) fn version(&self) -> i64 {
        self.metadata.version
    }

    pub(super) fn query<'a>(&self, client: &'a Client, body: &Value) -> Call<'a> {
        client.post(self.path("/query"), body).capabilities(self.capabilities())
    }

    /// Returns the files of the newest version at the start of the run.
    pub(super) fn snapshot(&self) -> Outcome<&Lines> {
        self.snapshot.as_ref().or_else(|why| skip(format!("the files of {} cannot be looked at: {why}", self.table)))
    }

    pub(super) fn files(&self) -> Outcome<Vec<File>> {
        self.snapshot()?.files()
    }

    /// Returns the oldest version that is known to exist.
    pub(super) fn oldest(&self) -> i64 {
        self.window.as_ref().map_or(self.version(), |window| window.start)
    }

    /// Returns the number of files; 0 if it is unknown.
    pub(super) fn n_files(&self) -> usize {
        self.snapshot.as_ref().map_or(0, |lines| lines.rest.len())
    }

    /// Returns the known commit times by version, in milliseconds since 1970, taken from the table's lines. Empty if
    /// they do not ascend, because then the version for a time is not well defined.
    pub(super) fn commits(&self) -> BTreeMap<i64, i64> {
        let windows = self.window.iter().chain(&self.changes);
        let files = windows.filter_map(|window| window.lines.files().ok()).flatten();
        let commits: BTreeMap<i64, i64> = files.filter_map(|file| Some((file.version?, file.timestamp?))).collect();
        if commits.values().is_sorted_by(|earlier, later| earlier < later) { commits } else { BTreeMap::new() }
    }

    /// Returns whether the table's columns are mapped.
    pub(super) fn mapped(&self) -> bool {
        let mode = self.delta.as_ref().and_then(|lines| {
            lines.delta_metadata("configuration").get("delta.columnMapping.mode")?.as_str().map(str::to_owned)
        });
        mode.is_some_and(|mode| mode != "none")
    }

    pub(super) fn has_vectors(&self) -> bool {
        let files = self.delta_snapshot.as_ref().and_then(|lines| lines.files().ok()).unwrap_or_default();
        files.iter().any(|file| file.deletion_vector.is_some())
    }
}

/// The server under test.
pub(super) struct Context {
    pub(super) client: Client,
    /// The first page of shares.
    pub(super) shares: Vec<Value>,
    /// The tables found, with the server's names; not all tables of a large server.
    pub(super) tables: Vec<TableName>,
    /// The tables that were examined.
    pub(super) subjects: Vec<Subject>,
    /// Why other tables could not be examined.
    pub(super) unreadable: Vec<String>,
}

impl Context {
    /// Returns the name of the first share.
    pub(super) fn share(&self) -> Outcome<&str> {
        let name = self.shares.first().and_then(|share| share["name"].as_str());
        name.map_or_else(|| skip("nothing is shared"), Ok)
    }

    /// Returns any table that was examined.
    pub(super) fn any(&self) -> Outcome<&Subject> {
        self.best("nothing that can be looked at", |_| true)
    }

    /// Returns a table that every client can read.
    pub(super) fn plain(&self) -> Outcome<&Subject> {
        self.best("readable in the parquet format", |subject| subject.kind == Kind::Plain)
    }

    pub(super) fn with_history(&self) -> Outcome<&Subject> {
        self.best("shared with its history", |subject| subject.history == Some(true))
    }

    pub(super) fn without_history(&self) -> Outcome<&Subject> {
        self.best("shared without its history", |subject| subject.history == Some(false))
    }

    pub(super) fn with_changes(&self) -> Outcome<(&Subject, &Window)> {
        let subject = self.best("shared with its change data feed", |subject| subject.changes.is_some())?;
        subject.changes.as_ref().map(|window| (subject, window)).map_or_else(|| skip("no change data feed"), Ok)
    }

    pub(super) fn with_window(&self) -> Outcome<(&Subject, &Window)> {
        let subject = self.with_history()?;
        let found = self.subjects.iter().find_map(|subject| Some((subject, subject.window.as_ref()?)));
        match (found, subject.kind) {
            (Some(found), _) => Ok(found),
            (None, Kind::Plain) => fail("history is shared, but a query from startingVersion is refused"),
            (None, Kind::Advanced) => skip("the tables shared with their history need features"),
        }
    }

    pub(super) fn partitioned(&self) -> Outcome<&Subject> {
        self.best("partitioned, with files", |subject| {
            !subject.metadata.partition_columns().is_empty() && subject.n_files() > 0
        })
    }

    pub(super) fn advanced(&self) -> Outcome<&Subject> {
        self.best("readable only in the delta format", |subject| subject.kind == Kind::Advanced)
    }

    pub(super) fn mapped(&self) -> Outcome<&Subject> {
        self.best("one with mapped columns", Subject::mapped)
    }

    pub(super) fn with_vectors(&self) -> Outcome<(&Subject, &Lines)> {
        let subject = self.best("one with deletion vectors", Subject::has_vectors)?;
        subject.delta_snapshot.as_ref().map(|lines| (subject, lines)).map_or_else(|| skip("no deletion vectors"), Ok)
    }

    /// Returns a table whose answers come in pages.
    pub(super) fn paged(&self) -> Outcome<&Subject> {
        self.best("one whose files come in pages of maxFiles", |subject| subject.pages == Some(true))
    }

    /// Returns a table other than that of `subject`.
    pub(super) fn other_than(&self, subject: &Subject) -> Outcome<&TableName> {
        let other = self.subjects.iter().map(|other| &other.table).chain(&self.tables);
        let other = other.into_iter().find(|table| **table != subject.table);
        other.map_or_else(|| skip("there is no second table"), Ok)
    }

    /// Returns the first subject that `suits`; subjects are sorted by how much they allow to be checked.
    fn best(&self, wanted: &str, suits: impl Fn(&Subject) -> bool) -> Outcome<&Subject> {
        match (self.subjects.iter().find(|subject| suits(subject)), self.unreadable.first()) {
            (Some(subject), _) => Ok(subject),
            (None, Some(why)) if self.subjects.is_empty() => fail(format!("no table can be looked at: {why}")),
            (None, _) => skip(format!("no table looked at is {wanted}")),
        }
    }
}

/// Returns an answer only if it can be compared with the start of the run; skips the check if the table has changed
/// since.
pub(super) fn unmoved(lines: Lines, version: i64) -> Outcome<Lines> {
    if lines.version > version {
        return skip("the table changed while the checks ran; run them again");
    }
    Ok(lines)
}

/// Sends a query; fails unless it is answered, and skips the check if the version has changed since the start of the
/// run.
pub(super) async fn query(ctx: &Context, subject: &Subject, body: Value) -> Outcome<Lines> {
    let lines = subject.query(&ctx.client, &body).send().await?.lines()?;
    unmoved(lines, subject.version())
}

/// Fails unless each of `calls` is answered 400.
pub(super) async fn refused(calls: Vec<Call<'_>>) -> Outcome {
    for call in calls {
        call.send().await?.expect(&[400])?;
    }
    Ok(())
}

/// Returns a query body with one member.
pub(super) fn body(key: &str, value: impl Into<Value>) -> Value {
    json!({ key: value.into() })
}

/// Returns an answer with status 200, or a description of the failure. The content of the answer is left to other
/// checks.
pub(super) async fn attempt(call: Call<'_>) -> Result<Answer, String> {
    match call.send().await {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(answer) => Err(answer.what()),
        Err(Verdict::Fail(why) | Verdict::NotApplicable(why)) => Err(why),
    }
}
