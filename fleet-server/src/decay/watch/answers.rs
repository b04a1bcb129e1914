//! What devices say of the model's answers: whether there are any, and by rounds labels against confidence, and errors that
//! confidences lead to expect.

use tern_protocol::ids::DeviceId;
use tern_stats::{estimate, labels::Labels, slo};

use super::{
    super::{
        calls::Service,
        device::DeviceWatch,
        judge::Judge,
        jury::{self, Juror, Promise, Said},
        marks::{Ground, QUIET, When},
        verdict::{self, Verdict},
    },
    Errors, Heard, Watch, took_part,
};
use crate::forms::incident::Layer;

impl Watch {
    /// Counts how inferences of a device ended. Returns the verdict on those of all devices where there were enough to look at:
    /// it waits for no round, since where nothing is answered none ends.
    pub fn serve(
        &mut self,
        judge: &Judge,
        (device, class): (&DeviceId, &str),
        service: Service,
        at: i64,
    ) -> Option<Option<Verdict>> {
        let when = When { round: self.round, window: 0, at };
        let watch = self.devices.entry(device.clone()).or_insert_with(|| DeviceWatch::new(judge, class.to_owned()));
        watch.seen = at;
        watch.calls.take(service, judge.window_rows(), when).then(|| verdict::on_calls(self, judge))
    }

    pub(super) fn weigh_labels(&mut self, judge: &Judge, when: When, say: &mut impl FnMut(Heard<'_>)) {
        let pending = verdict::pending(self, judge);
        let counts = |device: &DeviceId| !self.faulty.contains(device) && !pending.contains(device);
        let here = self.devices.iter().filter(|(device, _)| counts(device));
        let jury: Vec<_> =
            here.map(|(device, own)| Juror { device: device.clone(), labels: own.judged.clone() }).collect();
        let by_device = jury.iter().map(|juror| (juror.device.clone(), slo::total(&juror.labels)));
        let mut by_device: Vec<_> = by_device.filter(|(_, labels)| labels.n > 0).collect();
        if by_device.is_empty() {
            return;
        }
        self.label_rounds += 1;
        for (_, own) in &by_device {
            self.labels.n = self.labels.n.saturating_add(own.n);
            self.labels.errors = self.labels.errors.saturating_add(own.errors);
        }
        by_device.sort_by(|a, b| b.1.errors.cmp(&a.1.errors).then_with(|| a.0.cmp(&b.0)));
        let promises = [
            (judge.confidence().map(Promise::Confidence), Layer::Calibration, &mut self.calibration, &mut self.broken),
            (judge.profile().objective.map(Promise::Objective), Layer::Slo, &mut self.objective, &mut self.breached),
        ];
        for (promise, layer, state, errors) in promises {
            let Some(promise) = promise else { continue };
            let Some(said) = jury::weigh(state, promise, jury.clone(), judge.profile().arl) else { continue };
            if said.verdict.alarm {
                say(Heard::Labels(layer, said.verdict.evidence));
                *errors = Some(found(errors.as_ref(), promise, &said, self.label_rounds, when.at, &by_device));
            } else if errors.as_ref().is_some_and(|known| known.last + QUIET <= self.label_rounds) {
                *errors = None;
            }
        }
    }

    /// Advisory: a figure, and evidence beside a population change; it opens nothing by itself.
    pub(super) fn estimate(&mut self, judge: &Judge, when: When, say: &mut impl FnMut(Heard<'_>)) {
        let Some(confidence) = &judge.profile().confidence else { return };
        let round = self.round;
        let mut rows = vec![0u64; judge.bins()];
        let here = self.devices.iter().filter(|(device, w)| took_part(w, round) && !self.faulty.contains(device));
        for newest in here.filter_map(|(_, watch)| watch.newest.as_ref()) {
            for (sum, more) in rows.iter_mut().zip(&newest.confidence) {
                *sum = sum.saturating_add(*more);
            }
        }
        let Ok(Some(estimate)) = estimate::expected_error(confidence, &rows) else { return };
        self.estimated = Some(estimate.error);
        let middle = self.middle();
        let Some((state, profile)) = self.estimate.as_mut().zip(judge.profile().estimate.as_ref()) else { return };
        let (calendar, scores) = (judge.profile().calendar, std::slice::from_ref(profile));
        if !judge.watched().any(|feature| feature.is_in_season(calendar.as_ref(), middle)) {
            return;
        }
        let (row, threshold) = (judge.profile().row(middle), judge.profile().threshold(1));
        let outcome = state.observe(scores, &[Some(estimate.reading())], row.as_slice(), threshold);
        if let Some((outcome, crossing)) = outcome.ok().and_then(|o| Some((o, o.alarm?))) {
            let ground = Ground { share: Some(estimate.error), ..Ground::of_crossing(&outcome, &crossing) };
            self.marks.set(0, Layer::Estimate, ground, when);
            say(Heard::Scores(Layer::Estimate, None, 0, outcome, crossing));
        }
    }
}

/// What an alarm in the round with labels number `last` adds to what was `known`.
fn found(
    known: Option<&Errors>,
    promise: Promise<'_>,
    said: &Said,
    last: u64,
    at: i64,
    by_device: &[(DeviceId, Labels)],
) -> Errors {
    let total = slo::total(&said.labels);
    let of = total.n.max(1) as f64;
    let (share, limit) = (total.errors as f64 / of, promise.allowed(&said.labels) / of);
    let ground = Ground::of_share("errors", share, limit, total.n);
    let ground = Ground { strength: Some(said.verdict.evidence), ..ground };
    Errors { since: known.map_or(at, |known| known.since), at, last, ground, devices: by_device.to_vec() }
}
