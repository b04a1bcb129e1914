//! What a plan is made for: the shapes of a call's inputs and, where the graph cannot be compiled without them, the values of its
//! small integer inputs, such as an axis, a length or a rate that picks a branch.

use crate::{
    dtype::DType,
    spec::TensorSpec,
    tensor::{Data, Tensor},
};

/// An input of more values is never one that a plan is made for.
const MOST_VALUES: usize = 64;
/// What open dimensions that are not rows are tried at before any call, one after the other.
const TYPICAL: [usize; 4] = [64, 1, 224, 512];
/// Rows that are tried where rows alone are open: exporters call them open in graphs that are made for a few of them.
const ROWS: [usize; 9] = [1, 2, 3, 4, 5, 8, 16, 32, 64];

/// What a plan is made for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Form {
    /// Of each input.
    pub(crate) shapes: Vec<Vec<usize>>,
    /// Of each input that the plan holds one value of, that value.
    pub(crate) values: Vec<Option<Tensor>>,
}

impl Form {
    pub(crate) fn of_shapes(shapes: Vec<Vec<usize>>) -> Self {
        Self { values: vec![None; shapes.len()], shapes }
    }

    /// Of a call; its small integers as values if `by_value`.
    pub(crate) fn of_call(inputs: &[Tensor], by_value: bool) -> Self {
        let value = |input: &Tensor| {
            let is_small = is_whole(input.dtype()) && input.shape().len() < 2 && input.data().len() <= MOST_VALUES;
            (by_value && is_small).then(|| input.clone())
        };
        Self {
            shapes: inputs.iter().map(|input| input.shape().to_vec()).collect(),
            values: inputs.iter().map(value).collect(),
        }
    }

    /// Whether a plan for this answers these inputs.
    pub(crate) fn fits(&self, inputs: &[Tensor]) -> bool {
        let fits = |((shape, value), input): ((&Vec<usize>, &Option<Tensor>), &Tensor)| {
            shape == input.shape() && value.as_ref().is_none_or(|value| value.data() == input.data())
        };
        self.shapes.len() == inputs.len() && self.shapes.iter().zip(&self.values).zip(inputs).all(fits)
    }

    pub(crate) fn has_values(&self) -> bool {
        self.values.iter().any(Option::is_some)
    }

    /// In words; none where the file leaves nothing open.
    pub(crate) fn text(&self, specs: &[TensorSpec]) -> Option<String> {
        let open = |spec: &TensorSpec| spec.dims.contains(&None);
        if !self.has_values() && specs.iter().all(TensorSpec::is_open_in_rows_only) {
            let rows = specs.iter().zip(&self.shapes).find(|(spec, _)| open(spec))?.1.first()?;
            return Some(format!("{rows} rows"));
        }
        let told = specs.iter().zip(&self.shapes).zip(&self.values);
        let told = told.filter_map(|((spec, shape), value)| match value.as_ref().map(Tensor::data) {
            Some(Data::I64(values)) => Some(format!("`{}` = {values:?}", spec.name)),
            Some(_) => Some(format!("one value of `{}`", spec.name)),
            None => open(spec).then(|| format!("`{}` {shape:?}", spec.name)),
        });
        Some(told.take(4).collect::<Vec<_>>().join(", "))
    }
}

fn is_whole(dtype: DType) -> bool {
    !matches!(dtype, DType::F32 | DType::F64 | DType::Bytes)
}

/// Whether a plan may be made for one value of this input.
pub(crate) fn may_be_value(spec: &TensorSpec) -> bool {
    let most = spec.dims.first().map_or(Some(1), |dim| *dim).unwrap_or(1);
    is_whole(spec.dtype) && spec.dims.len() < 2 && most <= MOST_VALUES
}

/// What is tried before any call: one row and, where more is open than rows, each of a few sizes; else other numbers of rows, if any is
/// open.
pub(crate) fn typical(specs: &[TensorSpec]) -> Vec<Vec<Vec<usize>>> {
    let tried: Vec<(usize, usize)> = if !specs.iter().all(TensorSpec::is_open_in_rows_only) {
        TYPICAL.map(|size| (1, size)).into()
    } else if specs.iter().any(TensorSpec::is_batched) {
        ROWS.map(|rows| (rows, 1)).into()
    } else {
        vec![(1, 1)]
    };
    let row_names: Vec<&str> = specs.iter().filter_map(TensorSpec::rows_name).collect();
    let shape = |spec: &TensorSpec, (rows, size): (usize, usize)| {
        let dims = spec.dims.iter().zip(&spec.names).enumerate();
        dims.map(|(axis, (dim, name))| {
            let is_rows = axis == 0 || name.as_deref().is_some_and(|name| row_names.contains(&name));
            dim.unwrap_or(if is_rows { rows } else { size })
        })
        .collect()
    };
    tried.into_iter().map(|sizes| specs.iter().map(|spec| shape(spec, sizes)).collect()).collect()
}
