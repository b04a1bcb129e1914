//! The forms that tract's own operators answer rightly. Those win where many sequences are multiplied at once; for few the kernel here does,
//! which has no graph to run at each step.

use super::{
    super::{
        kernel::{Built, Fact, Kernel, expansion, expansion_of, one, place, values},
        stock_expansion,
    },
    Recurrent,
};
use std::sync::Arc;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractResult, f16, tensor1},
    tract_hir::internal::{
        DimLike, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim, TVec, TensorProxy,
        TypedModel, dispatch_datum, expand,
    },
};

/// So many sequences are few: where the two ways take about as long.
const FEW: usize = 8;

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
    name: &'static str,
    own: Box<dyn Expansion>,
    stock: Box<dyn Expansion>,
    is_batch_first: bool,
    /// Where tract's operator wants states of nothing spelt out.
    states: Option<usize>,
    /// Backwards alone: tract goes forwards all the same, so what goes in and the states of all steps, if they come out, are turned round.
    is_backwards: bool,
    gives_all: bool,
}

pub(super) fn either(context: &ParsingContext<'_>, node: &NodeProto, own: Recurrent) -> Built {
    let mut forwards = node.clone();
    let is_backwards = matches!(&*own.ways, [way] if way.is_backwards);
    if is_backwards {
        forwards.attribute.retain(|attribute| attribute.name != "direction");
    }
    let states = is_clashing(node, &own).then_some(if own.bias.is_some() { 4 } else { 3 });
    if states.is_some() {
        forwards.input.resize(forwards.input.len().max(7), String::new());
        forwards.input[5] = "state".into();
        forwards.input[6] = "memory".into();
    }
    let either = Either(Arc::new(Ways {
        name: own.name,
        stock: stock_expansion(own.name, context, &forwards)?,
        is_batch_first: own.is_batch_first,
        states,
        is_backwards,
        gives_all: node.output.first().is_some_and(|name| !name.is_empty()),
        own: expansion_of(node, own),
    }));
    Ok((expand(either), Vec::new()))
}

/// An `LSTM` of one direction that starts from nothing and gives its last memory: tract mixes up its states as soon as there are two
/// sequences, unless they are inputs.
fn is_clashing(node: &NodeProto, own: &Recurrent) -> bool {
    let gives_memory = node.output.get(2).is_some_and(|name| !name.is_empty());
    own.name == "LSTM" && own.ways.len() == 1 && gives_memory && own.state.is_none() && own.memory.is_none()
}

impl PartialEq for Either {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Either {}

impl Expansion for Either {
    fn name(&self) -> StaticName {
        self.0.name.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.stock.nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let way = if self.0.states.is_some() { &self.0.own } else { &self.0.stock };
        way.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let ways = &*self.0;
        let x = model.outlet_fact(inputs[0])?;
        let (steps, batch) = if ways.is_batch_first { (1, 0) } else { (0, 1) };
        let (datum, sequences) = (x.datum_type, x.shape.as_concrete().and_then(|shape| shape.get(batch).copied()));
        if datum == DatumType::F32 && sequences.is_some_and(|sequences| sequences <= FEW) {
            return ways.own.wire(prefix, model, inputs);
        }
        let rows = x.shape[batch].clone();
        let mut inputs = TVec::from(inputs);
        if let Some(at) = ways.states {
            let hidden = model.outlet_fact(inputs[2])?.shape[2].to_usize()?;
            let mut shape = [1, 1, hidden];
            shape[usize::from(!ways.is_batch_first)] = rows.to_usize()?;
            for name in ["memory", "state"] {
                let nothing = Tensor::zero_dt(datum, &shape)?;
                inputs.insert(at, model.add_const(format!("{prefix}.{name}"), nothing)?);
            }
        }
        if !ways.is_backwards {
            return ways.stock.wire(prefix, model, &inputs);
        }
        inputs[0] = expansion(Reversed { axis: steps }).wire(&format!("{prefix}.reversed-x"), model, &inputs[..1])?[0];
        let mut outputs = ways.stock.wire(prefix, model, &inputs)?;
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
