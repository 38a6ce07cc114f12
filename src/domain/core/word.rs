//! Words from a closed list, kept as somebody wrote them: an earlier word for the same thing goes on being answered, and a
//! word that only a newer server knows is read as itself.
//!
//! Never here: what a word means, which is its type's.

use std::{borrow::Cow, cmp::Ordering, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    message::{echoed, quoted},
    spec::FieldError,
};

/// A closed list of words.
pub trait Words: Copy + PartialEq + fmt::Debug + 'static {
    /// What one of them is called in messages.
    const NOUN: &'static str;
    /// Every word with what it means; of several for one meaning, the first is the one to write.
    const ALL: &'static [(&'static str, Self)];

    /// The word to write.
    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, meaning)| *meaning == self).map_or("", |(word, _)| word)
    }

    /// What a word means.
    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning)
    }

    /// Every word, quoted, for messages.
    fn listed() -> String {
        quoted(Self::ALL.iter().map(|(word, _)| word))
    }
}

/// A word as it was written. Two are the same that mean the same.
#[derive(Clone)]
pub struct AsWritten<T> {
    text: Cow<'static, str>,
    means: Option<T>,
}

impl<T: Words> AsWritten<T> {
    /// The word `text`, known or not.
    pub fn new(text: &str) -> Self {
        match T::ALL.iter().find(|(known, _)| *known == text) {
            Some((known, meaning)) => Self { text: Cow::Borrowed(known), means: Some(*meaning) },
            None => Self { text: Cow::Owned(text.to_owned()), means: None },
        }
    }

    /// What it means; `None` where this server does not know.
    pub fn means(&self) -> Option<T> {
        self.means
    }

    /// The word itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Notes that input holds a word that nobody knows.
    pub fn check(&self, field: &str, problems: &mut Vec<FieldError>) {
        if self.means.is_none() {
            let shown = echoed(&self.text, 64);
            problems.push(FieldError::new(field, format!("`{shown}` is no {}; use {}", T::NOUN, T::listed())));
        }
    }
}

impl<T: Words> From<T> for AsWritten<T> {
    fn from(means: T) -> Self {
        Self { text: Cow::Borrowed(means.as_str()), means: Some(means) }
    }
}

impl<T: Words> PartialEq for AsWritten<T> {
    fn eq(&self, other: &Self) -> bool {
        match (self.means, other.means) {
            (Some(one), Some(other)) => one == other,
            _ => self.text == other.text,
        }
    }
}

impl<T: Words + Eq> Eq for AsWritten<T> {}

impl<T: Words> PartialEq<T> for AsWritten<T> {
    fn eq(&self, other: &T) -> bool {
        self.means == Some(*other)
    }
}

impl<T: Words> AsWritten<T> {
    /// Where it stands in the list; what nobody knows stands behind it, by its letters.
    fn place(&self) -> (usize, &str) {
        match T::ALL.iter().position(|(_, meaning)| self.means == Some(*meaning)) {
            Some(at) => (at, ""),
            None => (usize::MAX, &self.text),
        }
    }
}

impl<T: Words + Eq> Ord for AsWritten<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl<T: Words + Eq> PartialOrd for AsWritten<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> fmt::Debug for AsWritten<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl<T> Serialize for AsWritten<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, T: Words> Deserialize<'de> for AsWritten<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&String::deserialize(deserializer)?))
    }
}

/// Describes a [`Words`] type as a text with these words.
macro_rules! words_schema {
    ($words:ty, $name:literal, $description:literal) => {
        impl utoipa::PartialSchema for $words {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let words = <Self as $crate::domain::core::word::Words>::ALL.iter().map(|(word, _)| *word);
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some($description))
                    .enum_values(Some(words))
                    .into()
            }
        }

        impl utoipa::ToSchema for $words {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
        }
    };
}
pub(in crate::domain) use words_schema;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Colour {
        Red,
        Green,
    }

    impl Words for Colour {
        const NOUN: &'static str = "colour";
        const ALL: &'static [(&'static str, Self)] =
            &[("red", Self::Red), ("green", Self::Green), ("crimson", Self::Red)];
    }

    #[test]
    fn a_word_stays_as_it_was_written_and_means_what_its_synonym_does() {
        let (red, crimson) = (AsWritten::<Colour>::from(Colour::Red), AsWritten::<Colour>::new("crimson"));
        assert_eq!(red, crimson);
        assert_ne!(red, AsWritten::from(Colour::Green));
        assert_eq!(serde_json::to_value(&crimson).unwrap(), "crimson");
        assert_eq!(red.as_str(), "red");
        assert_eq!(red, Colour::Red);
        let mut words: Vec<AsWritten<Colour>> = ["blue", "green", "azure", "red"].map(AsWritten::new).into();
        words.sort();
        assert_eq!(words.iter().map(AsWritten::as_str).collect::<Vec<_>>(), ["red", "green", "azure", "blue"]);
    }

    #[test]
    fn a_word_of_a_newer_server_is_read_as_itself_and_refused_as_input() {
        let later: AsWritten<Colour> = serde_json::from_value("blue".into()).unwrap();
        assert_eq!((later.means(), later.as_str()), (None, "blue"));
        assert_eq!(serde_json::to_value(&later).unwrap(), "blue");
        let mut problems = Vec::new();
        later.check("colour", &mut problems);
        assert_eq!(problems[0].message, "`blue` is no colour; use `red`, `green`, `crimson`");
        AsWritten::from(Colour::Red).check("colour", &mut problems);
        assert_eq!(problems.len(), 1);
    }
}
