//! `QuantizeLinear`: `saturate(round(x / scale) + zero point)`, halves to the even neighbour, as onnxruntime computes it.
//!
//! tract multiplies by the scale's reciprocal, which rounds otherwise now and then, and lacks 16 bits. What is no number
//! becomes the lowest value, and infinities the last of their side. And `DynamicQuantizeLinear`, which finds scale and zero point in the
//! values: of nothing but zeros tract finds a scale of 0, onnxruntime of 1.

use super::kernel::{Fact, Kernel, axis, expect, floats, values};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractResult, tensor0},
    tract_hir::internal::{DimLike, anyhow, bail, ensure},
};

/// Where a float between ±2²² stands added to this, its last bits are the whole number nearest to it, halves to even.
const ROUNDING: f32 = 12_582_912.0;
/// Element types that come out.
const WHOLE: [DatumType; 4] = [DatumType::U8, DatumType::I8, DatumType::U16, DatumType::I16];

#[derive(Debug)]
pub(super) struct Quantize {
    /// Along which scales and zero points differ, where there are several.
    axis: i64,
    /// What comes out where no zero point says so.
    without_zero: DatumType,
}

pub(super) fn linear(node: &NodeProto) -> TractResult<Quantize> {
    let read = |name| node.get_attr_opt::<i64>(name).map(Option::unwrap_or_default);
    let (block, wanted, precision) = (read("block_size")?, read("output_dtype")?, read("precision")?);
    ensure!(block == 0, "QuantizeLinear scales blocks of {block}: export with one scale for a tensor or an axis");
    ensure!(matches!(precision, 0 | 1), "QuantizeLinear divides in precision {precision}: export it in FP32");
    let without_zero = match wanted {
        0 | 2 => DatumType::U8,
        3 => DatumType::I8,
        4 => DatumType::U16,
        5 => DatumType::I16,
        other => bail!("QuantizeLinear gives element type {other}: it takes UINT8, INT8, UINT16 and INT16"),
    };
    Ok(Quantize { axis: node.get_attr_opt("axis")?.unwrap_or(1), without_zero })
}

impl Quantize {
    fn out(&self, inputs: &[Fact]) -> TractResult<DatumType> {
        let [value, scale, zero @ ..] = inputs else { bail!("takes values and a scale, got {} inputs", inputs.len()) };
        ensure!(zero.len() < 2, "takes values, a scale and a zero point, got {} inputs", inputs.len());
        expect(value, &[DatumType::F32, DatumType::F16])?;
        expect(scale, &[DatumType::F32, DatumType::F16])?;
        for zero in zero {
            expect(zero, &WHOLE)?;
        }
        Ok(zero.first().map_or(self.without_zero, |zero| zero.datum))
    }

    /// Over how many values in a row one scale holds, where several do.
    fn run_length(&self, shape: &[usize], scales: usize) -> TractResult<usize> {
        let axis = axis(self.axis, shape.len())?;
        ensure!(shape[axis] == scales, "has {scales} scales for the {} places of axis {axis}", shape[axis]);
        Ok(shape[axis + 1..].iter().product())
    }
}

impl Kernel for Quantize {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let datum = self.out(inputs)?;
        let count = |fact: &Fact| match &*fact.shape {
            [] => Ok(1),
            [count] => Ok(count.to_usize()?),
            other => bail!("takes one scale for a tensor or an axis, got {} dimensions", other.len()),
        };
        let scales = count(&inputs[1])?;
        if let Some(zero) = inputs.get(2) {
            let zeros = count(zero)?;
            ensure!(zeros == scales, "has {scales} scales and {zeros} zero points");
        }
        Ok(vec![Fact::new(datum, inputs[0].shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let zero = inputs.get(2).copied();
        let datum = zero.map_or(self.without_zero, Tensor::datum_type);
        let made = match datum {
            DatumType::U8 => self.quantized::<u8>(inputs[0], inputs[1], zero),
            DatumType::I8 => self.quantized::<i8>(inputs[0], inputs[1], zero),
            DatumType::U16 => self.quantized::<u16>(inputs[0], inputs[1], zero),
            DatumType::I16 => self.quantized::<i16>(inputs[0], inputs[1], zero),
            other => bail!("gives no {other:?}"),
        };
        Ok(vec![made?])
    }
}

impl Quantize {
    fn quantized<T: Whole>(&self, input: &Tensor, scale: &Tensor, zero: Option<&Tensor>) -> TractResult<Tensor> {
        let (from, scales) = (floats(input)?, floats(scale)?);
        let zeros = zero.map(values::<T>).transpose()?.unwrap_or_default();
        let mut made = Vec::with_capacity(from.len());
        if let ([scale], true) = (&*scales, zeros.len() < 2) {
            quantize(&from, *scale, zeros.first().copied().unwrap_or_default(), &mut made);
        } else {
            let length = self.run_length(input.shape(), scales.len())?;
            ensure!(zeros.is_empty() || zeros.len() == scales.len(), "has too few zero points");
            for (at, run) in from.chunks(length.max(1)).enumerate() {
                let at = at % scales.len();
                quantize(run, scales[at], zeros.get(at).copied().unwrap_or_default(), &mut made);
            }
        }
        Tensor::from_shape(input.shape(), &made).map_err(|error| anyhow!(error))
    }
}

/// An element type that comes out.
trait Whole: Datum + Copy + Default {
    const LOWEST: i32;
    const HIGHEST: i32;
    fn widened(self) -> i32;
    fn narrowed(value: i32) -> Self;
}

macro_rules! whole {
    ($($type:ty),*) => { $(impl Whole for $type {
        const LOWEST: i32 = <$type>::MIN as i32;
        const HIGHEST: i32 = <$type>::MAX as i32;
        fn widened(self) -> i32 {
            i32::from(self)
        }
        #[expect(clippy::cast_possible_truncation, reason = "the value was brought into range")]
        fn narrowed(value: i32) -> Self {
            value as $type
        }
    })* };
}
whole!(u8, i8, u16, i16);

/// Quantises to 8 bits by a scale and a zero point that take in every value, and 0.
#[derive(Debug)]
pub(super) struct Dynamic;

pub(super) fn dynamic(node: &NodeProto) -> TractResult<Dynamic> {
    ensure!(node.input.len() == 1, "DynamicQuantizeLinear takes one input, got {}", node.input.len());
    Ok(Dynamic)
}

impl Kernel for Dynamic {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [value] = inputs else { bail!("takes one input, got {}", inputs.len()) };
        expect(value, &[DatumType::F32])?;
        Ok(vec![
            Fact::new(DatumType::U8, value.shape.clone()),
            Fact::new(DatumType::F32, []),
            Fact::new(DatumType::U8, []),
        ])
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the zero point was brought into range"
    )]
    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let from = values::<f32>(inputs[0])?;
        let least = from.iter().copied().fold(0.0, f32::min);
        let most = from.iter().copied().fold(0.0, f32::max);
        let scale = if least == most { 1.0 } else { (most - least) / 255.0 };
        let zero = (-least / scale).clamp(0.0, 255.0).round_ties_even() as u8;
        let mut made = Vec::with_capacity(from.len());
        quantize(from, scale, zero, &mut made);
        Ok(vec![Tensor::from_shape(inputs[0].shape(), &made)?, tensor0(scale), tensor0(zero)])
    }
}

/// Appends the quantised values. Without a branch, so that it runs over several at once.
fn quantize<T: Whole>(from: &[f32], scale: f32, zero: T, made: &mut Vec<T>) {
    let zero = zero.widened();
    // Of at most 17 bits, which floats hold exactly.
    let (lowest, highest) = ((T::LOWEST - zero) as f32, (T::HIGHEST - zero) as f32);
    made.extend(from.iter().map(|value| {
        let value = value / scale;
        // What is no number is not above the lowest.
        let value = if value > lowest { value } else { lowest };
        let value = if value < highest { value } else { highest };
        let rounded = (value + ROUNDING).to_bits().cast_signed() - ROUNDING.to_bits().cast_signed();
        T::narrowed(rounded + zero)
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<T: Whole>(from: &[f32], scale: f32, zero: T) -> Vec<T> {
        let mut made = Vec::new();
        quantize(from, scale, zero, &mut made);
        made
    }

    #[test]
    fn halves_go_to_even_and_what_is_beyond_stays_at_the_ends() {
        assert_eq!(of(&[0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 300.0, -300.0], 1.0, 0i8), [0, 2, 2, 0, -2, 0, 127, -128]);
        assert_eq!(of(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0], 0.5, 3u8), [255, 0, 0, 5]);
        assert_eq!(of(&[65_536.0, -1e30, 12.0], 1.0, 65_535u16), [65_535, 0, 65_535]);
        assert_eq!(of(&[40_000.0, -40_000.0, 1.0], 1.0, -32_768i16), [7232, -32_768, -32_767]);
    }

    #[test]
    fn every_whole_number_is_found_again() {
        let all: Vec<f32> = (i16::MIN..=i16::MAX).map(|value| f32::from(value) * 0.1).collect();
        assert!(of(&all, 0.1, 0i16).into_iter().eq(i16::MIN..=i16::MAX));
    }
}
