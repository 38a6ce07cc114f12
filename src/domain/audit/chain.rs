//! Verifies the audit chain event by event: each must be bound to the one before.
//!
//! Holds the rules that events must follow. Never here: where events come from.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::{GENESIS, Head, commitment, link_hash, merkle::Frontier};

/// The first fault of the trail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("first bad sequence {seq}: {what}")]
pub struct Broken {
    /// The first sequence number that cannot be trusted.
    pub seq: i64,
    /// What is wrong there.
    pub what: String,
}

impl Broken {
    /// Creates the fault `what` at `seq`.
    pub fn at(seq: i64, what: impl Into<String>) -> Self {
        Self { seq, what: what.into() }
    }
}

/// An event to verify.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The place that it claims.
    pub seq: i64,
    /// The hash of the event before that it claims.
    pub prev_hash: [u8; 32],
    /// Its own hash that it claims.
    pub hash: [u8; 32],
    /// Its canonical text.
    pub body: &'a str,
    /// The salt and the text of its personal part, if available.
    pub personal: Option<(&'a [u8; 16], &'a str)>,
}

/// Walks along the chain.
#[derive(Clone, Debug)]
pub struct Walk {
    head: Head,
    tree: Option<Frontier>,
}

impl Walk {
    /// Starts at the beginning.
    pub fn from_start() -> Self {
        Self { head: Head { seq: 0, hash: GENESIS }, tree: Some(Frontier::default()) }
    }

    /// Continues after `head`; `tree` is the Merkle tree up to there, if known.
    pub fn behind(head: Head, tree: Option<Frontier>) -> Self {
        Self { head, tree }
    }

    /// The last event reached.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The tree of all events so far; `None` if the walk started without one.
    pub fn tree(&self) -> Option<&Frontier> {
        self.tree.as_ref()
    }

    /// The place of the next event.
    pub fn next_seq(&self) -> i64 {
        self.head.seq.saturating_add(1)
    }

    /// Verifies the next event.
    pub fn step(&mut self, event: Presented<'_>) -> Result<(), Broken> {
        self.take(event, |named: &Named<'_>| (Some(named.seq), named.personal.as_deref())).map(drop)
    }

    /// Verifies the next event and returns its parsed text.
    pub fn step_and_read(&mut self, event: Presented<'_>) -> Result<Value, Broken> {
        self.take(event, |body: &Value| (body["seq"].as_i64(), body["personal"].as_str()))
    }

    /// Verifies the next event and returns its text as a `T`; `named` reads the place and the commitment from it.
    fn take<'e, T: Deserialize<'e>>(
        &mut self,
        event: Presented<'e>,
        named: impl Fn(&T) -> (Option<i64>, Option<&str>),
    ) -> Result<T, Broken> {
        let seq = self.next_seq();
        if event.seq > seq {
            return Err(Broken::at(seq, "the event is missing"));
        }
        if event.seq < seq {
            return Err(Broken::at(event.seq, "an event was inserted where the chain has none"));
        }
        if event.prev_hash != self.head.hash {
            return Err(Broken::at(seq, "it is not bound to the event before"));
        }
        if link_hash(&event.prev_hash, event.body) != event.hash {
            return Err(Broken::at(seq, "its text is not what was hashed"));
        }
        let body: T = match serde_json::from_str(event.body) {
            Ok(body) if named(&body).0 == Some(seq) => body,
            Err(error) if !error.is_data() => return Err(Broken::at(seq, "its text is no JSON")),
            Ok(_) | Err(_) => return Err(Broken::at(seq, "its text names another sequence number")),
        };
        if let Some((salt, personal)) = event.personal
            && named(&body).1 != Some(commitment(salt, personal).as_str())
        {
            return Err(Broken::at(seq, "its personal part is not the one that its text commits to"));
        }
        self.head = Head { seq, hash: event.hash };
        if let Some(tree) = &mut self.tree {
            tree.push(event.hash);
        }
        Ok(body)
    }
}

/// The members of an event's text that bind it to its place and its personal part.
#[derive(Deserialize)]
struct Named<'a> {
    seq: i64,
    #[serde(borrow)]
    personal: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::audit::{Actor, Event, Link, Personal, action::Action};

    fn links(n: i64) -> Vec<Link> {
        let mut head = Head { seq: 0, hash: GENESIS };
        let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let personal = Personal { client_address: Some("198.51.100.7".into()), ..Personal::default() };
        let event = Event { personal, ..Event::new(Actor::ANONYMOUS, Action::SharesList) };
        (0..n).map(|_| head.append(&event, at)).collect()
    }

    fn walk(links: &[Link]) -> Result<Walk, Broken> {
        let mut walk = Walk::from_start();
        for link in links {
            let personal = link.personal.as_deref().map(|text| (&link.salt, text));
            let Link { seq, prev_hash, hash, ref body, .. } = *link;
            walk.step(Presented { seq, prev_hash, hash, body, personal })?;
        }
        Ok(walk)
    }

    #[test]
    fn a_chain_that_nobody_touched_is_walked_to_its_end() {
        let walk = walk(&links(9)).unwrap();
        assert_eq!((walk.head().seq, walk.tree().unwrap().size()), (9, 9));
    }

    #[test]
    fn every_kind_of_tampering_names_its_first_bad_event() {
        type Tampering = fn(&mut Vec<Link>);
        let tamperings: [(i64, Tampering); 6] = [
            (4, |links| links[3].body = links[3].body.replace("shares.list", "shares.lost")),
            (4, |links| drop(links.remove(3))),
            (3, |links| links.insert(3, links[2].clone())),
            (4, |links| links[3].personal = Some("{}".into())),
            (1, |links| links[0].prev_hash = [1; 32]),
            (5, |links| {
                // An edited event whose own hash was recomputed.
                links[3].body = links[3].body.replace("shares.list", "shares.lost");
                links[3].hash = link_hash(&links[3].prev_hash, &links[3].body);
            }),
        ];
        for (seq, tamper) in tamperings {
            let mut links = links(9);
            tamper(&mut links);
            assert_eq!(walk(&links).unwrap_err().seq, seq);
        }
    }

    #[test]
    fn an_erased_personal_part_is_no_fault() {
        let mut links = links(3);
        links[1].personal = None;
        assert!(walk(&links).is_ok());
    }
}
