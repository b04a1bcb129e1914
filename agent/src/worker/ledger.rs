//! What control is told of a version: increments, numbered from 1, each row in exactly one of them.
//!
//! Answers are folded in after they were handed over, under a lock that the reply path never takes. An increment that was
//! closed and could not be sent waits as it is, under its number; what happens meanwhile belongs to the next one. So nothing
//! is lost or told twice, and the rows of an increment are those of its sums.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tern_engine::{Data, Tensor};
use tern_protocol::{
    frames::{Increment, Slot},
    report::v1::{ErrorCount, Violations},
    watch::{self, Scratch, Values, Watch},
};
use tern_stats::{course::skipped, latency::Latency, profile::Profile, recorder::Recorder};

use super::{
    counters::{Breaches, Counters, Failed, KINDS, micros},
    predictions::{Predicted, Predictions},
};
use crate::clock::Moment;

/// An answer that was given.
pub(super) struct Answered<'a> {
    pub(super) at: Moment,
    /// Its rows by the request, where inputs and outputs do not tell.
    pub(super) rows: u64,
    pub(super) breaches: Breaches,
    pub(super) latency: Duration,
    /// As the model saw them: what was clamped is counted as what it became.
    pub(super) inputs: &'a [Tensor],
    pub(super) outputs: &'a [Tensor],
}

/// Where an answer was counted.
pub(super) struct Folded {
    pub(super) increment: u64,
    pub(super) rows: u64,
    /// What it predicted, row by row; empty where the contract names no prediction.
    pub(super) predicted: Box<[Predicted]>,
}

pub(super) struct Ledger {
    watch: Watch,
    /// Seconds between rows, where the reference had a steady rate.
    step: Option<f64>,
    open: Mutex<Open>,
}

struct Open {
    number: u64,
    recorder: Recorder,
    scratch: Scratch,
    /// When the newest answer came, and its rows.
    last: Option<(Moment, u64)>,
    inferences: u64,
    breaches: Breaches,
    latency: Latency,
    latency_sum_us: u64,
    latency_max_us: u64,
    /// What earlier increments hold of the counters.
    told: Failed,
    /// Closed, and not sent yet.
    waiting: Option<Box<Increment>>,
}

impl Ledger {
    /// An empty one; without a profile no value is watched, only rows are counted.
    pub(super) fn new(watch: Watch, profile: Option<&Profile>) -> Self {
        let open = Open {
            number: 1,
            recorder: profile.map_or_else(|| Recorder::new(&[], &[], None), Recorder::of),
            scratch: Scratch::default(),
            last: None,
            inferences: 0,
            breaches: Breaches::default(),
            latency: Latency::default(),
            latency_sum_us: 0,
            latency_max_us: 0,
            told: Failed::default(),
            waiting: None,
        };
        let step = profile.and_then(|profile| profile.calendar?.step);
        Self { watch, step, open: Mutex::new(open) }
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer.
    pub(super) fn fold(&self, answered: &Answered<'_>) -> Folded {
        let inputs: Vec<_> = answered.inputs.iter().map(view).collect();
        let outputs: Vec<_> = answered.outputs.iter().map(view).collect();
        let rows = self.watch.rows(&inputs, &outputs);
        let mut open = self.lock();
        let Open { recorder, scratch, last, .. } = &mut *open;
        // Across a hole there are no neighbours, as in the reference.
        if let (Some(step), Some((last, rows))) = (self.step, *last)
            && skipped(step, answered.at.since(last).as_secs_f64(), rows.max(1), 1) > 0
        {
            recorder.break_sequence();
        }
        let before = recorder.rows();
        let mut predicted = Vec::new();
        match &rows {
            Ok(rows) => {
                let mut bins = Vec::with_capacity(if self.watch.has_label() { rows.count() } else { 0 });
                rows.fold(recorder, scratch, |_, bin| {
                    if self.watch.has_label() {
                        bins.push(bin);
                    }
                });
                let label = |(row, bin)| Some(Predicted::new(rows.label(row, scratch)?, bin));
                predicted.extend(bins.into_iter().enumerate().filter_map(label));
            }
            Err(misfit) => {
                // The contract was held against the model's shapes; one that is open may still turn out otherwise.
                tracing::debug!(%misfit, "an answer is counted without its values");
                (0..answered.rows).for_each(|_| _ = recorder.end_row(None));
            }
        }
        let rows = recorder.rows() - before;
        *last = Some((answered.at, rows));
        let us = micros(answered.latency);
        open.inferences += 1;
        open.breaches.add(answered.breaches);
        open.latency.record(us as f32);
        open.latency_sum_us = open.latency_sum_us.saturating_add(us);
        open.latency_max_us = open.latency_max_us.max(us);
        Folded { increment: open.number, rows, predicted: predicted.into() }
    }

    /// Hands every increment that is due to `send`, which gives back what it cannot take. Returns whether all is told.
    pub(super) fn report(
        &self,
        slot: Slot,
        counters: &Counters,
        predictions: &Predictions,
        mut send: impl FnMut(Box<Increment>) -> Result<(), Box<Increment>>,
    ) -> bool {
        let mut open = self.lock();
        loop {
            let due = open.waiting.take().or_else(|| open.close(slot, counters, predictions));
            let Some(due) = due else { return true };
            if let Err(back) = send(due) {
                open.waiting = Some(back);
                return false;
            }
        }
    }
}

impl Open {
    /// The increment of what happened since the one before; none where nothing did.
    fn close(&mut self, slot: Slot, counters: &Counters, predictions: &Predictions) -> Option<Box<Increment>> {
        let failed = counters.failures();
        let labels = predictions.take_labels();
        if self.inferences == 0 && failed == self.told && labels.is_empty() {
            return None;
        }
        let told = std::mem::replace(&mut self.told, failed);
        let count = |(cell, (kind, _)): (usize, &(_, _))| ErrorCount {
            kind: *kind,
            count: failed.errors[cell] - told.errors[cell],
        };
        let errors = KINDS.iter().enumerate().map(count).filter(|error| error.count > 0).collect();
        let Breaches { clamped, flagged } = std::mem::take(&mut self.breaches);
        let sums = self.recorder.take();
        let increment = Increment {
            slot,
            number: self.number,
            inferences: std::mem::take(&mut self.inferences),
            rows: sums.rows,
            errors,
            violations: Violations { rejected: failed.rejected - told.rejected, clamped, flagged },
            latency_sum_us: std::mem::take(&mut self.latency_sum_us),
            latency_max_us: std::mem::take(&mut self.latency_max_us),
            latency: std::mem::take(&mut self.latency).to_bytes(),
            sums,
            labels,
        };
        self.number += 1;
        Some(Box::new(increment))
    }
}

fn view(tensor: &Tensor) -> watch::Tensor<'_> {
    let values = match tensor.data() {
        Data::Bool(values) => Values::Bool(values),
        Data::U8(values) => Values::U8(values),
        Data::U16(values) => Values::U16(values),
        Data::U32(values) => Values::U32(values),
        Data::U64(values) => Values::U64(values),
        Data::I8(values) => Values::I8(values),
        Data::I16(values) => Values::I16(values),
        Data::I32(values) => Values::I32(values),
        Data::I64(values) => Values::I64(values),
        Data::F32(values) => Values::F32(values),
        Data::F64(values) => Values::F64(values),
        Data::Bytes(values) => Values::Bytes(values),
    };
    watch::Tensor { shape: tensor.shape(), values }
}

#[cfg(test)]
impl Ledger {
    /// Holds up whoever wants to count, for as long as the answer lives.
    pub(super) fn hold_up(&self) -> impl Sized + '_ {
        self.lock()
    }
}

#[cfg(test)]
mod tests {
    use tern_protocol::{contract::Contract, frames::LateLabels, report::v1::ErrorKind};
    use tern_stats::{
        calendar::Calendar,
        profile::{Baseline, Spec, fit},
        recorder::Value,
        window::Sums,
    };

    use super::*;

    /// A ledger of a model that tells a class of one number a row.
    fn ledger() -> Ledger {
        let contract: Contract = serde_json::from_value(serde_json::json!({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
            "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}],
            "prediction": {"label": "label"},
        }))
        .unwrap();
        Ledger::new(Watch::new(&contract), None)
    }

    fn fold(ledger: &Ledger, classes: &[i64], us: u64) -> Folded {
        let inputs = [Tensor::new([classes.len(), 1], vec![0.0f32; classes.len()]).unwrap()];
        let outputs = [Tensor::new([classes.len()], classes.to_vec()).unwrap()];
        let breaches = Breaches { clamped: 1, flagged: 2 };
        let latency = Duration::from_micros(us);
        ledger.fold(&Answered { at: Moment::now(), rows: 1, breaches, latency, inputs: &inputs, outputs: &outputs })
    }

    /// What is due now, all of it taken.
    fn due(ledger: &Ledger, counters: &Counters, predictions: &Predictions) -> Vec<Increment> {
        let mut all = Vec::new();
        let is_told = ledger.report(Slot(1), counters, predictions, |increment| {
            all.push(*increment);
            Ok(())
        });
        assert!(is_told);
        all
    }

    #[test]
    fn what_cannot_be_sent_waits_under_its_number_and_nothing_is_told_twice() {
        let (ledger, counters, predictions) = (ledger(), Counters::default(), Predictions::default());
        assert!(due(&ledger, &counters, &predictions).is_empty());
        assert_eq!(fold(&ledger, &[3, 4, 5], 700).increment, 1);
        counters.failed(ErrorKind::Contract);
        assert!(!ledger.report(Slot(1), &counters, &predictions, Err), "it did not go");
        let second = fold(&ledger, &[6], 100);
        assert_eq!((second.increment, second.rows), (2, 1));
        let told = due(&ledger, &counters, &predictions);
        let [first, second] = &told[..] else { panic!("{told:?}") };
        assert_eq!((first.number, first.inferences, first.rows, first.sums.rows), (1, 1, 3, 3));
        assert_eq!((second.number, second.inferences, second.rows, second.sums.rows), (2, 1, 1, 1));
        assert_eq!((first.latency_sum_us, first.latency_max_us), (700, 700));
        assert_eq!(Latency::from_bytes(&second.latency).unwrap().quantile(0.5), Some(100.0));
        assert_eq!(first.errors, [ErrorCount { kind: ErrorKind::Contract, count: 1 }]);
        assert_eq!(first.violations, Violations { rejected: 1, clamped: 1, flagged: 2 });
        assert_eq!(second.violations, Violations { rejected: 0, clamped: 1, flagged: 2 });
        assert!(due(&ledger, &counters, &predictions).is_empty(), "all of it was told");
    }

    #[test]
    fn labels_name_the_increment_of_their_row_and_go_by_themselves() {
        let (ledger, counters, predictions) = (ledger(), Counters::default(), Predictions::default());
        let folded = fold(&ledger, &[3, 4], 1);
        due(&ledger, &counters, &predictions);
        predictions.remember("r", folded.increment, folded.predicted, Moment::now());
        predictions.label("r", 0, Some("3"), Moment::now());
        predictions.label("r", 1, Some("3"), Moment::now());
        let told = due(&ledger, &counters, &predictions);
        let [late] = &told[..] else { panic!("{told:?}") };
        assert_eq!((late.number, late.rows), (2, 0));
        assert_eq!(late.labels, [LateLabels { increment: 1, bin: 0, n: 2, errors: 1 }]);
    }

    #[test]
    fn an_answer_of_another_shape_is_counted_without_its_values() {
        let ledger = ledger();
        let inputs = [Tensor::new([2, 1], vec![0.0f32; 2]).unwrap()];
        let outputs = [Tensor::new([3], vec![1i64, 2, 3]).unwrap()];
        let (breaches, latency) = (Breaches::default(), Duration::ZERO);
        let at = Moment::now();
        let folded = ledger.fold(&Answered { at, rows: 2, breaches, latency, inputs: &inputs, outputs: &outputs });
        assert_eq!((folded.rows, folded.predicted.len()), (2, 0));
    }

    /// A contract of one watched number, and a profile of it whose rows come once a minute.
    fn profiled() -> (Contract, Profile) {
        let contract = serde_json::from_value(serde_json::json!({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1], "features": [{"name": "a"}]}],
            "outputs": [],
        }));
        let values: Vec<f64> = (0..600).map(|i| f64::from(i * 37 % 101)).collect();
        let spec = Spec::numeric("x.a", &values).unwrap();
        let window = |chunk: &[f64]| {
            let mut recorder = Recorder::new(std::slice::from_ref(&spec), &[], None);
            chunk.iter().for_each(|x| {
                recorder.feature(0, Value::Number(Some(*x)));
                recorder.end_row(None);
            });
            recorder.take()
        };
        let windows: Vec<_> = values.chunks(10).map(window).collect();
        let mut profile = fit(&Baseline::new(std::slice::from_ref(&spec), &windows)).unwrap();
        profile.calendar = Some(Calendar { step: Some(60.0), ..Calendar::plain(0) });
        (contract.unwrap(), profile)
    }

    #[test]
    fn where_nothing_is_answered_failures_are_told_with_sums_of_no_value() {
        let (contract, profile) = profiled();
        let (ledger, counters) = (Ledger::new(Watch::new(&contract), Some(&profile)), Counters::default());
        counters.failed(ErrorKind::Engine);
        counters.failed(ErrorKind::Deadline);
        let told = due(&ledger, &counters, &Predictions::default());
        let [failed] = &told[..] else { panic!("{told:?}") };
        assert_eq!((failed.inferences, failed.rows, failed.errors.len()), (0, 0, 2));
        let Sums::Numeric(sums) = &failed.sums.features[0] else { panic!("numbers") };
        assert_eq!((sums.rows(), sums.cells.is_empty()), (0, false));
    }

    #[test]
    fn values_across_a_hole_are_no_neighbours() {
        let (contract, profile) = profiled();
        let ledger = Ledger::new(Watch::new(&contract), Some(&profile));
        let mut at = Moment::now();
        // Answers of three rows each: after 2 minutes, 4.5, and 6.
        for pause in [0, 120, 270, 360] {
            at = at.after(Duration::from_secs(pause));
            let inputs = [Tensor::new([3, 1], vec![1.0f32, 2.0, 3.0]).unwrap()];
            let (breaches, latency) = (Breaches::default(), Duration::ZERO);
            ledger.fold(&Answered { at, rows: 3, breaches, latency, inputs: &inputs, outputs: &[] });
        }
        let told = due(&ledger, &Counters::default(), &Predictions::default());
        let Sums::Numeric(sums) = &told[0].sums.features[0] else { panic!("numbers") };
        assert_eq!((sums.n, sums.nd), (12, 10), "the last answer has no predecessor");
    }
}
