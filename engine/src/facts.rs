//! What a model file says about itself: counts and shapes for catalogs, derived from the bytes and never from a claim.

mod inspection;
mod macs;
mod shapes;

pub use inspection::{Declared, Dim, Inspection, Quantisation, inspect};
pub use macs::Macs;

use crate::{
    check::{all_graphs, attribute_tensors, operator_name},
    error::brief,
    spec::TensorSpec,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

/// Facts of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Version of the file format.
    pub ir_version: i64,
    /// The program that wrote the file, with its version; cut to 400 characters.
    pub producer: String,
    /// The operator sets that the file asks for.
    pub opsets: Vec<Opset>,
    /// How often each operator occurs, nested graphs included; the domain stands before names that are not ONNX's own.
    pub operators: BTreeMap<String, u64>,
    /// Learned values: all in initializers and constants, and the number lists of `ai.onnx.ml` operators.
    pub parameters: u64,
    /// What the model takes.
    pub inputs: Vec<TensorSpec>,
    /// What the model gives.
    pub outputs: Vec<TensorSpec>,
}

/// One operator set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opset {
    /// Empty for ONNX's own.
    pub domain: String,
    /// Its version.
    pub version: i64,
}

/// The facts of a file of `file_bytes` bytes.
pub(crate) fn derive(
    proto: &ModelProto,
    graph: &GraphProto,
    file_bytes: usize,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
) -> Facts {
    let graphs = all_graphs(graph);
    Facts {
        file_bytes: file_bytes as u64,
        ir_version: proto.ir_version,
        producer: producer(proto),
        opsets: opsets(proto),
        operators: census(&graphs),
        parameters: graphs.iter().fold(0, |total: u64, graph| total.saturating_add(parameters(graph))),
        inputs,
        outputs,
    }
}

fn producer(proto: &ModelProto) -> String {
    brief(format!("{} {}", proto.producer_name, proto.producer_version).trim())
}

fn opsets(proto: &ModelProto) -> Vec<Opset> {
    let opsets = proto.opset_import.iter().take(16);
    opsets.map(|opset| Opset { domain: brief(&opset.domain), version: opset.version }).collect()
}

fn census(graphs: &[&GraphProto]) -> BTreeMap<String, u64> {
    let mut operators = BTreeMap::new();
    for node in graphs.iter().flat_map(|graph| &graph.node) {
        *operators.entry(operator_name(node)).or_insert(0u64) += 1;
    }
    operators
}

/// The number of values that a tensor declares.
fn elements(tensor: &TensorProto) -> u64 {
    let dims = tensor.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(0));
    dims.fold(1u64, u64::saturating_mul)
}

fn parameters(graph: &GraphProto) -> u64 {
    let initializers = graph.initializer.iter().map(elements).fold(0, u64::saturating_add);
    let in_operators = graph.node.iter().flat_map(|node| {
        let own_lists = node.domain == "ai.onnx.ml";
        node.attribute.iter().map(move |attribute| {
            let list = if own_lists { attribute.floats.len() as u64 } else { 0 };
            attribute_tensors(attribute).map(elements).fold(list, u64::saturating_add)
        })
    });
    in_operators.fold(initializers, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Model, fixtures};

    #[test]
    fn the_linear_model_tells_its_facts() {
        let bytes = fixtures::bytes(&fixtures::linear());
        let model = Model::load(&bytes, &Limits::default()).unwrap();
        let facts = model.facts();
        assert_eq!(facts.file_bytes, bytes.len() as u64);
        assert_eq!(facts.parameters, 3 * 2 + 2);
        assert_eq!(
            facts.operators.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>(),
            [("Add", 1), ("MatMul", 1)]
        );
        assert_eq!(facts.opsets[0].version, 17);
        assert_eq!(facts.inputs, model.inputs());
        assert_eq!(facts.producer, "tern tests");
    }
}
