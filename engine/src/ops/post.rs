//! What a model of `ai.onnx.ml` does with its raw scores: `post_transform`, and how one score becomes two columns.
//!
//! Formulas: the operators' pages in the ONNX reference; the inverse error function is Winitzki's approximation, as onnxruntime has it.

use tract_onnx::{pb::NodeProto, prelude::TractResult, tract_hir::internal::bail};

/// The attribute `post_transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    None,
    Logistic,
    Softmax,
    /// Softmax that leaves scores of zero out.
    SoftmaxZero,
    Probit,
}

impl Post {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        Ok(match node.get_attr_opt::<&str>("post_transform")?.unwrap_or("NONE") {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => bail!("post_transform `{other}` is not known"),
        })
    }

    /// Turns the scores of one row, of at least two classes.
    pub(super) fn turn(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax => softmax(scores),
            Self::SoftmaxZero => softmax_zero(scores),
        }
    }
}

/// Without overflow on either side.
pub(super) fn logistic(x: f32) -> f32 {
    let positive = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - positive } else { positive }
}

/// The quantile of the standard normal distribution.
pub(super) fn probit(p: f32) -> f32 {
    std::f32::consts::SQRT_2 * inverse_erf(2.0 * p - 1.0)
}

fn inverse_erf(x: f32) -> f32 {
    /// Winitzki's constant.
    const A: f32 = 0.147;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (std::f32::consts::PI * A) + 0.5 * log;
    let root = (half * half - log / A).sqrt() - half;
    x.signum() * root.sqrt()
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

fn softmax_zero(scores: &mut [f32]) {
    /// What counts as zero.
    const ZERO: f32 = 1e-7;
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let (scale, mut sum) = ((-most).exp(), 0.0);
    for score in &mut *scores {
        if score.abs() > ZERO {
            *score = (*score - most).exp();
            sum += *score;
        } else {
            *score *= scale;
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transform_gives_its_textbook_values() {
        let turned = |post: Post, scores: &[f32]| {
            let mut scores = scores.to_vec();
            post.turn(&mut scores);
            scores
        };
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert_eq!(turned(Post::None, &[3.0, -1.0]), [3.0, -1.0]);
        assert!(close(&turned(Post::Logistic, &[0.0, -100.0, 100.0]), &[0.5, 0.0, 1.0]));
        assert!(close(&turned(Post::Softmax, &[1000.0, 1000.0]), &[0.5, 0.5]));
        assert!(close(&turned(Post::SoftmaxZero, &[0.0, 2.0, 2.0]), &[0.0, 0.5, 0.5]));
        // The approximation is good to two thousandths of its value.
        assert!((probit(0.975) - 1.96).abs() < 5e-3 && (probit(0.025) + 1.96).abs() < 5e-3);
    }
}
