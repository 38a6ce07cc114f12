//! Where from: the country of a client's address, and whether data may be read from there.
//!
//! Whose address is where is said by a file that others keep, so this is one more gate, and no proof. Never here: looking a
//! country up.

use std::fmt;

use serde::Deserialize;

use crate::domain::core::{
    message::echoed,
    spec::FieldError,
    word::{Words, words_schema},
};

use super::{decision::Reason, recipient::RecipientSpec};

/// How much a decision asks of the country of an address. A later one asks more.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum GeoMode {
    /// Nothing.
    #[default]
    Off,
    /// A known country must be allowed; an address of an unknown one passes.
    Known,
    /// The country must be known and allowed, wherever not every country is.
    Strict,
}

impl Words for GeoMode {
    const NOUN: &'static str = "check of the country";
    const ALL: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("known", Self::Known), ("strict", Self::Strict)];
}
words_schema!(GeoMode, "GeoMode", "How strictly the country of a request is checked.");

/// A country, by its two letters (ISO 3166-1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// Reads a country's two letters. The name of a region is no country.
    pub fn parse(code: &str) -> Option<Self> {
        let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
        (letters.iter().all(u8::is_ascii_uppercase) && !is_named(code)).then_some(Self(letters))
    }

    /// Its two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a decision asks of where a request comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Geography {
    /// How much is asked.
    pub mode: GeoMode,
    /// The country of the client's address, if it is known.
    pub country: Option<Country>,
}

impl Geography {
    /// Checks the country against where the recipient may be, and against the regions that each agreement states. What
    /// nobody restricts may be read from everywhere.
    pub fn check<'a>(
        self,
        agreements: impl IntoIterator<Item = &'a [String]>,
        recipient: &'a RecipientSpec,
    ) -> Result<(), Reason> {
        let mut stated = recipient.own_regions().into_iter().chain(agreements);
        match self.mode == GeoMode::Off || stated.all(|regions| self.is_within(regions)) {
            true => Ok(()),
            false => Err(Reason::GeoDenied(self.country)),
        }
    }

    /// Whether a list of regions allows the country. An empty list allows none, so not an unknown one either.
    fn is_within(self, regions: &[String]) -> bool {
        match self.country {
            Some(country) => regions.iter().any(|region| holds(region, country.as_str())),
            None => self.mode == GeoMode::Known && !regions.is_empty(),
        }
    }
}

/// What a caller is told that is refused because of where it is.
pub fn refusal(seen: Option<Country>) -> String {
    match seen {
        Some(country) => format!(
            "requests from addresses in the country {country} are not allowed for this data; ask the data provider from which \
             countries it may be read"
        ),
        None => "it is not known which country your address is in, and this data may be read from certain countries only; ask \
                 the data provider from which"
            .to_owned(),
    }
}

/// The member states of the European Union, and the areas with a code of their own that belong to it.
const EU: &[&str] = &[
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV",
    "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK", "AX", "GF", "GP", "MF", "MQ", "RE", "YT",
];
/// The other members of the European Economic Area.
const BESIDE_EU: &[&str] = &["IS", "LI", "NO"];
/// The codes of ISO 3166-1, and that of Kosovo, which files use.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS \
    BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ \
    FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT \
    JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP \
    MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE \
    RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV \
    TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// The countries of a region that has a name; none for anything else.
fn members(region: &str) -> impl Iterator<Item = &'static str> {
    let (eu, beside): (&[&str], &[&str]) = match region {
        "EU" => (EU, &[]),
        "EEA" => (EU, BESIDE_EU),
        _ => (&[], &[]),
    };
    eu.iter().chain(beside).copied()
}

fn is_named(region: &str) -> bool {
    members(region).next().is_some()
}

/// Whether a country lies in a region. A region that nobody knows holds none.
fn holds(region: &str, country: &str) -> bool {
    region == country || members(region).any(|member| member == country)
}

/// Whether `wider` holds every country that `regions` hold.
pub(super) fn are_within(regions: &[String], wider: &[String]) -> bool {
    let is_held = |country: &str| wider.iter().any(|region| holds(region, country));
    regions.iter().all(|region| if is_named(region) { members(region).all(is_held) } else { is_held(region) })
}

/// Notes a code that is no country's.
pub(super) fn check_country(field: &str, country: &str, problems: &mut Vec<FieldError>) {
    if !is_country(country) {
        let shown = echoed(country, 16);
        let message = format!("`{shown}` is no country; use two upper-case letters, such as `DE` (ISO 3166-1)");
        problems.push(FieldError::new(field, message));
    }
}

/// Notes each word that is no region's.
pub(super) fn check_regions(field: &str, regions: &[String], problems: &mut Vec<FieldError>) {
    for (index, region) in regions.iter().enumerate().filter(|(_, region)| !is_country(region) && !is_named(region)) {
        let shown = echoed(region, 16);
        let message = format!(
            "`{shown}` is no region; use a country's two upper-case letters, such as `DE` (ISO 3166-1), `EU` or `EEA`"
        );
        problems.push(FieldError::new(format!("{field}[{index}]"), message));
    }
}

fn is_country(code: &str) -> bool {
    COUNTRIES.split(' ').any(|known| known == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn recipient(country: Option<&str>, regions: &[&str]) -> RecipientSpec {
        RecipientSpec { country: country.map(str::to_owned), regions: words(regions), ..RecipientSpec::default() }
    }

    /// The codes that are allowed under `mode`, of `DE`, `FR`, `NO`, `US` and the unknown one, which is `?`.
    fn allowed(mode: GeoMode, agreements: &[&[&str]], recipient: &RecipientSpec) -> String {
        let stated: Vec<Vec<String>> = agreements.iter().map(|regions| words(regions)).collect();
        let mut seen = Vec::new();
        for code in ["DE", "FR", "NO", "US", "?"] {
            let country = Country::parse(code);
            let checked = Geography { mode, country }.check(stated.iter().map(Vec::as_slice), recipient);
            assert!(checked.is_ok() || checked == Err(Reason::GeoDenied(country)), "{checked:?}");
            seen.extend(checked.is_ok().then_some(code));
        }
        seen.join(" ")
    }

    #[test]
    fn every_list_that_is_stated_holds_the_country() {
        let nobody = recipient(None, &[]);
        let (german, european) = (recipient(Some("DE"), &[]), recipient(Some("DE"), &["EU"]));
        let cases: [(&[&[&str]], &RecipientSpec, &str, &str); 13] = [
            (&[], &nobody, "DE FR NO US ?", "DE FR NO US ?"),
            (&[], &german, "DE ?", "DE"),
            // Regions that are stated go before the country where the recipient is established.
            (&[], &european, "DE FR ?", "DE FR"),
            (&[], &recipient(None, &["EEA", "US"]), "DE FR NO US ?", "DE FR NO US"),
            (&[&["EU"]], &nobody, "DE FR ?", "DE FR"),
            // All of the lists count.
            (&[&["EU"]], &german, "DE ?", "DE"),
            (&[&["EU"], &["FR", "US"]], &nobody, "FR ?", "FR"),
            (&[&["FR", "US"]], &european, "FR ?", "FR"),
            (&[&["US"]], &european, "?", ""),
            // An empty list allows nothing, from nowhere.
            (&[&[]], &nobody, "", ""),
            (&[&["EU"], &[]], &european, "", ""),
            // A word that nobody knows, such as one of a newer server, holds no country.
            (&[&["Atlantis"]], &nobody, "?", ""),
            (&[&["Atlantis", "FR"]], &nobody, "FR ?", "FR"),
        ];
        for (agreements, recipient, known, strict) in cases {
            let said = |mode| allowed(mode, agreements, recipient);
            assert_eq!(said(GeoMode::Off), "DE FR NO US ?", "{agreements:?} {recipient:?}");
            assert_eq!(said(GeoMode::Known), known, "{agreements:?} {recipient:?}");
            assert_eq!(said(GeoMode::Strict), strict, "{agreements:?} {recipient:?}");
        }
    }

    #[test]
    fn a_stricter_mode_is_greater() {
        assert!(GeoMode::Off < GeoMode::Known && GeoMode::Known < GeoMode::Strict);
        assert_eq!(GeoMode::default(), GeoMode::Off);
    }

    #[test]
    fn a_country_is_two_letters_and_no_region() {
        for code in ["", "D", "DEU", "de", "D1", "Ä", "EU"] {
            assert_eq!(Country::parse(code), None, "{code}");
        }
        assert_eq!(Country::parse("DE").map(|country| country.to_string()).as_deref(), Some("DE"));
        assert_eq!(COUNTRIES.split(' ').count(), 249 + 1);
        assert!(COUNTRIES.split(' ').is_sorted_by(|one, next| one < next));
        assert_eq!((EU.len(), EU.iter().chain(BESIDE_EU).all(|code| is_country(code))), (27 + 7, true));
    }

    #[test]
    fn what_is_no_region_is_refused() {
        let mut problems = Vec::new();
        check_regions("regions", &words(&["DE", "UK", "EU", " ", "eu", "EEA", "XK"]), &mut problems);
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["regions[1]", "regions[3]", "regions[4]"]);
        let mut problems = Vec::new();
        ["DE", "EU", "UK"].into_iter().for_each(|code| check_country("country", code, &mut problems));
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn narrower_regions_are_known_by_their_countries() {
        let is_within = |regions: &[&str], wider: &[&str]| are_within(&words(regions), &words(wider));
        assert!(is_within(&["DE"], &["EU"]) && is_within(&["EU"], &["EEA"]) && is_within(&[], &[]));
        assert!(is_within(&["EU", "NO"], &["EEA"]) && is_within(&["EEA"], &["EU", "IS", "LI", "NO"]));
        assert!(!is_within(&["EEA"], &["EU"]) && !is_within(&["EU"], &["DE"]) && !is_within(&["US"], &["EEA"]));
    }
}
