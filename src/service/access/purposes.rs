//! Purposes: what data may be used for.

use crate::{
    domain::{
        access::{
            agreement::{ANY_PURPOSE, DeclaredAgreement},
            purpose::{Purpose, PurposeSpec},
            use_case::UseCase,
        },
        core::{declared::Plain, message::quoted, name::name_key},
        operators::principal::Separation,
    },
    service::core::{
        context::OperatorContext,
        declared::InUse,
        error::{FieldError, ServiceError},
        lookup,
    },
    store::Tx,
};

/// The longest chain of parents above a purpose.
const DEEPEST: usize = 10;
/// The most purposes that are searched for children, and the most children that a refusal names.
const LOOKED_THROUGH: u32 = 10_000;
const NAMED: usize = 20;

impl InUse for PurposeSpec {
    async fn users(tx: &mut Tx, _: &OperatorContext, purpose: &Purpose) -> Result<Vec<String>, ServiceError> {
        let all: Vec<Purpose> = tx.list_declared(None, LOOKED_THROUGH).await?;
        let is_below = |other: &&Purpose| {
            other.spec.parent.as_deref().is_some_and(|parent| name_key(parent) == purpose.name.key())
        };
        let below: Vec<String> = all.iter().filter(is_below).take(NAMED).map(|other| other.name.to_string()).collect();
        let lists = |names: &[String]| names.iter().any(|name| name_key(name) == purpose.name.key());
        let agreements: Vec<DeclaredAgreement> = tx.list_declared(None, LOOKED_THROUGH).await?;
        let agreements = agreements.iter().filter(|agreement| lists(&agreement.spec.purposes));
        let agreements: Vec<String> = agreements.take(NAMED).map(|agreement| agreement.name.to_string()).collect();
        let tables = tx.list_tables(None, LOOKED_THROUGH).await?;
        let tables = tables.iter().filter(|table| table.spec.allowed_purposes.as_deref().is_some_and(lists));
        let tables: Vec<String> = tables.take(NAMED).map(|table| table.name.to_string()).collect();
        let use_cases: Vec<UseCase> = tx.list_declared(None, LOOKED_THROUGH).await?;
        let use_cases = use_cases.iter().filter(|use_case| name_key(&use_case.spec.purpose) == purpose.name.key());
        let use_cases: Vec<String> = use_cases.take(NAMED).map(|use_case| use_case.name.to_string()).collect();
        let recipients = tx.list_recipients(None, LOOKED_THROUGH).await?;
        let recipients = recipients.iter().filter(|recipient| {
            let ceiling = recipient.spec.ceiling.as_ref().and_then(|ceiling| ceiling.purposes.as_deref());
            [recipient.spec.purposes.as_deref(), ceiling].into_iter().flatten().any(lists)
        });
        let recipients: Vec<String> = recipients.take(NAMED).map(|recipient| recipient.name.to_string()).collect();
        let mut users = Vec::new();
        for (names, says, first) in [
            (below, "is the parent of", "give them another one first"),
            (agreements, "is allowed by the agreements", "change them first"),
            (tables, "is allowed for the tables", "change them first"),
            (recipients, "is one that limits the recipients", "change them first"),
            (use_cases, "is that of the use cases", "change them first"),
        ] {
            if !names.is_empty() {
                users.push(format!("{says} {} ({first})", quoted(&names)));
            }
        }
        Ok(users)
    }

    /// A legal basis.
    fn lacks(&self, separation: Separation) -> Vec<FieldError> {
        let has_basis = self.legal_basis.as_deref().is_some_and(|basis| !basis.trim().is_empty());
        if has_basis || separation == Separation::Off {
            return Vec::new();
        }
        let message = "is missing; name the law or contract that permits this use (governance.separation is enforced)";
        vec![FieldError::new("legal_basis", message)]
    }

    /// Checks that every parent exists and that no purpose is its own ancestor.
    async fn settle(tx: &mut Tx, purpose: &Purpose) -> Result<(), ServiceError> {
        let refused = |message: String| Err(ServiceError::Invalid(vec![FieldError::new("parent", message)]));
        let mut next = purpose.spec.parent.clone();
        for _ in 0..DEEPEST {
            let Some(parent) = next else { return Ok(()) };
            let found: Option<Purpose> = match lookup::key(PurposeSpec::NAME, &parent) {
                Ok(key) => tx.find_declared(&key).await?,
                Err(_) => None,
            };
            match found {
                Some(found) if found.name.key() == purpose.name.key() => {
                    return refused(format!("leads back to `{}`; a purpose is no part of itself", purpose.name));
                }
                Some(found) => next = found.spec.parent,
                None if name_key(&parent) == purpose.name.key() => {
                    return refused(format!("is `{}` itself; name a wider purpose", purpose.name));
                }
                None => return refused(format!("names no purpose; create it with PUT /purposes/{parent}")),
            }
        }
        refused(format!("has more than {DEEPEST} purposes above it"))
    }
}

/// Lists what is wrong with a list of purposes: each name that is not declared. `*` stands for every purpose.
pub(in crate::service) async fn undeclared(
    tx: &mut Tx,
    field: &str,
    names: &[String],
) -> Result<Vec<FieldError>, ServiceError> {
    let mut wrong = Vec::new();
    for (index, name) in names.iter().enumerate().filter(|(_, name)| *name != ANY_PURPOSE) {
        let found: Option<Purpose> = match lookup::key(PurposeSpec::NAME, name) {
            Ok(key) => tx.find_declared(&key).await?,
            Err(_) => None,
        };
        if found.is_none() {
            let message = format!("names no purpose; create it with PUT /purposes/{name}");
            wrong.push(FieldError::new(format!("{field}[{index}]"), message));
        }
    }
    Ok(wrong)
}
