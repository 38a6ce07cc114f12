//! Defines why a token is not accepted.

/// Why an identity could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The token is refused.
    #[error("the token is refused: {0}")]
    Refused(#[from] Refused),
    /// The issuer's keys could not be obtained, so its tokens cannot be judged.
    #[error("issuer `{issuer}`: {why}")]
    Unavailable {
        /// The issuer's URL.
        issuer: String,
        /// The cause, for the operator's log.
        why: String,
    },
    /// The HTTP client for keys cannot be created.
    #[error("no HTTP client could be made")]
    Client(#[source] reqwest::Error),
}

/// Why a token is refused; for the operator's log, never for its holder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token is longer than the limit.
    #[error("it is too long")]
    TooLong,
    /// The token is not a JWT, or is ambiguous.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// The token was signed for another use, or its header requires an unsupported feature.
    #[error("its header asks for what is not understood here")]
    Header,
    /// The issuer is not in the settings.
    #[error("its issuer is none that is believed")]
    IssuerUnknown,
    /// The issuer has no such key.
    #[error("its issuer publishes no such key")]
    KeyUnknown,
    /// The algorithm does not belong to the key.
    #[error("its algorithm is not one of the key's")]
    Algorithm,
    /// The signature does not match the key.
    #[error("its signature is wrong: {0}")]
    Signature(String),
    /// The token has another audience, or audiences of both sides of this server.
    #[error("it is made out to somebody else")]
    Audience,
    /// The token has expired.
    #[error("it has expired")]
    Expired,
    /// The lifetime of the token exceeds the limit.
    #[error("it lives longer than tokens may; see token_max_seconds")]
    LivesTooLong,
    /// The token is not valid yet, beyond the tolerated clock difference.
    #[error("it is from the future")]
    NotYet,
    /// A required claim is missing or invalid.
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
