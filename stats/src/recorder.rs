//! The open window of one model version: values of what is watched go in row by row, sums come out.
//!
//! One recorder serves the device, which counts by a [`Profile`], and whoever fits one, who counts by [`Spec`]s: so both
//! count alike. An update allocates nothing unless a category is unknown. What a value is worth is decided elsewhere.

use crate::{
    categorical,
    cells::Edges,
    numeric,
    profile::{Kind, Profile, Spec},
    window::{Sums, Window},
};

/// A value of something that is watched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A number; none where it is missing. NaN is no missing one: it is counted as NaN.
    Number(Option<f64>),
    /// A category; none where it is missing.
    Category(Option<&'a str>),
}

/// An open window.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorder {
    rows: u64,
    features: Vec<Accumulator>,
    outputs: Vec<Accumulator>,
    confidence: Option<Edges>,
    bins: Vec<u64>,
}

impl Recorder {
    /// An empty window that is counted by `profile`.
    pub fn of(profile: &Profile) -> Self {
        let features = profile.features.iter().map(|feature| &feature.kind);
        let outputs = profile.outputs.iter().map(|output| &output.kind);
        Self::over(features, outputs, profile.confidence.as_ref().map(|confidence| &confidence.edges))
    }

    /// An empty window that is counted by `features` and `outputs`, with confidence in bins where there are `edges`.
    /// Without any of them it counts rows only.
    pub fn new(features: &[Spec], outputs: &[Spec], edges: Option<&Edges>) -> Self {
        Self::over(features.iter().map(|spec| &spec.kind), outputs.iter().map(|spec| &spec.kind), edges)
    }

    fn over<'k>(
        features: impl Iterator<Item = &'k Kind>,
        outputs: impl Iterator<Item = &'k Kind>,
        edges: Option<&Edges>,
    ) -> Self {
        Self {
            rows: 0,
            features: features.map(Accumulator::new).collect(),
            outputs: outputs.map(Accumulator::new).collect(),
            confidence: edges.cloned(),
            bins: vec![0; edges.map_or(0, Edges::cells)],
        }
    }

    /// Watched inputs.
    pub fn features(&self) -> usize {
        self.features.len()
    }

    /// Watched outputs.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Rows of the open window.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Folds a value of the watched input `at`. What is not watched is not counted; a number where categories are
    /// counted, or the reverse, is counted as missing.
    pub fn feature(&mut self, at: usize, value: Value<'_>) {
        if let Some(feature) = self.features.get_mut(at) {
            feature.update(value);
        }
    }

    /// Folds a value of the watched output `at`, likewise.
    pub fn output(&mut self, at: usize, value: Value<'_>) {
        if let Some(output) = self.outputs.get_mut(at) {
            output.update(value);
        }
    }

    /// Ends a row; returns the bin of its confidence, 0 where there are no bins.
    ///
    /// A confidence that is NaN or not there is the lowest: a model that does not say how sure it is claims nothing.
    pub fn end_row(&mut self, confidence: Option<f64>) -> usize {
        self.rows = self.rows.saturating_add(1);
        let Some(edges) = &self.confidence else { return 0 };
        let bin = confidence.filter(|c| !c.is_nan()).map_or(0, |c| edges.index(c));
        self.bins[bin] = self.bins[bin].saturating_add(1);
        bin
    }

    /// Closes the window and opens the next, which goes on from the last values. `labels` are empty.
    pub fn take(&mut self) -> Window {
        let empty = vec![0; self.bins.len()];
        Window {
            rows: std::mem::take(&mut self.rows),
            features: self.features.iter_mut().map(Accumulator::take).collect(),
            outputs: self.outputs.iter_mut().map(Accumulator::take).collect(),
            confidence: std::mem::replace(&mut self.bins, empty),
            labels: Vec::new(),
        }
    }

    /// Forgets the last values: what comes next is no neighbour of what came before.
    pub fn break_sequence(&mut self) {
        for watched in self.features.iter_mut().chain(&mut self.outputs) {
            if let Accumulator::Numeric(sums) = watched {
                sums.break_sequence();
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Accumulator {
    Numeric(numeric::Accumulator),
    Categorical(categorical::Accumulator),
}

impl Accumulator {
    fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Numeric(ruler) => Self::Numeric(numeric::Accumulator::new(ruler.clone())),
            Kind::Categorical(dictionary) => Self::Categorical(categorical::Accumulator::new(dictionary.clone())),
        }
    }

    fn update(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Numeric(sums), Value::Number(value)) => sums.update(value),
            (Self::Numeric(sums), Value::Category(_)) => sums.update(None),
            (Self::Categorical(sums), Value::Category(value)) => sums.update(value),
            (Self::Categorical(sums), Value::Number(_)) => sums.update(None),
        }
    }

    fn take(&mut self) -> Sums {
        match self {
            Self::Numeric(sums) => Sums::Numeric(sums.take()),
            Self::Categorical(sums) => Sums::Categorical(sums.take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::{Baseline, Confidence, fit};

    fn specs() -> (Vec<Spec>, Vec<Spec>) {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i * 37 % 101)).collect();
        (vec![Spec::numeric("x", &values).unwrap()], vec![Spec::categorical("label", ["3", "7"])])
    }

    fn recorder() -> Recorder {
        let (features, outputs) = specs();
        Recorder::new(&features, &outputs, Some(&Edges::new(vec![0.5, 0.9]).unwrap()))
    }

    fn record(recorder: &mut Recorder, x: Option<f64>, label: Option<&str>, confidence: Option<f64>) -> usize {
        recorder.feature(0, Value::Number(x));
        recorder.output(0, Value::Category(label));
        recorder.end_row(confidence)
    }

    #[test]
    fn a_row_is_counted_in_each_of_its_parts() {
        let mut recorder = recorder();
        assert_eq!(record(&mut recorder, Some(4.0), Some("7"), Some(0.95)), 2);
        assert_eq!(record(&mut recorder, Some(f64::NAN), Some("8"), Some(f64::NAN)), 0);
        assert_eq!(record(&mut recorder, None, None, None), 0);
        recorder.feature(0, Value::Category(Some("4")));
        recorder.feature(1, Value::Number(Some(1.0)));
        let window = recorder.take();
        let [Sums::Numeric(x)] = &window.features[..] else { panic!("numbers") };
        let [Sums::Categorical(label)] = &window.outputs[..] else { panic!("categories") };
        assert_eq!((window.rows, x.n, x.nan, x.missing), (3, 1, 1, 2));
        assert_eq!((&label.counts[..], label.other, label.missing), (&[0, 1][..], 1, 1));
        assert_eq!((&window.confidence[..], window.labels.len()), (&[2, 0, 1][..], 0));
        assert_eq!((recorder.rows(), recorder.take().rows), (0, 0));
    }

    #[test]
    fn without_a_profile_only_rows_are_counted() {
        let mut recorder = Recorder::new(&[], &[], None);
        assert_eq!(record(&mut recorder, Some(1.0), Some("3"), Some(0.7)), 0);
        assert_eq!(recorder.take(), Window { rows: 1, ..Window::default() });
    }

    #[test]
    fn a_profile_counts_as_what_it_was_fitted_with() {
        let (features, outputs) = specs();
        let confidence = Confidence::of_sample(&[(0.4, true), (0.8, false), (0.99, false)]).unwrap();
        let mut fitting = Recorder::new(&features, &outputs, Some(&confidence.edges));
        let row = |recorder: &mut Recorder, i: u32| {
            let label = if i.is_multiple_of(3) { "3" } else { "7" };
            record(recorder, Some(f64::from(i * 37 % 101)), Some(label), Some(f64::from(i % 10) / 10.0))
        };
        let windows: Vec<Window> = (0..60)
            .map(|window| {
                (window * 20..window * 20 + 20).for_each(|i| _ = row(&mut fitting, i));
                fitting.take()
            })
            .collect();
        let baseline =
            Baseline { outputs: &outputs, confidence: Some(confidence), ..Baseline::new(&features, &windows) };
        let mut serving = Recorder::of(&fit(&baseline).unwrap());
        (0..20).for_each(|i| _ = row(&mut serving, i));
        assert_eq!(serving.take(), windows[0]);
    }

    proptest! {
        #[test]
        fn windows_add_up_however_they_are_cut(
            rows in prop::collection::vec((prop::option::of(0.0..100.0f64), 0..5u8, 0.0..1.0f64), 1..60),
            cut in 0..60usize,
            is_broken in any::<bool>(),
        ) {
            let fold = |recorder: &mut Recorder, rows: &[(Option<f64>, u8, f64)]| {
                for (x, label, confidence) in rows {
                    record(recorder, *x, Some(&label.to_string()), Some(*confidence));
                }
            };
            let cut = cut.min(rows.len());
            let (mut whole, mut parts) = (recorder(), recorder());
            fold(&mut whole, &rows[..cut]);
            fold(&mut parts, &rows[..cut]);
            let mut sum = parts.take();
            if is_broken {
                whole.break_sequence();
                parts.break_sequence();
            }
            fold(&mut whole, &rows[cut..]);
            fold(&mut parts, &rows[cut..]);
            sum.merge(&parts.take()).unwrap();
            let whole = whole.take();
            prop_assert_eq!((whole.rows, &whole.confidence), (sum.rows, &sum.confidence));
            let (Sums::Numeric(a), Sums::Numeric(b)) = (&whole.features[0], &sum.features[0]) else { panic!() };
            prop_assert_eq!((&a.cells, a.nd, a.flat, a.missing), (&b.cells, b.nd, b.flat, b.missing));
            prop_assert!((a.s1 - b.s1).abs() + (a.sd_sum - b.sd_sum).abs() < 1e-9);
            prop_assert_eq!(whole.outputs[0].rows(), sum.outputs[0].rows());
        }
    }
}
