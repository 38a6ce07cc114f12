//! Manages operators, who may use the admin API, and their tokens. A token's text leaves the server once, in the answer
//! that created it.

mod admission;
mod groups;
pub mod identities;
mod membership;
pub(super) mod refusals;
pub mod sign_in;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    config::OperatorSettings,
    domain::{
        access::{limits::span, token::BearerToken},
        audit::{
            Event, Object,
            action::{Action, Kind},
            timestamp,
        },
        core::{
            message::quoted,
            name::{Name, NameKind, name_key},
            spec::{Mode, tightened},
            word::AsWritten,
        },
        operators::{BOOTSTRAP, Operator, OperatorSpec, OperatorToken, Role, group::Member},
    },
    identity::Identities,
    store::{Db, StoreError, Tx},
};

use super::{
    access::tokens::NOT_ISSUED,
    audit::write,
    catalog::ownership,
    core::{
        Core,
        change::{Named, Put, audited, changed_spec, confirm, differing, new_spec},
        clock::Clock,
        context::OperatorContext,
        error::ServiceError,
        idempotency, lookup,
        page::{Page, PageRequest},
        precondition::Precondition,
        rate_limiter::{RateLimiter, RateLimits},
        unit::ChangeUnit,
    },
};

/// The use cases about who operates the server.
#[derive(Clone, Debug)]
pub struct Operators {
    /// What every service works with.
    pub core: Core,
    /// The trusted OpenID Connect issuers.
    pub identities: Identities,
    /// Counts refusals.
    pub rate_limiter: Arc<RateLimiter>,
    /// How many refusals of one address in a minute are recorded, and answered with their reason.
    pub failure_limits: RateLimits,
}

/// The most live tokens of one operator: for its machines, and a successor for one.
const MAX_LIVE_TOKENS: i64 = 10;

/// How many of an operator's groups are named.
const NAMED: usize = 20;

/// A token that was just made, in clear.
#[derive(Debug)]
pub struct IssuedOperatorToken {
    /// The stored record.
    pub token: OperatorToken,
    /// The token's text; it cannot be shown again.
    pub secret: BearerToken,
}

fn not_found(name: &str) -> ServiceError {
    ServiceError::NotFound { kind: "operator", name: name.to_owned() }
}

fn token_not_found(id: Uuid) -> ServiceError {
    ServiceError::NotFound { kind: "token", name: id.to_string() }
}

fn event(ctx: &OperatorContext, action: Action, operator: &Operator) -> Event {
    let name = Some(operator.name.to_string());
    ctx.event(action, Object { kind: Kind::Operator, id: Some(operator.id), name })
}

/// Stores `after` as the operator's new state; the transaction must hold the chain's lock.
pub(super) async fn move_in(
    tx: &mut Tx,
    ctx: &OperatorContext,
    after: Operator,
    reason: &str,
    action: Action,
) -> Result<Operator, StoreError> {
    let after = tx.update_operator(after).await?;
    let change = json!({"after": {"disabled": after.disabled_at.is_some()}, "reason": reason});
    let event = Event { change: Some(change), ..event(ctx, action, &after) };
    write::append(tx, event, ctx.now).await?;
    Ok(after)
}

/// Sets those of the recorded values that tighten an operator, in a transaction that holds the chain's lock; whether there
/// were any.
pub(in crate::service) async fn tighten(
    tx: &mut Tx,
    ctx: &OperatorContext,
    id: Uuid,
    name: &str,
    recorded: &Map<String, Value>,
    reason: &str,
) -> Result<bool, StoreError> {
    let found = tx.find_operator(&name_key(name)).await?.filter(|operator| operator.id == id);
    let Some(before) = found else { return Ok(false) };
    let spec = tightened(&before.spec, recorded);
    if spec == before.spec {
        return Ok(false);
    }
    let after = tx.update_operator(Operator { spec, updated_at: ctx.now, ..before.clone() }).await?;
    let told = audited(Some(&before.spec), Some(&after.spec)).because(reason);
    write::append(tx, told.told_by(event(ctx, Action::OperatorUpdate, &after)), ctx.now).await?;
    Ok(true)
}

/// Ends an operator's token now, in a transaction that holds the chain's lock.
pub(super) async fn end_token_in(
    tx: &mut Tx,
    ctx: &OperatorContext,
    operator: &Operator,
    id: Uuid,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    tx.revoke_operator_token(id, ctx.now).await?;
    let change = json!({"after": {"revoked_at": timestamp(ctx.now)}, "reason": reason});
    let event = Event { change: Some(change), token_id: Some(id), ..event(ctx, Action::OperatorTokenRevoke, operator) };
    write::append(tx, event, ctx.now).await
}

fn parse_name(name: &str) -> Result<Name, ServiceError> {
    let parsed = Name::parse(NameKind::Operator, name);
    let parsed = parsed.map_err(|error| ServiceError::invalid("operator", error.to_string()))?;
    if parsed.key() == name_key(BOOTSTRAP) {
        let message = format!("`{BOOTSTRAP}` is the name of the bootstrap token; take another");
        return Err(ServiceError::invalid("operator", message));
    }
    Ok(parsed)
}

/// The spec that `named` makes of what was there. One without any role is refused unless `bindings` says so: its groups may
/// have some.
fn spec_of(before: Option<&OperatorSpec>, named: &Named, mode: Mode) -> Result<OperatorSpec, ServiceError> {
    let spec: OperatorSpec = match before {
        None => new_spec(named)?,
        Some(before) => changed_spec(before, named, mode)?.in_words_of(before),
    };
    if spec.role.is_none() && spec.bindings.is_empty() && !named.contains_key("bindings") {
        let message = "is missing; every operator has one, or `bindings` (empty for one that is what its groups are)";
        return Err(ServiceError::invalid("role", message));
    }
    Ok(spec)
}

async fn find(tx: &mut Tx, name: &str) -> Result<Operator, ServiceError> {
    tx.find_operator(&lookup::key(NameKind::Operator, name)?).await?.ok_or_else(|| not_found(name))
}

async fn insert(tx: &mut Tx, ctx: &OperatorContext, name: Name, spec: OperatorSpec) -> Result<Operator, ServiceError> {
    let operator = Operator {
        id: Uuid::now_v7(),
        name,
        spec,
        disabled_at: None,
        created_at: ctx.now,
        updated_at: ctx.now,
        revision: 1,
    };
    tx.insert_operator(&operator).await?;
    let created = audited(None, Some(&operator.spec)).told_by(event(ctx, Action::OperatorCreate, &operator));
    write::append(tx, created, ctx.now).await?;
    Ok(operator)
}

async fn issue(
    tx: &mut Tx,
    ctx: &OperatorContext,
    operator: &Operator,
    life_seconds: u64,
) -> Result<IssuedOperatorToken, ServiceError> {
    if tx.count_live_operator_tokens(operator.id, ctx.now).await? >= MAX_LIVE_TOKENS {
        let message = format!(
            "operator `{}` has {MAX_LIVE_TOKENS} tokens that work; revoke those that are not needed first",
            operator.name
        );
        return Err(ServiceError::conflict(message));
    }
    let secret = match ctx.is_dry() {
        true => BearerToken::presented(NOT_ISSUED),
        false => BearerToken::generate_for_operator(),
    };
    let token = OperatorToken {
        id: Uuid::now_v7(),
        operator_id: operator.id,
        created_at: ctx.now,
        expires_at: ctx.now.checked_add_signed(span(life_seconds)).unwrap_or(DateTime::<Utc>::MAX_UTC),
        revoked_at: None,
    };
    tx.insert_operator_token(&token, &secret.hash()).await?;
    let change = json!({"after": {"expires_at": timestamp(token.expires_at)}});
    let issued =
        Event { change: Some(change), token_id: Some(token.id), ..event(ctx, Action::OperatorTokenIssue, operator) };
    write::append(tx, issued, ctx.now).await?;
    Ok(IssuedOperatorToken { token, secret })
}

fn life(settings: &OperatorSettings, asked: Option<u64>) -> Result<u64, ServiceError> {
    let longest = settings.token_max_seconds;
    let asked = asked.unwrap_or(settings.token_default_seconds);
    if (1..=longest).contains(&asked) {
        return Ok(asked);
    }
    Err(ServiceError::invalid("expires_in_seconds", format!("must be between 1 and {longest}")))
}

/// Refuses a change that would leave no admin who can create operators.
async fn keep_an_admin(tx: &mut Tx, operator: &Operator, now: DateTime<Utc>) -> Result<(), ServiceError> {
    let is_admin = operator.spec.is_admin() && operator.disabled_at.is_none();
    if is_admin && !tx.has_admin(Some(operator.id), now).await? {
        let message =
            format!("operator `{}` is the last enabled admin; make another one, with a token, first", operator.name);
        return Err(ServiceError::conflict(message));
    }
    Ok(())
}

/// Creates an operator with a token directly in the database: the first admin, or one to get back in when no admin can
/// sign in. Works beside running servers.
pub async fn create_operator(
    db: &Db,
    clock: &Clock,
    settings: &OperatorSettings,
    name: &str,
    role: AsWritten<Role>,
    expires_in_seconds: Option<u64>,
) -> Result<IssuedOperatorToken, ServiceError> {
    let name = parse_name(name)?;
    let life = life(settings, expires_in_seconds)?;
    let mut tx = db.begin().await?;
    tx.lock_audit_head().await?;
    let ctx = OperatorContext::system("command line", clock.now());
    let operator = insert(&mut tx, &ctx, name, OperatorSpec::of(role)).await?;
    let issued = issue(&mut tx, &ctx, &operator, life).await?;
    tx.commit().await?;
    Ok(issued)
}

impl Operators {
    /// Creates an operator, or confirms that it is as described.
    pub async fn put_operator(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Put<Operator>, ServiceError> {
        let name = parse_name(name)?;
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.put_operator_in(&mut unit, name, named).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::put_operator`] in an open change.
    pub async fn put_operator_in(
        &self,
        unit: &mut ChangeUnit,
        name: Name,
        named: &Named,
    ) -> Result<Put<Operator>, ServiceError> {
        let (tx, ctx) = unit.parts();
        if let Some(existing) = tx.find_operator(name.key()).await? {
            let spec = spec_of(Some(&existing.spec), named, Mode::Whole)?;
            confirm("operator", name.as_str(), &existing.spec, &spec)?;
            return Ok(Put::Confirmed(existing));
        }
        let operator = insert(tx, ctx, name, spec_of(None, named, Mode::Whole)?).await?;
        Ok(Put::Created(operator))
    }

    /// Finds an operator by name.
    pub async fn get_operator(&self, name: &str) -> Result<Operator, ServiceError> {
        self.core.db.find_operator(&lookup::key(NameKind::Operator, name)?).await?.ok_or_else(|| not_found(name))
    }

    /// Lists operators by name.
    pub async fn list_operators(&self, page: &PageRequest) -> Result<Page<Operator>, ServiceError> {
        let opened = self.core.begin_page(page, "operators".into())?;
        let operators = self.core.db.list_operators(opened.after.as_deref(), opened.limit).await?;
        Ok(self.core.end_page(opened, operators, |operator| operator.name.key().to_owned()))
    }

    /// Changes an operator; a lesser role applies from the commit on.
    pub async fn update_operator(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<Operator, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.update_operator_in(&mut unit, name, condition, named).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::update_operator`] in an open change.
    pub async fn update_operator_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<Operator, ServiceError> {
        let (tx, ctx) = unit.parts();
        let before = find(tx, name).await?;
        Precondition::check(condition, before.id, before.revision)?;
        let mut after = Operator { spec: spec_of(Some(&before.spec), named, Mode::Merge)?, ..before.clone() };
        if differing(&before.spec, &after.spec).is_empty() {
            return Ok(before);
        }
        if !after.spec.is_admin() {
            keep_an_admin(tx, &before, ctx.now).await?;
        }
        after.updated_at = ctx.now;
        let after = tx.update_operator(after).await?;
        let event = audited(Some(&before.spec), Some(&after.spec)).told_by(event(ctx, Action::OperatorUpdate, &after));
        write::append(tx, event, ctx.now).await?;
        Ok(after)
    }

    /// Deletes an operator with its tokens. Its past actions stay on record.
    pub async fn delete_operator(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        self.delete_operator_in(&mut unit, name, condition).await?;
        let ctx = unit.commit().await?;
        ownership::tell_after(&self.core, &ctx).await;
        Ok(())
    }

    /// Does the same as [`Self::delete_operator`] in an open change.
    pub async fn delete_operator_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let (tx, ctx) = unit.parts();
        let operator = find(tx, name).await?;
        Precondition::check(condition, operator.id, operator.revision)?;
        keep_an_admin(tx, &operator, ctx.now).await?;
        let groups = membership::of_in(tx, Member::Operator(operator.name.key())).await?;
        let groups: Vec<String> = groups.iter().take(NAMED).map(|group| group.name.to_string()).collect();
        if !groups.is_empty() {
            // Whoever is given the name next would be a member.
            let message = format!("operator `{name}` is a member of {}; take it out there first", quoted(groups));
            return Err(ServiceError::conflict(message));
        }
        tx.delete_operator(operator.id, operator.revision).await?;
        tx.note_former_owner(operator.name.key(), ctx.now).await?;
        let event = audited(Some(&operator.spec), None).told_by(event(ctx, Action::OperatorDelete, &operator));
        write::append(tx, event, ctx.now).await?;
        Ok(())
    }

    /// Disables an operator: every request is refused until it is enabled.
    pub async fn disable_operator(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<Operator, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.disable_operator_in(&mut unit, name, reason).await?;
        let ctx = unit.commit().await?;
        ownership::tell_after(&self.core, &ctx).await;
        Ok(done)
    }

    /// Does the same as [`Self::disable_operator`] in an open change.
    pub async fn disable_operator_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        reason: &str,
    ) -> Result<Operator, ServiceError> {
        let (tx, ctx) = unit.parts();
        let operator = find(tx, name).await?;
        if operator.disabled_at.is_some() {
            return Ok(operator);
        }
        keep_an_admin(tx, &operator, ctx.now).await?;
        let after = Operator { disabled_at: Some(ctx.now), updated_at: ctx.now, ..operator };
        let after = move_in(tx, ctx, after, reason, Action::OperatorDisable).await?;
        Ok(after)
    }

    /// Enables a disabled operator, whose live tokens work again.
    pub async fn enable_operator(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<Operator, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.enable_operator_in(&mut unit, name, reason).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::enable_operator`] in an open change.
    pub async fn enable_operator_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        reason: &str,
    ) -> Result<Operator, ServiceError> {
        let (tx, ctx) = unit.parts();
        let operator = find(tx, name).await?;
        if operator.disabled_at.is_none() {
            return Ok(operator);
        }
        let after = Operator { disabled_at: None, updated_at: ctx.now, ..operator };
        let after = move_in(tx, ctx, after, reason, Action::OperatorEnable).await?;
        Ok(after)
    }

    /// Issues a token to an operator; only this answer shows it.
    pub async fn issue_operator_token(
        &self,
        ctx: &OperatorContext,
        name: &str,
        expires_in_seconds: Option<u64>,
    ) -> Result<IssuedOperatorToken, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        if let Some(id) = idempotency::replayed(tx, ctx).await? {
            let message = format!(
                "this request issued token `{id}` before, and a token is shown once; revoke it if its answer was lost"
            );
            return Err(ServiceError::conflict(message));
        }
        let operator = find(tx, name).await?;
        let life = life(&self.core.sign_in.settings, expires_in_seconds)?;
        let issued = issue(tx, ctx, &operator, life).await?;
        idempotency::remember(tx, ctx, issued.token.id).await?;
        unit.commit().await?;
        Ok(issued)
    }

    /// Lists an operator's tokens by creation time.
    pub async fn list_operator_tokens(
        &self,
        name: &str,
        page: &PageRequest,
    ) -> Result<Page<OperatorToken>, ServiceError> {
        let operator = self.get_operator(name).await?;
        let opened = self.core.begin_page(page, format!("tokens of operator {}", operator.id))?;
        let tokens = self.core.db.list_operator_tokens(operator.id, opened.after_created(), opened.limit).await?;
        Ok(self.core.end_page(opened, tokens, |token| super::core::page::created_key(token.created_at, token.id)))
    }

    /// Ends an operator's token now, even the last one of the last admin, since a leaked token must end. A token that
    /// was revoked earlier keeps that time.
    pub async fn revoke_operator_token(
        &self,
        ctx: &OperatorContext,
        name: &str,
        id: Uuid,
        reason: Option<&str>,
    ) -> Result<OperatorToken, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let operator = find(tx, name).await?;
        let found = tx.find_operator_bearer_by_id(id).await?.filter(|bearer| bearer.operator.id == operator.id);
        let token = found.ok_or_else(|| token_not_found(id))?.token;
        if token.revoked_at.is_some() {
            return Ok(token);
        }
        end_token_in(tx, ctx, &operator, id, reason).await?;
        let ctx = unit.commit().await?;
        Ok(OperatorToken { revoked_at: Some(ctx.now), ..token })
    }
}
