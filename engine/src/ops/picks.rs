//! Operators that move values and compute none: `ReverseSequence`, `CenterCropPad`, `ConstantOfShape`.

use super::kernel::{Built, Fact, Kernel, axis, picked, picked_or_nothing, strides, values, walk};
use tract_onnx::{
    model::ParsingContext,
    pb::{AttributeProto, NodeProto, TensorProto, attribute_proto::AttributeType, tensor_proto::DataType},
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{TDim, anyhow, bail, ensure},
};

/// Copies of a value, which is a zero of 32 bits where the node has none; tract takes one of 64.
pub(super) fn constant_of_shape(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let stock = super::stock("ConstantOfShape")?;
    if node.attribute.iter().any(|each| each.name == "value") {
        return stock(context, node);
    }
    let zero = TensorProto {
        data_type: DataType::Float.into(),
        dims: vec![1],
        float_data: vec![0.0],
        ..TensorProto::default()
    };
    let value = AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor.into(),
        t: Some(zero),
        ..AttributeProto::default()
    };
    stock(context, &NodeProto { attribute: vec![value], ..node.clone() })
}

/// Turns the beginning of each sequence of a batch around.
#[derive(Debug)]
pub(super) struct ReverseSequence {
    batch: i64,
    time: i64,
}

pub(super) fn reverse_sequence(node: &NodeProto) -> TractResult<ReverseSequence> {
    let batch = node.get_attr_opt("batch_axis")?.unwrap_or(1);
    let time = node.get_attr_opt("time_axis")?.unwrap_or(0);
    ensure!((batch == 0 && time == 1) || (batch == 1 && time == 0), "batch_axis is {batch}, time_axis {time}");
    Ok(ReverseSequence { batch, time })
}

impl Kernel for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [sequences, lengths] = inputs else { bail!("takes sequences and their lengths") };
        ensure!(sequences.shape.len() >= 2, "takes sequences of two dimensions or more");
        ensure!(lengths.datum == DatumType::I64, "takes lengths of type I64, got {:?}", lengths.datum);
        let batch = axis(self.batch, sequences.shape.len())?;
        ensure!(*lengths.shape == [sequences.shape[batch].clone()], "takes a length for each sequence");
        Ok(vec![Fact::new(sequences.datum, sequences.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let shape = inputs[0].shape();
        let (batch, time) = (axis(self.batch, shape.len())?, axis(self.time, shape.len())?);
        let most = shape[time];
        let lengths = values::<i64>(inputs[1])?.iter().map(|length| {
            let length = usize::try_from(*length).ok().filter(|length| *length <= most);
            length.ok_or_else(|| anyhow!("a sequence's length is not within {most}"))
        });
        let lengths = lengths.collect::<TractResult<Vec<_>>>()?;
        let step = strides(shape)[time];
        let mut at = Vec::with_capacity(inputs[0].len());
        walk(shape, |place, along| {
            let (now, length) = (along[time], lengths[along[batch]]);
            let from = if now < length { length - 1 - now } else { now };
            at.push(place - now * step + from * step);
        });
        Ok(vec![picked(inputs[0], &at, shape)?])
    }
}

/// Cuts the middle out, or puts what is there into the middle of nothing.
#[derive(Debug)]
pub(super) struct CenterCropPad {
    /// None: all.
    axes: Option<Vec<i64>>,
}

pub(super) fn center_crop_pad(node: &NodeProto) -> TractResult<CenterCropPad> {
    Ok(CenterCropPad { axes: node.get_attr_opt_vec("axes")? })
}

impl CenterCropPad {
    fn shape(&self, from: &[usize], sizes: &[usize]) -> TractResult<Vec<usize>> {
        let axes: Vec<usize> = match &self.axes {
            Some(axes) => axes.iter().map(|at| axis(*at, from.len())).collect::<TractResult<_>>()?,
            None => (0..from.len()).collect(),
        };
        ensure!(axes.len() == sizes.len(), "has {} sizes for {} axes", sizes.len(), axes.len());
        let mut shape = from.to_vec();
        axes.iter().zip(sizes).for_each(|(axis, size)| shape[*axis] = *size);
        Ok(shape)
    }
}

impl Kernel for CenterCropPad {
    fn name(&self) -> &'static str {
        "CenterCropPad"
    }

    fn known(&self) -> &[usize] {
        &[1]
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [whole, sizes] = inputs else { bail!("takes values and a shape") };
        let shape = self.shape(&whole.dims()?, &sizes.sizes()?)?;
        Ok(vec![Fact::new(whole.datum, shape.into_iter().map(TDim::from))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let from = inputs[0].shape();
        let shape = self.shape(from, &Fact::of(inputs[1]).sizes()?)?;
        let steps = strides(from);
        let mut at = Vec::new();
        walk(&shape, |_, along| {
            let source = (0..from.len()).map(|axis| {
                let (old, new) = (from[axis], shape[axis]);
                let back = if new < old {
                    Some(along[axis] + (old - new) / 2)
                } else {
                    along[axis].checked_sub((new - old) / 2)
                };
                back.filter(|at| *at < old).map(|at| at * steps[axis])
            });
            at.push(source.sum::<Option<usize>>());
        });
        Ok(vec![picked_or_nothing(inputs[0], &at, &shape)?])
    }
}
