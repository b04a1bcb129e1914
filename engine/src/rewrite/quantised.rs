//! Quantised operators said in plain ones: what onnxruntime's quantiser writes in its operator-oriented format, and
//! `QLinearMatMul`, which tract requantises by a whole factor and so misses by a quantum now and then.
//!
//! Products are summed as whole numbers and scaled once, as onnxruntime does; what goes by values one by one is computed in
//! floats between a `DequantizeLinear` and a `QuantizeLinear`.

use super::{first_output, fresh::Fresh, int, scalar};
use std::collections::HashMap;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType, tensor_proto::DataType,
};

/// Says every such operator of the graph, and of those nested in it, otherwise. What cannot be said so stays, and is refused by name or
/// left to tract.
pub(super) fn quantised(graph: &mut GraphProto, opset: i64, fresh: &mut Fresh) {
    let several: HashMap<String, usize> = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.dims.iter().any(|dim| *dim > 1))
        .map(|tensor| (tensor.name.clone(), tensor.dims.len()))
        .collect();
    let nodes = std::mem::take(&mut graph.node);
    for mut node in nodes {
        for inner in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
            quantised(inner, opset, fresh);
        }
        let mut said = Said::new(fresh.name("quantised", first_output(&node)), &several);
        if said.node(&node, opset).is_some() {
            let Said { nodes, tensors, .. } = said;
            graph.node.extend(nodes);
            graph.initializer.extend(tensors);
        } else {
            graph.node.push(node);
        }
    }
}

/// What an operator is said in.
struct Said<'a> {
    /// The constants of several values, and their ranks.
    several: &'a HashMap<String, usize>,
    /// Begins the names of what lies between.
    name: String,
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
}

/// A quantised tensor: values, scale, and zero point, which may have no name.
#[derive(Clone, Copy)]
struct Quantised<'a>([&'a str; 3]);

fn input(node: &NodeProto, at: usize) -> &str {
    node.input.get(at).map_or("", String::as_str)
}

fn triple(node: &NodeProto, at: usize) -> Quantised<'_> {
    Quantised([input(node, at), input(node, at + 1), input(node, at + 2)])
}

fn number(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(default, |attribute| attribute.i)
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

impl<'a> Said<'a> {
    fn new(name: String, several: &'a HashMap<String, usize>) -> Self {
        Self { several, name, nodes: Vec::new(), tensors: Vec::new() }
    }

    /// Says one operator; nothing where it is none of these, or in a form that is not told here.
    fn node(&mut self, node: &NodeProto, opset: i64) -> Option<()> {
        let output = node.output.first()?;
        let is_known = match &*node.op_type {
            "QLinearConv" | "QLinearMatMul" => matches!(&*node.domain, "" | "ai.onnx"),
            _ => node.domain == "com.microsoft",
        };
        if !is_known {
            return None;
        }
        match &*node.op_type {
            "QLinearAdd" => self.between(node, "Add", &[0, 3], 6, output, &[]),
            "QLinearMul" => self.between(node, "Mul", &[0, 3], 6, output, &[]),
            "QLinearSigmoid" => self.between(node, "Sigmoid", &[0], 3, output, &[]),
            "QLinearLeakyRelu" => self.between(node, "LeakyRelu", &[0], 3, output, &["alpha"]),
            "QLinearSoftmax" if (number(node, "opset", 13) < 13) == (opset < 13) => {
                self.between(node, "Softmax", &[0], 3, output, &["axis"])
            }
            "QLinearGlobalAveragePool" if number(node, "channels_last", 0) == 0 => {
                self.between(node, "GlobalAveragePool", &[0], 3, output, &[])
            }
            "QLinearAveragePool" if number(node, "channels_last", 0) == 0 => {
                let kept = ["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"];
                self.between(node, "AveragePool", &[0], 3, output, &kept)
            }
            "QLinearConcat" => {
                let parts: Vec<usize> = (2..node.input.len()).step_by(3).collect();
                self.between(node, "Concat", &parts, 0, output, &["axis"])
            }
            "QLinearWhere" => {
                let parts =
                    [input(node, 0).to_owned(), self.float(triple(node, 1), "x"), self.float(triple(node, 4), "y")];
                let value = self.plain("Where", parts, "value", Vec::new());
                self.quantise(value, input(node, 7), input(node, 8), output);
                Some(())
            }
            "QLinearConv" => self.conv(node, output),
            "QLinearMatMul" => self.mat_mul(node, output),
            "QGemm" => self.gemm(node, output),
            "MatMulIntegerToFloat" => self.floats(node, output),
            "DynamicQuantizeMatMul" => self.dynamic(node, output),
            _ => None,
        }
    }

    fn named(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// A node of one output, which is given back.
    fn plain(
        &mut self,
        operator: &str,
        inputs: impl IntoIterator<Item = String>,
        part: &str,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.named(part);
        self.into(operator, inputs, &output, attribute);
        output
    }

    fn into(
        &mut self,
        operator: &str,
        inputs: impl IntoIterator<Item = String>,
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        let mut input: Vec<String> = inputs.into_iter().collect();
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        let (name, op_type) = (output.to_owned(), operator.to_owned());
        self.nodes.push(NodeProto {
            name,
            op_type,
            input,
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        });
    }

    fn float(&mut self, Quantised(tensor): Quantised<'_>, part: &str) -> String {
        self.plain("DequantizeLinear", tensor.map(str::to_owned), part, Vec::new())
    }

    fn quantise(&mut self, value: String, scale: &str, zero: &str, output: &str) {
        self.into("QuantizeLinear", [value, scale.to_owned(), zero.to_owned()], output, Vec::new());
    }

    /// An operator on floats, between the inputs at `parts` and a scale and a zero point at `result`.
    fn between(
        &mut self,
        node: &NodeProto,
        operator: &str,
        parts: &[usize],
        result: usize,
        output: &str,
        kept: &[&str],
    ) -> Option<()> {
        let floats = parts.iter().map(|at| self.float(triple(node, *at), &format!("in-{at}"))).collect::<Vec<_>>();
        let attributes = node.attribute.iter().filter(|attribute| kept.contains(&&*attribute.name)).cloned();
        let value = self.plain(operator, floats, "value", attributes.collect());
        self.quantise(value, input(node, result), input(node, result + 1), output);
        Some(())
    }

    /// Whether a tensor is known to hold several values.
    fn is_several(&self, name: &str) -> bool {
        self.several.contains_key(name)
    }

    /// The product of scales, as floats of 32 bits.
    fn scale(&mut self, scales: [&str; 2]) -> String {
        let [a, b] = [0, 1].map(|at| {
            let to = int("to", i64::from(i32::from(DataType::Float)));
            self.plain("Cast", [scales[at].to_owned()], &format!("scale-{at}"), vec![to])
        });
        self.plain("Mul", [a, b], "scale", Vec::new())
    }

    /// Sums of products as floats, not yet scaled.
    fn sums(&mut self, a: Quantised<'_>, b: Quantised<'_>, bias: &str) -> String {
        let inputs = [a.0[0], b.0[0], a.0[2], b.0[2]].map(str::to_owned);
        let mut sums = self.plain("MatMulInteger", inputs, "sums", Vec::new());
        if !bias.is_empty() {
            sums = self.plain("Add", [sums, bias.to_owned()], "biased", Vec::new());
        }
        let to = int("to", i64::from(i32::from(DataType::Float)));
        self.plain("Cast", [sums], "float", vec![to])
    }

    /// Sums times what one of them is worth, rounded.
    fn requantise(&mut self, sums: String, scale: String, result: [&str; 2], output: &str) {
        let to = int("to", i64::from(i32::from(DataType::Float)));
        let unit = self.plain("Cast", [result[0].to_owned()], "unit", vec![to]);
        let factor = self.plain("Div", [scale, unit], "factor", Vec::new());
        let value = self.plain("Mul", [sums, factor], "value", Vec::new());
        let one = self.constant("one", 1.0);
        self.quantise(value, &one, result[1], output);
    }

    fn constant(&mut self, part: &str, value: f32) -> String {
        let name = self.named(part);
        self.tensors.push(scalar(&name, value));
        name
    }

    fn mat_mul(&mut self, node: &NodeProto, output: &str) -> Option<()> {
        let (a, b) = (triple(node, 0), triple(node, 3));
        // A scale for each row of the first, or each of several matrices, has to be reshaped by ranks that are not known here.
        if self.is_several(a.0[1]) || self.is_several(a.0[2]) {
            return None;
        }
        let sums = self.sums(a, b, "");
        let scale = self.scale([a.0[1], b.0[1]]);
        self.requantise(sums, scale, [input(node, 6), input(node, 7)], output);
        Some(())
    }

    /// Where the weights are known, and with them how many axes a value for each channel has behind it.
    fn conv(&mut self, node: &NodeProto, output: &str) -> Option<()> {
        let (x, w, bias) = (triple(node, 0), triple(node, 3), input(node, 8));
        let rank = *self.several.get(w.0[0])?;
        if rank < 3 || self.is_several(x.0[1]) || self.is_several(x.0[2]) {
            return None;
        }
        let inputs = [x.0[0], w.0[0], x.0[2], w.0[2]].map(str::to_owned);
        let mut sums = self.plain("ConvInteger", inputs, "sums", node.attribute.clone());
        if !bias.is_empty() {
            let bias = self.channels(bias, rank, "bias");
            sums = self.plain("Add", [sums, bias], "biased", Vec::new());
        }
        let to = int("to", i64::from(i32::from(DataType::Float)));
        let sums = self.plain("Cast", [sums], "float", vec![to]);
        let each = self.is_several(w.0[1]).then(|| self.channels(w.0[1], rank, "scales"));
        let scale = self.scale([x.0[1], each.as_deref().unwrap_or(w.0[1])]);
        self.requantise(sums, scale, [input(node, 6), input(node, 7)], output);
        Some(())
    }

    /// A value for each channel, before the axes of an image.
    fn channels(&mut self, name: &str, rank: usize, part: &str) -> String {
        let shape = self.named(&format!("{part}.shape"));
        let dims: Vec<i64> = std::iter::once(-1).chain(std::iter::repeat_n(1, rank - 2)).collect();
        self.tensors.push(super::list(&shape, dims));
        self.plain("Reshape", [name.to_owned(), shape], part, Vec::new())
    }

    fn gemm(&mut self, node: &NodeProto, output: &str) -> Option<()> {
        let turned = |said: &mut Self, name: &str, is_turned: bool, part: &str| match is_turned {
            true => said.plain("Transpose", [name.to_owned()], part, vec![ints("perm", &[1, 0])]),
            false => name.to_owned(),
        };
        let (Quantised(a), Quantised(b)) = (triple(node, 0), triple(node, 3));
        let left = turned(self, a[0], number(node, "transA", 0) != 0, "a");
        let right = turned(self, b[0], number(node, "transB", 0) != 0, "b");
        let (a, b) = (Quantised([&left, a[1], a[2]]), Quantised([&right, b[1], b[2]]));
        let sums = self.sums(a, b, input(node, 6));
        let mut scale = self.scale([a.0[1], b.0[1]]);
        let alpha = node.attribute.iter().find(|attribute| attribute.name == "alpha").map_or(1.0, |alpha| alpha.f);
        #[expect(clippy::float_cmp, reason = "the attribute's default")]
        if alpha != 1.0 {
            let alpha = self.constant("alpha", alpha);
            scale = self.plain("Mul", [scale, alpha], "scaled", Vec::new());
        }
        if input(node, 7).is_empty() {
            self.into("Mul", [sums, scale], output, Vec::new());
        } else {
            self.requantise(sums, scale, [input(node, 7), input(node, 8)], output);
        }
        Some(())
    }

    fn floats(&mut self, node: &NodeProto, output: &str) -> Option<()> {
        let at = |at: usize| input(node, at);
        let sums = self.sums(Quantised([at(0), at(2), at(4)]), Quantised([at(1), at(3), at(5)]), "");
        let scale = self.scale([at(2), at(3)]);
        self.scaled(sums, scale, at(6), output);
        Some(())
    }

    fn dynamic(&mut self, node: &NodeProto, output: &str) -> Option<()> {
        let at = |at: usize| input(node, at);
        let [quantised, step, zero] = ["quantised", "step", "zero"].map(|part| self.named(part));
        self.nodes.push(NodeProto {
            name: quantised.clone(),
            op_type: "DynamicQuantizeLinear".into(),
            input: vec![at(0).to_owned()],
            output: vec![quantised.clone(), step.clone(), zero.clone()],
            ..NodeProto::default()
        });
        let sums = self.sums(Quantised([&quantised, &step, &zero]), Quantised([at(1), at(2), at(3)]), "");
        let scale = self.scale([&step, at(2)]);
        self.scaled(sums, scale, at(4), output);
        Some(())
    }

    /// Sums times what one of them is worth, and a bias of floats.
    fn scaled(&mut self, sums: String, scale: String, bias: &str, output: &str) {
        if bias.is_empty() {
            return self.into("Mul", [sums, scale], output, Vec::new());
        }
        let value = self.plain("Mul", [sums, scale], "value", Vec::new());
        self.into("Add", [value, bias.to_owned()], output, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(operator: &str, inputs: &str, opset: i64) -> GraphProto {
        let node = NodeProto {
            op_type: operator.into(),
            domain: if matches!(operator, "QLinearConv" | "QLinearMatMul") { "" } else { "com.microsoft" }.into(),
            input: inputs.split(' ').map(str::to_owned).collect(),
            output: vec!["y".into()],
            ..NodeProto::default()
        };
        let mut graph = GraphProto { node: vec![node], ..GraphProto::default() };
        let mut fresh = Fresh::of(&graph);
        quantised(&mut graph, opset, &mut fresh);
        graph
    }

    fn operators(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|node| &*node.op_type).collect()
    }

    #[test]
    fn what_goes_by_values_is_said_in_floats() {
        let graph = said("QLinearAdd", "a s z b s z t u", 17);
        assert_eq!(operators(&graph), ["DequantizeLinear", "DequantizeLinear", "Add", "QuantizeLinear"]);
        assert_eq!(graph.node[3].output, ["y"]);
        assert_eq!(graph.node[3].input[1..], ["t", "u"]);
    }

    #[test]
    fn sums_are_of_whole_numbers_and_scaled_once() {
        let graph = said("QGemm", "a s z b s z c t u", 17);
        let expected = ["MatMulInteger", "Add", "Cast", "Cast", "Cast", "Mul", "Cast", "Div", "Mul", "QuantizeLinear"];
        assert_eq!(operators(&graph), expected);
        let plain = said("QGemm", "a s z b s z c", 17);
        assert_eq!(operators(&plain).last(), Some(&"Mul"));
    }

    #[test]
    fn forms_that_are_not_told_here_stay() {
        assert_eq!(operators(&said("QLinearSoftmax", "a s z t u", 11)), ["QLinearSoftmax"]);
        assert_eq!(operators(&said("QLinearReduceMean", "a s z t u", 17)), ["QLinearReduceMean"]);
        assert_eq!(operators(&said("Relu", "a", 17)), ["Relu"]);
    }
}
