//! Shares: bundles of objects that recipients are granted as a whole.

use crate::{
    domain::{
        audit::Event,
        catalog::share::{Share, ShareSpec},
        core::message::quoted,
        operators::principal::Thing,
    },
    service::{
        access::grants::open_grants,
        core::{
            context::OperatorContext,
            declared::{self, InUse},
            error::ServiceError,
        },
    },
    store::{GrantFilter, Tx},
};

/// The most objects of a share that a message names.
const NAMED: u32 = 20;

/// The error for a share that does not exist.
pub(in crate::service) fn not_found(name: &str) -> ServiceError {
    declared::not_found::<ShareSpec>(name)
}

impl InUse for ShareSpec {
    /// Only a share without objects and without open grants can be deleted. Its past grants stay on record.
    async fn users(tx: &mut Tx, ctx: &OperatorContext, share: &Share) -> Result<Vec<String>, ServiceError> {
        let mut users = Vec::new();
        let filter = GrantFilter { share_id: Some(share.id), ..GrantFilter::default() };
        let grants = open_grants(tx, filter, ctx.now).await?;
        let recipients: Vec<String> = grants.into_iter().map(|named| named.recipient.to_string()).collect();
        if !recipients.is_empty() {
            users.push(format!("is granted to {} (revoke that first)", quoted(&recipients)));
        }
        let objects = tx.list_objects(share.id, None, None, NAMED).await?;
        let objects: Vec<String> =
            objects.iter().map(|(object, _)| format!("{}.{}", object.schema, object.name)).collect();
        if !objects.is_empty() {
            users.push(format!("holds {} (remove them first)", quoted(&objects)));
        }
        Ok(users)
    }

    fn thing(name: &str, spec: Option<&Self>) -> Option<Thing> {
        Some(Thing::share(name, spec.and_then(|spec| spec.domain.as_deref())))
    }

    fn tell(share: &Share, event: Event) -> Event {
        Event { share: Some(share.name.to_string()), share_id: Some(share.id), ..event }
    }
}
