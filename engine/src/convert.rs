//! Between our tensors and tract's: copies in, copies out, nothing else.

use crate::{
    dtype::DType,
    tensor::{Data, Tensor},
};
use tract_onnx::prelude::{Datum, DatumType, TDim, Tensor as TractTensor, TractError, TractResult, tensor1};

/// Our element type for one of tract's; its symbolic dimensions come out as `INT64`. `None` if it cannot pass.
pub(crate) fn dtype(datum: DatumType) -> Option<DType> {
    Some(match datum {
        DatumType::Bool => DType::Bool,
        DatumType::U8 => DType::U8,
        DatumType::U16 => DType::U16,
        DatumType::U32 => DType::U32,
        DatumType::U64 => DType::U64,
        DatumType::I8 => DType::I8,
        DatumType::I16 => DType::I16,
        DatumType::I32 => DType::I32,
        DatumType::I64 | DatumType::TDim => DType::I64,
        // Callers get 16-bit floats as such of 32.
        DatumType::F16 | DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::String => DType::Bytes,
        _ => return None,
    })
}

/// Tract's element type for one of ours.
pub(crate) fn datum(dtype: DType) -> DatumType {
    match dtype {
        DType::Bool => DatumType::Bool,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::Bytes => DatumType::String,
    }
}

/// A copy for tract.
pub(crate) fn to_tract(tensor: &Tensor) -> TractResult<TractTensor> {
    let shape = tensor.shape();
    match tensor.data() {
        Data::Bool(values) => TractTensor::from_shape(shape, values),
        Data::U8(values) => TractTensor::from_shape(shape, values),
        Data::U16(values) => TractTensor::from_shape(shape, values),
        Data::U32(values) => TractTensor::from_shape(shape, values),
        Data::U64(values) => TractTensor::from_shape(shape, values),
        Data::I8(values) => TractTensor::from_shape(shape, values),
        Data::I16(values) => TractTensor::from_shape(shape, values),
        Data::I32(values) => TractTensor::from_shape(shape, values),
        Data::I64(values) => TractTensor::from_shape(shape, values),
        Data::F32(values) => TractTensor::from_shape(shape, values),
        Data::F64(values) => TractTensor::from_shape(shape, values),
        Data::Bytes(values) => {
            let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone());
            let words = values.iter().map(text).collect::<Result<Vec<_>, _>>();
            let words = words.map_err(|_| TractError::msg("a string is not UTF-8"))?;
            tensor1(&words).into_shape(shape)
        }
    }
}

/// A copy from tract.
pub(crate) fn from_tract(tensor: &TractTensor) -> TractResult<Tensor> {
    fn copy<T: Datum + Copy>(tensor: &TractTensor) -> TractResult<Vec<T>> {
        let view = tensor.to_plain_array_view::<T>()?;
        Ok(view.as_slice().map_or_else(|| view.iter().copied().collect(), <[T]>::to_vec))
    }
    let data = match tensor.datum_type() {
        DatumType::Bool => Data::Bool(copy(tensor)?),
        DatumType::U8 => Data::U8(copy(tensor)?),
        DatumType::U16 => Data::U16(copy(tensor)?),
        DatumType::U32 => Data::U32(copy(tensor)?),
        DatumType::U64 => Data::U64(copy(tensor)?),
        DatumType::I8 => Data::I8(copy(tensor)?),
        DatumType::I16 => Data::I16(copy(tensor)?),
        DatumType::I32 => Data::I32(copy(tensor)?),
        DatumType::I64 => Data::I64(copy(tensor)?),
        DatumType::F16 => Data::F32(copy(&*tensor.cast_to::<f32>()?)?),
        DatumType::F32 => Data::F32(copy(tensor)?),
        DatumType::F64 => Data::F64(copy(tensor)?),
        DatumType::String => {
            let words = tensor.to_plain_array_view::<String>()?;
            Data::Bytes(words.iter().map(|word| word.clone().into_bytes()).collect())
        }
        datum if datum == TDim::datum_type() => Data::I64(copy(&*tensor.cast_to::<i64>()?)?),
        other => return Err(TractError::msg(format!("element type {other:?} cannot pass out"))),
    };
    Ok(Tensor::new(tensor.shape(), data)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::any_tensor;
    use proptest::prelude::*;
    use tract_onnx::prelude::{ToDim, f16};

    #[test]
    fn symbolic_dimensions_come_out_as_int64() {
        let dims = tensor1(&[3.to_dim(), 4.to_dim()]);
        assert_eq!(from_tract(&dims).unwrap(), Tensor::new([2], vec![3i64, 4]).unwrap());
        assert_eq!(dtype(DatumType::Blob), None);
    }

    #[test]
    fn halves_come_out_as_floats_of_32_bits() {
        let halves = tensor1(&[f16::from_f32(1.5), f16::from_f32(-2.0)]);
        assert_eq!(from_tract(&halves).unwrap(), Tensor::new([2], vec![1.5f32, -2.0]).unwrap());
        assert_eq!(dtype(DatumType::F16), Some(DType::F32));
    }

    proptest! {
        #[test]
        fn values_survive_the_way_in_and_out(tensor in any_tensor()) {
            match to_tract(&tensor) {
                Ok(inside) => {
                    prop_assert_eq!(datum(tensor.dtype()), inside.datum_type());
                    prop_assert_eq!(format!("{:?}", from_tract(&inside).unwrap()), format!("{tensor:?}"));
                }
                Err(_) => {
                    let words = tensor.values::<Vec<u8>>().expect("only strings are refused");
                    prop_assert!(words.iter().any(|word| std::str::from_utf8(word).is_err()));
                }
            }
        }
    }
}
