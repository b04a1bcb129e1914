//! `NegativeLogLikelihoodLoss` and `SoftmaxCrossEntropyLoss`: files that were exported together with what they were trained by.
//!
//! Formulas: the operators' pages in the ONNX reference.

use super::kernel::{FLOATS, Fact, Kernel, doubles, expect, narrowed, values, volume};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{anyhow, bail, ensure},
};

/// What becomes of the losses of all samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reduction {
    None,
    Sum,
    /// The sum over the sum of the samples' weights.
    Mean,
}

#[derive(Debug)]
pub(super) struct Loss {
    name: &'static str,
    /// Whether the scores become logarithms of probabilities first.
    is_softmax: bool,
    reduction: Reduction,
    /// Samples of this class count for nothing.
    ignored: Option<i64>,
}

pub(super) fn negative_log_likelihood(node: &NodeProto) -> TractResult<Loss> {
    read(node, "NegativeLogLikelihoodLoss", false)
}

pub(super) fn softmax_cross_entropy(node: &NodeProto) -> TractResult<Loss> {
    read(node, "SoftmaxCrossEntropyLoss", true)
}

fn read(node: &NodeProto, name: &'static str, is_softmax: bool) -> TractResult<Loss> {
    let reduction = match node.get_attr_opt::<&str>("reduction")?.unwrap_or("mean") {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        other => bail!("reduction `{other}` is not known"),
    };
    Ok(Loss { name, is_softmax, reduction, ignored: node.get_attr_opt("ignore_index")? })
}

/// Samples, classes, and the places of each sample, of scores whose second axis are the classes.
fn counts(shape: &[usize]) -> TractResult<[usize; 3]> {
    let [samples, classes, places @ ..] = shape else { bail!("takes scores of samples by classes, got {shape:?}") };
    Ok([*samples, *classes, volume(places)?])
}

/// Makes scores the logarithms of their softmax over the classes.
fn log_softmax(scores: &mut [f64], [samples, classes, places]: [usize; 3]) {
    for (sample, place) in (0..samples).flat_map(|sample| (0..places).map(move |place| (sample, place))) {
        let at = |class: usize| (sample * classes + class) * places + place;
        let most = (0..classes).map(|class| scores[at(class)]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..classes).map(|class| (scores[at(class)] - most).exp()).sum();
        let log = most + sum.ln();
        (0..classes).for_each(|class| scores[at(class)] -= log);
    }
}

impl Kernel for Loss {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (scores, targets) = match inputs {
            [scores, targets] => (scores, targets),
            [scores, targets, weights] => {
                ensure!(weights.datum == scores.datum, "takes weights of the scores' type");
                ensure!(weights.shape.first() == scores.shape.get(1), "takes a weight for each class");
                (scores, targets)
            }
            other => bail!("takes scores, targets and weights, got {} inputs", other.len()),
        };
        expect(scores, &FLOATS)?;
        expect(targets, &[DatumType::I64, DatumType::I32])?;
        ensure!(scores.shape.len() >= 2, "takes scores of samples by classes");
        let samples: Vec<_> = scores.shape.iter().take(1).chain(scores.shape.iter().skip(2)).cloned().collect();
        ensure!(samples == *targets.shape, "takes a target for each sample");
        let loss = if self.reduction == Reduction::None { samples } else { Vec::new() };
        Ok(vec![Fact::new(scores.datum, loss), Fact::new(scores.datum, scores.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (datum, shape) = (inputs[0].datum_type(), inputs[0].shape());
        let counted @ [_, classes, places] = counts(shape)?;
        let mut scores = doubles(inputs[0])?;
        if self.is_softmax {
            log_softmax(&mut scores, counted);
        }
        let targets = inputs[1].cast_to::<i64>()?;
        let weights = inputs.get(2).map(|weights| doubles(weights)).transpose()?;
        let (mut losses, mut total) = (Vec::new(), 0.0);
        for (at, target) in values::<i64>(&targets)?.iter().enumerate() {
            if self.ignored == Some(*target) {
                losses.push(0.0);
                continue;
            }
            let class = usize::try_from(*target).ok().filter(|class| *class < classes);
            let class = class.ok_or_else(|| anyhow!("target {target} is none of {classes} classes"))?;
            let weight = weights.as_ref().map_or(1.0, |weights| weights[class]);
            losses.push(-weight * scores[(at / places * classes + class) * places + at % places]);
            total += weight;
        }
        let sum: f64 = losses.iter().sum();
        let loss = match self.reduction {
            Reduction::None => narrowed(&losses, datum, inputs[1].shape())?,
            Reduction::Sum => narrowed(&[sum], datum, &[])?,
            Reduction::Mean => narrowed(&[sum / total], datum, &[])?,
        };
        Ok(vec![loss, narrowed(&scores, datum, shape)?])
    }
}
