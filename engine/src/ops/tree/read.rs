//! A forest from the attributes of its node, with every number in them checked: ids are there and in range, and no node leads to itself.

use super::forest::{Aggregate, Branch, Forest, Number, Test};
use crate::tensor_proto;
use std::collections::HashMap;
use tract_onnx::{
    pb::NodeProto,
    prelude::TractResult,
    tract_hir::internal::{anyhow, bail, ensure},
};

/// Most outputs of one forest.
pub(super) const MAX_OUTPUTS: usize = 1 << 16;

/// A forest at the precision that its file has.
pub(super) enum Read {
    Single(Forest<f32>),
    Double(Forest<f64>),
}

/// The forest whose leaves' attributes begin with `leaf`: `class` or `target`.
///
/// # Errors
/// What is wrong with which attribute.
pub(super) fn forest(node: &NodeProto, leaf: &str, outputs: usize, aggregate: Aggregate) -> TractResult<Read> {
    ensure!(outputs <= MAX_OUTPUTS, "has {outputs} outputs, more than {MAX_OUTPUTS}");
    let weights = format!("{leaf}_weights");
    let doubles = |name: &str| doubles(node, &format!("{name}_as_tensor"));
    Ok(match (doubles("nodes_values")?, doubles(&weights)?) {
        (None, None) => {
            let floats = |name: &str| Ok(node.get_attr_opt_slice::<f32>(name)?.unwrap_or_default().to_vec());
            let floats: [TractResult<Vec<f32>>; 2] = [floats("nodes_values"), floats(&weights)];
            let [values, weights] = floats;
            Read::Single(planted(node, leaf, (outputs, aggregate), &values?, &weights?)?)
        }
        (values, weights) => {
            let values = values.ok_or_else(|| anyhow!("has weights of double precision and thresholds of single"))?;
            let weights = weights.ok_or_else(|| anyhow!("has thresholds of double precision and weights of single"))?;
            Read::Double(planted(node, leaf, (outputs, aggregate), &values, &weights)?)
        }
    })
}

/// `base_values`, of either precision.
pub(super) fn base(node: &NodeProto) -> TractResult<Vec<f32>> {
    floats(node, "base_values")
}

/// The leaves' weights, of either precision.
pub(super) fn weights(node: &NodeProto, leaf: &str) -> TractResult<Vec<f32>> {
    floats(node, &format!("{leaf}_weights"))
}

fn floats(node: &NodeProto, name: &str) -> TractResult<Vec<f32>> {
    #[expect(clippy::cast_possible_truncation, reason = "what is added to single sums")]
    let narrowed = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    match doubles(node, &format!("{name}_as_tensor"))? {
        Some(values) => Ok(narrowed(values)),
        None => Ok(node.get_attr_opt_slice::<f32>(name)?.unwrap_or_default().to_vec()),
    }
}

fn doubles(node: &NodeProto, name: &str) -> TractResult<Option<Vec<f64>>> {
    let Some(attribute) = node.attribute.iter().find(|attribute| attribute.name == name) else { return Ok(None) };
    let tensor = attribute.t.as_ref().ok_or_else(|| anyhow!("{name} is no tensor"))?;
    if tensor.dims == [0] {
        return Ok(None);
    }
    let tensor = tensor_proto::from_proto(tensor.clone())?;
    if let Some(values) = tensor.values::<f64>() {
        return Ok(Some(values.to_vec()));
    }
    let values = tensor.values::<f32>().ok_or_else(|| anyhow!("{name} is of {}", tensor.dtype()))?;
    Ok(Some(values.iter().copied().map(f64::from).collect()))
}

/// The integers of an attribute, one for each node or leaf weight.
fn ints<'a>(node: &'a NodeProto, name: &str, count: usize) -> TractResult<&'a [i64]> {
    let values = node.get_attr_opt_slice::<i64>(name)?.unwrap_or_default();
    ensure!(values.len() == count, "{name} has {} values, not {count}", values.len());
    Ok(values)
}

struct Tree<T> {
    branches: Vec<Branch<T>>,
    has_parent: Vec<bool>,
}

fn planted<T: Number>(
    node: &NodeProto,
    leaf: &str,
    (outputs, aggregate): (usize, Aggregate),
    values: &[T],
    weights: &[T],
) -> TractResult<Forest<T>> {
    let count = values.len();
    ensure!(count > 0, "has no nodes");
    let (tree_ids, node_ids) = (ints(node, "nodes_treeids", count)?, ints(node, "nodes_nodeids", count)?);
    // Where each node stands: in which tree, and there at which place.
    let mut trees: Vec<Tree<T>> = Vec::new();
    let mut tree_of = HashMap::new();
    let mut places = HashMap::with_capacity(count);
    let mut place_of = Vec::with_capacity(count);
    for (tree_id, node_id) in tree_ids.iter().zip(node_ids) {
        let tree = *tree_of.entry(tree_id).or_insert_with(|| {
            trees.push(Tree { branches: Vec::new(), has_parent: Vec::new() });
            trees.len() - 1
        });
        let place = trees[tree].branches.len();
        ensure!(
            places.insert((*tree_id, *node_id), (tree, place)).is_none(),
            "node {node_id} of tree {tree_id} is there twice"
        );
        trees[tree].branches.push(Branch::Leaf(0));
        trees[tree].has_parent.push(false);
        place_of.push((tree, place));
    }
    let mut leaves = branch(node, values, &places, &place_of, &mut trees)?;
    weigh(node, leaf, outputs, weights, &places, &trees, &mut leaves)?;
    let rooted = trees.into_iter().map(|tree| {
        let mut roots = (0..tree.branches.len()).filter(|at| !tree.has_parent[*at]);
        let root = roots.next().ok_or_else(|| anyhow!("every node of a tree is a child: there is a cycle"))?;
        ensure!(roots.next().is_none(), "a tree has several roots");
        Ok((tree.branches, root))
    });
    Forest::lay_out(&rooted.collect::<TractResult<Vec<_>>>()?, &leaves, outputs, aggregate)
}

/// Fills the trees' nodes in; the leaves, without their weights so far.
fn branch<T: Number>(
    node: &NodeProto,
    values: &[T],
    places: &HashMap<(i64, i64), (usize, usize)>,
    place_of: &[(usize, usize)],
    trees: &mut [Tree<T>],
) -> TractResult<Vec<Vec<(u32, T)>>> {
    let count = values.len();
    let tree_ids = ints(node, "nodes_treeids", count)?;
    let features = ints(node, "nodes_featureids", count)?;
    let (yes, no) = (ints(node, "nodes_truenodeids", count)?, ints(node, "nodes_falsenodeids", count)?);
    let modes = node.get_attr_opt_vec::<&str>("nodes_modes")?.unwrap_or_default();
    ensure!(modes.len() == count, "nodes_modes has {} values, not {count}", modes.len());
    let tracks = node.get_attr_opt_slice::<i64>("nodes_missing_value_tracks_true")?.unwrap_or_default();
    ensure!(
        tracks.is_empty() || tracks.len() == count,
        "nodes_missing_value_tracks_true has {} values, not {count}",
        tracks.len()
    );
    let mut leaves = Vec::new();
    for at in 0..count {
        let (tree, place) = place_of[at];
        if modes[at] == "LEAF" {
            trees[tree].branches[place] = Branch::Leaf(leaves.len());
            leaves.push(Vec::new());
            continue;
        }
        let child = |id: i64| {
            let found = places.get(&(tree_ids[at], id)).filter(|(of, _)| *of == tree);
            found
                .map(|(_, place)| *place)
                .ok_or_else(|| anyhow!("node {id} of tree {} is a child and not there", tree_ids[at]))
        };
        let (yes, no) = (child(yes[at])?, child(no[at])?);
        for child in [yes, no] {
            trees[tree].has_parent[child] = true;
        }
        let feature = u32::try_from(features[at]).map_err(|_| anyhow!("looks at column {}", features[at]))?;
        let tracks = tracks.get(at).is_some_and(|tracks| *tracks != 0);
        trees[tree].branches[place] = inner(modes[at], feature, values[at], tracks, [yes, no])?;
    }
    Ok(leaves)
}

/// A node that tests a column; of its children the first is for what passes.
///
/// # Errors
/// Where no test has such a name.
pub(super) fn inner<T: Number>(
    mode: &str,
    feature: u32,
    threshold: T,
    tracks: bool,
    [yes, no]: [usize; 2],
) -> TractResult<Branch<T>> {
    // A test and whether its outcome is turned round.
    let (test, is_turned) = match mode {
        "BRANCH_LEQ" => (Test::AtMost, false),
        "BRANCH_LT" => (Test::Below, false),
        "BRANCH_EQ" => (Test::Equal, false),
        "BRANCH_GT" => (Test::AtMost, true),
        "BRANCH_GTE" => (Test::Below, true),
        "BRANCH_NEQ" => (Test::Equal, true),
        other => bail!("node mode `{other}` is not known"),
    };
    // What is no number passes no test but "not equal"; then it goes to the second child, unless the file says otherwise.
    let nan_passes = tracks || mode == "BRANCH_NEQ";
    let (first, second) = if is_turned { (no, yes) } else { (yes, no) };
    // No threshold at all fails every test as well.
    #[expect(clippy::eq_op, reason = "only what is no number differs from itself")]
    let is_void = threshold != threshold;
    let (test, threshold) = match (is_void, test) {
        (true, Test::AtMost | Test::Below) if is_turned => (Test::AtMost, T::INFINITY),
        _ => (test, threshold),
    };
    Ok(Branch::Inner { feature, threshold, test, nan_first: nan_passes != is_turned, first, second })
}

/// Gives the leaves their weights. As in onnxruntime, those of nodes that are no leaves are never looked at, and where there is
/// one output only a leaf's first weight counts.
fn weigh<T: Number>(
    node: &NodeProto,
    leaf: &str,
    outputs: usize,
    weights: &[T],
    places: &HashMap<(i64, i64), (usize, usize)>,
    trees: &[Tree<T>],
    leaves: &mut [Vec<(u32, T)>],
) -> TractResult<()> {
    let ids = |name: &str| ints(node, &format!("{leaf}_{name}"), weights.len());
    let (tree_ids, node_ids, output_ids) = (ids("treeids")?, ids("nodeids")?, ids("ids")?);
    ensure!(!weights.is_empty(), "{leaf}_weights is empty");
    for (at, weight) in weights.iter().enumerate() {
        let (tree_id, node_id) = (tree_ids[at], node_ids[at]);
        let Some((tree, place)) = places.get(&(tree_id, node_id)) else {
            bail!("{leaf} weighs node {node_id} of tree {tree_id}, which is not there")
        };
        let output = usize::try_from(output_ids[at]).ok().filter(|output| *output < outputs);
        let output = output.ok_or_else(|| anyhow!("{leaf}_ids names {}, of {outputs}", output_ids[at]))?;
        if let Branch::Leaf(leaf) = trees[*tree].branches[*place]
            && (outputs > 1 || leaves[leaf].is_empty())
        {
            leaves[leaf].push((u32::try_from(output)?, *weight));
        }
    }
    Ok(())
}
