//! Tells which well-known connectors can read a table, when it is registered or shared, before a partner's read fails.
//!
//! The features that a connector declares, and the version that first declares each, are taken from the connectors' own
//! headers (Delta Sharing protocol, 3.5 and 3.6). The types that a connector cannot read were found by trying it:
//! delta-sharing 1.4.2 for pandas and delta-sharing-spark 4.0.0. Whether a connector gets an answer at all is decided
//! by the negotiation.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::sharing::negotiation::{ClientCapabilities, Format, negotiate};

use super::{
    delta::{COLUMN_MAPPING, DELETION_VECTORS},
    schema::{ColumnPath, DataType, Primitive, Schema},
};

/// Types that some connectors cannot read, by the names that logs use.
const VOID: &str = "void";
const INTERVAL: &str = "interval ";
const YEARS_AND_MONTHS: [&str; 3] = ["interval year to month", "interval year", "interval month"];

/// A program that reads shared tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Pandas,
    Spark,
}

/// A connector, with the response format that it is told to use.
struct Connector {
    name: &'static str,
    reader: Reader,
    format: Format,
}

const CONNECTORS: [Connector; 4] = [
    Connector { name: "pandas_parquet", reader: Reader::Pandas, format: Format::Parquet },
    Connector { name: "pandas_delta", reader: Reader::Pandas, format: Format::Delta },
    Connector { name: "spark_parquet", reader: Reader::Spark, format: Format::Parquet },
    Connector { name: "spark_delta", reader: Reader::Spark, format: Format::Delta },
];

/// What a connector has to cope with to read a table.
#[derive(Clone, Copy, Debug)]
pub struct ReadNeeds<'a> {
    /// The reader features that the table needs.
    pub needed: &'a BTreeSet<String>,
    /// The table's schema, as its log writes it.
    pub schema_string: &'a str,
    /// The names of the table's partition columns.
    pub partition_columns: &'a [String],
    /// Why the server refuses some file of the table; `None` if it serves them all.
    pub refusal: Option<&'static str>,
}

/// The connectors that can read a table, and since which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// For each connector `ok`, or the reason why it cannot read.
    pub verdicts: BTreeMap<&'static str, String>,
    /// For each connector that needs a certain version, the oldest such version.
    pub oldest_versions: BTreeMap<&'static str, String>,
}

impl Clients {
    /// Checks every connector against what is shown.
    pub fn of(shown: &ReadNeeds<'_>) -> Self {
        Self { verdicts: verdicts(shown), oldest_versions: oldest_versions(shown) }
    }
}

/// For each connector `ok`, or the reason why it cannot read what is shown.
fn verdicts(shown: &ReadNeeds<'_>) -> BTreeMap<&'static str, String> {
    let schema = Schema::parse(shown.schema_string).ok();
    let verdict = |connector: &Connector| {
        let found = connector.obstacle(shown, schema.as_ref());
        (connector.name, found.unwrap_or_else(|| "ok".to_owned()))
    };
    CONNECTORS.iter().map(verdict).collect()
}

/// For each connector that needs a certain version to read what is shown, the oldest such version.
fn oldest_versions(shown: &ReadNeeds<'_>) -> BTreeMap<&'static str, String> {
    let schema = Schema::parse(shown.schema_string).ok();
    let readers = CONNECTORS
        .iter()
        .filter(|connector| connector.format == Format::Delta && connector.obstacle(shown, schema.as_ref()).is_none());
    readers.filter_map(|connector| Some((connector.name, connector.reader.version_for(shown.needed)?))).collect()
}

impl Reader {
    /// The features that its delta reader declares, each with the version that first declares it.
    fn features(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Pandas => &[(DELETION_VECTORS, "1.1.0"), (COLUMN_MAPPING, "1.1.0"), ("timestampNtz", "1.3.2")],
            Self::Spark => &[
                (DELETION_VECTORS, "3.1.0"),
                (COLUMN_MAPPING, "3.1.0"),
                ("timestampNtz", "4.0.0"),
                ("typeWidening", "4.0.0"),
                ("typeWidening-preview", "4.0.0"),
                ("variantType", "4.0.0"),
                ("variantType-preview", "4.0.0"),
            ],
        }
    }

    /// The name of its published package.
    fn package(self) -> &'static str {
        match self {
            Self::Pandas => "delta-sharing",
            Self::Spark => "delta-sharing-spark",
        }
    }

    /// The first version that reads the delta format.
    fn first_version(self) -> &'static str {
        match self {
            Self::Pandas => "1.1.0",
            Self::Spark => "3.1.0",
        }
    }

    /// The oldest version whose delta reader declares all of these features; `None` if no version does.
    fn release_for<'a>(self, needed: impl IntoIterator<Item = &'a String>) -> Option<&'static str> {
        let since =
            |feature: &String| self.features().iter().find(|(name, _)| name == feature).map(|(_, version)| *version);
        // All parts of these version numbers have one digit, so comparing them as text is right.
        let all = needed.into_iter().map(since).chain([Some(self.first_version())]).collect::<Option<Vec<_>>>()?;
        all.into_iter().max()
    }

    /// Like [`Self::release_for`], with the name of the package in front.
    fn version_for(self, needed: &BTreeSet<String>) -> Option<String> {
        self.release_for(needed).map(|version| format!("{} {version}", self.package()))
    }
}

/// The oldest releases whose delta readers declare certain features; `None` where no release does.
pub(in crate::domain) struct Releases {
    /// The release of `delta-sharing`.
    pub(in crate::domain) pandas: Option<&'static str>,
    /// The release of `delta-sharing-spark`.
    pub(in crate::domain) spark: Option<&'static str>,
}

/// Finds the oldest releases that read these features.
pub(in crate::domain) fn releases_for(features: &[String]) -> Releases {
    Releases { pandas: Reader::Pandas.release_for(features), spark: Reader::Spark.release_for(features) }
}

impl Connector {
    fn declared(&self) -> ClientCapabilities {
        let features = if self.format == Format::Delta { self.reader.features() } else { &[] };
        let reader_features = features.iter().map(|(name, _)| name.to_lowercase()).collect();
        ClientCapabilities { formats: vec![self.format], reader_features }
    }

    /// The reason why it cannot read what is shown; `None` if it can.
    fn obstacle(&self, shown: &ReadNeeds<'_>, schema: Option<&Schema>) -> Option<String> {
        if let Some(refusal) = shown.refusal {
            return Some(format!("the table's log names a file by a path that is not served: {refusal}"));
        }
        if let Err(error) = negotiate(shown.needed, &self.declared()) {
            let missing = error.missing.join(", ");
            return Some(match self.reader.version_for(shown.needed) {
                Some(version) => format!("needs {missing} in delta format, which {version} or newer reads"),
                None => format!("needs {missing} in delta format, which {} does not read", self.reader.package()),
            });
        }
        let schema = schema?;
        schema.fields.iter().find_map(|field| {
            let is_partition = shown.partition_columns.contains(&field.name);
            let (path, data_type) = self.unread(&field.data_type, is_partition)?;
            let mut names = vec![field.name.clone()];
            names.extend(path);
            let column = ColumnPath(names);
            let partitioned = if is_partition { "tables partitioned by " } else { "" };
            Some(format!("does not read {partitioned}column `{column}` of type {data_type}"))
        })
    }

    /// Finds the first type in a column that it cannot read, and the path to it.
    fn unread<'a>(&self, column: &'a DataType, is_partition: bool) -> Option<(Vec<String>, &'a DataType)> {
        match (self.reader, self.format) {
            // It checks the type of every column, but not the types nested inside.
            (Reader::Pandas, Format::Parquet) => {
                let is_read = match column {
                    DataType::Primitive(Primitive::TimestampNtz) | DataType::Other(_) => false,
                    DataType::Primitive(Primitive::Binary) => !is_partition,
                    DataType::Primitive(_) => true,
                    _ => !is_partition,
                };
                (!is_read).then(|| (Vec::new(), column))
            }
            (Reader::Pandas, Format::Delta) => column
                .leaves()
                .into_iter()
                .find(|(_, leaf)| is(leaf, |name| name == VOID || name.starts_with(INTERVAL))),
            (Reader::Spark, Format::Parquet) => {
                column.leaves().into_iter().find(|(_, leaf)| is(leaf, |name| name == VOID) || in_years_and_months(leaf))
            }
            // It drops columns and fields of type void, but fails on void elements.
            (Reader::Spark, Format::Delta) => {
                let found = column.leaves().into_iter().find(|(_, leaf)| in_years_and_months(leaf));
                found.or_else(|| void_elements(column))
            }
        }
    }
}

fn is(data_type: &DataType, found: impl Fn(&str) -> bool) -> bool {
    matches!(data_type, DataType::Other(name) if found(name))
}

fn in_years_and_months(data_type: &DataType) -> bool {
    is(data_type, |name| YEARS_AND_MONTHS.contains(&name))
}

/// Finds a void anywhere inside a list or a map.
fn void_elements(data_type: &DataType) -> Option<(Vec<String>, &DataType)> {
    match data_type {
        DataType::Primitive(_) | DataType::Other(_) => None,
        DataType::Array { .. } | DataType::Map { .. } => {
            data_type.leaves().into_iter().find(|(_, leaf)| is(leaf, |name| name == VOID))
        }
        DataType::Struct(fields) => fields.iter().find_map(|field| {
            let (path, found) = void_elements(&field.data_type)?;
            Some(([vec![field.name.clone()], path].concat(), found))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(data_type: &str) -> String {
        format!(r#"{{"type":"struct","fields":[{{"name":"c","type":{data_type},"nullable":true,"metadata":{{}}}}]}}"#)
    }

    fn verdicts_on(features: &[&str], data_type: &str, is_partition: bool) -> BTreeMap<&'static str, String> {
        let needed = features.iter().map(|name| (*name).to_owned()).collect();
        let partition_columns = if is_partition { vec!["c".to_owned()] } else { vec![] };
        verdicts(&ReadNeeds {
            needed: &needed,
            schema_string: &schema(data_type),
            partition_columns: &partition_columns,
            refusal: None,
        })
    }

    fn readers(features: &[&str], data_type: &str, is_partition: bool) -> String {
        let verdicts = verdicts_on(features, data_type, is_partition);
        let ok = |name: &str| if verdicts[name] == "ok" { '+' } else { '-' };
        CONNECTORS.iter().map(|connector| ok(connector.name)).collect()
    }

    #[test]
    fn verdicts_name_what_stands_in_the_way_and_the_version_that_helps() {
        let plain = verdicts_on(&[], "\"long\"", false);
        assert!(plain.values().all(|verdict| verdict == "ok"), "{plain:?}");
        let vectors = verdicts_on(&["deletionVectors"], "\"long\"", false);
        let message = |version| format!("needs deletionVectors in delta format, which {version} or newer reads");
        assert_eq!(vectors["pandas_parquet"], message("delta-sharing 1.1.0"));
        assert_eq!(vectors["spark_parquet"], message("delta-sharing-spark 3.1.0"));
        assert_eq!((vectors["pandas_delta"].as_str(), vectors["spark_delta"].as_str()), ("ok", "ok"));
        let variant = verdicts_on(&["variantType"], "\"variant\"", false);
        assert_eq!(variant["pandas_delta"], "needs variantType in delta format, which delta-sharing does not read");
        assert_eq!(variant["spark_delta"], "ok");
        let refusal = Some("it is absolute");
        let (needed, schema) = (BTreeSet::new(), schema("\"long\""));
        let hostile = ReadNeeds { needed: &needed, schema_string: &schema, partition_columns: &[], refusal };
        assert!(verdicts(&hostile).values().all(|verdict| verdict.ends_with("it is absolute")));
    }

    #[test]
    fn only_what_was_read_in_a_trial_is_ok() {
        let array = |of: &str| format!(r#"{{"type":"array","elementType":"{of}","containsNull":true}}"#);
        let list = |of: &str| readers(&[], &array(of), false);
        let nested = |of: &str| {
            let fields = format!(r#"[{{"name":"x","type":"{of}","nullable":true,"metadata":{{}}}}]"#);
            readers(&[], &format!(r#"{{"type":"struct","fields":{fields}}}"#), false)
        };
        let (void, months, days) = ("void", "interval year to month", "interval day to second");
        // The connectors in order: pandas in parquet and in delta format, then Spark in parquet and in delta format.
        for (data_type, expected) in [(void, "---+"), (months, "----"), (days, "--++"), ("binary", "++++")] {
            assert_eq!(readers(&[], &format!("\"{data_type}\""), false), expected, "{data_type}");
        }
        for (data_type, expected) in [(void, "+--+"), (months, "+---"), (days, "+-++"), ("long", "++++")] {
            assert_eq!(nested(data_type), expected, "a field of type {data_type}");
        }
        for (data_type, expected) in [(void, "+---"), (months, "+---"), (days, "+-++"), ("long", "++++")] {
            assert_eq!(list(data_type), expected, "elements of type {data_type}");
        }
        assert_eq!(readers(&[], "\"binary\"", true), "-+++");
        assert_eq!(readers(&["timestampNtz"], "\"timestamp_ntz\"", false), "-+-+");
        assert_eq!(readers(&["variantType"], "\"variant\"", false), "---+");
        let message = &verdicts_on(&[], "\"binary\"", true)["pandas_parquet"];
        assert_eq!(message, "does not read tables partitioned by column `c` of type binary");
        let message = &verdicts_on(&[], &array(void), false)["spark_delta"];
        assert_eq!(message, "does not read column `c.element` of type void");
    }

    #[test]
    fn the_oldest_version_that_reads_is_named() {
        let oldest = |features: &[&str]| {
            let needed = features.iter().map(|name| (*name).to_owned()).collect();
            let schema = schema("\"long\"");
            let shown = ReadNeeds { needed: &needed, schema_string: &schema, partition_columns: &[], refusal: None };
            oldest_versions(&shown).into_iter().map(|(name, version)| format!("{name}: {version}")).collect::<Vec<_>>()
        };
        assert_eq!(oldest(&[]), ["pandas_delta: delta-sharing 1.1.0", "spark_delta: delta-sharing-spark 3.1.0"]);
        let both = oldest(&["deletionVectors", "timestampNtz"]);
        assert_eq!(both, ["pandas_delta: delta-sharing 1.3.2", "spark_delta: delta-sharing-spark 4.0.0"]);
        assert_eq!(oldest(&["typeWidening"]), ["spark_delta: delta-sharing-spark 4.0.0"]);
        assert!(oldest(&["somethingNew"]).is_empty());
    }
}
