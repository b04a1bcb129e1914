//! One way through the sequences, step by step.

use super::{Cell, Recurrent, Sizes, Way, Weights};

pub(super) struct Pass<'a> {
    pub(super) of: &'a Recurrent,
    pub(super) way: &'a Way,
    pub(super) sizes: Sizes,
    pub(super) weights: &'a Weights,
    /// Of the input's product, then of the state's.
    pub(super) bias: Vec<f32>,
    pub(super) peepholes: Vec<f32>,
    /// What it remembers, sequence by sequence.
    pub(super) state: Vec<f32>,
    pub(super) memory: Vec<f32>,
}

/// What one sequence is given at one step, by gate.
struct Given<'s> {
    /// The input's product.
    product: &'s [f32],
    /// The state's, of the gates that take it as it is.
    seen: &'s [f32],
    /// Both biases.
    bias: &'s [f32],
}

impl Given<'_> {
    /// All of them, of the values of a gate or of several.
    fn sum(&self, of: std::ops::Range<usize>, sums: &mut [f32]) {
        let terms = self.product[of.clone()].iter().zip(&self.seen[of.clone()]).zip(&self.bias[of]);
        for (sum, ((product, seen), bias)) in sums.iter_mut().zip(terms) {
            *sum = product + seen + bias;
        }
    }
}

impl Pass<'_> {
    /// Goes through all steps; `give` gets the state after each one, with the step and the sequence that it is of.
    pub(super) fn all(&mut self, x: &[f32], lengths: &[usize], mut give: impl FnMut(usize, usize, &[f32])) {
        let Sizes { steps, batch, hidden, gates, .. } = self.sizes;
        let gated = gates * hidden;
        let mut products = vec![0.0; steps * batch * gated];
        self.weights.input.times(x, &mut products);
        let bias: Vec<f32> = self.bias.iter().zip(&self.bias[gated..]).map(|(a, b)| a + b).collect();
        let width = if matches!(self.of.cell, Cell::Gru { .. }) { 2 * hidden } else { gated };
        let (mut seen, mut sums) = (vec![0.0; batch * width], vec![0.0; gated]);
        for at in 0..steps {
            self.weights.gates.times(&self.state, &mut seen);
            for (row, length) in lengths.iter().enumerate() {
                if at >= *length {
                    continue;
                }
                let step = if self.way.is_backwards { length - 1 - at } else { at };
                let product = &products[(step * batch + row) * gated..][..gated];
                let given = Given { product, seen: &seen[row * width..][..width], bias: &bias };
                match self.of.cell {
                    Cell::Rnn => self.rnn(row, &given),
                    Cell::Gru { is_late } => self.gru(row, &given, &mut sums, is_late),
                    Cell::Lstm => self.lstm(row, &given, &mut sums),
                }
                give(step, row, &self.state[row * hidden..][..hidden]);
            }
        }
    }

    fn rnn(&mut self, row: usize, given: &Given<'_>) {
        let hidden = self.sizes.hidden;
        let state = &mut self.state[row * hidden..][..hidden];
        given.sum(0..hidden, state);
        self.way.activations[0].all(state, self.of.clip);
    }

    fn gru(&mut self, row: usize, given: &Given<'_>, sums: &mut [f32], is_late: bool) {
        let (hidden, clip) = (self.sizes.hidden, self.of.clip);
        let state = &mut self.state[row * hidden..][..hidden];
        let (gates, candidate) = sums.split_at_mut(2 * hidden);
        given.sum(0..2 * hidden, gates);
        self.way.activations[0].all(gates, clip);
        let (update, reset) = gates.split_at_mut(hidden);
        let product = &given.product[2 * hidden..];
        if is_late {
            self.weights.candidate.times(state, candidate);
            let (own, seen) = (&self.bias[2 * hidden..3 * hidden], &self.bias[5 * hidden..]);
            for at in 0..hidden {
                candidate[at] = product[at] + reset[at] * (candidate[at] + seen[at]) + own[at];
            }
        } else {
            reset.iter_mut().zip(&*state).for_each(|(reset, state)| *reset *= state);
            self.weights.candidate.times(reset, candidate);
            let bias = &given.bias[2 * hidden..];
            for at in 0..hidden {
                candidate[at] = product[at] + candidate[at] + bias[at];
            }
        }
        self.way.activations[1].all(candidate, clip);
        for at in 0..hidden {
            state[at] = (1.0 - update[at]) * candidate[at] + update[at] * state[at];
        }
    }

    fn lstm(&mut self, row: usize, given: &Given<'_>, sums: &mut [f32]) {
        let (hidden, clip) = (self.sizes.hidden, self.of.clip);
        let [gate, new, out] = [0, 1, 2].map(|at| self.way.activations[at]);
        let (state, memory) = (&mut self.state[row * hidden..][..hidden], &mut self.memory[row * hidden..][..hidden]);
        let peep = |number: usize, gate: &mut [f32], memory: &[f32]| {
            let weights = &self.peepholes[number * hidden..][..hidden];
            for at in 0..hidden {
                gate[at] += weights[at] * memory[at];
            }
        };
        given.sum(0..4 * hidden, sums);
        let (input, rest) = sums.split_at_mut(hidden);
        let (output, rest) = rest.split_at_mut(hidden);
        let (forget, fresh) = rest.split_at_mut(hidden);
        peep(0, input, memory);
        gate.all(input, clip);
        if self.of.is_coupled {
            forget.iter_mut().zip(&*input).for_each(|(forget, input)| *forget = 1.0 - input);
        } else {
            peep(2, forget, memory);
            gate.all(forget, clip);
        }
        new.all(fresh, clip);
        for at in 0..hidden {
            memory[at] = forget[at] * memory[at] + input[at] * fresh[at];
        }
        peep(1, output, memory);
        gate.all(output, clip);
        // onnxruntime clips what goes into the gates, not what comes out of the memory.
        state.copy_from_slice(memory);
        out.all(state, f32::INFINITY);
        state.iter_mut().zip(output).for_each(|(state, output)| *state *= *output);
    }
}
