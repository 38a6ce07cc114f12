//! Impact: what a change of a control or of classes means for what is shared: which columns change, and who is cut off.
//!
//! It is worked out for dry runs, with the function that decides. Never here: the change itself.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        access::{
            decision::{Reason, decide_grant},
            recipient::RecipientState,
        },
        catalog::{
            requirements::Requirements,
            share::{Share, SharedObject},
            table::Table,
            view::mask::Mask,
        },
    },
    service::{core::error::ServiceError, materialize::plan_of},
    store::GrantFilter,
};

use super::Catalog;

/// The most grants of one share that are looked at.
const MOST_GRANTS: u32 = 1_000;

/// An object with what it asked for and what it asks for then.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) share: Share,
    pub(super) object: SharedObject,
    pub(super) table: Table,
    pub(super) before: Option<Requirements>,
    pub(super) after: Requirements,
}

/// What a change means for what is shared.
#[derive(Clone, Debug, Default)]
pub struct Impact {
    /// The objects that it reaches.
    pub objects: Vec<ImpactedObject>,
}

/// What a change means for one object.
#[derive(Clone, Debug)]
pub struct ImpactedObject {
    /// `share.schema.name`.
    pub object: String,
    /// The shown columns whose mask changes, with what is in effect before and after.
    pub columns: Vec<ImpactedColumn>,
    /// Who reads it now and does not then, with the reason.
    pub cut_off: Vec<(String, Reason)>,
    /// Who does not read it now and does then.
    pub let_in: Vec<String>,
}

/// A shown column whose mask changes.
#[derive(Clone, Debug)]
pub struct ImpactedColumn {
    /// The name that readers see.
    pub name: String,
    /// The mask in effect before.
    pub before: Option<Mask>,
    /// The mask in effect after.
    pub after: Option<Mask>,
    /// Whether its type changes.
    pub is_retyped: bool,
}

impl Catalog {
    /// What is different for readers of these objects.
    pub(super) async fn impact_of(&self, settled: Vec<Settled>, now: DateTime<Utc>) -> Result<Impact, ServiceError> {
        let mut objects = Vec::new();
        for of in settled {
            if of.before.as_ref().is_some_and(|before| before.is_same_for_readers(&of.after)) {
                continue;
            }
            let columns = self.impacted_columns(&of).await?;
            let (cut_off, let_in) = self.impacted_readers(&of, now).await?;
            let object = format!("{}.{}.{}", of.share.name, of.object.schema, of.object.name);
            if !(columns.is_empty() && cut_off.is_empty() && let_in.is_empty()) {
                objects.push(ImpactedObject { object, columns, cut_off, let_in });
            }
        }
        Ok(Impact { objects })
    }

    async fn impacted_columns(&self, of: &Settled) -> Result<Vec<ImpactedColumn>, ServiceError> {
        let Some(view) = &of.object.view else { return Ok(Vec::new()) };
        let Some(version) = self.core.db.find_view_version(view.id, view.version).await? else {
            return Ok(Vec::new());
        };
        let pinned = plan_of(&version)?.pinned;
        let masks = of.before.as_ref().map(|before| before.masks.clone()).unwrap_or_default();
        // A plan that the masks do not fit is refused as a whole, which the readers are told.
        let (Ok(before), Ok(after)) = (pinned.plan_under(&masks), pinned.plan_under(&of.after.masks)) else {
            return Ok(Vec::new());
        };
        let pairs = before.shown().into_iter().zip(after.shown());
        let changed = pairs.filter(|(was, is)| was.mask != is.mask).map(|(was, is)| ImpactedColumn {
            is_retyped: was.data_type != is.data_type,
            name: was.name.to_string(),
            before: was.mask,
            after: is.mask,
        });
        Ok(changed.collect())
    }

    async fn impacted_readers(
        &self,
        of: &Settled,
        now: DateTime<Utc>,
    ) -> Result<(Vec<(String, Reason)>, Vec<String>), ServiceError> {
        let (mut cut_off, mut let_in) = (Vec::new(), BTreeSet::new());
        let filter = GrantFilter { share_id: Some(of.share.id), in_force_at: Some(now), ..GrantFilter::default() };
        for named in self.core.db.list_grants(&filter, None, MOST_GRANTS).await? {
            let recipient = self.core.db.find_recipient_by_id(named.grant.recipient_id).await?;
            if recipient.is_none_or(|recipient| recipient.state.means() != Some(RecipientState::Active)) {
                continue;
            }
            let purposes = of.table.spec.allowed_purposes.as_deref();
            let decided = |asked: Option<&Requirements>| {
                decide_grant(&named.grant, purposes, asked, self.require_classification, now).err()
            };
            match (decided(of.before.as_ref()), decided(Some(&of.after))) {
                (None, Some(reason)) => cut_off.push((named.recipient, reason)),
                (Some(_), None) => {
                    let_in.insert(named.recipient);
                }
                _ => {}
            }
        }
        cut_off.sort_by(|one, other| one.0.cmp(&other.0));
        Ok((cut_off, let_in.into_iter().collect()))
    }
}
