//! Down the trees: eight walks go in lock-step, so that the processor overlaps their memory accesses. Which trees or rows these eight are
//! depends on how many rows came.
//!
//! The weights of the leaves are summed tree by tree, as onnxruntime does, so that sums are the same to the last bit.

use super::{Aggregate, EQUAL, FEATURE, Forest, NAN_FIRST, Number, Tree};

/// Walks in lock-step: measured best among 4, 8 and 16.
const LANES: usize = 8;
/// Walks in hand at a time.
const WALKS: usize = 64;

/// Trees up to this depth are walked to it; deeper ones have leaves at many depths: of their walks those go on that have not arrived.
const SHALLOW: u32 = 8;
/// Steps between two looks which walks have arrived.
const STRIDE: u32 = 4;

/// The trees' sums, row by row.
#[derive(Debug)]
pub(in super::super) struct Sums<T> {
    pub(in super::super) values: Vec<T>,
    scored: Scored,
}

/// Which sums some leaf has weighed.
#[derive(Debug)]
enum Scored {
    /// The same outputs in every row.
    All(Vec<bool>),
    /// One for each sum.
    Each(Vec<bool>),
}

impl Sums<f64> {
    #[expect(clippy::cast_possible_truncation, reason = "outputs are single, as in onnxruntime")]
    pub(in super::super) fn narrowed(self) -> Sums<f32> {
        Sums { values: self.values.into_iter().map(|value| value as f32).collect(), scored: self.scored }
    }
}

impl<T> Sums<T> {
    /// Each row with which of it is scored.
    pub(in super::super) fn rows_mut(&mut self, outputs: usize) -> impl Iterator<Item = (&mut [T], &[bool])> {
        let (all, each): (_, &[bool]) = match &self.scored {
            Scored::All(all) => (Some(all.as_slice()), &[]),
            Scored::Each(each) => (None, each),
        };
        let scored = all.into_iter().cycle().chain(each.chunks_exact(outputs));
        self.values.chunks_exact_mut(outputs).zip(scored)
    }
}

impl<T: Number> Forest<T> {
    /// The sums of every row; each has `columns`, at least [`features`](Self::features).
    pub(in super::super) fn sums(&self, values: &[T], rows: usize, columns: usize) -> Sums<T> {
        let scored = match &self.scored {
            Some(all) => Scored::All(all.clone()),
            None => Scored::Each(vec![false; rows * self.outputs]),
        };
        let mut sums = Sums { values: vec![T::ZERO; rows * self.outputs], scored };
        // Where every value is a number the walk need not ask.
        #[expect(clippy::eq_op, reason = "only what is no number differs from itself")]
        let is_odd = values.iter().fold(self.is_odd, |is_odd, value| is_odd | (value != value));
        let walk = if is_odd { Self::descend::<true> } else { Self::descend::<false> };
        let mut at = [0; WALKS];
        if rows < LANES {
            for row in 0..rows {
                let bases = [row * columns; WALKS];
                for trees in self.trees.chunks(WALKS) {
                    let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
                    at.iter_mut().zip(trees).for_each(|(at, tree)| *at = tree.root);
                    walk(self, &mut at[..trees.len()], &bases, depth, values);
                    let ends = at.iter().zip(trees);
                    ends.for_each(|(end, tree)| self.weigh(tree, &[*end], row, &mut sums));
                }
            }
        } else {
            // Tree by tree, so that a tree stays near while all rows pass it; each row's sum is in the trees' order all the same.
            for tree in &self.trees {
                for first in (0..rows).step_by(WALKS) {
                    let bases: [usize; WALKS] = std::array::from_fn(|walk| (first + walk) * columns);
                    let at = &mut at[..WALKS.min(rows - first)];
                    at.fill(tree.root);
                    walk(self, at, &bases, tree.depth, values);
                    self.weigh(tree, at, first, &mut sums);
                }
            }
        }
        if self.aggregate == Aggregate::Average {
            let trees = T::from_count(self.trees.len());
            sums.values.iter_mut().for_each(|value| *value = *value / trees);
        }
        sums
    }

    /// Takes walks, at most [`WALKS`], from where they are to their leaves; each looks at the row that begins at its base. `ALL` takes
    /// every test and value there is.
    fn descend<const ALL: bool>(&self, at: &mut [u32], bases: &[usize; WALKS], depth: u32, values: &[T]) {
        let mut open: [usize; WALKS] = std::array::from_fn(|walk| walk);
        let (mut count, mut left) = (at.len(), depth);
        while left > 0 && count > 0 {
            let steps = if depth <= SHALLOW { left } else { left.min(STRIDE) };
            let mut kept = 0;
            for first in (0..count).step_by(LANES) {
                let walks: [usize; LANES] = std::array::from_fn(|lane| open[(first + lane).min(count - 1)]);
                let (mut nodes, bases) = (walks.map(|walk| at[walk]), walks.map(|walk| bases[walk]));
                let mut before = nodes;
                for _ in 0..steps {
                    before = nodes;
                    for lane in 0..LANES {
                        nodes[lane] = self.step::<ALL>(nodes[lane], bases[lane], values);
                    }
                }
                for lane in 0..LANES.min(count - first) {
                    at[walks[lane]] = nodes[lane];
                    open[kept] = walks[lane];
                    kept += usize::from(nodes[lane] != before[lane]);
                }
            }
            count = kept;
            left -= steps;
        }
    }

    #[inline]
    fn step<const ALL: bool>(&self, at: u32, base: usize, values: &[T]) -> u32 {
        let node = self.nodes[at as usize];
        let value = values[base.wrapping_add((node.feature & FEATURE) as usize)];
        let is_second = if ALL {
            #[expect(clippy::eq_op, reason = "only what is no number differs from itself")]
            let is_nan = value != value;
            let is_first = if node.feature & EQUAL != 0 { value == node.threshold } else { value <= node.threshold };
            !(is_first | (is_nan & (node.feature & NAN_FIRST != 0)))
        } else {
            value > node.threshold
        };
        node.child.wrapping_add(u32::from(is_second))
    }

    /// Adds what the leaves weigh at which a tree's walks have ended; the first is that of `row`, each further one of the next.
    #[inline]
    fn weigh(&self, tree: &Tree, ends: &[u32], row: usize, sums: &mut Sums<T>) {
        let values = sums.values[row * self.outputs..].chunks_exact_mut(self.outputs);
        let Scored::Each(scored) = &mut sums.scored else {
            if let Some(output) = tree.only {
                for (values, end) in values.zip(ends) {
                    values[output as usize] = values[output as usize] + self.lone[*end as usize];
                }
                return;
            }
            for (values, end) in values.zip(ends) {
                for (output, weight) in self.weights_of(*end) {
                    values[*output as usize] = values[*output as usize] + *weight;
                }
            }
            return;
        };
        let scored = scored[row * self.outputs..].chunks_exact_mut(self.outputs);
        for ((values, scored), end) in values.zip(scored).zip(ends) {
            for (output, weight) in self.weights_of(*end) {
                let (value, is_scored) = (&mut values[*output as usize], &mut scored[*output as usize]);
                let is_better = match self.aggregate {
                    Aggregate::Sum | Aggregate::Average => {
                        *value = *value + *weight;
                        false
                    }
                    Aggregate::Min => !*is_scored || *weight < *value,
                    Aggregate::Max => !*is_scored || *weight > *value,
                };
                if is_better {
                    *value = *weight;
                }
                *is_scored = true;
            }
        }
    }

    pub(super) fn weights_of(&self, leaf: u32) -> &[(u32, T)] {
        let [start, stop] = self.spans[leaf as usize];
        &self.weights[start as usize..stop as usize]
    }
}
