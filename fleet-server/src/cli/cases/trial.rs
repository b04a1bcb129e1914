//! What a test case comes to: the model's answers held against the files. Runs in the confined child.

use std::io::Write;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tern_engine::{
    Limits, LoadError, Model, TensorFileError,
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
    #[serde(flatten)]
    pub outcome: Outcome,
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
    drop(model);
    for case in header.cases {
        let bytes: Vec<_> = files.by_ref().take(case.files.len()).collect();
        let outcome = match &loaded {
            Ok(model) => judge(model, &case, &bytes, tolerance),
            Err(error) => not_loaded(error),
        };
        say(&Line::Verdict(Verdict { case: case.name, outcome }), to)?;
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

fn judge(model: &Model, case: &Case, files: &[Vec<u8>], tolerance: Tolerance) -> Outcome {
    let named = case.files.iter().map(|file| format!("{}/{file}", case.name)).zip(files);
    let cases = match golden::from_foreign_pairs(named) {
        Ok(cases) => cases,
        Err(GoldenError::BadTensor { cause: TensorFileError::UnsupportedType(dtype), .. }) => {
            return unsupported_type(&dtype);
        }
        Err(error) => return Outcome::error(error),
    };
    let [case] = &cases[..] else { return Outcome::Error { message: "its files make no case".into() } };
    match model.run(&case.inputs) {
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
        let verdict = Verdict { case: "test_data_set_0".into(), outcome };
        let mut said = Vec::new();
        say(&Line::Verdict(verdict.clone()), &mut said).unwrap();
        let Line::Verdict(back) = serde_json::from_slice(&said).unwrap() else { panic!("no verdict") };
        assert_eq!(back, verdict);
    }
}
