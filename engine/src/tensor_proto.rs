//! ONNX tensor messages: reads and writes the `.pb` files of golden vectors, and checks the tensors inside a model.
//!
//! Data in other files is never followed. Numbers that do not fit their declared type are an error, not a wrap.

use crate::{
    decode,
    dtype::{DType, onnx_name},
    error::{LoadError, brief},
    tensor::{Data, Tensor, TensorError, volume},
};
use prost::Message;
use thiserror::Error;
use tract_onnx::{
    pb::{
        TensorProto,
        tensor_proto::{DataLocation, DataType},
    },
    prelude::f16,
};

/// Memory that decoding one tensor file may take, in bytes.
const DECODED_BYTES: u64 = 512 << 20;

/// Why bytes are no tensor file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TensorFileError {
    /// Not an ONNX tensor message, or one that contradicts itself.
    #[error("not an ONNX tensor: {0}")]
    Malformed(String),
    /// An element type that [`DType`] does not have.
    #[error("element type {0} is not supported in tensor files")]
    UnsupportedType(String),
    /// The values lie in another file.
    #[error("the values are stored in another file: save them inside the tensor")]
    ExternalData,
    /// The shape does not hold the values.
    #[error(transparent)]
    Shape(#[from] TensorError),
}

/// Reads one ONNX `TensorProto`, the content of a golden vector's `.pb` file. Its name is not kept. 16-bit floats become floats of 32, as
/// which a model takes and gives them.
///
/// # Errors
/// [`TensorFileError`] if the bytes are no such message, or hold a type or a place of data that is not supported.
pub fn tensor_from_pb(bytes: &[u8]) -> Result<Tensor, TensorFileError> {
    let mut proto = decode::tensor(bytes, DECODED_BYTES).map_err(|what| malformed(&what))?;
    widen(&mut proto)?;
    from_proto(proto)
}

/// Makes floats of 16 bits floats of 32; anything else stays as it is.
///
/// # Errors
/// Where the values are not such numbers.
pub(crate) fn widen(proto: &mut TensorProto) -> Result<(), TensorFileError> {
    if proto.data_type != DataType::Float16 as i32 || is_external(proto) {
        return Ok(());
    }
    let halves: Vec<u16> = match raw(DType::U16, &proto.raw_data)? {
        Data::U16(halves) if !halves.is_empty() => halves,
        _ => narrowed(&proto.int32_data)?,
    };
    proto.float_data = halves.into_iter().map(|half| f16::from_bits(half).to_f32()).collect();
    proto.data_type = DataType::Float as i32;
    proto.raw_data = Default::default();
    proto.int32_data = Vec::new();
    Ok(())
}

/// Numbers in a type that has room for fewer.
fn narrowed<S: Copy, T: TryFrom<S>>(values: &[S]) -> Result<Vec<T>, TensorFileError> {
    let fit = values.iter().map(|value| T::try_from(*value));
    fit.collect::<Result<_, _>>().map_err(|_| malformed("a value does not fit its element type"))
}

/// The same from a message that was decoded already.
pub(crate) fn from_proto(proto: TensorProto) -> Result<Tensor, TensorFileError> {
    let dtype = DType::from_onnx(proto.data_type)
        .ok_or_else(|| TensorFileError::UnsupportedType(onnx_name(proto.data_type)))?;
    if is_external(&proto) {
        return Err(TensorFileError::ExternalData);
    }
    if proto.segment.is_some() {
        return Err(malformed("the tensor is one segment of a larger one"));
    }
    let shape = shape(&proto.dims).ok_or_else(|| malformed("a dimension is negative"))?;
    let data = if proto.raw_data.is_empty() { typed(dtype, proto)? } else { raw(dtype, &proto.raw_data)? };
    Ok(Tensor::new(shape, data)?)
}

/// Writes a tensor as an ONNX `TensorProto` named `name`; [`tensor_from_pb`] reads it back.
pub fn tensor_to_pb(tensor: &Tensor, name: &str) -> Vec<u8> {
    to_proto(tensor, name).encode_to_vec()
}

pub(crate) fn to_proto(tensor: &Tensor, name: &str) -> TensorProto {
    let mut proto = TensorProto {
        name: name.to_owned(),
        data_type: tensor.dtype().to_onnx() as i32,
        dims: tensor.shape().iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
        ..TensorProto::default()
    };
    macro_rules! little_endian {
        ($values:expr) => {
            proto.raw_data = $values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
    }
    match tensor.data() {
        Data::Bool(values) => proto.raw_data = values.iter().map(|value| u8::from(*value)).collect(),
        Data::U8(values) => proto.raw_data.clone_from(values),
        Data::U16(values) => little_endian!(values),
        Data::U32(values) => little_endian!(values),
        Data::U64(values) => little_endian!(values),
        Data::I8(values) => little_endian!(values),
        Data::I16(values) => little_endian!(values),
        Data::I32(values) => little_endian!(values),
        Data::I64(values) => little_endian!(values),
        Data::F32(values) => little_endian!(values),
        Data::F64(values) => little_endian!(values),
        Data::Bytes(values) => proto.string_data.clone_from(values),
    }
    proto
}

/// Refuses a tensor of a model whose values lie elsewhere or do not fill its shape; returns its number of values.
pub(crate) fn check_in_model(proto: &TensorProto, name: &str) -> Result<u64, LoadError> {
    let wrong = |what: &str| Err(LoadError::malformed(format!("tensor `{name}` {what}")));
    if is_external(proto) {
        return Err(LoadError::ExternalData { tensor: brief(name) });
    }
    if proto.segment.is_some() {
        return wrong("is one segment of a larger one");
    }
    let Some(values) = shape(&proto.dims).and_then(|shape| volume(&shape)) else {
        return wrong("has dimensions that are negative or too large");
    };
    let stored = match element_bytes(proto.data_type) {
        Some(size) if !proto.raw_data.is_empty() => {
            if !proto.raw_data.len().is_multiple_of(size) {
                return wrong("has a length that is no whole number of values");
            }
            proto.raw_data.len() / size
        }
        Some(_) => stored_values(proto),
        // Types that tract refuses by name; their width is not ours to know.
        None => values,
    };
    if stored != values {
        return wrong(&format!("has shape {:?} but holds {stored} values", proto.dims));
    }
    Ok(values as u64)
}

/// The values of a stored INT64 tensor such as a shape; `None` for other types.
pub(crate) fn int64_values(proto: &TensorProto) -> Option<Vec<i64>> {
    if proto.data_type != DataType::Int64 as i32 {
        return None;
    }
    if proto.raw_data.is_empty() {
        return Some(proto.int64_data.clone());
    }
    let (values, _) = proto.raw_data.as_chunks::<8>();
    Some(values.iter().map(|value| i64::from_le_bytes(*value)).collect())
}

fn is_external(proto: &TensorProto) -> bool {
    proto.data_location == Some(DataLocation::External as i32) || !proto.external_data.is_empty()
}

fn shape(dims: &[i64]) -> Option<Vec<usize>> {
    dims.iter().map(|dim| usize::try_from(*dim).ok()).collect()
}

fn element_bytes(data_type: i32) -> Option<usize> {
    match DType::from_onnx(data_type) {
        Some(dtype) => Some(dtype.size().unwrap_or(1)),
        None if data_type == DataType::Float16 as i32 || data_type == DataType::Bfloat16 as i32 => Some(2),
        None => None,
    }
}

fn stored_values(proto: &TensorProto) -> usize {
    let lengths = [
        proto.float_data.len(),
        proto.int32_data.len(),
        proto.string_data.len(),
        proto.int64_data.len(),
        proto.double_data.len(),
        proto.uint64_data.len(),
    ];
    lengths.into_iter().fold(0, usize::saturating_add)
}

fn malformed(what: &str) -> TensorFileError {
    TensorFileError::Malformed(brief(what))
}

fn typed(dtype: DType, proto: TensorProto) -> Result<Data, TensorFileError> {
    Ok(match dtype {
        DType::Bool => Data::Bool(proto.int32_data.iter().map(|value| *value != 0).collect()),
        DType::U8 => Data::U8(narrowed(&proto.int32_data)?),
        DType::U16 => Data::U16(narrowed(&proto.int32_data)?),
        DType::U32 => Data::U32(narrowed(&proto.uint64_data)?),
        DType::U64 => Data::U64(proto.uint64_data),
        DType::I8 => Data::I8(narrowed(&proto.int32_data)?),
        DType::I16 => Data::I16(narrowed(&proto.int32_data)?),
        DType::I32 => Data::I32(proto.int32_data),
        DType::I64 => Data::I64(proto.int64_data),
        DType::F32 => Data::F32(proto.float_data),
        DType::F64 => Data::F64(proto.double_data),
        DType::Bytes => Data::Bytes(proto.string_data),
    })
}

fn raw(dtype: DType, bytes: &[u8]) -> Result<Data, TensorFileError> {
    macro_rules! little_endian {
        ($variant:ident, $element:ty) => {{
            let (values, rest) = bytes.as_chunks::<{ size_of::<$element>() }>();
            if !rest.is_empty() {
                return Err(malformed("the raw data is no whole number of values"));
            }
            Data::$variant(values.iter().map(|value| <$element>::from_le_bytes(*value)).collect())
        }};
    }
    Ok(match dtype {
        DType::Bool => Data::Bool(bytes.iter().map(|byte| *byte != 0).collect()),
        DType::U8 => Data::U8(bytes.to_vec()),
        DType::U16 => little_endian!(U16, u16),
        DType::U32 => little_endian!(U32, u32),
        DType::U64 => little_endian!(U64, u64),
        DType::I8 => little_endian!(I8, i8),
        DType::I16 => little_endian!(I16, i16),
        DType::I32 => little_endian!(I32, i32),
        DType::I64 => little_endian!(I64, i64),
        DType::F32 => little_endian!(F32, f32),
        DType::F64 => little_endian!(F64, f64),
        DType::Bytes => return Err(malformed("strings cannot be raw data")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::any_tensor;
    use proptest::prelude::*;
    use tract_onnx::pb::StringStringEntryProto;

    fn proto(data_type: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: data_type as i32, dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn typed_fields_are_read_as_exporters_write_them() {
        let flags = TensorProto { int32_data: vec![0, 1, 5], ..proto(DataType::Bool, &[3]) };
        assert_eq!(tensor_from_pb(&flags.encode_to_vec()), Ok(Tensor::new([3], vec![false, true, true]).unwrap()));
        let words = TensorProto { uint64_data: vec![u64::from(u32::MAX)], ..proto(DataType::Uint32, &[]) };
        assert_eq!(tensor_from_pb(&words.encode_to_vec()), Ok(Tensor::new([], vec![u32::MAX]).unwrap()));
        let wide = TensorProto { int32_data: vec![256], ..proto(DataType::Uint8, &[1]) };
        assert!(matches!(tensor_from_pb(&wide.encode_to_vec()), Err(TensorFileError::Malformed(_))));
    }

    #[test]
    fn halves_are_read_as_floats_of_32_bits() {
        let floats = Tensor::new([2], vec![1.5f32, -2.0]).unwrap();
        let typed = TensorProto { int32_data: vec![0x3e00, 0xc000], ..proto(DataType::Float16, &[2]) };
        let raw = TensorProto { raw_data: vec![0x00, 0x3e, 0x00, 0xc0], ..proto(DataType::Float16, &[2]) };
        for half in [typed, raw] {
            assert_eq!(tensor_from_pb(&half.encode_to_vec()), Ok(floats.clone()));
        }
        let wide = TensorProto { int32_data: vec![1 << 16], ..proto(DataType::Float16, &[1]) };
        assert!(matches!(tensor_from_pb(&wide.encode_to_vec()), Err(TensorFileError::Malformed(_))));
    }

    #[test]
    fn each_refusal_has_its_variant() {
        let brain = proto(DataType::Bfloat16, &[1]);
        assert_eq!(tensor_from_pb(&brain.encode_to_vec()), Err(TensorFileError::UnsupportedType("BFLOAT16".into())));
        let entry = StringStringEntryProto { key: "location".into(), value: "../secret".into() };
        let outside = TensorProto { external_data: vec![entry], ..proto(DataType::Float, &[1]) };
        assert_eq!(tensor_from_pb(&outside.encode_to_vec()), Err(TensorFileError::ExternalData));
        let short = TensorProto { float_data: vec![1.0], ..proto(DataType::Float, &[2]) };
        assert!(matches!(tensor_from_pb(&short.encode_to_vec()), Err(TensorFileError::Shape(_))));
        let ragged = TensorProto { raw_data: vec![0; 5], ..proto(DataType::Float, &[1]) };
        assert!(matches!(tensor_from_pb(&ragged.encode_to_vec()), Err(TensorFileError::Malformed(_))));
        let negative = proto(DataType::Float, &[-1]);
        assert!(matches!(tensor_from_pb(&negative.encode_to_vec()), Err(TensorFileError::Malformed(_))));
        assert_eq!(tensor_from_pb(&[]), Err(TensorFileError::UnsupportedType("UNDEFINED".into())));
    }

    #[test]
    fn tensors_inside_a_model_must_fill_their_shape() {
        let full = TensorProto { raw_data: vec![0; 12], ..proto(DataType::Float, &[3]) };
        assert_eq!(check_in_model(&full, "w"), Ok(3));
        let huge = proto(DataType::Float, &[i64::MAX, i64::MAX]);
        assert!(matches!(check_in_model(&huge, "w"), Err(LoadError::Malformed { detail }) if detail.contains("`w`")));
        let empty = proto(DataType::Float, &[1 << 40]);
        assert!(
            matches!(check_in_model(&empty, "w"), Err(LoadError::Malformed { detail }) if detail.contains("0 values"))
        );
    }

    proptest! {
        #[test]
        fn written_tensors_read_back_bit_for_bit(tensor in any_tensor()) {
            let back = tensor_from_pb(&tensor_to_pb(&tensor, "t")).unwrap();
            // Debug text, because NaN is not equal to itself.
            prop_assert_eq!(format!("{back:?}"), format!("{tensor:?}"));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = tensor_from_pb(&bytes);
        }
    }
}
