//! `Scaler`: `(x - offset) * scale`, by column.

use super::kernel::{Fact, Kernel, NUMBERS, expect, floats, one};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{DimLike, ensure},
};

#[derive(Debug)]
pub(super) struct Scaler {
    /// Of each column, or one for all.
    offset: Vec<f32>,
    scale: Vec<f32>,
}

pub(super) fn build(node: &NodeProto) -> TractResult<Scaler> {
    let read = |name| node.get_attr_opt_vec::<f32>(name).map(Option::unwrap_or_default);
    let (offset, scale) = (read("offset")?, read("scale")?);
    ensure!(
        !scale.is_empty() && offset.len() == scale.len(),
        "offset and scale have {} and {} values",
        offset.len(),
        scale.len()
    );
    Ok(Scaler { offset, scale })
}

impl Kernel for Scaler {
    fn name(&self) -> &'static str {
        "Scaler"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        expect(input, &NUMBERS)?;
        let columns = input.shape.last().map_or(Ok(1), |columns| columns.to_usize())?;
        let known = self.scale.len();
        ensure!(known == 1 || known == columns, "scales {known} columns, got {columns}");
        Ok(vec![Fact::new(DatumType::F32, input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let values = floats(inputs[0])?;
        let scaled: Vec<f32> = if let ([offset], [scale]) = (&*self.offset, &*self.scale) {
            values.iter().map(|value| (value - offset) * scale).collect()
        } else {
            let mut scaled = values.into_owned();
            for row in scaled.chunks_exact_mut(self.scale.len()) {
                let columns = self.offset.iter().zip(&self.scale);
                row.iter_mut().zip(columns).for_each(|(value, (offset, scale))| *value = (*value - offset) * scale);
            }
            scaled
        };
        Ok(vec![Tensor::from_shape(inputs[0].shape(), &scaled)?])
    }
}
