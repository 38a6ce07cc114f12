//! Predicate trees as JSON (Delta Sharing protocol, JSON predicates for filtering).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Claim, ColumnName, Literal, LiteralKind, MAX_CHARACTERS, MAX_DEPTH, MAX_PASSES, Outcomes, Predicate, Relation,
    Test, ValueType, compare_constants,
};

/// Parses `text` as a predicate of at most `most` comparisons; `None` if any part of it is not understood.
pub(super) fn parse(text: &str, most: usize) -> Option<Predicate> {
    if text.len() > MAX_CHARACTERS && text.chars().count() > MAX_CHARACTERS {
        return None;
    }
    Reader { leaves_left: most, nodes_left: MAX_NODES }.expression(text, 1)?.into_predicate()
}

/// The most nodes of a tree: a comparison has three, and comparisons are joined and negated.
const MAX_NODES: usize = 4 * MAX_PASSES;

/// One node of the tree. Its children stay unparsed until their depth has been checked.
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
    /// A boolean column or constant is a predicate by itself.
    fn into_predicate(self) -> Option<Predicate> {
        match self {
            Self::Predicate(predicate) => Some(predicate),
            Self::Column(column) => (column.value_type == Some(ValueType::Bool)).then(|| {
                let test = Test::Compare(Relation::Equal, Literal::is_true());
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

struct Reader {
    leaves_left: usize,
    nodes_left: usize,
}

impl Reader {
    fn expression(&mut self, text: &str, depth: usize) -> Option<Expression> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.nodes_left = self.nodes_left.checked_sub(1)?;
        let node: Node<'_> = serde_json::from_str(text).ok()?;
        let value_type =
            node.value_type.as_deref().map(|name| ValueType::from_json(name).ok_or(())).transpose().ok()?;
        let mut children = Vec::new();
        for child in node.children.iter().flatten() {
            children.push(self.expression(child.get(), depth + 1)?);
        }
        let comparison = match node.op.as_str() {
            "column" if children.is_empty() => {
                self.leaves_left = self.leaves_left.checked_sub(1)?;
                let column = ColumnName { name: node.name?, value_type: Some(value_type?), is_partition: false };
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
            "equal" => Relation::Equal,
            "lessThan" => Relation::Less,
            "lessThanOrEqual" => Relation::LessOrEqual,
            "greaterThan" => Relation::Greater,
            "greaterThanOrEqual" => Relation::GreaterOrEqual,
            _ => return None,
        };
        Some(Expression::Predicate(compare(comparison, children)?))
    }
}

fn constant(value_type: ValueType, value: &RawValue) -> Option<Expression> {
    let text = match value.get() {
        quoted if quoted.starts_with('"') => serde_json::from_str(quoted).ok()?,
        // Some clients omit the quotes.
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

fn compare(comparison: Relation, children: Vec<Expression>) -> Option<Predicate> {
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
        // The bounds of two columns may overlap whatever the rows are, so nothing is known.
        _ => Predicate::Known(Outcomes::ANYTHING),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::domain::sharing::predicate::MAX_LEAVES;

    use super::*;

    const TYPES: [(&str, &str, ValueType); 8] = [
        ("bool", "true", ValueType::Bool),
        ("int", "5", ValueType::Int),
        ("long", "5000000000", ValueType::Long),
        ("string", "x", ValueType::Text),
        ("date", "2020-01-31", ValueType::Date),
        ("float", "1.5", ValueType::Float),
        ("double", "-0.25", ValueType::Double),
        ("timestamp", "2020-01-31T10:00:00.5Z", ValueType::Timestamp),
    ];
    const OPERATORS: [(&str, Relation); 5] = [
        ("equal", Relation::Equal),
        ("lessThan", Relation::Less),
        ("lessThanOrEqual", Relation::LessOrEqual),
        ("greaterThan", Relation::Greater),
        ("greaterThanOrEqual", Relation::GreaterOrEqual),
    ];

    fn parse(text: &str) -> Option<Predicate> {
        super::parse(text, MAX_LEAVES)
    }

    fn column(value_type: &str) -> Value {
        json!({"op": "column", "name": "c", "valueType": value_type})
    }

    fn literal(value_type: &str, value: &str) -> Value {
        json!({"op": "literal", "value": value, "valueType": value_type})
    }

    fn read(tree: &Value) -> Option<Predicate> {
        parse(&tree.to_string())
    }

    fn leaf(value_type: ValueType, test: Test) -> Predicate {
        let column = ColumnName { name: "c".into(), value_type: Some(value_type), is_partition: false };
        Predicate::Leaf(Claim { column, test })
    }

    #[test]
    fn every_operator_is_read_for_every_type_from_both_sides() {
        for (name, text, value_type) in TYPES {
            let constant = Literal { text: text.into(), kind: LiteralKind::Typed(value_type) };
            for (op, comparison) in OPERATORS {
                let tree = json!({"op": op, "children": [column(name), literal(name, text)]});
                let expected = leaf(value_type, Test::Compare(comparison, constant.clone()));
                assert_eq!(read(&tree), Some(expected), "{tree}");
                let tree = json!({"op": op, "children": [literal(name, text), column(name)]});
                let expected = leaf(value_type, Test::Compare(comparison.mirrored(), constant.clone()));
                assert_eq!(read(&tree), Some(expected), "{tree}");
            }
            let tree = json!({"op": "isNull", "children": [column(name)]});
            assert_eq!(read(&tree), Some(leaf(value_type, Test::IsNull)));
        }
    }

    #[test]
    fn trees_are_read_as_they_stand() {
        let is_null = json!({"op": "isNull", "children": [column("int")]});
        let (inner, yes) = (leaf(ValueType::Int, Test::IsNull), literal("bool", "true"));
        let tree = json!({"op": "not", "children": [{"op": "or", "children": [is_null, yes, column("bool")]}]});
        let bare = leaf(ValueType::Bool, Test::Compare(Relation::Equal, Literal::is_true()));
        let any = Predicate::Any(vec![inner, Predicate::Known(Outcomes::TRUE), bare]);
        assert_eq!(read(&tree), Some(Predicate::Not(Box::new(any))));
        assert_eq!(read(&literal("bool", "false")), Some(Predicate::Known(Outcomes::FALSE)));
        let constants = json!({"op": "lessThan", "children": [literal("int", "1"), literal("int", "2")]});
        assert_eq!(read(&constants), Some(Predicate::Known(Outcomes::TRUE)));
    }

    #[test]
    fn what_is_not_in_the_protocol_is_not_understood() {
        let compare = |left: Value, right: Value| json!({"op": "equal", "children": [left, right]});
        for tree in [
            json!(null),
            json!([]),
            json!({}),
            json!({"op": "like", "children": [column("string"), literal("string", "x")]}),
            json!({"op": "Equal", "children": [column("int"), literal("int", "1")]}),
            compare(column("int"), literal("long", "1")),
            compare(column("decimal"), literal("decimal", "1")),
            compare(column("int"), literal("int", "x")),
            compare(column("int"), literal("int", "2147483648")),
            compare(column("date"), literal("date", "31.1.2020")),
            compare(column("timestamp"), literal("timestamp", "2020-01-31 10:00:00")),
            compare(column("int"), json!({"op": "literal", "valueType": "int"})),
            compare(json!({"op": "column", "valueType": "int"}), literal("int", "1")),
            compare(json!({"op": "column", "name": "c"}), literal("int", "1")),
            json!({"op": "equal", "children": [column("int")]}),
            json!({"op": "not", "children": [column("bool"), column("bool")]}),
            json!({"op": "not", "children": [column("int")]}),
            json!({"op": "and", "children": [column("bool")]}),
            json!({"op": "isNull", "children": [{"op": "isNull", "children": [column("int")]}]}),
            literal("int", "1"),
        ] {
            assert_eq!(read(&tree), None, "{tree}");
        }
        assert_eq!(parse("{"), None);
    }

    #[test]
    fn check_096_trees_and_texts_beyond_the_limits_are_not_understood() {
        let nested = |depth: usize| {
            let mut text = column("bool").to_string();
            (1..depth).for_each(|_| text = format!(r#"{{"op":"not","children":[{text}]}}"#));
            text
        };
        assert!(parse(&nested(100)).is_some());
        assert!(parse(&nested(101)).is_none());
        assert!(parse(&nested(2_000)).is_none());
        let padded = |characters: usize| {
            let text = column("bool").to_string();
            format!("{text}{}", " ".repeat(characters - text.len()))
        };
        assert!(parse(&padded(1 << 20)).is_some());
        assert!(parse(&padded((1 << 20) + 1)).is_none());
        // The limit counts characters, not bytes.
        let wide = literal("string", &"\u{e9}".repeat(1 << 19)).to_string();
        let tree = format!(r#"{{"op":"equal","children":[{},{wide}]}}"#, column("string"));
        assert!(tree.len() > 1 << 20 && parse(&tree).is_some());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail_but_by_refusal(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn no_tree_makes_it_fail_but_by_refusal(
            ops in prop::collection::vec(prop::sample::select(vec!["column", "literal", "isNull", "not", "and", "equal"]), 1..20),
            text: String,
        ) {
            let tree = ops.iter().fold(json!(text), |tree, op| {
                json!({"op": op, "children": [tree], "name": text, "value": text, "valueType": "date"})
            });
            let _ = read(&tree);
        }
    }
}
