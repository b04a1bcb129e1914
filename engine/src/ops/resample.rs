//! `Resize` in the form of opset 11 without regions, with aligned corners and to the size that there is, and `Upsample`, which is what
//! `Resize` was called before: tract's own reader of `Resize`, told another opset.

use super::kernel::{Built, axis, place, values};
use tract_onnx::{
    model::ParsingContext,
    pb::{AttributeProto, NodeProto, attribute_proto::AttributeType},
    prelude::{TVec, TractResult, tensor1},
    tract_core::ops::identity::Identity,
    tract_hir::internal::{
        Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim, TensorProxy, TypedModel, bail,
        ensure, expand,
    },
};

/// From opset 13 on tract's reader passes over inputs without a name; those of 11 are the same but for that.
const OPSET: i64 = 13;

pub(super) fn resize(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let is_symmetric = node.get_attr_opt::<&str>("coordinate_transformation_mode")? == Some("half_pixel_symmetric");
    let is_nearest = node.get_attr_opt::<&str>("mode")?.is_none_or(|mode| mode == "nearest");
    // Which of two pixels is nearest hangs there on the last bit of sums whose order is onnxruntime's own.
    ensure!(
        !is_symmetric || !is_nearest,
        "Resize to the nearest pixel with half_pixel_symmetric is not supported: export it with half_pixel"
    );
    if !(11..OPSET).contains(&context.onnx_operator_set_version) {
        return aligned(context, node);
    }
    let context = ParsingContext { onnx_operator_set_version: OPSET, ..context.clone() };
    aligned(&context, node)
}

/// What comes out as large as it was is the same to onnxruntime, whatever the scales; tract resamples by scales that fall short of a pixel.
#[derive(Debug, Clone)]
struct Kept {
    resized: Box<dyn Expansion>,
    /// By cubics from pixels' halves as PyTorch counts them: the only pixel of an axis then lies half a pixel before the image.
    is_off: bool,
}

impl Kept {
    fn of(resized: Box<dyn Expansion>, node: &NodeProto) -> TractResult<Self> {
        let word = |name: &str| node.get_attr_opt::<&str>(name);
        let is_off =
            word("mode")? == Some("cubic") && word("coordinate_transformation_mode")? == Some("pytorch_half_pixel");
        Ok(Self { resized, is_off })
    }
}

impl Expansion for Kept {
    fn name(&self) -> StaticName {
        "Resize".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.resized.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let resized = self.resized.wire(prefix, model, inputs)?;
        let (made, given) = (&model.outlet_fact(resized[0])?.shape, &model.outlet_fact(inputs[0])?.shape);
        let one = TDim::from(1);
        ensure!(
            !self.is_off || made.iter().zip(given.iter()).all(|(made, given)| *made != one || *given == one),
            "Resize to one pixel by cubic with pytorch_half_pixel is not supported: export it with half_pixel"
        );
        if made != given {
            return Ok(resized);
        }
        model.wire_node(format!("{prefix}.kept"), Identity, &inputs[..1])
    }
}

/// With corners aligned, onnxruntime reckons with the sizes that come out, tract with the scales, whose products need not be whole.
#[derive(Debug, Clone)]
struct Aligned {
    by_scales: Box<dyn Expansion>,
    by_sizes: Box<dyn Expansion>,
    /// The axes that there are scales for; all where there are none.
    axes: Option<Vec<i64>>,
    /// The place of the scales.
    scales: usize,
}

fn aligned(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let is_aligned = node.get_attr_opt::<&str>("coordinate_transformation_mode")? == Some("align_corners");
    let is_smoothed = node.get_attr_opt::<i64>("antialias")?.unwrap_or(0) != 0;
    let stock = super::stock_expansion("Resize", context, node)?;
    let (Some(scales), None) = (place(node, 2), place(node, 3)) else {
        return Ok((expand(Kept::of(stock, node)?), Vec::new()));
    };
    ensure!(
        !(is_aligned && is_smoothed),
        "Resize by scales with antialias and align_corners has other corners in onnxruntime: export it with sizes"
    );
    if !is_aligned || context.onnx_operator_set_version < OPSET {
        return Ok((expand(Kept::of(stock, node)?), Vec::new()));
    }
    let sized = NodeProto {
        input: vec![node.input[0].clone(), String::new(), String::new(), node.input[2].clone()],
        attribute: node.attribute.iter().filter(|each| each.name != "keep_aspect_ratio_policy").cloned().collect(),
        ..node.clone()
    };
    let by_sizes = super::stock_expansion("Resize", context, &sized)?;
    let axes = node.get_attr_opt_vec::<i64>("axes")?;
    Ok((expand(Aligned { by_scales: stock, by_sizes, axes, scales }), Vec::new()))
}

impl Aligned {
    /// The sizes that the scales come to, where both are known: what is behind the point falls away.
    fn sizes(&self, model: &TypedModel, inputs: &[OutletId]) -> TractResult<Option<Vec<i64>>> {
        let Some(scales) = &model.outlet_fact(inputs[self.scales])?.konst else { return Ok(None) };
        let scales = values::<f32>(scales)?;
        let Some(shape) = model.outlet_fact(inputs[0])?.shape.as_concrete() else { return Ok(None) };
        let axes = match &self.axes {
            Some(axes) => axes.iter().map(|at| axis(*at, shape.len())).collect::<TractResult<Vec<_>>>()?,
            None => (0..shape.len()).collect(),
        };
        if scales.is_empty() || scales.len() != axes.len() {
            return Ok(None);
        }
        Ok(Some(scales.iter().zip(axes).map(|(scale, axis)| (scale * shape[axis] as f32) as i64).collect()))
    }
}

impl Expansion for Aligned {
    fn name(&self) -> StaticName {
        "Resize".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.by_scales.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let Some(sizes) = self.sizes(model, inputs)? else { return self.by_scales.wire(prefix, model, inputs) };
        let sizes = model.add_const(format!("{prefix}.sizes"), tensor1(&sizes))?;
        self.by_sizes.wire(prefix, model, &[inputs[0], sizes])
    }
}

pub(super) fn upsample(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
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
    let resized = super::stock_expansion("Resize", &context, &node)?;
    Ok((expand(Kept::of(resized, &node)?), Vec::new()))
}
