//! Operators that give as much as they find: `Compress`, `Unique`.

use super::kernel::{Built, Fact, Kernel, axis, picked, strides, values, walk, wrap};
use std::{cmp::Ordering, collections::HashMap};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{Datum, DatumType, Symbol, Tensor, TractResult, tensor1},
    tract_hir::internal::{TDim, bail, ensure},
};

/// Keeps what a condition holds for.
#[derive(Debug)]
pub(super) struct Compress {
    axis: Option<i64>,
    kept: Symbol,
}

pub(super) fn compress(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let kept = context.template.symbols.new_with_prefix("kept");
    Ok((wrap(node, Compress { axis: node.get_attr_opt("axis")?, kept }), Vec::new()))
}

impl Kernel for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn is_open(&self) -> bool {
        true
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [whole, condition] = inputs else { bail!("takes values and a condition") };
        ensure!(condition.datum == DatumType::Bool && condition.shape.len() == 1, "takes a row of truths as condition");
        let kept = TDim::from(self.kept.clone());
        let Some(at) = self.axis else { return Ok(vec![Fact::new(whole.datum, [kept])]) };
        let mut shape = whole.shape.clone();
        let at = axis(at, shape.len())?;
        shape[at] = kept;
        Ok(vec![Fact::new(whole.datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let flat = [inputs[0].len()];
        let (shape, at) = match self.axis {
            Some(at) => (inputs[0].shape(), axis(at, inputs[0].rank())?),
            None => (&flat[..], 0),
        };
        let holds = values::<bool>(inputs[1])?;
        let mut kept = Vec::new();
        walk(shape, |place, along| {
            if holds.get(along[at]) == Some(&true) {
                kept.push(place);
            }
        });
        let mut shape = shape.to_vec();
        shape[at] = holds.iter().take(shape[at]).filter(|holds| **holds).count();
        Ok(vec![picked(inputs[0], &kept, &shape)?])
    }
}

/// Each value once, or each slice along an axis, with where it was.
#[derive(Debug)]
pub(super) struct Unique {
    axis: Option<i64>,
    is_sorted: bool,
    found: Symbol,
}

pub(super) fn unique(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let found = context.template.symbols.new_with_prefix("unique");
    let is_sorted = node.get_attr_opt("sorted")?.unwrap_or(true);
    Ok((wrap(node, Unique { axis: node.get_attr_opt("axis")?, is_sorted, found }), Vec::new()))
}

/// An order of all values of a type.
trait Ordered: Datum {
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! ordered {
    ($($type:ty)*) => {
        $(impl Ordered for $type {
            fn order(&self, other: &Self) -> Ordering {
                self.cmp(other)
            }
        })*
    };
}
ordered!(i8 i16 i32 i64 u8 u16 u32 u64 bool String);

macro_rules! ordered_floats {
    ($($type:ty)*) => {
        $(impl Ordered for $type {
            // What is no number comes last, and is one value.
            fn order(&self, other: &Self) -> Ordering {
                self.partial_cmp(other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        })*
    };
}
ordered_floats!(f32 f64);

/// Slices of values that lie in row-major order, each of them one key.
struct Found {
    /// The number of the slice where each key was first, in the order asked for.
    first: Vec<usize>,
    /// Which key each slice is.
    key: Vec<usize>,
    counts: Vec<usize>,
}

fn find<T: Ordered>(tensor: &Tensor, slices: &[Vec<usize>], is_sorted: bool) -> TractResult<Found> {
    let values = values::<T>(tensor)?;
    let compare = |a: usize, b: usize| {
        let pairs = slices[a].iter().zip(&slices[b]);
        pairs.map(|(a, b)| values[*a].order(&values[*b])).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut order: Vec<usize> = (0..slices.len()).collect();
    // Stable: of equal slices the first one comes first.
    order.sort_by(|a, b| compare(*a, *b));
    let mut first: Vec<usize> = Vec::new();
    let (mut key, mut counts) = (vec![0; slices.len()], Vec::new());
    for slice in order {
        if first.last().is_none_or(|last| compare(*last, slice).is_ne()) {
            first.push(slice);
            counts.push(0);
        }
        key[slice] = first.len() - 1;
        if let Some(count) = counts.last_mut() {
            *count += 1;
        }
    }
    if !is_sorted {
        let mut by_place: Vec<usize> = (0..first.len()).collect();
        by_place.sort_by_key(|key| first[*key]);
        let new: HashMap<usize, usize> = by_place.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        key.iter_mut().for_each(|key| *key = new[key]);
        first = by_place.iter().map(|old| first[*old]).collect();
        counts = by_place.iter().map(|old| counts[*old]).collect();
    }
    Ok(Found { first, key, counts })
}

impl Kernel for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn is_open(&self) -> bool {
        true
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [whole] = inputs else { bail!("takes one input") };
        let found = TDim::from(self.found.clone());
        let (shape, slices) = match self.axis {
            Some(at) => {
                let mut shape = whole.shape.clone();
                let at = axis(at, shape.len())?;
                let slices = std::mem::replace(&mut shape[at], found.clone());
                (shape, slices)
            }
            None => ([found.clone()].into_iter().collect(), whole.shape.iter().product()),
        };
        let ints = |dim: TDim| Fact::new(DatumType::I64, [dim]);
        Ok(vec![Fact::new(whole.datum, shape), ints(found.clone()), ints(slices), ints(found)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let flat = [inputs[0].len()];
        let (shape, at) = match self.axis {
            Some(at) => (inputs[0].shape(), axis(at, inputs[0].rank())?),
            None => (&flat[..], 0),
        };
        let mut slices = vec![Vec::new(); shape[at]];
        walk(shape, |place, along| slices[along[at]].push(place));
        let find = match inputs[0].datum_type() {
            DatumType::F32 => find::<f32>,
            DatumType::F64 => find::<f64>,
            DatumType::I8 => find::<i8>,
            DatumType::I16 => find::<i16>,
            DatumType::I32 => find::<i32>,
            DatumType::I64 => find::<i64>,
            DatumType::U8 => find::<u8>,
            DatumType::U16 => find::<u16>,
            DatumType::U32 => find::<u32>,
            DatumType::U64 => find::<u64>,
            DatumType::Bool => find::<bool>,
            DatumType::String => find::<String>,
            other => bail!("does not take {other:?}"),
        };
        let Found { first, key, counts } = find(inputs[0], &slices, self.is_sorted)?;
        let mut shape = shape.to_vec();
        shape[at] = first.len();
        let steps = strides(inputs[0].shape());
        let mut places = Vec::new();
        walk(&shape, |_, along| {
            let source = |axis: usize| if axis == at { first[along[axis]] } else { along[axis] };
            places.push(match self.axis {
                Some(_) => (0..along.len()).map(|axis| source(axis) * steps[axis]).sum(),
                None => source(0),
            });
        });
        let ints = |numbers: Vec<usize>| -> TractResult<Tensor> {
            let numbers = numbers.into_iter().map(i64::try_from).collect::<Result<Vec<_>, _>>()?;
            Ok(tensor1(&numbers))
        };
        Ok(vec![picked(inputs[0], &places, &shape)?, ints(first)?, ints(key)?, ints(counts)?])
    }
}
