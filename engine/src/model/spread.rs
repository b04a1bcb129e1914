//! Sums, differences, products and quotients of tensors of which one or both are spread over the other's dimensions. tract looks up every
//! value's place there; here the innermost dimension is one loop, and those that lie alike are one dimension.

use super::quick::plain;
use tract_onnx::{
    prelude::{Datum, DatumType, TractResult, TypedFact, tvec},
    tract_core::{
        internal::{
            EvalContext, EvalOp, Op, StaticName, TValue, TVec, Tensor, TypedOp, as_op, bail, ensure, op_as_typed_op,
            op_out_of_plan,
        },
        ops::{
            binary::TypedBinOp,
            math::{Add, Div, Mul, Sub},
        },
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Add,
    Sub,
    Mul,
    Div,
}

/// A dimension, and how far its next value lies in each of the two inputs: nowhere, where that is spread along it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    length: usize,
    steps: [usize; 2],
}

/// An operator of tract's, computed another way.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    replaced: TypedBinOp,
    way: Way,
    shapes: [TVec<usize>; 2],
    shape: TVec<usize>,
    /// All dimensions but the innermost, the outermost first.
    outer: Vec<Axis>,
    inner: Axis,
}

impl Spread {
    /// This operator computed so, if it is one of these.
    pub(super) fn of(op: &dyn TypedOp, inputs: &[&TypedFact]) -> Option<Self> {
        let replaced = op.downcast_ref::<TypedBinOp>()?.clone();
        let TypedBinOp(computes, None) = &replaced else { return None };
        let way = if computes.is::<Add>() {
            Way::Add
        } else if computes.is::<Sub>() {
            Way::Sub
        } else if computes.is::<Mul>() {
            Way::Mul
        } else if computes.is::<Div>() {
            Way::Div
        } else {
            return None;
        };
        let [left, right] = inputs else { return None };
        let is_float = matches!(left.datum_type, DatumType::F32 | DatumType::F64);
        let shapes = [left, right].map(|fact| fact.shape.as_concrete().map(TVec::from));
        let [Some(left), Some(right)] = shapes else { return None };
        let is_spread = left != right && left.len() == right.len() && inputs[0].datum_type == inputs[1].datum_type;
        let (shape, mut outer) = axes(&left, &right).filter(|_| is_float && is_spread)?;
        let inner = outer.pop()?;
        Some(Self { replaced, way, shapes: [left, right], shape, outer, inner })
    }

    fn computed<T: Float>(&self, left: &Tensor, right: &Tensor) -> TractResult<Tensor> {
        let (left, right) = (plain::<T>(left)?, plain::<T>(right)?);
        let made = match self.way {
            Way::Add => self.each(left, right, |a, b| a + b),
            Way::Sub => self.each(left, right, |a, b| a - b),
            Way::Mul => self.each(left, right, |a, b| a * b),
            Way::Div => self.each(left, right, |a, b| a / b),
        };
        Tensor::from_shape(&self.shape, &made)
    }

    fn each<T: Float>(&self, left: &[T], right: &[T], compute: impl Fn(T, T) -> T + Copy) -> Vec<T> {
        let Axis { length, steps } = self.inner;
        let total = self.shape.iter().product();
        let mut made = Vec::with_capacity(total);
        let (mut counts, mut at) = (vec![0; self.outer.len()], [0; 2]);
        while made.len() < total {
            let [left, right] = [&left[at[0]..], &right[at[1]..]];
            match steps {
                [0, _] => made.extend(right[..length].iter().map(|right| compute(left[0], *right))),
                [_, 0] => made.extend(left[..length].iter().map(|left| compute(*left, right[0]))),
                _ => made.extend(left[..length].iter().zip(&right[..length]).map(|(a, b)| compute(*a, *b))),
            }
            for (count, axis) in counts.iter_mut().zip(&self.outer).rev() {
                *count += 1;
                (0..2).for_each(|side| at[side] += axis.steps[side]);
                if *count < axis.length {
                    break;
                }
                *count = 0;
                (0..2).for_each(|side| at[side] -= axis.length * axis.steps[side]);
            }
        }
        made
    }
}

/// The shape of what two of the same rank give, and its dimensions of more than one value, the outermost first; those that lie alike
/// in both are one. None where the two do not fit, or there is no value.
fn axes(left: &[usize], right: &[usize]) -> Option<(TVec<usize>, Vec<Axis>)> {
    let mut shape = TVec::new();
    let mut axes: Vec<Axis> = Vec::new();
    let mut strides = [1, 1];
    for lengths in left.iter().zip(right).rev().map(|(left, right)| [*left, *right]) {
        let length = if lengths[0] == 1 { lengths[1] } else { lengths[0] };
        if length == 0 || !lengths.iter().all(|own| [1, length].contains(own)) {
            return None;
        }
        shape.insert(0, length);
        let steps = [0, 1].map(|side| if lengths[side] == 1 { 0 } else { strides[side] });
        [0, 1].into_iter().for_each(|side| strides[side] *= lengths[side]);
        match axes.last_mut() {
            _ if length == 1 => {}
            Some(inner) if [0, 1].iter().all(|side| steps[*side] == inner.steps[*side] * inner.length) => {
                inner.length *= length;
            }
            _ => axes.push(Axis { length, steps }),
        }
    }
    axes.reverse();
    Some((shape, axes))
}

/// A number that is reckoned with.
trait Float:
    Datum
    + Copy
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
}
impl Float for f32 {}
impl Float for f64 {}

impl PartialEq for Spread {
    fn eq(&self, other: &Self) -> bool {
        self.shapes == other.shapes && self.replaced == other.replaced
    }
}

impl Eq for Spread {}

impl Op for Spread {
    fn name(&self) -> StaticName {
        self.replaced.name()
    }

    op_as_typed_op!();
}

impl TypedOp for Spread {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.replaced.output_facts(inputs)
    }
}

impl EvalOp for Spread {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [left, right] = &*inputs else { bail!("takes two inputs") };
        let is_fit = [left, right].iter().zip(&self.shapes).all(|(input, shape)| *input.shape() == **shape);
        ensure!(is_fit, "is planned for {:?}, got {:?} and {:?}", self.shapes, left.shape(), right.shape());
        Ok(tvec![
            match left.datum_type() {
                DatumType::F32 => self.computed::<f32>(left, right),
                _ => self.computed::<f64>(left, right),
            }?
            .into()
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tract_onnx::tract_core::ops::math;

    #[test]
    fn what_lies_alike_is_one_dimension() {
        let axis = |length, left, right| Axis { length, steps: [left, right] };
        assert_eq!(axes(&[64, 3, 5], &[1, 3, 5]).unwrap().1, [axis(64, 15, 0), axis(15, 1, 1)]);
        assert_eq!(axes(&[64, 1, 5], &[1, 3, 5]).unwrap().1, [axis(64, 5, 0), axis(3, 0, 5), axis(5, 1, 1)]);
        assert_eq!(axes(&[7, 2, 5], &[1, 1, 1]).unwrap().1, [axis(70, 1, 0)]);
        assert!(axes(&[2, 3], &[2, 2]).is_none() && axes(&[0, 3], &[1, 3]).is_none());
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_the_operator_replaced(
            dimensions in prop::collection::vec((1usize..5, any::<bool>(), any::<bool>()), 1..5),
            way in 0usize..4,
            datum in prop::sample::select(vec![DatumType::F32, DatumType::F64]),
        ) {
            let shape = |is_left: bool| -> Vec<usize> {
                dimensions.iter().map(|(length, left, right)| if if is_left { *left } else { *right } { 1 } else { *length }).collect()
            };
            let tensor = |shape: &[usize], from: f32| -> Tensor {
                let count = u16::try_from(shape.iter().product::<usize>()).unwrap();
                let values: Vec<f32> = (0..count).map(|value| f32::from(value) * 0.7 + from).collect();
                Tensor::from_shape(shape, &values).unwrap().cast_to_dt(datum).unwrap().into_owned()
            };
            let (left, right) = (tensor(&shape(true), -1.3), tensor(&shape(false), 0.9));
            let replaced = [math::add(), math::sub(), math::mul(), math::div()][way].clone();
            let facts = [&left, &right].map(|tensor| TypedFact::dt_shape(datum, tensor.shape()));
            prop_assume!(left.shape() != right.shape());
            let spread = Spread::of(&replaced, &[&facts[0], &facts[1]]).unwrap();
            let inputs: TVec<TValue> = tvec![left.into(), right.into()];
            let expected = replaced.eval(&EvalContext::out_of_plan(), inputs.clone()).unwrap();
            let made = spread.eval(&EvalContext::out_of_plan(), inputs).unwrap();
            prop_assert_eq!(&*made[0], &*expected[0]);
        }
    }
}
