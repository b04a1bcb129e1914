//! `Mul`, `Div`, `Pow` and `Clip` where tract's short cuts are wrong: a product with 0 is not 0 of infinities and of what is no number, two
//! factors are not their product where the first overflows, a power of one half is not the root of minus infinity, a power of whole numbers
//! goes by floats in onnxruntime, and a bound that is left out is the type's last number there.

use super::{
    kernel::{Built, Fact, Kernel, doubles, expansion, narrowed, picked, strides, values, volume, walk},
    stock_expansion,
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::f16,
    tract_core::{
        broadcast::multi_broadcast,
        ops::{
            change_axes::wire_rank_broadcast,
            element_wise::{ElementWiseMiniOp, ElementWiseOp},
            math,
        },
    },
    tract_hir::internal::{
        DatumType, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec, Tensor, TensorProxy,
        TractResult, TypedFact, TypedModel, bail, ensure, expand, tensor0,
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Mul,
    Div,
    Pow,
    Clip { has_least: bool, has_most: bool },
}

/// tract's operator but for the forms that are wrong.
#[derive(Debug, Clone)]
struct Guarded {
    operator: Operator,
    stock: Box<dyn Expansion>,
}

pub(super) fn mul(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    guarded(Operator::Mul, "Mul", context, node)
}

pub(super) fn div(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    guarded(Operator::Div, "Div", context, node)
}

pub(super) fn pow(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    guarded(Operator::Pow, "Pow", context, node)
}

pub(super) fn clip(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let given = |at: usize, name: &str| match context.onnx_operator_set_version {
        ..=10 => node.attribute.iter().any(|attribute| attribute.name == name),
        _ => node.input.get(at).is_some_and(|name| !name.is_empty()),
    };
    let (has_least, has_most) = (given(1, "min"), given(2, "max"));
    guarded(Operator::Clip { has_least, has_most }, "Clip", context, node)
}

fn guarded(operator: Operator, name: &str, context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Guarded { operator, stock: stock_expansion(name, context, node)? }), Vec::new()))
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.operator == other.operator && self.stock.name() == other.stock.name()
    }
}

impl Eq for Guarded {}

/// One number for each value, in an operator that tract leaves alone.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Alone {
    Times(f64),
    Over(f64),
    Root,
    /// Not farther from 0 than this.
    Within(f64),
}

impl Eq for Alone {}

/// A product that tract neither folds nor merges.
pub(super) fn times(factor: f64) -> ElementWiseOp {
    ElementWiseOp(Box::new(Alone::Times(factor)), None)
}

/// Whether a product with this loses what is infinite or no number, or overflows before another makes it small again.
pub(super) fn is_extreme(factor: f64) -> bool {
    const FAR: f64 = (1u64 << 60) as f64;
    !(1.0 / FAR..=FAR).contains(&factor.abs())
}

impl Alone {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Times(factor) => value * factor,
            Self::Over(divisor) => value / divisor,
            // Of minus infinity too, and 0 of minus 0.
            Self::Root if value == f64::NEG_INFINITY => f64::INFINITY,
            Self::Root => value.sqrt() + 0.0,
            Self::Within(most) => value.clamp(-most, most),
        }
    }
}

impl ElementWiseMiniOp for Alone {
    fn name(&self) -> String {
        match self {
            Self::Times(_) => "Mul",
            Self::Over(_) => "Div",
            Self::Root => "Pow",
            Self::Within(_) => "Clip",
        }
        .into()
    }

    fn eval_in_place(&self, tensor: &mut Tensor, _: Option<DatumType>) -> TractResult<()> {
        let datum = tensor.datum_type();
        let mut view = tensor.try_as_plain_ram_mut()?;
        // A product, a quotient or a root of two narrow numbers, computed wider, is rounded to the same as if it were not.
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the type of what comes in")]
        match datum {
            DatumType::F32 => view.as_slice_mut::<f32>()?.iter_mut().for_each(|x| *x = self.of(f64::from(*x)) as f32),
            DatumType::F64 => view.as_slice_mut::<f64>()?.iter_mut().for_each(|x| *x = self.of(*x)),
            DatumType::F16 => {
                let narrow = |x: f16| f16::from_f64(self.of(x.to_f64()));
                view.as_slice_mut::<f16>()?.iter_mut().for_each(|x| *x = narrow(*x));
            }
            other => bail!("takes floats, got {other:?}"),
        }
        Ok(())
    }
}

/// The one number that a constant holds.
fn number(fact: &TypedFact) -> Option<f64> {
    fact.uniform.as_ref().filter(|_| fact.konst.is_some())?.cast_to_scalar::<f64>().ok()
}

impl Guarded {
    /// What stands for it over its first input, or its second.
    fn alone(&self, facts: &[&TypedFact]) -> Option<(usize, Alone)> {
        let [first, second] = facts else { return None };
        let (at, op) = match (self.operator, number(first), number(second)) {
            (Operator::Mul, _, Some(factor)) if is_extreme(factor) => (0, Alone::Times(factor)),
            (Operator::Mul, Some(factor), _) if is_extreme(factor) => (1, Alone::Times(factor)),
            (Operator::Div, _, Some(divisor)) if is_extreme(divisor) => (0, Alone::Over(divisor)),
            (Operator::Pow, _, Some(0.5)) => (0, Alone::Root),
            _ => return None,
        };
        let datum = facts[at].datum_type;
        let is_float = matches!(datum, DatumType::F16 | DatumType::F32 | DatumType::F64);
        let is_like = self.operator == Operator::Pow || facts[1 - at].datum_type == datum;
        let shape = multi_broadcast(&[&first.shape, &second.shape]).ok()?;
        (is_float && is_like && facts[at].konst.is_none() && &*shape == facts[at].shape.dims()).then_some((at, op))
    }
}

impl Expansion for Guarded {
    fn name(&self) -> StaticName {
        self.stock.name()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.stock.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let (alone, datum, are_whole, are_mixed) = {
            let facts = inputs.iter().map(|input| model.outlet_fact(*input)).collect::<TractResult<TVec<_>>>()?;
            let (datum, are_whole) = (facts[0].datum_type, facts.iter().all(|fact| is_whole(fact.datum_type)));
            let are_mixed = facts.iter().all(|fact| fact.datum_type.is_number())
                && facts.iter().any(|fact| fact.datum_type != datum);
            (self.alone(&facts), datum, are_whole, are_mixed)
        };
        if let Some((at, op)) = alone {
            return model.wire_node(prefix, ElementWiseOp(Box::new(op), None), &inputs[at..=at]);
        }
        match self.operator {
            Operator::Pow if are_whole || are_mixed => expansion(Power).wire(prefix, model, inputs),
            Operator::Clip { has_least, has_most } if datum.is_float() && !(has_least && has_most) => {
                let most = match datum {
                    DatumType::F16 => f16::MAX.to_f64(),
                    DatumType::F32 => f32::MAX.into(),
                    _ => f64::MAX,
                };
                if !has_least && !has_most {
                    let op = ElementWiseOp(Box::new(Alone::Within(most)), None);
                    return model.wire_node(prefix, op, &inputs[..1]);
                }
                // By tract's operators, which products of matrices take along.
                let given = self.stock.wire(&format!("{prefix}.given"), model, inputs)?[0];
                let (bound, op) = if has_least { (most, math::min()) } else { (-most, math::max()) };
                let bound = tensor0(bound).cast_to_dt(datum)?.into_owned();
                let bound = model.add_const(format!("{prefix}.bound"), bound)?;
                let pair = wire_rank_broadcast(prefix, model, &[given, bound])?;
                model.wire_node(prefix, op, &pair)
            }
            _ => self.stock.wire(prefix, model, inputs),
        }
    }
}

fn is_whole(datum: DatumType) -> bool {
    datum.is_integer() && datum != DatumType::TDim
}

/// Where each value of a tensor comes from that is spread over a shape.
pub(super) fn spread(tensor: &Tensor, shape: &[usize]) -> Vec<usize> {
    let own: Vec<usize> =
        std::iter::repeat_n(1, shape.len() - tensor.rank()).chain(tensor.shape().iter().copied()).collect();
    let steps = strides(&own);
    let mut at = Vec::new();
    let place = |along: &[usize]| -> usize {
        let steps = along.iter().zip(&own).zip(&steps);
        steps.map(|((along, size), step)| if *size == 1 { 0 } else { along * step }).sum()
    };
    walk(shape, |_, along| at.push(place(along)));
    at
}

/// A power of whole numbers, or of two types, by 64-bit floats, as onnxruntime computes it.
#[derive(Debug)]
struct Power;

impl Kernel for Power {
    fn name(&self) -> &'static str {
        "Pow"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [base, exponent] = inputs else { bail!("takes a base and an exponent") };
        Ok(vec![Fact::new(base.datum, multi_broadcast(&[&base.shape, &exponent.shape])?)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (shape, datum) = (multi_broadcast(&[inputs[0].shape(), inputs[1].shape()])?, inputs[0].datum_type());
        ensure!(volume(&shape)? < 1 << 27, "gives too many values");
        let exponents = doubles(inputs[1])?;
        if let ([2.0 | 3.0], true, 2..) = (&*exponents, is_whole(datum), inputs[0].len()) {
            // These it multiplies out, in the numbers' own type.
            let bases = inputs[0].cast_to::<i64>()?;
            let square = |base: i64| base.wrapping_mul(base);
            let power = |base: &i64| if exponents == [2.0] { square(*base) } else { square(*base).wrapping_mul(*base) };
            return whole(values::<i64>(&bases)?.iter().map(power), datum, &shape);
        }
        let spread = |tensor: &Tensor| doubles(&picked(tensor, &spread(tensor, &shape), &shape)?);
        let (bases, exponents) = (spread(inputs[0])?, spread(inputs[1])?);
        let powers = bases.iter().zip(&exponents).map(|(base, exponent)| base.powf(*exponent));
        if datum.is_float() {
            return Ok(vec![narrowed(&powers.collect::<Vec<_>>(), datum, &shape)?]);
        }
        // What the type has no number for is its least on the processors that onnxruntime is asked on.
        let (least, most) =
            if datum == DatumType::I32 { (i32::MIN.into(), i32::MAX.into()) } else { (i64::MIN, i64::MAX) };
        let within = |power: &f64| (least as f64 - 1.0) < *power && *power < most as f64 + 1.0;
        #[expect(clippy::cast_possible_truncation, reason = "the nearest number towards 0 that the type has")]
        let powers = powers.map(|power| if within(&power) { power as i64 } else { least });
        whole(powers, datum, &shape)
    }
}

/// Numbers of a type of 64 bits, or the lowest 32 of each.
fn whole(values: impl Iterator<Item = i64>, datum: DatumType, shape: &[usize]) -> TractResult<Vec<Tensor>> {
    #[expect(clippy::cast_possible_truncation, reason = "as a product of 32 bits wraps")]
    let made = match datum {
        DatumType::I64 => Tensor::from_shape(shape, &values.collect::<Vec<_>>())?,
        DatumType::I32 => Tensor::from_shape(shape, &values.map(|value| value as i32).collect::<Vec<_>>())?,
        other => bail!("takes int32 or int64, got {other:?}"),
    };
    Ok(vec![made])
}
