//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor`: what the sums over a [`Forest`] mean.
//!
//! tract's own classifier writes out of bounds on crafted class ids, follows a cycle of nodes for ever, and gives other labels than
//! onnxruntime on plain binary forests.

mod depth;
mod ensemble;
mod forest;
mod read;

pub(super) use ensemble::build as ensemble;

use super::{
    kernel::{Fact, Kernel, NUMBERS, expect, floats, matrix, one, values},
    labels::Labels,
    post::{Post, logistic, probit},
};
use forest::{Aggregate, Forest, Sums};
use std::sync::OnceLock;
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{bail, ensure},
};

/// A forest at the precision of its file, and at double precision for inputs that have it.
#[derive(Debug)]
struct Trees {
    single: Option<Forest<f32>>,
    double: OnceLock<Forest<f64>>,
    features: usize,
}

impl Trees {
    fn read(node: &NodeProto, leaf: &str, outputs: usize, aggregate: Aggregate) -> TractResult<Self> {
        Ok(match read::forest(node, leaf, outputs, aggregate)? {
            read::Read::Single(forest) => {
                Self { features: forest.features(), single: Some(forest), double: OnceLock::new() }
            }
            read::Read::Double(forest) => {
                Self { features: forest.features(), single: None, double: OnceLock::from(forest) }
            }
        })
    }

    fn admit(&self, inputs: &[Fact]) -> TractResult<Fact> {
        let input = one(inputs)?;
        expect(input, &NUMBERS)?;
        let (rows, columns) = input.columns()?;
        ensure!(columns >= self.features, "looks at {} columns, got {columns}", self.features);
        Ok(Fact::new(input.datum, [rows]))
    }

    /// The sums of every row; in single precision unless the input or the file has double.
    fn sums(&self, input: &Tensor) -> TractResult<Sums<f32>> {
        let (rows, columns) = matrix(input)?;
        if let (Some(single), true) = (&self.single, input.datum_type() != DatumType::F64) {
            return Ok(single.sums(&floats(input)?, rows, columns));
        }
        let double = self.double.get_or_init(|| {
            self.single.as_ref().expect("invariant: a forest without single precision has double").doubled()
        });
        let input = input.cast_to::<f64>()?;
        Ok(double.sums(values::<f64>(&input)?, rows, columns).narrowed())
    }
}

/// A forest that votes for classes.
#[derive(Debug)]
pub(super) struct Classifier {
    trees: Trees,
    /// One for each class; of a single class, no and yes.
    labels: Labels,
    classes: usize,
    base: Vec<f32>,
    post: Post,
    /// Of two classes only one is scored by the leaves: its score decides alone.
    is_one_scored: bool,
    /// No leaf votes against a class: scores are probabilities.
    is_positive: bool,
}

/// What a row of two classes with a single score becomes.
#[derive(Clone, Copy)]
enum Second {
    /// `[1 - s, s]`.
    Complement,
    /// `[-s, s]`.
    Opposite,
}

pub(super) fn classifier(node: &NodeProto) -> TractResult<Classifier> {
    let labels = Labels::read(node, "classlabels_int64s", "classlabels_strings")?;
    let classes = labels.len();
    let labels = match labels {
        // onnxruntime does not say the class's name: it says whether the score is above nothing.
        Labels::Numbers(names) if names.len() == 1 => Labels::Numbers(vec![0, 1]),
        Labels::Words(names) if names.len() == 1 => bail!("has one class, and a word for it: export it with a number"),
        labels => labels,
    };
    let trees = Trees::read(node, "class", classes, Aggregate::Sum)?;
    let ids = node.get_attr_slice::<i64>("class_ids")?;
    let base = read::base(node)?;
    let is_one_scored = classes == 2 && ids.iter().all(|id| id == &ids[0]);
    match (classes, base.len()) {
        (_, 0) => {}
        (2, 1) if is_one_scored => {}
        // onnxruntime leaves the second score of some rows unset.
        (2, 1) => bail!("two classes, both of them scored, have one of base_values: export it with two"),
        (classes, given) => ensure!(classes == given, "{classes} classes have {given} base_values"),
    }
    let labels = match labels {
        // With both classes scored, onnxruntime says which it is by number, whatever its name.
        Labels::Numbers(_) if classes == 2 && !is_one_scored => Labels::Numbers(vec![0, 1]),
        labels => labels,
    };
    let is_positive = read::weights(node, "class")?.iter().all(|weight| *weight >= 0.0);
    Ok(Classifier { trees, labels, classes, base, post: Post::read(node)?, is_one_scored, is_positive })
}

impl Classifier {
    /// The class of a row and, in place, its scores; `row` has a place for each class.
    fn decide(&self, row: &mut [f32], scored: &[bool]) -> usize {
        let is_scored = |class: usize| scored[class];
        if row.len() != 2 {
            let mut best = None;
            for (class, score) in row.iter_mut().enumerate() {
                let base = self.base.get(class);
                *score += base.copied().unwrap_or(0.0);
                if (base.is_some() || is_scored(class)) && best.is_none_or(|(_, most)| *score > most) {
                    best = Some((class, *score));
                }
            }
            if let [score] = row {
                let is_above = *score > 0.0;
                if self.post == Post::Probit {
                    *score = probit(*score);
                }
                return usize::from(is_above);
            }
            self.post.turn(row);
            return best.map_or(0, |(class, _)| class);
        }
        // As onnxruntime does, which lets a base of the second class stand for the first one's too, and writes no score that no leaf gave.
        let (is_pair, decisive) = match &*self.base {
            [_, second] if is_scored(1) => {
                let decisive = row[0] + second;
                row.copy_from_slice(&[if is_scored(0) { -decisive } else { 0.0 }, decisive]);
                (true, decisive)
            }
            [first, _] => {
                row[0] += if is_scored(0) { *first } else { 0.0 };
                (true, row[0])
            }
            base => {
                row[0] += base.first().copied().filter(|_| is_scored(0)).unwrap_or(0.0);
                (is_scored(1), if is_scored(1) { row[1] } else { row[0] })
            }
        };
        let (bar, second) =
            if self.is_one_scored && self.is_positive { (0.5, Second::Complement) } else { (0.0, Second::Opposite) };
        if is_pair {
            self.post.turn(row)
        } else {
            self.spread(row, second)
        }
        usize::from(decisive > bar)
    }

    fn spread(&self, row: &mut [f32], second: Second) {
        let score = row[0];
        let pair = match (self.post, second) {
            (Post::Probit, _) => [probit(score), 0.0],
            (Post::Logistic, _) => [logistic(-score), logistic(score)],
            (_, Second::Complement) => [1.0 - score, score],
            (_, Second::Opposite) => [-score, score],
        };
        row.copy_from_slice(&pair);
    }
}

impl Kernel for Classifier {
    fn name(&self) -> &'static str {
        "TreeEnsembleClassifier"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = self.trees.admit(inputs)?.shape.remove(0);
        let labels = Fact::new(self.labels.datum(), [rows.clone()]);
        Ok(vec![labels, Fact::new(DatumType::F32, [rows, self.classes.into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let classes = self.classes;
        let mut sums = self.trees.sums(inputs[0])?;
        let winners: Vec<usize> = sums.rows_mut(classes).map(|(row, scored)| self.decide(row, scored)).collect();
        let scores = Tensor::from_shape(&[winners.len(), classes], &sums.values)?;
        Ok(vec![self.labels.tensor(&winners)?, scores])
    }
}

/// A forest that estimates numbers.
#[derive(Debug)]
pub(super) struct Regressor {
    trees: Trees,
    targets: usize,
    base: Vec<f32>,
    post: Post,
}

pub(super) fn regressor(node: &NodeProto) -> TractResult<Regressor> {
    let targets = node.get_attr_opt::<i64>("n_targets")?.unwrap_or(1);
    let Some(targets) = usize::try_from(targets).ok().filter(|targets| (1..=read::MAX_OUTPUTS).contains(targets))
    else {
        bail!("n_targets is {targets}")
    };
    let base = read::base(node)?;
    ensure!(base.is_empty() || base.len() == targets, "{targets} targets have {} base_values", base.len());
    let aggregate = match node.get_attr_opt::<&str>("aggregate_function")?.unwrap_or("SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => bail!("aggregate_function `{other}` is not known"),
    };
    let trees = Trees::read(node, "target", targets, aggregate)?;
    Ok(Regressor { trees, targets, base, post: Post::read(node)? })
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "TreeEnsembleRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = self.trees.admit(inputs)?.shape.remove(0);
        Ok(vec![Fact::new(DatumType::F32, [rows, self.targets.into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let mut sums = self.trees.sums(inputs[0])?;
        if !self.base.is_empty() || self.post != Post::None {
            for (row, scored) in sums.rows_mut(self.targets) {
                // Among several targets, one that no leaf has weighed stays nothing, as in onnxruntime.
                let is_left = |target: usize| self.targets > 1 && !scored[target];
                let based = row.iter_mut().zip(&self.base).enumerate().filter(|(target, _)| !is_left(*target));
                based.for_each(|(_, (score, base))| *score += base);
                match row {
                    [score] if self.post == Post::Probit => *score = probit(*score),
                    [_] => {}
                    row => self.post.turn(row),
                }
            }
        }
        let rows = sums.values.len() / self.targets;
        Ok(vec![Tensor::from_shape(&[rows, self.targets], &sums.values)?])
    }
}
