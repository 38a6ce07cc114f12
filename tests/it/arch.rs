//! Enforces the floors of `docs/ARCHITECTURE.md`: each module may use only the floors below it.
//!
//! The check works on text: `crate::…` paths, grouped imports, and `super::` chains at the start of a line that leave a
//! module. Comments and string literals are ignored.

use std::path::{Path, PathBuf};

const BASE: &[&str] = &["config", "domain", "telemetry"];
const SERVICE: &[&str] = &[
    "config",
    "domain",
    "engine",
    "geography",
    "identity",
    "lake",
    "notify",
    "render",
    "service",
    "storage",
    "store",
    "telemetry",
    "unity",
];

/// The modules that each module may use besides itself. A module without an entry is reported.
fn below(module: &str) -> Option<&'static [&'static str]> {
    Some(match module {
        "domain" => &[],
        "config" | "render" => &["domain"],
        "telemetry" => &["config", "domain"],
        "store" | "storage" | "geography" | "identity" | "notify" => BASE,
        "lake" => &["config", "domain", "storage", "telemetry"],
        // Asks other servers, as for their keys.
        "unity" => &["config", "domain", "identity", "telemetry"],
        "engine" => &["config", "domain", "lake", "storage", "telemetry"],
        "service" => &[
            "config",
            "domain",
            "engine",
            "geography",
            "identity",
            "lake",
            "notify",
            "render",
            "storage",
            "store",
            "telemetry",
            "unity",
        ],
        "http" | "worker" => SERVICE,
        // A client for any server, which knows nothing about this one.
        "conformance" => &[],
        "app" => &[
            "config",
            "domain",
            "engine",
            "geography",
            "http",
            "identity",
            "lake",
            "notify",
            "render",
            "service",
            "storage",
            "store",
            "telemetry",
            "unity",
            "worker",
        ],
        "cli" => &[
            "app",
            "config",
            "conformance",
            "domain",
            "engine",
            "geography",
            "http",
            "identity",
            "lake",
            "notify",
            "render",
            "service",
            "storage",
            "store",
            "telemetry",
            "unity",
            "worker",
        ],
        "main" => &["cli"],
        _ => return None,
    })
}

/// The faces of `http`. They may use what is beside them, but not each other.
const FACES: [&str; 5] = ["activation", "admin", "console", "hooks", "sharing"];

/// Crates with one home: a mention elsewhere puts that concern on a second floor.
const HOMES: [(&str, &[&str]); 12] = [
    ("sqlx", &["store"]),
    ("deltalake", &["lake"]),
    ("delta_kernel", &["lake"]),
    ("datafusion", &["engine"]),
    ("jsonwebtoken", &["identity"]),
    ("maxminddb", &["geography"]),
    ("axum", &["http", "app"]),
    ("tower_http", &["http", "app"]),
    ("clap", &["cli"]),
    ("askama", &["render"]),
    ("prometheus_client", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// Names that pure values must not use.
const IMPURE: [&str; 6] = ["tokio", "reqwest", "object_store", "std::fs", "std::net::TcpStream", "async fn"];

/// Finds every violation in the file `path` (relative to `src/`) with the content `text`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let file: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let module = file[0];
    let Some(allowed) = below(module) else {
        return vec![format!("{path}: `{module}` has no floor; give it one in tests/it/arch.rs")];
    };
    let mut found = Vec::new();
    let root = if module == "main" { "weir" } else { "crate" };
    let mut mentioned = paths_from(&code, root);
    mentioned.extend(super_paths(&code, &file));
    for mention in mentioned {
        let target = mention[0].as_str();
        // Items of the crate root are no modules.
        if below(target).is_some() && target != module && !allowed.contains(&target) {
            found.push(format!("{path}: `{module}` stands below `{target}` or beside it, and mentions it"));
        }
        let (face, other) = (file.get(1).copied().unwrap_or_default(), mention.get(1).map_or("", String::as_str));
        if module == "http" && target == "http" && face != other && FACES.contains(&face) && FACES.contains(&other) {
            found.push(format!("{path}: the faces `{face}` and `{other}` must not know each other"));
        }
    }
    for (name, homes) in HOMES {
        if !homes.contains(&module) && mentions(&code, &format!("{name}::")) {
            found.push(format!("{path}: `{name}` is at home in `{}`", homes.join("`, `")));
        }
    }
    if ["domain", "render"].contains(&module) {
        let impure = IMPURE.iter().filter(|word| mentions(&code, word));
        found.extend(impure.map(|word| format!("{path}: `{word}` has no place among pure values")));
    }
    found.sort();
    found.dedup();
    found
}

/// Whether `word` occurs in `code` and does not end a longer name.
fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The first two segments of every path in `code` that starts with `root::`, including groups.
fn paths_from(code: &str, root: &str) -> Vec<Vec<String>> {
    let start = format!("{root}::");
    let starts = code.match_indices(&start).map(|(at, _)| at);
    let starts = starts.filter(|&at| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$'));
    starts.flat_map(|at| expand(&code[at + start.len()..])).collect()
}

/// The first two segments of each path at the start of `rest`, which may be a group.
fn expand(rest: &str) -> Vec<Vec<String>> {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        return members(group).into_iter().flat_map(expand).collect();
    }
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return Vec::new();
    }
    match rest[name.len()..].trim_start().strip_prefix("::") {
        Some(inner) => {
            let inner = expand(inner);
            if inner.is_empty() {
                return vec![vec![name]];
            }
            inner.into_iter().map(|path| vec![name.clone(), path[0].clone()]).collect()
        }
        None => vec![vec![name]],
    }
}

/// Splits a group after its opening brace into members.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                found.push(&group[from..at]);
                from = at + 1;
            }
            '}' if depth == 0 => {
                found.push(&group[from..at]);
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// The paths from the crate root that the `use super::…` lines of the file's own module refer to.
fn super_paths(code: &str, file: &[&str]) -> Vec<Vec<String>> {
    let own: Vec<&str> = file.iter().copied().filter(|segment| *segment != "mod").collect();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use super::") {
        // Indented lines belong to a module inside the file.
        let line = code[..at].rsplit('\n').next().unwrap_or_default();
        if !matches!(line, "" | "pub " | "pub(super) " | "pub(crate) ") {
            continue;
        }
        let (mut rest, mut up) = (&code[at + "use ".len()..], 0);
        while let Some(shorter) = rest.strip_prefix("super::") {
            (rest, up) = (shorter, up + 1);
        }
        let parents = &own[..own.len().saturating_sub(up)];
        for path in expand(rest) {
            let path = parents.iter().map(|s| (*s).to_owned()).chain(path);
            found.push(path.collect());
        }
    }
    found
}

/// Removes comments and the contents of string literals from `text`; line breaks stay.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if let Some(raw) = rest.strip_prefix("r\"")
            && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_')
        {
            raw.find('"').map_or(rest.len(), |end| end + 3)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else if c == '"' {
            string_length(rest)
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        rest = &rest[skipped..];
    }
    code
}

/// The length of the string literal at the start of `text`, including its quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_module_mentions_only_what_stands_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let files = rust_files(&src);
    for file in files.iter().filter(|file| **file != src.join("lib.rs")) {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap();
        found.extend(violations(path, &std::fs::read_to_string(file).unwrap()));
    }
    assert!(files.len() > 10, "the sources were not found");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn pointing_up_is_found() {
    for (path, text) in [
        ("domain/share.rs", "use crate::store::Db;"),
        ("config/mod.rs", "fn f() { crate::telemetry::init() }"),
        ("store/mod.rs", "use crate::storage::TableLocation;"),
        ("storage/mod.rs", "use crate::{config::StorageSettings, lake::{Snapshot, Cache}};"),
        ("service/query.rs", "pub use crate::\n    http::sharing;"),
        ("http/files.rs", "use crate::worker;"),
        ("http/sharing/query.rs", "use crate::http::admin::Problem;"),
        ("http/admin/mod.rs", "use super::sharing::Error;"),
        ("http/admin/shares.rs", "use super::super::sharing::Error;"),
        ("service/mod.rs", "use super::http;"),
        ("worker/mod.rs", "use crate::{config, http};"),
        ("http/mod.rs", "use crate::app::App;"),
        ("main.rs", "fn main() { weir::app::run() }"),
        ("service/shares.rs", "fn f() -> sqlx::Result<()>;"),
        ("lake/mod.rs", "use datafusion::physical_expr::PhysicalExpr;"),
        ("domain/token.rs", "use tokio::sync::Mutex;"),
        ("render/report/mod.rs", "use crate::service::reports;"),
        ("http/admin/reports.rs", "use askama::Template;"),
        ("utils/mod.rs", ""),
    ] {
        assert_eq!(violations(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn pointing_down_is_allowed() {
    for (path, text) in [
        ("service/sharing/query.rs", "use crate::{domain::{share, token}, lake::Snapshot, service::audit};"),
        ("engine/mod.rs", "use crate::{lake::Snapshot, storage::TableLocation};"),
        ("service/reports.rs", "use crate::render::report;"),
        ("http/admin/shares.rs", "use crate::http::{admin::problem, middleware}; use super::problem;"),
        ("http/mod.rs", "use self::{admin, sharing}; use crate::http::{admin::x, sharing::y};"),
        (
            "domain/share.rs",
            "//! See [`crate::store`].\n/* crate::http */ const A: &str = \"crate::app \\\" crate::cli\";",
        ),
        (
            "domain/name.rs",
            "const A: char = '\"'; use crate::domain::share; const B: &str = r#\"crate::store \"x\" \"#;",
        ),
        ("store/mod.rs", "mod tests {\n    use super::super::http;\n}"),
        ("app.rs", "use crate::{http, worker};"),
        ("main.rs", "fn main() { weir::cli::main() }"),
    ] {
        assert_eq!(violations(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn mention_behind_a_string_is_still_found() {
    let text = "const A: &str = \"a // b\"; // c\nuse crate::store::Db;";
    assert_eq!(violations("domain/share.rs", text).len(), 1);
}

#[test]
fn standard_output_is_written_to_in_one_place() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let writers = rust_files(&source).into_iter().filter(|file| {
        let code = without_comments_and_strings(&std::fs::read_to_string(file).unwrap());
        ["stdout()", "println!", "print!"].iter().any(|word| mentions(&code, word))
    });
    let writers: Vec<PathBuf> = writers.map(|file| file.strip_prefix(&source).unwrap().to_owned()).collect();
    assert_eq!(writers, [Path::new("cli/print.rs")], "a failed write is told from other failures there alone");
}

/// Every template below `folder`.
fn templates(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(templates(&path));
        } else if path.extension().is_some_and(|extension| extension == "html" || extension == "svg") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn templates_escape_all_but_styles_and_charts_of_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render");
    let mut unescaped = Vec::new();
    for template in templates(&folder) {
        let text = std::fs::read_to_string(&template).unwrap();
        let printed = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
        let name = template.strip_prefix(&folder).unwrap().display();
        let raw = printed.filter(|printed| printed.contains('|'));
        unescaped.extend(raw.map(|printed| format!("{name}: {}", printed.trim_matches(['-', ' ']))));
        assert!(!text.contains("{% filter") && !text.contains("escape"), "{name}");
    }
    assert_eq!(
        unescaped,
        ["activation/page.html: self::STYLE|safe", "report/page.html: self::STYLE|safe", "report/page.html: days|safe"]
    );
}

/// The rooms of the floors that have them; each room has one name on every floor.
const ROOMS: [&str; 8] = ["access", "audit", "catalog", "core", "insight", "materialize", "operators", "sharing"];

#[test]
fn floors_have_the_same_rooms_and_nothing_beside_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for floor in ["domain", "store", "service", "http/admin"] {
        for entry in std::fs::read_dir(src.join(floor)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name == "mod.rs" || ROOMS.contains(&name), "`{floor}/{name}` is no room; see docs/ARCHITECTURE.md");
        }
    }
}

/// The folders of `tests/it` that are neither rooms nor floors: what crosses rooms, and what tests share.
const SUITES: [&str; 4] = ["admin", "replicas", "support", "views"];

#[test]
fn tests_are_in_the_room_of_what_they_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = root.join("tests/it");
    let is_there = |name: &str| tests.join(format!("{name}.rs")).is_file() || tests.join(name).join("mod.rs").is_file();
    for room in ROOMS.iter().filter(|room| root.join("src/service").join(room).is_dir()) {
        assert!(is_there(room), "`src/service/{room}` has no tests/it/{room}; see CONTRIBUTING.md");
    }
    for entry in std::fs::read_dir(&tests).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_known = ROOMS.contains(&name) || SUITES.contains(&name) || below(name).is_some();
        assert!(path.is_file() || is_known, "`tests/it/{name}` is no room, floor or suite; see CONTRIBUTING.md");
    }
    let api = root.join("src/http/admin");
    let mut nouns = 0;
    for file in rust_files(&api) {
        let path = file.strip_prefix(&api).unwrap().with_extension("");
        let (noun, text) = (path.to_str().unwrap(), std::fs::read_to_string(&file).unwrap());
        let is_route = |line: &str| line.starts_with("pub") && line.contains(" fn routes(") || line == "declared! {";
        if text.lines().any(is_route) && noun.contains('/') && !noun.ends_with("/mod") {
            nouns += 1;
            assert!(is_there(noun), "`src/http/admin/{noun}.rs` has no tests/it/{noun}.rs; see CONTRIBUTING.md");
        }
    }
    assert!(nouns > 15, "{nouns}");
}

/// The names of the types that `text` declares public at its top level.
fn public_types(text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let names = code.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("pub ")
            .or_else(|| line.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")).map(|(_, rest)| rest))?;
        let (kind, rest) = rest.split_once(' ')?;
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        ["struct", "enum", "trait", "type"].contains(&kind).then(|| name.to_owned())
    });
    names.collect()
}

/// The public types that share a name on one floor, with their files. Each command of the command line has its own
/// `Arguments`, which only the command names.
fn doubled<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut homes = std::collections::BTreeMap::<(String, String), Vec<&str>>::new();
    for (path, text) in files {
        let floor = path.trim_end_matches(".rs").split('/').next().unwrap();
        for name in public_types(text).into_iter().filter(|_| floor != "cli") {
            homes.entry((floor.to_owned(), name)).or_default().push(path);
        }
    }
    homes.retain(|_, homes| homes.len() > 1);
    homes.into_iter().map(|((floor, name), homes)| format!("`{name}` on `{floor}`: {}", homes.join(", "))).collect()
}

#[test]
fn one_name_is_one_thing_on_a_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<(String, String)> = rust_files(&src)
        .into_iter()
        .map(|file| {
            (file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&file).unwrap())
        })
        .collect();
    let found = doubled(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_second_type_of_a_name_is_found() {
    let files = [
        ("domain/a.rs", "pub struct Page<T>(T);\n// pub struct Note;\nstruct Own;\npub enum Kind {}"),
        ("domain/b/c.rs", "pub(super) type Page = u8;\npub fn Kind() {}\nstruct Own;\npub struct Note;"),
        ("store/a.rs", "pub trait Page {}"),
    ];
    assert_eq!(doubled(files), ["`Page` on `domain`: domain/a.rs, domain/b/c.rs"]);
}
