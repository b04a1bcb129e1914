//! What a model makes of recorded rows, in the words of its contract: the values that are watched, how sure it was, and
//! whether it was right.
//!
//! It is run one row a call, as devices mostly are; what is watched is read through the same door as there.

use std::collections::HashSet;

use anyhow::{Context, ensure};
use tern_engine::{Data, Model, Tensor};
use tern_protocol::{
    contract::{Contract, Part, Watched},
    digest::Digest,
    watch::{self, Scratch, Values, Watch},
};
use tern_stats::{
    cells::Edges,
    labels::Labels,
    profile::{Refusal, Spec},
    recorder::{Recorder, Value},
    window::Window,
};

use super::rows::Row;
use crate::cli::matches::Matches;

/// A watched value that outlives its row.
#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Number(Option<f64>),
    Category(Option<String>),
}

/// What is kept of a row: its watched values, input by input and output by output.
#[derive(Debug, Default)]
struct Seen {
    inputs: Vec<Vec<Kept>>,
    outputs: Vec<Vec<Kept>>,
    confidence: Option<f64>,
    /// Whether the answer was wrong, where there is a label.
    wrong: Option<bool>,
}

/// All rows so far.
pub(super) struct Sight<'m> {
    model: &'m Model,
    watch: Watch,
    scratch: Scratch,
    rows: Vec<Seen>,
    /// Digests of the rows that have been seen.
    known: HashSet<Digest>,
    /// Confidence and whether it was wrong, of each different row.
    predictions: Vec<(f64, bool)>,
    /// Different rows with a label.
    labelled: u64,
    matches: Matches,
}

impl<'m> Sight<'m> {
    /// A fresh one of `model`, which must be the one of `contract`.
    pub(super) fn new(model: &'m Model, contract: &Contract) -> anyhow::Result<Self> {
        let named = |tensors: &[tern_protocol::contract::TensorContract]| {
            tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>()
        };
        let inputs: Vec<_> = model.inputs().iter().map(|spec| spec.name.clone()).collect();
        let outputs: Vec<_> = model.outputs().iter().map(|spec| spec.name.clone()).collect();
        ensure!(inputs == named(&contract.inputs), "the model takes {inputs:?}: make [[contract.inputs]] agree");
        ensure!(outputs == named(&contract.outputs), "the model gives {outputs:?}: make [[contract.outputs]] agree");
        let (watch, scratch) = (Watch::new(contract), Scratch::default());
        Ok(Self {
            model,
            watch,
            scratch,
            rows: Vec::new(),
            known: HashSet::new(),
            predictions: Vec::new(),
            labelled: 0,
            matches: Matches::default(),
        })
    }

    /// Runs the model on `row` and keeps what is watched.
    pub(super) fn take(&mut self, row: &Row) -> anyhow::Result<()> {
        let outputs = self.model.run(std::slice::from_ref(&row.input)).context("running the model")?;
        let outputs: Vec<_> = outputs.iter().map(lent).collect();
        let lent = [lent(&row.input)];
        let rows = self.watch.rows(&lent, &outputs).context("holding the answer against the contract")?;
        let mut seen = Seen { confidence: rows.confidence(0), ..Seen::default() };
        for at in 0..self.watch.inputs().len() {
            let mut values = Vec::new();
            rows.input(0, at, &mut self.scratch, |value| values.push(Kept::of(value)));
            seen.inputs.push(values);
        }
        for at in 0..self.watch.outputs().len() {
            let mut values = Vec::new();
            rows.output(0, at, &mut self.scratch, |value| values.push(Kept::of(value)));
            seen.outputs.push(values);
        }
        let right = row.label.as_ref().map(|label| spelled(&self.watch, label));
        let answer = rows.label(0, &mut self.scratch);
        // A missing answer is wrong.
        seen.wrong = right.as_deref().map(|right| answer != Some(right));
        self.matches.take(right.as_deref(), answer, seen.wrong);
        let is_new = self.known.insert(Digest::of(row.line.as_bytes()));
        self.labelled += u64::from(is_new && seen.wrong.is_some());
        if let (true, Some(wrong), Some(confidence)) = (is_new, seen.wrong, seen.confidence) {
            self.predictions.push((confidence, wrong));
        }
        self.rows.push(seen);
        Ok(())
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> usize {
        self.rows.len()
    }

    /// How many of them differ.
    pub(super) fn different(&self) -> usize {
        self.known.len()
    }

    /// Confidence and whether it was wrong, of each different row with a label: a row that is repeated is one piece of
    /// evidence, however often it was drawn.
    pub(super) fn predictions(&self) -> &[(f64, bool)] {
        &self.predictions
    }

    /// How many different rows have a label.
    pub(super) fn labelled(&self) -> u64 {
        self.labelled
    }

    /// How answers agree with labels.
    pub(super) fn matches(&self) -> &Matches {
        &self.matches
    }

    /// Watched inputs, then watched outputs, with cells and categories taken from the rows.
    pub(super) fn specs(&self) -> Result<(Vec<Spec>, Vec<Spec>), Refusal> {
        let side = |watched: &[Watched], of: fn(&Seen) -> &[Vec<Kept>]| {
            let spec = |(at, watched): (usize, &Watched)| {
                let values = || self.rows.iter().flat_map(move |row| &of(row)[at]);
                match watched.part {
                    Part::Column(_) | Part::Derived(_) => {
                        Spec::numeric(&watched.name, &values().filter_map(Kept::number).collect::<Vec<_>>())
                    }
                    Part::Category(_) | Part::Label => {
                        Ok(Spec::categorical(&watched.name, values().filter_map(Kept::category)))
                    }
                }
            };
            watched.iter().enumerate().map(spec).collect::<Result<Vec<_>, _>>()
        };
        Ok((side(self.watch.inputs(), |row| &row.inputs)?, side(self.watch.outputs(), |row| &row.outputs)?))
    }

    /// The rows in windows of `rows`, in their order; a last one that is not full is left out.
    pub(super) fn windows(&self, rows: usize, specs: &(Vec<Spec>, Vec<Spec>), edges: Option<&Edges>) -> Vec<Window> {
        let mut recorder = Recorder::new(&specs.0, &specs.1, edges);
        let window = |rows: &[Seen]| {
            let mut labels = vec![Labels::default(); edges.map_or(1, Edges::cells)];
            for row in rows {
                let sides = (row.inputs.iter().enumerate(), row.outputs.iter().enumerate());
                sides.0.for_each(|(at, values)| values.iter().for_each(|v| recorder.feature(at, v.lent())));
                sides.1.for_each(|(at, values)| values.iter().for_each(|v| recorder.output(at, v.lent())));
                let bin = recorder.end_row(row.confidence);
                if let (Some(labels), Some(wrong)) = (labels.get_mut(bin), row.wrong) {
                    *labels = Labels { n: labels.n + 1, errors: labels.errors + u64::from(wrong) };
                }
            }
            Window { labels, ..recorder.take() }
        };
        self.rows.chunks_exact(rows).map(window).collect()
    }
}

impl Kept {
    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Number(number) => Self::Number(number),
            Value::Category(name) => Self::Category(name.map(str::to_owned)),
        }
    }

    fn lent(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Category(name) => Value::Category(name.as_deref()),
        }
    }

    fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { *number } else { None }
    }

    fn category(&self) -> Option<&str> {
        if let Self::Category(name) = self { name.as_deref() } else { None }
    }
}

/// A label in the words that answers are told in.
fn spelled(watch: &Watch, label: &str) -> String {
    label.parse().map_or_else(|_| label.to_owned(), |number| watch.label_of(number))
}

fn lent(tensor: &Tensor) -> watch::Tensor<'_> {
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
