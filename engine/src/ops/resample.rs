//! `Resize` in the form of opset 11 without regions, and `Upsample`, which is what `Resize` was called before: tract's own reader
//! of `Resize`, told another opset.

use tract_onnx::{
    model::ParsingContext,
    pb::{AttributeProto, NodeProto, attribute_proto::AttributeType},
    prelude::TractResult,
    tract_hir::internal::{InferenceOp, bail, ensure},
};

type Built = (Box<dyn InferenceOp>, Vec<String>);

/// From opset 13 on tract's reader passes over inputs without a name; those of 11 are the same but for that.
const OPSET: i64 = 13;

pub(super) fn resize(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Built> {
    if !(11..OPSET).contains(&context.onnx_operator_set_version) {
        return super::stock("Resize")?(context, node);
    }
    let context = ParsingContext { onnx_operator_set_version: OPSET, ..context.clone() };
    super::stock("Resize")?(&context, node)
}

pub(super) fn upsample(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Built> {
    let [image, scales] = &*node.input else { bail!("Upsample takes an image and scales") };
    ensure!(!image.is_empty() && !scales.is_empty(), "Upsample takes an image and scales");
    let word = |name: &str, value: &str| AttributeProto {
        name: name.into(),
        r#type: AttributeType::String.into(),
        s: value.into(),
        ..AttributeProto::default()
    };
    let attributes = node.attribute.iter().filter(|attribute| attribute.name == "mode").cloned();
    let node = NodeProto {
        op_type: "Resize".into(),
        input: vec![image.clone(), String::new(), scales.clone()],
        attribute: attributes
            .chain([word("coordinate_transformation_mode", "asymmetric"), word("nearest_mode", "floor")])
            .collect(),
        ..node.clone()
    };
    let context = ParsingContext { onnx_operator_set_version: OPSET, ..context.clone() };
    super::stock("Resize")?(&context, &node)
}
