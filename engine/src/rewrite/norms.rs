//! Sums that are normalised at once, as onnxruntime's optimiser writes them for transformers, said as sums and normalisations: tract
//! forgets the bias of one and wants the shift of the other.

use super::{fresh::Fresh, int};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, attribute_proto::AttributeType};

/// Where neither attribute nor graph says what is added to a variance.
const EPSILON: f32 = 1e-12;

/// Says each such operator otherwise. One whose means or deviations are asked for stays, and is refused by name.
pub(super) fn norms(graph: &mut GraphProto, fresh: &mut Fresh) {
    for mut node in std::mem::take(&mut graph.node) {
        let inner = node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        inner.for_each(|graph| norms(graph, fresh));
        match said(&node, fresh) {
            Some(nodes) => graph.node.extend(nodes),
            None => graph.node.push(node),
        }
    }
}

fn said(node: &NodeProto, fresh: &mut Fresh) -> Option<Vec<NodeProto>> {
    let operator = match &*node.op_type {
        "SkipLayerNormalization" => "LayerNormalization",
        "SkipSimplifiedLayerNormalization" => "SimplifiedLayerNormalization",
        _ => return None,
    };
    let given = |names: &'_ [String], at: usize| names.get(at).filter(|name| !name.is_empty()).cloned();
    let asked = |at: usize| given(&node.output, at);
    if node.domain != "com.microsoft" || asked(1).or(asked(2)).is_some() {
        return None;
    }
    let (x, skip, gamma, output) = (given(&node.input, 0)?, given(&node.input, 1)?, given(&node.input, 2)?, asked(0)?);
    let (shift, bias) = match operator {
        "LayerNormalization" => (given(&node.input, 3), given(&node.input, 4)),
        _ => (None, given(&node.input, 3)),
    };
    let sum = asked(3).unwrap_or_else(|| fresh.name("sum", &output));
    let plain = |op_type: &str, input: Vec<String>, output: &str| NodeProto {
        op_type: op_type.into(),
        input,
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let mut nodes = Vec::new();
    if let Some(bias) = bias {
        let part = fresh.name("part", &output);
        nodes.extend([plain("Add", vec![x, skip], &part), plain("Add", vec![part.clone(), bias], &sum)]);
    } else {
        nodes.push(plain("Add", vec![x, skip], &sum));
    }
    let epsilon = node.attribute.iter().find(|attribute| attribute.name == "epsilon").map_or(EPSILON, |given| given.f);
    let mut normal = plain(operator, [sum, gamma].into_iter().chain(shift).collect(), &output);
    let epsilon = AttributeProto {
        name: "epsilon".into(),
        r#type: AttributeType::Float.into(),
        f: epsilon,
        ..AttributeProto::default()
    };
    normal.attribute = vec![int("axis", -1), epsilon];
    nodes.push(normal);
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operators(output: &[&str]) -> Vec<String> {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let node = NodeProto {
            op_type: "SkipLayerNormalization".into(),
            domain: "com.microsoft".into(),
            input: names(&["x", "skip", "gamma", "", "bias"]),
            output: names(output),
            ..NodeProto::default()
        };
        let mut graph = GraphProto { node: vec![node], ..GraphProto::default() };
        let mut fresh = Fresh::of(&graph);
        norms(&mut graph, &mut fresh);
        graph.node.into_iter().map(|node| node.op_type).collect()
    }

    #[test]
    fn one_whose_means_are_asked_for_stays() {
        assert_eq!(operators(&["y", "", "", "sum"]), ["Add", "Add", "LayerNormalization"]);
        assert_eq!(operators(&["y", "mean"]), ["SkipLayerNormalization"]);
        assert_eq!(operators(&["y", "", "deviation"]), ["SkipLayerNormalization"]);
    }
}
