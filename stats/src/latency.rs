//! How long inferences take: a KLL sketch of microseconds, in Apache DataSketches' serial form.
//!
//! The sketch tosses coins when it compacts (Karnin, Lang and Liberty 2016), so two runs over one stream may differ
//! within its rank error. It informs people and budgets; no detector's evidence rests on it.

use datasketches::{
    common::SearchCriteria,
    kll::{KllFloat, KllSketch, SortedView},
};
use serde::{Deserialize, Serialize, de::Error as _};

/// The sketch's size: a measured rank error of at most 0.8 % in 2.4 kB at 100,000 values.
const K: u16 = 200;
/// Longest serial form that is read: far beyond K = 200 at any count, far below harm.
const MAX_BYTES: usize = 16 << 10;

/// Bytes that are no sketch of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes are no latency sketch")]
pub struct NotASketch;

/// A distribution of latencies that is mergeable and bounded in size.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency(KllSketch<KllFloat<f32>>);

impl Default for Latency {
    fn default() -> Self {
        Self(KllSketch::new(K).expect("invariant: K is within the sketch's limits"))
    }
}

impl Latency {
    /// Takes in one inference of `microseconds`; a NaN is ignored, a negative number is 0.
    pub fn record(&mut self, microseconds: f32) {
        if let Ok(value) = KllFloat::<f32>::new(microseconds.clamp(0.0, f32::MAX)) {
            self.0.update(value);
        }
    }

    /// How many inferences there were.
    pub fn count(&self) -> u64 {
        self.0.n()
    }

    /// The latency in microseconds that a share `rank` of the inferences stays within; `None` of nothing.
    pub fn quantile(&self, rank: f64) -> Option<f32> {
        let quantile = self.0.quantile(rank.clamp(0.0, 1.0), SearchCriteria::Inclusive).ok()??;
        Some(quantile.into_inner())
    }

    /// Takes in the inferences of `other`; past 2^64 of them it stays as it is.
    pub fn merge(&mut self, other: &Self) {
        // The one error of the library is that overflow; the sketch is untouched then.
        let _ = self.0.merge(&other.0);
    }

    /// The latency in microseconds that a share `rank` of the inferences in all `parts` stays within; `None` of nothing.
    ///
    /// The same parts give the same answer each time, which merging them does not: that tosses coins.
    pub fn quantile_over(parts: &[Self], rank: f64) -> Option<f32> {
        let views: Vec<_> = parts.iter().map(|part| part.0.sorted_view()).filter(|view| !view.is_empty()).collect();
        let total: f64 = views.iter().map(|view| view.total_weight() as f64).sum();
        let wanted = (rank.clamp(0.0, 1.0) * total).ceil();
        let within = |bits: u32| {
            let Ok(value) = KllFloat::<f32>::new(f32::from_bits(bits)) else { return true };
            let of = |view: &SortedView<_>| {
                let share = view.rank(&value, SearchCriteria::Inclusive).unwrap_or(0.0);
                // Whole inferences: the rank is their number over the weight.
                (share * view.total_weight() as f64).round()
            };
            views.iter().map(of).sum::<f64>() >= wanted
        };
        // Floats that are not negative are in the order of their bits: the first that is enough is one of the items.
        let (mut low, mut high) = (0, f32::MAX.to_bits());
        while low < high {
            let middle = low + (high - low) / 2;
            if within(middle) { high = middle } else { low = middle + 1 }
        }
        (!views.is_empty()).then(|| f32::from_bits(low))
    }

    /// The sketch as bytes; none for no inference.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.0.is_empty() { Vec::new() } else { self.0.serialize() }
    }

    /// The sketch in `bytes`.
    ///
    /// # Errors
    /// Where they are no sketch of this size, or hold what is no latency.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotASketch> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if bytes.len() > MAX_BYTES {
            return Err(NotASketch);
        }
        let sketch = KllSketch::<KllFloat<f32>>::deserialize(bytes).map_err(|_| NotASketch)?;
        let in_range = |item: Option<&KllFloat<f32>>| item.is_some_and(|x| (0.0..=f32::MAX).contains(&x.into_inner()));
        let is_ours = sketch.k() == K && in_range(sketch.min_item()) && in_range(sketch.max_item());
        if is_ours { Ok(Self(sketch)) } else { Err(NotASketch) }
    }
}

impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_bytes(&Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(range: std::ops::Range<u32>) -> Latency {
        let mut latency = Latency::default();
        range.for_each(|i| latency.record((i * 7919 % 10_007) as f32));
        latency
    }

    #[test]
    fn quantiles_are_near_and_merging_keeps_the_count() {
        let mut latency = of(0..5_000);
        latency.merge(&of(5_000..10_007));
        assert_eq!(latency.count(), 10_007);
        for rank in [0.01, 0.5, 0.95, 0.99] {
            let found = f64::from(latency.quantile(rank).unwrap()) / 10_007.0;
            assert!((found - rank).abs() < 0.04, "{rank}: {found}");
        }
    }

    #[test]
    fn a_quantile_over_parts_is_that_of_one_and_the_same_each_time() {
        let whole = of(0..5_000);
        let parts = [of(0..700), Latency::default(), of(700..9_000), of(9_000..10_007)];
        for rank in [0.01, 0.5, 0.95, 0.99] {
            assert_eq!(Latency::quantile_over(std::slice::from_ref(&whole), rank), whole.quantile(rank), "{rank}");
            let found = Latency::quantile_over(&parts, rank);
            assert_eq!(found, Latency::quantile_over(&parts, rank));
            assert!((f64::from(found.unwrap()) / 10_007.0 - rank).abs() < 0.04, "{rank}: {found:?}");
        }
        let [mut few, mut more] = [Latency::default(), Latency::default()];
        few.record(9.0);
        [1.0, 2.0, 3.0].into_iter().for_each(|value| more.record(value));
        let exact = [0.25, 0.5, 0.75, 1.0].map(|rank| Latency::quantile_over(&[few.clone(), more.clone()], rank));
        assert_eq!(exact, [1.0, 2.0, 3.0, 9.0].map(Some));
        assert_eq!(Latency::quantile_over(&[Latency::default()], 0.5), None);
        assert_eq!(Latency::quantile_over(&[], 0.5), None);
    }

    #[test]
    fn nothing_nan_and_negative() {
        let mut latency = Latency::default();
        assert_eq!((latency.quantile(0.5), latency.to_bytes()), (None, vec![]));
        latency.record(f32::NAN);
        latency.record(-3.0);
        assert_eq!((latency.count(), latency.quantile(0.5)), (1, Some(0.0)));
    }

    #[test]
    fn foreign_sketches_are_refused() {
        let mut other = KllSketch::<KllFloat<f32>>::new(4000).unwrap();
        other.update(KllFloat::<f32>::new(1.0).unwrap());
        let mut negative = KllSketch::<KllFloat<f32>>::new(K).unwrap();
        negative.update(KllFloat::<f32>::new(-1.0).unwrap());
        for bytes in [other.serialize(), negative.serialize(), vec![9; 40], vec![0; MAX_BYTES + 1]] {
            assert_eq!(Latency::from_bytes(&bytes), Err(NotASketch));
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back_and_mutated_ones_never_panic(
            n in 0..20_000u32,
            flips in prop::collection::vec((any::<u16>(), any::<u8>()), 0..6),
        ) {
            let latency = of(0..n);
            let mut bytes = latency.to_bytes();
            prop_assert_eq!(&Latency::from_bytes(&bytes).unwrap(), &latency);
            let length = bytes.len();
            for (at, value) in flips {
                if length > 0 { bytes[usize::from(at) % length] = value; }
            }
            if let Ok(mut mutated) = Latency::from_bytes(&bytes) {
                mutated.merge(&latency);
                mutated.record(1.0);
                prop_assert!(mutated.quantile(0.95).is_some());
            }
        }
    }
}
