//! Groups of principals: who is in them, and what that makes somebody.

use crate::{
    domain::{
        core::name::NameKind,
        operators::{
            group::{Group, GroupSpec, Member, identity_in},
            principal::Binding,
        },
    },
    service::core::{
        context::OperatorContext,
        declared::InUse,
        error::{FieldError, ServiceError},
        lookup,
    },
    store::{Db, StoreError, Tx},
};

/// How many groups there are at most.
const MOST: u32 = 500;

impl InUse for GroupSpec {
    async fn index(tx: &mut Tx, group: &Group) -> Result<(), StoreError> {
        tx.set_group_members(group).await
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

/// The groups that somebody is in.
pub(super) async fn of(db: &Db, member: Member<'_>) -> Result<Vec<Group>, StoreError> {
    Ok(having(db.list_groups_of(&member.key()).await?, member))
}

/// The groups that somebody is in, within a transaction.
pub(super) async fn of_in(tx: &mut Tx, member: Member<'_>) -> Result<Vec<Group>, StoreError> {
    Ok(having(tx.list_groups_of(&member.key()).await?, member))
}

/// Those of the groups found that have the member: what a group is found by only leads to it, its spec says who is in it.
fn having(mut found: Vec<Group>, member: Member<'_>) -> Vec<Group> {
    found.retain(|group| group.spec.has(member));
    found
}

/// What these groups make of their members.
pub(super) fn bindings_of(groups: &[Group]) -> impl Iterator<Item = Binding> {
    groups.iter().flat_map(|group| group.spec.bindings.iter().cloned())
}
