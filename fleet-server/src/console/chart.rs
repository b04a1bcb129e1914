//! Charts: numbers in, SVG out, with the same numbers as a table beside it. Pure.
//!
//! Series differ by dash and by name at their end, points beyond the limit by shape, so that nothing hangs on colour.

use std::fmt::Write;

use jiff::Timestamp;
use maud::{Markup, html};

use super::parts;

/// Most points of a series that are drawn; of more, the newest.
pub const MAX_POINTS: usize = 240;
/// Most rows of the table beside the drawing.
const MAX_TABLE: usize = 60;

/// The drawing's size, in units of its own.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 200.0;
/// The width of a letter, about.
const LETTER: f64 = 7.0;
/// Where the plot lies in it.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 470.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 170.0;

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Unique on its page, such as `latency`.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// The unit of its values, such as `ms`; empty for none.
    pub unit: &'static str,
    /// Its lines, at most four.
    pub series: Vec<Series>,
    /// A level that means something, and its name.
    pub limit: Option<(f64, &'static str)>,
    /// Moments that mean something, such as a change of version, in the order of time.
    pub moments: Vec<(Timestamp, String)>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points in the order of time; what is not finite is left out.
    pub points: Vec<(Timestamp, f64)>,
}

/// The range of one axis, widened to round ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        // One value, or equal ones, get room on both sides.
        let room = if high - low > 0.0 { 0.0 } else { (high.abs() * 0.1).max(0.5) };
        let step = round_step((high - low + 2.0 * room) / 3.0);
        Self { low: ((low - room) / step).floor() * step, high: ((high + room) / step).ceil() * step, step }
    }

    fn place(self, value: f64) -> f64 {
        BOTTOM - (value - self.low) / (self.high - self.low) * (BOTTOM - TOP)
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round().clamp(1.0, 12.0) as u32;
        (0..=count).map(move |n| self.low + f64::from(n) * self.step)
    }
}

/// The next of 1, 2, 5 and their tens above `raw`.
fn round_step(raw: f64) -> f64 {
    let ten = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * ten).find(|step| *step >= raw * 0.999).unwrap_or(10.0 * ten)
}

/// As many digits as tell values of this step apart.
fn number(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}");
    // Zero has no sign for people.
    if text.trim_start_matches(['-', '0', '.']).is_empty() { text.trim_start_matches('-').to_owned() } else { text }
}

/// The chart as a figure; an empty one says so.
pub fn figure(chart: &Chart) -> Markup {
    // Names of features come from elsewhere.
    let chart = &Chart { title: parts::word(&chart.title), ..chart.clone() };
    let drawn: Vec<Series> = chart.series.iter().map(newest).filter(|series| !series.points.is_empty()).collect();
    html! {
        figure #{"chart-" (chart.id)} data-key={"chart-" (chart.id)} aria-labelledby={"caption-" (chart.id)} {
            figcaption #{"caption-" (chart.id)} { (chart.title) @if !chart.unit.is_empty() { ", " (chart.unit) } }
            @if drawn.is_empty() { p .quiet { "No window yet." } } @else {
                (drawing(chart, &drawn))
                (table(chart, &drawn))
            }
        }
    }
}

fn newest(series: &Series) -> Series {
    let finite: Vec<_> = series.points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let from = finite.len().saturating_sub(MAX_POINTS);
    Series { name: parts::word(&series.name), points: finite[from..].to_vec() }
}

fn drawing(chart: &Chart, drawn: &[Series]) -> Markup {
    let limit = chart.limit.filter(|(level, _)| level.is_finite());
    let values = drawn.iter().flat_map(|s| s.points.iter().map(|(_, value)| *value));
    let scale = Scale::of(values.chain(limit.map(|(level, _)| level)));
    let (first, last) = span(drawn);
    let across = |at: Timestamp| {
        let (whole, part) =
            (last.as_millisecond() - first.as_millisecond(), at.as_millisecond() - first.as_millisecond());
        if whole > 0 { LEFT + part as f64 / whole as f64 * (RIGHT - LEFT) } else { (LEFT + RIGHT) / 2.0 }
    };
    let (title, description) = (format!("title-{}", chart.id), format!("desc-{}", chart.id));
    html! {
        svg viewBox={"0 0 " (WIDTH) " " (HEIGHT)} role="img" aria-labelledby={(title) " " (description)} {
            title #(title) { (chart.title) }
            desc #(description) { (words(chart, drawn, scale.step)) }
            @for tick in scale.ticks() {
                line .grid x1=(LEFT) x2=(RIGHT) y1=(fixed(scale.place(tick))) y2=(fixed(scale.place(tick))) {}
                text .tick x=(LEFT - 6.0) y=(fixed(scale.place(tick) + 4.0)) text-anchor="end" { (number(tick, scale.step)) }
            }
            text .tick x=(LEFT) y=(BOTTOM + 18.0) { (moment(first, first, last)) }
            @if last > first {
                text .tick x=(RIGHT) y=(BOTTOM + 18.0) text-anchor="end" { (moment(last, first, last)) }
            }
            @if let Some((level, name)) = limit {
                line .limit x1=(LEFT) x2=(RIGHT) y1=(fixed(scale.place(level))) y2=(fixed(scale.place(level))) {}
                text .mark x=(LEFT + 4.0) y=(fixed((scale.place(level) - 4.0).max(TOP))) { (name) }
            }
            (moments(chart, first, last, across))
            @for (index, series) in drawn.iter().enumerate() {
                polyline .{"line line-" (index % 4)} points=(path(series, across, scale)) {}
                @for (at, value) in beyond(series, limit) {
                    rect .beyond x=(fixed(across(at) - 3.5)) y=(fixed(scale.place(value) - 3.5)) width="7" height="7" {}
                }
                @if let Some((at, value)) = series.points.last() {
                    circle .{"end end-" (index % 4)} cx=(fixed(across(*at))) cy=(fixed(scale.place(*value))) r="3" {}
                }
            }
        }
        @if drawn.len() > 1 {
            ul .legend { @for (index, series) in drawn.iter().enumerate() {
                li { svg .swatch viewBox="0 0 28 8" aria-hidden="true" { line .{"line line-" (index % 4)} x1="0" x2="28" y1="4" y2="4" {} } (series.name) }
            } }
        }
    }
}

/// Upright lines with their names above; a name without room stands in the words alone.
fn moments(chart: &Chart, first: Timestamp, last: Timestamp, across: impl Fn(Timestamp) -> f64) -> Markup {
    let mut taken = LEFT;
    let placed = within(chart, first, last).map(|(at, name)| {
        let (x, name) = (across(*at), parts::word(name));
        let width = name.chars().count() as f64 * LETTER;
        // To the right of the line, but to the left of it at the edge.
        let start = if x + width > RIGHT { x - width - 3.0 } else { x + 3.0 };
        let is_free = start >= taken;
        if is_free {
            taken = start + width;
        }
        (x, is_free.then_some((start, name)))
    });
    html! { @for (x, name) in placed {
        line .moment x1=(fixed(x)) x2=(fixed(x)) y1=(TOP - 10.0) y2=(BOTTOM) {}
        @if let Some((start, name)) = name { text .tick x=(fixed(start)) y=(TOP - 3.0) { (name) } }
    } }
}

fn within(chart: &Chart, first: Timestamp, last: Timestamp) -> impl Iterator<Item = &(Timestamp, String)> {
    chart.moments.iter().filter(move |(at, _)| (first..=last).contains(at))
}

fn span(drawn: &[Series]) -> (Timestamp, Timestamp) {
    let times = || drawn.iter().flat_map(|s| s.points.iter().map(|(at, _)| *at));
    (times().min().unwrap_or(Timestamp::UNIX_EPOCH), times().max().unwrap_or(Timestamp::UNIX_EPOCH))
}

fn beyond(series: &Series, limit: Option<(f64, &str)>) -> impl Iterator<Item = (Timestamp, f64)> {
    series.points.iter().copied().filter(move |(_, value)| limit.is_some_and(|(level, _)| *value > level))
}

fn path(series: &Series, across: impl Fn(Timestamp) -> f64, scale: Scale) -> String {
    let mut points = String::new();
    for (at, value) in &series.points {
        // Writing to a string cannot fail.
        let _ = write!(points, "{},{} ", fixed(across(*at)), fixed(scale.place(*value)));
    }
    points
}

fn fixed(value: f64) -> String {
    format!("{value:.1}")
}

/// The time of day, or the day where the chart is longer than two.
fn moment(at: Timestamp, first: Timestamp, last: Timestamp) -> String {
    let days = (last.as_second() - first.as_second()) > 2 * 86_400;
    at.strftime(if days { "%Y-%m-%d" } else { "%H:%M:%S" }).to_string()
}

/// The drawing in words: what who cannot see it would want to know first.
fn words(chart: &Chart, drawn: &[Series], step: f64) -> String {
    let mut text = String::new();
    for series in drawn {
        let values = || series.points.iter().map(|(_, value)| *value);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let last = values().next_back().unwrap_or_default();
        let number = |value| number(value, step / 10.0);
        let _ = write!(
            text,
            "{}: {} windows, from {} to {}, last {}. ",
            series.name,
            series.points.len(),
            number(low),
            number(high),
            number(last)
        );
        if let Some((level, name)) = chart.limit {
            let over = beyond(series, chart.limit).count();
            let _ = write!(text, "{over} above {name} at {}. ", number(level));
        }
    }
    let (first, last) = span(drawn);
    for (at, name) in within(chart, first, last) {
        let _ = write!(text, "{}: {}. ", moment(*at, first, last), parts::word(name));
    }
    text.trim_end().to_owned()
}

fn table(chart: &Chart, drawn: &[Series]) -> Markup {
    let step = Scale::of(drawn.iter().flat_map(|s| s.points.iter().map(|(_, value)| *value))).step / 10.0;
    let total: usize = drawn.iter().map(|s| s.points.len()).sum();
    let mut rows: Vec<(Timestamp, &str, f64)> =
        drawn.iter().flat_map(|s| s.points.iter().map(|(at, value)| (*at, s.name.as_str(), *value))).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    rows.truncate(MAX_TABLE);
    let caption = format!("table-{}", chart.id);
    html! {
        details #{"details-" (chart.id)} {
            summary { "The figures of " (chart.title) }
            (parts::wide(&caption, html! { table {
                caption #(caption) {
                    (chart.title) ", newest first"
                    @if total > rows.len() { ": the newest " (rows.len()) " of " (total) }
                }
                thead { tr { th scope="col" { "Time (UTC)" } th scope="col" { "What" } th scope="col" { "Value" @if !chart.unit.is_empty() { ", " (chart.unit) } } } }
                tbody { @for (at, name, value) in &rows {
                    tr { th scope="row" { (at.strftime("%Y-%m-%d %H:%M:%S")) } td { (name) } td { (number(*value, step)) } }
                } }
            } }))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn chart(values: &[f64], limit: Option<(f64, &'static str)>) -> Chart {
        let points = values.iter().enumerate().map(|(n, v)| (at(n as i64), *v)).collect();
        let series = vec![Series { name: "p99 <b>".into(), points }];
        Chart { id: "x".into(), title: "Latency & more".into(), unit: "ms", series, limit, moments: vec![] }
    }

    fn text(chart: &Chart) -> String {
        figure(chart).into_string()
    }

    #[test]
    fn a_chart_has_words_and_a_table_for_who_cannot_see_it() {
        let svg = text(&chart(&[1.0, 2.0, 9.5], Some((5.0, "alarm"))));
        for part in [
            "<title id=\"title-x\">Latency &amp; more</title>",
            "role=\"img\" aria-labelledby=\"title-x desc-x\"",
            "p99 &lt;b&gt;: 3 windows, from 1.0 to 9.5, last 9.5. 1 above alarm at 5.0.",
            "<caption id=\"table-x\">",
            "<td>9.5</td>",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(svg.matches("class=\"beyond\"").count(), 1);
        assert!(!svg.contains("style="), "the page's policy forbids it");
    }

    #[test]
    fn moments_are_drawn_and_told_where_they_lie_in_the_chart() {
        let moments = [(1, "<1.1.0>"), (2, "1.2.0"), (98, "1.3.0"), (500, "1.4.0")];
        let moments = moments.map(|(second, name)| (at(second), name.to_owned())).to_vec();
        let svg = text(&Chart { moments, ..chart(&[1.0; 100], None) });
        assert_eq!(svg.matches("class=\"moment\"").count(), 3, "one lies beyond the windows");
        assert!(svg.contains("08:00:01: &lt;1.1.0&gt;. 08:00:02: 1.2.0. 08:01:38: 1.3.0.</desc>"), "{svg}");
        assert!(svg.contains(">1.3.0</text>") && !svg.contains(">1.2.0</text>"), "two names would lie on each other");
        assert!(!svg.contains("1.4.0"));
    }

    #[test]
    fn nothing_to_draw_says_so() {
        for empty in [chart(&[], None), chart(&[f64::NAN, f64::INFINITY], Some((1.0, "alarm")))] {
            let html = text(&empty);
            assert!(html.contains("No window yet") && !html.contains("<svg"));
        }
    }

    #[test]
    fn long_series_are_cut_to_the_newest_and_the_table_says_so() {
        let svg = text(&chart(&vec![1.5; 1000], None));
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split_whitespace().count(), MAX_POINTS);
        assert!(svg.contains("the newest 60 of 240"));
    }

    #[test]
    fn ticks_are_round() {
        let scale = Scale::of([0.12, 0.97].into_iter());
        assert_eq!(scale.ticks().map(|t| number(t, scale.step)).collect::<Vec<_>>(), ["0.0", "0.5", "1.0"]);
        let scale = Scale::of([-3.0, 14.0].into_iter());
        assert_eq!(scale.ticks().map(|t| number(t, scale.step)).collect::<Vec<_>>(), ["-10", "0", "10", "20"]);
        assert_eq!(number(-0.0001, 0.1), "0.0");
    }

    proptest! {
        #[test]
        fn every_point_lies_in_the_plot(values in prop::collection::vec(-1e12f64..1e12, 1..50), level in -1e12f64..1e12) {
            let svg = text(&chart(&values, Some((level, "alarm"))));
            let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            for point in points.split_whitespace() {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                prop_assert!((LEFT - 0.1..=RIGHT + 0.1).contains(&x) && (TOP - 0.1..=BOTTOM + 0.1).contains(&y), "{point}");
            }
        }
    }
}
