//! Parses words into a tree whose columns and values fit a schema.

use crate::domain::catalog::{
    schema::{ColumnPath, Primitive, Schema},
    view::value::{Value, read_day, read_timestamp},
};

use super::{
    Column, Comparison, Fault, List, MAX_DEPTH, MAX_LEAVES, MAX_LIST, MAX_PROPERTY, Node, Operand,
    lexer::{Kind, Lexeme, shortened, tokens},
};

/// All forms of a value, for messages.
const VALUES: &str = "a column, a number, a 'text', TRUE, FALSE, DATE 'YYYY-MM-DD', TIMESTAMP 'YYYY-MM-DD HH:MM:SS', \
                      recipient('property') or today()";

/// The most days that may be added to or subtracted from `today()`.
const MAX_DAYS: i32 = 100_000;

/// Parses `text` over `source`.
pub(super) fn parse(text: &str, source: &Schema) -> Result<Node, Fault> {
    let tokens = tokens(text)?;
    let end = text.chars().count() + 1;
    let mut parser = Parser { tokens, next: 0, end, source, depth: 0, leaves: 0 };
    let node = parser.any()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.unexpected("AND, OR or the end")),
    }
}

/// Whether a word cannot be a name without backticks.
pub(super) fn is_reserved(word: &str) -> bool {
    const RESERVED: [&str; 10] = ["AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "IS", "NULL", "TRUE", "FALSE"];
    RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

struct Parser<'a> {
    tokens: Vec<Lexeme<'a>>,
    next: usize,
    /// The position just past the text's end.
    end: usize,
    source: &'a Schema,
    depth: usize,
    leaves: usize,
}

/// One side of a comparison, before the other side gives it a type.
enum Term {
    Column(Column),
    /// Includes its sign.
    Number(String),
    Text(String),
    Boolean(bool),
    Date(i32),
    /// Kept as text: its instant depends on the column's type.
    Timestamp(String),
    Recipient(String),
    RecipientList(String),
    /// The current day plus this many days.
    Today(i32),
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&Kind<'a>> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn peek_second(&self) -> Option<&Kind<'a>> {
        self.tokens.get(self.next + 1).map(|token| &token.kind)
    }

    /// The position of the next word.
    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |token| token.at)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Kind::Word(own)) if own.eq_ignore_ascii_case(word))
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Symbol(own)) if *own == symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Fault> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let found = match self.peek() {
            None => "the filter ends".to_owned(),
            Some(Kind::Word(word) | Kind::Number(word)) => format!("`{}` stands", shortened(word)),
            Some(Kind::Name(name)) => format!("`{}` stands", shortened(name)),
            Some(Kind::Text(_)) => "a text stands".to_owned(),
            Some(Kind::Symbol(symbol)) => format!("`{symbol}` stands"),
        };
        Fault::new(self.at(), format!("{found} where {expected} is expected"))
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(self.at(), format!("conditions nest more than {MAX_DEPTH} deep")));
        }
        let inner = inner(self)?;
        self.depth -= 1;
        Ok(inner)
    }

    fn any(&mut self) -> Result<Node, Fault> {
        let mut parts = vec![self.all()?];
        while self.eat_word("OR") {
            parts.push(self.all()?);
        }
        Ok(single_or(parts, Node::Any))
    }

    fn all(&mut self) -> Result<Node, Fault> {
        let mut parts = vec![self.negation()?];
        while self.eat_word("AND") {
            parts.push(self.negation()?);
        }
        Ok(single_or(parts, Node::All))
    }

    fn negation(&mut self) -> Result<Node, Fault> {
        if self.eat_word("NOT") {
            return self.deeper(Self::negation).map(|node| Node::Not(Box::new(node)));
        }
        if !self.eat("(") {
            return self.relation();
        }
        let inside = self.deeper(Self::any)?;
        self.expect(")")?;
        if matches!(self.peek(), None | Some(Kind::Symbol(")"))) || ["AND", "OR"].iter().any(|word| self.is_word(word))
        {
            Ok(inside)
        } else {
            Err(self.unexpected("AND, OR or `)`"))
        }
    }

    /// Parses a condition on columns, or a constant.
    fn relation(&mut self) -> Result<Node, Fault> {
        self.leaves += 1;
        if self.leaves > MAX_LEAVES {
            return Err(Fault::new(self.at(), format!("a filter has at most {MAX_LEAVES} conditions")));
        }
        let at = self.at();
        let left = self.term()?;
        if let Some(comparison) = self.comparison() {
            let right_at = self.at();
            let right = self.term()?;
            return compare(left, at, comparison, right, right_at);
        }
        let has_not = self.is_word("NOT");
        let is_negated_relation = has_not
            && matches!(self.peek_second(), Some(Kind::Word(word))
                if ["IN", "BETWEEN", "LIKE"].iter().any(|relation| word.eq_ignore_ascii_case(relation)));
        let relations = ["IS", "IN", "BETWEEN", "LIKE"];
        if is_negated_relation || relations.iter().any(|word| self.is_word(word)) {
            let Term::Column(column) = left else {
                return Err(Fault::new(at, "a column stands on the left of IS, IN, BETWEEN and LIKE"));
            };
            self.next += usize::from(is_negated_relation);
            let relation = self.relation_of(column, at)?;
            return Ok(if is_negated_relation { Node::Not(Box::new(relation)) } else { relation });
        }
        match left {
            Term::Boolean(value) => Ok(Node::Known(value)),
            Term::Column(column) if column.primitive == Primitive::Boolean => Ok(Node::IsTrue(column)),
            _ => Err(self.unexpected("a comparison (=, <>, <, <=, >, >=, IS, IN, BETWEEN, LIKE)")),
        }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let Some(Kind::Symbol(symbol)) = self.peek() else { return None };
        let comparison = match *symbol {
            "=" => Comparison::Equal,
            "<>" | "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.next += 1;
        Some(comparison)
    }

    fn relation_of(&mut self, column: Column, at: usize) -> Result<Node, Fault> {
        if self.eat_word("IS") {
            let is_negated = self.eat_word("NOT");
            if !self.eat_word("NULL") {
                return Err(self.unexpected(if is_negated { "NULL" } else { "NULL or NOT NULL" }));
            }
            let is_null = Node::IsNull(column);
            return Ok(if is_negated { Node::Not(Box::new(is_null)) } else { is_null });
        }
        if self.eat_word("BETWEEN") {
            let low = self.bound(&column, at, Comparison::GreaterOrEqual)?;
            if !self.eat_word("AND") {
                return Err(self.unexpected("AND"));
            }
            let high = self.bound(&column, at, Comparison::LessOrEqual)?;
            return Ok(Node::All(vec![low, high]));
        }
        if self.eat_word("LIKE") {
            return self.prefix(column, at);
        }
        self.next += 1;
        let values = self.list(&column)?;
        Ok(Node::OneOf(column, values))
    }

    /// Parses one bound of BETWEEN.
    fn bound(&mut self, column: &Column, at: usize, comparison: Comparison) -> Result<Node, Fault> {
        let bound_at = self.at();
        let bound = self.term()?;
        compare(Term::Column(column.clone()), at, comparison, bound, bound_at)
    }

    fn prefix(&mut self, column: Column, at: usize) -> Result<Node, Fault> {
        if column.primitive != Primitive::String {
            return Err(Fault::new(at, format!("LIKE is for texts, and `{}` is {}", column.path, column.primitive)));
        }
        let pattern_at = self.at();
        let Some(Kind::Text(pattern)) = self.peek() else { return Err(self.unexpected("a 'text%'")) };
        let Some(prefix) = pattern.strip_suffix('%') else {
            return Err(Fault::new(pattern_at, "a pattern ends with `%`; for the whole text write `=`"));
        };
        if prefix.contains(['%', '_', '\\']) {
            return Err(Fault::new(pattern_at, "a pattern is a text and one `%` at its end, without `_` and `\\`"));
        }
        let prefix = prefix.to_owned();
        self.next += 1;
        Ok(Node::StartsWith(column, prefix))
    }

    /// Parses the list after IN.
    fn list(&mut self, column: &Column) -> Result<List, Fault> {
        let at = self.at();
        if !self.eat("(") {
            return match self.term() {
                Ok(Term::RecipientList(property)) => {
                    comparable(column, at)?;
                    Ok(List::Property(property))
                }
                Ok(_) => Err(Fault::new(at, "behind IN stands a list in parentheses or recipient_list('property')")),
                Err(fault) => Err(fault),
            };
        }
        let mut values = Vec::new();
        loop {
            let at = self.at();
            if values.len() == MAX_LIST {
                let message = format!("a list has at most {MAX_LIST} values; a longer one is a property of recipients");
                return Err(Fault::new(at, message));
            }
            values.push(typed(column, self.term()?, at)?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(List::Values(values))
    }

    fn term(&mut self) -> Result<Term, Fault> {
        let at = self.at();
        let kind = self.peek().cloned();
        let is_call = matches!(self.peek_second(), Some(Kind::Symbol("(")));
        match kind {
            Some(Kind::Text(text)) => {
                self.next += 1;
                Ok(Term::Text(text))
            }
            Some(Kind::Number(number)) => {
                self.next += 1;
                Ok(Term::Number(number.to_owned()))
            }
            Some(Kind::Symbol(sign @ ("-" | "+"))) => {
                self.next += 1;
                let Some(Kind::Number(number)) = self.peek() else { return Err(self.unexpected("a number")) };
                let number = if sign == "-" { format!("-{number}") } else { (*number).to_owned() };
                self.next += 1;
                Ok(Term::Number(number))
            }
            Some(Kind::Word(word)) if is_call => {
                self.next += 2;
                self.call(word, at)
            }
            Some(Kind::Word(word)) => self.word(word, at),
            Some(Kind::Name(name)) => {
                self.next += 1;
                self.column(name, at)
            }
            Some(Kind::Symbol(_)) | None => Err(self.unexpected(VALUES)),
        }
    }

    /// Parses a word that is not a call.
    fn word(&mut self, word: &str, at: usize) -> Result<Term, Fault> {
        if let Some(Kind::Text(text)) = self.peek_second().cloned() {
            if word.eq_ignore_ascii_case("DATE") {
                self.next += 2;
                let day = read_day(&text).ok_or_else(|| Fault::new(at, "a date is written DATE 'YYYY-MM-DD'"));
                return day.map(Term::Date);
            }
            if word.eq_ignore_ascii_case("TIMESTAMP") {
                self.next += 2;
                return Ok(Term::Timestamp(text));
            }
        }
        for (name, value) in [("TRUE", true), ("FALSE", false)] {
            if self.eat_word(name) {
                return Ok(Term::Boolean(value));
            }
        }
        if word.eq_ignore_ascii_case("NULL") {
            return Err(Fault::new(at, "nothing compares with NULL; write `column IS NULL` or `column IS NOT NULL`"));
        }
        if is_reserved(word) {
            return Err(self.unexpected(VALUES));
        }
        self.next += 1;
        self.column(word.to_owned(), at)
    }

    /// Parses the rest of a call, after the opening parenthesis.
    fn call(&mut self, word: &str, at: usize) -> Result<Term, Fault> {
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        if is("today") {
            self.expect(")")?;
            return self.days().map(Term::Today);
        }
        if is("recipient") || is("recipient_list") {
            let Some(Kind::Text(property)) = self.peek().cloned() else {
                return Err(self.unexpected("the name of a property as a 'text'"));
            };
            if property.is_empty() || property.chars().nth(MAX_PROPERTY).is_some() {
                let message = format!("the name of a property has 1 to {MAX_PROPERTY} characters");
                return Err(Fault::new(self.at(), message));
            }
            self.next += 1;
            self.expect(")")?;
            return Ok(if is("recipient") { Term::Recipient(property) } else { Term::RecipientList(property) });
        }
        if is_reserved(word) {
            return Err(Fault::new(at, format!("`{word}` stands where {VALUES} is expected")));
        }
        let message = format!(
            "`{}` is no function of filters; they have recipient('property'), recipient_list('property') and today()",
            shortened(word)
        );
        Err(Fault::new(at, message))
    }

    /// Parses `+ 7` or `- 30` after `today()`.
    fn days(&mut self) -> Result<i32, Fault> {
        let is_before = self.eat("-");
        if !is_before && !self.eat("+") {
            return Ok(0);
        }
        let days = match self.peek() {
            Some(Kind::Number(number)) => number.parse::<i32>().ok().filter(|days| *days <= MAX_DAYS),
            _ => None,
        };
        let Some(days) = days else {
            return Err(self.unexpected(&format!("a number of days, at most {MAX_DAYS},")));
        };
        self.next += 1;
        Ok(if is_before { -days } else { days })
    }

    /// Parses the rest of a column's path, after its first name.
    fn column(&mut self, first: String, at: usize) -> Result<Term, Fault> {
        let mut path = ColumnPath(vec![first]);
        while self.eat(".") {
            let name = match self.peek() {
                Some(Kind::Word(word)) => (*word).to_owned(),
                Some(Kind::Name(name)) => name.clone(),
                _ => return Err(self.unexpected("the name of a field")),
            };
            self.next += 1;
            path = path.join(&name);
        }
        let found = self.source.lookup(&path).map_err(|error| Fault::new(at, error.to_string()))?;
        if found.steps.iter().any(|step| step.is_into_collection()) {
            return Err(Fault::new(
                at,
                format!("`{path}` is inside a list or map, where a row has more than one value"),
            ));
        }
        match found.data_type.primitive() {
            Some(primitive) => Ok(Term::Column(Column { path, primitive })),
            None => Err(Fault::new(at, format!("`{path}` is {}, not a single value", found.data_type))),
        }
    }
}

fn single_or(mut parts: Vec<Node>, join: fn(Vec<Node>) -> Node) -> Node {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn compare(left: Term, at: usize, comparison: Comparison, right: Term, right_at: usize) -> Result<Node, Fault> {
    let (column, comparison, other, column_at, other_at) = match (left, right) {
        (Term::Column(left), Term::Column(right)) => {
            comparable(&left, at)?;
            if left.primitive != right.primitive {
                let (one, other) = (left.primitive, right.primitive);
                let message = format!("`{}` is {one} and `{}` is {other}", left.path, right.path);
                return Err(Fault::new(at, format!("only columns of one type are compared: {message}")));
            }
            check_order(&left, comparison, at)?;
            return Ok(Node::CompareColumns(left, comparison, right));
        }
        (Term::Column(column), other) => (column, comparison, other, at, right_at),
        (other, Term::Column(column)) => (column, comparison.mirrored(), other, right_at, at),
        _ => return Err(Fault::new(at, "one side of a comparison is a column")),
    };
    check_order(&column, comparison, column_at)?;
    let value = typed(&column, other, other_at)?;
    Ok(Node::Compare(column, comparison, value))
}

fn check_order(column: &Column, comparison: Comparison, at: usize) -> Result<(), Fault> {
    let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    if column.primitive == Primitive::Boolean && !is_equality {
        return Err(Fault::new(at, format!("`{}` is boolean, which only = and <> compare", column.path)));
    }
    Ok(())
}

fn comparable(column: &Column, at: usize) -> Result<(), Fault> {
    if column.primitive == Primitive::Binary {
        return Err(Fault::new(at, format!("`{}` is binary, of which only IS NULL can be asked", column.path)));
    }
    Ok(())
}

/// Converts `term` into an operand of the column's type.
fn typed(column: &Column, term: Term, at: usize) -> Result<Operand, Fault> {
    comparable(column, at)?;
    let primitive = column.primitive;
    let value = match term {
        Term::Recipient(property) => return Ok(Operand::Recipient(property)),
        Term::Today(days) if primitive == Primitive::Date => return Ok(Operand::Today(days)),
        Term::Number(number) => Value::from_number(&number, primitive),
        Term::Text(text) if primitive == Primitive::String => Some(Value::Text(text)),
        Term::Boolean(value) if primitive == Primitive::Boolean => Some(Value::Boolean(value)),
        Term::Date(days) if primitive == Primitive::Date => Some(Value::Date(days)),
        Term::Timestamp(text) if matches!(primitive, Primitive::Timestamp | Primitive::TimestampNtz) => {
            read_timestamp(&text, primitive).map(Value::Timestamp)
        }
        Term::Column(other) => {
            let message = format!("`{}` is a column; a list holds values", other.path);
            return Err(Fault::new(at, message));
        }
        Term::RecipientList(_) => {
            return Err(Fault::new(at, "recipient_list('property') stands only behind IN, without parentheses"));
        }
        Term::Text(_) | Term::Boolean(_) | Term::Date(_) | Term::Timestamp(_) | Term::Today(_) => None,
    };
    value.map(Operand::Value).ok_or_else(|| {
        Fault::new(
            at,
            format!("this is not exactly a value of `{}`, which is {primitive}{}", column.path, hint(primitive)),
        )
    })
}

fn hint(primitive: Primitive) -> &'static str {
    match primitive {
        Primitive::Boolean => "; write TRUE or FALSE",
        Primitive::String => "; write 'text'",
        Primitive::Date => "; write DATE 'YYYY-MM-DD' or today()",
        Primitive::Timestamp => {
            "; write TIMESTAMP 'YYYY-MM-DD HH:MM:SS', with a zone such as Z or +01:00 unless it is UTC"
        }
        Primitive::TimestampNtz => "; write TIMESTAMP 'YYYY-MM-DD HH:MM:SS' without a zone",
        Primitive::Byte
        | Primitive::Short
        | Primitive::Integer
        | Primitive::Long
        | Primitive::Float
        | Primitive::Double
        | Primitive::Decimal { .. }
        | Primitive::Binary => "",
    }
}
