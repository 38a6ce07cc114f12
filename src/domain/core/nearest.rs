//! Which known name was probably meant by one that is not known.

/// Longer names are not compared: the work grows with the square of their length.
const MAX_CHARACTERS: usize = 64;

/// The one of `known` that `name` is most probably a slip of; `None` where nothing is near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length == 0 || length > MAX_CHARACTERS {
        return None;
    }
    let wanted = name.to_lowercase();
    // A third of the letters may differ: more makes another word, as does every letter.
    let most = (length / 3).max(1).min(length - 1);
    let near = known.filter(|known| known.chars().count().abs_diff(length) <= most).map(|known| {
        let distance = strsim::damerau_levenshtein(&wanted, &known.to_lowercase());
        (distance, known)
    });
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

/// What is added to a message about `name`, which is not there: the name of `known` that was probably meant.
pub fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_seen_and_other_words_are_not() {
        let known = || ["claims", "providers", "prior_authorisations", "id"].into_iter();
        for (slip, meant) in [("claim", "claims"), ("calims", "claims"), ("Provders", "providers"), ("di", "id")] {
            assert_eq!(nearest(slip, known()), Some(meant), "{slip}");
        }
        assert_eq!(nearest("prior_authorizations", known()), Some("prior_authorisations"));
        for other in ["", "payments", "x", &"claims".repeat(20)] {
            assert_eq!(nearest(other, known()), None, "{other}");
        }
    }
}
