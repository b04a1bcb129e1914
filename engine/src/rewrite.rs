//! What is said otherwise in a file before tract reads it.

use tract_onnx::pb::GraphProto;

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
