//! Selects the parts of a table's columns to read: only those that a view's columns or its condition name.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Fields};

use crate::domain::catalog::{
    delta::{COLUMN_MAPPING_MODE, Metadata},
    schema::{self, ColumnPath, DataType as DeltaType, ELEMENT, KEY, Primitive, VALUE},
    view::{
        mask::Mask,
        plan::{Output, OutputField},
    },
};

use super::{EngineError, types};

/// The metadata key of a column's id under column mapping.
const COLUMN_ID: &str = "delta.columnMapping.id";

/// A column or field to read.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The name in the table.
    pub(super) name: String,
    /// The name in files.
    pub(super) physical: String,
    /// The id in files, if the table is mapped by id.
    pub(super) id: Option<String>,
    /// Whether a file without it is refused: it must not be NULL, or a mask or condition reads it or something below
    /// it, so that NULL in its place might reveal what must stay hidden.
    pub(super) is_required: bool,
    /// The parts of it to read.
    pub(super) kind: Kind,
}

/// The parts of a column to read.
#[derive(Debug)]
pub(super) enum Kind {
    /// One value.
    Leaf(Primitive),
    /// These fields; none if only the nulls of the struct matter.
    Struct(Vec<Wanted>),
    /// The elements of a list.
    List(Box<Kind>),
    /// The keys and values of a map.
    Map(Box<(Kind, Kind)>),
}

/// The way in which files name a table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnMapping {
    /// By their logical names.
    None,
    /// By physical names.
    Name,
    /// By ids, or by physical names in files without ids.
    Id,
}

impl ColumnMapping {
    /// Reads the mode from the table's properties.
    pub fn of(metadata: &Metadata) -> Self {
        match metadata.configuration.get(COLUMN_MAPPING_MODE) {
            Some(mode) if mode.eq_ignore_ascii_case("id") => Self::Id,
            _ if metadata.maps_columns() => Self::Name,
            _ => Self::None,
        }
    }
}

/// The names marked to be read, each with the marked parts below it.
#[derive(Debug, Default)]
pub(super) struct Marks {
    parts: BTreeMap<String, Marks>,
    /// Whether a mask or a condition reads it.
    decides: bool,
}

impl Marks {
    /// Marks the sources of `outputs`.
    pub(super) fn outputs(&mut self, outputs: &[OutputField]) {
        outputs.iter().for_each(|field| self.output(&field.output));
    }

    fn output(&mut self, output: &Output) {
        match output {
            // A column of NULLs needs no source.
            Output::Value { mask: Some(Mask::Null), .. } => {}
            Output::Value { from, mask, .. } => {
                self.at(from).decides |= mask.is_some();
                if let Some(subject) = mask.as_ref().and_then(Mask::subject) {
                    self.column(subject);
                }
            }
            Output::Struct { fields, nulls_from } => {
                if let Some(path) = nulls_from {
                    self.at(path);
                }
                self.outputs(fields);
            }
            Output::List { from, element } => self.at(from).step(ELEMENT).output(element),
            Output::Map { from, key, value } => {
                let map = self.at(from);
                map.step(KEY).output(key);
                map.step(VALUE).output(value);
            }
        }
    }

    /// Marks a column that is looked at, and decides nothing.
    pub(super) fn value(&mut self, path: &ColumnPath) {
        self.at(&path.0);
    }

    /// Marks a column that a condition reads, or a mask besides its own.
    pub(super) fn column(&mut self, path: &ColumnPath) {
        self.at(&path.0).decides = true;
    }

    /// Returns whether a mask or a condition reads it, or something below it.
    fn is_decisive(&self) -> bool {
        self.decides || self.parts.values().any(Self::is_decisive)
    }

    fn at(&mut self, path: &[String]) -> &mut Self {
        path.iter().fold(self, |marks, name| marks.step(name))
    }

    fn step(&mut self, name: &str) -> &mut Self {
        self.parts.entry(name.to_owned()).or_default()
    }

    /// Returns the marked ones of `fields`, in their order.
    pub(super) fn of(&self, fields: &[schema::Field], mapping: ColumnMapping) -> Result<Vec<Wanted>, EngineError> {
        let wanted = |field: &schema::Field| {
            let marks = self.parts.get(&field.name)?;
            let id = field.metadata.get(COLUMN_ID).filter(|_| mapping == ColumnMapping::Id);
            Some(marks.of_type(&field.data_type, mapping).map(|kind| Wanted {
                name: field.name.clone(),
                physical: field.physical_name(mapping != ColumnMapping::None).to_owned(),
                id: id.map(ToString::to_string),
                is_required: !field.nullable || marks.is_decisive(),
                kind,
            }))
        };
        let wanted: Vec<_> = fields.iter().filter_map(wanted).collect::<Result<_, _>>()?;
        if wanted.len() == self.parts.len() { Ok(wanted) } else { Err(misfit()) }
    }

    fn of_type(&self, data_type: &DeltaType, mapping: ColumnMapping) -> Result<Kind, EngineError> {
        // A map needs its keys, and every container its elements, even if those are not marked.
        let part = |name: &str, data_type| match self.parts.get(name) {
            Some(marks) => marks.of_type(data_type, mapping),
            None => Self::default().of_type(data_type, mapping),
        };
        let only = |parts: &[&str]| self.parts.keys().all(|name| parts.contains(&name.as_str()));
        match data_type {
            DeltaType::Primitive(primitive) if only(&[]) => Ok(Kind::Leaf(*primitive)),
            DeltaType::Struct(fields) => Ok(Kind::Struct(self.of(fields, mapping)?)),
            DeltaType::Array { element, .. } if only(&[ELEMENT]) => Ok(Kind::List(Box::new(part(ELEMENT, element)?))),
            DeltaType::Map { key, value, .. } if only(&[KEY, VALUE]) => {
                Ok(Kind::Map(Box::new((part(KEY, key)?, part(VALUE, value)?))))
            }
            DeltaType::Other(_) => Err(EngineError::Unsupported("a column that the view reads has another type")),
            _ => Err(misfit()),
        }
    }
}

/// Builds the error for a schema that lacks something the view reads, or has it with other parts or another type.
pub(super) fn misfit() -> EngineError {
    EngineError::Unsupported("its schema does not fit the view")
}

impl Kind {
    /// Returns the Arrow type after reading. All fields are nullable; the output checks nullability later.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Leaf(primitive) => types::of_primitive(*primitive),
            Self::Struct(fields) => DataType::Struct(held(fields)),
            Self::List(element) => DataType::List(types::element_field(element.data_type(), true)),
            Self::Map(parts) => {
                DataType::Map(types::entries_field(parts.0.data_type(), parts.1.data_type(), true), false)
            }
        }
    }

    /// Follows `path` from here. Returns the positions along it, and the kind at its end.
    pub(super) fn find(&self, path: &[String]) -> Result<(Vec<usize>, &Self), EngineError> {
        let mut here = self;
        let mut positions = Vec::with_capacity(path.len());
        for name in path {
            let Self::Struct(fields) = here else { return Err(misfit()) };
            let position = fields.iter().position(|field| field.name == *name).ok_or_else(misfit)?;
            positions.push(position);
            here = &fields[position].kind;
        }
        Ok((positions, here))
    }
}

/// Returns the Arrow fields of these columns or fields.
pub(super) fn held(fields: &[Wanted]) -> Fields {
    fields.iter().map(|field| Field::new(&field.name, field.kind.data_type(), true)).collect()
}
