//! What the cameras know: by phase and device, how many images were shown, answered, and read right, labelled or not.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts of one device in one phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Images that were answered.
    pub answered: u64,
    /// How many of them were read right.
    pub correct: u64,
    /// Answers whose probabilities are no numbers.
    pub unsure: u64,
    /// Images without an answer.
    pub failed: u64,
    /// Answers by version.
    pub versions: BTreeMap<String, u64>,
    /// Labels that the device took.
    pub labels: u64,
    /// Labels that it did not know the request of, any more or ever.
    pub refused_labels: u64,
    /// Labels given up: too many waited, or the play ended first.
    pub lost_labels: u64,
}

impl Tally {
    /// Share of the answers that were right; none without answers.
    pub fn accuracy(&self) -> Option<f64> {
        (self.answered > 0).then(|| self.correct as f64 / self.answered as f64)
    }

    /// Adds another device's or phase's counts.
    pub fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.correct += other.correct;
        self.unsure += other.unsure;
        self.failed += other.failed;
        self.labels += other.labels;
        self.refused_labels += other.refused_labels;
        self.lost_labels += other.lost_labels;
        for (version, count) in &other.versions {
            *self.versions.entry(version.clone()).or_default() += count;
        }
    }
}

/// The counts of a whole play.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Score(pub BTreeMap<String, BTreeMap<String, Tally>>);

impl Score {
    /// The counts of `device` in `phase`.
    pub fn at(&mut self, phase: &str, device: &str) -> &mut Tally {
        self.0.entry(phase.into()).or_default().entry(device.into()).or_default()
    }

    /// All devices of a phase together.
    pub fn phase(&self, phase: &str) -> Tally {
        self.sum(|name| name == phase)
    }

    /// Everything together.
    pub fn total(&self) -> Tally {
        self.sum(|_| true)
    }

    fn sum(&self, is: impl Fn(&str) -> bool) -> Tally {
        let tallies = self.0.iter().filter(|(phase, _)| is(phase)).flat_map(|(_, devices)| devices.values());
        tallies.fold(Tally::default(), |mut sum, tally| {
            sum.add(tally);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_and_devices_add_up() {
        let mut score = Score::default();
        for (phase, device, correct) in [("clean", "a", 9), ("clean", "b", 8), ("fouled", "a", 5)] {
            let versions = [("1.0.0".to_owned(), 10)].into();
            *score.at(phase, device) = Tally { answered: 10, correct, versions, ..Tally::default() };
        }
        assert_eq!(score.phase("clean").accuracy(), Some(0.85));
        assert_eq!((score.total().answered, score.total().versions["1.0.0"]), (30, 30));
        assert_eq!(score.phase("never").accuracy(), None);
    }
}
