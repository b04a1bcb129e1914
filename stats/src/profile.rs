//! The reference profile: what a model's inputs, outputs and confidences were like when it was good, and how much they
//! varied from window to window then.
//!
//! A profile is made by [`fit`] over a baseline in time order, shipped with the model, and only read after that.
//! Format 2: readers take formats 1 and 2 and refuse others; a change is a new format with an upgrade from this one. Format 1
//! knew neither calendar nor objective, and wrote scores as lists of objects.

pub mod confidence;
pub mod fit;
mod mde;
mod packed;
pub(crate) mod series;

use serde::{Deserialize, Serialize};

use crate::{
    calendar::{Calendar, Coverage, Row},
    categorical::Dictionary,
    design::expected,
    hard::Limits,
    numeric::Ruler,
    scores::{Reading, Score},
    step::{self, Tails},
};
pub use confidence::{Bin, Confidence};
pub use fit::{Baseline, Refusal, Spec, Times, fit};

/// The format that is written. It is read, and so is the one before.
pub const FORMAT: u16 = 2;
/// Windows that a baseline needs. The spread of fewer is too uncertain: 10 reference windows gave 33 false alarms in
/// 100 to a mean-and-three-deviations rule, measured.
pub const MIN_WINDOWS: usize = 50;
/// Windows between false alarms of one device, in expectation, unless the publisher says otherwise.
pub const DEFAULT_ARL: f64 = 1000.0;
/// Most windows between false alarms that may be asked for; three million years of days. An alarm's level is a multiple
/// of it, and at a level beyond all numbers nothing ever alarms.
pub const MAX_ARL: f64 = 1e9;

/// What the detectors compare with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`FORMAT`].
    pub format: u16,
    /// Windows of the baseline.
    pub windows: u32,
    /// Median rows of a window: what a detection window should hold.
    pub rows: f64,
    /// Windows between false alarms of one device, in expectation.
    pub arl: f64,
    /// What a detection window is cut by.
    #[serde(default)]
    pub unit: Unit,
    /// The calendar of its windows. Without one the baseline had no times: windows are taken to be independent of season
    /// and order, which is stated by whoever gave it and was not tested.
    #[serde(default)]
    pub calendar: Option<Calendar>,
    /// Watched inputs, in the contract's order: columns, then derived features.
    pub features: Vec<FeatureProfile>,
    /// Watched outputs, in the contract's order.
    pub outputs: Vec<FeatureProfile>,
    /// Held-out errors by confidence, where the publisher gave labels.
    pub confidence: Option<Confidence>,
    /// The largest error rate that the objective allows, where the publisher gave labels.
    #[serde(default)]
    pub objective: Option<f64>,
    /// How the error rate that the confidences lead to expect varied.
    #[serde(with = "packed::one")]
    pub estimate: Option<ScoreProfile>,
}

/// What a detection window is cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// By its number of rows.
    #[default]
    Rows,
    /// By the device's day.
    Day,
    /// By the device's week, from Monday.
    Week,
}

/// What one feature was like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureProfile {
    /// Its name.
    pub name: String,
    /// How values are counted.
    pub kind: Kind,
    /// Values per cell or category.
    pub counts: Vec<u64>,
    /// Values of no known category; 0 of numbers.
    pub other: u64,
    /// Values that were missing, NaN or infinite.
    pub missing: u64,
    /// Median values of a window, missing ones among them.
    pub rows: f64,
    /// The baseline's own worst, for the hard rules.
    pub limits: Limits,
    /// How its scores varied.
    #[serde(with = "packed")]
    pub scores: Vec<ScoreProfile>,
    /// Smallest constant bias found in about ten windows, in reference standard deviations; none of categories.
    pub mde: Option<f64>,
    /// The days of the year that its baseline saw; empty without a calendar.
    #[serde(default, skip_serializing_if = "Coverage::is_empty")]
    pub covered: Coverage,
}

/// How the values of a feature are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Numbers.
    Numeric(Ruler),
    /// Categories.
    Categorical(Dictionary),
}

impl Kind {
    /// How many cells or categories there are.
    pub fn cells(&self) -> usize {
        match self {
            Self::Numeric(ruler) => ruler.edges.cells(),
            Self::Categorical(dictionary) => dictionary.names().len(),
        }
    }
}

/// How one score varied from window to window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreProfile {
    /// Which score.
    pub score: Score,
    /// Median rows behind it.
    pub rows: f64,
    /// Coefficients of the known columns; the first is the level.
    pub beta: Vec<f64>,
    /// AR(1) coefficient of what the columns leave.
    pub phi: f64,
    /// Spread of the innovations.
    pub sigma: f64,
    /// Tolerance, in units of `sigma`.
    pub tau: f64,
    /// What the bets cost.
    pub tails: Tails,
}

/// Why a profile that was read is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Of a format that this reader does not know.
    #[error("profile format {0} is not known: update, or fit the profile again")]
    UnknownFormat(u16),
    /// A number that makes no sense where it stands.
    #[error("profile of {feature:?} has a bad {what}: fit the profile again")]
    Unsound {
        /// Which feature; empty for the profile itself.
        feature: String,
        /// Which number.
        what: &'static str,
    },
}

impl Profile {
    /// Checks what types alone cannot say: profiles come from files.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), ProfileError> {
        if !matches!(self.format, 1 | FORMAT) {
            return Err(ProfileError::UnknownFormat(self.format));
        }
        let unsound = |what| Err(ProfileError::Unsound { feature: String::new(), what });
        if !(1.0..=MAX_ARL).contains(&self.arl) {
            return unsound("rate of false alarms");
        }
        if !(self.rows.is_finite() && self.rows > 0.0) {
            return unsound("number of rows");
        }
        if self.calendar.is_some_and(|calendar| !calendar.is_sound()) {
            return unsound("calendar");
        }
        if self.calendar.is_none() && self.unit != Unit::Rows {
            return unsound("unit of windows");
        }
        if self.objective.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return unsound("objective");
        }
        if self.confidence.as_ref().is_some_and(|c| !c.is_sound()) {
            return unsound("confidence bin");
        }
        let columns = self.columns();
        if self.estimate.as_ref().is_some_and(|s| !s.is_sound() || s.beta.len() > columns) {
            return unsound("estimated error");
        }
        self.watched().try_for_each(|feature| feature.check(columns))
    }

    /// The known columns of a window whose middle is `middle`, in seconds since 1970; the level alone without a calendar.
    /// Where the time of a window is not known, NaN makes the detectors leave it out.
    pub fn row(&self, middle: f64) -> Row {
        self.calendar.map_or(Row::LEVEL, |calendar| calendar.row(middle))
    }

    /// Bins that labels are counted in: those of the confidences, one where only an objective asks for labels, else none.
    pub fn label_bins(&self) -> usize {
        self.confidence.as_ref().map_or(usize::from(self.objective.is_some()), |confidence| confidence.bins.len())
    }

    fn columns(&self) -> usize {
        self.calendar.map_or(1, |calendar| calendar.columns())
    }

    /// Inputs, then outputs.
    pub fn watched(&self) -> impl Iterator<Item = &FeatureProfile> {
        self.features.iter().chain(&self.outputs)
    }

    /// The level that a feature's detector alarms at, in a fleet of `devices` (1 to bound each device by itself).
    pub fn threshold(&self, devices: usize) -> f64 {
        step::threshold(self.arl, self.features.len() + self.outputs.len(), devices)
    }
}

impl FeatureProfile {
    /// Share of values that were missing.
    pub fn missing_rate(&self) -> f64 {
        let seen = self.counts.iter().fold(self.other, |sum, count| sum.saturating_add(*count)) as f64;
        let missing = self.missing as f64;
        if seen + missing > 0.0 { missing / (seen + missing) } else { 0.0 }
    }

    /// A fresh detector of this feature.
    pub fn detector(&self) -> step::State {
        step::State::new(self.scores.len())
    }

    /// Whether the feature's season is known at `middle`, in seconds since 1970: always so without a calendar, never at an
    /// unknown time with one.
    pub fn is_in_season(&self, calendar: Option<&Calendar>, middle: f64) -> bool {
        calendar.is_none_or(|calendar| middle.is_finite() && self.covered.holds(calendar.day_of_year(middle)))
    }

    /// Takes out of `readings` what goes with a season that the baseline never saw: those detectors stand still.
    pub fn freeze(&self, readings: &mut [Option<Reading>]) {
        let seasonal = readings.iter_mut().zip(&self.scores).filter(|(_, score)| score.score.is_seasonal());
        seasonal.for_each(|(reading, _)| *reading = None);
    }

    fn check(&self, columns: usize) -> Result<(), ProfileError> {
        let unsound = |what| Err(ProfileError::Unsound { feature: self.name.clone(), what });
        if self.counts.len() != self.kind.cells() {
            return unsound("number of cells");
        }
        if matches!(&self.kind, Kind::Numeric(ruler) if !ruler.is_sound()) {
            return unsound("scale");
        }
        if !(self.rows.is_finite() && self.rows > 0.0) {
            return unsound("number of rows");
        }
        if !self.limits.is_sound() {
            return unsound("limit");
        }
        let fits = |s: &ScoreProfile| match (s.score, &self.kind) {
            (Score::EstimatedError, _) => false,
            (Score::Category(c), kind) => matches!(kind, Kind::Categorical(_)) && usize::from(c) < self.counts.len(),
            (Score::Missing, _) => true,
            (_, kind) => matches!(kind, Kind::Numeric(_)),
        };
        if !self.scores.iter().all(|s| s.is_sound() && fits(s) && s.beta.len() <= columns) {
            return unsound("score");
        }
        if !self.covered.is_sound() {
            return unsound("coverage");
        }
        Ok(())
    }
}

impl ScoreProfile {
    /// A reading less what the columns of its window, [`Profile::row`], lead to expect; what is left is compared between
    /// devices whose profiles differ.
    pub fn centred(&self, reading: Reading, row: &Row) -> Reading {
        Reading { value: reading.value - expected(&self.beta, row.as_slice()), ..reading }
    }

    /// The profile of what [`Self::centred`] leaves.
    #[must_use]
    pub fn of_centred(&self) -> Self {
        Self { beta: vec![0.0], ..self.clone() }
    }

    /// Whether its numbers are such that bets on them stay finite and no cheaper than the normal's.
    pub fn is_sound(&self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        positive(self.rows)
            && positive(self.sigma)
            && (0.0..1.0).contains(&self.phi)
            && self.tau.is_finite()
            && self.tau >= 0.0
            && !self.beta.is_empty()
            && self.beta.iter().all(|b| b.is_finite())
            && self.tails.is_sound(self.phi)
    }
}
