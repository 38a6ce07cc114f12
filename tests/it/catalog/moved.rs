//! What a change is about moves to another domain while the change waits: it is decided again with the thing as it is then.
//!
//! The storage holds the request that every such change makes between what it reads and the chain's lock.

use std::future::Future;

use http::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp},
    postgres::TestDatabase,
    s3::{BUCKET, S3Server},
};

/// A table in a bucket and a share, both in the domain `d`, whose owner is `dora`.
struct Domain {
    app: TestApp,
    server: S3Server,
    dora: String,
}

impl Domain {
    /// One on each database.
    async fn each() -> Vec<Self> {
        let mut domains = Vec::new();
        for database in TestDatabase::each().await {
            let server = S3Server::start().await;
            let app = TestApp::with_bucket(database, &server);
            app.plain_log("claims");
            for place in ["claims", "elsewhere"] {
                server.put_directory(&app.folder("claims"), place).await;
            }
            let table = json!({"location": format!("s3://{BUCKET}/claims"), "domain": "d"});
            app.put("/tables/claims.claims", table).await.expect(201);
            app.put("/shares/insurer", json!({"domain": "d"})).await.expect(201);
            let held = json!({"source": {"table": "claims.claims"}, "on_schema_change": "hold"});
            app.put("/shares/insurer/objects/claims/held", held).await.expect(201);
            app.put("/operators/dora", json!({"bindings": [{"role": "owner", "scope": "domain:d"}]})).await.expect(201);
            let issued = app.post("/operators/dora/tokens", json!({})).await.expect(201);
            let dora = issued["token"].as_str().unwrap().to_owned();
            domains.push(Self { app, server, dora });
        }
        domains
    }

    async fn by_dora(&self, method: &Method, path: &str, body: &Value) -> Answer {
        self.app.admin_as(&self.dora, method.clone(), path, Some(body)).await
    }

    /// Answers `ask`, which waits for the storage until `change` was made.
    async fn during(&self, ask: impl Future<Output = Answer>, change: impl Future<Output = ()>) -> Answer {
        self.server.hold();
        let changed = async {
            self.server.is_holding().await;
            change.await;
            self.server.release();
        };
        tokio::join!(ask, changed).0
    }

    async fn set_domain(&self, thing: &str, domain: &str) {
        self.app.patch(thing, json!({ "domain": domain })).await.expect(200);
    }
}

#[tokio::test]
async fn a_change_is_refused_whose_thing_moved_to_another_domain_meanwhile() {
    let source = json!({"source": {"table": "claims.claims"}});
    let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
    let (share, table) = ("/shares/insurer", "/tables/claims.claims");
    let held = "/shares/insurer/objects/claims/held";
    let changes = [
        (Method::PUT, "/shares/insurer/objects/claims/new".to_owned(), source, &[share, table][..], 201),
        (Method::PATCH, held.to_owned(), json!({"description": "x"}), &[share, table], 200),
        (Method::POST, format!("{held}/accept-schema"), json!({}), &[share, table], 200),
        (Method::PUT, "/views/claims.some".to_owned(), view.clone(), &[table], 201),
        (Method::PATCH, "/views/claims.some".to_owned(), json!({"description": "x"}), &[table], 200),
    ];
    for domain in Domain::each().await {
        for (method, path, body, things, done) in &changes {
            for thing in *things {
                let ask = domain.by_dora(method, path, body);
                let refused = domain.during(ask, domain.set_domain(thing, "other")).await;
                let refused = refused.problem(403, "forbidden");
                assert!(refused["detail"].as_str().unwrap().contains("counts elsewhere"), "{method} {path}: {refused}");
                domain.set_domain(thing, "d").await;
            }
            let answer = domain.by_dora(method, path, body).await;
            assert_eq!(answer.status.as_u16(), *done, "{method} {path}: {}", answer.text);
        }
        // An object goes by its table and by its share: in neither, it is nobody's here.
        for thing in [share, table] {
            domain.set_domain(thing, "other").await;
        }
        domain.by_dora(&Method::DELETE, held, &Value::Null).await.problem(403, "forbidden");
        domain.set_domain(table, "d").await;
        domain.by_dora(&Method::DELETE, held, &Value::Null).await.expect(204);
        let events = domain.app.events("object.create").await;
        assert_eq!(events.len(), 2, "what was refused has not happened");
    }
}

#[tokio::test]
async fn what_else_changed_meanwhile_is_read_again() {
    for domain in Domain::each().await {
        let (app, held) = (&domain.app, "/shares/insurer/objects/claims/held");
        // The table lies elsewhere by then.
        let source = json!({"source": {"table": "claims.claims"}});
        let put = domain.by_dora(&Method::PUT, "/shares/insurer/objects/claims/new", &source);
        domain.during(put, app.move_tables(&format!("s3://{BUCKET}/elsewhere"))).await.expect(201);
        // Two changes at once: neither is lost.
        let first = json!({"description": "first"});
        let patched = domain.by_dora(&Method::PATCH, held, &first);
        let meanwhile = async {
            app.execute("UPDATE objects SET revision = revision + 1 WHERE name = 'held'").await;
        };
        let answer = domain.during(patched, meanwhile).await.expect(200);
        assert_eq!(answer["description"], "first");
        // Who changes what it has read alone is told.
        let etag = answer["etag"].as_str().unwrap().to_owned();
        let stale = async {
            let headers = [("if-match", etag.as_str())];
            app.admin_with(Method::PATCH, held, &headers, Some(&json!({"description": "second"}))).await
        };
        let meanwhile = async {
            app.execute("UPDATE objects SET revision = revision + 1 WHERE name = 'held'").await;
        };
        domain.during(stale, meanwhile).await.problem(412, "precondition_failed");
    }
}
