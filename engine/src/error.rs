//! Why a model does not load and why a call of it fails: closed lists that callers, counters and tests branch on.

use crate::dtype::DType;
use thiserror::Error;

/// Why a model file was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// A size is beyond [`Limits`](crate::Limits).
    #[error("{what} takes {got}, the limit is {limit}: make the model smaller or raise the limit")]
    TooLarge {
        /// What is too large, with its unit.
        what: String,
        /// The size found.
        got: u64,
        /// The size allowed.
        limit: u64,
    },
    /// The file is no ONNX model, or contradicts itself.
    #[error("malformed model: {detail}; export it again and check it with `onnx.checker`")]
    Malformed {
        /// What is wrong and where.
        detail: String,
    },
    /// The graph uses operators that this engine does not have.
    #[error("unsupported operators: {}; export the model without them", operators.join(", "))]
    UnsupportedOperators {
        /// Names, with the domain if it is not ONNX's own; sorted, each once.
        operators: Vec<String>,
    },
    /// An input or output has an element type that cannot pass in or out.
    #[error("tensor `{tensor}` has element type {dtype}, which cannot pass in or out: cast it inside the model")]
    UnsupportedType {
        /// The input or output.
        tensor: String,
        /// The name of the element type.
        dtype: String,
    },
    /// A tensor lies in another file.
    #[error("tensor `{tensor}` is stored outside the model file: save the model as one file")]
    ExternalData {
        /// The tensor.
        tensor: String,
    },
    /// An input declares no shape at all.
    #[error("input `{input}` declares no shape: export it with one, whose dimensions may be open")]
    NoShape {
        /// The input.
        input: String,
    },
    /// Well-formed, but tract cannot make a plan of it.
    #[error("the engine cannot compile the model{}: {detail}", for_form(form.as_ref()))]
    NotCompilable {
        /// What the file leaves open, as it was tried.
        form: Option<String>,
        /// The engine's own words, cut.
        detail: String,
    },
    /// The engine panicked; the panic was caught and nothing of the model is kept.
    #[error("the engine panicked while loading: {what}; report the model")]
    Panicked {
        /// The panic's message and place.
        what: String,
    },
}

/// Why a call of a loaded model gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    /// Another number of tensors than the model has inputs.
    #[error("the model takes {expected} inputs, got {got}")]
    WrongInputCount {
        /// Inputs of the model.
        expected: usize,
        /// Tensors given.
        got: usize,
    },
    /// A tensor names no input.
    #[error("the model has no input `{tensor}`; its inputs are {}", known.join(", "))]
    UnknownInput {
        /// The name given.
        tensor: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A value for an input that has one in the file. What a model takes is one list, of which nothing may be left out.
    #[error(
        "input `{tensor}` has its value in the file, so a call gives none: export without that initializer to give one at each call"
    )]
    InputInFile {
        /// The input.
        tensor: String,
    },
    /// Two tensors name the same input.
    #[error("input `{tensor}` is given twice")]
    DuplicateInput {
        /// The name.
        tensor: String,
    },
    /// A tensor has another element type than the input.
    #[error("input `{tensor}` is {expected}, got {got}")]
    WrongDtype {
        /// The input.
        tensor: String,
        /// The model's element type.
        expected: DType,
        /// The tensor's element type.
        got: DType,
    },
    /// A tensor has another shape than the input.
    #[error("input `{tensor}` has shape {expected}, got {got:?}")]
    WrongShape {
        /// The input.
        tensor: String,
        /// The model's shape, `?` for the open batch dimension.
        expected: String,
        /// The tensor's shape.
        got: Vec<usize>,
    },
    /// Two inputs disagree on the number of rows.
    #[error("input `{tensor}` has {got} rows where the inputs before it have {expected}")]
    UnequalBatch {
        /// The input that disagrees.
        tensor: String,
        /// Rows of the inputs before it.
        expected: usize,
        /// Its own rows.
        got: usize,
    },
    /// No rows, or more than the limit.
    #[error("{got} rows in one call: send 1 to {limit}")]
    BatchSize {
        /// Rows given.
        got: usize,
        /// Rows allowed.
        limit: usize,
    },
    /// A later dimension of an input has no places.
    #[error("input `{tensor}` has shape {got:?}: only the number of rows may be 0")]
    Empty {
        /// The input.
        tensor: String,
        /// The tensor's shape.
        got: Vec<usize>,
    },
    /// The plan for such a call could not be made.
    #[error("no plan for {form}")]
    NotCompilable {
        /// What the call chose of what the file leaves open.
        form: String,
        /// Why.
        #[source]
        cause: Box<LoadError>,
    },
    /// An operator cannot compute with what the call gives it.
    #[error(
        "operator `{operator}` ({kind}) has no answer for these values: {why}; look at the values of the inputs, and at what the contract lets through"
    )]
    Values {
        /// The operator's name in the file.
        operator: String,
        /// What it does, as the engine calls it.
        kind: String,
        /// What it stumbles over.
        why: &'static str,
    },
    /// The engine reported an error while computing.
    #[error("the engine failed: {detail}")]
    Failed {
        /// The engine's own words, cut.
        detail: String,
    },
    /// The engine panicked; the panic was caught and the model stays usable.
    #[error("the engine panicked: {what}")]
    Panicked {
        /// The panic's message and place.
        what: String,
    },
}

impl LoadError {
    pub(crate) fn malformed(detail: impl AsRef<str>) -> Self {
        Self::Malformed { detail: brief(detail.as_ref()) }
    }
}

fn for_form(form: Option<&String>) -> String {
    form.map(|form| format!(" for {form}")).unwrap_or_default()
}

/// At most 400 characters of one line: engine errors may quote whole nodes.
pub(crate) fn brief(text: &str) -> String {
    const MOST: usize = 400;
    let mut line: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_bounded_line() {
        assert_eq!(brief("a\nb"), "a b");
        assert_eq!(brief(&"ä".repeat(5000)).chars().count(), 401);
    }

    #[test]
    fn a_load_error_names_the_operator_and_what_to_do() {
        let error = LoadError::UnsupportedOperators { operators: vec!["ai.onnx.ml.Scaler".into(), "ZipMap".into()] };
        assert_eq!(
            error.to_string(),
            "unsupported operators: ai.onnx.ml.Scaler, ZipMap; export the model without them"
        );
    }
}
