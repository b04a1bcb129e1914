//! How alike a row is to each of many vectors.

use super::{
    curves,
    dots::{LANES, Table},
    kernel::{Fact, NUMBERS, expect, one},
};
use crate::model::registers::{self, Steps};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, TractResult},
    tract_hir::internal::{bail, ensure},
};

/// How alike two vectors are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Likeness {
    Linear,
    Poly { gamma: f32, coef0: f32, degree: f32 },
    Rbf { gamma: f32 },
    Sigmoid { gamma: f32, coef0: f32 },
}

impl Likeness {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let params = node.get_attr_opt_vec::<f32>("kernel_params")?.unwrap_or_default();
        let [gamma, coef0, degree] = match *params {
            [] => [0.0; 3],
            [gamma, coef0, degree] => [gamma, coef0, degree],
            _ => bail!("kernel_params has {} values, not 3", params.len()),
        };
        Ok(match node.get_attr_opt::<&str>("kernel_type")?.unwrap_or("LINEAR") {
            "LINEAR" => Self::Linear,
            "POLY" => Self::Poly { gamma, coef0, degree },
            "RBF" => Self::Rbf { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, coef0 },
            other => bail!("kernel_type `{other}` is not known"),
        })
    }

    /// Made of products, or of squares of differences (RBF).
    fn finish(self, alike: &mut [f32]) {
        let scaled = |alike: &mut [f32], gamma: f32, coef0: f32| {
            alike.iter_mut().for_each(|value| *value = gamma * *value + coef0);
        };
        match self {
            Self::Linear => {}
            Self::Rbf { gamma } => alike.iter_mut().for_each(|value| *value = (-gamma * *value).exp()),
            Self::Poly { gamma, coef0, degree } => {
                scaled(alike, gamma, coef0);
                // The degrees that are in use, without the function for any.
                if degree == 2.0 {
                    alike.iter_mut().for_each(|value| *value *= *value);
                } else if degree == 3.0 {
                    alike.iter_mut().for_each(|value| *value = *value * *value * *value);
                } else {
                    alike.iter_mut().for_each(|value| *value = value.powf(degree));
                }
            }
            Self::Sigmoid { gamma, coef0 } => {
                scaled(alike, gamma, coef0);
                curves::tanh_all(alike);
            }
        }
    }
}

/// What is multiplied with a row.
#[derive(Debug)]
pub(super) struct Vectors {
    likeness: Likeness,
    table: Table,
    count: usize,
}

impl Vectors {
    /// Values vector by vector.
    pub(super) fn new(likeness: Likeness, values: &[f32], count: usize) -> TractResult<Self> {
        ensure!(count > 0 && !values.is_empty(), "has no vectors");
        ensure!(values.len().is_multiple_of(count), "{count} vectors have {} values", values.len());
        Ok(Self { likeness, table: Table::new(values, values.len() / count)?, count })
    }

    pub(super) fn admit(&self, inputs: &[Fact]) -> TractResult<Fact> {
        let input = one(inputs)?;
        expect(input, &NUMBERS)?;
        let (rows, columns) = input.columns()?;
        let wanted = self.table.columns();
        ensure!(columns == wanted, "has vectors of {wanted} columns, got {columns}");
        Ok(Fact::new(DatumType::F32, [rows]))
    }

    /// How alike the row is to each vector.
    pub(super) fn likenesses(&self, row: &[f32]) -> Vec<f32> {
        let mut alike = vec![0.0; self.count];
        if matches!(self.likeness, Likeness::Rbf { .. }) {
            registers::by_steps(Apart { table: &self.table, row, squares: &mut alike });
        } else {
            self.table.times(row, &mut alike);
        }
        self.likeness.finish(&mut alike);
        alike
    }
}

/// The squares of the differences.
struct Apart<'v> {
    table: &'v Table,
    row: &'v [f32],
    squares: &'v mut [f32],
}

impl Steps for Apart<'_> {
    #[inline(always)]
    fn all<const ONCE: bool>(self) {
        for (block, squares) in self.table.blocks().zip(self.squares.chunks_mut(LANES)) {
            let mut sums = [0.0; LANES];
            for (x, values) in self.row.iter().zip(block) {
                for lane in 0..LANES {
                    let apart = x - values[lane];
                    sums[lane] = if ONCE { apart.mul_add(apart, sums[lane]) } else { apart * apart + sums[lane] };
                }
            }
            for (square, sum) in squares.iter_mut().zip(sums) {
                *square = sum;
            }
        }
    }
}
