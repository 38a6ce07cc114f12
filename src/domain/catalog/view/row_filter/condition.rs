//! Filters in which every value is known: how they are bound, and what they mean.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use chrono::NaiveDate;
use serde_json::Value as Json;

use crate::domain::catalog::schema::{ColumnPath, Primitive};

use super::{Comparison, Condition, List, MAX_PROPERTY_LIST, Node, Operand, Value};

/// Binds `node` to a recipient's properties and the day; `None` if any property is missing, wherever it is used.
pub(super) fn bind(node: &Node, properties: &BTreeMap<String, Json>, today: NaiveDate) -> Option<Condition> {
    let all = |parts: &[Node]| parts.iter().map(|part| bind(part, properties, today)).collect::<Option<Vec<_>>>();
    let operand = |operand: &Operand, primitive| match operand {
        Operand::Value(value) => Some(value.clone()),
        Operand::Recipient(property) => Value::from_json(properties.get(property)?, primitive),
        Operand::Today(days) => today.to_epoch_days().checked_add(*days).map(Value::Date),
    };
    Some(match node {
        Node::Known(value) => Condition::Known(*value),
        Node::All(parts) => joined(all(parts)?, true),
        Node::Any(parts) => joined(all(parts)?, false),
        Node::Not(inner) => negated(bind(inner, properties, today)?),
        Node::Compare(column, comparison, value) => Condition::Compare {
            column: column.path.clone(),
            comparison: *comparison,
            value: operand(value, column.primitive)?,
        },
        Node::CompareColumns(left, comparison, right) => {
            Condition::CompareColumns { left: left.path.clone(), comparison: *comparison, right: right.path.clone() }
        }
        Node::OneOf(column, values) => {
            let values = match values {
                List::Values(values) => values.iter().map(|value| operand(value, column.primitive)).collect(),
                List::Property(property) => list(properties.get(property)?, column.primitive),
            }?;
            if values.is_empty() {
                Condition::Known(false)
            } else {
                Condition::OneOf { column: column.path.clone(), values }
            }
        }
        Node::StartsWith(column, prefix) => {
            Condition::StartsWith { column: column.path.clone(), prefix: prefix.clone() }
        }
        Node::IsNull(column) => Condition::IsNull { column: column.path.clone() },
        Node::IsTrue(column) => Condition::IsTrue { column: column.path.clone() },
    })
}

/// The values of type `primitive` in a list property; `None` if it is not a list, is too long, or contains a value of
/// another type.
pub(super) fn list(json: &Json, primitive: Primitive) -> Option<Vec<Value>> {
    let values = json.as_array().filter(|values| values.len() <= MAX_PROPERTY_LIST)?;
    values.iter().map(|value| Value::from_json(value, primitive)).collect()
}

/// Joins the parts with AND (`is_all`) or OR, simplified as far as known parts allow.
fn joined(parts: Vec<Condition>, is_all: bool) -> Condition {
    // A part with this value decides the whole; parts with the opposite value can be left out.
    let decisive = Condition::Known(!is_all);
    if parts.contains(&decisive) {
        return decisive;
    }
    let mut parts: Vec<Condition> = parts.into_iter().filter(|part| !matches!(part, Condition::Known(_))).collect();
    match parts.len() {
        0 => Condition::Known(is_all),
        1 => parts.swap_remove(0),
        _ if is_all => Condition::All(parts),
        _ => Condition::Any(parts),
    }
}

fn negated(condition: Condition) -> Condition {
    match condition {
        Condition::Known(value) => Condition::Known(!value),
        Condition::Not(inner) => *inner,
        other => Condition::Not(Box::new(other)),
    }
}

impl Condition {
    /// The columns that it reads.
    pub fn columns(&self) -> BTreeSet<ColumnPath> {
        let mut columns = BTreeSet::new();
        self.collect_columns(&mut columns);
        columns
    }

    fn collect_columns(&self, columns: &mut BTreeSet<ColumnPath>) {
        match self {
            Self::Known(_) => {}
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect_columns(columns)),
            Self::Not(inner) => inner.collect_columns(columns),
            Self::CompareColumns { left, right, .. } => columns.extend([left.clone(), right.clone()]),
            Self::Compare { column, .. }
            | Self::OneOf { column, .. }
            | Self::StartsWith { column, .. }
            | Self::IsNull { column }
            | Self::IsTrue { column } => {
                columns.insert(column.clone());
            }
        }
    }

    /// Whether it reads only these top-level columns.
    pub fn on_partitions_only(&self, partition_columns: &[String]) -> bool {
        self.columns().iter().all(|column| match column.0.as_slice() {
            [name] => partition_columns.contains(name),
            _ => false,
        })
    }

    /// Evaluates the condition on a row; `None` is unknown. `value` returns a column's value in the row, `None` for
    /// NULL.
    pub fn evaluate(&self, value: &dyn Fn(&ColumnPath) -> Option<Value>) -> Option<bool> {
        match self {
            Self::Known(known) => Some(*known),
            Self::All(parts) => decided(parts, false, value),
            Self::Any(parts) => decided(parts, true, value),
            Self::Not(inner) => inner.evaluate(value).map(|known| !known),
            Self::Compare { column, comparison, value: constant } => {
                value(column)?.compare(constant).map(|order| comparison.holds(order))
            }
            Self::CompareColumns { left, comparison, right } => {
                value(left)?.compare(&value(right)?).map(|order| comparison.holds(order))
            }
            Self::OneOf { values, .. } if values.is_empty() => Some(false),
            Self::OneOf { column, values } => {
                let own = value(column)?;
                own.compare(&own)?;
                Some(values.iter().any(|value| own.compare(value) == Some(Ordering::Equal)))
            }
            Self::StartsWith { column, prefix } => match value(column)? {
                Value::Text(text) => Some(text.starts_with(prefix)),
                _ => None,
            },
            Self::IsNull { column } => Some(value(column).is_none()),
            Self::IsTrue { column } => match value(column)? {
                Value::Boolean(own) => Some(own),
                _ => None,
            },
        }
    }
}

/// The possible outcomes of a condition when only some values are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Possible {
    is_true: bool,
    is_false: bool,
    is_unknown: bool,
}

impl From<Option<bool>> for Possible {
    fn from(outcome: Option<bool>) -> Self {
        Self { is_true: outcome == Some(true), is_false: outcome == Some(false), is_unknown: outcome.is_none() }
    }
}

impl Possible {
    fn not(self) -> Self {
        Self { is_true: self.is_false, is_false: self.is_true, ..self }
    }

    /// Combines both with AND; may include impossible outcomes if both are about the same column.
    fn and(self, other: Self) -> Self {
        Self {
            is_true: self.is_true && other.is_true,
            is_false: self.is_false || other.is_false,
            is_unknown: (self.is_unknown && (other.is_true || other.is_unknown)) || (self.is_true && other.is_unknown),
        }
    }
}

impl Condition {
    /// Whether it may be true of some row, given the values that `value` knows: a value or NULL for each known column,
    /// `None` for the others.
    pub fn may_hold(&self, value: &dyn Fn(&ColumnPath) -> Option<Option<Value>>) -> bool {
        self.possible(value).is_true
    }

    fn possible(&self, value: &dyn Fn(&ColumnPath) -> Option<Option<Value>>) -> Possible {
        match self {
            Self::All(parts) => {
                parts.iter().fold(Some(true).into(), |so_far: Possible, part| so_far.and(part.possible(value)))
            }
            Self::Any(parts) => {
                let none = parts
                    .iter()
                    .fold(Some(true).into(), |so_far: Possible, part| so_far.and(part.possible(value).not()));
                none.not()
            }
            Self::Not(inner) => inner.possible(value).not(),
            leaf if leaf.columns().iter().all(|column| value(column).is_some()) => {
                leaf.evaluate(&|column| value(column).flatten()).into()
            }
            leaf => Possible { is_true: true, is_false: true, is_unknown: !matches!(leaf, Self::IsNull { .. }) },
        }
    }
}

/// `decisive` if some part is that, its opposite if all parts are, unknown otherwise.
fn decided(parts: &[Condition], decisive: bool, value: &dyn Fn(&ColumnPath) -> Option<Value>) -> Option<bool> {
    let mut outcome = Some(!decisive);
    for part in parts {
        match part.evaluate(value) {
            Some(known) if known == decisive => return Some(decisive),
            Some(_) => {}
            None => outcome = None,
        }
    }
    outcome
}

impl Comparison {
    /// Whether it holds for two values in this order.
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}
