//! How a model's answers to the reference's rows compare with the right answers beside them. Pure.

use std::collections::BTreeSet;

use tern_engine::{DType, Data, Tensor};

use super::columns::is_hole;

/// Most labels that are named.
const MAX_NAMED: usize = 5;

/// A measure of the answers; names are those that `tern.toml` takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quality {
    /// Rows that were judged.
    pub rows: usize,
    /// Names and values.
    pub metrics: Vec<(&'static str, f64)>,
    /// Some of the labels that the model answered to no row, in order.
    pub unanswered: Vec<String>,
}

/// Which output is the class of a row, and which says how sure the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Roles {
    pub label: Option<usize>,
    pub confidence: Option<usize>,
}

/// Judged by the outputs of one row: a class is one value that is no float; confidence is a row of floats.
pub(super) fn roles(one_row: &[Tensor]) -> Roles {
    let is_float = |tensor: &Tensor| matches!(tensor.dtype(), DType::F32 | DType::F64);
    let label = one_row.iter().position(|tensor| !is_float(tensor) && tensor.data().len() == 1);
    let spread = |tensor: &Tensor| is_float(tensor) && tensor.shape().len() == 2 && tensor.data().len() > 1;
    let confidence = label.and_then(|_| one_row.iter().position(spread));
    Roles { label, confidence }
}

/// Accuracy of classes, or the errors of the only number of a row, over the rows that have a label; nothing where neither can be told.
pub(super) fn judge(answers: &[Vec<Tensor>], roles: Roles, labels: &[&str]) -> Option<Quality> {
    let output = roles.label.or((answers.first()?.len() == 1).then_some(0))?;
    let tensors = || answers.iter().filter_map(|outputs| outputs.get(output));
    let values: Vec<String> = tensors().flat_map(texts).collect();
    if values.len() != labels.len() || labels.is_empty() {
        return None;
    }
    let pairs: Vec<_> = values.iter().zip(labels).filter(|(_, right)| !is_hole(right)).collect();
    let rows = pairs.len();
    if rows == 0 {
        return None;
    }
    if roles.label.is_some() {
        let correct = pairs.iter().filter(|(got, right)| is_same(got, right)).count();
        let answered: BTreeSet<&String> = values.iter().collect();
        let labels: BTreeSet<&str> = pairs.iter().map(|(_, right)| **right).collect();
        let unanswered = labels.into_iter().filter(|label| !answered.iter().any(|answer| is_same(answer, label)));
        let unanswered = unanswered.take(MAX_NAMED).map(str::to_owned).collect();
        return Some(Quality { rows, metrics: vec![("accuracy", correct as f64 / rows as f64)], unanswered });
    }
    let pairs = pairs.into_iter();
    let apart = pairs.map(|(got, right)| Some(got.parse::<f64>().ok()? - right.parse::<f64>().ok()?));
    let apart: Vec<f64> = apart.collect::<Option<_>>()?;
    let mean = |of: &dyn Fn(f64) -> f64| apart.iter().map(|x| of(*x)).sum::<f64>() / rows as f64;
    let metrics = vec![("mean_absolute_error", mean(&f64::abs)), ("root_mean_squared_error", mean(&|x| x * x).sqrt())];
    Some(Quality { rows, metrics, unanswered: Vec::new() })
        .filter(|quality| quality.metrics.iter().all(|(_, value)| value.is_finite()))
}

/// Classes are the same as text or as numbers: pandas writes 1 as 1.0 where a column has holes.
fn is_same(got: &str, right: &str) -> bool {
    let number = |text: &str| match text.to_ascii_lowercase().as_str() {
        "true" => Some(1.0),
        "false" => Some(0.0),
        text => text.parse::<f64>().ok(),
    };
    got == right || number(got).is_some_and(|got| Some(got) == number(right))
}

fn texts(tensor: &Tensor) -> Vec<String> {
    macro_rules! shown {
        ($values:expr) => {
            $values.iter().map(ToString::to_string).collect()
        };
    }
    match tensor.data() {
        Data::Bool(values) => shown!(values),
        Data::U8(values) => shown!(values),
        Data::U16(values) => shown!(values),
        Data::U32(values) => shown!(values),
        Data::U64(values) => shown!(values),
        Data::I8(values) => shown!(values),
        Data::I16(values) => shown!(values),
        Data::I32(values) => shown!(values),
        Data::I64(values) => shown!(values),
        Data::F32(values) => shown!(values),
        Data::F64(values) => shown!(values),
        Data::Bytes(values) => values.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], data: impl Into<Data>) -> Tensor {
        Tensor::new(shape, data).unwrap()
    }

    #[test]
    fn a_class_and_its_confidence_are_found() {
        let class = tensor(&[1], vec![3i64]);
        let spread = tensor(&[1, 2], vec![0.5f32, 0.5]);
        assert_eq!(roles(&[class.clone(), spread.clone()]), Roles { label: Some(0), confidence: Some(1) });
        assert_eq!(roles(std::slice::from_ref(&spread)), Roles { label: None, confidence: None });
        assert_eq!(roles(&[tensor(&[1, 1], vec![0.5f32]), class]), Roles { label: Some(1), confidence: None });
    }

    #[test]
    fn classes_are_counted_over_all_calls() {
        let roles = Roles { label: Some(0), confidence: None };
        let answers = [vec![tensor(&[2], vec![1i64, 0])], vec![tensor(&[1], vec![2i64])]];
        let quality = judge(&answers, roles, &["1.0", "1", "2"]).unwrap();
        assert_eq!((quality.rows, quality.metrics), (3, vec![("accuracy", 2.0 / 3.0)]));
        let words = [vec![tensor(&[2], vec![b"cat".to_vec(), b"dog".to_vec()])]];
        assert_eq!(judge(&words, roles, &["cat", "cat"]).unwrap().metrics, [("accuracy", 0.5)]);
        assert_eq!(judge(&answers, roles, &["1"]), None, "another number of rows");
        let unsure = judge(&words, roles, &["cat", ""]).unwrap();
        assert_eq!((unsure.rows, &*unsure.metrics), (1, &[("accuracy", 1.0)][..]), "no label is no error");
        assert_eq!(judge(&words, roles, &["", "NaN"]), None);
        assert_eq!(judge(&words, roles, &["Cat", "dog"]).unwrap().unanswered, ["Cat"]);
    }

    #[test]
    fn numbers_have_errors() {
        let roles = Roles { label: None, confidence: None };
        let answers = [vec![tensor(&[2, 1], vec![1f32, 2.0])]];
        let metrics = judge(&answers, roles, &["2", "5"]).unwrap().metrics;
        assert_eq!(metrics, [("mean_absolute_error", 2.0), ("root_mean_squared_error", 5f64.sqrt())]);
        assert_eq!(judge(&answers, roles, &["2", "x"]), None);
    }
}
