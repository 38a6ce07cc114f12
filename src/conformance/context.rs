//! What a run knows about the server: every check gets its subjects from here, or the reason why there is none.

use std::{collections::BTreeMap, fmt};

use serde_json::{Value, json};

use super::{
    answer::{Answer, Lines},
    check::{Outcome, Verdict, fail, skip},
    client::{Call, Client, encode},
    file::File,
};

/// A client that can do everything there is, in the delta format; listings of files are read here, never the files.
pub(super) const EVERYTHING: &str = "responseformat=delta;readerfeatures=deletionvectors,columnmapping,timestampntz,\
                                     typewidening,typewidening-preview,varianttype,varianttype-preview,v2checkpoint,\
                                     vacuumprotocolcheck,catalogmanaged";

/// The way to a table, as the server writes its names.
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

/// How a table can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the parquet format, by a client that declares nothing.
    Plain,
    /// Only in the delta format, by a client that declares reader features.
    Advanced,
}

/// A part of a table's history.
pub(super) struct Window {
    pub(super) start: i64,
    pub(super) lines: Lines,
}

/// A table that checks may look at.
pub(super) struct Subject {
    pub(super) table: TableName,
    pub(super) kind: Kind,
    /// The metadata, in the format that `kind` allows.
    pub(super) metadata: Lines,
    /// The metadata in the delta format, where the server has it.
    pub(super) delta: Option<Lines>,
    /// The files of the newest version; or why they cannot be looked at.
    pub(super) snapshot: Result<Lines, String>,
    /// Files in the delta format, where the table may have deletion vectors.
    pub(super) delta_snapshot: Option<Lines>,
    /// Whether versions can be asked for; unknown where the answer has another reason.
    pub(super) history: Option<bool>,
    /// A query from a starting version.
    pub(super) window: Option<Window>,
    /// A change data feed.
    pub(super) changes: Option<Window>,
    /// Whether `maxFiles` cuts answers into pages; unknown with fewer than two files.
    pub(super) pages: Option<bool>,
}

impl Subject {
    pub(super) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.table.path())
    }

    /// What a client must send to read the table at all.
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

    /// The files of the newest version as found at the beginning of the run.
    pub(super) fn snapshot(&self) -> Outcome<&Lines> {
        self.snapshot.as_ref().or_else(|why| skip(format!("the files of {} cannot be looked at: {why}", self.table)))
    }

    pub(super) fn files(&self) -> Outcome<Vec<File>> {
        self.snapshot()?.files()
    }

    /// The oldest version that is known to be there.
    pub(super) fn oldest(&self) -> i64 {
        self.window.as_ref().map_or(self.version(), |window| window.start)
    }

    /// How many files there are, where it is known.
    pub(super) fn n_files(&self) -> usize {
        self.snapshot.as_ref().map_or(0, |lines| lines.rest.len())
    }

    /// The commit times that the table's lines give away, by version, in milliseconds since 1970. None, where they do
    /// not ascend: what a time means is not settled then.
    pub(super) fn commits(&self) -> BTreeMap<i64, i64> {
        let windows = self.window.iter().chain(&self.changes);
        let files = windows.filter_map(|window| window.lines.files().ok()).flatten();
        let commits: BTreeMap<i64, i64> = files.filter_map(|file| Some((file.version?, file.timestamp?))).collect();
        if commits.values().is_sorted_by(|earlier, later| earlier < later) { commits } else { BTreeMap::new() }
    }

    /// The mapping mode of the table's columns, where they are mapped.
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
    /// Every table found, by the server's names; a large server's are not all there.
    pub(super) tables: Vec<TableName>,
    /// The tables looked at more closely.
    pub(super) subjects: Vec<Subject>,
    /// Why tables could not be looked at.
    pub(super) unreadable: Vec<String>,
}

impl Context {
    /// The name of the first share.
    pub(super) fn share(&self) -> Outcome<&str> {
        let name = self.shares.first().and_then(|share| share["name"].as_str());
        name.map_or_else(|| skip("nothing is shared"), Ok)
    }

    /// A table to look at, whichever.
    pub(super) fn any(&self) -> Outcome<&Subject> {
        self.best("nothing that can be looked at", |_| true)
    }

    /// A table that every client can read.
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

    /// A table whose answers come in pages.
    pub(super) fn paged(&self) -> Outcome<&Subject> {
        self.best("one whose files come in pages of maxFiles", |subject| subject.pages == Some(true))
    }

    /// A table that is not the one of `subject`.
    pub(super) fn other_than(&self, subject: &Subject) -> Outcome<&TableName> {
        let other = self.subjects.iter().map(|other| &other.table).chain(&self.tables);
        let other = other.into_iter().find(|table| **table != subject.table);
        other.map_or_else(|| skip("there is no second table"), Ok)
    }

    /// The first subject that `suits`; subjects are in order of how much they show.
    fn best(&self, wanted: &str, suits: impl Fn(&Subject) -> bool) -> Outcome<&Subject> {
        match (self.subjects.iter().find(|subject| suits(subject)), self.unreadable.first()) {
            (Some(subject), _) => Ok(subject),
            (None, Some(why)) if self.subjects.is_empty() => fail(format!("no table can be looked at: {why}")),
            (None, _) => skip(format!("no table looked at is {wanted}")),
        }
    }
}

/// An answer for comparing with one from the beginning of the run; the table may have moved on since.
pub(super) fn unmoved(lines: Lines, version: i64) -> Outcome<Lines> {
    if lines.version > version {
        return skip("the table changed while the checks ran; run them again");
    }
    Ok(lines)
}

/// A query answered well, at the version that the run began with.
pub(super) async fn query(ctx: &Context, subject: &Subject, body: Value) -> Outcome<Lines> {
    let lines = subject.query(&ctx.client, &body).send().await?.lines()?;
    unmoved(lines, subject.version())
}

/// `calls` that each have to be refused with 400.
pub(super) async fn refused(calls: Vec<Call<'_>>) -> Outcome {
    for call in calls {
        call.send().await?.expect(&[400])?;
    }
    Ok(())
}

/// A query with one member.
pub(super) fn body(key: &str, value: impl Into<Value>) -> Value {
    json!({ key: value.into() })
}

/// Whatever the server answered was good; what is wrong with it is another check's matter.
pub(super) async fn attempt(call: Call<'_>) -> Result<Answer, String> {
    match call.send().await {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(answer) => Err(answer.what()),
        Err(Verdict::Fail(why) | Verdict::NotApplicable(why)) => Err(why),
    }
}
