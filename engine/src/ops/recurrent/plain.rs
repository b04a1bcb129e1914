//! The forms that tract's own operators answer rightly. Those win where much is multiplied at once, wide states of several sequences;
//! elsewhere the kernel here does, which has no graph to run at each step.

use super::{
    super::{
        as_expansion,
        kernel::{Built, Fact, Kernel, expansion, one, place, values, wrap},
        stock_expansion,
    },
    Recurrent, Weights,
};
use std::sync::Arc;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractError, TractResult, f16, tensor1},
    tract_hir::internal::{
        DimLike, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim, TVec, TensorProxy,
        TypedModel, anyhow, bail, dispatch_datum, expand,
    },
};

/// A state of more values than this has weights that do not stay near, which tract multiplies better where there are several sequences.
const WIDE: usize = 128;

/// Whether the node is of such a form; `usual` are the activations that tract computes.
pub(super) fn is_plain(node: &NodeProto, usual: &[&str]) -> bool {
    let is_usual = |attribute: &tract_onnx::pb::AttributeProto| match &*attribute.name {
        "activations" => {
            let names = attribute.strings.iter().zip(usual.iter().cycle());
            names.into_iter().all(|(name, usual)| name.eq_ignore_ascii_case(usual.as_bytes()))
        }
        "clip" => false,
        "input_forget" => attribute.i == 0,
        _ => true,
    };
    node.attribute.iter().all(is_usual) && place(node, 4).is_none()
}

/// Either way, as the number of sequences wants it.
#[derive(Debug, Clone)]
struct Either(Arc<Ways>);

#[derive(Debug)]
struct Ways {
    own: Recurrent,
    /// The same for tract, which tells shapes by it.
    told: Box<dyn Expansion>,
    /// The node's outputs.
    node: NodeProto,
    /// tract's, of a plain form.
    stock: Option<Box<dyn Expansion>>,
    begins: Option<Begins>,
    /// Backwards alone: tract goes forwards all the same, so what goes in and the states of all steps, if they come out, are turned round.
    is_backwards: bool,
    gives_all: bool,
}

/// What an `LSTM` that gives its last memory begins with: tract mixes up its states as soon as there are two sequences unless they are
/// inputs, and turns the axes of one alone where the two are one tensor, or constants that it makes one of. So it gets both, apart.
#[derive(Debug)]
struct Begins {
    /// Where they stand among the inputs, if they are given.
    given: [Option<usize>; 2],
    /// Where they stand among those of tract's operator.
    at: usize,
    peepholes: Option<usize>,
}

impl Begins {
    fn of(node: &NodeProto, own: &Recurrent) -> Option<Self> {
        let gives_memory = node.output.get(2).is_some_and(|name| !name.is_empty());
        (own.name == "LSTM" && gives_memory).then(|| Self {
            given: [own.state, own.memory],
            at: 3 + usize::from(own.bias.is_some()),
            peepholes: own.peepholes,
        })
    }

    /// The inputs of tract's operator.
    fn spelt_out(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
        shape: &[usize],
    ) -> TractResult<TVec<OutletId>> {
        let mut begins = Vec::with_capacity(2);
        for (name, given) in ["state", "memory"].into_iter().zip(self.given) {
            begins.push(match given {
                Some(at) => inputs[at],
                None => {
                    let datum = model.outlet_fact(inputs[0])?.datum_type;
                    model.add_const(format!("{prefix}.no-{name}"), Tensor::zero_dt(datum, shape)?)?
                }
            });
        }
        let is_constant = |begin: &OutletId| Ok::<_, TractError>(model.outlet_fact(*begin)?.konst.is_some());
        if begins[0] == begins[1] || (is_constant(&begins[0])? && is_constant(&begins[1])?) {
            let name = format!("{prefix}.memory-apart");
            begins[1] = expansion(Apart).wire(&name, model, &[begins[1], inputs[0]])?[0];
        }
        let mut made = TVec::from(&inputs[..self.at]);
        made.extend(begins);
        made.extend(self.peepholes.map(|at| inputs[at]));
        Ok(made)
    }
}

/// Its first input. As the second is no constant it is none either, and it is the same as nothing else.
#[derive(Debug)]
struct Apart;

impl Kernel for Apart {
    fn name(&self) -> &'static str {
        "Apart"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        Ok(vec![inputs[0].clone()])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        Ok(vec![inputs[0].clone()])
    }
}

pub(super) fn either(context: &ParsingContext<'_>, node: &NodeProto, own: Recurrent) -> Built {
    let mut forwards = node.clone();
    let is_backwards = matches!(&*own.ways, [way] if way.is_backwards);
    if is_backwards {
        forwards.attribute.retain(|attribute| attribute.name != "direction");
    }
    let begins = Begins::of(node, &own);
    if begins.is_some() {
        forwards.input.resize(forwards.input.len().max(7), String::new());
        for (at, name) in [(5, "state"), (6, "memory")] {
            forwards.input[at] = name.into();
        }
    }
    // tract joins the two ways along another axis where the batch is first, and then makes no plan.
    let is_joined = own.is_batch_first && own.ways.len() > 1;
    let is_plain = is_plain(node, own.cell.activations()) && !is_joined;
    let stock = is_plain.then(|| stock_expansion(own.name, context, &forwards)).transpose()?;
    let node = NodeProto { output: node.output.clone(), ..NodeProto::default() };
    let gives_all = node.output.first().is_some_and(|name| !name.is_empty());
    let told = own.expansion(&node)?;
    Ok((expand(Either(Arc::new(Ways { own, told, node, stock, begins, is_backwards, gives_all }))), Vec::new()))
}

impl Recurrent {
    fn expansion(&self, node: &NodeProto) -> TractResult<Box<dyn Expansion>> {
        as_expansion(&*wrap(node, self.clone())).ok_or_else(|| anyhow!("our {} is not what it was", self.name))
    }
}

impl Ways {
    /// Ours, with the weights laid out if the file has them.
    fn own(&self, model: &TypedModel, inputs: &[OutletId]) -> TractResult<Box<dyn Expansion>> {
        let facts = inputs.iter().map(|input| model.outlet_fact(*input)).collect::<TractResult<Vec<_>>>()?;
        let given: Vec<_> = facts.iter().map(|fact| Fact::new(fact.datum_type, fact.shape.iter().cloned())).collect();
        self.own.facts(&given)?;
        let [_, input, state, ..] = &facts[..] else { bail!("takes sequences and two tables of weights") };
        let (Some(input), Some(state)) = (&input.konst, &state.konst) else { return Ok(self.told.clone()) };
        let weights = Weights::all(input, state, self.own.cell)?;
        Recurrent { weights: Some(weights.into()), ..self.own.clone() }.expansion(&self.node)
    }
}

impl PartialEq for Either {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Either {}

impl Expansion for Either {
    fn name(&self) -> StaticName {
        self.0.own.name.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.told.nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let has_more = self.0.begins.as_ref().is_some_and(|begins| begins.given.contains(&None));
        let stock = self.0.stock.as_ref().filter(|_| !has_more);
        stock.unwrap_or(&self.0.told).rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let ways = &*self.0;
        let x = model.outlet_fact(inputs[0])?;
        let (steps, batch) = if ways.own.is_batch_first { (1, 0) } else { (0, 1) };
        let weights = &model.outlet_fact(inputs[2])?.shape;
        let is_known = x.datum_type == DatumType::F32 && x.shape.is_concrete();
        let is_narrow = weights.get(2).and_then(|hidden| hidden.to_usize().ok()).is_some_and(|hidden| hidden <= WIDE);
        let is_alone = x.shape.get(batch).is_some_and(|sequences| sequences.is_one());
        let is_ours = is_known && (is_narrow || is_alone);
        let Some(stock) = ways.stock.as_ref().filter(|_| !is_ours) else {
            return ways.own(model, inputs)?.wire(prefix, model, inputs);
        };
        let mut inputs = TVec::from(inputs);
        if let Some(begins) = &ways.begins {
            let (directions, hidden, sequences) =
                (weights[0].to_usize()?, weights[2].to_usize()?, x.shape[batch].to_usize()?);
            let shape =
                if ways.own.is_batch_first { [sequences, directions, hidden] } else { [directions, sequences, hidden] };
            inputs = begins.spelt_out(prefix, model, &inputs, &shape)?;
        }
        if !ways.is_backwards {
            return stock.wire(prefix, model, &inputs);
        }
        inputs[0] = expansion(Reversed { axis: steps }).wire(&format!("{prefix}.reversed-x"), model, &inputs[..1])?[0];
        let mut outputs = stock.wire(prefix, model, &inputs)?;
        if ways.gives_all {
            outputs[0] =
                expansion(Reversed { axis: steps }).wire(&format!("{prefix}.reversed-y"), model, &outputs[..1])?[0];
        }
        Ok(outputs)
    }
}

/// The first last.
#[derive(Debug)]
struct Reversed {
    axis: usize,
}

impl Kernel for Reversed {
    fn name(&self) -> &'static str {
        "Reversed"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        Ok(vec![one(inputs)?.clone()])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        fn reversed<T: Datum>(tensor: &Tensor, axis: usize) -> TractResult<Tensor> {
            let (shape, values) = (tensor.shape(), values::<T>(tensor)?);
            let size: usize = shape[axis + 1..].iter().product();
            let mut made = Vec::with_capacity(values.len());
            for all in values.chunks((size * shape[axis]).max(1)) {
                all.rchunks(size).for_each(|slice| made.extend_from_slice(slice));
            }
            tensor1(&made).into_shape(shape)
        }
        Ok(vec![dispatch_datum!(reversed(inputs[0].datum_type())(inputs[0], self.axis))?])
    }
}
