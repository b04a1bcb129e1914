//! When the rows of a device came: which should have come and did not, and whether a window follows upon the one before it.
//!
//! Whoever cuts detection windows asks here: a replay, which knows the time of each row, and the server, which knows when
//! reports of several rows begin and end. Times are seconds since 1970.

use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;

/// A longer step between rows than this, in usual ones, skips some.
pub const STRIDE: f64 = 1.5;
/// Share of a window that may lie between it and the one before, and they are still neighbours.
const NEIGHBOURS: f64 = 0.5;

/// Rows that were skipped over `span` seconds in which `rows` came, one each `step` by the reference, `most` at most: none
/// where the steps were short enough on average.
pub fn skipped(step: f64, span: f64, rows: u64, most: u64) -> u64 {
    if span <= STRIDE * step * rows as f64 {
        return 0;
    }
    ((span / step).round() - rows as f64).clamp(0.0, most as f64) as u64
}

/// The rows of one day or week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// When the first came.
    pub first: f64,
    /// When the last one before it came, in whichever window.
    pub since: Option<f64>,
    /// Until when it is known what came and what did not.
    pub until: f64,
    /// How many came.
    pub rows: u64,
}

/// Where a closed window stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Its middle; NaN where nobody knows.
    pub middle: f64,
    /// Whether at least one window is missing before it.
    pub is_after_gap: bool,
    /// Rows that should have come and did not.
    pub missing: u64,
    /// Seconds of it in which rows would have been seen.
    pub seen: f64,
}

/// The windows of one device, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Course {
    /// End of the newest; none before the first, and where times are not known.
    before: Option<f64>,
}

impl Course {
    /// The end of the newest window that was closed.
    pub fn before(&self) -> Option<f64> {
        self.before
    }

    /// Closes the day or week from `start` to `end`.
    ///
    /// Rows are missing by the reference's rate between its start and `until`; before the first row of all nothing is.
    /// Whole days without a row are no windows: the next one stands for them, with a whole one missing, where the reference
    /// never had such a hole. What the last report of the window before holds of this one, or the last of this one of the
    /// next, is counted where it was counted.
    pub fn day(&mut self, calendar: &Calendar, (start, end): (f64, f64), stretch: &Stretch) -> Place {
        let Stretch { first, since, until, rows } = *stretch;
        let (length, middle) = (end - start, (start + end) / 2.0);
        let is_after_gap = self.before.is_some_and(|before| start - before > NEIGHBOURS * length);
        let step = calendar.step.unwrap_or(f64::INFINITY);
        let from = match (self.before, since) {
            (None, _) => first,
            (Some(_), Some(since)) if since - start >= step && since <= first => since,
            _ => start,
        };
        let is_new = since.zip(calendar.longest_step).is_some_and(|(since, longest)| first - since > longest);
        let seen = (until - from).max(0.0);
        let mut missing = 0;
        if step.is_finite() {
            let expected = (seen / step + 1e-6).floor() as u64;
            missing = expected.saturating_sub(rows);
            if is_new && is_after_gap {
                missing = missing.saturating_add((length / step).round() as u64);
            }
        }
        self.before = Some(end);
        Place { middle, is_after_gap, missing, seen }
    }

    /// Closes a window of so many rows that came between two times, where they are known.
    pub fn rows(&mut self, calendar: Option<&Calendar>, times: Option<(f64, f64)>, rows: u64) -> Place {
        let length = calendar.and_then(|calendar| calendar.step).map_or(f64::INFINITY, |step| step * rows as f64);
        let Some((first, last)) = times else {
            self.before = None;
            return Place { middle: f64::NAN, is_after_gap: false, missing: 0, seen: f64::NAN };
        };
        let is_after_gap = self.before.is_some_and(|before| first - before > length);
        self.before = Some(last);
        let middle = if calendar.is_some() { (first + last) / 2.0 } else { f64::NAN };
        Place { middle, is_after_gap, missing: 0, seen: last - first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::DAY;

    const HOUR: f64 = 3600.0;

    fn hourly() -> Calendar {
        Calendar { step: Some(HOUR), longest_step: Some(3.0 * HOUR), ..Calendar::plain(0) }
    }

    /// The day of that number, with `rows` rows from `first` to `until`, in hours of it.
    fn day(course: &mut Course, number: f64, (first, since): (f64, Option<f64>), until: f64, rows: u64) -> Place {
        let start = number * DAY;
        let at = |hour: f64| start + hour * HOUR;
        let stretch = Stretch { first: at(first), since: since.map(at), until: at(until), rows };
        course.day(&hourly(), (start, start + DAY), &stretch)
    }

    #[test]
    fn rows_are_missing_by_the_references_rate_where_they_would_have_been_seen() {
        let mut course = Course::default();
        let first = day(&mut course, 0.0, (6.0, None), 24.0, 18);
        assert_eq!(
            (first.missing, first.seen, first.is_after_gap),
            (0, 18.0 * HOUR, false),
            "nothing before the first row"
        );
        assert_eq!(day(&mut course, 1.0, (0.0, Some(-1.0)), 24.0, 20).missing, 4);
        assert_eq!(day(&mut course, 2.0, (5.0, Some(-1.0)), 12.0, 3).missing, 9, "and nothing after the last");
        let over = day(&mut course, 3.0, (0.0, Some(-1.0)), 24.0, 30);
        assert_eq!((over.missing, over.middle), (0, 3.5 * DAY));
    }

    #[test]
    fn what_a_report_of_the_day_before_holds_is_not_missing() {
        let mut course = Course::default();
        day(&mut course, 0.0, (0.0, None), 30.0, 30);
        assert_eq!(day(&mut course, 1.0, (6.0, Some(6.0)), 24.0, 18).missing, 0);
        // Less than a row's time is none: the clock that closes a report is a little late.
        assert_eq!(day(&mut course, 2.0, (1.0, Some(0.01)), 24.0, 23).missing, 1);
    }

    #[test]
    fn days_without_a_row_show_in_the_next_and_break_the_sequence() {
        let mut course = Course::default();
        day(&mut course, 0.0, (0.0, None), 24.0, 24);
        let after = day(&mut course, 3.0, (0.0, Some(-49.0)), 24.0, 24);
        assert_eq!((after.missing, after.is_after_gap), (24, true));
        let known = day(&mut course, 5.0, (0.0, Some(-1.0)), 24.0, 24);
        assert_eq!(
            (known.missing, known.is_after_gap),
            (0, true),
            "rows of the day between came, too late for a window"
        );
    }

    #[test]
    fn windows_by_rows_follow_upon_one_another_within_their_length() {
        let (mut course, calendar) = (Course::default(), hourly());
        let first = course.rows(Some(&calendar), Some((0.0, 9.0 * HOUR)), 10);
        assert_eq!((first.middle, first.is_after_gap), (4.5 * HOUR, false));
        assert!(!course.rows(Some(&calendar), Some((10.0 * HOUR, 19.0 * HOUR)), 10).is_after_gap);
        assert!(course.rows(Some(&calendar), Some((30.0 * HOUR, 39.0 * HOUR)), 10).is_after_gap);
        assert!(course.rows(None, None, 10).middle.is_nan() && course.before().is_none());
        let timeless = course.rows(None, Some((0.0, 1.0)), 10);
        assert!(timeless.middle.is_nan() && !timeless.is_after_gap, "without a calendar times say nothing");
    }

    #[test]
    fn long_steps_skip_rows_and_short_ones_none() {
        assert_eq!([1.0, 1.5, 1.6, 4.0].map(|span| skipped(1.0, span, 1, 100)), [0, 0, 1, 3]);
        assert_eq!((skipped(1.0, 50.0, 10, 100), skipped(1.0, 14.0, 10, 100), skipped(1.0, 1e9, 1, 7)), (40, 0, 7));
    }
}
