//! `MeanVarianceNormalization`: tract takes a square off another, of which nothing is left where values lie far from 0, and adds to what it
//! divides by what onnxruntime does not.

use super::kernel::{FLOATS, Fact, Kernel, axis, doubles, expect, narrowed, one, strides, volume, walk};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Tensor, TractResult},
};

/// With the axes that have a mean and a variance together.
#[derive(Debug)]
pub(super) struct Normalised {
    axes: Vec<i64>,
}

pub(super) fn normalised(node: &NodeProto) -> TractResult<Normalised> {
    Ok(Normalised { axes: node.get_attr_opt_vec("axes")?.unwrap_or_else(|| vec![0, 2, 3]) })
}

impl Kernel for Normalised {
    fn name(&self) -> &'static str {
        "MeanVarianceNormalization"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let values = one(inputs)?;
        expect(values, &FLOATS)?;
        self.axes.iter().try_for_each(|named| axis(*named, values.shape.len()).map(|_| ()))?;
        Ok(vec![Fact::new(values.datum, values.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (mut values, shape) = (doubles(inputs[0])?, inputs[0].shape());
        if values.is_empty() {
            // There may be groups beyond number.
            return Ok(vec![inputs[0].clone()]);
        }
        let mut groups = shape.to_vec();
        for named in &self.axes {
            groups[axis(*named, shape.len())?] = 1;
        }
        let steps = strides(&groups);
        let mut group = Vec::with_capacity(values.len());
        walk(shape, |_, along| {
            let places = along.iter().zip(&groups).zip(&steps);
            group.push(places.map(|((along, size), step)| if *size == 1 { 0 } else { along * step }).sum::<usize>());
        });
        let count = volume(&groups)?;
        let size = (values.len() / count.max(1)) as f64;
        let means = |values: &[f64], each: &dyn Fn(f64) -> f64| {
            let mut sums = vec![0.0; count];
            values.iter().zip(&group).for_each(|(value, group)| sums[*group] += each(*value));
            sums.iter_mut().for_each(|sum| *sum /= size);
            sums
        };
        let middle = means(&values, &|value| value);
        values.iter_mut().zip(&group).for_each(|(value, group)| *value -= middle[*group]);
        let variances = means(&values, &|value| value * value);
        values.iter_mut().zip(&group).for_each(|(value, group)| *value /= variances[*group].sqrt());
        Ok(vec![narrowed(&values, inputs[0].datum_type(), shape)?])
    }
}
