//! Decision trees laid out for speed: a node is small, and its two children are neighbours, so that a step needs no branch.

mod walk;

pub(super) use walk::Sums;

use super::depth::depth;
use tract_onnx::{prelude::TractResult, tract_hir::internal::ensure};

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
    /// The only output that its leaves weigh, each at most once.
    only: Option<u32>,
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
    /// By node: the weight of a leaf that has one, nothing of others.
    lone: Vec<T>,
    outputs: usize,
    features: usize,
    /// Some node tests for equality or against no number, which the fast walk does not.
    is_odd: bool,
    aggregate: Aggregate,
    /// For each output whether every row's walks weigh it; nothing where that depends on the row, or the aggregate asks each.
    scored: Option<Vec<bool>>,
}

impl<T: Number> Forest<T> {
    /// Lays trees out. Each is given by its nodes and its root; `leaves` are the weights of each leaf, with outputs below `outputs`.
    ///
    /// # Errors
    /// Where a node is reached never, or leads to itself.
    pub(super) fn lay_out(
        trees: &[(Vec<Branch<T>>, usize)],
        leaves: &[Vec<(u32, T)>],
        outputs: usize,
        aggregate: Aggregate,
    ) -> TractResult<Self> {
        let total: usize = trees.iter().map(|(branches, _)| branches.len()).sum();
        // Each leads to two at the most.
        ensure!(total < u32::MAX as usize / 2, "has {total} nodes");
        let is_sum = matches!(aggregate, Aggregate::Sum | Aggregate::Average);
        let scored = known_scores(trees, leaves, outputs).filter(|_| is_sum);
        let (mut weights, mut spans) = (Vec::new(), Vec::with_capacity(leaves.len()));
        for leaf in leaves {
            let start = u32::try_from(weights.len())?;
            // Where it is known what is weighed, a weight of nothing says nothing.
            weights.extend(leaf.iter().filter(|(_, weight)| scored.is_none() || *weight != T::ZERO));
            spans.push([start, u32::try_from(weights.len())?]);
        }
        let mut forest = Self {
            nodes: Vec::with_capacity(total),
            spans: Vec::with_capacity(total),
            trees: Vec::with_capacity(trees.len()),
            weights,
            lone: Vec::with_capacity(total),
            outputs,
            features: 1,
            is_odd: false,
            aggregate,
            scored,
        };
        for (branches, root) in trees {
            forest.plant(branches, *root, &spans)?;
        }
        Ok(forest)
    }

    /// Breadth first, so that the nodes that every walk passes lie together. A node that several others lead to, as tests for membership
    /// in a set do, is laid out for each of them; what comes after it is there once.
    fn plant(&mut self, branches: &[Branch<T>], root: usize, spans: &[[u32; 2]]) -> TractResult<()> {
        let depth = depth(branches, root)?;
        let base = self.nodes.len();
        // The nodes in their new order, by their old number.
        let mut order = vec![root];
        // Where the children of each inner node that was passed lie.
        let mut children: Vec<Option<u32>> = vec![None; branches.len()];
        let mut at = 0;
        let (mut only, mut is_only) = (None, true);
        while let Some(&node) = order.get(at) {
            let own = u32::try_from(base + at)?;
            match branches[node] {
                Branch::Leaf(leaf) => {
                    // Everything is at most infinity, and what is no number goes to the first child: a leaf stays where it is.
                    self.nodes.push(Node { threshold: T::INFINITY, feature: NAN_FIRST, child: own });
                    self.spans.push(spans[leaf]);
                    let weights = self.weights_of(own);
                    is_only &= weights.len() < 2;
                    if let [(output, _), ..] = weights {
                        is_only &= *only.get_or_insert(*output) == *output;
                    }
                    let lone = if let [(_, weight)] = weights { *weight } else { T::ZERO };
                    self.lone.push(lone);
                }
                Branch::Inner { feature, threshold, test, nan_first, first, second } => {
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
                    let child = match children[node] {
                        Some(child) => child,
                        None => {
                            let child = u32::try_from(base + order.len())?;
                            order.extend([first, second]);
                            *children[node].insert(child)
                        }
                    };
                    self.nodes.push(Node { threshold, feature: feature | flags, child });
                    self.spans.push([0, 0]);
                    self.lone.push(T::ZERO);
                }
            }
            at += 1;
        }
        self.trees.push(Tree { root: u32::try_from(base)?, depth, only: only.filter(|_| is_only) });
        Ok(())
    }

    /// How many columns a row must have.
    pub(super) fn features(&self) -> usize {
        self.features
    }
}

/// For each output whether some leaf of every walk weighs it, where that can be told without walking: either a tree has no leaf that
/// leaves it out, or no leaf has it at all.
fn known_scores<T>(trees: &[(Vec<Branch<T>>, usize)], leaves: &[Vec<(u32, T)>], outputs: usize) -> Option<Vec<bool>> {
    let mut weighed = vec![false; outputs];
    leaves.iter().flatten().for_each(|(output, _)| weighed[*output as usize] = true);
    let mut covered = vec![false; outputs];
    let (mut counts, mut last, mut seen) = (vec![0; outputs], vec![usize::MAX; outputs], Vec::new());
    for (branches, _) in trees {
        let mut total = 0;
        for branch in branches {
            let Branch::Leaf(leaf) = branch else { continue };
            total += 1;
            for output in leaves[*leaf].iter().map(|(output, _)| *output as usize) {
                if std::mem::replace(&mut last[output], *leaf) != *leaf {
                    if counts[output] == 0 {
                        seen.push(output);
                    }
                    counts[output] += 1;
                }
            }
        }
        for output in seen.drain(..) {
            covered[output] |= std::mem::take(&mut counts[output]) == total;
        }
    }
    (covered == weighed).then_some(covered)
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
            lone: self.lone.iter().map(|weight| f64::from(*weight)).collect(),
            outputs: self.outputs,
            features: self.features,
            is_odd: self.is_odd,
            aggregate: self.aggregate,
            scored: self.scored.clone(),
        }
    }
}
