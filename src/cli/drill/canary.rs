//! The canary: a recipient that only drills use, with its own share, which reads as any client does.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::try_join_all;
use reqwest::{Method, StatusCode, Url, redirect};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cli::{
        api::{Client, Refusal, Request},
        trust::unanswered,
    },
    domain::core::secret::Secret,
};

use super::Findings;

/// The share and the recipient that are reserved for drills.
pub(super) const SHARE: &str = "weir_drill";
pub(super) const RECIPIENT: &str = "weir-drill";

/// How long its tokens and grants live if they cannot be ended.
const LIFE_SECONDS: u64 = 600;
/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a new grant may take to be allowed.
const SETTLING: Duration = Duration::from_secs(10);
/// How much of an answer is looked at for an error, in bytes.
const LONGEST_ERROR: usize = 64 * 1024;
/// The pause between two reads of one replica.
const PAUSE: Duration = Duration::from_millis(10);
/// The number of consecutive refusals that count as refused, because several replicas may share an address.
const CONFIRMED: u32 = 3;

/// A token of the canary.
pub(super) struct Token {
    pub(super) id: String,
    pub(super) secret: Secret,
    expires_at: String,
    /// The endpoint in its profile.
    endpoint: String,
}

/// Creates the share and the recipient if they do not exist, and ends what an earlier drill left behind.
pub(super) async fn prepare(client: &Client) -> anyhow::Result<()> {
    for (kind, name, description) in [
        ("shares", SHARE, "Reserved for `weir drill`, which grants it to its canary"),
        ("recipients", RECIPIENT, "The canary of `weir drill`"),
    ] {
        match client.call(&Request::new(Method::GET, &[kind, name])).await {
            Ok(_) => {}
            Err(error) if error.downcast_ref().is_some_and(Refusal::is_not_found) => {
                let made = Request::new(Method::PUT, &[kind, name]).with_body(json!({"description": description}));
                client.call(&made).await?;
            }
            Err(error) => return Err(error),
        }
    }
    end(client).await
}

/// Ends every grant and token of the canary. A failure to end one does not stop the others.
pub(super) async fn end(client: &Client) -> anyhow::Result<()> {
    let grants = Request::new(Method::POST, &["shares", SHARE, "recipients", RECIPIENT, "revoke"]);
    let grants = found(client.call(&grants.with_body(json!({"reason": "the drill is over"}))).await);
    let tokens = client.list(&Request::new(Method::GET, &["recipients", RECIPIENT, "tokens"]), None).await;
    let mut outcome = grants.map(|_| ());
    for token in found(tokens)?.map(|(tokens, _)| tokens).unwrap_or_default() {
        if let (Some("active" | "pending"), Some(id)) = (token["state"].as_str(), token["id"].as_str()) {
            outcome = outcome.and(revoke_token(client, id).await.map(|_| ()));
        }
    }
    outcome
}

/// Turns "not found" into `None`: without a canary there is nothing to end.
fn found<T>(answer: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.downcast_ref().is_some_and(Refusal::is_not_found) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Issues a token.
pub(super) async fn issue(client: &Client) -> anyhow::Result<Token> {
    let body = json!({"expires_in_seconds": LIFE_SECONDS, "reveal": true});
    let request = Request::new(Method::POST, &["recipients", RECIPIENT, "tokens"]).with_body(body);
    Token::read(&client.call(&request).await?.0)
}

/// Issues a token that replaces another, which stays valid for `overlap`.
pub(super) async fn rotate(client: &Client, id: &str, overlap: Duration) -> anyhow::Result<Token> {
    let body = json!({"existing_token_expire_in_seconds": overlap.as_secs(), "reveal": true});
    let request = Request::new(Method::POST, &["recipients", RECIPIENT, "tokens", id, "rotate"]).with_body(body);
    Token::read(&client.call(&request).await?.0)
}

pub(super) async fn revoke_token(client: &Client, id: &str) -> anyhow::Result<Value> {
    let request = Request::new(Method::POST, &["recipients", RECIPIENT, "tokens", id, "revoke"]);
    Ok(client.call(&request.with_body(json!({"reason": "a drill"}))).await?.0)
}

/// Grants the share until `token` expires, by the server's own clock; returns the grant's id. Where the settings require an
/// agreement, the grant makes one of its own.
pub(super) async fn grant(client: &Client, token: &Token) -> anyhow::Result<String> {
    let body = json!({"share": SHARE, "recipient": RECIPIENT, "valid_until": token.expires_at, "purpose": "drill"});
    let asked = |body: Value| Request::new(Method::POST, &["grants"]).with_body(body);
    let granted = match client.call(&asked(body.clone())).await {
        Err(error) if error.downcast_ref().is_some_and(|refusal: &Refusal| refusal.names("agreement")) => {
            let mut body = body;
            body["agreement"] = json!({"ref": format!("weir drill with token {}", token.id)});
            client.call(&asked(body)).await
        }
        granted => granted,
    };
    text(&granted?.0, "/id")
}

/// An agreement of the canary's own.
pub(super) struct CanaryAgreement {
    name: String,
    /// When it was activated, by the server's clock.
    activated_at: DateTime<Utc>,
    /// When that was known here.
    known_at: Instant,
}

impl CanaryAgreement {
    /// Makes an agreement and activates it; it ends with `token`, if nothing else ends it.
    pub(super) async fn activate(client: &Client, token: &Token) -> anyhow::Result<Self> {
        let name = format!("weir-drill-{}", Uuid::now_v7().simple());
        let expires_at = time(&token.expires_at)?;
        let spec = json!({
            "recipient": RECIPIENT, "type": "custom", "document": {"uri": "weir drill"}, "purposes": ["*"],
            "valid_from": expires_at - TimeDelta::seconds(LIFE_SECONDS.cast_signed()) * 2, "valid_until": expires_at,
        });
        client.call(&Request::new(Method::PUT, &["agreements", &name]).with_body(spec)).await?;
        let activated = Request::new(Method::POST, &["agreements", &name, "activate"]);
        let (activated, _) = client.call(&activated.with_body(json!({"reason": "a drill"}))).await?;
        Ok(Self { activated_at: time(&text(&activated, "/state_since")?)?, known_at: Instant::now(), name })
    }

    /// Grants the share under it until `token` expires.
    pub(super) async fn grant(&self, client: &Client, token: &Token) -> anyhow::Result<()> {
        let body = json!({
            "share": SHARE, "recipient": RECIPIENT, "valid_until": token.expires_at, "purpose": "drill",
            "agreements": [self.name],
        });
        client.call(&Request::new(Method::POST, &["grants"]).with_body(body)).await.map(|_| ())
    }

    /// Has it end in about `lead`, by the server's clock; returns the moment by this machine's.
    pub(super) async fn end_in(&self, client: &Client, lead: Duration) -> anyhow::Result<Instant> {
        let after = self.known_at.elapsed() + lead;
        self.end_at(client, self.activated_at + TimeDelta::from_std(after)?).await?;
        Ok(self.known_at + after)
    }

    /// Has it end with `token` again.
    pub(super) async fn prolong(&self, client: &Client, token: &Token) -> anyhow::Result<()> {
        self.end_at(client, time(&token.expires_at)?).await
    }

    async fn end_at(&self, client: &Client, at: DateTime<Utc>) -> anyhow::Result<()> {
        let request = Request::new(Method::PATCH, &["agreements", &self.name]);
        client.call(&request.with_body(json!({"valid_until": at}))).await.map(|_| ())
    }

    /// Ends it for good.
    pub(super) async fn terminate(&self, client: &Client) -> anyhow::Result<Value> {
        let request = Request::new(Method::POST, &["agreements", &self.name, "terminate"]);
        Ok(client.call(&request.with_body(json!({"reason": "a drill"}))).await?.0)
    }
}

fn time(text: &str) -> anyhow::Result<DateTime<Utc>> {
    text.parse().context("the server answers a time that is none; use the server's own weir")
}

pub(super) async fn revoke_grant(client: &Client, id: &str) -> anyhow::Result<Value> {
    let request = Request::new(Method::POST, &["grants", id, "revoke"]);
    Ok(client.call(&request.with_body(json!({"reason": "a drill"}))).await?.0)
}

impl Token {
    fn read(issued: &Value) -> anyhow::Result<Self> {
        Ok(Self {
            id: text(issued, "/id")?,
            secret: Secret::new(text(issued, "/token")?),
            expires_at: text(issued, "/expires_at")?,
            endpoint: text(issued, "/profile/endpoint")?,
        })
    }
}

fn text(answer: &Value, at: &str) -> anyhow::Result<String> {
    let unknown = "the answer is not what this weir knows; use the server's own";
    answer.pointer(at).and_then(Value::as_str).map(str::to_owned).context(unknown)
}

/// The replicas at which the canary reads.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The address of a replica; repeat it for each one. Add a path if the sharing protocol has another path there. By
    /// default the canary reads at the address in its profile
    #[arg(long = "replica", value_name = "URL")]
    pub(super) replicas: Vec<Url>,
}

/// The reads that the canary makes at each replica.
pub(super) struct Reads {
    pub(super) replicas: Vec<Replica>,
    /// The action that the audit trail records.
    pub(super) action: &'static str,
}

/// One place where the canary reads.
pub(super) struct Replica {
    /// The URL as it was given.
    name: String,
    http: reqwest::Client,
    method: Method,
    url: Url,
}

/// The answer of a replica.
enum Answer {
    Allowed,
    /// Refused, with this `errorCode`.
    Denied(String),
    /// Neither allowed nor denied.
    Other(String),
}

impl Reads {
    /// Prepares reads of the first table in the reserved share, or of the share itself if it is still empty. `named`
    /// are the replicas' addresses; if there are none, the token's endpoint is read.
    pub(super) async fn of(client: &Client, token: &Token, named: &[Url]) -> anyhow::Result<Self> {
        let objects = Request::new(Method::GET, &["shares", SHARE, "objects"]);
        let (objects, _) = client.list(&objects, Some(1)).await?;
        let table = objects.first().and_then(|object| Some((object["schema"].as_str()?, object["name"].as_str()?)));
        let endpoint = Url::parse(&token.endpoint).context("the server's public_url is no URL")?;
        let named = if named.is_empty() { std::slice::from_ref(&endpoint) } else { named };
        let replicas = named.iter().map(|url| Replica::at(client, url, &endpoint, table)).collect::<Result<_, _>>()?;
        Ok(Self { replicas, action: if table.is_some() { "table.query" } else { "share.get" } })
    }

    /// Waits until every replica allows the new grant, and records the times as `name`.
    pub(super) async fn until_allowed(&self, token: &Token, findings: &mut Findings, name: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let times = try_join_all(self.replicas.iter().map(|replica| replica.until_allowed(token, began))).await?;
        findings.measure_each(name, &times);
        Ok(())
    }
}

impl Replica {
    fn at(client: &Client, named: &Url, endpoint: &Url, table: Option<(&str, &str)>) -> anyhow::Result<Self> {
        let mut url = named.clone();
        if url.path() == "/" {
            url.set_path(endpoint.path());
        }
        let Ok(mut segments) = url.path_segments_mut() else {
            bail!("`{named}` is no address of a server; use http:// or https://");
        };
        segments.pop_if_empty().extend(["shares", SHARE]);
        if let Some((schema, table)) = table {
            segments.extend(["schemas", schema, "tables", table, "query"]);
        }
        drop(segments);
        let method = if table.is_some() { Method::POST } else { Method::GET };
        // Each replica has its own connections. Following a redirect would send the token elsewhere.
        let http = client.trust.builder()?.timeout(PATIENCE).redirect(redirect::Policy::none()).build()?;
        Ok(Self { name: named.to_string(), http, method, url })
    }

    async fn read(&self, token: &Token) -> Answer {
        let request = self.http.request(self.method.clone(), self.url.clone()).bearer_auth(token.secret.expose());
        let request = if self.method == Method::POST { request.json(&json!({"limitHint": 1})) } else { request };
        let read = async {
            let (mut answer, mut beginning) = (request.send().await?, Vec::new());
            while let Some(chunk) = answer.chunk().await? {
                if beginning.len() < LONGEST_ERROR {
                    beginning.extend_from_slice(&chunk);
                }
            }
            Ok((answer.status(), beginning))
        };
        match read.await {
            Ok((StatusCode::OK, _)) => Answer::Allowed,
            Ok((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, error)) => {
                let error: Value = serde_json::from_slice(&error).unwrap_or_default();
                Answer::Denied(error["errorCode"].as_str().unwrap_or_default().to_owned())
            }
            Ok((status, _)) => Answer::Other(format!("answers {status}")),
            Err(error) => {
                let error: reqwest::Error = error;
                Answer::Other(unanswered(&self.url, "--replica", &error.without_url()).to_string())
            }
        }
    }

    /// Reads until it is allowed; returns the time since `since`.
    pub(super) async fn until_allowed(&self, token: &Token, since: Instant) -> anyhow::Result<Duration> {
        loop {
            let said = match self.read(token).await {
                Answer::Allowed => return Ok(since.elapsed()),
                Answer::Denied(_) => "refuses the canary".to_owned(),
                Answer::Other(said) => said,
            };
            if since.elapsed() > SETTLING {
                bail!(
                    "{} {said}, {} ms after it should allow it; is everything frozen?",
                    self.name,
                    SETTLING.as_millis()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads until it is refused several times in a row, with this `errorCode` if one is given; returns the time from `since`
    /// to the first refusal, which must be at most `within`.
    pub(super) async fn until_denied(
        &self,
        token: &Token,
        code: Option<&str>,
        since: Instant,
        within: Duration,
    ) -> Result<Duration, String> {
        let mut denied: Option<(Duration, u32)> = None;
        loop {
            let said = match self.read(token).await {
                Answer::Denied(found) if code.is_some_and(|code| found != code) => {
                    denied = None;
                    Some(format!("refuses the canary with `{found}` instead of `{}`", code.unwrap_or_default()))
                }
                Answer::Denied(_) => {
                    let (at, times) = denied.map_or((since.elapsed(), 1), |(at, times)| (at, times + 1));
                    if at <= within && times >= CONFIRMED {
                        return Ok(at);
                    }
                    denied = Some((at, times));
                    (at > within).then(|| format!("refuses the canary after {} ms", at.as_millis()))
                }
                Answer::Allowed => {
                    denied = None;
                    Some("goes on allowing the canary".to_owned())
                }
                Answer::Other(said) => {
                    denied = None;
                    Some(said)
                }
            };
            if let Some(said) = said.filter(|_| since.elapsed() > within) {
                return Err(format!("{} {said}, though it had {} ms", self.name, within.as_millis()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads with both tokens after a rotation, until the old one is refused.
    pub(super) async fn watch_rotation(
        &self,
        (old, new): (&Token, &Token),
        since: Instant,
        longest: Duration,
    ) -> Result<Watched, String> {
        let (mut new_allowed, mut both_allowed) = (None, None);
        loop {
            let at = since.elapsed();
            match self.read(new).await {
                Answer::Allowed => new_allowed = new_allowed.or_else(|| Some(since.elapsed())),
                Answer::Denied(_) if new_allowed.is_some() => {
                    return Err(format!("{} allowed the new token, and then refused it", self.name));
                }
                Answer::Denied(_) | Answer::Other(_) => {}
            }
            match self.read(old).await {
                Answer::Allowed if new_allowed.is_some() => both_allowed = Some(at),
                Answer::Denied(_) => {
                    let old_denied = since.elapsed();
                    return Ok(Watched { new_allowed, both_allowed, old_denied });
                }
                Answer::Allowed | Answer::Other(_) => {}
            }
            if since.elapsed() > longest {
                return Err(format!("{} goes on allowing the old token after {} ms", self.name, longest.as_millis()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The replica's URL as it was given.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// How a replica treated the two tokens of a rotation.
pub(super) struct Watched {
    /// When the new token was first allowed.
    pub(super) new_allowed: Option<Duration>,
    /// When both tokens were last seen to be allowed.
    pub(super) both_allowed: Option<Duration>,
    /// When the old token was first refused.
    pub(super) old_denied: Duration,
}
