//! Identities in the admin API: recipients bound to one, and operators who sign in with one.

use http::Method;
use serde_json::{Value, json};

use super::asked_to_put_a_share;
use crate::support::{
    app::{TestApp, fields},
    issuer::{AUDIENCE, Mood, OPERATORS, TestIssuer},
};

async fn servers() -> (TestIssuer, Vec<TestApp>) {
    let issuer = TestIssuer::start();
    let apps = TestApp::each(|settings| issuer.introduce(settings)).await;
    (issuer, apps)
}

fn oidc(issuer: &TestIssuer, value: &str) -> Value {
    json!({"issuer": issuer.url(), "audience": AUDIENCE, "claim": "azp", "value": value})
}

#[tokio::test]
async fn a_binding_is_put_confirmed_merged_and_taken_away() {
    let (issuer, apps) = servers().await;
    for app in apps {
        let body = json!({"oidc": oidc(&issuer, "acme-reader")});
        let created = app.put("/recipients/acme", body.clone()).await.expect(201);
        let mut shown = created["oidc"].clone();
        assert!(shown.as_object_mut().unwrap().remove("id").unwrap().is_string());
        assert_eq!(shown, body["oidc"]);
        assert_eq!(app.put("/recipients/acme", body).await.expect(200), created);
        let other = app.put("/recipients/acme", json!({"oidc": oidc(&issuer, "x")})).await.problem(409, "conflict");
        assert_eq!(fields(&other), ["oidc"]);
        let merged = app.patch("/recipients/acme", json!({"oidc": {"claim": "sub"}})).await.expect(200);
        assert_eq!((&merged["oidc"]["claim"], &merged["oidc"]["value"]), (&json!("sub"), &json!("acme-reader")));
        assert_ne!(merged["oidc"]["id"], created["oidc"]["id"]);
        let taken = app.patch("/recipients/acme", json!({"oidc": null})).await.expect(200);
        assert_eq!(taken["oidc"], Value::Null);
        assert_eq!(app.events("recipient.create").await[0]["change"]["after"]["oidc"], oidc(&issuer, "acme-reader"));
    }
}

#[tokio::test]
async fn a_binding_that_makes_no_sense_is_refused() {
    let (issuer, apps) = servers().await;
    for app in apps {
        let refused = async |oidc: Value, expected: &[&str]| {
            let problem = app.put("/recipients/acme", json!({ "oidc": oidc })).await.problem(422, "invalid_input");
            assert_eq!(fields(&problem), expected, "{problem}");
            problem.to_string()
        };
        let with = |name: &str, value: Value| {
            let mut oidc = oidc(&issuer, "x");
            oidc[name] = value;
            oidc
        };
        refused(json!({}), &["oidc.audience", "oidc.claim", "oidc.issuer", "oidc.value"]).await;
        refused(with("value", Value::Null), &["oidc.value"]).await;
        refused(with("value", json!("")), &["oidc.value"]).await;
        refused(with("value", json!("x".repeat(501))), &["oidc.value"]).await;
        refused(with("value", json!(["x"])), &["oidc.value"]).await;
        refused(with("subject", json!("x")), &["oidc.subject"]).await;
        for claim in ["iss", "aud"] {
            refused(with("claim", json!(claim)), &["oidc.claim"]).await;
        }
        let message = refused(with("issuer", json!("https://evil.example.org")), &["oidc.issuer"]).await;
        assert!(message.contains(issuer.url()) && message.contains(AUDIENCE), "{message}");
        // A recipient cannot be bound to the operators' audience.
        refused(with("audience", json!(OPERATORS)), &["oidc.issuer"]).await;
        app.put("/recipients/acme", json!({"oidc": with("value", json!("ä".repeat(250)))})).await.expect(201);
        app.patch("/recipients/acme", json!({"oidc": {"value": null}})).await.problem(422, "invalid_input");
    }
}

#[tokio::test]
async fn no_two_recipients_are_bound_to_the_same() {
    let (issuer, apps) = servers().await;
    for app in apps {
        app.put("/recipients/acme", json!({"oidc": oidc(&issuer, "one")})).await.expect(201);
        app.put("/recipients/rival", json!({"oidc": oidc(&issuer, "two")})).await.expect(201);
        for answer in [
            app.put("/recipients/third", json!({"oidc": oidc(&issuer, "one")})).await,
            app.patch("/recipients/rival", json!({"oidc": {"value": "one"}})).await,
        ] {
            let problem = answer.problem(409, "conflict");
            assert!(problem["detail"].as_str().unwrap().contains("`acme`"), "{problem}");
        }
        app.put("/recipients/third", json!({"oidc": oidc(&issuer, "One")})).await.expect(201);
        // Offboarding releases the identity.
        app.post("/recipients/acme/offboard", json!({"reason": "over"})).await.expect(200);
        let ended = &app.events("recipient.offboard").await[0];
        assert_eq!(ended["change"]["before"]["oidc"]["value"], "one");
        app.patch("/recipients/rival", json!({"oidc": {"value": "one"}})).await.expect(200);
    }
}

#[tokio::test]
async fn a_recipient_has_tokens_or_an_identity() {
    let (issuer, apps) = servers().await;
    for app in apps {
        app.put("/recipients/acme", json!({})).await.expect(201);
        let pending = app.post("/recipients/acme/tokens", json!({})).await.expect(201);
        let bind = || app.patch("/recipients/acme", json!({"oidc": oidc(&issuer, "acme")}));
        let problem = bind().await.problem(409, "conflict");
        assert!(problem["detail"].as_str().unwrap().contains(pending["id"].as_str().unwrap()), "{problem}");
        let path = format!("/recipients/acme/tokens/{}/activation", pending["id"].as_str().unwrap());
        app.delete(&path).await.expect(204);
        bind().await.expect(200);
        for body in [json!({}), json!({"reveal": true})] {
            let problem = app.post("/recipients/acme/tokens", body).await.problem(409, "conflict");
            assert!(problem["detail"].as_str().unwrap().contains(issuer.url()), "{problem}");
        }
        app.patch("/recipients/acme", json!({"oidc": null})).await.expect(200);
        app.post("/recipients/acme/tokens", json!({"reveal": true})).await.expect(201);
    }
}

#[tokio::test]
async fn a_profile_names_the_token_endpoint_and_leaves_the_secret_open() {
    let (issuer, apps) = servers().await;
    for app in apps {
        issuer.is(Mood::Well);
        app.put("/recipients/acme", json!({"oidc": oidc(&issuer, "acme-reader")})).await.expect(201);
        let mut expected = json!({
            "shareCredentialsVersion": 2,
            "type": "oauth_client_credentials",
            "endpoint": "http://weir.test/delta-sharing",
            "tokenEndpoint": format!("{}/token", issuer.url()),
            "clientId": "acme-reader",
            "clientSecret": "<client secret>",
            "scope": "read",
        });
        assert_eq!(app.get("/recipients/acme/profile").await.expect(200), expected);
        app.patch("/recipients/acme", json!({"oidc": {"claim": "sub"}})).await.expect(200);
        expected["clientId"] = json!("<client id>");
        assert_eq!(app.get("/recipients/acme/profile").await.expect(200), expected);
        app.put("/recipients/other", json!({})).await.expect(201);
        app.get("/recipients/other/profile").await.problem(409, "conflict");
        app.get("/recipients/nobody/profile").await.problem(404, "not_found");
        issuer.is(Mood::Failing);
        app.pass(3600);
        app.get("/recipients/acme/profile").await.problem(503, "unavailable");
    }
}

#[tokio::test]
async fn a_profile_of_an_issuer_that_is_described_in_the_settings_asks_nobody() {
    let issuer = TestIssuer::start();
    issuer.is(Mood::Failing);
    let app = TestApp::sqlite_set(|settings| {
        issuer.introduce(settings);
        settings.identity.issuer[0].token_endpoint = Some("https://login.example.org/token".to_owned());
        settings.identity.issuer[0].scope = None;
    })
    .await;
    app.put("/recipients/acme", json!({"oidc": oidc(&issuer, "acme-reader")})).await.expect(201);
    let profile = app.get("/recipients/acme/profile").await.expect(200);
    assert_eq!(profile["tokenEndpoint"], "https://login.example.org/token");
    assert!(profile.get("scope").is_none());
}

/// A token of an operator in these groups.
fn operator(issuer: &TestIssuer, app: &TestApp, more: Value) -> String {
    let mut claims = json!({"aud": OPERATORS, "sub": "u-1"});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    issuer.token(app.now(), claims)
}

#[tokio::test]
async fn operators_sign_in_with_a_role_from_a_claim() {
    let (issuer, apps) = servers().await;
    for app in apps {
        let whoami = async |groups: Value| {
            let token = operator(&issuer, &app, json!({"groups": groups}));
            app.admin_as(&token, Method::GET, "/whoami", None).await
        };
        for (groups, role) in [
            (json!("weir-admins"), "admin"),
            (json!(["staff", "weir-owners"]), "share_owner"),
            (json!(["weir-audit"]), "auditor"),
            (json!(["weir-desk"]), "support"),
            (json!(["weir-desk", "weir-owners", "weir-audit"]), "share_owner"),
        ] {
            let me = whoami(groups).await.expect(200);
            assert_eq!((&me["name"], &me["role"]), (&json!("u-1"), &json!(role)));
            assert_eq!(me["expires_at"], "2026-09-21T15:14:20Z", "an hour, and what clocks may differ by");
        }
        for groups in [json!(["staff"]), json!([]), json!("Weir-Admins"), json!(true), json!(["weir-admins "])] {
            let problem = whoami(groups).await.problem(403, "forbidden");
            assert!(problem["detail"].as_str().unwrap().contains("names no role"), "{problem}");
        }
        let events = app.events("auth.failed").await;
        assert_eq!(
            (&events[0]["reason"], &events[0]["actor"]["name"]),
            (&json!("IDENTITY_WITHOUT_ROLE"), &json!("u-1"))
        );
    }
}

#[tokio::test]
async fn what_an_identity_does_is_recorded_under_one_id_and_its_role_bounds_it() {
    let issuer = TestIssuer::start();
    let introduce = |settings: &mut weir::config::Settings| {
        issuer.introduce(settings);
        settings.identity.operators.name_claim = "email".to_owned();
    };
    for app in TestApp::each(introduce).await {
        let owner = operator(&issuer, &app, json!({"groups": "weir-owners", "email": "ann@example.org"}));
        app.admin_as(&owner, Method::PUT, "/shares/s", Some(&json!({}))).await.expect(201);
        app.admin_as(&owner, Method::PUT, "/operators/x", Some(&json!({"role": "admin"})))
            .await
            .problem(403, "forbidden");
        // The same subject with another name.
        let later = operator(&issuer, &app, json!({"groups": "weir-owners", "email": "ann@new.example.org"}));
        app.admin_as(&later, Method::PUT, "/shares/t", Some(&json!({}))).await.expect(201);
        let other = operator(&issuer, &app, json!({"groups": "weir-owners", "sub": "u-2"}));
        app.admin_as(&other, Method::PUT, "/shares/u", Some(&json!({}))).await.expect(201);
        let actors: Vec<Value> =
            app.events("share.create").await.into_iter().map(|event| event["actor"].clone()).collect();
        assert_eq!(
            actors[2],
            json!({"kind": "operator", "id": actors[2]["id"], "name": "ann@example.org", "role": "share_owner"})
        );
        assert_eq!((&actors[1]["id"], &actors[1]["name"]), (&actors[2]["id"], &json!("ann@new.example.org")));
        assert_eq!(actors[0]["name"], "u-2", "the subject, where the claim is missing");
        assert_ne!(actors[0]["id"], actors[1]["id"]);
        // Signing in through an issuer does not create an admin, so the bootstrap token still works.
        let admin = operator(&issuer, &app, json!({"groups": "weir-admins"}));
        app.admin_as(&admin, Method::GET, "/operators", None).await.expect(200);
        app.get("/whoami").await.expect(200);
    }
}

#[tokio::test]
async fn a_change_is_refused_that_had_its_turn_after_its_operators_jwt_ended() {
    use weir::{domain::catalog::share::ShareSpec, service::core::change::Named};
    let (issuer, apps) = servers().await;
    for app in apps {
        let token = operator(&issuer, &app, json!({"groups": "weir-owners"}));
        let asked = asked_to_put_a_share();
        let ctx = app.service.operators.admit_operator(Some(&token), &asked).await.unwrap();
        app.pass(3659);
        app.service.core.put_declared::<ShareSpec>(&ctx, "s", &Named::new()).await.unwrap();
        app.pass(1);
        app.service.core.put_declared::<ShareSpec>(&ctx, "t", &Named::new()).await.unwrap_err();
    }
}

#[tokio::test]
async fn tokens_that_are_none_of_an_operators_are_401_and_an_issuer_that_is_silent_503() {
    let issuer = TestIssuer::start();
    let second = TestIssuer::start();
    let introduce = |settings: &mut weir::config::Settings| {
        settings.identity.issuer.push(second.settings());
        issuer.introduce(settings);
    };
    for app in TestApp::each(introduce).await {
        issuer.is(Mood::Well);
        let get = async |token: String| app.admin_as(&token, Method::GET, "/shares", None).await;
        let admins = |more: Value| {
            let mut claims = json!({"groups": "weir-admins"});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            operator(&issuer, &app, claims)
        };
        get(admins(json!({}))).await.expect(200);
        let now = app.now().timestamp();
        let of_second = second.token(app.now(), json!({"aud": OPERATORS, "groups": "weir-admins"}));
        for (token, reason) in [
            (admins(json!({"aud": AUDIENCE})), "IDENTITY_INVALID"),
            (admins(json!({"aud": [OPERATORS, AUDIENCE]})), "IDENTITY_INVALID"),
            (admins(json!({"sub": null})), "IDENTITY_INVALID"),
            (admins(json!({"exp": now - 60})), "OPERATOR_TOKEN_EXPIRED"),
            (admins(json!({"nbf": now + 61})), "IDENTITY_INVALID"),
            (of_second, "IDENTITY_INVALID"),
            (format!("{}x", admins(json!({}))), "IDENTITY_INVALID"),
        ] {
            get(token).await.problem(401, "unauthenticated");
            assert_eq!(app.events("auth.failed").await[0]["reason"], reason);
        }
        issuer.is(Mood::Silent);
        app.pass(3600);
        get(admins(json!({}))).await.problem(503, "unavailable");
        assert_eq!(app.events("auth.failed").await[0]["reason"], "ISSUER_UNAVAILABLE");
        app.get("/whoami").await.expect(200);
    }
}

#[tokio::test]
async fn whoever_signs_in_by_an_issuer_is_listed_and_can_be_refused() {
    let issuer = TestIssuer::start();
    let introduce = |settings: &mut weir::config::Settings| {
        issuer.introduce(settings);
        settings.identity.operators.name_claim = "email".to_owned();
    };
    for app in TestApp::each(introduce).await {
        assert_eq!(app.get("/operator-identities").await.expect(200)["items"], json!([]));
        let token = |more: Value| operator(&issuer, &app, more);
        let ann = token(json!({"groups": "weir-owners", "email": "ann@example.org"}));
        let by_ann = async |method: Method, path: &str| app.admin_as(&ann, method, path, None).await;
        let id = by_ann(Method::GET, "/whoami").await.expect(200)["id"].clone();
        by_ann(Method::GET, "/shares").await.expect(200);
        let listed = app.get("/operator-identities").await.expect(200);
        let row = listed["items"][0].clone();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        assert_eq!((&row["id"], &row["issuer"], &row["subject"]), (&id, &json!(issuer.url()), &json!("u-1")));
        assert_eq!((&row["name"], &row["disabled_at"]), (&json!("ann@example.org"), &Value::Null));
        let first = app.events("operator.identity.create").await;
        assert_eq!((first.len(), &first[0]["object"]["id"]), (1, &id));
        // Nobody is kept who is not let in.
        let nobody = token(json!({"groups": "strangers", "sub": "u-2"}));
        app.admin_as(&nobody, Method::GET, "/whoami", None).await.problem(403, "forbidden");
        // Under another name it is the same.
        let later = token(json!({"groups": "weir-owners", "email": "ann@new.example.org"}));
        app.admin_as(&later, Method::GET, "/whoami", None).await.expect(200);
        let path = format!("/operator-identities/{}", id.as_str().unwrap());
        let renamed = app.get(&path).await.expect(200);
        assert_eq!((&renamed["name"], &renamed["id"]), (&json!("ann@new.example.org"), &id));
        assert_eq!(app.events("operator.identity.update").await.len(), 1);

        let reason = json!({"reason": "left"});
        app.post(&format!("{path}/disable"), json!({})).await.problem(422, "invalid_input");
        let rehearsed = app.post(&format!("{path}/disable?dry_run=true"), reason.clone()).await;
        assert_eq!(rehearsed.headers["x-weir-dry-run"], "true");
        by_ann(Method::GET, "/shares").await.expect(200);
        let disabled = app.post(&format!("{path}/disable"), reason.clone()).await.expect(200);
        assert!(disabled["disabled_at"].is_string());
        assert_eq!(app.post(&format!("{path}/disable"), reason.clone()).await.expect(200), disabled);
        for token in [&ann, &later, &token(json!({"groups": "weir-admins"}))] {
            let refused = app.admin_as(token, Method::GET, "/shares", None).await.problem(401, "unauthenticated");
            assert!(refused["detail"].as_str().unwrap().contains("disabled"), "{refused}");
            let event = &app.events("auth.failed").await[0];
            assert_eq!((&event["reason"], &event["actor"]["id"]), (&json!("OPERATOR_DISABLED"), &id));
        }
        app.delete(&path).await.problem(409, "conflict");
        app.post(&format!("{path}/enable?dry_run=true"), reason.clone()).await.expect(200);
        by_ann(Method::GET, "/shares").await.problem(401, "unauthenticated");
        app.post(&format!("{path}/enable"), json!({"reason": "back"})).await.expect(200);
        by_ann(Method::GET, "/shares").await.expect(200);
        assert_eq!(app.events("operator.identity.disable").await[0]["change"], json!({"reason": "left"}));
        app.delete(&format!("{path}?dry_run=true")).await.expect(204);
        let etag = app.get(&path).await.expect(200)["etag"].as_str().unwrap().to_owned();
        let stale = [("if-match", renamed["etag"].as_str().unwrap())];
        app.admin_with(Method::DELETE, &path, &stale, None).await.problem(412, "precondition_failed");
        app.admin_with(Method::DELETE, &path, &[("if-match", &etag)], None).await.expect(204);
        app.get(&path).await.problem(404, "not_found");
        by_ann(Method::GET, "/shares").await.expect(200);
        assert_eq!(app.events("operator.identity.create").await.len(), 2);
    }
}

#[tokio::test]
async fn a_change_is_refused_that_had_its_turn_after_its_operators_identity_was_disabled() {
    use weir::{domain::catalog::share::ShareSpec, service::core::change::Named};
    let (issuer, apps) = servers().await;
    for app in apps {
        let token = operator(&issuer, &app, json!({"groups": "weir-owners"}));
        let ctx = app.service.operators.admit_operator(Some(&token), &asked_to_put_a_share()).await.unwrap();
        app.service.core.put_declared::<ShareSpec>(&ctx, "s", &Named::new()).await.unwrap();
        let path = format!("/operator-identities/{}", ctx.actor.id.unwrap());
        app.post(&format!("{path}/disable"), json!({"reason": "left"})).await.expect(200);
        let refused = app.service.core.put_declared::<ShareSpec>(&ctx, "t", &Named::new()).await.unwrap_err();
        assert!(refused.to_string().contains("disabled"), "{refused}");
        app.get("/shares/t").await.problem(404, "not_found");
    }
}
