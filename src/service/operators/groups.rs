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

/// How many groups there are at most: all of them are looked at whenever somebody signs in.
const MOST: u32 = 500;

impl InUse for GroupSpec {
    async fn users(_: &mut Tx, _: &OperatorContext, _: &Group) -> Result<Vec<String>, ServiceError> {
        Ok(Vec::new())
    }

    /// Its operators are there, and there is room for it.
    async fn settle(tx: &mut Tx, group: &Group) -> Result<(), ServiceError> {
        let all = all_in(tx).await?;
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

/// Every group.
pub(super) async fn all(db: &Db) -> Result<Vec<Group>, StoreError> {
    db.list_declared(None, MOST).await
}

/// Every group, within a transaction.
pub(super) async fn all_in(tx: &mut Tx) -> Result<Vec<Group>, StoreError> {
    tx.list_declared(None, MOST).await
}

/// The groups that somebody is in.
pub(super) fn of<'a>(groups: &'a [Group], member: Member<'a>) -> impl Iterator<Item = &'a Group> {
    groups.iter().filter(move |group| group.spec.has(member))
}

/// What somebody is by its groups.
pub(super) fn bindings_of(groups: &[Group], member: Member<'_>) -> Vec<Binding> {
    of(groups, member).flat_map(|group| group.spec.bindings.iter().cloned()).collect()
}
