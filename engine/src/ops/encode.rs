//! What turns one name into another: `OneHotEncoder`, `LabelEncoder`, `CategoryMapper`.

use super::cast::whole;
use super::kernel::{Fact, Kernel, expect, one, picked, values};
use crate::{convert, tensor_proto};
use std::{borrow::Cow, collections::HashMap};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult, tensor1},
    tract_hir::internal::{anyhow, bail, ensure},
};

/// Where each name stands.
#[derive(Debug)]
enum Places {
    Words(HashMap<String, usize>),
    Ints(HashMap<i64, usize>),
    /// By their bits, for equality of floats is no equivalence.
    Floats(HashMap<u64, usize>),
}

/// Equal floats have one form; what is no number has none unless it may be a name.
fn form(value: f64, is_nan_named: bool) -> Option<u64> {
    match value {
        value if value.is_nan() => is_nan_named.then_some(f64::NAN.to_bits()),
        0.0 => Some(0),
        value => Some(value.to_bits()),
    }
}

/// Of names that come twice the first counts.
fn places<K: std::hash::Hash + Eq>(names: impl IntoIterator<Item = K>) -> HashMap<K, usize> {
    let mut places = HashMap::new();
    for (place, name) in names.into_iter().enumerate() {
        places.entry(name).or_insert(place);
    }
    places
}

impl Places {
    /// Where each value of the tensor stands; `unknown` for one that has no place.
    fn of(&self, tensor: &Tensor, unknown: usize, is_nan_named: bool) -> TractResult<Vec<usize>> {
        let of = |place: Option<&usize>| place.copied().unwrap_or(unknown);
        Ok(match self {
            Self::Words(places) => values::<String>(tensor)?.iter().map(|word| of(places.get(word))).collect(),
            Self::Ints(places) => {
                let ints = match tensor.datum_type() {
                    datum if datum.is_float() => Cow::Owned(whole(tensor)?),
                    _ => tensor.cast_to::<i64>()?,
                };
                values::<i64>(&ints)?.iter().map(|int| of(places.get(int))).collect()
            }
            Self::Floats(places) => {
                let floats = tensor.cast_to::<f64>()?;
                let place = |float: &f64| of(form(*float, is_nan_named).and_then(|form| places.get(&form)));
                values::<f64>(&floats)?.iter().map(place).collect()
            }
        })
    }
}

/// A column for each category, 1 where a value is of it.
#[derive(Debug)]
pub(super) struct OneHotEncoder {
    places: Places,
    categories: usize,
    /// A value of no category is zeros, not an error.
    has_zeros: bool,
}

pub(super) fn one_hot(node: &NodeProto) -> TractResult<OneHotEncoder> {
    let ints = node.get_attr_opt_vec::<i64>("cats_int64s")?.unwrap_or_default();
    let words = node.get_attr_opt_vec::<String>("cats_strings")?.unwrap_or_default();
    let categories = ints.len() + words.len();
    let places = match (ints.is_empty(), words.is_empty()) {
        // Of names that come twice the last counts.
        (false, true) => Places::Ints(ints.into_iter().zip(0..).collect()),
        (true, false) => Places::Words(words.into_iter().zip(0..).collect()),
        _ => bail!("wants either cats_int64s or cats_strings"),
    };
    Ok(OneHotEncoder { places, categories, has_zeros: node.get_attr_opt::<i64>("zeros")?.unwrap_or(1) != 0 })
}

impl Kernel for OneHotEncoder {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        match self.places {
            Places::Words(_) => expect(input, &[DatumType::String])?,
            _ => expect(input, &super::kernel::NUMBERS)?,
        }
        let shape = input.shape.iter().cloned().chain([self.categories.into()]);
        Ok(vec![Fact::new(DatumType::F32, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let places = self.places.of(inputs[0], usize::MAX, false)?;
        let mut out = vec![0f32; places.len() * self.categories];
        for (row, place) in out.chunks_exact_mut(self.categories).zip(&places) {
            match row.get_mut(*place) {
                Some(one) => *one = 1.0,
                None => ensure!(self.has_zeros, "a value is of no category, which this encoder does not allow"),
            }
        }
        let mut shape = inputs[0].shape().to_vec();
        shape.push(self.categories);
        Ok(vec![Tensor::from_shape(&shape, &out)?])
    }
}

/// Another name for each name.
#[derive(Debug)]
pub(super) struct LabelEncoder {
    operator: &'static str,
    /// By what comes in: at most one for each type.
    ways: Vec<Way>,
    is_nan_named: bool,
}

#[derive(Debug)]
struct Way {
    keys: DatumType,
    places: Places,
    /// The new names by place, and last the one for what is not known.
    names: Tensor,
}

/// From the version of ai.onnx.ml on in which what is no number may be a key.
const NAN_NAMED: i64 = 4;

pub(super) fn label(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<LabelEncoder> {
    let imports = &context.model.opset_import;
    let opset = imports.iter().find(|import| import.domain == "ai.onnx.ml").map_or(1, |import| import.version);
    let is_nan_named = opset >= NAN_NAMED;
    let default_word =
        || node.get_attr_opt::<String>("default_string").map(|word| word.unwrap_or_else(|| "_Unused".into()));
    let default_int = || node.get_attr_opt::<i64>("default_int64").map(|int| int.unwrap_or(-1));
    if let Some(words) = node.get_attr_opt_vec::<String>("classes_strings")? {
        // The first version of the operator: words to numbers or back, by what comes in.
        let numbers: Vec<i64> = (0..).take(words.len()).collect();
        let ways = both_ways(&words, &numbers, default_word()?, default_int()?);
        return Ok(LabelEncoder { operator: "LabelEncoder", ways, is_nan_named });
    }
    let keys = column(node, "keys")?.ok_or_else(|| anyhow!("has no keys"))?;
    let names = column(node, "values")?.ok_or_else(|| anyhow!("has no values"))?;
    ensure!(keys.len() == names.len(), "{} keys have {} values", keys.len(), names.len());
    let default = match (tensor(node, "default_tensor")?, names.datum_type()) {
        (Some(default), datum) => {
            ensure!(default.datum_type() == datum && default.len() == 1, "default_tensor is not one {datum:?}");
            default.into_shape(&[1])?
        }
        (None, DatumType::String) => tensor1(&[default_word()?]),
        (None, DatumType::F32 | DatumType::F64) => {
            let default = node.get_attr_opt::<f32>("default_float")?.unwrap_or(-0.0);
            tensor1(&[default]).cast_to_dt(names.datum_type())?.into_owned()
        }
        (None, datum) => tensor1(&[default_int()?]).cast_to_dt(datum)?.into_owned(),
    };
    let places = match keys.datum_type() {
        DatumType::String => Places::Words(places(values::<String>(&keys)?.iter().cloned())),
        DatumType::I64 | DatumType::I32 | DatumType::I16 => {
            Places::Ints(places(values::<i64>(&*keys.cast_to::<i64>()?)?.iter().copied()))
        }
        DatumType::F32 | DatumType::F64 => {
            let floats = keys.cast_to::<f64>()?;
            // A key that can never match keeps its place.
            let never = f64::NAN.to_bits() + 1;
            let forms = values::<f64>(&floats)?.iter().map(|key| form(*key, is_nan_named).unwrap_or(never));
            Places::Floats(places(forms))
        }
        other => bail!("does not take keys of {other:?}"),
    };
    let names = Tensor::stack_tensors(0, &[names, default])?;
    let ways = vec![Way { keys: keys.datum_type(), places, names }];
    Ok(LabelEncoder { operator: "LabelEncoder", ways, is_nan_named })
}

pub(super) fn category_mapper(node: &NodeProto) -> TractResult<LabelEncoder> {
    let words = node.get_attr_opt_vec::<String>("cats_strings")?.unwrap_or_default();
    let ints = node.get_attr_opt_vec::<i64>("cats_int64s")?.unwrap_or_default();
    ensure!(words.len() == ints.len() && !words.is_empty(), "has {} words and {} numbers", words.len(), ints.len());
    let default_word = node.get_attr_opt::<String>("default_string")?.unwrap_or_else(|| "_Unused".into());
    let default_int = node.get_attr_opt::<i64>("default_int64")?.unwrap_or(-1);
    let ways = both_ways(&words, &ints, default_word, default_int);
    Ok(LabelEncoder { operator: "CategoryMapper", ways, is_nan_named: false })
}

/// From words to numbers and back.
fn both_ways(words: &[String], ints: &[i64], default_word: String, default_int: i64) -> Vec<Way> {
    let to_words: Vec<String> = words.iter().cloned().chain([default_word]).collect();
    let to_ints: Vec<i64> = ints.iter().copied().chain([default_int]).collect();
    vec![
        Way { keys: DatumType::String, places: Places::Words(places(words.iter().cloned())), names: tensor1(&to_ints) },
        Way { keys: DatumType::I64, places: Places::Ints(places(ints.iter().copied())), names: tensor1(&to_words) },
    ]
}

/// A tensor attribute.
fn tensor(node: &NodeProto, name: &str) -> TractResult<Option<Tensor>> {
    let Some(attribute) = node.attribute.iter().find(|attribute| attribute.name == name) else { return Ok(None) };
    let tensor = attribute.t.clone().ok_or_else(|| anyhow!("{name} is no tensor"))?;
    convert::to_tract(&tensor_proto::from_proto(tensor)?).map(Some)
}

/// The keys or values of a label encoder, of whichever type they are.
fn column(node: &NodeProto, name: &str) -> TractResult<Option<Tensor>> {
    if let Some(tensor) = tensor(node, &format!("{name}_tensor"))? {
        return Ok(Some(tensor));
    }
    if let Some(words) = node.get_attr_opt_vec::<String>(&format!("{name}_strings"))? {
        return Ok(Some(tensor1(&words)));
    }
    if let Some(ints) = node.get_attr_opt_vec::<i64>(&format!("{name}_int64s"))? {
        return Ok(Some(tensor1(&ints)));
    }
    Ok(node.get_attr_opt_vec::<f32>(&format!("{name}_floats"))?.map(|floats| tensor1(&floats)))
}

impl LabelEncoder {
    fn way(&self, datum: DatumType) -> TractResult<&Way> {
        let known: Vec<DatumType> = self.ways.iter().map(|way| way.keys).collect();
        self.ways.iter().find(|way| way.keys == datum).ok_or_else(|| anyhow!("takes {known:?}, got {datum:?}"))
    }
}

impl Kernel for LabelEncoder {
    fn name(&self) -> &'static str {
        self.operator
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        let names = &self.way(input.datum)?.names;
        Ok(vec![Fact::new(names.datum_type(), input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let way = self.way(inputs[0].datum_type())?;
        let places = way.places.of(inputs[0], way.names.len() - 1, self.is_nan_named)?;
        Ok(vec![picked(&way.names, &places, inputs[0].shape())?])
    }
}
