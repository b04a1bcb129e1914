//! `Slice` by bounds that lie anywhere, as onnxruntime takes them: each is held within the axis before anything is picked, and no value may be
//! left. tract leaves some of them where they are, and forgets steps where bounds come with the call. What hangs on open sizes is tract's.

use super::kernel::{Built, Fact, Kernel, axis, expansion, picked, place, strides, values, walk};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, Symbol},
    tract_core::ops::{
        array::{Slice as Span, StridedSlice},
        downsample::Downsample,
    },
    tract_hir::internal::{
        DimLike, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim, TVec, Tensor, TensorProxy,
        TractResult, TypedFact, TypedModel, anyhow, bail, ensure, expand, tvec,
    },
};

/// The bounds of each axis that is sliced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bounds {
    starts: Vec<i64>,
    ends: Vec<i64>,
    /// None: the first ones.
    axes: Option<Vec<i64>>,
    /// None: 1 each.
    steps: Option<Vec<i64>>,
}

/// What is picked along one axis: so many places from the first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Picked {
    axis: usize,
    first: usize,
    step: isize,
    count: usize,
}

/// With the places of the inputs that name axes and steps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slice {
    axes: Option<usize>,
    steps: Option<usize>,
}

pub(super) fn slice(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Slice { axes: place(node, 3), steps: place(node, 4) }), Vec::new()))
}

impl Picked {
    /// Along an axis of `size` places.
    fn of(axis: usize, size: usize, start: i64, end: i64, step: i64) -> TractResult<Self> {
        ensure!(step != 0, "has a step of 0");
        let (size, step) = (i128::from(i64::try_from(size)?), i128::from(step));
        let from_front = |bound: i64| i128::from(bound) + if bound < 0 { size } else { 0 };
        let count = if size == 0 {
            0
        } else if step > 0 {
            let (start, end) = (from_front(start).clamp(0, size), from_front(end).clamp(0, size));
            (end - start + step - 1) / step
        } else {
            // As an end, the greatest number means no end, whichever way it goes.
            let is_open = end == i64::MAX || end == i64::from(i32::MAX);
            let end = if is_open { -1 } else { from_front(end).clamp(-1, size) };
            let start = from_front(start).clamp(0, size - 1);
            (start - end - step - 1) / -step
        };
        let first = from_front(start).clamp(0, if step > 0 { size } else { (size - 1).max(0) });
        let count = usize::try_from(count.max(0))?;
        // Of one value there is no other to step to.
        let step = if count > 1 { isize::try_from(step)? } else { 1 };
        Ok(Self { axis, first: usize::try_from(first)?, step, count })
    }

    /// The places from the least to the greatest, as a span.
    fn span(self) -> (usize, usize) {
        let reach = self.step.unsigned_abs() * self.count.saturating_sub(1);
        match self.count {
            0 => (0, 0),
            _ if self.step < 0 => (self.first - reach, self.first + 1),
            _ => (self.first, self.first + reach + 1),
        }
    }
}

impl Bounds {
    /// With the axes counted from the front: start, end and step of each.
    fn each(&self, rank: usize) -> TractResult<Vec<(usize, i64, i64, i64)>> {
        let count = self.starts.len();
        let axes = match &self.axes {
            Some(axes) => axes.iter().map(|named| axis(*named, rank)).collect::<TractResult<Vec<_>>>()?,
            None => (0..count).collect(),
        };
        let steps = self.steps.clone().unwrap_or_else(|| vec![1; count]);
        ensure!(
            self.ends.len() == count && axes.len() == count && steps.len() == count && count <= rank,
            "has {count} starts, {} ends, {} axes and {} steps for {rank} dimensions",
            self.ends.len(),
            axes.len(),
            steps.len()
        );
        ensure!((0..count).all(|at| !axes[..at].contains(&axes[at])), "names an axis twice");
        Ok((0..count).map(|at| (axes[at], self.starts[at], self.ends[at], steps[at])).collect())
    }
}

/// The whole numbers that a tensor holds; none where they hang on a size that is open.
fn numbers(tensor: &Tensor) -> Option<Vec<i64>> {
    Some(values::<i64>(&*tensor.cast_to::<i64>().ok()?).ok()?.to_vec())
}

/// Steps as tract takes them, which divides by them.
fn narrow(steps: &Tensor) -> TractResult<Vec<i32>> {
    let steps = numbers(steps).ok_or_else(|| anyhow!("takes whole numbers"))?;
    let narrow = |step: &i64| i32::try_from(*step).ok().filter(|step| *step != 0);
    let narrowed: Option<Vec<i32>> = steps.iter().map(narrow).collect();
    narrowed.ok_or_else(|| anyhow!("takes steps of 32 bits other than 0 over an open size, got {steps:?}"))
}

impl Slice {
    /// What tract has for the forms whose bounds or sizes are open.
    fn stock(&self) -> StridedSlice {
        StridedSlice {
            optional_axes_input: self.axes,
            optional_steps_input: self.steps,
            begin_mask: 0,
            end_mask: 0,
            shrink_axis_mask: 0,
        }
    }

    /// The bounds. `given` are the inputs but the first; nothing where one of them hangs on an open size.
    fn bounds(&self, given: &[&Tensor]) -> Option<Bounds> {
        let input = |at: usize| given.get(at - 1).and_then(|tensor| numbers(tensor));
        let optional = |at: Option<usize>| at.map_or(Some(None), |at| input(at).map(Some));
        Some(Bounds { starts: input(1)?, ends: input(2)?, axes: optional(self.axes)?, steps: optional(self.steps)? })
    }

    /// Bounds that come with the call; nothing where they are sizes, which tract follows.
    fn open(&self, model: &TypedModel, facts: &[TypedFact]) -> TractResult<Option<Open>> {
        let constant = |at: usize| facts[at].konst.as_deref();
        if constant(1).is_some() && constant(2).is_some() && self.steps.is_none_or(|at| constant(at).is_some()) {
            self.steps.and_then(constant).map(narrow).transpose()?;
            return Ok(None);
        }
        if facts[1..3].iter().any(|fact| fact.datum_type == DatumType::TDim) {
            let steps = self.steps.map(|at| constant(at).and_then(numbers));
            let are_one = steps.is_none_or(|steps| steps.is_some_and(|steps| steps.iter().all(|step| *step == 1)));
            ensure!(are_one, "takes steps other than 1 only between bounds that are known once sizes are");
            return Ok(None);
        }
        let axes = match self.axes {
            Some(at) => constant(at).and_then(numbers),
            None => facts[1].shape.iter().next().and_then(|count| Some((0..count.to_i64().ok()?).collect())),
        };
        let Some(axes) = axes else { bail!("takes axes that stand in the file") };
        let lengths = axes.iter().map(|_| model.symbols.new_with_prefix("sliced")).collect();
        Ok(Some(Open { axes, steps: self.steps, lengths }))
    }

    /// What is picked along each axis that is sliced; nothing where that hangs on an open size.
    fn picked(&self, shape: &[TDim], given: &[&Tensor]) -> TractResult<Option<Vec<Picked>>> {
        let Some(bounds) = self.bounds(given) else { return Ok(None) };
        let mut picked = Vec::new();
        for (axis, start, end, step) in bounds.each(shape.len())? {
            let Ok(size) = shape[axis].to_usize() else { return Ok(None) };
            picked.push(Picked::of(axis, size, start, end, step)?);
        }
        Ok(Some(picked))
    }

    fn shape(&self, shape: &[TDim], given: &[&Tensor]) -> TractResult<TVec<TDim>> {
        let mut made = TVec::from(shape);
        if let Some(picked) = self.picked(shape, given)? {
            picked.iter().for_each(|picked| made[picked.axis] = picked.count.into());
            return Ok(made);
        }
        let [starts, ends, ..] = given else { bail!("takes starts and ends") };
        let named = |at: Option<usize>| at.map(|at| given[at - 1].cast_to::<i64>()).transpose();
        let axes = named(self.axes)?
            .map_or_else(|| Ok((0..starts.len() as i64).collect()), |axes| values(&axes).map(<[i64]>::to_vec))?;
        let steps = match self.steps {
            Some(at) => narrow(given[at - 1])?,
            None => vec![1; axes.len()],
        };
        for (at, named) in axes.into_iter().enumerate() {
            let axis = axis(named, shape.len())?;
            made[axis] = self.stock().prepare_one_dim(at, &shape[axis], starts, ends, &steps)?.soft_len()?;
        }
        Ok(made)
    }
}

impl Expansion for Slice {
    fn name(&self) -> StaticName {
        "Slice".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!((3..=5).contains(&inputs.len()), "takes values and their bounds, got {} inputs", inputs.len());
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[0].rank, &outputs[0].rank)?;
        solver.given(&inputs[0].shape, move |solver, shape| {
            solver.given_all(inputs[1..].iter().map(|input| &input.value), move |solver, given| {
                let given: Vec<&Tensor> = given.iter().map(|tensor| &**tensor).collect();
                solver.equals(&outputs[0].shape, self.shape(&shape, &given)?)
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let facts = inputs.iter().map(|input| Ok(model.outlet_fact(*input)?.clone()));
        let facts = facts.collect::<TractResult<Vec<TypedFact>>>()?;
        let shape = facts[0].shape.to_tvec();
        let given: Option<Vec<&Tensor>> = facts[1..].iter().map(|fact| fact.konst.as_deref()).collect();
        let picked = given.map_or(Ok(None), |given| self.picked(&shape, &given))?;
        let Some(picked) = picked else {
            return match self.open(model, &facts)? {
                Some(open) => expansion(open).wire(prefix, model, inputs),
                None => model.wire_node(prefix, self.stock(), inputs),
            };
        };
        let mut wire = tvec!(inputs[0]);
        for picked in picked {
            let (axis, (start, end)) = (picked.axis, picked.span());
            if (start, end) != (0, shape[axis].to_usize()?) {
                wire = model.wire_node(format!("{prefix}.axis-{axis}"), Span::new(axis, start, end), &wire)?;
            }
            if picked.step != 1 {
                let step = Downsample::new(axis, picked.step, 0);
                wire = model.wire_node(format!("{prefix}.step-{axis}"), step, &wire)?;
            }
        }
        Ok(wire)
    }
}

/// Bounds that only a call knows.
#[derive(Debug)]
struct Open {
    axes: Vec<i64>,
    steps: Option<usize>,
    /// How much is left along each of these axes.
    lengths: Vec<Symbol>,
}

impl Kernel for Open {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn is_open(&self) -> bool {
        true
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [whole, ..] = inputs else { bail!("takes values and their bounds") };
        let mut shape = whole.shape.clone();
        for (named, length) in self.axes.iter().zip(&self.lengths) {
            shape[axis(*named, whole.shape.len())?] = length.clone().into();
        }
        Ok(vec![Fact::new(whole.datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let whole = inputs[0];
        let input = |at: usize| numbers(inputs[at]).ok_or_else(|| anyhow!("takes whole numbers"));
        let steps = self.steps.map(input).transpose()?;
        let bounds = Bounds { starts: input(1)?, ends: input(2)?, axes: Some(self.axes.clone()), steps };
        let mut shape = whole.shape().to_vec();
        let mut from = vec![(0, 1); shape.len()];
        for (axis, start, end, step) in bounds.each(whole.rank())? {
            let picked = Picked::of(axis, shape[axis], start, end, step)?;
            (shape[axis], from[axis]) = (picked.count, (picked.first, picked.step));
        }
        let steps = strides(whole.shape());
        let mut at = Vec::new();
        walk(&shape, |_, along| {
            let places =
                along.iter().zip(&from).map(|(along, (first, step))| first.wrapping_add_signed(*along as isize * step));
            at.push(places.zip(&steps).map(|(place, step)| place * step).sum());
        });
        Ok(vec![picked(whole, &at, &shape)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_picked_is_what_is_counted_out() {
        for size in [1, 2, 3, 7] {
            for (start, end) in (-9..=9).flat_map(|start| (-9..=9).map(move |end| (start, end))) {
                for step in [1, 2, 3, 8, i64::MAX, -1, -2, -3, -8, i64::MIN] {
                    let signed = size as i64;
                    let from_front = |bound: i64| if bound < 0 { bound + signed } else { bound };
                    let last = if step > 0 { signed } else { signed - 1 };
                    let (mut at, end_at) = (from_front(start).clamp(0, last), from_front(end));
                    let mut expected = Vec::new();
                    while (0..signed).contains(&at) && if step > 0 { at < end_at } else { at > end_at.max(-1) } {
                        expected.push(at as usize);
                        at = at.saturating_add(step);
                    }
                    let picked = Picked::of(0, size, start, end, step).unwrap();
                    let (first, past) = picked.span();
                    let mut places: Vec<usize> = (first..past).step_by(picked.step.unsigned_abs()).collect();
                    if picked.step < 0 {
                        places.reverse();
                    }
                    assert_eq!(places, expected, "{start}..{end} by {step} of {size}");
                }
            }
        }
    }
}
