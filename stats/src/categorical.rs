//! Counts over a categorical feature: what a device keeps of the categories it saw.
//!
//! Known categories are counted exactly; of unknown ones only their number of rows and, roughly, how many different
//! ones there were. An update of a known category allocates nothing.

use serde::{Deserialize, Serialize};

use crate::{
    cells::MAX_CELLS,
    shape::{ShapeMismatch, same},
    unseen::Unseen,
};

/// Why names are no dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DictionaryError {
    /// More than [`MAX_CELLS`] names.
    #[error("a dictionary holds at most {MAX_CELLS} categories")]
    TooMany,
    /// The names are not sorted, or one occurs twice.
    #[error("the categories of a dictionary are not sorted and different")]
    NotSorted,
}

/// The categories that a reference knows, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Dictionary(Vec<String>);

impl Dictionary {
    /// A dictionary of `names`.
    ///
    /// # Errors
    /// Where they are not sorted, not different, or too many.
    pub fn new(names: Vec<String>) -> Result<Self, DictionaryError> {
        if names.len() > MAX_CELLS {
            Err(DictionaryError::TooMany)
        } else if !names.is_sorted_by(|a, b| a < b) {
            Err(DictionaryError::NotSorted)
        } else {
            Ok(Self(names))
        }
    }

    /// The `most` most frequent categories of a sample; the rest are unknown ones. Ties go to the smaller name.
    pub fn of_sample<'a>(values: impl IntoIterator<Item = &'a str>, most: usize) -> Self {
        let mut counts = std::collections::BTreeMap::<&str, u64>::new();
        values.into_iter().for_each(|value| *counts.entry(value).or_default() += 1);
        let mut ranked: Vec<_> = counts.into_iter().collect();
        ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        ranked.truncate(most.min(MAX_CELLS));
        ranked.sort_unstable();
        Self(ranked.into_iter().map(|(name, _)| name.to_owned()).collect())
    }

    /// The place of `name`, if it is known.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|known| known.as_str().cmp(name)).ok()
    }

    /// The names, sorted.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Dictionary {
    type Error = DictionaryError;

    fn try_from(names: Vec<String>) -> Result<Self, DictionaryError> {
        Self::new(names)
    }
}

impl From<Dictionary> for Vec<String> {
    fn from(dictionary: Dictionary) -> Self {
        dictionary.0
    }
}

/// The counts; the same fields as a report's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Categorical {
    /// Values per known category.
    pub counts: Vec<u64>,
    /// Values of no known category.
    pub other: u64,
    /// Values that were absent.
    pub missing: u64,
    /// The unknown ones.
    pub unseen: Unseen,
}

impl Categorical {
    /// Counts of nothing over `categories` categories.
    pub fn empty(categories: usize) -> Self {
        Self { counts: vec![0; categories], ..Self::default() }
    }

    /// Values that were there, known or not.
    pub fn n(&self) -> u64 {
        self.counts.iter().fold(self.other, |sum, count| sum.saturating_add(*count))
    }

    /// Values that were or should have been there.
    pub fn rows(&self) -> u64 {
        self.n().saturating_add(self.missing)
    }

    /// Adds the counts of another window; they saturate.
    ///
    /// # Errors
    /// Where the categories are not as many; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), ShapeMismatch> {
        same("categories", self.counts.len(), other.counts.len())?;
        let totals = [(&mut self.other, other.other), (&mut self.missing, other.missing)];
        let counts = self.counts.iter_mut().zip(other.counts.iter().copied());
        counts.chain(totals).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self.unseen.merge(&other.unseen);
        Ok(())
    }
}

/// A feature's open window on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accumulator {
    dictionary: Dictionary,
    sums: Categorical,
}

impl Accumulator {
    /// An empty window over the categories of `dictionary`.
    pub fn new(dictionary: Dictionary) -> Self {
        let sums = Categorical::empty(dictionary.0.len());
        Self { dictionary, sums }
    }

    /// Folds one value; `None` for one that was absent.
    pub fn update(&mut self, value: Option<&str>) {
        let Some(name) = value else {
            self.sums.missing += 1;
            return;
        };
        match self.dictionary.index(name) {
            Some(index) => self.sums.counts[index] += 1,
            None => {
                self.sums.other += 1;
                self.sums.unseen.insert(name);
            }
        }
    }

    /// The counts so far.
    pub fn sums(&self) -> &Categorical {
        &self.sums
    }

    /// Closes the window and opens the next.
    pub fn take(&mut self) -> Categorical {
        std::mem::replace(&mut self.sums, Categorical::empty(self.dictionary.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(values: &[Option<u8>]) -> Categorical {
        let dictionary = Dictionary::new(vec!["1".into(), "2".into(), "3".into()]).unwrap();
        let mut window = Accumulator::new(dictionary);
        values.iter().for_each(|x| window.update(x.map(|x| x.to_string()).as_deref()));
        window.take()
    }

    #[test]
    fn known_unknown_and_absent_are_counted_apart() {
        let sums = folded(&[Some(1), Some(3), Some(3), Some(9), Some(8), Some(9), None]);
        assert_eq!((sums.counts.as_slice(), sums.other, sums.missing), (&[1, 0, 2][..], 3, 1));
        assert_eq!(sums.unseen.estimate().round(), 2.0);
        assert_eq!((sums.n(), sums.rows()), (6, 7));
    }

    #[test]
    fn a_dictionary_keeps_the_most_frequent_and_refuses_disorder() {
        let dictionary = Dictionary::of_sample(["b", "c", "a", "c", "b", "d"], 3);
        assert_eq!(dictionary.names(), ["a", "b", "c"]);
        assert_eq!(Dictionary::new(vec!["b".into(), "a".into()]), Err(DictionaryError::NotSorted));
        assert_eq!(Dictionary::new(vec!["a".into(), "a".into()]), Err(DictionaryError::NotSorted));
        assert!(serde_json::from_str::<Dictionary>(r#"["b", "a"]"#).is_err());
    }

    fn sum(parts: &[&Categorical]) -> Categorical {
        parts.iter().fold(Categorical::empty(3), |mut all, part| {
            all.merge(part).unwrap();
            all
        })
    }

    /// The sketch's bytes depend on the order of coupons; what it says does not.
    fn facts(sums: &Categorical) -> (Vec<u64>, u64, u64, i64) {
        (sums.counts.clone(), sums.other, sums.missing, (sums.unseen.estimate() * 1e6).round() as i64)
    }

    proptest! {
        #[test]
        fn merging_commutes_associates_and_ignores_order(
            a in prop::collection::vec(prop::option::of(0..30u8), 0..40),
            b in prop::collection::vec(prop::option::of(0..30u8), 0..40),
            c in prop::collection::vec(prop::option::of(0..30u8), 0..40),
        ) {
            let whole: Vec<_> = [&c[..], &b, &a].concat();
            let (a, b, c) = (folded(&a), folded(&b), folded(&c));
            let left = sum(&[&sum(&[&a, &b]), &c]);
            prop_assert_eq!(facts(&left), facts(&sum(&[&a, &sum(&[&c, &b])])));
            prop_assert_eq!(facts(&left), facts(&folded(&whole)));
            let text = serde_json::to_string(&left).unwrap();
            prop_assert_eq!(facts(&serde_json::from_str(&text).unwrap()), facts(&left));
        }
    }
}
