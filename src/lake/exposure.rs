//! What a snapshot's list of files tells beyond what a query of it shows.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use percent_encoding::percent_decode_str;

use super::{Lake, Snapshot};

/// The largest table, in files, whose files are looked through without leaving the caller's thread.
const LOOKED_THROUGH_AT_ONCE: usize = 2_048;

/// What whoever gets all files of a snapshot, and their URLs, gets besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Rows that deletion vectors hide.
    pub deleted_rows: u64,
    /// Partition columns whose values stand in paths of files, in the table's order.
    pub partition_columns_in_paths: Vec<String>,
}

impl Lake {
    /// Looks through the files of `snapshot`, of which there may be many.
    pub async fn exposure(&self, snapshot: &Arc<Snapshot>) -> Exposure {
        if snapshot.files().len() <= LOOKED_THROUGH_AT_ONCE {
            return snapshot.exposure();
        }
        let own = Arc::clone(snapshot);
        match tokio::task::spawn_blocking(move || own.exposure()).await {
            Ok(exposure) => exposure,
            // Only a server that shuts down gives up on such a task; its callers are gone.
            Err(_) => snapshot.exposure(),
        }
    }
}

impl Snapshot {
    fn exposure(&self) -> Exposure {
        let logical = &self.metadata().partition_columns;
        let columns: Vec<(&String, &String)> = logical.iter().zip(self.files().partition_columns()).collect();
        let mut found = BTreeSet::new();
        let mut deleted_rows = 0u64;
        for file in self.files().iter() {
            let deleted = file.deletion_vector.map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or(0));
            deleted_rows = deleted_rows.saturating_add(deleted);
            if found.len() < columns.len() {
                let is_in_path = |(logical, physical): &(&String, &String)| {
                    has_value_of(file.path, logical) || has_value_of(file.path, physical)
                };
                found.extend(columns.iter().enumerate().filter(|(_, names)| is_in_path(names)).map(|(index, _)| index));
            }
        }
        let partition_columns_in_paths = found.into_iter().map(|index| columns[index].0.clone()).collect();
        Exposure { deleted_rows, partition_columns_in_paths }
    }
}

/// Whether a folder in `path` is named after the column `name` and a value of it. Writers escape names in folders, and
/// the log escapes paths once more.
fn has_value_of(path: &str, name: &str) -> bool {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').any(|folder| {
        let once = decoded(folder);
        let Some((written, _)) = once.split_once('=') else { return false };
        written == name || decoded(written) == name
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::has_value_of;

    #[test]
    fn folders_named_after_a_column_tell_its_values() {
        for path in ["plan=HMO/a.parquet", "x/plan=/a.parquet", "plan%3DHMO/a", "y=1/plan=a%252Fb/c", "p%6Can=1/a"] {
            assert!(has_value_of(path, "plan"), "{path}");
        }
        for path in ["a.parquet", "plan=HMO.parquet", "plans=1/a", "plan/HMO/a", "a/xplan=1/b", "%ff=1/a", ""] {
            assert!(!has_value_of(path, "plan"), "{path}");
        }
        // The writer's escape of `a:b`, as it is and escaped again by the log.
        assert!(has_value_of("a%253Ab=1/f", "a:b") && has_value_of("a%3Ab=1/f", "a:b"));
    }
}
