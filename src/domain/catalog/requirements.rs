//! Requirements: what a shared object asks of whoever reads it, and which masks are in effect on it, because of the classes of
//! the columns that it shows and the controls of these classes.
//!
//! They are derived, and stored with the object: every change of a control, of a column's class or of the object writes them
//! anew, so that a decision finds them by key. Never here: whether somebody meets them ([`crate::domain::access::decision`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::{
    access::geography::GeoMode,
    core::{canonical::digest, seal::hex, word::AsWritten},
};

use super::{
    column::{Class, ClassifiedColumn, ColumnState},
    control::{ControlSpec, RawSharing},
    schema::{ColumnPath, DataType},
    view::{
        mask::{Mask, at_least, stricter},
        plan::ViewPlan,
    },
};

/// How long whoever tightened something may take back just that.
pub const UNDONE_WITHIN: TimeDelta = TimeDelta::hours(24);

/// The masks that are in effect instead of a view's own, by the name of the shown leaf.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectiveMasks(pub BTreeMap<String, Mask>);

impl EffectiveMasks {
    /// Whether every mask of the view is in effect.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mask in effect on the leaf shown as `name`, if it is another than the view's.
    pub fn get(&self, name: &ColumnPath) -> Option<&Mask> {
        if self.0.is_empty() { None } else { self.0.get(&name.to_string()) }
    }

    /// Their digest; `None` where there are none.
    pub fn digest(&self) -> Option<String> {
        // Names and masks always have a JSON.
        if self.is_empty() { None } else { digest(&self.0).ok() }
    }

    /// The stricter mask of both for each leaf.
    pub fn joined(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        for (name, mask) in &other.0 {
            let both = stricter(joined.0.get(name), Some(mask)).cloned();
            joined.0.extend(both.map(|mask| (name.clone(), mask)));
        }
        joined
    }

    /// Those of these masks that are stricter than `other`'s.
    fn beyond(&self, other: &Self) -> Self {
        let is_beyond = |(name, mask): &(&String, &Mask)| !at_least(other.0.get(*name), Some(mask));
        Self(self.0.iter().filter(is_beyond).map(|(name, mask)| (name.clone(), mask.clone())).collect())
    }
}

/// Masks that somebody's change brought, and that stay until a new publication, or until that person takes the change back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tightening {
    /// What was changed: `control:PHI`, `columns` of the table, or `approved` for what held when the version was first shared.
    pub cause: String,
    /// Who changed it.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The masks.
    pub masks: EffectiveMasks,
}

/// What somebody changes, and when; it may take back what the same person tightened by the same thing.
#[derive(Clone, Copy, Debug)]
pub struct TighteningCause<'a> {
    /// What is changed.
    pub cause: &'a str,
    /// Who changes it.
    pub by: &'a str,
    /// When.
    pub at: DateTime<Utc>,
}

/// The cause of what held when an object was put there or began to show another version.
pub const APPROVED: &str = "approved";
/// The most tightenings that are told apart; older ones stay for good.
const MOST_TIGHTENINGS: usize = 20;

/// What a shared object asks of whoever reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirements {
    /// The classes of which it shows values.
    pub classes: BTreeSet<String>,
    /// For each class that asks for agreements, the sets of types of which one is needed whole.
    pub agreements: BTreeMap<String, Vec<BTreeSet<String>>>,
    /// How many days a grant may last.
    pub max_grant_days: Option<u32>,
    /// Whether files go through the server.
    pub proxied: bool,
    /// How strictly the country of a request is checked.
    pub geo: Option<AsWritten<GeoMode>>,
    /// The class because of which it may not be read at all as it is shared.
    pub refused: Option<String>,
    /// How many of the columns that it shows have no confirmed class.
    pub unconfirmed: u64,
    /// The digest of the columns of the table that were known, for a table that is shared file by file.
    pub columns: Option<String>,
    /// The masks in effect instead of the view's own.
    pub masks: EffectiveMasks,
    /// What these masks come from. Stored beside, because no decision asks for it.
    #[serde(skip)]
    pub tightenings: Vec<Tightening>,
}

/// The classes of a table's columns, and the controls of classes.
#[derive(Debug, Default)]
pub struct Classified {
    columns: HashMap<String, ClassifiedColumn>,
    controls: HashMap<String, ControlSpec>,
}

impl Classified {
    /// The columns of one table, and every control by its class.
    pub fn new(
        columns: impl IntoIterator<Item = ClassifiedColumn>,
        controls: impl IntoIterator<Item = (String, ControlSpec)>,
    ) -> Self {
        Self {
            columns: columns.into_iter().map(|column| (column.path.clone(), column)).collect(),
            controls: controls.into_iter().collect(),
        }
    }

    /// The columns, those among them that the table no longer has: older versions show them.
    pub fn columns(&self) -> impl Iterator<Item = &ClassifiedColumn> {
        self.columns.values()
    }

    /// The class that counts for the column at `path`.
    fn class_of(&self, path: &str) -> Option<(&str, &ClassifiedColumn)> {
        let column = self.columns.get(path).filter(|column| column.counts())?;
        Some((column.spec.class.as_ref()?.as_str(), column))
    }

    /// The mask in effect on a leaf of a view.
    fn effective(&self, from: &str, own: Option<&Mask>, input: &DataType) -> Option<Mask> {
        let Some((class, column)) = self.class_of(from) else { return own.cloned() };
        if is_never_shown(class) {
            return Some(Mask::Null);
        }
        let Some(control) = self.controls.get(class) else { return own.cloned() };
        let least = control.min_mask.mask(class, &column.spec.role);
        let floor = match own {
            Some(_) => least,
            None => {
                let usual = control.default_mask.mask(class, &column.spec.role);
                stricter(least.as_ref(), usual.as_ref()).cloned()
            }
        };
        match floor {
            Some(floor) if !at_least(own, Some(&floor)) => Some(keeping_shown_type(&floor, own, input)),
            _ => own.cloned(),
        }
    }
}

/// Whether nobody is ever shown data of a class.
fn is_never_shown(class: &str) -> bool {
    AsWritten::<Class>::new(class).means() == Some(Class::PciSad)
}

/// `floor`, or a stricter mask that keeps the type which the column is shown with.
fn keeping_shown_type(floor: &Mask, own: Option<&Mask>, input: &DataType) -> Mask {
    let shown = own.and_then(|own| own.output_type(input).ok()).unwrap_or_else(|| input.clone());
    let redact = Mask::Redact { keep_nulls: false };
    let fits = |mask: &&Mask| mask.output_type(input).as_ref() == Ok(&shown) && at_least(Some(mask), Some(floor));
    [floor, &Mask::Null, &redact].into_iter().find(fits).cloned().unwrap_or(Mask::Null)
}

impl ClassifiedColumn {
    /// Whether its class counts: somebody confirmed it, or had until other data came to lie there.
    pub fn counts(&self) -> bool {
        match self.spec.state.means() {
            Some(ColumnState::Confirmed) => true,
            Some(ColumnState::Proposed) => self.decided.is_some(),
            Some(ColumnState::Rejected) => false,
            // Whatever it means, it is no reason to show more.
            None => true,
        }
    }

    /// Whether somebody confirmed its class.
    pub fn is_confirmed(&self) -> bool {
        self.spec.state.means() == Some(ColumnState::Confirmed)
    }
}

impl Requirements {
    /// What a view that shows `plan` asks for; `plan` has the view's own masks.
    pub fn of_view(plan: &ViewPlan, classified: &Classified) -> Self {
        let mut requirements = Self::default();
        for leaf in plan.shown() {
            let from = leaf.from.to_string();
            let input = match plan.pinned.source.lookup(&leaf.from) {
                Ok(found) => found.data_type.without_metadata(),
                Err(_) => leaf.data_type.clone(),
            };
            let effective = classified.effective(&from, leaf.mask.as_ref(), &input);
            if effective != leaf.mask
                && let Some(mask) = &effective
            {
                requirements.masks.0.insert(leaf.name.to_string(), mask.clone());
            }
            if !effective.as_ref().is_some_and(Mask::hides_all) {
                requirements.shows(&from, classified);
            }
        }
        requirements
    }

    /// What a table that is shared file by file asks for; `is_justified` where its object says why it is, `shows_past` where it
    /// shares older versions.
    pub fn of_table(classified: &Classified, is_justified: bool, shows_past: bool) -> Self {
        let mut requirements = Self::default();
        let shown = classified.columns().filter(|column| shows_past || column.gone_at.is_none());
        let mut paths: Vec<&str> = shown.map(|column| column.path.as_str()).collect();
        paths.sort_unstable();
        for path in &paths {
            requirements.shows(path, classified);
            let Some((class, _)) = classified.class_of(path) else { continue };
            let is_allowed = match classified.controls.get(class).map(ControlSpec::raw_sharing) {
                None | Some(RawSharing::Allow) => !is_never_shown(class),
                Some(RawSharing::Justify) => is_justified && !is_never_shown(class),
                Some(RawSharing::Refuse) => false,
            };
            if !is_allowed {
                requirements.refused = Some(class.to_owned());
            }
        }
        let is_there = |path: &&str| classified.columns.get(*path).is_some_and(|column| column.gone_at.is_none());
        requirements.columns = Some(columns_digest(paths.into_iter().filter(is_there)));
        requirements
    }

    /// Adds what follows from showing values of the column at `path`.
    fn shows(&mut self, path: &str, classified: &Classified) {
        let is_settled = |column: &ClassifiedColumn| column.is_confirmed() || column.gone_at.is_some();
        self.unconfirmed += u64::from(!classified.columns.get(path).is_some_and(is_settled));
        let Some((class, _)) = classified.class_of(path) else { return };
        self.classes.insert(class.to_owned());
        let Some(control) = classified.controls.get(class) else { return };
        let sets = control.requires.sets();
        if !sets.is_empty() {
            self.agreements.insert(class.to_owned(), sets);
        }
        self.max_grant_days = self.max_grant_days.into_iter().chain(control.max_grant_days).min();
        self.proxied |= control.is_proxied(class);
        self.geo = match (self.geo.take(), &control.geo) {
            (Some(one), Some(other)) => Some(stricter_geo(one, other.clone())),
            (one, other) => one.or_else(|| other.clone()),
        };
    }

    /// What is asked of an object that this server cannot make out: nobody reads it.
    pub fn refusing() -> Self {
        Self { refused: Some(String::new()), ..Self::default() }
    }

    /// These requirements, with masks that are `held` from before and are not taken back by `change`, which concerns only the
    /// shown `leaves` if there are some. Where nothing was held yet, they are what is approved.
    pub fn after(
        mut self,
        held: Option<&[Tightening]>,
        change: TighteningCause<'_>,
        leaves: Option<&BTreeSet<String>>,
    ) -> Self {
        let Some(held) = held else {
            if !self.masks.is_empty() {
                self.tightenings = vec![tightening(APPROVED, change, self.masks.clone())];
            }
            return self;
        };
        let kept_before = held;
        let mut kept = held.to_vec();
        for known in &mut kept {
            let is_young = change.at.signed_duration_since(known.at) <= UNDONE_WITHIN;
            if known.cause == change.cause && known.by == change.by && known.cause != APPROVED && is_young {
                known.masks.0.retain(|name, _| leaves.is_some_and(|leaves| !leaves.contains(name)));
            }
        }
        kept.retain(|known| !known.masks.is_empty());
        let held = kept.iter().fold(EffectiveMasks::default(), |held, known| held.joined(&known.masks));
        let new = self.masks.beyond(&held);
        if !new.is_empty() {
            // Doing the same again does not give more time to take it back.
            let is_same = |known: &&Tightening| {
                known.cause == change.cause && known.by == change.by && new.beyond(&known.masks).is_empty()
            };
            let at = kept_before.iter().filter(is_same).map(|known| known.at).min().unwrap_or(change.at);
            kept.push(tightening(change.cause, TighteningCause { at, ..change }, new));
        }
        while kept.len() > MOST_TIGHTENINGS {
            let oldest = kept.remove(0);
            if let Some(next) = kept.first_mut() {
                next.masks = next.masks.joined(&oldest.masks);
                next.cause = APPROVED.to_owned();
            }
        }
        self.masks = self.masks.joined(&held);
        self.tightenings = kept;
        self
    }

    /// A class for which no set of agreements is whole, with its sets, by whether there is an agreement of a type that covers
    /// the class.
    pub fn missing_agreement(&self, has: impl Fn(&str, &str) -> bool) -> Option<(&str, &[BTreeSet<String>])> {
        let is_met =
            |class: &str, sets: &[BTreeSet<String>]| sets.iter().any(|set| set.iter().all(|kind| has(kind, class)));
        let missing = self.agreements.iter().find(|(class, sets)| !is_met(class, sets));
        missing.map(|(class, sets)| (class.as_str(), sets.as_slice()))
    }

    /// How strictly the country of a request is checked; by a word that this server does not know as strictly as can be.
    pub fn geo_mode(&self) -> GeoMode {
        self.geo.as_ref().map_or(GeoMode::Off, |geo| geo.means().unwrap_or(GeoMode::Strict))
    }

    /// When a grant that begins then ends at the latest.
    pub fn grant_until(&self, valid_from: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let days = TimeDelta::try_days(self.max_grant_days?.into())?;
        valid_from.checked_add_signed(days)
    }

    /// Whether anything is asked of readers where classes need not be confirmed.
    pub fn asks(&self) -> bool {
        let known =
            Self { classes: BTreeSet::new(), unconfirmed: 0, columns: None, tightenings: Vec::new(), ..self.clone() };
        known != Self::default()
    }

    /// What changes for readers, without when and by whom.
    pub fn is_same_for_readers(&self, other: &Self) -> bool {
        Self { tightenings: Vec::new(), ..self.clone() } == Self { tightenings: Vec::new(), ..other.clone() }
    }
}

/// The digest of a table's columns, by their paths in order.
pub fn columns_digest<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for path in paths {
        digest.update(path.len().to_be_bytes());
        digest.update(path);
    }
    hex(&digest.finalize())
}

/// The stricter check; a word that this server does not know is the strictest.
fn stricter_geo(one: AsWritten<GeoMode>, other: AsWritten<GeoMode>) -> AsWritten<GeoMode> {
    match (one.means(), other.means()) {
        (Some(first), Some(second)) => {
            if first >= second {
                one
            } else {
                other
            }
        }
        (None, _) => one,
        (_, None) => other,
    }
}

fn tightening(cause: &str, change: TighteningCause<'_>, masks: EffectiveMasks) -> Tightening {
    Tightening { cause: cause.to_owned(), by: change.by.to_owned(), at: change.at, masks }
}
