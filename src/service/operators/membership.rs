//! The groups that somebody is in, and what they make of their members.

use crate::{
    domain::operators::{
        group::{Group, Member},
        principal::Binding,
    },
    store::{Db, StoreError, Tx},
};

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
