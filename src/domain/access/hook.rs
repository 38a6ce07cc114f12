//! What a contract system tells of agreements, and what of it counts: messages come late, twice and out of order, and the
//! events' own times decide.
//!
//! Never here: signatures, which [`webhook`](crate::domain::insight::webhook) verifies, and the states of agreements, which
//! [`agreement`](super::agreement) has.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::domain::core::{
    message::{echoed, quoted},
    spec::{FieldError, LONGEST_KEY, LONGEST_TEXT, check_text},
};

use super::agreement::{AgreementState, AgreementStep, AgreementTerms};

/// The hook of the contract system, which audit events name as their actor.
pub const AGREEMENTS: &str = "agreements";
/// How far the time of a message, or of an event, may be from the server's.
pub const TOLERANCE: TimeDelta = TimeDelta::minutes(5);
/// The longest id of a message, in bytes.
const LONGEST_ID: usize = 255;
/// How much of a parser's message is passed on, in characters.
const TOLD: usize = 200;

/// Why a hook's message was refused, or changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookReason {
    /// No signature is one of the hook's secrets'.
    SignatureInvalid,
    /// It was signed too long ago, or by a clock that is ahead.
    SignatureExpired,
    /// It names no agreement.
    AgreementUnknown,
    /// A newer event was taken before it.
    EventOutdated,
    /// The agreement's state does not allow the step.
    StepNotAllowed,
}

impl HookReason {
    /// The stable code in the audit trail.
    pub fn code(self) -> &'static str {
        match self {
            Self::SignatureInvalid => "SIGNATURE_INVALID",
            Self::SignatureExpired => "SIGNATURE_EXPIRED",
            Self::AgreementUnknown => "AGREEMENT_UNKNOWN",
            Self::EventOutdated => "EVENT_OUTDATED",
            Self::StepNotAllowed => "STEP_NOT_ALLOWED",
        }
    }
}

/// A message's headers as they came; empty where they are missing.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signatures: String,
}

impl Envelope {
    /// When the message was signed, in seconds since 1970; refuses one whose headers cannot be those of a fresh message.
    pub fn signed_at(&self, now: DateTime<Utc>) -> Result<i64, HookReason> {
        let is_id = (1..=LONGEST_ID).contains(&self.id.len()) && self.id.bytes().all(|b| b.is_ascii_graphic());
        let seconds: i64 = match self.timestamp.parse() {
            Ok(seconds) if is_id && !self.signatures.is_empty() => seconds,
            _ => return Err(HookReason::SignatureInvalid),
        };
        let is_fresh = seconds.abs_diff(now.timestamp()) <= TOLERANCE.num_seconds().unsigned_abs();
        if is_fresh { Ok(seconds) } else { Err(HookReason::SignatureExpired) }
    }
}

/// The words for what a contract system tells, and the steps that they stand for.
const KINDS: [(&str, AgreementStep); 5] = [
    ("agreement.in_review", AgreementStep::Submit),
    ("agreement.activated", AgreementStep::Activate),
    ("agreement.suspended", AgreementStep::Suspend),
    ("agreement.resumed", AgreementStep::Resume),
    ("agreement.terminated", AgreementStep::Terminate),
];

/// The body of a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    occurred_at: DateTime<Utc>,
    agreement: String,
    reason: Option<String>,
}

/// Something that happened to an agreement in a contract system.
#[derive(Clone, Debug, PartialEq)]
pub struct HookEvent {
    /// What is done to the agreement by it.
    pub step: AgreementStep,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// The agreement's name.
    pub agreement: String,
    /// Why, for the audit trail.
    pub reason: String,
}

impl HookEvent {
    /// Reads a message's body.
    pub fn read(body: &[u8], now: DateTime<Utc>) -> Result<Self, Vec<FieldError>> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| vec![FieldError::new("body", echoed(&error.to_string(), TOLD))])?;
        let mut wrong = Vec::new();
        let step = KINDS.iter().find(|(word, _)| *word == body.kind).map(|(_, step)| *step);
        if step.is_none() {
            let known = quoted(KINDS.iter().map(|(word, _)| word));
            wrong.push(FieldError::new("type", format!("is none that is understood here; send {known}")));
        }
        // An event from the future would outdate what happens until then.
        if body.occurred_at > now + TOLERANCE {
            wrong.push(FieldError::new("occurred_at", "lies ahead; send the time at which it happened"));
        }
        for (field, text, longest) in
            [("agreement", Some(&body.agreement), LONGEST_KEY), ("reason", body.reason.as_ref(), LONGEST_TEXT)]
        {
            if let Some(Err(why)) = text.map(|text| check_text(text, longest)) {
                wrong.push(FieldError::new(field, why));
            }
        }
        let Body { kind, occurred_at, agreement, reason } = body;
        match step {
            Some(step) if wrong.is_empty() => {
                let reason = reason.unwrap_or_else(|| format!("the contract system told `{kind}`"));
                Ok(Self { step, occurred_at, agreement, reason })
            }
            _ => Err(wrong),
        }
    }
}

/// What is known of the order of an agreement's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventOrder {
    /// The own time of the newest event that counts.
    pub newest: Option<DateTime<Utc>>,
    /// When an event moved the agreement, if nobody else has moved it since.
    pub moved_at: Option<DateTime<Utc>>,
}

/// What an event means for an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It comes to this state.
    Moves(AgreementState),
    /// It is in the state already.
    Stays,
    /// What happened at this time, which is known, is newer.
    Outdated(DateTime<Utc>),
    /// Its state does not allow the step.
    NotAllowed,
}

impl Verdict {
    /// The time of the newest event, once this one is taken. A suspension counts even of an agreement that is not in force
    /// yet: an activation that happened before it and arrives later must not open what is suspended.
    pub fn newest(self, event: &HookEvent, order: EventOrder) -> Option<DateTime<Utc>> {
        let counts = match self {
            Self::Moves(_) | Self::Stays => event.step != AgreementStep::Submit,
            Self::NotAllowed => event.step == AgreementStep::Suspend,
            Self::Outdated(_) => false,
        };
        order.newest.max(counts.then_some(event.occurred_at))
    }
}

/// Says what an event means for an agreement with these terms. A termination counts whenever it comes; of everything else the
/// newest counts, and what opens must be newer than what has closed.
pub fn judge(event: &HookEvent, terms: &AgreementTerms, order: EventOrder, now: DateTime<Utc>) -> Verdict {
    let state = terms.state.means();
    if event.step == AgreementStep::Terminate {
        let is_over = state == Some(AgreementState::Terminated);
        return if is_over { Verdict::Stays } else { Verdict::Moves(AgreementState::Terminated) };
    }
    let Some(state) = state.filter(|state| *state != AgreementState::Terminated) else {
        return Verdict::NotAllowed;
    };
    let opens = matches!(event.step, AgreementStep::Activate | AgreementStep::Resume);
    if let Some(newest) = order.newest
        && (event.occurred_at < newest || (opens && event.occurred_at == newest && state != AgreementState::Active))
    {
        return Verdict::Outdated(newest);
    }
    // An operator's suspension counts from when it was made.
    let is_by_operator = order.moved_at != Some(terms.state_since);
    if event.step == AgreementStep::Resume
        && state == AgreementState::Suspended
        && is_by_operator
        && event.occurred_at <= terms.state_since
    {
        return Verdict::Outdated(terms.state_since);
    }
    let leads_to = match event.step {
        AgreementStep::Submit => AgreementState::InReview,
        AgreementStep::Suspend => AgreementState::Suspended,
        AgreementStep::Activate | AgreementStep::Resume => AgreementState::Active,
        AgreementStep::Terminate => AgreementState::Terminated,
    };
    match state.after(event.step, terms.ends_at <= now) {
        Some(to) => Verdict::Moves(to),
        None if state == leads_to => Verdict::Stays,
        None => Verdict::NotAllowed,
    }
}

/// What a message was answered, and is answered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOutcome {
    /// The agreement's name.
    pub agreement: String,
    /// The agreement's state after it, as people are shown it.
    pub state: String,
    /// Why it changed nothing; `None` if it did.
    pub why: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::access::agreement::tests::terms;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::minutes(minutes)
    }

    fn event(step: AgreementStep, minutes: i64) -> HookEvent {
        HookEvent { step, occurred_at: at(minutes), agreement: "baa".into(), reason: "r".into() }
    }

    /// An agreement in a state that it came to at a time, by an event or by an operator.
    fn in_state(state: AgreementState, since: i64) -> AgreementTerms {
        AgreementTerms { state: state.into(), state_since: at(since), ..terms(0, 0, 10) }
    }

    #[test]
    fn a_message_is_fresh_for_five_minutes_before_and_after() {
        let envelope = |id: &str, timestamp: i64, signatures: &str| {
            let [id, signatures] = [id, signatures].map(str::to_owned);
            Envelope { id, timestamp: timestamp.to_string(), signatures }.signed_at(at(0))
        };
        let now = at(0).timestamp();
        for ahead in [-300, 0, 300] {
            assert_eq!(envelope("msg", now + ahead, "v1,x"), Ok(now + ahead));
        }
        for ahead in [-301, 301, i64::MAX - now, -now] {
            assert_eq!(envelope("msg", now + ahead, "v1,x"), Err(HookReason::SignatureExpired), "{ahead}");
        }
        for (id, signatures) in [("", "v1,x"), ("msg", ""), ("a b", "v1,x"), ("ä", "v1,x"), (&"m".repeat(256), "v1,x")]
        {
            assert_eq!(envelope(id, now, signatures), Err(HookReason::SignatureInvalid), "{id}");
        }
        let odd = Envelope { id: "msg".into(), timestamp: "now".into(), signatures: "v1,x".into() };
        assert_eq!(odd.signed_at(at(0)), Err(HookReason::SignatureInvalid));
    }

    #[test]
    fn a_body_names_what_happened_when_and_to_which_agreement() {
        let body = json!({"type": "agreement.activated", "occurred_at": at(0), "agreement": "baa", "reason": "signed"});
        let read = |body: &Value| HookEvent::read(body.to_string().as_bytes(), at(0));
        let known = HookEvent { reason: "signed".into(), ..event(AgreementStep::Activate, 0) };
        assert_eq!(read(&body).unwrap(), known);
        for (field, value, named) in [
            ("type", json!("agreement.renewed"), "type"),
            ("type", json!(null), "body"),
            ("occurred_at", json!(at(6)), "occurred_at"),
            ("occurred_at", json!("yesterday"), "body"),
            ("agreement", json!("a\u{0}"), "agreement"),
            ("agreement", json!("a".repeat(300)), "agreement"),
            ("reason", json!("r".repeat(5_000)), "reason"),
            ("colour", json!("blue"), "body"),
        ] {
            let mut body = body.clone();
            body[field] = value;
            let wrong = read(&body).unwrap_err();
            assert_eq!(wrong.iter().map(|wrong| wrong.field.as_str()).collect::<Vec<_>>(), [named], "{body}");
            assert!(wrong[0].message.chars().count() < 300, "{wrong:?}");
        }
        for body in ["", "[]", "{}", "{\"type\": \"agreement.activated\"", "\u{feff}{}"] {
            assert_eq!(HookEvent::read(body.as_bytes(), at(0)).unwrap_err()[0].field, "body");
        }
    }

    /// The steps' order is by their own time, whatever order they come in: whoever opens is the newest.
    #[test]
    fn of_all_orders_of_arrival_none_opens_what_was_closed_later() {
        use AgreementStep::{Activate, Resume, Suspend, Terminate};
        let told = [(Activate, 0), (Suspend, 10), (Resume, 20), (Suspend, 30), (Terminate, 40)];
        for length in 1..=told.len() {
            let told = &told[..length];
            let last = told[length - 1].0;
            for order_of_arrival in permutations(length) {
                let (mut terms, mut order) = (in_state(AgreementState::Draft, 0), EventOrder::default());
                for (received, index) in order_of_arrival.iter().enumerate() {
                    let (step, minutes) = told[*index];
                    let event = event(step, minutes);
                    let now = at(100 + i64::try_from(received).unwrap());
                    let verdict = judge(&event, &terms, order, now);
                    order.newest = verdict.newest(&event, order);
                    if let Verdict::Moves(to) = verdict {
                        order.moved_at = Some(now);
                        terms = AgreementTerms { state: to.into(), state_since: now, ..terms };
                    }
                }
                let state = terms.state.means().unwrap();
                match last {
                    Terminate => assert_eq!(state, AgreementState::Terminated, "{order_of_arrival:?}"),
                    Suspend => assert_ne!(state, AgreementState::Active, "{order_of_arrival:?}"),
                    // Whatever comes in its own order ends as it should.
                    _ if order_of_arrival.is_sorted() => {
                        assert_eq!(state, AgreementState::Active, "{order_of_arrival:?}");
                    }
                    _ => {}
                }
            }
        }
    }

    fn permutations(length: usize) -> Vec<Vec<usize>> {
        if length == 0 {
            return vec![Vec::new()];
        }
        let shorter = permutations(length - 1);
        let with = |shorter: &Vec<usize>, place: usize| {
            let mut longer = shorter.clone();
            longer.insert(place, length - 1);
            longer
        };
        shorter.iter().flat_map(|shorter| (0..length).map(move |place| with(shorter, place))).collect()
    }

    #[test]
    fn what_is_known_already_changes_nothing_and_what_is_over_stays_over() {
        use AgreementState::{Active, Draft, Suspended, Terminated};
        use AgreementStep::{Activate, Resume, Submit, Suspend, Terminate};
        let known = EventOrder { newest: Some(at(10)), moved_at: Some(at(11)) };
        for (state, step, minutes, verdict) in [
            (Active, Activate, 10, Verdict::Stays),
            (Active, Activate, 9, Verdict::Outdated(at(10))),
            (Active, Suspend, 9, Verdict::Outdated(at(10))),
            (Active, Suspend, 10, Verdict::Moves(Suspended)),
            (Suspended, Suspend, 12, Verdict::Stays),
            (Suspended, Resume, 10, Verdict::Outdated(at(10))),
            (Suspended, Resume, 12, Verdict::Moves(Active)),
            (Suspended, Activate, 12, Verdict::NotAllowed),
            (Draft, Suspend, 12, Verdict::NotAllowed),
            (Draft, Activate, 10, Verdict::Outdated(at(10))),
            (Draft, Terminate, 1, Verdict::Moves(Terminated)),
            (Active, Terminate, 1, Verdict::Moves(Terminated)),
            (Terminated, Terminate, 1, Verdict::Stays),
            (Terminated, Activate, 12, Verdict::NotAllowed),
            (Terminated, Resume, 12, Verdict::NotAllowed),
            (Active, Submit, 12, Verdict::NotAllowed),
        ] {
            let found = judge(&event(step, minutes), &in_state(state, 11), known, at(20));
            assert_eq!(found, verdict, "{state:?} {step:?} {minutes}");
        }
        // Its time is over.
        let late = judge(&event(Resume, 12), &in_state(Suspended, 11), known, at(20) + TimeDelta::days(10));
        assert_eq!(late, Verdict::NotAllowed);
        // Words of a newer server may be terminated, and nothing else.
        let newer =
            AgreementTerms { state: crate::domain::core::word::AsWritten::new("in_dispute"), ..terms(0, 0, 10) };
        assert_eq!(judge(&event(Resume, 12), &newer, known, at(20)), Verdict::NotAllowed);
        assert_eq!(judge(&event(Terminate, 1), &newer, known, at(20)), Verdict::Moves(Terminated));
    }

    #[test]
    fn an_operators_suspension_is_lifted_by_what_happened_later_alone() {
        let order = EventOrder { newest: Some(at(0)), moved_at: Some(at(1)) };
        let suspended = in_state(AgreementState::Suspended, 30);
        let resume = |minutes| judge(&event(AgreementStep::Resume, minutes), &suspended, order, at(60));
        assert_eq!((resume(29), resume(30)), (Verdict::Outdated(at(30)), Verdict::Outdated(at(30))));
        assert_eq!(resume(31), Verdict::Moves(AgreementState::Active));
    }
}
