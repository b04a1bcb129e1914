//! What a classifier calls its classes: numbers or words.

use tract_onnx::{
    pb::NodeProto,
    prelude::{Datum, DatumType, Tensor, TractResult, tensor1},
    tract_hir::internal::bail,
};

/// The names of classes, by their place.
#[derive(Debug, Clone)]
pub(super) enum Labels {
    Numbers(Vec<i64>),
    Words(Vec<String>),
}

impl Labels {
    /// From one of two attributes.
    ///
    /// # Errors
    /// Where both are there, or neither.
    pub(super) fn read(node: &NodeProto, numbers: &str, words: &str) -> TractResult<Self> {
        let (ints, strings) = (node.get_attr_opt_vec::<i64>(numbers)?, node.get_attr_opt_vec::<String>(words)?);
        match (ints.filter(|ints| !ints.is_empty()), strings.filter(|strings| !strings.is_empty())) {
            (Some(ints), None) => Ok(Self::Numbers(ints)),
            (None, Some(strings)) => Ok(Self::Words(strings)),
            (None, None) => bail!("has no labels: neither {numbers} nor {words}"),
            (Some(_), Some(_)) => bail!("has two kinds of labels: {numbers} and {words}"),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Numbers(labels) => labels.len(),
            Self::Words(labels) => labels.len(),
        }
    }

    pub(super) fn datum(&self) -> DatumType {
        match self {
            Self::Numbers(_) => DatumType::I64,
            Self::Words(_) => DatumType::String,
        }
    }

    /// The labels of these classes.
    ///
    /// # Errors
    /// Where there is no such class.
    pub(super) fn tensor(&self, classes: &[usize]) -> TractResult<Tensor> {
        fn pick<T: Datum + Clone>(labels: &[T], classes: &[usize]) -> TractResult<Tensor> {
            let picked: Option<Vec<T>> = classes.iter().map(|class| labels.get(*class).cloned()).collect();
            let Some(picked) = picked else { bail!("a class has no label") };
            Ok(tensor1(&picked))
        }
        match self {
            Self::Numbers(labels) => pick(labels, classes),
            Self::Words(labels) => pick(labels, classes),
        }
    }
}
