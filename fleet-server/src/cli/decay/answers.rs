//! What a device's labels and confidences say of the model: calibration, objective, estimated error.

use tern_stats::{
    calibration::{self, TOLERANCE},
    estimate::expected_error,
    labels::Mixture,
    profile::Profile,
    slo,
    step::State,
};

use super::{
    cutter::Closed,
    said::{ERRORS, ERRORS_BY_CONFIDENCE, Kind, estimated},
};
use crate::{decay::judge::Judge, forms::incident::Severity};

/// The detectors on answers.
pub(super) struct Answers {
    calibration: Mixture,
    objective: Mixture,
    estimate: State,
}

impl Answers {
    pub(super) fn new(profile: &Profile) -> Self {
        let estimate = State::new(usize::from(profile.estimate.is_some()));
        Self { calibration: Mixture::default(), objective: Mixture::default(), estimate }
    }

    pub(super) fn gap(&mut self) {
        self.estimate.gap();
    }

    /// Weighs a window, in a fleet of `devices`.
    pub(super) fn observe(
        &mut self,
        judge: &Judge,
        closed: &Closed,
        devices: usize,
        mut say: impl FnMut(Kind, String, f64, Severity),
    ) {
        let profile = judge.profile();
        let threshold = profile.arl * devices as f64;
        let labels = &closed.window.labels;
        if let Some(confidence) = judge.confidence() {
            let said = calibration::observe(&mut self.calibration, confidence, labels, TOLERANCE, threshold);
            if let Some(verdict) = said.ok().filter(|verdict| verdict.alarm) {
                say(Kind::Calibration, ERRORS_BY_CONFIDENCE.into(), verdict.evidence, Severity::Critical);
            }
        }
        if let Some(rate) = profile.objective {
            let verdict = slo::observe(&mut self.objective, rate, slo::total(labels), threshold);
            if verdict.alarm {
                say(Kind::Slo, ERRORS.into(), verdict.evidence, Severity::Alarm);
            }
        }
        let Some((usual, confidence)) = profile.estimate.as_ref().zip(profile.confidence.as_ref()) else { return };
        let calendar = profile.calendar.as_ref();
        if !profile.features.iter().any(|feature| feature.is_in_season(calendar, closed.middle)) {
            return;
        }
        let Ok(Some(expected)) = expected_error(confidence, &closed.window.confidence) else { return };
        let (row, usual) = (profile.row(closed.middle), std::slice::from_ref(usual));
        let outcome = self.estimate.observe(usual, &[Some(expected.reading())], row.as_slice(), threshold);
        if let Some((outcome, crossing)) = outcome.ok().and_then(|outcome| Some((outcome, outcome.alarm?))) {
            say(Kind::Estimate, estimated(&crossing), outcome.evidence, Severity::Notice);
        }
    }
}
