//! Creates, changes, suspends and offboards recipients, the partners that read.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
};

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            identity::Identity,
            profile::OauthProfile,
            recipient::{Recipient, RecipientSpec, RecipientState},
        },
        audit::{
            Event, Object,
            action::{Action, Kind},
            canonical,
        },
        catalog::{share::SharedView, view::row_filter::Unmet},
        core::{
            message::quoted,
            name::{Name, NameKind},
            spec::{Mode, tightened},
        },
        insight::signal::{Signal, SignalKind},
    },
    service::{
        audit::write,
        core::{
            change::{Audited, Named, Put, audited, changed_spec, confirm, differing, new_spec},
            context::OperatorContext,
            error::{FieldError, ServiceError},
            lookup,
            page::{Page, PageRequest},
            precondition::Precondition,
            unit::{ChangeUnit, attempt},
        },
    },
    store::{GrantFilter, ShownIn, ShownView, Tx},
};

use super::{
    Access,
    grants::{Effect, open_grants},
    purposes,
};

/// Gives the spec's identity the id of the identity bound `before` if both match the same JWTs, otherwise a new id.
fn bound(mut spec: RecipientSpec, before: Option<&Identity>) -> RecipientSpec {
    if let Some(identity) = &mut spec.oidc {
        identity.id = before.filter(|before| before.same(identity)).map_or_else(Uuid::now_v7, |before| before.id);
    }
    spec
}

fn changed_by(before: &Recipient, named: &Named, mode: Mode) -> Result<Recipient, ServiceError> {
    let spec = bound(changed_spec(&before.spec, named, mode)?, before.spec.oidc.as_ref());
    Ok(Recipient { spec, ..before.clone() })
}

/// The most views named in a refusal because the recipient would see none of their rows.
const MAX_STARVED: usize = 20;
/// The most views of one recipient's shares that are checked.
const MAX_VIEWS: u32 = 10_000;

/// A view whose rows a change of properties would all hide from a recipient.
#[derive(Debug)]
struct Starved {
    view: SharedView,
    share: String,
    /// The object that shows the view in the share.
    object: String,
    unmet: Vec<Unmet>,
}

impl Starved {
    fn error(&self, recipient: &Recipient) -> FieldError {
        let why: Vec<&str> = self.unmet.iter().map(|unmet| unmet.message.as_str()).collect();
        let property = self.unmet.first().map_or("", |unmet| unmet.property.as_str());
        FieldError {
            field: format!("properties.{property}"),
            message: format!(
                "recipient `{}` would see no row of view `{}`, which it reads as `{}.{}`: {}; repeat it with force to \
                 change it all the same",
                recipient.name,
                self.view,
                self.share,
                self.object,
                why.join("; ")
            ),
        }
    }
}

/// The views whose rows a change of properties would all hide, judged before the chain's lock is taken.
#[derive(Debug)]
struct Judged {
    /// The recipient's revision before the change.
    revision: i64,
    day: NaiveDate,
    are_same: bool,
    /// The unmet conditions by view and version.
    unmet: HashMap<(Uuid, i64), Vec<Unmet>>,
}

impl Judged {
    /// Returns the views that the recipient reads and would see no row of, or `None` if the recipient or the views it
    /// reads have changed since. Grants that have not begun count too.
    async fn starved(
        &self,
        tx: &mut Tx,
        before: &Recipient,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<Starved>>, ServiceError> {
        if before.revision != self.revision || now.date_naive() != self.day {
            return Ok(None);
        }
        let mut starved = Vec::new();
        if self.are_same {
            return Ok(Some(starved));
        }
        for ShownView { share, object, view } in tx.list_shown_views(granted(before, now), MAX_VIEWS).await? {
            match self.unmet.get(&(view.id, view.version)) {
                None => return Ok(None),
                Some(unmet) if unmet.is_empty() => {}
                Some(unmet) => starved.push(Starved { view, share, object, unmet: unmet.clone() }),
            }
        }
        Ok(Some(starved))
    }
}

fn granted(recipient: &Recipient, open_at: DateTime<Utc>) -> ShownIn {
    ShownIn::Granted { recipient_id: recipient.id, open_at }
}

/// Builds the signal that a recipient's properties leave it without rows of a view; told once per revision of the
/// recipient and version of the view.
pub(in crate::service) fn without_rows(
    recipient: &Recipient,
    view: &SharedView,
    share: &str,
    unmet: &[Unmet],
) -> Signal {
    let properties: BTreeSet<&str> = unmet.iter().map(|unmet| unmet.property.as_str()).collect();
    Signal {
        kind: SignalKind::ViewWithoutRows,
        subject: format!("{} {}", recipient.id, view.id),
        mark: format!("{} {}", view.version, recipient.revision),
        data: json!({
            "recipient": recipient.name.to_string(), "recipient_id": recipient.id, "view": view.to_string(),
            "share": share, "properties": properties,
        }),
    }
}

/// Refuses purposes that are newly named and not declared.
async fn require_declared(tx: &mut Tx, before: &RecipientSpec, after: &RecipientSpec) -> Result<(), ServiceError> {
    let of_ceiling = |spec: &RecipientSpec| spec.ceiling.as_ref().and_then(|ceiling| ceiling.purposes.clone());
    let mut wrong = Vec::new();
    for (field, was, is) in [
        ("purposes", before.purposes.clone(), after.purposes.clone()),
        ("ceiling.purposes", of_ceiling(before), of_ceiling(after)),
    ] {
        if was != is {
            wrong.extend(purposes::undeclared(tx, field, &is.unwrap_or_default()).await?);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(wrong)) }
}

fn event(ctx: &OperatorContext, action: Action, recipient: &Recipient) -> Event {
    let name = Some(recipient.name.to_string());
    let object = Object { kind: Kind::Recipient, id: Some(recipient.id), name: name.clone() };
    Event { recipient: name, recipient_id: Some(recipient.id), ..ctx.event(action, object) }
}

/// The event of `change`. The trail's bytes stay for ever and what is personal must not: of contacts only the roles stand
/// in it, and whom they name goes to the personal part, which can be erased; of properties there are keyed digests,
/// which still tell whether a value changed.
fn changed(mut event: Event, digest: impl Fn(&Value) -> Value) -> Event {
    let Some(change) = &mut event.change else { return event };
    let mut named = Map::new();
    for side in ["before", "after"] {
        if let Some(Value::Object(properties)) = change.pointer_mut(&format!("/{side}/properties")) {
            properties.values_mut().for_each(|value| *value = digest(value));
        }
        let Some(contacts) = change.pointer_mut(&format!("/{side}/contacts")) else { continue };
        let Value::Object(members) = contacts.take() else { continue };
        *contacts = members.keys().cloned().collect();
        if !members.is_empty() {
            named.insert(side.to_owned(), Value::Object(members));
        }
    }
    event.personal.contacts = (!named.is_empty()).then_some(Value::Object(named));
    event
}

impl Access {
    fn changed(&self, event: Event, change: Audited) -> Event {
        let recipient_id = event.recipient_id.unwrap_or_default();
        changed(change.told_by(event), |value| {
            let value = canonical(value);
            format!("digest:{}", self.files.digest(b"recipient", &[recipient_id.as_bytes(), value.as_bytes()])).into()
        })
    }

    /// Creates an active recipient, or confirms that the existing one is as described.
    pub async fn put_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Put<Recipient>, ServiceError> {
        let name = Name::parse(NameKind::Recipient, name)
            .map_err(|error| ServiceError::invalid("recipient", error.to_string()))?;
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.put_recipient_in(&mut unit, name, named).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::put_recipient`] in an open change.
    pub async fn put_recipient_in(
        &self,
        unit: &mut ChangeUnit,
        name: Name,
        named: &Named,
    ) -> Result<Put<Recipient>, ServiceError> {
        let (tx, ctx) = unit.parts();
        if let Some(existing) = tx.find_recipient(name.key()).await? {
            confirm("recipient", name.as_str(), &existing.spec, &changed_by(&existing, named, Mode::Whole)?.spec)?;
            return Ok(Put::Confirmed(existing));
        }
        let recipient = Recipient {
            id: Uuid::now_v7(),
            name,
            state: RecipientState::Active.into(),
            spec: bound(new_spec(named)?, None),
            created_at: ctx.now,
            updated_at: ctx.now,
            revision: 1,
        };
        self.check_identity(tx, &recipient, ctx).await?;
        require_declared(tx, &RecipientSpec::default(), &recipient.spec).await?;
        tx.insert_recipient(&recipient).await?;
        let event = self.changed(event(ctx, Action::RecipientCreate, &recipient), audited(None, Some(&recipient.spec)));
        write::append(tx, event, ctx.now).await?;
        Ok(Put::Created(recipient))
    }

    /// Refuses to bind `recipient` to an issuer that the settings do not name, to an identity of another recipient, or
    /// while it holds tokens. A recipient has tokens or an identity, so that ending one ends all access.
    async fn check_identity(
        &self,
        tx: &mut Tx,
        recipient: &Recipient,
        ctx: &OperatorContext,
    ) -> Result<(), ServiceError> {
        let Some(identity) = &recipient.spec.oidc else { return Ok(()) };
        if !self.identities.knows(&identity.issuer, &identity.audience) {
            let known =
                self.identities.known().map(|(issuer, audiences)| format!("`{issuer}` for {}", quoted(audiences)));
            let known: Vec<String> = known.collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message =
                format!("is no issuer and audience that the settings name (`[[identity.issuer]]`); they name {known}");
            return Err(ServiceError::invalid("oidc.issuer", message));
        }
        let tokens = tx.list_live_tokens(recipient.id, ctx.now).await?;
        if !tokens.is_empty() {
            let ids: Vec<String> = tokens.iter().map(|token| token.id.to_string()).collect();
            let message = format!(
                "recipient `{}` holds the tokens {}, and has tokens or an identity, not both; revoke them first",
                recipient.name,
                quoted(&ids)
            );
            return Err(ServiceError::conflict(message));
        }
        if let Some(other) = tx.find_recipient_by_identity(identity).await?
            && other.id != recipient.id
        {
            let message = format!("recipient `{}` is bound to this issuer, audience, claim and value", other.name);
            return Err(ServiceError::conflict(message));
        }
        Ok(())
    }

    /// Returns the profile of a recipient that is bound to an identity. Its connectors also need the client id and
    /// secret, which the issuer gave them.
    pub async fn get_profile(&self, name: &str) -> Result<OauthProfile, ServiceError> {
        let recipient = self.get_recipient(name).await?;
        let Some(identity) = &recipient.spec.oidc else {
            let message = format!("recipient `{name}` is bound to no issuer; its profile comes with a token");
            return Err(ServiceError::conflict(message));
        };
        let (token_endpoint, scope) = self.identities.client_settings(&identity.issuer, self.core.clock.now()).await?;
        Ok(OauthProfile::new(&self.endpoint(), token_endpoint, identity, scope))
    }

    /// Finds a recipient by name.
    pub async fn get_recipient(&self, name: &str) -> Result<Recipient, ServiceError> {
        self.core
            .db
            .find_recipient(&lookup::key(NameKind::Recipient, name)?)
            .await?
            .ok_or_else(|| lookup::no_such_recipient(name))
    }

    /// Lists recipients by name.
    pub async fn list_recipients(&self, page: &PageRequest) -> Result<Page<Recipient>, ServiceError> {
        let opened = self.core.begin_page(page, "recipients".into())?;
        let recipients = self.core.db.list_recipients(opened.after.as_deref(), opened.limit).await?;
        Ok(self.core.end_page(opened, recipients, |recipient| recipient.name.key().to_owned()))
    }

    /// Changes a recipient. The change is ordered with the decisions in the trail, so narrower networks and delivery
    /// apply from the commit on. A change that leaves the recipient without rows of a view it reads is refused unless
    /// `is_forced`.
    pub async fn update_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
        is_forced: bool,
    ) -> Result<Recipient, ServiceError> {
        attempt(|| self.try_update_recipient(ctx, name, condition, named, is_forced)).await
    }

    async fn try_update_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
        is_forced: bool,
    ) -> Result<Option<Recipient>, ServiceError> {
        let before = self.get_recipient(name).await?;
        Precondition::check(condition, before.id, before.revision)?;
        let judged = self.judge_views(&before, &changed_by(&before, named, Mode::Merge)?).await?;
        let mut unit = self.core.begin_change(ctx).await?;
        let after = self.update_recipient_in(&mut unit, name, condition, named, &judged, is_forced).await?;
        unit.commit().await?;
        Ok(after)
    }

    /// Changes a recipient in an open change; `judged` are the views that were judged before it. Returns `None` where
    /// others have to be.
    async fn update_recipient_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
        judged: &Judged,
        is_forced: bool,
    ) -> Result<Option<Recipient>, ServiceError> {
        let (tx, ctx) = unit.parts();
        let before = tx
            .find_recipient(&lookup::key(NameKind::Recipient, name)?)
            .await?
            .ok_or_else(|| lookup::no_such_recipient(name))?;
        Precondition::check(condition, before.id, before.revision)?;
        let mut after = changed_by(&before, named, Mode::Merge)?;
        if differing(&before.spec, &after.spec).is_empty() {
            return Ok(Some(before));
        }
        if before.spec.oidc != after.spec.oidc {
            self.check_identity(tx, &after, ctx).await?;
        }
        require_declared(tx, &before.spec, &after.spec).await?;
        let Some(starved) = judged.starved(tx, &before, ctx.now).await? else { return Ok(None) };
        if !is_forced && !starved.is_empty() {
            let errors = starved.iter().take(MAX_STARVED).map(|starved| starved.error(&after));
            return Err(ServiceError::Invalid(errors.collect()));
        }
        after.updated_at = ctx.now;
        let after = tx.update_recipient(after).await?;
        let mut change = audited(Some(&before.spec), Some(&after.spec));
        if !starved.is_empty() {
            let views: BTreeSet<String> = starved.iter().map(|starved| starved.view.to_string()).collect();
            change.change["views_without_rows"] = json!(views);
        }
        for Starved { view, share, unmet, .. } in &starved {
            self.core.signals.tell(tx, &without_rows(&after, view, share, unmet), ctx.now).await?;
        }
        let event = self.changed(event(ctx, Action::RecipientUpdate, &after), change);
        write::append(tx, event, ctx.now).await?;
        Ok(Some(after))
    }

    /// Sets those of the recorded values that tighten a recipient, in a transaction that holds the chain's lock; whether
    /// there were any.
    pub(in crate::service) async fn tighten_recipient(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        id: Uuid,
        recorded: &Map<String, Value>,
        reason: &str,
    ) -> Result<bool, ServiceError> {
        let Some(before) = tx.find_recipient_by_id(id).await? else { return Ok(false) };
        let spec = tightened(&before.spec, recorded);
        if spec == before.spec {
            return Ok(false);
        }
        let after = tx.update_recipient(Recipient { spec, updated_at: ctx.now, ..before.clone() }).await?;
        let change = audited(Some(&before.spec), Some(&after.spec)).because(reason);
        let event = self.changed(event(ctx, Action::RecipientUpdate, &after), change);
        write::append(tx, event, ctx.now).await?;
        Ok(true)
    }

    /// Deletes a recipient that can read nothing any more. Its past stays on record.
    pub async fn delete_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        self.delete_recipient_in(&mut unit, name, condition).await?;
        unit.commit().await?;
        Ok(())
    }

    /// Does the same as [`Self::delete_recipient`] in an open change.
    pub async fn delete_recipient_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let (tx, ctx) = unit.parts();
        let recipient = tx
            .find_recipient(&lookup::key(NameKind::Recipient, name)?)
            .await?
            .ok_or_else(|| lookup::no_such_recipient(name))?;
        Precondition::check(condition, recipient.id, recipient.revision)?;
        let mut users = Vec::new();
        let grants =
            open_grants(tx, GrantFilter { recipient_id: Some(recipient.id), ..GrantFilter::default() }, ctx.now)
                .await?;
        let shares: Vec<String> = grants.into_iter().map(|named| named.share.to_string()).collect();
        if !shares.is_empty() {
            users.push(format!("is granted {}", quoted(&shares)));
        }
        let tokens = tx.list_live_tokens(recipient.id, ctx.now).await?;
        let tokens: Vec<String> = tokens.iter().map(|token| token.id.to_string()).collect();
        if !tokens.is_empty() {
            users.push(format!("holds the tokens {}", quoted(&tokens)));
        }
        if !users.is_empty() {
            let message = format!("recipient `{name}` {}; revoke them, or offboard it, first", users.join(" and "));
            return Err(ServiceError::conflict(message));
        }
        tx.delete_recipient(recipient.id, recipient.revision).await?;
        let event = self.changed(event(ctx, Action::RecipientDelete, &recipient), audited(Some(&recipient.spec), None));
        write::append(tx, event, ctx.now).await?;
        Ok(())
    }

    /// Suspends a recipient: every request is refused until it is resumed.
    pub async fn suspend_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<(Recipient, Effect), ServiceError> {
        let moved = self.move_recipient(ctx, name, reason, RecipientState::Suspended, Action::RecipientSuspend).await?;
        self.with_effect(moved).await
    }

    /// Lets a suspended recipient read again.
    pub async fn resume_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<Recipient, ServiceError> {
        self.move_recipient(ctx, name, reason, RecipientState::Active, Action::RecipientResume).await
    }

    /// Ends a recipient for good, with its grants and tokens. Its history is kept.
    pub async fn offboard_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<(Recipient, Effect), ServiceError> {
        let moved =
            self.move_recipient(ctx, name, reason, RecipientState::Offboarded, Action::RecipientOffboard).await?;
        self.with_effect(moved).await
    }

    /// Judges the views that a recipient is granted by the properties that would change.
    async fn judge_views(&self, before: &Recipient, after: &Recipient) -> Result<Judged, ServiceError> {
        let now = self.core.clock.now();
        let are_same = before.spec.properties == after.spec.properties;
        let mut judged = Judged { revision: before.revision, day: now.date_naive(), are_same, unmet: HashMap::new() };
        if are_same {
            return Ok(judged);
        }
        let shown = self.core.db.list_shown_views(granted(before, now), MAX_VIEWS).await?;
        let published = self.materializer.published_views(shown.iter().map(|shown| &shown.view)).await?;
        for (version, published) in published {
            let filter = published.plan.filter.as_ref();
            let mut unmet =
                filter.map(|filter| filter.starving(&after.spec.properties, judged.day)).unwrap_or_default();
            unmet.retain(|unmet| {
                before.spec.properties.get(&unmet.property) != after.spec.properties.get(&unmet.property)
            });
            judged.unmet.insert(version, unmet);
        }
        Ok(judged)
    }

    /// Adds the presigned URLs of a recipient that are still live.
    async fn with_effect(&self, recipient: Recipient) -> Result<(Recipient, Effect), ServiceError> {
        let outstanding = self.core.db.find_outstanding(Some(recipient.id), self.core.clock.now()).await?;
        let effect = Effect::new(recipient.updated_at, outstanding);
        Ok((recipient, effect))
    }

    async fn move_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
        state: RecipientState,
        action: Action,
    ) -> Result<Recipient, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let recipient = tx
            .find_recipient(&lookup::key(NameKind::Recipient, name)?)
            .await?
            .ok_or_else(|| lookup::no_such_recipient(name))?;
        if recipient.state == state {
            return Ok(recipient);
        }
        if recipient.state.means().is_none() && state != RecipientState::Offboarded {
            let message = format!(
                "recipient `{}` is {}, which a newer server has set; change it there, or offboard it",
                recipient.name,
                recipient.state.as_str()
            );
            return Err(ServiceError::conflict(message));
        }
        if recipient.state == RecipientState::Offboarded {
            let message = format!("recipient `{name}` is offboarded for good; create one under another name");
            return Err(ServiceError::conflict(message));
        }
        let recipient = self.move_recipient_in(tx, ctx, recipient, reason, state, action).await?;
        unit.commit().await?;
        Ok(recipient)
    }

    /// Moves `recipient` to `state`; the transaction must hold the chain's lock.
    pub(in crate::service) async fn move_recipient_in(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        mut recipient: Recipient,
        reason: &str,
        state: RecipientState,
        action: Action,
    ) -> Result<Recipient, ServiceError> {
        let before = mem::replace(&mut recipient.state, state.into());
        recipient.updated_at = ctx.now;
        let mut bound = None;
        if state == RecipientState::Offboarded {
            // Another recipient may be bound to the identity later.
            bound = recipient.spec.oidc.take();
        }
        let recipient = tx.update_recipient(recipient).await?;
        if state == RecipientState::Offboarded {
            let grants =
                open_grants(tx, GrantFilter { recipient_id: Some(recipient.id), ..GrantFilter::default() }, ctx.now)
                    .await?;
            for named in grants {
                self.end_grant(tx, ctx, &named, Some(reason)).await?;
            }
            for token in tx.list_live_tokens(recipient.id, ctx.now).await? {
                self.end_token(tx, ctx, &recipient, &token, Some(reason)).await?;
            }
        }
        let change = json!({"before": {"state": before, "oidc": bound}, "after": {"state": state}, "reason": reason});
        let event = Event { change: Some(change), ..event(ctx, action, &recipient) };
        write::append(tx, event, ctx.now).await?;
        Ok(recipient)
    }
}
