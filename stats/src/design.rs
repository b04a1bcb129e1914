//! What a window score is expected to be, as a linear function of known columns, and the ridge fit of it.
//!
//! The first column is the constant 1. Further columns are for what the calendar explains; without them a score is
//! expected to stay at its baseline mean. This module knows columns only, no calendar.

use std::ops::Range;

use crate::shape::{ShapeMismatch, same};

/// The row of a window about which nothing but its existence is known.
pub const LEVEL: [f64; 1] = [1.0];
/// Penalty on the squared coefficients of all columns but the first (the notes' choice): a column that the baseline
/// hardly shows stays near zero.
const RIDGE: f64 = 1.0;

/// Known columns of the baseline's windows, one row each, in time order.
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    columns: usize,
    values: Vec<f64>,
}

impl Design {
    /// Only the constant, for `windows` windows.
    pub fn level(windows: usize) -> Self {
        Self { columns: 1, values: vec![1.0; windows] }
    }

    /// The columns that follow the constant, given row by row.
    ///
    /// # Errors
    /// Where the rows differ in length.
    pub fn with_columns(rows: &[Vec<f64>]) -> Result<Self, ShapeMismatch> {
        let extra = rows.first().map_or(0, Vec::len);
        let mut values = Vec::with_capacity(rows.len() * (extra + 1));
        for row in rows {
            same("columns of the design", extra, row.len())?;
            values.push(1.0);
            values.extend(row);
        }
        Ok(Self { columns: extra + 1, values })
    }

    /// How many columns there are, the constant among them.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How many windows there are.
    pub(crate) fn windows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The columns of window `i`.
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// Ridge coefficients of `values` over the windows in `range` (Hoerl and Kennard 1970; the constant is not
    /// penalised); all 0 where none was seen.
    pub(crate) fn fit(&self, values: &[Option<f64>], range: Range<usize>) -> Vec<f64> {
        let p = self.columns;
        let mut gram = vec![vec![0.0; p]; p];
        let mut target = vec![0.0; p];
        for i in range {
            let Some(value) = values[i] else { continue };
            let row = self.row(i);
            for (a, x) in row.iter().enumerate() {
                target[a] += x * value;
                row.iter().enumerate().for_each(|(b, y)| gram[a][b] += x * y);
            }
        }
        (1..p).for_each(|a| gram[a][a] += RIDGE);
        // Only where nothing was seen is the constant's own entry 0; every answer is right then.
        gram[0][0] = gram[0][0].max(f64::MIN_POSITIVE.sqrt());
        solve(gram, target)
    }
}

/// The product of coefficients and columns.
pub(crate) fn expected(beta: &[f64], row: &[f64]) -> f64 {
    beta.iter().zip(row).map(|(b, x)| b * x).sum()
}

/// Gaussian elimination of a symmetric positive definite system: no pivoting is needed for those.
fn solve(mut matrix: Vec<Vec<f64>>, mut target: Vec<f64>) -> Vec<f64> {
    let p = target.len();
    for k in 0..p {
        let (above, below) = matrix.split_at_mut(k + 1);
        let pivot = &above[k];
        for (row, i) in below.iter_mut().zip(k + 1..) {
            let factor = row[k] / pivot[k];
            row[k..].iter_mut().zip(&pivot[k..]).for_each(|(x, y)| *x -= factor * y);
            target[i] -= factor * target[k];
        }
    }
    for k in (0..p).rev() {
        let known: f64 = (k + 1..p).map(|j| matrix[k][j] * target[j]).sum();
        target[k] = (target[k] - known) / matrix[k][k];
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_alone_is_the_mean_of_what_was_seen() {
        let values = [Some(1.0), None, Some(4.0), Some(1000.0)];
        assert_eq!(Design::level(4).fit(&values, 0..3), [2.5]);
        assert_eq!(Design::level(4).fit(&values, 1..2), [0.0]);
    }

    #[test]
    fn a_season_is_found_and_shrunk_by_the_ridge_only() {
        let angle = |i: usize| i as f64 * std::f64::consts::TAU / 7.0;
        let rows: Vec<Vec<f64>> = (0..70).map(|i| vec![angle(i).sin(), angle(i).cos()]).collect();
        let design = Design::with_columns(&rows).unwrap();
        let values: Vec<_> = (0..70).map(|i| Some(3.0 + 2.0 * angle(i).sin())).collect();
        let beta = design.fit(&values, 0..70);
        // 35 is the sum of squares of the sine over whole weeks.
        let expected = [3.0, 2.0 * 35.0 / 36.0, 0.0];
        assert!(beta.iter().zip(expected).all(|(b, e)| (b - e).abs() < 1e-9), "{beta:?}");
        assert!(Design::with_columns(&[vec![1.0], vec![]]).is_err());
    }
}
