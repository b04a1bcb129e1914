//! Decision trees laid out for speed: a node is small, its two children are neighbours, and eight walks go down in lock-step without a
//! branch, so that the processor overlaps their memory accesses. Which trees or rows these eight are depends on how many rows came.
//!
//! The weights of the leaves are summed tree by tree, as onnxruntime does, so that sums are the same to the last bit.

use tract_onnx::{
    prelude::TractResult,
    tract_hir::internal::{bail, ensure},
};

/// Walks in lock-step: measured best among 4, 8 and 16.
const LANES: usize = 8;

/// What becomes of the weights that several trees give for one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// A value or a threshold: `f32` or `f64`.
pub(super) trait Number:
    Copy + PartialOrd + PartialEq + std::ops::Add<Output = Self> + std::ops::Div<Output = Self> + std::fmt::Debug
{
    const ZERO: Self;
    const INFINITY: Self;
    /// The greatest number below; where there is none, no number at all, which nothing is at most.
    fn below(self) -> Self;
    fn from_count(count: usize) -> Self;
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            const ZERO: Self = 0.0;
            const INFINITY: Self = <$type>::INFINITY;
            fn below(self) -> Self {
                if self == <$type>::NEG_INFINITY { <$type>::NAN } else { self.next_down() }
            }
            #[expect(clippy::cast_precision_loss, reason = "a number of trees")]
            fn from_count(count: usize) -> Self {
                count as Self
            }
        }
    };
}
number!(f32);
number!(f64);

/// How a node compares: the first child is taken where it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    AtMost,
    Below,
    Equal,
}

/// One node as a file tells it, its children by number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Branch<T> {
    Inner {
        feature: u32,
        threshold: T,
        test: Test,
        /// Whether a value that is not a number goes to the first child.
        nan_first: bool,
        first: usize,
        second: usize,
    },
    /// Its weights by their number.
    Leaf(usize),
}

/// Where the bits of `Node::feature` that are not the feature stand.
const NAN_FIRST: u32 = 1 << 31;
const STRICT: u32 = 1 << 30;
const EQUAL: u32 = 1 << 29;
const FEATURE: u32 = EQUAL - 1;
/// Trees up to this depth are walked to it; deeper ones have leaves at many depths, so that all lanes have often arrived before.
const SHALLOW: u32 = 8;
/// Steps between two looks whether all lanes have arrived.
const STRIDE: u32 = 4;

#[derive(Debug, Clone, Copy)]
struct Node<T> {
    threshold: T,
    feature: u32,
    /// The first child; the second is the next. A leaf is its own first child, for ever.
    child: u32,
}

#[derive(Debug, Clone, Copy)]
struct Tree {
    root: u32,
    depth: u32,
}

/// Trees whose leaves weigh outputs.
#[derive(Debug)]
pub(super) struct Forest<T> {
    nodes: Vec<Node<T>>,
    /// Which of the weights are a node's: none but of a leaf.
    spans: Vec<[u32; 2]>,
    trees: Vec<Tree>,
    /// Output and weight.
    weights: Vec<(u32, T)>,
    outputs: usize,
    features: usize,
    /// Some node tests for equality or against no number, which the fast walk does not.
    is_odd: bool,
    /// Every leaf weighs every output.
    is_complete: bool,
}

/// The trees' sums, row by row.
#[derive(Debug)]
pub(super) struct Sums<T> {
    pub(super) values: Vec<T>,
    /// Which of them some leaf has weighed; empty where all are.
    scored: Vec<bool>,
}

impl Sums<f64> {
    #[expect(clippy::cast_possible_truncation, reason = "outputs are single, as in onnxruntime")]
    pub(super) fn narrowed(self) -> Sums<f32> {
        Sums { values: self.values.into_iter().map(|value| value as f32).collect(), scored: self.scored }
    }
}

impl<T> Sums<T> {
    /// Each row with which of it is scored; nothing where all is.
    pub(super) fn rows_mut(&mut self, outputs: usize) -> impl Iterator<Item = (&mut [T], &[bool])> {
        let scored = self.scored.chunks_exact(outputs).map(Some).chain(std::iter::repeat(None));
        self.values.chunks_exact_mut(outputs).zip(scored.map(Option::unwrap_or_default))
    }
}

impl<T: Number> Forest<T> {
    /// Lays trees out. Each is given by its nodes and its root; `leaves` are the weights of each leaf, with outputs below `outputs`.
    ///
    /// # Errors
    /// Where a node is reached twice or never: then it is no tree.
    pub(super) fn lay_out(
        trees: &[(Vec<Branch<T>>, usize)],
        leaves: &[Vec<(u32, T)>],
        outputs: usize,
    ) -> TractResult<Self> {
        let total: usize = trees.iter().map(|(branches, _)| branches.len()).sum();
        ensure!(total < u32::MAX as usize, "has {total} nodes");
        let is_complete = leaves.iter().all(|leaf| weighs_all(leaf, outputs));
        let (mut weights, mut spans) = (Vec::new(), Vec::with_capacity(leaves.len()));
        for leaf in leaves {
            let start = u32::try_from(weights.len())?;
            // Where every leaf weighs everything, a weight of nothing says nothing.
            weights.extend(leaf.iter().filter(|(_, weight)| !is_complete || *weight != T::ZERO));
            spans.push([start, u32::try_from(weights.len())?]);
        }
        let mut forest = Self {
            nodes: Vec::with_capacity(total),
            spans: Vec::with_capacity(total),
            trees: Vec::with_capacity(trees.len()),
            weights,
            outputs,
            features: 1,
            is_odd: false,
            is_complete,
        };
        for (branches, root) in trees {
            forest.plant(branches, *root, &spans)?;
        }
        Ok(forest)
    }

    /// Breadth first, so that the nodes that every walk passes lie together.
    fn plant(&mut self, branches: &[Branch<T>], root: usize, spans: &[[u32; 2]]) -> TractResult<()> {
        let mut reached = vec![false; branches.len()];
        let mut mark = |node: usize| -> TractResult<()> {
            let Some(mark) = reached.get_mut(node) else { bail!("a node names a child that is not there") };
            ensure!(!std::mem::replace(mark, true), "a node is reached twice: these are no trees");
            Ok(())
        };
        mark(root)?;
        let base = self.nodes.len();
        // The nodes in their new order, by their old number, with their depths.
        let mut order = vec![(root, 0)];
        let (mut at, mut deepest) = (0, 0);
        while let Some(&(node, depth)) = order.get(at) {
            deepest = depth;
            let own = u32::try_from(base + at)?;
            match branches[node] {
                Branch::Leaf(leaf) => {
                    // Everything is at most infinity, and what is no number goes to the first child: a leaf stays where it is.
                    self.nodes.push(Node { threshold: T::INFINITY, feature: NAN_FIRST, child: own });
                    self.spans.push(spans[leaf]);
                }
                Branch::Inner { feature, threshold, test, nan_first, first, second } => {
                    mark(first)?;
                    mark(second)?;
                    ensure!(feature < FEATURE, "looks at column {feature}");
                    self.features = self.features.max(feature as usize + 1);
                    let flags = match test {
                        Test::AtMost => 0,
                        Test::Below => STRICT,
                        Test::Equal => EQUAL,
                    } | if nan_first { NAN_FIRST } else { 0 };
                    let threshold = if test == Test::Below { threshold.below() } else { threshold };
                    #[expect(clippy::eq_op, reason = "only what is no number differs from itself")]
                    let is_void = threshold != threshold;
                    self.is_odd |= is_void || test == Test::Equal;
                    let child = u32::try_from(base + order.len())?;
                    self.nodes.push(Node { threshold, feature: feature | flags, child });
                    self.spans.push([0, 0]);
                    order.extend([(first, depth + 1), (second, depth + 1)]);
                }
            }
            at += 1;
        }
        self.trees.push(Tree { root: u32::try_from(base)?, depth: deepest });
        ensure!(
            order.len() == branches.len(),
            "{} of {} nodes of a tree are never reached",
            branches.len() - order.len(),
            branches.len()
        );
        Ok(())
    }

    /// How many columns a row must have.
    pub(super) fn features(&self) -> usize {
        self.features
    }

    /// The sums of every row; each has `columns`, at least [`features`](Self::features).
    pub(super) fn sums(&self, values: &[T], rows: usize, columns: usize, aggregate: Aggregate) -> Sums<T> {
        let mut sums = Sums {
            values: vec![T::ZERO; rows * self.outputs],
            scored: if self.is_complete && matches!(aggregate, Aggregate::Sum | Aggregate::Average) {
                Vec::new()
            } else {
                vec![false; rows * self.outputs]
            },
        };
        // Where every value is a number the walk need not ask.
        #[expect(clippy::eq_op, reason = "only what is no number differs from itself")]
        let is_odd = values.iter().fold(self.is_odd, |is_odd, value| is_odd | (value != value));
        let walk = if is_odd { Self::descend::<true> } else { Self::descend::<false> };
        if rows < LANES {
            for at in 0..rows {
                for trees in self.trees.chunks(LANES) {
                    let lanes = std::array::from_fn(|lane| trees[lane.min(trees.len() - 1)].root);
                    let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
                    let ends = walk(self, lanes, depth, [at * columns; LANES], values);
                    ends.iter().take(trees.len()).for_each(|end| self.weigh(*end, at, aggregate, &mut sums));
                }
            }
        } else {
            // Tree by tree, so that a tree stays near while all rows pass it; each row's sum is in the trees' order all the same.
            for tree in &self.trees {
                for first in (0..rows).step_by(LANES) {
                    let bases = std::array::from_fn(|lane| (first + lane).min(rows - 1) * columns);
                    let ends = walk(self, [tree.root; LANES], tree.depth, bases, values);
                    let here = first..(first + LANES).min(rows);
                    here.zip(ends).for_each(|(at, end)| self.weigh(end, at, aggregate, &mut sums));
                }
            }
        }
        if aggregate == Aggregate::Average {
            let trees = T::from_count(self.trees.len());
            sums.values.iter_mut().for_each(|value| *value = *value / trees);
        }
        sums
    }

    /// The leaves at which these walks end; each looks at the row that begins at its base. `ALL` takes every test and value there is.
    #[inline]
    fn descend<const ALL: bool>(
        &self,
        mut at: [u32; LANES],
        depth: u32,
        bases: [usize; LANES],
        values: &[T],
    ) -> [u32; LANES] {
        let mut left = depth;
        while left > 0 {
            let before = at;
            let steps = if depth <= SHALLOW { left } else { left.min(STRIDE) };
            for _ in 0..steps {
                for lane in 0..LANES {
                    at[lane] = self.step::<ALL>(at[lane], bases[lane], values);
                }
            }
            if at == before {
                break;
            }
            left -= steps;
        }
        at
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

    #[inline]
    fn weigh(&self, end: u32, row: usize, aggregate: Aggregate, sums: &mut Sums<T>) {
        let [start, stop] = self.spans[end as usize];
        let weights = &self.weights[start as usize..stop as usize];
        if let ([(_, weight)], true) = (weights, self.outputs == 1 && sums.scored.is_empty()) {
            sums.values[row] = sums.values[row] + *weight;
            return;
        }
        let row = row * self.outputs..(row + 1) * self.outputs;
        let values = &mut sums.values[row.clone()];
        if sums.scored.is_empty() {
            weights.iter().for_each(|(output, weight)| values[*output as usize] = values[*output as usize] + *weight);
            return;
        }
        let scored = &mut sums.scored[row];
        for (output, weight) in weights {
            let (value, is_scored) = (&mut values[*output as usize], &mut scored[*output as usize]);
            let is_better = match aggregate {
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

fn weighs_all<T>(leaf: &[(u32, T)], outputs: usize) -> bool {
    let mut seen = vec![false; outputs];
    leaf.iter().for_each(|(output, _)| seen[*output as usize] = true);
    seen.into_iter().all(|seen| seen)
}

impl Forest<f32> {
    /// The same at double precision. A strict test is laid out as "at most the number below", which differs between precisions.
    pub(super) fn doubled(&self) -> Forest<f64> {
        let widened = |node: &Node<f32>| {
            let is_strict = node.feature & STRICT != 0;
            let threshold =
                if is_strict { f64::from(node.threshold.next_up()).next_down() } else { f64::from(node.threshold) };
            Node { threshold, feature: node.feature, child: node.child }
        };
        Forest {
            nodes: self.nodes.iter().map(widened).collect(),
            spans: self.spans.clone(),
            trees: self.trees.clone(),
            weights: self.weights.iter().map(|(output, weight)| (*output, f64::from(*weight))).collect(),
            outputs: self.outputs,
            features: self.features,
            is_odd: self.is_odd,
            is_complete: self.is_complete,
        }
    }
}
