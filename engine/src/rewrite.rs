//! What is said otherwise in a file before tract reads it.

mod distances;
mod exact;
mod fresh;
mod functions;
mod fused;
mod halves;
mod norms;
mod quantised;
mod scans;
mod texts;
mod widened;

use crate::{check, error::LoadError, guard::guarded, limits::Limits};
use distances::distances;
use exact::exact;
use fresh::Fresh;
use fused::fused;
use halves::halves;
use norms::norms;
use quantised::quantised;
use scans::scans;
use std::collections::HashSet;
use texts::texts;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto::DataType,
};
use widened::widened;

/// What else needs to know of the file: functions are gone, and no input or output is of 16-bit floats. `bytes` are the file.
///
/// # Errors
/// Where a function cannot be put in the place of its calls, or the file is larger than the limits, before that or after.
pub(crate) fn plain(proto: &mut ModelProto, bytes: &[u8], limits: &Limits) -> Result<(), LoadError> {
    check::size(proto, limits)?;
    let said = guarded(|| {
        functions::inline(proto, bytes, limits)?;
        proto.graph.iter_mut().for_each(halves);
        Ok::<_, LoadError>(())
    });
    said.map_err(|what| LoadError::Panicked { what })??;
    check::size(proto, limits)
}

/// Every rewriting, in the order in which they build on each other.
///
/// # Errors
/// [`LoadError::Panicked`], should one of them trip over what a file says; the message is of no use then.
pub(crate) fn all(proto: &mut ModelProto) -> Result<(), LoadError> {
    guarded(|| each(proto)).map_err(|what| LoadError::Panicked { what })
}

fn each(proto: &mut ModelProto) {
    let own = |domain: &str| matches!(domain, "" | "ai.onnx");
    let opset = proto.opset_import.iter().find(|import| own(&import.domain)).map_or(1, |import| import.version);
    if let Some(graph) = proto.graph.as_mut() {
        let fresh = &mut Fresh::of(graph);
        zip_maps(graph);
        widened(graph, opset, fresh);
        texts(graph);
        distances(graph);
        scans(graph, fresh);
        norms(graph, fresh);
        fused(graph, opset, fresh);
        quantised(graph, opset, fresh);
        exact(graph, fresh);
        pools(graph);
        pads(graph, opset);
        upsamples(graph, fresh);
        greatest(graph, opset, fresh);
        slices(graph, opset, fresh);
        check::name_apart(graph);
    }
}

/// `ZipMap` makes each row of scores a map from class to score. Here its output is the rows themselves, in the classes' order.
fn zip_maps(graph: &mut GraphProto) {
    let mut zipped = HashSet::new();
    for node in graph.node.iter_mut().filter(|node| node.op_type == "ZipMap" && node.domain == "ai.onnx.ml") {
        node.op_type = "Identity".into();
        node.domain.clear();
        node.attribute.clear();
        zipped.extend(&node.output);
    }
    for output in graph.output.iter_mut().filter(|output| zipped.contains(&output.name)) {
        // A sequence of maps, which no tensor is.
        output.r#type = None;
    }
}

/// The first output that has a name.
fn first_output(node: &NodeProto) -> &str {
    node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str)
}

/// A constant of one number, of no dimensions.
fn scalar(name: &str, value: f32) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: DataType::Float.into(),
        float_data: vec![value],
        ..TensorProto::default()
    }
}

/// A constant list of whole numbers, as shapes, axes and bounds are.
fn list(name: &str, values: Vec<i64>) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: DataType::Int64.into(),
        dims: vec![values.len() as i64],
        int64_data: values,
        ..TensorProto::default()
    }
}

/// An attribute of one whole number.
fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int.into(), i: value, ..AttributeProto::default() }
}

fn is_core(node: &NodeProto, operator: &str) -> bool {
    node.op_type == operator && matches!(&*node.domain, "" | "ai.onnx")
}

/// The scales of an `Upsample` of opset 7 or 8, which are an attribute, as the input that they are from opset 9 on.
fn upsamples(graph: &mut GraphProto, fresh: &mut Fresh) {
    let GraphProto { node, initializer, .. } = graph;
    for node in node.iter_mut().filter(|node| is_core(node, "Upsample") && node.input.len() == 1) {
        let Some(scales) = node.attribute.iter().find(|attribute| attribute.name == "scales") else { continue };
        let name = fresh.name("scales", first_output(node));
        initializer.push(TensorProto {
            name: name.clone(),
            data_type: DataType::Float.into(),
            dims: vec![i64::try_from(scales.floats.len()).unwrap_or(i64::MAX)],
            float_data: scales.floats.clone(),
            ..TensorProto::default()
        });
        node.input.push(name);
    }
}

/// The number of values that a `TopK` before opset 10 gives, which is an attribute, as the input that it is from then on.
fn greatest(graph: &mut GraphProto, opset: i64, fresh: &mut Fresh) {
    let GraphProto { node, initializer, .. } = graph;
    for node in node {
        let nested =
            node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        nested.for_each(|graph| greatest(graph, opset, fresh));
        if opset >= 10 || !is_core(node, "TopK") || node.input.len() != 1 {
            continue;
        }
        let count = node.attribute.iter().find(|attribute| attribute.name == "k").map(|attribute| attribute.i);
        let name = fresh.name("greatest", first_output(node));
        initializer.push(list(&name, count.into_iter().collect()));
        node.input.push(name);
    }
}

/// The bounds of a `Slice` before opset 10, which are attributes, as the inputs that they are from then on.
fn slices(graph: &mut GraphProto, opset: i64, fresh: &mut Fresh) {
    let GraphProto { node, initializer, .. } = graph;
    for node in node {
        let nested =
            node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        nested.for_each(|graph| slices(graph, opset, fresh));
        if opset >= 10 || !is_core(node, "Slice") || node.input.len() != 1 {
            continue;
        }
        for bound in ["starts", "ends", "axes"] {
            let Some(given) = node.attribute.iter().find(|attribute| attribute.name == bound) else { continue };
            let name = fresh.name(bound, first_output(node));
            initializer.push(list(&name, given.ints.clone()));
            node.input.push(name);
        }
        node.attribute.clear();
    }
}

/// A `Pad` that fills with no constant may be given one all the same, which counts for nothing; tract would fill with it.
fn pads(graph: &mut GraphProto, opset: i64) {
    for node in &mut graph.node {
        let graphs =
            node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        graphs.for_each(|graph| pads(graph, opset));
        let mode = node.attribute.iter().find(|given| given.name == "mode").map_or(&b"constant"[..], |given| &given.s);
        if opset >= 11 && is_core(node, "Pad") && mode != b"constant" {
            node.input.get_mut(2).into_iter().for_each(String::clear);
        }
    }
}

/// Pools whose padding is given as a rule. `VALID` is no padding; with it tract would forget `ceil_mode`. `SAME_UPPER` and `SAME_LOWER`
/// under dilation are padded by onnxruntime as if there were none, by tract for it: such a node loses its name, and is refused.
fn pools(graph: &mut GraphProto) {
    for node in &mut graph.node {
        let graphs =
            node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        graphs.for_each(pools);
        if !matches!(&*node.domain, "" | "ai.onnx") || !matches!(&*node.op_type, "MaxPool" | "AveragePool") {
            continue;
        }
        let is_dilated = node
            .attribute
            .iter()
            .any(|given| given.name == "dilations" && given.ints.iter().any(|dilation| *dilation != 1));
        let Some(rule) = node.attribute.iter().position(|given| given.name == "auto_pad") else { continue };
        match &*node.attribute[rule].s {
            b"SAME_UPPER" | b"SAME_LOWER" if is_dilated => {
                node.op_type = format!("{} with auto_pad and dilations (export it with pads)", node.op_type);
            }
            b"SAME_UPPER" | b"SAME_LOWER" => node.attribute.retain(|given| given.name != "pads"),
            b"VALID" => node.attribute.retain(|given| !matches!(&*given.name, "auto_pad" | "pads")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(auto_pad: &str, dilations: Vec<i64>) -> NodeProto {
        let rule = AttributeProto { name: "auto_pad".into(), s: auto_pad.into(), ..AttributeProto::default() };
        let dilations = AttributeProto { name: "dilations".into(), ints: dilations, ..AttributeProto::default() };
        let pads = AttributeProto { name: "pads".into(), ints: vec![3; 4], ..AttributeProto::default() };
        let attribute = vec![rule, dilations, pads];
        let node = NodeProto { op_type: "MaxPool".into(), attribute, ..NodeProto::default() };
        let inner = GraphProto { node: vec![node], ..GraphProto::default() };
        let nested = AttributeProto { name: "body".into(), g: Some(inner), ..AttributeProto::default() };
        let outer = NodeProto { op_type: "Loop".into(), attribute: vec![nested], ..NodeProto::default() };
        let mut graph = GraphProto { node: vec![outer], ..GraphProto::default() };
        pools(&mut graph);
        graph.node.remove(0).attribute.remove(0).g.unwrap().node.remove(0)
    }

    #[test]
    fn pools_are_padded_by_one_rule_only() {
        let attributes = |node: &NodeProto| node.attribute.iter().map(|given| given.name.clone()).collect::<Vec<_>>();
        assert_eq!(attributes(&pool("VALID", vec![2, 2])), ["dilations"]);
        assert_eq!(attributes(&pool("SAME_UPPER", vec![1, 1])), ["auto_pad", "dilations"]);
        assert_eq!(attributes(&pool("NOTSET", vec![2, 2])), ["auto_pad", "dilations", "pads"]);
        assert_eq!(pool("NOTSET", vec![2, 2]).op_type, "MaxPool");
        assert_eq!(pool("SAME_LOWER", vec![1, 2]).op_type, "MaxPool with auto_pad and dilations (export it with pads)");
    }
}
