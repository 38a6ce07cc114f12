//! Encodes values for which a database has no type, and decodes stored values.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Database, Decode, Encode, Postgres, Sqlite, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo},
    sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo},
};

use crate::{
    domain::core::name::{Name, NameKind},
    store::{Result, StoreError},
};

/// A time in whole microseconds, which both databases store exactly: as `timestamptz` on PostgreSQL, and as an integer
/// since 1970 on SQLite, where text would not compare or sort reliably.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Micros(pub(in crate::store) DateTime<Utc>);

impl From<DateTime<Utc>> for Micros {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.trunc_subsecs(6))
    }
}

impl Type<Sqlite> for Micros {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }

    fn compatible(info: &SqliteTypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(info)
    }
}

impl Encode<'_, Sqlite> for Micros {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.0.timestamp_micros(), buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for Micros {
    fn decode(value: <Sqlite as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Sqlite>>::decode(value)?;
        DateTime::from_timestamp_micros(micros).map(Self).ok_or_else(|| format!("no time: `{micros}`").into())
    }
}

impl Type<Postgres> for Micros {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Micros {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Micros {
    fn decode(value: <Postgres as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        <DateTime<Utc> as Decode<Postgres>>::decode(value).map(Self)
    }
}

/// A list or map, stored as JSON text in both databases, so that reading returns exactly what was written.
pub(in crate::store) struct Json<T>(pub(in crate::store) T);

impl<T, D: Database> Type<D> for Json<T>
where
    String: Type<D>,
{
    fn type_info() -> D::TypeInfo {
        <String as Type<D>>::type_info()
    }

    fn compatible(info: &D::TypeInfo) -> bool {
        <String as Type<D>>::compatible(info)
    }
}

impl<'q, T: Serialize, D: Database> Encode<'q, D> for Json<T>
where
    String: Encode<'q, D>,
{
    fn encode_by_ref(&self, buffer: &mut <D as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<D>::encode(serde_json::to_string(&self.0)?, buffer)
    }
}

impl<'r, T: DeserializeOwned, D: Database> Decode<'r, D> for Json<T>
where
    &'r str: Decode<'r, D>,
{
    fn decode(value: D::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(serde_json::from_str(<&str as Decode<D>>::decode(value)?)?))
    }
}

/// Converts the time of an optional column.
pub(in crate::store) fn time(at: Option<Micros>) -> Option<DateTime<Utc>> {
    at.map(|micros| micros.0)
}

/// Converts a time for an optional column.
pub(in crate::store) fn micros(at: Option<DateTime<Utc>>) -> Option<Micros> {
    at.map(Micros::from)
}

/// Parses the name stored in `column`.
pub(in crate::store) fn name(kind: NameKind, column: &'static str, text: &str) -> Result<Name> {
    Name::stored(kind, text).map_err(|_| StoreError::Corrupt(column))
}

/// Parses the word stored in `column`.
pub(in crate::store) fn word<T>(parse: fn(&str) -> Option<T>, column: &'static str, text: &str) -> Result<T> {
    parse(text).ok_or(StoreError::Corrupt(column))
}

/// Reads the bytes stored in `column`, which must be exactly `N`.
pub(in crate::store) fn digest<const N: usize>(column: &'static str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| StoreError::Corrupt(column))
}

/// Repeats the last of `items` until their number is a power of two. Lists of all lengths then share a few statement
/// texts, which stay prepared.
pub(in crate::store) fn padded<T: Copy>(items: &[T]) -> Vec<T> {
    let mut padded = items.to_vec();
    if let Some(last) = items.last() {
        padded.resize(items.len().next_power_of_two(), *last);
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_padded_to_powers_of_two() {
        assert_eq!(padded(&[1, 2, 3]), [1, 2, 3, 3]);
        assert_eq!(padded(&[1, 2]), [1, 2]);
        assert!(padded::<i32>(&[]).is_empty());
    }

    #[test]
    fn times_are_cut_to_microseconds_before_and_after_1970() {
        for seconds in [-1, 0, 1_790_000_000] {
            let at = DateTime::from_timestamp(seconds, 123_456_789).unwrap();
            let cut = DateTime::from_timestamp(seconds, 123_456_000).unwrap();
            assert_eq!(Micros::from(at).0, cut);
            assert_eq!(DateTime::from_timestamp_micros(Micros::from(at).0.timestamp_micros()), Some(cut));
        }
    }
}
