//! Splits a filter into words, each with its place.

use crate::domain::catalog::schema::unquote;

use super::Fault;

/// A word and its first character's position, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lexeme<'a> {
    pub at: usize,
    pub kind: Kind<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A keyword, or a name.
    Word(&'a str),
    /// A name in backticks.
    Name(String),
    /// A text in single quotes.
    Text(String),
    /// Digits, with a fraction and an exponent where there are any.
    Number(&'a str),
    /// Everything else.
    Symbol(&'static str),
}

/// Longer symbols come before their own prefixes.
const SYMBOLS: [&str; 13] = ["<=", ">=", "<>", "!=", "=", "<", ">", "(", ")", ",", ".", "-", "+"];

/// Splits `text` into words.
pub(super) fn tokens(text: &str) -> Result<Vec<Lexeme<'_>>, Fault> {
    let mut tokens = Vec::new();
    let (mut rest, mut at) = (text, 1);
    loop {
        let blank = rest.len() - rest.trim_start().len();
        at += rest[..blank].chars().count();
        rest = &rest[blank..];
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let (kind, behind) = token(first, rest, at)?;
        tokens.push(Lexeme { at, kind });
        at += rest[..rest.len() - behind.len()].chars().count();
        rest = behind;
    }
}

/// Splits off the first word of `rest`.
fn token(first: char, rest: &str, at: usize) -> Result<(Kind<'_>, &str), Fault> {
    Ok(match first {
        '\'' => {
            let (text, behind) = quoted(&rest[1..]).ok_or_else(|| Fault::new(at, "a text has no closing `'`"))?;
            (Kind::Text(text), behind)
        }
        '`' => {
            let (name, behind) =
                unquote(&rest[1..]).ok_or_else(|| Fault::new(at, "a name is empty or has no closing backtick"))?;
            (Kind::Name(name), behind)
        }
        '"' => {
            let message = "a text stands in single quotes, a name that needs quotes in backticks";
            return Err(Fault::new(at, message));
        }
        '0'..='9' => {
            let (number, behind) = rest.split_at(number_length(rest));
            if behind.starts_with(is_part) {
                let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
                return Err(Fault::new(at, format!("`{}` is no number", shortened(word))));
            }
            (Kind::Number(number), behind)
        }
        c if is_part(c) => {
            let (word, behind) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
            (Kind::Word(word), behind)
        }
        other => match SYMBOLS.iter().find_map(|symbol| Some((*symbol, rest.strip_prefix(symbol)?))) {
            Some((symbol, behind)) => (Kind::Symbol(symbol), behind),
            None => return Err(Fault::new(at, format!("`{}` has no meaning here", other.escape_debug()))),
        },
    })
}

/// Whether an unquoted name may contain this character.
pub(super) fn is_part(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The beginning of a word, for messages.
pub(super) fn shortened(word: &str) -> String {
    const MOST: usize = 60;
    word.chars().take(MOST).collect()
}

/// Splits off the text before the closing quote, with doubled quotes made single.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut inside = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('\'')?;
        inside.push_str(part);
        match behind.strip_prefix('\'') {
            Some(more) => {
                inside.push('\'');
                rest = more;
            }
            None => return Some((inside, behind)),
        }
    }
}

fn number_length(text: &str) -> usize {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(0);
    if text[end..].starts_with('.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}
