//! A trail to verify: events, a sealer with an export, and a clock.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;
use weir::{
    config::{AuditSettings, ExportSettings},
    domain::{
        audit::{Actor, ActorKind, Event, Personal, action::Action},
        core::seal::RootKey,
    },
    service::{
        audit::{
            error::AuditError,
            export::ExportWalk,
            seal::AuditSealer,
            verify::{Since, Verified, verify_database, verify_export},
        },
        core::clock::Clock,
    },
    storage::Archive,
    store::Db,
};
use zeroize::Zeroizing;

/// The number of events per checkpoint of a [`Trail`].
pub const SEALED_AT_ONCE: i64 = 10;

/// The value of every byte of a [`Trail`]'s root key.
pub const KEY: u8 = 5;

/// A trail under test.
pub struct Trail {
    pub db: Db,
    pub audit_sealer: AuditSealer,
    pub archive: Archive,
    pub folder: TempDir,
    settings: AuditSettings,
    now: Arc<Mutex<DateTime<Utc>>>,
}

impl Trail {
    /// An empty trail on `db`.
    pub fn on(db: &Db) -> Self {
        let folder = TempDir::new().unwrap();
        let export = ExportSettings {
            url: Some(Url::from_directory_path(folder.path()).unwrap().to_string()),
            options: Default::default(),
        };
        Self::exported_to(db, folder, export)
    }

    /// An empty trail on `db` with another export.
    pub fn with_export(db: &Db, export: ExportSettings) -> Self {
        Self::exported_to(db, TempDir::new().unwrap(), export)
    }

    fn exported_to(db: &Db, folder: TempDir, export: ExportSettings) -> Self {
        let now = Arc::new(Mutex::new("2026-08-31T23:00:00Z".parse().unwrap()));
        let archive = Archive::open(&export.target().unwrap()).unwrap();
        let settings = AuditSettings {
            checkpoint_seconds: 300,
            checkpoint_events: SEALED_AT_ONCE.unsigned_abs(),
            personal_retention_days: 395,
            export,
        };
        let audit_sealer = audit_sealer(db, &now, &[KEY], &archive, &settings);
        Self { db: db.clone(), audit_sealer, archive, folder, settings, now }
    }

    /// Another sealer of the same trail, with these root keys.
    pub fn notary_with(&self, keys: &[u8]) -> AuditSealer {
        audit_sealer(&self.db, &self.now, keys, &self.archive, &self.settings)
    }

    /// A trail of 30 events, sealed and exported.
    pub async fn sealed(db: &Db) -> Self {
        let trail = Self::on(db);
        trail.append(30).await;
        trail.audit_sealer.seal().await.unwrap();
        trail
    }

    pub fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap()
    }

    pub fn pass(&self, time: TimeDelta) {
        *self.now.lock().unwrap() += time;
    }

    /// Appends `n` events, each with a personal part.
    pub async fn append(&self, n: usize) {
        let event = Event {
            recipient_id: Some(Uuid::now_v7()),
            purpose: Some("fraud_analytics".into()),
            delivery: Some("presigned"),
            files: Some(3),
            url_expires_at: Some(self.now() + TimeDelta::minutes(30)),
            personal: Personal {
                client_address: Some("198.51.100.7".into()),
                user_agent: Some("a client".into()),
                ..Personal::default()
            },
            ..Event::new(
                Actor { kind: ActorKind::Recipient, name: Some("acme".into()), ..Actor::ANONYMOUS },
                Action::TableQuery,
            )
        };
        let mut tx = self.db.begin().await.unwrap();
        let mut head = tx.lock_audit_head().await.unwrap();
        tx.append_audit(&mut head, &vec![event; n], self.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Verifies the database without the export.
    pub async fn verify(&self, since: Since) -> Result<Verified, AuditError> {
        verify_database(&self.db, &self.audit_sealer.verifiers(), since, None, &mut |_| {}).await
    }

    /// Verifies the database against the export.
    pub async fn compare(&self) -> Result<Verified, AuditError> {
        let keys = self.audit_sealer.verifiers();
        let export = ExportWalk::from_start(&self.archive, &keys).await?;
        verify_database(&self.db, &keys, Since::Beginning, Some(export), &mut |_| {}).await
    }

    /// Verifies the export without the database.
    pub async fn verify_export(&self) -> Result<Verified, AuditError> {
        verify_export(ExportWalk::from_start(&self.archive, &self.audit_sealer.verifiers()).await?, &mut |_| {}).await
    }
}

fn audit_sealer(
    db: &Db,
    now: &Arc<Mutex<DateTime<Utc>>>,
    keys: &[u8],
    archive: &Archive,
    settings: &AuditSettings,
) -> AuditSealer {
    let told = Arc::clone(now);
    let clock = Clock::new(move || *told.lock().unwrap());
    let keys: Vec<RootKey> = keys.iter().map(|byte| RootKey::new(Zeroizing::new([*byte; 32]))).collect();
    AuditSealer::new(db.clone(), clock, &keys, Some(archive.clone()), settings.clone()).unwrap()
}

/// The first bad sequence number found.
#[track_caller]
pub fn first_bad(outcome: Result<Verified, AuditError>) -> i64 {
    match outcome {
        Err(AuditError::Broken(broken)) => broken.seq,
        other => panic!("not found to be broken: {other:?}"),
    }
}
