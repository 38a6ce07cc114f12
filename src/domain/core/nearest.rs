//! Guesses which known name was meant by an unknown one.

/// Longer names are not compared, because the work grows with the square of the length.
const MAX_CHARACTERS: usize = 64;

/// Finds the name in `known` that `name` most probably misspells; `None` if none is close.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length == 0 || length > MAX_CHARACTERS {
        return None;
    }
    let wanted = name.to_lowercase();
    // At most a third of the letters may differ, and never all of them; more would be another word.
    let most = (length / 3).max(1).min(length - 1);
    let near = known.filter(|known| known.chars().count().abs_diff(length) <= most).map(|known| {
        let distance = strsim::damerau_levenshtein(&wanted, &known.to_lowercase());
        (distance, known)
    });
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

/// The end of a message about the unknown `name`: a suggestion from `known`, or nothing.
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
