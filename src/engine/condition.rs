//! Evaluates conditions on rows as DataFusion expressions over a table's columns.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray},
    buffer::BooleanBuffer,
    datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef},
};
use datafusion::{
    error::DataFusionError,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, in_list, is_null, like, lit, not},
    },
    scalar::ScalarValue,
};

use crate::domain::catalog::{
    schema::{ColumnPath, Primitive},
    view::row_filter::{Comparison, Condition, Value},
};

use super::{
    EngineError, types,
    wanted::{Kind, Wanted, misfit},
};

/// A condition bound to the columns of a scan.
#[derive(Debug)]
pub(super) struct Filter {
    inputs: Vec<Input>,
    schema: SchemaRef,
    expression: Arc<dyn PhysicalExpr>,
}

/// A column that the expression reads.
#[derive(Clone, Debug, PartialEq)]
struct Input {
    path: Vec<usize>,
    primitive: Primitive,
    /// Whether it is a float to compare. Then NaN, which compares with nothing, becomes NULL; negative zero becomes
    /// zero; and a `float` is compared as a `double`.
    is_compared_float: bool,
}

impl Filter {
    /// Binds `condition` to the columns that are read.
    pub(super) fn new(condition: &Condition, wanted: &[Wanted]) -> Result<Self, EngineError> {
        let mut builder = Builder { wanted, inputs: Vec::new() };
        let expression = builder.expression(condition)?;
        let schema = Arc::new(builder.schema());
        Ok(Self { inputs: builder.inputs, schema, expression })
    }

    /// Returns whether the condition reads only top-level columns that are marked.
    pub(super) fn sees_only(&self, marked: &[bool]) -> bool {
        self.inputs.iter().all(|input| input.path.first().is_some_and(|first| marked.get(*first) == Some(&true)))
    }

    /// Returns which rows are shown: those for which the condition is true. An unknown result hides a row, as false
    /// does.
    pub(super) fn shown(&self, rows: &StructArray) -> Result<BooleanBuffer, EngineError> {
        let columns = self.inputs.iter().map(|input| input.of(rows)).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let outcome = self.expression.evaluate(&batch.map_err(|_| misfit())?).map_err(|_| misfit())?;
        let outcome = outcome.into_array(rows.len()).map_err(|_| misfit())?;
        let outcome = outcome.as_boolean_opt().ok_or_else(misfit)?;
        Ok(match outcome.nulls() {
            Some(known) => outcome.values() & known.inner(),
            None => outcome.values().clone(),
        })
    }
}

impl Input {
    fn data_type(&self) -> DataType {
        if self.is_compared_float { DataType::Float64 } else { types::of_primitive(self.primitive) }
    }

    fn of(&self, rows: &StructArray) -> Result<ArrayRef, EngineError> {
        let Some((first, rest)) = self.path.split_first() else { return Err(misfit()) };
        let column = rest.iter().fold(rows.column(*first), |column, at| column.as_struct().column(*at));
        // Adding zero turns negative zero into zero, and changes nothing else.
        let comparable = |value: f64| (!value.is_nan()).then_some(value + 0.0);
        Ok(match self.primitive {
            Primitive::Float if self.is_compared_float => {
                let floats = column.as_primitive::<Float32Type>();
                Arc::new(floats.unary_opt::<_, Float64Type>(|value| comparable(value.into())))
            }
            Primitive::Double if self.is_compared_float => {
                Arc::new(column.as_primitive::<Float64Type>().unary_opt::<_, Float64Type>(comparable))
            }
            _ => Arc::clone(column),
        })
    }
}

type Expression = Arc<dyn PhysicalExpr>;

struct Builder<'a> {
    wanted: &'a [Wanted],
    inputs: Vec<Input>,
}

impl Builder<'_> {
    fn expression(&mut self, condition: &Condition) -> Result<Expression, EngineError> {
        Ok(match condition {
            Condition::Known(known) => lit(*known),
            Condition::All(parts) => self.joined(parts, Operator::And, true)?,
            Condition::Any(parts) => self.joined(parts, Operator::Or, false)?,
            Condition::Not(part) => not(self.expression(part)?).map_err(unfit)?,
            Condition::Compare { column, comparison, value } => {
                let (column, primitive) = self.input(column, true)?;
                let value = lit(literal(value, primitive)?);
                Arc::new(BinaryExpr::new(column, operator(*comparison), value))
            }
            Condition::CompareColumns { left, comparison, right } => {
                let ((left, one), (right, other)) = (self.input(left, true)?, self.input(right, true)?);
                if one != other {
                    return Err(misfit());
                }
                Arc::new(BinaryExpr::new(left, operator(*comparison), right))
            }
            Condition::OneOf { values, .. } if values.is_empty() => lit(false),
            Condition::OneOf { column, values } => {
                let (column, primitive) = self.input(column, true)?;
                let values = values.iter().map(|value| literal(value, primitive).map(lit)).collect::<Result<_, _>>()?;
                in_list(column, values, &false, &self.schema()).map_err(unfit)?
            }
            Condition::StartsWith { column, prefix } => {
                let (column, primitive) = self.input(column, true)?;
                if primitive != Primitive::String {
                    return Err(misfit());
                }
                let pattern = lit(ScalarValue::Utf8View(Some(beginning_with(prefix))));
                like(false, false, column, pattern, &self.schema()).map_err(unfit)?
            }
            Condition::IsNull { column } => is_null(self.input(column, false)?.0).map_err(unfit)?,
            Condition::IsTrue { column } => match self.input(column, true)? {
                (column, Primitive::Boolean) => column,
                _ => return Err(misfit()),
            },
        })
    }

    fn joined(&mut self, parts: &[Condition], operator: Operator, of_none: bool) -> Result<Expression, EngineError> {
        let mut joined: Option<Expression> = None;
        for part in parts {
            let part = self.expression(part)?;
            joined = Some(match joined {
                Some(before) => Arc::new(BinaryExpr::new(before, operator, part)),
                None => part,
            });
        }
        Ok(joined.unwrap_or_else(|| lit(of_none)))
    }

    fn input(&mut self, column: &ColumnPath, is_compared: bool) -> Result<(Expression, Primitive), EngineError> {
        let Some((name, rest)) = column.0.split_first() else { return Err(misfit()) };
        let first = self.wanted.iter().position(|wanted| wanted.name == *name).ok_or_else(misfit)?;
        let (mut path, kind) = self.wanted[first].kind.find(rest)?;
        path.insert(0, first);
        let Kind::Leaf(primitive) = kind else { return Err(misfit()) };
        let is_float = matches!(primitive, Primitive::Float | Primitive::Double);
        let input = Input { path, primitive: *primitive, is_compared_float: is_compared && is_float };
        let at = self.inputs.iter().position(|there| *there == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        });
        Ok((Arc::new(Column::new(&at.to_string(), at)), *primitive))
    }

    /// Builds the schema of the inputs. Fields are named by index; the names are not used elsewhere.
    fn schema(&self) -> Schema {
        let field = |(at, input): (usize, &Input)| Field::new(at.to_string(), input.data_type(), true);
        Schema::new(self.inputs.iter().enumerate().map(field).collect::<Vec<_>>())
    }
}

fn unfit(_: DataFusionError) -> EngineError {
    misfit()
}

fn operator(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Equal => Operator::Eq,
        Comparison::NotEqual => Operator::NotEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessOrEqual => Operator::LtEq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterOrEqual => Operator::GtEq,
    }
}

/// Builds the pattern that matches texts beginning with `prefix`.
fn beginning_with(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// Converts a value to exactly the type that the column is compared as, without changing the value.
fn literal(value: &Value, primitive: Primitive) -> Result<ScalarValue, EngineError> {
    let narrow = |_| misfit();
    Ok(match (value, primitive) {
        (Value::Boolean(value), Primitive::Boolean) => ScalarValue::Boolean(Some(*value)),
        (Value::Integer(value), Primitive::Byte) => ScalarValue::Int8(Some(i8::try_from(*value).map_err(narrow)?)),
        (Value::Integer(value), Primitive::Short) => ScalarValue::Int16(Some(i16::try_from(*value).map_err(narrow)?)),
        (Value::Integer(value), Primitive::Integer) => ScalarValue::Int32(Some(i32::try_from(*value).map_err(narrow)?)),
        (Value::Integer(value), Primitive::Long) => ScalarValue::Int64(Some(*value)),
        (Value::Float(value), Primitive::Float | Primitive::Double) => ScalarValue::Float64(Some(*value + 0.0)),
        (Value::Decimal(digits), Primitive::Decimal { precision, scale }) => {
            ScalarValue::Decimal128(Some(*digits), precision, scale)
        }
        (Value::Text(text), Primitive::String) => ScalarValue::Utf8View(Some(text.clone())),
        (Value::Date(days), Primitive::Date) => ScalarValue::Date32(Some(*days)),
        (Value::Timestamp(micros), Primitive::Timestamp | Primitive::TimestampNtz) => {
            let DataType::Timestamp(_, zone) = types::of_primitive(primitive) else { return Err(misfit()) };
            ScalarValue::TimestampMicrosecond(Some(*micros), zone)
        }
        _ => return Err(misfit()),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, StringViewArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    /// Columns of all types that values have, with equal numbers of rows.
    fn columns() -> Vec<(&'static str, Primitive, ArrayRef)> {
        let texts = [Some("ab"), Some("a%b_\\c"), Some(""), Some("a\nb"), Some("ünï"), Some("a%"), None];
        let floats = [Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), Some(f64::INFINITY), Some(0.1), None];
        let decimals = [Some(-10), Some(0), Some(5), Some(12_345), Some(1), Some(-1), None];
        let decimals = Decimal128Array::from_iter(decimals).with_precision_and_scale(10, 2);
        let instants = [Some(-1), Some(0), Some(1), Some(i64::MAX), Some(i64::MIN), Some(7), None];
        let small = floats.map(|value| value.map(|value| value as f32));
        vec![
            ("text", Primitive::String, Arc::new(StringViewArray::from_iter(texts))),
            ("double", Primitive::Double, Arc::new(Float64Array::from_iter(floats))),
            ("float", Primitive::Float, Arc::new(Float32Array::from_iter(small))),
            ("decimal", Primitive::Decimal { precision: 10, scale: 2 }, Arc::new(decimals.unwrap())),
            ("at", Primitive::Timestamp, Arc::new(TimestampMicrosecondArray::from_iter(instants).with_timezone("UTC"))),
            ("local", Primitive::TimestampNtz, Arc::new(TimestampMicrosecondArray::from_iter(instants))),
            ("day", Primitive::Date, Arc::new(Date32Array::from_iter(instants.map(|at| at.map(|at| at as i32))))),
            ("number", Primitive::Integer, Arc::new(Int32Array::from_iter(instants.map(|at| at.map(|at| at as i32))))),
            ("flag", Primitive::Boolean, Arc::new(BooleanArray::from_iter(instants.map(|at| at.map(|at| at > 0))))),
        ]
    }

    fn value(primitive: Primitive, column: &ArrayRef, row: usize) -> Option<Value> {
        use arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, TimestampMicrosecondType};
        column.is_valid(row).then(|| match primitive {
            Primitive::String => Value::Text(column.as_string_view().value(row).to_owned()),
            Primitive::Double => Value::Float(column.as_primitive::<Float64Type>().value(row)),
            Primitive::Float => Value::Float(column.as_primitive::<Float32Type>().value(row).into()),
            Primitive::Decimal { .. } => Value::Decimal(column.as_primitive::<Decimal128Type>().value(row)),
            Primitive::Date => Value::Date(column.as_primitive::<Date32Type>().value(row)),
            Primitive::Integer => Value::Integer(column.as_primitive::<Int32Type>().value(row).into()),
            Primitive::Boolean => Value::Boolean(column.as_boolean().value(row)),
            _ => Value::Timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        })
    }

    #[test]
    fn conditions_mean_what_they_mean_row_by_row() {
        let columns = columns();
        let wanted: Vec<_> = columns
            .iter()
            .map(|(name, primitive, _)| Wanted {
                name: (*name).to_owned(),
                physical: (*name).to_owned(),
                id: None,
                is_required: true,
                kind: Kind::Leaf(*primitive),
            })
            .collect();
        let arrays = columns.iter().map(|(_, _, column)| Arc::clone(column)).collect();
        let rows = StructArray::new(crate::engine::wanted::held(&wanted), arrays, None);
        let path = |name: &str| ColumnPath(vec![name.to_owned()]);

        let mut conditions = Vec::new();
        for (name, primitive, column) in &columns {
            let column_path = path(name);
            let values: Vec<_> = (0..rows.len()).filter_map(|row| value(*primitive, column, row)).collect();
            // Filters cannot contain NaN.
            let values: Vec<_> = values.into_iter().filter(|value| value.compare(value).is_some()).collect();
            conditions.push(Condition::IsNull { column: column_path.clone() });
            conditions.push(Condition::OneOf { column: column_path.clone(), values: Vec::new() });
            conditions.push(Condition::OneOf { column: column_path.clone(), values: values[..2].to_vec() });
            for comparison in [
                Comparison::Equal,
                Comparison::NotEqual,
                Comparison::Less,
                Comparison::LessOrEqual,
                Comparison::Greater,
                Comparison::GreaterOrEqual,
            ] {
                for value in &values {
                    conditions.push(Condition::Compare {
                        column: column_path.clone(),
                        comparison,
                        value: value.clone(),
                    });
                }
                let (left, right) = (column_path.clone(), column_path.clone());
                conditions.push(Condition::CompareColumns { left, comparison, right });
            }
        }
        for prefix in ["", "a", "a%", "a%b_\\", "a_", "a\n", "ün", "b", "%", "\\"] {
            conditions.push(Condition::StartsWith { column: path("text"), prefix: prefix.to_owned() });
        }
        conditions.extend([
            Condition::IsTrue { column: path("flag") },
            Condition::Known(true),
            Condition::Known(false),
        ]);
        let unknown =
            Condition::Compare { column: path("flag"), comparison: Comparison::Equal, value: Value::Boolean(true) };
        let joined: Vec<_> = conditions
            .iter()
            .flat_map(|condition| {
                let pair = vec![condition.clone(), unknown.clone()];
                [Condition::All(pair.clone()), Condition::Any(pair), Condition::Not(Box::new(condition.clone()))]
            })
            .collect();
        conditions.extend(joined);
        conditions.extend([Condition::All(Vec::new()), Condition::Any(Vec::new())]);

        for condition in conditions {
            let filter = Filter::new(&condition, &wanted).unwrap_or_else(|error| panic!("{condition:?}: {error}"));
            let shown = filter.shown(&rows).unwrap_or_else(|error| panic!("{condition:?}: {error}"));
            for row in 0..rows.len() {
                let expected = condition.evaluate(&|path| {
                    let (_, primitive, column) = columns.iter().find(|(name, ..)| *name == path.0[0])?;
                    value(*primitive, column, row)
                });
                assert_eq!(shown.value(row), expected == Some(true), "{condition:?} in row {row}");
            }
        }
    }

    #[test]
    fn values_of_another_type_do_not_fit() {
        let wanted = [Wanted {
            name: "c".to_owned(),
            physical: "c".to_owned(),
            id: None,
            is_required: true,
            kind: Kind::Leaf(Primitive::Byte),
        }];
        for value in [Value::Integer(128), Value::Text("1".to_owned()), Value::Float(1.0)] {
            let column = ColumnPath(vec!["c".to_owned()]);
            let condition = Condition::Compare { column, comparison: Comparison::Equal, value };
            assert!(matches!(Filter::new(&condition, &wanted), Err(EngineError::Unsupported(_))), "{condition:?}");
        }
    }
}
