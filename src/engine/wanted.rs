//! Which parts of a table's columns are read: those that a view's columns or its condition name, and nothing else.

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

/// A column or field that is read.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Its name in the table.
    pub(super) name: String,
    /// Its name in files.
    pub(super) physical: String,
    /// Its id in files, where the table goes by ids.
    pub(super) id: Option<String>,
    /// Whether a file that lacks it cannot be read: it may not be NULL, or a mask or a condition reads it or something
    /// below it, so that NULL in its place might show what is to be hidden.
    pub(super) is_required: bool,
    /// What is read of it.
    pub(super) kind: Kind,
}

/// What is read of a column.
#[derive(Debug)]
pub(super) enum Kind {
    /// One value.
    Leaf(Primitive),
    /// These fields; perhaps none, where only its nulls matter.
    Struct(Vec<Wanted>),
    /// Elements.
    List(Box<Kind>),
    /// Keys and values.
    Map(Box<(Kind, Kind)>),
}

/// How a table's columns are called in its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnMapping {
    /// By their names.
    None,
    /// By physical names.
    Name,
    /// By ids; by physical names in files without ids.
    Id,
}

impl ColumnMapping {
    /// What the table's property says.
    pub fn of(metadata: &Metadata) -> Self {
        match metadata.configuration.get(COLUMN_MAPPING_MODE) {
            Some(mode) if mode.eq_ignore_ascii_case("id") => Self::Id,
            _ if metadata.maps_columns() => Self::Name,
            _ => Self::None,
        }
    }
}

/// The names that were marked as read, and below each those of its parts.
#[derive(Debug, Default)]
pub(super) struct Marks {
    parts: BTreeMap<String, Marks>,
    /// Whether a mask or a condition reads it.
    decides: bool,
}

impl Marks {
    /// Marks whatever `outputs` are made from.
    pub(super) fn outputs(&mut self, outputs: &[OutputField]) {
        outputs.iter().for_each(|field| self.output(&field.output));
    }

    fn output(&mut self, output: &Output) {
        match output {
            // There is nothing to look at for a column of NULLs.
            Output::Value { mask: Some(Mask::Null), .. } => {}
            Output::Value { from, mask, .. } => self.at(from).decides |= mask.is_some(),
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

    /// Marks a column that a condition reads.
    pub(super) fn column(&mut self, path: &ColumnPath) {
        self.at(&path.0).decides = true;
    }

    /// Whether a mask or a condition reads it, or something below it.
    fn is_decisive(&self) -> bool {
        self.decides || self.parts.values().any(Self::is_decisive)
    }

    fn at(&mut self, path: &[String]) -> &mut Self {
        path.iter().fold(self, |marks, name| marks.step(name))
    }

    fn step(&mut self, name: &str) -> &mut Self {
        self.parts.entry(name.to_owned()).or_default()
    }

    /// What is marked of `fields`, in their order.
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
        // Maps cannot be read without their keys, nor anything without being there.
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

/// The schema lacks something that the view reads, or has it with other parts or another type.
pub(super) fn misfit() -> EngineError {
    EngineError::Unsupported("its schema does not fit the view")
}

impl Kind {
    /// How it is held when it has been read. Whether something may be null is settled later, by what is made of it.
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

    /// Where `path` leads from here, as positions and as what is there.
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

/// How these columns or fields are held.
pub(super) fn held(fields: &[Wanted]) -> Fields {
    fields.iter().map(|field| Field::new(&field.name, field.kind.data_type(), true)).collect()
}
