//! Who is in which group, so that somebody's groups are found without reading the others.

use sqlx::QueryBuilder;

use crate::{
    domain::operators::group::{Group, GroupSpec},
    store::{Result, Tx, core::declared::DeclaredRow, reads, writes},
};

reads! {
    /// The groups that have a member of this key, by name.
    pub async fn list_groups_of(self, db, member: &str) -> Result<Vec<Group>> {
        const SQL: &str = "SELECT g.id, g.name, g.spec, g.created_at, g.updated_at, g.revision \
            FROM operator_group_members m JOIN operator_groups g ON g.id = m.group_id \
            WHERE m.member = $1 ORDER BY g.name_key";
        let rows: Vec<DeclaredRow> = sqlx::query_as(SQL).bind(member).fetch_all(db).await?;
        rows.into_iter().map(DeclaredRow::read::<GroupSpec>).collect()
    }
}

impl Tx {
    /// Keeps who the members of a stored group are.
    pub async fn set_group_members(&mut self, group: &Group) -> Result<()> {
        const GONE: &str = "DELETE FROM operator_group_members WHERE group_id = $1";
        writes!(self, db => sqlx::query(GONE).bind(group.id).execute(db).await?.rows_affected());
        let members = group.spec.member_keys();
        if !members.is_empty() {
            writes!(self, db => {
                let mut query = QueryBuilder::new("INSERT INTO operator_group_members (member, group_id) ");
                query.push_values(&members, |mut row, member| {
                    row.push_bind(member).push_bind(group.id);
                });
                query.build().execute(db).await?.rows_affected()
            });
        }
        Ok(())
    }
}
