//! Issues, rotates and revokes recipients' tokens. A token's text leaves the server once, in the answer that created
//! it.

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            activation::{Activation, ActivationCode},
            limits::span,
            recipient::{Recipient, RecipientState},
            token::{BearerToken, Token},
        },
        audit::{
            Event, Object,
            action::{Action, Kind},
            timestamp,
        },
        core::{
            message::quoted,
            name::{Name, NameKind, name_key},
            spec,
        },
        operators::principal::Separation,
    },
    service::{
        audit::write,
        core::{
            context::OperatorContext,
            error::{FieldError, ServiceError},
            idempotency, lookup,
            page::{Page, PageRequest},
        },
    },
    store::Tx,
};

use super::{Access, grants::Effect};

/// The most live tokens of one credential: one in use and its successor.
const MAX_LIVE_TOKENS: usize = 2;
/// The credential of tokens for which none is named.
const DEFAULT_CREDENTIAL: &str = "default";

/// A request for a token.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    /// How long the token lives, in seconds.
    pub expires_in_seconds: Option<u64>,
    /// The credential that the token belongs to.
    pub credential: Option<String>,
    /// The names of the only shares it may read; all of the recipient's if empty.
    pub shares: Vec<String>,
    /// The only networks it may be used from.
    pub allowed_cidrs: Vec<IpNet>,
    /// Whether the answer contains the token.
    pub reveal: bool,
}

/// How a token is rotated.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// The longest time that the old token stays valid, in seconds. With 0 it ends at once if the new one is revealed,
    /// otherwise when the new one is fetched.
    pub existing_token_expire_in_seconds: u64,
    /// Whether the answer contains the new token.
    pub reveal: bool,
    /// Whether 0 ends the old token now even if the new one is not fetched yet.
    pub force: bool,
}

/// A token with the names of the shares it is bound to.
#[derive(Clone, Debug)]
pub struct TokenDetail {
    /// The token.
    pub token: Token,
    /// The shares' names; the ids of shares that no longer exist.
    pub shares: Vec<String>,
}

/// The result of issuing a token.
#[derive(Debug)]
pub enum Issued {
    /// The token was created and is in the answer.
    Revealed(IssuedToken),
    /// The token will be created when the recipient fetches it.
    Pending(PendingToken),
}

/// A token that the recipient has yet to fetch.
#[derive(Debug)]
pub struct PendingToken {
    /// The stored record.
    pub token: Token,
    /// The code of its link; it cannot be shown again.
    pub code: ActivationCode,
    /// When the link expires.
    pub expires_at: DateTime<Utc>,
}

/// A token that was just created, with its text.
#[derive(Debug)]
pub struct IssuedToken {
    /// The stored record.
    pub token: Token,
    /// The token's text; it cannot be shown again.
    pub secret: BearerToken,
    /// When the token expires.
    pub expires_at: DateTime<Utc>,
}

/// Stands in for a secret in a dry run's answer.
pub(in crate::service) const NOT_ISSUED: &str = "dry-run";

/// How a new token gets to its recipient.
#[derive(Clone, Copy, Debug)]
struct Shown {
    reveal: bool,
    /// How long the token lives once it is delivered.
    life_seconds: u64,
    /// The token that ends when this one is fetched.
    ends_token_id: Option<Uuid>,
}

/// The result of revoking a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RevokedToken {
    /// The time from which the token is refused.
    pub revoked_at: DateTime<Utc>,
    /// The presigned URLs that are still live.
    pub effect: Effect,
}

fn not_found(id: Uuid) -> ServiceError {
    ServiceError::NotFound { kind: "token", name: id.to_string() }
}

pub(in crate::service) fn event(ctx: &OperatorContext, action: Action, recipient: &Recipient, token: &Token) -> Event {
    let credential = Some(token.credential.clone());
    Event {
        recipient: Some(recipient.name.to_string()),
        recipient_id: Some(recipient.id),
        token_id: Some(token.id),
        ..ctx.event(action, Object { kind: Kind::Token, id: Some(token.id), name: credential })
    }
}

pub(in crate::service) async fn find_recipient(tx: &mut Tx, name: &str) -> Result<Recipient, ServiceError> {
    let key = lookup::key(NameKind::Recipient, name)?;
    tx.find_recipient(&key).await?.ok_or_else(|| lookup::no_such_recipient(name))
}

pub(in crate::service) async fn find_token(
    tx: &mut Tx,
    recipient: &Recipient,
    id: Uuid,
) -> Result<Token, ServiceError> {
    let found = tx.find_token(id).await?.filter(|token| token.recipient_id == recipient.id);
    found.ok_or_else(|| not_found(id))
}

/// Refuses to show a recipient's token to an operator, who could read with it, where duties are separated.
fn may_reveal(ctx: &OperatorContext, reveal: bool) -> Result<(), ServiceError> {
    if reveal && ctx.principal.separation == Separation::Enforced {
        let message =
            "tokens are shown to nobody but their recipients here (governance.separation); leave `reveal` out, and \
                       send the recipient its activation link"
                .to_owned();
        return Err(ServiceError::Forbidden { reason: "SEPARATION", message });
    }
    Ok(())
}

fn end_of(now: DateTime<Utc>, seconds: u64) -> DateTime<Utc> {
    now.checked_add_signed(span(seconds)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl Access {
    /// Issues a token to a recipient. The answer holds a link for the recipient to fetch it, or the token itself if
    /// `asked.reveal` is set.
    pub async fn issue_token(
        &self,
        ctx: &OperatorContext,
        recipient: &str,
        asked: NewToken,
    ) -> Result<Issued, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        may_reveal(ctx, asked.reveal)?;
        self.refuse_replay(tx, ctx).await?;
        let recipient = find_recipient(tx, recipient).await?;
        let mut errors = Vec::new();
        let mut note = |error: ServiceError| match error {
            ServiceError::Invalid(found) => errors.extend(found),
            other => errors.push(FieldError { field: "body".into(), message: other.to_string() }),
        };
        let life = self.life(asked.expires_in_seconds).map_err(&mut note).ok();
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
                None => note(ServiceError::invalid(format!("shares[{i}]"), lookup::no_share(tx, name).await?)),
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
            activated_at: None,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            unused_until: None,
        };
        let shown = Shown { reveal: asked.reveal, life_seconds: life, ends_token_id: None };
        let issued = self.insert_new(tx, ctx, &recipient, token, shown).await?;
        unit.commit().await?;
        Ok(issued)
    }

    /// Issues a token in place of another, which stays valid for a while so that nothing breaks. The new token keeps
    /// the old one's credential, shares, networks and lifetime.
    pub async fn rotate_token(
        &self,
        ctx: &OperatorContext,
        recipient: &str,
        id: Uuid,
        rotation: Rotation,
    ) -> Result<Issued, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        may_reveal(ctx, rotation.reveal)?;
        self.refuse_replay(tx, ctx).await?;
        let recipient = find_recipient(tx, recipient).await?;
        let old = find_token(tx, &recipient, id).await?;
        let Some(old_end) = old.expires_at.filter(|_| old.is_live(ctx.now)) else {
            return Err(ServiceError::conflict(format!("token `{id}` has ended; issue a new one")));
        };
        let Some(activated_at) = old.activated_at else {
            let message = format!("token `{id}` is not fetched yet; cancel its activation and issue a new one");
            return Err(ServiceError::conflict(message));
        };
        let goes_on = rotation.existing_token_expire_in_seconds;
        // Nobody holds the new token yet, so ending the old one now would lock the recipient out.
        let ends_at_activation = goes_on == 0 && !rotation.reveal && !rotation.force;
        let end = ctx.now.checked_add_signed(span(goes_on)).filter(|end| *end < old_end && !ends_at_activation);
        if let Some(end) = end {
            tx.shorten_token(old.id, end).await?;
        }
        let life = u64::try_from((old_end - activated_at).num_seconds()).unwrap_or_default().max(1);
        let token = Token {
            id: Uuid::now_v7(),
            created_at: ctx.now,
            activated_at: None,
            expires_at: None,
            last_used_at: None,
            unused_until: None,
            ..old.clone()
        };
        let change = json!({
            "before": {"expires_at": timestamp(old_end)},
            "after": {
                "expires_at": timestamp(end.unwrap_or(old_end)),
                "ends_at_activation": ends_at_activation,
                "replaced_by": token.id,
            },
        });
        // Only what ends earlier tightens; the new token has an event of its own.
        let effect = Some(if end.is_some() { spec::Effect::Tightens } else { spec::Effect::Neutral });
        let rotated = Event { change: Some(change), effect, ..event(ctx, Action::TokenRotate, &recipient, &old) };
        write::append(tx, rotated, ctx.now).await?;
        let shown = Shown {
            reveal: rotation.reveal,
            life_seconds: life.min(self.settings.token_max_seconds),
            ends_token_id: ends_at_activation.then_some(old.id),
        };
        let issued = self.insert_new(tx, ctx, &recipient, token, shown).await?;
        unit.commit().await?;
        Ok(issued)
    }

    /// Ends a token now. A token that was revoked earlier keeps that time.
    pub async fn revoke_token(
        &self,
        ctx: &OperatorContext,
        recipient: &str,
        id: Uuid,
        reason: Option<&str>,
    ) -> Result<RevokedToken, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let recipient = find_recipient(tx, recipient).await?;
        let token = find_token(tx, &recipient, id).await?;
        let outstanding = tx.find_outstanding_of_tokens(&[id], ctx.now).await?;
        let revoked_at = token.revoked_at.unwrap_or(ctx.now);
        if token.revoked_at.is_none() {
            self.end_token(tx, ctx, &recipient, &token, reason).await?;
            unit.commit().await?;
        }
        Ok(RevokedToken { revoked_at, effect: Effect::new(revoked_at, outstanding) })
    }

    /// Finds one of a recipient's tokens; the token's text is never in the answer.
    pub async fn get_token(&self, recipient: &str, id: Uuid) -> Result<TokenDetail, ServiceError> {
        let recipient = self.get_recipient(recipient).await?;
        let found = self.core.db.find_token(id).await?.filter(|token| token.recipient_id == recipient.id);
        self.token_detail(found.ok_or_else(|| not_found(id))?).await
    }

    /// Lists a recipient's tokens by creation time.
    pub async fn list_tokens(&self, recipient: &str, page: &PageRequest) -> Result<Page<TokenDetail>, ServiceError> {
        let recipient = self.get_recipient(recipient).await?;
        let opened = self.core.begin_page(page, format!("tokens of {}", recipient.id))?;
        let after = opened.after_created();
        let tokens = self.core.db.list_tokens(recipient.id, after, opened.limit).await?;
        let page = self
            .core
            .end_page(opened, tokens, |token| crate::service::core::page::created_key(token.created_at, token.id));
        let mut items = Vec::with_capacity(page.items.len());
        for token in page.items {
            items.push(self.token_detail(token).await?);
        }
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    /// Ends `token` now; the transaction must hold the chain's lock.
    pub(in crate::service) async fn end_token(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        recipient: &Recipient,
        token: &Token,
        reason: Option<&str>,
    ) -> Result<(), ServiceError> {
        tx.revoke_token(token.id, ctx.now).await?;
        let change = json!({"after": {"revoked_at": timestamp(ctx.now)}, "reason": reason});
        let event = Event { change: Some(change), ..event(ctx, Action::TokenRevoke, recipient, token) };
        Ok(write::append(tx, event, ctx.now).await?)
    }

    /// Has `token` end at `end`, in a transaction that holds the chain's lock.
    pub(in crate::service) async fn shorten_token_in(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        recipient: &Recipient,
        token: &Token,
        end: DateTime<Utc>,
        reason: &str,
    ) -> Result<(), ServiceError> {
        tx.shorten_token(token.id, end).await?;
        let change = json!({
            "before": {"expires_at": token.expires_at.map(timestamp)},
            "after": {"expires_at": timestamp(end)},
            "reason": reason,
        });
        let event = Event { change: Some(change), ..event(ctx, Action::TokenRotate, recipient, token) };
        Ok(write::append(tx, event, ctx.now).await?)
    }

    /// Stores a new token with the hash of its secret or of its link's code. Records that it was issued and, if so,
    /// revealed.
    async fn insert_new(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        recipient: &Recipient,
        token: Token,
        shown: Shown,
    ) -> Result<Issued, ServiceError> {
        if recipient.state == RecipientState::Offboarded {
            return Err(ServiceError::conflict(format!("recipient `{}` is offboarded", recipient.name)));
        }
        if let Some(identity) = &recipient.spec.oidc {
            return Err(ServiceError::conflict(format!(
                "recipient `{}` is bound to the issuer `{}`, which gives it its tokens; set its `oidc` to null first",
                recipient.name, identity.issuer
            )));
        }
        let credential = name_key(&token.credential);
        let mut live = tx.list_live_tokens(recipient.id, ctx.now).await?;
        live.retain(|other| name_key(&other.credential) == credential);
        if live.len() >= MAX_LIVE_TOKENS {
            let ids: Vec<String> = live.iter().map(|other| other.id.to_string()).collect();
            return Err(ServiceError::conflict(format!(
                "credential `{}` has its two live tokens, {}; revoke one of them first",
                token.credential,
                quoted(&ids)
            )));
        }
        idempotency::remember(tx, ctx, token.id).await?;
        let issue = |token: &Token, end: (&str, DateTime<Utc>)| {
            let mut after = json!({
                "credential": token.credential,
                "shares": token.share_ids,
                "allowed_cidrs": token.allowed_cidrs,
                "expires_in_seconds": shown.life_seconds,
            });
            after[end.0] = timestamp(end.1).into();
            Event { change: Some(json!({"after": after})), ..event(ctx, Action::TokenIssue, recipient, token) }
        };
        if !shown.reveal {
            let code = if ctx.is_dry() { ActivationCode::presented(NOT_ISSUED) } else { ActivationCode::generate() };
            let expires_at = end_of(ctx.now, self.settings.activation_ttl_seconds);
            // Until it is fetched, the token expires with its link.
            let token = Token { expires_at: Some(expires_at), ..token };
            let Shown { life_seconds, ends_token_id, .. } = shown;
            let activation = Activation { token_id: token.id, expires_at, life_seconds, ends_token_id };
            tx.insert_token(&token, None).await?;
            tx.insert_activation(&activation, &code.hash()).await?;
            write::append(tx, issue(&token, ("activation_expires_at", expires_at)), ctx.now).await?;
            return Ok(Issued::Pending(PendingToken { token, code, expires_at }));
        }
        let secret = if ctx.is_dry() { BearerToken::presented(NOT_ISSUED) } else { BearerToken::generate() };
        let expires_at = end_of(ctx.now, shown.life_seconds);
        let token = Token { activated_at: Some(ctx.now), expires_at: Some(expires_at), ..token };
        tx.insert_token(&token, Some(&secret.hash())).await?;
        write::append(tx, issue(&token, ("expires_at", expires_at)), ctx.now).await?;
        write::append(tx, event(ctx, Action::TokenReveal, recipient, &token), ctx.now).await?;
        Ok(Issued::Revealed(IssuedToken { token, secret, expires_at }))
    }

    async fn refuse_replay(&self, tx: &mut Tx, ctx: &OperatorContext) -> Result<(), ServiceError> {
        match idempotency::replayed(tx, ctx).await? {
            None => Ok(()),
            Some(id) => Err(ServiceError::conflict(format!(
                "this request issued token `{id}` before, and a token or its link is shown once; revoke it if its answer was \
                 lost"
            ))),
        }
    }

    fn life(&self, asked: Option<u64>) -> Result<u64, ServiceError> {
        let longest = self.settings.token_max_seconds;
        let asked = asked.unwrap_or(self.settings.token_default_seconds);
        if (1..=longest).contains(&asked) {
            return Ok(asked);
        }
        Err(ServiceError::invalid("expires_in_seconds", format!("must be between 1 and {longest}")))
    }

    async fn token_detail(&self, token: Token) -> Result<TokenDetail, ServiceError> {
        let mut shares = Vec::with_capacity(token.share_ids.len());
        for id in &token.share_ids {
            let share = self.core.db.find_share_by_id(*id).await?;
            shares.push(share.map_or_else(|| id.to_string(), |share| share.name.to_string()));
        }
        Ok(TokenDetail { token, shares })
    }
}
