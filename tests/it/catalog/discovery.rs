//! Discovery: tables that lie in storages and catalogs.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{AWAY, TestApp, fields, on_both_databases},
    postgres::TestDatabase,
    s3::S3Server,
    tables::{HandWrittenLog, add, metadata, protocol, protocol_with},
    unity::{Manner, UNITY_TOKEN, UnityServer, unity_table},
};

on_both_databases!(
    three_tables_and_a_plain_folder_are_three_drafts,
    what_is_registered_is_marked_and_keeps_its_name,
    a_log_that_cannot_be_read_is_listed_with_the_reason,
    a_thousand_folders_are_searched_in_answers_that_go_on,
    only_who_may_register_everywhere_may_discover,
    a_place_outside_the_storages_is_refused_with_the_key_to_set,
    tables_of_a_unity_catalog_come_with_what_it_says_of_them,
    a_unity_catalog_is_asked_in_answers_that_go_on,
    a_server_that_the_settings_do_not_name_is_sent_nothing,
);

/// Makes three tables, one below another folder, and what is none. A table lies inside another, too.
fn lay(app: &TestApp) {
    app.plain_log("raw/claims");
    HandWrittenLog::plain(&app.folder("raw/claims/part=1")).commit(&[]);
    let mut described = metadata("m", &[("id", "long"), ("plan", "string")], &["plan"]);
    described["metaData"]["description"] = json!("all\nmembers");
    described["metaData"]["configuration"] = json!({"delta.appendOnly": "true", "password": "hunter2"});
    let mut log = HandWrittenLog::create(&app.folder("raw/my members"), protocol(1, 2), described);
    let mut file = add("plan=HMO/a.parquet", 1_000);
    file["add"]["partitionValues"] = json!({"plan": "HMO"});
    log.commit(&[file]);
    HandWrittenLog::create(&app.folder("void"), protocol(1, 2), metadata("v", &[("c", "void")], &[]));
    fs::create_dir_all(app.folder("plain/deep/er")).unwrap();
    fs::write(app.folder("plain/deep/er/x.parquet"), "x").unwrap();
}

async fn discover(app: &TestApp, body: Value) -> Value {
    app.post("/discover", body).await.expect(200)
}

/// All answers about a place, one after the other.
async fn all_pages(app: &TestApp, body: Value) -> Vec<Value> {
    let mut pages: Vec<Value> = Vec::new();
    loop {
        let mut asked = body.clone();
        if let Some(last) = pages.last() {
            asked["page_token"] = last["next_page_token"].clone();
        }
        pages.push(discover(app, asked).await);
        assert!(pages.len() < 100);
        if pages.last().unwrap()["next_page_token"].is_null() {
            return pages;
        }
    }
}

fn names(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

async fn three_tables_and_a_plain_folder_are_three_drafts(app: TestApp) {
    lay(&app);
    let found = discover(&app, json!({"url": app.location("")})).await;
    assert_eq!(
        (&found["complete"], &found["cut"], &found["next_page_token"]),
        (&json!(true), &json!([]), &Value::Null)
    );
    assert_eq!(names(&found), ["raw.claims", "raw.my_members", "void"]);
    let [claims, members, void] = found["items"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!(claims["location"], app.location("raw/claims"));
    assert_eq!(claims["registered_as"], json!([]));
    let registered = app.put("/tables/raw.claims?dry_run=true", claims["draft"]["spec"].clone()).await.expect(200);
    assert_eq!(claims["delta"], registered["delta"], "a draft says what registering says");
    assert_eq!(
        members["draft"],
        json!({"kind": "table", "name": "raw.my_members",
            "spec": {"location": app.location("raw/my members"), "description": "all members"}})
    );
    assert_eq!((&members["size_bytes"], &members["files"], &members["rows"]), (&json!(1_000), &json!(1), &json!(1)));
    assert_eq!((&members["delta"]["version"], &members["delta"]["partition_columns"]), (&json!(1), &json!(["plan"])));
    assert_eq!(members["properties"], json!({"delta.appendOnly": "true"}));
    assert_eq!(void["delta"]["clients"]["spark_delta"], "ok");
    assert!(void["delta"]["clients"]["pandas_delta"].as_str().unwrap().contains("void"));
    assert!(!found.to_string().contains("hunter2"), "{found}");

    // A prefix below, in another spelling, and a table itself.
    let below = app.location("raw").replace("/lake/", "/lake/./");
    assert_eq!(names(&discover(&app, json!({"url": below})).await), ["claims", "my_members"]);
    assert_eq!(names(&discover(&app, json!({"url": app.location("void")})).await), ["void"]);
    assert_eq!(names(&discover(&app, json!({"url": app.location("nowhere")})).await), Vec::<&str>::new());

    // It is recorded, and changes nothing.
    assert_eq!(app.get("/tables").await.expect(200)["items"], json!([]));
    let events = app.events("table.discover").await;
    assert_eq!(events.len(), 4);
    let place = app.location("").trim_end_matches('/').to_owned();
    let told = json!({"after": {"place": place, "tables": 3, "problems": 0, "complete": true}});
    assert_eq!((&events[3]["change"], &events[3]["object"]), (&told, &json!({"kind": "table"})));
    assert!(app.events("table.create").await.is_empty());
    let metrics = app.service.core.metrics.encode().unwrap();
    assert!(metrics.contains("weir_discoveries_total{outcome=\"complete\"} 4"), "{metrics}");
}

async fn what_is_registered_is_marked_and_keeps_its_name(app: TestApp) {
    lay(&app);
    app.put("/tables/void", json!({"location": app.location("raw/claims")})).await.expect(201);
    app.put("/tables/again", json!({"location": app.location("raw/claims")})).await.expect(201);
    let found = discover(&app, json!({"url": app.location("")})).await;
    let [claims, members, void] = found["items"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&claims["name"], &claims["registered_as"]), (&json!("again"), &json!(["again", "void"])));
    assert!(claims["draft"].is_null() && claims["delta"].is_object(), "{claims}");
    assert_eq!((&members["name"], &members["registered_as"]), (&json!("raw.my_members"), &json!([])));
    assert_eq!((&void["name"], &void["draft"]["name"]), (&json!("void_2"), &json!("void_2")), "its own name is taken");
}

async fn a_log_that_cannot_be_read_is_listed_with_the_reason(app: TestApp) {
    lay(&app);
    fs::create_dir_all(app.folder("a-broken/_delta_log")).unwrap();
    fs::write(app.folder("a-broken/_delta_log/00000000000000000000.json"), "{").unwrap();
    fs::create_dir_all(app.folder("an-empty/_delta_log")).unwrap();
    let future = metadata("f", &[("id", "long")], &[]);
    HandWrittenLog::create(&app.folder("future"), protocol_with(&["fromTheFuture"]), future);
    let found = discover(&app, json!({"url": app.location("")})).await;
    assert_eq!(names(&found), ["a-broken", "an-empty", "future", "raw.claims", "raw.my_members", "void"]);
    for (at, told) in [(0, "malformed"), (1, "_delta_log"), (2, "fromTheFuture")] {
        let item = &found["items"][at];
        let problem = item["problem"].as_str().unwrap();
        assert!(problem.contains(told) && !problem.contains('/'), "{problem}");
        assert!(item["draft"].is_null() && item["delta"].is_null(), "{item}");
        assert!(item["location"].is_string());
    }
    assert_eq!(found["complete"], true, "everything was looked at");
    assert_eq!(app.events("table.discover").await[0]["change"]["after"]["problems"], 3);
}

async fn a_thousand_folders_are_searched_in_answers_that_go_on(app: TestApp) {
    for at in 0..1_000 {
        fs::create_dir_all(app.folder(&format!("many/{at:04}/plain"))).unwrap();
    }
    let tables: Vec<String> = (0..1_000).step_by(40).map(|at| format!("{at:04}.x")).collect();
    for name in &tables {
        app.plain_log(&format!("many/{}", name.replace('.', "/")));
    }
    let whole = discover(&app, json!({"url": app.location("many"), "max_tables": 1_000, "max_seconds": 30})).await;
    assert_eq!(names(&whole), tables);
    assert_eq!((&whole["complete"], &whole["next_page_token"]), (&json!(true), &Value::Null));

    let pages = all_pages(&app, json!({"url": app.location("many"), "max_tables": 10, "max_seconds": 30})).await;
    let (last, before) = pages.split_last().unwrap();
    for page in before {
        assert_eq!((names(page).len(), &page["complete"]), (10, &json!(false)));
        assert_eq!(page["cut"][0]["limit"], "max_tables");
    }
    assert_eq!((last["complete"].clone(), last["cut"].clone()), (json!(true), json!([])));
    assert_eq!(pages.iter().flat_map(names).collect::<Vec<_>>(), tables);

    // Exactly as many as are asked for are all of them.
    let exactly = discover(&app, json!({"url": app.location("many/0040"), "max_tables": 1})).await;
    assert_eq!((names(&exactly), &exactly["complete"]), (vec!["x"], &json!(true)));
    let token = pages[0]["next_page_token"].clone();
    for (body, code) in [
        (json!({"url": app.location("void"), "page_token": token}), "invalid_parameter"),
        (json!({"url": app.location("many"), "page_token": "x"}), "invalid_parameter"),
    ] {
        app.post("/discover", body).await.problem(400, code);
    }

    // What lies too deep is said.
    let deep = (0..20).map(|at| format!("d{at}")).collect::<Vec<_>>().join("/");
    app.plain_log(&format!("deep/{deep}"));
    let found = discover(&app, json!({"url": app.location("deep")})).await;
    assert_eq!(
        (&found["items"], &found["complete"], &found["next_page_token"]),
        (&json!([]), &json!(false), &Value::Null)
    );
    assert_eq!(found["cut"][0]["limit"], "depth");
    let closer = app.location(&format!("deep/{}", (0..10).map(|at| format!("d{at}")).collect::<Vec<_>>().join("/")));
    assert_eq!(names(&discover(&app, json!({"url": closer})).await).len(), 1);
}

async fn only_who_may_register_everywhere_may_discover(app: TestApp) {
    app.share_claims().await;
    let body = json!({"url": app.location("")});
    for (name, bindings) in [
        ("of-a-share", json!([{"role": "owner", "scope": "share:insurer"}])),
        ("of-a-table", json!([{"role": "steward", "scope": "table:claims.claims"}])),
        ("compliance", json!([{"role": "compliance", "scope": "*"}])),
    ] {
        app.put(&format!("/operators/{name}"), json!({"bindings": bindings})).await.expect(201);
        let token = app.post(&format!("/operators/{name}/tokens"), json!({})).await.expect(201);
        let token = token["token"].as_str().unwrap();
        for body in [&body, &json!({"unity": {"url": "http://127.0.0.1:1"}}), &json!({"url": "s3://elsewhere"})] {
            app.admin_as(token, Method::POST, "/discover", Some(body)).await.problem(403, "forbidden");
        }
    }
    let steward = app.operator("sam", "steward").await;
    let found = app.admin_as(&steward, Method::POST, "/discover", Some(&body)).await.expect(200);
    assert_eq!(found["items"][0]["registered_as"], json!(["claims.claims"]));
    assert_eq!(app.events("table.discover").await.len(), 1);
    assert_eq!(app.events("admin.change").await[0]["decision"], "deny");
}

async fn a_place_outside_the_storages_is_refused_with_the_key_to_set(app: TestApp) {
    for url in ["s3://elsewhere/x", "file:///etc", "gs://lake", &format!("{}/..", app.location("")), "lake", ""] {
        let problem = app.post("/discover", json!({"url": url})).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["url"], "{problem}");
    }
    let problem = app.post("/discover", json!({"url": "s3://elsewhere/x"})).await.problem(422, "invalid_input");
    assert!(problem["detail"].as_str().unwrap().contains("add a [[storage]]"), "{problem}");
    let here = app.location("");
    for (body, field) in [
        (json!({}), "url"),
        (json!({"url": here, "unity": {"url": "https://x"}}), "unity"),
        (json!({"url": here, "max_tables": 0}), "max_tables"),
        (json!({"url": here, "max_tables": 1_001}), "max_tables"),
        (json!({"url": here, "max_seconds": 31}), "max_seconds"),
        (json!({"url": here, "recursive": true}), "recursive"),
        (json!({"unity": {"token": "x"}}), "unity"),
    ] {
        let problem = app.post("/discover", body.clone()).await.problem(422, "invalid_input");
        let named = fields(&problem);
        assert!(named.len() == 1 && named[0].starts_with(field), "{body}: {problem}");
    }
    assert!(app.events("table.discover").await.is_empty());
}

/// A server with tables of two catalogs, and the app that may ask it.
fn unity(app: &TestApp) -> (UnityServer, TestApp) {
    lay(app);
    let server = UnityServer::start();
    let members = format!("{}/", app.location("raw/my members"));
    server.add(
        "main",
        "claims",
        vec![
            unity_table("z_members", "DELTA", &members),
            unity_table("claims", "delta", &app.location("raw/claims")),
            unity_table("far", "DELTA", "s3://elsewhere/far"),
            unity_table("csv", "CSV", &app.location("plain")),
            json!({"name": "view"}),
            json!({"name": "nowhere", "data_source_format": "DELTA", "storage_location": null}),
        ],
    );
    server.add("main", "empty", vec![]);
    server.add("other", "x.y", vec![unity_table("void", "DELTA", &app.location("void"))]);
    let url = format!("{}/", server.url);
    let app = app.replica_set(move |settings| settings.discovery.unity_urls = vec![url]);
    (server, app)
}

async fn tables_of_a_unity_catalog_come_with_what_it_says_of_them(app: TestApp) {
    let (server, app) = unity(&app);
    let place = json!({"url": server.url, "token": UNITY_TOKEN});
    let found = discover(&app, json!({"unity": place})).await;
    assert_eq!(
        names(&found),
        ["main.claims.claims", "main.claims.far", "main.claims.nowhere", "main.claims.z_members", "other.x_y.void"]
    );
    assert_eq!((&found["complete"], &found["cut"]), (&json!(true), &json!([])));
    let claims = &found["items"][0];
    assert_eq!(
        claims["catalog_entry"],
        json!({"name": "main.claims.claims", "owner": "jo@example.org", "comment": "the table claims",
            "column_comments": {"id": "a number"}, "properties": {"team": "claims"}})
    );
    assert_eq!((&claims["location"], &claims["delta"]["version"]), (&json!(app.location("raw/claims")), &json!(0)));
    assert_eq!(
        claims["draft"]["spec"],
        json!({"location": app.location("raw/claims"), "description": "the table claims", "owner": "jo@example.org"})
    );
    let far = &found["items"][1];
    assert!(far["problem"].as_str().unwrap().contains("add a [[storage]]") && far["draft"].is_null(), "{far}");
    assert!(found["items"][2]["problem"].as_str().unwrap().contains("no place"), "{found}");
    assert!(!found.to_string().contains(UNITY_TOKEN));
    let asked = server.take_asked();
    assert!(asked.iter().all(|asked| asked.ends_with(&format!("Bearer {UNITY_TOKEN}"))), "{asked:?}");

    // What is registered there is found by its location, however the catalog writes it.
    app.put("/tables/members", json!({"location": app.location("raw/my members")})).await.expect(201);
    let narrowed = json!({"url": server.url, "token": UNITY_TOKEN, "catalog": "main", "schema": "claims"});
    let found = discover(&app, json!({"unity": narrowed})).await;
    assert_eq!(found["items"][3]["registered_as"], json!(["members"]));
    assert!(server.take_asked().iter().all(|asked| asked.starts_with("tables ")));
    let event = &app.events("table.discover").await[0];
    assert_eq!(event["change"]["after"], json!({"place": server.url, "tables": 4, "problems": 2, "complete": true}));
    assert!(!event.to_string().contains(UNITY_TOKEN));
}

async fn a_unity_catalog_is_asked_in_answers_that_go_on(app: TestApp) {
    let (server, app) = unity(&app);
    let body = json!({"unity": {"url": server.url, "token": UNITY_TOKEN}, "max_tables": 2});
    let pages = all_pages(&app, body).await;
    let found: Vec<&str> = pages.iter().flat_map(names).collect();
    assert_eq!(
        found,
        ["main.claims.claims", "main.claims.far", "main.claims.nowhere", "main.claims.z_members", "other.x_y.void"]
    );
    assert_eq!(pages.last().unwrap()["complete"], true);
    assert!(pages[0]["complete"] == false && pages[0]["cut"][0]["limit"] == "max_tables", "{}", pages[0]);
}

async fn a_server_that_the_settings_do_not_name_is_sent_nothing(app: TestApp) {
    let (server, allowed) = unity(&app);
    let asking = |url: &str, token: &str| json!({"unity": {"url": url, "token": token}});
    let problem = app.post("/discover", asking(&server.url, UNITY_TOKEN)).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["unity.url"]);
    assert!(problem["detail"].as_str().unwrap().contains("discovery.unity_urls"), "{problem}");
    let elsewhere = UnityServer::start();
    for url in [
        &elsewhere.url,
        "http://169.254.169.254",
        &format!("{}/x", server.url),
        &server.url.replace("127.0.0.1", "localhost"),
    ] {
        let problem = allowed.post("/discover", asking(url, UNITY_TOKEN)).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["unity.url"], "{url}");
    }
    assert_eq!(server.take_asked(), Vec::<String>::new());

    // What the server answers is not repeated, and a redirect is not followed.
    let to = format!("{}/api/2.1/unity-catalog/catalogs", elsewhere.url);
    for (manner, status, code, field) in [
        (Manner::Redirect(to), 422, "invalid_input", "unity.url"),
        (Manner::Status(401), 422, "invalid_input", "unity.token"),
        (Manner::Status(403), 422, "invalid_input", "unity.token"),
        (Manner::Status(404), 422, "invalid_input", "unity.catalog"),
        (Manner::Status(500), 503, "unavailable", ""),
        (Manner::Text("<html>hunter2".to_owned()), 422, "invalid_input", "unity.url"),
        (Manner::Text("{\"catalogs\": \"hunter2\"}".to_owned()), 422, "invalid_input", "unity.url"),
        (Manner::Text("{\"next_page_token\": \"again\"}".to_owned()), 422, "invalid_input", "unity.url"),
        (Manner::Text(" ".repeat(17 << 20)), 422, "invalid_input", "unity.url"),
    ] {
        server.is(manner.clone());
        let problem = allowed.post("/discover", asking(&server.url, UNITY_TOKEN)).await.problem(status, code);
        assert_eq!(fields(&problem).concat(), field, "{manner:?}: {problem}");
        assert!(!problem.to_string().contains("hunter2") && !problem.to_string().contains(UNITY_TOKEN), "{problem}");
    }
    server.is(Manner::Well);
    assert_eq!(elsewhere.take_asked(), Vec::<String>::new(), "no token left for another place");
    for token in ["", "a b", "a\r\nx: y"] {
        let problem = allowed.post("/discover", asking(&server.url, token)).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["unity.token"]);
    }
    let schema_alone = json!({"unity": {"url": server.url, "token": UNITY_TOKEN, "schema": "x"}});
    assert_eq!(fields(&allowed.post("/discover", schema_alone).await.problem(422, "invalid_input")), ["unity.catalog"]);
    assert!(allowed.events("table.discover").await.is_empty());
    let metrics = allowed.service.core.metrics.encode().unwrap();
    assert!(metrics.contains("weir_discoveries_total{outcome=\"failed\"} 9"), "{metrics}");
}

#[tokio::test]
async fn a_bucket_is_searched_as_a_folder_is() {
    let mut server = S3Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    HandWrittenLog::plain(&folder.path().join("a/claims")).commit(&[add("x.parquet", 10)]);
    HandWrittenLog::plain(&folder.path().join("a/claims/inner"));
    HandWrittenLog::plain(&folder.path().join("my members"));
    HandWrittenLog::plain(&folder.path().join("z")).commit_text("{");
    fs::create_dir_all(folder.path().join("plain")).unwrap();
    fs::write(folder.path().join("plain/x.csv"), "x").unwrap();
    server.put_directory(folder.path(), "warehouse").await;
    let app = TestApp::with_bucket(TestDatabase::sqlite().await, &server);
    app.put("/tables/members", json!({"location": "s3a://lake/warehouse/my members"})).await.expect(201);
    let body = json!({"url": "s3://lake/warehouse", "max_seconds": 30});
    let found = discover(&app, body.clone()).await;
    assert_eq!(names(&found), ["a.claims", "members", "z"]);
    assert_eq!((&found["complete"], &found["items"][0]["size_bytes"]), (&json!(true), &json!(10)));
    assert_eq!(found["items"][1]["registered_as"], json!(["members"]));
    assert!(found["items"][2]["problem"].as_str().unwrap().contains("malformed"), "{found}");
    let pages = all_pages(&app, json!({"url": "s3://lake", "max_tables": 1, "max_seconds": 30})).await;
    assert_eq!(pages.iter().flat_map(names).collect::<Vec<_>>(), ["warehouse.a.claims", "members", "warehouse.z"]);
    server.stop().await;
    app.post("/discover", body).await.problem(503, "unavailable");
}

#[tokio::test]
async fn an_outage_of_the_storage_is_no_empty_answer() {
    let app = TestApp::sqlite().await;
    let problem = app.post("/discover", json!({"url": AWAY})).await.problem(503, "unavailable");
    assert!(!problem.to_string().contains("127.0.0.1"), "{problem}");
}
