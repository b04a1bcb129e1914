//! `LSTM`, `GRU` and `RNN`: all forms of them for few sequences at once, and for any number those that tract passes over in silence,
//! answering as if they were the plain ones: other activations, `clip`, `input_forget`, sequences of unlike lengths. Plain forms for
//! many sequences are left to tract.
//!
//! Formulas: the operators' pages in the ONNX reference.

mod activation;
mod plain;
mod weights;

use super::kernel::{Built, Fact, Kernel, expect, place, values, wrap};
use activation::Activation;
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
#[derive(Debug)]
struct Way {
    is_backwards: bool,
    activations: Vec<Activation>,
}

#[derive(Debug)]
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
    let own = Recurrent::read(node, name, cell)?;
    // tract joins the two ways along another axis where the batch is first, and then makes no plan.
    let is_joined = own.is_batch_first && own.ways.len() > 1;
    if plain::is_plain(node, cell.activations()) && !is_joined {
        return plain::either(context, node, own);
    }
    Ok((wrap(node, own), Vec::new()))
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
        for (number, way) in self.ways.iter().enumerate() {
            let mut pass = self.pass(inputs, number, &sizes)?;
            pass.all(self, way, &x, &lengths, |step, row, state| {
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
    fn steps_first(&self, x: &[f32], sizes: &Sizes) -> Vec<f32> {
        let Sizes { steps, batch, values, .. } = *sizes;
        if !self.is_batch_first {
            return x.to_vec();
        }
        let rows = (0..steps).flat_map(|step| (0..batch).map(move |row| (row * steps + step) * values));
        rows.flat_map(|at| x[at..at + values].iter().copied()).collect()
    }

    /// Everything that one way needs, before its first step.
    fn pass<'a>(&self, inputs: &[&'a Tensor], way: usize, sizes: &Sizes) -> TractResult<Pass<'a>> {
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
            sizes: *sizes,
            input: Weights::of(inputs[1], way)?,
            recurrent: Weights::of(inputs[2], way)?,
            bias: part(self.bias, 2 * gated)?,
            peepholes: part(self.peepholes, 3 * sizes.hidden)?,
            state: start(self.state)?,
            memory: start(self.memory)?,
        })
    }
}

/// One way through the sequences, with what it remembers.
struct Pass<'a> {
    sizes: Sizes,
    input: Weights<'a>,
    recurrent: Weights<'a>,
    /// Of the input's product, then of the state's.
    bias: Vec<f32>,
    peepholes: Vec<f32>,
    state: Vec<f32>,
    memory: Vec<f32>,
}

impl Pass<'_> {
    /// Goes through all steps; `give` gets the state after each one, with the step and the sequence that it is of.
    fn all(
        &mut self,
        of: &Recurrent,
        way: &Way,
        x: &[f32],
        lengths: &[usize],
        mut give: impl FnMut(usize, usize, &[f32]),
    ) {
        let Sizes { steps, batch, hidden, gates, .. } = self.sizes;
        let gated = gates * hidden;
        let products = self.input.times(x, steps * batch, 0..gated);
        for at in 0..steps {
            let seen = self.recurrent.times(&self.state, batch, 0..gated);
            for row in 0..batch {
                let length = lengths[row];
                if at >= length {
                    continue;
                }
                let step = if way.is_backwards { length - 1 - at } else { at };
                let product = (step * batch + row) * gated;
                let (product, seen) = (&products[product..product + gated], &seen[row * gated..(row + 1) * gated]);
                match of.cell {
                    Cell::Rnn => self.rnn(of, way, row, product, seen),
                    Cell::Gru { is_late } => self.gru(of, way, row, product, seen, is_late),
                    Cell::Lstm => self.lstm(of, way, row, product, seen),
                }
                give(step, row, &self.state[row * hidden..(row + 1) * hidden]);
            }
        }
    }

    /// Both products and both biases of a gate's value.
    fn sum(&self, at: usize, product: &[f32], seen: &[f32]) -> f32 {
        product[at] + seen[at] + (self.bias[at] + self.bias[at + product.len()])
    }

    fn rnn(&mut self, of: &Recurrent, way: &Way, row: usize, product: &[f32], seen: &[f32]) {
        let hidden = self.sizes.hidden;
        for at in 0..hidden {
            self.state[row * hidden + at] = way.activations[0].of(self.sum(at, product, seen), of.clip);
        }
    }

    fn gru(&mut self, of: &Recurrent, way: &Way, row: usize, product: &[f32], seen: &[f32], is_late: bool) {
        let hidden = self.sizes.hidden;
        let [gate, new] = [0, 1].map(|at| way.activations[at]);
        let state = &self.state[row * hidden..(row + 1) * hidden];
        let gates: Vec<f32> = (0..2 * hidden).map(|at| gate.of(self.sum(at, product, seen), of.clip)).collect();
        let (update, reset) = gates.split_at(hidden);
        let bias = |at: usize| [self.bias[2 * hidden + at], self.bias[5 * hidden + at]];
        let candidates: Vec<f32> = if is_late {
            let late =
                |at: usize| product[2 * hidden + at] + reset[at] * (seen[2 * hidden + at] + bias(at)[1]) + bias(at)[0];
            (0..hidden).map(late).collect()
        } else {
            let weighed: Vec<f32> = state.iter().zip(reset).map(|(state, reset)| state * reset).collect();
            let seen = self.recurrent.times(&weighed, 1, 2 * hidden..3 * hidden);
            (0..hidden).map(|at| product[2 * hidden + at] + seen[at] + (bias(at)[0] + bias(at)[1])).collect()
        };
        for at in 0..hidden {
            let (state, candidate) = (&mut self.state[row * hidden + at], new.of(candidates[at], of.clip));
            *state = (1.0 - update[at]) * candidate + update[at] * *state;
        }
    }

    fn lstm(&mut self, of: &Recurrent, way: &Way, row: usize, product: &[f32], seen: &[f32]) {
        let hidden = self.sizes.hidden;
        let [gate, new, out] = [0, 1, 2].map(|at| way.activations[at]);
        for at in 0..hidden {
            let value = |number: usize| self.sum(number * hidden + at, product, seen);
            let peep = |number: usize| self.peepholes[number * hidden + at];
            let memory = self.memory[row * hidden + at];
            let input = gate.of(value(0) + peep(0) * memory, of.clip);
            let forget = if of.is_coupled { 1.0 - input } else { gate.of(value(2) + peep(2) * memory, of.clip) };
            let memory = forget * memory + input * new.of(value(3), of.clip);
            // onnxruntime clips what goes into the gates, not what comes out of the memory.
            let output = gate.of(value(1) + peep(1) * memory, of.clip);
            self.memory[row * hidden + at] = memory;
            self.state[row * hidden + at] = output * out.of(memory, f32::INFINITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Model, Tensor, fixtures, fixtures::value, tensor_proto::to_proto};
    use tract_onnx::pb::{AttributeProto, GraphProto, attribute_proto::AttributeType, tensor_proto::DataType};

    /// onnxruntime takes no batch first, so no golden vector has one.
    #[test]
    fn both_ways_with_the_batch_first_take_many_sequences_as_well_as_few() {
        let mut node = fixtures::node("RNN", &["x", "w", "r"], &["y"]);
        let (name, r#type, s) = ("direction".into(), AttributeType::String.into(), b"bidirectional".to_vec());
        node.attribute = vec![
            fixtures::integer("hidden_size", 1),
            fixtures::integer("layout", 1),
            AttributeProto { name, r#type, s, ..AttributeProto::default() },
        ];
        let weights = |values: [f32; 2]| Tensor::new([2, 1, 1], values.to_vec()).unwrap();
        let proto = fixtures::model(GraphProto {
            node: vec![node],
            initializer: vec![to_proto(&weights([1.0, -1.0]), "w"), to_proto(&weights([0.0, 0.0]), "r")],
            input: vec![value("x", DataType::Float, &[-1, 3, 1])],
            output: vec![value("y", DataType::Float, &[-1, 3, 2, 1])],
            ..GraphProto::default()
        });
        let model = Model::load(&fixtures::bytes(&proto), &Limits::default()).unwrap();
        for rows in [1, 8, 9] {
            let x = vec![20f32; rows * 3];
            let answer = model.run(&[Tensor::new([rows, 3, 1], x).unwrap()]).unwrap();
            assert_eq!(answer[0].data(), &[1f32, -1.0].repeat(rows * 3).into(), "{rows} rows");
        }
    }
}
