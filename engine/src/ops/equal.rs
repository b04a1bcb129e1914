//! `Equal` of truths and of texts: tract's is of numbers alone.

use super::{
    arithmetic::spread,
    either::either,
    kernel::{Built, Fact, Kernel, values},
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractResult},
    tract_core::broadcast::multi_broadcast,
    tract_hir::internal::{bail, ensure},
};

#[derive(Debug)]
struct Equal;

pub(super) fn equal(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    either(context, node, Equal, |inputs| {
        inputs.iter().any(|input| matches!(input.datum_type, DatumType::Bool | DatumType::String))
    })
}

fn compared<T: Datum>([left, right]: [&Tensor; 2], shape: &[usize]) -> TractResult<Tensor> {
    let places = spread(left, shape).into_iter().zip(spread(right, shape));
    let (left, right) = (values::<T>(left)?, values::<T>(right)?);
    let equal: Vec<bool> = places.map(|(a, b)| left[a] == right[b]).collect();
    Tensor::from_shape(shape, &equal)
}

impl Kernel for Equal {
    fn name(&self) -> &'static str {
        "Equal"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [left, right] = inputs else { bail!("takes two tensors") };
        ensure!(left.datum == right.datum, "compares {:?} with {:?}", left.datum, right.datum);
        Ok(vec![Fact::new(DatumType::Bool, multi_broadcast(&[&left.shape, &right.shape])?)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let [left, right] = *inputs else { bail!("takes two tensors") };
        let shape = multi_broadcast(&[left.shape(), right.shape()])?;
        let compared = match left.datum_type() {
            DatumType::Bool => compared::<bool>([left, right], &shape),
            _ => compared::<String>([left, right], &shape),
        };
        Ok(vec![compared?])
    }
}
