//! A Delta table's schema as a tree: names, types, nullability, and column metadata (Delta protocol, "Schema
//! Serialization Format").
//!
//! Never here: how a schema is found in a log, or which parts of it a recipient sees.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct};
use serde_json::{Map, Value};

use crate::domain::core::{name::name_key, nearest::nearest};

/// The metadata key of a column's physical name under column mapping.
pub const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";

/// The deepest nesting of types, and the longest path. All JSON readers of logs here stop at 128 levels, which is
/// enough for about forty structs.
pub const MAX_DEPTH: usize = 32;

/// How much of a wrong text a message repeats, in characters.
const MAX_SHOWN: usize = 100;

/// The names that paths use for steps into arrays and maps.
pub const ELEMENT: &str = "element";
/// See [`ELEMENT`].
pub const KEY: &str = "key";
/// See [`ELEMENT`].
pub const VALUE: &str = "value";

/// A table's columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Top-level columns, in the table's order.
    pub fields: Vec<Field>,
}

/// A column, or a field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The logical name.
    pub name: String,
    /// The type.
    pub data_type: DataType,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// The metadata that its writer attached.
    pub metadata: Map<String, Value>,
}

/// The type of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum DataType {
    /// A single value.
    Primitive(Primitive),
    /// Named fields.
    Struct(Vec<Field>),
    /// A list.
    Array {
        /// The type of the elements.
        element: Box<DataType>,
        /// Whether elements may be null.
        contains_null: bool,
    },
    /// A map.
    Map {
        /// The type of the keys.
        key: Box<DataType>,
        /// The type of the values.
        value: Box<DataType>,
        /// Whether values may be null.
        value_contains_null: bool,
    },
    /// A type that this server does not look into (`variant`, …), by its name.
    Other(String),
}

/// A type without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Primitive {
    /// `boolean`
    Boolean,
    /// `byte`: 8 bits.
    Byte,
    /// `short`: 16 bits.
    Short,
    /// `integer`: 32 bits.
    Integer,
    /// `long`: 64 bits.
    Long,
    /// `float`: 32 bits.
    Float,
    /// `double`: 64 bits.
    Double,
    /// `decimal(precision,scale)`
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// `string`: UTF-8.
    String,
    /// `binary`
    Binary,
    /// `date`: days since 1970.
    Date,
    /// `timestamp`: microseconds since 1970 in UTC.
    Timestamp,
    /// `timestamp_ntz`: microseconds since 1970 on a clock without a time zone.
    TimestampNtz,
}

/// The path to a column: the column's name, then for each step down the name of a struct field, `element` for an array,
/// or `key` or `value` for a map. It is written with dots; a name that contains a dot or a backtick is put in
/// backticks, with its own backticks doubled. Names compare exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnPath(pub Vec<String>);

/// Why a text is not a schema, or not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The text is not the JSON of a schema.
    #[error("not a schema: {0}")]
    Malformed(String),
    /// Types nest deeper than [`MAX_DEPTH`].
    #[error("types nest more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Two columns, or two fields of one struct, have the same name.
    #[error("two columns are called `{0}`")]
    Duplicate(ColumnPath),
    /// A path has an empty part, an unclosed backtick, or text after a closing backtick.
    #[error("`{0}` is no column path; write names with dots between them, and a name that holds a dot in backticks")]
    Path(String),
}

/// Why a lookup fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is no such column or field.
    #[error("there is no `{0}`")]
    Missing(ColumnPath),
    /// There is no such column or field, but a sibling with a similar name was probably meant.
    #[error("there is no `{wanted}`; did you mean `{found}`?")]
    Similar {
        /// The path asked for.
        wanted: ColumnPath,
        /// The path that exists.
        found: ColumnPath,
    },
    /// There is such a column or field, but its name differs by case.
    #[error("there is no `{wanted}`, but `{found}`; names are written in the case that the table has")]
    OtherCase {
        /// The path asked for.
        wanted: ColumnPath,
        /// The path that exists.
        found: ColumnPath,
    },
    /// The path continues into a type that has no such part.
    #[error("`{path}` is of type {data_type} and has no `{part}`{hint}")]
    NoParts {
        /// The part of the path that exists.
        path: ColumnPath,
        /// The type at that point.
        data_type: String,
        /// The next step of the path.
        part: String,
        /// What the path could name there instead.
        hint: &'static str,
    },
}

/// A step of a path, resolved against the schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'a> {
    /// To a column, or a field of a struct.
    Field(&'a Field),
    /// To the elements of an array.
    Element {
        /// Whether they may be null.
        nullable: bool,
    },
    /// To the keys of a map.
    Key,
    /// To the values of a map.
    Value {
        /// Whether they may be null.
        nullable: bool,
    },
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<'a> {
    /// The steps, from the column down.
    pub steps: Vec<Step<'a>>,
    /// The type at the end of the path.
    pub data_type: &'a DataType,
}

impl Schema {
    /// Parses the `schemaString` of a log.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let value: Value = serde_json::from_str(text).map_err(|error| SchemaError::Malformed(error.to_string()))?;
        Self::from_json(&value)
    }

    /// Reads a schema from JSON.
    pub fn from_json(value: &Value) -> Result<Self, SchemaError> {
        match read_type(value, &mut Vec::new())? {
            DataType::Struct(fields) => Ok(Self { fields }),
            other => Err(SchemaError::Malformed(format!("it is of type {other}, not a struct"))),
        }
    }

    /// Writes the schema as a `schemaString`; the same schema always gives the same text.
    pub fn schema_string(&self) -> String {
        // Serialization fails only for maps with keys that are not strings.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Finds the column or field at `path`.
    pub fn lookup(&self, path: &ColumnPath) -> Result<Found<'_>, LookupError> {
        let mut steps = Vec::with_capacity(path.0.len());
        let mut here: Option<&DataType> = None;
        for (at, name) in path.0.iter().enumerate() {
            let so_far = |end: usize| ColumnPath(path.0[..end].to_vec());
            let no_parts = |data_type: &DataType, hint| LookupError::NoParts {
                path: so_far(at),
                data_type: data_type.to_string(),
                part: name.clone(),
                hint,
            };
            let fields = match here {
                None => &self.fields,
                Some(DataType::Struct(fields)) => fields,
                Some(DataType::Array { element, contains_null }) if name == ELEMENT => {
                    steps.push(Step::Element { nullable: *contains_null });
                    here = Some(element);
                    continue;
                }
                Some(DataType::Map { key, .. }) if name == KEY => {
                    steps.push(Step::Key);
                    here = Some(key);
                    continue;
                }
                Some(DataType::Map { value, value_contains_null, .. }) if name == VALUE => {
                    steps.push(Step::Value { nullable: *value_contains_null });
                    here = Some(value);
                    continue;
                }
                Some(array @ DataType::Array { .. }) => {
                    return Err(no_parts(array, "; write `element` to step into it"));
                }
                Some(map @ DataType::Map { .. }) => {
                    return Err(no_parts(map, "; write `key` or `value` to step into it"));
                }
                Some(whole @ (DataType::Primitive(_) | DataType::Other(_))) => return Err(no_parts(whole, "")),
            };
            let Some(field) = fields.iter().find(|field| field.name == *name) else {
                let wanted = so_far(at + 1);
                return Err(match fields.iter().find(|field| differ_by_case(&field.name, name)) {
                    Some(other) => LookupError::OtherCase { wanted, found: so_far(at).join(&other.name) },
                    None => match nearest(name, fields.iter().map(|field| field.name.as_str())) {
                        Some(other) => LookupError::Similar { wanted, found: so_far(at).join(other) },
                        None => LookupError::Missing(wanted),
                    },
                });
            };
            steps.push(Step::Field(field));
            here = Some(&field.data_type);
        }
        match here {
            Some(data_type) => Ok(Found { steps, data_type }),
            None => Err(LookupError::Missing(path.clone())),
        }
    }

    /// The columns and fields that have a sibling whose name differs only by case.
    pub fn case_variants(&self) -> BTreeSet<ColumnPath> {
        let mut found = BTreeSet::new();
        case_variants(&self.fields, &mut Vec::new(), &mut found);
        found
    }

    /// All columns and fields without parts, in order. An empty struct has none.
    pub fn leaves(&self) -> Vec<(ColumnPath, &DataType)> {
        let mut leaves = Vec::new();
        for field in &self.fields {
            field.data_type.collect_leaves(&mut vec![field.name.clone()], &mut leaves);
        }
        leaves.into_iter().map(|(path, data_type)| (ColumnPath(path), data_type)).collect()
    }

    /// Whether `is` accepts some column or field, at any depth.
    pub fn has_field(&self, is: impl Fn(&Field) -> bool) -> bool {
        let mut left: Vec<&Field> = self.fields.iter().collect();
        while let Some(field) = left.pop() {
            if is(field) {
                return true;
            }
            let mut types = vec![&field.data_type];
            while let Some(data_type) = types.pop() {
                match data_type {
                    DataType::Primitive(_) | DataType::Other(_) => {}
                    DataType::Struct(fields) => left.extend(fields),
                    DataType::Array { element, .. } => types.push(element),
                    DataType::Map { key, value, .. } => types.extend([&**key, &**value]),
                }
            }
        }
        false
    }

    /// This schema with only the columns and fields that one of `paths` leads to, through, or into. It keeps no
    /// metadata except physical names.
    pub fn pruned<'a>(&self, paths: impl IntoIterator<Item = &'a ColumnPath>) -> Self {
        let paths: Vec<&[String]> = paths.into_iter().map(|path| path.0.as_slice()).collect();
        Self { fields: pruned_fields(&self.fields, &paths) }
    }
}

impl Found<'_> {
    /// Whether a row may have NULL there, or anywhere on the way there.
    pub fn nullable(&self) -> bool {
        self.steps.iter().any(Step::nullable)
    }
}

impl Step<'_> {
    /// Whether the part that it leads to may be null.
    pub fn nullable(&self) -> bool {
        match self {
            Self::Field(field) => field.nullable,
            Self::Element { nullable } | Self::Value { nullable } => *nullable,
            Self::Key => false,
        }
    }

    /// Whether it leads into an array or a map.
    pub fn is_into_collection(&self) -> bool {
        !matches!(self, Self::Field(_))
    }

    /// The name that a path uses for it.
    pub fn name(&self) -> &str {
        match self {
            Self::Field(field) => &field.name,
            Self::Element { .. } => ELEMENT,
            Self::Key => KEY,
            Self::Value { .. } => VALUE,
        }
    }
}

impl Field {
    /// Its name in files and in the log's statistics and partition values: the physical name if the table maps columns
    /// (`maps_columns`), the logical name otherwise.
    pub fn physical_name(&self, maps_columns: bool) -> &str {
        self.mapped_name().filter(|_| maps_columns).unwrap_or(&self.name)
    }

    /// The physical name from its metadata, whether or not the table maps columns.
    pub fn mapped_name(&self) -> Option<&str> {
        self.metadata.get(PHYSICAL_NAME).and_then(Value::as_str)
    }
}

/// Rewrites a schema's text into the types that Delta's own readers use; `None` if nothing changes. A user-defined type
/// becomes its SQL type, `char(n)` and `varchar(n)` become `string`, and a decimal without digits gets ten.
pub fn as_readers_read(schema_string: &str) -> Option<String> {
    if !["\"udt\"", "\"char(", "\"varchar(", "\"decimal\""].iter().any(|name| schema_string.contains(name)) {
        return None;
    }
    let mut schema: Value = serde_json::from_str(schema_string).ok()?;
    let mut has_changed = false;
    read_as_readers(&mut schema, &mut has_changed);
    has_changed.then(|| schema.to_string())
}

fn read_as_readers(data_type: &mut Value, has_changed: &mut bool) {
    let parts = match data_type {
        Value::String(name) => {
            let read = match Primitive::parse(name) {
                Some(primitive) if name.starts_with("char") || name.starts_with("varchar") || name == "decimal" => {
                    primitive.to_string()
                }
                _ => return,
            };
            *has_changed = true;
            *name = read;
            return;
        }
        Value::Object(parts) => parts,
        _ => return,
    };
    if parts.get("type").and_then(Value::as_str) == Some("udt") {
        if let Some(mut sql_type) = parts.remove("sqlType") {
            read_as_readers(&mut sql_type, has_changed);
            *has_changed = true;
            *data_type = sql_type;
        }
        return;
    }
    for key in ["elementType", "keyType", "valueType"] {
        if let Some(inner) = parts.get_mut(key) {
            read_as_readers(inner, has_changed);
        }
    }
    for field in parts.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(inner) = field.get_mut("type") {
            read_as_readers(inner, has_changed);
        }
    }
}

/// The result of [`find_name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// The name is at this place.
    At(usize),
    /// The name is not there.
    Nowhere,
    /// Several names match.
    Somewhere,
}

/// Finds the place of `wanted` in `names` by the rule for columns in files and logs: the last name that is equal, or
/// else the only name that differs just by case.
pub fn find_name<'a>(
    names: impl DoubleEndedIterator<Item = &'a str> + ExactSizeIterator + Clone,
    wanted: &str,
) -> Among {
    if let Some(at) = names.clone().rposition(|name| name == wanted) {
        return Among::At(at);
    }
    let mut alike = names.enumerate().filter(|(_, name)| differ_by_case(name, wanted)).map(|(at, _)| at);
    match (alike.next(), alike.next()) {
        (Some(at), None) => Among::At(at),
        (None, _) => Among::Nowhere,
        (Some(_), Some(_)) => Among::Somewhere,
    }
}

/// Whether two names differ, but only by case.
pub fn differ_by_case(one: &str, other: &str) -> bool {
    one != other
        && if one.is_ascii() && other.is_ascii() {
            one.eq_ignore_ascii_case(other)
        } else {
            name_key(one) == name_key(other)
        }
}

fn case_variants(fields: &[Field], path: &mut Vec<String>, found: &mut BTreeSet<ColumnPath>) {
    let mut count: HashMap<String, usize> = HashMap::with_capacity(fields.len());
    for field in fields {
        *count.entry(name_key(&field.name)).or_default() += 1;
    }
    for field in fields {
        path.push(field.name.clone());
        if count.len() < fields.len() && count.get(&name_key(&field.name)).is_some_and(|count| *count > 1) {
            found.insert(ColumnPath(path.clone()));
        }
        variants_below(&field.data_type, path, found);
        path.pop();
    }
}

fn variants_below(data_type: &DataType, path: &mut Vec<String>, found: &mut BTreeSet<ColumnPath>) {
    let mut below = |part: &str, inner: &DataType| {
        path.push(part.to_owned());
        variants_below(inner, path, found);
        path.pop();
    };
    match data_type {
        DataType::Primitive(_) | DataType::Other(_) => {}
        DataType::Struct(fields) => case_variants(fields, path, found),
        DataType::Array { element, .. } => below(ELEMENT, element),
        DataType::Map { key, value, .. } => {
            below(KEY, key);
            below(VALUE, value);
        }
    }
}

fn pruned_fields(fields: &[Field], paths: &[&[String]]) -> Vec<Field> {
    let mut below: HashMap<&str, Vec<&[String]>> = HashMap::new();
    for path in paths {
        if let Some((name, rest)) = path.split_first() {
            below.entry(name).or_default().push(rest);
        }
    }
    let kept = fields.iter().filter_map(|field| {
        let paths = below.get(field.name.as_str())?;
        let physical = field.metadata.get(PHYSICAL_NAME);
        let metadata = physical.map(|name| (PHYSICAL_NAME.to_owned(), name.clone())).into_iter().collect();
        Some(Field { data_type: pruned_type(&field.data_type, paths), metadata, ..field.clone() })
    });
    kept.collect()
}

/// Prunes a type; a path that ends here keeps everything below.
fn pruned_type(data_type: &DataType, paths: &[&[String]]) -> DataType {
    let is_whole = paths.iter().any(|path| path.is_empty());
    let below = |part: &str| -> Vec<&[String]> {
        if is_whole {
            return vec![&[]];
        }
        paths.iter().filter_map(|path| path.split_first().filter(|(name, _)| *name == part)).map(|(_, r)| r).collect()
    };
    match data_type {
        DataType::Primitive(_) | DataType::Other(_) => data_type.clone(),
        DataType::Struct(fields) if is_whole => {
            let all: Vec<&[String]> = fields.iter().map(|field| std::slice::from_ref(&field.name)).collect();
            DataType::Struct(pruned_fields(fields, &all))
        }
        DataType::Struct(fields) => DataType::Struct(pruned_fields(fields, paths)),
        DataType::Array { element, contains_null } => {
            DataType::Array { element: Box::new(pruned_type(element, &below(ELEMENT))), contains_null: *contains_null }
        }
        DataType::Map { key, value, value_contains_null } => DataType::Map {
            key: Box::new(pruned_type(key, &below(KEY))),
            value: Box::new(pruned_type(value, &below(VALUE))),
            value_contains_null: *value_contains_null,
        },
    }
}

impl DataType {
    /// All parts without parts of their own, in order, each with the steps that lead to it. A type without parts gives
    /// itself.
    pub fn leaves(&self) -> Vec<(Vec<String>, &DataType)> {
        let mut leaves = Vec::new();
        self.collect_leaves(&mut Vec::new(), &mut leaves);
        leaves
    }

    fn collect_leaves<'a>(&'a self, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, &'a DataType)>) {
        let mut below = |part: &str, inner: &'a DataType| {
            path.push(part.to_owned());
            inner.collect_leaves(path, leaves);
            path.pop();
        };
        match self {
            Self::Primitive(_) | Self::Other(_) => leaves.push((path.clone(), self)),
            Self::Struct(fields) => fields.iter().for_each(|field| below(&field.name, &field.data_type)),
            Self::Array { element, .. } => below(ELEMENT, element),
            Self::Map { key, value, .. } => {
                below(KEY, key);
                below(VALUE, value);
            }
        }
    }

    /// This type without the metadata of its fields.
    pub fn without_metadata(&self) -> Self {
        match self {
            Self::Primitive(_) | Self::Other(_) => self.clone(),
            Self::Struct(fields) => Self::Struct(
                fields
                    .iter()
                    .map(|field| Field {
                        name: field.name.clone(),
                        data_type: field.data_type.without_metadata(),
                        nullable: field.nullable,
                        metadata: Map::new(),
                    })
                    .collect(),
            ),
            Self::Array { element, contains_null } => {
                Self::Array { element: Box::new(element.without_metadata()), contains_null: *contains_null }
            }
            Self::Map { key, value, value_contains_null } => Self::Map {
                key: Box::new(key.without_metadata()),
                value: Box::new(value.without_metadata()),
                value_contains_null: *value_contains_null,
            },
        }
    }

    /// The primitive type, if it is one.
    pub fn primitive(&self) -> Option<Primitive> {
        match self {
            Self::Primitive(primitive) => Some(*primitive),
            _ => None,
        }
    }
}

/// The form that messages use: Delta's type names, with the field names of structs.
impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primitive(primitive) => primitive.fmt(f),
            Self::Other(name) => f.write_str(name),
            Self::Array { element, .. } => write!(f, "array<{element}>"),
            Self::Map { key, value, .. } => write!(f, "map<{key}, {value}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (at, field) in fields.iter().enumerate() {
                    write!(f, "{}{}: {}", if at == 0 { "" } else { ", " }, field.name, field.data_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

/// The form that Delta uses.
impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Byte => "byte",
            Self::Short => "short",
            Self::Integer => "integer",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Self::String => "string",
            Self::Binary => "binary",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::TimestampNtz => "timestamp_ntz",
        })
    }
}

impl Primitive {
    /// Parses a type name of Delta; `char(n)` and `varchar(n)` are read as strings.
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" => Self::Boolean,
            "byte" => Self::Byte,
            "short" => Self::Short,
            "integer" => Self::Integer,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "string" => Self::String,
            "binary" => Self::Binary,
            "date" => Self::Date,
            "timestamp" => Self::Timestamp,
            "timestamp_ntz" => Self::TimestampNtz,
            "decimal" => Self::Decimal { precision: 10, scale: 0 },
            _ => {
                let (word, arguments) = name.strip_suffix(')')?.split_once('(')?;
                match word {
                    "char" | "varchar" => arguments.trim().parse::<u32>().ok().map(|_| Self::String)?,
                    "decimal" => {
                        let (precision, scale) = arguments.split_once(',')?;
                        let precision = precision.trim().parse().ok().filter(|digits| (1..=38).contains(digits))?;
                        let scale = scale.trim().parse::<i8>().ok().filter(|scale| *scale >= 0)?;
                        (i16::from(scale) <= i16::from(precision)).then_some(Self::Decimal { precision, scale })?
                    }
                    _ => return None,
                }
            }
        })
    }
}

fn read_type(value: &Value, path: &mut Vec<String>) -> Result<DataType, SchemaError> {
    if path.len() > MAX_DEPTH {
        return Err(SchemaError::TooDeep);
    }
    let parts = match value {
        Value::String(name) => {
            let other = || DataType::Other(name.clone());
            return Ok(Primitive::parse(name).map_or_else(other, DataType::Primitive));
        }
        Value::Object(parts) => parts,
        _ => return Err(malformed(path, "its type is neither a name nor an object")),
    };
    let flag = |key: &str, path: &[String]| {
        parts.get(key).and_then(Value::as_bool).ok_or_else(|| malformed(path, &format!("`{key}` is not true or false")))
    };
    let part = |key: &str, step: &str, path: &mut Vec<String>| {
        let value = parts.get(key).ok_or_else(|| malformed(path, &format!("`{key}` is missing")))?;
        path.push(step.to_owned());
        let inner = read_type(value, path)?;
        path.pop();
        Ok(Box::new(inner))
    };
    match parts.get("type").and_then(Value::as_str) {
        Some("struct") => read_fields(parts, path).map(DataType::Struct),
        Some("array") => Ok(DataType::Array {
            element: part("elementType", ELEMENT, path)?,
            contains_null: flag("containsNull", path)?,
        }),
        Some("map") => Ok(DataType::Map {
            key: part("keyType", KEY, path)?,
            value: part("valueType", VALUE, path)?,
            value_contains_null: flag("valueContainsNull", path)?,
        }),
        Some(other) => Ok(DataType::Other(other.to_owned())),
        None => Err(malformed(path, "its type has no name")),
    }
}

fn read_fields(parts: &Map<String, Value>, path: &mut Vec<String>) -> Result<Vec<Field>, SchemaError> {
    let Some(values) = parts.get("fields").and_then(Value::as_array) else {
        return Err(malformed(path, "`fields` is not a list"));
    };
    let mut names = HashSet::with_capacity(values.len());
    let mut fields = Vec::with_capacity(values.len());
    for value in values {
        let name = value.get("name").and_then(Value::as_str).ok_or_else(|| malformed(path, "a field has no name"))?;
        path.push(name.to_owned());
        if !names.insert(name) {
            return Err(SchemaError::Duplicate(ColumnPath(path.clone())));
        }
        let data_type = read_type(value.get("type").unwrap_or(&Value::Null), path)?;
        let Some(nullable) = value.get("nullable").and_then(Value::as_bool) else {
            return Err(malformed(path, "`nullable` is not true or false"));
        };
        let metadata = match value.get("metadata") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(metadata)) => metadata.clone(),
            Some(_) => return Err(malformed(path, "`metadata` is not an object")),
        };
        path.pop();
        fields.push(Field { name: name.to_owned(), data_type, nullable, metadata });
    }
    Ok(fields)
}

fn malformed(path: &[String], what: &str) -> SchemaError {
    if path.is_empty() {
        SchemaError::Malformed(what.to_owned())
    } else {
        SchemaError::Malformed(format!("`{}`: {what}", ColumnPath(path.to_vec())))
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_struct(&self.fields, serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut field = serializer.serialize_struct("Field", 4)?;
        field.serialize_field("name", &self.name)?;
        field.serialize_field("type", &self.data_type)?;
        field.serialize_field("nullable", &self.nullable)?;
        field.serialize_field("metadata", &self.metadata)?;
        field.end()
    }
}

impl Serialize for DataType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Primitive(primitive) => serializer.collect_str(primitive),
            Self::Other(name) => serializer.serialize_str(name),
            Self::Struct(fields) => write_struct(fields, serializer),
            Self::Array { element, contains_null } => {
                let mut array = serializer.serialize_struct("Array", 3)?;
                array.serialize_field("type", "array")?;
                array.serialize_field("elementType", element)?;
                array.serialize_field("containsNull", contains_null)?;
                array.end()
            }
            Self::Map { key, value, value_contains_null } => {
                let mut map = serializer.serialize_struct("Map", 4)?;
                map.serialize_field("type", "map")?;
                map.serialize_field("keyType", key)?;
                map.serialize_field("valueType", value)?;
                map.serialize_field("valueContainsNull", value_contains_null)?;
                map.end()
            }
        }
    }
}

fn write_struct<S: Serializer>(fields: &[Field], serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_struct("Struct", 2)?;
    object.serialize_field("type", "struct")?;
    object.serialize_field("fields", fields)?;
    object.end()
}

impl ColumnPath {
    /// Parses a path.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let wrong = || SchemaError::Path(text.chars().take(MAX_SHOWN).collect());
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            if names.len() == MAX_DEPTH {
                return Err(SchemaError::TooDeep);
            }
            let (name, behind) = match rest.strip_prefix('`') {
                Some(quoted) => unquote(quoted).ok_or_else(wrong)?,
                None => {
                    let (name, behind) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                    (name.to_owned(), behind)
                }
            };
            if name.is_empty() || (name.contains('`') && !rest.starts_with('`')) {
                return Err(wrong());
            }
            names.push(name);
            match behind.strip_prefix('.') {
                Some(next) => rest = next,
                None if behind.is_empty() => return Ok(Self(names)),
                None => return Err(wrong()),
            }
        }
    }

    /// This path with one more step.
    pub fn join(&self, name: &str) -> Self {
        let mut names = self.0.clone();
        names.push(name.to_owned());
        Self(names)
    }
}

/// Splits a text that starts just after an opening backtick into the quoted name and the rest after the closing
/// backtick.
pub(in crate::domain) fn unquote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('`')?;
        name.push_str(part);
        match behind.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, behind)),
        }
    }
}

impl fmt::Display for ColumnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            if name.is_empty() || name.contains(['.', '`']) {
                write!(f, "`{}`", name.replace('`', "``"))?;
            } else {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

impl FromStr for ColumnPath {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        Self::parse(text)
    }
}

impl Serialize for ColumnPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
