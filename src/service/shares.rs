//! Shares: bundles of objects that recipients are granted as a whole.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Service,
    change::{Change, Described, MapChange, Mode, Put, audited, confirm, differing, members, quoted},
    context::OperatorContext,
    error::ServiceError,
    grants::open_grants,
    lookup,
    page::{Page, PageRequest},
    precondition::Precondition,
    trail,
};
use crate::{
    domain::{
        audit::{Event, Object},
        name::{Name, NameKind},
        share::Share,
    },
    store::GrantFilter,
};

/// What an operator says about a share.
#[derive(Clone, Debug, Default)]
pub struct ShareChange {
    /// A name for people.
    pub display_name: Change<String>,
    /// What recipients are told about it.
    pub description: Change<String>,
    /// Properties that recipients see.
    pub properties: MapChange<String>,
}

impl Described for Share {
    fn described(&self) -> Map<String, Value> {
        members(json!({
            "display_name": self.display_name,
            "description": self.description,
            "properties": self.properties,
        }))
    }
}

impl ShareChange {
    fn apply(self, share: &mut Share, mode: Mode) {
        self.display_name.apply(&mut share.display_name);
        self.description.apply(&mut share.description);
        self.properties.apply_to_map(&mut share.properties, mode);
    }
}

/// There is no such share.
pub(super) fn not_found(name: &str) -> ServiceError {
    ServiceError::NotFound { kind: "share", name: name.to_owned() }
}

fn event(ctx: &OperatorContext, action: &'static str, share: &Share) -> Event {
    let name = Some(share.name.to_string());
    let object = Object { kind: "share".into(), id: Some(share.id), name: name.clone() };
    Event { share: name, share_id: Some(share.id), ..ctx.event(action, object) }
}

impl Service {
    /// Creates a share, or confirms that it is as described.
    pub async fn put_share(
        &self,
        ctx: &OperatorContext,
        name: &str,
        change: ShareChange,
    ) -> Result<Put<Share>, ServiceError> {
        let name =
            Name::parse(NameKind::Share, name).map_err(|error| ServiceError::invalid("share", error.to_string()))?;
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        if let Some(existing) = tx.find_share(name.key()).await? {
            let mut after = existing.clone();
            change.apply(&mut after, Mode::Whole);
            confirm("share", name.as_str(), &existing, &after)?;
            return Ok(Put::Confirmed(existing));
        }
        let mut share = Share {
            id: Uuid::now_v7(),
            name,
            display_name: None,
            description: None,
            properties: Default::default(),
            created_at: ctx.now,
            updated_at: ctx.now,
            revision: 1,
        };
        change.apply(&mut share, Mode::Whole);
        tx.insert_share(&share).await?;
        let event = Event { change: Some(audited(None, Some(&share))), ..event(ctx, "share.create", &share) };
        trail::append(&mut tx, event, ctx.now).await?;
        tx.commit().await?;
        Ok(Put::Created(share))
    }

    /// A share.
    pub async fn get_share_settings(&self, name: &str) -> Result<Share, ServiceError> {
        self.db.find_share(&lookup::key(NameKind::Share, name)?).await?.ok_or_else(|| not_found(name))
    }

    /// Shares by name.
    pub async fn list_all_shares(&self, page: &PageRequest) -> Result<Page<Share>, ServiceError> {
        let opened = self.begin_page(page, "shares".into())?;
        let shares = self.db.list_shares(opened.after.as_deref(), opened.limit).await?;
        Ok(self.end_page(opened, shares, |share| share.name.key().to_owned()))
    }

    /// Changes a share.
    pub async fn update_share(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        change: ShareChange,
    ) -> Result<Share, ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let before = tx.find_share(&lookup::key(NameKind::Share, name)?).await?.ok_or_else(|| not_found(name))?;
        Precondition::check(condition, before.id, before.revision)?;
        let mut after = before.clone();
        change.apply(&mut after, Mode::Merge);
        if differing(&before, &after).is_empty() {
            return Ok(before);
        }
        after.updated_at = ctx.now;
        let after = tx.update_share(after).await?;
        let event = Event { change: Some(audited(Some(&before), Some(&after))), ..event(ctx, "share.update", &after) };
        trail::append(&mut tx, event, ctx.now).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Deletes a share that holds nothing and that nobody is granted any more. Its past grants stay on record.
    pub async fn delete_share(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let share = tx.find_share(&lookup::key(NameKind::Share, name)?).await?.ok_or_else(|| not_found(name))?;
        Precondition::check(condition, share.id, share.revision)?;
        let mut users = Vec::new();
        let grants =
            open_grants(&mut tx, GrantFilter { share_id: Some(share.id), ..GrantFilter::default() }, ctx.now).await?;
        let recipients: Vec<String> = grants.into_iter().map(|named| named.recipient.to_string()).collect();
        if !recipients.is_empty() {
            users.push(format!("is granted to {} (revoke that first)", quoted(&recipients)));
        }
        let objects = tx.list_objects(share.id, None, None, 20).await?;
        let objects: Vec<String> =
            objects.iter().map(|(object, _)| format!("{}.{}", object.schema, object.name)).collect();
        if !objects.is_empty() {
            users.push(format!("holds {} (remove them first)", quoted(&objects)));
        }
        if !users.is_empty() {
            return Err(ServiceError::conflict(format!("share `{name}` {}", users.join(" and "))));
        }
        tx.delete_share(share.id, share.revision).await?;
        let event = Event { change: Some(audited(Some(&share), None)), ..event(ctx, "share.delete", &share) };
        trail::append(&mut tx, event, ctx.now).await?;
        Ok(tx.commit().await?)
    }
}
