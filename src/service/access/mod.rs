//! Who may read: recipients, tokens, grants, agreements, purposes, exceptions, freezes.

pub mod activation;
pub mod agreements;
pub mod exceptions;
pub mod freezes;
mod grant_agreements;
pub mod grants;
mod hooks;
pub(super) mod purposes;
pub mod recipients;
pub mod tokens;
mod use_cases;

use std::sync::Arc;

use crate::{
    config::SharingSettings,
    domain::{core::seal::Sealer, insight::webhook::WebhookSecret},
    identity::Identities,
};

use super::{
    catalog::Catalog,
    core::{Core, rate_limiter::RateLimiter},
    materialize::Materializer,
};

/// The use cases about who may read.
#[derive(Clone, Debug)]
pub struct Access {
    /// What every service works with.
    pub core: Core,
    /// Tables, views, shares and their objects.
    pub catalog: Catalog,
    /// Makes and keeps the copies of views.
    pub materializer: Materializer,
    /// The trusted OpenID Connect issuers.
    pub identities: Identities,
    /// Counts refusals of activation links.
    pub rate_limiter: Arc<RateLimiter>,
    /// Seals file URLs.
    pub files: Sealer,
    /// The secrets by which a contract system signs; none if it is not heard.
    pub agreement_secrets: Arc<[WebhookSecret]>,
    /// The sharing settings.
    pub settings: Arc<SharingSettings>,
    /// The address that clients know the server by, without a trailing slash.
    pub public_url: Arc<str>,
}

impl Access {
    /// The address of the sharing protocol, as written into profiles.
    pub fn endpoint(&self) -> String {
        format!("{}{}", self.public_url, self.settings.prefix)
    }
}
