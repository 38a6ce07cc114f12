//! The Gregorian calendar for every day that a date column can hold: millions of years, far beyond the range of chrono.

use super::mask::DateUnit;

/// Microseconds in a day.
pub(super) const DAY: i64 = 86_400_000_000;
/// Microseconds in an hour.
pub(super) const HOUR: i64 = 3_600_000_000;

/// Days in 400 years, after which the calendar repeats.
const DAYS_OF_ERA: i64 = 146_097;
/// Days from 0000-03-01, where an era begins, to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_468;

/// Converts a day since 1970 into year, month and day of the month.
///
/// Internally years start in March, so that the leap day comes last and the months before any day have a fixed length.
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + DAYS_BEFORE_1970;
    let era = shifted.div_euclid(DAYS_OF_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * era + year_of_era + i64::from(month <= 2), month, day)
}

/// Converts a date into a day since 1970.
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_OF_ERA + day_of_era - DAYS_BEFORE_1970
}

/// The first day of the unit that contains the day; for an hour, the day itself.
pub(super) fn first_day(of: i64, unit: DateUnit) -> i64 {
    let (year, month, _) = civil(of);
    match unit {
        DateUnit::Year => days(year, 1, 1),
        DateUnit::Quarter => days(year, (month - 1) / 3 * 3 + 1, 1),
        DateUnit::Month => days(year, month, 1),
        // 1970 began on a Thursday.
        DateUnit::Week => of - (of + 3).rem_euclid(7),
        DateUnit::Day | DateUnit::Hour => of,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn days_and_dates_go_both_ways(of in i64::from(i32::MIN)..=i64::from(i32::MAX)) {
            let (year, month, day) = civil(of);
            prop_assert_eq!(days(year, month, day), of);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day));
        }

        #[test]
        fn the_calendar_is_chronos_where_chrono_has_one(of in -90_000_000i32..=90_000_000) {
            let date = NaiveDate::from_epoch_days(of).unwrap();
            let expected = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
            prop_assert_eq!(civil(i64::from(of)), expected);
            let monday = first_day(i64::from(of), DateUnit::Week);
            let monday = NaiveDate::from_epoch_days(i32::try_from(monday).unwrap()).unwrap();
            prop_assert_eq!(monday.weekday(), chrono::Weekday::Mon);
            prop_assert!((0..7).contains(&(date - monday).num_days()));
        }

        #[test]
        fn a_unit_begins_once(of in i64::from(i32::MIN)..=i64::from(i32::MAX)) {
            for unit in [DateUnit::Year, DateUnit::Quarter, DateUnit::Month, DateUnit::Week, DateUnit::Day] {
                let first = first_day(of, unit);
                prop_assert!(first <= of && of - first < 366);
                prop_assert_eq!(first_day(first, unit), first);
            }
        }
    }
}
