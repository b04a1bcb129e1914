//! The terms of a rollout, as an operator writes them down once and uses them many times.
//!
//! Says nothing of a model or a fleet. [`Policy::check`] is the door: what passed it, the planner may rely on.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{desired::Probation, ids::Version};

use super::share::{Percent, Share};

/// Most stages.
pub const MAX_STAGES: usize = 32;
/// Most maintenance windows.
pub const MAX_WINDOWS: usize = 4096;
/// Longest span of any kind, in seconds: ten years.
pub const MAX_SECONDS: u64 = 3_660 * 86_400;

/// The terms of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Who is reached, step by step. The last reaches everybody.
    pub stages: Vec<Stage>,
    /// Where a device goes back to.
    #[serde(default)]
    pub take_back: TakeBackTo,
    /// A device that was reached and gives no sign of progress for so long has failed.
    #[serde(default = "an_hour")]
    pub silence_seconds: u64,
    /// At most so many of the rollout's devices between assignment and outcome; rounded down, at least one.
    #[serde(default = "a_quarter")]
    pub max_unavailable: Share,
    /// At most so many devices that fetch, probe and load at once.
    #[serde(default = "fifty")]
    pub concurrency: u32,
    /// How much failure is borne.
    #[serde(default)]
    pub failures: FailureBudget,
    /// When a human is asked.
    #[serde(default)]
    pub hold: HoldTerms,
    /// When devices may be assigned, in time order; always where there are none. Taking back waits for no window.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Who is kept on the old version, to compare with.
    #[serde(default)]
    pub control: ControlGroup,
    /// How many people other than the creator must approve before the start.
    #[serde(default)]
    pub approvals: u32,
}

/// One step of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// How many devices have been reached when the stage is full, those of earlier stages included; rounded up.
    pub size: Share,
    /// How long the stage is watched after it has settled, before the next begins.
    #[serde(default)]
    pub bake_seconds: u64,
    /// How many must have survived: so many, or that part of the devices reached. Rounded up, at least one.
    #[serde(default = "one")]
    pub min_survivors: Share,
    /// What the version must survive on a device.
    #[serde(default)]
    pub probation: Probation,
    /// Who lets the next stage begin.
    #[serde(default)]
    pub advance: Advance,
}

impl Stage {
    /// A stage of this size, all else by default.
    pub fn of(size: Share) -> Self {
        let (probation, advance) = (Probation::default(), Advance::default());
        Self { size, bake_seconds: 0, min_survivors: one(), probation, advance }
    }
}

/// Who lets the next stage begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advance {
    /// The planner, once the stage is good.
    #[default]
    Auto,
    /// A human: the rollout is held once the stage is good.
    ByHand,
}

/// Where a device goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakeBackTo {
    /// To what was demanded of it before; the model is removed where nothing was.
    #[default]
    Previous,
    /// To this version.
    Version(Version),
}

/// How much failure is borne before everything is taken back. Failed and silent devices count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureBudget {
    /// More than so many, or than that part of the stage's size, abort; rounded down.
    #[serde(default = "a_tenth")]
    pub most: Share,
    /// Stops a large stage before it has spent its budget.
    #[serde(default)]
    pub early: Option<EarlyStop>,
}

/// Aborts by the part of the judged devices that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// More than this part aborts …
    pub percent: Percent,
    /// … once so many devices survived, failed or fell silent.
    pub judged: u32,
}

/// When a human is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldTerms {
    /// Nothing moved for so long and the stage is not good.
    #[serde(default = "a_day")]
    pub stalled_seconds: u64,
    /// More than this share of the stage's size rejected the version; rounded down.
    #[serde(default)]
    pub rejected: Option<Share>,
    /// More than this share of the survivors went silent afterwards; rounded down.
    #[serde(default)]
    pub lost: Option<Share>,
}

/// A span in which devices may be assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// From then on …
    pub start: Timestamp,
    /// … until before then.
    pub end: Timestamp,
}

/// Who is kept on the old version until the last stage is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlGroup {
    /// How many; rounded down, and never everybody.
    pub size: Share,
    /// What becomes of them then.
    #[serde(default)]
    pub afterwards: Afterwards,
}

/// What becomes of the control group when the last stage is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Afterwards {
    /// It is reached too, as one more stage under the terms of the last.
    #[default]
    Release,
    /// It stays as it is, and the rollout finishes without it.
    Keep,
}

impl Default for FailureBudget {
    fn default() -> Self {
        Self { most: a_tenth(), early: None }
    }
}

impl Default for HoldTerms {
    fn default() -> Self {
        Self { stalled_seconds: a_day(), rejected: Some(a_tenth()), lost: None }
    }
}

impl Default for ControlGroup {
    fn default() -> Self {
        Self { size: Share::Count(0), afterwards: Afterwards::Release }
    }
}

fn one() -> Share {
    Share::Count(1)
}

fn a_tenth() -> Share {
    Share::Percent(Percent::whole(10).expect("invariant: at most 100"))
}

fn a_quarter() -> Share {
    Share::Percent(Percent::whole(25).expect("invariant: at most 100"))
}

fn fifty() -> u32 {
    50
}

fn an_hour() -> u64 {
    3_600
}

fn a_day() -> u64 {
    86_400
}

/// Why terms cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// There is no stage.
    #[error("no stage: add one of size \"100%\"")]
    NoStage,
    /// There are too many stages.
    #[error("{0} stages: use at most {MAX_STAGES}")]
    TooManyStages(usize),
    /// A stage reaches nobody.
    #[error("stage {0} reaches nobody: give it a size above 0")]
    EmptyStage(usize),
    /// A stage is smaller than the one before.
    #[error("stage {0} is smaller than the one before: sizes include the stages before")]
    Shrinking(usize),
    /// The last stage leaves devices out.
    #[error("the last stage leaves devices out: let it be \"100%\", and leave devices out by the selector")]
    LastStage,
    /// A stage would be good without one survivor.
    #[error("stage {0} asks for no survivor: let min_survivors be 1 or more")]
    NoSurvivor(usize),
    /// A limit that lets nothing happen.
    #[error("{0} is 0: nothing would ever be assigned")]
    Standstill(&'static str),
    /// A span is too long.
    #[error("{0} is longer than ten years")]
    TooLong(&'static str),
    /// A probation is longer than devices take.
    #[error(
        "a probation is longer than devices take: at most {} inferences and {} seconds",
        Probation::MOST_INFERENCES,
        Probation::MOST_SECONDS
    )]
    Probation,
    /// Maintenance windows are empty, overlap, or are out of order.
    #[error("maintenance window {0} is empty, or begins before the end of the one before")]
    Windows(usize),
    /// There are too many windows.
    #[error("{0} maintenance windows: use at most {MAX_WINDOWS}")]
    TooManyWindows(usize),
    /// The control group is everybody.
    #[error("the control group is everybody: let it be less than 100%")]
    ControlIsAll,
    /// Taking back would bring the same version.
    #[error("take_back names the version that is rolled out")]
    TakeBackToTarget,
}

impl Policy {
    /// Whether `target` can be rolled out under these terms.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of [`PolicyError`].
    pub fn check(&self, target: &Version) -> Result<(), PolicyError> {
        self.check_stages()?;
        if self.max_unavailable.is_zero() {
            return Err(PolicyError::Standstill("max_unavailable"));
        }
        if self.concurrency == 0 {
            return Err(PolicyError::Standstill("concurrency"));
        }
        let mut spans = vec![("silence_seconds", self.silence_seconds), ("stalled_seconds", self.hold.stalled_seconds)];
        for stage in &self.stages {
            spans.push(("bake_seconds", stage.bake_seconds));
        }
        if let Some((name, _)) = spans.iter().find(|(_, seconds)| *seconds > MAX_SECONDS) {
            return Err(PolicyError::TooLong(name));
        }
        if self.stages.iter().any(|stage| stage.probation.is_too_long()) {
            return Err(PolicyError::Probation);
        }
        if self.windows.len() > MAX_WINDOWS {
            return Err(PolicyError::TooManyWindows(self.windows.len()));
        }
        let mut end = Timestamp::MIN;
        for (n, window) in self.windows.iter().enumerate() {
            if window.start >= window.end || window.start < end {
                return Err(PolicyError::Windows(n));
            }
            end = window.end;
        }
        if self.control.size == Share::ALL {
            return Err(PolicyError::ControlIsAll);
        }
        if matches!(&self.take_back, TakeBackTo::Version(version) if version == target) {
            return Err(PolicyError::TakeBackToTarget);
        }
        Ok(())
    }

    fn check_stages(&self) -> Result<(), PolicyError> {
        let Some(last) = self.stages.last() else { return Err(PolicyError::NoStage) };
        if self.stages.len() > MAX_STAGES {
            return Err(PolicyError::TooManyStages(self.stages.len()));
        }
        for (n, stage) in self.stages.iter().enumerate() {
            if stage.size.is_zero() {
                return Err(PolicyError::EmptyStage(n));
            }
            if stage.min_survivors.is_zero() {
                return Err(PolicyError::NoSurvivor(n));
            }
            let shrinks = match (n.checked_sub(1).map(|n| self.stages[n].size), stage.size) {
                (Some(Share::Count(before)), Share::Count(size)) => size < before,
                (Some(Share::Percent(before)), Share::Percent(size)) => size < before,
                // Which of the two is larger depends on the fleet; the planner takes the larger.
                _ => false,
            };
            if shrinks {
                return Err(PolicyError::Shrinking(n));
            }
        }
        if last.size == Share::ALL { Ok(()) } else { Err(PolicyError::LastStage) }
    }

    /// The terms of these stages, all else by default.
    pub fn of(stages: Vec<Stage>) -> Self {
        Self {
            stages,
            take_back: TakeBackTo::default(),
            silence_seconds: an_hour(),
            max_unavailable: a_quarter(),
            concurrency: fifty(),
            failures: FailureBudget::default(),
            hold: HoldTerms::default(),
            windows: Vec::new(),
            control: ControlGroup::default(),
            approvals: 0,
        }
    }

    /// The index of the last stage, the release of the control group included.
    pub fn last_stage(&self) -> u32 {
        let releases = !self.control.size.is_zero() && self.control.afterwards == Afterwards::Release;
        (self.stages.len() + usize::from(releases)).saturating_sub(1) as u32
    }

    /// The terms of a stage; those of the last where there are none of its own.
    pub(super) fn terms(&self, stage: u32) -> Option<&Stage> {
        self.stages.get(stage as usize).or(self.stages.last())
    }

    pub(super) fn silence(&self) -> Duration {
        Duration::from_secs(self.silence_seconds)
    }
}
