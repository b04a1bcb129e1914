//! The weights of one way through a sequence, and what rows of values come to by them.

use super::super::kernel::values;
use std::ops::Range;
use tract_onnx::prelude::{Tensor, TractResult};

/// A row for each gate's value, of as many columns as what they weigh.
pub(super) struct Weights<'a> {
    rows: &'a [f32],
    columns: usize,
}

/// Eight sums side by side, which the compiler makes one instruction.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|at| sums[at] += a[at] * b[at]);
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

impl<'a> Weights<'a> {
    /// Of the table `[ways, gated, columns]`, whose shape the caller has checked.
    pub(super) fn of(table: &'a Tensor, way: usize) -> TractResult<Self> {
        let (gated, columns) = (table.shape()[1], table.shape()[2]);
        let count = gated * columns;
        Ok(Self { rows: &values::<f32>(table)?[way * count..(way + 1) * count], columns })
    }

    /// What each of `count` rows of values comes to by these of the weights' rows.
    pub(super) fn times(&self, x: &[f32], count: usize, of: Range<usize>) -> Vec<f32> {
        let part = |at: usize| at * self.columns..(at + 1) * self.columns;
        let mut products = Vec::with_capacity(count * of.len());
        for at in 0..count {
            let x = &x[part(at)];
            products.extend(of.clone().map(|gate| dot(x, &self.rows[part(gate)])));
        }
        products
    }
}
