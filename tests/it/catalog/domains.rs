//! Domains: a noun with only a name and a spec, whose owner and steward its tables have.

use http::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(
    a_domain_is_put_read_changed_listed_and_deleted,
    a_table_has_the_owner_and_the_steward_of_its_domain_where_it_names_none,
    whoever_owns_a_domain_is_there,
    a_domain_is_changed_by_those_whose_role_counts_there,
);

async fn a_domain_is_put_read_changed_listed_and_deleted(app: TestApp) {
    app.put("/groups/claims-team", json!({})).await.expect(201);
    let spec = json!({"description": "d", "owner": "claims-team", "compliance_contact": "privacy@insurer.example"});
    let put = app.put("/domains/claims", spec.clone()).await.expect(201);
    assert_eq!((&put["name"], &put["owner"], &put["steward"]), (&json!("claims"), &spec["owner"], &Value::Null));
    assert_eq!(app.put("/domains/CLAIMS", spec).await.expect(200), put);
    assert_eq!(app.get("/domains/claims").await.expect(200), put);
    app.put("/domains/claims", json!({"description": "e"})).await.problem(409, "conflict");
    let changed = app.patch("/domains/claims", json!({"description": null})).await.expect(200);
    assert_eq!((&changed["description"], &changed["id"]), (&Value::Null, &put["id"]));
    app.put("/domains/audit", json!({})).await.expect(201);
    let listed = app.get("/domains").await.expect(200);
    assert_eq!((&listed["items"][0]["name"], &listed["items"][1]), (&json!("audit"), &changed));
    app.put("/domains/a.b?dry_run=true", json!({})).await.expect(200);
    let problem = app.put("/domains/a%20b", json!({})).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["domain"]);
    let problem = app.put("/domains/new", json!({"head": "ann"})).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["head"]);
    // What carries it keeps it.
    app.share_claims().await;
    app.patch("/tables/claims.claims", json!({"domain": "Claims"})).await.expect(200);
    app.patch("/shares/insurer", json!({"domain": "claims"})).await.expect(200);
    let used = app.delete("/domains/claims").await.problem(409, "conflict");
    let detail = used["detail"].as_str().unwrap();
    assert!(detail.contains("tables `claims.claims`") && detail.contains("shares `insurer`"), "{used}");
    app.patch("/tables/claims.claims", json!({"domain": null})).await.expect(200);
    app.patch("/shares/insurer", json!({"domain": null})).await.expect(200);
    app.delete("/domains/claims").await.expect(204);
    for (action, count) in [("create", 2), ("update", 1), ("delete", 1)] {
        let events = app.events(&format!("domain.{action}")).await;
        assert_eq!((events.len(), &events[0]["object"]["kind"]), (count, &json!("domain")), "{action}");
    }
}

async fn a_table_has_the_owner_and_the_steward_of_its_domain_where_it_names_none(app: TestApp) {
    for name in ["ann", "bob", "cem"] {
        app.put(&format!("/operators/{name}"), json!({"role": "auditor"})).await.expect(201);
    }
    app.share_claims().await;
    let put = app.get("/tables/claims.claims").await.expect(200);
    let of = |view: &Value| (view["effective_owner"].clone(), view["effective_steward"].clone());
    assert_eq!((of(&put), &put["ownerless"]), ((Value::Null, Value::Null), &json!(false)));
    // A domain that nobody has declared has no owner.
    let there = app.patch("/tables/claims.claims", json!({"domain": "claims"})).await.expect(200);
    assert_eq!(of(&there), (Value::Null, Value::Null));
    app.put("/domains/CLAIMS", json!({"owner": "ann", "steward": "bob"})).await.expect(201);
    let inherits = app.get("/tables/claims.claims").await.expect(200);
    assert_eq!(of(&inherits), (json!("ann"), json!("bob")));
    assert_eq!((&inherits["owner"], &inherits["etag"]), (&Value::Null, &there["etag"]), "its own settings stay");
    let own = app.patch("/tables/claims.claims", json!({"owner": "data-team", "steward": "cem"})).await.expect(200);
    assert_eq!(of(&own), (json!("data-team"), json!("cem")));
    assert_eq!(own["ownerless"], json!(false), "a text that never was a name is nobody who could go");
    let listed = app.get("/tables").await.expect(200);
    assert_eq!(of(&listed["items"][0]), of(&own));
    let put = app.put("/tables/claims.claims", json!({"steward": "cem"})).await.expect(200);
    assert_eq!((of(&put), put["delta"].is_object()), (of(&own), true));
    let wrong = app.patch("/tables/claims.claims", json!({"steward": "nobody"})).await.problem(422, "invalid_input");
    assert_eq!(fields(&wrong), ["steward"]);
}

async fn whoever_owns_a_domain_is_there(app: TestApp) {
    app.put("/operators/ann", json!({"role": "auditor"})).await.expect(201);
    app.put("/groups/team", json!({})).await.expect(201);
    let body = json!({"owner": "nobody", "steward": ""});
    let problem = app.put("/domains/claims", body).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["owner", "steward"]);
    assert!(problem.to_string().contains("GET /groups"), "{problem}");
    let body = json!({"owner": "Ann", "steward": "0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22"});
    app.put("/domains/claims", body).await.expect(201);
    app.patch("/domains/claims", json!({"owner": "team"})).await.expect(200);
    app.delete("/groups/team").await.expect(204);
    // Whoever was named stays named, and everything else can be changed.
    app.patch("/domains/claims", json!({"description": "d"})).await.expect(200);
    app.patch("/domains/claims", json!({"steward": "team"})).await.problem(422, "invalid_input");
}

async fn a_domain_is_changed_by_those_whose_role_counts_there(app: TestApp) {
    app.put("/domains/claims", json!({})).await.expect(201);
    app.put("/domains/other", json!({})).await.expect(201);
    let bindings = json!({"bindings": [{"role": "owner", "scope": "domain:claims"}]});
    app.put("/operators/bea", bindings).await.expect(201);
    let issued = app.post("/operators/bea/tokens", json!({})).await.expect(201);
    let bea = issued["token"].as_str().unwrap();
    let by_bea = async |method: Method, path: &str, body: Value| {
        app.admin_as(bea, method, path, Some(&body).filter(|body| !body.is_null())).await
    };
    by_bea(Method::PATCH, "/domains/claims", json!({"description": "d"})).await.expect(200);
    let there = by_bea(Method::GET, "/domains/other", Value::Null).await.problem(403, "forbidden");
    let gone = by_bea(Method::GET, "/domains/none", Value::Null).await.problem(403, "forbidden");
    assert_eq!(there["detail"], gone["detail"]);
    by_bea(Method::PATCH, "/domains/other", json!({"description": "d"})).await.problem(403, "forbidden");
    let listed = by_bea(Method::GET, "/domains", Value::Null).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    let auditor = app.operator("aud", "auditor").await;
    app.admin_as(&auditor, Method::DELETE, "/domains/claims", None).await.problem(403, "forbidden");
}
