//! Who may do what: every operation of the document, called by every role and without a token.
//!
//! The expectations are read from the table in docs/identity.md, so the documentation and the server cannot differ. An
//! operation that is missing from the table fails here.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};

use crate::{
    admin::openapi::described,
    support::app::{Answer, TestApp, on_both_databases},
};

on_both_databases!(every_role_may_what_the_documents_say_and_nothing_else);

/// Every role, from the highest rank to the lowest.
pub const ROLES: [&str; 8] =
    ["admin", "owner", "steward", "compliance", "policy_author", "auditor", "support", "agent"];

/// A row of the table: the roles that have a permission, and the operations that need it.
#[derive(Debug, PartialEq)]
pub struct Row {
    pub permission: String,
    pub operations: BTreeSet<String>,
    pub roles: Vec<&'static str>,
}

/// The rows of the table in docs/identity.md.
pub fn documented() -> Vec<Row> {
    let text = include_str!("../../../docs/identity.md");
    let header = format!("| permission | operations | {} |", ROLES.join(" | ").replace('_', " "));
    let (_, table) = text.split_once(&header).unwrap();
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let named = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            let has = |role: usize| match cells[2 + role] {
                "yes" => true,
                "" => false,
                other => panic!("{other}"),
            };
            Row {
                permission: named(cells[0]).remove(0),
                operations: named(cells[1]).into_iter().collect(),
                roles: (0..ROLES.len()).filter(|role| has(*role)).map(|role| ROLES[role]).collect(),
            }
        })
        .collect()
}

#[tokio::test]
async fn the_document_for_people_and_the_one_for_programs_say_the_same() {
    let mut declared: BTreeMap<String, (BTreeSet<String>, Value)> = BTreeMap::new();
    for operation in described(&TestApp::sqlite().await).await {
        let id = operation.description["operationId"].as_str().unwrap().to_owned();
        let permission = operation.description["x-required-permission"].as_str();
        let permission = permission.unwrap_or_else(|| panic!("{id} declares no permission"));
        let mut roles = operation.description["x-required-roles"].clone();
        // Whoever knows the earlier word alone finds it beside the one of today.
        let words = roles.as_array_mut().unwrap();
        let at = words.iter().position(|word| word == "owner");
        assert_eq!(at.map(|at| words.remove(at + 1)), at.map(|_| json!("share_owner")), "{permission}");
        let (operations, of_permission) = declared.entry(permission.to_owned()).or_default();
        operations.insert(id);
        assert!(of_permission.is_null() || *of_permission == roles, "{permission}");
        *of_permission = roles;
    }
    let documented = documented();
    assert_eq!(documented.len(), declared.len(), "{declared:?}");
    for row in documented {
        let (operations, roles) = declared.remove(&row.permission).unwrap_or_default();
        assert_eq!(row.operations, operations, "`{}` in docs/identity.md", row.permission);
        assert_eq!(json!(row.roles), roles, "`{}` in docs/identity.md", row.permission);
    }
}

#[tokio::test]
async fn auditors_change_nothing_and_support_widens_nothing() {
    let (mut seen, tightening) = (0, ["revoke_", "suspend_", "cancel_", "freeze"]);
    for operation in described(&TestApp::sqlite().await).await {
        if operation.method != Method::GET {
            let id = operation.description["operationId"].as_str().unwrap();
            let roles = operation.description["x-required-roles"].as_array().unwrap();
            assert!(["auditor", "policy_author", "agent"].iter().all(|role| !roles.contains(&json!(role))), "{id}");
            let tightens = tightening.iter().any(|word| id.starts_with(word));
            assert!(tightens || !roles.contains(&json!("support")), "{id}");
            seen += 1;
        }
    }
    assert!(seen > 25);
}

async fn every_role_may_what_the_documents_say_and_nothing_else(app: TestApp) {
    let rows = documented();
    let mut tokens: Vec<(&str, String)> = Vec::new();
    // The admin last, with whom the bootstrap token retires.
    for role in ["share_owner"].into_iter().chain(ROLES.into_iter().rev()) {
        tokens.push((role, app.operator(role, role).await));
    }
    let admin = tokens.iter().find(|(role, _)| *role == "admin").unwrap().1.clone();
    let by_admin =
        async |method: Method, path: &str, body: Value| app.admin_as(&admin, method, path, Some(&body)).await;
    by_admin(Method::PUT, "/operators/gone", json!({"role": "admin"})).await.expect(201);
    let mut nobodies = vec![("no token", None), ("another text", Some("weirop_x".to_owned()))];
    let short = by_admin(Method::POST, "/operators/gone/tokens", json!({"expires_in_seconds": 1})).await.expect(201);
    nobodies.push(("an expired token", short["token"].as_str().map(str::to_owned)));
    let revoked = by_admin(Method::POST, "/operators/gone/tokens", json!({})).await.expect(201);
    let path = format!("/operators/gone/tokens/{}/revoke", revoked["id"].as_str().unwrap());
    by_admin(Method::POST, &path, json!({})).await.expect(200);
    nobodies.push(("a revoked token", revoked["token"].as_str().map(str::to_owned)));
    let disabled = by_admin(Method::POST, "/operators/gone/tokens", json!({})).await.expect(201);
    nobodies.push(("a disabled operator's token", disabled["token"].as_str().map(str::to_owned)));
    by_admin(Method::POST, "/operators/gone/disable", json!({"reason": "left"})).await.expect(200);
    by_admin(Method::PUT, "/recipients/acme", json!({})).await.expect(201);
    let recipient = by_admin(Method::POST, "/recipients/acme/tokens", json!({"reveal": true})).await.expect(201);
    nobodies.push(("a recipient's token", recipient["token"].as_str().map(str::to_owned)));
    nobodies.push(("the retired bootstrap token", Some(crate::support::app::OPERATOR_TOKEN.to_owned())));
    app.pass(2);

    let operations = described(&app).await;
    assert!(operations.len() > 40, "{operations:?}");
    for operation in operations {
        let id = operation.description["operationId"].as_str().unwrap();
        let row = rows.iter().find(|row| row.operations.contains(id));
        let row = row.unwrap_or_else(|| panic!("{id} is not in the table of docs/identity.md"));
        // The named objects do not exist, so allowed requests change nothing.
        let path = operation.path.replace("{id}", "00000000-0000-0000-0000-000000000000");
        let path = path.replace('{', "no-").replace('}', "");
        let path = path.strip_prefix("/api/v1").unwrap();
        let writes = [Method::PUT, Method::POST, Method::PATCH].contains(&operation.method);
        let body = json!({"no_such_field": true});
        let body = Some(&body).filter(|_| writes);
        for (role, token) in &tokens {
            let answer: Answer = app.admin_as(token, operation.method.clone(), path, body).await;
            let meant = if *role == "share_owner" { "owner" } else { role };
            if row.roles.contains(&meant) {
                assert!(![401, 403, 500].contains(&answer.status.as_u16()), "{role} {id}: {}", answer.text);
                continue;
            }
            let problem = answer.problem(403, "forbidden");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("`{role}` is `{role}`")), "{detail}");
            assert!(row.roles.iter().all(|needed| detail.contains(&format!("`{needed}`"))), "{detail}");
        }
        for (who, token) in &nobodies {
            let answer = app.admin_as(token.as_deref().unwrap_or_default(), operation.method.clone(), path, body).await;
            assert_eq!(answer.headers["www-authenticate"], "Bearer", "{who} {id}: {}", answer.text);
            answer.problem(401, "unauthenticated");
        }
        // Within one minute, later refusals would be summed up and then limited.
        app.pass(60);
    }
    app.service.sharing.record_summaries(true);
    app.service.core.audit_writer.finish().await;
    let page = app.admin_as(&admin, Method::GET, "/audit?decision=deny&max_results=1000", None).await.expect(200);
    let reasons: BTreeSet<&str> =
        page["items"].as_array().unwrap().iter().map(|e| e["reason"].as_str().unwrap()).collect();
    for reason in [
        "ROLE_LACKS_PERMISSION",
        "OPERATOR_TOKEN_UNKNOWN",
        "OPERATOR_TOKEN_EXPIRED",
        "OPERATOR_TOKEN_REVOKED",
        "OPERATOR_DISABLED",
        "BOOTSTRAP_RETIRED",
    ] {
        assert!(reasons.contains(reason), "{reason} {reasons:?}");
    }
    // Operators' tokens do not work for recipients.
    for (_, token) in &tokens {
        assert_eq!(app.shared(token, "/shares").await.status, 401);
    }
}
