//! Ownership: who answers for a table and who looks after it, by its own settings or by those of its domain.

use super::{domain::DomainSpec, table::TableSpec};

/// Who answers for a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// Who answers for it.
    pub owner: Option<String>,
    /// Who looks after it.
    pub steward: Option<String>,
    /// Whether it has an owner who cannot answer any more. A table whose owner nobody ever named is not ownerless.
    pub is_ownerless: bool,
}

impl Ownership {
    /// The ownership of a table in a domain; what the table names goes first. `is_gone` says of a name that whoever has it
    /// cannot answer any more.
    pub fn of(table: &TableSpec, domain: Option<&DomainSpec>, is_gone: impl FnOnce(&str) -> bool) -> Self {
        let owner = named(&table.owner).or_else(|| named(&domain?.owner)).cloned();
        let steward = named(&table.steward).or_else(|| named(&domain?.steward)).cloned();
        let is_ownerless = owner.as_deref().is_some_and(is_gone);
        Self { owner, steward, is_ownerless }
    }
}

/// The text, unless it is blank.
fn named(text: &Option<String>) -> Option<&String> {
    text.as_ref().filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_names_its_owner_or_has_that_of_its_domain() {
        let domain: DomainSpec = serde_json::from_value(json!({"owner": "team", "steward": "sue"})).unwrap();
        for (own, in_domain, owner, steward) in [
            (json!({"owner": "ann"}), true, Some("ann"), Some("sue")),
            (json!({"owner": " ", "steward": "bob"}), true, Some("team"), Some("bob")),
            (json!({}), true, Some("team"), Some("sue")),
            (json!({"owner": "ann"}), false, Some("ann"), None),
            (json!({}), false, None, None),
        ] {
            let mut spec = json!({"location": "s3://lake/t"});
            spec.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            let table: TableSpec = serde_json::from_value(spec).unwrap();
            let domain = in_domain.then_some(&domain);
            let found = Ownership::of(&table, domain, |_| false);
            assert_eq!((found.owner.as_deref(), found.steward.as_deref()), (owner, steward), "{own}");
            assert!(!found.is_ownerless);
            let gone = Ownership::of(&table, domain, |name| Some(name) == owner);
            assert_eq!(gone.is_ownerless, owner.is_some(), "a table without an owner has lost none: {own}");
        }
    }
}
