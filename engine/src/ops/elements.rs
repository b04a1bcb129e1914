//! Functions of single values that tract has for 16 and 32 bits only: here for 64 as well. Narrower values are tract's, whose kernels
//! compute several at once.

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_core::ops::{element_wise::ElementWiseOp, math, nn},
    tract_hir::internal::{
        Datum, DatumType, EvalContext, EvalOp, Expansion, InferenceOp, InferenceResult, Op, OutletId, Solver,
        SpecialOps, StaticName, TValue, TVec, Tensor, TensorProxy, TractResult, TypedFact, TypedModel, TypedOp, as_op,
        ensure, expand, op_as_typed_op, op_out_of_plan, tvec,
    },
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
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
}

impl Eq for Function {}

type Read = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

pub(super) fn is_inf(_: &ParsingContext<'_>, node: &NodeProto) -> Read {
    let flag = |name| Ok::<_, tract_onnx::prelude::TractError>(node.get_attr_opt::<i64>(name)?.unwrap_or(1) != 0);
    let function = Function::IsInf { negative: flag("detect_negative")?, positive: flag("detect_positive")? };
    Ok((expand(function), Vec::new()))
}

pub(super) fn is_nan(_: &ParsingContext<'_>, _: &NodeProto) -> Read {
    Ok((expand(Function::IsNaN), Vec::new()))
}

pub(super) fn leaky_relu(_: &ParsingContext<'_>, node: &NodeProto) -> Read {
    Ok((expand(Function::LeakyRelu(node.get_attr_opt("alpha")?.unwrap_or(0.01))), Vec::new()))
}

pub(super) fn round(_: &ParsingContext<'_>, _: &NodeProto) -> Read {
    Ok((expand(Function::Round), Vec::new()))
}

pub(super) fn sigmoid(_: &ParsingContext<'_>, _: &NodeProto) -> Read {
    Ok((expand(Function::Sigmoid), Vec::new()))
}

impl Function {
    fn title(self) -> &'static str {
        match self {
            Self::IsInf { .. } => "IsInf",
            Self::IsNaN => "IsNaN",
            Self::LeakyRelu(_) => "LeakyRelu",
            Self::Round => "Round",
            Self::Sigmoid => "Sigmoid",
        }
    }

    /// Whether it asks something of a value, rather than computing another.
    fn is_question(self) -> bool {
        matches!(self, Self::IsInf { .. } | Self::IsNaN)
    }

    fn narrow(self) -> ElementWiseOp {
        match self {
            Self::IsInf { negative, positive } => math::is_inf(positive, negative),
            Self::IsNaN => math::is_nan(),
            Self::LeakyRelu(alpha) => nn::leaky_relu(alpha),
            Self::Round => math::round_half_to_even(),
            Self::Sigmoid => nn::sigmoid(),
        }
    }

    fn of(self, tensor: &Tensor) -> TractResult<Tensor> {
        let values = tensor.try_as_plain_ram()?;
        let values = values.as_slice::<f64>()?;
        let shape = tensor.shape();
        let asked = |ask: &dyn Fn(f64) -> bool| -> TractResult<Tensor> {
            Tensor::from_shape(shape, &values.iter().map(|value| ask(*value)).collect::<Vec<_>>())
        };
        let computed = |compute: &dyn Fn(f64) -> f64| -> TractResult<Tensor> {
            Tensor::from_shape(shape, &values.iter().map(|value| compute(*value)).collect::<Vec<_>>())
        };
        match self {
            Self::IsInf { negative, positive } => {
                asked(&|value| (negative && value == f64::NEG_INFINITY) || (positive && value == f64::INFINITY))
            }
            Self::IsNaN => asked(&f64::is_nan),
            Self::LeakyRelu(alpha) => computed(&|value| if value < 0.0 { value * f64::from(alpha) } else { value }),
            Self::Round => computed(&f64::round_ties_even),
            Self::Sigmoid => computed(&|value| 1.0 / (1.0 + (-value).exp())),
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
        match model.outlet_fact(inputs[0])?.datum_type {
            DatumType::F64 => model.wire_node(prefix, Wide(*self), inputs),
            _ => model.wire_node(prefix, self.narrow(), inputs),
        }
    }
}

/// The function of values of 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wide(Function);

impl Op for Wide {
    fn name(&self) -> StaticName {
        self.0.title().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Wide {
    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.0.of(&inputs[0])?.into()))
    }

    op_out_of_plan!();
}

impl TypedOp for Wide {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let datum = if self.0.is_question() { bool::datum_type() } else { f64::datum_type() };
        Ok(tvec!(TypedFact::dt_shape(datum, inputs[0].shape.clone())))
    }

    as_op!();
}
