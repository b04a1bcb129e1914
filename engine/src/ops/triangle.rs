//! `Trilu` whose diagonal lies however far off: tract adds up beyond what a number holds, and wants its distance as a plain number.

use super::kernel::{Fact, Kernel, picked_or_nothing, values, walk};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Tensor, TractResult},
    tract_hir::internal::{bail, ensure},
};

/// Keeps what lies on one side of a diagonal.
#[derive(Debug)]
pub(super) struct Triangle {
    is_upper: bool,
}

pub(super) fn triangle(node: &NodeProto) -> TractResult<Triangle> {
    Ok(Triangle { is_upper: node.get_attr_opt::<i64>("upper")?.unwrap_or(1) != 0 })
}

impl Kernel for Triangle {
    fn name(&self) -> &'static str {
        "Trilu"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (Some(whole), 1..=2) = (inputs.first(), inputs.len()) else { bail!("takes matrices and a diagonal") };
        ensure!(whole.shape.len() >= 2, "takes matrices, got {} dimensions", whole.shape.len());
        Ok(vec![Fact::new(whole.datum, whole.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let diagonal = match inputs.get(1) {
            Some(given) => match *values::<i64>(&*given.cast_to::<i64>()?)? {
                [diagonal] => i128::from(diagonal),
                ref other => bail!("takes one diagonal, got {}", other.len()),
            },
            None => 0,
        };
        let shape = inputs[0].shape();
        let mut kept = Vec::with_capacity(inputs[0].len());
        walk(shape, |place, along| {
            let [.., row, column] = along else { return };
            let beyond = *column as i128 - *row as i128 - diagonal;
            let is_kept = if self.is_upper { beyond >= 0 } else { beyond <= 0 };
            kept.push(is_kept.then_some(place));
        });
        Ok(vec![picked_or_nothing(inputs[0], &kept, shape)?])
    }
}
