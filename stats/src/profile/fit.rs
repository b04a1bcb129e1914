//! Fitting a profile to baseline windows in time order.
//!
//! Season enters by the calendar's columns only: the year's where the baseline spans one, the day's where windows are
//! shorter, the week's where they are no longer than a day. A baseline that is too short is refused, with the reason.

use super::{
    Confidence, DEFAULT_ARL, FORMAT, FeatureProfile, Kind, MAX_ARL, MIN_WINDOWS, Profile, ScoreProfile, Unit, mde,
    series::{self, BACKTEST_FIT, MIN_SEEN, Terms},
};
use crate::{
    calendar::{Calendar, Coverage, DAY},
    categorical::Dictionary,
    cells::CELLS,
    design::Design,
    estimate,
    hard::Limits,
    labels::{Labels, Mixture},
    math,
    numeric::Ruler,
    scores::{Reader, Score},
    shape::{ShapeMismatch, same},
    slo, step,
    window::{Sums, Window},
};

/// Categories of a smaller reference share are not followed one by one.
const MIN_CATEGORY_SHARE: f64 = 0.02;
/// Most categories that are followed one by one, the most frequent: with a season each takes 100 bytes of a profile.
const MOST_CATEGORIES: usize = 10;
/// Windows of at most so many days have a level for each day of the week, those of half a day and less a wave over the day.
const LONGEST_OF_WEEK: f64 = 1.5;
const LONGEST_OF_DAY: f64 = 0.75;
/// Days of a baseline that shows each day of the week often enough to tell them apart.
const WEEKS: f64 = 8.0 * 7.0;

/// A feature before its baseline is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// How its values are counted.
    pub kind: Kind,
}

impl Spec {
    /// A numeric feature, its cells and scale taken from the baseline's values.
    ///
    /// # Errors
    /// Where no value is finite.
    pub fn numeric(name: &str, values: &[f64]) -> Result<Self, Refusal> {
        let ruler = Ruler::of_sample(values).ok_or_else(|| Refusal::NeverSeen { feature: name.to_owned() })?;
        Ok(Self { name: name.to_owned(), kind: Kind::Numeric(ruler) })
    }

    /// A categorical feature, its dictionary the baseline's 64 most frequent categories.
    pub fn categorical<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        Self::with_dictionary(name, Dictionary::of_sample(values, 2 * CELLS))
    }

    /// A categorical feature of known categories.
    pub fn with_dictionary(name: &str, dictionary: Dictionary) -> Self {
        Self { name: name.to_owned(), kind: Kind::Categorical(dictionary) }
    }
}

/// When the baseline's windows were.
#[derive(Debug, Clone)]
pub struct Times<'a> {
    /// What they are cut by.
    pub unit: Unit,
    /// Seconds that the device's time is ahead of UTC.
    pub utc_offset: i32,
    /// Seconds between rows, where they come at a steady rate.
    pub step: Option<f64>,
    /// Longest time between neighbouring rows, in seconds, where it is known.
    pub longest_step: Option<f64>,
    /// The middle of each window, in seconds since 1970; any number for one without rows.
    pub middles: &'a [f64],
}

/// What a profile is fitted to.
#[derive(Debug, Clone)]
pub struct Baseline<'a> {
    /// Watched inputs.
    pub features: &'a [Spec],
    /// Watched outputs.
    pub outputs: &'a [Spec],
    /// Held-out errors by confidence. Without them the objective is fitted to the windows' own labels, where there are any.
    pub confidence: Option<Confidence>,
    /// The windows, in time order, counted by `features` and `outputs`; one without rows where time is missing between
    /// its neighbours.
    pub windows: &'a [Window],
    /// When they were; none where nobody knows: their order and season are then taken to say nothing.
    pub times: Option<Times<'a>>,
    /// Windows between false alarms of one device, in expectation.
    pub arl: f64,
}

impl<'a> Baseline<'a> {
    /// A baseline of inputs only, without season, at the default rate.
    pub fn new(features: &'a [Spec], windows: &'a [Window]) -> Self {
        Self { features, outputs: &[], confidence: None, windows, times: None, arl: DEFAULT_ARL }
    }
}

/// Why no profile was fitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too few windows yet.
    #[error("learning {have} of {need} windows: record a longer baseline, or use shorter windows")]
    Learning {
        /// Windows that there are.
        have: usize,
        /// Windows that it takes.
        need: usize,
    },
    /// A feature without one usable value, or with values in too few windows, or with texts of which none comes often.
    #[error(
        "feature {feature:?} has numbers in too few windows, or texts that are nearly all different: leave it out (--ignore), \
         or record a baseline that holds it"
    )]
    NeverSeen {
        /// Which one.
        feature: String,
    },
    /// A scale that nothing can be measured with.
    #[error("scale of feature {feature:?} is not usable: measure it again from finite values")]
    BadScale {
        /// Which one.
        feature: String,
    },
    /// A rate of false alarms below one window, beyond [`MAX_ARL`], or none at all.
    #[error("windows between false alarms must be at least 1 and at most {MAX_ARL}")]
    BadRate,
    /// Windows that were not counted by these features.
    #[error("baseline windows do not fit the features")]
    Shape(#[from] ShapeMismatch),
}

/// Fits a profile.
///
/// # Errors
/// Each cause has its variant of [`Refusal`]; nothing is guessed from a short baseline.
pub fn fit(baseline: &Baseline<'_>) -> Result<Profile, Refusal> {
    if !(1.0..=MAX_ARL).contains(&baseline.arl) {
        return Err(Refusal::BadRate);
    }
    let used = baseline.windows.iter().filter(|window| window.rows > 0).count();
    if used < MIN_WINDOWS {
        return Err(Refusal::Learning { have: used, need: MIN_WINDOWS });
    }
    if let Some(times) = &baseline.times {
        same("times of windows", baseline.windows.len(), times.middles.len())?;
    }
    let ground = Ground::of(baseline);
    let watched = baseline.features.len() + baseline.outputs.len();
    let alarm = step::threshold(baseline.arl, watched, 1);
    let side = |specs: &[Spec], of: fn(&Window) -> &[Sums]| -> Result<Vec<FeatureProfile>, Refusal> {
        baseline.windows.iter().try_for_each(|window| same("features", specs.len(), of(window).len()))?;
        let column = |i: usize| baseline.windows.iter().map(move |window| &of(window)[i]).collect::<Vec<_>>();
        specs.iter().enumerate().map(|(i, spec)| feature(spec, &column(i), &ground, alarm)).collect()
    };
    let rows = median(baseline.windows.iter().map(|window| window.rows)).unwrap_or(1.0);
    Ok(Profile {
        format: FORMAT,
        windows: u32::try_from(used).unwrap_or(u32::MAX),
        rows,
        arl: baseline.arl,
        unit: baseline.times.as_ref().map_or(Unit::Rows, |times| times.unit),
        calendar: ground.calendar,
        features: side(baseline.features, |window| &window.features)?,
        outputs: side(baseline.outputs, |window| &window.outputs)?,
        confidence: baseline.confidence.clone(),
        objective: objective(baseline),
        estimate: estimated(baseline, &ground)?,
    })
}

/// What is known of the windows as such.
struct Ground<'a> {
    calendar: Option<Calendar>,
    middles: &'a [f64],
    design: Design,
    /// Columns of the year where a half of the baseline does not span one.
    held: std::ops::Range<usize>,
}

impl<'a> Ground<'a> {
    fn of(baseline: &Baseline<'a>) -> Self {
        let count = baseline.windows.len();
        let Some(times) = &baseline.times else {
            return Self { calendar: None, middles: &[], design: Design::level(count), held: 0..0 };
        };
        let plain =
            Calendar { step: times.step, longest_step: times.longest_step, ..Calendar::plain(times.utc_offset) };
        let seen = |range: std::ops::Range<usize>| {
            let windows = range.filter(|i| baseline.windows[*i].rows > 0).map(|i| plain.day_of_year(times.middles[i]));
            Coverage::of(windows).spans_year()
        };
        let used =
            || baseline.windows.iter().zip(times.middles).filter(|(window, _)| window.rows > 0).map(|(_, at)| *at);
        let apart = used().zip(used().skip(1)).map(|(at, next)| (next - at) / DAY).filter(|days| *days > 0.0);
        let length = math::median(&mut apart.collect::<Vec<_>>()).unwrap_or(f64::INFINITY);
        let days = used().next_back().unwrap_or(0.0) - used().next().unwrap_or(0.0);
        let calendar = Calendar {
            annual: seen(0..count),
            daily: length <= LONGEST_OF_DAY,
            weekly: length <= LONGEST_OF_WEEK && days >= WEEKS * DAY,
            ..plain
        };
        let part = (count as f64 * BACKTEST_FIT) as usize;
        let halves = seen(0..part) && seen(count - part..count);
        let held = if halves { 0..0 } else { calendar.annual_columns() };
        let design = Design::of_calendar(&calendar, times.middles);
        Self { calendar: Some(calendar), middles: times.middles, design, held }
    }

    /// Columns without the days of the week.
    fn season(&self) -> usize {
        self.calendar.map_or(1, |calendar| calendar.without_week())
    }

    /// The days of the year in which a feature was seen.
    fn covered(&self, column: &[&Sums]) -> Coverage {
        let Some(calendar) = self.calendar else { return Coverage::default() };
        let seen = column.iter().zip(self.middles).filter(|(sums, _)| sums.rows() > sums.absent());
        Coverage::of(seen.map(|(_, middle)| calendar.day_of_year(*middle)))
    }
}

/// The profile of one feature over its column of sums.
fn feature(spec: &Spec, column: &[&Sums], ground: &Ground<'_>, alarm: f64) -> Result<FeatureProfile, Refusal> {
    if matches!(&spec.kind, Kind::Numeric(ruler) if !ruler.is_sound()) {
        return Err(Refusal::BadScale { feature: spec.name.clone() });
    }
    let never = || Refusal::NeverSeen { feature: spec.name.clone() };
    let totals = totals(&spec.kind, column)?;
    let counts = match &totals {
        Sums::Numeric(sums) => &sums.cells,
        Sums::Categorical(sums) => &sums.counts,
    };
    let rows = median(column.iter().map(|sums| sums.rows())).ok_or_else(never)?;
    let scores = candidates(&spec.kind, counts)
        .into_iter()
        .filter_map(|score| Some((score, median(column.iter().map(|sums| score.rows(sums)))?)))
        .collect();
    let scores = profiles(&Reader::of(&spec.kind, counts, scores), column, ground, alarm)?;
    if !scores.iter().any(|s| s.score != Score::Missing) {
        return Err(never());
    }
    let mut profile = FeatureProfile {
        name: spec.name.clone(),
        kind: spec.kind.clone(),
        other: if let Sums::Categorical(sums) = &totals { sums.other } else { 0 },
        missing: totals.absent(),
        rows,
        limits: Limits::of(column, rows),
        mde: None,
        counts: counts.clone(),
        scores,
        covered: ground.covered(column),
    };
    profile.mde = mde::smallest_bias(&profile, column, &ground.design, alarm);
    Ok(profile)
}

fn totals(kind: &Kind, column: &[&Sums]) -> Result<Sums, Refusal> {
    let mut totals = match kind {
        Kind::Numeric(ruler) => Sums::Numeric(crate::numeric::Numeric::empty(ruler.edges.cells())),
        Kind::Categorical(names) => Sums::Categorical(crate::categorical::Categorical::empty(names.names().len())),
    };
    column.iter().try_for_each(|sums| totals.merge(sums))?;
    Ok(totals)
}

fn candidates(kind: &Kind, counts: &[u64]) -> Vec<Score> {
    if matches!(kind, Kind::Numeric(_)) {
        return Score::NUMERIC.to_vec();
    }
    let total = counts.iter().map(|c| *c as f64).sum::<f64>();
    let mut frequent: Vec<(u16, u64)> =
        (0..).zip(counts.iter().copied()).filter(|(_, count)| *count as f64 > MIN_CATEGORY_SHARE * total).collect();
    frequent.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    frequent.truncate(MOST_CATEGORIES);
    frequent.sort_unstable();
    frequent.into_iter().map(|(i, _)| Score::Category(i)).chain([Score::Missing]).collect()
}

/// The profiles of the scores that were seen often enough.
fn profiles(
    reader: &Reader,
    column: &[&Sums],
    ground: &Ground<'_>,
    alarm: f64,
) -> Result<Vec<ScoreProfile>, ShapeMismatch> {
    let scores = reader.scores();
    let mut values = vec![Vec::with_capacity(column.len()); scores.len()];
    let mut readings = Vec::with_capacity(scores.len());
    for sums in column {
        reader.read(sums, &mut readings)?;
        values.iter_mut().zip(&readings).for_each(|(series, r)| series.push(r.map(|r| r.value)));
    }
    let enough = |series: &Vec<Option<f64>>| series.iter().flatten().count() >= MIN_SEEN;
    let together = values.iter().filter(|series| enough(series)).count();
    let each = scores.iter().zip(&values).filter(|(_, series)| enough(series));
    Ok(each
        .filter_map(|((score, rows), series)| {
            let (season, held) = (ground.season(), ground.held.clone());
            series::fit(series, &ground.design, &Terms { score: *score, rows: *rows, together, alarm, season, held })
        })
        .collect())
}

/// What the objective allows beyond the upper limit of the held-out error rate: the least of these, each one and a half to two times the
/// one before, that the baseline's own windows leave quiet. Errors come in waves, and a promise that good times break is none.
const ALLOWANCES: [f64; 8] = [0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3];
/// Normal quantile of that limit: a held-out rate is an estimate, and of forty honest ones one lies beyond it.
const UPPER: f64 = 1.96;
/// Share of the alarm level that the baseline's own errors may reach.
const OBJECTIVE_SHARE: f64 = 0.1;

/// The largest error rate to accept; none where nothing says how often the model was wrong. Confidences are not needed.
fn objective(baseline: &Baseline<'_>) -> Option<f64> {
    let known = match &baseline.confidence {
        Some(known) => known.bins.iter().map(|bin| Labels { n: bin.n, errors: bin.errors }).collect::<Vec<_>>(),
        None => baseline.windows.iter().map(|window| slo::total(&window.labels)).collect(),
    };
    let known = slo::total(&known);
    if known.n == 0 {
        return None;
    }
    let rate = upper(known.errors, known.n);
    let is_quiet = |allowance: &f64| {
        let mut state = Mixture::default();
        baseline.windows.iter().all(|window| {
            let labels = slo::total(&window.labels);
            slo::observe(&mut state, rate + allowance, labels, baseline.arl).evidence <= OBJECTIVE_SHARE.log10()
        })
    };
    let allowance = ALLOWANCES.into_iter().find(is_quiet).unwrap_or(ALLOWANCES[ALLOWANCES.len() - 1]);
    Some(math::rounded((rate + allowance).min(1.0), 4))
}

/// The upper limit of the rate that `errors` of `n` are drawn with, by its score at [`UPPER`] (Wilson 1927).
fn upper(errors: u64, n: u64) -> f64 {
    let (n, square) = ((n as f64).max(1.0), UPPER * UPPER);
    let p = (errors as f64 / n).min(1.0);
    let spread = (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
    (p + square / (2.0 * n) + UPPER * spread) / (1.0 + square / n)
}

/// How the error rate expected from the confidences varied over the baseline.
fn estimated(baseline: &Baseline<'_>, ground: &Ground<'_>) -> Result<Option<ScoreProfile>, Refusal> {
    let Some(confidence) = &baseline.confidence else { return Ok(None) };
    let mut values = Vec::with_capacity(baseline.windows.len());
    for window in baseline.windows {
        values.push(estimate::expected_error(confidence, &window.confidence)?.map(|e| e.error));
    }
    let Some(rows) = median(baseline.windows.iter().map(|window| saturating_sum(&window.confidence))) else {
        return Ok(None);
    };
    let (score, season, held) = (Score::EstimatedError, ground.season(), ground.held.clone());
    let terms = Terms { score, rows, together: 1, alarm: baseline.arl, season, held };
    let enough = values.iter().flatten().count() >= MIN_SEEN;
    Ok(enough.then(|| series::fit(&values, &ground.design, &terms)).flatten())
}

fn saturating_sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// The median of the counts that are not 0.
fn median(counts: impl Iterator<Item = u64>) -> Option<f64> {
    let mut counts: Vec<f64> = counts.filter(|count| *count > 0).map(|count| count as f64).collect();
    math::median(&mut counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{categorical, numeric};

    /// Values that look random enough: the fractional parts of multiples of the golden ratio.
    fn value(i: usize) -> f64 {
        (i as f64 * 0.618_033_988_749_895).fract()
    }

    fn windows(specs: &[Spec], count: usize) -> Vec<Window> {
        let (Kind::Numeric(ruler), Kind::Categorical(names)) = (&specs[0].kind, &specs[1].kind) else { panic!() };
        let mut numbers = numeric::Accumulator::new(ruler.clone());
        let mut names = categorical::Accumulator::new(names.clone());
        let window = |w: usize| {
            for i in w * 100..(w + 1) * 100 {
                numbers.update(Some(value(i)));
                names.update(Some(if value(i) < 0.7 { "most" } else { "rest" }));
            }
            let features = vec![Sums::Numeric(numbers.take()), Sums::Categorical(names.take())];
            Window { rows: 100, features, ..Window::default() }
        };
        (0..count).map(window).collect()
    }

    fn specs() -> Vec<Spec> {
        let values: Vec<f64> = (0..5000).map(value).collect();
        vec![Spec::numeric("a", &values).unwrap(), Spec::categorical("b", ["most", "rest"])]
    }

    #[test]
    fn a_profile_holds_what_the_baseline_was() {
        let specs = specs();
        let windows = windows(&specs, 60);
        let profile = fit(&Baseline::new(&specs, &windows)).unwrap();
        profile.check().unwrap();
        assert_eq!((profile.windows, profile.rows, profile.threshold(4)), (60, 100.0, 8000.0));
        let [numbers, names] = &profile.features[..] else { panic!() };
        assert_eq!((numbers.counts.iter().sum::<u64>(), numbers.missing_rate()), (6000, 0.0));
        assert_eq!(numbers.scores.iter().map(|s| s.score).collect::<Vec<_>>(), Score::NUMERIC);
        assert!(numbers.mde.unwrap() < 1.0 && names.mde.is_none());
        assert_eq!(names.scores[0].score, Score::Category(0));
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), profile);
    }

    #[test]
    fn short_or_unfitting_baselines_are_refused_with_the_reason() {
        let specs = specs();
        let few = windows(&specs, 49);
        let refusal = fit(&Baseline::new(&specs, &few)).unwrap_err();
        assert_eq!(refusal, Refusal::Learning { have: 49, need: 50 });
        assert!(refusal.to_string().starts_with("learning 49 of 50"));
        let enough = windows(&specs, 50);
        let swapped = [specs[1].clone(), specs[0].clone()];
        assert!(matches!(fit(&Baseline::new(&swapped, &enough)), Err(Refusal::Shape(_))));
        assert!(matches!(fit(&Baseline::new(&specs[..1], &enough)), Err(Refusal::Shape(_))));
        for arl in [f64::NAN, 0.9, 2.0 * MAX_ARL, f64::INFINITY] {
            let rate = Baseline { arl, ..Baseline::new(&specs, &enough) };
            assert_eq!(fit(&rate), Err(Refusal::BadRate), "{arl}");
        }
        assert!(matches!(Spec::numeric("a", &[f64::NAN]), Err(Refusal::NeverSeen { .. })));
    }

    #[test]
    fn the_objective_lies_beyond_what_few_labels_and_waves_of_errors_leave_open() {
        // scipy 1.17, binomtest(errors, n).proportion_ci(0.95, "wilson").high.
        for (errors, n, limit) in [(4, 357, 0.0284506), (2000, 20_000, 0.1042348), (0, 10, 0.2775328), (10, 10, 1.0)] {
            assert!((upper(errors, n) - limit).abs() < 2e-5, "{errors} of {n}: {}", upper(errors, n));
        }
        let known = |n, errors| Confidence {
            edges: crate::cells::Edges::new(vec![]).unwrap(),
            bins: vec![super::super::Bin { n, errors }],
        };
        let baseline = |windows: &[Window], n, errors| {
            objective(&Baseline { confidence: Some(known(n, errors)), ..Baseline::new(&[], windows) }).unwrap()
        };
        assert_eq!(baseline(&[], 100_000, 10_000), math::rounded(upper(10_000, 100_000) + 0.01, 4));
        let wave = |i: u64| {
            let labels = Labels { n: 100, errors: if (i / 10).is_multiple_of(2) { 4 } else { 16 } };
            Window { labels: vec![labels], ..Window::default() }
        };
        let waves: Vec<_> = (0..60).map(wave).collect();
        assert_eq!(baseline(&waves, 100_000, 10_000), math::rounded(upper(10_000, 100_000) + 0.03, 4), "waves of 16 %");
        // Without confidences the windows' own labels say how often the model was wrong: here 600 of 6,000.
        let errors_alone = objective(&Baseline::new(&[], &waves));
        assert_eq!(errors_alone, Some(math::rounded(upper(600, 6000) + 0.02, 4)), "from a rate less certain");
        assert_eq!(objective(&Baseline::new(&[], &[])), None, "no label, no promise");
    }

    #[test]
    fn a_feature_that_is_hardly_ever_there_is_named() {
        let specs = specs();
        let mut windows = windows(&specs, 60);
        for window in &mut windows[20..] {
            let Sums::Numeric(sums) = &mut window.features[0] else { panic!() };
            *sums = numeric::Numeric { missing: 100, ..numeric::Numeric::empty(sums.cells.len()) };
        }
        assert_eq!(fit(&Baseline::new(&specs, &windows)), Err(Refusal::NeverSeen { feature: "a".into() }));
    }

    #[test]
    fn profiles_with_nonsense_are_refused() {
        let specs = specs();
        let windows = windows(&specs, 50);
        let good = fit(&Baseline::new(&specs, &windows)).unwrap();
        let with = |change: fn(&mut Profile)| {
            let mut profile = good.clone();
            change(&mut profile);
            profile.check()
        };
        assert_eq!(with(|p| p.format = 3), Err(super::super::ProfileError::UnknownFormat(3)));
        let changes: [fn(&mut Profile); 7] = [
            |p| p.arl = 0.0,
            |p| p.arl = 1e308,
            |p| p.features[0].scores[0].sigma = 0.0,
            |p| p.features[0].scores[0].phi = 1.0,
            |p| p.features[1].scores[0].score = Score::Mean,
            |p| p.features[0].counts.truncate(1),
            |p| p.features[0].limits.flat = f64::NAN,
        ];
        changes.into_iter().for_each(|change| assert!(with(change).is_err()));
    }
}
