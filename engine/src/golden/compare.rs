//! How far two sets of outputs lie apart, and whether that is near enough.
//!
//! Numbers agree if |expected - got| <= absolute + relative * |expected| (the rule of numpy's `allclose`). Integers,
//! booleans and bytes must be equal: a label is right or wrong. NaN agrees with NaN only, an infinity with itself only.

use crate::{
    dtype::DType,
    tensor::{Data, Tensor},
};
use serde::Serialize;
use thiserror::Error;

/// How far floating-point outputs may lie from the expected ones; both parts finite and not negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    absolute: f64,
    relative: f64,
}

impl Tolerance {
    /// Nothing may differ.
    pub const EXACT: Self = Self { absolute: 0.0, relative: 0.0 };

    /// A tolerance, unless one of its parts is negative, infinite or NaN.
    pub fn new(absolute: f64, relative: f64) -> Option<Self> {
        let sound = |part: f64| part.is_finite() && part >= 0.0;
        (sound(absolute) && sound(relative)).then_some(Self { absolute, relative })
    }

    fn admits(self, expected: f64, got: f64) -> bool {
        if expected == got || (expected.is_nan() && got.is_nan()) {
            return true;
        }
        expected.is_finite()
            && got.is_finite()
            && (expected - got).abs() <= self.absolute + self.relative * expected.abs()
    }
}

/// How closely outputs agreed.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Agreement {
    /// Values compared.
    pub values: u64,
    /// Largest absolute difference between floating-point values.
    pub absolute: f64,
    /// Largest difference relative to the expected value, where that is not zero.
    pub relative: f64,
}

impl Agreement {
    /// Both taken together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            values: self.values.saturating_add(other.values),
            absolute: self.absolute.max(other.absolute),
            relative: self.relative.max(other.relative),
        }
    }

    fn see(&mut self, expected: f64, got: f64) {
        if expected.is_finite() && got.is_finite() {
            let apart = (expected - got).abs();
            self.absolute = self.absolute.max(apart);
            if expected != 0.0 {
                self.relative = self.relative.max(apart / expected.abs());
            }
        }
    }
}

/// The first disagreement between expected and computed outputs. Outputs are counted from 0.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Mismatch {
    /// Another number of outputs.
    #[error("{expected} outputs expected, got {got}")]
    Count {
        /// Outputs expected.
        expected: usize,
        /// Outputs computed.
        got: usize,
    },
    /// Another element type.
    #[error("output {output}: {expected} expected, got {got}")]
    Dtype {
        /// Which output.
        output: usize,
        /// Type expected.
        expected: DType,
        /// Type computed.
        got: DType,
    },
    /// Another shape.
    #[error("output {output}: shape {expected:?} expected, got {got:?}")]
    Shape {
        /// Which output.
        output: usize,
        /// Shape expected.
        expected: Vec<usize>,
        /// Shape computed.
        got: Vec<usize>,
    },
    /// Values too far apart.
    #[error("output {output}: {differing} of {values} values differ; at {first} {expected} is expected, got {got}")]
    Values {
        /// Which output.
        output: usize,
        /// Position of the first such value in row-major order.
        first: usize,
        /// The value expected there, as text.
        expected: String,
        /// The value computed there, as text.
        got: String,
        /// How many values are too far apart.
        differing: usize,
        /// How many values the output has.
        values: usize,
    },
}

/// All that sets two sets of outputs apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Survey {
    /// How far values lie apart, also where that is too far.
    pub agreement: Agreement,
    /// Floating-point values that lie too far off.
    pub far: u64,
    /// Integers, truths and byte strings that differ.
    pub labels: u64,
    /// The first disagreement; none where everything agrees.
    pub first: Option<Mismatch>,
}

/// Compares `got` with `expected`, output by output.
///
/// # Errors
/// The first [`Mismatch`].
pub fn compare(expected: &[Tensor], got: &[Tensor], tolerance: Tolerance) -> Result<Agreement, Mismatch> {
    let survey = survey(expected, got, tolerance);
    survey.first.map_or(Ok(survey.agreement), Err)
}

/// Compares `got` with `expected` to the end, whatever disagrees.
pub fn survey(expected: &[Tensor], got: &[Tensor], tolerance: Tolerance) -> Survey {
    let mut survey = Survey::default();
    if expected.len() != got.len() {
        survey.first = Some(Mismatch::Count { expected: expected.len(), got: got.len() });
    }
    for (output, (expected, got)) in expected.iter().zip(got).enumerate() {
        let (agreement, mismatch) = one(output, expected, got, tolerance);
        survey.agreement = survey.agreement.with(agreement);
        if let Some(Mismatch::Values { differing, .. }) = &mismatch {
            let is_float = matches!(expected.dtype(), DType::F32 | DType::F64);
            let count = if is_float { &mut survey.far } else { &mut survey.labels };
            *count = count.saturating_add(*differing as u64);
        }
        survey.first = survey.first.or(mismatch);
    }
    survey
}

fn one(output: usize, expected: &Tensor, got: &Tensor, tolerance: Tolerance) -> (Agreement, Option<Mismatch>) {
    let mut agreement = Agreement::default();
    if expected.dtype() != got.dtype() {
        return (agreement, Some(Mismatch::Dtype { output, expected: expected.dtype(), got: got.dtype() }));
    }
    if expected.shape() != got.shape() {
        let (expected, got) = (expected.shape().to_vec(), got.shape().to_vec());
        return (agreement, Some(Mismatch::Shape { output, expected, got }));
    }
    agreement.values = expected.data().len() as u64;
    let verdict = match (expected.data(), got.data()) {
        (Data::F32(expected), Data::F32(got)) => values(output, expected, got, |e, g| {
            agreement.see(f64::from(*e), f64::from(*g));
            tolerance.admits(f64::from(*e), f64::from(*g))
        }),
        (Data::F64(expected), Data::F64(got)) => values(output, expected, got, |e, g| {
            agreement.see(*e, *g);
            tolerance.admits(*e, *g)
        }),
        (Data::Bool(expected), Data::Bool(got)) => values(output, expected, got, PartialEq::eq),
        (Data::U8(expected), Data::U8(got)) => values(output, expected, got, PartialEq::eq),
        (Data::U16(expected), Data::U16(got)) => values(output, expected, got, PartialEq::eq),
        (Data::U32(expected), Data::U32(got)) => values(output, expected, got, PartialEq::eq),
        (Data::U64(expected), Data::U64(got)) => values(output, expected, got, PartialEq::eq),
        (Data::I8(expected), Data::I8(got)) => values(output, expected, got, PartialEq::eq),
        (Data::I16(expected), Data::I16(got)) => values(output, expected, got, PartialEq::eq),
        (Data::I32(expected), Data::I32(got)) => values(output, expected, got, PartialEq::eq),
        (Data::I64(expected), Data::I64(got)) => values(output, expected, got, PartialEq::eq),
        (Data::Bytes(expected), Data::Bytes(got)) => values(output, expected, got, PartialEq::eq),
        (expected, got) => Err(Mismatch::Dtype { output, expected: expected.dtype(), got: got.dtype() }),
    };
    (agreement, verdict.err())
}

fn values<T: std::fmt::Debug>(
    output: usize,
    expected: &[T],
    got: &[T],
    mut agree: impl FnMut(&T, &T) -> bool,
) -> Result<(), Mismatch> {
    let mut first = None;
    let mut differing = 0;
    for (at, (expected, got)) in expected.iter().zip(got).enumerate() {
        if !agree(expected, got) {
            differing += 1;
            first.get_or_insert((at, expected, got));
        }
    }
    let Some((first, expected_there, got_there)) = first else {
        return Ok(());
    };
    let text = |value: &T| crate::error::brief(&format!("{value:?}"));
    let (expected_there, got_there) = (text(expected_there), text(got_there));
    Err(Mismatch::Values { output, first, expected: expected_there, got: got_there, differing, values: expected.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::any_tensor;
    use proptest::prelude::*;

    fn floats(values: &[f32]) -> Vec<Tensor> {
        vec![Tensor::new([values.len()], values.to_vec()).unwrap()]
    }

    fn near() -> Tolerance {
        Tolerance::new(1e-3, 1e-2).unwrap()
    }

    #[test]
    fn tolerances_that_admit_anything_do_not_exist() {
        for part in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Tolerance::new(part, 0.0), None);
            assert_eq!(Tolerance::new(0.0, part), None);
        }
    }

    #[test]
    fn differences_are_measured() {
        let agreement = compare(&floats(&[100.0, 0.0]), &floats(&[100.5, 0.0005]), near()).unwrap();
        assert_eq!((agreement.values, agreement.absolute), (2, 0.5));
        assert!((agreement.relative - 0.005).abs() < 1e-9);
    }

    #[test]
    fn nan_agrees_with_nan_only_and_infinity_with_itself_only() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert!(compare(&floats(&[nan, inf]), &floats(&[nan, inf]), near()).is_ok());
        for (expected, got) in [(nan, 0.0), (0.0, nan), (inf, -inf), (inf, f32::MAX), (f32::MAX, inf), (nan, inf)] {
            let verdict = compare(&floats(&[expected]), &floats(&[got]), near());
            assert!(matches!(verdict, Err(Mismatch::Values { first: 0, .. })), "{expected} {got}");
        }
    }

    #[test]
    fn labels_must_be_equal_however_wide_the_tolerance() {
        let labels = |values: &[i64]| vec![Tensor::new([2], values.to_vec()).unwrap()];
        let wide = Tolerance::new(100.0, 100.0).unwrap();
        let verdict = compare(&labels(&[3, 7]), &labels(&[3, 8]), wide);
        let (expected, got) = ("7".to_owned(), "8".to_owned());
        assert_eq!(verdict, Err(Mismatch::Values { output: 0, first: 1, expected, got, differing: 1, values: 2 }));
    }

    #[test]
    fn count_type_and_shape_must_agree() {
        let row = |shape: &[usize]| vec![Tensor::new(shape, vec![0f32; 2]).unwrap()];
        assert_eq!(compare(&row(&[2]), &[], near()), Err(Mismatch::Count { expected: 1, got: 0 }));
        assert!(matches!(compare(&row(&[2]), &row(&[1, 2]), near()), Err(Mismatch::Shape { .. })));
        let wide = vec![Tensor::new([2], vec![0f64; 2]).unwrap()];
        assert!(matches!(compare(&row(&[2]), &wide, near()), Err(Mismatch::Dtype { .. })));
    }

    #[test]
    fn a_survey_goes_on_after_the_first_disagreement() {
        let labels = |values: &[i64]| Tensor::new([values.len()], values.to_vec()).unwrap();
        let expected = [floats(&[1.0, 2.0, f32::NAN]), vec![labels(&[1, 2, 3])]].concat();
        let got = [floats(&[1.5, 2.0, 0.0]), vec![labels(&[1, 0, 0])]].concat();
        let survey = survey(&expected, &got, near());
        assert_eq!((survey.far, survey.labels, survey.agreement.values, survey.agreement.absolute), (2, 2, 6, 0.5));
        assert!(matches!(survey.first, Some(Mismatch::Values { output: 0, first: 0, differing: 2, .. })));
        let fewer = self::survey(&expected, &expected[..1], near());
        assert_eq!((fewer.far, fewer.first), (0, Some(Mismatch::Count { expected: 2, got: 1 })));
    }

    proptest! {
        #[test]
        fn every_tensor_agrees_exactly_with_itself(tensor in any_tensor()) {
            let tensors = [tensor];
            let agreement = compare(&tensors, &tensors, Tolerance::EXACT).unwrap();
            prop_assert_eq!((agreement.absolute, agreement.relative), (0.0, 0.0));
        }

        #[test]
        fn a_wider_tolerance_never_refuses_more(e in any::<f32>(), g in any::<f32>(), a in 0f64..1e3, r in 0f64..10.0) {
            let narrow = compare(&floats(&[e]), &floats(&[g]), Tolerance::new(a, r).unwrap());
            let wide = compare(&floats(&[e]), &floats(&[g]), Tolerance::new(a * 2.0, r * 2.0).unwrap());
            prop_assert!(narrow.is_err() || wide.is_ok());
        }
    }
}
