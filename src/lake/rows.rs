//! Reads the number of rows of a file from its statistics' text without parsing all of it.

use super::files::FileRef;

impl FileRef<'_> {
    /// Returns the number of live rows: the file's row count minus deleted rows. `None` if its statistics have no
    /// count.
    pub fn live_rows(&self) -> Option<u64> {
        let deleted = self.deletion_vector.map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or(0));
        Some(self.stats.and_then(num_records)?.saturating_sub(deleted))
    }
}

/// Reads `numRecords` from one file's statistics (Delta protocol, "Per-file Statistics"); `None` if it is missing.
fn num_records(stats: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Stats {
        #[serde(rename = "numRecords")]
        num_records: Option<u64>,
    }
    // Most writers put `numRecords` first, so usually a few bytes are enough; anything else is parsed as JSON.
    if let Some(rest) = stats.strip_prefix("{\"numRecords\":") {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && matches!(rest.as_bytes().get(digits), Some(b',' | b'}')) {
            return rest[..digits].parse().ok();
        }
    }
    serde_json::from_str::<Stats>(stats).ok()?.num_records
}

#[cfg(test)]
mod tests {
    use super::num_records;

    #[test]
    fn the_count_is_found_wherever_it_stands() {
        assert_eq!(num_records(r#"{"numRecords":12,"minValues":{}}"#), Some(12));
        assert_eq!(num_records(r#"{"numRecords":7}"#), Some(7));
        assert_eq!(num_records(r#"{"minValues":{"numRecords":3},"numRecords": 5}"#), Some(5));
        for without in ["", "{}", "null", r#"{"numRecords":-1}"#, r#"{"numRecords":1.5}"#, r#"{"numRecords":"9"}"#] {
            assert_eq!(num_records(without), None, "{without}");
        }
    }
}
