//! From the bytes of a request to the bytes of its answer, on an inference thread: read, enforce the contract, run, write.
//!
//! Decides nothing about queues, connections or time.

use bytes::Bytes;
use tern_engine::{DType, RunError, Tensor};
use tern_protocol::contract::TensorContract;

use super::{
    counters::Breaches,
    failure::Failure,
    head::{Head, InputHead},
    reply::{self, Answer},
    rules::{Breach, Rules},
    slots::Loaded,
    values::{self, Blank},
};

/// Most rows in one request.
const MAX_ROWS: u64 = 4096;

/// What is to be counted of a request, once its answer was given.
#[derive(Debug)]
pub(super) struct Tally {
    /// The client's, or one that was made for it.
    pub(super) id: String,
    pub(super) rows: u64,
    pub(super) breaches: Breaches,
    /// As the model saw them.
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
}

/// The answer to `body`, of which the first `json_bytes` are JSON (all of it where that is none).
pub(super) fn answer(loaded: &Loaded, body: &Bytes, json_bytes: Option<usize>) -> Result<(Answer, Tally), Failure> {
    let (json, binary) = body
        .split_at_checked(json_bytes.unwrap_or(body.len()))
        .ok_or_else(|| Failure::Malformed("Inference-Header-Content-Length is longer than the body".into()))?;
    let mut head = Head::parse(json).map_err(Failure::Malformed)?;
    check_wishes(loaded, &head)?;
    // An empty id is none, as clients of the protocol mean it.
    let id = head.id.take().filter(|id| !id.is_empty()).unwrap_or_else(|| loaded.ids.make());
    let (inputs, outputs) = (Vec::new(), Vec::new());
    let mut tally = Tally { id, rows: 1, breaches: Breaches::default(), inputs, outputs };
    tally.inputs = read_inputs(loaded, &head, json, binary, &mut tally)?;
    let outputs = loaded.model.run(&tally.inputs).map_err(|error| match error {
        RunError::BatchSize { .. } | RunError::Values { .. } => Failure::Contract(error.to_string()),
        other => Failure::Engine(other.to_string()),
    })?;
    tally.outputs = check_outputs(loaded, outputs, &mut tally)?;
    Ok((reply::write(loaded, &head, &tally)?, tally))
}

fn check_wishes(loaded: &Loaded, head: &Head) -> Result<(), Failure> {
    let known = |name: &str| loaded.outputs.iter().any(|output| output.name == name);
    match head.outputs.iter().flat_map(|outputs| &outputs.0).find(|wanted| !known(&wanted.name)) {
        None => Ok(()),
        Some(wanted) => Err(Failure::Contract(format!("the model has no output `{}`", brief(&wanted.name)))),
    }
}

/// The inputs in the contract's order, as the contract allows them.
fn read_inputs(
    loaded: &Loaded,
    head: &Head,
    json: &[u8],
    binary: &[u8],
    tally: &mut Tally,
) -> Result<Vec<Tensor>, Failure> {
    let contract = &loaded.manifest.contract.inputs;
    let places = places(contract, &head.inputs.0)?;
    let mut rows = None;
    let mut blanks = Vec::with_capacity(places.len());
    for (input, place) in head.inputs.0.iter().zip(&places) {
        blanks.push(blank(&contract[*place], input, json.len(), &mut rows)?);
    }
    tally.rows = rows.unwrap_or(1);
    values::fill_from_json(json, &mut blanks).map_err(Failure::Malformed)?;
    values::fill_from_binary(binary, &mut blanks).map_err(Failure::Malformed)?;
    let mut inputs: Vec<Option<Tensor>> = contract.iter().map(|_| None).collect();
    for (mut blank, place) in blanks.into_iter().zip(places) {
        tally.breaches.add(enforce(&loaded.inputs[place], &mut blank).map_err(|breach| match breach {
            Breach::NotFinite(text) | Breach::Outside(text) => Failure::Contract(format!("input {text}")),
        })?);
        let tensor = Tensor::new(blank.shape, blank.data).map_err(|e| Failure::Malformed(e.to_string()))?;
        inputs[place] = Some(tensor);
    }
    Ok(inputs.into_iter().flatten().collect())
}

fn enforce(rules: &Rules, blank: &mut Blank) -> Result<Breaches, Breach> {
    rules.enforce(&mut blank.data)
}

/// For each input of the request its place in the contract: all of them, each once.
fn places(contract: &[TensorContract], inputs: &[InputHead]) -> Result<Vec<usize>, Failure> {
    let mut places = Vec::with_capacity(inputs.len());
    for input in inputs {
        let Some(place) = contract.iter().position(|wanted| wanted.name == input.name) else {
            let known: Vec<&str> = contract.iter().map(|wanted| wanted.name.as_str()).collect();
            let message =
                format!("the model has no input `{}`; its inputs are {}", brief(&input.name), known.join(", "));
            return Err(Failure::Contract(message));
        };
        if places.contains(&place) {
            return Err(Failure::Contract(format!("input `{}` is given twice", brief(&input.name))));
        }
        places.push(place);
    }
    match (0..contract.len()).find(|place| !places.contains(place)) {
        None => Ok(places),
        Some(missing) => Err(Failure::Contract(format!("input `{}` is missing", contract[missing].name))),
    }
}

/// Checks type and shape of an input before any of its values is read; all batched inputs must have the same rows.
fn blank(wanted: &TensorContract, input: &InputHead, json: usize, rows: &mut Option<u64>) -> Result<Blank, Failure> {
    let name = &wanted.name;
    let datatype = wanted.datatype.name();
    if input.datatype != datatype {
        return Err(Failure::Contract(format!("input `{name}` is {datatype}, got {}", brief(&input.datatype))));
    }
    let got = &input.shape.0;
    let fits = got.len() == wanted.shape.len()
        && got.iter().zip(&wanted.shape).all(|(got, wanted)| *wanted == -1 || u64::try_from(*wanted) == Ok(*got));
    if !fits {
        return Err(Failure::Contract(format!("input `{name}` has shape {:?}, got {got:?}", wanted.shape)));
    }
    if wanted.shape.first() == Some(&-1) {
        let expected = *rows.get_or_insert(got[0]);
        if got[0] != expected {
            let message = format!("input `{name}` has {} rows where the inputs before it have {expected}", got[0]);
            return Err(Failure::Contract(message));
        }
        if !(1..=MAX_ROWS).contains(&expected) {
            return Err(Failure::Contract(format!("{expected} rows in one request: send 1 to {MAX_ROWS}")));
        }
    }
    let dtype: DType = datatype.parse().map_err(|_| Failure::Contract(format!("{datatype} is not taken")))?;
    let shape: Option<Vec<usize>> = got.iter().map(|dimension| usize::try_from(*dimension).ok()).collect();
    let sized = shape.and_then(|shape| Some((shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?, shape)));
    let (total, shape) = sized.ok_or_else(|| Failure::Contract(format!("input `{name}` is too large")))?;
    let binary = source(name, input)?;
    // A value takes at least a byte in the request, so no vector is made larger than the request can fill.
    if binary.is_none() && total > json {
        return Err(Failure::Malformed(format!("input `{name}` holds fewer values than its shape {shape:?} needs")));
    }
    let least = values::least_binary(dtype, total);
    let fits = |bytes: usize| least.is_some_and(|least| bytes == least || (dtype == DType::Bytes && bytes > least));
    if binary.is_some_and(|bytes| !fits(bytes)) {
        return Err(Failure::Malformed(format!("binary_data_size of `{name}` does not fit its shape {shape:?}")));
    }
    let data = values::empty(dtype, if binary.is_some() { 0 } else { total });
    Ok(Blank { name: name.clone(), shape, total, data, binary })
}

/// Where an input's values are: in the JSON, or so many bytes after it.
fn source(name: &str, input: &InputHead) -> Result<Option<usize>, Failure> {
    let size = input.parameters.as_ref().and_then(|parameters| parameters.binary_data_size);
    match (size, input.data.is_some()) {
        (None, true) => Ok(None),
        (Some(size), false) => usize::try_from(size)
            .map(Some)
            .map_err(|_| Failure::Malformed(format!("binary_data_size of `{name}` is too large"))),
        (Some(_), true) => Err(Failure::Malformed(format!("input `{name}` has both data and binary_data_size"))),
        (None, false) => Err(Failure::Malformed(format!("input `{name}` has no data"))),
    }
}

/// The outputs as the contract allows them: an output that it refuses is never handed to a machine that acts on it.
fn check_outputs(loaded: &Loaded, outputs: Vec<Tensor>, tally: &mut Tally) -> Result<Vec<Tensor>, Failure> {
    if outputs.len() != loaded.outputs.len() {
        return Err(Failure::Engine("the model gave another number of outputs than its contract names".into()));
    }
    let mut checked = Vec::with_capacity(outputs.len());
    for (tensor, rules) in outputs.into_iter().zip(&loaded.outputs) {
        let (shape, mut data) = tensor.into_parts();
        tally.breaches.add(rules.enforce(&mut data).map_err(|breach| match breach {
            Breach::NotFinite(text) => Failure::NotFinite(format!("output {text}")),
            Breach::Outside(text) => Failure::Engine(format!("output {text}")),
        })?);
        checked.push(Tensor::new(shape, data).map_err(|e| Failure::Engine(e.to_string()))?);
    }
    Ok(checked)
}

/// Names from a client, cut for messages.
fn brief(text: &str) -> String {
    text.chars().take(64).collect()
}
