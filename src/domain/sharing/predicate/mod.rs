//! Predicates: the rows that a client's hints ask for, and whether a file may hold them if only the bounds of its
//! values are known.
//!
//! Hints are best effort: a hint that is not understood keeps every file (Delta Sharing protocol, JSON predicates and
//! SQL expressions for filtering). Lives here: the tree, its two notations ([`json`] and [`sql`]) and three-valued
//! evaluation. Never here: where bounds come from.

mod json;
mod outcome;
mod sql;
mod value;

pub use outcome::Outcomes;
pub use value::{Scalar, ValueType, read_date, read_instant};

/// The longest hint that is parsed, in characters (Delta Sharing protocol, JSON predicates).
const MAX_CHARACTERS: usize = 1 << 20;
/// The most bytes of all hints of a request together: a character takes up to four bytes, and connectors send the same
/// hint in both notations.
const MAX_BYTES: usize = 4 * MAX_CHARACTERS;
/// The deepest tree that is parsed.
const MAX_DEPTH: usize = 100;
/// The most comparisons in all hints of a request together; each comparison is a pass over the table's files.
const MAX_LEAVES: usize = 2_000;
/// The most passes over the files, including those for negations and constants.
const MAX_PASSES: usize = 2 * MAX_LEAVES;

/// The rows of a table that a client wants; by default all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The condition that rows must match.
    pub predicate: Predicate,
    /// The number of rows that is enough.
    pub limit: Option<u64>,
}

/// A condition on rows. Its leaves are either claims as a hint states them, or tests bound to a table's columns.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate<L = Claim> {
    /// A constant, the same for every file.
    Known(Outcomes),
    /// A condition on one column.
    Leaf(L),
    /// The opposite of a condition.
    Not(Box<Self>),
    /// All of them.
    All(Vec<Self>),
    /// At least one of them.
    Any(Vec<Self>),
}

/// A claim about one column, as a hint states it.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The column.
    pub column: ColumnName,
    /// The claim about it.
    pub test: Test,
}

/// A column as a hint names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnName {
    /// The logical name.
    pub name: String,
    /// The type that the hint assumes. If the column has another type, the claim tells nothing.
    pub value_type: Option<ValueType>,
    /// Whether the name can only mean a partition column.
    pub is_partition: bool,
}

/// The claim of a leaf about its column.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The value is null.
    IsNull,
    /// The value has this relation to a constant.
    Compare(Relation, Literal),
}

/// A relation between a column on the left and a constant on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A constant, whose type may depend on the column that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The value as the hint writes it.
    pub text: String,
    /// The type as far as the hint states it.
    pub kind: LiteralKind,
}

/// How far a hint states a constant's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralKind {
    /// Exactly this type.
    Typed(ValueType),
    /// Some numeric type.
    Number,
    /// A quoted text, which SQL converts to the type of the column that it is compared with.
    Quoted,
}

impl Default for Filter {
    fn default() -> Self {
        Self { predicate: Predicate::All(Vec::new()), limit: None }
    }
}

impl Filter {
    /// Combines the hints of a request. Each SQL hint is one conjunct; a negative limit is ignored. Hints beyond the
    /// limits of one request keep every file, like hints that cannot be read.
    pub fn from_hints(sql: &[String], json: Option<&str>, limit: Option<i64>) -> Self {
        let is_given = |hint: &&str| !hint.trim().is_empty();
        let mut left = Left { bytes: MAX_BYTES, leaves: MAX_LEAVES, passes: MAX_PASSES };
        let sql = sql.iter().map(String::as_str).filter(is_given).map(|hint| (hint, sql::parse as Parse));
        let json = json.filter(is_given).map(|hint| (hint, json::parse as Parse));
        // An unreadable hint still says that the client does not want every row, which a limit must respect. One such
        // marker is enough.
        let (mut hints, mut is_unknown) = (Vec::new(), false);
        for (text, parse) in sql.chain(json) {
            match left.read(text, parse) {
                Some(hint) => hints.push(hint),
                None => is_unknown = true,
            }
        }
        if is_unknown {
            hints.push(Predicate::Known(Outcomes::ANYTHING));
        }
        Self { predicate: Predicate::All(hints), limit: limit.and_then(|limit| u64::try_from(limit).ok()) }
    }

    /// The number of passes over a table's files that evaluation takes.
    pub fn passes(&self) -> usize {
        self.predicate.passes()
    }

    /// Keeps only the hints that fit into `most` passes; the others keep every file.
    #[must_use]
    pub fn within(&self, most: usize) -> Self {
        let mut left = most;
        let hints = self.hints().iter().map(|hint| match left.checked_sub(hint.passes()) {
            Some(rest) => {
                left = rest;
                hint.clone()
            }
            None => Predicate::Known(Outcomes::ANYTHING),
        });
        Self { predicate: Predicate::All(hints.collect()), limit: self.limit }
    }

    /// Whether every file is wanted, whatever it holds.
    pub fn is_everything(&self) -> bool {
        self.limit.is_none() && matches!(&self.predicate, Predicate::All(hints) if hints.is_empty())
    }

    /// The hints, as independent conjuncts.
    pub fn hints(&self) -> &[Predicate] {
        match &self.predicate {
            Predicate::All(hints) => hints,
            other => std::slice::from_ref(other),
        }
    }
}

/// Parses a hint with at most this many comparisons.
type Parse = fn(&str, usize) -> Option<Predicate>;

/// The remaining budget for parsing a request's hints.
struct Left {
    bytes: usize,
    leaves: usize,
    passes: usize,
}

impl Left {
    /// Parses `text`; `None` if it cannot be read or exceeds the remaining budget.
    fn read(&mut self, text: &str, parse: Parse) -> Option<Predicate> {
        self.bytes = self.bytes.checked_sub(text.len())?;
        let predicate = parse(text, self.leaves)?;
        let (leaves, passes) = (predicate.leaves(), predicate.passes());
        self.passes = self.passes.checked_sub(passes)?;
        self.leaves = self.leaves.saturating_sub(leaves);
        Some(predicate)
    }
}

impl<L> Predicate<L> {
    /// The number of leaves.
    fn leaves(&self) -> usize {
        match self {
            Self::Known(_) => 0,
            Self::Leaf(_) => 1,
            Self::Not(child) => child.leaves(),
            Self::All(children) | Self::Any(children) => children.iter().map(Self::leaves).sum(),
        }
    }

    /// The number of passes over a table's files that evaluation takes.
    fn passes(&self) -> usize {
        match self {
            Self::Known(_) | Self::Leaf(_) => 1,
            Self::Not(child) => 1 + child.passes(),
            Self::All(children) | Self::Any(children) => children.iter().map(Self::passes).sum(),
        }
    }

    /// Replaces every leaf; `None` as soon as `leaf` returns `None`.
    pub fn bind<M>(&self, leaf: &mut impl FnMut(&L) -> Option<Predicate<M>>) -> Option<Predicate<M>> {
        let mut all = |children: &[Self]| children.iter().map(|child| child.bind(leaf)).collect::<Option<_>>();
        Some(match self {
            Self::Known(outcomes) => Predicate::Known(*outcomes),
            Self::All(children) => Predicate::All(all(children)?),
            Self::Any(children) => Predicate::Any(all(children)?),
            Self::Not(child) => Predicate::Not(Box::new(child.bind(leaf)?)),
            Self::Leaf(own) => leaf(own)?,
        })
    }

    /// Evaluates the predicate for each of `count` files, given the outcomes of each leaf.
    pub fn evaluate(&self, count: usize, leaf: &mut impl FnMut(&L) -> Vec<Outcomes>) -> Vec<Outcomes> {
        let mut fold = |children: &[Self], none: Outcomes, join: fn(Outcomes, Outcomes) -> Outcomes| {
            let mut children = children.iter().map(|child| child.evaluate(count, leaf));
            let mut joined = children.next().unwrap_or_else(|| vec![none; count]);
            for child in children {
                joined.iter_mut().zip(child).for_each(|(joined, child)| *joined = join(*joined, child));
            }
            joined
        };
        match self {
            Self::Known(outcomes) => vec![*outcomes; count],
            Self::All(children) => fold(children, Outcomes::TRUE, Outcomes::and),
            Self::Any(children) => fold(children, Outcomes::FALSE, Outcomes::or),
            Self::Not(child) => {
                let mut outcomes = child.evaluate(count, leaf);
                outcomes.iter_mut().for_each(|outcome| *outcome = !*outcome);
                outcomes
            }
            Self::Leaf(own) => leaf(own),
        }
    }
}

impl Relation {
    /// The outcomes of `row <comparison> value` for rows with `low <= row <= high`.
    pub fn outcomes<T: PartialOrd + ?Sized>(self, low: &T, high: &T, value: &T) -> Outcomes {
        let (can_hold, can_fail) = match self {
            Self::Equal => (low <= value && value <= high, low != value || value != high),
            Self::Less => (low < value, high >= value),
            Self::LessOrEqual => (low <= value, high > value),
            Self::Greater => (high > value, low <= value),
            Self::GreaterOrEqual => (high >= value, low < value),
        };
        Outcomes::TRUE.only_if(can_hold).union(Outcomes::FALSE.only_if(can_fail))
    }

    /// The relation with its sides swapped.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::Equal => Self::Equal,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }
}

impl Literal {
    /// Reads the constant as a value of the type that it is compared with; `None` if engines may disagree about that
    /// value.
    pub fn resolve(&self, value_type: ValueType) -> Option<Scalar> {
        use ValueType::{Bool, Date, Double, Int, Long, Text, Timestamp};
        let is_clear = match (self.kind, value_type) {
            (LiteralKind::Typed(own), other) => own == other,
            (LiteralKind::Number, Int | Long | Double) => true,
            (LiteralKind::Quoted, Text | Date | Timestamp | Int | Long | Bool) => true,
            _ => false,
        };
        // A constant outside the column's own range can still be compared.
        let value_type = if self.kind == LiteralKind::Number && value_type == Int { Long } else { value_type };
        is_clear.then(|| value_type.read(&self.text))?
    }

    fn is_true() -> Self {
        Self { text: "true".to_owned(), kind: LiteralKind::Typed(ValueType::Bool) }
    }
}

/// Compares two constants of one type.
fn compare_constants(comparison: Relation, left: &Scalar, right: &Scalar) -> Outcomes {
    match (left, right) {
        (Scalar::Integer(left), Scalar::Integer(right)) => comparison.outcomes(left, left, right),
        (Scalar::Float(left), Scalar::Float(right)) => comparison.outcomes(left, left, right),
        (Scalar::Text(left), Scalar::Text(right)) => comparison.outcomes(left, left, right),
        _ => Outcomes::ANYTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_decided_by_the_bounds_alone() {
        use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        for (low, high) in [(2, 10), (5, 5), (i64::MIN, i64::MAX)] {
            for value in [1, 2, 3, 5, 9, 10, 11, i64::MIN, i64::MAX] {
                for comparison in [Equal, Less, LessOrEqual, Greater, GreaterOrEqual] {
                    let holds = |row: i64| match comparison {
                        Equal => row == value,
                        Less => row < value,
                        LessOrEqual => row <= value,
                        Greater => row > value,
                        GreaterOrEqual => row >= value,
                    };
                    let samples = [low, low.saturating_add(1).min(high), high, value.clamp(low, high)];
                    let expected =
                        samples.iter().fold(Outcomes::NOTHING, |all, row| all.union(Outcomes::of(holds(*row))));
                    let found = comparison.outcomes(&low, &high, &value);
                    assert_eq!(found, expected, "[{low}, {high}] {comparison:?} {value}");
                }
            }
        }
    }

    #[test]
    fn zero_has_no_sign() {
        assert!(!Relation::Equal.outcomes(&-0.0, &-0.0, &0.0).cannot_match());
        assert!(Relation::Less.outcomes(&-0.0, &-0.0, &0.0).cannot_match());
    }

    #[test]
    fn only_a_filter_without_hints_wants_everything() {
        let none: [String; 0] = [];
        assert!(Filter::from_hints(&none, None, None).is_everything());
        assert!(Filter::from_hints(&[" ".to_owned()], Some(""), Some(-1)).is_everything());
        assert!(!Filter::from_hints(&none, None, Some(0)).is_everything());
        let unreadable = Filter::from_hints(&none, Some("{"), Some(1));
        assert_eq!(unreadable.hints(), [Predicate::Known(Outcomes::ANYTHING)]);
    }

    #[test]
    fn all_hints_of_a_request_share_one_limit() {
        let list = |count: usize| format!("a IN ({})", vec!["1"; count].join(","));
        let understood = |hints: &[String]| {
            let filter = Filter::from_hints(hints, None, None);
            let unknown = Predicate::Known(Outcomes::ANYTHING);
            (filter.hints().iter().filter(|hint| **hint != unknown).count(), filter.passes())
        };
        assert_eq!(understood(&[list(2_000)]), (1, 2_000));
        assert_eq!(understood(&[list(2_001)]), (0, 1));
        assert_eq!(understood(&vec![list(2_000); 970]), (1, 2_001), "the first fits, the others tell nothing");
        assert_eq!(understood(&vec![list(600); 970]), (3, 1_801));
        let constants = vec!["true"; 5_000].join(" OR ");
        assert_eq!(understood(&[constants, list(1)]), (1, 2), "constants cost a pass, too");
        let long = format!("{}a = 1", " ".repeat(MAX_CHARACTERS - 100));
        assert_eq!(understood(&vec![long; 9]).0, 4);
    }

    #[test]
    fn hints_beyond_the_passes_that_are_left_tell_nothing() {
        let filter = Filter::from_hints(&["a IN (1, 2, 3)".into(), "b = 1".into(), "c <> 1".into()], None, Some(7));
        assert_eq!(filter.passes(), 6);
        assert_eq!(filter.within(6), filter);
        let within = filter.within(5);
        assert_eq!(within.hints()[..2], filter.hints()[..2]);
        assert_eq!((&within.hints()[2], within.limit), (&Predicate::Known(Outcomes::ANYTHING), Some(7)));
        assert!(filter.within(0).hints().iter().all(|hint| *hint == Predicate::Known(Outcomes::ANYTHING)));
    }

    #[test]
    fn constants_take_the_type_they_are_compared_with_where_that_is_clear() {
        let literal = |text: &str, kind| Literal { text: text.to_owned(), kind };
        let number = |text| literal(text, LiteralKind::Number);
        assert_eq!(number("5").resolve(ValueType::Int), Some(Scalar::Integer(5)));
        assert_eq!(number("5000000000").resolve(ValueType::Int), Some(Scalar::Integer(5_000_000_000)));
        assert_eq!(number("1.5").resolve(ValueType::Int), None);
        assert_eq!(number("1.5").resolve(ValueType::Double), Some(Scalar::Float(1.5)));
        assert_eq!(number("5").resolve(ValueType::Text), None);
        assert_eq!(number("0.1").resolve(ValueType::Float), None);
        let quoted = |text| literal(text, LiteralKind::Quoted);
        assert_eq!(quoted("5").resolve(ValueType::Long), Some(Scalar::Integer(5)));
        assert_eq!(quoted("5x").resolve(ValueType::Long), None);
        assert_eq!(quoted("a").resolve(ValueType::Text), Some(Scalar::Text("a".into())));
        let typed = literal("5", LiteralKind::Typed(ValueType::Int));
        assert_eq!((typed.resolve(ValueType::Long), typed.resolve(ValueType::Int)), (None, Some(Scalar::Integer(5))));
    }
}
