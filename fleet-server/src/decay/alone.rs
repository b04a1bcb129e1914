//! One device's own features against the reference: hard rules, and a sequential detector for each feature.
//!
//! The server watches devices with it, and `tern decay replay` recorded rows: what one finds the other finds.

use serde::{Deserialize, Serialize};
use tern_stats::{
    hard::{self, Breach, Rule},
    step::{Crossing, Outcome, State},
    window::Window,
};

use super::judge::{Judge, Readings};

/// In a season that the baseline never saw, values beyond its range and unknown categories are usual to a degree; nearly all
/// of a window are no season but another unit or a broken sensor.
const UNSEEN_SEASON_SHARE: f64 = 0.9;

/// What was said of a feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    /// A share beyond what the baseline ever had, over so many values.
    Hard(Breach, u64),
    /// A detector crossed its threshold.
    Step(Outcome, Crossing),
    /// None did yet, and a score was far out.
    Far,
}

/// The detectors of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Alone {
    steps: Vec<State>,
}

impl Alone {
    /// Detectors that have seen nothing.
    pub fn new(judge: &Judge) -> Self {
        Self { steps: judge.watched().map(|feature| feature.detector()).collect() }
    }

    /// Whether detectors that were read back are ones to go on from.
    pub fn is_sound(&self, judge: &Judge) -> bool {
        let mut all = self.steps.iter().zip(judge.watched());
        self.steps.len() == judge.features() && all.all(|(state, feature)| state.is_sound(feature.scores.len()))
    }

    /// At least one window is missing before the next.
    pub fn gap(&mut self) {
        self.steps.iter_mut().for_each(State::gap);
    }

    /// Weighs a window whose middle is `middle`, in seconds since 1970, NaN where nobody knows, and tells what there is to
    /// say by feature. A feature whose season the baseline never saw is held to what has no season only.
    pub fn observe(
        &mut self,
        judge: &Judge,
        window: &Window,
        readings: &Readings,
        middle: f64,
        threshold: f64,
        mut say: impl FnMut(usize, Said),
    ) {
        let (row, calendar) = (judge.profile().row(middle), judge.profile().calendar);
        let mut in_season = Vec::new();
        let features = judge.watched().zip(window.watched()).zip(readings).zip(&mut self.steps);
        for (index, (((feature, sums), readings), state)) in features.enumerate() {
            let is_known = feature.is_in_season(calendar.as_ref(), middle);
            for breach in hard::check(&feature.limits, feature.rows, sums) {
                let is_seasonal = matches!(breach.rule, Rule::OutOfRange | Rule::UnknownCategory);
                if is_known || !is_seasonal || breach.share > UNSEEN_SEASON_SHARE {
                    say(index, Said::Hard(breach, sums.rows()));
                }
            }
            in_season.clear();
            in_season.extend_from_slice(readings);
            if !is_known {
                feature.freeze(&mut in_season);
            }
            // Readings of one judge are of one shape; without an outcome nothing is concluded.
            match state.observe(&feature.scores, &in_season, row.as_slice(), threshold) {
                Ok(outcome @ Outcome { alarm: Some(crossing), .. }) => say(index, Said::Step(outcome, crossing)),
                Ok(Outcome { is_far: true, .. }) => say(index, Said::Far),
                Ok(_) | Err(_) => {}
            }
        }
    }
}
