//! Measures the functions in which hot paths spend their time, one by one: `cargo bench --bench hot`.

use std::{error::Error, hint::black_box, net::IpAddr};

use chrono::{DateTime, TimeDelta, Utc};
use criterion::{Criterion, Throughput};
use object_store::path::Path;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use uuid::Uuid;
use weir::{
    config::StorageSettings,
    domain::{
        access::{
            decision::{Bearer, Facts, ShareAccess, Target, decide},
            delivery::Delivery,
            geography::Geography,
            grant::Grant,
            recipient::{Recipient, RecipientSpec, RecipientState},
            token::{BearerToken, Token},
        },
        audit::{Actor, ActorKind, Event, GENESIS, Head, Personal, action::Action},
        catalog::share::{Share, ShareSpec},
        core::{
            name::{Name, NameKind},
            seal::{RootKey, SealPurpose, Sealer},
        },
        sharing::predicate::Filter,
    },
    storage::Storages,
};
use zeroize::Zeroizing;

/// The approximate number of URLs that an answer signs at once.
const URLS: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    hashing(&mut criterion);
    sealing(&mut criterion);
    signing(&mut criterion)?;
    deciding(&mut criterion)?;
    recording(&mut criterion);
    reading_hints(&mut criterion);
    criterion.final_summary();
    Ok(())
}

/// Measures a hash, as a yardstick for signing.
fn hashing(criterion: &mut Criterion) {
    let block = [0x5a_u8; 1024];
    criterion.bench_function("SHA-256 of one KiB", |bencher| bencher.iter(|| Sha256::digest(black_box(&block))));
}

fn sealing(criterion: &mut Criterion) {
    let sealer = Sealer::new(&[RootKey::new(Zeroizing::new([7; 32]))], SealPurpose::FileUrl);
    // The size of the data sealed in a file's URL: two ids, an expiry, and a path.
    let plain = [b'p'; 41 + 100];
    let sealed = sealer.seal(&plain, b"");
    criterion.bench_function("seal a file's URL", |bencher| bencher.iter(|| sealer.seal(black_box(&plain), b"")));
    criterion.bench_function("open a file's URL", |bencher| bencher.iter(|| sealer.open(black_box(&sealed), b"")));
}

fn signing(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let options = [
        ("aws_region", "eu-central-1"),
        ("aws_access_key_id", "AKIAIOSFODNN7EXAMPLE"),
        ("aws_secret_access_key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ];
    let settings = StorageSettings {
        name: "lake".to_owned(),
        url: "s3://lake".to_owned(),
        delivery: Delivery::Presigned,
        max_staleness_seconds: 0,
        options: options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    let storages = Storages::open_in(&[settings], &[], &|_| None)
        .map_err(|errors| errors.first().map_or_else(String::new, ToString::to_string))?;
    let location = storages.locate("s3://lake/warehouse/claims")?;
    let path = |number| format!("warehouse/claims/day=2025-01-01/part-{number:05}-{}.c000.snappy.parquet", Uuid::nil());
    let paths: Vec<Path> = (0..URLS).map(|number| Path::from(path(number))).collect();
    let mut group = criterion.benchmark_group("S3");
    group.throughput(Throughput::Elements(URLS as u64));
    group.bench_function("presign a thousand URLs", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let now = Utc::now();
            location.sign(&paths, now + TimeDelta::hours(1), now)
        });
    });
    group.finish();
    Ok(())
}

fn deciding(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let now = Utc::now();
    let (bearer, access) = access(now)?;
    let facts = Facts {
        now,
        address: IpAddr::from([192, 0, 2, 1]),
        bearer: Some(&bearer),
        target: Target::Share(Some(&access)),
        allowed_purposes: None,
        requirements: None,
        must_be_classified: false,
        geography: Geography::default(),
    };
    decide(facts).map_err(|reason| reason.code())?;
    criterion.bench_function("decide", |bencher| bencher.iter(|| decide(black_box(facts)).is_ok()));
    let token = BearerToken::generate();
    criterion.bench_function("hash a token", |bencher| bencher.iter(|| black_box(&token).hash()));
    Ok(())
}

/// Builds a recipient with one grant, and the token that it presents.
fn access(now: DateTime<Utc>) -> Result<(Bearer, ShareAccess), Box<dyn Error>> {
    let (before, after) = (now - TimeDelta::days(1), now + TimeDelta::days(1));
    let recipient = Recipient {
        id: Uuid::now_v7(),
        name: Name::parse(NameKind::Recipient, "acme")?,
        state: RecipientState::Active.into(),
        spec: RecipientSpec::default(),
        created_at: before,
        updated_at: before,
        revision: 1,
    };
    let token = Token {
        id: Uuid::now_v7(),
        recipient_id: recipient.id,
        credential: String::new(),
        share_ids: Vec::new(),
        allowed_cidrs: Vec::new(),
        created_at: before,
        activated_at: Some(before),
        expires_at: Some(after),
        revoked_at: None,
        last_used_at: Some(before),
        unused_until: None,
    };
    let share = Share {
        id: Uuid::now_v7(),
        name: Name::parse(NameKind::Share, "claims")?,
        spec: ShareSpec::default(),
        created_at: before,
        updated_at: before,
        revision: 1,
    };
    let grant = Grant {
        id: Uuid::now_v7(),
        share_id: share.id,
        recipient_id: recipient.id,
        valid_from: before,
        valid_until: after,
        purpose: None,
        agreement: None,
        agreements: Vec::new(),
        granted_by: "ada".to_owned(),
        created_at: before,
        ending: None,
    };
    Ok((Bearer { token, recipient, frozen: false }, ShareAccess { share, grants: vec![grant] }))
}

fn recording(criterion: &mut Criterion) {
    let id = || Some(Uuid::now_v7());
    let actor = Actor { kind: ActorKind::Recipient, id: id(), name: Some("acme".to_owned()), ..Actor::ANONYMOUS };
    let event = Event {
        request_id: Some(Uuid::now_v7().to_string()),
        recipient: Some("acme".to_owned()),
        recipient_id: id(),
        token_id: id(),
        grant_id: id(),
        share: Some("claims".to_owned()),
        share_id: id(),
        schema: Some("a".to_owned()),
        table: Some("claims".to_owned()),
        table_id: id(),
        table_version: Some(17),
        delivery: Some("presigned"),
        format: Some("parquet"),
        files: Some(10),
        rows: Some(10_000),
        bytes: Some(123_456_789),
        url_expires_at: Some(Utc::now()),
        personal: Personal { client_address: Some("192.0.2.1".to_owned()), ..Personal::default() },
        ..Event::new(actor, Action::TableQuery)
    };
    let mut head = Head { seq: 0, hash: GENESIS };
    criterion.bench_function("write and chain an audit event", |bencher| {
        bencher.iter(|| head.append(black_box(&event), Utc::now()));
    });
}

fn reading_hints(criterion: &mut Criterion) {
    let hints = ["day >= '2025-11-01' AND member_id BETWEEN 500000000 AND 500009999".to_owned()];
    criterion.bench_function("read a predicate", |bencher| {
        bencher.iter(|| Filter::from_hints(black_box(&hints), None, None));
    });
}
