//! Down the trees: eight walks go in lock-step, so that the processor overlaps their memory accesses. Which trees or rows these eight are
//! depends on how many rows came.
//!
//! The weights of the leaves are summed tree by tree, as onnxruntime does, so that sums are the same to the last bit.

use super::{Aggregate, EQUAL, FEATURE, Forest, NAN_FIRST, Number, Tree};

/// Walks in lock-step: measured best among 4, 8 and 16.
const LANES: usize = 8;
/// Walks in hand at a time.
const WALKS: usize = 64;

/// Down to this depth all walks go on together; below, where leaves are at many depths, those that have not arrived.
const SHALLOW: u32 = 8;
/// For so many trees the values of rows are not laid out anew.
const FEW: usize = 6;
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
        match (rows < LANES, is_odd) {
            (true, true) => self.row_by_row::<true>(values, columns, &mut sums),
            (true, false) => self.row_by_row::<false>(values, columns, &mut sums),
            (false, true) => self.tree_by_tree::<true>(values, columns, &mut sums),
            (false, false) => self.tree_by_tree::<false>(values, columns, &mut sums),
        }
        if self.aggregate == Aggregate::Average {
            let trees = T::from_count(self.trees.len());
            sums.values.iter_mut().for_each(|value| *value = *value / trees);
        }
        sums
    }

    /// Few rows: the walks in lock-step are those of one row down several trees. `ALL` takes every test and value there is.
    fn row_by_row<const ALL: bool>(&self, values: &[T], columns: usize, sums: &mut Sums<T>) {
        let mut at = [0; WALKS];
        for (number, row) in values.chunks_exact(columns).enumerate() {
            for trees in self.trees.chunks(WALKS) {
                at.iter_mut().zip(trees).for_each(|(at, tree)| *at = tree.root);
                for (nodes, trees) in at.as_chunks_mut::<LANES>().0.iter_mut().zip(trees.chunks(LANES)) {
                    let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
                    self.march::<ALL>(nodes, depth.min(SHALLOW), |feature, _| row[feature]);
                }
                let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
                self.descend::<ALL>(&mut at[..trees.len()], &[0; WALKS], depth.saturating_sub(SHALLOW), row);
                at.iter().zip(trees).for_each(|(end, tree)| self.weigh(tree, &[*end], number, sums));
            }
        }
    }

    /// Many rows: the walks in lock-step are those of eight rows down one tree, so that a tree stays near while all rows pass it; each
    /// row's sum is in the trees' order all the same. Where that pays, the rows' values are laid out by eights, column by column: a step
    /// finds its own by the column and a constant, which leaves more registers to the walks.
    fn tree_by_tree<const ALL: bool>(&self, values: &[T], columns: usize, sums: &mut Sums<T>) {
        let rows = values.len() / columns;
        let starts = |first: usize| std::array::from_fn(|lane| (first + lane).min(rows - 1) * columns);
        let mut eights: Vec<[T; LANES]> = Vec::new();
        if self.trees.len() > FEW {
            for first in (0..rows).step_by(LANES) {
                let starts: [usize; LANES] = starts(first);
                eights.extend((0..columns).map(|column| starts.map(|start| values[start + column])));
            }
        }
        let mut at = [0; WALKS];
        for tree in &self.trees {
            for first in (0..rows).step_by(WALKS) {
                let at = &mut at[..WALKS.min((rows - first).next_multiple_of(LANES))];
                at.fill(tree.root);
                for (nodes, first) in at.as_chunks_mut::<LANES>().0.iter_mut().zip((first..).step_by(LANES)) {
                    let steps = tree.depth.min(SHALLOW);
                    if let Some(eight) = eights.get(first / LANES * columns..).filter(|eight| !eight.is_empty()) {
                        self.march::<ALL>(nodes, steps, |feature, lane| eight[feature][lane]);
                    } else {
                        let starts: [usize; LANES] = starts(first);
                        self.march::<ALL>(nodes, steps, |feature, lane| values[starts[lane].wrapping_add(feature)]);
                    }
                }
                let at = &mut at[..WALKS.min(rows - first)];
                if tree.depth > SHALLOW {
                    let bases: [usize; WALKS] = std::array::from_fn(|walk| (first + walk) * columns);
                    self.descend::<ALL>(at, &bases, tree.depth - SHALLOW, values);
                }
                self.weigh(tree, at, first, sums);
            }
        }
    }

    /// Takes walks some steps on; each finds its value by column and lane.
    #[inline]
    fn march<const ALL: bool>(&self, nodes: &mut [u32; LANES], steps: u32, value: impl Fn(usize, usize) -> T) {
        for _ in 0..steps {
            for (lane, node) in nodes.iter_mut().enumerate() {
                *node = self.step::<ALL>(*node, |feature| value(feature, lane));
            }
        }
    }

    /// Takes walks, at most [`WALKS`], from where they are to their leaves; each looks at the row that begins at its base.
    fn descend<const ALL: bool>(&self, at: &mut [u32], bases: &[usize; WALKS], mut left: u32, values: &[T]) {
        if left == 0 {
            return;
        }
        let (mut open, mut count) = ([0; WALKS], 0);
        for (walk, node) in at.iter().enumerate() {
            open[count] = walk;
            count += usize::from(self.nodes[*node as usize].child != *node);
        }
        while left > 0 && count > 0 {
            let steps = left.min(STRIDE);
            let mut kept = 0;
            for first in (0..count).step_by(LANES) {
                let walks: [usize; LANES] = std::array::from_fn(|lane| open[(first + lane).min(count - 1)]);
                let (mut nodes, bases) = (walks.map(|walk| at[walk]), walks.map(|walk| bases[walk]));
                let mut before = nodes;
                for _ in 0..steps {
                    before = nodes;
                    for lane in 0..LANES {
                        nodes[lane] =
                            self.step::<ALL>(nodes[lane], |feature| values[bases[lane].wrapping_add(feature)]);
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
    fn step<const ALL: bool>(&self, at: u32, value: impl Fn(usize) -> T) -> u32 {
        let node = self.nodes[at as usize];
        let value = value((node.feature & FEATURE) as usize);
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

#[cfg(test)]
mod tests {
    use super::super::{Branch, Test};
    use super::*;
    use proptest::prelude::*;

    /// A tree of tests of three kinds: `shape` says of each node in the order of its making whether it tests.
    fn grown(shape: &[(u32, f32, u8, bool)], leaves: usize) -> Vec<Branch<f32>> {
        let (mut branches, mut open) = (vec![Branch::Leaf(0)], vec![0]);
        for (feature, threshold, test, nan_first) in shape {
            let node = open.remove(*feature as usize % open.len());
            let (first, second) = (branches.len(), branches.len() + 1);
            open.extend([first, second]);
            branches.extend([Branch::Leaf(first % leaves), Branch::Leaf(second % leaves)]);
            let test = [Test::AtMost, Test::Below, Test::Equal][usize::from(*test)];
            branches[node] =
                Branch::Inner { feature: *feature, threshold: *threshold, test, nan_first: *nan_first, first, second };
        }
        branches
    }

    fn leaf(branches: &[Branch<f32>], row: &[f32]) -> usize {
        let mut at = 0;
        loop {
            match branches[at] {
                Branch::Leaf(leaf) => return leaf,
                Branch::Inner { feature, threshold, test, nan_first, first, second } => {
                    let value = row[feature as usize];
                    let holds = match test {
                        Test::AtMost => value <= threshold,
                        Test::Below => value < threshold,
                        Test::Equal => value == threshold,
                    };
                    at = if holds || value.is_nan() && nan_first { first } else { second };
                }
            }
        }
    }

    proptest! {
        #[test]
        fn however_many_rows_go_down_each_ends_at_its_leaves(
            shapes in prop::collection::vec(prop::collection::vec((0u32..5, -2i8..3, 0u8..3, any::<bool>()), 0..80), 1..20),
            is_plain: bool,
            rows in prop::sample::select(vec![1usize, 2, 7, 8, 9, 63, 64, 65, 130]),
            seed in prop::collection::vec(-3i8..4, 650),
        ) {
            let leaves: Vec<Vec<(u32, f32)>> = (0..7u8).map(|leaf| vec![(u32::from(leaf) % 2, f32::from(leaf) + 0.25)]).collect();
            let trees: Vec<_> = shapes
                .iter()
                .map(|shape| {
                    let shape: Vec<_> = shape
                        .iter()
                        .map(|(feature, at, test, nan)| (*feature, f32::from(*at), if is_plain { test % 2 } else { *test }, *nan))
                        .collect();
                    grown(&shape, leaves.len())
                })
                .collect();
            let laid: Vec<_> = trees.iter().map(|tree| (tree.clone(), 0)).collect();
            let forest = Forest::lay_out(&laid, &leaves, 2, Aggregate::Sum).unwrap();
            let is_none = |value: &i8| *value == 3 && !is_plain;
            let values: Vec<f32> =
                seed[..rows * 5].iter().map(|value| if is_none(value) { f32::NAN } else { f32::from(*value) }).collect();
            let sums = forest.sums(&values, rows, 5);
            for (row, told) in values.chunks(5).zip(sums.values.chunks(2)) {
                let mut expected = [0f32; 2];
                for tree in &trees {
                    for (output, weight) in &leaves[leaf(tree, row)] {
                        expected[*output as usize] += weight;
                    }
                }
                prop_assert_eq!(told, &expected);
            }
        }
    }
}
