//! Country files by themselves: what is read of them, and what is not taken.

use std::{fs, net::IpAddr, path::PathBuf};

use tempfile::TempDir;
use weir::geography::{Countries, CountryFile, CountryFileError};

use crate::support::mmdb::{country_file, file_about};

struct Place {
    folder: TempDir,
}

impl Place {
    fn new(bytes: &[u8]) -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        place.write(bytes);
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("countries.mmdb")
    }

    /// Puts a file in the place of the one before, as tools that update such files do.
    fn write(&self, bytes: &[u8]) {
        let new = self.folder.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.path()).unwrap();
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn seen(countries: &Countries, text: &str) -> String {
    countries.of(address(text)).map_or_else(String::new, |country| country.to_string())
}

const NETWORKS: [(&str, &str); 5] = [
    ("198.51.100.0/24", "DE"),
    ("203.0.113.128/25", "US"),
    ("203.0.113.7/32", "FR"),
    ("192.0.2.0/24", ""),
    ("2001:db8:49::/48", "DE"),
];

#[test]
fn an_address_is_where_the_file_says() {
    let place = Place::new(&country_file(&NETWORKS));
    let countries = Countries::open(&place.path()).unwrap();
    for (address, country) in [
        ("198.51.100.0", "DE"),
        ("198.51.100.255", "DE"),
        ("198.51.101.0", ""),
        ("203.0.113.127", ""),
        ("203.0.113.128", "US"),
        ("203.0.113.7", "FR"),
        ("::ffff:203.0.113.7", "FR"),
        ("2001:db8:49::1", "DE"),
        ("2001:db8:4a::1", ""),
        // Where a network is registered is not where it is.
        ("192.0.2.1", ""),
        ("127.0.0.1", ""),
        ("10.1.2.3", ""),
        ("::1", ""),
    ] {
        assert_eq!(seen(&countries, address), country, "{address}");
    }
    assert_eq!(countries.made_at().unwrap().timestamp(), 1_790_000_000);
    assert_eq!(CountryFile::read(&place.path()).unwrap().about(), "Test-Country");
}

#[test]
fn what_is_no_country_file_is_told_from_one() {
    let good = country_file(&NETWORKS);
    let place = Place::new(&good);
    let said = |bytes: &[u8]| {
        place.write(bytes);
        CountryFile::read(&place.path()).unwrap_err()
    };
    assert!(matches!(said(b""), CountryFileError::Broken { .. }));
    assert!(matches!(said(b"<html>please sign in</html>"), CountryFileError::Broken { .. }));
    assert!(matches!(said(&[0; 4096]), CountryFileError::Broken { .. }));
    let codes = file_about("Test-Codes", &[("198.51.100.0/24", "de"), ("192.0.2.0/24", "")]);
    let error = said(&codes);
    assert!(
        matches!(error, CountryFileError::NoCountries { .. }) && error.to_string().contains("Test-Codes"),
        "{error}"
    );
    assert!(matches!(CountryFile::read(place.folder.path()).unwrap_err(), CountryFileError::Unfit { .. }));
    fs::remove_file(place.path()).unwrap();
    assert!(matches!(CountryFile::read(&place.path()).unwrap_err(), CountryFileError::Unreadable { .. }));
    // Larger than any; it takes no room.
    fs::File::create(place.path()).unwrap().set_len((256 << 20) + 1).unwrap();
    assert!(matches!(CountryFile::read(&place.path()).unwrap_err(), CountryFileError::Unfit { .. }));
}

#[test]
fn a_file_that_was_cut_off_or_damaged_at_any_place_is_refused_or_read_and_never_worse() {
    let good = country_file(&NETWORKS);
    let place = Place::new(&good);
    for length in 0..good.len() {
        // The whole of the description at the end has to be there.
        place.write(&good[..length]);
        assert!(CountryFile::read(&place.path()).is_err(), "{length} of {}", good.len());
    }
    let mut refused = 0;
    for at in 0..good.len() {
        for damage in [0x00, 0xff, good[at] ^ 0x01, good[at] ^ 0x40] {
            let mut bytes = good.clone();
            bytes[at] = damage;
            place.write(&bytes);
            match Countries::open(&place.path()) {
                Ok(countries) => {
                    for (network, _) in NETWORKS {
                        countries.of(address(network.split('/').next().unwrap()));
                    }
                    countries.of(address("::1"));
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_file_is_read_again_when_it_changes_and_the_last_good_one_goes_on() {
    let place = Place::new(&country_file(&[("198.51.100.0/24", "DE")]));
    let countries = Countries::open(&place.path()).unwrap();
    let at = || seen(&countries, "198.51.100.7");
    countries.read_again().unwrap();
    assert_eq!(at(), "DE");
    place.write(&country_file(&[("198.51.100.0/24", "FR")]));
    assert_eq!(at(), "DE", "nothing is read on the way of a request");
    countries.read_again().unwrap();
    assert_eq!(at(), "FR");
    let next = country_file(&[("198.51.100.0/24", "US")]);
    for broken in [&b"junk"[..], &next[..next.len() / 2], &[]] {
        place.write(broken);
        // It stays wrong until it is another.
        for _ in 0..2 {
            assert!(matches!(countries.read_again().unwrap_err(), CountryFileError::Broken { .. }));
            assert_eq!(at(), "FR");
        }
    }
    fs::remove_file(place.path()).unwrap();
    assert!(matches!(countries.read_again().unwrap_err(), CountryFileError::Unreadable { .. }));
    assert_eq!(at(), "FR");
    place.write(&next);
    countries.read_again().unwrap();
    assert_eq!(at(), "US");
}
