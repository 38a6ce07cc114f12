//! The possible outcomes of a condition for the rows of one file.

use std::ops::Not;

/// The truth values that a condition may have for some row of a file: any set of true, false and null.
///
/// These are sets, not single answers, because a file's statistics give only bounds. Every operation here includes at
/// least everything that can really happen, so "cannot match" is reliable even after a negation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcomes(u8);

impl Outcomes {
    /// There is no row.
    pub const NOTHING: Self = Self(0);
    /// True for every row.
    pub const TRUE: Self = Self(1);
    /// False for every row.
    pub const FALSE: Self = Self(2);
    /// The outcome of comparing with a null: null in SQL, false for clients that know only two truth values. A negation
    /// must be right for both.
    pub const NULL_COMPARED: Self = Self(2 | 4);
    /// Nothing is known.
    pub const ANYTHING: Self = Self(1 | 2 | 4);

    /// `TRUE` or `FALSE`.
    pub const fn of(truth: bool) -> Self {
        if truth { Self::TRUE } else { Self::FALSE }
    }

    /// Whether no row matches.
    pub const fn cannot_match(self) -> bool {
        self.0 & 1 == 0
    }

    /// Whether every row matches.
    pub const fn must_match(self) -> bool {
        self.0 == 1
    }

    /// The outcomes of both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These outcomes if `condition` holds, otherwise none.
    #[must_use]
    pub const fn only_if(self, condition: bool) -> Self {
        Self(self.0 * condition as u8)
    }

    /// The outcomes of `self AND other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        // True needs both to be true; false needs one false; null needs one null, and the other not false.
        Self((a & b & 1) | ((a | b) & 2) | (((a & (b | (b << 2))) | (b & (a | (a << 2)))) & 4))
    }

    /// The outcomes of `self OR other`.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        self.negated().and(other.negated()).negated()
    }

    const fn negated(self) -> Self {
        Self(((self.0 & 1) << 1) | ((self.0 & 2) >> 1) | (self.0 & 4))
    }
}

impl Not for Outcomes {
    type Output = Self;

    fn not(self) -> Self {
        self.negated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The truth values in a set.
    fn members(set: Outcomes) -> Vec<Option<bool>> {
        [(1, Some(true)), (2, Some(false)), (4, None)]
            .into_iter()
            .filter(|(bit, _)| set.0 & bit != 0)
            .map(|(_, truth)| truth)
            .collect()
    }

    fn set(members: impl IntoIterator<Item = Option<bool>>) -> Outcomes {
        members.into_iter().fold(Outcomes::NOTHING, |set, truth| set.union(truth.map_or(Outcomes(4), Outcomes::of)))
    }

    fn kleene_and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
        match (a, b) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    #[test]
    fn operations_answer_exactly_what_rows_can_come_to() {
        for a in (1..8).map(Outcomes) {
            assert_eq!(!a, set(members(a).into_iter().map(|truth| truth.map(|truth| !truth))));
            for b in (1..8).map(Outcomes) {
                let pairs = || members(a).into_iter().flat_map(|x| members(b).into_iter().map(move |y| (x, y)));
                assert_eq!(a.and(b), set(pairs().map(|(x, y)| kleene_and(x, y))), "{a:?} AND {b:?}");
                let or = |x: Option<bool>, y: Option<bool>| kleene_and(x.map(|x| !x), y.map(|y| !y)).map(|z| !z);
                assert_eq!(a.or(b), set(pairs().map(|(x, y)| or(x, y))), "{a:?} OR {b:?}");
            }
        }
    }

    #[test]
    fn a_negation_keeps_what_may_match() {
        assert_eq!(!Outcomes::ANYTHING, Outcomes::ANYTHING);
        assert!((!Outcomes::TRUE).cannot_match() && (!Outcomes::FALSE).must_match());
        let negated = !Outcomes::NULL_COMPARED;
        assert!(!negated.cannot_match() && !negated.must_match());
    }
}
