//! A model's contract: what its inputs and outputs are, and what to do with a value that breaks it.
//!
//! Types and their own consistency only; the worker enforces them.

use serde::{Deserialize, Serialize};

/// Most tensors on either side of a contract.
pub const MAX_TENSORS: usize = 64;
/// Most axes of a tensor.
pub const MAX_AXES: usize = 8;
/// Most named features of one input.
pub const MAX_FEATURES: usize = 4096;
/// Longest name of a tensor, in bytes: it is repeated in the name of everything that is watched of the tensor.
pub const MAX_NAME: usize = 256;

/// An element type, named as the Open Inference Protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bytes,
}

impl DataType {
    /// The name in the Open Inference Protocol: `FP32`, `INT64`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// Whether it is a floating-point number.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Fp32 | Self::Fp64)
    }
}

/// What to do with a value that breaks the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Violation {
    /// Refuse the request.
    #[default]
    Reject,
    /// Move the value to the nearest allowed one and count it.
    Clamp,
    /// Use the value as it is and count it.
    Flag,
}

/// The closed range that values must lie in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest allowed value.
    pub min: f64,
    /// Largest allowed value.
    pub max: f64,
    /// What to do outside.
    #[serde(default)]
    pub outside: Violation,
}

/// A number computed from a whole input and watched like a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Derived {
    /// The mean of the input's values.
    Mean,
    /// Their standard deviation.
    Contrast,
    /// Mean absolute difference between neighbours on the last two axes.
    Sharpness,
}

impl Derived {
    /// Its name in contracts and profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Contrast => "contrast",
            Self::Sharpness => "sharpness",
        }
    }
}

/// One column of a tabular input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Its name, unique within the input.
    pub name: String,
    /// Its own range, instead of the input's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// Allowed values of a categorical column; empty for a numeric one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

/// One input or output tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorContract {
    /// Its name in the model.
    pub name: String,
    /// Its element type.
    pub datatype: DataType,
    /// Its axes; -1 is the batch, allowed on the first axis only.
    pub shape: Vec<i64>,
    /// The range of every value, where no feature says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// What to do with NaN.
    #[serde(default)]
    pub nan: Violation,
    /// The columns of the last axis, if they have names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Feature>,
    /// Numbers computed from this input and watched like columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derive: Vec<Derived>,
}

/// What goes in and what comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The inputs, in the model's order.
    pub inputs: Vec<TensorContract>,
    /// The outputs, in the model's order.
    pub outputs: Vec<TensorContract>,
    /// What of the outputs is the answer, where it can be right or wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
}

/// Which outputs say what was predicted, one answer a row, and how sure the model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The output that holds the predicted class of each row: integers or text.
    pub label: String,
    /// The output whose largest value on the last axis is the row's confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<String>,
}

/// Something that is counted: a column, a number derived from an input, or the predicted class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its name: `input.column`, `mean(input)`, or the output's own.
    pub name: String,
    /// The tensor's place among the contract's inputs or outputs.
    pub tensor: usize,
    /// What of it.
    pub part: Part,
}

/// What of a tensor is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One column of the last axis, a number.
    Column(usize),
    /// One column of the last axis, a category.
    Category(usize),
    /// A number derived from each row.
    Derived(Derived),
    /// The predicted class.
    Label,
}

/// Why a contract is no contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// There is nothing on one side.
    #[error("contract names no {0}")]
    Empty(&'static str),
    /// More tensors, axes or features than allowed.
    #[error("contract has too many {0}")]
    TooMany(&'static str),
    /// The same name twice.
    #[error("contract names {0:?} twice")]
    Duplicate(String),
    /// A tensor's name of more than [`MAX_NAME`] bytes; its beginning.
    #[error("name of tensor {0:?}… is longer than {MAX_NAME} bytes")]
    LongName(String),
    /// A dimension that is neither positive nor a leading -1.
    #[error("tensor {0:?} has a dimension that is neither positive nor a leading -1 (the batch)")]
    BadShape(String),
    /// A range that is empty or not finite.
    #[error("range of {0:?} is empty or not finite")]
    BadRange(String),
    /// The number of named features differs from the last axis.
    #[error("tensor {0:?} names a number of features that differs from its last axis")]
    FeatureCount(String),
    /// The prediction names an output that is not there, or is of a type that it cannot be.
    #[error("prediction names {0:?}, which is no output that can hold it")]
    Prediction(String),
}

impl Contract {
    /// Checks that the contract can be enforced.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), ContractError> {
        for (side, tensors) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            if tensors.is_empty() {
                return Err(ContractError::Empty(side));
            }
            if tensors.len() > MAX_TENSORS {
                return Err(ContractError::TooMany(side));
            }
            unique(tensors.iter().map(|t| t.name.as_str()))?;
            tensors.iter().try_for_each(TensorContract::check)?;
        }
        self.prediction.as_ref().map_or(Ok(()), |prediction| self.check_prediction(prediction))
    }

    fn check_prediction(&self, prediction: &Prediction) -> Result<(), ContractError> {
        let is = |name: &str, fits: fn(DataType) -> bool| {
            let found = self.outputs.iter().any(|o| o.name == name && fits(o.datatype));
            if found { Ok(()) } else { Err(ContractError::Prediction(name.to_owned())) }
        };
        is(&prediction.label, |datatype| !datatype.is_float())?;
        prediction.confidence.as_ref().map_or(Ok(()), |name| is(name, DataType::is_float))
    }

    /// What is watched of the inputs, in the order in which windows and profiles hold it: for each input its columns,
    /// then what is derived from it.
    pub fn watched_inputs(&self) -> Vec<Watched> {
        self.inputs.iter().enumerate().flat_map(|(tensor, input)| input.watched(tensor)).collect()
    }

    /// What is watched of the outputs, likewise: for each output its columns and what is derived from it, then the
    /// predicted class.
    pub fn watched_outputs(&self) -> Vec<Watched> {
        let columns = self.outputs.iter().enumerate().flat_map(|(tensor, output)| output.watched(tensor));
        let label = self.prediction.iter().filter_map(|prediction| {
            let tensor = self.outputs.iter().position(|o| o.name == prediction.label)?;
            Some(Watched { name: prediction.label.clone(), tensor, part: Part::Label })
        });
        columns.chain(label).collect()
    }
}

impl TensorContract {
    fn watched(&self, tensor: usize) -> Vec<Watched> {
        let columns = self.features.iter().enumerate().map(|(column, feature)| Watched {
            name: format!("{}.{}", self.name, feature.name),
            tensor,
            part: if feature.categories.is_empty() { Part::Column(column) } else { Part::Category(column) },
        });
        let derived = self.derive.iter().map(|derived| Watched {
            name: format!("{}({})", derived.name(), self.name),
            tensor,
            part: Part::Derived(*derived),
        });
        columns.chain(derived).collect()
    }

    fn check(&self) -> Result<(), ContractError> {
        if self.name.len() > MAX_NAME {
            return Err(ContractError::LongName(self.name.chars().take(40).collect()));
        }
        if self.shape.len() > MAX_AXES {
            return Err(ContractError::TooMany("axes"));
        }
        if self.features.len() > MAX_FEATURES {
            return Err(ContractError::TooMany("features"));
        }
        let bad = |(axis, &dimension): (usize, &i64)| dimension <= 0 && !(axis == 0 && dimension == -1);
        if self.shape.iter().enumerate().any(bad) {
            return Err(ContractError::BadShape(self.name.clone()));
        }
        let features = self.features.len() as i64;
        if features > 0 && self.shape.last() != Some(&features) {
            return Err(ContractError::FeatureCount(self.name.clone()));
        }
        unique(self.features.iter().map(|f| f.name.as_str()))?;
        unique(self.derive.iter().map(|derived| derived.name()))?;
        for range in self.range.iter().chain(self.features.iter().filter_map(|f| f.range.as_ref())) {
            if !range.min.is_finite() || !range.max.is_finite() || range.min > range.max {
                return Err(ContractError::BadRange(self.name.clone()));
            }
        }
        Ok(())
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), ContractError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ContractError::Duplicate(name.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[i64]) -> TensorContract {
        TensorContract {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: shape.to_vec(),
            range: None,
            nan: Violation::Reject,
            features: vec![],
            derive: vec![],
        }
    }

    fn contract() -> Contract {
        Contract { inputs: vec![tensor("x", &[-1, 2])], outputs: vec![tensor("y", &[-1, 1])], prediction: None }
    }

    #[test]
    fn each_fault_has_its_variant() {
        assert_eq!(contract().check(), Ok(()));
        let mut c = contract();
        c.outputs.clear();
        assert_eq!(c.check(), Err(ContractError::Empty("outputs")));
        let mut c = contract();
        c.inputs.push(tensor("x", &[1]));
        assert_eq!(c.check(), Err(ContractError::Duplicate("x".into())));
        for shape in [&[-1, -1][..], &[0], &[-2], &[2, -1]] {
            let mut c = contract();
            c.inputs[0].shape = shape.to_vec();
            assert_eq!(c.check(), Err(ContractError::BadShape("x".into())), "{shape:?}");
        }
        let mut c = contract();
        c.inputs[0].range = Some(Range { min: 1.0, max: f64::NAN, outside: Violation::Clamp });
        assert_eq!(c.check(), Err(ContractError::BadRange("x".into())));
        let mut c = contract();
        c.inputs[0].features = vec![Feature { name: "a".into(), range: None, categories: vec![] }];
        assert_eq!(c.check(), Err(ContractError::FeatureCount("x".into())));
        let mut c = contract();
        c.inputs[0].derive = vec![Derived::Mean, Derived::Contrast, Derived::Mean];
        assert_eq!(c.check(), Err(ContractError::Duplicate("mean".into())));
        let mut c = contract();
        c.outputs[0].name = "y".repeat(MAX_NAME + 1);
        assert_eq!(c.check(), Err(ContractError::LongName("y".repeat(40))));
    }

    #[test]
    fn a_prediction_names_outputs_that_can_hold_it() {
        let mut c = contract();
        c.outputs.push(TensorContract { datatype: DataType::Int64, ..tensor("label", &[-1]) });
        let named = |label: &str, confidence: Option<&str>| {
            Some(Prediction { label: label.into(), confidence: confidence.map(str::to_owned) })
        };
        for (prediction, wrong) in [
            (named("label", Some("y")), None),
            (named("label", None), None),
            (named("y", None), Some("y")),
            (named("z", None), Some("z")),
            (named("label", Some("label")), Some("label")),
        ] {
            c.prediction = prediction;
            assert_eq!(c.check().err(), wrong.map(|name| ContractError::Prediction(name.into())));
        }
    }

    #[test]
    fn what_is_watched_has_names_and_an_order() {
        let mut c = contract();
        let feature = |name: &str, categories: &[&str]| Feature {
            name: name.into(),
            range: None,
            categories: categories.iter().map(|c| (*c).to_owned()).collect(),
        };
        c.inputs[0].features = vec![feature("a", &[]), feature("b", &["1", "2"])];
        c.inputs[0].derive = vec![Derived::Mean, Derived::Sharpness];
        c.outputs.push(TensorContract { datatype: DataType::Int64, ..tensor("label", &[-1]) });
        c.prediction = Some(Prediction { label: "label".into(), confidence: None });
        let names: Vec<_> = c.watched_inputs().into_iter().map(|w| (w.name, w.part)).collect();
        let expected = [
            ("x.a", Part::Column(0)),
            ("x.b", Part::Category(1)),
            ("mean(x)", Part::Derived(Derived::Mean)),
            ("sharpness(x)", Part::Derived(Derived::Sharpness)),
        ];
        assert_eq!(names, expected.map(|(name, part)| (name.to_owned(), part)));
        assert_eq!(c.watched_outputs(), [Watched { name: "label".into(), tensor: 1, part: Part::Label }]);
    }

    #[test]
    fn data_types_are_spelt_as_the_protocol_spells_them() {
        for datatype in [DataType::Fp32, DataType::Int64, DataType::Bytes, DataType::Uint8] {
            assert_eq!(serde_json::to_value(datatype).unwrap(), datatype.name());
        }
    }
}
