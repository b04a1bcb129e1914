//! The error rate that the confidences lead to expect, without a label.
//!
//! Confidence-based performance estimation over bins: `sum n_b a_b / n`, with the sampling variance
//! `sum n_b a_b (1 - a_b) / n^2`. It is advisory: it cannot see a model that is wrong and sure, and on inputs from
//! another place it was off by 0.15 in one measurement. Never a rollback by itself.

use serde::{Deserialize, Serialize};

use crate::{
    profile::Confidence,
    scores::Reading,
    shape::{ShapeMismatch, same},
};

/// An expected error rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The error rate.
    pub error: f64,
    /// Its sampling standard deviation.
    pub sd: f64,
    /// Rows that it stands on.
    pub rows: f64,
}

impl Estimate {
    /// The estimate as a window score, for STEP against the profile's `estimate`.
    pub fn reading(&self) -> Reading {
        Reading { value: self.error, rows: self.rows }
    }
}

/// The error rate to expect of `rows` per confidence bin; `None` of none.
///
/// # Errors
/// Where the bins are not those of `confidence`.
pub fn expected_error(confidence: &Confidence, rows: &[u64]) -> Result<Option<Estimate>, ShapeMismatch> {
    same("confidence bins", confidence.bins.len(), rows.len())?;
    let total = rows.iter().map(|n| *n as f64).sum::<f64>();
    if total == 0.0 {
        return Ok(None);
    }
    let bins = || confidence.bins.iter().map(|bin| bin.error_rate()).zip(rows).map(|(rate, n)| (rate, *n as f64));
    let error = bins().map(|(rate, n)| n * rate).sum::<f64>() / total;
    let variance = bins().map(|(rate, n)| n * rate * (1.0 - rate)).sum::<f64>() / (total * total);
    Ok(Some(Estimate { error, sd: variance.sqrt(), rows: total }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cells::Edges, profile::Bin};

    #[test]
    fn unsure_rows_raise_the_expected_error() {
        let bins = vec![Bin { n: 999, errors: 399 }, Bin { n: 999, errors: 9 }];
        let confidence = Confidence { edges: Edges::new(vec![0.8]).unwrap(), bins };
        let at = |rows: [u64; 2]| expected_error(&confidence, &rows).unwrap();
        let estimate = at([10, 90]).unwrap();
        assert!((estimate.error - (0.1 * 0.3995 + 0.9 * 0.0095)).abs() < 1e-12);
        let variance = (10.0 * 0.3995 * 0.6005 + 90.0 * 0.0095 * 0.9905) / 1e4;
        assert!((estimate.sd - f64::sqrt(variance)).abs() < 1e-12);
        assert_eq!(estimate.reading(), Reading { value: estimate.error, rows: 100.0 });
        assert!(at([50, 50]).unwrap().error > estimate.error);
        assert_eq!(at([0, 0]), None);
        assert!(expected_error(&confidence, &[1]).is_err());
    }
}
