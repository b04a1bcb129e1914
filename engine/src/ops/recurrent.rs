//! `LSTM`, `GRU` and `RNN`. Of wide states, plain forms for several sequences are left to tract; of others it passes over `clip`,
//! `input_forget`, other activations and sequences of unlike lengths in silence.
//!
//! Formulas: the operators' pages in the ONNX reference.

mod activation;
mod pass;
mod plain;
mod weights;

use super::kernel::{Built, Fact, Kernel, expect, place, values};
use activation::Activation;
use pass::Pass;
use std::{borrow::Cow, sync::Arc};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{TDim, anyhow, bail, ensure},
};
use weights::Weights;

/// What is computed at each step, and how many gates its weights are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Rnn,
    Gru {
        /// Whether the reset gate weighs the product with the state rather than the state.
        is_late: bool,
    },
    Lstm,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 3,
            Self::Lstm => 4,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            Self::Rnn => &["Tanh"],
            Self::Gru { .. } => &["Sigmoid", "Tanh"],
            Self::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// One way through the sequence.
#[derive(Debug, Clone)]
struct Way {
    is_backwards: bool,
    activations: Vec<Activation>,
}

#[derive(Debug, Clone)]
struct Recurrent {
    name: &'static str,
    cell: Cell,
    ways: Vec<Way>,
    clip: f32,
    /// The forget gate is what the input gate leaves.
    is_coupled: bool,
    is_batch_first: bool,
    bias: Option<usize>,
    lengths: Option<usize>,
    state: Option<usize>,
    memory: Option<usize>,
    peepholes: Option<usize>,
    /// Of every way, where the file has them: laid out once.
    weights: Option<Arc<[Weights]>>,
}

pub(super) fn lstm(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    either(context, node, "LSTM", Cell::Lstm)
}

pub(super) fn rnn(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    either(context, node, "RNN", Cell::Rnn)
}

pub(super) fn gru(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let is_late = node.get_attr_opt::<i64>("linear_before_reset")?.unwrap_or(0) != 0;
    either(context, node, "GRU", Cell::Gru { is_late })
}

fn either(context: &ParsingContext<'_>, node: &NodeProto, name: &'static str, cell: Cell) -> Built {
    plain::either(context, node, Recurrent::read(node, name, cell)?)
}

impl Recurrent {
    fn read(node: &NodeProto, name: &'static str, cell: Cell) -> TractResult<Self> {
        let backwards: &[bool] = match node.get_attr_opt::<&str>("direction")?.unwrap_or("forward") {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            other => bail!("{name} has no direction `{other}`"),
        };
        let usual = cell.activations();
        let activations = activation::read(node, usual, backwards.len())?;
        let ways = backwards.iter().zip(activations.chunks(usual.len()));
        let ways = ways.map(|(backwards, own)| Way { is_backwards: *backwards, activations: own.to_vec() });
        let clip = node.get_attr_opt::<f32>("clip")?.unwrap_or(f32::INFINITY);
        ensure!(clip > 0.0, "{name} clips at {clip}");
        let flag = |name| node.get_attr_opt::<i64>(name).map(|flag| flag.unwrap_or(0) != 0);
        Ok(Self {
            name,
            cell,
            ways: ways.collect(),
            clip,
            is_coupled: flag("input_forget")?,
            is_batch_first: flag("layout")?,
            bias: place(node, 3),
            lengths: place(node, 4),
            state: place(node, 5),
            memory: place(node, 6),
            peepholes: place(node, 7),
            weights: None,
        })
    }

    /// Steps, sequences, values a step, and values of the state, of these shapes.
    fn sizes(&self, inputs: [&[usize]; 2]) -> TractResult<Sizes> {
        let [&[first, second, values], &[ways, rows, columns]] = inputs else {
            bail!("takes sequences and weights of three dimensions")
        };
        let (steps, batch) = if self.is_batch_first { (second, first) } else { (first, second) };
        let (hidden, gated, gates) = (columns, rows, self.cell.gates());
        ensure!(hidden > 0, "has a state of no values");
        ensure!(
            ways == self.ways.len() && Some(gated) == hidden.checked_mul(gates),
            "has weights of {:?} for the state",
            inputs[1]
        );
        Ok(Sizes { steps, batch, values, hidden, gates })
    }

    /// Outputs as ONNX lays them out with the batch second.
    fn shape(&self, sizes: &Sizes) -> [Vec<usize>; 2] {
        let Sizes { steps, batch, hidden, .. } = *sizes;
        let ways = self.ways.len();
        if self.is_batch_first {
            [vec![batch, steps, ways, hidden], vec![batch, ways, hidden]]
        } else {
            [vec![steps, ways, batch, hidden], vec![ways, batch, hidden]]
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    /// Of each step.
    values: usize,
    hidden: usize,
    gates: usize,
}

impl Kernel for Recurrent {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [x, w, r, ..] = inputs else { bail!("takes sequences and two tables of weights") };
        expect(x, &[DatumType::F32])?;
        expect(w, &[DatumType::F32])?;
        expect(r, &[DatumType::F32])?;
        let sizes = self.sizes([&x.dims()?, &r.dims()?])?;
        let (ways, gated) = (self.ways.len(), sizes.gates * sizes.hidden);
        ensure!(w.dims()? == [ways, gated, sizes.values], "has weights of {:?} for the input", w.dims()?);
        let [all, last] = self.shape(&sizes);
        let peeped = vec![ways, 3 * sizes.hidden];
        for (at, shape, datum) in [
            (self.bias, vec![ways, 2 * gated], DatumType::F32),
            (self.lengths, vec![sizes.batch], DatumType::I32),
            (self.state, last.clone(), DatumType::F32),
            (self.memory, last.clone(), DatumType::F32),
            (self.peepholes, peeped, DatumType::F32),
        ] {
            let Some(input) = at.and_then(|at| inputs.get(at)) else { continue };
            ensure!(
                input.datum == datum && input.dims()? == shape,
                "takes {datum:?} of {shape:?}, got {:?}",
                input.shape
            );
        }
        let fact = |shape: &[usize]| Fact::new(DatumType::F32, shape.iter().copied().map(TDim::from));
        Ok(vec![fact(&all), fact(&last), fact(&last)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let sizes = self.sizes([inputs[0].shape(), inputs[2].shape()])?;
        let Sizes { steps, batch, hidden, .. } = sizes;
        let lengths = match self.lengths {
            Some(at) => values::<i32>(inputs[at])?
                .iter()
                .map(|length| {
                    let length = usize::try_from(*length).ok().filter(|length| *length <= steps);
                    length.ok_or_else(|| anyhow!("a sequence's length is not within {steps}"))
                })
                .collect::<TractResult<Vec<_>>>()?,
            None => vec![steps; batch],
        };
        let x = self.steps_first(values::<f32>(inputs[0])?, &sizes);
        let [all, last] = self.shape(&sizes);
        let ways = self.ways.len();
        let (mut y, mut states, mut memories) = (vec![0.0; steps * ways * batch * hidden], Vec::new(), Vec::new());
        let own;
        let weights = if let Some(laid) = &self.weights {
            &laid[..]
        } else {
            own = Weights::all(inputs[1], inputs[2], self.cell)?;
            &own
        };
        for (number, weights) in weights.iter().enumerate() {
            let mut pass = self.pass(inputs, number, weights, &sizes)?;
            pass.all(&x, &lengths, |step, row, state| {
                let at = if self.is_batch_first {
                    (row * steps + step) * ways + number
                } else {
                    (step * ways + number) * batch + row
                };
                y[at * hidden..(at + 1) * hidden].copy_from_slice(state);
            });
            states.push(pass.state);
            memories.push(pass.memory);
        }
        let ends = |of: Vec<Vec<f32>>| -> TractResult<Tensor> {
            let mut end: Vec<f32> = Vec::with_capacity(ways * batch * hidden);
            if self.is_batch_first {
                (0..batch).for_each(|row| of.iter().for_each(|way| end.extend(&way[row * hidden..(row + 1) * hidden])));
            } else {
                of.iter().for_each(|way| end.extend(way));
            }
            Tensor::from_shape(&last, &end)
        };
        Ok(vec![Tensor::from_shape(&all, &y)?, ends(states)?, ends(memories)?])
    }
}

impl Recurrent {
    /// The input with the steps outermost.
    fn steps_first<'x>(&self, x: &'x [f32], sizes: &Sizes) -> Cow<'x, [f32]> {
        let Sizes { steps, batch, values, .. } = *sizes;
        if !self.is_batch_first {
            return Cow::Borrowed(x);
        }
        let rows = (0..steps).flat_map(|step| (0..batch).map(move |row| (row * steps + step) * values));
        rows.flat_map(|at| x[at..at + values].iter().copied()).collect()
    }

    /// Everything that one way needs, before its first step.
    fn pass<'a>(
        &'a self,
        inputs: &[&Tensor],
        way: usize,
        weights: &'a Weights,
        sizes: &Sizes,
    ) -> TractResult<Pass<'a>> {
        let gated = sizes.gates * sizes.hidden;
        let part = |at: Option<usize>, count: usize| -> TractResult<Vec<f32>> {
            let Some(at) = at else { return Ok(vec![0.0; count]) };
            Ok(values::<f32>(inputs[at])?[way * count..(way + 1) * count].to_vec())
        };
        let start = |at: Option<usize>| -> TractResult<Vec<f32>> {
            let (Some(at), true) = (at, self.is_batch_first) else { return part(at, sizes.batch * sizes.hidden) };
            let rows = values::<f32>(inputs[at])?.chunks_exact(sizes.hidden).skip(way).step_by(self.ways.len());
            Ok(rows.flatten().copied().collect())
        };
        Ok(Pass {
            of: self,
            way: &self.ways[way],
            sizes: *sizes,
            weights,
            bias: part(self.bias, 2 * gated)?,
            peepholes: part(self.peepholes, 3 * sizes.hidden)?,
            state: start(self.state)?,
            memory: start(self.memory)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Model, Tensor, fixtures, fixtures::value, tensor_proto::to_proto};
    use tract_onnx::pb::{AttributeProto, GraphProto, attribute_proto::AttributeType, tensor_proto::DataType};

    /// onnxruntime takes no batch first, so no golden vector has one.
    #[test]
    fn both_ways_with_the_batch_first_take_many_sequences_as_well_as_few() {
        /// Wider than what is ours in any case.
        const WIDE: usize = 129;
        let mut node = fixtures::node("RNN", &["x", "w", "r"], &["y"]);
        let (name, r#type, s) = ("direction".into(), AttributeType::String.into(), b"bidirectional".to_vec());
        node.attribute = vec![
            fixtures::integer("hidden_size", 129),
            fixtures::integer("layout", 1),
            AttributeProto { name, r#type, s, ..AttributeProto::default() },
        ];
        let inputs = [[1f32; WIDE], [-1.0; WIDE]].concat();
        let (inputs, states) =
            (Tensor::new([2, WIDE, 1], inputs), Tensor::new([2, WIDE, WIDE], vec![0f32; 2 * WIDE * WIDE]));
        let proto = fixtures::model(GraphProto {
            node: vec![node],
            initializer: vec![to_proto(&inputs.unwrap(), "w"), to_proto(&states.unwrap(), "r")],
            input: vec![value("x", DataType::Float, &[-1, 3, 1])],
            output: vec![value("y", DataType::Float, &[-1, 3, 2, 129])],
            ..GraphProto::default()
        });
        let model = Model::load(&fixtures::bytes(&proto), &Limits::default()).unwrap();
        for rows in [1, 8, 9] {
            let x = vec![20f32; rows * 3];
            let answer = model.run(&[Tensor::new([rows, 3, 1], x).unwrap()]).unwrap();
            assert_eq!(answer[0].data(), &[[1f32; WIDE], [-1.0; WIDE]].concat().repeat(rows * 3).into(), "{rows} rows");
        }
    }
}
