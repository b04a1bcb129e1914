//! `LinearClassifier` and `LinearRegressor`: weighted sums of the columns.

use super::{
    kernel::{Fact, Kernel, NUMBERS, expect, floats, matrix, one},
    labels::Labels,
    post::{Post, logistic, probit},
};
use crate::model::registers::{self, Steps};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{anyhow, ensure},
};

/// How many outputs are summed at once: a multiple of every vector register's width.
const LANES: usize = 8;
/// How many rows: each sum waits for the one before, so that several have to be in hand.
const ROWS: usize = 8;

/// `x · w + b` for several outputs.
#[derive(Debug)]
struct Sums {
    /// For each block of outputs, by column, the outputs' weights.
    weights: Vec<Vec<[f32; LANES]>>,
    intercepts: Vec<f32>,
    columns: usize,
}

impl Sums {
    /// From `coefficients`, output by output.
    fn new(coefficients: &[f32], intercepts: Vec<f32>) -> TractResult<Self> {
        let outputs = intercepts.len();
        ensure!(outputs > 0 && !coefficients.is_empty(), "has no coefficients");
        ensure!(
            coefficients.len().is_multiple_of(outputs),
            "{outputs} outputs have {} coefficients",
            coefficients.len()
        );
        let columns = coefficients.len() / outputs;
        let weight = |output: usize, column: usize| coefficients.get(output * columns + column).copied();
        let block = |first: usize| {
            let lanes = |column| {
                std::array::from_fn(|lane| {
                    let output = first + lane;
                    if output < outputs { weight(output, column).unwrap_or(0.0) } else { 0.0 }
                })
            };
            (0..columns).map(lanes).collect()
        };
        Ok(Self { weights: (0..outputs).step_by(LANES).map(block).collect(), intercepts, columns })
    }

    fn outputs(&self) -> usize {
        self.intercepts.len()
    }

    fn admit(&self, inputs: &[Fact]) -> TractResult<Fact> {
        let input = one(inputs)?;
        expect(input, &NUMBERS)?;
        let (rows, columns) = input.columns()?;
        ensure!(columns == self.columns, "has coefficients for {} columns, got {columns}", self.columns);
        Ok(Fact::new(DatumType::F32, [rows]))
    }

    /// Every row's sums.
    fn of(&self, input: &Tensor) -> TractResult<Vec<f32>> {
        let (rows, _) = matrix(input)?;
        let (values, outputs) = (floats(input)?, self.outputs());
        let mut sums = vec![0f32; rows * outputs];
        registers::by_steps(Weighing { of: self, values: &values, sums: &mut sums });
        Ok(sums)
    }
}

/// The sums of several rows in the making.
struct Weighing<'a> {
    of: &'a Sums,
    values: &'a [f32],
    sums: &'a mut [f32],
}

impl Steps for Weighing<'_> {
    #[inline(always)]
    fn all<const ONCE: bool>(self) {
        let Sums { weights, intercepts, columns } = self.of;
        let outputs = intercepts.len();
        let some = self.values.chunks(ROWS * columns).zip(self.sums.chunks_mut(ROWS * outputs));
        for (values, sums) in some {
            // The last row stands for those that are not there.
            let last = values.len() / columns - 1;
            let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &values[row.min(last) * columns..][..*columns]);
            for ((first, intercepts), weights) in (0..outputs).step_by(LANES).zip(intercepts.chunks(LANES)).zip(weights)
            {
                let several = match last {
                    0 => weighed::<1, ONCE>([rows[0]], weights).map(|only| [only; ROWS])[0],
                    _ => weighed::<ROWS, ONCE>(rows, weights),
                };
                for (sums, lanes) in sums.chunks_exact_mut(outputs).zip(several) {
                    for ((sum, lane), intercept) in sums[first..].iter_mut().zip(lanes).zip(intercepts) {
                        *sum = lane + intercept;
                    }
                }
            }
        }
    }
}

/// The rows' products with these weights, summed in the order of the columns.
#[inline(always)]
fn weighed<const N: usize, const ONCE: bool>(rows: [&[f32]; N], weights: &[[f32; LANES]]) -> [[f32; LANES]; N] {
    let mut sums = [[0f32; LANES]; N];
    let rows = rows.map(|row| &row[..weights.len()]);
    for (column, weights) in weights.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let value = row[column];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = if ONCE { value.mul_add(*weight, *sum) } else { *sum + value * weight };
            }
        }
    }
    sums
}

/// The class with the greatest sum; of two classes with one sum, the second where it is above 0.
#[derive(Debug)]
pub(super) struct Classifier {
    sums: Sums,
    labels: Labels,
    post: Post,
}

pub(super) fn classifier(node: &NodeProto) -> TractResult<Classifier> {
    let labels = Labels::read(node, "classlabels_ints", "classlabels_strings")?;
    let intercepts = node.get_attr_opt_vec::<f32>("intercepts")?.unwrap_or_default();
    let sums = Sums::new(node.get_attr_slice::<f32>("coefficients")?, intercepts)?;
    let post = Post::read(node)?;
    match (sums.outputs(), labels.len()) {
        (1, 2) => ensure!(post != Post::Probit, "has PROBIT over a single sum, which has no agreed meaning"),
        (outputs, classes) => ensure!(outputs == classes, "{classes} classes have {outputs} intercepts"),
    }
    Ok(Classifier { sums, labels, post })
}

impl Classifier {
    fn pair(&self, sum: f32) -> [f32; 2] {
        if self.post == Post::Logistic { [logistic(-sum), logistic(sum)] } else { [1.0 - sum, sum] }
    }
}

impl Kernel for Classifier {
    fn name(&self) -> &'static str {
        "LinearClassifier"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = self.sums.admit(inputs)?.shape.remove(0);
        let labels = Fact::new(self.labels.datum(), [rows.clone()]);
        Ok(vec![labels, Fact::new(DatumType::F32, [rows, self.labels.len().into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let mut scores = self.sums.of(inputs[0])?;
        let classes = self.labels.len();
        let winners: Vec<usize> = if self.sums.outputs() == classes {
            let rows = scores.chunks_exact_mut(classes);
            rows.map(|row| {
                let winner = greatest(row);
                self.post.turn(row);
                winner
            })
            .collect()
        } else {
            let winners = scores.iter().map(|sum| usize::from(*sum > 0.0)).collect();
            scores = scores.into_iter().flat_map(|sum| self.pair(sum)).collect();
            winners
        };
        let scores = Tensor::from_shape(&[winners.len(), classes], &scores)?;
        Ok(vec![self.labels.tensor(&winners)?, scores])
    }
}

/// The place of the greatest value, of equal ones the first.
pub(super) fn greatest(row: &[f32]) -> usize {
    let better = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (1..row.len()).fold(0, better)
}

/// The sums themselves.
#[derive(Debug)]
pub(super) struct Regressor {
    sums: Sums,
    post: Post,
}

pub(super) fn regressor(node: &NodeProto) -> TractResult<Regressor> {
    let targets = node.get_attr_opt::<i64>("targets")?.unwrap_or(1);
    let coefficients = node.get_attr_slice::<f32>("coefficients")?;
    let targets = usize::try_from(targets).ok().filter(|targets| (1..=coefficients.len()).contains(targets));
    let targets = targets.ok_or_else(|| anyhow!("targets do not fit {} coefficients", coefficients.len()))?;
    let intercepts = match node.get_attr_opt_vec::<f32>("intercepts")? {
        Some(intercepts) if !intercepts.is_empty() => intercepts,
        _ => vec![0.0; targets],
    };
    ensure!(intercepts.len() == targets, "{targets} targets have {} intercepts", intercepts.len());
    Ok(Regressor { sums: Sums::new(coefficients, intercepts)?, post: Post::read(node)? })
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "LinearRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = self.sums.admit(inputs)?.shape.remove(0);
        Ok(vec![Fact::new(DatumType::F32, [rows, self.sums.outputs().into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let mut values = self.sums.of(inputs[0])?;
        let targets = self.sums.outputs();
        for row in values.chunks_exact_mut(targets) {
            match row {
                [value] if self.post == Post::Probit => *value = probit(*value),
                [_] => {}
                row => self.post.turn(row),
            }
        }
        Ok(vec![Tensor::from_shape(&[values.len() / targets, targets], &values)?])
    }
}
