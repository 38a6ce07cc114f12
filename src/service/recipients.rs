//! Recipients: the partners that read, and where they stand.

use ipnet::IpNet;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Service,
    change::{Change, Described, MapChange, Mode, Put, audited, confirm, differing, members, quoted},
    context::OperatorContext,
    error::ServiceError,
    grants::{Effect, open_grants},
    lookup,
    page::{Page, PageRequest},
    precondition::Precondition,
    trail,
};
use crate::{
    domain::{
        audit::{Event, Object},
        delivery::Delivery,
        limits::RecipientLimits,
        name::{Name, NameKind},
        recipient::{Recipient, RecipientState},
    },
    store::GrantFilter,
};

/// What an operator says about a recipient.
#[derive(Clone, Debug, Default)]
pub struct RecipientChange {
    /// A name for people.
    pub display_name: Change<String>,
    /// Contacts by role.
    pub contacts: MapChange<String>,
    /// Properties that row filters may refer to.
    pub properties: MapChange<Value>,
    /// The networks that it may come from.
    pub allowed_cidrs: Change<Vec<IpNet>>,
    /// How its files get to it.
    pub delivery: Change<Delivery>,
    /// How much it may ask for.
    pub limits: Change<LimitsChange>,
    /// Free text for operators.
    pub description: Change<String>,
}

/// What an operator says about a recipient's limits.
#[derive(Clone, Debug, Default)]
pub struct LimitsChange {
    /// Requests in a minute.
    pub requests_per_minute: Change<u64>,
    /// Answers that stream at the same time.
    pub concurrent_streams: Change<u64>,
    /// Bytes issued in a day.
    pub bytes_per_day: Change<u64>,
}

impl LimitsChange {
    fn apply(self, limits: &mut RecipientLimits, mode: Mode) {
        if mode == Mode::Whole {
            *limits = RecipientLimits::default();
        }
        self.requests_per_minute.apply(&mut limits.requests_per_minute);
        self.concurrent_streams.apply(&mut limits.concurrent_streams);
        self.bytes_per_day.apply(&mut limits.bytes_per_day);
    }
}

impl Described for Recipient {
    fn described(&self) -> Map<String, Value> {
        members(json!({
            "display_name": self.display_name,
            "contacts": self.contacts,
            "properties": self.properties,
            "allowed_cidrs": self.allowed_cidrs,
            "delivery": self.delivery,
            "limits": self.limits,
            "description": self.description,
        }))
    }
}

impl RecipientChange {
    fn apply(self, recipient: &mut Recipient, mode: Mode) {
        self.display_name.apply(&mut recipient.display_name);
        self.contacts.apply_to_map(&mut recipient.contacts, mode);
        self.properties.apply_to_map(&mut recipient.properties, mode);
        self.allowed_cidrs.apply_or(&mut recipient.allowed_cidrs, Vec::new());
        self.delivery.apply(&mut recipient.delivery);
        match self.limits {
            Change::Keep => {}
            Change::Clear => recipient.limits = RecipientLimits::default(),
            Change::Set(limits) => limits.apply(&mut recipient.limits, mode),
        }
        self.description.apply(&mut recipient.description);
    }
}

/// There is no such recipient.
pub(super) fn not_found(name: &str) -> ServiceError {
    ServiceError::NotFound { kind: "recipient", name: name.to_owned() }
}

fn event(ctx: &OperatorContext, action: &'static str, recipient: &Recipient) -> Event {
    let name = Some(recipient.name.to_string());
    let object = Object { kind: "recipient".into(), id: Some(recipient.id), name: name.clone() };
    Event { recipient: name, recipient_id: Some(recipient.id), ..ctx.event(action, object) }
}

/// The event of `change`. The trail's bytes stay for ever and people's addresses must not, so that of contacts only the
/// roles stand in it; whom they name goes to the personal part, which can be erased.
fn changed(mut event: Event, mut change: Value) -> Event {
    let mut named = Map::new();
    for side in ["before", "after"] {
        let Some(contacts) = change.pointer_mut(&format!("/{side}/contacts")) else { continue };
        let Value::Object(members) = contacts.take() else { continue };
        *contacts = members.keys().cloned().collect();
        if !members.is_empty() {
            named.insert(side.to_owned(), Value::Object(members));
        }
    }
    event.personal.contacts = (!named.is_empty()).then_some(Value::Object(named));
    event.change = Some(change);
    event
}

impl Service {
    /// Creates a recipient, active, or confirms that it is as described.
    pub async fn put_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        change: RecipientChange,
    ) -> Result<Put<Recipient>, ServiceError> {
        let name = Name::parse(NameKind::Recipient, name)
            .map_err(|error| ServiceError::invalid("recipient", error.to_string()))?;
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        if let Some(existing) = tx.find_recipient(name.key()).await? {
            let mut after = existing.clone();
            change.apply(&mut after, Mode::Whole);
            confirm("recipient", name.as_str(), &existing, &after)?;
            return Ok(Put::Confirmed(existing));
        }
        let mut recipient = Recipient {
            id: Uuid::now_v7(),
            name,
            state: RecipientState::Active,
            display_name: None,
            contacts: Default::default(),
            properties: Default::default(),
            allowed_cidrs: Vec::new(),
            delivery: None,
            limits: RecipientLimits::default(),
            description: None,
            created_at: ctx.now,
            updated_at: ctx.now,
            revision: 1,
        };
        change.apply(&mut recipient, Mode::Whole);
        tx.insert_recipient(&recipient).await?;
        let event = changed(event(ctx, "recipient.create", &recipient), audited(None, Some(&recipient)));
        trail::append(&mut tx, event, ctx.now).await?;
        tx.commit().await?;
        Ok(Put::Created(recipient))
    }

    /// A recipient.
    pub async fn get_recipient(&self, name: &str) -> Result<Recipient, ServiceError> {
        self.db.find_recipient(&lookup::key(NameKind::Recipient, name)?).await?.ok_or_else(|| not_found(name))
    }

    /// Recipients by name.
    pub async fn list_recipients(&self, page: &PageRequest) -> Result<Page<Recipient>, ServiceError> {
        let opened = self.begin_page(page, "recipients".into())?;
        let recipients = self.db.list_recipients(opened.after.as_deref(), opened.limit).await?;
        Ok(self.end_page(opened, recipients, |recipient| recipient.name.key().to_owned()))
    }

    /// Changes a recipient; narrower networks and delivery count from the commit on, since the change is ordered with
    /// the trail's decisions.
    pub async fn update_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        change: RecipientChange,
    ) -> Result<Recipient, ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let before =
            tx.find_recipient(&lookup::key(NameKind::Recipient, name)?).await?.ok_or_else(|| not_found(name))?;
        Precondition::check(condition, before.id, before.revision)?;
        let mut after = before.clone();
        change.apply(&mut after, Mode::Merge);
        if differing(&before, &after).is_empty() {
            return Ok(before);
        }
        after.updated_at = ctx.now;
        let after = tx.update_recipient(after).await?;
        let event = changed(event(ctx, "recipient.update", &after), audited(Some(&before), Some(&after)));
        trail::append(&mut tx, event, ctx.now).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Deletes a recipient that can read nothing any more. Its past stays on record.
    pub async fn delete_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let recipient =
            tx.find_recipient(&lookup::key(NameKind::Recipient, name)?).await?.ok_or_else(|| not_found(name))?;
        Precondition::check(condition, recipient.id, recipient.revision)?;
        let mut users = Vec::new();
        let grants =
            open_grants(&mut tx, GrantFilter { recipient_id: Some(recipient.id), ..GrantFilter::default() }, ctx.now)
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
        let event = changed(event(ctx, "recipient.delete", &recipient), audited(Some(&recipient), None));
        trail::append(&mut tx, event, ctx.now).await?;
        Ok(tx.commit().await?)
    }

    /// Refuses a recipient everything until it is resumed.
    pub async fn suspend_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<(Recipient, Effect), ServiceError> {
        let moved = self.move_recipient(ctx, name, reason, RecipientState::Suspended, "recipient.suspend").await?;
        self.with_effect(moved).await
    }

    /// Lets a suspended recipient read again what it is granted.
    pub async fn resume_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<Recipient, ServiceError> {
        self.move_recipient(ctx, name, reason, RecipientState::Active, "recipient.resume").await
    }

    /// Ends a recipient for good, with its grants and tokens; its history is kept.
    pub async fn offboard_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<(Recipient, Effect), ServiceError> {
        let moved = self.move_recipient(ctx, name, reason, RecipientState::Offboarded, "recipient.offboard").await?;
        self.with_effect(moved).await
    }

    /// A recipient that nothing is handed out to any more, with what it was handed before and still lives.
    async fn with_effect(&self, recipient: Recipient) -> Result<(Recipient, Effect), ServiceError> {
        let outstanding = self.db.find_outstanding(Some(recipient.id), self.clock.now()).await?;
        let effect = Effect::new(recipient.updated_at, outstanding);
        Ok((recipient, effect))
    }

    async fn move_recipient(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
        state: RecipientState,
        action: &'static str,
    ) -> Result<Recipient, ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let mut recipient =
            tx.find_recipient(&lookup::key(NameKind::Recipient, name)?).await?.ok_or_else(|| not_found(name))?;
        if recipient.state == state {
            return Ok(recipient);
        }
        if recipient.state == RecipientState::Offboarded {
            let message = format!("recipient `{name}` is offboarded for good; create one under another name");
            return Err(ServiceError::conflict(message));
        }
        let before = recipient.state;
        (recipient.state, recipient.updated_at) = (state, ctx.now);
        let recipient = tx.update_recipient(recipient).await?;
        if state == RecipientState::Offboarded {
            let grants = open_grants(
                &mut tx,
                GrantFilter { recipient_id: Some(recipient.id), ..GrantFilter::default() },
                ctx.now,
            )
            .await?;
            for named in grants {
                self.end_grant(&mut tx, ctx, &named, Some(reason)).await?;
            }
            for token in tx.list_live_tokens(recipient.id, ctx.now).await? {
                self.end_token(&mut tx, ctx, &recipient, &token, Some(reason)).await?;
            }
        }
        let change = json!({"before": {"state": before}, "after": {"state": state}, "reason": reason});
        let event = Event { change: Some(change), ..event(ctx, action, &recipient) };
        trail::append(&mut tx, event, ctx.now).await?;
        tx.commit().await?;
        Ok(recipient)
    }
}
