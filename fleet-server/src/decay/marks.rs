//! What the detectors said lately: a mark for each feature and layer, alive until it was not repeated for [`QUIET`]
//! windows.
//!
//! A detector that alarms starts its bets again, so a fault that stays is marked anew and anew. A profile's MDE is the
//! smallest bias found in about ten windows; ten windows without a mark therefore say that nothing of that size is left.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tern_stats::{
    hard::{Breach, Rule},
    scores::Score,
    step::{Crossing, Direction, Outcome},
};

use crate::forms::incident::Layer;

/// Windows after which a mark that was not repeated is gone.
pub const QUIET: u64 = 10;

/// What a mark stands on, without names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ground {
    /// Which score or rule.
    pub measure: String,
    /// Which way a score went.
    pub direction: Option<Direction>,
    /// log10 over the threshold.
    pub strength: Option<f64>,
    /// What was counted.
    pub share: Option<f64>,
    /// What that may be at most.
    pub limit: Option<f64>,
    /// What the share is of.
    pub of: Option<u64>,
}

impl Ground {
    /// Of a sequential detector that crossed.
    pub fn of_crossing(outcome: &Outcome, crossing: &Crossing) -> Self {
        let (direction, strength) = (Some(crossing.direction), Some(outcome.evidence));
        Self { measure: score_name(crossing.score), direction, strength, share: None, limit: None, of: None }
    }

    /// Of a hard rule, over so many values.
    pub fn of_breach(breach: &Breach, values: u64) -> Self {
        let (share, limit) = (Some(breach.share), Some(breach.limit));
        Self { measure: rule_name(breach.rule).into(), direction: None, strength: None, share, limit, of: Some(values) }
    }

    /// Of a count beside its limit.
    pub fn of_share(measure: &str, share: f64, limit: f64, of: u64) -> Self {
        let (share, limit) = (Some(share), Some(limit));
        Self { measure: measure.into(), direction: None, strength: None, share, limit, of: Some(of) }
    }
}

/// A score's name in JSON.
pub(crate) fn score_name(score: Score) -> String {
    match score {
        Score::Location => "location".into(),
        Score::Mean => "mean".into(),
        Score::Spread => "spread".into(),
        Score::Roughness => "roughness".into(),
        Score::Flat => "flat".into(),
        Score::Missing => "missing".into(),
        Score::Category(index) => format!("category-{index}"),
        Score::EstimatedError => "estimated-error".into(),
    }
}

/// A rule's name in JSON.
pub(crate) fn rule_name(rule: Rule) -> &'static str {
    match rule {
        Rule::Missing => "missing",
        Rule::Flat => "flat",
        Rule::OutOfRange => "out-of-range",
        Rule::UnknownCategory => "unknown-category",
    }
}

/// Something said, and said again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The round in which it was first said.
    pub first_round: u64,
    /// The count of windows at which it was last said.
    pub last: u64,
    /// When the window that said it first came, in milliseconds since 1970.
    pub since: i64,
    /// The same of the newest.
    pub at: i64,
    /// On what it stands.
    pub ground: Ground,
    /// Whether a share of missing or unknown values says it: what prepares the inputs may be to blame.
    pub is_supply: bool,
}

/// When something is said.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// The open round.
    pub round: u64,
    /// The count of windows.
    pub window: u64,
    /// Milliseconds since 1970 by the server's clock.
    pub at: i64,
}

/// The marks of a device, or of the fleet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Marks(BTreeMap<(u16, Layer), Mark>);

impl Marks {
    /// Marks feature number `feature`.
    pub fn set(&mut self, feature: usize, layer: Layer, ground: Ground, when: When) {
        let feature = u16::try_from(feature).unwrap_or(u16::MAX);
        let is_supply = layer == Layer::Hard && matches!(ground.measure.as_str(), "missing" | "unknown-category");
        let new = Mark { first_round: when.round, last: when.window, since: when.at, at: when.at, ground, is_supply };
        match self.0.get_mut(&(feature, layer)) {
            Some(mark) => *mark = Mark { first_round: mark.first_round, since: mark.since, ..new },
            None => {
                self.0.insert((feature, layer), new);
            }
        }
    }

    /// Forgets what was not repeated, `windows` being the present count.
    pub fn age(&mut self, windows: u64) {
        self.0.retain(|_, mark| mark.last + QUIET > windows);
    }

    /// Forgets a layer.
    pub fn forget(&mut self, layer: Layer) {
        self.0.retain(|(_, of), _| *of != layer);
    }

    /// Forgets a feature.
    pub fn forget_feature(&mut self, feature: usize) {
        self.0.retain(|(of, _), _| usize::from(*of) != feature);
    }

    /// Feature, layer and mark of all.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Layer, &Mark)> {
        self.0.iter().map(|((feature, layer), mark)| (usize::from(*feature), *layer, mark))
    }

    /// Whether nothing is marked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the numbers are those of `features` features.
    pub fn is_sound(&self, features: usize) -> bool {
        self.0.keys().all(|(feature, _)| usize::from(*feature) < features)
    }
}
