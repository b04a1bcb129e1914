//! What any ONNX file says about itself, whether this engine can run it or not.
//!
//! Derived from the decoded file alone: nothing is compiled, nothing runs, and only what is no ONNX model is an error.

use super::{
    Opset, census, elements,
    macs::{self, Macs},
    opsets, producer,
};
use crate::{
    check,
    check::{all_graphs, attribute_tensors},
    decode,
    dtype::onnx_name,
    error::{LoadError, brief},
    guard::guarded,
    limits::Limits,
    model::plans,
    rewrite,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use tract_onnx::pb::{
    GraphProto, TensorProto, ValueInfoProto,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// Facts of a file that may not run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
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
    /// Bytes that those values take; text not counted.
    pub parameter_bytes: u64,
    /// How numbers were made smaller.
    pub quantisation: Quantisation,
    /// Multiplications with addition for one row.
    pub macs: Macs,
    /// What a caller gives: graph inputs that no initializer fills.
    pub inputs: Vec<Declared>,
    /// What comes out.
    pub outputs: Vec<Declared>,
    /// Operators that this engine does not have, at most 20.
    pub unsupported: Vec<String>,
    /// Why this engine refuses the file, where it does before it compiles anything.
    pub refusal: Option<String>,
}

/// How a model's numbers were made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantisation {
    /// Not at all.
    None,
    /// Weights are integers and become floats before they are used.
    Weights,
    /// Weights are integers, inputs of layers are quantised at run time.
    Dynamic,
    /// Pairs of `QuantizeLinear` and `DequantizeLinear` around float operators.
    Qdq,
    /// Operators on integers, such as `QLinearConv`.
    QOperator,
}

/// An input or output as the file declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its element type, or that it is no tensor.
    pub dtype: String,
    /// Its dimensions, outermost first; none where the file declares no shape.
    pub dims: Option<Vec<Dim>>,
}

/// One dimension as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// A number.
    Fixed(u64),
    /// A name, such as `batch`.
    Named(String),
    /// Nothing.
    Open,
}

impl Declared {
    /// The dimensions as text: `[N, 64]`.
    pub fn shape_text(&self) -> String {
        let Some(dims) = &self.dims else { return "of unknown shape".into() };
        let text = |dim: &Dim| match dim {
            Dim::Fixed(dim) => dim.to_string(),
            Dim::Named(name) => name.clone(),
            Dim::Open => "?".into(),
        };
        format!("[{}]", dims.iter().map(text).collect::<Vec<_>>().join(", "))
    }
}

/// The facts of a model file.
///
/// # Errors
/// [`LoadError::TooLarge`] beyond `limits`, [`LoadError::Malformed`] where the bytes are no ONNX model.
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Inspection, LoadError> {
    guarded(|| inspected(bytes, limits)).map_err(|what| LoadError::Panicked { what })?
}

fn inspected(bytes: &[u8], limits: &Limits) -> Result<Inspection, LoadError> {
    let mut proto = decode::model(bytes, limits)?;
    let Some(graph) = proto.graph.as_ref() else {
        return Err(LoadError::malformed("the file holds no graph"));
    };
    let graphs = all_graphs(graph);
    let operators = census(&graphs);
    let filled: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let facts = Inspection {
        file_bytes: bytes.len() as u64,
        ir_version: proto.ir_version,
        producer: producer(&proto),
        opsets: opsets(&proto),
        parameters: graphs.iter().fold(0, |total: u64, graph| total.saturating_add(super::parameters(graph))),
        parameter_bytes: graphs.iter().fold(0, |total: u64, graph| total.saturating_add(stored(graph))),
        quantisation: quantisation(&operators),
        macs: macs::count(graph, &graphs),
        inputs: graph.input.iter().filter(|input| !filled.contains(input.name.as_str())).map(declared).collect(),
        outputs: given(graph),
        operators,
        unsupported: Vec::new(),
        refusal: None,
    };
    // From here on the file is what the engine makes of it.
    if let Err(error) = rewrite::plain(&mut proto, bytes, limits).and_then(|()| rewrite::all(&mut proto)) {
        return Ok(Inspection { refusal: Some(error.to_string()), ..facts });
    }
    Ok(match check::graph(&proto, &plans::reader(), limits) {
        Ok(_) => facts,
        Err(LoadError::UnsupportedOperators { operators }) => Inspection { unsupported: operators, ..facts },
        Err(other) => Inspection { refusal: Some(other.to_string()), ..facts },
    })
}

/// Judged by the operators that only one way of quantising writes; the strictest that is there wins.
fn quantisation(operators: &BTreeMap<String, u64>) -> Quantisation {
    let any = |fits: &dyn Fn(&str) -> bool| {
        operators.keys().any(|name| fits(name.rsplit_once('.').map_or(name.as_str(), |(_, own)| own)))
    };
    let dynamic = ["DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM"];
    if any(&|name| name.starts_with("QLinear") || name == "QGemm") {
        Quantisation::QOperator
    } else if any(&|name| dynamic.contains(&name) || name.starts_with("DynamicQuantize")) {
        Quantisation::Dynamic
    } else if any(&|name| name == "QuantizeLinear") {
        Quantisation::Qdq
    } else if any(&|name| name == "DequantizeLinear" || name == "MatMulNBits") {
        Quantisation::Weights
    } else {
        Quantisation::None
    }
}

fn stored(graph: &GraphProto) -> u64 {
    let constants = graph.node.iter().flat_map(|node| &node.attribute).flat_map(attribute_tensors);
    let tensors = graph.initializer.iter().chain(constants);
    let tensors = tensors.map(|tensor| elements(tensor).saturating_mul(width(tensor)) / 2);
    // Trees and linear models keep theirs in lists of FP32.
    let in_lists = graph.node.iter().filter(|node| node.domain == "ai.onnx.ml").flat_map(|node| &node.attribute);
    let lists = in_lists.map(|attribute| attribute.floats.len() as u64 * 4);
    tensors.chain(lists).fold(0, u64::saturating_add)
}

/// Half bytes of one value: some types have two in a byte.
fn width(tensor: &TensorProto) -> u64 {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Uint4 | DataType::Int4) => 1,
        Ok(DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16) => 4,
        Ok(DataType::Uint32 | DataType::Int32 | DataType::Float) => 8,
        Ok(DataType::Uint64 | DataType::Int64 | DataType::Double | DataType::Complex64) => 16,
        Ok(DataType::Complex128) => 32,
        Ok(DataType::String | DataType::Undefined) | Err(_) => 0,
        Ok(_) => 2,
    }
}

/// As declared; what ZipMap gives is declared as no tensor, and becomes one here.
fn given(graph: &GraphProto) -> Vec<Declared> {
    let zipped: HashSet<&str> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "ZipMap")
        .flat_map(|node| &node.output)
        .map(String::as_str)
        .collect();
    let table = || Some(vec![Dim::Open, Dim::Open]);
    let given = |info: &ValueInfoProto| match zipped.contains(info.name.as_str()) {
        true => Declared { name: brief(&info.name), dtype: "FP32".into(), dims: table() },
        false => declared(info),
    };
    graph.output.iter().map(given).collect()
}

fn declared(info: &ValueInfoProto) -> Declared {
    let tensor =
        info.r#type.as_ref().and_then(|of| of.value.as_ref()).map(|type_proto::Value::TensorType(tensor)| tensor);
    let dim = |dim: &Dimension| match &dim.value {
        Some(dimension::Value::DimValue(dim)) => u64::try_from(*dim).map_or(Dim::Open, Dim::Fixed),
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => Dim::Named(brief(name)),
        Some(dimension::Value::DimParam(_)) | None => Dim::Open,
    };
    Declared {
        name: brief(&info.name),
        dtype: tensor.map_or_else(|| "no tensor".into(), |tensor| onnx_name(tensor.elem_type)),
        dims: tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.iter().map(dim).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use tract_onnx::pb::AttributeProto;

    fn of(proto: &tract_onnx::pb::ModelProto) -> Inspection {
        inspect(&fixtures::bytes(proto), &Limits::default()).unwrap()
    }

    #[test]
    fn the_linear_model_is_told_whole() {
        let facts = of(&fixtures::linear());
        assert_eq!((facts.parameters, facts.parameter_bytes, facts.ir_version), (8, 32, 8));
        assert_eq!((facts.producer.as_str(), facts.opsets[0].version), ("tern tests", 17));
        assert_eq!((facts.macs.per_row, facts.macs.counted), (6, 1));
        assert_eq!((facts.quantisation, facts.refusal), (Quantisation::None, None));
        let x = &facts.inputs[0];
        assert_eq!((x.name.as_str(), x.dtype.as_str(), x.shape_text().as_str()), ("x", "FP32", "[N, 3]"));
        assert_eq!(facts.outputs[0].dims, Some(vec![Dim::Named("N".into()), Dim::Fixed(2)]));
        assert_eq!(facts.unsupported, Vec::<String>::new());
    }

    #[test]
    fn values_in_lists_of_operators_take_room_too() {
        let mut proto = fixtures::linear();
        let node = &mut proto.graph.as_mut().unwrap().node[1];
        node.domain = "ai.onnx.ml".into();
        node.attribute.push(AttributeProto { floats: vec![0.0; 5], ..AttributeProto::default() });
        assert_eq!((of(&proto).parameters, of(&proto).parameter_bytes), (8 + 5, 32 + 20));
    }

    #[test]
    fn a_model_that_cannot_run_is_told_all_the_same() {
        let mut proto = fixtures::linear();
        let graph = proto.graph.as_mut().unwrap();
        graph.node[1].op_type = "Sorcery".into();
        graph.node[1].domain = "com.example".into();
        graph.output[0].r#type = None;
        let facts = of(&proto);
        assert_eq!(facts.unsupported, ["com.example.Sorcery"]);
        assert_eq!((facts.operators["com.example.Sorcery"], facts.parameters), (1, 8));
        assert_eq!((facts.outputs[0].dtype.as_str(), &facts.outputs[0].dims), ("no tensor", &None));
    }

    #[test]
    fn an_operator_that_the_engine_makes_into_another_is_told_as_it_stands_in_the_file() {
        let mut proto = fixtures::linear();
        let graph = proto.graph.as_mut().unwrap();
        graph.output[0].r#type = None;
        graph.output[0].name = "z".into();
        graph.node.push(fixtures::node("ZipMap", &["y"], &["z"]));
        graph.node[2].domain = "ai.onnx.ml".into();
        let facts = of(&proto);
        assert_eq!((&facts.unsupported, &facts.refusal), (&vec![], &None));
        assert_eq!(facts.operators["ai.onnx.ml.ZipMap"], 1);
        assert_eq!((facts.outputs[0].dtype.as_str(), facts.outputs[0].shape_text().as_str()), ("FP32", "[?, ?]"));
    }

    #[test]
    fn what_the_engine_refuses_otherwise_is_said() {
        let mut proto = fixtures::linear();
        proto.graph.as_mut().unwrap().output[0].name = "gone".into();
        let facts = of(&proto);
        assert!(facts.refusal.unwrap().contains("`gone`") && facts.unsupported.is_empty());
    }

    #[test]
    fn what_is_no_model_is_an_error() {
        for bytes in [&b""[..], b"\xff\xff", &fixtures::bytes(&fixtures::linear())[..60]] {
            assert!(matches!(inspect(bytes, &Limits::default()), Err(LoadError::Malformed { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn each_way_of_quantising_is_known_by_its_operators() {
        use Quantisation::*;
        for (names, kind) in [
            (&["MatMul", "Relu"][..], None),
            (&["DequantizeLinear", "MatMul"], Weights),
            (&["DynamicQuantizeLinear", "MatMulInteger"], Dynamic),
            (&["com.microsoft.DynamicQuantizeLSTM"], Dynamic),
            (&["QuantizeLinear", "DequantizeLinear", "Conv"], Qdq),
            (&["QuantizeLinear", "QLinearConv", "DequantizeLinear"], QOperator),
            (&["com.microsoft.QGemm"], QOperator),
        ] {
            let operators = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
            assert_eq!(quantisation(&operators), kind, "{names:?}");
        }
    }
}
