//! Which cell of a feature's reference a value falls in.
//!
//! Counts per cell are exact at the edges, cost ten comparisons, and merge by adding; that is all the detectors need.
//! Quantiles between edges are not to be read from them (measured: up to 0.3 in rank after a shift).

use serde::{Deserialize, Serialize};

use crate::math;

/// Cells of a feature unless it has fewer values: 86 bytes a window of 100,000 rows, measured; 64 found nothing more.
pub const CELLS: usize = 32;
/// Most cells that edges may make; a report's limit.
pub const MAX_CELLS: usize = 1024;

/// Why numbers are no edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EdgesError {
    /// More than [`MAX_CELLS`] cells.
    #[error("edges make more than {MAX_CELLS} cells")]
    TooMany,
    /// An edge is NaN or infinite.
    #[error("an edge is not finite")]
    NotFinite,
    /// An edge is not above the one before it.
    #[error("edges do not grow")]
    NotGrowing,
}

/// Growing, finite edges; cell `i` holds the values from edge `i - 1` (inclusive) to edge `i` (exclusive).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Edges(Vec<f64>);

impl Edges {
    /// Edges as given.
    ///
    /// # Errors
    /// Where they do not grow, are not finite, or are too many.
    pub fn new(edges: Vec<f64>) -> Result<Self, EdgesError> {
        if edges.len() >= MAX_CELLS {
            Err(EdgesError::TooMany)
        } else if edges.iter().any(|edge| !edge.is_finite()) {
            Err(EdgesError::NotFinite)
        } else if !edges.is_sorted_by(|a, b| a < b) {
            Err(EdgesError::NotGrowing)
        } else {
            Ok(Self(edges))
        }
    }

    /// Edges fitted to `sorted` finite values: a cell for each value where there are at most `cells` different ones,
    /// else cells of equal counts.
    ///
    /// Value-aligned cells keep coarse integers exact: quantile edges between them were up to 0.22 wrong in rank.
    pub fn of_sample(sorted: &[f64], cells: usize) -> Self {
        let cells = cells.clamp(1, MAX_CELLS);
        let mut distinct = sorted.to_vec();
        distinct.dedup();
        if distinct.len() <= cells {
            return Self(distinct.windows(2).map(|pair| between(pair[0], pair[1])).collect());
        }
        let (mut edges, mut last) = (Vec::with_capacity(cells - 1), distinct[0]);
        for i in 1..cells {
            let value = sorted[i * sorted.len() / cells];
            if value > last {
                let below = distinct.partition_point(|x| *x < value);
                edges.push(between(distinct[below - 1], value));
                last = value;
            }
        }
        Self(edges)
    }

    /// How many cells there are: one more than edges.
    pub fn cells(&self) -> usize {
        self.0.len() + 1
    }

    /// The cell of a finite `x`.
    #[inline]
    pub fn index(&self, x: f64) -> usize {
        match self.0.as_array() {
            Some(edges) => index_of_all(edges, x),
            None => self.0.partition_point(|edge| *edge <= x),
        }
    }

    /// The edges, growing.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

/// The cell among [`CELLS`]: every fourth edge is counted, then the three behind the last of them that is not above `x`.
/// Two rounds of comparisons that wait for nothing but the value take half the time of five that wait for one another.
#[inline]
fn index_of_all(edges: &[f64; CELLS - 1], x: f64) -> usize {
    let below = |at: usize| usize::from(edges[at] <= x);
    let first = 4 * (below(3) + below(7) + below(11) + below(15) + below(19) + below(23) + below(27));
    first + below(first) + below(first + 1) + below(first + 2)
}

/// A number above `low` and at most `high`, the shortest to write near their middle: every such edge cuts a sample alike,
/// and rounding must not put `low` into the cell of `high`.
fn between(low: f64, high: f64) -> f64 {
    let middle = low / 2.0 + high / 2.0;
    let short = |digits: usize| math::rounded(middle, digits);
    (1..=17).map(short).find(|edge| low < *edge && *edge <= high).unwrap_or(high)
}

impl TryFrom<Vec<f64>> for Edges {
    type Error = EdgesError;

    fn try_from(edges: Vec<f64>) -> Result<Self, EdgesError> {
        Self::new(edges)
    }
}

impl From<Edges> for Vec<f64> {
    fn from(edges: Edges) -> Self {
        edges.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_values_get_a_cell_each() {
        let edges = Edges::of_sample(&[0.0, 0.0, 1.0, 3.0], 32);
        assert_eq!(edges.as_slice(), [0.5, 2.0]);
        assert_eq!([0.0, 1.0, 3.0].map(|x| edges.index(x)), [0, 1, 2]);
        let neighbours = [1.0, 1.0f64.next_up()];
        let edges = Edges::of_sample(&neighbours, 32);
        assert_eq!(neighbours.map(|x| edges.index(x)), [0, 1]);
        assert_eq!(Edges::of_sample(&[7.0; 9], 32).cells(), 1);
    }

    #[test]
    fn many_values_get_cells_of_equal_counts() {
        let values: Vec<f64> = (0..3200).map(f64::from).collect();
        let edges = Edges::of_sample(&values, 32);
        let mut counts = vec![0; edges.cells()];
        values.iter().for_each(|x| counts[edges.index(*x)] += 1);
        assert_eq!(counts, vec![100; 32]);
    }

    #[test]
    fn broken_edges_are_refused_even_in_a_file() {
        assert_eq!(Edges::new(vec![1.0, 1.0]), Err(EdgesError::NotGrowing));
        assert_eq!(Edges::new(vec![f64::NAN]), Err(EdgesError::NotFinite));
        assert_eq!(Edges::new((0..2000).map(f64::from).collect()), Err(EdgesError::TooMany));
        assert!(serde_json::from_str::<Edges>("[2.0, 1.0]").is_err());
    }

    proptest! {
        #[test]
        fn edges_of_any_sample_grow_and_cells_keep_order(mut values in prop::collection::vec(-1e9..1e9f64, 1..400)) {
            values.sort_by(f64::total_cmp);
            let edges = Edges::of_sample(&values, CELLS);
            prop_assert!(edges.cells() <= CELLS);
            prop_assert_eq!(Edges::new(edges.as_slice().to_vec()), Ok(edges.clone()));
            prop_assert!(values.is_sorted_by_key(|x| edges.index(*x)));
        }

        #[test]
        fn a_value_lies_behind_all_edges_that_are_not_above_it(
            values in prop::collection::btree_set(-1_000..1_000i32, 20..34),
            extra in prop::collection::vec(-1_001.0..1_001.0f64, 20),
        ) {
            let edges = Edges::new(values.into_iter().map(f64::from).collect()).unwrap();
            let near = edges.as_slice().iter().flat_map(|edge| [edge.next_down(), *edge, edge.next_up()]);
            for x in near.chain(extra).chain([f64::MIN, -0.0, 0.0, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]) {
                prop_assert_eq!(edges.index(x), edges.as_slice().iter().filter(|edge| **edge <= x).count());
            }
        }
    }
}
