//! Parses SQL conditions in the forms that connectors send (Delta Sharing protocol, SQL expressions for filtering).
//!
//! Forms that engines interpret differently (escapes within quotes, comparisons with `NULL`, casts that change a value)
//! are not understood at all.

use super::{
    Claim, ColumnName, Literal, LiteralKind, MAX_CHARACTERS, MAX_DEPTH, Outcomes, Predicate, Relation, Test, ValueType,
};

/// The name with which Spark qualifies a column to mean its partition value.
const PARTITION_VALUES: &str = "partitionValues";

/// Parses `text` as a predicate of at most `most` comparisons; `None` if any part of it is not understood.
pub(super) fn parse(text: &str, most: usize) -> Option<Predicate> {
    if text.len() > MAX_CHARACTERS {
        return None;
    }
    let tokens = Lexer { rest: text }.tokens()?;
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, leaves_left: most };
    let predicate = parser.any()?.into_predicate()?;
    parser.next().is_none().then_some(predicate)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// An identifier in backticks or double quotes.
    Name(&'a str),
    Text(&'a str),
    Number(&'a str),
    Symbol(&'a str),
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn tokens(mut self) -> Option<Vec<Token<'a>>> {
        let mut tokens = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            let Some(first) = self.rest.chars().next() else { return Some(tokens) };
            tokens.push(match first {
                '\'' => Token::Text(self.quoted('\'')?),
                '`' | '"' => Token::Name(self.quoted(first)?),
                '0'..='9' => Token::Number(self.number()),
                '.' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => Token::Number(self.number()),
                c if c == '_' || c.is_alphabetic() => {
                    Token::Word(self.take_while(|c| c == '_' || c == '$' || c.is_alphanumeric()))
                }
                _ => Token::Symbol(self.symbol()?),
            });
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        self.take(self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len()))
    }

    /// Takes a quoted text. Engines disagree about backslashes and doubled quotes, so the text must not contain any.
    fn quoted(&mut self, quote: char) -> Option<&'a str> {
        self.take(quote.len_utf8());
        let end = self.rest.find([quote, '\\']).filter(|&end| self.rest[end..].starts_with(quote))?;
        let inside = self.take(end);
        self.take(quote.len_utf8());
        (!self.rest.starts_with(quote)).then_some(inside)
    }

    fn number(&mut self) -> &'a str {
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        while let Some(&byte) = bytes.get(end) {
            let is_sign_of_exponent = (byte == b'-' || byte == b'+')
                && matches!(bytes.get(end.wrapping_sub(1)), Some(b'e' | b'E'))
                && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
            if !(byte.is_ascii_alphanumeric() || byte == b'.' || is_sign_of_exponent) {
                break;
            }
            end += 1;
        }
        self.take(end)
    }

    fn symbol(&mut self) -> Option<&'a str> {
        const SYMBOLS: [&str; 15] = ["<=>", "<=", ">=", "<>", "!=", "==", "=", "<", ">", "(", ")", ",", ".", "-", "+"];
        let symbol = SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol))?;
        Some(self.take(symbol.len()))
    }
}

enum Expression {
    Column(ColumnName),
    Constant(Literal),
    Predicate(Predicate),
}

impl Expression {
    fn into_predicate(self) -> Option<Predicate> {
        match self {
            Self::Predicate(predicate) => Some(predicate),
            Self::Constant(literal) => match literal.kind {
                LiteralKind::Typed(ValueType::Bool) => {
                    Some(Predicate::Known(Outcomes::of(literal.text.eq_ignore_ascii_case("true"))))
                }
                _ => None,
            },
            Self::Column(_) => None,
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    depth: usize,
    leaves_left: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(own)) if own.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn eat_symbol(&mut self, symbol: &str) -> bool {
        let found = self.peek() == Some(Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn junction(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Option<Expression>,
        join: fn(Vec<Predicate>) -> Predicate,
    ) -> Option<Expression> {
        let first = part(self)?;
        if !matches!(self.peek(), Some(Token::Word(own)) if own.eq_ignore_ascii_case(word)) {
            return Some(first);
        }
        let mut parts = vec![first.into_predicate()?];
        while self.eat_word(word) {
            parts.push(part(self)?.into_predicate()?);
        }
        Some(Expression::Predicate(join(parts)))
    }

    fn any(&mut self) -> Option<Expression> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let expression = self.junction("OR", Self::all, Predicate::Any);
        self.depth -= 1;
        expression
    }

    fn all(&mut self) -> Option<Expression> {
        self.junction("AND", Self::negation, Predicate::All)
    }

    fn negation(&mut self) -> Option<Expression> {
        let mut negations = 0;
        while self.eat_word("NOT") {
            negations += 1;
        }
        let expression = self.relation()?;
        match negations {
            0 => Some(expression),
            odd if odd % 2 == 1 => Some(not(expression.into_predicate()?)),
            _ => Some(Expression::Predicate(expression.into_predicate()?)),
        }
    }

    fn relation(&mut self) -> Option<Expression> {
        let left = self.operand()?;
        if self.eat_word("IS") {
            let is_negated = self.eat_word("NOT");
            let Expression::Column(column) = left else { return None };
            let is_null = self.eat_word("NULL").then(|| self.leaf(column, Test::IsNull))??;
            return Some(if is_negated { not(is_null) } else { Expression::Predicate(is_null) });
        }
        let is_negated = self.eat_word("NOT");
        let relation = if self.eat_word("IN") {
            Some(self.list(&left)?)
        } else if self.eat_word("BETWEEN") {
            let low = self.operand()?;
            let high = self.eat_word("AND").then(|| self.operand())??;
            let bounds = [(Relation::GreaterOrEqual, low), (Relation::LessOrEqual, high)];
            let bounds = bounds.into_iter().map(|(comparison, bound)| self.compare(comparison, &left, &bound));
            Some(Predicate::All(bounds.collect::<Option<_>>()?))
        } else {
            None
        };
        match relation {
            Some(relation) => return Some(if is_negated { not(relation) } else { Expression::Predicate(relation) }),
            None if is_negated => return None,
            None => {}
        }
        let (comparison, is_negated) = match self.peek() {
            Some(Token::Symbol("=" | "==" | "<=>")) => (Relation::Equal, false),
            Some(Token::Symbol("<>" | "!=")) => (Relation::Equal, true),
            Some(Token::Symbol("<")) => (Relation::Less, false),
            Some(Token::Symbol("<=")) => (Relation::LessOrEqual, false),
            Some(Token::Symbol(">")) => (Relation::Greater, false),
            Some(Token::Symbol(">=")) => (Relation::GreaterOrEqual, false),
            _ => return Some(left),
        };
        self.at += 1;
        let right = self.operand()?;
        let relation = self.compare(comparison, &left, &right)?;
        Some(if is_negated { not(relation) } else { Expression::Predicate(relation) })
    }

    fn list(&mut self, left: &Expression) -> Option<Predicate> {
        let mut equals = Vec::new();
        self.eat_symbol("(").then_some(())?;
        loop {
            let value = self.operand()?;
            equals.push(self.compare(Relation::Equal, left, &value)?);
            if !self.eat_symbol(",") {
                break;
            }
        }
        self.eat_symbol(")").then_some(Predicate::Any(equals))
    }

    fn compare(&mut self, comparison: Relation, left: &Expression, right: &Expression) -> Option<Predicate> {
        match (left, right) {
            (Expression::Column(column), Expression::Constant(literal)) => {
                self.leaf(column.clone(), Test::Compare(comparison, literal.clone()))
            }
            (Expression::Constant(literal), Expression::Column(column)) => {
                self.leaf(column.clone(), Test::Compare(comparison.mirrored(), literal.clone()))
            }
            _ => None,
        }
    }

    fn leaf(&mut self, column: ColumnName, test: Test) -> Option<Predicate> {
        self.leaves_left = self.leaves_left.checked_sub(1)?;
        Some(Predicate::Leaf(Claim { column, test }))
    }

    fn operand(&mut self) -> Option<Expression> {
        if self.eat_symbol("(") {
            let inside = self.any()?;
            return self.eat_symbol(")").then_some(inside);
        }
        match self.next()? {
            Token::Symbol(sign @ ("-" | "+")) => match self.next()? {
                Token::Number(number) => constant(sign, number),
                _ => None,
            },
            Token::Number(number) => constant("", number),
            Token::Text(text) => Some(quoted(text)),
            Token::Name(name) => self.column(name),
            Token::Word(word) => self.word(word),
            Token::Symbol(_) => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<Expression> {
        let is_call = self.peek() == Some(Token::Symbol("("));
        if is_call {
            let is_cast = ["cast", "try_cast"].iter().any(|name| word.eq_ignore_ascii_case(name));
            return if is_cast { self.cast() } else { None };
        }
        if let (Some(Token::Text(text)), Some(value_type)) = (self.peek(), ValueType::from_sql(word)) {
            self.at += 1;
            return Some(Expression::Constant(Literal { text: text.to_owned(), kind: LiteralKind::Typed(value_type) }));
        }
        match word.to_ascii_lowercase().as_str() {
            truth @ ("true" | "false") => {
                let kind = LiteralKind::Typed(ValueType::Bool);
                Some(Expression::Constant(Literal { text: truth.to_owned(), kind }))
            }
            "null" | "not" | "and" | "or" | "is" | "in" | "between" | "like" | "case" => None,
            _ => self.column(word),
        }
    }

    fn column(&mut self, first: &str) -> Option<Expression> {
        let mut name = first;
        let is_partition = self.eat_symbol(".");
        if is_partition {
            // Any other qualifier may name a struct, and nothing is known about the fields of structs.
            let (Token::Word(second) | Token::Name(second)) = self.next()? else { return None };
            if !first.eq_ignore_ascii_case(PARTITION_VALUES) || self.peek() == Some(Token::Symbol(".")) {
                return None;
            }
            name = second;
        }
        Some(Expression::Column(ColumnName { name: name.to_owned(), value_type: None, is_partition }))
    }

    /// Parses `CAST(operand AS type)` after the word `CAST`. Only casts that keep the value are understood; whether a
    /// cast of a column does is decided later by the column's own type.
    fn cast(&mut self) -> Option<Expression> {
        self.depth += 1;
        if self.depth > MAX_DEPTH || !self.eat_symbol("(") {
            return None;
        }
        let inside = self.operand()?;
        let value_type = match (self.eat_word("AS"), self.next()?) {
            (true, Token::Word(name)) => ValueType::from_sql(name)?,
            _ => return None,
        };
        self.depth -= 1;
        if !self.eat_symbol(")") {
            return None;
        }
        match inside {
            Expression::Column(column) if column.value_type.is_none_or(|own| own == value_type) => {
                Some(Expression::Column(ColumnName { value_type: Some(value_type), ..column }))
            }
            Expression::Constant(literal) => cast_constant(literal, value_type).map(Expression::Constant),
            _ => None,
        }
    }
}

fn not(predicate: Predicate) -> Expression {
    Expression::Predicate(Predicate::Not(Box::new(predicate)))
}

fn quoted(text: &str) -> Expression {
    Expression::Constant(Literal { text: text.to_owned(), kind: LiteralKind::Quoted })
}

/// Parses a number with the suffix that Spark may append.
fn constant(sign: &str, number: &str) -> Option<Expression> {
    let upper = number.to_ascii_uppercase();
    let (digits, kind) =
        [("BD", LiteralKind::Number), ("L", LiteralKind::Number), ("D", LiteralKind::Typed(ValueType::Double))]
            .into_iter()
            .chain([("F", LiteralKind::Typed(ValueType::Float))])
            .find_map(|(suffix, kind)| upper.strip_suffix(suffix).map(|digits| (digits, kind)))
            .unwrap_or((upper.as_str(), LiteralKind::Number));
    let text = if sign == "-" { format!("-{digits}") } else { digits.to_owned() };
    // Rust also parses texts that are not numbers, such as `inf`.
    let is_number = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'E' | b'+' | b'-'));
    (is_number && text.parse::<f64>().is_ok()).then_some(Expression::Constant(Literal { text, kind }))
}

fn cast_constant(literal: Literal, value_type: ValueType) -> Option<Literal> {
    let keeps_its_value = match literal.kind {
        LiteralKind::Typed(own) => own == value_type,
        LiteralKind::Quoted => true,
        LiteralKind::Number => {
            matches!(value_type, ValueType::Int | ValueType::Long | ValueType::Double | ValueType::Float)
        }
    };
    keeps_its_value.then_some(Literal { kind: LiteralKind::Typed(value_type), ..literal })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::domain::sharing::predicate::MAX_LEAVES;

    use super::*;

    fn parse(text: &str) -> Option<Predicate> {
        super::parse(text, MAX_LEAVES)
    }

    fn named(name: &str, value_type: Option<ValueType>) -> ColumnName {
        ColumnName { name: name.into(), value_type, is_partition: false }
    }

    fn leaf(column: ColumnName, comparison: Relation, text: &str, kind: LiteralKind) -> Predicate {
        let test = Test::Compare(comparison, Literal { text: text.into(), kind });
        Predicate::Leaf(Claim { column, test })
    }

    fn negated(predicate: Predicate) -> Predicate {
        Predicate::Not(Box::new(predicate))
    }

    #[test]
    fn every_relation_is_read_from_both_sides() {
        use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        let five = |comparison| leaf(named("a", None), comparison, "5", LiteralKind::Number);
        for (symbol, expected) in [
            ("=", five(Equal)),
            ("==", five(Equal)),
            ("<=>", five(Equal)),
            ("<>", negated(five(Equal))),
            ("!=", negated(five(Equal))),
            ("<", five(Less)),
            ("<=", five(LessOrEqual)),
            (">", five(Greater)),
            (">=", five(GreaterOrEqual)),
        ] {
            assert_eq!(parse(&format!("a {symbol} 5")), Some(expected.clone()), "{symbol}");
            assert_eq!(parse(&format!("(`a`{symbol}(5L))")), Some(expected), "{symbol}");
        }
        assert_eq!(parse("5 < a"), Some(five(Greater)));
        assert_eq!(parse("5 >= \"a\""), Some(five(LessOrEqual)));
    }

    #[test]
    fn constants_are_read_with_what_is_said_of_their_type() {
        for (text, value, kind) in [
            ("-5", "-5", LiteralKind::Number),
            ("+1.50BD", "1.50", LiteralKind::Number),
            (".5", ".5", LiteralKind::Number),
            ("1e-3D", "1E-3", LiteralKind::Typed(ValueType::Double)),
            ("2.5f", "2.5", LiteralKind::Typed(ValueType::Float)),
            ("'it is'", "it is", LiteralKind::Quoted),
            ("DATE '2021-04-28'", "2021-04-28", LiteralKind::Typed(ValueType::Date)),
            ("timestamp'2021-04-28T00:00:00Z'", "2021-04-28T00:00:00Z", LiteralKind::Typed(ValueType::Timestamp)),
            ("CAST('2021-04-28' AS date)", "2021-04-28", LiteralKind::Typed(ValueType::Date)),
            ("cast(5 as bigint)", "5", LiteralKind::Typed(ValueType::Long)),
            ("true", "true", LiteralKind::Typed(ValueType::Bool)),
        ] {
            let expected = leaf(named("a", None), Relation::Equal, value, kind);
            assert_eq!(parse(&format!("a = {text}")), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_spark_sends_for_a_partition_is_understood() {
        let date = ColumnName { name: "date".into(), value_type: Some(ValueType::Date), is_partition: true };
        let compared = leaf(date, Relation::GreaterOrEqual, "2021-04-28", LiteralKind::Typed(ValueType::Date));
        let column = ColumnName { name: "date".into(), value_type: None, is_partition: true };
        let given = negated(Predicate::Leaf(Claim { column, test: Test::IsNull }));
        let text =
            "((partitionValues.date IS NOT NULL) AND (CAST(partitionValues.`date` AS DATE) >= DATE '2021-04-28'))";
        assert_eq!(parse(text), Some(Predicate::All(vec![given, compared])));
    }

    #[test]
    fn junctions_bind_as_in_sql() {
        let is = |name: &str| leaf(named(name, None), Relation::Equal, "1", LiteralKind::Number);
        let expected = Predicate::Any(vec![is("a"), Predicate::All(vec![is("b"), negated(is("c"))])]);
        assert_eq!(parse("a = 1 or b = 1 AND NOT c = 1"), Some(expected));
        assert_eq!(parse("a IN (1, 1)"), Some(Predicate::Any(vec![is("a"), is("a")])));
        assert_eq!(parse("a NOT IN (1)"), Some(negated(Predicate::Any(vec![is("a")]))));
        let low = leaf(named("a", None), Relation::GreaterOrEqual, "1", LiteralKind::Number);
        let high = leaf(named("a", None), Relation::LessOrEqual, "2", LiteralKind::Number);
        assert_eq!(parse("a BETWEEN 1 AND 2"), Some(Predicate::All(vec![low, high])));
        assert_eq!(parse("NOT NOT a = 1"), Some(is("a")));
        assert_eq!(parse("false"), Some(Predicate::Known(Outcomes::FALSE)));
    }

    #[test]
    fn check_088_what_engines_read_differently_is_not_understood() {
        for text in [
            "",
            "a",
            "a =",
            "a = b",
            "a = NULL",
            "a <=> NULL",
            "a IN (1, NULL)",
            "a LIKE 'x%'",
            "a = 'it''s'",
            r"a = 'it\'s'",
            "a = 'x",
            "upper(a) = 'X'",
            "a + 1 = 2",
            "t.a = 1",
            "partitionValues.a.b = 1",
            "CAST(a AS DECIMAL(10, 2)) = 1",
            "CAST(a AS VARCHAR(2)) = 'x'",
            "a = CAST(5 AS STRING)",
            "a = CAST(DATE '2020-01-01' AS STRING)",
            "a = 1 extra",
            "(a = 1",
            "a = 1)",
            "a = 0x10",
            "a = infinity()",
            "a = 1; DROP TABLE t",
            "a NOT 1",
            "a IS 1",
            "1 IS NULL",
            "CAST(CAST(a AS DATE) AS STRING) = 'x'",
            "🐉 = 1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"(".repeat(200_000)), None);
        assert_eq!(parse(&"CAST(".repeat(100_000)), None);
        assert!(parse(&format!("{}a = 1", "NOT ".repeat(100_000))).is_some());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail_but_by_refusal(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn no_sequence_of_tokens_makes_it_fail_but_by_refusal(words in prop::collection::vec(
            prop::sample::select(vec!["a", "(", ")", "CAST", "AS", "DATE", "'x'", "5", "-", "=", "<>", "IN", ",", "NOT",
                "IS", "NULL", "AND", "OR", "BETWEEN", ".", "`b`", "é", "1e", "'"]), 0..30)) {
            let _ = parse(&words.join(" "));
            let _ = parse(&words.concat());
        }
    }
}
