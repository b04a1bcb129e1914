//! How many different unknown categories there were: a HyperLogLog sketch, in Apache DataSketches' serial form.
//!
//! A report carries it as bytes from a device that may be broken or hostile, so only the one shape that [`Unseen`]
//! itself writes is ever decoded.

use datasketches::hll::{HllSketch, HllType, HllUnion};
use serde::{Deserialize, Serialize, de::Error as _};

/// log2 of the registers: 1,024 of 8 bits, at most 5.4 % off in the measurement that chose it.
const LG_K: u8 = 10;
/// Bytes before the registers, and the registers.
const HEADER: usize = 40;
const MAX_BYTES: usize = HEADER + (1 << LG_K);
/// Largest value of a register: 64 hash bits less those that choose it fit in six bits.
const MAX_REGISTER: u8 = 63;

/// Bytes that are no sketch of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes are no sketch of unseen categories")]
pub struct NotASketch;

/// A count of different values that is mergeable and bounded in size.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unseen(Option<Box<HllSketch>>);

impl Unseen {
    /// Counts `value`, unless it was seen before. Allocates at the first value and as the sketch grows to its bound.
    pub fn insert(&mut self, value: &str) {
        self.0.get_or_insert_with(|| Box::new(empty())).update(value);
    }

    /// About how many different values there were; finite.
    pub fn estimate(&self) -> f64 {
        let estimate = self.0.as_ref().map_or(0.0, |sketch| sketch.composite_estimate());
        if estimate.is_finite() { estimate.max(0.0) } else { 0.0 }
    }

    /// Takes in the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.0 else { return };
        let mut union = HllUnion::new(LG_K).expect("invariant: LG_K is within the sketch's limits");
        if let Some(ours) = &self.0 {
            union.update(ours);
        }
        union.update(theirs);
        self.0 = Some(Box::new(union.to_sketch(HllType::Hll8)));
    }

    /// The sketch as bytes; none for no value.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.as_ref().map_or_else(Vec::new, |sketch| sketch.serialize())
    }

    /// The sketch in `bytes`.
    ///
    /// # Errors
    /// Where they were not written by [`Unseen::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotASketch> {
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        if !is_plausible(bytes) {
            return Err(NotASketch);
        }
        let sketch = HllSketch::deserialize(bytes).map_err(|_| NotASketch)?;
        // What the library would write differently it has not written: stray coupons, other lengths, wrong counts.
        if sketch.serialize().len() == bytes.len() { Ok(Self(Some(Box::new(sketch)))) } else { Err(NotASketch) }
    }
}

fn empty() -> HllSketch {
    HllSketch::new(LG_K, HllType::Hll8).expect("invariant: LG_K is within the sketch's limits")
}

/// Whether the header is of our size and kind, and no register is beyond what a hash can reach.
fn is_plausible(bytes: &[u8]) -> bool {
    /// Low bits: 0 list, 1 set, 2 registers; the two above: 2 for eight bits a register.
    const KINDS: [u8; 3] = [0b1000, 0b1001, 0b1010];
    let Some(header) = bytes.first_chunk::<8>() else { return false };
    let is_ours = header[3] == LG_K && KINDS.contains(&(header[7] & 0b1111)) && bytes.len() <= MAX_BYTES;
    let registers = bytes.get(HEADER..).filter(|_| header[7] & 0b11 == 0b10);
    is_ours && registers.is_none_or(|r| r.iter().all(|register| *register <= MAX_REGISTER))
}

impl Serialize for Unseen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Unseen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_bytes(&Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(range: std::ops::Range<u32>) -> Unseen {
        let mut unseen = Unseen::default();
        range.for_each(|i| unseen.insert(&format!("category {i}")));
        unseen
    }

    #[test]
    fn few_are_exact_and_many_are_near() {
        assert_eq!(of(0..0).estimate(), 0.0);
        assert_eq!(of(0..7).estimate().round(), 7.0);
        for many in [500, 5_000, 100_000] {
            let ratio = of(0..many).estimate() / f64::from(many);
            assert!((ratio - 1.0).abs() < 0.1, "{many}: {ratio}");
        }
    }

    #[test]
    fn bytes_are_bounded_and_come_back() {
        for many in [0, 1, 8, 9, 100, 5_000] {
            let unseen = of(0..many);
            let bytes = unseen.to_bytes();
            assert!(bytes.len() <= MAX_BYTES);
            assert_eq!(Unseen::from_bytes(&bytes).unwrap(), unseen, "{many}");
        }
    }

    #[test]
    fn other_sketches_are_refused() {
        let large = HllSketch::new(21, HllType::Hll8).unwrap().serialize();
        let narrow = HllSketch::new(LG_K, HllType::Hll4).unwrap().serialize();
        let mut wild = of(0..5_000).to_bytes();
        wild[HEADER + 5] = 200;
        for bytes in [large, narrow, wild, vec![1; 7], vec![0; 4000]] {
            assert_eq!(Unseen::from_bytes(&bytes), Err(NotASketch));
        }
    }

    proptest! {
        #[test]
        fn the_order_of_merging_does_not_matter(a in 0..400u32, b in 0..400u32, c in 0..2000u32) {
            let parts = [of(0..a), of(100..100 + b), of(50..50 + c)];
            let merged = |order: [usize; 3]| {
                let mut all = Unseen::default();
                order.iter().for_each(|i| all.merge(&parts[*i]));
                all.estimate()
            };
            prop_assert!((merged([0, 1, 2]) - merged([2, 1, 0])).abs() < 1e-6);
            prop_assert!((merged([1, 0, 2]) - merged([2, 0, 1])).abs() < 1e-6);
        }

        #[test]
        fn mutated_bytes_never_panic(many in 0..3_000u32, flips in prop::collection::vec((any::<u16>(), any::<u8>()), 0..6), cut in any::<u16>()) {
            let mut bytes = of(0..many).to_bytes();
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(usize::from(at) % 1100) { *byte = value; }
            }
            if cut.is_multiple_of(3) { bytes.truncate(usize::from(cut)); }
            if let Ok(mut unseen) = Unseen::from_bytes(&bytes) {
                unseen.merge(&of(0..40));
                unseen.insert("one more");
                let mut other = of(0..9_000);
                other.merge(&unseen);
                prop_assert!(unseen.estimate().is_finite() && other.estimate().is_finite());
            }
        }
    }
}
