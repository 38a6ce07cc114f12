//! Tells by a whole value what it is: check digits, ranges and forms. Every check reads a value once, from the left to the
//! right, and values have a greatest length ([`super::LONGEST_VALUE`]).

use std::net::{IpAddr, Ipv4Addr};

/// The most digits of a number that is checked.
const MOST_DIGITS: usize = 24;

/// The digits of a number that is written with nothing but digits and separators.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits {
    digits: [u8; MOST_DIGITS],
    count: usize,
}

impl Digits {
    /// Reads a number whose digits may be separated by one of `separators` at a time.
    pub(super) fn read(text: &str, separators: &[u8]) -> Option<Self> {
        let mut read = Self { digits: [0; MOST_DIGITS], count: 0 };
        let mut was_separator = true;
        for byte in text.bytes() {
            if byte.is_ascii_digit() {
                *read.digits.get_mut(read.count)? = byte - b'0';
                read.count += 1;
                was_separator = false;
            } else if !was_separator && separators.contains(&byte) {
                was_separator = true;
            } else {
                return None;
            }
        }
        (read.count > 0 && !was_separator).then_some(read)
    }

    /// The digits.
    pub(super) fn all(&self) -> &[u8] {
        &self.digits[..self.count]
    }

    fn number(&self, from: usize, to: usize) -> u64 {
        let digits = self.all().get(from..to).unwrap_or_default();
        digits.iter().fold(0, |number, digit| number * 10 + u64::from(*digit))
    }

    /// Whether all digits are alike, as in fillers such as `000000000`.
    fn is_uniform(&self) -> bool {
        self.all().windows(2).all(|pair| pair[0] == pair[1])
    }
}

/// The number that exactly `count` digits make, perhaps with separators.
fn exactly(text: &str, count: usize) -> Option<Digits> {
    Digits::read(text, b" -./").filter(|digits| digits.count == count && !digits.is_uniform())
}

fn weighted(digits: &[u8], weights: &[u64]) -> u64 {
    digits.iter().zip(weights).map(|(digit, weight)| u64::from(*digit) * weight).sum()
}

/// Luhn's check (ISO/IEC 7812-1, annex B), after a sum carried in.
fn luhn(digits: &[u8], carried: u32) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| u32::from(if at % 2 == 1 { doubled(*digit) } else { *digit }))
        .sum();
    (sum + carried).is_multiple_of(10)
}

fn is_date(month: u64, day: u64) -> bool {
    let longest = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=longest).contains(&day)
}

/// A mail address: `local@domain.tld`.
pub(super) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let is_local = |c: char| c.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let Some((_, top)) = domain.rsplit_once('.') else { return false };
    (1..=64).contains(&local.len())
        && local.chars().all(is_local)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && top.chars().count() >= 2
        && top.chars().all(char::is_alphabetic)
        && domain.split('.').all(is_label)
}

/// A telephone number in any usual form: 7 to 15 digits.
pub(super) fn is_phone(text: &str) -> bool {
    let text = text.split_once(" ext").or_else(|| text.split_once(" x")).map_or(text, |(number, _)| number);
    let body = text.strip_prefix('+').unwrap_or(text);
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    (7..=15).contains(&digits)
        && body.starts_with(|c: char| c.is_ascii_digit() || c == '(')
        && body.bytes().all(|byte| byte.is_ascii_digit() || b" -./()".contains(&byte))
        && !is_iso_date(text)
}

/// A telephone number that is nothing else: international, or in the North American form with separators.
pub(super) fn is_written_phone(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('+') {
        return rest.starts_with(|c: char| ('1'..='9').contains(&c) || c == '(')
            && is_phone(text)
            && rest.bytes().filter(u8::is_ascii_digit).count() >= 8;
    }
    let text = text.strip_prefix("1-").or_else(|| text.strip_prefix("1 ")).unwrap_or(text);
    let bytes = text.as_bytes();
    let is_exchange = |three: &[u8]| matches!(three, [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9']);
    let is_line = |four: &[u8]| four.len() == 4 && four.iter().all(u8::is_ascii_digit);
    match bytes {
        [b'(', a, b, c, b')', b' ', d, e, f, b'-' | b' ', line @ ..] => {
            is_exchange(&[*a, *b, *c]) && is_exchange(&[*d, *e, *f]) && is_line(line)
        }
        [a, b, c, first @ (b'-' | b'.' | b' '), d, e, f, second, line @ ..] => {
            first == second && is_exchange(&[*a, *b, *c]) && is_exchange(&[*d, *e, *f]) && is_line(line)
        }
        _ => false,
    }
}

fn is_iso_date(text: &str) -> bool {
    matches!(text.as_bytes(), [_, _, _, _, b'-' | b'/' | b'.', _, _, b'-' | b'/' | b'.', _, _])
}

/// The year of a date, in the usual ways to write one.
pub(super) fn year_of(text: &str) -> Option<i32> {
    let (date, _) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let all = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u64>().ok())?;
    if date.len() == 8 && all(date).is_some() {
        let (year, month, day) = (all(date.get(..4)?)?, all(date.get(4..6)?)?, all(date.get(6..)?)?);
        return is_date(month, day).then(|| i32::try_from(year).ok())?;
    }
    let mut parts = date.split(['-', '/', '.']);
    let (first, second, third) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (year, one, other) = match (first.len(), third.len()) {
        (4, 1..=2) => (all(first)?, all(second)?, all(third)?),
        (1..=2, 4) => (all(third)?, all(first)?, all(second)?),
        _ => return None,
    };
    (is_date(one, other) || is_date(other, one)).then(|| i32::try_from(year).ok())?
}

/// A US social security number, or a taxpayer number in its form.
pub(super) fn is_ssn(text: &str) -> bool {
    let Some(digits) = exactly(text, 9) else { return false };
    let (area, group, serial) = (digits.number(0, 3), digits.number(3, 5), digits.number(5, 9));
    let is_taxpayer = (900..=999).contains(&area) && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99);
    (is_taxpayer || (1..=899).contains(&area) && area != 666) && group > 0 && serial > 0
}

/// A US social security number with its hyphens.
pub(super) fn is_written_ssn(text: &str) -> bool {
    matches!(text.as_bytes(), [_, _, _, b'-', _, _, b'-', _, _, _, _]) && is_ssn(text)
}

/// A number of a payment card: the length of its issuer's range, and Luhn's check.
pub(super) fn is_card_number(text: &str) -> bool {
    let Some(digits) = Digits::read(text, b" -") else { return false };
    let (two, four, six) = (digits.number(0, 2), digits.number(0, 4), digits.number(0, 6));
    let fits = match digits.count {
        13 => two / 10 == 4,
        14 => matches!(two, 36 | 38 | 39) || (300..=305).contains(&(four / 10)),
        15 => matches!(two, 34 | 37),
        16 => {
            two / 10 == 4
                || matches!(two, 51..=55 | 60 | 62 | 64 | 65)
                || (2221..=2720).contains(&four)
                || (3528..=3589).contains(&four)
                || (2200..=2204).contains(&four)
        }
        17 | 18 => two == 62 || matches!(two, 50 | 56..=58 | 63 | 67),
        19 => two / 10 == 4 || matches!(two, 62 | 50 | 56..=58 | 63 | 67) || (six / 100_000 == 6),
        _ => false,
    };
    fits && luhn(digits.all(), 0)
}

/// The magnetic stripe of a payment card (ISO/IEC 7813), track 1 or 2.
pub(super) fn is_track(text: &str) -> bool {
    let is_number = |text: &str| (12..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_month = |text: &str| {
        let two = text.get(2..4).and_then(|month| month.parse::<u8>().ok());
        text.bytes().take(4).all(|byte| byte.is_ascii_digit()) && two.is_some_and(|month| (1..=12).contains(&month))
    };
    if let Some(rest) = text.strip_prefix("%B").or_else(|| text.strip_prefix("%b")) {
        let mut parts = rest.split('^');
        return parts.next().is_some_and(is_number) && parts.next().is_some() && parts.next().is_some_and(is_month);
    }
    let rest = text.strip_prefix(';').unwrap_or(text);
    rest.split_once('=').is_some_and(|(number, rest)| is_number(number) && rest.len() >= 7 && is_month(rest))
}

/// Three or four digits.
pub(super) fn is_security_code(text: &str) -> bool {
    matches!(text.len(), 3 | 4) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Four to six digits, or an encrypted block of 16 hexadecimal ones.
pub(super) fn is_pin(text: &str) -> bool {
    let is_block = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_block || matches!(text.len(), 4..=6) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The end of a card: `MM/YY` or `MM/YYYY`.
pub(super) fn is_card_expiry(text: &str) -> bool {
    let Some((month, year)) = text.split_once(['/', '-']) else { return false };
    let month_of = |text: &str| text.parse::<u8>().ok().filter(|month| (1..=12).contains(month));
    matches!(month.len(), 1 | 2)
        && month_of(month).is_some()
        && matches!(year.len(), 2 | 4)
        && year.bytes().all(|byte| byte.is_ascii_digit())
}

/// The month or the year of a card's end.
pub(super) fn is_expiry_part(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|number| matches!(number, 1..=12 | 20..=60 | 2020..=2060))
}

/// The lengths of IBANs by country (ISO 13616 register).
const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BR", 29),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NL", 18),
    ("NO", 15),
    ("PK", 24),
    ("PL", 28),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("SA", 24),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VG", 24),
    ("XK", 20),
];

/// An IBAN: its country's length, and 1 modulo 97.
pub(super) fn is_iban(text: &str) -> bool {
    let mut compact = [0_u8; 34];
    let mut count = 0;
    for byte in text.bytes().filter(|byte| *byte != b' ') {
        match (compact.get_mut(count), byte.is_ascii_alphanumeric()) {
            (Some(place), true) => *place = byte.to_ascii_uppercase(),
            _ => return false,
        }
        count += 1;
    }
    let Some(compact) = compact.get(..count) else { return false };
    let Some((country, rest)) = compact.split_at_checked(2) else { return false };
    let length = IBAN_LENGTHS.iter().find(|(known, _)| known.as_bytes() == country).map(|(_, length)| *length);
    let Some((check, rest)) = rest.split_at_checked(2) else { return false };
    let mut remainder = 0_u32;
    for byte in rest.iter().chain(country).chain(check) {
        remainder = match byte {
            b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
            _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
        };
    }
    length == Some(count) && check.iter().all(u8::is_ascii_digit) && remainder == 1
}

/// A US provider's number (NPI): Luhn's check behind the prefix 80840.
pub(super) fn is_npi(text: &str) -> bool {
    // The prefix adds 24 to Luhn's sum.
    exactly(text, 10).is_some_and(|digits| matches!(digits.all().first(), Some(1 | 2)) && luhn(digits.all(), 24))
}

/// An address on the internet, of either version.
pub(super) fn is_ip(text: &str) -> bool {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    address.parse::<IpAddr>().is_ok()
}

/// An address that is no version number: IPv6, or IPv4 with a part that versions rarely reach.
pub(super) fn is_unlike_version(text: &str) -> bool {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => true,
        Ok(IpAddr::V4(address)) => reaches(address),
        Err(_) => false,
    }
}

fn reaches(address: Ipv4Addr) -> bool {
    address.octets().iter().any(|part| *part >= 100)
}

/// A postal code in the form of some country.
pub(super) fn is_postal_code(text: &str) -> bool {
    let form: String = text.chars().take(12).map(letter_or_digit).collect();
    matches!(
        form.as_str(),
        "9999"
            | "99999"
            | "999999"
            | "99999-9999"
            | "9999999"
            | "99-999"
            | "999-9999"
            | "999 99"
            | "99999-999"
            | "999-999"
            | "9999-999"
            | "A-9999"
            | "A-99999"
            | "AA-99999"
            | "AA-9999"
    ) || is_written_postal_code(text)
}

/// A postal code in a form that little else has: of Britain, Canada or the Netherlands.
pub(super) fn is_written_postal_code(text: &str) -> bool {
    let form: String = text.chars().take(12).map(letter_or_digit).collect();
    matches!(
        form.as_str(),
        "A9 9AA" | "A99 9AA" | "AA9 9AA" | "AA99 9AA" | "A9A 9AA" | "AA9A 9AA" | "A9A 9A9" | "9999 AA"
    )
}

fn letter_or_digit(c: char) -> char {
    match c {
        '0'..='9' => '9',
        'A'..='Z' => 'A',
        c => c,
    }
}

/// A diagnosis by ICD-10, with its point or without.
pub(super) fn is_icd(text: &str) -> bool {
    let (head, rest) = text.split_once('.').unwrap_or((text, ""));
    let (head, rest) =
        if rest.is_empty() && head.len() > 3 { head.split_at_checked(3).unwrap_or((head, "")) } else { (head, rest) };
    matches!(head.as_bytes(), [b'A'..=b'T' | b'V'..=b'Z', b'0'..=b'9', last] if last.is_ascii_digit() || matches!(last, b'A' | b'B'))
        && rest.len() <= 4
        && rest.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// A diagnosis by ICD-10 with its point.
pub(super) fn is_written_icd(text: &str) -> bool {
    text.as_bytes().get(3) == Some(&b'.') && text.len() > 4 && is_icd(text)
}

/// A mark by which a thing is told from others: letters and digits with few separators, and at least one digit.
pub(super) fn is_mark(text: &str) -> bool {
    (3..=40).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_/.".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && year_of(text).is_none_or(|_| !text.contains(['-', '/', '.']))
}

/// A person's gender, in a few languages or as ISO 5218 numbers it.
pub(super) fn is_gender(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "0",
        "1",
        "2",
        "9",
        "m",
        "f",
        "w",
        "x",
        "d",
        "u",
        "o",
        "male",
        "female",
        "other",
        "unknown",
        "nonbinary",
        "non-binary",
        "diverse",
        "divers",
        "männlich",
        "weiblich",
        "homme",
        "femme",
        "hombre",
        "mujer",
        "maschio",
        "femmina",
    ];
    WORDS.contains(&text.to_lowercase().as_str())
}

/// An age in years.
pub(super) fn is_age(text: &str) -> bool {
    text.parse::<u8>().is_ok_and(|years| years <= 120)
}

/// The first line of an address: words, and a house's number.
pub(super) fn is_street(text: &str) -> bool {
    let words = text.split_whitespace();
    let is_house = |word: &str| {
        let word = word.trim_end_matches(',');
        word.len() <= 6
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.bytes().any(|byte| byte.is_ascii_digit())
    };
    let houses = words.clone().filter(|word| is_house(word)).count();
    let letters = words.filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() >= 3).count();
    (text.starts_with("P.O. Box") || text.starts_with("PO Box") || letters >= 1) && (1..=3).contains(&houses)
}

/// A secret that says what it is: a JWT, a key in PEM, or a key of a cloud.
pub(super) fn is_secret(text: &str) -> bool {
    (text.starts_with("eyJ") && text.matches('.').count() == 2)
        || text.starts_with("-----BEGIN ")
        || text.len() == 20 && (text.starts_with("AKIA") || text.starts_with("ASIA"))
        || ["ghp_", "sk_live_", "xoxb-", "glpat-"].iter().any(|prefix| text.starts_with(prefix))
}

/// A vehicle's number (VIN): 17 characters, with the check digit of ISO 3779 as North America uses it.
pub(super) fn is_vin(text: &str) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    if text.len() != 17 {
        return false;
    }
    let mut sum = 0;
    for (byte, weight) in text.bytes().zip(WEIGHTS) {
        let value = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            b'A'..=b'H' => u32::from(byte - b'A') + 1,
            b'J'..=b'N' => u32::from(byte - b'J') + 1,
            b'P' => 7,
            b'R' => 9,
            b'S'..=b'Z' => u32::from(byte - b'S') + 2,
            _ => return false,
        };
        sum += value * weight;
    }
    let check = text.as_bytes().get(8).copied();
    check
        == Some(match sum % 11 {
            10 => b'X',
            rest => b'0' + u8::try_from(rest).unwrap_or_default(),
        })
}

/// A German tax number of a person (11 digits, ISO 7064 mod 11,10).
pub(super) fn is_german_tax_id(text: &str) -> bool {
    let Some(digits) = exactly(text, 11) else { return false };
    let all = digits.all();
    let Some((check, body)) = all.split_last() else { return false };
    let mut counts = [0_u8; 10];
    body.iter().for_each(|digit| counts[usize::from(*digit)] += 1);
    // One digit stands twice or three times, and no other more than once.
    let repeated = counts.iter().filter(|count| **count > 1).count();
    let mut product = 10_u32;
    for digit in body {
        let sum = (u32::from(*digit) + product) % 10;
        product = (if sum == 0 { 10 } else { sum }) * 2 % 11;
    }
    all.first() != Some(&0)
        && repeated == 1
        && counts.iter().all(|count| *count <= 3)
        && (11 - product) % 10 == u32::from(*check)
}

/// A French social security number (NIR): 13 digits, and 97 less their remainder.
pub(super) fn is_french_nir(text: &str) -> bool {
    let Some(digits) = exactly(text, 15) else { return false };
    matches!(digits.all().first(), Some(1 | 2))
        && matches!(digits.number(3, 5), 1..=12 | 20..=42 | 50..=99)
        && 97 - digits.number(0, 13) % 97 == digits.number(13, 15)
}

/// A Spanish identity number (DNI or NIE): its letter is the rest modulo 23.
pub(super) fn is_spanish_dni(text: &str) -> bool {
    const LETTERS: &[u8] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let compact: Vec<u8> = text.bytes().filter(|byte| !b" -.".contains(byte)).take(10).collect();
    let [first, middle @ .., letter] = compact.as_slice() else { return false };
    let first = match first {
        b'X' | b'Y' | b'Z' => first - b'X',
        b'0'..=b'9' => first - b'0',
        _ => return false,
    };
    if middle.len() != 7 || !middle.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = middle.iter().fold(usize::from(first), |number, byte| number * 10 + usize::from(byte - b'0'));
    LETTERS.get(number % 23) == Some(&letter.to_ascii_uppercase())
}

/// An Italian tax code: 16 characters, the last one a check.
pub(super) fn is_italian_codice(text: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let bytes = text.as_bytes();
    if bytes.len() != 16 {
        return false;
    }
    let mut sum = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let is_letter = matches!(at, 0..=5 | 8 | 11 | 15);
        let value = match byte.to_ascii_uppercase() {
            digit @ b'0'..=b'9' if !is_letter => u32::from(digit - b'0'),
            letter @ b'A'..=b'Z' if is_letter || b"LMNPQRSTUV".contains(&letter) => u32::from(letter - b'A'),
            _ => return false,
        };
        if at == 15 {
            return sum % 26 == value;
        }
        sum += if at % 2 == 0 { ODD[value as usize % 26] } else { value };
    }
    false
}

/// A Dutch citizen's number (BSN): nine digits that pass the test of eleven.
pub(super) fn is_dutch_bsn(text: &str) -> bool {
    let Some(digits) = exactly(text, 9) else { return false };
    let Some((last, body)) = digits.all().split_last() else { return false };
    weighted(body, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11 == u64::from(*last) % 11 && digits.number(0, 9) > 0
}

/// A number of the British health service (NHS): ten digits modulo 11.
pub(super) fn is_nhs_number(text: &str) -> bool {
    let Some(digits) = exactly(text, 10) else { return false };
    weighted(digits.all(), &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// A Polish citizen's number (PESEL): a date of birth, and weighted digits modulo 10.
pub(super) fn is_polish_pesel(text: &str) -> bool {
    let Some(digits) = exactly(text, 11) else { return false };
    let month = digits.number(2, 4) % 20;
    is_date(month, digits.number(4, 6)) && weighted(digits.all(), &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
}

/// A Belgian citizen's number: a date of birth, and 97 less the remainder.
pub(super) fn is_belgian_number(text: &str) -> bool {
    let Some(digits) = exactly(text, 11) else { return false };
    let (body, check) = (digits.number(0, 9), digits.number(9, 11));
    let fits = |body: u64| 97 - body % 97 == check;
    (is_date(digits.number(2, 4), digits.number(4, 6))) && (fits(body) || fits(2_000_000_000 + body))
}

/// A Swedish citizen's number: a date of birth, and Luhn's check.
pub(super) fn is_swedish_number(text: &str) -> bool {
    let Some(digits) = Digits::read(text, b"-+").filter(|digits| matches!(digits.count, 10 | 12)) else { return false };
    let all = digits.all();
    let ten = &all[all.len() - 10..];
    let day = u64::from(ten[4]) * 10 + u64::from(ten[5]);
    let is_century = all.len() == 10 || matches!(digits.number(0, 2), 18..=20);
    is_century
        && is_date(u64::from(ten[2]) * 10 + u64::from(ten[3]), if day > 60 { day - 60 } else { day })
        && luhn(ten, 0)
}

/// A Finnish citizen's number: a date of birth, a century's sign, and a letter modulo 31.
pub(super) fn is_finnish_number(text: &str) -> bool {
    const LETTERS: &[u8] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let bytes = text.as_bytes();
    let &[d1, d2, m1, m2, y1, y2, sign, a, b, c, letter] = bytes else { return false };
    let digits = [d1, d2, m1, m2, y1, y2, a, b, c];
    if !digits.iter().all(u8::is_ascii_digit) || !b"+-ABCDEFYXWVU".contains(&sign) {
        return false;
    }
    let number = digits.iter().fold(0_usize, |number, byte| number * 10 + usize::from(byte - b'0'));
    let two = |a: u8, b: u8| u64::from(a - b'0') * 10 + u64::from(b - b'0');
    is_date(two(m1, m2), two(d1, d2)) && LETTERS.get(number % 31) == Some(&letter)
}

/// A Brazilian taxpayer's number (CPF): two check digits modulo 11.
pub(super) fn is_brazilian_cpf(text: &str) -> bool {
    let Some(digits) = exactly(text, 11) else { return false };
    let all = digits.all();
    let check = |count: u64| {
        let weights: Vec<u64> = (2..=count + 1).rev().collect();
        (weighted(all, &weights) * 10 % 11) % 10
    };
    check(9) == u64::from(all[9]) && check(10) == u64::from(all[10])
}

/// An Indian resident's number (Aadhaar): twelve digits with Verhoeff's check.
pub(super) fn is_aadhaar(text: &str) -> bool {
    let Some(digits) = exactly(text, 12) else { return false };
    digits.all().first().is_some_and(|first| *first > 1) && verhoeff(digits.all())
}

fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTED: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    // The group of a pentagon's symmetries.
    let multiply = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let checked = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |so_far, (at, digit)| multiply(so_far, PERMUTED[at % 8][usize::from(*digit)]));
    checked == 0
}

/// A Chinese resident's number: a date of birth, and a check modulo 11.
pub(super) fn is_chinese_number(text: &str) -> bool {
    let Some((body, check)) = text.split_at_checked(17) else { return false };
    let Some(digits) = exactly(body, 17).filter(|_| check.len() == 1) else { return false };
    let sum = weighted(digits.all(), &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]) % 11;
    let expected = b"10X98765432".get(usize::try_from(sum).unwrap_or_default());
    (1900..=2035).contains(&digits.number(6, 10))
        && is_date(digits.number(10, 12), digits.number(12, 14))
        && expected == check.to_ascii_uppercase().as_bytes().first()
}

/// A South African citizen's number: a date of birth, and Luhn's check.
pub(super) fn is_south_african_number(text: &str) -> bool {
    let Some(digits) = exactly(text, 13) else { return false };
    is_date(digits.number(2, 4), digits.number(4, 6)) && digits.number(10, 11) < 3 && luhn(digits.all(), 0)
}

/// A Swiss social security number (AHV): an article's number with the prefix 756.
pub(super) fn is_swiss_ahv(text: &str) -> bool {
    let Some(digits) = exactly(text, 13) else { return false };
    digits.number(0, 3) == 756 && weighted(digits.all(), &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10)
}

/// A Canadian social insurance number: nine digits with Luhn's check.
pub(super) fn is_canadian_sin(text: &str) -> bool {
    exactly(text, 9).is_some_and(|digits| luhn(digits.all(), 0) && !matches!(digits.all().first(), Some(0 | 8)))
}

/// A British insurance number (NINO), which has no check digit.
pub(super) fn is_british_nino(text: &str) -> bool {
    let compact: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').take(10).collect();
    match compact.as_slice() {
        [a, b, digits @ .., last] => {
            digits.len() == 6
                && digits.iter().all(u8::is_ascii_digit)
                && matches!(last, b'A'..=b'D')
                && a.is_ascii_uppercase()
                && b.is_ascii_uppercase()
                && !b"DFIQUV".contains(a)
                && !b"DFIOQUV".contains(b)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_examples_pass_and_altered_ones_do_not() {
        type Check = fn(&str) -> bool;
        let checks: [(Check, &str, &str); 22] = [
            (is_card_number, "4111 1111 1111 1111", "4111 1111 1111 1112"),
            (is_card_number, "378282246310005", "378282246310006"),
            (is_iban, "DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 01"),
            (is_iban, "GB82WEST12345698765432", "GB82WEST1234569876543"),
            (is_npi, "1234567893", "1234567890"),
            (is_ssn, "123-45-6789", "666-45-6789"),
            (is_german_tax_id, "86095742719", "86095742718"),
            (is_french_nir, "255081416802538", "255081416802539"),
            (is_spanish_dni, "12345678Z", "12345678A"),
            (is_spanish_dni, "X1234567L", "X1234567M"),
            (is_italian_codice, "RSSMRA85T10A562S", "RSSMRA85T10A562T"),
            (is_dutch_bsn, "111222333", "111222334"),
            (is_nhs_number, "943 476 5919", "943 476 5918"),
            (is_polish_pesel, "44051401359", "44051401358"),
            (is_belgian_number, "85.07.30-033.28", "85.07.30-033.29"),
            (is_swedish_number, "811228-9874", "811228-9873"),
            (is_finnish_number, "131052-308T", "131052-308U"),
            (is_brazilian_cpf, "529.982.247-25", "529.982.247-26"),
            (is_chinese_number, "11010519491231002X", "110105194912310021"),
            (is_south_african_number, "8001015009087", "8001015009086"),
            (is_swiss_ahv, "756.9217.0769.85", "756.9217.0769.84"),
            (is_vin, "1M8GDM9AXKP042788", "1M8GDM9A1KP042788"),
        ];
        for (index, (check, right, wrong)) in checks.into_iter().enumerate() {
            assert!(check(right), "{index}: {right}");
            assert!(!check(wrong), "{index}: {wrong}");
        }
        assert!(is_aadhaar("234123412346") && !is_aadhaar("234123412347"));
        assert!(is_canadian_sin("130 692 544") && !is_canadian_sin("130 692 545"));
        assert!(
            is_track("%B4111111111111111^DOE/JANE^29121011000000000000?") && is_track(";4111111111111111=29121011000?")
        );
    }

    #[test]
    fn forms_are_told_from_what_looks_like_them() {
        assert!(is_email("a.b+c@example.co.uk") && !is_email("<a@example.com>") && !is_email("a@b") && !is_email("@"));
        assert!(
            is_written_phone("+49 30 901820") && is_written_phone("(212) 555-0100") && is_written_phone("212-555-0100")
        );
        assert!(!is_written_phone("2024-01-02") && !is_written_phone("123-45-6789") && !is_phone("1.2.3"));
        assert!(is_ip("2001:db8::1") && !is_ip("12:30:45") && !is_ip("1.2.3") && !is_unlike_version("1.2.3.4"));
        assert!(is_postal_code("SW1A 1AA") && is_postal_code("12345-6789") && !is_postal_code("archive.zip"));
        assert!(is_icd("E11.9") && is_icd("E119") && !is_icd("SKU-1") && !is_written_icd("E119"));
        assert_eq!(
            (year_of("1985-02-28"), year_of("28.02.1985"), year_of("19.99"), year_of("1985-13-45")),
            (Some(1985), Some(1985), None, None)
        );
    }

    #[test]
    fn any_text_is_taken() {
        let texts = [
            "",
            " ",
            "-",
            "@",
            "@.",
            "%B",
            "%B^^",
            ";=",
            "+",
            "(",
            "((((",
            "é",
            "日本",
            "\u{0}",
            "9".repeat(500).as_str(),
            "ééééééééééééééééé",
            "A.",
            "X",
        ]
        .map(str::to_owned);
        for text in &texts {
            for check in [
                is_email,
                is_phone,
                is_written_phone,
                is_ssn,
                is_card_number,
                is_track,
                is_iban,
                is_npi,
                is_ip,
                is_postal_code,
                is_icd,
                is_mark,
                is_street,
                is_vin,
                is_german_tax_id,
                is_french_nir,
                is_spanish_dni,
                is_italian_codice,
                is_dutch_bsn,
                is_nhs_number,
                is_polish_pesel,
                is_belgian_number,
                is_swedish_number,
                is_finnish_number,
                is_brazilian_cpf,
                is_aadhaar,
                is_chinese_number,
                is_south_african_number,
                is_swiss_ahv,
                is_canadian_sin,
                is_british_nino,
                is_card_expiry,
                is_secret,
                is_unlike_version,
                is_written_icd,
            ] as [fn(&str) -> bool; 35]
            {
                check(text);
            }
            year_of(text);
        }
    }
}
