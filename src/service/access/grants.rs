//! Creates, replaces, lists and revokes grants, which say who may read which share and until when.
//!
//! Grants are created and ended under the audit chain's lock, so that no two grants of one share to one recipient
//! overlap in time and no read is allowed after a revocation.

use std::collections::{HashMap, hash_map::Entry};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            agreement::AgreementSuccession,
            ceiling,
            grant::{Agreement, Ending, Grant, GrantState},
            recipient::{Recipient, RecipientState},
        },
        audit::{
            Event, Object,
            action::{Action, Kind},
            timestamp,
        },
        catalog::share::{Share, ShareSpec},
        core::{message::quoted, name::NameKind},
        operators::{Permission, principal::Thing},
    },
    service::{
        audit::write,
        catalog::{
            disclosures::{Disclosure, Reached},
            ownership,
        },
        core::{
            context::{OperatorContext, Run},
            declared,
            error::{FieldError, ServiceError},
            idempotency, lookup,
            page::{Page, PageRequest},
            unit::{ChangeUnit, attempt},
        },
        materialize::PublishedViews,
    },
    store::{GrantFilter, KeptTerms, NamedGrant, Outstanding, ShownIn, ShownView, Tx},
};

use super::{
    Access,
    grant_agreements::{self, NamedAgreement},
};

/// The most grants that one revocation ends; bounds its transaction.
const MAX_GRANTS: u32 = 10_000;

/// The most objects whose lack of an agreement one refusal names.
const NAMED_LACKS: usize = 20;

/// The most views of one share that are checked when it is granted.
const MAX_VIEWS: u32 = 10_000;

/// A request for a grant.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// The share's name.
    pub share: String,
    /// The recipient's name.
    pub recipient: String,
    /// When the grant begins; a time in the past means now.
    pub valid_from: Option<DateTime<Utc>>,
    /// When the grant ends; as late as the settings allow if absent.
    pub valid_until: Option<DateTime<Utc>>,
    /// What the data may be used for.
    pub purpose: Option<String>,
    /// The contract behind the grant, in its own words.
    pub agreement: Option<Agreement>,
    /// The names of the agreements that the grant stands on.
    pub agreements: Vec<String>,
    /// The live grant that this one replaces.
    pub replaces: Option<Uuid>,
}

/// The grant that a dry run would create.
#[derive(Clone, Debug)]
pub struct PreviewedGrant {
    /// The grant: with a nil id, or the existing grant if the same request created it before.
    pub named: NamedGrant,
    /// What the grant would newly disclose.
    pub disclosure: Disclosure,
}

/// A grant that was created, or that a dry run would create.
struct RunGrant {
    named: NamedGrant,
    /// Whether the same request created it before.
    is_replayed: bool,
}

/// Filters the list of grants.
#[derive(Clone, Debug, Default)]
pub struct GrantsQuery {
    /// Only grants of the share with this name or id.
    pub share: Option<String>,
    /// Only grants to the recipient with this name or id.
    pub recipient: Option<String>,
    /// Only grants that were in force at this time.
    pub at: Option<DateTime<Utc>>,
}

/// When an end of access takes full effect: presigned URLs outlive it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// When the last presigned URL expires; the time of the end itself if none is live.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs are still live.
    pub outstanding_urls: i64,
}

impl Effect {
    /// Builds the effect of an end at `at` that leaves the `outstanding` URLs.
    pub(in crate::service) fn new(at: DateTime<Utc>, outstanding: Outstanding) -> Self {
        let effective_by = outstanding.until.map_or(at, |until| until.max(at));
        Self { effective_by, outstanding_urls: outstanding.urls }
    }
}

/// The result of ending access.
#[derive(Clone, Debug, PartialEq)]
pub struct Revoked {
    /// The time from which nothing is allowed.
    pub revoked_at: DateTime<Utc>,
    /// The presigned URLs that are still live.
    pub effect: Effect,
    /// Grants of the same shares to the same recipients that stay: their time has not begun.
    pub still_granted_by: Vec<Uuid>,
    /// The grants that were ended.
    pub grants: Vec<Uuid>,
}

pub(in crate::service) fn not_found(id: Uuid) -> ServiceError {
    ServiceError::NotFound { kind: "grant", name: id.to_string() }
}

fn event(ctx: &OperatorContext, action: Action, named: &NamedGrant) -> Event {
    let grant = &named.grant;
    Event {
        recipient: Some(named.recipient.clone()),
        recipient_id: Some(grant.recipient_id),
        share: Some(named.share.clone()),
        share_id: Some(grant.share_id),
        grant_id: Some(grant.id),
        purpose: grant.purpose.clone(),
        agreement: grant.agreement.as_ref().map(|agreement| agreement.reference.clone()),
        ..ctx.event(action, Object { kind: Kind::Grant, id: Some(grant.id), name: None })
    }
}

fn described(grant: &Grant) -> Value {
    json!({
        "valid_from": timestamp(grant.valid_from),
        "valid_until": timestamp(grant.valid_until),
        "purpose": grant.purpose,
        "agreement": grant.agreement.as_ref().map(|agreement| json!({
            "ref": agreement.reference,
            "sha256": agreement.sha256,
            "valid_until": agreement.valid_until.map(timestamp),
        })),
    })
}

/// Checks the requested window against the settings and fills in what is absent.
fn window(
    asked: &NewGrant,
    max_seconds: u64,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), ServiceError> {
    let from = asked.valid_from.map_or(now, |from| from.max(now));
    let longest = i64::try_from(max_seconds).ok().and_then(TimeDelta::try_seconds);
    let Some(latest) = longest.and_then(|longest| from.checked_add_signed(longest)) else {
        return Err(ServiceError::invalid("valid_from", "lies too far in the future"));
    };
    let until = asked.valid_until.unwrap_or(latest);
    let mut errors = Vec::new();
    if until <= from {
        let message = format!("must lie after {}, when the grant begins", timestamp(from));
        errors.push(FieldError { field: "valid_until".into(), message });
    } else if until > latest {
        let message =
            format!("is longer than grants may be here, {max_seconds} seconds: at most {}", timestamp(latest));
        errors.push(FieldError { field: "valid_until".into(), message });
    }
    if asked.replaces.is_some() && from > now {
        let message = "a grant that replaces another begins now; leave it out".to_owned();
        errors.push(FieldError { field: "valid_from".into(), message });
    }
    if asked.agreement.as_ref().and_then(|agreement| agreement.valid_until).is_some_and(|end| end <= from) {
        let message = "the agreement is over before the grant begins".to_owned();
        errors.push(FieldError { field: "agreement.valid_until".into(), message });
    }
    if asked.agreement.is_some() && !asked.agreements.is_empty() {
        let message = "cannot stand beside `agreement`; name agreements, or refer to one".to_owned();
        errors.push(FieldError { field: "agreements".into(), message });
    }
    if errors.is_empty() { Ok((from, until)) } else { Err(ServiceError::Invalid(errors)) }
}

/// Returns both values, or the field errors of both.
fn both<A, B>(a: Result<A, ServiceError>, b: Result<B, ServiceError>) -> Result<(A, B), ServiceError> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(ServiceError::Invalid(mut errors)), Err(ServiceError::Invalid(more))) => {
            errors.extend(more);
            Err(ServiceError::Invalid(errors))
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Whether a grant and a window have a moment in common. Ends are exclusive, and an ended grant's window closes early.
fn overlaps(grant: &Grant, from: DateTime<Utc>, until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let end = grant.ending.as_ref().map_or(grant.until(now), |ending| ending.at.min(grant.until(now)));
    grant.valid_from < until && from < end
}

/// Checks what the classes that a share shows ask of a grant on it: agreements that the grant names, and an end. Returns the
/// end; one that nobody asked for comes as early as the classes need.
async fn class_end(
    tx: &mut Tx,
    (share, recipient): (&Share, &Recipient),
    valid_from: DateTime<Utc>,
    (asked_until, valid_until): (Option<DateTime<Utc>>, DateTime<Utc>),
    agreements: &[NamedAgreement],
) -> Result<DateTime<Utc>, ServiceError> {
    let (mut missing, mut end) = (Vec::new(), valid_until);
    for (object, _) in tx.list_objects(share.id, None, None, MAX_VIEWS).await? {
        let Some(requirements) = object.requirements else { continue };
        if let Some(class) = ceiling::exceeding_class(&recipient.spec, &requirements.classes) {
            let message = format!(
                "shows data of the class {class} in `{}.{}`, which recipient `{}` may not be granted; leave it out of the share, \
                 or change the recipient's `ceiling.classes` first",
                object.schema, object.name, recipient.name
            );
            return Err(ServiceError::invalid("share", message));
        }
        let has = |kind: &str, class: &str| agreements.iter().any(|named| named.kept.terms.covers(kind, class));
        if let Some((class, sets)) = requirements.missing_agreement(has) {
            let sets: Vec<String> = sets.iter().map(quoted).collect();
            let message = format!(
                "`{}.{}` shows data of the class {class}, which needs an agreement of the type {} that covers it; name such \
                 agreements of the recipient",
                object.schema,
                object.name,
                sets.join(", or ")
            );
            missing.push(FieldError::new("agreements", message));
        }
        end = requirements.grant_until(valid_from).map_or(end, |latest| latest.min(end));
    }
    missing.truncate(NAMED_LACKS);
    if !missing.is_empty() {
        return Err(ServiceError::AgreementMissing(missing));
    }
    match asked_until {
        Some(asked) if asked > end => {
            let message = format!("is longer than a class that the share shows allows: at most {}", timestamp(end));
            Err(ServiceError::invalid("valid_until", message))
        }
        _ => Ok(end),
    }
}

impl Access {
    /// Grants a share to a recipient.
    pub async fn create_grant(&self, ctx: &OperatorContext, asked: NewGrant) -> Result<NamedGrant, ServiceError> {
        Ok(self.run_grant(ctx, asked).await?.named)
    }

    /// Tells what granting a share to a recipient would do and what the recipient would see. A grant that replaces
    /// another is shown as a full new disclosure. A repeated request discloses nothing new.
    pub async fn preview_grant(&self, ctx: &OperatorContext, asked: NewGrant) -> Result<PreviewedGrant, ServiceError> {
        let ctx = &OperatorContext { run: Run::Dry, ..ctx.clone() };
        let RunGrant { mut named, is_replayed } = self.run_grant(ctx, asked).await?;
        if is_replayed {
            return Ok(PreviewedGrant { named, disclosure: Disclosure::default() });
        }
        // A dry run's grant is not stored, so it has no id.
        named.grant.id = Uuid::nil();
        let share = self.core.get_declared::<ShareSpec>(&named.share).await?;
        let reached = Reached {
            recipient: named.recipient.clone(),
            valid_from: named.grant.valid_from,
            valid_until: named.grant.until(self.core.clock.now()),
        };
        let shown = self.catalog.shown_in(&share).await?;
        Ok(PreviewedGrant { named, disclosure: Disclosure { recipients: vec![reached], ..shown } })
    }

    async fn run_grant(&self, ctx: &OperatorContext, asked: NewGrant) -> Result<RunGrant, ServiceError> {
        self.require_ground(&asked)?;
        attempt(|| self.try_grant(ctx, asked.clone())).await
    }

    /// Finds the views that a share shows, before the chain's lock is taken.
    async fn views_in(&self, share: &str) -> Result<PublishedViews, ServiceError> {
        let Ok(key) = lookup::key(NameKind::Share, share) else { return Ok(PublishedViews::new()) };
        let Some(share) = self.core.db.find_share(&key).await? else { return Ok(PublishedViews::new()) };
        let shown = self.core.db.list_shown_views(ShownIn::Share(share.id), MAX_VIEWS).await?;
        self.materializer.published_views(shown.iter().map(|shown| &shown.view)).await
    }

    /// Tries once to create the grant. Returns `None` if the share began to show another view before the chain's lock
    /// was held.
    async fn try_grant(&self, ctx: &OperatorContext, asked: NewGrant) -> Result<Option<RunGrant>, ServiceError> {
        let published = self.views_in(&asked.share).await?;
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        if let Some(id) = idempotency::replayed(tx, ctx).await? {
            let named = tx.find_grant(id).await?.ok_or_else(|| not_found(id))?;
            ctx.require(Permission::ReadSharing, &thing(tx.find_share_by_id(named.grant.share_id).await?.as_ref()))?;
            return Ok(Some(RunGrant { named, is_replayed: true }));
        }
        let window = window(&asked, self.settings.grant_max_seconds, ctx.now);
        let ((share, recipient), (valid_from, valid_until)) = both(named_parties(tx, ctx, &asked).await, window)?;
        if recipient.state == RecipientState::Offboarded {
            return Err(ServiceError::conflict(format!("recipient `{}` is offboarded", recipient.name)));
        }
        // Without an end of its own, it is as long as both the settings and the ceiling allow.
        let latest = ceiling::latest_end(&recipient.spec, valid_from).filter(|_| asked.valid_until.is_none());
        let valid_until = latest.map_or(valid_until, |latest| latest.min(valid_until));
        let party = (recipient.name.as_str(), &recipient.spec);
        let exceeded = ceiling::exceeded(party, asked.purpose.as_deref(), (valid_from, valid_until));
        if !exceeded.is_empty() {
            return Err(ServiceError::Invalid(exceeded));
        }
        ownership::require_owned(tx, ctx, &share).await?;
        for ShownView { view, .. } in tx.list_shown_views(ShownIn::Share(share.id), MAX_VIEWS).await? {
            let Some(published) = published.get(&(view.id, view.version)) else { return Ok(None) };
            published.check_properties(&recipient, "recipient")?;
        }
        let others = tx.list_grants_of(share.id, recipient.id).await?;
        let id = Uuid::now_v7();
        let replaced = match asked.replaces {
            None => None,
            Some(replaced) => Some(replaceable(&others, replaced, ctx.now)?),
        };
        let clash =
            |other: &&Grant| Some(other.id) != asked.replaces && overlaps(other, valid_from, valid_until, ctx.now);
        if let Some(live) = others.iter().find(clash) {
            return Err(ServiceError::conflict(format!(
                "grant `{}` already opens share `{}` to recipient `{}` until {}; revoke it, or send `replaces` with its id",
                live.id,
                share.name,
                recipient.name,
                timestamp(live.until(ctx.now))
            )));
        }
        let terms = grant_agreements::AskedGrant {
            recipient: &recipient,
            purpose: asked.purpose.as_deref(),
            valid_from,
            valid_until,
        };
        let (agreement, agreements) = match (&asked.agreement, asked.agreements.as_slice()) {
            (None, []) => (None, Vec::new()),
            (Some(reference), _) => {
                let made = grant_agreements::referred_to(tx, ctx, terms, reference).await?;
                (asked.agreement.clone(), vec![made])
            }
            (None, names) => {
                let (agreement, found) = grant_agreements::named(tx, ctx, terms, names).await?;
                (Some(agreement), found)
            }
        };
        let valid_until =
            class_end(tx, (&share, &recipient), valid_from, (asked.valid_until, valid_until), &agreements).await?;
        let grant = Grant {
            id,
            share_id: share.id,
            recipient_id: recipient.id,
            valid_from,
            valid_until,
            purpose: asked.purpose,
            agreement,
            agreements: successions(tx, &agreements).await?,
            granted_by: ctx.operator_name(),
            created_at: ctx.now,
            ending: None,
        };
        let named = NamedGrant {
            grant,
            share: share.name.to_string(),
            recipient: recipient.name.to_string(),
            agreements: agreements.iter().map(|named| named.name.clone()).collect(),
        };
        tx.insert_grant(&named.grant).await?;
        let kept: Vec<KeptTerms> = agreements.into_iter().map(|named| named.kept).collect();
        tx.insert_grant_agreements(id, &kept).await?;
        if let Some(replaced) = replaced {
            let ending = Ending { at: ctx.now, reason: None, ended_by: ctx.operator_name(), replaced_by: Some(id) };
            tx.end_grant(replaced.id, &ending).await?;
            let replaced = NamedGrant { grant: replaced.clone(), ..named.clone() };
            let change = json!({"after": {"ended_at": timestamp(ctx.now), "replaced_by": id}});
            let event = Event { change: Some(change), ..event(ctx, Action::GrantReplace, &replaced) };
            write::append(tx, event, ctx.now).await?;
        }
        idempotency::remember(tx, ctx, id).await?;
        let change = Some(json!({"after": described(&named.grant)}));
        write::append(tx, Event { change, ..event(ctx, Action::GrantCreate, &named) }, ctx.now).await?;
        let ctx = unit.commit().await?;
        if ctx.is_dry() {
            return Ok(Some(RunGrant { named, is_replayed: false }));
        }
        for (object, _) in self.core.db.list_view_objects(share.id, MAX_VIEWS).await? {
            self.materializer.prepare_object(&object);
        }
        Ok(Some(RunGrant { named, is_replayed: false }))
    }

    /// Refuses a grant that lacks a purpose or an agreement that the settings require.
    fn require_ground(&self, asked: &NewGrant) -> Result<(), ServiceError> {
        let mut errors = Vec::new();
        if self.settings.require_purpose && asked.purpose.as_deref().is_none_or(|purpose| purpose.trim().is_empty()) {
            let message = "is missing: every grant names what the data may be used for (sharing.require_purpose)";
            errors.push(FieldError { field: "purpose".into(), message: message.to_owned() });
        }
        if self.settings.require_agreement && asked.agreement.is_none() && asked.agreements.is_empty() {
            let message = "is missing: every grant names the contract that it stands on (sharing.require_agreement)";
            errors.push(FieldError { field: "agreement".into(), message: message.to_owned() });
        }
        if errors.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(errors)) }
    }

    /// A grant.
    pub async fn get_grant(&self, ctx: &OperatorContext, id: Uuid) -> Result<NamedGrant, ServiceError> {
        let found = self.core.db.find_grant(id).await?;
        let share = match &found {
            Some(named) => self.core.db.find_share_by_id(named.grant.share_id).await?,
            None => None,
        };
        ctx.require(Permission::ReadSharing, &thing(share.as_ref()))?;
        found.ok_or_else(|| not_found(id))
    }

    /// Grants by their creation, as far as the operator may see them; with a moment, who could read what then.
    pub async fn list_grants(
        &self,
        ctx: &OperatorContext,
        query: &GrantsQuery,
        page: &PageRequest,
    ) -> Result<Page<NamedGrant>, ServiceError> {
        let mut filter = GrantFilter { in_force_at: query.at, ..GrantFilter::default() };
        if let Some(share) = &query.share {
            filter.share_id = Some(self.share_seen(ctx, share).await?);
        }
        if let Some(recipient) = &query.recipient {
            filter.recipient_id = Some(self.recipient_seen(ctx, recipient).await?);
        }
        let opened = self.core.begin_page(page, format!("grants {filter:?}"))?;
        let after = opened.after_created();
        let grants = self.core.db.list_grants(&filter, after, opened.limit).await?;
        let page = self.core.end_page(opened, grants, |named| {
            crate::service::core::page::created_key(named.grant.created_at, named.grant.id)
        });
        if ctx.may(Permission::ReadSharing, &Thing::EVERYTHING) {
            return Ok(page);
        }
        let mut seen: HashMap<Uuid, bool> = HashMap::new();
        for named in &page.items {
            let share_id = named.grant.share_id;
            if let Entry::Vacant(vacant) = seen.entry(share_id) {
                let share = self.core.db.find_share_by_id(share_id).await?;
                vacant.insert(ctx.may(Permission::ReadSharing, &thing(share.as_ref())));
            }
        }
        Ok(page.filter(|named| seen.get(&named.grant.share_id).copied().unwrap_or_default()))
    }

    /// The id of the share that a filter names. One that the operator may not see is answered like one that is not there.
    async fn share_seen(&self, ctx: &OperatorContext, text: &str) -> Result<Uuid, ServiceError> {
        let id = self.core.filtered_share(text).await.map_err(|error| as_unknown(ctx, "share", error))?;
        if ctx.may(Permission::ReadSharing, &Thing::EVERYTHING) {
            return Ok(id);
        }
        let share = self.core.db.find_share_by_id(id).await?;
        seen_or_unknown("share", text, id, ctx.may(Permission::ReadSharing, &thing(share.as_ref())))
    }

    /// The id of the recipient that a filter names. Whoever may not see recipients knows those alone that some grant names
    /// which it may see; every other one is answered like one that is not there.
    async fn recipient_seen(&self, ctx: &OperatorContext, text: &str) -> Result<Uuid, ServiceError> {
        let id = self.core.filtered_recipient(text).await.map_err(|error| as_unknown(ctx, "recipient", error))?;
        if ctx.may(Permission::ReadRecipients, &Thing::EVERYTHING) {
            return Ok(id);
        }
        let is_seen = if ctx.may(Permission::ReadSharing, &Thing::EVERYTHING) {
            let filter = GrantFilter { recipient_id: Some(id), ..GrantFilter::default() };
            !self.core.db.list_grants(&filter, None, 1).await?.is_empty()
        } else {
            let shares = self.core.db.list_shares_granted_to(id, MAX_GRANTS).await?;
            shares.iter().any(|share| ctx.may(Permission::ReadSharing, &share.thing()))
        };
        seen_or_unknown("recipient", text, id, is_seen)
    }

    /// Ends a grant now. A grant that was revoked earlier keeps its ending.
    pub async fn revoke_grant(
        &self,
        ctx: &OperatorContext,
        id: Uuid,
        reason: Option<&str>,
    ) -> Result<Revoked, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.revoke_grant_in(&mut unit, id, reason).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::revoke_grant`] in an open change.
    pub async fn revoke_grant_in(
        &self,
        unit: &mut ChangeUnit,
        id: Uuid,
        reason: Option<&str>,
    ) -> Result<Revoked, ServiceError> {
        let (tx, ctx) = unit.parts();
        let found = tx.find_grant(id).await?;
        let share = match &found {
            Some(named) => tx.find_share_by_id(named.grant.share_id).await?,
            None => None,
        };
        ctx.require(Permission::Tighten, &thing(share.as_ref()))?;
        let named = found.ok_or_else(|| not_found(id))?;
        match &named.grant.ending {
            Some(Ending { replaced_by: Some(successor), .. }) => {
                let message = format!("grant `{id}` was replaced by `{successor}`; revoke that one");
                return Err(ServiceError::conflict(message));
            }
            Some(ending) => {
                let at = ending.at;
                return self.revoked(tx, std::slice::from_ref(&named), at, ctx.now).await;
            }
            None if named.grant.state(ctx.now) == GrantState::Expired => {
                let until = timestamp(named.grant.valid_until);
                return Err(ServiceError::conflict(format!("grant `{id}` ended by itself at {until}")));
            }
            None => {}
        }
        let revoked = self.revoked(tx, std::slice::from_ref(&named), ctx.now, ctx.now).await?;
        self.end_grant(tx, ctx, &named, reason).await?;
        Ok(revoked)
    }

    /// Ends every current and future grant of a share, to one recipient or to all.
    pub async fn revoke_share(
        &self,
        ctx: &OperatorContext,
        share: &str,
        recipient: Option<&str>,
        reason: Option<&str>,
    ) -> Result<Revoked, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.revoke_share_in(&mut unit, share, recipient, reason).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::revoke_share`] in an open change.
    pub async fn revoke_share_in(
        &self,
        unit: &mut ChangeUnit,
        share: &str,
        recipient: Option<&str>,
        reason: Option<&str>,
    ) -> Result<Revoked, ServiceError> {
        let (tx, ctx) = unit.parts();
        let found = find_share(tx, ctx, Permission::Tighten, share).await?;
        let share = found.ok_or_else(|| declared::not_found::<ShareSpec>(share))?;
        let recipient_key = recipient.map(|name| lookup::key(NameKind::Recipient, name)).transpose()?;
        let recipient_id = match recipient_key {
            None => None,
            Some(key) => {
                let not_found = || lookup::no_such_recipient(recipient.unwrap_or_default());
                let id = tx.find_recipient(&key).await?.ok_or_else(not_found)?.id;
                // Whoever may not see recipients knows those alone that the share was granted to.
                if !ctx.may(Permission::ReadRecipients, &Thing::EVERYTHING)
                    && tx.list_grants_of(share.id, id).await?.is_empty()
                {
                    return Err(not_found());
                }
                Some(id)
            }
        };
        let filter = GrantFilter { share_id: Some(share.id), recipient_id, ..GrantFilter::default() };
        let grants = open_grants(tx, filter, ctx.now).await?;
        let revoked = self.revoked(tx, &grants, ctx.now, ctx.now).await?;
        for named in &grants {
            self.end_grant(tx, ctx, named, reason).await?;
        }
        Ok(revoked)
    }

    /// Ends `named` now; the transaction must hold the chain's lock.
    pub(in crate::service) async fn end_grant(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        named: &NamedGrant,
        reason: Option<&str>,
    ) -> Result<(), ServiceError> {
        let reason = reason.map(str::to_owned);
        let change = json!({"after": {"ended_at": timestamp(ctx.now)}, "reason": reason});
        let ending = Ending { at: ctx.now, reason, ended_by: ctx.operator_name(), replaced_by: None };
        tx.end_grant(named.grant.id, &ending).await?;
        let event = Event { change: Some(change), ..event(ctx, Action::GrantRevoke, named) };
        Ok(write::append(tx, event, ctx.now).await?)
    }

    /// Tells when the end of `grants` takes full effect. URLs signed under grants that they replaced count too.
    async fn revoked(
        &self,
        tx: &mut Tx,
        grants: &[NamedGrant],
        revoked_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Revoked, ServiceError> {
        let ids: Vec<Uuid> = grants.iter().map(|named| named.grant.id).collect();
        let (mut lineage, mut still_granted_by) = (ids.clone(), Vec::new());
        for named in grants {
            let others = tx.list_grants_of(named.grant.share_id, named.grant.recipient_id).await?;
            lineage.extend(predecessors(&others, named.grant.id));
            let open =
                others.iter().filter(|grant| matches!(grant.state(now), GrantState::Scheduled | GrantState::Active));
            still_granted_by.extend(open.map(|grant| grant.id).filter(|id| !ids.contains(id)));
        }
        still_granted_by.sort_unstable();
        still_granted_by.dedup();
        let effect = Effect::new(revoked_at, tx.find_outstanding_of_grants(&lineage, now).await?);
        Ok(Revoked { revoked_at, effect, still_granted_by, grants: ids })
    }
}

/// The error about what a filter names, without a name that is near where the operator does not see everything.
fn as_unknown(ctx: &OperatorContext, parameter: &str, error: ServiceError) -> ServiceError {
    match error {
        ServiceError::Parameter(_) if !ctx.sees_everything() => lookup::unknown(parameter),
        error => error,
    }
}

/// The id of what a filter names, if the operator may see it. Otherwise the answer is that of a name that nothing has, or of an
/// id that nothing has, which finds nothing.
fn seen_or_unknown(parameter: &str, text: &str, id: Uuid, is_seen: bool) -> Result<Uuid, ServiceError> {
    match (is_seen, Uuid::parse_str(text)) {
        (true, _) => Ok(id),
        (false, Ok(_)) => Ok(Uuid::nil()),
        (false, Err(_)) => Err(lookup::unknown(parameter)),
    }
}

/// Lists the grants that match `filter` and have not ended, including those that have not begun.
pub(in crate::service) async fn open_grants(
    tx: &mut Tx,
    filter: GrantFilter,
    now: DateTime<Utc>,
) -> Result<Vec<NamedGrant>, ServiceError> {
    let filter = GrantFilter { open_at: Some(now), ..filter };
    let grants = tx.list_grants(&filter, None, MAX_GRANTS + 1).await?;
    if grants.len() > MAX_GRANTS as usize {
        let message = format!("more than {MAX_GRANTS} grants are live; revoke them by recipient");
        return Err(ServiceError::conflict(message));
    }
    Ok(grants)
}

/// The successions of agreements, as they decide on a new grant.
async fn successions(tx: &mut Tx, named: &[NamedAgreement]) -> Result<Vec<AgreementSuccession>, ServiceError> {
    let mut found = Vec::with_capacity(named.len());
    for NamedAgreement { kept, .. } in named {
        let members = tx.list_succession(kept.succession_id).await?.into_iter().map(|kept| kept.terms);
        // Those before the one that is named never decide.
        let mut members: Vec<_> = members.filter(|terms| terms.position >= kept.terms.position).collect();
        // One that was just made is not read back in a dry run.
        if !members.iter().any(|terms| terms.agreement_id == kept.terms.agreement_id) {
            members.push(kept.terms.clone());
        }
        found.push(AgreementSuccession { id: kept.succession_id, members });
    }
    Ok(found)
}

/// Finds the grants that `id` replaced, directly or through others.
fn predecessors(others: &[Grant], id: Uuid) -> Vec<Uuid> {
    let mut found = vec![id];
    let mut at = 0;
    while let Some(&successor) = found.get(at) {
        let replaced = |grant: &&Grant| grant.ending.as_ref().and_then(|ending| ending.replaced_by) == Some(successor);
        found.extend(others.iter().filter(replaced).map(|grant| grant.id));
        at += 1;
    }
    found.split_off(1)
}

/// What scopes see of a grant: its share. Once that is gone it is no thing of anybody's scope: a share that has its name now
/// is another one.
fn thing(share: Option<&Share>) -> Thing {
    share.map_or(Thing::EVERYTHING, Share::thing)
}

/// The share of this name, where the operator has a permission for it.
async fn find_share(
    tx: &mut Tx,
    ctx: &OperatorContext,
    permission: Permission,
    name: &str,
) -> Result<Option<Share>, ServiceError> {
    let found = match lookup::key(NameKind::Share, name) {
        Ok(key) => tx.find_share(&key).await?,
        Err(_) => None,
    };
    ctx.require(permission, &found.as_ref().map_or_else(|| Thing::share(name, None), Share::thing))?;
    Ok(found)
}

async fn named_parties(
    tx: &mut Tx,
    ctx: &OperatorContext,
    asked: &NewGrant,
) -> Result<(Share, Recipient), ServiceError> {
    let share = find_share(tx, ctx, Permission::ManageSharing, &asked.share).await?;
    let recipient = match lookup::key(NameKind::Recipient, &asked.recipient) {
        Ok(key) => tx.find_recipient(&key).await?,
        Err(_) => None,
    };
    match (share, recipient) {
        (Some(share), Some(recipient)) => Ok((share, recipient)),
        (share, recipient) => {
            let mut missing = Vec::new();
            let sees_everything = ctx.sees_everything();
            if share.is_none() {
                let message = match sees_everything {
                    true => lookup::no_share(tx, &asked.share).await?,
                    false => "names no share".to_owned(),
                };
                missing.push(("share", message));
            }
            if recipient.is_none() {
                let message = match sees_everything {
                    true => lookup::no_recipient(tx, &asked.recipient).await?,
                    false => "names no recipient".to_owned(),
                };
                missing.push(("recipient", message));
            }
            let error = |(field, message): (&str, String)| FieldError { field: field.into(), message };
            Err(ServiceError::Invalid(missing.into_iter().map(error).collect()))
        }
    }
}

fn replaceable(others: &[Grant], id: Uuid, now: DateTime<Utc>) -> Result<&Grant, ServiceError> {
    let live = |grant: &&Grant| grant.ending.is_none() && grant.until(now) > now;
    let found = others.iter().filter(live).find(|grant| grant.id == id);
    found.ok_or_else(|| {
        let live: Vec<String> = others.iter().filter(live).map(|grant| grant.id.to_string()).collect();
        let hint = if live.is_empty() { "there is none".into() } else { format!("it is {}", quoted(&live)) };
        ServiceError::invalid("replaces", format!("is no live grant of this share and recipient; {hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn grant(id: u128, from: i64, until: i64, replaced_by: Option<u128>) -> Grant {
        let ended =
            |by| Ending { at: at(from), reason: None, ended_by: "o".into(), replaced_by: Some(Uuid::from_u128(by)) };
        Grant {
            id: Uuid::from_u128(id),
            share_id: Uuid::nil(),
            recipient_id: Uuid::nil(),
            valid_from: at(from),
            valid_until: at(until),
            purpose: None,
            agreement: None,
            agreements: vec![],
            granted_by: "o".into(),
            created_at: at(from),
            ending: replaced_by.map(ended),
        }
    }

    #[test]
    fn windows_that_only_touch_do_not_overlap() {
        let live = grant(1, 10, 20, None);
        for (from, until, expected) in [(0, 10, false), (20, 30, false), (0, 11, true), (19, 30, true), (12, 13, true)]
        {
            assert_eq!(overlaps(&live, at(from), at(until), at(0)), expected, "{from}..{until}");
        }
    }

    #[test]
    fn urls_of_replaced_grants_follow_their_successors() {
        let grants = [grant(1, 0, 9, Some(2)), grant(2, 1, 9, Some(3)), grant(3, 2, 9, None), grant(4, 10, 20, None)];
        let mut found = predecessors(&grants, Uuid::from_u128(3));
        found.sort();
        assert_eq!(found, [Uuid::from_u128(1), Uuid::from_u128(2)]);
    }

    fn asked(valid_from: Option<i64>, valid_until: Option<i64>) -> NewGrant {
        NewGrant {
            share: "s".into(),
            recipient: "r".into(),
            valid_from: valid_from.map(at),
            valid_until: valid_until.map(at),
            purpose: None,
            agreement: None,
            agreements: vec![],
            replaces: None,
        }
    }

    #[test]
    fn a_window_begins_now_at_the_earliest_and_is_as_long_as_allowed_at_most() {
        assert_eq!(window(&asked(None, None), 100, at(0)).unwrap(), (at(0), at(100)));
        assert_eq!(window(&asked(Some(-5), Some(7)), 100, at(0)).unwrap(), (at(0), at(7)));
        assert_eq!(window(&asked(Some(50), None), 100, at(0)).unwrap(), (at(50), at(150)));
        for (from, until) in [(None, Some(101)), (None, Some(0)), (Some(10), Some(10)), (Some(10), Some(5))] {
            assert!(window(&asked(from, until), 100, at(0)).is_err(), "{from:?} {until:?}");
        }
        let last = DateTime::<Utc>::MAX_UTC;
        let far = NewGrant { valid_from: Some(last), ..asked(None, None) };
        assert!(window(&far, 100, at(0)).is_err());
    }
}
