//! `Einsum`: sums of products over named dimensions. tract sums where its equations say the same as ONNX's; what they do not say
//! (dimensions of 1 that stretch, diagonals, one number as the answer, whole numbers of 64 bits) is summed here.

use super::kernel::{Built, Fact, Kernel, doubles, expansion, narrowed, strides, values, volume, walk};
use std::collections::BTreeMap;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractResult},
    tract_core::ops::einsum,
    tract_hir::internal::{
        AxesMapping, AxisOp, DimLike, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim, TVec,
        TensorProxy, TypedModel, anyhow, ensure, expand,
    },
};

/// A dimension of an input or of the output, as an equation names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// One of those that `...` stands for, counted from the first of the input that has most.
    Rest(usize),
    /// In the order of ONNX: small letters before capitals.
    Letter(bool, char),
}

/// One input's part of an equation; none is `...`.
type Term = Vec<Option<Name>>;

fn term(text: &str) -> TractResult<Term> {
    let (mut term, mut rest) = (Term::new(), text);
    while let Some(letter) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("...") {
            ensure!(!term.contains(&None), "has two ellipses in `{text}`");
            term.push(None);
            rest = behind;
            continue;
        }
        ensure!(letter.is_ascii_alphabetic(), "has `{letter}` in its equation");
        term.push(Some(Name::Letter(letter.is_ascii_uppercase(), letter)));
        rest = &rest[1..];
    }
    Ok(term)
}

/// Which dimension is which, of every input and of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axes {
    inputs: Vec<Vec<Name>>,
    output: Vec<Name>,
}

impl Axes {
    /// The size of each dimension by its name: a 1 stretches to the size that it has elsewhere.
    fn sizes(&self, shapes: &[TVec<TDim>]) -> TractResult<BTreeMap<Name, TDim>> {
        let mut sizes = BTreeMap::new();
        for (names, shape) in self.inputs.iter().zip(shapes) {
            for (name, size) in names.iter().zip(shape) {
                let known = sizes.entry(*name).or_insert_with(|| size.clone());
                if *known == TDim::from(1) {
                    *known = size.clone();
                }
                let differ = known.to_i64().ok().zip(size.to_i64().ok());
                let fits = differ.is_none_or(|(known, size)| size == known || size == 1);
                ensure!(fits, "has sizes {known} and {size} of one dimension");
            }
        }
        Ok(sizes)
    }

    pub(super) fn shape(&self, shapes: &[TVec<TDim>]) -> TractResult<TVec<TDim>> {
        let sizes = self.sizes(shapes)?;
        let size = |name| sizes.get(name).cloned().ok_or_else(|| anyhow!("has an output that no input has"));
        self.output.iter().map(size).collect()
    }

    /// The same without the dimensions of 1 that stretch, and which those are of each input, last one first. None where tract has no such
    /// sum: of nothing, over a diagonal, or to one number.
    fn plain(&self, shapes: &[TVec<TDim>]) -> TractResult<Option<(AxesMapping, Vec<Vec<usize>>)>> {
        let sizes = self.sizes(shapes)?;
        let stretched: Vec<Vec<usize>> = self
            .inputs
            .iter()
            .zip(shapes)
            .map(|(names, shape)| {
                let is_stretched = |at: &usize| shape[*at] == TDim::from(1) && sizes[&names[*at]] != TDim::from(1);
                (0..shape.len()).rev().filter(is_stretched).collect()
            })
            .collect();
        if self.output.is_empty() || sizes.len() > 26 {
            return Ok(None);
        }
        let spelt: BTreeMap<Name, char> = sizes.keys().copied().zip('a'..).collect();
        let mut terms = Vec::new();
        for (names, gone) in self.inputs.iter().zip(&stretched) {
            let left: Vec<char> =
                (0..names.len()).filter(|at| !gone.contains(at)).map(|at| spelt[&names[at]]).collect();
            let mut sorted = left.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if left.is_empty() || sorted.len() < left.len() {
                return Ok(None);
            }
            terms.push(String::from_iter(left));
        }
        let output = String::from_iter(self.output.iter().map(|name| spelt[name]));
        Ok(Some((format!("{}->{output}", terms.join(",")).parse()?, stretched)))
    }
}

/// The equation, before the inputs' numbers of dimensions say what its ellipses are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Equation {
    inputs: Vec<Term>,
    output: Option<Term>,
}

impl Equation {
    pub(super) fn read(text: &str) -> TractResult<Self> {
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let (inputs, output) = text.split_once("->").map_or((&*text, None), |(inputs, output)| (inputs, Some(output)));
        let inputs = inputs.split(',').map(term).collect::<TractResult<_>>()?;
        Ok(Self { inputs, output: output.map(term).transpose()? })
    }

    pub(super) fn axes(&self, ranks: &[usize]) -> TractResult<Axes> {
        ensure!(ranks.len() == self.inputs.len(), "takes {} inputs, got {}", self.inputs.len(), ranks.len());
        let mut rests = Vec::new();
        for (term, rank) in self.inputs.iter().zip(ranks) {
            let letters = term.iter().flatten().count();
            let rest = rank.checked_sub(letters).filter(|rest| *rest == 0 || term.contains(&None));
            rests.push(rest.ok_or_else(|| anyhow!("takes an input of {letters} dimensions, got {rank}"))?);
        }
        let most = rests.iter().copied().max().unwrap_or(0);
        let expanded = |term: &Term, rest: usize| -> Vec<Name> {
            let rest: Vec<Name> = (most - rest..most).map(Name::Rest).collect();
            term.iter().flat_map(|name| name.map_or_else(|| rest.clone(), |name| vec![name])).collect()
        };
        let inputs: Vec<Vec<Name>> = self.inputs.iter().zip(&rests).map(|(term, rest)| expanded(term, *rest)).collect();
        let output = match &self.output {
            Some(term) => {
                ensure!(most == 0 || term.contains(&None), "has an ellipsis in its inputs, and none in its output");
                expanded(term, most)
            }
            // What stands there once, in order.
            None => {
                let mut times: BTreeMap<Name, usize> = (0..most).map(|at| (Name::Rest(at), 1)).collect();
                let letters = self.inputs.iter().flatten().flatten();
                letters.for_each(|letter| *times.entry(*letter).or_default() += 1);
                times.into_iter().filter(|(_, times)| *times == 1).map(|(name, _)| name).collect()
            }
        };
        let is_twice = (1..output.len()).any(|at| output[..at].contains(&output[at]));
        ensure!(!is_twice, "has a dimension twice in its output");
        Ok(Axes { inputs, output })
    }
}

/// Whether tract sums products of this type.
pub(super) fn is_summed_by_tract(datum: DatumType) -> bool {
    matches!(datum, DatumType::F16 | DatumType::F32 | DatumType::F64 | DatumType::I32)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Einsum(Equation);

pub(super) fn einsum(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Einsum(Equation::read(node.get_attr("equation")?)?)), Vec::new()))
}

impl Expansion for Einsum {
    fn name(&self) -> StaticName {
        "Einsum".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(!inputs.is_empty(), "takes at least one input");
        solver.given(&inputs[0].datum_type, move |solver, datum| {
            solver.equals(&outputs[0].datum_type, Fact::new(datum, []).datum)
        })?;
        solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes: Vec<TVec<TDim>>| {
            let ranks: Vec<usize> = shapes.iter().map(|shape| shape.len()).collect();
            solver.equals(&outputs[0].shape, self.0.axes(&ranks)?.shape(&shapes)?)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let ranks: Vec<usize> =
            inputs.iter().map(|input| Ok(model.outlet_fact(*input)?.rank())).collect::<TractResult<_>>()?;
        sum(self.0.axes(&ranks)?, "Einsum", prefix, model, inputs)
    }
}

/// Sums by tract where it has such a sum.
pub(super) fn sum(
    axes: Axes,
    name: &'static str,
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let facts = inputs.iter().map(|input| model.outlet_fact(*input)).collect::<TractResult<Vec<_>>>()?;
    let datum = facts[0].datum_type;
    ensure!(facts.iter().all(|fact| fact.datum_type == datum), "takes inputs of one type");
    let shapes: Vec<TVec<TDim>> = facts.iter().map(|fact| fact.shape.to_tvec()).collect();
    let plain = if is_summed_by_tract(datum) { axes.plain(&shapes)? } else { None };
    let Some((mapping, stretched)) = plain else {
        return expansion(Products { axes, name }).wire(prefix, model, inputs);
    };
    let mut wires = TVec::from(inputs);
    for (at, gone) in stretched.iter().enumerate() {
        for axis in gone {
            wires[at] = model.wire_node(format!("{prefix}.stretched-{at}-{axis}"), AxisOp::Rm(*axis), &[wires[at]])?[0];
        }
    }
    model.wire_node(prefix, einsum::EinSum::new(mapping, datum), &wires)
}

/// Sums of products, one after the other.
#[derive(Debug)]
struct Products {
    axes: Axes,
    name: &'static str,
}

/// Products that are summed in one call: more would take minutes.
const MOST_PRODUCTS: u64 = 1 << 34;
/// Places that are listed for each input, but for those along a single dimension, which are as many as the input is long.
const MOST_LISTED: usize = 1 << 16;

/// Where the values lie that make one value of the output, and which those of the next are: for every input, steps along the output's
/// dimensions, along the first of those that are summed, and the places of all that is summed along the others.
struct Places {
    shape: Vec<usize>,
    steps: Vec<Vec<usize>>,
    outer: Vec<usize>,
    outer_steps: Vec<Vec<usize>>,
    listed: Vec<Vec<usize>>,
    terms: usize,
}

impl Products {
    /// Refuses what would be summed for too long.
    fn bounded(&self, shapes: &[TVec<TDim>]) -> TractResult<()> {
        let sizes = self.axes.sizes(shapes)?;
        let known = sizes.values().filter_map(|size| u64::try_from(size.to_i64().ok()?).ok());
        let products = known.fold(1, u64::saturating_mul);
        ensure!(
            products <= MOST_PRODUCTS,
            "would sum {products} products, more than {MOST_PRODUCTS}: multiply two inputs at a time, or send less at once"
        );
        Ok(())
    }

    fn places(&self, shapes: &[&[usize]]) -> TractResult<Places> {
        let dims: Vec<TVec<TDim>> =
            shapes.iter().map(|shape| shape.iter().map(|size| TDim::from(*size)).collect()).collect();
        self.bounded(&dims)?;
        let sizes = self.axes.sizes(&dims)?;
        let size =
            |names: &[Name]| names.iter().map(|name| Ok(sizes[name].to_usize()?)).collect::<TractResult<Vec<_>>>();
        let over: Vec<Name> = sizes.keys().copied().filter(|name| !self.axes.output.contains(name)).collect();
        let (shape, over_sizes) = (size(&self.axes.output)?, size(&over)?);
        // As many of the last dimensions as make a short list, and one at the least.
        let mut first_listed = over.len().saturating_sub(1);
        while first_listed > 0 && volume(&over_sizes[first_listed - 1..])? <= MOST_LISTED {
            first_listed -= 1;
        }
        let (outer, inner) = over_sizes.split_at(first_listed);
        let terms = volume(inner)?;
        let (mut steps, mut outer_steps, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for (names, own) in self.axes.inputs.iter().zip(shapes) {
            let by = strides(own);
            // A diagonal steps along both of its dimensions, what stretches along none.
            let step = |wanted: &Name| -> usize {
                (0..own.len()).filter(|at| names[*at] == *wanted && own[*at] != 1).map(|at| by[at]).sum()
            };
            steps.push(self.axes.output.iter().map(step).collect());
            outer_steps.push(over[..first_listed].iter().map(step).collect());
            let along: Vec<usize> = over[first_listed..].iter().map(step).collect();
            let mut places = Vec::with_capacity(terms);
            walk(inner, |_, at| places.push(reached(at, &along)));
            listed.push(places);
        }
        Ok(Places { shape, steps, outer: outer.to_vec(), outer_steps, listed, terms })
    }
}

/// The place that so many of these steps lead to.
fn reached(at: &[usize], steps: &[usize]) -> usize {
    at.iter().zip(steps).map(|(at, step)| at * step).sum()
}

impl Places {
    fn sums<T: Copy>(&self, inputs: &[&[T]], zero: T, one: T, add: fn(T, T) -> T, multiply: fn(T, T) -> T) -> Vec<T> {
        let mut sums = Vec::new();
        let mut first = vec![0; inputs.len()];
        walk(&self.shape, |_, at| {
            let mut sum = zero;
            walk(&self.outer, |_, outer| {
                for ((first, steps), outer_steps) in first.iter_mut().zip(&self.steps).zip(&self.outer_steps) {
                    *first = reached(at, steps) + reached(outer, outer_steps);
                }
                for term in 0..self.terms {
                    let mut product = one;
                    for (number, values) in inputs.iter().enumerate() {
                        product = multiply(product, values[first[number] + self.listed[number][term]]);
                    }
                    sum = add(sum, product);
                }
            });
            sums.push(sum);
        });
        sums
    }

    fn whole<T: Datum + Copy>(
        &self,
        inputs: &[&Tensor],
        [zero, one]: [T; 2],
        add: fn(T, T) -> T,
        multiply: fn(T, T) -> T,
    ) -> TractResult<Tensor> {
        let inputs = inputs.iter().map(|input| values::<T>(input)).collect::<TractResult<Vec<_>>>()?;
        Tensor::from_shape(&self.shape, &self.sums(&inputs, zero, one, add, multiply))
    }
}

impl Kernel for Products {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let shapes: Vec<TVec<TDim>> = inputs.iter().map(|input| input.shape.clone()).collect();
        let shape = self.axes.shape(&shapes)?;
        self.bounded(&shapes)?;
        let datum = inputs.first().map_or(DatumType::F32, |input| input.datum);
        let known = is_summed_by_tract(datum) || matches!(datum, DatumType::I64 | DatumType::U32 | DatumType::U64);
        ensure!(known, "takes floats and whole numbers of 32 or 64 bits, got {datum:?}");
        Ok(vec![Fact::new(datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
        let places = self.places(&shapes)?;
        Ok(vec![match inputs[0].datum_type() {
            DatumType::I32 => places.whole(inputs, [0, 1], i32::wrapping_add, i32::wrapping_mul)?,
            DatumType::I64 => places.whole(inputs, [0, 1], i64::wrapping_add, i64::wrapping_mul)?,
            DatumType::U32 => places.whole(inputs, [0, 1], u32::wrapping_add, u32::wrapping_mul)?,
            DatumType::U64 => places.whole(inputs, [0, 1], u64::wrapping_add, u64::wrapping_mul)?,
            datum => {
                let floats = inputs.iter().map(|input| doubles(input)).collect::<TractResult<Vec<_>>>()?;
                let floats: Vec<&[f64]> = floats.iter().map(Vec::as_slice).collect();
                narrowed(&places.sums(&floats, 0.0, 1.0, |a, b| a + b, |a, b| a * b), datum, &places.shape)?
            }
        }])
    }
}
