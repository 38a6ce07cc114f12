//! Paths that tell steps into lists and maps apart from fields of the same name, and the rules for shown names.

use crate::domain::{
    catalog::schema::{ColumnPath, ELEMENT, KEY, MAX_DEPTH, Step, VALUE},
    core::name::name_key,
};

/// The longest shown name, in characters.
const MAX_NAME: usize = 255;
/// Characters that column names may contain only under column mapping, which governed tables do not use.
const UNMAPPED: [char; 10] = [' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// A step of a path, distinct from a field that has the step's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Field(String),
    Element,
    Key,
    Value,
}

impl Part {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Field(name) => name,
            Self::Element => ELEMENT,
            Self::Key => KEY,
            Self::Value => VALUE,
        }
    }

    pub(super) fn is_field(&self) -> bool {
        matches!(self, Self::Field(_))
    }

    /// The kind of type that it is a part of.
    pub(super) fn parent(&self) -> &'static str {
        match self {
            Self::Field(_) => "struct",
            Self::Element => "list",
            Self::Key | Self::Value => "map",
        }
    }

    /// The part by which names are compared: names that readers confuse have the same key.
    pub(super) fn key(&self) -> Self {
        match self {
            Self::Field(name) => Self::Field(name_key(name)),
            other => other.clone(),
        }
    }
}

impl From<&Step<'_>> for Part {
    fn from(step: &Step<'_>) -> Self {
        match step {
            Step::Field(field) => Self::Field(field.name.clone()),
            Step::Element { .. } => Self::Element,
            Step::Key => Self::Key,
            Step::Value { .. } => Self::Value,
        }
    }
}

pub(super) fn path(parts: &[Part]) -> ColumnPath {
    ColumnPath(parts.iter().map(|part| part.name().to_owned()).collect())
}

pub(super) fn names(parts: &[Part]) -> Vec<String> {
    path(parts).0
}

/// Splits a shown name into parts. Steps into lists and maps stand where the source's path has them or, if the lengths
/// differ, at the first places with the right words. `None` if a step is missing.
pub(super) fn aligned(name: &[String], source: &[Part]) -> Option<Vec<Part>> {
    let in_place = name.len() == source.len()
        && name.iter().zip(source).all(|(name, part)| part.is_field() || name == part.name());
    if in_place {
        let parts = name.iter().zip(source);
        return Some(
            parts.map(|(name, part)| if part.is_field() { Part::Field(name.clone()) } else { part.clone() }).collect(),
        );
    }
    let mut steps = source.iter().filter(|part| !part.is_field()).peekable();
    let mut parts = Vec::with_capacity(name.len());
    for (at, name) in name.iter().enumerate() {
        match steps.peek() {
            Some(step) if at > 0 && step.name() == name => {
                parts.push((*step).clone());
                steps.next();
            }
            _ => parts.push(Part::Field(name.clone())),
        }
    }
    (steps.next().is_none() && !parts.is_empty()).then_some(parts)
}

/// Why a leaf cannot be shown under this name; `None` if it can.
pub(super) fn unfit_name(name: &[Part]) -> Option<String> {
    if name.len() > MAX_DEPTH {
        return Some(format!("`{}` has more than {MAX_DEPTH} parts", path(name)));
    }
    name.iter().find_map(|part| {
        let Part::Field(own) = part else { return None };
        if own.is_empty() || own.chars().nth(MAX_NAME).is_some() {
            return Some(format!("a name has 1 to {MAX_NAME} characters"));
        }
        own.contains(|c: char| UNMAPPED.contains(&c) || c.is_control()).then(|| {
            format!(
                "`{}`: names that readers see hold no blanks, control characters or any of `,;{{}}()=`; give it another",
                path(name)
            )
        })
    })
}
