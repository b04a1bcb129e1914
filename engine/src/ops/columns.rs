//! What prepares columns of numbers: `Imputer`, `Binarizer`, `Normalizer`, `FeatureVectorizer`, `ArrayFeatureExtractor`.

use super::kernel::{Fact, Kernel, NUMBERS, expect, floats, matrix, one, picked, values};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Datum, DatumType, TVec, Tensor, TractResult},
    tract_hir::internal::{TDim, anyhow, bail, ensure},
};

/// Puts a value in the place of one that stands for "missing".
#[derive(Debug)]
pub(super) enum Imputer {
    Floats { missing: f32, by_column: Vec<f32> },
    Ints { missing: i64, by_column: Vec<i64> },
}

pub(super) fn imputer(node: &NodeProto) -> TractResult<Imputer> {
    let floats = node.get_attr_opt_vec::<f32>("imputed_value_floats")?.unwrap_or_default();
    let ints = node.get_attr_opt_vec::<i64>("imputed_value_int64s")?.unwrap_or_default();
    match (floats.is_empty(), ints.is_empty()) {
        (false, true) => {
            let missing = node.get_attr_opt("replaced_value_float")?.unwrap_or(0.0);
            Ok(Imputer::Floats { missing, by_column: floats })
        }
        (true, false) => {
            let missing = node.get_attr_opt("replaced_value_int64")?.unwrap_or(0);
            Ok(Imputer::Ints { missing, by_column: ints })
        }
        (true, true) => bail!("has no value to put in"),
        (false, false) => bail!("has values of two types to put in"),
    }
}

/// `by_column` has a value for each column, or its first is for all.
fn impute<T: Datum + Copy>(input: &Tensor, by_column: &[T], is_missing: impl Fn(T) -> bool) -> TractResult<Tensor> {
    let columns = input.shape().last().copied().unwrap_or(1);
    let by_column = if by_column.len() == columns { by_column } else { &by_column[..1] };
    let values = values::<T>(input)?.iter().zip(by_column.iter().cycle());
    let imputed: Vec<T> = values.map(|(value, imputed)| if is_missing(*value) { *imputed } else { *value }).collect();
    Tensor::from_shape(input.shape(), &imputed)
}

impl Kernel for Imputer {
    fn name(&self) -> &'static str {
        "Imputer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        match self {
            Self::Floats { .. } => expect(input, &[DatumType::F32, DatumType::F64])?,
            Self::Ints { .. } => expect(input, &[DatumType::I64, DatumType::I32])?,
        }
        Ok(vec![input.clone()])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = inputs[0];
        Ok(vec![match (self, input.datum_type()) {
            (Self::Floats { missing, by_column }, DatumType::F64) => {
                let by_column: Vec<f64> = by_column.iter().copied().map(f64::from).collect();
                let missing = f64::from(*missing);
                impute(input, &by_column, |value| value == missing || value.is_nan() && missing.is_nan())?
            }
            (Self::Floats { missing, by_column }, _) => {
                impute(input, by_column, |value| value == *missing || value.is_nan() && missing.is_nan())?
            }
            (Self::Ints { missing, by_column }, DatumType::I32) => {
                let by_column = by_column.iter().map(|value| i32::try_from(*value)).collect::<Result<Vec<_>, _>>()?;
                impute(input, &by_column, |value| i64::from(value) == *missing)?
            }
            (Self::Ints { missing, by_column }, _) => impute(input, by_column, |value| value == *missing)?,
        }])
    }
}

/// 1 where a value is above the threshold, else 0; what is no number is not above it.
#[derive(Debug)]
pub(super) struct Binarizer {
    threshold: f32,
}

pub(super) fn binarizer(node: &NodeProto) -> TractResult<Binarizer> {
    Ok(Binarizer { threshold: node.get_attr_opt("threshold")?.unwrap_or(0.0) })
}

impl Kernel for Binarizer {
    fn name(&self) -> &'static str {
        "Binarizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        expect(input, &NUMBERS)?;
        Ok(vec![input.clone()])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = inputs[0];
        let threshold = f64::from(self.threshold);
        let is_above: Vec<f32> = if input.datum_type() == DatumType::F32 {
            values::<f32>(input)?.iter().map(|value| f32::from(*value > self.threshold)).collect()
        } else {
            let wide = input.cast_to::<f64>()?;
            values::<f64>(&wide)?.iter().map(|value| f32::from(*value > threshold)).collect()
        };
        let ones = Tensor::from_shape(input.shape(), &is_above)?;
        Ok(vec![ones.cast_to_dt(input.datum_type())?.into_owned()])
    }
}

/// Divides each row by its norm; a row whose norm is 0 stays as it is.
#[derive(Debug)]
pub(super) struct Normalizer {
    norm: Norm,
}

#[derive(Debug, Clone, Copy)]
enum Norm {
    /// The greatest value, not the greatest magnitude.
    Max,
    L1,
    L2,
}

pub(super) fn normalizer(node: &NodeProto) -> TractResult<Normalizer> {
    let norm = match node.get_attr_opt::<&str>("norm")?.unwrap_or("MAX") {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        other => bail!("norm `{other}` is not known"),
    };
    Ok(Normalizer { norm })
}

impl Kernel for Normalizer {
    fn name(&self) -> &'static str {
        "Normalizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        expect(input, &NUMBERS)?;
        input.matrix()?;
        Ok(vec![Fact::new(DatumType::F32, input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (_, columns) = matrix(inputs[0])?;
        let mut values = floats(inputs[0])?.into_owned();
        for row in values.chunks_exact_mut(columns.max(1)) {
            let norm = match self.norm {
                Norm::Max => row.iter().copied().fold(f32::MIN, f32::max),
                Norm::L1 => row.iter().map(|value| value.abs()).sum(),
                Norm::L2 => row.iter().map(|value| value * value).sum::<f32>().sqrt(),
            };
            if norm != 0.0 {
                row.iter_mut().for_each(|value| *value /= norm);
            }
        }
        Ok(vec![Tensor::from_shape(inputs[0].shape(), &values)?])
    }
}

/// Puts the columns of several inputs side by side.
#[derive(Debug)]
pub(super) struct FeatureVectorizer {
    /// How many columns of each input; one that has fewer is filled up with 0.
    columns: Vec<usize>,
}

pub(super) fn feature_vectorizer(node: &NodeProto) -> TractResult<FeatureVectorizer> {
    let columns = node.get_attr_opt_vec::<i64>("inputdimensions")?.unwrap_or_default();
    let columns =
        columns.into_iter().map(|columns| usize::try_from(columns).ok().filter(|columns| *columns <= 1 << 24));
    let columns: Option<Vec<usize>> = columns.collect();
    let columns = columns.ok_or_else(|| anyhow!("inputdimensions are not sizes"))?;
    ensure!(columns.len() == node.input.len(), "{} inputs have {} inputdimensions", node.input.len(), columns.len());
    Ok(FeatureVectorizer { columns })
}

impl Kernel for FeatureVectorizer {
    fn name(&self) -> &'static str {
        "FeatureVectorizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let mut rows = None;
        for input in inputs {
            expect(input, &NUMBERS)?;
            let own = input.matrix()?.0;
            let rows = rows.get_or_insert_with(|| own.clone());
            ensure!(*rows == own, "inputs have different numbers of rows");
        }
        let rows = rows.ok_or_else(|| anyhow!("has no inputs"))?;
        Ok(vec![Fact::new(DatumType::F32, [rows, self.columns.iter().sum::<usize>().into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (rows, _) = matrix(inputs[0])?;
        let width: usize = self.columns.iter().sum();
        let mut out = vec![0f32; rows * width];
        let mut left = 0;
        for (input, columns) in inputs.iter().zip(&self.columns) {
            let (_, own) = matrix(input)?;
            let values = floats(input)?;
            if own > 0 && width > 0 {
                for (row, out) in values.chunks_exact(own).zip(out.chunks_exact_mut(width)) {
                    let taken = own.min(*columns);
                    out[left..left + taken].copy_from_slice(&row[..taken]);
                }
            }
            left += columns;
        }
        Ok(vec![Tensor::from_shape(&[rows, width], &out)?])
    }
}

/// Picks columns by their numbers, which the second input holds.
#[derive(Debug)]
pub(super) struct ArrayFeatureExtractor;

pub(super) fn array_feature_extractor(_: &NodeProto) -> TractResult<ArrayFeatureExtractor> {
    Ok(ArrayFeatureExtractor)
}

impl Kernel for ArrayFeatureExtractor {
    fn name(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [input, places] = inputs else { bail!("takes two inputs, got {}", inputs.len()) };
        expect(places, &[DatumType::I64, DatumType::I32])?;
        let picked: TDim = places.shape.iter().product();
        let mut shape: TVec<TDim> = match &*input.shape {
            [] => bail!("takes no scalar"),
            [_] => [1.into()].into_iter().collect(),
            [outer @ .., _] => outer.iter().cloned().collect(),
        };
        shape.push(picked);
        Ok(vec![Fact::new(input.datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (input, places) = (inputs[0], inputs[1].cast_to::<i64>()?);
        let places = values::<i64>(&places)?;
        let columns = *input.shape().last().ok_or_else(|| anyhow!("takes no scalar"))?;
        let place = |place: &i64| usize::try_from(*place).ok().filter(|place| *place < columns);
        let places: Option<Vec<usize>> = places.iter().map(place).collect();
        let places = places.ok_or_else(|| anyhow!("picks a column that is not among {columns}"))?;
        let rows = input.len() / columns.max(1);
        let at: Vec<usize> = (0..rows).flat_map(|row| places.iter().map(move |place| row * columns + place)).collect();
        let mut shape: TVec<usize> = match input.shape() {
            [_] => [1].into_iter().collect(),
            shape => shape[..shape.len() - 1].iter().copied().collect(),
        };
        shape.push(places.len());
        Ok(vec![picked(input, &at, &shape)?])
    }
}
