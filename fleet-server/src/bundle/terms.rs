//! From the words of `tern.toml` to those of the manifest: contract, budgets, device classes, training facts.

use std::collections::BTreeMap;

use tern_protocol::{
    contract::{Contract, DataType, Feature, Range, TensorContract, Violation},
    ids::{ByteCount, DeviceClass},
    manifest::{Budget, Training},
};

use super::{BundleError, description};

/// Stands for every class of devices.
const ANY: &str = "*";
/// What `_mb` in a key counts.
const MEGABYTE: u64 = 1_000_000;

fn wrong(key: impl Into<String>, rule: impl Into<String>) -> BundleError {
    BundleError::Value { key: key.into(), rule: rule.into() }
}

pub(super) fn contract(contract: description::Contract) -> Result<Contract, BundleError> {
    let side = |name: &str, tensors: Vec<description::Tensor>| {
        tensors.into_iter().map(|t| tensor(name, t)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Contract {
        inputs: side("contract.inputs", contract.inputs)?,
        outputs: side("contract.outputs", contract.outputs)?,
        prediction: contract.prediction,
    })
}

fn tensor(side: &str, tensor: description::Tensor) -> Result<TensorContract, BundleError> {
    let key = format!("{side}.{}", tensor.name);
    if tensor.missing.is_some_and(|missing| missing != Violation::Reject) {
        return Err(wrong(
            format!("{key}.missing"),
            "must be \"reject\": a tensor has no missing values; send NaN and say what to do under `nan`",
        ));
    }
    let features = tensor.features.into_iter().map(|f| feature(&key, tensor.dtype, f)).collect::<Result<_, _>>()?;
    Ok(TensorContract {
        range: range(&key, tensor.minimum, tensor.maximum, tensor.out_of_range)?,
        name: tensor.name,
        datatype: tensor.dtype,
        shape: tensor.shape,
        nan: tensor.nan,
        features,
        derive: tensor.derive,
    })
}

fn feature(tensor: &str, dtype: DataType, feature: description::Feature) -> Result<Feature, BundleError> {
    let key = format!("{tensor}.features.{}", feature.name);
    // Refused here and not by the contract's own check: what was published before keeps running.
    if dtype == DataType::Bytes && feature.categories.is_empty() {
        return Err(wrong(
            key,
            "is text without `categories`, which nothing can watch: give its categories, or leave out all features of this \
             tensor",
        ));
    }
    let range = range(&key, feature.minimum, feature.maximum, feature.out_of_range)?;
    Ok(Feature { name: feature.name, range, categories: feature.categories })
}

fn range(
    key: &str,
    minimum: Option<f64>,
    maximum: Option<f64>,
    outside: Option<Violation>,
) -> Result<Option<Range>, BundleError> {
    match (minimum, maximum, outside) {
        (Some(min), Some(max), outside) => Ok(Some(Range { min, max, outside: outside.unwrap_or_default() })),
        (None, None, None) => Ok(None),
        (None, None, Some(_)) => Err(wrong(format!("{key}.out_of_range"), "needs `minimum` and `maximum` beside it")),
        _ => Err(wrong(key, "needs both `minimum` and `maximum`, or neither")),
    }
}

pub(super) fn budgets(budgets: BTreeMap<String, description::Budget>) -> Result<BTreeMap<String, Budget>, BundleError> {
    let budget = |(class, budget): (String, description::Budget)| {
        if class != ANY {
            class.parse::<DeviceClass>().map_err(|e| wrong(format!("budgets.{class}"), e.to_string()))?;
        }
        let peak = budget.peak_rss_mb.map(|mb| {
            let bytes = mb.checked_mul(MEGABYTE).map(ByteCount);
            bytes.ok_or_else(|| wrong(format!("budgets.{class}.peak_rss_mb"), "is too large"))
        });
        let budget = Budget {
            p95_latency_ms: budget.p95_latency_ms,
            peak_rss_bytes: peak.transpose()?,
            disk_bytes: budget.bytes.map(ByteCount),
        };
        Ok((class, budget))
    };
    budgets.into_iter().map(budget).collect()
}

/// The manifest says "on all" by naming none.
pub(super) fn device_classes(classes: Vec<String>) -> Result<Vec<DeviceClass>, BundleError> {
    let key = "device_classes";
    match classes.as_slice() {
        [] => Err(wrong(key, "is empty: name the classes, or write [\"*\"] for all")),
        [any] if any == ANY => Ok(Vec::new()),
        classes if classes.iter().any(|class| class == ANY) => {
            Err(wrong(key, "names \"*\" beside others: \"*\" alone means all"))
        }
        classes => {
            let parsed: Result<std::collections::BTreeSet<DeviceClass>, _> =
                classes.iter().map(|c| c.parse()).collect();
            let parsed = parsed.map_err(|e| wrong(key, e.to_string()))?;
            if parsed.len() == classes.len() {
                Ok(parsed.into_iter().collect())
            } else {
                Err(wrong(key, "names one twice"))
            }
        }
    }
}

pub(super) fn training(training: description::Training) -> Result<Training, BundleError> {
    let mut slices = BTreeMap::new();
    for slice in training.slices {
        let name = format!("{}={}", slice.name, slice.value);
        let values = numbers(&format!("training.slices.{name}"), slice.values)?;
        if slices.insert(name.clone(), values).is_some() {
            return Err(wrong("training.slices", format!("has {name} twice")));
        }
    }
    Ok(Training {
        data_origin: training.data_origin,
        data_rows: training.data_rows,
        data_sha256: training.data_sha256,
        code_revision: training.code_revision,
        seed: training.seed,
        evaluated_on: training.metrics.evaluated_on,
        evaluated_sha256: training.metrics.evaluated_sha256,
        metrics: numbers("training.metrics", training.metrics.values)?,
        slices,
    })
}

fn numbers(key: &str, values: BTreeMap<String, toml::Value>) -> Result<BTreeMap<String, f64>, BundleError> {
    let number = |(name, value): (String, toml::Value)| {
        let number = match value {
            toml::Value::Integer(whole) => Some(whole as f64),
            toml::Value::Float(number) if number.is_finite() => Some(number),
            _ => None,
        };
        number.map(|n| (name.clone(), n)).ok_or_else(|| wrong(format!("{key}.{name}"), "must be a finite number"))
    };
    values.into_iter().map(number).collect()
}
