//! The addresses of clients: networks of recipients and tokens, and what proxies say.

use http::Method;
use serde_json::{Value, json};

use super::{Reader, fetch, share, steps, with_history};
use crate::support::{
    app::{Answer, TestApp},
    postgres::TestDatabase,
};

const BOTH: [&str; 2] = ["198.51.100.0/24", "2001:db8:10::/48"];

/// The answers of each face to a client at `address` behind a trusted proxy: the protocol, a file, a link.
async fn faces(acme: &Reader<'_>, file: &str, link: &str, address: &str) -> Vec<Answer> {
    let from = [("x-forwarded-for", address)];
    vec![
        acme.send(Method::GET, "/shares", &from, "").await,
        acme.send(Method::POST, "/shares/insurer/schemas/s/tables/steps/query", &from, "{}").await,
        fetch(acme.app, Method::GET, file, &from).await,
        fetch(acme.app, Method::HEAD, file, &from).await,
        fetch(acme.app, Method::GET, link, &from).await,
    ]
}

#[tokio::test]
async fn networks_hold_on_every_face_for_the_address_that_trusted_proxies_tell() {
    for database in TestDatabase::each().await {
        let app = TestApp::behind_proxy(database);
        steps(&app, "steps");
        share(&app, "steps", with_history()).await;
        let acme = Reader::acme(&app).await;
        let file = acme.query("steps", json!({})).await.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
        let issued = app.post("/recipients/acme/tokens", json!({"credential": "link"})).await.expect(201);
        let link = issued["activation_url"].as_str().unwrap();
        app.patch("/recipients/acme", json!({"allowed_cidrs": BOTH})).await.expect(200);
        // The second proxy's own address is the last hop. An IPv4 address may be written as IPv6.
        for inside in ["198.51.100.7", "2001:db8:10::7", "203.0.113.9, 198.51.100.7, 127.0.0.2", "::ffff:198.51.100.7"]
        {
            for answer in faces(&acme, &file, link, inside).await {
                assert_eq!(answer.status, 200, "{inside}: {}", answer.text);
            }
        }
        // An address to the left of one that is no proxy is only a claim.
        for (outside, seen) in [
            ("203.0.113.9", "203.0.113.9"),
            ("2001:db8:11::7", "2001:db8:11::7"),
            ("198.51.100.7, 203.0.113.9", "203.0.113.9"),
            ("198.51.100.7, junk", "127.0.0.1"),
        ] {
            for answer in faces(&acme, &file, link, outside).await {
                assert_eq!(answer.status, 403, "{outside}: {}", answer.text);
                let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
                assert!(answer.text.is_empty() || message.contains(&format!("the address {seen} ")), "{}", answer.text);
            }
            let event = &app.events("shares.list").await[0];
            assert_eq!((&event["client_address"], &event["reason"]), (&json!(seen), &json!("ADDRESS_NOT_ALLOWED")));
        }
        // The token's own networks are narrower.
        let narrow = json!({"reveal": true, "credential": "narrow", "allowed_cidrs": ["198.51.100.8/32"]});
        let narrow = app.post("/recipients/acme/tokens", narrow).await.expect(201);
        let narrow = Reader { app: &app, token: narrow["token"].as_str().unwrap().to_owned() };
        for (address, status) in [("198.51.100.8", 200), ("198.51.100.7", 403)] {
            let answer = narrow.send(Method::GET, "/shares", &[("x-forwarded-for", address)], "").await;
            assert_eq!(answer.status, status, "{address}");
        }
        let allowed: Vec<Value> = app.events("file.read").await;
        assert!(allowed.iter().any(|event| event["client_address"] == "198.51.100.7"), "{allowed:?}");
    }
}
