//! Recipients bound to an issuer: which JWTs they may use, which are refused, and what ends them.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use http::Method;
use serde_json::{Value, json};
use weir::{domain::access::decision::Reason, service::core::places::PlaceLimits};

use crate::support::{
    app::{OPERATOR_TOKEN, ROOM, TestApp},
    issuer::{AUDIENCE, HEADER, Mood, OPERATORS, Signer, TestIssuer, base64, rsa},
};

use super::{Reader, fetch, reasons::is_told, share, steps, with_history};

/// Creates the recipient `acme`, bound to the subject `machine-7`, with a grant on the table `insurer.s.steps`.
async fn bind_acme(app: &TestApp, issuer: &TestIssuer) {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    app.put("/recipients/acme", json!({"oidc": oidc(issuer, "sub", "machine-7")})).await.expect(201);
    app.post("/grants", json!({"share": "insurer", "recipient": "acme"})).await.expect(201);
}

fn oidc(issuer: &TestIssuer, claim: &str, value: &str) -> Value {
    json!({"issuer": issuer.url(), "audience": AUDIENCE, "claim": claim, "value": value})
}

/// An issuer, and a server on each database that trusts it.
async fn servers() -> (TestIssuer, Vec<TestApp>) {
    let issuer = TestIssuer::start();
    let apps = TestApp::each(|settings| issuer.introduce(settings)).await;
    (issuer, apps)
}

async fn version(app: &TestApp, token: &str) -> u16 {
    app.shared(token, "/shares/insurer/schemas/s/tables/steps/version").await.status.as_u16()
}

/// The reason of the newest refusal.
async fn reason(app: &TestApp) -> String {
    let page = app.get("/audit?decision=deny&max_results=1").await.expect(200);
    page["items"][0]["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_jwt_of_the_bound_identity_reads_what_its_recipient_is_granted() {
    let (issuer, apps) = servers().await;
    for app in apps {
        bind_acme(&app, &issuer).await;
        let token = issuer.token(app.now(), json!({}));
        let shares = app.shared(&token, "/shares").await.expect(200);
        assert_eq!(shares["items"][0]["name"], "insurer");
        let reader = Reader { app: &app, token };
        let answer = reader.query("steps", json!({"startingVersion": 3})).await;
        let url = answer.of_kind("add")[0]["url"].as_str().unwrap().to_owned();
        assert_eq!(fetch(&app, Method::GET, &url, &[]).await.text, "c.parquet");

        let id = app.get("/recipients/acme").await.expect(200)["oidc"]["id"].clone();
        let event = &app.events("table.query").await[0];
        assert_eq!((&event["recipient"], &event["token_id"]), (&json!("acme"), &id));
        assert_eq!((&event["actor"]["kind"], &event["subject"]), (&json!("recipient"), &json!("machine-7")));
        // An hour, plus the tolerance for clocks.
        let end: DateTime<Utc> = event["url_expires_at"].as_str().unwrap().parse().unwrap();
        assert_eq!((end - app.now()).num_seconds(), 3660);
        app.pass(3659);
        assert_eq!(fetch(&app, Method::GET, &url, &[]).await.status, 200);
        assert_eq!(version(&app, &reader.token).await, 200);
        app.pass(1);
        fetch(&app, Method::GET, &url, &[]).await.refused(403, "PERMISSION_DENIED", "query the table again");
        reader.get("/shares").await.refused(401, "UNAUTHENTICATED", "identity provider");
        assert_eq!(reason(&app).await, "IDENTITY_EXPIRED");
        assert_eq!(version(&app, &issuer.token(app.now(), json!({}))).await, 200);
    }
}

#[tokio::test]
async fn a_list_that_holds_the_value_will_do_and_an_identity_of_two_is_nobodys() {
    let (issuer, apps) = servers().await;
    for app in apps {
        bind_acme(&app, &issuer).await;
        app.patch("/recipients/acme", json!({"oidc": {"claim": "groups", "value": "acme-readers"}})).await.expect(200);
        let by_groups = |groups: Value| issuer.token(app.now(), json!({"aud": ["other", AUDIENCE], "groups": groups}));
        assert_eq!(version(&app, &by_groups(json!(["x", "acme-readers"]))).await, 200);
        assert_eq!(version(&app, &by_groups(json!("acme-readers"))).await, 200);
        for groups in [json!([]), json!(["Acme-Readers"]), json!("acme-readers "), json!([["acme-readers"]]), json!(7)]
        {
            assert_eq!(version(&app, &by_groups(groups.clone())).await, 401, "{groups}");
            assert_eq!(reason(&app).await, "IDENTITY_UNBOUND");
        }
        app.put("/recipients/rival", json!({"oidc": oidc(&issuer, "groups", "rivals")})).await.expect(201);
        assert_eq!(version(&app, &by_groups(json!(["acme-readers", "rivals"]))).await, 401);
        assert_eq!(reason(&app).await, "IDENTITY_UNBOUND");
        // Many groups, even ones that no recipient is bound to, do no harm.
        let mut many: Vec<String> = (0..600).map(|i| format!("g{i}")).collect();
        many.extend(["\u{0}".to_owned(), "x".repeat(600)]);
        assert_eq!(version(&app, &by_groups(json!(many))).await, 401);
        many.push("acme-readers".to_owned());
        assert_eq!(version(&app, &by_groups(json!(many))).await, 200);
    }
}

#[tokio::test]
async fn a_jwt_lives_no_longer_than_tokens_may() {
    let (issuer, apps) = servers().await;
    for app in apps {
        bind_acme(&app, &issuer).await;
        let now = app.now().timestamp();
        let ends_in = |days: i64, more: Value| {
            let mut claims = json!({"exp": now + days * 86_400});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            issuer.token(app.now(), claims)
        };
        assert_eq!(version(&app, &ends_in(90, json!({}))).await, 200);
        assert_eq!(version(&app, &ends_in(90, json!({"iat": null}))).await, 200);
        let long = [
            ends_in(91, json!({})),
            ends_in(91, json!({"iat": null})),
            ends_in(1, json!({"iat": now - 90 * 86_400})),
            ends_in(36_500, json!({})),
        ];
        for token in long {
            assert_eq!(version(&app, &token).await, 401);
            assert_eq!(reason(&app).await, "IDENTITY_INVALID");
        }
        let operator = |days| ends_in(days, json!({"aud": OPERATORS, "groups": ["weir-audit"]}));
        for (days, status) in [(365, 200), (366, 401)] {
            let answer = app.admin_as(&operator(days), Method::GET, "/whoami", None).await;
            assert_eq!(answer.status, status, "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn whoever_waits_for_an_issuer_keeps_nobody_out() {
    let issuer = TestIssuer::start();
    issuer.is(Mood::Silent);
    let app = TestApp::sqlite_set(|settings| {
        issuer.introduce(settings);
        settings.identity.fetch_timeout_seconds = 60;
    })
    .await;
    let room = PlaceLimits { requests: 1, per_address: 1, ..ROOM };
    let (app, _) = app.with_room(room, room, Duration::from_secs(60));
    let reader = Reader::rival(&app).await;
    let token = issuer.token(app.now(), json!({}));
    let operator = issuer.token(app.now(), json!({"aud": OPERATORS, "groups": ["weir-admins"]}));
    let others = async {
        for _ in 0..3 {
            assert_eq!(reader.get("/shares").await.status, 200);
            app.post("/freeze", json!({"reason": "drill"})).await.expect(200);
            app.post("/unfreeze", json!({"reason": "over"})).await.expect(200);
        }
    };
    tokio::select! {
        biased;
        _ = app.shared(&token, "/shares") => unreachable!("its issuer is silent"),
        _ = app.admin_as(&operator, Method::GET, "/whoami", None) => unreachable!("its issuer is silent"),
        () = others => {}
    }
}

#[tokio::test]
async fn keys_of_every_kind_verify_by_their_own_algorithm() {
    let (issuer, apps) = servers().await;
    let (ec, ed) = (Signer::ec(), Signer::ed());
    let mut pss = rsa(1).jwk("pss");
    pss["alg"] = json!("PS256");
    let secret = json!({"kty": "oct", "kid": "secret", "k": base64(b"0123456789abcdef0123456789abcdef")});
    issuer.publishes(&[rsa(0).jwk("k1"), ec.jwk("ec"), secret, ed.jwk("ed"), pss, json!({"kty": "unheard-of"})]);
    for app in apps {
        bind_acme(&app, &issuer).await;
        let claims = issuer.claims(app.now(), json!({})).to_string();
        let token =
            |signer: &Signer, alg: &str, kid: &str| signer.token(&json!({"alg": alg, "kid": kid}).to_string(), &claims);
        for token in [
            token(rsa(0), "RS256", "k1"),
            token(rsa(0), "RS512", "k1"),
            token(rsa(0), "PS256", "k1"),
            token(rsa(1), "PS256", "pss"),
            token(&ec, "ES256", "ec"),
            token(&ed, "EdDSA", "ed"),
        ] {
            assert_eq!(version(&app, &token).await, 200, "{token}");
        }
        for token in [
            token(rsa(1), "RS256", "pss"),
            token(rsa(0), "ES256", "k1"),
            token(&ec, "RS256", "ec"),
            token(&ec, "ES384", "ec"),
            token(&ed, "EdDSA", "ec"),
            token(rsa(0), "RS256", "secret"),
        ] {
            assert_eq!(version(&app, &token).await, 401, "{token}");
            assert_eq!(reason(&app).await, "IDENTITY_INVALID");
        }
    }
}

/// Tokens that look like `acme`'s but must be refused.
fn bad_tokens(issuer: &TestIssuer, other: &TestIssuer, now: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let claims = issuer.claims(now, json!({})).to_string();
    let with = |more: Value| issuer.token(now, more);
    let by = |header: &str| rsa(0).token(header, &claims);
    let honest = with(json!({}));
    let (message, signature) = honest.rsplit_once('.').unwrap();
    let unsigned = |header: &str| format!("{}.{}.", base64(header.as_bytes()), base64(claims.as_bytes()));
    let confused = |secret: &[u8]| {
        let header = r#"{"alg": "HS256", "typ": "JWT", "kid": "k1"}"#;
        let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", base64(tag.as_ref()))
    };
    let pem = {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let text = BASE64_STANDARD.encode(rsa(0).der());
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n", lines.join("\n"))
    };
    let twice = |extra: &str| rsa(0).token(HEADER, &format!("{},{extra}}}", &claims[..claims.len() - 1]));
    let own_key = json!({"alg": "RS256", "kid": "k1", "jwk": rsa(2).jwk("k1"), "jku": format!("{}/keys", other.url())});
    let at = now.timestamp();
    vec![
        ("forged with a key of the same name", rsa(2).token(HEADER, &claims)),
        ("forged with a key that it brings along", rsa(2).token(&own_key.to_string(), &claims)),
        ("another's signature", format!("{}.{signature}", with(json!({"sub": "x"})).rsplit_once('.').unwrap().0)),
        ("no signature", format!("{message}.")),
        ("a cut signature", honest[..honest.len() - 8].to_owned()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{honest}.{signature}")),
        ("alg none", unsigned(r#"{"alg": "none", "kid": "k1"}"#)),
        ("alg None", unsigned(r#"{"alg": "None", "kid": "k1"}"#)),
        ("alg empty", unsigned(r#"{"alg": "", "kid": "k1"}"#)),
        ("no alg", unsigned(r#"{"kid": "k1"}"#)),
        ("HS256 with the public key in DER", confused(rsa(0).der())),
        ("HS256 with the public key in PEM", confused(pem.as_bytes())),
        ("HS256 with the modulus", confused(rsa(0).modulus())),
        ("HS256 with the modulus as published", confused(base64(rsa(0).modulus()).as_bytes())),
        ("HS256 with nothing", confused(b"")),
        ("an unknown key", by(r#"{"alg": "RS256", "kid": "k9"}"#)),
        ("a key that is no text", by(r#"{"alg": "RS256", "kid": 1}"#)),
        ("a key of another issuer", rsa(1).token(r#"{"alg": "RS256", "kid": "theirs"}"#, &claims)),
        (
            "another issuer",
            rsa(1).token(r#"{"alg": "RS256", "kid": "theirs"}"#, &other.claims(now, json!({})).to_string()),
        ),
        ("nobody's issuer", with(json!({"iss": "https://login.example.org"}))),
        ("the issuer with a slash", with(json!({"iss": format!("{}/", issuer.url())}))),
        ("a list of issuers", with(json!({"iss": [issuer.url()]}))),
        ("no issuer", with(json!({"iss": null}))),
        ("the wrong audience", with(json!({"aud": "weir"}))),
        ("the operators' audience", with(json!({"aud": OPERATORS}))),
        ("both audiences", with(json!({"aud": [AUDIENCE, OPERATORS]}))),
        ("no audience", with(json!({"aud": null}))),
        ("an empty audience", with(json!({"aud": []}))),
        ("expired", with(json!({"exp": at - 60}))),
        ("no end", with(json!({"exp": null}))),
        ("an end that is no number", with(json!({"exp": "never"}))),
        ("an end beyond all time", with(json!({"exp": 1e300}))),
        ("not yet", with(json!({"nbf": at + 61}))),
        ("made in the future", with(json!({"iat": at + 61}))),
        ("a critical extension", by(r#"{"alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": false}"#)),
        ("a notice of a logout", by(r#"{"alg": "RS256", "kid": "k1", "typ": "logout+jwt"}"#)),
        ("alg twice", by(r#"{"alg": "none", "alg": "RS256", "kid": "k1"}"#)),
        ("sub twice", twice(r#""sub":"machine-7""#)),
        ("exp twice", twice(r#""exp":99999999999"#)),
        ("aud twice, once in disguise", twice(r#""a\u0075d":"weir-recipients""#)),
        ("claims that are a list", rsa(0).token(HEADER, "[]")),
        ("claims that are no JSON", rsa(0).token(HEADER, "{")),
        ("a header that is no JSON", rsa(0).token("RS256", &claims)),
        ("deep claims", rsa(0).token(HEADER, &"[".repeat(2_000))),
        ("another subject", with(json!({"sub": "machine-8"}))),
        ("dots", "...".to_owned()),
        ("a dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("standard base64", honest.replace('-', "+").replace('_', "/") + "=="),
        ("beyond what is read", with(json!({"padding": "x".repeat(6_200)}))),
        ("huge", with(json!({"padding": "x".repeat(60_000)}))),
    ]
}

#[tokio::test]
async fn what_is_no_token_of_the_recipient_is_401_and_recorded() {
    let issuer = TestIssuer::start();
    let other = TestIssuer::start();
    other.publishes(&[rsa(1).jwk("theirs")]);
    let introduce = |settings: &mut weir::config::Settings| {
        settings.identity.issuer.push(other.settings());
        issuer.introduce(settings);
    };
    for app in TestApp::each(introduce).await {
        bind_acme(&app, &issuer).await;
        assert_eq!(version(&app, &issuer.token(app.now(), json!({}))).await, 200);
        let bad = bad_tokens(&issuer, &other, app.now());
        assert!(bad.len() > 45);
        for (what, _) in &bad {
            // Made again, so that only the intended fault is wrong.
            let fresh = bad_tokens(&issuer, &other, app.now());
            let token = &fresh.iter().find(|(name, _)| name == what).unwrap().1;
            let answer = app.shared(token, "/shares").await;
            assert_eq!(answer.status, 401, "{what}: {}", answer.text);
            let expected = match *what {
                "expired" => Reason::IdentityExpired,
                "another subject" | "another issuer" => Reason::IdentityUnbound,
                // A header that is too long counts as none.
                "huge" => Reason::TokenUnknown,
                _ => Reason::IdentityInvalid,
            };
            is_told(&answer, expected);
            assert_eq!(reason(&app).await, expected.code(), "{what}");
            // Within one minute, later refusals would be summed up.
            app.pass(60);
        }
        assert_eq!(version(&app, &issuer.token(app.now(), json!({}))).await, 200);
    }
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_503_for_its_own_and_nobody_else() {
    for mood in [Mood::Failing, Mood::Silent, Mood::Rubbish, Mood::Endless, Mood::Impostor, Mood::Redirecting] {
        let issuer = TestIssuer::start();
        issuer.is(mood);
        let well = TestIssuer::start();
        let app = TestApp::sqlite_set(|settings| {
            settings.identity.issuer.push(well.settings());
            issuer.introduce(settings);
        })
        .await;
        bind_acme(&app, &issuer).await;
        app.put("/recipients/other", json!({"oidc": oidc(&well, "sub", "machine-7")})).await.expect(201);
        app.put("/recipients/third", json!({})).await.expect(201);
        let third = app.post("/recipients/third/tokens", json!({"reveal": true})).await.expect(201);
        let third = third["token"].as_str().unwrap();

        let token = issuer.token(app.now(), json!({}));
        let began = Instant::now();
        // Concurrent requests wait together for one fetch.
        let (first, second, others, tokens) = futures::join!(
            app.shared(&token, "/shares"),
            app.shared(&token, "/shares"),
            async { app.shared(&well.token(app.now(), json!({})), "/shares").await },
            app.shared(third, "/shares"),
        );
        assert!(began.elapsed() < Duration::from_secs(10), "{mood:?}");
        for refused in [first, second] {
            assert!(!refused.headers["retry-after"].is_empty());
            let message = refused.refusal(503, "UNAVAILABLE");
            assert!(message.contains("identity provider") && !message.contains(issuer.url()), "{message}");
        }
        assert_eq!((others.status.as_u16(), tokens.status.as_u16()), (200, 200), "{mood:?}");
        assert_eq!(reason(&app).await, "ISSUER_UNAVAILABLE");
        // For a while, no request waits for the issuer, and it is not asked.
        let (began, looks) = (Instant::now(), issuer.looks());
        assert_eq!(version(&app, &token).await, 503);
        assert!(began.elapsed() < Duration::from_millis(900), "{mood:?}");
        issuer.is(Mood::Well);
        assert_eq!((version(&app, &token).await, issuer.looks()), (503, looks));
        app.pass(5);
        assert_eq!(version(&app, &token).await, 200, "{mood:?}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_gone_is_503() {
    let issuer = TestIssuer::start();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let app = TestApp::sqlite_set(|settings| {
        issuer.introduce(settings);
        settings.identity.issuer[0].jwks_uri = Some(format!("http://{gone}/keys"));
    })
    .await;
    bind_acme(&app, &issuer).await;
    assert_eq!(version(&app, &issuer.token(app.now(), json!({}))).await, 503);
}

#[tokio::test]
async fn keys_are_looked_for_once_and_unknown_ones_never_often() {
    let (issuer, apps) = servers().await;
    for app in apps {
        issuer.publishes(&[rsa(0).jwk("k1")]);
        let before = issuer.looks();
        let looks = || issuer.looks() - before;
        bind_acme(&app, &issuer).await;
        let token = |signer: &Signer, kid: &str| {
            let header = json!({"alg": "RS256", "kid": kid}).to_string();
            signer.token(&header, &issuer.claims(app.now(), json!({})).to_string())
        };
        for _ in 0..20 {
            assert_eq!(version(&app, &token(rsa(0), "k1")).await, 200);
        }
        assert_eq!(looks(), 1);
        // Made-up key ids cause no fetches.
        for i in 0..50 {
            assert_eq!(version(&app, &token(rsa(1), &format!("k{}", 10 + i))).await, 401);
        }
        assert_eq!(looks(), 1, "it was asked a moment ago");
        app.pass(30);
        for i in 0..50 {
            assert_eq!(version(&app, &token(rsa(1), &format!("k{}", 10 + i))).await, 401);
        }
        assert_eq!(looks(), 2);
        // A new key is found as soon as a fetch is allowed.
        issuer.publishes(&[rsa(0).jwk("k1"), rsa(1).jwk("k2")]);
        assert_eq!(version(&app, &token(rsa(1), "k2")).await, 401);
        app.pass(30);
        assert_eq!(version(&app, &token(rsa(1), "k2")).await, 200);
        assert_eq!(looks(), 3);
        // A key that is no longer published is refused within ten minutes.
        issuer.publishes(&[rsa(1).jwk("k2")]);
        app.pass(599);
        assert_eq!(version(&app, &token(rsa(0), "k1")).await, 200);
        app.pass(1);
        assert_eq!(version(&app, &token(rsa(0), "k1")).await, 401);
        assert_eq!(looks(), 4);
        // While the issuer does not answer, its keys stay valid for an hour.
        issuer.is(Mood::Failing);
        app.pass(3599);
        assert_eq!(version(&app, &token(rsa(1), "k2")).await, 200);
        app.pass(5);
        assert_eq!(version(&app, &token(rsa(1), "k2")).await, 503);
        issuer.is(Mood::Well);
        app.pass(5);
        assert_eq!(version(&app, &token(rsa(1), "k2")).await, 200);
    }
}

#[tokio::test]
async fn whatever_ends_a_binding_ends_it_at_once() {
    let (issuer, apps) = servers().await;
    for app in apps {
        bind_acme(&app, &issuer).await;
        let reader = Reader { app: &app, token: issuer.token(app.now(), json!({})) };
        let url = async || {
            let answer = reader.query("steps", json!({"startingVersion": 3})).await;
            answer.of_kind("add")[0]["url"].as_str().unwrap().to_owned()
        };
        let held = url().await;
        let statuses = async || {
            let file = fetch(&app, Method::GET, &held, &[]).await.status.as_u16();
            (version(&app, &reader.token).await, file)
        };
        assert_eq!(statuses().await, (200, 200));
        for (stop, go_on) in [("/recipients/acme/suspend", "/recipients/acme/resume"), ("/freeze", "/unfreeze")] {
            app.post(stop, json!({"reason": "test"})).await.expect(200);
            assert_eq!(statuses().await, (403, 403));
            app.post(go_on, json!({"reason": "test"})).await.expect(200);
            assert_eq!(statuses().await, (200, 200));
        }
        // An update that changes nothing keeps the binding's tokens valid.
        app.patch("/recipients/acme", json!({"oidc": {"value": "machine-7"}, "description": "x"})).await.expect(200);
        assert_eq!(statuses().await, (200, 200));
        app.patch("/recipients/acme", json!({"oidc": {"value": "machine-8"}})).await.expect(200);
        assert_eq!(statuses().await, (401, 401));
        app.patch("/recipients/acme", json!({"oidc": {"value": "machine-7"}})).await.expect(200);
        assert_eq!(statuses().await, (200, 401), "another binding, though of the same identity");
        app.patch("/recipients/acme", json!({"oidc": null})).await.expect(200);
        assert_eq!(statuses().await, (401, 401));
        let changes = app.events("recipient.update").await;
        assert_eq!(changes[0]["change"]["before"]["oidc"]["value"], "machine-7");
        app.patch("/recipients/acme", json!({"oidc": oidc(&issuer, "sub", "machine-7")})).await.expect(200);
        app.post("/recipients/acme/offboard", json!({"reason": "over"})).await.expect(200);
        assert_eq!(statuses().await, (401, 401));
    }
}

#[tokio::test]
async fn neither_sides_credentials_are_good_for_the_other() {
    let (issuer, apps) = servers().await;
    for app in apps {
        bind_acme(&app, &issuer).await;
        let now = app.now();
        let recipients = issuer.token(now, json!({"groups": ["weir-admins"]}));
        let operators = issuer.token(now, json!({"aud": OPERATORS, "groups": ["weir-admins"]}));
        let both = issuer.token(now, json!({"aud": [AUDIENCE, OPERATORS], "groups": ["weir-admins"]}));
        let admin = async |token: &str| app.admin_as(token, Method::GET, "/shares", None).await.status.as_u16();
        assert_eq!((version(&app, &recipients).await, admin(&recipients).await), (200, 401));
        assert_eq!((version(&app, &operators).await, admin(&operators).await), (401, 200));
        assert_eq!((version(&app, &both).await, admin(&both).await), (401, 401));
        assert_eq!((version(&app, OPERATOR_TOKEN).await, admin(OPERATOR_TOKEN).await), (401, 200));
    }
}
