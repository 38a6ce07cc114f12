//! Row filters: the syntax and meaning of a small language over a table's columns and a recipient's properties.
//!
//! ```text
//! plan IN recipient_list('plans') AND service_date >= DATE '2023-01-01' AND NOT is_test
//!
//! filter     = all { OR all }
//! all        = condition { AND condition }
//! condition  = NOT condition | "(" filter ")" | TRUE | FALSE | boolean column
//!            | value ( = | <> | != | < | <= | > | >= ) value
//!            | column IS [NOT] NULL
//!            | column [NOT] IN "(" value { "," value } ")" | column [NOT] IN recipient_list('property')
//!            | column [NOT] BETWEEN value AND value
//!            | column [NOT] LIKE 'text%'
//! value      = column | number | 'text' | TRUE | FALSE | DATE '…' | TIMESTAMP '…'
//!            | recipient('property') | today() [ ( + | - ) days ]
//! column     = name { "." name }
//! ```
//!
//! A filter is parsed into a tree, checked against a schema, and bound to one recipient's properties as typed values;
//! no query text is ever assembled. A row is shown if the filter is true; false and unknown hide it. Nothing is cast: a
//! value that is not exactly of the column's type is refused, and a property of the wrong type counts as missing.

mod condition;
mod lexer;
mod parser;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use chrono::NaiveDate;
use serde_json::Value as Json;

pub use super::value::Value;

use crate::domain::catalog::schema::{ColumnPath, Primitive, Schema};

use super::Problem;

use self::lexer::Kind;

/// The longest filter, in characters.
const MAX_CHARACTERS: usize = 10_000;
/// The deepest nesting of conditions.
const MAX_DEPTH: usize = 32;
/// The most conditions without conditions inside.
const MAX_LEAVES: usize = 200;
/// The most values in a list that a filter writes out.
const MAX_LIST: usize = 1_000;
/// The most values in a list that is a recipient's property.
const MAX_PROPERTY_LIST: usize = 10_000;
/// The longest name of a property, in characters.
const MAX_PROPERTY: usize = 255;

/// A parsed filter that fits a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct RowFilter {
    root: Node,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Known(bool),
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Compare(Column, Comparison, Operand),
    CompareColumns(Column, Comparison, Column),
    OneOf(Column, List),
    StartsWith(Column, String),
    IsNull(Column),
    IsTrue(Column),
}

/// A column and the type of its values.
#[derive(Clone, Debug, PartialEq)]
struct Column {
    path: ColumnPath,
    primitive: Primitive,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Value(Value),
    /// A property of the recipient.
    Recipient(String),
    /// The current day (UTC) plus this many days.
    Today(i32),
}

#[derive(Clone, Debug, PartialEq)]
enum List {
    Values(Vec<Operand>),
    /// A property of the recipient that is a list.
    Property(String),
}

/// An error in a filter's text, and its place.
#[derive(Debug)]
struct Fault {
    /// The position of the character, counted from 1.
    at: usize,
    message: String,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// The names in the text of a filter that may be columns, whether or not some schema has them; none if the text cannot
/// be split into words.
pub fn names(text: &str) -> BTreeSet<ColumnPath> {
    let tokens = lexer::tokens(text).unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut rest = tokens.as_slice();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let name = |kind: &Kind<'_>| match kind {
            Kind::Word(word) => Some((*word).to_owned()),
            Kind::Name(name) => Some(name.clone()),
            Kind::Text(_) | Kind::Number(_) | Kind::Symbol(_) => None,
        };
        let next = behind.first().map(|token| &token.kind);
        let is_other = match &first.kind {
            // A word of the language, a function, or the type of a text.
            Kind::Word(word) => parser::is_reserved(word) || matches!(next, Some(Kind::Symbol("(") | Kind::Text(_))),
            _ => false,
        };
        let Some(start) = name(&first.kind).filter(|_| !is_other) else { continue };
        let mut path = vec![start];
        while let [dot, part, behind @ ..] = rest
            && dot.kind == Kind::Symbol(".")
            && let Some(part) = name(&part.kind)
        {
            path.push(part);
            rest = behind;
        }
        names.insert(ColumnPath(path));
    }
    names
}

/// A filter in which every value is known. SQL's three-valued logic holds: a comparison with NULL is unknown. A
/// comparison with a NaN in the table is unknown too; zeros are equal whatever their sign; texts compare by their UTF-8
/// bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A constant, the same for every row.
    Known(bool),
    /// All of them.
    All(Vec<Condition>),
    /// Any of them.
    Any(Vec<Condition>),
    /// The opposite of a condition.
    Not(Box<Condition>),
    /// A column compared with a value of the column's type.
    Compare {
        /// The column.
        column: ColumnPath,
        /// The comparison.
        comparison: Comparison,
        /// The value to compare with.
        value: Value,
    },
    /// Two columns of one type compared.
    CompareColumns {
        /// One column.
        left: ColumnPath,
        /// The comparison.
        comparison: Comparison,
        /// The other column.
        right: ColumnPath,
    },
    /// Whether a column is one of these values, all of its type; false for an empty list.
    OneOf {
        /// The column.
        column: ColumnPath,
        /// The values.
        values: Vec<Value>,
    },
    /// Whether a text begins with a prefix.
    StartsWith {
        /// The column.
        column: ColumnPath,
        /// The beginning.
        prefix: String,
    },
    /// Whether a column is NULL; never unknown.
    IsNull {
        /// The column.
        column: ColumnPath,
    },
    /// Whether a boolean column is true.
    IsTrue {
        /// The column.
        column: ColumnPath,
    },
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`, `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// The comparison that holds after swapping both sides.
    fn mirrored(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl RowFilter {
    /// Parses `text` and checks it against `source`; the error names the place in the text (the character, from 1).
    pub fn parse(text: &str, source: &Schema) -> Result<Self, Problem> {
        let problem = |message| Problem { field: "row_filter".to_owned(), message };
        if text.chars().nth(MAX_CHARACTERS).is_some() {
            return Err(problem(format!("a filter has at most {MAX_CHARACTERS} characters")));
        }
        if text.trim().is_empty() {
            return Err(problem("the filter is empty; leave it out to show all rows".to_owned()));
        }
        let root = parser::parse(text, source)
            .map_err(|fault| problem(format!("character {}: {}", fault.at, fault.message)))?;
        Ok(Self { root })
    }

    /// The columns that it reads.
    pub fn columns(&self) -> BTreeSet<ColumnPath> {
        let mut columns = BTreeSet::new();
        self.root.visit(&mut |leaf| {
            let (first, second) = leaf.columns();
            columns.extend(first.into_iter().chain(second).map(|column| column.path.clone()));
        });
        columns
    }

    /// The recipient properties that it names.
    pub fn properties(&self) -> BTreeSet<String> {
        let mut properties = BTreeSet::new();
        self.root.visit(&mut |leaf| properties.extend(leaf.needs().into_iter().map(|need| need.property.to_owned())));
        properties
    }

    /// Whether it depends on the current day.
    pub fn uses_today(&self) -> bool {
        let mut uses = false;
        self.root.visit(&mut |leaf| {
            uses |= match leaf {
                Node::Compare(_, _, operand) => matches!(operand, Operand::Today(_)),
                Node::OneOf(_, List::Values(values)) => values.iter().any(|value| matches!(value, Operand::Today(_))),
                _ => false,
            };
        });
        uses
    }

    /// Which of its properties a recipient lacks or has with a value of the wrong type, in words that say what to set.
    pub fn missing(&self, properties: &BTreeMap<String, Json>) -> Vec<String> {
        self.unmet(properties).into_iter().map(|unmet| unmet.message).collect()
    }

    /// Why a recipient with these properties sees no row on this day (UTC), whatever the table holds. Empty if its
    /// properties are not the reason.
    pub fn starving(&self, properties: &BTreeMap<String, Json>, today: NaiveDate) -> Vec<Unmet> {
        let unmet = self.unmet(properties);
        if !unmet.is_empty() || self.bind(properties, today) != Condition::Known(false) {
            return unmet;
        }
        let mut empty = BTreeSet::new();
        self.root.visit(&mut |leaf| {
            for Need { property, column, is_list } in leaf.needs() {
                if is_list && properties.get(property).and_then(Json::as_array).is_some_and(Vec::is_empty) {
                    let message =
                        format!("property `{property}` is an empty list: no value of `{}` is in it", column.path);
                    empty.insert(Unmet { property: property.to_owned(), message });
                }
            }
        });
        empty.into_iter().collect()
    }

    fn unmet(&self, properties: &BTreeMap<String, Json>) -> Vec<Unmet> {
        let mut unmet = BTreeSet::new();
        self.root.visit(&mut |leaf| {
            for need in leaf.needs() {
                let Need { property, column, is_list } = need;
                let found = match properties.get(property) {
                    None | Some(Json::Null) => "is not set",
                    Some(json) if is_list && condition::list(json, column.primitive).is_some() => continue,
                    Some(json) if !is_list && Value::from_json(json, column.primitive).is_some() => continue,
                    Some(_) => "does not fit",
                };
                let what = if is_list { "a list of values" } else { "a value" };
                let form = json_form(column.primitive);
                let message = format!("property `{property}` {found}: `{}` needs {what} {form}", column.path);
                unmet.insert(Unmet { property: property.to_owned(), message });
            }
        });
        unmet.into_iter().collect()
    }

    /// Binds the filter for a recipient with these properties on this day (UTC). If any property is missing, wherever
    /// it is used, no rows are shown.
    pub fn bind(&self, properties: &BTreeMap<String, Json>, today: NaiveDate) -> Condition {
        condition::bind(&self.root, properties, today).unwrap_or(Condition::Known(false))
    }
}

/// A recipient's property that makes a filter show no rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// Its name.
    pub property: String,
    /// What is wrong with the property and what to set; contains no values.
    pub message: String,
}

/// A property that a condition needs.
struct Need<'a> {
    property: &'a str,
    /// The column that it is compared with, whose type it must have.
    column: &'a Column,
    is_list: bool,
}

impl Node {
    /// Calls `see` for every condition that contains no other conditions.
    fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Self)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.visit(see)),
            Self::Not(inner) => inner.visit(see),
            leaf => see(leaf),
        }
    }

    fn columns(&self) -> (Option<&Column>, Option<&Column>) {
        match self {
            Self::CompareColumns(left, _, right) => (Some(left), Some(right)),
            Self::Compare(column, ..)
            | Self::OneOf(column, _)
            | Self::StartsWith(column, _)
            | Self::IsNull(column)
            | Self::IsTrue(column) => (Some(column), None),
            Self::Known(_) | Self::All(_) | Self::Any(_) | Self::Not(_) => (None, None),
        }
    }

    fn needs(&self) -> Vec<Need<'_>> {
        fn of<'a>(column: &'a Column, operand: &'a Operand) -> Option<Need<'a>> {
            match operand {
                Operand::Recipient(property) => Some(Need { property, column, is_list: false }),
                Operand::Value(_) | Operand::Today(_) => None,
            }
        }
        match self {
            Self::Compare(column, _, operand) => of(column, operand).into_iter().collect(),
            Self::OneOf(column, List::Values(values)) => values.iter().filter_map(|value| of(column, value)).collect(),
            Self::OneOf(column, List::Property(property)) => vec![Need { property, column, is_list: true }],
            _ => Vec::new(),
        }
    }
}

/// Describes how JSON writes a value of a type, for messages.
fn json_form(primitive: Primitive) -> String {
    let form = match primitive {
        Primitive::Boolean => "true or false",
        Primitive::Byte | Primitive::Short | Primitive::Integer | Primitive::Long => "whole numbers",
        Primitive::Float | Primitive::Double => "numbers",
        Primitive::Decimal { .. } => "\"1.50\"",
        Primitive::Date => "\"YYYY-MM-DD\"",
        Primitive::Timestamp => "\"YYYY-MM-DDTHH:MM:SSZ\"",
        Primitive::TimestampNtz => "\"YYYY-MM-DDTHH:MM:SS\"",
        Primitive::String | Primitive::Binary => "texts",
    };
    format!("of type {primitive} ({form})")
}

/// Writes the filter in its own language; parsing it again over the same schema gives the same filter.
impl fmt::Display for RowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |f: &mut fmt::Formatter<'_>, part: &Self| match part {
            Self::All(_) | Self::Any(_) => write!(f, "({part})"),
            part => write!(f, "{part}"),
        };
        match self {
            Self::Known(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
            Self::All(parts) | Self::Any(parts) => {
                let word = if matches!(self, Self::All(_)) { " AND " } else { " OR " };
                for (at, part) in parts.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { word })?;
                    inner(f, part)?;
                }
                Ok(())
            }
            Self::Not(part) => {
                f.write_str("NOT ")?;
                inner(f, part)
            }
            Self::Compare(column, comparison, operand) => {
                write!(f, "{column} {} {}", comparison.symbol(), operand.text(column.primitive))
            }
            Self::CompareColumns(left, comparison, right) => write!(f, "{left} {} {right}", comparison.symbol()),
            Self::OneOf(column, List::Property(property)) => {
                write!(f, "{column} IN recipient_list({})", quoted(property))
            }
            Self::OneOf(column, List::Values(values)) => {
                let values: Vec<String> = values.iter().map(|value| value.text(column.primitive)).collect();
                write!(f, "{column} IN ({})", values.join(", "))
            }
            Self::StartsWith(column, prefix) => write!(f, "{column} LIKE {}", quoted(&format!("{prefix}%"))),
            Self::IsNull(column) => write!(f, "{column} IS NULL"),
            Self::IsTrue(column) => column.fmt(f),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.path.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "." })?;
            let is_bare = name.chars().all(lexer::is_part) && !name.starts_with(|c: char| c.is_ascii_digit());
            if is_bare && !(at == 0 && parser::is_reserved(name)) {
                f.write_str(name)?;
            } else {
                write!(f, "`{}`", name.replace('`', "``"))?;
            }
        }
        Ok(())
    }
}

impl Operand {
    fn text(&self, primitive: Primitive) -> String {
        match self {
            Self::Value(value) => value.literal(primitive),
            Self::Recipient(property) => format!("recipient({})", quoted(property)),
            Self::Today(0) => "today()".to_owned(),
            Self::Today(days) => format!("today() {} {}", if *days < 0 { "-" } else { "+" }, days.unsigned_abs()),
        }
    }
}

fn quoted(text: &str) -> String {
    Value::Text(text.to_owned()).literal(Primitive::String)
}

#[cfg(test)]
mod tests;
