//! The table and the view that most tests use, and what its partners should see.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value as Json, json};
use uuid::Uuid;
use weir::domain::{catalog::view::mask::PseudonymKeys, core::seal::RootKey};
use zeroize::Zeroizing;

use super::{
    check::{self, Finding, Secrets, nothing},
    connector::{Connector, TableRead},
    plain::{Expected, Pick, Reader, Visible},
    source::{Mapping, Table, word},
    value::{Row, Value},
    weir_server::WeirServer,
};

/// The plans of the claims; no partner is entitled to the last one.
pub const PLANS: [&str; 3] = ["zplanhmo", "zplanppo", "zplansecret"];

/// The columns of the claims; those with a `z` are hidden.
pub fn columns() -> Json {
    let field =
        |name: &str, data_type: Json| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}});
    let of = |fields: &[Json]| json!({"type": "struct", "fields": fields});
    let geo = of(&[field("lat", json!("double")), field("zlongitude", json!("double"))]);
    let address = of(&[field("city", json!("string")), field("zstreet_name", json!("string")), field("geo", geo)]);
    let visit = of(&[field("code", json!("string")), field("zvisit_note", json!("string"))]);
    let detail = of(&[field("grade", json!("string")), field("zdetail_note", json!("string"))]);
    json!([
        field("claim_id", json!("long")),
        field("zmember_name", json!("string")),
        field("plan_code", json!("string")),
        field("zregion_name", json!("string")),
        field("paid", json!("double")),
        field("zbirth_date", json!("date")),
        field("address", address),
        field("visits", json!({"type": "array", "elementType": visit, "containsNull": true})),
        field("details", json!({"type": "map", "keyType": "string", "valueType": detail, "valueContainsNull": true})),
        field("zserial_number", json!("long")),
        field("seen", json!("timestamp")),
        field("zip", json!("string")),
        field("tags", json!({"type": "array", "elementType": "string", "containsNull": true})),
    ])
}

/// What of them is shown: parts, masks, and the rows of the connector's plans that were paid for.
pub fn visible() -> Visible {
    let value = |from: &str| Pick::whole(from);
    let parts = |fields: Vec<(&str, Pick)>| fields.into_iter().map(|(name, pick)| (name.to_owned(), pick)).collect();
    let here = |name: &str| Pick::Value { from: vec![name.to_owned()], mask: None };
    let of_element = |fields| Pick::Struct { from: Vec::new(), fields: parts(fields) };
    let geo = Pick::Struct { from: vec!["geo".into()], fields: parts(vec![("lat", here("lat"))]) };
    let columns = vec![
        ("claim_id", value("claim_id")),
        ("plan", value("plan_code")),
        ("paid", value("paid")),
        ("birth_year", Pick::masked("zbirth_date", json!({"year_only": {"cap_age": 89}}))),
        ("member_key", Pick::masked("zmember_name", json!({"hash": {"domain": "member"}}))),
        (
            "address",
            Pick::Struct { from: vec!["address".into()], fields: parts(vec![("city", here("city")), ("geo", geo)]) },
        ),
        (
            "visits",
            Pick::List { from: vec!["visits".into()], element: Box::new(of_element(vec![("code", here("code"))])) },
        ),
        (
            "details",
            Pick::Map { from: vec!["details".into()], value: Box::new(of_element(vec![("grade", here("grade"))])) },
        ),
        ("seen", value("seen")),
        ("zip3", Pick::masked("zip", json!("zip3"))),
        ("street", Pick::masked("address.zstreet_name", json!("redact"))),
        ("tags", Pick::masked("tags", json!({"partial": {"first": 1, "last": 1}}))),
    ];
    Visible {
        columns: columns.into_iter().map(|(name, pick)| (name.to_owned(), pick)).collect(),
        comments: BTreeMap::from([("paid".to_owned(), "In US dollars".to_owned())]),
        filter: Some("plan_code IN recipient_list('plans') AND paid >= 0".to_owned()),
    }
}

/// Claims with ids from `first_id`.
pub fn claims(first_id: i64, count: usize, seed: u64) -> Vec<Row> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|at| claim(first_id + i64::try_from(at).unwrap(), &mut random)).collect()
}

fn claim(id: i64, random: &mut StdRng) -> Row {
    fn maybe(random: &mut StdRng, value: impl FnOnce(&mut StdRng) -> Value) -> Value {
        if random.random_bool(0.2) { Value::Null } else { value(random) }
    }
    let text = |random: &mut StdRng| maybe(random, |random| Value::Text(word(random)));
    let number = |random: &mut StdRng| Value::Float(random.random_range(-90.0..90.0));
    let visit = |random: &mut StdRng| maybe(random, |random| Value::Struct(vec![text(random), text(random)]));
    vec![
        Value::Integer(id),
        text(random),
        Value::text(PLANS[random.random_range(0..PLANS.len())]),
        Value::text(["zregionnorth", "zregionsouth"][random.random_range(0..2)]),
        maybe(random, |random| Value::Float(random.random_range(-100.0..1_000.0))),
        maybe(random, |random| Value::Date(random.random_range(-20_000..20_000))),
        maybe(random, |random| {
            let geo = maybe(random, |random| Value::Struct(vec![number(random), number(random)]));
            Value::Struct(vec![text(random), text(random), geo])
        }),
        maybe(random, |random| {
            let count = random.random_range(0..4);
            Value::List((0..count).map(|_| visit(random)).collect())
        }),
        maybe(random, |random| {
            let count = random.random_range(0..3);
            let entry = |at| (Value::text(["year", "day", "life"][at]), visit(random));
            Value::Map((0..count).map(entry).collect())
        }),
        Value::Integer(random.random_range(1 << 50..1 << 60)),
        Value::Timestamp(random.random_range(1 << 45..1 << 50)),
        maybe(random, |random| Value::Text(format!("{:05}", random.random_range(0..100_000)))),
        maybe(random, |random| Value::List(vec![text(random), text(random)])),
    ]
}

/// The claims, in several files and versions, some deleted, registered and shared through the view.
pub async fn shared_claims(server: &WeirServer, mapping: Mapping) -> (Table, Visible) {
    let (table, visible) = registered_claims(server, mapping).await;
    let view = server.publish(&visible.definition(), visible.filter.as_deref()).await;
    server.share(&view).await;
    (table, visible)
}

/// [`shared_claims`], a copy for each file.
pub async fn shared_claims_as_laid_out(server: &WeirServer, mapping: Mapping) -> (Table, Visible) {
    let (table, visible) = registered_claims(server, mapping).await;
    let (columns, filter) = (visible.definition(), visible.filter.as_deref());
    let view = server.publish_as_laid_out(&columns, filter, &["zregion_name"]).await;
    server.share(&view).await;
    (table, visible)
}

/// The claims, registered and shown in no view yet.
pub async fn registered_claims(server: &WeirServer, mapping: Mapping) -> (Table, Visible) {
    let mut table = server.table(&columns(), &["plan_code", "zregion_name"], mapping, 7);
    table.append(claims(0, 60, 1));
    table.append(claims(1_000, 30, 2));
    table.delete(|row| matches!(row[0], Value::Integer(id) if id % 5 == 0));
    let visible = visible();
    server.register().await;
    (table, visible)
}

/// Who a connector is to the view.
pub async fn reader(server: &WeirServer, connector: &Connector<'_>) -> Reader {
    let recipient = server.app.get(&format!("/recipients/{}", connector.name)).await.expect(200);
    Reader {
        properties: serde_json::from_value(recipient["properties"].clone()).unwrap(),
        keys: keys(connector.id, server.share_id().await),
        today: server.app.now().date_naive(),
        surrogates: BTreeMap::new(),
    }
}

/// The keys of a recipient's pseudonyms.
fn keys(recipient: Uuid, share: Uuid) -> PseudonymKeys {
    PseudonymKeys::new(&RootKey::new(Zeroizing::new([7; 32])), 1, recipient, share)
}

/// What is wrong with what a connector read just now, where `expected` is due, and with whatever else it ever received.
pub fn findings(
    server: &WeirServer,
    table: &Table,
    connector: &Connector<'_>,
    expected: &Expected,
    reads: &[TableRead],
) -> Vec<Finding> {
    connector.is_entitled_to(expected);
    let secrets = Secrets::of(table, [expected]);
    assert!(secrets.len() > 10, "there is hardly a secret to find");
    let mut findings: Vec<Finding> = Vec::new();
    for read in reads {
        findings.extend(check::read(read, expected, &secrets));
        findings.extend(check::source_ids(std::slice::from_ref(read), table));
    }
    let entitled = connector.entitled();
    let secrets = Secrets::of(table, &entitled);
    for answer in connector.newly_received() {
        findings.extend(secrets.in_answer(&answer));
    }
    // The log is not a connector's; that no value stands there holds for whoever reads it.
    findings.extend(Secrets::of_values(table, []).in_log(&server.log.newly_logged()));
    findings
}

/// Reads the newest version in every way, checks everything, and answers what was read.
pub async fn read_well(
    server: &WeirServer,
    table: &Table,
    visible: &Visible,
    connector: &Connector<'_>,
) -> Vec<TableRead> {
    read_version_well(server, table, visible, connector, json!({}), table.version()).await
}

/// Reads in every way what `body` requests, which is this version of the source, and checks everything.
pub async fn read_version_well(
    server: &WeirServer,
    table: &Table,
    visible: &Visible,
    connector: &Connector<'_>,
    body: Json,
    version: u64,
) -> Vec<TableRead> {
    let expected = visible.shown(&table.at(version), &reader(server, connector).await);
    if body == json!({}) {
        connector.wait_for(version).await;
    }
    let reads = connector.read_in_all_ways(body).await;
    for read in &reads {
        assert_eq!(read.version, version, "{:?}", read.way);
    }
    nothing(&findings(server, table, connector, &expected, &reads));
    reads
}
