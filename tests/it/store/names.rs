//! Case-insensitive names, their conflicts, and listings that neither skip nor repeat.

use weir::{
    domain::core::name::name_key,
    store::{Constraint, StoreError, Tx},
};

use crate::support::postgres::TestDatabase;

use super::samples::{object, recipient, share, table};

#[tokio::test]
async fn names_are_found_without_case_and_answered_as_created() {
    for db in TestDatabase::each().await {
        let share = share("Straße-Σ");
        let mut tx = db.begin().await.unwrap();
        tx.insert_declared(&share).await.unwrap();
        tx.commit().await.unwrap();
        for spelling in ["straße-σ", "STRASSE-Σ", "strasse-ς"] {
            let found = db.find_share(&name_key(spelling)).await.unwrap().unwrap();
            assert_eq!(found.name.as_str(), "Straße-Σ");
        }
        assert_eq!(db.find_share(&name_key("strase-σ")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_same_name_in_another_spelling_is_a_conflict_that_is_named() {
    for db in TestDatabase::each().await {
        let (a_table, a_share) = (table("Claims.Claims"), share("Claims"));
        let mut tx = db.begin().await.unwrap();
        tx.insert_table(&a_table).await.unwrap();
        tx.insert_declared(&a_share).await.unwrap();
        tx.insert_object(&object(&a_share, "Main", "Claims", &a_table)).await.unwrap();
        tx.insert_recipient(&recipient("Acme")).await.unwrap();
        tx.commit().await.unwrap();

        for expected in
            [Constraint::TableName, Constraint::ShareName, Constraint::RecipientName, Constraint::ObjectName]
        {
            let mut tx = db.begin().await.unwrap();
            let result = match expected {
                Constraint::TableName => tx.insert_table(&table("claims.CLAIMS")).await,
                Constraint::ShareName => tx.insert_declared(&share("CLAIMS")).await,
                Constraint::RecipientName => tx.insert_recipient(&recipient("ACME")).await,
                _ => tx.insert_object(&object(&a_share, "MAIN", "CLAIMS", &a_table)).await,
            };
            assert!(matches!(result, Err(StoreError::Conflict(found)) if found == expected), "{result:?}");
        }
    }
}

async fn insert_shares(tx: &mut Tx, names: &[&str]) {
    for name in names {
        tx.insert_declared(&share(name)).await.unwrap();
    }
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_names_are_inserted() {
    for db in TestDatabase::each().await {
        let mut tx = db.begin().await.unwrap();
        insert_shares(&mut tx, &["b", "D", "f", "É", "_x", "Z", "a.b"]).await;
        tx.commit().await.unwrap();
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = db.list_shares(after.as_deref(), 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.name.key().to_owned());
            seen.extend(page.iter().map(|share| share.name.as_str().to_owned()));
            if seen.len() == 2 {
                let mut tx = db.begin().await.unwrap();
                insert_shares(&mut tx, &["A", "c"]).await;
                tx.commit().await.unwrap();
            }
        }
        // Ordered by the bytes of the keys, whatever the database's collation; rows added after the first page are
        // included.
        assert_eq!(seen, ["_x", "a.b", "b", "c", "D", "f", "Z", "É"]);
    }
}

#[tokio::test]
async fn tables_and_recipients_page_like_shares() {
    for db in TestDatabase::each().await {
        let mut tx = db.begin().await.unwrap();
        for name in ["b", "A", "c"] {
            tx.insert_table(&table(name)).await.unwrap();
            tx.insert_recipient(&recipient(name)).await.unwrap();
        }
        tx.commit().await.unwrap();
        let tables = db.list_tables(Some("a"), 10).await.unwrap();
        assert_eq!(tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        let recipients = db.list_recipients(None, 2).await.unwrap();
        assert_eq!(recipients.iter().map(|recipient| recipient.name.as_str()).collect::<Vec<_>>(), ["A", "b"]);
    }
}

#[tokio::test]
async fn objects_page_by_schema_and_name_and_schemas_by_name() {
    for db in TestDatabase::each().await {
        let (table, share, other) = (table("t"), share("s"), share("o"));
        let mut tx = db.begin().await.unwrap();
        tx.insert_table(&table).await.unwrap();
        tx.insert_declared(&share).await.unwrap();
        tx.insert_declared(&other).await.unwrap();
        for (schema, name) in [("b", "z"), ("a", "y"), ("B", "a"), ("c", "m"), ("a", "x")] {
            tx.insert_object(&object(&share, schema, name, &table)).await.unwrap();
        }
        tx.insert_object(&object(&other, "zz", "n", &table)).await.unwrap();
        tx.commit().await.unwrap();

        let (mut seen, mut after) = (Vec::new(), None::<(String, String)>);
        loop {
            let behind = after.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str()));
            let page = db.list_objects(share.id, None, behind, 2).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some((last.schema.key().to_owned(), last.name.key().to_owned()));
            seen.extend(page.into_iter().map(|(object, _)| format!("{}.{}", object.schema, object.name)));
        }
        assert_eq!(seen, ["a.x", "a.y", "B.a", "b.z", "c.m"]);
        let of_b = db.list_objects(share.id, Some("b"), Some(("b", "a")), 10).await.unwrap();
        assert_eq!(of_b.iter().map(|(object, _)| object.name.as_str()).collect::<Vec<_>>(), ["z"]);

        let schemas = db.list_schemas(share.id, None, 2).await.unwrap();
        assert_eq!(schemas.iter().map(|name| name.key()).collect::<Vec<_>>(), ["a", "b"]);
        let schemas = db.list_schemas(share.id, Some("b"), 2).await.unwrap();
        assert_eq!(schemas.iter().map(|name| name.key()).collect::<Vec<_>>(), ["c"]);
    }
}
