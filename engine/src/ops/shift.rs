//! `BitShift` by as many bits as a number has or more, which leaves none: tract counts round instead.

use super::{
    arithmetic::spread,
    kernel::{Fact, Kernel, expect, picked, values, volume},
};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_core::broadcast::multi_broadcast,
    tract_hir::internal::{bail, ensure},
};

/// Which way the bits go.
#[derive(Debug)]
pub(super) struct Shift {
    is_left: bool,
}

pub(super) fn shift(node: &NodeProto) -> TractResult<Shift> {
    match node.get_attr::<&str>("direction")? {
        "LEFT" => Ok(Shift { is_left: true }),
        "RIGHT" => Ok(Shift { is_left: false }),
        other => bail!("shifts LEFT or RIGHT, got {other}"),
    }
}

impl Kernel for Shift {
    fn name(&self) -> &'static str {
        "BitShift"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [bits, by] = inputs else { bail!("takes numbers and how far to shift them") };
        expect(bits, &[DatumType::U8, DatumType::U16, DatumType::U32, DatumType::U64])?;
        ensure!(by.datum == bits.datum, "takes numbers of one type, got {:?} and {:?}", bits.datum, by.datum);
        Ok(vec![Fact::new(bits.datum, multi_broadcast(&[&bits.shape, &by.shape])?)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let shape = multi_broadcast(&[inputs[0].shape(), inputs[1].shape()])?;
        ensure!(volume(&shape)? < 1 << 27, "gives too many values");
        let datum = inputs[0].datum_type();
        let width = 8 * datum.size_of() as u64;
        let spread = |tensor: &Tensor| {
            let spread = picked(tensor, &spread(tensor, &shape), &shape)?;
            Ok::<_, tract_onnx::prelude::TractError>(values::<u64>(&*spread.cast_to::<u64>()?)?.to_vec())
        };
        let shifted = |(bits, by): (u64, u64)| match by {
            _ if by >= width => 0,
            by if self.is_left => (bits << by) & (u64::MAX >> (64 - width)),
            by => bits >> by,
        };
        let made: Vec<u64> = spread(inputs[0])?.into_iter().zip(spread(inputs[1])?).map(shifted).collect();
        Ok(vec![Tensor::from_shape(&shape, &made)?.cast_to_dt(datum)?.into_owned()])
    }
}
