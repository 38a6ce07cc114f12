//! Views, and their published versions, which never change.

use serde_json::json;
use uuid::Uuid;
use weir::{
    domain::{
        catalog::{
            table::Table,
            view::{Layout, View, ViewSource, ViewSpec, ViewVersion},
        },
        core::name::{Name, NameKind},
    },
    store::{Constraint, Db, StoreError},
};

use super::samples::{days, now, table};
use crate::support::postgres::TestDatabase;

fn view(name: &str, table: &Table) -> View {
    let column = json!([{"name": "who", "from": "name", "mask": {"partial": {"first": 1, "last": 1}}}]);
    View {
        id: Uuid::now_v7(),
        name: Name::parse(NameKind::View, name).unwrap(),
        table_id: table.id,
        spec: ViewSpec {
            source: ViewSource { table: table.name.to_string() },
            columns: serde_json::from_value(column).unwrap(),
            row_filter: Some("plan = 'gold'".into()),
            layout: Some(Layout::Mixed),
            description: Some("ü".into()),
        },
        is_draft: true,
        created_at: now(),
        updated_at: now(),
        revision: 1,
    }
}

fn version(view: &View, version: i64) -> ViewVersion {
    ViewVersion {
        view_id: view.id,
        version,
        definition: format!("{{\"version\":{version}}}"),
        published_by: "ann".into(),
        published_at: days(version),
    }
}

/// A table, and views over it of these names.
async fn keep(db: &Db, names: &[&str]) -> (Table, Vec<View>) {
    let table = table("claims.claims");
    let views: Vec<View> = names.iter().map(|name| view(name, &table)).collect();
    let mut tx = db.begin().await.unwrap();
    tx.insert_table(&table).await.unwrap();
    for view in &views {
        tx.insert_view(view).await.unwrap();
    }
    tx.commit().await.unwrap();
    (table, views)
}

#[tokio::test]
async fn a_view_comes_back_with_its_source_as_it_was_kept() {
    for db in TestDatabase::each().await {
        let (table, mut views) = keep(&db, &["claims.Some", "claims.other"]).await;
        let (other, some) = (views.pop().unwrap(), views.pop().unwrap());
        let found = (some.clone(), table.clone());
        assert_eq!(db.find_view(some.name.key()).await.unwrap(), Some(found.clone()));
        assert_eq!(db.find_view_by_id(some.id).await.unwrap(), Some(found.clone()));
        assert_eq!(db.find_view("claims.none").await.unwrap(), None);
        assert_eq!(db.list_views(None, 10).await.unwrap(), [(other.clone(), table.clone()), found.clone()]);
        assert_eq!(db.list_views(Some(other.name.key()), 10).await.unwrap(), [found]);
        assert_eq!(db.list_views_of_table(table.id, 1).await.unwrap(), ["claims.other"]);
        assert!(db.list_views_of_table(Uuid::nil(), 9).await.unwrap().is_empty());
        let mut tx = db.begin().await.unwrap();
        let twice = tx.insert_view(&view("CLAIMS.some", &table)).await;
        assert!(matches!(twice, Err(StoreError::Conflict(Constraint::ViewName))), "{twice:?}");
    }
}

#[tokio::test]
async fn a_view_changes_and_goes_only_as_it_was_seen() {
    for db in TestDatabase::each().await {
        let (table, mut views) = keep(&db, &["claims.some"]).await;
        let view = views.pop().unwrap();
        let changed = View {
            spec: ViewSpec { row_filter: None, ..view.spec.clone() },
            is_draft: false,
            updated_at: days(1),
            ..view.clone()
        };
        let mut tx = db.begin().await.unwrap();
        let kept = tx.update_view(changed.clone()).await.unwrap();
        assert_eq!(kept, View { revision: 2, ..changed.clone() });
        assert!(matches!(tx.update_view(changed).await, Err(StoreError::Stale)));
        tx.insert_view_version(&version(&view, 1)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.find_view_by_id(view.id).await.unwrap(), Some((kept, table)));
        let mut tx = db.begin().await.unwrap();
        assert!(matches!(tx.delete_view(view.id, 1).await, Err(StoreError::Stale)));
        tx.delete_view(view.id, 2).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.find_view_by_id(view.id).await.unwrap(), None);
        assert_eq!(db.find_view_version(view.id, 1).await.unwrap(), None, "its versions go with it");
    }
}

#[tokio::test]
async fn versions_are_listed_of_each_view_the_newest_first() {
    for db in TestDatabase::each().await {
        let (_, views) = keep(&db, &["a.a", "b.b", "c.c"]).await;
        let mut tx = db.begin().await.unwrap();
        for (view, count) in views.iter().zip([3, 1, 0]) {
            for number in 1..=count {
                tx.insert_view_version(&version(view, number)).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
        let ids: Vec<Uuid> = views.iter().map(|view| view.id).collect();
        let listed = db.list_view_versions(&ids, 2).await.unwrap();
        let of = |view: &View| listed.iter().filter(|v| v.view_id == view.id).cloned().collect::<Vec<_>>();
        assert_eq!(of(&views[0]), [version(&views[0], 3), version(&views[0], 2)]);
        assert_eq!(of(&views[1]), [version(&views[1], 1)]);
        assert_eq!(listed.len(), 3);
        assert_eq!(db.list_view_versions(&[], 2).await.unwrap(), []);
        assert_eq!(db.find_view_version(ids[0], 2).await.unwrap(), Some(version(&views[0], 2)));
        assert_eq!(db.find_view_version(ids[0], 4).await.unwrap(), None);
        let mut tx = db.begin().await.unwrap();
        assert!(tx.insert_view_version(&version(&views[0], 3)).await.is_err(), "what is published stays");
    }
}
