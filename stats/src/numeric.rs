//! Sums over a numeric feature: what a device keeps of the values it saw.
//!
//! No value itself is kept but the last one, for the sequence terms; it carries across windows and must be dropped by
//! [`Accumulator::break_sequence`] at a gap, a boot, or a change of version. An update allocates nothing.

use serde::{Deserialize, Serialize};

use crate::{
    cells::{CELLS, Edges},
    math,
    shape::{ShapeMismatch, same},
};

/// Standardised values are clipped here before they are summed, so that one wild value cannot carry a window; wide
/// enough that a unit change (measured on x1.8+32) still moves the mean far.
pub const CLIP: f64 = 8.0;
/// Differences between neighbours are clipped here, for the same reason.
pub const DIFFERENCE_CLIP: f64 = 6.0;
/// A value is out of range beyond the reference's range widened by this share of it on both sides.
pub const RANGE_MARGIN: f64 = 0.25;
/// A standard deviation of less than this share of the values is their rounding: ten thousand times that of a 64-bit float.
const ROUNDING: f64 = 1e-12;

/// What a device needs to know of a reference to count against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ruler {
    /// Edges of the cells.
    pub edges: Edges,
    /// Median of the reference.
    pub median: f64,
    /// Its standard deviation; above 0.
    pub sd: f64,
    /// Its smallest value.
    pub min: f64,
    /// Its largest value.
    pub max: f64,
}

impl Ruler {
    /// The ruler of a sample, in any order; `None` where no value is finite.
    ///
    /// The standard deviation is that of the values clipped to their 0.1 and 99.9 percentiles, so that a rare error
    /// code (-9999) cannot set the scale. A constant gets a millionth of its size: any change of it is then large. What varies by
    /// more than rounding is none, however large it is.
    pub fn of_sample(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let last = sorted.len() - 1;
        let (low, high) = (sorted[last / 1000], sorted[last - last / 1000]);
        // Relative to `low`: sums of large numbers with small differences would lose the differences.
        let count = sorted.len() as f64;
        let shifted = || sorted.iter().map(|x| (x.clamp(low, high) - low).min(f64::MAX.sqrt() / 2.0));
        let mean = shifted().sum::<f64>() / count;
        let sd = (shifted().map(|x| (x - mean).powi(2) / count).sum::<f64>()).sqrt();
        let edges = Edges::of_sample(&sorted, CELLS);
        let median = math::median(&mut sorted)?;
        let is_constant = sd <= median.abs() * ROUNDING;
        let sd = math::rounded(if is_constant { median.abs() * 1e-6 } else { sd }.max(1e-9), 6);
        Some(Self { edges, median, sd, min, max })
    }

    /// Whether the numbers are such that counting against them makes sense.
    pub fn is_sound(&self) -> bool {
        [self.median, self.sd, self.min, self.max].iter().all(|x| x.is_finite())
            && self.sd > 0.0
            // What is counted is a multiple of it, and of infinity nothing is.
            && self.sd.recip().is_finite()
            && self.min <= self.max
    }
}

/// The sums; the same fields as a report's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Numeric {
    /// Values per cell.
    pub cells: Vec<u64>,
    /// Values counted: neither missing nor NaN.
    pub n: u64,
    /// Values that were absent.
    pub missing: u64,
    /// Values that were NaN or infinite.
    pub nan: u64,
    /// Values out of range, see [`RANGE_MARGIN`].
    pub out: u64,
    /// Sum of `clip((x - median) / sd, ±8)`.
    pub s1: f64,
    /// Sum of the squares of the same.
    pub s2: f64,
    /// Sum of `min(|x - last| / sd, 6)` over neighbours.
    pub sd_sum: f64,
    /// How many neighbours.
    pub nd: u64,
    /// How many of them were equal.
    pub flat: u64,
}

impl Numeric {
    /// Sums of nothing over `cells` cells.
    pub fn empty(cells: usize) -> Self {
        Self { cells: vec![0; cells], ..Self::default() }
    }

    /// Values that were or should have been there.
    pub fn rows(&self) -> u64 {
        self.n.saturating_add(self.absent())
    }

    /// Values that cannot be used: missing, NaN or infinite.
    pub fn absent(&self) -> u64 {
        self.missing.saturating_add(self.nan)
    }

    /// Adds the sums of another window; counts saturate.
    ///
    /// # Errors
    /// Where the cells are not as many; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), ShapeMismatch> {
        same("cells", self.cells.len(), other.cells.len())?;
        let counts = [
            (&mut self.n, other.n),
            (&mut self.missing, other.missing),
            (&mut self.nan, other.nan),
            (&mut self.out, other.out),
            (&mut self.nd, other.nd),
            (&mut self.flat, other.flat),
        ];
        let cells = self.cells.iter_mut().zip(other.cells.iter().copied());
        counts.into_iter().chain(cells).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self.s1 += other.s1;
        self.s2 += other.s2;
        self.sd_sum += other.sd_sum;
        Ok(())
    }
}

/// A feature's open window on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Accumulator {
    ruler: Ruler,
    sums: Numeric,
    last: Option<f64>,
    /// Of the ruler, worked out once: updates are on the device's hot path.
    per_sd: f64,
    low: f64,
    high: f64,
}

/// An [`Accumulator`] as it is written down.
#[derive(Serialize, Deserialize)]
struct Saved {
    ruler: Ruler,
    sums: Numeric,
    last: Option<f64>,
}

impl From<Saved> for Accumulator {
    fn from(saved: Saved) -> Self {
        let mut window = Self::new(saved.ruler);
        // Sums over other cells belong to another ruler: start again rather than count past their end.
        if window.sums.cells.len() == saved.sums.cells.len() {
            (window.sums, window.last) = (saved.sums, saved.last);
        }
        window
    }
}

impl From<Accumulator> for Saved {
    fn from(window: Accumulator) -> Self {
        Self { ruler: window.ruler, sums: window.sums, last: window.last }
    }
}

impl Accumulator {
    /// An empty window measured by `ruler`.
    pub fn new(ruler: Ruler) -> Self {
        let margin = RANGE_MARGIN * (ruler.max - ruler.min);
        Self {
            sums: Numeric::empty(ruler.edges.cells()),
            last: None,
            per_sd: 1.0 / ruler.sd,
            low: ruler.min - margin,
            high: ruler.max + margin,
            ruler,
        }
    }

    /// Folds one value; `None` for one that was absent. Neither an absent value nor a NaN has a next neighbour.
    pub fn update(&mut self, value: Option<f64>) {
        let sums = &mut self.sums;
        let Some(x) = value.filter(|x| x.is_finite()) else {
            *if value.is_none() { &mut sums.missing } else { &mut sums.nan } += 1;
            self.last = None;
            return;
        };
        let z = ((x - self.ruler.median) * self.per_sd).clamp(-CLIP, CLIP);
        sums.cells[self.ruler.edges.index(x)] += 1;
        sums.n += 1;
        sums.out += u64::from(!((self.low <= x) & (x <= self.high)));
        sums.s1 += z;
        sums.s2 += z * z;
        if let Some(last) = self.last.replace(x) {
            sums.sd_sum += ((x - last).abs() * self.per_sd).min(DIFFERENCE_CLIP);
            sums.nd += 1;
            sums.flat += u64::from(x == last);
        }
    }

    /// Forgets the last value: what comes next is no neighbour of what came before.
    pub fn break_sequence(&mut self) {
        self.last = None;
    }

    /// The sums so far.
    pub fn sums(&self) -> &Numeric {
        &self.sums
    }

    /// Closes the window and opens the next, which goes on from the last value.
    pub fn take(&mut self) -> Numeric {
        std::mem::replace(&mut self.sums, Numeric::empty(self.ruler.edges.cells()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ruler() -> Ruler {
        let edges = Edges::new(vec![-1.0, 0.0, 1.0]).unwrap();
        Ruler { edges, median: 0.0, sd: 2.0, min: -4.0, max: 4.0 }
    }

    fn folded(values: &[Option<f64>]) -> Numeric {
        let mut window = Accumulator::new(ruler());
        values.iter().for_each(|x| window.update(*x));
        window.take()
    }

    #[test]
    fn every_field_counts_what_it_says() {
        let sums = folded(&[Some(0.0), Some(0.0), Some(100.0), None, Some(2.0), Some(f64::NAN), Some(-1.5)]);
        assert_eq!(sums.cells, [1, 0, 2, 2]);
        assert_eq!((sums.n, sums.missing, sums.nan, sums.out), (5, 1, 1, 1));
        assert_eq!((sums.s1, sums.s2), (8.0 + 1.0 - 0.75, 64.0 + 1.0 + 0.5625));
        assert_eq!((sums.nd, sums.flat, sums.sd_sum), (2, 1, 6.0), "no neighbour across an absent value or a NaN");
    }

    #[test]
    fn the_last_value_carries_across_windows_unless_broken() {
        let mut window = Accumulator::new(ruler());
        window.update(Some(1.0));
        window.take();
        window.update(Some(1.0));
        assert_eq!(window.take().flat, 1);
        window.break_sequence();
        window.update(Some(1.0));
        assert_eq!(window.take().nd, 0);
    }

    #[test]
    fn extreme_values_leave_the_sums_finite() {
        let sums = folded(&[Some(f64::MAX), Some(f64::MIN), Some(f64::INFINITY), Some(f64::MIN_POSITIVE)]);
        assert!(sums.s1.is_finite() && sums.s2.is_finite() && sums.sd_sum.is_finite());
        assert_eq!(sums.nan, 1);
        for values in [&[f64::MAX, f64::MIN][..], &[5.0; 4], &[1e300, 1e-300, 0.0]] {
            assert!(Ruler::of_sample(values).unwrap().is_sound(), "{values:?}");
        }
        assert_eq!(Ruler::of_sample(&[f64::NAN]), None);
    }

    #[test]
    fn a_scale_too_fine_to_count_by_is_unsound() {
        for (sd, is_sound) in [(5e-324, false), (0.0, false), (f64::MIN_POSITIVE, true), (f64::MAX, true)] {
            assert_eq!(Ruler { sd, ..ruler() }.is_sound(), is_sound, "{sd}");
        }
        let mut finest = Accumulator::new(Ruler { sd: f64::MIN_POSITIVE, ..ruler() });
        [0.0, 0.0, f64::MAX].iter().for_each(|x| finest.update(Some(*x)));
        let sums = finest.take();
        assert_eq!((sums.s1, sums.sd_sum, sums.flat), (8.0, 6.0, 1));
    }

    #[test]
    fn the_scale_is_the_spread_at_any_level_and_a_constants_is_a_millionth() {
        let noise = |i: u32| f64::from(i * 37 % 101) / 50.0 - 1.0;
        let at = |level: f64, spread: f64| {
            Ruler::of_sample(&(0..1010).map(|i| level + spread * noise(i)).collect::<Vec<_>>()).unwrap().sd
        };
        for level in [1e6, 1e7, -1e9] {
            assert!((at(level, 1.0) - at(0.0, 1.0)).abs() < 1e-5, "{level}: {}", at(level, 1.0));
            assert_eq!((at(level, 0.0), at(level, level * 1e-15)), (level.abs() * 1e-6, level.abs() * 1e-6));
        }
    }

    #[test]
    fn a_rare_error_code_does_not_set_the_scale() {
        let mut values: Vec<f64> = (0..5000).map(|i| f64::from(i % 100)).collect();
        values[7] = -99_999.0;
        let ruler = Ruler::of_sample(&values).unwrap();
        assert!((ruler.sd - 28.9).abs() < 0.2, "{}", ruler.sd);
    }

    #[test]
    fn unlike_windows_do_not_merge() {
        let mut sums = Numeric::empty(4);
        let untouched = sums.clone();
        assert_eq!(sums.merge(&Numeric::empty(5)).unwrap_err().found, 5);
        assert_eq!(sums, untouched);
    }

    fn values() -> impl Strategy<Value = Vec<Option<f64>>> {
        let value = prop_oneof![8 => (-20.0..20.0f64).prop_map(Some), 1 => Just(None), 1 => Just(Some(f64::NAN))];
        prop::collection::vec(value, 0..60)
    }

    fn close(a: &Numeric, b: &Numeric) -> bool {
        let near = |x: f64, y: f64| (x - y).abs() <= 1e-9 * (1.0 + x.abs());
        let sums = |w: &Numeric| (w.cells.clone(), w.n, w.missing, w.nan, w.out, w.nd, w.flat);
        sums(a) == sums(b) && near(a.s1, b.s1) && near(a.s2, b.s2) && near(a.sd_sum, b.sd_sum)
    }

    fn sum(parts: &[&Numeric]) -> Numeric {
        parts.iter().fold(Numeric::empty(4), |mut all, part| {
            all.merge(part).unwrap();
            all
        })
    }

    proptest! {
        #[test]
        fn merging_commutes_and_associates(a in values(), b in values(), c in values()) {
            let (a, b, c) = (folded(&a), folded(&b), folded(&c));
            prop_assert_eq!(sum(&[&a, &b]), sum(&[&b, &a]));
            prop_assert!(close(&sum(&[&sum(&[&a, &b]), &c]), &sum(&[&a, &sum(&[&b, &c])])));
        }

        #[test]
        fn splitting_a_window_loses_nothing(values in values(), at in 0..60usize) {
            let at = at.min(values.len());
            let mut window = Accumulator::new(ruler());
            values[..at].iter().for_each(|x| window.update(*x));
            let first = window.take();
            values[at..].iter().for_each(|x| window.update(*x));
            prop_assert!(close(&sum(&[&first, &window.take()]), &folded(&values)));
        }

        #[test]
        fn order_matters_to_the_sequence_terms_only(values in values()) {
            let reversed: Vec<_> = values.iter().rev().copied().collect();
            let strip = |w: Numeric| Numeric { sd_sum: 0.0, nd: 0, flat: 0, ..w };
            prop_assert!(close(&strip(folded(&values)), &strip(folded(&reversed))));
        }

        #[test]
        fn an_open_window_survives_being_written_down(values in values()) {
            let mut window = Accumulator::new(ruler());
            values.iter().for_each(|x| window.update(*x));
            let text = serde_json::to_string(&window).unwrap();
            prop_assert_eq!(serde_json::from_str::<Accumulator>(&text).unwrap(), window);
        }
    }
}
