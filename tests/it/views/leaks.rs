//! The leak tests, one by one. Each reads presigned and proxied, in the parquet and the delta format.

use std::{collections::BTreeSet, fs};

use http::Method;
use serde_json::{Value as Json, json};

use super::{
    check::{self, Secrets, nothing},
    claims_view::{PLANS, claims, columns, findings, read_version_well, read_well, reader, shared_claims},
    connector::{Connector, Received, TableRead, table_path},
    plain::{Expected, Pick, Visible},
    source::{Mapping, Table, word},
    value::{Row, Value},
    weir_server::{RELAYED, SHARE, SHOWN, TABLE, VIEW, WeirServer, everywhere},
};

everywhere!(
    lt01_no_secret_is_in_any_file,
    lt02_no_hidden_name_leaves_in_any_answer,
    lt03_statistics_and_partition_values_speak_of_what_is_shown,
    lt04_urls_say_nothing_of_the_source,
    lt05_deleted_rows_are_gone,
    lt05_deleted_rows_are_not_passed_through,
    lt06_dropped_columns_are_gone,
    lt06_files_that_hold_more_than_the_table_are_not_passed_through,
    lt07_hints_ask_nothing_of_hidden_columns,
    lt08_a_limit_lets_no_other_row_in,
    lt09_older_versions_are_masked_as_the_newest,
    lt09_what_had_a_shown_name_before_is_not_shown,
    lt09_renamed_columns_are_read_alike_whichever_version_is_asked_for_first,
    lt11_without_its_property_nobody_sees_a_row,
    lt12_properties_are_values_and_nothing_else,
    lt14_pseudonyms_of_partners_differ,
    lt15_constraints_and_comments_stay_inside,
    lt15_files_with_notes_of_their_writers_are_not_passed_through,
    lt16_what_was_never_granted_is_not_there,
    lt17_nobody_gets_credentials,
    lt18_versions_that_do_not_fit_are_out_of_reach,
    lt19_a_new_column_is_not_shown,
    lt20_hidden_parts_are_cut_out_of_structs_lists_and_maps,
    lt21_files_do_not_tell_how_many_rows_are_hidden,
    lt22_corrupt_files_and_overflows_say_no_value,
    lt24_no_spelling_of_a_name_brings_in_a_hidden_column,
);

fn hmo() -> Json {
    json!({"plans": [PLANS[0]]})
}

async fn lt01_no_secret_is_in_any_file(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", hmo()).await;
    let reads = read_well(&server, &table, &visible, &acme).await;
    assert!(reads.iter().all(|read| read.files.len() > 1));
    // Somebody with other rights has other secrets.
    let rival = server.connector("rival", json!({"plans": [PLANS[1]]})).await;
    let others = read_well(&server, &table, &visible, &rival).await;
    nothing(&check::apart(&reads, &others));
    assert!(server.copies(None).await.iter().all(|copy| copy["kind"] == "file"));
}

/// What a curious client asks for, of one object.
async fn pry(connector: &Connector<'_>, object: &str) -> Vec<Received> {
    let mut answers = Vec::new();
    let query = table_path(object, "/query");
    let headers = [("content-type", "application/json")];
    for body in [
        json!({"predicateHints": ["zmember_name = 'x'", "zregion_name IS NULL", "address.zstreet_name = 'y'"]}),
        json!({"jsonPredicateHints": json!({"op": "equal", "children": [
            {"op": "column", "name": "zregion_name", "valueType": "string"},
            {"op": "literal", "value": "zregionnorth", "valueType": "string"},
        ]}).to_string()}),
        json!({"jsonPredicateHints": "{"}),
        json!({"version": 0}),
        json!({"version": 999}),
        json!({"version": -1}),
        json!({"timestamp": "1999-01-01T00:00:00Z"}),
        json!({"timestamp": "zmember_name"}),
        json!({"startingVersion": 0}),
        json!({"startingVersion": 0, "endingVersion": 1}),
        json!({"startingVersion": 999}),
        json!({"pageToken": "junk"}),
        json!({"refreshToken": "junk"}),
        json!({"maxFiles": 0}),
        json!({"limitHint": "many"}),
        json!([]),
    ] {
        for capability in ["responseformat=parquet", "responseformat=delta;readerfeatures=deletionvectors"] {
            let headers = [&headers[..], &[("delta-sharing-capabilities", capability)]].concat();
            answers.push(connector.send(Method::POST, &query, &headers, &body.to_string()).await);
        }
    }
    for path in [
        "/changes?startingVersion=0",
        "/changes?startingVersion=0&endingVersion=1",
        "/changes?startingTimestamp=2020-01-01T00:00:00Z",
        "/changes",
        "/version?startingTimestamp=2020-01-01T00:00:00Z",
        "/version?startingTimestamp=2099-01-01T00:00:00Z",
        "/metadata?version=0",
        "/metadata?version=999",
        "/metadata?timestamp=2020-01-01T00:00:00Z",
    ] {
        answers.push(connector.send(Method::GET, &table_path(object, path), &[], "").await);
    }
    answers
        .push(connector.send(Method::POST, &table_path(object, "/temporary-table-credentials"), &headers, "{}").await);
    answers.push(connector.send(Method::POST, &table_path(object, "/queries/1"), &headers, "{}").await);
    for path in ["/shares", "/shares/insurer", "/shares/insurer/schemas", "/shares/insurer/all-tables"] {
        answers.push(connector.send(Method::GET, path, &[], "").await);
    }
    answers
}

async fn lt02_no_hidden_name_leaves_in_any_answer(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::Name).await;
    let acme = server.connector("acme", hmo()).await;
    let mut statuses = BTreeSet::new();
    for object in [SHOWN, RELAYED] {
        for answer in pry(&acme, object).await {
            assert!(answer.status < 500, "{}: {}", answer.asked, answer.text());
            statuses.insert(answer.status);
        }
    }
    assert!(statuses.contains(&200) && statuses.contains(&400), "{statuses:?}");
    // A file's errors, too.
    let url = acme.read(server.ways()[2], json!({})).await.files[0].url.clone();
    acme.fetch(&url.replace("/files/", "/files/x")).await.refused(404, "RESOURCE_DOES_NOT_EXIST");
    read_well(&server, &table, &visible, &acme).await;
}

async fn lt03_statistics_and_partition_values_speak_of_what_is_shown(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0], PLANS[1]]})).await;
    for read in read_well(&server, &table, &visible, &acme).await {
        let mut spoken_of = BTreeSet::new();
        for file in &read.files {
            let stats = file.stats.as_ref().expect("a governed file has statistics");
            let rows = super::parquet_parts::take_apart(&file.bytes).rows.len();
            assert_eq!(stats["numRecords"], rows);
            spoken_of.extend(stats["minValues"].as_object().unwrap().keys().cloned());
            assert_eq!(file.partition_values.keys().collect::<Vec<_>>(), ["plan"]);
        }
        assert_eq!(spoken_of, ["address", "claim_id", "paid", "seen"].map(str::to_owned).into());
    }
}

async fn lt04_urls_say_nothing_of_the_source(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", hmo()).await;
    let mut urls = BTreeSet::new();
    for read in read_well(&server, &table, &visible, &acme).await {
        for file in &read.files {
            assert!(check::is_ours(&file.url, read.way.is_presigned), "{}", file.url);
            let path = file.url.split('?').next().unwrap().to_lowercase();
            for word in ["zsource", "plan", "region", "claim", "lake/z", "part-"] {
                assert!(!path.contains(word), "`{word}` is in {path}");
            }
            urls.insert(file.url.clone());
        }
    }
    assert!(urls.len() > 4);
}

async fn lt05_deleted_rows_are_gone(server: WeirServer) {
    let (mut table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", hmo()).await;
    let ids = |reads: &[TableRead]| rows_of(reads).iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let before = ids(&read_well(&server, &table, &visible, &acme).await);
    assert!(before.iter().all(|id| !matches!(id, Value::Integer(id) if id % 5 == 0)), "they were deleted before");
    table.delete(|row| matches!(row[0], Value::Integer(id) if id % 3 == 0));
    let after = ids(&read_well(&server, &table, &visible, &acme).await);
    assert!(after.len() < before.len() && !after.is_empty());
    assert!(after.iter().all(|id| !matches!(id, Value::Integer(id) if id % 3 == 0 || id % 5 == 0)));
    // A file that loses its last row disappears.
    table.delete(|row| row[2].known() == Value::text(PLANS[0]).known());
    let gone = read_well(&server, &table, &visible, &acme).await;
    assert!(gone.iter().all(|read| read.files.is_empty()));
}

async fn lt05_deleted_rows_are_not_passed_through(server: WeirServer) {
    let mut table = server.table(&two_columns(), &[], Mapping::None, 3);
    table.has_notes = false;
    let whole = table.append(two_values(0..20, 1));
    table.delete(|row| matches!(row[0], Value::Integer(id) if id % 2 == 0));
    let (visible, acme) = share_everything(&server, &table).await;
    let reads = read_well(&server, &table, &visible, &acme).await;
    assert_eq!(rows_of(&reads).len(), 10);
    assert!(server.copies(None).await.iter().all(|copy| copy["kind"] == "file"), "source files were passed through");
    // Where nothing is hidden, nothing has to be written.
    for way in server.ways() {
        let read = acme.read(way, json!({"version": whole})).await;
        assert_eq!(rows_of(std::slice::from_ref(&read)).len(), 20);
        assert!(!read.way.is_presigned || read.files[0].url.starts_with("http://weir.test/files/"));
    }
    assert!(server.copies(None).await.iter().any(|copy| copy["kind"] == "source"));
    // What the log says of them is not passed on as it stands.
    let answers: Vec<String> = acme.newly_received().iter().map(|answer| answer.text()).collect();
    let listings: Vec<&String> = answers.iter().filter(|text| text.starts_with('{')).collect();
    assert!(listings.iter().any(|text| text.contains("numRecords")));
    for mark in &table.marks {
        assert!(listings.iter().all(|text| !text.contains(mark)), "{mark}");
    }
}

/// The rows in the files of the first way.
fn rows_of(reads: &[TableRead]) -> Vec<Row> {
    reads[0].files.iter().flat_map(|file| super::parquet_parts::take_apart(&file.bytes).rows).collect()
}

/// Shares a view of everything that `table` has with a connector.
async fn share_everything<'a>(server: &'a WeirServer, table: &Table) -> (Visible, Connector<'a>) {
    server.register().await;
    let visible = everything(table);
    let view = server.publish(&visible.definition(), None).await;
    server.share(&view).await;
    (visible, server.connector("acme", json!({})).await)
}

/// A view of every column that `table` has, as it is.
fn everything(table: &Table) -> Visible {
    let names = table.state.schema.fields.iter().map(|field| field.name.clone());
    Visible { columns: names.map(|name| (name.clone(), Pick::whole(&name))).collect(), ..Visible::default() }
}

fn two_columns() -> Json {
    json!([
        {"name": "id", "type": "long", "nullable": true, "metadata": {}},
        {"name": "zdropped_name", "type": "string", "nullable": true, "metadata": {}},
    ])
}

fn two_values(ids: std::ops::Range<i64>, seed: u64) -> Vec<Row> {
    use rand::SeedableRng;
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    ids.map(|id| vec![Value::Integer(id), Value::Text(word(&mut random))]).collect()
}

async fn lt06_dropped_columns_are_gone(server: WeirServer) {
    let mut table = server.table(&two_columns(), &[], Mapping::Name, 3);
    table.has_notes = false;
    table.append(two_values(0..20, 1));
    table.alter(|fields| fields.retain(|field| field.name == "id"));
    let (visible, acme) = share_everything(&server, &table).await;
    let reads = read_well(&server, &table, &visible, &acme).await;
    assert_eq!(rows_of(&reads).len(), 20);
    assert!(server.copies(None).await.iter().all(|copy| copy["kind"] == "file"), "source files were passed through");
}

async fn lt06_files_that_hold_more_than_the_table_are_not_passed_through(server: WeirServer) {
    let mut table = server.table(&two_columns(), &[], Mapping::None, 3);
    table.has_notes = false;
    table.append(two_values(0..20, 1));
    // Like a writer that does not know that dropping columns needs a mapping.
    table.alter(|fields| fields.retain(|field| field.name == "id"));
    let (visible, acme) = share_everything(&server, &table).await;
    let reads = read_well(&server, &table, &visible, &acme).await;
    assert_eq!(rows_of(&reads).len(), 20);
    let copies = server.copies(Some("ready")).await;
    assert!(copies.iter().all(|copy| copy["kind"] == "file"), "source files were passed through: {copies:?}");
}

async fn lt07_hints_ask_nothing_of_hidden_columns(server: WeirServer) {
    let (_table, _lens) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0], PLANS[1]]})).await;
    let sql = |column: &str, value: &str| json!({"predicateHints": [format!("{column} = '{value}'")]});
    let tree = |column: &str, value: &str| {
        json!({"jsonPredicateHints": json!({"op": "equal", "children": [
            {"op": "column", "name": column, "valueType": "string"},
            {"op": "literal", "value": value, "valueType": "string"},
        ]}).to_string()})
    };
    for way in server.ways() {
        let ids = |answer: Received| TableRead::parse(way, &answer).ids();
        let all = ids(acme.query(way, json!({})).await);
        // A hint on a shown column leaves files out.
        let some = ids(acme.query(way, sql("plan", PLANS[0])).await);
        assert!(!some.is_empty() && some.len() < all.len(), "{} of {}", some.len(), all.len());
        let some = ids(acme.query(way, tree("plan", PLANS[0])).await);
        assert!(!some.is_empty() && some.len() < all.len(), "{} of {}", some.len(), all.len());
        for column in ["zregion_name", "zmember_name", "plan_code", "ZREGION_NAME", "zno_such_column", "member_key"] {
            for value in ["zregionnorth", "zregionnowhere", PLANS[0]] {
                assert_eq!(ids(acme.query(way, sql(column, value)).await), all, "{column} = {value}");
                assert_eq!(ids(acme.query(way, tree(column, value)).await), all, "{column} = {value}");
            }
        }
        for hint in
            ["zserial_number < 0", "zbirth_date > '9999-01-01'", "birth_year > 5000", "zip3 = '999'", "zip IS NULL"]
        {
            assert_eq!(ids(acme.query(way, json!({"predicateHints": [hint]})).await), all, "{hint}");
        }
    }
}

async fn lt08_a_limit_lets_no_other_row_in(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0], PLANS[1]]})).await;
    let expected = visible.shown(&table.state, &reader(&server, &acme).await);
    let total = expected.rows().len();
    let eligible: BTreeSet<String> = expected.rows().iter().map(|row| format!("{:?}", row[0])).collect();
    for way in server.ways() {
        let all = acme.read(way, json!({})).await;
        for limit in [1, 2, 5, total - 1, total, total + 1] {
            let read = acme.read(way, json!({"limitHint": limit})).await;
            let rows = rows_of(std::slice::from_ref(&read));
            assert!(rows.len() >= limit.min(total), "{} rows for a limit of {limit}", rows.len());
            assert!(rows.iter().all(|row| eligible.contains(&format!("{:?}", row[0]))));
            assert!(read.ids().iter().all(|id| all.ids().contains(id)));
        }
        assert!(acme.query(way, json!({"limitHint": 1})).await.lines().len() < all.files.len() + 2);
    }
}

async fn lt09_older_versions_are_masked_as_the_newest(server: WeirServer) {
    let mut table = server.table(&columns(), &["plan_code", "zregion_name"], Mapping::None, 7);
    table.append(claims(0, 20, 1));
    server.register().await;
    let open = Visible {
        columns: ["claim_id", "plan_code", "zmember_name"].map(|name| (name.to_owned(), Pick::whole(name))).into(),
        ..Visible::default()
    };
    let view = server.publish(&open.definition(), None).await;
    server.share(&view).await;
    let early = server.connector("early", json!({})).await;
    read_well(&server, &table, &open, &early).await;
    table.append(claims(100, 20, 2));

    let masked = Visible {
        columns: vec![
            ("claim_id".to_owned(), Pick::whole("claim_id")),
            ("member".to_owned(), Pick::masked("zmember_name", json!({"partial": {"first": 1, "last": 1}}))),
        ],
        filter: Some(format!("plan_code = '{}'", PLANS[0])),
        ..Visible::default()
    };
    let view = server.publish(&masked.definition(), masked.filter.as_deref()).await;
    server.share(&view).await;
    let late = server.connector("late", json!({})).await;
    for version in [1, 2] {
        let at = json!({"version": version});
        read_version_well(&server, &table, &masked, &late, at, version).await;
        let at = json!({"timestamp": table.committed_at(version)});
        read_version_well(&server, &table, &masked, &late, at, version).await;
    }
    // Before the first rows there were none.
    let reads = read_version_well(&server, &table, &masked, &late, json!({"version": 0}), 0).await;
    assert!(reads.iter().all(|read| read.files.is_empty()));
}

async fn lt09_what_had_a_shown_name_before_is_not_shown(server: WeirServer) {
    let mut table = server.table(&two_columns(), &[], Mapping::Name, 3);
    table.has_notes = false;
    table.append(two_values(0..20, 1));
    // The secret column gets another name, and a visible one gets its old name.
    table.alter(|fields| {
        fields[1].name = "zolder_name".to_owned();
        fields.push(Table::column("label", json!("string")));
    });
    let longer = |mut row: Row| {
        row.push(Value::text("public"));
        row
    };
    table.append(two_values(100..110, 2).into_iter().map(longer).collect());
    let renamed = table.alter(|fields| fields[2].name = "zdropped_name".to_owned());
    server.register().await;
    let visible = Visible {
        columns: ["id", "zdropped_name"].map(|name| (name.to_owned(), Pick::whole(name))).into(),
        ..Visible::default()
    };
    let view = server.publish(&visible.definition(), None).await;
    server.share(&view).await;
    let acme = server.connector("acme", json!({})).await;
    read_well(&server, &table, &visible, &acme).await;
    for way in server.ways() {
        let answer = acme.query(way, json!({"version": 1})).await;
        let message = answer.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains("as it is shared now"), "{message}");
    }
    // In between it was the same column under another name.
    read_version_well(&server, &table, &visible, &acme, json!({"version": renamed - 1}), renamed - 1).await;
    read_well(&server, &table, &visible, &acme).await;
}

async fn lt09_renamed_columns_are_read_alike_whichever_version_is_asked_for_first(server: WeirServer) {
    let mut table = server.table(&two_columns(), &[], Mapping::Name, 3);
    let first = table.append(two_values(0..20, 1));
    table.alter(|fields| fields[1].name = "label".to_owned());
    let second = table.append(two_values(20..30, 2));
    let (visible, acme) = share_everything(&server, &table).await;
    for version in [first, second, first] {
        read_version_well(&server, &table, &visible, &acme, json!({"version": version}), version).await;
    }
    read_well(&server, &table, &visible, &acme).await;
}

async fn lt11_without_its_property_nobody_sees_a_row(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    // Nobody is granted what would show nothing by mistake.
    server.app.put("/recipients/none", json!({})).await.expect(201);
    for properties in [json!({"plans": null}), json!({"plans": PLANS[0]}), json!({"plans": [1]})] {
        server.app.patch("/recipients/none", json!({"properties": properties})).await.expect(200);
        let grant = server.app.post("/grants", json!({"share": SHARE, "recipient": "none"})).await;
        let problem = grant.problem(422, "invalid_input");
        assert!(problem.to_string().contains("plans"), "{problem}");
    }
    // Who loses it later sees nothing.
    let acme = server.connector("acme", hmo()).await;
    assert!(!rows_of(&read_well(&server, &table, &visible, &acme).await).is_empty());
    for properties in [json!({"plans": null}), json!({"plans": PLANS[0]}), json!({"plans": [1]}), json!({"plans": []})]
    {
        server.app.patch("/recipients/acme?force=true", json!({"properties": properties})).await.expect(200);
        for way in server.ways() {
            let read = acme.read(way, json!({})).await;
            assert!(read.files.is_empty(), "{properties}: {:?}", read.files.len());
        }
    }
}

async fn lt12_properties_are_values_and_nothing_else(server: WeirServer) {
    const INJECTIONS: [&str; 6] =
        ["x' OR '1'='1", "' OR TRUE --", "') OR ('1'='1", "%", "zfirst' OR zip = 'zsecond", "recipient('city')"];
    let mut table = server.table(&two_columns(), &[], Mapping::None, 3);
    let mut rows = two_values(0..20, 1);
    for (at, injection) in INJECTIONS.iter().enumerate() {
        rows.push(vec![Value::Integer(100 + i64::try_from(at).unwrap()), Value::text(*injection)]);
    }
    table.append(rows);
    server.register().await;
    let visible = Visible {
        columns: vec![("id".to_owned(), Pick::whole("id"))],
        filter: Some("zdropped_name = recipient('city') OR zdropped_name IN recipient_list('cities')".to_owned()),
        ..Visible::default()
    };
    let view = server.publish(&visible.definition(), visible.filter.as_deref()).await;
    server.share(&view).await;
    for (at, injection) in INJECTIONS.iter().enumerate() {
        let acme = server.connector(&format!("acme{at}"), json!({"city": injection, "cities": [injection]})).await;
        let reads = read_well(&server, &table, &visible, &acme).await;
        let ids = rows_of(&reads).iter().map(|row| format!("{:?}", row[0])).collect::<Vec<_>>();
        assert_eq!(ids, [format!("Integer({})", 100 + at)], "{injection}");
    }
}

async fn lt14_pseudonyms_of_partners_differ(server: WeirServer) {
    let mut table = server.table(&columns(), &["plan_code", "zregion_name"], Mapping::None, 7);
    table.append(claims(0, 40, 1));
    server.register().await;
    let hash = |name: &str, per: &str| {
        let mask = json!({"hash": {"domain": "member", "per": per}});
        (name.to_owned(), Pick::masked("zmember_name", mask))
    };
    let columns = vec![hash("own", "recipient"), hash("shared", "share"), hash("global", "global")];
    let visible = Visible { columns, ..Visible::default() };
    let view = server.publish(&visible.definition(), None).await;
    server.share(&view).await;
    let (acme, rival) = (server.connector("acme", json!({})).await, server.connector("rival", json!({})).await);
    let (mine, theirs) =
        (read_well(&server, &table, &visible, &acme).await, read_well(&server, &table, &visible, &rival).await);
    let column = |reads: &[TableRead], at: usize| -> BTreeSet<String> {
        let rows = rows_of(reads);
        rows.iter().filter(|row| !row[at].is_null()).map(|row| format!("{:?}", row[at])).collect()
    };
    assert!(column(&mine, 0).is_disjoint(&column(&theirs, 0)));
    for joined in [1, 2] {
        assert_eq!(column(&mine, joined), column(&theirs, joined));
        assert!(column(&mine, joined).is_disjoint(&column(&mine, 0)));
    }
    assert!(column(&mine, 0).len() > 20 && column(&mine, 1).is_disjoint(&column(&mine, 2)));
    nothing(&check::apart(&mine, &theirs));
    // The same value has the same name today and tomorrow.
    assert_eq!(column(&read_well(&server, &table, &visible, &acme).await, 0), column(&mine, 0));
}

async fn lt15_constraints_and_comments_stay_inside(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::Name).await;
    // The log is full of them.
    let log = fs::read_to_string(table.commit_path(0)).unwrap();
    assert!(log.contains("delta.constraints.") && log.contains("comment") && log.contains("owner"));
    let acme = server.connector("acme", hmo()).await;
    for read in read_well(&server, &table, &visible, &acme).await {
        let text = format!("{} {}", read.metadata, read.protocol);
        for word in ["constraints", "owner", "columnMapping", "deletionVectors", "generationExpression", "invariants"] {
            assert!(!text.contains(word), "`{word}` is in {text}");
        }
        let schema = read.metadata["schemaString"].as_str().unwrap();
        // The view's own comment and no other.
        assert!(schema.contains("In US dollars") && schema.matches("\"comment\"").count() == 1, "{schema}");
    }
}

async fn lt15_files_with_notes_of_their_writers_are_not_passed_through(server: WeirServer) {
    let mut table = server.table(&two_columns(), &[], Mapping::None, 3);
    table.append(two_values(0..20, 1));
    let (visible, acme) = share_everything(&server, &table).await;
    let reads = read_well(&server, &table, &visible, &acme).await;
    assert_eq!(rows_of(&reads).len(), 20);
    let copies = server.copies(Some("ready")).await;
    assert!(copies.iter().all(|copy| copy["kind"] == "file"), "source files were passed through: {copies:?}");
}

async fn lt16_what_was_never_granted_is_not_there(server: WeirServer) {
    let (_table, _lens) = shared_claims(&server, Mapping::None).await;
    server.app.put("/shares/other", json!({})).await.expect(201);
    let stranger = server.partner_of("other", "stranger", json!({})).await;
    for what in ["/query", "/metadata", "/version", "/changes?startingVersion=0", "/temporary-table-credentials"] {
        let method = if matches!(what, "/query" | "/temporary-table-credentials") { Method::POST } else { Method::GET };
        let mut refusals = BTreeSet::new();
        for (share, object) in [(SHARE, SHOWN), (SHARE, "nosuch"), ("nosuch", SHOWN)] {
            let path = format!("/shares/{share}/schemas/s/tables/{object}{what}");
            let headers = [("content-type", "application/json")];
            let answer = stranger.send(method.clone(), &path, &headers, "{}").await;
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
            let names = answer.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            refusals.insert((answer.refusal().replace(share, "…").replace(object, "…"), names));
        }
        assert_eq!(refusals.len(), 1, "{refusals:?}");
    }
    // The stranger's list of shares does not contain it either.
    let listed = stranger.send(Method::GET, "/shares", &[], "").await;
    assert!(!listed.text().contains(SHARE), "{}", listed.text());
}

async fn lt17_nobody_gets_credentials(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", hmo()).await;
    let headers = [("content-type", "application/json")];
    for object in [SHOWN, RELAYED] {
        let path = table_path(object, "/temporary-table-credentials");
        for body in ["{}", r#"{"operation":"READ"}"#, ""] {
            let answer = acme.send(Method::POST, &path, &headers, body).await;
            assert!([400, 404].contains(&answer.status), "{}", answer.text());
            for word in ["location", "credentials\":", "s3://", "file://", "http://"] {
                assert!(!answer.text().contains(word), "{}", answer.text());
            }
        }
    }
    for path in ["/shares/insurer/all-tables", "/shares/insurer/schemas/s/tables"] {
        let answer = acme.send(Method::GET, path, &[], "").await;
        let listed: Json = serde_json::from_slice(&answer.body).unwrap();
        for item in listed["items"].as_array().unwrap() {
            assert!(item.get("location").is_none(), "{item}");
            let modes = item.get("accessModes").cloned().unwrap_or_else(|| json!(["url"]));
            assert_eq!(modes, json!(["url"]));
        }
    }
    read_well(&server, &table, &visible, &acme).await;
}

async fn lt18_versions_that_do_not_fit_are_out_of_reach(server: WeirServer) {
    let (mut table, visible) = shared_claims(&server, Mapping::Name).await;
    let acme = server.connector("acme", hmo()).await;
    let fitting = table.version();
    read_well(&server, &table, &visible, &acme).await;
    // The column is dropped, and rows come without it.
    let held = table.alter(|fields| fields.retain(|field| field.name != "paid"));
    let without: Vec<Row> = claims(5_000, 10, 9)
        .into_iter()
        .map(|mut row| {
            row.remove(4);
            row
        })
        .collect();
    let newest = table.append(without);
    assert_eq!((held, newest), (fitting + 1, fitting + 2));

    for way in server.ways() {
        for version in [held, newest, newest + 1] {
            let since = [
                json!({"version": version}),
                json!({"startingVersion": version}),
                json!({"startingVersion": 0, "endingVersion": version}),
            ];
            for body in since {
                let answer = acme.query(way, body).await;
                assert_eq!(answer.status, 400, "{}: {}", answer.asked, answer.text());
            }
            for what in ["/metadata?version=", "/changes?startingVersion="] {
                let answer = acme.ask(way, &format!("{what}{version}")).await;
                assert_eq!(answer.status, 400, "{}: {}", answer.asked, answer.text());
            }
        }
        // A version on hold and one that does not exist are refused alike.
        let refusals: BTreeSet<String> = {
            let mut refusals = BTreeSet::new();
            for version in [held, newest, newest + 1] {
                let refusal = acme.query(way, json!({"version": version})).await.refusal();
                refusals.insert(refusal.replace(&format!("version {version}"), "version …"));
            }
            refusals
        };
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        // A time at which a version was on hold never resolves to that version.
        for version in [held, newest] {
            let at = json!({"timestamp": table.committed_at(version)});
            let answer = acme.query(way, at).await;
            assert!(answer.status == 400 || answer.header("delta-table-version") == fitting.to_string());
            let since = table.committed_at(version).replace('+', "%2B");
            let answer = acme.ask(way, &format!("/version?startingTimestamp={since}")).await;
            assert_eq!(answer.status, 400, "{}", answer.header("delta-table-version"));
        }
        assert_eq!(acme.ask(way, "/version").await.header("delta-table-version"), fitting.to_string());
    }
    // The newest version that fits is still served.
    table.state = table.versions[usize::try_from(fitting).unwrap()].clone();
    read_version_well(&server, &table, &visible, &acme, json!({}), fitting).await;
    read_version_well(&server, &table, &visible, &acme, json!({"version": 1}), 1).await;
    // The operator learns of it.
    let preview = server.app.post(&format!("/views/{VIEW}/preview"), json!({"recipient": "acme"})).await;
    assert!(preview.status.is_client_error(), "{}", preview.text);
    assert!(preview.text.contains("paid"), "{}", preview.text);
}

async fn lt19_a_new_column_is_not_shown(server: WeirServer) {
    let (mut table, visible) = shared_claims(&server, Mapping::Name).await;
    let whole = Visible {
        columns: ["claim_id", "address", "visits"].map(|name| (name.to_owned(), Pick::whole(name))).into(),
        ..Visible::default()
    };
    let acme = server.connector("acme", hmo()).await;
    let before = read_well(&server, &table, &visible, &acme).await;
    table.alter(|fields| fields.push(Table::column("znew_column", json!("string"))));
    use rand::SeedableRng;
    let mut random = rand::rngs::StdRng::seed_from_u64(5);
    let longer = |mut row: Row| {
        row.push(Value::Text(word(&mut random)));
        row
    };
    table.append(claims(7_000, 20, 3).into_iter().map(longer).collect());
    let after = read_well(&server, &table, &visible, &acme).await;
    assert_eq!(before[0].metadata["schemaString"], after[0].metadata["schemaString"]);
    assert!(rows_of(&after).len() > rows_of(&before).len());

    // Neither is a new field of a struct that is shown as a whole.
    let view = server.publish(&whole.definition(), None).await;
    let plan = before[0].metadata["schemaString"].clone();
    assert!(!plan.as_str().unwrap().contains("znew"));
    server.share(&view).await;
    let connector = server.connector("whole", json!({})).await;
    let shown: Expected = whole.shown(&table.state, &reader(&server, &connector).await);
    read_well(&server, &table, &whole, &connector).await;
    table.alter(|fields| {
        let weir::domain::catalog::schema::DataType::Struct(parts) = &mut fields[6].data_type else { panic!() };
        parts.push(Table::column("znew_field", json!("string")));
    });
    table.state.files.clear();
    let reads = connector.read_in_all_ways(json!({})).await;
    nothing(&findings(&server, &table, &connector, &shown, &reads));
}

async fn lt20_hidden_parts_are_cut_out_of_structs_lists_and_maps(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::Id).await;
    let acme = server.connector("acme", hmo()).await;
    let reads = read_well(&server, &table, &visible, &acme).await;
    let file = super::parquet_parts::take_apart(&reads[0].files[0].bytes);
    let leaves: Vec<String> =
        file.metadata.file_metadata().schema_descr().columns().iter().map(|leaf| leaf.path().string()).collect();
    assert_eq!(
        leaves,
        [
            "claim_id",
            "paid",
            "birth_year",
            "member_key",
            "address.city",
            "address.geo.lat",
            "visits.list.element.code",
            "details.key_value.key",
            "details.key_value.value.grade",
            "seen",
            "zip3",
            "street",
            "tags.list.element",
        ]
    );
}

async fn lt21_files_do_not_tell_how_many_rows_are_hidden(server: WeirServer) {
    let mut table = server.table(&columns(), &["plan_code", "zregion_name"], Mapping::None, 7);
    let shown = |row: &Row| matches!(row[4], Value::Float(paid) if paid >= 0.0);
    let mut rows = claims(0, 200, 1);
    rows.iter_mut().for_each(|row| (row[2], row[3]) = (Value::text(PLANS[0]), Value::text("zregionnorth")));
    let many = table.append(rows);
    // The hidden rows are deleted; the shown ones stay.
    let few = table.delete(|row| !shown(row));
    let visible = super::claims_view::visible();
    server.register().await;
    let (columns, filter) = (visible.definition(), visible.filter.as_deref());
    let view = server.publish_as_laid_out(&columns, filter, &["zregion_name"]).await;
    server.share(&view).await;
    let acme = server.connector("acme", hmo()).await;
    let bytes = |reads: &[TableRead]| reads[0].files.iter().map(|file| file.bytes.clone()).collect::<Vec<_>>();
    let with = bytes(&read_version_well(&server, &table, &visible, &acme, json!({"version": many}), many).await);
    let without = bytes(&read_version_well(&server, &table, &visible, &acme, json!({"version": few}), few).await);
    assert_eq!(with.len(), 1);
    assert!(with == without, "the files of {many} and {few} differ");
    assert_eq!(server.copies(Some("ready")).await.len(), 2, "it was made once, and proves nothing");
}

async fn lt22_corrupt_files_and_overflows_say_no_value(server: WeirServer) {
    let mut table = server.table(&columns(), &["plan_code", "zregion_name"], Mapping::None, 7);
    let mut rows = claims(0, 40, 1);
    rows.iter_mut().for_each(|row| row[3] = Value::text("zregionnorth"));
    // Its year is not valid: no date exists for the first of January before it.
    let overflow = rows.iter_mut().find(|row| row[2].known() == Value::text(PLANS[1]).known()).unwrap();
    overflow[5] = Value::Date(i32::MIN);
    table.append(rows);
    server.register().await;
    let visible = Visible {
        columns: vec![
            ("claim_id".to_owned(), Pick::whole("claim_id")),
            ("born".to_owned(), Pick::masked("zbirth_date", json!({"date_trunc": {"unit": "year"}}))),
        ],
        filter: Some("plan_code IN recipient_list('plans')".to_owned()),
        ..Visible::default()
    };
    // A file of the third plan is damaged in the middle.
    let damaged = table.state.files.iter().find(|file| file.path.contains(PLANS[2])).unwrap();
    let path = server.app.folder("zsourcefolder").join(&damaged.path);
    let mut content = fs::read(&path).unwrap();
    let length = content.len();
    content[4..length / 3].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&path, content).unwrap();
    let view = server.publish(&visible.definition(), visible.filter.as_deref()).await;
    server.share(&view).await;

    for (name, plan) in [("overflown", PLANS[1]), ("damaged", PLANS[2])] {
        let connector = server.connector(name, json!({"plans": [plan]})).await;
        for way in server.ways() {
            let answer = connector.query(way, json!({})).await;
            let message = answer.refused(400, "RESOURCE_DOES_NOT_EXIST");
            assert!(message.contains("register of copies"), "{message}");
        }
        // None of its contents may be seen.
        let secrets = Secrets::of(&table, []);
        connector.newly_received().iter().for_each(|answer| nothing(&secrets.in_answer(answer)));
    }
    nothing(&Secrets::of_values(&table, []).in_log(&server.log.newly_logged()));
    // The register says why, in words that hold no value either.
    let failed = server.copies(Some("failed")).await;
    assert_eq!(failed.len(), 2, "{failed:?}");
    for copy in &failed {
        let why = copy["failure"].as_str().unwrap();
        assert!(!why.is_empty() && !why.contains(&i32::MIN.to_string()), "{why}");
    }
    // Others go on.
    let acme = server.connector("acme", hmo()).await;
    read_well(&server, &table, &visible, &acme).await;
}

async fn lt24_no_spelling_of_a_name_brings_in_a_hidden_column(server: WeirServer) {
    let (mut table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", hmo()).await;
    read_well(&server, &table, &visible, &acme).await;
    // Views name what there is, as it is spelt, and once.
    for columns in [
        json!([{"name": "CLAIM_ID"}]),
        json!([{"name": "claim_id"}, {"name": "claim_id", "from": "paid"}]),
        json!([{"name": "claim_id"}, {"name": "Claim_Id", "from": "paid"}]),
        json!([{"name": "address.city"}, {"name": "address.City", "from": "zmember_name"}]),
        json!([{"name": "address"}, {"name": "address.zstreet_name"}]),
        json!([{"name": "x", "from": "address.CITY"}]),
        json!([{"name": "*"}]),
        json!([{"name": "claim_id", "from": "*"}]),
    ] {
        let body = json!({"source": {"table": TABLE}, "columns": columns});
        server.app.put("/views/lake.other", body).await.problem(422, "invalid_input");
    }
    // The source gains a column that readers may confuse with a shown one.
    let fitting = table.version();
    table.alter(|fields| fields.push(Table::column("PAID", json!("double"))));
    let longer = |mut row: Row| {
        row.push(Value::Float(1.0e300));
        row
    };
    table.append(claims(9_000, 10, 4).into_iter().map(longer).collect());
    let expected = visible.shown(&table.versions[usize::try_from(fitting).unwrap()], &reader(&server, &acme).await);
    for way in server.ways() {
        let answer = acme.query(way, json!({})).await;
        if answer.status == 200 {
            assert_eq!(TableRead::parse(way, &answer).version, fitting);
        } else {
            assert_eq!(answer.status, 400, "{}", answer.text());
        }
    }
    nothing(&findings(&server, &table, &acme, &expected, &[]));
}
