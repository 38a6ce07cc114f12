//! Recipients' tokens: how they are issued, rotated and ended. A token in clear leaves here once, in the answer that
//! made it.

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use serde_json::json;
use uuid::Uuid;

use super::{
    Service,
    context::OperatorContext,
    error::{FieldError, ServiceError},
    idempotency, lookup,
    page::{Page, PageRequest},
    recipients, trail,
};
use crate::{
    domain::{
        audit::{Event, Object, timestamp},
        name::{Name, NameKind, name_key},
        recipient::{Recipient, RecipientState},
        token::{BearerToken, Token},
    },
    store::Tx,
};

/// How many live tokens a credential has at most: one in use, and one that takes its place.
const MAX_LIVE_TOKENS: usize = 2;
/// The credential of tokens that name none.
const DEFAULT_CREDENTIAL: &str = "default";

/// A token that is asked for.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    /// How long it lives, in seconds.
    pub expires_in_seconds: Option<u64>,
    /// The credential that it belongs to.
    pub credential: Option<String>,
    /// Only these shares, by name; all of the recipient's where empty.
    pub shares: Vec<String>,
    /// Only from these networks.
    pub allowed_cidrs: Vec<IpNet>,
    /// Whether the answer shows it.
    pub reveal: bool,
}

/// How a token is rotated.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// How long the old token goes on at most, in seconds; 0 ends it at once.
    pub existing_token_expire_in_seconds: u64,
    /// Whether the answer shows the new one.
    pub reveal: bool,
}

/// A token with the names of the shares that it is bound to.
#[derive(Clone, Debug)]
pub struct TokenDetail {
    /// The token.
    pub token: Token,
    /// The shares' names; ids of shares that are gone.
    pub shares: Vec<String>,
}

/// A token that was just made, in clear.
#[derive(Debug)]
pub struct IssuedToken {
    /// What is kept of it.
    pub token: Token,
    /// The token itself; shown now or never.
    pub secret: BearerToken,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// What came of revoking a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RevokedToken {
    /// From when on it authenticates nobody.
    pub revoked_at: DateTime<Utc>,
    /// When the last presigned URL that it was given dies; `revoked_at` where none lives.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs live until then.
    pub outstanding_urls: i64,
}

fn not_found(id: Uuid) -> ServiceError {
    ServiceError::NotFound { kind: "token", name: id.to_string() }
}

fn event(ctx: &OperatorContext, action: &'static str, recipient: &Recipient, token: &Token) -> Event {
    let credential = Some(token.credential.clone());
    Event {
        recipient: Some(recipient.name.to_string()),
        recipient_id: Some(recipient.id),
        token_id: Some(token.id),
        ..ctx.event(action, Object { kind: "token".into(), id: Some(token.id), name: credential })
    }
}

/// Until the activation page exists, a token can only be shown in the answer.
fn check_reveal(reveal: bool) -> Result<(), ServiceError> {
    if reveal {
        return Ok(());
    }
    let message = "must be true: the activation page does not exist yet, so that the answer is the only place to show \
                   the token";
    Err(ServiceError::invalid("reveal", message))
}

fn seconds(seconds: u64) -> TimeDelta {
    i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX)
}

async fn find_recipient(tx: &mut Tx, name: &str) -> Result<Recipient, ServiceError> {
    let key = lookup::key(NameKind::Recipient, name)?;
    tx.find_recipient(&key).await?.ok_or_else(|| recipients::not_found(name))
}

async fn find_token(tx: &mut Tx, recipient: &Recipient, id: Uuid) -> Result<Token, ServiceError> {
    let found = tx.find_token(id).await?.filter(|token| token.recipient_id == recipient.id);
    found.ok_or_else(|| not_found(id))
}

impl Service {
    /// Issues a token to a recipient and shows it.
    pub async fn issue_token(
        &self,
        ctx: &OperatorContext,
        recipient: &str,
        asked: NewToken,
    ) -> Result<IssuedToken, ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        self.refuse_replay(&mut tx, ctx).await?;
        let recipient = find_recipient(&mut tx, recipient).await?;
        let mut errors = Vec::new();
        let mut note = |error: ServiceError| match error {
            ServiceError::Invalid(found) => errors.extend(found),
            other => errors.push(FieldError { field: "body".into(), message: other.to_string() }),
        };
        let life = self.life(asked.expires_in_seconds).map_err(&mut note).ok();
        check_reveal(asked.reveal).map_err(&mut note).ok();
        let credential = asked.credential.unwrap_or_else(|| DEFAULT_CREDENTIAL.into());
        let credential = Name::parse(NameKind::Credential, &credential)
            .map_err(|error| note(ServiceError::invalid("credential", error.to_string())))
            .ok();
        let mut share_ids = Vec::with_capacity(asked.shares.len());
        for (i, name) in asked.shares.iter().enumerate() {
            let share = match lookup::key(NameKind::Share, name) {
                Ok(key) => tx.find_share(&key).await?,
                Err(_) => None,
            };
            match share {
                Some(share) => share_ids.push(share.id),
                None => note(ServiceError::invalid(format!("shares[{i}]"), "names no share; create it first")),
            }
        }
        let (Some(life), Some(credential), true) = (life, credential, errors.is_empty()) else {
            return Err(ServiceError::Invalid(errors));
        };
        share_ids.sort_unstable();
        share_ids.dedup();
        let token = Token {
            id: Uuid::now_v7(),
            recipient_id: recipient.id,
            credential: credential.to_string(),
            share_ids,
            allowed_cidrs: asked.allowed_cidrs,
            created_at: ctx.now,
            activated_at: Some(ctx.now),
            expires_at: Some(ctx.now + life),
            revoked_at: None,
            last_used_at: None,
        };
        let issued = self.insert_revealed(&mut tx, ctx, &recipient, token).await?;
        tx.commit().await?;
        Ok(issued)
    }

    /// Issues a token in the place of another, which goes on for a while, so that nothing breaks in between. It keeps
    /// the old one's credential, shares, networks and length of life.
    pub async fn rotate_token(
        &self,
        ctx: &OperatorContext,
        recipient: &str,
        id: Uuid,
        rotation: Rotation,
    ) -> Result<IssuedToken, ServiceError> {
        check_reveal(rotation.reveal)?;
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        self.refuse_replay(&mut tx, ctx).await?;
        let recipient = find_recipient(&mut tx, recipient).await?;
        let old = find_token(&mut tx, &recipient, id).await?;
        let Some(old_end) = old.expires_at.filter(|_| old.is_live(ctx.now)) else {
            return Err(ServiceError::conflict(format!("token `{id}` has ended; issue a new one")));
        };
        let end = ctx.now.checked_add_signed(seconds(rotation.existing_token_expire_in_seconds));
        if let Some(end) = end.filter(|end| *end < old_end) {
            tx.shorten_token(old.id, end).await?;
        }
        let longest = seconds(self.settings.token_max_seconds);
        let token = Token {
            id: Uuid::now_v7(),
            created_at: ctx.now,
            activated_at: Some(ctx.now),
            expires_at: Some(ctx.now + (old_end - old.created_at).min(longest)),
            last_used_at: None,
            ..old.clone()
        };
        let change = json!({
            "before": {"expires_at": timestamp(old_end)},
            "after": {"expires_at": timestamp(end.map_or(old_end, |end| end.min(old_end))), "replaced_by": token.id},
        });
        let rotated = Event { change: Some(change), ..event(ctx, "token.rotate", &recipient, &old) };
        trail::append(&mut tx, rotated, ctx.now).await?;
        let issued = self.insert_revealed(&mut tx, ctx, &recipient, token).await?;
        tx.commit().await?;
        Ok(issued)
    }

    /// Ends a token now. One that was revoked before stays revoked as it was.
    pub async fn revoke_token(
        &self,
        ctx: &OperatorContext,
        recipient: &str,
        id: Uuid,
        reason: Option<&str>,
    ) -> Result<RevokedToken, ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let recipient = find_recipient(&mut tx, recipient).await?;
        let token = find_token(&mut tx, &recipient, id).await?;
        let outstanding = tx.find_outstanding_of_tokens(&[id], ctx.now).await?;
        let revoked_at = token.revoked_at.unwrap_or(ctx.now);
        if token.revoked_at.is_none() {
            self.end_token(&mut tx, ctx, &recipient, &token, reason).await?;
            tx.commit().await?;
        }
        let effective_by = outstanding.until.map_or(revoked_at, |until| until.max(revoked_at));
        Ok(RevokedToken { revoked_at, effective_by, outstanding_urls: outstanding.urls })
    }

    /// One of a recipient's tokens, without the token itself.
    pub async fn get_token(&self, recipient: &str, id: Uuid) -> Result<TokenDetail, ServiceError> {
        let recipient = self.get_recipient(recipient).await?;
        let found = self.db.find_token(id).await?.filter(|token| token.recipient_id == recipient.id);
        self.token_detail(found.ok_or_else(|| not_found(id))?).await
    }

    /// A recipient's tokens by their creation.
    pub async fn list_tokens(&self, recipient: &str, page: &PageRequest) -> Result<Page<TokenDetail>, ServiceError> {
        let recipient = self.get_recipient(recipient).await?;
        let opened = self.begin_page(page, format!("tokens of {}", recipient.id))?;
        let after = opened.after_created();
        let tokens = self.db.list_tokens(recipient.id, after, opened.limit).await?;
        let page = self.end_page(opened, tokens, |token| super::page::created_key(token.created_at, token.id));
        let mut items = Vec::with_capacity(page.items.len());
        for token in page.items {
            items.push(self.token_detail(token).await?);
        }
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    /// Ends `token` now, in a transaction that holds the chain's lock.
    pub(super) async fn end_token(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        recipient: &Recipient,
        token: &Token,
        reason: Option<&str>,
    ) -> Result<(), ServiceError> {
        tx.revoke_token(token.id, ctx.now).await?;
        let change = json!({"after": {"revoked_at": timestamp(ctx.now)}, "reason": reason});
        let event = Event { change: Some(change), ..event(ctx, "token.revoke", recipient, token) };
        Ok(trail::append(tx, event, ctx.now).await?)
    }

    /// Makes the secret of `token`, keeps its hash, and records both the issue and the showing.
    async fn insert_revealed(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        recipient: &Recipient,
        token: Token,
    ) -> Result<IssuedToken, ServiceError> {
        if recipient.state == RecipientState::Offboarded {
            return Err(ServiceError::conflict(format!("recipient `{}` is offboarded", recipient.name)));
        }
        let credential = name_key(&token.credential);
        let mut live = tx.list_live_tokens(recipient.id, ctx.now).await?;
        live.retain(|other| name_key(&other.credential) == credential);
        if live.len() >= MAX_LIVE_TOKENS {
            let ids: Vec<String> = live.iter().map(|other| other.id.to_string()).collect();
            return Err(ServiceError::conflict(format!(
                "credential `{}` has its two live tokens, {}; revoke one of them first",
                token.credential,
                super::change::quoted(&ids)
            )));
        }
        let secret = BearerToken::generate();
        tx.insert_token(&token, Some(&secret.hash())).await?;
        idempotency::remember(tx, ctx, token.id).await?;
        let expires_at = token.expires_at.ok_or_else(|| ServiceError::internal("a shown token has no end"))?;
        let change = json!({"after": {
            "credential": token.credential,
            "shares": token.share_ids,
            "allowed_cidrs": token.allowed_cidrs,
            "expires_at": timestamp(expires_at),
        }});
        let issue = Event { change: Some(change), ..event(ctx, "token.issue", recipient, &token) };
        trail::append(tx, issue, ctx.now).await?;
        trail::append(tx, event(ctx, "token.reveal", recipient, &token), ctx.now).await?;
        Ok(IssuedToken { token, secret, expires_at })
    }

    async fn refuse_replay(&self, tx: &mut Tx, ctx: &OperatorContext) -> Result<(), ServiceError> {
        match idempotency::replayed(tx, ctx).await? {
            None => Ok(()),
            Some(id) => Err(ServiceError::conflict(format!(
                "this request issued token `{id}` before, and a token is shown once; revoke it if its answer was lost"
            ))),
        }
    }

    fn life(&self, asked: Option<u64>) -> Result<TimeDelta, ServiceError> {
        let longest = self.settings.token_max_seconds;
        let asked = asked.unwrap_or(self.settings.token_default_seconds);
        if (1..=longest).contains(&asked) {
            return Ok(seconds(asked));
        }
        Err(ServiceError::invalid("expires_in_seconds", format!("must be between 1 and {longest}")))
    }

    async fn token_detail(&self, token: Token) -> Result<TokenDetail, ServiceError> {
        let mut shares = Vec::with_capacity(token.share_ids.len());
        for id in &token.share_ids {
            let share = self.db.find_share_by_id(*id).await?;
            shares.push(share.map_or_else(|| id.to_string(), |share| share.name.to_string()));
        }
        Ok(TokenDetail { token, shares })
    }
}
