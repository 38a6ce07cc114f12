//! Reads rows of outer joins.

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

/// The row of an outer join; `None` if no row was joined.
pub(in crate::store) struct Outer<T>(pub(in crate::store) Option<T>);

/// A row for outer joins, with a column that is never null in it.
pub(in crate::store) trait Joined {
    const ID: &'static str;
}

impl<'r, R: Row, T: Joined + FromRow<'r, R>> FromRow<'r, R> for Outer<T>
where
    Option<Uuid>: Decode<'r, R::Database> + Type<R::Database>,
    &'static str: ColumnIndex<R>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let id: Option<Uuid> = row.try_get(T::ID)?;
        Ok(Self(id.map(|_| T::from_row(row)).transpose()?))
    }
}
