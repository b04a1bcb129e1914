//! Distances between the rows of two tables, which exporters of nearest neighbours and Gaussian processes write as a `Scan` that takes
//! one row off all others at a time: one `CDist` computes the same many times faster.

use std::collections::HashMap;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType, type_proto,
};

/// Says each such `Scan` otherwise. One that does more, or over other types, stays as it is.
pub(super) fn distances(graph: &mut GraphProto) {
    for at in 0..graph.node.len() {
        let Some(metric) = metric(&graph.node[at]) else { continue };
        if takes(graph, &graph.node[at].output[0]) {
            continue;
        }
        let node = &mut graph.node[at];
        node.op_type = "CDist".into();
        node.domain = "com.microsoft".into();
        node.input.swap(0, 1);
        node.output.remove(0);
        let s = metric.as_bytes().to_vec();
        node.attribute = vec![AttributeProto {
            name: "metric".into(),
            r#type: AttributeType::String.into(),
            s,
            ..AttributeProto::default()
        }];
    }
}

/// Whether a graph, or one nested in it, takes or gives this value.
fn takes(graph: &GraphProto, name: &String) -> bool {
    let nested = |given: &AttributeProto| given.g.iter().chain(&given.graphs).any(|graph| takes(graph, name));
    let node = |node: &NodeProto| node.input.contains(name) || node.attribute.iter().any(nested);
    graph.output.iter().any(|output| output.name == *name) || graph.node.iter().any(node)
}

/// Which distances a node computes, of each row that it scans to each row of its state.
fn metric(node: &NodeProto) -> Option<&'static str> {
    if !super::is_core(node, "Scan") || node.input.len() != 2 || node.output.len() != 2 {
        return None;
    }
    let mut body = None;
    for given in &node.attribute {
        match &*given.name {
            "body" => body = given.g.as_ref(),
            "num_scan_inputs" if given.i == 1 => {}
            _ => return None,
        }
    }
    let body = body?;
    let ([rows, row], [kept, distances]) = (&*body.input, &*body.output) else { return None };
    if !is_floats(rows, 2) || !is_floats(row, 1) {
        return None;
    }
    // From the end to the front: each value has one node that makes it.
    let makers: HashMap<&str, &NodeProto> =
        body.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node))).collect();
    let mut seen = 0;
    let mut made = |name: &str| {
        let mut name = name.to_owned();
        loop {
            let node = *makers.get(name.as_str())?;
            seen += 1;
            if seen > body.node.len() || node.output.len() != 1 || !matches!(&*node.domain, "" | "ai.onnx") {
                return None;
            }
            if node.op_type != "Identity" {
                return Some(node);
            }
            if node.input.first()? == &rows.name {
                return Some(node);
            }
            name = node.input.first()?.clone();
        }
    };
    if made(&kept.name)?.op_type != "Identity" {
        return None;
    }
    let mut last = made(&distances.name)?;
    let is_root = last.op_type == "Sqrt";
    if is_root {
        last = made(last.input.first()?)?;
    }
    if !over_columns(last, body) {
        return None;
    }
    let mut difference = made(last.input.first()?)?;
    let metric = match (&*last.op_type, &*difference.op_type, is_root) {
        ("ReduceSumSquare", _, true) => "euclidean",
        ("ReduceSumSquare", _, false) => "sqeuclidean",
        ("ReduceSum", "Abs", false) => "cityblock",
        _ => return None,
    };
    if metric == "cityblock" {
        difference = made(difference.input.first()?)?;
    }
    let of = |a: &str, b: &str| difference.op_type == "Sub" && difference.input == [a, b];
    let is_pair = of(&rows.name, &row.name) || of(&row.name, &rows.name);
    (is_pair && seen == body.node.len()).then_some(metric)
}

/// Whether a body says that it takes floats of so many dimensions.
fn is_floats(value: &ValueInfoProto, rank: usize) -> bool {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return false;
    };
    let is_float = [DataType::Float as i32, DataType::Double as i32].contains(&tensor.elem_type);
    is_float && tensor.shape.as_ref().is_some_and(|shape| shape.dim.len() == rank)
}

/// Whether a reduction of a matrix goes over its columns and leaves no axis for them.
fn over_columns(node: &NodeProto, body: &GraphProto) -> bool {
    let given = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let axes = match (given("axes"), node.input.get(1)) {
        (Some(axes), None) => axes.ints.clone(),
        (None, Some(name)) => {
            let constant = body.initializer.iter().find(|tensor| tensor.name == *name);
            constant.and_then(integers).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    matches!(*axes, [1 | -1]) && given("keepdims").is_some_and(|keep| keep.i == 0)
}

fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type != DataType::Int64 as i32 {
        return None;
    }
    if !tensor.int64_data.is_empty() {
        return Some(tensor.int64_data.clone());
    }
    let (words, rest) = tensor.raw_data.as_chunks::<8>();
    rest.is_empty().then(|| words.iter().map(|word| i64::from_le_bytes(*word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tract_onnx::{Onnx, prelude::Framework};

    fn read(case: &str) -> GraphProto {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/Scan").join(case).join("model.onnx");
        let bytes = std::fs::read(file).unwrap();
        Onnx::default().proto_model_for_read(&mut &*bytes).unwrap().graph.unwrap()
    }

    fn operators(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|node| &*node.op_type).collect()
    }

    #[test]
    fn a_scan_of_distances_is_one_operator() {
        for (case, metric) in [
            ("squared", "sqeuclidean"),
            ("euclidean", "euclidean"),
            ("manhattan", "cityblock"),
            ("axes_given", "sqeuclidean"),
        ] {
            let mut graph = read(case);
            distances(&mut graph);
            assert_eq!(operators(&graph), ["CDist"], "{case}");
            assert_eq!(graph.node[0].attribute[0].s, metric.as_bytes(), "{case}");
            assert_eq!(graph.node[0].input, ["known", "x"], "each row that is scanned makes a row");
        }
    }

    #[test]
    fn a_scan_of_anything_else_stays() {
        for case in ["running", "squared_twice", "squared_kept", "cube"] {
            let mut graph = read(case);
            distances(&mut graph);
            assert_eq!(operators(&graph)[0], "Scan", "{case}");
        }
    }
}
