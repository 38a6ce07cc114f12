//! Which of the well-known connectors can read a table, said when it is registered or shared rather than when a
//! partner's read fails.
//!
//! What a connector declares is taken from the connectors' own headers (Delta Sharing protocol, 3.5 and 3.6); whether
//! it gets an answer is the negotiation's to say.

use std::collections::{BTreeMap, BTreeSet};

use super::negotiation::{Declared, Format, negotiate};

/// The reader features that the connectors' delta readers declare.
const DELTA_READERS: [&str; 3] = ["deletionvectors", "columnmapping", "timestampntz"];

/// The connectors, each with the format that it is told to use.
const CONNECTORS: [(&str, Format); 4] = [
    ("pandas_parquet", Format::Parquet),
    ("pandas_delta", Format::Delta),
    ("spark_parquet", Format::Parquet),
    ("spark_delta", Format::Delta),
];

/// For each connector `ok`, or why it cannot read a snapshot that needs the reader features `needed`.
pub fn verdicts(needed: &BTreeSet<String>) -> BTreeMap<&'static str, String> {
    let verdict = |format| match negotiate(needed, &declared(format)) {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("needs {} in delta format", error.missing.join(", ")),
    };
    CONNECTORS.into_iter().map(|(connector, format)| (connector, verdict(format))).collect()
}

fn declared(format: Format) -> Declared {
    let features = if format == Format::Delta { &DELTA_READERS[..] } else { &[] };
    Declared { formats: vec![format], reader_features: features.iter().map(|name| (*name).to_owned()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_name_what_stands_in_the_way() {
        assert!(verdicts(&BTreeSet::new()).values().all(|verdict| verdict == "ok"));
        let with_vectors = verdicts(&BTreeSet::from(["deletionVectors".to_owned()]));
        assert_eq!(with_vectors["pandas_parquet"], "needs deletionVectors in delta format");
        assert_eq!(with_vectors["spark_delta"], "ok");
        assert_eq!(
            verdicts(&BTreeSet::from(["variantType".to_owned()]))["pandas_delta"],
            "needs variantType in delta format"
        );
    }
}
