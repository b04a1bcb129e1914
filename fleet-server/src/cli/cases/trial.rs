//! What a test case comes to: the model's answers held against the files. Runs in the confined child.

use std::io::Write;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tern_engine::{
    Limits, LoadError, Model, Tensor, TensorFileError,
    golden::{self, GoldenError, Tolerance},
};

use crate::cli::confined::{Inside, say};

/// Longest message that leaves the child, in characters.
const MAX_MESSAGE: usize = 500;

/// A model's cases, without the files: the model, then those that the cases name, in their order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct Header {
    pub absolute: f64,
    pub relative: f64,
    /// Whether a case without an answer is tried again with its inputs but the first as constants.
    pub constants: bool,
    pub cases: Vec<Case>,
}

/// One case: the names of its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct Case {
    pub name: String,
    pub files: Vec<String>,
}

/// One line that the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// First: what the kernel lacks of the sandbox.
    Lacking(Vec<String>),
    /// Then each case as soon as it is decided.
    Verdict(Verdict),
}

/// A case and what it came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub case: String,
    /// Whether all inputs but the first were constants.
    #[serde(default)]
    pub constants: bool,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Verdict {
    /// Of a case that came to nothing.
    pub(super) fn error(case: String, message: &str) -> Self {
        Self { case, constants: false, outcome: Outcome::Error { message: message.to_owned() } }
    }
}

/// What a case came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(super) enum Outcome {
    /// Every output agrees.
    Pass {
        /// Values compared.
        values: u64,
        /// Largest absolute difference between floats.
        absolute: f64,
        /// Largest difference relative to the expected float.
        relative: f64,
    },
    /// Some output does not.
    Wrong {
        /// Values compared.
        values: u64,
        /// Largest absolute difference between floats.
        absolute: f64,
        /// Largest difference relative to the expected float.
        relative: f64,
        /// Floats that lie too far off.
        far: u64,
        /// Integers, truths and texts that differ.
        labels: u64,
        /// The first disagreement, in words.
        first: String,
    },
    /// The engine lacks something that the model or the case needs.
    Unsupported {
        /// Operators, with their domain unless it is ONNX's own, or element types.
        lacks: Vec<String>,
    },
    /// No answer.
    Error {
        /// Why.
        message: String,
    },
}

impl Outcome {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Pass { .. } => "pass",
            Self::Wrong { .. } => "wrong",
            Self::Unsupported { .. } => "unsupported",
            Self::Error { .. } => "error",
        }
    }

    /// The rest of it, in words.
    pub(super) fn details(&self) -> String {
        match self {
            Self::Pass { absolute, relative, .. } => format!("max abs {absolute:.1e}, max rel {relative:.1e}"),
            Self::Wrong { values, absolute, relative, far, labels, first } => format!(
                "max abs {absolute:.1e}, max rel {relative:.1e}, {far} floats and {labels} labels of {values} values \
                 differ: {first}"
            ),
            Self::Unsupported { lacks } => lacks.join(", "),
            Self::Error { message } => message.clone(),
        }
    }

    fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }

    fn error(error: impl Into<anyhow::Error>) -> Self {
        Self::Error { message: format!("{:#}", error.into()).chars().take(MAX_MESSAGE).collect() }
    }
}

/// The child's part: a line for each case.
pub(in crate::cli) fn carry_out(
    header: Header,
    files: Vec<Vec<u8>>,
    inside: Inside,
    to: &mut dyn Write,
) -> anyhow::Result<()> {
    say(&Line::Lacking(inside.lacking), to)?;
    let tolerance = Tolerance::new(header.absolute, header.relative).context("no tolerance")?;
    let mut files = files.into_iter();
    let model = files.next().context("the model is missing")?;
    let loaded = Model::load(&model, &Limits::default());
    let model = if header.constants { model } else { Vec::new() };
    for case in header.cases {
        let bytes: Vec<_> = files.by_ref().take(case.files.len()).collect();
        let verdict = match read(&case, &bytes) {
            Ok(read) => judge(&model, &loaded, &read, header.constants, tolerance),
            // What the engine lacks says more than how the case is written.
            Err(outcome) => {
                (false, loaded.as_ref().err().map(not_loaded).filter(Outcome::is_unsupported).unwrap_or(outcome))
            }
        };
        let (constants, outcome) = verdict;
        say(&Line::Verdict(Verdict { case: case.name, constants, outcome }), to)?;
    }
    Ok(())
}

fn not_loaded(error: &LoadError) -> Outcome {
    match error {
        LoadError::UnsupportedOperators { operators } => Outcome::Unsupported { lacks: operators.clone() },
        LoadError::UnsupportedType { dtype, .. } => unsupported_type(dtype),
        other => Outcome::error(other.clone()),
    }
}

fn unsupported_type(dtype: &str) -> Outcome {
    Outcome::Unsupported { lacks: vec![format!("element type {dtype}")] }
}

/// A case's tensors, or what it comes to without them.
fn read(case: &Case, files: &[Vec<u8>]) -> Result<golden::Case, Outcome> {
    let named = case.files.iter().map(|file| format!("{}/{file}", case.name)).zip(files);
    let mut cases = match golden::from_foreign_pairs(named) {
        Ok(cases) => cases,
        Err(GoldenError::BadTensor { cause: TensorFileError::UnsupportedType(dtype), .. }) => {
            return Err(unsupported_type(&dtype));
        }
        Err(error) => return Err(Outcome::error(error)),
    };
    match (cases.pop(), cases.len()) {
        (Some(case), 0) => Ok(case),
        _ => Err(Outcome::Error { message: "its files make no case".into() }),
    }
}

/// What a case comes to, and whether its inputs but the first had to be constants for it.
fn judge(
    bytes: &[u8],
    loaded: &Result<Model, LoadError>,
    case: &golden::Case,
    constants: bool,
    tolerance: Tolerance,
) -> (bool, Outcome) {
    let outcome = match loaded {
        Ok(model) => answered(model, &case.inputs, case, tolerance),
        Err(error) => not_loaded(error),
    };
    if !constants || case.inputs.len() < 2 || !matches!(outcome, Outcome::Error { .. }) {
        return (false, outcome);
    }
    let limits = Limits::default();
    let fixed = golden::with_constants(bytes, &case.inputs, &limits).and_then(|bytes| Model::load(&bytes, &limits));
    match fixed.map(|model| answered(&model, &case.inputs[..1], case, tolerance)) {
        Err(_) | Ok(Outcome::Error { .. }) => (false, outcome),
        Ok(fixed) => (true, fixed),
    }
}

fn answered(model: &Model, inputs: &[Tensor], case: &golden::Case, tolerance: Tolerance) -> Outcome {
    match model.run(inputs) {
        Ok(got) => compared(&golden::survey(&case.outputs, &got, tolerance)),
        Err(error) => Outcome::error(error),
    }
}

fn compared(survey: &golden::Survey) -> Outcome {
    let golden::Agreement { values, absolute, relative } = survey.agreement;
    // JSON has no infinity, and two doubles may lie that far apart.
    let (absolute, relative) = (absolute.min(f64::MAX), relative.min(f64::MAX));
    match &survey.first {
        None => Outcome::Pass { values, absolute, relative },
        Some(first) => {
            let first = first.to_string().chars().take(MAX_MESSAGE).collect();
            Outcome::Wrong { values, absolute, relative, far: survey.far, labels: survey.labels, first }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_lacks_is_told_from_what_fails() {
        let lacks = vec!["ai.onnx.ml.Nothing".to_owned()];
        let operators = LoadError::UnsupportedOperators { operators: lacks.clone() };
        assert_eq!(not_loaded(&operators), Outcome::Unsupported { lacks });
        let half = LoadError::UnsupportedType { tensor: "x".into(), dtype: "FLOAT16".into() };
        assert_eq!(not_loaded(&half), Outcome::Unsupported { lacks: vec!["element type FLOAT16".into()] });
        let broken = not_loaded(&LoadError::Malformed { detail: "x".repeat(9_000) });
        assert!(matches!(&broken, Outcome::Error { message } if message.len() == MAX_MESSAGE), "{broken:?}");
    }

    #[test]
    fn a_line_reads_back_as_it_was_said() {
        let outcome =
            Outcome::Wrong { values: 9, absolute: 0.5, relative: 0.1, far: 1, labels: 2, first: "output 0".into() };
        let verdict = Verdict { case: "test_data_set_0".into(), constants: true, outcome };
        let mut said = Vec::new();
        say(&Line::Verdict(verdict.clone()), &mut said).unwrap();
        let Line::Verdict(back) = serde_json::from_slice(&said).unwrap() else { panic!("no verdict") };
        assert_eq!(back, verdict);
    }
}
