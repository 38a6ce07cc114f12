//! Applies masks to columns, cell by cell through [`BoundMask::apply`], which alone defines the effect of a mask.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryViewBuilder, BooleanBuilder, PrimitiveArray, PrimitiveBuilder,
        StringViewBuilder,
    },
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
        Int32Type, Int64Type, TimestampMicrosecondType,
    },
};

use uuid::Uuid;

use crate::domain::catalog::{
    schema::Primitive,
    view::mask::{BoundMask, BoundShift, Cell, Overflow, SurrogateDigests},
};

use super::{EngineError, types, wanted::misfit};

/// Runs `$body` with `$cell_of`, which gives the cell of a row of `$column` that is not null.
macro_rules! with_cells {
    ($column:expr, $primitive:expr, $cell_of:ident => $body:expr) => {{
        macro_rules! numbers {
            ($type:ty, $cell:expr) => {{
                let numbers: &PrimitiveArray<$type> = $column.as_primitive_opt().ok_or_else(misfit)?;
                let $cell_of = |at: usize| $cell(numbers.value(at));
                $body
            }};
        }
        match $primitive {
            Primitive::Boolean => {
                let values = $column.as_boolean_opt().ok_or_else(misfit)?;
                let $cell_of = |at: usize| Cell::Boolean(values.value(at));
                $body
            }
            Primitive::Byte => numbers!(Int8Type, |value| Cell::Integer(i64::from(value))),
            Primitive::Short => numbers!(Int16Type, |value| Cell::Integer(i64::from(value))),
            Primitive::Integer => numbers!(Int32Type, |value| Cell::Integer(i64::from(value))),
            Primitive::Long => numbers!(Int64Type, Cell::Integer),
            Primitive::Float => numbers!(Float32Type, |value| Cell::Float(f64::from(value))),
            Primitive::Double => numbers!(Float64Type, Cell::Float),
            Primitive::Decimal { .. } => numbers!(Decimal128Type, Cell::Decimal),
            Primitive::Date => numbers!(Date32Type, Cell::Date),
            Primitive::Timestamp | Primitive::TimestampNtz => numbers!(TimestampMicrosecondType, Cell::Timestamp),
            Primitive::String => {
                let texts = $column.as_string_view_opt().ok_or_else(misfit)?;
                let $cell_of = |at: usize| Cell::Text(Cow::Borrowed(texts.value(at)));
                $body
            }
            Primitive::Binary => {
                let bytes = $column.as_binary_view_opt().ok_or_else(misfit)?;
                let $cell_of = |at: usize| Cell::Binary(bytes.value(at));
                $body
            }
        }
    }};
}

/// Applies `mask` to a column of type `primitive`. The result has the type `shown`.
pub(super) fn masked(
    mask: &BoundMask,
    column: &ArrayRef,
    primitive: Primitive,
    shown: Primitive,
) -> Result<ArrayRef, EngineError> {
    with_cells!(column, primitive, cell_of => {
        let cells = cells(column, cell_of).map(|cell| mask.apply(cell));
        write(cells, column.len(), shown)
    })
}

/// Moves the dates of a column of type `primitive` by the days of each row's subject, which `subjects` names.
pub(super) fn shifted(
    shift: &BoundShift,
    column: &ArrayRef,
    primitive: Primitive,
    subjects: &ArrayRef,
    subject: Primitive,
) -> Result<ArrayRef, EngineError> {
    let days: Vec<Option<i64>> = with_cells!(subjects, subject, cell_of => {
        cells(subjects, cell_of).map(|cell| shift.days_of(&cell)).collect::<Result<_, _>>().map_err(overflow)?
    });
    with_cells!(column, primitive, cell_of => {
        let moved = cells(column, cell_of).zip(days).map(|(cell, days)| shift.apply(&cell, days));
        write(moved, column.len(), primitive)
    })
}

/// The digests of the values of a column of type `primitive`; `None` where it is null.
pub(super) fn digests(
    digests: &SurrogateDigests,
    column: &ArrayRef,
    primitive: Primitive,
) -> Result<Vec<Option<Uuid>>, EngineError> {
    with_cells!(column, primitive, cell_of => {
        cells(column, cell_of).map(|cell| digests.of(&cell)).collect::<Result<_, _>>().map_err(overflow)
    })
}

/// The cells of a column.
fn cells<'a>(column: &'a ArrayRef, cell_of: impl Fn(usize) -> Cell<'a>) -> impl Iterator<Item = Cell<'a>> {
    (0..column.len()).map(move |at| if column.is_null(at) { Cell::Null } else { cell_of(at) })
}

/// Writes masked cells as a column of type `shown`; a cell of another type is an overflow.
fn write<'a>(
    cells: impl Iterator<Item = Result<Cell<'a>, Overflow>>,
    rows: usize,
    shown: Primitive,
) -> Result<ArrayRef, EngineError> {
    match shown {
        Primitive::Boolean => {
            let mut built = BooleanBuilder::with_capacity(rows);
            for cell in cells {
                built.append_option(match cell.map_err(overflow)? {
                    Cell::Null => None,
                    Cell::Boolean(value) => Some(value),
                    _ => return Err(EngineError::Overflow),
                });
            }
            Ok(Arc::new(built.finish()))
        }
        Primitive::String => {
            let mut built = StringViewBuilder::with_capacity(rows).with_deduplicate_strings();
            for cell in cells {
                match cell.map_err(overflow)? {
                    Cell::Null => built.append_null(),
                    Cell::Text(text) => built.append_value(text),
                    _ => return Err(EngineError::Overflow),
                }
            }
            Ok(Arc::new(built.finish()))
        }
        Primitive::Binary => {
            let mut built = BinaryViewBuilder::with_capacity(rows);
            for cell in cells {
                match cell.map_err(overflow)? {
                    Cell::Null => built.append_null(),
                    Cell::Binary(bytes) => built.append_value(bytes),
                    _ => return Err(EngineError::Overflow),
                }
            }
            Ok(Arc::new(built.finish()))
        }
        Primitive::Byte => numbers::<Int8Type>(cells, rows, shown, integer),
        Primitive::Short => numbers::<Int16Type>(cells, rows, shown, integer),
        Primitive::Integer => numbers::<Int32Type>(cells, rows, shown, integer),
        Primitive::Long => numbers::<Int64Type>(cells, rows, shown, integer),
        Primitive::Float => numbers::<Float32Type>(cells, rows, shown, |cell| float(cell).map(|value| value as f32)),
        Primitive::Double => numbers::<Float64Type>(cells, rows, shown, float),
        Primitive::Decimal { precision, .. } => {
            let made = numbers::<Decimal128Type>(cells, rows, shown, |cell| match cell {
                Cell::Decimal(digits) => Some(digits),
                _ => None,
            })?;
            let decimals = made.as_primitive::<Decimal128Type>();
            decimals.validate_decimal_precision(precision).map_err(|_| EngineError::Overflow)?;
            Ok(made)
        }
        Primitive::Date => numbers::<Date32Type>(cells, rows, shown, |cell| match cell {
            Cell::Date(days) => Some(days),
            _ => None,
        }),
        Primitive::Timestamp | Primitive::TimestampNtz => {
            numbers::<TimestampMicrosecondType>(cells, rows, shown, |cell| match cell {
                Cell::Timestamp(micros) => Some(micros),
                _ => None,
            })
        }
    }
}

fn overflow(_: Overflow) -> EngineError {
    EngineError::Overflow
}

fn integer<N: TryFrom<i64>>(cell: Cell<'_>) -> Option<N> {
    match cell {
        Cell::Integer(value) => N::try_from(value).ok(),
        _ => None,
    }
}

fn float(cell: Cell<'_>) -> Option<f64> {
    match cell {
        Cell::Float(value) => Some(value),
        _ => None,
    }
}

fn numbers<'a, T: ArrowPrimitiveType>(
    cells: impl Iterator<Item = Result<Cell<'a>, Overflow>>,
    rows: usize,
    shown: Primitive,
    number: impl Fn(Cell<'a>) -> Option<T::Native>,
) -> Result<ArrayRef, EngineError> {
    let data_type: DataType = types::of_primitive(shown);
    let mut built = PrimitiveBuilder::<T>::with_capacity(rows).with_data_type(data_type);
    for cell in cells {
        match cell.map_err(overflow)? {
            Cell::Null => built.append_null(),
            cell => built.append_value(number(cell).ok_or(EngineError::Overflow)?),
        }
    }
    Ok(Arc::new(built.finish()))
}
