//! The decision: may this caller have this now, and if not, why.
//!
//! One pure function that every data route and every file download asks. The first failure wins, in one fixed order;
//! each outcome has a stable reason code that the audit trail keeps. Never here: looking anything up.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::catalog::share::Share;

use super::{
    grant::{Grant, GrantState, in_force},
    limits::{seconds_to_next_day, seconds_to_next_minute},
    recipient::{Recipient, RecipientState, network_allows},
    token::{Token, TokenState},
};

/// A presented token that was found, with the recipient that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Bearer {
    /// The token.
    pub token: Token,
    /// Its recipient.
    pub recipient: Recipient,
    /// Whether everything is frozen.
    pub frozen: bool,
}

/// What a bearer is found by when it is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A token of this server.
    Token(Uuid),
    /// An identity that the recipient is bound to, as long as what was presented for it lasts.
    Identity {
        /// The identity.
        id: Uuid,
        /// When the JWT ends.
        until: DateTime<Utc>,
    },
}

impl Bearer {
    /// What it is found by. A recipient that is bound to an identity has no tokens of this server.
    pub fn credential(&self) -> Credential {
        match (&self.recipient.spec.oidc, self.token.expires_at) {
            (Some(identity), Some(until)) if identity.id == self.token.id => {
                Credential::Identity { id: identity.id, until }
            }
            _ => Credential::Token(self.token.id),
        }
    }
}

/// A share with the recipient's grants on it, past and future ones included.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareAccess {
    /// The share.
    pub share: Share,
    /// Every grant that the recipient ever had on it.
    pub grants: Vec<Grant>,
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The time that counts.
    pub now: DateTime<Utc>,
    /// Where the request came from.
    pub address: IpAddr,
    /// The token that was presented and found.
    pub bearer: Option<&'a Bearer>,
    /// What is asked for.
    pub target: Target<'a>,
}

/// What a request asks for, as far as deciding goes. What lies below a share exists or not only for those whom the
/// share is open to, so that it is looked at after the decision.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Something of the recipient's own, such as the list of its shares.
    Own,
    /// A share and anything under it; `None` where no such share exists.
    Share(Option<&'a ShareAccess>),
}

/// Why a request is refused. The codes are stable: audit trails and operators' searches rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No token, or none that was ever issued.
    TokenUnknown,
    /// The token's activation is pending, so nobody can hold it.
    TokenPending,
    /// The token was revoked.
    TokenRevoked,
    /// The token is past its end.
    TokenExpired,
    /// The token was handed out by a link, and nobody used it in time.
    TokenUnused,
    /// A JWT that no issuer signed that is believed here, or not for this server.
    IdentityInvalid,
    /// A JWT past its end.
    IdentityExpired,
    /// A JWT of an issuer that is believed here, whose identity no recipient is bound to.
    IdentityUnbound,
    /// Everything is frozen.
    Frozen,
    /// The recipient is suspended.
    RecipientSuspended,
    /// The recipient is offboarded.
    RecipientOffboarded,
    /// The address is outside the recipient's or the token's networks.
    AddressNotAllowed,
    /// No such share, or one that the recipient was never granted.
    ShareNotGranted,
    /// The grant was revoked.
    GrantRevoked,
    /// The grant's window is over.
    GrantExpired,
    /// The token is not for this share.
    TokenOutOfScope,
    /// The grant's agreement is over.
    AgreementEnded,
    /// No activation link has this code.
    ActivationUnknown,
    /// The link has handed out its token.
    ActivationUsed,
    /// The link, or its token, was ended before anybody used it.
    ActivationCancelled,
    /// The link is past its end.
    ActivationExpired,
    /// Too many failures from one address, or with one token.
    TooManyFailures,
    /// The recipient has asked as often as it may in a minute.
    RequestsPerMinute,
    /// As many of the recipient's requests are being answered as may at once.
    ConcurrentRequests,
    /// As many answers are streaming to the recipient as may.
    ConcurrentStreams,
    /// The recipient would be issued more bytes than it may in a day.
    BytesPerDay,
    /// What the answer stands on changed while it was prepared; asking again tells what is allowed now.
    AccessChanged,
    /// The share holds no such schema.
    SchemaNotFound,
    /// The schema holds no such table.
    TableNotFound,
    /// No file's URL was ever sealed like this.
    FileUnknown,
}

/// How a refusal shows to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is nobody.
    Unauthenticated,
    /// The caller is known and told that it may not.
    Forbidden,
    /// The caller is not told whether it exists.
    NotFound,
    /// It was there, and is over.
    Gone,
    /// The caller may, but not now.
    Limited,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::TokenUnknown,
        Self::TokenPending,
        Self::TokenRevoked,
        Self::TokenExpired,
        Self::TokenUnused,
        Self::IdentityInvalid,
        Self::IdentityExpired,
        Self::IdentityUnbound,
        Self::Frozen,
        Self::RecipientSuspended,
        Self::RecipientOffboarded,
        Self::AddressNotAllowed,
        Self::ShareNotGranted,
        Self::GrantRevoked,
        Self::GrantExpired,
        Self::TokenOutOfScope,
        Self::AgreementEnded,
        Self::ActivationUnknown,
        Self::ActivationUsed,
        Self::ActivationCancelled,
        Self::ActivationExpired,
        Self::TooManyFailures,
        Self::RequestsPerMinute,
        Self::ConcurrentRequests,
        Self::ConcurrentStreams,
        Self::BytesPerDay,
        Self::AccessChanged,
        Self::SchemaNotFound,
        Self::TableNotFound,
        Self::FileUnknown,
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::TokenPending => "TOKEN_PENDING",
            Self::TokenRevoked => "TOKEN_REVOKED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::TokenUnused => "TOKEN_UNUSED",
            Self::IdentityInvalid => "IDENTITY_INVALID",
            Self::IdentityExpired => "IDENTITY_EXPIRED",
            Self::IdentityUnbound => "IDENTITY_UNBOUND",
            Self::Frozen => "FROZEN",
            Self::RecipientSuspended => "RECIPIENT_SUSPENDED",
            Self::RecipientOffboarded => "RECIPIENT_OFFBOARDED",
            Self::AddressNotAllowed => "ADDRESS_NOT_ALLOWED",
            Self::ShareNotGranted => "SHARE_NOT_GRANTED",
            Self::GrantRevoked => "GRANT_REVOKED",
            Self::GrantExpired => "GRANT_EXPIRED",
            Self::TokenOutOfScope => "TOKEN_OUT_OF_SCOPE",
            Self::AgreementEnded => "AGREEMENT_ENDED",
            Self::ActivationUnknown => "ACTIVATION_UNKNOWN",
            Self::ActivationUsed => "ACTIVATION_USED",
            Self::ActivationCancelled => "ACTIVATION_CANCELLED",
            Self::ActivationExpired => "ACTIVATION_EXPIRED",
            Self::TooManyFailures => "TOO_MANY_FAILURES",
            Self::RequestsPerMinute => "REQUESTS_PER_MINUTE",
            Self::ConcurrentRequests => "CONCURRENT_REQUESTS",
            Self::ConcurrentStreams => "CONCURRENT_STREAMS",
            Self::BytesPerDay => "BYTES_PER_DAY",
            Self::AccessChanged => "ACCESS_CHANGED",
            Self::SchemaNotFound => "SCHEMA_NOT_FOUND",
            Self::TableNotFound => "TABLE_NOT_FOUND",
            Self::FileUnknown => "FILE_UNKNOWN",
        }
    }

    /// How it shows to the caller.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::TokenUnknown
            | Self::TokenPending
            | Self::TokenRevoked
            | Self::TokenExpired
            | Self::TokenUnused
            | Self::IdentityInvalid
            | Self::IdentityExpired
            | Self::IdentityUnbound => Refusal::Unauthenticated,
            Self::Frozen
            | Self::RecipientSuspended
            | Self::RecipientOffboarded
            | Self::AddressNotAllowed
            | Self::GrantRevoked
            | Self::GrantExpired
            | Self::AgreementEnded => Refusal::Forbidden,
            Self::ShareNotGranted
            | Self::TokenOutOfScope
            | Self::ActivationUnknown
            | Self::SchemaNotFound
            | Self::TableNotFound
            | Self::FileUnknown => Refusal::NotFound,
            Self::ActivationUsed | Self::ActivationCancelled | Self::ActivationExpired => Refusal::Gone,
            Self::TooManyFailures
            | Self::RequestsPerMinute
            | Self::ConcurrentRequests
            | Self::ConcurrentStreams
            | Self::BytesPerDay
            | Self::AccessChanged => Refusal::Limited,
        }
    }

    /// Whether the caller may ask, and what it asks for is not open to it.
    pub fn is_of_share(self) -> bool {
        matches!(
            self,
            Self::ShareNotGranted
                | Self::GrantRevoked
                | Self::GrantExpired
                | Self::TokenOutOfScope
                | Self::AgreementEnded
        )
    }

    /// After how many seconds asking again may help; for what is [`Refusal::Limited`].
    pub fn retry_after_seconds(self, now: DateTime<Utc>) -> u64 {
        match self {
            Self::BytesPerDay => seconds_to_next_day(now),
            Self::ConcurrentRequests | Self::ConcurrentStreams => TURN_WAIT_SECONDS,
            Self::AccessChanged => 1,
            _ => seconds_to_next_minute(now),
        }
    }
}

/// How long a client waits for one of its requests or streams to end before it asks again.
const TURN_WAIT_SECONDS: u64 = 5;

/// A request that may go on, and what it stands on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed<'a> {
    /// Who asks.
    pub bearer: &'a Bearer,
    /// The grant that allows; `None` for what is the recipient's own.
    pub grant: Option<&'a Grant>,
}

impl Allowed<'_> {
    /// When what this stands on ends by itself: the token's or the grant's end, whichever comes first.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        [self.bearer.token.expires_at, self.grant.map(Grant::until)].into_iter().flatten().min()
    }
}

/// Decides. The order is: token known, its state, freeze, recipient's state, networks, share granted now or ever,
/// grant's window, token's scope, agreement. (Country, view, quality and feature gates take their places in it when
/// they exist.)
pub fn decide<'a>(facts: Facts<'a>) -> Result<Allowed<'a>, Reason> {
    let bearer = facts.bearer.ok_or(Reason::TokenUnknown)?;
    match bearer.token.state(facts.now) {
        TokenState::Active => {}
        TokenState::Pending => return Err(Reason::TokenPending),
        TokenState::Revoked => return Err(Reason::TokenRevoked),
        TokenState::Expired => return Err(Reason::TokenExpired),
        TokenState::Unused => return Err(Reason::TokenUnused),
    }
    if bearer.frozen {
        return Err(Reason::Frozen);
    }
    match bearer.recipient.state {
        RecipientState::Active => {}
        RecipientState::Suspended => return Err(Reason::RecipientSuspended),
        RecipientState::Offboarded => return Err(Reason::RecipientOffboarded),
    }
    if !network_allows(&bearer.recipient.spec.allowed_cidrs, facts.address)
        || !network_allows(&bearer.token.allowed_cidrs, facts.address)
    {
        return Err(Reason::AddressNotAllowed);
    }
    let grant = match facts.target {
        Target::Own => None,
        Target::Share(None) => return Err(Reason::ShareNotGranted),
        Target::Share(Some(access)) => Some(decide_share(&bearer.token, access, facts.now)?),
    };
    Ok(Allowed { bearer, grant })
}

fn decide_share<'a>(token: &Token, access: &'a ShareAccess, now: DateTime<Utc>) -> Result<&'a Grant, Reason> {
    if let Some(grant) = in_force(&access.grants, now) {
        return if in_scope(token, access.share.id) { Ok(grant) } else { Err(Reason::TokenOutOfScope) };
    }
    // Of grants that allow nothing, the one that began last explains best. A window that has not begun is no grant
    // yet, so that the share does not exist for the recipient.
    let began = access.grants.iter().filter(|grant| grant.valid_from <= now && grant.created_at <= now);
    match began.max_by_key(|grant| (grant.valid_from, grant.created_at)).map(|grant| grant.state(now)) {
        None | Some(GrantState::Scheduled | GrantState::Active) => Err(Reason::ShareNotGranted),
        Some(GrantState::Revoked) => Err(Reason::GrantRevoked),
        Some(GrantState::Expired) => Err(Reason::GrantExpired),
        // A token for other shares learns nothing of what this one stands on.
        Some(GrantState::AgreementEnded) if !in_scope(token, access.share.id) => Err(Reason::TokenOutOfScope),
        Some(GrantState::AgreementEnded) => Err(Reason::AgreementEnded),
    }
}

/// Whether `token` is for the share with this id.
pub fn in_scope(token: &Token, share_id: Uuid) -> bool {
    token.share_ids.is_empty() || token.share_ids.contains(&share_id)
}

#[cfg(test)]
pub(in crate::domain) mod tests {
    use chrono::TimeDelta;

    use crate::domain::{
        access::{
            grant::{Agreement, Ending},
            identity::{Holder, Identity},
            recipient::RecipientSpec,
        },
        catalog::share::ShareSpec,
        core::name::{Name, NameKind},
    };

    use super::*;

    pub(in crate::domain) fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap()
    }

    pub(in crate::domain) fn bearer() -> Bearer {
        let (recipient_id, day) = (Uuid::from_u128(1), TimeDelta::days(1));
        Bearer {
            token: Token {
                id: Uuid::from_u128(2),
                recipient_id,
                credential: "default".into(),
                share_ids: vec![],
                allowed_cidrs: vec![],
                created_at: now() - day,
                activated_at: Some(now() - day),
                expires_at: Some(now() + day),
                revoked_at: None,
                last_used_at: None,
                unused_until: None,
            },
            recipient: Recipient {
                id: recipient_id,
                name: Name::parse(NameKind::Recipient, "acme").unwrap(),
                state: RecipientState::Active,
                spec: RecipientSpec::default(),
                created_at: now() - day,
                updated_at: now() - day,
                revision: 1,
            },
            frozen: false,
        }
    }

    fn access() -> ShareAccess {
        let day = TimeDelta::days(1);
        ShareAccess {
            share: Share {
                id: Uuid::from_u128(3),
                name: Name::parse(NameKind::Share, "claims").unwrap(),
                spec: ShareSpec::default(),
                created_at: now() - day,
                updated_at: now() - day,
                revision: 1,
            },
            grants: vec![Grant {
                id: Uuid::from_u128(4),
                share_id: Uuid::from_u128(3),
                recipient_id: Uuid::from_u128(1),
                valid_from: now() - day,
                valid_until: now() + day,
                purpose: None,
                agreement: None,
                granted_by: "ann".into(),
                created_at: now() - day,
                ending: None,
            }],
        }
    }

    fn reason(bearer: Option<&Bearer>, access: Option<&ShareAccess>) -> Option<Reason> {
        let address = IpAddr::from([198, 51, 100, 7]);
        decide(Facts { now: now(), address, bearer, target: Target::Share(access) }).err()
    }

    /// Each row breaks one thing more than the row below it, so that the order shows too.
    #[test]
    fn the_first_failure_wins_in_the_fixed_order() {
        let (mut caller, mut share) = (bearer(), access());
        assert_eq!(reason(Some(&caller), Some(&share)), None);
        assert_eq!(reason(Some(&caller), None), Some(Reason::ShareNotGranted));

        let ended = Agreement { reference: "baa".into(), sha256: None, valid_until: Some(now()) };
        share.grants[0].agreement = Some(ended);
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::AgreementEnded));
        caller.token.share_ids = vec![Uuid::from_u128(9)];
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::TokenOutOfScope));
        share.grants[0].agreement = None;
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::TokenOutOfScope));
        share.grants[0].valid_until = now();
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::GrantExpired));
        share.grants[0].ending = Some(Ending { at: now(), reason: None, ended_by: "ann".into(), replaced_by: None });
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::GrantRevoked));
        share.grants.clear();
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::ShareNotGranted));
        caller.recipient.spec.allowed_cidrs = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::AddressNotAllowed));
        caller.recipient.state = RecipientState::Suspended;
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::RecipientSuspended));
        caller.recipient.state = RecipientState::Offboarded;
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::RecipientOffboarded));
        caller.frozen = true;
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::Frozen));
        caller.token.unused_until = Some(now());
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::TokenUnused));
        caller.token.activated_at = None;
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::TokenPending));
        caller.token.expires_at = Some(now());
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::TokenExpired));
        caller.token.revoked_at = Some(now());
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::TokenRevoked));
        assert_eq!(reason(None, Some(&share)), Some(Reason::TokenUnknown));
    }

    #[test]
    fn a_grant_that_has_not_begun_is_no_grant_yet() {
        let mut share = access();
        share.grants[0].valid_from = now() + TimeDelta::seconds(1);
        assert_eq!(reason(Some(&bearer()), Some(&share)), Some(Reason::ShareNotGranted));
    }

    #[test]
    fn a_token_from_a_link_must_be_used_in_time_once() {
        let (mut caller, share) = (bearer(), access());
        caller.token.unused_until = Some(now() + TimeDelta::seconds(1));
        assert_eq!(reason(Some(&caller), Some(&share)), None);
        caller.token.unused_until = Some(now());
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::TokenUnused));
        caller.token.last_used_at = Some(now() - TimeDelta::hours(1));
        assert_eq!(reason(Some(&caller), Some(&share)), None);
    }

    #[test]
    fn a_jwt_is_a_token_of_whoever_is_bound_and_is_found_by_that() {
        let id = Uuid::from_u128(7);
        let text = |text: &str| text.to_owned();
        let identity =
            Identity { id, issuer: text("i"), audience: text("a"), claim: text("sub"), value: text("machine-7") };
        let spec = RecipientSpec { oidc: Some(identity), ..RecipientSpec::default() };
        let recipient = Recipient { spec, ..bearer().recipient };
        let until = now() + TimeDelta::minutes(1);
        let holder = Holder { recipient, frozen: false };
        let caller = holder.clone().bearer(until).unwrap();
        assert_eq!(caller.credential(), Credential::Identity { id, until });
        assert_eq!(reason(Some(&caller), Some(&access())), None);
        assert_eq!(reason(holder.clone().bearer(now()).as_ref(), Some(&access())), Some(Reason::TokenExpired));
        let unbound =
            Holder { recipient: Recipient { spec: RecipientSpec::default(), ..holder.recipient }, frozen: false };
        assert_eq!(unbound.bearer(until), None);
        assert_eq!(bearer().credential(), Credential::Token(Uuid::from_u128(2)));
    }

    #[test]
    fn what_is_allowed_ends_with_token_or_grant() {
        let (caller, share) = (bearer(), access());
        let address = IpAddr::from([127, 0, 0, 1]);
        let facts = Facts { now: now(), address, bearer: Some(&caller), target: Target::Share(Some(&share)) };
        assert_eq!(decide(facts).unwrap().until(), Some(now() + TimeDelta::days(1)));
    }
}
