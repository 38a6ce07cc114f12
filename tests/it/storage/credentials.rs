//! AWS credentials that expire: fetched once, renewed in time, kept through an outage of their source.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Form, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use tokio::net::TcpListener;
use url::Url;
use weir::storage::s3::{CredentialSource, S3Credentials, SourceError};

use super::{open, options, settings};

/// The credential services of AWS beside a workload, with sessions that last an hour by their own clock.
#[derive(Clone)]
struct Platform {
    now: Arc<Mutex<DateTime<Utc>>>,
    asked: Arc<AtomicUsize>,
    is_down: Arc<AtomicBool>,
    endpoint: Url,
}

impl Platform {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let platform = Self {
            now: Arc::new(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap())),
            asked: Arc::default(),
            is_down: Arc::default(),
            endpoint: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
        };
        let router = Router::new()
            .route("/container", get(container))
            .route("/sts", post(sts))
            .route("/latest/api/token", put(instance_token))
            .route("/latest/meta-data/iam/security-credentials/{*role}", get(instance_role))
            .route("/latest/meta-data/iam/security-credentials/", get(instance_roles))
            .with_state(platform.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        platform
    }

    fn credentials(&self, source: CredentialSource) -> S3Credentials {
        let now = Arc::clone(&self.now);
        S3Credentials::new(source, Arc::new(move || *now.lock().unwrap())).unwrap()
    }

    fn container(&self) -> CredentialSource {
        CredentialSource::Container { url: self.endpoint.join("/container").unwrap(), token_file: None }
    }

    fn pass(&self, time: TimeDelta) {
        *self.now.lock().unwrap() += time;
    }

    fn end(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap() + TimeDelta::hours(1)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answer(&self) -> Response {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let credential = serde_json::json!({
            "AccessKeyId": format!("key-{number}"), "SecretAccessKey": "secret", "Token": "token",
            "Expiration": self.end().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        });
        credential.to_string().into_response()
    }
}

async fn container(State(platform): State<Platform>, headers: HeaderMap) -> Response {
    match headers.get("authorization") {
        Some(value) if value != "pod-token" => StatusCode::UNAUTHORIZED.into_response(),
        _ => platform.answer(),
    }
}

async fn instance_token(headers: HeaderMap) -> Response {
    match headers.get("x-aws-ec2-metadata-token-ttl-seconds") {
        Some(_) => "imds-token\n".into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn instance_roles(headers: HeaderMap) -> Response {
    match headers.get("x-aws-ec2-metadata-token") {
        Some(token) if token == "imds-token" => "weir-role".into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn instance_role(State(platform): State<Platform>, Path(role): Path<String>, headers: HeaderMap) -> Response {
    match headers.get("x-aws-ec2-metadata-token") {
        Some(token) if token == "imds-token" && role == "weir-role" => platform.answer(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn sts(State(platform): State<Platform>, Form(form): Form<Vec<(String, String)>>) -> Response {
    let has = |name: &str, value: &str| form.contains(&(name.to_owned(), value.to_owned()));
    let is_right = has("Action", "AssumeRoleWithWebIdentity")
        && has("RoleArn", "arn:aws:iam::1:role/weir")
        && has("WebIdentityToken", "jwt");
    if !is_right {
        return StatusCode::BAD_REQUEST.into_response();
    }
    platform.asked.fetch_add(1, Ordering::SeqCst);
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Audience>sts.amazonaws.com</Audience><Credentials>\
         <SessionToken>sts-token</SessionToken><SecretAccessKey>sts-secret</SecretAccessKey>\
         <Expiration>{}</Expiration><AccessKeyId>sts-key</AccessKeyId></Credentials>\
         </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>\
         </AssumeRoleWithWebIdentityResponse>",
        platform.end().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    )
    .into_response()
}

#[tokio::test]
async fn session_is_fetched_once_however_many_need_it() {
    let platform = Platform::start().await;
    let credentials = platform.credentials(platform.container());
    let sessions = join_all((0..20).map(|_| credentials.session())).await;
    for session in sessions {
        let session = session.unwrap();
        assert_eq!(session.credential.key_id, "key-0");
        assert_eq!(session.expires_at, Some(platform.end()));
    }
    platform.pass(TimeDelta::minutes(29));
    assert_eq!(credentials.session().await.unwrap().credential.key_id, "key-0");
    assert_eq!(platform.asked(), 1);
}

#[tokio::test]
async fn session_is_renewed_while_urls_can_still_live_for_half_an_hour() {
    let platform = Platform::start().await;
    let credentials = platform.credentials(platform.container());
    credentials.session().await.unwrap();
    platform.pass(TimeDelta::minutes(30));
    let renewed = credentials.session().await.unwrap();
    assert_eq!((renewed.credential.key_id.as_str(), renewed.expires_at), ("key-1", Some(platform.end())));
}

#[tokio::test]
async fn old_session_serves_through_an_outage_until_its_end() {
    let platform = Platform::start().await;
    let credentials = platform.credentials(platform.container());
    credentials.session().await.unwrap();
    platform.is_down.store(true, Ordering::SeqCst);
    platform.pass(TimeDelta::minutes(40));
    for _ in 0..5 {
        assert_eq!(credentials.session().await.unwrap().credential.key_id, "key-0");
    }
    assert_eq!(platform.asked(), 2, "a source that is down is not asked at every request");
    platform.pass(TimeDelta::minutes(20));
    assert!(matches!(credentials.session().await, Err(SourceError::Request(_))));
    platform.is_down.store(false, Ordering::SeqCst);
    assert_eq!(credentials.session().await.unwrap().expires_at, Some(platform.end()));
}

#[tokio::test]
async fn instance_metadata_is_asked_in_its_second_version() {
    let platform = Platform::start().await;
    let credentials = platform.credentials(CredentialSource::Instance { endpoint: platform.endpoint.clone() });
    let session = credentials.session().await.unwrap();
    assert_eq!((session.credential.key_id.as_str(), session.credential.token.as_deref()), ("key-0", Some("token")));
}

#[tokio::test]
async fn web_identity_is_exchanged_for_a_session() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "jwt\n").unwrap();
    let credentials = platform.credentials(CredentialSource::WebIdentity {
        token_file: token_file.clone(),
        role_arn: "arn:aws:iam::1:role/weir".into(),
        session_name: "weir".into(),
        endpoint: platform.endpoint.join("/sts").unwrap(),
    });
    let session = credentials.session().await.unwrap();
    assert_eq!(session.credential.key_id, "sts-key");
    assert_eq!(session.credential.token.as_deref(), Some("sts-token"));
    assert_eq!(session.expires_at, Some(platform.end()));
    std::fs::remove_file(&token_file).unwrap();
    platform.pass(TimeDelta::minutes(60));
    assert!(matches!(credentials.session().await, Err(SourceError::TokenFile { .. })));
}

#[tokio::test]
async fn table_knows_when_its_credential_ends() {
    let platform = Platform::start().await;
    *platform.now.lock().unwrap() = Utc::now();
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "pod-token").unwrap();
    let storages = open(settings(
        "lake",
        "s3://lake",
        options(&[
            ("aws_container_credentials_full_uri", platform.endpoint.join("/container").unwrap().as_str()),
            ("aws_container_authorization_token_file", token_file.to_str().unwrap()),
        ]),
    ));
    let table = storages.locate("s3://lake/t").unwrap();
    let end = table.signing_until().await.unwrap().unwrap();
    assert!((platform.end() - end).abs() < TimeDelta::seconds(2));
    let urls = table.sign(&[table.path().clone()], end, Utc::now()).await.unwrap();
    assert!(urls[0].contains("X-Amz-Security-Token=token"), "{}", urls[0]);
    assert_eq!(platform.asked(), 1);
}
