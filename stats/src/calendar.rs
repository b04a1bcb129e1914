//! Where a window lies in the year, the week and the day: columns of a [`crate::design::Design`], and what of the year a
//! baseline has seen.
//!
//! Season is a matter of the device's calendar, never of a count of rows: a stream that loses days slips against its own
//! index (one real series of 49 years by more than half a year). Times arrive as seconds since 1970, without leap seconds;
//! nothing here reads a clock.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use crate::profile::Unit;

/// Seconds of a day.
pub const DAY: f64 = 86_400.0;
/// Days of the mean Gregorian year. Phases by it stay within a day of the calendar's over decades.
const YEAR: f64 = 365.2425;
/// The two lowest harmonics of a cycle: a season is a wave whose rise and fall differ (the notes' measured choice).
const HARMONICS: [f64; 2] = [1.0, 2.0];
/// Columns of one cycle: sine and cosine of each harmonic.
const WAVE: usize = 2 * HARMONICS.len();
/// Columns of the week: a level for each day but one.
const WEEK: usize = 6;
/// Most columns of a window, the constant among them.
pub const MAX_COLUMNS: usize = 1 + 2 * WAVE + WEEK;
/// Days around what was seen that count as seen, where a wave over the year is known: a season moves no faster (the notes'
/// choice). Without one the level stands where the baseline ended, and the season moves away from it at once.
const SLACK: u16 = 7;
/// Largest hole in the days seen, in days, with which a baseline spans the year: a season's wave is interpolated over it.
const LARGEST_HOLE: u16 = 30;
/// Days of a leap year, which the day of the year runs over.
const DAYS: u16 = 366;
/// Most ranges of days that are kept: holes of over two weeks leave no room for more.
const MAX_RANGES: usize = 24;

/// What a profile knows of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// What the device's days are cut by: seconds that its time is ahead of UTC.
    pub utc_offset: i32,
    /// Whether scores have a wave over the year.
    pub annual: bool,
    /// Whether they have a wave over the day: where windows are shorter than one.
    pub daily: bool,
    /// Whether they have a level for each day of the week.
    pub weekly: bool,
    /// Seconds between rows, where rows come at a steady rate.
    pub step: Option<f64>,
    /// Longest time between neighbouring rows of the baseline, in seconds: what is longer is a hole that it never had.
    #[serde(default)]
    pub longest_step: Option<f64>,
}

/// The known columns of one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    values: [f64; MAX_COLUMNS],
    columns: usize,
}

impl Row {
    /// The constant alone.
    pub const LEVEL: Self = Self { values: [1.0; MAX_COLUMNS], columns: 1 };

    /// The columns, the constant first.
    pub fn as_slice(&self) -> &[f64] {
        &self.values[..self.columns]
    }

    fn push(&mut self, value: f64) {
        self.values[self.columns] = value;
        self.columns += 1;
    }

    fn wave(&mut self, turns: f64) {
        for harmonic in HARMONICS {
            let (sin, cos) = (TAU * harmonic * turns).sin_cos();
            self.push(sin);
            self.push(cos);
        }
    }
}

impl Calendar {
    /// A calendar without any season.
    pub fn plain(utc_offset: i32) -> Self {
        Self { utc_offset, annual: false, daily: false, weekly: false, step: None, longest_step: None }
    }

    /// Whether the numbers make sense.
    pub(crate) fn is_sound(&self) -> bool {
        let is_time = |step: Option<f64>| step.is_none_or(|step| step.is_finite() && step > 0.0);
        // The earth's own extremes are -12 and +14 hours; a day is beyond doubt.
        self.utc_offset.unsigned_abs() <= 86_400 && is_time(self.step) && is_time(self.longest_step)
    }

    /// How many columns its windows have, the constant among them.
    pub fn columns(&self) -> usize {
        1 + self.waves() * WAVE + usize::from(self.weekly) * WEEK
    }

    /// How many of the columns are left where the days of the week are not told apart.
    pub(crate) fn without_week(&self) -> usize {
        1 + self.waves() * WAVE
    }

    fn waves(&self) -> usize {
        usize::from(self.annual) + usize::from(self.daily)
    }

    /// The columns of the year: the first after the constant; empty where there are none.
    pub(crate) fn annual_columns(&self) -> std::ops::Range<usize> {
        1..if self.annual { 1 + WAVE } else { 1 }
    }

    /// The columns of a window whose middle is `middle`, in seconds since 1970: constant, year, day, days of the week.
    pub fn row(&self, middle: f64) -> Row {
        let mut row = Row { values: [0.0; MAX_COLUMNS], columns: 0 };
        let day = self.days(middle);
        row.push(1.0);
        if self.annual {
            row.wave((day / YEAR).fract());
        }
        if self.daily {
            row.wave(day.fract());
        }
        if self.weekly {
            // 1970 began on a Thursday: Monday is 0.
            let weekday = (day.floor() + 3.0).rem_euclid(7.0);
            (1..=WEEK).for_each(|own| row.push(f64::from(u8::from(own as f64 == weekday))));
        }
        row
    }

    /// Days since 1970 by the device's own time.
    fn days(&self, at: f64) -> f64 {
        (at + f64::from(self.utc_offset)) / DAY
    }

    /// The day of the year of a moment, 0 to 365.
    pub fn day_of_year(&self, at: f64) -> u16 {
        let day = ((self.days(at) / YEAR).rem_euclid(1.0) * YEAR).floor();
        // Between 0 and 365 whatever came in; NaN is 0.
        day as u16
    }

    /// When the day that `at` lies in begins, in seconds since 1970.
    pub fn day_start(&self, at: f64) -> f64 {
        self.days(at).floor() * DAY - f64::from(self.utc_offset)
    }

    /// Start and end of the day or week that `at` lies in; none of windows by rows.
    pub fn bounds(&self, unit: Unit, at: f64) -> Option<(f64, f64)> {
        let (start, length) = match unit {
            Unit::Rows => return None,
            Unit::Day => (self.day_start(at), DAY),
            Unit::Week => (self.week_start(at), 7.0 * DAY),
        };
        Some((start, start + length))
    }

    /// When the week that `at` lies in begins, on Monday, in seconds since 1970.
    pub fn week_start(&self, at: f64) -> f64 {
        (((self.days(at).floor() + 3.0) / 7.0).floor() * 7.0 - 3.0) * DAY - f64::from(self.utc_offset)
    }
}

/// The days of the year that a baseline has seen: ranges, both ends included, in order, at least two weeks apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(Vec<[u16; 2]>);

impl Coverage {
    /// The coverage of days of the year, in any order.
    pub fn of(days: impl IntoIterator<Item = u16>) -> Self {
        let mut days: Vec<u16> = days.into_iter().map(|day| day.min(DAYS - 1)).collect();
        days.sort_unstable();
        let mut ranges: Vec<[u16; 2]> = Vec::new();
        for day in days {
            match ranges.last_mut() {
                Some(range) if day - range[1] <= 2 * SLACK => range[1] = day,
                _ => ranges.push([day, day]),
            }
        }
        Self(ranges)
    }

    /// Whether no day was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The days that were seen, 0 to 365: ranges, both ends included, in order.
    pub fn ranges(&self) -> &[[u16; 2]] {
        &self.0
    }

    /// Whether a day was seen, or lies within a week of one where the days span the year; the year is a circle.
    pub fn holds(&self, day: u16) -> bool {
        let (day, slack) = (i32::from(day), if self.spans_year() { i32::from(SLACK) } else { 0 });
        self.0.iter().any(|range| {
            let (from, to) = (i32::from(range[0]) - slack, i32::from(range[1]) + slack);
            [day - i32::from(DAYS), day, day + i32::from(DAYS)].iter().any(|day| (from..=to).contains(day))
        })
    }

    /// Whether the days span the year with no hole of over 30 days.
    pub fn spans_year(&self) -> bool {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else { return false };
        let around = first[0] + DAYS - last[1];
        let inner = self.0.windows(2).map(|pair| pair[1][0] - pair[0][1]);
        inner.chain([around]).all(|hole| hole <= LARGEST_HOLE)
    }

    pub(crate) fn is_sound(&self) -> bool {
        let grow = self.0.windows(2).all(|pair| pair[0][1] < pair[1][0]);
        self.0.len() <= MAX_RANGES && grow && self.0.iter().all(|range| range[0] <= range[1] && range[1] < DAYS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_moment_lies_in_its_day_and_week(at in -4e9..1e10f64, minutes in -840..=840i32) {
            let calendar = Calendar::plain(minutes * 60);
            let (day, week) = (calendar.day_start(at), calendar.week_start(at));
            prop_assert!(day <= at && at < day + DAY && week <= day && day < week + 7.0 * DAY);
            prop_assert_eq!(calendar.day_start(day), day);
            prop_assert!(calendar.day_of_year(at) < DAYS);
        }

        #[test]
        fn coverage_holds_what_was_seen_and_nothing_two_weeks_away(days in prop::collection::btree_set(0..DAYS, 0..60)) {
            let coverage = Coverage::of(days.iter().copied());
            prop_assert!(coverage.is_sound());
            prop_assert!(days.iter().all(|day| coverage.holds(*day)));
            let far = |day: u16| days.iter().all(|seen| {
                let apart = seen.abs_diff(day);
                apart.min(DAYS - apart) > 2 * SLACK
            });
            prop_assert!((0..DAYS).filter(|day| far(*day)).all(|day| !coverage.holds(day)));
            let back: Coverage = serde_json::from_str(&serde_json::to_string(&coverage).unwrap()).unwrap();
            prop_assert_eq!(back, coverage);
        }
    }

    /// Noon of a day given in days since 1970, UTC.
    fn noon(day: i32) -> f64 {
        (f64::from(day) + 0.5) * DAY
    }

    #[test]
    fn days_and_weeks_are_cut_by_the_devices_own_time() {
        let utc = Calendar::plain(0);
        let ahead = Calendar::plain(2 * 3600);
        // 2024-06-09 is a Sunday, day 19883.
        let evening = 19_883.0 * DAY + 23.0 * 3600.0;
        assert_eq!(utc.day_start(evening), 19_883.0 * DAY);
        assert_eq!(ahead.day_start(evening), 19_884.0 * DAY - 7200.0, "it is Monday there");
        assert_eq!(utc.week_start(evening), 19_877.0 * DAY, "Monday the 3rd");
        assert_eq!(ahead.week_start(evening), 19_884.0 * DAY - 7200.0);
        assert_eq!(utc.day_start(-1.0), -DAY, "before 1970 too");
        let week = 19_877.0 * DAY;
        assert_eq!(utc.bounds(Unit::Week, evening), Some((week, week + 7.0 * DAY)));
        assert_eq!(utc.bounds(Unit::Day, evening), Some((19_883.0 * DAY, 19_884.0 * DAY)));
        assert_eq!(utc.bounds(Unit::Rows, evening), None);
    }

    #[test]
    fn a_row_has_the_columns_that_the_calendar_says() {
        let all = Calendar { annual: true, daily: true, weekly: true, ..Calendar::plain(0) };
        assert_eq!((all.columns(), all.without_week(), all.annual_columns()), (15, 9, 1..5));
        // 1970-01-01 was a Thursday, the fourth day.
        let row = all.row(noon(0));
        assert_eq!(row.as_slice()[9..], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(all.row(noon(4)).as_slice()[9..], [0.0; 6], "a Monday");
        let half = Calendar { annual: false, weekly: false, ..all }.row(noon(7));
        let expected = [1.0, 0.0, -1.0, 0.0, 1.0];
        assert!(half.as_slice().iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-9), "{half:?}");
        assert_eq!(Calendar::plain(0).row(5.0), Row { values: Calendar::plain(0).row(0.0).values, columns: 1 });
        assert!(all.row(f64::NAN).as_slice().iter().any(|x| x.is_nan()), "an unknown time is seen as such");
    }

    #[test]
    fn a_calendar_without_sense_is_told_whatever_its_numbers() {
        let with =
            |utc_offset, step, longest_step| Calendar { step, longest_step, ..Calendar::plain(utc_offset) }.is_sound();
        assert!(with(-86_400, None, None) && with(86_400, Some(1.0), Some(1e9)));
        assert!(![86_401, -86_401, i32::MIN, i32::MAX].into_iter().any(|offset| with(offset, None, None)));
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(!with(0, Some(odd), None) && !with(0, None, Some(odd)), "{odd}");
        }
    }

    #[test]
    fn the_day_of_the_year_follows_the_calendar_within_a_day() {
        let utc = Calendar::plain(0);
        // 1 January of 1970, 2000, 2024 and 2038, in days since 1970.
        for first in [0, 10_957, 19_723, 24_837] {
            let day = utc.day_of_year(noon(first));
            assert!(day <= 1 || day >= 364, "{first}: {day}");
            assert!((181..=183).contains(&utc.day_of_year(noon(first + 182))));
        }
        assert_eq!(utc.day_of_year(f64::NAN), 0);
    }

    #[test]
    fn coverage_knows_holes_and_the_turn_of_the_year() {
        let half = Coverage::of(0..180);
        assert!(half.holds(0) && half.holds(179) && !half.holds(180) && !half.holds(365), "no slack at its ends");
        assert!(!half.spans_year() && half.is_sound());
        let gap = |days: u16| Coverage::of((0..100).chain(100 + days - 1..366));
        assert!(gap(30).spans_year() && !gap(31).spans_year());
        assert!(gap(10).holds(104) && gap(30).holds(106) && !gap(30).holds(107) && !gap(31).holds(101));
        assert!(Coverage::of((40..366).rev()).spans_year() == Coverage::of(40..366).spans_year());
        assert!(!Coverage::of(40..360).spans_year() && Coverage::of(20..360).spans_year());
        let nothing = Coverage::default();
        assert!(!nothing.holds(3) && !nothing.spans_year() && nothing.is_sound());
        for odd in ["[[5,4]]", "[[0,366]]", "[[5,9],[9,11]]"] {
            assert!(!serde_json::from_str::<Coverage>(odd).unwrap().is_sound(), "{odd}");
        }
        assert_eq!(serde_json::to_string(&half).unwrap(), "[[0,179]]");
    }
}
