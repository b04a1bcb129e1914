//! Graphs of 16-bit floats said in 32, as onnxruntime computes them on processors: most of its operators there have no kernel for 16 bits.
//! It puts casts around those and takes away each pair that a value would go through between two of them, those of the file included, so
//! that values are rounded only where an operator does have such a kernel, and as they leave the graph. The rules are those that it was
//! measured to go by (`Half` in `tests/golden`).
//!
//! Here nothing is of 16 bits in the end but what is between two casts, of which the first rounds.

use super::{fresh::Fresh, halves::widen, int};
use crate::tensor_proto;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

const HALF: i64 = DataType::Float16 as i64;
const FLOAT: i64 = DataType::Float as i64;

/// Says the graph and those nested in it in 32 bits.
pub(super) fn widened(graph: &mut GraphProto, opset: i64, fresh: &mut Fresh) {
    in_graph(graph, opset, fresh, &mut HashSet::new());
}

/// Which of the graph's outputs are of 16 bits in the file. `known` are the values of 16 bits around it, and the same afterwards.
fn in_graph(graph: &mut GraphProto, opset: i64, fresh: &mut Fresh, known: &mut HashSet<String>) -> Vec<bool> {
    let mut own = Vec::new();
    let inputs = graph.input.iter_mut().filter_map(|input| widen(input).then(|| input.name.clone()));
    let mut first: Vec<String> = inputs.collect();
    let stored = graph.initializer.iter().filter(|tensor| is_half(tensor));
    first.extend(stored.map(|tensor| tensor.name.clone()));
    graph.initializer.iter_mut().for_each(widen_tensor);
    own.extend(first.into_iter().filter(|name| known.insert(name.clone())));
    for node in &mut graph.node {
        let nested = node.attribute.iter_mut().flat_map(|given| given.g.iter_mut().chain(&mut given.graphs));
        let bodies: Vec<Vec<bool>> = nested.map(|body| in_graph(body, opset, fresh, known)).collect();
        let gives: Vec<bool> = (0..node.output.len()).map(|at| gives_half(node, at, known, &bodies)).collect();
        let made = node.output.iter().zip(gives).filter(|(name, is_half)| *is_half && !name.is_empty());
        own.extend(made.map(|(name, _)| name.clone()).filter(|name| known.insert(name.clone())));
        if node.op_type == "CastLike" && node.input.get(1).is_some_and(|like| known.contains(like)) {
            node.op_type = "Cast".into();
            node.input.truncate(1);
            node.attribute = vec![int("to", HALF)];
        }
    }
    if !known.is_empty() {
        Said::of(graph, opset, known).say(graph, fresh);
        graph.node.iter_mut().for_each(widen_attributes);
    }
    let outputs = graph.output.iter().map(|output| known.contains(&output.name)).collect();
    graph.output.iter_mut().for_each(|output| {
        widen(output);
    });
    own.iter().for_each(|name| {
        known.remove(name);
    });
    outputs
}

fn is_half(tensor: &TensorProto) -> bool {
    i64::from(tensor.data_type) == HALF
}

fn widen_tensor(tensor: &mut TensorProto) {
    // One that is none stays, and is refused for it later.
    tensor_proto::widen(tensor).unwrap_or_default();
}

fn number(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|given| given.name == name).map(|given| given.i)
}

/// The types that attributes name, and constants. A cast that still rounds is named otherwise by then.
fn widen_attributes(node: &mut NodeProto) {
    for given in &mut node.attribute {
        given.t.iter_mut().chain(&mut given.tensors).for_each(widen_tensor);
        let is_type = matches!(&*given.name, "dtype" | "output_dtype" | "stash_type");
        if is_type && given.i == HALF {
            given.i = FLOAT;
        }
    }
}

fn is_cast(node: &NodeProto) -> bool {
    super::is_core(node, "Cast")
}

/// Whether this output is of 16 bits in the file. `bodies` tells it of the outputs of nested graphs.
fn gives_half(node: &NodeProto, at: usize, known: &HashSet<String>, bodies: &[Vec<bool>]) -> bool {
    let takes = |at: usize| node.input.get(at).is_some_and(|name| known.contains(name));
    if let Some(outputs) = bodies.first() {
        // The first output of a loop's body is whether it goes on.
        return outputs.get(at + usize::from(node.op_type == "Loop")) == Some(&true);
    }
    match &*node.op_type {
        "Cast" => number(node, "to") == Some(HALF),
        "CastLike" | "DequantizeLinear" => takes(1),
        "Constant" | "ConstantOfShape" => node.attribute.iter().filter_map(|given| given.t.as_ref()).any(is_half),
        "EyeLike" | "RandomNormal" | "RandomUniform" => number(node, "dtype") == Some(HALF),
        "ArgMax"
        | "ArgMin"
        | "DynamicQuantizeLinear"
        | "Equal"
        | "Greater"
        | "GreaterOrEqual"
        | "IsInf"
        | "IsNaN"
        | "Less"
        | "LessOrEqual"
        | "NonMaxSuppression"
        | "NonZero"
        | "QLinearConv"
        | "QLinearMatMul"
        | "QuantizeLinear"
        | "Shape"
        | "Size" => false,
        "Dropout" | "LayerNormalization" | "MaxPool" | "SimplifiedLayerNormalization" | "TopK" | "Unique" => {
            at == 0 && takes(0)
        }
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => matches!(at, 0 | 3) && takes(0),
        _ => (0..node.input.len()).any(takes),
    }
}

/// What onnxruntime does with 16 bits on a processor.
#[derive(Clone, Copy, PartialEq)]
enum Kernel {
    /// Computes in 32.
    None,
    /// Gives some of the values that it takes, or nothing that has to be rounded.
    Moves,
    Rounds,
}

fn kernel(node: &NodeProto, opset: i64) -> Kernel {
    let since = |least: i64, kernel: Kernel| if opset >= least { kernel } else { Kernel::None };
    match (&*node.domain, &*node.op_type) {
        (
            "" | "ai.onnx",
            "Cast" | "Compress" | "Concat" | "Constant" | "ConstantOfShape" | "Flatten" | "Gather" | "GatherElements"
            | "GatherND" | "Identity" | "If" | "Loop" | "Mod" | "Reshape" | "ReverseSequence" | "Scan" | "Scatter"
            | "ScatterElements" | "ScatterND" | "Shape" | "Sign" | "Slice" | "Split" | "Squeeze" | "Transpose"
            | "Unsqueeze",
        ) => Kernel::Moves,
        ("" | "ai.onnx", "Dropout") if opset < 12 => Kernel::Moves,
        ("" | "ai.onnx", "Expand") => since(8, Kernel::Moves),
        ("" | "ai.onnx", "IsNaN") => since(9, Kernel::Moves),
        ("" | "ai.onnx", "Round") => since(11, Kernel::Moves),
        ("" | "ai.onnx", "Clip" | "Max" | "Min") => since(12, Kernel::Moves),
        ("" | "ai.onnx", "QuantizeLinear") => since(19, Kernel::Moves),
        ("" | "ai.onnx", "IsInf") => since(20, Kernel::Moves),
        ("" | "ai.onnx", "LayerNormalization" | "Shrink" | "SimplifiedLayerNormalization") => Kernel::Rounds,
        ("" | "ai.onnx", "DequantizeLinear") => since(19, Kernel::Rounds),
        ("" | "ai.onnx", "Attention" | "RMSNormalization" | "RotaryEmbedding") => since(23, Kernel::Rounds),
        ("com.microsoft", "GatherBlockQuantized" | "MatMulNBits") => Kernel::Rounds,
        ("com.microsoft", "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization") => Kernel::Rounds,
        _ => Kernel::None,
    }
}

/// A value of 16 bits that an operator of the graph makes, of which some readers get what it was before it was rounded.
struct Half {
    maker: usize,
    output: usize,
    /// Operators that get it as it was.
    early: Vec<usize>,
    /// Whether anything gets it rounded.
    is_rounded: bool,
}

/// What is to be said otherwise in a graph.
struct Said {
    halves: Vec<Half>,
}

impl Said {
    fn of(graph: &GraphProto, opset: i64, known: &HashSet<String>) -> Self {
        let uses = Uses::of(graph, opset, known);
        let made = graph.node.iter().enumerate();
        let made = made.flat_map(|(maker, node)| (0..node.output.len()).map(move |output| (maker, output)));
        Self { halves: made.filter_map(|(maker, output)| uses.half(maker, output)).collect() }
    }

    fn say(self, graph: &mut GraphProto, fresh: &mut Fresh) {
        let mut after: Vec<Vec<NodeProto>> = vec![Vec::new(); graph.node.len()];
        for node in graph.node.iter_mut().filter(|node| is_cast(node)) {
            let to = node.attribute.iter_mut().filter(|given| given.name == "to" && given.i == HALF);
            to.for_each(|to| to.i = FLOAT);
        }
        for Half { maker, output, early, is_rounded } in self.halves {
            if !is_rounded {
                continue;
            }
            let name = graph.node[maker].output[output].clone();
            let (raw, half) = (fresh.name("wide", &name), fresh.name("half", &name));
            for reader in early {
                graph.node[reader].input.iter_mut().filter(|input| **input == name).for_each(|input| {
                    input.clone_from(&raw);
                });
            }
            graph.node[maker].output[output].clone_from(&raw);
            after[maker].extend([cast(&raw, &half, HALF), cast(&half, &name, FLOAT)]);
        }
        let nodes = std::mem::take(&mut graph.node);
        graph.node = nodes.into_iter().zip(after).flat_map(|(node, after)| [node].into_iter().chain(after)).collect();
    }
}

fn cast(from: &str, into: &str, to: i64) -> NodeProto {
    NodeProto {
        name: into.to_owned(),
        op_type: "Cast".into(),
        input: vec![from.to_owned()],
        output: vec![into.to_owned()],
        attribute: vec![int("to", to)],
        ..NodeProto::default()
    }
}

/// Who makes and who reads what in a graph.
struct Uses<'g> {
    nodes: &'g [NodeProto],
    known: &'g HashSet<String>,
    kernels: Vec<Kernel>,
    /// Operators that onnxruntime computes in 32 bits.
    is_wide: Vec<bool>,
    makers: HashMap<&'g str, usize>,
    readers: HashMap<&'g str, Vec<usize>>,
    /// What is an output, or read by a nested graph.
    leaves: HashSet<&'g str>,
    /// Initializers, and what onnxruntime makes one of while it loads.
    stored: HashSet<&'g str>,
}

impl<'g> Uses<'g> {
    fn of(graph: &'g GraphProto, opset: i64, known: &'g HashSet<String>) -> Self {
        let nodes = graph.node.as_slice();
        let kernels: Vec<Kernel> = nodes.iter().map(|node| kernel(node, opset)).collect();
        let (mut makers, mut readers) = (HashMap::new(), HashMap::<&str, Vec<usize>>::new());
        let mut leaves: HashSet<&str> = graph.output.iter().map(|output| &*output.name).collect();
        for (at, node) in nodes.iter().enumerate() {
            makers.extend(node.output.iter().map(|name| (&**name, at)));
            node.input.iter().for_each(|name| readers.entry(name).or_default().push(at));
            let bodies = node.attribute.iter().flat_map(|given| given.g.iter().chain(&given.graphs));
            for body in bodies.flat_map(crate::check::all_graphs) {
                leaves.extend(body.node.iter().flat_map(|node| &node.input).map(String::as_str));
                leaves.extend(body.output.iter().map(|output| &*output.name));
            }
        }
        let mut stored: HashSet<&str> = graph.initializer.iter().map(|tensor| &*tensor.name).collect();
        for (node, _) in nodes.iter().zip(&kernels).filter(|(_, kernel)| **kernel != Kernel::None) {
            if node.input.iter().all(|name| name.is_empty() || stored.contains(&**name)) {
                stored.extend(node.output.iter().map(String::as_str));
            }
        }
        let takes = |node: &NodeProto| node.input.iter().any(|name| known.contains(name));
        let is_wide = nodes.iter().zip(&kernels).map(|(node, kernel)| *kernel == Kernel::None && takes(node)).collect();
        let mut uses = Self { nodes, known, kernels, is_wide, makers, readers, leaves, stored };
        for at in 0..nodes.len() {
            uses.is_wide[at] |= uses.is_between(at);
        }
        uses
    }

    fn halves(&self, names: &'g [String]) -> impl Iterator<Item = &'g str> {
        names.iter().map(String::as_str).filter(|name| self.known.contains(*name))
    }

    /// Whether an operator that could do with 16 bits stands between others that cannot, and does as they do.
    fn is_between(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        if node.attribute.iter().any(|given| given.g.is_some() || !given.graphs.is_empty()) {
            return false;
        }
        let is_made_wide = |name: &str| self.makers.get(name).is_some_and(|maker| self.is_wide[*maker]);
        let is_read_wide = |name: &str| self.readers.get(name).into_iter().flatten().all(|at| self.is_wide[*at]);
        self.halves(&node.input).any(is_made_wide)
            && self.halves(&node.output).any(|name| self.readers.contains_key(name))
            && self.halves(&node.output).all(|name| is_read_wide(name) && !self.leaves.contains(name))
    }

    /// How this output is read, if it is of 16 bits and may be anything else.
    fn half(&self, maker: usize, output: usize) -> Option<Half> {
        let node = &self.nodes[maker];
        let name = node.output[output].as_str();
        if !self.known.contains(name) {
            return None;
        }
        let is_of_cast = is_cast(node) && !node.input.iter().any(|name| self.known.contains(name));
        let is_wide = self.is_wide[maker];
        if !is_wide && (!is_of_cast || self.stored.contains(name)) {
            let is_rounded = is_of_cast || self.kernels[maker] == Kernel::Rounds;
            return is_rounded.then_some(Half { maker, output, early: Vec::new(), is_rounded });
        }
        let readers = self.readers.get(name).map_or(&[][..], Vec::as_slice);
        let leaves = self.leaves.contains(name);
        let is_only_cast = !leaves && readers.iter().all(|at| self.is_wide[*at] || is_cast(&self.nodes[*at]));
        let is_early = |at: &usize| {
            let reader = &self.nodes[*at];
            let goes_on = number(reader, "to") == Some(FLOAT) && !self.halves_leave(reader);
            self.is_wide[*at] || (is_wide && is_cast(reader) && (goes_on || is_only_cast))
        };
        let (early, late): (Vec<usize>, Vec<usize>) = readers.iter().copied().partition(is_early);
        Some(Half { maker, output, early, is_rounded: leaves || !late.is_empty() })
    }

    fn halves_leave(&self, node: &NodeProto) -> bool {
        node.output.iter().any(|name| self.leaves.contains(name.as_str()))
    }
}
