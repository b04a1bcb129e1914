//! What onnxruntime's optimiser fuses and writes into the files that it saves, said as the operators that it was made of: a product or a
//! convolution with what is done to each of its values, and a product of matrices that are turned round and scaled.

use super::{first_output, fresh::Fresh, scalar};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType};

/// Says each such operator otherwise, in nested graphs too. A form that is not known stays, and is refused by name.
pub(super) fn fused(graph: &mut GraphProto, opset: i64, fresh: &mut Fresh) {
    for mut node in std::mem::take(&mut graph.node) {
        let inner = node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        inner.for_each(|graph| fused(graph, opset, fresh));
        let mut said = Said { nodes: Vec::new(), tensors: Vec::new(), name: String::new() };
        match said.of(&node, opset, fresh) {
            Some(()) => {
                graph.node.extend(said.nodes);
                graph.initializer.extend(said.tensors);
            }
            None => graph.node.push(node),
        }
    }
}

struct Said {
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
    /// Begins the names.
    name: String,
}

impl Said {
    fn of(&mut self, node: &NodeProto, opset: i64, fresh: &mut Fresh) -> Option<()> {
        let output = first_output(node).to_owned();
        if node.domain != "com.microsoft" || output.is_empty() || node.output.len() != 1 {
            return None;
        }
        self.name = fresh.name("fused", &output);
        let operator = match &*node.op_type {
            "FusedConv" => "Conv",
            "FusedGemm" => "Gemm",
            "FusedMatMul" => return self.product(node, &output),
            _ => return None,
        };
        let own = |given: &&AttributeProto| !given.name.starts_with("activation");
        let added = node.input.get(3).filter(|name| operator == "Conv" && !name.is_empty());
        let mut inputs: Vec<String> = node.input.iter().take(3).cloned().collect();
        // tract counts a bias that is left out before what is added.
        inputs.truncate(inputs.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1));
        let mut value = self.node(operator, inputs, "plain", node.attribute.iter().filter(own).cloned().collect());
        if let Some(added) = added {
            value = self.node("Add", vec![value, added.clone()], "sum", Vec::new());
        }
        let activation = node.attribute.iter().find(|given| given.name == "activation").map(|given| given.s.clone());
        let parameter = |at: usize, name: &str| {
            let listed = node.attribute.iter().find(|given| given.name == "activation_params");
            let named = node.attribute.iter().find(|given| given.name == name).map(|given| given.f);
            listed.and_then(|given| given.floats.get(at).copied()).or(named)
        };
        let (first, second) = (parameter(0, "activation_alpha"), parameter(1, "activation_beta"));
        let (operator, attributes) = match activation.as_deref().unwrap_or_default() {
            b"" => ("Identity", Vec::new()),
            b"Relu" => ("Relu", Vec::new()),
            b"Sigmoid" => ("Sigmoid", Vec::new()),
            b"Tanh" => ("Tanh", Vec::new()),
            b"LeakyRelu" => ("LeakyRelu", vec![float("alpha", first?)]),
            b"HardSigmoid" => ("HardSigmoid", vec![float("alpha", first?), float("beta", second?)]),
            b"Clip" if opset < 11 => ("Clip", vec![float("min", first?), float("max", second?)]),
            b"Clip" => ("Clip", Vec::new()),
            _ => return None,
        };
        let mut inputs = vec![value];
        if operator == "Clip" && opset >= 11 {
            inputs.extend([self.number("least", first?), self.number("most", second?)]);
        }
        self.node(operator, inputs, "value", attributes);
        self.end(output)
    }

    fn product(&mut self, node: &NodeProto, output: &str) -> Option<()> {
        let number = |name: &str| node.attribute.iter().find(|given| given.name == name);
        let is_on = |name: &str| number(name).is_some_and(|given| given.i != 0);
        let [a, b] = &*node.input else { return None };
        // Batches are turned with their rows only by training.
        if is_on("transBatchA") || is_on("transBatchB") {
            return None;
        }
        let mut turned = |name: &String, part: &str, is_turned: bool| {
            if !is_turned {
                return name.clone();
            }
            let equation = b"...ij->...ji".to_vec();
            let equation = AttributeProto {
                name: "equation".into(),
                r#type: AttributeType::String.into(),
                s: equation,
                ..AttributeProto::default()
            };
            self.node("Einsum", vec![name.clone()], part, vec![equation])
        };
        let inputs = vec![turned(a, "a", is_on("transA")), turned(b, "b", is_on("transB"))];
        let value = self.node("MatMul", inputs, "product", Vec::new());
        match number("alpha").map_or(1.0, |given| given.f) {
            1.0 => {}
            alpha => {
                let alpha = self.number("alpha", alpha);
                self.node("Mul", vec![value, alpha], "scaled", Vec::new());
            }
        }
        self.end(output.to_owned())
    }

    fn node(&mut self, operator: &str, input: Vec<String>, part: &str, attribute: Vec<AttributeProto>) -> String {
        let output = format!("{}.{part}", self.name);
        self.nodes.push(NodeProto {
            name: output.clone(),
            op_type: operator.into(),
            input,
            output: vec![output.clone()],
            attribute,
            ..NodeProto::default()
        });
        output
    }

    fn number(&mut self, part: &str, value: f32) -> String {
        let name = format!("{}.{part}", self.name);
        self.tensors.push(scalar(&name, value));
        name
    }

    /// The last operator gives what the fused one did.
    fn end(&mut self, output: String) -> Option<()> {
        self.nodes.last_mut()?.output = vec![output];
        Some(())
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float.into(), f: value, ..AttributeProto::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::node;

    fn operators(operator: &str, attributes: Vec<AttributeProto>) -> Vec<String> {
        let mut made = node(operator, &["x", "w", "", "z"][..if operator == "FusedMatMul" { 2 } else { 4 }], &["y"]);
        made.domain = "com.microsoft".into();
        made.attribute = attributes;
        let mut graph = GraphProto { node: vec![made], ..GraphProto::default() };
        let mut names = Fresh::of(&graph);
        fused(&mut graph, 17, &mut names);
        assert_eq!(graph.node.last().unwrap().output, ["y"]);
        graph.node.into_iter().map(|node| node.op_type).collect()
    }

    #[test]
    fn what_is_not_known_stays() {
        let named = |name: &str| AttributeProto { s: name.into(), ..float("activation", 0.0) };
        assert_eq!(operators("FusedConv", vec![named("Relu")]), ["Conv", "Add", "Relu"]);
        assert_eq!(operators("FusedConv", vec![named("Gelu")]), ["FusedConv"]);
        assert_eq!(operators("FusedConv", vec![named("HardSigmoid")]), ["FusedConv"], "without its parameters");
        assert_eq!(operators("FusedMatMul", vec![super::super::int("transB", 1)]), ["Einsum", "MatMul"]);
        assert_eq!(operators("FusedMatMul", vec![super::super::int("transBatchA", 1)]), ["FusedMatMul"]);
    }
}
