//! Fourier transforms: `DFT`, `STFT`. tract's heed no length, and take no signal without a last axis of real and imaginary parts.

use super::kernel::{Built, FLOATS, Fact, Kernel, axis, doubles, expect, narrowed, place, volume, wrap};
use rustfft::{Fft, FftDirection, FftPlanner, num_complex::Complex};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Tensor, TractResult},
    tract_hir::internal::{DimLike, TDim, bail, ensure},
};

/// Most numbers of a transform: its plan takes up to two hundred bytes for each, whether or not there is a line to transform.
const MAX_LENGTH: usize = 1 << 22;

const ZERO: Complex<f64> = Complex { re: 0.0, im: 0.0 };

/// Transforms one way. That of the first length asked for is kept: nearly always a node has no other.
struct Transform {
    direction: FftDirection,
    first: OnceLock<Arc<dyn Fft<f64>>>,
}

impl Transform {
    fn new(direction: FftDirection) -> Self {
        Self { direction, first: OnceLock::new() }
    }

    fn of(&self, length: usize) -> Arc<dyn Fft<f64>> {
        let plan = || FftPlanner::new().plan_fft(length, self.direction);
        let first = self.first.get_or_init(plan);
        if first.len() == length { Arc::clone(first) } else { plan() }
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.direction.fmt(f)
    }
}

fn flag(node: &NodeProto, name: &str, otherwise: bool) -> TractResult<bool> {
    Ok(node.get_attr_opt::<i64>(name)?.map_or(otherwise, |flag| flag != 0))
}

/// Refuses what no plan is made for.
fn hold(length: usize) -> TractResult<()> {
    ensure!((1..=MAX_LENGTH).contains(&length), "takes transforms of 1 to {MAX_LENGTH} numbers, got {length}");
    Ok(())
}

/// How many numbers of a transform of this length tell all of it where the signal is real.
fn half(length: usize) -> usize {
    length / 2 + 1
}

/// The parts of each number of a signal: real alone, or imaginary too.
fn parts(signal: &Fact) -> TractResult<usize> {
    match signal.shape.last().map(TDim::to_usize) {
        Some(Ok(parts @ (1 | 2))) => Ok(parts),
        _ => bail!("takes numbers of one or two parts along the last axis"),
    }
}

/// An input of one whole number.
fn number(inputs: &[Fact], at: Option<usize>) -> TractResult<Option<i64>> {
    let Some(fact) = at.and_then(|at| inputs.get(at)) else { return Ok(None) };
    let ints = fact.ints()?;
    let [one] = *ints else { bail!("takes one number as length, step or axis, got {}", ints.len()) };
    Ok(Some(one))
}

/// The same where it must be 1 or more.
fn count(inputs: &[Fact], at: Option<usize>) -> TractResult<Option<usize>> {
    let Some(count) = number(inputs, at)? else { return Ok(None) };
    ensure!(count > 0, "takes a length or step of 1 or more, got {count}");
    Ok(Some(usize::try_from(count)?))
}

/// What is known of inputs at a call; of all but the signal the value too.
fn facts(inputs: &[&Tensor]) -> Vec<Fact> {
    let shape = |tensor: &Tensor| Fact::new(tensor.datum_type(), tensor.shape().iter().map(|dim| TDim::from(*dim)));
    let known = |(at, tensor): (usize, &&Tensor)| if at == 0 { shape(tensor) } else { Fact::of(tensor) };
    inputs.iter().enumerate().map(known).collect()
}

/// The transform along an axis, of each line of a tensor.
#[derive(Debug)]
struct Discrete {
    /// Where no input names it.
    axis: i64,
    inverse: bool,
    /// Forwards the first half is given; backwards it is taken, and what comes out is real.
    one_sided: bool,
    length_at: Option<usize>,
    axis_at: Option<usize>,
    known: Vec<usize>,
    transform: Transform,
}

pub(super) fn discrete(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let has_attribute = context.onnx_operator_set_version < 20;
    let axis = if has_attribute { node.get_attr_opt("axis")?.unwrap_or(1) } else { -2 };
    let (length_at, axis_at) = (place(node, 1), if has_attribute { None } else { place(node, 2) });
    let inverse = flag(node, "inverse", false)?;
    let kernel = Discrete {
        axis,
        inverse,
        one_sided: flag(node, "onesided", false)?,
        length_at,
        axis_at,
        known: length_at.into_iter().chain(axis_at).collect(),
        transform: Transform::new(if inverse { FftDirection::Inverse } else { FftDirection::Forward }),
    };
    Ok((wrap(node, kernel), Vec::new()))
}

/// The lines of a tensor that are transformed.
struct Lines {
    axis: usize,
    /// Numbers of a whole transform.
    length: usize,
    /// Numbers of a line that comes out, and the parts of each.
    gives: usize,
    parts: usize,
}

impl Discrete {
    fn lines(&self, inputs: &[Fact]) -> TractResult<Lines> {
        let Some(signal) = inputs.first() else { bail!("takes a signal") };
        let rank = signal.shape.len();
        let at = axis(number(inputs, self.axis_at)?.unwrap_or(self.axis), rank)?;
        ensure!(at + 1 < rank, "does not transform along the last axis, which is that of real and imaginary parts");
        let (is_half, has) = (self.inverse && self.one_sided, signal.shape[at].to_usize());
        let length = match (count(inputs, self.length_at)?, has) {
            (Some(length), Ok(bins)) if is_half && half(length) != bins => {
                bail!("takes {} of the numbers of a transform of {length}, got {bins}", half(length))
            }
            (Some(length), _) => length,
            (None, bins) if is_half => 2 * bins?.saturating_sub(1),
            (None, length) => length?,
        };
        hold(length)?;
        let gives = if self.one_sided && !self.inverse { half(length) } else { length };
        Ok(Lines { axis: at, length, gives, parts: if is_half { 1 } else { 2 } })
    }
}

impl Kernel for Discrete {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn known(&self) -> &[usize] {
        &self.known
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let lines = self.lines(inputs)?;
        expect(&inputs[0], &FLOATS)?;
        parts(&inputs[0])?;
        let mut shape = inputs[0].shape.clone();
        shape[lines.axis] = lines.gives.into();
        let last = shape.len() - 1;
        shape[last] = lines.parts.into();
        Ok(vec![Fact::new(inputs[0].datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let facts = facts(inputs);
        let (given, Lines { axis, length, gives, parts }) = (parts(&facts[0])?, self.lines(&facts)?);
        let (shape, signal) = (inputs[0].shape(), doubles(inputs[0])?);
        let (has, last) = (shape[axis], shape.len() - 1);
        let (outer, inner) = (volume(&shape[..axis])?, volume(&shape[axis + 1..last])?);
        let mut made = shape.to_vec();
        (made[axis], made[last]) = (gives, parts);
        let mut out = vec![0.0; volume(&made)?];
        let is_half = self.inverse && self.one_sided;
        let scale = if self.inverse { 1.0 / length as f64 } else { 1.0 };
        let transform = self.transform.of(length);
        let mut scratch = vec![ZERO; transform.get_inplace_scratch_len()];
        let mut line = vec![ZERO; length];
        for (block, within) in (0..outer).flat_map(|block| (0..inner).map(move |within| (block, within))) {
            line.fill(ZERO);
            for (at, value) in line.iter_mut().enumerate().take(has) {
                let from = ((block * has + at) * inner + within) * given;
                *value = Complex::new(signal[from], if given == 2 { signal[from + 1] } else { 0.0 });
            }
            if is_half {
                (half(length)..length).for_each(|at| line[at] = line[length - at].conj());
            }
            transform.process_with_scratch(&mut line, &mut scratch);
            for (at, value) in line.iter().enumerate().take(gives) {
                let to = ((block * gives + at) * inner + within) * parts;
                out[to] = value.re * scale;
                if parts == 2 {
                    out[to + 1] = value.im * scale;
                }
            }
        }
        Ok(vec![narrowed(&out, inputs[0].datum_type(), &made)?])
    }
}

/// The transforms of frames that are cut from each signal of a batch, one every so many values.
#[derive(Debug)]
struct ShortTime {
    one_sided: bool,
    window_at: Option<usize>,
    length_at: Option<usize>,
    known: Vec<usize>,
    transform: Transform,
}

pub(super) fn short_time(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (window_at, length_at) = (place(node, 2), place(node, 3));
    ensure!(window_at.is_some() || length_at.is_some(), "STFT has neither a window nor a frame length");
    let kernel = ShortTime {
        one_sided: flag(node, "onesided", true)?,
        window_at,
        length_at,
        known: std::iter::once(1).chain(length_at).collect(),
        transform: Transform::new(FftDirection::Forward),
    };
    Ok((wrap(node, kernel), Vec::new()))
}

/// The frames that are cut from each signal.
struct Frames {
    /// Values of a signal, and the parts of each.
    signal: usize,
    parts: usize,
    step: usize,
    length: usize,
    count: usize,
    /// Numbers that are given of the transform of each.
    gives: usize,
}

impl ShortTime {
    fn frames(&self, inputs: &[Fact]) -> TractResult<Frames> {
        let Some(signal) = inputs.first() else { bail!("takes a signal") };
        let parts = match signal.shape.len() {
            2 => 1,
            3 => parts(signal)?,
            rank => bail!("takes signals of two or three dimensions, got {rank}"),
        };
        let Some(step) = count(inputs, Some(1))? else { bail!("takes a step between frames") };
        let window = match self.window_at.and_then(|at| inputs.get(at)) {
            Some(window) => {
                ensure!(window.datum == signal.datum, "takes a window of {:?}, got {:?}", signal.datum, window.datum);
                let [length] = &*window.shape else { bail!("takes a window of one dimension") };
                Some(length.to_usize()?)
            }
            None => None,
        };
        let length = match (window, count(inputs, self.length_at)?) {
            (Some(window), Some(length)) if window != length => {
                bail!("has a window of {window} for frames of {length}")
            }
            (Some(length), _) | (None, Some(length)) => length,
            (None, None) => bail!("has neither a window nor a frame length"),
        };
        hold(length)?;
        let signal = signal.shape[1].to_usize()?;
        ensure!((1..=signal).contains(&length), "takes frames of {length} from a signal of {signal}");
        let gives = if self.one_sided { half(length) } else { length };
        Ok(Frames { signal, parts, step, length, count: (signal - length) / step + 1, gives })
    }
}

impl Kernel for ShortTime {
    fn name(&self) -> &'static str {
        "STFT"
    }

    fn known(&self) -> &[usize] {
        &self.known
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let frames = self.frames(inputs)?;
        expect(&inputs[0], &FLOATS)?;
        let batch = inputs[0].shape[0].clone();
        Ok(vec![Fact::new(inputs[0].datum, [batch, frames.count.into(), frames.gives.into(), 2.into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let Frames { signal, parts, step, length, count, gives } = self.frames(&facts(inputs))?;
        let window = self.window_at.and_then(|at| inputs.get(at)).map(|window| doubles(window)).transpose()?;
        let batch = inputs[0].shape()[0];
        let shape = [batch, count, gives, 2];
        let mut out = Vec::with_capacity(volume(&shape)?);
        let transform = self.transform.of(length);
        let mut scratch = vec![ZERO; transform.get_inplace_scratch_len()];
        let mut frame = vec![ZERO; length];
        for values in doubles(inputs[0])?.chunks_exact(signal * parts) {
            for first in (0..count).map(|at| at * step * parts) {
                for (value, part) in frame.iter_mut().zip(values[first..].chunks_exact(parts)) {
                    *value = Complex::new(part[0], part.get(1).copied().unwrap_or(0.0));
                }
                if let Some(window) = &window {
                    frame.iter_mut().zip(window).for_each(|(value, weight)| *value *= weight);
                }
                transform.process_with_scratch(&mut frame, &mut scratch);
                out.extend(frame.iter().take(gives).flat_map(|value| [value.re, value.im]));
            }
        }
        Ok(vec![narrowed(&out, inputs[0].datum_type(), &shape)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, LoadError, Model, Tensor, fixtures, fixtures::value, tensor_proto::to_proto};
    use tract_onnx::pb::{GraphProto, TensorProto, tensor_proto::DataType};

    /// A signal of `length` to half of its transform, and back to `back` values.
    fn there_and_back(length: i64, back: i64) -> Result<Model, LoadError> {
        let mut there = fixtures::node("DFT", &["x"], &["half"]);
        there.attribute = vec![fixtures::integer("onesided", 1)];
        let mut again = fixtures::node("DFT", &["half", "length"], &["y"]);
        again.attribute = vec![fixtures::integer("onesided", 1), fixtures::integer("inverse", 1)];
        let proto = fixtures::model(GraphProto {
            node: vec![there, again],
            initializer: vec![to_proto(&Tensor::new([], vec![back]).unwrap(), "length")],
            input: vec![value("x", DataType::Float, &[2, length, 1])],
            output: vec![value("y", DataType::Float, &[2, back, 1])],
            ..GraphProto::default()
        });
        Model::load(&fixtures::bytes(&proto), &Limits::default())
    }

    #[test]
    fn half_of_a_transform_tells_the_signal() {
        for length in [1, 2, 6, 7] {
            let signal: Vec<f32> = (0..2 * length).map(|at| (at * at % 5) as f32).collect();
            let input = Tensor::new([2, usize::try_from(length).unwrap(), 1], signal.clone()).unwrap();
            let made = there_and_back(length, length).unwrap().run(&[input]).unwrap();
            let made = made[0].values::<f32>().unwrap();
            assert!(made.len() == signal.len(), "{length}: {made:?}");
            assert!(made.iter().zip(&signal).all(|(made, given)| (made - given).abs() < 1e-6), "{length}: {made:?}");
        }
    }

    #[test]
    fn a_transform_too_long_for_a_plan_is_refused_even_where_there_is_no_line() {
        let most = i64::try_from(super::MAX_LENGTH).unwrap();
        let signal = |length: i64| TensorProto {
            name: "x".into(),
            data_type: DataType::Float.into(),
            dims: vec![0, length, 1],
            ..TensorProto::default()
        };
        let whole = |name: &str, value: i64| to_proto(&Tensor::new([], vec![value]).unwrap(), name);
        let loaded = |operator: &str, inputs: &[&str], length: i64| {
            let mut proto = fixtures::model(GraphProto {
                node: vec![fixtures::node(operator, inputs, &["y"])],
                initializer: vec![signal(length), whole("step", length), whole("length", length)],
                output: vec![value("y", DataType::Float, &[])],
                ..GraphProto::default()
            });
            proto.opset_import[0].version = 17;
            Model::load(&fixtures::bytes(&proto), &Limits::default())
        };
        for (operator, inputs) in
            [("DFT", &["x", "length"][..]), ("DFT", &["x"]), ("STFT", &["x", "step", "", "length"])]
        {
            for length in [most + 1, 1 << 40, i64::MAX] {
                let told = loaded(operator, inputs, length).unwrap_err().to_string();
                assert!(told.contains("takes transforms of 1 to 4194304 numbers"), "{operator} {length}: {told}");
            }
        }
    }

    #[test]
    fn half_of_a_transform_of_another_length_is_refused() {
        let Err(LoadError::NotCompilable { detail, .. }) = there_and_back(6, 9) else {
            panic!("four are no half of nine")
        };
        assert!(detail.contains("takes 5 of the numbers of a transform of 9, got 4"), "{detail}");
    }
}
