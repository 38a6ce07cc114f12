//! Views whose files reveal nothing about the table's files: the layout `mixed`, its groups, and what the layout
//! `source` requires.

use std::collections::{BTreeMap, BTreeSet};

use arrow::{array::AsArray, datatypes::Int64Type};
use bytes::Bytes;
use chrono::TimeDelta;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    support::tables::checkpoint,
    views::{
        connector::{Connector, TableRead},
        source::{Mapping, Table},
        value::{Row, Value},
        weir_server::{TABLE, VIEW, WeirServer, everywhere},
    },
};

everywhere!(
    no_file_holds_rows_of_one_hidden_value_alone,
    the_layout_of_the_source_needs_an_acknowledgement_that_names_the_column,
    versions_from_before_keep_their_layout_until_published_again,
    groups_are_formed_once,
    a_group_is_made_of_what_one_commit_brought_and_one_shown_partition,
    partners_read_the_same_groups_in_orders_of_their_own,
    a_table_that_is_partitioned_anew_by_what_is_hidden_is_mixed,
    what_the_log_no_longer_tells_of_is_mixed_all_the_same,
    groups_are_kept_for_as_long_as_a_version_names_their_files,
    groups_go_with_the_last_view_that_uses_them,
);

const REGIONS: [&str; 4] = ["zregioneast", "zregionnorth", "zregionsouth", "zregionwest"];

/// Rows of a table of visits, each region in turn, all of one plan unless several are given.
fn visits(ids: std::ops::Range<i64>, plans: &[&str]) -> Vec<Row> {
    ids.map(|id| {
        let at = usize::try_from(id).unwrap();
        let (region, plan) = (REGIONS[at % REGIONS.len()], plans[at / REGIONS.len() % plans.len()]);
        vec![Value::Integer(id), Value::text(plan), Value::text(region)]
    })
    .collect()
}

fn columns() -> Json {
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    json!([field("id", "long"), field("plan", "string"), field("zregion", "string")])
}

/// The table, and a view of it that shows the plan as it is, and the region not at all.
async fn shared(server: &WeirServer, partitions: &[&str]) -> (Table, String) {
    let (table, view) = published(server, partitions).await;
    server.share(&view).await;
    (table, view)
}

/// [`shared`], before it is shared.
async fn published(server: &WeirServer, partitions: &[&str]) -> (Table, String) {
    let mut table = server.table(&columns(), partitions, Mapping::None, 11);
    table.has_notes = false;
    table.append(visits(0..200, &["hmo"]));
    server.register().await;
    let view = server.publish(&json!([{"name": "id"}, {"name": "plan"}]), None).await;
    (table, view)
}

/// The row ids in each file of the newest version, by the file's id.
fn ids(read: &TableRead) -> BTreeMap<String, Vec<i64>> {
    let ids = |bytes: &[u8]| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes)).unwrap().build().unwrap();
        let ids = reader.flat_map(|batch| {
            batch.unwrap().column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
        });
        ids.collect::<Vec<i64>>()
    };
    read.files.iter().map(|file| (file.id.clone(), ids(&file.bytes))).collect()
}

async fn read(connector: &Connector<'_>, table: &Table) -> TableRead {
    connector.query(connector.first_way(), json!({})).await.lines();
    connector.wait_for(table.version()).await;
    connector.read(connector.first_way(), json!({})).await
}

fn all(files: &BTreeMap<String, Vec<i64>>) -> Vec<i64> {
    let mut all: Vec<i64> = files.values().flatten().copied().collect();
    all.sort_unstable();
    all
}

/// How many regions a file's rows belong to.
fn regions(ids: &[i64]) -> usize {
    ids.iter().map(|id| id % 4).collect::<BTreeSet<_>>().len()
}

async fn no_file_holds_rows_of_one_hidden_value_alone(server: WeirServer) {
    let (mut table, _) = shared(&server, &["zregion"]).await;
    let published = server.app.get(&format!("/views/{VIEW}")).await.expect(200);
    assert_eq!((&published["layout"], &published["versions"][0]["layout"]), (&json!(null), &json!("mixed")));
    let acme = server.connector("acme", json!({})).await;
    let first = ids(&read(&acme, &table).await);
    assert_eq!(all(&first), (0..200).collect::<Vec<_>>());
    assert!(first.values().all(|ids| regions(ids) == REGIONS.len()), "{first:?}");
    for ids in first.values() {
        let rises = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((60..140).contains(&rises), "the order tells: {ids:?}");
    }
    // Neither the time nor the row count is that of one source file.
    let newest = read(&acme, &table).await;
    assert!(newest.files.iter().all(|file| file.stats.as_ref().unwrap()["numRecords"] == 200));
    // A masked partition column reveals as much as a hidden one.
    for mask in [json!("redact"), json!({"partial": {"first": 1, "last": 0}}), json!({"hash": {"domain": "d"}})] {
        let masked = json!([{"name": "id"}, {"name": "region", "from": "zregion", "mask": mask}]);
        let view = server.publish(&masked, None).await;
        server.share(&view).await;
        let files = ids(&read(&acme, &table).await);
        assert!(files.values().all(|ids| regions(ids) == REGIONS.len()), "{mask}: {files:?}");
    }
    // A column that is shown tells of itself alone.
    let view = server.publish(&json!([{"name": "id"}, {"name": "zregion"}]), None).await;
    server.share(&view).await;
    table.append(visits(200..210, &["hmo"]));
    let files = ids(&read(&acme, &table).await);
    assert_eq!(all(&files), (0..210).collect::<Vec<_>>());
    assert!(files.values().all(|ids| regions(ids) == 1));
    let versions = server.app.get(&format!("/views/{VIEW}")).await.expect(200)["versions"].clone();
    assert_eq!(versions[0]["layout"], "source");
}

async fn the_layout_of_the_source_needs_an_acknowledgement_that_names_the_column(server: WeirServer) {
    let (table, view) = shared(&server, &["zregion"]).await;
    let acme = server.connector("acme", json!({})).await;
    let (draft, publish) = (format!("/views/{VIEW}"), format!("/views/{VIEW}/publish"));
    server.app.patch(&draft, json!({"layout": "source"})).await.expect(200);
    for body in [json!({}), json!({"acknowledge": []}), json!({"acknowledge": null})] {
        let problem = server.app.post(&publish, body).await.problem(422, "RAW_DISCLOSURE_UNACKNOWLEDGED");
        let said = problem["errors"].to_string();
        assert!(said.contains("acknowledge") && said.contains("zregion") && said.contains("mixed"), "{said}");
    }
    for other in ["plan", "id", "zregions"] {
        let body = json!({"acknowledge": ["zregion", other]});
        let problem = server.app.post(&publish, body).await.problem(422, "invalid_input");
        assert!(problem.to_string().contains(other), "{problem}");
    }
    let published = server.app.post(&publish, json!({"acknowledge": ["zregion"]})).await.expect(201);
    assert_eq!((&published["layout"], &published["version"]), (&json!("source"), &json!(2)));
    let event = server.app.events("view.publish").await.remove(0);
    assert_eq!(event["change"]["after"]["acknowledged"], json!(["zregion"]), "{event}");
    // The version shared earlier stays unchanged.
    assert_eq!(ids(&read(&acme, &table).await).len(), 1, "{view}");
    server.share(published["view"].as_str().unwrap()).await;
    let files = ids(&read(&acme, &table).await);
    assert_eq!((files.len(), all(&files)), (4, (0..200).collect()));
    server.app.patch(&draft, json!({"layout": "sorted"})).await.problem(422, "invalid_input");
}

async fn versions_from_before_keep_their_layout_until_published_again(server: WeirServer) {
    let (table, view) = published(&server, &["zregion"]).await;
    assert_eq!(view, format!("{VIEW}@v1"));
    // As it was kept before there were layouts.
    server.app.execute(r#"UPDATE view_versions SET definition = REPLACE(definition, ',"layout":"mixed"', '')"#).await;
    server.share(&view).await;
    let acme = server.connector("acme", json!({})).await;
    assert_eq!(ids(&read(&acme, &table).await).len(), 4);
    let again = server.app.post(&format!("/views/{VIEW}/publish"), json!({})).await.expect(201);
    assert_eq!((&again["version"], &again["layout"]), (&json!(2), &json!("mixed")));
    assert_eq!(ids(&read(&acme, &table).await).len(), 4, "nobody moved the object");
    server.share(&format!("{VIEW}@v2")).await;
    assert_eq!(ids(&read(&acme, &table).await).len(), 1);
    // There is nothing left to publish.
    let same = server.app.post(&format!("/views/{VIEW}/publish"), json!({})).await.expect(200);
    assert_eq!(same["version"], 2);
}

async fn groups_are_formed_once(server: WeirServer) {
    let (mut table, _) = shared(&server, &["zregion"]).await;
    let acme = server.connector("acme", json!({})).await;
    let first = ids(&read(&acme, &table).await);
    assert_eq!(first.len(), 1);
    // New files are not grouped with earlier ones.
    table.append(visits(200..240, &["hmo"]));
    let second = ids(&read(&acme, &table).await);
    assert_eq!(second.len(), 2);
    assert!(first.iter().all(|(id, rows)| second.get(id) == Some(rows)), "the first file is the same");
    let made = server.copies(Some("ready")).await.len();
    assert_eq!(made, 2, "and was not made again");
    // Deleted rows leave their group, and no others join it.
    table.delete(|row| matches!(row[0], Value::Integer(id) if id < 200 && id % 10 == 0));
    let third = ids(&read(&acme, &table).await);
    assert_eq!(third.len(), 2);
    assert_eq!(all(&third), (0..240).filter(|id| *id >= 200 || id % 10 != 0).collect::<Vec<_>>());
    let kept = |files: &BTreeMap<String, Vec<i64>>, with: i64| {
        files.iter().find(|(_, rows)| rows.contains(&with)).map(|(id, rows)| (id.clone(), rows.clone())).unwrap()
    };
    assert_eq!(kept(&third, 201), kept(&second, 201));
    assert_ne!(kept(&third, 1).0, kept(&second, 1).0);
    table.remove_files(|at| at % 4 == 0);
    let fourth = ids(&read(&acme, &table).await);
    assert_eq!(fourth.len(), 2);
    assert!(fourth.values().all(|rows| regions(rows) == 3), "{fourth:?}");
    // Older versions are read in the same groups, by a server that remembers none of it as well.
    let other = server.app.replica(None);
    for app in [&server.app, &other] {
        let answer = acme.query_at(app, acme.first_way(), json!({"version": 2})).await;
        let ids: Vec<String> = TableRead::parse(acme.first_way(), &answer).ids();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>(), second.keys().collect(), "{}", answer.text());
    }
}

async fn a_group_is_made_of_what_one_commit_brought_and_one_shown_partition(server: WeirServer) {
    let (mut table, _) = shared(&server, &["plan", "zregion"]).await;
    table.append(visits(200..300, &["hmo", "ppo"]));
    let acme = server.connector("acme", json!({})).await;
    let read = read(&acme, &table).await;
    let plans: Vec<&str> = read.files.iter().map(|file| file.partition_values["plan"].as_str().unwrap()).collect();
    assert_eq!(plans.iter().filter(|plan| **plan == "hmo").count(), 2, "of two commits");
    assert_eq!((plans.len(), plans.iter().filter(|plan| **plan == "ppo").count()), (3, 1));
    for (id, rows) in ids(&read) {
        assert_eq!(regions(&rows), REGIONS.len(), "{id}");
        assert!(rows.iter().all(|id| *id < 200) || rows.iter().all(|id| *id >= 200), "{rows:?}");
    }
    assert_eq!(all(&ids(&read)), (0..300).collect::<Vec<_>>());
}

async fn partners_read_the_same_groups_in_orders_of_their_own(server: WeirServer) {
    let mut table = server.table(&columns(), &["zregion"], Mapping::None, 11);
    table.append(visits(0..100, &["hmo"]));
    server.register().await;
    let columns = json!([{"name": "id"}, {"name": "key", "from": "plan", "mask": {"hash": {"domain": "d"}}}]);
    let view = server.publish(&columns, None).await;
    server.share(&view).await;
    let (acme, rival) = (server.connector("acme", json!({})).await, server.connector("rival", json!({})).await);
    let rows = |read: &TableRead| ids(read).into_values().collect::<Vec<_>>();
    let (one, other) = (rows(&read(&acme, &table).await), rows(&read(&rival, &table).await));
    assert_eq!((one.len(), other.len()), (1, 1));
    assert_ne!(one, other, "whoever lays them side by side would know who is who");
    let sorted = |rows: Vec<Vec<i64>>| {
        let mut rows = rows.concat();
        rows.sort_unstable();
        rows
    };
    assert_eq!(sorted(one), sorted(other));
}

async fn a_table_that_is_partitioned_anew_by_what_is_hidden_is_mixed(server: WeirServer) {
    let (mut table, _) = shared(&server, &[]).await;
    let acme = server.connector("acme", json!({})).await;
    assert_eq!(server.app.get(&format!("/views/{VIEW}")).await.expect(200)["versions"][0]["layout"], "source");
    read(&acme, &table).await;
    table.remove_files(|_| true);
    table.state.partition_columns = vec!["zregion".to_owned()];
    table.alter(|_| {});
    table.append(visits(0..80, &["hmo"]));
    let files = ids(&read(&acme, &table).await);
    assert_eq!((files.len(), all(&files)), (1, (0..80).collect()));
}

async fn what_the_log_no_longer_tells_of_is_mixed_all_the_same(server: WeirServer) {
    let mut table = server.table(&columns(), &["zregion"], Mapping::None, 11);
    table.append(visits(0..40, &["hmo"]));
    table.append(visits(40..80, &["hmo"]));
    checkpoint(&server.app.folder("zsourcefolder")).await;
    table.append(visits(80..120, &["hmo"]));
    for version in 0..2 {
        std::fs::remove_file(table.commit_path(version)).unwrap();
    }
    server.app.put(&format!("/tables/{TABLE}"), json!({"location": server.app.location("zsourcefolder")})).await;
    let view = server.publish(&json!([{"name": "id"}, {"name": "plan"}]), None).await;
    server.share(&view).await;
    let acme = server.connector("acme", json!({})).await;
    let mut rows: Vec<Vec<i64>> = ids(&read(&acme, &table).await).into_values().collect();
    rows.iter_mut().for_each(|rows| rows.sort_unstable());
    rows.sort();
    assert_eq!(rows, [(0..40).collect::<Vec<_>>(), (40..80).collect(), (80..120).collect()]);
}

/// The files that are in groups.
async fn grouped(server: &WeirServer, scope: Uuid) -> usize {
    server.app.service.core.db.list_mixed_files(scope, Uuid::nil(), 1_000).await.unwrap().len()
}

/// The scope of the only table.
async fn scope(server: &WeirServer) -> Uuid {
    let later = server.app.now() + TimeDelta::days(2);
    let scopes = server.app.service.core.db.list_mixed_scopes(later, Uuid::nil(), 10).await.unwrap();
    assert_eq!(scopes.len(), 1);
    scopes[0].scope
}

async fn groups_are_kept_for_as_long_as_a_version_names_their_files(server: WeirServer) {
    let (mut table, _) = shared(&server, &["zregion"]).await;
    let acme = server.connector("acme", json!({})).await;
    let (old, service) = (ids(&read(&acme, &table).await), &server.app.service);
    let scope = scope(&server).await;
    let before = grouped(&server, scope).await;
    assert!(before > 0);
    table.remove_files(|_| true);
    table.append(visits(200..280, &["hmo"]));
    let gone = table.version();
    let kept = ids(&read(&acme, &table).await);
    let all_files = grouped(&server, scope).await;
    assert!(all_files > before);
    // The log still tells of the files that were removed.
    server.app.pass(86_400 + 1);
    service.materializer.forget_groups().await.unwrap();
    assert_eq!(grouped(&server, scope).await, all_files);
    // It no longer does.
    checkpoint(&server.app.folder("zsourcefolder")).await;
    table.append(visits(280..360, &["hmo"]));
    read(&acme, &table).await;
    for version in 0..gone {
        std::fs::remove_file(table.commit_path(version)).unwrap();
    }
    let with_new = grouped(&server, scope).await;
    server.app.pass(86_400 + 1);
    service.materializer.forget_groups().await.unwrap();
    assert_eq!(grouped(&server, scope).await, with_new - before);
    // What is served is mixed as it was.
    let after = ids(&read(&acme, &table).await);
    let stays = |files: &BTreeMap<String, Vec<i64>>| files.iter().all(|(id, rows)| after.get(id) == Some(rows));
    assert!(stays(&kept) && !stays(&old));
}

async fn groups_go_with_the_last_view_that_uses_them(server: WeirServer) {
    let (table, view) = shared(&server, &["zregion"]).await;
    let acme = server.connector("acme", json!({})).await;
    read(&acme, &table).await;
    let scope = scope(&server).await;
    server.app.service.materializer.forget_groups().await.unwrap();
    assert!(grouped(&server, scope).await > 0, "{view} is there");
    server.app.execute("DELETE FROM objects").await;
    server.app.execute("DELETE FROM views").await;
    server.app.pass(60);
    server.app.service.materializer.forget_groups().await.unwrap();
    assert_eq!(grouped(&server, scope).await, 0);
    assert!(server.app.service.core.db.list_unused_scopes(10).await.unwrap().is_empty());
}
