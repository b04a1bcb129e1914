//! What turns words into numbers: `TfIdfVectorizer`, and onnxruntime's `MurmurHash3`. What makes words of texts lies below it.

mod classes;
mod dialect;
mod normalizer;
mod pattern;
mod tokens;

use super::kernel::{Fact, Kernel, expect, one, values};
pub(crate) use normalizer::KEEPS_ROWS;
pub(super) use normalizer::string_normalizer;
use std::collections::HashMap;
pub(super) use tokens::{counted, tokenizer};
use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult, tensor1},
    tract_hir::internal::{TDim, anyhow, bail, ensure},
};

/// What an n-gram that is found adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weighing {
    /// 1.
    Count,
    /// Its weight, however often it is found.
    Presence,
    /// Its weight, each time.
    Product,
}

/// Words or whole numbers that some n-gram knows, by number.
#[derive(Debug)]
enum Vocabulary {
    Words(HashMap<String, u32>),
    Ints(HashMap<i64, u32>),
}

/// Counts the n-grams of rows of words.
#[derive(Debug)]
pub(super) struct TfIdf {
    weighing: Weighing,
    lengths: std::ops::RangeInclusive<usize>,
    skips: usize,
    vocabulary: Vocabulary,
    grams: Grams,
    width: usize,
}

/// The column of each n-gram and its weight.
type Grams = HashMap<Box<[u32]>, (usize, f32)>;

/// The number of a word that no n-gram knows.
const UNKNOWN: u32 = u32::MAX;

/// Most columns, most words of an n-gram, and most words that one may skip.
const MAX_COLUMNS: usize = 1 << 24;
const MAX_LENGTH: usize = 1 << 6;

pub(super) fn tf_idf(node: &NodeProto) -> TractResult<TfIdf> {
    let weighing = match node.get_attr::<&str>("mode")? {
        "TF" => Weighing::Count,
        "IDF" => Weighing::Presence,
        "TFIDF" => Weighing::Product,
        other => bail!("mode `{other}` is not known"),
    };
    let number = |name, least: usize| -> TractResult<usize> {
        let number = node.get_attr::<usize>(name)?;
        ensure!((least..=MAX_LENGTH).contains(&number), "{name} is {number}");
        Ok(number)
    };
    let lengths = number("min_gram_length", 1)?..=number("max_gram_length", 1)?;
    ensure!(!lengths.is_empty(), "min_gram_length is above max_gram_length");
    let skips = number("max_skip_count", 0)?;
    let words = node.get_attr_opt_vec::<String>("pool_strings")?.unwrap_or_default();
    let ints = node.get_attr_opt_vec::<i64>("pool_int64s")?.unwrap_or_default();
    let (vocabulary, pool) = match (words.is_empty(), ints.is_empty()) {
        (false, true) => {
            let (known, pool) = numbered(words)?;
            (Vocabulary::Words(known), pool)
        }
        (true, false) => {
            let (known, pool) = numbered(ints)?;
            (Vocabulary::Ints(known), pool)
        }
        _ => bail!("has n-grams of words or of numbers, one of the two"),
    };
    let indexes = node.get_attr_vec::<usize>("ngram_indexes")?;
    let most = indexes.iter().max().ok_or_else(|| anyhow!("ngram_indexes is empty"))?;
    ensure!(*most < MAX_COLUMNS, "ngram_indexes names column {most}");
    let counts = node.get_attr_vec::<usize>("ngram_counts")?;
    let weights = node.get_attr_opt_vec::<f32>("weights")?.unwrap_or_else(|| vec![1.0; indexes.len()]);
    ensure!(weights.len() == indexes.len(), "has {} weights for {} n-grams", weights.len(), indexes.len());
    let worth: Vec<_> = indexes.iter().copied().zip(weights).collect();
    let grams = grams(&pool, &counts, &worth, &lengths)?;
    Ok(TfIdf { weighing, lengths, skips, vocabulary, grams, width: most + 1 })
}

/// Each word's number, and the pool in numbers.
fn numbered<W: std::hash::Hash + Eq>(pool: Vec<W>) -> TractResult<(HashMap<W, u32>, Vec<u32>)> {
    let mut known = HashMap::new();
    let mut numbers = Vec::with_capacity(pool.len());
    for word in pool {
        let next = u32::try_from(known.len())?;
        numbers.push(*known.entry(word).or_insert(next));
    }
    Ok((known, numbers))
}

/// What each n-gram of the lengths that are counted is `worth`. `starts` says where in the pool those of each length begin.
fn grams(
    pool: &[u32],
    starts: &[usize],
    worth: &[(usize, f32)],
    lengths: &std::ops::RangeInclusive<usize>,
) -> TractResult<Grams> {
    ensure!(lengths.end() <= &starts.len(), "ngram_counts has {} lengths of {}", starts.len(), lengths.end());
    let mut grams = HashMap::new();
    let mut worth = worth.iter();
    for (at, start) in starts.iter().enumerate() {
        let (end, length) = (starts.get(at + 1).copied().unwrap_or(pool.len()), at + 1);
        let part =
            pool.get(*start..end).ok_or_else(|| anyhow!("ngram_counts says {start} and {end}, of {}", pool.len()))?;
        ensure!(part.len() % length == 0, "has {} words in n-grams of {length}", part.len());
        for gram in part.chunks_exact(length) {
            let worth = worth.next().ok_or_else(|| anyhow!("has more n-grams than ngram_indexes"))?;
            if lengths.contains(&length) {
                ensure!(grams.insert(gram.into(), *worth).is_none(), "has an n-gram twice");
            }
        }
    }
    Ok(grams)
}

impl TfIdf {
    /// The number of a word.
    fn number(&self, word: &str) -> u32 {
        match &self.vocabulary {
            Vocabulary::Words(known) => known.get(word).copied().unwrap_or(UNKNOWN),
            Vocabulary::Ints(_) => UNKNOWN,
        }
    }

    /// How far apart two words of one n-gram are at the most.
    fn reach(&self) -> usize {
        (self.lengths.end() - 1) * (self.skips + 1)
    }

    fn numbers(&self, input: &Tensor) -> TractResult<Vec<u32>> {
        Ok(match &self.vocabulary {
            Vocabulary::Words(_) => values::<String>(input)?.iter().map(|word| self.number(word)).collect(),
            Vocabulary::Ints(known) => {
                let ints = input.cast_to::<i64>()?;
                values::<i64>(&ints)?.iter().map(|int| known.get(int).copied().unwrap_or(UNKNOWN)).collect()
            }
        })
    }

    /// Adds up what each n-gram of a row is worth, in the order of onnxruntime: where several share a column, the last one found decides
    /// on its presence.
    fn weigh(&self, row: &[u32], columns: &mut [f32]) {
        let mut gram = Vec::new();
        for step in 1..=self.skips + 1 {
            for start in 0..row.len() {
                for length in self.lengths.clone() {
                    let span = (length - 1) * step;
                    // A single word skips nothing.
                    if start + span >= row.len() || (length == 1 && step > 1) {
                        continue;
                    }
                    gram.clear();
                    gram.extend(row[start..=start + span].iter().step_by(step));
                    let Some((column, weight)) = self.grams.get(&*gram) else { continue };
                    match self.weighing {
                        Weighing::Count => columns[*column] += 1.0,
                        Weighing::Presence => columns[*column] = *weight,
                        Weighing::Product => columns[*column] += weight,
                    }
                }
            }
        }
    }
}

impl Kernel for TfIdf {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = one(inputs)?;
        match self.vocabulary {
            Vocabulary::Words(_) => expect(input, &[DatumType::String])?,
            Vocabulary::Ints(_) => expect(input, &[DatumType::I64, DatumType::I32])?,
        }
        let [rows @ .., _] = &*input.shape else { bail!("takes rows of words") };
        ensure!(rows.len() <= 1, "takes rows of words, got {} dimensions", input.shape.len());
        let shape = rows.iter().cloned().chain([TDim::from(self.width)]);
        Ok(vec![Fact::new(DatumType::F32, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let numbers = self.numbers(inputs[0])?;
        let [rows @ .., words] = inputs[0].shape() else { bail!("takes rows of words") };
        let count = rows.iter().product::<usize>();
        let mut columns = vec![0.0; count * self.width];
        for (at, columns) in columns.chunks_exact_mut(self.width).enumerate() {
            self.weigh(&numbers[at * words..(at + 1) * words], columns);
        }
        let shape: Vec<usize> = rows.iter().copied().chain([self.width]).collect();
        Ok(vec![Tensor::from_shape(&shape, &columns)?])
    }
}

/// Austin Appleby's MurmurHash3 of 32 bits (`MurmurHash3_x86_32`, public domain).
#[derive(Debug)]
pub(super) struct Murmur {
    seed: u32,
    is_positive: bool,
}

pub(super) fn murmur(node: &NodeProto) -> TractResult<Murmur> {
    let seed = node.get_attr_opt::<i64>("seed")?.unwrap_or(0);
    let seed = u32::try_from(seed).or_else(|_| i32::try_from(seed).map(i32::cast_unsigned));
    let seed = seed.map_err(|_| anyhow!("has a seed of more than 32 bits"))?;
    Ok(Murmur { seed, is_positive: node.get_attr_opt::<i64>("positive")?.unwrap_or(1) != 0 })
}

fn hash(bytes: &[u8], seed: u32) -> u32 {
    let scrambled = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, rest) = bytes.as_chunks::<4>();
    let mut state = seed;
    for block in blocks {
        state ^= scrambled(u32::from_le_bytes(*block));
        state = state.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !rest.is_empty() {
        state ^= scrambled(rest.iter().rev().fold(0, |block, byte| block << 8 | u32::from(*byte)));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the hash takes the length in 32 bits")]
    let mut state = state ^ bytes.len() as u32;
    state = (state ^ (state >> 16)).wrapping_mul(0x85eb_ca6b);
    state = (state ^ (state >> 13)).wrapping_mul(0xc2b2_ae35);
    state ^ (state >> 16)
}

impl Kernel for Murmur {
    fn name(&self) -> &'static str {
        "MurmurHash3"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        use DatumType::{F32, F64, I32, I64, String, U32, U64};
        let input = one(inputs)?;
        expect(input, &[String, I32, U32, I64, U64, F32, F64])?;
        Ok(vec![Fact::new(if self.is_positive { U32 } else { I32 }, input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        macro_rules! hashes {
            ($type:ty) => {
                values::<$type>(inputs[0])?.iter().map(|value| hash(&value.to_le_bytes(), self.seed)).collect()
            };
        }
        let hashes: Vec<u32> = match inputs[0].datum_type() {
            DatumType::String => {
                values::<String>(inputs[0])?.iter().map(|word| hash(word.as_bytes(), self.seed)).collect()
            }
            DatumType::I32 => hashes!(i32),
            DatumType::U32 => hashes!(u32),
            DatumType::I64 => hashes!(i64),
            DatumType::U64 => hashes!(u64),
            DatumType::F32 => hashes!(f32),
            DatumType::F64 => hashes!(f64),
            other => bail!("does not take {other:?}"),
        };
        let hashes = if self.is_positive {
            tensor1(&hashes)
        } else {
            tensor1(&hashes.into_iter().map(u32::cast_signed).collect::<Vec<_>>())
        };
        Ok(vec![hashes.into_shape(inputs[0].shape())?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_published_ones() {
        // The verification values of the reference implementation's own documents.
        assert_eq!(hash(b"", 0), 0);
        assert_eq!(hash(b"", 1), 0x514e_28b7);
        assert_eq!(hash(b"test", 0), 0xba6b_d213);
        assert_eq!(hash(b"Hello, world!", 0), 0xc036_3e43);
    }
}
