//! Computes the columns of a view from those of a table, as arrays, according to the plan's outputs.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array},
    datatypes::{DataType, FieldRef, Fields},
    error::ArrowError,
};

use crate::domain::catalog::{
    schema::{DataType as DeltaType, Field, Primitive},
    view::{
        mask::{BoundMask, BoundShift, Mask, SurrogateDigests},
        plan::{Output, OutputField},
    },
};

use super::{
    EngineError, Rules,
    columns::below,
    masking::{masked, shifted},
    surrogates::Surrogates,
    types,
    wanted::{Kind, Wanted, misfit},
};

/// The columns of a view, bound to those of a scan.
#[derive(Debug)]
pub(super) struct Outputs {
    fields: Fields,
    makers: Vec<Maker>,
}

/// The way to compute one shown column, field, or element.
#[derive(Debug)]
enum Maker {
    Nulls(DataType),
    Same(Vec<usize>),
    Masked { from: Vec<usize>, mask: Box<BoundMask>, primitive: Primitive, shown: Primitive },
    Shifted { from: Vec<usize>, shift: Box<BoundShift>, primitive: Primitive, subjects: Vec<usize>, subject: Primitive },
    Surrogate { from: Vec<usize>, digests: Box<SurrogateDigests>, primitive: Primitive, surrogates: Surrogates },
    Struct { fields: Fields, makers: Vec<Maker>, nulls_from: Option<Vec<usize>> },
    List { from: Vec<usize>, field: FieldRef, element: Box<Maker> },
    Map { from: Vec<usize>, field: FieldRef, parts: Box<(Maker, Maker)> },
}

impl Outputs {
    /// Binds the columns that `is_made` selects to the columns that are read.
    pub(super) fn new(
        rules: &Rules,
        wanted: Vec<Wanted>,
        is_made: impl Fn(&Field) -> bool,
    ) -> Result<Self, EngineError> {
        let row = Kind::Struct(wanted);
        let shown = rules.plan.schema.fields.iter().zip(&rules.plan.outputs).filter(|(field, _)| is_made(field));
        let (shown, outputs): (Vec<Field>, Vec<&OutputField>) =
            shown.map(|(field, output)| (field.clone(), output)).unzip();
        let make = |(field, output): (&Field, &&OutputField)| Maker::new(&output.output, &field.data_type, &row, rules);
        let makers = shown.iter().zip(&outputs).map(make).collect::<Result<_, _>>()?;
        Ok(Self { fields: types::of_fields(&shown)?, makers })
    }

    /// Returns the columns' types.
    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Computes the view's columns for these rows of the table.
    pub(super) fn of(&self, rows: StructArray) -> Result<StructArray, EngineError> {
        let length = rows.len();
        let rows: ArrayRef = Arc::new(rows);
        let columns = self.makers.iter().map(|maker| maker.make(&rows)).collect::<Result<_, _>>()?;
        StructArray::try_new_with_length(self.fields.clone(), columns, None, length).map_err(unexpected_null)
    }
}

/// Builds the error for a null where none is allowed. Types always fit here, because binding checked them.
fn unexpected_null(_: ArrowError) -> EngineError {
    EngineError::corrupt("it has a null where its table allows none")
}

impl Maker {
    /// Binds `output`, shown with the type `shown`, to the row or element `here`.
    fn new(output: &Output, shown: &DeltaType, here: &Kind, rules: &Rules) -> Result<Self, EngineError> {
        Ok(match (output, shown) {
            (Output::Value { mask: Some(Mask::Null), .. }, _) => Self::Nulls(types::of(shown)?),
            (Output::Value { from, data_type, mask }, DeltaType::Primitive(shown)) => {
                let (from, kind) = here.find(from)?;
                let Kind::Leaf(primitive) = *kind else { return Err(misfit()) };
                if data_type.primitive() != Some(primitive) {
                    return Err(misfit());
                }
                match mask {
                    Some(Mask::Shift(shift)) if primitive == *shown => {
                        // Shifted dates are never inside a list or map, so this is the row.
                        let (subjects, kind) = here.find(&shift.key.0)?;
                        let Kind::Leaf(subject) = *kind else { return Err(misfit()) };
                        let shift = Box::new(shift.bind(subject, &rules.keys));
                        Self::Shifted { from, shift, primitive, subjects, subject }
                    }
                    Some(mask @ Mask::Surrogate { .. }) if *shown == Primitive::String => {
                        let digests = mask.surrogate_digests(data_type, &rules.keys).ok_or_else(misfit)?;
                        let surrogates = rules.surrogates.clone();
                        Self::Surrogate { from, digests: Box::new(digests), primitive, surrogates }
                    }
                    Some(mask) => {
                        let mask = mask.bind(data_type, &rules.keys, rules.today).map_err(|_| misfit())?;
                        let mask = mask.with_zips(&rules.zips);
                        Self::Masked { from, mask: Box::new(mask), primitive, shown: *shown }
                    }
                    None if primitive == *shown => Self::Same(from),
                    None => return Err(misfit()),
                }
            }
            (Output::Struct { fields: outputs, nulls_from }, DeltaType::Struct(fields))
                if outputs.len() == fields.len() =>
            {
                let make =
                    |(output, field): (&OutputField, &Field)| Self::new(&output.output, &field.data_type, here, rules);
                let makers = outputs.iter().zip(fields).map(make).collect::<Result<_, _>>()?;
                let nulls_from = nulls_from.as_ref().map(|path| here.find(path).map(|(at, _)| at)).transpose()?;
                Self::Struct { fields: types::of_fields(fields)?, makers, nulls_from }
            }
            (Output::List { from, element }, DeltaType::Array { element: shown, contains_null }) => {
                let (from, kind) = here.find(from)?;
                let Kind::List(inner) = kind else { return Err(misfit()) };
                let element = Box::new(Self::new(element, shown, inner, rules)?);
                Self::List { from, field: types::element_field(types::of(shown)?, *contains_null), element }
            }
            (
                Output::Map { from, key, value },
                DeltaType::Map { key: key_shown, value: value_shown, value_contains_null },
            ) => {
                let (from, kind) = here.find(from)?;
                let Kind::Map(inner) = kind else { return Err(misfit()) };
                let parts =
                    (Self::new(key, key_shown, &inner.0, rules)?, Self::new(value, value_shown, &inner.1, rules)?);
                let field = types::entries_field(types::of(key_shown)?, types::of(value_shown)?, *value_contains_null);
                Self::Map { from, field, parts: Box::new(parts) }
            }
            _ => return Err(misfit()),
        })
    }

    /// Computes the array for the rows or elements `here`.
    fn make(&self, here: &ArrayRef) -> Result<ArrayRef, EngineError> {
        Ok(match self {
            Self::Nulls(data_type) => new_null_array(data_type, here.len()),
            Self::Same(from) => Arc::clone(at(here, from)),
            Self::Masked { from, mask, primitive, shown } => masked(mask, at(here, from), *primitive, *shown)?,
            Self::Shifted { from, shift, primitive, subjects, subject } => {
                shifted(shift, at(here, from), *primitive, at(here, subjects), *subject)?
            }
            Self::Surrogate { from, digests, primitive, surrogates } => {
                surrogates.of(digests, at(here, from), *primitive)?
            }
            Self::Struct { fields, makers, nulls_from } => {
                let nulls = nulls_from.as_ref().and_then(|from| at(here, from).nulls()).cloned();
                let make = |maker: &Self| below(maker.make(here)?, nulls.as_ref());
                let columns = makers.iter().map(make).collect::<Result<_, _>>()?;
                let made = StructArray::try_new_with_length(fields.clone(), columns, nulls, here.len());
                Arc::new(made.map_err(unexpected_null)?)
            }
            Self::List { from, field, element } => {
                let list = at(here, from).as_list_opt::<i32>().ok_or_else(misfit)?;
                let elements = element.make(list.values())?;
                let nulls = list.nulls().cloned();
                let made = ListArray::try_new(Arc::clone(field), list.offsets().clone(), elements, nulls);
                Arc::new(made.map_err(unexpected_null)?)
            }
            Self::Map { from, field, parts } => {
                let map = at(here, from).as_map_opt().ok_or_else(misfit)?;
                let DataType::Struct(fields) = field.data_type() else { return Err(misfit()) };
                let columns = vec![parts.0.make(map.keys())?, parts.1.make(map.values())?];
                let entries = StructArray::try_new(fields.clone(), columns, None).map_err(unexpected_null)?;
                let nulls = map.nulls().cloned();
                let made = MapArray::try_new(Arc::clone(field), map.offsets().clone(), entries, nulls, false);
                Arc::new(made.map_err(unexpected_null)?)
            }
        })
    }
}

fn at<'a>(here: &'a ArrayRef, path: &[usize]) -> &'a ArrayRef {
    path.iter().fold(here, |here, position| here.as_struct().column(*position))
}
