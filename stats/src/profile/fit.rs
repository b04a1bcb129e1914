//! Fitting a profile to baseline windows in time order.
//!
//! Season enters by the design's columns only. A baseline that is too short is refused, with the reason.

use super::{
    Confidence, DEFAULT_ARL, FORMAT, FeatureProfile, Kind, MAX_ARL, MIN_WINDOWS, Profile, ScoreProfile,
    series::{self, MIN_SEEN, Terms},
};
use crate::{
    categorical::Dictionary,
    cells::CELLS,
    design::Design,
    estimate,
    hard::Limits,
    math,
    numeric::Ruler,
    scores::{Reader, Score},
    shape::{ShapeMismatch, same},
    step::{self, BETS},
    window::{Sums, Window},
};

/// Categories of a smaller reference share are not followed one by one.
const MIN_CATEGORY_SHARE: f64 = 0.02;
/// The smallest detectable bias is the one found in about this many windows.
const MDE_WINDOWS: f64 = 10.0;

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
        let dictionary = Dictionary::of_sample(values, 2 * CELLS);
        Self { name: name.to_owned(), kind: Kind::Categorical(dictionary) }
    }
}

/// What a profile is fitted to.
#[derive(Debug, Clone)]
pub struct Baseline<'a> {
    /// Watched inputs.
    pub features: &'a [Spec],
    /// Watched outputs.
    pub outputs: &'a [Spec],
    /// Held-out errors by confidence.
    pub confidence: Option<Confidence>,
    /// The windows, in time order, counted by `features` and `outputs`.
    pub windows: &'a [Window],
    /// Their known columns, [`Design::level`] where there are none.
    pub design: Design,
    /// Windows between false alarms of one device, in expectation.
    pub arl: f64,
}

impl<'a> Baseline<'a> {
    /// A baseline of inputs only, without season, at the default rate.
    pub fn new(features: &'a [Spec], windows: &'a [Window]) -> Self {
        let design = Design::level(windows.len());
        Self { features, outputs: &[], confidence: None, windows, design, arl: DEFAULT_ARL }
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
    /// A feature without one usable value, or with values in too few windows.
    #[error("feature {feature:?} has values in too few windows: leave it out, or record a baseline that holds it")]
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
    same("windows of the design", baseline.windows.len(), baseline.design.windows())?;
    let watched = baseline.features.len() + baseline.outputs.len();
    let alarm = step::threshold(baseline.arl, watched, 1);
    let side = |specs: &[Spec], of: fn(&Window) -> &[Sums]| -> Result<Vec<FeatureProfile>, Refusal> {
        baseline.windows.iter().try_for_each(|window| same("features", specs.len(), of(window).len()))?;
        let column = |i: usize| baseline.windows.iter().map(move |window| &of(window)[i]).collect::<Vec<_>>();
        specs.iter().enumerate().map(|(i, spec)| feature(spec, &column(i), &baseline.design, alarm)).collect()
    };
    let rows = median(baseline.windows.iter().map(|window| window.rows)).unwrap_or(1.0);
    Ok(Profile {
        format: FORMAT,
        windows: u32::try_from(baseline.windows.len()).unwrap_or(u32::MAX),
        rows,
        arl: baseline.arl,
        features: side(baseline.features, |window| &window.features)?,
        outputs: side(baseline.outputs, |window| &window.outputs)?,
        confidence: baseline.confidence.clone(),
        estimate: estimated(baseline)?,
    })
}

/// The profile of one feature over its column of sums.
fn feature(spec: &Spec, column: &[&Sums], design: &Design, alarm: f64) -> Result<FeatureProfile, Refusal> {
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
    let scores = profiles(&Reader::of(&spec.kind, counts, scores), column, design, alarm)?;
    if !scores.iter().any(|s| s.score != Score::Missing) {
        return Err(never());
    }
    Ok(FeatureProfile {
        name: spec.name.clone(),
        kind: spec.kind.clone(),
        other: if let Sums::Categorical(sums) = &totals { sums.other } else { 0 },
        missing: totals.absent(),
        rows,
        limits: Limits::of(column, rows),
        mde: smallest_bias(&scores, alarm),
        counts: counts.clone(),
        scores,
    })
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
    let frequent = |(i, count): (u16, &u64)| (*count as f64 > MIN_CATEGORY_SHARE * total).then_some(Score::Category(i));
    (0..).zip(counts).filter_map(frequent).chain([Score::Missing]).collect()
}

/// The profiles of the scores that were seen often enough.
fn profiles(
    reader: &Reader,
    column: &[&Sums],
    design: &Design,
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
            series::fit(series, design, Terms { score: *score, rows: *rows, together, alarm })
        })
        .collect())
}

/// The bias that the mean finds in about ten windows: `(tau + sqrt(2 ln(A F J) / 10)) sigma / (1 - phi)`, J the number
/// of bets. The best bet gains half the square of the excess a window and needs ln(A F J); the notes found the result
/// within a factor of 2 of the measured one in all but two of some twenty features.
fn smallest_bias(scores: &[ScoreProfile], alarm: f64) -> Option<f64> {
    let bets = (BETS * scores.len()) as f64;
    let mean = scores.iter().find(|s| s.score == Score::Mean)?;
    let excess = (2.0 * (alarm * bets).ln() / MDE_WINDOWS).sqrt();
    Some((mean.tau + excess) * mean.sigma / (1.0 - mean.phi))
}

/// How the error rate expected from the confidences varied over the baseline.
fn estimated(baseline: &Baseline<'_>) -> Result<Option<ScoreProfile>, Refusal> {
    let Some(confidence) = &baseline.confidence else { return Ok(None) };
    let mut values = Vec::with_capacity(baseline.windows.len());
    for window in baseline.windows {
        values.push(estimate::expected_error(confidence, &window.confidence)?.map(|e| e.error));
    }
    let Some(rows) = median(baseline.windows.iter().map(|window| saturating_sum(&window.confidence))) else {
        return Ok(None);
    };
    let terms = Terms { score: Score::EstimatedError, rows, together: 1, alarm: baseline.arl };
    let enough = values.iter().flatten().count() >= MIN_SEEN;
    Ok(enough.then(|| series::fit(&values, &baseline.design, terms)).flatten())
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
        assert_eq!(with(|p| p.format = 2), Err(super::super::ProfileError::UnknownFormat(2)));
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
