//! Expands columns into the leaves below them.

use crate::domain::catalog::{
    schema::{DataType, Found, Step},
    view::mask::Mask,
};

use super::parts::{Part, path, unfit_name};

/// The most leaves of all columns of a view together.
pub(super) const MAX_LEAVES: usize = 10_000;

/// A shown value without parts, or one whose parts are all masked to NULL.
pub(super) struct Leaf {
    /// The index of its column in the definition.
    pub(super) column: usize,
    pub(super) name: Vec<Part>,
    pub(super) source: Vec<Part>,
    /// For each part of `source`, whether it may be null.
    pub(super) nullable: Vec<bool>,
    pub(super) data_type: DataType,
    pub(super) mask: Option<Mask>,
}

impl Leaf {
    /// Whether the value at the first `end` parts of its source may be NULL, seen from the row (`context` 0) or from
    /// the element at the first `context` parts.
    pub(super) fn may_be_null(&self, context: usize, end: usize) -> bool {
        self.nullable.get(context.saturating_sub(1)..end).is_none_or(|parts| parts.contains(&true))
    }
}

/// Why a column cannot be shown.
pub(super) enum Unfit {
    /// Because of its name, or a name below it.
    Name(String),
    /// Because of its type in the source.
    Source(String),
    /// Because of its mask.
    Mask(String),
}

/// Lists the leaves of a column that is shown as `name` and comes from `found`.
pub(super) fn leaves(
    column: usize,
    name: Vec<Part>,
    found: &Found<'_>,
    mask: Option<&Mask>,
) -> Result<Vec<Leaf>, Unfit> {
    let source: Vec<Part> = found.steps.iter().map(Part::from).collect();
    if mask.is_some() && source.contains(&Part::Key) {
        let message = "the keys of a map are not masked; mask its values, or leave the map out";
        return Err(Unfit::Mask(message.to_owned()));
    }
    let nullable = found.steps.iter().map(Step::nullable).collect();
    let mut below = Below { column, name, source, nullable, mask, leaves: Vec::new() };
    match mask {
        None => below.all(found.data_type)?,
        Some(Mask::Null) => {
            // Its parts are shown, even if only as NULL, so their names and types must be fit to show.
            below.all(found.data_type)?;
            below.leaves.clear();
            below.leaf(found.data_type)?;
        }
        Some(mask) => below.masked(found.data_type, mask)?,
    }
    Ok(below.leaves)
}

/// The walk from a column down to its leaves.
struct Below<'a> {
    column: usize,
    name: Vec<Part>,
    source: Vec<Part>,
    nullable: Vec<bool>,
    mask: Option<&'a Mask>,
    leaves: Vec<Leaf>,
}

impl Below<'_> {
    fn leaf(&mut self, data_type: &DataType) -> Result<(), Unfit> {
        if self.leaves.len() == MAX_LEAVES {
            return Err(Unfit::Source(too_many()));
        }
        if let Some(message) = unfit_name(&self.name) {
            return Err(Unfit::Name(message));
        }
        self.leaves.push(Leaf {
            column: self.column,
            name: self.name.clone(),
            source: self.source.clone(),
            nullable: self.nullable.clone(),
            data_type: data_type.without_metadata(),
            mask: self.mask.cloned(),
        });
        Ok(())
    }

    fn step<T>(&mut self, part: Part, nullable: bool, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.name.push(part.clone());
        self.source.push(part);
        self.nullable.push(nullable);
        let inner = inner(self);
        self.name.pop();
        self.source.pop();
        self.nullable.pop();
        inner
    }

    /// Collects every leaf of a type.
    fn all(&mut self, data_type: &DataType) -> Result<(), Unfit> {
        match data_type {
            DataType::Primitive(_) => self.leaf(data_type)?,
            DataType::Other(name) => {
                let message = format!("`{}` is of type {name}, which views do not show", path(&self.source));
                return Err(Unfit::Source(message));
            }
            DataType::Struct(fields) if fields.is_empty() => {
                return Err(Unfit::Source(format!("`{}` is a struct without fields", path(&self.source))));
            }
            DataType::Struct(fields) => {
                for field in fields {
                    let part = Part::Field(field.name.clone());
                    self.step(part, field.nullable, |below| below.all(&field.data_type))?;
                }
            }
            DataType::Array { element, contains_null } => {
                self.step(Part::Element, *contains_null, |below| below.all(element))?;
            }
            DataType::Map { key, value, value_contains_null } => {
                self.step(Part::Key, false, |below| below.all(key))?;
                self.step(Part::Value, *value_contains_null, |below| below.all(value))?;
            }
        }
        Ok(())
    }

    /// Collects masked single values, which may be elements of lists.
    fn masked(&mut self, data_type: &DataType, mask: &Mask) -> Result<(), Unfit> {
        match data_type {
            DataType::Array { element, contains_null } => {
                self.step(Part::Element, *contains_null, |below| below.masked(element, mask))
            }
            DataType::Other(_) => self.all(data_type),
            _ => {
                mask.output_type(data_type).map_err(Unfit::Mask)?;
                self.leaf(data_type)
            }
        }
    }
}

/// The message for a view with more than [`MAX_LEAVES`] leaves.
pub(super) fn too_many() -> String {
    format!("with all their fields, the columns of a view are at most {MAX_LEAVES}")
}
