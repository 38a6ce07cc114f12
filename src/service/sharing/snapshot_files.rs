//! The files of a version that an answer lists, without a copy of them.

use std::{ops::Range, sync::Arc};

use crate::{
    lake::{FileRef, LakeError, Snapshot},
    service::core::error::ServiceError,
};

use super::delivery::{SignedUrls, Signer};

/// The files of a snapshot that an answer contains.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// All of them, in the snapshot's order.
    All(usize),
    /// These, in this order.
    These(Vec<u32>),
}

impl Chosen {
    /// Returns the number of files.
    pub fn len(&self) -> usize {
        match self {
            Self::All(len) => *len,
            Self::These(indices) => indices.len(),
        }
    }

    /// Returns whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn iter(&self, range: Range<usize>) -> impl Iterator<Item = usize> + Clone + '_ {
        range.map(move |position| match self {
            Self::All(_) => position,
            Self::These(indices) => indices.get(position).map_or(usize::MAX, |index| *index as usize),
        })
    }
}

/// Files of a snapshot that an answer lists. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    snapshot: Arc<Snapshot>,
    chosen: Arc<Chosen>,
}

impl SnapshotFiles {
    pub(super) fn new(snapshot: Arc<Snapshot>, chosen: Chosen) -> Self {
        Self { snapshot, chosen: Arc::new(chosen) }
    }

    /// Returns the number of files.
    pub(super) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Returns the files at these positions of the answer.
    pub fn get(&self, range: Range<usize>) -> impl Iterator<Item = FileRef<'_>> + Clone {
        self.chosen.iter(range).filter_map(|index| self.snapshot.files().get(index))
    }

    pub(super) async fn sign(&self, signer: &Signer, range: Range<usize>) -> Result<SignedUrls, ServiceError> {
        signer.sign(self.get(range).map(|file| (file.path, file.deletion_vector))).await
    }

    /// Refuses paths that are not served, before the first line leaves. Few tables have any; for the others it costs
    /// nothing.
    pub(super) fn require_served(&self) -> Result<(), ServiceError> {
        if !self.snapshot.files().has_refused() {
            return Ok(());
        }
        match self.get(0..self.len()).find_map(|file| file.refusal()) {
            Some(reason) => Err(LakeError::PathNotServed { location: String::new(), reason }.into()),
            None => Ok(()),
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        match *self.chosen {
            Chosen::All(_) => self.snapshot.size_bytes(),
            Chosen::These(_) => self.get(0..self.len()).fold(0, |sum, file| sum.saturating_add(file.size)),
        }
    }

    pub(super) fn rows(&self) -> Option<u64> {
        match *self.chosen {
            Chosen::All(_) => self.snapshot.rows(),
            Chosen::These(_) => self.get(0..self.len()).try_fold(0u64, |sum, file| sum.checked_add(file.live_rows()?)),
        }
    }
}
