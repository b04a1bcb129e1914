//! `Max` and `Min`: what is no number is the answer wherever it meets others, as in onnxruntime; tract passes over it.

use super::{
    arithmetic::spread,
    kernel::{Fact, Kernel, values},
};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractResult, f16},
    tract_core::broadcast::multi_broadcast,
    tract_hir::internal::{bail, ensure},
};

#[derive(Debug)]
pub(super) struct Farthest {
    is_greatest: bool,
}

pub(super) fn greatest(_: &NodeProto) -> TractResult<Farthest> {
    Ok(Farthest { is_greatest: true })
}

pub(super) fn least(_: &NodeProto) -> TractResult<Farthest> {
    Ok(Farthest { is_greatest: false })
}

/// Numbers, some of which may be none.
trait Number: Datum + Copy + PartialOrd {
    fn is_none(self) -> bool;
}

macro_rules! numbers {
    ($($type:ty: $is_none:expr;)*) => {
        $(impl Number for $type {
            fn is_none(self) -> bool {
                let is_none: fn(Self) -> bool = $is_none;
                is_none(self)
            }
        })*
    };
}
numbers! {
    i8: |_| false;
    i16: |_| false;
    i32: |_| false;
    i64: |_| false;
    u8: |_| false;
    u16: |_| false;
    u32: |_| false;
    u64: |_| false;
    f16: f16::is_nan;
    f32: f32::is_nan;
    f64: f64::is_nan;
}

impl Farthest {
    fn of<T: Number>(&self, inputs: &[&Tensor]) -> TractResult<Tensor> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
        let shape = multi_broadcast(&shapes)?;
        let mut made: Option<Vec<T>> = None;
        for input in inputs {
            let own = values::<T>(input)?;
            let Some(made) = &mut made else {
                made = Some(match input.shape() == &*shape {
                    true => own.to_vec(),
                    false => spread(input, &shape).into_iter().map(|at| own[at]).collect(),
                });
                continue;
            };
            match own {
                _ if input.shape() == &*shape => made.iter_mut().zip(own).for_each(|(a, b)| *a = self.one(*a, *b)),
                [single] => made.iter_mut().for_each(|a| *a = self.one(*a, *single)),
                _ => made.iter_mut().zip(spread(input, &shape)).for_each(|(a, at)| *a = self.one(*a, own[at])),
            }
        }
        Tensor::from_shape(&shape, &made.unwrap_or_default())
    }

    fn one<T: Number>(&self, a: T, b: T) -> T {
        if a.is_none() || (!b.is_none() && (a > b) == self.is_greatest) { a } else { b }
    }
}

impl Kernel for Farthest {
    fn name(&self) -> &'static str {
        if self.is_greatest { "Max" } else { "Min" }
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let Some(first) = inputs.first() else { bail!("takes one tensor or more") };
        ensure!(inputs.iter().all(|input| input.datum == first.datum), "takes tensors of one type");
        let is_number = first.datum.is_integer() || first.datum.is_float();
        ensure!(is_number, "takes numbers, got {:?}", first.datum);
        let shapes: Vec<_> = inputs.iter().map(|input| &input.shape).collect();
        Ok(vec![Fact::new(first.datum, multi_broadcast(&shapes)?)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let Some(first) = inputs.first() else { bail!("takes one tensor or more") };
        Ok(vec![match first.datum_type() {
            DatumType::I8 => self.of::<i8>(inputs),
            DatumType::I16 => self.of::<i16>(inputs),
            DatumType::I32 => self.of::<i32>(inputs),
            DatumType::I64 => self.of::<i64>(inputs),
            DatumType::U8 => self.of::<u8>(inputs),
            DatumType::U16 => self.of::<u16>(inputs),
            DatumType::U32 => self.of::<u32>(inputs),
            DatumType::U64 => self.of::<u64>(inputs),
            DatumType::F16 => self.of::<f16>(inputs),
            DatumType::F32 => self.of::<f32>(inputs),
            DatumType::F64 => self.of::<f64>(inputs),
            other => bail!("takes numbers, got {other:?}"),
        }?])
    }
}
