//! Chooses the response format for a client: one rule for metadata, query and changes.
//!
//! Parquet lines cannot express deletion vectors or column mapping, so they are allowed exactly if reading this
//! snapshot needs no reader feature. Delta lines are allowed if the client declared every feature needed (Delta Sharing
//! protocol, "Delta Sharing Capabilities Header"). Never here: which features a snapshot needs.

use std::collections::BTreeSet;

use crate::domain::catalog::clients::releases_for;

/// A response format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// File lines in the protocol's own form; readable by every client.
    Parquet,
    /// Actions of the Delta log; needed for advanced features.
    Delta,
}

impl Format {
    /// The word in the capabilities header and in audit events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Delta => "delta",
        }
    }
}

/// What a client declares in its `delta-sharing-capabilities` header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCapabilities {
    /// The formats that it can read and the server can write; empty if it named none, which means parquet.
    pub formats: Vec<Format>,
    /// The reader features that it supports, in lower case.
    pub reader_features: BTreeSet<String>,
}

/// The client cannot read this snapshot, because of these reader features.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Unsupported Delta Table Properties: reading this table needs {}; {}", .missing.join(", "), advice(.missing)
)]
pub struct NotReadable {
    /// The features that the client lacks, or could only use in delta format.
    pub missing: Vec<String>,
}

/// Names the oldest release of each connector that declares all of these features.
fn advice(missing: &[String]) -> String {
    let lower: Vec<String> = missing.iter().map(|feature| feature.to_lowercase()).collect();
    let declare = format!("responseformat=delta with readerfeatures={}", lower.join(","));
    let releases = releases_for(missing);
    let pandas = releases
        .pandas
        .map(|version| format!("delta-sharing {version} or newer for Python (`pip install -U delta-sharing`)"));
    let spark = releases.spark.map(|version| {
        format!("delta-sharing-spark {version} or newer with `option(\"responseFormat\", \"delta\")` for Spark")
    });
    let install: Vec<String> = pandas.into_iter().chain(spark).collect();
    if install.is_empty() {
        return format!("use a connector that supports {declare}");
    }
    format!("install {}; other connectors must support {declare}", install.join(", or "))
}

/// Chooses the format for a snapshot that needs the reader features `needed`.
pub fn negotiate(needed: &BTreeSet<String>, declared: &ClientCapabilities) -> Result<Format, NotReadable> {
    let parquet = declared.formats.is_empty() || declared.formats.contains(&Format::Parquet);
    let delta = declared.formats.contains(&Format::Delta);
    if parquet && needed.is_empty() {
        return Ok(Format::Parquet);
    }
    let lacking = needed.iter().filter(|feature| !declared.reader_features.contains(&feature.to_lowercase()));
    let lacking: Vec<String> = lacking.cloned().collect();
    match (delta, lacking.is_empty()) {
        (true, true) => Ok(Format::Delta),
        (true, false) => Err(NotReadable { missing: lacking }),
        (false, _) => Err(NotReadable { missing: needed.iter().cloned().collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chosen(needed: &[&str], formats: &[Format], declared: &[&str]) -> Result<Format, Vec<String>> {
        let declared = ClientCapabilities { formats: formats.to_vec(), reader_features: features(declared) };
        negotiate(&features(needed), &declared).map_err(|error| error.missing)
    }

    #[test]
    fn whoever_cannot_read_a_table_is_told_what_to_install() {
        let told = |missing: &[&str]| NotReadable { missing: features(missing).into_iter().collect() }.to_string();
        for (missing, python, spark) in [
            (&["deletionVectors"][..], Some("1.1.0"), Some("3.1.0")),
            (&["columnMapping", "timestampNtz"], Some("1.3.2"), Some("4.0.0")),
            (&["variantType"], None, Some("4.0.0")),
            (&["deletionVectors", "typeWidening"], None, Some("4.0.0")),
            (&["someFeature"], None, None),
        ] {
            let message = told(missing);
            let version = |package: &str| {
                let (_, rest) = message.split_once(&format!("{package} "))?;
                rest.split_once(" or newer").map(|(version, _)| version.to_owned())
            };
            assert_eq!(version("install delta-sharing").as_deref(), python, "{message}");
            assert_eq!(version("delta-sharing-spark").as_deref(), spark, "{message}");
        }
        assert!(told(&["deletionVectors"]).contains("responseformat=delta with readerfeatures=deletionvectors"));
        assert!(!told(&["someFeature"]).contains("install"), "no release reads it");
    }

    #[test]
    fn parquet_is_chosen_exactly_when_no_feature_is_needed() {
        use Format::{Delta, Parquet};
        assert_eq!(chosen(&[], &[], &[]), Ok(Parquet));
        assert_eq!(chosen(&[], &[Parquet, Delta], &[]), Ok(Parquet));
        assert_eq!(chosen(&[], &[Delta, Parquet], &[]), Ok(Parquet));
        assert_eq!(chosen(&[], &[Delta], &[]), Ok(Delta));
        let dv = ["deletionVectors"];
        assert_eq!(chosen(&dv, &[Parquet, Delta], &["deletionvectors"]), Ok(Delta));
        assert_eq!(chosen(&dv, &[Parquet], &["deletionvectors"]), Err(vec!["deletionVectors".into()]));
        assert_eq!(chosen(&dv, &[], &[]), Err(vec!["deletionVectors".into()]));
        let both = ["columnMapping", "deletionVectors"];
        assert_eq!(chosen(&both, &[Delta], &["deletionvectors"]), Err(vec!["columnMapping".into()]));
    }
}
