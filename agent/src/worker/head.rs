//! The JSON part of an inference request without its values: names, types, shapes, wishes.
//!
//! Read before any value is, so that a request which breaks the contract costs no memory for its data. Every list is
//! bounded, whatever the client sends.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use tern_protocol::contract::{MAX_AXES, MAX_TENSORS};

/// Longest request id, in bytes.
const MAX_ID: usize = 1024;

#[derive(Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) parameters: Option<Parameters>,
    pub(super) inputs: Few<InputHead, MAX_TENSORS>,
    #[serde(default)]
    pub(super) outputs: Option<Few<OutputHead, MAX_TENSORS>>,
}

#[derive(Deserialize)]
pub(super) struct InputHead {
    pub(super) name: String,
    pub(super) shape: Few<u64, MAX_AXES>,
    pub(super) datatype: String,
    #[serde(default)]
    pub(super) parameters: Option<Parameters>,
    /// Whether there are values in the JSON; they are read later.
    #[serde(default)]
    pub(super) data: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct OutputHead {
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: Option<Parameters>,
}

/// The parameters that mean something here; others are passed over, as the protocol asks.
#[derive(Default, Deserialize)]
pub(super) struct Parameters {
    pub(super) binary_data_size: Option<u64>,
    pub(super) binary_data: Option<bool>,
    pub(super) binary_data_output: Option<bool>,
    pub(super) classification: Option<u64>,
}

impl Head {
    /// The head in `json`.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let head: Self = serde_json::from_slice(json).map_err(|error| format!("malformed request: {error}"))?;
        if head.id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
            return Err(format!("malformed request: the id is longer than {MAX_ID} bytes"));
        }
        let wishes = head.outputs.iter().flat_map(|outputs| &outputs.0).filter_map(|output| output.parameters.as_ref());
        if wishes.into_iter().any(|wish| wish.classification.is_some_and(|classes| classes > 0)) {
            return Err("the classification extension is not offered: ask for the output itself".into());
        }
        Ok(head)
    }

    /// Whether `output` is wanted at all, and if so whether as binary data.
    pub(super) fn wish(&self, output: &str) -> Option<bool> {
        let all = self.parameters.as_ref().and_then(|p| p.binary_data_output).unwrap_or(false);
        match &self.outputs {
            None => Some(all),
            Some(outputs) if outputs.0.is_empty() => Some(all),
            Some(outputs) => {
                let wanted = outputs.0.iter().find(|wanted| wanted.name == output)?;
                Some(wanted.parameters.as_ref().and_then(|p| p.binary_data).unwrap_or(all))
            }
        }
    }
}

/// At most `MOST` items.
pub(super) struct Few<T, const MOST: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
            type Value = Few<T, MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST}")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MOST {
                        return Err(de::Error::invalid_length(MOST + 1, &self));
                    }
                    items.push(item);
                }
                Ok(Few(items))
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_without_its_values() {
        let json =
            br#"{"inputs":[{"data":[[1,2]],"name":"x","shape":[1,2],"datatype":"FP32"}],"outputs":[{"name":"y"}]}"#;
        let head = Head::parse(json).unwrap();
        assert!(head.inputs.0[0].data.is_some());
        assert_eq!(head.inputs.0[0].shape.0, [1, 2]);
        assert_eq!((head.wish("y"), head.wish("z")), (Some(false), None));
    }

    #[test]
    fn lists_and_numbers_are_bounded() {
        let many = format!("{{\"inputs\":[{}]}}", vec!["{}"; 100].join(","));
        assert!(Head::parse(many.as_bytes()).is_err());
        let input = |shape: &str| format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32"}}]}}"#);
        for shape in ["[1,1,1,1,1,1,1,1,1]", "[-1]", "[1.5]", "[18446744073709551616]", "{}", "null"] {
            assert!(Head::parse(input(shape).as_bytes()).is_err(), "{shape}");
        }
        assert!(Head::parse(input("[]").as_bytes()).is_ok());
        let long = format!(r#"{{"id":"{}","inputs":[]}}"#, "x".repeat(2000));
        assert!(Head::parse(long.as_bytes()).is_err());
        assert!(Head::parse(&[b"{\"a\":".repeat(100_000), b"1".to_vec()].concat()).is_err());
    }
}
