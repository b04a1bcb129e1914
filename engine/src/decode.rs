//! From bytes to ONNX messages, with the memory bounded before the decoder is let loose.
//!
//! Two bytes on the wire can become an operator attribute of over a kilobyte in memory, so a file within its size limit
//! can still take more memory than there is. [`weigh`] walks the bytes without keeping anything, adds up what the
//! decoder would allocate, and refuses what nests too deeply or is no protobuf at all.

use crate::{error::LoadError, guard::guarded, limits::Limits};
use prost::Message;
use std::mem::size_of;
use thiserror::Error;
use tract_onnx::pb;

/// The decoder's own limit on nesting.
const DEPTH: u32 = 100;
/// A growing vector keeps up to twice what it holds.
const GROWTH: u64 = 2;

/// Decodes a model file.
pub(crate) fn model(bytes: &[u8], limits: &Limits) -> Result<pb::ModelProto, LoadError> {
    let got = bytes.len() as u64;
    if got > limits.file_bytes {
        return Err(LoadError::TooLarge { what: "the model file, in bytes,".into(), got, limit: limits.file_bytes });
    }
    if bytes.is_empty() {
        return Err(LoadError::malformed("the file is empty"));
    }
    match weigh(bytes, Kind::Model, limits.decoded_bytes) {
        Ok(()) => {}
        Err(Weight::Over(got)) => {
            let what = "the decoded model, in bytes of memory,".into();
            return Err(LoadError::TooLarge { what, got, limit: limits.decoded_bytes });
        }
        Err(Weight::Broken(what)) => return Err(LoadError::malformed(what)),
    }
    let decoded = guarded(|| pb::ModelProto::decode(bytes)).map_err(|what| LoadError::Panicked { what })?;
    decoded.map_err(|error| LoadError::malformed(error.to_string()))
}

/// Memory, in bytes, that another copy of a function would take at most.
pub(crate) fn weight(function: &pb::FunctionProto) -> u64 {
    let mut total = 0;
    let walked = walk(&function.encode_to_vec(), Kind::Function, DEPTH, u64::MAX, &mut total);
    walked.map_or(u64::MAX, |()| total)
}

/// Decodes one tensor file within `limit` bytes of memory; the error says why not.
pub(crate) fn tensor(bytes: &[u8], limit: u64) -> Result<pb::TensorProto, String> {
    weigh(bytes, Kind::Tensor, limit).map_err(|weight| weight.to_string())?;
    guarded(|| pb::TensorProto::decode(bytes))?.map_err(|error| error.to_string())
}

#[derive(Debug, PartialEq, Eq, Error)]
enum Weight {
    #[error("decoding takes more than {0} bytes of memory")]
    Over(u64),
    #[error("{0}")]
    Broken(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Value,
    Type,
    TensorType,
    Shape,
    Dimension,
    Training,
    Function,
    Annotation,
    Entry,
}

impl Kind {
    /// The message that a length-delimited field holds, if it holds one.
    fn child(self, field: u64) -> Option<Self> {
        use Kind::*;
        Some(match (self, field) {
            (Model, 7) | (Attribute, 6 | 11) | (Training, 1 | 2) => Graph,
            (Graph, 1) | (Function, 7) => Node,
            (Graph, 5) | (Attribute, 5 | 10) | (Sparse, 1 | 2) => Tensor,
            (Graph, 11..=13) => Value,
            (Graph, 14) => Annotation,
            (Graph, 15) | (Attribute, 22 | 23) => Sparse,
            (Node, 5) | (Function, 11) => Attribute,
            (Attribute, 15) | (Value, 2) => Type,
            (Type, 1) => TensorType,
            (TensorType, 2) => Shape,
            (Shape, 1) => Dimension,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Model, 8 | 14) | (Tensor, 3 | 13) | (Training, 3 | 4) | (Annotation, 2) | (Function, 9) => Entry,
            _ => return None,
        })
    }

    fn size(self) -> u64 {
        let bytes = match self {
            Self::Model => size_of::<pb::ModelProto>(),
            Self::Graph => size_of::<pb::GraphProto>(),
            Self::Node => size_of::<pb::NodeProto>(),
            Self::Attribute => size_of::<pb::AttributeProto>(),
            Self::Tensor => size_of::<pb::TensorProto>(),
            Self::Sparse => size_of::<pb::SparseTensorProto>(),
            Self::Value => size_of::<pb::ValueInfoProto>(),
            Self::Type | Self::TensorType => size_of::<pb::TypeProto>(),
            Self::Shape => size_of::<pb::TensorShapeProto>(),
            Self::Dimension => size_of::<pb::tensor_shape_proto::Dimension>(),
            Self::Training => size_of::<pb::TrainingInfoProto>(),
            Self::Function => size_of::<pb::FunctionProto>(),
            Self::Annotation => size_of::<pb::TensorAnnotation>(),
            Self::Entry => size_of::<pb::StringStringEntryProto>(),
        };
        bytes as u64
    }

    /// Bytes of memory for a length-delimited field that is no message.
    fn plain(self, field: u64, length: u64) -> u64 {
        match (self, field) {
            // Packed varints: one byte may become an eight-byte number.
            (Self::Tensor, 1 | 5 | 7 | 11) | (Self::Attribute, 8) | (Self::Sparse, 3) => GROWTH * 8 * length,
            (Self::Tensor, 4 | 9 | 10) | (Self::Attribute, 7) => length,
            _ => GROWTH * size_of::<String>() as u64 + length,
        }
    }
}

/// Whether decoding `bytes` as `kind` stays within `limit` bytes of memory.
fn weigh(bytes: &[u8], kind: Kind, limit: u64) -> Result<(), Weight> {
    let mut total = 0;
    walk(bytes, kind, DEPTH, limit, &mut total)
}

fn walk(mut rest: &[u8], kind: Kind, depth: u32, limit: u64, total: &mut u64) -> Result<(), Weight> {
    let depth = depth.checked_sub(1).ok_or(Weight::Broken("messages nest too deeply"))?;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let (field, wire) = (tag >> 3, tag & 7);
        let cost = match wire {
            0 => {
                varint(&mut rest)?;
                GROWTH * 8
            }
            1 => {
                take(&mut rest, 8)?;
                GROWTH * 8
            }
            5 => {
                take(&mut rest, 4)?;
                GROWTH * 4
            }
            2 => {
                let length = varint(&mut rest)?;
                let inner = take(&mut rest, length)?;
                match kind.child(field) {
                    Some(child) => {
                        walk(inner, child, depth, limit, total)?;
                        GROWTH * child.size()
                    }
                    None => kind.plain(field, length),
                }
            }
            _ => return Err(Weight::Broken("a field has a wire type that ONNX does not use")),
        };
        *total = total.saturating_add(cost);
        if *total > limit {
            return Err(Weight::Over(*total));
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64, Weight> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(Weight::Broken("the file ends inside a number"))?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Weight::Broken("a number is longer than ten bytes"))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], Weight> {
    let length = usize::try_from(length).ok();
    let (inner, tail) = length
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(Weight::Broken("the file ends inside a field"))?;
    *rest = tail;
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use proptest::prelude::*;

    #[test]
    fn size_and_emptiness_are_checked_first() {
        let limits = Limits { file_bytes: 3, ..Limits::default() };
        assert!(matches!(model(&[0; 4], &limits), Err(LoadError::TooLarge { got: 4, limit: 3, .. })));
        assert!(matches!(model(&[], &limits), Err(LoadError::Malformed { .. })));
    }

    #[test]
    fn a_bomb_of_empty_attributes_is_refused_before_it_is_decoded() {
        let mut node = Vec::new();
        for _ in 0..1_000_000 {
            node.extend([0x2a, 0x00]);
        }
        let bomb = wrap(7, wrap(1, node));
        let limits = Limits { decoded_bytes: 64 << 20, ..Limits::default() };
        assert!(matches!(model(&bomb, &limits), Err(LoadError::TooLarge { limit, .. }) if limit == 64 << 20));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut graph = Vec::new();
        for _ in 0..200 {
            graph = wrap(1, wrap(5, wrap(6, graph)));
        }
        assert_eq!(
            model(&wrap(7, graph), &Limits::default()),
            Err(LoadError::Malformed { detail: "messages nest too deeply".into() })
        );
    }

    #[test]
    fn a_real_model_weighs_little_more_than_its_file() {
        let bytes = fixtures::bytes(&fixtures::linear());
        assert_eq!(weigh(&bytes, Kind::Model, 64 << 10), Ok(()));
    }

    fn wrap(field: u8, inner: Vec<u8>) -> Vec<u8> {
        let mut bytes = vec![field << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend(inner);
        bytes
    }

    proptest! {
        #[test]
        fn whatever_the_decoder_takes_the_scale_takes_too(flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..3)) {
            let mut bytes = fixtures::bytes(&fixtures::softmax());
            for (at, bit) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            let weight = weigh(&bytes, Kind::Model, u64::MAX);
            let groups = matches!(weight, Err(Weight::Broken(what)) if what.contains("wire type"));
            if pb::ModelProto::decode(&*bytes).is_ok() && !groups {
                prop_assert_eq!(weight, Ok(()));
            }
        }
    }
}
