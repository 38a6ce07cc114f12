//! The export to an object store, on a server that checks signatures and separates the credentials of the export, of
//! the lake and of the bucket's owner.

use std::collections::BTreeMap;

use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use weir::{
    config::ExportSettings,
    service::audit::{error::AuditError, verify::Since},
    storage::StorageError,
};

use crate::support::{
    postgres::TestDatabase,
    process::Installation,
    s3::{AUDIT_BUCKET, Key, S3Server},
};

use super::trail::{Trail, first_bad};

const URL: &str = "s3://audit/prod/trail";
const PREFIX: &str = "prod/trail";

fn export(options: BTreeMap<String, String>) -> ExportSettings {
    ExportSettings { url: Some(URL.to_owned()), options }
}

/// An empty trail, exported with the export's own credentials.
fn trail(db: &TestDatabase, server: &S3Server) -> Trail {
    Trail::with_export(db, export(server.options_of(Key::Audit)))
}

fn events(seq: i64) -> Path {
    Path::from(format!("{PREFIX}/events/{seq:020}.ndjson"))
}

fn checkpoint(seq: i64) -> Path {
    Path::from(format!("{PREFIX}/checkpoints/{seq:020}.txt"))
}

#[track_caller]
fn is_denied<T: std::fmt::Debug>(outcome: Result<T, AuditError>) {
    assert!(matches!(outcome, Err(AuditError::Storage(StorageError::Denied { .. }))), "{outcome:?}");
}

#[tokio::test]
async fn the_trail_is_exported_under_credentials_of_its_own_and_verifies_from_there() {
    let server = S3Server::start().await;
    for db in TestDatabase::each().await {
        let trail = trail(&db, &server);
        trail.append(25).await;
        trail.audit_sealer.seal().await.unwrap();
        trail.append(5).await;
        trail.audit_sealer.seal().await.unwrap();
        let bucket = server.store(AUDIT_BUCKET);
        for path in [events(10), checkpoint(10), events(20), checkpoint(20), events(30), checkpoint(30)] {
            assert!(bucket.head(&path).await.unwrap().size > 0, "{path}");
        }
        assert_eq!(trail.compare().await.unwrap().compared, 30);
        // An auditor needs no database.
        let verified = trail.verify_export().await.unwrap();
        assert_eq!((verified.head.seq, verified.checkpoints), (30, 4));
        // An export that is repeated replaces nothing.
        db.execute("UPDATE audit_checkpoints SET exported_at = NULL").await.unwrap();
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(trail.compare().await.unwrap().compared, 30);
        empty(&server).await;
    }
}

/// Deletes all objects, so that the next trail finds nothing.
async fn empty(server: &S3Server) {
    use futures::TryStreamExt;
    let bucket = server.store(AUDIT_BUCKET);
    let found: Vec<_> = bucket.list(None).try_collect().await.unwrap();
    for object in found {
        bucket.delete(&object.location).await.unwrap();
    }
}

#[tokio::test]
async fn an_export_that_the_buckets_owner_changed_is_not_believed() {
    let server = S3Server::start().await;
    let bucket = server.store(AUDIT_BUCKET);
    let edit = async |path: Path, from: &str, to: &str| {
        let text = bucket.get(&path).await.unwrap().bytes().await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.contains(from));
        bucket.put(&path, text.replacen(from, to, 1).into()).await.unwrap();
    };
    for change in 0..7 {
        let db = TestDatabase::sqlite().await;
        let trail = trail(&db, &server);
        trail.append(30).await;
        trail.audit_sealer.seal().await.unwrap();
        let bad = match change {
            0 => {
                edit(events(20), "fraud", "trade").await;
                11
            }
            1 => {
                bucket.delete(&events(20)).await.unwrap();
                11
            }
            2 => {
                bucket.delete(&checkpoint(20)).await.unwrap();
                11
            }
            3 => {
                edit(checkpoint(20), "\n20\n", "\n21\n").await;
                20
            }
            4 => {
                bucket.put(&events(30), Vec::new().into()).await.unwrap();
                21
            }
            5 => {
                // One signed checkpoint in place of another.
                bucket.copy(&checkpoint(10), &checkpoint(20)).await.unwrap();
                20
            }
            _ => {
                let text = bucket.get(&events(10)).await.unwrap().bytes().await.unwrap();
                bucket.put(&events(10), text.slice(..text.len() / 2).into()).await.unwrap();
                // Five whole lines are left, and half of a sixth.
                let whole = text[..text.len() / 2].iter().filter(|byte| **byte == b'\n').count();
                i64::try_from(whole).unwrap() + 1
            }
        };
        assert_eq!(first_bad(trail.verify_export().await), bad, "{change}");
        assert_eq!(first_bad(trail.compare().await), bad, "{change}");
        assert_eq!(trail.verify(Since::Beginning).await.unwrap().head.seq, 30, "the database is as it was");
        empty(&server).await;
    }
}

#[tokio::test]
async fn an_export_whose_tail_or_everything_was_deleted_shows_against_the_database() {
    let server = S3Server::start().await;
    for db in TestDatabase::each().await {
        let trail = trail(&db, &server);
        trail.append(30).await;
        trail.audit_sealer.seal().await.unwrap();
        let bucket = server.store(AUDIT_BUCKET);
        bucket.delete(&events(30)).await.unwrap();
        bucket.delete(&checkpoint(30)).await.unwrap();
        assert_eq!(trail.verify_export().await.unwrap().head.seq, 20, "it agrees with itself");
        assert_eq!(first_bad(trail.compare().await), 21);
        empty(&server).await;
        assert_eq!(first_bad(trail.compare().await), 1);
        // An empty export is not accepted.
        let error = trail.verify_export().await.unwrap_err();
        assert!(matches!(&error, AuditError::Refused(message) if message.contains("no checkpoint")), "{error:?}");
    }
}

#[tokio::test]
async fn other_credentials_open_nothing_and_are_told_from_a_trail_that_was_changed() {
    let server = S3Server::start().await;
    let db = TestDatabase::sqlite().await;
    let sealed = trail(&db, &server);
    sealed.append(10).await;
    sealed.audit_sealer.seal().await.unwrap();
    let mut wrong = server.options_of(Key::Audit);
    wrong.insert("aws_secret_access_key".to_owned(), "not-the-secret".to_owned());
    let mut unknown = server.options_of(Key::Audit);
    unknown.insert("aws_access_key_id".to_owned(), "nobody".to_owned());
    // The lake's credentials give no access there.
    for options in [wrong, unknown, server.options_of(Key::Lake)] {
        let trail = Trail::with_export(&db, export(options));
        is_denied(trail.compare().await);
        is_denied(trail.verify_export().await);
        trail.append(1).await;
        is_denied(trail.audit_sealer.seal().await);
        assert_eq!(db.find_exported_through().await.unwrap(), Some(10), "nothing is taken for exported");
    }
    // A sealer with the right credentials exports what was sealed meanwhile.
    sealed.audit_sealer.seal_due().await.unwrap();
    assert_eq!(sealed.compare().await.unwrap().compared, 13);
}

#[tokio::test]
async fn a_bucket_that_may_only_be_read_takes_nothing_and_is_made_up_for() {
    let server = S3Server::start().await;
    for db in TestDatabase::each().await {
        let trail = trail(&db, &server);
        trail.append(10).await;
        trail.audit_sealer.seal().await.unwrap();
        server.set_read_only(true);
        trail.append(10).await;
        is_denied(trail.audit_sealer.seal().await);
        is_denied(trail.audit_sealer.seal_due().await);
        assert_eq!(trail.verify(Since::Beginning).await.unwrap().checkpoints, 2, "it is sealed all the same");
        assert_eq!(trail.compare().await.unwrap().compared, 10);
        server.set_read_only(false);
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(trail.compare().await.unwrap().compared, 20);
        empty(&server).await;
    }
}

#[tokio::test]
async fn an_outage_delays_the_export_and_nothing_else() {
    let mut server = S3Server::start().await;
    for db in TestDatabase::each().await {
        let trail = trail(&db, &server);
        trail.append(10).await;
        trail.audit_sealer.seal().await.unwrap();
        server.stop().await;
        for _ in 0..2 {
            trail.append(10).await;
            let refused = trail.audit_sealer.seal().await;
            assert!(matches!(&refused, Err(AuditError::Storage(error)) if error.is_outage()), "{refused:?}");
        }
        assert_eq!(trail.verify(Since::Beginning).await.unwrap().checkpoints, 3, "it is sealed all the same");
        let compared = trail.compare().await;
        assert!(matches!(&compared, Err(AuditError::Storage(error)) if error.is_outage()), "{compared:?}");
        server.resume().await;
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(trail.compare().await.unwrap().compared, 30);
        empty(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_exports_to_a_bucket_outlives_its_outage_and_is_verified_against_it() {
    let mut server = S3Server::start().await;
    let weir = Installation::sqlite().exporting_to(URL, &server.options_of(Key::Audit));
    let mut serving = weir.start().await;
    weir.share(&serving).await;
    let (_, token) = serving.issue("default").await;
    serving.query(&token).await;
    server.stop().await;
    assert_eq!(serving.query(&token).await.status.unwrap(), 200, "recipients do not feel it");
    let unreachable = weir.run(&["audit", "verify"]);
    let said = String::from_utf8(unreachable.stderr).unwrap();
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(said.contains("cannot be reached") && !said.contains("first bad"), "{said}");

    server.resume().await;
    let exported = async || {
        let seen = weir.run_well(&["audit", "verify"]);
        seen.contains(&format!("the same as `{URL}`")).then_some(seen)
    };
    crate::support::process::until("an export", exported).await;
    serving.stop();
    let verified = weir.run_well(&["audit", "verify", "--export", URL]);
    assert!(verified.starts_with("verified events 1 to "), "{verified}");
    weir.run_well(&["audit", "verify", "--export", URL, "--database"]);

    // A holder of the owner's key deletes the newest checkpoint.
    let bucket = server.store(AUDIT_BUCKET);
    let sealed: Vec<_> = {
        use futures::TryStreamExt;
        bucket.list(Some(&Path::from(format!("{PREFIX}/checkpoints")))).try_collect().await.unwrap()
    };
    let newest = sealed.iter().map(|object| object.location.clone()).max().unwrap();
    bucket.delete(&newest).await.unwrap();
    let broken = weir.run(&["audit", "verify"]);
    let said = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(1), "{said}");
    assert!(said.contains("first bad sequence"), "{said}");

    let lake = weir.exporting_to(URL, &server.options_of(Key::Lake));
    let refused = lake.run(&["audit", "verify"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("refused access") && !said.contains("first bad"), "{said}");
    for secret in [
        &server.options_of(Key::Lake)["aws_secret_access_key"],
        &server.options_of(Key::Audit)["aws_secret_access_key"],
    ] {
        assert!(!said.contains(secret.as_str()));
    }
}

#[test]
fn an_export_inside_of_a_storage_is_refused() {
    let options = BTreeMap::from([("aws_region".to_owned(), "us-east-1".to_owned())]);
    let storage = "[[storage]]\nname = \"bucket\"\nurl = \"s3://audit/prod\"\noptions = { aws_access_key_id = \"k\", aws_secret_access_key = \"s\" }\n";
    let folder = tempfile::TempDir::new().unwrap();
    let database = format!("sqlite://{}", folder.path().join("weir.db").display());
    let refused = Installation::on(&database, storage).exporting_to(URL, &options).run(&["serve"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("audit.export.url lies inside of storage `bucket`"), "{said}");
}
