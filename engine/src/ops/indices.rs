//! Operators that go by places or count: `OneHot`, `Range`, and `GatherND` and `ScatterND`, which tract has for places counted from the
//! front alone.

use super::{
    kernel::{Built, Fact, Kernel, axis, expansion, picked, values, volume},
    stock_expansion,
};
use std::sync::Arc;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Datum, DatumType, TVec, Tensor, TractResult, tensor1},
    tract_core::ops::array::GatherNd,
    tract_hir::internal::{
        DimLike, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim, TensorProxy, TypedModel,
        anyhow, bail, ensure, expand,
    },
};

/// One value where an index points, another everywhere else, and everywhere if it points beyond.
#[derive(Debug)]
pub(super) struct OneHot {
    axis: i64,
}

pub(super) fn one_hot(node: &NodeProto) -> TractResult<OneHot> {
    Ok(OneHot { axis: node.get_attr_opt("axis")?.unwrap_or(-1) })
}

impl OneHot {
    fn depth(depth: &Fact) -> TractResult<usize> {
        let [depth] = *depth.ints()? else { bail!("takes one depth") };
        usize::try_from(depth).ok().filter(|depth| *depth > 0).ok_or_else(|| anyhow!("has a depth of {depth}"))
    }
}

impl Kernel for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn known(&self) -> &[usize] {
        &[1]
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [indices, depth, values] = inputs else { bail!("takes indices, a depth and two values") };
        ensure!(*values.shape == [TDim::from(2)], "takes two values");
        let mut shape = indices.shape.clone();
        shape.insert(axis(self.axis, shape.len() + 1)?, Self::depth(depth)?.into());
        Ok(vec![Fact::new(values.datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let depth = Self::depth(&Fact::of(inputs[1]))?;
        let indices = inputs[0].cast_to::<i64>()?;
        let indices = values::<i64>(&indices)?;
        let mut shape = inputs[0].shape().to_vec();
        let along = axis(self.axis, shape.len() + 1)?;
        let inner = volume(&shape[along..])?;
        shape.insert(along, depth);
        let count = i64::try_from(depth)?;
        let mut at = vec![0; volume(&shape)?];
        for (place, index) in indices.iter().enumerate() {
            let index = if *index < 0 { index.saturating_add(count) } else { *index };
            if let Some(index) = usize::try_from(index).ok().filter(|index| *index < depth) {
                at[(place / inner * depth + index) * inner + place % inner] = 1;
            }
        }
        Ok(vec![picked(inputs[2], &at, &shape)?])
    }
}

/// From a number to another in steps: tract's where only a call tells the numbers.
#[derive(Debug, Clone)]
struct Range {
    stock: Box<dyn Expansion>,
}

pub(super) fn range(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Range { stock: stock_expansion("Range", context, node)? }), Vec::new()))
}

impl Expansion for Range {
    fn name(&self) -> StaticName {
        "Range".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 3, "takes a start, a limit and a step");
        solver.given(&inputs[0].datum_type, move |solver, datum| {
            solver.equals(&outputs[0].datum_type, Fact::new(datum, []).datum)
        })?;
        solver.equals(&outputs[0].rank, 1)?;
        solver.given_all(inputs.iter().map(|input| &input.value), move |solver, values: Vec<Arc<Tensor>>| {
            let values: Vec<&Tensor> = values.iter().map(|value| &**value).collect();
            match count(&values)? {
                Some(count) => solver.equals(&outputs[0].shape[0], TDim::from(count)),
                None => self.stock.rules(solver, inputs, outputs),
            }
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let facts = inputs.iter().map(|input| model.outlet_fact(*input)).collect::<TractResult<Vec<_>>>()?;
        let values: Option<Vec<&Tensor>> = facts.iter().map(|fact| fact.konst.as_deref()).collect();
        match values.map(|values| count(&values)).transpose()? {
            Some(Some(_)) => expansion(Numbers).wire(prefix, model, inputs),
            _ => self.stock.wire(prefix, model, inputs),
        }
    }
}

fn one<T: Datum + Copy>(tensor: &Tensor) -> TractResult<T> {
    let [value] = *values::<T>(tensor)? else { bail!("takes single numbers") };
    Ok(value)
}

/// How many numbers there are, counted as onnxruntime does; none where they are sizes that are not known.
fn count(numbers: &[&Tensor]) -> TractResult<Option<usize>> {
    let [start, limit, step] = numbers else { bail!("takes a start, a limit and a step") };
    let count = match start.datum_type() {
        DatumType::F32 => f64::from(one::<f32>(limit)? - one::<f32>(start)?) / f64::from(one::<f32>(step)?),
        DatumType::F64 => (one::<f64>(limit)? - one::<f64>(start)?) / one::<f64>(step)?,
        _ => {
            let mut whole = [0i64; 3];
            for (whole, number) in whole.iter_mut().zip(numbers) {
                let Ok(number) = number.cast_to::<i64>() else { return Ok(None) };
                *whole = one(&number)?;
            }
            let [start, limit, step] = whole.map(|whole| whole as f64);
            (limit - start) / step
        }
    };
    ensure!(!count.is_nan() && count.is_finite(), "has steps of no length");
    // More than there is memory for is refused by what it takes.
    Ok(Some(count.ceil().max(0.0) as usize))
}

/// `Range` of three constants.
#[derive(Debug)]
struct Numbers;

impl Kernel for Numbers {
    fn name(&self) -> &'static str {
        "Range"
    }

    fn known(&self) -> &[usize] {
        &[0, 1, 2]
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let values: Option<Vec<&Tensor>> = inputs.iter().map(|input| input.value.as_deref()).collect();
        let count = values.map(|values| count(&values)).transpose()?.flatten();
        let count = count.ok_or_else(|| anyhow!("takes three constants"))?;
        Ok(vec![Fact::new(inputs[0].datum, [TDim::from(count)])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let count = count(inputs)?.ok_or_else(|| anyhow!("takes three numbers"))?;
        let datum = inputs[0].datum_type();
        Ok(vec![match datum {
            DatumType::F32 => {
                let (start, step) = (one::<f32>(inputs[0])?, one::<f32>(inputs[2])?);
                tensor1(&(0..count).map(|at| start + at as f32 * step).collect::<Vec<_>>())
            }
            DatumType::F64 => {
                let (start, step) = (one::<f64>(inputs[0])?, one::<f64>(inputs[2])?);
                tensor1(&(0..count).map(|at| start + at as f64 * step).collect::<Vec<_>>())
            }
            _ => {
                let [start, step] = [0, 2].map(|at| inputs[at].cast_to::<i64>().and_then(|number| one::<i64>(&number)));
                let (start, step) = (start?, step?);
                let number = |at: usize| start.wrapping_add((at as i64).wrapping_mul(step));
                tensor1(&(0..count).map(number).collect::<Vec<_>>()).cast_to_dt(datum)?.into_owned()
            }
        }])
    }
}

/// `GatherND` and `ScatterND`: tract's, of places that are counted from the front and are there.
#[derive(Debug, Clone)]
struct ByPlace {
    /// None for `GatherND`, of which tract's reader takes another form.
    scatter: Option<Box<dyn Expansion>>,
    /// How many dimensions of the values the places say nothing of.
    batch: usize,
}

pub(super) fn gather_nd(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let batch = usize::try_from(node.get_attr_opt::<i64>("batch_dims")?.unwrap_or(0))?;
    Ok((expand(ByPlace { scatter: None, batch }), Vec::new()))
}

pub(super) fn scatter_nd(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(ByPlace { scatter: Some(stock_expansion("ScatterND", context, node)?), batch: 0 }), Vec::new()))
}

impl Expansion for ByPlace {
    fn name(&self) -> StaticName {
        if self.scatter.is_some() { "ScatterND".into() } else { "GatherND".into() }
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() >= 2, "takes values and places");
        if let Some(scatter) = &self.scatter {
            return scatter.rules(solver, inputs, outputs);
        }
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.given_2(&inputs[0].shape, &inputs[1].shape, move |solver, values, places| {
            let named = FromFront::sizes(self.batch, &values, &places)?.len();
            let shape = places[..places.len() - 1].iter().chain(&values[self.batch + named..]);
            solver.equals(&outputs[0].shape, shape.cloned().collect::<TVec<TDim>>())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let (values, places) = (model.outlet_fact(inputs[0])?, model.outlet_fact(inputs[1])?);
        let sizes = FromFront::sizes(self.batch, &values.shape.to_tvec(), &places.shape.to_tvec())?;
        let counted = FromFront { sizes };
        let mut inputs = TVec::from(inputs);
        inputs[1] = expansion(counted).wire(&format!("{prefix}.places"), model, &inputs[1..2])?[0];
        match &self.scatter {
            Some(scatter) => scatter.wire(prefix, model, &inputs),
            None => model.wire_node(prefix, GatherNd::new(self.batch), &inputs),
        }
    }
}

/// Places along dimensions of these sizes, counted from the front.
#[derive(Debug)]
struct FromFront {
    sizes: Vec<usize>,
}

impl FromFront {
    /// The sizes of the dimensions that places name.
    fn sizes(batch: usize, values: &[TDim], places: &[TDim]) -> TractResult<Vec<usize>> {
        let Some(named) = places.last() else { bail!("takes places, got a single number") };
        let named = batch.checked_add(named.to_usize()?).and_then(|end| values.get(batch..end));
        let named = named.ok_or_else(|| anyhow!("takes places in values of {} dimensions", values.len()))?;
        ensure!(places.len() > batch && places[..batch] == values[..batch], "takes places for each of a batch");
        named.iter().map(|size| Ok(size.to_usize()?)).collect()
    }
}

impl Kernel for FromFront {
    fn name(&self) -> &'static str {
        "places"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [places] = inputs else { bail!("takes places") };
        Ok(vec![Fact::new(DatumType::I64, places.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let places = inputs[0].cast_to::<i64>()?;
        let counted = values::<i64>(&places)?.iter().zip(self.sizes.iter().cycle()).map(|(place, size)| {
            let size = i64::try_from(*size)?;
            ensure!((-size..size).contains(place), "has no value at {place} of {size}");
            Ok(if *place < 0 { place + size } else { *place })
        });
        Ok(vec![Tensor::from_shape(inputs[0].shape(), &counted.collect::<TractResult<Vec<_>>>()?)?])
    }
}
