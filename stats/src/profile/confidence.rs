//! Held-out errors by confidence: what the model knew about its own mistakes when it was good.

use serde::{Deserialize, Serialize};

use crate::cells::{CELLS, Edges};

/// One bin of confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bin {
    /// Held-out predictions in it.
    pub n: u64,
    /// How many of them were wrong.
    pub errors: u64,
}

impl Bin {
    /// The error rate, `(k + 1/2) / (n + 1)`: the mean under Jeffreys' prior, so that no bin claims to be without
    /// errors, and an empty one claims nothing (1/2).
    pub fn error_rate(&self) -> f64 {
        (self.errors as f64 + 0.5) / (self.n as f64 + 1.0)
    }
}

/// Bins of confidence and the errors seen in each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confidence {
    /// Edges of the bins.
    pub edges: Edges,
    /// The bins.
    pub bins: Vec<Bin>,
}

impl Confidence {
    /// Bins of equal counts over held-out predictions, each a confidence and whether it was wrong; `None` where no
    /// confidence is finite.
    pub fn of_sample(predictions: &[(f64, bool)]) -> Option<Self> {
        let mut sorted: Vec<f64> = predictions.iter().map(|(c, _)| *c).filter(|c| c.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.first()?;
        let edges = Edges::of_sample(&sorted, CELLS);
        let mut bins = vec![Bin::default(); edges.cells()];
        for (confidence, wrong) in predictions.iter().filter(|(c, _)| c.is_finite()) {
            let bin = &mut bins[edges.index(*confidence)];
            bin.n += 1;
            bin.errors += u64::from(*wrong);
        }
        Some(Self { edges, bins })
    }

    /// Held-out predictions behind all bins.
    pub fn n(&self) -> u64 {
        self.bins.iter().fold(0, |sum, bin| sum.saturating_add(bin.n))
    }

    /// Whether bins and edges belong together and no bin has more errors than predictions.
    pub fn is_sound(&self) -> bool {
        self.bins.len() == self.edges.cells() && self.bins.iter().all(|bin| bin.errors <= bin.n)
    }
}
