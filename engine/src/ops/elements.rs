//! Functions of single values that tract has for 16 and 32 bits only, or answers wrongly: here for 64 as well. Narrower values are tract's,
//! whose kernels compute several at once, where it is right.

use super::{
    kernel::{Built, doubles, floats, narrowed, values},
    stock,
};
use std::f64::consts::FRAC_1_PI;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_core::ops::{
        element_wise::{ElementWiseMiniOp, ElementWiseOp},
        math,
        nn::{self, gelu_approximate::gelu_approximate},
    },
    tract_hir::internal::{
        DatumType, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec, Tensor, TensorProxy,
        TractResult, TypedModel, bail, ensure, expand,
    },
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    /// With how far it goes below 0.
    Celu(f32),
    Elu(f32),
    /// By tanh.
    Gelu,
    /// With the slope, and what is at 0.
    HardSigmoid(f32, f32),
    IsInf {
        negative: bool,
        positive: bool,
    },
    IsNaN,
    /// With the slope of what is below 0.
    LeakyRelu(f32),
    /// Halves to even.
    Round,
    /// With how far it goes below 0, and the factor of all.
    Selu(f32, f32),
    Sigmoid,
    Softplus,
    /// With the factor of the sigmoid's value.
    Swish(f32),
}

impl Eq for Function {}

pub(super) fn celu(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Function::Celu(node.get_attr_opt("alpha")?.unwrap_or(1.0))), Vec::new()))
}

pub(super) fn elu(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let alpha = node.get_attr_opt("alpha")?.unwrap_or(1.0);
    if is_ordinary(alpha) { stock("Elu")?(context, node) } else { Ok((expand(Function::Elu(alpha)), Vec::new())) }
}

/// Whether steps that are well known one by one, and which tract fuses or computes by eight, come to what onnxruntime answers.
fn is_ordinary(factor: f32) -> bool {
    factor.is_finite() && factor > 0.0
}

pub(super) fn gelu(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let by = node.get_attr_opt::<&str>("approximate")?;
    if by == Some("tanh") { Ok((expand(Function::Gelu), Vec::new())) } else { stock("Gelu")?(context, node) }
}

pub(super) fn hard_sigmoid(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let given = |name, default: f32| node.get_attr_opt(name).map(|value| value.unwrap_or(default));
    let (alpha, beta) = (given("alpha", 0.2)?, given("beta", 0.5)?);
    if is_ordinary(alpha) && beta.is_finite() {
        return stock("HardSigmoid")?(context, node);
    }
    Ok((expand(Function::HardSigmoid(alpha, beta)), Vec::new()))
}

pub(super) fn is_inf(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let flag = |name| Ok::<_, tract_onnx::prelude::TractError>(node.get_attr_opt::<i64>(name)?.unwrap_or(1) != 0);
    let function = Function::IsInf { negative: flag("detect_negative")?, positive: flag("detect_positive")? };
    Ok((expand(function), Vec::new()))
}

pub(super) fn is_nan(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(Function::IsNaN), Vec::new()))
}

pub(super) fn leaky_relu(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Function::LeakyRelu(node.get_attr_opt("alpha")?.unwrap_or(0.01))), Vec::new()))
}

pub(super) fn round(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(Function::Round), Vec::new()))
}

pub(super) fn selu(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let given = |name, default: f32| node.get_attr_opt(name).map(|value| value.unwrap_or(default));
    let (alpha, gamma) = (given("alpha", 1.673_263_2)?, given("gamma", 1.050_701)?);
    if is_ordinary(alpha) && is_ordinary(gamma) {
        return stock("Selu")?(context, node);
    }
    Ok((expand(Function::Selu(alpha, gamma)), Vec::new()))
}

pub(super) fn softplus(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(Function::Softplus), Vec::new()))
}

pub(super) fn sigmoid(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(Function::Sigmoid), Vec::new()))
}

pub(super) fn swish(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Function::Swish(node.get_attr_opt("alpha")?.unwrap_or(1.0))), Vec::new()))
}

/// The functions that bend at 0, in the type of their values: with parameters that are 0, infinite or no number, what comes out hangs on how
/// it is computed, and this is onnxruntime's way.
macro_rules! bent {
    ($function:expr, $value:ident: $type:ident) => {
        match $function {
            Function::Celu(alpha) => {
                let alpha = $type::from(alpha);
                let (above, below) = ($value, alpha * (($value / alpha).exp() - 1.0));
                let above = if above < 0.0 { 0.0 } else { above };
                Some(above + if below > 0.0 { 0.0 } else { below })
            }
            Function::Elu(_) | Function::LeakyRelu(_) if $value >= 0.0 => Some($value),
            Function::Elu(alpha) => Some($type::from(alpha) * ($value.exp() - 1.0)),
            Function::HardSigmoid(alpha, beta) => {
                Some(($type::from(alpha) * $value + $type::from(beta)).clamp(0.0, 1.0))
            }
            Function::LeakyRelu(alpha) => Some($type::from(alpha) * $value),
            Function::Selu(_, gamma) if $value > 0.0 => Some($type::from(gamma) * $value),
            Function::Selu(alpha, gamma) => Some($type::from(gamma) * $type::from(alpha) * ($value.exp() - 1.0)),
            _ => None,
        }
    };
}

impl Function {
    /// The values of a function that bends at 0; none for others.
    fn bent(self, tensor: &Tensor) -> TractResult<Option<Tensor>> {
        let shape = tensor.shape();
        let made = match tensor.datum_type() {
            DatumType::F64 => {
                let made = values::<f64>(tensor)?.iter().map(|&value| bent!(self, value: f64));
                made.collect::<Option<Vec<f64>>>().map(|made| Tensor::from_shape(shape, &made))
            }
            datum if datum.is_float() => {
                let singles = floats(tensor)?;
                let made = singles.iter().map(|&value| bent!(self, value: f32)).collect::<Option<Vec<f32>>>();
                made.map(|made| Ok(Tensor::from_shape(shape, &made)?.cast_to_dt(datum)?.into_owned()))
            }
            _ => None,
        };
        made.transpose()
    }

    fn title(self) -> &'static str {
        match self {
            Self::Celu(_) => "Celu",
            Self::Elu(_) => "Elu",
            Self::Gelu => "Gelu",
            Self::HardSigmoid(..) => "HardSigmoid",
            Self::IsInf { .. } => "IsInf",
            Self::IsNaN => "IsNaN",
            Self::LeakyRelu(_) => "LeakyRelu",
            Self::Round => "Round",
            Self::Selu(..) => "Selu",
            Self::Sigmoid => "Sigmoid",
            Self::Softplus => "Softplus",
            Self::Swish(_) => "Swish",
        }
    }

    /// Whether it asks something of a value, rather than computing another.
    fn is_question(self) -> bool {
        matches!(self, Self::IsInf { .. } | Self::IsNaN)
    }

    /// tract's own of narrower values, where that is right.
    fn narrow(self) -> Option<ElementWiseOp> {
        Some(match self {
            Self::Celu(_) | Self::Elu(_) | Self::HardSigmoid(..) | Self::Selu(..) => return None,
            Self::Softplus | Self::Swish(_) => return None,
            Self::Gelu => gelu_approximate(false),
            Self::IsInf { negative, positive } => math::is_inf(positive, negative),
            Self::IsNaN => math::is_nan(),
            Self::LeakyRelu(alpha) if alpha.is_finite() => nn::leaky_relu(alpha),
            Self::LeakyRelu(_) => return None,
            Self::Round => math::round_half_to_even(),
            Self::Sigmoid => nn::sigmoid(),
        })
    }

    fn of(self, tensor: &Tensor) -> TractResult<Tensor> {
        if let Some(bent) = self.bent(tensor)? {
            return Ok(bent);
        }
        let (values, shape) = (doubles(tensor)?, tensor.shape());
        let asked = |ask: &dyn Fn(f64) -> bool| -> TractResult<Tensor> {
            Tensor::from_shape(shape, &values.iter().map(|value| ask(*value)).collect::<Vec<_>>())
        };
        let computed = |compute: &dyn Fn(f64) -> f64| -> TractResult<Tensor> {
            let values: Vec<f64> = values.iter().map(|value| compute(*value)).collect();
            narrowed(&values, tensor.datum_type(), shape)
        };
        match self {
            Self::IsInf { negative, positive } => {
                asked(&|value| (negative && value == f64::NEG_INFINITY) || (positive && value == f64::INFINITY))
            }
            Self::IsNaN => asked(&f64::is_nan),
            // Hendrycks and Gimpel 2016, equation 2.
            Self::Gelu => computed(&|value| {
                let bent = (2.0 * FRAC_1_PI).sqrt() * (value + 0.044_715 * value.powi(3));
                0.5 * value * (1.0 + bent.tanh())
            }),
            Self::Round => computed(&f64::round_ties_even),
            Self::Sigmoid => computed(&|value| 1.0 / (1.0 + (-value).exp())),
            // Without a power of e that is infinite where the sum is not.
            Self::Softplus => computed(&|value| value.max(0.0) + (-value.abs()).exp().ln_1p()),
            Self::Swish(alpha) => computed(&|value| value / (1.0 + (-f64::from(alpha) * value).exp())),
            Self::Celu(_) | Self::Elu(_) | Self::HardSigmoid(..) | Self::LeakyRelu(_) | Self::Selu(..) => {
                bail!("takes floats, got {:?}", tensor.datum_type())
            }
        }
    }
}

impl Expansion for Function {
    fn name(&self) -> StaticName {
        self.title().into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 1, "takes one input, got {}", inputs.len());
        if self.is_question() {
            solver.equals(&outputs[0].datum_type, DatumType::Bool)?;
        } else {
            solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        }
        solver.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let is_wide = model.outlet_fact(inputs[0])?.datum_type == DatumType::F64;
        let own = || ElementWiseOp(Box::new(*self), None);
        model.wire_node(prefix, self.narrow().filter(|_| !is_wide).unwrap_or_else(own), inputs)
    }
}

impl ElementWiseMiniOp for Function {
    fn name(&self) -> String {
        self.title().into()
    }

    fn output_type(&self, input: DatumType) -> Option<DatumType> {
        Some(if self.is_question() { DatumType::Bool } else { input })
    }

    fn eval_out_of_place(&self, tensor: &Tensor, _: Option<DatumType>) -> TractResult<Tensor> {
        self.of(tensor)
    }
}
