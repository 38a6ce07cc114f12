//! Splits the names of columns into words, and compares them with the phrases that detectors know.

/// The longest name that is looked at, in characters.
const LONGEST_NAME: usize = 200;
/// The most words of a path that are looked at; of a longer path, the last ones.
const MOST_WORDS: usize = 16;
/// The most words that make one phrase.
const LONGEST_PHRASE: usize = 5;

/// How well a name fits a phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// A word beside the phrase says that the column holds something about it, such as `phone_model`.
    Negated,
    /// The name has further words that nobody knows.
    Partial,
    /// The name is the phrase, perhaps with words that change nothing, such as `customer_phone_2`.
    Full,
}

/// Words that leave the meaning of a phrase as it is.
const NEUTRAL: &[&str] = &[
    "a",
    "address",
    "alt",
    "alternate",
    "applicant",
    "attending",
    "bene",
    "beneficiary",
    "billing",
    "business",
    "cd",
    "client",
    "code",
    "col",
    "column",
    "contact",
    "cst",
    "current",
    "cust",
    "customer",
    "data",
    "de",
    "del",
    "dependent",
    "der",
    "doctor",
    "dt",
    "element",
    "emergency",
    "emp",
    "employee",
    "field",
    "full",
    "guarantor",
    "guardian",
    "holder",
    "home",
    "id",
    "ident",
    "identifier",
    "info",
    "insured",
    "key",
    "kunde",
    "kunden",
    "legal",
    "mailing",
    "main",
    "member",
    "mobile",
    "my",
    "new",
    "no",
    "nr",
    "num",
    "number",
    "numero",
    "nummer",
    "of",
    "office",
    "old",
    "original",
    "owner",
    "parent",
    "party",
    "pat",
    "patient",
    "person",
    "personal",
    "physician",
    "previous",
    "primary",
    "private",
    "provider",
    "raw",
    "secondary",
    "shipping",
    "spouse",
    "str",
    "string",
    "student",
    "subscriber",
    "text",
    "the",
    "user",
    "usr",
    "value",
    "work",
];

/// Words that turn a phrase into something else: a digest of it, a number of such things, a state, a time, a product.
const NEGATING: &[&str] = &[
    "algorithm",
    "amount",
    "amt",
    "average",
    "avg",
    "body",
    "bounced",
    "brand",
    "campaign",
    "carrier",
    "category",
    "changed",
    "checksum",
    "cipher",
    "clicked",
    "cnt",
    "confirmed",
    "cost",
    "count",
    "created",
    "currency",
    "days",
    "deleted",
    "device",
    "digest",
    "domain",
    "enabled",
    "encrypted",
    "error",
    "fee",
    "file",
    "filename",
    "flag",
    "format",
    "has",
    "hash",
    "hashed",
    "hours",
    "is",
    "isbn",
    "kind",
    "label",
    "len",
    "length",
    "manufacturer",
    "mask",
    "masked",
    "md",
    "minutes",
    "model",
    "months",
    "opened",
    "opt",
    "optin",
    "os",
    "path",
    "pattern",
    "percent",
    "policy",
    "price",
    "product",
    "rank",
    "rate",
    "redacted",
    "regex",
    "required",
    "retries",
    "revision",
    "scenario",
    "score",
    "sent",
    "seconds",
    "sha",
    "size",
    "status",
    "subject",
    "sum",
    "template",
    "timestamp",
    "title",
    "total",
    "ts",
    "type",
    "updated",
    "valid",
    "validated",
    "ver",
    "verified",
    "version",
];

/// Splits a path into lower-case words without accents: at separators, at changes of case, and between letters and digits.
pub(super) fn words_of(path: &[String]) -> Vec<String> {
    let mut words = Vec::new();
    for name in path {
        let chars: Vec<char> = name.chars().take(LONGEST_NAME).collect();
        let mut word = String::new();
        for (at, &c) in chars.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| chars.get(at)).copied();
            let after = chars.get(at + 1).copied();
            let begins = before.is_some_and(|before| {
                before.is_numeric() != c.is_numeric()
                    || (c.is_uppercase() && before.is_lowercase())
                    || (c.is_uppercase() && before.is_uppercase() && after.is_some_and(char::is_lowercase))
            });
            if begins || !c.is_alphanumeric() {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            if c.is_alphanumeric() {
                c.to_lowercase().for_each(|c| plain(c, &mut word));
            }
        }
        words.extend((!word.is_empty()).then_some(word));
    }
    words.split_off(words.len().saturating_sub(MOST_WORDS))
}

/// Adds a letter without its accent.
fn plain(c: char, to: &mut String) {
    match c {
        'á' | 'à' | 'â' | 'ã' | 'å' | 'ą' => to.push('a'),
        'ä' | 'æ' => to.push_str("ae"),
        'ç' | 'ć' | 'č' => to.push('c'),
        'é' | 'è' | 'ê' | 'ë' | 'ę' | 'ě' => to.push('e'),
        'í' | 'ì' | 'î' | 'ï' => to.push('i'),
        'ł' => to.push('l'),
        'ñ' | 'ń' => to.push('n'),
        'ó' | 'ò' | 'ô' | 'õ' | 'ø' => to.push('o'),
        'ö' | 'œ' => to.push_str("oe"),
        'ś' | 'š' => to.push('s'),
        'ß' => to.push_str("ss"),
        'ú' | 'ù' | 'û' => to.push('u'),
        'ü' => to.push_str("ue"),
        'ý' | 'ÿ' => to.push('y'),
        'ź' | 'ż' | 'ž' => to.push('z'),
        // What a lower-case letter is composed of besides a letter.
        '\u{300}'..='\u{36f}' => {}
        c => to.push(c),
    }
}

/// A name with everything in it that may be a phrase.
pub(super) struct NameWords {
    words: Vec<String>,
    /// Up to [`LONGEST_PHRASE`] words in a row, joined, with their places.
    parts: Vec<(String, usize, usize)>,
}

impl NameWords {
    /// The name of the column at this path.
    pub(super) fn of(path: &[String]) -> Self {
        let words = words_of(path);
        let mut parts = Vec::new();
        for from in 0..words.len() {
            let mut joined = String::new();
            for (to, word) in words.iter().enumerate().skip(from).take(LONGEST_PHRASE) {
                joined.push_str(word);
                parts.push((joined.clone(), from, to + 1));
            }
        }
        Self { words, parts }
    }

    /// How well the name fits the best of `phrases`, which are written without separators. `against` are further words that
    /// turn these phrases into something else.
    pub(super) fn fit(&self, phrases: &[&str], against: &[&str]) -> Option<Fit> {
        let is_phrase = |text: &str| phrases.contains(&text);
        let is_meant = |(joined, _, _): &&(String, usize, usize)| {
            is_phrase(joined) || joined.strip_suffix('s').is_some_and(is_phrase)
        };
        self.parts.iter().filter(is_meant).map(|(_, from, to)| self.fit_of(*from, *to, against)).max()
    }

    fn fit_of(&self, from: usize, to: usize, against: &[&str]) -> Fit {
        let (before, after) = (self.words.get(..from).unwrap_or_default(), self.words.get(to..).unwrap_or_default());
        let others = || before.iter().chain(after);
        let is_any = |word: &String, list: &[&str]| list.contains(&word.as_str());
        // `sent_at` is a time; `at` elsewhere may stand for anything.
        let is_time = after.last().is_some_and(|word| word == "at");
        if is_time || others().any(|word| is_any(word, NEGATING) || is_any(word, against)) {
            Fit::Negated
        } else if others().all(|word| is_any(word, NEUTRAL) || word.bytes().all(|byte| byte.is_ascii_digit())) {
            Fit::Full
        } else {
            Fit::Partial
        }
    }

    /// Whether any of its words is in the list.
    pub(super) fn has_any(&self, list: &[&str]) -> bool {
        self.words.iter().any(|word| list.contains(&word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str) -> Vec<String> {
        words_of(&[name.to_owned()])
    }

    #[test]
    fn names_are_split_at_case_digits_and_separators() {
        for (name, expected) in [
            ("MemberSSN", "member ssn"),
            ("SSNNumber", "ssn number"),
            ("zip_code2", "zip code 2"),
            ("Geburts-Datum", "geburts datum"),
            ("téléphone", "telephone"),
            ("straße", "strasse"),
            ("__x__", "x"),
            ("日付", "日付"),
            ("", ""),
        ] {
            assert_eq!(words(name).join(" "), expected, "{name}");
        }
        assert_eq!(words(&"aB".repeat(100_000)).len(), MOST_WORDS);
    }

    #[test]
    fn a_phrase_is_found_however_it_is_written_and_not_inside_words() {
        let fit = |name: &str, phrases: &[&str]| NameWords::of(&[name.to_owned()]).fit(phrases, &[]);
        for name in ["dateOfBirth", "DATE_OF_BIRTH", "dateofbirth", "patient.date-of-birth", "DateOfBirth2"] {
            assert_eq!(fit(name, &["dateofbirth"]), Some(Fit::Full), "{name}");
        }
        assert_eq!(fit("phone_model", &["phone"]), Some(Fit::Negated));
        assert_eq!(fit("warehouse_phone", &["phone"]), Some(Fit::Partial));
        assert_eq!(fit("emails", &["email"]), Some(Fit::Full));
        for name in ["telephoned", "scenario_code", "spin", "shipping"] {
            assert_eq!(fit(name, &["phone", "pin", "ip", "cod"]), None, "{name}");
        }
    }
}
