//! Finds the data that a snapshot's file list discloses beyond the result of a query.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use percent_encoding::percent_decode_str;

use super::{Lake, Snapshot};

/// The largest table, in files, that is scanned on the caller's thread.
const LOOKED_THROUGH_AT_ONCE: usize = 2_048;

/// The data disclosed to a recipient of all files of a snapshot and their URLs, beyond the table's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// The number of rows that deletion vectors hide.
    pub deleted_rows: u64,
    /// The partition columns whose values appear in paths of files, in the table's order.
    pub partition_columns_in_paths: Vec<String>,
}

impl Lake {
    /// Scans the files of `snapshot`; large tables are scanned on another thread.
    pub async fn exposure(&self, snapshot: &Arc<Snapshot>) -> Exposure {
        if snapshot.files().len() <= LOOKED_THROUGH_AT_ONCE {
            return snapshot.exposure();
        }
        let own = Arc::clone(snapshot);
        match tokio::task::spawn_blocking(move || own.exposure()).await {
            Ok(exposure) => exposure,
            // Only a shutdown cancels this task, and its callers are gone by then.
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

/// Returns whether a folder in `path` is named after the column `name` and one of its values. Writers escape names in
/// folders, and the log escapes paths once more.
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
        // The writer's escape of `a:b`, unchanged and escaped again by the log.
        assert!(has_value_of("a%253Ab=1/f", "a:b") && has_value_of("a%3Ab=1/f", "a:b"));
    }
}
