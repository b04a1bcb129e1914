//! Reductions, softmax and top-k over short axes. tract slices an array or takes a scratch buffer for every one of them, which for a
//! table of 64 rows costs more than the rest of the model. A plan's operators are exchanged once its shapes are known; what comes
//! out has the same shape and type.
//!
//! tract also sums whole numbers in 32 bits and sorts with an order that is none where values are not numbers; these do not.

use std::cmp::Ordering;
use tract_onnx::{
    prelude::{Datum, DatumType, TractResult, TypedFact, TypedModel, tvec},
    tract_core::{
        internal::{
            EvalContext, EvalOp, Op, StaticName, TValue, TVec, Tensor, TypedOp, as_op, bail, ensure, op_as_typed_op,
            op_out_of_plan,
        },
        ops::{
            array::Topk,
            nn::{Reduce, Reducer, Softmax, SoftmaxKind},
        },
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
    /// Along these axes, where they are neighbours and there is something in them.
    fn new(shape: &[usize], axes: &[usize]) -> Option<Self> {
        let (first, last) = (*axes.first()?, *axes.last()?);
        let is_run = axes.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let length = shape.get(first..=last)?.iter().product();
        (is_run && !shape.contains(&0)).then(|| Self { first, last, length, inner: shape[last + 1..].iter().product() })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sum,
    Max,
    Min,
    ArgMax { last: bool },
    ArgMin { last: bool },
    Softmax(SoftmaxKind),
    Top { largest: bool },
}

/// Calls a method at an input's type.
macro_rules! dispatch {
    ($datum:expr, $self:ident.$method:ident($($argument:expr),*)) => {
        match $datum {
            DatumType::F32 => $self.$method::<f32>($($argument),*),
            DatumType::F64 => $self.$method::<f64>($($argument),*),
            DatumType::I64 => $self.$method::<i64>($($argument),*),
            DatumType::I32 => $self.$method::<i32>($($argument),*),
            other => bail!("does not take {other:?}"),
        }
    };
}

/// An operator of tract's, computed another way.
#[derive(Debug, Clone)]
struct Quick {
    replaced: Box<dyn TypedOp>,
    way: Way,
    along: Along,
}

/// Exchanges what is computed faster here.
pub(super) fn exchange(model: &mut TypedModel) -> TractResult<()> {
    for at in 0..model.nodes.len() {
        let quick = match model.node_input_facts(at)?.first() {
            Some(fact) => choose(&*model.node(at).op, fact),
            None => None,
        };
        if let Some((way, along)) = quick {
            let node = model.node_mut(at);
            node.op = Box::new(Quick { replaced: node.op.clone(), way, along });
        }
    }
    Ok(())
}

fn choose(op: &dyn TypedOp, input: &TypedFact) -> Option<(Way, Along)> {
    let (shape, datum) = (input.shape.as_concrete()?, input.datum_type);
    let is_plain = matches!(datum, DatumType::F32 | DatumType::F64 | DatumType::I64 | DatumType::I32);
    if let Some(Reduce { axes, reducer }) = op.downcast_ref::<Reduce>() {
        let along = Along::new(shape, axes)?;
        let is_quick = is_plain && (along.inner > 1 || along.length < SHORT || !datum.is_float());
        let way = match reducer {
            Reducer::ArgMax(last) => return is_plain.then_some((Way::ArgMax { last: *last }, along)),
            Reducer::ArgMin(last) => return is_plain.then_some((Way::ArgMin { last: *last }, along)),
            Reducer::Sum => Way::Sum,
            Reducer::Max => Way::Max,
            Reducer::Min => Way::Min,
            _ => return None,
        };
        return is_quick.then_some((way, along));
    }
    if let Some(Softmax { axes, quant_output_dt: None, kind }) = op.downcast_ref::<Softmax>() {
        let along = Along::new(shape, axes)?;
        let is_quick = datum == DatumType::F32 && along.inner == 1 && along.length < SHORT;
        return is_quick.then_some((Way::Softmax(*kind), along));
    }
    if let Some(Topk { axis, largest, .. }) = op.downcast_ref::<Topk>() {
        let along = Along::new(shape, &[*axis])?;
        return is_plain.then_some((Way::Top { largest: *largest }, along));
    }
    None
}

impl PartialEq for Quick {
    fn eq(&self, other: &Self) -> bool {
        self.way == other.way && self.along == other.along && self.replaced == other.replaced
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

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let k = inputs.get(1).map(|k| k.cast_to_scalar::<i64>());
        let input = &*inputs[0];
        match (self.way, input.datum_type()) {
            (Way::Softmax(kind), _) => self.softmax(input, kind),
            (Way::Top { largest }, datum) => {
                let k = usize::try_from(k.transpose()?.unwrap_or(1))?;
                ensure!(k <= self.along.length, "the {k} greatest of {}", self.along.length);
                dispatch!(datum, self.top(input, largest, k))
            }
            (_, datum) => dispatch!(datum, self.reduced(input)),
        }
    }
}

impl Quick {
    fn reduced<T: Number>(&self, input: &Tensor) -> TractResult<TVec<TValue>> {
        let values = plain::<T>(input)?;
        let shape = self.outer(input.shape(), 1);
        let made = match self.way {
            Way::Sum => tensor(&self.folded(values, T::plus), &shape),
            // The first stays unless another is better: what is no number stays where it is the first, as in onnxruntime.
            Way::Max => tensor(&self.folded(values, |best, value| if value > best { value } else { best }), &shape),
            Way::Min => tensor(&self.folded(values, |best, value| if value < best { value } else { best }), &shape),
            Way::ArgMax { last: false } => tensor(&self.places(values, |value, best| value > best), &shape),
            Way::ArgMax { last: true } => tensor(&self.places(values, |value, best| value >= best), &shape),
            Way::ArgMin { last: false } => tensor(&self.places(values, |value, best| value < best), &shape),
            Way::ArgMin { last: true } => tensor(&self.places(values, |value, best| value <= best), &shape),
            Way::Softmax(_) | Way::Top { .. } => bail!("reduces nothing"),
        };
        Ok(tvec![made?])
    }

    /// The input's shape with the axes that are worked along made `length` long altogether.
    fn outer(&self, shape: &[usize], length: usize) -> TVec<usize> {
        let mut shape: TVec<usize> = shape.into();
        shape[self.along.first..=self.along.last].fill(1);
        shape[self.along.first] = length;
        shape
    }

    fn blocks<'v, T>(&self, values: &'v [T]) -> impl Iterator<Item = &'v [T]> + use<'v, T> {
        values.chunks_exact(self.along.length * self.along.inner)
    }

    fn folded<T: Number>(&self, values: &[T], fold: impl Fn(T, T) -> T) -> Vec<T> {
        let Along { length, inner, .. } = self.along;
        let mut made = Vec::with_capacity(values.len() / length);
        for block in self.blocks(values) {
            if inner == 1 {
                made.extend(block.iter().copied().reduce(&fold));
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

    fn places<T: Number>(&self, values: &[T], is_better: impl Fn(T, T) -> bool) -> Vec<i64> {
        let inner = self.along.inner;
        let mut made = Vec::with_capacity(values.len() / self.along.length);
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
        let inner = self.along.inner;
        let (values, shape) = (plain::<T>(input)?, self.outer(input.shape(), k));
        let total = shape.iter().product();
        let (mut best, mut places) = (vec![T::ZERO; total], vec![0i64; total]);
        let mut order: Vec<(T, i64)> = Vec::with_capacity(self.along.length);
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

    fn softmax(&self, input: &Tensor, kind: SoftmaxKind) -> TractResult<TVec<TValue>> {
        let mut made = plain::<f32>(input)?.to_vec();
        for row in made.chunks_exact_mut(self.along.length) {
            let most =
                row.iter().copied().fold(f32::NEG_INFINITY, |most, value| if most > value { most } else { value });
            let mut sum = 0.0;
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
        Ok(tvec![tensor(&made, input.shape())?])
    }
}

/// A number that is compared and added.
trait Number: Datum + Copy + PartialOrd {
    const ZERO: Self;

    /// The sum; whole numbers wrap around.
    fn plus(self, other: Self) -> Self;

    /// Total: what is no number is greater than any.
    fn order(self, other: Self) -> Ordering {
        let no_number = |value: Self| value.partial_cmp(&value).is_none();
        self.partial_cmp(&other).unwrap_or_else(|| no_number(self).cmp(&no_number(other)))
    }
}

macro_rules! number {
    ($($type:ty, $a:ident, $b:ident => $sum:expr);*) => {
        $(impl Number for $type {
            const ZERO: Self = 0 as $type;
            fn plus(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                $sum
            }
        })*
    };
}
number!(f32, a, b => a + b; f64, a, b => a + b; i32, a, b => a.wrapping_add(b); i64, a, b => a.wrapping_add(b));

fn plain<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice()
}

fn tensor<T: Datum + Copy>(values: &[T], shape: &[usize]) -> TractResult<TValue> {
    Ok(Tensor::from_shape(shape, values)?.into())
}
