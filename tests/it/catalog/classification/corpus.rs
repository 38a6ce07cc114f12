//! Columns with known classes, many of them traps: made by rules, always alike.
//!
//! Check digits are made here by rules of their own, not by the program's checks. A column that is `held_out` was written
//! before the detectors were tuned, and none was changed because of it.

use weir::domain::catalog::{
    classes::{Sample, SampledColumn, ValueKind},
    column::Class,
};

/// The number of values of each column.
const ROWS: usize = 80;

/// A column of the corpus.
pub struct Labelled {
    /// The table that it stands in.
    pub table: &'static str,
    /// The column with its values.
    pub column: SampledColumn,
    /// The class that a person would give it; `None` for one that a scan should not propose.
    pub class: Option<Class>,
    /// Whether the detectors were not tuned on it.
    pub held_out: bool,
}

/// Numbers that look random and are always alike.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 >> 33) ^ (self.0 >> 17);
        mixed % below
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.next(10) as u8)).collect()
    }

    fn of<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.next(items.len() as u64) as usize]
    }

    fn hex(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b"0123456789abcdef"[self.next(16) as usize])).collect()
    }
}

fn luhn_digit(body: &str, carried: u32) -> char {
    let sum: u32 = body
        .chars()
        .rev()
        .enumerate()
        .map(|(at, c)| {
            let digit = c.to_digit(10).unwrap();
            if at % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
        })
        .sum();
    char::from_digit((10 - (sum + carried) % 10) % 10, 10).unwrap()
}

fn with_luhn(body: String) -> String {
    let digit = luhn_digit(&body, 0);
    format!("{body}{digit}")
}

fn card(n: &mut Numbers) -> String {
    let (head, length) =
        [("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("37", 15), ("6011", 16)][n.next(6) as usize];
    let body = format!("{head}{}", n.digits(length - 1 - head.len()));
    with_luhn(body)
}

fn iban(n: &mut Numbers) -> String {
    let (country, body) = match n.next(3) {
        0 => ("DE", n.digits(18)),
        1 => ("NL", format!("{}{}", n.of(&["INGB", "RABO", "ABNA"]), n.digits(10))),
        _ => ("FR", n.digits(23)),
    };
    let numbers: String = format!("{body}{country}00").chars().map(|c| c.to_digit(36).unwrap().to_string()).collect();
    let rest = numbers.chars().fold(0, |rest, c| (rest * 10 + c.to_digit(10).unwrap()) % 97);
    format!("{country}{:02}{body}", 98 - rest)
}

fn npi(n: &mut Numbers) -> String {
    let body = format!("{}{}", 1 + n.next(2), n.digits(8));
    let digit = luhn_digit(&body, 24);
    format!("{body}{digit}")
}

fn ssn(n: &mut Numbers, separator: &str) -> String {
    let area = 1 + n.next(665);
    format!("{area:03}{separator}{:02}{separator}{:04}", 1 + n.next(99), 1 + n.next(9_999))
}

fn remainder(digits: &str, weights: &[u32]) -> u32 {
    digits.chars().zip(weights).map(|(c, weight)| c.to_digit(10).unwrap() * weight).sum()
}

fn bsn(n: &mut Numbers) -> String {
    loop {
        let body = n.digits(8);
        let rest = remainder(&body, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
        if rest < 10 && !body.starts_with("00") {
            return format!("{body}{rest}");
        }
    }
}

fn modulo_11(n: &mut Numbers) -> Option<String> {
    let body = n.digits(9);
    let check = 11 - remainder(&body, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    match check {
        11 => Some(format!("{body}0")),
        10 => None,
        check => Some(format!("{body}{check}")),
    }
}

fn nhs(n: &mut Numbers) -> String {
    loop {
        if let Some(number) = modulo_11(n) {
            return format!("{} {} {}", &number[..3], &number[3..6], &number[6..]);
        }
    }
}

fn isbn10(n: &mut Numbers) -> String {
    let body = n.digits(9);
    let check = (11 - remainder(&body, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    format!("{body}{}", if check == 10 { "X".to_owned() } else { check.to_string() })
}

fn ean(n: &mut Numbers, head: &str) -> String {
    let body = format!("{head}{}", n.digits(12 - head.len()));
    let sum = remainder(&body, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3]);
    format!("{body}{}", (10 - sum % 10) % 10)
}

fn pesel(n: &mut Numbers) -> String {
    let body = format!("{:02}{:02}{:02}{}", 40 + n.next(60), 1 + n.next(12), 1 + n.next(28), n.digits(4));
    let sum = remainder(&body, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]);
    format!("{body}{}", (10 - sum % 10) % 10)
}

fn cpf(n: &mut Numbers) -> String {
    let body = n.digits(9);
    let one = remainder(&body, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) * 10 % 11 % 10;
    let body = format!("{body}{one}");
    let two = remainder(&body, &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) * 10 % 11 % 10;
    format!("{}.{}.{}-{}{two}", &body[..3], &body[3..6], &body[6..9], one)
}

fn dni(n: &mut Numbers) -> String {
    let number = n.next(99_999_999);
    format!("{number:08}{}", char::from(b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize]))
}

fn nir(n: &mut Numbers) -> String {
    let body = format!(
        "{}{:02}{:02}{:02}{:03}{:03}",
        1 + n.next(2),
        n.next(100),
        1 + n.next(12),
        1 + n.next(95),
        1 + n.next(900),
        1 + n.next(900)
    );
    format!("{body}{:02}", 97 - body.parse::<u64>().unwrap() % 97)
}

fn german_tax_id(n: &mut Numbers) -> String {
    // Ten digits of which one stands twice.
    let mut body: Vec<u32> = (0..10).collect();
    for at in (1..10).rev() {
        body.swap(at, n.next(at as u64 + 1) as usize);
    }
    body[9] = body[0];
    if body[0] == 0 {
        return german_tax_id(n);
    }
    let mut product = 10;
    for digit in &body {
        let sum = (digit + product) % 10;
        product = if sum == 0 { 10 } else { sum } * 2 % 11;
    }
    let check = (11 - product) % 10;
    body.iter().map(|digit| char::from_digit(*digit, 10).unwrap()).chain(char::from_digit(check, 10)).collect()
}

fn hetu(n: &mut Numbers) -> String {
    let birth = format!("{:02}{:02}{:02}", 1 + n.next(28), 1 + n.next(12), n.next(100));
    let number = format!("{:03}", 2 + n.next(890));
    let rest = format!("{birth}{number}").parse::<usize>().unwrap() % 31;
    format!("{birth}-{number}{}", char::from(b"0123456789ABCDEFHJKLMNPRSTUVWXY"[rest]))
}

fn personnummer(n: &mut Numbers) -> String {
    let birth = format!("{:02}{:02}{:02}", n.next(100), 1 + n.next(12), 1 + n.next(28));
    let body = format!("{birth}{}", n.digits(3));
    let number = with_luhn(body);
    format!("{}-{}", &number[..6], &number[6..])
}

const GIVEN: &[&str] = &[
    "Anna",
    "José",
    "Mohammed",
    "Priya",
    "Jürgen",
    "Li",
    "Grace",
    "Thandiwe",
    "Oluwaseun",
    "Katarzyna",
    "Marek",
    "Chloë",
    "Hiroshi",
    "Fatima",
    "Sean",
    "Ingrid",
    "Dmitri",
    "Aaliyah",
    "Brandon",
    "Noémie",
    "Emma",
    "Michael",
    "Sarah",
    "Carlos",
    "Wei",
    "David",
];
const FAMILY: &[&str] = &[
    "Smith",
    "García",
    "Müller",
    "Nguyen",
    "O'Brien",
    "Kowalska",
    "Okafor",
    "Sato",
    "Johansson",
    "Dubois",
    "Rossi",
    "Patel",
    "Novák",
    "van Dijk",
    "Silva",
    "Haddad",
    "Johnson",
    "Weber",
    "Martin",
    "Chen",
    "Kaya",
    "Brown",
    "Mbeki",
    "Lindqvist",
];
const COMPANIES: &[&str] = &[
    "Contoso Ltd",
    "Globex Corporation",
    "Initech",
    "Umbrella Health Inc",
    "Acme Re",
    "Stark Industries",
    "Wayne Enterprises",
    "Nordwind Traders",
    "Fabrikam GmbH",
    "Soylent Corp",
    "Tailspin Toys",
    "Hooli",
];
const CITIES: &[&str] = &[
    "Berlin",
    "Austin",
    "Charlotte",
    "Paris",
    "Madison",
    "Jackson",
    "München",
    "São Paulo",
    "Springfield",
    "Lincoln",
    "Florence",
    "Houston",
    "Nairobi",
    "Kyoto",
    "Gent",
    "Toledo",
];
const STREETS: &[&str] =
    &["Main Street", "Oak Avenue", "Elm St", "Hauptstraße", "Rue de la Paix", "5th Avenue", "Calle Mayor"];

fn text(text: impl Into<String>) -> Sample {
    Sample::Text(text.into())
}

fn email(n: &mut Numbers) -> String {
    let (given, family) = (n.of(GIVEN).to_lowercase(), n.of(&["smith", "garcia", "chen", "okafor", "weber"]));
    format!("{given}.{family}{}@{}", n.next(90), n.of(&["example.com", "mail.example.org", "firma.example.de"]))
}

fn us_phone(n: &mut Numbers) -> String {
    let (area, exchange) = (200 + n.next(799), 200 + n.next(799));
    match n.next(3) {
        0 => format!("({area}) {exchange}-{}", n.digits(4)),
        1 => format!("{area}-{exchange}-{}", n.digits(4)),
        _ => format!("+1 {area} {exchange} {}", n.digits(4)),
    }
}

fn date(n: &mut Numbers, from: u64, years: u64) -> String {
    format!("{:04}-{:02}-{:02}", from + n.next(years), 1 + n.next(12), 1 + n.next(28))
}

fn icd(n: &mut Numbers) -> String {
    let head = format!("{}{:02}", n.of(&["A", "C", "E", "F", "I", "J", "K", "M", "S", "Z"]), n.next(100));
    if n.next(10) < 8 { format!("{head}.{}", n.digits(1)) } else { head }
}

fn uuid(n: &mut Numbers) -> String {
    format!("{}-{}-4{}-a{}-{}", n.hex(8), n.hex(4), n.hex(3), n.hex(3), n.hex(12))
}

/// Every column, those with classes and the traps.
pub fn columns() -> Vec<Labelled> {
    use Class::{Confidential, Pci, PciSad, Phi, Pii};
    use ValueKind::{Fraction, Opaque, Text, Time, Whole};
    let mut numbers = Numbers(42);
    let n = &mut numbers;
    let mut all = Vec::new();
    let mut add = |held_out: bool,
                   table: &'static str,
                   path: &str,
                   class: Option<Class>,
                   kind: ValueKind,
                   n: &mut Numbers,
                   value: &dyn Fn(&mut Numbers, usize) -> Sample| {
        let values = (0..ROWS).map(|row| value(n, row)).collect();
        let path = path.split('.').map(str::to_owned).collect();
        all.push(Labelled { table, column: SampledColumn { path, kind, values }, class, held_out });
    };

    // Tuned on: what has a class.
    add(false, "crm", "email", Some(Pii), Text, n, &|n, _| text(email(n)));
    add(false, "crm", "contactEmailAddress", Some(Pii), Text, n, &|n, row| {
        text(if row % 9 == 0 { "unknown".into() } else { email(n) })
    });
    add(false, "crm", "c17", Some(Pii), Text, n, &|n, _| text(email(n)));
    add(false, "crm", "phone_number", Some(Pii), Text, n, &|n, _| text(us_phone(n)));
    add(false, "crm", "telefon", Some(Pii), Text, n, &|n, _| text(format!("0{} {}", n.digits(2), n.digits(7))));
    add(false, "crm", "mobile", Some(Pii), Whole, n, &|n, _| {
        Sample::Whole((2_000_000_000 + n.next(7_999_999_999)) as i64)
    });
    add(false, "crm", "first_name", Some(Pii), Text, n, &|n, _| text(n.of(GIVEN)));
    add(false, "crm", "LastName", Some(Pii), Text, n, &|n, _| text(n.of(FAMILY)));
    add(false, "crm", "Nachname", Some(Pii), Text, n, &|n, _| text(n.of(FAMILY)));
    add(false, "crm", "name", Some(Pii), Text, n, &|n, _| text(format!("{} {}", n.of(GIVEN), n.of(FAMILY))));
    add(false, "crm", "street_address", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", 1 + n.next(999), n.of(STREETS)))
    });
    add(false, "crm", "zip", Some(Pii), Text, n, &|n, _| text(n.digits(5)));
    add(false, "crm", "postcode", Some(Pii), Text, n, &|n, _| {
        text(format!("{}{} {}{}", n.of(&["SW", "M", "LS", "B"]), 1 + n.next(20), n.next(10), n.of(&["AA", "BD", "QT"])))
    });
    add(false, "crm", "PLZ", Some(Pii), Whole, n, &|n, _| Sample::Whole((10_000 + n.next(80_000)) as i64));
    add(false, "crm", "dateOfBirth", Some(Pii), Time, n, &|n, _| Sample::Year((1930 + n.next(80)) as i32));
    add(false, "crm", "geburtsdatum", Some(Pii), Text, n, &|n, _| {
        text(format!("{:02}.{:02}.{}", 1 + n.next(28), 1 + n.next(12), 1940 + n.next(60)))
    });
    add(false, "crm", "gender", Some(Pii), Text, n, &|n, _| text(n.of(&["m", "f", "x"])));
    add(false, "crm", "age", Some(Pii), Whole, n, &|n, _| Sample::Whole(n.next(95) as i64));
    add(false, "crm", "customer_id", Some(Pii), Whole, n, &|n, _| Sample::Whole((100_000 + n.next(900_000)) as i64));
    add(false, "crm", "username", Some(Pii), Text, n, &|n, _| {
        text(format!("{}{}", n.of(GIVEN).to_lowercase(), n.next(99)))
    });
    add(false, "web", "client_ip", Some(Pii), Text, n, &|n, _| {
        text(format!("{}.{}.{}.{}", 1 + n.next(222), n.next(256), n.next(256), n.next(256)))
    });
    add(false, "web", "remote_addr", Some(Pii), Text, n, &|n, _| text(format!("2001:db8:{}::{}", n.hex(4), n.hex(3))));
    add(false, "web", "request.peer", Some(Pii), Text, n, &|n, _| {
        text(format!("{}.{}.{}.{}", 1 + n.next(222), n.next(256), n.next(256), n.next(256)))
    });
    add(false, "hr", "ssn", Some(Pii), Text, n, &|n, _| text(ssn(n, "-")));
    add(false, "hr", "employee.socialSecurityNumber", Some(Pii), Text, n, &|n, _| text(ssn(n, "")));
    add(false, "hr", "col_9", Some(Pii), Text, n, &|n, _| text(ssn(n, "-")));
    add(false, "hr", "salary", Some(Confidential), Fraction, n, &|_, _| Sample::Opaque);
    add(false, "hr", "employee_number", Some(Pii), Text, n, &|n, _| text(format!("E{}", n.digits(5))));
    add(false, "hr", "steuer_id", Some(Pii), Text, n, &|n, _| text(german_tax_id(n)));
    add(false, "hr", "numero_insee", Some(Pii), Text, n, &|n, _| text(nir(n)));
    add(false, "hr", "dni", Some(Pii), Text, n, &|n, _| text(dni(n)));
    add(false, "hr", "bsn", Some(Pii), Text, n, &|n, _| text(bsn(n)));
    add(false, "hr", "field_3", Some(Pii), Text, n, &|n, _| text(cpf(n)));
    add(false, "hr", "passport_no", Some(Pii), Text, n, &|n, _| text(format!("C{}", n.digits(8))));
    add(false, "bank", "iban", Some(Pii), Text, n, &|n, _| text(iban(n)));
    add(false, "bank", "x1", Some(Pii), Text, n, &|n, _| text(iban(n)));
    add(false, "shop", "card_number", Some(Pci), Text, n, &|n, _| text(card(n)));
    add(false, "shop", "payload", Some(Pci), Text, n, &|n, _| text(card(n)));
    add(false, "shop", "ccnum", Some(Pci), Whole, n, &|n, _| Sample::Whole(card(n).parse().unwrap()));
    add(false, "shop", "card_expiry", Some(Pci), Text, n, &|n, _| {
        text(format!("{:02}/{:02}", 1 + n.next(12), 24 + n.next(8)))
    });
    add(false, "shop", "cvv", Some(PciSad), Text, n, &|n, _| text(n.digits(3)));
    add(false, "shop", "cardSecurityCode", Some(PciSad), Whole, n, &|n, _| Sample::Whole((100 + n.next(900)) as i64));
    add(false, "shop", "track_data", Some(PciSad), Text, n, &|n, _| {
        text(format!("%B{}^DOE/J^2912101{}?", card(n), n.digits(10)))
    });
    add(false, "shop", "swipe", Some(PciSad), Text, n, &|n, _| text(format!(";{}=2912101{}?", card(n), n.digits(8))));
    add(false, "shop", "pin", Some(PciSad), Text, n, &|n, _| text(n.digits(4)));
    add(false, "clinic", "mrn", Some(Phi), Text, n, &|n, _| text(format!("MRN{}", n.digits(7))));
    add(false, "clinic", "patient_id", Some(Phi), Whole, n, &|n, _| Sample::Whole(n.next(90_000) as i64));
    add(false, "clinic", "diagnosis_code", Some(Phi), Text, n, &|n, _| text(icd(n)));
    add(false, "clinic", "medication", Some(Phi), Text, n, &|n, _| {
        text(n.of(&["metformin", "lisinopril", "ibuprofen"]))
    });
    add(false, "clinic", "patient.birthDate", Some(Phi), Text, n, &|n, _| text(date(n, 1930, 80)));
    add(false, "clinic", "patient.zip", Some(Phi), Text, n, &|n, _| text(n.digits(5)));
    add(false, "clinic", "provider_npi", Some(Pii), Text, n, &|n, _| text(npi(n)));
    add(false, "clinic", "nhs_number", Some(Phi), Text, n, &|n, _| text(nhs(n)));
    add(false, "directory", "npi", Some(Pii), Whole, n, &|n, _| Sample::Whole(npi(n).parse().unwrap()));
    add(false, "directory", "provider_name", Some(Pii), Text, n, &|n, _| {
        text(format!("Dr. {} {}", n.of(GIVEN), n.of(FAMILY)))
    });
    add(false, "ops", "password", Some(Confidential), Text, n, &|n, _| text(n.hex(12)));
    add(false, "ops", "session", Some(Confidential), Text, n, &|n, _| {
        text(format!("eyJ{}.{}.{}", n.hex(20), n.hex(20), n.hex(20)))
    });

    // Tuned on: traps.
    add(false, "orders", "order_number", None, Text, n, &|n, _| text(format!("4{}", n.digits(15))));
    add(false, "orders", "order_id", None, Whole, n, &|n, row| {
        Sample::Whole(4_000_000_000_000_000 + row as i64 * 17 + n.next(9) as i64)
    });
    add(false, "orders", "scenario_code", None, Text, n, &|n, _| text(format!("S-{}", n.digits(3))));
    add(false, "orders", "zip_file", None, Text, n, &|n, _| text(format!("export-{}.zip", n.digits(4))));
    add(false, "orders", "email_hash", None, Text, n, &|n, _| text(n.hex(64)));
    add(false, "orders", "checksum", None, Text, n, &|n, _| text(n.hex(40)));
    add(false, "orders", "event_uuid", None, Text, n, &|n, _| text(uuid(n)));
    add(false, "orders", "price", None, Text, n, &|n, _| text(format!("{}.{:02}", 1 + n.next(28), 1 + n.next(12))));
    add(false, "orders", "price_text", None, Text, n, &|n, _| {
        text(format!("{}.{:02}.{}", 1 + n.next(28), 1 + n.next(12), 2000 + n.next(20)))
    });
    add(false, "orders", "app_version", None, Text, n, &|n, _| {
        text(format!("{}.{}.{}.{}", 1 + n.next(12), n.next(30), n.next(20), n.next(250)))
    });
    add(false, "orders", "build", None, Text, n, &|n, _| {
        text(format!("10.{}.{}.{}", n.next(9), n.next(99), n.next(60)))
    });
    add(false, "orders", "created_at", None, Time, n, &|n, _| Sample::Year((2020 + n.next(6)) as i32));
    add(false, "orders", "unix_time", None, Whole, n, &|n, _| {
        Sample::Whole((1_600_000_000 + n.next(150_000_000)) as i64)
    });
    add(false, "orders", "isbn", None, Text, n, &|n, _| text(isbn10(n)));
    add(false, "orders", "isbn13", None, Text, n, &|n, _| text(ean(n, "978")));
    add(false, "orders", "gtin", None, Text, n, &|n, _| text(ean(n, "40")));
    add(false, "orders", "phone_model", None, Text, n, &|n, _| {
        text(n.of(&["Galaxy S22", "Pixel 8", "iPhone 14", "Xperia 5"]))
    });
    add(false, "orders", "product_name", None, Text, n, &|n, _| {
        text(n.of(&["Oak Table", "Red Lamp", "Jordan Shoe", "Grace Chair", "Alexa Dot"]))
    });
    add(false, "orders", "company_name", None, Text, n, &|n, _| text(n.of(COMPANIES)));
    add(false, "orders", "city", None, Text, n, &|n, _| text(n.of(CITIES)));
    add(false, "orders", "record_no", None, Whole, n, &|_, row| Sample::Whole(100_000_000 + row as i64));
    add(false, "orders", "sequence", None, Text, n, &|_, row| text(format!("{:09}", 555_000_000 + row)));
    add(false, "orders", "ssn_verified", None, Opaque, n, &|_, _| Sample::Opaque);
    add(false, "orders", "email_sent_count", None, Whole, n, &|n, _| Sample::Whole(n.next(9) as i64));
    add(false, "orders", "pin_color", None, Text, n, &|n, _| text(n.of(&["red", "blue", "green"])));
    add(false, "orders", "shipping_cost", None, Fraction, n, &|_, _| Sample::Opaque);
    add(false, "orders", "sku", None, Text, n, &|n, _| text(format!("A{}{}", n.digits(2), n.digits(1))));
    add(false, "orders", "status", None, Text, n, &|n, _| text(n.of(&["open", "paid", "sent"])));
    add(false, "orders", "page", None, Whole, n, &|n, _| Sample::Whole(n.next(90) as i64));
    add(false, "orders", "month", None, Text, n, &|n, _| text(n.of(&["April", "May", "June", "August", "March"])));
    add(false, "orders", "time_of_day", None, Text, n, &|n, _| {
        text(format!("{:02}:{:02}:{:02}", n.next(24), n.next(60), n.next(60)))
    });
    add(false, "orders", "imei", None, Text, n, &|n, _| text(with_luhn(format!("35{}", n.digits(12)))));
    add(false, "orders", "loyalty_card_number", None, Text, n, &|n, _| text(format!("9{}", n.digits(12))));
    add(false, "orders", "url", None, Text, n, &|n, _| text(format!("https://example.com/{}", n.hex(6))));
    add(false, "orders", "comment", None, Text, n, &|_, _| Sample::Opaque);

    // Held out: what has a class.
    add(true, "partners", "correo_electronico", Some(Pii), Text, n, &|n, _| text(email(n)));
    add(true, "partners", "notifications.recipients.element", Some(Pii), Text, n, &|n, _| text(email(n)));
    add(true, "partners", "HomePhone2", Some(Pii), Text, n, &|n, _| text(us_phone(n)));
    add(true, "partners", "kontakt", Some(Pii), Text, n, &|n, _| {
        text(format!("+49 {} {}", 100 + n.next(800), n.digits(7)))
    });
    add(true, "partners", "prenom", Some(Pii), Text, n, &|n, _| text(n.of(GIVEN)));
    add(true, "partners", "account_manager", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", n.of(GIVEN), n.of(FAMILY)))
    });
    add(true, "partners", "f_12", Some(Pii), Text, n, &|n, _| text(format!("{}, {}", n.of(FAMILY), n.of(GIVEN))));
    add(true, "partners", "fecha_nacimiento", Some(Pii), Text, n, &|n, _| text(date(n, 1940, 60)));
    add(true, "partners", "birth_year", Some(Pii), Whole, n, &|n, _| Sample::Whole((1935 + n.next(70)) as i64));
    add(true, "partners", "billing.postal_code", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", n.digits(4), n.of(&["AB", "XK", "ZZ"])))
    });
    add(true, "partners", "addressLine1", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", n.of(STREETS), 1 + n.next(99)))
    });
    add(true, "partners", "sex", Some(Pii), Text, n, &|n, _| text(n.of(&["Male", "Female"])));
    add(true, "partners", "pesel", Some(Pii), Text, n, &|n, _| text(pesel(n)));
    add(true, "partners", "personnummer", Some(Pii), Text, n, &|n, _| text(personnummer(n)));
    add(true, "partners", "id_value", Some(Pii), Text, n, &|n, _| text(hetu(n)));
    add(true, "partners", "kontonummer_iban", Some(Pii), Text, n, &|n, _| text(iban(n)));
    add(true, "partners", "tax_ssn", Some(Pii), Text, n, &|n, _| text(ssn(n, "-")));
    add(true, "partners", "drivers_license", Some(Pii), Text, n, &|n, _| text(format!("D{}", n.digits(7))));
    add(true, "partners", "src_ip", Some(Pii), Text, n, &|n, _| {
        text(format!("10.{}.{}.{}", n.next(256), n.next(256), n.next(256)))
    });
    add(true, "pay", "primary_account_number", Some(Pci), Text, n, &|n, _| text(card(n)));
    add(true, "pay", "instrument.ref", Some(Pci), Text, n, &|n, _| text(card(n)));
    add(true, "pay", "cvc2", Some(PciSad), Whole, n, &|n, _| Sample::Whole((100 + n.next(900)) as i64));
    add(true, "pay", "card_pin", Some(PciSad), Text, n, &|n, _| text(n.digits(4)));
    add(true, "pay", "mag_stripe", Some(PciSad), Text, n, &|n, _| {
        text(format!("%B{}^A/B^3001101{}?", card(n), n.digits(6)))
    });
    add(true, "ward", "medical_record_number", Some(Phi), Text, n, &|n, _| text(n.digits(8)));
    add(true, "ward", "code", Some(Phi), Text, n, &|n, _| {
        text(format!("{}.{}", n.of(&["E11", "I25", "J45", "M54"]), n.digits(1)))
    });
    add(true, "ward", "allergies", Some(Phi), Text, n, &|n, _| text(n.of(&["penicillin", "none", "latex"])));
    add(true, "ward", "patient_phone", Some(Phi), Text, n, &|n, _| text(us_phone(n)));
    add(true, "ward", "attending_physician", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", n.of(GIVEN), n.of(FAMILY)))
    });
    add(true, "staff", "gehalt", Some(Confidential), Whole, n, &|n, _| Sample::Whole((30_000 + n.next(90_000)) as i64));
    add(true, "staff", "api_key", Some(Confidential), Text, n, &|n, _| text(n.hex(32)));

    // Held out: traps.
    add(true, "things", "invoice_no", None, Text, n, &|n, _| text(format!("5{}", n.digits(15))));
    add(true, "things", "tracking_number", None, Text, n, &|n, _| text(format!("1Z{}", n.digits(16))));
    add(true, "things", "track_title", None, Text, n, &|n, _| text(n.of(&["Blue Monday", "Yellow", "Hurt", "One"])));
    add(true, "things", "telemetry_id", None, Text, n, &|n, _| text(n.hex(16)));
    add(true, "things", "cell_value", None, Fraction, n, &|_, _| Sample::Opaque);
    add(true, "things", "mobile_os", None, Text, n, &|n, _| text(n.of(&["Android", "iOS"])));
    add(true, "things", "mail_class", None, Text, n, &|n, _| text(n.of(&["first", "bulk"])));
    add(true, "things", "ip_rating", None, Text, n, &|n, _| text(n.of(&["IP67", "IP68", "IP54"])));
    add(true, "things", "firmware", None, Text, n, &|n, _| {
        text(format!("{}.{}.{}.{}", n.next(5), n.next(20), n.next(30), n.next(40)))
    });
    add(true, "things", "cage_code", None, Text, n, &|n, _| text(n.digits(5)));
    add(true, "things", "average", None, Fraction, n, &|_, _| Sample::Opaque);
    add(true, "things", "serial_number", None, Text, n, &|n, _| text(n.digits(10)));
    add(true, "things", "part_no", None, Text, n, &|n, _| {
        text(format!("{}-{}-{}", n.digits(3), n.digits(2), n.digits(3)))
    });
    add(true, "things", "brand", None, Text, n, &|n, _| {
        text(n.of(&["Martin", "Jackson", "Gibson", "Ford", "Mercedes"]))
    });
    add(true, "things", "warehouse", None, Text, n, &|n, _| text(n.of(CITIES)));
    add(true, "things", "vendor", None, Text, n, &|n, _| text(n.of(COMPANIES)));
    add(true, "things", "session_duration", None, Whole, n, &|n, _| Sample::Whole(n.next(4_000) as i64));
    add(true, "things", "security_group", None, Text, n, &|n, _| text(format!("sg-{}", n.hex(8))));
    add(true, "things", "updated", None, Text, n, &|n, _| text(date(n, 2018, 8)));
    add(true, "things", "epoch_ms", None, Whole, n, &|n, _| {
        Sample::Whole((1_600_000_000_000 + n.next(150_000_000_000)) as i64)
    });
    add(true, "things", "name_of_file", None, Text, n, &|n, _| text(format!("report_{}.pdf", n.digits(3))));
    add(true, "things", "address_count", None, Whole, n, &|n, _| Sample::Whole(n.next(5) as i64));
    add(true, "things", "gender_pay_gap", None, Fraction, n, &|_, _| Sample::Opaque);
    add(true, "things", "mac", None, Text, n, &|n, _| {
        text(format!("{}:{}:{}:{}:{}:{}", n.hex(2), n.hex(2), n.hex(2), n.hex(2), n.hex(2), n.hex(2)))
    });

    // Tuned on by now: the columns of well-known public schemas and example databases, as their authors named them.
    let digit_name = |n: &mut Numbers, names: &[&str]| format!("{}{}", n.of(names), n.digits(3));
    add(false, "synthea", "BIRTHDATE", Some(Pii), Text, n, &|n, _| text(date(n, 1920, 100)));
    add(false, "synthea", "DEATHDATE", Some(Pii), Text, n, &|n, _| text(date(n, 1990, 30)));
    add(false, "synthea", "SSN", Some(Pii), Text, n, &|n, _| text(format!("999-{}-{}", 10 + n.next(89), n.digits(4))));
    add(false, "synthea", "DRIVERS", Some(Pii), Text, n, &|n, _| text(format!("S999{}", n.digits(5))));
    add(false, "synthea", "PASSPORT", Some(Pii), Text, n, &|n, _| text(format!("X{}X", n.digits(8))));
    add(false, "synthea", "PREFIX", None, Text, n, &|n, _| text(n.of(&["Mr.", "Mrs.", "Ms."])));
    add(false, "synthea", "FIRST", Some(Pii), Text, n, &|n, _| text(digit_name(n, GIVEN)));
    add(false, "synthea", "LAST", Some(Pii), Text, n, &|n, _| text(digit_name(n, FAMILY)));
    add(false, "synthea", "MAIDEN", Some(Pii), Text, n, &|n, _| text(digit_name(n, FAMILY)));
    add(false, "synthea", "MARITAL", Some(Pii), Text, n, &|n, _| text(n.of(&["M", "S", "D", "W"])));
    add(false, "synthea", "RACE", Some(Pii), Text, n, &|n, _| {
        text(n.of(&["white", "black", "asian", "native", "other"]))
    });
    add(false, "synthea", "ETHNICITY", Some(Pii), Text, n, &|n, _| text(n.of(&["hispanic", "nonhispanic"])));
    add(false, "synthea", "GENDER", Some(Pii), Text, n, &|n, _| text(n.of(&["M", "F"])));
    add(false, "synthea", "BIRTHPLACE", Some(Pii), Text, n, &|n, _| text(format!("{} Massachusetts US", n.of(CITIES))));
    add(false, "synthea", "ADDRESS", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {} Suite {}", 1 + n.next(999), n.of(STREETS), 1 + n.next(99)))
    });
    add(false, "synthea", "CITY", None, Text, n, &|n, _| text(n.of(CITIES)));
    add(false, "synthea", "ZIP", Some(Pii), Text, n, &|n, _| text(format!("0{}", n.digits(4))));
    add(false, "synthea", "LAT", Some(Pii), Fraction, n, &|_, _| Sample::Opaque);
    add(false, "synthea", "INCOME", Some(Confidential), Whole, n, &|n, _| {
        Sample::Whole((900 + n.next(900_000)) as i64)
    });
    add(false, "synthea", "HEALTHCARE_EXPENSES", None, Fraction, n, &|_, _| Sample::Opaque);
    add(false, "northwind_employees", "EmployeeID", Some(Pii), Whole, n, &|_, row| Sample::Whole(1 + row as i64 % 9));
    add(false, "northwind_employees", "LastName", Some(Pii), Text, n, &|n, _| text(n.of(FAMILY)));
    add(false, "northwind_employees", "Title", None, Text, n, &|n, _| {
        text(n.of(&["Sales Representative", "Sales Manager", "Vice President, Sales"]))
    });
    add(false, "northwind_employees", "TitleOfCourtesy", None, Text, n, &|n, _| text(n.of(&["Ms.", "Dr.", "Mr."])));
    add(false, "northwind_employees", "BirthDate", Some(Pii), Time, n, &|n, _| {
        Sample::Year((1937 + n.next(30)) as i32)
    });
    add(false, "northwind_employees", "HireDate", None, Time, n, &|n, _| Sample::Year((1992 + n.next(3)) as i32));
    add(false, "northwind_employees", "HomePhone", Some(Pii), Text, n, &|n, _| {
        text(format!("({}) 555-{}", 200 + n.next(700), n.digits(4)))
    });
    add(false, "northwind_employees", "Extension", None, Text, n, &|n, _| text(n.digits(4)));
    add(false, "northwind_employees", "ReportsTo", None, Whole, n, &|n, _| Sample::Whole(1 + n.next(5) as i64));
    add(false, "northwind", "CustomerID", None, Text, n, &|n, _| {
        text(n.of(&["ALFKI", "ANATR", "ANTON", "AROUT", "BERGS"]))
    });
    add(false, "northwind", "CompanyName", None, Text, n, &|n, _| text(n.of(COMPANIES)));
    add(false, "northwind", "ContactName", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", n.of(GIVEN), n.of(FAMILY)))
    });
    add(false, "northwind", "ContactTitle", None, Text, n, &|n, _| {
        text(n.of(&["Owner", "Order Administrator", "Sales Agent"]))
    });
    add(false, "northwind", "Address", Some(Pii), Text, n, &|n, _| {
        text(format!(
            "{} {}",
            n.of(&["Obere Str.", "Avda. de la Constitución", "Hanover Sq.", "Berguvsvägen"]),
            1 + n.next(300)
        ))
    });
    add(false, "northwind", "PostalCode", Some(Pii), Text, n, &|n, _| {
        text(match n.next(3) {
            0 => n.digits(5),
            1 => format!("S-{} {}", n.digits(3), n.digits(2)),
            _ => "WA1 1DP".to_owned(),
        })
    });
    add(false, "northwind", "Phone", Some(Pii), Text, n, &|n, _| {
        text(match n.next(3) {
            0 => format!("030-00{}", n.digits(5)),
            1 => format!("(5) 555-{}", n.digits(4)),
            _ => format!("(171) 555-{}", n.digits(4)),
        })
    });
    add(false, "northwind", "QuantityPerUnit", None, Text, n, &|n, _| {
        text(format!("{} boxes x {} bags", 1 + n.next(20), 1 + n.next(20)))
    });
    add(false, "northwind", "ShipName", None, Text, n, &|n, _| text(n.of(COMPANIES)));
    add(false, "titanic", "Name", Some(Pii), Text, n, &|n, _| {
        text(format!("{}, {} {}", n.of(FAMILY), n.of(&["Mr.", "Mrs.", "Miss.", "Master."]), n.of(GIVEN)))
    });
    add(false, "titanic", "Sex", Some(Pii), Text, n, &|n, _| text(n.of(&["male", "female"])));
    add(false, "titanic", "Age", Some(Pii), Fraction, n, &|_, _| Sample::Opaque);
    add(false, "titanic", "Ticket", None, Text, n, &|n, _| text(format!("A/5 {}", n.digits(5))));
    add(false, "titanic", "Cabin", None, Text, n, &|n, _| {
        text(format!("{}{}", n.of(&["A", "B", "C", "D", "E"]), 10 + n.next(89)))
    });
    add(false, "titanic", "Embarked", None, Text, n, &|n, _| text(n.of(&["S", "C", "Q"])));
    add(false, "adult", "fnlwgt", None, Whole, n, &|n, _| Sample::Whole((12_285 + n.next(1_400_000)) as i64));
    add(false, "adult", "education", None, Text, n, &|n, _| text(n.of(&["HS-grad", "Bachelors", "11th", "Masters"])));
    add(false, "adult", "marital-status", Some(Pii), Text, n, &|n, _| {
        text(n.of(&["Divorced", "Never-married", "Widowed"]))
    });
    add(false, "adult", "hours-per-week", None, Whole, n, &|n, _| Sample::Whole((1 + n.next(98)) as i64));
    add(false, "adult", "capital-gain", None, Whole, n, &|n, _| Sample::Whole(n.next(99_999) as i64));
    add(false, "taxi", "VendorID", None, Whole, n, &|n, _| Sample::Whole(1 + n.next(2) as i64));
    add(false, "taxi", "tpep_pickup_datetime", None, Time, n, &|_, _| Sample::Year(2023));
    add(false, "taxi", "PULocationID", None, Whole, n, &|n, _| Sample::Whole(1 + n.next(265) as i64));
    add(false, "taxi", "store_and_fwd_flag", None, Text, n, &|n, _| text(n.of(&["N", "Y"])));
    add(false, "stripe", "id", None, Text, n, &|n, _| text(format!("ch_{}", n.hex(24))));
    add(false, "stripe", "payment_method_details.card.last4", None, Text, n, &|n, _| text(n.digits(4)));
    add(false, "stripe", "payment_method_details.card.fingerprint", None, Text, n, &|n, _| text(n.hex(16)));
    add(false, "stripe", "payment_method_details.card.exp_month", Some(Pci), Whole, n, &|n, _| {
        Sample::Whole(1 + n.next(12) as i64)
    });
    add(false, "stripe", "payment_method_details.card.checks.cvc_check", None, Text, n, &|n, _| {
        text(n.of(&["pass", "fail", "unchecked"]))
    });
    add(false, "stripe", "billing_details.name", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", n.of(GIVEN), n.of(FAMILY)))
    });
    add(false, "stripe", "billing_details.address.postal_code", Some(Pii), Text, n, &|n, _| text(n.digits(5)));
    add(false, "stripe", "billing_details.address.line1", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", 1 + n.next(999), n.of(STREETS)))
    });
    add(false, "stripe", "receipt_email", Some(Pii), Text, n, &|n, _| text(email(n)));
    add(false, "stripe", "statement_descriptor", None, Text, n, &|n, _| text(n.of(COMPANIES)));
    add(false, "synpuf", "BENE_BIRTH_DT", Some(Phi), Whole, n, &|n, _| {
        Sample::Whole(((1910 + n.next(60)) * 10_000 + (1 + n.next(12)) * 100 + 1) as i64)
    });
    add(false, "synpuf", "BENE_SEX_IDENT_CD", Some(Phi), Whole, n, &|n, _| Sample::Whole(1 + n.next(2) as i64));
    add(false, "synpuf", "ICD9_DGNS_CD_1", Some(Phi), Text, n, &|n, _| text(n.digits(5)));
    add(false, "synpuf", "HCPCS_CD_1", Some(Phi), Text, n, &|n, _| text(format!("G{}", n.digits(4))));
    add(false, "synpuf", "AT_PHYSN_NPI", Some(Pii), Text, n, &|n, _| text(npi(n)));
    add(false, "synpuf", "CLM_PMT_AMT", None, Fraction, n, &|_, _| Sample::Opaque);
    add(false, "synpuf", "CLM_ID", None, Whole, n, &|n, _| {
        Sample::Whole(800_000_000_000_000 + n.next(90_000_000_000_000) as i64)
    });

    // Held out: further public schemas, as their authors named the columns.
    add(true, "airbnb", "host_id", None, Whole, n, &|n, _| Sample::Whole((1_000 + n.next(90_000_000)) as i64));
    add(true, "airbnb", "host_name", Some(Pii), Text, n, &|n, _| text(n.of(GIVEN)));
    add(true, "airbnb", "reviewer_name", Some(Pii), Text, n, &|n, _| text(n.of(GIVEN)));
    add(true, "airbnb", "neighbourhood", None, Text, n, &|n, _| text(n.of(CITIES)));
    add(true, "airbnb", "room_type", None, Text, n, &|n, _| text(n.of(&["Entire home/apt", "Private room"])));
    add(true, "airbnb", "minimum_nights", None, Whole, n, &|n, _| Sample::Whole(1 + n.next(30) as i64));
    add(true, "lending", "member_id", Some(Pii), Whole, n, &|n, _| Sample::Whole((1_000_000 + n.next(900_000)) as i64));
    add(true, "lending", "emp_title", None, Text, n, &|n, _| {
        text(n.of(&["Teacher", "Registered Nurse", "Driver", "Manager"]))
    });
    add(true, "lending", "annual_inc", Some(Confidential), Fraction, n, &|_, _| Sample::Opaque);
    add(true, "lending", "zip_code", Some(Pii), Text, n, &|n, _| text(format!("{}xx", n.digits(3))));
    add(true, "lending", "addr_state", None, Text, n, &|n, _| text(n.of(&["CA", "NY", "TX"])));
    add(true, "lending", "int_rate", None, Fraction, n, &|_, _| Sample::Opaque);
    add(true, "salesforce", "MailingStreet", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", 1 + n.next(900), n.of(STREETS)))
    });
    add(true, "salesforce", "MailingPostalCode", Some(Pii), Text, n, &|n, _| text(n.digits(5)));
    add(true, "salesforce", "MobilePhone", Some(Pii), Text, n, &|n, _| text(us_phone(n)));
    add(true, "salesforce", "Birthdate", Some(Pii), Time, n, &|n, _| Sample::Year((1950 + n.next(50)) as i32));
    add(true, "salesforce", "OwnerId", None, Text, n, &|n, _| text(format!("005{}", n.hex(15))));
    add(true, "salesforce", "LeadSource", None, Text, n, &|n, _| {
        text(n.of(&["Web", "Phone Inquiry", "Partner Referral"]))
    });
    add(true, "sap", "KUNNR", None, Text, n, &|n, _| text(n.digits(10)));
    add(true, "sap", "NAME1", None, Text, n, &|n, _| text(n.of(COMPANIES)));
    add(true, "sap", "STRAS", Some(Pii), Text, n, &|n, _| text(format!("{} {}", n.of(STREETS), 1 + n.next(99))));
    add(true, "sap", "PSTLZ", Some(Pii), Text, n, &|n, _| text(n.digits(5)));
    add(true, "sap", "TELF1", Some(Pii), Text, n, &|n, _| text(format!("+49 89 {}", n.digits(7))));
    add(true, "sap", "GBDAT", Some(Pii), Text, n, &|n, _| {
        text(format!("{}{:02}{:02}", 1950 + n.next(50), 1 + n.next(12), 1 + n.next(28)))
    });
    add(true, "sap", "WAERS", None, Text, n, &|n, _| text(n.of(&["EUR", "USD"])));
    add(true, "wordpress", "user_login", Some(Pii), Text, n, &|n, _| {
        text(format!("{}{}", n.of(GIVEN).to_lowercase(), n.next(99)))
    });
    add(true, "wordpress", "user_pass", Some(Confidential), Text, n, &|n, _| text(format!("$P$B{}", n.hex(30))));
    add(true, "wordpress", "user_email", Some(Pii), Text, n, &|n, _| text(email(n)));
    add(true, "wordpress", "user_registered", None, Time, n, &|_, _| Sample::Year(2021));
    add(true, "wordpress", "display_name", Some(Pii), Text, n, &|n, _| {
        text(format!("{} {}", n.of(GIVEN), n.of(FAMILY)))
    });
    add(true, "github", "actor.login", Some(Pii), Text, n, &|n, _| {
        text(format!("{}-{}", n.of(GIVEN).to_lowercase(), n.hex(3)))
    });
    add(true, "github", "repo.name", None, Text, n, &|n, _| {
        text(format!("{}/{}", n.hex(5), n.of(&["spark", "delta", "arrow"])))
    });
    add(true, "github", "payload.commits.element.author.email", Some(Pii), Text, n, &|n, _| text(email(n)));
    add(true, "github", "payload.commits.element.sha", None, Text, n, &|n, _| text(n.hex(40)));
    add(true, "shopify", "browser_ip", Some(Pii), Text, n, &|n, _| {
        text(format!("{}.{}.{}.{}", 1 + n.next(222), n.next(256), n.next(256), n.next(256)))
    });
    add(true, "shopify", "customer.default_address.phone", Some(Pii), Text, n, &|n, _| text(us_phone(n)));
    add(true, "shopify", "line_items.element.sku", None, Text, n, &|n, _| {
        text(format!("{}-{}", n.of(&["IPOD", "TSHIRT"]), n.digits(4)))
    });
    add(true, "shopify", "line_items.element.name", None, Text, n, &|n, _| {
        text(n.of(&["IPod Nano", "Grace Hoodie", "Blue Mug"]))
    });
    add(true, "shopify", "total_price", None, Text, n, &|n, _| text(format!("{}.{}", n.next(500), n.digits(2))));
    add(true, "fhir", "name.element.family", Some(Pii), Text, n, &|n, _| text(n.of(FAMILY)));
    add(true, "fhir", "telecom.element.value", Some(Pii), Text, n, &|n, row| {
        text(if row % 3 == 0 { email(n) } else { us_phone(n) })
    });
    add(true, "fhir", "birthDate", Some(Pii), Text, n, &|n, _| text(date(n, 1930, 80)));
    add(true, "fhir", "meta.versionId", None, Text, n, &|n, _| text(n.next(9).to_string()));
    all
}
