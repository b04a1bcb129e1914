//! `Pad`: tract's, but where it wraps around, cuts, or fills with what is no number.

use super::{
    kernel::{Built, Fact, Kernel, axis, expansion, picked, place, strides, values, walk},
    stock, stock_expansion,
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Datum, DatumType, TVec, Tensor, TractResult, f16, tensor1},
    tract_hir::internal::{
        Expansion, InferenceResult, OutletId, Solver, StaticName, TDim, TensorProxy, TypedModel, anyhow, bail,
        dispatch_datum, ensure, expand,
    },
};

/// What lies beyond an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// A value, which is 0 where none is given.
    Constant,
    /// The last value, again and again.
    Edge,
    /// The same values backwards, the last one not twice.
    Mirror,
    /// The same values from the other end.
    Round,
}

/// Cuts where pads are below 0, and then goes on beyond the ends that are left.
#[derive(Debug, Clone)]
struct Own {
    beyond: Beyond,
    /// Pads that stand in the node, up to opset 10, and the value there.
    fixed: Option<(Vec<i64>, f32)>,
    /// The inputs that are known: pads, and axes where they are given.
    known: Vec<usize>,
    axes: Option<usize>,
    value: Option<usize>,
}

pub(super) fn pad(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let beyond = match node.get_attr_opt::<&str>("mode")? {
        None | Some("constant") => Beyond::Constant,
        Some("edge") => Beyond::Edge,
        Some("reflect") => Beyond::Mirror,
        Some("wrap") => Beyond::Round,
        Some(other) => bail!("Pad has the mode {other}"),
    };
    if context.onnx_operator_set_version < 11 {
        let pads = node.get_attr_opt_vec::<i64>("pads")?.unwrap_or_default();
        if pads.iter().all(|pad| *pad >= 0) {
            return stock("Pad")?(context, node);
        }
        let fixed = Some((pads, node.get_attr_opt("value")?.unwrap_or(0.0)));
        let own = Own { beyond, fixed, known: Vec::new(), axes: None, value: None };
        return Ok((super::kernel::wrap(node, own), Vec::new()));
    }
    let (value, axes) = (place(node, 2), place(node, 3));
    let known = [1].into_iter().chain(axes).collect();
    let own = Own { beyond, fixed: None, known, axes, value };
    if beyond == Beyond::Round {
        return Ok((super::kernel::wrap(node, own), Vec::new()));
    }
    let stock = stock_expansion("Pad", context, node)?;
    Ok((expand(Either { own: expansion(own), stock }), Vec::new()))
}

/// tract's where it only adds numbers, else ours.
#[derive(Debug, Clone)]
struct Either {
    own: Box<dyn Expansion>,
    stock: Box<dyn Expansion>,
}

fn is_cut(pads: &Tensor) -> TractResult<bool> {
    Ok(values::<i64>(&*pads.cast_to::<i64>()?)?.iter().any(|pad| *pad < 0))
}

impl Expansion for Either {
    fn name(&self) -> StaticName {
        "Pad".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() >= 2, "takes values and pads");
        solver.given_2(&inputs[0].datum_type, &inputs[1].value, move |solver, datum, pads| {
            let rules = if datum == DatumType::Bool || is_cut(&pads)? { &self.own } else { &self.stock };
            rules.rules(solver, inputs, outputs)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let pads = model.outlet_fact(inputs[1])?.konst.clone();
        let is_own = model.outlet_fact(inputs[0])?.datum_type == DatumType::Bool
            || pads.map(|pads| is_cut(&pads)).transpose()?.unwrap_or(false);
        if is_own { self.own.wire(prefix, model, inputs) } else { self.stock.wire(prefix, model, inputs) }
    }
}

impl Own {
    /// Before and after each axis; below 0 cuts.
    fn pads(&self, rank: usize, inputs: &[Fact]) -> TractResult<Vec<[i64; 2]>> {
        let pads = match (&self.fixed, inputs.get(1)) {
            (Some((pads, _)), _) => pads.clone(),
            (None, Some(pads)) => pads.ints()?,
            (None, None) => bail!("takes values and pads"),
        };
        let axes = match self.axes.and_then(|axes| inputs.get(axes)) {
            Some(axes) => axes.ints()?.into_iter().map(|at| axis(at, rank)).collect::<TractResult<Vec<_>>>()?,
            None => (0..rank).collect(),
        };
        ensure!(pads.len() == 2 * axes.len(), "has {} pads for {} axes", pads.len(), axes.len());
        let mut each = vec![[0, 0]; rank];
        for (number, axis) in axes.iter().enumerate() {
            each[*axis] = [pads[number], pads[number + axes.len()]];
        }
        Ok(each)
    }

    fn shape(&self, from: &[usize], pads: &[[i64; 2]]) -> TractResult<Vec<usize>> {
        let size = |(size, [before, after]): (&usize, &[i64; 2])| {
            let sum = i64::try_from(*size).ok().and_then(|size| size.checked_add(*before)?.checked_add(*after));
            let sum = usize::try_from(sum?).ok()?;
            let left = Self::left(*size, [*before, *after])?;
            let most = [*before, *after].into_iter().max().unwrap_or(0);
            let fits = match self.beyond {
                Beyond::Constant => true,
                Beyond::Edge | Beyond::Round => sum == 0 || left > 0,
                Beyond::Mirror => most <= 0 || usize::try_from(most).is_ok_and(|most| most < left),
            };
            fits.then_some(sum)
        };
        let cannot =
            |(size, pads): (&usize, &[i64; 2])| anyhow!("cannot pad {size} values by {} and {}", pads[0], pads[1]);
        from.iter().zip(pads).map(|each| size(each).ok_or_else(|| cannot(each))).collect()
    }

    /// How many of an axis' values are left when it is cut.
    fn left(size: usize, pads: [i64; 2]) -> Option<usize> {
        let cut = |pad: i64| usize::try_from(pad.min(0).unsigned_abs()).ok();
        size.checked_sub(cut(pads[0])?)?.checked_sub(cut(pads[1])?)
    }

    /// Where a value of an axis comes from; none where it is the constant.
    fn source(&self, at: usize, size: usize, pads: [i64; 2]) -> Option<usize> {
        let first = i128::from(-pads[0].min(0));
        let left = Self::left(size, pads)? as i128;
        let back = at as i128 - i128::from(pads[0].max(0));
        let back = match self.beyond {
            Beyond::Constant => Some(back).filter(|back| (0..left).contains(back))?,
            Beyond::Edge => back.clamp(0, left - 1),
            Beyond::Round => back.rem_euclid(left),
            Beyond::Mirror if back < 0 => -back,
            Beyond::Mirror if back >= left => 2 * (left - 1) - back,
            Beyond::Mirror => back,
        };
        usize::try_from(first + back).ok()
    }
}

impl Kernel for Own {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn known(&self) -> &[usize] {
        &self.known
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let Some(whole) = inputs.first() else { bail!("takes values and pads") };
        if let Some(value) = self.value.and_then(|value| inputs.get(value)) {
            ensure!(value.datum == whole.datum, "fills {:?} with {:?}", whole.datum, value.datum);
        }
        let shape = self.shape(&whole.dims()?, &self.pads(whole.shape.len(), inputs)?)?;
        Ok(vec![Fact::new(whole.datum, shape.into_iter().map(TDim::from))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let from = inputs[0].shape();
        let fact = |(at, input): (usize, &&Tensor)| match at {
            0 => Fact::new(input.datum_type(), []),
            _ => Fact::of(input),
        };
        let facts: Vec<Fact> = inputs.iter().enumerate().map(fact).collect();
        let pads = self.pads(from.len(), &facts)?;
        let shape = self.shape(from, &pads)?;
        let steps = strides(from);
        let mut at = Vec::new();
        walk(&shape, |_, along| {
            let each =
                (0..from.len()).map(|axis| Some(self.source(along[axis], from[axis], pads[axis])? * steps[axis]));
            at.push(each.sum::<Option<usize>>());
        });
        if self.beyond != Beyond::Constant {
            let at: Vec<usize> = at.into_iter().flatten().collect();
            return Ok(vec![picked(inputs[0], &at, &shape)?]);
        }
        let datum = inputs[0].datum_type();
        let value = match (self.value.and_then(|value| inputs.get(value)), &self.fixed) {
            (Some(value), _) => (*value).clone(),
            (None, fixed) => {
                let value = fixed.as_ref().map_or(0.0, |(_, value)| *value);
                tensor1(&[value]).cast_to_dt(datum)?.into_owned()
            }
        };
        Ok(vec![dispatch_datum!(filled(datum)(inputs[0], &at, &value, &shape))?])
    }
}

/// The values at these places, and `value` where there is none.
fn filled<T: Datum>(tensor: &Tensor, at: &[Option<usize>], value: &Tensor, shape: &[usize]) -> TractResult<Tensor> {
    let (values, fill) = (values::<T>(tensor)?, values::<T>(value)?);
    let Some(fill) = fill.first() else { bail!("fills with nothing") };
    let filled: Vec<T> = at.iter().map(|at| at.map_or_else(|| fill.clone(), |at| values[at].clone())).collect();
    tensor1(&filled).into_shape(shape)
}
