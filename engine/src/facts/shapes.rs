//! Shapes of a graph's tensors for one row, carried forward from inputs and initializers through the operators that
//! common exports are made of. What an operator's rule does not tell comes from the exporter's own notes, else stays
//! unknown: shapes are for counting, and nothing is allocated by them.

use crate::tensor_proto::int64_values;
use std::collections::HashMap;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto,
};

/// Dimensions, outermost first.
pub(super) type Shape = Vec<u64>;

/// More axes than any operator here has a use for.
const MOST_AXES: usize = 16;
/// Longest list of whole numbers that is kept as a constant: shapes and axes are short.
const LONGEST_LIST: usize = 64;

/// What is known of a graph's tensors.
pub(super) struct Shapes<'g> {
    known: HashMap<&'g str, Shape>,
    lists: HashMap<&'g str, Vec<i64>>,
}

impl<'g> Shapes<'g> {
    pub(super) fn of(graph: &'g GraphProto) -> Self {
        let mut shapes = Self { known: HashMap::new(), lists: HashMap::new() };
        let noted = graph.value_info.iter().chain(&graph.output);
        let noted: HashMap<&str, Shape> = noted.filter_map(|info| Some((info.name.as_str(), one_row(info)?))).collect();
        shapes.known.extend(graph.input.iter().filter_map(|info| Some((info.name.as_str(), one_row(info)?))));
        for tensor in &graph.initializer {
            shapes.constant(&tensor.name, tensor);
        }
        // ONNX wants operators in an order in which each follows what it reads.
        for node in &graph.node {
            if let ("Constant", Some(tensor)) =
                (node.op_type.as_str(), attribute(node, "value").and_then(|a| a.t.as_ref()))
                && let Some(name) = node.output.first()
            {
                shapes.constant(name, tensor);
                continue;
            }
            let inferred = shapes.infer(node).filter(|shape| shape.len() <= MOST_AXES);
            for (at, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                let shape = inferred.clone().filter(|_| at == 0).or_else(|| noted.get(name.as_str()).cloned());
                shapes.known.extend(shape.map(|shape| (name.as_str(), shape)));
            }
        }
        shapes
    }

    pub(super) fn get(&self, name: &str) -> Option<&Shape> {
        self.known.get(name)
    }

    /// An operator's whole-number attribute.
    pub(super) fn integer(&self, node: &NodeProto, name: &str, default: i64) -> i64 {
        attribute(node, name).map_or(default, |attribute| attribute.i)
    }

    fn constant(&mut self, name: &'g str, tensor: &TensorProto) {
        let dims: Option<Shape> = tensor.dims.iter().map(|dim| u64::try_from(*dim).ok()).collect();
        self.known.extend(dims.filter(|dims| dims.len() <= MOST_AXES).map(|dims| (name, dims)));
        if tensor.dims.len() <= 1 && tensor.dims.iter().all(|dim| *dim <= LONGEST_LIST as i64) {
            let list = int64_values(tensor).filter(|list| list.len() <= LONGEST_LIST);
            self.lists.extend(list.map(|list| (name, list)));
        }
    }

    fn input(&self, node: &NodeProto, at: usize) -> Option<&Shape> {
        self.get(node.input.get(at).filter(|name| !name.is_empty())?)
    }

    /// A list that older operator sets have as an attribute and newer ones as an input.
    fn list<'n>(&'n self, node: &'n NodeProto, name: &str, input: usize) -> Option<&'n [i64]> {
        let listed = attribute(node, name).map(|attribute| attribute.ints.as_slice());
        let list = listed.or_else(|| self.lists.get(node.input.get(input)?.as_str()).map(Vec::as_slice));
        // Longer ones mean nothing, and each of their values would be looked for among all of them.
        list.filter(|list| list.len() <= LONGEST_LIST)
    }

    fn infer(&self, node: &NodeProto) -> Option<Shape> {
        let first = || self.input(node, 0);
        match node.op_type.as_str() {
            "Conv" | "ConvInteger" => self.windowed(node, first()?, self.input(node, 1)?),
            "QLinearConv" => self.windowed(node, first()?, self.input(node, 3)?),
            "MaxPool" | "AveragePool" | "LpPool" => {
                let (x, window) = (first()?, attribute(node, "kernel_shape")?);
                // As a kernel of as many channels as there are.
                let channels = x.get(1).copied()?;
                let window = window.ints.iter().map(|size| u64::try_from(*size).ok());
                let kernel: Option<Shape> = [Some(channels), Some(channels)].into_iter().chain(window).collect();
                self.windowed(node, x, &kernel?)
            }
            "GlobalAveragePool" | "GlobalMaxPool" => {
                Some(first()?.iter().enumerate().map(|(axis, dim)| if axis < 2 { *dim } else { 1 }).collect())
            }
            "MatMul" | "MatMulInteger" => product(first()?, self.input(node, 1)?),
            "QLinearMatMul" => product(first()?, self.input(node, 3)?),
            "Gemm" => self.gemm(node, first()?, self.input(node, 1)?),
            "QGemm" => self.gemm(node, first()?, self.input(node, 3)?),
            "LSTM" | "GRU" | "RNN" => {
                let (x, r) = (first()?, self.input(node, 2)?);
                Some(vec![*x.first()?, *r.first()?, *x.get(1)?, *r.get(2)?])
            }
            "Flatten" => {
                let (x, axis) = (first()?, self.integer(node, "axis", 1));
                let (rows, columns) = x.split_at_checked(place(axis, x.len() + 1)?)?;
                Some(vec![
                    rows.iter().product::<u64>(),
                    columns.iter().try_fold(1, |all: u64, dim| all.checked_mul(*dim))?,
                ])
            }
            "Reshape" => reshape(first()?, self.list(node, "shape", 1)?),
            "Transpose" => {
                let x = first()?;
                match attribute(node, "perm") {
                    None => Some(x.iter().rev().copied().collect()),
                    Some(perm) => perm.ints.iter().map(|axis| x.get(usize::try_from(*axis).ok()?).copied()).collect(),
                }
            }
            "Concat" => self.concatenated(node),
            "Unsqueeze" => unsqueeze(first()?, self.list(node, "axes", 1)?),
            "Squeeze" => without(first()?, self.list(node, "axes", 1)?, false),
            name if name.starts_with("Reduce") => {
                let keep = self.integer(node, "keepdims", 1) != 0;
                without(first()?, self.list(node, "axes", 1)?, keep)
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Sum" | "Mean" | "Where" | "PRelu" | "And"
            | "Or" | "Greater" | "Less" | "Equal" | "GreaterOrEqual" | "LessOrEqual" => {
                let mut shape = first()?.clone();
                for at in 1..node.input.len() {
                    shape = broadcast(&shape, self.input(node, at)?)?;
                }
                Some(shape)
            }
            name if KEEPING.contains(&name) => first().cloned(),
            _ => None,
        }
    }

    /// The result of sliding a window: `kernel` is output channels, input channels, then its size.
    fn windowed(&self, node: &NodeProto, x: &Shape, kernel: &Shape) -> Option<Shape> {
        let (size, spatial) = (kernel.get(2..)?, x.get(2..)?);
        let ints = |name: &str| attribute(node, name).map(|attribute| attribute.ints.as_slice());
        let at = |list: Option<&[i64]>, axis: usize, default: i64| -> Option<u64> {
            u64::try_from(list.map_or(Some(default), |list| list.get(axis).copied())?).ok()
        };
        let auto = attribute(node, "auto_pad").map_or(&b"NOTSET"[..], |attribute| &attribute.s);
        let mut shape = vec![*x.first()?, *kernel.first()?];
        for (axis, (dim, size)) in spatial.iter().zip(size).enumerate() {
            let (stride, dilation) = (at(ints("strides"), axis, 1)?.max(1), at(ints("dilations"), axis, 1)?);
            let reach = dilation.checked_mul(size.checked_sub(1)?)?.checked_add(1)?;
            let padding = match auto {
                b"SAME_UPPER" | b"SAME_LOWER" => {
                    shape.push(dim.div_ceil(stride));
                    continue;
                }
                b"VALID" => 0,
                _ => at(ints("pads"), axis, 0)?.checked_add(at(ints("pads"), axis + spatial.len(), 0)?)?,
            };
            let room = dim.checked_add(padding)?.checked_sub(reach)?;
            let steps = if self.integer(node, "ceil_mode", 0) == 0 { room / stride } else { room.div_ceil(stride) };
            shape.push(steps + 1);
        }
        (shape.len() == x.len()).then_some(shape)
    }

    fn gemm(&self, node: &NodeProto, a: &Shape, b: &Shape) -> Option<Shape> {
        let rows = if self.integer(node, "transA", 0) == 0 { a.first()? } else { a.get(1)? };
        let columns = if self.integer(node, "transB", 0) == 0 { b.get(1)? } else { b.first()? };
        Some(vec![*rows, *columns])
    }

    fn concatenated(&self, node: &NodeProto) -> Option<Shape> {
        let mut shape = self.input(node, 0)?.clone();
        let axis = place(self.integer(node, "axis", 0), shape.len())?;
        for at in 1..node.input.len() {
            shape[axis] = shape[axis].checked_add(*self.input(node, at)?.get(axis)?)?;
        }
        Some(shape)
    }
}

/// Operators whose first output has the shape of their first input.
const KEEPING: [&str; 37] = [
    "Abs",
    "BatchNormalization",
    "Binarizer",
    "Cast",
    "Ceil",
    "Clip",
    "CumSum",
    "DequantizeLinear",
    "Dropout",
    "DynamicQuantizeLinear",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "Imputer",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Neg",
    "Normalizer",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Scaler",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
];

/// The number of values in an operator's list of floats.
pub(super) fn floats(node: &NodeProto, name: &str) -> u64 {
    attribute(node, name).map_or(0, |attribute| attribute.floats.len() as u64)
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// A declared shape with one row where the first axis is open; none where another is.
fn one_row(info: &ValueInfoProto) -> Option<Shape> {
    let type_proto::Value::TensorType(tensor) = info.r#type.as_ref()?.value.as_ref()?;
    let dims = tensor.shape.as_ref()?.dim.iter().enumerate().map(|(axis, dim)| match dim.value {
        Some(dimension::Value::DimValue(dim)) if dim > 0 => u64::try_from(dim).ok(),
        _ if axis == 0 => Some(1),
        _ => None,
    });
    dims.collect::<Option<Shape>>().filter(|shape| shape.len() <= MOST_AXES)
}

/// An axis that may be counted from the end.
fn place(axis: i64, axes: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(i64::try_from(axes).ok()?)? } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < axes)
}

fn broadcast(a: &Shape, b: &Shape) -> Option<Shape> {
    let axes = a.len().max(b.len());
    let at = |shape: &Shape, axis: usize| (axis + shape.len()).checked_sub(axes).map_or(1, |axis| shape[axis]);
    (0..axes)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (one, other) if one == other || other == 1 => Some(one),
            (1, other) => Some(other),
            _ => None,
        })
        .collect()
}

fn product(a: &Shape, b: &Shape) -> Option<Shape> {
    let (left, right) = (a.get(..a.len().checked_sub(2)?)?, b.get(..b.len().checked_sub(2)?)?);
    let mut shape = broadcast(&left.to_vec(), &right.to_vec())?;
    shape.extend([*a.get(a.len() - 2)?, *b.last()?]);
    Some(shape)
}

fn reshape(x: &Shape, wanted: &[i64]) -> Option<Shape> {
    let all = x.iter().try_fold(1, |all: u64, dim| all.checked_mul(*dim))?;
    let fixed = wanted.iter().enumerate().map(|(axis, dim)| match dim {
        0 => x.get(axis).copied(),
        -1 => Some(1),
        dim => u64::try_from(*dim).ok(),
    });
    let fixed: Shape = fixed.collect::<Option<_>>()?;
    let rest = all.checked_div(fixed.iter().try_fold(1, |all: u64, dim| all.checked_mul(*dim))?)?;
    Some(fixed.iter().zip(wanted).map(|(dim, wanted)| if *wanted == -1 { rest } else { *dim }).collect())
}

fn unsqueeze(x: &Shape, axes: &[i64]) -> Option<Shape> {
    let total = x.len() + axes.len();
    let new: Vec<usize> = axes.iter().map(|axis| place(*axis, total)).collect::<Option<_>>()?;
    let mut old = x.iter().copied();
    (0..total).map(|axis| if new.contains(&axis) { Some(1) } else { old.next() }).collect()
}

/// The shape without some axes, or with 1 in their place.
fn without(x: &Shape, axes: &[i64], keep: bool) -> Option<Shape> {
    let gone: Vec<usize> = axes.iter().map(|axis| place(*axis, x.len())).collect::<Option<_>>()?;
    let left = x.iter().enumerate().filter_map(|(axis, dim)| match (gone.contains(&axis), keep) {
        (true, true) => Some(1),
        (true, false) => None,
        (false, _) => Some(*dim),
    });
    Some(left.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use proptest::prelude::*;
    use tract_onnx::pb::tensor_proto::DataType;

    #[test]
    fn shapes_meet_as_in_numpy() {
        assert_eq!(broadcast(&vec![8, 1, 6], &vec![7, 1]), Some(vec![8, 7, 6]));
        assert_eq!(broadcast(&vec![], &vec![3]), Some(vec![3]));
        assert_eq!(broadcast(&vec![2], &vec![3]), None);
        assert_eq!(product(&vec![2, 3, 4], &vec![4, 5]), Some(vec![2, 3, 5]));
        assert_eq!(product(&vec![4], &vec![4, 5]), None);
    }

    #[test]
    fn axes_are_counted_from_both_ends() {
        assert_eq!(reshape(&vec![1, 8, 4], &[0, -1]), Some(vec![1, 32]));
        assert_eq!(reshape(&vec![4], &[0, 0]), None);
        assert_eq!(unsqueeze(&vec![5, 6], &[-1, 0]), Some(vec![1, 5, 6, 1]));
        assert_eq!(without(&vec![5, 6, 7], &[-1], false), Some(vec![5, 6]));
        assert_eq!(without(&vec![5, 6, 7], &[0, 2], true), Some(vec![1, 6, 1]));
        assert_eq!((without(&vec![5], &[1], true), place(-3, 2), place(2, 2)), (None, None, None));
    }

    #[test]
    fn endless_lists_of_axes_are_not_followed() {
        let mut node = fixtures::node("Unsqueeze", &["x"], &["y"]);
        node.attribute =
            vec![AttributeProto { name: "axes".into(), ints: (0..100).collect(), ..AttributeProto::default() }];
        let graph = GraphProto {
            input: vec![fixtures::value("x", DataType::Float, &[2])],
            node: vec![node.clone()],
            ..GraphProto::default()
        };
        assert_eq!(Shapes::of(&graph).get("y"), None);
        node.attribute[0].ints.truncate(2);
        let graph = GraphProto { node: vec![node], ..graph };
        assert_eq!(Shapes::of(&graph).get("y"), Some(&vec![1, 1, 2]));
    }

    proptest! {
        #[test]
        fn no_numbers_make_it_panic(
            x in prop::collection::vec(any::<u64>(), 0..5), wanted in prop::collection::vec(any::<i64>(), 0..5)
        ) {
            let _ = (reshape(&x, &wanted), unsqueeze(&x, &wanted), without(&x, &wanted, true), product(&x, &x));
        }
    }
}
