//! `SVMClassifier` and `SVMRegressor`: support vectors under a kernel, as libsvm has them, or plain weighted sums where there are none.
//!
//! Chang and Lin, "LIBSVM: a library for support vector machines" (2011), sections 4 and 8; the probabilities of several classes are
//! the second approach of Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise coupling" (2004).

use super::{
    dots::dot,
    kernel::{Fact, Kernel, floats, matrix},
    labels::Labels,
    likeness::{Likeness, Vectors},
    linear::greatest,
    post::{Post, logistic},
};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{anyhow, bail, ensure},
};

/// One class against another each, or each by a weighted sum.
#[derive(Debug)]
pub(super) struct Classifier {
    vectors: Vectors,
    labels: Labels,
    post: Post,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Pairs {
        /// For each class but the last, each vector's weight.
        coefficients: Vec<f32>,
        /// Where the vectors of each class begin, and the end.
        starts: Vec<usize>,
        rho: Vec<f32>,
        /// Slope and offset of each pair's logistic curve.
        curves: Option<Vec<(f32, f32)>>,
    },
    Sums {
        rho: f32,
        is_positive: bool,
    },
}

pub(super) fn classifier(node: &NodeProto) -> TractResult<Classifier> {
    let read = |name| node.get_attr_opt_vec::<f32>(name).map(Option::unwrap_or_default);
    let labels = Labels::read(node, "classlabels_ints", "classlabels_strings")?;
    let (classes, coefficients, rho) = (labels.len(), read("coefficients")?, read("rho")?);
    let counts = node.get_attr_opt_vec::<i64>("vectors_per_class")?.unwrap_or_default();
    let post = Post::read(node)?;
    if counts.is_empty() {
        let rho = *rho.first().ok_or_else(|| anyhow!("has no rho"))?;
        let is_positive = coefficients.iter().all(|coefficient| *coefficient >= 0.0);
        let vectors = Vectors::new(Likeness::Linear, &coefficients, classes)?;
        return Ok(Classifier { vectors, labels, post, mode: Mode::Sums { rho, is_positive } });
    }
    ensure!(counts.len() == classes && classes > 1, "{classes} classes have {} vectors_per_class", counts.len());
    let mut starts = vec![0usize];
    for count in counts {
        let count = usize::try_from(count).ok().filter(|count| *count <= 1 << 24);
        starts.push(starts[starts.len() - 1] + count.ok_or_else(|| anyhow!("vectors_per_class are not sizes"))?);
    }
    let total = starts[classes];
    let (pairs, wanted) = (classes * (classes - 1) / 2, (classes - 1) * total);
    ensure!(coefficients.len() == wanted, "has {} coefficients, not {wanted}", coefficients.len());
    ensure!(rho.len() == pairs, "{pairs} pairs of classes have {} rho", rho.len());
    let (slopes, offsets) = (read("prob_a")?, read("prob_b")?);
    let curves = match (slopes.len(), offsets.len()) {
        (0, 0) => None,
        (a, b) if a == pairs && b == pairs => Some(slopes.into_iter().zip(offsets).collect()),
        (a, b) => bail!("{pairs} pairs of classes have {a} prob_a and {b} prob_b"),
    };
    ensure!(
        curves.is_some() || pairs > 1 || post != Post::Probit,
        "has PROBIT over a single score, which has no agreed meaning"
    );
    let vectors = Vectors::new(Likeness::read(node)?, &read("support_vectors")?, total)?;
    Ok(Classifier { vectors, labels, post, mode: Mode::Pairs { coefficients, starts, rho, curves } })
}

impl Classifier {
    fn scores(&self) -> usize {
        match (&self.mode, self.labels.len()) {
            (Mode::Pairs { curves: None, .. }, classes) if classes > 2 => classes * (classes - 1) / 2,
            (_, classes) => classes,
        }
    }

    /// A row's class and scores.
    fn decide(&self, row: &[f32]) -> (usize, Vec<f32>) {
        let alike = self.vectors.likenesses(row);
        let (winner, mut scores) = match &self.mode {
            Mode::Sums { rho, is_positive } => {
                let scores: Vec<f32> = alike.iter().map(|sum| sum + rho).collect();
                let best = greatest(&scores);
                // onnxruntime takes two sums for one with a bar.
                let is_over = if *is_positive { scores[best] >= 0.5 } else { scores[best] > 0.0 };
                (if scores.len() == 2 && is_over { 1 } else { best }, scores)
            }
            Mode::Pairs { coefficients, starts, rho, curves } => {
                let (scores, votes) = duels(&alike, coefficients, starts, rho);
                // The votes decide, as in libsvm, although another class may be more probable.
                let coupled = |curves: &Vec<(f32, f32)>| coupled(&scores, curves, self.labels.len());
                (most(&votes), curves.as_ref().map(coupled).unwrap_or(scores))
            }
        };
        match *scores {
            [score] if self.post == Post::None => scores = vec![-score, score],
            [score] if self.post == Post::Logistic => scores = vec![logistic(-score), logistic(score)],
            [score] => scores = vec![1.0 - score, score],
            _ => self.post.turn(&mut scores),
        }
        (winner, scores)
    }
}

/// Every pair's score, above 0 where its first class wins, and how often each class wins.
fn duels(alike: &[f32], coefficients: &[f32], starts: &[usize], rho: &[f32]) -> (Vec<f32>, Vec<usize>) {
    let (classes, total) = (starts.len() - 1, alike.len());
    let (mut scores, mut votes) = (Vec::with_capacity(rho.len()), vec![0; classes]);
    let part = |against: usize, class: usize| {
        let range = starts[class]..starts[class + 1];
        dot(&coefficients[against * total..][range.clone()], &alike[range])
    };
    for first in 0..classes {
        for second in first + 1..classes {
            let score = part(second - 1, first) + part(first, second) + rho[scores.len()];
            votes[if score > 0.0 { first } else { second }] += 1;
            scores.push(score);
        }
    }
    (scores, votes)
}

fn most(votes: &[usize]) -> usize {
    (1..votes.len()).fold(0, |best, class| if votes[class] > votes[best] { class } else { best })
}

/// The classes' probabilities from those of each pair.
fn coupled(scores: &[f32], curves: &[(f32, f32)], classes: usize) -> Vec<f32> {
    /// No pair is ever certain.
    const LEAST: f32 = 1e-7;
    let mut pair = vec![0f32; classes * classes];
    let mut duels = scores.iter().zip(curves);
    for first in 0..classes {
        for second in first + 1..classes {
            if let Some((score, (slope, offset))) = duels.next() {
                let share = (1.0 - logistic(score * slope + offset)).clamp(LEAST, 1.0 - LEAST);
                pair[first * classes + second] = share;
                pair[second * classes + first] = 1.0 - share;
            }
        }
    }
    let entry = |at: usize, other: usize| {
        if at == other {
            (0..classes).filter(|j| *j != at).map(|j| pair[j * classes + at] * pair[j * classes + at]).sum()
        } else {
            -pair[other * classes + at] * pair[at * classes + other]
        }
    };
    let q: Vec<f32> = (0..classes * classes).map(|at| entry(at / classes, at % classes)).collect();
    iterate(&q, classes)
}

/// Algorithm 2 of Wu, Lin and Weng: the minimum of `p Q p` over probabilities.
#[expect(clippy::cast_precision_loss, reason = "a number of classes")]
fn iterate(q: &[f32], classes: usize) -> Vec<f32> {
    let mut p = vec![1.0 / classes as f32; classes];
    let enough = 0.005 / classes as f32;
    for _ in 0..classes.max(100) {
        let mut qp: Vec<f32> = q.chunks_exact(classes).map(|row| dot(row, &p)).collect();
        let mut pqp = dot(&p, &qp);
        // What is no number is not too far, as in onnxruntime: a row with one is as like to any class.
        if !qp.iter().any(|value| (value - pqp).abs() >= enough) {
            break;
        }
        for class in 0..classes {
            let own = q[class * classes + class];
            let step = (pqp - qp[class]) / own;
            p[class] += step;
            pqp = (pqp + step * (step * own + 2.0 * qp[class])) / (1.0 + step) / (1.0 + step);
            for other in 0..classes {
                qp[other] = (qp[other] + step * q[class * classes + other]) / (1.0 + step);
                p[other] /= 1.0 + step;
            }
        }
    }
    p
}

impl Kernel for Classifier {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = self.vectors.admit(inputs)?.shape.remove(0);
        let labels = Fact::new(self.labels.datum(), [rows.clone()]);
        Ok(vec![labels, Fact::new(DatumType::F32, [rows, self.scores().into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (rows, columns) = matrix(inputs[0])?;
        let values = floats(inputs[0])?;
        let (mut winners, mut scores) = (Vec::with_capacity(rows), Vec::with_capacity(rows * self.scores()));
        for row in values.chunks_exact(columns) {
            let (winner, own) = self.decide(row);
            winners.push(winner);
            scores.extend(own);
        }
        let scores = Tensor::from_shape(&[winners.len(), self.scores()], &scores)?;
        Ok(vec![self.labels.tensor(&winners)?, scores])
    }
}

/// A weighted sum of likenesses; of a single class, on which side of it a row lies.
#[derive(Debug)]
pub(super) struct Regressor {
    vectors: Vectors,
    /// Each vector's weight; where there are no vectors, the sum's own are in their place.
    coefficients: Option<Vec<f32>>,
    rho: f32,
    is_one_class: bool,
}

pub(super) fn regressor(node: &NodeProto) -> TractResult<Regressor> {
    let read = |name| node.get_attr_opt_vec::<f32>(name).map(Option::unwrap_or_default);
    let (coefficients, vectors) = (read("coefficients")?, read("support_vectors")?);
    let rho = *read("rho")?.first().ok_or_else(|| anyhow!("has no rho"))?;
    let is_one_class = node.get_attr_opt::<i64>("one_class")?.unwrap_or(0) != 0;
    let count = node.get_attr_opt::<i64>("n_supports")?.unwrap_or(0);
    let count = usize::try_from(count).map_err(|_| anyhow!("n_supports is {count}"))?;
    let (vectors, coefficients) = if count > 0 {
        ensure!(coefficients.len() == count, "{count} vectors have {} coefficients", coefficients.len());
        (Vectors::new(Likeness::read(node)?, &vectors, count)?, Some(coefficients))
    } else {
        (Vectors::new(Likeness::Linear, &coefficients, 1)?, None)
    };
    Ok(Regressor { vectors, coefficients, rho, is_one_class })
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "SVMRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = self.vectors.admit(inputs)?.shape.remove(0);
        Ok(vec![Fact::new(DatumType::F32, [rows, 1.into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (_, columns) = matrix(inputs[0])?;
        let values = floats(inputs[0])?;
        let value = |row: &[f32]| {
            let alike = self.vectors.likenesses(row);
            let sum = self.coefficients.as_ref().map_or_else(|| alike[0], |weights| dot(weights, &alike)) + self.rho;
            match (self.is_one_class, sum > 0.0) {
                (false, _) => sum,
                (true, true) => 1.0,
                (true, false) => -1.0,
            }
        };
        let sums: Vec<f32> = values.chunks_exact(columns).map(value).collect();
        Ok(vec![Tensor::from_shape(&[sums.len(), 1], &sums)?])
    }
}
