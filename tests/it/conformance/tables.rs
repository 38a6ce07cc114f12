//! The tables that the small server shares, in memory, with their history.

use serde_json::{Value, json};

/// The time of version 0, and the time between versions, in milliseconds.
const BEGIN: i64 = 1_704_103_200_123;
const STEP: i64 = 3_600_000;

#[derive(Clone, Copy)]
pub struct File {
    pub name: &'static str,
    pub day: Option<&'static str>,
    pub rows: i64,
    /// The smallest and the largest `id` and the number of nulls; `None` without statistics.
    pub bounds: Option<(i64, i64, i64)>,
    pub deleted: i64,
}

impl File {
    pub fn size(&self) -> usize {
        self.bytes().len()
    }

    pub fn bytes(&self) -> Vec<u8> {
        format!("PAR1 {} {}", self.name, ".".repeat(90)).into_bytes()
    }

    pub fn stats(&self, column: &str) -> Option<Value> {
        let (min, max, nulls) = self.bounds?;
        let stats = json!({
            "numRecords": self.rows,
            "minValues": { column: min },
            "maxValues": { column: max },
            "nullCount": { column: nulls },
        });
        Some(json!(stats.to_string()))
    }
}

#[derive(Clone, Default)]
pub struct Commit {
    pub added: Vec<File>,
    pub removed: Vec<File>,
    pub changed: Vec<File>,
    pub metadata: bool,
}

pub struct Table {
    pub schema: &'static str,
    pub name: &'static str,
    /// Whether reading needs deletion vectors and mapped columns.
    pub advanced: bool,
    pub history: bool,
    pub partitioned: bool,
    pub commits: Vec<Commit>,
}

impl Table {
    pub fn latest(&self) -> i64 {
        self.commits.len() as i64 - 1
    }

    pub fn time(version: i64) -> i64 {
        BEGIN + version * STEP
    }

    pub fn active(&self, version: i64) -> Vec<File> {
        let mut files: Vec<File> = Vec::new();
        for commit in &self.commits[..=version as usize] {
            files.retain(|file| commit.removed.iter().all(|removed| removed.name != file.name));
            files.extend(&commit.added);
        }
        files
    }

    /// The name of the column `id` in the statistics.
    pub fn id_column(&self) -> &'static str {
        if self.advanced { "col-1" } else { "id" }
    }

    pub fn schema_string(&self) -> String {
        let mapping = |id: i64| match self.advanced {
            true => json!({ "delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}") }),
            false => json!({}),
        };
        let mut fields = vec![
            json!({ "name": "id", "type": "long", "nullable": true, "metadata": mapping(1) }),
            json!({ "name": "note", "type": "string", "nullable": true, "metadata": mapping(2) }),
        ];
        if self.partitioned {
            fields.push(json!({ "name": "day", "type": "string", "nullable": true, "metadata": {} }));
        }
        json!({ "type": "struct", "fields": fields }).to_string()
    }
}

fn file(name: &'static str, day: Option<&'static str>, bounds: Option<(i64, i64, i64)>) -> File {
    File { name, day, rows: 10, bounds, deleted: 0 }
}

fn adds(added: Vec<File>) -> Commit {
    Commit { added, ..Commit::default() }
}

pub fn tables() -> Vec<Table> {
    let (monday, tuesday) = (Some("monday"), Some("tuesday"));
    let one = file("e1", monday, Some((1, 10, 0)));
    let events = vec![
        adds(vec![one, file("e2", tuesday, Some((11, 20, 2)))]),
        adds(vec![file("e3", None, None), file("e4", monday, Some((21, 21, 0)))]),
        Commit { metadata: true, ..Commit::default() },
        Commit {
            added: vec![file("e5", monday, Some((1, 9, 0)))],
            removed: vec![one],
            changed: vec![file("c1", monday, None)],
            metadata: false,
        },
        Commit::default(),
        adds(vec![file("e6", tuesday, Some((30, 40, 0)))]),
    ];
    let vector = |name, bounds| File { deleted: 3, ..file(name, None, bounds) };
    let table = |schema, name| Table {
        schema,
        name,
        advanced: false,
        history: false,
        partitioned: false,
        commits: vec![Commit::default()],
    };
    vec![
        Table { history: true, partitioned: true, commits: events, ..table("live", "Events") },
        Table {
            commits: vec![adds(vec![file("p1", None, Some((1, 5, 0))), file("p2", None, Some((6, 9, 1)))])],
            ..table("live", "plain")
        },
        Table {
            advanced: true,
            history: true,
            commits: vec![
                adds(vec![vector("d1", Some((1, 5, 0)))]),
                adds(vec![file("d2", None, Some((6, 9, 0))), vector("d3", Some((10, 19, 0)))]),
            ],
            ..table("rest", "vectors")
        },
        Table {
            advanced: true,
            commits: vec![adds(vec![file("m1", None, Some((1, 5, 0))), file("m2", None, Some((6, 9, 0)))])],
            ..table("rest", "mapped")
        },
        table("rest", "empty"),
    ]
}
