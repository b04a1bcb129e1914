//! What a window score is expected to be, as a linear function of known columns, and the ridge fit of it.
//!
//! The first column is the constant 1. Further columns are for what the calendar explains; without them a score is
//! expected to stay at its baseline mean. This module knows columns only, no calendar.

use std::ops::Range;

use crate::calendar::Calendar;

/// Penalty that keeps a coefficient at 0.
const HOLD: f64 = 1e15;
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

    /// The columns of windows whose middles are `middles`, in seconds since 1970, by `calendar`.
    pub fn of_calendar(calendar: &Calendar, middles: &[f64]) -> Self {
        let values = middles.iter().flat_map(|middle| calendar.row(*middle).as_slice().to_vec()).collect();
        Self { columns: calendar.columns(), values }
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

    /// Ridge coefficients of `values` over the windows in `range`, on the first `columns` columns (Hoerl and Kennard 1970;
    /// the constant is not penalised). Columns in `held` stay at 0; all do where nothing was seen.
    pub(crate) fn fit(
        &self,
        values: &[Option<f64>],
        range: Range<usize>,
        columns: usize,
        held: &Range<usize>,
    ) -> Vec<f64> {
        let p = columns.min(self.columns);
        let mut gram = vec![vec![0.0; p]; p];
        let mut target = vec![0.0; p];
        for i in range {
            let Some(value) = values[i] else { continue };
            let row = &self.row(i)[..p];
            for (a, x) in row.iter().enumerate() {
                target[a] += x * value;
                row.iter().enumerate().for_each(|(b, y)| gram[a][b] += x * y);
            }
        }
        (1..p).for_each(|a| gram[a][a] += if held.contains(&a) { HOLD } else { RIDGE });
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
        assert_eq!(Design::level(4).fit(&values, 0..3, 1, &(0..0)), [2.5]);
        assert_eq!(Design::level(4).fit(&values, 1..2, 1, &(0..0)), [0.0]);
    }

    #[test]
    fn a_season_is_found_and_shrunk_by_the_ridge_only() {
        let calendar = Calendar { annual: true, weekly: true, ..Calendar::plain(0) };
        let middles: Vec<f64> = (0..731).map(|day| (f64::from(day) + 0.5) * 86_400.0).collect();
        let design = Design::of_calendar(&calendar, &middles);
        assert_eq!((design.columns(), design.windows()), (11, 731));
        let values: Vec<_> = middles.iter().map(|at| Some(3.0 + 2.0 * calendar.row(*at).as_slice()[1])).collect();
        let beta = design.fit(&values, 0..731, 11, &(0..0));
        assert!((beta[0] - 3.0).abs() < 0.01 && (beta[1] - 2.0).abs() < 0.02, "{beta:?}");
        assert!(beta[2..].iter().all(|b| b.abs() < 0.01), "{beta:?}");
        assert_eq!(design.fit(&values, 0..731, 1, &(0..0)).len(), 1);
        let held = design.fit(&values, 0..731, 5, &(1..5));
        assert!(held[1..].iter().all(|b| b.abs() < 1e-9), "{held:?}");
    }

    #[test]
    fn the_ridge_is_the_one_of_the_formula() {
        let calendar = Calendar { annual: true, weekly: true, ..Calendar::plain(0) };
        let middles: Vec<f64> = (0..40).map(|i| (f64::from(i) * 9.0 + 0.5) * 86_400.0).collect();
        let values: Vec<_> = (0..40).map(|i| Some(f64::from((i * 37 + 11) % 101) / 50.0)).collect();
        // numpy 2: solve(X'X + diag(0, 1, ..., 1), X'y).
        let expected = [
            1.06512757,
            0.05341801,
            -0.0434977,
            -0.04457203,
            -0.01170033,
            -0.16162778,
            -0.12831868,
            -0.0120005,
            -0.07100826,
            -0.24314212,
            -0.10393065,
        ];
        let beta = Design::of_calendar(&calendar, &middles).fit(&values, 0..40, 11, &(0..0));
        assert!(beta.iter().zip(expected).all(|(b, e)| (b - e).abs() < 1e-7), "{beta:?}");
    }
}
