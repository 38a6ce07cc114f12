//! The detectors: for each kind of data the names that speak for it, the test of its values, and which share of them has to
//! pass. A row here is all that a detector is.

use crate::domain::catalog::column::{Class, IdentifierRole};

use super::{
    ValueKind,
    checks::{
        is_aadhaar, is_age, is_belgian_number, is_brazilian_cpf, is_british_nino, is_canadian_sin, is_card_expiry,
        is_card_number, is_chinese_number, is_dutch_bsn, is_email, is_expiry_part, is_finnish_number, is_french_nir,
        is_gender, is_german_tax_id, is_iban, is_icd, is_ip, is_italian_codice, is_nhs_number, is_npi, is_phone,
        is_pin, is_polish_pesel, is_postal_code, is_secret, is_security_code, is_south_african_number, is_spanish_dni,
        is_ssn, is_street, is_swedish_number, is_swiss_ahv, is_track, is_unlike_version, is_vin, is_written_icd,
        is_written_phone, is_written_postal_code, is_written_ssn,
    },
    people::{Likeness, People},
};

/// What the values of a column are tested for.
#[derive(Clone, Copy)]
pub(super) enum ValueTest {
    /// Nothing: the name decides.
    Any,
    /// Each value as a text.
    Text(fn(&str) -> bool),
    /// Each value is a mark by which somebody is told from others.
    Mark,
    /// Each value is a date on which somebody who lives may be born.
    Birth,
    /// Each value has the form of a person's name, and this share of them is known.
    Person {
        /// The share.
        known: f64,
    },
}

/// When values speak for themselves, whatever the column is called.
#[derive(Clone, Copy)]
pub(super) struct Alone {
    /// The test of a value.
    pub(super) matches: fn(&str, &People) -> bool,
    /// The share of the values that has to pass.
    pub(super) rate: f64,
    /// How many different values there have to be.
    pub(super) distinct: usize,
    /// Words in the name that speak against it.
    pub(super) unless: &'static [&'static str],
}

/// A kind of data and how it is found.
#[derive(Clone, Copy)]
pub(super) struct Detector {
    /// Its name in evidence.
    pub(super) name: &'static str,
    /// The class that it proposes.
    pub(super) class: Class,
    /// The role that it proposes.
    pub(super) role: IdentifierRole,
    /// Names that speak for it, without separators.
    pub(super) phrases: &'static [&'static str],
    /// Words beside them that make them mean something else.
    pub(super) against: &'static [&'static str],
    /// The columns that it looks at.
    pub(super) kinds: &'static [ValueKind],
    /// The test of values in a column whose name speaks for it.
    pub(super) test: ValueTest,
    /// The share of values that has to pass if the name is the phrase.
    pub(super) full: f64,
    /// The share of values that has to pass if the name has further words.
    pub(super) partial: f64,
    /// When values speak for themselves.
    pub(super) alone: Option<Alone>,
    /// How sure the name alone makes, where no value was read.
    pub(super) blind: f64,
    /// Whether the name means only this, so that it counts against the values.
    pub(super) is_sticky: bool,
    /// Whether values speak for themselves even where the name speaks against it.
    pub(super) is_plain: bool,
    /// Whether it makes its table one about patients.
    pub(super) is_health: bool,
}

/// Words for those who treat or serve people, beside whose columns no patient stands.
pub(super) const PROVIDERS: &[&str] = &[
    "agent",
    "attending",
    "broker",
    "clinician",
    "doctor",
    "facility",
    "npi",
    "operator",
    "pharmacist",
    "pharmacy",
    "physician",
    "practice",
    "practitioner",
    "prescriber",
    "prov",
    "provider",
    "referring",
    "rendering",
    "supplier",
];

const TEXT: &[ValueKind] = &[ValueKind::Text];
const NUMBER: &[ValueKind] = &[ValueKind::Text, ValueKind::Whole];
const AMOUNT: &[ValueKind] = &[ValueKind::Whole, ValueKind::Fraction, ValueKind::Text];
const DATE: &[ValueKind] = &[ValueKind::Text, ValueKind::Whole, ValueKind::Time];

/// Names of citizens' numbers, of whatever country: the check digits say which.
const NATIONAL: &[&str] = &[
    "aadhaar",
    "aadhar",
    "ahv",
    "ahvnummer",
    "bsn",
    "burgerservicenummer",
    "citizenid",
    "citizennumber",
    "codicefiscale",
    "cpf",
    "curp",
    "dni",
    "henkilotunnus",
    "hetu",
    "idcard",
    "idcardnumber",
    "identitycard",
    "identitynumber",
    "identifikationsnummer",
    "insee",
    "nationalid",
    "nationalidentifier",
    "nationalidnumber",
    "nationalinsurancenumber",
    "nationalnumber",
    "nie",
    "nif",
    "nino",
    "nir",
    "numerosecuritesociale",
    "numerosecu",
    "personalid",
    "personalidentitynumber",
    "personnummer",
    "pesel",
    "residentid",
    "rijksregisternummer",
    "securitesociale",
    "sin",
    "socialinsurancenumber",
    "steuerid",
    "steueridentifikationsnummer",
    "steuernummer",
    "taxid",
    "taxnumber",
    "taxpayerid",
    "tin",
];

/// Words in names of columns that hold names of something else than people.
const THINGS: &[&str] = &[
    "album",
    "artist",
    "band",
    "bank",
    "board",
    "book",
    "branch",
    "brand",
    "building",
    "business",
    "carrier",
    "category",
    "channel",
    "city",
    "class",
    "college",
    "color",
    "colour",
    "column",
    "commune",
    "company",
    "condition",
    "country",
    "county",
    "course",
    "currency",
    "database",
    "day",
    "department",
    "dept",
    "device",
    "disease",
    "district",
    "domain",
    "drug",
    "employer",
    "event",
    "facility",
    "field",
    "file",
    "firm",
    "genre",
    "group",
    "hospital",
    "host",
    "industry",
    "item",
    "job",
    "language",
    "locale",
    "manufacturer",
    "market",
    "medication",
    "metric",
    "model",
    "month",
    "movie",
    "municipality",
    "network",
    "org",
    "organisation",
    "organization",
    "plan",
    "plant",
    "port",
    "product",
    "program",
    "project",
    "province",
    "queue",
    "region",
    "repository",
    "role",
    "schema",
    "school",
    "server",
    "service",
    "shop",
    "site",
    "skill",
    "society",
    "song",
    "species",
    "sport",
    "stage",
    "state",
    "station",
    "status",
    "store",
    "street",
    "supplier",
    "table",
    "tag",
    "team",
    "term",
    "theme",
    "timezone",
    "town",
    "tree",
    "university",
    "vendor",
    "village",
    "warehouse",
    "weekday",
    "zone",
];

const fn detector(
    name: &'static str,
    class: Class,
    role: IdentifierRole,
    kinds: &'static [ValueKind],
    test: ValueTest,
    phrases: &'static [&'static str],
) -> Detector {
    Detector {
        name,
        class,
        role,
        phrases,
        against: &[],
        kinds,
        test,
        full: 0.6,
        partial: 0.8,
        alone: None,
        blind: 0.6,
        is_sticky: false,
        is_plain: false,
        is_health: false,
    }
}

impl Detector {
    const fn rates(self, full: f64, partial: f64) -> Self {
        Self { full, partial, ..self }
    }

    const fn alone(self, matches: fn(&str, &People) -> bool, rate: f64, distinct: usize) -> Self {
        Self { alone: Some(Alone { matches, rate, distinct, unless: &[] }), ..self }
    }

    const fn unless(self, unless: &'static [&'static str]) -> Self {
        match self.alone {
            Some(alone) => Self { alone: Some(Alone { unless, ..alone }), ..self },
            None => self,
        }
    }

    const fn against(self, against: &'static [&'static str]) -> Self {
        Self { against, ..self }
    }

    const fn blind(self, blind: f64) -> Self {
        Self { blind, ..self }
    }

    const fn sticky(self) -> Self {
        Self { is_sticky: true, ..self }
    }

    const fn plain(self) -> Self {
        Self { is_plain: true, ..self }
    }

    const fn health(self) -> Self {
        Self { is_health: true, ..self }
    }
}

/// A citizen's number of one country.
const fn national(name: &'static str, test: fn(&str) -> bool) -> Detector {
    // Where no value was read, nobody knows the country: one detector speaks for all of them.
    detector(name, Class::Pii, IdentifierRole::Direct, NUMBER, ValueTest::Text(test), NATIONAL)
        .rates(0.7, 0.8)
        .blind(0.0)
}

use Class::{Confidential, Pci, PciSad, Phi, Pii};
use IdentifierRole::{BusinessKey, Direct, None as NoRole, Quasi};

/// Every detector.
pub(super) const DETECTORS: &[Detector] = &[
    // Payment cards.
    detector(
        "card_track",
        PciSad,
        Direct,
        TEXT,
        ValueTest::Text(is_track),
        &["magneticstripe", "magstripe", "track", "track1", "track2", "trackdata"],
    )
    .rates(0.1, 0.1)
    .alone(|text, _| is_track(text), 0.1, 1)
    .blind(0.0)
    .plain(),
    detector(
        "card_security_code",
        PciSad,
        NoRole,
        NUMBER,
        ValueTest::Text(is_security_code),
        &[
            "cardcode",
            "cardsecuritycode",
            "cardverificationcode",
            "cardverificationnumber",
            "cardverificationvalue",
            "codigoseguridad",
            "csc",
            "cryptogramme",
            "cvc",
            "cvc2",
            "cvn",
            "cvv",
            "cvv2",
            "kartenpruefnummer",
            "pruefnummer",
            "securitycode",
        ],
    )
    .rates(0.8, 0.8)
    .blind(0.8),
    detector(
        "card_pin",
        PciSad,
        NoRole,
        NUMBER,
        ValueTest::Text(is_pin),
        &["atmpin", "cardpin", "geheimzahl", "pin", "pinblock", "pinnumber"],
    )
    .against(&["board", "code", "codes", "gpio", "map", "postal", "district", "city", "chip", "layout"])
    .rates(0.8, 0.9)
    .blind(0.7),
    detector("card_pin", PciSad, NoRole, NUMBER, ValueTest::Text(is_short_pin), &["pincode"])
        .against(&["board", "gpio", "postal", "district", "city", "area"])
        .rates(0.8, 0.9)
        .blind(0.0),
    detector(
        "card_number",
        Pci,
        Direct,
        NUMBER,
        ValueTest::Text(is_card_number),
        &[
            "card",
            "cardno",
            "cardnum",
            "cardnumber",
            "cartebancaire",
            "ccno",
            "ccnum",
            "ccnumber",
            "creditcard",
            "creditcardno",
            "creditcardnumber",
            "debitcard",
            "kartennummer",
            "kreditkarte",
            "kreditkartennummer",
            "numerocarte",
            "numerotarjeta",
            "pan",
            "paymentcard",
            "primaryaccountnumber",
            "tarjeta",
        ],
    )
    .rates(0.3, 0.4)
    .alone(|text, _| is_card_number(text), 0.5, 5)
    .plain(),
    detector(
        "card_expiry",
        Pci,
        Quasi,
        TEXT,
        ValueTest::Text(is_card_expiry),
        &[
            "cardexp",
            "cardexpiration",
            "cardexpirationdate",
            "cardexpiry",
            "cardexpirydate",
            "ccexp",
            "ccexpiry",
            "exp",
            "expdate",
            "expirationdate",
            "expiry",
            "expirydate",
            "validthru",
            "validuntil",
        ],
    )
    .rates(0.8, 0.8)
    .blind(0.0),
    detector(
        "card_expiry",
        Pci,
        Quasi,
        NUMBER,
        ValueTest::Text(is_expiry_part),
        &["expirationmonth", "expirationyear", "expirymonth", "expiryyear", "expmonth", "expyear"],
    )
    .rates(0.9, 0.9)
    .blind(0.0),
    detector(
        "cardholder_name",
        Pci,
        Direct,
        TEXT,
        ValueTest::Person { known: 0.1 },
        &["cardholder", "cardholdername", "nameoncard"],
    )
    .rates(0.8, 0.8)
    .blind(0.8),
    // People, directly.
    detector(
        "email",
        Pii,
        Direct,
        TEXT,
        ValueTest::Text(is_email),
        &[
            "correo",
            "correoelectronico",
            "courriel",
            "email",
            "emailaddress",
            "emailadresse",
            "epost",
            "mail",
            "mailaddress",
            "mailadresse",
        ],
    )
    .rates(0.3, 0.5)
    .alone(|text, _| is_email(text), 0.8, 3)
    .plain(),
    detector(
        "phone",
        Pii,
        Direct,
        NUMBER,
        ValueTest::Text(is_phone),
        &[
            "cell",
            "cellphone",
            "fax",
            "faxnumber",
            "gsm",
            "handy",
            "handynummer",
            "mobile",
            "mobilenumber",
            "mobilephone",
            "mobilnummer",
            "msisdn",
            "phone",
            "phonenumber",
            "rufnummer",
            "tel",
            "telefon",
            "telefone",
            "telefonnummer",
            "telefono",
            "telephone",
        ],
    )
    .alone(|text, _| is_written_phone(text), 0.8, 3),
    detector(
        "us_ssn",
        Pii,
        Direct,
        NUMBER,
        ValueTest::Text(is_ssn),
        &["itin", "socialsecurity", "socialsecuritynumber", "socialsecurityno", "socsec", "ssn", "ssnum"],
    )
    .alone(|text, _| is_written_ssn(text), 0.8, 3)
    .blind(0.75)
    .sticky()
    .plain(),
    detector("national_id", Pii, Direct, NUMBER, ValueTest::Text(|_| false), NATIONAL).rates(2.0, 2.0),
    national("de_tax_id", is_german_tax_id).alone(|text, _| is_german_tax_id(text), 0.95, 20),
    national("fr_nir", is_french_nir).alone(|text, _| is_french_nir(text), 0.9, 5),
    national("es_dni", is_spanish_dni).alone(|text, _| is_spanish_dni(text), 0.9, 5),
    national("it_codice_fiscale", is_italian_codice).alone(|text, _| is_italian_codice(text), 0.9, 5),
    national("nl_bsn", is_dutch_bsn).alone(|text, _| is_dutch_bsn(text), 0.97, 20),
    national("pl_pesel", is_polish_pesel).alone(|text, _| is_polish_pesel(text), 0.95, 10),
    national("be_national_number", is_belgian_number).alone(|text, _| is_belgian_number(text), 0.9, 5),
    national("se_personnummer", is_swedish_number).alone(|text, _| is_swedish_number(text), 0.97, 20),
    national("fi_hetu", is_finnish_number).alone(|text, _| is_finnish_number(text), 0.9, 5),
    national("br_cpf", is_brazilian_cpf).alone(|text, _| is_brazilian_cpf(text), 0.9, 5),
    national("in_aadhaar", is_aadhaar).alone(|text, _| is_aadhaar(text), 0.97, 20),
    national("cn_resident_id", is_chinese_number).alone(|text, _| is_chinese_number(text), 0.9, 5),
    national("za_id", is_south_african_number).alone(|text, _| is_south_african_number(text), 0.97, 10),
    national("ch_ahv", is_swiss_ahv).alone(|text, _| is_swiss_ahv(text), 0.9, 5),
    national("ca_sin", is_canadian_sin),
    national("gb_nino", is_british_nino).alone(|text, _| is_british_nino(text), 0.9, 5),
    detector("iban", Pii, Direct, TEXT, ValueTest::Text(is_iban), &["iban", "ibannumber"])
        .rates(0.3, 0.3)
        .alone(|text, _| is_iban(text), 0.5, 3)
        .blind(0.75)
        .sticky()
        .plain(),
    detector(
        "bank_account",
        Pii,
        Direct,
        NUMBER,
        ValueTest::Mark,
        &[
            "bankaccount",
            "bankaccountno",
            "bankaccountnumber",
            "checkingaccount",
            "kontonummer",
            "numerocompte",
            "savingsaccount",
        ],
    ),
    detector(
        "us_npi",
        Pii,
        Direct,
        NUMBER,
        ValueTest::Text(is_npi),
        &["nationalprovideridentifier", "npi", "npinumber"],
    )
    .rates(0.5, 0.5)
    .alone(|text, _| is_npi(text), 0.97, 20),
    detector(
        "passport_or_licence",
        Pii,
        Direct,
        NUMBER,
        ValueTest::Mark,
        &[
            "dlnumber",
            "driverlicense",
            "driverlicensenumber",
            "driverslicense",
            "driverslicence",
            "drivinglicence",
            "fuehrerschein",
            "pasaporte",
            "passport",
            "passportno",
            "passportnumber",
            "permisconduire",
            "reisepass",
            "reisepassnummer",
        ],
    )
    .against(&["country", "expiry", "issued", "issuing", "state"]),
    detector(
        "username",
        Pii,
        Direct,
        TEXT,
        ValueTest::Text(is_login),
        &["accountname", "benutzername", "login", "loginname", "nomutilisateur", "screenname", "userlogin", "username"],
    )
    .rates(0.8, 0.9)
    .against(&["attempts", "method", "page", "provider", "url"]),
    detector(
        "street_address",
        Pii,
        Direct,
        TEXT,
        ValueTest::Text(is_street),
        &[
            "addr",
            "address",
            "addressline",
            "addrline",
            "adresse",
            "anschrift",
            "calle",
            "direccion",
            "domicilio",
            "endereco",
            "homeaddress",
            "indirizzo",
            "rue",
            "strasse",
            "street",
            "streetaddress",
        ],
    )
    .against(&["bus", "email", "host", "ip", "mac", "mail", "memory", "server", "url", "wallet", "web"])
    .rates(0.5, 0.6),
    detector(
        "person_name",
        Pii,
        Direct,
        TEXT,
        ValueTest::Person { known: 0.05 },
        &[
            "apellido",
            "apellidos",
            "christianname",
            "cognome",
            "employeename",
            "familienname",
            "familyname",
            "firstname",
            "fname",
            "forename",
            "fullname",
            "givenname",
            "lastname",
            "lname",
            "maidenname",
            "membername",
            "middlename",
            "nachname",
            "naam",
            "nombrecompleto",
            "nomfamille",
            "patientname",
            "personname",
            "prenom",
            "primerapellido",
            "sobrenome",
            "studentname",
            "subscribername",
            "surname",
            "voornaam",
            "vorname",
            "achternaam",
            "emergencycontactname",
            "insuredname",
        ],
    )
    .rates(0.8, 0.8)
    .blind(0.8)
    .against(THINGS),
    detector(
        "person_name",
        Pii,
        Direct,
        TEXT,
        ValueTest::Person { known: 0.2 },
        &["first", "last", "maiden", "middle"],
    )
    .rates(0.8, 2.0)
    .blind(0.0),
    detector(
        "person_name",
        Pii,
        Direct,
        TEXT,
        ValueTest::Person { known: 0.4 },
        &[
            "agent",
            "assignee",
            "author",
            "beneficiary",
            "claimant",
            "clientname",
            "contact",
            "contactname",
            "createdby",
            "customer",
            "customername",
            "doctor",
            "driver",
            "employee",
            "holder",
            "manager",
            "member",
            "name",
            "nom",
            "nombre",
            "nome",
            "owner",
            "patient",
            "physician",
            "provider",
            "providername",
            "reviewer",
            "salesrep",
            "signatory",
            "student",
            "subscriber",
            "updatedby",
            "user",
        ],
    )
    .rates(0.8, 0.8)
    .alone(|text, people| people.likeness(text) == Likeness::Whole, 0.5, 5)
    .unless(THINGS)
    .blind(0.0)
    .against(THINGS),
    // Marks that stand for people.
    detector(
        "member_id",
        Pii,
        Direct,
        NUMBER,
        ValueTest::Mark,
        &[
            "beneficiaryid",
            "healthplanid",
            "hicn",
            "insuredid",
            "krankenversichertennummer",
            "mbi",
            "medicaidid",
            "medicareid",
            "memberid",
            "memberkey",
            "memberno",
            "membernumber",
            "policyholderid",
            "subscriberid",
            "subscribernumber",
            "versichertennummer",
        ],
    )
    .rates(0.8, 0.8),
    detector(
        "person_key",
        Pii,
        BusinessKey,
        NUMBER,
        ValueTest::Mark,
        &[
            "claimantid",
            "clientid",
            "custid",
            "customerid",
            "customerkey",
            "customerno",
            "customernumber",
            "driverid",
            "empid",
            "employeeid",
            "employeeno",
            "employeenumber",
            "kundennummer",
            "numeroclient",
            "personalnummer",
            "personid",
            "staffid",
            "studentid",
            "studentnumber",
            "userid",
        ],
    )
    .rates(0.8, 0.8),
    // People, by what is combined.
    detector(
        "birth_date",
        Pii,
        Quasi,
        DATE,
        ValueTest::Birth,
        &[
            "bday",
            "birthdate",
            "birthday",
            "birthdt",
            "born",
            "dataurodzenia",
            "datadenascimento",
            "datadinascita",
            "datanascimento",
            "datanascita",
            "datebirth",
            "datedenaissance",
            "datenaissance",
            "dateofbirth",
            "dateofdeath",
            "deathdate",
            "dob",
            "fechadenacimiento",
            "fechanacimiento",
            "fodelsedatum",
            "gebdat",
            "gebdatum",
            "geboortedatum",
            "geburtsdatum",
            "geburtstag",
        ],
    )
    .rates(0.7, 0.8)
    .blind(0.75),
    detector(
        "birth_year",
        Pii,
        Quasi,
        NUMBER,
        ValueTest::Text(is_year),
        &["anneenaissance", "birthyear", "geburtsjahr", "yearofbirth", "yob"],
    )
    .rates(0.8, 0.8),
    detector(
        "postal_code",
        Pii,
        Quasi,
        NUMBER,
        ValueTest::Text(is_postal_code),
        &[
            "cep",
            "codepostal",
            "codigopostal",
            "pincode",
            "plz",
            "postalcode",
            "postcode",
            "postleitzahl",
            "postnr",
            "postnummer",
            "zip",
            "zip4",
            "zip5",
            "zipcode",
            "zipplus4",
        ],
    )
    .against(&["archive", "bytes", "folder", "url"])
    .alone(|text, _| is_written_postal_code(text), 0.9, 5),
    detector(
        "ip_address",
        Pii,
        Quasi,
        TEXT,
        ValueTest::Text(is_ip),
        &[
            "clientip",
            "ip",
            "ipaddr",
            "ipaddress",
            "ipadresse",
            "ipv4",
            "ipv6",
            "remoteaddr",
            "remoteaddress",
            "remoteip",
            "sourceip",
            "srcip",
            "clientaddress",
            "clientaddr",
        ],
    )
    .rates(0.5, 0.5)
    .alone(|text, _| is_unlike_version(text), 0.5, 3)
    .unless(&["build", "release", "version", "ver", "firmware"]),
    detector(
        "gender",
        Pii,
        Quasi,
        NUMBER,
        ValueTest::Text(is_gender),
        &["gender", "geschlecht", "geslacht", "sesso", "sex", "sexe", "sexo"],
    )
    .rates(0.9, 0.9),
    detector(
        "age",
        Pii,
        Quasi,
        NUMBER,
        ValueTest::Text(is_age),
        &["age", "ageinyears", "ageyears", "alter", "edad", "idade", "leeftijd"],
    )
    .against(&["account", "cache", "cookie", "entry", "inventory", "record", "vehicle", "session", "invoice"])
    .rates(0.95, 2.0)
    .blind(0.5),
    detector("age", Pii, Quasi, &[ValueKind::Fraction], ValueTest::Any, &["age", "ageinyears", "ageyears"])
        .against(&["account", "cache", "cookie", "entry", "inventory", "record", "vehicle", "session", "invoice"])
        .rates(1.0, 2.0)
        .blind(0.5),
    detector("demographic", Pii, Quasi, TEXT, ValueTest::Any, &["marital", "race"]).rates(1.0, 2.0),
    detector(
        "demographic",
        Pii,
        Quasi,
        TEXT,
        ValueTest::Any,
        &[
            "birthplace",
            "citizenship",
            "ethnicgroup",
            "ethnicity",
            "familienstand",
            "konfession",
            "maritalstatus",
            "geburtsort",
            "nationality",
            "placeofbirth",
            "religion",
            "sexualorientation",
            "staatsangehoerigkeit",
        ],
    )
    .blind(0.75),
    detector(
        "vehicle",
        Pii,
        Quasi,
        TEXT,
        ValueTest::Text(is_vin),
        &["vehicleidentificationnumber", "vin", "vinnumber"],
    )
    .rates(0.5, 0.5)
    .alone(|text, _| is_vin(text), 0.8, 5),
    detector(
        "vehicle",
        Pii,
        Quasi,
        TEXT,
        ValueTest::Mark,
        &["kennzeichen", "licenceplate", "licenseplate", "numberplate", "platenumber"],
    ),
    // Health.
    detector(
        "medical_record_number",
        Phi,
        Direct,
        NUMBER,
        ValueTest::Mark,
        &[
            "chartno",
            "chartnumber",
            "hospitalnumber",
            "medicalrecord",
            "medicalrecordno",
            "medicalrecordnumber",
            "medrecno",
            "mrn",
            "patientid",
            "patientidentifier",
            "patientkey",
            "patientno",
            "patientnumber",
        ],
    )
    .rates(0.8, 0.8)
    .alone(|text, _| is_written_mrn(text), 0.8, 3)
    .blind(0.8)
    .sticky()
    .health(),
    detector(
        "gb_nhs_number",
        Phi,
        Direct,
        NUMBER,
        ValueTest::Text(is_nhs_number),
        &["healthnumber", "nhs", "nhsno", "nhsnumber"],
    )
    .rates(0.7, 0.8)
    .blind(0.75)
    .health(),
    detector(
        "icd10",
        Phi,
        Quasi,
        TEXT,
        ValueTest::Text(is_icd),
        &[
            "diag",
            "diagcode",
            "diagnose",
            "diagnosecode",
            "diagnosis",
            "diagnosiscode",
            "dx",
            "dxcode",
            "icd",
            "icd10",
            "icd10code",
            "icdcode",
        ],
    )
    .rates(0.6, 0.6)
    .alone(|text, _| is_written_icd(text), 0.9, 5)
    .health(),
    detector(
        "health",
        Phi,
        Quasi,
        NUMBER,
        ValueTest::Any,
        &[
            "allergies",
            "allergy",
            "bloodgroup",
            "bloodtype",
            "cptcode",
            "diagnose",
            "diagnosis",
            "dgns",
            "drugname",
            "hcpcs",
            "icd9",
            "labresult",
            "medicalcondition",
            "medicalhistory",
            "medication",
            "ndccode",
            "prescription",
            "procedurecode",
            "symptom",
        ],
    )
    .blind(0.8)
    .against(&["server", "system", "vehicle", "stored"])
    .health(),
    // Secrets and pay.
    detector(
        "credential",
        Confidential,
        NoRole,
        TEXT,
        ValueTest::Any,
        &[
            "accesskey",
            "accesstoken",
            "apikey",
            "apisecret",
            "apitoken",
            "authtoken",
            "clientsecret",
            "contrasena",
            "kennwort",
            "motdepasse",
            "passphrase",
            "passwd",
            "password",
            "passwordhash",
            "passwordsalt",
            "passwort",
            "privatekey",
            "pwd",
            "refreshtoken",
            "secret",
            "secretkey",
            "sessiontoken",
        ],
    )
    .blind(0.85)
    .against(&["expires", "expiry", "hint", "policy", "strength"]),
    detector("credential", Confidential, NoRole, TEXT, ValueTest::Text(is_secret), &[])
        .alone(|text, _| is_secret(text), 0.5, 1)
        .plain(),
    detector(
        "pay",
        Confidential,
        NoRole,
        AMOUNT,
        ValueTest::Any,
        &[
            "annualincome",
            "annualsalary",
            "basepay",
            "basesalary",
            "bruttogehalt",
            "gehalt",
            "grosspay",
            "hourlywage",
            "income",
            "netpay",
            "payrate",
            "salaire",
            "salario",
            "salary",
            "stipendio",
            "wage",
        ],
    )
    .blind(0.8)
    .against(&["band", "grade", "month", "year"]),
];

/// Four or five digits.
fn is_short_pin(text: &str) -> bool {
    text.len() < 6 && is_pin(text)
}

/// A year in which somebody who lives may be born.
fn is_year(text: &str) -> bool {
    text.len() == 4 && text.parse::<i32>().is_ok_and(|year| (1900..=2035).contains(&year))
}

/// A name with which somebody signs in: one word.
fn is_login(text: &str) -> bool {
    (2..=64).contains(&text.len())
        && text.chars().any(char::is_alphabetic)
        && text.chars().all(|c| c.is_alphanumeric() || "._-@+\\".contains(c))
}

/// A medical record's number that says that it is one.
fn is_written_mrn(text: &str) -> bool {
    let rest = text.get(..3).filter(|head| head.eq_ignore_ascii_case("mrn")).and_then(|_| text.get(3..));
    rest.is_some_and(|rest| {
        let digits = rest.trim_start_matches(['-', '_', ':', ' ', '#']);
        digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}
