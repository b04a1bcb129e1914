//! Reductions: which axes a node means, in every opset, and those that tract's own lack something of. `ReduceLogSumExp` takes the largest value
//! off before anything is exponentiated, since tract's own is infinite for the likelihoods of an ordinary naive Bayes model; `ReduceMax` and
//! `ReduceMin` go over truths and over nothing; whole numbers are summed as onnxruntime does.

mod whole;

use super::kernel::{Built, axis, expansion};
use tract_onnx::{
    model::{OnnxOpRegister, ParsingContext},
    pb::NodeProto,
    tract_core::ops::{cast::cast, math, nn},
    tract_hir::{
        internal::{
            AxisOp, DatumType, DimLike, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim,
            TVec, Tensor, TensorProxy, TractResult, TypedModel, bail, ensure, expand, tensor0, tvec,
        },
        ops::nn::{Reduce, Reducer},
    },
};
use whole::Whole;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reducing {
    reducer: Reducer,
    /// The axes that the node names itself; none: all.
    axes: Option<Vec<i64>>,
    /// Whether they are an input instead, which must be a constant.
    input: bool,
    /// Whether naming no axis means none rather than all.
    none: bool,
    keep: bool,
}

/// Every reduction of ONNX, with the name of what it does.
const REDUCERS: [(&str, Reducer); 10] = [
    ("ReduceL1", Reducer::L1),
    ("ReduceL2", Reducer::L2),
    ("ReduceLogSum", Reducer::LogSum),
    ("ReduceLogSumExp", Reducer::LogSumExp),
    ("ReduceMax", Reducer::Max),
    ("ReduceMean", Reducer::Mean),
    ("ReduceMin", Reducer::Min),
    ("ReduceProd", Reducer::Prod),
    ("ReduceSum", Reducer::Sum),
    ("ReduceSumSquare", Reducer::SumSquare),
];

pub(super) fn register(register: &mut OnnxOpRegister) {
    REDUCERS.iter().for_each(|(name, _)| register.insert(name, reduction));
}

fn reduction(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let Some((_, reducer)) = REDUCERS.iter().find(|(name, _)| *name == node.op_type) else {
        bail!("{} is no reduction", node.op_type)
    };
    let flag = |name, default: i64| node.get_attr_opt(name).map(|value: Option<i64>| value.unwrap_or(default) != 0);
    let input = node.input.get(1).is_some_and(|name| !name.is_empty());
    let (axes, none, keep) = (node.get_attr_opt_vec("axes")?, flag("noop_with_empty_axes", 0)?, flag("keepdims", 1)?);
    Ok((expand(Reducing { reducer: *reducer, axes, input, none, keep }), Vec::new()))
}

impl Reducing {
    /// The axes in order, from the front.
    fn axes(&self, rank: usize, named: Option<&Tensor>) -> TractResult<TVec<usize>> {
        let named = match named {
            Some(axes) => Some(axes.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.to_vec()),
            None => self.axes.clone(),
        };
        let named = named.unwrap_or_default();
        if named.is_empty() {
            return Ok(if self.none { tvec!() } else { (0..rank).collect() });
        }
        let mut axes = named.into_iter().map(|named| axis(named, rank)).collect::<TractResult<TVec<_>>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    fn reduce(&self, axes: &[usize]) -> TractResult<Reduce> {
        let axes = axes.iter().map(|axis| i64::try_from(*axis)).collect::<Result<_, _>>()?;
        Ok(Reduce::new(Some(axes), self.keep, Reducer::LogSumExp))
    }
}

/// The least and the greatest number of a type of floats, so that an infinite value is never taken off itself.
fn bounds(datum: DatumType) -> TractResult<(Tensor, Tensor)> {
    match datum {
        DatumType::F64 => Ok((tensor0(f64::MIN), tensor0(f64::MAX))),
        DatumType::F32 => Ok((tensor0(f32::MIN), tensor0(f32::MAX))),
        other => bail!("takes floats of 32 or 64 bits, got {other:?}"),
    }
}

/// All axes kept, those that are reduced as 1.
fn log_of_sum(prefix: &str, model: &mut TypedModel, input: OutletId, axes: &[usize]) -> TractResult<TVec<OutletId>> {
    let fact = model.outlet_fact(input)?.clone();
    let (least, greatest) = bounds(fact.datum_type)?;
    let least = model.add_const(format!("{prefix}.least"), least.broadcast_into_rank(fact.rank())?)?;
    let greatest = model.add_const(format!("{prefix}.greatest"), greatest.broadcast_into_rank(fact.rank())?)?;
    let max = nn::Reduce::new(axes.into(), nn::Reducer::Max);
    let top = model.wire_node(format!("{prefix}.top"), max, &[input])?[0];
    let top = model.wire_node(format!("{prefix}.above"), math::max(), &[top, least])?[0];
    let top = model.wire_node(format!("{prefix}.below"), math::min(), &[top, greatest])?[0];
    let low = model.wire_node(format!("{prefix}.low"), math::sub(), &[input, top])?;
    let powers = model.wire_node(format!("{prefix}.exp"), math::exp(), &low)?;
    let sum = nn::Reduce::new(axes.into(), nn::Reducer::Sum);
    let sum = model.wire_node(format!("{prefix}.sum"), sum, &powers)?;
    let log = model.wire_node(format!("{prefix}.ln"), math::ln(), &sum)?[0];
    model.wire_node(prefix, math::add(), &[log, top])
}

/// Most values that come of none.
const MAX_VALUES: usize = 1 << 24;

/// The same for the greatest or the least value. Of no values it is the one that all others are beyond.
fn extreme(
    prefix: &str,
    model: &mut TypedModel,
    input: OutletId,
    axes: &[usize],
    which: nn::Reducer,
) -> TractResult<TVec<OutletId>> {
    if axes.is_empty() {
        return Ok(tvec!(input));
    }
    let fact = model.outlet_fact(input)?.clone();
    let zero = TDim::from(0);
    if axes.iter().any(|axis| fact.shape[*axis] == zero) {
        let mut shape = fact.shape.to_tvec();
        axes.iter().for_each(|axis| shape[*axis] = 1.into());
        let shape = shape.iter().map(|dim| Ok(dim.to_usize()?)).collect::<TractResult<TVec<_>>>()?;
        let values = shape.iter().fold(1, |all: usize, dim| all.saturating_mul(*dim));
        ensure!(values <= MAX_VALUES, "gives {values} values of nothing, more than {MAX_VALUES}");
        let beyond = beyond(fact.datum_type, which == nn::Reducer::Max)?;
        return Ok(tvec!(model.add_const(prefix, beyond.broadcast_scalar_to_shape(&shape)?)?));
    }
    let reduce = nn::Reduce::new(axes.into(), which);
    if fact.datum_type != DatumType::Bool {
        return model.wire_node(prefix, reduce, &[input]);
    }
    let wire = model.wire_node(format!("{prefix}.as-number"), cast(DatumType::U8), &[input])?;
    let wire = model.wire_node(format!("{prefix}.of-numbers"), reduce, &wire)?;
    model.wire_node(prefix, cast(DatumType::Bool), &wire)
}

/// The least value of a type, or the greatest.
fn beyond(datum: DatumType, is_least: bool) -> TractResult<Tensor> {
    macro_rules! ends {
        ($($datum:ident: $type:ty, $least:ident, $greatest:ident;)*) => {
            Ok(match datum {
                $(DatumType::$datum => tensor0(if is_least { <$type>::$least } else { <$type>::$greatest }),)*
                DatumType::Bool => tensor0(!is_least),
                other => bail!("does not take {other:?} of no values"),
            })
        };
    }
    ends!(
        F32: f32, NEG_INFINITY, INFINITY; F64: f64, NEG_INFINITY, INFINITY;
        I8: i8, MIN, MAX; I16: i16, MIN, MAX; I32: i32, MIN, MAX; I64: i64, MIN, MAX;
        U8: u8, MIN, MAX; U16: u16, MIN, MAX; U32: u32, MIN, MAX; U64: u64, MIN, MAX;
    )
}

impl Expansion for Reducing {
    fn name(&self) -> StaticName {
        format!("Reduce{:?}", self.reducer).into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 1 + usize::from(self.input), "takes values and axes, got {} inputs", inputs.len());
        solver.given(&inputs[0].datum_type, move |solver, datum| {
            // tract has a type for sizes, which ONNX knows as whole numbers.
            solver.equals(&outputs[0].datum_type, if datum == DatumType::TDim { DatumType::I64 } else { datum })
        })?;
        solver.given(&inputs[0].shape, move |solver, shape| {
            if !self.input {
                let axes = self.axes(shape.len(), None)?;
                return solver.equals(&outputs[0].shape, self.reduce(&axes)?.output_shape(&shape));
            }
            solver.given(&inputs[1].value, move |solver, named| {
                let axes = self.axes(shape.len(), Some(&named))?;
                solver.equals(&outputs[0].shape, self.reduce(&axes)?.output_shape(&shape))
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let named = match inputs.get(1) {
            Some(axes) => Some(model.outlet_fact(*axes)?.konst.clone()),
            None => None,
        };
        let axes = match &named {
            Some(None) => bail!("takes axes that stand in the file"),
            Some(Some(named)) => self.axes(fact.rank(), Some(named))?,
            None => self.axes(fact.rank(), None)?,
        };
        let mut values = inputs[0];
        if fact.datum_type == DatumType::TDim {
            values = model.wire_node(format!("{prefix}.whole"), cast(DatumType::I64), &[values])?[0];
        }
        let are_whole = fact.datum_type.is_integer();
        let are_none = axes.iter().any(|axis| fact.shape[*axis] == TDim::from(0));
        let mut wire = match self.reducer {
            Reducer::Max => extreme(prefix, model, values, &axes, nn::Reducer::Max)?,
            Reducer::Min => extreme(prefix, model, values, &axes, nn::Reducer::Min)?,
            Reducer::Mean | Reducer::Prod | Reducer::Sum if axes.is_empty() => tvec!(values),
            Reducer::LogSumExp if fact.datum_type.is_unsigned() => bail!("takes no {:?}", fact.datum_type),
            reducer if are_whole => expansion(Whole { reducer, axes: axes.clone() }).wire(prefix, model, &[values])?,
            Reducer::LogSumExp => log_of_sum(prefix, model, values, &axes)?,
            // Of no values it is 0 to onnxruntime.
            Reducer::Mean if are_none => tvec!(Reducer::Sum.wire(axes.clone(), prefix, model, values)?),
            reducer => tvec!(reducer.wire(axes.clone(), prefix, model, values)?),
        };
        if !self.keep {
            for axis in axes.iter().rev() {
                wire = model.wire_node(format!("{prefix}.without-{axis}"), AxisOp::Rm(*axis), &wire)?;
            }
        }
        Ok(wire)
    }
}
