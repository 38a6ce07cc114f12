//! Predicate trees as JSON (Delta Sharing protocol, JSON predicates for filtering).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Claim, ColumnName, Comparison, Literal, LiteralKind, MAX_CHARACTERS, MAX_DEPTH, MAX_LEAVES, Outcomes, Predicate,
    Test, ValueType, compare_constants,
};

/// The predicate that `text` spells; `None` where any of it is not understood.
pub(super) fn parse(text: &str) -> Option<Predicate> {
    if text.len() > MAX_CHARACTERS && text.chars().count() > MAX_CHARACTERS {
        return None;
    }
    Reader::default().expression(text, 1)?.into_predicate()
}

/// One node of the tree. Its children stay text until it is known that they are not too deep.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    op: String,
    #[serde(borrow)]
    children: Option<Vec<&'a RawValue>>,
    name: Option<String>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    value_type: Option<String>,
}

enum Expression {
    Column(ColumnName),
    Constant(ValueType, String),
    Predicate(Predicate),
}

impl Expression {
    /// A column or a constant stands for itself where it is a truth value.
    fn into_predicate(self) -> Option<Predicate> {
        match self {
            Self::Predicate(predicate) => Some(predicate),
            Self::Column(column) => (column.value_type == Some(ValueType::Bool)).then(|| {
                let test = Test::Compare(Comparison::Equal, Literal::is_true());
                Predicate::Leaf(Claim { column, test })
            }),
            Self::Constant(ValueType::Bool, text) => {
                Some(Predicate::Known(Outcomes::of(text.eq_ignore_ascii_case("true"))))
            }
            Self::Constant(..) => None,
        }
    }

    fn value_type(&self) -> Option<ValueType> {
        match self {
            Self::Column(column) => column.value_type,
            Self::Constant(value_type, _) => Some(*value_type),
            Self::Predicate(_) => None,
        }
    }
}

#[derive(Default)]
struct Reader {
    leaves: usize,
}

impl Reader {
    fn expression(&mut self, text: &str, depth: usize) -> Option<Expression> {
        if depth > MAX_DEPTH {
            return None;
        }
        let node: Node<'_> = serde_json::from_str(text).ok()?;
        let value_type =
            node.value_type.as_deref().map(|name| ValueType::from_json(name).ok_or(())).transpose().ok()?;
        let mut children = Vec::new();
        for child in node.children.iter().flatten() {
            children.push(self.expression(child.get(), depth + 1)?);
        }
        let comparison = match node.op.as_str() {
            "column" if children.is_empty() => {
                self.leaves += 1;
                let name = node.name.filter(|_| self.leaves <= MAX_LEAVES)?;
                let column = ColumnName { name, value_type: Some(value_type?), is_partition: false };
                return Some(Expression::Column(column));
            }
            "literal" if children.is_empty() => return constant(value_type?, node.value?),
            "isNull" => return Some(Expression::Predicate(is_null(children)?)),
            "not" => {
                let [child] = <[Expression; 1]>::try_from(children).ok()?;
                return Some(Expression::Predicate(Predicate::Not(Box::new(child.into_predicate()?))));
            }
            junction @ ("and" | "or") => {
                let children = children.into_iter().map(Expression::into_predicate).collect::<Option<Vec<_>>>()?;
                let predicate = match junction {
                    _ if children.len() < 2 => return None,
                    "and" => Predicate::All(children),
                    _ => Predicate::Any(children),
                };
                return Some(Expression::Predicate(predicate));
            }
            "equal" => Comparison::Equal,
            "lessThan" => Comparison::Less,
            "lessThanOrEqual" => Comparison::LessOrEqual,
            "greaterThan" => Comparison::Greater,
            "greaterThanOrEqual" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        Some(Expression::Predicate(compare(comparison, children)?))
    }
}

fn constant(value_type: ValueType, value: &RawValue) -> Option<Expression> {
    let text = match value.get() {
        quoted if quoted.starts_with('"') => serde_json::from_str(quoted).ok()?,
        // Some clients forget the quotes.
        bare if bare.starts_with(['{', '[']) || bare == "null" => return None,
        bare => bare.to_owned(),
    };
    let is_float = matches!(value_type, ValueType::Float | ValueType::Double);
    let is_a_value = value_type.read(&text).is_some() || (is_float && text.eq_ignore_ascii_case("nan"));
    is_a_value.then_some(Expression::Constant(value_type, text))
}

fn is_null(children: Vec<Expression>) -> Option<Predicate> {
    let [child] = <[Expression; 1]>::try_from(children).ok()?;
    match child {
        Expression::Column(column) => Some(Predicate::Leaf(Claim { column, test: Test::IsNull })),
        Expression::Constant(..) => Some(Predicate::Known(Outcomes::FALSE)),
        Expression::Predicate(_) => None,
    }
}

fn compare(comparison: Comparison, children: Vec<Expression>) -> Option<Predicate> {
    use Expression::{Column, Constant};
    let [left, right] = <[Expression; 2]>::try_from(children).ok()?;
    if left.value_type()? != right.value_type()? {
        return None;
    }
    let leaf = |column, comparison, text, value_type| {
        let literal = Literal { text, kind: LiteralKind::Typed(value_type) };
        Predicate::Leaf(Claim { column, test: Test::Compare(comparison, literal) })
    };
    Some(match (left, right) {
        (Column(column), Constant(value_type, text)) => leaf(column, comparison, text, value_type),
        (Constant(value_type, text), Column(column)) => leaf(column, comparison.mirrored(), text, value_type),
        (Constant(value_type, left), Constant(_, right)) => match value_type.read(&left).zip(value_type.read(&right)) {
            Some((left, right)) => Predicate::Known(compare_constants(comparison, &left, &right)),
            None => Predicate::Known(Outcomes::ANYTHING),
        },
        // Two columns: their bounds may overlap whatever the rows are.
        _ => Predicate::Known(Outcomes::ANYTHING),
    })
}
