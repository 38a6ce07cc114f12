//! Registers agreements, and records that they begin, are interrupted and end.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    domain::{
        access::agreement::{AgreementSpec, AgreementState, AgreementStep, AgreementTerms, DeclaredAgreement},
        audit::{
            Event, Object,
            action::{Action, Kind},
        },
        core::{
            name::{NameKind, name_key},
            spec::tightened,
        },
    },
    service::{
        access::Access,
        audit::write,
        core::{
            change::{Named, Put, audited},
            context::OperatorContext,
            declared::{InUse, not_found},
            error::{FieldError, ServiceError},
            lookup,
            page::{Page, PageRequest},
            precondition::Precondition,
        },
    },
    store::{KeptTerms, Tx},
};

use super::{grant_agreements::find_agreement, grants::Effect, purposes};

/// The most grants under one agreement whose outstanding URLs are counted.
const MAX_GRANTS: u32 = 10_000;

/// An agreement with its state.
#[derive(Clone, Debug)]
pub struct KnownAgreement {
    /// The agreement.
    pub agreement: DeclaredAgreement,
    /// Its terms.
    pub terms: AgreementTerms,
}

impl KnownAgreement {
    /// Puts the two together; an agreement whose terms are not stored yet, as in a dry run, is a draft.
    pub(super) fn new(agreement: DeclaredAgreement, kept: Option<KeptTerms>) -> Self {
        let terms = kept.map_or_else(|| AgreementTerms::draft(&agreement, 0), |kept| kept.terms);
        Self { agreement, terms }
    }

    /// Its state as people are shown it.
    pub fn shown_state(&self, now: DateTime<Utc>) -> String {
        self.terms.shown_state(self.agreement.spec.notice(), now)
    }

    /// What events call it.
    pub(super) fn object(&self) -> Object {
        object_of(&self.agreement)
    }
}

fn object_of(agreement: &DeclaredAgreement) -> Object {
    Object { kind: Kind::Agreement, id: Some(agreement.id), name: Some(agreement.name.to_string()) }
}

/// Why an agreement moves, for the audit trail.
pub(super) struct Because<'a> {
    /// The reason.
    pub(super) reason: &'a str,
    /// The event of another system that moves it.
    pub(super) event: Option<Value>,
}

impl<'a> Because<'a> {
    fn of(reason: &'a str) -> Self {
        Self { reason, event: None }
    }
}

impl InUse for AgreementSpec {
    async fn users(
        tx: &mut Tx,
        _: &OperatorContext,
        agreement: &DeclaredAgreement,
    ) -> Result<Vec<String>, ServiceError> {
        let mut users = Vec::new();
        let grants = tx.count_grants_naming(agreement.id).await?;
        if grants > 0 {
            users.push(format!("stands behind {grants} grants, whose past needs it (terminate it instead)"));
        }
        if let Some(kept) = tx.find_terms(&[agreement.id]).await?.remove(&agreement.id) {
            let succession = tx.list_succession(kept.succession_id).await?;
            if succession.iter().any(|other| other.terms.position > kept.terms.position) {
                users.push("is superseded by another one (terminate it instead)".to_owned());
            }
            // Without it, the one before would decide again.
            if kept.terms.position > 0 && kept.terms.activated_at.is_some() {
                users.push("has taken the place of another one (terminate it instead)".to_owned());
            }
        }
        Ok(users)
    }

    /// Checks that recipient, purposes and predecessor are there and fit, and that what never changes has not changed.
    async fn settle(tx: &mut Tx, agreement: &DeclaredAgreement) -> Result<(), ServiceError> {
        let spec = &agreement.spec;
        let mut wrong = purposes::undeclared(tx, "purposes", &spec.purposes).await?;
        if !spec.is_reviewed_in_time(agreement.updated_at) {
            wrong.push(FieldError::new("review_at", "lies more than twelve months ahead"));
        }
        let before: Option<DeclaredAgreement> = tx.find_declared(agreement.name.key()).await?;
        match before {
            Some(before) => {
                if name_key(&before.spec.recipient) != name_key(&spec.recipient) {
                    let message = "never changes; register the other recipient's agreement under another name";
                    wrong.push(FieldError::new("recipient", message));
                }
                if before.spec.supersedes.as_deref().map(name_key) != spec.supersedes.as_deref().map(name_key) {
                    let message = "never changes; register an agreement that supersedes that one under another name";
                    wrong.push(FieldError::new("supersedes", message));
                }
                if let Some(kept) = tx.find_terms(&[before.id]).await?.remove(&before.id) {
                    wrong.extend(settled_terms(&before.spec, agreement, &kept.terms));
                }
            }
            None => match find_party(tx, &spec.recipient).await? {
                Some(recipient_id) => wrong.extend(unfit_predecessor(tx, agreement, recipient_id).await?),
                None => {
                    wrong.push(FieldError::new("recipient", lookup::no_recipient(tx, &spec.recipient).await?));
                }
            },
        }
        if wrong.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(wrong)) }
    }

    /// Stores what decisions ask of it.
    async fn derive(tx: &mut Tx, _: &OperatorContext, agreement: &DeclaredAgreement) -> Result<(), ServiceError> {
        if let Some(kept) = tx.find_terms(&[agreement.id]).await?.remove(&agreement.id) {
            let draft = AgreementTerms::draft(agreement, kept.terms.position);
            let AgreementTerms { valid_from, ends_at, purposes, kind, classes, .. } = draft;
            let terms = AgreementTerms { valid_from, ends_at, purposes, kind, classes, ..kept.terms };
            return Ok(tx.update_terms(&terms).await?);
        }
        let recipient_id = find_party(tx, &agreement.spec.recipient).await?.unwrap_or_default();
        let before = match &agreement.spec.supersedes {
            Some(name) => find_agreement(tx, name).await?.map(|(_, kept)| kept),
            None => None,
        };
        let (succession_id, position) =
            before.map_or((agreement.id, 0), |before| (before.succession_id, before.terms.position + 1));
        let terms = AgreementTerms::draft(agreement, position);
        Ok(tx.insert_terms(&KeptTerms { recipient_id, succession_id, terms }, "", None).await?)
    }

    fn tell(agreement: &DeclaredAgreement, event: Event) -> Event {
        Event { agreement: Some(agreement.name.to_string()), ..event }
    }
}

/// What a change would do to terms that no longer change: the beginning of one that has begun, by which the one before would
/// decide again, and everything that decides of one that was terminated.
fn settled_terms(before: &AgreementSpec, agreement: &DeclaredAgreement, terms: &AgreementTerms) -> Option<FieldError> {
    let after = &agreement.spec;
    let is_terminated = terms.state.means() == Some(AgreementState::Terminated);
    let is_same_end = before.valid_until == after.valid_until && before.review_at == after.review_at;
    let is_for_the_same = before.purposes == after.purposes && before.regions == after.regions;
    if is_terminated && (before.valid_from != after.valid_from || !is_same_end || !is_for_the_same) {
        let message = "is over for good, and its terms never change; register another agreement";
        return Some(FieldError::new("state", message));
    }
    let has_taken_over = terms.position > 0 && terms.begins().is_some_and(|at| at <= agreement.updated_at);
    (has_taken_over && before.valid_from != after.valid_from)
        .then(|| FieldError::new("valid_from", "never changes once the agreement has taken the place of another one"))
}

/// The id of the recipient that signs an agreement.
async fn find_party(tx: &mut Tx, recipient: &str) -> Result<Option<Uuid>, ServiceError> {
    match lookup::key(NameKind::Recipient, recipient) {
        Ok(key) => Ok(tx.find_recipient(&key).await?.map(|recipient| recipient.id)),
        Err(_) => Ok(None),
    }
}

/// What is wrong with the agreement whose place a new one takes.
async fn unfit_predecessor(
    tx: &mut Tx,
    agreement: &DeclaredAgreement,
    recipient_id: Uuid,
) -> Result<Option<FieldError>, ServiceError> {
    let Some(name) = &agreement.spec.supersedes else { return Ok(None) };
    let wrong = |message: String| Ok(Some(FieldError::new("supersedes", message)));
    let Some((_, before)) = find_agreement(tx, name).await? else {
        return wrong(format!("names no agreement; register it with PUT /agreements/{name}"));
    };
    if before.recipient_id != recipient_id {
        return wrong("is an agreement with another recipient".to_owned());
    }
    if before.terms.state.means() == Some(AgreementState::Terminated) {
        return wrong("is terminated, and stays so; register an agreement of its own, and grant by that".to_owned());
    }
    let newest = tx.list_succession(before.succession_id).await?.pop();
    match newest.filter(|newest| newest.terms.agreement_id != before.terms.agreement_id) {
        Some(_) => wrong("is superseded already; name the agreement that superseded it".to_owned()),
        None => Ok(None),
    }
}

impl Access {
    /// Registers an agreement as a draft, or confirms that it is as described.
    pub async fn put_agreement(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Put<KnownAgreement>, ServiceError> {
        Ok(match self.core.put_declared::<AgreementSpec>(ctx, name, named).await? {
            Put::Created(agreement) => Put::Created(self.with_terms(agreement).await?),
            Put::Confirmed(agreement) => Put::Confirmed(self.with_terms(agreement).await?),
        })
    }

    /// An agreement.
    pub async fn get_agreement(&self, ctx: &OperatorContext, name: &str) -> Result<KnownAgreement, ServiceError> {
        let agreement = self.core.read_declared::<AgreementSpec>(ctx, name).await?;
        self.with_terms(agreement).await
    }

    /// Agreements by name.
    pub async fn list_agreements(
        &self,
        ctx: &OperatorContext,
        page: &PageRequest,
    ) -> Result<Page<KnownAgreement>, ServiceError> {
        let Page { items, next_page_token } = self.core.list_declared::<AgreementSpec>(ctx, page).await?;
        let ids: Vec<Uuid> = items.iter().map(|agreement| agreement.id).collect();
        let mut kept: HashMap<Uuid, KeptTerms> = self.core.db.find_terms(&ids).await?;
        let known = items.into_iter().map(|agreement| {
            let kept = kept.remove(&agreement.id);
            KnownAgreement::new(agreement, kept)
        });
        Ok(Page { items: known.collect(), next_page_token })
    }

    /// Changes an agreement's spec.
    pub async fn update_agreement(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<KnownAgreement, ServiceError> {
        let agreement = self.core.update_declared::<AgreementSpec>(ctx, name, condition, named).await?;
        self.with_terms(agreement).await
    }

    async fn with_terms(&self, agreement: DeclaredAgreement) -> Result<KnownAgreement, ServiceError> {
        let kept = self.core.db.find_terms(&[agreement.id]).await?.remove(&agreement.id);
        Ok(KnownAgreement::new(agreement, kept))
    }

    /// Takes an agreement a step further, and tells how many presigned URLs of its grants are still live. Terminating what
    /// is terminated changes nothing; every other step that its state does not allow is refused.
    pub async fn move_agreement(
        &self,
        ctx: &OperatorContext,
        name: &str,
        step: AgreementStep,
        reason: &str,
    ) -> Result<(KnownAgreement, Effect), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let found = find_agreement(tx, name).await?;
        let (agreement, kept) = found.ok_or_else(|| not_found::<AgreementSpec>(name))?;
        let grants = tx.list_grants_under(kept.succession_id, MAX_GRANTS).await?;
        let outstanding = tx.find_outstanding_of_grants(&grants, ctx.now).await?;
        let effect = |at| Effect::new(at, outstanding);
        let Some(to) = next_state(&kept, step, ctx) else {
            let shown = kept.terms.shown_state(agreement.spec.notice(), ctx.now);
            let message = format!("agreement `{name}` is `{shown}`, so it cannot be {}", step.as_str());
            return Err(ServiceError::conflict(message));
        };
        if kept.terms.state.means() == Some(to) {
            let since = kept.terms.state_since;
            return Ok((KnownAgreement::new(agreement, Some(kept)), effect(since)));
        }
        let known = move_in(tx, ctx, agreement, &kept, (step, to), Because::of(reason)).await?;
        let ctx = unit.commit().await?;
        Ok((known, effect(ctx.now)))
    }
}

/// The state to which a step leads; `None` where it is not allowed. From a state that only a newer server knows, an agreement
/// can be terminated.
fn next_state(kept: &KeptTerms, step: AgreementStep, ctx: &OperatorContext) -> Option<AgreementState> {
    match kept.terms.state.means() {
        Some(state) => state.after(step, kept.terms.ends_at <= ctx.now),
        None => (step == AgreementStep::Terminate).then_some(AgreementState::Terminated),
    }
}

/// Brings an agreement to another state; the transaction must hold the chain's lock.
pub(super) async fn move_in(
    tx: &mut Tx,
    ctx: &OperatorContext,
    agreement: DeclaredAgreement,
    kept: &KeptTerms,
    (step, to): (AgreementStep, AgreementState),
    Because { reason, event: origin }: Because<'_>,
) -> Result<KnownAgreement, ServiceError> {
    let before = &kept.terms;
    let activated_at = match step {
        AgreementStep::Activate => Some(before.activated_at.unwrap_or(ctx.now)),
        _ => before.activated_at,
    };
    let terms = AgreementTerms { state: to.into(), state_since: ctx.now, activated_at, ..before.clone() };
    let agreement = tx.update_declared(DeclaredAgreement { updated_at: ctx.now, ..agreement }).await?;
    tx.move_agreement(&terms, &ctx.operator_name(), reason).await?;
    let mut change = json!({"before": {"state": before.state}, "after": {"state": terms.state}, "reason": reason});
    if let Some(origin) = origin {
        change["event"] = origin;
    }
    let object = object_of(&agreement);
    let event = Event {
        change: Some(change),
        agreement: Some(agreement.name.to_string()),
        recipient: Some(agreement.spec.recipient.clone()),
        recipient_id: Some(kept.recipient_id),
        ..ctx.event(step.action(), object)
    };
    write::append(tx, event, ctx.now).await?;
    Ok(KnownAgreement { agreement, terms })
}

/// Sets again what the terms of an agreement were tightened to before the database was restored; false where nothing is
/// tighter by it, or the agreement is not there. The transaction must hold the chain's lock.
pub(in crate::service) async fn tighten_terms(
    tx: &mut Tx,
    ctx: &OperatorContext,
    (name, id): (&str, Uuid),
    recorded: &Map<String, Value>,
    reason: &str,
) -> Result<bool, ServiceError> {
    let found = find_agreement(tx, name).await?.filter(|(agreement, _)| agreement.id == id);
    let Some((before, kept)) = found else { return Ok(false) };
    let spec = tightened(&before.spec, recorded);
    if spec == before.spec {
        return Ok(false);
    }
    let after = DeclaredAgreement { spec, updated_at: ctx.now, ..before.clone() };
    let after = tx.update_declared(after).await?;
    AgreementSpec::derive(tx, ctx, &after).await?;
    let object = object_of(&after);
    let event = audited(Some(&before.spec), Some(&after.spec))
        .because(reason)
        .told_by(ctx.event(Action::AgreementUpdate, object));
    let event = Event {
        agreement: Some(after.name.to_string()),
        recipient: Some(after.spec.recipient),
        recipient_id: Some(kept.recipient_id),
        ..event
    };
    write::append(tx, event, ctx.now).await?;
    Ok(true)
}

/// Suspends or terminates an agreement again that was before the database was restored; false where it is already, or is not
/// there. The transaction must hold the chain's lock.
pub(in crate::service) async fn tighten(
    tx: &mut Tx,
    ctx: &OperatorContext,
    name: &str,
    id: Uuid,
    to: AgreementState,
    reason: &str,
) -> Result<bool, ServiceError> {
    let found = find_agreement(tx, name).await?.filter(|(agreement, _)| agreement.id == id);
    let Some((agreement, kept)) = found else { return Ok(false) };
    let known = kept.terms.state.means();
    if known == Some(to) || known == Some(AgreementState::Terminated) {
        return Ok(false);
    }
    let step = match to {
        AgreementState::Terminated => AgreementStep::Terminate,
        _ => AgreementStep::Suspend,
    };
    // It may have been activated since, and then took the place of the one before, which must not decide again.
    let activated_at = kept.terms.activated_at.or(Some(ctx.now));
    let kept = KeptTerms { terms: AgreementTerms { activated_at, ..kept.terms.clone() }, ..kept };
    move_in(tx, ctx, agreement, &kept, (step, to), Because::of(reason)).await?;
    Ok(true)
}
