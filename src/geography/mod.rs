//! The country of an address, from a file in MaxMind's format that the operator names and others keep.
//!
//! The file is held in memory, and read again when it changes. One that cannot be used is never taken: the last good one
//! goes on. Never here: what a country means for anybody's access.

use std::{
    collections::HashSet,
    fs::{File, Metadata},
    io::Read,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use maxminddb::{MaxMindDbError, PathElement, Reader};

use crate::domain::access::geography::Country;

/// The largest file that is read; those with cities have some 60 MiB.
const LARGEST: u64 = 256 << 20;
/// Where a record has the country of an address. Beside it stand other countries, such as that of the registration.
const COUNTRY: [PathElement<'static>; 2] = [PathElement::Key("country"), PathElement::Key("iso_code")];

/// A country file that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CountryFileError {
    /// It cannot be read.
    #[error("the country file `{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// It is none, or larger than any.
    #[error("`{path}` is no file of at most {} MiB; name a country file in MaxMind's format", LARGEST >> 20)]
    Unfit {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or in another format.
    #[error("the country file `{path}` is damaged or in another format than MaxMind's: {what}; get it again")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: Arc<str>,
    },
    /// It is about something else than countries.
    #[error("`{path}` names no country at all ({about}); use a country or city database")]
    NoCountries {
        /// The file.
        path: PathBuf,
        /// What it says it is about.
        about: Arc<str>,
    },
}

/// Which countries addresses are in.
#[derive(Debug)]
pub struct Countries {
    path: PathBuf,
    held: RwLock<CountryFile>,
    seen: Mutex<Seen>,
}

/// What was last found where the file is.
#[derive(Debug)]
struct Seen {
    stamp: Option<Stamp>,
    outcome: Result<(), CountryFileError>,
}

/// What tells a file from its previous versions: inode number, size and modification time.
type Stamp = (u64, u64, i64, i64);

impl Countries {
    /// Reads the file at `path`, which must be good.
    pub fn open(path: &Path) -> Result<Self, CountryFileError> {
        let stamp = stamp(path);
        let held = CountryFile::read(path)?;
        let seen = Seen { stamp, outcome: Ok(()) };
        Ok(Self { path: path.to_owned(), held: RwLock::new(held), seen: Mutex::new(seen) })
    }

    /// The country that `address` is in, if the file knows.
    pub fn of(&self, address: IpAddr) -> Option<Country> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).country_of(address)
    }

    /// When the file that is held was made.
    pub fn made_at(&self) -> Option<DateTime<Utc>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).made_at()
    }

    /// Reads the file again if it has changed. An error says why the one that is there now is not used. Blocks.
    pub fn read_again(&self) -> Result<(), CountryFileError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the file is read: what changes meanwhile is read once more.
        let stamp = stamp(&self.path);
        if stamp != seen.stamp || stamp.is_none() {
            let read = CountryFile::read(&self.path);
            let outcome = read.map(|read| {
                tracing::info!(file = %self.path.display(), about = read.about(), "the country file was read again");
                let old = std::mem::replace(&mut *self.held.write().unwrap_or_else(PoisonError::into_inner), read);
                // Freed when nobody waits for it any more.
                drop(old);
            });
            *seen = Seen { stamp, outcome };
        }
        seen.outcome.clone()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

/// A country file that can be used: every record of it was read once.
#[derive(Debug)]
pub struct CountryFile {
    reader: Reader<Vec<u8>>,
}

impl CountryFile {
    /// Reads the file at `path`. Blocks.
    pub fn read(path: &Path) -> Result<Self, CountryFileError> {
        let unreadable = |source| CountryFileError::Unreadable { path: path.to_owned(), source: Arc::new(source) };
        let unfit = || CountryFileError::Unfit { path: path.to_owned() };
        // Opening what is no file may block.
        let is_fit = |found: &Metadata| found.is_file() && found.len() <= LARGEST;
        if !is_fit(&std::fs::metadata(path).map_err(unreadable)?) {
            return Err(unfit());
        }
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
            return Err(unfit());
        }
        let broken =
            |error: MaxMindDbError| CountryFileError::Broken { path: path.to_owned(), what: error.to_string().into() };
        let read = Self { reader: Reader::from_source(bytes).map_err(broken)? };
        match read.names_countries().map_err(broken)? {
            true => Ok(read),
            false => Err(CountryFileError::NoCountries {
                path: path.to_owned(),
                about: read.reader.metadata().database_type.as_str().into(),
            }),
        }
    }

    /// What the file says it is about, such as `GeoLite2-Country`.
    pub fn about(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// When it was made.
    pub fn made_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.reader.metadata().build_epoch.try_into().ok()?, 0)
    }

    fn country_of(&self, address: IpAddr) -> Option<Country> {
        // Every record was read when the file was: an error is an IPv6 address that a file of IPv4 cannot have.
        let found = self.reader.lookup(address.to_canonical()).ok()?;
        found.decode_path::<&str>(&COUNTRY).ok().flatten().and_then(Country::parse)
    }

    /// Reads every record, and returns whether any names a country.
    fn names_countries(&self) -> Result<bool, MaxMindDbError> {
        let (mut names_any, mut read) = (false, HashSet::new());
        // A tree has one network more than nodes, and some parts of it may be shared; many more lead in circles.
        let mut left = u64::from(self.reader.metadata().node_count).saturating_mul(3) + 2;
        for network in self.reader.networks(maxminddb::WithinOptions::default())? {
            let network = network?;
            left = left.checked_sub(1).ok_or_else(|| MaxMindDbError::invalid_database("its tree leads in circles"))?;
            if network.offset().is_some_and(|offset| read.insert(offset)) {
                names_any |= network.decode_path::<&str>(&COUNTRY)?.and_then(Country::parse).is_some();
            }
        }
        Ok(names_any)
    }
}
