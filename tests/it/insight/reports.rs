//! Monthly reports: they agree with the trail, stay unchanged, and any tampering is found.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, Request, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;
use weir::{
    config::ExportSettings,
    domain::{
        audit::{
            Actor, ActorKind, Event, Outcome, Personal,
            action::Action,
            checkpoint::{SigningKey, VerifierKey},
        },
        core::{job::JobKind, seal::RootKey},
        insight::report::{FileEntry, Manifest, ReportFile, Statement},
    },
    service::{
        audit::{error::AuditError, export::ExportWalk, seal::AuditSealer},
        core::clock::Clock,
        insight::report_verification::{VerifiedReport, verify_report},
    },
    storage::Archive,
};
use zeroize::Zeroizing;

use crate::support::{
    app::{Answer, TestApp, fields, on_both_databases},
    tables::add,
};

on_both_databases!(
    a_report_equals_an_independent_count_over_the_exported_audit,
    a_report_counts_what_was_served_and_refused,
    whatever_is_tampered_with_is_noticed,
    a_report_stays_as_it_was_made_and_comes_out_the_same_again,
    replicas_make_one_report_between_them,
    a_partners_report_shows_nobody_else,
    the_server_makes_last_months_report_once,
    months_that_cannot_be_reported_are_refused,
    a_month_without_traffic_has_an_empty_report,
);

/// The root key of every [`TestApp`].
const KEY: u8 = 7;
const MONTH: &str = "2026-10";

fn root(byte: u8) -> RootKey {
    RootKey::new(Zeroizing::new([byte; 32]))
}

fn keys() -> Vec<VerifierKey> {
    vec![SigningKey::derive(&root(KEY)).unwrap().verifier().clone()]
}

/// As this release and, of every other recipient, as earlier ones write it: those called a shared object a table.
fn recipient_event(recipient: u128, table: u128, action: Action) -> Event {
    let object_id = Some(Uuid::from_u128(1_000 + table));
    let (id, name) = (Some(Uuid::from_u128(recipient)), Some(format!("partner-{recipient}")));
    Event {
        recipient: name.clone(),
        recipient_id: id,
        share: Some(format!("share-{}", table % 4)),
        share_id: Some(Uuid::from_u128(9_000 + table % 4)),
        schema: Some("claims".into()),
        table: Some(format!("t{table}")),
        object_id: object_id.filter(|_| recipient.is_multiple_of(2)),
        table_id: if recipient.is_multiple_of(2) { Some(Uuid::from_u128(5_000)) } else { object_id },
        registered_table: (recipient.is_multiple_of(2)).then(|| "lake.claims".to_owned()),
        purpose: Some("fraud_analytics".into()),
        personal: Personal { client_address: Some(format!("192.0.2.{}", recipient % 7)), ..Personal::default() },
        ..Event::new(Actor { kind: ActorKind::Recipient, id, name, ..Actor::ANONYMOUS }, action)
    }
}

fn query(recipient: u128, table: u128) -> Event {
    let disclosed = recipient_event(recipient, table, Action::TableQuery);
    Event { delivery: Some("presigned"), files: Some(2), rows: Some(20), bytes: Some(200), ..disclosed }
}

/// Advances the clock to `moment`.
fn pass_until(app: &TestApp, moment: &str) {
    let moment: DateTime<Utc> = moment.parse().unwrap();
    app.pass((moment - app.now()).num_seconds());
}

/// Queues what is due, and makes it.
async fn tend(app: &TestApp) {
    app.service.insight.tend_reports().await.unwrap();
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
}

/// Makes the report that `body` asks for, as it is ready.
async fn made(app: &TestApp, body: Value) -> Value {
    let report = app.post("/reports", body).await.expect(201);
    assert_eq!(report["state"], "ready", "{report}");
    report
}

/// Every file of a report.
async fn files(app: &TestApp, report: &Value) -> BTreeMap<ReportFile, Vec<u8>> {
    let mut files = BTreeMap::new();
    for file in ReportFile::ALL {
        let path = format!("/reports/{}/{}", report["id"].as_str().unwrap(), file.as_str());
        let answer: Answer = app.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        files.insert(file, answer.text.into_bytes());
    }
    files
}

fn text(files: &BTreeMap<ReportFile, Vec<u8>>, file: ReportFile) -> &str {
    std::str::from_utf8(&files[&file]).unwrap()
}

fn json_of(files: &BTreeMap<ReportFile, Vec<u8>>) -> Value {
    serde_json::from_slice(&files[&ReportFile::Json]).unwrap()
}

/// Exports the trail up to now.
async fn export(app: &TestApp) -> (TempDir, Archive) {
    let folder = TempDir::new().unwrap();
    let url = Some(Url::from_directory_path(folder.path()).unwrap().to_string());
    let target = ExportSettings { url, options: Default::default() };
    let archive = Archive::open(&target.target().unwrap()).unwrap();
    let now = app.now();
    let settings = weir::config::Settings::load(Default::default()).unwrap().audit;
    let (db, clock) = (app.service.core.db.clone(), Clock::new(move || now));
    let audit_sealer = AuditSealer::new(db, clock, &[root(KEY)], Some(archive.clone()), settings).unwrap();
    audit_sealer.seal().await.unwrap();
    (folder, archive)
}

async fn verify(
    files: &BTreeMap<ReportFile, Vec<u8>>,
    archive: Option<&Archive>,
) -> Result<VerifiedReport, AuditError> {
    let walk = match archive {
        Some(archive) => Some(ExportWalk::from_start(archive, &keys()).await.unwrap()),
        None => None,
    };
    verify_report(files, &keys(), walk, &mut |_| {}).await
}

#[track_caller]
fn refused(outcome: Result<VerifiedReport, AuditError>, why: &str) {
    let error = outcome.map(|verified| verified.files).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

/// Pseudorandom numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// One random event of a month's traffic by 50 recipients on 200 tables.
fn traffic(chance: &mut Chance) -> Event {
    let (recipient, table) = (1 + u128::from(chance.below(50)), 1 + u128::from(chance.below(200)));
    let (files, size) = (chance.below(5), chance.below(1_000_000));
    let base = query(recipient, table);
    match chance.below(12) {
        0 => Event { decision: Outcome::Deny, reason: Some("GRANT_EXPIRED".into()), ..base },
        1 => Event {
            decision: Outcome::Deny,
            reason: Some("TOKEN_EXPIRED".into()),
            table: None,
            object_id: None,
            table_id: None,
            registered_table: None,
            schema: None,
            ..recipient_event(recipient, table, Action::TablesList)
        },
        2 => Event {
            decision: Outcome::Deny,
            reason: Some("TOKEN_UNKNOWN".into()),
            ..Event::new(Actor::ANONYMOUS, Action::SharesList)
        },
        3 => Event {
            decision: Outcome::Deny,
            reason: Some("REQUESTS_PER_MINUTE".into()),
            share: None,
            share_id: None,
            schema: None,
            table: None,
            object_id: None,
            table_id: None,
            registered_table: None,
            change: Some(json!({"refused": "table.query", "count": 1 + files})),
            ..recipient_event(recipient, table, Action::RefusalsSummary)
        },
        4 => Event {
            delivery: Some("proxied"),
            files: Some(1),
            bytes: Some(size),
            ..recipient_event(recipient, table, Action::FileRead)
        },
        5 => Event {
            delivery: Some("proxied"),
            bytes: Some(size),
            change: Some(json!({"reads": files})),
            ..recipient_event(recipient, table, Action::FileReadSummary)
        },
        6 => recipient_event(recipient, table, Action::TableMetadata),
        7 => Event { duration_ms: Some(size), ..recipient_event(recipient, table, Action::TableQueryCompleted) },
        8 => Event { rows: None, files: Some(files), bytes: Some(size), delivery: Some("proxied"), ..base },
        9 => Event {
            purpose: Some("pricing".into()),
            agreement: Some("DSA-7".into()),
            files: Some(files),
            ..recipient_event(recipient, table, Action::TableChanges)
        },
        10 => Event::new(Actor::system("notary"), Action::AuditErase),
        _ => Event { files: Some(files), bytes: Some(size), rows: Some(files * 10), ..base },
    }
}

/// The sums of one recipient and dataset, counted by hand.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    requests: i64,
    file_reads: i64,
    denials: i64,
    reasons: BTreeMap<String, i64>,
    files: i64,
    rows: i64,
    answers_without_rows: i64,
    bytes_issued: i64,
    bytes_delivered: Option<i64>,
    days: BTreeSet<String>,
    first_at: String,
    last_at: String,
}

type Key = (Option<String>, Option<String>, Option<String>);

/// Counts the lines of an export from their text alone, by the definitions in docs/reports.md.
fn count_export(folder: &std::path::Path, month: &str) -> (i64, BTreeMap<Key, Counted>) {
    const REQUESTS: [&str; 8] = [
        "shares.list",
        "share.get",
        "schemas.list",
        "tables.list",
        "table.version",
        "table.metadata",
        "table.query",
        "table.changes",
    ];
    let mut names: Vec<_> =
        std::fs::read_dir(folder.join("events")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let (mut n_events, mut counted) = (0, BTreeMap::<Key, Counted>::new());
    let lines: String = names.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for line in lines.lines() {
        let event = serde_json::from_str::<Value>(line).unwrap()["event"].take();
        let at = event["at"].as_str().unwrap();
        if !at.starts_with(month) {
            continue;
        }
        n_events += 1;
        let is_allowed = event["decision"] == "allow";
        let action = event["action"].as_str().unwrap();
        let (stands_for, times) = match action {
            "refusals.summary" => {
                (event["change"]["refused"].as_str().unwrap(), event["change"]["count"].as_i64().unwrap())
            }
            "file.read.summary" => ("file.read", event["change"]["reads"].as_i64().unwrap()),
            action => (action, 1),
        };
        let (requests, reads) = match stands_for {
            "file.read" => (0, times),
            other if REQUESTS.contains(&other) => (times, 0),
            _ => continue,
        };
        if times == 0 {
            continue;
        }
        let id = |member: &str| event[member].as_str().map(str::to_owned);
        let object = if event["registered_table"].is_string() { id("object_id") } else { id("table_id") };
        let sum = counted.entry((id("recipient_id"), id("share_id"), object)).or_default();
        sum.requests += requests;
        sum.file_reads += reads;
        if !is_allowed {
            sum.denials += times;
            *sum.reasons.entry(event["reason"].as_str().unwrap().to_owned()).or_default() += times;
        }
        let number = |member: &str| event[member].as_i64().unwrap_or_default();
        if is_allowed && ["table.query", "table.changes"].contains(&action) {
            sum.files += number("files");
            sum.rows += number("rows");
            sum.bytes_issued += number("bytes");
            sum.answers_without_rows += i64::from(number("files") > 0 && event["rows"].is_null());
            if event["delivery"] == "proxied" {
                sum.bytes_delivered.get_or_insert_default();
            }
        }
        if is_allowed && reads > 0 {
            *sum.bytes_delivered.get_or_insert_default() += number("bytes");
        }
        sum.days.insert(at[..10].to_owned());
        if sum.first_at.is_empty() || at < sum.first_at.as_str() {
            sum.first_at = at.to_owned();
        }
        sum.last_at = sum.last_at.clone().max(at.to_owned());
    }
    (n_events, counted)
}

/// Compares a line of a report with the hand count.
fn compare(line: &Value, counted: &Counted) {
    let moment = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    for (member, expected) in [
        ("requests", counted.requests),
        ("file_reads", counted.file_reads),
        ("denials", counted.denials),
        ("files", counted.files),
        ("rows", counted.rows),
        ("answers_without_rows", counted.answers_without_rows),
        ("bytes_issued", counted.bytes_issued),
        ("days_active", i64::try_from(counted.days.len()).unwrap()),
    ] {
        assert_eq!(line[member], expected, "{member} {line} {counted:?}");
    }
    assert_eq!(line["bytes_delivered"].as_i64(), counted.bytes_delivered, "{line}");
    assert_eq!(line["reasons"], json!(counted.reasons), "{line}");
    assert_eq!(moment(line["first_at"].as_str().unwrap()), moment(&counted.first_at));
    assert_eq!(moment(line["last_at"].as_str().unwrap()), moment(&counted.last_at));
}

async fn a_report_equals_an_independent_count_over_the_exported_audit(app: TestApp) {
    let mut chance = Chance(42);
    // Up to its last microsecond, the month before is not counted.
    pass_until(&app, "2026-09-30T23:59:59Z");
    app.append(&[query(1, 1), query(2, 2)]).await;
    pass_until(&app, "2026-10-01T00:00:00Z");
    app.append(&[query(1, 1)]).await;
    // Every recipient and every table occurs.
    let every: Vec<Event> = (1..=200).map(|table| query(1 + table % 50, table)).collect();
    app.append(&every).await;
    for _ in 0..31 * 8 {
        let events: Vec<Event> = (0..32).map(|_| traffic(&mut chance)).collect();
        app.append(&events).await;
        app.pass(3 * 3_600 - 1);
    }
    // A recipient is renamed during the month; it stays the same recipient.
    app.append(&[Event { recipient: Some("partner-one".into()), ..query(1, 1) }]).await;
    assert!(app.now() < "2026-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap());
    pass_until(&app, "2026-11-01T00:00:00Z");
    app.append(&[query(1, 1), query(3, 3)]).await;
    app.pass(300);

    let report = made(&app, json!({"month": MONTH})).await;
    let files = files(&app, &report).await;
    let said = json_of(&files);
    let (folder, archive) = export(&app).await;
    let (n_events, counted) = count_export(folder.path(), MONTH);
    assert!(n_events > 8_000, "{n_events}");
    assert_eq!(said["events"]["count"], n_events);
    let lines = said["lines"].as_array().unwrap();
    assert_eq!(lines.len(), counted.len());
    let id = |line: &Value, member: &str| line[member].as_str().map(str::to_owned);
    let mut seen = BTreeSet::new();
    for line in lines {
        let key = (id(line, "recipient_id"), id(line, "share_id"), id(line, "table_id"));
        compare(line, &counted[&key]);
        assert!(seen.insert(key), "{line}");
    }
    // The totals are the sums of the lines.
    let sum =
        |of: &Value, member: &str| of.as_array().unwrap().iter().filter_map(|line| line[member].as_i64()).sum::<i64>();
    for member in ["requests", "file_reads", "denials", "files", "bytes_issued", "bytes_delivered"] {
        let total = counted.values().map(|counted| match member {
            "requests" => counted.requests,
            "file_reads" => counted.file_reads,
            "denials" => counted.denials,
            "files" => counted.files,
            "bytes_issued" => counted.bytes_issued,
            _ => counted.bytes_delivered.unwrap_or_default(),
        });
        let total: i64 = total.sum();
        assert_eq!(said["totals"][member], total, "{member}");
        for by in ["lines", "recipients", "datasets", "days"] {
            assert_eq!(sum(&said[by], member), total, "{member} by {by}");
        }
    }
    let named =
        |by: &str, member: &str| said[by].as_array().unwrap().iter().filter(|line| !line[member].is_null()).count();
    assert_eq!((named("recipients", "recipient_id"), named("datasets", "table_id")), (50, 200));
    assert_eq!(said["days"].as_array().unwrap().len(), 31);
    let allowed: i64 =
        counted.iter().filter(|(key, _)| key.1.is_some()).map(|(_, c)| c.requests + c.file_reads - c.denials).sum();
    assert_eq!(sum(&said["uses"], "answered"), allowed);
    let one = lines.iter().find(|line| line["recipient_id"] == json!(Uuid::from_u128(1))).unwrap();
    assert_eq!((&one["recipient"], &one["addresses"]), (&json!("partner-one"), &json!(1)));
    // The CSV agrees, line by line.
    let csv = text(&files, ReportFile::Csv);
    assert_eq!(csv.lines().count(), lines.len() + 1);
    let heading: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    for (line, said) in csv.lines().skip(1).zip(lines) {
        let cells: Vec<&str> = line.split(',').collect();
        for member in ["requests", "file_reads", "denials", "files", "rows", "bytes_issued", "days_active"] {
            let cell = cells[heading.iter().position(|name| *name == member).unwrap()];
            assert_eq!(cell, said[member].to_string(), "{line}");
        }
    }
    // The verification with the export agrees too.
    let verified = verify(&files, Some(&archive)).await.unwrap();
    assert_eq!((verified.recounted, verified.files.len()), (Some(n_events), 3));
    let partner = made(&app, json!({"month": MONTH, "recipient": Uuid::from_u128(9).to_string()})).await;
    let partner_files = self::files(&app, &partner).await;
    verify(&partner_files, Some(&archive)).await.unwrap();
    let partner = json_of(&partner_files);
    let own = |line: &&Value| line["recipient_id"] == json!(Uuid::from_u128(9));
    let expected: Vec<&Value> = lines.iter().filter(own).collect();
    assert_eq!(partner["lines"].as_array().unwrap().iter().collect::<Vec<_>>(), expected);
    // For a look at the files by hand.
    if let Ok(folder) = std::env::var("WEIR_TEST_REPORT") {
        for (file, content) in &files {
            std::fs::write(std::path::Path::new(&folder).join(file.as_str()), content).unwrap();
        }
    }
}

/// Queries the shared table as a recipient. Returns the status and each file's URL and size.
async fn served(app: &TestApp, token: &str) -> (u16, Vec<(String, i64)>) {
    let path = "/delta-sharing/shares/insurer/schemas/claims/tables/claims/query";
    let request = Request::post(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}")).unwrap();
    let answer = app.send(request).await;
    let lines = answer.text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let files = lines.filter_map(|mut line| line.get_mut("file").map(Value::take));
    let files = files.map(|file| (file["url"].as_str().unwrap().to_owned(), file["size"].as_i64().unwrap()));
    (answer.status.as_u16(), files.collect())
}

async fn a_report_counts_what_was_served_and_refused(app: TestApp) {
    pass_until(&app, "2026-10-05T12:00:00Z");
    app.share_claims().await;
    let more = [add("a.parquet", 700), add("b.parquet", 300)].map(|action| action.to_string());
    let commit = app.folder("claims").join("_delta_log/00000000000000000001.json");
    std::fs::write(commit, more.join("\n")).unwrap();
    let grant = app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let (mut issued, mut n_files) = (0, 0);
    for _ in 0..3 {
        let (status, files) = served(&app, &token).await;
        assert_eq!(status, 200);
        n_files += i64::try_from(files.len()).unwrap();
        issued += files.iter().map(|(_, size)| size).sum::<i64>();
    }
    assert!(n_files > 0);
    app.shared(&token, "/shares/insurer/schemas/claims/tables/claims/version").await;
    pass_until(&app, "2026-10-06T12:00:00Z");
    app.post(&format!("/grants/{grant}/revoke"), json!({"reason": "a test"})).await.expect(200);
    assert_eq!(served(&app, &token).await.0, 403);
    pass_until(&app, "2026-11-01T00:05:00Z");
    let report = made(&app, json!({"month": MONTH, "recipient": "acme"})).await;
    let said = json_of(&files(&app, &report).await);
    let line = said["lines"].as_array().unwrap().iter().find(|line| !line["table_id"].is_null()).unwrap();
    for (member, expected) in [("requests", 4), ("files", n_files), ("bytes_issued", issued), ("days_active", 1)] {
        assert_eq!(line[member], expected, "{member} {line}");
    }
    assert_eq!((&line["recipient"], &line["table"]), (&json!("acme"), &json!("claims.claims")));
    // A refusal names the share but no table in it.
    assert_eq!(said["totals"]["denials"], 1, "{said}");
    assert_eq!(said["totals"]["requests"], 5, "{said}");
}

/// Makes a small month that is over, and its report.
async fn small(app: &TestApp) -> Value {
    pass_until(app, "2026-10-05T12:00:00Z");
    app.append(&[query(1, 1), query(1, 2), query(2, 1), query(2, 2), query(2, 3)]).await;
    pass_until(app, "2026-11-01T00:05:00Z");
    app.append(&[query(1, 1)]).await;
    made(app, json!({"month": MONTH})).await
}

/// The same files with a new manifest that fits them, signed by `key`.
fn signed_anew(mut files: BTreeMap<ReportFile, Vec<u8>>, key: u8) -> BTreeMap<ReportFile, Vec<u8>> {
    let mut manifest = Manifest::read(&files[&ReportFile::Manifest]).unwrap();
    for file in ReportFile::LISTED {
        manifest.files.insert(file.as_str().to_owned(), FileEntry::of(&files[&file]));
    }
    let json = manifest.json().into_bytes();
    let note = SigningKey::derive(&root(key)).unwrap().sign_statement(Statement::of(&json).as_str());
    files.insert(ReportFile::Manifest, json);
    files.insert(ReportFile::Signature, note.into_bytes());
    files
}

async fn whatever_is_tampered_with_is_noticed(app: TestApp) {
    let files = files(&app, &small(&app).await).await;
    let (_folder, archive) = export(&app).await;
    verify(&files, None).await.unwrap();
    assert_eq!(verify(&files, Some(&archive)).await.unwrap().recounted, Some(5));
    // One byte of any file, at several places.
    for file in ReportFile::ALL {
        let size = files[&file].len();
        for place in [0, size / 3, size / 2, size - 2] {
            let mut changed = files.clone();
            changed.get_mut(&file).unwrap()[place] ^= 1;
            assert!(verify(&changed, None).await.is_err(), "{} at {place}", file.as_str());
        }
        let mut cut = files.clone();
        cut.get_mut(&file).unwrap().pop();
        assert!(verify(&cut, None).await.is_err(), "{}", file.as_str());
    }
    // A missing file is not checked; without the manifest nothing is trusted.
    let without = |file: ReportFile| files.clone().into_iter().filter(|(name, _)| *name != file).collect();
    assert_eq!(verify(&without(ReportFile::Html), None).await.unwrap().files, [ReportFile::Csv, ReportFile::Json]);
    refused(verify(&without(ReportFile::Manifest), None).await, "manifest.json is missing");
    refused(verify(&without(ReportFile::Signature), None).await, "manifest.sig is missing");
    refused(verify(&without(ReportFile::Json), Some(&archive)).await, "report.json is missing");
    // A manifest that fits the changed files, signed by another key.
    let mut edited = files.clone();
    let fewer = text(&files, ReportFile::Json).replace("\"requests\":5", "\"requests\":4");
    assert_ne!(fewer, text(&files, ReportFile::Json));
    edited.insert(ReportFile::Json, fewer.into_bytes());
    refused(verify(&edited, None).await, "report.json is not the file that was made");
    refused(verify(&signed_anew(edited.clone(), 8), None).await, "manifest.json is not what was signed");
    // A forger with the right key is found by the trail's export.
    let forged = signed_anew(edited, KEY);
    verify(&forged, None).await.unwrap();
    refused(verify(&forged, Some(&archive)).await, "4 requests in the report, 5 in the trail");
    let mut edited = files.clone();
    let other = text(&files, ReportFile::Json).replace("\"first_at\":\"2026-10-05", "\"first_at\":\"2026-10-04");
    edited.insert(ReportFile::Json, other.into_bytes());
    refused(verify(&signed_anew(edited, KEY), Some(&archive)).await, "does not say what the trail does");
    // A tampered export proves nothing, nor does one that ends too early.
    let events = std::fs::read_dir(_folder.path().join("events")).unwrap().next().unwrap().unwrap().path();
    let exported = std::fs::read_to_string(&events).unwrap();
    std::fs::write(&events, exported.replace("\"rows\":20", "\"rows\":21")).unwrap();
    assert!(matches!(verify(&files, Some(&archive)).await, Err(AuditError::Broken(_))));
    std::fs::write(&events, exported).unwrap();
    let checkpoints = std::fs::read_dir(_folder.path().join("checkpoints")).unwrap();
    for checkpoint in checkpoints {
        std::fs::remove_file(checkpoint.unwrap().path()).unwrap();
    }
    refused(verify(&files, Some(&archive)).await, "does not hold the report's checkpoint");
}

async fn a_report_stays_as_it_was_made_and_comes_out_the_same_again(app: TestApp) {
    let report = small(&app).await;
    let first = files(&app, &report).await;
    let listed: BTreeMap<String, Value> = serde_json::from_value(report["files"].clone()).unwrap();
    for (file, content) in &first {
        let FileEntry { bytes, sha256 } = FileEntry::of(content);
        assert_eq!(listed[file.as_str()], json!({"bytes": bytes, "sha256": sha256}));
    }
    // Requested again, after the trail has grown and addresses were erased.
    app.append(&[Event { recipient: Some("renamed".into()), ..query(1, 1) }]).await;
    app.execute("DELETE FROM audit_personal").await;
    let again = app.post("/reports", json!({"month": MONTH})).await.expect(200);
    assert_eq!(again, report);
    assert_eq!(files(&app, &again).await, first);
    // The trail records that it was made and the hashes of its files.
    assert_eq!(app.events("report.create").await.len(), 1);
    let completed = app.events("report.complete").await;
    assert_eq!(completed.len(), 1);
    assert_eq!(completed[0]["change"]["after"]["sha256"]["report.json"], listed["report.json"]["sha256"]);
    // Made again from the same trail, it is identical byte for byte.
    let second = made(&app, json!({"month": MONTH, "recipient": Uuid::from_u128(2)})).await;
    let before = files(&app, &second).await;
    app.execute("DELETE FROM report_files").await;
    app.execute("DELETE FROM reports").await;
    let second = made(&app, json!({"month": MONTH, "recipient": Uuid::from_u128(2)})).await;
    let after = files(&app, &second).await;
    for file in ReportFile::LISTED {
        assert_eq!(after[&file], before[&file], "{}", file.as_str());
    }
    // It is listed and found.
    made(&app, json!({"month": MONTH})).await;
    let page = app.get(&format!("/reports?month={MONTH}&max_results=1")).await.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    let next = page["next_page_token"].as_str().unwrap();
    let next = app.get(&format!("/reports?month={MONTH}&max_results=1&page_token={next}")).await.expect(200);
    assert_eq!((next["items"][0]["recipient_id"].is_null(), next.get("next_page_token")), (true, None));
    let of = app.get(&format!("/reports?recipient={}", Uuid::from_u128(2))).await.expect(200);
    assert_eq!((of["items"].as_array().unwrap().len(), &of["items"][0]["id"]), (1, &second["id"]));
    let one = app.get(&format!("/reports/{}", second["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(one, second);
    // The page's policy forbids everything that it does not need.
    let path = format!("/reports/{}/report.html", second["id"].as_str().unwrap());
    let page = app.get(&path).await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("sandbox"), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert_eq!(page.headers["content-disposition"], "attachment; filename=\"weir-2026-10-report.html\"");
    for word in ["<script", "http:", "https:", "src=", "url(", "@import", "<link", "javascript"] {
        assert!(!page.text.contains(word), "{word}");
    }
    assert_eq!(page.text.matches("<svg").count(), page.text.matches("</svg>").count());
}

async fn replicas_make_one_report_between_them(app: TestApp) {
    pass_until(&app, "2026-10-05T12:00:00Z");
    app.append(&vec![query(1, 1); 2_500]).await;
    pass_until(&app, "2026-11-01T00:05:00Z");
    let replica = app.replica(None);
    let body = json!({"month": MONTH});
    let (one, two, three) =
        tokio::join!(app.post("/reports", body.clone()), replica.post("/reports", body.clone()), async {
            tend(&replica).await;
        });
    let () = three;
    let statuses = [one.status.as_u16(), two.status.as_u16()];
    assert!(statuses.iter().all(|status| [200, 201, 202].contains(status)), "{statuses:?} {} {}", one.text, two.text);
    assert_eq!(one.json()["id"], two.json()["id"]);
    let report = app.post("/reports", body).await.expect(200);
    let files_of_one = files(&app, &report).await;
    assert_eq!(files_of_one, files(&replica, &report).await);
    assert_eq!(json_of(&files_of_one)["totals"]["requests"], 2_500);
    assert_eq!(app.get("/reports").await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!((app.events("report.create").await.len(), app.events("report.complete").await.len()), (1, 1));
    // A report whose maker died is taken over by the next.
    app.execute("DELETE FROM report_files").await;
    app.execute("UPDATE reports SET state = 'making', ready_at = NULL").await;
    app.pass(3_600);
    tend(&replica).await;
    assert_eq!(files(&app, &report).await[&ReportFile::Json], files_of_one[&ReportFile::Json]);
}

async fn a_partners_report_shows_nobody_else(app: TestApp) {
    app.share_claims().await;
    let body = json!({"display_name": "<script>alert('x')</script> & \"Söhne\""});
    let acme = app.put("/recipients/acme", body).await.expect(201);
    app.post("/grants", json!({"share": "insurer", "recipient": "acme", "purpose": "=cmd()"})).await.expect(201);
    app.put("/recipients/zurich-secret", json!({"display_name": "Hidden Partner"})).await.expect(201);
    app.put("/shares/hidden-share", json!({})).await.expect(201);
    app.post("/grants", json!({"share": "hidden-share", "recipient": "zurich-secret"})).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let other = app.post("/recipients/zurich-secret/tokens", json!({"reveal": true})).await.expect(201);
    pass_until(&app, "2026-10-05T12:00:00Z");
    app.shared(&token, "/shares").await.expect(200);
    app.shared(&token, "/shares/insurer/schemas/claims/tables/claims/metadata").await.expect(200);
    assert_eq!(app.shared(&token, "/shares/hidden-share").await.status, 404);
    app.shared(other["token"].as_str().unwrap(), "/shares").await.expect(200);
    let path = format!("/recipients/acme/tokens/{}/revoke", app.token_for_acme().await["id"].as_str().unwrap());
    app.post(&path, json!({"reason": "lost"})).await.expect(200);
    app.service.core.audit_writer.finish().await;
    pass_until(&app, "2026-11-01T00:05:00Z");
    let own = files(&app, &made(&app, json!({"month": MONTH, "recipient": "acme"})).await).await;
    let said = json_of(&own);
    assert_eq!((&said["totals"]["requests"], &said["totals"]["denials"]), (&json!(3), &json!(1)), "{said}");
    assert_eq!(said["totals"]["reasons"], json!({"SHARE_NOT_GRANTED": 1}));
    let actions: Vec<&str> =
        said["changes"].as_array().unwrap().iter().map(|c| c["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["token.issue", "token.reveal", "token.revoke"], "{said}");
    for (file, content) in &own {
        let content = String::from_utf8(content.clone()).unwrap();
        for word in ["zurich", "Hidden", "hidden-share", "bootstrap"] {
            assert!(!content.contains(word), "{word} in {}: {content}", file.as_str());
        }
    }
    let whole = files(&app, &made(&app, json!({"month": MONTH})).await).await;
    let page = text(&whole, ReportFile::Html);
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;Söhne&quot;"), "{page}");
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("zurich-secret") && page.contains("Hidden Partner"));
    // A deleted recipient is found by its id and keeps its name.
    app.delete("/recipients/acme").await;
    app.post("/recipients/acme/offboard", json!({"reason": "over"})).await;
    app.delete("/recipients/acme").await.expect(204);
    app.execute("DELETE FROM report_files").await;
    app.execute("DELETE FROM reports").await;
    app.post("/reports", json!({"month": MONTH, "recipient": "acme"})).await.problem(422, "invalid_input");
    let gone = made(&app, json!({"month": MONTH, "recipient": acme["id"]})).await;
    let said = json_of(&files(&app, &gone).await);
    assert_eq!((&said["recipient"]["name"], &said["lines"][0]["recipient"]), (&json!("acme"), &json!("acme")));
}

async fn the_server_makes_last_months_report_once(app: TestApp) {
    pass_until(&app, "2026-10-05T12:00:00Z");
    app.append(&[query(1, 1)]).await;
    let items = async || app.get("/reports").await.expect(200)["items"].as_array().unwrap().clone();
    tend(&app).await;
    assert!(items().await.is_empty(), "there was no trail in September");
    pass_until(&app, "2026-11-01T00:04:59Z");
    tend(&app).await;
    assert!(items().await.is_empty(), "a clock may be late");
    app.pass(1);
    tend(&app.replica_set(|settings| settings.reports.monthly = false)).await;
    assert!(items().await.is_empty(), "it is not wanted");
    tend(&app).await;
    let made = items().await;
    assert_eq!((made.len(), &made[0]["month"], &made[0]["state"]), (1, &json!(MONTH), &json!("ready")));
    assert_eq!(made[0]["requested_by"], "reports");
    app.pass(3_600);
    tend(&app).await;
    assert_eq!(items().await, made);
}

async fn months_that_cannot_be_reported_are_refused(app: TestApp) {
    app.append(&[query(1, 1)]).await;
    for month in
        ["2026-13", "2026-9", "september", "", "2026-09-01", "2026-09", "2026-10", "9999-12", "2026-08", "0000-01"]
    {
        let problem = app.post("/reports", json!({"month": month})).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["month"], "{problem}");
    }
    let open = app.post("/reports", json!({"month": "2026-09"})).await.problem(422, "invalid_input");
    assert!(open["detail"].as_str().unwrap().contains("from 2026-10-01 00:05 (UTC) on"), "{open}");
    app.pass(30 * 86_400);
    for recipient in ["nobody", "00000000-0000-0000-0000-000000000099", "a b", ""] {
        let body = json!({"month": "2026-09", "recipient": recipient});
        let problem = app.post("/reports", body).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["recipient"], "{problem}");
    }
    app.post("/reports", json!({"month": "2026-09", "colour": "red"})).await.problem(422, "invalid_input");
    app.get("/reports?month=september").await.problem(400, "invalid_parameter");
    app.get("/reports?recipient=nobody").await.problem(400, "invalid_parameter");
    let nil = "00000000-0000-0000-0000-000000000000";
    app.get(&format!("/reports/{nil}")).await.problem(404, "not_found");
    app.get(&format!("/reports/{nil}/report.html")).await.problem(404, "not_found");
    let report = made(&app, json!({"month": "2026-09"})).await;
    let path = format!("/reports/{}", report["id"].as_str().unwrap());
    for file in ["report.pdf", "..%2Freport.html", "REPORT.HTML"] {
        app.get(&format!("{path}/{file}")).await.problem(404, "not_found");
    }
    // Auditors may read and never change.
    let auditor = app.operator("aud", "auditor").await;
    app.admin_as(&auditor, Method::GET, &format!("{path}/report.csv"), None).await.expect(200);
    let body = json!({"month": "2026-09"});
    app.admin_as(&auditor, Method::POST, "/reports", Some(&body)).await.problem(403, "forbidden");
}

async fn a_month_without_traffic_has_an_empty_report(app: TestApp) {
    app.append(&[query(1, 1)]).await;
    pass_until(&app, "2026-12-01T00:05:00Z");
    let report = made(&app, json!({"month": "2026-11"})).await;
    let files = files(&app, &report).await;
    let said = json_of(&files);
    assert_eq!(said["events"], json!({"count": 0, "first_seq": null, "last_seq": null}));
    assert_eq!((&said["lines"], &said["totals"]["requests"]), (&json!([]), &json!(0)));
    assert!(text(&files, ReportFile::Html).contains("no event of the audit trail"));
    assert_eq!(text(&files, ReportFile::Csv).lines().count(), 1);
    let (_folder, archive) = export(&app).await;
    assert_eq!(verify(&files, Some(&archive)).await.unwrap().recounted, Some(0));
    // Months that were detached without a report cannot be counted.
    let seq = app.service.core.db.find_last_checkpoint().await.unwrap().unwrap().seq;
    let at = TimeDelta::zero() + TimeDelta::days(1);
    app.pass(at.num_seconds());
    let mut tx = app.service.core.db.begin().await.unwrap();
    tx.detach_audit(seq, app.now()).await.unwrap();
    tx.commit().await.unwrap();
    let problem = app.post("/reports", json!({"month": "2026-09"})).await.problem(422, "invalid_input");
    assert!(problem["detail"].as_str().unwrap().contains("was detached"), "{problem}");
    app.post("/reports", json!({"month": "2026-11"})).await.expect(200);
}
