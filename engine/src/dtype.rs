//! Element types of tensors, under the names of the Open Inference Protocol v2.

use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr};
use thiserror::Error;
use tract_onnx::pb::tensor_proto::DataType;

/// The element type of a tensor; `Display` and `FromStr` use the names of the Open Inference Protocol v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// `BOOL`
    Bool,
    /// `UINT8`
    U8,
    /// `UINT16`
    U16,
    /// `UINT32`
    U32,
    /// `UINT64`
    U64,
    /// `INT8`
    I8,
    /// `INT16`
    I16,
    /// `INT32`
    I32,
    /// `INT64`
    I64,
    /// `FP32`
    F32,
    /// `FP64`
    F64,
    /// `BYTES`: strings, in UTF-8.
    Bytes,
}

/// A name that is no element type known here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown element type `{0}`: use BOOL, UINT8 to UINT64, INT8 to INT64, FP32, FP64 or BYTES")]
pub struct UnknownDType(pub String);

impl DType {
    /// Every element type, in the order of declaration.
    pub const ALL: [Self; 12] = [
        Self::Bool,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F32,
        Self::F64,
        Self::Bytes,
    ];

    /// The name in the Open Inference Protocol v2.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "UINT8",
            Self::U16 => "UINT16",
            Self::U32 => "UINT32",
            Self::U64 => "UINT64",
            Self::I8 => "INT8",
            Self::I16 => "INT16",
            Self::I32 => "INT32",
            Self::I64 => "INT64",
            Self::F32 => "FP32",
            Self::F64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// Bytes per element; `None` for [`DType::Bytes`], whose elements differ in length.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::U8 | Self::I8 => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Bytes => None,
        }
    }

    pub(crate) fn from_onnx(code: i32) -> Option<Self> {
        Some(match DataType::try_from(code).ok()? {
            DataType::Bool => Self::Bool,
            DataType::Uint8 => Self::U8,
            DataType::Uint16 => Self::U16,
            DataType::Uint32 => Self::U32,
            DataType::Uint64 => Self::U64,
            DataType::Int8 => Self::I8,
            DataType::Int16 => Self::I16,
            DataType::Int32 => Self::I32,
            DataType::Int64 => Self::I64,
            DataType::Float => Self::F32,
            DataType::Double => Self::F64,
            DataType::String => Self::Bytes,
            _ => return None,
        })
    }

    pub(crate) fn to_onnx(self) -> DataType {
        match self {
            Self::Bool => DataType::Bool,
            Self::U8 => DataType::Uint8,
            Self::U16 => DataType::Uint16,
            Self::U32 => DataType::Uint32,
            Self::U64 => DataType::Uint64,
            Self::I8 => DataType::Int8,
            Self::I16 => DataType::Int16,
            Self::I32 => DataType::Int32,
            Self::I64 => DataType::Int64,
            Self::F32 => DataType::Float,
            Self::F64 => DataType::Double,
            Self::Bytes => DataType::String,
        }
    }
}

/// The name of an ONNX element type for messages, known to us or not.
pub(crate) fn onnx_name(code: i32) -> String {
    match (DType::from_onnx(code), DataType::try_from(code)) {
        (Some(dtype), _) => dtype.name().to_owned(),
        (None, Ok(other)) => format!("{other:?}").to_uppercase(),
        (None, Err(_)) => format!("type number {code}"),
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(name: &str) -> Result<Self, UnknownDType> {
        let unknown = || UnknownDType(name.chars().take(32).collect());
        Self::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or_else(unknown)
    }
}

impl Serialize for DType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_onnx_codes_go_both_ways() {
        for dtype in DType::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            assert_eq!(DType::from_onnx(dtype.to_onnx() as i32), Some(dtype));
        }
    }

    #[test]
    fn foreign_names_are_refused_and_cut() {
        assert_eq!("float32".parse::<DType>(), Err(UnknownDType("float32".to_owned())));
        assert_eq!("FP16".parse::<DType>(), Err(UnknownDType("FP16".to_owned())));
        let long = "x".repeat(1_000_000).parse::<DType>().unwrap_err();
        assert_eq!(long.0.len(), 32);
        assert_eq!(DType::from_onnx(DataType::Float16 as i32), None);
        assert_eq!(onnx_name(DataType::Float16 as i32), "FLOAT16");
        assert_eq!(onnx_name(-7), "type number -7");
    }
}
