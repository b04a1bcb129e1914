//! Reductions of whole numbers: onnxruntime computes them as 64-bit floats and takes the nearest number towards 0 that the type has.

use super::super::kernel::{Fact, Kernel, doubles, narrowed, one, strides, volume, walk};
use tract_onnx::{
    prelude::{TVec, Tensor, TractResult},
    tract_hir::{internal::ensure, ops::nn::Reducer},
};

/// With the axes that come to 1.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) reducer: Reducer,
    pub(super) axes: TVec<usize>,
}

impl Whole {
    /// Folds the values that come to each place of `shape`, beginning with `first`. `fold` is told the place.
    fn fold(
        &self,
        values: &[f64],
        shape: &[usize],
        folded: &[usize],
        first: f64,
        fold: impl Fn(f64, f64, usize) -> f64,
    ) -> TractResult<Vec<f64>> {
        let mut steps = strides(folded);
        self.axes.iter().for_each(|axis| steps[*axis] = 0);
        let mut made = vec![first; volume(folded)?];
        walk(shape, |place, along| {
            let at: usize = along.iter().zip(&steps).map(|(along, step)| along * step).sum();
            made[at] = fold(made[at], values[place], at);
        });
        Ok(made)
    }
}

impl Kernel for Whole {
    fn name(&self) -> &'static str {
        "Reduction of whole numbers"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let whole = one(inputs)?;
        let mut shape = whole.shape.clone();
        self.axes.iter().for_each(|axis| shape[*axis] = 1.into());
        Ok(vec![Fact::new(whole.datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (values, shape) = (doubles(inputs[0])?, inputs[0].shape());
        let mut folded = shape.to_vec();
        self.axes.iter().for_each(|axis| folded[*axis] = 1);
        let all = volume(&folded)?;
        ensure!(all < 1 << 27, "gives too many values");
        let fold = |first: f64, fold: &dyn Fn(f64, f64, usize) -> f64| self.fold(&values, shape, &folded, first, fold);
        let each = |made: Vec<f64>, last: &dyn Fn(f64) -> f64| made.into_iter().map(last).collect::<Vec<f64>>();
        let count = (values.len() / all.max(1)).max(1) as f64;
        let mut made = match self.reducer {
            Reducer::L1 => fold(0.0, &|sum, value, _| sum + value.abs())?,
            Reducer::L2 => each(fold(0.0, &|sum, value, _| sum + value * value)?, &f64::sqrt),
            Reducer::LogSum => each(fold(0.0, &|sum, value, _| sum + value)?, &f64::ln),
            Reducer::LogSumExp => {
                let tops = fold(f64::NEG_INFINITY, &|top, value, _| top.max(value))?;
                // Each of its exponentials is a whole number too.
                let sums = fold(0.0, &|sum, value, at| sum + (value - tops[at]).exp().trunc())?;
                tops.iter().zip(sums).map(|(top, sum)| top + sum.ln()).collect()
            }
            Reducer::Mean => each(fold(0.0, &|sum, value, _| sum + value)?, &|sum| sum / count),
            Reducer::Prod => fold(1.0, &|product, value, _| product * value)?,
            Reducer::SumSquare => fold(0.0, &|sum, value, _| sum + value * value)?,
            _ => fold(0.0, &|sum, value, _| sum + value)?,
        };
        // What is no number becomes the least that there is.
        made.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = f64::NEG_INFINITY);
        Ok(vec![narrowed(&made, inputs[0].datum_type(), &folded)?])
    }
}
