//! Hard rules: shares beyond the baseline's own worst. They answer within one window and claim no probability.

use serde::{Deserialize, Serialize};

use crate::window::Sums;

/// What a missing, out-of-range or unknown share may exceed the baseline's worst by (the notes' measured choice).
const MARGIN: f64 = 0.10;
/// The same for the flat share, which coarse sensors vary more in.
const FLAT_MARGIN: f64 = 0.30;
/// Where the baseline was this flat already, nothing can be flatter by the margin: the rule is off.
const FLAT_OFF: f64 = 0.69;
/// A window with a smaller share than this of the baseline's median rows is not judged: one value would be a share.
const MIN_SHARE_OF_ROWS: f64 = 0.25;

/// The largest shares that any full window of the baseline had.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of missing, NaN or infinite values.
    pub missing: f64,
    /// Of equal neighbours.
    pub flat: f64,
    /// Of values out of range.
    pub out: f64,
    /// Of values of no known category.
    pub unknown: f64,
}

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Too many values are missing, NaN or infinite.
    Missing,
    /// Too many neighbours are equal: the sensor is stuck.
    Flat,
    /// Too many values lie far outside the reference's range.
    OutOfRange,
    /// Too many values are of no known category.
    UnknownCategory,
}

/// A share beyond its limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// Which rule.
    pub rule: Rule,
    /// The share of the window.
    pub share: f64,
    /// What it may be at most.
    pub limit: f64,
}

impl Limits {
    /// The worst of a baseline whose median window holds `rows` values.
    pub(crate) fn of(column: &[&Sums], rows: f64) -> Self {
        let mut worst = Self::default();
        for sums in column.iter().filter(|sums| is_judged(sums, rows)) {
            shares(sums).for_each(|(rule, share)| worst.raise(rule, share));
        }
        worst
    }

    pub(crate) fn is_sound(&self) -> bool {
        [self.missing, self.flat, self.out, self.unknown].iter().all(|share| (0.0..=1.0).contains(share))
    }

    fn raise(&mut self, rule: Rule, share: f64) {
        let worst = match rule {
            Rule::Missing => &mut self.missing,
            Rule::Flat => &mut self.flat,
            Rule::OutOfRange => &mut self.out,
            Rule::UnknownCategory => &mut self.unknown,
        };
        *worst = worst.max(share);
    }

    /// The largest share that `rule` allows; none where it is off.
    pub fn limit(&self, rule: Rule) -> Option<f64> {
        match rule {
            Rule::Missing => Some(self.missing + MARGIN),
            Rule::Flat => (self.flat <= FLAT_OFF).then_some(self.flat + FLAT_MARGIN),
            Rule::OutOfRange => Some(self.out + MARGIN),
            Rule::UnknownCategory => Some(self.unknown + MARGIN),
        }
    }
}

/// The rules that a window breaks, against the worst of a baseline whose median window held `rows` values.
pub fn check(limits: &Limits, rows: f64, sums: &Sums) -> Vec<Breach> {
    if !is_judged(sums, rows) {
        return Vec::new();
    }
    let breach = |(rule, share)| {
        let limit = limits.limit(rule).filter(|limit| share > *limit)?;
        Some(Breach { rule, share, limit })
    };
    shares(sums).filter_map(breach).collect()
}

fn is_judged(sums: &Sums, rows: f64) -> bool {
    let seen = sums.rows() as f64;
    seen > 0.0 && seen >= MIN_SHARE_OF_ROWS * rows
}

fn shares(sums: &Sums) -> impl Iterator<Item = (Rule, f64)> {
    let missing = (Rule::Missing, sums.absent(), sums.rows());
    let rest = match sums {
        Sums::Numeric(s) => [Some((Rule::Flat, s.flat, s.nd)), Some((Rule::OutOfRange, s.out, s.n))],
        Sums::Categorical(s) => [Some((Rule::UnknownCategory, s.other, s.n())), None],
    };
    let all = [Some(missing)].into_iter().chain(rest).flatten();
    all.filter(|(_, _, of)| *of > 0).map(|(rule, count, of)| (rule, count as f64 / of as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{categorical::Categorical, numeric::Numeric};

    fn numeric(missing: u64, out: u64, flat: u64) -> Sums {
        let n = 100 - missing;
        Sums::Numeric(Numeric { cells: vec![n], n, missing, out, nd: 99, flat, ..Numeric::default() })
    }

    fn broken(limits: Limits, sums: &Sums) -> Vec<Rule> {
        check(&limits, 100.0, sums).into_iter().map(|breach| breach.rule).collect()
    }

    #[test]
    fn each_rule_answers_beyond_the_baselines_worst_and_its_margin() {
        let baseline = [numeric(0, 1, 3), numeric(5, 0, 10)];
        let limits = Limits::of(&baseline.iter().collect::<Vec<_>>(), 100.0);
        assert_eq!(limits, Limits { missing: 0.05, flat: 10.0 / 99.0, out: 0.01, unknown: 0.0 });
        assert_eq!(broken(limits, &numeric(15, 0, 39)), []);
        assert_eq!(broken(limits, &numeric(16, 0, 0)), [Rule::Missing]);
        assert_eq!(broken(limits, &numeric(0, 12, 40)), [Rule::Flat, Rule::OutOfRange]);
        let unknown = Sums::Categorical(Categorical { counts: vec![80], other: 20, ..Categorical::default() });
        assert_eq!(broken(limits, &unknown), [Rule::UnknownCategory]);
    }

    #[test]
    fn a_baseline_that_is_flat_itself_turns_the_rule_off() {
        let limits = Limits { flat: 0.7, ..Limits::default() };
        assert_eq!(broken(limits, &numeric(0, 0, 99)), []);
        assert_eq!(broken(Limits { flat: 0.69, ..limits }, &numeric(0, 0, 99)), [Rule::Flat]);
    }

    #[test]
    fn a_handful_of_values_is_not_judged() {
        let few = Sums::Numeric(Numeric { cells: vec![0], missing: 24, ..Numeric::default() });
        assert_eq!(check(&Limits::default(), 100.0, &few), []);
        assert_eq!(check(&Limits::default(), 0.0, &Sums::Numeric(Numeric::empty(1))), []);
    }
}
