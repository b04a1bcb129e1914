//! A `Tokenizer` whose tokens a `TfIdfVectorizer` alone counts, said as one operator: how many tokens there are then is no tensor's shape,
//! and none of them is stored. And stop words that are taken out of the texts themselves, as exports of scikit-learn before 1.5 have them.

use super::{int, is_core};
use crate::{check::all_graphs, ops::KEEPS_ROWS};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{GraphProto, NodeProto};

/// The name of both operators together; no file has one with spaces.
const COUNTED: &str = "TfIdfVectorizer of a Tokenizer";

/// Puts both together wherever nothing else reads what is between them.
pub(super) fn texts(graph: &mut GraphProto) {
    for node in &mut graph.node {
        let inner = node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        inner.for_each(texts);
    }
    let makers: HashMap<&str, usize> =
        graph.node.iter().enumerate().filter_map(|(at, node)| Some((node.output.first()?.as_str(), at))).collect();
    let mut readers: HashMap<&str, usize> = HashMap::new();
    for graph in all_graphs(graph) {
        let read = graph.node.iter().flat_map(|node| &node.input).chain(graph.output.iter().map(|output| &output.name));
        read.for_each(|name| *readers.entry(name).or_default() += 1);
    }
    // What makes the only input of an operator, where nothing else reads it.
    let maker = |node: &NodeProto| match &*node.input {
        [name] if readers.get(name.as_str()) == Some(&1) => makers.get(name.as_str()).copied(),
        _ => None,
    };
    let mut together = Vec::new();
    for (at, node) in graph.node.iter().enumerate().filter(|(_, node)| is_core(node, "TfIdfVectorizer")) {
        let Some(before) = maker(node) else { continue };
        let flatten = Some(before).filter(|at| is_plain_flatten(&graph.node[*at]));
        let Some(tokenizer) = flatten.map_or(Some(before), |at| maker(&graph.node[at])) else { continue };
        let made = &graph.node[tokenizer];
        if made.op_type == "Tokenizer" && made.domain == "com.microsoft" && made.output.len() == 1 {
            together.push((at, flatten, tokenizer));
        }
    }
    let mut gone = vec![false; graph.node.len()];
    for (at, flatten, tokenizer) in together {
        let NodeProto { input, attribute, .. } = std::mem::take(&mut graph.node[tokenizer]);
        let node = &mut graph.node[at];
        node.op_type = COUNTED.into();
        node.input = input;
        node.attribute.extend(attribute);
        node.attribute.push(int("flattened", flatten.is_some().into()));
        [Some(tokenizer), flatten].into_iter().flatten().for_each(|at| gone[at] = true);
    }
    let mut gone = gone.into_iter();
    graph.node.retain(|_| !gone.next().unwrap_or(false));
    rows(graph);
}

/// A text that is nothing but a stop word is taken out of the batch, as if texts were words. Where the answer is put beside others', no
/// row may go, and nothing needs to know that one could.
fn rows(graph: &mut GraphProto) {
    let splits = |node: &&NodeProto| node.op_type == COUNTED || node.op_type == "Tokenizer";
    let texts: HashSet<String> = graph.node.iter().filter(splits).flat_map(|node| node.input.clone()).collect();
    if graph.node.iter().any(|node| is_core(node, "Concat")) {
        let stops = |node: &&mut NodeProto| {
            is_core(node, "StringNormalizer") && node.output.iter().any(|output| texts.contains(output))
        };
        graph.node.iter_mut().filter(stops).for_each(|node| node.attribute.push(int(KEEPS_ROWS, 1)));
    }
}

fn is_plain_flatten(node: &NodeProto) -> bool {
    is_core(node, "Flatten") && node.attribute.iter().all(|given| given.name == "axis" && given.i == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::ValueInfoProto;

    fn node(domain: &str, operator: &str, input: &str, output: &str) -> NodeProto {
        NodeProto {
            domain: domain.into(),
            op_type: operator.into(),
            input: vec![input.into()],
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    fn graph(more: Vec<NodeProto>) -> GraphProto {
        let mut nodes = vec![
            node("", "StringNormalizer", "x", "w"),
            node("com.microsoft", "Tokenizer", "w", "t"),
            node("", "Flatten", "t", "f"),
            node("", "TfIdfVectorizer", "f", "y"),
        ];
        nodes.extend(more);
        GraphProto { node: nodes, ..GraphProto::default() }
    }

    fn operators(mut graph: GraphProto) -> Vec<String> {
        texts(&mut graph);
        graph.node.into_iter().map(|node| format!("{} of {}", node.op_type, node.input[0])).collect()
    }

    const TOGETHER: [&str; 2] = ["StringNormalizer of x", "TfIdfVectorizer of a Tokenizer of w"];
    const APART: [&str; 4] = ["StringNormalizer of x", "Tokenizer of w", "Flatten of t", "TfIdfVectorizer of f"];

    #[test]
    fn what_only_a_vectoriser_reads_is_put_together_with_it() {
        assert_eq!(operators(graph(Vec::new())), TOGETHER);
        let mut bare = graph(Vec::new());
        bare.node.remove(2);
        bare.node[2].input = vec!["t".into()];
        assert_eq!(operators(bare), TOGETHER);
    }

    #[test]
    fn what_something_else_reads_stays() {
        assert_eq!(operators(graph(vec![node("", "Shape", "t", "s")]))[..4], APART);
        let asked = ValueInfoProto { name: "f".into(), ..ValueInfoProto::default() };
        assert_eq!(operators(GraphProto { output: vec![asked], ..graph(Vec::new()) }), APART);
        let mut other = graph(Vec::new());
        other.node[2].attribute.push(int("axis", 2));
        assert_eq!(operators(other), APART);
    }

    #[test]
    fn rows_are_kept_where_something_stands_beside_them() {
        let keeps = |mut graph: GraphProto| {
            texts(&mut graph);
            graph.node[0].attribute.iter().any(|given| given.name == KEEPS_ROWS)
        };
        assert!(!keeps(graph(Vec::new())));
        assert!(keeps(graph(vec![node("", "Concat", "y", "z")])));
    }
}
