//! What a view shows, in plain code: the meaning of columns, parts, masks and filters, implemented a second time
//! without a plan. Only a mask's effect on one value and a condition on known values are taken from the product.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde_json::{Map, Value as Json, json};
use weir::domain::catalog::{
    schema::{ColumnPath, DataType, Field, Schema},
    view::{
        mask::{Mask, PseudonymKeys},
        row_filter::{Condition, RowFilter},
    },
};

use super::{
    source::State,
    value::{Row, Value},
};

/// What is shown under a name. A path consists of struct field names, starting at the row, or at the struct or element
/// that contains the pick.
#[derive(Clone, Debug)]
pub enum Pick {
    /// The value there as a whole; a mask on a list applies to its elements.
    Value { from: Vec<String>, mask: Option<Json> },
    /// Parts of the struct there; NULL if the struct is.
    Struct { from: Vec<String>, fields: Vec<(String, Pick)> },
    /// Parts from different places of a row; never NULL.
    Gathered(Vec<(String, Pick)>),
    /// Something of every element of the list there.
    List { from: Vec<String>, element: Box<Pick> },
    /// Something of every value of the map there, under its key.
    Map { from: Vec<String>, value: Box<Pick> },
}

/// A view.
#[derive(Clone, Debug, Default)]
pub struct Visible {
    pub columns: Vec<(String, Pick)>,
    /// The comments of columns that are values.
    pub comments: BTreeMap<String, String>,
    pub filter: Option<String>,
}

/// Who reads, and when.
#[derive(Clone, Debug)]
pub struct Reader {
    pub properties: BTreeMap<String, Json>,
    pub keys: PseudonymKeys,
    pub today: NaiveDate,
    /// The surrogate of each value, by its `Debug` text.
    pub surrogates: BTreeMap<String, String>,
}

/// What a reader should see of a table.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The columns; nullability is not compared.
    pub fields: Vec<Field>,
    pub partition_columns: Vec<String>,
    /// The leaves that statistics may cover.
    pub spoken_of: BTreeSet<Vec<String>>,
    /// The rows of each source file that shows any.
    pub files: Vec<Vec<Row>>,
}

impl Expected {
    /// All rows.
    pub fn rows(&self) -> Vec<Row> {
        self.files.concat()
    }

    /// Every name of a column or of a part of one.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.fields.iter().for_each(|field| collect_names(field, &mut names));
        names
    }
}

fn collect_names(field: &Field, names: &mut BTreeSet<String>) {
    fn below(data_type: &DataType, names: &mut BTreeSet<String>) {
        match data_type {
            DataType::Struct(fields) => fields.iter().for_each(|field| collect_names(field, names)),
            DataType::Array { element, .. } => below(element, names),
            DataType::Map { key, value, .. } => {
                below(key, names);
                below(value, names);
            }
            DataType::Primitive(_) | DataType::Other(_) => {}
        }
    }
    names.insert(field.name.clone());
    below(&field.data_type, names);
}

impl Pick {
    /// The column of this name, unmasked.
    pub fn whole(name: &str) -> Self {
        Self::Value { from: path(name), mask: None }
    }

    /// The value at a dotted path, masked.
    pub fn masked(from: &str, mask: Json) -> Self {
        Self::Value { from: path(from), mask: Some(mask) }
    }

    /// Adds the columns of the equivalent definition.
    fn define(&self, name: &[String], base: &[String], columns: &mut Vec<Json>) {
        let join = |one: &[String], other: &[String]| [one, other].concat();
        let step = |path: &[String], part: &str| join(path, &[part.to_owned()]);
        match self {
            Self::Value { from, mask } => {
                let mut column = json!({"name": name.join("."), "from": join(base, from).join(".")});
                if let Some(mask) = mask {
                    column["mask"] = mask.clone();
                }
                columns.push(column);
            }
            Self::Struct { from, fields } => {
                let base = join(base, from);
                fields.iter().for_each(|(own, pick)| pick.define(&step(name, own), &base, columns));
            }
            Self::Gathered(fields) => {
                fields.iter().for_each(|(own, pick)| pick.define(&step(name, own), base, columns));
            }
            Self::List { from, element } => {
                element.define(&step(name, "element"), &step(&join(base, from), "element"), columns);
            }
            Self::Map { from, value } => {
                let base = join(base, from);
                let key = Self::Value { from: Vec::new(), mask: None };
                key.define(&step(name, "key"), &step(&base, "key"), columns);
                value.define(&step(name, "value"), &step(&base, "value"), columns);
            }
        }
    }

    /// The type shown, for a row or element of type `here`.
    fn data_type(&self, here: &DataType) -> DataType {
        match self {
            Self::Value { from, mask } => masked_type(type_at(here, from), mask.as_ref()),
            Self::Struct { from, fields } => struct_type(fields, type_at(here, from)),
            Self::Gathered(fields) => struct_type(fields, here),
            Self::List { from, element } => {
                let DataType::Array { element: inner, .. } = type_at(here, from) else { panic!("no list") };
                DataType::Array { element: Box::new(element.data_type(inner)), contains_null: true }
            }
            Self::Map { from, value } => {
                let DataType::Map { key, value: inner, .. } = type_at(here, from) else { panic!("no map") };
                DataType::Map {
                    key: Box::new(bare(key)),
                    value: Box::new(value.data_type(inner)),
                    value_contains_null: true,
                }
            }
        }
    }

    /// The value shown for a row or element.
    fn show(&self, here: &Value, data_type: &DataType, reader: &Reader) -> Value {
        match self {
            Self::Value { from, mask } => {
                let at = |path: &[String]| (value_at(here, data_type, path), type_at(data_type, path));
                let (value, data_type) = at(from);
                match mask.as_ref().map(|mask| Mask::from_json(mask).unwrap()) {
                    None => value,
                    Some(Mask::Shift(shift)) => {
                        let (subject, of) = at(&shift.key.0);
                        let bound = shift.bind(of.primitive().unwrap(), &reader.keys);
                        bound.apply(&value.cell(), bound.days_of(&subject.cell()).unwrap()).unwrap().into()
                    }
                    Some(mask) => masked(value, data_type, &mask.to_json(), reader),
                }
            }
            Self::Struct { from, fields } => match value_at(here, data_type, from) {
                Value::Null => Value::Null,
                value => struct_of(fields, &value, type_at(data_type, from), reader),
            },
            Self::Gathered(fields) => struct_of(fields, here, data_type, reader),
            Self::List { from, element } => {
                let DataType::Array { element: inner, .. } = type_at(data_type, from) else { panic!("no list") };
                match value_at(here, data_type, from) {
                    Value::List(values) => {
                        Value::List(values.iter().map(|value| element.show(value, inner, reader)).collect())
                    }
                    _ => Value::Null,
                }
            }
            Self::Map { from, value } => {
                let DataType::Map { value: inner, .. } = type_at(data_type, from) else { panic!("no map") };
                match value_at(here, data_type, from) {
                    Value::Map(entries) => {
                        let entry = |(key, own)| (key, value.show(&own, inner, reader));
                        Value::Map(entries.into_iter().map(entry).collect())
                    }
                    _ => Value::Null,
                }
            }
        }
    }

    /// Adds the leaves that statistics may cover: those shown unmasked, outside lists and maps.
    fn speak_of(&self, name: &mut Vec<String>, data_type: &DataType, leaves: &mut BTreeSet<Vec<String>>) {
        match self {
            Self::Value { mask: Some(_), .. } | Self::List { .. } | Self::Map { .. } => {}
            Self::Value { from, mask: None } => whole_leaves(type_at(data_type, from), name, leaves),
            Self::Struct { fields, .. } | Self::Gathered(fields) => {
                let data_type = match self {
                    Self::Struct { from, .. } => type_at(data_type, from),
                    _ => data_type,
                };
                for (own, pick) in fields {
                    name.push(own.clone());
                    pick.speak_of(name, data_type, leaves);
                    name.pop();
                }
            }
        }
    }
}

fn path(dotted: &str) -> Vec<String> {
    dotted.split('.').map(str::to_owned).collect()
}

fn whole_leaves(data_type: &DataType, name: &mut Vec<String>, leaves: &mut BTreeSet<Vec<String>>) {
    match data_type {
        DataType::Primitive(_) => drop(leaves.insert(name.clone())),
        DataType::Struct(fields) => {
            for field in fields {
                name.push(field.name.clone());
                whole_leaves(&field.data_type, name, leaves);
                name.pop();
            }
        }
        _ => {}
    }
}

fn field_of(fields: &[Field], name: &str) -> usize {
    fields.iter().position(|field| field.name == name).unwrap_or_else(|| panic!("there is no `{name}`"))
}

fn type_at<'a>(here: &'a DataType, path: &[String]) -> &'a DataType {
    path.iter().fold(here, |here, name| match here {
        DataType::Struct(fields) => &fields[field_of(fields, name)].data_type,
        other => panic!("{other} has no `{name}`"),
    })
}

fn value_at(here: &Value, data_type: &DataType, path: &[String]) -> Value {
    let Some((first, rest)) = path.split_first() else { return here.clone() };
    let DataType::Struct(fields) = data_type else { panic!("{data_type} has no `{first}`") };
    let at = field_of(fields, first);
    match here {
        Value::Struct(parts) => value_at(&parts[at], &fields[at].data_type, rest),
        _ => Value::Null,
    }
}

fn struct_of(fields: &[(String, Pick)], here: &Value, data_type: &DataType, reader: &Reader) -> Value {
    Value::Struct(fields.iter().map(|(_, pick)| pick.show(here, data_type, reader)).collect())
}

fn struct_type(fields: &[(String, Pick)], here: &DataType) -> DataType {
    DataType::Struct(fields.iter().map(|(name, pick)| shown_field(name, pick.data_type(here))).collect())
}

fn shown_field(name: &str, data_type: DataType) -> Field {
    Field { name: name.to_owned(), data_type, nullable: true, metadata: Map::new() }
}

/// A type without the writer's metadata.
pub fn bare(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| shown_field(&field.name, bare(&field.data_type))).collect())
        }
        DataType::Array { element, .. } => DataType::Array { element: Box::new(bare(element)), contains_null: true },
        DataType::Map { key, value, .. } => {
            DataType::Map { key: Box::new(bare(key)), value: Box::new(bare(value)), value_contains_null: true }
        }
        other => other.clone(),
    }
}

fn masked_type(data_type: &DataType, mask: Option<&Json>) -> DataType {
    match (mask, data_type) {
        (None, _) => bare(data_type),
        (Some(mask), _) if *mask == json!("null") => bare(data_type),
        (mask, DataType::Array { element, .. }) => {
            DataType::Array { element: Box::new(masked_type(element, mask)), contains_null: true }
        }
        (Some(mask), _) => Mask::from_json(mask).unwrap().output_type(data_type).unwrap(),
    }
}

fn masked(value: Value, data_type: &DataType, mask: &Json, reader: &Reader) -> Value {
    if *mask == json!("null") {
        return Value::Null;
    }
    if let DataType::Array { element, .. } = data_type {
        return match value {
            Value::List(values) => {
                Value::List(values.into_iter().map(|value| masked(value, element, mask, reader)).collect())
            }
            _ => Value::Null,
        };
    }
    let mask = Mask::from_json(mask).unwrap();
    if matches!(mask, Mask::Surrogate { .. }) {
        let surrogate = |value: &Value| reader.surrogates.get(&format!("{value:?}")).map(Value::text);
        return if value.is_null() {
            value
        } else {
            surrogate(&value).expect("the surrogate of a shown value is known")
        };
    }
    let bound = mask.bind(data_type, &reader.keys, reader.today).unwrap();
    bound.apply(value.cell()).unwrap().into()
}

impl Visible {
    /// The columns as a definition has them.
    pub fn definition(&self) -> Json {
        let mut columns = Vec::new();
        for (name, pick) in &self.columns {
            let from = columns.len();
            pick.define(std::slice::from_ref(name), &[], &mut columns);
            if let Some(comment) = self.comments.get(name) {
                columns[from]["comment"] = comment.as_str().into();
            }
        }
        columns.into()
    }

    /// What `reader` should see of `table`. A column that the table does not have yet is NULL.
    pub fn shown(&self, table: &State, reader: &Reader) -> Expected {
        let row_type = DataType::Struct(table.schema.fields.clone());
        let condition = self
            .filter
            .as_ref()
            .map(|text| RowFilter::parse(text, &table.schema).unwrap().bind(&reader.properties, reader.today));
        let mut files = Vec::new();
        for rows in table.rows_by_file() {
            let rows = rows.into_iter().map(Value::Struct);
            let seen = rows.filter(|row| condition.as_ref().is_none_or(|condition| holds(condition, row, &row_type)));
            let shown = |row: Value| self.columns.iter().map(|(_, pick)| pick.show(&row, &row_type, reader)).collect();
            let shown: Vec<Row> = seen.map(shown).collect();
            if !shown.is_empty() {
                files.push(shown);
            }
        }
        let mut fields: Vec<Field> =
            self.columns.iter().map(|(name, pick)| shown_field(name, pick.data_type(&row_type))).collect();
        for field in &mut fields {
            if let Some(comment) = self.comments.get(&field.name) {
                field.metadata.insert("comment".to_owned(), comment.as_str().into());
            }
        }
        let mut partition_columns: Vec<String> = Vec::new();
        for (name, pick) in &self.columns {
            if matches!(pick, Pick::Value { from, mask: None } if from.len() == 1 && table.partition_columns.contains(&from[0]))
            {
                partition_columns.push(name.clone());
            }
        }
        // A file needs at least one column.
        if partition_columns.len() == self.columns.len() {
            partition_columns.pop();
        }
        let mut spoken_of = BTreeSet::new();
        for (name, pick) in self.columns.iter().filter(|(name, _)| !partition_columns.contains(name)) {
            pick.speak_of(&mut vec![name.clone()], &row_type, &mut spoken_of);
        }
        Expected { fields, partition_columns, spoken_of, files }
    }
}

fn holds(condition: &Condition, row: &Value, row_type: &DataType) -> bool {
    condition.evaluate(&|column: &ColumnPath| value_at(row, row_type, &column.0).known()) == Some(true)
}

/// Parses a schema as logs write it.
pub fn schema_of(text: &str) -> Schema {
    Schema::parse(text).unwrap()
}
