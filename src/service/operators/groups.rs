//! Groups of principals: what one must be like.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        core::name::NameKind,
        operators::group::{Group, GroupSpec, identity_in},
    },
    service::core::{
        context::OperatorContext,
        declared::InUse,
        error::{FieldError, ServiceError},
        lookup,
    },
    store::{StoreError, Tx},
};

/// How many groups there are at most.
const MOST: u32 = 500;

impl InUse for GroupSpec {
    async fn derive(tx: &mut Tx, _: &OperatorContext, group: &Group) -> Result<(), ServiceError> {
        Ok(tx.set_group_members(group).await?)
    }

    /// What it owned has an owner who cannot answer any more.
    async fn forget(tx: &mut Tx, group: &Group, now: DateTime<Utc>) -> Result<(), StoreError> {
        tx.note_former_owner(group.name.key(), now).await
    }

    async fn users(_: &mut Tx, _: &OperatorContext, _: &Group) -> Result<Vec<String>, ServiceError> {
        Ok(Vec::new())
    }

    /// Its operators are there, and there is room for it.
    async fn settle(tx: &mut Tx, group: &Group) -> Result<(), ServiceError> {
        let all: Vec<Group> = tx.list_declared(None, MOST).await?;
        if all.len() >= MOST as usize && all.iter().all(|other| other.id != group.id) {
            return Err(ServiceError::conflict(format!("there are {MOST} groups already; delete one first")));
        }
        let mut errors = Vec::new();
        for (index, member) in group.spec.members.iter().enumerate().filter(|(_, member)| identity_in(member).is_none())
        {
            let found = match lookup::key(NameKind::Operator, member) {
                Ok(key) => tx.find_operator(&key).await?,
                Err(_) => None,
            };
            if found.is_none() {
                let message = "names no operator; GET /operators and GET /operator-identities list who there is";
                errors.push(FieldError::new(format!("members[{index}]"), message));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(errors)) }
    }
}
