//! Which rows a client is after, as far as its hints tell, and what that means for a file of which only bounds are known.
//!
//! Hints are best effort: whatever is not understood keeps every file (Delta Sharing protocol, JSON predicates and SQL
//! expressions for filtering). Lives here: the tree, its two spellings ([`json`] and [`sql`]) and three-valued
//! evaluation. Never here: where bounds come from.

mod json;
mod outcome;
mod sql;
mod value;

pub use outcome::Outcomes;
pub use value::{Scalar, ValueType, read_date, read_instant};

/// The longest hint that is looked at, in characters (Delta Sharing protocol, JSON predicates).
const MAX_CHARACTERS: usize = 1 << 20;
/// The deepest tree that is looked at.
const MAX_DEPTH: usize = 100;
/// The most comparisons of one hint; each is a pass over the table's files.
const MAX_LEAVES: usize = 2_000;

/// What a client wants of a table's rows; by default all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Only rows that match.
    pub predicate: Predicate,
    /// This many rows suffice.
    pub limit: Option<u64>,
}

/// A condition on rows over leaves of some kind: as a hint states them, or tied to the columns of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate<L = Claim> {
    /// The same for every file.
    Known(Outcomes),
    /// A condition on one column.
    Leaf(L),
    /// The opposite.
    Not(Box<Self>),
    /// All of them.
    All(Vec<Self>),
    /// At least one of them.
    Any(Vec<Self>),
}

/// A condition on one column as a hint states it.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The column.
    pub column: ColumnName,
    /// What is said of it.
    pub test: Test,
}

/// A column as a hint names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnName {
    /// The logical name.
    pub name: String,
    /// The type that the hint takes the column for; where the column has another, nothing can be said.
    pub value_type: Option<ValueType>,
    /// Whether only a partition column can be meant.
    pub is_partition: bool,
}

/// What a leaf says of its column.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It is null.
    IsNull,
    /// It stands in this relation to a constant.
    Compare(Comparison, Literal),
}

/// A relation between a column on the left and a constant on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A constant, whose type may depend on what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The value as the hint spells it.
    pub text: String,
    /// What the hint says about its type.
    pub kind: LiteralKind,
}

/// What a hint says about a constant's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralKind {
    /// This very type.
    Typed(ValueType),
    /// Some number.
    Number,
    /// A text, which SQL turns into the type that it is compared with.
    Quoted,
}

impl Default for Filter {
    fn default() -> Self {
        Self { predicate: Predicate::All(Vec::new()), limit: None }
    }
}

impl Filter {
    /// What hints come to together. SQL hints are conjuncts, each for itself; a negative limit is none.
    pub fn from_hints(sql: &[String], json: Option<&str>, limit: Option<i64>) -> Self {
        // A hint that cannot be read still says that the client is not after every row, which the limit must respect.
        let unknown = Predicate::Known(Outcomes::ANYTHING);
        let is_given = |hint: &&str| !hint.trim().is_empty();
        let sql = sql.iter().map(String::as_str).filter(is_given).map(sql::parse);
        let json = json.filter(is_given).map(json::parse);
        let hints = sql.chain(json).map(|hint| hint.unwrap_or_else(|| unknown.clone())).collect();
        Self { predicate: Predicate::All(hints), limit: limit.and_then(|limit| u64::try_from(limit).ok()) }
    }

    /// Whether every file is wanted, whatever it holds.
    pub fn is_everything(&self) -> bool {
        self.limit.is_none() && matches!(&self.predicate, Predicate::All(hints) if hints.is_empty())
    }

    /// The hints, each of which stands for itself.
    pub fn hints(&self) -> &[Predicate] {
        match &self.predicate {
            Predicate::All(hints) => hints,
            other => std::slice::from_ref(other),
        }
    }
}

impl<L> Predicate<L> {
    /// The same tree over other leaves; `None` as soon as one leaf has no counterpart.
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

    /// What the predicate comes to for each of `count` files, given what each leaf comes to.
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

impl Comparison {
    /// What `row <comparison> value` comes to for rows of which it is known that `low <= row <= high`.
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

    /// The relation with its sides exchanged.
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
    /// The constant as a value of the type that it is compared with; `None` where engines may disagree what that is.
    pub fn resolve(&self, value_type: ValueType) -> Option<Scalar> {
        use ValueType::{Bool, Date, Double, Int, Long, Text, Timestamp};
        let is_clear = match (self.kind, value_type) {
            (LiteralKind::Typed(own), other) => own == other,
            (LiteralKind::Number, Int | Long | Double) => true,
            (LiteralKind::Quoted, Text | Date | Timestamp | Int | Long | Bool) => true,
            _ => false,
        };
        // A constant beyond a column's own range still compares.
        let value_type = if self.kind == LiteralKind::Number && value_type == Int { Long } else { value_type };
        is_clear.then(|| value_type.read(&self.text))?
    }

    fn is_true() -> Self {
        Self { text: "true".to_owned(), kind: LiteralKind::Typed(ValueType::Bool) }
    }
}

/// Compares two constants of one type.
fn compare_constants(comparison: Comparison, left: &Scalar, right: &Scalar) -> Outcomes {
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
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
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
        assert!(!Comparison::Equal.outcomes(&-0.0, &-0.0, &0.0).cannot_match());
        assert!(Comparison::Less.outcomes(&-0.0, &-0.0, &0.0).cannot_match());
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
