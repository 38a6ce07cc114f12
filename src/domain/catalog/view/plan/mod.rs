//! A plan: a view compiled over one schema. It says which columns the view reads, how they become the columns it shows,
//! and the view's own schema. A plan is made once, when a version is published, and kept with it, so columns that the
//! source gains later are never shown.
//!
//! This module defines plans and answers questions about them; [`compile`] makes a plan, [`diff`] compares two.

mod compile;
mod diff;
mod leaves;
mod parts;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use diff::{Change, ColumnEffect, changes};

use crate::domain::catalog::{
    requirements::EffectiveMasks,
    schema::{ColumnPath, DataType, ELEMENT, Field, Found, KEY, LookupError, Schema, Step, VALUE},
};

use super::{
    Layout, Problem, ViewDefinition,
    mask::{Mask, Scope},
    row_filter::RowFilter,
};

/// The most misfits that are reported at once.
const MAX_MISFITS: usize = 20;

/// A view over a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewPlan {
    /// What readers see: names, types, nullability, the view's own comments, and nothing of the source's metadata.
    pub schema: Schema,
    /// The shown columns that stay partition columns: the unmasked partition columns of the source. Never all of the
    /// columns, because a file must have at least one.
    pub partition_columns: Vec<String>,
    /// How each top-level column of [`Self::schema`] is made, in its order.
    pub outputs: Vec<OutputField>,
    /// Which rows are shown.
    pub filter: Option<RowFilter>,
    /// Every leaf of the source that outputs or filter read, with its type; a later schema must still have it.
    pub needed: Vec<Needed>,
    /// What the plan was made from; this is stored with the version.
    pub pinned: PinnedView,
    /// The masks that are in effect instead of the definition's.
    pub effective: EffectiveMasks,
}

/// The stored form of a published version, sufficient to make its plan again: the definition, and only those columns of
/// the source that the view reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedView {
    /// What the operator wrote.
    pub definition: ViewDefinition,
    /// The source's schema at the time, without the columns that the view does not read.
    pub source: Schema,
    /// The columns in `source` that were partition columns.
    pub partition_columns: Vec<String>,
    /// The layout that it was published with. Versions from before layouts existed have none, and keep the source's
    /// layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Partition columns hidden from readers that the source's layout reveals, as an operator acknowledged.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub acknowledged: BTreeSet<String>,
}

/// What a view's bytes depend on besides the source: two recipients for whom these are equal share the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The recipient properties that the filter names.
    pub properties: BTreeSet<String>,
    /// The scopes of its pseudonyms; empty if it has none.
    pub scopes: BTreeSet<Scope>,
    /// Whether it shows surrogates.
    pub surrogates: bool,
    /// The part of the current day on which it depends.
    pub today: Today,
    /// Whether it depends on the list of hidden ZIP prefixes.
    pub zips: bool,
}

/// The part of the current day (UTC) on which a view depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Today {
    /// Nothing.
    #[default]
    Unused,
    /// The year.
    Year,
    /// The day.
    Day,
}

/// A shown leaf: a column or field without parts, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownLeaf {
    /// Its name among the shown columns.
    pub name: ColumnPath,
    /// Its path in the source.
    pub from: ColumnPath,
    /// The type as shown.
    pub data_type: DataType,
    /// The mask on its values.
    pub mask: Option<Mask>,
}

/// A leaf of the source that a view reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    /// The path in the source.
    pub path: ColumnPath,
    /// The type in the source.
    pub data_type: DataType,
    /// Whether the table is partitioned by it.
    pub is_partition: bool,
}

/// A shown column or field, and how it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputField {
    /// Its name.
    pub name: String,
    /// How it is made.
    pub output: Output,
}

/// How a shown value is made from a row of the source, or, inside a list or map, from one of its elements. Paths
/// consist of struct field names only and start at that row or element; an empty path is the element itself. A value
/// below a null struct is null.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The value at a path, masked.
    Value {
        /// The path of the value in the source.
        from: Vec<String>,
        /// Its type in the source.
        data_type: DataType,
        /// The mask on the value.
        mask: Option<Mask>,
    },
    /// A struct of made values.
    Struct {
        /// Its fields.
        fields: Vec<OutputField>,
        /// The source's struct that decides where this one is null; `None` if it never is.
        nulls_from: Option<Vec<String>>,
    },
    /// A list, element by element.
    List {
        /// The path of the source's list.
        from: Vec<String>,
        /// How an element is made.
        element: Box<Output>,
    },
    /// A map, entry by entry.
    Map {
        /// The path of the source's map.
        from: Vec<String>,
        /// How a key is made; keys are never masked.
        key: Box<Output>,
        /// How a value is made.
        value: Box<Output>,
    },
}

impl ViewPlan {
    /// Compiles `definition` over `source`, which is partitioned by `partition_columns`; the error lists everything
    /// that is wrong with it.
    ///
    /// Expands columns with parts into their leaves, so that fields that the source gains later are not shown.
    pub fn new(
        definition: &ViewDefinition,
        source: &Schema,
        partition_columns: &[String],
    ) -> Result<Self, Vec<Problem>> {
        Self::under(definition, source, partition_columns, &EffectiveMasks::default())
    }

    /// Compiles `definition` with these masks in effect instead of its own.
    pub fn under(
        definition: &ViewDefinition,
        source: &Schema,
        partition_columns: &[String],
        masks: &EffectiveMasks,
    ) -> Result<Self, Vec<Problem>> {
        compile::compile(definition, source, partition_columns, masks)
    }

    /// Why the view cannot be served over `source`, in words for operators: columns that are gone, have another type,
    /// were replaced by another column, or may now be NULL although readers were told otherwise. Empty if the view
    /// fits.
    pub fn misfits(&self, source: &Schema, partition_columns: &[String]) -> Vec<String> {
        let variants = source.case_variants();
        let mut misfits = BTreeSet::new();
        for need in &self.needed {
            misfits.extend(self.misfit(need, source, partition_columns));
            misfits.extend(compile::ambiguity(&variants, &need.path));
            if misfits.len() >= MAX_MISFITS {
                break;
            }
        }
        if misfits.is_empty() {
            misfits.extend(self.loosened(source, partition_columns));
        }
        misfits.into_iter().collect()
    }

    fn misfit(&self, need: &Needed, source: &Schema, partition_columns: &[String]) -> Option<String> {
        let path = &need.path;
        let Ok(found) = source.lookup(path) else { return Some(format!("`{path}` is gone")) };
        if *found.data_type != need.data_type {
            return Some(format!("`{path}` was {} and is {}", need.data_type, found.data_type));
        }
        if let Some(end) = self.pinned.source.lookup(path).ok().and_then(|pinned| replaced(&pinned, &found)) {
            let part = ColumnPath(path.0[..end].to_vec());
            return Some(format!("`{part}` is another column than it was, under the same name"));
        }
        let is_partition = matches!(path.0.as_slice(), [name] if partition_columns.contains(name));
        match (need.is_partition, is_partition) {
            (true, false) => Some(format!("the table is no longer partitioned by `{path}`")),
            (false, true) => Some(format!("the table is now partitioned by `{path}`")),
            (true, true) | (false, false) => None,
        }
    }

    /// Whether an older schema of the source can be read as the view shows it now: every column that it has must be the
    /// same column, and every column that it lacks must allow NULL.
    pub fn reads(&self, source: &Schema, partition_columns: &[String]) -> bool {
        self.needed.iter().all(|need| {
            for end in 1..=need.path.0.len() {
                let part = ColumnPath(need.path.0[..end].to_vec());
                let Ok(pinned) = self.pinned.source.lookup(&part) else { return false };
                match source.lookup(&part) {
                    Ok(found) if replaced(&pinned, &found).is_none() => {}
                    Err(LookupError::Missing(_) | LookupError::Similar { .. }) => {
                        return pinned.steps.last().is_some_and(Step::nullable);
                    }
                    _ => return false,
                }
            }
            self.misfit(need, source, partition_columns).is_none()
        })
    }

    /// Adds the missing columns to a schema that the view [reads](Self::reads). Files know those columns by the names
    /// they got later, or not at all. This way a file is read the same under every schema it appears in.
    pub fn completed(&self, source: &Schema) -> Schema {
        Schema { fields: completed(&source.fields, &self.pinned.source.fields) }
    }

    /// The shown columns that may be NULL over `source` although readers were told that they are not.
    fn loosened(&self, source: &Schema, partition_columns: &[String]) -> Vec<String> {
        let pruned = source.pruned(self.needed.iter().map(|need| &need.path));
        let again = Self::under(&self.pinned.definition, &pruned, partition_columns, &self.effective);
        let Ok(again) = again else {
            return vec!["the view no longer fits the table".to_owned()];
        };
        let pairs = self.schema.fields.iter().zip(&again.schema.fields);
        let loosened = pairs.filter(|(was, is)| is_looser(was, is)).map(|(was, _)| was.name.as_str());
        loosened.map(|name| format!("`{name}` may now be NULL where it could not")).take(MAX_MISFITS).collect()
    }

    /// Lists what the view's bytes depend on besides the source.
    pub fn references(&self) -> References {
        let mut references = References::default();
        if let Some(filter) = &self.filter {
            references.properties = filter.properties();
            if filter.uses_today() {
                references.today = Today::Day;
            }
        }
        for mask in self.shown().iter().filter_map(|shown| shown.mask.as_ref()) {
            references.scopes.extend(mask.scope());
            references.surrogates |= matches!(mask, Mask::Surrogate { .. });
            references.zips |= *mask == Mask::Zip3;
            if mask.uses_today() {
                references.today = references.today.max(Today::Year);
            }
        }
        references
    }

    /// All shown leaves, in order.
    pub fn shown(&self) -> Vec<ShownLeaf> {
        let mut shown = Vec::new();
        for field in &self.outputs {
            collect_shown(&field.output, &mut vec![field.name.clone()], &mut Vec::new(), &mut shown);
        }
        shown
    }

    /// Whether it shows all columns of `source` unchanged: each under its own name, in any order, unmasked, with the
    /// same partition columns and no physical names. Ignores the row filter.
    pub fn is_identity_over(&self, source: &Schema, partition_columns: &[String]) -> bool {
        let partitions = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        self.shown().iter().all(|shown| shown.mask.is_none() && shown.name == shown.from)
            && partitions(&self.partition_columns) == partitions(partition_columns)
            && source.fields.iter().all(|field| !maps_columns(field))
            && shape(&DataType::Struct(self.schema.fields.clone())) == shape(&DataType::Struct(source.fields.clone()))
    }
}

impl ViewPlan {
    /// The source's partition columns whose plain values readers do not see. Each file of the source holds rows of one
    /// value of each, so the layout of its files would reveal what the view hides.
    pub fn hidden_partitions(&self, partition_columns: &[String]) -> BTreeSet<String> {
        let mut hidden: BTreeSet<String> = partition_columns.iter().cloned().collect();
        for shown in self.shown().into_iter().filter(|shown| shown.mask.is_none()) {
            if let [name] = shown.from.0.as_slice() {
                hidden.remove(name);
            }
        }
        hidden
    }

    /// The layout of a version whose definition does not name one.
    pub fn default_layout(&self, partition_columns: &[String]) -> Layout {
        if self.hidden_partitions(partition_columns).is_empty() { Layout::Source } else { Layout::Mixed }
    }

    /// The layout in which the published version is served over a source with these partition columns. It is the
    /// source's layout only if that reveals no more than was acknowledged.
    pub fn layout_over(&self, partition_columns: &[String]) -> Layout {
        match self.pinned.layout {
            None => Layout::Source,
            Some(Layout::Source) if self.hidden_partitions(partition_columns).is_subset(&self.pinned.acknowledged) => {
                Layout::Source
            }
            Some(Layout::Source | Layout::Mixed) => Layout::Mixed,
        }
    }
}

impl PinnedView {
    /// Makes the plan again.
    pub fn plan(&self) -> Result<ViewPlan, Vec<Problem>> {
        self.plan_under(&EffectiveMasks::default())
    }

    /// Makes the plan again, with these masks instead of the definition's.
    pub fn plan_under(&self, masks: &EffectiveMasks) -> Result<ViewPlan, Vec<Problem>> {
        let plan = ViewPlan::under(&self.definition, &self.source, &self.partition_columns, masks)?;
        Ok(ViewPlan { pinned: self.clone(), ..plan })
    }
}

/// Reads the layout with which a version was published from its [`PinnedView`] JSON.
pub fn layout_of(pinned: &str) -> Layout {
    #[derive(Deserialize)]
    struct Published {
        layout: Option<Layout>,
    }
    let published: Option<Published> = serde_json::from_str(pinned).ok();
    published.and_then(|published| published.layout).unwrap_or(Layout::Source)
}

/// Appends to `fields` those of `pinned` that are missing, at every depth.
fn completed(fields: &[Field], pinned: &[Field]) -> Vec<Field> {
    fn of_type(own: &DataType, pinned: &DataType) -> DataType {
        match (own, pinned) {
            (DataType::Struct(own), DataType::Struct(pinned)) => DataType::Struct(completed(own, pinned)),
            (DataType::Array { element, contains_null }, DataType::Array { element: pinned, .. }) => {
                DataType::Array { element: Box::new(of_type(element, pinned)), contains_null: *contains_null }
            }
            (
                DataType::Map { key, value, value_contains_null },
                DataType::Map { key: pinned_key, value: pinned_value, .. },
            ) => DataType::Map {
                key: Box::new(of_type(key, pinned_key)),
                value: Box::new(of_type(value, pinned_value)),
                value_contains_null: *value_contains_null,
            },
            _ => own.clone(),
        }
    }
    let of = |field: &Field| match pinned.iter().find(|pinned| pinned.name == field.name) {
        Some(pinned) => Field { data_type: of_type(&field.data_type, &pinned.data_type), ..field.clone() },
        None => field.clone(),
    };
    let lacking = pinned.iter().filter(|pinned| fields.iter().all(|field| field.name != pinned.name));
    fields.iter().map(of).chain(lacking.cloned()).collect()
}

/// The number of steps to the first field that is not the pinned one. A column that is dropped and created again keeps
/// its name but gets another physical name.
fn replaced(pinned: &Found<'_>, found: &Found<'_>) -> Option<usize> {
    let physical = |field: &Field| field.mapped_name().unwrap_or(&field.name).to_owned();
    let steps = pinned.steps.iter().zip(&found.steps);
    let mut differ = steps.map(|steps| match steps {
        (Step::Field(pinned), Step::Field(found)) => physical(pinned) != physical(found),
        _ => false,
    });
    differ.position(|differs| differs).map(|at| at + 1)
}

/// Whether a column, or something below it, may now be NULL and could not before.
fn is_looser(was: &Field, is: &Field) -> bool {
    fn below(was: &DataType, is: &DataType) -> bool {
        match (was, is) {
            (DataType::Struct(was), DataType::Struct(is)) => was.iter().zip(is).any(|(was, is)| is_looser(was, is)),
            (
                DataType::Array { element: was, contains_null: before },
                DataType::Array { element: is, contains_null: after },
            ) => (!before && *after) || below(was, is),
            (
                DataType::Map { key: was_key, value: was, value_contains_null: before },
                DataType::Map { key: is_key, value: is, value_contains_null: after },
            ) => (!before && *after) || below(was_key, is_key) || below(was, is),
            _ => false,
        }
    }
    (!was.nullable && is.nullable) || below(&was.data_type, &is.data_type)
}

fn collect_shown(output: &Output, name: &mut Vec<String>, base: &mut Vec<String>, shown: &mut Vec<ShownLeaf>) {
    let mut below = |output: &Output, from: &[String], part: &str, name: &mut Vec<String>, base: &mut Vec<String>| {
        let length = base.len();
        base.extend_from_slice(from);
        base.push(part.to_owned());
        name.push(part.to_owned());
        collect_shown(output, name, base, shown);
        name.pop();
        base.truncate(length);
    };
    match output {
        Output::Value { from, data_type, mask } => {
            let masked = mask.as_ref().and_then(|mask| mask.output_type(data_type).ok());
            shown.push(ShownLeaf {
                name: ColumnPath(name.clone()),
                from: ColumnPath(base.iter().chain(from).cloned().collect()),
                data_type: masked.unwrap_or_else(|| data_type.clone()),
                mask: mask.clone(),
            });
        }
        Output::Struct { fields, .. } => {
            for field in fields {
                name.push(field.name.clone());
                collect_shown(&field.output, name, base, shown);
                name.pop();
            }
        }
        Output::List { from, element } => below(element, from, ELEMENT, name, base),
        Output::Map { from, key, value } => {
            below(key, from, KEY, name, base);
            below(value, from, VALUE, name, base);
        }
    }
}

/// Whether a column or anything below it carries column mapping metadata.
fn maps_columns(field: &Field) -> bool {
    fn below(data_type: &DataType) -> bool {
        match data_type {
            DataType::Primitive(_) | DataType::Other(_) => false,
            DataType::Struct(fields) => fields.iter().any(maps_columns),
            DataType::Array { element, .. } => below(element),
            DataType::Map { key, value, .. } => below(key) || below(value),
        }
    }
    field.metadata.keys().any(|key| key.starts_with("delta.columnMapping.")) || below(&field.data_type)
}

/// A type without field order, metadata and nullability.
fn shape(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Primitive(_) | DataType::Other(_) => data_type.clone(),
        DataType::Struct(fields) => {
            let mut fields: Vec<Field> = fields
                .iter()
                .map(|field| Field {
                    name: field.name.clone(),
                    data_type: shape(&field.data_type),
                    nullable: true,
                    metadata: Default::default(),
                })
                .collect();
            fields.sort_by(|one, other| one.name.cmp(&other.name));
            DataType::Struct(fields)
        }
        DataType::Array { element, .. } => DataType::Array { element: Box::new(shape(element)), contains_null: true },
        DataType::Map { key, value, .. } => {
            DataType::Map { key: Box::new(shape(key)), value: Box::new(shape(value)), value_contains_null: true }
        }
    }
}

#[cfg(test)]
mod tests;
