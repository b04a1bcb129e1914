//! What a window says about a feature, as a few numbers whose change means something.
//!
//! Six for numbers (location, winsorised mean, log spread, roughness, flat share, missing share), for categories the
//! arcsine root of each known share and the missing share. With the location alone large biases saturate in the outer
//! cells (one real series was not found at five standard deviations), hence the mean beside it.

use serde::{Deserialize, Serialize};

use crate::{
    categorical::Categorical,
    math,
    numeric::Numeric,
    profile::{FeatureProfile, Kind},
    shape::{ShapeMismatch, same},
    window::Sums,
};

/// Floor of the variance under the logarithm: a stuck sensor has none.
const SPREAD_FLOOR: f64 = 0.02;
/// Floor of the mean difference under the logarithm, for the same reason.
const ROUGHNESS_FLOOR: f64 = 0.01;
/// A window with a smaller share than this of the baseline's median rows says nothing: too few to be a window.
const MIN_SHARE_OF_ROWS: f64 = 0.1;

/// Which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Mean of the cells' normal scores: where the bulk lies, whatever the tails do.
    Location,
    /// Mean of the standardised, clipped values: how far it lies.
    Mean,
    /// Log of the variance of the cells' normal scores.
    Spread,
    /// Log of the mean absolute difference between neighbours.
    Roughness,
    /// Share of neighbours that are equal.
    Flat,
    /// Share of values that are missing, NaN or infinite.
    Missing,
    /// Share of one known category.
    Category(u16),
    /// Error rate that the confidences lead to expect.
    EstimatedError,
}

impl Score {
    /// The six of a numeric feature.
    pub const NUMERIC: [Self; 6] =
        [Self::Location, Self::Mean, Self::Spread, Self::Roughness, Self::Flat, Self::Missing];

    /// A change too small to matter, in the score's own unit, whatever its spread (the notes' measured choices: a tenth
    /// of a standard deviation, a fifth of a log variance, and so on).
    pub fn tolerance(self) -> f64 {
        match self {
            Self::Location | Self::Mean => 0.1,
            Self::Spread => 0.2,
            Self::Roughness => 0.15,
            Self::Flat | Self::Missing | Self::Category(_) => 0.05,
            Self::EstimatedError => 0.01,
        }
    }

    /// Whether it goes with the season: all that is measured of the values that came. What fails to come does not.
    pub fn is_seasonal(self) -> bool {
        !matches!(self, Self::Flat | Self::Missing)
    }

    /// Whether it is the arcsine root of a share.
    pub fn is_share(self) -> bool {
        matches!(self, Self::Flat | Self::Missing | Self::Category(_))
    }

    /// How many rows it is computed from.
    pub(crate) fn rows(self, sums: &Sums) -> u64 {
        match (self, sums) {
            (Self::Missing, sums) => sums.rows(),
            (Self::Roughness | Self::Flat, Sums::Numeric(sums)) => sums.nd,
            (_, Sums::Numeric(sums)) => sums.n,
            (_, Sums::Categorical(sums)) => sums.n(),
        }
    }
}

/// The value of a score and the number of rows behind it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The value, in the score's own unit.
    pub value: f64,
    /// Rows that it was computed from.
    pub rows: f64,
}

impl Reading {
    /// How much of the baseline's precision the reading has: `sqrt(rows / baseline's rows)`, at most 1.
    ///
    /// A mean of n independent rows varies as 1 / sqrt(n). Where rows depend on one another it varies less strongly,
    /// and the weight errs to the quiet side.
    pub fn weight(&self, baseline_rows: f64) -> f64 {
        let share = self.rows / baseline_rows;
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0).sqrt() }
    }
}

/// Reads windows of one feature; made from its profile once.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    is_numeric: bool,
    /// Normal score of each cell; zeros of categories.
    places: Vec<f64>,
    /// Each score with the baseline's median of its rows.
    scores: Vec<(Score, f64)>,
}

impl Reader {
    /// The reader of a profiled feature: its readings come in the order of the profile's scores.
    pub fn new(profile: &FeatureProfile) -> Self {
        Self::of(&profile.kind, &profile.counts, profile.scores.iter().map(|s| (s.score, s.rows)).collect())
    }

    pub(crate) fn of(kind: &Kind, counts: &[u64], scores: Vec<(Score, f64)>) -> Self {
        match kind {
            Kind::Numeric(_) => Self { is_numeric: true, places: normal_scores(counts), scores },
            Kind::Categorical(_) => Self { is_numeric: false, places: vec![0.0; counts.len()], scores },
        }
    }

    /// Each score with the baseline's median of its rows, in the order of the readings.
    pub(crate) fn scores(&self) -> &[(Score, f64)] {
        &self.scores
    }

    /// Writes the readings of `sums` into `out`, one for each score; `None` where the window has too few rows for it,
    /// or its sums are no numbers.
    ///
    /// # Errors
    /// Where `sums` were counted under another profile.
    pub fn read(&self, sums: &Sums, out: &mut Vec<Option<Reading>>) -> Result<(), ShapeMismatch> {
        out.clear();
        match sums {
            Sums::Numeric(s) if self.is_numeric => same("cells", self.places.len(), s.cells.len())?,
            Sums::Categorical(s) if !self.is_numeric => same("categories", self.places.len(), s.counts.len())?,
            _ => return Err(ShapeMismatch { what: "numeric features", expected: 1, found: 0 }),
        }
        // Location and spread share them.
        let moments = if let Sums::Numeric(s) = sums { self.moments(s) } else { (0.0, 0.0) };
        out.extend(self.scores.iter().map(|(score, baseline_rows)| {
            let rows = score.rows(sums) as f64;
            let enough = rows > 0.0 && rows >= MIN_SHARE_OF_ROWS * baseline_rows;
            let reading = enough.then(|| Reading { value: value(*score, sums, moments, *baseline_rows), rows });
            reading.filter(|reading| reading.value.is_finite())
        }));
        Ok(())
    }

    /// Mean and variance of the cells' normal scores.
    fn moments(&self, sums: &Numeric) -> (f64, f64) {
        let n = sums.n as f64;
        let cells = self.places.iter().zip(&sums.cells).map(|(z, count)| (z, *count as f64 / n));
        let (mean, square) =
            cells.fold((0.0, 0.0), |(mean, square), (z, share)| (mean + z * share, square + z * z * share));
        (mean, (square - mean * mean).max(0.0))
    }
}

/// `moments` are [`Reader::moments`].
fn value(score: Score, sums: &Sums, moments: (f64, f64), baseline_rows: f64) -> f64 {
    match (score, sums) {
        (Score::Missing, sums) => share(sums.absent(), sums.rows(), baseline_rows),
        (Score::Category(c), Sums::Categorical(s)) => category(s, c, baseline_rows),
        (Score::Location, Sums::Numeric(_)) => moments.0,
        (Score::Spread, Sums::Numeric(_)) => (moments.1 + SPREAD_FLOOR).ln(),
        (Score::Mean, Sums::Numeric(s)) => s.s1 / s.n as f64,
        (Score::Roughness, Sums::Numeric(s)) => (s.sd_sum / s.nd as f64 + ROUGHNESS_FLOOR).ln(),
        (Score::Flat, Sums::Numeric(s)) => share(s.flat, s.nd, baseline_rows),
        _ => 0.0,
    }
}

fn category(sums: &Categorical, index: u16, baseline_rows: f64) -> f64 {
    let count = sums.counts.get(usize::from(index)).copied().unwrap_or(0);
    share(count, sums.n(), baseline_rows)
}

/// The arcsine root of a share, `asin(sqrt((k + 1/4) / (n + 1/2)))`: its variance is about `1 / (4 n)` at any share
/// (Anscombe 1948 for the form; the constants are the notes').
///
/// k and n are first brought to the baseline's number of rows: else a window of more rows with none missing would read
/// as fewer missing than ever, window after window.
pub(crate) fn share(count: u64, of: u64, baseline_rows: f64) -> f64 {
    let share = count.min(of) as f64 / of as f64;
    ((share * baseline_rows + 0.25) / (baseline_rows + 0.5)).sqrt().asin()
}

/// The normal scores of cells with these counts, with mean 0 and variance 1 under them (van der Waerden): the quantile
/// of each cell's middle rank. Ranks make a lognormal as well behaved as a normal.
fn normal_scores(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().map(|c| *c as f64).sum::<f64>().max(1.0);
    let mut below = 0.0;
    let raw: Vec<(f64, f64)> = counts
        .iter()
        .map(|count| {
            let share = *count as f64 / total;
            let middle = below + share / 2.0;
            below += share;
            // A cell that the baseline never filled lies at an end or between two others; keep it finite.
            (share, math::normal_quantile(middle.clamp(1e-4, 1.0 - 1e-4)))
        })
        .collect();
    let mean: f64 = raw.iter().map(|(share, z)| share * z).sum();
    let sd = raw.iter().map(|(share, z)| share * (z - mean).powi(2)).sum::<f64>().sqrt();
    raw.iter().map(|(_, z)| if sd > 0.0 { (z - mean) / sd } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{categorical::Dictionary, cells::Edges, numeric::Ruler};

    fn kind() -> Kind {
        let edges = Edges::new(vec![-1.0, 0.0, 1.0]).unwrap();
        Kind::Numeric(Ruler { edges, median: 0.0, sd: 1.0, min: -3.0, max: 3.0 })
    }

    fn read(reader: &Reader, sums: Sums) -> Vec<Option<f64>> {
        let mut out = Vec::new();
        reader.read(&sums, &mut out).unwrap();
        out.into_iter().map(|r| r.map(|r| r.value)).collect()
    }

    #[test]
    fn the_reference_itself_reads_as_nothing_new() {
        let reader = Reader::of(&kind(), &[10, 40, 40, 10], Score::NUMERIC.map(|s| (s, 100.0)).into());
        let sums = Numeric { cells: vec![10, 40, 40, 10], n: 100, nd: 99, sd_sum: 99.0, ..Numeric::default() };
        let values: Vec<f64> = read(&reader, Sums::Numeric(sums)).into_iter().flatten().collect();
        let expected = [0.0, 0.0, 1.02f64.ln(), 1.01f64.ln(), (0.25f64 / 100.5).sqrt().asin()];
        assert!(values.iter().zip(expected).all(|(v, e)| (v - e).abs() < 1e-12), "{values:?}");
    }

    #[test]
    fn normal_scores_have_mean_zero_and_variance_one() {
        for counts in [&[10, 40, 40, 10][..], &[1, 0, 99], &[5; 32]] {
            let total: u64 = counts.iter().sum();
            let z = normal_scores(counts);
            let moment = |k: i32| z.iter().zip(counts).map(|(z, c)| z.powi(k) * *c as f64).sum::<f64>() / total as f64;
            assert!(moment(1).abs() < 1e-12 && (moment(2) - 1.0).abs() < 1e-12);
            assert!(z.is_sorted());
        }
        assert_eq!(normal_scores(&[7]), [0.0]);
        assert_eq!(normal_scores(&[0, 0]), [0.0, 0.0]);
    }

    #[test]
    fn a_window_of_more_rows_is_no_evidence_of_fewer_missing() {
        assert_eq!(share(0, 100, 100.0), share(0, 10_000, 100.0));
        assert!((share(25, 100, 100.0) - share(2500, 10_000, 100.0)).abs() < 1e-15);
    }

    #[test]
    fn too_few_rows_say_nothing() {
        let reader = Reader::of(&kind(), &[10, 40, 40, 10], Score::NUMERIC.map(|s| (s, 100.0)).into());
        let sums = Numeric { cells: vec![9, 0, 0, 0], n: 9, missing: 91, nd: 8, ..Numeric::default() };
        let values = read(&reader, Sums::Numeric(sums));
        assert_eq!(values.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, false, false, false, true]);
        assert!(read(&reader, Sums::Numeric(Numeric::empty(4))).iter().all(Option::is_none));
    }

    #[test]
    fn sums_of_another_profile_are_refused() {
        let reader = Reader::of(&kind(), &[10, 40, 40, 10], vec![(Score::Mean, 100.0)]);
        let mut out = Vec::new();
        assert!(reader.read(&Sums::Numeric(Numeric::empty(5)), &mut out).is_err());
        assert!(reader.read(&Sums::Categorical(Categorical::empty(4)), &mut out).is_err());
        let dictionary = Kind::Categorical(Dictionary::new(vec!["a".into()]).unwrap());
        let reader = Reader::of(&dictionary, &[10], vec![(Score::Category(0), 10.0)]);
        let half = Categorical { counts: vec![5], other: 5, ..Categorical::default() };
        assert_eq!(read(&reader, Sums::Categorical(half)), [Some(0.5f64.sqrt().asin())]);
    }
}
