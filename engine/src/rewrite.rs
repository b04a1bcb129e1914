//! What is said otherwise in a file before tract reads it.

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

/// `ZipMap` makes each row of scores a map from class to score. Here its output is the rows themselves, in the classes' order.
pub(crate) fn zip_maps(graph: &mut GraphProto) {
    for node in graph.node.iter_mut().filter(|node| node.op_type == "ZipMap" && node.domain == "ai.onnx.ml") {
        node.op_type = "Identity".into();
        node.domain.clear();
        node.attribute.clear();
        for output in graph.output.iter_mut().filter(|output| node.output.contains(&output.name)) {
            // A sequence of maps, which no tensor is.
            output.r#type = None;
        }
    }
}

/// A recurrent node that goes backwards alone, which tract takes for one that goes forwards: here it goes forwards over a reversed
/// sequence, and its answers are reversed again. Before opset 10 nothing reverses a sequence: such a node loses its name, and is refused.
pub(crate) fn backwards(graph: &mut GraphProto, opset: i64) {
    let nodes = std::mem::take(&mut graph.node);
    for mut node in nodes {
        for inner in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
            backwards(inner, opset);
        }
        let recurrent = matches!(&*node.domain, "" | "ai.onnx")
            && matches!(&*node.op_type, "LSTM" | "GRU" | "RNN")
            && !node.input.is_empty();
        let direction = node.attribute.iter().position(|a| a.name == "direction" && a.s == b"reverse");
        let (true, Some(direction)) = (recurrent, direction) else {
            graph.node.push(node);
            continue;
        };
        if opset < 10 {
            node.op_type = format!("{} backwards before opset 10", node.op_type);
            graph.node.push(node);
            continue;
        }
        node.attribute.remove(direction);
        let axis = node.attribute.iter().find(|a| a.name == "layout").map_or(0, |a| a.i);
        let name = format!("backwards.{}", node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str));
        for (part, value) in [("from", -1), ("to", i64::from(i32::MIN)), ("axis", axis), ("by", -1)] {
            graph.initializer.push(TensorProto {
                name: format!("{name}.{part}"),
                data_type: DataType::Int64.into(),
                dims: vec![1],
                int64_data: vec![value],
                ..TensorProto::default()
            });
        }
        let reversed = |from: String, to: String| NodeProto {
            name: format!("{to}.reversed"),
            op_type: "Slice".into(),
            input: std::iter::once(from)
                .chain(["from", "to", "axis", "by"].map(|part| format!("{name}.{part}")))
                .collect(),
            output: vec![to],
            ..NodeProto::default()
        };
        let input = std::mem::replace(&mut node.input[0], format!("{name}.x"));
        graph.node.push(reversed(input, format!("{name}.x")));
        let every = node.output.first().cloned().unwrap_or_default();
        if !every.is_empty() {
            node.output[0] = format!("{name}.y");
        }
        graph.node.push(node);
        if !every.is_empty() {
            graph.node.push(reversed(format!("{name}.y"), every));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::AttributeProto;

    fn going(direction: &str) -> GraphProto {
        let direction =
            AttributeProto { name: "direction".into(), s: direction.as_bytes().to_vec(), ..AttributeProto::default() };
        let node = NodeProto {
            op_type: "GRU".into(),
            input: vec!["x".into(), "w".into(), "r".into()],
            output: vec!["y".into(), "h".into()],
            attribute: vec![direction],
            ..NodeProto::default()
        };
        GraphProto { node: vec![node], ..GraphProto::default() }
    }

    fn operators(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|node| &*node.op_type).collect()
    }

    #[test]
    fn a_backward_node_goes_forward_between_two_reversals() {
        let mut graph = going("reverse");
        backwards(&mut graph, 17);
        assert_eq!(operators(&graph), ["Slice", "GRU", "Slice"]);
        assert_eq!(graph.node[0].input[0], "x");
        assert_eq!(graph.node[1].input[0], graph.node[0].output[0]);
        assert_eq!(graph.node[1].output[1], "h", "the last state is the same");
        assert!(graph.node[1].attribute.is_empty(), "it goes forwards");
        assert_eq!(graph.node[2].output, ["y"]);
        assert_eq!(graph.initializer.len(), 4);
    }

    #[test]
    fn a_backward_node_of_a_file_that_cannot_reverse_is_refused_by_name() {
        let mut graph = going("reverse");
        backwards(&mut graph, 9);
        assert_eq!(operators(&graph), ["GRU backwards before opset 10"]);
    }

    #[test]
    fn nodes_that_go_other_ways_stay_as_they_are() {
        for direction in ["forward", "bidirectional"] {
            let mut graph = going(direction);
            backwards(&mut graph, 17);
            assert_eq!(graph, going(direction));
        }
    }
}
