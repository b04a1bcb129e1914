//! Where every device stands, counted once: the figures that decisions and evidence share.
//!
//! Members are the devices that the rollout has reached or may reach. The control group is taken from the far end of the
//! order, so that a stage and it never meet; whom a stage has reached stays reached whatever the group's size becomes.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    ids::{DeviceId, Version},
    twin::ModelState,
};

use super::{
    Assignment, DeviceView, Eligibility, FleetSnapshot, Outcome, Policy, TakeBackCause,
    order::order,
    outcome::{Judged, Terms, gone_at, judge},
};

/// How many devices stand where. Each device of the snapshot is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// They may be assigned, are there, and are not yet.
    pub waiting: usize,
    /// They may be assigned and are not there, or were assigned and never seen since. They block the finish.
    pub unreached: usize,
    /// They are kept on the old version, to compare with.
    pub held_back: usize,
    /// The version was demanded of them before, by others.
    pub already: usize,
    /// They may not be assigned.
    pub excluded: usize,
    /// Something else was demanded of them while they were pending or idle: they are out of the rollout's hands.
    pub left: usize,
    /// The version was taken back from them before they had an outcome.
    pub returned: usize,
    /// [`Outcome::Pending`].
    pub pending: usize,
    /// [`Outcome::Survived`].
    pub survived: usize,
    /// [`Outcome::Failed`].
    pub failed: usize,
    /// [`Outcome::Rejected`].
    pub rejected: usize,
    /// [`Outcome::Idle`].
    pub idle: usize,
    /// [`Outcome::Silent`].
    pub silent: usize,
    /// The version was taken back from them, and as far as is known it still answers there.
    pub outstanding: usize,
}

impl Tally {
    /// How many count against the failure budget.
    pub fn bad(&self) -> usize {
        self.failed + self.silent
    }

    /// How many ended one way or the other.
    pub fn judged(&self) -> usize {
        self.survived + self.bad()
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.waiting, other.waiting),
            (&mut self.unreached, other.unreached),
            (&mut self.held_back, other.held_back),
            (&mut self.already, other.already),
            (&mut self.excluded, other.excluded),
            (&mut self.left, other.left),
            (&mut self.returned, other.returned),
            (&mut self.pending, other.pending),
            (&mut self.survived, other.survived),
            (&mut self.failed, other.failed),
            (&mut self.rejected, other.rejected),
            (&mut self.idle, other.idle),
            (&mut self.silent, other.silent),
            (&mut self.outstanding, other.outstanding),
        ] {
            *mine += theirs;
        }
    }

    fn count(&mut self, standing: &Standing) {
        let counter = match standing {
            Standing::Already => &mut self.already,
            Standing::Excluded => &mut self.excluded,
            Standing::Left => &mut self.left,
            Standing::Returned => &mut self.returned,
            Standing::HeldBack => &mut self.held_back,
            Standing::Waiting => &mut self.waiting,
            Standing::Absent => &mut self.unreached,
            Standing::Reached(judged) => match judged.outcome {
                Outcome::Pending => &mut self.pending,
                Outcome::Survived => &mut self.survived,
                Outcome::Failed => &mut self.failed,
                Outcome::Rejected => &mut self.rejected,
                Outcome::Idle => &mut self.idle,
                Outcome::Silent => &mut self.silent,
                Outcome::Unreached => &mut self.unreached,
            },
        };
        *counter += 1;
    }
}

/// Where one device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Already,
    Excluded,
    Left,
    Returned,
    HeldBack,
    Waiting,
    Absent,
    Reached(Judged),
}

impl Standing {
    /// Where the device stands, as text: an outcome, or why there is none.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Already => "already",
            Self::Excluded => "excluded",
            Self::Left => "left",
            Self::Returned => "returned",
            Self::HeldBack => "held-back",
            Self::Waiting => "waiting",
            Self::Absent => "absent",
            Self::Reached(judged) => judged.outcome.as_str(),
        }
    }
}

/// One device and where it stands.
pub(super) struct Row<'a> {
    pub(super) device: &'a DeviceId,
    pub(super) view: &'a DeviceView,
    pub(super) standing: Standing,
}

impl<'a> Row<'a> {
    /// The assignment by which the device is reached.
    pub(super) fn reached(&self) -> Option<(&'a Assignment, Judged)> {
        match (self.standing, &self.view.assignment) {
            (Standing::Reached(judged), Some(assignment)) => Some((assignment, judged)),
            _ => None,
        }
    }

    /// Whether this rollout's demand stands on the device right now.
    pub(super) fn holds(&self, target: &Version) -> bool {
        self.view.assignment.as_ref().is_some_and(|a| a.taken_back.is_none())
            && self.view.desired.as_ref() == Some(target)
    }

    fn is_returning(&self, target: &Version) -> bool {
        let taken = self.view.assignment.as_ref().and_then(|a| a.taken_back);
        taken.is_some() && self.view.desired.as_ref() != Some(target) && self.view.running.as_ref() == Some(target)
    }
}

/// The figures.
pub(super) struct Census<'a> {
    /// In the order of names.
    pub(super) rows: Vec<Row<'a>>,
    pub(super) tally: Tally,
    pub(super) members: usize,
    /// How many members have been reached when the stage is full.
    pub(super) quota: usize,
    pub(super) reached: usize,
    /// Between assignment and outcome.
    pub(super) in_flight: usize,
    /// Those of them on which the version does not answer yet.
    pub(super) installing: usize,
    /// Survivors that went silent afterwards.
    pub(super) lost: usize,
    /// Who may be assigned within the stage, in order, were there no limit but the quota.
    pub(super) candidates: Vec<&'a DeviceId>,
    /// The newest thing that happened on any device.
    pub(super) newest: Option<Timestamp>,
    /// When time alone changes a figure.
    pub(super) until: Option<Timestamp>,
}

impl<'a> Census<'a> {
    pub(super) fn take(policy: &Policy, snapshot: &'a FleetSnapshot, now: Timestamp) -> Self {
        let row = |(device, view)| Row { device, view, standing: standing(policy, snapshot, view, now) };
        let rows: Vec<Row<'a>> = snapshot.devices.iter().map(row).collect();
        let mut census = Self {
            rows,
            tally: Tally::default(),
            members: 0,
            quota: 0,
            reached: 0,
            in_flight: 0,
            installing: 0,
            lost: 0,
            candidates: Vec::new(),
            newest: None,
            until: None,
        };
        census.place(policy, snapshot);
        for n in 0..census.rows.len() {
            census.count(n, policy, snapshot, now);
        }
        census
    }

    /// Fixes quota, control group and candidates.
    fn place(&mut self, policy: &Policy, snapshot: &FleetSnapshot) {
        let is_member =
            |row: &&Row<'a>| matches!(row.standing, Standing::Reached(_) | Standing::Waiting | Standing::Absent);
        let ordered = order(&snapshot.rollout, self.rows.iter().filter(is_member).map(|r| (r.device, &r.view.class)));
        self.members = ordered.len();
        let places: Vec<usize> = ordered
            .iter()
            .map(|d| self.rows.binary_search_by(|r| r.device.cmp(d)).expect("invariant: the order holds rows"))
            .collect();
        let stage = snapshot.state.stage as usize;
        let released = stage >= policy.stages.len();
        let kept =
            if released { 0 } else { policy.control.size.down(self.members).min(self.members.saturating_sub(1)) };
        let untouched = |row: &Row<'_>| !matches!(row.standing, Standing::Reached(_));
        let mut missing = kept;
        for &n in places.iter().rev() {
            if missing > 0 && untouched(&self.rows[n]) {
                self.rows[n].standing = Standing::HeldBack;
                missing -= 1;
            }
        }
        let sizes = policy.stages.iter().take(stage.saturating_add(1)).map(|s| s.size.up(self.members));
        self.quota = if released { self.members } else { sizes.max().unwrap_or(0).min(self.members - kept) };
        self.reached = self.rows.iter().filter(|r| matches!(r.standing, Standing::Reached(_))).count();
        let again = self.rows.iter().filter(|r| is_due_again(r, snapshot)).map(|r| r.device);
        let fresh = places.iter().map(|&n| &self.rows[n]).filter(|r| r.standing == Standing::Waiting).map(|r| r.device);
        self.candidates = again.chain(fresh.take(self.quota.saturating_sub(self.reached))).collect();
    }

    fn count(&mut self, n: usize, policy: &Policy, snapshot: &FleetSnapshot, now: Timestamp) {
        let (row, target) = (&self.rows[n], &snapshot.target.version);
        self.tally.count(&row.standing);
        self.tally.outstanding += usize::from(row.is_returning(target));
        let Some((assignment, judged)) = row.reached() else { return };
        let settled = assignment.settled.map(|s| s.at);
        let signs = [Some(assignment.at), assignment.fetched, settled, row.view.twin.as_ref().map(|t| t.changed)];
        self.newest = self.newest.max(signs.into_iter().flatten().max());
        if row.holds(target) {
            self.until = earlier(self.until, judged.until);
            if matches!(judged.outcome, Outcome::Pending | Outcome::Unreached) {
                self.in_flight += 1;
                self.installing += usize::from(!is_tried(row.view, assignment, target));
            }
        }
        if judged.outcome == Outcome::Survived && policy.hold.lost.is_some() && !row.view.online {
            let gone = gone_at(row.view, policy.silence(), snapshot.hearing_since);
            if now < gone {
                self.until = earlier(self.until, Some(gone));
            } else {
                self.lost += 1;
            }
        }
    }
}

/// The earlier of two times, where there are two.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn standing(policy: &Policy, snapshot: &FleetSnapshot, view: &DeviceView, now: Timestamp) -> Standing {
    let target = &snapshot.target.version;
    let demanded = view.desired.as_ref() == Some(target);
    // Who was never reached starts over.
    let assignment = view.assignment.as_ref().filter(|a| a.taken_back != Some(TakeBackCause::Unreached));
    let Some(assignment) = assignment else {
        return match (demanded, view.eligible, view.online) {
            (true, ..) => Standing::Already,
            (false, Eligibility::Eligible, true) => Standing::Waiting,
            (false, Eligibility::Eligible, false) => Standing::Absent,
            (false, ..) => Standing::Excluded,
        };
    };
    if assignment.taken_back.is_none() && demanded {
        let probation = policy.terms(assignment.stage).map_or(0, |s| s.probation.min_seconds);
        let terms = Terms {
            target,
            silence: policy.silence(),
            probation: Duration::from_secs(probation),
            hearing_since: snapshot.hearing_since,
        };
        return Standing::Reached(judge(view, assignment, &terms, now));
    }
    match assignment.settled {
        Some(s) => Standing::Reached(Judged { outcome: s.outcome, code: s.code, until: None }),
        None if assignment.taken_back.is_some() => Standing::Returned,
        None => Standing::Left,
    }
}

/// Whether a retry is ordered that this device has not had, and the device is ready for it.
fn is_due_again(row: &Row<'_>, snapshot: &FleetSnapshot) -> bool {
    let Some((assignment, judged)) = row.reached() else { return false };
    let target = &snapshot.target.version;
    // An agent tries a failed version again only after another demand has reached it.
    let has_returned = assignment.taken_back.is_some()
        && row.view.desired.as_ref() != Some(target)
        && row.view.twin.as_ref().is_some_and(|t| t.desired.as_ref() != Some(target));
    let ready = match judged.outcome {
        Outcome::Failed => has_returned,
        Outcome::Silent => row.holds(target),
        _ => false,
    };
    ready && assignment.round < snapshot.state.round && row.view.eligible == Eligibility::Eligible && row.view.online
}

fn is_tried(view: &DeviceView, assignment: &Assignment, target: &Version) -> bool {
    view.twin.as_ref().is_some_and(|t| {
        t.state == ModelState::OnProbation
            && t.generation >= assignment.generation
            && t.desired.as_ref() == Some(target)
    })
}
