//! Names of shares, schemas, tables and recipients: which are allowed, and when two are the same.
//!
//! The only place where names are validated or compared. Never here: where names are stored.

use std::fmt;

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory},
};
use unicode_normalization::UnicodeNormalization;

/// The longest name in characters (Delta Sharing protocol, "Names").
pub const MAX_CHARACTERS: usize = 255;

/// The kind of thing that a name belongs to; the protocol's rules differ a little between kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A share.
    Share,
    /// A schema inside a share; no `.`.
    Schema,
    /// A table inside a schema of a share; no `.`.
    Table,
    /// A recipient.
    Recipient,
    /// A table as the operator registered it, dotted: `claims.claims`.
    RegisteredTable,
    /// A governed view, dotted like a table, but without `@`, which separates the version: `claims.claims_fraud`.
    View,
    /// A credential of a recipient.
    Credential,
    /// An operator.
    Operator,
    /// A group of principals.
    Group,
    /// A domain that tables and shares belong to.
    Domain,
    /// A purpose.
    Purpose,
    /// An agreement.
    Agreement,
    /// A use case.
    UseCase,
    /// A control, which has the name of its class.
    Control,
    /// An exception.
    Exception,
}

impl NameKind {
    /// The word that messages use.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Schema => "schema",
            Self::Table => "table",
            Self::Recipient => "recipient",
            Self::RegisteredTable => "table",
            Self::View => "view",
            Self::Credential => "credential",
            Self::Operator => "operator",
            Self::Group => "group",
            Self::Domain => "domain",
            Self::Purpose => "purpose",
            Self::Agreement => "agreement",
            Self::UseCase => "use case",
            Self::Control => "control",
            Self::Exception => "exception",
        }
    }

    fn allows_dot(self) -> bool {
        !matches!(self, Self::Schema | Self::Table)
    }
}

/// Why a text is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a {} name must not be empty", .0.noun())]
    Empty(NameKind),
    /// The text is longer than [`MAX_CHARACTERS`].
    #[error("a {} name has at most {MAX_CHARACTERS} characters", .0.noun())]
    TooLong(NameKind),
    /// The text holds a character that the protocol forbids.
    #[error("a {} name must not contain {}", .0.noun(), show(*.1))]
    Forbidden(NameKind, char),
    /// The text is `.` or `..`, or a dotted name has an empty part.
    #[error("a {} name must not be `.` or `..` or have an empty part between dots", .0.noun())]
    Dots(NameKind),
}

fn show(character: char) -> String {
    match character {
        ' ' => "a space".to_owned(),
        c if c.is_control() || c.is_whitespace() || is_invisible(c) => format!("the character U+{:04X}", c as u32),
        c => format!("`{c}`"),
    }
}

/// Whether a character is invisible or changes how others look, so that names which look the same may differ by it:
/// Unicode's default-ignorable code points (joiners, variation selectors, tags, fillers), its format characters
/// (bidirectional controls among them), and the Braille blank.
pub fn is_invisible(c: char) -> bool {
    !c.is_ascii()
        && (c == '\u{2800}'
            || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
            || CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::Format)
}

/// Whether a character is a control of Unicode's bidirectional algorithm (UAX #9, 2), which only changes the direction
/// of text.
pub fn is_directional(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A valid name as it was created, with its comparison key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    text: String,
    key: String,
}

impl Name {
    /// Checks `text` by the protocol's rules for `kind`, and refuses invisible characters.
    pub fn parse(kind: NameKind, text: &str) -> Result<Self, NameError> {
        let name = Self::stored(kind, text)?;
        match text.chars().find(|c| is_invisible(*c)) {
            Some(character) => Err(NameError::Forbidden(kind, character)),
            None => Ok(name),
        }
    }

    /// Like [`Self::parse`], but accepts invisible characters, which were allowed in the past; for stored names.
    pub fn stored(kind: NameKind, text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty(kind));
        }
        // Counting stops early, so that a huge text costs little.
        if text.chars().take(MAX_CHARACTERS + 1).count() > MAX_CHARACTERS {
            return Err(NameError::TooLong(kind));
        }
        let forbidden = |c: char| {
            c == '/'
                || c == '\\'
                || c == ' '
                || c.is_control()
                || c.is_whitespace()
                || (c == '.' && !kind.allows_dot())
                || (c == '@' && kind == NameKind::View)
        };
        if let Some(character) = text.chars().find(|c| forbidden(*c)) {
            return Err(NameError::Forbidden(kind, character));
        }
        let dotted = matches!(kind, NameKind::RegisteredTable | NameKind::View);
        if text == "." || text == ".." || (dotted && text.split('.').any(str::is_empty)) {
            return Err(NameError::Dots(kind));
        }
        Ok(Self { text: text.to_owned(), key: name_key(text) })
    }

    /// The name as it was created.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The comparison key; see [`name_key`].
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// The comparison key of a name; two names are the same exactly if their keys are equal. It is Unicode's canonical
/// caseless matching (D145), normalised to NFC. Databases compare keys byte by byte, so their collations do not matter.
///
/// Every text that a caller may send has a key. PostgreSQL does not accept U+0000, so it is replaced by `/`; no valid
/// name contains either.
pub fn name_key(text: &str) -> String {
    // For ASCII, case folding is lower-casing, and normalisation changes nothing.
    if text.is_ascii() {
        return text.to_ascii_lowercase().replace('\0', "/");
    }
    let folded = caseless::default_case_fold_str(&text.nfd().collect::<String>());
    folded.nfc().map(|c| if c == '\0' { '/' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_after_normalisation() {
        assert_eq!(name_key("Straße"), name_key("STRASSE"));
        assert_eq!(name_key("Caf\u{e9}"), name_key("CAFE\u{301}"));
        assert_ne!(name_key("a"), name_key("b"));
        assert_eq!((name_key("A\0b"), name_key("Ä\0")), ("a/b".to_owned(), "ä/".to_owned()));
    }

    #[test]
    fn the_protocols_rules_hold() {
        for kind in [NameKind::Share, NameKind::Schema, NameKind::Table, NameKind::Recipient] {
            for bad in ["", "a b", "a/b", "a\u{7f}", "a\u{0}", "a\nb", "..", ".", "a\u{2028}b"] {
                assert!(Name::parse(kind, bad).is_err(), "{kind:?} {bad:?}");
            }
            assert!(Name::parse(kind, &"x".repeat(256)).is_err());
            assert!(Name::parse(kind, &"ä".repeat(255)).is_ok());
        }
        assert!(Name::parse(NameKind::Schema, "a.b").is_err());
        assert!(Name::parse(NameKind::Share, "a.b").is_ok());
        assert!(Name::parse(NameKind::RegisteredTable, "claims.claims").is_ok());
        assert!(Name::parse(NameKind::RegisteredTable, "claims..claims").is_err());
    }

    #[test]
    fn what_nobody_sees_is_in_no_name() {
        let kinds = [
            NameKind::Share,
            NameKind::Schema,
            NameKind::Table,
            NameKind::Recipient,
            NameKind::RegisteredTable,
            NameKind::View,
            NameKind::Credential,
            NameKind::Operator,
        ];
        let invisible = "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{180b}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\
                         \u{202a}\u{202e}\u{2060}\u{2064}\u{2066}\u{2069}\u{206f}\u{2800}\u{3164}\u{fe00}\u{fe0f}\u{feff}\
                         \u{ffa0}\u{fff0}\u{fff9}\u{1bca0}\u{1d173}\u{e0001}\u{e0041}\u{e007f}\u{e0100}\u{e0fff}\u{600}";
        for kind in kinds {
            for c in invisible.chars() {
                for name in [format!("ac{c}me"), format!("{c}acme"), format!("acme{c}")] {
                    assert!(Name::parse(kind, &name).is_err(), "{kind:?} U+{:04X}", c as u32);
                    assert_eq!(Name::stored(kind, &name).unwrap().as_str(), name);
                }
            }
            for seen in ["acme", "größe", "日本", "שלום", "हिन्दी", "é\u{301}"] {
                assert!(Name::parse(kind, seen).is_ok(), "{kind:?} {seen}");
            }
        }
        let error = Name::parse(NameKind::Recipient, "ac\u{200b}me").unwrap_err().to_string();
        assert_eq!(error, "a recipient name must not contain the character U+200B");
    }
}
