//! A device's report windows become detection windows. Pure.
//!
//! A report is never split. Policy, by the unit of the version's profile:
//! - **By rows:** a detection window closes with the first whole report that reaches the profile's number of rows.
//! - **By the calendar:** a report belongs to the day or week, in the profile's offset from UTC, that holds its *start*. An
//!   agent's window opens with a row and closes by the clock: at its start a row came, at its end perhaps none. A day or week
//!   is final [`LATE`] after its end, by the server's clock. Reports that come later are none of the evidence; they only say
//!   that the rows of their time are not missing. Until then windows are open side by side, so the order of reports within
//!   that time does not matter.
//! - **Without a date:** reports of a device that does not know the date, or whose clock is over [`LATE`] ahead of the
//!   server's, go into windows by rows, as many as the reference's median window has. Their time is unknown, so what goes
//!   with the season is not judged in them.
//!
//! Which rows are missing, and what is a gap, [`tern_stats::course`] says, as it does for recorded rows.

use serde::{Deserialize, Serialize};
use tern_stats::{
    calendar::Calendar,
    course::{Course, Stretch, skipped},
    profile::{Profile, Unit},
    window::{ByRows, Window},
};

/// Seconds after its end in which reports still join a day or week.
pub const LATE: f64 = 6.0 * 3600.0;
/// Days or weeks that are open at once: the one before, the present one, and the next on a clock that is ahead.
const MOST_OPEN: usize = 3;

/// A window that is ready to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Full {
    /// Its sums; rows that should have come and did not count as missing.
    pub window: Window,
    /// Its middle, in seconds since 1970; NaN where nobody knows.
    pub middle: f64,
    /// Whether at least one window is missing before it.
    pub is_after_gap: bool,
}

/// What became of a report.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// It joined an open window.
    Open,
    /// It filled one.
    Full(Box<Full>),
    /// It came after its window was final.
    Late,
}

/// The windows of one device that are not judged yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    by_rows: ByRows,
    /// First and last moment of what is open by rows; none where one of its reports has no date.
    stretch: Option<(f64, f64)>,
    is_undated: bool,
    /// Start and rows of the newest report that went by rows.
    newest: Option<(f64, u64)>,
    /// Rows that were skipped before or between the reports of what is open by rows.
    skipped: u64,
    /// In time order.
    days: Vec<Day>,
    /// Until when the device's rows have come.
    heard: Option<f64>,
    course: Course,
}

/// An open day or week.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Day {
    bounds: (f64, f64),
    first: f64,
    last: f64,
    since: Option<f64>,
    window: Window,
}

impl Windows {
    /// Of a device of which nothing is known; windows by rows take `rows`.
    pub fn new(rows: u64) -> Self {
        Self {
            by_rows: ByRows::new(rows),
            stretch: None,
            is_undated: false,
            newest: None,
            skipped: 0,
            days: Vec::new(),
            heard: None,
            course: Course::default(),
        }
    }

    /// Whether one that was read back is one to go on from, with windows by rows of `rows`.
    pub fn is_sound(&self, rows: u64) -> bool {
        let grow = self.days.windows(2).all(|pair| pair[0].bounds.0 < pair[1].bounds.0);
        let times = self.days.iter().flat_map(|day| [day.bounds.0, day.bounds.1, day.first, day.last]);
        let are_known = times.chain(self.heard).chain(self.course.before()).all(f64::is_finite);
        self.by_rows.is_sound()
            && self.by_rows.progress().1 == rows
            && self.days.len() <= MOST_OPEN
            && grow
            && are_known
    }

    /// When the oldest open day or week ends, in seconds since 1970.
    pub fn due(&self) -> Option<f64> {
        self.days.first().map(|day| day.bounds.1)
    }

    /// Takes in a report window that fits the profile, with its start and end where they can be believed, `at` by the
    /// server's clock.
    pub fn take(&mut self, profile: &Profile, window: &Window, times: Option<(f64, f64)>, at: f64) -> Taken {
        let times = times.filter(|(start, end)| start <= end && *start <= at + LATE);
        let dated = profile.calendar.zip(times);
        match dated.and_then(|(calendar, times)| Some((calendar.bounds(profile.unit, times.0)?, times))) {
            Some((bounds, times)) => self.by_day(window, bounds, times, at),
            None => self.by_rows(profile, window, times),
        }
    }

    fn by_day(&mut self, window: &Window, bounds: (f64, f64), (first, last): (f64, f64), at: f64) -> Taken {
        let since = self.heard;
        self.hear(last);
        let is_final = at >= bounds.1 + LATE || self.course.before().is_some_and(|before| bounds.1 <= before);
        if is_final {
            return Taken::Late;
        }
        match self.days.binary_search_by(|day| day.bounds.0.total_cmp(&bounds.0)) {
            Ok(place) => {
                let day = &mut self.days[place];
                // Windows that fit one profile are of one shape, so the error has no cause left.
                let _ = day.window.merge(window);
                (day.first, day.last) = (day.first.min(first), day.last.max(last));
            }
            Err(_) if self.days.len() >= MOST_OPEN => return Taken::Late,
            Err(place) => self.days.insert(place, Day { bounds, first, last, since, window: window.clone() }),
        }
        Taken::Open
    }

    /// Rows came until `last`, in whichever order reports do.
    fn hear(&mut self, last: f64) {
        self.heard = Some(self.heard.map_or(last, |heard| heard.max(last)));
        for day in self.days.iter_mut().filter(|day| last <= day.first) {
            day.since = Some(day.since.map_or(last, |since| since.max(last)));
        }
    }

    fn by_rows(&mut self, profile: &Profile, window: &Window, times: Option<(f64, f64)>) -> Taken {
        let need = self.by_rows.progress().1;
        let newest = times.map(|(start, _)| (start, window.rows));
        let span = newest.zip(self.newest).map(|((start, _), (before, rows))| (start - before, rows));
        if let Some((step, (span, rows))) = profile.calendar.and_then(|calendar| calendar.step).zip(span) {
            self.skipped = self.skipped.saturating_add(skipped(step, span, rows, need)).min(need);
        }
        self.newest = newest;
        self.is_undated |= times.is_none();
        self.stretch = match (self.stretch, times) {
            (Some((first, last)), Some((start, end))) => Some((first.min(start), last.max(end))),
            (known, times) => known.or(times),
        };
        let Ok(Some(mut window)) = self.by_rows.push(window) else { return Taken::Open };
        let is_undated = std::mem::take(&mut self.is_undated);
        let stretch = self.stretch.take().filter(|_| !is_undated);
        window.add_missing(std::mem::take(&mut self.skipped));
        if profile.unit != Unit::Rows {
            return Taken::Full(Box::new(Full { window, middle: f64::NAN, is_after_gap: false }));
        }
        let place = self.course.rows(profile.calendar.as_ref(), stretch, window.rows);
        Taken::Full(Box::new(Full { window, middle: place.middle, is_after_gap: place.is_after_gap }))
    }

    /// Closes the day or week that ends at `end`, if it is the oldest that is open.
    pub fn close(&mut self, calendar: &Calendar, end: f64) -> Option<Full> {
        let Day { bounds, first, last, since, mut window } =
            if self.due()? == end { self.days.remove(0) } else { return None };
        let step = calendar.step.unwrap_or(f64::INFINITY);
        // After the last report nobody knows whether rows came: they may be on their way.
        let until = if last - end >= step { last } else { self.heard.unwrap_or(last).min(end) };
        let place = self.course.day(calendar, bounds, &Stretch { first, since, until, rows: window.rows });
        window.add_missing(place.missing);
        Some(Full { window, middle: place.middle, is_after_gap: place.is_after_gap })
    }
}

#[cfg(test)]
mod tests {
    use tern_stats::{calendar::DAY, categorical::Categorical, profile::FORMAT, window::Sums};

    use super::*;

    const HOUR: f64 = 3600.0;

    fn profile(unit: Unit) -> Profile {
        Profile {
            format: FORMAT,
            windows: 60,
            rows: 24.0,
            arl: 1000.0,
            unit,
            calendar: Some(Calendar { step: Some(HOUR), longest_step: Some(HOUR), ..Calendar::plain(3600) }),
            features: Vec::new(),
            outputs: Vec::new(),
            confidence: None,
            objective: None,
            estimate: None,
        }
    }

    fn window(rows: u64) -> Window {
        let sums = Categorical { counts: vec![rows], ..Categorical::empty(1) };
        Window { rows, features: vec![Sums::Categorical(sums)], ..Window::default() }
    }

    /// Takes a report of `rows` rows over some hours of 1970, received two hours after its end.
    fn take(windows: &mut Windows, unit: Unit, (from, to): (f64, f64), rows: u64) -> Taken {
        let times = (from * HOUR, to * HOUR);
        windows.take(&profile(unit), &window(rows), Some(times), times.1 + 2.0 * HOUR)
    }

    fn close(windows: &mut Windows) -> (u64, u64, f64) {
        let end = windows.due().unwrap();
        let full = windows.close(&profile(Unit::Day).calendar.unwrap(), end).unwrap();
        (full.window.rows, full.window.features[0].absent(), full.middle / HOUR)
    }

    #[test]
    fn a_report_belongs_to_the_day_of_its_start_and_is_never_split() {
        let mut windows = Windows::new(24);
        // The day begins at 23:00 UTC.
        for (from, rows) in [(22.5, 5), (27.0, 4), (23.5, 3), (46.9, 2), (48.0, 1)] {
            assert_eq!(take(&mut windows, Unit::Day, (from, from + 1.0), rows), Taken::Open);
        }
        assert_eq!(windows.due(), Some(23.0 * HOUR));
        assert_eq!(close(&mut windows), (5, 0, 11.0));
        assert_eq!(close(&mut windows), (9, 15, 35.0), "and the rows of 15 hours did not come");
        assert_eq!(close(&mut windows), (1, 1, 59.0), "what comes after 49:00 nobody knows");
        assert_eq!(windows.due(), None);
        let mut pressed = Windows::new(24);
        take(&mut pressed, Unit::Day, (0.0, 26.0), 26);
        take(&mut pressed, Unit::Day, (26.0, 47.0), 21);
        assert_eq!([close(&mut pressed), close(&mut pressed)], [(26, 0, 11.0), (21, 0, 35.0)], "merged under pressure");
    }

    #[test]
    fn what_comes_after_six_hours_is_late_and_windows_are_bounded() {
        let mut windows = Windows::new(24);
        let mut at = |from: f64, received: f64| {
            let times = Some((from * HOUR, (from + 1.0) * HOUR));
            windows.take(&profile(Unit::Day), &window(1), times, received * HOUR)
        };
        assert_eq!((at(3.0, 28.9), at(4.0, 29.0)), (Taken::Open, Taken::Late));
        // A server's clock that goes back closes nothing, and opens no more than three.
        assert_eq!((at(30.0, 31.0), at(60.0, 61.0)), (Taken::Open, Taken::Open));
        assert_eq!(at(90.0, 91.0), Taken::Late);
        let far = Some((9.0 * DAY, 9.0 * DAY));
        assert_eq!(windows.take(&profile(Unit::Day), &window(1), far, DAY), Taken::Open, "as one without a date");
        assert_eq!(windows.by_rows.progress(), (1, 24));
        assert!(windows.is_sound(24) && !windows.is_sound(25));
        let back: Windows = postcard::from_bytes(&postcard::to_stdvec(&windows).unwrap()).unwrap();
        assert_eq!(back, windows);
    }

    #[test]
    fn windows_by_rows_know_their_middle_where_all_their_reports_do() {
        let mut windows = Windows::new(24);
        assert_eq!(take(&mut windows, Unit::Rows, (0.0, 12.0), 12), Taken::Open);
        let Taken::Full(full) = take(&mut windows, Unit::Rows, (22.0, 34.0), 12) else { panic!("24 rows") };
        assert_eq!((full.middle, full.window.features[0].absent()), (17.0 * HOUR, 10), "ten hours without a row");
        assert_eq!(take(&mut windows, Unit::Rows, (34.0, 46.0), 12), Taken::Open);
        let Taken::Full(full) = windows.take(&profile(Unit::Rows), &window(12), None, 0.0) else { panic!("24 rows") };
        assert!(full.middle.is_nan() && !full.is_after_gap);
    }
}
