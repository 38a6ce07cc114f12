//! Why a token proves nothing.

/// Why an identity could not be told.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The token proves nothing, whatever its issuer says.
    #[error("the token is refused: {0}")]
    Refused(#[from] Refused),
    /// The issuer's keys could not be had, so that nothing can be said of its tokens.
    #[error("issuer `{issuer}`: {why}")]
    Unavailable {
        /// The issuer's URL.
        issuer: String,
        /// What went wrong; for the operator's log.
        why: String,
    },
    /// The client that fetches keys could not be made.
    #[error("no HTTP client could be made")]
    Client(#[source] reqwest::Error),
}

/// Why a token is refused; for the operator's log, never for its holder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is longer than any that is believed.
    #[error("it is too long")]
    TooLong,
    /// It is no JWT, or one that may be read in two ways.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// It is signed for something else than showing who calls, or asks for what is not understood.
    #[error("its header asks for what is not understood here")]
    Header,
    /// Nobody whom the settings name has made it.
    #[error("its issuer is none that is believed")]
    IssuerUnknown,
    /// Its issuer has no such key.
    #[error("its issuer publishes no such key")]
    KeyUnknown,
    /// Its algorithm is not the key's.
    #[error("its algorithm is not one of the key's")]
    Algorithm,
    /// Its signature is not the key's.
    #[error("its signature is wrong: {0}")]
    Signature(String),
    /// It is made out to somebody else, or to both sides of this server.
    #[error("it is made out to somebody else")]
    Audience,
    /// It is over.
    #[error("it has expired")]
    Expired,
    /// It lives longer than tokens may.
    #[error("it lives longer than tokens may; see token_max_seconds")]
    LivesTooLong,
    /// It has not begun, by more than clocks may differ.
    #[error("it is from the future")]
    NotYet,
    /// A claim that decides is missing or makes no sense.
    #[error("its claim `{0}` is missing or makes no sense")]
    Claim(&'static str),
}

impl Refused {
    pub(super) fn malformed(error: jsonwebtoken::errors::Error) -> Self {
        Self::Malformed(error.to_string())
    }

    pub(super) fn signature(error: jsonwebtoken::errors::Error) -> Self {
        Self::Signature(error.to_string())
    }
}
