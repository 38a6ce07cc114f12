//! Finds what should be told before somebody asks: endings, bursts of refusals, checkpoints that are late.
//!
//! Never here: to whom, which [`super::signals`] says.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        access::limits::span,
        audit::{Outcome, timestamp},
        insight::signal::{Signal, SignalKind, days_of_notice, longest_notice},
    },
    service::core::error::ServiceError,
    store::{AuditFilter, EndingToken, NamedGrant, Order},
};

use super::Insight;

/// The number of rows read at a time.
const PAGE: u32 = 500;

fn token_ending(EndingToken { token, recipient }: &EndingToken, now: DateTime<Utc>) -> Option<Signal> {
    let (began_at, ends_at) = (token.activated_at?, token.expires_at?);
    let days = days_of_notice(began_at, ends_at, now)?;
    Some(Signal {
        kind: SignalKind::TokenEnding,
        subject: token.id.to_string(),
        mark: days.to_string(),
        data: json!({
            "token_id": token.id, "credential": token.credential, "recipient": recipient,
            "recipient_id": token.recipient_id, "ends_at": timestamp(ends_at), "days": days,
        }),
    })
}

fn grant_ending(NamedGrant { grant, share, recipient, .. }: &NamedGrant, now: DateTime<Utc>) -> Option<Signal> {
    let days = days_of_notice(grant.created_at.max(grant.valid_from), grant.valid_until, now)?;
    Some(Signal {
        kind: SignalKind::GrantEnding,
        subject: grant.id.to_string(),
        mark: days.to_string(),
        data: json!({
            "grant_id": grant.id, "share": share, "share_id": grant.share_id, "recipient": recipient,
            "recipient_id": grant.recipient_id, "ends_at": timestamp(grant.valid_until), "days": days,
        }),
    })
}

fn agreement_ending(NamedGrant { grant, recipient, .. }: &NamedGrant, now: DateTime<Utc>) -> Option<Signal> {
    let agreement = grant.agreement.as_ref()?;
    let ends_at = grant.agreement_end(now)?;
    let days = days_of_notice(grant.created_at, ends_at, now)?;
    Some(Signal {
        kind: SignalKind::AgreementEnding,
        // An agreement is told once, however many grants refer to it.
        subject: format!("{} {}", grant.recipient_id, agreement.reference),
        mark: format!("{days} {}", timestamp(ends_at)),
        data: json!({
            "agreement": agreement.reference, "recipient": recipient, "recipient_id": grant.recipient_id,
            "ends_at": timestamp(ends_at), "days": days,
        }),
    })
}

impl Insight {
    /// Tells tokens, grants and agreements that end soon.
    pub async fn tell_endings(&self) -> Result<(), ServiceError> {
        let now = self.core.clock.now();
        let until = now + longest_notice();
        let mut found = Vec::new();
        if self.core.signals.want(SignalKind::TokenEnding) {
            let mut after = Uuid::nil();
            loop {
                let page = self.core.db.list_ending_tokens(now, until, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.token.id;
                found.extend(page.iter().filter_map(|ending| token_ending(ending, now)));
            }
        }
        if self.core.signals.want(SignalKind::GrantEnding) {
            let mut after = Uuid::nil();
            loop {
                let page = self.core.db.list_ending_grants(now, until, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.grant.id;
                found.extend(page.iter().filter_map(|grant| grant_ending(grant, now)));
            }
        }
        if self.core.signals.want(SignalKind::AgreementEnding) {
            let mut after = Uuid::nil();
            loop {
                let page = self.core.db.list_grants_of_ending_agreements(now, until, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.grant.id;
                found.extend(page.iter().filter_map(|grant| agreement_ending(grant, now)));
            }
        }
        self.core.signals.tell_once(&self.core.db, found, now).await
    }

    /// Tells callers that were refused more often in the last minutes than the settings allow.
    pub async fn tell_denials(&self) -> Result<(), ServiceError> {
        if !self.core.signals.want(SignalKind::DenialsBurst) {
            return Ok(());
        }
        let now = self.core.clock.now();
        let window = span(self.core.signals.settings.denials_window_seconds);
        // Taken out while it is in use; if this fails, the next run reads the whole window again.
        let mut denials = std::mem::take(&mut self.core.signals.memory().denials);
        let head = self.core.db.find_audit_head().await?;
        let mut after = match denials.after {
            Some(after) => after,
            None => self.core.db.find_last_seq_before(now - window).await?.unwrap_or_default(),
        };
        loop {
            let filter = AuditFilter {
                decision: Some(Outcome::Deny),
                after_seq: Some(after),
                order: Order::Ascending,
                ..AuditFilter::default()
            };
            let page = self.core.db.list_audit(&filter, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            page.iter().for_each(|event| denials.add(event));
        }
        denials.after = Some(after.max(head.seq));
        let sums = denials.sums(now - window);
        self.core.signals.memory().denials = denials;
        let mut found = Vec::new();
        for (recipient_id, tally) in sums {
            let subject = recipient_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
            let is_burst = tally.count >= self.core.signals.settings.denials;
            if is_burst && !self.core.db.was_noticed(SignalKind::DenialsBurst, &subject, now - window).await? {
                found.push(Signal {
                    kind: SignalKind::DenialsBurst,
                    subject,
                    mark: (now.timestamp() / window.num_seconds().max(1)).to_string(),
                    data: json!({
                        "recipient": tally.recipient, "recipient_id": recipient_id, "denials": tally.count,
                        "window_seconds": window.num_seconds(), "reasons": tally.reasons,
                    }),
                });
            }
        }
        self.core.signals.tell_once(&self.core.db, found, now).await
    }

    /// Measures how long events wait to be sealed and checkpoints to be exported, and tells if that is too long.
    pub async fn watch_checkpoints(&self) -> Result<(), ServiceError> {
        let now = self.core.clock.now();
        let sealed = self.core.db.find_last_checkpoint().await?.map_or(0, |checkpoint| checkpoint.seq);
        let unsealed = self.core.db.list_chain(sealed, 1).await?.into_iter().next().map(|(_, waiting)| waiting.at);
        let unexported = match self.core.signals.exported_within {
            Some(_) => self.core.db.list_unexported_checkpoints(1).await?.into_iter().next(),
            None => None,
        };
        let age = |since: Option<DateTime<Utc>>| since.map_or(TimeDelta::zero(), |since| now - since);
        self.core.metrics.audit_waits(age(unsealed), age(unexported.as_ref().map(|waiting| waiting.created_at)));
        if !self.core.signals.want(SignalKind::CheckpointLate) {
            return Ok(());
        }
        let late = |what: &'static str, through: i64, since: DateTime<Utc>| Signal {
            kind: SignalKind::CheckpointLate,
            subject: what.to_owned(),
            mark: through.to_string(),
            data: json!({"what": what, "through_seq": through, "waiting_since": timestamp(since)}),
        };
        let mut found = Vec::new();
        if let Some(since) = unsealed.filter(|since| now - *since > self.core.signals.sealed_within) {
            found.push(late("unsealed", sealed, since));
        }
        if let (Some(within), Some(waiting)) = (self.core.signals.exported_within, unexported)
            && now - waiting.created_at > within
        {
            found.push(late("unexported", waiting.previous_seq, waiting.created_at));
        }
        self.core.signals.tell_once(&self.core.db, found, now).await
    }
}
