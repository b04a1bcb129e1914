//! Canonical JSON: one value, one sequence of bytes.
//!
//! [`signable`] is the form that TUF signs (OLPC canonical JSON, integers only; RFC 8785 is another thing).
//! [`document`] is the form of a manifest, which may hold fractions: members sorted by name, no white space, numbers as
//! `serde_json` writes them. Manifests are signed through their digest, so this form only has to be stable.

use serde::Serialize;
use serde_json::Value;

/// A value that has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// The value cannot be written as JSON, or holds a fraction where only integers can be signed.
    #[error("value has no canonical JSON form: {0}")]
    NoForm(String),
}

/// The bytes that a signature covers.
///
/// # Errors
/// Where `value` cannot be written as JSON or holds a number that is not an integer.
pub fn signable<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(|e| CanonicalError::NoForm(e.to_string()))?;
    sigstore_tuf::canonical_json::to_canonical_bytes(&value).map_err(|e| CanonicalError::NoForm(e.to_string()))
}

/// The bytes of a document that is named by its digest.
///
/// # Errors
/// Where `value` cannot be written as JSON.
pub fn document<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(|e| CanonicalError::NoForm(e.to_string()))?;
    let mut bytes = Vec::new();
    write(&value, &mut bytes);
    Ok(bytes)
}

/// Written out here because the order of `serde_json`'s own map depends on a feature that any crate may switch on.
fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let sorted: std::collections::BTreeMap<_, _> = members.iter().collect();
            out.push(b'{');
            for (index, (name, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend(Value::String(name.clone()).to_string().bytes());
                out.push(b':');
                write(item, out);
            }
            out.push(b'}');
        }
        scalar => out.extend(scalar.to_string().bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_sorted_at_every_depth() {
        let value = json!({"b": [{"z": 1, "a": 0.5}], "a": "x\ny"});
        assert_eq!(document(&value).unwrap(), br#"{"a":"x\ny","b":[{"a":0.5,"z":1}]}"#);
    }

    #[test]
    fn a_fraction_cannot_be_signed() {
        assert!(signable(&json!({"a": 0.5})).is_err());
        assert_eq!(signable(&json!({"b": 1, "a": "x\ny"})).unwrap(), b"{\"a\":\"x\ny\",\"b\":1}");
    }
}
