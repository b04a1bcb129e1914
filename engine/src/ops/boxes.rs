//! `NonMaxSuppression`: of boxes that lie on each other, the one of the best score. tract's gives all of them where none are asked for.

use super::kernel::{Built, Fact, Kernel, floats, place, values, wrap};
use std::cmp::Ordering;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, Symbol, Tensor, TractResult, tensor1},
    tract_hir::internal::{TDim, bail, ensure},
};

#[derive(Debug)]
struct Best {
    /// Boxes are centre, width and height; else two corners.
    by_centre: bool,
    /// Where the inputs are that may be left out: how many boxes a class has at most, and the least overlap and score.
    most: Option<usize>,
    overlap: Option<usize>,
    score: Option<usize>,
    found: Symbol,
}

pub(super) fn best(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let by_centre = match node.get_attr_opt::<i64>("center_point_box")?.unwrap_or(0) {
        0 => false,
        1 => true,
        other => bail!("NonMaxSuppression has center_point_box {other}, which is 0 or 1"),
    };
    let found = context.template.symbols.new_with_prefix("boxes");
    let [most, overlap, score] = [2, 3, 4].map(|input| place(node, input));
    Ok((wrap(node, Best { by_centre, most, overlap, score, found }), Vec::new()))
}

/// A box by its sides: least and greatest of x and of y.
#[derive(Clone, Copy)]
struct Sides {
    x: [f32; 2],
    y: [f32; 2],
}

impl Sides {
    fn of(given: &[f32], by_centre: bool) -> Self {
        let between = |a: f32, b: f32| if a >= b { [b, a] } else { [a, b] };
        let around = |centre: f32, width: f32| [centre - width / 2.0, centre + width / 2.0];
        if by_centre {
            Self { x: around(given[0], given[2]), y: around(given[1], given[3]) }
        } else {
            Self { x: between(given[1], given[3]), y: between(given[0], given[2]) }
        }
    }

    fn area(self) -> f32 {
        (self.x[1] - self.x[0]) * (self.y[1] - self.y[0])
    }

    /// Whether what both cover is more than this part of what either does.
    fn overlaps(self, other: Self, part: f32) -> bool {
        let both = |a: [f32; 2], b: [f32; 2]| [a[0].max(b[0]), a[1].min(b[1])];
        let (x, y) = (both(self.x, other.x), both(self.y, other.y));
        if x[1] <= x[0] || y[1] <= y[0] {
            return false;
        }
        let shared = Self { x, y }.area();
        let (mine, theirs) = (self.area(), other.area());
        let whole = mine + theirs - shared;
        if shared <= 0.0 || mine <= 0.0 || theirs <= 0.0 || whole <= 0.0 {
            return false;
        }
        shared / whole > part
    }
}

/// The greater score first, what is no number last: an order of all floats, without which a sort may panic.
fn better(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Best {
    /// The boxes of one class, the best first.
    fn of_class(boxes: &[Sides], scores: &[f32], most: usize, overlap: f32, least: Option<f32>) -> Vec<usize> {
        let is_good = |at: &usize| least.is_none_or(|least| scores[*at] > least);
        let mut candidates: Vec<usize> = (0..boxes.len()).filter(is_good).collect();
        candidates.sort_by(|a, b| better(scores[*a], scores[*b]));
        let mut kept: Vec<usize> = Vec::new();
        for at in candidates {
            if kept.len() == most {
                break;
            }
            if !kept.iter().any(|before| boxes[at].overlaps(boxes[*before], overlap)) {
                kept.push(at);
            }
        }
        kept
    }
}

impl Kernel for Best {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn is_open(&self) -> bool {
        true
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [boxes, scores, ..] = inputs else { bail!("takes boxes and scores") };
        ensure!(boxes.datum == DatumType::F32 && scores.datum == DatumType::F32, "takes boxes and scores as float");
        let ([batches, places, four], [rows, _, columns]) = (&*boxes.shape, &*scores.shape) else {
            bail!("takes boxes and scores of three dimensions");
        };
        let fits = batches == rows && places == columns && four.to_i64().is_ok_and(|four| four == 4);
        ensure!(fits, "takes boxes [batches, boxes, 4] and scores [batches, classes, boxes]");
        for (at, datum) in [(self.most, DatumType::I64), (self.overlap, DatumType::F32), (self.score, DatumType::F32)] {
            if let Some(fact) = at.and_then(|at| inputs.get(at)) {
                let is_one = fact.shape.iter().all(|dim| dim.to_i64().is_ok_and(|dim| dim == 1));
                ensure!(fact.datum == datum && is_one, "takes one number as bound");
            }
        }
        Ok(vec![Fact::new(DatumType::I64, [TDim::from(self.found.clone()), 3.into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let bound = |at: Option<usize>| match at.and_then(|at| inputs.get(at)) {
            Some(input) => Ok::<_, tract_onnx::prelude::TractError>(floats(input)?.first().copied()),
            None => Ok(None),
        };
        let (overlap, least) = (bound(self.overlap)?.unwrap_or(0.0), bound(self.score)?);
        ensure!((0.0..=1.0).contains(&overlap), "NonMaxSuppression has an iou_threshold of {overlap}, not 0 to 1");
        let most = match self.most.and_then(|at| inputs.get(at)) {
            Some(most) => values::<i64>(most)?.first().map_or(0, |most| usize::try_from(*most).unwrap_or(0)),
            None => 0,
        };
        let sizes: Vec<usize> = inputs[1].shape().to_vec();
        let [batches, classes, places] = *sizes else { bail!("takes scores of three dimensions") };
        let (boxes, scores) = (values::<f32>(inputs[0])?, values::<f32>(inputs[1])?);
        let mut found: Vec<i64> = Vec::new();
        for batch in 0..if most == 0 { 0 } else { batches } {
            let boxes: Vec<Sides> = boxes[batch * places * 4..][..places * 4]
                .chunks_exact(4)
                .map(|b| Sides::of(b, self.by_centre))
                .collect();
            for class in 0..classes {
                let scores = &scores[(batch * classes + class) * places..][..places];
                for place in Self::of_class(&boxes, scores, most, overlap, least) {
                    found.extend([i64::try_from(batch)?, i64::try_from(class)?, i64::try_from(place)?]);
                }
            }
        }
        let rows = found.len() / 3;
        Ok(vec![tensor1(&found).into_shape(&[rows, 3])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_that_are_no_numbers_come_last() {
        let score = |at: usize| if at.is_multiple_of(3) { f32::NAN } else { ((at * 7919) % 101) as f32 };
        let scores: Vec<f32> = (0..500).map(score).collect();
        let boxes: Vec<Sides> = (0..500u16).map(|at| Sides { x: [at.into(), at.into()], y: [0.0, 1.0] }).collect();
        let kept = Best::of_class(&boxes, &scores, 500, 0.5, None);
        assert_eq!(kept.len(), 500);
        let numbers = scores.iter().filter(|score| !score.is_nan()).count();
        assert!(kept[..numbers].is_sorted_by(|a, b| scores[*a] >= scores[*b]));
        assert!(kept[numbers..].iter().all(|at| scores[*at].is_nan()));
        assert_eq!(Best::of_class(&boxes, &scores, 500, 0.5, Some(-1.0)).len(), numbers);
    }
}
