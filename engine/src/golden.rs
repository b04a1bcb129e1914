//! Golden vectors: inputs with the outputs that a model must give, in the layout of ONNX's own tests,
//! `test_data_set_<n>/input_<i>.pb` and `output_<i>.pb`.
//!
//! A model whose file was damaged or built for another engine often still loads and runs; its answers tell.
//! [`load_dir`] is the only function of the crate that touches the file system, and it only reads.

mod compare;
mod constants;
mod files;
mod maps;

pub use compare::{Agreement, Mismatch, Survey, Tolerance, compare, survey};
pub use constants::with_constants;
pub use files::{Case, from_foreign_pairs, from_pairs, load_dir};

use crate::{error::RunError, model::Model, tensor_proto::TensorFileError};
use serde::Serialize;
use std::{io, path::PathBuf};
use thiserror::Error;

/// What a passed check saw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GoldenReport {
    /// Cases run.
    pub cases: usize,
    /// How closely all of them agreed.
    pub agreement: Agreement,
}

/// Why golden vectors could not be read, or what they found.
#[derive(Debug, Error)]
pub enum GoldenError {
    /// No case at all: nothing would be checked.
    #[error("no golden vectors: put them into `test_data_set_<n>/input_<i>.pb` and `output_<i>.pb`")]
    Empty,
    /// A file's name does not fit the layout.
    #[error("`{file}` is not named `test_data_set_<n>/input_<i>.pb` or `output_<i>.pb`")]
    UnexpectedFile {
        /// The name given.
        file: String,
    },
    /// Two files have the same place in a case.
    #[error("`{file}` is there twice")]
    Duplicate {
        /// The place.
        file: String,
    },
    /// A case has a gap in its numbering, or no outputs.
    #[error("`{file}` is missing")]
    Missing {
        /// The place of the first file that is not there.
        file: String,
    },
    /// More files or bytes than are read.
    #[error("golden vectors have more than {limit} {what}: keep fewer or smaller cases")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// What is read at most.
        limit: u64,
    },
    /// A file holds no tensor.
    #[error("`{file}` cannot be read")]
    BadTensor {
        /// The file.
        file: String,
        /// Why.
        #[source]
        cause: TensorFileError,
    },
    /// The file system refused.
    #[error("`{}` cannot be read", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The model gave no answer to a case.
    #[error("the model fails on {case}")]
    Run {
        /// The case.
        case: String,
        /// Why.
        #[source]
        cause: RunError,
    },
    /// The model's answer is not the expected one.
    #[error("the model disagrees with {case}")]
    Mismatch {
        /// The case.
        case: String,
        /// The first disagreement.
        #[source]
        cause: Mismatch,
    },
}

/// Runs every case and compares the model's answers with the expected ones.
///
/// # Errors
/// [`GoldenError::Empty`], or [`GoldenError::Run`] or [`GoldenError::Mismatch`] of the first case that fails.
pub fn check(model: &Model, cases: &[Case], tolerance: Tolerance) -> Result<GoldenReport, GoldenError> {
    if cases.is_empty() {
        return Err(GoldenError::Empty);
    }
    let mut agreement = Agreement::default();
    for case in cases {
        let name = || case.name.clone();
        let got = model.run(&case.inputs).map_err(|cause| GoldenError::Run { case: name(), cause })?;
        let one = compare(&case.outputs, &got, tolerance);
        agreement = agreement.with(one.map_err(|cause| GoldenError::Mismatch { case: name(), cause })?);
    }
    Ok(GoldenReport { cases: cases.len(), agreement })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Tensor, fixtures};

    fn model() -> Model {
        Model::load(&fixtures::bytes(&fixtures::linear()), &Limits::default()).unwrap()
    }

    fn case(output: [f32; 2]) -> Case {
        Case {
            name: "test_data_set_0".into(),
            inputs: vec![Tensor::new([1, 3], vec![1f32, 2.0, 3.0]).unwrap()],
            outputs: vec![Tensor::new([1, 2], output.to_vec()).unwrap()],
        }
    }

    #[test]
    fn right_answers_pass_and_are_counted() {
        let report = check(&model(), &[case([22.5, 27.5]), case([22.5, 27.5])], Tolerance::EXACT).unwrap();
        assert_eq!((report.cases, report.agreement.values, report.agreement.absolute), (2, 4, 0.0));
    }

    #[test]
    fn a_wrong_answer_names_its_case() {
        let failed = check(&model(), &[case([22.5, 27.0])], Tolerance::EXACT).unwrap_err();
        let GoldenError::Mismatch { case, cause: Mismatch::Values { output: 0, first, .. } } = failed else {
            panic!("{failed:?}");
        };
        assert_eq!((case.as_str(), first), ("test_data_set_0", 1));
        let close = Tolerance::new(0.6, 0.0).unwrap();
        assert_eq!(check(&model(), &[self::case([22.5, 27.0])], close).unwrap().agreement.absolute, 0.5);
    }

    #[test]
    fn no_cases_and_unfit_cases_fail() {
        assert!(matches!(check(&model(), &[], Tolerance::EXACT), Err(GoldenError::Empty)));
        let unfit = Case { inputs: vec![], ..case([0.0; 2]) };
        let failed = check(&model(), &[unfit], Tolerance::EXACT);
        assert!(matches!(failed, Err(GoldenError::Run { cause: RunError::WrongInputCount { .. }, .. })));
    }
}
