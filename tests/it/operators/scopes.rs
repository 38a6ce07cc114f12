//! Where a role counts: every operation of the document, called by every role in every kind of scope.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::roles::{ROLES, documented};
use crate::{
    admin::{
        dry_runs::{request_of, something_of_everything},
        openapi::described,
    },
    support::app::{Answer, TestApp, fields, on_both_databases},
};

on_both_databases!(
    every_operation_asks_where_a_role_counts,
    an_owner_of_a_share_shares_what_is_its_own_and_nothing_else,
    a_steward_of_a_table_looks_after_it_and_moves_it_nowhere,
    a_domain_is_what_tables_and_shares_say,
    listings_show_what_a_scope_covers,
    a_refusal_out_of_scope_is_recorded_and_names_nothing,
    a_filter_tells_nothing_of_what_is_hidden,
    bindings_are_put_compared_and_merged_like_any_field,
    what_makes_no_binding_is_refused,
    an_earlier_word_for_a_role_stays_and_means_the_same,
    a_change_of_scope_counts_for_what_waits_for_its_turn,
    only_an_admin_everywhere_is_the_last_admin,
);

/// The scopes that suffice for an operation on what [`something_of_everything`] makes; for all others nothing but `*` does.
/// `both` is the share and the table.
const SUFFICE: [(&str, &[&str]); 38] = [
    ("whoami", &["share", "table", "domain", "both", "elsewhere"]),
    ("list_tables", &["share", "table", "domain", "both", "elsewhere"]),
    ("list_shares", &["share", "table", "domain", "both", "elsewhere"]),
    ("list_views", &["share", "table", "domain", "both", "elsewhere"]),
    ("list_grants", &["share", "table", "domain", "both", "elsewhere"]),
    ("list_purposes", &["share", "table", "domain", "both", "elsewhere"]),
    ("get_purpose", &["share", "table", "domain", "both", "elsewhere"]),
    ("list_controls", &["share", "table", "domain", "both", "elsewhere"]),
    ("get_control", &["share", "table", "domain", "both", "elsewhere"]),
    ("list_domains", &["share", "table", "domain", "both", "elsewhere"]),
    ("get_domain", &["domain"]),
    ("update_domain", &["domain"]),
    ("get_table", &["table", "domain", "both"]),
    ("update_table", &["table", "domain", "both"]),
    ("delete_table", &["table", "domain", "both"]),
    ("scan_table", &["table", "domain", "both"]),
    ("list_columns", &["table", "domain", "both"]),
    ("update_column", &["table", "domain", "both"]),
    ("update_columns", &["table", "domain", "both"]),
    ("get_view", &["table", "domain", "both"]),
    ("diff_view", &["table", "domain", "both"]),
    ("put_view", &["table", "domain", "both"]),
    ("update_view", &["table", "domain", "both"]),
    ("delete_view", &["table", "domain", "both"]),
    ("publish_view", &["table", "domain", "both"]),
    ("preview_view", &["table", "domain", "both"]),
    ("put_share", &["share", "both"]),
    ("get_share", &["share", "domain", "both"]),
    ("update_share", &["share", "domain", "both"]),
    ("delete_share", &["share", "domain", "both"]),
    ("list_objects", &["share", "domain", "both"]),
    ("get_object", &["share", "table", "domain", "both"]),
    ("delete_object", &["share", "table", "domain", "both"]),
    ("put_object", &["domain", "both"]),
    ("update_object", &["domain", "both"]),
    ("accept_schema", &["domain", "both"]),
    ("get_grant", &["share", "domain", "both"]),
    ("create_grant", &["share", "domain", "both"]),
];
/// Those that end grants.
const TIGHTEN: [&str; 3] = ["revoke_grant", "revoke_share", "revoke_share_from_recipient"];

fn suffices(operation: &str, scope: &str) -> bool {
    let found = SUFFICE.iter().find(|(name, _)| *name == operation);
    let scopes = found.map_or(&[][..], |(_, scopes)| scopes);
    scopes.contains(&scope) || (TIGHTEN.contains(&operation) && ["share", "domain", "both"].contains(&scope))
}

fn bindings_of(scope: &str) -> Vec<&'static str> {
    let shares = ["share:insurer", "share:empty", "share:new"];
    let tables = ["table:claims.claims", "table:unused", "table:new"];
    match scope {
        "share" => shares.to_vec(),
        "table" => tables.to_vec(),
        "domain" => vec!["domain:D"],
        "both" => [shares, tables].concat(),
        _ => vec!["share:elsewhere", "table:else.where", "domain:elsewhere"],
    }
}

/// An operator with these bindings alone, and a token of its own.
async fn bound(app: &TestApp, name: &str, bindings: Value) -> String {
    app.put(&format!("/operators/{name}"), json!({"bindings": bindings})).await.expect(201);
    let issued = app.post(&format!("/operators/{name}/tokens"), json!({})).await.expect(201);
    issued["token"].as_str().unwrap().to_owned()
}

/// How an operation is asked for that changes nothing.
fn reading(operation: &str, path: &str) -> String {
    match operation {
        "get_table" => "/tables/claims.claims".into(),
        "list_columns" => "/tables/unused/columns".into(),
        "get_share" => "/shares/insurer".into(),
        "list_objects" => "/shares/insurer/objects".into(),
        "get_object" => "/shares/insurer/objects/claims/claims".into(),
        "get_view" => "/views/claims.some".into(),
        "diff_view" => "/views/claims.some/diff?from=1&to=2".into(),
        "get_grant" => "/grants/{grant}".into(),
        "get_purpose" => "/purposes/some".into(),
        "get_domain" => "/domains/d".into(),
        _ => path
            .strip_prefix("/api/v1")
            .unwrap()
            .replace("{id}", "00000000-0000-0000-0000-000000000000")
            .replace(['{', '}'], ""),
    }
}

async fn every_operation_asks_where_a_role_counts(app: TestApp) {
    let ids: BTreeMap<&'static str, String> = something_of_everything(&app).await;
    for path in ["/shares/insurer", "/shares/empty", "/tables/claims.claims", "/tables/unused"] {
        app.patch(path, json!({"domain": "d"})).await.expect(200);
    }
    let location = app.location("claims");
    let rows = documented();
    let mut callers = Vec::new();
    for scope in ["share", "table", "domain", "both", "elsewhere"] {
        for role in ROLES {
            let bindings: Vec<Value> =
                bindings_of(scope).into_iter().map(|scope| json!({"role": role, "scope": scope})).collect();
            callers.push((scope, role, bound(&app, &format!("{role}.{scope}"), json!(bindings)).await));
        }
    }
    let mut allowed = 0;
    for operation in described(&app).await {
        let id = operation.description["operationId"].as_str().unwrap();
        let row = rows.iter().find(|row| row.operations.contains(id)).unwrap();
        let (path, body) = match request_of(id) {
            Some((path, body)) => (format!("{path}?dry_run=true"), body),
            None if operation.method == Method::GET => (reading(id, &operation.path), Value::Null),
            None if id == "accept_schema" => {
                ("/shares/insurer/objects/claims/claims/accept-schema?dry_run=true".into(), json!({}))
            }
            None => (format!("{}?dry_run=true", reading(id, &operation.path)), json!({})),
        };
        let path = ids.iter().fold(path, |path, (name, id)| path.replace(name, id));
        let body = body.to_string().replace("{location}", &location).replace("{month}", "2026-08");
        let body: Value = serde_json::from_str(&body).unwrap();
        for (scope, role, token) in &callers {
            let answer: Answer =
                app.admin_as(token, operation.method.clone(), &path, Some(&body).filter(|b| !b.is_null())).await;
            if row.roles.contains(role) && suffices(id, scope) {
                assert!(![401, 403, 500].contains(&answer.status.as_u16()), "{role} {scope} {id}: {}", answer.text);
                allowed += 1;
            } else {
                assert_eq!(answer.status, 403, "{role} {scope} {id}: {}", answer.text);
            }
        }
    }
    assert!(allowed > 300, "{allowed}");
}

async fn an_owner_of_a_share_shares_what_is_its_own_and_nothing_else(app: TestApp) {
    app.share_claims().await;
    let other = app.plain_log("payroll");
    app.put("/tables/payroll", json!({"location": other})).await.expect(201);
    app.put("/recipients/acme", json!({})).await.expect(201);
    let bea = bound(
        &app,
        "bea",
        json!([{"role": "owner", "scope": "share:own"}, {"role": "owner", "scope": "table:claims.claims"}]),
    )
    .await;
    let by_bea = async |method: Method, path: &str, body: Value| {
        app.admin_as(&bea, method, path, Some(&body).filter(|body| !body.is_null())).await
    };
    // What is not there yet can be hers.
    by_bea(Method::PUT, "/shares/own", json!({"description": "x"})).await.expect(201);
    by_bea(Method::PUT, "/shares/another", json!({})).await.problem(403, "forbidden");
    let claims = json!({"source": {"table": "claims.claims"}});
    by_bea(Method::PUT, "/shares/own/objects/s/claims", claims.clone()).await.expect(201);
    // Neither others' tables in her share, nor hers in others'.
    let payroll = json!({"source": {"table": "payroll"}});
    by_bea(Method::PUT, "/shares/own/objects/s/payroll", payroll).await.problem(403, "forbidden");
    let missing = json!({"source": {"table": "no.such"}});
    by_bea(Method::PUT, "/shares/own/objects/s/payroll", missing).await.problem(403, "forbidden");
    by_bea(Method::PUT, "/shares/insurer/objects/s/claims", claims).await.problem(403, "forbidden");
    by_bea(Method::PATCH, "/shares/insurer/objects/claims/claims", json!({"history": true}))
        .await
        .problem(403, "forbidden");
    let grant = by_bea(Method::POST, "/grants", json!({"share": "own", "recipient": "acme"})).await.expect(201);
    by_bea(Method::POST, "/grants", json!({"share": "insurer", "recipient": "acme"})).await.problem(403, "forbidden");
    by_bea(Method::POST, &format!("/grants/{}/revoke", grant["id"].as_str().unwrap()), json!({})).await.expect(200);
    by_bea(Method::POST, "/shares/insurer/revoke", json!({})).await.problem(403, "forbidden");
    // Her table she takes out of any share, and no other one.
    app.put("/shares/insurer/objects/s/payroll", json!({"source": {"table": "payroll"}})).await.expect(201);
    by_bea(Method::DELETE, "/shares/insurer/objects/s/payroll", Value::Null).await.problem(403, "forbidden");
    by_bea(Method::DELETE, "/shares/insurer/objects/claims/claims", Value::Null).await.expect(204);
    // What belongs to no share needs the role everywhere.
    for (method, path, body) in [
        (Method::PUT, "/recipients/new", json!({})),
        (Method::POST, "/recipients/acme/tokens", json!({"reveal": true})),
        (Method::GET, "/recipients", Value::Null),
        (Method::GET, "/audit", Value::Null),
        (Method::POST, "/freeze", json!({"reason": "r"})),
        (Method::PUT, "/operators/me", json!({"role": "admin"})),
    ] {
        by_bea(method, path, body).await.problem(403, "forbidden");
    }
}

async fn a_steward_of_a_table_looks_after_it_and_moves_it_nowhere(app: TestApp) {
    app.share_claims().await;
    let other = app.plain_log("payroll");
    app.put("/tables/payroll", json!({"location": other})).await.expect(201);
    app.put("/recipients/acme", json!({})).await.expect(201);
    let sam = bound(
        &app,
        "sam",
        json!([{"role": "steward", "scope": "table:claims.claims"}, {"role": "steward", "scope": "table:mine"}]),
    )
    .await;
    let by_sam = async |method: Method, path: &str, body: Value| app.admin_as(&sam, method, path, Some(&body)).await;
    by_sam(Method::PATCH, "/tables/claims.claims", json!({"description": "claims"})).await.expect(200);
    let same = json!({"location": app.location("claims")});
    by_sam(Method::PATCH, "/tables/claims.claims", same).await.expect(200);
    // Under a name of its own, whatever lies in the lake could be looked at.
    for (method, path) in [(Method::PUT, "/tables/mine"), (Method::PATCH, "/tables/claims.claims")] {
        by_sam(method, path, json!({"location": other})).await.problem(403, "forbidden");
    }
    by_sam(Method::PATCH, "/tables/payroll", json!({"description": "x"})).await.problem(403, "forbidden");
    let view = |table: &str| json!({"source": {"table": table}, "columns": [{"name": "id"}]});
    by_sam(Method::PUT, "/views/claims.some", view("claims.claims")).await.expect(201);
    by_sam(Method::PUT, "/views/claims.pay", view("payroll")).await.problem(403, "forbidden");
    by_sam(Method::POST, "/views/claims.some/preview", json!({"recipient": "acme"})).await.expect(200);
    app.put("/views/claims.pay", view("payroll")).await.expect(201);
    by_sam(Method::POST, "/views/claims.pay/preview", json!({"recipient": "acme"})).await.problem(403, "forbidden");
    // A share that the preview reads through is another thing.
    let through = json!({"recipient": "acme", "share": "insurer"});
    by_sam(Method::POST, "/views/claims.some/preview", through).await.problem(403, "forbidden");
    let nobody = by_sam(Method::POST, "/views/claims.some/preview", json!({"recipient": "acm"})).await;
    let nobody = nobody.problem(422, "invalid_input");
    assert!(!nobody.to_string().contains("acme"), "{nobody}");
}

async fn a_domain_is_what_tables_and_shares_say(app: TestApp) {
    app.share_claims().await;
    let dora = bound(&app, "dora", json!([{"role": "owner", "scope": "domain:Claims"}])).await;
    let by_dora = async |method: Method, path: &str, body: Value| {
        app.admin_as(&dora, method, path, Some(&body).filter(|body| !body.is_null())).await
    };
    by_dora(Method::GET, "/shares/insurer", Value::Null).await.problem(403, "forbidden");
    // Nothing of others' is drawn into a domain, and nothing put out of it.
    by_dora(Method::PATCH, "/shares/insurer", json!({"domain": "claims"})).await.problem(403, "forbidden");
    app.patch("/shares/insurer", json!({"domain": "claims"})).await.expect(200);
    app.patch("/tables/claims.claims", json!({"domain": "CLAIMS"})).await.expect(200);
    by_dora(Method::PATCH, "/shares/insurer", json!({"description": "x"})).await.expect(200);
    by_dora(Method::PATCH, "/shares/insurer", json!({"domain": "finance"})).await.problem(403, "forbidden");
    by_dora(Method::PATCH, "/shares/insurer", json!({"domain": null})).await.problem(403, "forbidden");
    by_dora(Method::PATCH, "/shares/insurer/objects/claims/claims", json!({"history": true})).await.expect(200);
    by_dora(Method::PUT, "/shares/new", json!({})).await.problem(403, "forbidden");
    by_dora(Method::PUT, "/shares/new", json!({"domain": "claims"})).await.expect(201);
    app.patch("/tables/claims.claims", json!({"domain": null})).await.expect(200);
    by_dora(Method::PATCH, "/shares/insurer/objects/claims/claims", json!({"history": false}))
        .await
        .problem(403, "forbidden");
    let problem = app.patch("/shares/insurer", json!({"domain": "a b"})).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["domain"]);
    // A role for the table by its name draws it into nobody's domain, not even one's own.
    let both = json!([{"role": "owner", "scope": "table:claims.claims"}, {"role": "owner", "scope": "domain:claims"}]);
    let ed = bound(&app, "ed", both).await;
    for domain in [json!("claims"), json!("finance")] {
        let body = json!({"domain": domain});
        app.admin_as(&ed, Method::PATCH, "/tables/claims.claims", Some(&body)).await.problem(403, "forbidden");
    }
    let audited = &app.events("table.update").await[0];
    assert_eq!(audited["change"], json!({"before": {"domain": "CLAIMS"}, "after": {}}));
}

async fn listings_show_what_a_scope_covers(app: TestApp) {
    app.share_claims().await;
    app.put("/tables/a.other", json!({"location": app.plain_log("other")})).await.expect(201);
    app.put("/recipients/acme", json!({})).await.expect(201);
    for share in ["a", "b", "c"] {
        app.put(&format!("/shares/{share}"), json!({})).await.expect(201);
        app.post("/grants", json!({"share": share, "recipient": "acme"})).await.expect(201);
    }
    for (view, table) in [("a.v", "a.other"), ("claims.v", "claims.claims")] {
        let view_of = json!({"source": {"table": table}, "columns": [{"name": "id"}]});
        app.put(&format!("/views/{view}"), view_of).await.expect(201);
    }
    let bindings = json!([{"role": "agent", "scope": "share:c"}, {"role": "agent", "scope": "table:a.other"}]);
    let amy = bound(&app, "amy", bindings).await;
    let names = async |path: &str, field: &str| {
        let (mut seen, mut token): (Vec<Value>, Option<String>) = (Vec::new(), None);
        loop {
            let next = token.as_ref().map_or_else(String::new, |token| format!("&page_token={token}"));
            let page = app.admin_as(&amy, Method::GET, &format!("{path}?max_results=1{next}"), None).await.expect(200);
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item[field].clone()));
            match page["next_page_token"].as_str() {
                Some(next) => token = Some(next.to_owned()),
                None => return json!(seen),
            }
        }
    };
    assert_eq!(names("/shares", "name").await, json!(["c"]));
    assert_eq!(names("/tables", "name").await, json!(["a.other"]));
    assert_eq!(names("/views", "name").await, json!(["a.v"]));
    assert_eq!(names("/grants", "share").await, json!(["c"]));
    // A share of the same name later is another thing than the one that was granted.
    app.post("/shares/c/revoke", json!({})).await.expect(200);
    app.delete("/shares/c").await.expect(204);
    app.put("/shares/c", json!({})).await.expect(201);
    assert_eq!(names("/shares", "name").await, json!(["c"]));
    assert_eq!(names("/grants", "share").await, json!([]));
    let all = app.get("/grants").await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
}

async fn a_refusal_out_of_scope_is_recorded_and_names_nothing(app: TestApp) {
    app.share_claims().await;
    let eve = bound(&app, "eve", json!([{"role": "owner", "scope": "share:insure"}])).await;
    let by_eve = async |method: Method, path: &str| app.admin_as(&eve, method, path, Some(&json!({}))).await;
    let there = by_eve(Method::PATCH, "/shares/insurer").await.problem(403, "forbidden");
    let not_there = by_eve(Method::PATCH, "/shares/nothing").await.problem(403, "forbidden");
    assert_eq!(there["detail"], not_there["detail"]);
    let event = &app.events("admin.change").await[0];
    assert_eq!((&event["decision"], &event["reason"]), (&json!("deny"), &json!("SCOPE_LACKS_PERMISSION")));
    assert_eq!((&event["actor"]["name"], &event["actor"]["role"]), (&json!("eve"), &json!("owner")));
    let read = |path: &'static str| app.admin_as(&eve, Method::GET, path, None);
    let (there, not_there) = (read("/shares/insurer").await, read("/shares/nothing").await);
    assert_eq!(there.problem(403, "forbidden")["detail"], not_there.problem(403, "forbidden")["detail"]);
    let last_read = async || {
        let events = app.events("admin.read").await;
        events.into_iter().find(|event| event["actor"]["name"] == "eve").unwrap()
    };
    let event = last_read().await;
    assert_eq!((&event["decision"], &event["reason"]), (&json!("deny"), &json!("SCOPE_LACKS_PERMISSION")));
    // Of what would be its own, nothing near is named.
    let missing = read("/shares/insure").await.problem(404, "not_found");
    assert!(!missing["detail"].as_str().unwrap().contains("insurer"), "{missing}");
    assert_eq!(last_read().await["decision"], "allow");
    for path in ["/grants?share=insurers", "/grants?recipient=nobody"] {
        let unknown = read(path).await.problem(400, "invalid_parameter");
        assert!(!unknown["detail"].as_str().unwrap().contains("did you mean"), "{unknown}");
    }
    let audit = read("/audit").await.problem(403, "forbidden");
    assert!(audit["detail"].as_str().unwrap().contains("counts elsewhere"), "{audit}");
    let operators = read("/operators").await.problem(403, "forbidden");
    assert!(operators["detail"].as_str().unwrap().contains("`eve` is `owner`"), "{operators}");
}

async fn a_filter_tells_nothing_of_what_is_hidden(app: TestApp) {
    app.share_claims().await;
    app.put("/shares/own", json!({})).await.expect(201);
    let mut ids = Vec::new();
    for name in ["acme", "rival", "lonely"] {
        let created = app.put(&format!("/recipients/{name}"), json!({})).await.expect(201);
        ids.push(created["id"].as_str().unwrap().to_owned());
    }
    let [acme, rival, lonely] = ids.try_into().unwrap();
    for (share, recipient) in [("insurer", "acme"), ("own", "rival")] {
        app.post("/grants", json!({"share": share, "recipient": recipient})).await.expect(201);
    }
    let insurer = app.get("/shares/insurer").await.expect(200)["id"].as_str().unwrap().to_owned();
    let own = app.get("/shares/own").await.expect(200)["id"].as_str().unwrap().to_owned();
    let eve = bound(&app, "eve", json!([{"role": "owner", "scope": "share:own"}])).await;
    let amy = bound(&app, "amy", json!([{"role": "agent", "scope": "*"}])).await;
    // All that is answered but what is different every time.
    let answer = async |token: &str, method: Method, path: &str| {
        let body = (method == Method::POST).then(|| json!({}));
        let answer = app.admin_as(token, method, path, body.as_ref()).await;
        let mut json = answer.json();
        for member in ["request_id", "instance"] {
            json.as_object_mut().unwrap().remove(member);
        }
        (answer.status.as_u16(), json)
    };
    let none = "00000000-0000-4000-8000-000000000000";
    let pairs = [
        ("/grants?share=insurer".to_owned(), "/grants?share=nothing".to_owned(), 400),
        (format!("/grants?max_results=1&share={insurer}"), format!("/grants?max_results=1&share={none}"), 200),
        ("/grants?recipient=acme".to_owned(), "/grants?recipient=nobody".to_owned(), 400),
        ("/grants?recipient=lonely".to_owned(), "/grants?recipient=nobody".to_owned(), 400),
        (format!("/grants?max_results=1&recipient={acme}"), format!("/grants?max_results=1&recipient={none}"), 200),
        ("/grants?share=own&recipient=acme".to_owned(), "/grants?share=own&recipient=nobody".to_owned(), 400),
        ("/usage?share=insurer".to_owned(), "/usage?share=nothing".to_owned(), 403),
        ("/usage?recipient=acme".to_owned(), "/usage?recipient=nobody".to_owned(), 403),
        ("/reports?recipient=acme".to_owned(), "/reports?recipient=nobody".to_owned(), 403),
        ("/audit?share=insurer".to_owned(), "/audit?share=nothing".to_owned(), 403),
        ("/audit?table=claims.claims".to_owned(), "/audit?table=no.such".to_owned(), 403),
        (format!("/copies?view={none}"), "/copies?view=nothing".to_owned(), 403),
        ("/recipients/acme/tokens".to_owned(), "/recipients/nobody/tokens".to_owned(), 403),
    ];
    for (there, not_there, status) in pairs {
        let (there, not_there) = (answer(&eve, Method::GET, &there).await, answer(&eve, Method::GET, &not_there).await);
        assert_eq!(there, not_there);
        assert_eq!(there.0, status, "{}", there.1);
    }
    // What its own grants name is no secret to it.
    for query in [format!("share={own}"), "share=own".into(), "recipient=rival".into(), format!("recipient={rival}")] {
        let page = app.admin_as(&eve, Method::GET, &format!("/grants?{query}"), None).await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{query}");
    }
    let revoke = async |recipient: &str| {
        let (status, json) = answer(&eve, Method::POST, &format!("/shares/own/recipients/{recipient}/revoke")).await;
        (status, json.to_string().replace(recipient, "NAME"))
    };
    let refused = revoke("nobody").await;
    assert_eq!(refused.0, 404, "{refused:?}");
    assert_eq!((revoke("acme").await, revoke("lonely").await), (refused.clone(), refused));
    assert_eq!(revoke("rival").await.0, 200);
    assert_eq!(revoke("rival").await.0, 200);
    // Who sees every grant, and no recipients, learns of none that no grant names.
    let by_amy = async |query: &str| answer(&amy, Method::GET, &format!("/grants?{query}")).await;
    assert_eq!(by_amy("recipient=lonely").await, by_amy("recipient=nobody").await);
    assert_eq!(by_amy(&format!("recipient={lonely}")).await, by_amy(&format!("recipient={none}")).await);
    let of_acme = by_amy("recipient=acme").await;
    assert_eq!((of_acme.0, &of_acme.1["items"][0]["share"]), (200, &json!("insurer")));
    // An admin is told what is there, as before.
    let all = app.get("/grants?recipient=lonely").await.expect(200);
    assert_eq!(all["items"], json!([]));
}

async fn bindings_are_put_compared_and_merged_like_any_field(app: TestApp) {
    let body = json!({"bindings": [{"role": "owner", "scope": "share:Insurer"}], "kind": "service"});
    let put = app.put("/operators/etl", body.clone()).await.expect(201);
    assert_eq!((&put["role"], &put["bindings"], &put["kind"]), (&Value::Null, &body["bindings"], &json!("service")));
    assert_eq!(app.put("/operators/etl", body).await.expect(200), put);
    assert_eq!(app.get("/operators").await.expect(200)["items"], json!([put]));
    let other = json!({"bindings": [{"role": "owner", "scope": "*"}]});
    let problem = app.put("/operators/etl", other.clone()).await.problem(409, "conflict");
    assert_eq!(fields(&problem), ["bindings"]);
    let changed = app.patch("/operators/etl", other.clone()).await.expect(200);
    assert_eq!((&changed["bindings"], &changed["kind"]), (&other["bindings"], &json!("service")));
    let both = app.patch("/operators/etl", json!({"role": "support"})).await.expect(200);
    assert_eq!((&both["role"], &both["bindings"]), (&json!("support"), &other["bindings"]));
    let issued = app.post("/operators/etl/tokens", json!({})).await.expect(201);
    let token = issued["token"].as_str().unwrap();
    let me = app.admin_as(token, Method::GET, "/whoami", None).await.expect(200);
    assert_eq!(me["role"], "support");
    assert_eq!(me["bindings"], json!([{"role": "support", "scope": "*"}, {"role": "owner", "scope": "*"}]));
    app.admin_as(token, Method::PUT, "/shares/s", Some(&json!({}))).await.expect(201);
    let change = &app.events("operator.update").await[1]["change"];
    assert_eq!(change["before"], json!({"bindings": [{"role": "owner", "scope": "share:Insurer"}]}));
    // Without any role, on purpose: it may sign in.
    app.patch("/operators/etl", json!({"role": null, "bindings": []})).await.expect(200);
    app.admin_as(token, Method::GET, "/shares", None).await.problem(403, "forbidden");
    let me = app.admin_as(token, Method::GET, "/whoami", None).await.expect(200);
    assert_eq!((&me["role"], &me["bindings"]), (&Value::Null, &json!([])));
}

async fn what_makes_no_binding_is_refused(app: TestApp) {
    for (bindings, field) in [
        (json!([{"role": "owner", "scope": "galaxy:x"}]), "bindings[0].scope"),
        (json!([{"role": "owner", "scope": "share:"}]), "bindings[0].scope"),
        (json!([{"role": "owner", "scope": "share:a b"}]), "bindings[0].scope"),
        (json!([{"role": "owner", "scope": "all"}]), "bindings[0].scope"),
        (json!([{"role": "owner", "scope": "*"}, {"role": "root", "scope": "*"}]), "bindings[1].role"),
        (json!([{"role": "owner"}]), "bindings[0]"),
        (json!([{"role": "owner", "scope": "*", "until": 1}]), "bindings[0].until"),
        (json!("owner"), "bindings"),
    ] {
        let problem = app.put("/operators/x", json!({ "bindings": bindings })).await.problem(422, "invalid_input");
        assert!(fields(&problem)[0].starts_with(field), "{problem}");
    }
    let problem = app.put("/operators/x", json!({"role": "admin", "kind": "robot"})).await;
    assert_eq!(fields(&problem.problem(422, "invalid_input")), ["kind"]);
    let many: Vec<Value> = (0..201).map(|n| json!({"role": "agent", "scope": format!("share:{n}")})).collect();
    let problem = app.put("/operators/x", json!({ "bindings": many })).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["bindings"]);
}

async fn an_earlier_word_for_a_role_stays_and_means_the_same(app: TestApp) {
    let old = app.put("/operators/old", json!({"role": "share_owner"})).await.expect(201);
    assert_eq!(old["role"], "share_owner");
    assert_eq!(app.put("/operators/old", json!({"role": "owner"})).await.expect(200), old);
    assert_eq!(app.patch("/operators/old", json!({"role": "owner"})).await.expect(200), old);
    let new = app.put("/operators/new", json!({"role": "owner"})).await.expect(201);
    assert_eq!(new["role"], "owner");
    assert_eq!(app.put("/operators/new", json!({"role": "share_owner"})).await.expect(200), new);
    let bound = json!({"bindings": [{"role": "share_owner", "scope": "share:s"}]});
    let put = app.put("/operators/bound", bound.clone()).await.expect(201);
    assert_eq!(put["bindings"], bound["bindings"]);
    let same = json!({"bindings": [{"role": "owner", "scope": "share:s"}]});
    assert_eq!(app.put("/operators/bound", same).await.expect(200), put);
    for name in ["old", "new"] {
        let issued = app.post(&format!("/operators/{name}/tokens"), json!({})).await.expect(201);
        let token = issued["token"].as_str().unwrap();
        app.admin_as(token, Method::PUT, &format!("/shares/{name}"), Some(&json!({}))).await.expect(201);
    }
    let roles: Vec<Value> =
        app.events("share.create").await.iter().map(|event| event["actor"]["role"].clone()).collect();
    assert_eq!(roles, ["owner", "share_owner"]);
}

async fn a_change_of_scope_counts_for_what_waits_for_its_turn(app: TestApp) {
    use weir::{domain::catalog::share::ShareSpec, service::core::change::Named};
    let token = bound(&app, "ann", json!([{"role": "owner", "scope": "share:s"}])).await;
    let asked = super::asked_to_put_a_share();
    let ctx = app.service.operators.admit_operator(Some(&token), &asked).await.unwrap();
    app.patch("/operators/ann", json!({"bindings": [{"role": "owner", "scope": "share:t"}]})).await.expect(200);
    let refused = app.service.core.put_declared::<ShareSpec>(&ctx, "s", &Named::new()).await.unwrap_err();
    assert!(refused.to_string().contains("counts elsewhere"), "{refused}");
    app.service.core.put_declared::<ShareSpec>(&ctx, "t", &Named::new()).await.unwrap();
}

async fn only_an_admin_everywhere_is_the_last_admin(app: TestApp) {
    let ann = bound(&app, "ann", json!([{"role": "admin", "scope": "share:s"}])).await;
    app.get("/whoami").await.expect(200);
    app.admin_as(&ann, Method::GET, "/operators", None).await.problem(403, "forbidden");
    app.put("/operators/bob", json!({"role": "auditor", "bindings": [{"role": "admin", "scope": "*"}]}))
        .await
        .expect(201);
    let bob = app.post("/operators/bob/tokens", json!({})).await.expect(201)["token"].as_str().unwrap().to_owned();
    app.get("/whoami").await.problem(401, "unauthenticated");
    let by_bob = async |body: Value| app.admin_as(&bob, Method::PATCH, "/operators/bob", Some(&body)).await;
    let problem = by_bob(json!({"bindings": []})).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("last enabled admin"), "{problem}");
    by_bob(json!({"role": "admin", "bindings": []})).await.expect(200);
}
