//! How deep a tree goes, and that it is one: a node may have several parents, but none leads to itself.

use super::forest::Branch;
use tract_onnx::{
    prelude::TractResult,
    tract_hir::internal::{bail, ensure},
};

/// The most steps from the root to a leaf.
///
/// # Errors
/// Where a child is not there, where nodes lead back to themselves, or where a node is never reached.
pub(super) fn depth<T>(branches: &[Branch<T>], root: usize) -> TractResult<u32> {
    let children = |node: usize| match branches[node] {
        Branch::Leaf(_) => None,
        Branch::Inner { first, second, .. } => Some([first, second]),
    };
    let mut parents = vec![0u32; branches.len()];
    for child in (0..branches.len()).filter_map(children).flatten() {
        let Some(count) = parents.get_mut(child) else { bail!("a node names a child that is not there") };
        *count += 1;
    }
    ensure!(parents.get(root) == Some(&0), "the root of a tree is a child");
    // Each node is passed once all that lead to it were; what lies on a cycle never is.
    let (mut ready, mut depths, mut passed) = (vec![root], vec![0u32; branches.len()], 0);
    while let Some(node) = ready.pop() {
        passed += 1;
        for child in children(node).into_iter().flatten() {
            depths[child] = depths[child].max(depths[node] + 1);
            parents[child] -= 1;
            if parents[child] == 0 {
                ready.push(child);
            }
        }
    }
    let left = branches.len() - passed;
    ensure!(left == 0, "{left} of {} nodes of a tree are never reached, or lead to themselves", branches.len());
    Ok(depths.into_iter().max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tree::forest::Test;

    fn inner(first: usize, second: usize) -> Branch<f32> {
        Branch::Inner { feature: 0, threshold: 0.0, test: Test::Equal, nan_first: false, first, second }
    }

    #[test]
    fn the_longest_way_counts() {
        let leaf = || Branch::Leaf(0);
        assert_eq!(depth(&[leaf()], 0).unwrap(), 0);
        assert_eq!(depth(&[inner(1, 2), leaf(), leaf()], 0).unwrap(), 1);
        // The third is reached after one step and after two.
        assert_eq!(depth(&[inner(2, 1), inner(2, 3), inner(4, 5), leaf(), leaf(), leaf()], 0).unwrap(), 3);
        assert_eq!(depth(&[inner(1, 1), leaf()], 0).unwrap(), 1);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let leaf = || Branch::Leaf(0);
        for (nodes, why) in [
            (vec![inner(1, 7), leaf()], "not there"),
            (vec![inner(1, 0), leaf()], "is a child"),
            (vec![inner(1, 3), inner(2, 3), inner(1, 3), leaf()], "lead to themselves"),
            (vec![inner(1, 2), leaf(), leaf(), leaf()], "never reached"),
        ] {
            let refused = depth(&nodes, 0).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
