//! Operators on whole matrices: `Det`, and onnxruntime's `CDist`.

use super::kernel::{FLOATS, Fact, Kernel, doubles, expect, narrowed, one, volume};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, TDim, Tensor, TractResult},
    tract_hir::internal::{bail, ensure},
};

/// The determinant of each matrix.
#[derive(Debug)]
pub(super) struct Det;

pub(super) fn det(_: &NodeProto) -> TractResult<Det> {
    Ok(Det)
}

/// Gaussian elimination with the greatest pivot of each column.
fn determinant(matrix: &mut [f64], size: usize) -> f64 {
    let mut product = 1.0;
    for step in 0..size {
        let at = |row: usize, column: usize| row * size + column;
        let pivot = (step..size).max_by(|a, b| matrix[at(*a, step)].abs().total_cmp(&matrix[at(*b, step)].abs()));
        let Some(pivot) = pivot.filter(|pivot| matrix[at(*pivot, step)] != 0.0) else { return 0.0 };
        if pivot != step {
            (0..size).for_each(|column| matrix.swap(at(pivot, column), at(step, column)));
            product = -product;
        }
        product *= matrix[at(step, step)];
        for row in step + 1..size {
            let factor = matrix[at(row, step)] / matrix[at(step, step)];
            (step..size).for_each(|column| matrix[at(row, column)] -= factor * matrix[at(step, column)]);
        }
    }
    product
}

impl Kernel for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        expect(input, &FLOATS)?;
        let [batches @ .., rows, columns] = &*input.shape else { bail!("takes matrices") };
        ensure!(rows == columns, "takes square matrices, got {rows} by {columns}");
        Ok(vec![Fact::new(input.datum, batches.iter().cloned())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let [batches @ .., size, _] = inputs[0].shape() else { bail!("takes matrices") };
        let mut matrices = doubles(inputs[0])?;
        let determinants: Vec<f64> = if *size == 0 {
            vec![1.0; volume(batches)?]
        } else {
            matrices.chunks_exact_mut(size * size).map(|matrix| determinant(matrix, *size)).collect()
        };
        Ok(vec![narrowed(&determinants, inputs[0].datum_type(), batches)?])
    }
}

/// How far each row of one table lies from each row of another.
#[derive(Debug)]
pub(super) struct Distances {
    metric: Metric,
}

#[derive(Debug, Clone, Copy)]
enum Metric {
    Squared,
    Euclidean,
    /// Sums of absolute differences: not in onnxruntime's operator, for what is rewritten to this one.
    Manhattan,
}

impl Metric {
    fn between(self, a: &[f64], b: &[f64]) -> f64 {
        match self {
            Self::Squared => summed(a, b, |a, b| (a - b) * (a - b)),
            Self::Euclidean => Self::Squared.between(a, b).sqrt(),
            Self::Manhattan => summed(a, b, |a, b| (a - b).abs()),
        }
    }
}

/// In four sums side by side, so that no addition waits for the one before.
fn summed(a: &[f64], b: &[f64], of: impl Fn(f64, f64) -> f64) -> f64 {
    let ((a, last_a), (b, last_b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += of(*a, *b));
    }
    let rest: f64 = last_a.iter().zip(last_b).map(|(a, b)| of(*a, *b)).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

pub(super) fn distances(node: &NodeProto) -> TractResult<Distances> {
    let metric = match node.get_attr_opt::<&str>("metric")?.unwrap_or("sqeuclidean") {
        "sqeuclidean" => Metric::Squared,
        "euclidean" => Metric::Euclidean,
        "cityblock" => Metric::Manhattan,
        other => bail!("metric `{other}` is not known"),
    };
    Ok(Distances { metric })
}

impl Kernel for Distances {
    fn name(&self) -> &'static str {
        "CDist"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [a, b] = inputs else { bail!("takes two tables") };
        expect(a, &[DatumType::F32, DatumType::F64])?;
        ensure!(a.datum == b.datum, "takes two tables of one type");
        let ([rows, left], [columns, right]) = (&*a.shape, &*b.shape) else { bail!("takes two tables") };
        let one = TDim::from(1);
        ensure!(
            left == right || *left == one || *right == one,
            "takes tables of as many columns, or of one, got {left} and {right}"
        );
        Ok(vec![Fact::new(a.datum, [rows.clone(), columns.clone()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (rows, columns) = (inputs[0].shape()[0], inputs[1].shape()[0]);
        let width = inputs[0].shape()[1].max(inputs[1].shape()[1]);
        // A table of one column stands for as many as the other has.
        let wide = |input: &Tensor| -> TractResult<Vec<f64>> {
            let values = doubles(input)?;
            if input.shape()[1] == width {
                return Ok(values);
            }
            Ok(values.into_iter().flat_map(|value| std::iter::repeat_n(value, width)).collect())
        };
        let (a, b) = (wide(inputs[0])?, wide(inputs[1])?);
        let mut distances = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let row = &a[row * width..(row + 1) * width];
            distances
                .extend((0..columns).map(|column| self.metric.between(row, &b[column * width..(column + 1) * width])));
        }
        Ok(vec![narrowed(&distances, inputs[0].datum_type(), &[rows, columns])?])
    }
}
