//! Domains: what tables and shares are about, and who answers for that.

use crate::{
    domain::{
        catalog::domain::{Domain, DomainSpec},
        core::{message::quoted, name::name_key},
        operators::principal::Thing,
    },
    service::core::{context::OperatorContext, declared::InUse, error::ServiceError},
    store::Tx,
};

use super::ownership;

/// The most tables and shares that are searched for those of a domain, and the most that a refusal names.
const LOOKED_THROUGH: u32 = 10_000;
const NAMED: usize = 20;

impl InUse for DomainSpec {
    async fn users(tx: &mut Tx, _: &OperatorContext, domain: &Domain) -> Result<Vec<String>, ServiceError> {
        let is_here = |named: Option<&str>| named.is_some_and(|named| name_key(named) == domain.name.key());
        let tables = tx.list_tables(None, LOOKED_THROUGH).await?;
        let tables = tables.iter().filter(|table| is_here(table.spec.domain.as_deref()));
        let tables: Vec<String> = tables.take(NAMED).map(|table| table.name.to_string()).collect();
        let shares = tx.list_shares(None, LOOKED_THROUGH).await?;
        let shares = shares.iter().filter(|share| is_here(share.spec.domain.as_deref()));
        let shares: Vec<String> = shares.take(NAMED).map(|share| share.name.to_string()).collect();
        let mut users = Vec::new();
        for (names, says) in [(tables, "is that of the tables"), (shares, "is that of the shares")] {
            if !names.is_empty() {
                users.push(format!("{says} {} (give them another one first)", quoted(&names)));
            }
        }
        Ok(users)
    }

    /// Checks that whoever is newly named as owner or steward is there.
    async fn settle(tx: &mut Tx, domain: &Domain) -> Result<(), ServiceError> {
        let before: Option<Domain> = tx.find_declared(domain.name.key()).await?;
        let before = before.map(|before| before.spec).unwrap_or_default();
        let mut wrong = Vec::new();
        for (field, was, is) in
            [("owner", &before.owner, &domain.spec.owner), ("steward", &before.steward, &domain.spec.steward)]
        {
            if was != is {
                wrong.extend(ownership::unknown(tx, field, is.as_deref()).await?);
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(wrong)) }
    }

    fn thing(name: &str, _: Option<&Self>) -> Option<Thing> {
        Some(Thing::domain(name))
    }
}
