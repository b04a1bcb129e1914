//! A version's profile made ready to read windows with.

use std::{collections::BTreeMap, sync::Arc};

use tern_protocol::ids::DeviceId;
use tern_stats::{
    calendar::Row,
    cohort,
    labels::Labels,
    profile::{Confidence, FeatureProfile, Kind, Profile, ScoreProfile, Unit},
    scores::{Reader, Reading, Score},
    slo,
    window::{Sums, Window},
};

/// Who judges which device: one judge for all, as a version has one profile; or one for each, as recordings may, beside one
/// for what they have in common.
#[derive(Debug)]
pub struct Judges<'a> {
    common: &'a Judge,
    own: BTreeMap<DeviceId, &'a Judge>,
}

impl<'a> Judges<'a> {
    /// One for all.
    pub fn one(common: &'a Judge) -> Self {
        Self { common, own: BTreeMap::new() }
    }

    /// One for each device that has its `own`, and one for all that they are together.
    pub fn each(common: &'a Judge, own: BTreeMap<DeviceId, &'a Judge>) -> Self {
        Self { common, own }
    }

    /// Of what devices have in common.
    pub fn common(&self) -> &'a Judge {
        self.common
    }

    /// Of a device.
    pub fn of(&self, device: &DeviceId) -> &'a Judge {
        self.own.get(device).copied().unwrap_or(self.common)
    }
}

/// What a window says of every watched feature: a reading for each score.
pub type Readings = Vec<Vec<Option<Reading>>>;

/// A profile and its readers. Cheap to ask; made once for a version.
#[derive(Debug)]
pub struct Judge {
    profile: Arc<Profile>,
    readers: Vec<Reader>,
    compared: Vec<Vec<ScoreProfile>>,
}

impl Judge {
    /// The judge of windows under `profile`.
    pub fn new(profile: Arc<Profile>) -> Self {
        let readers = profile.watched().map(Reader::new).collect();
        let compared = profile.watched().map(|f| f.scores.iter().map(ScoreProfile::of_centred).collect()).collect();
        Self { profile, readers, compared }
    }

    /// What several judges have in common, of features like `first`'s: the mean over their devices is held, score by score, to
    /// the profile that varied most, so to no more than any of them. It knows no labels: each answers for its own.
    pub fn shared<'j>(first: &Self, all: impl Iterator<Item = &'j Self>) -> Self {
        let profile = Profile { confidence: None, objective: None, estimate: None, ..(*first.profile).clone() };
        let mut shared = Self::new(Arc::new(profile));
        let spread = |score: &ScoreProfile| score.sigma * (1.0 + score.tau);
        for (widest, own) in all
            .flat_map(|judge| judge.compared.iter().enumerate())
            .flat_map(|(feature, scores)| scores.iter().enumerate().map(move |(score, own)| ((feature, score), own)))
        {
            let known = shared.compared.get_mut(widest.0).and_then(|scores| scores.get_mut(widest.1));
            if let Some(known) = known.filter(|known| spread(own) > spread(known)) {
                *known = own.clone();
            }
        }
        shared
    }

    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Rows that a detection window takes: those of the baseline's median window.
    pub fn window_rows(&self) -> u64 {
        (self.profile.rows.round() as u64).max(1)
    }

    /// Watched features, inputs first.
    pub fn watched(&self) -> impl Iterator<Item = &FeatureProfile> {
        self.profile.watched()
    }

    /// How many features are watched.
    pub fn features(&self) -> usize {
        self.readers.len()
    }

    /// What the scores of each watched feature are held to between devices: see [`Judge::centred`] and [`Judge::beside`].
    pub fn compared(&self) -> impl Iterator<Item = &[ScoreProfile]> {
        self.compared.iter().map(Vec::as_slice)
    }

    /// Readings of a window whose middle is `middle` as it is held to those of other devices.
    ///
    /// Days and weeks lose the profile's level and keep their season: a profile for all has nobody's own, and of what it would
    /// leave of a device whose swing is another the cohort's median says nothing, while of the whole it is a line. A day or
    /// week of no known time is none of the round's: nothing is left of it. Windows by rows of one round lie at several times,
    /// so their season is taken out too. Location and spread are left out: they go by cells, which end where the reference
    /// does, for each device at another time of the year.
    pub fn beside(&self, readings: &Readings, middle: f64) -> Readings {
        let mut beside = match self.profile.unit {
            Unit::Day | Unit::Week if middle.is_finite() => self.less(readings, &Row::LEVEL),
            Unit::Day | Unit::Week => readings.iter().map(|readings| vec![None; readings.len()]).collect(),
            Unit::Rows => self.centred(readings, middle),
        };
        for (readings, feature) in beside.iter_mut().zip(self.watched()) {
            let by_cells = |score: &ScoreProfile| matches!(score.score, Score::Location | Score::Spread);
            let of_cells = readings.iter_mut().zip(&feature.scores).filter(|(_, score)| by_cells(score));
            of_cells.for_each(|(reading, _)| *reading = None);
        }
        beside
    }

    /// Readings of a window whose middle is `middle` less what the profile leads to expect at that time. None are left where
    /// a season goes by a time that is not known.
    pub fn centred(&self, readings: &Readings, middle: f64) -> Readings {
        self.less(readings, &self.profile.row(middle))
    }

    fn less(&self, readings: &Readings, row: &Row) -> Readings {
        let less =
            |own: Reading, score: &ScoreProfile| Some(score.centred(own, row)).filter(|left| left.value.is_finite());
        let of = |(readings, feature): (&Vec<Option<Reading>>, &FeatureProfile)| {
            readings.iter().zip(&feature.scores).map(|(own, score)| own.and_then(|own| less(own, score))).collect()
        };
        readings.iter().zip(self.watched()).map(of).collect()
    }

    /// The medians of a cohort's readings as they are [held](Self::beside) to one another, by feature and score.
    pub fn medians<'r>(&self, cohort: impl Iterator<Item = &'r Readings>) -> Vec<Vec<Option<f64>>> {
        let cohort: Vec<_> = cohort.collect();
        let of = |feature: usize| {
            let column: Vec<_> = cohort.iter().map(|readings| &readings[feature][..]).collect();
            let mut out = Vec::new();
            // Readings of one judge are of one shape; without a median nothing is concluded.
            if cohort::medians(&column, &mut out).is_err() {
                out.clear();
            }
            out
        };
        (0..self.features()).map(of).collect()
    }

    /// Bins of confidence; 0 where the profile has none.
    pub fn bins(&self) -> usize {
        self.profile.confidence.as_ref().map_or(0, |confidence| confidence.bins.len())
    }

    /// No labels, in the bins that the profile [counts](Profile::label_bins) them in.
    pub fn no_labels(&self) -> Vec<Labels> {
        vec![Labels::default(); self.profile.label_bins()]
    }

    /// The confidences that errors are held to. One bin tells nothing about confidence: the objective speaks for it, where there
    /// is one.
    pub fn confidence(&self) -> Option<&Confidence> {
        let speaks = |confidence: &&Confidence| confidence.bins.len() > 1 || self.profile.objective.is_none();
        self.profile.confidence.as_ref().filter(speaks)
    }

    /// A window that was counted under this profile, with a bin for each that the profile counts in; none of another. One that does
    /// not fit must not open a detection window, or it would keep out all that follow.
    pub fn fit(&self, mut window: Window) -> Option<Window> {
        let bins = self.bins();
        if bins == 0 || window.confidence.is_empty() {
            window.confidence = vec![0; bins];
        }
        if window.labels.is_empty() {
            window.labels = self.no_labels();
        } else if bins == 0 {
            // Without bins of confidence an objective asks how many labels came and how many were errors, and no more.
            let all = slo::total(&window.labels);
            window.labels = self.no_labels();
            window.labels.iter_mut().for_each(|sum| *sum = all);
        }
        self.fits(&window).then_some(window)
    }

    fn fits(&self, window: &Window) -> bool {
        let kinds = |features: &[FeatureProfile], sums: &[Sums]| {
            features.len() == sums.len() && features.iter().zip(sums).all(|(feature, sums)| is_of(feature, sums))
        };
        kinds(&self.profile.features, &window.features)
            && kinds(&self.profile.outputs, &window.outputs)
            && window.confidence.len() == self.bins()
            && window.labels.len() == self.profile.label_bins()
    }

    /// The readings of a window that [fits](Self::fit).
    pub fn read(&self, window: &Window) -> Readings {
        let read = |(reader, sums): (&Reader, &Sums)| {
            let mut out = Vec::new();
            // A shape that differs was kept out by `fit`; without a reading nothing is concluded.
            if reader.read(sums, &mut out).is_err() {
                out.clear();
            }
            out
        };
        self.readers.iter().zip(window.watched()).map(read).collect()
    }
}

fn is_of(feature: &FeatureProfile, sums: &Sums) -> bool {
    match (&feature.kind, sums) {
        (Kind::Numeric(ruler), Sums::Numeric(sums)) => ruler.edges.cells() == sums.cells.len(),
        (Kind::Categorical(names), Sums::Categorical(sums)) => names.names().len() == sums.counts.len(),
        _ => false,
    }
}
