//! The planner's view of each device, for people: where it stands, and which stage would reach it.

use jiff::Timestamp;
use tern_protocol::{ids::DeviceId, refusal::RefusalCode};

use super::{
    FleetSnapshot, Policy,
    census::{Census, Standing},
    order::order,
};

/// Where a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// An outcome, or why there is none: `waiting`, `absent`, `held-back`, `already`, `excluded`, `left`, `returned`.
    pub word: &'static str,
    /// The device's reason, where it gave one.
    pub code: Option<RefusalCode>,
}

/// Where each device of the snapshot stands, by name.
pub fn standings(policy: &Policy, snapshot: &FleetSnapshot, now: Timestamp) -> Vec<(DeviceId, Stand)> {
    let census = Census::take(policy, snapshot, now);
    let stand = |standing: Standing| {
        let code = if let Standing::Reached(judged) = standing { judged.code } else { None };
        Stand { word: standing.as_str(), code }
    };
    census.rows.iter().map(|row| (row.device.clone(), stand(row.standing))).collect()
}

/// Whom each stage reaches that the one before does not, in order; what is over is the control group.
pub fn stage_members(policy: &Policy, snapshot: &FleetSnapshot, now: Timestamp) -> Vec<Vec<DeviceId>> {
    let census = Census::take(policy, snapshot, now);
    let is_member = |standing: Standing| {
        matches!(standing, Standing::Reached(_) | Standing::Waiting | Standing::Absent | Standing::HeldBack)
    };
    let members = census.rows.iter().filter(|row| is_member(row.standing));
    let ordered = order(&snapshot.rollout, members.map(|row| (row.device, &row.view.class)));
    let kept = policy.control.size.down(ordered.len()).min(ordered.len().saturating_sub(1));
    let (mut stages, mut reached) = (Vec::new(), 0);
    for stage in &policy.stages {
        let quota = stage.size.up(ordered.len()).min(ordered.len() - kept).max(reached);
        stages.push(ordered[reached..quota].iter().map(|device| (*device).clone()).collect());
        reached = quota;
    }
    if kept > 0 {
        stages.push(ordered[reached..].iter().map(|device| (*device).clone()).collect());
    }
    stages
}
