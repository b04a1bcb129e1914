//! One feature of one device against its cohort: what it is compared with is learned from quiet windows.
//!
//! The server compares the devices of a round with it, and `tern decay replay` those of a recording. It learns again from each
//! [`MIN_WINDOWS`] quiet windows: how a device differs from others is not the same all the year. So what comes slower than
//! these is learned and not said; the device's own detectors are there for it.

use serde::{Deserialize, Serialize};
use tern_stats::{
    cohort::{Control, Past},
    design::{Design, LEVEL},
    profile::{FeatureProfile, MIN_WINDOWS, ScoreProfile},
    scores::Reading,
    step::{Outcome, State},
};

/// How one feature goes with the cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    state: State,
    learned: Option<Control>,
    /// Quiet windows until something is learned from them, again: of each, its own readings and then the medians; NaN for none.
    /// They are written down with every round of every device, so they are as small as they can be; [`Judge::beside`] leaves
    /// the profile's level out of them, so 32 bits lose nothing that counts.
    ///
    /// [`Judge::beside`]: super::judge::Judge::beside
    history: Vec<f32>,
}

impl Beside {
    /// A device of which nothing is learned yet.
    pub fn new(feature: &FeatureProfile) -> Self {
        Self { state: feature.detector(), learned: None, history: Vec::new() }
    }

    /// Holds a window's own readings against the medians of a cohort of `cohort` devices. `left` is scratch space.
    pub fn observe(
        &mut self,
        scores: &[ScoreProfile],
        own: &[Option<Reading>],
        medians: &[Option<f64>],
        (cohort, threshold): (usize, f64),
        left: &mut Vec<Option<Reading>>,
    ) -> Option<Outcome> {
        let fresh;
        let control = match &self.learned {
            Some(control) => control,
            None => {
                fresh = Control::alike(scores, cohort);
                &fresh
            }
        };
        control.residuals(own, medians, left).ok()?;
        self.state.observe(control.scores(), left, &LEVEL, threshold).ok()
    }

    /// Keeps a quiet window; of enough of them it learns how this device differs from its cohort at present.
    pub fn remember(
        &mut self,
        scores: &[ScoreProfile],
        own: &[Option<Reading>],
        medians: &[Option<f64>],
        (cohort, threshold): (usize, f64),
    ) {
        if medians.len() != own.len() || medians.iter().all(Option::is_none) {
            return;
        }
        let missing = f32::NAN;
        self.history.extend(own.iter().map(|reading| reading.map_or(missing, |reading| reading.value as f32)));
        self.history.extend(medians.iter().map(|median| median.map_or(missing, |median| median as f32)));
        if self.history.len() < MIN_WINDOWS * 2 * scores.len() {
            return;
        }
        let past = past(&std::mem::take(&mut self.history), scores);
        let design = Design::level(past.len());
        // What cannot be learned from is let go, and what was learned before stays.
        if let Ok(control) = Control::learn(scores, &past, &design, cohort, threshold, self.learned.as_ref()) {
            self.learned = Some(control);
            self.state = State::new(scores.len());
        }
    }

    /// Whether one that was read back is one to go on from with `scores` scores.
    pub fn is_sound(&self, scores: usize) -> bool {
        self.state.is_sound(scores)
            && self.learned.as_ref().is_none_or(|control| control.is_sound(scores))
            && self.history.len().checked_rem(2 * scores).unwrap_or(self.history.len()) == 0
    }
}

/// The windows of a history, for learning.
fn past(history: &[f32], scores: &[ScoreProfile]) -> Vec<Past> {
    let value = |x: &f32| x.is_finite().then_some(f64::from(*x));
    let windows = history.chunks_exact((2 * scores.len()).max(1));
    let window = |window: &[f32]| {
        let (own, medians) = window.split_at(scores.len());
        let own = own.iter().zip(scores).map(|(x, score)| Some(Reading { value: value(x)?, rows: score.rows }));
        Past { own: own.collect(), medians: medians.iter().map(value).collect() }
    };
    windows.map(window).collect()
}

#[cfg(test)]
mod tests;
