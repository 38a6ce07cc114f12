//! Where a deletion vector's file lies (Delta protocol, "Deletion Vector Descriptor Schema").

use uuid::Uuid;

use super::files::DeletionVectorRef;

/// The characters of an encoded UUID at the end of a relative vector's text.
const ENCODED_UUID: usize = 20;

/// Where a vector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VectorPlace {
    /// In the log itself.
    Inline,
    /// In a file at this path relative to the table.
    File(String),
    /// In a file that the log names by an absolute URL.
    Absolute,
    /// The descriptor makes no sense.
    Malformed,
}

impl DeletionVectorRef<'_> {
    /// Where the vector is.
    pub fn place(&self) -> VectorPlace {
        match self.storage_type {
            "i" => VectorPlace::Inline,
            "u" => self.relative_path().map_or(VectorPlace::Malformed, VectorPlace::File),
            "p" => VectorPlace::Absolute,
            _ => VectorPlace::Malformed,
        }
    }

    fn relative_path(&self) -> Option<String> {
        let split = self.path_or_inline.len().checked_sub(ENCODED_UUID)?;
        let (prefix, encoded) = self.path_or_inline.split_at_checked(split)?;
        let uuid = Uuid::from_slice(&z85::decode(encoded).ok()?).ok()?;
        let name = format!("deletion_vector_{uuid}.bin");
        Some(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(storage_type: &str, path_or_inline: &str) -> VectorPlace {
        DeletionVectorRef { storage_type, path_or_inline, offset: Some(1), size_in_bytes: 1, cardinality: 1 }.place()
    }

    /// The example of the Delta protocol, "Deletion Vector Descriptor Schema".
    #[test]
    fn relative_vectors_lie_where_the_protocol_says() {
        let file = "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";
        assert_eq!(place("u", "ab^-aqEH.-t@S}K{vb[*k^"), VectorPlace::File(format!("ab/{file}")));
        assert_eq!(place("u", "^-aqEH.-t@S}K{vb[*k^"), VectorPlace::File(file.to_owned()));
    }

    #[test]
    fn nonsense_is_called_so() {
        for (kind, text) in [("u", ""), ("u", "short"), ("u", "ä^-aqEH.-t@S}K{vb[*k"), ("x", "a")] {
            assert_eq!(place(kind, text), VectorPlace::Malformed, "{kind} {text}");
        }
        assert_eq!(place("p", "s3://a/b"), VectorPlace::Absolute);
        assert_eq!(place("i", "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"), VectorPlace::Inline);
    }
}
