//! Multiply-accumulates of one row, counted from the file.
//!
//! Counted are convolutions, matrix products, recurrent layers, linear models and support vectors: what costs time in
//! float models. Work that is done once a value (activations, normalisation, pooling) and trees, which multiply nothing,
//! count for nothing. The batch is one row; where a shape stays unknown the operator is named instead of guessed.

use super::shapes::{Shape, Shapes, floats};
use crate::check::operator_name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tract_onnx::pb::{GraphProto, NodeProto};

/// Multiply-accumulates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Macs {
    /// Those of one row, as far as shapes are known.
    pub per_row: u64,
    /// Operators that went into the number.
    pub counted: u64,
    /// Operators that multiply, but whose shapes the file does not tell, or that stand in a nested graph.
    pub uncounted: BTreeMap<String, u64>,
}

/// Operators that multiply.
const MULTIPLYING: [&str; 20] = [
    "Attention",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DynamicQuantizeLSTM",
    "Einsum",
    "FusedConv",
    "GRU",
    "Gemm",
    "LSTM",
    "LinearClassifier",
    "LinearRegressor",
    "MatMul",
    "MatMulInteger",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
    "RNN",
    "SVMClassifier",
    "SVMRegressor",
];

/// The count of the outermost graph; operators of the others are named.
pub(super) fn count(outermost: &GraphProto, graphs: &[&GraphProto]) -> Macs {
    let mut macs = Macs::default();
    let shapes = Shapes::of(outermost);
    for node in outermost.node.iter().filter(|node| multiplies(node)) {
        match of_node(node, &shapes) {
            Some(number) => {
                macs.per_row = macs.per_row.saturating_add(number);
                macs.counted += 1;
            }
            None => macs.miss(node),
        }
    }
    let nested = graphs.iter().skip(1).flat_map(|graph| &graph.node);
    nested.filter(|node| multiplies(node)).for_each(|node| macs.miss(node));
    macs
}

impl Macs {
    fn miss(&mut self, node: &NodeProto) {
        *self.uncounted.entry(operator_name(node)).or_insert(0) += 1;
    }
}

fn multiplies(node: &NodeProto) -> bool {
    MULTIPLYING.contains(&node.op_type.as_str())
}

fn of_node(node: &NodeProto, shapes: &Shapes<'_>) -> Option<u64> {
    let input = |at: usize| shapes.get(node.input.get(at)?);
    let output = || shapes.get(node.output.first()?);
    match node.op_type.as_str() {
        "Conv" | "ConvInteger" => convolution(output()?, input(1)?),
        "QLinearConv" => convolution(output()?, input(3)?),
        // Every input value meets the kernel of every output channel of its group.
        "ConvTranspose" => Some(volume(input(0)?).saturating_mul(volume(input(1)?.get(1..)?))),
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => Some(volume(output()?).saturating_mul(*input(0)?.last()?)),
        "Gemm" | "QGemm" => {
            let a = input(0)?;
            let inner = if shapes.integer(node, "transA", 0) == 0 { a.get(1)? } else { a.first()? };
            Some(volume(output()?).saturating_mul(*inner))
        }
        "LSTM" | "GRU" | "RNN" | "DynamicQuantizeLSTM" => {
            let steps = input(0)?.iter().take(2).fold(1, |all: u64, dim| all.saturating_mul(*dim));
            Some(steps.saturating_mul(volume(input(1)?).saturating_add(volume(input(2)?))))
        }
        "LinearClassifier" | "LinearRegressor" => Some(floats(node, "coefficients")),
        "SVMClassifier" | "SVMRegressor" => {
            Some(floats(node, "support_vectors").saturating_add(floats(node, "coefficients")))
        }
        _ => None,
    }
}

/// Each output value takes a kernel over the input channels of its group.
fn convolution(output: &Shape, kernel: &Shape) -> Option<u64> {
    Some(volume(output).saturating_mul(volume(kernel.get(1..)?)))
}

fn volume(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |all: u64, dim| all.saturating_mul(*dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tensor, fixtures::*, tensor_proto::to_proto};
    use tract_onnx::pb::{AttributeProto, tensor_proto::DataType};

    fn counted(graph: GraphProto) -> Macs {
        count(&graph, &crate::check::all_graphs(&graph))
    }

    fn zeros(shape: &[usize], name: &str) -> tract_onnx::pb::TensorProto {
        to_proto(&Tensor::new(shape, vec![0f32; shape.iter().product()]).unwrap(), name)
    }

    fn integers(name: &str, values: &[i64]) -> AttributeProto {
        AttributeProto { name: name.into(), ints: values.to_vec(), ..AttributeProto::default() }
    }

    /// As PyTorch writes a small classifier of images: no notes on inner shapes.
    fn cnn() -> GraphProto {
        let mut conv = node("Conv", &["x", "k"], &["c"]);
        conv.attribute = vec![integers("pads", &[1, 1, 1, 1]), integers("strides", &[2, 2])];
        let mut pool = node("MaxPool", &["r"], &["p"]);
        pool.attribute = vec![integers("kernel_shape", &[2, 2]), integers("strides", &[2, 2])];
        let mut gemm = node("Gemm", &["f", "w", "b"], &["y"]);
        gemm.attribute = vec![integer("transB", 1)];
        GraphProto {
            node: vec![conv, node("Relu", &["c"], &["r"]), pool, node("Flatten", &["p"], &["f"]), gemm],
            initializer: vec![zeros(&[8, 3, 3, 3], "k"), zeros(&[10, 8 * 4 * 4], "w"), zeros(&[10], "b")],
            input: vec![value("x", DataType::Float, &[-1, 3, 16, 16])],
            output: vec![value("y", DataType::Float, &[-1, 10])],
            ..GraphProto::default()
        }
    }

    #[test]
    fn a_network_is_counted_without_notes_on_inner_shapes() {
        let macs = counted(cnn());
        assert_eq!(macs.per_row, 8 * 8 * 8 * 27 + 10 * 128);
        assert_eq!((macs.counted, macs.uncounted.len()), (2, 0));
    }

    #[test]
    fn what_is_unknown_is_named_and_not_guessed() {
        let mut graph = cnn();
        graph.node[1].op_type = "Mystery".into();
        let macs = counted(graph);
        assert_eq!((macs.per_row, macs.counted), (8 * 8 * 8 * 27, 1));
        // The note on the last output gives Gemm a result, but no inner axis.
        assert_eq!(macs.uncounted, BTreeMap::from([("Gemm".into(), 1)]));
        let mut noted = cnn();
        noted.node[1].op_type = "Mystery".into();
        noted.value_info = vec![value("r", DataType::Float, &[-1, 8, 8, 8])];
        assert_eq!(counted(noted).counted, 2);
    }

    #[test]
    fn nested_operators_are_named() {
        let mut graph = linear().graph.unwrap();
        graph.node[1].attribute.push(AttributeProto { g: linear().graph, ..AttributeProto::default() });
        let macs = counted(graph);
        assert_eq!((macs.per_row, &macs.uncounted["MatMul"]), (6, &1));
    }

    #[test]
    fn recurrent_and_linear_layers_count_their_weights() {
        let lstm = GraphProto {
            node: vec![node("LSTM", &["x", "w", "r"], &["y"])],
            initializer: vec![zeros(&[1, 16, 3], "w"), zeros(&[1, 16, 4], "r")],
            input: vec![value("x", DataType::Float, &[5, 1, 3])],
            output: vec![value("y", DataType::Float, &[5, 1, 1, 4])],
            ..GraphProto::default()
        };
        assert_eq!(counted(lstm).per_row, 5 * 16 * (3 + 4));
        let mut linear = node("LinearClassifier", &["x"], &["y"]);
        linear.domain = "ai.onnx.ml".into();
        linear.attribute =
            vec![AttributeProto { floats: vec![0.0; 30], name: "coefficients".into(), ..AttributeProto::default() }];
        assert_eq!(counted(GraphProto { node: vec![linear], ..GraphProto::default() }).per_row, 30);
    }
}
