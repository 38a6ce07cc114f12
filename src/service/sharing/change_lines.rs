//! The lines of an answer about changes, a commit at a time.

use std::{ops::Range, sync::Arc};

use crate::{
    domain::catalog::delta::{Metadata, Protocol},
    lake::{Changes, Commit, Feed, FileAction, Outline},
    service::core::error::ServiceError,
};

use super::Disclosed;

/// The actions besides files that an answer includes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tells {
    pub(super) metadata: bool,
    pub(super) protocol: bool,
}

/// The lines of a range of commits that are still to be answered.
#[derive(Debug)]
pub struct ChangeLines {
    changes: Changes,
    feed: Feed,
    tells: Tells,
    /// The remaining parts in reverse order: the next is the last.
    left: Vec<Part>,
}

/// The part of one version that an answer lists.
#[derive(Clone, Debug)]
struct Part {
    /// The index of the version in the range.
    index: usize,
    /// The range of its files.
    files: Range<usize>,
    /// Whether this part includes the version's other actions.
    tells: bool,
}

impl ChangeLines {
    /// Cuts a range to the page that begins after `position` files, and returns where the next page begins. Only files
    /// count towards a page's size.
    pub(super) fn cut(
        changes: Changes,
        feed: Feed,
        tells: Tells,
        most: usize,
        position: usize,
    ) -> (Self, Disclosed, Option<usize>) {
        let all: usize = changes.outlines().iter().map(|outline| outline.n_files).sum();
        let begin = position.min(all);
        let end = begin.saturating_add(most).min(all);
        let mut left = Vec::new();
        let mut disclosed = Disclosed { files: end - begin, rows: None, bytes: 0 };
        let mut before = 0;
        for (index, outline) in changes.outlines().iter().enumerate() {
            let after = before + outline.n_files;
            let files = begin.clamp(before, after) - before..end.clamp(before, after) - before;
            // A version's other actions come with its first file, or in their place if it has no files.
            let tells = index > 0 && begin <= before && (before < end || end == all);
            if !files.is_empty() || tells {
                disclosed.bytes += share_of(outline, files.len());
                left.push(Part { index, files, tells });
            }
            before = after;
        }
        left.reverse();
        (Self { changes, feed, tells, left }, disclosed, (end < all).then_some(end))
    }

    /// Returns the next lines of one version, for at most `most` files; `None` after the last.
    pub(super) async fn next(&mut self, most: usize) -> Result<Option<CommitLines>, ServiceError> {
        let Some(mut part) = self.left.pop() else { return Ok(None) };
        let missing = || ServiceError::internal("a version of the range is gone");
        let outline = self.changes.outlines().get(part.index).cloned().ok_or_else(missing)?;
        // Replacing a file's deletion vector removes and adds the file; both must be signed together.
        let most = if outline.has_deletion_vectors { part.files.len() } else { most };
        let now = part.files.start..part.files.end.min(part.files.start + most);
        let tells = part.tells;
        if now.end < part.files.end {
            part = Part { files: now.end..part.files.end, tells: false, ..part };
            self.left.push(part.clone());
        }
        let commit = self.changes.commit(part.index).await?.ok_or_else(missing)?;
        let protocol = outline.protocol.filter(|_| tells && self.tells.protocol);
        let metadata = outline.metadata.filter(|_| tells && self.tells.metadata);
        Ok(Some(CommitLines { commit, feed: self.feed, files: now, protocol, metadata }))
    }
}

/// Estimates the bytes of some of a version's files from the sum of all.
fn share_of(outline: &Outline, n_files: usize) -> u64 {
    if n_files == outline.n_files {
        return outline.bytes;
    }
    outline.bytes / super::as_u64(outline.n_files.max(1)) * super::as_u64(n_files)
}

/// The lines of one commit.
#[derive(Debug)]
pub struct CommitLines {
    /// The commit.
    pub commit: Arc<Commit>,
    /// A new protocol to include.
    pub protocol: Option<Arc<Protocol>>,
    /// New metadata to include.
    pub metadata: Option<Arc<Metadata>>,
    feed: Feed,
    files: Range<usize>,
}

impl CommitLines {
    /// Returns the files to list.
    pub fn files(&self) -> impl Iterator<Item = &FileAction> + Clone + Send {
        // Selecting the files again costs less than keeping them.
        let selected: Vec<&FileAction> = self.commit.selected(self.feed).collect();
        let files = selected.get(self.files.clone()).map(<[_]>::to_vec).unwrap_or_default();
        files.into_iter()
    }
}
