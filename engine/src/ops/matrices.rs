//! Operators on whole matrices: `Det`, and onnxruntime's `CDist`.

use super::kernel::{FLOATS, Fact, Kernel, doubles, expect, narrowed, one, volume};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
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
    is_squared: bool,
}

pub(super) fn distances(node: &NodeProto) -> TractResult<Distances> {
    let is_squared = match node.get_attr_opt::<&str>("metric")?.unwrap_or("sqeuclidean") {
        "sqeuclidean" => true,
        "euclidean" => false,
        other => bail!("metric `{other}` is not known"),
    };
    Ok(Distances { is_squared })
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
        ensure!(left == right, "takes tables of as many columns, got {left} and {right}");
        Ok(vec![Fact::new(a.datum, [rows.clone(), columns.clone()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (a, b) = (doubles(inputs[0])?, doubles(inputs[1])?);
        let (rows, width, columns) = (inputs[0].shape()[0], inputs[0].shape()[1], inputs[1].shape()[0]);
        let mut distances = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let row = &a[row * width..(row + 1) * width];
            for column in 0..columns {
                let column = &b[column * width..(column + 1) * width];
                let sum: f64 = row.iter().zip(column).map(|(a, b)| (a - b) * (a - b)).sum();
                distances.push(if self.is_squared { sum } else { sum.sqrt() });
            }
        }
        Ok(vec![narrowed(&distances, inputs[0].datum_type(), &[rows, columns])?])
    }
}
