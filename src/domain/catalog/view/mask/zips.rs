//! The ZIP code prefixes that must not be shown.

use std::{collections::BTreeSet, sync::Arc};

/// The first three digits of the ZIP code tabulation areas with at most 20,000 inhabitants by the census of 2000, as
/// HHS published them ("Guidance Regarding Methods for De-identification of Protected Health Information", 2012).
const CENSUS_2000: [&str; 17] = [
    "036", "059", "063", "102", "203", "556", "692", "790", "821", "823", "830", "831", "878", "879", "884", "890",
    "893",
];
/// The same by the census of 2010, for which HHS published no list: the 14 that Microsoft's Tools for Health Data
/// Anonymization give, and 202, 204, 753 and 772, which have no inhabitants.
const CENSUS_2010: [&str; 18] = [
    "036", "059", "102", "202", "203", "204", "205", "369", "556", "692", "753", "772", "821", "823", "878", "879",
    "884", "893",
];

/// Three-digit prefixes of ZIP codes with few inhabitants: by default all that had at most 20,000 by the census of 2000
/// or of 2010, because old data are still shared. The census of 2020 is not included. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowZips(Arc<BTreeSet<String>>);

impl Default for LowZips {
    fn default() -> Self {
        Self::new(&[], false)
    }
}

impl LowZips {
    /// Combines the published prefixes with `more`, or takes `more` alone if it replaces them.
    pub fn new(more: &[String], replaces_published: bool) -> Self {
        let published = CENSUS_2000.iter().chain(&CENSUS_2010).map(|prefix| (*prefix).to_owned());
        Self(Arc::new(published.filter(|_| !replaces_published).chain(more.iter().cloned()).collect()))
    }

    /// Whether a prefix has few inhabitants.
    pub fn contains(&self, prefix: &str) -> bool {
        self.0.contains(prefix)
    }

    /// All prefixes as one text, for the hash that materializations depend on.
    pub fn text(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_adds_to_the_published_ones_unless_it_is_said_to_replace_them() {
        let more = ["941".to_owned()];
        let (added, alone) = (LowZips::new(&more, false), LowZips::new(&more, true));
        for prefix in CENSUS_2000.iter().chain(&CENSUS_2010) {
            assert!(LowZips::default().contains(prefix) && added.contains(prefix) && !alone.contains(prefix));
        }
        assert!(added.contains("941") && alone.contains("941") && !LowZips::default().contains("941"));
        assert_eq!((LowZips::default().text().len(), alone.text().as_str()), (23 * 4 - 1, "941"));
    }
}
