//! Names for what rewriting adds, which none of the file's own is.
//!
//! Each begins with more tildes than any name of the file, and is of a bounded length however long those are: a few operators become
//! many, which must not each carry a name of megabytes.

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

/// Characters of the file's own name that a new one keeps, for people.
const KEPT: usize = 48;

/// Makes names for one graph and those nested in it.
pub(super) struct Fresh {
    mark: String,
    made: usize,
}

impl Fresh {
    pub(super) fn of(graph: &GraphProto) -> Self {
        Self { mark: "~".repeat(most(graph) + 1), made: 0 }
    }

    /// A name that no other begins with, for what is made of the value `of`.
    pub(super) fn name(&mut self, kind: &str, of: &str) -> String {
        self.made += 1;
        let of: String = of.chars().take(KEPT).collect();
        format!("{}{kind}.{}.{of}", self.mark, self.made)
    }
}

/// The most tildes that a name begins with.
fn most(graph: &GraphProto) -> usize {
    let values = graph.input.iter().chain(&graph.output).map(|value| &value.name);
    let names = values.chain(graph.initializer.iter().map(|tensor| &tensor.name));
    names.map(|name| tildes(name)).chain(graph.node.iter().map(of_node)).max().unwrap_or(0)
}

fn of_node(node: &NodeProto) -> usize {
    let names = node.input.iter().chain(&node.output).chain([&node.name]).map(|name| tildes(name));
    let nested = |given: &AttributeProto| given.g.iter().chain(&given.graphs).map(most).max();
    names.chain(node.attribute.iter().filter_map(nested)).max().unwrap_or(0)
}

fn tildes(name: &str) -> usize {
    name.bytes().take_while(|byte| *byte == b'~').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn names_are_short_and_begin_as_none_of_the_file_does() {
        let long = "n".repeat(1 << 20);
        let inner = GraphProto { node: vec![fixtures::node("Relu", &["~~a"], &["b"])], ..GraphProto::default() };
        let mut outer = fixtures::node("If", &["~c"], &[&long]);
        outer.attribute = vec![AttributeProto { g: Some(inner), ..AttributeProto::default() }];
        let mut fresh = Fresh::of(&GraphProto { node: vec![outer], ..GraphProto::default() });
        let [one, other] = [fresh.name("exact", &long), fresh.name("exact", &long)];
        assert!(one.starts_with("~~~exact.1.nn") && one.len() < 100 && one != other, "{one}");
    }
}
