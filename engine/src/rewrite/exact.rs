//! Products of whole numbers said in floats, where these are exact: tract multiplies floats several times faster than whole numbers.
//!
//! A float of 32 bits holds each whole number up to 2^24. An input of 8 bits less its zero point is at most 255 far from none, so the sums
//! are exact in any order where 255 times the sum of the weights' distances from theirs stays below that; where it does not, the products
//! are summed in parts that do. Weights must be known.

use super::{fresh::Fresh, int};
use crate::{tensor::Data, tensor_proto::from_proto};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

/// The greatest sum of distances of weights.
const EXACT: u64 = (1 << 24) / 255;
/// Sums in more parts than this are left to whole numbers.
const MOST_PARTS: usize = 8;
/// Weights of a file that are said so, for each takes four bytes instead of one.
const MOST_WEIGHTS: usize = 32 << 20;
/// Weights of a file that are looked at, those included that then stay as they are.
const MOST_SEEN: usize = 256 << 20;

/// What is kept of a convolution.
const WINDOWS: [&str; 6] = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
/// Longest list among that.
const MOST_NUMBERS: usize = 128;

/// What is left of a file's bounds.
struct Left {
    said: usize,
    seen: usize,
}

/// Says each such product otherwise, in nested graphs too. One whose weights are not known to the graph that it is in stays.
pub(super) fn exact(graph: &mut GraphProto, fresh: &mut Fresh) {
    in_graph(graph, fresh, &mut Left { said: MOST_WEIGHTS, seen: MOST_SEEN });
}

fn in_graph(graph: &mut GraphProto, fresh: &mut Fresh, left: &mut Left) {
    let given: HashSet<&str> = graph.input.iter().map(|input| &*input.name).collect();
    let constants = graph.initializer.iter().filter(|tensor| !given.contains(&*tensor.name));
    let constants: HashMap<&str, &TensorProto> = constants.map(|tensor| (&*tensor.name, tensor)).collect();
    let single: HashSet<String> = graph
        .node
        .iter()
        .filter(|node| super::is_core(node, "DynamicQuantizeLinear"))
        .filter_map(|node| node.output.get(2).cloned())
        .chain(constants.values().filter(|tensor| tensor.dims.iter().all(|dim| *dim == 1)).map(|t| t.name.clone()))
        .collect();
    let (mut nodes, mut tensors) = (Vec::new(), Vec::new());
    for mut node in std::mem::take(&mut graph.node) {
        let nested = node.attribute.iter_mut().flat_map(|given| given.g.iter_mut().chain(&mut given.graphs));
        nested.for_each(|graph| in_graph(graph, fresh, left));
        match Product::of(&node, &constants, &single, left).and_then(|product| product.said(&node, fresh)) {
            Some((of_node, of_tensors)) => {
                nodes.extend(of_node);
                tensors.extend(of_tensors);
            }
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    graph.initializer.extend(tensors);
}

/// One product with known weights.
struct Product {
    operator: &'static str,
    /// The weights less their zero points, `[outer, length, inner]`: sums go along the middle and, for a convolution, along the inner too.
    weights: Vec<f32>,
    dims: Vec<usize>,
    /// Where the sums' axis lies in the weights, and in what meets them.
    axes: (usize, i64),
    /// Ends of the parts along it.
    ends: Vec<usize>,
}

impl Product {
    fn of(
        node: &NodeProto,
        constants: &HashMap<&str, &TensorProto>,
        single: &HashSet<String>,
        left: &mut Left,
    ) -> Option<Self> {
        let is_conv = super::is_core(node, "ConvInteger");
        if !is_conv && !super::is_core(node, "MatMulInteger") {
            return None;
        }
        let input = |at: usize| node.input.get(at).filter(|name| !name.is_empty());
        if input(2).is_some_and(|zero| !single.contains(zero)) {
            return None;
        }
        let stored = constants.get(input(1)?.as_str())?;
        let dims = stored.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<Vec<usize>>>()?;
        let total = dims.iter().try_fold(1usize, |total, dim| total.checked_mul(*dim))?;
        if dims.len() < 2 || total == 0 || total > left.said.min(left.seen) || (is_conv && dims.len() < 3) {
            return None;
        }
        left.seen -= total;
        let mut weights = values(stored)?;
        if let Some(zero) = input(3) {
            let zeros = values(constants.get(zero.as_str())?)?;
            // Of each output: the first axis of a convolution's weights, the last of a matrix.
            let run = if is_conv { total / dims[0] } else { 1 };
            let outputs = if is_conv { dims[0] } else { dims[dims.len() - 1] };
            if zeros.len() != 1 && zeros.len() != outputs {
                return None;
            }
            for (at, weight) in weights.iter_mut().enumerate() {
                *weight -= zeros[at / run % zeros.len()];
            }
        }
        let axes = if is_conv { (1, 1) } else { (dims.len() - 2, -1) };
        let has_groups = node.attribute.iter().any(|given| given.name == "group" && given.i != 1);
        let mut product = Self {
            operator: if is_conv { "Conv" } else { "MatMul" },
            weights: weights.into_iter().map(|weight| weight as f32).collect(),
            dims,
            axes,
            ends: Vec::new(),
        };
        product.part(if has_groups { 1 } else { MOST_PARTS })?;
        left.said -= total;
        Some(product)
    }

    /// Finds the parts; nothing where there would be more than `most`.
    fn part(&mut self, most: usize) -> Option<()> {
        let (length, inner) = (self.dims[self.axes.0], self.dims[self.axes.0 + 1..].iter().product::<usize>());
        // A convolution sums what is inner too, a matrix has an output for each.
        let (sums_inner, columns) = if self.operator == "Conv" { (inner, 1) } else { (1, inner) };
        let outer = self.weights.len() / length / inner;
        let mut sums = vec![0u64; outer * columns];
        for at in 0..length {
            let mut step = vec![0u64; sums.len()];
            for (output, sum) in step.iter_mut().enumerate() {
                let first = (output / columns * length + at) * inner + output % columns * sums_inner;
                *sum = self.weights[first..first + sums_inner].iter().map(|weight| weight.abs() as u64).sum();
            }
            if step.iter().any(|sum| *sum > EXACT) {
                return None;
            }
            if sums.iter().zip(&step).any(|(sum, step)| sum + step > EXACT) {
                self.ends.push(at);
                sums.fill(0);
            }
            sums.iter_mut().zip(&step).for_each(|(sum, step)| *sum += step);
        }
        self.ends.push(length);
        (self.ends.len() <= most).then_some(())
    }

    /// None where the node has no output, or nothing to multiply by the weights.
    fn said(self, node: &NodeProto, fresh: &mut Fresh) -> Option<(Vec<NodeProto>, Vec<TensorProto>)> {
        let output = node.output.first().filter(|name| !name.is_empty())?;
        let mut said = Said { name: fresh.name("exact", output), nodes: Vec::new(), tensors: Vec::new() };
        let float = i64::from(i32::from(DataType::Float));
        let mut x = said.node("Cast", vec![node.input.first()?.clone()], "x", vec![int("to", float)]);
        if let Some(zero) = node.input.get(2).filter(|zero| !zero.is_empty()) {
            let zero = said.node("Cast", vec![zero.clone()], "zero", vec![int("to", float)]);
            let none = said.shape("none", Vec::new());
            // A convolution's may have an axis of its own.
            let zero = said.node("Reshape", vec![zero, none], "zero.plain", Vec::new());
            x = said.node("Sub", vec![x, zero], "x.moved", Vec::new());
        }
        let windows = |given: &&AttributeProto| self.operator == "Conv" && WINDOWS.contains(&&*given.name);
        let attributes: Vec<_> = node.attribute.iter().filter(windows).cloned().collect();
        if attributes.iter().any(|given| given.ints.len() > MOST_NUMBERS) {
            return None;
        }
        let (mut sum, mut from) = (None, 0);
        for (at, to) in self.ends.iter().copied().enumerate() {
            let part = if self.ends.len() == 1 { x.clone() } else { said.slice(&x, from..to, self.axes.1, at) };
            let weights = said.weights(&self, from..to, at);
            let product = said.node(self.operator, vec![part, weights], &format!("product.{at}"), attributes.clone());
            let to_whole = vec![int("to", i64::from(i32::from(DataType::Int32)))];
            let whole = said.node("Cast", vec![product], &format!("whole.{at}"), to_whole);
            sum = Some(match sum {
                None => whole,
                Some(sum) => said.node("Add", vec![sum, whole], &format!("sum.{at}"), Vec::new()),
            });
            from = to;
        }
        if let Some(last) = said.nodes.last_mut() {
            last.output.clone_from(&node.output);
        }
        Some((said.nodes, said.tensors))
    }
}

/// What a product is said in.
struct Said {
    /// Begins the names.
    name: String,
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
}

impl Said {
    fn node(&mut self, operator: &str, input: Vec<String>, part: &str, attribute: Vec<AttributeProto>) -> String {
        let output = format!("{}.{part}", self.name);
        let (name, op_type) = (output.clone(), operator.into());
        self.nodes.push(NodeProto {
            name,
            op_type,
            input,
            output: vec![output.clone()],
            attribute,
            ..NodeProto::default()
        });
        output
    }

    fn shape(&mut self, part: &str, values: Vec<i64>) -> String {
        let name = format!("{}.{part}", self.name);
        self.tensors.push(super::list(&name, values));
        name
    }

    fn slice(&mut self, x: &str, part: std::ops::Range<usize>, axis: i64, at: usize) -> String {
        let bounds = [("from", part.start as i64), ("to", part.end as i64), ("axis", axis)];
        let bounds = bounds.map(|(name, value)| self.shape(&format!("{name}.{at}"), vec![value]));
        let inputs = std::iter::once(x.to_owned()).chain(bounds).collect();
        self.node("Slice", inputs, &format!("part.{at}"), Vec::new())
    }

    fn weights(&mut self, product: &Product, part: std::ops::Range<usize>, at: usize) -> String {
        let name = format!("{}.weights.{at}", self.name);
        let axis = product.axes.0;
        let inner: usize = product.dims[axis + 1..].iter().product();
        let rows = product.weights.chunks_exact(product.dims[axis] * inner);
        let rows = rows.flat_map(|row| &row[part.start * inner..part.end * inner]);
        let mut dims: Vec<i64> = product.dims.iter().map(|dim| *dim as i64).collect();
        dims[axis] = part.len() as i64;
        self.tensors.push(TensorProto {
            name: name.clone(),
            data_type: DataType::Float.into(),
            dims,
            raw_data: rows.flat_map(|weight| weight.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
        name
    }
}

/// Whole numbers of 8 bits.
fn values(tensor: &TensorProto) -> Option<Vec<i16>> {
    match from_proto(tensor.clone()).ok()?.data() {
        Data::U8(values) => Some(values.iter().map(|value| i16::from(*value)).collect()),
        Data::I8(values) => Some(values.iter().map(|value| i16::from(*value)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tensor, fixtures::node, tensor_proto::to_proto};

    /// Products of `x` and 2 × 2 weights, one in each of so many nested graphs.
    fn nested(count: usize) -> GraphProto {
        let weights = to_proto(&Tensor::new([2, 2], vec![1u8; 4]).unwrap(), "w");
        let inner = GraphProto {
            node: vec![node("MatMulInteger", &["x", "w"], &["y"])],
            initializer: vec![weights],
            ..GraphProto::default()
        };
        let given = AttributeProto { g: Some(inner), ..AttributeProto::default() };
        let mut outer = node("If", &["c"], &["z"]);
        outer.attribute = vec![given; count];
        GraphProto { node: vec![outer], ..GraphProto::default() }
    }

    /// How many of the products stay as they are.
    fn whole(graph: &GraphProto) -> usize {
        let inner = graph.node[0].attribute.iter().filter_map(|given| given.g.as_ref());
        inner.flat_map(|graph| &graph.node).filter(|node| node.op_type == "MatMulInteger").count()
    }

    #[test]
    fn nested_graphs_have_one_bound_between_them() {
        for (said, seen, stay) in [(100, 100, 0), (11, 100, 1), (100, 7, 2)] {
            let mut graph = nested(3);
            let mut fresh = Fresh::of(&graph);
            in_graph(&mut graph, &mut fresh, &mut Left { said, seen });
            assert_eq!(whole(&graph), stay, "{said} {seen}");
        }
    }

    #[test]
    fn a_product_without_an_output_stays() {
        for operator in ["MatMulInteger", "ConvInteger"] {
            let weights = to_proto(&Tensor::new([2, 2, 1], vec![1u8; 4]).unwrap(), "w");
            let (node, initializer) = (vec![node(operator, &["x", "w"], &[])], vec![weights]);
            let before = GraphProto { node, initializer, ..GraphProto::default() };
            let mut graph = before.clone();
            exact(&mut graph, &mut Fresh::of(&before));
            assert_eq!(graph, before);
        }
    }
}
