//! Values as tests use them, independent of arrow, with conversions to and from arrow.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
        Int8Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
        TimestampMicrosecondArray, new_null_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::cast,
    datatypes::{
        DataType, Date32Type, Decimal128Type, Field, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
        Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    },
};
use weir::domain::catalog::{
    schema::{self, DataType as DeltaType, Primitive},
    view::{mask::Cell, row_filter::Value as Known},
};

/// A value of a column, field, element, key or map. Two values are equal if their `Debug` texts are: NaN equals NaN,
/// and the two zeros differ.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Decimal(i128),
    Text(String),
    Binary(Vec<u8>),
    Date(i32),
    Timestamp(i64),
    Struct(Vec<Value>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

/// A row: one value per column.
pub type Row = Vec<Value>;

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Visits the value and everything in it.
    pub fn visit(&self, see: &mut impl FnMut(&Self)) {
        see(self);
        match self {
            Self::Struct(parts) | Self::List(parts) => parts.iter().for_each(|part| part.visit(see)),
            Self::Map(entries) => entries.iter().for_each(|(key, value)| {
                key.visit(see);
                value.visit(see);
            }),
            _ => {}
        }
    }

    /// The value as masks take it; composite values have none.
    pub fn cell(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Boolean(value) => Cell::Boolean(*value),
            Self::Integer(value) => Cell::Integer(*value),
            Self::Float(value) => Cell::Float(*value),
            Self::Decimal(digits) => Cell::Decimal(*digits),
            Self::Text(text) => Cell::Text(text.as_str().into()),
            Self::Binary(bytes) => Cell::Binary(bytes),
            Self::Date(days) => Cell::Date(*days),
            Self::Timestamp(micros) => Cell::Timestamp(*micros),
            Self::Struct(_) | Self::List(_) | Self::Map(_) => panic!("a mask takes single values"),
        }
    }

    /// The value as filters take it.
    pub fn known(&self) -> Option<Known> {
        Some(match self {
            Self::Null => return None,
            Self::Boolean(value) => Known::Boolean(*value),
            Self::Integer(value) => Known::Integer(*value),
            Self::Float(value) => Known::Float(*value),
            Self::Decimal(digits) => Known::Decimal(*digits),
            Self::Text(text) => Known::Text(text.clone()),
            Self::Date(days) => Known::Date(*days),
            Self::Timestamp(micros) => Known::Timestamp(*micros),
            // Filters can only ask whether these are NULL.
            Self::Binary(_) | Self::Struct(_) | Self::List(_) | Self::Map(_) => Known::Boolean(true),
        })
    }
}

impl From<Cell<'_>> for Value {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Boolean(value) => Self::Boolean(value),
            Cell::Integer(value) => Self::Integer(value),
            Cell::Float(value) => Self::Float(value),
            Cell::Decimal(digits) => Self::Decimal(digits),
            Cell::Text(text) => Self::Text(text.into_owned()),
            Cell::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Cell::Date(days) => Self::Date(days),
            Cell::Timestamp(micros) => Self::Timestamp(micros),
        }
    }
}

/// Rows as sorted texts, for comparison.
pub fn sorted(rows: &[Row]) -> Vec<String> {
    let mut texts: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    texts.sort();
    texts
}

/// How a file names a column or field: by name, and by id if the table maps by id.
pub type Named = fn(&schema::Field) -> (String, Option<String>);

/// The arrow field of a column in a file.
pub fn arrow_field(field: &schema::Field, named: Named) -> FieldRef {
    let (name, id) = named(field);
    let made = Field::new(name, arrow_type(&field.data_type, named), true);
    let metadata = id.map(|id| ("PARQUET:field_id".to_owned(), id));
    Arc::new(made.with_metadata(metadata.into_iter().collect()))
}

/// The arrow type of a type in a file.
pub fn arrow_type(data_type: &DeltaType, named: Named) -> DataType {
    match data_type {
        DeltaType::Primitive(primitive) => primitive_type(*primitive),
        DeltaType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| arrow_field(field, named)).collect::<Fields>())
        }
        DeltaType::Array { element, .. } => {
            DataType::List(Arc::new(Field::new("element", arrow_type(element, named), true)))
        }
        DeltaType::Map { key, value, .. } => {
            let entries = Fields::from(vec![
                Field::new("key", arrow_type(key, named), false),
                Field::new("value", arrow_type(value, named), true),
            ]);
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries), false)), false)
        }
        DeltaType::Other(name) => panic!("no {name} here"),
    }
}

fn primitive_type(primitive: Primitive) -> DataType {
    match primitive {
        Primitive::Boolean => DataType::Boolean,
        Primitive::Byte => DataType::Int8,
        Primitive::Short => DataType::Int16,
        Primitive::Integer => DataType::Int32,
        Primitive::Long => DataType::Int64,
        Primitive::Float => DataType::Float32,
        Primitive::Double => DataType::Float64,
        Primitive::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
        Primitive::String => DataType::Utf8,
        Primitive::Binary => DataType::Binary,
        Primitive::Date => DataType::Date32,
        Primitive::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Primitive::TimestampNtz => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

/// Converts values to an arrow array.
pub fn to_array(values: &[&Value], data_type: &DataType) -> ArrayRef {
    macro_rules! numbers {
        ($array:ty, $native:ty) => {
            Arc::new(<$array>::from_iter(values.iter().map(|value| match value {
                Value::Integer(value) => Some(<$native>::try_from(*value).unwrap()),
                other => null(other),
            })))
        };
    }
    fn null<T>(value: &Value) -> Option<T> {
        assert!(value.is_null(), "{value:?} is of another type than its column");
        None
    }
    let nulls = || NullBuffer::from_iter(values.iter().map(|value| !value.is_null()));
    match data_type {
        DataType::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
            Value::Boolean(value) => Some(*value),
            other => null(other),
        }))),
        DataType::Int8 => numbers!(Int8Array, i8),
        DataType::Int16 => numbers!(Int16Array, i16),
        DataType::Int32 => numbers!(Int32Array, i32),
        DataType::Int64 => numbers!(Int64Array, i64),
        DataType::Float32 => Arc::new(Float32Array::from_iter(values.iter().map(|value| match value {
            Value::Float(value) => Some(*value as f32),
            other => null(other),
        }))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(values.iter().map(|value| match value {
            Value::Float(value) => Some(*value),
            other => null(other),
        }))),
        DataType::Decimal128(precision, scale) => {
            let digits = values.iter().map(|value| match value {
                Value::Decimal(digits) => Some(*digits),
                other => null(other),
            });
            Arc::new(Decimal128Array::from_iter(digits).with_precision_and_scale(*precision, *scale).unwrap())
        }
        DataType::Utf8 => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            other => null(other),
        }))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(values.iter().map(|value| match value {
            Value::Binary(bytes) => Some(bytes.as_slice()),
            other => null(other),
        }))),
        DataType::Date32 => Arc::new(Date32Array::from_iter(values.iter().map(|value| match value {
            Value::Date(days) => Some(*days),
            other => null(other),
        }))),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = values.iter().map(|value| match value {
                Value::Timestamp(micros) => Some(*micros),
                other => null(other),
            });
            Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone_opt(zone.clone()))
        }
        DataType::Struct(fields) => {
            let part = |at: usize| {
                let parts: Vec<&Value> = values
                    .iter()
                    .map(|value| match value {
                        Value::Struct(parts) => &parts[at],
                        other => null::<&Value>(other).unwrap_or(&Value::Null),
                    })
                    .collect();
                to_array(&parts, fields[at].data_type())
            };
            let columns = (0..fields.len()).map(part).collect();
            Arc::new(StructArray::new(fields.clone(), columns, Some(nulls())))
        }
        DataType::List(field) => {
            let lists = values.iter().map(|value| match value {
                Value::List(elements) => elements.as_slice(),
                other => null::<&[Value]>(other).unwrap_or_default(),
            });
            let elements: Vec<&Value> = lists.clone().flatten().collect();
            let offsets = OffsetBuffer::from_lengths(lists.map(<[Value]>::len));
            let elements = to_array(&elements, field.data_type());
            Arc::new(ListArray::new(Arc::clone(field), offsets, elements, Some(nulls())))
        }
        DataType::Map(field, _) => {
            let DataType::Struct(parts) = field.data_type() else { panic!("a map's entries are structs") };
            let maps = values.iter().map(|value| match value {
                Value::Map(entries) => entries.as_slice(),
                other => null::<&[(Value, Value)]>(other).unwrap_or_default(),
            });
            let (keys, held): (Vec<&Value>, Vec<&Value>) =
                maps.clone().flatten().map(|(key, value)| (key, value)).unzip();
            let columns = vec![to_array(&keys, parts[0].data_type()), to_array(&held, parts[1].data_type())];
            let entries = StructArray::new(parts.clone(), columns, None);
            let offsets = OffsetBuffer::from_lengths(maps.map(<[(Value, Value)]>::len));
            Arc::new(MapArray::new(Arc::clone(field), offsets, entries, Some(nulls()), false))
        }
        DataType::Null => new_null_array(data_type, values.len()),
        other => panic!("no {other} here"),
    }
}

/// Converts an arrow array to values.
pub fn from_array(array: &ArrayRef) -> Vec<Value> {
    macro_rules! each {
        ($array:expr, $value:expr) => {{
            let array = $array;
            (0..array.len()).map(|at| if array.is_null(at) { Value::Null } else { $value(array.value(at)) }).collect()
        }};
    }
    match array.data_type() {
        DataType::Boolean => each!(array.as_boolean(), Value::Boolean),
        DataType::Int8 => each!(array.as_primitive::<Int8Type>(), |value: i8| Value::Integer(value.into())),
        DataType::Int16 => each!(array.as_primitive::<Int16Type>(), |value: i16| Value::Integer(value.into())),
        DataType::Int32 => each!(array.as_primitive::<Int32Type>(), |value: i32| Value::Integer(value.into())),
        DataType::Int64 => each!(array.as_primitive::<Int64Type>(), Value::Integer),
        DataType::Float32 => each!(array.as_primitive::<Float32Type>(), |value: f32| Value::Float(value.into())),
        DataType::Float64 => each!(array.as_primitive::<Float64Type>(), Value::Float),
        DataType::Decimal128(..) => each!(array.as_primitive::<Decimal128Type>(), Value::Decimal),
        DataType::Utf8 => each!(array.as_string::<i32>(), |text: &str| Value::text(text)),
        DataType::Binary => each!(array.as_binary::<i32>(), |bytes: &[u8]| Value::Binary(bytes.to_vec())),
        DataType::Date32 => each!(array.as_primitive::<Date32Type>(), Value::Date),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            each!(array.as_primitive::<TimestampMicrosecondType>(), Value::Timestamp)
        }
        DataType::Timestamp(_, zone) => {
            from_array(&cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())).unwrap())
        }
        DataType::Struct(_) => {
            let structs = array.as_struct();
            let columns: Vec<Vec<Value>> = structs.columns().iter().map(from_array).collect();
            let row = |at: usize| Value::Struct(columns.iter().map(|column| column[at].clone()).collect());
            (0..structs.len()).map(|at| if structs.is_null(at) { Value::Null } else { row(at) }).collect()
        }
        DataType::List(_) => each!(array.as_list::<i32>(), |elements: ArrayRef| Value::List(from_array(&elements))),
        DataType::Map(..) => each!(array.as_map(), |entries: StructArray| {
            let (keys, values) = (from_array(entries.column(0)), from_array(entries.column(1)));
            Value::Map(keys.into_iter().zip(values).collect())
        }),
        other => panic!("nobody writes {other}"),
    }
}
