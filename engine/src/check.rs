//! What can be said against a model file before tract sees it, so that the refusal names the operator or tensor.
//!
//! tract reports these too, but late, in its own words, or by a panic.

use crate::{
    error::{LoadError, brief},
    limits::Limits,
    tensor_proto::{check_in_model, int64_values},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    mem,
};
use tract_onnx::{
    Onnx,
    pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto},
};

/// Of onnxruntime's own domain. tract looks operators up by name alone: any other of that domain, and of any other domain, would get the
/// meaning of a namesake.
const OF_ONNXRUNTIME: [&str; 13] = [
    "BiasGelu",
    "CDist",
    "DequantizeLinear",
    "DynamicQuantizeLSTM",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "MatMulNBits",
    "MurmurHash3",
    "QuantizeLinear",
    "QuickGelu",
    "Range",
    "Tokenizer",
];

/// Graphs within graphs are analysed again at each level, both branches of an `If`.
const DEEPEST: u64 = 6;

/// Refuses graphs of more operators than the limit, of more levels than a plan is made through, and tensors of more dimensions than any
/// operator has a use for.
pub(crate) fn size(proto: &ModelProto, limits: &Limits) -> Result<(), LoadError> {
    let mut level: Vec<&GraphProto> = proto.graph.iter().collect();
    let (mut operators, mut levels) = (0, 0);
    while !level.is_empty() {
        level.iter().try_for_each(|graph| ranks(graph))?;
        operators += level.iter().map(|graph| graph.node.len()).sum::<usize>();
        levels += 1;
        level = level.into_iter().flat_map(nested).collect();
    }
    if operators > limits.operators {
        let (got, limit) = (operators as u64, limits.operators as u64);
        return Err(LoadError::TooLarge { what: "the graph, in operators,".into(), got, limit });
    }
    if levels > DEEPEST {
        let what = "the nesting of graphs, in levels,".into();
        return Err(LoadError::TooLarge { what, got: levels, limit: DEEPEST });
    }
    Ok(())
}

fn ranks(graph: &GraphProto) -> Result<(), LoadError> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute).flat_map(attribute_tensors);
    let stored = graph.initializer.iter().chain(attributes).map(|tensor| (&tensor.name, tensor.dims.len()));
    let declared = graph.input.iter().filter_map(|input| {
        let type_proto::Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
        Some((&input.name, tensor.shape.as_ref()?.dim.len()))
    });
    match stored.chain(declared).find(|(_, rank)| *rank as u64 > MAX_RANK) {
        None => Ok(()),
        Some((name, rank)) => Err(too_many_dimensions(name, rank)),
    }
}

fn too_many_dimensions(tensor: &str, rank: usize) -> LoadError {
    let what = format!("tensor `{}`, in dimensions,", brief(tensor));
    LoadError::TooLarge { what, got: rank as u64, limit: MAX_RANK }
}

/// The graphs that the operators of one have.
fn nested(graph: &GraphProto) -> impl Iterator<Item = &GraphProto> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// The model's graph, if nothing speaks against it.
pub(crate) fn graph<'a>(proto: &'a ModelProto, reader: &Onnx, limits: &Limits) -> Result<&'a GraphProto, LoadError> {
    let Some(graph) = proto.graph.as_ref() else {
        return Err(LoadError::malformed("the file holds no graph"));
    };
    size(proto, limits)?;
    let graphs = all_graphs(graph);
    supported(&graphs, reader)?;
    tensors(&graphs)?;
    axes(&graphs)?;
    graphs.iter().flat_map(|graph| &graph.node).try_for_each(|node| {
        scan(node)?;
        window(node)?;
        permutation(node)
    })?;
    for graph in &graphs {
        constants(graph, limits)?;
    }
    names(graph)?;
    Ok(graph)
}

/// The graph and every graph nested in its operators, outermost first.
pub(crate) fn all_graphs(outermost: &GraphProto) -> Vec<&GraphProto> {
    let mut found = vec![outermost];
    let mut next = 0;
    while let Some(graph) = found.get(next).copied() {
        found.extend(nested(graph));
        next += 1;
    }
    found
}

/// Gives operators that share a name with another, or with a tensor, a name of their own: ONNX allows it, tract does
/// not. Nested graphs have names of their own.
pub(crate) fn name_apart(graph: &mut GraphProto) {
    let inputs = graph.input.iter().map(|input| input.name.clone());
    let mut taken: HashSet<String> = inputs.chain(graph.initializer.iter().map(|tensor| tensor.name.clone())).collect();
    for (index, node) in graph.node.iter_mut().enumerate() {
        let output = node.output.first().cloned().unwrap_or_default();
        let names = [mem::take(&mut node.name), output, format!("{}#{index}", node.op_type)];
        let free = names.into_iter().find(|name| !name.is_empty() && !taken.contains(name));
        node.name = free.unwrap_or_else(|| format!("#{index}#{}", taken.len()));
        taken.insert(node.name.clone());
        let nested =
            node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        nested.for_each(name_apart);
    }
}

/// An operator's name, with its domain unless that is ONNX's own.
pub(crate) fn operator_name(node: &NodeProto) -> String {
    match node.domain.as_str() {
        "" | "ai.onnx" => node.op_type.clone(),
        domain => format!("{domain}.{}", node.op_type),
    }
}

/// The tensors in an operator's attribute.
pub(crate) fn attribute_tensors(attribute: &AttributeProto) -> impl Iterator<Item = &TensorProto> {
    let sparse = attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors);
    let sparse = sparse.flat_map(|sparse| sparse.values.iter().chain(&sparse.indices));
    attribute.t.iter().chain(&attribute.tensors).chain(sparse)
}

fn supported(graphs: &[&GraphProto], reader: &Onnx) -> Result<(), LoadError> {
    let known = |node: &NodeProto| {
        let is_of_domain = match node.domain.as_str() {
            "" | "ai.onnx" | "ai.onnx.ml" => true,
            "com.microsoft" => OF_ONNXRUNTIME.contains(&node.op_type.as_str()),
            _ => false,
        };
        is_of_domain && reader.op_register.0.contains_key(&node.op_type)
    };
    let nodes = graphs.iter().flat_map(|graph| &graph.node);
    let missing: BTreeSet<String> =
        nodes.filter(|node| !known(node)).map(|node| brief(&operator_name(node))).take(1000).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(LoadError::UnsupportedOperators { operators: missing.into_iter().take(20).collect() })
}

fn tensors(graphs: &[&GraphProto]) -> Result<(), LoadError> {
    for graph in graphs {
        for tensor in &graph.initializer {
            check_in_model(tensor, &tensor.name)?;
        }
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", |values| &values.name);
            return Err(LoadError::malformed(format!("tensor `{name}` is sparse, which is not supported")));
        }
        for node in &graph.node {
            for tensor in node.attribute.iter().flat_map(attribute_tensors) {
                let name = if tensor.name.is_empty() { &node.name } else { &tensor.name };
                check_in_model(tensor, name)?;
            }
        }
    }
    Ok(())
}

/// Most dimensions of a tensor.
pub(crate) const MAX_RANK: u64 = 64;

/// Refuses axes that no tensor has: tract looks at every dimension before one, however many that may be.
fn axes(graphs: &[&GraphProto]) -> Result<(), LoadError> {
    for node in graphs.iter().flat_map(|graph| &graph.node) {
        let named = node.attribute.iter().filter(|attribute| matches!(&*attribute.name, "axis" | "axes"));
        for axis in named.flat_map(|attribute| attribute.ints.iter().chain([&attribute.i])) {
            if axis.unsigned_abs() > MAX_RANK {
                return Err(LoadError::malformed(format!("{} has the axis {axis}", brief(&operator_name(node)))));
            }
        }
    }
    Ok(())
}

/// Refuses a `Transpose` that is no permutation: tract looks for swaps that make one of it, and finds no end.
fn permutation(node: &NodeProto) -> Result<(), LoadError> {
    let Some(given) = node.attribute.iter().find(|given| given.name == "perm" && node.op_type == "Transpose") else {
        return Ok(());
    };
    let mut axes = given.ints.clone();
    axes.sort_unstable();
    if axes.iter().zip(0..).all(|(axis, wanted)| *axis == wanted) {
        return Ok(());
    }
    let some: Vec<i64> = given.ints.iter().copied().take(16).collect();
    let name = brief(node.output.first().map_or("", String::as_str));
    Err(LoadError::malformed(format!("Transpose into `{name}` has perm {some:?}, which is no order of all axes")))
}

/// Refuses tensors that a few bytes of the file would blow up: the engine computes constants while loading.
fn constants(graph: &GraphProto, limits: &Limits) -> Result<(), LoadError> {
    let mut known: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
        let value = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
        known.extend(node.output.first().map(String::as_str).zip(value));
    }
    for node in &graph.node {
        let shape = match node.op_type.as_str() {
            "ConstantOfShape" => node.input.first(),
            "Expand" => node.input.get(1),
            _ => None,
        };
        let Some(shape) = shape.and_then(|name| known.get(name.as_str())) else { continue };
        let rank = shape.int64_data.len().max(shape.raw_data.len() / size_of::<i64>());
        if rank as u64 > MAX_RANK {
            return Err(too_many_dimensions(node.output.first().map_or("", String::as_str), rank));
        }
        let Some(dims) = int64_values(shape) else { continue };
        // At least a byte a value; zero and negative dimensions are for the engine to judge.
        let got = dims.iter().fold(1u64, |total, dim| total.saturating_mul(u64::try_from(*dim).unwrap_or(1).max(1)));
        if got > limits.tensor_bytes {
            let name = node.output.first().map_or("", String::as_str);
            let what = format!("tensor `{}`, in bytes at the least,", brief(name));
            return Err(LoadError::TooLarge { what, got, limit: limits.tensor_bytes });
        }
    }
    Ok(())
}

/// Refuses windows of pools and convolutions that no image has: tract lists every place of them while it loads, and divides by their
/// steps.
fn window(node: &NodeProto) -> Result<(), LoadError> {
    const MOST: u64 = 1 << 20;
    let lists = node.attribute.iter().filter(|given| matches!(&*given.name, "kernel_shape" | "strides" | "dilations"));
    for list in lists {
        if let Some(side) = list.ints.iter().find(|side| **side < 1) {
            let (operator, output) =
                (brief(&operator_name(node)), brief(node.output.first().map_or("", String::as_str)));
            let what =
                format!("{operator} into `{output}` has {side} among its {}: export it with 1 or more", list.name);
            return Err(LoadError::malformed(what));
        }
    }
    let Some(shape) = node.attribute.iter().find(|attribute| attribute.name == "kernel_shape") else { return Ok(()) };
    let got = shape.ints.iter().fold(1u64, |all, side| all.saturating_mul(u64::try_from(*side).unwrap_or(0)));
    if got > MOST {
        let what = format!("the window of {}, in places,", brief(&operator_name(node)));
        return Err(LoadError::TooLarge { what, got, limit: MOST });
    }
    Ok(())
}

/// Refuses a `Scan` whose counts do not fit its body: tract subtracts them from each other without a look, and goes on to the end of
/// memory.
fn scan(node: &NodeProto) -> Result<(), LoadError> {
    let given = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let (true, Some(body)) = (node.op_type == "Scan", given("body").and_then(|body| body.g.as_ref())) else {
        return Ok(());
    };
    let own = |input: &&ValueInfoProto| body.initializer.iter().all(|tensor| tensor.name != input.name);
    let (inputs, outputs) = (body.input.iter().filter(own).count(), body.output.len());
    let scanned = given("num_scan_inputs").map_or(0, |count| count.i);
    let states = usize::try_from(scanned).ok().and_then(|scanned| inputs.checked_sub(scanned));
    let Some(made) = states.and_then(|states| outputs.checked_sub(states)) else {
        let what = format!("Scan goes over {scanned} of {inputs} inputs of its body, which has {outputs} outputs");
        return Err(LoadError::malformed(what));
    };
    let lists = [("scan_input_axes", scanned), ("scan_output_axes", i64::try_from(made).unwrap_or(i64::MAX))];
    for (name, wanted) in lists {
        let got = given(name).map(|axes| axes.ints.len());
        if let Some(got) = got.filter(|got| i64::try_from(*got) != Ok(wanted)) {
            return Err(LoadError::malformed(format!("{name} of Scan has {got} values, not {wanted}")));
        }
    }
    Ok(())
}

fn names(graph: &GraphProto) -> Result<(), LoadError> {
    let mut inputs = HashSet::new();
    if let Some(twice) = graph.input.iter().find(|input| !inputs.insert(input.name.as_str())) {
        return Err(LoadError::malformed(format!("two inputs are named `{}`", twice.name)));
    }
    let mut made: HashSet<&str> = inputs;
    made.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    for output in graph.node.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty()) {
        if !made.insert(output) {
            return Err(LoadError::malformed(format!("tensor `{output}` is made twice")));
        }
    }
    for node in &graph.node {
        if let Some(unknown) = node.input.iter().find(|name| !name.is_empty() && !made.contains(name.as_str())) {
            let operator = operator_name(node);
            return Err(LoadError::malformed(format!("{operator} reads tensor `{unknown}`, which nothing makes")));
        }
    }
    if graph.output.is_empty() {
        return Err(LoadError::malformed("the graph has no outputs"));
    }
    let mut outputs = HashSet::new();
    for output in &graph.output {
        if !made.contains(output.name.as_str()) {
            return Err(LoadError::malformed(format!("output `{}` names a tensor that nothing makes", output.name)));
        }
        if !outputs.insert(output.name.as_str()) {
            return Err(LoadError::malformed(format!("two outputs are named `{}`", output.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures, model::plans::reader};
    use tract_onnx::pb::tensor_proto::DataLocation;

    fn verdict(change: impl FnOnce(&mut GraphProto)) -> Result<(), LoadError> {
        let mut proto = fixtures::linear();
        change(proto.graph.as_mut().unwrap());
        graph(&proto, &reader(), &Limits::default()).map(|_| ())
    }

    #[test]
    fn an_axis_that_no_tensor_has_is_refused() {
        for (axis, is_refused) in [(-1, false), (1 << 40, true), (i64::MIN, true)] {
            let named = AttributeProto { name: "axis".into(), i: axis, ..AttributeProto::default() };
            let verdict = verdict(|graph| graph.node[0].attribute.push(named));
            assert_eq!(matches!(verdict, Err(LoadError::Malformed { .. })), is_refused, "{axis}: {verdict:?}");
        }
    }

    fn detail(verdict: Result<(), LoadError>) -> String {
        match verdict {
            Err(LoadError::Malformed { detail }) => detail,
            other => panic!("not malformed: {other:?}"),
        }
    }

    #[test]
    fn a_sound_model_passes() {
        assert_eq!(verdict(|_| {}), Ok(()));
    }

    #[test]
    fn missing_operators_are_named_with_their_domain() {
        let verdict = verdict(|graph| {
            graph.node[0].op_type = "ZipMap".into();
            graph.node[0].domain = "ai.onnx.ml".into();
            graph.node[1].domain = "com.example".into();
        });
        let operators = vec!["ai.onnx.ml.ZipMap".to_owned(), "com.example.Add".to_owned()];
        assert_eq!(verdict, Err(LoadError::UnsupportedOperators { operators }));
    }

    #[test]
    fn operators_of_nested_graphs_are_seen() {
        let mut inner = fixtures::linear().graph.unwrap();
        inner.node[0].op_type = "Hidden".into();
        let verdict = verdict(|graph| {
            graph.node[0].attribute.push(AttributeProto { g: Some(inner), ..AttributeProto::default() });
        });
        assert_eq!(verdict, Err(LoadError::UnsupportedOperators { operators: vec!["Hidden".into()] }));
    }

    #[test]
    fn dangling_and_double_names_are_named() {
        assert!(detail(verdict(|graph| graph.output[0].name = "gone".into())).contains("`gone`"));
        assert!(detail(verdict(|graph| graph.node[0].input[1] = "gone".into())).contains("MatMul reads tensor `gone`"));
        assert!(detail(verdict(|graph| graph.node[1].output[0] = "h".into())).contains("`h` is made twice"));
        assert!(detail(verdict(|graph| graph.output.clear())).contains("no outputs"));
        let twice = verdict(|graph| graph.input.push(graph.input[0].clone()));
        assert!(detail(twice).contains("two inputs are named `x`"));
    }

    #[test]
    fn tensors_elsewhere_are_refused_wherever_they_stand() {
        let verdict_of_weight = verdict(|graph| {
            graph.initializer[0].data_location = Some(DataLocation::External as i32);
        });
        assert_eq!(verdict_of_weight, Err(LoadError::ExternalData { tensor: "w".into() }));
        let attribute = verdict(|graph| {
            let mut tensor = graph.initializer[0].clone();
            tensor.data_location = Some(DataLocation::External as i32);
            graph.node[0].attribute.push(AttributeProto { t: Some(tensor), ..AttributeProto::default() });
        });
        assert_eq!(attribute, Err(LoadError::ExternalData { tensor: "w".into() }));
    }

    #[test]
    fn the_counts_of_a_scan_fit_its_body() {
        let of = |scanned: i64, axes: usize| {
            detail(verdict(|graph| {
                let body =
                    GraphProto { input: graph.input.clone(), output: graph.output.clone(), ..GraphProto::default() };
                let mut axes_given = fixtures::integer("scan_input_axes", 0);
                axes_given.ints = vec![0; axes];
                graph.node[0].op_type = "Scan".into();
                graph.node[0].attribute = vec![
                    AttributeProto { name: "body".into(), g: Some(body), ..AttributeProto::default() },
                    fixtures::integer("num_scan_inputs", scanned),
                    axes_given,
                ];
            }))
        };
        for scanned in [2, -1, i64::MAX] {
            assert_eq!(
                of(scanned, 1),
                format!("Scan goes over {scanned} of 1 inputs of its body, which has 1 outputs")
            );
        }
        assert_eq!(of(1, 3), "scan_input_axes of Scan has 3 values, not 1");
    }

    #[test]
    fn a_window_that_no_image_has_is_too_large() {
        let of = |side: i64| {
            verdict(|graph| {
                let mut shape = fixtures::integer("kernel_shape", 0);
                shape.ints = vec![side; 2];
                graph.node[0].op_type = "MaxPool".into();
                graph.node[0].attribute = vec![shape];
            })
        };
        assert_eq!(of(1024), Ok(()));
        for side in [1025, i64::MAX] {
            assert!(matches!(of(side), Err(LoadError::TooLarge { what, .. }) if what.contains("MaxPool")), "{side}");
        }
    }

    #[test]
    fn a_window_without_places_or_steps_is_refused_by_name() {
        for (list, side) in [("kernel_shape", 0), ("strides", 0), ("dilations", -1), ("strides", i64::MIN)] {
            let said = detail(verdict(|graph| {
                let mut given = fixtures::integer(list, 0);
                given.ints = vec![2, side];
                graph.node[0].op_type = "AveragePool".into();
                graph.node[0].attribute = vec![given];
            }));
            assert_eq!(said, format!("AveragePool into `h` has {side} among its {list}: export it with 1 or more"));
        }
    }

    #[test]
    fn graphs_within_graphs_have_an_end() {
        let of = |levels: usize| {
            let mut graph = GraphProto::default();
            for _ in 1..levels {
                let branch = AttributeProto { name: "then_branch".into(), g: Some(graph), ..AttributeProto::default() };
                let node = NodeProto { op_type: "If".into(), attribute: vec![branch], ..NodeProto::default() };
                graph = GraphProto { node: vec![node], ..GraphProto::default() };
            }
            size(&ModelProto { graph: Some(graph), ..ModelProto::default() }, &Limits::default())
        };
        assert_eq!(of(6), Ok(()));
        let what = "the nesting of graphs, in levels,".into();
        assert_eq!(of(7), Err(LoadError::TooLarge { what, got: 7, limit: 6 }));
    }

    #[test]
    fn more_operators_than_the_limit_are_too_large() {
        let limits = Limits { operators: 1, ..Limits::default() };
        let proto = fixtures::linear();
        let verdict = graph(&proto, &reader(), &limits).map(|_| ());
        assert!(matches!(verdict, Err(LoadError::TooLarge { got: 2, limit: 1, .. })));
    }
}
