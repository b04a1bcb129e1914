//! `Cast` to whole numbers of 64 bits, which tract takes for sizes, of which it keeps 32 bits: here only sizes stay sizes. And of floats to
//! narrower whole numbers and to text, and of truth to text, which tract rounds and spells otherwise.

use super::kernel::Built;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{TractError, f16, tensor1},
    tract_core::ops::{cast::cast, element_wise::ElementWiseMiniOp, element_wise::ElementWiseOp},
    tract_hir::internal::{
        Datum, DatumType, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec, Tensor,
        TensorProxy, TractResult, TypedModel, bail, ensure, expand,
    },
};

pub(super) fn to(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok(match node.get_attr::<DatumType>("to")? {
        DatumType::I64 => (expand(ToInt64), Vec::new()),
        to if Spelt::is_for(to) => {
            (expand(Like { stock: super::stock_expansion("Cast", context, node)?, to: Some(to) }), Vec::new())
        }
        _ => super::stock("Cast")?(context, node)?,
    })
}

/// `CastLike`, whose second input has the type, and `Cast` to some that tract takes others for.
#[derive(Debug, Clone)]
struct Like {
    stock: Box<dyn Expansion>,
    /// The type, where it is no input's.
    to: Option<DatumType>,
}

pub(super) fn like(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Like { stock: super::stock_expansion("CastLike", context, node)?, to: None }), Vec::new()))
}

fn is_whole(like: DatumType) -> bool {
    matches!(like, DatumType::I64 | DatumType::TDim)
}

impl Expansion for Like {
    fn name(&self) -> StaticName {
        "CastLike".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        if self.to.is_some() {
            return self.stock.rules(solver, inputs, outputs);
        }
        ensure!(inputs.len() == 2, "takes two inputs, got {}", inputs.len());
        solver.given(&inputs[1].datum_type, move |solver, like| {
            let rules = if is_whole(like) { &ToInt64 as &dyn Expansion } else { &*self.stock };
            rules.rules(solver, if is_whole(like) { &inputs[..1] } else { inputs }, outputs)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let from = model.outlet_fact(inputs[0])?.datum_type;
        let to = self.to.map_or_else(|| Ok::<_, TractError>(model.outlet_fact(inputs[1])?.datum_type), Ok)?;
        let is_spelt = from.is_float() || (from == DatumType::Bool && to == DatumType::String);
        match to {
            to if is_whole(to) => ToInt64.wire(prefix, model, &inputs[..1]),
            to if is_spelt && Spelt::is_for(to) => {
                model.wire_node(prefix, ElementWiseOp(Box::new(Spelt(to)), None), &inputs[..1])
            }
            _ => self.stock.wire(prefix, model, inputs),
        }
    }
}

/// What `Cast` gives for values of this type.
fn given(datum: DatumType) -> DatumType {
    if datum == DatumType::TDim { datum } else { DatumType::I64 }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ToInt64;

impl Expansion for ToInt64 {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 1, "takes one input, got {}", inputs.len());
        solver.equals(&inputs[0].shape, &outputs[0].shape)?;
        solver.given(&inputs[0].datum_type, move |solver, datum| solver.equals(&outputs[0].datum_type, given(datum)))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        match model.outlet_fact(inputs[0])?.datum_type {
            datum if datum.is_float() => model.wire_node(prefix, ElementWiseOp(Box::new(Truncated), None), inputs),
            datum => model.wire_node(prefix, cast(given(datum)), inputs),
        }
    }
}

/// Floats without what is behind the point. What no number of 64 bits is near to becomes the least one, as x86 has it and onnxruntime
/// there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Truncated;

/// The first number above all of 64 bits.
const END: f64 = -(i64::MIN as f64);

fn truncated(value: f64) -> i64 {
    if (-END..END).contains(&value) { value as i64 } else { i64::MIN }
}

impl ElementWiseMiniOp for Truncated {
    fn name(&self) -> String {
        "Cast".into()
    }

    fn output_type(&self, _: DatumType) -> Option<DatumType> {
        Some(DatumType::I64)
    }

    fn eval_out_of_place(&self, tensor: &Tensor, _: Option<DatumType>) -> TractResult<Tensor> {
        whole(tensor)
    }
}

/// Floats as narrower whole numbers: what 32 bits cannot hold becomes the least number of them, and of the rest each type keeps its lowest
/// bits, as x86 has it and onnxruntime there. As text they have 8 digits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spelt(DatumType);

impl Spelt {
    fn is_for(to: DatumType) -> bool {
        matches!(
            to,
            DatumType::U8
                | DatumType::I8
                | DatumType::U16
                | DatumType::I16
                | DatumType::I32
                | DatumType::U32
                | DatumType::String
        )
    }
}

impl ElementWiseMiniOp for Spelt {
    fn name(&self) -> String {
        "Cast".into()
    }

    fn output_type(&self, _: DatumType) -> Option<DatumType> {
        Some(self.0)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the lowest bits are what is kept")]
    fn eval_out_of_place(&self, tensor: &Tensor, _: Option<DatumType>) -> TractResult<Tensor> {
        let shape = tensor.shape();
        if tensor.datum_type() == DatumType::Bool {
            let words = super::kernel::values::<bool>(tensor)?.iter().map(|value| u8::from(*value).to_string());
            return tensor1(&words.collect::<Vec<_>>()).into_shape(shape);
        }
        let values = super::kernel::doubles(tensor)?;
        let narrow = |value: &f64| i32::try_from(truncated(*value)).unwrap_or(i32::MIN);
        macro_rules! each {
            ($of:expr) => {
                tensor1(&values.iter().map($of).collect::<Vec<_>>()).into_shape(shape)
            };
        }
        match self.0 {
            DatumType::U8 => each!(|value| narrow(value) as u8),
            DatumType::I8 => each!(|value| narrow(value) as i8),
            DatumType::U16 => each!(|value| narrow(value) as u16),
            DatumType::I16 => each!(|value| narrow(value) as i16),
            DatumType::I32 => each!(narrow),
            DatumType::U32 => each!(|value| truncated(*value) as u32),
            _ => each!(|value| text(*value)),
        }
    }
}

/// A number in 8 digits, as C's `%g` writes it.
fn text(value: f64) -> String {
    const DIGITS: usize = 8;
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.into();
    }
    let places = DIGITS - 1;
    let whole = format!("{value:.places$e}");
    let (number, power) = whole.split_once('e').unwrap_or((&whole, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let trimmed = |number: &str| match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number.to_owned(),
    };
    match usize::try_from(i64::from(power) + 4) {
        Ok(above) if above < DIGITS + 4 => {
            let places = DIGITS + 3 - above;
            trimmed(&format!("{value:.places$}"))
        }
        _ => format!("{}e{}{:02}", trimmed(number), if power < 0 { '-' } else { '+' }, power.abs()),
    }
}

/// Such values as numbers of 64 bits.
pub(super) fn whole(floats: &Tensor) -> TractResult<Tensor> {
    fn of<T: Datum + Copy + Into<f64>>(tensor: &Tensor) -> TractResult<Tensor> {
        let values = super::kernel::values::<T>(tensor)?;
        let ints: Vec<i64> = values.iter().map(|value| truncated((*value).into())).collect();
        Tensor::from_shape(tensor.shape(), &ints)
    }
    match floats.datum_type() {
        DatumType::F16 => of::<f16>(floats),
        DatumType::F32 => of::<f32>(floats),
        DatumType::F64 => of::<f64>(floats),
        other => bail!("takes floats, got {other:?}"),
    }
}
