//! `TreeEnsemble` of ai.onnx.ml 5: nodes and leaves by number, thresholds as tensors, membership in sets.
//!
//! A test of membership becomes a test of equality for each member, whose first child is the same subtree: it is laid out once for each,
//! within a bound on how much that may come to.

use super::{
    super::{
        kernel::{Fact, Kernel, expect, matrix, one, values},
        post::{Post, probit},
    },
    forest::{Aggregate, Branch, Forest, Number, Sums, Test},
    read::{MAX_OUTPUTS, inner},
};
use crate::{tensor, tensor_proto};
use tract_onnx::{
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractResult},
    tract_hir::internal::{anyhow, bail, ensure},
};

/// Most nodes once every subtree has one parent.
const MAX_NODES: usize = 1 << 22;

#[derive(Debug)]
enum Trees {
    Single(Forest<f32>),
    Double(Forest<f64>),
}

/// A forest that estimates numbers.
#[derive(Debug)]
pub(in crate::ops) struct Ensemble {
    trees: Trees,
    targets: usize,
    post: Post,
}

pub(in crate::ops) fn build(node: &NodeProto) -> TractResult<Ensemble> {
    let number = |name, default: i64| node.get_attr_opt::<i64>(name).map(|number| number.unwrap_or(default));
    let targets = number("n_targets", 1)?;
    let targets = usize::try_from(targets).ok().filter(|targets| (1..=MAX_OUTPUTS).contains(targets));
    let targets = targets.ok_or_else(|| anyhow!("has no n_targets within {MAX_OUTPUTS}"))?;
    let aggregate = match number("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => bail!("aggregate_function {other} is not known"),
    };
    let post = match number("post_transform", 0)? {
        0 => Post::None,
        // The standard has these two the other way round, onnxruntime so.
        1 => Post::Logistic,
        2 => Post::Softmax,
        3 => Post::SoftmaxZero,
        4 => Post::Probit,
        other => bail!("post_transform {other} is not known"),
    };
    let splits = attribute(node, "nodes_splits")?.ok_or_else(|| anyhow!("has no nodes_splits"))?;
    let trees = if let Some(splits) = splits.values::<f32>() {
        Trees::Single(planted(node, splits, targets, aggregate)?)
    } else if let Some(splits) = splits.values::<f64>() {
        ensure!(post == Post::None, "transforms no sums of double precision");
        Trees::Double(planted(node, splits, targets, aggregate)?)
    } else {
        bail!("nodes_splits is of {}", splits.dtype())
    };
    Ok(Ensemble { trees, targets, post })
}

fn attribute(node: &NodeProto, name: &str) -> TractResult<Option<tensor::Tensor>> {
    let Some(attribute) = node.attribute.iter().find(|attribute| attribute.name == name) else { return Ok(None) };
    let tensor = attribute.t.as_ref().ok_or_else(|| anyhow!("{name} is no tensor"))?;
    Ok(Some(tensor_proto::from_proto(tensor.clone())?))
}

/// The nodes and leaves of a file, every number in them checked but that they form trees.
struct Nodes<'a, T> {
    splits: &'a [T],
    features: &'a [i64],
    modes: Vec<u8>,
    tracks: &'a [i64],
    /// The child where the test holds and the one where it does not.
    children: [&'a [i64]; 2],
    /// Whether these are leaves.
    leafs: [&'a [i64]; 2],
    leaves: usize,
    /// The members of each set, by node.
    members: Vec<Vec<T>>,
}

const MEMBER: u8 = 6;

fn planted<T: Number + tensor::Element>(
    node: &NodeProto,
    splits: &[T],
    targets: usize,
    aggregate: Aggregate,
) -> TractResult<Forest<T>> {
    let typed = |name| -> TractResult<Vec<T>> {
        let Some(tensor) = attribute(node, name)? else { return Ok(Vec::new()) };
        let values =
            tensor.values::<T>().ok_or_else(|| anyhow!("{name} is of {}, nodes_splits is not", tensor.dtype()))?;
        Ok(values.to_vec())
    };
    let ints = |name, count: usize| -> TractResult<&[i64]> {
        let ints = node.get_attr_opt_slice::<i64>(name)?.unwrap_or_default();
        ensure!(ints.len() == count, "{name} has {} values, not {count}", ints.len());
        Ok(ints)
    };
    let count = splits.len();
    let modes = attribute(node, "nodes_modes")?.ok_or_else(|| anyhow!("has no nodes_modes"))?;
    let modes = modes.values::<u8>().ok_or_else(|| anyhow!("nodes_modes is of {}", modes.dtype()))?.to_vec();
    ensure!(modes.len() == count, "nodes_modes has {} values, not {count}", modes.len());
    let tracks = node.get_attr_opt_slice::<i64>("nodes_missing_value_tracks_true")?.unwrap_or_default();
    ensure!(tracks.is_empty() || tracks.len() == count, "nodes_missing_value_tracks_true has {} values", tracks.len());
    let weights = typed("leaf_weights")?;
    let leaves = ints("leaf_targetids", weights.len())?.iter().zip(&weights).map(|(target, weight)| {
        let target = u32::try_from(*target).ok().filter(|target| (*target as usize) < targets);
        Ok(vec![(target.ok_or_else(|| anyhow!("a leaf weighs a target that is none of {targets}"))?, *weight)])
    });
    let leaves = leaves.collect::<TractResult<Vec<_>>>()?;
    let members = members(&modes, &typed("membership_values")?)?;
    let nodes = Nodes {
        splits,
        features: ints("nodes_featureids", count)?,
        modes,
        tracks,
        children: [ints("nodes_truenodeids", count)?, ints("nodes_falsenodeids", count)?],
        leafs: [ints("nodes_trueleafs", count)?, ints("nodes_falseleafs", count)?],
        leaves: leaves.len(),
        members,
    };
    let mut left = MAX_NODES;
    let roots = node.get_attr_slice::<i64>("tree_roots")?;
    let trees = roots.iter().map(|root| Ok((nodes.tree(*root, &mut left)?, 0))).collect::<TractResult<Vec<_>>>()?;
    ensure!(!trees.is_empty(), "has no trees");
    Forest::lay_out(&trees, &leaves, targets, aggregate)
}

/// The sets that tests of membership ask, in the order of their nodes; what is no number ends each.
fn members<T: Number>(modes: &[u8], values: &[T]) -> TractResult<Vec<Vec<T>>> {
    #[expect(clippy::eq_op, reason = "only what is no number differs from itself")]
    let mut sets = values.split(|value| value != value);
    let set = |mode: &u8| -> TractResult<Vec<T>> {
        if *mode != MEMBER {
            return Ok(Vec::new());
        }
        let set = sets.next().ok_or_else(|| anyhow!("has fewer sets than tests of membership"))?;
        ensure!(!set.is_empty(), "tests for membership in an empty set");
        Ok(set.to_vec())
    };
    modes.iter().map(set).collect()
}

impl<T: Number> Nodes<'_, T> {
    /// The tree below a node, which comes first.
    fn tree(&self, root: i64, left: &mut usize) -> TractResult<Vec<Branch<T>>> {
        let mut tree = vec![Branch::Leaf(0)];
        let mut open = vec![(0, false, root)];
        while let Some((place, is_leaf, id)) = open.pop() {
            let count = if is_leaf { self.leaves } else { self.splits.len() };
            let id = usize::try_from(id).ok().filter(|id| *id < count);
            let id = id.ok_or_else(|| anyhow!("a node or leaf is named that is none of {count}"))?;
            if is_leaf {
                tree[place] = Branch::Leaf(id);
                continue;
            }
            let at = |which: usize| (self.leafs[which][id] != 0, self.children[which][id]);
            let feature =
                u32::try_from(self.features[id]).map_err(|_| anyhow!("looks at column {}", self.features[id]))?;
            let tracks = self.tracks.get(id).is_some_and(|tracks| *tracks != 0);
            let mut child = |tree: &mut Vec<Branch<T>>, what: Option<(bool, i64)>| -> TractResult<usize> {
                *left = left.checked_sub(1).ok_or_else(|| anyhow!("has more than {MAX_NODES} nodes, or a cycle"))?;
                tree.push(Branch::Leaf(0));
                open.extend(what.map(|(is_leaf, id)| (tree.len() - 1, is_leaf, id)));
                Ok(tree.len() - 1)
            };
            if self.modes[id] != MEMBER {
                let children = [child(&mut tree, Some(at(0)))?, child(&mut tree, Some(at(1)))?];
                tree[place] = inner(mode(self.modes[id])?, feature, self.splits[id], tracks, children)?;
                continue;
            }
            let (mut place, last) = (place, self.members[id].len() - 1);
            for (number, threshold) in self.members[id].iter().copied().enumerate() {
                let first = child(&mut tree, Some(at(0)))?;
                // The next test, or the child of what is no member.
                let second = child(&mut tree, (number == last).then(|| at(1)))?;
                tree[place] = Branch::Inner { feature, threshold, test: Test::Equal, nan_first: tracks, first, second };
                place = second;
            }
        }
        Ok(tree)
    }
}

fn mode(number: u8) -> TractResult<&'static str> {
    Ok(match number {
        0 => "BRANCH_LEQ",
        1 => "BRANCH_LT",
        2 => "BRANCH_GTE",
        3 => "BRANCH_GT",
        4 => "BRANCH_EQ",
        5 => "BRANCH_NEQ",
        other => bail!("node mode {other} is not known"),
    })
}

/// The sums of rows of the forest's own type, transformed.
fn summed<T: Number + Datum>(forest: &Forest<T>, input: &Tensor) -> TractResult<(usize, Sums<T>)> {
    let (rows, columns) = matrix(input)?;
    Ok((rows, forest.sums(values::<T>(input)?, rows, columns)))
}

impl Kernel for Ensemble {
    fn name(&self) -> &'static str {
        "TreeEnsemble"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        let (datum, features) = match &self.trees {
            Trees::Single(forest) => (DatumType::F32, forest.features()),
            Trees::Double(forest) => (DatumType::F64, forest.features()),
        };
        expect(input, &[datum])?;
        let (rows, columns) = input.columns()?;
        ensure!(columns >= features, "looks at {features} columns, got {columns}");
        Ok(vec![Fact::new(datum, [rows, self.targets.into()])])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        Ok(vec![match &self.trees {
            Trees::Single(forest) => {
                let (rows, mut sums) = summed(forest, inputs[0])?;
                for row in sums.values.chunks_exact_mut(self.targets) {
                    match row {
                        [sum] if self.post == Post::Probit => *sum = probit(*sum),
                        [_] => {}
                        row => self.post.turn(row),
                    }
                }
                Tensor::from_shape(&[rows, self.targets], &sums.values)?
            }
            Trees::Double(forest) => {
                let (rows, sums) = summed(forest, inputs[0])?;
                Tensor::from_shape(&[rows, self.targets], &sums.values)?
            }
        }])
    }
}
