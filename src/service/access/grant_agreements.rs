//! The agreements that grants name, or make: a grant may still refer to its contract in its own words, and an agreement is
//! made of those.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        access::{
            agreement::{
                ANY_PURPOSE, AgreementDocument, AgreementSpec, AgreementState, AgreementTerms, AgreementType,
                DeclaredAgreement, OnEnd, allows_purpose,
            },
            grant::Agreement,
            recipient::Recipient,
        },
        audit::{
            Event, Object,
            action::{Action, Kind},
            timestamp,
        },
        core::{
            declared::{Declared, Plain},
            name::{Name, NameKind, name_key},
            word::Words,
        },
    },
    service::{
        audit::write,
        core::{
            change::audited,
            context::OperatorContext,
            error::{FieldError, ServiceError},
            lookup,
        },
    },
    store::{KeptTerms, Tx},
};

/// The most agreements that one grant names.
const MOST_NAMED: usize = 20;
/// The most agreements with one end that are searched for the one that a grant refers to.
const LOOKED_THROUGH: u32 = 100;

/// An agreement of this name, with its terms.
pub(in crate::service) async fn find_agreement(
    tx: &mut Tx,
    name: &str,
) -> Result<Option<(DeclaredAgreement, KeptTerms)>, ServiceError> {
    let found: Option<DeclaredAgreement> = match lookup::key(NameKind::Agreement, name) {
        Ok(key) => tx.find_declared(&key).await?,
        Err(_) => None,
    };
    let Some(agreement) = found else { return Ok(None) };
    let kept = tx.find_terms(&[agreement.id]).await?.remove(&agreement.id);
    kept.map(|kept| Some((agreement, kept))).ok_or_else(|| ServiceError::internal("an agreement has no terms"))
}

/// An agreement that a grant names.
#[derive(Clone, Debug)]
pub(in crate::service) struct NamedAgreement {
    /// Its name.
    pub(in crate::service) name: String,
    /// Its terms.
    pub(in crate::service) kept: KeptTerms,
}

/// What a grant asks for: a window, a purpose, and the agreements that it names.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct AskedGrant<'a> {
    pub(in crate::service) recipient: &'a Recipient,
    pub(in crate::service) purpose: Option<&'a str>,
    pub(in crate::service) valid_from: DateTime<Utc>,
    pub(in crate::service) valid_until: DateTime<Utc>,
}

/// The agreements of these names, and the words by which the grant refers to them. Refuses what could never allow the grant:
/// another recipient's, one that is over, one for other purposes. Drafts may be named; they allow nothing yet.
pub(in crate::service) async fn named(
    tx: &mut Tx,
    ctx: &OperatorContext,
    asked: AskedGrant<'_>,
    names: &[String],
) -> Result<(Agreement, Vec<NamedAgreement>), ServiceError> {
    if names.len() > MOST_NAMED {
        return Err(ServiceError::invalid("agreements", format!("are too many; a grant names at most {MOST_NAMED}")));
    }
    let (mut wrong, mut found, mut digest) = (Vec::new(), Vec::<NamedAgreement>::new(), None);
    for (index, name) in names.iter().enumerate() {
        let mut refuse = |message: String| wrong.push(FieldError::new(format!("agreements[{index}]"), message));
        // What others have signed is not told.
        let known = find_agreement(tx, name).await?.filter(|(_, kept)| kept.recipient_id == asked.recipient.id);
        let Some((agreement, kept)) = known else {
            let party = &asked.recipient.name;
            refuse(format!("names no agreement with `{party}`; register it with PUT /agreements/{name}"));
            continue;
        };
        if found.iter().any(|other| other.kept.succession_id == kept.succession_id) {
            refuse("takes the place of another one that is named; name one of the two".to_owned());
        } else if kept.terms.state.means() == Some(AgreementState::Terminated) || kept.terms.ends_at <= ctx.now {
            let shown = kept.terms.shown_state(agreement.spec.notice(), ctx.now);
            refuse(format!("is `{shown}`; name one that is in force"));
        } else if kept.terms.ends_at <= asked.valid_from {
            refuse("is over before the grant begins".to_owned());
        } else if !allows_purpose(&kept.terms.purposes, asked.purpose) {
            let field = FieldError::new(
                "purpose",
                match asked.purpose {
                    None => format!("is missing; agreement `{}` allows some purposes alone", agreement.name),
                    Some(_) => format!("is not one that agreement `{}` allows", agreement.name),
                },
            );
            if !wrong.contains(&field) {
                wrong.push(field);
            }
        } else {
            digest = digest.or(agreement.spec.document.sha256);
            found.push(NamedAgreement { name: agreement.name.to_string(), kept });
        }
    }
    if !wrong.is_empty() {
        return Err(ServiceError::Invalid(wrong));
    }
    let names: Vec<&str> = found.iter().map(|named| named.name.as_str()).collect();
    let valid_until = found.iter().map(|named| named.kept.terms.ends_at).min();
    Ok((Agreement { reference: names.join(", "), sha256: digest, valid_until }, found))
}

/// The agreement that a grant refers to in its own words: the one that such words have made before, or a new one. It is active
/// at once, and for any purpose.
pub(in crate::service) async fn referred_to(
    tx: &mut Tx,
    ctx: &OperatorContext,
    asked: AskedGrant<'_>,
    reference: &Agreement,
) -> Result<NamedAgreement, ServiceError> {
    refuse_interrupted(tx, asked, reference).await?;
    let ends_at = reference.valid_until.unwrap_or(asked.valid_until);
    for key in tx.list_agreements_ending_at(asked.recipient.id, ends_at, LOOKED_THROUGH).await? {
        if let Some((agreement, kept)) = find_agreement(tx, &key).await?
            && agreement.spec.kind.means() == Some(AgreementType::Custom)
            && agreement.spec.document.uri == reference.reference
            && agreement.spec.document.sha256 == reference.sha256
            && agreement.spec.purposes == [ANY_PURPOSE]
            && kept.terms.valid_from <= asked.valid_from
        {
            return Ok(NamedAgreement { name: agreement.name.to_string(), kept });
        }
    }
    let spec = AgreementSpec {
        recipient: asked.recipient.name.to_string(),
        kind: AgreementType::Custom.into(),
        document: AgreementDocument { uri: reference.reference.clone(), sha256: reference.sha256.clone() },
        purposes: vec![ANY_PURPOSE.to_owned()],
        classes: Vec::new(),
        regions: None,
        retention_days: None,
        subprocessors: Vec::new(),
        valid_from: ctx.now,
        valid_until: Some(ends_at),
        review_at: None,
        supersedes: None,
        notice_days: None,
        on_end: OnEnd::Deny.into(),
    };
    let name = free_name(tx, &reference.reference).await?;
    let agreement = Declared::new(name, spec, ctx.now);
    let terms = AgreementTerms {
        state: AgreementState::Active.into(),
        activated_at: Some(ctx.now),
        ..AgreementTerms::draft(&agreement, 0)
    };
    let kept = KeptTerms { recipient_id: asked.recipient.id, succession_id: agreement.id, terms };
    tx.insert_declared(&agreement).await?;
    let reason = format!("a grant refers to it, which ends at {}", timestamp(asked.valid_until));
    tx.insert_terms(&kept, &ctx.operator_name(), Some(&reason)).await?;
    let object = Object { kind: Kind::Agreement, id: Some(agreement.id), name: Some(agreement.name.to_string()) };
    let event = audited(None, Some(&agreement.spec))
        .and("state", None, Some(AgreementState::Active.as_str().into()))
        .because(&reason)
        .told_by(ctx.event(Action::AgreementCreate, object));
    let event = Event {
        agreement: Some(agreement.name.to_string()),
        recipient: Some(asked.recipient.name.to_string()),
        recipient_id: Some(asked.recipient.id),
        ..event
    };
    write::append(tx, event, ctx.now).await?;
    Ok(NamedAgreement { name: agreement.name.to_string(), kept })
}

/// Refuses words that lead to an agreement which people have suspended or terminated: others must not make it anew by them.
async fn refuse_interrupted(tx: &mut Tx, asked: AskedGrant<'_>, reference: &Agreement) -> Result<(), ServiceError> {
    let key = name_key(&reference.reference);
    for interrupted in tx.list_interrupted_agreements(asked.recipient.id, LOOKED_THROUGH).await? {
        let Some((agreement, _)) = find_agreement(tx, &interrupted).await? else { continue };
        if agreement.name.key() == key || agreement.spec.document.uri == reference.reference {
            let message = format!(
                "refers to what agreement `{}` is about, which is suspended or terminated; name agreements that are in force",
                agreement.name
            );
            return Err(ServiceError::invalid("agreement.ref", message));
        }
    }
    Ok(())
}

/// The reference as a name, if it can be one and is free, or else a name that nothing has.
async fn free_name(tx: &mut Tx, reference: &str) -> Result<Name, ServiceError> {
    if let Ok(name) = Name::parse(AgreementSpec::NAME, reference)
        && tx.find_declared::<AgreementSpec>(name.key()).await?.is_none()
    {
        return Ok(name);
    }
    let made = format!("agreement-{}", uuid::Uuid::now_v7().simple());
    Name::parse(AgreementSpec::NAME, &made).map_err(ServiceError::internal)
}
