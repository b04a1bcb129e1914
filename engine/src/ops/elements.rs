//! Functions of single values that tract has for 16 and 32 bits only, or answers wrongly: here for 64 as well. Narrower values are tract's,
//! whose kernels compute several at once, where it is right.

use super::kernel::{Built, doubles, narrowed};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_core::ops::{
        element_wise::{ElementWiseMiniOp, ElementWiseOp},
        math, nn,
    },
    tract_hir::internal::{
        DatumType, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec, Tensor, TensorProxy,
        TractResult, TypedModel, ensure, expand,
    },
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    /// With how far it goes below 0.
    Celu(f32),
    IsInf {
        negative: bool,
        positive: bool,
    },
    IsNaN,
    /// With the slope of what is below 0.
    LeakyRelu(f32),
    /// Halves to even.
    Round,
    Sigmoid,
    Softplus,
    /// With the factor of the sigmoid's value.
    Swish(f32),
}

impl Eq for Function {}

pub(super) fn celu(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Function::Celu(node.get_attr_opt("alpha")?.unwrap_or(1.0))), Vec::new()))
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

pub(super) fn softplus(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(Function::Softplus), Vec::new()))
}

pub(super) fn sigmoid(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(Function::Sigmoid), Vec::new()))
}

pub(super) fn swish(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Function::Swish(node.get_attr_opt("alpha")?.unwrap_or(1.0))), Vec::new()))
}

impl Function {
    fn title(self) -> &'static str {
        match self {
            Self::Celu(_) => "Celu",
            Self::IsInf { .. } => "IsInf",
            Self::IsNaN => "IsNaN",
            Self::LeakyRelu(_) => "LeakyRelu",
            Self::Round => "Round",
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
            Self::Celu(_) | Self::Softplus | Self::Swish(_) => return None,
            Self::IsInf { negative, positive } => math::is_inf(positive, negative),
            Self::IsNaN => math::is_nan(),
            Self::LeakyRelu(alpha) => nn::leaky_relu(alpha),
            Self::Round => math::round_half_to_even(),
            Self::Sigmoid => nn::sigmoid(),
        })
    }

    fn of(self, tensor: &Tensor) -> TractResult<Tensor> {
        let (values, shape) = (doubles(tensor)?, tensor.shape());
        let asked = |ask: &dyn Fn(f64) -> bool| -> TractResult<Tensor> {
            Tensor::from_shape(shape, &values.iter().map(|value| ask(*value)).collect::<Vec<_>>())
        };
        let computed = |compute: &dyn Fn(f64) -> f64| -> TractResult<Tensor> {
            let values: Vec<f64> = values.iter().map(|value| compute(*value)).collect();
            narrowed(&values, tensor.datum_type(), shape)
        };
        match self {
            Self::Celu(alpha) => {
                let alpha = f64::from(alpha);
                computed(&|value| if value < 0.0 { alpha * (value / alpha).exp_m1() } else { value })
            }
            Self::IsInf { negative, positive } => {
                asked(&|value| (negative && value == f64::NEG_INFINITY) || (positive && value == f64::INFINITY))
            }
            Self::IsNaN => asked(&f64::is_nan),
            Self::LeakyRelu(alpha) => computed(&|value| if value < 0.0 { value * f64::from(alpha) } else { value }),
            Self::Round => computed(&f64::round_ties_even),
            Self::Sigmoid => computed(&|value| 1.0 / (1.0 + (-value).exp())),
            // Without a power of e that is infinite where the sum is not.
            Self::Softplus => computed(&|value| value.max(0.0) + (-value.abs()).exp().ln_1p()),
            Self::Swish(alpha) => computed(&|value| value / (1.0 + (-f64::from(alpha) * value).exp())),
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
