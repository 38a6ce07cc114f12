//! Controls by class in the bytes: a stricter one holds at the next read on every server, and a weaker one waits.

use std::collections::BTreeSet;

use arrow::{
    array::{Array, StringArray},
    compute::cast,
    datatypes::DataType,
};
use bytes::Bytes;
use http::Method;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::catalog::controls::{ROWS, classify, confirmed, lay};

use super::{
    connector::{Connector, Received, TableRead, newest},
    weir_server::{SHARE, SHOWN, TABLE, VIEW, WeirServer, everywhere},
};

everywhere!(
    a_stricter_control_holds_at_the_next_read_and_looser_copies_are_gone,
    a_class_confirmed_on_one_server_is_masked_by_the_other_at_once,
    a_weaker_mask_waits_for_a_publication_unless_its_author_takes_it_back,
);

/// The values of a text column in every file of the newest version.
async fn values(connector: &Connector<'_>, column: &str) -> BTreeSet<Option<String>> {
    let mut values = BTreeSet::new();
    for file in connector.read(connector.first_way(), newest()).await.files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.bytes)).unwrap().build().unwrap();
        for batch in reader {
            let batch = batch.unwrap();
            let column = cast(batch.column_by_name(column).unwrap(), &DataType::Utf8);
            let column = column.unwrap();
            let texts = column.as_any().downcast_ref::<StringArray>().unwrap();
            values.extend(texts.iter().map(|text| text.map(str::to_owned)));
        }
    }
    values
}

/// The table of people under the names that views' tests use, with a view that shows members and ZIP codes as they are.
async fn governed(server: &WeirServer) -> Connector<'_> {
    lay(&server.app, "zsourcefolder");
    server.register().await;
    let view =
        server.publish(&json!([{"name": "id"}, {"name": "member"}, {"name": "zip"}, {"name": "age"}]), None).await;
    server.share(&view).await;
    server.connector("acme", json!({})).await
}

fn only(text: Option<&str>) -> BTreeSet<Option<String>> {
    BTreeSet::from([text.map(str::to_owned)])
}

async fn a_stricter_control_holds_at_the_next_read_and_looser_copies_are_gone(server: WeirServer) {
    let acme = governed(&server).await;
    confirmed(&server.app, TABLE).await;
    assert!(values(&acme, "member").await.contains(&Some("member-7".into())));
    let before = acme.read(acme.first_way(), newest()).await;
    let looser = server.objects().await;
    server.app.put("/controls/PHI", json!({"default_mask": {"direct": "hash", "quasi": "zip3"}})).await.expect(201);
    let hashed = values(&acme, "member").await;
    assert!(
        hashed.len() == usize::try_from(ROWS).unwrap() && hashed.iter().flatten().all(|text| text.starts_with('h'))
    );
    assert!(values(&acme, "zip").await.iter().flatten().all(|text| text.len() == 3));
    assert_eq!(values(&acme, "age").await.len(), usize::try_from(ROWS).unwrap(), "its role asks for no mask");
    let after = acme.read(acme.first_way(), newest()).await;
    assert_ne!(before.metadata["id"], after.metadata["id"], "streams begin again");
    assert_eq!(before.metadata["schemaString"], after.metadata["schemaString"], "no type changes");
    // A file of before is not handed out again, and is deleted with the next round.
    if !before.way.is_presigned {
        assert_eq!(acme.fetch(&before.files[0].url).await.status, 403);
    }
    server.app.service.materializer.keep_copies().await.unwrap();
    let left = server.objects().await;
    assert!(looser.iter().all(|key| !left.contains(key)), "{looser:?} {left:?}");
    server.app.patch("/controls/PHI", json!({"min_mask": {"direct": "redact"}})).await.expect(200);
    assert_eq!(values(&acme, "member").await, only(Some("REDACTED")));
    // A number has no redacted text, so that nothing of it is shown.
    classify(&server.app, TABLE, "age", json!({"class": "PHI", "role": "direct"})).await;
    assert_eq!(values(&acme, "age").await, only(None));
}

async fn a_class_confirmed_on_one_server_is_masked_by_the_other_at_once(server: WeirServer) {
    let acme = governed(&server).await;
    server.app.put("/controls/PII", json!({"default_mask": {"direct": "redact"}})).await.expect(201);
    server.app.post(&format!("/tables/{TABLE}/scan"), json!({})).await.expect(200);
    let other = server.app.replica(None);
    let way = acme.first_way();
    let id = |answer: &Received| {
        let read = TableRead::parse(way, answer);
        read.metadata["id"].clone()
    };
    let before = id(&acme.query_at(&other, way, newest()).await);
    classify(&server.app, TABLE, "member", json!({"class": "PII", "role": "direct"})).await;
    let answer = acme.query_at(&other, way, newest()).await;
    assert_ne!(id(&answer), before);
    assert_eq!(values(&acme, "member").await, only(Some("REDACTED")));
}

async fn a_weaker_mask_waits_for_a_publication_unless_its_author_takes_it_back(server: WeirServer) {
    let acme = governed(&server).await;
    let app = &server.app;
    let admin = app.operator("anna", "admin").await;
    let carl = {
        app.admin_as(&admin, Method::PUT, "/operators/carl", Some(&json!({"role": "compliance"}))).await.expect(201);
        let issued = app.admin_as(&admin, Method::POST, "/operators/carl/tokens", Some(&json!({}))).await.expect(201);
        issued["token"].as_str().unwrap().to_owned()
    };
    let by = async |token: &str, method: Method, path: &str, body: Value| {
        app.admin_as(token, method, path, Some(&body)).await
    };
    by(&admin, Method::POST, &format!("/tables/{TABLE}/scan"), json!({})).await.expect(200);
    let member = format!("/tables/{TABLE}/columns/member");
    by(&admin, Method::PATCH, &member, json!({"class": "PHI", "role": "direct"})).await.expect(200);
    let plain = values(&acme, "member").await;
    // Whoever tightened may take back just that, within a day.
    by(&carl, Method::PUT, "/controls/PHI", json!({"min_mask": {"direct": "redact"}})).await.expect(201);
    assert_eq!(values(&acme, "member").await, only(Some("REDACTED")));
    by(&carl, Method::PATCH, "/controls/PHI", json!({"min_mask": null})).await.expect(200);
    assert_eq!(values(&acme, "member").await, plain);
    // Somebody else may not.
    by(&carl, Method::PATCH, "/controls/PHI", json!({"min_mask": {"direct": "redact"}})).await.expect(200);
    by(&admin, Method::PATCH, "/controls/PHI", json!({"min_mask": null})).await.expect(200);
    assert_eq!(values(&acme, "member").await, only(Some("REDACTED")));
    // Nor does another class for the column show more, until the view is shared in another version.
    by(&admin, Method::PATCH, &member, json!({"class": "internal", "role": "none"})).await.expect(200);
    assert_eq!(values(&acme, "member").await, only(Some("REDACTED")));
    // Taking the object away and putting it again is no publication either.
    let object = |name: &str| format!("/shares/{SHARE}/objects/s/{name}");
    let again = app.admin_as(&admin, Method::GET, &object(SHOWN), None).await.expect(200);
    app.admin_as(&admin, Method::DELETE, &object(SHOWN), None).await.expect(204);
    let body = json!({"source": again["source"], "history": true, "start_version": 0, "delivery": again["delivery"]});
    by(&admin, Method::PUT, &object(SHOWN), body).await.expect(201);
    assert_eq!(values(&acme, "member").await, only(Some("REDACTED")));
    let columns = json!([{"name": "id"}, {"name": "member"}, {"name": "zip"}]);
    by(&admin, Method::PATCH, &format!("/views/{VIEW}"), json!({"columns": columns})).await.expect(200);
    let published = by(&admin, Method::POST, &format!("/views/{VIEW}/publish"), json!({})).await.expect(201);
    let source = json!({"source": {"view": published["view"]}});
    by(&admin, Method::PATCH, &object(SHOWN), source).await.expect(200);
    assert_eq!(values(&acme, "member").await, plain);
}
