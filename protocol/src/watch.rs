//! From a contract and a request's tensors to the values that are watched: columns, derived numbers, the predicted class,
//! the confidence. Whoever counts on a device and whoever fits a profile go through this one door, so both count alike.
//!
//! Tensors come as plain slices: no engine is known here. Nothing is kept of them.

use std::{fmt::Write as _, ops::Range};

use tern_stats::{
    derived,
    recorder::{Recorder, Value},
};

use crate::contract::{Contract, Derived, Part, TensorContract, Watched};

mod truth;

pub use truth::Truth;

/// Beyond this a double does not tell neighbouring integers apart.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Values of a tensor in row-major order.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each variant is the element type of the same name")]
pub enum Values<'a> {
    Bool(&'a [bool]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Bytes(&'a [Vec<u8>]),
}

/// A tensor: its dimensions and its values.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// The dimensions, the batch among them.
    pub shape: &'a [usize],
    /// As many values as the dimensions say.
    pub values: Values<'a>,
}

/// Why tensors are not those of a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Another number of inputs or outputs.
    #[error("{found} {side} where the contract has {expected}")]
    Count {
        /// `inputs` or `outputs`.
        side: &'static str,
        /// How many the contract has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A shape that is not the contract's, or not that of the values.
    #[error("tensor {0:?} has another shape than its contract or its values")]
    Shape(String),
    /// Batched tensors of different lengths.
    #[error("tensor {0:?} has another number of rows than those before it")]
    Rows(String),
}

/// What is watched of a contract, made ready to be read.
#[derive(Debug, Clone)]
pub struct Watch {
    inputs: Side,
    outputs: Side,
    /// The place of the predicted class among the watched outputs.
    label: Option<usize>,
    /// The output that holds the confidence.
    confidence: Option<usize>,
}

#[derive(Debug, Clone)]
struct Side {
    name: &'static str,
    tensors: Vec<TensorContract>,
    watched: Vec<Watched>,
    /// Per watched thing its categories that are numbers, sorted, each as the contract writes it.
    spelled: Vec<Vec<(f64, String)>>,
}

/// Room for what is made of values on the way; keep it from one request to the next.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    text: String,
    numbers: Vec<f32>,
}

/// The rows of one request. A tensor without a batch axis is one row, the first.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    watch: &'a Watch,
    inputs: Vec<Split<'a>>,
    outputs: Vec<Split<'a>>,
    count: usize,
}

/// A tensor and how it falls into rows.
#[derive(Debug, Clone, Copy)]
struct Split<'a> {
    tensor: Tensor<'a>,
    /// The axes of a row.
    shape: &'a [usize],
    rows: usize,
    width: usize,
}

impl Watch {
    /// What is watched of `contract`, in the order of [`Contract::watched_inputs`] and [`Contract::watched_outputs`].
    pub fn new(contract: &Contract) -> Self {
        let outputs = Side::new("outputs", &contract.outputs, contract.watched_outputs());
        let confidence = contract.prediction.as_ref().and_then(|prediction| prediction.confidence.as_ref());
        Self {
            inputs: Side::new("inputs", &contract.inputs, contract.watched_inputs()),
            label: outputs.watched.iter().position(|watched| watched.part == Part::Label),
            confidence: confidence.and_then(|name| contract.outputs.iter().position(|o| o.name == *name)),
            outputs,
        }
    }

    /// What is watched of the inputs.
    pub fn inputs(&self) -> &[Watched] {
        &self.inputs.watched
    }

    /// What is watched of the outputs.
    pub fn outputs(&self) -> &[Watched] {
        &self.outputs.watched
    }

    /// Whether the contract says what of the outputs is the answer.
    pub fn has_label(&self) -> bool {
        self.label.is_some()
    }

    /// A label that somebody gives as a number, in the words that predictions are told in.
    pub fn label_of(&self, number: f64) -> String {
        let spelled = self.label.and_then(|label| find(&self.outputs.spelled[label], number));
        spelled.map_or_else(|| number.to_string(), str::to_owned)
    }

    /// The tensors of one request, in the contract's order, as rows.
    ///
    /// # Errors
    /// Where they are not what the contract says.
    pub fn rows<'a>(&'a self, inputs: &[Tensor<'a>], outputs: &[Tensor<'a>]) -> Result<Rows<'a>, Misfit> {
        let mut count = None;
        let inputs = self.inputs.split(inputs, &mut count)?;
        let outputs = self.outputs.split(outputs, &mut count)?;
        Ok(Rows { watch: self, inputs, outputs, count: count.unwrap_or(1) })
    }
}

impl Side {
    fn new(name: &'static str, tensors: &[TensorContract], watched: Vec<Watched>) -> Self {
        let spelled = watched.iter().map(|watched| {
            let column = match watched.part {
                Part::Category(column) => column,
                Part::Label => 0,
                Part::Column(_) | Part::Derived(_) => return Vec::new(),
            };
            let feature = tensors[watched.tensor].features.get(column);
            let number = |text: &String| Some((text.parse().ok().filter(|x: &f64| !x.is_nan())? + 0.0, text.clone()));
            let mut known: Vec<_> = feature.iter().flat_map(|f| &f.categories).filter_map(number).collect();
            known.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            known
        });
        Self { name, spelled: spelled.collect(), tensors: tensors.to_vec(), watched }
    }

    fn split<'a>(&self, tensors: &[Tensor<'a>], rows: &mut Option<usize>) -> Result<Vec<Split<'a>>, Misfit> {
        if tensors.len() != self.tensors.len() {
            let (expected, found) = (self.tensors.len(), tensors.len());
            return Err(Misfit::Count { side: self.name, expected, found });
        }
        let one = |(contract, tensor): (&TensorContract, &Tensor<'a>)| {
            let shape = || Misfit::Shape(contract.name.clone());
            let total = tensor.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(shape)?;
            if tensor.shape.len() != contract.shape.len() || total != tensor.values.len() {
                return Err(shape());
            }
            if contract.shape.first() != Some(&-1) {
                return Ok(Split { tensor: *tensor, shape: tensor.shape, rows: 1, width: total });
            }
            let (batch, shape) = (tensor.shape[0], &tensor.shape[1..]);
            if *rows.get_or_insert(batch) != batch {
                return Err(Misfit::Rows(contract.name.clone()));
            }
            Ok(Split { tensor: *tensor, shape, rows: batch, width: total.checked_div(batch).unwrap_or(0) })
        };
        self.tensors.iter().zip(tensors).map(one).collect()
    }

    fn read(
        &self,
        (row, at): (usize, usize),
        tensors: &[Split<'_>],
        scratch: &mut Scratch,
        mut take: impl FnMut(Value<'_>),
    ) {
        let Watched { tensor, part, .. } = &self.watched[at];
        let split = &tensors[*tensor];
        let Some(span) = split.span(row) else { return };
        let (values, spelled) = (&split.tensor.values, &self.spelled[at]);
        let columns = self.tensors[*tensor].features.len().max(1);
        match part {
            Part::Column(column) => {
                span.skip(*column).step_by(columns).for_each(|at| take(Value::Number(values.number(at))));
            }
            Part::Category(column) => {
                for at in span.skip(*column).step_by(columns) {
                    take(Value::Category(category(values, at, spelled, &mut scratch.text)));
                }
            }
            Part::Label => {
                if !span.is_empty() {
                    take(Value::Category(category(values, span.start, spelled, &mut scratch.text)));
                }
            }
            Part::Derived(kind) => take(Value::Number(derive(*kind, split, span, &mut scratch.numbers))),
        }
    }
}

impl Rows<'_> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Hands the values of the watched input `at` in `row` to `take`: one, or as many as the axes between batch and
    /// columns make; none where the tensor has no such row.
    ///
    /// # Panics
    /// Where `at` is not below the number of watched inputs.
    pub fn input(&self, row: usize, at: usize, scratch: &mut Scratch, take: impl FnMut(Value<'_>)) {
        self.watch.inputs.read((row, at), &self.inputs, scratch, take);
    }

    /// Hands the values of the watched output `at`, likewise.
    ///
    /// # Panics
    /// Where `at` is not below the number of watched outputs.
    pub fn output(&self, row: usize, at: usize, scratch: &mut Scratch, take: impl FnMut(Value<'_>)) {
        self.watch.outputs.read((row, at), &self.outputs, scratch, take);
    }

    /// The predicted class of a row as text; none where the contract names no prediction.
    pub fn label<'t>(&'t self, row: usize, scratch: &'t mut Scratch) -> Option<&'t str> {
        let at = self.watch.label?;
        let split = &self.outputs[self.watch.outputs.watched[at].tensor];
        let span = split.span(row).filter(|span| !span.is_empty())?;
        category(&split.tensor.values, span.start, &self.watch.outputs.spelled[at], &mut scratch.text)
    }

    /// How sure the model is of a row: the largest value of its confidence output, NaN where one of them is; none where the
    /// contract names no confidence.
    pub fn confidence(&self, row: usize) -> Option<f64> {
        let split = &self.outputs[self.watch.confidence?];
        let values = split.span(row)?.filter_map(|at| split.tensor.values.number(at));
        values.reduce(|a, b| if a.is_nan() || a > b { a } else { b })
    }

    /// Folds all rows into a recorder whose profile counts by the same contract; tells `each` row its confidence bin.
    pub fn fold(&self, recorder: &mut Recorder, scratch: &mut Scratch, mut each: impl FnMut(usize, usize)) {
        let inputs = recorder.features().min(self.watch.inputs.watched.len());
        let outputs = recorder.outputs().min(self.watch.outputs.watched.len());
        for row in 0..self.count {
            for at in 0..inputs {
                self.input(row, at, scratch, |value| recorder.feature(at, value));
            }
            for at in 0..outputs {
                self.output(row, at, scratch, |value| recorder.output(at, value));
            }
            each(row, recorder.end_row(self.confidence(row)));
        }
    }
}

impl Split<'_> {
    fn span(&self, row: usize) -> Option<Range<usize>> {
        (row < self.rows).then(|| row * self.width..(row + 1) * self.width)
    }
}

macro_rules! by_type {
    ($values:expr, $of:ident => $number:expr, bool $flag:ident => $do:expr, bytes $bytes:ident => $other:expr) => {
        match $values {
            Values::U8($of) => $number,
            Values::U16($of) => $number,
            Values::U32($of) => $number,
            Values::U64($of) => $number,
            Values::I8($of) => $number,
            Values::I16($of) => $number,
            Values::I32($of) => $number,
            Values::I64($of) => $number,
            Values::F32($of) => $number,
            Values::F64($of) => $number,
            Values::Bool($flag) => $do,
            Values::Bytes($bytes) => $other,
        }
    };
}

impl Values<'_> {
    fn len(&self) -> usize {
        by_type!(self, of => of.len(), bool of => of.len(), bytes of => of.len())
    }

    /// The value at `at`; bytes are no number.
    #[expect(clippy::unnecessary_cast, reason = "one of the types is a double already")]
    fn number(&self, at: usize) -> Option<f64> {
        by_type!(self, of => Some(of[at] as f64), bool of => Some(f64::from(u8::from(of[at]))), bytes _of => None)
    }

    fn print(&self, at: usize, text: &mut String) {
        text.clear();
        // Writing to a string cannot fail.
        let _ = by_type!(self, of => write!(text, "{}", of[at]), bool of => write!(text, "{}", of[at]),
            bytes of => write!(text, "{}", String::from_utf8_lossy(&of[at])));
    }
}

/// The category at `at` as the contract writes it; NaN is a missing one.
fn category<'t>(
    values: &'t Values<'_>,
    at: usize,
    spelled: &'t [(f64, String)],
    text: &'t mut String,
) -> Option<&'t str> {
    if let Values::Bytes(all) = values
        && let Ok(known) = std::str::from_utf8(&all[at])
    {
        return Some(known);
    }
    if let Some(number) = values.number(at) {
        if number.is_nan() {
            return None;
        }
        if let Some(known) = find(spelled, number) {
            return Some(known);
        }
    }
    values.print(at, text);
    Some(text)
}

fn find(spelled: &[(f64, String)], number: f64) -> Option<&str> {
    if number.abs() > EXACT {
        return None;
    }
    // The sum makes one zero of two.
    let at = spelled.binary_search_by(|(known, _)| known.total_cmp(&(number + 0.0))).ok()?;
    Some(&spelled[at].1)
}

fn derive(kind: Derived, split: &Split<'_>, span: Range<usize>, numbers: &mut Vec<f32>) -> Option<f64> {
    let row = match &split.tensor.values {
        Values::F32(values) => &values[span],
        Values::Bytes(_) => return None,
        other => {
            numbers.clear();
            numbers.extend(span.filter_map(|at| other.number(at)).map(|x| x as f32));
            &numbers[..]
        }
    };
    match kind {
        Derived::Mean => derived::mean(row),
        Derived::Contrast => derived::contrast(row),
        Derived::Sharpness => derived::sharpness(row, split.shape),
    }
}

#[cfg(test)]
mod tests;
