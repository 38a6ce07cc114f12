//! A temporary folder for a drill.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use uuid::Uuid;

use crate::cli::print;

/// A new folder that only this user can read; removed when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Creates it in `place`, or in the machine's folder for temporary files.
    pub(super) fn new(place: Option<&Path>) -> anyhow::Result<Self> {
        let place = place.map_or_else(std::env::temp_dir, Path::to_owned);
        let place = place.canonicalize().with_context(|| format!("`{}` is no folder", place.display()))?;
        if place.to_str().is_none_or(|place| place.contains(['%', '?', '#'])) {
            bail!(
                "the path of `{}` holds characters that do not fit in a URL; name another with --scratch",
                place.display()
            );
        }
        let path = place.join(format!("weir-drill-{}", Uuid::new_v4()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("`{}` cannot be made; name another place with --scratch", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            print::note(format_args!("`{}` cannot be removed: {error}; remove it, it holds a copy", self.0.display()));
        }
    }
}
