//! Inputs and outputs of 16-bit floats, which no caller can send: they are floats of 32 bits outside. Inputs are cast on their way in,
//! outputs as they leave the engine. What is between is for `widened`.

use super::{fresh::Fresh, int};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{GraphProto, NodeProto, ValueInfoProto, tensor_proto::DataType, type_proto::Value};

/// Says the graph's inputs and outputs to be of 32 bits, with casts between inputs and what is inside.
pub(super) fn halves(graph: &mut GraphProto) {
    let filled: HashSet<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    let mut fresh = Fresh::of(graph);
    let (mut inner, mut casts) = (HashMap::new(), Vec::new());
    for input in graph.input.iter_mut().filter(|input| !filled.contains(&input.name)) {
        if widen(input) {
            let name = fresh.name("half", &input.name);
            // Through an operator that takes 16 bits, so that what callers give is rounded in any case.
            let cast_name = fresh.name("half", &input.name);
            casts.push(cast(&input.name, &cast_name));
            casts.push(identity(&cast_name, &name));
            inner.insert(input.name.clone(), name);
        }
    }
    graph.output.iter_mut().for_each(|output| {
        widen(output);
    });
    if inner.is_empty() {
        return;
    }
    rename(graph, &inner);
    graph.node.splice(0..0, casts);
}

/// Whether this was of 16 bits; it is of 32 then.
pub(super) fn widen(value: &mut ValueInfoProto) -> bool {
    let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|declared| declared.value.as_mut()) else {
        return false;
    };
    let is_half = tensor.elem_type == i32::from(DataType::Float16);
    if is_half {
        tensor.elem_type = DataType::Float.into();
    }
    is_half
}

fn cast(from: &str, into: &str) -> NodeProto {
    NodeProto {
        op_type: "Cast".into(),
        input: vec![from.to_owned()],
        output: vec![into.to_owned()],
        attribute: vec![int("to", i32::from(DataType::Float16).into())],
        ..NodeProto::default()
    }
}

fn identity(from: &str, into: &str) -> NodeProto {
    NodeProto {
        op_type: "Identity".into(),
        input: vec![from.to_owned()],
        output: vec![into.to_owned()],
        ..NodeProto::default()
    }
}

/// Gives tensors other names wherever operators read them, in nested graphs too.
fn rename(graph: &mut GraphProto, names: &HashMap<String, String>) {
    let used = graph.node.iter_mut().flat_map(|node| {
        for inner in node.attribute.iter_mut().flat_map(|given| given.g.iter_mut().chain(&mut given.graphs)) {
            // An output of it may be what is made outside.
            rename(inner, names);
            inner.output.iter_mut().for_each(|output| renamed(&mut output.name, names));
        }
        &mut node.input
    });
    used.for_each(|name| renamed(name, names));
}

fn renamed(name: &mut String, names: &HashMap<String, String>) {
    if let Some(new) = names.get(name) {
        name.clone_from(new);
    }
}
