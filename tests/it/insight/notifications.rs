//! What webhooks were told, over HTTP; how messages travel is in `notify`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::notify::{SECRET, webhook};
use crate::support::app::TestApp;

/// Servers that would tell a webhook which nobody listens to.
async fn each() -> Vec<TestApp> {
    let ops = webhook(json!({"name": "ops", "url": "http://127.0.0.1:1/hook", "secret": SECRET}));
    TestApp::each(move |settings| settings.notify.webhook.push(ops.clone())).await
}

#[tokio::test]
async fn notifications_are_listed_in_the_order_of_their_making() {
    for app in each().await {
        assert_eq!(app.get("/notifications").await.expect(200)["items"], json!([]));
        app.post("/freeze", json!({"reason": "incident"})).await.expect(200);
        app.pass(5);
        app.post("/unfreeze", json!({})).await.expect(200);
        let page = app.get("/notifications?max_results=1").await.expect(200);
        let first = &page["items"][0];
        assert_eq!((&first["type"], &first["webhook"]), (&json!("freeze.create"), &json!("ops")));
        assert_eq!((&first["state"], &first["attempts"]), (&json!("pending"), &json!(0)));
        assert_eq!((&first["next_attempt_at"], &first["ended_at"]), (&first["created_at"], &Value::Null));
        assert_eq!(
            (&first["message"]["type"], &first["message"]["data"]["reason"]),
            (&json!("freeze.create"), &json!("incident"))
        );
        let token = page["next_page_token"].as_str().unwrap();
        let page = app.get(&format!("/notifications?max_results=1&page_token={token}")).await.expect(200);
        assert_eq!((&page["items"][0]["type"], &page["next_page_token"]), (&json!("freeze.lift"), &Value::Null));
        assert_eq!(app.get("/notifications?state=pending").await.expect(200)["items"].as_array().unwrap().len(), 2);
        assert_eq!(app.get("/notifications?state=dead").await.expect(200)["items"], json!([]));
        for query in ["?state=lost", "?kind=freeze.create", "?page_token=x"] {
            app.get(&format!("/notifications{query}")).await.problem(400, "invalid_parameter");
        }
    }
}

#[tokio::test]
async fn only_a_dead_letter_is_tried_again() {
    for app in each().await {
        app.post("/freeze", json!({"reason": "incident"})).await.expect(200);
        let listed = app.get("/notifications").await.expect(200);
        let retry = |id: &str| format!("/notifications/{id}/retry");
        let path = retry(listed["items"][0]["id"].as_str().unwrap());
        let refused = app.post(&path, json!({})).await.problem(409, "conflict");
        assert!(refused["detail"].as_str().unwrap().contains("is pending"), "{refused}");
        app.post(&path, json!({"at": "once"})).await.problem(422, "invalid_input");
        app.post(&retry(&Uuid::nil().to_string()), json!({})).await.problem(404, "not_found");
        assert!(app.events("notification.retry").await.is_empty());
    }
}
