//! Checks and rewrites the statistics' text before it is disclosed: only the contents defined by the Delta protocol
//! ("Per-file Statistics"), only for the table's columns, and nothing else that a writer added.
//!
//! Each text is checked once, when a snapshot is loaded, so that answers can copy it. Never here: the meaning of
//! bounds.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use crate::domain::catalog::{
    delta::Metadata,
    schema::{DataType, Field, Primitive, Schema},
};

/// The longest text allowed for a number or a time, in bytes.
const LONGEST_VALUE: usize = 64;

/// The columns that statistics may mention, by their physical names.
#[derive(Debug)]
pub struct StatsShape {
    fields: Fields,
    mark: u64,
}

type Fields = HashMap<Box<str>, Node>;

#[derive(Debug)]
enum Node {
    Struct(Fields),
    Leaf(Leaf),
}

/// The form of a column's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    Flag,
    Number,
    Text,
    /// A date or a timestamp.
    Time,
    /// No bounds, only a count of nulls.
    Unbounded,
}

/// A section of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Rows,
    IsTight,
    Nulls,
    Low,
    High,
}

impl Section {
    const ALL: [Self; 5] = [Self::Rows, Self::Low, Self::High, Self::Nulls, Self::IsTight];

    fn name(self) -> &'static str {
        match self {
            Self::Rows => "numRecords",
            Self::IsTight => "tightBounds",
            Self::Nulls => "nullCount",
            Self::Low => "minValues",
            Self::High => "maxValues",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.name() == name)
    }
}

impl StatsShape {
    /// Takes the columns from `metadata`; none if its schema cannot be parsed.
    pub fn of(metadata: &Metadata) -> Self {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let maps_columns = metadata.maps_columns();
        let schema = Schema::parse(&metadata.schema_string);
        let fields = schema.map(|schema| fields(&schema.fields, maps_columns)).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (&metadata.schema_string, maps_columns).hash(&mut hasher);
        // Zero means unchecked.
        Self { fields, mark: hasher.finish().max(1) }
    }

    /// Returns a number that identifies the shape; never 0.
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    /// Returns whether a text contains nothing but allowed statistics.
    pub(super) fn fits(&self, text: &str) -> bool {
        let mut json = serde_json::Deserializer::from_str(text);
        Whole(self).deserialize(&mut json).is_ok() && json.end().is_ok()
    }

    /// Rewrites the statistics with only these columns; `None` if nothing is left, or the text is not valid JSON.
    pub fn rebuilt(&self, text: &str) -> Option<String> {
        let sections: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
        let members = Section::ALL.into_iter().filter_map(|section| {
            let value = sections.get(section.name())?.get();
            let value = match section {
                Section::Rows | Section::IsTight => scalar(value, Expected::whole(section))?,
                Section::Nulls | Section::Low | Section::High => rebuilt(&self.fields, section, value)?,
            };
            Some(format!("\"{}\":{value}", section.name()))
        });
        let members: Vec<_> = members.collect();
        (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
    }
}

fn fields(of: &[Field], maps_columns: bool) -> Fields {
    let node = |field: &Field| (Box::from(field.physical_name(maps_columns)), node(&field.data_type, maps_columns));
    of.iter().map(node).collect()
}

fn node(data_type: &DataType, maps_columns: bool) -> Node {
    Node::Leaf(match data_type {
        DataType::Struct(parts) => return Node::Struct(fields(parts, maps_columns)),
        DataType::Array { .. } | DataType::Map { .. } | DataType::Other(_) => Leaf::Unbounded,
        DataType::Primitive(primitive) => match primitive {
            Primitive::Boolean => Leaf::Flag,
            Primitive::String | Primitive::Binary => Leaf::Text,
            Primitive::Date | Primitive::Timestamp | Primitive::TimestampNtz => Leaf::Time,
            Primitive::Byte
            | Primitive::Short
            | Primitive::Integer
            | Primitive::Long
            | Primitive::Float
            | Primitive::Double
            | Primitive::Decimal { .. } => Leaf::Number,
        },
    })
}

/// Rewrites a section with only the columns in `of`.
fn rebuilt(of: &Fields, section: Section, text: &str) -> Option<String> {
    if text == "null" {
        return Some(text.to_owned());
    }
    let given: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let mut members: Vec<(String, String)> = Vec::new();
    for (name, value) in given {
        let value = match of.get(name.as_str()) {
            Some(Node::Struct(parts)) => rebuilt(parts, section, value.get()),
            Some(Node::Leaf(leaf)) => scalar(value.get(), Expected::leaf(section, *leaf)),
            None => None,
        };
        members.extend(value.map(|value| (Value::from(name).to_string(), value)));
    }
    members.sort_unstable();
    let members: Vec<_> = members.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
    Some(format!("{{{}}}", members.join(",")))
}

/// Returns a value if it has the expected form, with texts written anew.
fn scalar(text: &str, expected: Expected) -> Option<String> {
    let mut json = serde_json::Deserializer::from_str(text);
    expected.deserialize(&mut json).ok()?;
    if text.starts_with('"') {
        return Some(Value::from(String::deserialize(&mut serde_json::Deserializer::from_str(text)).ok()?).to_string());
    }
    Some(text.to_owned())
}

/// The expected form of a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Count,
    Flag,
    Number,
    Text,
    Time,
    Nothing,
}

impl Expected {
    /// Returns the expected form of a section about the whole file.
    fn whole(section: Section) -> Self {
        if section == Section::IsTight { Self::Flag } else { Self::Count }
    }

    fn leaf(section: Section, leaf: Leaf) -> Self {
        match (section, leaf) {
            (Section::Nulls | Section::Rows | Section::IsTight, _) => Self::Count,
            (_, Leaf::Flag) => Self::Flag,
            (_, Leaf::Number) => Self::Number,
            (_, Leaf::Text) => Self::Text,
            (_, Leaf::Time) => Self::Time,
            (_, Leaf::Unbounded) => Self::Nothing,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Expected {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Expected {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value of the column's statistics")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        if self == Self::Flag { Ok(()) } else { Err(foreign()) }
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        if matches!(self, Self::Count | Self::Number) { Ok(()) } else { Err(foreign()) }
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        if matches!(self, Self::Count | Self::Number) { Ok(()) } else { Err(foreign()) }
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        if self == Self::Number { Ok(()) } else { Err(foreign()) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let is_time =
            |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b':' | b'.' | b' ' | b'T' | b'Z');
        let fits = match self {
            Self::Text => true,
            // `NaN`, `Infinity`, and quoted decimals of some writers.
            Self::Number => text.len() <= LONGEST_VALUE && text.parse::<f64>().is_ok(),
            Self::Time => text.len() <= LONGEST_VALUE && text.bytes().all(is_time),
            Self::Count | Self::Flag | Self::Nothing => false,
        };
        if fits { Ok(()) } else { Err(foreign()) }
    }
}

/// The error that stops the check at the first unexpected part.
fn foreign<E: Error>() -> E {
    E::custom("something foreign")
}

/// Checks the statistics of a file without storing them.
struct Whole<'s>(&'s StatsShape);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("statistics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(section) = map.next_key_seed(Find(Section::of))? {
            match section {
                section @ (Section::Rows | Section::IsTight) => map.next_value_seed(Expected::whole(section))?,
                section => map.next_value_seed(Members { of: &self.0.fields, section })?,
            }
        }
        Ok(())
    }
}

/// Checks one section, or a struct in it.
struct Members<'s> {
    of: &'s Fields,
    section: Section,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("statistics by column")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(node) = map.next_key_seed(Find(|name: &str| self.of.get(name)))? {
            match node {
                Node::Struct(of) => map.next_value_seed(Members { of, section: self.section })?,
                Node::Leaf(leaf) => map.next_value_seed(Expected::leaf(self.section, *leaf))?,
            }
        }
        Ok(())
    }
}

/// Looks up a key, and fails if it is unknown.
struct Find<F>(F);

impl<'de, T, F: Fn(&str) -> Option<T>> DeserializeSeed<'de> for Find<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Find<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        (self.0)(name).ok_or_else(foreign)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn shape() -> StatsShape {
        let field =
            |name: &str, data_type: Value| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}});
        let inner = json!({"type": "struct", "fields": [field("x", json!("long"))]});
        let list = json!({"type": "array", "elementType": "long", "containsNull": true});
        let fields = [
            field("id", json!("long")),
            field("amount", json!("decimal(20,2)")),
            field("price", json!("double")),
            field("note", json!("string")),
            field("day", json!("date")),
            field("at", json!("timestamp")),
            field("is_paid", json!("boolean")),
            field("s", inner),
            field("list", list),
        ];
        StatsShape::of(&Metadata {
            id: "t".to_owned(),
            name: None,
            description: None,
            format_provider: "parquet".to_owned(),
            format_options: BTreeMap::new(),
            schema_string: json!({"type": "struct", "fields": fields}).to_string(),
            partition_columns: Vec::new(),
            configuration: BTreeMap::new(),
            created_time: None,
        })
    }

    #[test]
    fn what_writers_write_fits_as_it_is() {
        for text in [
            "{}",
            r#"{"numRecords":3}"#,
            r#"{"numRecords": 3, "minValues": {}, "maxValues": {}, "nullCount": {}, "tightBounds": false}"#,
            r#"{"numRecords":3,"minValues":{"id":-1,"amount":1234567890123456789.25,"price":"NaN","note":"a\"b",
                "day":"2020-01-01","at":"2020-01-01T00:00:00.000+01:00","s":{"x":5}},"maxValues":{"id":7,"price":1e300,
                "is_paid":true,"at":null,"s":null},"nullCount":{"id":0,"list":3,"s":{"x":1}}}"#,
        ] {
            assert!(shape().fits(text), "{text}");
            let rebuilt = shape().rebuilt(text).unwrap_or_else(|| "{}".to_owned());
            let values = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(values(&rebuilt), values(text));
            assert!(shape().fits(&rebuilt) && (text == "{}" || rebuilt.contains("numRecords")));
        }
        assert!(shape().rebuilt(r#"{"minValues":{"amount":1234567890123456789.25}}"#).unwrap().contains("6789.25"));
    }

    #[test]
    fn whatever_is_foreign_goes_and_the_rest_stays() {
        let rest = json!({"numRecords": 3, "minValues": {"id": 1, "s": {"x": 2}}});
        let mut with = Vec::new();
        for (at, foreign) in [
            ("/writer", json!("SECRET")),
            ("/minValues/dropped", json!("SECRET")),
            ("/minValues/note", json!({"SECRET": 1})),
            ("/minValues/list", json!("SECRET")),
            ("/minValues/amount", json!("SECRET")),
            ("/minValues/day", json!("SECRET")),
            ("/minValues/at", json!("2020 SECRET")),
            ("/minValues/is_paid", json!("SECRET")),
            ("/minValues/s/SECRET", json!(1)),
            ("/maxValues", json!("SECRET")),
            ("/nullCount", json!({"id": "SECRET"})),
            ("/tightBounds", json!("SECRET")),
        ] {
            let mut stats = rest.clone();
            let (above, name) = at.rsplit_once('/').unwrap();
            stats.pointer_mut(above).unwrap()[name] = foreign;
            with.push(stats.to_string());
        }
        with.push(format!("{} SECRET", rest));
        with.push("\"SECRET\"".to_owned());
        with.push("SECRET".to_owned());
        for text in with {
            assert!(!shape().fits(&text), "{text}");
            let Some(rebuilt) = shape().rebuilt(&text) else { continue };
            assert!(!rebuilt.contains("SECRET") && shape().fits(&rebuilt), "{rebuilt}");
            let value: Value = serde_json::from_str(&rebuilt).unwrap();
            assert_eq!((&value["numRecords"], &value["minValues"]["s"]), (&json!(3), &json!({"x": 2})), "{rebuilt}");
        }
    }
}
