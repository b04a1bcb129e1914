//! Small ONNX models and arbitrary tensors for the tests of this crate.

use crate::{Data, Tensor, tensor_proto::to_proto};
use proptest::prelude::*;
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// `y = x · w + b`, from rows of 3 to rows of 2, batch open: (1, 2, 3) gives (22.5, 27.5).
pub(crate) fn linear() -> ModelProto {
    let weights = Tensor::new([3, 2], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let bias = Tensor::new([2], vec![0.5f32, -0.5]).unwrap();
    model(GraphProto {
        node: vec![node("MatMul", &["x", "w"], &["h"]), node("Add", &["h", "b"], &["y"])],
        initializer: vec![to_proto(&weights, "w"), to_proto(&bias, "b")],
        input: vec![value("x", DataType::Float, &[-1, 3])],
        output: vec![value("y", DataType::Float, &[-1, 2])],
        ..GraphProto::default()
    })
}

/// Softmax over rows of 4, and the label: `p` FP32, `label` INT64; batch open.
pub(crate) fn softmax() -> ModelProto {
    let mut argmax = node("ArgMax", &["x"], &["label"]);
    argmax.attribute = vec![integer("axis", 1), integer("keepdims", 0)];
    let mut softmax = node("Softmax", &["x"], &["p"]);
    softmax.attribute = vec![integer("axis", 1)];
    model(GraphProto {
        node: vec![softmax, argmax],
        input: vec![value("x", DataType::Float, &[-1, 4])],
        output: vec![value("p", DataType::Float, &[-1, 4]), value("label", DataType::Int64, &[-1])],
        ..GraphProto::default()
    })
}

/// One operator without attributes from `inputs` to `y`.
pub(crate) fn single(operator: &str, inputs: Vec<ValueInfoProto>) -> ModelProto {
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    model(GraphProto {
        node: vec![node(operator, &names, &["y"])],
        output: vec![value("y", DataType::Float, &[-1])],
        input: inputs,
        ..GraphProto::default()
    })
}

/// The file of a model.
pub(crate) fn bytes(proto: &ModelProto) -> Vec<u8> {
    proto.encode_to_vec()
}

pub(crate) fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 8,
        producer_name: "tern".into(),
        producer_version: "tests".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto { name: "g".into(), ..graph }),
        ..ModelProto::default()
    }
}

pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        name: format!("{operator}_node"),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: outputs.iter().map(|name| (*name).to_owned()).collect(),
        ..NodeProto::default()
    }
}

pub(crate) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i: value, ..AttributeProto::default() }
}

pub(crate) fn tensor_attribute(name: &str, tensor: TensorProto) -> AttributeProto {
    let r#type = AttributeType::Tensor as i32;
    AttributeProto { name: name.into(), r#type, t: Some(tensor), ..AttributeProto::default() }
}

/// A graph input or output; -1 makes a dimension symbolic.
pub(crate) fn value(name: &str, dtype: DataType, dims: &[i64]) -> ValueInfoProto {
    let dim = |dim: &i64| {
        let value = if *dim == -1 { dimension::Value::DimParam("N".into()) } else { dimension::Value::DimValue(*dim) };
        Dimension { value: Some(value), ..Dimension::default() }
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: dtype as i32, shape };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

/// Tensors of every element type, of up to three small dimensions.
pub(crate) fn any_tensor() -> impl Strategy<Value = Tensor> {
    prop::collection::vec(0usize..4, 0..3).prop_flat_map(|shape| {
        let n = shape.iter().product::<usize>();
        macro_rules! of {
            ($element:ty) => {
                prop::collection::vec(any::<$element>(), n).prop_map(Data::from).boxed()
            };
        }
        let bytes = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), n).prop_map(Data::from).boxed();
        let data = prop::strategy::Union::new([
            of!(bool),
            of!(u8),
            of!(u16),
            of!(u32),
            of!(u64),
            of!(i8),
            of!(i16),
            of!(i32),
            of!(i64),
            of!(f32),
            of!(f64),
            bytes,
        ]);
        data.prop_map(move |data| Tensor::new(shape.clone(), data).unwrap())
    })
}
