//! Use cases: what recipients do with data, and which columns they need for it.

use crate::{
    domain::{
        access::use_case::{UseCase, UseCaseSpec},
        core::name::NameKind,
    },
    service::core::{
        context::OperatorContext,
        declared::InUse,
        error::{FieldError, ServiceError},
        lookup,
    },
    store::Tx,
};

use super::purposes;

impl InUse for UseCaseSpec {
    async fn users(_: &mut Tx, _: &OperatorContext, _: &UseCase) -> Result<Vec<String>, ServiceError> {
        Ok(Vec::new())
    }

    /// Checks that recipient and purpose are there.
    async fn settle(tx: &mut Tx, use_case: &UseCase) -> Result<(), ServiceError> {
        let spec = &use_case.spec;
        let mut wrong = Vec::new();
        let recipient = match lookup::key(NameKind::Recipient, &spec.recipient) {
            Ok(key) => tx.find_recipient(&key).await?,
            Err(_) => None,
        };
        if recipient.is_none() {
            wrong.push(FieldError::new("recipient", lookup::no_recipient(tx, &spec.recipient).await?));
        }
        for problem in purposes::undeclared(tx, "purpose", std::slice::from_ref(&spec.purpose)).await? {
            wrong.push(FieldError::new("purpose", problem.message));
        }
        if wrong.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(wrong)) }
    }
}
