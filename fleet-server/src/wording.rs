//! How times, sizes, states and foreign text are shown to people, by the command line and the console alike.
//!
//! Pure: the present time is an argument.

use jiff::Timestamp;
use tern_protocol::twin::ModelState;
use tern_stats::calendar::Coverage;

/// Time from `now` to `then`, such as `12 s ago` or `in 6 d`.
pub(crate) fn relative(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    if seconds == 0 {
        return "now".into();
    }
    let (amount, unit) = match seconds.unsigned_abs() {
        s @ ..120 => (s, "s"),
        s @ ..7_200 => (s / 60, "min"),
        s @ ..172_800 => (s / 3_600, "h"),
        s => (s / 86_400, "d"),
    };
    if seconds > 0 { format!("{amount} {unit} ago") } else { format!("in {amount} {unit}") }
}

/// A size, such as `512 B` or `1.4 MB`.
pub(crate) fn size(bytes: u64) -> String {
    let scaled = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit / (unit / 10));
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", scaled(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", scaled(1_000_000)),
        _ => format!("{} GB", scaled(1_000_000_000)),
    }
}

/// Foreign text on one line, without what could move a cursor or turn the direction of reading, cut to `most` characters.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => ' ',
        c if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}') =>
        {
            '\u{fffd}'
        }
        c => c,
    };
    let mut shown: String = text.chars().take(most).map(harmless).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

/// A digest has 64 hexadecimal digits; what has so many or more is taken for one.
const DIGEST: usize = 64;
/// Digits that tell digests apart for people.
pub(crate) const DIGITS: usize = 12;

/// The text with its digests cut to their first digits.
pub(crate) fn short_digests(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (run, after) = rest.split_at(digits);
        if digits < DIGEST {
            shown.push_str(run)
        } else {
            shown.extend([&run[..DIGITS], "…"])
        }
        let other = after.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(after.len());
        shown.push_str(&after[..other]);
        rest = &after[other..];
    }
    shown
}

/// The state's name.
pub(crate) fn state(state: ModelState) -> &'static str {
    match state {
        ModelState::Fetching => "fetching",
        ModelState::Probing => "probing",
        ModelState::Staged => "staged",
        ModelState::OnProbation => "on probation",
        ModelState::Idle => "idle",
        ModelState::Committed => "committed",
        ModelState::Rejected => "rejected",
        ModelState::RolledBack => "rolled back",
        ModelState::Stopped => "stopped",
        ModelState::Removed => "removed",
    }
}

/// `one device`, `2 devices`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Stretches of the year that are told one by one.
const STRETCHES: usize = 4;

/// The days of the year that a reference saw, such as `5 Mar to 30 Aug`. The year is a circle: what goes on over New Year is
/// one stretch.
pub(crate) fn days_of_year(covered: &Coverage) -> String {
    let mut stretches = covered.ranges().to_vec();
    if let (Some([0, _]), Some([_, (364..)])) = (stretches.first(), stretches.last())
        && stretches.len() > 1
    {
        let first = stretches.remove(0);
        let last = stretches.pop();
        stretches.extend(last.map(|last| [last[0], first[1]]));
    }
    // The name of a day in a year that is no leap year: phases lie within a day of the calendar's anyway.
    let name = |day: u16| {
        let new_year = jiff::civil::date(1970, 1, 1);
        new_year.saturating_add(jiff::Span::new().days(day.min(364))).strftime("%-d %b").to_string()
    };
    let tell =
        |[from, to]: &[u16; 2]| if from == to { name(*from) } else { format!("{} to {}", name(*from), name(*to)) };
    let mut told: Vec<_> = stretches.iter().take(STRETCHES).map(tell).collect();
    if stretches.len() > STRETCHES {
        told.push(format!("{} more", stretches.len() - STRETCHES));
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_year_are_told_as_stretches_and_new_year_ends_none() {
        let told = |days: &[std::ops::RangeInclusive<u16>]| days_of_year(&Coverage::of(days.iter().cloned().flatten()));
        assert_eq!(told(&[63..=241]), "5 Mar to 30 Aug");
        assert_eq!(told(&[0..=50, 320..=365]), "17 Nov to 20 Feb");
        assert_eq!(told(&[0..=50, 100..=100, 320..=364]), "11 Apr, 17 Nov to 20 Feb");
        assert_eq!((told(&[]), told(&[0..=365])), (String::new(), "1 Jan to 31 Dec".into()));
        let many = [20..=21, 60..=61, 100..=101, 140..=141, 180..=181, 220..=221];
        assert!(told(&many).ends_with("21 May to 22 May, 2 more"), "{}", told(&many));
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let now = Timestamp::from_second(10_000_000).unwrap();
        let at = |seconds: i64| relative(Timestamp::from_second(10_000_000 + seconds).unwrap(), now);
        let told = [at(0), at(-1), at(-119), at(-120), at(-7_200), at(-172_800), at(3_600), at(600_000)];
        assert_eq!(told, ["now", "1 s ago", "119 s ago", "2 min ago", "2 h ago", "2 d ago", "in 60 min", "in 6 d"]);
        assert!(relative(Timestamp::MIN, Timestamp::MAX).ends_with("d ago"));
    }

    #[test]
    fn sizes_keep_one_decimal() {
        assert_eq!([999, 1_000, 24_449, 1_999_999].map(size), ["999 B", "1.0 kB", "24.4 kB", "1.9 MB"]);
        assert_eq!(size(u64::MAX), "18446744073.7 GB");
    }

    #[test]
    fn digests_are_cut_and_nothing_else_is() {
        let digest = "ec407ea42652d82b1bc65d1b2e9c1b0b4fec96cbeb4f9c0c1a66078f1f1d9b0b";
        let told = short_digests(&format!("blob {digest} has digest {digest}"));
        assert_eq!(told, "blob ec407ea42652… has digest ec407ea42652…");
        for whole in ["", "added a decade", "ß é…", &digest[1..]] {
            assert_eq!(short_digests(whole), whole);
        }
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\rc\u{9b}\u{202e}d\ne", 80), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\u{fffd}d e");
        assert_eq!(plain("äöü", 3), "äöü");
        assert_eq!(plain("äöüß", 3), "äöü…");
    }
}
