//! Normalises locations, and resolves paths from a log under their table.
//!
//! Works on text alone. Never here: opening anything. Both inputs are hostile: an operator registers a table with a
//! location, and anyone who can write to the lake can write a path. Percent-encoding is decoded exactly once, before
//! any rule is applied, so encoding cannot bypass a rule.

use std::fmt;

use object_store::path::Path;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::StorageError;

/// The longest location, in bytes.
const MAX_LOCATION: usize = 2048;
/// The longest path in a log, in bytes. Object keys have at most 1,024 bytes in every service; encoding may triple
/// that.
const MAX_LOG_PATH: usize = 4096;

/// The folder of a table's log.
const LOG: &str = "_delta_log";

/// Characters percent-encoded in a path segment of a normalised URL, because URL parsers treat them specially.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A place in a service, in its only normal form. Its text ([`fmt::Display`]) is a URL that parses to the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub(super) service: Service,
    /// The path inside the bucket or container; for local files, the absolute path without the leading slash.
    pub(super) path: Path,
}

/// The service and bucket to which a path belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Service {
    S3 { bucket: String },
    Gcs { bucket: String },
    Azure { container: String, account: Option<Account> },
    File,
}

/// An Azure storage account: its name and its cloud (`core.windows.net`, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub name: String,
    pub suffix: String,
}

impl Location {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`StorageError::BadLocation`] with the reason.
    pub fn parse(text: &str) -> Result<Self, StorageError> {
        read(text).map_err(|reason| StorageError::BadLocation { location: printable(text), reason })
    }

    /// Returns whether `other` is this place or under it, by whole path segments: `lake` does not cover `lakehouse`. An
    /// Azure location without an account is covered by a container of the same name in any account.
    pub fn covers(&self, other: &Self) -> bool {
        let same_service = match (&self.service, &other.service) {
            (Service::Azure { container: mine, .. }, Service::Azure { container, account: None }) => mine == container,
            (mine, others) => mine == others,
        };
        same_service && other.path.prefix_matches(&self.path)
    }

    /// Returns the number of path segments: if two locations cover a third, the deeper one is the longer prefix.
    pub fn depth(&self) -> usize {
        self.path.parts_count()
    }

    /// Returns the local directory of a `file://` location.
    pub fn directory(&self) -> Option<std::path::PathBuf> {
        matches!(self.service, Service::File).then(|| std::path::Path::new("/").join(self.path.as_ref()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Service::S3 { bucket } => write!(f, "s3://{bucket}")?,
            Service::Gcs { bucket } => write!(f, "gs://{bucket}")?,
            Service::Azure { container, account: Some(Account { name, suffix }) } => {
                write!(f, "abfss://{container}@{name}.dfs.{suffix}")?;
            }
            Service::Azure { container, account: None } => write!(f, "az://{container}")?,
            Service::File => f.write_str("file://")?,
        }
        for segment in self.path.as_ref().split('/').filter(|segment| !segment.is_empty()) {
            write!(f, "/{}", utf8_percent_encode(segment, SEGMENT))?;
        }
        Ok(())
    }
}

/// Returns the location of a folder below `url`, which is in normal form; `names` lead to it.
pub(super) fn extended<'a>(url: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut extended = url.to_owned();
    for name in names {
        extended.push('/');
        extended.extend(utf8_percent_encode(name, SEGMENT));
    }
    extended
}

/// The typical maximum length of a path in a log, including the separator before it.
const MOST_PATHS: usize = 128;

/// Resolves a path from a table's log to an object under `root`, the table's path.
///
/// The Delta protocol allows relative URIs and absolute ones (shallow clones). Absolute ones are refused, and so is
/// every path that is not strictly below `root` after one percent-decode. Paths into a log are refused too, even that
/// of a table in a subfolder: a signed URL for a commit would disclose history that is not shared.
pub fn resolve(root: &Path, log_path: &str) -> Result<Path, StorageError> {
    if is_plain(log_path)
        && let Ok(path) = under(root, [log_path])
    {
        return Ok(path);
    }
    relative(log_path)
        .and_then(|segments| {
            under(root, segments.iter().map(String::as_str)).map_err(|_| "it is not a valid object path")
        })
        .map_err(|reason| StorageError::Escapes { path: printable(log_path), reason })
}

/// Returns why a path from a log is refused; `None` if it is served.
pub fn refusal_of(log_path: &str) -> Option<&'static str> {
    if is_plain(log_path) {
        return None;
    }
    match resolve(&Path::default(), log_path) {
        Err(StorageError::Escapes { reason, .. }) => Some(reason),
        _ => None,
    }
}

fn under<'a>(root: &Path, segments: impl IntoIterator<Item = &'a str>) -> Result<Path, object_store::path::Error> {
    let mut raw = String::with_capacity(root.as_ref().len() + MOST_PATHS);
    raw.push_str(root.as_ref());
    for segment in segments {
        if !raw.is_empty() {
            raw.push('/');
        }
        raw.push_str(segment);
    }
    Path::parse(raw)
}

/// Returns whether no rule of [`relative`] changes or refuses the path, as is true for nearly all.
fn is_plain(log_path: &str) -> bool {
    const PLAIN: [bool; 256] = {
        let (mut plain, mut byte) = ([false; 256], 0u8);
        while byte < 128 {
            plain[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=' | b'/');
            byte += 1;
        }
        plain
    };
    log_path.len() <= MAX_LOG_PATH
        && log_path.bytes().all(|byte| PLAIN[usize::from(byte)])
        && log_path
            .as_bytes()
            .split(|byte| *byte == b'/')
            .all(|segment| !matches!(segment, b"" | b"." | b"..") && !segment.eq_ignore_ascii_case(LOG.as_bytes()))
}

fn relative(log_path: &str) -> Result<Vec<String>, &'static str> {
    if log_path.len() > MAX_LOG_PATH {
        return Err("it is too long");
    }
    if has_scheme(log_path) || log_path.starts_with('/') {
        return Err(
            "it is absolute (it begins with `/` or with a scheme such as `s3:`), and only relative ones are served",
        );
    }
    if log_path.contains(['?', '#']) {
        return Err("it has a query or a fragment");
    }
    let decoded = decode_once(log_path)?;
    if decoded.starts_with('/') || decoded.ends_with('/') || decoded.contains("//") {
        return Err("it has an empty segment (`//`, or `/` at an end), which names no file in every storage");
    }
    let segments = segments(&decoded)?;
    if segments.is_empty() {
        return Err("it names no file");
    }
    // Some file systems ignore case.
    if segments.iter().any(|segment| segment.eq_ignore_ascii_case(LOG)) {
        return Err("it points into a table's log");
    }
    Ok(segments)
}

/// Returns whether a URI reference begins with a scheme (RFC 3986, section 3.1).
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

fn read(text: &str) -> Result<Location, &'static str> {
    if text.len() > MAX_LOCATION {
        return Err("it is too long");
    }
    if text.contains(['?', '#']) {
        return Err("it has a query or a fragment; write those characters as %3F and %23");
    }
    let Some((scheme, rest)) = text.split_once(':').filter(|_| has_scheme(text)) else {
        return Err("it has no scheme; write s3://, gs://, abfss:// or file://");
    };
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None if scheme == "file" && rest.starts_with('/') => ("", rest),
        None => return Err("`//` must follow its scheme"),
    };
    let service = match scheme.as_str() {
        "s3" | "s3a" | "s3n" => Service::S3 { bucket: bucket(authority)? },
        "gs" => Service::Gcs { bucket: bucket(authority)? },
        "abfss" | "abfs" | "az" | "azure" | "wasbs" | "wasb" => azure(authority)?,
        "file" if authority.is_empty() || authority.eq_ignore_ascii_case("localhost") => Service::File,
        "file" => return Err("a file location must be file:/// and an absolute path"),
        _ => return Err("its scheme is not served; use s3, gs, abfss or file"),
    };
    let segments = segments(&decode_once(path)?)?;
    let path = Path::parse(segments.join("/")).map_err(|_| "it is not a valid object path")?;
    Ok(Location { service, path })
}

/// Decodes percent-encoding once. An invalid `%` is refused, because readers treat it differently.
fn decode_once(text: &str) -> Result<String, &'static str> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let is_hex = |at: usize| after.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
        if !is_hex(0) || !is_hex(1) {
            return Err("a `%` in it is not followed by two hexadecimal digits; write it as %25");
        }
        rest = after;
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| "it is not UTF-8 once decoded")
}

/// Splits a decoded path into segments. Empty segments and `.` are dropped. `..` is refused anywhere, because object
/// stores and file systems interpret it differently; so is a backslash, which some treat as a separator.
fn segments(decoded: &str) -> Result<Vec<String>, &'static str> {
    if decoded.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    if decoded.contains('\\') {
        return Err("it has a backslash");
    }
    let segments = decoded.split('/').filter(|segment| !matches!(*segment, "" | "."));
    segments
        .map(|segment| if segment == ".." { Err("it has a `..` segment") } else { Ok(segment.to_owned()) })
        .collect()
}

fn bucket(authority: &str) -> Result<String, &'static str> {
    let is_name = authority.starts_with(|c: char| c.is_ascii_alphanumeric())
        && authority.len() <= 222
        && authority.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if is_name { Ok(authority.to_owned()) } else { Err("it does not begin with a bucket's or container's plain name") }
}

/// Parses `container` (the account comes from the storage's options) or `container@account.dfs.core.windows.net`. The
/// hosts `blob` and `dfs` are the same account.
fn azure(authority: &str) -> Result<Service, &'static str> {
    let Some((container, host)) = authority.split_once('@') else {
        return Ok(Service::Azure { container: bucket(authority)?, account: None });
    };
    let host = host.to_ascii_lowercase();
    let mut parts = host.splitn(3, '.');
    let (Some(name), Some("dfs" | "blob"), Some(suffix)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("its host must be `<account>.dfs.core.windows.net` or another Azure cloud's");
    };
    let is_account = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !is_account {
        return Err("its account is no Azure account name");
    }
    let account = Some(Account { name: name.to_owned(), suffix: bucket(suffix)? });
    Ok(Service::Azure { container: bucket(container)?, account })
}

/// Returns the part of a refused text that may be repeated: short, without control characters, and without anything
/// like a credential (a query string, or user information other than Azure's `container@account`).
fn printable(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let authority = text.split_once("//").map_or(text, |(_, rest)| rest).split('/').next().unwrap_or_default();
    if authority.split_once('@').is_some_and(|(user, _)| user.contains(':')) {
        return "(not repeated: it seems to hold a credential)".to_owned();
    }
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> String {
        Location::parse(text).map_or_else(|e| panic!("{e}"), |location| location.to_string())
    }

    fn covers(outer: &str, inner: &str) -> bool {
        Location::parse(outer).unwrap().covers(&Location::parse(inner).unwrap())
    }

    #[test]
    fn spellings_of_one_place_become_one() {
        for (written, expected) in [
            ("s3://lake/warehouse/claims", "s3://lake/warehouse/claims"),
            ("s3a://lake/warehouse/claims/", "s3://lake/warehouse/claims"),
            ("S3N://lake//warehouse/./claims", "s3://lake/warehouse/claims"),
            ("s3://lake/%77arehouse/%63laims", "s3://lake/warehouse/claims"),
            ("s3://lake/warehouse%2Fclaims", "s3://lake/warehouse/claims"),
            ("s3://lake/%2e/warehouse/claims", "s3://lake/warehouse/claims"),
            ("s3://lake", "s3://lake"),
            ("s3://lake/", "s3://lake"),
            ("s3://lake/x=A%252FA", "s3://lake/x=A%252FA"),
            ("s3://lake/größe", "s3://lake/gr%C3%B6%C3%9Fe"),
            ("gs://lake/a b", "gs://lake/a%20b"),
            ("abfs://c@Acct.DFS.core.windows.net/t", "abfss://c@acct.dfs.core.windows.net/t"),
            ("wasbs://c@acct.blob.core.windows.net/t", "abfss://c@acct.dfs.core.windows.net/t"),
            ("abfss://c@acct.dfs.core.usgovcloudapi.net/t", "abfss://c@acct.dfs.core.usgovcloudapi.net/t"),
            ("az://c/t", "az://c/t"),
            ("azure://c/t", "az://c/t"),
            ("file:///lake/t/", "file:///lake/t"),
            ("file:/lake/t", "file:///lake/t"),
            ("file://localhost/lake/t", "file:///lake/t"),
        ] {
            assert_eq!(normal(written), expected, "{written}");
        }
    }

    #[test]
    fn plain_paths_are_resolved_as_all_are() {
        let root = Path::from("lake/t");
        for path in [
            "a",
            "a=1/b-2_3.parquet",
            "_delta_log",
            "_delta_log/0.json",
            "a/_delta_log/x",
            "a//b",
            "a/../b",
            "./a",
            "a/",
            "/a",
            "",
        ] {
            let slow = relative(path).map(|segments| format!("lake/t/{}", segments.join("/")));
            assert_eq!(resolve(&root, path).ok().map(String::from), slow.ok(), "{path}");
            assert!(!is_plain(path) || relative(path).is_ok(), "{path}");
        }
        assert_eq!(resolve(&Path::default(), "a/b").unwrap().as_ref(), "a/b");
    }

    #[test]
    fn hostile_locations_are_refused() {
        for text in [
            "",
            "lake",
            "/lake/t",
            "s3:lake/t",
            "s3:///t",
            "s3://lake/../other",
            "s3://lake/a/%2e%2e/b",
            "s3://lake/a%2F..%2Fb",
            "s3://lake/a\\..\\b",
            "s3://lake/a%5Cb",
            "s3://lake/a%00b",
            "s3://lake/a\nb",
            "s3://lake/100%",
            "s3://lake/%zz",
            "s3://lake/%ff",
            "s3://lake/t?versionId=1",
            "s3://lake/t#x",
            "s3://key:secret@lake/t",
            "s3://lake:80/t",
            "s3://../t",
            "s3://%6cake/t",
            "https://lake.s3.amazonaws.com/t",
            "file://host/t",
            "file://../etc",
            "file:lake",
            "abfss://c@acct/t",
            "abfss://c@acct.evil.example/t",
            "abfss://c@.dfs.core.windows.net/t",
            "hdfs://n/t",
            "http://169.254.169.254/latest",
        ] {
            assert!(Location::parse(text).is_err(), "{text:?} was accepted");
        }
        assert!(Location::parse(&format!("s3://lake/{}", "a".repeat(MAX_LOCATION))).is_err());
    }

    #[test]
    fn credentials_in_a_location_are_not_repeated() {
        let error = Location::parse("s3://key:hunter2@lake/t").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let error = Location::parse("abfss://c@a.dfs.core.windows.net/t?sig=hunter2").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn prefixes_match_whole_segments() {
        assert!(covers("s3://b/lake", "s3a://b/lake"));
        assert!(covers("s3://b/lake", "s3://b/lake/t"));
        assert!(covers("s3://b", "s3://b/lake"));
        assert!(!covers("s3://b/lake", "s3://b/lakehouse"));
        assert!(!covers("s3://b/lake", "s3://b/Lake/t"));
        assert!(!covers("s3://b/lake/t", "s3://b/lake"));
        assert!(!covers("s3://b", "gs://b/lake"));
        assert!(!covers("s3://b", "s3://bb/lake"));
        assert!(covers("file:///lake", "file:///lake/t"));
        assert!(!covers("file:///lake", "file:///lakehouse/t"));
        assert!(covers("abfss://c@a.dfs.core.windows.net", "az://c/t"));
        assert!(!covers("abfss://c@a.dfs.core.windows.net", "abfss://c@b.dfs.core.windows.net/t"));
        assert!(!covers("abfss://c@a.dfs.core.windows.net", "abfss://c@a.dfs.core.usgovcloudapi.net/t"));
    }

    #[test]
    fn log_paths_resolve_after_one_decode() {
        let root = Path::parse("lake/t").unwrap();
        for (written, expected) in [
            ("part-0.parquet", "lake/t/part-0.parquet"),
            ("./part-0.parquet", "lake/t/part-0.parquet"),
            ("x=A%252FA/part-0.parquet", "lake/t/x=A%2FA/part-0.parquet"),
            ("x=B%2520B/part-0.parquet", "lake/t/x=B%20B/part-0.parquet"),
            ("x=a%20b/p.parquet", "lake/t/x=a b/p.parquet"),
            ("ts=2024-01-01 10:00:00/p.parquet", "lake/t/ts=2024-01-01 10:00:00/p.parquet"),
            ("%252e%252e/p", "lake/t/%2e%2e/p"),
            ("..a/p", "lake/t/..a/p"),
            ("x/_delta_log2/p", "lake/t/x/_delta_log2/p"),
        ] {
            assert_eq!(resolve(&root, written).unwrap().as_ref(), expected, "{written}");
        }
        assert_eq!(resolve(&Path::ROOT, "p").unwrap().as_ref(), "p");
    }

    #[test]
    fn hostile_log_paths_are_refused() {
        let root = Path::parse("lake/t").unwrap();
        for text in [
            "",
            ".",
            "/",
            "/etc/passwd",
            "%2Fetc/passwd",
            "//host/p",
            "../u/p",
            "a/../../u/p",
            "%2e%2e/u/p",
            "a/%2E%2E/%2e%2e/p",
            "..%2Fu",
            "a\\..\\p",
            "a%5C..%5Cp",
            "s3://other/p",
            "file:///etc/passwd",
            "file:/etc/passwd",
            "FILE:p",
            "a//p",
            "a/",
            "a%2F",
            "a%00",
            "a\tb",
            "p?x=1",
            "p#x",
            "100%",
            "%ff",
            "_delta_log/00000000000000000000.json",
            "./_delta_log/0.json",
            "%5fdelta_log/0.json",
            "_delta_log%2F0.json",
            "x/_delta_log/0.json",
            "x/_delta%5Flog/0.json",
            "_DELTA_LOG/0.json",
        ] {
            let error = resolve(&root, text);
            assert!(matches!(error, Err(StorageError::Escapes { .. })), "{text:?} gave {error:?}");
        }
        assert!(resolve(&root, &"a/".repeat(MAX_LOG_PATH)).is_err());
    }

    /// Generates text from pieces that are critical for path rules.
    fn nasty() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just("/".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%25".to_owned()),
            Just("%".to_owned()),
            Just("\\".to_owned()),
            Just("s3://".to_owned()),
            Just("_delta_log".to_owned()),
            "\\PC{0,3}",
            ".{0,2}",
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn resolved_paths_stay_strictly_under_the_table(text in nasty()) {
            let root = Path::parse("lake/t").unwrap();
            if let Ok(path) = resolve(&root, &text) {
                prop_assert!(path.prefix_matches(&root) && path != root);
                prop_assert!(path.as_ref().split('/').all(|s| !matches!(s, "" | "." | "..") && !s.contains('\\')));
            }
        }

        #[test]
        fn normal_form_is_stable(text in nasty(), scheme in "s3|s3a|gs|az|file") {
            let bucket = if scheme == "file" { "" } else { "lake" };
            if let Ok(location) = Location::parse(&format!("{scheme}://{bucket}/{text}")) {
                prop_assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
            }
        }
    }
}
