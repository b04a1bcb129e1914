//! From verdicts to incidents: opened once, updated, resolved. Pure.
//!
//! Of one version and kind at most one incident is open. A verdict of that kind opens it or updates it; a round without
//! one resolves it: marks outlive their evidence by ten windows, so a verdict that is missing means ten quiet windows. A
//! fault of devices that gives way to a population change in the same round is superseded by it. Severity only grows while
//! an incident is open; devices and features are those of the newest verdict.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::ids::DeviceId;

use super::verdict::Verdict;
use crate::{
    forms::incident::{Cause, Evidence, IncidentKind, Resolution, Severity},
    wording,
};

/// Devices or features that a summary names one by one.
const NAMED: usize = 4;

/// What is remembered of an incident beside its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// How much it asks for a person.
    pub severity: Severity,
    /// The likely cause.
    pub cause: Cause,
    /// One sentence for people.
    pub summary: String,
    /// Devices, by name.
    pub devices: Vec<DeviceId>,
    /// Devices under watch.
    pub of: usize,
    /// Features, most devices first.
    pub features: Vec<String>,
    /// When the first window that shows it came.
    pub since: Timestamp,
    /// The strongest evidence.
    pub evidence: Vec<Evidence>,
    /// Why it ended.
    #[serde(default)]
    pub resolution: Option<Resolution>,
}

/// What happened to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Opened,
    /// Something joined or left, or it asks more loudly.
    Updated {
        /// Whether its severity grew.
        louder: bool,
    },
    /// Its evidence is newer.
    Refreshed,
    /// It ended.
    Resolved(Resolution),
}

/// The open incidents of one version.
pub type Open = BTreeMap<IncidentKind, Incident>;

/// Brings the open incidents in line with the verdicts of a round; returns what happened to each, as it is now.
pub fn reconcile(open: &mut Open, verdicts: Vec<Verdict>) -> Vec<(IncidentKind, Incident, Change)> {
    let mut changes = Vec::new();
    // Two verdicts of one kind in one round would be one incident; the louder one counts.
    let mut latest: BTreeMap<IncidentKind, Verdict> = BTreeMap::new();
    for verdict in verdicts {
        let louder = latest.get(&verdict.kind).is_none_or(|known| known.severity < verdict.severity);
        if louder {
            latest.insert(verdict.kind, verdict);
        }
    }
    let has_changed = latest.contains_key(&IncidentKind::PopulationChange);
    let gone: Vec<IncidentKind> = open.keys().filter(|kind| !latest.contains_key(kind)).copied().collect();
    for kind in gone {
        let gave_way = matches!(kind, IncidentKind::DeviceFault | IncidentKind::DataQuality) && has_changed;
        let why = if gave_way { Resolution::Superseded } else { Resolution::Quiet };
        changes.extend(resolve(open, kind, why));
    }
    changes.extend(latest.into_values().map(|verdict| keep(open, verdict)));
    changes
}

/// Brings the open incident of one kind in line with the verdict on it between rounds, if anything is said of it.
pub fn settle(
    open: &mut Open,
    kind: IncidentKind,
    verdict: Option<Verdict>,
) -> Option<(IncidentKind, Incident, Change)> {
    match verdict {
        Some(verdict) => Some(keep(open, verdict)),
        None => resolve(open, kind, Resolution::Quiet),
    }
}

/// Opens the incident of a verdict, or brings it up to date.
fn keep(open: &mut Open, verdict: Verdict) -> (IncidentKind, Incident, Change) {
    let (kind, new) = (verdict.kind, Incident::of(verdict));
    let (kept, change) = match open.remove(&kind) {
        None => (new, Change::Opened),
        Some(known) => {
            let change = compare(&known, &new);
            (known.with(new), change)
        }
    };
    open.insert(kind, kept.clone());
    (kind, kept, change)
}

/// Ends every incident of a version that no device reports under any more.
pub fn version_gone(open: &mut Open) -> Vec<(IncidentKind, Incident, Change)> {
    let kinds: Vec<IncidentKind> = open.keys().copied().collect();
    kinds.into_iter().filter_map(|kind| resolve(open, kind, Resolution::VersionGone)).collect()
}

fn resolve(open: &mut Open, kind: IncidentKind, why: Resolution) -> Option<(IncidentKind, Incident, Change)> {
    let mut incident = open.remove(&kind)?;
    incident.resolution = Some(why);
    Some((kind, incident, Change::Resolved(why)))
}

fn compare(known: &Incident, new: &Incident) -> Change {
    let louder = new.severity > known.severity;
    let same = new.devices == known.devices && new.features == known.features && new.cause == known.cause;
    if louder || !same { Change::Updated { louder } } else { Change::Refreshed }
}

impl Incident {
    fn of(verdict: Verdict) -> Self {
        let summary = summary(&verdict);
        let Verdict { severity, cause, devices, of, features, since, evidence, .. } = verdict;
        let since = Timestamp::from_millisecond(since).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { severity, cause, summary, devices, of, features, since, evidence, resolution: None }
    }

    /// The newer state of the same incident.
    fn with(self, new: Self) -> Self {
        Self { severity: self.severity.max(new.severity), since: self.since.min(new.since), ..new }
    }
}

/// One sentence for people.
fn summary(verdict: &Verdict) -> String {
    let devices = verdict.devices.iter().map(|device| device.as_str());
    let who = if verdict.devices.is_empty() {
        "the fleet as a whole".to_owned()
    } else {
        let share = format!("{} of {}", verdict.devices.len(), wording::count(verdict.of, "device"));
        if verdict.devices.len() > NAMED { share } else { format!("{share} ({})", list(devices)) }
    };
    let what = list(verdict.features.iter().map(String::as_str));
    match verdict.kind {
        IncidentKind::DataQuality => format!("{who}: {what} missing, stuck, out of range or unknown"),
        IncidentKind::DeviceFault if verdict.cause == Cause::Device => {
            format!("{who} differ from their cohort in {what}")
        }
        IncidentKind::DeviceFault => format!("{who} differ from the reference in {what}; nothing blames the device"),
        IncidentKind::PopulationChange => format!("{who}: {what} changed from the reference"),
        IncidentKind::ObjectiveBreached => errors(verdict, "the objective"),
        IncidentKind::ModelBroken => errors(verdict, "the confidence"),
        IncidentKind::LatencyOrErrors => format!("inferences fail on {who}"),
    }
}

/// What labels said of what `allows` for a share of errors.
fn errors(verdict: &Verdict, allows: &str) -> String {
    let first = verdict.evidence.first();
    let percent = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share));
    let (seen, allowed) = (first.and_then(|e| e.share), first.and_then(|e| e.limit));
    format!("{} of labels were errors where {allows} allows for {}", percent(seen), percent(allowed))
}

/// Names for people: the first few, and how many more there are.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let mut shown = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        shown.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    shown
}
