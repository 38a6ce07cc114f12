//! Recipients' properties that row filters read: no recipient loses all rows without being told.

use serde_json::{Value as Json, json};

use super::{
    claims_view::{PLANS, read_well, shared_claims},
    connector::Connector,
    source::Mapping,
    weir_server::{SHARE, WeirServer, everywhere},
};

everywhere!(
    what_would_empty_a_view_is_refused_and_named,
    who_means_it_may_force_it_and_the_answer_says_why,
    what_empties_nothing_is_let_through,
);

const NO_ROWS: &str = "x-weir-no-rows";

fn hmo() -> Json {
    json!({"plans": [PLANS[0]]})
}

/// Values for which a filter on `recipient_list('plans')` shows no row.
fn mistakes() -> Vec<Json> {
    vec![json!(null), json!(PLANS[0]), json!([1]), json!(["x", 5]), json!(true), json!([])]
}

/// What the answer to a query says about why it has no row, if anything.
async fn said(connector: &Connector<'_>) -> String {
    let answer = connector.query(connector.first_way(), json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header(NO_ROWS).to_owned()
}

async fn what_would_empty_a_view_is_refused_and_named(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", hmo()).await;
    let before = server.app.get("/recipients/acme").await.expect(200);
    for state in ["active", "suspended"] {
        for mistake in mistakes() {
            let change = json!({"description": "changed", "properties": {"plans": mistake}});
            for path in ["/recipients/acme", "/recipients/acme?force=false"] {
                let problem = server.app.patch(path, change.clone()).await.problem(422, "invalid_input");
                let said = problem["errors"].to_string();
                for word in
                    ["properties.plans", "acme", "lake.zviewname@v1", "insurer.s.shown", "insurer.s.relayed", "force"]
                {
                    assert!(said.contains(word), "{word} in {said}");
                }
            }
        }
        if state == "active" {
            let kept = server.app.get("/recipients/acme").await.expect(200);
            assert_eq!(kept, before, "nothing of it was kept");
            server.app.post("/recipients/acme/suspend", json!({"reason": "an incident"})).await.expect(200);
        }
    }
    server.app.post("/recipients/acme/resume", json!({"reason": "over"})).await.expect(200);
    read_well(&server, &table, &visible, &acme).await;
    assert_eq!(said(&acme).await, "");
}

async fn who_means_it_may_force_it_and_the_answer_says_why(server: WeirServer) {
    shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", hmo()).await;
    let rival = server.connector("rival", hmo()).await;
    for (at, mistake) in mistakes().into_iter().enumerate() {
        let change = json!({"properties": {"plans": mistake}});
        server.app.patch("/recipients/acme?force=true", change).await.expect(200);
        server.log.newly_logged();
        assert_eq!(said(&acme).await, "recipient-properties", "{mistake}");
        assert_eq!(said(&rival).await, "");
        let logged = server.log.newly_logged();
        let line = logged.lines().find(|line| line.contains("no row")).expect("it is logged");
        assert!(line.contains("acme") && line.contains("lake.zviewname@v1") && line.contains("plans"), "{line}");
        let metrics = server.app.service.core.metrics.encode().unwrap();
        assert!(metrics.contains(&format!("weir_queries_without_rows_total {}", at + 1)), "{metrics}");
        let event = server.app.events("recipient.update").await.remove(0);
        assert_eq!(event["change"]["views_without_rows"], json!(["lake.zviewname@v1"]), "{event}");
        server.app.patch("/recipients/acme", json!({"properties": hmo()})).await.expect(200);
        assert_eq!(said(&acme).await, "");
    }
}

async fn what_empties_nothing_is_let_through(server: WeirServer) {
    shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]], "region": "north"})).await;
    for change in [
        json!({"properties": {"region": null}}),
        json!({"properties": {"plans": [PLANS[1]]}}),
        json!({"properties": {"plans": ["of no claim"]}}),
        json!({"properties": {"other": 5}}),
    ] {
        server.app.patch("/recipients/acme", change.clone()).await.expect(200);
        assert_eq!(said(&acme).await, "", "{change}");
    }
    // What was wrong before is no reason to refuse another change.
    server.app.patch("/recipients/acme?force=true", json!({"properties": {"plans": 5}})).await.expect(200);
    server.app.patch("/recipients/acme", json!({"description": "x", "properties": {"other": 6}})).await.expect(200);
    server.app.patch("/recipients/acme", json!({"properties": {"plans": 6}})).await.problem(422, "invalid_input");
    // Whoever reads no such view may have any properties.
    server.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({})).await.expect(200);
    server.app.patch("/recipients/acme", json!({"properties": {"plans": 7}})).await.expect(200);
    server.app.patch("/recipients/acme?force=maybe", json!({})).await.problem(400, "invalid_parameter");
}
