//! Bodies of `Scan`. tract gives a collected output an axis in all who read it, within the body too, and takes sizes that are noted there
//! at their word, whose names are those of the graph around it and stand for numbers by then.

use super::{fresh::Fresh, is_core};
use tract_onnx::pb::{GraphProto, NodeProto, ValueInfoProto, type_proto::Value};

/// Gives each output of a body a node of its own, and takes the sizes from the notes. How many dimensions there are stays: axes are
/// counted from the back by it.
pub(super) fn scans(graph: &mut GraphProto, fresh: &mut Fresh) {
    for node in &mut graph.node {
        let is_scan = is_core(node, "Scan");
        for given in &mut node.attribute {
            let is_body = is_scan && given.name == "body";
            for nested in given.g.iter_mut().chain(&mut given.graphs) {
                scans(nested, fresh);
                if is_body {
                    part(nested, fresh);
                }
            }
        }
    }
}

fn part(body: &mut GraphProto, fresh: &mut Fresh) {
    let GraphProto { node, input, output, value_info, .. } = body;
    for output in output.iter_mut() {
        let name = fresh.name("given", &output.name);
        let inner = std::mem::replace(&mut output.name, name.clone());
        node.push(NodeProto {
            op_type: "Identity".into(),
            input: vec![inner],
            output: vec![name],
            ..NodeProto::default()
        });
    }
    input.iter_mut().chain(output).chain(value_info).for_each(forget_sizes);
}

fn forget_sizes(note: &mut ValueInfoProto) {
    if let Some(Value::TensorType(tensor)) = note.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
        tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim).for_each(|dim| dim.value = None);
    }
}
