//! Sequences of maps, which ONNX's ZipMap gives, as tables: a row for each map, a column for each key.
//!
//! Only what ZipMap can give is read: every map has the same keys in the same order, and a float for each.

use crate::{error::brief, tensor::Tensor, tensor_proto::TensorFileError};
use prost::Message;
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

/// Longest file, in bytes: decoding takes many times as much memory.
const BYTES: usize = 8 << 20;

// Numbers of fields as in onnx-data.proto, of which tract has no part. Fields that are not named here are passed over.

#[derive(Clone, PartialEq, Message)]
struct Sequence {
    #[prost(message, repeated, tag = "3")]
    tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "6")]
    maps: Vec<Map>,
}

#[derive(Clone, PartialEq, Message)]
struct Map {
    #[prost(int64, repeated, tag = "3")]
    numbers: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    words: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    values: Option<Sequence>,
}

/// The table in a file, or why it is none; nothing where the file is no sequence of maps at all.
pub(super) fn table_from_pb(bytes: &[u8]) -> Option<Result<Tensor, TensorFileError>> {
    if bytes.len() > BYTES {
        return None;
    }
    let sequence = Sequence::decode(bytes).ok()?;
    let first = sequence.maps.first()?;
    // What happens to parse as one is none.
    first.values.as_ref()?;
    Some(table(&sequence.maps, first))
}

fn table(maps: &[Map], first: &Map) -> Result<Tensor, TensorFileError> {
    let columns = first.numbers.len().max(first.words.len());
    let mut values = Vec::new();
    for (row, map) in maps.iter().enumerate() {
        if (&map.numbers, &map.words) != (&first.numbers, &first.words) {
            return Err(wrong(&format!("map {row} of the sequence has other keys than the first one")));
        }
        let tensors = map.values.as_ref().map_or(&[][..], |values| &values.tensors);
        let before = values.len();
        tensors.iter().try_for_each(|tensor| floats(tensor, &mut values))?;
        if values.len() - before != columns {
            return Err(wrong(&format!("map {row} of the sequence has another number of values than keys")));
        }
    }
    Ok(Tensor::new([maps.len(), columns], values)?)
}

/// Values may lie in one tensor each or all in one.
fn floats(tensor: &TensorProto, to: &mut Vec<f32>) -> Result<(), TensorFileError> {
    if tensor.data_type != DataType::Float as i32 {
        return Err(wrong("a map of the sequence holds something else than FP32"));
    }
    let (raw, rest) = tensor.raw_data.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(wrong("a map of the sequence holds a part of a number"));
    }
    to.extend(&tensor.float_data);
    to.extend(raw.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    Ok(())
}

fn wrong(what: &str) -> TensorFileError {
    TensorFileError::Malformed(brief(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tensor_from_pb, tensor_proto::to_proto};

    fn scalar(value: f32) -> TensorProto {
        to_proto(&Tensor::new([], vec![value]).unwrap(), "")
    }

    fn map(keys: &[i64], values: &[f32]) -> Map {
        let values = Sequence { tensors: values.iter().map(|value| scalar(*value)).collect(), maps: vec![] };
        Map { numbers: keys.to_vec(), words: vec![], values: Some(values) }
    }

    fn read(maps: Vec<Map>) -> Option<Result<Tensor, TensorFileError>> {
        table_from_pb(&Sequence { tensors: vec![], maps }.encode_to_vec())
    }

    #[test]
    fn maps_of_probabilities_become_a_table() {
        let expected = Tensor::new([2, 2], vec![0.25f32, 0.75, 1.0, 0.0]).unwrap();
        let maps = vec![map(&[0, 1], &[0.25, 0.75]), map(&[0, 1], &[1.0, 0.0])];
        assert_eq!(read(maps), Some(Ok(expected.clone())));
        let all_in_one = |values: &[f32]| Map {
            words: vec![b"a".to_vec(), b"b".to_vec()],
            values: Some(Sequence {
                tensors: vec![to_proto(&Tensor::new([2], values.to_vec()).unwrap(), "")],
                maps: vec![],
            }),
            ..Map::default()
        };
        assert_eq!(read(vec![all_in_one(&[0.25, 0.75]), all_in_one(&[1.0, 0.0])]), Some(Ok(expected)));
    }

    #[test]
    fn what_is_no_table_is_refused_and_what_is_no_sequence_is_left_to_others() {
        for maps in [
            vec![map(&[0, 1], &[0.5, 0.5]), map(&[0, 2], &[0.5, 0.5])],
            vec![map(&[0, 1], &[0.5])],
            vec![Map {
                values: Some(Sequence {
                    tensors: vec![to_proto(&Tensor::new([1], vec![1i64]).unwrap(), "")],
                    maps: vec![],
                }),
                ..map(&[0], &[])
            }],
        ] {
            assert!(matches!(read(maps.clone()), Some(Err(TensorFileError::Malformed(_)))), "{maps:?}");
        }
        assert_eq!(read(vec![]), None);
        assert_eq!(table_from_pb(b"\xff"), None);
        let tensor = scalar(1.0).encode_to_vec();
        assert!(tensor_from_pb(&tensor).is_ok());
        assert_eq!(table_from_pb(&tensor), None);
    }
}
