//! The lines of files: those of a snapshot, and those that commits added, removed and recorded as changes (Delta
//! Sharing protocol, 2.2, 2.3, 2.5 to 2.8).

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::{
    domain::{
        materialize::copy::{FileKey, stable_part},
        sharing::negotiation::Format,
    },
    lake::{ActionKind, FileRef},
    service::sharing::delivery::SignedVector,
};

use super::object::Object;

/// The digest of a file's path that is its id (`fileidhash`, Delta Sharing protocol, 2.5).
pub type IdHash = Format;

/// The parts of every file line besides the file.
#[derive(Clone, Copy)]
pub(super) struct Said<'s> {
    /// The digest for ids.
    pub(super) hash: IdHash,
    /// The key for ids, if the recipient has its own ids.
    pub(super) key: Option<&'s FileKey>,
    /// The line's version, and the time of its commit.
    pub(super) stamp: Option<(u64, i64)>,
    /// When the URLs expire.
    pub(super) expiration: i64,
}

impl Said<'_> {
    /// Writes the id of the file at `path`, as the log spells the path: MD5 in parquet answers and SHA-256 in delta
    /// ones, unless the client chose. Ids order files inside Spark's streaming checkpoints, so providers who move from
    /// the reference server need the same ids. A governed file's id is keyed, with the same length, and means nothing
    /// to others.
    fn write_id(&self, line: &mut Object<'_>, name: &'static str, path: &str) {
        match (self.key, self.hash) {
            (None, IdHash::Parquet) => line.hex(name, &Md5::digest(path.as_bytes())),
            (None, IdHash::Delta) => line.hex(name, &Sha256::digest(path.as_bytes())),
            (Some(key), IdHash::Parquet) => {
                let mut id = key.id(stable_part(path));
                id.truncate(MD5_CHARACTERS);
                line.text(name, &id);
            }
            (Some(key), IdHash::Delta) => line.text(name, &key.id(stable_part(path))),
        }
    }

    fn write_stamp(&self, line: &mut Object<'_>) {
        if let Some((version, committed_at)) = self.stamp {
            line.number("version", version);
            line.number("timestamp", committed_at);
        }
        line.number("expirationTimestamp", self.expiration);
    }
}

/// The characters of an MD5 in hex.
const MD5_CHARACTERS: usize = 32;

/// A file of a snapshot, or what a commit did with one.
pub(super) struct FileLine<'a> {
    pub(super) kind: Option<ActionKind>,
    /// A remove's own flag that says whether it has its size and partition values.
    pub(super) extended_metadata: Option<bool>,
    pub(super) file: &'a FileRef<'a>,
    pub(super) url: &'a str,
    pub(super) vector: Option<&'a SignedVector>,
    pub(super) said: Said<'a>,
}

impl FileLine<'_> {
    /// Writes the line in parquet format, under a key that names the action.
    pub(super) fn write_parquet(&self, out: &mut Vec<u8>) {
        let (key, has_stats) = match self.kind {
            None => ("file", true),
            Some(ActionKind::Add) => ("add", true),
            // Only files that are part of the table have statistics.
            Some(ActionKind::Cdc) => ("cdf", false),
            Some(ActionKind::Remove) => ("remove", false),
        };
        Object::write(out, |line| {
            line.object(key, |line| {
                line.text("url", self.url);
                self.said.write_id(line, "id", self.file.path);
                self.write_partition_values(line);
                line.number("size", self.file.size);
                if let Some(stats) = self.file.stats.filter(|_| has_stats) {
                    line.text("stats", stats);
                }
                self.said.write_stamp(line);
            });
        });
    }

    /// Writes the line in delta format; the key is `file` for every action.
    pub(super) fn write_delta(&self, out: &mut Vec<u8>) {
        Object::write(out, |line| {
            line.object("file", |line| {
                self.said.write_id(line, "id", self.file.path);
                if let Some(vector) = self.vector {
                    // The key of the vector's file in Spark's cache; Spark fails without it (2.7).
                    self.said.write_id(line, "deletionVectorFileId", &vector.path);
                }
                self.said.write_stamp(line);
                line.object("deltaSingleAction", |line| match self.kind {
                    None | Some(ActionKind::Add) => line.object("add", |add| self.fill_add(add)),
                    Some(ActionKind::Remove) => line.object("remove", |remove| self.fill_remove(remove)),
                    Some(ActionKind::Cdc) => line.object("cdc", |cdc| self.fill_cdc(cdc)),
                });
            });
        });
    }

    fn fill_add(&self, add: &mut Object<'_>) {
        let file = self.file;
        add.text("path", self.url);
        self.write_partition_values(add);
        add.number("size", file.size);
        add.number("modificationTime", file.modification_time);
        add.flag("dataChange", file.data_change);
        if let Some(stats) = file.stats {
            add.text("stats", stats);
        }
        self.write_deletion_vector(add);
    }

    fn fill_remove(&self, remove: &mut Object<'_>) {
        let file = self.file;
        remove.text("path", self.url);
        remove.number("deletionTimestamp", file.modification_time);
        remove.flag("dataChange", file.data_change);
        // The line has the size and the partition values even if the log lacks the flag.
        remove.flag("extendedFileMetadata", self.extended_metadata.unwrap_or(true));
        self.write_partition_values(remove);
        remove.number("size", file.size);
        self.write_deletion_vector(remove);
    }

    fn fill_cdc(&self, cdc: &mut Object<'_>) {
        cdc.text("path", self.url);
        self.write_partition_values(cdc);
        cdc.number("size", self.file.size);
        cdc.flag("dataChange", false);
    }

    /// Writes every partition column with its value, including nulls, because a missing key is an error to Spark.
    fn write_partition_values(&self, line: &mut Object<'_>) {
        line.object("partitionValues", |values| {
            for (name, value) in self.file.partition_values() {
                values.entry(name, value);
            }
        });
    }

    /// Writes the deletion vector: one in a file becomes absolute, with the signed URL as its path; an inline one stays
    /// unchanged (2.7).
    fn write_deletion_vector(&self, line: &mut Object<'_>) {
        let Some(descriptor) = self.file.deletion_vector else { return };
        let (storage_type, path_or_inline) = match self.vector {
            Some(vector) => ("p", vector.url.as_str()),
            None => (descriptor.storage_type, descriptor.path_or_inline),
        };
        line.object("deletionVector", |vector| {
            vector.text("storageType", storage_type);
            vector.text("pathOrInlineDv", path_or_inline);
            if let Some(offset) = descriptor.offset {
                vector.number("offset", offset);
            }
            vector.number("sizeInBytes", descriptor.size_in_bytes);
            vector.number("cardinality", descriptor.cardinality);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_reference_servers() {
        let id = |hash| {
            let (said, mut out) = (Said { hash, key: None, stamp: None, expiration: 0 }, Vec::new());
            Object::write(&mut out, |line| said.write_id(line, "id", ""));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(id(IdHash::Parquet), r#"{"id":"d41d8cd98f00b204e9800998ecf8427e"}"#);
        assert!(id(IdHash::Delta).starts_with(r#"{"id":"e3b0c44298fc1c149afbf4c8996fb924"#));
    }
}
