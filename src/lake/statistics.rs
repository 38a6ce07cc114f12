//! Reads the bounds of a column's values into arrays, file by file, and whether there are nulls.
//!
//! A column is read from the log's text once, when a predicate first needs it, and cached with its chunk of files;
//! versions that share the chunk share the result. All bounds are outer bounds: if a bound is missing, invalid or
//! possibly cut, it is widened (Delta protocol, per-file statistics) by as much as any known writer is wrong. The known
//! behaviour by type:
//!
//! - Integers, booleans: exact. Spark writes no bounds for booleans.
//! - `float`: with the digits of a `double` (pyarrow), or as few as a `float` needs (Spark). `double`: exact.
//! - NaN: Spark treats it as the largest number and writes `"NaN"`, which is not a number here; delta-rs and pyarrow
//!   leave it out of both bounds without notice. Readers differ too: in Spark, NaN is greater than every number; in
//!   pandas, no comparison with it is true. So every file of such a column may contain NaN, which may match `>` and
//!   `>=`.
//! - `string`: Spark cuts after 32 UTF-16 units, or as configured, and appends to a maximum a character greater than
//!   most texts contain; half of a cut surrogate pair becomes `?`. delta-rs cuts after 64 bytes.
//! - `date`: exact, apart from calendars: see [`GREGORIAN_SINCE`].
//! - `timestamp`: Spark cuts to milliseconds, towards the epoch or the past. Written in the writer's zone, either
//!   without an offset or with one that lacks its seconds ([`OFFSET_CUT`]).
//! - `decimal`, `binary`, `timestamp_ntz`, and nested types: hints cannot use them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::array::{Array, BinaryArray, BinaryBuilder, StringArray};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::domain::sharing::predicate::{Outcomes, Relation, Scalar, ValueType, read_date, read_instant};

/// The shortest length at which writers cut texts in statistics, in characters. A maximum of this many bytes may be
/// only the beginning of the value.
const SHORTEST_CUT: usize = 32;
/// The most by which a timestamp in statistics may differ from the value, in microseconds: writers cut to milliseconds.
const TIMESTAMP_CUT: i64 = 1_000;
/// The most that a timestamp with an offset may differ from the value, in microseconds. Until 1972, some zones had
/// offsets with seconds, which JVM writers omit (`+00:53` for `+00:53:28`).
const OFFSET_CUT: i64 = 60 * 1_000_000;
/// The time when the last such zone changed to whole minutes (Monrovia, 7 January 1972), in microseconds since the
/// epoch. Before that, `Z` may stand for an offset of some seconds.
const WHOLE_MINUTES_SINCE: i64 = 63_590_400 * 1_000_000;
/// The start of the Gregorian calendar, in days of the common era. Some writers and readers use the Julian calendar for
/// earlier dates.
const GREGORIAN_SINCE: i64 = 577_736;
/// The same in microseconds since the epoch.
const GREGORIAN_SINCE_MICROS: i64 = -12_219_292_800 * 1_000_000;
/// The most days by which the two calendars differ, from year 1 on.
const CALENDARS_DIFFER: i64 = 12;
/// The characters that writers append to a maximum that they cut.
const BEHIND_CUT: [char; 3] = ['\u{7F}', '\u{FFFD}', char::MAX];
/// Greater than every byte of UTF-8.
const BEYOND_TEXT: u8 = 0xFF;
/// The name of the folder for null partition values. As a partition value, its meaning is unclear.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The memory per file, in bytes, that a chunk may use for columns, in addition to half the size of its statistics'
/// text.
const KEPT_BYTES_PER_FILE: usize = 32;

/// A column as it is named in the log, and the type of its values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ColumnKey {
    /// The physical name.
    pub(super) name: Arc<str>,
    /// The index among the partition columns, if it is one.
    pub(super) partition: Option<usize>,
    pub(super) value_type: ValueType,
}

/// A condition on a column of known type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum BoundTest {
    IsNull,
    Compare(Relation, Scalar),
}

/// The bounds of one column and its possible nulls, for each file of a chunk.
#[derive(Debug)]
pub(super) struct ColumnBounds {
    /// For columns with few distinct values, the index of each file's entry. Without it, each file has its own entry.
    codes: Option<Vec<u32>>,
    holds: Vec<Holds>,
    bounds: Bounds,
}

/// The values that rows of the column may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holds {
    values: bool,
    nulls: bool,
    /// Whether NaN is possible, which bounds do not cover.
    nan: bool,
}

impl Holds {
    const ANYTHING: Self = Self { values: true, nulls: true, nan: true };
    const VALUES: Self = Self { values: true, nulls: false, nan: true };
    const NUMBERS: Self = Self { values: true, nulls: false, nan: false };
    const NULLS: Self = Self { values: false, nulls: true, nan: false };

    /// Returns the outcomes of a comparison, given the outcomes for non-null values.
    fn with(self, compared: Outcomes) -> Outcomes {
        compared.only_if(self.values).union(Outcomes::NULL_COMPARED.only_if(self.nulls))
    }

    /// The same for a column of floats. For some readers NaN is greater than every number; for others, every comparison
    /// with it is false.
    fn with_floats(self, comparison: Relation, compared: Outcomes) -> Outcomes {
        let of_nan = match comparison {
            Relation::Greater | Relation::GreaterOrEqual => Outcomes::TRUE.union(Outcomes::FALSE),
            Relation::Equal | Relation::Less | Relation::LessOrEqual => Outcomes::FALSE,
        };
        self.with(compared.union(of_nan.only_if(self.nan)))
    }
}

#[derive(Debug)]
enum Bounds {
    Integer(Vec<(i64, i64)>),
    /// NaN is outside the bounds.
    Float(Vec<(f64, f64)>),
    Text(Box<TextBounds>),
}

#[derive(Debug)]
struct TextBounds {
    low: BinaryArray,
    high: BinaryArray,
}

impl ColumnBounds {
    /// Returns the outcome of `test` for each file.
    pub(super) fn outcomes(&self, test: &BoundTest) -> Vec<Outcomes> {
        let entries: Vec<Outcomes> = match (test, &self.bounds) {
            (BoundTest::IsNull, _) => {
                let one =
                    |holds: &Holds| Outcomes::TRUE.only_if(holds.nulls).union(Outcomes::FALSE.only_if(holds.values));
                self.holds.iter().map(one).collect()
            }
            (BoundTest::Compare(comparison, Scalar::Integer(value)), Bounds::Integer(bounds)) => {
                let one =
                    |((low, high), holds): (&(i64, i64), &Holds)| holds.with(comparison.outcomes(low, high, value));
                bounds.iter().zip(&self.holds).map(one).collect()
            }
            (BoundTest::Compare(comparison, Scalar::Float(value)), Bounds::Float(bounds)) => {
                let one = |((low, high), holds): (&(f64, f64), &Holds)| {
                    holds.with_floats(*comparison, comparison.outcomes(low, high, value))
                };
                bounds.iter().zip(&self.holds).map(one).collect()
            }
            (BoundTest::Compare(comparison, Scalar::Text(value)), Bounds::Text(bounds)) => {
                let value = value.as_bytes();
                let low = bounds.low.iter().map(|low| low.unwrap_or(b""));
                let high = bounds.high.iter().map(|high| high.unwrap_or(&[BEYOND_TEXT]));
                let bounds = low.zip(high).zip(&self.holds);
                bounds.map(|((low, high), holds)| holds.with(comparison.outcomes(low, high, value))).collect()
            }
            (BoundTest::Compare(..), _) => vec![Outcomes::ANYTHING; self.holds.len()],
        };
        match &self.codes {
            None => entries,
            Some(codes) => {
                let entry = |&code: &u32| entries.get(code as usize).copied().unwrap_or(Outcomes::ANYTHING);
                codes.iter().map(entry).collect()
            }
        }
    }

    fn resident_bytes(&self) -> usize {
        let bounds = match &self.bounds {
            Bounds::Integer(bounds) => bounds.capacity() * size_of::<(i64, i64)>(),
            Bounds::Float(bounds) => bounds.capacity() * size_of::<(f64, f64)>(),
            Bounds::Text(bounds) => bounds.low.get_array_memory_size() + bounds.high.get_array_memory_size(),
        };
        let codes = self.codes.as_ref().map_or(0, |codes| codes.capacity() * size_of::<u32>());
        size_of::<Self>() + bounds + codes + self.holds.capacity() * size_of::<Holds>()
    }
}

/// The columns of a chunk read so far, least recently used first.
#[derive(Debug, Default)]
pub(super) struct KeptColumns(Mutex<Vec<(ColumnKey, Arc<ColumnBounds>)>>);

/// The arrays of a chunk from which columns are read.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) stats: &'a StringArray,
    pub(super) partition_values: &'a [StringArray],
}

impl KeptColumns {
    /// Returns the columns for `keys`, and whether any had to be read. Concurrent callers read a column once.
    pub(super) fn find(
        &self,
        keys: &[ColumnKey],
        sources: Sources<'_>,
    ) -> (HashMap<ColumnKey, Arc<ColumnBounds>>, bool) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            match kept.iter().position(|(own, _)| own == key) {
                Some(at) => {
                    let used = kept.remove(at);
                    found.insert(used.0.clone(), used.1.clone());
                    kept.push(used);
                }
                None => missing.push(key.clone()),
            }
        }
        let was_read = !missing.is_empty();
        for (key, bounds) in read(&missing, sources) {
            let bounds = Arc::new(bounds);
            found.insert(key.clone(), bounds.clone());
            kept.push((key, bounds));
        }
        let budget = sources.stats.values().len() / 2 + KEPT_BYTES_PER_FILE * sources.stats.len() + 4096;
        while resident_bytes(&kept) > budget {
            kept.remove(0);
        }
        (found, was_read)
    }

    pub(super) fn resident_bytes(&self) -> usize {
        resident_bytes(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn resident_bytes(kept: &[(ColumnKey, Arc<ColumnBounds>)]) -> usize {
    kept.iter().map(|(_, bounds)| bounds.resident_bytes()).sum()
}

/// Reads columns. Each file's statistics are parsed once, regardless of the number of columns.
fn read(keys: &[ColumnKey], sources: Sources<'_>) -> Vec<(ColumnKey, ColumnBounds)> {
    let (partitions, data): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|key| key.partition.is_some());
    let partitions = partitions.into_iter().map(|key| {
        let values = key.partition.and_then(|index| sources.partition_values.get(index));
        let bounds = read_partition(values, sources.stats.len(), key.value_type);
        (key, bounds)
    });
    let mut columns: Vec<_> = partitions.collect();
    if data.is_empty() {
        return columns;
    }
    let names: Vec<&str> = data.iter().map(|key| &*key.name).collect();
    let mut builders: Vec<_> = data.iter().map(|key| ColumnBuilder::new(key.value_type, sources.stats.len())).collect();
    for stats in sources.stats {
        let stats = stats.map(|text| FileStatistics::read(text, &names)).unwrap_or_default();
        for (column, builder) in builders.iter_mut().enumerate() {
            builder.push_statistics(
                stats.num_records,
                raw(&stats.null_count, column),
                raw(&stats.low, column),
                raw(&stats.high, column),
            );
        }
    }
    columns.extend(data.into_iter().zip(builders.into_iter().map(|builder| builder.finish(None))));
    columns
}

fn raw<'a>(values: &[Option<&'a RawValue>], column: usize) -> Option<&'a str> {
    values.get(column).copied().flatten().map(RawValue::get)
}

/// Reads a partition column. Many files share a value, so each distinct value is read once.
fn read_partition(values: Option<&StringArray>, count: usize, value_type: ValueType) -> ColumnBounds {
    let mut builder = ColumnBuilder::new(value_type, 16);
    let Some(values) = values else {
        (0..count).for_each(|_| builder.push(Holds::ANYTHING, None, None));
        return builder.finish(None);
    };
    let mut entries: HashMap<Option<&str>, u32> = HashMap::new();
    let mut codes = Vec::with_capacity(count);
    for value in values {
        let next = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        codes.push(*entries.entry(value).or_insert_with(|| {
            builder.push_partition_value(value);
            next
        }));
    }
    builder.finish(Some(codes))
}

/// A bound in the form of its column. Texts are UTF-8, or greater than all UTF-8.
enum Bound {
    Integer(i64),
    Float(f64),
    Text(Vec<u8>),
}

struct ColumnBuilder {
    value_type: ValueType,
    holds: Vec<Holds>,
    bounds: BoundsBuilder,
}

enum BoundsBuilder {
    Integer(Vec<(i64, i64)>),
    Float(Vec<(f64, f64)>),
    Text(BinaryBuilder, BinaryBuilder),
}

impl ColumnBuilder {
    fn new(value_type: ValueType, count: usize) -> Self {
        let bounds = match value_type {
            ValueType::Text => BoundsBuilder::Text(BinaryBuilder::new(), BinaryBuilder::new()),
            ValueType::Float | ValueType::Double => BoundsBuilder::Float(Vec::with_capacity(count)),
            _ => BoundsBuilder::Integer(Vec::with_capacity(count)),
        };
        Self { value_type, holds: Vec::with_capacity(count), bounds }
    }

    /// Adds a file with its bounds; a missing bound is unlimited. Contradictory bounds are both dropped.
    fn push(&mut self, holds: Holds, low: Option<Bound>, high: Option<Bound>) {
        self.holds.push(holds);
        match &mut self.bounds {
            BoundsBuilder::Integer(bounds) => {
                let low = if let Some(Bound::Integer(low)) = low { low } else { i64::MIN };
                let high = if let Some(Bound::Integer(high)) = high { high } else { i64::MAX };
                bounds.push(if low <= high { (low, high) } else { (i64::MIN, i64::MAX) });
            }
            BoundsBuilder::Float(bounds) => {
                let low = if let Some(Bound::Float(low)) = low { low } else { f64::NEG_INFINITY };
                let high = if let Some(Bound::Float(high)) = high { high } else { f64::INFINITY };
                bounds.push(if low <= high { (low, high) } else { (f64::NEG_INFINITY, f64::INFINITY) });
            }
            BoundsBuilder::Text(lows, highs) => {
                let low = if let Some(Bound::Text(low)) = low { low } else { Vec::new() };
                let high = if let Some(Bound::Text(high)) = high { high } else { vec![BEYOND_TEXT] };
                let (low, high) = if low <= high { (low, high) } else { (Vec::new(), vec![BEYOND_TEXT]) };
                lows.append_value(low);
                highs.append_value(high);
            }
        }
    }

    fn push_partition_value(&mut self, value: Option<&str>) {
        match value {
            None => self.push(Holds::NULLS, None, None),
            // Readers take an empty text either as null or as a text.
            Some("") => self.push(Holds::ANYTHING, self.exact(""), self.exact("")),
            Some(HIVE_NULL) => self.push(Holds::ANYTHING, None, None),
            Some(value) => {
                let (low, high) = match self.value_type {
                    ValueType::Timestamp => instants(value),
                    _ => (self.exact(value), self.exact(value)),
                };
                let is_number = low.is_some();
                self.push(if is_number { Holds::NUMBERS } else { Holds::VALUES }, low, high);
            }
        }
    }

    fn exact(&self, value: &str) -> Option<Bound> {
        self.value_type.read(value).map(|value| match value {
            Scalar::Integer(value) => Bound::Integer(value),
            Scalar::Float(value) => Bound::Float(value),
            Scalar::Text(value) => Bound::Text(value.into_bytes()),
        })
    }

    fn push_statistics(
        &mut self,
        num_records: Option<u64>,
        null_count: Option<&str>,
        low: Option<&str>,
        high: Option<&str>,
    ) {
        // Deleted rows are still counted, but "none" and "all" remain true for the live rows.
        let null_count = null_count.and_then(|count| count.parse::<u64>().ok());
        let holds = match (null_count, num_records) {
            (Some(0), _) => Holds::VALUES,
            (Some(nulls), Some(rows)) if nulls == rows => Holds::NULLS,
            _ => Holds::ANYTHING,
        };
        let low = low.and_then(|raw| self.statistic(raw)).and_then(|(low, _)| low);
        let high = high.and_then(|raw| self.statistic(raw)).and_then(|(_, high)| high);
        self.push(holds, low, high);
    }

    /// Returns the bounds that a value from the statistics gives as a minimum and as a maximum.
    fn statistic(&self, raw: &str) -> Option<(Option<Bound>, Option<Bound>)> {
        let text: Option<String> = if raw.starts_with('"') { serde_json::from_str(raw).ok() } else { None };
        let both = |value: i64| Some((Some(Bound::Integer(value)), Some(Bound::Integer(value))));
        match (self.value_type, text) {
            (ValueType::Bool, None) => both(raw.parse::<bool>().ok()?.into()),
            (ValueType::Int | ValueType::Long, None) => both(raw.parse().ok()?),
            (ValueType::Float, None) => {
                // Writers may write a float with the digits of a double.
                let value = finite(raw)?;
                let [low, high] = [value.next_down(), value.next_up()].map(|value| f64::from(to_float(value)));
                Some((Some(Bound::Float(low)), Some(Bound::Float(high))))
            }
            (ValueType::Double, None) => {
                let value = finite(raw)?;
                Some((Some(Bound::Float(value)), Some(Bound::Float(value))))
            }
            (ValueType::Date, Some(text)) => {
                let date = read_date(&text)?;
                let differ = if date < GREGORIAN_SINCE { CALENDARS_DIFFER } else { 0 };
                Some((Some(Bound::Integer(date - differ)), Some(Bound::Integer(date + differ))))
            }
            (ValueType::Timestamp, Some(text)) => {
                let (first, last) = instant(&text)?;
                // Before the epoch, some writers cut towards it.
                let first = if first < 0 { first.saturating_sub(TIMESTAMP_CUT) } else { first };
                Some((Some(Bound::Integer(first)), Some(Bound::Integer(last.saturating_add(TIMESTAMP_CUT)))))
            }
            (ValueType::Text, Some(text)) => {
                let high = highest(&text);
                Some((Some(Bound::Text(text.into_bytes())), Some(Bound::Text(high))))
            }
            _ => None,
        }
    }

    fn finish(self, codes: Option<Vec<u32>>) -> ColumnBounds {
        let bounds = match self.bounds {
            BoundsBuilder::Integer(bounds) => Bounds::Integer(bounds),
            BoundsBuilder::Float(bounds) => Bounds::Float(bounds),
            BoundsBuilder::Text(mut low, mut high) => {
                let (mut low, mut high) = (low.finish(), high.finish());
                low.shrink_to_fit();
                high.shrink_to_fit();
                Bounds::Text(Box::new(TextBounds { low, high }))
            }
        };
        ColumnBounds { codes, holds: self.holds, bounds }
    }
}

#[allow(clippy::cast_possible_truncation)]
fn to_float(value: f64) -> f32 {
    value as f32
}

fn instants(text: &str) -> (Option<Bound>, Option<Bound>) {
    instant(text).map_or((None, None), |(first, last)| (Some(Bound::Integer(first)), Some(Bound::Integer(last))))
}

/// Returns the earliest and latest instants that a writer may have meant.
fn instant(text: &str) -> Option<(i64, i64)> {
    let (first, last) = read_instant(text)?;
    let is_utc = text.ends_with(['Z', 'z']) && first >= WHOLE_MINUTES_SINCE;
    let offset = if is_utc { 0 } else { OFFSET_CUT };
    let differ = if first < GREGORIAN_SINCE_MICROS { CALENDARS_DIFFER * 86_400 * 1_000_000 } else { 0 };
    Some((first.saturating_sub(offset + differ), last.saturating_add(offset + differ)))
}

/// Parses a number; `None` if it is not finite, because such a bound says nothing.
fn finite(raw: &str) -> Option<f64> {
    raw.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Returns an upper limit for values whose maximum, possibly cut, is written as `text`. In a text that was cut, the
/// last character may have been added, and the one before it may be half of another.
fn highest(text: &str) -> Vec<u8> {
    let is_tied = text.ends_with(BEHIND_CUT);
    if !is_tied && text.len() < SHORTEST_CUT {
        return text.as_bytes().to_vec();
    }
    let kept = text.char_indices().rev().nth(usize::from(is_tied)).map_or(0, |(at, _)| at);
    let mut high = text.as_bytes()[..kept].to_vec();
    high.push(BEYOND_TEXT);
    high
}

/// One file's statistics for some columns, as raw JSON.
#[derive(Default)]
struct FileStatistics<'a> {
    num_records: Option<u64>,
    null_count: Vec<Option<&'a RawValue>>,
    low: Vec<Option<&'a RawValue>>,
    high: Vec<Option<&'a RawValue>>,
}

impl<'a> FileStatistics<'a> {
    /// Reads a file's statistics; invalid ones count as missing.
    fn read(text: &'a str, names: &[&str]) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Sections<'a> {
            #[serde(borrow)]
            num_records: Option<&'a RawValue>,
            #[serde(borrow)]
            null_count: Option<&'a RawValue>,
            #[serde(borrow)]
            min_values: Option<&'a RawValue>,
            #[serde(borrow)]
            max_values: Option<&'a RawValue>,
        }
        let Ok(sections) = serde_json::from_str::<Sections<'a>>(text) else { return Self::default() };
        let pick = |section: Option<&'a RawValue>| {
            let picked = section
                .map(|section| Picked(names).deserialize(&mut serde_json::Deserializer::from_str(section.get())));
            picked.and_then(Result::ok).unwrap_or_default()
        };
        Self {
            num_records: sections.num_records.and_then(|count| count.get().parse().ok()),
            null_count: pick(sections.null_count),
            low: pick(sections.min_values),
            high: pick(sections.max_values),
        }
    }
}

/// Picks the values of some keys from an object, and skips the rest.
struct Picked<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Picked<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Picked<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of statistics by column")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut picked = vec![None; self.0.len()];
        while let Some(column) = map.next_key_seed(Position(self.0))? {
            let value: &'de RawValue = map.next_value()?;
            if let Some(slot) = column.and_then(|column| picked.get_mut(column)) {
                *slot = Some(value);
            }
        }
        Ok(picked)
    }
}

/// Finds the index of a key among the requested names.
struct Position<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a column's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANNOT: Outcomes = Outcomes::FALSE;
    const MUST: Outcomes = Outcomes::TRUE;

    fn key(name: &str, value_type: ValueType) -> ColumnKey {
        ColumnKey { name: name.into(), partition: None, value_type }
    }

    fn find(keys: &[ColumnKey], stats: &StringArray, partition_values: &[StringArray]) -> Vec<Arc<ColumnBounds>> {
        let (found, _) = KeptColumns::default().find(keys, Sources { stats, partition_values });
        keys.iter().map(|key| found[key].clone()).collect()
    }

    fn compare(comparison: Relation, value_type: ValueType, value: &str) -> BoundTest {
        BoundTest::Compare(comparison, value_type.read(value).unwrap())
    }

    /// Evaluates `test` for a file with these statistics of column `c`.
    fn outcome(value_type: ValueType, stats: &str, test: &BoundTest) -> Outcomes {
        let columns = find(&[key("c", value_type)], &StringArray::from(vec![stats]), &[]);
        columns[0].outcomes(test)[0]
    }

    fn between(low: &str, high: &str) -> String {
        format!(r#"{{"numRecords":9,"minValues":{{"c":{low}}},"maxValues":{{"c":{high}}},"nullCount":{{"c":0}}}}"#)
    }

    #[test]
    fn check_091_bounds_prune_for_all_eight_types() {
        use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        for (value_type, low, high, below, inside, above) in [
            (ValueType::Int, "2", "10", "1", "5", "11"),
            (ValueType::Long, "-9000000000", "9000000000", "-9000000001", "5", "9000000001"),
            (ValueType::Text, r#""b""#, r#""m""#, "a", "c", "n"),
            (ValueType::Date, r#""2020-01-02""#, r#""2020-02-01""#, "2020-01-01", "2020-01-15", "2020-02-02"),
            (ValueType::Float, "0.1", "2.5", "0.09", "1", "2.6"),
            (ValueType::Double, "-1e300", "2.5", "-2e300", "0", "2.500001"),
            (
                ValueType::Timestamp,
                r#""2020-01-01T00:00:00.000Z""#,
                r#""2020-01-01T12:00:00.000+01:00""#,
                "2019-12-31T23:59:59.999999Z",
                "2020-01-01T05:00:00Z",
                "2020-01-01T11:01:00.001001Z",
            ),
        ] {
            let stats = between(low, high);
            let at = |comparison, value| outcome(value_type, &stats, &compare(comparison, value_type, value));
            for (comparison, value) in [(Equal, below), (Equal, above), (Less, below), (LessOrEqual, below)] {
                assert_eq!(at(comparison, value), CANNOT, "{value_type:?} {comparison:?} {value}");
            }
            // NaN, which bounds may leave out, is greater than all values or no value.
            let is_float = matches!(value_type, ValueType::Float | ValueType::Double);
            for comparison in [Greater, GreaterOrEqual] {
                let expected = if is_float { MUST.union(CANNOT) } else { CANNOT };
                assert_eq!(at(comparison, above), expected, "{value_type:?} {comparison:?} {above}");
            }
            for comparison in [Equal, Less, LessOrEqual, Greater, GreaterOrEqual] {
                assert!(!at(comparison, inside).cannot_match(), "{value_type:?} {comparison:?} {inside}");
                assert!(!(!at(comparison, inside)).cannot_match(), "not {value_type:?} {comparison:?} {inside}");
            }
            assert_eq!(at(Greater, below), if is_float { MUST.union(CANNOT) } else { MUST }, "{value_type:?}");
        }
        let bools = between("false", "false");
        assert_eq!(outcome(ValueType::Bool, &bools, &compare(Equal, ValueType::Bool, "true")), CANNOT);
        assert_eq!(outcome(ValueType::Bool, &bools, &compare(Equal, ValueType::Bool, "false")), MUST);
    }

    #[test]
    fn bounds_themselves_belong_to_the_file() {
        use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        for (value_type, low, high) in [
            (ValueType::Int, "2", "10"),
            (ValueType::Text, r#""b""#, r#""m""#),
            (ValueType::Float, "0.1", "0.30000001192092896"),
            (ValueType::Double, "0.1", "0.3"),
        ] {
            let stats = between(low, high);
            let at = |comparison, value: &str| {
                outcome(value_type, &stats, &compare(comparison, value_type, value.trim_matches('"')))
            };
            for (comparison, value) in [(Equal, low), (Equal, high), (LessOrEqual, low), (GreaterOrEqual, high)] {
                assert!(!at(comparison, value).cannot_match(), "{value_type:?} {comparison:?} {value}");
            }
            let is_float = matches!(value_type, ValueType::Float | ValueType::Double);
            let above = if is_float { MUST.union(CANNOT) } else { CANNOT };
            assert_eq!((at(Less, low), at(Greater, high)), (CANNOT, above), "{value_type:?}");
        }
    }

    #[test]
    fn a_long_maximum_may_be_the_beginning_of_a_text() {
        let cut = "x".repeat(SHORTEST_CUT);
        let stats = between(r#""a""#, &format!("\"{cut}\""));
        let after = |value: &str| outcome(ValueType::Text, &stats, &compare(Relation::Greater, ValueType::Text, value));
        assert!(!after(&format!("{cut}yy")).cannot_match());
        assert!(after("y").cannot_match());
        // A character of two UTF-16 units is cut in half, and a maximum gets another one appended.
        let halved = format!("{}?\u{10FFFF}", "x".repeat(SHORTEST_CUT - 1));
        let value = format!("{}\u{1F600} and more", "x".repeat(SHORTEST_CUT - 1));
        let halved = outcome(
            ValueType::Text,
            &between(r#""a""#, &format!("\"{halved}\"")),
            &compare(Relation::Equal, ValueType::Text, &value),
        );
        assert!(!halved.cannot_match());
        // Writers may be configured to cut earlier.
        for behind in ["\u{FFFD}", "\u{7F}", "\u{10FFFF}"] {
            let stats = between(r#""a""#, &format!("\"xyz{behind}\""));
            let equal =
                |value: &str| outcome(ValueType::Text, &stats, &compare(Relation::Equal, ValueType::Text, value));
            assert!(!equal("xyz\u{10FFFF}\u{10FFFF}").cannot_match() && equal("xz").cannot_match(), "{behind:?}");
        }
        let short = between(r#""a""#, r#""x""#);
        let test = compare(Relation::Greater, ValueType::Text, "x");
        assert!(outcome(ValueType::Text, &short, &test).cannot_match());
    }

    #[test]
    fn a_timestamp_may_be_a_millisecond_later_than_its_statistics() {
        let stats = between(r#""2020-01-01T00:00:00.000Z""#, r#""2020-01-01T00:00:00.123Z""#);
        let equal =
            |value| outcome(ValueType::Timestamp, &stats, &compare(Relation::Equal, ValueType::Timestamp, value));
        assert!(!equal("2020-01-01T00:00:00.123999Z").cannot_match());
        assert!(equal("2020-01-01T00:00:00.124001Z").cannot_match());
        assert!(equal("2019-12-31T23:59:59.999999Z").cannot_match());
    }

    #[test]
    fn a_timestamp_with_an_offset_may_be_a_minute_away() {
        let can_equal = |stats: &str, value: &str| {
            let test = compare(Relation::Equal, ValueType::Timestamp, value);
            !outcome(ValueType::Timestamp, &between(stats, stats), &test).cannot_match()
        };
        // 01:01:01 in Stockholm, 53 minutes and 28 seconds ahead of UTC; and midnight in Monrovia, 44 minutes and 30
        // seconds behind UTC.
        assert!(can_equal(r#""1850-01-01T01:01:01.000+00:53""#, "1850-01-01T00:07:33Z"));
        assert!(can_equal(r#""1971-01-01T00:00:00.000-00:44""#, "1971-01-01T00:44:30Z"));
        // An offset of less than a minute is written as none.
        assert!(can_equal(r#""1900-01-01T00:00:00.000Z""#, "1900-01-01T00:00:52Z"));
        for offset in ["+01:00", "-08:00", "+00:00"] {
            let stats = format!("\"2020-06-01T12:00:00.000{offset}\"");
            let (utc, _) = read_instant(stats.trim_matches('"')).unwrap();
            let at =
                |seconds: i64| chrono::DateTime::from_timestamp_micros(utc + seconds * 1_000_000).unwrap().to_rfc3339();
            assert!(can_equal(&stats, &at(59)) && can_equal(&stats, &at(-59)), "{offset}");
            assert!(!can_equal(&stats, &at(62)) && !can_equal(&stats, &at(-62)), "{offset}");
        }
        assert!(!can_equal(r#""2020-06-01T12:00:00.000Z""#, "2020-06-01T12:00:30Z"));
        let stats = StringArray::new_null(1);
        let values = StringArray::from(vec!["1850-01-01T01:01:01+00:53"]);
        let key = ColumnKey { name: "p".into(), partition: Some(0), value_type: ValueType::Timestamp };
        let column = find(&[key], &stats, &[values]).remove(0);
        let equal = compare(Relation::Equal, ValueType::Timestamp, "1850-01-01T00:07:33Z");
        assert!(!column.outcomes(&equal)[0].cannot_match());
    }

    #[test]
    fn days_before_the_gregorian_calendar_may_be_those_of_another() {
        assert_eq!(read_date("1582-10-15"), Some(GREGORIAN_SINCE));
        assert_eq!(read_instant("1582-10-15T00:00:00Z"), Some((GREGORIAN_SINCE_MICROS, GREGORIAN_SINCE_MICROS)));
        assert_eq!(read_instant("1972-01-07T00:00:00Z").unwrap().0, WHOLE_MINUTES_SINCE);
        let equal = |stats: &str, value: &str| {
            outcome(ValueType::Date, &between(stats, stats), &compare(Relation::Equal, ValueType::Date, value))
        };
        assert!(!equal(r#""1500-03-01""#, "1500-03-10").cannot_match());
        assert!(equal(r#""1500-03-01""#, "1500-03-20").cannot_match());
        assert!(equal(r#""1583-03-01""#, "1583-03-02").cannot_match());
        let equal = |value: &str| {
            let stats = between(r#""1500-03-01T00:00:00.000Z""#, r#""1500-03-01T00:00:00.000Z""#);
            outcome(ValueType::Timestamp, &stats, &compare(Relation::Equal, ValueType::Timestamp, value))
        };
        assert!(!equal("1500-03-10T00:00:00Z").cannot_match() && equal("1500-03-20T00:00:00Z").cannot_match());
    }

    #[test]
    fn nan_may_be_in_every_file_whose_statistics_do_not_exclude_it() {
        use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        for value_type in [ValueType::Float, ValueType::Double] {
            let test = |comparison| compare(comparison, value_type, "5");
            let stats = between("1.0", "2.0");
            for (comparison, of_row) in [(Greater, true), (GreaterOrEqual, true), (Equal, false)] {
                let found = outcome(value_type, &stats, &test(comparison));
                assert_eq!(found.cannot_match(), !of_row, "{comparison:?}");
                assert!(!found.must_match() && !(!found).cannot_match(), "{comparison:?}");
            }
            // Other values may be less than the number, and NaN may make the opposite true.
            for comparison in [Less, LessOrEqual] {
                let found = outcome(value_type, &stats, &test(comparison));
                assert!(!found.cannot_match() && !found.must_match() && !(!found).cannot_match(), "{comparison:?}");
            }
            // A number out of range says nothing.
            let found = outcome(value_type, &between("1e999", "1e999"), &test(Less));
            assert!(!found.cannot_match());
            // A partition value is exact, and a null partition holds only nulls.
            let key = ColumnKey { name: "p".into(), partition: Some(0), value_type };
            let values = StringArray::from(vec![Some("2.5"), Some("NaN"), None]);
            let column = find(&[key], &StringArray::new_null(3), &[values]).remove(0);
            let greater: Vec<bool> = column.outcomes(&test(Greater)).iter().map(|found| found.cannot_match()).collect();
            assert_eq!(greater, [true, false, true]);
            assert!(column.outcomes(&test(Less))[0].must_match());
            let nulls = r#"{"numRecords":3,"nullCount":{"c":3}}"#;
            assert!(outcome(value_type, nulls, &test(Greater)).cannot_match());
        }
    }

    #[test]
    fn what_statistics_do_not_say_may_be_anything() {
        let test = compare(Relation::Equal, ValueType::Int, "5");
        for stats in [
            "",
            "null",
            "[]",
            "{",
            "{}",
            r#"{"numRecords":9}"#,
            r#"{"minValues":{"c":"7"},"maxValues":{"c":"9"}}"#,
            r#"{"minValues":{"c":7.5},"maxValues":null}"#,
            r#"{"minValues":{"c":{"d":7}},"maxValues":{"c":{"d":7}}}"#,
            r#"{"minValues":[7],"maxValues":{"other":4}}"#,
            // These contradict each other.
            r#"{"minValues":{"c":9},"maxValues":{"c":6}}"#,
            r#"{"minValues":{"c":6},"maxValues":{"c":9}} x"#,
        ] {
            assert_eq!(outcome(ValueType::Int, stats, &test), Outcomes::ANYTHING, "{stats}");
            assert_eq!(outcome(ValueType::Int, stats, &BoundTest::IsNull), MUST.union(CANNOT), "{stats}");
        }
        let nan = between(r#""NaN""#, r#""NaN""#);
        let test = compare(Relation::Greater, ValueType::Double, "5");
        assert!(!outcome(ValueType::Double, &nan, &test).cannot_match());
    }

    #[test]
    fn check_094_nulls_are_counted_against_the_rows() {
        let counted = |count: &str| format!(r#"{{"numRecords":3,"nullCount":{{"c":{count}}}}}"#);
        let is_null = |stats: &str| outcome(ValueType::Int, stats, &BoundTest::IsNull);
        assert_eq!(is_null(&counted("0")), CANNOT);
        assert_eq!(is_null(&counted("3")), MUST);
        assert_eq!(is_null(&counted("1")), MUST.union(CANNOT));
        assert_eq!(is_null("{}"), MUST.union(CANNOT));
        let equal = compare(Relation::Equal, ValueType::Int, "5");
        assert!(outcome(ValueType::Int, &counted("3"), &equal).cannot_match());
        assert!(!(!outcome(ValueType::Int, &counted("3"), &equal)).cannot_match());
    }

    #[test]
    fn partition_values_are_exact_and_read_once_each() {
        let stats = StringArray::new_null(5);
        let values =
            StringArray::from(vec![Some("2020-01-01"), Some("2020-01-02"), None, Some("2020-01-01"), Some("")]);
        let key = ColumnKey { name: "p".into(), partition: Some(0), value_type: ValueType::Date };
        let column = find(std::slice::from_ref(&key), &stats, std::slice::from_ref(&values)).remove(0);
        assert_eq!(column.holds.len(), 4);
        let equal = column.outcomes(&compare(Relation::Equal, ValueType::Date, "2020-01-01"));
        assert_eq!(equal, [MUST, CANNOT, Outcomes::NULL_COMPARED, MUST, Outcomes::ANYTHING]);
        let is_null = column.outcomes(&BoundTest::IsNull);
        assert_eq!(is_null, [CANNOT, CANNOT, MUST, CANNOT, MUST.union(CANNOT)]);
    }

    #[test]
    fn a_partition_of_a_local_time_may_be_any_near_instant() {
        let stats = StringArray::new_null(1);
        let values = StringArray::from(vec!["2020-06-01 12:00:00"]);
        let key = ColumnKey { name: "p".into(), partition: Some(0), value_type: ValueType::Timestamp };
        let column = find(&[key], &stats, &[values]).remove(0);
        let equal = |value| column.outcomes(&compare(Relation::Equal, ValueType::Timestamp, value))[0];
        assert_eq!(equal("2020-06-01T04:00:00Z"), MUST.union(CANNOT));
        assert_eq!(equal("2020-06-03T04:00:00Z"), CANNOT);
    }

    #[test]
    fn columns_are_read_once_and_kept_within_a_budget() {
        let stats = StringArray::from(vec![between("2", "10"); 1_000]);
        let sources = Sources { stats: &stats, partition_values: &[] };
        let kept = KeptColumns::default();
        let keys = [key("c", ValueType::Int), key("d", ValueType::Int)];
        let (first, was_read) = kept.find(&keys, sources);
        let (second, was_read_again) = kept.find(&keys, sources);
        assert!(was_read && !was_read_again && kept.resident_bytes() > 0);
        assert!(keys.iter().all(|key| Arc::ptr_eq(&first[key], &second[key])));
        for number in 0..100 {
            kept.find(&[key(&format!("c{number}"), ValueType::Int)], sources);
        }
        let budget = stats.values().len() / 2 + KEPT_BYTES_PER_FILE * stats.len() + 4096;
        assert!(kept.resident_bytes() <= budget);
        assert!(!kept.find(&[key("c99", ValueType::Int)], sources).1);
    }
}
