//! Reductions, softmax and top-k over short axes. tract slices an array or takes a scratch buffer for every one of them, which for a
//! table of 64 rows costs more than the rest of the model. A plan's operators are exchanged once its shapes are known; what comes
//! out has the same shape and type.
//!
//! tract also sums whole numbers in 32 bits and sorts with an order that is none where values are not numbers; these do not.

use super::spread::Spread;
use std::{borrow::Cow, cmp::Ordering, sync::Arc};
use tract_onnx::{
    prelude::{Datum, DatumType, TractResult, TypedFact, TypedModel, tvec},
    tract_core::{
        internal::{
            EvalContext, EvalOp, IntoTensor, Op, OutletId, StaticName, TValue, TVec, Tensor, TypedOp, as_op, bail,
            ensure, op_as_typed_op, op_out_of_plan,
        },
        ops::{
            array::Topk,
            konst::Const,
            nn::{Reduce, Reducer, Softmax, SoftmaxKind},
            scan::OptScan,
        },
        plan::SimplePlan,
    },
};

/// From here on tract's vector kernels win over what they cost to call.
const SHORT: usize = 64;

/// Which axes of a row-major tensor are worked along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Along {
    first: usize,
    last: usize,
    /// How many values they hold.
    length: usize,
    /// How far two of these values lie apart.
    inner: usize,
}

impl Along {
    /// Each run of axes that are neighbours, the last first: as if those before it in this list were of length 1 by then. None where there
    /// is nothing in them.
    fn runs(shape: &[usize], axes: &[usize]) -> Option<Vec<Self>> {
        let is_sound = !axes.is_empty() && axes.is_sorted_by(|a, b| a < b) && !shape.contains(&0);
        let mut shape = shape.get(..=*axes.last()?).filter(|_| is_sound).map(|_| shape.to_vec())?;
        let runs = axes.chunk_by(|a, b| a + 1 == *b).collect::<Vec<_>>().into_iter().rev().map(|run| {
            let (first, last) = (run[0], run[run.len() - 1]);
            let length = shape[first..=last].iter().product();
            shape[first..=last].fill(1);
            Self { first, last, length, inner: shape[last + 1..].iter().product() }
        });
        Some(runs.collect())
    }

    fn is_short(&self) -> bool {
        self.inner > 1 || self.length < SHORT
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sum,
    Product,
    Max,
    Min,
    ArgMax { last: bool },
    ArgMin { last: bool },
    Softmax(SoftmaxKind),
    Top { largest: bool },
}

/// Calls a function at an input's type.
macro_rules! dispatch {
    ($datum:expr, $($part:ident).+($($argument:expr),*)) => {
        match $datum {
            DatumType::F32 => $($part).+::<f32>($($argument),*),
            DatumType::F64 => $($part).+::<f64>($($argument),*),
            DatumType::I64 => $($part).+::<i64>($($argument),*),
            DatumType::I32 => $($part).+::<i32>($($argument),*),
            other => bail!("does not take {other:?}"),
        }
    };
}

/// An operator of tract's, computed another way.
#[derive(Debug, Clone)]
struct Quick {
    replaced: Box<dyn TypedOp>,
    way: Way,
    /// Sums, greatest and least go along each; the others have one.
    runs: Vec<Along>,
}

/// Exchanges what is computed faster here, in the bodies of loops too.
pub(crate) fn exchange(model: &mut TypedModel) -> TractResult<()> {
    for at in 0..model.nodes.len() {
        if let Some(scan) = model.node(at).op.downcast_ref::<OptScan>() {
            let mut body = scan.plan.model().clone();
            exchange(&mut body)?;
            let mut scan = (**scan).clone();
            scan.plan = SimplePlan::new(body)?;
            model.node_mut(at).op = Box::new(OptScan::new(Arc::new(scan)));
            continue;
        }
        if let Some(value) = model.node(at).op.downcast_ref::<Const>().and_then(|constant| in_order(constant.val())) {
            let value = Arc::new(value);
            model.node_mut(at).op = Box::new(Const::new(Arc::clone(&value))?);
            model.set_outlet_fact(OutletId::new(at, 0), TypedFact::try_from(value)?)?;
            continue;
        }
        let exchanged = exchanged(&model.node(at).op, &model.node_input_facts(at)?);
        if let Some(op) = exchanged {
            model.node_mut(at).op = op;
        }
    }
    Ok(())
}

/// The same values with the strides of their shape. An axis of length 1 that tract has put in has a stride of its own, for which its
/// operators leave their quick ways.
fn in_order(value: &Tensor) -> Option<Tensor> {
    let is_in_order = value.strides() == &*Tensor::natural_strides(value.shape());
    let is_whole = value.datum_type().is_copy() && value.len() == value.shape().iter().product::<usize>();
    if is_in_order || !is_whole {
        return None;
    }
    value.clone().into_shape(&[value.len()]).ok()?.into_shape(value.shape()).ok()
}

#[expect(clippy::borrowed_box, reason = "is cloned")]
fn exchanged(op: &Box<dyn TypedOp>, inputs: &[&TypedFact]) -> Option<Box<dyn TypedOp>> {
    if let Some((way, runs)) = inputs.first().and_then(|fact| choose(&**op, fact)) {
        return Some(Box::new(Quick { replaced: op.clone(), way, runs }));
    }
    Some(Box::new(Spread::of(&**op, inputs)?))
}

fn choose(op: &dyn TypedOp, input: &TypedFact) -> Option<(Way, Vec<Along>)> {
    let (shape, datum) = (input.shape.as_concrete()?, input.datum_type);
    let is_plain = matches!(datum, DatumType::F32 | DatumType::F64 | DatumType::I64 | DatumType::I32);
    let (way, axes): (_, &[usize]) = if let Some(Reduce { axes, reducer }) = op.downcast_ref::<Reduce>() {
        match reducer {
            Reducer::ArgMax(last) => (Way::ArgMax { last: *last }, axes),
            Reducer::ArgMin(last) => (Way::ArgMin { last: *last }, axes),
            Reducer::Sum => (Way::Sum, axes),
            Reducer::Prod => (Way::Product, axes),
            Reducer::Max => (Way::Max, axes),
            Reducer::Min => (Way::Min, axes),
            _ => return None,
        }
    } else if let Some(Softmax { axes, quant_output_dt: None, kind }) = op.downcast_ref::<Softmax>() {
        (Way::Softmax(*kind), axes)
    } else if let Some(Topk { axis, largest, .. }) = op.downcast_ref::<Topk>() {
        (Way::Top { largest: *largest }, std::slice::from_ref(axis))
    } else {
        return None;
    };
    let runs = Along::runs(shape, axes)?;
    let is_quick = match way {
        Way::Sum | Way::Product | Way::Max | Way::Min => !datum.is_float() || runs.iter().all(Along::is_short),
        Way::Softmax(_) => datum == DatumType::F32 && matches!(&*runs, [run] if run.inner == 1 && run.length < SHORT),
        Way::ArgMax { .. } | Way::ArgMin { .. } | Way::Top { .. } => runs.len() == 1,
    };
    (is_plain && is_quick).then_some((way, runs))
}

impl PartialEq for Quick {
    fn eq(&self, other: &Self) -> bool {
        self.way == other.way && self.runs == other.runs && self.replaced == other.replaced
    }
}

impl Eq for Quick {}

impl Op for Quick {
    fn name(&self) -> StaticName {
        self.replaced.name()
    }

    op_as_typed_op!();
}

impl TypedOp for Quick {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.replaced.output_facts(inputs)
    }
}

impl EvalOp for Quick {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let k = inputs.get(1).map(|k| k.cast_to_scalar::<i64>()).transpose()?;
        let input = inputs.swap_remove(0);
        match (self.way, &*self.runs) {
            (Way::Softmax(kind), [run]) => run.softmax(input, kind),
            (Way::Top { largest }, [run]) => {
                let k = usize::try_from(k.unwrap_or(1))?;
                ensure!(k <= run.length, "the {k} greatest of {}", run.length);
                dispatch!(input.datum_type(), run.top(&input, largest, k))
            }
            (way, runs) => dispatch!(input.datum_type(), reduced(way, runs, &input)),
        }
    }
}

fn reduced<T: Number>(way: Way, runs: &[Along], input: &Tensor) -> TractResult<TVec<TValue>> {
    let mut shape: TVec<usize> = input.shape().into();
    runs.iter().for_each(|run| shape[run.first..=run.last].fill(1));
    let values = plain::<T>(input)?;
    let folded = |fold: fn(T, T) -> T| {
        let made = runs.iter().fold(Cow::Borrowed(values), |values, run| run.folded(&values, fold).into());
        tensor(&made, &shape)
    };
    let places = |is_better: fn(T, T) -> bool| match runs {
        [run] => tensor(&run.places(values, is_better), &shape),
        _ => bail!("looks along several axes"),
    };
    let made = match way {
        Way::Sum => folded(T::plus),
        Way::Product => folded(T::times),
        // The first stays unless another is better: what is no number stays where it is the first, as in onnxruntime.
        Way::Max => folded(|best, value| if value > best { value } else { best }),
        Way::Min => folded(|best, value| if value < best { value } else { best }),
        Way::ArgMax { last: false } => places(|value, best| value > best),
        Way::ArgMax { last: true } => places(|value, best| value >= best),
        Way::ArgMin { last: false } => places(|value, best| value < best),
        Way::ArgMin { last: true } => places(|value, best| value <= best),
        Way::Softmax(_) | Way::Top { .. } => bail!("reduces nothing"),
    };
    Ok(tvec![made?])
}

impl Along {
    fn blocks<'v, T>(&self, values: &'v [T]) -> impl Iterator<Item = &'v [T]> + use<'v, T> {
        values.chunks_exact(self.length * self.inner)
    }

    fn folded<T: Number>(&self, values: &[T], fold: fn(T, T) -> T) -> Vec<T> {
        let Self { length, inner, .. } = *self;
        let mut made = Vec::with_capacity(values.len() / length);
        for block in self.blocks(values) {
            if inner == 1 {
                made.extend(block.iter().copied().reduce(fold));
                continue;
            }
            let (first, rest) = block.split_at(inner);
            let start = made.len();
            made.extend_from_slice(first);
            for line in rest.chunks_exact(inner) {
                made[start..].iter_mut().zip(line).for_each(|(folded, value)| *folded = fold(*folded, *value));
            }
        }
        made
    }

    fn places<T: Number>(&self, values: &[T], is_better: fn(T, T) -> bool) -> Vec<i64> {
        let inner = self.inner;
        let mut made = Vec::with_capacity(values.len() / self.length);
        for block in self.blocks(values) {
            made.extend((0..inner).map(|column| {
                let mut best = (0, block[column]);
                for (place, value) in (1..).zip(block[column..].iter().skip(inner).step_by(inner)) {
                    if is_better(*value, best.1) {
                        best = (place, *value);
                    }
                }
                best.0
            }));
        }
        made
    }

    /// Equal values in the order of their places; what is no number is greater than any.
    fn top<T: Number>(&self, input: &Tensor, largest: bool, k: usize) -> TractResult<TVec<TValue>> {
        let inner = self.inner;
        let values = plain::<T>(input)?;
        let mut shape: TVec<usize> = input.shape().into();
        shape[self.first] = k;
        let total = shape.iter().product();
        let (mut best, mut places) = (vec![T::ZERO; total], vec![0i64; total]);
        let mut order: Vec<(T, i64)> = Vec::with_capacity(self.length);
        let compare = |(a, at): &(T, i64), (b, bt): &(T, i64)| {
            let by_value = if largest { b.order(*a) } else { a.order(*b) };
            by_value.then(at.cmp(bt))
        };
        let made = best.chunks_exact_mut((k * inner).max(1)).zip(places.chunks_exact_mut((k * inner).max(1)));
        for (block, (best, places)) in self.blocks(values).zip(made) {
            for column in 0..inner {
                order.clear();
                order.extend(block[column..].iter().step_by(inner).copied().zip(0..));
                if k < order.len() {
                    order.select_nth_unstable_by(k, compare);
                }
                order[..k].sort_unstable_by(compare);
                for (rank, (value, place)) in order[..k].iter().enumerate() {
                    best[rank * inner + column] = *value;
                    places[rank * inner + column] = *place;
                }
            }
        }
        Ok(tvec![tensor(&best, &shape)?, tensor(&places, &shape)?])
    }

    fn softmax(&self, input: TValue, kind: SoftmaxKind) -> TractResult<TVec<TValue>> {
        let mut made = input.into_tensor();
        let mut view = made.try_as_plain_ram_mut()?;
        for row in view.as_slice_mut::<f32>()?.chunks_exact_mut(self.length) {
            let most =
                row.iter().copied().fold(f32::NEG_INFINITY, |most, value| if most > value { most } else { value });
            let mut sum = 0f32;
            match kind {
                SoftmaxKind::Softmax => {
                    for value in &mut *row {
                        *value = (*value - most).exp();
                        sum += *value;
                    }
                    row.iter_mut().for_each(|value| *value /= sum);
                }
                SoftmaxKind::LogSoftmax => {
                    for value in &mut *row {
                        *value -= most;
                        sum += value.exp();
                    }
                    let log = sum.ln();
                    row.iter_mut().for_each(|value| *value -= log);
                }
            }
        }
        Ok(tvec![made.into()])
    }
}

/// A number that is compared and added.
trait Number: Datum + Copy + PartialOrd {
    const ZERO: Self;

    /// The sum; whole numbers wrap around.
    fn plus(self, other: Self) -> Self;

    /// The product; whole numbers wrap around.
    fn times(self, other: Self) -> Self;

    /// Total: what is no number is greater than any.
    fn order(self, other: Self) -> Ordering {
        let no_number = |value: Self| value.partial_cmp(&value).is_none();
        self.partial_cmp(&other).unwrap_or_else(|| no_number(self).cmp(&no_number(other)))
    }
}

macro_rules! number {
    ($($type:ty, $a:ident, $b:ident => $sum:expr, $product:expr);*) => {
        $(impl Number for $type {
            const ZERO: Self = 0 as $type;
            fn plus(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                $sum
            }
            fn times(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                $product
            }
        })*
    };
}
number!(
    f32, a, b => a + b, a * b;
    f64, a, b => a + b, a * b;
    i32, a, b => a.wrapping_add(b), a.wrapping_mul(b);
    i64, a, b => a.wrapping_add(b), a.wrapping_mul(b)
);

pub(super) fn plain<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice()
}

fn tensor<T: Datum + Copy>(values: &[T], shape: &[usize]) -> TractResult<TValue> {
    Ok(Tensor::from_shape(shape, values)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::{prelude::*, tract_core::ops::math::sub, tract_hir::internal::SpecialOps};

    #[test]
    fn a_constant_that_was_given_an_axis_has_the_strides_of_its_shape() -> TractResult<()> {
        let less: Vec<f32> = (0u8..64).map(f32::from).collect();
        let mut constant = tensor1(&less);
        constant.insert_axis(0)?;
        assert_ne!(constant.strides(), &*Tensor::natural_strides(constant.shape()));
        let mut model = TypedModel::default();
        let input = model.add_source("input", f32::fact([3, 64]))?;
        let constant = model.add_const("constant", constant)?;
        let difference = model.wire_node("difference", sub(), &[input, constant])?;
        model.select_output_outlets(&difference)?;
        let mut model = model.into_optimized()?;
        exchange(&mut model)?;
        let constants: Vec<_> = model.nodes.iter().filter_map(|node| node.op.downcast_ref::<Const>()).collect();
        assert_eq!(constants.len(), 1);
        assert_eq!(constants[0].val().strides(), [64, 1]);
        let input: Vec<f32> = less.iter().cycle().take(192).map(|value| value + 0.5).collect();
        let answer = model.into_runnable()?.run(tvec![tensor(&input, &[3, 64])?])?;
        assert_eq!(plain::<f32>(&answer[0])?, [0.5; 192]);
        Ok(())
    }
}
