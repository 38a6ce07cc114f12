//! The connection to a server: which certificates are trusted, and why no answer came.

use std::{error::Error, io, io::Read, path::PathBuf, time::Duration};

use anyhow::{Context, anyhow, bail};
use reqwest::{Certificate, Client, ClientBuilder, Url};
use rustls::CertificateError;

use crate::{domain::core::message::without_number, http::listen::is_refused_as_authority};

/// The largest file of certificates that is read, in bytes; a machine's entire store is smaller.
const MAX_BYTES: u64 = 4 << 20;
/// How long a server may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// The certificates to trust besides the machine's.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Trust {
    /// A PEM file of certificates to trust besides the machine's, such as that of the authority behind the server's
    #[arg(long, env = "WEIR_CA_FILE", value_name = "FILE")]
    cacert: Option<PathBuf>,
}

impl Trust {
    /// Starts a client that trusts them.
    pub(super) fn builder(&self) -> anyhow::Result<ClientBuilder> {
        let builder = Client::builder().connect_timeout(CONNECT_PATIENCE);
        Ok(match self.certificates()? {
            Some(certificates) => builder.tls_certs_merge(certificates),
            None => builder,
        })
    }

    /// The certificates in the file, if one is named.
    pub(super) fn certificates(&self) -> anyhow::Result<Option<Vec<Certificate>>> {
        let Some(file) = &self.cacert else { return Ok(None) };
        let shown = file.display();
        let unreadable = || format!("`{shown}`, named by --cacert or WEIR_CA_FILE, cannot be read");
        let opened = std::fs::File::open(file).with_context(unreadable)?;
        let mut pem = Vec::new();
        opened.take(MAX_BYTES).read_to_end(&mut pem).with_context(unreadable)?;
        let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            bail!(
                "`{shown}`, named by --cacert or WEIR_CA_FILE, holds no certificate; name a PEM file of certificates"
            );
        }
        Ok(Some(certificates))
    }
}

/// Explains in one sentence why no answer came from `url`, which the option or setting `named` gave, and what to do.
pub(super) fn unanswered(url: &Url, named: &str, error: &reqwest::Error) -> anyhow::Error {
    let shown = shown(url);
    let causes = || std::iter::successors(Some(error as &(dyn Error + 'static)), |error| inner(*error));
    if let Some(fault) = causes().find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return match fault {
            rustls::Error::InvalidCertificate(fault) => untrusted(url, named, fault),
            rustls::Error::InvalidMessage(_) => anyhow!("{shown} does not speak TLS; write http:// in {named}"),
            fault => anyhow!("{shown} does not agree on a TLS connection ({fault}); see the server's log"),
        };
    }
    if error.is_timeout() {
        return anyhow!("{shown} does not answer in time; check {named}, the network, and the server's log");
    }
    if error.is_connect() {
        let cause = causes().last().map(|cause| without_number(&cause.to_string())).unwrap_or_default();
        return anyhow!("{shown} cannot be reached ({cause}); check {named}, and that the server runs");
    }
    if url.scheme() == "http" && error.is_request() {
        return anyhow!("{shown} gives no answer in HTTP; if the server speaks TLS, write https:// in {named}");
    }
    let cause = causes().last().map(|cause| without_number(&cause.to_string())).unwrap_or_default();
    anyhow!("{shown} broke off its answer ({cause}); try again, and see the server's log")
}

fn untrusted(url: &Url, named: &str, fault: &CertificateError) -> anyhow::Error {
    let (shown, host) = (shown(url), url.host_str().unwrap_or_default());
    match fault {
        // The last three occur if the machine trusts another authority of the same name.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => anyhow!(
            "the certificate of {shown} is not trusted; name the certificate of the authority that issued it with \
             --cacert or WEIR_CA_FILE"
        ),
        fault if is_refused_as_authority(fault) => anyhow!(
            "the certificate of {shown} is not trusted, because it is its own authority (CA:TRUE); give the server one \
             that is none, as in docs/production.md, and name it with --cacert or WEIR_CA_FILE"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            anyhow!("the certificate of {shown} is not trusted, because it has expired; give the server a new one")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => anyhow!(
            "the certificate of {shown} is not trusted, because its time has not begun; check the clocks of both machines"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => anyhow!(
            "the certificate of {shown} is not trusted, because it is not made out to `{host}`; write a name that it \
             has in {named}, or give the server one with this name (subjectAltName)"
        ),
        fault => anyhow!(
            "the certificate of {shown} is not trusted ({fault}); give the server another one, or name the certificate of \
             its authority with --cacert or WEIR_CA_FILE"
        ),
    }
}

/// The error behind `error`, even if an I/O error only wraps it.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried),
        None => error.source(),
    }
}

/// The address of `url`, without parts that may be secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.as_str().trim_end_matches('/').to_owned()
}
