//! The words of events: the documentation and the API's document list those that servers write, and what else the trail
//! holds is read as it is.

use serde_json::{Value, json};
use weir::{
    domain::{
        access::{purpose::Purpose, recipient::Recipient},
        audit::{
            action::{Action, Kind},
            canonical, link_hash, timestamp,
        },
        catalog::{share::Share, table::Table, view::View},
        core::{declared::Resource, spec::Effect, word::Words},
        operators::{Operator, group::Group},
    },
    http::admin::document,
    service::audit::verify::{Since, verify_database},
    store::{Derived, StoredEvent},
};

use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(
    an_event_of_reading_names_the_object_and_the_registered_table,
    changes_say_what_they_mean_for_readers,
    what_a_newer_server_wrote_is_read_as_its_words,
);

const PAGE: &str = include_str!("../../../docs/audit.md");

/// The rows of the documentation's table with this heading: the word in the first cell, and the last cell.
fn rows(heading: &str) -> Vec<(&'static str, &'static str)> {
    let table = PAGE.split_once(heading).unwrap().1.split("\n\n").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        (cells[0].trim_matches('`'), *cells.last().unwrap())
    })
    .collect()
}

/// The words that the API's document lists for a schema.
fn documented(schema: &str) -> Vec<String> {
    let document = serde_json::to_value(document()).unwrap();
    let listed = &document["components"]["schemas"][schema]["anyOf"];
    assert_eq!(listed[1], json!({"type": "string"}), "readers take any word");
    listed[0]["enum"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_documentation_lists_every_action_with_what_it_means() {
    let actions: Vec<&str> = Action::ALL.iter().map(|(_, action)| action.as_str()).collect();
    assert_eq!(documented("AuditAction"), actions);
    let listed = rows("| action | what | effect |");
    assert_eq!(listed.iter().map(|(word, _)| *word).collect::<Vec<_>>(), actions);
    // Those that change a spec say themselves what they mean.
    let specs = [
        Recipient::KIND,
        Table::KIND,
        Share::KIND,
        Kind::Object,
        View::KIND,
        Purpose::KIND,
        Operator::KIND,
        Group::KIND,
        Kind::Agreement,
        Kind::UseCase,
        Kind::Control,
        Kind::Exception,
        Kind::Domain,
        Kind::Column,
    ];
    let by_fields = specs.map(|kind| format!("{kind}.update"));
    for (word, effect) in &listed {
        let is_by_fields = by_fields.iter().any(|update| update == word);
        let known = Action::parse(word).unwrap().effect().map_or("", Effect::as_str);
        assert_eq!(*effect, if is_by_fields { "by its fields" } else { known }, "{word}");
    }
    assert!(by_fields.iter().all(|update| listed.iter().any(|(word, _)| word == update)), "{by_fields:?}");
}

#[test]
fn the_documentation_lists_every_kind_of_thing() {
    let kinds: Vec<&str> = Kind::ALL.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(documented("AuditObjectKind"), kinds);
    assert_eq!(rows("| kind | what |").iter().map(|(word, _)| *word).collect::<Vec<_>>(), kinds);
}

async fn an_event_of_reading_names_the_object_and_the_registered_table(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    app.shared(&token, "/shares/insurer/schemas/claims/tables/claims/version").await;
    app.shared(&token, "/shares/other/schemas/claims/tables/claims/version").await;
    let object = app.get("/shares/insurer/objects/claims/claims").await.expect(200)["id"].clone();
    let table = app.get("/tables/claims.claims").await.expect(200)["id"].clone();

    let read = app.events("table.version").await;
    assert_eq!(read[1]["object"], json!({"kind": "object", "id": object, "name": "claims"}));
    let names = ["share", "schema", "table"].map(|name| read[1][name].as_str().unwrap());
    assert_eq!(names, ["insurer", "claims", "claims"]);
    assert_eq!(read[0]["object"], json!({"kind": "object"}), "what is not there has no name");
    let shared = app.events("object.create").await;
    assert_eq!((&shared[0]["object"]["kind"], &shared[0]["object"]["id"]), (&json!("object"), &object));
    for event in [&read[1], &shared[0]] {
        assert_eq!((&event["object_id"], &event["table_id"]), (&object, &table), "{event}");
        assert_eq!(event["registered_table"], "claims.claims");
    }
    let registered = app.events("table.create").await;
    assert_eq!(registered[0]["object"], json!({"kind": "table", "id": table, "name": "claims.claims"}));
    assert_eq!((&registered[0]["table_id"], &registered[0]["object_id"]), (&table, &Value::Null));

    let about = async |query: &str| -> Vec<String> {
        let page = app.get(&format!("/audit?order=asc&{query}")).await.expect(200);
        page["items"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap().to_owned()).collect()
    };
    let of_object = ["object.create", "table.version"];
    let id = object.as_str().unwrap();
    for query in [
        "share=insurer&object=claims.claims".to_owned(),
        "share=insurer&table=claims.claims".to_owned(),
        format!("object={id}"),
        format!("table={id}"),
    ] {
        assert_eq!(about(&query).await, of_object, "{query}");
    }
    let of_table = ["table.create", "object.create", "table.version"];
    for query in ["table=claims.claims".to_owned(), format!("table={}", table.as_str().unwrap())] {
        assert_eq!(about(&query).await, of_table, "{query}");
    }
    app.get(&format!("/audit?table={id}&object={id}")).await.problem(400, "invalid_parameter");
    app.get("/audit?object=claims.claims").await.problem(400, "invalid_parameter");
    app.get("/audit?table=no.such").await.problem(400, "invalid_parameter");
}

async fn changes_say_what_they_mean_for_readers(app: TestApp) {
    app.share_claims().await;
    let grant = app.grant_acme().await;
    let token = app.token_for_acme().await["id"].as_str().unwrap().to_owned();
    let patch = async |path: &str, body: Value| drop(app.patch(path, body).await.expect(200));
    let post = async |path: &str, body: Value| drop(app.post(path, body).await.expect(200));
    let why = || json!({"reason": "a test"});
    patch("/recipients/acme", json!({"allowed_cidrs": ["192.0.2.0/24"]})).await;
    patch("/recipients/acme", json!({"allowed_cidrs": []})).await;
    patch("/recipients/acme", json!({"legal_name": "Acme Ltd", "delivery": "proxied"})).await;
    // What loosens is not made up for.
    patch("/recipients/acme", json!({"allowed_cidrs": ["192.0.2.0/24"], "delivery": null})).await;
    patch("/recipients/acme", json!({"description": "a partner"})).await;
    post("/recipients/acme/suspend", why()).await;
    post("/recipients/acme/resume", why()).await;
    post(&format!("/recipients/acme/tokens/{token}/revoke"), why()).await;
    post(&format!("/grants/{grant}/revoke"), why()).await;
    post("/freeze", why()).await;
    post("/unfreeze", why()).await;
    app.delete("/shares/insurer/objects/claims/claims").await.expect(204);
    let trail = app.get("/audit?order=asc&max_results=1000").await.expect(200);
    let said: Vec<(&str, Option<&str>)> = trail["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["action"] != "admin.read")
        .map(|event| (event["action"].as_str().unwrap(), event["effect"].as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("table.create", Some("neutral")),
            ("share.create", Some("neutral")),
            ("object.create", Some("loosens")),
            ("recipient.create", Some("neutral")),
            ("grant.create", Some("loosens")),
            ("token.issue", Some("loosens")),
            ("token.reveal", None),
            ("recipient.update", Some("tightens")),
            ("recipient.update", Some("loosens")),
            ("recipient.update", Some("tightens")),
            ("recipient.update", Some("loosens")),
            ("recipient.update", Some("neutral")),
            ("recipient.suspend", Some("tightens")),
            ("recipient.resume", Some("loosens")),
            ("token.revoke", Some("tightens")),
            ("grant.revoke", Some("tightens")),
            ("freeze.create", Some("tightens")),
            ("freeze.lift", Some("loosens")),
            ("object.delete", Some("tightens")),
        ]
    );
}

/// A newer server beside this one has words of its own.
async fn what_a_newer_server_wrote_is_read_as_its_words(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    let event = json!({
        "action": "agreement.activate", "actor": {"kind": "service", "name": "contracts"}, "at": timestamp(app.now()),
        "decision": "allow", "effect": "neutral", "object": {"kind": "agreement", "name": "DPA-7"}, "seq": 2,
    });
    let body = canonical(&event);
    let mut tx = app.service.core.db.begin().await.unwrap();
    let mut head = tx.lock_audit_head().await.unwrap();
    assert_eq!(head.seq, 1);
    let (prev_hash, hash) = (head.hash, link_hash(&head.hash, &body));
    let stored = StoredEvent { seq: 2, prev_hash, hash, body, personal: None };
    let derived = Derived {
        at: app.now(),
        action: "agreement.activate".to_owned(),
        decision: "allow".to_owned(),
        recipient_id: None,
        share_id: None,
        table_id: None,
        object_id: None,
        token_id: None,
        grant_id: None,
        presigned_files: None,
        presigned_until: None,
    };
    tx.take_over_audit(&mut head, &[(stored, derived)]).await.unwrap();
    tx.commit().await.unwrap();

    let found = app.events("agreement.activate").await;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["object"], &found[0]["actor"]), (&event["object"], &event["actor"]));
    app.service.insight.count_usage().await.unwrap();
    let day = app.get("/usage/check").await.expect(200);
    assert_eq!((&day["agrees"], &day["days"][0]["events_in_day"]), (&json!(true), &day["days"][0]["events_in_trail"]));
    let verified = verify_database(&app.service.core.db, &[], Since::Beginning, None, &mut |_| {}).await.unwrap();
    assert!(verified.head.seq >= 2);
}
