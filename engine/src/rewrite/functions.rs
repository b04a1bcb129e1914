//! Functions that a file brings along: each call of one is replaced by its operators, so that nothing later knows of functions.
//!
//! Source: ONNX IR specification, "Functions". Two bounds hold whatever a file says: operators in all, and bytes of what is copied.

use super::fresh::Fresh;
use crate::{
    check::operator_name,
    decode,
    error::{LoadError, brief},
    limits::Limits,
};
use prost::Message;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

/// Most memory that copies of functions' operators take, in bytes, and all that the limits leave where that is less.
const MOST_COPIED: u64 = 128 << 20;
/// Functions call functions so deep.
const DEEPEST: usize = 16;

/// What the reader's messages leave out of a function: the attributes that callers need not give.
#[derive(Clone, PartialEq, Message)]
struct Defaults {
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Given>,
}

#[derive(Clone, PartialEq, Message)]
struct Given {
    #[prost(message, repeated, tag = "11")]
    attributes: Vec<AttributeProto>,
}

struct Function {
    proto: FunctionProto,
    defaults: Vec<AttributeProto>,
    /// Memory that a copy takes without the names that a call gives, and how many names there are.
    bytes: u64,
    names: u64,
}

type Functions = HashMap<(String, String), Function>;

/// Replaces every call of a function of the file, which `bytes` are; the functions are gone then.
///
/// # Errors
/// Where two functions have one name, one is named like an operator, counts on another opset than the file or calls itself, a call does
/// not fit, or it all becomes too large.
pub(super) fn inline(proto: &mut ModelProto, bytes: &[u8], limits: &Limits) -> Result<(), LoadError> {
    if proto.functions.is_empty() {
        return Ok(());
    }
    let defaults = Defaults::decode(bytes).map_err(|error| LoadError::malformed(error.to_string()))?;
    let mut given = defaults.functions.into_iter().map(|given| given.attributes);
    let mut functions = Functions::new();
    for function in std::mem::take(&mut proto.functions) {
        let key = (domain(function.domain()).to_owned(), function.name().to_owned());
        let (bytes, names) = (decode::weight(&function), names(&function.node));
        let function = Function { proto: function, defaults: given.next().unwrap_or_default(), bytes, names };
        if functions.insert(key.clone(), function).is_some() {
            return Err(LoadError::malformed(format!("two functions are named {}", brief(&key.1))));
        }
    }
    let opset = opset(&proto.opset_import);
    let Some(graph) = proto.graph.as_mut() else { return Ok(()) };
    let fresh = Fresh::of(graph);
    let mut inliner = Inliner { functions: &functions, opset, limits, fresh, operators: 0, bytes: 0 };
    inliner.graph(graph, 0)
}

/// How many names the operators and the graphs within them use.
fn names(nodes: &[NodeProto]) -> u64 {
    let of = |node: &NodeProto| {
        let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        let inner = graphs.map(|graph| {
            let own = graph.input.len() + graph.output.len() + graph.initializer.len();
            (own as u64).saturating_add(names(&graph.node))
        });
        inner.fold((node.input.len() + node.output.len()) as u64, u64::saturating_add)
    };
    nodes.iter().map(of).fold(0, u64::saturating_add)
}

fn domain(named: &str) -> &str {
    if named == "ai.onnx" { "" } else { named }
}

/// The version of ONNX's own operators.
fn opset(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports.iter().find(|import| domain(&import.domain).is_empty()).map(|import| import.version)
}

struct Inliner<'a> {
    functions: &'a Functions,
    opset: Option<i64>,
    limits: &'a Limits,
    fresh: Fresh,
    operators: usize,
    bytes: u64,
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) -> Result<(), LoadError> {
        let nodes = std::mem::take(&mut graph.node);
        for node in nodes {
            self.node(node, &mut graph.node, depth)?;
        }
        Ok(())
    }

    /// Puts a node where it is to be, or what it calls in its place.
    fn node(&mut self, mut node: NodeProto, to: &mut Vec<NodeProto>, depth: usize) -> Result<(), LoadError> {
        let graphs =
            node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        for graph in graphs {
            self.graph(graph, depth)?;
        }
        self.operators += 1;
        if self.operators > self.limits.operators {
            let (got, limit) = (self.operators as u64, self.limits.operators as u64);
            return Err(LoadError::TooLarge { what: "the graph, in operators of its functions,".into(), got, limit });
        }
        let key = (domain(&node.domain).to_owned(), node.op_type.clone());
        let Some(function) = self.functions.get(&key) else {
            to.push(node);
            return Ok(());
        };
        self.admit(&node, function, depth)?;
        let call = Call::new(&node, function, self.fresh.name("call", function.proto.name()))?;
        for inner in &function.proto.node {
            self.node(call.node(inner)?, to, depth + 1)?;
        }
        to.extend(call.passed_through());
        Ok(())
    }

    fn admit(&mut self, node: &NodeProto, function: &Function, depth: usize) -> Result<(), LoadError> {
        let name = brief(&operator_name(node));
        if matches!(domain(&node.domain), "" | "ai.onnx.ml" | "com.microsoft") {
            return Err(LoadError::malformed(format!("function {name} is named like an operator")));
        }
        if depth >= DEEPEST {
            let what = format!("the calls of function {name}, in levels,");
            return Err(LoadError::TooLarge { what, got: depth as u64 + 1, limit: DEEPEST as u64 });
        }
        let longest = node.input.iter().chain(&node.output).map(String::len).max().unwrap_or(0) as u64;
        let copied = function.bytes.saturating_add(function.names.saturating_mul(longest));
        self.bytes = self.bytes.saturating_add(copied);
        let limit = self.limits.decoded_bytes.min(MOST_COPIED);
        if self.bytes > limit {
            let got = self.bytes;
            return Err(LoadError::TooLarge { what: "the operators of functions, in bytes,".into(), got, limit });
        }
        let wanted = opset(&function.proto.opset_import);
        if wanted.is_some() && wanted != self.opset {
            let [wanted, given] = [wanted, self.opset].map(Option::unwrap_or_default);
            let what = format!("function {name} is of opset {wanted}, the model of {given}: convert the model to one");
            return Err(LoadError::malformed(what));
        }
        Ok(())
    }
}

/// One call: what the function's names and attributes are there.
struct Call<'a> {
    node: &'a NodeProto,
    function: &'a Function,
    name: String,
    names: HashMap<&'a str, &'a str>,
}

impl<'a> Call<'a> {
    fn new(node: &'a NodeProto, function: &'a Function, name: String) -> Result<Self, LoadError> {
        let FunctionProto { input, output, .. } = &function.proto;
        if node.input.len() > input.len() || node.output.len() > output.len() {
            let (name, fits) = (brief(&operator_name(node)), [input.len(), output.len()]);
            let what = format!("function {name} has {} inputs and {} outputs, a call of it more", fits[0], fits[1]);
            return Err(LoadError::malformed(what));
        }
        let given = |formal: &'a [String], actual: &'a [String]| {
            let actual = actual.iter().map(String::as_str).chain(std::iter::repeat(""));
            formal.iter().map(String::as_str).zip(actual)
        };
        // An output that nobody takes has a name all the same, and what goes through as it is keeps the input's.
        let outputs = given(output, &node.output).filter(|(_, actual)| !actual.is_empty());
        let names = outputs.chain(given(input, &node.input)).collect();
        Ok(Self { node, function, name, names })
    }

    fn name(&self, inner: &str) -> String {
        match self.names.get(inner) {
            _ if inner.is_empty() => String::new(),
            Some(outer) => (*outer).to_owned(),
            None => format!("{}.{inner}", self.name),
        }
    }

    fn node(&self, inner: &NodeProto) -> Result<NodeProto, LoadError> {
        let mut node = inner.clone();
        node.name = format!("{}.{}", self.name, inner.name);
        self.rename(&mut node)?;
        Ok(node)
    }

    fn rename(&self, node: &mut NodeProto) -> Result<(), LoadError> {
        for name in node.input.iter_mut().chain(&mut node.output) {
            *name = self.name(name);
        }
        let attributes = std::mem::take(&mut node.attribute);
        for attribute in attributes {
            let Some(mut attribute) = self.attribute(attribute)? else { continue };
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                self.graph(graph)?;
            }
            node.attribute.push(attribute);
        }
        Ok(())
    }

    fn graph(&self, graph: &mut GraphProto) -> Result<(), LoadError> {
        let values = graph.input.iter_mut().chain(&mut graph.output).map(|value| &mut value.name);
        let tensors = graph.initializer.iter_mut().map(|tensor| &mut tensor.name);
        values.chain(tensors).for_each(|name| *name = self.name(name));
        graph.value_info.clear();
        graph.node.iter_mut().try_for_each(|node| self.rename(node))
    }

    /// An attribute, with the value that the call gives it; none where it is left to the operator.
    fn attribute(&self, attribute: AttributeProto) -> Result<Option<AttributeProto>, LoadError> {
        if attribute.ref_attr_name.is_empty() {
            return Ok(Some(attribute));
        }
        let named = |given: &&AttributeProto| given.name == attribute.ref_attr_name;
        let given = self.node.attribute.iter().find(named).or_else(|| self.function.defaults.iter().find(named));
        if given.is_none() && !self.function.proto.attribute.contains(&attribute.ref_attr_name) {
            let (name, wanted) = (brief(&operator_name(self.node)), brief(&attribute.ref_attr_name));
            return Err(LoadError::malformed(format!("function {name} has no attribute `{wanted}`")));
        }
        Ok(given.map(|given| AttributeProto { name: attribute.name.clone(), ..given.clone() }))
    }

    /// The outputs that are inputs of the function.
    fn passed_through(&self) -> Vec<NodeProto> {
        let FunctionProto { input, output, .. } = &self.function.proto;
        let inputs: HashSet<&String> = input.iter().collect();
        let through = output
            .iter()
            .zip(&self.node.output)
            .filter(|(formal, actual)| inputs.contains(formal) && !actual.is_empty());
        through
            .map(|(formal, actual)| NodeProto {
                op_type: "Identity".into(),
                input: vec![self.name(formal)],
                output: vec![actual.clone()],
                ..NodeProto::default()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn node(operator: &str, domain: &str, input: &str, output: &str) -> NodeProto {
        NodeProto {
            op_type: operator.into(),
            domain: domain.into(),
            input: vec![input.into()],
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    fn function(name: &str, nodes: Vec<NodeProto>) -> FunctionProto {
        FunctionProto {
            name: Some(name.into()),
            domain: Some("mine".into()),
            input: vec!["a".into()],
            output: vec!["b".into()],
            node: nodes,
            ..FunctionProto::default()
        }
    }

    /// A model that calls `first` and brings these along.
    fn model(first: &str, functions: Vec<FunctionProto>) -> ModelProto {
        let mut proto = fixtures::linear();
        proto.graph.as_mut().unwrap().node = vec![node(first, "mine", "x", "y")];
        proto.functions = functions;
        proto
    }

    fn inlined(mut proto: ModelProto, limits: &Limits) -> Result<ModelProto, LoadError> {
        let bytes = proto.encode_to_vec();
        inline(&mut proto, &bytes, limits).map(|()| proto)
    }

    fn detail(proto: ModelProto) -> String {
        match inlined(proto, &Limits::default()) {
            Err(LoadError::Malformed { detail }) => detail,
            other => panic!("not malformed: {other:?}"),
        }
    }

    #[test]
    fn a_call_becomes_the_operators_of_the_function_with_names_of_their_own() {
        let double = function("Double", vec![node("Neg", "", "a", "h"), node("Abs", "", "h", "b")]);
        let made = inlined(model("Double", vec![double]), &Limits::default()).unwrap();
        assert!(made.functions.is_empty());
        let graph = made.graph.unwrap();
        let wires: Vec<_> = graph.node.iter().map(|node| (&*node.op_type, &*node.input[0], &*node.output[0])).collect();
        assert_eq!(wires, [("Neg", "x", "~call.1.Double.h"), ("Abs", "~call.1.Double.h", "y")]);
    }

    #[test]
    fn what_goes_through_a_function_comes_out() {
        let through = FunctionProto { output: vec!["a".into()], ..function("Through", Vec::new()) };
        let graph = inlined(model("Through", vec![through]), &Limits::default()).unwrap().graph.unwrap();
        assert_eq!(
            (&*graph.node[0].op_type, &graph.node[0].input, &graph.node[0].output),
            ("Identity", &vec!["x".into()], &vec!["y".into()])
        );
    }

    #[test]
    fn functions_that_call_each_other_have_an_end() {
        let (one, two) = (
            function("One", vec![node("Two", "mine", "a", "b")]),
            function("Two", vec![node("One", "mine", "a", "b")]),
        );
        let verdict = inlined(model("One", vec![one, two]), &Limits::default());
        let what = "the calls of function mine.One, in levels,".into();
        assert_eq!(verdict, Err(LoadError::TooLarge { what, got: 17, limit: 16 }));
    }

    #[test]
    fn functions_that_double_stay_within_the_operators_and_bytes_of_a_file() {
        let step = |level: usize| {
            let next = format!("F{}", level + 1);
            let nodes = vec![node(&next, "mine", "a", "h"), node(&next, "mine", "h", "b")];
            function(&format!("F{level}"), if level == 14 { vec![node("Neg", "", "a", "b")] } else { nodes })
        };
        let doubling = || model("F0", (0..15).map(step).collect());
        let limits = Limits { operators: 20_000, ..Limits::default() };
        let too_many = "the graph, in operators of its functions,".into();
        assert_eq!(
            inlined(doubling(), &limits),
            Err(LoadError::TooLarge { what: too_many, got: 20_001, limit: 20_000 })
        );
        let limits = Limits { decoded_bytes: 1 << 20, ..Limits::default() };
        assert!(
            matches!(inlined(doubling(), &limits), Err(LoadError::TooLarge { what, .. }) if what.contains("in bytes"))
        );
        assert_eq!(inlined(doubling(), &Limits::default()).unwrap().graph.unwrap().node.len(), 1 << 14);
    }

    #[test]
    fn calls_and_functions_that_do_not_fit_are_named() {
        let plain = || function("Plain", vec![node("Neg", "", "a", "b")]);
        assert!(detail(model("Plain", vec![plain(), plain()])).contains("two functions are named Plain"));
        let other = OperatorSetIdProto { domain: String::new(), version: 1 };
        let old = FunctionProto { opset_import: vec![other], ..plain() };
        assert!(detail(model("Plain", vec![old])).contains("function mine.Plain is of opset 1"));
        let mut wide = model("Plain", vec![plain()]);
        wide.graph.as_mut().unwrap().node[0].input.push("x".into());
        assert!(detail(wide).contains("has 1 inputs and 1 outputs"));
        let own = FunctionProto { domain: Some(String::new()), name: Some("Relu".into()), ..plain() };
        let mut proto = model("Relu", vec![own]);
        proto.graph.as_mut().unwrap().node[0].domain.clear();
        assert!(detail(proto).contains("function Relu is named like an operator"));
        let mut asks = node("LeakyRelu", "", "a", "b");
        asks.attribute =
            vec![AttributeProto { name: "alpha".into(), ref_attr_name: "slope".into(), ..AttributeProto::default() }];
        assert!(detail(model("Asks", vec![function("Asks", vec![asks])])).contains("has no attribute `slope`"));
    }
}
