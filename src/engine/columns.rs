//! Maps a file's columns to the table's: selects the leaves to read, the types to read them as, and the conversion to
//! the table's columns. Files may use other names, orders and type spellings, or lack columns.
//!
//! A column is matched by exact name, else by the only name that differs just in case; in a table mapped by id, by id
//! first. A missing column is NULL only if this discloses nothing: see [`Wanted::is_required`].
//!
//! All results have exactly the type of their [`Kind`], and a value within a null is itself null.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, PrimitiveArray, RecordBatch, StructArray,
        new_null_array,
    },
    buffer::NullBuffer,
    compute::{CastOptions, cast_with_options, nullif, take},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, UInt32Type,
    },
    error::ArrowError,
};
use parquet::{
    arrow::{
        PARQUET_FIELD_ID_META_KEY, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    },
    basic::{ConvertedType, Type as PhysicalType},
    file::metadata::ParquetMetaData,
    schema::types::SchemaDescriptor,
};

use crate::domain::catalog::schema::{ColumnPath, ELEMENT, Field as TableField, KEY, Primitive, VALUE, differ_by_case};

use super::{
    ColumnMapping, EngineError, SourceFile, partition, types,
    wanted::{Kind, Wanted, held},
};

/// The number of microseconds in a day.
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The mapping of the wanted columns to one file.
#[derive(Debug)]
pub(super) struct Columns {
    /// The file's metadata, with the types to read it as.
    pub(super) file: ArrowReaderMetadata,
    /// The leaves to read, in ascending order.
    pub(super) leaves: Vec<usize>,
    fields: Fields,
    sources: Vec<Source>,
}

/// The source of a column or field.
#[derive(Debug)]
enum Source {
    /// No source: the file lacks it, and it may be NULL.
    Absent,
    /// A value from the log: an array of length one.
    Constant(ArrayRef),
    /// The column at this position among those read.
    Read(usize, Shape),
}

/// The conversion of an array from the file to one of the table.
#[derive(Debug)]
enum Shape {
    Leaf(Primitive),
    Struct(Fields, Vec<Source>),
    List(FieldRef, Box<Shape>),
    Map(FieldRef, Box<(Shape, Shape)>),
}

impl Columns {
    /// Finds the `wanted` columns in a file of `source`. Partition columns are taken from the log, not from the file.
    pub(super) fn find(
        wanted: &[Wanted],
        source: &SourceFile,
        metadata: Arc<ParquetMetaData>,
    ) -> Result<Self, EngineError> {
        let partition_values = &source.partition_values;
        let plain = file_schema(&metadata)?;
        let parquet = metadata.file_metadata().schema_descr_ptr();
        let added_later = &source.added_later;
        let mut finder = Finder { parquet: &parquet, added_later, path: Vec::new(), next_leaf: 0, leaves: Vec::new() };
        source.check_unsaid(wanted)?;
        let is_unsaid = |field: &Wanted| source.unsaid.contains(&field.physical);
        let in_log = |field: &Wanted| partition_values.iter().any(|(name, _)| *name == field.physical);
        let in_file: Vec<&Wanted> = wanted.iter().filter(|field| !in_log(field) && !is_unsaid(field)).collect();
        let (read_as, mut found) = finder.fields(plain.fields(), &in_file)?;
        let source = |field: &Wanted| match partition_values.iter().find(|(name, _)| *name == field.physical) {
            _ if is_unsaid(field) => Ok(Source::Absent),
            Some((_, text)) => match &field.kind {
                Kind::Leaf(primitive) => partition::read(text.as_deref(), *primitive).map(Source::Constant),
                _ => Err(EngineError::corrupt("its table is partitioned by a column with parts")),
            },
            None => Ok(found.remove(0)),
        };
        let sources = wanted.iter().map(source).collect::<Result<_, _>>()?;
        let leaves = finder.leaves;
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(read_as)));
        let file = ArrowReaderMetadata::try_new(metadata, options).map_err(undecodable)?;
        Ok(Self { file, leaves, fields: held(wanted), sources })
    }

    /// Returns one row with the columns that are the same in every row, and NULL for the others; and which columns are
    /// the same in every row.
    pub(super) fn constants(&self) -> Result<(StructArray, Vec<bool>), EngineError> {
        let constant = |(source, field): (&Source, &FieldRef)| match source {
            Source::Constant(value) => Arc::clone(value),
            Source::Absent | Source::Read(..) => new_null_array(field.data_type(), 1),
        };
        let row = self.sources.iter().zip(&self.fields).map(constant).collect();
        let row = StructArray::try_new_with_length(self.fields.clone(), row, None, 1).map_err(malformed)?;
        Ok((row, self.sources.iter().map(|source| !matches!(source, Source::Read(..))).collect()))
    }

    /// Returns the mask of the leaves to decode.
    pub(super) fn projection(&self) -> ProjectionMask {
        ProjectionMask::leaves(self.file.parquet_schema(), self.leaves.iter().copied())
    }

    /// Returns the table's columns for the rows read as `batch`.
    pub(super) fn of(&self, batch: &RecordBatch) -> Result<StructArray, EngineError> {
        make_struct(&self.fields, &self.sources, batch.columns(), batch.num_rows(), None)
    }
}

impl SourceFile {
    /// Refuses a file if the log has no value for a partition column that must not be NULL or that decides what is
    /// shown. Checks all columns of the table, because shown partition columns are not in `wanted`.
    fn check_unsaid(&self, wanted: &[Wanted]) -> Result<(), EngineError> {
        let maps_columns = self.mapping != ColumnMapping::None;
        let physical = |field: &TableField| field.physical_name(maps_columns).to_owned();
        for column in self.schema.fields.iter().filter(|field| self.unsaid.contains(&physical(field))) {
            let decides = || wanted.iter().any(|field| field.name == column.name && field.is_required);
            let path = ColumnPath(vec![column.name.clone()]);
            if (!column.nullable || decides()) && !self.added_later.contains(&path) {
                return Err(EngineError::Lacks(path));
            }
        }
        Ok(())
    }
}

/// Returns the file's columns without any hints from the writer's Arrow schema.
pub(super) fn file_schema(metadata: &Arc<ParquetMetaData>) -> Result<SchemaRef, EngineError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let file = ArrowReaderMetadata::try_new(Arc::clone(metadata), options).map_err(undecodable)?;
    Ok(Arc::clone(file.schema()))
}

/// Builds the error for a footer that cannot be decoded. The decoder's message is dropped: it may quote the footer,
/// which holds statistics.
pub(super) fn undecodable(_: parquet::errors::ParquetError) -> EngineError {
    EngineError::corrupt("its columns do not make sense")
}

/// Walks through a file's columns and counts leaves.
struct Finder<'a> {
    parquet: &'a SchemaDescriptor,
    /// Columns that the file lacks because they were added later.
    added_later: &'a [ColumnPath],
    /// The current path in the table's schema.
    path: Vec<String>,
    next_leaf: usize,
    leaves: Vec<usize>,
}

impl Finder<'_> {
    /// Finds `wanted` among `fields`. Returns the types to read the fields as, and the source of each wanted one.
    fn fields(&mut self, fields: &Fields, wanted: &[&Wanted]) -> Result<(Fields, Vec<Source>), EngineError> {
        let mut sources: Vec<Source> = wanted.iter().map(|_| Source::Absent).collect();
        // For each field, the index of the matching wanted one.
        let mut is_wanted: Vec<Option<usize>> = vec![None; fields.len()];
        for (at, wanted) in wanted.iter().enumerate() {
            let here = || {
                let above = self.path.iter().cloned();
                ColumnPath(above.chain([wanted.name.clone()]).collect())
            };
            let found = place(fields, wanted).map_err(|Unclear| EngineError::Unclear(here()))?;
            match found.and_then(|found| is_wanted.get_mut(found)) {
                Some(Some(_)) => return Err(EngineError::Unclear(here())),
                Some(free) => *free = Some(at),
                None if wanted.is_required && !self.added_later.contains(&here()) => {
                    return Err(EngineError::Lacks(here()));
                }
                None => {}
            }
        }
        let mut read_as = Vec::with_capacity(fields.len());
        let mut position = 0;
        for (field, found) in fields.iter().zip(is_wanted) {
            let Some(found) = found else {
                self.next_leaf += count_leaves(field.data_type());
                read_as.push(Arc::clone(field));
                continue;
            };
            let read_before = self.leaves.len();
            let (data_type, shape) = self.below(&wanted[found].name, field.data_type(), &wanted[found].kind)?;
            read_as.push(Arc::new(field.as_ref().clone().with_data_type(data_type)));
            if self.leaves.len() > read_before {
                sources[found] = Source::Read(position, shape);
                position += 1;
            }
        }
        Ok((read_as.into(), sources))
    }

    /// Calls [`Self::column`] one level down.
    fn below(&mut self, step: &str, data_type: &DataType, wanted: &Kind) -> Result<(DataType, Shape), EngineError> {
        self.path.push(step.to_owned());
        let found = self.column(data_type, wanted);
        self.path.pop();
        found
    }

    /// Finds the wanted parts of one column. Reads at least one of its leaves, for its nulls and lengths.
    fn column(&mut self, data_type: &DataType, wanted: &Kind) -> Result<(DataType, Shape), EngineError> {
        let (first, read_before) = (self.next_leaf, self.leaves.len());
        let (read_as, shape) = match (data_type, wanted) {
            (DataType::Struct(fields), Kind::Struct(wanted)) => {
                let (read_as, sources) = self.fields(fields, &wanted.iter().collect::<Vec<_>>())?;
                (DataType::Struct(read_as), Shape::Struct(held(wanted), sources))
            }
            (DataType::List(element), Kind::List(wanted)) => {
                let (read_as, shape) = self.below(ELEMENT, element.data_type(), wanted)?;
                let element = element.as_ref().clone().with_data_type(read_as);
                let field = types::element_field(wanted.data_type(), true);
                (DataType::List(Arc::new(element)), Shape::List(field, Box::new(shape)))
            }
            (DataType::Map(entries, ordered), Kind::Map(wanted)) => {
                let DataType::Struct(parts) = entries.data_type() else { return Err(self.other_type(data_type)) };
                let [key, value] = parts.as_ref() else { return Err(self.other_type(data_type)) };
                let (key_as, key_shape) = self.below(KEY, key.data_type(), &wanted.0)?;
                let (value_as, value_shape) = self.below(VALUE, value.data_type(), &wanted.1)?;
                let parts = Fields::from(vec![
                    key.as_ref().clone().with_data_type(key_as),
                    value.as_ref().clone().with_data_type(value_as),
                ]);
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(parts));
                let field = types::entries_field(wanted.0.data_type(), wanted.1.data_type(), true);
                let shape = Shape::Map(field, Box::new((key_shape, value_shape)));
                (DataType::Map(Arc::new(entries), *ordered), shape)
            }
            (_, Kind::Leaf(primitive)) if !data_type.is_nested() => {
                let leaf = self.parquet.column(self.next_leaf);
                self.leaves.push(self.next_leaf);
                self.next_leaf += 1;
                let read_as = read_as(data_type, leaf.physical_type(), leaf.converted_type(), *primitive);
                if !becomes(&read_as, *primitive) {
                    return Err(self.other_type(data_type));
                }
                (read_as, Shape::Leaf(*primitive))
            }
            _ => return Err(self.other_type(data_type)),
        };
        if self.leaves.len() == read_before && self.next_leaf > first {
            self.leaves.push(first);
        }
        Ok((read_as, shape))
    }

    /// Builds the error for the current column having the type `found`, which is not allowed.
    fn other_type(&self, found: &DataType) -> EngineError {
        EngineError::OtherType { column: ColumnPath(self.path.clone()), found: in_words(found) }
    }
}

/// Describes the type of a column in a file for the table's owner.
fn in_words(data_type: &DataType) -> String {
    match data_type {
        DataType::UInt8 => "unsigned 8-bit integers".into(),
        DataType::UInt16 => "unsigned 16-bit integers".into(),
        DataType::UInt32 => "unsigned 32-bit integers".into(),
        DataType::UInt64 => "unsigned 64-bit integers".into(),
        DataType::FixedSizeBinary(bytes) => format!("values of {bytes} bytes each"),
        DataType::Struct(_) => "a struct".into(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "a list".into(),
        DataType::Map(..) => "a map".into(),
        other => format!("{other}"),
    }
}

/// Several fields may be the column.
struct Unclear;

/// Finds the field that is `wanted`, if there is one.
fn place(fields: &Fields, wanted: &Wanted) -> Result<Option<usize>, Unclear> {
    let id = |field: &Field| field.metadata().get(PARQUET_FIELD_ID_META_KEY).cloned();
    let is_named = |field: &Field| *field.name() == wanted.physical;
    let only = |is_it: &dyn Fn(&Field) -> bool| {
        let mut found = fields.iter().enumerate().filter(|(_, field)| is_it(field)).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (found, None) => Ok(found),
            (_, Some(_)) => Err(Unclear),
        }
    };
    if wanted.id.is_some() {
        let has_its_id = |field: &Field| id(field) == wanted.id;
        if let Some(found) = only(&has_its_id)? {
            return Ok(Some(found));
        }
        // The name matches, but the id is that of another column.
        if fields.iter().any(|field| is_named(field) && id(field).is_some()) {
            return Err(Unclear);
        }
    }
    if let Some(found) = only(&is_named)? {
        return Ok(Some(found));
    }
    let has_other_id = |field: &Field| wanted.id.is_some() && id(field).is_some();
    only(&|field| !has_other_id(field) && differ_by_case(field.name(), &wanted.physical))
}

/// Builds the error for an array whose type is not the requested one.
fn other_array() -> EngineError {
    EngineError::corrupt("its columns do not make sense")
}

fn count_leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| count_leaves(field.data_type())).sum(),
        DataType::List(inner) | DataType::Map(inner, _) => count_leaves(inner.data_type()),
        _ => 1,
    }
}

/// Returns the type to decode a leaf as, where `data_type` is its type in the file's schema.
fn read_as(data_type: &DataType, physical: PhysicalType, annotation: ConvertedType, wanted: Primitive) -> DataType {
    match (data_type, wanted) {
        // Nanoseconds since 1970 end in 2262, but INT96 timestamps reach further.
        (DataType::Timestamp(TimeUnit::Nanosecond, None), Primitive::Timestamp | Primitive::TimestampNtz)
            if physical == PhysicalType::INT96 =>
        {
            types::of_primitive(wanted)
        }
        // The decoder checks UTF-8 only for leaves with this annotation.
        (DataType::Utf8, _) if annotation == ConvertedType::UTF8 => DataType::Utf8View,
        (DataType::Binary, _) => DataType::BinaryView,
        (other, _) => other.clone(),
    }
}

/// Returns whether files may store a column of the table as this type: its own type, one that writers may choose for
/// it, or one that it was widened from (Delta protocol, "Type Widening").
fn becomes(read_as: &DataType, wanted: Primitive) -> bool {
    use DataType as Read;
    let is_integer = matches!(read_as, Read::Int8 | Read::Int16 | Read::Int32 | Read::Int64);
    match (read_as, wanted) {
        (Read::Null, _)
        | (Read::Boolean, Primitive::Boolean)
        | (Read::Float32, Primitive::Float)
        | (Read::Int8 | Read::Int16 | Read::Int32 | Read::Float32 | Read::Float64, Primitive::Double)
        | (Read::Utf8 | Read::Utf8View | Read::BinaryView, Primitive::String | Primitive::Binary)
        | (Read::Date32, Primitive::Date | Primitive::TimestampNtz)
        | (Read::Timestamp(..), Primitive::Timestamp | Primitive::TimestampNtz) => true,
        (Read::Decimal128(_, from) | Read::Decimal256(_, from), Primitive::Decimal { scale, .. }) => *from <= scale,
        (_, Primitive::Byte | Primitive::Short | Primitive::Integer | Primitive::Long | Primitive::Decimal { .. }) => {
            is_integer
        }
        _ => false,
    }
}

fn make_struct(
    fields: &Fields,
    sources: &[Source],
    read: &[ArrayRef],
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<StructArray, EngineError> {
    let make = |(field, source): (&FieldRef, &Source)| match source {
        Source::Absent => Ok(new_null_array(field.data_type(), rows)),
        Source::Constant(value) => {
            let value = take(value, &PrimitiveArray::<UInt32Type>::from_value(0, rows), None).map_err(malformed)?;
            below(value, nulls.as_ref())
        }
        Source::Read(position, shape) => {
            let array = read.get(*position).ok_or_else(|| EngineError::corrupt("a column is missing"))?;
            make_array(shape, array, nulls.as_ref())
        }
    };
    let arrays = fields.iter().zip(sources).map(make).collect::<Result<_, _>>()?;
    StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows).map_err(malformed)
}

/// Converts `array` to its shape in the table; null wherever `parent` is null.
fn make_array(shape: &Shape, array: &ArrayRef, parent: Option<&NullBuffer>) -> Result<ArrayRef, EngineError> {
    let nulls = NullBuffer::union(parent, array.nulls());
    Ok(match shape {
        Shape::Leaf(primitive) => below(make_leaf(*primitive, array)?, parent)?,
        Shape::Struct(fields, sources) => {
            let array = array.as_struct_opt().ok_or_else(other_array)?;
            Arc::new(make_struct(fields, sources, array.columns(), array.len(), nulls)?)
        }
        Shape::List(field, element) => {
            let list = array.as_list_opt::<i32>().ok_or_else(other_array)?;
            let elements = make_array(element, list.values(), None)?;
            let list = ListArray::try_new(Arc::clone(field), list.offsets().clone(), elements, nulls);
            Arc::new(list.map_err(malformed)?)
        }
        Shape::Map(field, parts) => {
            let map = array.as_map_opt().ok_or_else(other_array)?;
            let entry_nulls = map.entries().nulls();
            let arrays =
                vec![make_array(&parts.0, map.keys(), entry_nulls)?, make_array(&parts.1, map.values(), entry_nulls)?];
            let DataType::Struct(fields) = field.data_type() else { return Err(other_array()) };
            let entries = StructArray::try_new(fields.clone(), arrays, None).map_err(malformed)?;
            let map = MapArray::try_new(Arc::clone(field), map.offsets().clone(), entries, nulls, false);
            Arc::new(map.map_err(malformed)?)
        }
    })
}

/// Builds the error for lengths that contradict each other, or a null key in a map. Arrow's message is dropped: it may
/// quote values.
fn malformed(_: ArrowError) -> EngineError {
    EngineError::corrupt("its nested columns do not make sense")
}

/// Makes `array` null wherever `parent` is null.
pub(super) fn below(array: ArrayRef, parent: Option<&NullBuffer>) -> Result<ArrayRef, EngineError> {
    match parent.filter(|parent| parent.null_count() > 0) {
        Some(parent) if !array.nulls().is_some_and(|own| own.contains(parent)) => {
            nullif(&array, &BooleanArray::new(!parent.inner(), None)).map_err(malformed)
        }
        _ => Ok(array),
    }
}

fn make_leaf(primitive: Primitive, array: &ArrayRef) -> Result<ArrayRef, EngineError> {
    let data_type = types::of_primitive(primitive);
    let made = match array.data_type() {
        same if *same == data_type => Arc::clone(array),
        DataType::Timestamp(unit, _) => make_instants(*unit, array, &data_type)?,
        DataType::Date32 if data_type != DataType::Date32 => {
            let midnight = |days| i64::from(days).checked_mul(MICROS_PER_DAY).ok_or(EngineError::Overflow);
            Arc::new(array.as_primitive::<Date32Type>().try_unary::<_, TimestampMicrosecondType, _>(midnight)?)
        }
        from => {
            let is_text = data_type == DataType::Utf8View;
            if is_text && *from == DataType::Utf8 {
                array.to_data().validate_full().map_err(|_| no_text())?;
            }
            // Arrow's message quotes the value that does not fit.
            let options = CastOptions { safe: false, ..CastOptions::default() };
            let failed = |_| if is_text { no_text() } else { EngineError::Overflow };
            cast_with_options(array, &data_type, &options).map_err(failed)?
        }
    };
    if let Primitive::Decimal { precision, .. } = primitive {
        let decimals = made.as_primitive::<Decimal128Type>();
        decimals.validate_decimal_precision(precision).map_err(|_| EngineError::Overflow)?;
    }
    Ok(made)
}

fn no_text() -> EngineError {
    EngineError::corrupt("a text in it is not UTF-8")
}

/// Converts to microseconds, rounding towards the past. Timestamps without a zone count as UTC.
fn make_instants(unit: TimeUnit, array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, EngineError> {
    type Micros = TimestampMicrosecondType;
    let micros = match unit {
        TimeUnit::Microsecond => array.as_primitive::<Micros>().clone(),
        TimeUnit::Millisecond => {
            let millis = array.as_primitive::<TimestampMillisecondType>();
            millis.try_unary(|millis| millis.checked_mul(1_000).ok_or(EngineError::Overflow))?
        }
        TimeUnit::Nanosecond => {
            array.as_primitive::<TimestampNanosecondType>().unary::<_, Micros>(|nanos| nanos.div_euclid(1_000))
        }
        TimeUnit::Second => return Err(other_array()),
    };
    let DataType::Timestamp(_, zone) = data_type else { return Err(other_array()) };
    Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
}
