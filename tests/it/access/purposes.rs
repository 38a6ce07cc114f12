//! Purposes: a noun with only a name and a spec, which has everything that every noun has.

use http::Method;
use serde_json::json;

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(a_purpose_is_put_read_changed_listed_and_deleted, a_parent_is_there_and_leads_nowhere_twice);

async fn a_purpose_is_put_read_changed_listed_and_deleted(app: TestApp) {
    let spec = json!({"description": "Detecting fraud", "legal_basis": "contract 4711"});
    let put = app.put("/purposes/fraud", spec.clone()).await.expect(201);
    assert_eq!(
        (&put["name"], &put["description"], &put["parent"]),
        (&json!("fraud"), &spec["description"], &json!(null))
    );
    assert_eq!(app.put("/purposes/FRAUD", spec.clone()).await.expect(200), put);
    assert_eq!(app.get("/purposes/fraud").await.expect(200), put);
    let other = app.put("/purposes/fraud", json!({"description": "else"})).await.problem(409, "conflict");
    assert!(other["detail"].as_str().unwrap().contains("`description`"), "{other}");
    let changed = app.patch("/purposes/fraud", json!({"legal_basis": null})).await.expect(200);
    assert_eq!((&changed["legal_basis"], &changed["id"]), (&json!(null), &put["id"]));
    assert_ne!(changed["etag"], put["etag"]);
    app.put("/purposes/audit", json!({"description": "Auditing"})).await.expect(201);
    let page = app.get("/purposes?max_results=1").await.expect(200);
    assert_eq!(page["items"][0]["name"], "audit");
    let token = page["next_page_token"].as_str().unwrap();
    let page = app.get(&format!("/purposes?max_results=1&page_token={token}")).await.expect(200);
    assert_eq!((&page["items"][0], &page["next_page_token"]), (&changed, &json!(null)));
    for (body, field) in [
        (json!({}), "description"),
        (json!({"description": " "}), "description"),
        (json!({"description": null}), "description"),
        (json!({"description": "x", "lawful": true}), "lawful"),
        (json!({"description": "x\u{7}"}), "description"),
    ] {
        let problem = app.put("/purposes/new", body).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [field]);
    }
    app.put("/purposes/new?dry_run=true", json!({"description": "x"})).await.expect(200);
    app.get("/purposes/new").await.problem(404, "not_found");
    let auditor = app.operator("ann", "auditor").await;
    app.admin_as(&auditor, Method::GET, "/purposes/fraud", None).await.expect(200);
    app.admin_as(&auditor, Method::DELETE, "/purposes/fraud", None).await.problem(403, "forbidden");
    app.delete("/purposes/fraud").await.expect(204);
    let events = app.events("purpose.update").await;
    assert_eq!(events[0]["change"], json!({"before": {"legal_basis": "contract 4711"}, "after": {}}));
    assert_eq!((app.events("purpose.create").await.len(), app.events("purpose.delete").await.len()), (2, 1));
}

async fn a_parent_is_there_and_leads_nowhere_twice(app: TestApp) {
    let of = |parent: &str| json!({"description": "x", "parent": parent});
    app.put("/purposes/wide", json!({"description": "x"})).await.expect(201);
    app.put("/purposes/narrow", of("Wide")).await.expect(201);
    for (name, parent, said) in
        [("new", "nothing", "names no purpose"), ("new", "new", "itself"), ("new", "a/b", "names no")]
    {
        let problem = app.put(&format!("/purposes/{name}"), of(parent)).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["parent"]);
        assert!(problem.to_string().contains(said), "{problem}");
    }
    let problem = app.patch("/purposes/wide", json!({"parent": "narrow"})).await.problem(422, "invalid_input");
    assert!(problem.to_string().contains("leads back"), "{problem}");
    let used = app.delete("/purposes/wide").await.problem(409, "conflict");
    assert!(used["detail"].as_str().unwrap().contains("`narrow`"), "{used}");
    app.patch("/purposes/narrow", json!({"parent": null})).await.expect(200);
    app.delete("/purposes/wide").await.expect(204);
}
