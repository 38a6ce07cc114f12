//! Writes the demo lake: a small health insurer's data, generated from a fixed seed, as real Delta tables.
//!
//! Every person, provider and amount is invented. Never here: shares of these tables.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Date32Array, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use delta_kernel::{engine::arrow_conversion::TryIntoKernel, schema::StructType};
use deltalake::{
    operations::create::CreateBuilder,
    writer::{DeltaWriter, RecordBatchWriter},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use url::Url;

use super::error::{Cause, LakeError};

const SEED: u64 = 0x1d5_0a11;
/// The folder in which tables are written before they are moved into place, so that no partial table appears.
const WRITING: &str = ".writing";

const MEMBERS: usize = 8_000;
const PROVIDERS: usize = 600;
const CLAIMS_PER_COMMIT: usize = 20_000;
const CLAIM_COMMITS: usize = 5;
const AUTHORIZATIONS: usize = 4_000;

/// 2025-01-01 in days since the epoch.
const FIRST_SERVICE_DAY: i32 = 20_089;
/// Days of service that one commit of claims covers.
const DAYS_PER_COMMIT: i32 = 90;
/// 1935-01-01 in days since the epoch.
const OLDEST_BIRTH_DAY: i32 = -12_784;
const MICROSECONDS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;

const PLANS: [&str; 4] = ["bronze", "silver", "gold", "medicare_advantage"];
const CLAIM_STATUSES: [&str; 4] = ["paid", "paid", "denied", "pending"];
const DECISIONS: [&str; 4] = ["approved", "approved", "denied", "in_review"];
const ZIPS: [&str; 12] =
    ["60614", "60625", "60647", "53703", "53211", "46204", "48226", "43215", "55401", "63103", "40202", "50309"];
/// ICD-10-CM codes, each with its approximate cost in cents and a procedure (CPT) that often goes with it.
const CARE: [(&str, i64, &str); 12] = [
    ("E11.9", 14_500, "83036"),
    ("I10", 11_000, "99213"),
    ("J06.9", 9_500, "99213"),
    ("M54.50", 18_000, "97110"),
    ("F41.1", 16_000, "90834"),
    ("K21.9", 21_000, "43239"),
    ("N39.0", 8_500, "81001"),
    ("Z00.00", 17_500, "99395"),
    ("S93.401A", 32_000, "73610"),
    ("O80", 620_000, "59400"),
    ("C50.911", 480_000, "77067"),
    ("I25.10", 890_000, "93458"),
];
const SPECIALTIES: [&str; 8] = [
    "family_medicine",
    "internal_medicine",
    "cardiology",
    "orthopedics",
    "behavioral_health",
    "obstetrics",
    "radiology",
    "oncology",
];
const FIRST_NAMES: [&str; 10] = ["Ana", "Ben", "Chloe", "Dev", "Elif", "Frank", "Grace", "Hiro", "Ines", "Jamal"];
const LAST_NAMES: [&str; 10] =
    ["Adams", "Brandt", "Castillo", "Dubois", "Eriksen", "Fischer", "Gupta", "Haddad", "Ito", "Jones"];

/// The demo lake's tables.
#[derive(Clone, Debug)]
pub struct DemoLake {
    /// The tables, in a fixed order.
    pub tables: Vec<DemoTable>,
}

/// One table of the demo lake.
#[derive(Clone, Debug)]
pub struct DemoTable {
    /// The table's name, which is also the name of its folder.
    pub name: &'static str,
    /// The table's folder.
    pub folder: PathBuf,
    /// One sentence about the contents.
    pub description: &'static str,
}

/// Creates the demo lake in `dir`, and keeps tables that already exist. An interrupted run leaves no partial table.
pub async fn write_demo_lake(dir: &Path) -> Result<DemoLake, LakeError> {
    let failed = |source: Cause| LakeError::Demo { path: dir.display().to_string(), source };
    let io_failed = |error: io::Error| failed(Arc::new(error));
    tokio::fs::create_dir_all(dir).await.map_err(io_failed)?;
    let dir = tokio::fs::canonicalize(dir).await.map_err(io_failed)?;
    let writing = dir.join(WRITING);
    remove_if_there(&writing).await.map_err(io_failed)?;
    let mut tables = Vec::new();
    for plan in [claims, prior_authorizations, provider_directory] {
        // Each table has its own random sequence, so it can be recreated independently of the others.
        let plan = plan(StdRng::seed_from_u64(SEED));
        let folder = dir.join(plan.name);
        if !tokio::fs::try_exists(folder.join("_delta_log")).await.map_err(io_failed)? {
            let draft = writing.join(plan.name);
            let (name, description) = (plan.name, plan.description);
            write(plan, &draft).await.map_err(|error| failed(Arc::from(error)))?;
            tokio::fs::rename(&draft, &folder).await.map_err(io_failed)?;
            tables.push(DemoTable { name, folder, description });
        } else {
            tables.push(DemoTable { name: plan.name, folder, description: plan.description });
        }
    }
    remove_if_there(&writing).await.map_err(io_failed)?;
    Ok(DemoLake { tables })
}

async fn remove_if_there(folder: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The plan for one table; each batch becomes a commit.
struct TablePlan {
    name: &'static str,
    description: &'static str,
    schema: Arc<Schema>,
    partition_columns: &'static [&'static str],
    commits: Box<dyn Iterator<Item = Vec<ArrayRef>> + Send>,
}

async fn write(plan: TablePlan, folder: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    tokio::fs::create_dir_all(folder).await?;
    let url = Url::from_directory_path(folder).map_err(|()| io::Error::other("the path is not absolute"))?;
    let schema: StructType = plan.schema.as_ref().try_into_kernel()?;
    let mut table = CreateBuilder::new()
        .with_location(url)
        .with_table_name(plan.name)
        .with_comment(plan.description)
        .with_columns(schema.fields().cloned())
        .with_partition_columns(plan.partition_columns.iter().copied())
        .await?;
    for columns in plan.commits {
        let mut writer = RecordBatchWriter::for_table(&table)?;
        writer.write(RecordBatch::try_new(plan.schema.clone(), columns)?).await?;
        writer.flush_and_commit(&mut table).await?;
    }
    Ok(())
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn date(name: &str) -> Field {
    Field::new(name, DataType::Date32, false)
}

fn amount(name: &str, is_nullable: bool) -> Field {
    Field::new(name, DataType::Decimal128(10, 2), is_nullable)
}

fn instant(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn dates(values: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(Date32Array::from_iter_values(values))
}

fn instants(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn amounts(cents: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let array: Decimal128Array = cents.map(|cents| cents.map(i128::from)).collect();
    Arc::new(array.with_data_type(DataType::Decimal128(10, 2)))
}

fn pick<'a, T>(random: &mut StdRng, choices: &'a [T; 4]) -> &'a T {
    &choices[random.random_range(0..choices.len())]
}

struct Member {
    id: String,
    birth_day: i32,
    zip: &'static str,
    plan: &'static str,
}

/// Generates the members, always the same ones.
fn members() -> Vec<Member> {
    let mut random = StdRng::seed_from_u64(SEED + 1);
    (0..MEMBERS)
        .map(|number| {
            let birth_day = random.random_range(OLDEST_BIRTH_DAY..FIRST_SERVICE_DAY - 30);
            let is_senior = FIRST_SERVICE_DAY - birth_day > 65 * 365;
            Member {
                id: format!("M{:07}", 1_000_003 + number * 37),
                birth_day,
                zip: ZIPS.choose(&mut random).copied().unwrap_or_default(),
                plan: if is_senior { PLANS[3] } else { PLANS[random.random_range(0..3)] },
            }
        })
        .collect()
}

/// Generates a national provider identifier: ten digits, starting with 1.
fn provider_npi(number: usize) -> String {
    format!("1{:09}", 300_000_007 + number * 911)
}

fn claims(mut random: StdRng) -> TablePlan {
    struct Claim {
        id: String,
        member: usize,
        service_day: i32,
        submitted_at: i64,
        care: usize,
        provider: usize,
        billed: i64,
        paid: Option<i64>,
        status: &'static str,
    }
    let schema = Schema::new(vec![
        text("claim_id"),
        text("member_id"),
        date("birth_date"),
        text("zip"),
        text("plan"),
        date("service_date"),
        instant("submitted_at"),
        text("diagnosis_code"),
        text("procedure_code"),
        text("provider_npi"),
        amount("billed_amount", false),
        amount("paid_amount", true),
        text("status"),
    ]);
    let members = members();
    let commits = (0..CLAIM_COMMITS).map(move |commit| {
        let first_day = FIRST_SERVICE_DAY + commit as i32 * DAYS_PER_COMMIT;
        let rows: Vec<_> = (0..CLAIMS_PER_COMMIT)
            .map(|row| {
                let care = random.random_range(0..CARE.len());
                let billed = CARE[care].1 * random.random_range(70..160) / 100;
                let status = *pick(&mut random, &CLAIM_STATUSES);
                let service_day = first_day + random.random_range(0..DAYS_PER_COMMIT);
                let delay = random.random_range(MICROSECONDS_PER_DAY..30 * MICROSECONDS_PER_DAY);
                Claim {
                    id: format!("C{:09}", commit * CLAIMS_PER_COMMIT + row + 1),
                    member: random.random_range(0..members.len()),
                    service_day,
                    submitted_at: i64::from(service_day) * MICROSECONDS_PER_DAY + delay / 1_000_000 * 1_000_000,
                    care,
                    provider: random.random_range(0..PROVIDERS),
                    billed,
                    paid: match status {
                        "paid" => Some(billed * random.random_range(45..95) / 100),
                        "denied" => Some(0),
                        _ => None,
                    },
                    status,
                }
            })
            .collect();
        let of = |claim: &Claim| &members[claim.member];
        vec![
            texts(rows.iter().map(|claim| &claim.id)),
            texts(rows.iter().map(|claim| &of(claim).id)),
            dates(rows.iter().map(|claim| of(claim).birth_day)),
            texts(rows.iter().map(|claim| of(claim).zip)),
            texts(rows.iter().map(|claim| of(claim).plan)),
            dates(rows.iter().map(|claim| claim.service_day)),
            instants(rows.iter().map(|claim| claim.submitted_at)),
            texts(rows.iter().map(|claim| CARE[claim.care].0)),
            texts(rows.iter().map(|claim| CARE[claim.care].2)),
            texts(rows.iter().map(|claim| provider_npi(claim.provider))),
            amounts(rows.iter().map(|claim| Some(claim.billed))),
            amounts(rows.iter().map(|claim| claim.paid)),
            texts(rows.iter().map(|claim| claim.status)),
        ]
    });
    TablePlan {
        name: "claims",
        description: "Claims for medical services, one row for each, partitioned by plan",
        schema: Arc::new(schema),
        partition_columns: &["plan"],
        commits: Box::new(commits),
    }
}

fn prior_authorizations(mut random: StdRng) -> TablePlan {
    struct Authorization {
        member: usize,
        care: usize,
        provider: usize,
        requested_day: i32,
        decided_after: Option<i32>,
        decision: &'static str,
    }
    let schema = Schema::new(vec![
        text("authorization_id"),
        text("member_id"),
        text("procedure_code"),
        text("diagnosis_code"),
        text("provider_npi"),
        date("requested_on"),
        Field::new("decided_on", DataType::Date32, true),
        text("decision"),
        amount("estimated_amount", false),
    ]);
    let members = members();
    let rows: Vec<_> = (0..AUTHORIZATIONS)
        .map(|_| {
            let decision = *pick(&mut random, &DECISIONS);
            Authorization {
                member: random.random_range(0..members.len()),
                care: random.random_range(0..CARE.len()),
                provider: random.random_range(0..PROVIDERS),
                requested_day: FIRST_SERVICE_DAY + random.random_range(0..CLAIM_COMMITS as i32 * DAYS_PER_COMMIT),
                decided_after: (decision != "in_review").then(|| random.random_range(1..15)),
                decision,
            }
        })
        .collect();
    let decided = rows.iter().map(|row| row.decided_after.map(|days| row.requested_day + days));
    let columns: Vec<ArrayRef> = vec![
        texts((1..=rows.len()).map(|number| format!("PA{number:06}"))),
        texts(rows.iter().map(|row| &members[row.member].id)),
        texts(rows.iter().map(|row| CARE[row.care].2)),
        texts(rows.iter().map(|row| CARE[row.care].0)),
        texts(rows.iter().map(|row| provider_npi(row.provider))),
        dates(rows.iter().map(|row| row.requested_day)),
        Arc::new(decided.collect::<Date32Array>()),
        texts(rows.iter().map(|row| row.decision)),
        amounts(rows.iter().map(|row| Some(CARE[row.care].1))),
    ];
    TablePlan {
        name: "prior_authorizations",
        description: "Requests for approval before treatment, and what was decided",
        schema: Arc::new(schema),
        partition_columns: &[],
        commits: Box::new(std::iter::once(columns)),
    }
}

fn provider_directory(mut random: StdRng) -> TablePlan {
    let schema = Schema::new(vec![
        text("provider_npi"),
        text("name"),
        text("specialty"),
        text("zip"),
        Field::new("accepts_new_patients", DataType::Boolean, false),
        date("network_since"),
    ]);
    let mut any = |choices: &[&'static str]| choices.choose(&mut random).copied().unwrap_or_default();
    let names: Vec<_> = (0..PROVIDERS).map(|_| format!("Dr. {} {}", any(&FIRST_NAMES), any(&LAST_NAMES))).collect();
    let specialties: Vec<_> = (0..PROVIDERS).map(|_| any(&SPECIALTIES)).collect();
    let zips: Vec<_> = (0..PROVIDERS).map(|_| any(&ZIPS)).collect();
    let accepts: Vec<_> = (0..PROVIDERS).map(|_| Some(random.random_bool(0.7))).collect();
    let columns: Vec<ArrayRef> = vec![
        texts((0..PROVIDERS).map(provider_npi)),
        texts(names.iter()),
        texts(specialties.iter()),
        texts(zips.iter()),
        Arc::new(arrow::array::BooleanArray::from(accepts)),
        dates((0..PROVIDERS).map(|_| FIRST_SERVICE_DAY - random.random_range(0..6_000))),
    ];
    TablePlan {
        name: "provider_directory",
        description: "Doctors in the network, with specialty and place",
        schema: Arc::new(schema),
        partition_columns: &[],
        commits: Box::new(std::iter::once(columns)),
    }
}
