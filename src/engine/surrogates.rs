//! The surrogates of a file: which values need one, and which random texts stand for them.
//!
//! A file with surrogates is read twice: once to list the digests of its values, for which random bytes are then drawn,
//! and once to be made. Never here: where they are kept.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::array::{Array, ArrayRef, StringViewArray, StringViewBuilder};
use uuid::Uuid;

use crate::domain::catalog::{
    schema::Primitive,
    view::mask::{SurrogateDigests, surrogate_text},
};

use super::{EngineError, masking};

/// One in this many bytes of a job's memory may hold a digest.
const MEMORY_SHARE: usize = 128;

/// What is known of the surrogates of the file that is read. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Surrogates(Known);

#[derive(Clone, Debug, Default)]
enum Known {
    /// Nothing: a view with surrogates cannot be made.
    #[default]
    Nothing,
    /// The digests found so far.
    Found(Arc<Mutex<Found>>),
    /// The random bytes for each digest, sorted by digest.
    Drawn(Arc<[(Uuid, Uuid)]>),
}

#[derive(Debug)]
struct Found {
    digests: HashSet<Uuid>,
    most: usize,
}

impl Surrogates {
    /// The surrogates of all values of a file: pairs of a value's digest and the random bytes that stand for it.
    pub fn drawn(mut pairs: Vec<(Uuid, Uuid)>) -> Self {
        pairs.sort_unstable();
        Self(Known::Drawn(pairs.into()))
    }

    /// Begins to list digests, as many as fit into `memory` bytes.
    pub(super) fn listing(memory: usize) -> Self {
        let found = Found { digests: HashSet::new(), most: memory / MEMORY_SHARE };
        Self(Known::Found(Arc::new(Mutex::new(found))))
    }

    /// The digests that were listed.
    pub(super) fn listed(&self) -> Vec<Uuid> {
        match &self.0 {
            Known::Found(found) => {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.digests.drain().collect()
            }
            Known::Nothing | Known::Drawn(_) => Vec::new(),
        }
    }

    /// Shows the surrogates of a column of type `primitive`; while digests are listed, an empty text for each value.
    pub(super) fn of(
        &self,
        digests: &SurrogateDigests,
        column: &ArrayRef,
        primitive: Primitive,
    ) -> Result<ArrayRef, EngineError> {
        let digests = masking::digests(digests, column, primitive)?;
        match &self.0 {
            Known::Nothing => Err(EngineError::Unsupported("the surrogates of its values were not drawn")),
            Known::Found(found) => {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.digests.extend(digests.iter().flatten());
                if found.digests.len() > found.most {
                    return Err(EngineError::TooLarge("it has more values that need surrogates than the limit"));
                }
                let texts: StringViewArray = digests.iter().map(|digest| digest.map(|_| "")).collect();
                Ok(Arc::new(texts))
            }
            Known::Drawn(drawn) => {
                let mut built = StringViewBuilder::with_capacity(column.len()).with_deduplicate_strings();
                for digest in digests {
                    let Some(digest) = digest else {
                        built.append_null();
                        continue;
                    };
                    let found = drawn.binary_search_by_key(&digest, |(digest, _)| *digest).ok();
                    let random = found.and_then(|at| drawn.get(at)).map(|(_, random)| *random);
                    let random = random.ok_or(EngineError::Unsupported("a value of it got no surrogate"))?;
                    built.append_value(surrogate_text(random));
                }
                Ok(Arc::new(built.finish()))
            }
        }
    }
}
