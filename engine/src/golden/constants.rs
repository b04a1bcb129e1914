//! A model with some of a case's inputs written into it.
//!
//! Tests of single operators give shapes, axes and scales as inputs; exporters write them into the file, and an engine that
//! compiles a plan wants to know them.

use crate::{decode, error::LoadError, limits::Limits, rewrite, tensor::Tensor, tensor_proto::to_proto};
use prost::Message;
use std::collections::HashSet;
use tract_onnx::pb::{ValueInfoProto, type_proto::Value};

/// The file with every input but the first as a constant, `values` being those of all inputs.
///
/// # Errors
/// As of [`Model::load`](crate::Model::load) where the bytes are no model; [`LoadError::Malformed`] where there are more
/// values than inputs, or one is of another type than its input.
pub fn with_constants(bytes: &[u8], values: &[Tensor], limits: &Limits) -> Result<Vec<u8>, LoadError> {
    let mut proto = decode::model(bytes, limits)?;
    rewrite::plain(&mut proto, bytes, limits)?;
    let Some(graph) = proto.graph.as_mut() else {
        return Err(LoadError::malformed("the file holds no graph"));
    };
    let filled: HashSet<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    let open = graph.input.iter().map(|input| input.name.clone()).filter(|name| !filled.contains(name));
    let open: Vec<String> = open.collect();
    if values.len() > open.len() {
        return Err(LoadError::malformed("the case has more inputs than the model"));
    }
    let fixed: Vec<_> = open.iter().zip(values).skip(1).collect();
    for (name, value) in &fixed {
        let constant = to_proto(value, name);
        let declared = graph.input.iter().find(|input| input.name == **name).and_then(element_type);
        if declared.is_some_and(|declared| declared != constant.data_type) {
            return Err(LoadError::malformed(format!("the case gives `{name}` another element type than the model")));
        }
        graph.initializer.push(constant);
    }
    graph.input.retain(|input| !fixed.iter().any(|(name, _)| **name == input.name));
    Ok(proto.encode_to_vec())
}

fn element_type(input: &ValueInfoProto) -> Option<i32> {
    match input.r#type.as_ref()?.value.as_ref()? {
        Value::TensorType(tensor) => Some(tensor.elem_type),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, fixtures};
    use tract_onnx::pb::tensor_proto::DataType;

    #[test]
    fn all_inputs_but_the_first_are_fixed() {
        let inputs = vec![fixtures::value("a", DataType::Float, &[2]), fixtures::value("b", DataType::Float, &[2])];
        let bytes = fixtures::bytes(&fixtures::single("Add", inputs));
        let values = [1f32, 10.0].map(|value| Tensor::new([2], vec![value; 2]).unwrap());
        let fixed = with_constants(&bytes, &values, &Limits::default()).unwrap();
        let model = Model::load(&fixed, &Limits::default()).unwrap();
        assert_eq!(model.inputs().len(), 1);
        assert_eq!(model.run(&values[..1]).unwrap(), [Tensor::new([2], vec![11f32; 2]).unwrap()]);
        let whole = [values[0].clone(), Tensor::new([2], vec![10i64; 2]).unwrap()];
        assert!(matches!(with_constants(&bytes, &whole, &Limits::default()), Err(LoadError::Malformed { .. })));
        let three = [&values[..], &values[..1]].concat();
        assert!(matches!(with_constants(&bytes, &three, &Limits::default()), Err(LoadError::Malformed { .. })));
    }
}
