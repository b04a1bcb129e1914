//! `Mod`. tract takes a remainder for a product: where what is divided is spread over what divides, it exchanges the two.

use super::{
    arithmetic::spread,
    kernel::{Fact, Kernel, values},
};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractResult},
    tract_core::broadcast::multi_broadcast,
    tract_hir::internal::{bail, ensure},
};

/// With the sign of what is divided, as in C, or of what divides, as in Python.
#[derive(Debug)]
pub(super) struct Remainder {
    is_of_c: bool,
}

pub(super) fn remainder(node: &NodeProto) -> TractResult<Remainder> {
    Ok(Remainder { is_of_c: node.get_attr_opt::<i64>("fmod")?.unwrap_or(0) != 0 })
}

/// A number of which remainders are taken.
trait Number: Datum + Copy {
    fn over(self, divisor: Self, is_of_c: bool) -> Self;
}

macro_rules! whole {
    ($($type:ty)*) => {
        $(impl Number for $type {
            fn over(self, divisor: Self, is_of_c: bool) -> Self {
                let rest = self.wrapping_rem(divisor);
                #[allow(unused_comparisons, reason = "of unsigned numbers none is negative")]
                let is_other = rest != 0 && (rest < 0) != (divisor < 0);
                if is_of_c || !is_other { rest } else { rest.wrapping_add(divisor) }
            }
        })*
    };
}
whole!(i8 i16 i32 i64 u8 u16 u32 u64);

macro_rules! floats {
    ($($type:ty)*) => {
        $(impl Number for $type {
            fn over(self, divisor: Self, is_of_c: bool) -> Self {
                let rest = self % divisor;
                let is_other = rest != 0.0 && (rest < 0.0) != (divisor < 0.0);
                if is_of_c || !is_other { rest } else { rest + divisor }
            }
        })*
    };
}
floats!(f32 f64);

impl Remainder {
    fn of<T: Number>(&self, inputs: [&Tensor; 2], shape: &[usize]) -> TractResult<Tensor> {
        let [numbers, divisors] = [values::<T>(inputs[0])?, values::<T>(inputs[1])?];
        let places = spread(inputs[0], shape).into_iter().zip(spread(inputs[1], shape));
        let rests: Vec<T> = places.map(|(a, b)| numbers[a].over(divisors[b], self.is_of_c)).collect();
        Tensor::from_shape(shape, &rests)
    }
}

impl Kernel for Remainder {
    fn name(&self) -> &'static str {
        "Mod"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [numbers, divisors] = inputs else { bail!("takes numbers and divisors") };
        let datum = numbers.datum;
        ensure!(divisors.datum == datum, "divides {datum:?} by {:?}", divisors.datum);
        let is_whole = datum.is_integer();
        ensure!(is_whole || matches!(datum, DatumType::F32 | DatumType::F64), "takes numbers, got {datum:?}");
        Ok(vec![Fact::new(datum, multi_broadcast(&[&numbers.shape, &divisors.shape])?)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let [numbers, divisors] = *inputs else { bail!("takes numbers and divisors") };
        let shape = multi_broadcast(&[numbers.shape(), divisors.shape()])?;
        let given = [numbers, divisors];
        Ok(vec![match numbers.datum_type() {
            DatumType::I8 => self.of::<i8>(given, &shape),
            DatumType::I16 => self.of::<i16>(given, &shape),
            DatumType::I32 => self.of::<i32>(given, &shape),
            DatumType::I64 => self.of::<i64>(given, &shape),
            DatumType::U8 => self.of::<u8>(given, &shape),
            DatumType::U16 => self.of::<u16>(given, &shape),
            DatumType::U32 => self.of::<u32>(given, &shape),
            DatumType::U64 => self.of::<u64>(given, &shape),
            DatumType::F32 => self.of::<f32>(given, &shape),
            DatumType::F64 => self.of::<f64>(given, &shape),
            other => bail!("takes numbers, got {other:?}"),
        }?])
    }
}
