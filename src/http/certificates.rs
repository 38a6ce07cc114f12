//! The validity periods of a server's certificates.
//!
//! They come from the verifier that clients use: asked about the far future, it reports when a certificate ended. Never
//! here: files, and trust.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use rustls::{
    CertificateError, Error, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// The last second of the year 9999, the latest time that a certificate can express.
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);

/// The beginning or end of a certificate's validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It begins at this time in the future.
    Begins(DateTime<Utc>),
    /// It ends at this time, which may have passed.
    Ends(DateTime<Utc>),
    /// No end could be found.
    Open,
}

/// Returns the validity of `certificate` at `now`.
pub fn validity(certificate: &CertificateDer<'_>, now: DateTime<Utc>) -> Result<Validity, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
    // Names and issuer do not matter here, and are checked after the times.
    let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    let verified =
        |at: Duration| verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::since_unix_epoch(at)).err();
    let now = Duration::from_secs(u64::try_from(now.timestamp()).unwrap_or_default());
    if let Some(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) = verified(now) {
        return Ok(Validity::Begins(time(not_before)));
    }
    Ok(match verified(END_OF_TIME) {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Validity::Ends(time(not_after))
        }
        // It ends before it begins, or its times cannot be read.
        Some(error @ Error::InvalidCertificate(CertificateError::Expired | CertificateError::BadEncoding)) => {
            return Err(error);
        }
        _ => Validity::Open,
    })
}

fn time(at: UnixTime) -> DateTime<Utc> {
    i64::try_from(at.as_secs()).ok().and_then(|at| DateTime::from_timestamp(at, 0)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
