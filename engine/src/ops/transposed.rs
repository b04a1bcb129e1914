//! `ConvTranspose` of a size that is asked for. What it has too much is cut off at both ends: where that is no whole number for each,
//! tract cuts at the other end than onnxruntime. A rule of padding beside `output_padding` comes to another size there too.

use super::{kernel::Built, stock, stock_expansion};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::internal::{
        Expansion, InferenceResult, OutletId, Solver, StaticName, TDim, TVec, TensorProxy, TractResult, TypedModel,
        ensure, expand,
    },
};

#[derive(Debug, Clone)]
struct Sized {
    stock: Box<dyn Expansion>,
    wanted: Vec<i64>,
    steps: Vec<i64>,
    dilations: Vec<i64>,
    more: Vec<i64>,
}

pub(super) fn conv(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let is_ruled = node.get_attr_opt::<&str>("auto_pad")?.is_some_and(|rule| rule != "NOTSET");
    let has_more =
        node.get_attr_opt_vec::<i64>("output_padding")?.is_some_and(|more| more.iter().any(|more| *more != 0));
    let is_same = node.get_attr_opt::<&str>("auto_pad")?.is_some_and(|rule| rule.starts_with("SAME"));
    ensure!(
        !(is_same && has_more),
        "ConvTranspose with auto_pad and output_padding is not supported: export it with pads"
    );
    let wanted = node.get_attr_opt_vec::<i64>("output_shape")?.unwrap_or_default();
    if wanted.is_empty() || is_ruled {
        return stock("ConvTranspose")?(context, node);
    }
    let given = |name, default: i64| -> TractResult<Vec<i64>> {
        Ok(node.get_attr_opt_vec::<i64>(name)?.unwrap_or_else(|| vec![default; wanted.len()]))
    };
    let (steps, dilations, more) = (given("strides", 1)?, given("dilations", 1)?, given("output_padding", 0)?);
    let stock = stock_expansion("ConvTranspose", context, node)?;
    Ok((expand(Sized { stock, wanted, steps, dilations, more }), Vec::new()))
}

impl Sized {
    fn check(&self, image: &[TDim], kernel: &[TDim]) -> TractResult<()> {
        let sides = image.iter().skip(2).zip(kernel.iter().skip(2)).zip(&self.wanted);
        let rules = self.steps.iter().zip(&self.dilations).zip(&self.more);
        for (((side, window), wanted), ((step, dilation), more)) in sides.zip(rules) {
            let (Ok(side), Ok(window)) = (side.to_i64(), window.to_i64()) else { continue };
            let whole = [
                side.saturating_sub(1).saturating_mul(*step),
                window.saturating_sub(1).saturating_mul(*dilation),
                1,
                *more,
            ];
            let cut = whole.into_iter().fold(0, i64::saturating_add).saturating_sub(*wanted);
            // One more than there is: nothing is cut, and both put it at the end.
            ensure!(
                cut == -1 || (cut >= 0 && cut % 2 == 0),
                "of the size {wanted}, which output_shape asks for, {cut} lies beyond: export it with pads"
            );
        }
        Ok(())
    }
}

impl Expansion for Sized {
    fn name(&self) -> StaticName {
        "ConvTranspose".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() >= 2, "takes an image and weights");
        solver.given_2(&inputs[0].shape, &inputs[1].shape, |_, image, kernel| self.check(&image, &kernel))?;
        self.stock.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        self.stock.wire(prefix, model, inputs)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, LoadError, Model, Tensor, fixtures, fixtures::value, tensor_proto::to_proto};
    use tract_onnx::pb::{AttributeProto, GraphProto, attribute_proto::AttributeType, tensor_proto::DataType};

    /// Of an image of six values, two a step and a window of two: twelve.
    fn sized(wanted: i64) -> Result<Model, LoadError> {
        given(vec![list("output_shape", vec![wanted]), list("strides", vec![2])])
    }

    fn list(name: &str, ints: Vec<i64>) -> AttributeProto {
        let (name, r#type) = (name.into(), AttributeType::Ints.into());
        AttributeProto { name, r#type, ints, ..AttributeProto::default() }
    }

    fn given(attributes: Vec<AttributeProto>) -> Result<Model, LoadError> {
        let mut node = fixtures::node("ConvTranspose", &["x", "w"], &["y"]);
        node.attribute = attributes;
        let weights = Tensor::new([1, 1, 2], vec![1f32, 2.0]).unwrap();
        let proto = fixtures::model(GraphProto {
            node: vec![node],
            initializer: vec![to_proto(&weights, "w")],
            input: vec![value("x", DataType::Float, &[-1, 1, 6])],
            output: vec![value("y", DataType::Float, &[-1])],
            ..GraphProto::default()
        });
        Model::load(&fixtures::bytes(&proto), &Limits::default())
    }

    #[test]
    fn a_rule_of_padding_beside_more_output_is_refused() {
        let rule = AttributeProto {
            name: "auto_pad".into(),
            r#type: AttributeType::String.into(),
            s: b"SAME_UPPER".to_vec(),
            ..AttributeProto::default()
        };
        let loaded = |more: i64| {
            given(vec![
                rule.clone(),
                list("strides", vec![2]),
                list("dilations", vec![2]),
                list("output_padding", vec![more]),
            ])
        };
        assert!(loaded(0).is_ok());
        let told = |detail: &str| detail.contains("auto_pad and output_padding");
        assert!(matches!(loaded(1), Err(LoadError::NotCompilable { detail, .. }) if told(&detail)));
    }

    #[test]
    fn a_size_is_cut_as_much_at_one_end_as_at_the_other_or_not_at_all() {
        for whole in [12, 10] {
            assert_eq!(sized(whole).unwrap().outputs()[0].dims[2], usize::try_from(whole).ok());
        }
        let answer = sized(13).unwrap().run(&[Tensor::new([1, 1, 6], vec![1f32; 6]).unwrap()]).unwrap();
        assert_eq!(answer[0].data(), &[[1f32, 2.0].repeat(6), vec![0.0]].concat().into());
        for other in [11, 14] {
            let told = |detail: &str| detail.contains("export it with pads");
            assert!(matches!(sized(other), Err(LoadError::NotCompilable { detail, .. }) if told(&detail)), "{other}");
        }
    }
}
