//! The decision: whether a caller may have something now, and if not, why.
//!
//! One pure function for every data route and every file download. Checks run in one fixed order and the first failure
//! wins; each outcome has a stable reason code that the audit trail records. Never here: looking anything up.

use std::{net::IpAddr, sync::Arc};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::catalog::{requirements::Requirements, share::Share};

use super::{
    agreement::allows_purpose,
    geography::{Country, Geography},
    grant::{Grant, GrantState, in_force},
    limits::{seconds_to_next_day, seconds_to_next_minute},
    recipient::{Recipient, RecipientState, network_allows},
    token::{Token, TokenState},
};

/// A presented token that was found, with its recipient.
#[derive(Clone, Debug, PartialEq)]
pub struct Bearer {
    /// The token.
    pub token: Token,
    /// Its recipient.
    pub recipient: Recipient,
    /// Whether a freeze is in force.
    pub frozen: bool,
}

/// The key by which a bearer is looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A token of this server.
    Token(Uuid),
    /// An identity that the recipient is bound to, valid as long as the presented JWT.
    Identity {
        /// The identity.
        id: Uuid,
        /// When the JWT expires.
        until: DateTime<Utc>,
    },
}

impl Bearer {
    /// The key for looking it up again. A recipient that is bound to an identity has no tokens of this server.
    pub fn credential(&self) -> Credential {
        match (&self.recipient.spec.oidc, self.token.expires_at) {
            (Some(identity), Some(until)) if identity.id == self.token.id => {
                Credential::Identity { id: identity.id, until }
            }
            _ => Credential::Token(self.token.id),
        }
    }
}

/// A share with all grants of one recipient on it, including past and future ones.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareAccess {
    /// The share.
    pub share: Share,
    /// All of the recipient's grants on it, past and future ones included.
    pub grants: Vec<Grant>,
}

/// The access facts: everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The client's address.
    pub address: IpAddr,
    /// The bearer of the presented token, if it was found.
    pub bearer: Option<&'a Bearer>,
    /// The object of the request.
    pub target: Target<'a>,
    /// The purposes for which the table of the request may be used; `None` for any, or where no table is read.
    pub allowed_purposes: Option<&'a [String]>,
    /// What the object of the request asks for; `None` where no object is read, or nothing was derived for it.
    pub requirements: Option<&'a Requirements>,
    /// Whether an object is read of which every shown column must have a confirmed class.
    pub must_be_classified: bool,
    /// Where the request comes from.
    pub geography: Geography,
}

/// What a decision that is made again depends on of a shared object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectFacts {
    /// Counts its changes.
    pub revision: i64,
    /// The purposes for which its table may be used; `None` for any.
    pub allowed_purposes: Option<Vec<String>>,
    /// What it asks for; `None` where that was not derived yet.
    pub requirements: Option<Arc<Requirements>>,
}

/// The object of a request, as far as the decision needs it. Things inside a share are looked up only after the
/// decision, because only callers with access to the share may learn whether they exist.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Something that belongs to the recipient itself, such as the list of its shares.
    Own,
    /// A share or anything in it; `None` if no such share exists.
    Share(Option<&'a ShareAccess>),
}

/// Why a request is refused. The codes are stable, because audit trails and operators' searches rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is no token, or it was never issued.
    TokenUnknown,
    /// The token's activation is pending, so nobody can have it.
    TokenPending,
    /// The token was revoked.
    TokenRevoked,
    /// The token has expired.
    TokenExpired,
    /// The token was handed out by a link, but was not used in time.
    TokenUnused,
    /// The JWT is not signed by a trusted issuer, or not meant for this server.
    IdentityInvalid,
    /// The JWT has expired.
    IdentityExpired,
    /// The JWT is from a trusted issuer, but no recipient is bound to its identity.
    IdentityUnbound,
    /// A freeze is in force.
    Frozen,
    /// The recipient is suspended.
    RecipientSuspended,
    /// The recipient is offboarded.
    RecipientOffboarded,
    /// The address is outside the recipient's or the token's networks.
    AddressNotAllowed,
    /// There is no such share, or the recipient was never granted it.
    ShareNotGranted,
    /// The grant was revoked.
    GrantRevoked,
    /// The grant's window has ended.
    GrantExpired,
    /// The token is not valid for this share.
    TokenOutOfScope,
    /// The time of an agreement that the grant names is over.
    AgreementEnded,
    /// An agreement that the grant names is not in force, for another reason than time.
    AgreementInactive,
    /// The agreement or the table does not allow the grant's purpose.
    PurposeNotAllowed,
    /// A class that the object shows asks for agreements that the grant does not name.
    AgreementMissing,
    /// The object shows a column whose class nobody has confirmed.
    UnclassifiedColumn,
    /// The object shows a class of data that may not be shared in this way.
    RawNotAllowed,
    /// The country of the address, or that it is unknown, is not what the recipient and the agreements allow.
    GeoDenied(Option<Country>),
    /// No activation link has this code.
    ActivationUnknown,
    /// The link has already handed out its token.
    ActivationUsed,
    /// The link, or its token, was ended before it was used.
    ActivationCancelled,
    /// The link has expired.
    ActivationExpired,
    /// There were too many failures from one address, or with one token.
    TooManyFailures,
    /// The recipient has used up its requests for this minute.
    RequestsPerMinute,
    /// The recipient already has the most requests that may run at once.
    ConcurrentRequests,
    /// The recipient already has the most streams that may run at once.
    ConcurrentStreams,
    /// The answer would exceed the recipient's bytes for the day.
    BytesPerDay,
    /// The access basis changed while the answer was prepared; a new request gets the current decision.
    AccessChanged,
    /// The share has no such schema.
    SchemaNotFound,
    /// The schema has no such table.
    TableNotFound,
    /// The URL of the file was never sealed by this server.
    FileUnknown,
}

/// How the caller sees a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is not authenticated.
    Unauthenticated,
    /// The caller is told that it may not have this.
    Forbidden,
    /// The caller does not learn whether it exists.
    NotFound,
    /// It existed, and is over.
    Gone,
    /// The caller is allowed, but not now.
    Limited,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 36] = [
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
        Self::AgreementInactive,
        Self::PurposeNotAllowed,
        Self::AgreementMissing,
        Self::UnclassifiedColumn,
        Self::RawNotAllowed,
        Self::GeoDenied(None),
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
            Self::AgreementInactive => "AGREEMENT_INACTIVE",
            Self::PurposeNotAllowed => "PURPOSE_NOT_ALLOWED",
            Self::AgreementMissing => "AGREEMENT_MISSING",
            Self::UnclassifiedColumn => "UNCLASSIFIED_COLUMN",
            Self::RawNotAllowed => "RAW_NOT_ALLOWED",
            Self::GeoDenied(_) => "GEO_DENIED",
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

    /// How the caller sees it.
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
            | Self::AgreementEnded
            | Self::AgreementInactive
            | Self::PurposeNotAllowed
            | Self::AgreementMissing
            | Self::UnclassifiedColumn
            | Self::RawNotAllowed
            | Self::GeoDenied(_) => Refusal::Forbidden,
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

    /// Whether the caller itself is allowed, but not to this share.
    pub fn is_of_share(self) -> bool {
        matches!(
            self,
            Self::ShareNotGranted
                | Self::GrantRevoked
                | Self::GrantExpired
                | Self::TokenOutOfScope
                | Self::AgreementEnded
                | Self::AgreementInactive
                | Self::PurposeNotAllowed
                | Self::AgreementMissing
                | Self::UnclassifiedColumn
                | Self::RawNotAllowed
                | Self::GeoDenied(_)
        )
    }

    /// Whether the caller's grant is why, so that the event says what it was for and under which agreement.
    pub fn is_of_grant(self) -> bool {
        matches!(
            self,
            Self::AgreementEnded
                | Self::AgreementInactive
                | Self::PurposeNotAllowed
                | Self::AgreementMissing
                | Self::UnclassifiedColumn
                | Self::RawNotAllowed
                | Self::GeoDenied(_)
        )
    }

    /// The number of seconds after which a new request may succeed; for reasons that are [`Refusal::Limited`].
    pub fn retry_after_seconds(self, now: DateTime<Utc>) -> u64 {
        match self {
            Self::BytesPerDay => seconds_to_next_day(now),
            Self::ConcurrentRequests | Self::ConcurrentStreams => TURN_WAIT_SECONDS,
            Self::AccessChanged => 1,
            _ => seconds_to_next_minute(now),
        }
    }
}

/// How long a client should wait for one of its requests or streams to end before it tries again.
const TURN_WAIT_SECONDS: u64 = 5;

/// An allowed request, and its basis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed<'a> {
    /// Who asks.
    pub bearer: &'a Bearer,
    /// The grant that allows it; `None` for things of the recipient's own.
    pub grant: Option<&'a Grant>,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// When grants on a class that the object shows end at the latest.
    pub class_until: Option<DateTime<Utc>>,
}

impl Allowed<'_> {
    /// When this access ends by itself: the end of the token, of the grant, or of what a class allows, whichever is first.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        let grant_until = self.grant.map(|grant| grant.until(self.at));
        [self.bearer.token.expires_at, grant_until, self.class_until].into_iter().flatten().min()
    }
}

/// Decides. The order of checks is: token found, its state, freeze, the recipient's state, networks, then for a share:
/// granted now or ever, the grant's window, the token's scope, the agreements, the purposes of agreements and table, and what
/// the classes that the object shows ask for; for all, the country. (Checks of quality and feature will be placed in this
/// order when they exist.)
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
    match bearer.recipient.state.means() {
        Some(RecipientState::Active) => {}
        // A state that only a newer server knows lets nobody in.
        Some(RecipientState::Suspended) | None => return Err(Reason::RecipientSuspended),
        Some(RecipientState::Offboarded) => return Err(Reason::RecipientOffboarded),
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
    let class_until = match grant {
        None => None,
        Some(grant) => {
            decide_object(grant, facts.allowed_purposes, facts.requirements, facts.must_be_classified, facts.now)?
        }
    };
    let class_mode = facts.requirements.map(Requirements::geo_mode).unwrap_or_default();
    let geography = Geography { mode: facts.geography.mode.max(class_mode), ..facts.geography };
    let agreements = grant.into_iter().flat_map(|grant| grant.regions(facts.now));
    geography.check(agreements, &bearer.recipient.spec)?;
    Ok(Allowed { bearer, grant, at: facts.now, class_until })
}

/// Decides whether a grant opens an object now, whoever has a token for it.
pub fn decide_grant(
    grant: &Grant,
    allowed_purposes: Option<&[String]>,
    requirements: Option<&Requirements>,
    must_be_classified: bool,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Reason> {
    require_active(grant.state(now))?;
    decide_object(grant, allowed_purposes, requirements, must_be_classified, now)
}

/// Why a grant in this state allows nothing.
fn require_active(state: GrantState) -> Result<(), Reason> {
    match state {
        GrantState::Scheduled => Err(Reason::ShareNotGranted),
        GrantState::Revoked => Err(Reason::GrantRevoked),
        GrantState::Expired => Err(Reason::GrantExpired),
        GrantState::AgreementEnded => Err(Reason::AgreementEnded),
        GrantState::AgreementInactive => Err(Reason::AgreementInactive),
        GrantState::PurposeNotAllowed => Err(Reason::PurposeNotAllowed),
        GrantState::Active => Ok(()),
    }
}

/// Decides whether a grant in force opens an object: by the purposes of its table, and by the classes that it shows. Returns
/// when the grant ends at the latest because of these.
fn decide_object(
    grant: &Grant,
    allowed_purposes: Option<&[String]>,
    requirements: Option<&Requirements>,
    must_be_classified: bool,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Reason> {
    if allowed_purposes.is_some_and(|allowed| !allows_purpose(allowed, grant.purpose.as_deref())) {
        return Err(Reason::PurposeNotAllowed);
    }
    if must_be_classified && requirements.is_none_or(|requirements| requirements.unconfirmed > 0) {
        return Err(Reason::UnclassifiedColumn);
    }
    requirements.map_or(Ok(None), |requirements| decide_classes(requirements, grant, now))
}

/// Checks what the classes that an object shows ask of a grant; returns when the grant ends at the latest because of them.
fn decide_classes(
    requirements: &Requirements,
    grant: &Grant,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Reason> {
    if requirements.refused.is_some() {
        return Err(Reason::RawNotAllowed);
    }
    if requirements.missing_agreement(|kind, class| grant.covers(kind, class, now)).is_some() {
        return Err(Reason::AgreementMissing);
    }
    let until = requirements.grant_until(grant.valid_from);
    match until {
        Some(until) if until <= now => Err(Reason::GrantExpired),
        until => Ok(until),
    }
}

fn decide_share<'a>(token: &Token, access: &'a ShareAccess, now: DateTime<Utc>) -> Result<&'a Grant, Reason> {
    let grant = deciding(access, now).ok_or(Reason::ShareNotGranted)?;
    let is_in_scope = in_scope(token, access.share.id);
    let state = grant.state(now);
    if matches!(state, GrantState::Scheduled | GrantState::Revoked | GrantState::Expired) {
        require_active(state)?;
    }
    // A token for other shares must not learn anything about this share's grant.
    if !is_in_scope {
        return Err(Reason::TokenOutOfScope);
    }
    require_active(state)?;
    Ok(grant)
}

/// The grant that says whether a share may be read: the one in force, or else the one that began last, which explains best
/// why not. A grant whose window has not begun does not count, so the share does not exist for the recipient yet.
pub fn deciding(access: &ShareAccess, now: DateTime<Utc>) -> Option<&Grant> {
    in_force(&access.grants, now).or_else(|| {
        let began = access.grants.iter().filter(|grant| grant.valid_from <= now && grant.created_at <= now);
        began.max_by_key(|grant| (grant.valid_from, grant.created_at))
    })
}

/// Whether `token` is valid for the share with this id.
pub fn in_scope(token: &Token, share_id: Uuid) -> bool {
    token.share_ids.is_empty() || token.share_ids.contains(&share_id)
}

#[cfg(test)]
pub(in crate::domain) mod tests {
    use chrono::TimeDelta;

    use crate::domain::{
        access::{
            agreement::{ANY_PURPOSE, AgreementSuccession, AgreementTerms, tests::terms},
            geography::GeoMode,
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
                state: RecipientState::Active.into(),
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
                agreements: vec![],
                granted_by: "ann".into(),
                created_at: now() - day,
                ending: None,
            }],
        }
    }

    fn reason(bearer: Option<&Bearer>, access: Option<&ShareAccess>) -> Option<Reason> {
        let address = IpAddr::from([198, 51, 100, 7]);
        decide(facts(address, bearer, Target::Share(access))).err()
    }

    fn facts<'a>(address: IpAddr, bearer: Option<&'a Bearer>, target: Target<'a>) -> Facts<'a> {
        Facts {
            now: now(),
            address,
            bearer,
            target,
            allowed_purposes: None,
            requirements: None,
            must_be_classified: false,
            geography: Geography::default(),
        }
    }

    /// Each row breaks one more thing than the row above, which also tests the order.
    #[test]
    fn the_first_failure_wins_in_the_fixed_order() {
        let (mut caller, mut share) = (bearer(), access());
        assert_eq!(reason(Some(&caller), Some(&share)), None);
        assert_eq!(reason(Some(&caller), None), Some(Reason::ShareNotGranted));

        share.grants[0].agreements =
            vec![AgreementSuccession { id: Uuid::from_u128(100), members: vec![terms(0, -1, 9)] }];
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::PurposeNotAllowed));
        share.grants[0].agreements[0].members = vec![terms(0, 1, 9)];
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::AgreementInactive));
        share.grants[0].agreements.clear();
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
        caller.recipient.state = RecipientState::Suspended.into();
        assert_eq!(reason(Some(&caller), Some(&share)), Some(Reason::RecipientSuspended));
        caller.recipient.state = RecipientState::Offboarded.into();
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
    fn a_table_is_read_for_its_purposes_alone() {
        let (caller, mut share) = (bearer(), access());
        let address = IpAddr::from([127, 0, 0, 1]);
        let refused = |share: &ShareAccess, target: bool, allowed: Option<&[String]>| {
            let target = if target { Target::Share(Some(share)) } else { Target::Own };
            decide(Facts { allowed_purposes: allowed, ..facts(address, Some(&caller), target) }).err()
        };
        let fraud = ["Fraud".to_owned()];
        assert_eq!(refused(&share, true, None), None);
        assert_eq!(refused(&share, true, Some(&fraud)), Some(Reason::PurposeNotAllowed), "it is for no purpose");
        share.grants[0].purpose = Some("fraud".into());
        assert_eq!(refused(&share, true, Some(&fraud)), None);
        assert_eq!(refused(&share, true, Some(&[])), Some(Reason::PurposeNotAllowed));
        share.grants[0].purpose = Some("pricing".into());
        assert_eq!(refused(&share, true, Some(&fraud)), Some(Reason::PurposeNotAllowed));
        share.grants[0].valid_until = now();
        assert_eq!(refused(&share, true, Some(&fraud)), Some(Reason::GrantExpired), "what ended is said first");
        assert_eq!(refused(&share, false, None), None);
    }

    #[test]
    fn the_country_is_asked_for_last_and_for_what_is_the_recipients_own() {
        let (mut caller, mut share, address) = (bearer(), access(), IpAddr::from([198, 51, 100, 7]));
        caller.recipient.spec.country = Some("DE".into());
        let country = |code| Geography { mode: GeoMode::Strict, country: Country::parse(code) };
        let refused = |caller: &Bearer, target: Target<'_>, geography| {
            decide(Facts { geography, ..facts(address, Some(caller), target) }).err()
        };
        assert_eq!(refused(&caller, Target::Own, country("DE")), None);
        let (abroad, unknown) = (Reason::GeoDenied(Country::parse("US")), Reason::GeoDenied(None));
        assert_eq!(refused(&caller, Target::Own, country("US")), Some(abroad));
        assert_eq!(refused(&caller, Target::Own, country("")), Some(unknown));
        assert_eq!(refused(&caller, Target::Share(Some(&share)), country("US")), Some(abroad));
        // Of what was never granted nothing is told.
        assert_eq!(refused(&caller, Target::Share(None), country("US")), Some(Reason::ShareNotGranted));
        // An agreement narrows it for its grants, and what ended is said first.
        caller.recipient.spec.regions = vec!["DE".into(), "US".into()];
        let (purposes, regions) = (vec![ANY_PURPOSE.into()], Some(vec!["EU".into()]));
        let members = vec![AgreementTerms { purposes, regions, ..terms(0, -1, 9) }];
        share.grants[0].agreements = vec![AgreementSuccession { id: Uuid::from_u128(100), members }];
        assert_eq!(refused(&caller, Target::Own, country("US")), None);
        assert_eq!(refused(&caller, Target::Share(Some(&share)), country("DE")), None);
        assert_eq!(refused(&caller, Target::Share(Some(&share)), country("US")), Some(abroad));
        share.grants[0].valid_until = now();
        assert_eq!(refused(&caller, Target::Share(Some(&share)), country("US")), Some(Reason::GrantExpired));
        assert_eq!(refused(&caller, Target::Own, Geography::default()), None);
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
        let target = Target::Share(Some(&share));
        assert_eq!(decide(facts(address, Some(&caller), target)).unwrap().until(), Some(now() + TimeDelta::days(1)));
    }
}
