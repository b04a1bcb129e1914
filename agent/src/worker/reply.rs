//! The bytes of an inference's answer, as JSON or with binary outputs after it.

use serde::Serialize;
use tern_engine::Data;

use super::{answer::Tally, failure::Failure, head::Head, slots::Loaded, values};

/// An answer, ready to send.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// Length of the JSON, where binary data follows it.
    pub(super) json_bytes: Option<usize>,
}

#[derive(Serialize)]
struct Reply<'a> {
    model_name: &'a str,
    model_version: &'a str,
    id: &'a str,
    parameters: Notes<'a>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Notes<'a> {
    contract_digest: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    clamped: u64,
    #[serde(skip_serializing_if = "is_zero")]
    flagged: u64,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Binary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Values<'a>>,
}

#[derive(Serialize)]
struct Binary {
    binary_data_size: usize,
}

/// Values as a flat list; what is not finite becomes `null`.
struct Values<'a>(&'a Data);

impl Serialize for Values<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Data::Bool(values) => values.serialize(serializer),
            Data::U8(values) => values.serialize(serializer),
            Data::U16(values) => values.serialize(serializer),
            Data::U32(values) => values.serialize(serializer),
            Data::U64(values) => values.serialize(serializer),
            Data::I8(values) => values.serialize(serializer),
            Data::I16(values) => values.serialize(serializer),
            Data::I32(values) => values.serialize(serializer),
            Data::I64(values) => values.serialize(serializer),
            Data::F32(values) => values.serialize(serializer),
            Data::F64(values) => values.serialize(serializer),
            Data::Bytes(words) => serializer.collect_seq(words.iter().map(|word| String::from_utf8_lossy(word))),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The answer that holds the outputs which the request wants.
pub(super) fn write(loaded: &Loaded, head: &Head, tally: &Tally) -> Result<Answer, Failure> {
    let mut binary = Vec::new();
    let mut written = Vec::with_capacity(tally.outputs.len());
    for (tensor, contract) in tally.outputs.iter().zip(&loaded.manifest.contract.outputs) {
        let Some(as_binary) = head.wish(&contract.name) else { continue };
        let before = binary.len();
        if as_binary {
            values::write_binary(tensor.data(), &mut binary);
        }
        written.push(Output {
            name: &contract.name,
            datatype: contract.datatype.name(),
            shape: tensor.shape(),
            parameters: as_binary.then(|| Binary { binary_data_size: binary.len() - before }),
            data: (!as_binary).then(|| Values(tensor.data())),
        });
    }
    let with_binary = written.iter().any(|output| output.parameters.is_some());
    let reply = Reply {
        model_name: &loaded.model_name,
        model_version: &loaded.version,
        id: &tally.id,
        parameters: Notes {
            contract_digest: &loaded.contract_digest,
            clamped: tally.breaches.clamped,
            flagged: tally.breaches.flagged,
        },
        outputs: written,
    };
    let mut body = serde_json::to_vec(&reply).map_err(|error| Failure::Engine(error.to_string()))?;
    let json_bytes = with_binary.then_some(body.len());
    body.append(&mut binary);
    Ok(Answer { body, json_bytes })
}
