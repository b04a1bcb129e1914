//! What a model takes and gives: name, element type and dimensions of each input and output.
//!
//! Dimensions may be open (symbolic, absent, zero or negative in the file). An open first dimension of an input is the batch; what a
//! later one is at a call is the caller's choice, and each choice costs a plan.

use crate::{
    dtype::{DType, onnx_name},
    error::{LoadError, RunError, brief},
    limits::Limits,
    tensor::{Tensor, volume},
};
use serde::Serialize;
use std::collections::HashSet;
use tract_onnx::pb::{GraphProto, TypeProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto};

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorSpec {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions, outermost first; `None` is open or, in outputs, unknown before a run.
    pub dims: Vec<Option<usize>>,
    /// What the file calls its open dimensions.
    #[serde(skip)]
    pub(crate) names: Vec<Option<String>>,
}

impl TensorSpec {
    /// Whether the first dimension is open.
    pub fn is_batched(&self) -> bool {
        self.dims.first() == Some(&None)
    }

    /// Whether nothing but the first dimension of several is open, so that one row is all that there is to try.
    pub(crate) fn is_open_in_rows_only(&self) -> bool {
        self.dims.iter().skip(1).all(Option::is_some)
    }

    /// What the file calls the batch.
    pub(crate) fn rows_name(&self) -> Option<&str> {
        self.names.first()?.as_deref()
    }

    /// The dimensions as text: `[?, 64]`.
    pub fn shape_text(&self) -> String {
        shape_text(&self.dims)
    }

    /// The shape for `batch` rows, unless a later dimension is open.
    pub(crate) fn pinned(&self, batch: usize) -> Option<Vec<usize>> {
        let dims = self.dims.iter().enumerate();
        dims.map(|(axis, dim)| if axis == 0 { dim.or(Some(batch)) } else { *dim }).collect()
    }

    /// Refuses a tensor of another type or shape; the number of rows is the caller's to judge.
    pub(crate) fn admit(&self, tensor: &Tensor) -> Result<(), RunError> {
        if tensor.dtype() != self.dtype {
            let (expected, got) = (self.dtype, tensor.dtype());
            return Err(RunError::WrongDtype { tensor: self.name.clone(), expected, got });
        }
        let fits = |(dim, got): (&Option<usize>, &usize)| dim.is_none_or(|dim| dim == *got);
        if tensor.shape().len() != self.dims.len() || !self.dims.iter().zip(tensor.shape()).all(fits) {
            let got = tensor.shape().iter().copied().take(16).collect();
            return Err(RunError::WrongShape { tensor: self.name.clone(), expected: self.shape_text(), got });
        }
        Ok(())
    }
}

/// The inputs that a caller must give: graph inputs that no initializer fills, in the file's order.
pub(crate) fn inputs(graph: &GraphProto, limits: &Limits) -> Result<Vec<TensorSpec>, LoadError> {
    let filled: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let open = graph.input.iter().filter(|input| !filled.contains(input.name.as_str()));
    open.map(|input| self::input(input, limits)).collect()
}

/// The graph inputs that an initializer fills.
pub(crate) fn in_file(graph: &GraphProto) -> Vec<String> {
    let filled: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.iter().map(|input| input.name.clone()).filter(|name| filled.contains(name.as_str())).collect()
}

fn input(info: &ValueInfoProto, limits: &Limits) -> Result<TensorSpec, LoadError> {
    let name = info.name.clone();
    let Some(declared) = tensor_type(info.r#type.as_ref()) else {
        return Err(LoadError::malformed(format!("input `{name}` is no tensor")));
    };
    let dtype = DType::from_onnx(declared.elem_type)
        .ok_or_else(|| LoadError::UnsupportedType { tensor: brief(&name), dtype: onnx_name(declared.elem_type) })?;
    let Some(dims) = dims(declared) else {
        return Err(LoadError::NoShape { input: brief(&name) });
    };
    let spec = TensorSpec { name, dtype, dims, names: names(declared) };
    let row: Vec<usize> = spec.dims.iter().map(|dim| dim.unwrap_or(1)).collect();
    let bytes = volume(&row)
        .and_then(|values| values.checked_mul(dtype.size().unwrap_or(size_of::<String>())))
        .map_or(u64::MAX, |n| n as u64);
    if bytes > limits.tensor_bytes {
        let what = format!("input `{}` of shape {}, in bytes,", brief(&spec.name), brief(&spec.shape_text()));
        return Err(LoadError::TooLarge { what, got: bytes, limit: limits.tensor_bytes });
    }
    Ok(spec)
}

/// The spec of an output that computes `dims` when one row goes in.
///
/// The file's own word on output shapes is often wrong, so it is believed only where it says that a first dimension is
/// open, and only if it has the right rank.
pub(crate) fn output(info: &ValueInfoProto, dtype: DType, computed: &[Option<usize>], batched: bool) -> TensorSpec {
    let declared = tensor_type(info.r#type.as_ref()).and_then(dims);
    let declared = declared.filter(|dims| dims.len() == computed.len());
    let open = batched && declared.is_none_or(|dims| dims.first() == Some(&None));
    let dims = computed.iter().enumerate().map(|(axis, dim)| if axis == 0 && open { None } else { *dim }).collect();
    TensorSpec { name: info.name.clone(), dtype, dims, names: Vec::new() }
}

/// The spec of an output whose dimensions depend on more than rows: fixed is what the file says is fixed, unless `computed`, for some
/// shapes, says otherwise.
pub(crate) fn loose_output(info: &ValueInfoProto, dtype: DType, computed: &[Option<usize>]) -> TensorSpec {
    let declared = tensor_type(info.r#type.as_ref()).and_then(dims).filter(|dims| dims.len() == computed.len());
    let declared = declared.unwrap_or_else(|| vec![None; computed.len()]);
    let dims = declared.iter().zip(computed).map(|(said, got)| said.filter(|_| said == got)).collect();
    TensorSpec { name: info.name.clone(), dtype, dims, names: Vec::new() }
}

/// The spec of an output of which the file alone tells; none where it does not.
pub(crate) fn declared_output(info: &ValueInfoProto) -> Option<TensorSpec> {
    let declared = tensor_type(info.r#type.as_ref())?;
    let dtype = DType::from_onnx(declared.elem_type)?;
    Some(TensorSpec { name: info.name.clone(), dtype, dims: dims(declared)?, names: Vec::new() })
}

fn tensor_type(proto: Option<&TypeProto>) -> Option<&type_proto::Tensor> {
    let type_proto::Value::TensorType(tensor) = proto?.value.as_ref()?;
    Some(tensor)
}

fn dims(tensor: &type_proto::Tensor) -> Option<Vec<Option<usize>>> {
    let dim = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(dim)) => usize::try_from(*dim).ok().filter(|dim| *dim > 0),
        Some(dimension::Value::DimParam(_)) | None => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(|one| dim(&one.value)).collect())
}

fn names(tensor: &type_proto::Tensor) -> Vec<Option<String>> {
    let name = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => Some(name.clone()),
        _ => None,
    };
    tensor.shape.iter().flat_map(|shape| &shape.dim).map(|one| name(&one.value)).collect()
}

fn shape_text(dims: &[Option<usize>]) -> String {
    let texts: Vec<String> = dims.iter().map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string())).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dims: &[Option<usize>]) -> TensorSpec {
        TensorSpec { name: "x".into(), dtype: DType::F32, dims: dims.to_vec(), names: Vec::new() }
    }

    #[test]
    fn only_the_first_dimension_is_pinned() {
        assert_eq!(spec(&[None, Some(4)]).pinned(3), Some(vec![3, 4]));
        assert_eq!(spec(&[Some(2), Some(4)]).pinned(3), Some(vec![2, 4]));
        assert_eq!(spec(&[None, None]).pinned(3), None);
        assert_eq!(spec(&[]).pinned(3), Some(vec![]));
    }

    #[test]
    fn tensors_of_another_type_rank_or_size_are_refused() {
        let spec = spec(&[None, Some(2)]);
        assert_eq!(spec.admit(&Tensor::new([5, 2], vec![0f32; 10]).unwrap()), Ok(()));
        let wrong = spec.admit(&Tensor::new([1, 2], vec![0f64; 2]).unwrap());
        let expected = RunError::WrongDtype { tensor: "x".into(), expected: DType::F32, got: DType::F64 };
        assert_eq!(wrong, Err(expected));
        for shape in [vec![2], vec![1, 2, 1], vec![2, 1]] {
            let wrong = spec.admit(&Tensor::new(shape.clone(), vec![0f32; 2]).unwrap());
            assert_eq!(wrong, Err(RunError::WrongShape { tensor: "x".into(), expected: "[?, 2]".into(), got: shape }));
        }
    }
}
