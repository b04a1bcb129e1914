//! How alike a row is to each of many vectors.

use super::{
    curves,
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

/// Vectors side by side, for as many of which the sums are one step or two.
const LANES: usize = 16;

/// What is multiplied with a row.
#[derive(Debug)]
pub(super) struct Vectors {
    likeness: Likeness,
    /// For [`LANES`] vectors after the other, column by column a value of each; zeros fill the last ones up.
    blocks: Vec<[f32; LANES]>,
    count: usize,
    columns: usize,
}

impl Vectors {
    /// Values vector by vector.
    pub(super) fn new(likeness: Likeness, values: &[f32], count: usize) -> TractResult<Self> {
        ensure!(count > 0 && !values.is_empty(), "has no vectors");
        ensure!(values.len().is_multiple_of(count), "{count} vectors have {} values", values.len());
        let columns = values.len() / count;
        let mut blocks = Vec::with_capacity(count.div_ceil(LANES) * columns);
        for vectors in values.chunks(LANES * columns) {
            let value = |column: usize, lane: usize| vectors.get(lane * columns + column).copied().unwrap_or(0.0);
            blocks.extend((0..columns).map(|column| std::array::from_fn(|lane| value(column, lane))));
        }
        Ok(Self { likeness, blocks, count, columns })
    }

    pub(super) fn admit(&self, inputs: &[Fact]) -> TractResult<Fact> {
        let input = one(inputs)?;
        expect(input, &NUMBERS)?;
        let (rows, columns) = input.columns()?;
        ensure!(columns == self.columns, "has vectors of {} columns, got {columns}", self.columns);
        Ok(Fact::new(DatumType::F32, [rows]))
    }

    /// How alike the row is to each vector.
    pub(super) fn likenesses(&self, row: &[f32]) -> Vec<f32> {
        let mut alike = Vec::with_capacity(self.blocks.len() / self.columns * LANES);
        registers::by_steps(Sums { of: self, row, sums: &mut alike });
        alike.truncate(self.count);
        self.likeness.finish(&mut alike);
        alike
    }
}

struct Sums<'v> {
    of: &'v Vectors,
    row: &'v [f32],
    sums: &'v mut Vec<f32>,
}

impl Steps for Sums<'_> {
    #[inline(always)]
    fn all<const ONCE: bool>(self) {
        let step = |a: f32, b: f32, sum: f32| if ONCE { a.mul_add(b, sum) } else { a * b + sum };
        let is_apart = matches!(self.of.likeness, Likeness::Rbf { .. });
        for block in self.of.blocks.chunks_exact(self.of.columns) {
            let mut sums = [0.0; LANES];
            for (x, values) in self.row.iter().zip(block) {
                for lane in 0..LANES {
                    if is_apart {
                        let apart = *x - values[lane];
                        sums[lane] = step(apart, apart, sums[lane]);
                    } else {
                        sums[lane] = step(*x, values[lane], sums[lane]);
                    }
                }
            }
            self.sums.extend_from_slice(&sums);
        }
    }
}
