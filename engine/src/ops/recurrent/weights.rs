//! The weights of one way through a sequence, and what rows of values come to by them.

use super::super::{dots::dots, kernel::values};
use std::ops::Range;
use tract_onnx::prelude::{Tensor, TractResult};

/// A row for each gate's value, of as many columns as what they weigh.
pub(super) struct Weights<'a> {
    rows: &'a [f32],
    columns: usize,
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
        if self.columns == 0 {
            return vec![0.0; count * of.len()];
        }
        dots(&x[..count * self.columns], &self.rows[of.start * self.columns..of.end * self.columns], self.columns)
    }
}
