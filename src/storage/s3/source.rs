//! Obtains an AWS credential from configured keys, a web identity, a container's endpoint, or the instance.

use std::{fmt, path::PathBuf, sync::Arc};

use chrono::{DateTime, Utc};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, AwsCredential};
use serde::Deserialize;
use url::Url;

use super::{credentials::Session, is_true};

/// The endpoint for credentials of ECS tasks.
const TASK_ENDPOINT: &str = "http://169.254.170.2";
/// The endpoint for credentials of EC2 instances.
const INSTANCE_ENDPOINT: &str = "http://169.254.169.254";

/// The sources of a credential, in order of precedence.
pub enum CredentialSource {
    /// Configured keys, with an optional session token. They have no known expiry.
    Static(Arc<AwsCredential>),
    /// A Kubernetes service account's token, exchanged at STS (`AssumeRoleWithWebIdentity`).
    WebIdentity {
        /// The file with the token; read for every exchange, because it is replaced from time to time.
        token_file: PathBuf,
        /// The role to assume.
        role_arn: String,
        /// The session name, which CloudTrail shows.
        session_name: String,
        /// The STS endpoint.
        endpoint: Url,
    },
    /// The endpoint that ECS and EKS pod identity provide for a container.
    Container {
        /// The whole URL.
        url: Url,
        /// The file with the `Authorization` header's value, if one is needed.
        token_file: Option<PathBuf>,
    },
    /// The instance metadata service, version 2.
    Instance {
        /// The service's URL, without a path.
        endpoint: Url,
    },
}

/// Why no credential was obtained.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The endpoint did not answer, or refused.
    #[error("the credential endpoint did not give a credential; check the role that this workload runs as")]
    Request(#[from] reqwest::Error),
    /// The endpoint's answer is not in the documented format.
    #[error("the credential endpoint's answer cannot be read")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The token for the exchange cannot be read.
    #[error("the token file `{}` cannot be read", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The endpoint returned an expired credential.
    #[error("the credential endpoint gave a credential that has already ended; check this machine's clock")]
    Ended,
}

impl CredentialSource {
    /// Chooses the first configured source, in the order of the AWS tools: keys, web identity, container, instance.
    pub(super) fn choose(builder: &AmazonS3Builder) -> Result<Self, String> {
        let value = |key| builder.get_config_value(&key);
        let url = |text: String| Url::parse(&text).map_err(|error| format!("`{text}` is not a URL: {error}"));
        match (value(Key::AccessKeyId), value(Key::SecretAccessKey)) {
            (Some(key_id), Some(secret_key)) => {
                let token = value(Key::Token);
                return Ok(Self::Static(Arc::new(AwsCredential { key_id, secret_key, token })));
            }
            (None, None) => {}
            _ => return Err("aws_access_key_id and aws_secret_access_key belong together; give both".to_owned()),
        }
        if let (Some(token_file), Some(role_arn)) = (value(Key::WebIdentityTokenFile), value(Key::RoleArn)) {
            let region = value(Key::Region).unwrap_or_else(|| "us-east-1".to_owned());
            let endpoint = value(Key::StsEndpoint).unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com"));
            let endpoint = url(endpoint)?;
            let allows_http = value(Key::Client(object_store::ClientConfigKey::AllowHttp)).is_some_and(|v| is_true(&v));
            if endpoint.scheme() != "https" && !allows_http {
                return Err("aws_endpoint_url_sts must be https".to_owned());
            }
            let session_name = value(Key::RoleSessionName).unwrap_or_else(|| "weir".to_owned());
            return Ok(Self::WebIdentity { token_file: token_file.into(), role_arn, session_name, endpoint });
        }
        let token_file = value(Key::ContainerAuthorizationTokenFile).map(PathBuf::from);
        if let Some(path) = value(Key::ContainerCredentialsRelativeUri) {
            if !path.starts_with('/') {
                return Err("aws_container_credentials_relative_uri must begin with a slash".to_owned());
            }
            return Ok(Self::Container { url: url(format!("{TASK_ENDPOINT}{path}"))?, token_file });
        }
        if let Some(full) = value(Key::ContainerCredentialsFullUri) {
            let url = url(full)?;
            if !may_carry_secrets(&url) {
                let message =
                    "aws_container_credentials_full_uri must be https, or http on this machine's own addresses";
                return Err(message.to_owned());
            }
            return Ok(Self::Container { url, token_file });
        }
        let endpoint = value(Key::MetadataEndpoint).unwrap_or_else(|| INSTANCE_ENDPOINT.to_owned());
        Ok(Self::Instance { endpoint: url(endpoint)? })
    }

    pub(super) async fn fetch(&self, http: &reqwest::Client) -> Result<Session, SourceError> {
        match self {
            Self::Static(credential) => Ok(Session { credential: Arc::clone(credential), expires_at: None }),
            Self::WebIdentity { token_file, role_arn, session_name, endpoint } => {
                let token = read_token(token_file).await?;
                let form = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role_arn),
                    ("RoleSessionName", session_name),
                    ("WebIdentityToken", &token),
                ];
                let answer = http.post(endpoint.clone()).form(&form).send().await?.error_for_status()?.text().await?;
                let answer: AssumedRole =
                    quick_xml::de::from_str(&answer).map_err(|e| SourceError::Answer(e.into()))?;
                Ok(answer.result.credentials.into())
            }
            Self::Container { url, token_file } => {
                let mut request = http.get(url.clone());
                if let Some(token_file) = token_file {
                    request = request.header("authorization", read_token(token_file).await?);
                }
                session(request).await
            }
            Self::Instance { endpoint } => instance_session(http, endpoint).await,
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static(_) => "Static",
            Self::WebIdentity { .. } => "WebIdentity",
            Self::Container { .. } => "Container",
            Self::Instance { .. } => "Instance",
        })
    }
}

/// Requests the instance metadata, version 2: a token, then the role's name, then its credential. Version 1 is not
/// supported, because any forged request through a server can read it.
async fn instance_session(http: &reqwest::Client, endpoint: &Url) -> Result<Session, SourceError> {
    let base = endpoint.as_str().trim_end_matches('/');
    let request = http.put(format!("{base}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "300");
    let token = request.send().await?.error_for_status()?.text().await?;
    let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
    let get = |url: String| http.get(url).header("x-aws-ec2-metadata-token", token.trim());
    let role = get(roles.clone()).send().await?.error_for_status()?.text().await?;
    session(get(format!("{roles}{}", role.trim()))).await
}

async fn session(request: reqwest::RequestBuilder) -> Result<Session, SourceError> {
    let answer = request.send().await?.error_for_status()?.bytes().await?;
    let credential: Credential = serde_json::from_slice(&answer).map_err(|e| SourceError::Answer(e.into()))?;
    Ok(credential.into())
}

async fn read_token(path: &PathBuf) -> Result<String, SourceError> {
    let token = tokio::fs::read_to_string(path).await;
    let token = token.map_err(|source| SourceError::TokenFile { path: path.clone(), source })?;
    Ok(token.trim().to_owned())
}

/// Returns whether credentials may be requested from `url`: over TLS, on this machine, or from the link-local addresses
/// of ECS and EKS.
fn may_carry_secrets(url: &Url) -> bool {
    let is_own = match url.host() {
        Some(url::Host::Ipv4(host)) => host.is_loopback() || matches!(host.octets(), [169, 254, 170, 2 | 23]),
        Some(url::Host::Ipv6(host)) => host.is_loopback() || host.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],
        Some(url::Host::Domain(host)) => host == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_own)
}

/// A credential as metadata services send it in JSON, and STS in XML.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credential {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: String,
    expiration: DateTime<Utc>,
}

impl From<Credential> for Session {
    fn from(credential: Credential) -> Self {
        let Credential { access_key_id: key_id, secret_access_key: secret_key, token, expiration } = credential;
        let credential = Arc::new(AwsCredential { key_id, secret_key, token: Some(token) });
        Self { credential, expires_at: Some(expiration) }
    }
}

#[derive(Deserialize)]
struct AssumedRole {
    #[serde(rename = "AssumeRoleWithWebIdentityResult")]
    result: AssumedRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedRoleResult {
    credentials: Credential,
}
