//! Separated duties: who runs the server reads no data.

use http::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, fields};

async fn separated() -> Vec<TestApp> {
    use weir::domain::operators::principal::Separation;
    TestApp::each(|settings| settings.governance.separation = Separation::Enforced).await
}

#[tokio::test]
async fn an_admin_alone_sees_no_row_where_duties_are_separated() {
    for app in separated().await {
        app.share_claims().await;
        app.put("/recipients/acme", json!({})).await.expect(201);
        let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
        app.put("/views/claims.some", view).await.expect(201);
        let path = "/views/claims.some/preview";
        let refused = app.post(path, json!({"recipient": "acme"})).await.problem(403, "forbidden");
        let detail = refused["detail"].as_str().unwrap();
        assert!(
            detail.contains("`owner` or `share_owner` or `steward` or `compliance`") && !detail.contains("`admin` or"),
            "{detail}"
        );
        let event = &app.events("admin.change").await[0];
        assert_eq!((&event["decision"], &event["reason"]), (&json!("deny"), &json!("SEPARATION")));
        assert_eq!(app.events("view.preview").await, Vec::<Value>::new());
        for (role, status) in [
            ("owner", 200),
            ("share_owner", 200),
            ("steward", 200),
            ("compliance", 200),
            ("auditor", 403),
            ("support", 403),
            ("policy_author", 403),
            ("agent", 403),
        ] {
            let token = app.operator(role, role).await;
            let answer = app.admin_as(&token, Method::POST, path, Some(&json!({"recipient": "acme"}))).await;
            assert_eq!(answer.status, status, "{role}: {}", answer.text);
        }
        // One who is both is no admin alone, where it is both.
        for (scope, status) in [("table:claims.claims", 200), ("table:other", 403), ("share:insurer", 403)] {
            let both = json!({"role": "support", "bindings": [{"role": "steward", "scope": scope}]});
            app.put("/operators/both", both).await.expect(201);
            let issued = app.post("/operators/both/tokens", json!({})).await.expect(201);
            let token = issued["token"].as_str().unwrap();
            let answer = app.admin_as(token, Method::POST, path, Some(&json!({"recipient": "acme"}))).await;
            assert_eq!(answer.status, status, "{scope}: {}", answer.text);
            app.delete("/operators/both").await.expect(204);
        }
    }
}

#[tokio::test]
async fn a_purpose_names_its_legal_basis_where_duties_are_separated() {
    for app in separated().await {
        for body in [json!({"description": "d"}), json!({"description": "d", "legal_basis": " "})] {
            let problem = app.put("/purposes/fraud", body).await.problem(422, "invalid_input");
            assert_eq!(fields(&problem), ["legal_basis"]);
        }
        app.put("/purposes/fraud", json!({"description": "d", "legal_basis": "contract 4711"})).await.expect(201);
        app.patch("/purposes/fraud", json!({"description": "e"})).await.expect(200);
        let problem = app.patch("/purposes/fraud", json!({"legal_basis": null})).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["legal_basis"]);
    }
}

#[tokio::test]
async fn nobody_is_shown_a_recipients_token_where_duties_are_separated() {
    for app in separated().await {
        app.put("/recipients/acme", json!({})).await.expect(201);
        let owner = app.operator("ann", "owner").await;
        for token in [owner.as_str(), crate::support::app::OPERATOR_TOKEN] {
            let reveal = json!({"reveal": true});
            let answer = app.admin_as(token, Method::POST, "/recipients/acme/tokens", Some(&reveal)).await;
            let refused = answer.problem(403, "forbidden");
            assert!(refused["detail"].as_str().unwrap().contains("activation link"), "{refused}");
            assert_eq!(app.events("admin.change").await[0]["reason"], "SEPARATION");
        }
        let link = app.post("/recipients/acme/tokens", json!({})).await.expect(201);
        assert!(link["activation_url"].is_string());
        let rotate = format!("/recipients/acme/tokens/{}/rotate", link["id"].as_str().unwrap());
        let body = json!({"existing_token_expire_in_seconds": 0, "reveal": true});
        app.post(&rotate, body).await.problem(403, "forbidden");
        assert_eq!(app.events("token.reveal").await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn duties_are_not_separated_where_nothing_is_said() {
    let app = TestApp::sqlite().await;
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
    app.put("/views/claims.some", view).await.expect(201);
    app.post("/views/claims.some/preview", json!({"recipient": "acme"})).await.expect(200);
    app.post("/recipients/acme/tokens", json!({"reveal": true})).await.expect(201);
}
