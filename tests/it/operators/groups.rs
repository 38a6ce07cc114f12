//! Groups of principals.

use http::Method;
use serde_json::{Value, json};
use weir::store::Db;

use crate::support::{
    app::{TestApp, fields, on_both_databases},
    issuer::{OPERATORS, TestIssuer},
};

on_both_databases!(
    a_group_is_put_read_changed_listed_and_deleted,
    members_have_the_roles_of_their_groups_while_they_are_in_them,
    a_member_is_there_and_stays_until_it_is_taken_out,
    a_group_that_ends_counts_for_what_waits_for_its_turn,
    an_admin_by_a_group_alone_is_not_the_last_one,
    only_the_groups_that_somebody_is_in_are_read,
    groups_of_before_are_found_by_their_members,
);

async fn a_group_is_put_read_changed_listed_and_deleted(app: TestApp) {
    app.put("/operators/ann", json!({"role": "support"})).await.expect(201);
    let spec = json!({"members": ["Ann"], "bindings": [{"role": "owner", "scope": "share:s"}]});
    let put = app.put("/groups/team", spec.clone()).await.expect(201);
    assert_eq!((&put["members"], &put["bindings"]), (&spec["members"], &spec["bindings"]));
    assert_eq!(app.put("/groups/TEAM", spec).await.expect(200), put);
    let other = app.put("/groups/team", json!({"members": []})).await.problem(409, "conflict");
    assert_eq!(fields(&other), ["members"]);
    app.patch("/groups/team?dry_run=true", json!({"members": []})).await.expect(200);
    let changed = app.patch("/groups/team", json!({"description": "the team"})).await.expect(200);
    assert_eq!((&changed["members"], &changed["description"]), (&put["members"], &json!("the team")));
    assert_eq!(app.get("/groups/team").await.expect(200), changed);
    assert_eq!(app.get("/groups").await.expect(200)["items"], json!([changed]));
    let stale = [("if-match", put["etag"].as_str().unwrap())];
    app.admin_with(Method::DELETE, "/groups/team", &stale, None).await.problem(412, "precondition_failed");
    for (body, field) in [
        (json!({"members": ["nobody"]}), "members[0]"),
        (json!({"members": ["ann", "a/b"]}), "members[1]"),
        (json!({"bindings": [{"role": "root", "scope": "*"}]}), "bindings[0].role"),
        (json!({"bindings": [{"role": "owner", "scope": "x"}]}), "bindings[0].scope"),
        (json!({"leader": "ann"}), "leader"),
    ] {
        let problem = app.put("/groups/new", body).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [field]);
    }
    app.delete("/groups/team").await.expect(204);
    app.get("/groups/team").await.problem(404, "not_found");
    assert_eq!(app.events("group.update").await[0]["change"]["after"], json!({"description": "the team"}));
    assert_eq!((app.events("group.create").await.len(), app.events("group.delete").await.len()), (1, 1));
    for (role, reads, writes) in [("auditor", 200, 403), ("compliance", 200, 403), ("owner", 403, 403)] {
        let token = app.operator(role, role).await;
        assert_eq!(app.admin_as(&token, Method::GET, "/groups", None).await.status, reads, "{role}");
        let put = app.admin_as(&token, Method::PUT, "/groups/mine", Some(&json!({"members": [role]}))).await;
        assert_eq!(put.status, writes, "{role}");
    }
}

async fn members_have_the_roles_of_their_groups_while_they_are_in_them(app: TestApp) {
    app.put("/operators/ann", json!({"bindings": []})).await.expect(201);
    let ann = app.post("/operators/ann/tokens", json!({})).await.expect(201)["token"].as_str().unwrap().to_owned();
    let put = async |share: &str| {
        app.admin_as(&ann, Method::PUT, &format!("/shares/{share}"), Some(&json!({}))).await.status.as_u16()
    };
    assert_eq!(put("s").await, 403);
    let bindings = json!([{"role": "owner", "scope": "share:s"}]);
    app.put("/groups/one", json!({"members": ["ann"], "bindings": bindings})).await.expect(201);
    assert_eq!((put("s").await, put("t").await), (201, 403));
    let event = &app.events("share.create").await[0];
    assert_eq!((&event["actor"]["name"], &event["actor"]["role"]), (&json!("ann"), &json!("owner")));
    app.put("/groups/two", json!({"members": ["ann"], "bindings": [{"role": "auditor", "scope": "*"}]}))
        .await
        .expect(201);
    app.admin_as(&ann, Method::GET, "/audit", None).await.expect(200);
    let me = app.admin_as(&ann, Method::GET, "/whoami", None).await.expect(200);
    assert_eq!(me["bindings"], json!([{"role": "owner", "scope": "share:s"}, {"role": "auditor", "scope": "*"}]));
    app.patch("/groups/one", json!({"bindings": [{"role": "owner", "scope": "share:t"}]})).await.expect(200);
    assert_eq!((put("s").await, put("t").await), (403, 201));
    app.patch("/groups/one", json!({"members": []})).await.expect(200);
    assert_eq!((put("s").await, put("t").await), (403, 403));
    app.delete("/groups/two").await.expect(204);
    app.admin_as(&ann, Method::GET, "/audit", None).await.problem(403, "forbidden");
}

async fn a_member_is_there_and_stays_until_it_is_taken_out(app: TestApp) {
    app.put("/operators/ann", json!({"role": "support"})).await.expect(201);
    app.put("/groups/team", json!({"members": ["ann"]})).await.expect(201);
    let used = app.delete("/operators/ann").await.problem(409, "conflict");
    assert!(used["detail"].as_str().unwrap().contains("`team`"), "{used}");
    app.patch("/groups/team", json!({"members": null})).await.expect(200);
    app.delete("/operators/ann").await.expect(204);
}

async fn a_group_that_ends_counts_for_what_waits_for_its_turn(app: TestApp) {
    use weir::{domain::catalog::share::ShareSpec, service::core::change::Named};
    app.put("/operators/ann", json!({"bindings": []})).await.expect(201);
    let ann = app.post("/operators/ann/tokens", json!({})).await.expect(201)["token"].as_str().unwrap().to_owned();
    let bindings = json!([{"role": "owner", "scope": "*"}]);
    app.put("/groups/team", json!({"members": ["ann"], "bindings": bindings})).await.expect(201);
    let ctx = app.service.operators.admit_operator(Some(&ann), &super::asked_to_put_a_share()).await.unwrap();
    app.service.core.put_declared::<ShareSpec>(&ctx, "s", &Named::new()).await.unwrap();
    app.delete("/groups/team").await.expect(204);
    app.service.core.put_declared::<ShareSpec>(&ctx, "t", &Named::new()).await.unwrap_err();
}

async fn an_admin_by_a_group_alone_is_not_the_last_one(app: TestApp) {
    let bob = {
        app.put("/operators/bob", json!({"bindings": []})).await.expect(201);
        app.post("/operators/bob/tokens", json!({})).await.expect(201)["token"].as_str().unwrap().to_owned()
    };
    let admins = json!({"members": ["bob"], "bindings": [{"role": "admin", "scope": "*"}]});
    app.put("/groups/admins", admins).await.expect(201);
    // The bootstrap token goes on: nobody is an admin for good.
    app.get("/whoami").await.expect(200);
    let ann = app.operator("ann", "admin").await;
    let by = async |token: &str, body: Value| {
        app.admin_as(token, Method::PATCH, "/operators/ann", Some(&body)).await.problem(409, "conflict")
    };
    by(&ann, json!({"role": "support"})).await;
    by(&bob, json!({"role": "support"})).await;
}

async fn only_the_groups_that_somebody_is_in_are_read(app: TestApp) {
    let mut tokens = Vec::new();
    for path in ["/operators/ann", "/operators/bob", "/operators/%C3%9Cna"] {
        app.put(path, json!({"bindings": []})).await.expect(201);
        let issued = app.post(&format!("{path}/tokens"), json!({})).await.expect(201);
        tokens.push(issued["token"].as_str().unwrap().to_owned());
    }
    let [ann, bob, una] = tokens.try_into().unwrap();
    let bindings = json!([{"role": "owner", "scope": "share:s"}]);
    for (group, members) in [("mine", ["ANN", "\u{fc}NA"]), ("other", ["bob", "bob"]), ("both", ["ann", "bob"])] {
        app.put(&format!("/groups/{group}"), json!({"members": members, "bindings": bindings})).await.expect(201);
    }
    for n in 0..50 {
        app.put(&format!("/groups/others-{n}"), json!({"members": ["bob"]})).await.expect(201);
    }
    app.patch("/groups/both", json!({"members": ["bob"]})).await.expect(200);
    let found = async |member: &str| {
        let groups = app.service.core.db.list_groups_of(member).await.unwrap();
        groups.into_iter().map(|group| group.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((found("ann").await, found("\u{fc}na").await), (vec!["mine".to_owned()], vec!["mine".to_owned()]));
    assert_eq!(found("bob").await.len(), 52);
    // Whatever of the others is read fails.
    app.execute("UPDATE operator_groups SET spec = 'unreadable' WHERE name <> 'mine'").await;
    let put = async |token: &str| app.admin_as(token, Method::PUT, "/shares/s", Some(&json!({}))).await;
    put(&ann).await.expect(201);
    put(&una).await.expect(200);
    put(&bob).await.problem(500, "internal");
    app.delete("/operators/ann").await.problem(409, "conflict");
}

/// As the migration leaves them.
async fn groups_of_before_are_found_by_their_members(app: TestApp) {
    const SQLITE: &str = include_str!("../../../migrations/sqlite/0031_group_members.sql");
    const POSTGRES: &str = include_str!("../../../migrations/postgres/0031_group_members.sql");
    app.put("/operators/ann", json!({"bindings": []})).await.expect(201);
    let ann = app.post("/operators/ann/tokens", json!({})).await.expect(201)["token"].as_str().unwrap().to_owned();
    let spec = json!({"members": ["Ann", "ANN"], "bindings": [{"role": "auditor", "scope": "*"}]});
    app.put("/groups/one", spec).await.expect(201);
    app.put("/groups/none", json!({})).await.expect(201);
    let get = async || app.admin_as(&ann, Method::GET, "/audit", None).await;
    get().await.expect(200);
    app.execute("DELETE FROM operator_group_members").await;
    get().await.problem(403, "forbidden");
    let migration = match &app.service.core.db {
        Db::Sqlite { .. } => SQLITE,
        Db::Postgres { .. } => POSTGRES,
    };
    app.execute(&migration[migration.find("INSERT INTO").unwrap()..]).await;
    get().await.expect(200);
}

#[tokio::test]
async fn those_who_sign_in_by_an_issuer_are_members_by_their_id() {
    let issuer = TestIssuer::start();
    for app in TestApp::each(|settings| issuer.introduce(settings)).await {
        let claims = json!({"aud": OPERATORS, "sub": "u-1", "groups": "strangers"});
        let token = issuer.token(app.now(), claims);
        let get = async |path: &str| app.admin_as(&token, Method::GET, path, None).await;
        get("/whoami").await.problem(403, "forbidden");
        let id = app.events("auth.failed").await[0]["actor"]["id"].clone();
        let bindings = json!([{"role": "support", "scope": "*"}]);
        app.put("/groups/desk", json!({"members": [id], "bindings": bindings})).await.expect(201);
        let me = get("/whoami").await.expect(200);
        assert_eq!((&me["id"], &me["role"], &me["bindings"]), (&id, &json!("support"), &bindings));
        assert_eq!(app.get("/operator-identities").await.expect(200)["items"][0]["id"], id);
        get("/shares").await.expect(200);
        get("/audit").await.problem(403, "forbidden");
        // An operator who takes the id for a name is somebody else.
        let name = format!("/operators/{}", id.as_str().unwrap());
        app.put(&name, json!({"bindings": []})).await.expect(201);
        let issued = app.post(&format!("{name}/tokens"), json!({})).await.expect(201);
        let other = issued["token"].as_str().unwrap();
        app.admin_as(other, Method::GET, "/shares", None).await.problem(403, "forbidden");
        app.delete("/groups/desk").await.expect(204);
        get("/shares").await.problem(403, "forbidden");
    }
}
