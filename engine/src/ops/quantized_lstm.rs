//! `com.microsoft.DynamicQuantizeLSTM`: an LSTM whose weights are whole numbers of 8 bits. What meets them is quantised when it is
//! there, as onnxruntime does: all steps of the input together, the hidden state of all rows at each step. Gates as ONNX's LSTM has them.

use super::{
    kernel::{Fact, Kernel, expect, values},
    post::logistic,
};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{DimLike, anyhow, bail, ensure},
};

/// The operator's inputs by their place.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const LENGTHS: usize = 4;
const H: usize = 5;
const C: usize = 6;
const P: usize = 7;
const W_SCALE: usize = 8;
const W_ZERO: usize = 9;
const R_SCALE: usize = 10;
const R_ZERO: usize = 11;
const PLACES: usize = 12;

#[derive(Debug)]
pub(super) struct Lstm {
    hidden: usize,
    /// Of each direction, whether it goes backwards.
    ways: Vec<bool>,
    /// Where among the inputs that are there each place's is.
    at: [Option<usize>; PLACES],
}

pub(super) fn lstm(node: &NodeProto) -> TractResult<Lstm> {
    let mut at = [None; PLACES];
    ensure!(node.input.len() <= PLACES, "takes {PLACES} inputs at the most, got {}", node.input.len());
    let present = node.input.iter().enumerate().filter(|(_, name)| !name.is_empty());
    present.enumerate().for_each(|(found, (place, _))| at[place] = Some(found));
    for (place, name) in [
        (X, "X"),
        (W, "W"),
        (R, "R"),
        (W_SCALE, "W_scale"),
        (W_ZERO, "W_zero_point"),
        (R_SCALE, "R_scale"),
        (R_ZERO, "R_zero_point"),
    ] {
        ensure!(at[place].is_some(), "has no {name}");
    }
    for (place, name) in [(LENGTHS, "sequence_lens"), (P, "P")] {
        ensure!(at[place].is_none(), "has {name}, which is not supported: export it without");
    }
    for name in ["activations", "activation_alpha", "activation_beta", "clip"] {
        ensure!(
            node.attribute.iter().all(|given| given.name != name),
            "has {name}, which is not supported: export it without"
        );
    }
    ensure!(node.get_attr_opt::<i64>("input_forget")?.unwrap_or(0) == 0, "couples its gates, which is not supported");
    let ways = match node.get_attr_opt::<&str>("direction")?.unwrap_or("forward") {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => bail!("direction `{other}` is not known"),
    };
    let hidden = node.get_attr::<i64>("hidden_size")?;
    let hidden = usize::try_from(hidden).ok().filter(|hidden| (1..=1 << 16).contains(hidden));
    Ok(Lstm { hidden: hidden.ok_or_else(|| anyhow!("hidden_size is out of range"))?, ways, at })
}

/// What the shapes say.
struct Sizes {
    steps: usize,
    rows: usize,
    width: usize,
}

impl Lstm {
    fn sizes(&self, shape_of: impl Fn(usize) -> TractResult<Option<Vec<usize>>>) -> TractResult<Sizes> {
        let (ways, gates) = (self.ways.len(), 4 * self.hidden);
        let x = shape_of(X)?.unwrap_or_default();
        let [steps, rows, width] = *x else { bail!("takes steps of rows of values, got {} dimensions", x.len()) };
        let is = |place: usize, name: &str, wanted: &[&[usize]]| {
            let Some(got) = shape_of(place)? else { return Ok(()) };
            ensure!(wanted.contains(&&*got), "{name} has shape {got:?}, not {:?}", wanted[0]);
            TractResult::Ok(())
        };
        is(W, "W", &[&[ways, width, gates]])?;
        is(R, "R", &[&[ways, self.hidden, gates]])?;
        is(B, "B", &[&[ways, 2 * gates]])?;
        is(H, "initial_h", &[&[ways, rows, self.hidden]])?;
        is(C, "initial_c", &[&[ways, rows, self.hidden]])?;
        for (place, name) in
            [(W_SCALE, "W_scale"), (W_ZERO, "W_zero_point"), (R_SCALE, "R_scale"), (R_ZERO, "R_zero_point")]
        {
            is(place, name, &[&[ways], &[ways, gates]])?;
        }
        Ok(Sizes { steps, rows, width })
    }
}

impl Kernel for Lstm {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLSTM"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let fact = |place: usize| self.at[place].and_then(|at| inputs.get(at));
        let Sizes { steps, rows, .. } = self.sizes(|place| {
            let dims = fact(place).map(|fact| fact.shape.iter().map(DimLike::to_usize).collect());
            Ok(dims.transpose()?)
        })?;
        for place in [X, B, H, C, W_SCALE, R_SCALE] {
            fact(place).map_or(Ok(()), |fact| expect(fact, &[DatumType::F32]))?;
        }
        for place in [W, R, W_ZERO, R_ZERO] {
            fact(place).map_or(Ok(()), |fact| expect(fact, &[DatumType::I8, DatumType::U8]))?;
        }
        let state = [self.ways.len(), rows, self.hidden].map(Into::into);
        let every = [steps, self.ways.len(), rows, self.hidden].map(Into::into);
        let state = Fact::new(DatumType::F32, state);
        Ok(vec![Fact::new(DatumType::F32, every), state.clone(), state])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let tensor = |place: usize| self.at[place].map(|at| inputs[at]);
        let Sizes { steps, rows, width } =
            self.sizes(|place| Ok(tensor(place).map(|tensor| tensor.shape().to_vec())))?;
        let floats = |place: usize| tensor(place).map(values::<f32>).transpose().map(Option::unwrap_or_default);
        let (hidden, gates, ways) = (self.hidden, 4 * self.hidden, self.ways.len());
        let (x, b) = (floats(X)?, floats(B)?);
        let (mut h, mut c) = (floats(H)?.to_vec(), floats(C)?.to_vec());
        h.resize(ways * rows * hidden, 0.0);
        c.resize(ways * rows * hidden, 0.0);
        let mut every = vec![0f32; steps * ways * rows * hidden];
        let weights =
            |place, scale, zero, way| Weights::of(tensor(place), tensor(scale), tensor(zero), way, ways, gates);
        for (way, backwards) in self.ways.iter().enumerate() {
            let input = weights(W, W_SCALE, W_ZERO, way)?;
            let recurrent = weights(R, R_SCALE, R_ZERO, way)?;
            let bias = b.get(way * 2 * gates..(way + 1) * 2 * gates).unwrap_or_default();
            let mut all = vec![0f32; steps * rows * gates];
            input.product(x, width, &mut all);
            let states = way * rows * hidden..(way + 1) * rows * hidden;
            let (h, c) = (&mut h[states.clone()], &mut c[states]);
            for step in 0..steps {
                let step = if *backwards { steps - 1 - step } else { step };
                let sums = &mut all[step * rows * gates..(step + 1) * rows * gates];
                recurrent.product(h, hidden, sums);
                for row in 0..rows {
                    let own = row * hidden..(row + 1) * hidden;
                    cell(&sums[row * gates..(row + 1) * gates], bias, &mut h[own.clone()], &mut c[own]);
                }
                let start = (step * ways + way) * rows * hidden;
                every[start..start + rows * hidden].copy_from_slice(h);
            }
        }
        let state = [ways, rows, hidden];
        Ok(vec![
            Tensor::from_shape(&[steps, ways, rows, hidden], &every)?,
            Tensor::from_shape(&state, &h)?,
            Tensor::from_shape(&state, &c)?,
        ])
    }
}

/// One step of one row: `sums` are those of the input, output, forget and cell gates.
fn cell(sums: &[f32], bias: &[f32], h: &mut [f32], c: &mut [f32]) {
    let (hidden, gates) = (h.len(), sums.len());
    let biased = |at: usize| match bias {
        [] => sums[at],
        bias => sums[at] + (bias[at] + bias[gates + at]),
    };
    for at in 0..hidden {
        let [i, o, f] = [0, 1, 2].map(|gate| logistic(biased(gate * hidden + at)));
        c[at] = f * c[at] + i * biased(3 * hidden + at).tanh();
        h[at] = o * c[at].tanh();
    }
}

/// The weights of one direction: `[values, gates]`, less their zero points.
struct Weights {
    whole: Vec<i16>,
    gates: usize,
    /// One for all, or one for each gate.
    scales: Vec<f32>,
}

impl Weights {
    fn of(
        tensor: Option<&Tensor>,
        scale: Option<&Tensor>,
        zero: Option<&Tensor>,
        way: usize,
        ways: usize,
        gates: usize,
    ) -> TractResult<Self> {
        let (Some(tensor), Some(scale), Some(zero)) = (tensor, scale, zero) else { bail!("has no weights") };
        let whole = |tensor: &Tensor| -> TractResult<Vec<i16>> {
            let wide = tensor.cast_to::<i16>()?;
            let wide = values::<i16>(&wide)?;
            let length = wide.len() / ways;
            Ok(wide[way * length..(way + 1) * length].to_vec())
        };
        let (mut made, zeros) = (whole(tensor)?, whole(zero)?);
        made.iter_mut().zip(zeros.iter().cycle()).for_each(|(value, zero)| *value -= zero);
        let scales = values::<f32>(scale)?;
        let length = scales.len() / ways;
        Ok(Self { whole: made, gates, scales: scales[way * length..(way + 1) * length].to_vec() })
    }

    /// Adds to `sums`, `[rows, gates]`, the product of `from`, `[rows, width]`, quantised over all of it.
    fn product(&self, from: &[f32], width: usize, sums: &mut [f32]) {
        let (least, most) =
            from.iter().fold((0f32, 0f32), |(least, most), value| (least.min(*value), most.max(*value)));
        let scale = if most == least { 1.0 } else { (most - least) / 255.0 };
        // What is no number, as where the range is infinite, becomes 0.
        let zero = (-least / scale).clamp(0.0, 255.0).round_ties_even().max(0.0);
        let mut totals = vec![0i32; self.gates];
        for (row, sums) in from.chunks_exact(width.max(1)).zip(sums.chunks_exact_mut(self.gates)) {
            totals.fill(0);
            for (value, weights) in row.iter().zip(self.whole.chunks_exact(self.gates)) {
                #[expect(clippy::cast_possible_truncation, reason = "of 8 bits, less a number of 8 bits")]
                let value = ((value / scale).round_ties_even().clamp(-zero, 255.0 - zero)) as i32;
                // Sums wrap, as onnxruntime's do: what is asked at each of them is slow.
                for (total, weight) in totals.iter_mut().zip(weights) {
                    *total = total.wrapping_add(value.wrapping_mul(i32::from(*weight)));
                }
            }
            for ((sum, total), own) in sums.iter_mut().zip(&totals).zip(self.scales.iter().cycle()) {
                *sum += *total as f32 * (scale * own);
            }
        }
    }
}
