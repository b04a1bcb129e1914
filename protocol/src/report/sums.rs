//! From the sums that devices keep and detectors read (`tern_stats`) to those of a report, and back.
//!
//! The wire's types are frozen, the others are not; this is the one place where they meet.

use tern_stats::{categorical, labels::Labels, latency, numeric, unseen, window};

use super::v1::{Categorical, Feature, Feedback, Numeric, Window};

/// Sketches in a report that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a report holds bytes that are no sketch")]
pub struct NotSums;

impl From<numeric::Numeric> for Numeric {
    fn from(s: numeric::Numeric) -> Self {
        let numeric::Numeric { cells, n, missing, nan, out, s1, s2, sd_sum, nd, flat } = s;
        Self { cells, n, missing, nan, out, s1, s2, sd_sum, nd, flat }
    }
}

impl From<Numeric> for numeric::Numeric {
    fn from(s: Numeric) -> Self {
        let Numeric { cells, n, missing, nan, out, s1, s2, sd_sum, nd, flat } = s;
        Self { cells, n, missing, nan, out, s1, s2, sd_sum, nd, flat }
    }
}

impl From<window::Sums> for Feature {
    fn from(sums: window::Sums) -> Self {
        match sums {
            window::Sums::Numeric(sums) => Self::Numeric(sums.into()),
            window::Sums::Categorical(sums) => Self::Categorical(Categorical {
                unseen: sums.unseen.to_bytes(),
                counts: sums.counts,
                other: sums.other,
                missing: sums.missing,
            }),
        }
    }
}

impl TryFrom<&Feature> for window::Sums {
    type Error = NotSums;

    fn try_from(feature: &Feature) -> Result<Self, NotSums> {
        Ok(match feature {
            Feature::Numeric(sums) => Self::Numeric(sums.clone().into()),
            Feature::Categorical(sums) => Self::Categorical(categorical::Categorical {
                counts: sums.counts.clone(),
                other: sums.other,
                missing: sums.missing,
                unseen: unseen::Unseen::from_bytes(&sums.unseen).map_err(|_| NotSums)?,
            }),
        })
    }
}

impl From<Labels> for Feedback {
    fn from(labels: Labels) -> Self {
        Self { n: labels.n, errors: labels.errors }
    }
}

impl From<Feedback> for Labels {
    fn from(feedback: Feedback) -> Self {
        Self { n: feedback.n, errors: feedback.errors }
    }
}

impl Window {
    /// What the detectors need of the window.
    ///
    /// # Errors
    /// Where a sketch of unseen categories is none.
    pub fn sums(&self) -> Result<window::Window, NotSums> {
        let side = |features: &[Feature]| features.iter().map(window::Sums::try_from).collect::<Result<_, _>>();
        Ok(window::Window {
            rows: self.rows,
            features: side(&self.features)?,
            outputs: side(&self.outputs)?,
            confidence: self.confidence.clone(),
            labels: self.feedback.iter().map(|f| (*f).into()).collect(),
        })
    }

    /// The latencies of the window.
    ///
    /// # Errors
    /// Where the sketch is none.
    pub fn latencies(&self) -> Result<latency::Latency, NotSums> {
        latency::Latency::from_bytes(&self.latency).map_err(|_| NotSums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_survive_the_way_there_and_back() {
        let numbers = numeric::Numeric { cells: vec![1, 2], n: 3, s1: 0.5, nd: 2, flat: 1, ..Default::default() };
        let mut names = categorical::Categorical { counts: vec![4], other: 1, ..Default::default() };
        names.unseen.insert("new");
        for sums in [window::Sums::Numeric(numbers), window::Sums::Categorical(names)] {
            assert_eq!(window::Sums::try_from(&Feature::from(sums.clone())), Ok(sums));
        }
        let broken = Feature::Categorical(Categorical { unseen: vec![1, 2, 3], ..Default::default() });
        assert_eq!(window::Sums::try_from(&broken), Err(NotSums));
    }
}
